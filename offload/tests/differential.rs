//! Software with hardware beside it forwards what software alone forwards: byte for byte, in the same order, with the same counters, while
//! megaflows come, change and go, the table is full, rules are refused, taken without effect, changed by the driver, or lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

use datapath::Reference;
use flow::action_text::parse_actions;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::extract::{PacketMeta, extract_whole};
use flow::extract_gen::PacketGen;
use flow::fields::Field;
use flow::forms::NoNames;
use flow::seam::{
    BAND_DROP, FlowPut, METER_BURST, METER_KBPS, METER_PKTPS, MeterBand, MeterConfig, Placement, PortRequest, PutMode,
};
use flow::{Action, Datapath, DpPort, Key, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::model::direct::Direct;
use offload::model::{Model, Options, Outcome, SameNumbers};
use offload::tc::client::Tc;
use offload::{Hardware, PortKind, Reason, Tiered};
use std::sync::Arc;

type Switch = Tiered<Reference, Tc<Model, SameNumbers>>;

const PORTS: u32 = 4;
/// One packet of ten comes with an event, until there would be more events than this.
const EVENTS_MAX: usize = 10_000;
const ACTIONS: &[&str] = &[
    "2",
    "3",
    "2,3",
    "drop",
    "push_vlan(vid=5,pcp=3),2",
    "pop_vlan,3",
    "set(eth(dst=02:00:00:00:00:ab)),2",
    "set(ipv4(dst=10.99.0.2)),2",
    "set(ipv4(ttl=63,tos=0x4/0xfc)),3",
    "set(udp(dst=9)),2",
    "set(tcp(src=9)),2",
    "set(ipv6(src=2001:db8::aa,hlimit=9)),2",
    "2,set(eth(src=02:00:00:00:00:01)),set(ipv4(src=1.2.3.4)),set(udp(src=5)),3",
    "push_mpls(label=100,tc=0,ttl=64,bos=1,eth_type=0x8847),2",
    "check_pkt_len(size=100,gt(3),le(set(eth(dst=02:00:00:00:00:ab)),2))",
    "trunc(60),2",
    "recirc(0x9)",
    "meter(0),2",
    "2,meter(1),set(ipv4(ttl=63,tos=0x4/0xfc)),meter(0),3",
    "push_vlan(vid=5,pcp=3),meter(1),2",
    "check_pkt_len(size=100,gt(meter(0),3),le(2))",
    "meter(0)",
];
/// Meters, and those of them that may come and go.
const METERS: u32 = 2;

fn ports(dp: &dyn Datapath) {
    for n in 1..=PORTS {
        let request =
            PortRequest { name: format!("p{n}"), kind: "dummy".into(), number: Some(DpPort(n)), ..PortRequest::default() };
        dp.port_add(&request).unwrap();
    }
}

fn capabilities(ports: u32) -> Capabilities {
    let mut can = Capabilities::all();
    // The model has no such actions; it would refuse them itself.
    (can.ct, can.eth_push_pop) = (false, false);
    can.ports.extend((1..=ports).map(|n| (DpPort(n), PortKind::Switch(1))));
    can
}

/// The packets' side of an eSwitch in memory.
trait Front: Hardware {
    fn receive(&self, port: DpPort, bytes: &[u8]) -> Outcome;
    fn rules(&self) -> usize;
    fn lose(&self, which: usize);
    /// Somebody else removes a rule, and hardware tells it.
    fn remove(&self, which: usize);
}

impl Front for Tc<Model, SameNumbers> {
    fn receive(&self, port: DpPort, bytes: &[u8]) -> Outcome {
        self.link().receive(port, bytes)
    }

    fn rules(&self) -> usize {
        self.link().rules()
    }

    fn lose(&self, which: usize) {
        self.link().lose(which);
    }

    fn remove(&self, which: usize) {
        self.link().remove_as(9, which);
    }
}

impl Front for Direct {
    fn receive(&self, port: DpPort, bytes: &[u8]) -> Outcome {
        self.receive(port, bytes)
    }

    fn rules(&self) -> usize {
        self.rules()
    }

    fn lose(&self, which: usize) {
        self.lose(which);
    }

    /// It tells nothing by itself, and nobody else programs it.
    fn remove(&self, _which: usize) {}
}

fn tiered(options: Options) -> Switch {
    let dp = Tiered::new(Reference::new(), Tc::new(Model::new(options), SameNumbers), capabilities(PORTS));
    ports(&dp);
    dp
}

/// A packet comes to the switch: to hardware first.
fn receive<H: Front>(dp: &Tiered<Reference, H>, port: DpPort, bytes: &[u8]) -> Vec<(DpPort, Vec<u8>)> {
    match dp.hardware().receive(port, bytes) {
        Outcome::Done(sent) => sent.into_iter().map(|s| (s.port, s.bytes)).collect(),
        Outcome::Missed => {
            dp.inner().inject(port, bytes);
            dp.inner().sent()
        }
        Outcome::MissedInChain(chain) => panic!("a packet came up in the middle, in chain {chain}"),
    }
}

/// A sound packet of some kind, with right lengths and checksums.
fn packet(random: &mut PacketGen) -> Vec<u8> {
    let mut key = Box::new(Key::ZERO);
    let mut bytes = Vec::new();
    let packet_type = random.sound_packet(&mut bytes);
    let meta = PacketMeta { in_port: DpPort(1), packet_type: 0, vlan_limit: 1, ..PacketMeta::default() };
    if packet_type == 0 {
        extract_whole(&bytes, &meta, &mut key);
    }
    // Few values, so that megaflows meet more than one packet.
    key.eth_type = [[8, 0], [8, 0], [0x86, 0xdd], [8, 6]][random.below(4)];
    key.nw_proto = [6, 17, 17, 1][random.below(4)];
    if key.eth_type == [0x86, 0xdd] && key.nw_proto == 1 {
        key.nw_proto = 58;
    }
    key.nw_frag = 0;
    (key.vlan_tci, key.vlan_tpid) = if random.below(4) == 0 { ([0x10, 5], [0x81, 0]) } else { ([0; 2], [0; 2]) };
    (key.vlan2_tci, key.vlan2_tpid) = ([0; 2], [0; 2]);
    key.nw_ttl = 64;
    let small = |random: &mut PacketGen| u8::try_from(random.below(3)).unwrap();
    (key.nw_src, key.nw_dst) = ([10, 0, 0, small(random)], [10, 0, 1, small(random)]);
    (key.tp_src, key.tp_dst) = ([0, small(random)], [0, small(random)]);
    let len = random.below(120);
    compose(&key, Payload::Len(len))
}

fn megaflow(random: &mut PacketGen, ufid: u128, actions: &[Vec<Action>]) -> Megaflow {
    let bytes = packet(random);
    let mut key = Box::new(Key::ZERO);
    let meta = PacketMeta { in_port: DpPort(1), vlan_limit: 1, ..PacketMeta::default() };
    extract_whole(&bytes, &meta, &mut key);
    let mut mask = Box::new(Key::ZERO);
    (mask.in_port, mask.recirc_id, mask.packet_type, mask.eth_type) = ([0xff; 4], [0xff; 4], [0xff; 4], [0xff; 2]);
    (mask.vlan_tci, mask.vlan_tpid, mask.nw_frag, mask.nw_proto) = ([0xff; 2], [0xff; 2], 3, 0xff);
    // Megaflows of one switch do not overlap: they are exact in the fields by which these packets differ.
    (mask.nw_src, mask.nw_dst, mask.tp_src, mask.tp_dst) = ([0xff; 4], [0xff; 4], [0xff; 2], [0xff; 2]);
    for field in [Field::EthDst, Field::NwTtl, Field::NwTos] {
        if random.below(6) == 0 {
            field.unwildcard(&mut mask);
        }
    }
    let actions = actions[random.below(actions.len())].clone();
    Megaflow { ufid: Ufid(ufid), key, mask, actions: Arc::new(actions) }
}

/// A meter whose rate is never exceeded, by bytes or by packets.
fn wide(packets: bool) -> MeterConfig {
    let band = MeterBand { kind: BAND_DROP, rate: u32::MAX, burst_size: u32::MAX, prec_level: 0 };
    MeterConfig { flags: METER_BURST | if packets { METER_PKTPS } else { METER_KBPS }, bands: vec![band] }
}

/// A meter changes, or goes, or comes.
fn meter(with: &dyn Datapath, alone: &dyn Datapath, random: &mut PacketGen) {
    let id = u32::try_from(random.below(METERS as usize)).unwrap();
    if random.below(3) == 0 {
        assert_eq!(with.meter_del(id), alone.meter_del(id));
    } else {
        let config = wide(random.below(2) == 0);
        assert_eq!(with.meter_set(id, &config), alone.meter_set(id, &config));
    }
}

/// What befalls hardware while packets pass: time, with all that the tier then does by itself; a lost rule; one that somebody else removed; offload
/// off and on; a port that leaves it and comes back.
fn happen<H: Front>(with: &Tiered<Reference, H>, event: usize, step: usize, random: &mut PacketGen) {
    let now = now_ms() + 700 * i64::try_from(step).unwrap();
    match event {
        8 => with.tick(now),
        9 if random.below(2) == 0 => {
            // What it counted is told, whoever meets its loss first.
            with.hardware().remove(random.below(1_000));
            if random.below(2) == 0 {
                with.listen(now);
            }
        }
        9 => {
            // What a rule counted after the last look is lost with it, as with any hardware; here it is looked at first, twice for lag.
            (0..2).for_each(|_| with.dump(&mut |_| true));
            with.hardware().lose(random.below(1_000));
        }
        10 => {
            with.set_enabled(false);
            assert_eq!(with.hardware().rules(), 0, "step {step}");
            with.set_enabled(true);
        }
        _ => {
            with.set_capabilities(capabilities(2), now);
            with.set_capabilities(capabilities(PORTS), now);
        }
    }
}

/// Ports of packets whose bytes are all right, whatever happens to rules.
fn equal_while_things_happen(seed: u64, packets: usize, options: Options, things: bool) -> (Switch, usize) {
    let with = tiered(options);
    let in_hardware = equal(&with, seed, packets, things);
    (with, in_hardware)
}

/// The same with any hardware; how many packets it forwarded.
fn equal<H: Front>(with: &Tiered<Reference, H>, seed: u64, packets: usize, things: bool) -> usize {
    let alone = Reference::new();
    ports(&alone);
    with.set_meters(true);
    for id in 0..METERS {
        assert_eq!((with.meter_set(id, &wide(id == 0)), alone.meter_set(id, &wide(id == 0))), (Ok(()), Ok(())));
    }
    let actions: Vec<Vec<Action>> = ACTIONS.iter().map(|a| parse_actions(a, &NoNames).unwrap()).collect();
    let mut random = PacketGen::new(seed);
    let mut there: Vec<Megaflow> = Vec::new();
    let mut in_hardware = 0;
    // Each event concerns every rule there is: a long run has some ten thousand of them, however many packets.
    let rare = (packets / 10 / EVENTS_MAX).max(1);
    for n in 0..packets {
        match random.below(40) {
            0..6 => {
                let flow = megaflow(&mut random, n as u128, &actions);
                let overlaps = |f: &Megaflow| {
                    let both = Box::new(f.mask.masked(&flow.mask));
                    f.key.equal_under(&flow.key, &both)
                };
                if there.iter().any(overlaps) {
                    continue;
                }
                let put = FlowPut { flow: flow.clone(), mode: PutMode::Create, clear_stats: false };
                let results = [with.put(std::slice::from_ref(&put)), alone.put(&[put])];
                assert_eq!(results[0], results[1]);
                there.push(flow);
            }
            6 if !there.is_empty() => {
                let flow = there.swap_remove(random.below(there.len()));
                let (a, b) = (with.del(&[flow.ufid])[0].clone().unwrap(), alone.del(&[flow.ufid])[0].clone().unwrap());
                assert_eq!((a.packets, a.bytes), (b.packets, b.bytes), "seed {seed}, step {n}: counters of a deleted megaflow");
            }
            7 if !there.is_empty() => {
                let at = random.below(there.len());
                there[at].actions = Arc::new(actions[random.below(actions.len())].clone());
                let put = FlowPut { flow: there[at].clone(), mode: PutMode::Modify, clear_stats: random.below(2) == 0 };
                assert_eq!(with.put(std::slice::from_ref(&put)), alone.put(&[put]));
            }
            12 if random.below(50 * rare) == 0 => meter(with, &alone, &mut random),
            event @ 8..12 if things && random.below(rare) == 0 => happen(with, event, n, &mut random),
            _ => {}
        }
        let bytes = packet(&mut random);
        let had = with.inner().stats().hit + with.inner().stats().missed;
        let got = receive(with, DpPort(1), &bytes);
        in_hardware += usize::from(with.inner().stats().hit + with.inner().stats().missed == had);
        alone.inject(DpPort(1), &bytes);
        assert_eq!(got, alone.sent(), "seed {seed}, step {n}: {bytes:02x?}");
    }
    let ufids: Vec<Ufid> = there.iter().map(|f| f.ufid).collect();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    // Counters that lag are told at the second question.
    (0..2).for_each(|_| with.dump(&mut |_| true));
    with.stats_of(&ufids, &mut a);
    alone.stats_of(&ufids, &mut b);
    for ((a, b), ufid) in a.iter().zip(&b).zip(&ufids) {
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.packets, a.bytes), (b.packets, b.bytes), "seed {seed}: counters of {ufid}");
    }
    for id in 0..METERS {
        assert_eq!(with.meter_get(id), alone.meter_get(id), "seed {seed}: counters of meter {id}");
    }
    in_hardware
}

fn packets() -> usize {
    std::env::var("FERRULE_PROPERTY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn with_hardware_that_works() {
    let n = packets();
    let (dp, in_hardware) = equal_while_things_happen(1, n, Options::default(), false);
    assert!(in_hardware > n / 20, "hardware forwarded {in_hardware} of {n}");
    assert!(dp.census().0 > 0);
}

#[test]
fn while_all_that_can_happen_happens() {
    let n = packets();
    let (dp, in_hardware) = equal_while_things_happen(7, n, Options { lag: true, ..Options::default() }, true);
    assert!(in_hardware > n / 20, "hardware forwarded {in_hardware} of {n}");
    assert!(dp.census().0 > 0);
}

/// The second interface beside tc: hardware that takes megaflows as they are, with room for all of them, and with little.
#[test]
fn with_hardware_that_takes_megaflows_as_they_are() {
    let n = packets() / 4;
    for (seed, capacity) in [(11, 1 << 20), (12, 40)] {
        let refuse = (0..100_000).filter(|n| n % 9 == 4).collect();
        let dp = Tiered::new(Reference::new(), Direct::new(capacity, refuse), capabilities(PORTS));
        ports(&dp);
        let in_hardware = equal(&dp, seed, n, true);
        assert!(in_hardware > n / 100, "hardware forwarded {in_hardware} of {n}");
        assert!(dp.hardware().rules() > 0 && dp.hardware().rules() <= capacity);
        assert_eq!(dp.audit().unwrap().0, 0);
        let ufid = one_flow(&dp);
        let placed = dp.get(ufid).unwrap().placement;
        assert!(placed == Placement::Hardware("direct") || dp.reason(ufid).is_some(), "{placed:?}");
    }
}

#[test]
fn with_a_small_table_and_a_driver_that_errs() {
    for seed in 2..6 {
        let every = |k: u64, of: u64| (0..100_000).filter(|n| n % of == k).collect::<Vec<u64>>();
        let options = Options {
            capacity: 40,
            refuse: every(1, 7),
            not_in_hw: every(2, 7),
            corrupt: every(3, 7),
            lag: seed > 3,
            ..Options::default()
        };
        let (dp, in_hardware) = equal_while_things_happen(seed, packets() / 20, options, true);
        assert!(in_hardware > 0);
        assert!(dp.hardware().link().rules() <= 40);
    }
}

fn one_flow(dp: &dyn Datapath) -> Ufid {
    let flow = "packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)";
    let parsed = flow::dptext::parse_flow(flow, &NoNames).unwrap();
    let actions = Arc::new(parse_actions("2", &NoNames).unwrap());
    let flow = Megaflow { ufid: Ufid(0xf10), key: parsed.key, mask: parsed.mask, actions };
    dp.put(&[FlowPut { flow, mode: PutMode::CreateOrModify, clear_stats: false }])[0].clone().unwrap();
    Ufid(0xf10)
}

/// Each fault of a driver leaves the flow whole in software, with its reason, and nothing of it in hardware.
#[test]
fn faults_lead_to_software_whole() {
    let check = |options: Options, reason: Reason, text: &str| {
        let dp = tiered(options);
        let why = dp.reason(one_flow(&dp)).unwrap();
        assert_eq!((why.reason, why.what.as_str()), (reason, text));
        assert_eq!(dp.hardware().link().rules(), 0);
        assert_eq!(dp.census(), (0, vec![(reason, 1)]));
    };
    let first = || vec![0];
    check(
        Options { capacity: 0, ..Options::default() },
        Reason::TableFull,
        "the table is full (No space left on device (os error 28))",
    );
    let refused = "the model refuses this rule on purpose (Operation not supported (os error 95))";
    check(Options { refuse: first(), ..Options::default() }, Reason::Driver, refused);
    check(Options { not_in_hw: first(), ..Options::default() }, Reason::NotInHardware, "");
    check(Options { corrupt: first(), ..Options::default() }, Reason::Echo, "rule");
}

/// A rule that cannot be removed keeps its port out of hardware until a sweep has removed it.
#[test]
fn what_cannot_be_removed_makes_the_port_dirty() {
    let dp = tiered(Options { keep: vec![0], ..Options::default() });
    let ufid = one_flow(&dp);
    assert_eq!((dp.reason(ufid), dp.hardware().link().rules()), (None, 1));
    dp.del(&[ufid])[0].clone().unwrap();
    assert_eq!(dp.hardware().link().rules(), 1, "the model kept it");
    one_flow(&dp);
    assert_eq!(dp.reason(ufid).unwrap().reason, Reason::PortDirty);
    assert_eq!(dp.hardware().sweep(DpPort(1)), Ok(1));
    assert_eq!(dp.hardware().link().rules(), 0);
    one_flow(&dp);
    assert_eq!(dp.reason(ufid), None);
}

#[test]
fn switched_off_nothing_of_ours_is_left() {
    let dp = tiered(Options::default());
    let ufid = one_flow(&dp);
    dp.set_enabled(false);
    assert_eq!(dp.hardware().link().rules(), 0);
    assert_eq!(dp.reason(ufid).unwrap().reason, Reason::Disabled);
}
