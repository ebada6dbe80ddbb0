//! The few megaflows that the last batches of a kind belonged to, asked before the caches.
//!
//! What enters: keys of a batch. What leaves: its megaflows, if all packets are of those that are remembered. Neighbours: `lookup` and
//! `execute` (the callers), `search` (compares).
//!
//! Packets that go round again (conntrack, tunnels) mostly end in one megaflow or a few, whatever their number of flows: comparing them with
//! those costs a few cycles, where the signature cache hashes whole keys and has an entry for each flow and round. A kind is an input port with
//! a recirculation id. Only what a batch of few megaflows was of is remembered, and the first batch of many makes its kind forgotten: mixed
//! traffic pays for a few comparisons in a batch at most.
//!
//! A number may outlive its megaflow: as in the signature cache, whether the slot is live and the comparison under the mask decide.

use crate::classifier::BATCH;
use crate::forward::Scope;
use crate::groups::{Found, GROUPS_MAX};
use crate::parsed::Parsed;
use crate::search::{Search, all_of};
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
}

impl Memo {
    /// Nothing remembered.
    pub(crate) const fn new() -> Self {
        Self { slots: [[NO_SLOT; FEW]; PLACES] }
    }

    #[inline]
    fn place(key: &Key) -> usize {
        Self::place_of(key.in_port, u32::from_be_bytes(key.recirc_id))
    }

    #[inline]
    fn place_of(in_port: [u8; 4], id: u32) -> usize {
        // Ids and ports count from one: neighbours do not meet.
        id.wrapping_add(u32::from_be_bytes(in_port).wrapping_mul(9)) as usize % PLACES
    }

    /// The megaflows that are remembered for packets of a port that go round under `id`. They may be of another kind.
    #[inline]
    pub(crate) fn known<'g>(&self, scope: Scope<'g>, in_port: [u8; 4], id: u32) -> impl Iterator<Item = Entry<'g>> {
        self.slots[Self::place_of(in_port, id)]
            .into_iter()
            .filter_map(move |number| scope.shared.slots.entry(number, scope.guard))
    }

    /// Whether all packets are of the megaflows that are remembered, which are in `found` then. Otherwise nothing is there of use, and `learn` is to be told
    /// what the batch was of.
    #[inline]
    pub(crate) fn recall<'g>(
        &self,
        scope: Scope<'g>,
        (parsed, n, wide): (&mut [Parsed; BATCH], usize, bool),
        found: &mut Found<'g>,
    ) -> bool {
        let slots = &*scope.shared.slots;
        // Those that live: the first ones, without gaps again.
        let mut known = [None; FEW];
        let numbers = self.slots[Self::place(&parsed[0].key)].iter();
        for (known, entry) in known.iter_mut().zip(numbers.filter_map(|number| slots.entry(*number, scope.guard))) {
            *known = Some(entry);
        }
        if !known.iter().flatten().any(|entry: &Entry<'g>| entry.matches(&mut parsed[0])) {
            return false;
        }
        let all = all_of(n);
        Search::new(slots, parsed, all, found, wide).compare(known);
        let is_whole = found.groups.cover(all);
        if !is_whole {
            found.groups.clear();
        }
        is_whole
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
