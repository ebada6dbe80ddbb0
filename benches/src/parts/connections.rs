//! Connections: how fast new ones begin, and what each of them takes.
//!
//! Every packet is the first of its connection. Counted is how fast connections appear, between a tenth and nine tenths of what is reached; memory
//! is what the daemon has more than one that keeps none.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::{resident, rest};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use std::path::Path;
use std::time::{Duration, Instant};

const SETUP: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: false, free: false };
/// Between two counts.
const STEP: Duration = Duration::from_millis(10);
/// How long is counted at most.
const TIME: Duration = Duration::from_secs(5);
/// Memory that stays so long does not go back any more.
const STILL: Duration = Duration::from_secs(1);
/// What a daemon's memory differs by while it does nothing new, bytes.
const NOISE: u64 = 1 << 20;

/// A count of connections, and when.
type Point = (Instant, f64);

/// Both sides in turn, each started afresh for each turn.
pub fn new(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let traffic = Traffic::Udp { flows: size.flows };
    let pcap = traffic.write(&bench.pcaps)?;
    let setup = Setup { replayed: traffic.packets(), ..SETUP };
    let mut rates = vec![Vec::new(); bench.sides().len()];
    for pair in 0..bench.plan.pairs {
        for (i, whose) in bench.sides().into_iter().enumerate() {
            let mut side = with_rules(bench, whose, &setup, "ct-new", rules::CT_NEW)?;
            let rate = rate(&grow(bench, &mut side, &pcap, size.flows)?)?;
            bench.progress(format_args!("{} {:?}: {} of {}: {rate:.3} M/s", scenario.name, whose, pair + 1, bench.plan.pairs));
            rates[i].push(rate);
        }
    }
    let mut row = Row { unit: "M connections/s", ..Row::new(scenario.name, size) };
    row.mpps = median(rates[0].iter().copied());
    if let [ours, peer] = &rates[..] {
        row.peer = median(peer.iter().copied());
        row.compare(ours.iter().zip(peer).map(|(a, b)| a / b).collect());
    }
    Ok(vec![row])
}

/// Resident bytes of ours for each connection: what a daemon with connections has more than one that drops the same packets. Both read the same
/// file, so that its frames, and what reading them left behind, are in both figures.
pub fn memory(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let pcap = Traffic::Udp { flows: size.flows }.write(&bench.pcaps)?;
    let mut dropping = with_rules(bench, Whose::Ours, &SETUP, "drop", rules::DROP)?;
    dropping.source(&bench.lab, "br0", 1, &pcap)?;
    let without = settled(dropping.pid())?;
    drop(dropping);
    let mut side = with_rules(bench, Whose::Ours, &SETUP, "ct-new", rules::CT_NEW)?;
    let points = grow(bench, &mut side, &pcap, size.flows)?;
    let reached = points.last().map_or(0.0, |p| p.1);
    let with = settled(side.pid())?;
    #[allow(clippy::cast_precision_loss, reason = "bytes of memory need no more than 52 bits")]
    let each = (with as f64 - without as f64) / reached;
    bench.progress(format_args!("{}: {reached} connections, {each:.0} bytes each", scenario.name));
    Ok(vec![Row { mpps: Some(each / 1000.0), unit: "KB per connection", ..Row::new(scenario.name, size) }])
}

/// Resident memory once it has stayed as it is for `STILL`, or after `TIME`.
fn settled(pid: u32) -> Result<u64, BenchError> {
    let (start, mut since, mut last) = (Instant::now(), Instant::now(), 0);
    while start.elapsed() < TIME && since.elapsed() < STILL {
        let now = resident(pid);
        if now.abs_diff(last) > NOISE {
            (since, last) = (Instant::now(), now);
        }
        rest(STEP)?;
    }
    Ok(last)
}

fn with_rules(bench: &mut Bench, whose: Whose, setup: &Setup, name: &str, rules: &str) -> Result<Side, BenchError> {
    let side = Side::start(&mut bench.lab, whose, setup)?;
    side.sink("br0", 2)?;
    side.add_flows("br0", &rules::write(bench.lab.dir(), name, rules)?)?;
    Ok(side)
}

fn grow(bench: &Bench, side: &mut Side, pcap: &Path, all: u32) -> Result<Vec<Point>, BenchError> {
    side.source(&bench.lab, "br0", 1, pcap)?;
    count(side, all)
}

fn count(side: &mut Side, all: u32) -> Result<Vec<Point>, BenchError> {
    let mut points: Vec<Point> = Vec::new();
    let start = Instant::now();
    while start.elapsed() < TIME && points.last().is_none_or(|p| p.1 < f64::from(all)) {
        let asked = Instant::now();
        let text = side.appctl("dpctl/ct-get-nconns", &[])?;
        let n: u32 = text.trim().parse().map_err(|_| BenchError::Answer { from: "dpctl/ct-get-nconns", what: "number", text })?;
        points.push((asked, f64::from(n)));
        rest(STEP)?;
    }
    Ok(points)
}

/// Millions per second.
fn rate(points: &[Point]) -> Result<f64, BenchError> {
    let top = points.last().map_or(0.0, |p| p.1);
    let reached = |share: f64| points.iter().find(|p| p.1 >= top * share).copied();
    match (reached(0.1), reached(0.9)) {
        (Some(a), Some(b)) if b.0 > a.0 && top > 1000.0 => Ok((b.1 - a.1) / (b.0 - a.0).as_secs_f64() / 1e6),
        _ => Err(BenchError::Wrong(format!("only {top} connections began"))),
    }
}
