//! Cases in OVS's notation, gathered from `ovstest test-odp` and `dpctl/dump-flows` of OVS 3.1, and properties.

use super::*;
use crate::fields::Field;
use crate::forms::NoNames;
use proptest::prelude::*;

struct P1;

impl PortNames for P1 {
    fn name(&self, port: u32) -> Option<String> {
        (port == 1).then(|| "p1".to_owned())
    }

    fn number(&self, name: &str) -> Option<u32> {
        (name == "p1").then_some(1)
    }
}

#[test]
fn keys_as_ovs_writes_them() {
    for line in include_str!("cases/keys.txt").lines().skip(1) {
        let flow = parse_flow(line, &NoNames).unwrap_or_else(|e| panic!("{line}\n{e}"));
        assert_eq!(format_key(&flow.key, &NoNames), line);
    }
}

#[test]
fn flows_as_ovs_writes_them() {
    for case in include_str!("cases/flows.txt").split("\n\n").skip(1) {
        let lines: Vec<&str> = case.trim().lines().collect();
        let [text, terse, verbose] = lines[..] else { panic!("{case}") };
        let flow = parse_flow(text, &NoNames).unwrap_or_else(|e| panic!("{text}\n{e}"));
        assert_eq!(format_flow(&flow.key, &flow.mask, false, &NoNames), terse, "terse {text}");
        assert_eq!(format_flow(&flow.key, &flow.mask, true, &P1), verbose, "verbose {text}");
        let again = parse_flow(verbose, &P1).unwrap_or_else(|e| panic!("{verbose}\n{e}"));
        assert_eq!(format_flow(&again.key, &again.mask, false, &NoNames), terse, "again {text}");
    }
}

/// What OVS's datapath refuses for other reasons, or 3.1 does not read.
#[test]
fn flows_of_our_own() {
    for line in [
        "recirc_id(0),in_port(1),eth(),eth_type(0x88a8),vlan(vid=5,pcp=3),encap(eth_type(0x8100),vlan(vid=7,pcp=1),encap(eth_type(0x0806),arp(op=1)))",
        "tunnel(tun_id=0x5,src=1.1.1.1,dst=2.2.2.2,flags(-df-csum+key)),recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)",
        "tunnel(ipv6_src=::1,ipv6_dst=::2,vxlan(gbp(id=5,flags=0x8))),recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
        "tunnel(src=1.1.1.1,dst=2.2.2.2,erspan(ver=2,dir=1,hwid=0x7/0xf)),recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
        "tunnel(src=1.1.1.1,dst=2.2.2.2,gtpu(flags=0x30,msgtype=255)),recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
        "tunnel(src=1.1.1.1,dst=2.2.2.2,geneve({class=0xffff,type=0x80,len=4,0xa}{class=0xffff,type=0x81,len=8,0x1/0xff})),recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
        "ct_state(+trk),ct_tuple4(src=10.0.0.1,dst=10.0.0.2,proto=6,tp_src=1,tp_dst=2),recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no)",
        "recirc_id(0),in_port(1),eth(),eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=136,code=0),nd(target=::3),nd_ext(nd_reserved=0x5,nd_options_type=2)",
        "recirc_id(0),in_port(1),eth(),eth_type(0x86dd),ipv6(label=0x5,proto=6,frag=no),ipv6_exthdr(0x44),tcp(dst=80)",
        "recirc_id(0),in_port(1),eth(),eth_type(0x86dd),ipv6(frag=later),ipv6_exthdr(0/0x1)",
        "recirc_id(0),in_port(1),eth(src=00:00:00:00:00:01),eth_type(0x88e7),pbb(isid=4660,pcp=3,uca=0)",
        "recirc_id(0),in_port(1),eth(src=00:00:00:00:00:01),eth_type(0x894f),nsh(ttl=63,mdtype=1,np=4,spi=0x5566,si=2,c1=0x1,c2=0x2/0x000000ff)",
    ] {
        let flow = parse_flow(line, &NoNames).unwrap_or_else(|e| panic!("{line}\n{e}"));
        assert_eq!(format_flow(&flow.key, &flow.mask, false, &NoNames), line);
    }
}

#[test]
fn errors_show_the_rest() {
    let error = |text| parse_flow(text, &NoNames).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error("in_port(99),foo(1)"), "syntax error at foo(1)");
    assert_eq!(error("in_port(1),eth(src=00:00:00:00:00:0g)"), "syntax error at eth(src=00:00:00:00:00:0g)");
    assert_eq!(error("in_port(1),eth(),eth_type(0x0800),ipv4(frag=maybe)"), "syntax error at ipv4(frag=maybe)");
    assert_eq!(error("in_port(1),eth(),in_port(2)"), "syntax error at in_port(2)");
    assert_eq!(error("in_port(p2)"), "syntax error at in_port(p2)");
}

#[test]
fn lone_attributes() {
    for text in [
        "eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15/ff:ff:ff:00:00:00)",
        "ipv4(src=35.8.2.41/255.255.255.0,tos=0x80/0xfc,ttl=128)",
        "ipv6(label=0/0xfff,tclass=0x70/0x70)",
        "tcp(dst=8080)",
        "tunnel(tun_id=0x1,src=1.1.1.1,dst=1.1.1.2,ttl=64,flags(df|key))",
        "skb_mark(0x5)",
    ] {
        let parsed = parse_attr(text, &NoNames).unwrap();
        let attr = attrs::ATTRS.iter().find(|a| a.name == parsed.name).map_or(DpAttr::Tunnel, |a| a.attr);
        assert_eq!(format_attr(attr, &parsed.key, Some(&parsed.mask), &NoNames), text);
        assert_eq!(parsed.rest, "");
    }
}

#[test]
fn ufids() {
    let (ufid, rest) = parse_ufid("ufid:01020304-0506-0708-090a-0b0c0d0e0f10,in_port(1)").unwrap();
    assert_eq!(ufid.to_string(), "01020304-0506-0708-090a-0b0c0d0e0f10");
    assert_eq!(rest, ",in_port(1)");
    assert_eq!(parse_ufid("in_port(1)"), None);
}

/// Keys in which each field that a datapath shows has some value, of several kinds of packets.
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn any_key() -> impl Strategy<Value = Key> {
    let kinds = prop::sample::select(vec![
        (0x0800u128, 6u128),
        (0x0800, 17),
        (0x0800, 1),
        (0x0800, 47),
        (0x86dd, 6),
        (0x86dd, 58),
        (0x86dd, 132),
        (0x0806, 1),
        (0x9000, 0),
    ]);
    (kinds, prop::collection::vec(any::<u128>(), 32), any::<bool>()).prop_map(|((eth_type, proto), values, tagged)| {
        let mut key = Key::ZERO;
        let fields = [
            Field::SkbPriority,
            Field::PktMark,
            Field::CtState,
            Field::CtZone,
            Field::CtMark,
            Field::CtLabel,
            Field::RecircId,
            Field::DpHash,
            Field::InPort,
            Field::EthSrc,
            Field::EthDst,
            Field::IpSrc,
            Field::IpDst,
            Field::NwTos,
            Field::NwEcn,
            Field::NwTtl,
            Field::TunId,
            Field::TunSrc,
            Field::TunDst,
            Field::TunTtl,
            Field::TunTos,
        ];
        for (field, value) in fields.iter().zip(&values) {
            field.set(&mut key, *value);
        }
        Field::EthType.set(&mut key, eth_type);
        if eth_type == 0x86dd {
            (key.nw_src, key.nw_dst) = ([0; 4], [0; 4]);
            Field::Ipv6Src.set(&mut key, values[21]);
            Field::Ipv6Dst.set(&mut key, values[22]);
            Field::Ipv6Label.set(&mut key, values[23]);
        }
        match eth_type {
            0x0806 => {
                (key.nw_tos, key.nw_ttl) = (0, 0);
                Field::ArpSha.set(&mut key, values[24]);
                Field::ArpTha.set(&mut key, values[25]);
            }
            0x9000 => {
                (key.nw_tos, key.nw_ttl, key.nw_src, key.nw_dst) = (0, 0, [0; 4], [0; 4]);
            }
            _ => {}
        }
        Field::NwProto.set(&mut key, proto);
        match proto {
            6 | 17 | 132 => {
                Field::TcpSrc.set(&mut key, values[26]);
                Field::TcpDst.set(&mut key, values[27]);
            }
            1 | 58 if eth_type != 0x0806 => {
                Field::IcmpType.set(&mut key, values[26] & 0x7f);
                Field::IcmpCode.set(&mut key, values[27]);
            }
            _ => {}
        }
        if tagged {
            Field::VlanTci.set(&mut key, values[28] | 0x1000);
            key.vlan_tpid = [0x81, 0x00];
        }
        if key.tun_id != [0; 8] {
            key.tun_flags[1] |= 4;
        }
        key
    })
}

proptest! {
    #[test]
    fn every_key_survives(key in any_key()) {
        let text = format_key(&key, &NoNames);
        let back = parse_flow(&text, &NoNames).map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
        prop_assert_eq!(format_key(&back.key, &NoNames), text);
        prop_assert!(*back.key == key);
    }

    #[test]
    fn never_panics(text in "[a-z0-9_(){},=/|+:. -]{0,80}") {
        let _ = parse_flow(&text, &NoNames);
        let _ = parse_attr(&text, &NoNames);
    }

    /// Real flows with a character changed, and random keys and masks.
    #[test]
    fn never_panics_nearby(n: usize, at: usize, with: char, bytes: [u8; 32]) {
        let lines: Vec<&str> = include_str!("cases/flows.txt").lines().collect();
        let mut line: Vec<char> = lines[n % lines.len()].chars().collect();
        if !line.is_empty() {
            let at = at % line.len();
            line[at] = with;
        }
        let _ = parse_flow(&line.into_iter().collect::<String>(), &NoNames);
        let mut key = Key::ZERO;
        for (i, byte) in zerocopy::IntoBytes::as_mut_bytes(&mut key).iter_mut().enumerate() {
            *byte = bytes[i % 32].rotate_left(u32::try_from(i % 8).unwrap());
        }
        let _ = format_flow(&key, &key, false, &NoNames);
        let _ = format_flow(&key, &key, true, &NoNames);
    }
}
