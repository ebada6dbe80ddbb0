//! What one port's traffic does to another's: established flows on port 1, and on port 3 either established flows too (the measure) or
//! an attack. Both ports are polled by the one forwarding core in turn, so a fair core gives port 1 the same rate in both cases.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::rest;
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose, number_after, rx_packets};
use crate::traffic::{Over, Traffic};
use std::time::{Duration, Instant};

/// What a port sends, and the rules for it.
struct Port {
    traffic: Traffic,
    rules: String,
}

/// A port 3, and what its switch is set to.
struct Neighbour {
    name: &'static str,
    port: Port,
    ours: &'static [&'static str],
    /// A control command.
    command: Option<(&'static str, &'static str)>,
}

/// Flows of port 1 whose packets one rule sends out.
const PLAIN: &str = "in_port=1,udp,tp_dst=1000,actions=output:2\n";
/// Connections of port 1.
const TRACKED: &str = "table=0,in_port=1,udp,actions=ct(table=1)\n\
    table=1,in_port=1,udp,ct_state=+trk+new,actions=ct(commit),output:2\n\
    table=1,in_port=1,udp,ct_state=+trk+est,actions=output:2\n";
/// Established traffic at port 3.
const CALM: &str = "in_port=3,udp,tp_dst=1000,actions=output:2\n";
/// Every tuple needs a megaflow of its own.
const MISSES: &str = "in_port=3,udp,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],move:NXM_OF_IP_DST[]->NXM_NX_REG1[],\
    move:NXM_OF_UDP_SRC[]->NXM_NX_REG2[0..15],move:NXM_OF_UDP_DST[]->NXM_NX_REG2[16..31],output:2\n";
/// Every packet begins a connection.
const BEGINNINGS: &str = "in_port=3,udp,actions=ct(commit,zone=1),output:2\n";
/// Fragments are tracked, and go on whatever is found.
const PIECES: &str = "in_port=3,ip,actions=ct(table=1)\nin_port=3,ipv6,actions=ct(table=1)\ntable=1,in_port=3,actions=output:2\n";
/// Megaflows without end need room.
const MANY_MEGAFLOWS: &[&str] = &["other_config:flow-limit=200000"];

/// Misses without end at port 3.
pub fn miss_flood(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let port = Port { traffic: Traffic::Udp { flows: 1_000_000 }, rules: MISSES.to_owned() };
    compare(bench, scenario, size, &plain(size), &Neighbour { ours: MANY_MEGAFLOWS, ..attack(port) })
}

/// Packets at port 3 that a list of prefixes tells apart at thousands of depths.
pub fn explosion(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let port = Port { traffic: Traffic::Explosion { flows: 33 * 33 * 17 }, rules: rules::explosion() };
    compare(bench, scenario, size, &plain(size), &Neighbour { ours: MANY_MEGAFLOWS, ..attack(port) })
}

/// First packets of connections without end at port 3, while as many connections stand as may: a few times those of port 1.
pub fn ct_flood(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let port = Port { traffic: Traffic::Udp { flows: 1_000_000 }, rules: BEGINNINGS.to_owned() };
    let command = Some(("dpctl/ct-set-maxconns", "20000"));
    compare(bench, scenario, size, &tracked(size), &Neighbour { command, ..attack(port) })
}

/// Fragments at port 3 that never complete.
pub fn frag_flood(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let port = Port { traffic: Traffic::Fragments { datagrams: 20_000 }, rules: PIECES.to_owned() };
    compare(bench, scenario, size, &tracked(size), &attack(port))
}

fn plain(size: Size) -> Port {
    Port { traffic: Traffic::Udp { flows: size.flows }, rules: PLAIN.to_owned() }
}

fn tracked(size: Size) -> Port {
    Port { traffic: Traffic::Connections { flows: size.flows, of: Over::Udp, nat: false }, rules: TRACKED.to_owned() }
}

const fn attack(port: Port) -> Neighbour {
    Neighbour { name: "attacked", port, ours: &[], command: None }
}

fn compare(
    bench: &mut Bench,
    scenario: &Scenario,
    size: Size,
    victim: &Port,
    attack: &Neighbour,
) -> Result<Vec<Row>, BenchError> {
    let port = Port { traffic: Traffic::Udp { flows: size.flows }, rules: CALM.to_owned() };
    let calm = Neighbour { name: "calm", port, ours: &[], command: None };
    let (mut calm_side, mut attacked) = (build(bench, victim, &calm)?, build(bench, victim, attack)?);
    let mut rates = [Vec::new(), Vec::new()];
    for pair in 0..bench.plan.pairs {
        for (side, rates) in [&mut attacked, &mut calm_side].into_iter().zip(&mut rates) {
            side.pause(false);
            rest(Duration::from_millis(500))?;
            rates.push(rate(side, bench.plan.turn)?);
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

fn build(bench: &mut Bench, victim: &Port, neighbour: &Neighbour) -> Result<Side, BenchError> {
    let pcaps = [victim.traffic.write(&bench.pcaps)?, neighbour.port.traffic.write(&bench.pcaps)?];
    let setup = Setup { ours: neighbour.ours, ..Setup::default() };
    let (name, text) = (neighbour.name, [victim.rules.as_str(), &neighbour.port.rules].concat());
    let mut side = Side::start_named(&mut bench.lab, Whose::Ours, &format!("{name}.d"), &setup)?;
    side.sink("br0", 2)?;
    side.add_flows("br0", &rules::write(bench.lab.dir(), name, &text)?)?;
    if let Some((command, argument)) = neighbour.command {
        side.appctl(command, &[argument])?;
    }
    side.source(&bench.lab, "br0", 1, &pcaps[0])?;
    // The victim's flows are established before the other port begins.
    rest(Duration::from_millis(300))?;
    side.source(&bench.lab, "br0", 3, &pcaps[1])?;
    side.pause(true);
    Ok(side)
}

/// Millions of packets per second of port 1.
pub(super) fn rate(side: &mut Side, time: Duration) -> Result<f64, BenchError> {
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

/// What the queues upwards lost, and the connections that stand.
fn losses(side: &mut Side) -> Result<String, BenchError> {
    let text = side.appctl("dpctl/show", &[])?;
    let lost = number_after(&text, "lost:").unwrap_or(0);
    let connections = side.appctl("dpctl/ct-get-nconns", &[])?;
    Ok(format!("{lost} misses lost at full queues, {} connections", connections.trim()))
}
