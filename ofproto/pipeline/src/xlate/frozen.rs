//! Frozen state: what a translation needs to go on after the datapath has recirculated the packet, or after a controller has had it.
//!
//! Equal states share one recirculation id, so that translating a megaflow again gives the same actions.

use crate::world::BridgeId;
use flow::key::Key;
use openflow::action::OfAction;
use openflow::{OfPort, TableId};

/// Where and with what to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenState {
    pub bridge: BridgeId,
    /// Table to look up in when no actions are left.
    pub table: TableId,
    /// Pipeline fields: in_port (OpenFlow), registers, metadata, tunnel, actset_output; all else zero.
    pub metadata: Key,
    pub conntracked: bool,
    /// Values pushed, the last on top.
    pub stack: Vec<Vec<u8>>,
    /// Mirrors that have had the packet.
    pub mirrors: u32,
    /// Actions that remain.
    pub actions: Vec<OfAction>,
    pub action_set: Vec<OfAction>,
    /// Cookie of the rule that froze, for packet-ins.
    pub rule_cookie: u64,
}

impl FrozenState {
    /// Lines of a key that a frozen state carries over.
    #[must_use]
    pub fn metadata_of(key: &Key) -> Key {
        Key {
            in_port: key.in_port,
            regs: key.regs,
            metadata: key.metadata,
            actset_output: key.actset_output,
            tun_id: key.tun_id,
            tun_src: key.tun_src,
            tun_dst: key.tun_dst,
            tun_ipv6_src: key.tun_ipv6_src,
            tun_ipv6_dst: key.tun_ipv6_dst,
            tun_flags: key.tun_flags,
            tun_tos: key.tun_tos,
            tun_ttl: key.tun_ttl,
            tun_tp_src: key.tun_tp_src,
            tun_tp_dst: key.tun_tp_dst,
            tun_gbp_id: key.tun_gbp_id,
            tun_gbp_flags: key.tun_gbp_flags,
            tun_metadata_present: key.tun_metadata_present,
            tun_metadata: key.tun_metadata,
            ..Key::ZERO
        }
    }

    /// Puts the pipeline fields back into the key of a packet that came again. The tunnel of a packet that was received from one is
    /// in its key already and stays.
    pub fn restore(&self, key: &mut Key) {
        key.in_port = self.metadata.in_port;
        key.regs = self.metadata.regs;
        key.metadata = self.metadata.metadata;
        key.actset_output = self.metadata.actset_output;
        key.tun_id = self.metadata.tun_id;
        key.tun_src = self.metadata.tun_src;
        key.tun_dst = self.metadata.tun_dst;
        key.tun_ipv6_src = self.metadata.tun_ipv6_src;
        key.tun_ipv6_dst = self.metadata.tun_ipv6_dst;
        key.tun_flags = self.metadata.tun_flags;
        key.tun_tos = self.metadata.tun_tos;
        key.tun_ttl = self.metadata.tun_ttl;
        key.tun_tp_src = self.metadata.tun_tp_src;
        key.tun_tp_dst = self.metadata.tun_tp_dst;
        key.tun_gbp_id = self.metadata.tun_gbp_id;
        key.tun_gbp_flags = self.metadata.tun_gbp_flags;
        key.tun_metadata_present = self.metadata.tun_metadata_present;
        key.tun_metadata = self.metadata.tun_metadata;
    }

    /// The bridge's port that the packet came in by.
    #[must_use]
    pub fn in_port(&self) -> OfPort {
        OfPort::from_key(self.metadata.in_port)
    }
}
