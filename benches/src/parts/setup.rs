//! Set-up: every packet is a new 5-tuple and needs its own megaflow. Counted is how fast megaflows appear in the datapath, between
//! a tenth and nine tenths of what is reached. How much several handlers set up: `handlers`.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::rest;
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const SETUP: Setup = Setup {
    ours: &["other_config:flow-limit=2000000", "other_config:max-idle=100000"],
    peer: &["other_config:flow-limit=2000000", "other_config:max-idle=100000"],
    replayed: 0,
    idle: false,
    free: false,
};
pub(super) const LIMIT: &str = "2000000";
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
