//! Automatic rebalancing (`pmd-auto-lb`): when a new placement of the receive queues would even the workers' loads out.
//!
//! What enters: the time, what the workers and queues took lately, and who polls what. What leaves: whether to place the queues anew, and
//! the log's lines, in OVS's words. Pure. Neighbours: `schedule` (the estimate), `placement` (which asks, and obeys).

use crate::config::AutoBalance;
use crate::schedule::{Assignment, Plan, Queue, Seat, crosses_nodes, schedule};
use crate::topology::NumaId;
use flow::clock::Msec;

/// Intervals over which loads are kept.
pub const INTERVALS: usize = 12;
/// Milliseconds of an interval.
pub const INTERVAL_MS: Msec = 5_000;

/// The last `INTERVALS` figures of something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    values: [u64; INTERVALS],
    at: usize,
}

impl Intervals {
    /// Adds the figure of the interval that has just ended.
    pub fn push(&mut self, value: u64) {
        self.values[self.at] = value;
        self.at = (self.at + 1) % INTERVALS;
    }

    /// The sum of the last `n`.
    #[must_use]
    pub fn last(&self, n: usize) -> u64 {
        (1..=n.min(INTERVALS)).map(|i| self.values[(self.at + INTERVALS - i) % INTERVALS]).sum()
    }
}

/// What the decision is made of.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub seats: &'a [Seat],
    pub queues: &'a [Queue],
    /// By worker: cycles that passed in an interval; 0 as long as none is complete.
    pub interval_cycles: &'a [u64],
    /// By worker: how many intervals in a row it was loaded above the threshold.
    pub overloaded: &'a [usize],
    /// Who polls what now.
    pub now: &'a Plan,
    pub way: Assignment,
    pub isolate: bool,
}

/// The state between checks.
#[derive(Debug, Default)]
pub struct Balancer {
    last_ms: Option<Msec>,
    /// Nothing was reconfigured since the last check.
    checked: bool,
    worthwhile: bool,
}

impl Balancer {
    /// Ports, queues, workers or settings have changed: what the last check found does not hold any more.
    pub fn reconfigured(&mut self) {
        self.checked = false;
    }

    /// Whether it is time for a check; the first call starts the clock.
    pub fn is_due(&mut self, settings: &AutoBalance, now_ms: Msec) -> bool {
        if !settings.enabled {
            self.last_ms = None;
            return false;
        }
        let due = self.last_ms.is_some_and(|last| last + settings.interval_ms() < now_ms);
        if due || self.last_ms.is_none() {
            self.last_ms = Some(now_ms);
        }
        due
    }

    /// Whether to place the queues anew. `log` takes lines for the debug log.
    pub fn decide(&mut self, settings: &AutoBalance, s: &Situation<'_>, log: &mut Vec<String>) -> bool {
        let overloaded = s.overloaded.iter().any(|n| *n >= INTERVALS);
        overloaded && self.is_worthwhile(s, log) && improves(settings, s, log)
    }

    /// Whether placing anew could help at all.
    fn is_worthwhile(&mut self, s: &Situation<'_>, log: &mut Vec<String>) -> bool {
        if self.checked {
            if !self.worthwhile {
                log.push("PMD auto load balance nothing to do, no configuration changes since last check.".to_owned());
            }
            return self.worthwhile;
        }
        self.checked = true;
        self.worthwhile = false;
        if s.way == Assignment::Roundrobin {
            let why = "pmd-rxq-assign=roundrobin assignment type configured.";
            log.push(format!("PMD auto load balance nothing to do, {why}"));
            return false;
        }
        let free = || (0..s.seats.len()).filter(|w| !s.now.isolated[*w]);
        let queues_of = |worker: usize| s.now.owners.iter().filter(|o| **o == Some(worker)).count();
        self.worthwhile = free().count() > 1 && free().any(|w| queues_of(w) > 1);
        if !self.worthwhile {
            log.push("PMD auto load balance nothing to do, not enough non-isolated PMDs or RxQs.".to_owned());
        }
        self.worthwhile
    }
}

/// Compares what is with what `schedule` would make of it.
fn improves(settings: &AutoBalance, s: &Situation<'_>, log: &mut Vec<String>) -> bool {
    log.push("PMD auto load balance performing dry run.".to_owned());
    let estimate = schedule(s.seats, s.queues, s.way, s.isolate);
    let mut nodes: Vec<NumaId> = s.seats.iter().map(|seat| seat.numa).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() > 1 && crosses_nodes(s.seats, s.queues, &estimate) {
        let what = "detected cross-numa polling with multiple numa nodes. Unable to accurately estimate.";
        log.push(format!("PMD auto load balance {what}"));
        return false;
    }
    let mut met = false;
    for node in nodes {
        let (now, then) = (variance(s, s.now, node), variance(s, &estimate, node));
        let improvement = if then < now { (now - then) * 100 / now } else { 0 };
        log.push(format!(
            "Numa node {node}. Current variance {now} Estimated variance {then}. Variance improvement {improvement}%."
        ));
        met |= improvement >= settings.improvement.into();
    }
    let is = if met { "met" } else { "not met" };
    log.push(format!("PMD load variance improvement threshold {}% is {is}.", settings.improvement));
    met
}

/// The variance of the loads, in percent, of a node's workers that take any queue.
fn variance(s: &Situation<'_>, plan: &Plan, node: NumaId) -> u64 {
    let free = (0..s.seats.len()).filter(|w| s.seats[*w].numa == node && !plan.isolated[*w]);
    let loads: Vec<u64> = free
        .map(|w| {
            let cycles = s.interval_cycles[w] * INTERVALS as u64;
            (plan.load[w] * 100).checked_div(cycles).unwrap_or(0)
        })
        .collect();
    let n = loads.len() as u64;
    let Some(mean) = loads.iter().sum::<u64>().checked_div(n) else {
        return 0;
    };
    loads.iter().map(|load| load.abs_diff(mean).pow(2)).sum::<u64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::DpPort;

    const ON: AutoBalance = AutoBalance { enabled: true, interval_min: 1, improvement: 25, load: 95 };

    fn queues(cycles: &[u64]) -> Vec<Queue> {
        let queue = |(number, cycles): (usize, &u64)| Queue {
            port: DpPort(1),
            name: "p0".to_owned(),
            number,
            numa: Some(0),
            pinned: None,
            cycles: *cycles,
        };
        cycles.iter().enumerate().map(queue).collect()
    }

    fn check(balancer: &mut Balancer, numas: &[NumaId], cycles: &[u64], owners: &[usize], expect: bool) -> Vec<String> {
        let seats: Vec<Seat> = (0..).zip(numas).map(|(core, numa)| Seat { core, numa: *numa }).collect();
        let mut now = Plan { isolated: vec![false; seats.len()], load: vec![0; seats.len()], ..Plan::default() };
        for (owner, cycles) in owners.iter().zip(cycles) {
            now.owners.push(Some(*owner));
            now.load[*owner] += cycles;
        }
        let queues = queues(cycles);
        let (interval_cycles, overloaded) = (vec![100; seats.len()], vec![INTERVALS; seats.len()]);
        let situation = Situation {
            seats: &seats,
            queues: &queues,
            interval_cycles: &interval_cycles,
            overloaded: &overloaded,
            now: &now,
            way: Assignment::Cycles,
            isolate: true,
        };
        let mut log = Vec::new();
        assert_eq!(balancer.decide(&ON, &situation, &mut log), expect, "{log:#?}");
        log
    }

    #[test]
    fn uneven_loads_are_worth_it() {
        let mut b = Balancer::default();
        // 1200 cycles are all of twelve intervals: 100 % and 0 % against 50 % each.
        let log = check(&mut b, &[0, 0], &[600, 600, 0], &[0, 0, 1], true);
        assert_eq!(log[1], "Numa node 0. Current variance 2500 Estimated variance 0. Variance improvement 100%.");
        assert_eq!(log[2], "PMD load variance improvement threshold 25% is met.");
        check(&mut b, &[0, 0], &[600, 600, 0], &[0, 1, 1], false);
    }

    #[test]
    fn too_little_to_balance_is_said_once() {
        let mut b = Balancer::default();
        let few = "PMD auto load balance nothing to do, not enough non-isolated PMDs or RxQs.";
        assert_eq!(check(&mut b, &[0], &[600, 600], &[0, 0], false), [few]);
        let same = "PMD auto load balance nothing to do, no configuration changes since last check.";
        assert_eq!(check(&mut b, &[0], &[600, 600], &[0, 0], false), [same]);
        b.reconfigured();
        assert_eq!(check(&mut b, &[0, 0], &[600, 600], &[0, 1], false), [few]);
        b.reconfigured();
        let log = check(&mut b, &[1, 2], &[600, 600], &[0, 0], false);
        assert!(log[1].starts_with("PMD auto load balance detected cross-numa polling with multiple numa nodes."));
    }

    #[test]
    fn checks_come_after_each_interval() {
        let mut b = Balancer::default();
        assert_eq!([5, 60_005, 60_006, 60_007, 120_007].map(|now| b.is_due(&ON, now)), [false, false, true, false, true]);
        assert!(!b.is_due(&AutoBalance { enabled: false, ..ON }, 999_999));
    }

    #[test]
    fn intervals_forget() {
        let mut i = Intervals::default();
        (1..=13).for_each(|n| i.push(n));
        assert_eq!((i.last(1), i.last(2), i.last(12), i.last(99)), (13, 25, 90, 90));
    }
}
