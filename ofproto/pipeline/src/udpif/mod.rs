//! Upcalls in, megaflows out, and megaflows kept true: the slow path's side of one datapath.
//!
//! What enters: upcalls (from the datapath), changes (from `ChangeLog`), time. What leaves: megaflows and packets for the
//! datapath, credits for rules, notices for connections. Neighbours: `xlate` through `Translator`, `world`, `slowpath` who owns it.
//!
//! # What must hold
//!
//! 1. *A megaflow in the datapath is right, or is known to be doubtful.* Each ukey bears the revision it is right for
//!    (`Inner::checked`). Whoever translates reads the revision first and holds `World`'s read lock until the datapath has taken
//!    what came of it. Tables, groups and ports change only under the write lock; so when a flow-mod is done, every translation with
//!    the old tables has either reached the datapath, with its ukey in the map, or never will.
//! 2. *MAC entries and learned rules change under the read lock too*, by packets. A ukey therefore goes into the map and its index
//!    first, then asks whether anything that concerns it was recorded since its revision, and only then goes into the datapath.
//!    `settle` reads the revision first and looks at the index then; whichever of the two comes second sees the other. The same
//!    holds for a ukey that is translated again and filed under other dependencies.
//! 3. *A ukey in state `Evicted` that still stands in the map may still be in the datapath.* Flows are deleted there before their
//!    ukeys leave the map; `settle` deletes such a flow itself instead of trusting another thread to be quick. One thread deletes at a time,
//!    and marks what it has deleted and paid for as `Gone` before it lets the next: who comes late waits for the payment, and does not
//!    delete the megaflow of the same name that a packet has brought back meanwhile, with its unpaid packets.
//! 4. *`settle` ends with `Datapath::quiesce`* if anything was deleted or replaced since the last completed one, by anybody.
//!
//! Hence a barrier answered after `settle` tells the truth: no packet is forwarded any more by a megaflow that the flow-mods
//! before it made stale.
//!
//! # Locks, in this order
//!
//! `round`, `World` (read), `deleting`, a ukey, a shard of the map or the index, the change log. A handler locks many
//! ukeys at once, but only ones that nobody else has seen yet, and many shards, in the order of their numbers; everybody else locks one
//! at a time.

mod asks;
mod common;
mod index;
pub mod limit;
mod posting;
mod revalidate;
mod sampled;
#[cfg(test)]
mod tests;
mod text;
pub mod ukey;
mod upcall;

#[cfg(test)]
pub(crate) use upcall::installed;

use crate::config::UpcallConfig;
use crate::deps::{ChangeLog, Revision};
use crate::effects::{Notice, Translation};
use crate::recirc::{Lingering, RecircRef};
use crate::world::{BridgeId, World};
use flow::clock::now_ms;
use flow::hash::Set;
use flow::seam::{Datapath, Upcall};
use flow::{Key, Msec, Ufid};
use openflow::OfPort;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ukey::UkeyMap;

flow::counters! {
    UPCALL_NO_PORT = "upcall_no_port", "upcalls from a datapath port that belongs to no bridge; the packet is dropped";
    UPCALL_XLATE_ERROR = "upcall_xlate_error", "upcalls whose translation failed; the packet is dropped";
    UPCALL_FLOW_LIMIT_HIT = "upcall_flow_limit_hit", "megaflows not installed because there were as many as the flow limit";
    UPCALL_FLOW_LIMIT_KILL = "upcall_flow_limit_kill", "rounds that deleted every megaflow: more than twice the flow limit";
    UPCALL_OUTRUN = "upcall_outrun", "megaflows not installed because something they depend on changed meanwhile";
    UPCALL_PUT_FAILED = "upcall_put_failed", "megaflows that the datapath refused";
    UPCALL_EXECUTE_FAILED = "upcall_execute_failed", "packets that the datapath refused to execute";
    UPCALL_UNHANDLED = "upcall_unhandled", "upcalls of a kind that nothing handles; the packet is dropped";
    HANDLER_DUPLICATE_UPCALL = "handler_duplicate_upcall", "upcalls for a megaflow that was already there";
    REVALIDATE_MISSED_DP_FLOW = "revalidate_missed_dp_flow", "megaflows that vanished from the datapath by themselves";
    DUMPED_NEW_FLOW = "dumped_new_flow", "megaflows found in the datapath that nobody here had put there; deleted";
    REVALIDATED = "revalidate_translated", "megaflows translated again";
    DELETED_IDLE = "revalidate_deleted_idle", "megaflows deleted because no packet used them";
    DELETED_CHANGED = "revalidate_deleted_changed", "megaflows deleted because they had become wrong and could not be replaced in place";
    DELETED_EXPENSIVE = "revalidate_deleted_expensive", "megaflows deleted because they carried too little to be translated again";
    DELETED_UNWANTED = "revalidate_deleted_unwanted", "megaflows deleted because their masks were hit least at an input port that has as many as it may";
    UPCALL_MASKS_FULL = "upcall_masks_full", "megaflows made exact, for a short life, because their input port has as many masks as it may";
}

/// Upcalls taken at once.
pub const UPCALL_BATCH_MAX: usize = 64;
/// Batches of upcalls that somebody handles who only wants to be behind them.
const CATCH_UP_BATCHES_MAX: usize = 16;
/// Recirculation ids stay valid for this long after the megaflow (or packet) that named them is gone.
const LINGER_MS: Msec = 2000;
const HANDLER_WAIT: Duration = Duration::from_millis(500);
/// How long the revalidator rests after each thing that it did.
const BREATH_MIN: Duration = Duration::from_millis(1);
const BREATH_MAX: Duration = Duration::from_millis(200);
/// The same while there are no megaflows: changes concern nothing then, and each that wakes the revalidator costs their maker more than most of them.
const BREATH_EMPTY: Duration = Duration::from_millis(20);
const PAUSE_POLL: Duration = Duration::from_millis(100);

/// Why something is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For a packet: `learn` may add rules.
    Packet,
    /// For a megaflow that exists: nothing may be altered.
    Revalidation,
}

/// What is to be translated.
#[derive(Debug)]
pub struct Request<'a> {
    pub world: &'a World,
    pub bridge: BridgeId,
    pub in_port: OfPort,
    /// The pipeline's form: `in_port` is OpenFlow's.
    pub key: &'a Key,
    pub packet: Option<&'a [u8]>,
    pub now: Msec,
    pub purpose: Purpose,
}

/// Translation as this room sees it: `xlate` for real, a table of answers in tests.
pub trait Translator: Send + Sync + fmt::Debug {
    /// Never touches the datapath, never waits.
    fn translate(&self, request: Request<'_>) -> Translation;

    /// The packet-in that a `userspace(controller(...))` action asked for; `None` when nobody is to get it.
    fn controller(&self, world: &World, upcall: &Upcall, now: Msec) -> Option<Notice>;
}

/// Switches that commands turn.
#[derive(Debug)]
struct Switches {
    megaflows: AtomicBool,
    ufid: AtomicBool,
    paused: AtomicBool,
    held: AtomicBool,
    stop: AtomicBool,
}

/// What rounds measure.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    last_start_ms: Msec,
    took_ms: Msec,
    avg_flows: usize,
    max_flows: usize,
}

/// A handler works under its gate. Behind it stands what its last batch came to: what megaflows share is counted with each of them, so handlers
/// that had it from one another would wait for each other's counting (decision 0153).
type Gate = Mutex<common::Kept>;

/// The slow path's side of one datapath.
#[derive(Debug)]
pub struct Udpif {
    kind: String,
    pub(crate) dp: Arc<dyn Datapath>,
    world: Arc<RwLock<World>>,
    changes: Arc<ChangeLog>,
    translator: Arc<dyn Translator>,
    ukeys: UkeyMap,
    flows: AtomicUsize,
    limit: AtomicUsize,
    config: Mutex<UpcallConfig>,
    switches: Switches,
    rounds: Mutex<Rounds>,
    /// One round at a time.
    round: Mutex<()>,
    /// One batch of deletions at a time.
    deleting: Mutex<()>,
    /// Every ukey has been checked up to here (ukeys that came later bear a later revision).
    checked: AtomicU64,
    /// Deletions and replacements in the datapath, and how many of them the last `quiesce` covered.
    mutations: AtomicU64,
    quiesced: AtomicU64,
    lingering: Mutex<VecDeque<(Msec, Vec<Lingering>)>>,
    /// When a failed translation was last explained in the log.
    explained_ms: AtomicI64,
    /// Flows seen in the datapath without a ukey in the last round.
    strangers: Mutex<Set<Ufid>>,
    /// By handler; `drain` closes all of them.
    gates: Mutex<Vec<Arc<Gate>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Udpif {
    /// No thread runs yet: see `start`.
    #[must_use]
    pub fn new(
        dp: Arc<dyn Datapath>,
        world: Arc<RwLock<World>>,
        translator: Arc<dyn Translator>,
        config: UpcallConfig,
    ) -> Arc<Self> {
        let changes = Arc::clone(&world.read().expect("no holder of the world panics").changes);
        let checked = AtomicU64::new(changes.now().0);
        Arc::new(Self {
            kind: dp.kind().to_owned(),
            dp,
            world,
            changes,
            translator,
            ukeys: UkeyMap::default(),
            flows: AtomicUsize::new(0),
            limit: AtomicUsize::new(config.flow_limit.min(limit::FLOW_LIMIT_START)),
            config: Mutex::new(config),
            switches: Switches {
                megaflows: AtomicBool::new(true),
                ufid: AtomicBool::new(true),
                paused: AtomicBool::new(false),
                held: AtomicBool::new(false),
                stop: AtomicBool::new(false),
            },
            rounds: Mutex::default(),
            round: Mutex::default(),
            deleting: Mutex::default(),
            checked,
            mutations: AtomicU64::new(0),
            quiesced: AtomicU64::new(0),
            lingering: Mutex::default(),
            strangers: Mutex::default(),
            explained_ms: AtomicI64::new(0),
            gates: Mutex::default(),
            threads: Mutex::default(),
        })
    }

    /// Type of the datapath.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether this is the side of that datapath.
    #[must_use]
    pub fn is_over(&self, dp: &dyn Datapath) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.dp), dp)
    }

    /// Starts the handler threads and the revalidator as configured, after stopping those that run.
    pub fn start(self: &Arc<Self>) {
        self.stop();
        self.switches.stop.store(false, Ordering::Release);
        let handlers = self.config().handlers.unwrap_or_else(cores).max(1);
        self.dp.set_handlers(handlers);
        let gates: Vec<Arc<Gate>> = (0..handlers).map(|_| Arc::default()).collect();
        (*self.gates.lock().expect("no holder of the gates panics")).clone_from(&gates);
        let mut threads = self.threads.lock().expect("no holder of the thread list panics");
        for (n, gate) in gates.into_iter().enumerate() {
            let this = Arc::clone(self);
            threads.push(spawn(&format!("handler{n}"), move || this.handle_forever(n, &gate)));
        }
        let this = Arc::clone(self);
        threads.push(spawn("revalidator", move || this.revalidate_forever()));
        drop(threads);
        self.dp.set_upcalls_enabled(!self.switches.held.load(Ordering::Acquire));
    }

    /// Holds upcalls back (`flow-restore-wait`: the tables are still being filled), or lets them come.
    pub fn set_held(&self, held: bool) {
        if self.switches.held.swap(held, Ordering::AcqRel) != held && !self.is_stopping() {
            self.dp.set_upcalls_enabled(!held);
        }
    }

    /// Stops the threads; upcalls are refused by the datapath from now on. Megaflows stay.
    pub fn stop(&self) {
        self.switches.stop.store(true, Ordering::Release);
        self.dp.set_upcalls_enabled(false);
        self.changes.wake();
        let threads = std::mem::take(&mut *self.threads.lock().expect("no holder of the thread list panics"));
        // Handlers park in the datapath while nothing comes up.
        threads.iter().for_each(|thread| thread.thread().unpark());
        for thread in threads {
            thread.join().expect("handlers and revalidators do not panic");
        }
    }

    /// Stops the threads but goes on taking upcalls, through `drain`.
    #[cfg(test)]
    pub(crate) fn stop_threads(&self) {
        self.stop();
        self.dp.set_upcalls_enabled(true);
    }

    /// Takes up changed settings; handler threads are started anew only if their number changed.
    pub fn set_config(self: &Arc<Self>, config: UpcallConfig) {
        let before = std::mem::replace(&mut *self.config.lock().expect("no holder of the settings panics"), config);
        self.limit.fetch_min(config.flow_limit, Ordering::Relaxed);
        if before.handlers != config.handlers && !self.is_stopping() {
            self.start();
        }
    }

    fn config(&self) -> UpcallConfig {
        *self.config.lock().expect("no holder of the settings panics")
    }

    fn is_stopping(&self) -> bool {
        self.switches.stop.load(Ordering::Acquire)
    }

    fn handle_forever(&self, handler: usize, gate: &Gate) {
        let mut batch = Vec::new();
        while !self.is_stopping() {
            // Only waits; what there is, is taken under the gate, so that `drain` can tell that nothing is under way.
            self.dp.upcalls(handler, 0, HANDLER_WAIT, &mut batch);
            self.handle_once(handler, gate, &mut batch);
        }
    }

    fn handle_once(&self, handler: usize, gate: &Gate, batch: &mut Vec<Upcall>) -> bool {
        let mut kept = gate.lock().expect("no handler panics");
        self.dp.upcalls(handler, UPCALL_BATCH_MAX, Duration::ZERO, batch);
        let some = !batch.is_empty();
        self.handle(std::mem::take(batch), &mut kept);
        drop(kept);
        some
    }

    /// Handles every upcall that waits, on the caller's thread, until none is waiting or under way.
    pub fn drain(&self) {
        let gates = self.gates.lock().expect("no holder of the gates panics").clone();
        let mut batch = Vec::new();
        loop {
            let mut some = false;
            for (handler, gate) in gates.iter().enumerate() {
                while self.handle_once(handler, gate, &mut batch) {
                    some = true;
                }
            }
            if !some {
                return;
            }
        }
    }

    /// Handles the upcalls that wait, on the caller's thread, and waits for those under way: what came up before the call has been seen when it
    /// returns, unless there is a flood of them.
    pub fn catch_up(&self) {
        let gates = self.gates.lock().expect("no holder of the gates panics").clone();
        let mut batch = Vec::new();
        for (handler, gate) in gates.iter().enumerate() {
            for _ in 0..CATCH_UP_BATCHES_MAX {
                if !self.handle_once(handler, gate, &mut batch) {
                    break;
                }
            }
        }
    }

    /// Rounds at their period; between them only what changes concern. Goes by real time, also while the clock of tests stands still.
    #[allow(clippy::disallowed_methods, reason = "paces a thread; nothing is decided by it")]
    fn revalidate_forever(&self) {
        let mut last_round = Instant::now();
        while !self.is_stopping() {
            let period = Duration::from_millis(u64::try_from(self.period_ms()).unwrap_or(500));
            if self.switches.paused.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE_POLL);
                continue;
            }
            let seen = Revision(self.checked.load(Ordering::Acquire));
            self.changes.wait_beyond(seen, period.saturating_sub(last_round.elapsed()));
            if self.is_stopping() || self.switches.paused.load(Ordering::Acquire) {
                continue;
            }
            let started = Instant::now();
            if last_round.elapsed() >= period {
                last_round = started;
                self.round(now_ms());
            } else {
                self.settle();
            }
            // A stream of changes may take no more than about half a core.
            std::thread::sleep(breath(started.elapsed(), self.flow_count()));
        }
    }

    /// From the beginning of the last round to that of the next.
    fn period_ms(&self) -> Msec {
        let took_ms = self.rounds.lock().expect("no holder of the figures panics").took_ms;
        let is_full = self.flow_count() > self.limit.load(Ordering::Relaxed);
        limit::period_ms(self.config().max_revalidator_ms.max(1), took_ms, is_full)
    }

    /// Keeps recirculation ids valid while packets that bear them may be under way.
    pub(crate) fn linger(&self, recircs: Vec<Arc<RecircRef>>, now: Msec) {
        self.keep_lingering(recircs.into_iter().map(Lingering::new).collect(), now);
    }

    /// The same of ids whose megaflow is gone: nobody is to come by them any more.
    pub(crate) fn let_go(&self, recircs: Vec<Arc<RecircRef>>, now: Msec) {
        let recircs: Vec<_> = recircs.into_iter().map(Lingering::new).collect();
        recircs.iter().for_each(Lingering::retire);
        self.keep_lingering(recircs, now);
    }

    fn keep_lingering(&self, recircs: Vec<Lingering>, now: Msec) {
        if !recircs.is_empty() {
            self.lingering.lock().expect("no holder of the lingering ids panics").push_back((now, recircs));
        }
    }

    fn forget_lingering(&self, now: Msec) {
        let mut expired = Vec::new();
        let mut lingering = self.lingering.lock().expect("no holder of the lingering ids panics");
        while lingering.front().is_some_and(|(since, _)| *since + LINGER_MS <= now) {
            expired.extend(lingering.pop_front());
        }
        drop(lingering);
    }

    /// Handler threads, or how many there would be if they ran.
    #[must_use]
    pub(crate) fn handlers(&self) -> usize {
        self.gates.lock().expect("no holder of the gates panics").len()
    }

    /// Flows that we have in the datapath.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.flows.load(Ordering::Relaxed)
    }
}

impl Drop for Udpif {
    fn drop(&mut self) {
        self.switches.stop.store(true, Ordering::Release);
    }
}

/// How long the revalidator rests after what took so long, with so many megaflows.
fn breath(took: Duration, megaflows: usize) -> Duration {
    took.clamp(if megaflows == 0 { BREATH_EMPTY } else { BREATH_MIN }, BREATH_MAX)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system has threads left at start")
}
