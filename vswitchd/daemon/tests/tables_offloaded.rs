//! Random OpenFlow tables and packets: a switch whose megaflows go into the model's hardware sends what a switch without hardware sends, byte
//! for byte and in the same order, while rules come, change and go, hardware is full, errs, loses rules and is switched off; at the end
//! their rules have counted alike.
//!
//! `FERRULE_PROPERTY_CASES` is how many packets pass (a few thousand by default).

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, to panic is to speak")]

mod common;

use common::beside::{PORTS, Tier, Twins, capabilities};
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::extract_gen::PacketGen;
use flow::{Datapath, DpPort, Key};
use offload::model::Options;
use openflow::message::FlowModCommand;

/// One step of forty is an event beside packets and rules, until there would be more events than this: each concerns every rule.
const EVENTS_MAX: usize = 2_000;
/// As many rules as there are at a time, about.
const RULES: usize = 40;
const MATCHES: &[&str] = &[
    "",
    "in_port=1",
    "in_port=2,ip",
    "ip,nw_src=10.0.0.1",
    "ip,nw_dst=10.0.1.0/31",
    "ip,nw_src=10.0.0.2,nw_dst=10.0.1.1",
    "udp,tp_dst=1",
    "udp,tp_src=0/1",
    "tcp,tp_dst=2",
    "tcp,nw_src=10.0.0.0/30,tp_src=1",
    "ipv6",
    "arp",
    "icmp",
    "dl_vlan=5",
    "vlan_tci=0/0x1000",
    "dl_dst=02:00:00:00:00:01",
];
const IN_TABLE_1: &[&str] = &["", "reg0=1", "reg0=0/1", "reg0=1,ip", "reg0=1,udp,tp_dst=1"];
const ACTIONS: &[&str] = &[
    "drop",
    "output:1",
    "output:2",
    "output:3,output:1",
    "output:4,mod_vlan_vid:7,output:2",
    "strip_vlan,output:3",
    "push_vlan:0x8100,set_field:4101->vlan_vid,output:2",
    "mod_dl_dst:02:00:00:00:00:ab,output:4",
    "mod_dl_src:02:00:00:00:00:ac,output:2,mod_dl_dst:02:00:00:00:00:ad,output:3",
    "resubmit(,1)",
    "output:2,resubmit(,1)",
    "load:1->NXM_NX_REG0[],resubmit(,1)",
    "load:1->NXM_NX_REG0[],mod_dl_dst:02:00:00:00:00:ae,resubmit(,1)",
    "push_mpls:0x8847,output:3",
    "in_port",
    "clone(mod_dl_dst:02:00:00:00:00:af,output:2),output:3",
    "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],output:4",
];
/// Where the match says that there is an IP header.
const IP_ACTIONS: &[&str] = &[
    "dec_ttl,output:2",
    "mod_nw_dst:10.9.9.9,output:1",
    "mod_nw_src:10.9.9.8,mod_nw_tos:32,output:3,dec_ttl,output:4",
    "output:1,mod_nw_dst:10.9.9.7,load:1->NXM_NX_REG0[],resubmit(,1)",
];

/// Few values, so that packets meet rules, and megaflows more than one packet.
fn packet(random: &mut PacketGen) -> Vec<u8> {
    let small = |random: &mut PacketGen| u8::try_from(random.below(3)).unwrap();
    let mut key = Box::new(Key::ZERO);
    key.eth_src = [2, 0, 0, 0, 0, small(random)];
    key.eth_dst = [2, 0, 0, 0, 0, small(random)];
    key.eth_type = [[8, 0], [8, 0], [0x86, 0xdd], [8, 6]][random.below(4)];
    key.nw_proto = [6, 17, 17, 1][random.below(4)];
    if key.eth_type == [8, 6] {
        key.nw_proto = 1;
    }
    if key.eth_type == [0x86, 0xdd] && key.nw_proto == 1 {
        key.nw_proto = 58;
    }
    if random.below(4) == 0 {
        (key.vlan_tci, key.vlan_tpid) = ([0x10, 5], [0x81, 0]);
    }
    key.nw_ttl = [64, 64, 2, 1][random.below(4)];
    (key.nw_src, key.nw_dst) = ([10, 0, 0, small(random)], [10, 0, 1, small(random)]);
    (key.tp_src, key.tp_dst) = ([0, small(random)], [0, small(random)]);
    let len = random.below(120);
    compose(&key, Payload::Len(len))
}

fn one_of<'a>(random: &mut PacketGen, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

/// Match and priority, as both name a rule; no two rules of a run have one priority.
fn rule(random: &mut PacketGen, number: usize) -> String {
    if random.below(3) == 0 {
        return format!("table=1,priority={number},{}", one_of(random, IN_TABLE_1));
    }
    format!("priority={number},{}", one_of(random, MATCHES))
}

fn actions(random: &mut PacketGen, rule: &str) -> &'static str {
    let is_ip = ["ip,", ",ip", "udp", "tcp", "icmp"].iter().any(|word| rule.contains(word));
    if is_ip && random.below(2) == 0 { one_of(random, IP_ACTIONS) } else { one_of(random, ACTIONS) }
}

/// What befalls hardware while packets pass.
fn happen(tier: &Tier, ports: &[DpPort], step: usize, random: &mut PacketGen) {
    let now = now_ms() + 700 * i64::try_from(step).unwrap();
    match random.below(6) {
        0 => {
            // What a rule counted after the last look is lost with it, as with any hardware; here it is looked at first, twice for lag.
            (0..2).for_each(|_| tier.dump(&mut |_| true));
            tier.hardware().link().lose(random.below(1_000));
        }
        1 => {
            tier.set_enabled(false);
            assert_eq!(tier.hardware().link().rules(), 0, "step {step}");
            tier.set_enabled(true);
        }
        2 => {
            tier.set_capabilities(capabilities(&ports[..2]), now);
            tier.set_capabilities(capabilities(ports), now);
        }
        _ => tier.tick(now),
    }
}

/// Both are fed alike; gives how many packets hardware forwarded.
fn equal(seed: u64, packets: usize, options: Options) -> usize {
    let mut twins = Twins::new(options, |_| ());
    let (tier, ports) = (twins.tier.clone(), twins.ports.clone());
    let mut random = PacketGen::new(seed);
    let mut rules: Vec<String> = Vec::new();
    let (mut in_hardware, mut number) = (0, 0);
    let rare = (packets / 40 / EVENTS_MAX).max(1);
    for step in 0..packets {
        // Of two million packets as many rules come and go as of a hundred thousand.
        let what = if step % rare == 0 || rules.len() < 8 { random.below(40) } else { 40 };
        let mut both = |text: &str, command| twins.flow_mod(text, command, &format!("seed {seed}, step {step}"));
        match what {
            0 => happen(&tier, &ports, step, &mut random),
            1..=3 if rules.len() < RULES => {
                number = number % 60_000 + 1;
                let rule = rule(&mut random, number);
                both(&format!("{rule},actions={}", actions(&mut random, &rule)), FlowModCommand::Add);
                rules.push(rule);
            }
            1..=3 => {
                let rule = rules.swap_remove(random.below(rules.len()));
                both(&format!("{rule},actions=drop"), FlowModCommand::DeleteStrict);
            }
            4 if !rules.is_empty() => {
                let rule = &rules[random.below(rules.len())];
                both(&format!("{rule},actions={}", actions(&mut random, rule)), FlowModCommand::ModifyStrict);
            }
            _ => {
                let (port, bytes) = (ports[random.below(PORTS)], packet(&mut random));
                let (_, by_hardware) = twins.receive(port, &bytes, &format!("seed {seed}, step {step}"));
                in_hardware += usize::from(by_hardware);
            }
        }
    }
    twins.end(&format!("seed {seed}"));
    in_hardware
}

fn packets() -> usize {
    std::env::var("FERRULE_PROPERTY_CASES").map_or(6_000, |n| n.parse().unwrap())
}

#[test]
fn with_hardware_that_works() {
    let n = packets();
    let in_hardware = equal(1, n, Options { lag: true, ..Options::default() });
    assert!(in_hardware > n / 4, "hardware forwarded {in_hardware} of {n}");
}

#[test]
fn with_a_small_table_and_a_driver_that_errs() {
    let every = |k: u64, of: u64| (0..100_000).filter(|n| n % of == k).collect::<Vec<u64>>();
    let (refuse, not_in_hw, corrupt) = (every(1, 7), every(2, 7), every(3, 7));
    let n = packets() / 4;
    let in_hardware = equal(2, n, Options { capacity: 20, refuse, not_in_hw, corrupt, ..Options::default() });
    assert!(in_hardware > n / 50, "hardware forwarded {in_hardware} of {n}");
}
