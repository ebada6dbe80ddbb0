//! Mirrors of a bridge beside hardware: a megaflow whose packets are mirrored is in hardware whole, copies and all, or in software whole, with its
//! reason. What is sent, in which order, and what rules and mirrors count is as without hardware.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, to panic is to speak")]

mod common;

use common::beside::{PORTS, Twins};
use flow::compose::{Payload, compose};
use flow::{DpPort, Key};
use offload::model::Options;
use ofproto::config::{BridgeConfig, MirrorConfig, VlanMode};
use openflow::message::FlowModCommand;

/// From the host behind port p`from` to the one behind p`to`, all UDP or all TCP, untagged or in VLAN 5.
fn packet(from: u8, to: u8, proto: u8, tagged: bool) -> Vec<u8> {
    let mut key = Box::new(Key::ZERO);
    (key.eth_src, key.eth_dst, key.eth_type) = ([2, 0, 0, 0, 0, from], [2, 0, 0, 0, 0, to], [8, 0]);
    (key.nw_src, key.nw_dst, key.nw_proto, key.nw_ttl) = ([10, 0, 0, from], [10, 0, 0, to], proto, 64);
    (key.tp_src, key.tp_dst) = ([0, 9], [0, 80]);
    if tagged {
        (key.vlan_tci, key.vlan_tpid) = ([0x10, 5], [0x81, 0]);
    }
    compose(&key, Payload::Len(100))
}

/// What becomes of the megaflow of UDP from p1 to p2.
enum Goes<'a> {
    /// Into hardware; what its rule does: ports to which a copy goes, `!` before the one that gets the packet itself, and headers.
    Whole(&'a str),
    /// Into software, for a reason that says so.
    Refused(&'a str),
}

/// Actions of the rule for packets of a port, in short.
fn acts(twins: &Twins, port: DpPort) -> String {
    let table = twins.tier.hardware().link().table();
    let line = table.lines().find(|l| l.starts_with(&format!("dev {} ", port.0))).unwrap_or_else(|| panic!("no rule:\n{table}"));
    let mut text = line.split_once(" bytes:").unwrap().1.split_once(' ').unwrap().1.to_owned();
    for (n, port) in twins.ports.iter().enumerate() {
        let output = |last| format!("Output {{ port: {port:?}, ingress: false, last: {last} }}");
        text = text.replace(&output(false), &format!("p{}", n + 1)).replace(&output(true), &format!("!p{}", n + 1));
    }
    text
}

/// Sends packets of all kinds between p1 and p2, and some from p3, again and again, with `flow` in the table.
#[track_caller]
fn check(mirror: MirrorConfig, adapt: impl Fn(&mut BridgeConfig), flow: &str, goes: &Goes<'_>) {
    let at = format!("{mirror:?}, {flow}");
    let mut twins = Twins::new(Options { lag: true, ..Options::default() }, |bridge| {
        bridge.mirrors = vec![MirrorConfig { name: "m".into(), ..mirror.clone() }];
        adapt(bridge);
    });
    twins.flow_mod(flow, FlowModCommand::Add, &at);
    let [p1, p2, p3, _]: [DpPort; PORTS] = twins.ports.clone().try_into().unwrap();
    let mut by_hardware = 0;
    for round in 0..12 {
        for (port, from, to) in [(p1, 1, 2), (p2, 2, 1), (p3, 3, 1)] {
            for (proto, tagged) in [(17, false), (6, false), (17, true)] {
                by_hardware += usize::from(twins.receive(port, &packet(from, to, proto, tagged), &at).1);
            }
        }
        // What was learned has had its effect.
        if round < 3 {
            twins.wait();
        }
    }
    twins.wait();
    let mirrored = |bench: &common::beside::Bench| bench.slowpath.status(true).bridges[0].mirrors.clone();
    let (with, alone) = (mirrored(&twins.with), mirrored(&twins.alone));
    assert_eq!(with, alone, "{at}");
    assert!(with[0].1 > 0, "{at}: nothing was mirrored");
    let (_, last) = twins.receive(p1, &packet(1, 2, 17, false), &at);
    match goes {
        Goes::Whole(expect) => {
            assert!(last && by_hardware > 12, "{at}: {by_hardware}\n{}", twins.tier.why(None).unwrap());
            assert_eq!(acts(&twins, p1), *expect, "{at}");
        }
        Goes::Refused(expect) => {
            let why = twins.tier.why(None).unwrap();
            assert!(!last && why.contains(expect), "{at}:\n{why}");
        }
    }
    twins.end(&at);
}

fn to_p4() -> MirrorConfig {
    MirrorConfig { output_port: Some("p4".into()), ..MirrorConfig::default() }
}

const TO_THE_OTHER: &str = "in_port=1,actions=output:2";
fn as_it_is(_: &mut BridgeConfig) {}

#[test]
fn a_mirror_to_a_port_goes_into_hardware_whole() {
    let all = || MirrorConfig { select_all: true, ..to_p4() };
    // One packet in, two out: the copy is of the packet as it came, the packet itself goes on.
    check(all(), as_it_is, TO_THE_OTHER, &Goes::Whole("p4, !p2"));
    check(MirrorConfig { src_ports: vec!["p1".into()], ..to_p4() }, as_it_is, TO_THE_OTHER, &Goes::Whole("p4, !p2"));
    // Of what leaves there: as it leaves, behind it.
    check(MirrorConfig { dst_ports: vec!["p2".into()], ..to_p4() }, as_it_is, TO_THE_OTHER, &Goes::Whole("p2, !p4"));
    // A drop is mirrored, too.
    check(all(), as_it_is, "actions=drop", &Goes::Whole("!p4"));
    // Another mirror's packets are those of its VLAN; this one's are in none.
    let of_vlan = MirrorConfig { select_all: true, vlans: vec![5], ..to_p4() };
    check(of_vlan, as_it_is, TO_THE_OTHER, &Goes::Whole("!p2"));
    let filtered = |filter: &str| MirrorConfig { filter: Some(filter.into()), ..all() };
    check(filtered("udp"), as_it_is, TO_THE_OTHER, &Goes::Whole("p4, !p2"));
    check(filtered("tcp"), as_it_is, TO_THE_OTHER, &Goes::Whole("!p2"));
}

#[test]
fn a_mirror_sees_what_the_rules_make_of_a_packet() {
    // As it came: before the rewriting. As it leaves: behind it.
    let rewrites = "in_port=1,actions=mod_dl_dst:02:00:00:00:00:ab,output:2";
    let set = "Pedit { header: Eth, words: [Word { at: 0, value: 33554432, mask: 4294967295 }, Word { at: 4, value: 11206656, mask: 4294901760 }] }";
    let from = MirrorConfig { src_ports: vec!["p1".into()], ..to_p4() };
    check(from, as_it_is, rewrites, &Goes::Whole(&format!("p4, {set}, !p2")));
    let out = MirrorConfig { dst_ports: vec!["p2".into()], ..to_p4() };
    check(out, as_it_is, rewrites, &Goes::Whole(&format!("{set}, p2, !p4")));
    // A learning switch, whose ports learn while packets pass.
    let all = MirrorConfig { select_all: true, ..to_p4() };
    check(all, as_it_is, "actions=normal", &Goes::Whole("p4, !p2"));
}

/// RSPAN: copies go to all ports of a VLAN of their own.
#[test]
fn a_mirror_to_a_vlan_goes_into_hardware_if_all_its_ports_are_there() {
    let rspan = || MirrorConfig { src_ports: vec!["p1".into()], output_vlan: Some(100), ..MirrorConfig::default() };
    // The bridge's own port carries every VLAN unless it is told otherwise.
    check(rspan(), as_it_is, TO_THE_OTHER, &Goes::Refused("out-port"));
    let members = |bridge: &mut BridgeConfig| {
        for port in bridge.ports.iter_mut().filter(|port| ["br0", "p3"].contains(&port.name.as_str())) {
            (port.vlan_mode, port.tag) = (VlanMode::Access, Some(5));
        }
    };
    let push = "VlanPush { tpid: 33024, vid: 100, pcp: 0 }";
    check(rspan(), members, TO_THE_OTHER, &Goes::Whole(&format!("{push}, p1, p2, p4, VlanPop, !p2")));
    let access = |bridge: &mut BridgeConfig| {
        members(bridge);
        let analyser = bridge.ports.iter_mut().find(|port| port.name == "p4").unwrap();
        (analyser.vlan_mode, analyser.tag) = (VlanMode::Access, Some(100));
    };
    check(rspan(), access, TO_THE_OTHER, &Goes::Whole(&format!("{push}, p1, p2, VlanPop, p4, !p2")));
}

#[test]
fn what_hardware_cannot_mirror_stays_in_software_whole() {
    let all = || MirrorConfig { select_all: true, ..to_p4() };
    check(MirrorConfig { snaplen: Some(64), ..all() }, as_it_is, TO_THE_OTHER, &Goes::Refused("trunc"));
    let to_host = MirrorConfig { output_port: Some("br0".into()), ..all() };
    check(to_host, as_it_is, TO_THE_OTHER, &Goes::Refused("out-port"));
}
