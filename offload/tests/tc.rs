//! tc-flower messages: what we write reads back as the same rule; what iproute2 sends for the same rule is the same, attribute by
//! attribute; and no bytes panic the reader.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::extract_gen::PacketGen;
use flow::forms::NoNames;
use flow::key::Key;
use flow::seam::{BAND_DROP, METER_BURST, METER_KBPS, METER_PKTPS, MeterBand, MeterConfig};
use flow::{DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::decode::DecodeError;
use offload::keys::{FlowerKey, ROWS};
use offload::meters::{Limit, Unit};
use offload::rule::{Act, Skbedit};
use offload::tc::attributes::{Attribute, Writer, attributes};
use offload::tc::numbers::act;
use offload::tc::read::{Message, filter, message};
use offload::tc::{Devices, FilterId, Hook, matches, meters, write};
use offload::{PortKind, Rule, TunnelKind, decode, plan};
use std::collections::HashSet;
use std::sync::Arc;

/// Port n is interface n.
struct Same;

impl Devices for Same {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        Some(port.0)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        Some(DpPort(ifindex))
    }
}

const HEAD: usize = write::HEADER + write::TCMSG;

fn hardware() -> Capabilities {
    let mut can = Capabilities::all();
    can.meters.insert(5, Ok(Limit { unit: Unit::Bytes, rate: 125_000, burst: 1_562_500 }));
    let kinds = [
        PortKind::Switch(1),
        PortKind::Switch(1),
        PortKind::Tunnel(TunnelKind::Vxlan),
        PortKind::Tunnel(TunnelKind::Geneve),
        PortKind::Internal,
    ];
    can.ports.extend(kinds.into_iter().zip(2..).map(|(kind, n)| (DpPort(n), kind)));
    can
}

fn rule_of(flow: &str, actions: &str) -> Rule {
    let flow = format!("packet_type(ns=0,id=0),{flow}");
    let parsed = parse_flow(&flow, &NoNames).unwrap_or_else(|e| panic!("{flow}: {e:?}"));
    let actions = Arc::new(parse_actions(actions, &NoNames).unwrap());
    plan(&Megaflow { ufid: Ufid(9), key: parsed.key, mask: parsed.mask, actions }, &hardware())
        .unwrap_or_else(|e| panic!("{flow}: {e}"))
        .rule
}

fn message_of(rule: &Rule) -> Vec<u8> {
    let hook = Hook::Ingress { ifindex: rule.port.0 };
    let id = FilterId { hook, chain: rule.chain, prio: 2, handle: 1, protocol: matches::protocol(&rule.link) };
    let mut out = Writer::default();
    write::create(&mut out, 77, id, rule, b"cookie", &Same).unwrap();
    out.bytes
}

const RULES: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(3),eth_type(0x0800),ipv4(proto=17,frag=no),udp(dst=53)", "2"),
    ("recirc_id(0),in_port(3),eth_type(0x0800),ipv4(proto=6,tos=0x20/0xfc,frag=first)", "drop"),
    (
        "recirc_id(0),in_port(3),eth_type(0x8100),vlan(vid=5,pcp=0/0),encap(eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=128,code=0))",
        "pop_vlan,2",
    ),
    (
        "recirc_id(9),in_port(3),ct_state(+est+trk-rel),ct_zone(7),ct_mark(0x5/0xff),ct_label(0x1/0x3),eth_type(0x0800),ipv4(frag=no)",
        "2,3,6",
    ),
    (
        "recirc_id(0),in_port(3),eth_type(0x0806),arp(sip=10.0.0.0/255.0.0.0,op=1,sha=02:00:00:00:00:01)",
        "push_vlan(vid=5,pcp=3),2",
    ),
    (
        "recirc_id(0),in_port(3),eth_type(0x8847),mpls(label=100,tc=3,ttl=64,bos=1)",
        "set(mpls(label=5)),pop_mpls(eth_type=0x800),2",
    ),
    (
        "tunnel(tun_id=0x2a,src=10.8.0.2,dst=10.8.0.1,tp_dst=4789,flags(-df+csum+key)),recirc_id(0),in_port(4),eth_type(0x0800),ipv4(frag=no)",
        "2",
    ),
    (
        "tunnel(tun_id=0x2a,src=10.8.0.2,dst=10.8.0.1,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x800022/0xff}),flags(+key)),recirc_id(0),in_port(5),eth_type(0x0800),ipv4(frag=no)",
        "2",
    ),
    (
        "recirc_id(0),in_port(3),eth_type(0x0800),ipv4(proto=17,frag=no)",
        "set(eth(dst=02:00:00:00:00:ab)),set(ipv4(dst=10.99.0.2,ttl=63)),set(udp(dst=9)),2",
    ),
    (
        "recirc_id(0),in_port(3),eth_type(0x0800),ipv4(proto=17,frag=no)",
        "ct(force_commit,zone=3,mark=0x1/0x3,label=0x2/0xff,nat(src=10.99.0.1-10.99.0.5:5000-5100)),meter(5),ct_clear,recirc(0x9)",
    ),
    (
        "recirc_id(0),in_port(3),eth_type(0x86dd),ipv6(proto=6,frag=no)",
        "set(tunnel(tun_id=0x2a,ipv6_src=2001:db8::1,ipv6_dst=2001:db8::2,tos=0x4,ttl=64,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x800022}),flags(df|csum|key))),5,2",
    ),
    (
        "recirc_id(0),in_port(3),eth_type(0x8847),mpls(label=1,tc=0/0,ttl=0/0,bos=0,label=2,tc=3,ttl=64,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=1)",
        "pop_mpls(eth_type=0x8847),2",
    ),
    ("recirc_id(0),in_port(3),eth_type(0x0800),ipv4(proto=17,frag=no)", "check_pkt_len(size=100,gt(drop),le(set(udp(dst=9)),2))"),
];

#[test]
fn what_is_written_reads_back() {
    for (flow, actions) in RULES {
        let rule = rule_of(flow, actions);
        let bytes = message_of(&rule);
        let read = filter(&bytes, &Same).unwrap_or_else(|e| panic!("{flow} {actions}: {e}"));
        assert_eq!(read.rule(rule.port, rule.nought.clone()), rule, "{flow} {actions}");
        assert_eq!(read.cookie(), b"cookie");
        assert!(!read.in_hw, "nothing says that it is in hardware");
        assert_eq!(message(&bytes).unwrap(), Message::Flower(read.id));
    }
}

/// Attributes that hold others: by their path of kinds.
fn is_nest(path: &[u16]) -> bool {
    const OPTIONS: u16 = 2;
    const ACT: u16 = 3;
    match path {
        [OPTIONS] | [OPTIONS, ACT | 84 | 85 | 99] | [OPTIONS, ACT, _] | [OPTIONS, ACT, _, OPTIONS] => true,
        // Labels; the options of Geneve in a match; pedit's headers; the tunnel options of tunnel_key.
        [OPTIONS, 99 | 84 | 85, 1]
        | [OPTIONS, ACT, _, OPTIONS, 5 | 11]
        | [OPTIONS, ACT, _, OPTIONS, 5, 6]
        | [OPTIONS, ACT, _, OPTIONS, 11, 1] => true,
        _ => false,
    }
}

/// All attributes as lines `path: payload`, sorted, since their order says nothing.
fn tree(bytes: &[u8]) -> Vec<String> {
    fn walk(list: Vec<Attribute<'_>>, path: &mut Vec<u16>, out: &mut Vec<String>) {
        for a in list {
            path.push(a.kind);
            // A nest where nothing but a nest can be read as one; the other kinds of the same number are not.
            match a.nested().ok().filter(|n| is_nest(path) && !n.is_empty()) {
                Some(inner) => walk(inner, path, out),
                None => out.push(format!("{path:?}: {:02x?}", a.payload)),
            }
            path.pop();
        }
    }
    let mut out = Vec::new();
    walk(attributes(&bytes[HEAD..]).unwrap(), &mut Vec::new(), &mut out);
    out.sort();
    out
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Keys that iproute2 6.1.0 has no word for.
const WITHOUT_WORDS: &[FlowerKey] = &[FlowerKey::EncUdpSrc];

/// A name for each kind of action. An action without one does not compile, and one that iproute2's rules lack fails the test below.
macro_rules! kinds {
    ($($act:pat => $name:literal,)*) => {
        const KINDS: &[&str] = &[$($name),*];

        fn kind_of(act: &Act) -> &'static str {
            match act { $($act => $name),* }
        }
    };
}

kinds! {
    Act::Output { .. } => "output",
    Act::Drop => "drop",
    Act::Goto(_) => "goto",
    Act::VlanPush { .. } => "push_vlan",
    Act::VlanPop => "pop_vlan",
    Act::EthPush { .. } => "push_eth",
    Act::EthPop => "pop_eth",
    Act::MplsPush { .. } => "push_mpls",
    Act::MplsPop { .. } => "pop_mpls",
    Act::MplsSet { .. } => "set_mpls",
    Act::Pedit { .. } => "pedit",
    Act::Csum(_) => "csum",
    Act::TunnelSet(_) => "tunnel_set",
    Act::TunnelRelease => "tunnel_release",
    Act::Ct(_) => "ct",
    Act::CtClear => "ct_clear",
    Act::Police { .. } => "police",
    Act::Skbedit(_) => "skbedit",
    Act::Sample { .. } => "sample",
    Act::Length { .. } => "length",
}

/// iproute2's bytes mean a rule; ours for that rule are the same attributes, apart from those that say nothing. Every key and every action is
/// among them.
#[test]
fn iproute2_sends_the_same() {
    let (mut keys, mut acts) = (WITHOUT_WORDS.to_vec(), HashSet::new());
    for line in include_str!("iproute2.txt").lines().filter(|l| !l.starts_with('#')) {
        let [name, words, hex] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let theirs = from_hex(hex.trim());
        let read = filter(&theirs, &Same).unwrap_or_else(|e| panic!("{words}: {e}"));
        let rule = read.rule(DpPort(3), Box::new(Key::ZERO));
        let mut ours = Writer::default();
        write::create(&mut ours, 1, read.id, &rule, &[], &Same).unwrap();
        // tunnel_key unset with "no checksum: 0"; a tunnel's type of service that was not said is 0; ports' masks that are whole; the table of
        // rates, without which the kernel makes no action for a filter whose meter has none.
        let whole_port = |l: &String| (35..=40).chain([44, 46]).any(|mask| *l == format!("[2, {mask}]: [ff, ff]"));
        let quiet = |tree: Vec<String>| -> Vec<String> {
            let says = |l: &String| {
                !(l.contains("10]: [00]") && name.starts_with("tunmatch")
                    || l.contains("12]: [00]") && ["tunset6", "tunsetgbp"].contains(&name)
                    || l.starts_with("[2, 3, 1, 2, 2]: ") && name == "meter"
                    || whole_port(l))
            };
            tree.into_iter().filter(says).collect()
        };
        assert_eq!(quiet(tree(&ours.bytes)), quiet(tree(&theirs)), "{name}: {words}");
        // The fixed part: interface, handle, parent, preference and protocol.
        assert_eq!(ours.bytes[write::HEADER..HEAD], theirs[write::HEADER..HEAD], "{name}");
        keys.extend(rule.items.iter().map(|item| item.key));
        acts.extend(rule.acts.iter().map(kind_of));
    }
    let keys: Vec<FlowerKey> = ROWS.iter().map(|row| row.key).filter(|key| !keys.contains(key)).collect();
    let acts: Vec<&str> = KINDS.iter().copied().filter(|kind| !acts.contains(kind)).collect();
    assert!(keys.is_empty() && acts.is_empty(), "iproute2.txt has no rule with {keys:?} or {acts:?}");
}

/// Of meters all bytes are iproute2's; but for the number of the request, and that the kernel is to show what it made or removed.
#[test]
fn iproute2_sends_the_same_for_meters() {
    // (name, flags of the meter, its rate, its burst); the change is of the first.
    let cases = [
        ("bytes", METER_KBPS, 1_000, 100),
        ("uneven", METER_KBPS, 33_333, 33),
        ("long", METER_KBPS, 777, 7_997),
        ("slowest", METER_KBPS, 1, 1),
        ("slow", METER_KBPS, 3, 200),
        ("word", METER_KBPS, 34_359_738, 42_950),
        ("rate64", METER_KBPS, 40_000_000, 40_000),
        ("fastest", METER_KBPS, u32::MAX, 34_359_738),
        ("packets", METER_PKTPS, 1_000, 100),
        ("fewpackets", METER_PKTPS, 3, 7),
        ("mostpackets", METER_PKTPS, u32::MAX, u32::MAX),
        ("change", METER_KBPS, 1_000, 100),
        ("remove", 0, 0, 0),
        ("list", 0, 0, 0),
    ];
    let lines = include_str!("iproute2-actions.txt").lines().filter(|l| !l.starts_with('#'));
    assert_eq!(lines.clone().count(), cases.len());
    for (line, (name, unit, rate, burst_size)) in lines.zip(cases) {
        let [named, words, hex] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(named, name);
        let theirs = from_hex(hex);
        let sequence = u32::from_ne_bytes([theirs[8], theirs[9], theirs[10], theirs[11]]);
        let (mut ours, index) = (Writer::default(), Same.police(7));
        match name {
            "remove" => meters::remove(&mut ours, sequence, index),
            "list" => meters::list(&mut ours, sequence),
            _ => {
                let [police] = &meters::read(&theirs).unwrap()[..] else { panic!("{words}") };
                let band = MeterBand { kind: BAND_DROP, rate, burst_size, prec_level: 0 };
                let limit = Limit::of(&MeterConfig { flags: unit | METER_BURST, bands: vec![band] }).unwrap();
                // iproute2 cuts the time of a burst to microseconds; ours is not shorter than was asked for.
                assert_eq!(Limit { burst: 0, ..police.limit }, Limit { burst: 0, ..limit }, "{words}");
                assert!((0..=16).contains(&(i64::from(limit.burst) - i64::from(police.limit.burst))), "{words}: {limit:?}");
                meters::make(&mut ours, sequence, index, &police.limit, act::SKIP_SW, name == "change");
            }
        }
        let echo = if name == "list" { 0 } else { write::F_ECHO };
        let flags = u16::from_ne_bytes([theirs[6], theirs[7]]) | echo;
        let theirs = [&theirs[..6], &flags.to_ne_bytes(), &theirs[8..]].concat();
        assert_eq!(ours.bytes, theirs, "{words}");
    }
}

/// What exceeds a length goes on elsewhere in the list; what does not is to go on as well.
#[test]
fn police_that_ends_the_list_is_read_as_no_other() {
    let rule = Rule { acts: vec![Act::Length { mtu: 100, jump: 1 }, Act::Drop], ..rule_of(RULES[0].0, RULES[0].1) };
    let mut bytes = message_of(&rule);
    assert!(filter(&bytes, &Same).is_ok_and(|read| read.rule(rule.port, rule.nought.clone()) == rule));
    // The attribute of what does not exceed: 3 is "go on".
    let result = [8, 0, 5, 0, 3, 0, 0, 0];
    let at = bytes.windows(8).position(|w| w == result).unwrap();
    bytes[at + 4] = 0;
    assert!(filter(&bytes, &Same).is_err());
}

/// What no megaflow asks for is written and read all the same; it means no megaflow.
#[test]
fn actions_beside_the_megaflows_are_written_and_read() {
    let mut rule = rule_of(RULES[0].0, RULES[0].1);
    let edits = [
        Skbedit { mark: Some(5), mark_mask: Some(0xff), ..Skbedit::default() },
        Skbedit { priority: Some(0x1_0002), queue: Some(3), packet_type: Some(0), ..Skbedit::default() },
    ];
    let acts = edits
        .map(Act::Skbedit)
        .into_iter()
        .chain([Act::Sample { rate: 100, group: 5, trunc: Some(60) }, Act::Sample { rate: 1, group: 0, trunc: None }]);
    for act in acts {
        rule.acts.insert(0, act.clone());
        let read = filter(&message_of(&rule), &Same).unwrap();
        assert_eq!(read.rule(rule.port, rule.nought.clone()), rule, "{act:?}");
        assert!(matches!(decode(&rule), Err(DecodeError::Foreign(_))), "{act:?}");
        rule.acts.remove(0);
    }
}

#[test]
fn foreign_filters_are_named_not_read() {
    let rule = rule_of(RULES[0].0, RULES[0].1);
    let text = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(6).position(|w| w == b"flower").unwrap();
        bytes[at..at + 6].copy_from_slice(b"matchs");
    };
    let mut bytes = message_of(&rule);
    text(&mut bytes);
    assert!(matches!(message(&bytes).unwrap(), Message::Foreign(_)));
}

#[test]
fn no_bytes_panic_the_reader() {
    let mut random = PacketGen::new(0x7c);
    let originals: Vec<Vec<u8>> = RULES.iter().map(|(f, a)| message_of(&rule_of(f, a))).collect();
    let mut refused = 0;
    for _ in 0..100_000 {
        let mut bytes = originals[random.below(originals.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.bits().to_be_bytes()[0];
        }
        bytes.truncate(bytes.len() - random.below(3) * random.below(bytes.len() / 2));
        refused += u32::from(filter(&bytes, &Same).is_err());
        let _ = message(&bytes);
    }
    assert!(refused > 1000, "damage is found");
}
