//! The inverse of extraction: a packet that has a given key.
//!
//! What enters: a key whose fields fit together (an IPv6 address without its Ethernet type is silently left out) and how much
//! payload is wanted. What leaves: bytes with right lengths and checksums, the same that Open vSwitch makes for
//! `netdev-dummy/receive`, `ofproto/trace --generate` and `ovs-ofctl compose-packet` wherever it makes any; beyond that, NSH,
//! IPv6 extension headers, packets without Ethernet and SCTP checksums. Of extension headers those come out that can stand in the order of
//! RFC 8200 section 4.1; what repeats or breaks it is not made up. Neighbours: `extract`, `wire`, `checksum`.

use crate::checksum::{self, Sum};
use crate::exthdr;
use crate::fields::Field;
use crate::key::{FRAG_ANY, FRAG_LATER, Key, MPLS_LABELS_MAX, VLAN_CFI};
use crate::wire::{
    self, Arp, ITag, Icmp, Icmpv6, Igmp, Ipv4, Ipv6, Ipv6Frag, NdOption, NdTarget, Nsh, NshContext, Sctp, Tcp, Udp,
};
use crate::wire::{eth_type, ip_proto};
use core::mem::offset_of;
use zerocopy::IntoBytes;

/// What stands behind the headers that can bear a payload.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// That many bytes 0, 1, 2, ...
    Len(usize),
    Bytes(&'a [u8]),
    /// Zeroes up to a frame of that many bytes; `compose` gives a longer one when the headers alone need more.
    FrameLen(usize),
}

/// Payload that Open vSwitch's tools give a packet when none is asked for.
pub const DEFAULT_PAYLOAD: Payload<'static> = Payload::Len(64);

/// TCP flags SYN, FIN and RST: such segments get no payload.
const TCP_BARE: u8 = 0x07;
/// The fragment offset, in units of 8 bytes, that stands for "some later fragment".
const LATER_OFFSET: u16 = 100;

/// Makes a packet whose key is `key` in all that a packet can express.
#[must_use]
pub fn compose(key: &Key, payload: Payload<'_>) -> Vec<u8> {
    let mut p = Vec::with_capacity(128);
    if key.packet_type == [0; 4] {
        ethernet(key, &mut p);
    }
    let l3 = p.len();
    match u16::from_be_bytes(key.eth_type) {
        eth_type::IPV4 => ipv4(key, payload, &mut p),
        eth_type::IPV6 => ipv6(key, payload, &mut p),
        eth_type::ARP | eth_type::RARP => p.extend(arp(key).as_bytes()),
        eth_type::MPLS | eth_type::MPLS_MULTICAST => mpls(key, &mut p),
        eth_type::NSH => nsh(key, &mut p),
        eth_type::PBB => p.extend(ITag { tci: key.nw_src, ..ITag::default() }.as_bytes()),
        _ => {}
    }
    if let Payload::FrameLen(bytes) = payload
        && p.len() < bytes
    {
        p.resize(bytes, 0);
    }
    if u16::from_be_bytes(key.eth_type) == eth_type::NONE && l3 >= 2 {
        // Below 0x600 the type is a length (IEEE 802.3, 3.2.6); Open vSwitch counts the whole frame.
        let length = u16::try_from(p.len()).unwrap_or(u16::MAX).min(eth_type::MIN - 1);
        p[l3 - 2..l3].copy_from_slice(&length.to_be_bytes());
    }
    p
}

fn ethernet(key: &Key, p: &mut Vec<u8>) {
    p.extend(key.eth_dst);
    p.extend(key.eth_src);
    for (tpid, tci) in [(key.vlan_tpid, key.vlan_tci), (key.vlan2_tpid, key.vlan2_tci)] {
        let tci = u16::from_be_bytes(tci);
        if tci & VLAN_CFI != 0 {
            p.extend(if tpid == [0, 0] { eth_type::VLAN.to_be_bytes() } else { tpid });
            p.extend((tci & !VLAN_CFI).to_be_bytes());
        }
    }
    p.extend(key.eth_type);
}

fn arp(key: &Key) -> Arp {
    Arp {
        hardware: [0, 1],
        protocol: eth_type::IPV4.to_be_bytes(),
        hardware_len: 6,
        protocol_len: 4,
        op: [0, key.nw_proto],
        sha: key.arp_sha,
        spa: key.nw_src,
        tha: key.arp_tha,
        tpa: key.nw_dst,
    }
}

fn mpls(key: &Key, p: &mut Vec<u8>) {
    for lse in [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2].iter().take(MPLS_LABELS_MAX) {
        p.extend(lse);
        if u32::from_be_bytes(*lse) & wire::MPLS_BOS != 0 {
            return;
        }
    }
}

fn nsh(key: &Key, p: &mut Vec<u8>) {
    let md1 = key.nsh_mdtype == wire::NSH_MD1;
    let words: u16 = if md1 { 6 } else { 2 };
    let head = u16::from(key.nsh_flags & 3) << 12 | u16::from(key.nsh_ttl & 0x3f) << 6 | words;
    let base = Nsh { version_ttl_len: head.to_be_bytes(), mdtype: key.nsh_mdtype, next: key.nsh_np, path: key.nsh_path };
    p.extend(base.as_bytes());
    if md1 {
        p.extend(NshContext { c1: key.nsh_c1, c2: key.nsh_c2, c3: key.nsh_c3, c4: key.nsh_c4 }.as_bytes());
    }
}

fn ipv4(key: &Key, payload: Payload<'_>, p: &mut Vec<u8>) {
    let l3 = p.len();
    let mut frag = 0;
    if key.nw_frag & FRAG_ANY != 0 {
        // Open vSwitch's two values: "more fragments", and the same with an offset.
        frag = 0x2000 | if key.nw_frag & FRAG_LATER != 0 { LATER_OFFSET } else { 0 };
    }
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: key.nw_tos,
        frag: frag.to_be_bytes(),
        ttl: key.nw_ttl,
        proto: key.nw_proto,
        src: key.nw_src,
        dst: key.nw_dst,
        ..Ipv4::default()
    };
    p.extend(ip.as_bytes());
    transport(key, payload, p, l3 + size_of::<Ipv4>(), |len| checksum::pseudo4(key.nw_src, key.nw_dst, key.nw_proto, len));
    ip.total_len = length(p.len() - l3);
    ip.checksum = checksum::checksum(ip.as_bytes());
    p[l3..l3 + size_of::<Ipv4>()].copy_from_slice(ip.as_bytes());
}

fn ipv6(key: &Key, payload: Payload<'_>, p: &mut Vec<u8>) {
    let l3 = p.len();
    let label = u32::from_be_bytes(key.flow_label());
    let later = key.nw_frag & FRAG_LATER != 0;
    // A later fragment's key has the fragment header as its protocol; what would follow is not known.
    let inner = if later { ip_proto::NONE } else { key.nw_proto };
    let chain = extensions(key);
    let mut ip = Ipv6 {
        version_class_label: (6 << 28 | u32::from(key.nw_tos) << 20 | label).to_be_bytes(),
        payload_len: [0; 2],
        next: chain.first().copied().unwrap_or(inner),
        hop_limit: key.nw_ttl,
        src: key.ipv6_src,
        dst: key.ipv6_dst,
    };
    p.extend(ip.as_bytes());
    for (n, header) in chain.iter().enumerate() {
        extension(key, *header, chain.get(n + 1).copied().unwrap_or(inner), p);
    }
    let l4 = p.len();
    transport(key, payload, p, l4, |len| checksum::pseudo6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, len));
    ip.payload_len = length(p.len() - l3 - size_of::<Ipv6>());
    p[l3..l3 + size_of::<Ipv6>()].copy_from_slice(ip.as_bytes());
}

/// The extension headers of a packet, in their order; those that the key has for its protocol follow them.
fn extensions(key: &Key) -> Vec<u8> {
    let bits = Field::Ipv6Exthdr.get(key);
    let has = |bit: u16| bits & u128::from(bit) != 0;
    let later = key.nw_frag & FRAG_LATER != 0;
    let order = [
        (ip_proto::HOP_BY_HOP, has(exthdr::HOP)),
        (ip_proto::DEST_OPTIONS, has(exthdr::DEST)),
        (ip_proto::ROUTING, has(exthdr::ROUTER)),
        (ip_proto::FRAGMENT, has(exthdr::FRAG) || key.nw_frag & FRAG_ANY != 0),
        // Nothing is known of what follows in a later fragment.
        (ip_proto::AH, has(exthdr::AUTH) && !later),
    ];
    order.into_iter().filter(|(_, there)| *there).map(|(header, _)| header).collect()
}

/// Appends one extension header, as short as it can be and without meaning.
fn extension(key: &Key, header: u8, next: u8, p: &mut Vec<u8>) {
    /// Options: PadN over four bytes (RFC 8200 section 4.2).
    const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
    /// Routing: a type for experiments (RFC 4727), no segments left.
    const ARRIVED: [u8; 6] = [253, 0, 0, 0, 0, 0];
    match header {
        ip_proto::FRAGMENT => {
            let offset = if key.nw_frag & FRAG_LATER != 0 { LATER_OFFSET << 3 } else { 0 };
            let more = u16::from(key.nw_frag & FRAG_ANY != 0);
            p.extend(Ipv6Frag { next, offset_more: (offset | more).to_be_bytes(), ..Ipv6Frag::default() }.as_bytes());
        }
        // Length in words of 32 bits, less two (RFC 4302 section 2.2); index and sequence number are nought.
        ip_proto::AH => p.extend([next, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ip_proto::ROUTING => p.extend([&[next, 0][..], &ARRIVED].concat()),
        _ => p.extend([&[next, 0][..], &PADDING].concat()),
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// The transport header at `l4`, its payload and checksum. `pseudo` gives the pseudo header's sum for a length.
fn transport(key: &Key, payload: Payload<'_>, p: &mut Vec<u8>, l4: usize, pseudo: impl Fn(usize) -> Sum) {
    if key.nw_frag & FRAG_LATER != 0 {
        fill(payload, false, p);
        return;
    }
    let (kind, code) = (key.tp_src[1], key.tp_dst[1]);
    let bears = match key.nw_proto {
        ip_proto::TCP => {
            let offset_flags = [0x50 | key.tcp_flags[0] & 15, key.tcp_flags[1]];
            p.extend(Tcp { src: key.tp_src, dst: key.tp_dst, offset_flags, ..Tcp::default() }.as_bytes());
            key.tcp_flags[1] & TCP_BARE == 0
        }
        ip_proto::UDP => {
            p.extend(Udp { src: key.tp_src, dst: key.tp_dst, ..Udp::default() }.as_bytes());
            true
        }
        ip_proto::SCTP => {
            p.extend(Sctp { src: key.tp_src, dst: key.tp_dst, ..Sctp::default() }.as_bytes());
            false
        }
        ip_proto::ICMP => {
            p.extend(Icmp { kind, code, ..Icmp::default() }.as_bytes());
            matches!((kind, code), (0 | 8, 0))
        }
        ip_proto::IGMP => {
            p.extend(Igmp { kind, code, group: key.nd_reserved, ..Igmp::default() }.as_bytes());
            false
        }
        ip_proto::ICMPV6 => icmpv6(key, p),
        _ => return fill(payload, false, p),
    };
    fill(payload, bears, p);
    let length_of_l4 = p.len() - l4;
    let at = |field: usize| l4 + field..l4 + field + 2;
    match key.nw_proto {
        ip_proto::TCP => {
            let sum = pseudo(length_of_l4).plus(&p[l4..]).finish();
            p[at(offset_of!(Tcp, checksum))].copy_from_slice(&sum);
        }
        ip_proto::UDP => {
            p[at(offset_of!(Udp, len))].copy_from_slice(&length(length_of_l4));
            let sum = pseudo(length_of_l4).plus(&p[l4..]).finish_udp();
            p[at(offset_of!(Udp, checksum))].copy_from_slice(&sum);
        }
        ip_proto::SCTP => {
            let crc = checksum::crc32c(&[&p[l4..]]).to_le_bytes();
            p[l4 + offset_of!(Sctp, checksum)..][..4].copy_from_slice(&crc);
        }
        ip_proto::ICMPV6 => {
            let sum = pseudo(length_of_l4).plus(&p[l4..]).finish();
            p[at(offset_of!(Icmpv6, checksum))].copy_from_slice(&sum);
        }
        _ => {
            let sum = checksum::checksum(&p[l4..]);
            p[at(offset_of!(Icmp, checksum))].copy_from_slice(&sum);
        }
    }
}

/// Appends the header, for neighbour discovery with target and options; says whether a payload may follow.
fn icmpv6(key: &Key, p: &mut Vec<u8>) -> bool {
    let (kind, code) = (key.tp_src[1], key.tp_dst[1]);
    p.extend(Icmpv6 { kind, code, rest: key.nd_reserved, ..Icmpv6::default() }.as_bytes());
    if code != 0 {
        return false;
    }
    if kind == wire::ND_SOLICIT || kind == wire::ND_ADVERT {
        p.extend(NdTarget { target: key.nd_target }.as_bytes());
        let mut options = [(wire::ND_OPT_SLL, key.arp_sha), (wire::ND_OPT_TLL, key.arp_tha)];
        if key.tcp_flags[0] == wire::ND_OPT_TLL {
            options.reverse();
        }
        for (kind, mac) in options.into_iter().filter(|(kind, mac)| *mac != [0; 6] || key.tcp_flags[0] == *kind) {
            p.extend(NdOption { kind, len: 1, mac }.as_bytes());
        }
        return false;
    }
    matches!(kind, 128 | 129)
}

/// Appends the payload; `bears` says whether the protocol has a place for one (a wanted frame length is met anyhow).
fn fill(payload: Payload<'_>, bears: bool, p: &mut Vec<u8>) {
    match payload {
        Payload::Len(bytes) if bears => p.extend((0..=u8::MAX).cycle().take(bytes)),
        Payload::Bytes(bytes) if bears => p.extend(bytes),
        Payload::FrameLen(bytes) if p.len() < bytes => p.resize(bytes, 0),
        Payload::Len(_) | Payload::Bytes(_) | Payload::FrameLen(_) => {}
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
