//! The tc back end as the tier sees it: plans become filters.
//!
//! What enters: the trait's calls. What leaves: calls of `client`. Neighbours: `hardware`, `client`.

use super::Devices;
use super::client::{Netlink, Tc};
use crate::hardware::{Found, Hardware, HardwareError, HwStats, MeterCounts, Overheard, Sight};
use crate::meters::Limit;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::rule::Rule;
use flow::{DpPort, Ufid};
use std::fmt;

impl<N: Netlink, D: Devices + Send + Sync + fmt::Debug> Hardware for Tc<N, D> {
    fn name(&self) -> &'static str {
        "tc"
    }

    fn install_all(&self, batch: &[(Ufid, &Plan)]) -> Vec<Result<(), Refusal>> {
        let rules: Vec<(Ufid, &Rule)> = batch.iter().map(|(ufid, plan)| (*ufid, &plan.rule)).collect();
        self.install_all(&rules)
    }

    fn remove_all(&self, batch: &[Ufid]) -> Vec<Result<HwStats, HardwareError>> {
        self.remove_all(batch)
    }

    fn stats(&self, ufid: Ufid) -> Option<HwStats> {
        self.stats(ufid)
    }

    fn counters(&self) -> Vec<(Ufid, Option<HwStats>)> {
        self.counters()
    }

    fn overheard(&self) -> Overheard {
        self.overheard()
    }

    fn usage(&self) -> (usize, usize, Vec<DpPort>) {
        self.usage()
    }

    fn audit(&self, port: DpPort, right: &dyn Fn(Ufid) -> Option<Plan>) -> Result<Vec<Sight>, HardwareError> {
        self.audit(port, &|ufid| right(ufid).map(|plan| plan.rule))
    }

    fn put_meter(&self, meter: u32, limit: Limit) -> Result<(), Refusal> {
        self.put_meter(meter, limit)
    }

    fn take_meter(&self, meter: u32) -> Result<MeterCounts, HardwareError> {
        self.take_meter(meter)
    }

    fn meters(&self) -> Option<Vec<(u32, MeterCounts)>> {
        self.meters()
    }

    fn audit_meters(&self, right: &dyn Fn(u32) -> Option<Limit>) -> Result<Vec<(u32, Option<Found>)>, HardwareError> {
        self.audit_meters(right)
    }

    fn sweep_meters(&self) -> Result<usize, HardwareError> {
        self.sweep_meters()
    }

    fn sweep(&self, port: DpPort) -> Result<usize, HardwareError> {
        self.sweep(port)
    }

    fn sweep_strays(&self, port: DpPort) -> Result<usize, HardwareError> {
        self.sweep_strays(port)
    }
}
