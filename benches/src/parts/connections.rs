//! Connections: how fast new ones begin.
//!
//! Every packet is the first of its connection. Counted is how fast connections appear, between a tenth and nine tenths of what is reached.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::rest;
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side};
use crate::traffic::Traffic;
use std::time::{Duration, Instant};

pub(super) const SETUP: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: false, free: false };
/// Between two counts.
const STEP: Duration = Duration::from_millis(3);
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
            let mut side = Side::with_rules(&mut bench.lab, whose, &setup, 2, ("ct-new", rules::CT_NEW))?;
            side.source(&bench.lab, "br0", 1, &pcap)?;
            let rate = rate(&count(&mut side, size.flows)?)?;
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

/// Millions per second, from a tenth of what is reached to nine tenths.
fn rate(points: &[Point]) -> Result<f64, BenchError> {
    let top = points.last().map_or(0.0, |p| p.1);
    match (reached(points, top * 0.1), reached(points, top * 0.9)) {
        (Some(a), Some(b)) if b > a && top > 1000.0 => Ok(top * 0.8 / (b - a).as_secs_f64() / 1e6),
        _ => Err(BenchError::Wrong(format!("only {top} connections began"))),
    }
}

/// When there were so many, between two counts: as if as many began at any moment between them. `None` if there were more from the first count on.
fn reached(points: &[Point], connections: f64) -> Option<Instant> {
    let [(from, before), (to, after)] = *points.array_windows().find(|[_, b]| b.1 >= connections)?;
    (before < connections).then(|| from + (to - from).mul_f64((connections - before) / (after - before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_do_not_depend_on_when_is_counted() {
        let start = Instant::now();
        for step_ms in [1, 7, 10] {
            // A million in 200 ms, and then no more.
            let at = |ms: u64| (start + Duration::from_millis(ms), f64::from(u32::try_from(ms.min(200)).unwrap() * 5000));
            let points: Vec<Point> = (0..=210 / step_ms + 1).map(|n| at(n * step_ms)).collect();
            assert!((rate(&points).unwrap() - 5.0).abs() < 0.001, "{step_ms}");
        }
        let late = [(start, 500_000.0), (start + STEP, 800_000.0), (start + 2 * STEP, 1_000_000.0)];
        assert!(rate(&late).is_err(), "the beginning was missed");
        assert!(rate(&[]).is_err() && rate(&[(start, 5.0)]).is_err());
    }
}
