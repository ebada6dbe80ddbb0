//! The seam over two layers: every megaflow is in the software datapath, and those that hardware can have exactly are in hardware too.
//!
//! What enters: the seam, from the slow path. What leaves: the same to the software datapath; rules to the back end. Neighbours:
//! `plan` (whether a megaflow can be said), `tc::client` (putting it there).
//!
//! # What holds
//!
//! - Software always has the megaflow, with the same match as hardware (narrowed): a packet that hardware does not take, for
//!   whatever reason and at whatever moment, is treated alike.
//! - A change makes before it breaks: software has the new actions before hardware loses the old rule, so that no packet meets
//!   neither. A packet may meet the old rule until `put` returns, and no longer.
//! - A rule whose removal failed keeps its port out of hardware (`Reason::PortDirty`); the removal is tried again by `sweep`.
//! - Counters are those of both layers added up. Hardware counters that fall (a driver lost the rule) are never subtracted.
//! - A megaflow that recirculates stays in software: a packet that misses in a chain comes up changed, and userspace cannot tell in
//!   which round it was. Connections go into hardware as merged rules instead.
//!
//! Any thread may call; the state is locked for one put or delete at a time.

use crate::capabilities::Capabilities;
use crate::plan::plan;
use crate::refusal::{Reason, Refusal};
use crate::tc::Devices;
use crate::tc::client::{HwStats, Netlink, Tc};
use flow::action::Action;
use flow::hash::Map;
use flow::seam::{
    BOND_BUCKETS, BondTable, DpError, DpEvent, DpFeatures, DpStats, Execute, FlowDump, FlowPut, FlowStats, MeterConfig,
    MeterStats, Placement, PortInfo, PortRequest, PortStats, Upcall,
};
use flow::{Datapath, DpPort, Megaflow, Ufid, clock};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How `dump-flows` names this layer.
const NAME: &str = "tc";

/// Where a megaflow is, and why.
#[derive(Clone, Debug, PartialEq)]
enum Home {
    Hardware(Counted),
    Software(Refusal),
}

/// What hardware has counted: at the last look, and before (rules that were replaced).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    now: HwStats,
    before: HwStats,
    used_ms: flow::Msec,
}

#[derive(Debug, Default)]
struct State {
    homes: Map<Ufid, (DpPort, Home)>,
    /// Counters of rules that are gone, of megaflows that are still there.
    earlier: Map<Ufid, Counted>,
    enabled: bool,
}

/// Software below, hardware beside it.
#[derive(Debug)]
pub struct Tiered<D, N, V> {
    inner: D,
    hardware: Tc<N, V>,
    can: Capabilities,
    state: Mutex<State>,
}

impl<D: Datapath, N: Netlink, V: Devices + std::fmt::Debug> Tiered<D, N, V> {
    /// Over a software datapath and a back end that can do so much. Offload is on.
    pub fn new(inner: D, hardware: Tc<N, V>, can: Capabilities) -> Self {
        let state = State { enabled: true, ..State::default() };
        Self { inner, hardware, can, state: Mutex::new(state) }
    }

    /// The software datapath.
    pub const fn inner(&self) -> &D {
        &self.inner
    }

    /// The back end.
    pub const fn hardware(&self) -> &Tc<N, V> {
        &self.hardware
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state as it was between two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a megaflow is in software; `None` if it is in hardware or does not exist.
    pub fn reason(&self, ufid: Ufid) -> Option<Refusal> {
        match self.state().homes.get(&ufid) {
            Some((_, Home::Software(refusal))) => Some(refusal.clone()),
            Some((_, Home::Hardware(_))) | None => None,
        }
    }

    /// How many megaflows are in hardware, and for each reason how many are not.
    pub fn census(&self) -> (usize, Vec<(Reason, usize)>) {
        let state = self.state();
        let mut reasons: Map<Reason, usize> = Map::default();
        let mut hardware = 0;
        for (_, home) in state.homes.values() {
            match home {
                Home::Hardware(_) => hardware += 1,
                Home::Software(refusal) => *reasons.entry(refusal.reason).or_default() += 1,
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_unstable();
        (hardware, reasons)
    }

    /// Switches offload on or off. Off: every rule of ours is removed, the megaflows go on in software.
    pub fn set_enabled(&self, on: bool) {
        let mut state = self.state();
        state.enabled = on;
        if on {
            return;
        }
        let ufids: Vec<Ufid> = state.homes.keys().copied().collect();
        for ufid in ufids {
            self.take_out(&mut state, ufid, Refusal::new(Reason::Disabled, ""));
        }
    }

    /// Removes a megaflow's rule, if it has one; it goes on in software for `why`.
    fn take_out(&self, state: &mut State, ufid: Ufid, why: Refusal) {
        let Some((_, home)) = state.homes.get_mut(&ufid) else {
            return;
        };
        if let Home::Hardware(counted) = home {
            let mut counted = *counted;
            // A rule that may still be there would go on forwarding: its port is dirty now, and `sweep` is due.
            if let Ok(last) = self.hardware.remove(ufid) {
                counted.now = later(counted.now, last);
            }
            state.earlier.insert(ufid, counted);
        }
        *home = Home::Software(why);
    }

    /// Decides for one megaflow that software already has.
    fn settle(&self, state: &mut State, ufid: Ufid, port: DpPort, planned: Result<crate::plan::Plan, Refusal>) {
        let result = planned.and_then(|plan| if state.enabled { Ok(plan) } else { Err(Refusal::new(Reason::Disabled, "")) });
        let result = result.and_then(|plan| self.hardware.install(ufid, &plan.rule));
        let home = match result {
            Ok(()) => {
                let earlier = state.earlier.remove(&ufid).unwrap_or_default();
                Home::Hardware(Counted {
                    now: HwStats::default(),
                    before: sum(earlier.before, earlier.now),
                    used_ms: earlier.used_ms,
                })
            }
            Err(refusal) => Home::Software(refusal),
        };
        state.homes.insert(ufid, (port, home));
    }

    fn put_one(&self, put: &FlowPut) -> Result<(), DpError> {
        let mut state = self.state();
        let planned = self.plan(&put.flow);
        let narrowed = match &planned {
            Ok(plan) => Megaflow { actions: put.flow.actions.clone(), key: put.flow.key.clone(), ..plan.flow.clone() },
            Err(_) => put.flow.clone(),
        };
        let ufid = put.flow.ufid;
        let port = DpPort(u32::from_be_bytes(put.flow.key.in_port));
        let whole = FlowPut { flow: narrowed, ..put.clone() };
        self.inner.put(&[whole]).pop().unwrap_or(Err(DpError::NoFlow))?;
        if put.clear_stats {
            state.earlier.remove(&ufid);
        }
        self.take_out(&mut state, ufid, Refusal::new(Reason::Disabled, ""));
        if put.clear_stats {
            state.earlier.remove(&ufid);
        }
        self.settle(&mut state, ufid, port, planned);
        Ok(())
    }

    fn plan(&self, flow: &Megaflow) -> Result<crate::plan::Plan, Refusal> {
        if flow.actions.iter().any(|a| matches!(a, Action::Recirc(_))) || flow.key.recirc_id != [0; 4] {
            return Err(Refusal::new(Reason::Parent, "recirc"));
        }
        plan(flow, &self.can)
    }

    /// The counters of both layers.
    fn with_hardware(&self, state: &mut State, ufid: Ufid, software: FlowStats) -> FlowStats {
        let counted = match state.homes.get_mut(&ufid) {
            Some((_, Home::Hardware(counted))) => {
                if let Some(now) = self.hardware.stats(ufid) {
                    let now = later(counted.now, now);
                    if now.packets > counted.now.packets {
                        counted.used_ms = clock::now_ms();
                    }
                    counted.now = now;
                }
                *counted
            }
            _ => state.earlier.get(&ufid).copied().unwrap_or_default(),
        };
        let hw = sum(counted.before, counted.now);
        FlowStats {
            packets: software.packets + hw.packets,
            bytes: software.bytes + hw.bytes,
            used_ms: software.used_ms.max(counted.used_ms),
            tcp_flags: software.tcp_flags,
        }
    }
}

/// The later of two looks: counters only rise.
fn later(a: HwStats, b: HwStats) -> HwStats {
    HwStats { packets: a.packets.max(b.packets), bytes: a.bytes.max(b.bytes) }
}

const fn sum(a: HwStats, b: HwStats) -> HwStats {
    HwStats { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

/// Calls that concern megaflows not at all go below as they are.
macro_rules! below {
    ($( fn $name:ident(&self $(, $arg:ident : $ty:ty)*) $(-> $ret:ty)?; )*) => {
        $( fn $name(&self $(, $arg: $ty)*) $(-> $ret)? { self.inner.$name($($arg),*) } )*
    };
}

impl<D: Datapath, N: Netlink, V: Devices + Send + Sync + std::fmt::Debug> Datapath for Tiered<D, N, V> {
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
        fn events(&self) -> Vec<DpEvent>;
        fn quiesce(&self);
        fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>>;
        fn upcalls(&self, handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>);
        fn set_handlers(&self, n: usize);
        fn set_upcalls_enabled(&self, on: bool);
        fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError>;
        fn meter_get(&self, id: u32) -> Result<MeterStats, DpError>;
        fn meter_del(&self, id: u32) -> Result<MeterStats, DpError>;
        fn bond_set(&self, bond: u32, table: &BondTable) -> Result<(), DpError>;
        fn bond_del(&self, bond: u32);
        fn bond_bytes(&self, bond: u32) -> Option<[u64; BOND_BUCKETS]>;
        fn stats(&self) -> DpStats;
        fn set_config(&self, config: &[(String, String)]);
    }

    fn port_del(&self, port: DpPort) -> Result<(), DpError> {
        let mut state = self.state();
        let of_port: Vec<Ufid> = state.homes.iter().filter(|(_, (p, _))| *p == port).map(|(u, _)| *u).collect();
        for ufid in of_port {
            self.take_out(&mut state, ufid, Refusal::of_port(Reason::InPort, port));
        }
        drop(state);
        self.inner.port_del(port)
    }

    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        batch.iter().map(|put| self.put_one(put)).collect()
    }

    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        let one = |ufid: &Ufid| {
            let mut state = self.state();
            self.take_out(&mut state, *ufid, Refusal::new(Reason::Disabled, ""));
            let software = self.inner.del(&[*ufid]).pop().unwrap_or(Err(DpError::NoFlow))?;
            let all = self.with_hardware(&mut state, *ufid, software);
            state.homes.remove(ufid);
            state.earlier.remove(ufid);
            Ok(all)
        };
        batch.iter().map(one).collect()
    }

    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        let mut dump = self.inner.get(ufid)?;
        self.complete(&mut dump);
        Ok(dump)
    }

    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool) {
        self.inner.dump(&mut |dump| {
            let mut dump = dump.clone();
            self.complete(&mut dump);
            each(&dump)
        });
    }

    fn has_mask_room(&self, mask: &flow::Mask, in_port: DpPort) -> bool {
        self.inner.has_mask_room(mask, in_port)
    }

    /// What hardware forwards is not cold, although no packet of it comes here.
    fn unwanted(&self) -> Vec<Ufid> {
        let unwanted = self.inner.unwanted();
        let state = self.state();
        let in_hardware = |ufid: &Ufid| matches!(state.homes.get(ufid), Some((_, Home::Hardware(_))));
        unwanted.into_iter().filter(|ufid| !in_hardware(ufid)).collect()
    }

    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        let first = out.len();
        self.inner.stats_of(batch, out);
        let mut state = self.state();
        for (ufid, stats) in batch.iter().zip(&mut out[first..]) {
            if let Some(stats) = stats {
                *stats = self.with_hardware(&mut state, *ufid, *stats);
            }
        }
    }

    fn flush(&self) {
        let mut state = self.state();
        let ufids: Vec<Ufid> = state.homes.keys().copied().collect();
        for ufid in ufids {
            self.take_out(&mut state, ufid, Refusal::new(Reason::Disabled, ""));
        }
        state.homes.clear();
        state.earlier.clear();
        drop(state);
        self.inner.flush();
    }
}

impl<D: Datapath, N: Netlink, V: Devices + std::fmt::Debug> Tiered<D, N, V> {
    fn complete(&self, dump: &mut FlowDump) {
        let mut state = self.state();
        dump.stats = self.with_hardware(&mut state, dump.flow.ufid, dump.stats);
        if let Some((_, Home::Hardware(_))) = state.homes.get(&dump.flow.ufid) {
            dump.placement = Placement::Hardware(NAME);
        }
    }
}
