//! How fast rules go in, are counted and go out, for measuring by hand: `rates [FLOWS]`.
//!
//! First the way of a rule by itself: plan, encode, the model's decoding and echo, the check of the echo. Then the tier over a software datapath that
//! has all the megaflows: what promoting them takes, and what a round of a revalidator does, which asks for the counters of all.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program to look at; it measures the wall clock"
)]

use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Datapath as _, DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::model::{Model, Options, SameNumbers};
use offload::tc::attributes::Writer;
use offload::tc::client::Tc;
use offload::tc::{FilterId, Hook, matches, write};
use offload::{PortKind, Rule, Tiered, plan};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As a handler puts megaflows, and a revalidator asks for them.
const TOGETHER: usize = 64;

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
    tier(&(0..flows).map(megaflow).collect::<Vec<_>>(), can);
}

fn tier(flows: &[Megaflow], can: Capabilities) {
    let dp = Tiered::new(
        datapath::Switch::new("dummy", "ovs-dummy", &datapath::Options::default()).unwrap(),
        Tc::new(Model::new(Options::default()), SameNumbers),
        can,
    );
    for n in 1..=2 {
        let port = PortRequest { name: format!("p{n}"), kind: "dummy".into(), number: Some(DpPort(n)), ..PortRequest::default() };
        dp.port_add(&port).unwrap();
    }
    dp.set_enabled(false);
    for some in flows.chunks(TOGETHER) {
        let puts: Vec<FlowPut> =
            some.iter().map(|flow| FlowPut { flow: flow.clone(), mode: PutMode::Create, clear_stats: false }).collect();
        dp.put(&puts).into_iter().for_each(Result::unwrap);
    }
    let started = Instant::now();
    dp.set_enabled(true);
    println!("tier: {} megaflows of software promoted in {:?}, the model's own work included", dp.census().0, started.elapsed());

    let ufids: Vec<Ufid> = flows.iter().map(|flow| flow.ufid).collect();
    for _ in 0..2 {
        // Later than the last look is good for.
        std::thread::sleep(Duration::from_millis(200));
        let (started, mut out) = (Instant::now(), Vec::with_capacity(flows.len()));
        ufids.chunks(TOGETHER).for_each(|some| dp.stats_of(some, &mut out));
        let known = out.iter().flatten().count();
        println!(
            "tier: counters of {known} megaflows, of both layers, in {:?}, the model's own work included",
            started.elapsed()
        );
    }
}
