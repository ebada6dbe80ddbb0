//! A datapath in memory for tests: linear search, immediate, every output captured; and refusing on purpose when told to.
//!
//! `receive` runs a packet as a port would have received it; a miss waits as an upcall until a handler takes it. What leaves a
//! port stands in `take_outputs`.

use flow::action::{Action, Actions, Cookie, SetAttr};
use flow::extract::{Extracted, PacketMeta, extract_whole};
use flow::hash::Map;
use flow::rewrite_headers::{self as headers, Label};
use flow::seam::*;
use flow::{Datapath, DpPort, Key, Ufid, rewrite};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Rounds through the datapath that a packet may make.
const DEPTH_MAX: usize = 16;

#[derive(Debug)]
struct Installed {
    flow: Megaflow,
    stats: FlowStats,
}

#[derive(Debug, Default)]
struct State {
    ports: BTreeMap<u32, PortInfo>,
    flows: Map<Ufid, Installed>,
    outputs: Vec<(DpPort, Vec<u8>)>,
    upcalls: VecDeque<Upcall>,
    events: Vec<DpEvent>,
    /// What `heard` tells.
    told: Vec<DpEvent>,
    meters: Map<u32, MeterConfig>,
    stats: DpStats,
}

/// The datapath.
#[derive(Debug, Default)]
pub(crate) struct MemoryDp {
    kind: String,
    name: String,
    state: Mutex<State>,
    line: OnceLock<(Arc<OwnedFd>, UnixStream)>,
    some: Condvar,
    /// Refuse every put from now on.
    pub(crate) refuse_puts: AtomicBool,
    /// Longer packets no port takes; 0: all of them.
    pub(crate) mtu_max: AtomicU16,
    /// How often an MTU was refused.
    pub(crate) mtus_refused: AtomicU64,
    /// There is room for no other mask.
    pub(crate) masks_full: AtomicBool,
    /// What `unwanted` gives out.
    pub(crate) unwanted: Mutex<Vec<Ufid>>,
    /// How often `quiesce` was called.
    pub(crate) quiesced: AtomicU64,
    /// How often all megaflows were asked for.
    pub(crate) dumps: AtomicU64,
    /// How often figures of megaflows were asked for.
    pub(crate) asked: AtomicU64,
    /// Called once, when megaflows are about to be put.
    pub(crate) before_put: Mutex<Option<Hook>>,
    /// The same when they have been put and their owner has not been told yet.
    pub(crate) after_put: Mutex<Option<Hook>>,
    /// The same of megaflows that have been deleted.
    pub(crate) after_del: Mutex<Option<Hook>>,
    /// The same when what is known of a port has been read.
    pub(crate) after_port: Mutex<Option<Hook>>,
}

/// Something to be called.
pub(crate) struct Hook(pub(crate) Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

fn call_once(hook: &Mutex<Option<Hook>>) {
    let hook = hook.lock().unwrap().take();
    if let Some(Hook(call)) = hook {
        call();
    }
}

impl MemoryDp {
    pub(crate) fn new(kind: &str) -> Arc<Self> {
        Self::named(kind, &format!("ovs-{kind}"))
    }

    pub(crate) fn named(kind: &str, name: &str) -> Arc<Self> {
        Arc::new(Self { kind: kind.to_owned(), name: name.to_owned(), ..Self::default() })
    }

    /// A packet arrives at a port.
    pub(crate) fn receive(&self, port: DpPort, packet: &[u8]) {
        let meta = PacketMeta { in_port: port, ..PacketMeta::default() };
        let mut state = self.state.lock().unwrap();
        self.pass(&mut state, packet.to_vec(), &meta, 0);
    }

    /// What left since the last call, in order.
    pub(crate) fn take_outputs(&self) -> Vec<(DpPort, Vec<u8>)> {
        std::mem::take(&mut self.state.lock().unwrap().outputs)
    }

    /// The megaflows that match a packet: none means a miss.
    pub(crate) fn flows_for(&self, key: &Key) -> Vec<Megaflow> {
        let state = self.state.lock().unwrap();
        state.flows.values().filter(|f| f.flow.key.equal_under(key, &f.flow.mask)).map(|f| f.flow.clone()).collect()
    }

    /// Every megaflow.
    pub(crate) fn all_flows(&self) -> Vec<Megaflow> {
        self.state.lock().unwrap().flows.values().map(|f| f.flow.clone()).collect()
    }

    /// A port changes by itself.
    pub(crate) fn set_link(&self, port: DpPort, up: bool) {
        let mut state = self.state.lock().unwrap();
        state.ports.get_mut(&port.0).unwrap().link_up = up;
        state.events.push(DpEvent::PortChanged(port));
    }

    fn takes(&self, mtu: u16) -> bool {
        let max = self.mtu_max.load(Ordering::Relaxed);
        max == 0 || mtu <= max
    }

    /// The MTU of a port is changed by somebody else, whatever ports take.
    pub(crate) fn change_mtu(&self, port: DpPort, mtu: u16) {
        let mut state = self.state.lock().unwrap();
        state.ports.get_mut(&port.0).unwrap().mtu = mtu;
        state.events.push(DpEvent::PortChanged(port));
    }

    /// A port changes, as the kernel tells it.
    pub(crate) fn tell_link(&self, port: DpPort, up: bool) {
        let mut state = self.state.lock().unwrap();
        state.ports.get_mut(&port.0).unwrap().link_up = up;
        state.told.push(DpEvent::PortChanged(port));
        if state.told.len() == 1 {
            let mut mouth = &self.line().1;
            mouth.write_all(&[0]).unwrap();
        }
    }

    /// What is readable while something is told, and what makes it so.
    fn line(&self) -> &(Arc<OwnedFd>, UnixStream) {
        self.line.get_or_init(|| {
            let (ear, mouth) = UnixStream::pair().unwrap();
            (Arc::new(ear.into()), mouth)
        })
    }

    /// A flow that nobody of ours put.
    pub(crate) fn lose_flow(&self, ufid: Ufid) {
        self.state.lock().unwrap().flows.remove(&ufid);
    }

    fn pass(&self, state: &mut State, packet: Vec<u8>, meta: &PacketMeta<'_>, depth: usize) {
        let mut key = Key::ZERO;
        extract_whole(&packet, meta, &mut key);
        let hit = state.flows.values_mut().find(|f| f.flow.key.equal_under(&key, &f.flow.mask));
        let Some(hit) = hit else {
            state.stats.missed += 1;
            self.upcall(state, UpcallKind::Miss, packet, &key);
            return;
        };
        state.stats.hit += 1;
        hit.stats.packets += 1;
        hit.stats.bytes += packet.len() as u64;
        hit.stats.used_ms = flow::clock::now_ms();
        hit.stats.tcp_flags |= u16::from_be_bytes(key.tcp_flags);
        let actions = Arc::clone(&hit.flow.actions);
        self.run(state, packet, key, &actions, depth);
    }

    fn upcall(&self, state: &mut State, kind: UpcallKind, packet: Vec<u8>, key: &Key) {
        let full_len = u32::try_from(packet.len()).unwrap();
        state.upcalls.push_back(Upcall {
            kind,
            packet,
            key: Box::new(*key),
            full_len,
            actions: None,
            out_tunnel: None,
            queued_ms: flow::clock::now_ms(),
            rx_queue: 0,
        });
        self.some.notify_all();
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a test that needs more says so")]
    fn run(&self, state: &mut State, mut packet: Vec<u8>, mut key: Key, actions: &Actions, depth: usize) {
        if depth >= DEPTH_MAX {
            return;
        }
        for action in actions {
            match action {
                Action::Output(port) => state.outputs.push((*port, packet.clone())),
                Action::Userspace(u) => self.upcall(state, UpcallKind::Action(u.cookie.clone()), packet.clone(), &key),
                Action::PushVlan { tpid, tci } => {
                    let tag = [tpid.to_be_bytes(), (tci & 0xefff).to_be_bytes()].concat();
                    packet.splice(12..12, tag);
                }
                Action::PopVlan => drop(packet.drain(12..16)),
                Action::Set(set) if matches!(set.attr, SetAttr::Pbb | SetAttr::Mpls) => {
                    let at = layers(&packet, &key);
                    assert!(rewrite::set(&mut packet, &at, set));
                }
                Action::Set(set) => write_headers(&mut packet, &mut key, set),
                Action::PushPbb { isid, pcp } => {
                    let mut at = layers(&packet, &key);
                    headers::push_pbb(&mut packet, &mut at, 0, *isid, *pcp).unwrap();
                }
                Action::CopyTtl { inwards } => {
                    let at = layers(&packet, &key);
                    headers::copy_ttl(&mut packet, &at, *inwards).unwrap();
                }
                Action::PushMpls { lse, eth_type } => {
                    let mut at = layers(&packet, &key);
                    let label = Label { lse: *lse, eth_type: *eth_type, l3: true };
                    headers::push_mpls(&mut packet, &mut at, &mut 0, label).unwrap();
                }
                Action::PopMpls { eth_type } => {
                    let mut at = layers(&packet, &key);
                    headers::pop_mpls(&mut packet, &mut at, &mut 0, *eth_type).unwrap();
                }
                Action::PopPbb => {
                    let mut at = layers(&packet, &key);
                    headers::pop_pbb(&mut packet, &mut at, 0).unwrap();
                }
                Action::Recirc(id) => {
                    let mut meta = PacketMeta::of(&key);
                    meta.recirc_id = *id;
                    self.pass(state, packet.clone(), &meta, depth + 1);
                }
                Action::Hash { basis, .. } => key.dp_hash = (basis ^ 0x9e37_79b9 ^ u32::from(key.nw_src[3])).to_be_bytes(),
                Action::Clone(inner) => self.run(state, packet.clone(), key, inner, depth + 1),
                Action::Sample { probability: u32::MAX, actions } => self.run(state, packet.clone(), key, actions, depth + 1),
                Action::CheckPktLen { size, greater, less_equal } => {
                    let taken = if packet.len() > usize::from(*size) { greater } else { less_equal };
                    self.run(state, packet.clone(), key, taken, depth + 1);
                }
                Action::CtClear => key.ct_state = 0,
                Action::TunnelPush(push) => {
                    packet = [&push.header[..], &packet].concat();
                    let meta = PacketMeta { in_port: push.out_port, ..PacketMeta::default() };
                    key = Key::ZERO;
                    extract_whole(&packet, &meta, &mut key);
                }
                // No packet is beyond its meter's rate.
                Action::Meter(_) => {}
                Action::Drop(_) => return,
                other => panic!("the datapath in memory does not know {other:?}"),
            }
        }
    }
}

fn layers(packet: &[u8], key: &Key) -> Extracted {
    extract_whole(packet, &PacketMeta::of(key), &mut Key::default())
}

/// Writes the fields that a set names into the packet's bytes.
fn write_headers(packet: &mut [u8], key: &mut Key, set: &flow::action::SetField) {
    let mut masked = *key;
    for ((k, v), m) in masked.words_mut().iter_mut().zip(set.value.words()).zip(set.mask.words()) {
        *k = *k & !m | v & m;
    }
    let before = *key;
    let meta = PacketMeta::of(&before);
    let mut now = Key::ZERO;
    let at = extract_whole(packet, &meta, &mut now);
    *key = masked;
    if packet.len() >= 12 {
        packet[..6].copy_from_slice(&masked.eth_dst);
        packet[6..12].copy_from_slice(&masked.eth_src);
    }
    if matches!(key.eth_type, [0x88, 0x47 | 0x48]) && at.l2_5 != flow::extract::NO_OFFSET {
        let label = usize::from(at.l2_5);
        packet[label..label + 4].copy_from_slice(&masked.mpls_lse0);
    }
    if key.eth_type == [8, 0] && at.l3 != flow::extract::NO_OFFSET {
        let ip = usize::from(at.l3);
        packet[ip + 1] = masked.nw_tos;
        packet[ip + 8] = masked.nw_ttl;
        packet[ip + 12..ip + 16].copy_from_slice(&masked.nw_src);
        packet[ip + 16..ip + 20].copy_from_slice(&masked.nw_dst);
        if matches!(masked.nw_proto, 6 | 17) && at.l4 != flow::extract::NO_OFFSET {
            let l4 = usize::from(at.l4);
            packet[l4..l4 + 2].copy_from_slice(&masked.tp_src);
            packet[l4 + 2..l4 + 4].copy_from_slice(&masked.tp_dst);
        }
    }
}

impl Datapath for MemoryDp {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn features(&self) -> DpFeatures {
        DpFeatures {
            masked_set: true,
            recirc: true,
            tunnel_push_pop: false,
            host_tunnels: false,
            ufid: true,
            trunc: true,
            clone: true,
            sample_nesting: 10,
            max_vlan_headers: 2,
            max_mpls_depth: 3,
            ct: false,
            ct_nat: false,
            meters_max: 16,
            bands_max: 8,
            check_pkt_len: true,
            explicit_drop: true,
            lb_output: false,
            add_mpls: true,
            nd_extensions: true,
            psample: false,
        }
    }

    fn port_add(&self, request: &PortRequest) -> Result<DpPort, DpError> {
        let mut state = self.state.lock().unwrap();
        if request.name.starts_with("missing") {
            return Err(DpError::Device(format!("could not open network device {} (No such device)", request.name)));
        }
        if state.ports.values().any(|p| p.name == request.name) {
            return Err(DpError::PortExists);
        }
        // As OVS's dummy datapath: the number in the name, a hundred more for a bridge, else the lowest free.
        let digits: String = request.name.chars().filter(char::is_ascii_digit).collect();
        let in_name = digits.parse::<u32>().ok().map(|n| if request.name.starts_with("br") { n + 100 } else { n });
        let wish = request.number.map(|n| n.0).or(in_name).filter(|n| !state.ports.contains_key(n));
        let number = wish.unwrap_or_else(|| (1..).find(|n| !state.ports.contains_key(n)).unwrap());
        let [.., last] = number.to_be_bytes();
        let info = PortInfo {
            number: DpPort(number),
            name: request.name.clone(),
            kind: request.kind.clone(),
            mac: request.mac.unwrap_or([0xaa, 0x55, 0xaa, 0x55, 0, last]),
            mtu: request.mtu.filter(|mtu| self.takes(*mtu)).unwrap_or(1500),
            admin_up: true,
            link_up: true,
            options: request.options.clone(),
            config: request.options.clone(),
            ..PortInfo::default()
        };
        state.ports.insert(number, info);
        Ok(DpPort(number))
    }

    fn port_del(&self, port: DpPort) -> Result<(), DpError> {
        self.state.lock().unwrap().ports.remove(&port.0).map(|_| ()).ok_or(DpError::NoPort)
    }

    fn port_set(&self, port: DpPort, request: &PortRequest) -> Result<(), DpError> {
        let mut state = self.state.lock().unwrap();
        let info = state.ports.get_mut(&port.0).ok_or(DpError::NoPort)?;
        info.mac = request.mac.unwrap_or(info.mac);
        info.host = request.host;
        info.options.clone_from(&request.options);
        info.config.clone_from(&request.options);
        let mtu = request.mtu.unwrap_or(info.mtu);
        if mtu != info.mtu && !self.takes(mtu) {
            self.mtus_refused.fetch_add(1, Ordering::Relaxed);
            // Even if a refusal is told of as a change.
            state.events.push(DpEvent::PortChanged(port));
            return Err(DpError::Device(format!("an MTU of {mtu} is too much")));
        }
        info.mtu = mtu;
        Ok(())
    }

    fn port_set_up(&self, port: DpPort, up: bool) -> Result<(), DpError> {
        self.state.lock().unwrap().ports.get_mut(&port.0).ok_or(DpError::NoPort)?.admin_up = up;
        Ok(())
    }

    fn port(&self, port: DpPort) -> Result<PortInfo, DpError> {
        let info = self.state.lock().unwrap().ports.get(&port.0).cloned().ok_or(DpError::NoPort);
        call_once(&self.after_port);
        info
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.state.lock().unwrap().ports.values().cloned().collect()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, DpError> {
        self.port(port).map(|_| PortStats::default())
    }

    fn events(&self) -> Vec<DpEvent> {
        std::mem::take(&mut self.state.lock().unwrap().events)
    }

    fn ear(&self) -> Option<Arc<OwnedFd>> {
        Some(Arc::clone(&self.line().0))
    }

    fn heard(&self) -> Vec<DpEvent> {
        let mut state = self.state.lock().unwrap();
        if !state.told.is_empty() {
            nix::unistd::read(&self.line().0, &mut [0]).unwrap();
        }
        std::mem::take(&mut state.told)
    }

    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        call_once(&self.before_put);
        let mut state = self.state.lock().unwrap();
        let results = batch
            .iter()
            .map(|put| {
                let exists = state.flows.contains_key(&put.flow.ufid);
                if self.refuse_puts.load(Ordering::Relaxed) {
                    return Err(DpError::Full("the flow table"));
                }
                match put.mode {
                    PutMode::Create if exists => return Err(DpError::Exists),
                    PutMode::Modify if !exists => return Err(DpError::NoFlow),
                    PutMode::Create | PutMode::Modify | PutMode::CreateOrModify => {}
                }
                let stats = state.flows.get(&put.flow.ufid).map_or_else(FlowStats::default, |f| f.stats);
                let mut flow = put.flow.clone();
                *flow.key = flow.key.masked(&flow.mask);
                state.flows.insert(flow.ufid, Installed { flow, stats });
                Ok(())
            })
            .collect();
        drop(state);
        call_once(&self.after_put);
        results
    }

    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        let mut state = self.state.lock().unwrap();
        let results = batch.iter().map(|ufid| state.flows.remove(ufid).map(|f| f.stats).ok_or(DpError::NoFlow)).collect();
        drop(state);
        call_once(&self.after_del);
        results
    }

    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        let state = self.state.lock().unwrap();
        let f = state.flows.get(&ufid).ok_or(DpError::NoFlow)?;
        Ok(FlowDump { flow: f.flow.clone(), unmasked: None, stats: f.stats, placement: Placement::Software })
    }

    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool) {
        self.dumps.fetch_add(1, Ordering::Relaxed);
        let flows: Vec<_> = {
            let state = self.state.lock().unwrap();
            let dump =
                |f: &Installed| FlowDump { flow: f.flow.clone(), unmasked: None, stats: f.stats, placement: Placement::Software };
            state.flows.values().map(dump).collect()
        };
        for flow in &flows {
            if !each(flow) {
                return;
            }
        }
    }

    fn has_mask_room(&self, _mask: &flow::Mask, _in_port: DpPort) -> bool {
        !self.masks_full.load(Ordering::Relaxed)
    }

    fn unwanted(&self) -> Vec<Ufid> {
        std::mem::take(&mut self.unwanted.lock().unwrap())
    }

    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        let state = self.state.lock().unwrap();
        out.extend(batch.iter().map(|ufid| state.flows.get(ufid).map(|f| f.stats)));
        drop(state);
        self.asked.fetch_add(1, Ordering::AcqRel);
    }

    fn flush(&self) {
        self.state.lock().unwrap().flows.clear();
    }

    fn quiesce(&self) {
        self.quiesced.fetch_add(1, Ordering::Relaxed);
    }

    fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>> {
        let mut state = self.state.lock().unwrap();
        batch
            .into_iter()
            .map(|e| {
                self.run(&mut state, e.packet, *e.key, &e.actions, 0);
                Ok(())
            })
            .collect()
    }

    fn upcalls(&self, _handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>) {
        let mut state = self.state.lock().unwrap();
        if state.upcalls.is_empty() && !timeout.is_zero() {
            state = self.some.wait_timeout(state, timeout).unwrap().0;
        }
        let n = max.min(state.upcalls.len());
        out.extend(state.upcalls.drain(..n));
    }

    fn set_handlers(&self, _n: usize) {}

    fn set_upcalls_enabled(&self, _on: bool) {
        self.some.notify_all();
    }

    fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError> {
        self.state.lock().unwrap().meters.insert(id, config.clone());
        Ok(())
    }

    fn meter_get(&self, id: u32) -> Result<MeterStats, DpError> {
        self.state.lock().unwrap().meters.get(&id).map(|_| MeterStats::default()).ok_or(DpError::NoMeter)
    }

    fn meter_del(&self, id: u32) -> Result<MeterStats, DpError> {
        self.state.lock().unwrap().meters.remove(&id).map(|_| MeterStats::default()).ok_or(DpError::NoMeter)
    }

    fn stats(&self) -> DpStats {
        let state = self.state.lock().unwrap();
        DpStats { flows: state.flows.len() as u64, ..state.stats }
    }

    fn set_config(&self, _config: &[(String, String)]) {}
}

/// Whether an action sends the packet up for the slow path.
pub(crate) fn is_slow(actions: &Actions) -> bool {
    matches!(actions.first(), Some(Action::Userspace(u)) if matches!(u.cookie, Cookie::SlowPath { .. }))
}
