//! Frozen state: what a translation needs to go on after the datapath has recirculated the packet, or after a controller has had it.
//!
//! Equal states share one recirculation id, so that translating a megaflow again gives the same actions.

use super::mask::copy_tunnel;
use crate::world::BridgeId;
use flow::key::Key;
use openflow::action::OfAction;
use openflow::{OfPort, TableId};

/// Where and with what to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenState {
    pub bridge: BridgeId,
    /// Table to look up in when no steps are left.
    pub table: TableId,
    /// Pipeline fields: in_port (OpenFlow), registers, metadata, tunnel; all else zero.
    pub metadata: Key,
    pub conntracked: bool,
    /// Values pushed, the last on top.
    pub stack: Vec<Vec<u8>>,
    /// Mirrors that have had the packet.
    pub mirrors: u32,
    /// What remains to do.
    pub steps: Vec<Step>,
    pub action_set: Vec<OfAction>,
    /// Of the `controller` action that sent the packet up.
    pub userdata: Vec<u8>,
}

/// Something that remains to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The next steps stand in a rule of this table and with this cookie.
    Unroll {
        table: TableId,
        cookie: u64,
    },
    Run(OfAction),
}

impl FrozenState {
    /// The fields of a key that a frozen state carries over.
    #[must_use]
    pub fn metadata_of(key: &Key) -> Key {
        let mut kept = Key { in_port: key.in_port, regs: key.regs, metadata: key.metadata, ..Key::ZERO };
        copy_tunnel(&mut kept, key);
        kept
    }

    /// Puts the pipeline fields back into the key of a packet that came again.
    pub fn restore(&self, key: &mut Key) {
        key.in_port = self.metadata.in_port;
        key.regs = self.metadata.regs;
        key.metadata = self.metadata.metadata;
        copy_tunnel(key, &self.metadata);
    }

    /// The actions among the steps.
    pub fn actions(&self) -> impl Iterator<Item = &OfAction> {
        self.steps.iter().filter_map(|step| match step {
            Step::Run(action) => Some(action),
            Step::Unroll { .. } => None,
        })
    }

    /// The bridge's port that the packet came in by.
    #[must_use]
    pub fn in_port(&self) -> OfPort {
        OfPort::from_key(self.metadata.in_port)
    }
}
