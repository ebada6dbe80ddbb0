//! The OpenFlow side: how fast rules come in, what they weigh, and whether the forwarding core notices.

use crate::BenchError;
use crate::lab::tsc_hz;
use crate::measure::{Bench, Row, median};
use crate::process::{resident, rest};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose, number_after};
use crate::traffic::Traffic;
use std::path::Path;
use std::time::{Duration, Instant};

const SETUP: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: true, free: false };

/// Plain and bundled, both sides in turn, each started afresh.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "flowmods", &rules::flow_mods(size.flows))?;
    let mut rows = Vec::new();
    for (how, args) in [("plain", &["add-flows"][..]), ("bundle", &["--bundle", "add-flows"][..])] {
        let name = format!("{}-{how}", scenario.name);
        let mut seconds = vec![Vec::new(); bench.sides().len()];
        for pair in 0..bench.plan.pairs {
            for (i, whose) in bench.sides().into_iter().enumerate() {
                let side = Side::start(&mut bench.lab, whose, &SETUP)?;
                let took = add(&side, args, &file, size.flows)?.as_secs_f64();
                bench.progress(format_args!("{name} {whose:?}: {} of {}: {took:.3} s", pair + 1, bench.plan.pairs));
                seconds[i].push(took);
            }
        }
        let mut row = Row { unit: "M flow-mods/s", ..Row::new(&name, size) };
        let rate = |seconds: f64| f64::from(size.flows) / seconds / 1e6;
        row.mpps = median(seconds[0].iter().copied().map(rate));
        row.note = format!("{:.3} s", median(seconds[0].iter().copied()).unwrap_or_default());
        if let [ours, peer] = &seconds[..] {
            row.peer = median(peer.iter().copied().map(rate));
            row.compare(ours.iter().zip(peer).map(|(a, b)| b / a).collect());
            row.note += &format!(", peer {:.3} s", median(peer.iter().copied()).unwrap_or_default());
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Adds a file's rules and checks that they are there.
fn add(side: &Side, args: &[&str], file: &Path, expect: u32) -> Result<Duration, BenchError> {
    let file = file.display().to_string();
    let mut args = args.to_vec();
    args.extend(["br0", &file]);
    let start = Instant::now();
    side.ofctl(&args)?;
    let took = start.elapsed();
    let text = side.ofctl(&["dump-aggregate", "br0"])?;
    match number_after(&text, "flow_count=") {
        Some(n) if n == u64::from(expect) => Ok(took),
        n => Err(BenchError::Wrong(format!("{n:?} flows instead of {expect}"))),
    }
}

/// Resident memory before and after.
pub fn memory(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "rule-memory", &rules::flow_mods(size.flows))?;
    let mut each = Vec::new();
    for whose in bench.sides() {
        let side = Side::start(&mut bench.lab, whose, &SETUP)?;
        // The first rules pay for tables and buffers.
        side.ofctl(&["add-flow", "br0", "priority=0,actions=drop"])?;
        let before = resident(side.pid());
        add(&side, &["add-flows"], &file, size.flows + 1)?;
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

/// The longest round of the forwarding core while a bundle of that many rules is applied, and in as long a time without one. Packets always
/// wait, so that nothing is forwarded for no longer than a round lasts. The core is held by no real-time priority: of that the kernel takes 50 ms
/// back in each second.
pub fn stall(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "bundle", &rules::flow_mods(size.flows))?;
    let pcap = Traffic::Udp { flows: 4_000 }.write(&bench.pcaps)?;
    let (mut during, mut without) = (0f64, 0f64);
    for pair in 0..bench.plan.pairs {
        let mut side =
            Side::start(&mut bench.lab, Whose::Ours, &Setup { ours: &["other_config:pmd-perf-metrics=true"], ..SETUP })?;
        side.sink("br0", 2)?;
        side.add_flows("br0", &rules::write(bench.lab.dir(), "flows", rules::FLOWS)?)?;
        side.source(&bench.lab, "br0", 1, &pcap)?;
        rest(Duration::from_millis(500))?;
        side.appctl("dpif-netdev/pmd-stats-clear", &[])?;
        let took = add(&side, &["--bundle", "add-flows"], &file, size.flows + 1)?;
        let worst = longest_round_ms(&mut side)?;
        side.appctl("dpif-netdev/pmd-stats-clear", &[])?;
        rest(took)?;
        let usual = longest_round_ms(&mut side)?;
        bench.progress(format_args!(
            "{}: {} of {}: at most {worst:.2} ms, without {usual:.2}",
            scenario.name,
            pair + 1,
            bench.plan.pairs
        ));
        (during, without) = (during.max(worst), without.max(usual));
    }
    let mut row = Row { mpps: Some(during), unit: "ms, the longest round", ..Row::new(scenario.name, size) };
    row.note = format!("without a bundle {without:.2} ms");
    Ok(vec![row])
}

/// The upper end of the last bin of cycles per round that is not empty.
fn longest_round_ms(side: &mut Side) -> Result<f64, BenchError> {
    let text = side.appctl("dpif-netdev/pmd-perf-show", &[])?;
    let mut lines = text.lines().skip_while(|l| !l.starts_with("Histograms")).skip(2);
    let bins = lines.by_ref().map_while(|line| {
        let mut words = line.split_whitespace();
        let (wall, count) = (words.next()?, words.next()?.parse::<u64>().ok()?);
        Some((wall.parse().unwrap_or(f64::INFINITY), count))
    });
    let longest = bins.filter(|(_, count)| *count > 0).last();
    let (cycles, _) = longest.ok_or(BenchError::Answer { from: "pmd-perf-show", what: "a histogram of cycles/it", text })?;
    Ok(cycles / tsc_hz() * 1000.0)
}
