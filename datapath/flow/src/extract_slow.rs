//! The slow, obvious twin of `extract`: a table with one row per layer, walked by a loop of ten lines.
//!
//! What enters and leaves is what `extract_whole` takes and gives. It exists to be read beside the headers' specifications and
//! to be compared with the fast forms; nothing forwards packets by it. Each row says how long the layer is, which bytes of it
//! are copied to which bytes of the key, what else it means, and which layer follows.

use crate::extract::{Extracted, NO_OFFSET, NetworkLayer, PacketMeta, VLANS_MAX, is_extension, tuple_is_v6};
use crate::key::{FRAG_ANY, FRAG_LATER, Key, VLAN_CFI};
use crate::wire::{self, Arp, Ethernet, ITag, Icmp, Igmp, Ipv4, Ipv6, Ipv6Ext, LlcSnap, NdOption, NdTarget, Nsh, NshContext};
use crate::wire::{Sctp, Tcp, Udp, eth_type, ip_proto};
use core::mem::offset_of;
use zerocopy::IntoBytes;

/// Where a walk stands. The order is that of `ROWS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Addresses,
    Tag,
    Type,
    Snap,
    Network,
    Mpls,
    Arp,
    Ipv4,
    Ipv6,
    Options,
    Auth,
    Fragment,
    Transport,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Igmp,
    Icmpv6,
    NdTarget,
    NdOption,
    Nsh,
    NshContext,
    Pbb,
}

/// Bytes of a header that go to the key unchanged.
struct Copy {
    from: usize,
    to: usize,
    bytes: usize,
}

macro_rules! copies {
    ($( $header:ident . $from:ident => $to:ident : $bytes:literal ),* $(,)?) => {
        &[ $( Copy { from: offset_of!($header, $from), to: offset_of!(Key, $to), bytes: $bytes } ),* ]
    };
}

struct Row {
    layer: Layer,
    /// Length of the layer in what is left of the packet; `None`: truncated or malformed, extraction ends.
    length: fn(&Walk<'_>, &[u8]) -> Option<usize>,
    copies: &'static [Copy],
    /// What the layer means beyond copies, given its bytes.
    meaning: fn(&mut Walk<'_>, &[u8]),
    /// What follows, asked when the layer is behind; `None`: nothing that is known.
    next: fn(&Walk<'_>) -> Option<Layer>,
}

/// A walk through a packet.
struct Walk<'p> {
    meta: &'p PacketMeta<'p>,
    key: Key,
    out: Extracted,
    packet: &'p [u8],
    /// Offset of the layer.
    at: usize,
    /// Offset at which the packet ends, padding not counted.
    end: usize,
    tags: u8,
    labels: u8,
    /// The last Ethernet type read.
    ty: u16,
    bottom: bool,
    proto: u8,
    tos: u8,
    ttl: u8,
    frag: u8,
    label: u32,
    /// The extension headers of IPv6, in their order.
    chain: Vec<u8>,
    failed: bool,
}

static ROWS: &[Row] = &[
    Row {
        layer: Layer::Addresses,
        // The addresses and a type must be there; only the addresses are this layer.
        length: |_, b| (b.len() >= size_of::<Ethernet>()).then_some(12),
        copies: copies![Ethernet.dst => eth_dst: 6, Ethernet.src => eth_src: 6],
        meaning: |_, _| {},
        next: |w| Some(w.tag_or_type()),
    },
    Row {
        layer: Layer::Tag,
        length: |_, _| Some(4),
        copies: &[],
        meaning: |w, b| {
            let tci = (be16(b, 2) | VLAN_CFI).to_be_bytes();
            let tpid = be16(b, 0).to_be_bytes();
            if w.tags == 0 {
                w.key.vlan_tpid = tpid;
                w.key.vlan_tci = tci;
            } else {
                w.key.vlan2_tpid = tpid;
                w.key.vlan2_tci = tci;
            }
            w.tags += 1;
        },
        next: |w| Some(w.tag_or_type()),
    },
    Row {
        layer: Layer::Type,
        length: |_, _| Some(2),
        copies: &[],
        meaning: |w, b| w.ty = be16(b, 0),
        next: |w| Some(if w.ty < eth_type::MIN { Layer::Snap } else { Layer::Network }),
    },
    Row {
        layer: Layer::Snap,
        length: |_, b| Some(if b.starts_with(&[0xaa, 0xaa, 3, 0, 0, 0]) && b.len() >= 8 { size_of::<LlcSnap>() } else { 0 }),
        copies: &[],
        meaning: |w, b| w.ty = if b.is_empty() || be16(b, 6) < eth_type::MIN { eth_type::NONE } else { be16(b, 6) },
        next: |_| Some(Layer::Network),
    },
    Row {
        // What follows the Ethernet type, whatever it is.
        layer: Layer::Network,
        length: |_, _| Some(0),
        copies: &[],
        meaning: |w, _| {
            w.key.eth_type = w.ty.to_be_bytes();
            w.out.l3 = w.offset();
            if w.ty == eth_type::MPLS || w.ty == eth_type::MPLS_MULTICAST {
                w.out.l2_5 = w.offset();
            }
        },
        next: |w| match w.ty {
            eth_type::MPLS | eth_type::MPLS_MULTICAST => Some(Layer::Mpls),
            eth_type::ARP | eth_type::RARP => Some(Layer::Arp),
            eth_type::IPV4 => Some(Layer::Ipv4),
            eth_type::IPV6 => Some(Layer::Ipv6),
            eth_type::NSH => Some(Layer::Nsh),
            eth_type::PBB => Some(Layer::Pbb),
            _ => None,
        },
    },
    Row {
        layer: Layer::Mpls,
        length: |_, b| (b.len() >= 4).then_some(4),
        copies: &[],
        meaning: |w, b| {
            let lse = [b[0], b[1], b[2], b[3]];
            match w.labels {
                0 => w.key.mpls_lse0 = lse,
                1 => w.key.mpls_lse1 = lse,
                2 => w.key.mpls_lse2 = lse,
                _ => {}
            }
            w.labels = w.labels.saturating_add(1);
            w.bottom = u32::from_be_bytes(lse) & wire::MPLS_BOS != 0;
            w.at += 4;
            w.out.l3 = w.offset();
            w.at -= 4;
        },
        next: |w| (!w.bottom).then_some(Layer::Mpls),
    },
    Row {
        layer: Layer::Arp,
        length: |_, b| {
            let sound = b.len() >= size_of::<Arp>() && be16(b, 0) == 1 && be16(b, 2) == eth_type::IPV4 && b[4] == 6 && b[5] == 4;
            sound.then_some(size_of::<Arp>())
        },
        copies: copies![Arp.spa => nw_src: 4, Arp.tpa => nw_dst: 4, Arp.sha => arp_sha: 6, Arp.tha => arp_tha: 6],
        meaning: |w, b| {
            w.out.network = NetworkLayer::Arp;
            if be16(b, 6) < 256 {
                w.key.nw_proto = b[7];
            }
        },
        next: |_| None,
    },
    Row {
        layer: Layer::Ipv4,
        length: |_, b| {
            let ihl = usize::from(b.first()? & 15) * 4;
            if b.len() < 20 || ihl < 20 || ihl > b.len() {
                return None;
            }
            let total = usize::from(be16(b, 2));
            (ihl <= total && total <= b.len() && b.len() - total < 65536).then_some(ihl)
        },
        copies: copies![Ipv4.src => nw_src: 4, Ipv4.dst => nw_dst: 4],
        meaning: |w, b| {
            w.ends_after(usize::from(be16(b, 2)));
            w.original_tuple(false);
            (w.tos, w.ttl, w.proto) = (b[1], b[8], b[9]);
            w.frag = match (be16(b, 6) & 0x2000 != 0, be16(b, 6) & 0x1fff != 0) {
                (false, false) => 0,
                (true, false) => FRAG_ANY,
                (_, true) => FRAG_ANY | FRAG_LATER,
            };
        },
        next: |_| Some(Layer::Transport),
    },
    Row {
        layer: Layer::Ipv6,
        length: |_, b| {
            let sound =
                b.len() >= 40 && 40 + usize::from(be16(b, 4)) <= b.len() && b.len() - usize::from(be16(b, 4)) - 40 < 65536;
            sound.then_some(size_of::<Ipv6>())
        },
        copies: copies![Ipv6.src => ipv6_src: 16, Ipv6.dst => ipv6_dst: 16],
        meaning: |w, b| {
            w.ends_after(40 + usize::from(be16(b, 4)));
            w.original_tuple(true);
            let first = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
            w.label = first & 0xf_ffff;
            (w.tos, w.ttl, w.proto) = ((first >> 20).to_be_bytes()[3], b[7], b[6]);
        },
        next: |w| Some(w.extension_or_transport()),
    },
    Row {
        layer: Layer::Options,
        length: |_, b| within(b, 8, usize::from(*b.get(1)?) * 8 + 8),
        copies: &[],
        meaning: |w, b| {
            w.chain.push(w.proto);
            w.proto = b[offset_of!(Ipv6Ext, next)];
        },
        next: |w| Some(w.extension_or_transport()),
    },
    Row {
        layer: Layer::Auth,
        length: |_, b| within(b, 8, usize::from(*b.get(1)?) * 4 + 8),
        copies: &[],
        meaning: |w, b| {
            w.chain.push(w.proto);
            w.proto = b[offset_of!(Ipv6Ext, next)];
        },
        next: |w| Some(w.extension_or_transport()),
    },
    Row {
        layer: Layer::Fragment,
        length: |_, b| within(b, 8, 8),
        copies: &[],
        meaning: |w, b| {
            w.chain.push(w.proto);
            if be16(b, 2) != 0 {
                w.frag = FRAG_ANY;
            }
            if be16(b, 2) >> 3 != 0 {
                w.frag |= FRAG_LATER;
            } else {
                w.proto = b[0];
            }
        },
        next: |w| Some(if w.frag & FRAG_LATER != 0 { Layer::Transport } else { w.extension_or_transport() }),
    },
    Row {
        // The IP header and its extensions are behind and sound: now its fields count.
        layer: Layer::Transport,
        length: |w, _| (w.offset() != NO_OFFSET).then_some(0),
        copies: &[],
        meaning: |w, _| {
            w.out.l4 = w.offset();
            w.key.nw_proto = w.proto;
            w.key.nw_tos = w.tos;
            w.key.nw_ttl = w.ttl;
            w.key.nw_frag = w.frag;
            w.out.network = if w.ty == eth_type::IPV4 { NetworkLayer::Ipv4 } else { NetworkLayer::Ipv6 };
            if w.out.network == NetworkLayer::Ipv6 {
                if matches!(w.proto, ip_proto::ESP | ip_proto::NONE) {
                    w.chain.push(w.proto);
                }
                w.key.ipv6_label = (w.label | exthdr_of(&w.chain) << 20).to_be_bytes();
            }
            if w.frag & FRAG_LATER == 0 {
                w.out.transport = w.proto;
            }
        },
        next: |w| match w.proto {
            _ if w.frag & FRAG_LATER != 0 => None,
            ip_proto::TCP => Some(Layer::Tcp),
            ip_proto::UDP => Some(Layer::Udp),
            ip_proto::SCTP => Some(Layer::Sctp),
            ip_proto::ICMP => Some(Layer::Icmp),
            ip_proto::IGMP => Some(Layer::Igmp),
            ip_proto::ICMPV6 => Some(Layer::Icmpv6),
            _ => None,
        },
    },
    Row {
        layer: Layer::Tcp,
        length: |_, b| {
            let header = usize::from(b.get(12)? >> 4) * 4;
            if header < 20 { None } else { within(b, 20, header) }
        },
        copies: copies![Tcp.src => tp_src: 2, Tcp.dst => tp_dst: 2],
        meaning: |w, b| {
            w.key.tcp_flags = (be16(b, 12) & 0xfff).to_be_bytes();
            w.original_ports();
        },
        next: |_| None,
    },
    Row {
        layer: Layer::Udp,
        length: |_, b| within(b, 8, 8),
        copies: copies![Udp.src => tp_src: 2, Udp.dst => tp_dst: 2],
        meaning: |w, _| w.original_ports(),
        next: |_| None,
    },
    Row {
        layer: Layer::Sctp,
        length: |_, b| within(b, 12, 12),
        copies: copies![Sctp.src => tp_src: 2, Sctp.dst => tp_dst: 2],
        meaning: |w, _| w.original_ports(),
        next: |_| None,
    },
    Row {
        layer: Layer::Icmp,
        length: |_, b| within(b, 8, 8),
        copies: &[],
        meaning: |w, b| {
            w.type_and_code(b[offset_of!(Icmp, kind)], b[offset_of!(Icmp, code)]);
            w.original_ports();
        },
        next: |_| None,
    },
    Row {
        layer: Layer::Igmp,
        length: |_, b| within(b, 8, 8),
        copies: copies![Igmp.group => nd_reserved: 4],
        meaning: |w, b| {
            w.type_and_code(b[0], b[1]);
            w.original_ports();
        },
        next: |_| None,
    },
    Row {
        layer: Layer::Icmpv6,
        length: |_, b| within(b, 8, 8),
        copies: &[],
        meaning: |w, b| {
            w.type_and_code(b[0], b[1]);
            if w.is_nd() {
                w.key.nd_reserved = [b[4], b[5], b[6], b[7]];
            } else {
                w.original_ports();
            }
        },
        next: |w| w.is_nd().then_some(Layer::NdTarget),
    },
    Row {
        layer: Layer::NdTarget,
        length: |_, b| within(b, 16, 16),
        copies: copies![NdTarget.target => nd_target: 16],
        meaning: |_, _| {},
        next: |_| Some(Layer::NdOption),
    },
    Row {
        layer: Layer::NdOption,
        length: |_, b| {
            let bytes = usize::from(*b.get(1)?) * 8;
            if bytes == 0 { None } else { within(b, size_of::<NdOption>(), bytes) }
        },
        copies: &[],
        meaning: |w, b| {
            let (kind, mac) = (b[0], [b[2], b[3], b[4], b[5], b[6], b[7]]);
            if b.len() != 8 || kind != 1 && kind != 2 {
                return;
            }
            if w.key.tcp_flags == [0, 0] {
                w.key.tcp_flags = [kind, 0];
            }
            let repeated = if kind == 1 { w.key.arp_sha } else { w.key.arp_tha } != [0; 6];
            if repeated {
                (w.key.nd_target, w.key.arp_sha, w.key.arp_tha) = ([0; 16], [0; 6], [0; 6]);
                w.failed = true;
            } else if kind == 1 {
                w.key.arp_sha = mac;
            } else {
                w.key.arp_tha = mac;
            }
        },
        next: |w| (!w.failed).then_some(Layer::NdOption),
    },
    Row {
        layer: Layer::Nsh,
        length: |_, b| {
            let total = usize::from(b.get(1)? & 0x3f) * 4;
            let sound = b.len() >= 8
                && b[0] >> 6 == 0
                && total <= b.len()
                && match b[2] {
                    wire::NSH_MD1 => total == 24,
                    wire::NSH_MD2 => total >= 8,
                    _ => true,
                };
            sound.then_some(8)
        },
        copies: copies![Nsh.mdtype => nsh_mdtype: 1, Nsh.next => nsh_np: 1, Nsh.path => nsh_path: 4],
        meaning: |w, b| {
            w.out.network = NetworkLayer::Nsh;
            w.key.nsh_flags = b[0] >> 4 & 3;
            w.key.nsh_ttl = (b[0] & 15) << 2 | b[1] >> 6;
        },
        next: |w| (w.key.nsh_mdtype == wire::NSH_MD1).then_some(Layer::NshContext),
    },
    Row {
        layer: Layer::NshContext,
        length: |_, b| within(b, 16, 16),
        copies: copies![NshContext.c1 => nsh_c1: 4, NshContext.c2 => nsh_c2: 4, NshContext.c3 => nsh_c3: 4, NshContext.c4 => nsh_c4: 4],
        meaning: |_, _| {},
        next: |_| None,
    },
    Row {
        layer: Layer::Pbb,
        length: |_, b| within(b, size_of::<ITag>(), size_of::<ITag>()),
        copies: copies![ITag.tci => nw_src: 4],
        meaning: |w, _| w.out.network = NetworkLayer::Pbb,
        next: |_| None,
    },
];

/// Extracts the key of `packet`, all lines.
#[must_use]
pub fn extract_slow(packet: &[u8], meta: &PacketMeta<'_>) -> (Key, Extracted) {
    let mut w = Walk {
        meta,
        key: Key::ZERO,
        out: Extracted::NOTHING,
        packet,
        at: 0,
        end: packet.len(),
        tags: 0,
        labels: 0,
        ty: (meta.packet_type & 0xffff) as u16,
        bottom: false,
        proto: 0,
        tos: 0,
        ttl: 0,
        frag: 0,
        label: 0,
        chain: Vec::new(),
        failed: false,
    };
    w.metadata();
    let mut layer = Some(if meta.packet_type == 0 { Layer::Addresses } else { Layer::Network });
    while let Some(row) = layer.map(|l| &ROWS[l as usize]) {
        debug_assert_eq!(Some(row.layer), layer, "rows stand in the order of the layers");
        let left = &w.packet[w.at..w.end];
        let Some(length) = (row.length)(&w, left) else { break };
        let header = &left[..length];
        for c in row.copies {
            w.key.as_mut_bytes()[c.to..c.to + c.bytes].copy_from_slice(&header[c.from..c.from + c.bytes]);
        }
        (row.meaning)(&mut w, header);
        w.at += length;
        layer = (row.next)(&w);
    }
    w.out.lines = w.key.lines();
    (w.key, w.out)
}

/// IPV6_EXTHDR by the words of OpenFlow 1.5.1, section 7.2.3.8.
fn exthdr_of(chain: &[u8]) -> u32 {
    use ip_proto::{AH, DEST_OPTIONS, ESP, FRAGMENT, HOP_BY_HOP, NONE, ROUTING};
    // RFC 8200 section 4.1.
    const ORDER: [u8; 8] = [HOP_BY_HOP, DEST_OPTIONS, ROUTING, FRAGMENT, AH, ESP, DEST_OPTIONS, NONE];
    let present = |header| chain.contains(&header);
    let more_than = |n, header| chain.iter().filter(|h| **h == header).count() > n;
    let repeated = more_than(2, DEST_OPTIONS) || ORDER.iter().any(|h| *h != DEST_OPTIONS && more_than(1, *h));
    let mut preferred = ORDER.iter();
    let in_order = chain.iter().all(|header| preferred.any(|h| h == header));
    [
        present(NONE),
        present(ESP),
        present(AH),
        present(DEST_OPTIONS),
        present(FRAGMENT),
        present(ROUTING),
        chain.first() == Some(&HOP_BY_HOP),
        repeated,
        !in_order,
    ]
    .iter()
    .rev()
    .fold(0, |bits, bit| bits << 1 | u32::from(*bit))
}

fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// `bytes`, when `b` has `least` and that many.
fn within(b: &[u8], least: usize, bytes: usize) -> Option<usize> {
    (b.len() >= least && b.len() >= bytes).then_some(bytes)
}

impl Walk<'_> {
    fn offset(&self) -> u16 {
        u16::try_from(self.at).unwrap_or(NO_OFFSET)
    }

    fn metadata(&mut self) {
        let (m, k) = (self.meta, &mut self.key);
        k.in_port = m.in_port.0.to_be_bytes();
        k.packet_type = m.packet_type.to_be_bytes();
        k.recirc_id = m.recirc_id.to_be_bytes();
        k.dp_hash = m.dp_hash.to_be_bytes();
        k.skb_priority = m.skb_priority.to_be_bytes();
        k.pkt_mark = m.pkt_mark.to_be_bytes();
        if m.ct_state != 0 {
            k.ct_state = m.ct_state;
            k.ct_zone = m.ct_zone.to_be_bytes();
            k.ct_mark = m.ct_mark.to_be_bytes();
            k.ct_label = m.rare.map_or([0; 16], |r| r.ct_label);
        }
        if let Some(r) = m.rare
            && (r.tun_dst != [0; 4] || r.tun_ipv6_dst != [0; 16])
        {
            k.tun_id = r.tun_id;
            k.tun_src = r.tun_src;
            k.tun_dst = r.tun_dst;
            k.tun_flags = r.tun_flags;
            k.tun_tos = r.tun_tos;
            k.tun_ttl = r.tun_ttl;
            k.tun_ipv6_src = r.tun_ipv6_src;
            k.tun_ipv6_dst = r.tun_ipv6_dst;
            k.tun_tp_src = r.tun_tp_src;
            k.tun_tp_dst = r.tun_tp_dst;
            k.tun_gbp_id = r.tun_gbp_id;
            k.tun_gbp_flags = r.tun_gbp_flags;
            k.tun_erspan_ver = r.tun_erspan_ver;
            k.tun_erspan_idx = r.tun_erspan_idx;
            k.tun_erspan_dir = r.tun_erspan_dir;
            k.tun_erspan_hwid = r.tun_erspan_hwid;
            k.tun_gtpu_flags = r.tun_gtpu_flags;
            k.tun_gtpu_msgtype = r.tun_gtpu_msgtype;
            k.tun_metadata_present = r.tun_metadata_present;
            if r.tun_metadata_present != [0; 8] {
                k.tun_metadata = r.tun_metadata;
            }
        }
    }

    /// After the addresses or a tag: another tag if one is there, wanted and followed by a type.
    fn tag_or_type(&self) -> Layer {
        let b = &self.packet[self.at..];
        let tag = be16(b, 0) == eth_type::VLAN || be16(b, 0) == eth_type::QINQ;
        if tag && b.len() >= 6 && self.tags < self.meta.vlan_limit.min(VLANS_MAX) { Layer::Tag } else { Layer::Type }
    }

    fn extension_or_transport(&self) -> Layer {
        match self.proto {
            ip_proto::AH => Layer::Auth,
            ip_proto::FRAGMENT => Layer::Fragment,
            p if is_extension(p) => Layer::Options,
            _ => Layer::Transport,
        }
    }

    /// The packet ends `bytes` after the start of this layer; the rest is padding.
    fn ends_after(&mut self, bytes: usize) {
        let end = self.at + bytes;
        self.out.l2_pad = u16::try_from(self.end - end).expect("checked with the header's length");
        self.end = end;
    }

    fn original_tuple(&mut self, v6: bool) {
        if let Some(r) = self.meta.rare
            && self.meta.ct_state != 0
            && r.ct_nw_proto != 0
            && tuple_is_v6(r) == v6
        {
            self.key.ct_nw_proto = r.ct_nw_proto;
            self.key.ct_nw_src = r.ct_nw_src;
            self.key.ct_nw_dst = r.ct_nw_dst;
            self.key.ct_ipv6_src = r.ct_ipv6_src;
            self.key.ct_ipv6_dst = r.ct_ipv6_dst;
        }
    }

    fn original_ports(&mut self) {
        if let Some(r) = self.meta.rare
            && self.key.ct_nw_proto != 0
        {
            self.key.ct_tp_src = r.ct_tp_src;
            self.key.ct_tp_dst = r.ct_tp_dst;
        }
    }

    fn type_and_code(&mut self, kind: u8, code: u8) {
        self.key.tp_src = [0, kind];
        self.key.tp_dst = [0, code];
    }

    fn is_nd(&self) -> bool {
        self.key.tp_dst == [0, 0] && (self.key.tp_src == [0, wire::ND_SOLICIT] || self.key.tp_src == [0, wire::ND_ADVERT])
    }
}
