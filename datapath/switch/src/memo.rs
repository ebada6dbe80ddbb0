//! The few megaflows that the last batches of a kind belonged to, asked before the caches.
//!
//! What enters: keys of a batch. What leaves: its megaflows, if all packets are of those that are remembered. Neighbours: `lookup` (the caller),
//! `search` (compares).
//!
//! Packets that go round again (conntrack, tunnels) mostly end in one megaflow or a few, whatever their number of flows: comparing them with
//! those costs a few cycles, where the signature cache hashes whole keys and has an entry for each flow and round. A kind is an input port with
//! a recirculation id. Only what a batch of few megaflows was of is remembered, and the first batch of many makes its kind forgotten: mixed
//! traffic pays for a few comparisons in a batch at most.
//!
//! A batch of one megaflow is compared with that alone. Where the last batch of the kind was of several, each packet is compared with the one that it
//! can be (`few`), which does not depend on how many there are.
//!
//! A number may outlive its megaflow: as in the signature cache, whether the slot is live and the comparison under the mask decide.

use crate::classifier::{BATCH, FEW_MAX};
use crate::forward::Scope;
use crate::groups::{GROUPS_MAX, Groups};
use crate::parsed::Parsed;
use crate::search::Search;
use crate::slots::{Entry, NO_SLOT};
use flow::Key;

/// Kinds that are remembered; others share their places.
const PLACES: usize = 64;

/// Megaflows that are remembered for a kind.
const FEW: usize = GROUPS_MAX;

/// A forwarding thread's memo.
#[derive(Debug)]
pub(crate) struct Memo {
    /// The last ones first, without gaps.
    slots: [[u32; FEW]; PLACES],
    /// The last batch of the kind was of several.
    mixed: [bool; PLACES],
}

const _: () = assert!(FEW == FEW_MAX);

impl Memo {
    /// Nothing remembered.
    pub(crate) const fn new() -> Self {
        Self { slots: [[NO_SLOT; FEW]; PLACES], mixed: [false; PLACES] }
    }

    #[inline]
    fn place(key: &Key) -> usize {
        // Ids and ports count from one: neighbours do not meet.
        let (id, port) = (u32::from_be_bytes(key.recirc_id), u32::from_be_bytes(key.in_port));
        id.wrapping_add(port.wrapping_mul(9)) as usize % PLACES
    }

    /// The megaflows that are remembered, if all packets are of these, which are `found` then. Otherwise something else may have been found, and
    /// `learn` is to be told what the batch was of.
    #[inline]
    pub(crate) fn recall<'g>(
        &mut self,
        scope: Scope<'g>,
        (parsed, n, wide): (&mut [Parsed; BATCH], usize, bool),
        found: &mut [Option<Entry<'g>>; BATCH],
    ) -> Option<Groups<'g>> {
        let slots = &*scope.shared.slots;
        let place = Self::place(&parsed[0].key);
        let mut known = [None; FEW];
        let live = self.slots[place].iter().filter_map(|number| slots.entry(*number, scope.guard));
        known.iter_mut().zip(live).for_each(|(to, entry)| *to = Some(entry));
        let first = known.iter().copied().flatten().find(|entry| entry.matches(&mut parsed[0]))?;
        let all = if n == BATCH { u32::MAX } else { (1 << n) - 1 };
        let mut search = Search::new(slots, parsed, all, found, wide);
        let one = !self.mixed[place] || known[1].is_none();
        if one {
            search.compare(first);
        }
        if search.live != 0 && known.iter().flatten().all(|entry| entry.is_short()) {
            search.compare_few(known);
        } else {
            for entry in known.into_iter().flatten().filter(|entry| !one || *entry != first) {
                if search.live == 0 {
                    break;
                }
                search.compare(entry);
            }
        }
        self.mixed[place] = search.groups.only().is_none();
        if search.live == 0 { search.groups.covering(all) } else { None }
    }

    /// Remembers the megaflows of a batch that was not recalled, if they are few, before those that were remembered; forgets all if not.
    #[inline]
    pub(crate) fn learn(&mut self, key: &Key, found: &[Option<Entry<'_>>]) {
        let known = &mut self.slots[Self::place(key)];
        let mut few = [NO_SLOT; FEW];
        let mut n = 0;
        let seen = found.iter().map(|entry| entry.map_or(NO_SLOT, Entry::number));
        for number in seen {
            if number == NO_SLOT || !few.contains(&number) {
                if number == NO_SLOT || n == FEW {
                    *known = [NO_SLOT; FEW];
                    return;
                }
                few[n] = number;
                n += 1;
            }
        }
        for number in *known {
            if n < FEW && !few.contains(&number) {
                few[n] = number;
                n += 1;
            }
        }
        *known = few;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Shared;
    use crate::search::bits;
    use crate::search::tests::{World, key, mask};
    use flow::key::Lines;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch(keys: &[Key]) -> Box<[Parsed; BATCH]> {
        let mut parsed: Box<[Parsed; BATCH]> = Box::new(std::array::from_fn(|_| Parsed::new()));
        for (parsed, key) in parsed.iter_mut().zip(keys) {
            parsed.key = *key;
            parsed.found.lines = Lines(3);
        }
        parsed
    }

    proptest! {
        /// Whatever is remembered, a packet is recalled as of a megaflow that it is of; and a batch of few, all learned, is recalled. Megaflows of one
        /// mask or of several, some of them removed meanwhile.
        #[test]
        fn what_is_recalled_matches(
            flows in prop::collection::vec((0u16..0x400, prop_oneof![0u8..4, 0u8..16]), 1..6),
            batches in prop::collection::vec((prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.02)), 1..=BATCH), any::<bool>()), 1..12),
            gone in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut world = World::new();
            let mut member = world.epochs.join().unwrap();
            member.online();
            let keys: Vec<Key> = flows.iter().map(|(value, _)| key(*value)).collect();
            for ((value, kind), i) in flows.iter().zip(0..) {
                let (of, bits) = (key(*value), mask(*kind));
                let known = flows[..i].iter().any(|(v, k)| mask(*k) == bits && key(*v).masked(&bits) == of.masked(&bits));
                if !known {
                    world.put(&of, &bits);
                }
            }
            let shared = Shared::new(Arc::clone(&world.slots), Arc::clone(&world.classifier));
            let mut memos = [Memo::new(), Memo::new()];
            for (number, (picks, learned)) in batches.iter().enumerate() {
                if let Some(gone) = gone.filter(|_| number == 6 && world.live.len() > 1) {
                    world.del(gone.index(world.live.len()));
                }
                let scope = Scope { shared: &shared, guard: member.guard() };
                let keys: Vec<Key> = picks.iter().map(|(i, odd)| if *odd { key(0xffff) } else { keys[i.index(keys.len())] }).collect();
                let (n, all) = (keys.len(), u32::MAX >> (BATCH - keys.len()));
                for (memo, wide) in memos.iter_mut().zip([false, crate::wide::on()]) {
                    let (mut parsed, mut found) = (batch(&keys), [None; BATCH]);
                    let mut search = Search::new(&world.slots, &mut parsed, all, &mut found, wide);
                    world.classifier.lookup(&mut search, scope.guard);
                    let complete = search.live == 0;
                    let numbers = found[..n].iter().flatten().map(|entry| entry.number());
                    let few = complete && numbers.collect::<std::collections::BTreeSet<_>>().len() <= FEW;
                    if *learned {
                        memo.learn(&parsed[0].key, &found[..n]);
                    }
                    let mut recalled = [None; BATCH];
                    let groups = memo.recall(scope, (&mut parsed, n, wide), &mut recalled);
                    prop_assert!(groups.is_some() || !(*learned && few));
                    let Some(groups) = groups else { continue };
                    prop_assert_eq!(groups.each().fold(0, |sum, (_, own)| sum | own), all);
                    prop_assert_eq!(groups.each().map(|(_, own)| own.count_ones()).sum::<u32>(), all.count_ones());
                    for (entry, own) in groups.each() {
                        for i in bits(own) {
                            prop_assert_eq!(recalled[i], Some(entry));
                            prop_assert!(*entry.key() == keys[i].masked(&entry.head().shape.mask));
                        }
                    }
                }
            }
        }
    }
}
