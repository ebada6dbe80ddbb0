//! Hardware that takes megaflows as they are, without tc: the second interface, in memory.
//!
//! What enters: plans (`Hardware`), packets of its ports (`receive`). What leaves: what was put in and what was not, counters; packets, or the
//! statement that no megaflow was there. Neighbours: `hardware` (the trait), `packet` (which changes bytes). It matches by key and mask, not
//! by flower's keys, and has neither messages nor echoes: what it lacks of tc shows what the tier itself needs.

use super::buckets::Buckets;
use super::packet::{Frame, run};
use super::{Outcome, Sent, Tunnels};
use crate::hardware::{Found, Hardware, HardwareError, HwStats, MeterCounts, Sight};
use crate::meters::Limit;
use crate::plan::Plan;
use crate::refusal::{Reason, Refusal};
use crate::rule::Act;
use flow::hash::Map;
use flow::{DpPort, Ufid};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct Stored {
    plan: Plan,
    stats: HwStats,
}

#[derive(Debug, Default)]
struct Table {
    flows: Map<Ufid, Stored>,
    /// What was put in and not taken out: some of it may have been lost.
    known: Map<Ufid, DpPort>,
    buckets: Buckets,
    created: u64,
}

/// The eSwitch.
#[derive(Debug)]
pub struct Direct {
    capacity: usize,
    /// Of the creations, counted from 0: those that it refuses.
    refuse: Vec<u64>,
    table: Mutex<Table>,
}

impl Direct {
    /// Empty, for so many megaflows; some creations, counted from 0, are refused.
    #[must_use]
    pub fn new(capacity: usize, refuse: Vec<u64>) -> Self {
        Self { capacity, refuse, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table as it was between two megaflows.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Megaflows that it holds.
    pub fn rules(&self) -> usize {
        self.table().flows.len()
    }

    /// Loses one megaflow of many, whichever.
    pub fn lose(&self, which: usize) {
        let mut table = self.table();
        let nth = which % table.flows.len().max(1);
        if let Some(ufid) = table.flows.keys().nth(nth).copied() {
            table.flows.remove(&ufid);
        }
    }

    /// A packet comes in by a port.
    pub fn receive(&self, port: DpPort, bytes: &[u8]) -> Outcome {
        let table = &mut *self.table();
        let mut frame = Frame::new(bytes.to_vec());
        let key = frame.key(port);
        let hit = table.flows.values_mut().find(|s| key.equal_under(&s.plan.flow.key, &s.plan.flow.mask));
        let Some(Stored { plan, stats }) = hit else { return Outcome::Missed };
        stats.packets += 1;
        stats.bytes += bytes.len() as u64;
        let mut sent: Vec<Sent> = Vec::new();
        let buckets = &mut table.buckets;
        match run(&mut frame, &plan.rule.acts, &Tunnels::default(), &mut |meter, len| buckets.admit(meter, len), &mut sent) {
            Some(chain) => Outcome::MissedInChain(chain),
            None => Outcome::Done(sent),
        }
    }
}

impl Hardware for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn install_all(&self, batch: &[(Ufid, &Plan)]) -> Vec<Result<(), Refusal>> {
        let mut table = self.table();
        let mut one = |(ufid, plan): &(Ufid, &Plan)| {
            let nth = table.created;
            table.created += 1;
            if plan.rule.tunnel.is_some() || plan.rule.acts.iter().any(|a| matches!(a, Act::TunnelSet(_))) {
                return Err(Refusal::new(Reason::Driver, "tunnels are not modelled"));
            }
            if self.refuse.contains(&nth) {
                return Err(Refusal::new(Reason::Driver, "refused on purpose"));
            }
            if table.flows.len() >= self.capacity {
                return Err(Refusal::new(Reason::TableFull, ""));
            }
            table.known.insert(*ufid, plan.rule.port);
            table.flows.insert(*ufid, Stored { plan: (*plan).clone(), stats: HwStats::default() });
            Ok(())
        };
        batch.iter().map(&mut one).collect()
    }

    fn remove_all(&self, batch: &[Ufid]) -> Vec<Result<HwStats, HardwareError>> {
        let mut table = self.table();
        let mut one = |ufid: &Ufid| {
            table.known.remove(ufid);
            Ok(table.flows.remove(ufid).map_or_else(HwStats::default, |s| s.stats))
        };
        batch.iter().map(&mut one).collect()
    }

    fn stats(&self, ufid: Ufid) -> Option<HwStats> {
        self.table().flows.get(&ufid).map(|s| s.stats)
    }

    fn counters(&self) -> Vec<(Ufid, Option<HwStats>)> {
        let table = self.table();
        table.known.keys().map(|ufid| (*ufid, table.flows.get(ufid).map(|s| s.stats))).collect()
    }

    fn put_meter(&self, meter: u32, limit: Limit) -> Result<(), Refusal> {
        self.table().buckets.put(meter, limit);
        Ok(())
    }

    fn take_meter(&self, meter: u32) -> Result<MeterCounts, HardwareError> {
        Ok(self.table().buckets.take(meter).unwrap_or_default())
    }

    fn meters(&self) -> Option<Vec<(u32, MeterCounts)>> {
        let table = self.table();
        Some(table.buckets.all().filter_map(|meter| Some((meter, table.buckets.counts(meter)?))).collect())
    }

    /// Limits are told to it, not read from it: nobody else changes them.
    fn audit_meters(&self, right: &dyn Fn(u32) -> Option<Limit>) -> Result<Vec<(u32, Option<Found>)>, HardwareError> {
        let there: Vec<(u32, Option<Limit>)> = {
            let table = self.table();
            table.buckets.all().map(|meter| (meter, table.buckets.limit(meter))).collect()
        };
        let found = |(meter, limit): (u32, Option<Limit>)| match right(meter) {
            None => (meter, Some(Found::Stray)),
            right if right == limit => (meter, Some(Found::Right)),
            Some(_) => (meter, Some(Found::Other)),
        };
        Ok(there.into_iter().map(found).collect())
    }

    /// As `sweep_strays`.
    fn sweep_meters(&self) -> Result<usize, HardwareError> {
        Ok(0)
    }

    fn usage(&self) -> (usize, usize, Vec<DpPort>) {
        (self.rules(), 0, Vec::new())
    }

    fn audit(&self, port: DpPort, right: &dyn Fn(Ufid) -> Option<Plan>) -> Result<Vec<Sight>, HardwareError> {
        // Not under the lock: `right` asks others.
        let there: Vec<(Ufid, Option<Plan>)> = {
            let table = self.table();
            let of_port = table.known.iter().filter(|(_, at)| **at == port);
            of_port.map(|(ufid, _)| (*ufid, table.flows.get(ufid).map(|s| s.plan.clone()))).collect()
        };
        let sight = |(ufid, plan): (Ufid, Option<Plan>)| {
            let found = plan.map(|plan| match right(ufid) {
                None => Found::Stray,
                Some(other) if other == plan => Found::Right,
                Some(_) => Found::Other,
            });
            Sight { port, chain: 0, prio: 0, handle: 0, ufid: Some(ufid), found }
        };
        Ok(there.into_iter().map(sight).collect())
    }

    fn sweep(&self, port: DpPort) -> Result<usize, HardwareError> {
        let mut table = self.table();
        let before = table.flows.len();
        table.flows.retain(|_, s| s.plan.rule.port != port);
        table.known.retain(|_, at| *at != port);
        Ok(before - table.flows.len())
    }

    /// It has no marks: what it holds is all ours.
    fn sweep_strays(&self, _port: DpPort) -> Result<usize, HardwareError> {
        Ok(0)
    }
}
