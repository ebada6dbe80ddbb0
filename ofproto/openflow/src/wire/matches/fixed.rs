//! The fixed matches of OpenFlow 1.0 (section 5.2.3) and 1.1 (section A.2.3).

use super::default_packet_type;
use crate::error::OfError;
use crate::types::OfPort;
use crate::wire::bytes::{Put, Reader};
use flow::fields::Field;
use flow::key::{Key, Mask, VLAN_CFI};
use flow::matching::Match;

/// Bytes of `ofp11_match`.
const BYTES11: usize = 88;

const ETH_IPV4: [u8; 2] = [0x08, 0];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const ETH_RARP: [u8; 2] = [0x80, 0x35];
const PROTO_ICMP: u8 = 1;
const VID: u16 = 0xfff;
const PCP: u16 = 0xe000;
const PCP_SHIFT: u16 = 13;
const DSCP: u8 = 0xfc;
/// OFP_VLAN_NONE, OFPVID11_NONE and OFPVID11_ANY
const VLAN_NONE: u16 = 0xffff;
const VLAN_ANY: u16 = 0xfffe;

/// Wildcard bits of 1.0.
mod w10 {
    pub(super) const IN_PORT: u32 = 1;
    pub(super) const DL_VLAN: u32 = 1 << 1;
    pub(super) const DL_SRC: u32 = 1 << 2;
    pub(super) const DL_DST: u32 = 1 << 3;
    pub(super) const DL_TYPE: u32 = 1 << 4;
    pub(super) const NW_PROTO: u32 = 1 << 5;
    pub(super) const TP_SRC: u32 = 1 << 6;
    pub(super) const TP_DST: u32 = 1 << 7;
    pub(super) const NW_SRC_SHIFT: u32 = 8;
    pub(super) const NW_DST_SHIFT: u32 = 14;
    pub(super) const DL_VLAN_PCP: u32 = 1 << 20;
    pub(super) const NW_TOS: u32 = 1 << 21;
    pub(super) const ALL: u32 = (1 << 22) - 1;
}

/// Wildcard bits of 1.1.
mod w11 {
    pub(super) const IN_PORT: u32 = 1;
    pub(super) const DL_VLAN: u32 = 1 << 1;
    pub(super) const DL_VLAN_PCP: u32 = 1 << 2;
    pub(super) const DL_TYPE: u32 = 1 << 3;
    pub(super) const NW_TOS: u32 = 1 << 4;
    pub(super) const NW_PROTO: u32 = 1 << 5;
    pub(super) const TP_SRC: u32 = 1 << 6;
    pub(super) const TP_DST: u32 = 1 << 7;
    pub(super) const MPLS_LABEL: u32 = 1 << 8;
    pub(super) const MPLS_TC: u32 = 1 << 9;
}

/// OpenFlow's and the key's numbers for "no Ethernet type" (0x05ff) are the same.
fn prefix(wildcarded: u32) -> u32 {
    u32::MAX.checked_shl(wildcarded & 0x3f).unwrap_or(0)
}

fn set_port(key: &mut Key, mask: &mut Mask, port: OfPort) {
    Field::InPort.set(key, u128::from(port.to_wire16()));
    Field::InPort.set_mask(mask, 0xffff);
}

/// Reads a match of 1.0. Any bits are a match: what cannot be is not looked at.
pub(crate) fn pull10(r: &mut Reader<'_>) -> Result<(Match, u32), OfError> {
    let wildcards = r.u32()?;
    let w = wildcards & w10::ALL;
    let mut m = Match::default();
    let (key, mask) = (&mut m.key, &mut m.mask);
    let exact = |bit: u32| w & bit == 0;
    let in_port = OfPort::from_wire16(r.u16()?);
    if exact(w10::IN_PORT) {
        set_port(key, mask, in_port);
    }
    key.eth_src = r.array()?;
    key.eth_dst = r.array()?;
    let (dl_vlan, dl_vlan_pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    key.eth_type = r.array()?;
    key.nw_tos = r.u8()? & DSCP;
    key.nw_proto = r.u8()?;
    r.skip(2)?;
    key.nw_src = r.array()?;
    key.nw_dst = r.array()?;
    key.tp_src = r.array()?;
    key.tp_dst = r.array()?;

    let ones = |bit: u32| if exact(bit) { 0xff } else { 0 };
    mask.eth_src = [ones(w10::DL_SRC); 6];
    mask.eth_dst = [ones(w10::DL_DST); 6];
    mask.eth_type = [ones(w10::DL_TYPE); 2];
    mask.nw_tos = ones(w10::NW_TOS) & DSCP;
    mask.nw_proto = ones(w10::NW_PROTO);
    mask.nw_src = prefix(w >> w10::NW_SRC_SHIFT).to_be_bytes();
    mask.nw_dst = prefix(w >> w10::NW_DST_SHIFT).to_be_bytes();
    mask.tp_src = [ones(w10::TP_SRC); 2];
    mask.tp_dst = [ones(w10::TP_DST); 2];
    let tci_mask =
        if exact(w10::DL_VLAN_PCP) { PCP | VLAN_CFI } else { 0 } | if exact(w10::DL_VLAN) { VID | VLAN_CFI } else { 0 };
    if exact(w10::DL_VLAN) && dl_vlan == VLAN_NONE {
        mask.vlan_tci = [0xff; 2];
    } else {
        key.vlan_tci = (dl_vlan & VID | u16::from(dl_vlan_pcp) << PCP_SHIFT & PCP | VLAN_CFI).to_be_bytes();
        mask.vlan_tci = tci_mask.to_be_bytes();
    }
    let in_port_only = Mask { in_port: mask.in_port, ..Mask::ZERO };
    if *mask != in_port_only {
        default_packet_type(&mut m);
    }
    m.key = m.key.masked(&m.mask);
    Ok((m, wildcards & w10::ALL))
}

/// Appends a match in the form of 1.0. What the form cannot say is left out (see `fits_openflow10`).
pub(crate) fn put10(out: &mut Vec<u8>, m: &Match) {
    let (key, mask) = (&m.key, &m.mask);
    let tci = u16::from_be_bytes(key.vlan_tci);
    let tci_mask = u16::from_be_bytes(mask.vlan_tci);
    let no_tag = tci_mask & VLAN_CFI != 0 && tci & VLAN_CFI == 0;
    let wild = |zero: bool, bit: u32| if zero { bit } else { 0 };
    let host_bits = |m: [u8; 4]| 32 - u32::from_be_bytes(m).leading_ones();
    let mut w = wild(Field::InPort.mask(mask) == 0, w10::IN_PORT)
        | wild(mask.eth_type == [0; 2], w10::DL_TYPE)
        | wild(mask.nw_proto == 0, w10::NW_PROTO)
        | wild(mask.nw_tos & DSCP == 0, w10::NW_TOS)
        | wild(mask.tp_src == [0; 2], w10::TP_SRC)
        | wild(mask.tp_dst == [0; 2], w10::TP_DST)
        | wild(mask.eth_src == [0; 6], w10::DL_SRC)
        | wild(mask.eth_dst == [0; 6], w10::DL_DST)
        | host_bits(mask.nw_src) << w10::NW_SRC_SHIFT
        | host_bits(mask.nw_dst) << w10::NW_DST_SHIFT;
    let (mut dl_vlan, mut dl_vlan_pcp) = (0, 0);
    if no_tag {
        dl_vlan = VLAN_NONE;
    } else {
        w |= wild(tci_mask & VID == 0, w10::DL_VLAN) | wild(tci_mask & PCP == 0, w10::DL_VLAN_PCP);
        dl_vlan = if tci_mask & VID == 0 { dl_vlan } else { tci & VID };
        dl_vlan_pcp = if tci_mask & PCP == 0 { dl_vlan_pcp } else { (tci >> PCP_SHIFT).to_be_bytes()[1] };
    }
    out.u32(w);
    out.u16(Field::InPort.get(key).to_be_bytes()[14..].try_into().map_or(0, u16::from_be_bytes));
    out.bytes(&key.eth_src);
    out.bytes(&key.eth_dst);
    out.u16(dl_vlan);
    out.u8(dl_vlan_pcp);
    out.u8(0);
    out.bytes(&key.eth_type);
    out.u8(key.nw_tos & DSCP);
    out.u8(key.nw_proto);
    out.u16(0);
    out.bytes(&key.nw_src);
    out.bytes(&key.nw_dst);
    out.bytes(&key.tp_src);
    out.bytes(&key.tp_dst);
}

/// Whether OpenFlow 1.0's own form says all of the match. If not, Nicira's must be used.
#[must_use]
pub fn fits_openflow10(m: &Match) -> bool {
    let mask = &m.mask;
    let all_or_nothing = |bytes: &[u8]| bytes.iter().all(|b| *b == 0) || bytes.iter().all(|b| *b == 0xff);
    let cidr = |bytes: [u8; 4]| {
        let mask = u32::from_be_bytes(bytes);
        mask.leading_ones() == mask.count_ones()
    };
    let tci_mask = u16::from_be_bytes(mask.vlan_tci);
    let vlan = match tci_mask {
        0 => true,
        u16::MAX => true,
        _ if m.key.vlan_tci[0] & 0x10 != 0 => [VID | VLAN_CFI, PCP | VLAN_CFI].contains(&tci_mask),
        // No tag, and so no bits of one.
        _ => tci_mask & VLAN_CFI != 0 && m.key.vlan_tci == [0; 2],
    };
    let rest = Mask {
        in_port: [0; 4],
        eth_src: [0; 6],
        eth_dst: [0; 6],
        eth_type: [0; 2],
        vlan_tci: [0; 2],
        nw_tos: mask.nw_tos & !DSCP,
        nw_proto: 0,
        nw_src: [0; 4],
        nw_dst: [0; 4],
        tp_src: [0; 2],
        tp_dst: [0; 2],
        packet_type: if m.key.packet_type == [0; 4] { [0; 4] } else { mask.packet_type },
        ..*mask
    };
    let ipv6 = m.key.eth_type == [0x86, 0xdd];
    let network = (mask.nw_proto, mask.nw_tos, mask.nw_src, mask.nw_dst, mask.tp_src, mask.tp_dst);
    // Type and code have 8 of the 16 bits of a port.
    let icmp = m.key.eth_type == [8, 0] && m.key.nw_proto == 1;
    let port = |mask: [u8; 2]| all_or_nothing(&mask) || icmp && mask == [0, 0xff];
    rest == Mask::ZERO
        && vlan
        && (!ipv6 || network == (0, 0, [0; 4], [0; 4], [0; 2], [0; 2]))
        && cidr(mask.nw_src)
        && cidr(mask.nw_dst)
        && all_or_nothing(&mask.eth_src)
        && all_or_nothing(&mask.eth_dst)
        && port(mask.tp_src)
        && port(mask.tp_dst)
}

/// Reads a match of 1.1 whose header claims `length` bytes.
pub(crate) fn pull11(r: &mut Reader<'_>, length: u16) -> Result<Match, OfError> {
    let mut r = if usize::from(length) == BYTES11 {
        r.or(OfError::OfpbmcBadLen).sub(BYTES11).and_then(|b| r.skip(BYTES11).map(|()| b))?
    } else {
        return Err(OfError::OfpbmcBadLen);
    };
    r.skip(4)?;
    let raw = Raw11::read(&mut r)?;
    let mut m = Match::default();
    raw.link_layer(&mut m)?;
    raw.network_layer(&mut m)?;
    m.key.metadata = raw.metadata;
    m.mask.metadata = raw.metadata_mask.map(|b| !b);
    m.key = m.key.masked(&m.mask);
    Ok(m)
}

/// The fields of `ofp11_match` in its order.
struct Raw11 {
    in_port: u32,
    w: u32,
    eth: [[u8; 6]; 4],
    dl_vlan: u16,
    dl_vlan_pcp: u8,
    dl_type: [u8; 2],
    nw_tos: u8,
    nw_proto: u8,
    nw: [[u8; 4]; 4],
    tp_src: [u8; 2],
    tp_dst: [u8; 2],
    mpls_label: u32,
    mpls_tc: u8,
    metadata: [u8; 8],
    metadata_mask: [u8; 8],
}

impl Raw11 {
    fn read(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let (in_port, w) = (r.u32()?, r.u32()?);
        let eth = [r.array()?, r.array()?, r.array()?, r.array()?];
        let (dl_vlan, dl_vlan_pcp) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let (dl_type, nw_tos, nw_proto) = (r.array()?, r.u8()?, r.u8()?);
        let nw = [r.array()?, r.array()?, r.array()?, r.array()?];
        let (tp_src, tp_dst) = (r.array()?, r.array()?);
        let (mpls_label, mpls_tc) = (r.u32()?, r.u8()?);
        r.skip(3)?;
        let (metadata, metadata_mask) = (r.array()?, r.array()?);
        Ok(Self {
            in_port,
            w,
            eth,
            dl_vlan,
            dl_vlan_pcp,
            dl_type,
            nw_tos,
            nw_proto,
            nw,
            tp_src,
            tp_dst,
            mpls_label,
            mpls_tc,
            metadata,
            metadata_mask,
        })
    }

    fn exact(&self, bit: u32) -> bool {
        self.w & bit == 0
    }

    fn link_layer(&self, m: &mut Match) -> Result<(), OfError> {
        if self.exact(w11::IN_PORT) {
            let port = OfPort::from_wire32(self.in_port).map_err(|_| OfError::OfpbmcBadValue)?;
            set_port(&mut m.key, &mut m.mask, port);
        }
        let [src, src_wild, dst, dst_wild] = self.eth;
        m.key.eth_src = src;
        m.key.eth_dst = dst;
        m.mask.eth_src = src_wild.map(|b| !b);
        m.mask.eth_dst = dst_wild.map(|b| !b);
        let mut headers = m.mask.eth_src != [0; 6] || m.mask.eth_dst != [0; 6];
        if self.exact(w11::DL_VLAN) {
            let (mut tci, mut mask) = match self.dl_vlan {
                VLAN_NONE => (0, u16::MAX),
                VLAN_ANY => (VLAN_CFI, VLAN_CFI),
                vid if vid <= VID => (VLAN_CFI | vid, VLAN_CFI | VID),
                _ => return Err(OfError::OfpbmcBadValue),
            };
            if self.dl_vlan != VLAN_NONE && self.exact(w11::DL_VLAN_PCP) {
                if self.dl_vlan_pcp > 7 {
                    return Err(OfError::OfpbmcBadValue);
                }
                tci |= u16::from(self.dl_vlan_pcp) << PCP_SHIFT;
                mask |= PCP;
            }
            m.key.vlan_tci = tci.to_be_bytes();
            m.mask.vlan_tci = mask.to_be_bytes();
            headers = true;
        }
        if self.exact(w11::DL_TYPE) {
            m.key.eth_type = self.dl_type;
            m.mask.eth_type = [0xff; 2];
            headers = true;
        }
        if headers {
            default_packet_type(m);
        }
        Ok(())
    }

    fn network_layer(&self, m: &mut Match) -> Result<(), OfError> {
        let dl_type = if self.exact(w11::DL_TYPE) { self.dl_type } else { [0; 2] };
        let ipv4 = dl_type == ETH_IPV4;
        if ipv4 && self.exact(w11::NW_TOS) {
            if self.nw_tos & !DSCP != 0 {
                return Err(OfError::OfpbmcBadValue);
            }
            (m.key.nw_tos, m.mask.nw_tos) = (self.nw_tos, DSCP);
        }
        if ipv4 || matches!(dl_type, ETH_ARP | ETH_RARP) {
            if self.exact(w11::NW_PROTO) {
                (m.key.nw_proto, m.mask.nw_proto) = (self.nw_proto, 0xff);
            }
            let [src, src_wild, dst, dst_wild] = self.nw;
            (m.key.nw_src, m.key.nw_dst) = (src, dst);
            m.mask.nw_src = src_wild.map(|b| !b);
            m.mask.nw_dst = dst_wild.map(|b| !b);
        }
        let proto = m.key.nw_proto & m.mask.nw_proto;
        if ipv4 && matches!(proto, PROTO_ICMP | 6 | 17 | 132) {
            // ICMP type and code have eight bits where ports have sixteen.
            let too_wide = |bit, port: [u8; 2]| proto == PROTO_ICMP && self.exact(bit) && port[0] != 0;
            if too_wide(w11::TP_SRC, self.tp_src) || too_wide(w11::TP_DST, self.tp_dst) {
                return Err(OfError::OfpbmcBadField);
            }
            if self.exact(w11::TP_SRC) {
                (m.key.tp_src, m.mask.tp_src) = (self.tp_src, [0xff; 2]);
            }
            if self.exact(w11::TP_DST) {
                (m.key.tp_dst, m.mask.tp_dst) = (self.tp_dst, [0xff; 2]);
            }
        }
        if matches!(dl_type, [0x88, 0x47 | 0x48]) {
            if self.exact(w11::MPLS_LABEL) {
                Field::MplsLabel.set(&mut m.key, u128::from(self.mpls_label));
                Field::MplsLabel.set_mask(&mut m.mask, Field::MplsLabel.exact());
            }
            if self.exact(w11::MPLS_TC) {
                Field::MplsTc.set(&mut m.key, u128::from(self.mpls_tc));
                Field::MplsTc.set_mask(&mut m.mask, Field::MplsTc.exact());
            }
        }
        Ok(())
    }
}

/// Appends a match in the form of 1.1. What the form cannot say is left out.
pub(crate) fn put11(out: &mut Vec<u8>, m: &Match) {
    let (key, mask) = (&m.key, &m.mask);
    let tci = u16::from_be_bytes(key.vlan_tci);
    let tci_mask = u16::from_be_bytes(mask.vlan_tci);
    let label = Field::MplsLabel.mask(mask) != 0;
    let tc = Field::MplsTc.mask(mask) != 0;
    let in_port = Field::InPort.mask(mask) != 0;
    let wild = |said: bool, bit: u32| if said { 0 } else { bit };
    let no_tag = tci_mask & VLAN_CFI != 0 && tci & VLAN_CFI == 0;
    let w = wild(in_port, w11::IN_PORT)
        | wild(tci_mask != 0, w11::DL_VLAN)
        | wild(tci_mask & PCP != 0 && !no_tag, w11::DL_VLAN_PCP)
        | wild(mask.eth_type != [0; 2], w11::DL_TYPE)
        | wild(mask.nw_tos & DSCP != 0, w11::NW_TOS)
        | wild(mask.nw_proto != 0, w11::NW_PROTO)
        | wild(mask.tp_src != [0; 2], w11::TP_SRC)
        | wild(mask.tp_dst != [0; 2], w11::TP_DST)
        | wild(label, w11::MPLS_LABEL)
        | wild(tc, w11::MPLS_TC);
    let dl_vlan = match tci_mask {
        0 => 0,
        _ if no_tag => VLAN_NONE,
        mask if mask & VID == 0 => VLAN_ANY,
        _ => tci & VID,
    };
    let port = if in_port { Field::InPortOxm.get(key) } else { 0 };
    out.u16(super::TYPE_STANDARD);
    out.u16(crate::wire::bytes::len16(BYTES11));
    out.bytes(&port.to_be_bytes()[12..]);
    out.u32(w);
    out.bytes(&key.eth_src);
    out.bytes(&mask.eth_src.map(|b| !b));
    out.bytes(&key.eth_dst);
    out.bytes(&mask.eth_dst.map(|b| !b));
    out.u16(dl_vlan);
    out.u8(if tci_mask & PCP != 0 && !no_tag { (tci >> PCP_SHIFT).to_be_bytes()[1] } else { 0 });
    out.u8(0);
    out.bytes(&key.eth_type);
    out.u8(key.nw_tos & DSCP & mask.nw_tos);
    out.u8(key.nw_proto);
    out.bytes(&key.nw_src);
    out.bytes(&mask.nw_src.map(|b| !b));
    out.bytes(&key.nw_dst);
    out.bytes(&mask.nw_dst.map(|b| !b));
    out.bytes(&key.tp_src);
    out.bytes(&key.tp_dst);
    out.bytes(&Field::MplsLabel.get(key).to_be_bytes()[12..]);
    out.bytes(&Field::MplsTc.get(key).to_be_bytes()[15..]);
    out.zeros(3);
    out.bytes(&key.metadata);
    out.bytes(&mask.metadata.map(|b| !b));
}
