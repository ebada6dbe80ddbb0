//! How many packets one worker forwards, and where its cycles go: memory port to memory port.
//!
//! `cargo bench -p datapath --bench forward [-- ROW...] [SECONDS]`. Frames of 60 bytes, flows in turn, medians of five; the worker is
//! pinned to CPU 1, and the machine must be otherwise idle. A row is a scenario (`SCENARIOS`); each is measured with the numbers of flows that
//! it names. Columns: Mpps, cycles of the time-stamp counter per packet, those by stage (with the cost of taking the laps), the share of
//! packets that the signature cache knew.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::print_stdout, reason = "a measuring program")]
#![allow(clippy::disallowed_methods, reason = "it measures the wall clock")]

use datapath::{Options, Switch, perf};
use flow::action::{Action, SetAttr, SetField};
use flow::compose::{Payload, compose};
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Actions, Datapath, DpPort, Key, Megaflow, Ufid};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys of flow `k`, megaflows for all of `n`.
struct Scenario {
    name: &'static str,
    flows: &'static [u32],
    key: fn(u32) -> Box<Key>,
    fill: fn(&Switch, u32),
    cache: bool,
}

const MANY: &[u32] = &[1, 4, 2_000, 4_000, 60_000, 1_000_000];
const SOME: &[u32] = &[4_000];
const CLASSES: &[u32] = &[6_400];

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "flows", flows: MANY, key: udp, fill: one_megaflow, cache: true },
    Scenario { name: "mixed", flows: MANY, key: mixed, fill: one_per_type, cache: true },
    Scenario { name: "turns", flows: MANY, key: in_turn, fill: one_per_kind, cache: true },
    Scenario { name: "tagged", flows: SOME, key: tagged, fill: one_per_kind, cache: true },
    Scenario { name: "tcp", flows: SOME, key: tcp, fill: one_per_kind, cache: true },
    Scenario { name: "udp6", flows: SOME, key: udp6, fill: one_per_kind, cache: true },
    Scenario { name: "tcp6", flows: SOME, key: tcp6, fill: one_per_kind, cache: true },
    Scenario { name: "cached", flows: MANY, key: udp, fill: twenty_masks, cache: true },
    Scenario { name: "masks-5", flows: CLASSES, key: of_class::<5>, fill: classes::<5>, cache: true },
    Scenario { name: "masks-20", flows: CLASSES, key: of_class::<20>, fill: classes::<20>, cache: true },
    Scenario { name: "masks-100", flows: CLASSES, key: of_class::<100>, fill: classes::<100>, cache: true },
    Scenario { name: "search-5", flows: CLASSES, key: of_class::<5>, fill: classes::<5>, cache: false },
    Scenario { name: "search-20", flows: CLASSES, key: of_class::<20>, fill: classes::<20>, cache: false },
    Scenario { name: "search-100", flows: CLASSES, key: of_class::<100>, fill: classes::<100>, cache: false },
    Scenario { name: "vlan-push", flows: SOME, key: udp, fill: vlan_push, cache: true },
    Scenario { name: "vlan-pop", flows: SOME, key: tagged, fill: vlan_pop, cache: true },
    Scenario { name: "rewrite", flows: SOME, key: udp, fill: rewrite, cache: true },
];

fn udp(flow: u32) -> Box<Key> {
    let mut key = Box::new(Key::ZERO);
    key.eth_src = [2, 0, 0, 0, 1, 1];
    key.eth_dst = [2, 0, 0, 0, 0, 1];
    key.eth_type = [8, 0];
    key.nw_src = (0x0a00_0000 + flow / 60_000).to_be_bytes();
    key.nw_dst = (0x0b00_0000 | ((flow % 20) << 16) | (flow % 64)).to_be_bytes();
    key.nw_proto = 17;
    key.nw_ttl = 64;
    let port = u16::try_from(1024 + flow % 60_000).unwrap();
    key.tp_src = port.to_be_bytes();
    key.tp_dst = 1000u16.to_be_bytes();
    key
}

fn tagged(flow: u32) -> Box<Key> {
    let mut key = udp(flow);
    (key.vlan_tci, key.vlan_tpid) = ([0x10, 100], [0x81, 0]);
    key
}

fn tcp(flow: u32) -> Box<Key> {
    let mut key = udp(flow);
    (key.nw_proto, key.tcp_flags) = (6, [0, 16]);
    key
}

fn udp6(flow: u32) -> Box<Key> {
    let mut key = udp(flow);
    key.eth_type = [0x86, 0xdd];
    (key.ipv6_src[15], key.ipv6_dst[15]) = (1, 2);
    (key.nw_src, key.nw_dst) = ([0; 4], [0; 4]);
    key
}

fn tcp6(flow: u32) -> Box<Key> {
    let mut key = udp6(flow);
    (key.nw_proto, key.tcp_flags) = (6, [0, 16]);
    key
}

/// UDP, TCP, tagged UDP and UDP over IPv6: what the scenario `mixed` of the harness sends.
fn in_turn(flow: u32) -> Box<Key> {
    [udp, tcp, tagged, udp6][flow as usize % 4](flow)
}

/// Untagged or tagged, UDP or TCP, IPv4 or (one in four) IPv6, without a pattern.
fn mixed(flow: u32) -> Box<Key> {
    let dice = datapath::hash::fold(u64::from(flow) ^ 0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15);
    let mut key = if dice & 1 == 0 { udp(flow) } else { tagged(flow) };
    if dice & 2 != 0 {
        key.nw_proto = 6;
        key.tcp_flags = [0, 16];
    }
    if dice & 0x30 == 0 {
        key.eth_type = [0x86, 0xdd];
        (key.ipv6_src[15], key.ipv6_dst[15]) = (1, 2);
        (key.nw_src, key.nw_dst) = ([0; 4], [0; 4]);
    }
    key
}

/// Neighbours of different classes; a class is told by the source address, its rule looks at one bit pattern of the destination.
fn of_class<const N: u32>(flow: u32) -> Box<Key> {
    let mut key = udp(flow);
    let class = flow % N;
    key.eth_src = [2, 0, 0, 1, u8::try_from(class).unwrap(), u8::try_from(flow / N % 64).unwrap()];
    key.eth_dst = [2, 0xff, 0xff, 0xff, 0xff, 0xff];
    key
}

fn pcap(path: &Path, flows: u32, key: fn(u32) -> Box<Key>) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for flow in 0..flows.max(64) {
        let frame = compose(&key(flow % flows), Payload::FrameLen(60));
        let len = u32::try_from(frame.len()).unwrap();
        for word in [0, 0, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&frame);
    }
    std::fs::write(path, bytes).unwrap();
}

fn put(dp: &Switch, ufid: u32, key: &Key, mask: &Key, actions: Actions) {
    let mut key = Box::new(*key);
    key.in_port = 1u32.to_be_bytes();
    let flow = Megaflow { ufid: Ufid(u128::from(ufid) + 1), key, mask: Box::new(*mask), actions: Arc::new(actions) };
    let result = dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]).remove(0);
    assert!(result.is_ok(), "{result:?}");
}

fn out() -> Action {
    Action::Output(DpPort(2))
}

fn base_mask() -> Key {
    let mut mask = Key::ZERO;
    mask.in_port = [0xff; 4];
    mask.recirc_id = [0xff; 4];
    mask.packet_type = [0xff; 4];
    mask.eth_type = [0xff; 2];
    mask.nw_frag = 3;
    mask
}

fn ports_mask() -> Key {
    let mut mask = base_mask();
    mask.nw_proto = 0xff;
    mask.tp_dst = [0xff; 2];
    mask
}

fn one_megaflow(dp: &Switch, _flows: u32) {
    put(dp, 1, &udp(0), &ports_mask(), vec![out()]);
}

fn one_per_type(dp: &Switch, _flows: u32) {
    for (i, (eth_type, proto)) in [([8, 0], 17), ([8, 0], 6), ([0x86, 0xdd], 17), ([0x86, 0xdd], 6)].into_iter().enumerate() {
        let mut key = udp(0);
        (key.eth_type, key.nw_proto) = (eth_type, proto);
        put(dp, u32::try_from(i).unwrap(), &key, &ports_mask(), vec![out()]);
    }
}

/// As translation makes them: whether there is a tag is asked of all, and of untagged packets all bits.
fn one_per_kind(dp: &Switch, _flows: u32) {
    for (i, key) in [udp, tcp, tagged, udp6, tcp6].into_iter().enumerate() {
        let (key, mut mask) = (key(0), ports_mask());
        mask.vlan_tci = if key.vlan_tci == [0; 2] { [0xff; 2] } else { [0x10, 0] };
        put(dp, u32::try_from(i).unwrap(), &key, &mask, vec![out()]);
    }
}

fn twenty_masks(dp: &Switch, _flows: u32) {
    for class in 0..20u32 {
        let mut mask = base_mask();
        mask.nw_dst = [0xff; 4];
        // A different set of exact fields for each class, all of which every packet has alike.
        let bits = class + 1;
        mask.nw_tos = if bits & 1 != 0 { 0xff } else { 0 };
        mask.nw_ttl = if bits & 2 != 0 { 0xff } else { 0 };
        mask.nw_proto = if bits & 4 != 0 { 0xff } else { 0 };
        mask.tp_dst = if bits & 8 != 0 { [0xff; 2] } else { [0; 2] };
        mask.vlan_tci = if bits & 16 != 0 { [0xff; 2] } else { [0; 2] };
        for low in 0..64u32 {
            let mut key = udp(0);
            key.nw_dst = (0x0b00_0000 | class << 16 | low).to_be_bytes();
            put(dp, class * 64 + low, &key, &mask, vec![out()]);
        }
    }
}

fn classes<const N: u32>(dp: &Switch, flows: u32) {
    for flow in 0..N * 64 {
        let mut mask = base_mask();
        mask.eth_src = [0xff; 6];
        mask.eth_dst = (u64::from(flow % N + 1) << 16).to_be_bytes()[..6].try_into().unwrap();
        assert!(flow < flows || N * 64 <= flows);
        put(dp, flow, &of_class::<N>(flow), &mask, vec![out()]);
    }
}

fn vlan_push(dp: &Switch, _flows: u32) {
    put(dp, 1, &udp(0), &ports_mask(), vec![Action::PushVlan { tpid: 0x8100, tci: 0x1064 }, out()]);
}

fn vlan_pop(dp: &Switch, _flows: u32) {
    let mut mask = ports_mask();
    mask.vlan_tci = [0x1f, 0xff];
    put(dp, 1, &tagged(0), &mask, vec![Action::PopVlan, out()]);
}

fn set(attr: SetAttr, fill: impl Fn(&mut Key, &mut Key)) -> Action {
    let (mut value, mut mask) = (Key::ZERO, Key::ZERO);
    fill(&mut value, &mut mask);
    Action::Set(Box::new(SetField { attr, value, mask }))
}

/// As translation makes it: what is set is matched, so there is a megaflow for every flow.
fn rewrite(dp: &Switch, flows: u32) {
    let mut mask = ports_mask();
    (mask.eth_src, mask.eth_dst) = ([0xff; 6], [0xff; 6]);
    (mask.nw_src, mask.nw_dst, mask.tp_src) = ([0xff; 4], [0xff; 4], [0xff; 2]);
    let actions = || {
        vec![
            set(SetAttr::Eth, |v, m| {
                (v.eth_src, m.eth_src, v.eth_dst, m.eth_dst) = ([4; 6], [0xff; 6], [6; 6], [0xff; 6]);
            }),
            set(SetAttr::Ipv4, |v, m| (v.nw_src, m.nw_src, v.nw_dst, m.nw_dst) = ([1; 4], [0xff; 4], [2; 4], [0xff; 4])),
            set(SetAttr::Udp, |v, m| (v.tp_src, m.tp_src, v.tp_dst, m.tp_dst) = ([3; 2], [0xff; 2], [4; 2], [0xff; 2])),
            out(),
        ]
    };
    for flow in 0..flows {
        put(dp, flow, &udp(flow), &mask, actions());
    }
}

/// What a scenario did with some number of flows.
struct Measured {
    mpps: f64,
    cycles: f64,
    stages: [f64; perf::N_STAGES],
    cached: f64,
}

fn rate(dp: &Switch, seconds: f64) -> f64 {
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let (before, start) = (dp.work().1, Instant::now());
            std::thread::sleep(Duration::from_secs_f64(seconds));
            (dp.work().1 - before) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

fn measure(scenario: &Scenario, flows: u32, seconds: f64) -> Measured {
    let dir = std::env::temp_dir().join(format!("ferrule-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("flows.pcap");
    pcap(&path, flows, scenario.key);
    let mut config = vec![("pmd-cpu-mask".to_owned(), "0x2".to_owned())];
    if !scenario.cache {
        config.push(("signature-cache-flows".to_owned(), "0".to_owned()));
    }
    let dp = Switch::new("netdev", "ovs-netdev", &Options { config, ..Options::default() }).unwrap();
    (scenario.fill)(&dp, flows);
    let sink = PortRequest { name: "sink".into(), kind: "memory".into(), number: Some(DpPort(2)), ..PortRequest::default() };
    dp.port_add(&sink).unwrap();
    let options = vec![("pcap".to_owned(), path.to_str().unwrap().to_owned())];
    let source =
        PortRequest { name: "source".into(), kind: "memory".into(), number: Some(DpPort(1)), options, ..PortRequest::default() };
    dp.port_add(&source).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let rate = rate(&dp, seconds);
    dp.account_stages(true);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let (before, packets) = (dp.stage_reports(), dp.work().1);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let (after, packets) = (dp.stage_reports(), (dp.work().1 - packets) as f64);
    let stages = std::array::from_fn(|i| (after[0].cycles[i] - before[0].cycles[i]) as f64 / packets);
    let stats = dp.stats();
    assert_eq!(stats.missed, 0, "{} {flows}", scenario.name);
    drop(dp);
    std::fs::remove_dir_all(&dir).unwrap();
    let cycles = datapath::cycles::hz() / rate;
    Measured { mpps: rate / 1e6, cycles, stages, cached: stats.cache_hits as f64 / stats.hit as f64 }
}

fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap() * 4096.0
}

/// What half a million megaflows take, of one mask, without and with rewrites.
fn memory() {
    for (what, flows) in [("output", 500_000u32), ("rewrite", 200_000)] {
        let dp = Switch::new("netdev", "ovs-netdev", &Options::default()).unwrap();
        // What is made once is made now.
        let mut other = udp(0);
        other.eth_type = [0x12, 0x34];
        put(&dp, u32::MAX - 1, &other, &base_mask(), vec![out()]);
        let before = resident_bytes();
        if what == "rewrite" {
            rewrite(&dp, flows);
        } else {
            let mut mask = ports_mask();
            (mask.nw_src, mask.tp_src) = ([0xff; 4], [0xff; 2]);
            (0..flows).for_each(|flow| put(&dp, flow, &udp(flow), &mask, vec![out()]));
        }
        println!("memory of a megaflow, {what}: {:.0} bytes", (resident_bytes() - before) / f64::from(flows));
    }
    let flows = datapath::cache::FLOWS_DEFAULT;
    let bytes = datapath::cache::Cache::new(flows).bytes();
    println!("signature cache: {:.1} bytes a flow, {flows} flows", bytes as f64 / flows as f64);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let seconds = words.iter().find_map(|a| a.parse().ok()).unwrap_or(0.3);
    let wanted = |name: &str| words.iter().all(|w| w.parse::<f64>().is_ok()) || words.iter().any(|w| w == name);
    if wanted("memory") {
        memory();
    }
    print!("{:10} {:>8} {:>6} {:>6} |", "row", "flows", "Mpps", "cycles");
    for row in &perf::STAGES {
        print!(" {:>8}", row.name);
    }
    println!(" | cached");
    for scenario in SCENARIOS.iter().filter(|s| wanted(s.name)) {
        for flows in scenario.flows {
            let m = measure(scenario, *flows, seconds);
            print!("{:10} {flows:8} {:6.1} {:6.0} |", scenario.name, m.mpps, m.cycles);
            m.stages.iter().for_each(|cycles| print!(" {cycles:8.1}"));
            println!(" | {:6.2}", m.cached);
        }
    }
}
