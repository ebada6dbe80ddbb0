//! The switch, with its caches, classifier and batches, forwards exactly as the obvious reference does.
//!
//! Tables are random, but consistent: what a megaflow does follows from a few fields that every mask covers, so that megaflows may overlap
//! as they like. Packets are random and damaged ones of a small world, so that most of them hit. Every table is used several times, with
//! puts and deletes between, so that cache entries are made, hit, outdated, and meet other megaflows in their slots.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failure is the test's")]

mod common;

use common::{Bench, Rng, frame, set};
use datapath::Reference;
use flow::action::{Action, Cookie, HashAlg, SetAttr, Userspace};
use flow::seam::{FlowPut, PortRequest, PutMode, Upcall};
use flow::{Actions, Datapath, DpPort, Key, Mask, Megaflow, Ufid};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const PORTS: u32 = 3;
/// Frames per round; a dummy's queue holds 100.
const FRAMES: usize = 70;

fn packet(rng: &mut Rng) -> (u32, Vec<u8>) {
    let port = u32::try_from(rng.below(PORTS as usize)).unwrap() + 1;
    let (a, b, c) = (rng.below(3), rng.below(4), rng.below(3));
    let eth = format!("in_port({port}),packet_type(ns=0,id=0),eth(src=50:54:00:00:00:0{a},dst=50:54:00:00:01:0{b})");
    let l3 = match rng.below(4) {
        0 => format!("eth_type(0x0806),arp(sip=10.0.0.{a},tip=10.0.0.{b},op=1,sha=50:54:00:00:00:0{a},tha=00:00:00:00:00:00)"),
        1 => format!(
            "eth_type(0x86dd),ipv6(src=fc00::{a},dst=fc00::{b},label=0,proto=6,tclass=0,hlimit=64,frag=no),tcp(src={c},dst={b}),tcp_flags(syn)"
        ),
        2 => format!(
            "eth_type(0x0800),ipv4(src=10.0.0.{a},dst=10.0.0.{b},proto=6,tos=0,ttl={c},frag=no),tcp(src={c},dst={a}),tcp_flags(ack)"
        ),
        _ => format!("eth_type(0x0800),ipv4(src=10.0.0.{a},dst=10.0.0.{b},proto=17,tos=0,ttl=64,frag=no),udp(src={c},dst={a})"),
    };
    let mut frame = frame(&format!("{eth},{l3}"), 60);
    if rng.one_in(4) {
        frame.splice(12..12, [0x81, 0, 0, u8::try_from(c).unwrap()]);
    }
    if rng.one_in(8) {
        let at = rng.below(frame.len());
        frame[at] ^= 1 << rng.below(8);
    }
    if rng.one_in(16) {
        frame.truncate(14 + rng.below(40));
    }
    (port, frame)
}

/// What decides the actions: the class of a packet. Every mask covers these fields.
fn class_mask() -> Box<Mask> {
    let mut m = Box::new(Key::ZERO);
    m.in_port = [0xff; 4];
    m.recirc_id = [0xff; 4];
    m.eth_type = [0xff; 2];
    m.eth_dst = [0, 0, 0, 0, 0, 3];
    m.vlan_tci = [0x10, 0];
    m
}

fn actions(class: &Key) -> Actions {
    let mut rng = Rng::new(class.words().iter().fold(0x1234_5678, |h, w| datapath::hash::fold(h ^ w, 0x9e37_79b9_7f4a_7c15)));
    let round = u32::from_be_bytes(class.recirc_id);
    let mut list: Actions = (0..1 + rng.below(4)).map(|_| action(&mut rng, 0)).collect();
    if round < 2 && rng.one_in(3) {
        list.push(Action::Recirc(round + 1));
    }
    list
}

fn action(rng: &mut Rng, depth: u32) -> Action {
    let port = DpPort(u32::try_from(rng.below(PORTS as usize + 1)).unwrap() + 1);
    let mac = [7, 7, 7, 7, 7, u8::try_from(rng.below(4)).unwrap()];
    match rng.below(if depth < 2 { 15 } else { 11 }) {
        0..5 => Action::Output(port),
        5 => set(SetAttr::Eth, |v, m| (v.eth_dst, m.eth_dst) = (mac, [0xff; 6])),
        6 => set(SetAttr::Ipv4, |v, m| (v.nw_ttl, m.nw_ttl) = (mac[5], 0x0f)),
        7 => set(SetAttr::Mark, |v, m| (v.pkt_mark, m.pkt_mark) = ([0, 0, 0, mac[5]], [0, 0, 0, 0xff])),
        8 if rng.one_in(4) => Action::PushPbb { isid: 7, pcp: mac[5] },
        9 if rng.one_in(3) => Action::PopPbb,
        10 if rng.one_in(3) => Action::CopyTtl { inwards: rng.one_in(2) },
        8 => Action::PushVlan { tpid: 0x8100, tci: 0x1000 | u16::from(mac[5]) },
        9 => Action::PopVlan,
        10 => Action::Trunc(20 + u32::from(mac[5])),
        11 => Action::Clone((0..1 + rng.below(3)).map(|_| action(rng, depth + 1)).collect()),
        12 => {
            let cookie = Cookie::Raw(vec![mac[5]]);
            Action::Userspace(Box::new(Userspace { pid: 0, cookie, actions: true, tunnel_out_port: None }))
        }
        13 if rng.one_in(2) => Action::Hash { alg: HashAlg::SymL4, basis: 3 },
        13 => Action::CheckPktLen { size: 60, greater: vec![action(rng, depth + 1)], less_equal: vec![action(rng, depth + 1)] },
        _ => Action::DecTtl { exceeded: vec![action(rng, depth + 1)] },
    }
}

/// A megaflow for the packet whose key this is.
fn megaflow(rng: &mut Rng, key: &Key) -> Megaflow {
    let class = class_mask();
    let mut mask = class.clone();
    if rng.one_in(2) {
        mask.nw_dst = (u32::MAX << rng.below(8)).to_be_bytes();
    }
    if rng.one_in(2) {
        mask.nw_proto = 0xff;
        mask.tp_src = [0xff; 2];
    }
    if rng.one_in(3) {
        mask.ipv6_dst = [0xff; 16];
    }
    if rng.one_in(4) {
        mask.eth_src = [0xff; 6];
        mask.ct_label[3] = 0xff;
    }
    if rng.one_in(6) {
        mask.nd_target = [0xff; 16];
        mask.pkt_mark = [0, 0, 0, 0xff];
        mask.dp_hash = [0, 0, 0, 3];
    }
    let actions = Arc::new(actions(&key.masked(&class)));
    let ufid = Ufid(u128::from(rng.word()) | 1);
    Megaflow { ufid, key: Box::new(*key), mask, actions }
}

/// The same, or a message that shows the first difference only.
fn same<T: PartialEq + std::fmt::Debug>(got: &[T], want: &[T]) {
    let at = got.iter().zip(want).position(|(g, w)| g != w).unwrap_or_else(|| got.len().min(want.len()));
    assert!(
        got.len() == want.len() && at == got.len(),
        "{} and {}: switch {:x?}\nreference {:x?}",
        got.len(),
        want.len(),
        got.get(at),
        want.get(at)
    );
}

/// Both, side by side.
struct Twins {
    bench: Bench,
    reference: Reference,
    flows: Vec<Ufid>,
}

impl Twins {
    fn new() -> Self {
        let bench = Bench::new(PORTS, &[("n-workers", "1"), ("signature-cache-flows", "64")]);
        let reference = Reference::new();
        for i in 1..=PORTS {
            reference.port_add(&PortRequest { name: format!("p{i}"), ..PortRequest::default() }).unwrap();
        }
        Self { bench, reference, flows: Vec::new() }
    }

    /// Sends the same frames through both; the upcalls, which must be the same, and the frames sent, which must be.
    fn round(&self, frames: &[(u32, Vec<u8>)]) -> Vec<Upcall> {
        let b = &self.bench;
        for (port, frame) in frames {
            b.ports[*port as usize - 1].receive(0, frame).unwrap();
        }
        for port in 1..=PORTS {
            b.dp.drain(DpPort(port));
        }
        let mut got = b.sent();
        for (port, frame) in frames {
            self.reference.inject(DpPort(*port), frame);
        }
        let mut want: Vec<_> = self.reference.sent().into_iter().map(|(p, f)| (p.0, f)).collect();
        got.sort();
        want.sort();
        same(&got, &want);
        let upcalls = |dp: &dyn Datapath| {
            let mut out = Vec::new();
            loop {
                let n = out.len();
                dp.upcalls(0, 1000, Duration::ZERO, &mut out);
                if out.len() == n {
                    break;
                }
            }
            out.sort_by_key(|u: &Upcall| format!("{:?} {:?} {:?} {:?}", u.packet, u.kind, u.key, u.actions));
            out
        };
        let (got, want) = (upcalls(&b.dp), upcalls(&self.reference));
        let plain = |u: &Upcall| (u.kind.clone(), u.packet.clone(), u.key.clone(), u.full_len, u.actions.clone());
        same(&got.iter().map(plain).collect::<Vec<_>>(), &want.iter().map(plain).collect::<Vec<_>>());
        got
    }

    fn put(&mut self, flow: Megaflow) {
        let ufid = flow.ufid;
        let put = [FlowPut { flow, mode: PutMode::Create, clear_stats: false }];
        let (got, want) = (self.bench.dp.put(&put).remove(0), self.reference.put(&put).remove(0));
        assert_eq!(got, want);
        if got.is_ok() {
            self.flows.push(ufid);
        }
    }

    fn del(&mut self, at: usize) {
        let ufid = [self.flows.swap_remove(at)];
        let (got, want) = (self.bench.dp.del(&ufid).remove(0), self.reference.del(&ufid).remove(0));
        assert!(got.is_ok() && want.is_ok());
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut twins = Twins::new();
    let world: Vec<_> = (0..FRAMES).map(|_| packet(&mut rng)).collect();
    for _ in 0..10 {
        let frames: Vec<_> =
            (0..FRAMES).map(|_| if rng.one_in(8) { packet(&mut rng) } else { world[rng.below(FRAMES)].clone() }).collect();
        let upcalls = twins.round(&frames);
        for upcall in upcalls {
            if upcall.kind == flow::seam::UpcallKind::Miss && !rng.one_in(5) {
                let flow = megaflow(&mut rng, &upcall.key);
                twins.put(flow);
            }
        }
        for _ in 0..twins.flows.len() / 8 {
            let at = rng.below(twins.flows.len());
            twins.del(at);
        }
        let (got, want) = (twins.bench.dp.stats(), twins.reference.stats());
        assert_eq!((got.hit, got.missed, got.flows), (want.hit, want.missed, want.flows));
    }
    // The test would show nothing if nothing hit, or never by the cache.
    let stats = twins.bench.dp.stats();
    assert!(stats.hit * 2 > stats.missed && stats.cache_hits > 50 && stats.masks > 3, "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn caches_and_batches_change_nothing(seed: u64) {
        run(seed);
    }
}
