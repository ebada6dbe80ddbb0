//! The datapath in its most obvious form: a list of megaflows, searched from the front for every packet; for tests.
//!
//! What enters: the seam, and frames by `inject`. What leaves: the frames sent, in order, by `sent`. No cache, no classifier, no batch, no
//! threads, no devices, no port but by name: what it does can be read off in a minute, and the switch is held equal to it.
//! Checksum offload, statistics of ports and link state do not exist here.

use crate::meter::Meter;
use crate::program;
use flow::action::{Action, HashAlg, SetAttr, SetField};
use flow::extract::{self, Extracted, PacketMeta};
use flow::flow_hash::{hash_5tuple, hash_sym_l4};
use flow::hash::Map;
use flow::rewrite;
use flow::rewrite_headers::{self as headers, Label, Refused};
use flow::seam::{
    DpError, DpEvent, DpFeatures, DpStats, Execute, FlowDump, FlowPut, FlowStats, MeterConfig, MeterStats, Placement, PortInfo,
    PortRequest, PortStats, PutMode, Upcall, UpcallKind,
};
use flow::{Datapath, DpPort, Key, Megaflow, Ufid, clock};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upcalls kept.
const UPCALLS_MAX: usize = 4096;
/// Frames kept for `sent`.
const SENT_MAX: usize = 1 << 16;
const RECIRC_MAX: u32 = crate::execute::RECIRC_MAX;

/// The obvious datapath.
#[derive(Debug, Default)]
pub struct Reference {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    flows: Vec<(Megaflow, FlowStats)>,
    ports: Vec<PortInfo>,
    meters: Map<u32, Meter>,
    upcalls: VecDeque<Upcall>,
    upcalls_off: bool,
    sent: Vec<(DpPort, Vec<u8>)>,
    stats: DpStats,
    vlan_limit: u8,
}

/// A packet under way.
#[derive(Clone)]
struct Packet {
    bytes: Vec<u8>,
    key: Box<Key>,
    at: Extracted,
    cut: usize,
    depth: u32,
}

impl Packet {
    fn read(bytes: Vec<u8>, meta: &PacketMeta<'_>, depth: u32) -> Self {
        let mut key = Box::new(Key::ZERO);
        let at = extract::extract_whole(&bytes, meta, &mut key);
        Self { bytes, key, at, cut: usize::MAX, depth }
    }

    /// The key of the packet as it is now.
    fn fresh(&self, vlan_limit: u8) -> Self {
        let meta = PacketMeta { vlan_limit, ..PacketMeta::of(&self.key) };
        Self { cut: self.cut, ..Self::read(self.bytes.clone(), &meta, self.depth) }
    }
}

impl Reference {
    /// Without ports and megaflows.
    #[must_use]
    pub fn new() -> Self {
        let state = State { vlan_limit: 1, ..State::default() };
        Self { state: Mutex::new(state), came: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives a frame on a port.
    pub fn inject(&self, port: DpPort, frame: &[u8]) {
        let mut state = self.state();
        let meta = PacketMeta { in_port: port, vlan_limit: state.vlan_limit, ..PacketMeta::default() };
        state.forward(Packet::read(frame.to_vec(), &meta, 0));
        drop(state);
        self.came.notify_all();
    }

    /// The frames sent since the last call.
    #[must_use]
    pub fn sent(&self) -> Vec<(DpPort, Vec<u8>)> {
        std::mem::take(&mut self.state().sent)
    }
}

impl State {
    fn forward(&mut self, packet: Packet) {
        let hit = self.flows.iter_mut().find(|(f, _)| packet.key.equal_under(&f.key, &f.mask));
        let Some((flow, stats)) = hit else {
            self.stats.missed += 1;
            return self.up(&packet, UpcallKind::Miss, None);
        };
        self.stats.hit += 1;
        stats.packets += 1;
        stats.bytes += packet.bytes.len() as u64;
        stats.used_ms = clock::now_ms();
        if packet.key.nw_proto == 6 {
            stats.tcp_flags |= u16::from_be_bytes(packet.key.tcp_flags) & 0xfff;
        }
        let actions = Arc::clone(&flow.actions);
        self.run(packet, &actions);
    }

    fn run(&mut self, mut packet: Packet, actions: &[Action]) {
        for (i, action) in actions.iter().enumerate() {
            if !self.step(&mut packet, action, &actions[i + 1..]) {
                return;
            }
        }
    }

    /// One action; false when the packet is dropped.
    fn step(&mut self, p: &mut Packet, action: &Action, rest: &[Action]) -> bool {
        let vlan_limit = self.vlan_limit;
        match action {
            Action::Output(port) => self.output(p, *port),
            Action::Userspace(to) => {
                let up = p.fresh(vlan_limit);
                p.cut = usize::MAX;
                self.up(&up, UpcallKind::Action(to.cookie.clone()), to.actions.then(|| Arc::new(rest.to_vec())));
            }
            Action::Set(field) => set(p, field),
            Action::Recirc(id) => self.recirculate(p, *id),
            Action::Sample { probability, actions } => {
                // Only the certain cases are the same for everybody.
                if *probability == u32::MAX {
                    self.run(p.clone(), actions);
                }
            }
            Action::Clone(actions) => self.run(p.clone(), actions),
            Action::CheckPktLen { size, greater, less_equal } => {
                let actions = if p.bytes.len() > usize::from(*size) { greater } else { less_equal };
                self.run(p.clone(), actions);
            }
            Action::DecTtl { exceeded } => {
                if rewrite::dec_ttl(&mut p.bytes, &p.at) == Some(false) {
                    self.run(p.clone(), exceeded);
                    return false;
                }
            }
            Action::Trunc(max_len) => p.cut = *max_len as usize,
            Action::Meter(id) => {
                let now_ms = clock::now_ms();
                let Some(meter) = self.meters.get(id) else { return true };
                let judged = meter.judge(std::iter::once(p.bytes.len()), now_ms);
                for (_, levels) in judged.remark.iter().filter(|(packets, _)| *packets != 0) {
                    rewrite::raise_drop_precedence(&mut p.bytes, &p.at, *levels);
                }
                return judged.drop == 0;
            }
            Action::Drop(_) => return false,
            Action::PushVlan { .. }
            | Action::PopVlan
            | Action::PushMpls { .. }
            | Action::PopMpls { .. }
            | Action::AddMpls { .. }
            | Action::PushEth { .. }
            | Action::PopEth
            | Action::PushNsh(_)
            | Action::PopNsh
            | Action::PushPbb { .. }
            | Action::PopPbb
            | Action::CopyTtl { .. } => return change(p, action).is_ok(),
            Action::Hash { alg, basis } => hash(p, *alg, *basis, vlan_limit),
            Action::Ct(_)
            | Action::CtClear
            | Action::Psample { .. }
            | Action::TunnelPush(_)
            | Action::TunnelPop(_)
            | Action::LbOutput(_) => (),
        }
        true
    }

    fn recirculate(&mut self, p: &mut Packet, id: u32) {
        if p.depth < RECIRC_MAX {
            p.key.recirc_id = id.to_be_bytes();
            let mut again = p.fresh(self.vlan_limit);
            (again.depth, again.cut) = (p.depth + 1, usize::MAX);
            self.forward(again);
        }
    }

    fn output(&mut self, p: &mut Packet, port: DpPort) {
        let mut bytes = p.bytes.clone();
        bytes.truncate(p.cut);
        p.cut = usize::MAX;
        if self.ports.iter().any(|known| known.number == port) && self.sent.len() < SENT_MAX {
            self.sent.push((port, bytes));
        }
    }

    fn up(&mut self, p: &Packet, kind: UpcallKind, actions: Option<Arc<flow::Actions>>) {
        if self.upcalls_off || self.upcalls.len() >= UPCALLS_MAX {
            self.stats.lost += 1;
            return;
        }
        self.upcalls.push_back(Upcall {
            kind,
            packet: p.bytes[..p.bytes.len().min(p.cut)].to_vec(),
            key: p.key.clone(),
            full_len: u32::try_from(p.bytes.len()).unwrap_or(u32::MAX),
            actions,
            out_tunnel: None,
            queued_ms: clock::now_ms(),
            rx_queue: 0,
        });
    }
}

fn hash(p: &mut Packet, alg: HashAlg, basis: u32, vlan_limit: u8) {
    let key = p.fresh(vlan_limit).key;
    let hash = match alg {
        HashAlg::L4 => hash_5tuple(&key, basis),
        HashAlg::SymL4 => hash_sym_l4(&key, basis),
    };
    p.key.dp_hash = hash.max(1).to_be_bytes();
}

fn set(p: &mut Packet, field: &SetField) {
    if rewrite::set(&mut p.bytes, &p.at, field) {
        return;
    }
    if matches!(field.attr, SetAttr::Priority | SetAttr::Mark | SetAttr::Tunnel) {
        for ((k, v), m) in p.key.words_mut().iter_mut().zip(field.value.words()).zip(field.mask.words()) {
            *k = *k & !m | v & m;
        }
    }
}

fn change(p: &mut Packet, action: &Action) -> Result<(), Refused> {
    let mut ty = u32::from_be_bytes(p.key.packet_type);
    let (b, at) = (&mut p.bytes, &mut p.at);
    let label = |lse: u32, eth_type: u16, l3: bool| Label { lse, eth_type, l3 };
    if let Action::PushVlan { tpid, tci } = action {
        headers::push_vlan(b, at, *tpid, *tci)?;
    } else if let Action::PopVlan = action {
        // Without a tag the packet goes on as it is.
        let _ = headers::pop_vlan(b, at);
    } else if let Action::PushMpls { lse, eth_type } = action {
        headers::push_mpls(b, at, &mut ty, label(*lse, *eth_type, true))?;
    } else if let Action::AddMpls { lse, eth_type, l3 } = action {
        headers::push_mpls(b, at, &mut ty, label(*lse, *eth_type, *l3))?;
    } else if let Action::PopMpls { eth_type } = action {
        headers::pop_mpls(b, at, &mut ty, *eth_type)?;
    } else if let Action::PushEth { src, dst } = action {
        headers::push_eth(b, at, &mut ty, *src, *dst)?;
    } else if let Action::PopEth = action {
        headers::pop_eth(b, at, &mut ty)?;
    } else if let Action::PushNsh(nsh) = action {
        headers::push_nsh(b, at, &mut ty, nsh)?;
    } else if let Action::PopNsh = action {
        headers::pop_nsh(b, at, &mut ty)?;
    } else if let Action::PushPbb { isid, pcp } = action {
        headers::push_pbb(b, at, ty, *isid, *pcp)?;
    } else if let Action::PopPbb = action {
        headers::pop_pbb(b, at, ty)?;
    } else if let Action::CopyTtl { inwards } = action {
        headers::copy_ttl(b, at, *inwards)?;
    }
    p.key.packet_type = ty.to_be_bytes();
    Ok(())
}

impl Datapath for Reference {
    fn kind(&self) -> &str {
        "reference"
    }

    fn name(&self) -> &str {
        "reference"
    }

    fn features(&self) -> DpFeatures {
        crate::switch::FEATURES
    }

    fn port_add(&self, request: &PortRequest) -> Result<DpPort, DpError> {
        let mut state = self.state();
        if state.ports.iter().any(|p| p.name == request.name) {
            return Err(DpError::PortExists);
        }
        let taken = |n: u32| state.ports.iter().any(|p| p.number.0 == n);
        let number = request.number.filter(|n| !taken(n.0)).map(|n| n.0).or_else(|| (1..65_535).find(|n| !taken(*n)));
        let number = DpPort(number.ok_or(DpError::Full("the port table"))?);
        let (name, kind) = (request.name.clone(), request.kind.clone());
        state.ports.push(PortInfo { number, name, kind, admin_up: true, link_up: true, ..PortInfo::default() });
        Ok(number)
    }

    fn port_del(&self, port: DpPort) -> Result<(), DpError> {
        let mut state = self.state();
        let before = state.ports.len();
        state.ports.retain(|p| p.number != port);
        if state.ports.len() < before { Ok(()) } else { Err(DpError::NoPort) }
    }

    fn port_set(&self, port: DpPort, _request: &PortRequest) -> Result<(), DpError> {
        self.port(port).map(|_| ())
    }

    fn port_set_up(&self, port: DpPort, up: bool) -> Result<(), DpError> {
        let mut state = self.state();
        let port = state.ports.iter_mut().find(|p| p.number == port).ok_or(DpError::NoPort)?;
        port.admin_up = up;
        Ok(())
    }

    fn port(&self, port: DpPort) -> Result<PortInfo, DpError> {
        self.state().ports.iter().find(|p| p.number == port).cloned().ok_or(DpError::NoPort)
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.state().ports.clone()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, DpError> {
        self.port(port).map(|_| PortStats::default())
    }

    fn events(&self) -> Vec<DpEvent> {
        Vec::new()
    }

    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        let mut state = self.state();
        batch.iter().map(|put| state.put(put)).collect()
    }

    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        let mut state = self.state();
        let mut del = |ufid: &Ufid| {
            let at = state.flows.iter().position(|(f, _)| f.ufid == *ufid).ok_or(DpError::NoFlow)?;
            Ok(state.flows.remove(at).1)
        };
        batch.iter().map(&mut del).collect()
    }

    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        let state = self.state();
        state.flows.iter().find(|(f, _)| f.ufid == ufid).map(dump).ok_or(DpError::NoFlow)
    }

    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool) {
        let all: Vec<FlowDump> = self.state().flows.iter().map(dump).collect();
        for one in &all {
            if !each(one) {
                return;
            }
        }
    }

    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        let state = self.state();
        out.extend(batch.iter().map(|ufid| state.flows.iter().find(|(f, _)| f.ufid == *ufid).map(|(_, s)| *s)));
    }

    fn flush(&self) {
        self.state().flows.clear();
    }

    fn quiesce(&self) {
        // Every packet is forwarded under the lock.
        drop(self.state());
    }

    fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>> {
        let mut state = self.state();
        let mut one = |execute: Execute| {
            program::check(&execute.actions, 0)?;
            let meta = PacketMeta { vlan_limit: state.vlan_limit, ..PacketMeta::of(&execute.key) };
            let packet = Packet::read(execute.packet, &meta, 0);
            state.run(packet, &execute.actions);
            Ok(())
        };
        let results = batch.into_iter().map(&mut one).collect();
        drop(state);
        self.came.notify_all();
        results
    }

    fn upcalls(&self, _handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>) {
        let state = self.state();
        let (mut state, _) =
            self.came.wait_timeout_while(state, timeout, |s| s.upcalls.is_empty()).unwrap_or_else(PoisonError::into_inner);
        let n = state.upcalls.len().min(max);
        out.extend(state.upcalls.drain(..n));
    }

    fn set_handlers(&self, _n: usize) {}

    fn set_upcalls_enabled(&self, on: bool) {
        self.state().upcalls_off = !on;
    }

    fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError> {
        let meter = Meter::new(config, clock::now_ms())?;
        self.state().meters.insert(id, meter);
        Ok(())
    }

    fn meter_get(&self, id: u32) -> Result<MeterStats, DpError> {
        self.state().meters.get(&id).map(Meter::stats).ok_or(DpError::NoMeter)
    }

    fn meter_del(&self, id: u32) -> Result<MeterStats, DpError> {
        self.state().meters.remove(&id).map(|m| m.stats()).ok_or(DpError::NoMeter)
    }

    fn stats(&self) -> DpStats {
        let state = self.state();
        DpStats { flows: state.flows.len() as u64, ..state.stats }
    }

    fn set_config(&self, config: &[(String, String)]) {
        self.state().vlan_limit = crate::config::Settings::of(config).vlan_limit;
    }
}

impl State {
    fn put(&mut self, put: &FlowPut) -> Result<(), DpError> {
        program::check(&put.flow.actions, 0)?;
        let mut flow = put.flow.clone();
        *flow.key = flow.key.masked(&flow.mask);
        if let Some((old, stats)) = self.flows.iter_mut().find(|(f, _)| f.ufid == flow.ufid) {
            if put.mode == PutMode::Create {
                return Err(DpError::Exists);
            }
            *old = flow;
            if put.clear_stats {
                *stats = FlowStats::default();
            }
            return Ok(());
        }
        if put.mode == PutMode::Modify {
            return Err(DpError::NoFlow);
        }
        if let Some((other, _)) = self.flows.iter().find(|(f, _)| put.flow.key.equal_under(&f.key, &f.mask)) {
            return Err(if other.actions == flow.actions { DpError::Exists } else { DpError::Overlap });
        }
        self.flows.push((flow, FlowStats::default()));
        Ok(())
    }
}

fn dump((flow, stats): &(Megaflow, FlowStats)) -> FlowDump {
    FlowDump { flow: flow.clone(), unmasked: None, stats: *stats, placement: Placement::Software }
}
