//! A datapath that fails on purpose, over any other; for tests of whatever stands on the seam.
//!
//! What enters: the seam, and a plan of failures. What leaves: errors where the plan says so, everything else untouched.

use flow::seam::{
    DpError, DpEvent, DpFeatures, DpStats, Execute, FlowDump, FlowPut, FlowStats, MeterConfig, MeterStats, PortInfo, PortRequest,
    PortStats, Upcall,
};
use flow::{Datapath, DpPort, Ufid};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Put,
    Del,
    Execute,
    PortAdd,
    MeterSet,
}

/// How many kinds of steps there are.
const STEPS: usize = 5;

/// A failure: of the calls of a kind, counted from 0, every one from `from` on while `count` last.
#[derive(Clone, Debug)]
pub struct Failure {
    pub step: Step,
    pub from: u64,
    pub count: u64,
    pub error: DpError,
}

/// A datapath with failures.
#[derive(Debug)]
pub struct Failing<D> {
    inner: D,
    plan: Vec<Failure>,
    calls: [AtomicU64; STEPS],
    /// Upcalls that are thrown away: one in so many; 0 none.
    lose_upcalls: u64,
    upcalls: AtomicU64,
}

impl<D: Datapath> Failing<D> {
    /// `inner`, failing as `plan` says.
    #[must_use]
    pub fn new(inner: D, plan: Vec<Failure>) -> Self {
        Self { inner, plan, calls: Default::default(), lose_upcalls: 0, upcalls: AtomicU64::new(0) }
    }

    /// The same, and it loses every `n`th upcall.
    #[must_use]
    pub fn losing_upcalls(mut self, n: u64) -> Self {
        self.lose_upcalls = n;
        self
    }

    /// What it stands on.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The error that the next call of a kind has, if any.
    fn fails(&self, step: Step) -> Option<DpError> {
        let at = match step {
            Step::Put => 0,
            Step::Del => 1,
            Step::Execute => 2,
            Step::PortAdd => 3,
            Step::MeterSet => 4,
        };
        let n = self.calls[at].fetch_add(1, Ordering::Relaxed);
        let hit = |f: &&Failure| f.step == step && n >= f.from && n - f.from < f.count;
        self.plan.iter().find(hit).map(|f| f.error.clone())
    }
}

impl<D: Datapath> Datapath for Failing<D> {
    fn kind(&self) -> &str {
        self.inner.kind()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn features(&self) -> DpFeatures {
        self.inner.features()
    }

    fn port_add(&self, request: &PortRequest) -> Result<DpPort, DpError> {
        self.fails(Step::PortAdd).map_or_else(|| self.inner.port_add(request), Err)
    }

    fn port_del(&self, port: DpPort) -> Result<(), DpError> {
        self.inner.port_del(port)
    }

    fn port_set(&self, port: DpPort, request: &PortRequest) -> Result<(), DpError> {
        self.inner.port_set(port, request)
    }

    fn port_set_up(&self, port: DpPort, up: bool) -> Result<(), DpError> {
        self.inner.port_set_up(port, up)
    }

    fn port(&self, port: DpPort) -> Result<PortInfo, DpError> {
        self.inner.port(port)
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.inner.ports()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, DpError> {
        self.inner.port_stats(port)
    }

    fn events(&self) -> Vec<DpEvent> {
        self.inner.events()
    }

    fn ear(&self) -> Option<Arc<OwnedFd>> {
        self.inner.ear()
    }

    fn heard(&self) -> Vec<DpEvent> {
        self.inner.heard()
    }

    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>> {
        let one = |put: &FlowPut| match self.fails(Step::Put) {
            Some(error) => vec![Err(error)],
            None => self.inner.put(std::slice::from_ref(put)),
        };
        batch.iter().flat_map(one).collect()
    }

    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        let one = |ufid: &Ufid| match self.fails(Step::Del) {
            Some(error) => vec![Err(error)],
            None => self.inner.del(&[*ufid]),
        };
        batch.iter().flat_map(one).collect()
    }

    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        self.inner.get(ufid)
    }

    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool) {
        self.inner.dump(each);
    }

    fn has_mask_room(&self, mask: &flow::Mask, in_port: DpPort) -> bool {
        self.inner.has_mask_room(mask, in_port)
    }

    fn unwanted(&self) -> Vec<Ufid> {
        self.inner.unwanted()
    }

    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        self.inner.stats_of(batch, out);
    }

    fn flush(&self) {
        self.inner.flush();
    }

    fn quiesce(&self) {
        self.inner.quiesce();
    }

    fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>> {
        let one = |execute: Execute| match self.fails(Step::Execute) {
            Some(error) => vec![Err(error)],
            None => self.inner.execute(vec![execute]),
        };
        batch.into_iter().flat_map(one).collect()
    }

    fn upcalls(&self, handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>) {
        let first = out.len();
        self.inner.upcalls(handler, max, timeout, out);
        if self.lose_upcalls > 0 {
            let new: Vec<Upcall> = out.drain(first..).collect();
            let keep = |_: &Upcall| !(self.upcalls.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.lose_upcalls);
            out.extend(new.into_iter().filter(keep));
        }
    }

    fn set_handlers(&self, n: usize) {
        self.inner.set_handlers(n);
    }

    fn set_upcalls_enabled(&self, on: bool) {
        self.inner.set_upcalls_enabled(on);
    }

    fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError> {
        self.fails(Step::MeterSet).map_or_else(|| self.inner.meter_set(id, config), Err)
    }

    fn meter_get(&self, id: u32) -> Result<MeterStats, DpError> {
        self.inner.meter_get(id)
    }

    fn meter_del(&self, id: u32) -> Result<MeterStats, DpError> {
        self.inner.meter_del(id)
    }

    fn stats(&self) -> DpStats {
        self.inner.stats()
    }

    fn set_config(&self, config: &[(String, String)]) {
        self.inner.set_config(config);
    }
}
