//! The displays and controls of the workers, as `dpif-netdev/*` commands ask for them.
//!
//! What enters: a core to look at, or none for all. What leaves: text. Neighbours: `crew` (the figures), `pmd_text` (their form).

use crate::account::{LogSettings, Metrics, Totals};
use crate::balance::{INTERVAL_MS, INTERVALS};
use crate::crew::{Crew, Worker, WorkerId};
use crate::pmd_text;
use crate::switch::{Switch, lock};
use crate::topology::CoreId;
use crate::worker::Command;
use flow::clock;

/// Seconds of an interval.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a small constant")]
const INTERVAL_S: usize = (INTERVAL_MS / 1000) as usize;

/// What `pmd-perf-show` shows beside the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfView {
    pub histograms: bool,
    /// Rounds of the history.
    pub rounds: usize,
    /// Milliseconds of the history.
    pub milliseconds: usize,
}

impl Switch {
    /// Which worker polls which queue, and how much of its time each takes, over the last `seconds`.
    #[must_use]
    pub fn pmd_rxq_show(&self, core: Option<CoreId>, seconds: usize) -> String {
        let max = INTERVALS * INTERVAL_S;
        let seconds = if (1..=max).contains(&seconds) { seconds.next_multiple_of(INTERVAL_S) } else { max };
        let control = lock(&self.control);
        let crew = &control.ports.crew;
        let mut out = String::new();
        for worker in shown(crew, core) {
            if out.is_empty() {
                out = format!("Displaying last {seconds} seconds pmd usage %\n");
            }
            if worker.id != WorkerId::Main {
                out += &rxqs(crew, worker, seconds / INTERVAL_S);
            }
        }
        if out.is_empty() && core.is_none() {
            out = format!("Displaying last {seconds} seconds pmd usage %\n");
        }
        out
    }

    /// Packets, hits and cycles of the workers.
    #[must_use]
    pub fn pmd_stats_show(&self, core: Option<CoreId>) -> String {
        let control = lock(&self.control);
        let line = |worker: &Worker| title(worker) + &pmd_text::stats(&self.totals(worker).since(&worker.cleared));
        shown(&control.ports.crew, core).map(line).collect()
    }

    /// Begins all figures of `pmd-stats-show` and `pmd-perf-show` anew.
    pub fn pmd_stats_clear(&self, core: Option<CoreId>) {
        let mut control = lock(&self.control);
        for worker in control.ports.crew.workers.iter_mut().filter(|w| core.is_none() || w.id.core() == core) {
            worker.cleared = self.totals(worker);
            worker.cleared_ms = clock::now_ms();
            worker.handle.send(Command::ClearMetrics);
        }
    }

    /// How the workers spend their rounds.
    #[must_use]
    pub fn pmd_perf_show(&self, core: Option<CoreId>, view: PerfView) -> String {
        let control = lock(&self.control);
        let mut out = String::new();
        for worker in shown(&control.ports.crew, core).filter(|w| w.id != WorkerId::Main) {
            out += &self.perf_of(worker, view);
        }
        out
    }

    fn perf_of(&self, worker: &Worker, view: PerfView) -> String {
        let seconds = std::time::Duration::from_millis((clock::now_ms() - worker.cleared_ms).unsigned_abs()).as_secs_f64();
        let time = wall_time(clock::clock().wall_ms());
        let mut out = format!("\nTime: {time}\nMeasurement duration: {seconds:.3} s\n\n{}\n", title(worker));
        out += &pmd_text::overall(&self.totals(worker).since(&worker.cleared), seconds);
        // OVS has no such lines: they are there once somebody has asked for the account (`pmd-stage-show on`).
        if let Some(report) = self.stage_reports().iter().find(|r| r.seat == worker.handle.seat) {
            out += &format!("\n{}", report.text());
        }
        let metrics: Option<Box<Metrics>> = worker.handle.ask(Command::Metrics).flatten();
        if let Some(metrics) = metrics {
            if view.histograms {
                out += &format!("\n{}", pmd_text::histograms(&metrics));
            }
            if view.rounds > 0 {
                out += &format!("\n{}", pmd_text::rounds(metrics.rounds.newest().take(view.rounds)));
            }
            if view.milliseconds > 0 {
                out += &format!("\n{}", pmd_text::milliseconds(metrics.milliseconds.newest().take(view.milliseconds)));
            }
        }
        out
    }

    /// Where the workers' cycles went, stage by stage, while that was accounted.
    #[must_use]
    pub fn pmd_stage_show(&self) -> String {
        let reports = self.stage_reports();
        let control = lock(&self.control);
        let text = |worker: &Worker| {
            let report = reports.iter().find(|r| r.seat == worker.handle.seat)?;
            Some(title(worker) + &report.text())
        };
        control.ports.crew.workers.iter().filter_map(text).collect()
    }

    /// How long the workers may nap.
    #[must_use]
    pub fn pmd_sleep_show(&self) -> String {
        let control = lock(&self.control);
        let sleep = &control.settings.sleep;
        let mut out = format!("Default max sleep: {:4} us\n", sleep.default_us);
        for worker in control.ports.crew.workers.iter().filter(|w| w.id != WorkerId::Main) {
            out += &format!("{}  max sleep: {:4} us\n", title(worker), sleep.of_core(worker.id.core()));
        }
        out
    }

    /// Deals the receive queues out anew.
    pub fn pmd_rxq_rebalance(&self) {
        let mut control = lock(&self.control);
        let settings = control.settings.clone();
        control.ports.crew.deal(&settings, clock::now_ms());
    }

    /// What `pmd-perf-log-set` has set.
    #[must_use]
    pub fn perf_log(&self) -> LogSettings {
        lock(&self.control).perf_log
    }

    /// Which slow rounds are logged, from now on.
    pub fn set_perf_log(&self, settings: LogSettings) {
        let mut control = lock(&self.control);
        control.perf_log = settings;
        self.tune(&control);
    }

    /// The cores that have a worker.
    #[must_use]
    pub fn pmd_cores(&self) -> Vec<CoreId> {
        lock(&self.control).ports.crew.workers.iter().filter_map(|w| w.id.core()).collect()
    }

    /// All that is counted of a worker since it began.
    fn totals(&self, worker: &Worker) -> Totals {
        // The seat's figures are those of everybody who has ever sat there.
        let work = Totals::of_work(&self.shared.work[worker.handle.seat]).since(&worker.handle.inherited);
        worker.handle.account.totals().and_work(&work)
    }
}

fn shown(crew: &Crew, core: Option<CoreId>) -> impl Iterator<Item = &Worker> {
    crew.workers.iter().filter(move |w| core.is_none() || w.id.core() == core)
}

fn title(worker: &Worker) -> String {
    match (worker.id, worker.numa) {
        (WorkerId::Core(core), numa) => format!("pmd thread numa_id {} core_id {core}:\n", numa.unwrap_or(0)),
        (WorkerId::Main, _) => "main thread:\n".to_owned(),
    }
}

fn rxqs(crew: &Crew, worker: &Worker, intervals: usize) -> String {
    let mut out = format!("{}  isolated : {}\n", title(worker), worker.isolated);
    let passed = worker.interval_cycles * intervals as u64;
    let percent = |cycles: u64| (u128::from(cycles) * 100).checked_div(passed.into()).and_then(|p| u64::try_from(p).ok());
    let mut mine: Vec<_> = crew.queues.iter().filter(|(_, q)| q.owner == Some(worker.id)).collect();
    mine.sort_by_key(|((_, number), queue)| (queue.name.clone(), *number));
    let mut sum = 0;
    for ((_, number), queue) in &mine {
        let took = queue.cycles.last(intervals);
        sum += took;
        out += &pmd_text::queue_line(&queue.name, *number, percent(took));
    }
    if !mine.is_empty() {
        let busy = worker.busy.last(intervals).min(passed);
        out += &pmd_text::overhead_line(percent(busy.saturating_sub(sum)));
    }
    out
}

/// `HH:MM:SS.mmm` of a day in UTC.
fn wall_time(ms: i64) -> String {
    let of_day = ms.rem_euclid(86_400_000);
    let (s, ms) = (of_day / 1000, of_day % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}
