//! The slow path as the daemon sees it: give it the configuration, ask it for its state, let it have time.
//!
//! What enters: `SwitchConfig`, control commands, time. What leaves: status, text, and through the datapaths, forwarding.
//! Neighbours: the daemon above; `world`, `udpif`, `xlate` and `conn` below.
//!
//! `configure` compares and changes only what differs, in an order in which nothing is ever forwarded wrongly: what goes is first
//! taken out of the world, then megaflows settle, then the device is closed; what comes is opened before the world learns of it.
//! Devices are opened and closed without any lock that upcalls need.

mod apply;
#[cfg(test)]
mod barrier_tests;
mod export;
#[cfg(test)]
mod flap_tests;
mod host;
mod mirrors;
mod mtu;
pub mod packet_out;
mod plan;
mod ports;
mod routes;
mod status;
#[cfg(test)]
mod tests;
mod ticker;
mod too_long;
mod tracking;
mod tunnels;

pub(crate) use apply::port_changed;
pub(crate) use packet_out::Prepared;
pub use ports::PortModError;
pub(crate) use ports::modified;
pub use routes::RouteChange;
pub use status::Status;
pub(crate) use status::patch_stats;

use crate::bridge::BundleId;
use crate::config::SwitchConfig;
use crate::flow_mod;
use crate::protocols::Monitor;
use crate::udpif::{Translator, Udpif};
use crate::world::{BridgeId, DatapathBackend, DatapathFactory, World};
use crate::xlate::Xlate;
use flow::Msec;
use flow::clock::now_ms;
use flow::seam::{Datapath, DpError, DpPort, PortRequest};
use openflow::OfPort;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::thread::JoinHandle;

flow::counters! {
    REV_RECONFIGURE = "rev_reconfigure", "changes of the configuration that megaflows were checked against";
}

/// Rules and MACs age in steps of this length.
const AGEING_STEP_MS: Msec = 1000;

/// Name of a bridge and of an interface on it.
type Key = (String, String);

/// What `configure` remembers of the last time.
#[derive(Debug, Default)]
struct Applied {
    config: SwitchConfig,
    /// What each interface that exists was asked for.
    interfaces: BTreeMap<Key, Interface>,
    /// Why an interface does not exist, or what of it was refused.
    errors: BTreeMap<Key, String>,
    bridge_errors: BTreeMap<String, String>,
    hosts: host::Refused,
}

/// An interface that exists.
#[derive(Clone, Debug)]
struct Interface {
    bridge: BridgeId,
    number: OfPort,
    dp_port: Option<DpPort>,
    /// What was asked for, whether all of it could be had (`Applied.errors`) or not.
    request: PortRequest,
    /// What it was to follow of other ports' MTUs last, and could not. Another time it could not either.
    mtu_refused: Option<u16>,
}

/// The slow path.
pub struct Slowpath {
    pub(crate) world: Arc<RwLock<World>>,
    factory: Box<DatapathFactory>,
    translator: Arc<dyn Translator>,
    udpifs: RwLock<BTreeMap<String, Arc<Udpif>>>,
    applied: Mutex<Applied>,
    /// Datapaths that `dpctl/add-dp` made, by full name; no bridge stands on them.
    extra: Mutex<BTreeMap<String, Arc<dyn Datapath>>>,
    aged_ms: AtomicI64,
    /// When what the host's stack refused is tried again; 0: nothing is refused.
    hosts_retry_ms: AtomicI64,
    /// Ports have changed since internal ports' MTUs followed.
    mtus_due: AtomicBool,
    /// Held while a port's state is read from its datapath and written into the world, so that nothing old is written over something newer. Taken
    /// before the world's lock.
    following: Mutex<()>,
    stopping: AtomicBool,
    ticker: Mutex<Option<JoinHandle<()>>>,
    pub(crate) monitor: Monitor,
    /// Held for a pass of the link protocols; taken before the world's lock.
    pub(crate) protocols_turn: Mutex<()>,
    pub(crate) this: Weak<Self>,
}

impl fmt::Debug for Slowpath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slowpath").field("udpifs", &self.udpifs).finish_non_exhaustive()
    }
}

impl Slowpath {
    /// A slow path without bridges; `factory` opens a datapath when the first bridge of its type appears.
    #[must_use]
    pub fn new(factory: Box<DatapathFactory>) -> Arc<Self> {
        Self::with_translator(factory, Arc::new(Xlate))
    }

    /// The same with another translation (for tests).
    #[must_use]
    pub fn with_translator(factory: Box<DatapathFactory>, translator: Arc<dyn Translator>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            monitor: Monitor::default(),
            protocols_turn: Mutex::default(),
            world: Arc::default(),
            factory,
            translator,
            udpifs: RwLock::default(),
            applied: Mutex::default(),
            extra: Mutex::default(),
            aged_ms: AtomicI64::new(0),
            hosts_retry_ms: AtomicI64::new(0),
            mtus_due: AtomicBool::new(false),
            following: Mutex::default(),
            stopping: AtomicBool::new(false),
            ticker: Mutex::default(),
        })
    }

    /// Makes the switch what `config` says. Returns when it is so, or when `status` says why it is not.
    pub fn configure(&self, config: &SwitchConfig) {
        let mut applied = self.lock_applied();
        let before = self.read_world().changes.now();
        let now = now_ms();
        self.open_datapaths(config, &mut applied);
        let plan = plan::plan(&applied, config);
        let closed = self.take_out(&plan, &mut applied, now);
        if !closed.is_empty() {
            // No megaflow may send to a port that is closed and whose number another may get.
            self.settle();
        }
        for (kind, port) in closed {
            self.close_port(&kind, port);
        }
        self.drop_bridges(&plan);
        let opened = self.open_ports(config, &plan, &mut applied);
        self.put_in(config, opened, &mut applied, now);
        self.adjust_ports(config, &plan, &mut applied);
        self.set_up_bridges(config, &applied);
        self.close_datapaths(config);
        self.configure_upcalls(config);
        self.configure_tracking(config);
        let nothing = applied.config.bridges.is_empty() && config.bridges.is_empty();
        let differs = !nothing && !is_same(&applied.config, config);
        applied.config = config.clone();
        drop(applied);
        self.follow_mtus();
        self.follow_hosts(now);
        // Only now it is known what keeps a new port from carrying traffic.
        self.run_protocols(now);
        self.adjust_monitor();
        if differs && self.read_world().changes.now() != before {
            REV_RECONFIGURE.inc();
        }
        self.settle();
    }

    /// Returns when no packet can any longer be forwarded by a megaflow that a change completed before this call made stale: a
    /// barrier is answered after it. Blocks for as long as that takes; call it without any lock.
    pub fn settle(&self) {
        let udpifs = self.udpifs();
        for udpif in &udpifs {
            udpif.settle();
        }
        self.forget_changes(&udpifs);
    }

    /// Whether a flow-mod or a barrier would be through at once: nobody holds the world, and no megaflow has to be looked at first.
    #[must_use]
    pub(crate) fn is_calm(&self) -> bool {
        let settled = || self.udpifs.try_read().is_ok_and(|udpifs| udpifs.values().all(|u| u.settles_at_once()));
        self.world.try_write().is_ok() && settled()
    }

    /// Lets the log forget what every megaflow has been checked against.
    fn forget_changes(&self, udpifs: &[Arc<Udpif>]) {
        let world = self.world.read().expect("no holder of the world panics");
        let checked = udpifs.iter().map(|u| u.checked()).min().unwrap_or_else(|| world.changes.now());
        world.changes.forget(checked);
    }

    /// What time brings: what is to be seen of ports, link protocols, ageing, expiry. Decides by `now` alone.
    pub fn tick(&self, now: Msec) {
        self.look_at_ports();
        self.follow_hosts_if_due(now);
        self.run_protocols(now);
        let aged = self.aged_ms.load(Ordering::Acquire);
        if now - aged >= AGEING_STEP_MS && self.aged_ms.compare_exchange(aged, now, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.age(now);
            self.age_paths(now);
        }
        self.run_exporters(now);
        for udpif in self.udpifs() {
            udpif.send_asks(now);
        }
        self.forget_changes(&self.udpifs());
    }

    /// MACs and rules that have run out go. What packets alter needs no more than the read lock.
    fn age(&self, now: Msec) {
        let world = self.read_world();
        for bridge in world.bridges.values() {
            bridge.macs.age(now);
            if let Some(mcast) = &bridge.mcast {
                mcast.age(now);
            }
        }
        world.neighbours.age(now);
        flow_mod::expire(&world, now);
    }

    /// Does, on the caller's thread, everything that is due: waiting upcalls, what was heard of ports, ticks, and a round of revalidation if its time has
    /// come. After it nothing happens until another packet, message or millisecond comes. For `time/warp` and tests.
    pub fn run_until_idle(&self, now: Msec) {
        for udpif in self.udpifs() {
            udpif.drain();
        }
        self.hear_of_ports();
        self.tick(now);
        for udpif in self.udpifs() {
            if udpif.is_due(now) {
                udpif.round(now);
            }
        }
        self.run_exporters(now);
    }

    /// Stops all threads. With `cleanup` the ports are closed and the megaflows deleted as well.
    pub fn shutdown(&self, cleanup: bool) {
        self.stopping.store(true, Ordering::Release);
        if let Some(this) = self.this.upgrade() {
            self.monitor.adjust(&this, false);
        }
        if let Some(ticker) = self.lock_ticker().take() {
            self.world_wake().wake();
            ticker.join().expect("the ticker does not panic");
        }
        // What flows have done so far is told before they are forgotten.
        self.run_exporters(now_ms());
        if cleanup {
            self.configure(&SwitchConfig::default());
        }
        for udpif in self.udpifs() {
            udpif.stop();
        }
    }

    fn open_datapaths(&self, config: &SwitchConfig, applied: &mut Applied) {
        applied.bridge_errors.retain(|name, _| config.bridges.iter().any(|b| b.name == *name));
        for bridge in &config.bridges {
            let kind = &bridge.datapath_type;
            if self.udpif(kind).is_some() {
                applied.bridge_errors.remove(&bridge.name);
                continue;
            }
            match (self.factory)(kind) {
                Ok(dp) => {
                    let backend = DatapathBackend::new(Arc::clone(&dp));
                    crate::commands::features::log(&format!("{}@{}", dp.kind(), dp.name()), &backend.features);
                    dp.set_config(&config.datapath);
                    self.write_world().backends.insert(kind.clone(), backend);
                    let udpif = Udpif::new(dp, Arc::clone(&self.world), Arc::clone(&self.translator), config.upcalls);
                    udpif.start();
                    self.udpifs.write().expect("no holder of the list panics").insert(kind.clone(), udpif);
                    applied.bridge_errors.remove(&bridge.name);
                }
                Err(error) => self.bridge_failed(&bridge.name, &error, applied),
            }
        }
    }

    fn bridge_failed(&self, name: &str, error: &DpError, applied: &mut Applied) {
        let text = error.to_string();
        if applied.bridge_errors.insert(name.to_owned(), text.clone()).as_ref() != Some(&text) {
            tracing::error!(target: "bridge", "failed to create bridge {name}: {text}");
        }
    }

    /// Closes datapaths that no bridge stands on any more.
    fn close_datapaths(&self, config: &SwitchConfig) {
        for udpif in self.udpifs() {
            let kind = udpif.kind();
            if !config.bridges.iter().any(|b| b.datapath_type == kind) {
                udpif.stop();
                udpif.purge();
                self.udpifs.write().expect("no holder of the list panics").remove(kind);
                self.write_world().backends.remove(kind);
            }
        }
    }

    fn configure_upcalls(&self, config: &SwitchConfig) {
        for udpif in self.udpifs() {
            udpif.set_config(config.upcalls);
            udpif.set_held(config.flow_restore_wait);
            udpif.dp.set_config(&config.datapath);
        }
    }

    /// The sides of all datapaths.
    pub(crate) fn udpifs(&self) -> Vec<Arc<Udpif>> {
        self.udpifs.read().expect("no holder of the list panics").values().cloned().collect()
    }

    pub(crate) fn udpif(&self, kind: &str) -> Option<Arc<Udpif>> {
        self.udpifs.read().expect("no holder of the list panics").get(kind).cloned()
    }

    pub(crate) fn read_world(&self) -> std::sync::RwLockReadGuard<'_, World> {
        self.world.read().expect("no holder of the world panics")
    }

    pub(crate) fn write_world(&self) -> std::sync::RwLockWriteGuard<'_, World> {
        self.world.write().expect("no holder of the world panics")
    }

    /// Whether somebody waits to change the world while others read it.
    #[cfg(test)]
    pub(crate) fn is_to_be_written(&self) -> bool {
        self.world.try_read().is_err()
    }

    fn lock_applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().expect("configure does not panic")
    }

    /// Whether megaflows go into hardware (`other_config:hw-offload`).
    pub(crate) fn offloads(&self) -> bool {
        self.lock_applied().config.datapath.iter().any(|(key, value)| key == "hw-offload" && value == "true")
    }

    /// Whether threads of our own run.
    pub(crate) fn has_threads(&self) -> bool {
        self.lock_ticker().is_some()
    }

    /// Opens another datapath, `KIND@NAME`.
    pub(crate) fn open_datapath(&self, name: &str) -> Result<Arc<dyn Datapath>, DpError> {
        (self.factory)(name)
    }

    pub(crate) fn lock_extra(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn Datapath>>> {
        self.extra.lock().expect("no holder of the list panics")
    }

    fn lock_ticker(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.ticker.lock().expect("no holder of the ticker panics")
    }
}

/// Whether two configurations ask for the same: what we wrote into the database ourselves is not asked for.
fn is_same(a: &SwitchConfig, b: &SwitchConfig) -> bool {
    let asked = |config: &SwitchConfig| {
        let mut config = config.clone();
        for port in config.bridges.iter_mut().flat_map(|b| &mut b.ports) {
            port.interfaces.iter_mut().for_each(|i| i.ofport_before = None);
            if let Some(bond) = &mut port.bond {
                bond.active_mac = None;
            }
        }
        config
    };
    a == b || asked(a) == asked(b)
}

/// A port that was opened and waits to be put into the world.
#[derive(Debug)]
struct Opened {
    bridge: String,
    interface: String,
    /// `None` for a patch port.
    dp_port: Option<DpPort>,
    tunnel: Option<Arc<crate::tunnel::Config>>,
}

/// Names of the bundles of a bridge.
type BundleNames = BTreeMap<String, BundleId>;
