//! Extraction held to its twin, to etherparse and to cases by hand.

use crate::extract::{Extracted, NO_OFFSET, NetworkLayer, PacketMeta, extract, extract_whole};
use crate::extract_gen::{PACKET_BYTES_MAX, PacketGen};
use crate::extract_slow::extract_slow;
use crate::fields::Field;
use crate::key::{Key, LINE_BYTES, Lines, VLAN_CFI};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// How many packets a property is tried on (a second's work); `FERRULE_PACKETS` asks for more.
fn packets() -> usize {
    std::env::var("FERRULE_PACKETS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

const SEED: u64 = 0x5eed;

#[test]
fn fast_equals_slow() {
    let mut random = PacketGen::new(SEED);
    let mut packet = Vec::new();
    let (mut key, mut whole) = (Key::ZERO, Key::ZERO);
    for i in 0..packets() {
        let meta = random.packet(&mut packet);
        assert!(packet.len() <= PACKET_BYTES_MAX);
        let (slow, slow_out) = extract_slow(&packet, &meta);
        // Whatever the key held before must not show.
        key.words_mut().fill(0xa5a5_a5a5_a5a5_a5a5);
        let out = extract(&packet, &meta, &mut key);
        let whole_out = extract_whole(&packet, &meta, &mut whole);
        let context = || format!("packet {i} of seed {SEED:#x}: {packet:02x?} {meta:?}");
        assert_eq!(whole, slow, "{}", context());
        assert_eq!(whole_out, out, "{}", context());
        let ignoring_lines = |e: Extracted| Extracted { lines: Lines(0), ..e };
        assert_eq!(ignoring_lines(out), ignoring_lines(slow_out), "{}", context());
        assert_eq!(slow_out.lines.0 & !out.lines.0, 0, "a line that holds something is named: {}", context());
        for line in 0..12 {
            let words = line * LINE_BYTES / 8..(line + 1) * LINE_BYTES / 8;
            if out.lines.0 & 1 << line != 0 {
                assert_eq!(key.words()[words.clone()], slow.words()[words], "line {line} {}", context());
            } else {
                assert!(key.words()[words].iter().all(|w| *w == 0xa5a5_a5a5_a5a5_a5a5), "line {line} touched {}", context());
            }
        }
    }
}

#[test]
fn agrees_with_etherparse() {
    let mut random = PacketGen::new(SEED + 1);
    let mut packet = Vec::new();
    let mut compared = 0;
    for i in 0..packets() / 4 {
        let meta = PacketMeta { rare: None, ct_state: 0, ..random.packet(&mut packet) };
        if meta.packet_type != 0 || meta.vlan_limit != 2 {
            continue;
        }
        let Ok(theirs) = SlicedPacket::from_ethernet(&packet) else { continue };
        let (ours, out) = extract_slow(&packet, &meta);
        compared += usize::from(compare(&theirs, &ours, out, &format!("packet {i}: {packet:02x?}")));
    }
    assert!(compared > packets() / 100, "only {compared} packets could be compared");
}

/// Compares what etherparse covers. False when the packet is of a kind that the two read differently on purpose.
fn compare(theirs: &SlicedPacket<'_>, ours: &Key, out: Extracted, context: &str) -> bool {
    let tags = theirs.vlan_ids();
    // A third or a cut tag is our type; etherparse also takes 0x9100 for a tag, which Open vSwitch does not.
    if matches!(u16::from_be_bytes(ours.eth_type), 0x8100 | 0x88a8 | 0x9100) {
        return false;
    }
    let ours_tags = [ours.vlan_tci, ours.vlan2_tci].map(u16::from_be_bytes);
    for (tag, tci) in tags.iter().zip(ours_tags) {
        assert_eq!(tag.value() | VLAN_CFI, tci & 0x1fff, "{context}");
    }
    let (frag, proto) = match &theirs.net {
        Some(NetSlice::Ipv4(ip)) => {
            let h = ip.header();
            assert_eq!((h.source(), h.destination()), (ours.nw_src, ours.nw_dst), "{context}");
            assert_eq!((h.ttl(), h.protocol().0), (ours.nw_ttl, ours.nw_proto), "{context}");
            assert_eq!(h.dcp().value() << 2 | h.ecn().value(), ours.nw_tos, "{context}");
            (h.is_fragmenting_payload(), ours.nw_proto)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let h = ip.header();
            assert_eq!((h.source(), h.destination()), (ours.ipv6_src, ours.ipv6_dst), "{context}");
            // Length 0 means a jumbo payload to etherparse (RFC 2675), none to Open vSwitch.
            if out.l4 == NO_OFFSET || h.payload_length() == 0 {
                return false;
            }
            assert_eq!(h.hop_limit(), ours.nw_ttl, "{context}");
            assert_eq!(h.traffic_class(), ours.nw_tos, "{context}");
            assert_eq!(h.flow_label().value(), u32::from_be_bytes(ours.flow_label()), "{context}");
            (ours.nw_frag != 0, ours.nw_proto)
        }
        Some(NetSlice::Arp(_)) | None => return false,
    };
    assert_eq!(frag, ours.nw_frag != 0, "{context}");
    if frag || out.l4 == NO_OFFSET {
        return false;
    }
    let ports = [ours.tp_src, ours.tp_dst].map(u16::from_be_bytes);
    match &theirs.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!((6, [tcp.source_port(), tcp.destination_port()]), (proto, ports), "{context}");
            assert_eq!(tcp.syn(), ours.tcp_flags[1] & 2 != 0, "{context}");
            assert_eq!(tcp.ns(), ours.tcp_flags[0] & 1 != 0, "{context}");
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!((17, [udp.source_port(), udp.destination_port()]), (proto, ports), "{context}");
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!([icmp.type_u8(), icmp.code_u8()].map(u16::from), ports, "{context}");
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            assert_eq!([icmp.type_u8(), icmp.code_u8()].map(u16::from), ports, "{context}");
        }
        Some(TransportSlice::Igmp(igmp)) => assert_eq!(u16::from(igmp.slice()[0]), ports[0], "{context}"),
        None => return false,
    }
    true
}

/// Extracts hex (spaces allowed) and gives the key.
fn key_of(hex: &str) -> (Key, Extracted) {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let packet: Vec<u8> =
        digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).expect("hex"), 16).expect("hex")).collect();
    let mut key = Key::ZERO;
    let out = extract_whole(&packet, &PacketMeta::default(), &mut key);
    assert_eq!(extract_slow(&packet, &PacketMeta::default()).0, key);
    (key, out)
}

const MACS: &str = "0a0000000001 0a0000000002";
const UDP4: &str = "4500001d 00004000 4011 0000 0a000001 0a000002  1234 0035 0009 0000 aa";

#[test]
fn udp_uses_line_0_only_and_padding_is_no_payload() {
    let (k, out) = key_of(&format!("{MACS} 0800 {UDP4} 0000000000000000"));
    assert_eq!(out, Extracted { l3: 14, l4: 34, l2_pad: 8, network: NetworkLayer::Ipv4, transport: 17, ..Extracted::NOTHING });
    assert_eq!((k.tp_src, k.tp_dst, k.nw_proto, k.nw_ttl), ([0x12, 0x34], [0, 0x35], 17, 64));
}

#[test]
fn two_tags_count_and_a_third_is_a_type() {
    let (k, out) = key_of(&format!("{MACS} 88a80064 8100 2065 0800 {UDP4}"));
    assert_eq!((k.vlan_tpid, k.vlan_tci), ([0x88, 0xa8], [0x10, 0x64]));
    assert_eq!((k.vlan2_tpid, k.vlan2_tci), ([0x81, 0], [0x30, 0x65]));
    assert_eq!((out.l3, out.lines), (22, Lines(1)));
    let (k, _) = key_of(&format!("{MACS} 88a80064 81002065 81000001 0800 {UDP4}"));
    assert_eq!((k.eth_type, k.nw_proto), ([0x81, 0], 0));
}

#[test]
fn a_cut_tag_is_a_type() {
    let (k, out) = key_of(&format!("{MACS} 8100 0064"));
    assert_eq!((k.eth_type, k.vlan_tci, out.l3), ([0x81, 0], [0, 0], 14));
}

#[test]
fn wrong_lengths_leave_the_network_layer_empty() {
    for head in ["4400001d", "4500001e", "45000013", "4600001d"] {
        let (k, out) = key_of(&format!("{MACS} 0800 {head} {}", &UDP4[9..]));
        let empty = head != "4600001d";
        assert_eq!((k.nw_src == [0; 4], out.l4 == NO_OFFSET), (empty, empty), "{head}");
    }
    assert!(crate::extract::IPV4_LENGTH.count() >= 3);
}

#[test]
fn later_fragments_have_no_ports() {
    let (k, _) = key_of(&format!("{MACS} 0800 4500001d 00000001 4011 0000 0a000001 0a000002  1234 0035 0009 0000 aa"));
    assert_eq!((k.nw_frag, k.tp_src, k.nw_proto), (3, [0, 0], 17));
    let (k, _) = key_of(&format!("{MACS} 0800 4500001d 00002000 4011 0000 0a000001 0a000002  1234 0035 0009 0000 aa"));
    assert_eq!((k.nw_frag, k.tp_src), (1, [0x12, 0x34]));
}

#[test]
fn frames_without_a_type() {
    assert_eq!(key_of(&format!("{MACS} 0026 424203 00")).0.eth_type, [5, 0xff]);
    let (k, out) = key_of(&format!("{MACS} 0026 aaaa03000000 0800 {UDP4}"));
    assert_eq!((k.eth_type, k.nw_proto, out.l3), ([8, 0], 17, 22));
}

#[test]
fn neighbour_solicitation() {
    let ip = "60000000 0020 3a ff fe800000000000000000000000000001 ff0200000000000000000001ff000002";
    let nd = "87 00 0000 00000000 fe800000000000000000000000000002";
    let (k, out) = key_of(&format!("{MACS} 86dd {ip} {nd} 0101 0a0000000009"));
    assert_eq!((k.arp_sha, k.nd_target[15], k.tcp_flags), ([0x0a, 0, 0, 0, 0, 9], 2, [1, 0]));
    assert_eq!(out.lines, Lines(7));
}

/// IPv6 with these extension headers, each (kind, bytes behind "next"), before `last` with what it holds; what ipv6_exthdr is.
fn exthdr(headers: &[(u8, &str)], last: (u8, &str)) -> (u128, Key) {
    let next = |n: usize| headers.get(n).map_or(last.0, |h| h.0);
    let chain: String = headers.iter().enumerate().map(|(n, (_, rest))| format!("{:02x}{rest}", next(n + 1))).collect();
    let payload = format!("{chain}{}", last.1).replace(' ', "");
    let ip = format!("60000005 {:04x} {:02x} 40 {:032x} {:032x}", payload.len() / 2, next(0), 1, 2);
    let (key, _) = key_of(&format!("{MACS} 86dd {ip} {payload}"));
    (Field::Ipv6Exthdr.get(&key), key)
}

#[test]
fn extension_headers_have_their_bits() {
    const UDP: (u8, &str) = (17, "1234 0035 0008 0000");
    const OPTIONS: &str = "00 0104 00000000";
    const AUTH: &str = "01 0000 00000001 00000001";
    const WHOLE: &str = "00 0000 00000001";
    const FIRST: &str = "00 0001 00000001";
    let (hop, dest, routing) = ((0, OPTIONS), (60, OPTIONS), (43, "00 0000 00000000"));
    let (atom, first, auth) = ((44, WHOLE), (44, FIRST), (51, AUTH));
    for (headers, last, bits) in [
        (&[][..], UDP, 0),
        (&[], (59, ""), 0x001),
        (&[], (50, "00000001 00000001"), 0x002),
        (&[auth], UDP, 0x004),
        (&[dest], UDP, 0x008),
        (&[atom], UDP, 0x010),
        (&[first], UDP, 0x010),
        (&[routing], UDP, 0x020),
        (&[hop], UDP, 0x040),
        (&[hop, auth], UDP, 0x044),
        (&[hop, dest, routing, first, auth, dest], (59, ""), 0x07d),
        (&[routing, routing], UDP, 0x1a0),
        (&[auth, routing], UDP, 0x124),
        (&[dest, hop], UDP, 0x108),
        (&[dest, dest, dest], UDP, 0x188),
    ] {
        let (got, key) = exthdr(headers, last);
        assert_eq!(got, bits, "{headers:?} {last:?}");
        assert_eq!((Field::Ipv6Label.get(&key), key.nw_proto), (5, last.0), "{headers:?} {last:?}");
    }
}

#[test]
fn what_cannot_be_seen_of_extension_headers_has_no_bits() {
    const OPTIONS: &str = "00 0104 00000000";
    // Behind a later fragment's header, and behind encryption.
    assert_eq!(exthdr(&[(0, OPTIONS), (44, "00 0008 00000001")], (59, "00")).0, 0x050);
    assert_eq!(exthdr(&[(0, OPTIONS)], (50, "3b00 0104 00000000")).0, 0x042);
    // A header that is cut off leaves the packet without any of IPv6's fields but the addresses.
    let (bits, key) = exthdr(&[(0, OPTIONS)], (51, "3b01"));
    assert_eq!((bits, key.nw_proto, key.ipv6_label), (0, 0, [0; 4]));
    // Of IPv4, where a protocol has the number of an extension header.
    let (key, _) = key_of(&format!("{MACS} 0800 45000014 00000000 403b 0000 0a000001 0a000002"));
    assert_eq!((key.nw_proto, key.ipv6_label), (59, [0; 4]));
}

#[test]
fn short_frames_have_metadata_only() {
    let meta = PacketMeta { in_port: crate::seam::DpPort(5), ..PacketMeta::default() };
    let mut key = Key::ZERO;
    let out = extract(&[0xff; 13], &meta, &mut key);
    assert_eq!((key, out), (Key { in_port: [0, 0, 0, 5], ..Key::ZERO }, Extracted::NOTHING));
}
