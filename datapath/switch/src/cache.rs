//! The signature cache: which megaflow did a packet with this hash belong to last time?
//!
//! What enters: hashes of packets, and the slots that the classifier found for them. What leaves: slot numbers to be compared.
//! Neighbours: `hash`, `slots`, `worker` (each worker has a cache of its own).
//!
//! An entry is a 16-bit tag and a 32-bit slot number: 6 bytes a flow, 8 with the bucket's rest, so that a million flows fit the
//! second-level cache or nearly. Nothing about the flow itself is kept: whether the megaflow is right is decided by its own key
//! and mask. An entry may therefore be wrong or outdated without harm, and nobody has to remove any.
//!
//! A bucket is one cache line with eight ways. A hash has two buckets; when both are full an entry in the second gives way.
//!
//! The cache begins small, so that few flows are close together, and doubles when half of it was filled. Nothing is moved then: an entry that
//! is no longer looked for where it stands is made again by its next packet, and gives way in its time.

use crate::slots::NO_SLOT;
use crate::tags::{self, WAYS};

/// Flows that a cache holds if nothing else is configured.
pub const FLOWS_DEFAULT: usize = 1 << 20;
/// Flows that a cache may be made to hold.
pub const FLOWS_MAX: usize = 1 << 26;

/// Buckets that it begins with: 32 KiB.
const FIRST_BUCKETS: usize = 512;
/// Entries per bucket, of eight, at which it doubles.
const FILL: usize = 5;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Bucket {
    tags: [u64; 2],
    slots: [u32; WAYS],
    /// Which way gives way next.
    victim: u32,
    spare: [u32; 3],
}

const _: () = assert!(size_of::<Bucket>() == 64);

const EMPTY: Bucket = Bucket { tags: [0; 2], slots: [NO_SLOT; WAYS], victim: 0, spare: [0; 3] };

/// A worker's cache; for 0 flows it is off.
pub struct Cache {
    buckets: crate::memory::Lines<Bucket>,
    /// Of the buckets in use: the first ones.
    mask: usize,
    /// Entries made since it began.
    added: usize,
    off: bool,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("buckets", &(self.mask + 1)).finish()
    }
}

/// What `insert` had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The flow was known; its slot is the new one now.
    Renewed,
    Added,
    /// Another flow gave way.
    Evicted,
}

impl Cache {
    /// Room for `flows` flows with few evictions; for none the cache is off and nobody may ask it.
    #[must_use]
    pub fn new(flows: usize) -> Self {
        // Six of eight ways used: with two choices nearly nothing is evicted until then.
        let n = (flows.clamp(1, FLOWS_MAX) / 6 + 1).next_power_of_two().max(16);
        Self { buckets: crate::memory::Lines::zeroed(n), mask: n.min(FIRST_BUCKETS) - 1, added: 0, off: flows == 0 }
    }

    /// Memory that it takes when all of it is used.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// Whether the cache is not to be asked.
    #[inline]
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the lowest bits are what is asked for")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    #[inline]
    fn other(&self, home: usize, hash: u64) -> usize {
        (home ^ (tags::tag_of(hash) as usize).wrapping_mul(0x5bd1_e995)) & self.mask
    }

    /// Fetches the bucket that `candidate` looks at first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        crate::prefetch(&raw const self.buckets[self.home(hash)]);
    }

    /// The slot to compare with, or `NO_SLOT`.
    #[inline]
    #[must_use]
    pub fn candidate(&self, hash: u64) -> u32 {
        let tag = tags::tag_of(hash);
        let home = self.home(hash);
        let bucket = &self.buckets[home];
        let same = tags::equal(bucket.tags, tag);
        if same != 0 {
            return bucket.slots[same.trailing_zeros() as usize];
        }
        let bucket = &self.buckets[self.other(home, hash)];
        let same = tags::equal(bucket.tags, tag);
        if same != 0 {
            return bucket.slots[same.trailing_zeros() as usize];
        }
        NO_SLOT
    }

    /// Remembers where a packet with this hash belongs.
    pub fn insert(&mut self, hash: u64, slot: u32) -> Inserted {
        if self.added > self.mask * FILL && self.mask + 1 < self.buckets.len() {
            self.mask = self.mask * 2 + 1;
        }
        let tag = tags::tag_of(hash);
        let home = self.home(hash);
        let both = [home, self.other(home, hash)];
        for wanted in [tag, 0] {
            for at in both {
                let same = tags::equal(self.buckets[at].tags, wanted);
                if same != 0 {
                    self.buckets[at].set(same.trailing_zeros() as usize, tag, slot);
                    if wanted != 0 {
                        return Inserted::Renewed;
                    }
                    self.added += 1;
                    return Inserted::Added;
                }
            }
        }
        let bucket = &mut self.buckets[both[1]];
        let way = bucket.victim as usize % WAYS;
        bucket.victim = bucket.victim.wrapping_add(1);
        bucket.set(way, tag, slot);
        self.added += 1;
        Inserted::Evicted
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets[..=self.mask].fill(EMPTY);
        (self.mask, self.added) = (self.buckets.len().min(FIRST_BUCKETS) - 1, 0);
    }
}

impl Bucket {
    #[inline]
    fn set(&mut self, way: usize, tag: u16, slot: u32) {
        let (word, value) = tags::with_lane(self.tags, way, tag);
        self.tags[word] = value;
        self.slots[way] = slot;
    }
}

// SAFETY: a bucket is made of plain numbers; all zeroes are a bucket without tags.
unsafe impl crate::memory::Zeroable for Bucket {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::fold;

    fn hash(i: u64) -> u64 {
        fold(i ^ 0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn what_went_in_comes_out_until_it_is_full() {
        const N: u32 = 50_000;
        let mut cache = Cache::new(N as usize);
        let mut evicted = 0;
        // Flows have many packets: what was where it is no longer looked for comes in again.
        for i in (0..8).flat_map(|_| 0..N) {
            if cache.candidate(hash(u64::from(i))) != i && cache.insert(hash(u64::from(i)), i) == Inserted::Evicted {
                evicted += 1;
            }
        }
        let found = (0..N).filter(|i| cache.candidate(hash(u64::from(*i))) == *i).count();
        assert!(found as f64 > 0.99 * f64::from(N), "{found} of {N}, {evicted} evicted");
        assert_eq!(cache.insert(hash(1), 7), Inserted::Renewed);
        assert_eq!(cache.candidate(hash(1)), 7);
        cache.clear();
        assert_eq!(cache.candidate(hash(1)), NO_SLOT);
    }

    #[test]
    fn few_flows_stand_close_together() {
        let mut cache = Cache::new(FLOWS_DEFAULT);
        for i in (0..4).flat_map(|_| 0..1000) {
            cache.insert(hash(i), 1);
        }
        assert_eq!(cache.mask + 1, FIRST_BUCKETS);
        for i in 0..6400 {
            cache.insert(hash(i), 1);
        }
        assert!(cache.mask < 4 * FIRST_BUCKETS, "{}", cache.mask);
    }

    #[test]
    fn a_full_cache_forgets_and_goes_on() {
        let mut cache = Cache::new(1);
        for i in 0..10_000 {
            cache.insert(hash(i), 3);
            assert_eq!(cache.candidate(hash(i)), 3);
        }
    }
}
