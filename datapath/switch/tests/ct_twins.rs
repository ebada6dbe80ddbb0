//! Batches that go round again after `ct`, by the ways that caches make shorter and by the classifier alone: everything that can be seen of both is the same.
//!
//! Two switches get the same packets, megaflows and commands. One has signature caches and remembers megaflows, so that what a batch finds after
//! `ct` is worked out for all of it (`after_ct`); the other has none. Between the rounds megaflows of both passes are removed and replaced, by some
//! that look at other fields; connections are begun, marked, ended and expire.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failure is the test's")]

mod common;

use common::{Bench, Rng, fragments, megaflow};
use flow::action_text::parse_actions;
use flow::compose::{Payload, compose};
use flow::conntrack::{CtFilter, CtTuple};
use flow::seam::{FlowPut, PutMode};
use flow::{Datapath, DpPort, Key, NoNames, Ufid};
use proptest::prelude::*;
use std::time::Duration;

/// A dummy's queue holds 100.
const FRAMES: usize = 64;

/// What the first pass looks at, and does.
const FIRST: &[&str] = &[
    "eth_type(0x0800),ipv4(frag=no)",
    "eth_type(0x0800),ipv4(proto=17,frag=no),udp()",
    "eth_type(0x0800),ipv4(dst=0.0.0.0/128.0.0.0,frag=no)",
    "eth_type(0x0800),ipv4()",
];
const TRACK: &[&str] = &[
    "ct,recirc(0x1)",
    "ct(zone=2),recirc(0x1)",
    "ct(nat),recirc(0x1)",
    "ct(commit),recirc(0x1)",
    "ct(nat),ct_clear,ct,recirc(0x1)",
];

/// What the second pass may be: no two megaflows of a kind have packets in common.
const SECOND: &[&[(&str, &str)]] = &[
    &[("ct_state(-new+est-inv+trk),IP", "2"), ("ct_state(+new-est-inv+trk),IP", "ct(commit),3"), ("ct_state(+inv+trk),IP", "3")],
    &[
        ("ct_state(+est-rpl-inv+trk),IP", "2"),
        ("ct_state(+est+rpl-inv+trk),IP", "3"),
        ("ct_state(+new-inv+trk),IP", "ct(commit,mark=0x1/0x3),2"),
        ("ct_state(+inv+trk),IP", "2"),
    ],
    &[
        ("ct_state(+est+trk),ct_mark(0/0x1),IP", "ct(commit,mark=0x2/0x2),2"),
        ("ct_state(+est+trk),ct_mark(0x1/0x1),IP", "3"),
        ("ct_state(-est+trk),ct_mark(0/0x1),IP", "ct(commit,nat(src=10.0.0.9)),2"),
    ],
    &[
        ("ct_state(+est+trk),eth_type(0x0800),ipv4(src=10.0.0.0/255.255.255.254,frag=no)", "2"),
        ("ct_state(+est+trk),eth_type(0x0800),ipv4(src=10.0.0.2/255.255.255.254,frag=no)", "3"),
        ("ct_state(+est+trk),eth_type(0x0800),ipv4(src=10.0.0.8/255.255.255.248,frag=no)", "set(eth(src=00:00:00:00:00:07)),3"),
        ("ct_state(-est+trk),eth_type(0x0800),ipv4(frag=no)", "ct(commit,zone=2,nat(src=10.0.0.9)),2"),
    ],
    &[("ct_zone(0),ct_state(+trk),IP", "ct(commit,zone=2),recirc(0x2)"), ("ct_zone(2),ct_state(+trk),IP", "ct,recirc(0x2)")],
    &[
        ("ct_state(+trk),eth_type(0x0800),ipv4(proto=17,frag=no),udp(dst=2000)", "2"),
        ("ct_state(+trk),ct_label(0),eth_type(0x0800),ipv4(proto=6,frag=no)", "3"),
    ],
];
const THIRD: &[(&str, &str)] = &[
    ("ct_state(+est+trk),eth_type(0x0800),ipv4(frag=no)", "2"),
    ("ct_state(-est+trk),eth_type(0x0800),ipv4(frag=no)", "ct(commit),3"),
];

/// A packet, or its fragments; `alike` are whole ones of UDP of which all go one way.
fn frame(rng: &mut Rng, alike: bool) -> Vec<Vec<u8>> {
    let mut key = Key::ZERO;
    (key.eth_type, key.nw_ttl) = ([8, 0], 64);
    key.eth_dst = [2, 0, 0, 0, 0, 1];
    key.nw_proto = if !alike && rng.one_in(12) { 6 } else { 17 };
    let (a, b) = (1 + rng.below(2) as u8, 3 + rng.below(2) as u8);
    let port = 1000 + rng.below(4) as u16;
    let (mut ends, mut ports) = ((a, b), (port, 2000u16));
    if !alike && rng.one_in(2) {
        (ends, ports) = ((b, if rng.one_in(4) { 9 } else { a }), (2000, port));
    }
    (key.nw_src, key.nw_dst) = ([10, 0, 0, ends.0], [10, 0, 0, ends.1]);
    (key.tp_src, key.tp_dst) = (ports.0.to_be_bytes(), ports.1.to_be_bytes());
    if key.nw_proto == 6 {
        key.tcp_flags = [0, rng.of(&[0x02, 0x12, 0x10, 0x10, 0x11])];
    }
    let mut frame = compose(&key, Payload::Len(18 + rng.below(40)));
    if !alike && rng.one_in(40) {
        // A wrong checksum, or another packet.
        let at = 14 + rng.below(frame.len() - 14);
        frame[at] ^= 1 << rng.below(8);
    }
    if !alike && rng.one_in(60) {
        return fragments(&common::numbered(&frame, rng.below(60_000) as u16), 16).to_vec();
    }
    vec![frame]
}

/// The same, or a message that shows the first difference only.
fn same<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) {
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or_else(|| a.len().min(b.len()));
    assert!(a.len() == b.len() && at == a.len(), "{} and {}:\n{:x?}\n{:x?}", a.len(), b.len(), a.get(at), b.get(at));
}

/// The switch that has caches, and the one that has none.
struct Twins {
    benches: [Bench; 2],
    /// Megaflows that there are.
    flows: Vec<u128>,
    last: u128,
    second: Vec<u128>,
}

impl Twins {
    fn new() -> Self {
        let of = |flows| Bench::new(3, &[("n-workers", "1"), ("signature-cache-flows", flows)]);
        Self { benches: ["64", "0"].map(of), flows: Vec::new(), last: 0, second: Vec::new() }
    }

    fn put(&mut self, flow: &str, actions: &str) -> u128 {
        self.last += 1;
        let flow = format!("packet_type(ns=0,id=0),{}", flow.replace("IP", "eth_type(0x0800),ipv4(frag=no)"));
        for bench in &self.benches {
            let flow = megaflow(self.last, &flow, parse_actions(actions, &NoNames).unwrap());
            bench.dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]).remove(0).unwrap();
        }
        self.flows.push(self.last);
        self.last
    }

    /// What a megaflow has counted is the same.
    fn compare(&self, ufid: u128) {
        let [a, b] = self.benches.each_ref().map(|bench| {
            let mut out = Vec::new();
            bench.dp.stats_of(&[Ufid(ufid)], &mut out);
            let stats = out.remove(0).unwrap();
            (stats.packets, stats.bytes, stats.used_ms, stats.tcp_flags)
        });
        assert_eq!(a, b, "megaflow {ufid}");
    }

    fn del(&mut self, ufid: u128) {
        self.compare(ufid);
        for bench in &self.benches {
            bench.dp.del(&[Ufid(ufid)]).remove(0).unwrap();
        }
        self.flows.retain(|flow| *flow != ufid);
        self.second.retain(|flow| *flow != ufid);
    }

    fn round(&self, port: u32, frames: &[Vec<u8>]) {
        let [a, b] = self.benches.each_ref().map(|bench| {
            // What a batch does depends on which packets it is of.
            bench.ports[port as usize - 1].receive_all(0, frames.iter().map(Vec::as_slice)).unwrap();
            bench.dp.drain(DpPort(port));
            let mut upcalls = Vec::new();
            bench.dp.upcalls(0, 1000, Duration::ZERO, &mut upcalls);
            let mut upcalls: Vec<_> = upcalls.iter().map(|upcall| format!("{:02x?} {:?}", upcall.packet, upcall.key)).collect();
            upcalls.sort();
            let mut sent = bench.sent();
            sent.sort();
            let mut connections = Vec::new();
            bench.dp.conntrack().unwrap().dump(None, &mut |entry| {
                connections.push(entry.text(true, false));
                true
            });
            connections.sort();
            let stats = bench.dp.stats();
            (sent, upcalls, connections, (stats.hit, stats.missed, stats.lost))
        });
        same(&a.0, &b.0);
        same(&a.1, &b.1);
        same(&a.2, &b.2);
        assert_eq!(a.3, b.3, "hit, missed, lost");
        self.flows.iter().for_each(|flow| self.compare(*flow));
    }
}

/// What one of the twins did: megaflows found, those of them remembered; packets that went round again, those of them whose megaflow was known of the batch.
struct Done {
    hit: u64,
    remembered: u64,
    again: u64,
    joined: u64,
}

fn run(seed: u64) -> [Done; 2] {
    let mut rng = Rng::new(seed);
    let mut twins = Twins::new();
    let mut first = None;
    for (flow, actions) in THIRD {
        twins.put(&format!("recirc_id(0x2),in_port(1),{flow}"), actions);
    }
    for _ in 0..40 {
        if first.is_none() || rng.one_in(5) {
            if let Some(old) = first {
                twins.del(old);
            }
            let (flow, actions) = (rng.of(FIRST), rng.of(TRACK));
            first = Some(twins.put(&format!("recirc_id(0),in_port(1),{flow}"), actions));
        }
        if twins.second.is_empty() || rng.one_in(4) {
            twins.second.clone().into_iter().for_each(|flow| twins.del(flow));
            for (flow, actions) in rng.of(SECOND) {
                let ufid = twins.put(&format!("recirc_id(0x1),in_port(1),{flow}"), actions);
                twins.second.push(ufid);
            }
        } else if rng.one_in(10) {
            let ufid = rng.of(&twins.second);
            twins.del(ufid);
        }
        if rng.one_in(8) {
            let orig = CtTuple { src_port: 1000 + rng.below(4) as u16, ..CtTuple::default() };
            let filter = CtFilter { orig, ..CtFilter::default() };
            let ended = twins.benches.each_ref().map(|bench| bench.dp.conntrack().unwrap().flush(&filter));
            assert_eq!(ended[0], ended[1]);
        }
        flow::clock::clock().warp(if rng.one_in(8) { 200_000 } else { 40 });
        // Now and then of a kind: packets that are found one by one are mixed.
        let alike = rng.one_in(2);
        let frames: Vec<_> = std::iter::repeat_with(|| frame(&mut rng, alike)).flatten().take(FRAMES).collect();
        // Until connections are established, and batches are like the one before.
        for _ in 0..3 {
            twins.round(1, &frames);
        }
    }
    twins.benches.each_ref().map(|bench| {
        let (stats, (again, joined)) = (bench.dp.stats(), bench.dp.after_ct());
        Done { hit: stats.hit, remembered: stats.cache_hits, again, joined }
    })
}

/// In one test, since there is one clock.
#[test]
fn what_is_said_of_a_batch_is_true_of_its_packets() {
    flow::clock::clock().stop();
    proptest!(ProptestConfig { cases: 24, ..ProptestConfig::default() }, |(seed: u64)| {
        let [Done { hit, remembered, .. }, _] = run(seed);
        // It would show nothing if nothing was remembered.
        prop_assert!(remembered * 4 > hit, "{remembered} of {hit}");
    });
    // Nor if nothing was said of a batch, or of one without caches.
    let (mut again, mut joined) = (0, 0);
    for seed in 0..4 {
        let [cached, plain] = run(seed);
        assert_eq!((plain.remembered, plain.joined, plain.again), (0, 0, cached.again));
        (again, joined) = (again + cached.again, joined + cached.joined);
    }
    assert!(joined * 50 > again, "{joined} of {again}");
}
