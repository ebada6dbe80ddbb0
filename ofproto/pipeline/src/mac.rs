//! The MAC table of a bridge: behind which bundle a (VLAN, MAC) was last seen.
//!
//! What enters: learning, as a credit of translations and megaflows; static entries by `fdb/add`. What leaves: where NORMAL sends.
//! Neighbours: `xlate::normal` looks up, `udpif` pays the credits, `slowpath` ages and shows.
//!
//! Megaflows are paid for in any order, some time after their packets, so `learn` comes with times that have passed: what was seen elsewhere since, and
//! a flush since, are newer.
//!
//! The table has a lock of its own: packets change it while the world is only read. Every change that can alter a translation (an
//! entry appears, moves or goes) is recorded in the change log as `Object::Mac`; a mere refresh is not.

use crate::bridge::BundleId;
use crate::deps::{ChangeLog, MacKey, Object};
use crate::fair::{Fairness, Stamp};
use crate::world::BridgeId;
use flow::Msec;
use flow::hash::Map;
use std::sync::{Arc, Mutex, MutexGuard};

flow::counters! {
    MAC_LEARNED = "mac_learning_learned", "MAC table entries learned";
    MAC_EXPIRED = "mac_learning_expired", "MAC table entries that aged out";
    MAC_EVICTED = "mac_learning_evicted", "MAC table entries evicted because the table was full";
    MAC_MOVED = "mac_learning_moved", "MAC table entries that moved to another port";
    MAC_STATIC_NONE_MOVE = "mac_learning_static_none_move", "packets from a static entry's address that came by another port";
}

/// How long a gratuitous ARP pins an entry against the bond's own reflections.
pub const GRATUITOUS_ARP_LOCK_MS: Msec = 5000;
/// `other_config:mac-table-size` unless set.
pub const SIZE_DEFAULT: usize = 8192;
/// `other_config:mac-aging-time` unless set.
pub const IDLE_DEFAULT_MS: Msec = 300_000;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacEntry {
    pub vlan: u16,
    pub mac: [u8; 6],
    pub bundle: BundleId,
    /// `None`: static, never ages.
    pub expires_ms: Option<Msec>,
    /// Until then only a gratuitous ARP moves it.
    pub locked_until_ms: Msec,
}

/// Totals that `fdb/stats-show` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacTotals {
    pub learned: u64,
    pub expired: u64,
    pub evicted: u64,
    pub moved: u64,
}

#[derive(Debug)]
struct Inner {
    entries: Map<(u16, [u8; 6]), MacEntry>,
    /// Who gives when the table is full.
    fair: Fairness,
    size: usize,
    idle_ms: Msec,
    /// When entries were last flushed, all of them and those of a bundle: packets from before teach no new ones.
    flushed_ms: Msec,
    flushed_bundles: Map<BundleId, Msec>,
    totals: MacTotals,
}

/// The table.
#[derive(Debug)]
pub struct MacTable {
    bridge: BridgeId,
    changes: Arc<ChangeLog>,
    inner: Mutex<Inner>,
}

impl MacTable {
    /// An empty table of a bridge; changes go into `changes`.
    #[must_use]
    pub fn new(bridge: BridgeId, changes: Arc<ChangeLog>) -> Self {
        let inner = Inner {
            entries: Map::default(),
            fair: Fairness::default(),
            size: SIZE_DEFAULT,
            idle_ms: IDLE_DEFAULT_MS,
            flushed_ms: Msec::MIN,
            flushed_bundles: Map::default(),
            totals: MacTotals::default(),
        };
        Self { bridge, changes, inner: Mutex::new(inner) }
    }

    /// Sets size and ageing time; entries beyond the size go, oldest of the fullest bundle first.
    pub fn configure(&self, size: usize, idle_ms: Msec) {
        let mut inner = self.lock();
        inner.size = size.max(1);
        let shift = idle_ms - inner.idle_ms;
        inner.idle_ms = idle_ms;
        for expires in inner.entries.values_mut().filter_map(|e| e.expires_ms.as_mut()) {
            *expires += shift;
        }
        inner.fair.shift(shift);
        while inner.entries.len() > inner.size && self.evict(&mut inner) {}
    }

    /// (entries, maximum, idle time)
    #[must_use]
    pub fn usage(&self) -> (usize, usize, Msec) {
        let inner = self.lock();
        (inner.entries.len(), inner.size, inner.idle_ms)
    }

    /// The bundle that a MAC is behind.
    #[must_use]
    pub fn lookup(&self, vlan: u16, mac: [u8; 6]) -> Option<MacEntry> {
        self.lock().entries.get(&(vlan, mac)).copied()
    }

    /// Notes that `mac` was seen behind `bundle`, the last time at `seen_ms`. Gives true when that changed the table beyond a refresh.
    pub fn learn(&self, vlan: u16, mac: [u8; 6], bundle: BundleId, gratuitous_arp_on_bond: bool, seen_ms: Msec) -> bool {
        let mut inner = self.lock();
        let stamp: Stamp = (seen_ms + inner.idle_ms, vlan, mac);
        let lock = if gratuitous_arp_on_bond { seen_ms + GRATUITOUS_ARP_LOCK_MS } else { 0 };
        let Some(entry) = inner.entries.get(&(vlan, mac)).copied() else {
            let flushed_ms = inner.flushed_bundles.get(&bundle).copied().unwrap_or(Msec::MIN).max(inner.flushed_ms);
            if seen_ms < flushed_ms {
                return false;
            }
            if inner.entries.len() >= inner.size && !self.evict(&mut inner) {
                return false;
            }
            let entry = MacEntry { vlan, mac, bundle, expires_ms: Some(stamp.0), locked_until_ms: lock };
            inner.entries.insert((vlan, mac), entry);
            inner.fair.add(bundle, stamp);
            inner.totals.learned += 1;
            MAC_LEARNED.inc();
            self.changed(vlan, mac);
            return true;
        };
        let Some(expired) = entry.expires_ms else {
            if entry.bundle != bundle {
                MAC_STATIC_NONE_MOVE.inc();
            }
            return false;
        };
        if stamp.0 < expired || !gratuitous_arp_on_bond && seen_ms < entry.locked_until_ms {
            return false;
        }
        let locked_until_ms = entry.locked_until_ms.max(lock);
        inner.entries.insert((vlan, mac), MacEntry { bundle, expires_ms: Some(stamp.0), locked_until_ms, ..entry });
        let old = (expired, vlan, mac);
        if entry.bundle == bundle {
            inner.fair.refresh(bundle, &old, stamp);
            return false;
        }
        inner.fair.remove(entry.bundle, &old);
        inner.fair.add(bundle, stamp);
        inner.totals.moved += 1;
        MAC_MOVED.inc();
        self.changed(vlan, mac);
        true
    }

    /// Adds a static entry, or makes one static.
    pub fn add_static(&self, vlan: u16, mac: [u8; 6], bundle: BundleId) -> bool {
        let mut inner = self.lock();
        if !inner.entries.contains_key(&(vlan, mac)) && inner.entries.len() >= inner.size && !self.evict(&mut inner) {
            return false;
        }
        let entry = MacEntry { vlan, mac, bundle, expires_ms: None, locked_until_ms: 0 };
        if let Some(old) = inner.entries.insert((vlan, mac), entry) {
            inner.leave(&old);
        }
        self.changed(vlan, mac);
        true
    }

    /// Removes an entry that was learned.
    pub fn unlearn(&self, vlan: u16, mac: [u8; 6]) {
        let mut inner = self.lock();
        if inner.entries.get(&(vlan, mac)).is_some_and(|e| e.expires_ms.is_some()) {
            self.take(&mut inner, (vlan, mac));
        }
    }

    /// Removes one entry.
    pub fn remove(&self, vlan: u16, mac: [u8; 6]) -> bool {
        let mut inner = self.lock();
        self.take(&mut inner, (vlan, mac)).is_some()
    }

    /// Removes all entries of a bundle that goes away, static ones too. Gives what they were.
    pub fn forget_bundle(&self, bundle: BundleId) -> Vec<(u16, [u8; 6])> {
        self.lock().flushed_bundles.remove(&bundle);
        self.retain(|e| e.bundle != bundle)
    }

    /// Removes what was learned behind a bundle; static entries stay.
    pub fn flush_bundle(&self, bundle: BundleId, now: Msec) {
        self.lock().flushed_bundles.insert(bundle, now);
        self.retain(|e| e.bundle != bundle || e.expires_ms.is_none());
    }

    /// Removes all but the static entries.
    pub fn flush(&self, now: Msec) {
        let mut inner = self.lock();
        inner.flushed_ms = now;
        inner.flushed_bundles.clear();
        drop(inner);
        self.retain(|e| e.expires_ms.is_none());
    }

    /// Removes what has aged out.
    pub fn age(&self, now: Msec) {
        let gone = self.retain(|e| e.expires_ms.is_none_or(|at| at > now)).len() as u64;
        self.lock().totals.expired += gone;
        MAC_EXPIRED.add(gone);
    }

    /// All entries, the longest unused first; static ones last.
    #[must_use]
    pub fn entries(&self) -> Vec<MacEntry> {
        let mut entries: Vec<_> = self.lock().entries.values().copied().collect();
        entries.sort_by_key(|e| (e.expires_ms.unwrap_or(Msec::MAX), e.vlan, e.mac));
        entries
    }

    /// Seconds since an entry was last seen.
    #[must_use]
    pub fn age_s(&self, entry: &MacEntry, now: Msec) -> Option<i64> {
        let idle_ms = self.lock().idle_ms;
        entry.expires_ms.map(|at| (idle_ms - (at - now)).max(0) / 1000)
    }

    /// Totals since the start or `clear_totals`.
    #[must_use]
    pub fn totals(&self) -> MacTotals {
        self.lock().totals
    }

    /// Sets the totals to zero.
    pub fn clear_totals(&self) {
        self.lock().totals = MacTotals::default();
    }

    fn retain(&self, keep: impl Fn(&MacEntry) -> bool) -> Vec<(u16, [u8; 6])> {
        let mut inner = self.lock();
        let gone: Vec<_> = inner.entries.values().filter(|e| !keep(e)).map(|e| (e.vlan, e.mac)).collect();
        for key in &gone {
            self.take(&mut inner, *key);
        }
        gone
    }

    fn take(&self, inner: &mut Inner, key: (u16, [u8; 6])) -> Option<MacEntry> {
        let entry = inner.entries.remove(&key)?;
        inner.leave(&entry);
        self.changed(entry.vlan, entry.mac);
        Some(entry)
    }

    /// Makes room for one: the oldest entry of the bundle that has most. False when all are static.
    fn evict(&self, inner: &mut Inner) -> bool {
        let Some(victim) = inner.fair.victim() else { return false };
        self.take(inner, victim);
        inner.totals.evicted += 1;
        MAC_EVICTED.inc();
        true
    }

    fn changed(&self, vlan: u16, mac: [u8; 6]) {
        self.changes.object(Object::Mac(MacKey { bridge: self.bridge, vlan, mac }));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a MAC table panics")
    }
}

impl Inner {
    fn leave(&mut self, entry: &MacEntry) {
        if let Some(expires) = entry.expires_ms {
            self.fair.remove(entry.bundle, &(expires, entry.vlan, entry.mac));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const C: [u8; 6] = [2, 0, 0, 0, 0, 3];

    fn table() -> MacTable {
        MacTable::new(BridgeId(1), Arc::default())
    }

    #[test]
    fn learns_moves_and_ages() {
        let t = table();
        assert!(t.learn(0, A, BundleId(1), false, 0));
        let first = t.changes.now();
        assert!(!t.learn(0, A, BundleId(1), false, 1000), "a refresh");
        assert_eq!(t.changes.now(), first, "is no change");
        assert!(t.learn(0, A, BundleId(2), false, 2000), "a move");
        assert!(t.changes.now() > first);
        assert_eq!(t.lookup(0, A).unwrap().bundle, BundleId(2));
        assert!(t.lookup(1, A).is_none(), "another VLAN");
        t.age(2000 + IDLE_DEFAULT_MS - 1);
        assert!(t.lookup(0, A).is_some());
        t.age(2000 + IDLE_DEFAULT_MS);
        assert!(t.lookup(0, A).is_none());
        assert_eq!(t.totals(), MacTotals { learned: 1, expired: 1, evicted: 0, moved: 1 });
    }

    #[test]
    fn the_fullest_bundle_gives() {
        let t = table();
        t.configure(2, IDLE_DEFAULT_MS);
        t.learn(0, A, BundleId(1), false, 0);
        t.learn(0, B, BundleId(1), false, 1);
        t.learn(0, C, BundleId(2), false, 2);
        assert!(t.lookup(0, A).is_none() && t.lookup(0, B).is_some() && t.lookup(0, C).is_some());
    }

    #[test]
    fn static_entries_neither_age_nor_move() {
        let t = table();
        t.add_static(5, A, BundleId(1));
        assert!(!t.learn(5, A, BundleId(2), false, 0));
        t.age(Msec::MAX);
        t.flush(0);
        assert_eq!(t.lookup(5, A).unwrap().bundle, BundleId(1));
        t.forget_bundle(BundleId(1));
        assert_eq!(t.usage().0, 0);
    }

    /// Of two megaflows, one from before a station moved and one from after, either may be paid for first.
    #[test]
    fn what_was_seen_later_counts() {
        let t = table();
        t.learn(0, A, BundleId(1), false, 1000);
        t.learn(0, A, BundleId(2), false, 3000);
        let moved = t.changes.now();
        assert!(!t.learn(0, A, BundleId(1), false, 2999), "from before it moved");
        assert!(!t.learn(0, A, BundleId(2), false, 2000), "nor is it younger for that");
        assert_eq!((t.lookup(0, A).unwrap().bundle, t.changes.now()), (BundleId(2), moved));
        t.age(3000 + IDLE_DEFAULT_MS - 1);
        assert!(t.lookup(0, A).is_some());
        assert!(t.learn(0, A, BundleId(1), false, 3001), "it moved back");
        for flush in [MacTable::flush, |t: &MacTable, now| t.flush_bundle(BundleId(1), now)] {
            let t = table();
            t.learn(0, A, BundleId(1), false, 1000);
            flush(&t, 5000);
            assert!(!t.learn(0, A, BundleId(1), false, 4999), "from before the flush");
            let of_all = t.lock().flushed_bundles.is_empty();
            assert_eq!(t.learn(0, B, BundleId(2), false, 4999), !of_all, "of one bundle it says nothing of another");
            t.remove(0, B);
            assert!(t.learn(0, A, BundleId(1), false, 5000));
        }
    }

    #[test]
    fn a_gratuitous_arp_pins_the_entry() {
        let t = table();
        t.learn(0, A, BundleId(1), true, 0);
        assert!(!t.learn(0, A, BundleId(2), false, GRATUITOUS_ARP_LOCK_MS - 1));
        assert!(t.learn(0, A, BundleId(2), false, GRATUITOUS_ARP_LOCK_MS));
    }
}
