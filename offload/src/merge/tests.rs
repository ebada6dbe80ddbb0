//! Ways of connections, in text: megaflows and a connection in, composed megaflows out.

use super::*;
use flow::action_text::{format_actions, parse_actions};
use flow::conntrack::CtTuple;
use flow::dptext::{format_flow, parse_flow};
use flow::forms::NoNames;

fn tuple(text: &str, proto: u8) -> CtTuple {
    let mut p = text.split(' ');
    let mut next = || p.next().unwrap();
    CtTuple {
        src: next().parse().unwrap(),
        dst: next().parse().unwrap(),
        proto,
        src_port: next().parse().unwrap(),
        dst_port: next().parse().unwrap(),
        ..CtTuple::default()
    }
}

fn connection(orig: &str, reply: &str, proto: u8) -> CtEntry {
    CtEntry {
        orig: tuple(orig, proto),
        reply: tuple(reply, proto),
        parent: None,
        zone: 7,
        mark: 5,
        label: 1,
        timeout_ms: 30_000,
        tcp: None,
        helper: None,
        established: true,
        translated: [false; 2],
        ports: [Some(DpPort(1)), Some(DpPort(2))],
        bucket: 0,
    }
}

fn ways(flows: &[(&str, &str)]) -> Ways {
    let mut ways = Ways::default();
    for (i, (flow, actions)) in flows.iter().enumerate() {
        let parsed = parse_flow(&format!("{flow},packet_type(ns=0,id=0)"), &NoNames).unwrap();
        let mut mask = parsed.mask;
        if !flow.contains("eth_type") {
            mask.eth_type = [0; 2];
        }
        let actions = Arc::new(parse_actions(actions, &NoNames).unwrap());
        ways.put(&Megaflow { ufid: Ufid(i as u128 + 1), key: parsed.key, mask, actions });
    }
    ways
}

/// What comes of one direction: a line for each way, sorted.
fn composed(flows: &[(&str, &str)], conns: &[CtEntry], reply: bool) -> Vec<String> {
    let mut known = Connections::default();
    conns.iter().for_each(|c| known.insert(c.clone()));
    let line = |m: &Merged| {
        let flow = format_flow(&m.flow.key.masked(&m.flow.mask), &m.flow.mask, false, &NoNames);
        let parts: Vec<String> = m.parts.iter().map(|u| u.0.to_string()).collect();
        format!("{} {flow} => {}", parts.join("+"), format_actions(&m.flow.actions, &NoNames))
    };
    let mut lines: Vec<String> = merge(&conns[0], reply, &ways(flows), &known).iter().map(line).collect();
    lines.sort();
    lines
}

const UDP: (&str, &str) = ("10.0.0.1 10.0.0.2 1000 2000", "10.0.0.2 10.0.0.1 2000 1000");
const FIREWALL: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(1)", "ct(commit,zone=7,mark=0x5/0xff,label=0x1/0x1),2"),
    ("recirc_id(0),in_port(2)", "ct(zone=7),recirc(0x1)"),
    ("ct_state(+est+rpl+trk),ct_mark(0x5),ct_label(0x1),recirc_id(0x1),in_port(2)", "1"),
    ("ct_state(-est+trk),recirc_id(0x1),in_port(2)", "3"),
];

#[test]
fn a_firewall() {
    let conn = || connection(UDP.0, UDP.1, 17);
    let there = composed(FIREWALL, &[conn()], false);
    let back = composed(FIREWALL, &[conn()], true);
    // A commit that changes nothing is nothing; port 2 sees the direction of answers only, but says so nowhere before `ct`.
    assert_eq!(there.len(), 1, "{there:?}");
    assert!(there[0].starts_with("1 ") && there[0].ends_with("=> 2"), "{there:?}");
    for part in ["src=10.0.0.1", "dst=10.0.0.2", "proto=17", "frag=no", "src=1000", "dst=2000", "in_port(1)", "recirc_id(0)"] {
        assert!(there[0].contains(part), "{part}: {there:?}");
    }
    assert!(!there[0].contains("ct_"), "nothing of tracking is left: {there:?}");
    let ends: Vec<&str> = back.iter().map(|l| l.split_once("=> ").unwrap().1).collect();
    assert_eq!(ends, ["1"], "only from the port that answers come in by: {back:?}");
    assert!(back[0].starts_with("2+3 "));
}

#[test]
fn what_a_commit_would_change_is_not_composed() {
    let conn = CtEntry { mark: 6, ..connection(UDP.0, UDP.1, 17) };
    assert!(composed(&FIREWALL[..1], &[conn], false).is_empty());
    let forced = [("recirc_id(0),in_port(1)", "ct(force_commit,zone=7),2")];
    assert!(composed(&forced, &[connection(UDP.0, UDP.1, 17)], false).is_empty());
}

#[test]
fn connections_that_are_not_admitted() {
    let of = |change: &dyn Fn(&mut CtEntry)| {
        let mut conn = connection(UDP.0, UDP.1, 17);
        change(&mut conn);
        composed(FIREWALL, &[conn], true).len()
    };
    assert_eq!(of(&|_| {}), 1);
    assert_eq!(of(&|c| c.ports[1] = None), 0);
    assert_eq!(of(&|c| c.established = false), 0);
    assert_eq!(of(&|c| c.helper = Some("ftp")), 0);
    assert_eq!(of(&|c| c.parent = Some(c.orig)), 0);
    assert_eq!(of(&|c| c.zone = 8), 0, "of another zone");
    assert_eq!(composed(FIREWALL, &[connection(UDP.0, UDP.1, 1)], true).len(), 0, "ICMP has no ports");
    let helped = CtEntry { helper: Some("ftp"), ..connection(UDP.0, UDP.1, 6) };
    let why = "helper: the connection is none whose packets hardware can have";
    assert_eq!(admissible(&helped).map_err(|why| why.to_string()), Err(why.to_owned()));
}

#[test]
fn tcp_leaves_syn_fin_and_rst_to_software() {
    let conn = || connection(UDP.0, UDP.1, 6);
    let there = composed(&FIREWALL[..1], &[conn()], false);
    assert!(there[0].contains("tcp_flags(-fin-syn-rst+ack)"), "{there:?}");
    let only_syn = [("recirc_id(0),in_port(1),eth_type(0x0800),ipv4(proto=6,frag=no),tcp_flags(+syn)", "ct(zone=7),2")];
    assert!(composed(&only_syn, &[conn()], false).is_empty());
}

#[test]
fn translation_is_a_rewrite_both_ways_and_matches_behind_it_see_it() {
    let flows = [
        ("recirc_id(0),in_port(1)", "ct(commit,zone=7,nat(src=1.1.1.1)),recirc(0x1)"),
        ("recirc_id(0x1),in_port(1),ct_state(+est+snat),eth_type(0x0800),ipv4(src=1.1.1.1,ttl=64,frag=no)", "2"),
        ("recirc_id(0x1),in_port(1),ct_state(+est-snat)", "3"),
        ("recirc_id(0),in_port(2)", "ct(zone=7,nat),recirc(0x2)"),
        (
            "recirc_id(0x2),in_port(2),ct_state(+rpl+dnat),eth_type(0x0800),ipv4(dst=10.0.0.1,frag=no)",
            "set(eth(dst=02:00:00:00:00:01)),1",
        ),
        ("recirc_id(0x2),in_port(2),eth_type(0x0800),ipv4(dst=10.0.0.9,frag=no)", "3"),
    ];
    let mut conn = connection("10.0.0.1 10.0.0.2 1000 2000", "10.0.0.2 1.1.1.1 2000 1024", 17);
    conn.translated = [true, false];
    let there = composed(&flows[..3], &[conn.clone()], false);
    assert_eq!(there.len(), 1, "{there:?}");
    assert!(there[0].starts_with("1+2 ") && there[0].contains("ttl=64") && there[0].contains("src=10.0.0.1,"), "{there:?}");
    assert!(there[0].ends_with("=> set(ipv4(src=1.1.1.1)),set(udp(src=1024)),2"), "{there:?}");
    let back = composed(&flows[3..], &[conn], true);
    assert_eq!(back.len(), 1, "{back:?}");
    assert!(back[0].contains("dst=1.1.1.1") && back[0].contains("dst=1024"), "{back:?}");
    assert!(back[0].ends_with("=> set(ipv4(dst=10.0.0.1)),set(udp(dst=1000)),set(eth(dst=02:00:00:00:00:01)),1"), "{back:?}");
}

#[test]
fn two_zones_and_several_ways() {
    let flows = [
        ("recirc_id(0),in_port(1)", "ct(zone=7),recirc(0x1)"),
        (
            "recirc_id(0x1),in_port(1),ct_state(+est),eth_type(0x0800),ipv4(ttl=64,frag=no)",
            "set(ipv4(ttl=63)),ct(zone=8),recirc(0x2)",
        ),
        ("recirc_id(0x1),in_port(1),ct_state(+est),eth_type(0x0800),ipv4(ttl=9,frag=no)", "drop"),
        ("recirc_id(0x2),in_port(1),ct_zone(8),ct_state(+est),eth_type(0x0800),ipv4(ttl=63,frag=no)", "2"),
        ("recirc_id(0x2),in_port(1),ct_state(+est),eth_type(0x0800),ipv4(ttl=64,frag=no)", "3"),
    ];
    let one = connection(UDP.0, UDP.1, 17);
    let two = CtEntry { zone: 8, ..one.clone() };
    let ends = |conns: &[CtEntry]| -> Vec<String> {
        let cut = |l: String| format!("{} {}", l.split(' ').next().unwrap(), l.split_once("=> ").unwrap().1);
        composed(&flows, conns, false).into_iter().map(cut).collect()
    };
    assert_eq!(ends(&[one.clone(), two]), ["1+2+4 set(ipv4(ttl=63)),2", "1+3 drop"]);
    assert_eq!(ends(&[one]), ["1+3 drop"], "the connection in zone 8 is not known");
}

#[test]
fn what_cannot_be_followed_is_left_alone() {
    let conn = || [connection(UDP.0, UDP.1, 17)];
    let after = |actions: &str| {
        let first = format!("{actions},recirc(0x1)");
        composed(&[("recirc_id(0),in_port(1)", &first), ("recirc_id(0x1),in_port(1)", "2")], &conn(), false).len()
    };
    assert_eq!(after("ct(zone=7)"), 1);
    assert_eq!(after("ct(zone=7),push_vlan(vid=5,pcp=0)"), 0, "matches behind a pushed tag");
    assert_eq!(after("ct(zone=7),set(ipv4(dst=9.9.9.9)),ct(zone=7)"), 0, "looked up again");
    assert_eq!(after("ct(zone=7),ct_clear"), 1);
    assert_eq!(after("ct(zone=7),clone(ct(zone=8),3)"), 0);
    assert_eq!(after("ct(zone=7),sample(sample=50.0%,actions(3))"), 0);
    let ends = [("recirc_id(0),in_port(1)", "ct(zone=7),3,push_vlan(vid=5,pcp=0),2")];
    assert_eq!(composed(&ends, &conn(), false).len(), 1, "at the end anything may stand");
    let round = [("recirc_id(0),in_port(1)", "ct(zone=7),recirc(0x1)"), ("recirc_id(0x1),in_port(1)", "recirc(0x1)")];
    assert!(composed(&round, &conn(), false).is_empty(), "a way without end");
}

#[test]
fn an_address_written_before_is_no_match() {
    let flows = [("recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)", "set(ipv4(dst=10.0.0.2)),ct(zone=7),2")];
    let there = composed(&flows, &[connection(UDP.0, UDP.1, 17)], false);
    assert!(there[0].contains("src=10.0.0.1") && !there[0].contains("dst=10.0.0.2,"), "{there:?}");
    let other = [("recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)", "set(ipv4(dst=10.0.0.3)),ct(zone=7),2")];
    assert!(composed(&other, &[connection(UDP.0, UDP.1, 17)], false).is_empty());
}

#[test]
fn connections_are_found_by_both_tuples_until_they_go() {
    let mut all = Connections::default();
    let one = connection(UDP.0, UDP.1, 17);
    all.insert(one.clone());
    all.insert(CtEntry { mark: 9, ..one.clone() });
    assert_eq!((all.len(), all.find(7, &one.reply).map(|(e, r)| (e.mark, r))), (1, Some((9, true))));
    assert!(all.find(6, &one.orig).is_none());
    all.remove(&ConnId::of(&one));
    assert!(all.is_empty() && all.find(7, &one.orig).is_none() && all.find(7, &one.reply).is_none());
}
