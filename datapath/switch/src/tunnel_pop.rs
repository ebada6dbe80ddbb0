//! Decapsulation (`tnl_pop`): the outer header comes off, and what it said goes into the key.
//!
//! What enters: packets whose outer headers were extracted, and what kind of tunnel the port is. What leaves: the inner packets with
//! keys of their own, tunnel fields filled; or the reason to drop. Neighbours: `execute` (rounds), `tunnel_common` (what is common, a batch at a
//! time), `tunnel` (the other way).
//!
//! Nothing is believed: lengths, versions and checksums are checked as far as nobody below has done so. A GSO frame comes from a kernel
//! that encapsulated it whole; its outer lengths and checksums are not final and are not looked at, its pieces will have right ones.

use crate::parsed::Parsed;
use flow::checksum;
use flow::extract::{NO_OFFSET, PacketMeta};
use flow::key::{Lines, TUN_CSUM, TUN_KEY, TUN_METADATA_BYTES, TUN_OAM};
use flow::seam::PortRequest;
use flow::wire::{Geneve, Gre, Ipv4, Ipv6, Udp, Vxlan, eth_type, ip_proto};
use port::{Checksum, GsoKind, Packet};
use zerocopy::FromBytes;

const GRE_CSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQ: u16 = 0x1000;
const ERSPAN_V1: u16 = 0x88be;
const ERSPAN_V2: u16 = 0x22eb;
const VXLAN_VNI: u32 = 0x0800_0000;
const VXLAN_GPE: u32 = 0x0400_0000;
/// Next protocol, version and OAM bits of VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe).
const VXLAN_GPE_BITS: u32 = 0x3500_00ff;
const VXLAN_OAM: u32 = 0x0100_0000;
/// Group policy (draft-smith-vxlan-group-policy): present, and the bits that OpenFlow sees.
const VXLAN_GBP: u32 = 0x8000_0000;
const VXLAN_GBP_BITS: u32 = 0x8048_ffff;
const GTPU_USER_DATA: u8 = 255;
/// Sequence number, N-PDU number or extension header present: four bytes more (3GPP TS 29.281 section 5.1).
const GTPU_OPTIONAL: u8 = 0x07;
const PT_ETHERNET: u32 = 0;
/// OFPHTN_ETHERTYPE
const NS_ETH_TYPE: u32 = 0x0001_0000;
/// Lines of a key that hold tunnel fields of fixed size, and options.
pub(crate) const FIXED_LINES: Lines = Lines(0b1_1000);
const OPTION_LINES: u16 = 0b1_1110_0000;

/// What a tunnel port takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decap {
    Vxlan {
        gbp: bool,
    },
    Geneve,
    Gre,
    Erspan,
    Gtpu,
    Bareudp {
        payload: u16,
    },
    Srv6,
    /// Packets of this kind cannot be decapsulated here.
    None,
}

impl Decap {
    /// By interface type; `None` if that is no tunnel.
    #[must_use]
    pub fn of(request: &PortRequest) -> Option<Self> {
        let option = |key: &str| request.options.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        Some(match request.kind.as_str() {
            "vxlan" => Self::Vxlan { gbp: option("exts").is_some_and(|e| e.split(',').any(|e| e == "gbp")) },
            "geneve" => Self::Geneve,
            "gre" | "ip6gre" => Self::Gre,
            "erspan" | "ip6erspan" => Self::Erspan,
            "gtpu" => Self::Gtpu,
            "bareudp" => Self::Bareudp { payload: option("payload_type").and_then(|t| t.parse().ok()).unwrap_or(0) },
            "srv6" => Self::Srv6,
            "lisp" | "stt" => Self::None,
            _ => return None,
        })
    }
}

/// What an outer header said, and where the inner packet begins.
#[derive(Clone, Copy, Default)]
struct Outer {
    v6: bool,
    src: [u8; 16],
    dst: [u8; 16],
    tos: u8,
    ttl: u8,
    flags: u16,
    id: u64,
    tp_src: [u8; 2],
    tp_dst: [u8; 2],
    gbp_id: [u8; 2],
    gbp_flags: u8,
    erspan: (u8, [u8; 4], u8, u8),
    gtpu: (u8, u8),
    options: usize,
    packet_type: u32,
    /// Offset of the inner packet.
    inner: usize,
    /// Offset of the outer packet's end, by what it says itself.
    ip_end: usize,
    /// Offset of the inner packet's end.
    end: usize,
}

/// Takes the outer header of one packet off; `meta` is what is known of the inner one besides. `None`: it is to be dropped.
pub fn pop(packet: &mut Packet, parsed: &mut Parsed, decap: Decap, meta: &PacketMeta<'_>) -> Option<()> {
    let is_whole = packet.gso().kind != GsoKind::None;
    let partial = matches!(packet.checksum(), Checksum::Partial { .. });
    let trusted = is_whole || partial || packet.checksum() == Checksum::Good;
    let at = Place { l3: offset(parsed.found.l3)?, l4: offset(parsed.found.l4)?, trusted, whole: is_whole };
    let outer = read(packet.data(), &at, decap, &mut parsed.key.tun_metadata)?;
    packet.truncate(outer.end);
    if !packet.pull_front(outer.inner) {
        return None;
    }
    if !partial || is_outer_checksum(packet) {
        packet.set_checksum(Checksum::Unknown);
    }
    let meta = PacketMeta { packet_type: outer.packet_type, ..*meta };
    let options = outer.options;
    parsed.read(packet.data(), &meta);
    parsed.ensure(FIXED_LINES);
    if options > 0 {
        parsed.key.tun_metadata[options..].fill(0);
        parsed.found.lines.0 |= OPTION_LINES;
    }
    tell(&outer, parsed);
    Some(())
}

fn offset(at: u16) -> Option<usize> {
    (at != NO_OFFSET).then_some(usize::from(at))
}

/// A partial checksum that concerned the outer header is gone with it (its start lies before the packet now).
fn is_outer_checksum(packet: &Packet) -> bool {
    match packet.checksum() {
        Checksum::Partial { start, .. } => start as usize >= packet.len(),
        Checksum::Good | Checksum::Unknown => false,
    }
}

/// Puts what the outer header said into the key.
fn tell(outer: &Outer, parsed: &mut Parsed) {
    let key = &mut parsed.key;
    key.tun_id = outer.id.to_be_bytes();
    if outer.v6 {
        (key.tun_ipv6_src, key.tun_ipv6_dst) = (outer.src, outer.dst);
    } else {
        key.tun_src.copy_from_slice(&outer.src[..4]);
        key.tun_dst.copy_from_slice(&outer.dst[..4]);
    }
    (key.tun_tos, key.tun_ttl) = (outer.tos, outer.ttl);
    key.tun_flags = outer.flags.to_be_bytes();
    (key.tun_tp_src, key.tun_tp_dst) = (outer.tp_src, outer.tp_dst);
    (key.tun_gbp_id, key.tun_gbp_flags) = (outer.gbp_id, outer.gbp_flags);
    (key.tun_erspan_ver, key.tun_erspan_idx, key.tun_erspan_dir, key.tun_erspan_hwid) = outer.erspan;
    (key.tun_gtpu_flags, key.tun_gtpu_msgtype) = outer.gtpu;
    key.tun_metadata_present = (outer.options as u64).to_be_bytes();
}

/// Where the outer headers lie, and how far they are to be believed.
struct Place {
    l3: usize,
    l4: usize,
    /// Somebody has verified the checksums, or they are not there yet.
    trusted: bool,
    /// A GSO frame: lengths are not final.
    whole: bool,
}

fn read(bytes: &[u8], at: &Place, decap: Decap, options: &mut [u8; TUN_METADATA_BYTES]) -> Option<Outer> {
    let mut outer = Outer::default();
    let proto = read_ip(bytes, at, &mut outer)?;
    let l4 = bytes.get(at.l4..outer.ip_end)?;
    // Only a frame of the least length may be padded (IEEE 802.3 section 4.2.3.3). What stands behind a longer one's IP packet stays, as
    // in OVS.
    outer.end = if bytes.len() <= FRAME_MIN { outer.ip_end } else { bytes.len() };
    match (decap, proto) {
        (Decap::Vxlan { gbp }, ip_proto::UDP) => vxlan(read_udp(l4, at, &mut outer)?, gbp, &mut outer)?,
        (Decap::Geneve, ip_proto::UDP) => geneve(read_udp(l4, at, &mut outer)?, options, &mut outer)?,
        (Decap::Gtpu, ip_proto::UDP) => gtpu(read_udp(l4, at, &mut outer)?, &mut outer)?,
        (Decap::Bareudp { payload }, ip_proto::UDP) => bareudp(read_udp(l4, at, &mut outer)?, payload, &mut outer)?,
        (Decap::Gre, ip_proto::GRE) => gre(l4, at, &mut outer)?,
        (Decap::Erspan, ip_proto::GRE) => erspan(l4, &mut outer)?,
        (Decap::Srv6, IPIP) => packet_of(eth_type::IPV4, 0, &mut outer),
        (Decap::Srv6, IPV6_IN_IPV6) => packet_of(eth_type::IPV6, 0, &mut outer),
        _ => return None,
    }
    // Parsers count from the layer-4 header.
    if outer.inner == ORIGINAL {
        outer.inner = 0;
    } else {
        outer.inner += at.l4;
    }
    (outer.inner <= outer.ip_end).then_some(outer)
}

/// Bytes of the shortest frame on a wire, without its checksum.
pub(crate) const FRAME_MIN: usize = 60;
const IPIP: u8 = 4;
const IPV6_IN_IPV6: u8 = 41;
/// Says that the packet stays as it is, outer header included.
const ORIGINAL: usize = usize::MAX;

/// The outer IP header: addresses, length, protocol.
fn read_ip(bytes: &[u8], at: &Place, outer: &mut Outer) -> Option<u8> {
    let l3 = bytes.get(at.l3..)?;
    if l3.first()? >> 4 == 4 {
        let (ip, _) = Ipv4::ref_from_prefix(l3).ok()?;
        // Options are not taken (OVS neither); fragments cannot be.
        let plain = ip.version_ihl == 0x45 && u16::from_be_bytes(ip.frag) & 0x3fff == 0;
        if !plain || !at.trusted && checksum::checksum(&l3[..size_of::<Ipv4>()]) != [0, 0] {
            return None;
        }
        outer.ip_end = end(at, bytes.len(), u16::from_be_bytes(ip.total_len).into())?;
        outer.src[..4].copy_from_slice(&ip.src);
        outer.dst[..4].copy_from_slice(&ip.dst);
        (outer.tos, outer.ttl) = (ip.tos, ip.ttl);
        return Some(ip.proto);
    }
    let (ip, rest) = Ipv6::ref_from_prefix(l3).ok()?;
    let [a, b, ..] = ip.version_class_label;
    outer.v6 = true;
    outer.ip_end = end(at, bytes.len(), usize::from(u16::from_be_bytes(ip.payload_len)) + size_of::<Ipv6>())?;
    (outer.src, outer.dst) = (ip.src, ip.dst);
    (outer.tos, outer.ttl) = (a << 4 | b >> 4, ip.hop_limit);
    last_header(ip.next, rest)
}

/// The protocol after extension headers. A routing header must have been followed to its end (RFC 8754 section 4.3.1.1).
fn last_header(mut next: u8, mut rest: &[u8]) -> Option<u8> {
    while matches!(next, ip_proto::HOP_BY_HOP | ip_proto::ROUTING | ip_proto::DEST_OPTIONS) {
        let [then, len, _, left, ..] = *rest.first_chunk::<8>()?;
        if next == ip_proto::ROUTING && left != 0 {
            return None;
        }
        rest = rest.get((usize::from(len) + 1) * 8..)?;
        next = then;
    }
    Some(next)
}

fn end(at: &Place, have: usize, ip_bytes: usize) -> Option<usize> {
    if at.whole {
        return Some(have);
    }
    Some(at.l3 + ip_bytes).filter(|end| *end <= have)
}

/// The UDP header; gives what follows it.
fn read_udp<'b>(l4: &'b [u8], at: &Place, outer: &mut Outer) -> Option<&'b [u8]> {
    let (udp, rest) = Udp::ref_from_prefix(l4).ok()?;
    (outer.tp_src, outer.tp_dst) = (udp.src, udp.dst);
    if udp.checksum != [0; 2] {
        if !at.trusted && !has_right_sum(outer, l4) {
            return None;
        }
        outer.flags |= TUN_CSUM;
    }
    Some(rest)
}

fn has_right_sum(outer: &Outer, l4: &[u8]) -> bool {
    let sum = if outer.v6 {
        checksum::pseudo6(&outer.src, &outer.dst, ip_proto::UDP, l4.len())
    } else {
        let four = |a: &[u8; 16]| [a[0], a[1], a[2], a[3]];
        checksum::pseudo4(four(&outer.src), four(&outer.dst), ip_proto::UDP, l4.len())
    };
    sum.plus(l4).finish() == [0, 0]
}

fn id24([a, b, c]: [u8; 3]) -> u64 {
    u32::from_be_bytes([0, a, b, c]).into()
}

fn frame(inner: usize, outer: &mut Outer) {
    (outer.packet_type, outer.inner) = (PT_ETHERNET, inner);
}

fn packet_of(ty: u16, inner: usize, outer: &mut Outer) {
    (outer.packet_type, outer.inner) = (NS_ETH_TYPE | u32::from(ty), inner);
}

fn vxlan(bytes: &[u8], gbp: bool, outer: &mut Outer) -> Option<()> {
    const INNER: usize = size_of::<Udp>() + size_of::<Vxlan>();
    let (header, _) = Vxlan::ref_from_prefix(bytes).ok()?;
    let mut flags = u32::from_be_bytes(header.flags);
    frame(INNER, outer);
    if flags & VXLAN_GPE != 0 {
        if flags & VXLAN_OAM != 0 {
            return None;
        }
        match flags & 0xff {
            1 => packet_of(eth_type::IPV4, INNER, outer),
            2 => packet_of(eth_type::IPV6, INNER, outer),
            3 => {}
            4 => packet_of(eth_type::NSH, INNER, outer),
            _ => return None,
        }
        flags &= !VXLAN_GPE_BITS;
    } else if gbp && flags & VXLAN_GBP != 0 {
        let [_, bits, id @ ..] = header.flags;
        (outer.gbp_id, outer.gbp_flags) = (id, bits & 0x48);
        flags &= !VXLAN_GBP_BITS;
    }
    if flags != VXLAN_VNI || header.reserved != 0 {
        return None;
    }
    outer.id = id24(header.vni);
    outer.flags |= TUN_KEY;
    Some(())
}

fn geneve(bytes: &[u8], options: &mut [u8; TUN_METADATA_BYTES], outer: &mut Outer) -> Option<()> {
    let (header, rest) = Geneve::ref_from_prefix(bytes).ok()?;
    let len = usize::from(header.version_len & 0x3f) * 4;
    if header.version_len >> 6 != 0 || u16::from_be_bytes(header.protocol) != eth_type::TEB {
        return None;
    }
    options.get_mut(..len)?.copy_from_slice(rest.get(..len)?);
    outer.options = len;
    outer.id = id24(header.vni);
    outer.flags |= TUN_KEY | if header.flags & 0x80 != 0 { TUN_OAM } else { 0 };
    frame(size_of::<Udp>() + size_of::<Geneve>() + len, outer);
    Some(())
}

fn gtpu(bytes: &[u8], outer: &mut Outer) -> Option<()> {
    const HEADER: usize = 8;
    let [flags, kind, _, _, a, b, c, d] = *bytes.first_chunk::<HEADER>()?;
    outer.gtpu = (flags, kind);
    outer.id = u32::from_be_bytes([a, b, c, d]).into();
    if kind != GTPU_USER_DATA {
        // Echo requests and the like are for whoever speaks GTP: they stay whole.
        (outer.packet_type, outer.inner) = (PT_ETHERNET, ORIGINAL);
        return Some(());
    }
    let at = if flags & GTPU_OPTIONAL == 0 { HEADER } else { gtpu_extensions(bytes, flags)? };
    let ty = match bytes.get(at)? >> 4 {
        4 => eth_type::IPV4,
        6 => eth_type::IPV6,
        _ => return None,
    };
    packet_of(ty, size_of::<Udp>() + at, outer);
    Some(())
}

/// Where the payload begins behind optional fields and extension headers (3GPP TS 29.281 section 5.2.1).
fn gtpu_extensions(bytes: &[u8], flags: u8) -> Option<usize> {
    const OPTIONAL_END: usize = 12;
    const HAS_EXTENSION: u8 = 0x04;
    let mut at = OPTIONAL_END;
    let mut next = *bytes.get(OPTIONAL_END - 1)?;
    while flags & HAS_EXTENSION != 0 && next != 0 {
        let len = usize::from(*bytes.get(at)?) * 4;
        if len == 0 {
            return None;
        }
        at += len;
        next = *bytes.get(at - 1)?;
    }
    Some(at)
}

fn bareudp(bytes: &[u8], payload: u16, outer: &mut Outer) -> Option<()> {
    let ty = match (payload, bytes.first()? >> 4) {
        (eth_type::IPV4, 6) => eth_type::IPV6,
        (eth_type::IPV4, 4) => eth_type::IPV4,
        (eth_type::IPV4, _) => return None,
        (ty, _) => ty,
    };
    packet_of(ty, size_of::<Udp>(), outer);
    Some(())
}

fn gre(l4: &[u8], at: &Place, outer: &mut Outer) -> Option<()> {
    let (header, mut rest) = Gre::ref_from_prefix(l4).ok()?;
    let flags = u16::from_be_bytes(header.flags);
    if flags & !(GRE_CSUM | GRE_KEY | GRE_SEQ) != 0 {
        return None;
    }
    let mut inner = size_of::<Gre>();
    let mut word = || {
        let (word, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        inner += word.len();
        Some(*word)
    };
    if flags & GRE_CSUM != 0 {
        word()?;
        if !at.trusted && checksum::checksum(l4) != [0, 0] {
            return None;
        }
        outer.flags |= TUN_CSUM;
    }
    if flags & GRE_KEY != 0 {
        outer.id = u32::from_be_bytes(word()?).into();
        outer.flags |= TUN_KEY;
    }
    if flags & GRE_SEQ != 0 {
        word()?;
    }
    match u16::from_be_bytes(header.protocol) {
        eth_type::TEB => frame(inner, outer),
        ty if ty >= eth_type::MIN => packet_of(ty, inner, outer),
        _ => return None,
    }
    Some(())
}

fn erspan(l4: &[u8], outer: &mut Outer) -> Option<()> {
    const BASE: usize = size_of::<Gre>() + 4;
    let (header, _) = Gre::ref_from_prefix(l4).ok()?;
    let known = matches!(u16::from_be_bytes(header.protocol), ERSPAN_V1 | ERSPAN_V2);
    if !known || u16::from_be_bytes(header.flags) != GRE_SEQ {
        return None;
    }
    let [version, _, high, low] = *l4.get(BASE..)?.first_chunk::<4>()?;
    outer.id = u16::from_be_bytes([high & 3, low]).into();
    outer.flags |= TUN_KEY;
    match version >> 4 {
        1 => {
            let index = *l4.get(BASE + 4..)?.first_chunk::<4>()?;
            outer.erspan = (1, index, 0, 0);
            frame(BASE + 8, outer);
        }
        2 => {
            let [.., high, low] = *l4.get(BASE + 4..)?.first_chunk::<8>()?;
            outer.erspan = (2, [0; 4], low >> 3 & 1, (high & 3) << 4 | low >> 4);
            frame(BASE + 12, outer);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
#[path = "tunnel_pop_tests.rs"]
mod tests;
