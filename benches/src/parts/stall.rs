//! Whether the forwarding core notices that a large bundle is applied: its longest round, and what a thread that does nothing sees in its place.
//!
//! Packets always wait, so that nothing is forwarded for no longer than a round lasts. The core is held by no real-time priority: of that the
//! kernel takes 50 ms back in each second. So others may take it, the kernel's own threads and the host of a virtual machine among them,
//! and a long round says nothing by itself. Therefore the same is done once more with the ports gone and a witness on the forwarding core: a
//! thread that only reads the clock. What it misses no switch could have used.

use super::flow_mods::{SETUP, add};
use crate::BenchError;
use crate::lab::tsc_hz;
use crate::measure::{Bench, Row};
use crate::process::{rest, threads, waited_ns};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds, with a bundle and in as long a time without one.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    with: f64,
    without: f64,
}

impl Pair {
    fn max(self, other: Self) -> Self {
        Self { with: self.with.max(other.with), without: self.without.max(other.without) }
    }
}

/// What one start of the switch shows.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The longest round, by the bins of the histogram.
    round: Pair,
    /// For how long in all the forwarding thread was ready and had no core.
    waited: Pair,
    /// The longest gap of the witness.
    gap: Pair,
}

/// Several starts; the worst of each figure.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "bundle", &rules::flow_mods(size.flows))?;
    let pcap = Traffic::Udp { flows: 4_000 }.write(&bench.pcaps)?;
    let mut worst = Seen::default();
    for pair in 0..bench.plan.pairs {
        let seen = once(bench, &file, &pcap, size)?;
        bench.progress(format_args!("{}: {} of {}: {}", scenario.name, pair + 1, bench.plan.pairs, told(seen)));
        worst = Seen { round: worst.round.max(seen.round), waited: worst.waited.max(seen.waited), gap: worst.gap.max(seen.gap) };
    }
    let row = Row { mpps: Some(worst.round.with), unit: "ms, the longest round", ..Row::new(scenario.name, size) };
    Ok(vec![Row { note: told(worst), ..row }])
}

fn told(seen: Seen) -> String {
    let Seen { round, waited, gap } = seen;
    format!(
        "at most {:.2} ms, without a bundle {:.2}; all waits for the core {:.2} ms, without {:.2}; a witness in its place missed {:.2} ms, without {:.2}",
        round.with, round.without, waited.with, waited.without, gap.with, gap.without
    )
}

fn once(bench: &mut Bench, file: &Path, pcap: &Path, size: Size) -> Result<Seen, BenchError> {
    let setup = Setup { ours: &["other_config:pmd-perf-metrics=true"], ..SETUP };
    let mut side = Side::start(&mut bench.lab, Whose::Ours, &setup)?;
    side.sink("br0", 2)?;
    side.add_flows("br0", &rules::write(bench.lab.dir(), "flows", rules::FLOWS)?)?;
    side.source(&bench.lab, "br0", 1, pcap)?;
    rest(Duration::from_millis(500))?;
    let bundle = |side: &Side, expect: u32| add(side, &["--bundle", "add-flows"], file, expect);
    let mut took = Duration::ZERO;
    let (round_with, waited_with) = forwarding(&mut side, |side| {
        took = bundle(side, size.flows + 1)?;
        Ok(())
    })?;
    let (round_without, waited_without) = forwarding(&mut side, |_| rest(took))?;
    for port in ["src1", "snk2"] {
        side.vsctl(&["del-port", "br0", port])?;
    }
    side.ofctl(&["del-flows", "br0"])?;
    rest(Duration::from_millis(500))?;
    let core = bench.lab.cores.forward;
    let gap_with = witness(core, || bundle(&side, size.flows).map(drop))?;
    let gap_without = witness(core, || rest(took))?;
    Ok(Seen {
        round: Pair { with: round_with, without: round_without },
        waited: Pair { with: waited_with, without: waited_without },
        gap: Pair { with: gap_with, without: gap_without },
    })
}

/// The forwarding core's longest round while something is done, and how long its thread waited for it, in milliseconds.
fn forwarding(side: &mut Side, work: impl FnOnce(&Side) -> Result<(), BenchError>) -> Result<(f64, f64), BenchError> {
    let (pid, pmd) = (side.pid(), threads(side.pid(), "pmd-c"));
    side.appctl("dpif-netdev/pmd-stats-clear", &[])?;
    let before = waited_ns(pid, &pmd);
    work(side)?;
    let waited = waited_ns(pid, &pmd).saturating_sub(before);
    Ok((longest_round_ms(side)?, Duration::from_nanos(waited).as_secs_f64() * 1000.0))
}

/// The upper end of the last bin of cycles per round that is not empty.
fn longest_round_ms(side: &mut Side) -> Result<f64, BenchError> {
    let text = side.appctl("dpif-netdev/pmd-perf-show", &[])?;
    let mut lines = text.lines().skip_while(|l| !l.starts_with("Histograms")).skip(2);
    let bins = lines.by_ref().map_while(|line| {
        let mut words = line.split_whitespace();
        let (wall, count) = (words.next()?, words.next()?.parse::<u64>().ok()?);
        Some((wall.parse().unwrap_or(f64::INFINITY), count))
    });
    let longest = bins.filter(|(_, count)| *count > 0).last();
    let (cycles, _) = longest.ok_or(BenchError::Answer { from: "pmd-perf-show", what: "a histogram of cycles/it", text })?;
    Ok(cycles / tsc_hz() * 1000.0)
}

/// The longest time between two looks at the clock, in milliseconds, on that core while something is done.
fn witness(core: usize, work: impl FnOnce() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    let (begun, stop) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(core, &begun, &stop));
        begun.wait();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let longest = looking.join().expect("who reads the clock does not panic");
        done.and(longest)
    })
}

fn look(core: usize, begun: &Barrier, stop: &AtomicBool) -> Result<f64, BenchError> {
    let mut set = CpuSet::new();
    let pinned = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    begun.wait();
    pinned.map_err(|e| BenchError::Io { what: "the witness's core".to_owned(), source: e.into() })?;
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        let now = Instant::now();
        longest = longest.max(now - last);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        last = now;
    }
    Ok(longest.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It looks before the work begins, so that it has seen something however short that is; a core that there is not is an error, not a wait.
    #[test]
    fn a_witness_looks_from_the_beginning() {
        let core = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| {
            let list = text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned();
            list.split(['-', ',']).next()?.parse().ok()
        });
        let gap = witness(core.unwrap_or(0), || Ok(())).expect("a core that this process may use");
        assert!(gap > 0.0 && gap.is_finite());
        assert!(witness(100_000, || Ok(())).is_err(), "no such core");
    }
}
