//! Rules of established connections: which are known, which megaflows their packets pass, and what stands and falls with what.
//!
//! What enters: events of the tracker, megaflows that come and go, `now`. What leaves: composed megaflows put into hardware and taken out.
//! Neighbours: `merge` (which composes), `state`.
//!
//! # What holds
//!
//! - A composed rule is out of hardware before the call returns that changed or deleted a megaflow of its way (make before break: software
//!   has the new one first), and within a turn (`follow`, ten times a second) of what the tracker says of its connection. A flush
//!   through this tier takes the rules out before it returns.
//! - Before its rule goes in, the tracker is told that a connection's packets pass elsewhere: from then on its windows are not looked at,
//!   in software neither, so that both treat a segment alike (decision 0072).
//! - What its rules have counted keeps a connection alive, and counts for every megaflow of its way. One that nobody used leaves hardware
//!   before it expires, so that its end is the tracker's own.
//! - A connection's rules are tried when it is established, and again when a megaflow of a way comes or ports change. Where the table is
//!   full they take the places of rules with fewer packets, by what `worth` says (decision 0107).

use super::state::State;
use super::{Home, Tiered};
use crate::hardware::Hardware;
use crate::merge::{ConnId, Connections, Merged, Ways, admissible, merge};
use crate::plan::Plan;
use crate::refusal::{Reason, Refusal};
use flow::conntrack::{CT_STAGES, Conntrack, CtEntry, CtEvent, CtFilter, CtLimit, CtTuple, FragStatus};
use flow::hash::{Map, Set};
use flow::seam::DpError;
use flow::{Datapath, DpPort, Megaflow, Msec, Ufid, clock};
use std::collections::VecDeque;

/// Connections that are known at most; more stay in software.
pub(super) const CONNS_MAX: usize = 1 << 20;
/// Connections that are tried in one turn.
const TRIES_MAX: usize = 2_048;
/// Beside the driver's lateness: so long before its end a connection leaves hardware (two looks at the counters).
const SPARE_MS: Msec = 1_000;

/// What is known of connections and of composed rules.
#[derive(Debug, Default)]
pub(super) struct Connected {
    pub(super) conns: Connections,
    pub(super) ways: Ways,
    merged: Map<Ufid, Merged>,
    of_part: Map<Ufid, Set<Ufid>>,
    of_conn: Map<ConnId, Set<Ufid>>,
    /// To be tried; each once.
    pending: VecDeque<ConnId>,
    is_pending: Set<ConnId>,
    /// A megaflow of a way has come, or ports have changed: those without rules are to be tried, once a turn.
    pub(super) stale: bool,
    /// When those with rules expire, as far as is known; those whose rules have seen packets since.
    expires_ms: Map<ConnId, Msec>,
    used: Set<ConnId>,
    /// Those that left hardware because nobody used them.
    idle: Set<ConnId>,
}

impl Connected {
    /// Composed rules, be they in hardware or waiting for it.
    pub(super) fn rules(&self) -> usize {
        self.merged.len()
    }

    pub(super) fn is_merged(&self, ufid: Ufid) -> bool {
        self.merged.contains_key(&ufid)
    }

    /// The composed megaflow of that name.
    pub(super) fn flow(&self, ufid: Ufid) -> Option<&Megaflow> {
        self.merged.get(&ufid).map(|m| &m.flow)
    }

    /// Composed rules whose packets pass a megaflow.
    pub(super) fn riders(&self, ufid: Ufid) -> impl Iterator<Item = Ufid> {
        self.of_part.get(&ufid).into_iter().flatten().copied()
    }

    /// The megaflows of a composed rule's way; its connections are known to be used.
    pub(super) fn used(&mut self, ufid: Ufid) -> &[Ufid] {
        let Some(merged) = self.merged.get(&ufid) else { return &[] };
        self.used.extend(merged.conns.iter().copied());
        &merged.parts
    }

    /// The megaflows of a composed rule's way, and its connections.
    pub(super) fn way(&self, ufid: Ufid) -> Option<(&[Ufid], &[ConnId])> {
        self.merged.get(&ufid).map(|m| (m.parts.as_slice(), m.conns.as_slice()))
    }

    fn add(&mut self, merged: Merged) {
        let ufid = merged.flow.ufid;
        merged.parts.iter().for_each(|part| {
            self.of_part.entry(*part).or_default().insert(ufid);
        });
        merged.conns.iter().for_each(|id| {
            self.of_conn.entry(*id).or_default().insert(ufid);
        });
        self.merged.insert(ufid, merged);
    }

    fn drop_rule(&mut self, ufid: Ufid) {
        let Some(merged) = self.merged.remove(&ufid) else { return };
        for part in &merged.parts {
            leave(&mut self.of_part, part, ufid);
        }
        for id in &merged.conns {
            if leave(&mut self.of_conn, id, ufid) {
                self.expires_ms.remove(id);
            }
        }
    }

    fn of_conn(&self, id: &ConnId) -> Vec<Ufid> {
        self.of_conn.get(id).into_iter().flatten().copied().collect()
    }

    /// It is to be tried.
    fn wake(&mut self, id: ConnId) {
        if self.is_pending.insert(id) {
            self.pending.push_back(id);
        }
    }

    /// Those that lack a rule in some direction are to be tried.
    fn wake_all(&mut self) {
        let complete = |id: &ConnId| self.of_conn.get(id).is_some_and(|rules| rules.len() >= 2);
        let ids: Vec<ConnId> = self.conns.ids().filter(|id| !complete(id) && !self.idle.contains(id)).collect();
        ids.into_iter().for_each(|id| self.wake(id));
    }

    fn next(&mut self) -> Option<ConnId> {
        let id = self.pending.pop_front()?;
        self.is_pending.remove(&id);
        Some(id)
    }

    /// A connection is gone, or no longer what it was.
    fn forget(&mut self, id: &ConnId) {
        self.conns.remove(id);
        self.expires_ms.remove(id);
        self.used.remove(id);
        self.idle.remove(id);
    }

    /// Megaflows and rules are gone; connections stay known.
    pub(super) fn clear_rules(&mut self) {
        let conns = std::mem::take(&mut self.conns);
        *self = Self { conns, ..Self::default() };
    }
}

/// Takes a rule out of a set; whether it was the last one there.
fn leave<K: std::hash::Hash + Eq>(map: &mut Map<K, Set<Ufid>>, key: &K, ufid: Ufid) -> bool {
    let Some(set) = map.get_mut(key) else { return false };
    set.remove(&ufid);
    let last = set.is_empty();
    if last {
        map.remove(key);
    }
    last
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Begins to follow the tracker, if the datapath has one: what it has is known afterwards.
    pub(super) fn watch(&self, state: &mut State) {
        let Some(tracker) = self.inner.conntrack() else { return };
        tracker.watch(true);
        self.resync(state);
    }

    /// Ends it; the rules are gone already.
    pub(super) fn unwatch(&self, state: &mut State) {
        if let Some(tracker) = self.inner.conntrack() {
            tracker.watch(false);
        }
        state.connected = Connected::default();
    }

    /// What connections did, and rules for those that may have some. To be called ten times a second.
    pub fn follow(&self, now: Msec) {
        if !self.is_enabled() {
            return;
        }
        let Some(tracker) = self.inner.conntrack() else { return };
        let mut state = self.state();
        for event in tracker.events() {
            self.heed(&mut state, event, now);
        }
        if std::mem::take(&mut state.connected.stale) {
            state.connected.wake_all();
        }
        self.compose(&mut state, tracker, now);
    }

    fn heed(&self, state: &mut State, event: CtEvent, now: Msec) {
        match event {
            CtEvent::Established(entry) => learn(state, *entry),
            CtEvent::Changed(entry) => {
                let id = ConnId::of(&entry);
                if state.connected.conns.get(&id).is_some() {
                    let rules = state.connected.of_conn(&id);
                    self.unmerge(state, &rules, now);
                    learn(state, *entry);
                }
            }
            CtEvent::Closing(entry) => {
                let id = ConnId::of(&entry);
                let rules = state.connected.of_conn(&id);
                self.unmerge(state, &rules, now);
                state.connected.forget(&id);
            }
            CtEvent::Lost => {
                let rules: Vec<Ufid> = state.connected.merged.keys().copied().collect();
                self.unmerge(state, &rules, now);
                self.resync(state);
            }
        }
    }

    /// Forgets all connections and takes note of those that the tracker has.
    fn resync(&self, state: &mut State) {
        let Some(tracker) = self.inner.conntrack() else { return };
        let old: Vec<ConnId> = state.connected.conns.ids().collect();
        old.iter().for_each(|id| state.connected.forget(id));
        tracker.dump(None, &mut |entry| {
            learn(state, entry.clone());
            state.connected.conns.len() < CONNS_MAX
        });
    }

    /// Rules for connections that are to be tried.
    fn compose(&self, state: &mut State, tracker: &dyn Conntrack, now: Msec) {
        let mut planned: Vec<(Ufid, DpPort, Result<Plan, Refusal>)> = Vec::new();
        for _ in 0..TRIES_MAX {
            let Some(id) = state.connected.next() else { break };
            let Some(left) = tracker.lifetime(id.zone, &id.orig, false) else {
                continue;
            };
            if left < state.lag_ms + SPARE_MS {
                state.connected.idle.insert(id);
                continue;
            }
            for (merged, plan) in composed(state, &id) {
                // All of them are told before hardware has the rule.
                if merged.conns.iter().all(|id| tracker.carry(id.zone, &id.orig)) {
                    for id in &merged.conns {
                        let left = tracker.lifetime(id.zone, &id.orig, false).unwrap_or(0);
                        state.connected.expires_ms.insert(*id, now + left);
                    }
                    planned.push((merged.flow.ufid, super::in_port(&merged.flow), Ok(plan)));
                    state.connected.add(merged);
                }
            }
        }
        let ufids: Vec<Ufid> = planned.iter().map(|(ufid, _, _)| *ufid).collect();
        self.settle(state, planned, now);
        self.drop_refused(state, &ufids, now);
    }

    /// Composed rules that hardware will never have are forgotten: there is no megaflow to tell the reason of.
    pub(super) fn drop_refused(&self, state: &mut State, ufids: &[Ufid], now: Msec) {
        let hopeless = |ufid: &&Ufid| {
            let home = state.entries.get(*ufid).map(|e| &e.home);
            state.connected.is_merged(**ufid) && matches!(home, Some(Home::Software(why)) if !why.reason.may_pass())
        };
        let gone: Vec<Ufid> = ufids.iter().filter(hopeless).copied().collect();
        self.unmerge(state, &gone, now);
    }

    /// Takes composed rules out for good.
    pub(super) fn unmerge(&self, state: &mut State, ufids: &[Ufid], now: Msec) {
        if ufids.is_empty() {
            return;
        }
        self.take_out(state, ufids, &Refusal::new(Reason::Connection, ""), now);
        for ufid in ufids {
            state.connected.drop_rule(*ufid);
            state.entries.remove(ufid);
            state.waiting.forget(*ufid);
        }
    }

    /// Megaflows changed or go: so do the composed rules on whose way they are.
    pub(super) fn unmerge_riders(&self, state: &mut State, parts: &[Ufid], now: Msec) {
        let riders: Set<Ufid> = parts.iter().flat_map(|part| state.connected.riders(*part)).collect();
        let riders: Vec<Ufid> = riders.into_iter().collect();
        let of = |ufid: &Ufid| state.connected.merged.get(ufid).map(|m| m.conns.clone());
        let conns: Vec<ConnId> = riders.iter().filter_map(of).flatten().collect();
        self.unmerge(state, &riders, now);
        conns.into_iter().for_each(|id| state.connected.wake(id));
    }

    /// Keeps connections alive whose rules have seen packets, and takes those out of hardware that are about to expire.
    pub(super) fn keep_alive(&self, state: &mut State, now: Msec) {
        let Some(tracker) = self.inner.conntrack() else { return };
        let spare = state.lag_ms + SPARE_MS;
        for id in std::mem::take(&mut state.connected.used) {
            let left = tracker.lifetime(id.zone, &id.orig, true).unwrap_or(0);
            if let Some(expires) = state.connected.expires_ms.get_mut(&id) {
                *expires = now + left;
            }
        }
        let due: Vec<ConnId> =
            state.connected.expires_ms.iter().filter(|(_, at)| **at - now < spare).map(|(id, _)| *id).collect();
        for id in due {
            let left = tracker.lifetime(id.zone, &id.orig, false).unwrap_or(0);
            if left >= spare {
                state.connected.expires_ms.insert(id, now + left);
                continue;
            }
            let rules = state.connected.of_conn(&id);
            self.unmerge(state, &rules, now);
            state.connected.idle.insert(id);
        }
        // Those whose packets came by software meanwhile are tried again.
        let alive = |id: &ConnId| tracker.lifetime(id.zone, &id.orig, false).is_some_and(|left| left >= 2 * spare);
        let back: Vec<ConnId> = state.connected.idle.iter().filter(|id| alive(id)).copied().collect();
        for id in back {
            state.connected.idle.remove(&id);
            state.connected.wake(id);
        }
    }
}

fn learn(state: &mut State, entry: CtEntry) {
    let id = ConnId::of(&entry);
    let known = state.connected.conns.get(&id).is_some();
    if admissible(&entry).is_ok() && (known || state.connected.conns.len() < CONNS_MAX) {
        state.connected.conns.insert(entry);
        state.connected.wake(id);
    }
}

/// New rules of a connection that hardware can have.
fn composed(state: &State, id: &ConnId) -> Vec<(Merged, Plan)> {
    let connected = &state.connected;
    let Some(entry) = connected.conns.get(id) else { return Vec::new() };
    let both = [false, true].into_iter().flat_map(|reply| merge(entry, reply, &connected.ways, &connected.conns));
    let mut seen = Set::default();
    let new = |m: &Merged| {
        let there = m.parts.iter().all(|part| state.entries.contains_key(part));
        there && !connected.is_merged(m.flow.ufid) && seen.insert(m.flow.ufid)
    };
    let fits = |m: Merged| {
        let plan = state.plan(&m.flow).ok()?;
        Some((m, plan))
    };
    both.filter(new).filter_map(fits).collect()
}

/// Calls that are the tracker's own.
macro_rules! below {
    ($( fn $name:ident(&self $(, $arg:ident : $ty:ty)*) $(-> $ret:ty)?; )*) => {
        $( fn $name(&self $(, $arg: $ty)*) $(-> $ret)? { self.tracker().$name($($arg),*) } )*
    };
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    fn tracker(&self) -> &dyn Conntrack {
        self.inner.conntrack().expect("the tier gives itself as a tracker only if the datapath has one")
    }
}

/// The datapath's tracker; what ends connections takes their rules out at once.
impl<D: Datapath, H: Hardware> Conntrack for Tiered<D, H> {
    below! {
        fn dump(&self, zone: Option<u16>, each: &mut dyn FnMut(&CtEntry) -> bool);
        fn expectations(&self, zone: Option<u16>) -> Vec<String>;
        fn buckets(&self) -> u32;
        fn connections(&self) -> u32;
        fn max_connections(&self) -> u32;
        fn set_max_connections(&self, max: u32) -> Result<(), DpError>;
        fn checks_tcp_sequence(&self) -> bool;
        fn check_tcp_sequence(&self, on: bool);
        fn sweep_interval_ms(&self) -> u32;
        fn set_sweep_interval_ms(&self, ms: u32);
        fn limits(&self, zones: &[u16]) -> (u32, Vec<CtLimit>);
        fn set_default_limit(&self, limit: Option<u32>);
        fn set_limit(&self, zone: u16, limit: u32);
        fn delete_limit(&self, zone: u16) -> Result<(), DpError>;
        fn set_timeouts(&self, id: u32, seconds: &[Option<u32>; CT_STAGES.len()]) -> Result<(), DpError>;
        fn fragments(&self) -> FragStatus;
        fn set_fragments_enabled(&self, v6: bool, on: bool);
        fn set_fragment_min(&self, v6: bool, bytes: u32) -> Result<(), DpError>;
        fn set_fragments_max(&self, max: u32) -> Result<(), DpError>;
        fn carry(&self, zone: u16, orig: &CtTuple) -> bool;
        fn lifetime(&self, zone: u16, orig: &CtTuple, used: bool) -> Option<Msec>;
    }

    fn flush(&self, filter: &CtFilter) -> Result<usize, DpError> {
        let result = self.tracker().flush(filter);
        self.follow(clock::now_ms());
        result
    }

    /// This tier watches.
    fn watch(&self, _on: bool) {}

    /// This tier takes the events.
    fn events(&self) -> Vec<CtEvent> {
        Vec::new()
    }
}
