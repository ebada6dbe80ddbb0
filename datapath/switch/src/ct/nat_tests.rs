//! Translation: what is done is undone exactly, checksums stay right, choices stay in their ranges.

use super::*;
use crate::ct::tuple::tuple;
use flow::Key;
use flow::compose::{Payload, compose};
use flow::extract::PacketMeta;
use port::offload::{Verdict, verify};
use proptest::prelude::*;

fn nat(src: bool, addr: Option<(&str, &str)>, ports: Option<(u16, u16)>) -> Nat {
    let addr = addr.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
    Nat { src, dst: !src, addr, ports, ..Nat::default() }
}

#[test]
fn choices_stay_in_their_ranges() {
    let orig = tuple("tcp 10.0.0.1 5000 10.0.0.2 80");
    let all = |_: &Tuple| true;
    let range = nat(true, Some(("192.0.2.1", "192.0.2.4")), Some((100, 103)));
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200u64 {
        let reply = choose(&range, &orig, fold(seed + 1, 0x1234_5678_9abc_def1), 1, &all).unwrap();
        assert_eq!((reply.src(), reply.sport()), (orig.dst(), 80));
        assert!((100..=103).contains(&reply.dport()));
        seen.insert((reply.dst(), reply.dport()));
    }
    assert!(seen.len() > 8, "{seen:?}");
    let destination = nat(false, Some(("10.9.0.1", "10.9.0.1")), Some((8080, 8080)));
    let reply = choose(&destination, &orig, 7, 1, &all).unwrap();
    assert_eq!(reply, tuple("tcp 10.9.0.1 8080 10.0.0.1 5000"));
    // Only ports, and only where they would clash.
    let zero = nat(true, Some(("0.0.0.0", "0.0.0.0")), None);
    assert_eq!(choose(&zero, &orig, 7, 1, &all).unwrap(), orig.reversed());
    let taken = |reply: &Tuple| *reply != orig.reversed();
    assert_eq!(choose(&zero, &orig, 7, 1, &taken).unwrap(), orig.reversed().with_ports(80, 5001));
}

#[test]
fn exhausted_ranges_and_privileged_ports() {
    let orig = tuple("udp 10.0.0.1 53 10.0.0.2 80");
    assert_eq!(choose(&nat(true, Some(("192.0.2.1", "192.0.2.1")), Some((1, 3))), &orig, 1, 1, &|_| false), None);
    let others = |reply: &Tuple| reply.dport() != 53;
    let reply = choose(&nat(true, Some(("192.0.2.1", "192.0.2.1")), None), &orig, 1, 1, &others).unwrap();
    assert!(reply.dport() < 512);
    // The last free port of a small range is found.
    let only = |reply: &Tuple| reply.dport() == 7;
    let reply = choose(&nat(true, Some(("192.0.2.1", "192.0.2.1")), Some((5, 60))), &orig, 1, 1, &only).unwrap();
    assert_eq!(reply.dport(), 7);
    let echo = tuple("icmp 10.0.0.1 7 10.0.0.2 2048");
    let to = nat(true, Some(("192.0.2.1", "192.0.2.1")), None);
    assert_eq!(choose(&to, &echo, 1, 1, &|_| true).unwrap().sport(), 7);
    assert_eq!(choose(&to, &echo, 1, 1, &|_| false), None);
}

#[test]
fn persistent_depends_on_the_client_alone() {
    let many = Nat { persistent: true, ..nat(true, Some(("192.0.2.1", "192.0.2.200")), None) };
    let address = |sport: u16, seed| {
        let orig = tuple("tcp 10.0.0.1 1 10.0.0.2 80").with_ports(sport, 80);
        choose(&many, &orig, seed, 1, &|_| true).unwrap().dst()
    };
    assert_eq!(address(1000, 5), address(2000, 99_999));
}

fn packet_of(proto: u8, six: bool, partial: bool) -> (Packet, Parsed) {
    let mut key = Key::ZERO;
    (key.nw_proto, key.nw_ttl) = (proto, 64);
    if six {
        key.eth_type = [0x86, 0xdd];
        (key.ipv6_src, key.ipv6_dst) = ([0xfc; 16], [0xfd; 16]);
    } else {
        key.eth_type = [8, 0];
        (key.nw_src, key.nw_dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    }
    (key.tp_src, key.tp_dst) = (5000u16.to_be_bytes(), 80u16.to_be_bytes());
    let bytes = compose(&key, Payload::Len(33));
    let mut packet = Packet::from_bytes(&bytes).unwrap();
    let mut parsed = Parsed::new();
    parsed.read(packet.data(), &PacketMeta::default());
    if partial {
        packet::leave_checksum(&mut packet, &parsed);
    }
    (packet, parsed)
}

proptest! {
    #[test]
    fn done_and_undone(proto in prop_oneof![Just(6u8), Just(17), Just(132)], six: bool, partial: bool, to: [u8; 16], from: [u8; 16], sport: u16, dport: u16) {
        let partial = partial && proto != 132;
        let (mut packet, mut parsed) = packet_of(proto, six, partial);
        let before = (packet.data().to_vec(), parsed.key);
        let old = packet::see(&packet, &parsed, 3).unwrap().tuple;
        let new = if six {
            old.with_src(IpAddr::from(from)).with_dst(IpAddr::from(to))
        } else {
            old.with_src(IpAddr::from([from[0], from[1], from[2], from[3]])).with_dst(IpAddr::from([to[0], to[1], to[2], to[3]]))
        };
        let new = new.with_ports(sport.max(1), dport.max(1));
        apply(&mut packet, &mut parsed, &old, &new, false);
        let mut again = Parsed::new();
        again.read(packet.data(), &PacketMeta::default());
        prop_assert_eq!(&again.key.words()[..16], &parsed.key.words()[..16], "the key follows");
        prop_assert_eq!(packet::see(&packet, &parsed, 3).unwrap().tuple, new);
        let mut finished = packet.duplicate().unwrap();
        prop_assert!(port::offload::complete(&mut finished));
        let (ip, l4) = verify(finished.data());
        prop_assert_ne!(ip, Verdict::Bad);
        prop_assert_eq!(l4, Verdict::Good);
        apply(&mut packet, &mut parsed, &new, &old, false);
        // Ones and zeroes are the same sum: compare what a receiver sees.
        let mut finished = packet.duplicate().unwrap();
        prop_assert!(port::offload::complete(&mut finished));
        prop_assert_ne!(verify(finished.data()).1, Verdict::Bad);
        prop_assert_eq!(parsed.key, before.1);
        prop_assert_eq!(packet.data().len(), before.0.len());
    }
}

proptest! {
    /// The short way changes the same bytes, and the key as much; what it does not take it leaves alone.
    #[test]
    fn common_translations_are_the_general_ones(
        proto in prop_oneof![Just(6u8), Just(17), Just(132)], six: bool, partial: bool, bare: bool, other: bool,
        src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16,
    ) {
        let partial = partial && proto != 132;
        let (mut packet, mut parsed) = packet_of(proto, six, partial);
        if bare && proto == 17 {
            let at = usize::from(parsed.found.l4) + 6;
            packet.data_mut()[at..at + 2].fill(0);
            packet.set_checksum(Checksum::Good);
        }
        let old = packet::see(&packet, &parsed, 3).unwrap().tuple;
        let new = if six { old } else { old.with_src(IpAddr::from(src)).with_dst(IpAddr::from(dst)) };
        let new = new.with_ports(sport, dport);
        let from = if other { old.with_ports(1, 1) } else { old };
        let (before, key) = (packet.data().to_vec(), parsed.key);
        let mut twin = packet.duplicate().unwrap();
        let mut twin_parsed = parsed.clone();
        if !six && proto != 132 && !other {
            let (mut short, mut short_parsed) = (packet.duplicate().unwrap(), parsed.clone());
            let (to, [header, transport, ..]) = (new.words(), changes_v4(&old, &new.reversed()));
            let apply = if proto == 17 { apply_short::<UP_TO_SUM_OF_UDP> } else { apply_short::<UP_TO_SUM_OF_TCP> };
            let done = apply(&mut short, &mut short_parsed, to.into(), [header, transport]);
            prop_assert_eq!(done, !partial || bare && proto == 17);
            let (mut general, mut general_parsed) = (packet.duplicate().unwrap(), parsed.clone());
            if done {
                super::apply(&mut general, &mut general_parsed, &old, &new, false);
            }
            prop_assert_eq!((short.data(), short_parsed.key), (general.data(), general_parsed.key));
        }
        let done = apply_common(&mut packet, &mut parsed, &from, &new);
        prop_assert_eq!(done, proto != 132 && !six && (!partial || bare && proto == 17) && !other);
        if done {
            apply(&mut twin, &mut twin_parsed, &from, &new, false);
            prop_assert_eq!(packet.data(), twin.data());
            prop_assert_eq!(parsed.key, twin_parsed.key);
        } else {
            prop_assert_eq!((packet.data(), parsed.key), (&before[..], key));
        }
    }
}

/// An ICMP error about a translated packet: the quoted packet goes back to what its sender sent.
#[test]
fn icmp_errors_carry_the_translation_inside() {
    for six in [false, true] {
        let (quoted, parsed) = packet_of(17, six, false);
        let l3 = usize::from(parsed.found.l3);
        let old = packet::see(&quoted, &parsed, 0).unwrap().tuple;
        let client = old.src();
        let outside: IpAddr = if six { "2001:db8::7".parse().unwrap() } else { "192.0.2.7".parse().unwrap() };
        // As it left: source translated.
        let translated = old.with_src(outside).with_ports(6000, 80);
        let (mut sent, mut sent_key) = packet_of(17, six, false);
        apply(&mut sent, &mut sent_key, &old, &translated, false);
        // A router answers to the translated source: a UDP frame of that length, made into an ICMP error.
        let mut key = Key::ZERO;
        (key.nw_proto, key.nw_ttl) = (17, 64);
        match outside {
            IpAddr::V6(a) => {
                key.eth_type = [0x86, 0xdd];
                (key.ipv6_src, key.ipv6_dst) = ([0x20; 16], a.octets());
            }
            IpAddr::V4(a) => {
                key.eth_type = [8, 0];
                (key.nw_src, key.nw_dst) = ([172, 16, 0, 1], a.octets());
            }
        }
        let quote = &sent.data()[l3..];
        let mut bytes = compose(&key, Payload::Len(quote.len()));
        let l4 = bytes.len() - quote.len() - 8;
        bytes[l4..l4 + 8].copy_from_slice(&[if six { 1 } else { 3 }, 0, 0, 0, 0, 0, 0, 0]);
        bytes[l4 + 8..].copy_from_slice(quote);
        if six {
            bytes[20] = 58;
        } else {
            bytes[23] = 1;
            bytes[24..26].fill(0);
            let sum = checksum(&bytes[14..34]);
            bytes[24..26].copy_from_slice(&sum);
        }
        let mut error = Packet::from_bytes(&bytes).unwrap();
        error.set_checksum(Checksum::Good);
        let mut parsed = Parsed::new();
        parsed.read(error.data(), &PacketMeta::default());
        let seen = packet::see(&error, &parsed, 0).unwrap();
        assert!(seen.related);
        assert_eq!(seen.tuple, translated.reversed());
        apply(&mut error, &mut parsed, &translated.reversed(), &old.reversed(), true);
        let again = packet::inner(packet::payload(&error, &parsed), &parsed).unwrap();
        assert_eq!((again.ends.src, again.ends.sport), (client, 5000));
        let (ip, l4) = verify(error.data());
        assert_ne!(ip, Verdict::Bad);
        if six {
            assert_eq!(l4, Verdict::Good);
        }
        // The quoted packet itself is whole and right.
        let mut inner = vec![0; 12];
        inner.extend(if six { [0x86, 0xdd] } else { [8, 0] });
        inner.extend(&error.data()[again.l3..]);
        assert_eq!(verify(&inner).1, Verdict::Good);
    }
}
