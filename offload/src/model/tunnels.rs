//! The model's tunnel devices: outer headers put on and taken off, byte by byte.
//!
//! What enters: parameters of `tunnel_key set` and frames; frames of an uplink. What leaves: encapsulated frames; the key that a decapsulated
//! packet's outer header makes, and the packet. Neighbours: `packet`. It shares nothing with `plan::outer`: the two are held equal by tests.

use crate::capabilities::{Ends, TunnelKind, Way};
use crate::rule::TunnelSet;
use flow::checksum::{checksum, pseudo4, pseudo6};
use flow::extract::{NO_OFFSET, NetworkLayer, PacketMeta, extract_whole};
use flow::key::{Key, TUN_CSUM, TUN_DF, TUN_KEY};
use flow::wire::ip_proto;
use flow::{DpPort, tunnel_ports};
use std::collections::BTreeMap;
use std::net::IpAddr;

const ETH: usize = 14;
const UDP: usize = 8;
const TUNNEL: usize = 8;

/// A tunnel device.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    pub ifindex: u32,
    pub kind: TunnelKind,
    pub dst_port: u16,
    /// The port that its packets come in and leave by.
    pub uplink: u32,
}

/// All of them, and what is known of the network.
#[derive(Clone, Debug, Default)]
pub struct Tunnels {
    pub devices: Vec<Tunnel>,
    pub ways: BTreeMap<Ends, Way>,
}

/// A packet that came out of a tunnel: the device, its key's tunnel fields, itself.
pub(super) struct Inner {
    pub(super) ifindex: u32,
    pub(super) fields: Box<Key>,
    pub(super) bytes: Vec<u8>,
}

impl Tunnels {
    /// The device of that index.
    pub(super) fn at(&self, ifindex: u32) -> Option<&Tunnel> {
        self.devices.iter().find(|t| t.ifindex == ifindex)
    }

    /// The packet as the device sends it; `None` if there is no way.
    pub(super) fn encapsulate(&self, tunnel: &Tunnel, set: &TunnelSet, inner: &[u8]) -> Option<Vec<u8>> {
        let way = self.ways.get(&Ends { src: set.src?, dst: set.dst })?;
        let mut l4 = Vec::new();
        // The source port is a hash of the flow; this one is as good as any.
        let hash = inner.iter().fold(0u32, |h, b| h.rotate_left(5) ^ u32::from(*b));
        l4.extend_from_slice(&tunnel_ports::port_of(hash).to_be_bytes());
        l4.extend_from_slice(&set.dst_port.to_be_bytes());
        let options = if tunnel.kind == TunnelKind::Geneve { set.geneve.len() } else { 0 };
        let len = UDP + TUNNEL + options + inner.len();
        l4.extend_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        l4.extend_from_slice(&[0; 2]);
        let [_, a, b, c] = set.id.unwrap_or(0).to_be_bytes();
        match tunnel.kind {
            TunnelKind::Vxlan => {
                let policy = set.gbp.map_or(0, |gbp| 0x8000_0000 | gbp);
                l4.extend_from_slice(&(0x0800_0000 | policy).to_be_bytes());
                l4.extend_from_slice(&[a, b, c, 0]);
            }
            TunnelKind::Geneve => {
                l4.extend_from_slice(&[u8::try_from(options / 4).ok()?, 0, 0x65, 0x58, a, b, c, 0]);
                l4.extend_from_slice(&set.geneve);
            }
            TunnelKind::Gre => return None,
        }
        l4.extend_from_slice(inner);
        let mut out = [way.dst_mac, way.src_mac].concat();
        let sum = match (set.src?, set.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                out.extend_from_slice(&[8, 0]);
                out.extend_from_slice(&ipv4(set, src.octets(), dst.octets(), len));
                pseudo4(src.octets(), dst.octets(), ip_proto::UDP, len)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                out.extend_from_slice(&[0x86, 0xdd]);
                out.extend_from_slice(&[0x60 | set.tos >> 4, set.tos << 4, 0, 0]);
                out.extend_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
                out.extend_from_slice(&[ip_proto::UDP, set.ttl]);
                out.extend_from_slice(&src.octets());
                out.extend_from_slice(&dst.octets());
                pseudo6(&src.octets(), &dst.octets(), ip_proto::UDP, len)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        if set.csum {
            let sum = sum.plus(&l4).finish_udp();
            l4[6..8].copy_from_slice(&sum);
        }
        out.extend_from_slice(&l4);
        Some(out)
    }

    /// What is inside of a frame that came in by an uplink, if it is one of a tunnel's.
    pub(super) fn decapsulate(&self, uplink: DpPort, bytes: &[u8]) -> Option<Inner> {
        if self.devices.is_empty() {
            return None;
        }
        let mut outer = Box::new(Key::ZERO);
        let meta = PacketMeta { in_port: uplink, ..PacketMeta::default() };
        let found = extract_whole(bytes, &meta, &mut outer);
        let (l3, l4) = (usize::from(found.l3), usize::from(found.l4));
        // Neither tags, nor IP options, nor fragments, nor frames that were padded.
        let plain = found.l4 != NO_OFFSET && l3 == ETH && outer.nw_proto == ip_proto::UDP && outer.nw_frag == 0;
        let v4 = found.network == NetworkLayer::Ipv4;
        if !plain || l4 - l3 != if v4 { 20 } else { 40 } || found.l2_pad != 0 {
            return None;
        }
        let port = u16::from_be_bytes(outer.tp_dst);
        let tunnel = self.devices.iter().find(|t| t.uplink == uplink.0 && t.dst_port == port)?;
        let header = bytes.get(l4 + UDP..l4 + UDP + TUNNEL)?;
        let mut fields = Box::new(Key::ZERO);
        let options = match tunnel.kind {
            TunnelKind::Vxlan if header[..4] == [8, 0, 0, 0] && header[7] == 0 => 0,
            TunnelKind::Geneve if header[0] & 0xc0 == 0 && header[1] == 0 && header[2..4] == [0x65, 0x58] => {
                usize::from(header[0]) * 4
            }
            TunnelKind::Vxlan | TunnelKind::Geneve | TunnelKind::Gre => return None,
        };
        let start = l4 + UDP + TUNNEL + options;
        fields.tun_metadata[..options].copy_from_slice(bytes.get(start - options..start)?);
        fields.tun_metadata_present[7] = u8::try_from(options).ok()?;
        fields.tun_id[5..].copy_from_slice(&header[4..7]);
        (fields.tun_src, fields.tun_dst) = (outer.nw_src, outer.nw_dst);
        (fields.tun_ipv6_src, fields.tun_ipv6_dst) = (outer.ipv6_src, outer.ipv6_dst);
        (fields.tun_tos, fields.tun_ttl) = (outer.nw_tos, outer.nw_ttl);
        (fields.tun_tp_src, fields.tun_tp_dst) = (outer.tp_src, outer.tp_dst);
        let df = v4 && bytes[l3 + 6] & 0x40 != 0;
        let sum = bytes[l4 + 6..l4 + 8] != [0; 2];
        let flags = TUN_KEY | if df { TUN_DF } else { 0 } | if sum { TUN_CSUM } else { 0 };
        fields.tun_flags = flags.to_be_bytes();
        Some(Inner { ifindex: tunnel.ifindex, fields, bytes: bytes.get(start..)?.to_vec() })
    }
}

fn ipv4(set: &TunnelSet, src: [u8; 4], dst: [u8; 4], len: usize) -> [u8; 20] {
    let mut ip = [0; 20];
    (ip[0], ip[1], ip[8], ip[9]) = (0x45, set.tos, set.ttl, ip_proto::UDP);
    ip[2..4].copy_from_slice(&u16::try_from(len + 20).unwrap_or(0).to_be_bytes());
    ip[6] = if set.df { 0x40 } else { 0 };
    ip[12..16].copy_from_slice(&src);
    ip[16..20].copy_from_slice(&dst);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    ip
}
