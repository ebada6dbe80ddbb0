//! What becomes of packets too long for a tunnel; answers are read by another decoder.

use super::*;
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use flow::compose::{Payload, compose};
use flow::extract::PacketMeta;
use flow::key::Key;

const ROOM: usize = 1014;

fn key4() -> Key {
    let mut key = Key::ZERO;
    (key.eth_dst, key.eth_src, key.eth_type) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], [8, 0]);
    (key.nw_src, key.nw_dst, key.nw_proto, key.nw_ttl) = ([10, 0, 0, 1], [10, 0, 0, 2], ip_proto::UDP, 64);
    (key.tp_src, key.tp_dst) = ([0, 7], [0, 9]);
    key
}

fn key6() -> Key {
    let mut key = key4();
    (key.eth_type, key.nw_src, key.nw_dst) = ([0x86, 0xdd], [0; 4], [0; 4]);
    (key.ipv6_src[0], key.ipv6_src[15], key.ipv6_dst[0], key.ipv6_dst[15]) = (0xfd, 1, 0xfd, 2);
    key
}

/// A frame of 1,500 bytes behind Ethernet, changed by `edit` from its IP header on (IPv4's checksum is put right).
fn packet(key: &Key, edit: impl Fn(&mut [u8])) -> (Packet, Parsed) {
    let mut frame = compose(key, Payload::FrameLen(1514));
    let l3 = if key.vlan_tci == [0; 2] { 14 } else { 18 };
    let four = key.eth_type == [8, 0];
    let length = if four { 1500u16 } else { 1460 };
    let at = if four { l3 + 2 } else { l3 + 4 };
    frame.truncate(l3 + 1500);
    frame.resize(l3 + 1500, 0x5a);
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
    edit(&mut frame[l3..]);
    if four {
        frame[l3 + 10..l3 + 12].fill(0);
        let sum = checksum(&frame[l3..l3 + 20]);
        frame[l3 + 10..l3 + 12].copy_from_slice(&sum);
    }
    let packet = Packet::from_bytes(&frame).unwrap();
    let mut parsed = Parsed::new();
    parsed.read(packet.data(), &PacketMeta { vlan_limit: 2, ..PacketMeta::default() });
    (packet, parsed)
}

fn fate(key: &Key, edit: impl Fn(&mut [u8])) -> Fate {
    let (packet, parsed) = packet(key, edit);
    judge(&packet, &parsed, ROOM)
}

fn dont_fragment(ip: &mut [u8]) {
    ip[6] = 0x40;
}

#[test]
fn a_sender_that_forbids_fragments_is_told_the_mtu() {
    let mut tagged = key4();
    (tagged.vlan_tci, tagged.vlan_tpid) = ([0x10, 5], [0x81, 0]);
    for (key, mtu) in [(key4(), 1000), (tagged, 996)] {
        let Fate::Answer(frame) = fate(&key, dont_fragment) else { panic!("no answer") };
        let headers = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(NetHeaders::Ipv4(ip, _)) = headers.net else { panic!("no IPv4") };
        assert_eq!((ip.source, ip.destination, ip.total_len), (key.nw_dst, key.nw_src, 576));
        let Some(TransportHeader::Icmpv4(icmp)) = headers.transport else { panic!("no ICMP") };
        let expected = etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
        assert_eq!(icmp.icmp_type, etherparse::Icmpv4Type::DestinationUnreachable(expected));
        assert_eq!(frame[..6], key.eth_src);
        assert_eq!(offload::verify(&frame).0, offload::Verdict::Good);
        assert_eq!(checksum(&frame[frame.len() - 556..]), [0, 0], "ICMP's");
    }
    let Fate::Answer(frame) = fate(&key6(), |_| ()) else { panic!("no answer") };
    let headers = PacketHeaders::from_ethernet_slice(&frame).unwrap();
    let Some(NetHeaders::Ipv6(ip, _)) = headers.net else { panic!("no IPv6") };
    assert_eq!((ip.source, ip.destination, ip.payload_length), (key6().ipv6_dst, key6().ipv6_src, 1240));
    let Some(TransportHeader::Icmpv6(icmp)) = headers.transport else { panic!("no ICMPv6") };
    assert_eq!(icmp.icmp_type, etherparse::Icmpv6Type::PacketTooBig { mtu: 1000 });
    let icmp = &frame[frame.len() - 1240..];
    assert_eq!(pseudo6(&key6().ipv6_dst, &key6().ipv6_src, ip_proto::ICMPV6, icmp.len()).plus(icmp).finish(), [0, 0]);
}

#[test]
fn errors_that_are_forbidden_are_not_sent() {
    // A later fragment, an ICMP error, a sender that is none, a group.
    assert_eq!(fate(&key4(), |ip| (ip[6], ip[7]) = (0x40, 9)), Fate::Drop);
    assert_eq!(fate(&key4(), |ip| (ip[6], ip[9], ip[20]) = (0x40, 1, 3)), Fate::Drop);
    assert!(matches!(fate(&key4(), |ip| (ip[6], ip[9], ip[20]) = (0x40, 1, 8)), Fate::Answer(_)), "a ping is answered");
    for (at, address) in [(12, [0; 4]), (12, [224, 0, 0, 1]), (16, [255; 4])] {
        let edit = |ip: &mut [u8]| {
            ip[6] = 0x40;
            ip[at..at + 4].copy_from_slice(&address);
        };
        assert_eq!(fate(&key4(), edit), Fate::Drop, "{address:?}");
    }
    let mut group = key4();
    group.eth_dst[0] = 1;
    assert_eq!(fate(&group, dont_fragment), Fate::Drop);
    assert_eq!(fate(&key6(), |ip| (ip[6], ip[40]) = (ip_proto::ICMPV6, 1)), Fate::Drop);
    assert!(matches!(fate(&key6(), |ip| (ip[6], ip[40]) = (ip_proto::ICMPV6, 128)), Fate::Answer(_)));
    assert_eq!(fate(&key6(), |ip| (ip[6], ip[40], ip[42], ip[43]) = (ip_proto::FRAGMENT, 17, 0, 0x18)), Fate::Drop);
    assert_eq!(fate(&key6(), |ip| ip[8..24].fill(0)), Fate::Drop);
    let mut other = key4();
    other.eth_type = [0x12, 0x34];
    assert_eq!(fate(&other, |_| ()), Fate::Pass);
}

#[test]
fn others_are_cut_into_fragments_that_fit() {
    let (packet, parsed) = packet(&key4(), |_| ());
    assert_eq!(judge(&packet, &parsed, ROOM), Fate::Cut);
    let pieces = cut(&packet, 14, ROOM);
    let mut data: Vec<u8> = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let ip = &piece.data()[14..];
        assert!(piece.len() <= ROOM && checksum(&ip[..20]) == [0, 0]);
        let word = u16::from_be_bytes([ip[6], ip[7]]);
        assert_eq!(usize::from(word & OFFSET_BITS) * 8, data.len());
        assert_eq!(word & MORE_FRAGMENTS != 0, i + 1 < pieces.len());
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
        data.extend(&ip[20..]);
    }
    assert_eq!(data, packet.data()[34..]);
    assert_eq!(pieces.len(), 2);
    // A fragment is cut into fragments that stand where it stood.
    let (later, _) = self::packet(&key4(), |ip| (ip[6], ip[7]) = (0x20, 100));
    let words: Vec<u16> = cut(&later, 14, ROOM).iter().map(|p| u16::from_be_bytes([p.data()[20], p.data()[21]])).collect();
    assert_eq!(words, [0x2000 + 100, 0x2000 + 100 + 122]);
    assert!(cut(&later, 14, 30).is_empty());
}

#[test]
fn options_that_are_not_copied_stand_in_the_first_fragment_only() {
    // Record route (7, not copied), a NOP, a strict source route (137, copied), end.
    let mut options = [7, 3, 4, 1, 137, 3, 4, 0];
    keep_copied(&mut options);
    assert_eq!(options, [1, 1, 1, 1, 137, 3, 4, 0]);
}

#[test]
fn answers_are_limited() {
    let mut answers = Answers::default();
    let given = (0..2 * ANSWERS_MAX).filter(|_| answers.admit(5_000)).count();
    assert_eq!(given, ANSWERS_MAX as usize);
    assert!(answers.admit(6_000));
}

#[test]
fn a_turned_header_has_its_ends_exchanged() {
    let mut header: Vec<u8> = (0..54).collect();
    (header[12], header[13], header[14]) = (0x86, 0xdd, 0x60);
    let back = turned(&header);
    assert_eq!((&back[..6], &back[6..12]), (&header[6..12], &header[..6]));
    assert_eq!((&back[22..38], &back[38..54]), (&header[38..54], &header[22..38]));
    assert_eq!(turned(&back), header);
    let dst: [u8; 16] = std::array::from_fn(|i| 38 + u8::try_from(i).unwrap());
    assert_eq!(outer_dst(&header), Some(IpAddr::from(dst)));
    header[12..20].copy_from_slice(&[0x81, 0, 0, 5, 8, 0, 0x45, 0]);
    assert_eq!(outer_dst(&header), Some(IpAddr::from([34, 35, 36, 37])));
    assert_eq!(outer_dst(&header[..37]), None);
}
