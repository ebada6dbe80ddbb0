//! OpenFlow connections: who speaks to which bridge, and how.
//!
//! What enters: the configuration (controllers, sockets), bytes from peers, notices of the slow path. What leaves: changed
//! bridges through `requests`, replies, asynchronous messages. Neighbours: `slowpath` and `flow_mod` do what is asked.
//!
//! `Agents` keeps one task per endpoint: `BRIDGE.mgmt` and `BRIDGE.snoop` listeners, passive listeners and active controllers as
//! configured. A connection's task reads, handles one message at a time and writes; so the replies of a connection stand in the
//! order of its requests, and a barrier orders them. Notices are spread by one task over the connections that want them, through a
//! bounded queue each: a peer that does not read loses asynchronous messages, never anybody else's. Packet-ins have a bound of their
//! own and pass the connection's rate limit (`pinsched`). Updates of flow monitors wait in `monitor::Watcher`.
//!
//! Handling blocks its thread (locks, `settle`), so it runs under `block_in_place`; the runtime must be multi-threaded.

mod bundles;
mod commit;
pub(crate) mod ct_flush;
mod endpoint;
mod failover;
pub mod flow_mods;
pub(crate) mod groups;
mod notices;
mod outbox;
pub mod pinsched;
mod queues;
mod reconnect;
mod replies;
mod requests;
mod resume;
mod roles;
mod sockets;
pub mod state;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
mod tlv;

use crate::config::{ControllerStatus, SwitchConfig};
use crate::monitor::{Origin, Watcher};
use crate::slowpath::Slowpath;
use crate::world::BridgeId;
use endpoint::{Endpoint, Task, Terms};
use flow::fields::TunnelOptions;
use flow::hash::Map;
use openflow::message::Message;
use openflow::tls::TlsFiles;
use openflow::{Version, Xid};
use outbox::Outbox;
use roles::Roles;
use sockets::Ending;
use state::State;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

flow::counters! {
    CONN_OVERFLOW = "connmgr_overflow", "asynchronous OpenFlow messages dropped because a connection's queue was full";
    CONN_BAD_MESSAGE = "connmgr_bad_message", "OpenFlow messages that could not be decoded, answered with an error";
    CONN_NEGOTIATION_FAILED = "vconn_negotiation_failed", "OpenFlow connections closed because no version was in common";
    RCONN_DISCONNECTED = "rconn_disconnected", "OpenFlow connections that ended";
}

/// Messages that a snooper may lag behind.
const SNOOP_MAX: usize = 256;
/// How long the controllers of a bridge that goes may take to be told of its rules.
const LEAVE_MAX: Duration = Duration::from_millis(100);
/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// `other_config:bundle-idle-timeout` unless set.
const BUNDLE_IDLE_DEFAULT_MS: i64 = 10_000;

/// One connection.
pub struct Conn {
    /// As logs name it: `br0<->unix#3`.
    pub name: String,
    pub bridge: BridgeId,
    /// Tells connections apart in notices; never 0, never used again.
    pub serial: u64,
    state: Mutex<State>,
    outbox: Outbox,
    /// Its flow monitors.
    watcher: Arc<Watcher>,
    /// What its endpoint is configured to be by now.
    terms: watch::Receiver<Terms>,
    roles: Arc<Roles>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("name", &self.name).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Conn {
    /// What has been agreed on.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of a connection's state panics")
    }

    /// Queues a message for the peer; drops and counts it when the queue is full.
    pub fn send(&self, message: Message) {
        if !self.outbox.put(message) {
            CONN_OVERFLOW.inc();
        }
    }

    /// Says in the log how many flow-mods it has sent: when it is time, or when the connection ends.
    fn log_flow_mods(&self, now: flow::Msec, ends: bool) {
        let tally = &mut self.lock().flow_mods;
        if (ends || tally.is_due(now))
            && let Some(text) = tally.take(now)
        {
            tracing::info!(target: "connmgr", "{}: {text}", self.name);
        }
    }

    /// Whether it counts for fail mode.
    fn is_primary(&self) -> bool {
        self.terms.borrow().kind == state::Kind::Primary
    }

    /// Who makes the changes that a message of this connection asks for.
    fn origin(&self, xid: Xid) -> Origin<'_> {
        Origin { watcher: &self.watcher, xid }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) slowpath: Arc<Slowpath>,
    pub(crate) roles: Arc<Roles>,
    snoops: Mutex<Map<BridgeId, broadcast::Sender<Arc<Vec<u8>>>>>,
    tls: Mutex<TlsFiles>,
    ending: Ending,
    /// Held while notices are spread: whoever gets it finds those taken before in the outboxes.
    spreading: Mutex<()>,
    last_unix: AtomicU64,
    last_serial: AtomicU64,
}

impl Shared {
    /// Live connections.
    pub(crate) fn conns(&self) -> Vec<Arc<Conn>> {
        self.roles.conns()
    }

    /// Where copies of a bridge's messages go.
    pub(crate) fn snoop(&self, bridge: BridgeId) -> broadcast::Sender<Arc<Vec<u8>>> {
        let mut snoops = self.snoops.lock().expect("no holder of the snoop table panics");
        snoops.entry(bridge).or_insert_with(|| broadcast::channel(SNOOP_MAX).0).clone()
    }

    /// Copies bytes of a controller's conversation to the snoopers of its bridge.
    pub(crate) fn snoop_copy(&self, conn: &Conn, bytes: &[u8]) {
        if conn.lock().kind != state::Kind::Primary {
            return;
        }
        let snoops = self.snoops.lock().expect("no holder of the snoop table panics");
        if let Some(copies) = snoops.get(&conn.bridge).filter(|c| c.receiver_count() > 0) {
            // Nobody may be left to read it.
            let _ = copies.send(Arc::new(bytes.to_vec()));
        }
    }

    /// The files of `ssl:` and `pssl:` connections.
    pub(crate) fn tls(&self) -> TlsFiles {
        self.tls.lock().expect("no holder of the names of files panics").clone()
    }

    /// The tunnel options that the bridge has mapped.
    pub(crate) fn tunnel_options(&self, bridge: BridgeId) -> Arc<TunnelOptions> {
        self.slowpath.read_world().bridges.get(&bridge).map(|b| Arc::clone(&b.tunnel_options)).unwrap_or_default()
    }

    /// `unix#N` for an accepted connection.
    pub(crate) fn next_name(&self, kind: &str) -> String {
        format!("{kind}#{}", self.last_unix.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that no other connection has or had.
    pub(crate) fn next_serial(&self) -> u64 {
        self.last_serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells the bridge whether table misses are wanted, after a connection came, went or changed.
    pub(crate) fn note_miss_listeners(&self, bridge: BridgeId) {
        let is_wanted = || {
            self.conns().iter().filter(|c| c.bridge == bridge).any(|c| {
                let state = c.lock();
                state.version < Version::V13 && state.wants_packet_in(0, 0)
            })
        };
        let is = self.slowpath.read_world().bridges.get(&bridge).is_some_and(|b| b.wants_packet_in_on_miss);
        if is == is_wanted() {
            return;
        }
        let mut world = self.slowpath.write_world();
        if let Some(b) = world.bridges.get_mut(&bridge) {
            // Another connection may have said something else while the lock was waited for.
            b.wants_packet_in_on_miss = is_wanted();
        }
        world.changed(crate::deps::Object::Bridge(bridge));
    }
}

/// All endpoints of all bridges.
pub struct Agents {
    shared: Arc<Shared>,
    runtime: Handle,
    tasks: Mutex<Map<Endpoint, Task>>,
    failover: Mutex<failover::Failover>,
    bundle_idle_ms: AtomicI64,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents").finish_non_exhaustive()
    }
}

impl Agents {
    /// No endpoint yet; notices are spread from now on.
    #[must_use]
    pub fn new(slowpath: Arc<Slowpath>, runtime: Handle) -> Arc<Self> {
        let shared = Arc::new(Shared {
            slowpath,
            roles: Arc::default(),
            snoops: Mutex::default(),
            tls: Mutex::default(),
            ending: Ending::default(),
            spreading: Mutex::default(),
            last_unix: AtomicU64::new(0),
            last_serial: AtomicU64::new(0),
        });
        runtime.spawn(notices::spread(Arc::clone(&shared)));
        let this = Arc::new(Self {
            shared,
            runtime,
            tasks: Mutex::default(),
            failover: Mutex::default(),
            bundle_idle_ms: AtomicI64::new(BUNDLE_IDLE_DEFAULT_MS),
        });
        let ticking = Arc::downgrade(&this);
        this.runtime.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let Some(this) = ticking.upgrade() else { return };
                tokio::task::block_in_place(|| this.tick(flow::clock::now_ms()));
            }
        });
        this
    }

    /// Takes leave of the bridges that `config` has no longer: who controls one hears that its rules are removed, and its endpoints close.
    /// Call it before `Slowpath::configure`, which takes the bridges away: nobody hears of the ports of a bridge that goes, or is answered
    /// on behalf of one that is gone.
    pub fn leave(&self, config: &SwitchConfig) {
        let gone = failover::forget_gone(config, &self.shared.slowpath);
        if gone.is_empty() {
            return;
        }
        self.tell_those(LEAVE_MAX, |conn| gone.contains(&conn.bridge));
        let mut tasks = self.tasks.lock().expect("no holder of the task table panics");
        for (_, task) in tasks.extract_if(|endpoint, _| gone.contains(&endpoint.bridge)) {
            self.end(task);
        }
    }

    /// Ends an endpoint. Those that listen from now on wait until it has ended: they may have got its address.
    fn end(&self, task: Task) {
        let _guard = self.runtime.enter();
        self.shared.ending.add(task.close());
    }

    /// Opens, keeps and closes endpoints as `config` says. Call it after `Slowpath::configure`.
    pub fn configure(&self, config: &SwitchConfig) {
        if config.bundle_idle_timeout_s > 0 {
            self.bundle_idle_ms.store(i64::from(config.bundle_idle_timeout_s) * 1000, Ordering::Relaxed);
        }
        self.shared.tls.lock().expect("no holder of the names of files panics").clone_from(&config.tls);
        let wanted = endpoint::wanted(config, &self.shared.slowpath);
        let mut tasks = self.tasks.lock().expect("no holder of the task table panics");
        // As in OVS: who has come stays as long as what was agreed on holds.
        let goes = |endpoint: &Endpoint, task: &mut Task| {
            !wanted.iter().any(|(e, agreed, _)| e == endpoint && task.can_rely_on(*agreed))
        };
        tasks.extract_if(goes).for_each(|(_, task)| self.end(task));
        for (endpoint, agreed, terms) in wanted {
            if let Some(task) = tasks.get(&endpoint) {
                task.take_up(agreed, terms);
            } else {
                let shared = Arc::clone(&self.shared);
                let task = Task::start(&self.runtime, shared, &endpoint, (agreed, terms), config.rundir.as_deref());
                tasks.insert(endpoint, task);
            }
        }
        drop(tasks);
        self.failover.lock().expect("no holder of the failover state panics").configure(config, &self.shared.slowpath);
    }

    /// What time brings: bundles that idle, bridges that lost all controllers.
    pub fn tick(&self, now: flow::Msec) {
        let bundle_idle_ms = self.bundle_idle_ms.load(Ordering::Relaxed);
        for conn in self.shared.conns() {
            let expired = conn.lock().bundles.expire(bundle_idle_ms, now);
            conn.log_flow_mods(now, false);
            for opened_by in expired {
                conn.send(requests::error_about(openflow::OfError::OfpbfcTimeout, &opened_by));
            }
        }
        let is_controlled = |bridge| self.shared.conns().iter().any(|conn| conn.bridge == bridge && conn.is_primary());
        self.failover.lock().expect("no holder of the failover state panics").tick(is_controlled, &self.shared.slowpath, now);
    }

    /// Wakes every conversation: the clock of tests has leapt, which their sleep does not see.
    pub fn wake(&self) {
        self.shared.conns().iter().for_each(|conn| conn.outbox.wake());
    }

    /// Spreads the notices there are, and waits until every conversation has taken what is for it, but no longer than `most`: the other end of one may
    /// not read.
    pub fn tell(&self, most: Duration) {
        self.tell_those(most, |_| true);
    }

    /// The same for some of them.
    fn tell_those(&self, most: Duration, concerns: impl Fn(&Conn) -> bool) {
        notices::spread_now(&self.shared);
        let step = most / 20;
        for _ in 0..20 {
            if self.shared.conns().iter().filter(|conn| concerns(conn)).all(|conn| conn.outbox.is_empty()) {
                return;
            }
            std::thread::sleep(step);
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.conns().len()
    }

    /// State of the configured controllers, for the database.
    #[must_use]
    pub fn status(&self) -> Vec<ControllerStatus> {
        let now = flow::clock::now_ms();
        self.statuses().into_iter().map(|(endpoint, status)| status.tell(&endpoint, now)).collect()
    }

    fn statuses(&self) -> Vec<(Endpoint, reconnect::Status)> {
        let tasks = self.tasks.lock().expect("no holder of the task table panics");
        tasks.iter().filter(|(e, _)| e.is_controller()).map(|(e, t)| (e.clone(), t.status())).collect()
    }

    /// Drops the connections of a bridge (`bridge/reconnect`), or of all; active ones come back.
    pub fn reconnect(&self, bridge: Option<&str>) {
        let tasks = self.tasks.lock().expect("no holder of the task table panics");
        for (endpoint, task) in tasks.iter().filter(|(e, _)| bridge.is_none_or(|b| e.bridge_name == b)) {
            if endpoint.is_controller() {
                task.reconnect();
            }
        }
    }

    /// Closes everything.
    pub fn shutdown(&self) {
        for (_, task) in self.tasks.lock().expect("no holder of the task table panics").drain() {
            task.close();
        }
    }
}

/// A connection kept only as long as its task has it.
type Registered = Weak<Conn>;
