//! The megaflow that the last whole batch of its kind belonged to, asked before the caches.
//!
//! What enters: keys of a batch. What leaves: its megaflow, if all packets are of the one that is remembered. Neighbours: `lookup` (the caller),
//! `search` (compares).
//!
//! Packets that go round again (conntrack, tunnels) mostly end in one megaflow, whatever their number of flows: comparing them with it costs
//! a few cycles, where the signature cache hashes whole keys and has an entry for each flow and round. A kind is an input port with a
//! recirculation id. Only a batch that was of one megaflow is remembered, and the first one that is not makes its kind forgotten: mixed
//! traffic pays one comparison in a batch at most.
//!
//! A number may outlive its megaflow: as in the signature cache, whether the slot is live and the comparison under the mask decide.

use crate::classifier::BATCH;
use crate::forward::Scope;
use crate::parsed::Parsed;
use crate::search::Search;
use crate::slots::{Entry, NO_SLOT};
use flow::Key;

/// Kinds that are remembered; others share their places.
const PLACES: usize = 64;

/// A forwarding thread's memo.
#[derive(Debug)]
pub(crate) struct Memo {
    slots: [u32; PLACES],
}

impl Memo {
    /// Nothing remembered.
    pub(crate) const fn new() -> Self {
        Self { slots: [NO_SLOT; PLACES] }
    }

    #[inline]
    fn place(key: &Key) -> usize {
        // Ids and ports count from one: neighbours do not meet.
        let (id, port) = (u32::from_be_bytes(key.recirc_id), u32::from_be_bytes(key.in_port));
        id.wrapping_add(port.wrapping_mul(9)) as usize % PLACES
    }

    /// Whether all packets are of the megaflow that is remembered, which is `found` then.
    #[inline]
    pub(crate) fn recall<'g>(
        &mut self,
        scope: Scope<'g>,
        (parsed, n, wide): (&mut [Parsed; BATCH], usize, bool),
        found: &mut [Option<Entry<'g>>; BATCH],
    ) -> bool {
        let at = Self::place(&parsed[0].key);
        let slots = &*scope.shared.slots;
        let Some(entry) = slots.entry(self.slots[at], scope.guard) else {
            return false;
        };
        let all = if n == BATCH { u32::MAX } else { (1 << n) - 1 };
        if entry.matches(&mut parsed[0]) {
            let mut search = Search { slots, parsed, live: all, found, searched: 0, wide, shard: None };
            search.compare(entry);
            if search.live == 0 {
                return true;
            }
        }
        self.slots[at] = NO_SLOT;
        false
    }

    /// Remembers the megaflow of a batch, if it has only one.
    #[inline]
    pub(crate) fn learn(&mut self, key: &Key, found: &[Option<Entry<'_>>]) {
        if let Some(first) = found[0]
            && found.iter().all(|f| *f == Some(first))
        {
            self.slots[Self::place(key)] = first.number();
        }
    }
}
