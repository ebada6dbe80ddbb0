//! Connections: how fast new ones begin.
//!
//! Every packet is the first of its connection. Counted is how fast connections appear, between a tenth and nine tenths of what is reached.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::rest;
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const SETUP: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: false, free: false };
/// Between two counts.
const STEP: Duration = Duration::from_millis(10);
/// How long is counted at most.
const TIME: Duration = Duration::from_secs(5);

/// A count of connections, and when.
pub(super) type Point = (Instant, f64);

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

pub(super) fn count(side: &mut Side, all: u32) -> Result<Vec<Point>, BenchError> {
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
