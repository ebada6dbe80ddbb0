//! What one port's traffic does to another's: established flows on port 1, and on port 3 either established flows too (the measure) or
//! an attack. Both ports are polled by the one forwarding core in turn, so a fair core gives port 1 the same rate in both cases.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::rest;
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose, number_after, rx_packets};
use crate::traffic::Traffic;
use std::time::{Duration, Instant};

/// A neighbour on port 3.
#[derive(Clone, Copy)]
struct Neighbour {
    traffic: Traffic,
    rules: &'static str,
    ours: &'static [&'static str],
}

/// Flows of established traffic, at either port.
const CALM: &str = "in_port=1,udp,tp_dst=1000,actions=output:2\nin_port=3,udp,tp_dst=1000,actions=output:2\n";
/// Every tuple needs a megaflow of its own.
const FLOOD: &str = "in_port=1,udp,tp_dst=1000,actions=output:2\n\
    in_port=3,udp,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],move:NXM_OF_IP_DST[]->NXM_NX_REG1[],\
    move:NXM_OF_UDP_SRC[]->NXM_NX_REG2[0..15],move:NXM_OF_UDP_DST[]->NXM_NX_REG2[16..31],output:2\n";

/// Misses without end at port 3.
pub fn miss_flood(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let attack =
        Neighbour { traffic: Traffic::Udp { flows: 1_000_000 }, rules: FLOOD, ours: &["other_config:flow-limit=200000"] };
    compare(bench, scenario, size, attack)
}

/// Packets at port 3 that a list of prefixes tells apart at thousands of depths.
pub fn explosion(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let attack =
        Neighbour { traffic: Traffic::Explosion { flows: 33 * 33 * 17 }, rules: "", ours: &["other_config:flow-limit=200000"] };
    compare(bench, scenario, size, attack)
}

fn compare(bench: &mut Bench, scenario: &Scenario, size: Size, attack: Neighbour) -> Result<Vec<Row>, BenchError> {
    let calm = Neighbour { traffic: Traffic::Udp { flows: size.flows }, rules: CALM, ours: &[] };
    let (mut calm_side, mut attacked) = (build(bench, size, calm)?, build(bench, size, attack)?);
    let mut rates = [Vec::new(), Vec::new()];
    for pair in 0..bench.plan.pairs {
        for (side, rates) in [&mut attacked, &mut calm_side].into_iter().zip(&mut rates) {
            side.pause(false);
            rest(Duration::from_millis(500))?;
            rates.push(victim(side, bench.plan.turn)?);
            side.pause(true);
        }
        let last = |i: usize| rates[i].last().copied().unwrap_or_default();
        bench.progress(format_args!(
            "{}: {} of {}: {:.2} under attack, {:.2} beside calm traffic",
            scenario.name,
            pair + 1,
            bench.plan.pairs,
            last(0),
            last(1)
        ));
    }
    let mut row = Row::new(scenario.name, size);
    let [under, beside] = &rates;
    (row.mpps, row.peer) = (median(under.iter().copied()), median(beside.iter().copied()));
    row.compare(under.iter().zip(beside).map(|(a, b)| a / b).collect());
    attacked.pause(false);
    let (masks, megaflows) = attacked.megaflows()?;
    row.masks = masks;
    row.note = format!("the peer is ourselves beside established traffic; {megaflows} megaflows, {}", losses(&mut attacked)?);
    Ok(vec![row])
}

fn build(bench: &mut Bench, size: Size, neighbour: Neighbour) -> Result<Side, BenchError> {
    let victim = Traffic::Udp { flows: size.flows }.write(&bench.pcaps)?;
    let other = neighbour.traffic.write(&bench.pcaps)?;
    let name = if neighbour.ours.is_empty() { "calm" } else { "attacked" };
    let text = if neighbour.rules.is_empty() { rules::explosion() } else { neighbour.rules.to_owned() };
    let setup = Setup { ours: neighbour.ours, ..Setup::default() };
    let lab_name = format!("{name}.d");
    let mut side = Side::start_named(&mut bench.lab, Whose::Ours, &lab_name, &setup)?;
    side.sink("br0", 2)?;
    side.add_flows("br0", &rules::write(bench.lab.dir(), name, &text)?)?;
    side.source(&bench.lab, "br0", 1, &victim)?;
    // The victim's flows are established before the other port begins.
    rest(Duration::from_millis(300))?;
    side.source(&bench.lab, "br0", 3, &other)?;
    side.pause(true);
    Ok(side)
}

/// Millions of packets per second of port 1.
pub(super) fn victim(side: &mut Side, time: Duration) -> Result<f64, BenchError> {
    let mut count = || {
        let text = side.appctl("dpctl/show", &["-s"])?;
        let n = rx_packets(&text, "src1").ok_or(BenchError::Answer { from: "dpctl/show -s", what: "src1", text })?;
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        Ok::<_, BenchError>((Instant::now(), n as f64))
    };
    let before = count()?;
    rest(time)?;
    let after = count()?;
    Ok((after.1 - before.1) / (after.0 - before.0).as_secs_f64() / 1e6)
}

/// What the queues upwards lost.
fn losses(side: &mut Side) -> Result<String, BenchError> {
    let text = side.appctl("dpctl/show", &[])?;
    let lost = number_after(&text, "lost:").unwrap_or(0);
    Ok(format!("{lost} misses lost at full queues"))
}
