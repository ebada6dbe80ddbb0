//! Rewriting held to its twin: composing the rewritten key, which sums every checksum anew.

use super::*;
use crate::compose::{Payload, compose};
use crate::extract::{PacketMeta, extract_whole};
use crate::extract_gen::PacketGen;
use crate::rewrite_headers::{
    Label, copy_ttl, pop_eth, pop_mpls, pop_nsh, pop_pbb, pop_vlan, push_eth, push_mpls, push_nsh, push_pbb, push_vlan,
};
use crate::rewrite_joint::Joint;

fn extracted(packet: &[u8], packet_type: u32) -> (Key, Extracted) {
    let mut key = Key::ZERO;
    let out = extract_whole(packet, &PacketMeta { packet_type, ..PacketMeta::default() }, &mut key);
    (key, out)
}

/// What can be set of each attribute, as a mask.
fn settable(attr: SetAttr) -> Key {
    let (all2, all4, all6, all16) = ([0xff; 2], [0xff; 4], [0xff; 6], [0xff; 16]);
    match attr {
        SetAttr::Eth => Key { eth_src: all6, eth_dst: all6, ..Key::ZERO },
        SetAttr::Ipv4 => Key { nw_src: all4, nw_dst: all4, nw_tos: 0xff, nw_ttl: 0xff, ..Key::ZERO },
        SetAttr::Ipv6 => {
            let label = [0, 0x0f, 0xff, 0xff];
            Key { ipv6_src: all16, ipv6_dst: all16, nw_tos: 0xff, nw_ttl: 0xff, ipv6_label: label, ..Key::ZERO }
        }
        SetAttr::Tcp | SetAttr::Udp | SetAttr::Sctp => Key { tp_src: all2, tp_dst: all2, ..Key::ZERO },
        // Only between echo request and reply, whose payload `compose` treats alike.
        SetAttr::Icmp => Key { tp_src: [0, 8], ..Key::ZERO },
        SetAttr::Icmpv6 => Key { tp_src: [0, 1], ..Key::ZERO },
        SetAttr::Arp => Key { nw_src: all4, nw_dst: all4, nw_proto: 0xff, arp_sha: all6, arp_tha: all6, ..Key::ZERO },
        SetAttr::Nd => Key { nd_target: all16, arp_sha: all6, arp_tha: all6, ..Key::ZERO },
        SetAttr::NdExt => Key { nd_reserved: all4, ..Key::ZERO },
        SetAttr::Mpls => Key { mpls_lse0: [0xff, 0xff, 0xfe, 0xff], ..Key::ZERO },
        SetAttr::Nsh => {
            let (c1, c2, c3, c4) = (all4, all4, all4, all4);
            Key { nsh_flags: 3, nsh_ttl: 0x3f, nsh_path: all4, nsh_c1: c1, nsh_c2: c2, nsh_c3: c3, nsh_c4: c4, ..Key::ZERO }
        }
        SetAttr::Pbb => Key { nw_src: all4, ..Key::ZERO },
        SetAttr::Priority | SetAttr::Mark | SetAttr::Tunnel => Key::ZERO,
    }
}

/// Whether a packet with this key has what the attribute sets.
fn has(key: &Key, at: &Extracted, attr: SetAttr) -> bool {
    let ty = u16::from_be_bytes(key.eth_type);
    let icmpv6 = at.transport == ip_proto::ICMPV6;
    let nd = icmpv6 && matches!((key.tp_src, key.tp_dst), ([0, wire::ND_SOLICIT | wire::ND_ADVERT], [0, 0]));
    match attr {
        SetAttr::Eth => key.packet_type == [0; 4],
        SetAttr::Ipv4 => at.network == NetworkLayer::Ipv4,
        SetAttr::Ipv6 => at.network == NetworkLayer::Ipv6,
        SetAttr::Tcp => at.transport == ip_proto::TCP,
        SetAttr::Udp => at.transport == ip_proto::UDP,
        SetAttr::Sctp => at.transport == ip_proto::SCTP,
        SetAttr::Icmp => at.transport == ip_proto::ICMP && matches!(key.tp_src[1], 0 | 8) && key.tp_dst[1] == 0,
        SetAttr::Icmpv6 => icmpv6 && matches!(key.tp_src[1], 128 | 129) && key.tp_dst[1] == 0,
        SetAttr::Arp => matches!(ty, wire::eth_type::ARP | wire::eth_type::RARP),
        SetAttr::Nd | SetAttr::NdExt => nd,
        SetAttr::Mpls => matches!(ty, wire::eth_type::MPLS | wire::eth_type::MPLS_MULTICAST),
        SetAttr::Nsh => ty == wire::eth_type::NSH,
        SetAttr::Pbb => ty == wire::eth_type::PBB,
        SetAttr::Priority | SetAttr::Mark | SetAttr::Tunnel => false,
    }
}

const ATTRS: [SetAttr; 14] = [
    SetAttr::Eth,
    SetAttr::Ipv4,
    SetAttr::Ipv6,
    SetAttr::Tcp,
    SetAttr::Udp,
    SetAttr::Sctp,
    SetAttr::Icmp,
    SetAttr::Icmpv6,
    SetAttr::Arp,
    SetAttr::Nd,
    SetAttr::NdExt,
    SetAttr::Mpls,
    SetAttr::Nsh,
    SetAttr::Pbb,
];

fn random_key(random: &mut PacketGen) -> Key {
    let mut key = Key::ZERO;
    key.words_mut().iter_mut().for_each(|w| *w = random.bits());
    key
}

/// A random sound key as it occurs in packets, with echo requests among the ICMP.
fn random_packet_key(random: &mut PacketGen) -> Key {
    let mut packet = Vec::new();
    let packet_type = random.sound_packet(&mut packet);
    let (mut key, at) = extracted(&packet, packet_type);
    if at.transport == ip_proto::ICMP {
        (key.tp_src, key.tp_dst) = ([0, 8], [0, 0]);
    }
    key
}

/// The slow twin: rewriting a packet gives what composing the rewritten key gives, all checksums summed anew.
#[test]
fn rewriting_commutes_with_composing() {
    let mut random = PacketGen::new(21);
    let mut applied = [0u32; ATTRS.len()];
    for _ in 0..60_000 {
        let key = random_packet_key(&mut random);
        let payload = Payload::Len(random.below(70));
        let packet = compose(&key, payload);
        let (key, at) = extracted(&packet, u32::from_be_bytes(key.packet_type));
        if at.network == NetworkLayer::Ipv4 && at.transport == ip_proto::ICMPV6 {
            // No standard says whether its checksum counts a pseudo header; `compose` does as Open vSwitch, rewriting too.
            continue;
        }
        for (i, attr) in ATTRS.into_iter().enumerate() {
            let mut mask = settable(attr);
            if random.below(3) == 0 {
                mask = mask.masked(&random_key(&mut random));
            }
            if attr == SetAttr::Nd {
                // A zero address is no option, and a packet has only the options it has.
                for (mac, mask) in [(key.arp_sha, &mut mask.arp_sha), (key.arp_tha, &mut mask.arp_tha)] {
                    if mac == [0; 6] || *mask != [0xff; 6] {
                        *mask = [0; 6];
                    }
                }
            }
            if attr == SetAttr::Nsh && key.nsh_mdtype != wire::NSH_MD1 {
                (mask.nsh_c1, mask.nsh_c2, mask.nsh_c3, mask.nsh_c4) = ([0; 4], [0; 4], [0; 4], [0; 4]);
            }
            let value = random_key(&mut random).masked(&mask);
            let mut expect_key = key;
            for ((e, v), m) in expect_key.words_mut().iter_mut().zip(value.words()).zip(mask.words()) {
                *e = *e & !m | v;
            }
            let present = has(&key, &at, attr);
            let expect = if present { compose(&expect_key, payload) } else { packet.clone() };
            let mut got = packet.clone();
            let done = set(&mut got, &at, &SetField { attr, value, mask });
            if !present && matches!(attr, SetAttr::Icmp | SetAttr::Icmpv6) {
                continue;
            }
            assert_eq!(done, present, "{attr:?} {packet:02x?}");
            assert_eq!(got, expect, "{attr:?} value {value:?} mask {mask:?}\nof {packet:02x?}");
            applied[i] += u32::from(present);
        }
    }
    assert!(applied.iter().all(|n| *n > 200), "{applied:?}");
}

/// Changes made in one go leave what they leave when they are made one after the other, whatever the packet is.
#[test]
fn several_changes_at_once_are_those_in_turn() {
    let mut random = PacketGen::new(22);
    let (mut at_once, mut in_turn) = (0u32, 0u32);
    for round in 0..60_000 {
        let mut key = random_packet_key(&mut random);
        if round % 2 == 0 {
            key = udp_key();
            key.nw_proto = if random.below(2) == 0 { ip_proto::TCP } else { ip_proto::UDP };
        }
        let mut packet = compose(&key, Payload::Len(random.below(70)));
        packet.extend(std::iter::repeat_n(0, random.below(3) * random.below(20)));
        let (key, at) = extracted(&packet, u32::from_be_bytes(key.packet_type));
        if random.below(4) == 0 && at.l4 != NO_OFFSET && at.transport == ip_proto::UDP {
            packet[usize::from(at.l4) + 6..][..2].fill(0);
        }
        let l4 = if random.below(2) == 0 { SetAttr::Udp } else { SetAttr::Tcp };
        let mut fields: Vec<SetField> = Vec::new();
        for attr in [SetAttr::Ipv4, SetAttr::Eth, l4] {
            if attr != SetAttr::Ipv4 && random.below(3) == 0 {
                continue;
            }
            let mask = match random.below(3) {
                0 => Key::ZERO,
                1 => settable(attr).masked(&random_key(&mut random)),
                _ => settable(attr),
            };
            // Sometimes to what is there.
            let value = if random.below(4) == 0 { key } else { random_key(&mut random) };
            fields.insert(random.below(fields.len() + 1), SetField { attr, value: value.masked(&mask), mask });
        }
        let changes: Vec<Compact> = fields.iter().map(|field| Compact::of(field).unwrap()).collect();
        let joint = Joint::of(&changes).unwrap();
        // A packet that owes its checksum is none of the usual ones.
        let mut owing = Owing(packet.clone());
        assert!(joint.apply_at_once(&mut owing, &at).is_none() && owing.0 == packet, "{joint:?}");
        joint.apply(&mut owing, &at);
        let mut twin = Owing(packet.clone());
        for change in &changes {
            change.apply(&mut twin, &at);
        }
        assert_eq!(owing.0, twin.0, "{joint:?} of {packet:02x?}");

        let (mut one, mut other) = (packet.clone(), packet.clone());
        if joint.apply_at_once(&mut one, &at).is_some() {
            at_once += 1;
        } else {
            assert_eq!(one, packet, "{joint:?}");
            joint.apply(&mut one, &at);
            in_turn += 1;
        }
        for change in &changes {
            change.apply(&mut other, &at);
        }
        assert_eq!(one, other, "{joint:?} of {packet:02x?}");
    }
    assert!(at_once > 10_000 && in_turn > 10_000, "{at_once}, {in_turn}");
}

#[test]
fn a_header_is_changed_once_and_ipv4_is_needed() {
    let [macs, ip, udp, tcp] =
        [SetAttr::Eth, SetAttr::Ipv4, SetAttr::Udp, SetAttr::Tcp].map(|attr| Compact::of(&to(attr, &udp_key())).unwrap());
    assert!(Joint::of(&[macs, ip, udp]).is_some() && Joint::of(&[ip]).is_some());
    for changes in [&[][..], &[macs], &[macs, udp], &[ip, ip], &[macs, ip, macs], &[ip, udp, tcp]] {
        assert!(Joint::of(changes).is_none(), "{changes:?}");
    }
}

#[test]
fn never_panics() {
    let mut random = PacketGen::new(22);
    let mut packet = Vec::new();
    for _ in 0..60_000 {
        let packet_type = random.packet(&mut packet).packet_type;
        let (_, mut at) = extracted(&packet, packet_type);
        if random.below(8) == 0 {
            // Layers of another packet: nonsense, but no panic.
            at.l4 = u16::try_from(random.below(600)).unwrap();
            at.l3 = u16::try_from(random.below(600)).unwrap();
        }
        let (value, mask) = (random_key(&mut random), random_key(&mut random));
        for attr in ATTRS {
            set(&mut packet, &at, &SetField { attr, value, mask });
        }
        dec_ttl(&mut packet, &at);
        let mut pt = packet_type;
        let _ = push_vlan(&mut packet, &mut at, 0x8100, 7);
        let _ = push_mpls(&mut packet, &mut at, &mut pt, Label { lse: 0x100, eth_type: 0x8847, l3: random.below(2) == 0 });
        let _ = pop_mpls(&mut packet, &mut at, &mut pt, 0x0800);
        let _ = pop_vlan(&mut packet, &mut at);
        let _ = pop_eth(&mut packet, &mut at, &mut pt);
        let _ = push_eth(&mut packet, &mut at, &mut pt, [1; 6], [2; 6]);
        let _ = pop_nsh(&mut packet, &mut at, &mut pt);
    }
}

#[test]
fn pushes_and_pops_are_inverse_and_keep_the_layers() {
    let mut random = PacketGen::new(23);
    for _ in 0..20_000 {
        let key = random_packet_key(&mut random);
        let packet = compose(&key, Payload::Len(9));
        let packet_type = u32::from_be_bytes(key.packet_type);
        let (_, at) = extracted(&packet, packet_type);
        let (mut p, mut now, mut pt) = (packet.clone(), at, packet_type);
        let label = Label { lse: 0x0123_4140, eth_type: 0x8847, l3: true };
        if packet_type == 0 && at.l3 != NO_OFFSET {
            push_vlan(&mut p, &mut now, 0x88a8, 0x1123).unwrap();
            assert_eq!(p[12..16], [0x88, 0xa8, 0x01, 0x23]);
            pop_vlan(&mut p, &mut now).unwrap();
            assert_eq!((&p, now), (&packet, at));
            pop_eth(&mut p, &mut now, &mut pt).unwrap();
            assert_eq!(extracted(&p, pt).0.eth_type, key.eth_type);
            push_eth(&mut p, &mut now, &mut pt, key.eth_src, key.eth_dst).unwrap();
            if key.vlan_tci == [0, 0] && key.eth_type != [5, 0xff] {
                assert_eq!((&p, now, pt), (&packet, at, 0));
            }
            (p, now) = (packet.clone(), at);
        }
        push_mpls(&mut p, &mut now, &mut pt, label).unwrap();
        let (labelled, after) = extracted(&p, pt);
        assert_eq!((labelled.mpls_lse0, labelled.eth_type), ([1, 0x23, 0x41, 0x40], [0x88, 0x47]));
        assert_eq!((after.l2_5, after.l3), (now.l2_5, after.l3));
        pop_mpls(&mut p, &mut now, &mut pt, u16::from_be_bytes(key.eth_type)).unwrap();
        if key.eth_type != [5, 0xff] {
            assert_eq!((&p, pt), (&packet, packet_type));
        }
        let nsh = NshAction { mdtype: 1, ttl: 63, path: 0x0000_05ff, metadata: vec![7; 16], ..NshAction::default() };
        (p, now, pt) = (packet.clone(), at, packet_type);
        if push_nsh(&mut p, &mut now, &mut pt, &nsh).is_ok() {
            assert_eq!((extracted(&p, pt).0.nsh_path, extracted(&p, pt).0.nsh_c4), ([0, 0, 5, 0xff], [7; 4]));
            pop_nsh(&mut p, &mut now, &mut pt).unwrap();
            assert_eq!((&p, pt), (&packet, packet_type));
        }
    }
}

use crate::action::Nsh as NshAction;

/// A packet without headroom that owes its checksum.
struct Owing(Vec<u8>);

impl PacketBuf for Owing {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn push_front(&mut self, _: usize) -> bool {
        false
    }
    fn pull_front(&mut self, _: usize) -> bool {
        false
    }
    fn checksum_is_partial(&self) -> bool {
        true
    }
}

fn udp_key() -> Key {
    Key { eth_type: [8, 0], nw_proto: 17, nw_ttl: 64, nw_src: [10, 0, 0, 1], nw_dst: [10, 0, 0, 2], ..Key::ZERO }
}

fn to(attr: SetAttr, value: &Key) -> SetField {
    SetField { attr, value: *value, mask: settable(attr) }
}

#[test]
fn a_udp_checksum_of_zero_stays() {
    let mut p = compose(&udp_key(), Payload::Len(5));
    p[40..42].fill(0);
    let at = extracted(&p, 0).1;
    assert!(set(&mut p, &at, &to(SetAttr::Ipv4, &Key { nw_ttl: 9, ..Key::ZERO })));
    assert!(set(&mut p, &at, &to(SetAttr::Udp, &Key { tp_dst: [0, 53], ..Key::ZERO })));
    assert_eq!((p[22], p[37], &p[40..42]), (9, 53, &[0, 0][..]));
}

#[test]
fn a_partial_checksum_takes_addresses_and_nothing_else() {
    let value = Key { nw_src: [192, 168, 7, 9], nw_dst: [172, 16, 3, 4], nw_ttl: 3, ..Key::ZERO };
    let seed = |src: [u8; 4], dst: [u8; 4]| checksum::pseudo4(src, dst, 17, 13).fold().to_ne_bytes();
    let mut p = Owing(compose(&udp_key(), Payload::Len(5)));
    p.0[40..42].copy_from_slice(&seed([10, 0, 0, 1], [10, 0, 0, 2]));
    let at = extracted(&p.0, 0).1;
    assert!(set(&mut p, &at, &to(SetAttr::Ipv4, &value)));
    assert!(set(&mut p, &at, &to(SetAttr::Udp, &Key { tp_src: [7, 8], ..Key::ZERO })));
    assert_eq!(p.0[40..42], seed(value.nw_src, value.nw_dst));
    assert_eq!(push_vlan(&mut p, &mut at.clone(), 0x8100, 1), Err(crate::rewrite_headers::Refused::NoRoom));
}

#[test]
fn a_later_fragment_has_no_checksum_to_update() {
    let mut p = compose(&Key { nw_frag: 3, ..udp_key() }, Payload::FrameLen(60));
    let at = extracted(&p, 0).1;
    let tail = p[34..].to_vec();
    assert!(set(&mut p, &at, &to(SetAttr::Ipv4, &Key { nw_src: [1, 2, 3, 4], ..Key::ZERO })));
    assert!(!set(&mut p, &at, &to(SetAttr::Udp, &Key { tp_src: [7, 8], ..Key::ZERO })));
    assert_eq!(p[34..], tail);
    assert_eq!(checksum::checksum(&p[14..34]), [0, 0]);
}

#[test]
fn behind_a_routing_header_the_destination_does_not_count() {
    let key = Key { eth_type: [0x86, 0xdd], nw_proto: 17, nw_ttl: 64, ipv6_src: [1; 16], ipv6_dst: [2; 16], ..Key::ZERO };
    let mut p = compose(&key, Payload::Len(4));
    let routing = [17, 2, 0, 1, 0, 0, 0, 0].into_iter().chain([9; 16]);
    p.splice(54..54, routing);
    p[20] = 43;
    p[19] += 24;
    let at = extracted(&p, 0).1;
    assert_eq!((at.l4, at.transport), (78, 17));
    let sum = p[84..86].to_vec();
    assert!(set(&mut p, &at, &to(SetAttr::Ipv6, &Key { ipv6_src: [1; 16], ipv6_dst: [5; 16], ..Key::ZERO })));
    assert_eq!((p[84..86].to_vec(), p[38]), (sum.clone(), 5));
    assert!(set(&mut p, &at, &to(SetAttr::Ipv6, &Key { ipv6_src: [4; 16], ipv6_dst: [5; 16], ..Key::ZERO })));
    assert_ne!(p[84..86], sum);
}

#[test]
fn ttl_counts_down_to_one() {
    let mut p = compose(&Key { nw_ttl: 2, ..udp_key() }, Payload::Len(0));
    let at = extracted(&p, 0).1;
    assert_eq!(dec_ttl(&mut p, &at), Some(true));
    assert_eq!((p[22], checksum::checksum(&p[14..34])), (1, [0, 0]));
    assert_eq!(dec_ttl(&mut p, &at), Some(false));
    assert_eq!(dec_ttl(&mut vec![0; 60], &Extracted::NOTHING), None);
}

fn marked(key: &Key, dscp: u8) -> Key {
    Key { nw_tos: dscp << 2 | 1, nw_proto: 17, nw_ttl: 9, tp_src: [0, 7], ..*key }
}

#[test]
fn drop_precedence_is_raised_up_to_the_highest() {
    let v4 = Key { eth_type: [8, 0], nw_src: [10, 0, 0, 1], nw_dst: [10, 0, 0, 2], ..Key::ZERO };
    let v6 = Key { eth_type: [0x86, 0xdd], ipv6_src: [1; 16], ipv6_dst: [2; 16], ipv6_label: [0, 1, 2, 3], ..Key::ZERO };
    // AF11, AF41; best effort, EF, CS1, CS5 have no drop precedence.
    let cases =
        [(10, 1, 12), (10, 2, 14), (10, 255, 14), (14, 1, 14), (34, 1, 36), (0, 3, 0), (46, 1, 46), (8, 1, 8), (40, 1, 40)];
    for (dscp, levels, then) in cases {
        for key in [&v4, &v6] {
            let mut packet = compose(&marked(key, dscp), Payload::Len(8));
            let (_, at) = extracted(&packet, 0);
            assert_eq!(raise_drop_precedence(&mut packet, &at, levels), dscp != then);
            assert_eq!(packet, compose(&marked(key, then), Payload::Len(8)), "DSCP {dscp} + {levels}");
        }
    }
    let arp = Key { eth_type: [8, 6], nw_proto: 1, ..Key::ZERO };
    let mut packet = compose(&arp, Payload::Len(0));
    let (_, at) = extracted(&packet, 0);
    assert!(!raise_drop_precedence(&mut packet, &at, 1));
}

/// OpenFlow 1.3 section 7.2.5, byte for byte: backbone addresses as the frame's, 0x88e7, the tag, the frame with its VLAN tag.
#[test]
fn a_backbone_header_is_pushed_and_popped() {
    let key =
        Key { eth_dst: [2, 0, 0, 0, 0, 1], eth_src: [2, 0, 0, 0, 0, 2], vlan_tpid: [0x81, 0], vlan_tci: [0xb0, 7], ..udp_key() };
    let frame = compose(&key, Payload::Len(9));
    let mut p = frame.clone();
    let mut at = extracted(&p, 0).1;
    push_pbb(&mut p, &mut at, 0, 0x12_3456, 5).unwrap();
    let header = [&frame[..12], &[0x88, 0xe7, 0xa0, 0x12, 0x34, 0x56]].concat();
    assert_eq!(p, [&header[..], &frame].concat());
    let (seen, anew) = extracted(&p, 0);
    assert_eq!((seen.eth_type, seen.nw_src, seen.vlan_tci), ([0x88, 0xe7], [0xa0, 0x12, 0x34, 0x56], [0, 0]));
    assert_eq!(Extracted { lines: at.lines, ..anew }, at);
    let tag = SetField { attr: SetAttr::Pbb, value: Key { nw_src: [8, 0, 0, 1], ..Key::ZERO }, mask: settable(SetAttr::Pbb) };
    assert!(set(&mut p, &at, &tag));
    assert_eq!(p[14..18], [8, 0, 0, 1]);
    // The backbone's own tag goes with its header.
    push_vlan(&mut p, &mut at, 0x88a8, 0x1064).unwrap();
    assert_eq!(p[12..20], [0x88, 0xa8, 0, 100, 0x88, 0xe7, 8, 0]);
    pop_pbb(&mut p, &mut at, 0).unwrap();
    assert_eq!(p, frame);
    assert_eq!(pop_pbb(&mut p, &mut at, 0), Err(crate::rewrite_headers::Refused::NoHeader));
}

/// Truncated anywhere, an I-TAG is none.
#[test]
fn half_an_i_tag_is_none() {
    let whole = compose(&Key { eth_type: [0x88, 0xe7], nw_src: [1, 2, 3, 4], ..Key::ZERO }, Payload::Len(0));
    for bytes in 0..whole.len() {
        let mut p = whole[..bytes].to_vec();
        let (key, mut at) = extracted(&p, 0);
        assert_eq!(key.nw_src, [0; 4]);
        assert!(pop_pbb(&mut p, &mut at, 0).is_err());
        assert_eq!(p, whole[..bytes]);
    }
}

/// OpenFlow 1.3 section 5.12: label to label, label to IPv4 (whose checksum stays right) and IPv6, and back; other payload stays.
#[test]
fn ttl_is_copied_inwards_and_outwards() {
    let v6 = Key { eth_type: [0x86, 0xdd], nw_proto: 17, nw_ttl: 64, ipv6_src: [1; 16], ipv6_dst: [2; 16], ..Key::ZERO };
    for (key, ttl_at) in [(udp_key(), 14 + 4 + 8), (v6, 14 + 4 + 7)] {
        for inwards in [true, false] {
            let mut p = compose(&key, Payload::Len(9));
            let mut at = extracted(&p, 0).1;
            let (mut ty, bottom) = (0, Label { lse: 0x1_0109, eth_type: 0x8847, l3: true });
            push_mpls(&mut p, &mut at, &mut ty, bottom).unwrap();
            copy_ttl(&mut p, &at, inwards).unwrap();
            let expected = if inwards { 9 } else { 64 };
            assert_eq!((p[17], p[ttl_at]), (expected, expected));
            pop_mpls(&mut p, &mut at, &mut ty, u16::from_be_bytes(key.eth_type)).unwrap();
            assert_eq!(p, compose(&Key { nw_ttl: if inwards { 9 } else { 64 }, ..key }, Payload::Len(9)));
        }
    }
    let stack = Key { eth_type: [0x88, 0x47], mpls_lse0: [0, 0, 0x10, 5], mpls_lse1: [0, 0, 0x21, 7], ..Key::ZERO };
    for (inwards, ttls) in [(true, (5, 5)), (false, (7, 7))] {
        let mut p = compose(&stack, Payload::Len(0));
        let at = extracted(&p, 0).1;
        copy_ttl(&mut p, &at, inwards).unwrap();
        assert_eq!((p[17], p[21]), ttls);
    }
    // Neither IP nor whole.
    for beneath in [&[][..], &[0x45; 19], &[0x60; 39], &[0x10; 60]] {
        let whole = [compose(&Key { mpls_lse0: [0, 0, 0x11, 5], ..stack }, Payload::Len(0)), beneath.to_vec()].concat();
        let mut p = whole.clone();
        copy_ttl(&mut p, &extracted(&whole, 0).1, true).unwrap();
        assert_eq!(p, whole);
    }
    assert!(copy_ttl(&mut compose(&udp_key(), Payload::Len(0)), &Extracted::NOTHING, true).is_err());
}
