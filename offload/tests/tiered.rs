//! The tier over the software switch's reference and the eSwitch model: what it does by itself, with the time as an argument.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod small;

use flow::action_text::parse_actions;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::seam::{FlowPut, Placement, PutMode};
use flow::{Datapath, DpPort, Megaflow, Ufid};
use offload::model::{Model, Options, Outcome, SameNumbers};
use offload::tc::client::Tc;
use offload::{Reason, Tiered};
use std::sync::Arc;

use small::{Switch, capabilities, megaflow, put, software, tiered};

/// A packet of megaflow `n`: to hardware, and to software if hardware has no rule for it.
fn send(dp: &Switch, n: u32, times: usize) {
    let packet = compose(&megaflow(n, "2").key, Payload::Len(20));
    for _ in 0..times {
        if dp.hardware().link().receive(DpPort(1), &packet) == Outcome::Missed {
            dp.inner().inject(DpPort(1), &packet);
            let _ = dp.inner().sent();
        }
    }
}

fn packets(dp: &Switch, n: u32) -> u64 {
    dp.get(Ufid(n.into())).unwrap().stats.packets
}

fn reason(dp: &Switch, n: u32) -> Option<Reason> {
    dp.reason(Ufid(n.into())).map(|why| why.reason)
}

#[test]
fn a_refusal_that_may_pass_is_tried_again_and_one_that_may_not_is_not() {
    let dp = tiered(Options { refuse: vec![0, 1], ..Options::default() });
    let before = now_ms();
    put(&dp, 1, "2");
    put(&dp, 2, "trunc(60),2");
    let now = now_ms();
    assert_eq!((reason(&dp, 1), reason(&dp, 2)), (Some(Reason::Driver), Some(Reason::Action)));
    dp.tick(before + 900);
    assert_eq!(reason(&dp, 1), Some(Reason::Driver), "not yet");
    dp.tick(now + 1_100);
    assert_eq!(reason(&dp, 1), Some(Reason::Driver), "refused again");
    dp.tick(now + 2_500);
    assert_eq!(reason(&dp, 1), Some(Reason::Driver), "it waits longer now");
    dp.tick(now + 3_300);
    assert_eq!((reason(&dp, 1), reason(&dp, 2)), (None, Some(Reason::Action)));
    send(&dp, 1, 5);
    assert_eq!(packets(&dp, 1), 5);
}

/// Where somebody else's filter is in the way, the next handle is tried at once, and others after a while.
#[test]
fn somebody_elses_filter_at_a_place_keeps_no_megaflow_out() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    [2, 4, 5].iter().for_each(|handle| dp.hardware().link().duplicate(*handle));
    put(&dp, 2, "2");
    assert_eq!((reason(&dp, 2), dp.hardware().link().rules()), (None, 5), "at 3");
    put(&dp, 3, "2");
    assert_eq!(reason(&dp, 3), Some(Reason::Driver), "neither at 4 nor at 5");
    dp.tick(now_ms() + 1_100);
    assert_eq!((reason(&dp, 3), dp.hardware().link().rules()), (None, 6), "at 6");
    send(&dp, 3, 5);
    assert_eq!(packets(&dp, 3), 5);
}

/// A rule that matches a second label takes packets that have it, and no others.
#[test]
fn a_label_under_the_first_is_matched_by_hardware() {
    let dp = tiered(Options::default());
    let lse = |label: u32, bottom: u32| (label << 12 | bottom << 8 | 64).to_be_bytes();
    let flow = "packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x8847),\
                mpls(label=1,tc=0/0,ttl=0/0,bos=0/0,label=2,tc=0/0,ttl=0/0,bos=0/0)";
    let parsed = parse_flow(flow, &NoNames).unwrap();
    let actions = Arc::new(parse_actions("pop_mpls(eth_type=0x8847),2", &NoNames).unwrap());
    let flow = Megaflow { ufid: Ufid(1), key: parsed.key, mask: parsed.mask, actions };
    dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }])[0].clone().unwrap();
    assert_eq!(reason(&dp, 1), None);
    let receive = |labels: [[u8; 4]; 3]| {
        let mut key = megaflow(1, "2").key;
        (key.eth_type, [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2]) = ([0x88, 0x47], labels);
        match dp.hardware().link().receive(DpPort(1), &compose(&key, Payload::Len(20))) {
            Outcome::Done(sent) => Some(sent[0].bytes[14..18].to_vec()),
            Outcome::Missed | Outcome::MissedInChain(_) => None,
        }
    };
    let none = [0; 4];
    assert_eq!(receive([lse(1, 0), lse(2, 1), none]), Some(lse(2, 1).to_vec()));
    assert_eq!(receive([lse(1, 0), lse(2, 0), lse(3, 1)]), Some(lse(2, 0).to_vec()));
    assert_eq!((receive([lse(1, 0), lse(3, 1), none]), receive([lse(1, 1), none, none])), (None, None));
}

/// A megaflow that stands twice in a batch is in hardware once, as it was put last.
#[test]
fn the_last_of_two_puts_in_a_batch_counts() {
    let dp = tiered(Options::default());
    let put = |actions: &str| FlowPut { flow: megaflow(1, actions), mode: PutMode::CreateOrModify, clear_stats: false };
    assert!(dp.put(&[put("2"), put("3")]).iter().all(Result::is_ok));
    assert_eq!((reason(&dp, 1), dp.hardware().link().rules(), dp.audit().unwrap().0), (None, 1, 0));
    let packet = compose(&megaflow(1, "2").key, Payload::Len(20));
    let Outcome::Done(sent) = dp.hardware().link().receive(DpPort(1), &packet) else { panic!("hardware has it") };
    assert_eq!(sent.iter().map(|s| s.port).collect::<Vec<_>>(), [DpPort(3)]);
    assert!(dp.put(&[put("2"), put("trunc(60),3")]).iter().all(Result::is_ok));
    assert_eq!((reason(&dp, 1), dp.hardware().link().rules()), (Some(Reason::Action), 0));
}

#[test]
fn a_port_tells_what_hardware_has_of_it() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    put(&dp, 2, "trunc(60),2");
    send(&dp, 1, 3);
    assert_eq!(packets(&dp, 1), 3);
    let told: Vec<u64> = dp.port_custom_stats(DpPort(1)).into_iter().map(|(_, n)| n).collect();
    assert_eq!(told[..4], [1, 0, 1, 3]);
    assert!(told[4] >= 3 * 60);
    dp.del(&[Ufid(1)])[0].clone().unwrap();
    assert_eq!(dp.port_custom_stats(DpPort(1))[3], ("offload_rx_packets".to_owned(), 3), "what passed is not forgotten");
    dp.set_enabled(false);
    assert!(dp.port_custom_stats(DpPort(1)).is_empty());
}

/// Whoever is asked during an audit may ask the back end in turn, as the tier does under its own lock.
#[test]
fn an_audit_holds_up_nobody() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    let tc = dp.hardware();
    let sights = tc.audit(DpPort(1), &|ufid| tc.stats(ufid).and(None)).unwrap();
    assert_eq!(sights.len(), 1);
}

#[test]
fn a_lost_rule_is_noticed_its_packets_are_not_forgotten_and_it_comes_back() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    send(&dp, 1, 3);
    let now = now_ms();
    dp.tick(now + 1_000);
    dp.hardware().link().lose_all();
    send(&dp, 1, 2);
    assert_eq!(packets(&dp, 1), 5);
    dp.tick(now + 2_000);
    assert_eq!(reason(&dp, 1), Some(Reason::Lost));
    assert_eq!(dp.get(Ufid(1)).unwrap().placement, Placement::Declined("lost".into()));
    send(&dp, 1, 2);
    dp.tick(now + 4_000);
    assert_eq!(reason(&dp, 1), None);
    send(&dp, 1, 4);
    assert_eq!(packets(&dp, 1), 11);
    assert_eq!(dp.del(&[Ufid(1)])[0].clone().unwrap().packets, 11);
}

#[test]
fn a_full_table_lets_in_whoever_waits_when_there_is_room() {
    let dp = tiered(Options { capacity: 2, ..Options::default() });
    dp.set_rebalance(false);
    (1..=3).for_each(|n| put(&dp, n, "2"));
    assert_eq!(reason(&dp, 3), Some(Reason::TableFull));
    let now = now_ms();
    dp.del(&[Ufid(1)])[0].clone().unwrap();
    dp.tick(now + 1);
    assert_eq!(reason(&dp, 3), None, "at once, not when its wait is over");
}

#[test]
fn busier_megaflows_take_the_places_of_idle_ones_and_equals_do_not() {
    let run = |rebalance: bool| {
        let dp = tiered(Options { capacity: 2, ..Options::default() });
        dp.set_rebalance(rebalance);
        (1..=4).for_each(|n| put(&dp, n, "2"));
        let start = now_ms();
        for second in 0..20 {
            send(&dp, 1, 100);
            send(&dp, 3, 300);
            send(&dp, 4, 110);
            dp.tick(start + second * 1_000);
        }
        let inside: Vec<u32> = (1..=4).filter(|n| reason(&dp, *n).is_none()).collect();
        let counted: Vec<u64> = (1..=4).map(|n| packets(&dp, n)).collect();
        assert_eq!(counted, [2_000, 0, 6_000, 2_200], "however they went in and out");
        inside
    };
    assert_eq!(run(true), [1, 3], "3 took the place of 2; 4 is not twice as busy as 1");
    assert_eq!(run(false), [1, 2]);
}

#[test]
fn a_megaflow_is_not_idle_for_a_counter_that_is_late() {
    let dp = tiered(Options { lag: true, ..Options::default() });
    put(&dp, 1, "2");
    let stats = || {
        let mut out = Vec::new();
        dp.stats_of(&[Ufid(1)], &mut out);
        out[0].unwrap()
    };
    send(&dp, 1, 3);
    let (first, second) = (stats(), stats());
    assert_eq!((first.packets, second.packets), (0, 3), "the model told the old counter first");
    assert!(now_ms() - first.used_ms < 1_000, "{first:?}: as if it had just been used");
    assert_eq!(dp.del(&[Ufid(1)])[0].clone().unwrap().packets, 3);
}

#[test]
fn what_hardware_forwards_is_used_and_not_unwanted() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    let used = || dp.get(Ufid(1)).unwrap().stats.used_ms;
    assert_eq!(used(), 0);
    send(&dp, 1, 1);
    assert!(now_ms() - used() < 1_000);
}

#[test]
fn switched_on_later_what_is_there_goes_in_and_off_it_goes_out_with_its_counters() {
    let dp: Switch = Tiered::idle(software(), Tc::new(Model::default(), SameNumbers));
    dp.set_capabilities(capabilities(&[1, 2, 3, 4]), 0);
    (1..=3).for_each(|n| put(&dp, n, "2"));
    send(&dp, 1, 2);
    assert_eq!((dp.hardware().link().rules(), dp.census()), (0, (0, vec![])), "off: the tier knows of nothing");
    dp.set_enabled(true);
    assert_eq!((dp.hardware().link().rules(), dp.census().0), (3, 3));
    send(&dp, 1, 4);
    dp.set_enabled(false);
    assert_eq!(dp.hardware().link().rules(), 0);
    send(&dp, 1, 1);
    assert_eq!(packets(&dp, 1), 7);
    dp.set_enabled(true);
    assert_eq!((dp.hardware().link().rules(), packets(&dp, 1)), (3, 7));
}

#[test]
fn ports_that_go_take_their_megaflows_out_and_ports_that_come_let_them_in() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    put(&dp, 2, "3");
    put(&dp, 3, "2,3");
    let now = now_ms();
    dp.set_capabilities(capabilities(&[1, 2]), now);
    let all = |dp: &Switch| [1, 2, 3].map(|n| reason(dp, n));
    assert_eq!(all(&dp), [None, Some(Reason::OutPort), Some(Reason::OutPort)]);
    assert_eq!(dp.hardware().link().rules(), 1);
    dp.set_capabilities(capabilities(&[2, 3]), now);
    assert_eq!(all(&dp), [Some(Reason::InPort), Some(Reason::OutPort), Some(Reason::OutPort)]);
    dp.tick(now);
    assert_eq!(all(&dp), [Some(Reason::InPort); 3]);
    dp.set_capabilities(capabilities(&[1, 2, 3]), now);
    dp.tick(now);
    assert_eq!((all(&dp), dp.hardware().link().rules()), ([None; 3], 3));
}

#[test]
fn a_port_that_is_dirty_is_swept_and_its_megaflows_come_back() {
    let dp = tiered(Options { keep: vec![0], ..Options::default() });
    put(&dp, 1, "2");
    put(&dp, 2, "2");
    dp.del(&[Ufid(1)])[0].clone().unwrap();
    assert_eq!(dp.hardware().link().rules(), 2, "the model kept one");
    put(&dp, 3, "2");
    assert_eq!(reason(&dp, 3), Some(Reason::PortDirty));
    send(&dp, 2, 3);
    let now = now_ms();
    dp.tick(now + 3_000);
    dp.tick(now + 3_500);
    assert_eq!(dp.hardware().link().rules(), 2);
    assert_eq!((reason(&dp, 2), reason(&dp, 3), packets(&dp, 2)), (None, None, 3));
    assert!(dp.audit().unwrap().1.ends_with("2 rules as they should be, 0 differences\n"));
}

#[test]
fn the_operator_is_told_the_truth() {
    let dp = tiered(Options { capacity: 2, ..Options::default() });
    put(&dp, 1, "2");
    put(&dp, 2, "trunc(60),2");
    put(&dp, 3, "7");
    put(&dp, 4, "3");
    put(&dp, 5, "3");
    let show = dp.show();
    for part in [
        ": offload on\n",
        "  hardware: 2 megaflows, 2 rules, 1 preferences\n",
        "  software: 3 megaflows, 1 to be tried again\n",
        "    out-port 1: an output port has no hardware\n",
        "    table-full 1: the hardware's table is full\n",
        "  port 1 (p1): switch 1, hardware 2, out-port 1, action 1, table-full 1, not probed\n",
        "  port 2 (p2): switch 1, hardware 0, not probed\n",
    ] {
        assert!(show.contains(part), "{part:?} in\n{show}");
    }
    let why = |n: u32| dp.why(Some(Ufid(n.into())));
    assert_eq!(why(1).unwrap(), "ufid:00000000-0000-0000-0000-000000000001 hardware\n");
    let text = "ufid:00000000-0000-0000-0000-000000000002 software, action: trunc: the hardware has no such action\n";
    assert_eq!(why(2).unwrap(), text);
    assert_eq!(why(9), None);
    assert_eq!(dp.why(None).unwrap().lines().count(), 3);
    assert_eq!(dp.get(Ufid(3)).unwrap().placement, Placement::Declined("out-port(7)".into()));
    // A long answer says how much it leaves out.
    (10..1_012).for_each(|n| put(&dp, n, "7"));
    let all = dp.why(None).unwrap();
    assert_eq!((all.lines().count(), all.lines().last()), (1_001, Some("5 more are in software")));
}

#[test]
fn an_audit_names_each_difference_and_a_sweep_removes_what_is_nobodys() {
    let dp = tiered(Options::default());
    (1..=3).for_each(|n| put(&dp, n, "2"));
    assert_eq!(dp.audit().unwrap(), (0, "3 rules as they should be, 0 differences\n".to_owned()));
    dp.hardware().link().duplicate(0x99);
    dp.hardware().link().lose(1);
    let (differences, text) = dp.audit().unwrap();
    assert_eq!(differences, 2, "{text}");
    assert!(text.contains("p1 chain 0 pref 16384 handle 0x99: bears our mark, but belongs to no megaflow\n"), "{text}");
    assert!(text.contains(": missing\n"), "{text}");
    assert_eq!(dp.sweep(), Ok(1));
    let now = now_ms();
    dp.tick(now + 1_000);
    dp.tick(now + 3_000);
    assert_eq!(dp.audit().unwrap().0, 0);
}

#[test]
fn preferences_are_given_back_with_their_last_rule() {
    let dp = tiered(Options::default());
    put(&dp, 1, "2");
    put(&dp, 2, "2");
    let other = parse_flow("packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x0806)", &NoNames).unwrap();
    let actions = Arc::new(parse_actions("2", &NoNames).unwrap());
    let flow = Megaflow { ufid: Ufid(9), key: other.key, mask: other.mask, actions };
    dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }])[0].clone().unwrap();
    assert_eq!(dp.hardware().usage().1, 2);
    assert!(dp.del(&[Ufid(1), Ufid(9)]).into_iter().all(|r| r.is_ok()));
    assert_eq!(dp.hardware().usage().1, 1);
    dp.del(&[Ufid(2)])[0].clone().unwrap();
    assert_eq!(dp.hardware().usage(), (0, 0, vec![]));
}

#[test]
fn what_would_be_narrowed_is_narrowed_beforehand() {
    let dp = tiered(Options::default());
    let text = "packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)";
    let parsed = parse_flow(text, &NoNames).unwrap();
    let mut key = parsed.key.clone();
    key.nw_proto = 17;
    let actions = Arc::new(parse_actions("set(ipv4(dst=1.2.3.4)),2", &NoNames).unwrap());
    let mut mask = parsed.mask.clone();
    dp.narrow(&key, &actions, &mut mask);
    assert_eq!((parsed.mask.nw_proto, mask.nw_proto), (0, 0xff), "the checksum is UDP's");
    dp.set_enabled(false);
    let mut mask = parsed.mask.clone();
    dp.narrow(&key, &actions, &mut mask);
    assert_eq!(mask.nw_proto, 0);
}

#[test]
fn many_megaflows_go_in_and_are_counted_together() {
    const FLOWS: u32 = 500;
    let dp = tiered(Options::default());
    let puts: Vec<FlowPut> =
        (0..FLOWS).map(|n| FlowPut { flow: megaflow(n, "2"), mode: PutMode::Create, clear_stats: false }).collect();
    assert!(dp.put(&puts).into_iter().all(|r| r.is_ok()));
    assert_eq!((dp.census().0, dp.hardware().link().rules()), (FLOWS as usize, FLOWS as usize));
    let ufids: Vec<Ufid> = (0..FLOWS).map(|n| Ufid(n.into())).collect();
    let mut out = Vec::new();
    dp.stats_of(&ufids, &mut out);
    assert!(out.iter().all(Option::is_some));
    assert!(dp.del(&ufids).into_iter().all(|r| r.is_ok()));
    assert_eq!(dp.hardware().link().rules(), 0);
}
