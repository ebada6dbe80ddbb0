//! The multicast table of a bridge: behind which bundles a group is wanted, and behind which a multicast router asks (RFC 4541).
//!
//! What enters: what `parse` has read in IGMP and MLD packets, as events, with the bundle and VLAN they came by. What leaves: where
//! NORMAL sends multicast. Neighbours: `xlate::snoop` feeds it and asks, `slowpath` ages it, `commands::mdb` shows it.
//!
//! Like the MAC table it has a lock of its own and records in the change log what can alter a translation: a group's members under
//! the group's Ethernet address, routers of a VLAN under the address of zeroes (neither can stand in a MAC table).

pub mod parse;

use crate::bridge::BundleId;
use crate::config::McastConfig;
use crate::deps::{ChangeLog, MacKey, Object};
use crate::world::BridgeId;
use flow::Msec;
use flow::hash::Map;
use parse::{Event, GroupAddr};
use std::sync::{Arc, Mutex, MutexGuard};

flow::counters! {
    MCAST_LEARNED = "mcast_snooping_learned", "multicast groups and routers learned";
    MCAST_EXPIRED = "mcast_snooping_expired", "multicast group members and routers that aged out";
    MCAST_EVICTED = "mcast_snooping_evicted", "multicast groups evicted because the table was full";
}

/// A router that has not asked for so long is one no more.
const ROUTER_IDLE_MS: Msec = 180_000;
/// Routers of a bridge; a bundle is one per VLAN.
pub const ROUTERS_MAX: usize = 4096;

/// Somebody behind a bundle wants a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    bundle: BundleId,
    expires_ms: Msec,
}

#[derive(Debug)]
struct Group {
    /// The one that has not been refreshed for longest first.
    members: Vec<Member>,
    /// When it was last refreshed, in the order of refreshments.
    touched: u64,
}

#[derive(Clone, Copy, Debug)]
struct Router {
    vlan: u16,
    bundle: BundleId,
    expires_ms: Msec,
}

#[derive(Debug)]
struct Inner {
    config: McastConfig,
    groups: Map<(u16, GroupAddr), Group>,
    routers: Vec<Router>,
    touches: u64,
}

/// A line of `mdb/show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub bundle: BundleId,
    pub vlan: u16,
    /// `None`: a router.
    pub group: Option<GroupAddr>,
    pub age_s: i64,
}

/// What kind of port an event came by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source {
    /// `mcast-snooping-flood-reports`: many hosts may be behind it, so one that leaves says nothing of the others.
    pub floods_reports: bool,
}

/// The table.
#[derive(Debug)]
pub struct McastTable {
    bridge: BridgeId,
    changes: Arc<ChangeLog>,
    inner: Mutex<Inner>,
}

impl McastTable {
    /// An empty table of a bridge; changes go into `changes`.
    #[must_use]
    pub fn new(bridge: BridgeId, changes: Arc<ChangeLog>, config: McastConfig) -> Self {
        let inner = Inner { config: usable(config), groups: Map::default(), routers: Vec::new(), touches: 0 };
        Self { bridge, changes, inner: Mutex::new(inner) }
    }

    /// Takes up size and ageing time; members are as old as they were.
    pub fn configure(&self, config: McastConfig) {
        let mut inner = self.lock();
        let config = usable(config);
        let shift = idle_ms(&config) - idle_ms(&inner.config);
        inner.config = config;
        inner.groups.values_mut().flat_map(|g| &mut g.members).for_each(|m| m.expires_ms += shift);
        while inner.groups.len() > inner.config.table_size {
            self.evict(&mut inner);
        }
    }

    /// Whether multicast that nobody has asked for goes everywhere.
    #[must_use]
    pub fn floods_unregistered(&self) -> bool {
        self.lock().config.flood_unregistered
    }

    /// The bundles behind which a group is wanted; `None` when it is unknown.
    #[must_use]
    pub fn members(&self, vlan: u16, group: GroupAddr) -> Option<Vec<BundleId>> {
        self.lock().groups.get(&(vlan, group)).map(|g| g.members.iter().map(|m| m.bundle).collect())
    }

    /// Routers: VLAN and bundle.
    #[must_use]
    pub fn routers(&self) -> Vec<(u16, BundleId)> {
        self.lock().routers.iter().map(|r| (r.vlan, r.bundle)).collect()
    }

    /// What translation depends on when it asks for a group's members.
    #[must_use]
    pub fn group_object(&self, vlan: u16, group: GroupAddr) -> Object {
        Object::Mac(MacKey { bridge: self.bridge, vlan, mac: group.ethernet() })
    }

    /// What translation depends on when it asks for the routers of a VLAN.
    #[must_use]
    pub fn routers_object(&self, vlan: u16) -> Object {
        Object::Mac(MacKey { bridge: self.bridge, vlan, mac: [0; 6] })
    }

    /// Takes up what a packet from `bundle` said. Says whether that told anything new.
    pub fn learn(&self, event: Event, vlan: u16, bundle: BundleId, source: Source, now: Msec) -> bool {
        let mut inner = self.lock();
        match event {
            Event::Join(group) => self.join(&mut inner, vlan, group, bundle, now),
            Event::Leave(_) if source.floods_reports => false,
            Event::Leave(group) => self.leave(&mut inner, vlan, group, bundle),
            Event::Query => self.add_router(&mut inner, vlan, bundle, now),
        }
    }

    fn join(&self, inner: &mut Inner, vlan: u16, group: GroupAddr, bundle: BundleId, now: Msec) -> bool {
        // Where a router is, everything goes anyway.
        if inner.routers.iter().any(|r| r.vlan == vlan && r.bundle == bundle) {
            return false;
        }
        let is_new = !inner.groups.contains_key(&(vlan, group));
        if is_new && inner.groups.len() >= inner.config.table_size {
            self.evict(inner);
        }
        inner.touches += 1;
        let (touched, expires_ms) = (inner.touches, now + idle_ms(&inner.config));
        let entry = inner.groups.entry((vlan, group)).or_insert_with(|| Group { members: Vec::new(), touched });
        entry.touched = touched;
        let known = entry.members.iter().position(|m| m.bundle == bundle);
        if let Some(at) = known {
            entry.members.remove(at);
        }
        entry.members.push(Member { bundle, expires_ms });
        if known.is_none() {
            self.changes.object(self.group_object(vlan, group));
        }
        if is_new {
            MCAST_LEARNED.inc();
        }
        is_new
    }

    fn leave(&self, inner: &mut Inner, vlan: u16, group: GroupAddr, bundle: BundleId) -> bool {
        let gone = self.drop_members(inner, |at, m| at == (vlan, group) && m.bundle == bundle);
        gone > 0
    }

    fn add_router(&self, inner: &mut Inner, vlan: u16, bundle: BundleId, now: Msec) -> bool {
        let known = inner.routers.iter().position(|r| r.vlan == vlan && r.bundle == bundle);
        if known.is_none() && inner.routers.len() >= ROUTERS_MAX {
            return false;
        }
        if let Some(at) = known {
            inner.routers.remove(at);
        }
        inner.routers.push(Router { vlan, bundle, expires_ms: now + ROUTER_IDLE_MS });
        if known.is_none() {
            MCAST_LEARNED.inc();
            self.changes.object(self.routers_object(vlan));
        }
        known.is_none()
    }

    /// Forgets all of a bundle that goes away or gets other VLANs.
    pub fn forget_bundle(&self, bundle: BundleId) {
        let mut inner = self.lock();
        self.drop_members(&mut inner, |_, m| m.bundle == bundle);
        self.drop_routers(&mut inner, |r| r.bundle == bundle);
    }

    /// Forgets everything.
    pub fn flush(&self) {
        let mut inner = self.lock();
        self.drop_members(&mut inner, |_, _| true);
        self.drop_routers(&mut inner, |_| true);
    }

    /// Removes what has aged out.
    pub fn age(&self, now: Msec) {
        let mut inner = self.lock();
        let members = self.drop_members(&mut inner, |_, m| m.expires_ms <= now);
        let routers = self.drop_routers(&mut inner, |r| r.expires_ms <= now);
        MCAST_EXPIRED.add((members + routers) as u64);
    }

    /// Everything: groups in the order of their last refreshment, then routers.
    #[must_use]
    pub fn shown(&self, now: Msec) -> Vec<Shown> {
        let inner = self.lock();
        let idle = idle_ms(&inner.config);
        let mut groups: Vec<_> = inner.groups.iter().collect();
        groups.sort_by_key(|(_, g)| g.touched);
        let age_s = |idle: Msec, expires: Msec| (idle - (expires - now)) / 1000;
        let of_groups = groups.into_iter().flat_map(|((vlan, group), g)| {
            g.members.iter().map(|m| Shown {
                bundle: m.bundle,
                vlan: *vlan,
                group: Some(*group),
                age_s: age_s(idle, m.expires_ms),
            })
        });
        let of_routers = inner.routers.iter().map(|r| Shown {
            bundle: r.bundle,
            vlan: r.vlan,
            group: None,
            age_s: age_s(ROUTER_IDLE_MS, r.expires_ms),
        });
        of_groups.chain(of_routers).collect()
    }

    fn evict(&self, inner: &mut Inner) {
        let oldest = inner.groups.iter().min_by_key(|(_, g)| g.touched).map(|(key, _)| *key);
        if let Some(key) = oldest {
            inner.groups.remove(&key);
            MCAST_EVICTED.inc();
            self.changes.object(self.group_object(key.0, key.1));
        }
    }

    /// Drops members; a group without any goes. Gives how many went.
    fn drop_members(&self, inner: &mut Inner, gone: impl Fn((u16, GroupAddr), &Member) -> bool) -> usize {
        let mut count = 0;
        inner.groups.retain(|key, group| {
            let before = group.members.len();
            group.members.retain(|m| !gone(*key, m));
            if group.members.len() != before {
                count += before - group.members.len();
                self.changes.object(self.group_object(key.0, key.1));
            }
            !group.members.is_empty()
        });
        count
    }

    fn drop_routers(&self, inner: &mut Inner, gone: impl Fn(&Router) -> bool) -> usize {
        let before = inner.routers.len();
        inner.routers.retain(|r| {
            let goes = gone(r);
            if goes {
                self.changes.object(self.routers_object(r.vlan));
            }
            !goes
        });
        before - inner.routers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a multicast table panics")
    }
}

/// Zero stands for the defaults.
fn usable(config: McastConfig) -> McastConfig {
    McastConfig {
        table_size: if config.table_size == 0 { 2048 } else { config.table_size },
        aging_s: if config.aging_s == 0 { 300 } else { config.aging_s.clamp(15, 3600) },
        ..config
    }
}

fn idle_ms(config: &McastConfig) -> Msec {
    Msec::from(config.aging_s) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: GroupAddr = GroupAddr::v4([239, 1, 1, 1]);
    const P1: BundleId = BundleId(1);
    const P2: BundleId = BundleId(2);

    fn table(size: usize) -> McastTable {
        let config = McastConfig { table_size: size, aging_s: 0, flood_unregistered: true };
        McastTable::new(BridgeId(1), Arc::default(), config)
    }

    fn learn(t: &McastTable, event: Event, bundle: BundleId, now: Msec) -> bool {
        t.learn(event, 5, bundle, Source::default(), now)
    }

    #[test]
    fn members_come_leave_and_age() {
        let t = table(0);
        assert!(learn(&t, Event::Join(G), P1, 0));
        assert!(!learn(&t, Event::Join(G), P2, 1000), "the group is known");
        let seen = t.changes.now();
        learn(&t, Event::Join(G), P1, 2000);
        assert_eq!(t.changes.now(), seen, "a refresh is no change");
        assert_eq!(t.members(5, G), Some(vec![P2, P1]));
        assert_eq!(t.members(6, G), None, "another VLAN");
        assert!(learn(&t, Event::Leave(G), P2, 2000) && t.changes.now() > seen);
        t.age(301_999);
        assert!(t.members(5, G).is_some());
        t.age(302_000);
        assert_eq!(t.members(5, G), None);
    }

    #[test]
    fn a_router_takes_no_membership_and_ages_by_itself() {
        let t = table(0);
        assert!(learn(&t, Event::Query, P1, 0) && !learn(&t, Event::Query, P1, 10_000));
        assert!(!learn(&t, Event::Join(G), P1, 0));
        assert_eq!((t.routers(), t.members(5, G)), (vec![(5, P1)], None));
        assert_eq!(t.shown(11_000), [Shown { bundle: P1, vlan: 5, group: None, age_s: 1 }]);
        t.age(190_000);
        assert!(t.routers().is_empty());
    }

    #[test]
    fn the_group_that_was_refreshed_longest_ago_gives() {
        let t = table(2);
        let other = |n| GroupAddr::v4([239, 1, 1, n]);
        for (n, now) in [(1, 0), (2, 1), (1, 2), (3, 3)] {
            learn(&t, Event::Join(other(n)), P1, now);
        }
        assert!(t.members(5, other(2)).is_none() && t.members(5, other(1)).is_some());
    }

    #[test]
    fn one_host_that_leaves_does_not_speak_for_a_port_with_many() {
        let t = table(0);
        learn(&t, Event::Join(G), P1, 0);
        assert!(!t.learn(Event::Leave(G), 5, P1, Source { floods_reports: true }, 0));
        assert!(t.members(5, G).is_some());
        t.forget_bundle(P1);
        assert!(t.members(5, G).is_none());
    }
}
