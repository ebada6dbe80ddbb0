//! Connections in hardware: what the software switch with its tracker forwards alone, it forwards with the eSwitch model beside it, byte for
//! byte, with the same counters, while connections begin, change, close and expire, and megaflows come and go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod beside;

use beside::{Sent, Tier};
use datapath::{Options as SwitchOptions, Switch};
use flow::action_text::parse_actions;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::conntrack::{CT_STAGES, CtFilter, CtStage};
use flow::dptext::parse_flow;
use flow::extract_gen::PacketGen;
use flow::forms::NoNames;
use flow::seam::{FlowPut, Placement, PortRequest, PutMode};
use flow::{Datapath, DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::model::{Model, Options, SameNumbers};
use offload::tc::client::Tc;
use offload::{PortKind, Tiered};
use port::dummy::Control;
use std::sync::Arc;

/// Port 1 may begin, port 2 may only answer; what is refused goes to port 3.
const FIREWALL: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)", "ct(zone=7),recirc(0x1)"),
    ("recirc_id(0x1),in_port(1),ct_state(+new+trk),eth_type(0x0800),ipv4(frag=no)", "ct(commit,zone=7),2"),
    ("recirc_id(0x1),in_port(1),ct_state(+est+trk),eth_type(0x0800),ipv4(frag=no)", "2"),
    ("recirc_id(0),in_port(2),eth_type(0x0800),ipv4(frag=no)", "ct(zone=7),recirc(0x2)"),
    ("recirc_id(0x2),in_port(2),ct_state(+est+rpl+trk),eth_type(0x0800),ipv4(frag=no)", "1"),
    ("recirc_id(0x2),in_port(2),ct_state(-est+trk),eth_type(0x0800),ipv4(frag=no)", "3"),
];

/// The source is translated; answers find back, with another MAC address.
const NAT: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)", "ct(zone=7,nat),recirc(0x1)"),
    ("recirc_id(0x1),in_port(1),ct_state(+new+trk),eth_type(0x0800),ipv4(frag=no)", "ct(commit,zone=7,nat(src=1.1.1.1)),2"),
    ("recirc_id(0x1),in_port(1),ct_state(+est+trk+snat),eth_type(0x0800),ipv4(src=1.1.1.1,frag=no)", "2"),
    ("recirc_id(0),in_port(2),eth_type(0x0800),ipv4(frag=no)", "ct(zone=7,nat),recirc(0x2)"),
    (
        "recirc_id(0x2),in_port(2),ct_state(+est+rpl+trk),eth_type(0x0800),ipv4(dst=10.0.0.0/255.255.255.0,frag=no)",
        "set(eth(dst=02:00:00:00:00:01)),1",
    ),
    ("recirc_id(0x2),in_port(2),ct_state(-est+trk),eth_type(0x0800),ipv4(frag=no)", "3"),
];

fn request(name: &str) -> PortRequest {
    PortRequest { name: name.to_owned(), kind: "dummy".to_owned(), ..PortRequest::default() }
}

fn megaflow(ufid: u128, flow: &str, actions: &str) -> Megaflow {
    let parsed = parse_flow(&format!("packet_type(ns=0,id=0),{flow}"), &NoNames).unwrap();
    Megaflow {
        ufid: Ufid(ufid),
        key: parsed.key,
        mask: parsed.mask,
        actions: Arc::new(parse_actions(actions, &NoNames).unwrap()),
    }
}

fn put(dp: &dyn Datapath, ufid: u128, flow: &str, actions: &str) {
    let put = FlowPut { flow: megaflow(ufid, flow, actions), mode: PutMode::CreateOrModify, clear_stats: false };
    dp.put(&[put])[0].clone().unwrap();
}

/// A switch with three ports that keep what they send, and its megaflows.
fn switch() -> (Switch, Vec<Control>) {
    let dp = Switch::new("dummy", "ovs-dummy", &SwitchOptions::default()).unwrap();
    let port = |n: u32| {
        let number = dp.port_add(&request(&format!("p{n}"))).unwrap();
        assert_eq!(number, DpPort(n));
        let control = dp.with_device(number, port::Device::dummy).unwrap().unwrap();
        control.capture();
        control
    };
    let ports = (1..=3).map(port).collect();
    (dp, ports)
}

/// The switch with the model beside it, and how many packets the model forwarded.
struct Both {
    tier: Tier,
    ports: Vec<Control>,
    in_hardware: usize,
}

impl Both {
    fn new(flows: &[(&str, &str)], options: Options) -> Self {
        let (dp, ports) = switch();
        let mut can = Capabilities { ct: false, eth_push_pop: false, ..Capabilities::all() };
        can.ports.extend((1..=3).map(|n| (DpPort(n), PortKind::Switch(1))));
        let tier = Tiered::new(dp, Tc::new(Model::new(options), SameNumbers), can);
        flows.iter().zip(1..).for_each(|((flow, actions), n)| put(&tier, n, flow, actions));
        Self { tier, ports, in_hardware: 0 }
    }

    fn send(&mut self, port: u32, frame: &[u8]) -> Sent {
        let (sent, in_hardware) = beside::send(&self.tier, &self.ports, (port, frame), |frame| frame);
        self.in_hardware += usize::from(in_hardware);
        sent
    }

    fn rules(&self) -> usize {
        self.tier.hardware().link().rules()
    }

    fn packets(&self, ufid: u128) -> u64 {
        self.tier.get(Ufid(ufid)).unwrap().stats.packets
    }
}

/// A UDP packet from one of few clients (port 1) or back to it (port 2).
fn udp(client: u8, back: bool, nat: bool, len: usize) -> Vec<u8> {
    frame(17, client, back, nat, "", len)
}

fn frame(proto: u8, client: u8, back: bool, nat: bool, flags: &str, len: usize) -> Vec<u8> {
    let own = if nat && back { "1.1.1.1".to_owned() } else { format!("10.0.0.{client}") };
    let port = 1_000 + u32::from(client);
    let l4 = if proto == 6 { "tcp" } else { "udp" };
    let (src, dst, sport, dport) =
        if back { ("10.9.9.9", own.as_str(), 2_000, port) } else { (own.as_str(), "10.9.9.9", port, 2_000) };
    let flags = if flags.is_empty() { String::new() } else { format!(",tcp_flags({flags})") };
    let text = format!(
        "eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src={src},dst={dst},proto={proto},tos=0,ttl=64,frag=no),{l4}(src={sport},dst={dport}){flags}"
    );
    let parsed = parse_flow(&text, &NoNames).unwrap();
    compose(&parsed.key, Payload::FrameLen(len))
}

/// TCP needs numbers that fit: they are written into the header, and the checksum made anew.
fn tcp(client: u8, back: bool, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut bytes = frame(6, client, back, false, "ack", 54);
    bytes[38..42].copy_from_slice(&seq.to_be_bytes());
    bytes[42..46].copy_from_slice(&ack.to_be_bytes());
    (bytes[46], bytes[47]) = (0x50, flags);
    bytes[48..50].copy_from_slice(&8_192u16.to_be_bytes());
    bytes[50..52].fill(0);
    let (src, dst) = (bytes[26..30].try_into().unwrap(), bytes[30..34].try_into().unwrap());
    let sum = flow::checksum::pseudo4(src, dst, 6, bytes.len() - 34).plus(&bytes[34..]).finish();
    bytes[50..52].copy_from_slice(&sum);
    bytes
}

#[test]
fn an_established_connection_passes_by_hardware_and_counts_for_every_megaflow_of_its_way() {
    let mut both = Both::new(FIREWALL, Options::default());
    assert_eq!(both.send(1, &udp(1, false, false, 80))[0].0, 2);
    assert_eq!(both.send(2, &udp(1, true, false, 80))[0].0, 1);
    assert_eq!(both.rules(), 0, "it was established just now");
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 2, "one for each direction\n{}", both.tier.show());
    let before: Vec<u64> = (1..=6).map(|n| both.packets(n)).collect();
    for _ in 0..5 {
        assert_eq!(both.send(1, &udp(1, false, false, 80)), [(2, udp(1, false, false, 80))]);
    }
    assert_eq!(both.send(2, &udp(1, true, false, 60)), [(1, udp(1, true, false, 60))]);
    assert_eq!(both.in_hardware, 6);
    let more: Vec<u64> = (1..=6).zip(before).map(|(n, old)| both.packets(n) - old).collect();
    assert_eq!(more, [5, 0, 5, 1, 1, 0]);
    assert_eq!(both.send(2, &udp(2, true, false, 80))[0].0, 3, "another client's is not answered");
    let placed = both.tier.get(Ufid(3)).unwrap().placement;
    assert_eq!(placed, Placement::Declined("parent(recirc)+connections(1)".to_owned()));
    assert!(both.tier.show().contains("connections: 1 established, 2 rules, 0 more"), "{}", both.tier.show());
    assert_eq!(both.tier.audit().unwrap().0, 0);
}

#[test]
fn rules_go_with_the_connection_and_with_each_megaflow_of_the_way() {
    let mut both = Both::new(FIREWALL, Options::default());
    let establish = |both: &mut Both| {
        both.send(1, &udp(1, false, false, 80));
        both.send(2, &udp(1, true, false, 80));
        both.tier.follow(now_ms());
        assert_eq!(both.rules(), 2);
    };
    establish(&mut both);
    assert_eq!(both.tier.conntrack().unwrap().flush(&CtFilter::default()), Ok(1));
    assert_eq!(both.rules(), 0, "at once");
    assert_eq!(both.send(2, &udp(1, true, false, 80))[0].0, 3);
    establish(&mut both);
    // A changed megaflow takes its connections' rules out before the put returns; they come back with its new actions.
    put(&both.tier, 3, FIREWALL[2].0, "3");
    assert_eq!(both.rules(), 1);
    assert_eq!(both.send(1, &udp(1, false, false, 80))[0].0, 3);
    both.tier.follow(now_ms());
    assert_eq!((both.rules(), both.send(1, &udp(1, false, false, 80))[0].0), (2, 3));
    both.tier.del(&[Ufid(1)])[0].clone().unwrap();
    assert_eq!(both.rules(), 1);
    Datapath::flush(&both.tier);
    assert_eq!(both.rules(), 0);
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 0);
}

#[test]
fn a_mark_that_changes_takes_the_rules_out() {
    let flows = [
        ("recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)", "ct(commit,zone=7),2"),
        ("recirc_id(0),in_port(2),eth_type(0x0800),ipv4(frag=no)", "ct(zone=7),recirc(0x2)"),
        ("recirc_id(0x2),in_port(2),ct_mark(0),eth_type(0x0800),ipv4(frag=no)", "1"),
        ("recirc_id(0x2),in_port(2),ct_mark(0x9),eth_type(0x0800),ipv4(frag=no)", "3"),
        ("recirc_id(0),in_port(3),eth_type(0x0800),ipv4(frag=no)", "ct(commit,zone=7,mark=0x9/0xff),2"),
    ];
    let mut both = Both::new(&flows, Options::default());
    both.send(1, &udp(1, false, false, 80));
    both.send(2, &udp(1, true, false, 80));
    both.tier.follow(now_ms());
    assert_eq!(both.send(2, &udp(1, true, false, 80))[0].0, 1);
    let in_hardware = both.in_hardware;
    assert_eq!(in_hardware, 1);
    // What would set the mark is not composed: the packet goes by software and sets it.
    both.send(3, &udp(1, false, false, 80));
    both.tier.follow(now_ms());
    assert_eq!(both.send(2, &udp(1, true, false, 80))[0].0, 3);
    assert_eq!(both.in_hardware, in_hardware + 1, "with the mark that it has now, it is in hardware");
}

#[test]
fn tcp_opens_and_closes_in_software_and_windows_are_not_looked_at_meanwhile() {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const FIN: u8 = 1;
    let mut both = Both::new(FIREWALL, Options::default());
    both.send(1, &tcp(1, false, SYN, 100, 0));
    both.send(2, &tcp(1, true, SYN | ACK, 500, 101));
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 0, "not before the handshake is over");
    both.send(1, &tcp(1, false, ACK, 101, 501));
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 2);
    // Far beyond what software has seen: hardware forwards it, and software agrees afterwards.
    assert_eq!(both.send(1, &tcp(1, false, ACK, 40_000_000, 501))[0].0, 2);
    assert_eq!(both.in_hardware, 1);
    let mut lines = Vec::new();
    both.tier.conntrack().unwrap().dump(None, &mut |e| {
        lines.push(e.text(true, false));
        true
    });
    assert!(lines[0].contains("BE_LIBERAL"), "{lines:?}");
    assert_eq!(both.send(1, &tcp(1, false, FIN | ACK, 40_000_000, 501)), [(2, tcp(1, false, FIN | ACK, 40_000_000, 501))]);
    assert_eq!(both.in_hardware, 1, "FIN goes by software");
    both.send(2, &tcp(1, true, FIN | ACK, 501, 40_000_001));
    both.send(1, &tcp(1, false, ACK, 40_000_001, 502));
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 0);
}

#[test]
fn what_hardware_sees_keeps_a_connection_alive_and_one_that_is_idle_leaves_it_first() {
    let mut both = Both::new(FIREWALL, Options::default());
    both.tier.set_lag(100);
    let mut seconds = [None; CT_STAGES.len()];
    seconds[CtStage::UdpMultiple as usize] = Some(6);
    let tracker = |both: &Both, used| {
        let mut all = Vec::new();
        let tracker = both.tier.conntrack().unwrap();
        tracker.dump(None, &mut |e| {
            all.push(e.orig);
            true
        });
        tracker.lifetime(7, &all[0], used).unwrap()
    };
    both.tier.conntrack().unwrap().set_timeouts(0, &seconds).unwrap();
    both.send(1, &udp(1, false, false, 80));
    both.send(2, &udp(1, true, false, 80));
    let began = now_ms();
    both.tier.follow(began);
    assert_eq!(both.rules(), 2);
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    assert!(tracker(&both, false) < 5_000);
    both.send(1, &udp(1, false, false, 80));
    both.tier.tick(now_ms());
    assert!(tracker(&both, false) > 5_500, "its packet was seen in hardware");
    // Later by the tier's clock: about to expire, as nobody used it.
    seconds[CtStage::UdpMultiple as usize] = Some(1);
    both.tier.conntrack().unwrap().set_timeouts(0, &seconds).unwrap();
    tracker(&both, true);
    both.tier.tick(now_ms() + 5_500);
    assert_eq!(both.rules(), 0, "{}", both.tier.show());
    seconds[CtStage::UdpMultiple as usize] = Some(6);
    both.tier.conntrack().unwrap().set_timeouts(0, &seconds).unwrap();
    both.send(1, &udp(1, false, false, 80));
    both.tier.tick(now_ms() + 6_100);
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 2, "it is in use again");
}

/// One connection has the table; another comes that is as busy, or much busier.
fn compete(rebalance: bool, busy: usize) -> [usize; 2] {
    let mut both = Both::new(FIREWALL, Options { capacity: 2, ..Options::default() });
    both.tier.set_rebalance(rebalance);
    for client in [1, 2] {
        both.send(1, &udp(client, false, false, 80));
        both.send(2, &udp(client, true, false, 80));
        both.tier.follow(now_ms());
    }
    assert!(both.tier.show().contains("2 rules, 2 more"), "{}", both.tier.show());
    let began = now_ms();
    let mut passed = [0, 0];
    for second in 1..=20 {
        for (client, packets) in [(1, 30), (2, busy)] {
            both.in_hardware = 0;
            for _ in 0..packets {
                assert_eq!(both.send(1, &udp(client, false, false, 80)), [(2, udp(client, false, false, 80))]);
                assert_eq!(both.send(2, &udp(client, true, false, 80)), [(1, udp(client, true, false, 80))]);
            }
            passed[usize::from(client) - 1] += both.in_hardware;
        }
        both.tier.tick(began + second * 1_000);
    }
    let all = 20 * (30 + busy) as u64;
    assert_eq!((both.packets(1), both.packets(4)), (all + 2, all + 2), "whoever forwarded them");
    assert_eq!(both.tier.audit().unwrap().0, 0);
    passed
}

#[test]
fn a_busier_connection_takes_the_place_of_another_in_a_full_table_and_an_equal_does_not() {
    let [first, second] = compete(true, 100);
    assert!(second > 1_000 && first < 1_000, "{first} {second}");
    assert_eq!(compete(true, 35), [1_200, 0]);
    assert_eq!(compete(false, 100), [1_200, 0]);
}

#[test]
fn switched_off_nothing_is_left_and_switched_on_what_there_is_comes_back() {
    let mut both = Both::new(NAT, Options::default());
    both.send(1, &udp(1, false, true, 80));
    both.send(2, &udp(1, true, true, 80));
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 2);
    both.tier.set_enabled(false);
    assert_eq!(both.rules(), 0);
    both.tier.set_enabled(true);
    both.tier.follow(now_ms());
    assert_eq!(both.rules(), 2, "{}", both.tier.show());
    both.tier.port_del(DpPort(3)).unwrap();
    both.tier.port_del(DpPort(2)).unwrap();
    assert_eq!(both.rules(), 1, "answers came by port 2");
}

fn cases() -> usize {
    let cases = std::env::var("FERRULE_PROPERTY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    // Each goes through two switches with their threads.
    cases / 10
}

/// The same packets, with hardware and without it, while things happen.
fn equal(seed: u64, flows: &[(&str, &str)], nat: bool, options: Options) {
    let mut both = Both::new(flows, options);
    let (alone, ports) = switch();
    flows.iter().zip(1..).for_each(|((flow, actions), n)| put(&alone, n, flow, actions));
    let mut random = PacketGen::new(seed);
    for step in 0..cases() {
        match random.below(60) {
            0..8 => both.tier.follow(now_ms()),
            8 => both.tier.tick(now_ms() + 700),
            9 => {
                let filter = CtFilter::default();
                assert_eq!(both.tier.conntrack().unwrap().flush(&filter), alone.conntrack().unwrap().flush(&filter));
            }
            10 => {
                let n = random.below(flows.len());
                let actions = if random.below(2) == 0 { flows[n].1 } else { "3" };
                let ufid = n as u128 + 1;
                put(&both.tier, ufid, flows[n].0, actions);
                put(&alone, ufid, flows[n].0, actions);
            }
            11 => {
                (0..2).for_each(|_| Datapath::dump(&both.tier, &mut |_| true));
                both.tier.hardware().link().lose(random.below(100));
            }
            12 => {
                both.tier.set_enabled(false);
                assert_eq!(both.rules(), 0);
                both.tier.set_enabled(true);
            }
            _ => {}
        }
        let (client, back) = (u8::try_from(random.below(6)).unwrap() + 1, random.below(2) == 0);
        let frame = udp(client, back, nat, 60 + random.below(100));
        let port = if back { 2 } else { 1 };
        alone.inject(DpPort(port), 0, &frame).unwrap();
        assert_eq!(both.send(port, &frame), beside::sent(&ports, |frame| frame), "seed {seed}, step {step}: {frame:02x?}");
    }
    (0..2).for_each(|_| Datapath::dump(&both.tier, &mut |_| true));
    for n in 1..=flows.len() as u128 {
        let (a, b) = (both.tier.get(Ufid(n)).unwrap().stats, alone.get(Ufid(n)).unwrap().stats);
        assert_eq!((a.packets, a.bytes), (b.packets, b.bytes), "seed {seed}: counters of megaflow {n}");
    }
    assert!(both.in_hardware > cases() / 20, "hardware forwarded {} of {}", both.in_hardware, cases());
}

#[test]
fn a_firewall_with_hardware_is_one_without() {
    equal(1, FIREWALL, false, Options::default());
    equal(2, FIREWALL, false, Options { lag: true, ..Options::default() });
}

#[test]
fn translation_in_hardware_is_that_of_software() {
    equal(3, NAT, true, Options::default());
    equal(4, NAT, true, Options { capacity: 5, lag: true, ..Options::default() });
}

#[test]
fn a_driver_that_errs_leaves_connections_in_software() {
    let every = |k: u64, of: u64| (0..100_000).filter(|n| n % of == k).collect::<Vec<u64>>();
    let options = Options { refuse: every(1, 5), not_in_hw: every(2, 5), corrupt: every(3, 5), ..Options::default() };
    equal(5, FIREWALL, false, options);
}
