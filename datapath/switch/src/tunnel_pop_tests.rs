//! What `tunnel` puts on comes off again, and what is wrong is dropped.

use super::*;
use crate::bundle::Bundle;
use crate::tunnel::{Sequences, push};
use flow::DpPort;
use flow::action::{Action, TunnelPush};
use flow::action_text::parse_actions;
use flow::dptext::format_attr;
use flow::fields::DpAttr;
use flow::forms::NoNames;
use flow::key::Key;
use port::Batch;

const V4: &str = "ipv4(src=1.1.2.88,dst=1.1.2.92,proto=PROTO,tos=4,ttl=64,frag=0x4000)";
const V6: &str = "ipv6(src=2001:cafe::88,dst=2001:cafe::92,label=0,proto=PROTO,tclass=0x4,hlimit=64)";

const META: PacketMeta<'static> = PacketMeta {
    in_port: DpPort(9),
    packet_type: 0,
    recirc_id: 0,
    dp_hash: 0,
    skb_priority: 0,
    pkt_mark: 0,
    ct_state: 0,
    vlan_limit: 2,
    ct_zone: 0,
    ct_mark: 0,
    rare: None,
};

/// Encapsulates by a header in `tnl_push`'s text.
fn encapsulated(size: usize, kind: u32, v6: bool, proto: u8, rest: &str, inner: &[u8]) -> Packet {
    let (ty, ip) = if v6 { ("0x86dd", V6) } else { ("0x0800", V4) };
    let text = format!(
        "tnl_push(tnl_port(1),header(size={size},type={kind},eth(dst=02:00:00:00:00:02,src=02:00:00:00:00:01,dl_type={ty}),{},{rest}),out_port(2))",
        ip.replace("PROTO", &proto.to_string())
    );
    let actions = parse_actions(&text, &NoNames).unwrap();
    let [Action::TunnelPush(action)] = actions.as_slice() else { panic!("{text}") };
    let action: &TunnelPush = action;
    let mut batch = Batch::new();
    batch.push(Packet::from_bytes(inner).unwrap()).unwrap();
    push(&mut batch, &[7], action, &Sequences::default(), &mut Vec::new());
    batch.drain().next().unwrap()
}

fn popped(packet: &mut Packet, decap: Decap) -> Option<String> {
    let mut parsed = Parsed::new();
    parsed.read(packet.data(), &PacketMeta::default());
    pop(packet, &mut parsed, decap, &META)?;
    let text = format_attr(DpAttr::Tunnel, &parsed.whole(), None, &NoNames);
    let tunnel = text.strip_prefix("tunnel(").and_then(|t| t.strip_suffix(")")).unwrap_or(&text);
    Some(tunnel.replace("src=1.1.2.88,dst=1.1.2.92,tos=0x4,ttl=64,", ""))
}

fn frame_bytes() -> Vec<u8> {
    let key = Key { eth_type: [8, 0], nw_proto: 17, nw_ttl: 64, nw_src: [10, 0, 0, 1], nw_dst: [10, 0, 0, 2], ..Key::ZERO };
    flow::compose::compose(&key, flow::compose::Payload::Len(20))
}

fn check(push: (usize, u32, bool, u8, &str), decap: Decap, expect: &str) {
    let inner = if expect.contains("L3 ") { frame_bytes()[14..].to_vec() } else { frame_bytes() };
    let (size, kind, v6, proto, rest) = push;
    let mut packet = encapsulated(size, kind, v6, proto, rest, &inner);
    let text = popped(&mut packet, decap).unwrap();
    assert_eq!(packet.data(), inner, "{rest}");
    let ports = text.find("tp_src=").map(|at| text[at..].split(',').next().unwrap_or_default().to_owned() + ",");
    assert_eq!(text.replace(&ports.unwrap_or_default(), ""), expect.replace("L3 ", ""), "{rest}");
}

#[test]
fn what_was_pushed_comes_off() {
    let udp = |port: u16, csum: &str| format!("udp(src=0,dst={port},csum={csum}),");
    let vx = udp(4789, "0x0") + "vxlan(flags=0x8000000,vni=0x7b)";
    check((50, 4, false, 17, &vx), Decap::Vxlan { gbp: false }, "tun_id=0x7b,tp_dst=4789,flags(key)");
    let gbp = udp(4789, "0xffff") + "vxlan(flags=0x88400007,vni=0x7b)";
    check(
        (50, 4, false, 17, &gbp),
        Decap::Vxlan { gbp: true },
        "tun_id=0x7b,tp_dst=4789,vxlan(gbp(id=7,flags=0x40)),flags(csum|key)",
    );
    let gpe = udp(4789, "0x0") + "vxlan(flags=0xc000001,vni=0x7b)";
    check((50, 4, false, 17, &gpe), Decap::Vxlan { gbp: false }, "L3 tun_id=0x7b,tp_dst=4789,flags(key)");
    let gnv = udp(6081, "0xffff") + "geneve(oam,vni=0x7b,options({class=0xffff,type=0x80,len=4,0xa}))";
    let expect = "tun_id=0x7b,tp_dst=6081,geneve({class=0xffff,type=0x80,len=4,0xa}),flags(oam|csum|key)";
    check((58, 5, false, 17, &gnv), Decap::Geneve, expect);
    check((38, 3, false, 47, "gre((flags=0x0,proto=0x6558))"), Decap::Gre, "flags(0)");
    let keyed = "gre((flags=0xb000,proto=0x800),csum=0x0,key=0x1c8,seq=0x0)";
    check((50, 3, false, 47, keyed), Decap::Gre, "L3 tun_id=0x1c8,flags(csum|key)");
    let v1 = "erspan(ver=1,sid=0x7b,idx=0x3)";
    check((50, 107, false, 47, v1), Decap::Erspan, "tun_id=0x7b,erspan(ver=1,idx=0x3),flags(key)");
    let v2 = "erspan(ver=2,sid=0x237,dir=1,hwid=0x7)";
    check((54, 107, false, 47, v2), Decap::Erspan, "tun_id=0x237,erspan(ver=2,dir=1,hwid=0x7),flags(key)");
    let gtp = udp(2152, "0x0") + "gtpu(flags=0x30,msgtype=255,teid=0x7b)";
    check((50, 110, false, 17, &gtp), Decap::Gtpu, "L3 tun_id=0x7b,tp_dst=2152,gtpu(flags=0x30,msgtype=255),flags(0)");
}

#[test]
fn over_ipv6() {
    let rest = "udp(src=0,dst=4789,csum=0xffff),vxlan(flags=0x8000000,vni=0x7b)";
    let mut packet = encapsulated(70, 4, true, 17, rest, &frame_bytes());
    let text = popped(&mut packet, Decap::Vxlan { gbp: false }).unwrap();
    assert!(text.starts_with("tun_id=0x7b,ipv6_src=2001:cafe::88,ipv6_dst=2001:cafe::92,tos=0x4,ttl=64,"), "{text}");
    assert!(text.ends_with("flags(csum|key)"), "{text}");
    assert_eq!(packet.data(), frame_bytes());
}

#[test]
fn what_is_wrong_is_dropped() {
    let rest = "udp(src=0,dst=4789,csum=0xffff),vxlan(flags=0x8000000,vni=0x7b)";
    let decap = Decap::Vxlan { gbp: false };
    let altered = |at: usize, bits: u8| {
        let mut packet = encapsulated(50, 4, false, 17, rest, &frame_bytes());
        packet.data_mut()[at] ^= bits;
        popped(&mut packet, decap)
    };
    assert!(altered(0, 0).is_some());
    for (at, bits, why) in [
        (22, 1, "IP checksum"),
        (26, 1, "address under the checksums"),
        (60, 1, "UDP checksum"),
        (42, 0x88, "flags"),
        (17, 1, "length"),
        (23, 1, "protocol"),
    ] {
        assert_eq!(altered(at, bits), None, "{why}");
    }
    let mut packet = encapsulated(50, 4, false, 17, rest, &frame_bytes());
    assert_eq!(popped(&mut packet, Decap::Geneve), None);
    let mut packet = encapsulated(50, 4, false, 17, rest, &frame_bytes());
    packet.set_checksum(Checksum::Good);
    packet.data_mut()[60] ^= 1;
    assert!(popped(&mut packet, decap).is_some(), "the hardware has looked already");
}

#[test]
fn padding_is_no_part_of_the_inner_frame() {
    let rest = "gre((flags=0x0,proto=0x800))";
    let inner = &frame_bytes()[14..34];
    let packet = encapsulated(38, 3, false, 47, rest, inner);
    let padded = [packet.data(), &[0; 2]].concat();
    let mut packet = Packet::from_bytes(&padded).unwrap();
    assert!(popped(&mut packet, Decap::Gre).is_some());
    assert_eq!(packet.data(), inner);
}

/// No bytes make it panic, whatever kind they are taken for.
#[test]
fn any_bytes() {
    let rest = "udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x7b)";
    let good = encapsulated(50, 4, false, 17, rest, &frame_bytes());
    let good = good.data().to_vec();
    let kinds = [
        Decap::Vxlan { gbp: true },
        Decap::Geneve,
        Decap::Gre,
        Decap::Erspan,
        Decap::Gtpu,
        Decap::Bareudp { payload: 0x800 },
        Decap::Srv6,
        Decap::None,
    ];
    let mut seed = 1u64;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
            bytes[at] = u8::try_from(seed >> 20 & 0xff).unwrap();
        }
        bytes.truncate(14 + usize::try_from(seed >> 40).unwrap() % bytes.len());
        let mut packet = Packet::from_bytes(&bytes).unwrap();
        packet.set_checksum(if seed & 1 << 50 == 0 { Checksum::Good } else { Checksum::Unknown });
        let _ = popped(&mut packet, kinds[usize::try_from(seed >> 55).unwrap() % kinds.len()]);
    }
}

/// Batches of tunnel packets, common and others, through both ways: the same packets and keys.
#[test]
fn a_batch_comes_off_as_its_packets_do() {
    let mut random = flow::extract_gen::PacketGen::new(31);
    let (mut frame, mut taken, mut refused) = (Vec::new(), 0, 0);
    let mut parser = crate::parse::Parser::default();
    for round in 0..1500 {
        let (kind, port, rest, decap) = match round % 3 {
            0 => (4, 4789, "vxlan(flags=0x8000000,vni=0x7b)", Decap::Vxlan { gbp: false }),
            1 => (4, 4789, "vxlan(flags=0x8000000,vni=0xabcdef)", Decap::Vxlan { gbp: true }),
            _ => (5, 6081, "geneve(vni=0x123456)", Decap::Geneve),
        };
        let six = random.below(30) == 0;
        let (size, csum) = if six { (70, "0xffff") } else { (50, if random.below(30) == 0 { "0xffff" } else { "0x0" }) };
        let rest = format!("udp(src=0,dst={port},csum={csum}),{rest}");
        let mut bundle = Bundle::new();
        for _ in 0..1 + random.below(crate::bundle::BUNDLE_MAX) {
            random.sound_packet(&mut frame);
            let mut packet = encapsulated(size, kind, six, 17, &rest, &frame);
            if random.below(40) == 0 {
                let at = random.below(packet.len().min(60));
                packet.data_mut()[at] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                packet.set_checksum(Checksum::Good);
            }
            let at = bundle.packets.len();
            bundle.parsed[at].read(packet.data(), &PacketMeta::default());
            bundle.packets.push(packet).unwrap();
        }
        let n = bundle.packets.len();
        let singly: Vec<_> = (0..n)
            .map(|i| {
                let mut packet = bundle.packets[i].duplicate().unwrap();
                let mut parsed = Box::new(bundle.parsed[i].clone());
                pop(&mut packet, &mut parsed, decap, &META).map(|()| (packet, parsed))
            })
            .collect();
        let before: Vec<_> = bundle.packets.iter().map(|p| p.data().to_vec()).collect();
        if crate::tunnel_common::strip(&mut bundle, decap, &META, (round % 2 == 0 && crate::wide::on(), &mut parser)) {
            taken += 1;
            for (i, one) in singly.iter().enumerate() {
                let (packet, parsed) = one.as_ref().expect("it is sound");
                assert_eq!((bundle.packets[i].data(), bundle.packets[i].checksum()), (packet.data(), packet.checksum()));
                assert_eq!((bundle.parsed[i].whole(), bundle.parsed[i].found), (parsed.whole(), parsed.found));
            }
        } else {
            refused += 1;
            assert!(bundle.packets.iter().zip(&before).all(|(now, before)| now.data() == before));
        }
    }
    assert!(taken > 200 && refused > 200, "{taken} {refused}");
}
