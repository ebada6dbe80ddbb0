//! Memory: what a connection, a megaflow and an OpenFlow rule take of the daemon's.
//!
//! Connections and megaflows: what a daemon with them has more than one that drops the same packets. What reading a file leaves behind goes back to the
//! system sooner in the one than in the other, so files are short: each packet begins a connection in each of many zones, and comes by each of many ports.
//! Rules: what the daemon grows by while they are added.

use super::connections::{self, count};
use super::flow_mods;
use super::setup::{self, megaflows};
use crate::BenchError;
use crate::measure::{Bench, Row};
use crate::process::{resident, rest, wait_until};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long megaflows may take to come.
const TIME: Duration = Duration::from_secs(20);
/// How often memory is looked at.
const STEP: Duration = Duration::from_millis(10);
/// Memory that stays so long does not go back any more.
const STILL: Duration = Duration::from_secs(1);
/// What a daemon's memory differs by while it does nothing new, bytes.
const NOISE: u64 = 1 << 20;

/// The port of the sink.
const SINK: u32 = 100;
/// Zones in which each packet begins a connection.
const ZONES: u32 = 50;
/// Ports by which the same packets come.
const PORTS: u32 = 10;

/// Resident bytes of ours for each connection.
pub fn of_connections(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let commits: String = (1..=ZONES).map(|zone| format!("ct(commit,zone={zone}),")).collect();
    let rules = format!("udp,actions={commits}output:{SINK}\n");
    let each = beside_dropping(bench, (1, size.flows / ZONES), &connections::SETUP, ("ct-zones", &rules), |side| {
        Ok(count(side, size.flows)?.last().map_or(0.0, |point| point.1))
    })?;
    Ok(vec![Row { mpps: Some(each / 1000.0), unit: "KB per connection", ..Row::new(scenario.name, size) }])
}

/// Resident bytes of ours for each megaflow, statistics and caches included.
pub fn of_megaflows(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let rules: String = (1..=PORTS).map(|port| rules::SETUP.replace("in_port=1,", &format!("in_port={port},"))).collect();
    let rules = rules.replace("output:2", &format!("output:{SINK}"));
    let each = beside_dropping(bench, (PORTS, size.flows / PORTS), &setup::SETUP, ("setup", &rules), |side| {
        side.appctl("upcall/set-flow-limit", &[setup::LIMIT])?;
        let (mut result, mut there) = (Ok(()), 0.0);
        wait_until("the megaflows", TIME, || {
            result = megaflows(side).map(|n| there = n);
            result.is_err() || there >= f64::from(size.flows)
        })?;
        result.map(|()| there)
    })?;
    Ok(vec![Row { mpps: Some(each / 1000.0), unit: "KB per megaflow", ..Row::new(scenario.name, size) }])
}

/// Bytes that a switch under `rules` has more than one that drops, for each of those that `reach` waits for and counts. At each of some ports come so many
/// flows.
fn beside_dropping(
    bench: &mut Bench,
    (ports, flows): (u32, u32),
    setup: &Setup,
    (name, rules): (&str, &str),
    reach: impl Fn(&mut Side) -> Result<f64, BenchError>,
) -> Result<f64, BenchError> {
    let pcap = Traffic::Udp { flows }.write(&bench.pcaps)?;
    let without = settled(started(bench, setup, ("drop", rules::DROP), (&pcap, ports))?.pid())?;
    let mut side = started(bench, setup, (name, rules), (&pcap, ports))?;
    let reached = reach(&mut side)?;
    let with = settled(side.pid())?;
    #[allow(clippy::cast_precision_loss, reason = "bytes of memory need no more than 52 bits")]
    let each = (with as f64 - without as f64) / reached;
    bench.progress(format_args!("{name}: {reached} of them, {each:.0} bytes each"));
    Ok(each)
}

/// A switch with rules, and ports whose sources send a file.
fn started(bench: &mut Bench, setup: &Setup, named: (&str, &str), (pcap, ports): (&Path, u32)) -> Result<Side, BenchError> {
    let mut side = Side::with_rules(&mut bench.lab, Whose::Ours, setup, SINK, named)?;
    (1..=ports).try_for_each(|port| side.source(&bench.lab, "br0", port, pcap))?;
    Ok(side)
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

/// Resident memory before and after.
pub fn of_rules(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "rule-memory", &rules::flow_mods(size.flows))?;
    let mut each = Vec::new();
    for whose in bench.sides() {
        let side = Side::start(&mut bench.lab, whose, &flow_mods::SETUP)?;
        // The first rules pay for tables and buffers.
        side.ofctl(&["add-flow", "br0", "priority=0,actions=drop"])?;
        let before = resident(side.pid());
        flow_mods::add(&side, &["add-flows"], &file, size.flows + 1)?;
        let grown = resident(side.pid()).saturating_sub(before);
        #[allow(clippy::cast_precision_loss, reason = "bytes of memory need no more than 52 bits")]
        each.push(grown as f64 / f64::from(size.flows));
        bench.progress(format_args!("{} {whose:?}: {:.0} bytes per rule", scenario.name, each[each.len() - 1]));
    }
    let mut row = Row { unit: "KB per rule", ..Row::new(scenario.name, size) };
    row.mpps = each.first().map(|b| b / 1000.0);
    row.peer = each.get(1).map(|b| b / 1000.0);
    row.ratio = row.mpps.zip(row.peer).map(|(a, b)| b / a);
    Ok(vec![row])
}
