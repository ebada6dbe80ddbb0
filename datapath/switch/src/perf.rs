//! Where a forwarding thread's cycles go, stage by stage: compiled in, off unless asked.
//!
//! What enters: `lap` at the end of each stage of a batch. What leaves: cycles by stage and thread, for `pmd-perf-show` and the bench
//! harness. Neighbours: `forward` and `worker` (which take the laps), `stats` (whose cells hold the sums), `switch` (which turns the account
//! on and reads it).
//!
//! While it is off a lap is one predictable branch. While it is on a lap reads the time-stamp counter, which waits for nothing, so that
//! loads still under way at the end of a stage are charged to the next one; the sum over the stages is exact.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
pub struct Cycles([AtomicU64; N_STAGES]);

impl Cycles {
    /// The sums, in the order of `STAGES`.
    #[must_use]
    pub fn values(&self) -> [u64; N_STAGES] {
        std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed))
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
            self.last = cycles();
        }
    }

    /// Charges the time since the last lap to `stage`.
    #[inline]
    pub fn lap(&mut self, stage: Stage, sums: &Cycles) {
        if self.on {
            self.charge(stage, sums);
        }
    }

    #[cold]
    #[inline(never)]
    fn charge(&mut self, stage: Stage, sums: &Cycles) {
        let now = cycles();
        crate::stats::add(&sums.0[stage as usize], now.wrapping_sub(self.last));
        self.last = now;
    }
}

/// One thread's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The thread's seat; `Handle::seat` and `Work` go by the same number.
    pub seat: usize,
    /// Packets received since the thread began, whether the account was on or off.
    pub received: u64,
    /// Cycles by stage while it was on, in the order of `STAGES`.
    pub cycles: [u64; N_STAGES],
}

/// The time-stamp counter: it runs at a constant rate (`rate_hz`), also while the core is idle.
#[inline]
#[must_use]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86_64 processor has the instruction, and Linux lets programs use it.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        nanoseconds()
    }
}

#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "only `rate_hz` needs it there"))]
fn nanoseconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure, and nothing else.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Cycles per second, measured once over 20 ms. Not for forwarding threads.
#[must_use]
pub fn rate_hz() -> u64 {
    static RATE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *RATE.get_or_init(|| {
        let (first, began) = (cycles(), nanoseconds());
        std::thread::sleep(Duration::from_millis(20));
        let (last, ended) = (cycles(), nanoseconds());
        let passed = u128::from(ended.saturating_sub(began).max(1));
        u64::try_from(u128::from(last.wrapping_sub(first)) * 1_000_000_000 / passed).unwrap_or(u64::MAX)
    })
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

    #[test]
    fn the_rate_is_that_of_a_processor() {
        assert!((100_000_000..10_000_000_000).contains(&rate_hz()));
    }
}
