//! Searching: the keys of a batch on their way through the subtables of their input port.
//!
//! What enters: keys of packets that no cache knows. What leaves: for each its megaflow, or none. Neighbours: `classifier` (what is searched, and
//! its rules of concurrency), `slots` (what is compared with), `lookup` (the caller).
//!
//! A whole batch goes through one subtable before the next, in stages: hash under the mask; look for the tag; compare where there was one.
//! A stage decides nothing packet by packet, so that nothing is mispredicted in packets that are not here, which are most of them when
//! there are many masks. The hash is specialised by the number of words that the mask lets through. Tables that are not near
//! have their buckets, and then the megaflows, fetched a stage ahead. What matched leaves the batch.
//!
//! The loops are compiled twice (`wide`).

use crate::classifier::{BATCH, Bucket, Classifier, FEW_MAX, Subtable, Table, home};
use crate::few::compare_few;
use crate::groups::{Found, tell};
use crate::hash::line_of;
use crate::parsed::Parsed;
use crate::qsbr::Guard;
use crate::slots::{Entry, NO_SLOT, Slots};
use crate::stats::Shard;
use crate::tags;
use flow::key::Lines;
use std::sync::atomic::Ordering;

/// Tables below this size are as good as in the first or second level cache.
const NEAR_BUCKETS: usize = 256;

/// A batch on its way through the subtables.
#[derive(Debug)]
pub struct Search<'s, 'g> {
    pub slots: &'g Slots,
    pub parsed: &'s mut [Parsed; BATCH],
    /// Packets still looked for, one bit each.
    pub live: u32,
    /// Where what is found goes: megaflows that were compared with all packets into its groups, with their own, and only `Found::tell` writes down
    /// each of these. Others stay as they are.
    pub(crate) found: &'s mut Found<'g>,
    /// Subtables searched, summed over the packets.
    pub searched: u64,
    /// The searching thread's statistics: the cells of far megaflows are fetched with them.
    pub(crate) shard: Option<&'g Shard>,
    /// In the wide form; only where `wide::on` says so.
    pub(crate) wide: bool,
}

impl Classifier {
    /// Looks for every live packet of the search, and takes those found out of `live`.
    pub fn lookup<'g>(&'g self, search: &mut Search<'_, 'g>, guard: Guard<'g>) {
        let mut rest = search.live;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let in_port = search.parsed[first].key.in_port;
            let mut same = 0;
            for (i, parsed) in search.parsed.iter().enumerate().take(last(rest)) {
                same |= u32::from(parsed.key.in_port == in_port) << i;
            }
            same &= rest;
            rest &= !same;
            if let Some(space) = self.space(u32::from_be_bytes(in_port)).load(guard) {
                let others = search.live & !same;
                search.live = same;
                for subtable in space {
                    if search.live == 0 {
                        break;
                    }
                    subtable.lookup(search, guard);
                }
                search.live |= others;
            }
        }
    }
}

/// One more than the number of the highest 1-bit.
#[inline]
pub(crate) fn last(set: u32) -> usize {
    BATCH - set.leading_zeros() as usize
}

impl Subtable {
    #[inline]
    fn lookup<'g>(&'g self, search: &mut Search<'_, 'g>, guard: Guard<'g>) {
        let before = search.live.count_ones();
        search.searched += u64::from(before);
        #[cfg(target_arch = "x86_64")]
        if search.wide {
            // SAFETY: `wide` is only true where `wide::on` is, which asks for these features.
            unsafe { self.lookup_wide(search, guard) };
        } else {
            self.lookup_plain(search, guard);
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.lookup_plain(search, guard);
        let matched = u64::from(before - search.live.count_ones());
        if matched > 0 {
            crate::stats::add(&self.hits, matched);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn lookup_wide<'g>(&'g self, search: &mut Search<'_, 'g>, guard: Guard<'g>) {
        self.lookup_as::<true>(search, guard);
    }

    fn lookup_plain<'g>(&'g self, search: &mut Search<'_, 'g>, guard: Guard<'g>) {
        self.lookup_as::<false>(search, guard);
    }

    #[inline(always)]
    fn lookup_as<'g, const WIDE: bool>(&'g self, search: &mut Search<'_, 'g>, guard: Guard<'g>) {
        let Some(table) = self.table.load(guard) else {
            return;
        };
        if let Some(few) = few(table, search.slots, guard) {
            return search.compare_as::<WIDE>(few);
        }
        match self.first {
            Some((first, 1)) => probe::<WIDE>(table, search, guard, |parsed| first.hash::<1>(line_of(&parsed.key, 0))),
            Some((first, 2)) => probe::<WIDE>(table, search, guard, |parsed| first.hash::<2>(line_of(&parsed.key, 0))),
            Some((first, 3)) => probe::<WIDE>(table, search, guard, |parsed| first.hash::<3>(line_of(&parsed.key, 0))),
            Some((first, 4)) => probe::<WIDE>(table, search, guard, |parsed| first.hash::<4>(line_of(&parsed.key, 0))),
            Some((first, 5)) => probe::<WIDE>(table, search, guard, |parsed| first.hash::<5>(line_of(&parsed.key, 0))),
            Some((first, _)) => probe::<WIDE>(table, search, guard, |parsed| first.hash::<6>(line_of(&parsed.key, 0))),
            None => probe::<WIDE>(table, search, guard, |parsed| {
                parsed.ensure(self.shape.lines);
                self.shape.hash(parsed.key.words())
            }),
        }
    }
}

impl<'s, 'g> Search<'s, 'g> {
    /// For the packets of `live`.
    #[inline]
    pub(crate) fn new(
        slots: &'g Slots,
        parsed: &'s mut [Parsed; BATCH],
        live: u32,
        found: &'s mut Found<'g>,
        wide: bool,
    ) -> Self {
        Self { slots, parsed, live, found, searched: 0, shard: None, wide }
    }

    /// Compares every live packet with a few megaflows, and takes those that are of one out of `live`. There may be gaps between them.
    #[inline]
    pub(crate) fn compare(&mut self, few: [Option<Entry<'g>>; FEW_MAX]) {
        #[cfg(target_arch = "x86_64")]
        if self.wide {
            // SAFETY: `wide` is only true where `wide::on` is, which asks for these features.
            return unsafe { self.compare_wide(few) };
        }
        self.compare_as::<false>(few);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compare_wide(&mut self, few: [Option<Entry<'g>>; FEW_MAX]) {
        self.compare_as::<true>(few);
    }

    #[inline(always)]
    fn compare_as<const WIDE: bool>(&mut self, few: [Option<Entry<'g>>; FEW_MAX]) {
        match few {
            // A megaflow that is just being removed leaves a gap, behind which others stand.
            [Some(only), None, None, None] => compare_one::<WIDE>(self, only),
            few => compare_few::<WIDE>(self, few),
        }
    }

    /// These packets are `entry`'s.
    #[inline(always)]
    pub(crate) fn take(&mut self, entry: Entry<'g>, own: u32) {
        if !self.found.groups.add(entry, own) {
            tell(entry, own, &mut self.found.each);
        }
        self.live &= !own;
    }
}

/// The megaflows of a table that names them, in their places; `None` if there are too many. The last is read first, see `classifier`.
#[inline(always)]
fn few<'g>(table: &Table, slots: &'g Slots, guard: Guard<'g>) -> Option<[Option<Entry<'g>>; FEW_MAX]> {
    let mut numbers = [NO_SLOT; FEW_MAX];
    for at in (0..FEW_MAX).rev() {
        numbers[at] = table.few[at].load(Ordering::Acquire);
    }
    (numbers[0] != NO_SLOT).then(|| numbers.map(|number| slots.entry(number, guard)))
}

/// Compares every packet with one megaflow.
#[inline(always)]
fn compare_one<'g, const WIDE: bool>(search: &mut Search<'_, 'g>, only: Entry<'g>) {
    let (own, mask) = (only.line0(), line_of(&only.head().shape.mask, 0));
    let mut matched = 0u32;
    for (i, parsed) in search.parsed.iter().enumerate().take(last(search.live)) {
        matched |= u32::from(own.equals_masked_as::<WIDE>(line_of(&parsed.key, 0), mask)) << i;
    }
    matched &= search.live;
    if !only.is_short() {
        matched = compare_rest::<WIDE>(search, only, matched);
    }
    search.take(only, matched);
}

/// Compares packets, whose first lines match, with the other lines of a megaflow: those that match in all of them.
#[inline(always)]
pub(crate) fn compare_rest<const WIDE: bool>(search: &mut Search<'_, '_>, only: Entry<'_>, mut matched: u32) -> u32 {
    for (number, own, mask) in only.rest() {
        let need = Lines(1 << number);
        for i in bits(matched) {
            let parsed = &mut search.parsed[i];
            parsed.ensure(need);
            let same = own.equals_masked_as::<WIDE>(line_of(&parsed.key, number), mask);
            matched &= !(u32::from(!same) << i);
        }
    }
    matched
}

#[inline(always)]
fn probe<'g, const WIDE: bool>(
    table: &'g Table,
    search: &mut Search<'_, 'g>,
    guard: Guard<'g>,
    hash: impl Fn(&mut Parsed) -> u64,
) {
    let (slots, buckets) = (search.slots, &*table.buckets);
    let far = buckets.len() > NEAR_BUCKETS;
    let mut hashes = [0u64; BATCH];
    for i in bits(search.live) {
        hashes[i] = hash(&mut search.parsed[i]);
        if far {
            crate::prefetch(&raw const buckets[home(buckets, hashes[i])]);
        }
    }
    let mut ways = [0u8; BATCH];
    let mut maybe = 0u32;
    for i in bits(search.live) {
        let bucket = &buckets[home(buckets, hashes[i])];
        let same = tags::equal(bucket.words(Ordering::Acquire), tags::tag_of(hashes[i]));
        ways[i] = same;
        maybe |= u32::from((same != 0) | (bucket.passed.load(Ordering::Acquire) != 0)) << i;
        if far {
            let slot = bucket.slots[same.trailing_zeros() as usize & (tags::WAYS - 1)].load(Ordering::Relaxed);
            if let Some(place) = slots.place(slot) {
                place.prefetch();
            }
            if let Some(shard) = search.shard {
                shard.prefetch(slot);
            }
        }
    }
    let mut matched = 0u32;
    for i in bits(maybe) {
        let parsed = &mut search.parsed[i];
        let bucket = &buckets[home(buckets, hashes[i])];
        let mut found = find_here::<WIDE>(bucket, ways[i], slots, parsed, guard);
        // Nearly always nothing went past the first bucket.
        if found.is_none() && bucket.passed.load(Ordering::Acquire) != 0 {
            found = find_beyond(buckets, hashes[i], slots, parsed, guard);
        }
        if found.is_some() {
            search.found.each[i] = found;
            matched |= 1 << i;
        }
    }
    search.live &= !matched;
}

/// A bit for each of so many packets.
#[inline(always)]
pub(crate) fn all_of(n: usize) -> u32 {
    if n == BATCH { u32::MAX } else { (1 << n) - 1 }
}

/// The numbers of the 1-bits, lowest first.
#[inline(always)]
pub(crate) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if set == 0 {
            return None;
        }
        let i = set.trailing_zeros() as usize % BATCH;
        set &= set - 1;
        Some(i)
    })
}

/// The megaflow that matches, of those in the ways of `bucket` that have the tag.
#[inline(always)]
fn find_here<'g, const WIDE: bool>(
    bucket: &Bucket,
    mut same: u8,
    slots: &'g Slots,
    parsed: &mut Parsed,
    guard: Guard<'g>,
) -> Option<Entry<'g>> {
    while same != 0 {
        let way = same.trailing_zeros() as usize;
        same &= same - 1;
        let slot = bucket.slots[way].load(Ordering::Relaxed);
        if let Some(entry) = slots.entry(slot, guard)
            && entry.matches_as::<WIDE>(parsed)
        {
            return Some(entry);
        }
    }
    None
}

#[inline(never)]
fn find_beyond<'g>(
    buckets: &'g [Bucket],
    hash: u64,
    slots: &'g Slots,
    parsed: &mut Parsed,
    guard: Guard<'g>,
) -> Option<Entry<'g>> {
    let mut at = home(buckets, hash);
    loop {
        at = (at + 1) & (buckets.len() - 1);
        let bucket = &buckets[at];
        let same = tags::equal(bucket.words(Ordering::Acquire), tags::tag_of(hash));
        let found = find_here::<false>(bucket, same, slots, parsed, guard);
        if found.is_some() || bucket.passed.load(Ordering::Acquire) == 0 {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::ClassifierWriter;
    use crate::program::Program;
    use crate::qsbr::{Epochs, Limbo, Rcu};
    use crate::slots::{Head, SlotWriter};
    use flow::{Key, Ufid};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Words of a mask: few kinds, in the first line or beyond it.
    fn mask(kind: u8) -> Key {
        let mut mask = Key::ZERO;
        mask.in_port = [0xff; 4];
        if kind & 1 != 0 {
            mask.nw_dst = [0xff; 4];
        }
        if kind & 2 != 0 {
            mask.eth_src = [0, 0, 0, 0, 0, 3];
        }
        if kind & 4 != 0 {
            mask.ipv6_dst[15] = 0xff;
        }
        if kind & 8 != 0 {
            mask.tp_dst = [0xff; 2];
        }
        mask
    }

    fn key(value: u16) -> Key {
        let mut key = Key::ZERO;
        key.in_port = [0, 0, 0, 1];
        let [a, b] = value.to_be_bytes();
        (key.nw_dst, key.eth_src[5], key.ipv6_dst[15], key.tp_dst) = ([0, 0, 0, b & 7], a & 3, b >> 5, [a >> 6, b & 3]);
        key
    }

    struct World {
        slots: Arc<Slots>,
        slot_writer: SlotWriter,
        classifier: Arc<Classifier>,
        writer: ClassifierWriter,
        live: Vec<u32>,
        limbo: Limbo,
        epochs: Arc<Epochs>,
    }

    impl World {
        fn new() -> Self {
            let (slots, slot_writer) = SlotWriter::new();
            let (classifier, writer) = Classifier::new();
            let (live, limbo, epochs) = (Vec::new(), Limbo::default(), Epochs::new());
            Self { slots, slot_writer, classifier, writer, live, limbo, epochs }
        }

        fn put(&mut self, key: &Key, mask: &Key) {
            let masked = key.masked(mask);
            if self.slot_writer.n_free() == 0 {
                assert!(self.slot_writer.grow());
            }
            let shape = self.writer.shape(mask);
            let rest = shape.rest(&masked);
            let program = Rcu::new(Box::new(Program::new(Arc::default()).unwrap()));
            let slot = self.slot_writer.fill(&masked, Head { ufid: Ufid(1), shape, rest, program }, 7);
            self.live.push(slot);
            self.writer.insert(slot, &self.slot_writer).keep(&mut self.limbo, self.epochs.advance());
        }

        fn del(&mut self, at: usize) {
            let slot = self.live.swap_remove(at);
            self.writer.remove(slot, &self.slot_writer).keep(&mut self.limbo, self.epochs.advance());
            self.slot_writer.kill(slot);
        }

        /// What a batch finds, and which packets find nothing.
        fn search(&self, keys: &[Key], guard: Guard<'_>, wide: bool) -> (Vec<Option<u32>>, u32) {
            let mut parsed: Box<[Parsed; BATCH]> = Box::new(std::array::from_fn(|_| Parsed::new()));
            for (parsed, key) in parsed.iter_mut().zip(keys) {
                parsed.key = *key;
                parsed.found.lines = Lines(3);
            }
            let live = u32::MAX >> (BATCH - keys.len());
            let mut found = Found::default();
            let (slots, parsed, found) = (&self.slots, &mut parsed, &mut found);
            let mut search = Search::new(slots, parsed, live, found, wide);
            self.classifier.lookup(&mut search, guard);
            search.found.tell();
            let left = search.live;
            let Found { each: found, groups } = found;
            for (entry, own) in groups.each().filter(|_| groups.cover(live)) {
                let theirs = found.iter().enumerate().fold(0, |set, (i, of)| set | u32::from(*of == Some(entry)) << i);
                assert_eq!(own, theirs & live);
            }
            (found[..keys.len()].iter().map(|f| f.map(Entry::number)).collect(), left)
        }

        fn check(&self, keys: &[Key], guard: Guard<'_>) {
            let plain = self.search(keys, guard, false);
            if crate::wide::on() {
                assert_eq!(self.search(keys, guard, true), plain);
            }
            for (i, key) in keys.iter().enumerate() {
                let is_of = |slot: u32| {
                    let entry = self.slot_writer.entry(slot);
                    *entry.key() == key.masked(&entry.head().shape.mask)
                };
                assert_eq!(plain.0[i].is_some(), self.live.iter().any(|slot| is_of(*slot)));
                assert!(plain.0[i].is_none_or(is_of));
                assert_eq!(plain.1 >> i & 1 == 0, plain.0[i].is_some());
            }
        }
    }

    proptest! {
        /// Both forms find what is there, whether a subtable has one megaflow, a few, or more than are near.
        #[test]
        fn both_forms_find_what_matches(
            flows in prop::collection::vec((any::<u16>(), 0u8..16), 1..60),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
            keys in prop::collection::vec(any::<u16>(), 1..=BATCH),
        ) {
            let mut world = World::new();
            let mut member = world.epochs.join().unwrap();
            member.online();
            let keys: Vec<Key> = keys.into_iter().map(key).collect();
            for (value, kind) in flows {
                world.put(&key(value), &mask(kind));
            }
            world.check(&keys, member.guard());
            for at in gone {
                if !world.live.is_empty() {
                    world.del(at.index(world.live.len()));
                    world.check(&keys, member.guard());
                }
            }
        }
    }

    /// One megaflow is found all the time while others of its mask come and go: few, one too many, few again.
    #[test]
    fn what_stays_is_found_while_others_come_and_go() {
        let mut world = World::new();
        let mask = mask(1);
        let keys: Vec<Key> = (0..6).map(key).collect();
        for key in &keys {
            world.put(key, &mask);
        }
        let World { slots, slot_writer, classifier, mut writer, live, mut limbo, epochs } = world;
        let mut member = epochs.join().unwrap();
        member.online();
        let mut parsed: Box<[Parsed; BATCH]> = Box::new(std::array::from_fn(|_| Parsed::new()));
        (parsed[0].key, parsed[0].found.lines) = (keys[3], Lines(3));
        std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                let (mut here, mut random) = ([true; 6], 7u32);
                for _ in 0..20_000 {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let at = [0, 1, 2, 4, 5][(random >> 16) as usize % 5];
                    here[at] = !here[at];
                    let (slot, slots) = (live[at], &slot_writer);
                    let removed = if here[at] { writer.insert(slot, slots) } else { writer.remove(slot, slots) };
                    removed.keep(&mut limbo, epochs.advance());
                }
            });
            while !changes.is_finished() {
                let mut found = Found::default();
                let (parsed, found, wide) = (&mut parsed, &mut found, crate::wide::on());
                let mut search = Search::new(&slots, parsed, 1, found, wide);
                classifier.lookup(&mut search, member.guard());
                found.tell();
                assert_eq!(found.each[0].map(Entry::number), Some(live[3]));
                member.quiescent();
            }
        });
    }

    /// As a worker sees it that has read the names of a table before one of them went: what stands behind the gap is found.
    #[test]
    fn one_that_is_being_removed_hides_none_beside_it() {
        let mut world = World::new();
        let mut member = world.epochs.join().unwrap();
        member.online();
        let keys: Vec<Key> = (0..4).map(key).collect();
        keys.iter().for_each(|key| world.put(key, &mask(1)));
        for (gone, left) in
            [(1, vec![true, false, true, true]), (2, vec![true, false, false, true]), (0, vec![false, false, false, true])]
        {
            world.slot_writer.kill(world.live[gone]);
            for wide in [false, crate::wide::on()] {
                let (found, _) = world.search(&keys, member.guard(), wide);
                assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), left, "{gone}");
            }
        }
    }

    proptest! {
        /// A few megaflows of any masks, some of which reach beyond the first line: a packet is the first one's that it matches.
        #[test]
        fn a_few_of_several_masks_take_what_they_match(
            keys in prop::collection::vec(0u16..512, 1..=BATCH),
            flows in prop::collection::vec((0u16..512, 0u8..16), 1..=FEW_MAX),
        ) {
            let mut world = World::new();
            let mut member = world.epochs.join().unwrap();
            member.online();
            let keys: Vec<Key> = keys.into_iter().map(key).collect();
            for (value, kind) in &flows {
                world.put(&key(*value), &mask(*kind));
            }
            let first = |of: &Key| flows.iter().position(|(value, kind)| of.equal_under(&key(*value), &mask(*kind)));
            let expected: Vec<Option<u32>> = keys.iter().map(|of| first(of).map(|at| world.live[at])).collect();
            let few = std::array::from_fn(|i| world.live.get(i).and_then(|slot| world.slots.entry(*slot, member.guard())));
            for wide in [false, crate::wide::on()] {
                let mut parsed: Box<[Parsed; BATCH]> = Box::new(std::array::from_fn(|_| Parsed::new()));
                for (parsed, key) in parsed.iter_mut().zip(&keys) {
                    (parsed.key, parsed.found.lines) = (*key, Lines(3));
                }
                let (mut found, all) = (Found::default(), u32::MAX >> (BATCH - keys.len()));
                let mut search = Search::new(&world.slots, &mut parsed, all, &mut found, wide);
                search.compare(few);
                search.found.tell();
                let live = search.live;
                let numbers: Vec<Option<u32>> = found.each[..keys.len()].iter().map(|f| f.map(Entry::number)).collect();
                prop_assert_eq!(&numbers, &expected);
                prop_assert_eq!(live, (0..keys.len()).fold(0, |set, i| set | u32::from(expected[i].is_none()) << i));
            }
        }
    }

    #[test]
    fn a_table_that_is_not_near_is_searched_alike() {
        let mut world = World::new();
        let mut member = world.epochs.join().unwrap();
        member.online();
        let mut mask = Key::ZERO;
        (mask.in_port, mask.nw_src) = ([0xff; 4], [0xff; 4]);
        let key = |i: u32| {
            let mut key = key(0);
            key.nw_src = i.to_be_bytes();
            key
        };
        for i in 0..2_000 {
            world.put(&key(i), &mask);
        }
        for first in (0..2_100).step_by(31) {
            let keys: Vec<Key> = (first..first + 31).map(key).collect();
            world.check(&keys, member.guard());
        }
    }
}
