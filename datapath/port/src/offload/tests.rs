//! Checksums and segmentation against etherparse, an independent builder and parser.

use super::*;
use crate::packet::Gso;
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Shape {
    v6: bool,
    vlan: bool,
    udp: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    any::<(bool, bool, bool)>().prop_map(|(v6, vlan, udp)| Shape { v6, vlan, udp })
}

fn build(shape: Shape, seq: u32, payload: &[u8]) -> Vec<u8> {
    let eth = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut out = Vec::new();
    macro_rules! rest {
        ($eth:expr) => {{
            let ip = if shape.v6 { $eth.ipv6([1; 16], [2; 16], 64) } else { $eth.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64) };
            if shape.udp {
                ip.udp(1000, 2000).write(&mut out, payload).unwrap();
            } else {
                ip.tcp(1000, 2000, seq, 8192).psh().fin().ack(99).write(&mut out, payload).unwrap();
            }
        }};
    }
    if shape.vlan {
        rest!(eth.single_vlan(5.try_into().unwrap()));
    } else {
        rest!(eth);
    }
    out
}

/// A packet in the form in which a sender with checksum offload leaves it.
fn unfinished(frame: &[u8]) -> Packet {
    let at = Layout::parse(frame).unwrap();
    let offset = if at.proto == TCP { 16 } else { 6 };
    let mut packet = Packet::from_bytes(frame).unwrap();
    let field = at.l4 + usize::from(offset);
    packet.data_mut()[field..field + 2].copy_from_slice(&at.pseudo_sum(frame).to_be_bytes());
    packet.set_checksum(Checksum::Partial { start: u32::try_from(at.l4).unwrap(), offset });
    packet
}

fn good(frame: &[u8]) -> bool {
    matches!(verify(frame), (Verdict::Good | Verdict::NotThere, Verdict::Good))
}

proptest! {
    #[test]
    fn completing_gives_what_etherparse_builds(shape in shape(), payload in prop::collection::vec(any::<u8>(), 0..1400)) {
        let frame = build(shape, 7, &payload);
        prop_assert!(good(&frame));
        let mut packet = unfinished(&frame);
        prop_assert!(complete(&mut packet));
        prop_assert_eq!(packet.data(), &frame[..]);
        prop_assert_eq!(packet.checksum(), Checksum::Good);
    }

    #[test]
    fn unfinished_packets_are_recognised(shape in shape(), payload in prop::collection::vec(any::<u8>(), 0..100), pad in 0usize..9) {
        let frame = build(shape, 7, &payload);
        let mut packet = unfinished(&frame);
        let expect = packet.checksum();
        packet.set_checksum(Checksum::Unknown);
        packet.set_len(frame.len() + pad);
        recognise_partial(&mut packet);
        prop_assert_eq!(packet.checksum(), expect);
        prop_assert_eq!(packet.len(), frame.len());
        // A finished one stays as it is, or completes to itself.
        let mut packet = Packet::from_bytes(&frame).unwrap();
        recognise_partial(&mut packet);
        prop_assert!(complete(&mut packet));
        prop_assert_eq!(packet.data(), &frame[..]);
    }

    #[test]
    fn a_flipped_bit_is_found(shape in shape(), payload in prop::collection::vec(any::<u8>(), 1..100), bit in 0usize..800) {
        let mut frame = build(shape, 7, &payload);
        let from = Layout::parse(&frame).unwrap().l4 * 8;
        let bit = from + bit % (frame.len() * 8 - from);
        // The UDP length is not what the sum covers alone, and a UDP checksum of 0 means none.
        frame[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!good(&frame));
    }

    #[test]
    fn pieces_join_to_the_whole(
        shape in shape(), seq in any::<u32>(), size in 100u16..1500,
        payload in prop::collection::vec(any::<u8>(), 1..20_000), tunnel in any::<bool>(),
    ) {
        let frame = build(shape, seq, &payload);
        let (frame, start) = if tunnel { encapsulate(&frame) } else { (frame.clone(), 0) };
        let mut packet = unfinished(&frame);
        if tunnel {
            let inner = Layout::parse(&frame[start..]).unwrap().l4 + start;
            let offset = if shape.udp { 6 } else { 16 };
            packet = Packet::from_bytes(&frame).unwrap();
            packet.set_checksum(Checksum::Partial { start: u32::try_from(inner).unwrap(), offset });
        }
        let kind = match shape { Shape { udp: true, .. } => GsoKind::Udp, Shape { v6: true, .. } => GsoKind::Tcp6, _ => GsoKind::Tcp4 };
        packet.set_gso(Gso { kind, size, ecn: false });
        let mut pieces = Vec::new();
        let n = segment(&packet, &mut |p| pieces.push(p)).unwrap();
        prop_assert_eq!(n, payload.len().div_ceil(size.into()));
        prop_assert_eq!(n, pieces.len());
        let mut joined = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            if tunnel {
                prop_assert!(good(piece.data()));
                prop_assert_eq!(Layout::parse(piece.data()).unwrap().end, piece.len());
            }
            let bytes = &piece.data()[start..];
            prop_assert!(good(bytes));
            let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
            match sliced.transport.unwrap() {
                TransportSlice::Tcp(tcp) => {
                    prop_assert_eq!(tcp.sequence_number(), seq.wrapping_add(u32::try_from(joined.len()).unwrap()));
                    prop_assert_eq!((tcp.fin(), tcp.psh()), (i + 1 == n, i + 1 == n));
                    joined.extend_from_slice(tcp.payload());
                }
                TransportSlice::Udp(udp) => joined.extend_from_slice(udp.payload()),
                other @ (TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) => {
                    prop_assert!(false, "{other:?}");
                }
            }
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0..4, at in 0usize..4) {
        let mut bytes = bytes;
        if bytes.len() > 20 && kind > 0 {
            let types = [[8, 0], [0x86, 0xdd], [0x88, 0x47], [0x81, 0]];
            bytes[12..14].copy_from_slice(&types[at]);
            bytes[14] = if at == 1 { 0x60 } else { 0x45 };
        }
        let _ = verify(&bytes);
        let mut packet = Packet::from_bytes(&bytes).unwrap();
        recognise_partial(&mut packet);
        packet.set_gso(Gso { kind: [GsoKind::None, GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp][at], size: 7, ecn: true });
        let _ = segment(&packet, &mut |_| ());
        let _ = complete(&mut packet);
    }
}

/// Puts a frame into VXLAN over UDP over IPv4; where the inner frame starts.
fn encapsulate(frame: &[u8]) -> (Vec<u8>, usize) {
    let mut inner = vec![8, 0, 0, 0, 0, 0, 7, 0];
    inner.extend_from_slice(frame);
    let mut out = Vec::new();
    PacketBuilder::ethernet2([4; 6], [6; 6]).ipv4([1, 1, 1, 1], [2, 2, 2, 2], 9).udp(5, 4789).write(&mut out, &inner).unwrap();
    (out, 14 + 20 + 8 + 8)
}

#[test]
fn sctp_has_its_crc() {
    // common header (ports 1, 2, tag 3), CRC, a COOKIE-ACK chunk
    let sctp = [0, 1, 0, 2, 0, 0, 0, 3, 9, 9, 9, 9, 11, 0, 0, 4];
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([1, 1, 1, 1], [2, 2, 2, 2], 64)
        .write(&mut frame, etherparse::IpNumber(SCTP), &sctp)
        .unwrap();
    assert_eq!(verify(&frame), (Verdict::Good, Verdict::Bad));
    let mut packet = Packet::from_bytes(&frame).unwrap();
    packet.set_checksum(Checksum::Partial { start: 34, offset: 8 });
    assert!(complete(&mut packet));
    assert_eq!(verify(packet.data()), (Verdict::Good, Verdict::Good));
}

#[test]
fn positions_outside_the_frame_are_refused() {
    let mut packet = Packet::from_bytes(&[0; 60]).unwrap();
    for (start, offset) in [(60, 0), (59, 0), (50, 9), (0, 60), (u32::MAX, 2), (56, 8)] {
        packet.set_checksum(Checksum::Partial { start, offset });
        assert!(!complete(&mut packet));
    }
}
