//! Extraction: from the bytes of a packet and what is known of its arrival to a `Key`, in one pass.
//!
//! What enters: a frame (or an L3 packet, by `packet_type`) and `PacketMeta`. What leaves: the key's lines that the packet
//! uses, which lines those are, and where its layers begin. Neighbours: `extract_common` takes the packets that make up nearly all
//! traffic a shorter way; `extract_slow` is the obvious twin that a property test holds both to on a million packets; `compose` is the
//! inverse.
//!
//! # What holds
//!
//! - Only lines that the packet uses are written, each of them whole; lines that `Extracted::lines` does not name hold whatever
//!   they held before and must be taken as zero. Ethernet, VLAN, IPv4, TCP, UDP, SCTP and ICMP without tunnel need line 0 alone.
//! - A header that is truncated or malformed ends extraction: its fields stay zero, those of the layers before it stand. No
//!   byte sequence panics. Nothing beyond the IP total length is read: padding of short frames is not payload.
//! - The field semantics are Open vSwitch's, bit for bit, as a rule that matches there must match here:
//!   at most two VLAN tags, `vlan_tci` with CFI set; a frame without Ethernet type has type 0x05ff; ARP only for Ethernet and
//!   IPv4, its opcode in `nw_proto` when it fits; later fragments have no transport fields and, in IPv6, protocol 44;
//!   ICMP, IGMP and ICMPv6 go by the protocol number under either IP version; a neighbour-discovery packet that repeats a
//!   link-layer option has target and addresses zero.

use crate::counter::Counter;
use crate::exthdr::Chain;
pub use crate::extract_common::Arrival;
use crate::key::{FRAG_ANY, FRAG_LATER, Key, LINE_BYTES, Lines, VLAN_CFI};
use crate::seam::DpPort;
use crate::wire::{
    self, Arp, Ethernet, ITag, Icmp, Icmpv6, Igmp, Ipv4, Ipv6, Ipv6Ext, Ipv6Frag, LlcSnap, MplsLse, NdOption, NdTarget,
};
use crate::wire::{Nsh, NshContext, Sctp, Tcp, Udp, eth_type, ip_proto};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// VLAN tags that a key holds.
pub const VLANS_MAX: u8 = 2;
/// An offset in `Extracted` of a layer that the packet does not have.
pub const NO_OFFSET: u16 = u16::MAX;
/// A protocol number that no packet has (IANA keeps it reserved).
pub const NO_TRANSPORT: u8 = u8::MAX;

crate::counters! {
    IPV4_TOO_SHORT = "miniflow_extract_ipv4_pkt_too_short", "Packets too short for an IPv4 header, matched as having none.";
    IPV4_LENGTH = "miniflow_extract_ipv4_pkt_len_error", "Packets whose IPv4 lengths contradict each other, matched as having no IPv4 header.";
    IPV6_TOO_SHORT = "miniflow_extract_ipv6_pkt_too_short", "Packets too short for an IPv6 header, matched as having none.";
    IPV6_LENGTH = "miniflow_extract_ipv6_pkt_len_error", "Packets shorter than their IPv6 length, matched as having no IPv6 header.";
}

const LINE_WORDS: usize = LINE_BYTES / 8;

/// What is known of a packet besides its bytes. Numbers in host order.
#[derive(Clone, Copy, Debug)]
pub struct PacketMeta<'a> {
    pub in_port: DpPort,
    /// Namespace in the high half, type in the low; 0 is Ethernet, 0x1_0800 IPv4.
    pub packet_type: u32,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    /// 0: not tracked; zone, mark and the original tuple then do not count.
    pub ct_state: u8,
    /// How many VLAN tags are looked into (other_config:vlan-limit), at most `VLANS_MAX`.
    pub vlan_limit: u8,
    pub ct_zone: u16,
    pub ct_mark: u32,
    /// Metadata that few packets have, at its place in a key: tunnel fields and options, ct label and original tuple.
    pub rare: Option<&'a Key>,
}

impl Default for PacketMeta<'_> {
    fn default() -> Self {
        Self {
            in_port: DpPort(0),
            packet_type: 0,
            recirc_id: 0,
            dp_hash: 0,
            skb_priority: 0,
            pkt_mark: 0,
            ct_state: 0,
            vlan_limit: VLANS_MAX,
            ct_zone: 0,
            ct_mark: 0,
            rare: None,
        }
    }
}

impl<'a> PacketMeta<'a> {
    /// The metadata of a key, for a packet that is executed or goes round again.
    #[must_use]
    pub fn of(key: &'a Key) -> Self {
        Self {
            in_port: DpPort(u32::from_be_bytes(key.in_port)),
            packet_type: u32::from_be_bytes(key.packet_type),
            recirc_id: u32::from_be_bytes(key.recirc_id),
            dp_hash: u32::from_be_bytes(key.dp_hash),
            skb_priority: u32::from_be_bytes(key.skb_priority),
            pkt_mark: u32::from_be_bytes(key.pkt_mark),
            ct_state: key.ct_state,
            vlan_limit: VLANS_MAX,
            ct_zone: u16::from_be_bytes(key.ct_zone),
            ct_mark: u32::from_be_bytes(key.ct_mark),
            rare: Some(key),
        }
    }
}

/// A sound header of layer 3, by the Ethernet type (not by what an IP header itself says of its version).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum NetworkLayer {
    /// Unknown, truncated or malformed.
    #[default]
    None,
    Ipv4,
    Ipv6,
    Arp,
    Nsh,
    /// An I-TAG: what the customer sent is not looked into.
    Pbb,
}

/// What extraction found besides the key. Offsets are in bytes from the packet's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Extracted {
    /// Lines of the key that were written.
    pub lines: Lines,
    /// First MPLS label.
    pub l2_5: u16,
    /// Network header, or what follows the last Ethernet type or MPLS label.
    pub l3: u16,
    /// After the IP header and its extension headers.
    pub l4: u16,
    /// Bytes after the end of the IP packet.
    pub l2_pad: u16,
    /// What stands at `l3`.
    pub network: NetworkLayer,
    /// Protocol of the transport header at `l4`; `NO_TRANSPORT` without one, as in later fragments.
    pub transport: u8,
}

impl Extracted {
    /// Of a packet without any layer.
    pub const NOTHING: Self = Self {
        lines: Lines(1),
        l2_5: NO_OFFSET,
        l3: NO_OFFSET,
        l4: NO_OFFSET,
        l2_pad: 0,
        network: NetworkLayer::None,
        transport: NO_TRANSPORT,
    };
}

/// Extracts the key of `packet` into `key`, writing only the lines named in the result. For many packets with the same metadata
/// `Arrival` does a part of the work once.
#[inline]
pub fn extract(packet: &[u8], meta: &PacketMeta<'_>, key: &mut Key) -> Extracted {
    let mut found = Extracted::NOTHING;
    Arrival::new(*meta).extract(packet, key, &mut found);
    found
}

/// Extraction of any packet, header by header.
pub(crate) fn extract_any(packet: &[u8], meta: &PacketMeta<'_>, key: &mut Key) -> Extracted {
    let mut e = Extraction { key, out: Extracted::NOTHING, data: packet, end: packet.len(), meta };
    e.metadata();
    // `None` says that extraction ended early, which the key shows by its zeroes.
    let _ = e.layers();
    e.out
}

/// Like `extract`, with all lines that the packet does not use set to zero.
pub fn extract_whole(packet: &[u8], meta: &PacketMeta<'_>, key: &mut Key) -> Extracted {
    let out = extract(packet, meta, key);
    for (i, line) in key.words_mut().chunks_exact_mut(LINE_WORDS).enumerate() {
        if out.lines.0 & 1 << i == 0 {
            line.fill(0);
        }
    }
    out
}

/// An extraction under way: `data` is what is left of the packet, which ends at offset `end`.
struct Extraction<'k, 'p> {
    key: &'k mut Key,
    out: Extracted,
    data: &'p [u8],
    end: usize,
    meta: &'p PacketMeta<'p>,
}

/// Fields of the IP header that are stored only once the extension headers were found sound.
struct IpFields {
    proto: u8,
    tos: u8,
    ttl: u8,
    frag: u8,
}

fn be16(b: [u8; 2]) -> u16 {
    u16::from_be_bytes(b)
}

impl<'p> Extraction<'_, 'p> {
    /// Where `data` begins; `NO_OFFSET` when that is further than any offset tells.
    #[inline]
    fn offset(&self) -> u16 {
        u16::try_from(self.end - self.data.len()).unwrap_or(NO_OFFSET)
    }

    #[inline]
    fn pull<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Option<&'p T> {
        let (header, rest) = T::ref_from_prefix(self.data).ok()?;
        self.data = rest;
        Some(header)
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.data = self.data.get(bytes..)?;
        Some(())
    }

    /// Cuts `data` to `bytes`; what is beyond is padding.
    #[inline]
    fn cut(&mut self, bytes: usize) -> Option<()> {
        let pad = self.data.len().checked_sub(bytes)?;
        self.out.l2_pad = u16::try_from(pad).ok()?;
        self.data = &self.data[..bytes];
        self.end -= pad;
        Some(())
    }

    /// Makes line `line` the packet's: zeroes it on first use.
    #[inline]
    fn claim(&mut self, line: usize) {
        if self.out.lines.0 & 1 << line == 0 {
            self.out.lines.0 |= 1 << line;
            self.key.words_mut()[line * LINE_WORDS..][..LINE_WORDS].fill(0);
        }
    }

    #[inline]
    fn metadata(&mut self) {
        self.key.words_mut()[..LINE_WORDS].fill(0);
        let meta = self.meta;
        self.key.in_port = meta.in_port.0.to_be_bytes();
        self.key.recirc_id = meta.recirc_id.to_be_bytes();
        self.key.dp_hash = meta.dp_hash.to_be_bytes();
        self.key.packet_type = meta.packet_type.to_be_bytes();
        if meta.skb_priority | meta.pkt_mark != 0 {
            self.claim(1);
            self.key.skb_priority = meta.skb_priority.to_be_bytes();
            self.key.pkt_mark = meta.pkt_mark.to_be_bytes();
        }
        if meta.ct_state != 0 {
            self.key.ct_state = meta.ct_state;
            self.key.ct_zone = meta.ct_zone.to_be_bytes();
            self.key.ct_mark = meta.ct_mark.to_be_bytes();
        }
        if let Some(rare) = meta.rare {
            self.rare_metadata(rare);
        }
    }

    #[inline(never)]
    fn rare_metadata(&mut self, rare: &Key) {
        if self.meta.ct_state != 0 && rare.ct_label != [0; 16] {
            self.claim(2);
            self.key.ct_label = rare.ct_label;
        }
        if rare.tun_dst == [0; 4] && rare.tun_ipv6_dst == [0; 16] {
            return;
        }
        self.claim(3);
        let k = &mut *self.key;
        (k.tun_id, k.tun_src, k.tun_dst) = (rare.tun_id, rare.tun_src, rare.tun_dst);
        (k.tun_flags, k.tun_tos, k.tun_ttl) = (rare.tun_flags, rare.tun_tos, rare.tun_ttl);
        self.claim(4);
        let k = &mut *self.key;
        k.words_mut()[4 * LINE_WORDS..][..LINE_WORDS].copy_from_slice(&rare.words()[4 * LINE_WORDS..][..LINE_WORDS]);
        (k.conj_id, k.actset_output) = ([0; 4], [0; 4]);
        if rare.tun_metadata_present != [0; 8] {
            (5..=8).for_each(|line| self.claim(line));
            self.key.tun_metadata = rare.tun_metadata;
        }
    }

    #[inline]
    fn layers(&mut self) -> Option<()> {
        let mut ty = match self.meta.packet_type {
            0 => self.ethernet()?,
            other => be16([other.to_be_bytes()[2], other.to_be_bytes()[3]]),
        };
        if ty < eth_type::MIN && self.meta.packet_type == 0 {
            ty = self.snap();
        }
        self.key.eth_type = ty.to_be_bytes();
        if ty == eth_type::MPLS || ty == eth_type::MPLS_MULTICAST {
            self.mpls();
        }
        self.out.l3 = self.offset();
        let network = match ty {
            eth_type::IPV4 => self.ipv4()?,
            eth_type::IPV6 => self.ipv6()?,
            eth_type::ARP | eth_type::RARP => return self.arp(),
            eth_type::NSH => return self.nsh(),
            eth_type::PBB => return self.pbb(),
            _ => return None,
        };
        self.out.l4 = self.offset();
        self.out.network = if ty == eth_type::IPV4 { NetworkLayer::Ipv4 } else { NetworkLayer::Ipv6 };
        self.key.nw_proto = network.proto;
        self.key.nw_tos = network.tos;
        self.key.nw_ttl = network.ttl;
        self.key.nw_frag = network.frag;
        if network.frag & FRAG_LATER != 0 {
            return None;
        }
        self.out.transport = network.proto;
        self.transport(network.proto)
    }

    /// Addresses, tags and the type that follows them.
    #[inline]
    fn ethernet(&mut self) -> Option<u16> {
        let (eth, _) = Ethernet::ref_from_prefix(self.data).ok()?;
        self.key.eth_dst = eth.dst;
        self.key.eth_src = eth.src;
        let mut ty = be16(eth.eth_type);
        if ty == eth_type::VLAN || ty == eth_type::QINQ {
            self.skip(12)?;
            self.tags();
            ty = be16(*self.pull()?);
        } else {
            self.skip(14)?;
        }
        Some(ty)
    }

    /// Stores tags and leaves `data` at the type after them. A tag with nothing behind it is left as a type.
    fn tags(&mut self) {
        let mut n = 0;
        while n < self.meta.vlan_limit.min(VLANS_MAX) {
            let Ok((tag, rest)) = wire::VlanTag::ref_from_prefix(self.data) else { return };
            let tpid = be16(tag.tpid);
            if rest.len() < 2 || tpid != eth_type::VLAN && tpid != eth_type::QINQ {
                return;
            }
            let tci = (be16(tag.tci) | VLAN_CFI).to_be_bytes();
            if n == 0 {
                (self.key.vlan_tpid, self.key.vlan_tci) = (tag.tpid, tci);
            } else {
                (self.key.vlan2_tpid, self.key.vlan2_tci) = (tag.tpid, tci);
            }
            self.data = rest;
            n += 1;
        }
    }

    /// The type of an 802.2 frame (IEEE 802: SNAP with the Ethernet organisation carries one).
    #[cold]
    fn snap(&mut self) -> u16 {
        let Ok((snap, rest)) = LlcSnap::ref_from_prefix(self.data) else { return eth_type::NONE };
        if (snap.dsap, snap.ssap, snap.control, snap.org) != (0xaa, 0xaa, 3, [0; 3]) {
            return eth_type::NONE;
        }
        self.data = rest;
        match be16(snap.eth_type) {
            ty if ty >= eth_type::MIN => ty,
            _ => eth_type::NONE,
        }
    }

    /// Stores the first three labels, leaves `data` after the bottom of the stack.
    #[inline(never)]
    fn mpls(&mut self) {
        self.out.l2_5 = self.offset();
        let mut n = 0;
        while let Some(MplsLse { lse }) = self.pull::<MplsLse>() {
            match n {
                0 => {
                    self.claim(1);
                    self.key.mpls_lse0 = *lse;
                }
                1 => {
                    self.claim(2);
                    self.key.mpls_lse1 = *lse;
                }
                2 => self.key.mpls_lse2 = *lse,
                _ => {}
            }
            n += 1;
            if u32::from_be_bytes(*lse) & wire::MPLS_BOS != 0 {
                return;
            }
        }
    }

    #[inline]
    fn ipv4(&mut self) -> Option<IpFields> {
        let Ok((ip, _)) = Ipv4::ref_from_prefix(self.data) else { return malformed(&IPV4_TOO_SHORT) };
        let header = usize::from(ip.version_ihl & 15) * 4;
        let total = usize::from(be16(ip.total_len));
        if header < size_of::<Ipv4>() || header > total || self.cut(total).is_none() {
            return malformed(&IPV4_LENGTH);
        }
        self.skip(header)?;
        self.key.nw_src = ip.src;
        self.key.nw_dst = ip.dst;
        self.original_tuple(false);
        let frag = match be16(ip.frag) {
            f if f & 0x3fff == 0 => 0,
            f if f & 0x1fff == 0 => FRAG_ANY,
            _ => FRAG_ANY | FRAG_LATER,
        };
        Some(IpFields { proto: ip.proto, tos: ip.tos, ttl: ip.ttl, frag })
    }

    #[inline]
    fn ipv6(&mut self) -> Option<IpFields> {
        let Some(ip) = self.pull::<Ipv6>() else { return malformed(&IPV6_TOO_SHORT) };
        if self.cut(usize::from(be16(ip.payload_len))).is_none() {
            return malformed(&IPV6_LENGTH);
        }
        self.claim(1);
        self.key.ipv6_src = ip.src;
        self.key.ipv6_dst = ip.dst;
        self.original_tuple(true);
        let [a, b, c, d] = ip.version_class_label;
        let mut network = IpFields { proto: ip.next, tos: a << 4 | b >> 4, ttl: ip.hop_limit, frag: 0 };
        let mut above_label = 0;
        if is_extension(network.proto) || matches!(network.proto, ip_proto::ESP | ip_proto::NONE) {
            above_label = self.extension_headers(&mut network)?;
        }
        self.key.ipv6_label = (above_label | u32::from_be_bytes([0, b & 15, c, d])).to_be_bytes();
        Some(network)
    }

    /// Walks to the first header that is not an extension; ends at a later fragment (RFC 8200, 4). Gives what the key has of the headers
    /// beside the flow label.
    #[inline(never)]
    fn extension_headers(&mut self, network: &mut IpFields) -> Option<u32> {
        let mut met = Chain::default();
        while is_extension(network.proto) {
            met.meet(network.proto);
            let (ext, _) = Ipv6Ext::ref_from_prefix(self.data).ok()?;
            match network.proto {
                ip_proto::FRAGMENT => {
                    let f = be16(self.pull::<Ipv6Frag>()?.offset_more);
                    if f != 0 {
                        network.frag = FRAG_ANY;
                    }
                    if f & 0xfff8 != 0 {
                        network.frag |= FRAG_LATER;
                        return self.offset_known(met);
                    }
                }
                ip_proto::AH => self.skip((usize::from(ext.len) + 2) * 4)?,
                _ => self.skip((usize::from(ext.len) + 1) * 8)?,
            }
            network.proto = ext.next;
        }
        // Of these two, which nothing is looked for behind, OpenFlow speaks as of extension headers.
        if matches!(network.proto, ip_proto::ESP | ip_proto::NONE) {
            met.meet(network.proto);
        }
        self.offset_known(met)
    }

    /// A transport header beyond the reach of an offset is as good as none.
    fn offset_known(&self, met: Chain) -> Option<u32> {
        (self.offset() != NO_OFFSET).then(|| met.above_label())
    }

    /// Addresses and protocol of conntrack's original tuple, when it is of the packet's IP version.
    #[inline]
    fn original_tuple(&mut self, v6: bool) {
        if self.meta.ct_state == 0 {
            return;
        }
        let Some(rare) = self.meta.rare else { return };
        if rare.ct_nw_proto == 0 || tuple_is_v6(rare) != v6 {
            return;
        }
        self.claim(3);
        self.key.ct_nw_proto = rare.ct_nw_proto;
        (self.key.ct_nw_src, self.key.ct_nw_dst) = (rare.ct_nw_src, rare.ct_nw_dst);
        (self.key.ct_ipv6_src, self.key.ct_ipv6_dst) = (rare.ct_ipv6_src, rare.ct_ipv6_dst);
    }

    #[inline]
    fn transport(&mut self, proto: u8) -> Option<()> {
        let (src, dst) = match proto {
            ip_proto::TCP => {
                let (tcp, _) = Tcp::ref_from_prefix(self.data).ok()?;
                let header = usize::from(tcp.offset_flags[0] >> 4) * 4;
                if header < size_of::<Tcp>() || header > self.data.len() {
                    return None;
                }
                self.key.tcp_flags = [tcp.offset_flags[0] & 15, tcp.offset_flags[1]];
                (tcp.src, tcp.dst)
            }
            ip_proto::UDP => {
                let (udp, _) = Udp::ref_from_prefix(self.data).ok()?;
                (udp.src, udp.dst)
            }
            ip_proto::SCTP => {
                let (sctp, _) = Sctp::ref_from_prefix(self.data).ok()?;
                (sctp.src, sctp.dst)
            }
            ip_proto::ICMP => {
                let (icmp, _) = Icmp::ref_from_prefix(self.data).ok()?;
                ([0, icmp.kind], [0, icmp.code])
            }
            ip_proto::IGMP => {
                let igmp = self.pull::<Igmp>()?;
                self.claim(1);
                self.key.nd_reserved = igmp.group;
                ([0, igmp.kind], [0, igmp.code])
            }
            ip_proto::ICMPV6 => return self.icmpv6(),
            _ => return None,
        };
        (self.key.tp_src, self.key.tp_dst) = (src, dst);
        self.original_ports();
        Some(())
    }

    /// Ports of the original tuple go with the packet's own.
    #[inline]
    fn original_ports(&mut self) {
        if self.key.ct_nw_proto != 0
            && let Some(rare) = self.meta.rare
        {
            (self.key.ct_tp_src, self.key.ct_tp_dst) = (rare.ct_tp_src, rare.ct_tp_dst);
        }
    }

    fn icmpv6(&mut self) -> Option<()> {
        let icmp = self.pull::<Icmpv6>()?;
        (self.key.tp_src, self.key.tp_dst) = ([0, icmp.kind], [0, icmp.code]);
        if icmp.code == 0 && (icmp.kind == wire::ND_SOLICIT || icmp.kind == wire::ND_ADVERT) {
            self.neighbour_discovery(icmp.rest)
        } else {
            self.original_ports();
            Some(())
        }
    }

    #[inline(never)]
    fn neighbour_discovery(&mut self, reserved: [u8; 4]) -> Option<()> {
        self.claim(1);
        self.key.nd_reserved = reserved;
        let target = self.pull::<NdTarget>()?.target;
        self.claim(2);
        self.key.nd_target = target;
        while let Ok((option, _)) = NdOption::ref_from_prefix(self.data) {
            // An option without length, or longer than the packet, ends the list (RFC 4861, 4.6).
            let bytes = usize::from(option.len) * 8;
            if bytes == 0 || bytes > self.data.len() {
                return None;
            }
            if bytes == 8 && (option.kind == wire::ND_OPT_SLL || option.kind == wire::ND_OPT_TLL) {
                let slot = if option.kind == wire::ND_OPT_SLL { &mut self.key.arp_sha } else { &mut self.key.arp_tha };
                if *slot != [0; 6] {
                    self.key.nd_target = [0; 16];
                    (self.key.arp_sha, self.key.arp_tha) = ([0; 6], [0; 6]);
                    return None;
                }
                *slot = option.mac;
                if self.key.tcp_flags[0] == 0 {
                    self.key.tcp_flags[0] = option.kind;
                }
            }
            self.skip(bytes)?;
        }
        Some(())
    }

    #[inline(never)]
    fn arp(&mut self) -> Option<()> {
        let arp = self.pull::<Arp>()?;
        if (be16(arp.hardware), be16(arp.protocol), arp.hardware_len, arp.protocol_len) != (1, eth_type::IPV4, 6, 4) {
            return None;
        }
        self.out.network = NetworkLayer::Arp;
        (self.key.nw_src, self.key.nw_dst) = (arp.spa, arp.tpa);
        if arp.op[0] == 0 {
            self.key.nw_proto = arp.op[1];
        }
        self.claim(1);
        (self.key.arp_sha, self.key.arp_tha) = (arp.sha, arp.tha);
        Some(())
    }

    #[inline(never)]
    fn pbb(&mut self) -> Option<()> {
        self.key.nw_src = self.pull::<ITag>()?.tci;
        self.out.network = NetworkLayer::Pbb;
        Some(())
    }

    #[inline(never)]
    fn nsh(&mut self) -> Option<()> {
        let (nsh, rest) = Nsh::ref_from_prefix(self.data).ok()?;
        let head = be16(nsh.version_ttl_len);
        let bytes = usize::from(head & 0x3f) * 4;
        if head >> 14 != 0 || bytes > self.data.len() {
            return None;
        }
        let context = match nsh.mdtype {
            wire::NSH_MD1 if bytes != size_of::<Nsh>() + size_of::<NshContext>() => return None,
            wire::NSH_MD1 => *NshContext::ref_from_prefix(rest).ok()?.0,
            wire::NSH_MD2 if bytes < size_of::<Nsh>() => return None,
            _ => NshContext::default(),
        };
        self.out.network = NetworkLayer::Nsh;
        self.claim(2);
        let k = &mut *self.key;
        [k.nsh_flags, k.nsh_ttl] = [(head >> 12 & 3).to_be_bytes()[1], (head >> 6 & 0x3f).to_be_bytes()[1]];
        (k.nsh_mdtype, k.nsh_np, k.nsh_path) = (nsh.mdtype, nsh.next, nsh.path);
        (k.nsh_c1, k.nsh_c2, k.nsh_c3, k.nsh_c4) = (context.c1, context.c2, context.c3, context.c4);
        Some(())
    }
}

#[cold]
fn malformed<T>(counter: &Counter) -> Option<T> {
    counter.inc();
    None
}

/// IPv6 extension headers that are walked over.
#[inline]
#[must_use]
pub fn is_extension(proto: u8) -> bool {
    matches!(proto, ip_proto::HOP_BY_HOP | ip_proto::ROUTING | ip_proto::DEST_OPTIONS | ip_proto::AH | ip_proto::FRAGMENT)
}

/// Whether the original tuple in `rare` is of IPv6: it has a place of its own there.
pub(crate) fn tuple_is_v6(rare: &Key) -> bool {
    rare.ct_ipv6_src != [0; 16] || rare.ct_ipv6_dst != [0; 16]
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
