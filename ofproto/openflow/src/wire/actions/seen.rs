//! What actions are known to find: the few header facts of a flow's match that its actions depend on, and how they change them.
//!
//! `check` asks whether an action makes sense, `encode` which form of it the peer needs. A wildcarded field is zero in a match's
//! key, so that "not known" and "zero" are one.

use crate::action::OfAction;
use flow::key::{FRAG_LATER, Key, VLAN_CFI};

pub(crate) const ETH_IPV4: u16 = 0x0800;
pub(crate) const ETH_IPV6: u16 = 0x86dd;
const ETH_MPLS: u16 = 0x8847;
const ETH_MPLS_MULTICAST: u16 = 0x8848;
pub(crate) const ETH_NSH: u16 = 0x894f;
pub(crate) const ETH_PBB: u16 = flow::wire::eth_type::PBB;
pub(crate) const PROTO_TCP: u8 = 6;
pub(crate) const PROTO_UDP: u8 = 17;
pub(crate) const PROTO_SCTP: u8 = 132;
/// Packet type NSH.
pub(crate) const PT_NSH: u32 = 0x1_894f;
/// Namespace of Ethernet types in a packet type.
const NS_ETHERTYPE: u32 = 1;
const PT_UNKNOWN: u32 = 0x0000_ffff;

/// The facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) packet_type: u32,
    pub(crate) eth_type: u16,
    pub(crate) nw_proto: u8,
    later_fragment: bool,
    pub(crate) vlan_tci: u16,
    pub(crate) vlan2_tci: u16,
}

impl Seen {
    /// Of a match's key.
    pub(crate) fn of(key: &Key) -> Self {
        Self {
            packet_type: u32::from_be_bytes(key.packet_type),
            eth_type: u16::from_be_bytes(key.eth_type),
            nw_proto: key.nw_proto,
            later_fragment: key.nw_frag & FRAG_LATER != 0,
            vlan_tci: u16::from_be_bytes(key.vlan_tci),
            vlan2_tci: u16::from_be_bytes(key.vlan2_tci),
        }
    }

    /// The key with what the actions changed.
    pub(crate) fn into_key(self, key: &Key) -> Key {
        Key {
            packet_type: self.packet_type.to_be_bytes(),
            eth_type: self.eth_type.to_be_bytes(),
            nw_proto: self.nw_proto,
            vlan_tci: self.vlan_tci.to_be_bytes(),
            vlan2_tci: self.vlan2_tci.to_be_bytes(),
            ..*key
        }
    }

    /// The Ethernet type, also of a packet without an Ethernet header.
    pub(crate) fn dl_type(&self) -> u16 {
        if self.packet_type == 0 {
            self.eth_type
        } else if self.packet_type >> 16 == NS_ETHERTYPE {
            let [.., hi, lo] = self.packet_type.to_be_bytes();
            u16::from_be_bytes([hi, lo])
        } else {
            0
        }
    }

    pub(crate) fn has_vlan(&self) -> bool {
        self.vlan_tci & VLAN_CFI != 0
    }

    pub(crate) fn is_ip(&self) -> bool {
        matches!(self.dl_type(), ETH_IPV4 | ETH_IPV6)
    }

    pub(crate) fn is_mpls(&self) -> bool {
        matches!(self.dl_type(), ETH_MPLS | ETH_MPLS_MULTICAST)
    }

    /// TCP, UDP or SCTP with its ports.
    pub(crate) fn has_ports(&self) -> bool {
        self.is_ip() && !self.later_fragment && matches!(self.nw_proto, PROTO_TCP | PROTO_UDP | PROTO_SCTP)
    }

    /// What is known behind `action`.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others change none of the facts")]
    pub(crate) fn after(&mut self, action: &OfAction) {
        match action {
            OfAction::SetVlanVid { .. } | OfAction::SetVlanPcp { .. } => self.vlan_tci |= VLAN_CFI,
            OfAction::StripVlan { .. } => {
                self.vlan_tci = self.vlan2_tci;
                self.vlan2_tci = 0;
            }
            OfAction::PushVlan { .. } => {
                self.vlan2_tci = self.vlan_tci;
                self.vlan_tci = VLAN_CFI;
            }
            OfAction::SetField { field: flow::Field::VlanTci, value, .. } => {
                let [.., hi, lo] = value.low().to_be_bytes();
                self.vlan_tci = u16::from_be_bytes([hi, lo]);
            }
            OfAction::PushMpls { ethertype } => {
                self.eth_type = *ethertype;
                self.nw_proto = 0;
            }
            OfAction::PopMpls { ethertype } => self.eth_type = *ethertype,
            // The frame's tags are the customer's now.
            OfAction::PushPbb => {
                self.eth_type = ETH_PBB;
                (self.nw_proto, self.vlan_tci, self.vlan2_tci) = (0, 0, 0);
            }
            OfAction::PopPbb => {
                self.eth_type = u16::MAX;
                self.nw_proto = 0;
            }
            OfAction::Encap(encap) => {
                self.packet_type = encap.new_packet_type;
                if self.packet_type >> 16 == NS_ETHERTYPE {
                    self.eth_type = self.dl_type();
                }
                if !self.is_ip() {
                    self.nw_proto = 0;
                }
            }
            OfAction::Decap { .. } if self.packet_type == 0 => {
                self.packet_type = NS_ETHERTYPE << 16 | u32::from(self.eth_type);
            }
            OfAction::Decap { .. } => {
                self.packet_type = PT_UNKNOWN;
                self.eth_type = u16::MAX;
            }
            _ => {}
        }
    }
}
