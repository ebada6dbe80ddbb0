//! The seam over two layers: every megaflow is in the software datapath, and those that hardware can have exactly are in hardware too.
//!
//! What enters: the seam, from the slow path; `tick`, from whoever has a clock. What leaves: the same to the software datapath; rules to
//! the back end; texts for the operator (`report`). Neighbours: `plan` (whether a megaflow can be said), `hardware` (putting it there).
//!
//! # What holds
//!
//! - Software always has the megaflow, and hardware the same or a part of it (narrowed): a packet that hardware does not take, for
//!   whatever reason and at whatever moment, is treated alike. `narrow` tells the slow path beforehand, so that the two are the same.
//! - A change makes before it breaks: software has the new actions before hardware loses the old rule, so that no packet meets
//!   neither. A packet may meet the old rule until `put` returns, and no longer.
//! - A rule whose removal failed keeps its port out of hardware (`Reason::PortDirty`); `tick` sweeps the port until it is clean.
//! - Counters are those of both layers added up. Hardware counters that fall (a driver lost the rule) are never subtracted, and a megaflow
//!   is not idle before hardware has had the time to tell that it was used.
//! - A megaflow that recirculates stays in software: a packet that misses in a chain comes up changed, and userspace cannot tell in
//!   which round it was. The packets of established connections have rules of their own, composed of all that they pass (`connections`).
//! - A meter stays in software, with all that it meters, unless somebody asked for two buckets (`meters`).
//! - A rule behind a tunnel stands and falls with the megaflow that lets packets into the tunnel (`tunnels`).
//! - Switched off, all calls go below as they are, and nothing of ours is in hardware.
//!
//! Any thread may call; the state is locked for one batch of puts or deletes at a time.

mod admission;
mod connections;
mod figures;
mod listen;
mod meters;
mod report;
mod state;
mod tick;
mod tunnels;
mod waiting;
mod worth;

pub use listen::COUNTERS;

use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::plan::Plan;
use crate::refusal::{Reason, Refusal};
use flow::action::Actions;
use flow::conntrack::Conntrack;
use flow::hash::Map;
use flow::key::{Key, Mask};
use flow::seam::{
    BOND_BUCKETS, BondTable, DpError, DpEvent, DpFeatures, DpStats, Execute, FlowDump, FlowPut, FlowStats, MeterConfig,
    MeterStats, NewFlow, Placement, PortInfo, PortRequest, PortStats, QosReport, TooLong, Upcall,
};
use flow::{Datapath, DpPort, Megaflow, Msec, Ufid, clock};
use state::{Counted, Entry, Home, Rate, State};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Counters of many rules are asked for no more often than this, and no more often than a fifth of the time allows: a look at very many takes longer
/// than this, and whoever asks for them part by part would otherwise begin anew with each part.
const LOOK_MS: Msec = 100;
const REST: Msec = 4;
/// So few rules are asked for one by one.
const FEW: usize = 8;
/// How late drivers may be with their counters, unless the operator knows better.
pub const LAG_MS: Msec = 2_000;

/// Software below, hardware beside it.
#[derive(Debug)]
pub struct Tiered<D, H> {
    inner: Arc<D>,
    hardware: H,
    enabled: AtomicBool,
    /// Held for reading by puts: whoever switches waits until those that began before have ended.
    gate: RwLock<()>,
    state: Mutex<State>,
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Over a software datapath and a back end that can do so much. Offload is on.
    pub fn new(inner: impl Into<Arc<D>>, hardware: H, can: Capabilities) -> Self {
        let this = Self::idle(inner, hardware);
        {
            let mut state = this.state();
            state.can = can;
            this.watch(&mut state);
        }
        this.enabled.store(true, Ordering::Release);
        this
    }

    /// The same, switched off.
    pub fn idle(inner: impl Into<Arc<D>>, hardware: H) -> Self {
        let state = State { rebalance: true, lag_ms: LAG_MS, ..State::default() };
        Self { inner: inner.into(), hardware, enabled: AtomicBool::new(false), gate: RwLock::new(()), state: Mutex::new(state) }
    }

    /// The software datapath.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The back end.
    pub const fn hardware(&self) -> &H {
        &self.hardware
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state as it was between two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether offload is on.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Why a megaflow is in software; `None` if it is in hardware or does not exist.
    pub fn reason(&self, ufid: Ufid) -> Option<Refusal> {
        match &self.state().entries.get(&ufid)?.home {
            Home::Software(refusal) => Some(refusal.clone()),
            Home::Hardware => None,
        }
    }

    /// How many megaflows are in hardware, and for each reason how many are not.
    pub fn census(&self) -> (usize, Vec<(Reason, usize)>) {
        let state = self.state();
        let mut reasons: Map<Reason, usize> = Map::default();
        let mut hardware = 0;
        for (_, entry) in state.megaflows() {
            match &entry.home {
                Home::Hardware => hardware += 1,
                Home::Software(refusal) => *reasons.entry(refusal.reason).or_default() += 1,
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_unstable();
        (hardware, reasons)
    }

    /// Switches offload on or off. On: what is there already is tried. Off: every rule of ours is removed, the megaflows go on in software.
    pub fn set_enabled(&self, on: bool) {
        let was = {
            let _no_puts = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.enabled.swap(on, Ordering::AcqRel)
        };
        if was == on {
            return;
        }
        if on {
            self.watch(&mut self.state());
            self.adopt(clock::now_ms());
            return;
        }
        let mut state = self.state();
        let ufids: Vec<Ufid> = state.entries.keys().copied().collect();
        self.take_out(&mut state, &ufids, &Refusal::new(Reason::Disabled, ""), clock::now_ms());
        self.retire_meters(&mut state);
        let State { entries, connected, .. } = &mut *state;
        entries.retain(|ufid, _| !connected.is_merged(*ufid));
        state.waiting.clear();
        state.tunnels.clear();
        self.unwatch(&mut state);
    }

    /// Whether megaflows that are busier may take the place of others in a full table.
    pub fn set_rebalance(&self, on: bool) {
        self.state().rebalance = on;
    }

    /// How late the driver may be with its counters.
    pub fn set_lag(&self, lag_ms: Msec) {
        self.state().lag_ms = lag_ms;
    }

    /// Removes the rules of megaflows, where they have any; they go on in software for `why`.
    fn take_out(&self, state: &mut State, ufids: &[Ufid], why: &Refusal, now: Msec) {
        let there: Vec<Ufid> = ufids.iter().copied().filter(|u| state.is_in_hardware(*u)).collect();
        for (ufid, last) in there.iter().zip(self.hardware.remove_all(&there)) {
            // A rule that may still be there would go on forwarding: its port is dirty now, and a sweep is due.
            if let Ok(last) = last {
                state.saw(*ufid, last, now);
            }
            state.tunnels.unbind(*ufid);
            state.meters.unbind(*ufid);
            if let Some(entry) = state.entries.get_mut(ufid) {
                entry.counted.close();
            }
        }
        state.freed += there.len();
        for ufid in ufids {
            state.refuse(*ufid, why.clone(), now);
        }
    }

    /// Decides for megaflows that software has and hardware has not.
    fn settle(&self, state: &mut State, mut planned: Vec<(Ufid, DpPort, Result<Plan, Refusal>)>, now: Msec) {
        for (_, _, plan) in &mut planned {
            if let Ok(ready) = plan
                && let Err(why) = self.ready_meters(state, ready)
            {
                *plan = Err(why);
            }
        }
        let plans: Vec<(Ufid, &Plan)> = planned.iter().filter_map(|(u, _, p)| p.as_ref().ok().map(|p| (*u, p))).collect();
        let mut results = self.hardware.install_all(&plans).into_iter();
        for (ufid, port, plan) in planned {
            let through = plan.as_ref().ok().and_then(|plan| state.tunnels.entry(plan, &state.can).ok().flatten());
            let metered = plan.as_ref().map_or_else(|_| Vec::new(), meters::of_plan);
            let result = plan.and_then(|_| results.next().unwrap_or_else(|| Err(Refusal::new(Reason::Driver, "no answer"))));
            let fresh =
                || Entry { port, home: Home::Hardware, counted: Counted::default(), rate: Rate::default(), since_ms: now };
            let entry = state.entries.entry(ufid).or_insert_with(fresh);
            entry.port = port;
            match result {
                Ok(()) => {
                    (entry.home, entry.since_ms) = (Home::Hardware, now);
                    state.waiting.forget(ufid);
                    if let Some(through) = through {
                        state.tunnels.bind(ufid, through);
                    }
                    state.meters.bind(ufid, metered);
                }
                Err(refusal) => state.refuse(ufid, refusal, now),
            }
        }
    }

    fn put_tiered(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        let mut state = self.state();
        let now = clock::now_ms();
        let results = self.inner.put(batch);
        let done = || batch.iter().zip(&results).filter_map(|(put, r)| r.is_ok().then_some(put));
        // One that stands in the batch more than once is what it was put as last.
        let last: Map<Ufid, &FlowPut> = done().map(|put| (put.flow.ufid, put)).collect();
        let flows: Vec<&Megaflow> = done().filter(|put| std::ptr::eq(*put, last[&put.flow.ufid])).map(|put| &put.flow).collect();
        let ufids: Vec<Ufid> = flows.iter().map(|flow| flow.ufid).collect();
        // The old rule goes first: a table takes no two rules with the same match.
        self.unmerge_riders(&mut state, &ufids, now);
        self.close_entries(&mut state, &ufids, now);
        self.take_out(&mut state, &ufids, &Refusal::new(Reason::Disabled, ""), now);
        for put in done().filter(|put| put.clear_stats) {
            if let Some(entry) = state.entries.get_mut(&put.flow.ufid) {
                entry.counted = Counted::default();
            }
        }
        let mut planned = Vec::with_capacity(flows.len());
        let (mut ways, mut entries) = (false, false);
        for flow in flows {
            entries |= state.tunnels.put(flow);
            planned.push((flow.ufid, in_port(flow), state.plan(flow)));
            ways |= state.connected.ways.put(flow);
        }
        self.settle(&mut state, planned, now);
        state.connected.stale |= ways;
        if entries {
            Self::open_entries(&mut state, now);
        }
        results
    }

    /// Asks for the counters of some rules, or of all if they are many and the last look is not of just now.
    fn look(&self, state: &mut State, wanted: &[Ufid], now: Msec) {
        if wanted.len() > FEW {
            if now >= state.fresh_ms {
                self.look_at_all(state, now);
            }
            return;
        }
        let riders: Vec<Ufid> = wanted.iter().flat_map(|ufid| state.riders(*ufid)).collect();
        if riders.len() > FEW {
            return self.look(state, &riders, now);
        }
        for ufid in wanted.iter().chain(&riders) {
            if state.is_in_hardware(*ufid)
                && let Some(seen) = self.hardware.stats(*ufid)
            {
                state.saw(*ufid, seen, now);
            }
        }
    }

    fn complete(&self, state: &State, dump: &mut FlowDump) {
        let Some(entry) = state.entries.get(&dump.flow.ufid) else { return };
        dump.stats = entry.counted.with(dump.stats);
        dump.placement = match &entry.home {
            Home::Hardware => Placement::Hardware(self.hardware.name()),
            Home::Software(why) if why.reason != Reason::Disabled => {
                Placement::Declined(why.short() + &Self::beside(state, dump.flow.ufid))
            }
            Home::Software(_) => Placement::Software,
        };
    }
}

fn in_port(flow: &Megaflow) -> DpPort {
    DpPort(u32::from_be_bytes(flow.key.in_port))
}

/// Calls that concern megaflows not at all go below as they are.
macro_rules! below {
    ($( fn $name:ident(&self $(, $arg:ident : $ty:ty)*) $(-> $ret:ty)?; )*) => {
        $( fn $name(&self $(, $arg: $ty)*) $(-> $ret)? { self.inner.$name($($arg),*) } )*
    };
}

impl<D: Datapath, H: Hardware> Datapath for Tiered<D, H> {
    below! {
        fn kind(&self) -> &str;
        fn name(&self) -> &str;
        fn features(&self) -> DpFeatures;
        fn port_add(&self, request: &PortRequest) -> Result<DpPort, DpError>;
        fn port_set(&self, port: DpPort, request: &PortRequest) -> Result<(), DpError>;
        fn port_set_up(&self, port: DpPort, up: bool) -> Result<(), DpError>;
        fn port(&self, port: DpPort) -> Result<PortInfo, DpError>;
        fn ports(&self) -> Vec<PortInfo>;
        fn port_stats(&self, port: DpPort) -> Result<PortStats, DpError>;
        fn port_too_long(&self, port: DpPort) -> Vec<TooLong>;
        fn port_qos(&self, port: DpPort) -> Result<Option<QosReport>, DpError>;
        fn port_qos_kinds(&self, port: DpPort) -> Vec<&'static str>;
        fn events(&self) -> Vec<DpEvent>;
        fn ear(&self) -> Option<Arc<OwnedFd>>;
        fn heard(&self) -> Vec<DpEvent>;
        fn quiesce(&self);
        fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>>;
        fn has_mask_room(&self, mask: &Mask, in_port: DpPort) -> bool;
        fn upcalls(&self, handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>);
        fn set_handlers(&self, n: usize);
        fn set_upcalls_enabled(&self, on: bool);
        fn bond_set(&self, bond: u32, table: &BondTable) -> Result<(), DpError>;
        fn bond_del(&self, bond: u32);
        fn bond_bytes(&self, bond: u32) -> Option<[u64; BOND_BUCKETS]>;
        fn stats(&self) -> DpStats;
        fn set_config(&self, config: &[(String, String)]);
    }

    fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError> {
        self.meter_set_tiered(id, config)
    }

    fn meter_get(&self, id: u32) -> Result<MeterStats, DpError> {
        self.meter_get_tiered(id)
    }

    fn meter_del(&self, id: u32) -> Result<MeterStats, DpError> {
        self.meter_del_tiered(id)
    }

    fn port_custom_stats(&self, port: DpPort) -> Vec<(String, u64)> {
        let mut all = self.inner.port_custom_stats(port);
        if self.is_enabled() {
            all.extend(self.state().figures(port, clock::now_ms()));
        }
        all
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        self.inner.conntrack().map(|_| self as &dyn Conntrack)
    }

    fn port_del(&self, port: DpPort) -> Result<(), DpError> {
        self.lose_port(port);
        self.inner.port_del(port)
    }

    fn narrow(&self, key: &Key, actions: &Arc<Actions>, mask: &mut Box<Mask>) {
        if !self.is_enabled() {
            return;
        }
        let flow = Megaflow { ufid: Ufid(0), key: Box::new(*key), mask: mask.clone(), actions: Arc::clone(actions) };
        // Whether there is an entry to its tunnel is another matter.
        if let Ok(plan) = state::plan_alone(&flow, &self.state().can) {
            *mask = plan.flow.mask;
        }
    }

    fn narrows(&self) -> bool {
        self.is_enabled()
    }

    fn put_new(&self, batch: &[NewFlow<'_>]) -> Vec<Result<(), DpError>> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.is_enabled() {
            self.put_tiered(&batch.iter().map(NewFlow::to_put).collect::<Vec<_>>())
        } else {
            self.inner.put_new(batch)
        }
    }

    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.is_enabled() { self.put_tiered(batch) } else { self.inner.put(batch) }
    }

    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        let mut state = self.state();
        if state.entries.is_empty() {
            // Still under the lock: what is being deleted is not to be adopted meanwhile.
            return self.inner.del(batch);
        }
        let now = clock::now_ms();
        self.unmerge_riders(&mut state, batch, now);
        self.close_entries(&mut state, batch, now);
        self.take_out(&mut state, batch, &Refusal::new(Reason::Disabled, ""), now);
        let results = self.inner.del(batch);
        let mut one = |(ufid, result): (&Ufid, Result<FlowStats, DpError>)| {
            state.waiting.forget(*ufid);
            state.connected.ways.del(*ufid);
            state.tunnels.del(*ufid);
            let entry = state.entries.remove(ufid);
            result.map(|software| entry.map_or(software, |e| e.counted.with(software)))
        };
        batch.iter().zip(results).map(&mut one).collect()
    }

    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        let mut dump = self.inner.get(ufid)?;
        let mut state = self.state();
        self.look(&mut state, &[ufid], clock::now_ms());
        self.complete(&state, &mut dump);
        Ok(dump)
    }

    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool) {
        let now = clock::now_ms();
        let known = {
            let mut state = self.state();
            if self.is_enabled() {
                self.look_at_all(&mut state, now);
            }
            !state.entries.is_empty()
        };
        if !known {
            self.inner.dump(each);
            return;
        }
        self.inner.dump(&mut |dump| {
            let mut dump = dump.clone();
            self.complete(&self.state(), &mut dump);
            each(&dump)
        });
    }

    /// What hardware forwards is not cold, although no packet of it comes here.
    fn unwanted(&self) -> Vec<Ufid> {
        let unwanted = self.inner.unwanted();
        let state = self.state();
        unwanted.into_iter().filter(|ufid| !state.is_carried(*ufid)).collect()
    }

    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        let first = out.len();
        self.inner.stats_of(batch, out);
        let mut state = self.state();
        if state.entries.is_empty() {
            return;
        }
        let (now, lag_ms) = (clock::now_ms(), state.lag_ms);
        self.look(&mut state, batch, now);
        for (ufid, stats) in batch.iter().zip(&mut out[first..]) {
            if let Some(stats) = stats
                && let Some(entry) = state.entries.get(ufid)
            {
                *stats = entry.counted.with(*stats);
                if let Some(since_ms) = state.carried_since(*ufid) {
                    // A rule was not idle before its driver has had the time to say so.
                    stats.used_ms = stats.used_ms.max((stats.used_ms.max(since_ms) + lag_ms).min(now));
                }
            }
        }
    }

    fn flush(&self) {
        let mut state = self.state();
        let ufids: Vec<Ufid> = state.entries.keys().copied().collect();
        self.take_out(&mut state, &ufids, &Refusal::new(Reason::Disabled, ""), clock::now_ms());
        state.entries.clear();
        state.waiting.clear();
        state.connected.clear_rules();
        state.tunnels.clear();
        drop(state);
        self.inner.flush();
    }
}
