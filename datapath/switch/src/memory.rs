//! Large zeroed arrays on huge pages where the kernel has them.
//!
//! What enters: a type that may be all zeroes, and a length. What leaves: a slice whose pages are touched only when used. The caches of
//! the workers live here: with 4 KiB pages a million flows would need more TLB entries than there are.

use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

const HUGE_PAGE: usize = 2 << 20;

/// Types that may be made of zeroes.
///
/// # Safety
/// All bytes zero is a valid value, and the type has no destructor.
pub unsafe trait Zeroable: Sized {}

/// A zeroed array on pages of its own.
#[derive(Debug)]
pub struct Lines<T> {
    map: NonNull<libc::c_void>,
    map_bytes: usize,
    first: NonNull<T>,
    len: usize,
}

// SAFETY: it is the owner of its pages and of the `T`s in them.
unsafe impl<T: Send> Send for Lines<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Lines<T> {}

impl<T: Zeroable> Lines<T> {
    /// `len` values, all zeroes.
    ///
    /// # Panics
    /// If the kernel has no memory: like any other allocation.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        const { assert!(align_of::<T>() <= 4096 && !std::mem::needs_drop::<T>()) };
        let bytes = len.checked_mul(size_of::<T>()).expect("a cache fits the address space").max(1);
        // Small arrays live with ordinary pages; large ones begin on a huge page.
        let slack = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let map_bytes = bytes + slack;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping touches nothing of ours.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), map_bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert!(map != libc::MAP_FAILED, "no memory for {bytes} bytes");
        let first = if slack > 0 { map.map_addr(|a| a.next_multiple_of(HUGE_PAGE)) } else { map };
        if slack > 0 {
            // SAFETY: the range lies in the mapping just made. A refusal only costs speed.
            let _ = unsafe { libc::madvise(first, bytes, libc::MADV_HUGEPAGE) };
        }
        Self {
            map: NonNull::new(map).expect("a mapping is not at address 0"),
            map_bytes,
            first: NonNull::new(first.cast()).expect("a mapping is not at address 0"),
            len,
        }
    }
}

impl<T> Lines<T> {
    /// Makes the pages of some values present, so that nobody who uses them waits for the kernel to clear them. `done` is up to which byte
    /// earlier calls have seen to them: only one thread calls this. A kernel that cannot do it only costs speed.
    pub fn fault_in(&self, values: Range<usize>, done: &AtomicUsize) {
        let all = self.len * size_of::<T>();
        let end = (values.end * size_of::<T>()).next_multiple_of(HUGE_PAGE).min(all);
        let first = values.start * size_of::<T>() / HUGE_PAGE * HUGE_PAGE;
        let from = done.load(Ordering::Relaxed).max(first);
        if from >= end {
            return;
        }
        done.store(end, Ordering::Relaxed);
        let first = self.first.as_ptr().cast::<libc::c_void>().wrapping_byte_add(from);
        // SAFETY: the range lies in the mapping; its pages become present, and what is in them stays.
        let _ = unsafe { libc::madvise(first, end - from, libc::MADV_POPULATE_WRITE) };
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` values from `first`, zeroed or written since, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Lines<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Lines<T> {
    fn drop(&mut self) {
        // SAFETY: `map` and `map_bytes` are what mmap gave, and no reference outlives `self`.
        unsafe { libc::munmap(self.map.as_ptr(), self.map_bytes) };
    }
}
