//! Bonds: the rules of a bond stand in a block that its members share, are in all of them or count as refused, and follow its members.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

use datapath::Reference;
use flow::action_text::parse_actions;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Datapath, DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::hardware::HardwareError;
use offload::model::{Model, Options, Outcome};
use offload::probe::Bench;
use offload::tc::attributes::Writer;
use offload::tc::client::{Netlink as _, Tc};
use offload::tc::{Devices, FilterId, Hook, block_of_bond, write};
use offload::{PortKind, Reason, Tiered};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Port 5 is a bond; its members are interfaces 11 and 12, which are no ports. Ports 1 and 2 are functions.
const BOND: u32 = 5;
const BLOCK: u32 = block_of_bond(BOND);

#[derive(Clone, Debug)]
struct Bonded(Arc<AtomicU32>);

impl Devices for Bonded {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        Some(port.0)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        Some(DpPort(ifindex))
    }

    fn hook(&self, port: DpPort) -> Option<Hook> {
        Some(if port.0 == BOND { Hook::Block { number: BLOCK } } else { Hook::Ingress { ifindex: port.0 } })
    }

    fn width(&self, port: DpPort) -> u32 {
        if port.0 == BOND { self.0.load(Ordering::Relaxed) } else { 1 }
    }
}

type Switch = Tiered<Reference, Tc<Model, Bonded>>;

fn switch(options: Options) -> Switch {
    let dp = Reference::new();
    for n in [1, 2, BOND] {
        let wish = PortRequest { name: format!("p{n}"), kind: "dummy".into(), number: Some(DpPort(n)), ..PortRequest::default() };
        dp.port_add(&wish).unwrap();
    }
    let mut can = Capabilities { ct: false, eth_push_pop: false, ..Capabilities::all() };
    can.ports.extend([1, 2, BOND].map(|n| (DpPort(n), PortKind::Switch(1))));
    Tiered::new(dp, Tc::new(Model::new(options), Bonded(Arc::new(AtomicU32::new(2)))), can)
}

/// With both members in the block.
fn bonded(options: Options) -> Switch {
    let dp = switch(options);
    [11, 12].iter().for_each(|member| dp.hardware().join(*member, BLOCK).unwrap());
    dp
}

fn put(dp: &Switch, n: u32, in_port: u32, actions: &str) {
    let text =
        format!("packet_type(ns=0,id=0),recirc_id(0),in_port({in_port}),eth_type(0x0800),ipv4(dst=10.0.0.{n},proto=17,frag=no)");
    let parsed = parse_flow(&text, &NoNames).unwrap();
    let actions = Arc::new(parse_actions(actions, &NoNames).unwrap());
    let flow = Megaflow { ufid: Ufid(n.into()), key: parsed.key, mask: parsed.mask, actions };
    dp.put(&[FlowPut { flow, mode: PutMode::CreateOrModify, clear_stats: false }])[0].clone().unwrap();
}

/// Where hardware sends a packet of megaflow `n` that comes in by an interface; `None` if it has no rule for it.
fn forwarded(dp: &Switch, n: u32, ifindex: u32) -> Option<Vec<u32>> {
    let text = format!("packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x0800),ipv4(dst=10.0.0.{n},proto=17,frag=no)");
    let packet = compose(&parse_flow(&text, &NoNames).unwrap().key, Payload::Len(20));
    match dp.hardware().link().receive(DpPort(ifindex), &packet) {
        Outcome::Done(sent) => Some(sent.iter().map(|s| s.port.0).collect()),
        Outcome::Missed => None,
        Outcome::MissedInChain(chain) => panic!("chain {chain}"),
    }
}

fn reason(dp: &Switch, n: u32) -> Option<(Reason, String)> {
    dp.reason(Ufid(n.into())).map(|why| (why.reason, why.what))
}

#[test]
fn a_rule_of_a_bond_is_met_by_whichever_member_a_packet_comes() {
    let dp = bonded(Options::default());
    put(&dp, 1, BOND, "1");
    put(&dp, 2, 1, "5");
    assert_eq!((reason(&dp, 1), reason(&dp, 2), dp.hardware().link().rules()), (None, None, 2));
    assert_eq!((forwarded(&dp, 1, 11), forwarded(&dp, 1, 12), forwarded(&dp, 1, 2)), (Some(vec![1]), Some(vec![1]), None));
    assert_eq!(forwarded(&dp, 2, 1), Some(vec![BOND]), "the way out is the bond, which chooses among its members");
    assert_eq!(dp.get(Ufid(1)).unwrap().stats.packets, 2, "what came by both counts");
    assert_eq!(dp.audit().unwrap().0, 0);
}

#[test]
fn a_rule_that_is_not_in_every_member_counts_as_refused() {
    let dp = bonded(Options { partial: vec![0], ..Options::default() });
    put(&dp, 1, BOND, "1");
    assert_eq!(reason(&dp, 1), Some((Reason::NotInHardware, "1of2".to_owned())));
    assert_eq!(dp.hardware().link().rules(), 0);
}

#[test]
fn members_come_and_go_while_rules_stand() {
    let dp = bonded(Options::default());
    put(&dp, 1, BOND, "1");
    dp.hardware().join(13, BLOCK).unwrap();
    dp.hardware().devices().0.store(3, Ordering::Relaxed);
    let now = now_ms();
    dp.tick(now + 1_000);
    assert_eq!((reason(&dp, 1), forwarded(&dp, 1, 13)), (None, Some(vec![1])), "a new member has the rules at once");
    dp.hardware().devices().0.store(2, Ordering::Relaxed);
    assert_eq!(dp.hardware().leave(11), Ok(true));
    dp.tick(now + 2_000);
    assert_eq!((reason(&dp, 1), forwarded(&dp, 1, 11), forwarded(&dp, 1, 12)), (None, None, Some(vec![1])));
    // One that goes by itself is missed: the rule is in one device where two are wanted.
    assert_eq!(dp.hardware().leave(12), Ok(true));
    assert_eq!(dp.audit().unwrap().0, 1);
    dp.tick(now + 3_000);
    assert_eq!(reason(&dp, 1).map(|(why, _)| why), Some(Reason::Lost));
    assert_eq!(dp.hardware().link().rules(), 0, "and what is left of it is gone");
}

#[test]
fn a_block_is_swept_whole_and_members_that_are_in_none_of_ours_are_left_alone() {
    let dp = bonded(Options::default());
    put(&dp, 1, BOND, "1");
    let tc = dp.hardware();
    assert_eq!((tc.sweep(DpPort(BOND)), tc.link().rules()), (Ok(1), 0));
    put(&dp, 2, BOND, "1");
    assert_eq!((tc.sweep_device(11), tc.link().rules()), (Ok(1), 0), "as the next life finds it, by a member");
    assert_eq!((tc.leave(11), tc.leave(11), tc.leave(1)), (Ok(true), Ok(false), Ok(false)));
}

#[test]
fn a_device_that_shares_no_block_or_that_others_use_does_not_join() {
    let refused = |dp: &Switch, member| matches!(dp.hardware().join(member, BLOCK), Err(HardwareError::Clsact(_)));
    assert!(refused(&switch(Options { shares: false, ..Options::default() }), 11));
    let dp = switch(Options::default());
    put(&dp, 1, 1, "2");
    assert!(refused(&dp, 1), "filters hang from it");
    assert_eq!((reason(&dp, 1), dp.hardware().link().rules()), (None, 1));
    dp.hardware().join(11, BLOCK).unwrap();
    dp.hardware().join(11, BLOCK).unwrap();
    assert!(matches!(dp.hardware().join(11, BLOCK + 1), Err(HardwareError::Clsact(_))), "another block");
    // Without its block a bond has no hardware.
    let alone = switch(Options::default());
    put(&alone, 1, BOND, "1");
    assert_eq!(reason(&alone, 1).map(|(why, _)| why), Some(Reason::Driver));
}

#[test]
fn a_bond_is_asked_what_it_takes_by_its_block() {
    let bench = Bench { port: Some(BOND), peers: [Some(1), Some(2)], block: Some((BLOCK, 2)), ..Bench::default() };
    let lacks = |options| bonded(options).hardware().probe(&bench).unwrap().map(|l| l.to_string());
    assert_eq!(lacks(Options::default()).as_deref(), Some("takes all"));
    assert_eq!(lacks(Options { partial: vec![1], ..Options::default() }).as_deref(), Some("lacks eth(src)"));
}

/// Requests for a block of somebody else's go by its number alone.
#[test]
fn a_blocks_messages_name_no_device() {
    let id = FilterId { hook: Hook::Block { number: BLOCK }, chain: 0, prio: 1, handle: 1, protocol: 0x0800 };
    let mut out = Writer::default();
    write::delete(&mut out, 1, id);
    let word = |at: usize| u32::from_ne_bytes(out.bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(20), word(28)), (u32::MAX, BLOCK));
    assert!(Model::default().talk(&out.bytes).unwrap().len() > 20);
}
