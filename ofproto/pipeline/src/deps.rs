//! What a translation consulted, what has changed since, and which megaflows a change can therefore concern.
//!
//! What enters: `Deps`, written by translation; `Change`s, recorded by whoever changes a table, port, group or MAC entry. What
//! leaves: `Changes::concern`, by which revalidation and `settle` choose the megaflows to look at again. Neighbours: `xlate`
//! fills `Deps`, `flow_mod`, `group`, `mac` and `slowpath` record into `ChangeLog`, `udpif` asks.
//!
//! # Why this is safe
//!
//! The safe direction is to name too many megaflows: they are only translated again for nothing. A megaflow that is left out
//! although a change altered its translation forwards wrongly, and a barrier would lie. Three properties carry the argument:
//!
//! - A translation under revision R is a function of the packet's unmasked bits and the objects in its `Deps`, as of R. An object
//!   is in `Deps` when it was *looked at*, also when it was absent (a MAC that is not known, a group that does not exist, a table
//!   without a match).
//! - A rule change reaches a megaflow only if its table was consulted, if the rule's priority is at least that of the rule that
//!   won there (a lower one cannot have decided, and cannot decide now), and if the rule's match and the megaflow have a packet in
//!   common. The last is judged only by words that the pipeline had not altered when it consulted the table (`TableDep::known`),
//!   and only by bits that the megaflow matches: what is unknown counts as common.
//! - Revisions only grow, a change is recorded *before* the lock under which it was made is released, and the log never forgets a
//!   change that some megaflow has not been checked against: asked about a revision older than it remembers it answers "everything".

use crate::bridge::BundleId;
use crate::world::BridgeId;
use flow::hash::{Map, Set};
use flow::seam::DpPort;
use flow::{Key, Mask};
use openflow::{GroupId, OfPort, TableId};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Rule changes kept one by one per table; beyond it the whole table counts as changed.
pub const RULE_CHANGES_MAX: usize = 64;
/// Words of a key by which a rule change is judged: lines 0 to 4. Tunnel options and registers always count as unknown.
pub const JUDGED_WORDS: usize = 40;

/// A point in the history of changes. Larger is later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Revision(pub u64);

/// A (VLAN, MAC) of a bridge's MAC table, present or absent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MacKey {
    pub bridge: BridgeId,
    pub vlan: u16,
    pub mac: [u8; 6],
}

/// An object whose change is known as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Object {
    /// All of a table's rules, or its configuration.
    Table(BridgeId, TableId),
    /// One port: its existence, state, configuration bits, bundle, peer.
    Port(BridgeId, OfPort),
    /// Which member of a bond a packet leaves by, and whether it comes in.
    Bundle(BridgeId, BundleId),
    /// The set of ports and bundles of a bridge (flooding, ALL).
    Ports(BridgeId),
    Group(BridgeId, GroupId),
    Mac(MacKey),
    /// The bridge's own settings: fragment mode, forward-bpdu, mirrors, TLV map.
    Bridge(BridgeId),
    /// Meters of a bridge (whether a number exists).
    Meters(BridgeId),
    /// A question to the router, by the number that it has there.
    Route(u32),
    /// What the router could not remember one by one.
    Routes,
    /// A neighbour of tunnels, known or not: its address (IPv4 ones mapped).
    Neighbour([u8; 16]),
    /// Which tunnel ports stand on a datapath port, and what they want.
    Tunnels(DpPort),
    /// Local addresses, and the ports that take encapsulated packets off the pipeline.
    Listening,
    /// Anything at all: the configuration of translation itself.
    Everything,
}

/// A table that a translation looked something up in.
#[derive(Clone, Debug, PartialEq)]
pub struct TableDep {
    pub bridge: BridgeId,
    pub table: TableId,
    /// Lowest priority that won there; -1 for a miss, and when a conjunction took part in the decision.
    pub min_priority: i32,
    /// `in_port` of the lookups, `None` when they differ.
    pub in_port: Option<OfPort>,
    /// Words of lines 0-4 that were as in the packet in each lookup.
    known: u64,
}

/// All that a translation consulted. Small; kept per megaflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deps {
    tables: SmallVec<[TableDep; 2]>,
    objects: SmallVec<[Object; 4]>,
}

impl Deps {
    /// Records a lookup in a table. `hit_priority` is that of the winning rule, `None` for a miss or when a conjunction decided;
    /// `at_lookup` is the key looked up, `initial` the key that translation began with (both with OpenFlow's `in_port`).
    pub fn table(&mut self, bridge: BridgeId, table: TableId, hit_priority: Option<i32>, at_lookup: &Key, initial: &Key) {
        let min_priority = hit_priority.unwrap_or(-1);
        let in_port = OfPort::from_key(at_lookup.in_port);
        let known = equal_words(at_lookup, initial);
        match self.tables.iter_mut().find(|d| d.table == table && d.bridge == bridge) {
            Some(d) => {
                d.min_priority = d.min_priority.min(min_priority);
                d.known &= known;
                if d.in_port != Some(in_port) {
                    d.in_port = None;
                }
            }
            None => self.tables.push(TableDep { bridge, table, min_priority, in_port: Some(in_port), known }),
        }
    }

    /// Records that any rule of a table has a say, whatever it matches.
    pub fn whole_table(&mut self, bridge: BridgeId, table: TableId) {
        let any = TableDep { bridge, table, min_priority: -1, in_port: None, known: 0 };
        match self.tables.iter_mut().find(|d| d.table == table && d.bridge == bridge) {
            Some(d) => *d = any,
            None => self.tables.push(any),
        }
    }

    /// Records that `object` was looked at.
    pub fn object(&mut self, object: Object) {
        if !self.objects.contains(&object) {
            self.objects.push(object);
        }
    }

    /// The tables looked into.
    #[must_use]
    pub fn tables(&self) -> &[TableDep] {
        &self.tables
    }

    /// The objects looked at.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }
}

impl TableDep {
    /// One bit per judged word that was as in the packet in each lookup.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known
    }
}

/// One bit per word of lines 0-4 in which `a` and `b` agree, apart from what has two forms.
fn equal_words(a: &Key, b: &Key) -> u64 {
    let mut known = 0;
    if a.words()[..JUDGED_WORDS] == b.words()[..JUDGED_WORDS] {
        return (1 << JUDGED_WORDS) - 1;
    }
    for i in 0..JUDGED_WORDS {
        if (a.words()[i] ^ b.words()[i]) & !TWO_FORMS.words()[i] == 0 {
            known |= 1 << i;
        }
    }
    known
}

/// What is one thing in rules and another in megaflows, so never compared as words: `in_port`, a port of OpenFlow and of the datapath, and which tunnel
/// options there are, a bit for each and how long they are as on the wire.
static TWO_FORMS: Key = {
    let mut key = Key::ZERO;
    key.in_port = [0xff; 4];
    key.tun_metadata_present = [0xff; 8];
    key
};

/// A megaflow as far as changes are judged by it: words of its key (in the datapath's form) and of its mask.
pub trait Judged {
    /// Word `i` of the key and of the mask.
    fn word(&self, i: usize) -> (u64, u64);
}

impl Judged for (&Key, &Mask) {
    fn word(&self, i: usize) -> (u64, u64) {
        (self.0.words()[i], self.1.words()[i])
    }
}

/// A rule that came, went or got other actions.
#[derive(Clone, Debug)]
pub struct RuleChange {
    at: Revision,
    priority: i32,
    /// `in_port` in the pipeline's form: value and mask.
    in_port: (u32, u32),
    /// Index, key and mask of the words that it is judged by and that it matches.
    words: SmallVec<[(u8, u64, u64); 4]>,
}

#[derive(Debug, Default)]
struct Log {
    /// Everything up to here is forgotten.
    floor: Revision,
    objects: Map<Object, Revision>,
    rules: Map<(BridgeId, TableId), Vec<RuleChange>>,
    /// Threads in `wait_beyond`: where there are none, nobody has to be woken, which is a system call.
    waiting: usize,
}

/// The history of changes, bounded. All methods may be called from any thread, under any lock but its own.
#[derive(Debug, Default)]
pub struct ChangeLog {
    last: AtomicU64,
    log: Mutex<Log>,
    grown: Condvar,
}

impl ChangeLog {
    /// The last change that was recorded. Read it *before* the state that a translation will look at.
    #[must_use]
    pub fn now(&self) -> Revision {
        Revision(self.last.load(Ordering::Acquire))
    }

    /// Records that an object has changed. Call it before releasing the lock under which it changed.
    pub fn object(&self, object: Object) {
        let mut log = self.lock();
        let at = self.next(&log);
        log.objects.insert(object, at);
    }

    /// Records that a rule was added, removed or modified.
    pub fn rule(&self, bridge: BridgeId, table: TableId, priority: i32, key: &Key, mask: &Mask) {
        self.rule_of(bridge, table, priority, || (*key, *mask));
    }

    /// The same of a match that is made at full size only where it is kept: of many changes only the table is.
    pub fn rule_of(&self, bridge: BridgeId, table: TableId, priority: i32, matching: impl FnOnce() -> (Key, Mask)) {
        let mut log = self.lock();
        let at = self.next(&log);
        let Log { objects, rules, .. } = &mut *log;
        let of_table = rules.entry((bridge, table)).or_default();
        if let Some(whole) = objects.get_mut(&Object::Table(bridge, table)) {
            *whole = at;
        } else if of_table.len() >= RULE_CHANGES_MAX {
            of_table.clear();
            objects.insert(Object::Table(bridge, table), at);
        } else {
            let (key, mask) = matching();
            of_table.push(RuleChange::new(at, priority, &key, &mask));
        }
    }

    /// Forgets changes up to `upto`: every megaflow has been checked against them.
    pub fn forget(&self, upto: Revision) {
        let mut log = self.lock();
        if upto <= log.floor {
            return;
        }
        log.floor = upto;
        log.objects.retain(|_, at| *at > upto);
        log.rules.retain(|_, rules| {
            rules.retain(|r| r.at > upto);
            !rules.is_empty()
        });
    }

    /// Whether anything since `since` can concern a megaflow with these dependencies and this key and mask (in the datapath's form).
    #[must_use]
    pub fn concerns(&self, since: Revision, deps: &Deps, flow: &impl Judged) -> bool {
        since < self.now() && self.lock().concerns(since, deps, flow)
    }

    /// Wakes whoever is in `wait_beyond`, without a change.
    pub fn wake(&self) {
        drop(self.lock());
        self.grown.notify_all();
    }

    /// Returns when something newer than `seen` is recorded, on `wake`, or when `timeout` is over.
    pub fn wait_beyond(&self, seen: Revision, timeout: Duration) {
        let mut log = self.lock();
        if self.now() <= seen {
            log.waiting += 1;
            let (mut log, _) = self.grown.wait_timeout(log, timeout).expect("no holder of the change log panics");
            log.waiting -= 1;
        }
    }

    /// What has been recorded after `since`, to judge many megaflows by without asking the log for each.
    #[must_use]
    pub fn pending(&self, since: Revision) -> Pending {
        let log = self.lock();
        let objects = log.objects.iter().filter(|(_, at)| **at > since).map(|(object, _)| *object).collect();
        let rules =
            log.rules.iter().flat_map(|(table, changes)| changes.iter().filter(|c| c.at > since).map(|c| (*table, c.clone())));
        Pending { forgotten: since < log.floor, objects, rules: rules.collect() }
    }

    fn next(&self, log: &Log) -> Revision {
        if log.waiting > 0 {
            self.grown.notify_all();
        }
        Revision(self.last.fetch_add(1, Ordering::AcqRel) + 1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no holder of the change log panics")
    }
}

/// Changes after some revision. It may name a few that are older than a megaflow: that is only slow.
#[derive(Debug)]
pub struct Pending {
    forgotten: bool,
    objects: Set<Object>,
    rules: Vec<((BridgeId, TableId), RuleChange)>,
}

impl Pending {
    /// Whether it reaches further back than the log: anything may have changed.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.forgotten
    }

    /// The objects that changed.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    /// The rules that changed, each with its table.
    #[must_use]
    pub fn rules(&self) -> &[((BridgeId, TableId), RuleChange)] {
        &self.rules
    }

    /// Whether any of it can concern a megaflow.
    #[must_use]
    pub fn concerns(&self, deps: &Deps, flow: &impl Judged) -> bool {
        let by_object = || {
            self.objects.contains(&Object::Everything)
                || deps.objects.iter().any(|o| self.objects.contains(o))
                || deps.tables.iter().any(|d| self.objects.contains(&Object::Table(d.bridge, d.table)))
        };
        self.forgotten
            || !self.objects.is_empty() && by_object()
            || self.rules.iter().any(|((bridge, table), change)| {
                let consulted = |d: &&TableDep| d.table == *table && d.bridge == *bridge && change.priority >= d.min_priority;
                deps.tables.iter().filter(consulted).any(|d| change.meets(d, flow))
            })
    }
}

impl Log {
    fn concerns(&self, since: Revision, deps: &Deps, flow: &impl Judged) -> bool {
        let changed = |object: &Object| self.objects.get(object).is_some_and(|at| *at > since);
        since < self.floor
            || changed(&Object::Everything)
            || deps.objects.iter().any(changed)
            || deps.tables.iter().any(|dep| {
                changed(&Object::Table(dep.bridge, dep.table))
                    || self.rules.get(&(dep.bridge, dep.table)).is_some_and(|rules| {
                        rules.iter().any(|r| r.at > since && r.priority >= dep.min_priority && r.meets(dep, flow))
                    })
            })
    }
}

impl RuleChange {
    fn new(at: Revision, priority: i32, key: &Key, mask: &Mask) -> Self {
        let word = |i: usize| (key.words()[i], mask.words()[i] & !TWO_FORMS.words()[i]);
        let words = (0..JUDGED_WORDS).map(|i| (i, word(i))).filter(|(_, (_, mask))| *mask != 0);
        let index = |i| u8::try_from(i).expect("JUDGED_WORDS is small");
        Self {
            at,
            priority,
            in_port: (u32::from_be_bytes(key.in_port), u32::from_be_bytes(mask.in_port)),
            words: words.map(|(i, (key, mask))| (index(i), key, mask)).collect(),
        }
    }

    /// Priority of the rule.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// `in_port` in the pipeline's form: value and mask.
    #[must_use]
    pub fn in_port(&self) -> (u32, u32) {
        self.in_port
    }

    /// Value and mask of word `i`, if the rule is judged by it.
    #[must_use]
    pub fn word(&self, i: u8) -> Option<(u64, u64)> {
        self.words.iter().find(|(at, ..)| *at == i).map(|(_, value, mask)| (*value, *mask))
    }

    /// Whether the rule and the megaflow may have a packet in common.
    fn meets(&self, dep: &TableDep, flow: &impl Judged) -> bool {
        let (port, wanted) = self.in_port;
        if dep.in_port.is_some_and(|p| (u32::from_be_bytes(p.to_key()) ^ port) & wanted != 0) {
            return false;
        }
        self.words.iter().filter(|(i, ..)| dep.known & 1 << i != 0).all(|(i, key, mask)| {
            let (flow_key, flow_mask) = flow.word(usize::from(*i));
            (flow_key ^ key) & flow_mask & mask == 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BR: BridgeId = BridgeId(1);
    const T0: TableId = TableId(0);

    fn key(nw_dst: u8, in_port: u32) -> Key {
        Key { nw_dst: [10, 0, 0, nw_dst], eth_type: [8, 0], in_port: in_port.to_be_bytes(), ..Key::ZERO }
    }

    fn dst_mask() -> Mask {
        Key { nw_dst: [0xff; 4], eth_type: [0xff; 2], in_port: [0xff; 4], ..Key::ZERO }
    }

    fn deps(priority: Option<i32>, at_lookup: &Key, initial: &Key) -> Deps {
        let mut deps = Deps::default();
        deps.table(BR, T0, priority, at_lookup, initial);
        deps
    }

    /// A megaflow has them as on the wire.
    #[test]
    fn by_tunnel_options_every_rule_concerns() {
        let log = ChangeLog::default();
        let pipeline = Key { tun_metadata_present: 1u64.to_be_bytes(), ..key(1, 1) };
        let wire = Key { tun_metadata_present: 8u64.to_be_bytes(), ..key(1, 1) };
        let d = deps(Some(0), &pipeline, &pipeline);
        let before = log.now();
        log.rule(BR, T0, 5, &pipeline, &Key { tun_metadata_present: 1u64.to_be_bytes(), ..Key::ZERO });
        let mask = Key { tun_metadata_present: [0xff; 8], ..dst_mask() };
        assert!(log.concerns(before, &d, &(&wire, &mask)));
        assert!(log.pending(before).concerns(&d, &(&wire, &mask)));
    }

    #[test]
    fn who_waits_is_woken_by_a_change() {
        let log = ChangeLog::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| log.wait_beyond(Revision(0), Duration::from_secs(3600)));
            }
            while log.lock().waiting < 2 {
                std::thread::yield_now();
            }
            log.object(Object::Routes);
        });
        assert_eq!((log.lock().waiting, log.now()), (0, Revision(1)));
    }

    #[test]
    fn a_rule_reaches_only_what_it_meets() {
        let log = ChangeLog::default();
        let before = log.now();
        let k = key(1, 7);
        let d = deps(Some(100), &k, &k);
        // The megaflow's in_port is a datapath port: it must not be compared with the rule's.
        let mega = key(1, 99);
        log.rule(BR, T0, 100, &key(2, 7), &dst_mask());
        assert!(!log.concerns(before, &d, &(&mega, &dst_mask())), "another address");
        log.rule(BR, T0, 100, &key(1, 8), &dst_mask());
        assert!(!log.concerns(before, &d, &(&mega, &dst_mask())), "another port");
        log.rule(BR, T0, 99, &key(1, 7), &dst_mask());
        assert!(!log.concerns(before, &d, &(&mega, &dst_mask())), "beaten by the rule that won");
        log.rule(BR, TableId(1), 100, &key(1, 7), &dst_mask());
        assert!(!log.concerns(before, &d, &(&mega, &dst_mask())), "another table");
        assert!(!log.pending(before).concerns(&d, &(&mega, &dst_mask())));
        log.rule(BR, T0, 100, &key(1, 7), &dst_mask());
        assert!(log.concerns(before, &d, &(&mega, &dst_mask())));
        assert!(log.pending(before).concerns(&d, &(&mega, &dst_mask())));
        assert!(!log.concerns(log.now(), &d, &(&mega, &dst_mask())), "already checked");
    }

    #[test]
    fn what_the_pipeline_altered_is_unknown() {
        let log = ChangeLog::default();
        let initial = key(1, 7);
        let altered = key(2, 7);
        let d = deps(Some(0), &altered, &initial);
        log.rule(BR, T0, 0, &key(2, 7), &dst_mask());
        assert!(log.concerns(Revision(0), &d, &(&initial, &dst_mask())));
        let wide = deps(Some(0), &initial, &initial);
        let mut mask = dst_mask();
        mask.nw_dst = [0; 4];
        assert!(log.concerns(Revision(0), &wide, &(&initial, &mask)), "a bit the megaflow does not match");
    }

    #[test]
    fn many_rules_become_the_table_and_forgotten_means_everything() {
        let log = ChangeLog::default();
        let k = key(1, 7);
        let d = deps(Some(0), &k, &k);
        for _ in 0..=RULE_CHANGES_MAX {
            log.rule(BR, T0, 9, &key(2, 7), &dst_mask());
        }
        assert!(log.concerns(Revision(0), &d, &(&k, &dst_mask())));
        let seen = log.now();
        log.forget(seen);
        assert!(!log.concerns(seen, &d, &(&k, &dst_mask())));
        assert!(!log.pending(seen).concerns(&d, &(&k, &dst_mask())));
        assert!(log.pending(Revision(3)).concerns(&d, &(&k, &dst_mask())));
        log.object(Object::Ports(BR));
        assert!(!log.concerns(seen, &d, &(&k, &dst_mask())));
        assert!(log.concerns(Revision(3), &d, &(&k, &dst_mask())), "older than the log remembers");
    }
}
