//! What is aligned to cache lines, asked of the allocator in sizes that it is quick at.
//!
//! What enters: every request of the program. What leaves: the same, some of them larger. Neighbours: the program's allocator, which this
//! stands before (the daemon's `main`).
//!
//! A key has 768 bytes at an alignment of 64. An allocator that keeps blocks of one size together has only those of a power of two
//! aligned by themselves; for others it takes a larger block, puts what was asked for somewhere within, and has to find the block again when that is freed.
//! So such sizes are made powers of two. They are short-lived, and no more memory is taken for them than by that other way.

use std::alloc::{GlobalAlloc, Layout};

/// Larger ones are few.
const PADDED_MAX: usize = 4096;
const LINE: usize = flow::key::LINE_BYTES;

/// An allocator behind which sizes are padded.
#[derive(Debug)]
pub struct Heap<A>(pub A);

/// What is asked for instead. Depends on the request alone, so that what is freed is what was allocated.
fn padded(layout: Layout) -> Layout {
    if layout.align() != LINE || layout.size() > PADDED_MAX {
        return layout;
    }
    Layout::from_size_align(layout.size().next_power_of_two(), LINE).unwrap_or(layout)
}

// SAFETY: every request goes to an allocator, with a size that is no smaller and the same alignment; a block is given back with the layout
// that it was allocated with.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Heap<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a padded size is not zero where the size is not.
        unsafe { self.0.alloc(padded(layout)) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { self.0.alloc_zeroed(padded(layout)) }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; it was allocated with the padded layout.
        unsafe { self.0.dealloc(at, padded(layout)) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let size = Layout::from_size_align(size, layout.align()).map_or(size, |new| padded(new).size());
        // SAFETY: the caller's promise; it was allocated with the padded layout, and the size is no smaller than asked for.
        unsafe { self.0.realloc(at, padded(layout), size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn only_what_is_aligned_to_lines_is_padded() {
        let padded = |size, align| padded(Layout::from_size_align(size, align).unwrap()).size();
        assert_eq!((padded(768, 64), padded(1664, 64), padded(1024, 64)), (1024, 2048, 1024));
        assert_eq!((padded(768, 8), padded(5000, 64), padded(100, 128)), (768, 5000, 100));
    }

    #[test]
    fn what_is_asked_for_is_given_and_grows() {
        let heap = Heap(System);
        let layout = Layout::from_size_align(768, 64).unwrap();
        // SAFETY: the layout has a size.
        let at = unsafe { heap.alloc_zeroed(layout) };
        assert!(!at.is_null() && at.addr().is_multiple_of(64));
        // SAFETY: the block has 768 bytes.
        unsafe { at.write_bytes(7, 768) };
        // SAFETY: it was allocated with this layout.
        let at = unsafe { heap.realloc(at, layout, 1536) };
        assert!(!at.is_null() && at.addr().is_multiple_of(64));
        // SAFETY: the block has at least 1536 bytes now, of which the first 768 are written.
        let kept = unsafe { std::slice::from_raw_parts(at, 768) };
        assert!(kept.iter().all(|byte| *byte == 7));
        // SAFETY: the layout that it has since it grew.
        unsafe { heap.dealloc(at, Layout::from_size_align(1536, 64).unwrap()) };
    }
}
