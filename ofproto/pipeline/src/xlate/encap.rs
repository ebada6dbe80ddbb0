//! Headers around the packet: encap and decap of Ethernet, NSH and MPLS (OpenFlow's EXT-382), NSH's TTL.
//!
//! The key changes at once; the datapath's `push_*` and `pop_*` come with the next commit (`Pending`).

use super::trace::Kind;
use super::{Ctx, Pending};
use crate::effects::XlateError;
use flow::key::{Key, MPLS_LABELS_MAX};
use openflow::action::{Encap, EncapProp};

const PT_ETHERNET: u32 = 0;
pub(super) const PT_NSH: u32 = 0x0001_894f;
const PT_IPV4: u32 = 0x0001_0800;
const PT_IPV6: u32 = 0x0001_86dd;
const PT_MPLS: u32 = 0x0001_8847;
const PT_MPLS_MULTICAST: u32 = 0x0001_8848;
const ETH_NSH: [u8; 2] = [0x89, 0x4f];
const ETH_MPLS: [u8; 2] = [0x88, 0x47];
/// Transparent Ethernet bridging: an Ethernet frame beneath a label.
const ETH_TEB: u16 = 0x6558;
/// NSH next protocols (RFC 8300 section 2.2).
const NP_IPV4: u8 = 1;
const NP_IPV6: u8 = 2;
const NP_ETHERNET: u8 = 3;
const NP_NSH: u8 = 4;
const NSH_MD1: u8 = 1;
const NSH_MD2: u8 = 2;
const NSH_TTL: u8 = 63;
/// Most bytes of metadata in an NSH header.
const NSH_METADATA_MAX: usize = 248;
/// OFPR_INVALID_TTL
const INVALID_TTL: u8 = 2;

impl Ctx<'_> {
    /// encap(...)
    pub(super) fn encap(&mut self, encap: &Encap) {
        self.commit();
        match encap.new_packet_type {
            PT_ETHERNET => self.encap_ethernet(),
            PT_NSH => self.encap_nsh(&encap.props),
            PT_MPLS | PT_MPLS_MULTICAST => self.encap_mpls(encap.new_packet_type),
            other => self.unsupported(format_args!("Dropping packet as encap is not supported for packet type {other:#x}.")),
        }
        if self.error.is_none() {
            self.pending = Pending::Encap;
        }
    }

    fn unsupported(&mut self, text: std::fmt::Arguments<'_>) {
        self.report(Kind::Action, text);
        self.error.get_or_insert(XlateError::UnsupportedPacketType);
    }

    fn packet_type(&self) -> u32 {
        u32::from_be_bytes(self.key.packet_type)
    }

    fn encap_ethernet(&mut self) {
        self.mask.packet_type = [0xff; 4];
        if self.packet_type() >> 16 != 1 {
            return self
                .unsupported(format_args!("Dropping packet as encap(ethernet) is not supported for packet type ethernet."));
        }
        self.key.eth_type = [self.key.packet_type[2], self.key.packet_type[3]];
        self.key.packet_type = [0; 4];
        self.key.eth_src = [0; 6];
        self.key.eth_dst = [0; 6];
    }

    fn encap_nsh(&mut self, props: &[EncapProp]) {
        let mut mdtype = NSH_MD1;
        let mut tlvs = Vec::new();
        for prop in props {
            match prop {
                EncapProp::NshMdType(given) => mdtype = *given,
                EncapProp::NshTlv { class, kind, data } => {
                    tlvs.extend(class.to_be_bytes());
                    tlvs.extend([*kind, u8::try_from(data.len()).unwrap_or(u8::MAX)]);
                    tlvs.extend(data);
                    tlvs.resize(tlvs.len().next_multiple_of(4), 0);
                }
            }
        }
        let np = match self.packet_type() {
            PT_ETHERNET => NP_ETHERNET,
            PT_IPV4 => NP_IPV4,
            PT_IPV6 => NP_IPV6,
            PT_NSH => NP_NSH,
            other => {
                return self.unsupported(format_args!(
                    "Dropping packet as encap(nsh) is not supported for packet type ({},{:#x})",
                    other >> 16,
                    other & 0xffff
                ));
            }
        };
        self.mask.packet_type = [0xff; 4];
        self.key = only_metadata(&self.key);
        self.key.packet_type = PT_NSH.to_be_bytes();
        self.key.eth_type = ETH_NSH;
        self.key.nsh_ttl = NSH_TTL;
        self.key.nsh_np = np;
        self.key.nsh_mdtype = mdtype;
        self.key.nsh_path = 255u32.to_be_bytes();
        self.nsh_metadata = if mdtype == NSH_MD2 && tlvs.len() <= NSH_METADATA_MAX { tlvs } else { Vec::new() };
    }

    fn encap_mpls(&mut self, packet_type: u32) {
        if Self::mpls_depth(&self.key) >= MPLS_LABELS_MAX {
            return self.too_many_labels("an encap MPLS action can't be performed as it would have");
        }
        self.mask.packet_type = [0xff; 4];
        let mut depth = self.count_labels();
        if self.key.packet_type == [0; 4] && self.key.eth_type == ETH_MPLS {
            // The frame with its labels becomes the payload.
            for key in [&mut self.mask, &mut self.key, &mut self.base] {
                key.mpls_lse0 = [0; 4];
                key.mpls_lse1 = [0; 4];
                key.mpls_lse2 = [0; 4];
            }
            depth = 0;
        }
        self.key.packet_type = packet_type.to_be_bytes();
        let eth_type = self.key.packet_type[2..].try_into().expect("two of four bytes");
        self.push_label(depth, eth_type, None);
        self.key.eth_src = [0; 6];
        self.key.eth_dst = [0; 6];
    }

    /// decap(...); gives whether what is beneath has to be parsed before anything else.
    pub(super) fn decap(&mut self, new_packet_type: Option<u32>) -> bool {
        self.commit();
        match self.packet_type() {
            PT_ETHERNET => {
                self.decap_ethernet();
                false
            }
            PT_NSH => self.decap_nsh(),
            PT_MPLS | PT_MPLS_MULTICAST => self.decap_mpls(new_packet_type.unwrap_or(0)),
            other => {
                self.unsupported(format_args!(
                    "Dropping packet as the decap() does not support packet type ({},{:#x})",
                    other >> 16,
                    other & 0xffff
                ));
                false
            }
        }
    }

    fn decap_ethernet(&mut self) {
        if self.key.vlan_tci[0] & 0x10 != 0 {
            self.mask.vlan_tci[0] |= 0x10;
            return self.unsupported(format_args!("Dropping packet, cannot decap Ethernet if VLAN is present."));
        }
        self.key.packet_type = [0, 1, self.key.eth_type[0], self.key.eth_type[1]];
        self.key.eth_src = [0; 6];
        self.key.eth_dst = [0; 6];
        self.mask.eth_type = [0xff; 2];
    }

    fn decap_nsh(&mut self) -> bool {
        self.mask.nsh_np = 0xff;
        self.key.packet_type = match self.key.nsh_np {
            NP_ETHERNET => PT_ETHERNET,
            NP_IPV4 => PT_IPV4,
            NP_IPV6 => PT_IPV6,
            NP_NSH => PT_NSH,
            other => {
                self.unsupported(format_args!("Dropping packet as NSH next protocol {other} is not supported"));
                return false;
            }
        }
        .to_be_bytes();
        self.pending = Pending::Decap;
        true
    }

    fn decap_mpls(&mut self, packet_type: u32) -> bool {
        let depth = self.count_labels();
        let eth_type = match packet_type.to_be_bytes() {
            [_, _, 0, 0] => ETH_TEB.to_be_bytes(),
            [_, _, high, low] => [high, low],
        };
        let popped = self.pop_label(depth, eth_type);
        if !popped && depth >= MPLS_LABELS_MAX {
            self.too_many_labels("an MPLS decap can't be performed as it has");
            self.actions.clear();
        }
        self.key.packet_type = packet_type.to_be_bytes();
        if !popped {
            return false;
        }
        self.pending = Pending::Decap;
        depth == 1
    }

    /// dec_nsh_ttl; gives false when the list of actions ends here.
    pub(super) fn dec_nsh_ttl(&mut self) -> bool {
        if self.packet_type() == PT_NSH || self.key.eth_type == ETH_NSH {
            self.mask.nsh_ttl = 0xff;
            if self.key.nsh_ttl > 1 {
                self.key.nsh_ttl -= 1;
                return true;
            }
            self.packet_in_with_reason(INVALID_TTL, 0);
        }
        self.report(Kind::Warn, format_args!("NSH decrement TTL exception"));
        false
    }
}

/// A key without any packet headers.
fn only_metadata(key: &Key) -> Key {
    let mut kept = Key {
        in_port: key.in_port,
        recirc_id: key.recirc_id,
        dp_hash: key.dp_hash,
        ct_state: key.ct_state,
        ct_zone: key.ct_zone,
        ct_mark: key.ct_mark,
        ct_label: key.ct_label,
        skb_priority: key.skb_priority,
        pkt_mark: key.pkt_mark,
        regs: key.regs,
        metadata: key.metadata,
        actset_output: key.actset_output,
        ..Key::ZERO
    };
    super::mask::copy_tunnel(&mut kept, key);
    kept
}
