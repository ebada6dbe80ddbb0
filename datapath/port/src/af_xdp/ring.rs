//! The four rings that a socket shares with the kernel, each with one producer and one consumer.
//!
//! What enters: chunk addresses and descriptors. What leaves: the same. Neighbours: `af_xdp`. The layout is Documentation/networking/
//! af_xdp.rst: free-running 32-bit indices, a power of two of entries, a word of flags.
//!
//! The side that is ours keeps its index in a local copy, and reads the kernel's index (with Acquire) only when the local view is
//! used up, so that the line with the indices bounces seldom.

use crate::sys::Mapping;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// One ring of entries `T`.
#[derive(Debug)]
pub(super) struct Ring<T> {
    map: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    size: u32,
    /// Our own index, free-running.
    mine: u32,
    /// The other side's index when it was last read.
    theirs: u32,
    entry: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `size` entries (a power of two) at `page` of the socket.
    pub(super) fn map(fd: BorrowedFd<'_>, at: &libc::xdp_ring_offset, size: u32, page: libc::off_t) -> io::Result<Self> {
        let offset = |n: u64| usize::try_from(n).expect("offsets are within one mapping");
        let entries = offset(at.desc);
        let map = Mapping::new(fd, entries + size as usize * size_of::<T>(), page)?;
        let (producer, consumer, flags) = (offset(at.producer), offset(at.consumer), offset(at.flags));
        assert!(size.is_power_of_two());
        assert!(producer.max(consumer).max(flags) + size_of::<u32>() <= map.len());
        Ok(Self { map, producer, consumer, flags, entries, size, mine: 0, theirs: 0, entry: PhantomData })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.map.as_ptr().wrapping_add(offset).cast::<u32>();
        // SAFETY: `map` checked that the word lies in the mapping; the kernel aligns it and uses it atomically too.
        unsafe { AtomicU32::from_ptr(word) }
    }

    fn slot(&self, index: u32) -> *mut T {
        let slot = (index & (self.size - 1)) as usize;
        self.map.as_ptr().wrapping_add(self.entries).cast::<T>().wrapping_add(slot)
    }

    /// Whether the kernel wants a system call to go on (XDP_RING_NEED_WAKEUP).
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    // As producer (fill, tx):

    /// How many entries may be written; at least `want` if that is possible.
    #[inline]
    pub(super) fn room(&mut self, want: u32) -> u32 {
        let room = self.size - self.mine.wrapping_sub(self.theirs);
        if room >= want {
            return room;
        }
        self.theirs = self.word(self.consumer).load(Ordering::Acquire);
        self.size - self.mine.wrapping_sub(self.theirs)
    }

    /// Writes the next entry. The caller has asked for `room`.
    #[inline]
    pub(super) fn put(&mut self, value: T) {
        // SAFETY: the slot lies in the mapping; the kernel does not read it before `submit`, since there was room.
        unsafe { self.slot(self.mine).write(value) };
        self.mine = self.mine.wrapping_add(1);
    }

    /// Shows everything that was put to the kernel.
    #[inline]
    pub(super) fn submit(&self) {
        self.word(self.producer).store(self.mine, Ordering::Release);
    }

    /// Entries that the kernel has not consumed yet.
    #[inline]
    pub(super) fn unconsumed(&self) -> u32 {
        self.mine.wrapping_sub(self.word(self.consumer).load(Ordering::Acquire))
    }

    /// Every entry that the kernel has not consumed. Only for the end, when the kernel has ceased to.
    pub(super) fn leftovers(&self) -> Vec<T> {
        let from = self.word(self.consumer).load(Ordering::Acquire);
        let n = self.mine.wrapping_sub(from).min(self.size);
        // SAFETY: the entries were put by us, and nobody changes them.
        (0..n).map(|i| unsafe { self.slot(from.wrapping_add(i)).read() }).collect()
    }

    // As consumer (rx, completion):

    /// How many entries can be taken.
    #[inline]
    pub(super) fn available(&mut self) -> u32 {
        if self.theirs == self.mine {
            self.theirs = self.word(self.producer).load(Ordering::Acquire);
        }
        self.theirs.wrapping_sub(self.mine)
    }

    /// Takes the next entry. The caller has asked for `available`.
    #[inline]
    pub(super) fn take(&mut self) -> T {
        debug_assert!(self.theirs != self.mine);
        // SAFETY: the kernel filled this slot before it moved the producer index, which was read with Acquire.
        let value = unsafe { self.slot(self.mine).read() };
        self.mine = self.mine.wrapping_add(1);
        value
    }

    /// Gives the slots of everything that was taken back to the kernel.
    #[inline]
    pub(super) fn release(&self) {
        self.word(self.consumer).store(self.mine, Ordering::Release);
    }
}
