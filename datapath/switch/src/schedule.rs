//! Which worker polls which receive queue: OVS's three ways (`pmd-rxq-assign`), as one pure function.
//!
//! What enters: the workers' seats, the queues with the cycles they took lately, and the wishes of `pmd-rxq-affinity`. What leaves: an owner
//! for each queue, which workers are isolated by pinned queues, and what there is to log. Neighbours: `placement`, which carries a plan out,
//! and `balance`, which compares one with what is.
//!
//! Pinned queues come first; a worker that one is pinned to takes no other (unless `pmd-rxq-isolate` is false). The others follow, under
//! `cycles` and `group` the busiest first: to a worker of the port's NUMA node, or, if none is free there, to the next node that has one,
//! and said so. `roundrobin` and `cycles` deal them out (the latter forth and back), `group` gives each to the one with the least load.

use crate::topology::{CoreId, NumaId};
use flow::DpPort;
use std::collections::BTreeMap;

/// How queues are dealt out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    Roundrobin,
    #[default]
    Cycles,
    Group,
}

impl Assignment {
    const ALL: [Self; 3] = [Self::Roundrobin, Self::Cycles, Self::Group];

    /// The name in `pmd-rxq-assign`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Roundrobin => "roundrobin",
            Self::Cycles => "cycles",
            Self::Group => "group",
        }
    }

    /// The way of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// A worker that may poll queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub core: CoreId,
    pub numa: NumaId,
}

/// A receive queue that wants a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub port: DpPort,
    pub name: String,
    pub number: usize,
    /// The node of the port's hardware; `None` if it has none, and every node is as good.
    pub numa: Option<NumaId>,
    /// The core of `pmd-rxq-affinity`.
    pub pinned: Option<CoreId>,
    /// Cycles spent on its packets lately.
    pub cycles: u64,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub warning: bool,
    pub text: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By queue: its worker, as a place in `seats`. `None`: nobody polls it.
    pub owners: Vec<Option<usize>>,
    /// By worker: it takes only what is pinned to it.
    pub isolated: Vec<bool>,
    /// By worker: the cycles of its queues together.
    pub load: Vec<u64>,
    pub log: Vec<Line>,
}

/// Deals out `queues` (in order of port and number) to `seats` (in order of core).
#[must_use]
pub fn schedule(seats: &[Seat], queues: &[Queue], way: Assignment, isolate: bool) -> Plan {
    let mut dealer = Dealer::new(seats, queues, way);
    let mut left = Vec::new();
    for (i, queue) in queues.iter().enumerate() {
        match queue.pinned {
            Some(core) if dealer.pin(i, core, isolate) => {}
            Some(_) | None => left.push(i),
        }
    }
    if way != Assignment::Roundrobin {
        left.sort_by_key(|i| (std::cmp::Reverse(queues[*i].cycles), queues[*i].port, queues[*i].number));
    }
    if !left.is_empty() {
        dealer.say(false, format!("Performing pmd to rx queue assignment using {} algorithm.", way.name()));
    }
    for i in left {
        dealer.deal(i);
    }
    dealer.plan
}

/// Whether a queue that nobody pinned would be polled from another node than its port's.
#[must_use]
pub fn crosses_nodes(seats: &[Seat], queues: &[Queue], plan: &Plan) -> bool {
    queues.iter().zip(&plan.owners).any(|(queue, owner)| {
        let far = |owner: usize| !plan.isolated[owner] && queue.numa.is_some_and(|numa| numa != seats[owner].numa);
        queue.pinned.is_none() && owner.is_some_and(far)
    })
}

/// The round through a node's workers.
#[derive(Debug)]
struct Node {
    /// Places in `seats`.
    members: Vec<usize>,
    at: usize,
    forth: bool,
}

struct Dealer<'a> {
    seats: &'a [Seat],
    queues: &'a [Queue],
    way: Assignment,
    nodes: BTreeMap<NumaId, Node>,
    /// The node that was last chosen for a queue of another one.
    last_far: Option<NumaId>,
    /// By worker.
    n_queues: Vec<usize>,
    plan: Plan,
}

impl<'a> Dealer<'a> {
    fn new(seats: &'a [Seat], queues: &'a [Queue], way: Assignment) -> Self {
        let mut nodes: BTreeMap<NumaId, Node> = BTreeMap::new();
        for (i, seat) in seats.iter().enumerate() {
            nodes.entry(seat.numa).or_insert_with(|| Node { members: Vec::new(), at: 0, forth: true }).members.push(i);
        }
        let n = seats.len();
        let plan = Plan { owners: vec![None; queues.len()], isolated: vec![false; n], load: vec![0; n], log: Vec::new() };
        Self { seats, queues, way, nodes, last_far: None, n_queues: vec![0; n], plan }
    }

    fn say(&mut self, warning: bool, text: String) {
        self.plan.log.push(Line { warning, text });
    }

    /// What the log says of a queue's load.
    fn measured(&self, queue: &Queue) -> String {
        match self.way {
            Assignment::Roundrobin => String::new(),
            Assignment::Cycles | Assignment::Group => format!(" (measured processing cycles {})", queue.cycles),
        }
    }

    fn give(&mut self, queue: usize, worker: usize) {
        self.plan.owners[queue] = Some(worker);
        self.plan.load[worker] += self.queues[queue].cycles;
        self.n_queues[worker] += 1;
    }

    /// Gives a queue to the worker on `core`; false (and logged) if there is none.
    fn pin(&mut self, i: usize, core: CoreId, isolate: bool) -> bool {
        let queue = &self.queues[i];
        let Some(worker) = self.seats.iter().position(|s| s.core == core) else {
            let text = format!(
                "Core {core:2} cannot be pinned with port '{}' rx queue {}. Use pmd-cpu-mask to enable a pmd on core {core}. An \
                 alternative core will be assigned.",
                queue.name, queue.number
            );
            self.say(true, text);
            return false;
        };
        self.plan.isolated[worker] |= isolate;
        let (numa, load) = (self.seats[worker].numa, self.measured(queue));
        self.say(
            false,
            format!("Core {core:2} on numa node {numa} is pinned with port '{}' rx queue {}{load}", queue.name, queue.number),
        );
        self.give(i, worker);
        true
    }

    /// Finds a worker for a queue that is not pinned.
    fn deal(&mut self, i: usize) {
        let queue = &self.queues[i];
        let worker = self.node_for(queue).and_then(|numa| self.next_in(numa, queue.cycles > 0));
        let load = self.measured(queue);
        let Some(worker) = worker else {
            let text = format!(
                "No non-isolated pmd on any numa available for port '{}' rx queue {}{load}. This rx queue will not be polled.",
                queue.name, queue.number
            );
            return self.say(true, text);
        };
        let Seat { core, numa } = self.seats[worker];
        if let Some(wanted) = queue.numa.filter(|wanted| *wanted != numa) {
            let text = format!(
                "There's no available (non-isolated) pmd thread on numa node {wanted}. Port '{}' rx queue {} will be assigned to a \
                 pmd on numa node {numa}. This may lead to reduced performance.",
                queue.name, queue.number
            );
            self.say(false, text);
        }
        let text = format!("Core {core:2} on numa node {numa} assigned port '{}' rx queue {}{load}.", queue.name, queue.number);
        self.say(false, text);
        self.give(i, worker);
    }

    /// A worker of that node is there and takes queues.
    fn has_room(&self, numa: NumaId) -> bool {
        self.nodes.get(&numa).is_some_and(|n| n.members.iter().any(|m| !self.plan.isolated[*m]))
    }

    /// The queue's own node, or the next one in turn that has a worker for it.
    fn node_for(&mut self, queue: &Queue) -> Option<NumaId> {
        if let Some(numa) = queue.numa.filter(|numa| self.has_room(*numa)) {
            return Some(numa);
        }
        let later = self.nodes.keys().copied().filter(|n| self.last_far.is_some_and(|last| *n > last));
        let turn: Vec<NumaId> = later.chain(self.nodes.keys().copied()).collect();
        let found = turn.into_iter().find(|numa| self.has_room(*numa));
        self.last_far = found.or(self.last_far);
        found
    }

    fn next_in(&mut self, numa: NumaId, measured: bool) -> Option<usize> {
        match self.way {
            Assignment::Group => self.least_loaded(numa, measured),
            Assignment::Cycles => self.next_in_turn(numa, true),
            Assignment::Roundrobin => self.next_in_turn(numa, false),
        }
    }

    /// By cycles for a queue that took some, else by the number of queues.
    fn least_loaded(&self, numa: NumaId, measured: bool) -> Option<usize> {
        let free = self.nodes.get(&numa)?.members.iter().copied().filter(|m| !self.plan.isolated[*m]);
        let load = |m: &usize| if measured { self.plan.load[*m] } else { self.n_queues[*m] as u64 };
        free.min_by_key(load)
    }

    fn next_in_turn(&mut self, numa: NumaId, forth_and_back: bool) -> Option<usize> {
        let node = self.nodes.get_mut(&numa)?;
        // A turn forth and back passes each worker twice.
        for _ in 0..node.members.len() * 2 {
            let member = node.members[node.at];
            node.step(forth_and_back);
            if !self.plan.isolated[member] {
                return Some(member);
            }
        }
        None
    }
}

impl Node {
    /// Goes on: 1 2 3 1 2 3, or forth and back 1 2 3 3 2 1 1 2 3.
    fn step(&mut self, forth_and_back: bool) {
        let last = self.members.len() - 1;
        match (self.forth, self.at) {
            (true, at) if at == last && forth_and_back => self.forth = false,
            (true, at) if at == last => self.at = 0,
            (true, _) => self.at += 1,
            (false, 0) => self.forth = true,
            (false, _) => self.at -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(numas: &[NumaId]) -> Vec<Seat> {
        (0..).zip(numas).map(|(core, numa)| Seat { core, numa: *numa }).collect()
    }

    fn queues(numa: NumaId, cycles: &[u64], pinned: &[Option<CoreId>]) -> Vec<Queue> {
        let queue = |(number, cycles): (usize, &u64)| Queue {
            port: DpPort(1),
            name: "p0".to_owned(),
            number,
            numa: Some(numa),
            pinned: pinned.get(number).copied().flatten(),
            cycles: *cycles,
        };
        cycles.iter().enumerate().map(queue).collect()
    }

    fn check(seats: &[Seat], queues: &[Queue], way: Assignment, isolate: bool, expect: &[Option<usize>]) -> Plan {
        let plan = schedule(seats, queues, way, isolate);
        assert_eq!(plan.owners, expect, "{way:?} {:#?}", plan.log);
        plan
    }

    #[test]
    fn queues_without_load_are_dealt_out_in_turn() {
        let (two, eight) = (seats(&[0, 0]), queues(0, &[0; 8], &[]));
        let turn = [0, 1, 0, 1, 0, 1, 0, 1].map(Some);
        check(&two, &eight, Assignment::Roundrobin, true, &turn);
        check(&two, &eight, Assignment::Cycles, true, &[0, 1, 1, 0, 0, 1, 1, 0].map(Some));
        check(&two, &eight, Assignment::Group, true, &turn);
    }

    #[test]
    fn busy_queues_go_first_and_to_the_least_loaded() {
        let four = queues(0, &[10, 90, 50, 50], &[]);
        check(&seats(&[0, 0]), &four, Assignment::Cycles, true, &[0, 0, 1, 1].map(Some));
        let plan = check(&seats(&[0, 0]), &four, Assignment::Group, true, &[0, 0, 1, 1].map(Some));
        assert_eq!(plan.load, [100, 100]);
        assert_eq!(plan.log[1].text, "Core  0 on numa node 0 assigned port 'p0' rx queue 1 (measured processing cycles 90).");
    }

    #[test]
    fn pinned_queues_isolate_their_worker() {
        let pinned = queues(0, &[0; 4], &[Some(9), Some(7), Some(1), None]);
        let plan = check(&seats(&[0, 0]), &pinned, Assignment::Cycles, true, &[0, 0, 1, 0].map(Some));
        assert_eq!(plan.isolated, [false, true]);
        assert!(plan.log[0].warning && plan.log[0].text.starts_with("Core  9 cannot be pinned with port 'p0' rx queue 0. Use"));
        let first = queues(0, &[0; 4], &[Some(0)]);
        check(&seats(&[0, 0]), &first, Assignment::Group, false, &[0, 1, 0, 1].map(Some));
        let alone = queues(0, &[0; 2], &[Some(0)]);
        let plan = check(&seats(&[0]), &alone, Assignment::Group, true, &[Some(0), None]);
        assert!(plan.log[2].warning && plan.log[2].text.ends_with("This rx queue will not be polled."));
    }

    #[test]
    fn other_nodes_help_in_turn() {
        let plan = check(&seats(&[1, 2, 1, 2]), &queues(0, &[0; 4], &[]), Assignment::Group, true, &[0, 1, 2, 3].map(Some));
        assert!(
            plan.log[1].text.starts_with("There's no available (non-isolated) pmd thread on numa node 0. Port 'p0' rx queue 0")
        );
        assert!(crosses_nodes(&seats(&[1, 2, 1, 2]), &queues(0, &[0; 4], &[]), &plan));
        let near = check(&seats(&[1, 0]), &queues(0, &[0; 2], &[]), Assignment::Group, true, &[1, 1].map(Some));
        assert!(!crosses_nodes(&seats(&[1, 0]), &queues(0, &[0; 2], &[]), &near));
    }

    #[test]
    fn a_port_without_node_is_at_home_everywhere() {
        let mut anywhere = queues(0, &[0; 2], &[]);
        anywhere.iter_mut().for_each(|q| q.numa = None);
        let plan = check(&seats(&[3, 4]), &anywhere, Assignment::Roundrobin, true, &[0, 1].map(Some));
        assert!(plan.log.iter().all(|line| !line.text.starts_with("There's no")));
    }
}
