//! What the tier asks of hardware, in megaflows: the one trait below it. Hardware that speaks tc stands behind `tc::client::Tc`, hardware
//! that takes megaflows as they are implements the trait itself (`model::direct` shows how little that is).
//!
//! What enters: plans (a megaflow, canonical, and the rule that means it) by name; meters that they name. What leaves: what is in hardware, and why not the rest;
//! counters; what its tables show. Neighbours: `tiered` (the only caller).

use crate::meters::Limit;
use crate::plan::Plan;
use crate::refusal::Refusal;
use flow::{DpPort, Ufid};
use std::fmt;

/// Packets and bytes that a rule has counted since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HwStats {
    pub packets: u64,
    pub bytes: u64,
}

/// What has come to a meter since it was put there, and how many packets of that it dropped. Nobody tells the bytes of those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterCounts {
    pub packets: u64,
    pub bytes: u64,
    pub dropped: u64,
}

/// Why a rule could not be removed, listed or hung up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HardwareError {
    #[error("the rule could not be removed: {0}")]
    Remove(String),
    #[error("the rules could not be listed: {0}")]
    List(String),
    #[error("no clsact: {0}")]
    Clsact(String),
}

/// What a table shows at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// What we put there, in hardware.
    Right,
    /// Ours, but no longer in hardware.
    NotInHardware,
    /// Where our rule was, another is.
    Other,
    /// It bears our mark, but we know nothing of it.
    Stray,
}

/// A rule of ours that was found, or that should be there (`found` is `None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub port: DpPort,
    pub chain: u32,
    pub prio: u16,
    pub handle: u32,
    pub ufid: Option<Ufid>,
    pub found: Option<Found>,
}

/// What others did to what is ours, as hardware tells it by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overheard {
    /// Messages, whatever they were about.
    pub told: u64,
    /// How many rules that somebody removed or changed, also those that had to go for another reason meanwhile.
    pub taken: u64,
    /// Those that are still known, with their last counters where they were told.
    pub lost: Vec<(Ufid, Option<HwStats>)>,
    /// Meters of which the same is true.
    pub meters: Vec<u32>,
    /// Some messages were missed: everything is to be looked at.
    pub missed: bool,
    /// Interfaces that went, or from which no rules hang any more.
    pub interfaces: Vec<u32>,
}

/// Hardware that forwards by megaflows.
///
/// What holds for every implementation: a rule that was not verified to be in hardware as it was asked for counts as refused and is gone
/// when the call returns, or its port is dirty (`usage`) and takes nothing more until `sweep` has found it clean. Calls come from any thread.
pub trait Hardware: Send + Sync + fmt::Debug {
    /// As `dump-flows` names it: `dp:NAME`.
    fn name(&self) -> &'static str;
    /// Puts many in; the results stand in the order of the batch.
    fn install_all(&self, batch: &[(Ufid, &Plan)]) -> Vec<Result<(), Refusal>>;
    /// Takes many out, and tells their last counters. One that is not there had no packets.
    fn remove_all(&self, batch: &[Ufid]) -> Vec<Result<HwStats, HardwareError>>;
    /// The counters of a rule; `None` if hardware has it no longer.
    fn stats(&self, ufid: Ufid) -> Option<HwStats>;
    /// The counters of every rule that was put in; `None` for those that hardware has lost. What cannot be asked now is left out.
    fn counters(&self) -> Vec<(Ufid, Option<HwStats>)>;
    /// Puts a meter there, before rules that name it; or gives one that is there another limit.
    ///
    /// # Errors
    /// The reason. The meter is then as it was before, or gone.
    fn put_meter(&self, meter: u32, limit: Limit) -> Result<(), Refusal>;
    /// Takes a meter out that no rule names any more, and tells its last counters. One that is not there had no packets.
    ///
    /// # Errors
    /// If it is still there.
    fn take_meter(&self, meter: u32) -> Result<MeterCounts, HardwareError>;
    /// The counters of every meter that is there; those that are missing are lost. `None` if they cannot be asked for now.
    fn meters(&self) -> Option<Vec<(u32, MeterCounts)>>;
    /// What there is of our meters, and what is lacking. `right` says what limit a meter should have.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn audit_meters(&self, right: &dyn Fn(u32) -> Option<Limit>) -> Result<Vec<(u32, Option<Found>)>, HardwareError>;
    /// Takes meters out that bear our mark, but are none that we know of.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn sweep_meters(&self) -> Result<usize, HardwareError>;
    /// What others did since the last call. A rule of `lost` is there no longer, or is another one, until `remove_all` has taken out what is left of
    /// it. Hardware that tells nothing by itself is asked by `counters` and `meters` alone.
    fn overheard(&self) -> Overheard {
        Overheard::default()
    }
    /// Rules that are installed, tables that they use, ports that wait for a sweep.
    fn usage(&self) -> (usize, usize, Vec<DpPort>);
    /// What a port's table has of ours, and what it lacks. `right` says what a megaflow should have.
    ///
    /// # Errors
    /// If the table cannot be listed.
    fn audit(&self, port: DpPort, right: &dyn Fn(Ufid) -> Option<Plan>) -> Result<Vec<Sight>, HardwareError>;
    /// Removes everything of ours from a port; how many rules that were. Afterwards the port is clean.
    ///
    /// # Errors
    /// If the rules cannot be listed or one cannot be removed.
    fn sweep(&self, port: DpPort) -> Result<usize, HardwareError>;
    /// Removes what bears our mark on a port, but is no rule that we know of.
    ///
    /// # Errors
    /// As `sweep`.
    fn sweep_strays(&self, port: DpPort) -> Result<usize, HardwareError>;
}
