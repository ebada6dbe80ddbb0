//! Meters of a bridge: OpenFlow's number, its configuration, and the datapath's meter behind it.
//!
//! What enters: meter-mods (through `conn`). What leaves: the datapath's number for translation. Neighbours: `xlate`, `conn`.

use flow::Msec;
use flow::seam::MeterConfig;
use std::collections::BTreeMap;

/// OFPM_CONTROLLER: limits packet-ins.
pub const CONTROLLER: u32 = 0xffff_fffe;
/// OFPM_SLOWPATH: limits upcalls.
pub const SLOWPATH: u32 = 0xffff_fffd;
/// Stands for "no meter" in actions.
pub const NONE: u32 = u32::MAX;

/// A meter.
#[derive(Clone, Debug)]
pub struct Meter {
    pub config: MeterConfig,
    /// The datapath's number.
    pub dp_meter: u32,
    pub created_ms: Msec,
}

/// The meters of a bridge by OpenFlow number.
#[derive(Clone, Debug, Default)]
pub struct Meters(pub BTreeMap<u32, Meter>);

impl Meters {
    /// The datapath's meter behind an OpenFlow meter.
    #[must_use]
    pub fn datapath_id(&self, id: u32) -> Option<u32> {
        self.0.get(&id).map(|m| m.dp_meter)
    }

    /// The datapath's meter for a packet-in: the one the action names, else the bridge's for controllers.
    #[must_use]
    pub fn controller_meter(&self, id: u32) -> Option<u32> {
        self.datapath_id(if id == NONE { CONTROLLER } else { id })
    }
}
