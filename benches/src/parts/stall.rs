//! Whether the forwarding core notices that a large bundle is applied: its longest round, and what a thread that does nothing sees in its place.
//!
//! Packets always wait, so that nothing is forwarded for no longer than a round lasts. The forwarding thread holds its core by real-time
//! priority, and the kernel's limit on that is lifted meanwhile (`lab::Unthrottled`). Even so others get the core now and then: the kernel's
//! own threads, who waits there for long (Linux 6.12 and later give them 50 ms in a second), the host of a virtual machine. Therefore the
//! time is cut into short windows, and counted are those in which the thread was never ready without its core and the host kept nothing: there a
//! long round is the switch's own, or an interrupt's. And the same is done once more with the ports gone and a witness on the forwarding
//! core, a thread of the same priority that only reads the clock: what it misses beyond its own waits are interrupts, and the host.

use super::flow_mods::SETUP;
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

/// Length of a window.
const WINDOW: Duration = Duration::from_millis(5);
/// So long a wait is none: to be switched away and back takes it.
const WAIT_LEAST: Duration = Duration::from_micros(5);
/// A round that would be a stall. What the host keeps a core for is told in steps of 10 ms: less of it is seen as such a round, with a bundle and
/// without.
const LONG_MS: f64 = 0.5;
/// Gaps that the witness looks into.
const GAP_LEAST: Duration = Duration::from_micros(20);

/// With a bundle, and in as long a time without one.
#[derive(Clone, Debug, Default)]
struct Pair<T> {
    with: T,
    without: T,
}

/// What is seen of the forwarding thread, and of the witness; times in milliseconds.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The longest round of each window in which nobody else had the core, by the bins of the histogram.
    quiet: Vec<f64>,
    /// Windows in which somebody had, or just before.
    disturbed: usize,
    /// For how long in all the forwarding thread was ready and had no core.
    waited: f64,
    /// The longest gap of the witness, less what it waited.
    gap: f64,
}

impl Seen {
    fn longest(&self) -> f64 {
        self.quiet.iter().copied().fold(0.0, f64::max)
    }

    fn add(&mut self, other: &Self) {
        self.quiet.extend(&other.quiet);
        self.disturbed += other.disturbed;
        self.waited += other.waited;
        self.gap = self.gap.max(other.gap);
    }

    fn told(&self) -> String {
        let middle = median(self.quiet.iter().copied()).unwrap_or_default();
        format!(
            "{:.2} ms, in the middle {middle:.3} (of {} windows, {} of them above {LONG_MS} ms; {} more in which others had the core, {:.1} ms in all); a witness missed {:.2} ms",
            self.longest(),
            self.quiet.len(),
            self.quiet.iter().filter(|ms| **ms > LONG_MS).count(),
            self.disturbed,
            self.waited,
            self.gap
        )
    }
}

/// Several starts together.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "bundle", &rules::flow_mods(size.flows))?;
    let pcap = Traffic::Udp { flows: 4_000 }.write(&bench.pcaps)?;
    let _all_of_the_core = Unthrottled::lift();
    let mut all = Pair::<Seen>::default();
    for pair in 0..bench.plan.pairs {
        let seen = once(bench, &file, &pcap, size)?;
        bench.progress(format_args!("{}: {} of {}: {}", scenario.name, pair + 1, bench.plan.pairs, told(&seen)));
        all.with.add(&seen.with);
        all.without.add(&seen.without);
    }
    if all.with.quiet.is_empty() || all.without.quiet.is_empty() {
        return Err(BenchError::Wrong("others had the forwarding core in every window".to_owned()));
    }
    let row = Row { mpps: Some(all.with.longest()), unit: "ms, the longest round", ..Row::new(scenario.name, size) };
    Ok(vec![Row { note: told(&all), ..row }])
}

fn told(seen: &Pair<Seen>) -> String {
    format!("with a bundle {}; without {}", seen.with.told(), seen.without.told())
}

fn once(bench: &mut Bench, file: &Path, pcap: &Path, size: Size) -> Result<Pair<Seen>, BenchError> {
    let setup = Setup { ours: &["other_config:pmd-perf-metrics=true"], ..SETUP };
    let mut side = Side::with_rules(&mut bench.lab, Whose::Ours, &setup, 2, ("flows", rules::FLOWS))?;
    side.source(&bench.lab, "br0", 1, pcap)?;
    for tid in threads(side.pid(), "pmd-c") {
        bench.lab.hold_core(tid)?;
    }
    rest(Duration::from_millis(500))?;
    let core = bench.lab.cores.forward;
    let (tools, file) = (side.tools().clone(), file.display().to_string());
    let bundle = move || tools.ofctl(&["--bundle", "add-flows", "br0", &file]).map(drop);
    let start = Instant::now();
    let with = forwarding(&mut side, core, bundle.clone())?;
    let took = start.elapsed();
    side.expect_flows(u64::from(size.flows) + 1)?;
    let without = forwarding(&mut side, core, move || rest(took))?;
    for port in ["src1", "snk2"] {
        side.vsctl(&["del-port", "br0", port])?;
    }
    side.ofctl(&["del-flows", "br0"])?;
    rest(Duration::from_millis(500))?;
    let gap_with = witness(&bench.lab, bundle)?;
    side.expect_flows(size.flows.into())?;
    let gap_without = witness(&bench.lab, || rest(took))?;
    Ok(Pair { with: Seen { gap: gap_with, ..with }, without: Seen { gap: gap_without, ..without } })
}

/// What the forwarding thread does while something else is done beside us.
fn forwarding(side: &mut Side, core: usize, work: impl FnOnce() -> Result<(), BenchError> + Send) -> Result<Seen, BenchError> {
    let (pid, pmd) = (side.pid(), threads(side.pid(), "pmd-c"));
    let mut seen = Seen::default();
    let taken = || (waited_ns(pid, &pmd), stolen_ms(core));
    let (mut taken_before, mut rounds_before) = (taken(), rounds(side)?);
    // A wait is known when it is over, and a little later the round in which it was: perhaps in the next window.
    let mut was_disturbed = true;
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut is_last = false;
        while !is_last {
            is_last = working.is_finished();
            rest(WINDOW)?;
            let taken_first = taken();
            let rounds_now = rounds(side)?;
            let taken_now = taken();
            let waited = Duration::from_nanos(taken_now.0.saturating_sub(taken_before.0));
            let is_disturbed = waited > WAIT_LEAST || taken_now.1 > taken_before.1;
            if is_disturbed || was_disturbed {
                seen.disturbed += 1;
            } else {
                seen.quiet.push(longest_ms(&rounds_before, &rounds_now));
            }
            seen.waited += Duration::from_nanos(taken_first.0.saturating_sub(taken_before.0)).as_secs_f64() * 1000.0;
            (taken_before, rounds_before, was_disturbed) = (taken_first, rounds_now, is_disturbed);
        }
        working.join().expect("who asks a program for its work does not panic")
    })?;
    Ok(seen)
}

/// The histogram of rounds so far: cycles at the upper end of each bin, and how many.
fn rounds(side: &mut Side) -> Result<Vec<(f64, u64)>, BenchError> {
    let text = side.appctl("dpif-netdev/pmd-perf-show", &[])?;
    let mut lines = text.lines().skip_while(|l| !l.starts_with("Histograms")).skip(2);
    let bins = lines.by_ref().map_while(|line| {
        let mut words = line.split_whitespace();
        let (wall, count) = (words.next()?, words.next()?.parse::<u64>().ok()?);
        Some((wall.parse().unwrap_or(f64::INFINITY), count))
    });
    let bins: Vec<_> = bins.collect();
    if bins.is_empty() {
        Err(BenchError::Answer { from: "pmd-perf-show", what: "a histogram of cycles/it", text })
    } else {
        Ok(bins)
    }
}

/// The upper end of the last bin into which a round has come meanwhile, in milliseconds.
fn longest_ms(before: &[(f64, u64)], now: &[(f64, u64)]) -> f64 {
    let longest = before.iter().zip(now).rfind(|((_, before), (_, now))| now > before);
    longest.map_or(0.0, |(_, (cycles, _))| cycles / tsc_hz() * 1000.0)
}

/// The longest time between two looks at the clock, less what the thread waited for the core in it, in milliseconds, on the forwarding core
/// while something is done.
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
    let (me, own) = (std::process::id(), [gettid().as_raw().unsigned_abs()]);
    let mut waited = waited_ns(me, &own);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        let mut now = Instant::now();
        let gap = now - last;
        if gap >= GAP_LEAST {
            let meanwhile = waited_ns(me, &own);
            longest = longest.max(gap.saturating_sub(Duration::from_nanos(meanwhile.saturating_sub(waited))));
            waited = meanwhile;
            now = Instant::now();
        } else {
            longest = longest.max(gap);
        }
        if stop.load(Ordering::Relaxed) {
            return longest.as_secs_f64() * 1000.0;
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_round_is_in_the_last_bin_that_grew() {
        let bins = |counts: [u64; 3]| [1e6, 2e6, f64::INFINITY].into_iter().zip(counts).collect::<Vec<_>>();
        let longest = |before, now| longest_ms(&bins(before), &bins(now)) * tsc_hz() / 1000.0;
        assert!((longest([7, 1, 0], [9, 2, 0]) - 2e6).abs() < 1.0);
        assert!((longest([7, 1, 1], [9, 1, 1]) - 1e6).abs() < 1.0);
        assert!(longest([7, 1, 0], [7, 1, 1]).is_infinite());
        assert!(longest([7, 1, 0], [7, 1, 0]) < 1.0);
    }

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
