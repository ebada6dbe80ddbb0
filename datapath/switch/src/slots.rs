//! Where megaflows are stored: slots of two cache lines, named by 32-bit numbers that fit the caches.
//!
//! What enters: a masked key, its shape and its program, from the control thread. What leaves: entries that workers compare and
//! carry out. Neighbours: `cache` and `classifier` (which hold slot numbers), `stats` (cells under the same numbers), `switch` (the
//! only writer).
//!
//! # What holds
//!
//! - Slots never move: chunks of `CHUNK` slots are added and never given back, so that a number alone finds the memory.
//! - What a slot holds does not change while it is live, apart from the program (an `Rcu`) and its shorthand `quick`.
//! - A number may outlive its megaflow, in a signature cache. Whoever follows a number first looks whether the slot is live
//!   (Acquire), under a guard. A dead slot is written again only after a grace period that began when it died, so nobody reads what is
//!   being written; and if the number then names another megaflow, the comparison under its mask decides, as for any candidate.
//!   Therefore stale numbers are harmless, and nothing has to be swept out of the caches.

use crate::hash::line_of;
use crate::parsed::Parsed;
use crate::program::Program;
use crate::qsbr::{Guard, Rcu};
use crate::shape::{Line, Shape};
use flow::Ufid;
use flow::key::{LINE_BYTES, Lines};
use flow::wire::ip_proto;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Slots in a chunk.
pub const CHUNK: usize = 1024;
/// Chunks at most.
pub const CHUNKS_MAX: usize = 1024;
/// Megaflows at most.
pub const FLOWS_MAX: usize = CHUNK * CHUNKS_MAX;
/// No slot.
pub const NO_SLOT: u32 = u32::MAX;
/// In `quick`: the program has to be looked at.
pub const NOT_QUICK: u32 = u32::MAX;
/// The line that every mask has bits in, since the input port is there.
const FIRST: Lines = Lines(1);

/// What a megaflow is, apart from its first line.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    pub ufid: Ufid,
    pub shape: Arc<Shape>,
    /// The masked lines after the first.
    pub rest: Box<[Line]>,
    pub program: Rcu<Program>,
}

#[repr(C, align(128))]
struct Slot {
    line0: UnsafeCell<Line>,
    head: UnsafeCell<MaybeUninit<Head>>,
    live: AtomicU32,
    /// The datapath port, if the program is one output and nothing else.
    quick: AtomicU32,
    number: u32,
    /// Those of the shape: here, so that most comparisons need of the shape only its mask's first line.
    lines: UnsafeCell<Lines>,
}

const _: () = assert!(size_of::<Slot>() == 128);

struct Chunk([Slot; CHUNK]);

/// The store, as everybody sees it.
pub struct Slots {
    chunks: Box<[AtomicPtr<Chunk>]>,
}

// SAFETY: slots are shared under the rules above: `live` orders writing and reading of the cells.
unsafe impl Sync for Slots {}
// SAFETY: what slots hold (`Arc<Shape>`, lines, programs) may be dropped by any thread.
unsafe impl Send for Slots {}

/// Where a megaflow may live.
#[derive(Clone, Copy)]
pub struct Place<'g>(&'g Slot);

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.0.number).finish()
    }
}

impl<'g> Place<'g> {
    /// Fetches both lines into the cache.
    #[inline]
    pub fn prefetch(self) {
        crate::prefetch(self.0);
        crate::prefetch(&raw const self.0.live);
    }

    /// The megaflow, if there is a live one.
    #[inline]
    #[must_use]
    pub fn entry(self, _guard: Guard<'g>) -> Option<Entry<'g>> {
        // SAFETY, of the entry: the slot is live, and the guard keeps its grace period open.
        (self.0.live.load(Ordering::Acquire) != 0).then_some(Entry(self.0))
    }
}

/// A live megaflow: nobody writes its slot, apart from the atomics, while one of these exists.
#[derive(Clone, Copy)]
pub struct Entry<'g>(&'g Slot);

impl PartialEq for Entry<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl std::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("number", &self.0.number).field("head", self.head()).finish()
    }
}

impl<'g> Entry<'g> {
    /// The slot's number.
    #[inline]
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// The first line of the masked key.
    #[inline]
    #[must_use]
    pub fn line0(self) -> &'g Line {
        // SAFETY: nobody writes a live slot's line.
        unsafe { &*self.0.line0.get() }
    }

    /// The first line of the mask.
    #[inline]
    pub(crate) fn mask0(self) -> &'g [u64; 8] {
        line_of(&self.head().shape.mask, 0)
    }

    /// What else there is.
    #[inline]
    #[must_use]
    pub fn head(self) -> &'g Head {
        // SAFETY: nobody writes a live slot's head.
        let head = unsafe { &*self.0.head.get() };
        // SAFETY: `SlotWriter::fill` wrote the head before the slot became live.
        unsafe { head.assume_init_ref() }
    }

    #[inline]
    fn lines(self) -> Lines {
        // SAFETY: nobody writes a live slot's lines.
        unsafe { *self.0.lines.get() }
    }

    /// The only output, if there is nothing else to do.
    #[inline]
    #[must_use]
    pub fn quick(self) -> u32 {
        self.0.quick.load(Ordering::Relaxed)
    }

    /// Whether `parsed` is a packet of this megaflow.
    #[inline]
    #[must_use]
    pub fn matches(self, parsed: &mut Parsed) -> bool {
        self.matches_as::<false>(parsed)
    }

    /// The same, in the form asked for (`wide`).
    #[inline(always)]
    pub(crate) fn matches_as<const WIDE: bool>(self, parsed: &mut Parsed) -> bool {
        let mask = &self.head().shape.mask;
        let first = self.line0().equals_masked_as::<WIDE>(line_of(&parsed.key, 0), line_of(mask, 0));
        first && (self.is_short() || self.rest_matches(parsed))
    }

    /// Whether the mask has bits in the first line only.
    #[inline]
    pub(crate) fn is_short(self) -> bool {
        self.lines() == FIRST
    }

    /// The lines besides the first: number, masked key, mask.
    #[inline]
    pub(crate) fn rest(self) -> impl Iterator<Item = (usize, &'g Line, &'g [u64; 8])> {
        let head = self.head();
        let mut left = head.shape.lines.0 & !1;
        head.rest.iter().map(move |own| {
            let number = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (number, own, line_of(&head.shape.mask, number))
        })
    }

    /// Whether `parsed`, whose first line matches, does so in the others.
    #[inline(never)]
    pub(crate) fn rest_matches(self, parsed: &mut Parsed) -> bool {
        parsed.ensure(self.head().shape.lines);
        self.rest().all(|(number, own, mask)| own.equals_masked(line_of(&parsed.key, number), mask))
    }

    /// The hash of its masked key.
    #[must_use]
    pub fn hash(self) -> u64 {
        let head = self.head();
        head.shape.hash_lines(self.line0(), &head.rest)
    }

    /// The input port of its packets.
    #[must_use]
    pub fn in_port(self) -> u32 {
        const AT: usize = std::mem::offset_of!(flow::Key, in_port);
        const { assert!(AT.is_multiple_of(4)) };
        let word = self.line0().0[AT / 8].to_ne_bytes();
        u32::from_be_bytes(std::array::from_fn(|i| word[AT % 8 + i]))
    }

    /// Whether its packets are TCP, if its mask says so of all of them.
    #[inline]
    #[must_use]
    pub(crate) fn is_tcp(self) -> Option<bool> {
        const AT: usize = std::mem::offset_of!(flow::Key, nw_proto);
        const { assert!(AT < LINE_BYTES) };
        let proto = |line: &[u64; 8]| line[AT / 8].to_ne_bytes()[AT % 8];
        (proto(self.mask0()) == u8::MAX).then(|| proto(&self.line0().0) == ip_proto::TCP)
    }

    /// The masked key, whole.
    #[must_use]
    pub fn key(self) -> Box<flow::Key> {
        let mut key = Box::new(flow::Key::ZERO);
        let words = key.words_mut();
        words[..8].copy_from_slice(&self.line0().0);
        let mut left = self.lines().0 & !1;
        for own in &self.head().rest {
            let l = left.trailing_zeros() as usize;
            left &= left - 1;
            words[l * 8..l * 8 + 8].copy_from_slice(&own.0);
        }
        key
    }
}

impl Slots {
    /// No chunks yet.
    #[must_use]
    pub fn new() -> Self {
        Self { chunks: (0..CHUNKS_MAX).map(|_| AtomicPtr::new(std::ptr::null_mut())).collect() }
    }

    #[inline]
    fn slot(&self, number: u32) -> Option<&Slot> {
        let (chunk, at) = (number as usize / CHUNK, number as usize % CHUNK);
        let chunk = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: a chunk is published once, after it was made, and lives as long as `self`.
        let chunk = unsafe { chunk.as_ref() }?;
        Some(&chunk.0[at])
    }

    /// The place that a number names, whether or not anything lives there.
    #[inline]
    #[must_use]
    pub fn place(&self, number: u32) -> Option<Place<'_>> {
        self.slot(number).map(Place)
    }

    /// The megaflow in a slot, if there is a live one.
    #[inline]
    pub fn entry<'g>(&'g self, number: u32, guard: Guard<'g>) -> Option<Entry<'g>> {
        self.place(number)?.entry(guard)
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for chunk in &mut self.chunks {
            let chunk = *chunk.get_mut();
            if chunk.is_null() {
                continue;
            }
            // SAFETY: `SlotWriter::add` made it by `Box::into_raw`, and nobody else can see it any more.
            let mut chunk = unsafe { Box::from_raw(chunk) };
            for slot in &mut chunk.0 {
                if *slot.live.get_mut() != 0 {
                    // SAFETY: a live slot's head is initialised.
                    unsafe { slot.head.get_mut().assume_init_drop() };
                }
            }
        }
    }
}

/// A chunk of free slots that is not in the store yet. To make one touches memory for the first time, which takes no right to write slots.
pub struct Fresh {
    /// Its place in the store.
    place: usize,
    slots: Box<[Slot]>,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Fresh {
    /// The chunk that comes after `chunks` others; `None` when there may be no more.
    #[must_use]
    pub fn after(chunks: usize) -> Option<Self> {
        let slot = |number| Slot {
            line0: UnsafeCell::new(Line([0; 8])),
            head: UnsafeCell::new(MaybeUninit::uninit()),
            live: AtomicU32::new(0),
            quick: AtomicU32::new(NOT_QUICK),
            number,
            lines: UnsafeCell::new(FIRST),
        };
        (chunks < CHUNKS_MAX).then(|| Self { place: chunks, slots: numbers_of(chunks).map(slot).collect() })
    }
}

/// The numbers of a chunk's slots.
fn numbers_of(place: usize) -> std::ops::Range<u32> {
    let number = |n: usize| u32::try_from(n).expect("FLOWS_MAX fits 32 bits");
    number(place * CHUNK)..number((place + 1) * CHUNK)
}

/// The right to write slots; there is one per `Slots`.
#[derive(Debug)]
pub struct SlotWriter {
    slots: Arc<Slots>,
    chunks: usize,
    free: Vec<u32>,
    live: usize,
}

impl SlotWriter {
    /// An empty store and its writer.
    #[must_use]
    pub fn new() -> (Arc<Slots>, Self) {
        let slots = Arc::new(Slots::new());
        (Arc::clone(&slots), Self { slots, chunks: 0, free: Vec::new(), live: 0 })
    }

    /// Chunks that exist.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Megaflows that are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live
    }

    /// Slots that are free; `fill` needs one.
    #[must_use]
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Adds a chunk; gives it back where it was made for another place than the next.
    ///
    /// # Errors
    /// The chunk, to be dropped where nobody waits for that.
    pub fn add(&mut self, fresh: Fresh) -> Result<(), Fresh> {
        if fresh.place != self.chunks {
            return Err(fresh);
        }
        let numbers = numbers_of(fresh.place);
        let chunk = Box::into_raw(fresh.slots).cast::<Chunk>();
        self.slots.chunks[self.chunks].store(chunk, Ordering::Release);
        // Those that are free already are used before.
        self.free.splice(0..0, numbers.rev());
        self.chunks += 1;
        Ok(())
    }

    /// Makes a chunk and adds it; false when there may be no more.
    #[cfg(test)]
    pub(crate) fn grow(&mut self) -> bool {
        Fresh::after(self.chunks).is_some_and(|fresh| self.add(fresh).is_ok())
    }

    /// The free slots that will be filled next.
    pub fn next_free(&self, n: usize) -> impl Iterator<Item = u32> + '_ {
        self.free.iter().rev().take(n).copied()
    }

    /// Puts a megaflow into a free slot, not yet live.
    ///
    /// # Panics
    /// If there is no free slot (`n_free`): a bug of ours.
    pub fn fill(&mut self, key: &flow::Key, head: Head, quick: u32) -> u32 {
        let number = self.free.pop().expect("the caller has grown the store");
        let (line0, lines) = (head.shape.masked_line(key, 0), Lines(head.shape.lines.0 | FIRST.0));
        let slot = self.slots.slot(number).expect("free numbers name slots that exist");
        // SAFETY: the slot is dead and its grace period is over (`release`), so nobody else looks at it.
        unsafe { *slot.line0.get() = line0 };
        // SAFETY: as above.
        unsafe { *slot.lines.get() = lines };
        // SAFETY: as above; what the slot held before was dropped by `release`.
        unsafe { (*slot.head.get()).write(head) };
        slot.quick.store(quick, Ordering::Relaxed);
        slot.live.store(1, Ordering::Release);
        self.live += 1;
        number
    }

    /// Fetches a slot that will be read soon.
    pub fn prefetch(&self, number: u32) {
        if let Some(place) = self.slots.place(number) {
            place.prefetch();
        }
    }

    /// A live slot's megaflow.
    ///
    /// # Panics
    /// If the slot is not live: a bug of ours.
    #[must_use]
    pub fn entry(&self, number: u32) -> Entry<'_> {
        let slot = self.slots.slot(number).expect("the caller's number names a slot");
        assert_ne!(slot.live.load(Ordering::Relaxed), 0, "the caller's slot is live");
        // Only `self` can kill or write slots, and the result borrows `self`.
        Entry(slot)
    }

    /// Whether a slot is live.
    #[must_use]
    pub fn is_live(&self, number: u32) -> bool {
        self.slots.slot(number).is_some_and(|s| s.live.load(Ordering::Relaxed) != 0)
    }

    /// Says what the shorthand of a live slot is now.
    pub fn set_quick(&self, number: u32, quick: u32) {
        if let Some(slot) = self.slots.slot(number) {
            slot.quick.store(quick, Ordering::Release);
        }
    }

    /// Makes a slot dead: no lookup that begins after this finds it. It has to wait in `Limbo` before `release`.
    pub fn kill(&mut self, number: u32) {
        let slot = self.slots.slot(number).expect("the caller's number names a slot");
        if slot.live.swap(0, Ordering::AcqRel) != 0 {
            self.live -= 1;
        }
    }

    /// Gives a dead slot back for use.
    ///
    /// # Safety
    /// The slot was killed, a grace period that began after that is over, and it was not released since.
    pub unsafe fn release(&mut self, number: u32) {
        let slot = self.slots.slot(number).expect("the caller's number names a slot");
        debug_assert_eq!(slot.live.load(Ordering::Relaxed), 0);
        // SAFETY: nobody reads a dead slot after its grace period (the caller's promise).
        let head = unsafe { &mut *slot.head.get() };
        // SAFETY: `fill` initialised it, and it has not been dropped since (the caller's promise).
        unsafe { head.assume_init_drop() };
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_comes_too_late_is_not_added() {
        let (_slots, mut writer) = SlotWriter::new();
        let (first, late) = (Fresh::after(0).unwrap(), Fresh::after(0).unwrap());
        assert!(writer.add(first).is_ok() && writer.add(late).is_err());
        assert_eq!((writer.chunks(), writer.n_free()), (1, CHUNK));
        assert!(writer.grow());
        let numbers = || numbers_of(0).chain(numbers_of(1));
        assert!(writer.next_free(2 * CHUNK).eq(numbers()), "lower ones are used first");
        assert!(numbers().all(|n| writer.slots.slot(n).unwrap().number == n));
        assert!(Fresh::after(CHUNKS_MAX).is_none());
    }
}
