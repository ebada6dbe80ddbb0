//! The software switch as the slow path sees it: the seam, over flow table, ports, workers and upcalls.
//!
//! What enters: calls of `flow::seam::Datapath` from any thread. What leaves: answers; commands to workers. Neighbours: `flows` and `ports`
//! (what is behind the one control lock), `forward` (what workers and `execute` share), `upcall`.
//!
//! # Locks
//!
//! `control` guards everything that changes by configuration: flow table, ports, workers. `aux` is the forwarding core of whoever calls
//! `execute`: it runs on the caller's thread, with transmit handles of its own. `control` is taken before `aux`, never after it.
//! Workers take neither. A put is complete when it returns, so a packet that is executed after it, by anybody, finds the megaflow.
//!
//! # The dummy datapath
//!
//! `inject` makes tests deterministic: it lets a dummy port receive a frame, has its worker forward it, and waits (bounded) until every
//! upcall that came of it was handled.

use crate::account::LogSettings;
use crate::bundle::{BUNDLE_MAX, Bundle};
use crate::classifier::Classifier;
use crate::config::Settings;
use crate::crew::WorkerId;
use crate::ct::reaper;
use crate::flows::{Done, FlowTable, Prepared, Room, STATS_STEP};
use crate::forward::{Core, Scope, Shared};
use crate::meter::Meter;
use crate::parsed::meta_of;
use crate::perf::Report;
use crate::ports::{Means, Ports};
use crate::program;
use crate::qsbr::Member;
use crate::slots::SlotWriter;
use crate::stats::Work;
use crate::topology::Topology;
use crate::worker::{Command, Handle, Post, Tuning};
use flow::action::Action;
use flow::clock::{self, Msec};
use flow::conntrack::Conntrack;
use flow::seam::{
    BOND_BUCKETS, BondTable, DpError, DpEvent, DpFeatures, DpStats, Execute, FlowDump, FlowPut, FlowStats, MeterConfig,
    MeterStats, NewFlow, PortInfo, PortRequest, PortStats, QosReport, TooLong, Upcall,
};
use flow::{Datapath, DpPort, Ufid, brief};
use port::{Device, Packet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Slots dumped under one hold of the control lock.
const DUMP_STEP: u32 = 256;
/// The signature cache of the `execute` context.
const AUX_CACHE_FLOWS: usize = 1 << 12;
/// How long `inject` waits for upcalls to be handled.
const SETTLE_MAX: Duration = Duration::from_secs(2);
const SETTLE_STEP: Duration = Duration::from_micros(100);
/// Megaflows whose figures are asked for by who is in a hurry, at most.
const STATS_FEW: usize = 64;
/// How often the core is given away to who waits for the control lock.
const GIVE_WAY_MAX: usize = 64;
/// Frames that may be executed: what a buffer of the pool takes.
const FRAME_MAX: usize = port::pool::FRAME_MAX;

/// What this datapath can do.
pub const FEATURES: DpFeatures = DpFeatures {
    masked_set: true,
    recirc: true,
    tunnel_push_pop: true,
    host_tunnels: false,
    ufid: true,
    trunc: true,
    clone: true,
    sample_nesting: 10,
    max_vlan_headers: flow::extract::VLANS_MAX as u32,
    max_mpls_depth: 3,
    ct: true,
    ct_nat: true,
    meters_max: crate::meter::METERS_MAX,
    bands_max: 8,
    check_pkt_len: true,
    explicit_drop: true,
    lb_output: true,
    add_mpls: true,
    nd_extensions: true,
    psample: false,
};
const _: () = assert!(program::NESTING_MAX == 10 && flow::key::MPLS_LABELS_MAX == 3 && crate::meter::BANDS_MAX == 8);

/// How a switch is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `Open_vSwitch.other_config`.
    pub config: Vec<(String, String)>,
    /// The cores that workers may run on.
    pub topology: Topology,
    /// There is a host whose stack tunnel ports may use: the datapath is no dummy.
    pub host_tunnels: bool,
}

/// What the control lock guards.
#[derive(Debug)]
pub(crate) struct Control {
    flows: FlowTable,
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    /// `pmd-perf-log-set`
    pub(crate) perf_log: LogSettings,
}

#[derive(Debug)]
struct Aux {
    member: Member,
    core: Core,
}

/// A software switch.
#[derive(Debug)]
pub struct Switch {
    kind: String,
    name: String,
    pub(crate) shared: Arc<Shared>,
    topology: Topology,
    host_tunnels: bool,
    /// The first configuration has been taken up, and what it says has been logged.
    announced: AtomicBool,
    pub(crate) control: Mutex<Control>,
    /// How many wait for `control` who are not to wait long: whoever goes over all megaflows gives way to them.
    urgent: AtomicUsize,
    aux: Mutex<Aux>,
    /// Ends and frees connections; it stops when the switch goes.
    _reaper: reaper::Thread,
}

fn tuning(settings: &Settings, log: LogSettings, id: WorkerId) -> Tuning {
    Tuning { nap_max_us: settings.sleep.of_core(id.core()), metrics: settings.perf_metrics, log }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switch {
    /// A switch of a datapath type ("netdev", "system", "dummy") called `name` ("ovs-netdev"), without ports, its workers running.
    pub fn new(kind: &str, name: &str, options: &Options) -> Result<Self, DpError> {
        let (slots, slot_writer) = SlotWriter::new();
        let (classifier, classifier_writer) = Classifier::new();
        let shared = Arc::new(Shared::new(slots, classifier));
        let reaper = reaper::Thread::start(Arc::clone(&shared.ct), Arc::clone(&shared.epochs))
            .map_err(|e| DpError::Device(format!("cannot start the connection tracker's thread: {e}")))?;
        let flows = FlowTable::new(Arc::clone(&shared), slot_writer, classifier_writer);
        let member = shared.epochs.join().ok_or(DpError::Full("the list of forwarding threads"))?;
        flows.welcome(member.seat());
        let core = Core::new(member.seat(), AUX_CACHE_FLOWS);
        let ports = Ports::new(kind == "dummy");
        let settings = Settings::of(&options.config);
        shared.live.set(&settings);
        let control = Control { flows, ports, settings, perf_log: LogSettings::default() };
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            shared,
            topology: options.topology.clone(),
            host_tunnels: options.host_tunnels,
            announced: AtomicBool::new(false),
            control: Mutex::new(control),
            urgent: AtomicUsize::new(0),
            aux: Mutex::new(Aux { member, core }),
            _reaper: reaper,
        })
    }

    fn configure(&self, settings: Settings) -> Result<(), DpError> {
        let mut control = lock(&self.control);
        let first = !self.announced.swap(true, Ordering::Relaxed);
        settings.announce(Some(&control.settings).filter(|_| !first));
        if settings == control.settings {
            return Ok(());
        }
        let before = std::mem::replace(&mut control.settings, settings);
        let now = control.settings.clone();
        self.shared.live.set(&now);
        if before.cache_flows != now.cache_flows {
            for worker in &control.ports.crew.workers {
                worker.handle.send(Command::ResizeCache(now.cache_flows));
            }
        }
        self.tune(&control);
        let placing = |s: &Settings| (s.cores.clone(), s.workers, s.way, s.isolate);
        if placing(&before) == placing(&now) {
            return Ok(());
        }
        self.with_means(&mut control, |ports, means| ports.arrange(means))
    }

    /// Tells the workers how to work.
    pub(crate) fn tune(&self, control: &Control) {
        for worker in &control.ports.crew.workers {
            worker.handle.send(Command::Tune(tuning(&control.settings, control.perf_log, worker.id)));
        }
    }

    /// Does something with the ports that may need workers.
    fn with_means<R>(&self, control: &mut Control, f: impl FnOnce(&mut Ports, &mut Means<'_>) -> R) -> R {
        let Control { flows, ports, settings, perf_log } = control;
        let mut hire = |id| self.start_worker(flows, settings, *perf_log, id);
        let mut aux = lock(&self.aux);
        let now_ms = clock::now_ms();
        f(ports, &mut Means { aux: &mut aux.core, settings, topology: &self.topology, hire: &mut hire, now_ms })
    }

    fn start_worker(&self, flows: &FlowTable, settings: &Settings, log: LogSettings, id: WorkerId) -> Result<Handle, DpError> {
        let member = self.shared.epochs.join().ok_or(DpError::Full("the list of forwarding threads"))?;
        flows.welcome(member.seat());
        let seat = member.seat();
        let (name, cpu) = match id {
            WorkerId::Core(core) => (format!("pmd-c{core:02}/id:{seat}"), Some(core)),
            WorkerId::Main => (format!("main/id:{seat}"), None),
        };
        // Without a mask the scheduler decides where a worker runs; imaginary cores are nowhere.
        let cpu = cpu.filter(|_| settings.cores.is_some() && !self.topology.imaginary);
        let post = Post { name, cpu, cache_flows: settings.cache_flows, tuning: tuning(settings, log, id) };
        Handle::start(Arc::clone(&self.shared), member, post)
            .map_err(|e| DpError::Device(format!("cannot start a forwarding thread: {e}")))
    }

    /// The number of the port called `name`.
    #[must_use]
    pub fn port_by_name(&self, name: &str) -> Option<DpPort> {
        lock(&self.control).ports.by_name(name)
    }

    /// Looks at a port's device: custom statistics, queues, the control handle of a dummy.
    pub fn with_device<R>(&self, port: DpPort, f: impl FnOnce(&Device) -> R) -> Result<R, DpError> {
        lock(&self.control).ports.device(port).map(f)
    }

    /// Lets a dummy port receive a frame, and returns when it has been forwarded and all upcalls that came of it (and of whatever else
    /// happened meanwhile) were handled, or after two seconds. `netdev-dummy/receive`.
    pub fn inject(&self, port: DpPort, queue: usize, frame: &[u8]) -> Result<(), DpError> {
        let dummy =
            self.with_device(port, Device::dummy)?.ok_or_else(|| DpError::Unsupported("receiving by command".to_owned()))?;
        dummy.receive(queue, frame).map_err(|e| DpError::Invalid(e.to_string()))?;
        self.drain(port);
        self.settle();
        Ok(())
    }

    /// Has the workers poll a port's queues until they are empty.
    pub fn drain(&self, port: DpPort) {
        let control = lock(&self.control);
        for worker in &control.ports.crew.workers {
            // The answer only says that it is done.
            let _ = worker.handle.ask(|done| Command::Drain(port, done));
        }
    }

    /// Waits until all upcalls were handled; false if that took too long. Without handlers nothing is waited for.
    pub fn settle(&self) -> bool {
        let steps = SETTLE_MAX.as_micros() / SETTLE_STEP.as_micros();
        for _ in 0..steps {
            if self.shared.upcalls.settled() || !self.shared.upcalls.has_handlers() {
                return true;
            }
            std::thread::sleep(SETTLE_STEP);
        }
        false
    }

    /// Packets that a port's worker received, found and lost, for benchmarks: received, hit, missed.
    #[must_use]
    pub fn work(&self) -> (u64, u64, u64) {
        (self.sum(|w| &w.received), self.sum(|w| &w.hit), self.sum(|w| &w.missed))
    }

    /// What all forwarding threads have counted.
    fn sum(&self, of: fn(&Work) -> &AtomicU64) -> u64 {
        self.shared.work.iter().map(|work| of(work).load(Ordering::Relaxed)).sum()
    }

    /// Packets that went round again after `ct`, and those of them whose megaflow was known of the whole batch.
    #[must_use]
    pub fn after_ct(&self) -> (u64, u64) {
        (self.sum(|w| &w.recirculated), self.sum(|w| &w.after_ct))
    }

    /// Has forwarding threads account their cycles by stage from now on, or no more.
    pub fn account_stages(&self, on: bool) {
        self.shared.live.stages.store(on, Ordering::Relaxed);
    }

    /// Cycles by stage of every forwarding thread that has received anything meanwhile.
    #[must_use]
    pub fn stage_reports(&self) -> Vec<Report> {
        let report = |(seat, work): (usize, &crossbeam_utils::CachePadded<Work>)| Report {
            seat,
            packets: work.cycles.packets(),
            cycles: work.cycles.values(),
        };
        self.shared.work.iter().enumerate().map(report).filter(|r| r.packets > 0).collect()
    }

    /// Executes packets, no more than a bundle takes, of one input port and receive queue, that do the same.
    fn execute_some(&self, aux: &mut Aux, some: &[Execute], results: &mut Vec<Result<(), DpError>>) {
        let Some(first) = some.first() else { return };
        if let Err(error) = program::check(&first.actions, 0) {
            return results.extend(some.iter().map(|_| Err(error.clone())));
        }
        // To send a packet its key is not needed.
        let is_sent = first.actions.iter().all(|action| matches!(action, Action::Output(_)));
        let mut bundle = aux.core.spares.take();
        results.extend(some.iter().map(|execute| self.load(execute, is_sent, &mut bundle)));
        (aux.core.now_ms, aux.core.rx_queue) = (clock::now_ms(), first.rx_queue);
        let scope = Scope { shared: &self.shared, guard: aux.member.guard() };
        if bundle.packets.is_empty() {
            aux.core.spares.give(bundle);
        } else {
            aux.core.run(scope, bundle, &first.actions);
        }
    }

    /// Puts a packet that is to be executed into a bundle that has room; without its key where it is only sent.
    fn load(&self, execute: &Execute, is_sent: bool, bundle: &mut Bundle) -> Result<(), DpError> {
        if execute.packet.len() > FRAME_MAX {
            return Err(DpError::Invalid(format!("packet of {} bytes, at most {FRAME_MAX}", execute.packet.len())));
        }
        if execute.probe {
            return Ok(());
        }
        let mut packet = Packet::from_bytes(&execute.packet).ok_or(DpError::Full("the packet pool"))?;
        packet.set_queue(crate::edit::queue_of(execute.key.skb_priority));
        let at = bundle.packets.len();
        if !is_sent {
            bundle.parsed[at].read(packet.data(), &meta_of(&execute.key, self.shared.live.vlan_limit()));
        }
        // The caller gives no more than there is room for.
        let _ = bundle.packets.push(packet);
        Ok(())
    }

    /// The control lock for who does little and is waited for.
    fn lock_soon(&self) -> MutexGuard<'_, Control> {
        self.urgent.fetch_add(1, Ordering::Relaxed);
        let control = brief::lock(&self.control).unwrap_or_else(PoisonError::into_inner);
        self.urgent.fetch_sub(1, Ordering::Relaxed);
        control
    }

    /// Lets those have the lock who are not to wait long. To let go of it alone does not: on a core that both share, who takes it again at
    /// once is quicker than who is being woken.
    fn give_way(&self) {
        for _ in 0..GIVE_WAY_MAX {
            if self.urgent.load(Ordering::Relaxed) == 0 {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn police(&self, control: &mut Control, port: DpPort) -> Result<(), DpError> {
        let old = control.ports.police(port, clock::now_ms())?;
        control.flows.keep_memory(old);
        Ok(())
    }

    fn log_put(&self, put: &FlowPut, done: &Done) {
        if crate::log::wants_dumps()
            && let Ok(dump) = lock(&self.control).flows.get(put.flow.ufid)
        {
            crate::log::requested(&format!("{}@{}", self.kind, self.name), done, &dump);
        }
        crate::log::put(put, done);
    }
}

impl Switch {
    /// `dpif-netdev/bond-show`
    #[must_use]
    pub fn bonds_show(&self) -> String {
        let _control = lock(&self.control);
        self.shared.bonds.text()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        lock(&self.control).ports.close();
    }
}

impl Datapath for Switch {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn features(&self) -> DpFeatures {
        DpFeatures { host_tunnels: self.host_tunnels, ..FEATURES }
    }

    fn port_add(&self, request: &PortRequest) -> Result<DpPort, DpError> {
        let mut control = lock(&self.control);
        let number = self.with_means(&mut control, |ports, means| ports.add(request, means))?;
        self.police(&mut control, number)?;
        Ok(number)
    }

    fn port_del(&self, port: DpPort) -> Result<(), DpError> {
        let mut control = lock(&self.control);
        self.shared.bonds.forget_port(port);
        self.with_means(&mut control, |ports, means| ports.remove(port, &self.shared, means))
    }

    fn port_set(&self, port: DpPort, request: &PortRequest) -> Result<(), DpError> {
        let mut control = lock(&self.control);
        let set = self.with_means(&mut control, |ports, means| ports.set(port, request, means));
        // Whatever of the other wishes was refused.
        self.police(&mut control, port)?;
        set
    }

    fn port_set_up(&self, port: DpPort, up: bool) -> Result<(), DpError> {
        let mut control = lock(&self.control);
        control.ports.device(port)?.set_admin_up(up).map_err(|e| DpError::Device(e.to_string()))?;
        control.ports.changed(port);
        Ok(())
    }

    fn port(&self, port: DpPort) -> Result<PortInfo, DpError> {
        lock(&self.control).ports.info(port)
    }

    fn ports(&self) -> Vec<PortInfo> {
        lock(&self.control).ports.infos()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, DpError> {
        lock(&self.control).ports.stats(port)
    }

    fn port_custom_stats(&self, port: DpPort) -> Vec<(String, u64)> {
        self.with_device(port, Device::custom_stats).unwrap_or_default()
    }

    fn port_too_long(&self, port: DpPort) -> Vec<TooLong> {
        lock(&self.control).ports.too_long(port)
    }

    fn port_qos(&self, port: DpPort) -> Result<Option<QosReport>, DpError> {
        lock(&self.control).ports.qos(port)
    }

    fn port_qos_kinds(&self, port: DpPort) -> Vec<&'static str> {
        self.with_device(port, Device::qos_kinds).unwrap_or_default()
    }

    fn events(&self) -> Vec<DpEvent> {
        let mut control = lock(&self.control);
        self.with_means(&mut control, Ports::look)
    }

    fn ear(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.control).ports.ear()
    }

    fn heard(&self) -> Vec<DpEvent> {
        let mut control = lock(&self.control);
        self.with_means(&mut control, Ports::hear)
    }

    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        let now_ms: Msec = clock::now_ms();
        let mut control = self.lock_soon();
        control.flows.fetch(batch);
        let results: Vec<_> = batch.iter().map(|put| control.flows.put(put)).collect();
        control.flows.tend(now_ms);
        drop(control);
        let log = |(put, result): (&FlowPut, Result<Done, DpError>)| result.map(|done| self.log_put(put, &done));
        batch.iter().zip(results).map(log).collect()
    }

    fn put_new(&self, batch: &[NewFlow<'_>]) -> Vec<Result<(), DpError>> {
        let (now_ms, prepared): (Msec, _) = (clock::now_ms(), Prepared::new(batch));
        let mut control = self.lock_soon();
        let results = control.flows.put_new(batch, prepared);
        control.flows.tend(now_ms);
        let asked = control.flows.ask_for_room();
        drop(control);
        if let Some(chunks) = asked {
            // Made, and dropped where it came too late, without the lock: the kernel clears dozens of pages, for longer than others wait awake.
            let room = Room::after(chunks);
            let late = self.lock_soon().flows.take_room(room);
            drop(late);
        }
        if crate::log::wants_puts() {
            let added = batch.iter().zip(&results).filter(|(_, result)| result.is_ok());
            added.for_each(|(flow, _)| self.log_put(&flow.to_put(), &Done::Added));
        }
        results
    }

    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        self.lock_soon().flows.del(batch)
    }

    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        lock(&self.control).flows.get(ufid)
    }

    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool) {
        let mut next = Some(0);
        let mut some = Vec::new();
        while let Some(from) = next {
            next = lock(&self.control).flows.dump_some(from, DUMP_STEP, &mut some);
            for dump in some.drain(..) {
                if !each(&dump) {
                    return;
                }
            }
        }
    }

    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        let is_short = batch.len() <= STATS_FEW;
        let mut control = if is_short { self.lock_soon() } else { lock(&self.control) };
        control.flows.tend(clock::now_ms());
        for some in batch.chunks(STATS_STEP) {
            control.flows.stats_of(some, out);
            // Whoever puts megaflows does not wait for all of them.
            drop(control);
            if !is_short {
                self.give_way();
            }
            control = lock(&self.control);
        }
        if crate::log::wants_dumps() {
            let name = format!("{}@{}", self.kind, self.name);
            batch
                .iter()
                .filter_map(|ufid| control.flows.get(*ufid).ok())
                .for_each(|d| crate::log::dump(&name, &d, clock::now_ms()));
        }
    }

    fn has_mask_room(&self, mask: &flow::Mask, in_port: DpPort) -> bool {
        self.shared.classifier.has_room(in_port.0) || self.lock_soon().flows.has_mask_room(mask, in_port.0)
    }

    fn unwanted(&self) -> Vec<Ufid> {
        let mut control = lock(&self.control);
        control.flows.tend(clock::now_ms());
        control.flows.take_unwanted()
    }

    fn flush(&self) {
        lock(&self.control).flows.flush();
    }

    fn quiesce(&self) {
        let epochs = &self.shared.epochs;
        epochs.wait(epochs.advance());
    }

    fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>> {
        let mut aux = brief::lock(&self.aux).unwrap_or_else(PoisonError::into_inner);
        aux.member.online();
        let mut results = Vec::with_capacity(batch.len());
        let alike = |a: &Execute, b: &Execute| {
            Arc::ptr_eq(&a.actions, &b.actions) && (a.key.in_port, a.rx_queue) == (b.key.in_port, b.rx_queue)
        };
        for some in batch.chunk_by(alike).flat_map(|run| run.chunks(BUNDLE_MAX)) {
            self.execute_some(&mut aux, some, &mut results);
            aux.member.quiescent();
        }
        aux.core.outlets.flush();
        aux.member.offline();
        results
    }

    fn upcalls(&self, handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>) {
        let first = out.len();
        self.shared.upcalls.take(handler, max, timeout, out);
        crate::log::upcalls(&self.name, &out[first..]);
    }

    fn set_handlers(&self, n: usize) {
        self.shared.upcalls.set_handlers(n);
    }

    fn set_upcalls_enabled(&self, on: bool) {
        self.shared.upcalls.set_enabled(on);
    }

    fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError> {
        let meter = Meter::new(config, clock::now_ms())?;
        let mut control = lock(&self.control);
        let old = self.shared.meters.set(id, meter)?;
        control.flows.keep_memory(old);
        Ok(())
    }

    fn meter_get(&self, id: u32) -> Result<MeterStats, DpError> {
        let _control = lock(&self.control);
        self.shared.meters.stats(id)
    }

    fn meter_del(&self, id: u32) -> Result<MeterStats, DpError> {
        let mut control = lock(&self.control);
        let (stats, old) = self.shared.meters.remove(id)?;
        control.flows.keep_memory(old);
        Ok(stats)
    }

    fn bond_set(&self, bond: u32, table: &BondTable) -> Result<(), DpError> {
        let mut control = lock(&self.control);
        let old = self.shared.bonds.set(bond, table)?;
        control.flows.keep_memory(old);
        Ok(())
    }

    fn bond_del(&self, bond: u32) {
        let mut control = lock(&self.control);
        let old = self.shared.bonds.remove(bond);
        control.flows.keep_memory(old);
    }

    fn bond_bytes(&self, bond: u32) -> Option<[u64; BOND_BUCKETS]> {
        let _control = lock(&self.control);
        self.shared.bonds.bytes(bond)
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        Some(&*self.shared.ct)
    }

    fn stats(&self) -> DpStats {
        let control = lock(&self.control);
        let mut stats = DpStats {
            flows: control.flows.len() as u64,
            masks: u32::try_from(control.flows.n_masks()).unwrap_or(u32::MAX),
            ..DpStats::default()
        };
        for work in &self.shared.work {
            stats.hit += work.hit.load(Ordering::Relaxed);
            stats.missed += work.missed.load(Ordering::Relaxed);
            stats.lost += work.lost.load(Ordering::Relaxed);
            stats.mask_hit += work.mask_hit.load(Ordering::Relaxed);
            stats.cache_hits += work.cache_hits.load(Ordering::Relaxed);
        }
        stats
    }

    fn set_config(&self, config: &[(String, String)]) {
        if let Err(error) = self.configure(Settings::of(config)) {
            tracing::warn!(target: "dpif_netdev", "{error}");
        }
    }
}
