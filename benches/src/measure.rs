//! Turns, medians, ratios: how figures are made of samples.
//!
//! What enters: sides that are built. What leaves: rows. Neighbours: `scenario` (what is measured), `report` (what is shown).

use crate::BenchError;
use crate::lab::Lab;
use crate::process::{rest, run};
use crate::scenario::{Case, Forward, Scenario, Size};
use crate::side::{Sample, Setup, Side, Whose};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A turn in which the forwarding thread waited for longer than this share of the time is measured again.
const DISTURBED: f64 = 0.02;
/// How often.
const AGAIN_MAX: usize = 2;
/// Before a turn: caches of the processor and of the switch fill.
const WARM: Duration = Duration::from_millis(400);

/// How a run measures.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Turns of each side.
    pub pairs: usize,
    /// Length of a turn.
    pub turn: Duration,
    /// Whether the peer takes turns.
    pub peer: bool,
    /// Only what a quick run measures.
    pub quick: bool,
}

/// A line of the table, and an object of latest.json. `None` is "not measured".
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub scenario: String,
    pub flows: u32,
    pub masks: Option<u64>,
    /// Millions per second: of packets, or of what the scenario counts (`unit`).
    pub mpps: Option<f64>,
    pub cycles: Option<f64>,
    /// What the limit program reaches in the same run.
    pub limit: Option<f64>,
    pub peer: Option<f64>,
    pub peer_cycles: Option<f64>,
    /// Ours to the peer's (or to what the row's note names): the median over the pairs.
    pub ratio: Option<f64>,
    /// The least and the greatest ratio of a pair.
    pub spread: Option<(f64, f64)>,
    /// What `mpps` and `peer` count: "Mpps" unless said.
    pub unit: &'static str,
    /// Cycles per packet by stage.
    pub stages: BTreeMap<String, f64>,
    pub note: String,
}

impl Row {
    /// An empty row of a scenario.
    #[must_use]
    pub fn new(scenario: &str, size: Size) -> Self {
        Self { scenario: scenario.to_owned(), flows: size.flows, unit: "Mpps", ..Self::default() }
    }
}

/// A run: where, how, and what was found.
#[derive(Debug)]
pub struct Bench {
    pub lab: Lab,
    pub plan: Plan,
    /// Where the traffic lies, from run to run.
    pub pcaps: PathBuf,
    limits: BTreeMap<u32, f64>,
}

impl Bench {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(lab: Lab, plan: Plan, pcaps: PathBuf) -> Self {
        Self { lab, plan, pcaps, limits: BTreeMap::new() }
    }

    /// The sides of this run: ours, and the peer when it is wanted.
    #[must_use]
    pub fn sides(&self) -> Vec<Whose> {
        if self.plan.peer { vec![Whose::Ours, Whose::Peer] } else { vec![Whose::Ours] }
    }

    /// Says on standard error what goes on.
    pub fn progress(&self, what: std::fmt::Arguments<'_>) {
        eprintln!("bench: {what}");
    }

    /// Starts a side and stops it, so that another can be started beside it.
    pub fn built(
        &mut self,
        whose: Whose,
        setup: &Setup,
        build: impl FnOnce(&mut Side, &Lab) -> Result<(), BenchError>,
    ) -> Result<Side, BenchError> {
        let mut side = Side::start(&mut self.lab, whose, setup)?;
        build(&mut side, &self.lab)?;
        side.pause(true);
        Ok(side)
    }

    /// One turn of a side that is paused, and paused again after it.
    pub fn turn(&self, side: &mut Side) -> Result<Sample, BenchError> {
        side.pause(false);
        rest(WARM)?;
        let mut result = side.sample(self.plan.turn);
        for _ in 0..AGAIN_MAX {
            match &result {
                Ok((_, waited)) if *waited > DISTURBED => result = side.sample(self.plan.turn),
                Ok(_) | Err(_) => break,
            }
        }
        side.pause(true);
        let (sample, waited) = result?;
        if waited > DISTURBED {
            self.progress(format_args!("disturbed: the forwarding core was taken away for {:.0} % of the time", waited * 100.0));
        }
        Ok(sample)
    }

    /// A scenario whose figure is packets per second, both sides in turn.
    pub fn forward(&mut self, scenario: &Scenario, forward: &Forward, size: Size) -> Result<Row, BenchError> {
        let traffic = (forward.traffic)(size);
        let pcap = traffic.write(&self.pcaps)?;
        let setup = Setup { replayed: traffic.packets(), ..forward.setup };
        let mut sides = Vec::new();
        for whose in self.sides() {
            sides.push(self.built(whose, &setup, |side, lab| (forward.build)(side, &Case { lab, size, pcap: &pcap }))?);
        }
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); sides.len()];
        for pair in 0..self.plan.pairs {
            for (side, samples) in sides.iter_mut().zip(&mut samples) {
                samples.push(self.turn(side)?);
            }
            let of = |i: usize| samples.get(i).and_then(|s| s.last()).map_or(0.0, |s| s.mpps);
            let peer = if sides.len() > 1 { format!(", peer {:.2}", of(1)) } else { String::new() };
            self.progress(format_args!(
                "{} {}: {} of {}: {:.2}{peer}",
                scenario.name,
                size.flows,
                pair + 1,
                self.plan.pairs,
                of(0)
            ));
        }
        let mut row = Row::new(scenario.name, size);
        row.fill(&samples);
        sides[0].pause(false);
        row.masks = sides[0].megaflows()?.0;
        row.stages = stages(&mut sides[0]);
        drop(sides);
        if forward.limit {
            row.limit = self.limit(size.flows).ok();
        }
        Ok(row)
    }

    /// What the limit program reaches with that many flows, on the same core.
    pub fn limit(&mut self, flows: u32) -> Result<f64, BenchError> {
        if let Some(known) = self.limits.get(&flows) {
            return Ok(*known);
        }
        let (core, time) = (self.lab.cores.forward.to_string(), self.plan.turn.as_secs_f64().to_string());
        let mut command = Command::new("taskset");
        command.args(["-c", &core, "chrt", "-f", "50"]).arg(self.lab.build.join("limit"));
        let text = run(command.args([&flows.to_string(), &time]))?;
        let mpps = text.split_whitespace().next().and_then(|w| w.parse().ok());
        let mpps = mpps.ok_or(BenchError::Answer { from: "limit", what: "figure", text })?;
        self.limits.insert(flows, mpps);
        Ok(mpps)
    }
}

impl Row {
    /// Medians of both sides' samples, and of the ratios of the pairs.
    pub fn fill(&mut self, samples: &[Vec<Sample>]) {
        let of = |i: usize, f: fn(&Sample) -> f64| samples.get(i).and_then(|s| median(s.iter().map(f)));
        (self.mpps, self.cycles) = (of(0, |s| s.mpps), of(0, |s| s.cycles));
        (self.peer, self.peer_cycles) = (of(1, |s| s.mpps), of(1, |s| s.cycles));
        if let [ours, peer] = samples {
            self.compare(ours.iter().zip(peer).map(|(a, b)| a.mpps / b.mpps).collect());
        }
    }

    /// Median and range of the ratios.
    pub fn compare(&mut self, mut ratios: Vec<f64>) {
        ratios.sort_by(f64::total_cmp);
        self.ratio = median(ratios.iter().copied());
        self.spread = ratios.first().copied().zip(ratios.last().copied());
    }
}

/// The median; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (n, half) = (values.len(), values.len() / 2);
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// The forwarding core's own account of its cycles, where it gives one: lines "stage NAME: X cycles/packet" of `pmd-perf-show`.
fn stages(side: &mut Side) -> BTreeMap<String, f64> {
    let text = side.appctl("dpif-netdev/pmd-stage-show", &[]).unwrap_or_default();
    let of = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("stage ")?.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
        let side = |rates: [f64; 3]| rates.map(|mpps| Sample { mpps, cycles: 1.0 }).to_vec();
        let mut row = Row::default();
        row.fill(&[side([4.0, 6.0, 9.0]), side([2.0, 2.0, 3.0])]);
        assert_eq!((row.mpps, row.peer, row.ratio, row.spread), (Some(6.0), Some(2.0), Some(3.0), Some((2.0, 3.0))));
    }
}
