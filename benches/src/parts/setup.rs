//! Set-up: every packet is a new 5-tuple and needs its own megaflow. Counted is how fast megaflows appear in the datapath, between
//! a tenth and nine tenths of what is reached.
//!
//! `handlers` asks how much more two handler threads set up than one. Two cores have no place for two handlers and a flood, so the flood comes
//! first: the forwarding thread fills the queues of many ports while the handlers are kept from their core by its priority. Then it has the lowest,
//! which is next to nothing beside a busy handler, and the handlers empty the queues: one on the forwarding core, or one on each.

use crate::BenchError;
use crate::lab::Cores;
use crate::measure::{Bench, Row, median};
use crate::process::{self, ran_ns, rest, threads, wait_until};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(super) const SETUP: Setup = Setup {
    ours: &["other_config:flow-limit=2000000", "other_config:max-idle=100000"],
    peer: &["other_config:flow-limit=2000000", "other_config:max-idle=100000"],
    replayed: 0,
    idle: false,
    free: false,
};
pub(super) const LIMIT: &str = "2000000";
/// How many handlers are compared.
const HANDLERS: [usize; 2] = [1, 2];
/// Ports for several handlers: each has one handler at a time.
const PORTS: std::ops::Range<u32> = 101..229;
/// What their queues hold together, 512 packets each.
const QUEUED: f64 = 128.0 * 512.0;
/// How much of it is waited for: at the end there are too few ports for two.
const SHARE: f64 = 0.9;
/// How long the queues are filled. Less than the kernel lets others wait for a core of real-time priority.
const FILL: Duration = Duration::from_millis(200);
/// Between two counts.
const STEP: Duration = Duration::from_millis(20);
/// How long is counted.
const TIME: Duration = Duration::from_secs(2);

/// Both sides in turn, each started afresh for each turn.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let traffic = Traffic::Udp { flows: size.flows };
    let pcap = traffic.write(&bench.pcaps)?;
    let setup = Setup { replayed: traffic.packets(), ..SETUP };
    let mut rates = vec![Vec::new(); bench.sides().len()];
    for pair in 0..bench.plan.pairs {
        for (i, whose) in bench.sides().into_iter().enumerate() {
            let rate = one(bench, whose, &setup, &pcap)?;
            bench.progress(format_args!("{} {:?}: {} of {}: {rate:.3} M/s", scenario.name, whose, pair + 1, bench.plan.pairs));
            rates[i].push(rate);
        }
    }
    let mut row = Row { unit: "M set-ups/s", ..Row::new(scenario.name, size) };
    row.mpps = median(rates[0].iter().copied());
    if let [ours, peer] = &rates[..] {
        row.peer = median(peer.iter().copied());
        row.compare(ours.iter().zip(peer).map(|(a, b)| a / b).collect());
    }
    row.note = "the peer translates on its forwarding core, ours on the other".into();
    Ok(vec![row])
}

/// What one and two handlers set up, in turn.
pub fn handlers(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let pcap = Traffic::Udp { flows: size.flows }.write(&bench.pcaps)?;
    let mut found = [const { Vec::new() }; HANDLERS.len()];
    for pair in 0..bench.plan.pairs {
        for (n, found) in HANDLERS.into_iter().zip(&mut found) {
            let (rate, of_second) = with_handlers(bench, n, &pcap)?;
            let turn =
                format_args!("{} of {}: {rate:.3} M/s, {of_second:.3} M in a second of theirs", pair + 1, bench.plan.pairs);
            bench.progress(format_args!("{} {n}: {turn}", scenario.name));
            found.push((rate, of_second));
        }
    }
    let [one, _] = &found;
    let rows = HANDLERS.into_iter().zip(&found).map(|(n, some)| {
        let mut row = Row { unit: "M set-ups/s", ..Row::new(&format!("{}-{n}", scenario.name), size) };
        row.mpps = median(some.iter().map(|(rate, _)| *rate));
        row.compare(some.iter().zip(one).map(|(a, b)| a.0 / b.0).collect());
        let of_second = median(some.iter().map(|(_, of_second)| *of_second)).unwrap_or_default();
        row.note = format!("in a second of the handlers' processor time {of_second:.3} M; the ratio is to one handler");
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
    let pin = |tid: u32, core: usize| {
        process::run(Command::new("taskset").args(["-p", "-c", &core.to_string(), &tid.to_string()])).map(drop)
    };
    let Cores { forward, rest: other } = bench.lab.cores;
    handlers.iter().try_for_each(|tid| pin(*tid, forward))?;
    forwarding.iter().try_for_each(|tid| bench.lab.hold_core(*tid))?;
    let rules: String = PORTS.map(|port| rules::SETUP.replace("in_port=1,", &format!("in_port={port},"))).collect();
    side.add_flows("br0", &rules::write(bench.lab.dir(), "setup", &rules)?)?;
    rest(FILL)?;
    for tid in &forwarding {
        process::run(Command::new("chrt").args(["-i", "-p", "0", &tid.to_string()]))?;
    }
    handlers.iter().skip(1).try_for_each(|tid| pin(*tid, other))?;
    let (start, before, ran) = (Instant::now(), megaflows(&mut side)?, ran_ns(pid, &handlers));
    let enough = before + SHARE * (QUEUED - before);
    let mut after = before;
    while after < enough {
        if start.elapsed() > TIME {
            return Err(BenchError::Late(format!("{enough} megaflows, of {after}")));
        }
        rest(STEP / 10)?;
        after = megaflows(&mut side)?;
    }
    let (took, ran) = (start.elapsed(), ran_ns(pid, &handlers) - ran);
    let per = |time: Duration| (after - before) / time.as_secs_f64() / 1e6;
    Ok((per(took), per(Duration::from_nanos(ran))))
}

pub(super) fn megaflows(side: &mut Side) -> Result<f64, BenchError> {
    let flows = side.n_megaflows()?;
    #[allow(clippy::cast_precision_loss, reason = "a count of megaflows is small")]
    Ok(flows as f64)
}

fn one(bench: &mut Bench, whose: Whose, setup: &Setup, pcap: &Path) -> Result<f64, BenchError> {
    let mut side = Side::with_rules(&mut bench.lab, whose, setup, 2, ("setup", rules::SETUP))?;
    side.appctl("upcall/set-flow-limit", &[LIMIT])?;
    side.source(&bench.lab, "br0", 1, pcap)?;
    growth(&mut side)
}

/// Millions of megaflows per second.
fn growth(side: &mut Side) -> Result<f64, BenchError> {
    let mut points = Vec::new();
    let start = Instant::now();
    while start.elapsed() < TIME {
        let asked = Instant::now();
        points.push((asked, megaflows(side)?));
        rest(STEP)?;
    }
    let top = points.last().map_or(0.0, |p| p.1);
    let reached = |share: f64| points.iter().find(|p| p.1 >= top * share).copied();
    match (reached(0.1), reached(0.9)) {
        (Some(a), Some(b)) if b.0 > a.0 && top > 1000.0 => Ok((b.1 - a.1) / (b.0 - a.0).as_secs_f64() / 1e6),
        _ => Err(BenchError::Wrong(format!("only {top} megaflows were set up"))),
    }
}
