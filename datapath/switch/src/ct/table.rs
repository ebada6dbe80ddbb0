//! From a tuple's hash to its connection: buckets of one cache line, read without locks.
//!
//! What enters: hashes and entries' numbers. What leaves: numbers of candidates, which the caller compares. Neighbours: `slab`, `track`.
//!
//! A slot is a word: half of the hash, and the entry's number (0: empty). A hash has two buckets; the second is used when the first is
//! full, which a bit of the first says from then on, so that most of those who look for what is not there read one line only. A connection with NAT has two slots, one by each direction's hash; without NAT both directions have the same hash.
//!
//! The table begins small, so that the buckets of few connections share few pages, and grows when a quarter of its slots is taken (`LOAD`), at which
//! hardly ever both buckets of a hash are full:
//! who begins one connection too many says so (`grow_for`), and from then on things go to their places under the new size and are looked
//! for there first, then under the older one. The reaper moves what is left (`migrate`) when nobody can look under the older size alone: into
//! the new place first, then out of the older one. Who finds nothing in either therefore looks into the new one again.
//!
//! Until all is moved, births look three times and bursts fill buckets, so it shall not take long. Of the first place of a hash the low bits are
//! where a slot stands and the others are in its tag: it is moved without a look at its entry, and since low bits stay, what stands in buckets
//! that follow each other goes into buckets that do.
//!
//! Readers take no lock: a slot is one atomic word, and what it names is compared. Writers of one hash exclude each other by one of `LOCKS`
//! bits, so that two threads cannot both make the same connection; other writers of the same bucket are kept apart by compare-and-swap
//! on the empty slot.

use super::entry::NONE;
use crate::memory::{Lines, Zeroable};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Buckets at most.
pub const BUCKETS: usize = 1 << SIZE_MAX;
/// The sizes that the table has one after the other, as powers of two: the least and the greatest. It grows by one at a time: the memory of buckets
/// that nobody needs yet is not cleared while connections begin.
const SIZE_MIN: u32 = 15;
const SIZE_MAX: u32 = 21;
/// Slots in use for each bucket, on average, at which it grows.
const LOAD: u32 = 2;
/// Bytes that one call of `fault_in` sees to: it does not keep the reaper from others.
const FAULT_MAX: usize = 4 << 20;
const SLOTS: usize = 8;
/// So many slots of a bucket are looked at without a branch in the plain form: nearly all candidates stand there.
const NEAR: usize = 4;
const LOCKS: usize = 1 << 12;
/// The lowest bits of a hash's places. Those of the first that are not in its tag are in the number of its bucket, whatever the size.
const FIRST: u32 = 32 - SIZE_MIN;
const SECOND: u32 = FIRST + SIZE_MAX;
const _: () = assert!(SECOND >= 32 && SECOND + SIZE_MAX <= 64);

#[repr(C, align(64))]
#[derive(Debug)]
struct Bucket([AtomicU64; SLOTS]);

impl Bucket {
    /// A candidate for a hash, or `NONE`. In which slot it stands is not branched upon. The wide form (`wide`) looks at all slots at once.
    #[inline(always)]
    fn candidate<const WIDE: bool>(&self, hash: u64) -> u32 {
        #[cfg(target_arch = "x86_64")]
        if WIDE {
            // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2 (`wide`).
            return unsafe { self.candidate_wide(hash) };
        }
        self.candidate_plain(hash)
    }

    /// The tags of all slots are compared in one vector. Slots are written by other threads meanwhile, each as one word: what is read of one may be
    /// older than what is read of another, as in the plain form.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    #[allow(clippy::cast_possible_truncation, reason = "halves of words")]
    fn candidate_wide(&self, hash: u64) -> u32 {
        use std::arch::x86_64::{
            __m256, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_movemask_ps, _mm256_set1_epi32,
            _mm256_shuffle_ps,
        };
        /// The slot of each lane, four bits each: a shuffle goes by halves of vectors.
        const ORDER: u32 = 0x7632_5410;
        const { assert!(SLOTS == 8 && size_of::<Self>() == 64 && cfg!(target_endian = "little")) };
        let (low, high): (__m256, __m256);
        // SAFETY: the bucket is two vectors, at an aligned address. Loads in assembly are the processor's own, to which words that others store are
        // words, so that this is no data race of the language.
        unsafe {
            std::arch::asm!(
                "vmovaps {low}, [{at}]",
                "vmovaps {high}, [{at} + 32]",
                at = in(reg) self.0.as_ptr(),
                low = out(ymm_reg) low,
                high = out(ymm_reg) high,
                options(readonly, nostack, preserves_flags)
            );
        }
        let tags = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
        let same = _mm256_cmpeq_epi32(tags, _mm256_set1_epi32(((hash >> 32) as u32).cast_signed()));
        let lanes = _mm256_movemask_ps(_mm256_castsi256_ps(same)).cast_unsigned();
        let slot = ORDER >> (lanes.trailing_zeros() % 8 * 4) & 7;
        let found = number(self.0[slot as usize].load(Ordering::Relaxed));
        if lanes == 0 { NONE } else { found }
    }

    #[inline(always)]
    fn candidate_plain(&self, hash: u64) -> u32 {
        let (near, _) = self.0.split_at(NEAR);
        let mut found = NONE;
        for slot in near {
            let word = slot.load(Ordering::Relaxed);
            // An empty slot has a tag as well, 0; of what has the same nobody hears here, once in 2^32 times.
            found = if tag(word) == tag(hash) { number(word) } else { found };
        }
        // Slots are taken from the first on.
        let more = number(near[NEAR - 1].load(Ordering::Relaxed)) != NONE;
        if (found == NONE) & more { self.far_candidate(hash) } else { found }
    }

    #[inline(never)]
    fn far_candidate(&self, hash: u64) -> u32 {
        let mut found = NONE;
        for slot in &self.0[NEAR..] {
            let word = slot.load(Ordering::Relaxed);
            if (tag(word) == tag(hash)) & (number(word) != NONE) {
                found = number(word);
            }
        }
        found
    }
}

// SAFETY: atomic integers only; all zeroes is an empty bucket.
unsafe impl Zeroable for Bucket {}

/// The buckets.
#[derive(Debug)]
pub struct Table {
    buckets: Lines<Bucket>,
    /// A bit for each bucket that was full when something was to go into it: what it was looked for in may be in the second.
    spilled: Box<[AtomicU64]>,
    /// The size; 8 bits on the one before, as long as something may stand under it, else the same.
    sizes: AtomicU32,
    present: AtomicUsize,
    locks: Box<[AtomicBool]>,
}

/// A size that the table has or had.
#[derive(Clone, Copy, Debug)]
pub struct Size(u32);

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
const fn places(hash: u64, size: u32) -> (usize, usize) {
    let mask = (1 << size) - 1;
    ((hash >> FIRST) as usize & mask, (hash >> SECOND) as usize & mask)
}

/// The number of a hash's first bucket.
#[inline(always)]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "bits of a hash")]
pub fn first_place(hash: u64, size: Size) -> u32 {
    const { assert!(SIZE_MAX <= 32) };
    places(hash, size.0).0 as u32
}

/// The same of eight hashes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn first_places(hashes: std::arch::x86_64::__m512i, size: Size) -> std::arch::x86_64::__m256i {
    use std::arch::x86_64::{_mm512_and_si512, _mm512_cvtepi64_epi32, _mm512_set1_epi64, _mm512_srli_epi64};
    let mask = _mm512_set1_epi64((1 << size.0) - 1);
    _mm512_cvtepi64_epi32(_mm512_and_si512(_mm512_srli_epi64::<FIRST>(hashes), mask))
}

/// A hash that has the places of the one of which `word` is the slot at its first place, `place`.
#[inline]
const fn hash_at(place: usize, word: u64) -> u64 {
    tag(word) | (place as u64) << FIRST & 0xffff_ffff
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
            sizes: AtomicU32::new(SIZE_MIN | SIZE_MIN << 8),
            present: AtomicUsize::new(0),
            locks: (0..LOCKS).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The size, and the one before while it is still looked under.
    #[inline]
    fn sizes(&self) -> (u32, u32) {
        let both = self.sizes.load(Ordering::Acquire);
        (both & 0xff, both >> 8)
    }

    /// The size, for `first_place`: read once for a batch, not for each packet. If the table grows meanwhile, fewer candidates
    /// are found.
    #[inline]
    #[must_use]
    pub fn size(&self) -> Size {
        Size(self.sizes().0)
    }

    /// Fetches a bucket (`first_place`).
    #[inline(always)]
    pub fn prefetch(&self, place: u32) {
        // Fetching asks for no bounds.
        crate::prefetch(self.buckets.as_ptr().wrapping_add(place as usize));
    }

    /// A candidate in the first bucket of a hash, `place`, for fetching it. `WIDE` only where `wide::on` says so.
    #[inline(always)]
    #[must_use]
    pub(super) fn first_candidate<const WIDE: bool>(&self, hash: u64, place: u32) -> u32 {
        self.buckets[place as usize].candidate::<WIDE>(hash)
    }

    /// The first entry under the hash for which `is` says so.
    #[inline]
    pub fn find<R>(&self, hash: u64, mut is: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let (size, older) = self.sizes();
        let found = self.find_under(hash, size, &mut is);
        if found.is_some() || older == size { found } else { self.find_while_growing(hash, (size, older), &mut is) }
    }

    /// What was not under the new size may be under the older one, or may have been moved between the two looks.
    #[cold]
    fn find_while_growing<R>(&self, hash: u64, sizes: (u32, u32), is: &mut impl FnMut(u32) -> Option<R>) -> Option<R> {
        self.find_under(hash, sizes.1, is).or_else(|| self.find_under(hash, sizes.0, is))
    }

    #[inline]
    fn find_under<R>(&self, hash: u64, size: u32, is: &mut impl FnMut(u32) -> Option<R>) -> Option<R> {
        let (first, second) = places(hash, size);
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

    /// Makes the memory of the buckets present, and of those that it will soon grow to, `slots` being in use; whether there is more to do. For the
    /// reaper's thread: it may take milliseconds.
    #[must_use]
    pub fn fault_in(&self, slots: u32) -> bool {
        let (size, _) = self.sizes();
        // Half of what it grows at.
        let soon = slots >> size >= LOAD / 2;
        let wanted = (size + u32::from(soon)).min(SIZE_MAX);
        let end = (size_of::<Bucket>() << wanted).min(self.present.load(Ordering::Relaxed) + FAULT_MAX);
        self.buckets.fault_in(0..end / size_of::<Bucket>(), &self.present);
        end < size_of::<Bucket>() << wanted
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
        let (first, second) = places(hash, self.sizes().0);
        let word = tag(hash) | u64::from(entry);
        // An empty slot's number is 0; its tag does not matter.
        let take = |slot: &AtomicU64| {
            slot.load(Ordering::Relaxed) == 0 && slot.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if self.buckets[first].0.iter().any(take) {
            return true;
        }
        // Before anything stands there: who looks for it under the same lock sees the bit.
        self.spill(first);
        self.buckets[second].0.iter().any(take)
    }

    fn spill(&self, bucket: usize) {
        self.spilled[bucket / 64].fetch_or(1 << (bucket % 64), Ordering::AcqRel);
    }

    /// Removes an entry.
    pub fn remove(&self, hash: u64, entry: u32) {
        loop {
            let (size, older) = self.sizes();
            // As it is looked for: new, older, new.
            let removed = self.remove_under(hash, entry, size)
                || older != size && (self.remove_under(hash, entry, older) || self.remove_under(hash, entry, size));
            if removed || self.sizes() == (size, older) {
                return;
            }
        }
    }

    fn remove_under(&self, hash: u64, entry: u32, size: u32) -> bool {
        let (first, second) = places(hash, size);
        let word = tag(hash) | u64::from(entry);
        let clear = |slot: &AtomicU64| {
            slot.load(Ordering::Relaxed) == word && slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        self.buckets[first].0.iter().chain(&self.buckets[second].0).any(clear)
    }

    /// Entries that stand in the buckets of a hash, whatever their own are.
    pub fn neighbours(&self, hash: u64) -> impl Iterator<Item = u32> {
        let (first, second) = places(hash, self.sizes().0);
        let slots = self.buckets[first].0.iter().chain(&self.buckets[second].0);
        slots.map(|slot| number(slot.load(Ordering::Acquire))).filter(|number| *number != NONE)
    }

    /// Makes the table larger if so many slots in use want it and it is not growing already; true if the caller has begun that.
    #[inline]
    #[must_use]
    pub fn grow_for(&self, slots: u32) -> bool {
        let (size, older) = self.sizes();
        slots >> size >= LOAD && size == older && size < SIZE_MAX && self.grow(size)
    }

    #[cold]
    fn grow(&self, size: u32) -> bool {
        // Whoever was faster has said the same.
        let grown = (size + 1) | size << 8;
        self.sizes.compare_exchange(size | size << 8, grown, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether something may stand under an older size.
    #[must_use]
    pub fn is_growing(&self) -> bool {
        let (size, older) = self.sizes();
        size != older
    }

    /// Moves what stands under the older size to its places under the new one. For the reaper's thread, a grace period after the table began to
    /// grow, so that nobody looks or inserts under the older one alone. `hash_of` gives the hash by which an entry has a tag; `insert` is
    /// `Self::insert`, perhaps after it has made room. Gives the entries that there was no room for, which are still looked for until `settled`.
    #[must_use]
    pub fn migrate(
        &self,
        hash_of: impl Fn(u32, &dyn Fn(u64) -> bool) -> Option<u64>,
        insert: impl Fn(u64, u32) -> bool,
    ) -> Vec<u32> {
        let (size, older) = self.sizes();
        let mut left = Vec::new();
        for place in 0..1 << older {
            for slot in &self.buckets[place].0 {
                let word = slot.load(Ordering::Acquire);
                if number(word) == NONE {
                    continue;
                }
                let hash = hash_at(place, word);
                // What may stand at its second place does not say what its first one is. Who has ended meanwhile is removed by whoever ended it.
                let known =
                    if places(hash, older).1 == place { hash_of(number(word), &|h| tag(h) == tag(word)) } else { Some(hash) };
                let Some(hash) = known else { continue };
                let (first, second) = places(hash, size);
                if second == place {
                    // It may stay there, if it is looked for there.
                    self.spill(first);
                }
                if first == place || second == place {
                    continue;
                }
                if !insert(hash, number(word)) {
                    left.push(number(word));
                } else if slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                    // It was removed under the older size while it was put under the new one.
                    self.remove_under(hash, number(word), size);
                }
            }
        }
        left
    }

    /// Nothing is looked for under the older size any more.
    pub fn settled(&self) {
        let (size, _) = self.sizes();
        self.sizes.store(size | size << 8, Ordering::Release);
    }

    /// Where a hash's entries stand.
    #[cfg(test)]
    pub(super) fn places(&self, hash: u64) -> (usize, usize) {
        places(hash, self.sizes().0)
    }

    /// Buckets in use, for displays.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        1 << self.sizes().0
    }

    /// The bucket that a hash begins at, for displays.
    #[must_use]
    pub fn bucket(&self, hash: u64) -> u32 {
        u32::try_from(places(hash, self.sizes().0).0).expect("BUCKETS fits 32 bits")
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
        assert_eq!(table.first_candidate::<false>(hash, first_place(hash, table.size())), 5);
        assert_eq!(table.find(hash ^ 1 << 40, Some), None, "another tag");
    }

    #[test]
    fn a_candidate_is_found_in_every_slot() {
        // Of the same bucket, with tags of their own.
        let hash = |n: u32| u64::from(n) << (32 + FIRST) | 0x1234 << FIRST;
        let table = Table::new();
        let candidate = |n: u32| {
            let found = table.first_candidate::<false>(hash(n), first_place(hash(n), table.size()));
            if crate::wide::on() {
                assert_eq!(table.first_candidate::<true>(hash(n), first_place(hash(n), table.size())), found, "{n}");
            }
            found
        };
        for n in 1..=8 {
            assert_eq!(candidate(n), NONE, "{n}");
            assert!(table.insert(hash(n), n));
            assert!((1..=n).all(|n| candidate(n) == n), "{n}");
        }
        assert_eq!(candidate(9), NONE);
        for n in [8, 6, 1, 3] {
            table.remove(hash(n), n);
            assert_eq!(candidate(n), NONE, "{n}");
        }
        assert!([2, 4, 5, 7].into_iter().all(|n| candidate(n) == n));
    }

    /// Two threads look for entries, one of them ends and begins some, while all are moved: what stands is found every time.
    #[test]
    fn what_is_moved_is_found_all_the_time() {
        let table = Table::new();
        let hash_of = |n: u32| crate::hash::fold(u64::from(n) ^ 0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15);
        let known = |n: u32, is: &dyn Fn(u64) -> bool| Some(hash_of(n)).filter(|hash| is(*hash));
        let stands = |n: u32| table.find(hash_of(n), |found| (found == n).then_some(found)).is_some();
        (1..=60_000u32).for_each(|n| assert!(table.insert(hash_of(n), n)));
        assert!(table.grow_for(LOAD << SIZE_MIN) && table.is_growing());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut missed = 0;
                while !done.load(Ordering::Acquire) {
                    missed += (1..30_000u32).filter(|n| !stands(*n)).count();
                }
                missed
            });
            let changing = scope.spawn(|| {
                (30_000..=60_000u32).for_each(|n| table.remove(hash_of(n), n));
                (30_000..=60_000u32).filter(|n| stands(*n)).count()
            });
            assert_eq!(table.migrate(known, |hash, n| table.insert(hash, n)), [0; 0]);
            assert_eq!(changing.join().unwrap(), 0, "removed");
            done.store(true, Ordering::Release);
            assert_eq!(looking.join().unwrap(), 0, "missed");
        });
        table.settled();
        assert!((1..30_000u32).all(stands) && !(30_000..=60_000u32).any(stands));
        (1..30_000u32).for_each(|n| table.remove(hash_of(n), n));
        assert!(table.buckets.iter().flat_map(|bucket| &bucket.0).all(|slot| slot.load(Ordering::Relaxed) == 0));
    }

    /// Entries that come and go while the table grows: those that stay are found at any time, and nothing stays behind.
    #[test]
    fn what_stands_in_it_is_found_while_it_grows() {
        let table = Table::new();
        let hash_of = |n: u32| crate::hash::fold(u64::from(n) ^ 0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15);
        let known = |n: u32, is: &dyn Fn(u64) -> bool| Some(hash_of(n)).filter(|hash| is(*hash));
        let find = |n: u32| table.find(hash_of(n), |found| (found == n).then_some(found));
        let (mut began, mut grown) = (0, 0);
        for n in 1..=200_000u32 {
            assert!(table.insert(hash_of(n), n));
            if n % 10 == 0 {
                table.remove(hash_of(n - 5), n - 5);
            }
            began += u32::from(table.grow_for(n));
            // It is seen to some time later.
            if table.is_growing() && n % 30_000 == 0 {
                assert_eq!((find(1), find(n - 2), find(n - 5)), (Some(1), Some(n - 2), None));
                assert_eq!(table.migrate(known, |hash, n| table.insert(hash, n)), [0; 0]);
                (1..=n).for_each(|n| assert_eq!(find(n), (n % 10 != 5).then_some(n), "{n}"));
                table.settled();
                grown += 1;
                (1..=n).for_each(|n| assert_eq!(find(n), (n % 10 != 5).then_some(n), "{n}"));
            }
        }
        assert_eq!((began, grown, table.sizes()), (2, 2, (17, 17)));
        (1..=200_000u32).for_each(|n| table.remove(hash_of(n), n));
        assert!(table.buckets.iter().flat_map(|bucket| &bucket.0).all(|slot| slot.load(Ordering::Relaxed) == 0));
    }
}
