//! Actions and instructions as text (ovs-actions(7)).
//!
//! `show` writes them, `show_nested` those that hold lists or many parts; `read` and its
//! siblings parse, `verify` tells what stands in a wrong place. Where a word has no parts, writer and reader
//! share no table: OVS writes and reads different forms of the same action.

mod read;
mod read_fields;
mod read_learn;
mod read_nested;
mod show;
mod show_nested;
mod verify;

pub use read::{parse_actions, parse_instructions};
pub(crate) use show::{Alternate, Dotted, Mac};
pub use show::{Show, format_action, format_actions};

use crate::action::{HashFields, Subfield};
use flow::oftext;
use std::fmt;

/// Names of hash fields, in the order of their codes.
pub(crate) const HASH_FIELDS: [(HashFields, &str); 7] = [
    (HashFields::EthSrc, "eth_src"),
    (HashFields::SymmetricL4, "symmetric_l4"),
    (HashFields::SymmetricL3L4, "symmetric_l3l4"),
    (HashFields::SymmetricL3L4Udp, "symmetric_l3l4+udp"),
    (HashFields::NwSrc, "nw_src"),
    (HashFields::NwDst, "nw_dst"),
    (HashFields::SymmetricL3, "symmetric_l3"),
];
/// Names of multipath's algorithms, in the order of their codes.
pub(crate) const MULTIPATH_ALGORITHMS: [&str; 4] = ["modulo_n", "hash_threshold", "hrw", "iter_hash"];
/// Names of bundle's algorithms, in the order of their codes.
pub(crate) const BUNDLE_ALGORITHMS: [&str; 2] = ["active_backup", "hrw"];
/// What encap takes: (packet type, name).
pub(crate) const ENCAPS: [(u32, &str); 4] = [(0, "ethernet"), (0x1_894f, "nsh"), (0x1_8847, "mpls"), (0x1_8848, "mpls_mc")];
/// Reasons of packet-ins, in the order of their codes (OpenFlow 1.5 section 7.4.1, and OVS's own).
pub(crate) const PACKET_IN_REASONS: [&str; 8] =
    ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out", "", ""];
/// OFPR_ACTION
pub(crate) const REASON_ACTION: u8 = 1;
/// NX_CTLR_NO_METER
pub(crate) const NO_METER: u32 = u32::MAX;
/// Flags of learn and nat (reference/actions.md).
pub(crate) mod flags {
    pub(crate) const LEARN_SEND_FLOW_REM: u16 = 1;
    pub(crate) const LEARN_DELETE_LEARNED: u16 = 2;
    pub(crate) const LEARN_WRITE_RESULT: u16 = 4;
    pub(crate) const NAT_SRC: u16 = 1;
    pub(crate) const NAT_DST: u16 = 2;
    pub(crate) const NAT_PERSISTENT: u16 = 4;
    pub(crate) const NAT_HASH: u16 = 8;
    pub(crate) const NAT_RANDOM: u16 = 16;
}

impl From<Subfield> for oftext::Subfield {
    fn from(s: Subfield) -> Self {
        Self { field: s.field, start: s.ofs, bits: s.bits }
    }
}

impl From<oftext::Subfield> for Subfield {
    fn from(s: oftext::Subfield) -> Self {
        Self { field: s.field, ofs: s.start, bits: s.bits }
    }
}

impl fmt::Display for Subfield {
    /// As in `load:1->NXM_NX_REG0[0..15]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        oftext::Subfield::from(*self).fmt(f)
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
