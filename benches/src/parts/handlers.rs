//! How much more two handler threads set up than one.
//!
//! Two cores have no place for two handlers and a flood, so the flood comes first: the forwarding thread fills the queues of many ports while its
//! real-time priority keeps the handlers from their core. Then upcalls are refused (`flow-restore-wait`), so that no more come, the forwarding thread
//! gets the lowest priority, and the handlers empty the queues: one on the forwarding core, or one on each.
//!
//! Nobody else is to take part. The handlers have real-time priority, so that whatever runs on the machine waits, and the switch is asked for nothing
//! until they sleep: to answer takes a fourth of a core, and locks that handlers need. A thread of ours with the same priority sees when they do. What
//! two cores of this machine can do together is measured in the same turn, by threads that share nothing: that is the limit.

use super::setup::{LIMIT, SETUP, megaflows};
use crate::BenchError;
use crate::lab::{Cores, Lab, Unthrottled};
use crate::measure::{Bench, Row, median};
use crate::process::{self, is_asleep, ran_ns, rest, threads, wait_until};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How many handlers are compared.
const HANDLERS: [usize; 2] = [1, 2];
/// Ports: each has one handler at a time.
const PORTS: std::ops::Range<u32> = 101..229;
/// What their queues hold together, 512 packets each.
const QUEUED: f64 = 128.0 * 512.0;
/// How much of it is set up at least, if all went as it should.
const SHARE: f64 = 0.9;
/// How long the queues are filled. Less than the kernel lets others wait for a core of real-time priority.
const FILL: Duration = Duration::from_millis(200);
/// Between two looks whether handlers sleep.
const STEP: Duration = Duration::from_millis(1);
/// So often in a row they sleep when there is nothing left to do: between two of them one may wait for what the other holds.
const ASLEEP: u32 = 3;
/// How long is waited for that.
const TIME: Duration = Duration::from_secs(2);
/// What threads that share nothing do: so many steps over a field of their own, larger than a second-level cache.
const STEPS: u32 = 4_000_000;
const FIELD_WORDS: usize = 1 << 20;
/// How often that is compared in each turn.
const LIMIT_TURNS: usize = 5;

/// What one and two handlers set up, and two threads that share nothing do, in turn.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let pcap = Traffic::Udp { flows: size.flows }.write(&bench.pcaps)?;
    let _all_of_the_cores = Unthrottled::lift();
    let mut found = [const { Vec::new() }; HANDLERS.len()];
    let mut limits = Vec::new();
    for pair in 0..bench.plan.pairs {
        for (n, found) in HANDLERS.into_iter().zip(&mut found) {
            let (rate, of_second) = with_handlers(bench, n, &pcap)?;
            let turn =
                format_args!("{} of {}: {rate:.3} M/s, {of_second:.3} M in a second of theirs", pair + 1, bench.plan.pairs);
            bench.progress(format_args!("{} {n}: {turn}", scenario.name));
            found.push((rate, of_second));
        }
        let limit = together(&bench.lab)?;
        bench.progress(format_args!("{}: two threads that share nothing do {limit:.2} times what one does", scenario.name));
        limits.push(limit);
    }
    let [one, _] = &found;
    let limit = median(limits.iter().copied()).unwrap_or_default();
    let (least, most) = limits.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), l| (a.min(*l), b.max(*l)));
    let rows = HANDLERS.into_iter().zip(&found).map(|(n, some)| {
        let mut row = Row { unit: "M set-ups/s", ..Row::new(&format!("{}-{n}", scenario.name), size) };
        row.mpps = median(some.iter().map(|(rate, _)| *rate));
        row.compare(some.iter().zip(one).map(|(a, b)| a.0 / b.0).collect());
        let of_second = median(some.iter().map(|(_, of_second)| *of_second)).unwrap_or_default();
        row.note = format!(
            "in a second of the handlers' processor time {of_second:.3} M; the ratio is to one handler; two threads that share nothing: {limit:.2} ({least:.2}, {most:.2})"
        );
        row
    });
    Ok(rows.collect())
}

/// Millions of set-ups per second, and per second of what the handlers have run, while queues are emptied that were full.
fn with_handlers(bench: &mut Bench, n: usize, pcap: &Path) -> Result<(f64, f64), BenchError> {
    let mut side = Side::start(&mut bench.lab, Whose::Ours, &Setup { idle: true, ..SETUP })?;
    side.sink("br0", 2)?;
    // Before there are rules, each port has one megaflow.
    for port in PORTS {
        side.source(&bench.lab, "br0", port, pcap)?;
    }
    side.vsctl(&["set", "Open_vSwitch", ".", &format!("other_config:n-handler-threads={n}")])?;
    side.appctl("upcall/set-flow-limit", &[LIMIT])?;
    let pid = side.pid();
    wait_until("the handlers", Duration::from_secs(5), || threads(pid, "handler").len() == n)?;
    let (handlers, forwarding) = (threads(pid, "handler"), threads(pid, "pmd-c"));
    let Cores { forward, rest: other } = bench.lab.cores;
    handlers.iter().try_for_each(|tid| pin(*tid, forward))?;
    // Who runs already goes on: of the same priority, the handlers wait until the forwarding thread has another.
    forwarding.iter().chain(&handlers).try_for_each(|tid| bench.lab.hold_core(*tid))?;
    let rules: String = PORTS.map(|port| rules::SETUP.replace("in_port=1,", &format!("in_port={port},"))).collect();
    side.add_flows("br0", &rules::write(bench.lab.dir(), "setup", &rules)?)?;
    rest(FILL)?;
    side.vsctl(&["set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true"])?;
    let (before, ran) = (megaflows(&mut side)?, ran_ns(pid, &handlers));
    let lab = &bench.lab;
    let took = std::thread::scope(|scope| {
        let emptied = || {
            lab.hold_core(gettid().as_raw().unsigned_abs())?;
            for tid in &forwarding {
                process::run(Command::new("chrt").args(["-i", "-p", "0", &tid.to_string()]))?;
            }
            let start = Instant::now();
            handlers.iter().skip(1).try_for_each(|tid| pin(*tid, other))?;
            until_asleep(pid, &handlers).map(|end| end - start)
        };
        scope.spawn(emptied).join().expect("who looks at threads does not panic")
    })?;
    let (ran, set_up) = (ran_ns(pid, &handlers) - ran, megaflows(&mut side)? - before);
    if set_up < SHARE * QUEUED {
        return Err(BenchError::Wrong(format!("{set_up} megaflows of {QUEUED} were set up")));
    }
    let per = |time: Duration| set_up / time.as_secs_f64() / 1e6;
    Ok((per(took), per(Duration::from_nanos(ran))))
}

/// When the threads fell asleep, all of them and for good.
fn until_asleep(pid: u32, tids: &[u32]) -> Result<Instant, BenchError> {
    let start = Instant::now();
    let (mut since, mut asleep) = (start, 0);
    while asleep < ASLEEP {
        if start.elapsed() > TIME {
            return Err(BenchError::Late("the handlers' sleep".to_owned()));
        }
        if !tids.iter().all(|tid| is_asleep(pid, *tid)) {
            asleep = 0;
        } else {
            if asleep == 0 {
                since = Instant::now();
            }
            asleep += 1;
        }
        rest(STEP)?;
    }
    Ok(since)
}

/// How many times what one thread does two do that share nothing: the middle of some turns.
fn together(lab: &Lab) -> Result<f64, BenchError> {
    let turns = (0..LIMIT_TURNS).map(|_| Ok(unshared(lab, 1)? / unshared(lab, 2)? * 2.0));
    let turns = turns.collect::<Result<Vec<_>, BenchError>>()?;
    Ok(median(turns).unwrap_or_default())
}

/// Seconds until threads that share nothing are done, each on a core of its own.
fn unshared(lab: &Lab, n: usize) -> Result<f64, BenchError> {
    let begun = Barrier::new(n);
    let work = |core: usize| {
        let held = pin(gettid().as_raw().unsigned_abs(), core).and_then(|()| lab.hold_core(gettid().as_raw().unsigned_abs()));
        let mut field: Vec<u64> = (0..FIELD_WORDS as u64).collect();
        begun.wait();
        let start = Instant::now();
        std::hint::black_box(steps(&mut field));
        held.map(|()| start.elapsed().as_secs_f64())
    };
    let cores = [lab.cores.forward, lab.cores.rest];
    std::thread::scope(|scope| {
        let threads: Vec<_> = cores.into_iter().take(n).map(|core| scope.spawn(move || work(core))).collect();
        let done = threads.into_iter().map(|thread| thread.join().expect("who counts does not panic"));
        done.collect::<Result<Vec<_>, _>>().map(|times| times.into_iter().fold(0.0, f64::max))
    })
}

/// Reads and writes all over a field, some at a time, as whoever sets up megaflows does.
fn steps(field: &mut [u64]) -> u64 {
    let mask = field.len() - 1;
    (0..STEPS).fold(1u64, |sum, _| {
        let mixed = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = usize::try_from(mixed >> 40).expect("24 bits") & mask;
        field[at] = field[at].wrapping_add(mixed);
        mixed.wrapping_add(field[at ^ 1])
    })
}

fn pin(tid: u32, core: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    let tid = Pid::from_raw(tid.cast_signed());
    let pinned = set.set(core).and_then(|()| sched_setaffinity(tid, &set));
    pinned.map_err(|e| BenchError::Io { what: "a thread's core".to_owned(), source: e.into() })
}
