//! From a tuple's hash to its connection: buckets of one cache line, read without locks.
//!
//! What enters: hashes and entries' numbers. What leaves: numbers of candidates, which the caller compares. Neighbours: `slab`, `track`.
//!
//! A slot is a word: half of the hash, and the entry's number (0: empty). A hash has two buckets; the second is used when the first is
//! full, which a bit of the first says from then on, so that most of those who look for what is not there read one line only. A connection with NAT has two slots, one by each direction's hash; without NAT both directions have the same hash.
//!
//! Readers take no lock: a slot is one atomic word, and what it names is compared. Writers of one hash exclude each other by one of `LOCKS`
//! bits, so that two threads cannot both make the same connection; other writers of the same bucket are kept apart by compare-and-swap
//! on the empty slot.

use super::entry::NONE;
use crate::memory::{Lines, Zeroable};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Buckets, a power of two.
pub const BUCKETS: usize = 1 << 20;
const SLOTS: usize = 8;
const LOCKS: usize = 1 << 12;

#[repr(C, align(64))]
#[derive(Debug)]
struct Bucket([AtomicU64; SLOTS]);

// SAFETY: atomic integers only; all zeroes is an empty bucket.
unsafe impl Zeroable for Bucket {}

/// The buckets.
#[derive(Debug)]
pub struct Table {
    buckets: Lines<Bucket>,
    /// A bit for each bucket that was full when something was to go into it: what it was looked for in may be in the second.
    spilled: Box<[AtomicU64]>,
    present: AtomicUsize,
    locks: Box<[AtomicBool]>,
}

/// Two locks, held in order.
#[derive(Debug)]
pub struct Held<'t>([Option<&'t AtomicBool>; 2]);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for lock in self.0.into_iter().flatten() {
            lock.store(false, Ordering::Release);
        }
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "bits of a hash")]
const fn places(hash: u64) -> (usize, usize) {
    (hash as usize & (BUCKETS - 1), (hash >> 20) as usize & (BUCKETS - 1))
}

#[inline]
const fn tag(hash: u64) -> u64 {
    hash & !0xffff_ffff
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the low half is the number")]
const fn number(word: u64) -> u32 {
    word as u32
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buckets: Lines::zeroed(BUCKETS),
            spilled: (0..BUCKETS / 64).map(|_| AtomicU64::new(0)).collect(),
            present: AtomicUsize::new(0),
            locks: (0..LOCKS).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Fetches the first bucket of a hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        crate::prefetch(&raw const self.buckets[places(hash).0]);
    }

    /// A candidate in the first bucket, for fetching it.
    #[inline]
    #[must_use]
    pub fn first_candidate(&self, hash: u64) -> u32 {
        let bucket = &self.buckets[places(hash).0];
        let is = |word: u64| (tag(word) == tag(hash)) & (number(word) != NONE);
        // Nearly always it is the first, as long as there are fewer connections than buckets.
        let first = bucket.0[0].load(Ordering::Relaxed);
        if is(first) {
            return number(first);
        }
        let mut found = NONE;
        for slot in &bucket.0[1..] {
            let word = slot.load(Ordering::Relaxed);
            if is(word) {
                found = number(word);
            }
        }
        found
    }

    /// The first entry under the hash for which `is` says so.
    #[inline]
    pub fn find<R>(&self, hash: u64, mut is: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let (first, second) = places(hash);
        for place in [first, second] {
            for slot in &self.buckets[place].0 {
                let word = slot.load(Ordering::Acquire);
                if tag(word) == tag(hash)
                    && number(word) != NONE
                    && let Some(found) = is(number(word))
                {
                    return Some(found);
                }
            }
            if !self.has_spilled(first) {
                break;
            }
        }
        None
    }

    #[inline]
    fn has_spilled(&self, bucket: usize) -> bool {
        self.spilled[bucket / 64].load(Ordering::Acquire) & 1 << (bucket % 64) != 0
    }

    /// Makes the memory of the buckets present. For the reaper's thread: it takes milliseconds.
    pub fn fault_in(&self) {
        self.buckets.fault_in(BUCKETS, &self.present);
    }

    /// Keeps other writers of these hashes away.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "bits of a hash")]
    pub fn hold(&self, a: u64, b: u64) -> Held<'_> {
        let place = |hash: u64| (hash >> 44) as usize & (LOCKS - 1);
        let (low, high) = (place(a).min(place(b)), place(a).max(place(b)));
        let take = |place: usize| {
            let lock = &self.locks[place];
            while lock.swap(true, Ordering::Acquire) {
                std::hint::spin_loop();
            }
            lock
        };
        let first = take(low);
        Held([Some(first), (high != low).then(|| take(high))])
    }

    /// Adds an entry; false if both buckets are full.
    #[must_use]
    pub fn insert(&self, hash: u64, entry: u32) -> bool {
        let (first, second) = places(hash);
        let word = tag(hash) | u64::from(entry);
        // An empty slot's number is 0; its tag does not matter.
        let take = |slot: &AtomicU64| {
            slot.load(Ordering::Relaxed) == 0 && slot.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if self.buckets[first].0.iter().any(take) {
            return true;
        }
        // Before anything stands there: who looks for it under the same lock sees the bit.
        self.spilled[first / 64].fetch_or(1 << (first % 64), Ordering::AcqRel);
        self.buckets[second].0.iter().any(take)
    }

    /// Removes an entry.
    pub fn remove(&self, hash: u64, entry: u32) {
        let (first, second) = places(hash);
        let word = tag(hash) | u64::from(entry);
        for slot in self.buckets[first].0.iter().chain(&self.buckets[second].0) {
            if slot.load(Ordering::Relaxed) == word && slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
    }

    /// The bucket that a hash begins at, for displays.
    #[must_use]
    pub fn bucket(&self, hash: u64) -> u32 {
        u32::try_from(places(hash).0).expect("BUCKETS fits 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_found_until_it_is_removed() {
        let table = Table::new();
        let hash = 0xabcd_0123_4567_89ab;
        // One hash fills both of its buckets, and no more.
        let put: Vec<u32> = (1..30).take_while(|n| table.insert(hash, *n)).collect();
        assert_eq!(put.len(), 2 * SLOTS);
        assert_eq!(table.find(hash, |n| (n == 16).then_some(n)), Some(16));
        for n in &put {
            table.remove(hash, *n);
        }
        assert_eq!(table.find(hash, Some), None);
        drop(table.hold(hash, hash));
        drop(table.hold(hash, !hash));
        assert!(table.insert(hash, 5));
        assert_eq!(table.first_candidate(hash), 5);
        assert_eq!(table.find(hash ^ 1 << 40, Some), None, "another tag");
    }
}
