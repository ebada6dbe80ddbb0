//! Encapsulation by a prebuilt header (`tnl_push`).
//!
//! What enters: packets, and outer headers as translation built them, with lengths and checksums left open. What leaves: encapsulated
//! frames. Neighbours: `execute`; `port::offload` (GSO frames are cut and partial checksums completed before they disappear inside).
//!
//! Which fields are open is read off the header itself: UDP length, checksum (if not 0) and source port (RFC 7348 section 5: a hash of
//! the inner flow); GRE checksum and sequence number where the flags say so (RFC 2890); IPv4 length and checksum, IPv6 length; GTP-U's
//! length and sequence number; ERSPAN's time stamp. IPv6's flow label is where the action says so.
//!
//! A header is taken apart once for a bundle of packets. Per packet it is written by copies of a fixed size (more is copied than the header
//! has: what stands before it is headroom), and the IPv4 checksum costs one addition.

use crate::counters::{DROP_NO_BUFFER, DROP_TUNNEL_PUSH};
use crate::hash::fold;
use crate::parsed::Parsed;
use flow::action::TunnelPush;
use flow::action_text::vport;
use flow::checksum::{self, Sum};
use flow::clock;
use flow::key::Lines;
use flow::tunnel_ports;
use flow::wire::{eth_type, ip_proto};
use port::{Batch, GsoKind, Packet, offload};
use std::sync::atomic::{AtomicU32, Ordering};

const ETH_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const IPV6_LEN: u16 = 40;
const UDP_BYTES: usize = 8;
const GRE_CSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQ: u16 = 0x1000;
const GTPU_HAS_SEQ: u8 = 0x02;
const GTPU_BYTES: usize = 8;
const ERSPAN_V2: [u8; 2] = [0x22, 0xeb];
/// Sequence numbers are kept for so many tunnel ports apart; more share.
const SEQUENCES: usize = 256;
/// A header is copied in steps of so many bytes: one vector register, or two.
const STEP: usize = 64;
const STEPS_MAX: usize = 8;

/// Sequence numbers of GRE, ERSPAN and GTP-U tunnels.
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

/// What is open behind the IP header.
#[derive(Clone, Copy)]
enum Open {
    Nothing,
    /// Whether the checksum is wanted.
    Udp {
        checksum: bool,
    },
    Gtpu {
        checksum: bool,
    },
    Gre,
}

/// A header, taken apart.
struct Template<'h> {
    header: &'h [u8],
    /// The same, its end at the end of the last step that is used.
    padded: [u8; STEP * STEPS_MAX],
    /// Bytes of `padded` that are used.
    used: usize,
    ip: usize,
    v4: bool,
    /// The flow label is open (IPv6).
    labels: bool,
    proto: u8,
    l4: usize,
    open: Open,
    /// Of the IPv4 header without length and checksum.
    ip_sum: Sum,
    port: u32,
}

impl<'h> Template<'h> {
    /// `None` if it is no header.
    fn new(push: &'h TunnelPush) -> Option<Self> {
        let header = push.header.as_slice();
        let used = header.len().next_multiple_of(STEP);
        let mut padded = [0; STEP * STEPS_MAX];
        padded.get_mut(used.checked_sub(header.len())?..used)?.copy_from_slice(header);
        let (ip, v4, proto, l4) = layout(header)?;
        let open = open(push.kind, header, proto, l4)?;
        let ip_sum = if v4 {
            let mut fixed = [0; 20];
            fixed.copy_from_slice(header.get(ip..ip + 20)?);
            fixed[2..4].fill(0);
            fixed[10..12].fill(0);
            Sum::default().plus(&fixed)
        } else {
            Sum::default()
        };
        let labels = push.computes_label && !v4;
        Some(Self { header, padded, used, ip, v4, labels, proto, l4, open, ip_sum, port: push.tunnel_port.0 })
    }
}

/// Where the IP header begins, whether it is IPv4, the protocol behind it, and where that begins.
fn layout(header: &[u8]) -> Option<(usize, bool, u8, usize)> {
    let mut ip = ETH_BYTES;
    let mut ty = u16::from_be_bytes([*header.get(12)?, *header.get(13)?]);
    while ty == eth_type::VLAN || ty == eth_type::QINQ {
        ty = u16::from_be_bytes([*header.get(ip + 2)?, *header.get(ip + 3)?]);
        ip += 4;
    }
    let first = *header.get(ip)?;
    match (ty, first >> 4) {
        (eth_type::IPV4, 4) if first & 15 == 5 => Some((ip, true, *header.get(ip + 9)?, ip + 20)),
        (eth_type::IPV6, 6) => {
            let (mut proto, mut l4) = (*header.get(ip + 6)?, ip + IPV6_BYTES);
            // A routing header (SRv6) stands between (RFC 8200 section 4.4).
            while proto == ip_proto::ROUTING {
                proto = *header.get(l4)?;
                l4 += (usize::from(*header.get(l4 + 1)?) + 1) * 8;
            }
            Some((ip, false, proto, l4))
        }
        _ => None,
    }
}

/// What is to be filled in per packet. `None` if the header ends too early for it.
fn open(kind: u32, header: &[u8], proto: u8, l4: usize) -> Option<Open> {
    let rest = header.get(l4..)?;
    match proto {
        ip_proto::UDP => {
            let checksum = rest.get(6..UDP_BYTES)? != [0, 0];
            if kind != vport::GTPU {
                return Some(Open::Udp { checksum });
            }
            let flags = *rest.get(UDP_BYTES..UDP_BYTES + GTPU_BYTES)?.first()?;
            let whole = flags & GTPU_HAS_SEQ == 0 || rest.len() >= UDP_BYTES + GTPU_BYTES + 4;
            whole.then_some(Open::Gtpu { checksum })
        }
        ip_proto::GRE => {
            let flags = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
            let words = [GRE_CSUM, GRE_KEY, GRE_SEQ].iter().filter(|f| flags & **f != 0).count();
            let v2 = if rest.get(2..4)? == ERSPAN_V2 { 12 } else { 0 };
            (rest.len() >= 4 + 4 * words + v2).then_some(Open::Gre)
        }
        _ => Some(Open::Nothing),
    }
}

/// A hash of the inner flow, the same for all its packets: fragments of one packet have no ports in common.
#[inline]
pub fn entropy(parsed: &mut Parsed) -> u32 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    const ADDRESSES: Lines = Lines(0b10);
    let mix = |a: u64, b: u64| fold(a ^ MIX, b ^ MIX.rotate_left(32));
    let v6 = parsed.key.eth_type == [0x86, 0xdd];
    if v6 {
        parsed.ensure(ADDRESSES);
    }
    let key = &parsed.key;
    let four = |a: [u8; 4]| u64::from(u32::from_ne_bytes(a));
    let two = |a: [u8; 2]| u64::from(u16::from_ne_bytes(a));
    let ports = if key.nw_frag == 0 { two(key.tp_src) << 16 | two(key.tp_dst) } else { 0 };
    let transport = ports << 8 | u64::from(key.nw_proto);
    let hash = if v6 {
        let half = |a: &[u8; 16], i: usize| u64::from_ne_bytes(std::array::from_fn(|n| a[i + n]));
        let from = mix(half(&key.ipv6_src, 0), half(&key.ipv6_src, 8));
        mix(mix(from, transport), mix(half(&key.ipv6_dst, 0), half(&key.ipv6_dst, 8)))
    } else if key.eth_type == [0x08, 0x00] {
        mix(four(key.nw_src) << 32 | four(key.nw_dst), transport)
    } else {
        let [a, b, c, d, e, f] = key.eth_dst;
        let [g, h, i, j, k, l] = key.eth_src;
        let ty = two(key.eth_type) << 48;
        mix(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) | ty, u64::from_ne_bytes([g, h, i, j, k, l, 0, 0]))
    };
    u32::try_from(hash >> 32).unwrap_or(0)
}

/// Encapsulates every packet of `batch`; `hashes` are those of the inner flows, one per packet. Cut GSO frames may need more room than
/// the batch has: full batches then go to `more`, in order.
pub fn push(batch: &mut Batch, hashes: &[u32], push: &TunnelPush, sequences: &Sequences, more: &mut Vec<Batch>) {
    let Some(template) = Template::new(push) else {
        DROP_TUNNEL_PUSH.add(batch.len() as u64);
        batch.clear();
        return;
    };
    if batch.iter().all(Packet::is_plain) {
        let mut bad = 0u32;
        for (i, (packet, hash)) in batch.iter_mut().zip(hashes).enumerate() {
            if !encapsulate(packet, &template, *hash, sequences) {
                bad |= 1 << i;
            }
        }
        if bad != 0 {
            drop_some(batch, bad);
        }
        return;
    }
    let mut plain = std::mem::take(batch);
    for (packet, hash) in plain.drain().zip(hashes) {
        let mut done = |mut piece: Packet| {
            if !offload::complete(&mut piece) || !encapsulate(&mut piece, &template, *hash, sequences) {
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

#[cold]
fn drop_some(batch: &mut Batch, bad: u32) {
    DROP_TUNNEL_PUSH.add(bad.count_ones().into());
    let mut all = std::mem::take(batch);
    for (_, packet) in all.drain().enumerate().filter(|(i, _)| bad & 1 << i == 0) {
        // It came from a batch of the same size.
        let _ = batch.push(packet);
    }
}

#[inline]
fn encapsulate(packet: &mut Packet, template: &Template<'_>, hash: u32, sequences: &Sequences) -> bool {
    if !put_header(packet, template) {
        return false;
    }
    let total = packet.len();
    let (Ok(ip_len), Ok(l4_len)) = (u16::try_from(total - template.ip), u16::try_from(total - template.l4)) else {
        return false;
    };
    // What was known of the inner checksum says nothing of the outer one.
    packet.set_checksum(port::Checksum::Unknown);
    let bytes = packet.data_mut();
    finish_ip(bytes, template, ip_len);
    if template.labels {
        finish_label(bytes, template, hash);
    }
    match template.open {
        Open::Nothing => {}
        Open::Udp { checksum } => finish_udp(bytes, template, l4_len, hash, checksum),
        Open::Gtpu { checksum } => {
            finish_gtpu(bytes, template, l4_len, sequences);
            finish_udp(bytes, template, l4_len, hash, checksum);
        }
        Open::Gre => finish_gre(bytes, template, sequences),
    }
    true
}

/// Copies the header before the packet: in whole steps where there is headroom for them.
#[inline]
fn put_header(packet: &mut Packet, template: &Template<'_>) -> bool {
    let len = template.header.len();
    if packet.push_front(template.used) {
        for (to, from) in packet.data_mut().chunks_exact_mut(STEP).zip(template.padded[..template.used].chunks_exact(STEP)) {
            // Of known size, so that it is a few moves and no call.
            let (Some(to), Some(from)) = (to.first_chunk_mut::<STEP>(), from.first_chunk::<STEP>()) else { return false };
            *to = *from;
        }
        return packet.pull_front(template.used - len);
    }
    if !packet.push_front(len) {
        return false;
    }
    packet.data_mut()[..len].copy_from_slice(template.header);
    true
}

#[inline]
fn finish_ip(bytes: &mut [u8], at: &Template<'_>, ip_len: u16) {
    if at.v4 {
        let len = ip_len.to_be_bytes();
        let sum = at.ip_sum.plus(&len).finish();
        if let Some(ip) = bytes.get_mut(at.ip..at.ip + 20) {
            ip[2..4].copy_from_slice(&len);
            ip[10..12].copy_from_slice(&sum);
        }
    } else if let Some(field) = bytes.get_mut(at.ip + 4..at.ip + 6) {
        field.copy_from_slice(&ip_len.saturating_sub(IPV6_LEN).to_be_bytes());
    }
}

/// Twenty bits of a hash of the inner flow, and never 0, which is no label (RFC 6437 section 3).
fn finish_label(bytes: &mut [u8], at: &Template<'_>, hash: u32) {
    let [_, high, low @ ..] = (hash & 0xf_ffff).max(1).to_be_bytes();
    if let Some(field) = bytes.get_mut(at.ip + 1..at.ip + 4) {
        field[0] = field[0] & 0xf0 | high;
        field[1..].copy_from_slice(&low);
    }
}

#[inline]
fn finish_udp(bytes: &mut [u8], at: &Template<'_>, len: u16, hash: u32, checksum: bool) {
    let Some(udp) = bytes.get_mut(at.l4..at.l4 + UDP_BYTES) else {
        return;
    };
    udp[..2].copy_from_slice(&tunnel_ports::port_of(hash).to_be_bytes());
    udp[4..6].copy_from_slice(&len.to_be_bytes());
    if checksum {
        udp[6..8].fill(0);
        let sum = pseudo(bytes, at, usize::from(len)).plus(&bytes[at.l4..]).finish_udp();
        bytes[at.l4 + 6..at.l4 + 8].copy_from_slice(&sum);
    }
}

fn pseudo(bytes: &[u8], at: &Template<'_>, len: usize) -> Sum {
    if at.v4 {
        let a = |i: usize| -> [u8; 4] { std::array::from_fn(|n| bytes[at.ip + i + n]) };
        checksum::pseudo4(a(12), a(16), at.proto, len)
    } else {
        let a = |i: usize| -> [u8; 16] { std::array::from_fn(|n| bytes[at.ip + i + n]) };
        checksum::pseudo6(&a(8), &a(24), at.proto, len)
    }
}

/// Length and sequence number (3GPP TS 29.281 section 5.1): the length is what follows the first eight bytes.
fn finish_gtpu(bytes: &mut [u8], at: &Template<'_>, l4_len: u16, sequences: &Sequences) {
    let Some(gtpu) = bytes.get_mut(at.l4 + UDP_BYTES..) else {
        return;
    };
    let len = usize::from(l4_len).saturating_sub(UDP_BYTES + GTPU_BYTES);
    gtpu[2..4].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    if gtpu[0] & GTPU_HAS_SEQ != 0 {
        let [_, _, high, low] = sequences.next(at.port).to_be_bytes();
        gtpu[8..10].copy_from_slice(&[high, low]);
    }
}

fn finish_gre(bytes: &mut [u8], at: &Template<'_>, sequences: &Sequences) {
    let Some(gre) = bytes.get_mut(at.l4..) else {
        return;
    };
    let flags = u16::from_be_bytes([gre[0], gre[1]]);
    let has_csum = flags & GRE_CSUM != 0;
    if flags & GRE_SEQ != 0 {
        let seq = 4 + if has_csum { 4 } else { 0 } + if flags & GRE_KEY != 0 { 4 } else { 0 };
        gre[seq..seq + 4].copy_from_slice(&sequences.next(at.port).to_be_bytes());
        if gre[2..4] == ERSPAN_V2 {
            // In units of 100 microseconds (draft-foschiano-erspan section 4.3).
            let stamp = u32::try_from(clock::now_ms().wrapping_mul(10) & 0xffff_ffff).unwrap_or(0);
            gre[seq + 8..seq + 12].copy_from_slice(&stamp.to_be_bytes());
        }
    }
    if has_csum {
        gre[4..6].fill(0);
        let sum = checksum::checksum(gre);
        gre[4..6].copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    use flow::DpPort;

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

    fn run(kind: u32, header: Vec<u8>, inner: &[u8]) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.push(Packet::from_bytes(inner).unwrap()).unwrap();
        let action = TunnelPush { tunnel_port: DpPort(1), out_port: DpPort(2), kind, header, computes_label: false };
        push(&mut batch, &[0x8000_0000], &action, &Sequences::default(), &mut Vec::new());
        batch.drain().next().unwrap().data().to_vec()
    }

    #[test]
    fn vxlan_has_lengths_port_and_checksums() {
        for csum in [0, 0xffff] {
            let out = run(vport::VXLAN, header(csum), &[7; 60]);
            assert_eq!(out.len(), 110);
            assert_eq!(out[50..], [7; 60]);
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

    /// Headers longer than the headroom's steps, and of every length, are copied whole.
    #[test]
    fn every_length_of_header() {
        for more in 0..120 {
            let mut h = header(0);
            h.extend((0..more).map(|i| u8::try_from(i).unwrap()));
            let out = run(vport::GENEVE, h.clone(), &[9; 64]);
            assert_eq!((&out[42..h.len()], &out[h.len()..]), (&h[42..], &[9; 64][..]), "{more}");
        }
    }

    #[test]
    fn gtpu_says_how_long_it_is() {
        let mut h = header(0);
        h[42..50].copy_from_slice(&[0x32, 255, 0, 0, 0, 0, 0, 7]);
        h.extend([0; 4]);
        let out = run(vport::GTPU, h, &[0x45; 40]);
        assert_eq!(out[42..54], [0x32, 255, 0, 44, 0, 0, 0, 7, 0, 0, 0, 0]);
    }

    /// Where the label is open, each packet has that of its own flow, and the traffic class stays.
    #[test]
    fn flow_labels_are_made_of_the_inner_flow() {
        let mut header = vec![0u8; 78];
        header[12..14].copy_from_slice(&[0x86, 0xdd]);
        header[14..18].copy_from_slice(&[0x6b, 0x81, 0x23, 0x45]);
        header[20] = ip_proto::ROUTING;
        (header[54], header[55], header[56]) = (41, 2, 4);
        let label = |hashes: [u32; 2], computes_label: bool| {
            let mut batch = Batch::new();
            hashes.iter().for_each(|_| batch.push(Packet::from_bytes(&[0x60; 60]).unwrap()).unwrap());
            let (tunnel_port, out_port) = (DpPort(1), DpPort(2));
            let action = TunnelPush { tunnel_port, out_port, kind: vport::SRV6, header: header.clone(), computes_label };
            push(&mut batch, &hashes, &action, &Sequences::default(), &mut Vec::new());
            let words: Vec<u32> = batch.iter().map(|p| u32::from_be_bytes(*p.data()[14..].first_chunk().unwrap())).collect();
            assert!(words.iter().all(|word| word >> 20 == 0x6b8));
            [words[0] & 0xf_ffff, words[1] & 0xf_ffff]
        };
        assert_eq!(label([0xabc_12345, 0xfff_00000], true), [0x12345, 1]);
        assert_eq!(label([0xabc_12345, 0xfff_00000], false), [0x12345; 2], "as the header has it");
        assert_eq!(label([0x000f_edcb, 7], true), [0xf_edcb, 7]);
    }

    #[test]
    fn a_header_that_is_none_drops() {
        let before = DROP_TUNNEL_PUSH.count();
        let bad = [vec![1, 2, 3], header(0)[..40].to_vec(), vec![0x45; 600]];
        for header in bad {
            let mut batch = Batch::new();
            batch.push(Packet::from_bytes(&[7; 60]).unwrap()).unwrap();
            let action =
                TunnelPush { tunnel_port: DpPort(1), out_port: DpPort(2), kind: vport::VXLAN, header, computes_label: false };
            push(&mut batch, &[0], &action, &Sequences::default(), &mut Vec::new());
            assert!(batch.is_empty());
        }
        assert!(DROP_TUNNEL_PUSH.count() >= before + 3);
    }
}
