//! Tunnels in hardware: what the software switch with its own encapsulation forwards alone, it forwards with the eSwitch model and its tunnel
//! devices beside it, byte for byte, with the same counters; and what stands and falls with what.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod beside;

use beside::{Sent, Tier};
use datapath::{Options as SwitchOptions, Switch};
use flow::action_text::parse_actions;
use flow::checksum::{checksum, pseudo4, pseudo6};
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::dptext::parse_flow;
use flow::extract_gen::PacketGen;
use flow::forms::NoNames;
use flow::seam::{FlowPut, Placement, PortRequest, PutMode};
use flow::{Datapath, DpPort, Key, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::model::{Model, Options, SameNumbers, Tunnel, Tunnels};
use offload::tc::client::Tc;
use offload::{Ends, PortKind, Reason, Tiered, TunnelKind, Way};
use port::dummy::Control;
use std::net::IpAddr;
use std::sync::Arc;

/// Ports 1 and 2 are VFs' representors, 3 is the uplink, 4 and 5 are the tunnels.
const UPLINK: u32 = 3;
const VXLAN: u16 = 4789;
const GENEVE: u16 = 6081;
const WAY: Way = Way { src_mac: [2, 0, 0, 0, 0, 0xf1], dst_mac: [2, 0, 0, 0, 0, 0xf2] };

fn ends(src: &str, dst: &str) -> Ends {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Ends { src: address(src), dst: address(dst) }
}

fn ways() -> [(Ends, Way); 2] {
    [(ends("10.8.0.1", "10.8.0.2"), WAY), (ends("2001:db8::1", "2001:db8::2"), WAY)]
}

fn capabilities() -> Capabilities {
    let mut can = Capabilities { ct: false, eth_push_pop: false, outer_df_unread: true, ..Capabilities::all() };
    can.ports.extend((1..=3).map(|n| (DpPort(n), PortKind::Switch(1))));
    can.ports.insert(DpPort(4), PortKind::Tunnel(TunnelKind::Vxlan));
    can.ports.insert(DpPort(5), PortKind::Tunnel(TunnelKind::Geneve));
    can.uplinks.insert(DpPort(UPLINK));
    can.mtus.extend([(DpPort(1), 1400), (DpPort(2), 1400), (DpPort(UPLINK), 1500)]);
    can.ways.extend(ways());
    can
}

fn options() -> Options {
    let device = |ifindex, kind, dst_port| Tunnel { ifindex, kind, dst_port, uplink: UPLINK };
    let devices = vec![device(4, TunnelKind::Vxlan, VXLAN), device(5, TunnelKind::Geneve, GENEVE)];
    Options { tunnels: Tunnels { devices, ways: ways().into_iter().collect() }, ..Options::default() }
}

/// A switch with three ports that keep what they send, and two tunnels.
fn switch() -> (Switch, Vec<Control>) {
    let dp = Switch::new("dummy", "ovs-dummy", &SwitchOptions::default()).unwrap();
    let add = |name: &str, kind: &str, number: u32| {
        let wish = PortRequest { name: name.into(), kind: kind.into(), number: Some(DpPort(number)), ..PortRequest::default() };
        assert_eq!(dp.port_add(&wish).unwrap(), DpPort(number));
        DpPort(number)
    };
    let port = |n: u32| {
        let control = dp.with_device(add(&format!("p{n}"), "dummy", n), port::Device::dummy).unwrap().unwrap();
        control.capture();
        control
    };
    let ports = (1..=3).map(port).collect();
    add("vxlan_sys_4789", "vxlan", 4);
    add("genev_sys_6081", "geneve", 5);
    (dp, ports)
}

fn put(dp: &dyn Datapath, ufid: u128, flow: &str, actions: &str) {
    let parsed = parse_flow(&format!("packet_type(ns=0,id=0),{flow}"), &NoNames).unwrap_or_else(|e| panic!("{flow}: {e:?}"));
    let actions = Arc::new(parse_actions(actions, &NoNames).unwrap_or_else(|e| panic!("{actions}: {e:?}")));
    let flow = Megaflow { ufid: Ufid(ufid), key: parsed.key, mask: parsed.mask, actions };
    dp.put(&[FlowPut { flow, mode: PutMode::CreateOrModify, clear_stats: false }])[0].clone().unwrap();
}

/// A frame without what may differ: the outer source port, and the checksum over it, which must be right.
fn plain(mut frame: Vec<u8>) -> Vec<u8> {
    let l4 = match frame[12..14] {
        [8, 0] if frame[23] == 17 => 34,
        [0x86, 0xdd] if frame[20] == 17 => 54,
        _ => return frame,
    };
    let port = u16::from_be_bytes([frame[l4 + 2], frame[l4 + 3]]);
    if port != VXLAN && port != GENEVE {
        return frame;
    }
    if frame[l4 + 6..l4 + 8] != [0; 2] {
        let len = frame.len() - l4;
        let sum = if l4 == 34 {
            pseudo4(frame[26..30].try_into().unwrap(), frame[30..34].try_into().unwrap(), 17, len)
        } else {
            pseudo6(&frame[22..38].try_into().unwrap(), &frame[38..54].try_into().unwrap(), 17, len)
        };
        assert_eq!(sum.plus(&frame[l4..]).finish(), [0; 2], "the outer checksum is wrong: {frame:02x?}");
        frame[l4 + 6..l4 + 8].copy_from_slice(&[0xff; 2]);
    }
    frame[l4..l4 + 2].fill(0);
    frame
}

struct Both {
    tier: Tier,
    ports: Vec<Control>,
    in_hardware: usize,
}

impl Both {
    fn new(options: Options) -> Self {
        let (dp, ports) = switch();
        Self { tier: Tiered::new(dp, Tc::new(Model::new(options), SameNumbers), capabilities()), ports, in_hardware: 0 }
    }

    fn send(&mut self, port: u32, frame: &[u8]) -> Sent {
        let (sent, in_hardware) = beside::send(&self.tier, &self.ports, (port, frame), plain);
        self.in_hardware += usize::from(in_hardware);
        sent
    }

    fn rules(&self) -> usize {
        self.tier.hardware().link().rules()
    }

    fn why(&self, ufid: u128) -> Option<Reason> {
        self.tier.reason(Ufid(ufid)).map(|why| why.reason)
    }
}

/// A header as translation builds it. `tos` has the ECN bits, `end` is the last digit of the other end's address.
fn push(kind: &str, end: u8, tos: u8, csum: &str) -> String {
    let (v6, geneve) = (kind.ends_with('6'), kind.starts_with("geneve"));
    let ip = if v6 {
        format!("ipv6(src=2001:db8::1,dst=2001:db8::{end},label=0,proto=17,tclass={tos:#x},hlimit=64)")
    } else {
        format!("ipv4(src=10.8.0.1,dst=10.8.0.{end},proto=17,tos={tos:#x},ttl=64,frag=0x4000)")
    };
    let (number, port, rest, bytes) = if geneve {
        (5, GENEVE, "geneve(vni=0x2a,options({class=0x102,type=0x2,len=4,0x800022}))", 24)
    } else {
        (4, VXLAN, "vxlan(flags=0x8000000,vni=0x2a)", 16)
    };
    let (ty, size) = if v6 { ("0x86dd", 54 + bytes) } else { ("0x0800", 34 + bytes) };
    format!(
        "tnl_push(tnl_port({number}),header(size={size},type={number},eth(dst=02:00:00:00:00:f2,src=02:00:00:00:00:f1,dl_type={ty}),\
         {ip},udp(src=0,dst={port},csum={csum}),{rest}),out_port({UPLINK})),{UPLINK}"
    )
}

/// A packet as a host behind port 1 sends it.
fn inner(v6: bool, to: u8, ecn: u8, tagged: bool, len: usize) -> Vec<u8> {
    let mut key = Key { eth_dst: [2, 0, 0, 0, 0, to], eth_src: [2, 0, 0, 0, 0, 9], nw_proto: 17, nw_ttl: 64, ..Key::ZERO };
    key.eth_type = if v6 { [0x86, 0xdd] } else { [8, 0] };
    (key.nw_src, key.nw_dst, key.nw_tos) = ([10, 9, 0, 1], [10, 9, 0, 2], ecn);
    (key.ipv6_src[15], key.ipv6_dst[15], key.tp_src, key.tp_dst) = (1, 2, [4, 0], [0, 53]);
    if tagged {
        (key.vlan_tci, key.vlan_tpid) = ([0x10, 5], [0x81, 0]);
    }
    compose(&key, Payload::Len(len))
}

/// A packet as the other end sends it. `kind` as in `push`.
fn outer(kind: &str, vni: u8, end: u8, tos: u8, df: bool, packet: &[u8]) -> Vec<u8> {
    let (v6, geneve) = (kind.ends_with('6'), kind.starts_with("geneve"));
    let mut l4 = vec![0xc0, 1];
    l4.extend_from_slice(&if geneve { GENEVE } else { VXLAN }.to_be_bytes());
    let header: &[u8] =
        if geneve { &[2, 0, 0x65, 0x58, 0, 0, vni, 0, 1, 2, 2, 1, 0, 0x80, 0, 0x22] } else { &[8, 0, 0, 0, 0, 0, vni, 0] };
    let len = u16::try_from(8 + header.len() + packet.len()).unwrap();
    l4.extend_from_slice(&len.to_be_bytes());
    l4.extend_from_slice(&[0; 2]);
    l4.extend_from_slice(header);
    l4.extend_from_slice(packet);
    let mut out = [WAY.src_mac, WAY.dst_mac].concat();
    if v6 {
        out.extend_from_slice(&[0x86, 0xdd, 0x60 | tos >> 4, tos << 4, 0, 0]);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&[17, 61]);
        let address = |n: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n];
        out.extend_from_slice(&address(end));
        out.extend_from_slice(&address(1));
    } else {
        let [high, low] = (len + 20).to_be_bytes();
        let mut ip = [0x45, tos, high, low, 0, 7, if df { 0x40 } else { 0 }, 0, 61, 17, 0, 0, 10, 8, 0, end, 10, 8, 0, 1];
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        out.extend_from_slice(&[8, 0]);
        out.extend_from_slice(&ip);
    }
    out.extend_from_slice(&l4);
    out
}

const IN_BY_VXLAN: &str =
    "recirc_id(0),in_port(3),eth(dst=02:00:00:00:00:f1),eth_type(0x0800),ipv4(dst=10.8.0.1,proto=17,frag=no),udp(dst=4789)";
const OUT_OF_VXLAN: &str = "tunnel(tun_id=0x2a,src=10.8.0.2,dst=10.8.0.1,tos=0x0,tp_dst=4789,flags(-df-csum+key)),recirc_id(0),in_port(4),\
                            eth(dst=02:00:00:00:00:01),eth_type(0x0800),ipv4(frag=no)";
const TO_TUNNEL: &str = "recirc_id(0),in_port(1),eth(dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(tos=0/0x3,frag=no)";

#[test]
fn a_tunnel_is_in_hardware_both_ways() {
    let mut both = Both::new(options());
    put(&both.tier, 1, TO_TUNNEL, &push("vxlan", 2, 0, "0x0"));
    put(&both.tier, 2, IN_BY_VXLAN, "tnl_pop(4)");
    put(&both.tier, 3, OUT_OF_VXLAN, "1");
    assert_eq!((both.why(1), both.why(2), both.why(3)), (None, Some(Reason::TunnelPort), None), "{}", both.tier.show());
    let frame = inner(false, 2, 0, false, 30);
    let out = both.send(1, &frame);
    assert_eq!((out.len(), out[0].0, out[0].1.len()), (1, UPLINK, frame.len() + 50));
    assert_eq!(out[0].1[50..], frame);
    let frame = inner(false, 1, 0, false, 30);
    for df in [true, false] {
        assert_eq!(both.send(UPLINK, &outer("vxlan", 0x2a, 2, 0, df, &frame)), [(1, frame.clone())]);
    }
    assert_eq!(both.in_hardware, 3);
    // What came out of the tunnel counts for the megaflow that lets it in, too, which says so.
    let counted = |ufid| both.tier.get(Ufid(ufid)).map(|d| (d.stats.packets, d.stats.bytes)).unwrap();
    let bytes = frame.len() as u64;
    assert_eq!((counted(1), counted(2), counted(3)), ((1, bytes), (2, 2 * (bytes + 50)), (2, 2 * bytes)));
    let placed = both.tier.get(Ufid(2)).unwrap().placement;
    assert_eq!(placed, Placement::Declined("tunnel-port(tnl_pop)+tunnelled(1)".to_owned()));
    assert_eq!(both.tier.audit().unwrap().0, 0);
    // Another key, or another end: not this rule's.
    assert_eq!(both.send(UPLINK, &outer("vxlan", 0x2b, 2, 0, true, &frame)), []);
    assert_eq!(both.send(UPLINK, &outer("vxlan", 0x2a, 3, 0, true, &frame)), []);
    assert_eq!(both.in_hardware, 3);
}

#[test]
fn a_rule_behind_a_tunnel_stands_and_falls_with_its_entry() {
    let mut both = Both::new(options());
    let frame = inner(false, 1, 0, false, 30);
    let arrives = |both: &mut Both| both.send(UPLINK, &outer("vxlan", 0x2a, 2, 0, true, &frame));
    put(&both.tier, 3, OUT_OF_VXLAN, "1");
    assert_eq!((both.why(3), both.rules()), (Some(Reason::TunnelEntry), 0), "nothing leads into the tunnel");
    put(&both.tier, 2, IN_BY_VXLAN, "tnl_pop(4)");
    both.tier.tick(now_ms());
    assert_eq!((both.why(3), both.rules()), (None, 1));
    put(&both.tier, 2, IN_BY_VXLAN, "drop");
    assert_eq!((both.why(3), both.rules()), (Some(Reason::TunnelEntry), 1), "the drop is in hardware, and nothing else, at once");
    assert_eq!(arrives(&mut both), []);
    put(&both.tier, 2, IN_BY_VXLAN, "tnl_pop(4)");
    both.tier.tick(now_ms());
    assert_eq!(arrives(&mut both), [(1, frame.clone())]);
    both.tier.del(&[Ufid(2)])[0].clone().unwrap();
    assert_eq!((both.why(3), both.rules()), (Some(Reason::TunnelEntry), 0));
    // Entries that look at more than the rule can say, or at something else, are none for it.
    for (entry, opens) in [
        (IN_BY_VXLAN.replace("proto=17", "src=10.8.0.2,proto=17,ttl=61"), false),
        (IN_BY_VXLAN.replace("ipv4(", "ipv4(src=10.8.0.9,"), false),
        (IN_BY_VXLAN.replace("in_port(3)", "in_port(2)"), false),
        (IN_BY_VXLAN.replace("4789", "8472"), false),
        (IN_BY_VXLAN.replace("ipv4(", "ipv4(src=10.8.0.2,tos=0,"), true),
    ] {
        put(&both.tier, 2, &entry, "tnl_pop(4)");
        both.tier.tick(now_ms());
        assert_eq!(both.why(3), (!opens).then_some(Reason::TunnelEntry), "{entry}");
    }
    both.tier.port_del(DpPort(UPLINK)).unwrap();
    assert_eq!((both.why(3), both.rules()), (Some(Reason::TunnelEntry), 0), "the uplink went");
}

#[test]
fn what_is_encapsulated_stands_and_falls_with_the_way_of_the_kernel() {
    let both = Both::new(options());
    put(&both.tier, 1, TO_TUNNEL, &push("vxlan", 3, 0, "0x0"));
    assert_eq!(both.why(1), Some(Reason::TunnelWay));
    let wanted = ends("10.8.0.1", "10.8.0.3");
    assert_eq!(both.tier.tunnel_ends(), [wanted]);
    let mut can = capabilities();
    can.ways.insert(wanted, Way { dst_mac: [2, 0, 0, 0, 0, 0xee], ..WAY });
    both.tier.set_capabilities(can.clone(), now_ms());
    both.tier.tick(now_ms());
    assert_eq!(both.why(1), Some(Reason::TunnelWay), "the kernel sends to another neighbour");
    can.ways.insert(wanted, WAY);
    both.tier.set_capabilities(can.clone(), now_ms());
    both.tier.tick(now_ms());
    assert_eq!((both.why(1), both.rules()), (None, 1));
    can.mtus.insert(DpPort(1), 1451);
    both.tier.set_capabilities(can.clone(), now_ms());
    assert_eq!((both.why(1), both.rules()), (Some(Reason::TunnelMtu), 0), "the VF's packets have become longer");
    can.mtus.insert(DpPort(1), 1450);
    both.tier.set_capabilities(can.clone(), now_ms());
    both.tier.tick(now_ms());
    assert_eq!((both.why(1), both.rules()), (None, 1));
    can.ways.remove(&wanted);
    both.tier.set_capabilities(can, now_ms());
    assert_eq!((both.why(1), both.rules()), (Some(Reason::TunnelWay), 0));
    both.tier.del(&[Ufid(1)])[0].clone().unwrap();
    assert_eq!(both.tier.tunnel_ends(), []);
}

/// Megaflows that do not overlap: to tunnels, into them, out of them. With each the actions that it may have.
fn candidates() -> Vec<(String, Vec<String>)> {
    let mut out = Vec::new();
    for (to, ecn, v6) in (2..5u8).flat_map(|to| (0..4u8).flat_map(move |ecn| [(to, ecn, false), (to, ecn, true)])) {
        let ip = if v6 { "eth_type(0x86dd),ipv6(tclass" } else { "eth_type(0x0800),ipv4(tos" };
        let flow = format!("recirc_id(0),in_port(1),eth(dst=02:00:00:00:00:{to:02x}),{ip}={ecn}/0x3,frag=no)");
        let tos = if ecn == 3 { 2 } else { ecn };
        let vxlan = push("vxlan", 2, tos, "0x0");
        let actions = vec![
            format!("clone({vxlan}),2"),
            format!("set(eth(src=02:00:00:00:00:0b)),{vxlan}"),
            format!("push_vlan(vid=5,pcp=0),{vxlan}"),
            format!("2,{}", push("vxlan6", 2, tos, "0xffff")),
            push("vxlan6", 2, tos, "0x0"),
            push("vxlan", 2, tos | 0x28, "0xffff"),
            push("geneve", 2, tos, "0x0"),
            push("geneve6", 2, tos, "0x0"),
            format!("clone({}),{vxlan}", push("geneve", 2, tos, "0x0")),
            push("vxlan", 9, tos, "0x0"),
            "2".to_owned(),
            vxlan,
        ];
        out.push((flow, actions));
    }
    for (tunnel, ip) in [
        ("4789", "eth_type(0x0800),ipv4(dst=10.8.0.1,"),
        ("4789", "eth_type(0x86dd),ipv6(dst=2001:db8::1,"),
        ("6081", "eth_type(0x0800),ipv4(dst=10.8.0.1,"),
    ] {
        let port = if tunnel == "4789" { 4 } else { 5 };
        let flow = format!("recirc_id(0),in_port(3),eth(dst=02:00:00:00:00:f1),{ip}proto=17,frag=no),udp(dst={tunnel})");
        out.push((flow, vec![format!("tnl_pop({port})"), format!("tnl_pop({port})"), "drop".to_owned(), "2".to_owned()]));
    }
    for (port, udp, src, dst, more) in [
        (4, VXLAN, "src=10.8.0.2", "dst=10.8.0.1", ""),
        (4, VXLAN, "ipv6_src=2001:db8::2", "ipv6_dst=2001:db8::1", ""),
        (5, GENEVE, "src=10.8.0.2", "dst=10.8.0.1", "geneve({class=0x102,type=0x2,len=4,0x22/0xff}),"),
    ] {
        for (vni, tos, to) in
            (0x2a..0x2cu8).flat_map(|vni| [0u8, 1, 3].into_iter().flat_map(move |t| [(vni, t, 1u8), (vni, t, 2)]))
        {
            let flow = format!(
                "tunnel(tun_id={vni:#x},{src},{dst},tos={tos:#x},tp_dst={udp},{more}flags(-df-csum+key)),recirc_id(0),in_port({port}),\
                 eth(dst=02:00:00:00:00:{to:02x}),eth_type(0x0800),ipv4(frag=no)"
            );
            let actions = ["1", "2", "1,2", "drop", "set(eth(src=02:00:00:00:00:0c)),1", "push_vlan(vid=7,pcp=1),2,pop_vlan,1"];
            out.push((flow, actions.map(ToOwned::to_owned).to_vec()));
        }
    }
    out
}

fn packet(random: &mut PacketGen) -> (u32, Vec<u8>) {
    let below = |random: &mut PacketGen, n: usize| u8::try_from(random.below(n)).unwrap();
    let (v6, tagged, len) = (random.below(3) == 0, random.below(10) == 0, random.below(90));
    if random.below(2) == 0 {
        let (to, ecn) = (2 + below(random, 3), below(random, 4));
        return (1, inner(v6, to, ecn, tagged, len));
    }
    let (to, ecn) = (1 + below(random, 2), below(random, 4));
    let kind = ["vxlan", "vxlan", "vxlan6", "geneve"][random.below(4)];
    let (vni, end, tos) = (0x2a + below(random, 2), [2, 2, 2, 9][random.below(4)], [0, 0, 1, 3][random.below(4)]);
    let frame = inner(v6 && tagged, to, ecn, tagged, len);
    (UPLINK, outer(kind, vni, end, tos, random.below(2) == 0, &frame))
}

/// What befalls hardware while packets pass.
fn happen(tier: &Tier, event: usize, step: usize, random: &mut PacketGen) {
    let now = now_ms() + 700 * i64::try_from(step).unwrap();
    match event {
        0..4 => tier.tick(now),
        4 => {
            tier.dump(&mut |_| true);
            tier.hardware().link().lose(random.below(1_000));
        }
        5 => {
            tier.set_enabled(false);
            assert_eq!(tier.hardware().link().rules(), 0, "step {step}");
            tier.set_enabled(true);
        }
        6 => {
            let mut can = capabilities();
            can.ways.clear();
            tier.set_capabilities(can, now);
        }
        7 => {
            let mut can = capabilities();
            can.uplinks.clear();
            tier.set_capabilities(can, now);
        }
        _ => tier.set_capabilities(capabilities(), now),
    }
}

#[test]
fn with_and_without_hardware_the_same_while_all_that_can_happen_happens() {
    let packets = std::env::var("FERRULE_PROPERTY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000) / 4;
    for (seed, options) in [
        (1, options()),
        (2, Options { capacity: 12, refuse: (0..100_000).filter(|n| n % 9 == 4).collect(), ..options() }),
        (3, Options { not_in_hw: (0..100_000).filter(|n| n % 7 == 2).collect(), ..options() }),
    ] {
        let mut both = Both::new(options);
        let (alone, ports) = switch();
        let (mut random, candidates) = (PacketGen::new(seed), candidates());
        let mut there: Vec<usize> = Vec::new();
        for n in 0..packets {
            match random.below(20) {
                0..6 => {
                    let at = random.below(candidates.len());
                    let (flow, actions) = &candidates[at];
                    let actions = &actions[random.below(actions.len())];
                    put(&both.tier, at as u128 + 1, flow, actions);
                    put(&alone, at as u128 + 1, flow, actions);
                    there.retain(|n| *n != at);
                    there.push(at);
                }
                6 if !there.is_empty() => {
                    let ufid = Ufid(there.swap_remove(random.below(there.len())) as u128 + 1);
                    let (a, b) = (both.tier.del(&[ufid])[0].clone().unwrap(), alone.del(&[ufid])[0].clone().unwrap());
                    assert_eq!((a.packets, a.bytes), (b.packets, b.bytes), "seed {seed}, step {n}: a deleted megaflow's");
                }
                7 => {
                    let event = random.below(12);
                    happen(&both.tier, event, n, &mut random);
                }
                _ => {}
            }
            let (port, frame) = packet(&mut random);
            let got = both.send(port, &frame);
            alone.inject(DpPort(port), 0, &frame).unwrap();
            assert_eq!(
                got,
                beside::sent(&ports, plain),
                "seed {seed}, step {n}: port {port}, {frame:02x?}\n{}",
                both.tier.show()
            );
        }
        assert!(both.in_hardware > packets / 20, "seed {seed}: hardware forwarded {} of {packets}", both.in_hardware);
        both.tier.dump(&mut |_| true);
        for at in there {
            let of = |dp: &dyn Datapath| dp.get(Ufid(at as u128 + 1)).map(|d| (d.stats.packets, d.stats.bytes)).unwrap();
            assert_eq!(of(&both.tier), of(&alone), "seed {seed}: counters of {}", candidates[at].0);
        }
    }
}
