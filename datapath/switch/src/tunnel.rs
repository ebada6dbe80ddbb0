//! Encapsulation by a prebuilt header (`tnl_push`).
//!
//! What enters: packets, and outer headers as translation built them, with lengths and checksums left open. What leaves: encapsulated
//! frames. Neighbours: `execute`; `port::offload` (GSO frames are cut and partial checksums completed before they disappear inside).
//!
//! Which fields are open is read off the header itself: UDP length, checksum (if not 0) and source port (RFC 7348 section 5: a hash of
//! the inner flow); GRE checksum and sequence number where the flags say so (RFC 2890); IPv4 length and checksum, IPv6 length.

use crate::counters::{DROP_NO_BUFFER, DROP_TUNNEL_PUSH};
use flow::checksum;
use flow::wire::{eth_type, ip_proto};
use port::{Batch, GsoKind, Packet, offload};
use std::sync::atomic::{AtomicU32, Ordering};

/// Source ports of UDP tunnels (OVS: tnl_udp_port_min, tnl_udp_port_max).
const UDP_PORTS: std::ops::Range<u32> = 32_768..61_000;
const ETH_BYTES: usize = 14;
const GRE_CSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQ: u16 = 0x1000;
/// Sequence numbers are kept for so many tunnel ports apart; more share.
const SEQUENCES: usize = 256;

/// Sequence numbers of GRE tunnels.
#[derive(Debug)]
pub struct Sequences([AtomicU32; SEQUENCES]);

impl Default for Sequences {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Sequences {
    fn next(&self, port: u32) -> u32 {
        self.0[port as usize % SEQUENCES].fetch_add(1, Ordering::Relaxed)
    }
}

/// Where the parts of an outer header begin.
struct Layout {
    ip: usize,
    version: u8,
    proto: u8,
    l4: usize,
}

fn layout(header: &[u8]) -> Option<Layout> {
    let mut ip = ETH_BYTES;
    let mut ty = u16::from_be_bytes([*header.get(12)?, *header.get(13)?]);
    while ty == eth_type::VLAN || ty == eth_type::QINQ {
        ty = u16::from_be_bytes([*header.get(ip + 2)?, *header.get(ip + 3)?]);
        ip += 4;
    }
    let first = *header.get(ip)?;
    match (ty, first >> 4) {
        (eth_type::IPV4, 4) => {
            let l4 = ip + usize::from(first & 15) * 4;
            Some(Layout { ip, version: 4, proto: *header.get(ip + 9)?, l4 })
        }
        (eth_type::IPV6, 6) => {
            let (mut proto, mut l4) = (*header.get(ip + 6)?, ip + 40);
            // A routing header (SRv6) stands between (RFC 8200 section 4.4).
            while proto == ip_proto::ROUTING {
                proto = *header.get(l4)?;
                l4 += (usize::from(*header.get(l4 + 1)?) + 1) * 8;
            }
            Some(Layout { ip, version: 6, proto, l4 })
        }
        _ => None,
    }
}

/// Encapsulates every packet of `batch`; `hashes` are those of the inner flows, one per packet. Cut GSO frames may need more room than
/// the batch has: full batches then go to `more`, in order.
pub fn push(batch: &mut Batch, hashes: &[u32], push: &flow::action::TunnelPush, sequences: &Sequences, more: &mut Vec<Batch>) {
    let Some(at) = layout(&push.header) else {
        DROP_TUNNEL_PUSH.add(batch.len() as u64);
        batch.clear();
        return;
    };
    let mut plain = std::mem::take(batch);
    for (packet, hash) in plain.drain().zip(hashes) {
        let mut done = |mut piece: Packet| {
            if !offload::complete(&mut piece) || !encapsulate(&mut piece, &at, push, *hash, sequences) {
                DROP_TUNNEL_PUSH.inc();
                return;
            }
            if batch.is_full() {
                more.push(std::mem::take(batch));
            }
            // There is room now.
            let _ = batch.push(piece);
        };
        if packet.gso().kind == GsoKind::None {
            done(packet);
        } else if offload::segment(&packet, &mut done).is_err() {
            DROP_NO_BUFFER.inc();
        }
    }
}

fn encapsulate(packet: &mut Packet, at: &Layout, push: &flow::action::TunnelPush, hash: u32, sequences: &Sequences) -> bool {
    let header = &push.header;
    if !packet.push_front(header.len()) {
        return false;
    }
    let total = packet.len();
    let (ip_bytes, l4_bytes) = (total - at.ip, total - at.l4);
    let (Ok(ip_len), Ok(l4_len)) = (u16::try_from(ip_bytes), u16::try_from(l4_bytes)) else {
        return false;
    };
    let bytes = packet.data_mut();
    bytes[..header.len()].copy_from_slice(header);
    let ok = match at.proto {
        ip_proto::UDP => finish_udp(bytes, at, l4_len, hash),
        ip_proto::GRE => finish_gre(bytes, at, push.tunnel_port.0, sequences),
        _ => true,
    };
    finish_ip(bytes, at, ip_len) && ok
}

fn finish_udp(bytes: &mut [u8], at: &Layout, len: u16, hash: u32) -> bool {
    let Some(udp) = bytes.get_mut(at.l4..at.l4 + 8) else {
        return false;
    };
    let span = u64::from(UDP_PORTS.end - UDP_PORTS.start);
    // A hash scaled to the range, as OVS does it.
    let offset = u32::try_from((u64::from(hash) * span) >> 32).unwrap_or(0);
    let src = u16::try_from(UDP_PORTS.start + offset).unwrap_or(u16::MAX);
    udp[..2].copy_from_slice(&src.to_be_bytes());
    udp[4..6].copy_from_slice(&len.to_be_bytes());
    if udp[6..8] == [0, 0] {
        return true;
    }
    udp[6..8].fill(0);
    let pseudo = pseudo(bytes, at, usize::from(len));
    let sum = pseudo.plus(&bytes[at.l4..]).finish_udp();
    bytes[at.l4 + 6..at.l4 + 8].copy_from_slice(&sum);
    true
}

fn pseudo(bytes: &[u8], at: &Layout, len: usize) -> checksum::Sum {
    if at.version == 4 {
        let a = |i: usize| -> [u8; 4] { std::array::from_fn(|n| bytes[at.ip + i + n]) };
        checksum::pseudo4(a(12), a(16), at.proto, len)
    } else {
        let a = |i: usize| -> [u8; 16] { std::array::from_fn(|n| bytes[at.ip + i + n]) };
        checksum::pseudo6(&a(8), &a(24), at.proto, len)
    }
}

fn finish_gre(bytes: &mut [u8], at: &Layout, port: u32, sequences: &Sequences) -> bool {
    let Some(base) = bytes.get(at.l4..at.l4 + 4) else {
        return false;
    };
    let flags = u16::from_be_bytes([base[0], base[1]]);
    let has_csum = flags & GRE_CSUM != 0;
    if flags & GRE_SEQ != 0 {
        let seq = at.l4 + 4 + if has_csum { 4 } else { 0 } + if flags & GRE_KEY != 0 { 4 } else { 0 };
        let Some(field) = bytes.get_mut(seq..seq + 4) else {
            return false;
        };
        field.copy_from_slice(&sequences.next(port).to_be_bytes());
    }
    if has_csum {
        let Some(field) = bytes.get_mut(at.l4 + 4..at.l4 + 6) else {
            return false;
        };
        field.fill(0);
        let sum = checksum::checksum(&bytes[at.l4..]);
        bytes[at.l4 + 4..at.l4 + 6].copy_from_slice(&sum);
    }
    true
}

fn finish_ip(bytes: &mut [u8], at: &Layout, ip_len: u16) -> bool {
    const IPV6_BYTES: u16 = 40;
    if at.version == 4 {
        let Some(ip) = bytes.get_mut(at.ip..at.l4) else {
            return false;
        };
        ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
        ip[10..12].fill(0);
        let sum = checksum::checksum(ip);
        ip[10..12].copy_from_slice(&sum);
    } else {
        let len = ip_len.saturating_sub(IPV6_BYTES).to_be_bytes();
        bytes[at.ip + 4..at.ip + 6].copy_from_slice(&len);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    use flow::DpPort;
    use flow::action::TunnelPush;

    fn header(udp_csum: u16) -> Vec<u8> {
        let mut h = vec![0u8; 50];
        h[12..14].copy_from_slice(&[8, 0]);
        h[14] = 0x45;
        h[22] = 64;
        h[23] = 17;
        h[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        h[36..38].copy_from_slice(&4789u16.to_be_bytes());
        h[40..42].copy_from_slice(&udp_csum.to_be_bytes());
        h[42] = 8;
        h[48] = 42;
        h
    }

    fn run(header: Vec<u8>, inner: &[u8]) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.push(Packet::from_bytes(inner).unwrap()).unwrap();
        let action = TunnelPush { tunnel_port: DpPort(1), out_port: DpPort(2), kind: 4, header };
        push(&mut batch, &[0x8000_0000], &action, &Sequences::default(), &mut Vec::new());
        batch.drain().next().unwrap().data().to_vec()
    }

    #[test]
    fn vxlan_has_lengths_port_and_checksums() {
        for csum in [0, 0xffff] {
            let out = run(header(csum), &[7; 60]);
            assert_eq!(out.len(), 110);
            assert_eq!(offload::verify(&out).0, offload::Verdict::Good);
            let parsed = PacketHeaders::from_ethernet_slice(&out).unwrap();
            let Some(NetHeaders::Ipv4(ip, _)) = parsed.net else { panic!("no IPv4") };
            assert_eq!(ip.total_len, 96);
            let Some(TransportHeader::Udp(udp)) = parsed.transport else { panic!("no UDP") };
            assert_eq!((udp.length, udp.source_port, udp.destination_port), (76, 32_768 + 14_116, 4789));
            assert_eq!(udp.checksum != 0, csum != 0);
            if csum != 0 {
                assert_eq!(offload::verify(&out).1, offload::Verdict::Good);
            }
        }
    }

    #[test]
    fn a_header_that_is_none_drops() {
        let before = DROP_TUNNEL_PUSH.count();
        let mut batch = Batch::new();
        batch.push(Packet::from_bytes(&[7; 60]).unwrap()).unwrap();
        let action = TunnelPush { tunnel_port: DpPort(1), out_port: DpPort(2), kind: 4, header: vec![1, 2, 3] };
        push(&mut batch, &[0], &action, &Sequences::default(), &mut Vec::new());
        assert!(batch.is_empty());
        assert!(DROP_TUNNEL_PUSH.count() > before);
    }
}
