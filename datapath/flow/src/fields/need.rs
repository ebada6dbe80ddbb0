//! Prerequisites: what a field needs beside it to mean anything, checked against a packet's key, a flow's match, or while
//! gathering a mask.
//!
//! A wildcarded field is zero in a match's key, so that both checks look at values only; conntrack's tuple is the exception.

use super::Need;
use crate::key::{FRAG_LATER, Key, Mask};

pub(crate) const ETH_IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const ETH_ARP: [u8; 2] = [0x08, 0x06];
pub(crate) const ETH_RARP: [u8; 2] = [0x80, 0x35];
pub(crate) const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
pub(crate) const ETH_MPLS: [u8; 2] = [0x88, 0x47];
pub(crate) const ETH_MPLS_MULTICAST: [u8; 2] = [0x88, 0x48];
pub(crate) const ETH_NSH: [u8; 2] = [0x89, 0x4f];
pub(crate) const ETH_PBB: [u8; 2] = [0x88, 0xe7];
pub(crate) const PROTO_ICMP: u8 = 1;
pub(crate) const PROTO_TCP: u8 = 6;
pub(crate) const PROTO_UDP: u8 = 17;
pub(crate) const PROTO_ICMPV6: u8 = 58;
pub(crate) const PROTO_SCTP: u8 = 132;
const ND_SOLICIT: u16 = 135;
const ND_ADVERT: u16 = 136;
const CS_NEW: u8 = 0x01;
const CS_EST: u8 = 0x02;
const CS_REL: u8 = 0x04;
const CS_RPL: u8 = 0x08;
const CS_INV: u8 = 0x10;
const CS_TRK: u8 = 0x20;
const CS_NAT: u8 = 0xc0;

impl Need {
    /// Whether a packet with this key has the field.
    #[must_use]
    pub fn holds(self, key: &Key) -> bool {
        if self == Self::Ct {
            // A tracked packet that is not invalid always bears one of these.
            return key.ct_state & (CS_NEW | CS_EST | CS_RPL) != 0;
        }
        self.holds_in_match(key, &Key::ZERO)
    }

    /// Whether a match (`key` already masked) says enough to match on the field.
    #[must_use]
    pub fn holds_in_match(self, key: &Key, mask: &Mask) -> bool {
        // A packet type of another namespace's Ethernet type says as much as the Ethernet type itself.
        let [ns @ .., high, low] = key.packet_type;
        let eth_type = if ns == [0, 1] { [high, low] } else { key.eth_type };
        let ip = matches!(eth_type, ETH_IPV4 | ETH_IPV6);
        let transport = |proto| ip && key.nw_proto == proto && key.nw_frag & FRAG_LATER == 0;
        let icmpv6 = eth_type == ETH_IPV6 && key.nw_proto == PROTO_ICMPV6;
        let nd = |kind: u16| icmpv6 && key.tp_src == kind.to_be_bytes() && key.tp_dst == [0; 2];
        match self {
            Self::Nothing => true,
            Self::Ethernet => key.packet_type == [0; 4],
            Self::Vlan => key.packet_type == [0; 4] && key.vlan_tci[0] & 0x10 != 0,
            Self::Arp => matches!(eth_type, ETH_ARP | ETH_RARP),
            Self::Ipv4 => eth_type == ETH_IPV4,
            Self::Ipv6 => eth_type == ETH_IPV6,
            Self::Ip => ip,
            Self::Mpls => matches!(eth_type, ETH_MPLS | ETH_MPLS_MULTICAST),
            Self::Tcp => transport(PROTO_TCP),
            Self::Udp => transport(PROTO_UDP),
            Self::Sctp => transport(PROTO_SCTP),
            Self::Icmpv4 => eth_type == ETH_IPV4 && key.nw_proto == PROTO_ICMP,
            Self::Icmpv6 => icmpv6,
            Self::Nd => nd(ND_SOLICIT) || nd(ND_ADVERT),
            Self::NdSolicit => nd(ND_SOLICIT),
            Self::NdAdvert => nd(ND_ADVERT),
            Self::Nsh => eth_type == ETH_NSH,
            Self::Pbb => eth_type == ETH_PBB,
            Self::Ct => {
                key.ct_state & (CS_NEW | CS_EST | CS_REL | CS_RPL | CS_NAT) != 0
                    || key.ct_state & CS_TRK != 0 && mask.ct_state & CS_INV != 0 && key.ct_state & CS_INV == 0
            }
        }
    }

    /// Adds to `mask` what `holds` looked at.
    pub fn unwildcard(self, key: &Key, mask: &mut Mask) {
        let eth_type = |mask: &mut Mask| mask.eth_type = [0xff; 2];
        let proto = |mask: &mut Mask| {
            mask.eth_type = [0xff; 2];
            mask.nw_proto = 0xff;
            mask.nw_frag |= FRAG_LATER;
        };
        match self {
            Self::Nothing => {}
            Self::Ethernet => mask.packet_type = [0xff; 4],
            Self::Vlan => mask.vlan_tci[0] |= 0x10,
            Self::Arp | Self::Ipv4 | Self::Ipv6 | Self::Ip | Self::Mpls | Self::Nsh | Self::Pbb => eth_type(mask),
            Self::Tcp | Self::Udp | Self::Sctp => {
                eth_type(mask);
                if matches!(key.eth_type, ETH_IPV4 | ETH_IPV6) {
                    proto(mask);
                }
            }
            Self::Icmpv4 | Self::Icmpv6 | Self::Nd | Self::NdSolicit | Self::NdAdvert => {
                eth_type(mask);
                if matches!(key.eth_type, ETH_IPV4 | ETH_IPV6) {
                    mask.nw_proto = 0xff;
                }
                let nd = matches!(self, Self::Nd | Self::NdSolicit | Self::NdAdvert);
                if nd && key.eth_type == ETH_IPV6 && key.nw_proto == PROTO_ICMPV6 {
                    mask.tp_src = [0xff; 2];
                    mask.tp_dst = [0xff; 2];
                }
            }
            Self::Ct => mask.ct_state |= CS_NEW | CS_EST | CS_RPL,
        }
    }
}
