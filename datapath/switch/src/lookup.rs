//! From the keys of a batch to megaflows: signature cache, then classifier.
//!
//! What enters: extracted keys. What leaves: for each the megaflow, or none. Neighbours: `cache`, `slots`, `classifier`; `forward`, the caller.
//!
//! The stages of the cache go over the whole batch, each asking for the memory that the next needs: hash, fetch the bucket; look for
//! the tag, fetch the megaflow that the entry names; compare. What the cache does not know, or knows wrongly, is searched for in
//! the classifier, and remembered. Before all that a batch is compared with the few megaflows that the last ones of its kind were of (`memo`).
//!
//! Where an input port has no more than `DIRECT_MAX` subtables the classifier is asked at once: hashing under one mask and looking at
//! one bucket costs no more than the signature cache would, and does not depend on the number of flows.

use crate::cache::Inserted;
use crate::classifier::BATCH;
use crate::counters::CACHE_EVICTED;
use crate::forward::{Core, Scope};
use crate::groups::Found;
use crate::parsed::Parsed;
use crate::perf::Stage;
use crate::search::{Search, all_of};
use crate::slots::Entry;
use crate::stats::add;

/// Up to so many subtables are searched without asking the signature cache.
pub(crate) const DIRECT_MAX: usize = 1;

impl Core {
    /// Finds megaflows: a bit for each packet that has none.
    pub(crate) fn look_up<'g>(
        &mut self,
        scope: Scope<'g>,
        (parsed, n): (&mut [Parsed; BATCH], usize),
        found: &mut Found<'g>,
    ) -> u32 {
        let all = all_of(n);
        let shared = scope.shared;
        let in_port = u32::from_be_bytes(parsed[0].key.in_port);
        let direct = self.cache.is_off() || shared.classifier.n_subtables(in_port, scope.guard) <= DIRECT_MAX;
        if !direct && self.memo.recall(scope, (&mut *parsed, n, self.wide), found) {
            add(&self.work(shared).cache_hits, n as u64);
            self.lap(shared, Stage::Cache);
            return 0;
        }
        let missing = if direct { all } else { self.look_in_cache(scope, &mut parsed[..n], &mut found.each) };
        if !direct {
            self.memo.learn(&parsed[0].key, &found.each[..n]);
        }
        self.lap(shared, Stage::Cache);
        if missing == 0 {
            return 0;
        }
        let (slots, shard, wide) = (&shared.slots, shared.shards[self.seat].get(), self.wide);
        let mut search = Search { shard, ..Search::new(slots, parsed, missing, found, wide) };
        shared.classifier.lookup(&mut search, scope.guard);
        let (lost, searched) = (search.live, search.searched);
        if !direct || !found.groups.cover(all) {
            found.tell();
        }
        add(&self.work(shared).mask_hit, searched);
        if !direct {
            self.remember(missing & !lost, &found.each);
        }
        self.lap(shared, Stage::Classify);
        lost
    }

    fn look_in_cache<'g>(&mut self, scope: Scope<'g>, parsed: &mut [Parsed], found: &mut [Option<Entry<'g>>; BATCH]) -> u32 {
        #[cfg(target_arch = "x86_64")]
        if self.wide {
            // SAFETY: `wide` is only true where `wide::on` is, which asks for these features.
            return unsafe { self.look_in_cache_wide(scope, parsed, found) };
        }
        self.look_in_cache_as::<false>(scope, parsed, found)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,aes")]
    fn look_in_cache_wide<'g>(&mut self, scope: Scope<'g>, parsed: &mut [Parsed], found: &mut [Option<Entry<'g>>; BATCH]) -> u32 {
        self.look_in_cache_as::<true>(scope, parsed, found)
    }

    #[inline(always)]
    fn look_in_cache_as<'g, const WIDE: bool>(
        &mut self,
        scope: Scope<'g>,
        parsed: &mut [Parsed],
        found: &mut [Option<Entry<'g>>; BATCH],
    ) -> u32 {
        let shared = scope.shared;
        let n = parsed.len();
        let hashes = &mut self.hashes[..n];
        shared.hash.hash_all(parsed, hashes);
        for hash in &*hashes {
            self.cache.prefetch(*hash);
        }
        let shard = shared.shards[self.seat].get();
        let mut places = [None; BATCH];
        for (place, hash) in places.iter_mut().zip(&*hashes) {
            let slot = self.cache.candidate(*hash);
            *place = shared.slots.place(slot);
            if let Some(place) = place {
                place.prefetch();
            }
            if let Some(shard) = shard {
                shard.prefetch(slot);
            }
        }
        let mut missing = 0u32;
        // Arrays are walked by reference: an iterator that owns one keeps its state, and the array, in memory.
        for (i, ((parsed, place), found)) in parsed.iter_mut().zip(&places).zip(found.iter_mut()).enumerate() {
            *found = place.and_then(|place| place.entry(scope.guard)).filter(|entry| entry.matches_as::<WIDE>(parsed));
            missing |= u32::from(found.is_none()) << i;
        }
        add(&self.work(shared).cache_hits, n as u64 - u64::from(missing.count_ones()));
        missing
    }

    /// Puts what the classifier found into the cache.
    fn remember(&mut self, mut which: u32, found: &[Option<Entry<'_>>; BATCH]) {
        let mut evicted = 0;
        while which != 0 {
            let i = which.trailing_zeros() as usize;
            which &= which - 1;
            if let Some(entry) = found[i]
                && self.cache.insert(self.hashes[i], entry.number()) == Inserted::Evicted
            {
                evicted += 1;
            }
        }
        if evicted > 0 {
            CACHE_EVICTED.add(evicted);
        }
    }
}
