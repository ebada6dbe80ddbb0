//! How fast rules go in, are counted and go out, for measuring by hand: `rates [FLOWS]`.
//!
//! The whole way of a rule: plan, encode, the model's decoding and echo, the check of the echo; no software datapath below.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program to look at; it measures the wall clock"
)]

use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::{DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::model::{Model, Options, SameNumbers};
use offload::tc::attributes::Writer;
use offload::tc::client::Tc;
use offload::tc::{FilterId, Hook, matches, write};
use offload::{PortKind, Rule, plan};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let flows = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000u32);
    let mut can = Capabilities { ct: false, ..Capabilities::all() };
    can.ports.extend((1..=2).map(|n| (DpPort(n), PortKind::Switch(1))));
    let text = "packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x0800),ipv4(dst=10.0.0.0,proto=17,frag=no),udp(dst=53)";
    let parsed = parse_flow(text, &NoNames).unwrap();
    let actions = Arc::new(parse_actions("set(eth(dst=02:00:00:00:00:ab)),push_vlan(vid=5,pcp=0),2", &NoNames).unwrap());
    let megaflow = |n: u32| {
        let mut key = parsed.key.clone();
        key.nw_dst = (0x0a00_0000 | n).to_be_bytes();
        Megaflow { ufid: Ufid(n.into()), key, mask: parsed.mask.clone(), actions: Arc::clone(&actions) }
    };
    let started = Instant::now();
    let rules: Vec<(Ufid, Rule)> = (0..flows).map(|n| (Ufid(n.into()), plan(&megaflow(n), &can).unwrap().rule)).collect();
    println!("{flows} megaflows planned in {:?}", started.elapsed());

    let started = Instant::now();
    let mut out = Writer::default();
    for (n, (_, rule)) in (1..).zip(&rules) {
        out.bytes.clear();
        let id = FilterId {
            hook: Hook::Ingress { ifindex: 1 },
            chain: 0,
            prio: 9,
            handle: n,
            protocol: matches::protocol(&rule.link),
        };
        write::create(&mut out, n, id, rule, b"0123456789abcdef", &SameNumbers).unwrap();
    }
    let took = started.elapsed();
    println!("{flows} messages built in {took:?}: {:.0} a second", f64::from(flows) / took.as_secs_f64());

    let tc = Tc::new(Model::new(Options::default()), SameNumbers);
    let batch: Vec<(Ufid, &Rule)> = rules.iter().map(|(u, r)| (*u, r)).collect();
    let started = Instant::now();
    let done = tc.install_all(&batch).into_iter().filter(Result::is_ok).count();
    println!("{done} rules put in, echo checked, in {:?}", started.elapsed());
    for _ in 0..2 {
        let started = Instant::now();
        let counted = tc.counters().len();
        println!("{counted} counters read in {:?}, the model's own work included", started.elapsed());
    }
    let ufids: Vec<Ufid> = batch.iter().map(|(u, _)| *u).collect();
    let started = Instant::now();
    let gone = tc.remove_all(&ufids).into_iter().filter(Result::is_ok).count();
    println!("{gone} rules taken out in {:?}", started.elapsed());
}
