//! What is known of our rules in the tables of devices: each stands at a place of its own, whose number is the filter's handle.
//!
//! What enters: rules that were installed and removed. What leaves: where a rule is, which one a filter is. Neighbour: `client`.
//!
//! A dump of many thousand rules is read by the handles that it shows: no hashing, no look at the rest of the rule.

use super::client::cookie;
use super::news::Heard;
use super::preferences::{Masks, Preferences};
use super::{FilterId, Hook};
use flow::hash::{Map, Set};
use flow::{DpPort, Ufid};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Handles that are left to somebody else; beyond, the first is tried again.
const PASSED_OVER_MAX: usize = 1_024;

/// A rule of ours in a table.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) ufid: Ufid,
    pub(super) id: FilterId,
    pub(super) port: DpPort,
    pub(super) masks: Masks,
    /// The number of the look that has seen it last.
    seen: u32,
}

/// Where a rule is to stand. Its handle and its preference are taken until it is added or given back.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: FilterId,
    pub(super) port: DpPort,
    masks: Masks,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// The rule with handle n stands at n - 1.
    slots: Vec<Option<Installed>>,
    free: Vec<u32>,
    /// Those where somebody else's filter was in the way.
    passed_over: VecDeque<u32>,
    at: Map<Ufid, u32>,
    pub(super) preferences: Preferences,
    sequence: u32,
    pub(super) dirty: Set<DpPort>,
    look: u32,
    /// Meters that have an action of ours, with the packets that it has dropped: the kernel counts them in 32 bits.
    pub(super) meters: Map<u32, u64>,
    /// What others did, and nobody has asked for yet.
    pub(super) heard: Heard,
}

impl Table {
    /// So many sequence numbers in a row; the first.
    pub(super) fn sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        first
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// The rule of a megaflow.
    pub(super) fn get(&self, ufid: Ufid) -> Option<&Installed> {
        self.slots.get(*self.at.get(&ufid)? as usize)?.as_ref()
    }

    /// The rule that a filter is.
    pub(super) fn find(&self, id: FilterId) -> Option<&Installed> {
        let slot = self.slots.get(id.handle.checked_sub(1)? as usize)?.as_ref();
        slot.filter(|installed| installed.id == id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Installed> {
        self.slots.iter().flatten()
    }

    /// A place for a rule with these masks; `None` if all preferences of the range are taken.
    pub(super) fn place(&mut self, chain: u32, port: DpPort, masks: Masks, range: RangeInclusive<u16>) -> Option<Place> {
        let (hook, prio) = (masks.hook(), self.preferences.take(&masks, range)?);
        let id = FilterId { hook, chain, prio, handle: self.handle(), protocol: masks.protocol() };
        Some(Place { id, port, masks })
    }

    fn handle(&mut self) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("memory ends before handles do")
        });
        slot + 1
    }

    /// Somebody else's filter has the handle: the place gets another.
    pub(super) fn pass_over(&mut self, place: &mut Place) {
        self.passed_over.push_back(place.id.handle - 1);
        place.id.handle = self.handle();
        if self.passed_over.len() > PASSED_OVER_MAX {
            self.free.extend(self.passed_over.pop_front());
        }
    }

    /// The rule is there.
    pub(super) fn add(&mut self, ufid: Ufid, place: Place) {
        // One whose removal failed is forgotten here; its port is dirty, and a sweep will find it.
        self.take(ufid);
        let Place { id, port, masks } = place;
        let slot = id.handle - 1;
        self.at.insert(ufid, slot);
        self.slots[slot as usize] = Some(Installed { ufid, id, port, masks, seen: self.look });
    }

    /// The rule is not there after all.
    pub(super) fn give_back(&mut self, place: &Place) {
        self.preferences.give(&place.masks);
        self.free.push(place.id.handle - 1);
    }

    /// The rule is gone.
    pub(super) fn take(&mut self, ufid: Ufid) {
        let Some(slot) = self.at.remove(&ufid) else { return };
        if let Some(installed) = self.slots[slot as usize].take() {
            self.preferences.give(&installed.masks);
        }
        self.free.push(slot);
    }

    /// A look at counters begins.
    pub(super) fn begin_look(&mut self) {
        self.look = self.look.wrapping_add(1);
    }

    /// The look has seen a filter with a cookie; whose it is, the first time. One with another cookie is somebody else's in its place.
    pub(super) fn see(&mut self, id: FilterId, mark: &[u8]) -> Option<Ufid> {
        let slot = self.slots.get_mut(id.handle.checked_sub(1)? as usize)?.as_mut();
        let same = |i: &&mut Installed| i.id == id && i.seen != self.look && cookie(i.ufid) == *mark;
        let installed = slot.filter(same)?;
        installed.seen = self.look;
        Some(installed.ufid)
    }

    /// Rules of some hooks that the look has not seen.
    pub(super) fn unseen<'a>(&'a self, hooks: &'a Set<Hook>) -> impl Iterator<Item = Ufid> + 'a {
        self.all().filter(|i| i.seen != self.look && hooks.contains(&i.id.hook)).map(|i| i.ufid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Link, Rule};
    use crate::tc::preferences::HIGH;
    use flow::key::Key;

    fn place(table: &mut Table, port: u32) -> Place {
        let rule = Rule {
            port: DpPort(port),
            chain: 0,
            link: Link { tags: [None, None], eth_type: 0x0800 },
            items: Vec::new(),
            fragment: None,
            ct_state: None,
            tunnel: None,
            acts: Vec::new(),
            nought: Box::new(Key::ZERO),
        };
        let hook = Hook::Ingress { ifindex: port };
        table.place(0, DpPort(port), Masks::of(hook, &rule), HIGH).expect("preferences are left")
    }

    #[test]
    fn handles_are_places_and_are_used_again() {
        let mut table = Table::default();
        let places: Vec<Place> = (0..3).map(|_| place(&mut table, 1)).collect();
        assert_eq!(places.iter().map(|p| p.id.handle).collect::<Vec<_>>(), [1, 2, 3]);
        let [one, two, three] = [&places[0], &places[1], &places[2]];
        table.add(Ufid(11), one.clone());
        table.give_back(two);
        table.add(Ufid(13), three.clone());
        assert_eq!((table.len(), place(&mut table, 1).id.handle), (2, 2));
        assert_eq!(table.find(one.id).map(|i| i.ufid), Some(Ufid(11)));
        assert!(table.find(FilterId { prio: 9, ..one.id }).is_none(), "the same handle, and another filter");
        assert!(table.find(FilterId { handle: 0, ..one.id }).is_none() && table.find(two.id).is_none());
        table.take(Ufid(11));
        table.take(Ufid(11));
        assert_eq!((table.get(Ufid(11)).is_none(), place(&mut table, 1).id.handle, place(&mut table, 1).id.handle), (true, 1, 4));
    }

    #[test]
    fn a_handle_that_somebody_has_is_left_to_him_for_a_while() {
        let mut table = Table::default();
        let mut one = place(&mut table, 1);
        for handle in 1..=u32::try_from(PASSED_OVER_MAX).expect("few") {
            assert_eq!(one.id.handle, handle);
            table.pass_over(&mut one);
        }
        table.add(Ufid(11), one.clone());
        assert_eq!(table.find(one.id).map(|i| i.ufid), Some(Ufid(11)));
        let mut two = place(&mut table, 1);
        table.pass_over(&mut two);
        assert_eq!(
            (two.id.handle as usize, place(&mut table, 1).id.handle),
            (PASSED_OVER_MAX + 3, 1),
            "the first is tried again"
        );
    }

    #[test]
    fn a_look_sees_each_once_and_tells_what_it_missed() {
        let mut table = Table::default();
        let places: Vec<Place> = [1, 1, 2].map(|port| place(&mut table, port)).to_vec();
        for (n, place) in (1..).zip(&places) {
            table.add(Ufid(n), place.clone());
        }
        table.begin_look();
        let see = |table: &mut Table, n: usize| table.see(places[n].id, &cookie(Ufid(n as u128 + 1)));
        assert_eq!((see(&mut table, 0), see(&mut table, 0)), (Some(Ufid(1)), None));
        assert_eq!(table.see(places[1].id, b"somebody"), None, "another filter in its place");
        let hooks: Set<Hook> = std::iter::once(places[0].id.hook).collect();
        assert_eq!(table.unseen(&hooks).collect::<Vec<_>>(), [Ufid(2)], "the third's hook was not looked at");
        table.begin_look();
        assert_eq!(see(&mut table, 0), Some(Ufid(1)));
    }
}
