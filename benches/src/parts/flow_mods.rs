//! The OpenFlow side: how fast rules come in.

use super::forgetful;
use crate::BenchError;
use crate::lab::Lab;
use crate::measure::{Bench, Row, median};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Tools, Whose};
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const SETUP: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: true, free: false };

/// Whose `ovs-ofctl` reads the file. Its own time is in every figure, and more than half of it with Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Debian's, with either switch: what differs is the switch.
    Debian,
    /// Each switch with the one that comes with it: what somebody waits for who uses the one or the other.
    Own,
}

impl Client {
    fn tools(self, lab: &Lab, dir: &Path, whose: Whose) -> Tools {
        match self {
            Self::Debian => Tools::of(lab, dir, Whose::Peer),
            Self::Own => Tools::of(lab, dir, whose),
        }
    }
}

/// Plain and bundled, with either client, both sides in turn, each started afresh; and a switch that keeps nothing, which is as fast as our
/// side's client lets one be.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let file = rules::write(bench.lab.dir(), "flowmods", &rules::flow_mods(size.flows))?;
    let mut rows = Vec::new();
    for client in [Client::Debian, Client::Own] {
        if client == Client::Debian && !Tools::debian_has_them() {
            continue;
        }
        for (how, args) in [("plain", &["add-flows"][..]), ("bundle", &["--bundle", "add-flows"][..])] {
            rows.push(in_turn(bench, scenario, size, (client, how, args), &file)?);
        }
    }
    Ok(rows)
}

fn in_turn(
    bench: &mut Bench,
    scenario: &Scenario,
    size: Size,
    (client, how, args): (Client, &str, &[&str]),
    file: &Path,
) -> Result<Row, BenchError> {
    let (mark, said) = match client {
        Client::Debian => ("", "Debian's ovs-ofctl with either switch"),
        Client::Own => ("-own-client", "each switch with its own ovs-ofctl"),
    };
    let name = format!("{}-{how}{mark}", scenario.name);
    let mut seconds = vec![Vec::new(); bench.sides().len()];
    let mut least = Vec::new();
    for pair in 0..bench.plan.pairs {
        for (i, whose) in bench.sides().into_iter().enumerate() {
            let side = Side::start(&mut bench.lab, whose, &SETUP)?;
            let took = add_by(&client.tools(&bench.lab, &side.dir, whose), &side, args, file, size.flows)?.as_secs_f64();
            bench.progress(format_args!("{name} {whose:?}: {} of {}: {took:.3} s", pair + 1, bench.plan.pairs));
            seconds[i].push(took);
        }
        let took = forgetful::add(&bench.lab, |dir| client.tools(&bench.lab, dir, Whose::Ours), args, file)?;
        least.push(took.as_secs_f64());
    }
    let mut row = Row { unit: "M flow-mods/s", ..Row::new(&name, size) };
    let rate = |seconds: f64| f64::from(size.flows) / seconds / 1e6;
    row.mpps = median(seconds[0].iter().copied().map(rate));
    row.limit = median(least.iter().copied().map(rate));
    let middle = |seconds: &[f64]| median(seconds.iter().copied()).unwrap_or_default();
    row.note = format!("{said}: {:.3} s, with a switch that keeps nothing {:.3} s", middle(&seconds[0]), middle(&least));
    if let [ours, peer] = &seconds[..] {
        row.peer = median(peer.iter().copied().map(rate));
        row.compare(ours.iter().zip(peer).map(|(a, b)| b / a).collect());
        row.note += &format!(", peer {:.3} s", middle(peer));
    }
    Ok(row)
}

/// Adds a file's rules and checks that they are there.
pub(super) fn add(side: &Side, args: &[&str], file: &Path, expect: u32) -> Result<Duration, BenchError> {
    add_by(side.tools(), side, args, file, expect)
}

fn add_by(tools: &Tools, side: &Side, args: &[&str], file: &Path, expect: u32) -> Result<Duration, BenchError> {
    let file = file.display().to_string();
    let mut args = args.to_vec();
    args.extend(["br0", &file]);
    let start = Instant::now();
    tools.ofctl(&args)?;
    let took = start.elapsed();
    side.expect_flows(expect.into())?;
    Ok(took)
}
