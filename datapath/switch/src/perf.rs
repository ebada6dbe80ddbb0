//! Where a forwarding thread's cycles go, stage by stage: compiled in, off unless asked.
//!
//! What enters: `lap` at the end of each stage of a batch. What leaves: cycles by stage and thread, for `dpif-netdev/pmd-stage-show` and
//! the bench harness. Neighbours: `forward` and `worker` (which take the laps), `stats` (whose cells hold the sums), `switch` (which turns the account
//! on and reads it).
//!
//! While it is off a lap is one predictable branch. While it is on a lap reads the time-stamp counter, which waits for nothing, so that
//! loads still under way at the end of a stage are charged to the next one; the sum over the stages is exact.

use crate::cycles;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Stages of a batch, in the order of its way. A packet that goes round again passes them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    Receive,
    Parse,
    Cache,
    Classify,
    Account,
    Act,
    Send,
}

/// What a stage is called and what is charged to it.
#[derive(Debug)]
pub struct Row {
    pub stage: Stage,
    pub name: &'static str,
    pub help: &'static str,
}

const fn row(stage: Stage, name: &'static str, help: &'static str) -> Row {
    Row { stage, name, help }
}

/// How many stages there are.
pub const N_STAGES: usize = 7;
/// All stages, in order.
pub const STAGES: [Row; N_STAGES] = [
    row(Stage::Receive, "receive", "Taking packets from the receive queue."),
    row(Stage::Parse, "parse", "Making keys."),
    row(Stage::Cache, "cache", "Hashing keys, signature cache, comparing with the megaflows that it names."),
    row(Stage::Classify, "classify", "Searching the subtables for what no cache knew."),
    row(Stage::Account, "account", "Adding to the statistics of megaflows."),
    row(Stage::Act, "act", "Actions, and gathering what goes to a port."),
    row(Stage::Send, "send", "Giving packets to ports."),
];

/// The sums of one thread, which alone writes them.
#[derive(Debug, Default)]
pub struct Cycles {
    by_stage: [AtomicU64; N_STAGES],
    /// Packets received while the account was on.
    packets: AtomicU64,
}

impl Cycles {
    /// Packets received while the account was on.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// The sums, in the order of `STAGES`.
    #[must_use]
    pub fn values(&self) -> [u64; N_STAGES] {
        std::array::from_fn(|i| self.by_stage[i].load(Ordering::Relaxed))
    }
}

/// A thread's stop watch.
#[derive(Debug, Default)]
pub struct Laps {
    on: bool,
    last: u64,
}

impl Laps {
    /// Begins a round; whether laps are taken in it is decided here.
    #[inline]
    pub fn start(&mut self, on: &AtomicBool) {
        self.on = on.load(Ordering::Relaxed);
        if self.on {
            self.last = cycles::now();
        }
    }

    /// Charges the time since the last lap to `stage`.
    #[inline]
    pub fn lap(&mut self, stage: Stage, sums: &Cycles) {
        if self.on {
            self.charge(stage, sums);
        }
    }

    /// Counts the packets of a batch.
    #[inline]
    pub fn count(&self, packets: usize, sums: &Cycles) {
        if self.on {
            crate::stats::add(&sums.packets, packets as u64);
        }
    }

    #[cold]
    #[inline(never)]
    fn charge(&mut self, stage: Stage, sums: &Cycles) {
        let now = cycles::now();
        crate::stats::add(&sums.by_stage[stage as usize], now.wrapping_sub(self.last));
        self.last = now;
    }
}

/// One thread's account, for the time that it was on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The thread's seat; `Handle::seat` and `Work` go by the same number.
    pub seat: usize,
    /// Packets received.
    pub packets: u64,
    /// Cycles by stage, in the order of `STAGES`.
    pub cycles: [u64; N_STAGES],
}

impl Report {
    /// A line per stage.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an average need not be exact to the last of 53 bits")]
    pub fn text(&self) -> String {
        let line = |(row, cycles): (&Row, &u64)| {
            format!("  stage {}: {:.1} cycles/packet\n", row.name, *cycles as f64 / self.packets.max(1) as f64)
        };
        STAGES.iter().zip(&self.cycles).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_stages() {
        for (i, row) in STAGES.iter().enumerate() {
            assert_eq!(row.stage as usize, i);
        }
    }

    #[test]
    fn a_report_reads_as_lines() {
        let report = Report { seat: 0, packets: 10, cycles: [190, 0, 0, 0, 0, 0, 25] };
        let text = report.text();
        assert!(text.starts_with("  stage receive: 19.0 cycles/packet\n") && text.ends_with("  stage send: 2.5 cycles/packet\n"));
    }

    #[test]
    fn laps_add_up_to_the_time_between_start_and_end() {
        let (on, sums) = (AtomicBool::new(true), Cycles::default());
        let mut laps = Laps::default();
        laps.start(&on);
        let first = laps.last;
        for row in &STAGES {
            laps.lap(row.stage, &sums);
        }
        assert_eq!(sums.values().iter().sum::<u64>(), laps.last - first);
        on.store(false, Ordering::Relaxed);
        let before = sums.values();
        laps.start(&on);
        laps.lap(Stage::Act, &sums);
        assert_eq!(sums.values(), before);
    }
}
