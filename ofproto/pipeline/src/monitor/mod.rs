//! Flow monitors: connections that want to hear of each change to the rules (NXST_FLOW_MONITOR; OpenFlow 1.4 section 7.3.5.18).
//!
//! What enters: requests of a connection (`conn`), and every committed change (`flow_mod::Journal`). What leaves: encoded updates,
//! which the connection's task takes and writes. Neighbours: `flow_mod`, `conn`.
//!
//! A change is reported while whoever made it still holds the world, so a connection that asks for a barrier afterwards gets the
//! updates first. Updates wait in their connection's `Watcher`. When more than `WAITING_BYTES_MAX` wait there, the watcher pauses:
//! it says so, and from then on only remembers which rules were added or modified (and reports rules that go, if the peer has heard
//! of them). Once the peer has taken everything, it is told what has become of the rules remembered, and that updates flow again. So
//! a peer that does not read costs at most one update for each rule that there was.

use crate::bridge::Bridge;
use crate::classifier::MiniMatch;
use crate::flow_mod::{Change, Criteria, Journal};
use crate::rule::Rule;
use crate::table::INTERNAL;
use crate::world::{BridgeId, World};
use flow::hash::Map;
use openflow::message::{Body, FlowMonitorRequest, FlowUpdate, Message, Multipart, MultipartBody};
use openflow::{Codec, OfError, TableId, Version, Xid};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::Notify;

flow::counters! {
    MONITOR_PAUSE = "ofmonitor_pause", "flow monitors that paused because their controller did not read";
    MONITOR_RESUME = "ofmonitor_resume", "flow monitors that resumed";
    MONITORS_FULL = "ofmonitor_full", "flow monitors refused because their connection had too many";
}

/// Bytes of updates that wait for a peer before its monitors pause.
pub const WAITING_BYTES_MAX: usize = 128 * 1024;
/// Monitors of one connection.
pub const MONITORS_MAX: usize = 1024;

/// OFPFMF_* as in OpenFlow 1.4.
mod flags {
    pub(super) const INITIAL: u16 = 1;
    pub(super) const ADD: u16 = 1 << 1;
    pub(super) const REMOVED: u16 = 1 << 2;
    pub(super) const MODIFY: u16 = 1 << 3;
    pub(super) const INSTRUCTIONS: u16 = 1 << 4;
    /// Own changes come in full (Nicira's OWN; ONLY_OWN has its place).
    pub(super) const OWN: u16 = 1 << 6;
}

/// OFPFME_*
mod event {
    pub(super) const INITIAL: u8 = 0;
    pub(super) const ADDED: u8 = 1;
    pub(super) const REMOVED: u8 = 2;
    pub(super) const MODIFIED: u8 = 3;
}

/// Who made a change: its own connection hears of it in short.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub watcher: &'a Watcher,
    pub xid: Xid,
}

/// The watchers of all bridges.
#[derive(Debug, Default)]
pub struct Watchers {
    /// Watchers with monitors: while there are none, changes cost nothing here.
    active: Arc<AtomicUsize>,
    list: Mutex<Vec<Weak<Watcher>>>,
}

impl Watchers {
    /// A watcher for a new connection; it is forgotten when the connection drops it.
    #[must_use]
    pub fn watcher(&self, bridge: BridgeId, version: Version) -> Arc<Watcher> {
        let watcher =
            Arc::new(Watcher { bridge, version, active: Arc::clone(&self.active), wake: Notify::new(), inner: Mutex::default() });
        let mut list = self.list.lock().expect("no holder of the watcher list panics");
        list.retain(|w| w.strong_count() > 0);
        list.push(Arc::downgrade(&watcher));
        watcher
    }

    /// Tells the watchers of the bridges concerned what was done. Under the world's lock.
    pub fn report(&self, world: &World, journal: &Journal, origin: Option<Origin<'_>>) {
        if journal.changes.is_empty() || self.active.load(Ordering::Acquire) == 0 {
            return;
        }
        let watchers: Vec<_> = {
            let list = self.list.lock().expect("no holder of the watcher list panics");
            list.iter().filter_map(Weak::upgrade).collect()
        };
        for watcher in watchers {
            let Some(bridge) = world.bridges.get(&watcher.bridge) else { continue };
            let own = origin.filter(|o| std::ptr::eq(o.watcher, watcher.as_ref())).map(|o| o.xid);
            watcher.report(bridge, journal, own);
        }
    }
}

/// What a change is to a monitor.
#[derive(Clone, Copy)]
struct Told<'a> {
    rule: &'a Arc<Rule>,
    /// The rule in whose place it stands.
    old: Option<&'a Arc<Rule>>,
    flag: u16,
    event: u8,
    reason: u8,
}

impl<'a> Told<'a> {
    /// `None`: a modification that modified nothing.
    fn of(change: &'a Change) -> Option<Self> {
        Some(match change {
            Change::Added(rule) => Self { rule, old: None, flag: flags::ADD, event: event::ADDED, reason: 0 },
            Change::Replaced { old, new, modified: None } => {
                Self { rule: new, old: Some(old), flag: flags::ADD, event: event::ADDED, reason: 0 }
            }
            Change::Replaced { old, new, modified: Some(_) } => {
                if old.actions == new.actions && old.cookie.load(Ordering::Relaxed) == new.cookie.load(Ordering::Relaxed) {
                    return None;
                }
                Self { rule: new, old: Some(old), flag: flags::MODIFY, event: event::MODIFIED, reason: 0 }
            }
            Change::Removed(rule, reason) => {
                Self { rule, old: None, flag: flags::REMOVED, event: event::REMOVED, reason: *reason }
            }
        })
    }
}

#[derive(Debug)]
struct Monitor {
    flags: u16,
    wanted: Criteria,
}

/// Rules that came or changed during a pause, by address.
type Missed = Map<usize, (Arc<Rule>, u8)>;

#[derive(Debug, Default)]
struct Inner {
    monitors: BTreeMap<u32, Monitor>,
    /// Encoded messages that wait to be written.
    waiting: Vec<u8>,
    /// Present during a pause.
    missed: Option<Missed>,
}

/// The monitors of one connection, and what waits to be written to it.
#[derive(Debug)]
pub struct Watcher {
    bridge: BridgeId,
    version: Version,
    active: Arc<AtomicUsize>,
    wake: Notify,
    inner: Mutex<Inner>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if !self.lock().monitors.is_empty() {
            self.active.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Watcher {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a watcher panics")
    }

    /// Keeps the count of watchers that have monitors.
    fn recount(&self, had: bool, inner: &Inner) {
        match (had, !inner.monitors.is_empty()) {
            (false, true) => {
                self.active.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => {
                self.active.fetch_sub(1, Ordering::AcqRel);
            }
            (false, false) | (true, true) => {}
        }
    }

    /// OFPMP_FLOW_MONITOR: adds, modifies and deletes monitors; gives the rules that there are for those that want them. Under the
    /// world's write lock, so that no change falls between. On an error none of those added stays.
    ///
    /// # Errors
    /// `OFPMOFC_*`, or a bad table.
    pub fn request(&self, bridge: &Bridge, requests: &[FlowMonitorRequest]) -> Result<Vec<FlowUpdate>, OfError> {
        let mut inner = self.lock();
        let had = !inner.monitors.is_empty();
        let mut added = Vec::new();
        let mut failed = None;
        for request in requests {
            match inner.apply(request) {
                Ok(Some(id)) => added.push(id),
                Ok(None) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            for id in added {
                inner.monitors.remove(&id);
            }
            self.recount(had, &inner);
            return Err(error);
        }
        self.recount(had, &inner);
        inner.initial(bridge, &added)
    }

    /// FLOW_MONITOR_CANCEL.
    ///
    /// # Errors
    /// There is no such monitor.
    pub fn cancel(&self, id: u32) -> Result<(), OfError> {
        let mut inner = self.lock();
        inner.monitors.remove(&id).ok_or(OfError::OfpmofcUnknownMonitor)?;
        self.recount(true, &inner);
        Ok(())
    }

    fn report(&self, bridge: &Bridge, journal: &Journal, own: Option<Xid>) {
        let mut inner = self.lock();
        if inner.monitors.is_empty() {
            return;
        }
        let mut updates = Vec::new();
        let mut abbreviated = false;
        for (at, change) in journal.changes.iter().enumerate() {
            let Some(told) = Told::of(change) else { continue };
            if told.rule.bridge != self.bridge || told.rule.is_hidden() {
                continue;
            }
            let paused = inner.missed.is_some();
            if inner.is_missed(told) {
                continue;
            }
            let Some(wanted) = inner.wanted(told) else { continue };
            match own.filter(|_| wanted & flags::OWN == 0 && !paused && !journal.is_taught(at)) {
                None => updates.push(update(bridge, told.rule, told.event, told.reason, wanted)),
                Some(xid) if !abbreviated => {
                    abbreviated = true;
                    updates.push(FlowUpdate::Abbrev { xid: xid.0 });
                }
                Some(_) => {}
            }
        }
        if updates.is_empty() {
            return;
        }
        self.put(&mut inner.waiting, bridge, updates_message(updates));
        if inner.missed.is_none() && inner.waiting.len() > WAITING_BYTES_MAX {
            MONITOR_PAUSE.inc();
            inner.missed = Some(Missed::default());
            self.put(&mut inner.waiting, bridge, Body::FlowMonitorPaused);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Appends a message in the connection's version.
    fn put(&self, waiting: &mut Vec<u8>, bridge: &Bridge, body: Body) {
        let codec = Codec { options: Some(&bridge.tunnel_options), ..Codec::default() };
        // Every version has flow monitors in some form.
        let _ = codec.encode(&Message { version: self.version, xid: Xid(0), body }, waiting);
    }

    /// Takes what waits to be written. Nothing but this empties it, so call it as soon as the peer takes bytes.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// The peer has taken all that was given to it: what a pause has kept from it comes now.
    pub fn drained(&self, bridge: &Bridge) {
        let mut inner = self.lock();
        if !inner.waiting.is_empty() {
            return;
        }
        let Some(missed) = inner.missed.take() else { return };
        MONITOR_RESUME.inc();
        let mut updates = Vec::new();
        for (rule, event) in missed.values() {
            let flag = if *event == event::ADDED { flags::ADD | flags::MODIFY } else { flags::MODIFY };
            let told = Told { rule, old: None, flag, event: *event, reason: 0 };
            if let Some(wanted) = inner.wanted(told) {
                updates.push(update(bridge, rule, *event, 0, wanted));
            }
        }
        if !updates.is_empty() {
            self.put(&mut inner.waiting, bridge, updates_message(updates));
        }
        self.put(&mut inner.waiting, bridge, Body::FlowMonitorResumed);
        drop(inner);
        self.wake.notify_one();
    }

    /// Whether updates are held back.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().missed.is_some()
    }

    /// Returns when there may be something to take.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}

impl Inner {
    /// One request; gives the id of a monitor that is new.
    fn apply(&mut self, request: &FlowMonitorRequest) -> Result<Option<u32>, OfError> {
        const MODIFY: u8 = 1;
        const DELETE: u8 = 2;
        if request.command == DELETE {
            self.monitors.remove(&request.id).ok_or(OfError::OfpmofcUnknownMonitor)?;
            return Ok(None);
        }
        if request.table != TableId::ALL && request.table > INTERNAL {
            return Err(OfError::OfpbrcBadTableId);
        }
        match (request.command, self.monitors.contains_key(&request.id)) {
            (0, true) => return Err(OfError::OfpmofcMonitorExists),
            (MODIFY, false) => return Err(OfError::OfpmofcUnknownMonitor),
            (0 | MODIFY, _) => {}
            _ => return Err(OfError::OfpmofcBadCommand),
        }
        if self.monitors.len() >= MONITORS_MAX {
            MONITORS_FULL.inc();
            return Err(OfError::OfpmofcUnknown);
        }
        let wanted = Criteria {
            table: request.table,
            within: MiniMatch::new(&request.matching.key, &request.matching.mask),
            strict_priority: None,
            cookie: 0,
            cookie_mask: 0,
            out_port: request.out_port,
            out_group: request.out_group,
        };
        self.monitors.insert(request.id, Monitor { flags: request.flags, wanted });
        Ok(Some(request.id))
    }

    /// The rules that new monitors begin with; one that several want comes once.
    fn initial(&self, bridge: &Bridge, added: &[u32]) -> Result<Vec<FlowUpdate>, OfError> {
        let mut found: Map<usize, usize> = Map::default();
        let mut rules: Vec<(Arc<Rule>, u16)> = Vec::new();
        let wanting = added
            .iter()
            .filter_map(|id| self.monitors.get(id))
            .filter(|m| m.flags & flags::INITIAL != 0 && m.wanted.table != INTERNAL);
        for monitor in wanting {
            for rule in monitor.wanted.select(bridge)? {
                let at = *found.entry(Arc::as_ptr(&rule).addr()).or_insert(rules.len());
                match rules.get_mut(at) {
                    Some((_, wanted)) => *wanted |= monitor.flags,
                    None => rules.push((rule, monitor.flags)),
                }
            }
        }
        rules.sort_by_key(|(r, _)| (r.table, std::cmp::Reverse(r.priority), r.life.serial));
        Ok(rules.iter().map(|(rule, wanted)| update(bridge, rule, event::INITIAL, 0, *wanted)).collect())
    }

    /// During a pause: remembers what came or changed, and says whether the peer is not to hear of it now.
    fn is_missed(&mut self, told: Told<'_>) -> bool {
        let Some(missed) = &mut self.missed else { return false };
        let before = told.old.and_then(|old| missed.remove(&Arc::as_ptr(old).addr())).map(|(_, event)| event);
        let at = Arc::as_ptr(told.rule).addr();
        if told.event == event::REMOVED {
            // A rule that came during the pause goes unsaid.
            return missed.remove(&at).is_some_and(|(_, event)| event == event::ADDED);
        }
        let event = if before == Some(event::ADDED) { event::ADDED } else { told.event };
        missed.insert(at, (Arc::clone(told.rule), event));
        true
    }

    /// The flags of the monitors that want it; `None` when none does.
    fn wanted(&self, told: Told<'_>) -> Option<u16> {
        let old = told.old.map(|old| &*old.actions);
        let those = self.monitors.values().filter(|m| m.flags & told.flag != 0 && m.wanted.includes(told.rule, old));
        those.map(|m| m.flags).reduce(|all, one| all | one)
    }
}

fn updates_message(updates: Vec<FlowUpdate>) -> Body {
    Body::Stats(Box::new(Multipart { more: false, nxm: false, body: MultipartBody::FlowMonitorReply(updates) }))
}

fn update(bridge: &Bridge, rule: &Rule, event: u8, reason: u8, wanted: u16) -> FlowUpdate {
    let (idle_timeout, hard_timeout) = rule.timeouts_s();
    FlowUpdate::Full {
        event,
        reason,
        priority: u16::try_from(rule.priority).unwrap_or(u16::MAX),
        idle_timeout,
        hard_timeout,
        table: rule.table,
        cookie: rule.cookie.load(Ordering::Relaxed),
        matching: rule.matching(bridge),
        actions: if wanted & flags::INSTRUCTIONS != 0 { rule.actions.to_vec() } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests;
