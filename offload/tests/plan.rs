//! The all-or-nothing rule over text: OVS's megaflows in, rules or refusals out; and over megaflows made at random.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use flow::action_text::{format_actions, parse_actions};
use flow::dptext::{format_flow, parse_flow};
use flow::extract::{PacketMeta, extract_whole};
use flow::extract_gen::PacketGen;
use flow::fields::Field;
use flow::forms::PortNames;
use flow::key::{TUN_CSUM, TUN_DF};
use flow::{Action, DpPort, Key, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::decode::DecodeError;
use offload::meters::{Limit, Unit};
use offload::rule::{Act, CSUM_UDP};
use offload::{Ends, PortKind, Reason, TunnelKind, Way, decode, plan};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PORTS: &[(&str, PortKind)] = &[
    ("br0", PortKind::Internal),
    ("p1", PortKind::Switch(7)),
    ("p2", PortKind::Switch(7)),
    ("p3", PortKind::Switch(7)),
    ("p4", PortKind::Switch(7)),
    ("vxlan_sys_4789", PortKind::Tunnel(TunnelKind::Vxlan)),
    ("vxlan_sys_4790", PortKind::Tunnel(TunnelKind::Vxlan)),
    ("genev_sys_6081", PortKind::Tunnel(TunnelKind::Geneve)),
    ("other", PortKind::Switch(8)),
];

#[derive(Debug)]
struct Names;

impl PortNames for Names {
    fn name(&self, port: u32) -> Option<String> {
        PORTS.get(port as usize).map(|p| p.0.to_owned())
    }

    fn number(&self, name: &str) -> Option<u32> {
        PORTS.iter().position(|p| p.0 == name).and_then(|i| u32::try_from(i).ok())
    }
}

fn hardware() -> Capabilities {
    let mut can = Capabilities::all();
    can.meters.insert(0, Ok(Limit { unit: Unit::Bytes, rate: 125_000, burst: 1_562_500 }));
    // p4 is the uplink.
    can.uplinks.insert(DpPort(4));
    can.mtus.extend((1..=3).map(|n| (DpPort(n), 1400)));
    can.mtus.insert(DpPort(4), 1500);
    for (src, dst) in [("10.8.0.1", "10.8.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let ends = Ends { src: src.parse().unwrap(), dst: dst.parse().unwrap() };
        can.ways.insert(ends, Way { src_mac: [2, 0, 0, 0, 0, 0xf1], dst_mac: [2, 0, 0, 0, 0, 0xf2] });
    }
    can.ports.extend(PORTS.iter().enumerate().map(|(i, p)| (DpPort(u32::try_from(i).unwrap()), p.1)));
    can
}

fn megaflow(flow: &str, actions: &str) -> Megaflow {
    // A key that only OVS of another version shows.
    let mut flow = flow.replace("key32(00 00/00 00),", "");
    if !flow.contains("packet_type") {
        flow = format!("packet_type(ns=0,id=0),{flow}");
    }
    let parsed = parse_flow(&flow, &Names).unwrap_or_else(|e| panic!("{flow}: {e:?}"));
    let actions = parse_actions(actions, &Names).unwrap_or_else(|e| panic!("{actions}: {e:?}"));
    Megaflow { ufid: Ufid(1), key: parsed.key, mask: parsed.mask, actions: Arc::new(actions) }
}

/// `expect` is "whole", or a refusal as the operator reads it.
#[track_caller]
fn check(flow: &str, actions: &str, expect: &str) {
    let flow = megaflow(flow, actions);
    let said = match plan(&flow, &hardware()) {
        Ok(_) => "whole".to_owned(),
        Err(refusal) => refusal.to_string(),
    };
    assert_eq!(said, expect);
}

/// Whatever stock Open vSwitch puts into tc, we do too; and what it declines for lack of a key or an action, we decline with a reason.
#[test]
fn golden_megaflows() {
    let text = include_str!("golden.txt");
    let mut counts = (0, 0);
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let [case, dp, flow, actions] = line.splitn(4, " | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let result = plan(&megaflow(flow, actions), &hardware());
        match (dp, &result) {
            // Stock Open vSwitch leaves out that there are no options: its rule is wider than the megaflow.
            ("tc", Err(refusal)) if case == "geneve_decap" => {
                assert_eq!(refusal.to_string(), "tunnel(geneve()): the hardware cannot match this value");
            }
            ("tc", Err(refusal)) => panic!("{case}: {refusal}\n{line}"),
            ("tc", Ok(_)) => counts.0 += 1,
            (_, Ok(_)) => {}
            (_, Err(_)) => counts.1 += 1,
        }
    }
    assert!(counts.0 > 80 && counts.1 > 5, "{counts:?}");
}

const UDP: &str = "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(proto=17,frag=no),udp(dst=53)";

#[test]
fn matches_that_hardware_has() {
    for flow in [
        UDP,
        "recirc_id(0),in_port(p1),eth(dst=02:00:00:00:00:01/ff:ff:ff:00:00:00),eth_type(0x0806),arp(sip=10.0.0.1,op=1)",
        "recirc_id(0),in_port(p1),eth_type(0x8100),vlan(vid=5,pcp=0/0),encap(eth_type(0x86dd),ipv6(src=2001:db8::/ffff:ffff::,proto=6,frag=no),tcp(src=1))",
        "recirc_id(7),in_port(p1),ct_state(+est+trk-rel),ct_mark(0x1/0xff),eth_type(0x0800),ipv4(frag=no)",
        "tunnel(tun_id=0x2a,src=10.8.0.2,dst=10.8.0.1,tp_dst=4789,flags(-df+csum+key)),recirc_id(0),in_port(vxlan_sys_4789),eth_type(0x0800),ipv4(frag=no)",
        "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(frag=first)",
        // Of a second and a third label; that there is no second one needs no saying.
        "recirc_id(0),in_port(p1),eth_type(0x8847),mpls(label=1,tc=0/0,ttl=0/0,bos=0,label=2,tc=0/0,ttl=0/0,bos=0,label=3,tc=1,ttl=9,bos=1)",
        "recirc_id(0),in_port(p1),eth_type(0x8847),mpls(label=1,tc=0/0,ttl=0/0,bos=0/0,label=2/2,tc=0/0,ttl=0/0,bos=0/0)",
        "recirc_id(0),in_port(p1),eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=1,label=0,tc=0/0,ttl=0/0,bos=0/0)",
        "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(proto=0,frag=no)",
    ] {
        check(flow, "p2", "whole");
    }
}

#[test]
fn matches_that_hardware_has_not() {
    let none = "the hardware has no key for this field";
    for (flow, what) in [
        ("ct_tuple4(src=10.0.0.1),recirc_id(1),in_port(p1),eth_type(0x0800),ipv4(frag=no)", format!("ct_nw_src: {none}")),
        ("recirc_id(0),in_port(p1),eth_type(0x86dd),ipv6(label=0x5,frag=no)", format!("ipv6_label: {none}")),
        ("recirc_id(0),in_port(p1),eth_type(0x86dd),ipv6(frag=no),ipv6_exthdr(0/0x1)", format!("ipv6_exthdr: {none}")),
        ("recirc_id(0),in_port(p1),dp_hash(0x1/0xf),eth_type(0x0800),ipv4(frag=no)", format!("dp_hash: {none}")),
        ("skb_mark(0x1),recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(frag=no)", format!("pkt_mark: {none}")),
        ("recirc_id(0),in_port(p1),ct_state(+snat+trk),eth_type(0x0800),ipv4(frag=no)", format!("ct_state(snat): {none}")),
        (
            "recirc_id(0),in_port(p1),eth_type(0x86dd),ipv6(proto=44,frag=later)",
            "ipv6(frag): the hardware cannot match this value".to_owned(),
        ),
        ("recirc_id(0),in_port(br0),eth_type(0x0800),ipv4(frag=no)", "port 0: the input port has no hardware".to_owned()),
        (
            "recirc_id(0x10000000),in_port(p1),eth_type(0x0800),ipv4(frag=no)",
            "recirc_id(0x10000000): the recirculation id is above what the hardware numbers".to_owned(),
        ),
        (
            "recirc_id(0),in_port(vxlan_sys_4789),eth_type(0x0800),ipv4(frag=no)",
            "tunnel(dst): the field is matched although the packet's protocol is not".to_owned(),
        ),
        (
            "tunnel(src=10.8.0.2,dst=10.8.0.1,flags(-key)),recirc_id(0),in_port(vxlan_sys_4789),eth_type(0x0800),ipv4(frag=no)",
            "tunnel(flags(-key)): the hardware cannot match this value".to_owned(),
        ),
        (
            "tunnel(tun_id=0x1200000034,src=10.8.0.2,dst=10.8.0.1,flags(+key)),recirc_id(0),in_port(vxlan_sys_4789),eth_type(0x0800),ipv4(frag=no)",
            "tunnel(tun_id): the hardware cannot match this value".to_owned(),
        ),
    ] {
        check(flow, "p2", &what);
    }
}

#[test]
fn actions_that_hardware_has() {
    for actions in [
        "drop",
        "p2",
        "p2,p3,br0",
        "clone(p2),p3",
        "push_vlan(vid=5,pcp=3),p2",
        "set(eth(dst=02:00:00:00:00:ab)),set(ipv4(dst=10.99.0.2,ttl=63)),set(udp(dst=9)),p2",
        "set(ipv4(src=10.0.0.0/255.0.0.0)),p2",
        "ct(commit,zone=5,mark=0x1/0x1,label=0x2/0x3,nat(src=10.0.0.1-10.0.0.9:1000-2000)),p2",
        "ct_clear,p2",
        "meter(0),p2",
        "p3,ct(zone=1),recirc(0x4)",
        "check_pkt_len(size=100,gt(p3),le(set(udp(dst=9)),p2))",
        "set(tunnel(tun_id=0x2a,src=10.8.0.1,dst=10.8.0.2,tos=0x4,ttl=64,tp_dst=4789,flags(df|csum|key))),vxlan_sys_4789,p2",
        "push_mpls(label=100,tc=0,ttl=64,bos=1,eth_type=0x8847),p2",
    ] {
        check(UDP, actions, "whole");
    }
}

/// What stock Open vSwitch (3.7.1) declines, or puts into tc as something else than the megaflow.
#[test]
fn kinds_that_stock_declines_or_gets_wrong() {
    let tunnel = |parts: &str| {
        format!(
            "tunnel({parts},src=10.8.0.2,dst=10.8.0.1,flags(+key)),recirc_id(0),in_port(vxlan_sys_4789),eth_type(0x0800),ipv4(frag=no)"
        )
    };
    let many = ["set(ipv4(ttl=63)),p3"; 5].join(",set(ipv4(ttl=62)),p2,");
    for (kind, flow, actions) in [
        ("clone", UDP.to_owned(), "clone(p2),p3"),
        ("protocol 0", "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(proto=0,frag=no)".to_owned(), "p2"),
        (
            "a part of an MPLS label",
            "recirc_id(0),in_port(p1),eth_type(0x8847),mpls(label=16/0x10,tc=0/0,ttl=0/0,bos=1)".to_owned(),
            "p2",
        ),
        ("a part of a tunnel's key", tunnel("tun_id=0x34/0xff,tp_dst=4789"), "p2"),
        ("any destination port", tunnel("tun_id=0x34"), "p2"),
        ("a tunnel's source port", tunnel("tun_id=0x34,tp_src=1111,tp_dst=4789"), "p2"),
        ("group policy without id", tunnel("tun_id=0x34,tp_dst=4789,vxlan(gbp(flags=0x40))"), "p2"),
        ("more than 16 actions", UDP.to_owned(), many.as_str()),
    ] {
        let flow = megaflow(&flow, actions);
        let plan = plan(&flow, &hardware()).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert!(kind != "more than 16 actions" || plan.rule.acts.len() > 16, "{}", plan.rule.acts.len());
    }
}

#[test]
fn actions_that_hardware_has_not() {
    for (actions, what) in [
        ("trunc(40),p2", "trunc: the hardware has no such action"),
        ("set(skb_priority(0x10004)),p2", "set(skb_priority): the hardware has no such action"),
        ("hash(l4(0)),recirc(0x1)", "hash: the hardware has no such action"),
        ("userspace(pid=0,slow_path(controller))", "userspace: packets go to the slow path"),
        ("sample(sample=50.0%,actions(p2)),p3", "sample: packets are sampled, which software does"),
        ("ct(commit,helper=ftp),p2", "ct(helper): the hardware has the action, but not with this option"),
        ("ct(commit,timeout=t),p2", "ct(timeout): the hardware has the action, but not with this option"),
        (
            "ct(commit,nat(src=10.0.0.1,persistent)),p2",
            "ct(nat(persistent)): the hardware has the action, but not with this option",
        ),
        ("ct(commit,nat(src=10.0.0.1,random)),p2", "ct(nat(random)): the hardware has the action, but not with this option"),
        ("meter(3),p2", "meter(3): the meter is not in hardware"),
        ("recirc(0x1),p2", "recirc(0x1): the hardware cannot do these actions in this order"),
        ("other", "port 8: the output port is on another eSwitch than the input port"),
        ("77", "port 77: an output port has no hardware"),
        ("pop_vlan,p2", "pop_vlan: the hardware cannot do these actions in this order"),
        ("vxlan_sys_4789", "port 5: the tunnel cannot be said to the hardware"),
        (
            "set(tunnel(tun_id=0x1,dst=10.8.0.2,ttl=64,tp_src=1,tp_dst=4789,flags(key))),vxlan_sys_4789",
            "set(tunnel()): the hardware has the action, but not with this option",
        ),
    ] {
        check(UDP, actions, what);
    }
    let fragments = "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(proto=17)";
    check(fragments, "set(ipv4(dst=10.99.0.2)),p2", "set(ipv4): headers behind a possible fragment would be rewritten");
    check(fragments, "set(ipv4(ttl=63)),p2", "whole");
    check(fragments, "ct(zone=1),recirc(0x4)", "ct: headers behind a possible fragment would be rewritten");
    let unknown = "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(proto=99,frag=no)";
    check(
        unknown,
        "set(ipv4(dst=10.99.0.2)),p2",
        "set(ipv4): a checksum would have to be updated of a protocol that the rule does not fix",
    );
}

/// A prebuilt header over IPv4 with VXLAN, and the output that follows.
const PUSH: &str = "tnl_push(tnl_port(vxlan_sys_4789),header(size=50,type=4,eth(dst=02:00:00:00:00:f2,src=02:00:00:00:00:f1,dl_type=0x0800),\
                    ipv4(src=10.8.0.1,dst=10.8.0.2,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),\
                    vxlan(flags=0x8000000,vni=0x2a)),out_port(p4)),p4";
const PUSH6: &str = "tnl_push(tnl_port(genev_sys_6081),header(size=78,type=5,eth(dst=02:00:00:00:00:f2,src=02:00:00:00:00:f1,dl_type=0x86dd),\
                     ipv6(src=2001:db8::1,dst=2001:db8::2,label=0,proto=17,tclass=0x0,hlimit=64),udp(src=0,dst=6081,csum=0xffff),\
                     geneve(vni=0x2a,options({class=0x102,type=0x2,len=4,0x800022}))),out_port(p4)),p4";

const ECN_0: &str = "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(tos=0/0x3,proto=17,frag=no),udp(dst=53)";

#[test]
fn a_prebuilt_header_is_said_as_the_parameters_that_give_it() {
    let said = |actions: &str| {
        let plan = plan(&megaflow(ECN_0, actions), &hardware()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(decode(&plan.rule).unwrap().actions, *plan.flow.actions);
        format_actions(&plan.flow.actions, &Names)
    };
    assert_eq!(said(PUSH), "set(tunnel(tun_id=0x2a,src=10.8.0.1,dst=10.8.0.2,ttl=64,tp_dst=4789,flags(df|key))),vxlan_sys_4789");
    assert_eq!(
        said(&format!("push_vlan(vid=5,pcp=0),clone({PUSH6}),pop_vlan,p2")),
        "push_vlan(vid=5,pcp=0),set(tunnel(tun_id=0x2a,ipv6_src=2001:db8::1,ipv6_dst=2001:db8::2,ttl=64,tp_dst=6081,\
         geneve({class=0x102,type=0x2,len=4,0x800022}),flags(csum|key))),genev_sys_6081,pop_vlan,p2"
    );
}

#[test]
fn headers_that_a_device_would_build_otherwise() {
    let (way, unsaid) = (
        "hardware would send the tunnel's packets another way, or the kernel does not know the way",
        "the tunnel cannot be said to the hardware",
    );
    let option = "the hardware has the action, but not with this option";
    let order = "the hardware cannot do these actions in this order";
    check(ECN_0, PUSH, "whole");
    for (change, to, refusal) in [
        ("dst=10.8.0.2", "dst=10.8.0.9", format!("10.8.0.9: {way}")),
        ("src=10.8.0.1", "src=10.8.0.9", format!("10.8.0.2: {way}")),
        ("eth(dst=02:00:00:00:00:f2", "eth(dst=02:00:00:00:00:f3", format!("10.8.0.2: {way}")),
        ("src=02:00:00:00:00:f1", "src=02:00:00:00:00:f3", format!("10.8.0.2: {way}")),
        (",p4", ",p3", format!("port 3: {way}")),
        (",p4", ",p4,p3", format!("tnl_push: {order}")),
        (",p4", "", format!("tnl_push: {order}")),
        (",p4", ",push_vlan(vid=5,pcp=0),p4", format!("tnl_push: {order}")),
        ("ttl=64", "ttl=0", format!("set(tunnel(ttl)): {option}")),
        // The kernel copies the inner ECN bits, which are nought.
        ("tos=0", "tos=0x1", format!("set(tunnel(tos)): {option}")),
        ("frag=0x4000", "frag=0x2000", format!("tnl_push: port 5: {unsaid}")),
        ("udp(src=0", "udp(src=7", format!("tnl_push: port 5: {unsaid}")),
        ("csum=0x0", "csum=0x1", format!("tnl_push: port 5: {unsaid}")),
        ("flags=0x8000000", "flags=0xc000003", format!("tnl_push: port 5: {unsaid}")),
        ("tnl_port(vxlan_sys_4789)", "tnl_port(p2)", "port 2: the tunnel cannot be said to the hardware".to_owned()),
    ] {
        let actions = PUSH.replacen(change, to, 1);
        assert_ne!(actions, PUSH);
        check(ECN_0, &actions, &refusal);
    }
    check(ECN_0, &PUSH6.replacen("geneve(", "geneve(crit,", 1), &format!("tnl_push: port 7: {unsaid}"));
    check(ECN_0, &PUSH6.replacen("geneve(", "geneve(oam,", 1), &format!("tnl_push: port 7: {unsaid}"));
    // Whose ECN bits are not known, or have been changed.
    let any = ECN_0.replace("tos=0/0x3,", "");
    check(&any, PUSH, &format!("set(tunnel(tos)): {option}"));
    check(ECN_0, &format!("set(ipv4(tos=0x1/0x1)),{PUSH}"), &format!("set(tunnel(tos)): {option}"));
    check(&any, &format!("set(ipv4(tos=0/0x3)),{PUSH}"), "whole");
    let congested = ECN_0.replace("tos=0/0x3", "tos=3/0x3");
    check(&congested, PUSH, &format!("set(tunnel(tos)): {option}"));
    check(&congested, &PUSH.replacen("tos=0", "tos=0x2", 1), "whole");
    let tagged = "recirc_id(0),in_port(p1),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x0800),ipv4(tos=1/0x3,frag=no))";
    check(tagged, &PUSH.replacen("tos=0", "tos=0x1", 1), &format!("set(tunnel(tos)): {option}"));
    check("recirc_id(0),in_port(p1),eth_type(0x0806),arp(op=1)", PUSH, "whole");
    check(ECN_0, &format!("push_mpls(label=100,tc=0,ttl=64,bos=1,eth_type=0x8847),{PUSH}"), &format!("tnl_push: {order}"));
    let from_tunnel =
        "tunnel(tun_id=0x2a,src=10.8.0.2,dst=10.8.0.1,flags(+key)),recirc_id(0),in_port(vxlan_sys_4790),eth_type(0x0806)";
    check(from_tunnel, PUSH, &format!("port 6: {unsaid}"));
    let mut can = hardware();
    (can.enc_csum, can.outer_df_unread) = (false, true);
    let refusal = plan(&megaflow(ECN_0, PUSH6), &can).unwrap_err();
    assert_eq!(refusal.to_string(), format!("set(tunnel(flags(csum))): {option}"));
    // An inner frame of 1450 bytes behind 14 of Ethernet and 36 of IP, UDP and VXLAN just fits; a tag no longer does.
    can.mtus.insert(DpPort(1), 1450);
    assert!(plan(&megaflow(ECN_0, PUSH), &can).is_ok());
    let long = |actions: &str, can: &Capabilities| plan(&megaflow(ECN_0, actions), can).unwrap_err().to_string();
    let mtu = "packets of the input port may be too long for the tunnel's way out, which is software's to answer";
    assert_eq!(long(&format!("push_vlan(vid=5,pcp=0),{PUSH}"), &can), format!("mtu(1504>1500): port 1: {mtu}"));
    can.mtus.remove(&DpPort(1));
    assert_eq!(long(PUSH, &can), format!("mtu: port 1: {mtu}"), "nobody knows");
    can.mtus.insert(DpPort(1), 1400);
    can.uplinks.insert(DpPort(3));
    let refusal = plan(&megaflow(ECN_0, PUSH), &can).unwrap_err();
    assert_eq!(refusal.to_string(), format!("port 4: {way}"), "there are two ways out");
}

/// What software never sees of an outer header is not asked of hardware; what it does see is.
#[test]
fn the_outer_df_bit_is_not_matched_where_software_does_not_read_it() {
    let flow = "tunnel(tun_id=0x2a,src=10.8.0.2,dst=10.8.0.1,tp_dst=4789,flags(-df-csum+key)),recirc_id(0),in_port(vxlan_sys_4789),\
                eth_type(0x0800),ipv4(frag=no)";
    let flags = |unread: bool| {
        let plan = plan(&megaflow(flow, "p2"), &Capabilities { outer_df_unread: unread, ..hardware() }).unwrap();
        plan.rule.tunnel.unwrap().flags_mask
    };
    assert_eq!((flags(false), flags(true)), (TUN_DF | TUN_CSUM, TUN_CSUM));
}

#[test]
fn more_actions_than_a_rule_may_have_refuse() {
    let outputs = |n: usize| vec!["p2"; n].join(",");
    check(UDP, &outputs(32), "whole");
    check(UDP, &outputs(33), "33 actions: the actions are more than one rule may have");
}

/// A list that does not end, or goes on behind its end, is no megaflow's: a packet would fall through to other filters.
#[test]
fn a_rule_without_a_verdict_means_nothing() {
    let rule = plan(&megaflow(UDP, "set(udp(dst=9)),p3,p2"), &hardware()).unwrap().rule;
    let judged = |change: &dyn Fn(&mut Vec<Act>)| {
        let mut rule = rule.clone();
        change(&mut rule.acts);
        decode(&rule).map(|_| ())
    };
    assert_eq!(judged(&|_| ()), Ok(()));
    assert_eq!(judged(&|acts| drop(acts.pop())), Err(DecodeError::NoVerdict));
    assert_eq!(judged(&Vec::clear), Err(DecodeError::NoVerdict));
    assert_eq!(judged(&|acts| acts.push(Act::Drop)), Err(DecodeError::AfterVerdict));
    let sums = Err(DecodeError::Checksum { found: 0, wanted: CSUM_UDP });
    assert_eq!(judged(&|acts| acts.retain(|a| !matches!(a, Act::Csum(_)))), sums);
}

#[test]
fn what_is_narrowed_is_narrowed_in_the_megaflow() {
    let flow =
        "tunnel(tun_id=0x34/0xff,src=10.8.0.2,dst=10.8.0.1),recirc_id(0),in_port(vxlan_sys_4789),eth_type(0x0800),ipv4(frag=no)";
    let mut flow = megaflow(flow, "p2");
    // The packet's key is whole, whatever of it is matched.
    (flow.key.tun_tp_dst, flow.key.tun_flags) = (4789u16.to_be_bytes(), [0, 4]);
    let plan = plan(&flow, &hardware()).unwrap();
    let text = format_flow(&plan.flow.key, &plan.flow.mask, false, &Names);
    assert!(text.contains("tunnel(tun_id=0x34,src=10.8.0.2,dst=10.8.0.1,tp_dst=4789,flags(+key))"), "{text}");
}

fn random_mask(random: &mut PacketGen) -> Box<Key> {
    let mut mask = Box::new(Key::ZERO);
    for field in Field::ALL {
        let place = field.row().place;
        if field.row().dp.is_none() || place.bits > 128 || random.below(100) >= 2 {
            continue;
        }
        let bits = if random.below(2) == 0 { u128::MAX } else { u128::from(random.bits()) };
        place.write(&mut mask, bits);
    }
    if random.below(8) != 0 {
        mask.eth_type = [0xff; 2];
        mask.nw_frag = 3;
        mask.vlan_tci = [0xff; 2];
    }
    mask
}

const ACTIONS: &[&str] = &[
    "p2",
    "p3",
    "br0",
    "other",
    "push_vlan(vid=5,pcp=3)",
    "pop_vlan",
    "set(eth(dst=02:00:00:00:00:ab))",
    "set(ipv4(dst=10.99.0.2))",
    "set(ipv4(ttl=63))",
    "set(udp(dst=9))",
    "set(tcp(src=9))",
    "set(ipv6(src=2001:db8::aa))",
    "ct(zone=7)",
    "ct(commit,zone=1,mark=1)",
    "ct_clear",
    "meter(0)",
    "trunc(60)",
    "recirc(0x9)",
    "push_mpls(label=100,tc=0,ttl=64,bos=1,eth_type=0x8847)",
    "pop_mpls(eth_type=0x800)",
    "set(mpls(label=5))",
    "clone(p2)",
    "drop",
    "check_pkt_len(size=100,gt(p3),le(p2))",
    "set(tunnel(tun_id=0x2a,src=10.8.0.1,dst=10.8.0.2,ttl=64,tp_dst=4789,flags(key)))",
    "vxlan_sys_4789",
];

/// Whatever is planned means the megaflow or less, never more; and nothing panics.
#[test]
fn never_wider_for_random_megaflows() {
    let cases = std::env::var("FERRULE_PROPERTY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(50_000);
    let mut random = PacketGen::new(0x0ff1_0ad0);
    let (mut bytes, mut whole, can) = (Vec::new(), 0u32, hardware());
    let parsed: Vec<Vec<Action>> = ACTIONS.iter().map(|a| parse_actions(a, &Names).unwrap()).collect();
    for case in 0..cases {
        let packet_type = random.sound_packet(&mut bytes);
        let mut key = Box::new(Key::ZERO);
        let meta = PacketMeta { in_port: DpPort(1), packet_type, vlan_limit: 2, ..PacketMeta::default() };
        extract_whole(&bytes, &meta, &mut key);
        let mask = random_mask(&mut random);
        let actions = (0..random.below(4)).flat_map(|_| parsed[random.below(parsed.len())].clone()).collect();
        let flow = Megaflow { ufid: Ufid(1), key, mask, actions: Arc::new(actions) };
        let Ok(plan) = plan(&flow, &can) else { continue };
        whole += 1;
        assert!(flow.mask.is_subset_of(&plan.flow.mask), "case {case}: wider");
        assert!(flow.key.equal_under(&plan.flow.key, &plan.flow.mask), "case {case}: another packet");
        let back = decode(&plan.rule).unwrap();
        assert_eq!((&back.key, &back.mask), (&plan.flow.key, &plan.flow.mask), "case {case}");
    }
    assert!(whole > cases / 20, "only {whole} of {cases} were planned at all");
}

/// All files of a folder of the repository, without comments.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let (mut folders, mut out) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                // What a comment says, nothing gives and nothing shows.
                let text = fs::read_to_string(&path).unwrap();
                let said = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
                out.push((path, said));
            }
        }
    }
    out
}

/// A reason that nothing gives, or that no test has seen given, is none.
#[test]
fn every_reason_is_given_and_a_test_shows_it() {
    let is_test = |path: &Path| path.ends_with("src/merge/tests.rs");
    let (inner, code): (Vec<_>, Vec<_>) = sources("offload/src").into_iter().partition(|(path, _)| is_test(path));
    let code: Vec<String> =
        code.into_iter().filter(|(path, _)| !path.ends_with("src/refusal.rs")).map(|(_, text)| text).collect();
    let tests: Vec<String> =
        [sources("offload/tests"), sources("tests/offload"), inner].concat().into_iter().map(|(_, text)| text).collect();
    for reason in Reason::ALL {
        let id = format!("Reason::{reason:?}");
        let has = |text: &String, word: &str| {
            text.match_indices(word).any(|(at, _)| !text[at + word.len()..].starts_with(char::is_alphanumeric))
        };
        assert!(code.iter().any(|text| has(text, &id)), "nothing gives {id}");
        let shown = |text: &String| {
            has(text, &id) || text.contains(reason.sentence()) || has(text, &format!("offload-reason:{}", reason.name()))
        };
        assert!(tests.iter().any(shown), "no test shows {id}");
    }
}

#[test]
fn every_reason_has_a_sentence_of_its_own() {
    for (i, reason) in Reason::ALL.iter().enumerate() {
        assert!(!reason.sentence().is_empty());
        assert!(Reason::ALL[..i].iter().all(|r| r.name() != reason.name() && r.sentence() != reason.sentence()));
    }
}
