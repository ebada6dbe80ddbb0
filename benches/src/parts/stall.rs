//! Whether the forwarding core notices that a large bundle is applied: its longest round, and what a thread that does nothing sees in its place.
//!
//! Packets always wait, so that nothing is forwarded for no longer than a round lasts. The forwarding thread holds its core by real-time
//! priority, and the kernel's limit on that is lifted meanwhile (`lab::Unthrottled`). What is left is told beside the round: for how long the
//! thread was ready without its core, and how long the host of a virtual machine kept the core for others. And the same is done once more
//! with the ports gone and a witness on the forwarding core, a thread of the same priority that only reads the clock: what it misses
//! (interrupts, the host) no switch could have used.

use super::flow_mods::{SETUP, add};
use crate::BenchError;
use crate::lab::{Lab, Unthrottled, tsc_hz};
use crate::measure::{Bench, Row, median};
use crate::process::{rest, stolen_ms, threads, waited_ns};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
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
    /// For how long in all the host had the core.
    stolen: Pair,
    /// How much of the longest round nothing else explains.
    own: Pair,
    /// The longest gap of the witness.
    gap: Pair,
}

/// Several starts; the worst of each figure.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "bundle", &rules::flow_mods(size.flows))?;
    let pcap = Traffic::Udp { flows: 4_000 }.write(&bench.pcaps)?;
    let _all_of_the_core = Unthrottled::lift();
    let (mut worst, mut own) = (Seen::default(), Vec::new());
    for pair in 0..bench.plan.pairs {
        let seen = once(bench, &file, &pcap, size)?;
        bench.progress(format_args!("{}: {} of {}: {}", scenario.name, pair + 1, bench.plan.pairs, told(seen)));
        worst = worst.max(seen);
        own.push(seen.own);
    }
    let middle = |of: fn(&Pair) -> f64| median(own.iter().map(of)).unwrap_or_default();
    let note = format!("{}; in the middle its own {:.2} ms, without {:.2}", told(worst), middle(|p| p.with), middle(|p| p.without));
    let row = Row { mpps: Some(worst.own.with), unit: "ms, the longest round", ..Row::new(scenario.name, size) };
    Ok(vec![Row { note, ..row }])
}

impl Seen {
    fn max(self, other: Self) -> Self {
        Self {
            round: self.round.max(other.round),
            waited: self.waited.max(other.waited),
            stolen: self.stolen.max(other.stolen),
            own: self.own.max(other.own),
            gap: self.gap.max(other.gap),
        }
    }
}

fn told(seen: Seen) -> String {
    let Seen { round, waited, stolen, own, gap } = seen;
    let said = |what: &str, pair: Pair| format!("{what} {:.2} ms, without {:.2}", pair.with, pair.without);
    [
        said("the longest round with a bundle", round),
        said("all waits for the core", waited),
        said("stolen from it", stolen),
        said("its own of the round", own),
        said("a witness in its place missed", gap),
    ]
    .join("; ")
}

fn once(bench: &mut Bench, file: &Path, pcap: &Path, size: Size) -> Result<Seen, BenchError> {
    let setup = Setup { ours: &["other_config:pmd-perf-metrics=true"], ..SETUP };
    let mut side = Side::start(&mut bench.lab, Whose::Ours, &setup)?;
    side.sink("br0", 2)?;
    side.add_flows("br0", &rules::write(bench.lab.dir(), "flows", rules::FLOWS)?)?;
    side.source(&bench.lab, "br0", 1, pcap)?;
    for tid in threads(side.pid(), "pmd-c") {
        bench.lab.hold_core(tid)?;
    }
    rest(Duration::from_millis(500))?;
    let core = bench.lab.cores.forward;
    let bundle = |side: &Side, expect: u32| add(side, &["--bundle", "add-flows"], file, expect);
    let mut took = Duration::ZERO;
    let with = forwarding(&mut side, core, |side| {
        took = bundle(side, size.flows + 1)?;
        Ok(())
    })?;
    let without = forwarding(&mut side, core, |_| rest(took))?;
    for port in ["src1", "snk2"] {
        side.vsctl(&["del-port", "br0", port])?;
    }
    side.ofctl(&["del-flows", "br0"])?;
    rest(Duration::from_millis(500))?;
    let gap_with = witness(&bench.lab, || bundle(&side, size.flows).map(drop))?;
    let gap_without = witness(&bench.lab, || rest(took))?;
    let pair = |of: fn(&Account) -> f64| Pair { with: of(&with), without: of(&without) };
    Ok(Seen {
        round: pair(|a| a.round),
        waited: pair(|a| a.waited),
        stolen: pair(|a| a.stolen),
        own: pair(|a| (a.round - a.waited - a.stolen).max(0.0)),
        gap: Pair { with: gap_with, without: gap_without },
    })
}

/// What is told of the forwarding thread while something is done, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Account {
    round: f64,
    waited: f64,
    stolen: f64,
}

fn forwarding(side: &mut Side, core: usize, work: impl FnOnce(&Side) -> Result<(), BenchError>) -> Result<Account, BenchError> {
    let (pid, pmd) = (side.pid(), threads(side.pid(), "pmd-c"));
    side.appctl("dpif-netdev/pmd-stats-clear", &[])?;
    let before = (waited_ns(pid, &pmd), stolen_ms(core));
    work(side)?;
    let waited = waited_ns(pid, &pmd).saturating_sub(before.0);
    let stolen = stolen_ms(core) - before.1;
    Ok(Account { round: longest_round_ms(side)?, waited: Duration::from_nanos(waited).as_secs_f64() * 1000.0, stolen })
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

/// The longest time between two looks at the clock, in milliseconds, on the forwarding core while something is done.
fn witness(lab: &Lab, work: impl FnOnce() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    witness_on(lab.cores.forward, || lab.hold_core(gettid().as_raw().unsigned_abs()), work)
}

fn witness_on(
    core: usize,
    hold: impl FnOnce() -> Result<(), BenchError> + Send,
    work: impl FnOnce() -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let (begun, stop) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let held = pin(core).and_then(|()| hold());
            begun.wait();
            held.map(|()| look(&stop))
        });
        begun.wait();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let longest = looking.join().expect("who reads the clock does not panic");
        done.and(longest)
    })
}

fn pin(core: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    let pinned = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.map_err(|e| BenchError::Io { what: "the witness's core".to_owned(), source: e.into() })
}

fn look(stop: &AtomicBool) -> f64 {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        let now = Instant::now();
        longest = longest.max(now - last);
        if stop.load(Ordering::Relaxed) {
            return longest.as_secs_f64() * 1000.0;
        }
        last = now;
    }
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
        let gap = witness_on(core.unwrap_or(0), || Ok(()), || Ok(())).expect("a core that this process may use");
        assert!(gap > 0.0 && gap.is_finite());
        assert!(witness_on(100_000, || Ok(()), || Ok(())).is_err(), "no such core");
    }
}
