//! What a worker does with its time: totals that anybody may read, and, if `pmd-perf-metrics` asks for them, histograms and histories.
//!
//! What enters: one call per round of a worker's loop. What leaves: `Account` (shared, single-writer cells as in `stats`) and `Metrics` (the
//! worker's own; control gets a copy by command). Neighbours: `worker`, `pmd_text`.

use crate::stats::{Work, add};
use flow::clock::Msec;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bins of a histogram; the last takes whatever is above the last wall.
pub const BINS: usize = 32;
/// Entries of a history.
pub const HISTORY: usize = 1000;

/// Totals since the worker began.
#[derive(Debug, Default)]
pub struct Account {
    pub busy_cycles: AtomicU64,
    pub idle_cycles: AtomicU64,
    pub asleep_cycles: AtomicU64,
    pub busy_rounds: AtomicU64,
    pub idle_rounds: AtomicU64,
    pub sleeps: AtomicU64,
    pub sent_packets: AtomicU64,
    pub sent_batches: AtomicU64,
}

impl Account {
    /// Adds a round of polling. Only for the worker itself.
    #[inline]
    pub fn count(&self, cycles: u64, packets: usize) {
        if packets > 0 {
            add(&self.busy_cycles, cycles);
            add(&self.busy_rounds, 1);
        } else {
            add(&self.idle_cycles, cycles);
            add(&self.idle_rounds, 1);
        }
    }

    /// The totals as they are now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Totals {
            busy_cycles: get(&self.busy_cycles),
            idle_cycles: get(&self.idle_cycles),
            asleep_cycles: get(&self.asleep_cycles),
            busy_rounds: get(&self.busy_rounds),
            idle_rounds: get(&self.idle_rounds),
            sleeps: get(&self.sleeps),
            sent_packets: get(&self.sent_packets),
            sent_batches: get(&self.sent_batches),
            ..Totals::default()
        }
    }
}

/// Everything that is counted of a worker. Subtracting an earlier one gives what happened since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; the second half is that of `stats::Work`")]
pub struct Totals {
    pub busy_cycles: u64,
    pub idle_cycles: u64,
    pub asleep_cycles: u64,
    pub busy_rounds: u64,
    pub idle_rounds: u64,
    pub sleeps: u64,
    pub sent_packets: u64,
    pub sent_batches: u64,
    pub received: u64,
    pub recirculated: u64,
    pub hit: u64,
    pub cache_hits: u64,
    pub searched: u64,
    pub missed: u64,
    pub lost: u64,
}

impl Totals {
    /// What a seat's forwarding has counted.
    #[must_use]
    pub fn of_work(work: &Work) -> Self {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Self {
            received: get(&work.received),
            recirculated: get(&work.recirculated),
            hit: get(&work.hit),
            cache_hits: get(&work.cache_hits),
            searched: get(&work.mask_hit),
            missed: get(&work.missed),
            lost: get(&work.lost),
            ..Self::default()
        }
    }

    /// These of time and output together with those of forwarding.
    #[must_use]
    pub fn and_work(self, work: &Self) -> Self {
        let Self { received, recirculated, hit, cache_hits, searched, missed, lost, .. } = *work;
        Self { received, recirculated, hit, cache_hits, searched, missed, lost, ..self }
    }

    /// What was counted since `before`; a count that began anew is all of it.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let d = |f: fn(&Self) -> u64| f(self).saturating_sub(f(before));
        Self {
            busy_cycles: d(|t| t.busy_cycles),
            idle_cycles: d(|t| t.idle_cycles),
            asleep_cycles: d(|t| t.asleep_cycles),
            busy_rounds: d(|t| t.busy_rounds),
            idle_rounds: d(|t| t.idle_rounds),
            sleeps: d(|t| t.sleeps),
            sent_packets: d(|t| t.sent_packets),
            sent_batches: d(|t| t.sent_batches),
            received: d(|t| t.received),
            recirculated: d(|t| t.recirculated),
            hit: d(|t| t.hit),
            cache_hits: d(|t| t.cache_hits),
            searched: d(|t| t.searched),
            missed: d(|t| t.missed),
            lost: d(|t| t.lost),
        }
    }
}

/// How often something was how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// The largest value of each bin.
    pub walls: [u64; BINS],
    pub bins: [u64; BINS],
}

impl Histogram {
    /// Walls in equal steps from `min` to `max`.
    fn linear(min: u64, max: u64) -> Self {
        let step = |i: usize| min + i as u64 * (max - min) / (BINS as u64 - 2);
        Self::with(std::array::from_fn(step))
    }

    /// Walls in equal ratios from `min` to `max`; a `min` of 0 has a bin of its own.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "walls are small and positive"
    )]
    fn logarithmic(min: u64, max: u64) -> Self {
        let start = usize::from(min == 0);
        let (low, high) = ((min.max(1) as f64).ln(), (max as f64).ln());
        let last = (BINS - 2 - start) as f64;
        let mut walls = [0; BINS];
        let mut least = start as u64;
        for (i, wall) in walls[start..BINS - 1].iter_mut().enumerate() {
            let ideal = (low + i as f64 * (high - low) / last).exp() as u64;
            // Walls rise, also where the ideal ones would fall together.
            *wall = ideal.max(least);
            least = *wall + 1;
        }
        walls[BINS - 2] = walls[BINS - 2].max(max);
        Self::with(walls)
    }

    fn with(mut walls: [u64; BINS]) -> Self {
        walls[BINS - 1] = u64::MAX;
        Self { walls, bins: [0; BINS] }
    }

    fn sample(&mut self, value: u64) {
        let bin = self.walls.partition_point(|wall| *wall < value);
        self.bins[bin.min(BINS - 1)] += 1;
    }
}

/// One round, or all rounds of a millisecond together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The number of the round, or the millisecond.
    pub at: u64,
    pub rounds: u64,
    pub cycles: u64,
    pub busy_cycles: u64,
    pub packets: u64,
    pub batches: u64,
    pub upcalls: u64,
}

impl Sample {
    fn take(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.cycles += other.cycles;
        self.busy_cycles += other.busy_cycles;
        self.packets += other.packets;
        self.batches += other.batches;
        self.upcalls += other.upcalls;
    }
}

/// The newest `HISTORY` samples.
#[derive(Clone, Debug)]
pub struct History {
    samples: std::collections::VecDeque<Sample>,
}

impl Default for History {
    /// With all its room from the start: a worker does not allocate.
    fn default() -> Self {
        Self { samples: std::collections::VecDeque::with_capacity(HISTORY) }
    }
}

impl History {
    fn push(&mut self, sample: Sample) {
        if self.samples.len() == HISTORY {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().rev()
    }
}

/// `pmd-perf-log-set`: rounds that take too long are logged, with those around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub on: bool,
    pub before: usize,
    pub after: usize,
    pub extend: bool,
    pub threshold_us: u64,
    /// Of vhost queues; there are none yet, so nothing reaches it.
    pub queue_length: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { on: false, before: 5, after: 5, extend: false, threshold_us: 1000, queue_length: 128 }
    }
}

/// A slow round, and those around it (the newest first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    pub round: Sample,
    pub around: Vec<Sample>,
}

/// Histograms and histories of one worker.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub cycles: Histogram,
    pub packets: Histogram,
    pub cycles_per_packet: Histogram,
    pub packets_per_batch: Histogram,
    pub upcalls: Histogram,
    pub rounds: History,
    pub milliseconds: History,
    pub totals: Sample,
    current_ms: Sample,
    n_rounds: u64,
    /// Of the round that is not over yet.
    n_batches: u64,
    suspect: Option<Sample>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            cycles: Histogram::logarithmic(500, 24_000_000),
            packets: Histogram::logarithmic(0, 1000),
            cycles_per_packet: Histogram::linear(100, 30_000),
            packets_per_batch: Histogram::linear(0, 32),
            upcalls: Histogram::linear(0, 30),
            rounds: History::default(),
            milliseconds: History::default(),
            totals: Sample::default(),
            current_ms: Sample::default(),
            n_rounds: 0,
            n_batches: 0,
            suspect: None,
        }
    }
}

impl Metrics {
    /// A received batch of so many packets.
    pub fn batch(&mut self, packets: usize) {
        self.n_batches += 1;
        self.packets_per_batch.sample(packets as u64);
    }

    /// A round (its number is given here). A slow one comes back as soon as those after it are known. `threshold` in cycles.
    pub fn round(&mut self, mut round: Sample, now_ms: Msec, log: &LogSettings, threshold: u64) -> Option<Suspicion> {
        self.n_rounds += 1;
        (round.at, round.rounds) = (self.n_rounds, 1);
        self.cycles.sample(round.cycles);
        self.packets.sample(round.packets);
        round.batches = std::mem::take(&mut self.n_batches);
        if let Some(each) = round.cycles.checked_div(round.packets) {
            round.busy_cycles = round.cycles;
            self.cycles_per_packet.sample(each);
        }
        self.upcalls.sample(round.upcalls);
        let now = u64::try_from(now_ms).unwrap_or(0);
        if now != self.current_ms.at {
            self.totals.take(&self.current_ms);
            if self.current_ms.rounds > 0 {
                self.milliseconds.push(self.current_ms);
            }
            self.current_ms = Sample { at: now, ..Sample::default() };
        }
        self.current_ms.take(&round);
        self.rounds.push(round);
        if log.on { self.suspect(round, log, threshold) } else { None }
    }

    fn suspect(&mut self, round: Sample, log: &LogSettings, threshold: u64) -> Option<Suspicion> {
        if round.cycles > threshold && (self.suspect.is_none() || log.extend) {
            self.suspect = Some(round);
        }
        let suspect = self.suspect.filter(|s| self.n_rounds >= s.at + log.after as u64)?;
        self.suspect = None;
        let around = self.rounds.newest().take(log.before + 1 + log.after).copied().collect();
        Some(Suspicion { round: suspect, around })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_rise() {
        let m = Metrics::default();
        for h in [&m.cycles, &m.packets, &m.cycles_per_packet, &m.packets_per_batch, &m.upcalls] {
            assert!(h.walls[..BINS - 1].is_sorted(), "{:?}", h.walls);
        }
        // As in OVS, where the first wall is the number below 500, too: exp(log(500)) falls short of it.
        assert_eq!((m.cycles.walls[0], m.cycles.walls[BINS - 2]), (499, 24_000_000));
        assert_eq!((m.packets.walls[..4].to_vec(), m.packets.walls[BINS - 2]), (vec![0, 1, 2, 3], 1000));
        assert_eq!((m.cycles_per_packet.walls[0], m.cycles_per_packet.walls[BINS - 2]), (100, 30_000));
    }

    #[test]
    fn samples_fall_into_their_bins() {
        let mut h = Histogram::linear(0, 30);
        [0, 1, 1, 30, 31, u64::MAX].into_iter().for_each(|v| h.sample(v));
        assert_eq!((h.bins[0], h.bins[1], h.bins[30], h.bins[31]), (1, 2, 1, 2));
    }

    #[test]
    fn a_slow_round_comes_with_its_neighbours() {
        let mut m = Metrics::default();
        let log = LogSettings { on: true, before: 1, after: 1, ..LogSettings::default() };
        let mut round = |cycles| m.round(Sample { cycles, packets: 1, ..Sample::default() }, 7, &log, 100);
        assert_eq!((round(10), round(20), round(500)), (None, None, None));
        let found = round(30).unwrap();
        assert_eq!(found.round.cycles, 500);
        assert_eq!(found.around.iter().map(|s| (s.at, s.cycles)).collect::<Vec<_>>(), [(4, 30), (3, 500), (2, 20)]);
    }

    #[test]
    fn milliseconds_gather_rounds() {
        let mut m = Metrics::default();
        let log = LogSettings::default();
        for (now, packets) in [(1, 2), (1, 3), (2, 4), (3, 0)] {
            m.batch(2);
            m.round(Sample { cycles: 10, packets, ..Sample::default() }, now, &log, 0);
        }
        let all: Vec<_> = m.milliseconds.newest().map(|s| (s.at, s.rounds, s.packets)).collect();
        assert_eq!(all, [(2, 1, 4), (1, 2, 5)]);
        assert_eq!((m.totals.packets, m.totals.busy_cycles, m.totals.batches), (9, 30, 3));
        let since = Totals { hit: 5, ..Totals::default() }.since(&Totals { hit: 2, missed: 9, ..Totals::default() });
        assert_eq!((since.hit, since.missed), (3, 0));
    }
}
