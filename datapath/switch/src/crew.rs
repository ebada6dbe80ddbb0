//! The workers of a datapath and the receive queues they poll: who there is, who polls what, and what it takes of their time.
//!
//! What enters: settings, queues of ports, the time. What leaves: workers started and ended, queues moved, figures for the displays.
//! Neighbours: `ports` (devices and outlets), `worker` (the threads), `schedule` and `balance` (the decisions).
//!
//! Ports that forward for a living have their queues dealt out to the workers of the cores (OVS: pmd threads). Test ports that OVS polls in
//! its main thread (`dummy`, `dummy-internal`) are polled by a worker that belongs to no core, so that the displays agree. A worker is there
//! only while it has a port to serve; one whose core stays in the mask stays, with its cache.

use crate::account::Totals;
use crate::balance::{Balancer, INTERVAL_MS, INTERVALS, Intervals, Situation};
use crate::config::Settings;
use crate::cycles;
use crate::fair::Share;
use crate::schedule::{self, Plan, Queue, Seat};
use crate::topology::{CoreId, NumaId, Topology};
use crate::worker::{Command, Handle, Pause, Rx};
use flow::DpPort;
use flow::clock::Msec;
use flow::seam::DpError;
use port::RxQueue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerId {
    /// That of a core.
    Core(CoreId),
    /// That of the ports which OVS polls in its main thread. Comes after all others.
    Main,
}

impl WorkerId {
    /// The core; `None` for the main thread's.
    #[must_use]
    pub fn core(self) -> Option<CoreId> {
        match self {
            Self::Core(core) => Some(core),
            Self::Main => None,
        }
    }
}

/// A worker as control sees it.
#[derive(Debug)]
pub struct Worker {
    pub handle: Handle,
    pub id: WorkerId,
    pub numa: Option<NumaId>,
    /// It takes pinned queues only.
    pub isolated: bool,
    /// Cycles of rounds with packets, by interval.
    pub busy: Intervals,
    /// Cycles that passed in the last interval; 0 as long as none is complete.
    pub interval_cycles: u64,
    /// Intervals in a row with a load above the threshold.
    pub overloaded: usize,
    busy_before: u64,
    interval_began: u64,
    interval_ends_ms: Msec,
    /// What `pmd-stats-clear` does not show any more, and since when.
    pub cleared: Totals,
    pub cleared_ms: Msec,
}

impl Worker {
    fn new(handle: Handle, id: WorkerId, numa: Option<NumaId>, now_ms: Msec) -> Self {
        let mut worker = Self {
            handle,
            id,
            numa,
            isolated: false,
            busy: Intervals::default(),
            interval_cycles: 0,
            overloaded: 0,
            busy_before: 0,
            interval_began: 0,
            interval_ends_ms: 0,
            cleared: Totals::default(),
            cleared_ms: now_ms,
        };
        worker.begin_anew(now_ms);
        worker
    }

    /// Its queues are others now: old figures say nothing.
    fn begin_anew(&mut self, now_ms: Msec) {
        (self.busy, self.interval_cycles, self.overloaded) = (Intervals::default(), 0, 0);
        self.busy_before = self.handle.account.totals().busy_cycles;
        (self.interval_began, self.interval_ends_ms) = (cycles::now(), now_ms + INTERVAL_MS);
    }

    /// Ends the interval if it is over; whether it was.
    fn sample(&mut self, now_ms: Msec, load_threshold: u8) -> bool {
        if now_ms < self.interval_ends_ms {
            return false;
        }
        let (now, busy) = (cycles::now(), self.handle.account.totals().busy_cycles);
        self.interval_cycles = now.wrapping_sub(self.interval_began).max(1);
        let took = busy.saturating_sub(self.busy_before).min(self.interval_cycles);
        self.busy.push(took);
        let is_over = u128::from(took) * 100 >= u128::from(load_threshold) * u128::from(self.interval_cycles);
        self.overloaded = if is_over { (self.overloaded + 1).min(INTERVALS) } else { 0 };
        (self.busy_before, self.interval_began, self.interval_ends_ms) = (busy, now, now_ms + INTERVAL_MS);
        true
    }
}

/// A receive queue and its place.
#[derive(Debug)]
pub struct Placed {
    /// Who polls it; `None`: nobody.
    pub owner: Option<WorkerId>,
    /// The queue itself while nobody polls it.
    parked: Option<Rx>,
    pub name: String,
    pub numa: Option<NumaId>,
    /// The core of `pmd-rxq-affinity`.
    pub pinned: Option<CoreId>,
    /// For the main thread's worker, not for those of cores.
    pub plain: bool,
    /// Cycles spent on its packets, by interval.
    pub cycles: Intervals,
    load: Arc<AtomicU64>,
    load_before: u64,
}

impl Placed {
    fn sample(&mut self) {
        let load = self.load.load(Ordering::Relaxed);
        self.cycles.push(load.wrapping_sub(self.load_before));
        self.load_before = load;
    }
}

/// What the crew has to know of a port whose queues it takes.
#[derive(Clone, Debug)]
pub struct Berth {
    pub port: DpPort,
    pub name: String,
    pub numa: Option<NumaId>,
    pub plain: bool,
    /// `pmd-rxq-affinity`: queue and core.
    pub affinity: Vec<(usize, CoreId)>,
}

/// How workers are started; the outlets of all ports are given to them before their first queue.
pub type Hire<'a> = dyn FnMut(WorkerId) -> Result<Handle, DpError> + 'a;

/// All workers, all queues.
#[derive(Debug, Default)]
pub struct Crew {
    /// In order of cores.
    pub workers: Vec<Worker>,
    pub queues: BTreeMap<(DpPort, usize), Placed>,
    /// How many of them are for the main thread's worker.
    plain: usize,
    /// Those of them that nobody polls yet, and some that have gone since. So one port more does not look at all others.
    adrift: Vec<(DpPort, usize)>,
    balancer: Balancer,
}

impl Crew {
    /// Takes a port's queues in; nobody polls them before `deal`.
    pub fn board(&mut self, berth: &Berth, queues: Vec<RxQueue>) {
        for (number, queue) in queues.into_iter().enumerate() {
            let load = Arc::new(AtomicU64::new(0));
            let rx =
                Rx { port: berth.port, number, queue, load: Arc::clone(&load), pause: Pause::default(), share: Share::default() };
            let placed = Placed {
                owner: None,
                parked: Some(rx),
                name: berth.name.clone(),
                numa: berth.numa,
                pinned: berth.affinity.iter().find(|(queue, _)| *queue == number).map(|(_, core)| *core),
                plain: berth.plain,
                cycles: Intervals::default(),
                load,
                load_before: 0,
            };
            self.queues.insert((berth.port, number), placed);
            if berth.plain {
                self.plain += 1;
                self.adrift.push((berth.port, number));
            }
        }
    }

    /// Other wishes for a port's queues.
    pub fn pin(&mut self, port: DpPort, affinity: &[(usize, CoreId)]) {
        for ((_, number), placed) in self.queues.range_mut((port, 0)..=(port, usize::MAX)) {
            placed.pinned = affinity.iter().find(|(queue, _)| queue == number).map(|(_, core)| *core);
        }
    }

    /// Takes a port's queues and handles away from all workers; nobody uses them when this returns.
    pub fn leave(&mut self, port: DpPort) {
        for worker in &self.workers {
            drop(worker.handle.ask(|done| Command::RemovePort(port, done)));
        }
        // Not `retain`, which would look at the queues of all ports.
        let numbers: Vec<_> = self.queues.range((port, 0)..=(port, usize::MAX)).map(|(at, _)| *at).collect();
        for at in numbers {
            let gone = self.queues.remove(&at);
            self.plain -= usize::from(gone.is_some_and(|queue| queue.plain));
        }
        if self.plain == 0 {
            self.adrift.clear();
        }
    }

    /// Has workers for what there is to poll, and no others. Those that end give their queues back first.
    pub fn muster(&mut self, settings: &Settings, topology: &Topology, now_ms: Msec, hire: &mut Hire<'_>) -> Result<(), DpError> {
        let wanted = self.wanted(settings, topology);
        let mut changed = false;
        let all = std::mem::take(&mut self.workers);
        for worker in all {
            if wanted.contains(&worker.id) {
                self.workers.push(worker);
            } else {
                changed |= worker.id != WorkerId::Main;
                self.dismiss(worker);
            }
        }
        for id in &wanted {
            if self.workers.iter().any(|w| w.id == *id) {
                continue;
            }
            let numa = id.core().map(|core| topology.numa_of(core).unwrap_or(0));
            self.workers.push(Worker::new(hire(*id)?, *id, numa, now_ms));
            if let (Some(core), Some(numa)) = (id.core(), numa) {
                changed = true;
                tracing::info!(target: "dpif_netdev", "PMD thread on numa_id: {numa}, core id: {core:2} created.");
            }
        }
        self.workers.sort_by_key(|w| w.id);
        if changed {
            self.announce();
        }
        Ok(())
    }

    fn dismiss(&mut self, worker: Worker) {
        let (id, numa) = (worker.id, worker.numa);
        for rx in worker.handle.stop() {
            if let Some(placed) = self.queues.get_mut(&(rx.port, rx.number)) {
                if placed.plain {
                    self.adrift.push((rx.port, rx.number));
                }
                (placed.owner, placed.parked) = (None, Some(rx));
            }
        }
        if let (Some(core), Some(numa)) = (id.core(), numa) {
            tracing::info!(target: "dpif_netdev", "PMD thread on numa_id: {numa}, core id: {core:2} destroyed.");
        }
    }

    fn announce(&self) {
        let mut per_node: BTreeMap<NumaId, usize> = BTreeMap::new();
        for numa in self.workers.iter().filter(|w| w.id != WorkerId::Main).filter_map(|w| w.numa) {
            *per_node.entry(numa).or_default() += 1;
        }
        for (numa, n) in per_node {
            tracing::info!(target: "dpif_netdev", "There are {n} pmd threads on numa node {numa}");
        }
    }

    fn wanted(&self, settings: &Settings, topology: &Topology) -> Vec<WorkerId> {
        let mut wanted = Vec::new();
        if self.queues.len() > self.plain {
            wanted = cores(settings, topology).into_iter().map(WorkerId::Core).collect();
        }
        if self.plain > 0 {
            wanted.push(WorkerId::Main);
        }
        wanted
    }

    /// Deals the queues out, and moves those that come to another worker.
    pub fn deal(&mut self, settings: &Settings, now_ms: Msec) {
        self.balancer.reconfigured();
        if self.plain < self.queues.len() {
            self.deal_to_cores(settings, now_ms);
        }
        // Without that worker, which could not be started then, they wait on.
        if self.workers.iter().any(|w| w.id == WorkerId::Main) {
            for at in std::mem::take(&mut self.adrift) {
                self.relocate(at, Some(WorkerId::Main), now_ms);
            }
        }
    }

    fn deal_to_cores(&mut self, settings: &Settings, now_ms: Msec) {
        let (seats, queues) = self.table();
        let plan = schedule::schedule(&seats, &queues, settings.way, settings.isolate);
        for line in &plan.log {
            if line.warning {
                tracing::warn!(target: "dpif_netdev", "{}", line.text);
            } else {
                tracing::info!(target: "dpif_netdev", "{}", line.text);
            }
        }
        let cores: Vec<WorkerId> = seats.iter().map(|s| WorkerId::Core(s.core)).collect();
        for (worker, isolated) in self.workers.iter_mut().zip(&plan.isolated) {
            worker.isolated = *isolated;
        }
        let mut owners = plan.owners.iter().map(|owner| owner.map(|at| cores[at]));
        let mut moves = Vec::new();
        for (at, placed) in self.queues.iter().filter(|(_, placed)| !placed.plain) {
            let owner = owners.next().flatten();
            if owner != placed.owner {
                moves.push((*at, owner));
            }
        }
        for (at, owner) in moves {
            self.relocate(at, owner, now_ms);
        }
    }

    /// Moves a queue to another worker, or to nobody.
    fn relocate(&mut self, at: (DpPort, usize), owner: Option<WorkerId>, now_ms: Msec) {
        let Some(placed) = self.queues.get_mut(&at).filter(|placed| placed.owner != owner) else { return };
        let before = std::mem::replace(&mut placed.owner, owner);
        if let Some(worker) = self.workers.iter_mut().find(|w| Some(w.id) == before) {
            worker.begin_anew(now_ms);
            let taken = worker.handle.ask(|done| Command::TakeRx(Some(at), done));
            placed.parked = taken.and_then(|mut rx| rx.pop());
        }
        if let Some(worker) = self.workers.iter_mut().find(|w| Some(w.id) == owner)
            && let Some(rx) = placed.parked.take()
        {
            worker.begin_anew(now_ms);
            worker.handle.send(Command::AddRx(rx));
        }
    }

    /// The cores' workers and the queues for them, as `schedule` wants them.
    fn table(&self) -> (Vec<Seat>, Vec<Queue>) {
        let seat = |w: &Worker| Some(Seat { core: w.id.core()?, numa: w.numa.unwrap_or(0) });
        let queue = |((port, number), placed): (&(DpPort, usize), &Placed)| Queue {
            port: *port,
            name: placed.name.clone(),
            number: *number,
            numa: placed.numa,
            pinned: placed.pinned,
            cycles: placed.cycles.last(INTERVALS),
        };
        let queues = self.queues.iter().filter(|(_, placed)| !placed.plain).map(queue).collect();
        (self.workers.iter().filter_map(seat).collect(), queues)
    }

    /// Ends intervals that are over; then, when its time has come, whether the queues should be dealt out anew.
    pub fn watch(&mut self, settings: &Settings, now_ms: Msec) -> bool {
        for worker in &mut self.workers {
            if worker.sample(now_ms, settings.balance.load) {
                let id = Some(worker.id);
                self.queues.values_mut().filter(|q| q.owner == id).for_each(Placed::sample);
            }
        }
        if !self.balancer.is_due(&settings.balance, now_ms) {
            return false;
        }
        let (seats, queues) = self.table();
        let now = self.plan_now(&seats, &queues);
        let of_cores = || self.workers.iter().filter(|w| w.id != WorkerId::Main);
        let interval_cycles: Vec<u64> = of_cores().map(|w| w.interval_cycles).collect();
        let overloaded: Vec<usize> = of_cores().map(|w| w.overloaded).collect();
        let situation = Situation {
            seats: &seats,
            queues: &queues,
            interval_cycles: &interval_cycles,
            overloaded: &overloaded,
            now: &now,
            way: settings.way,
            isolate: settings.isolate,
        };
        let mut log = Vec::new();
        let anew = self.balancer.decide(&settings.balance, &situation, &mut log);
        for line in log {
            tracing::debug!(target: "dpif_netdev", "{line}");
        }
        if anew {
            tracing::info!(target: "dpif_netdev", "PMD auto load balance dry run. Requesting datapath reconfigure.");
        }
        anew
    }

    /// Who polls what, in the form of a plan.
    fn plan_now(&self, seats: &[Seat], queues: &[Queue]) -> Plan {
        let n = seats.len();
        let mut plan = Plan { isolated: vec![false; n], load: vec![0; n], ..Plan::default() };
        for (isolated, worker) in plan.isolated.iter_mut().zip(&self.workers) {
            *isolated = worker.isolated;
        }
        for queue in queues {
            let core = self.queues.get(&(queue.port, queue.number)).and_then(|q| q.owner).and_then(WorkerId::core);
            let owner = core.and_then(|core| seats.iter().position(|s| s.core == core));
            if let Some(owner) = owner {
                plan.load[owner] += queue.cycles;
            }
            plan.owners.push(owner);
        }
        plan
    }

    /// The worker that polls a port's queue.
    #[must_use]
    pub fn owner(&self, port: DpPort, queue: usize) -> Option<WorkerId> {
        self.queues.get(&(port, queue))?.owner
    }

    /// Ends all workers; the queues are dropped.
    pub fn close(&mut self) {
        for worker in std::mem::take(&mut self.workers) {
            drop(worker.handle.stop());
        }
        self.queues.clear();
        self.adrift.clear();
        self.plain = 0;
    }
}

/// The cores that workers are wanted on: those of the mask that there are, or `n-workers`, or one of each node.
fn cores(settings: &Settings, topology: &Topology) -> Vec<CoreId> {
    if let Some(mask) = &settings.cores {
        let there: Vec<CoreId> = mask.iter().copied().filter(|core| topology.numa_of(*core).is_some()).collect();
        if !there.is_empty() {
            return there.into_iter().take(crate::config::WORKERS_MAX).collect();
        }
        tracing::warn!(target: "dpif_netdev", "pmd-cpu-mask names no core of this machine");
    }
    match settings.workers {
        Some(n) => (0..).take(n).collect(),
        None => topology.first_of_each_node().into_iter().take(crate::config::WORKERS_MAX).collect(),
    }
}

/// Reads `pmd-rxq-affinity`: `0:3,1:7` pins queue 0 to core 3 and queue 1 to core 7. `None`: it makes no sense.
#[must_use]
pub fn parse_affinity(text: &str) -> Option<Vec<(usize, CoreId)>> {
    let pair = |part: &str| {
        let (queue, core) = part.split_once(':')?;
        Some((queue.trim().parse().ok()?, core.trim().parse().ok()?))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_is_queue_and_core() {
        assert_eq!(parse_affinity("0:3, 1:7"), Some(vec![(0, 3), (1, 7)]));
        assert_eq!((parse_affinity(""), parse_affinity("0"), parse_affinity("x:1")), (Some(vec![]), None, None));
    }

    #[test]
    fn cores_come_from_the_mask_or_one_of_each_node() {
        let topology = Topology::imaginary(&[0, 0, 8, 8]);
        let of =
            |cores: Option<Vec<CoreId>>, workers| super::cores(&Settings { cores, workers, ..Settings::default() }, &topology);
        assert_eq!(of(None, None), [0, 2]);
        assert_eq!(of(None, Some(3)), [0, 1, 2]);
        assert_eq!(of(Some(vec![1, 3, 9]), Some(3)), [1, 3]);
        assert_eq!(of(Some(vec![9]), None), [0, 2]);
    }
}
