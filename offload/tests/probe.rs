//! A port is asked what it takes: what it lacks refuses by name, what it has goes into hardware, and nothing of the questions is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::{DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::hardware::HardwareError;
use offload::model::{Model, Options, SameNumbers};
use offload::probe::{Bench, Feature, Lacks, Thing, questions};
use offload::rule::Act;
use offload::tc::attributes::Writer;
use offload::tc::client::{Netlink as _, Tc};
use offload::tc::preferences::LOW;
use offload::tc::{Devices, FilterId, Hook, matches, write};
use offload::{PortKind, Reason, Rule, plan};
use std::ops::RangeInclusive;
use std::sync::Arc;

const BENCH: Bench = Bench { port: Some(1), peers: [Some(2), Some(3)], block: None, vxlan: None, geneve: None };

fn back_end(options: Options) -> Tc<Model, SameNumbers> {
    Tc::new(Model::new(options), SameNumbers)
}

fn names(lacks: &Lacks) -> Vec<String> {
    lacks.all().iter().map(|(f, _)| f.to_string()).collect()
}

fn try_plan(lacks: Lacks, flow: &str, actions: &str) -> Result<(), (Reason, String)> {
    let mut can = Capabilities::all();
    can.ports.extend((1..=3).map(|n| (DpPort(n), PortKind::Switch(1))));
    can.lacks.insert(DpPort(1), Arc::new(lacks));
    let parsed = parse_flow(&format!("packet_type(ns=0,id=0),recirc_id(0),{flow}"), &NoNames).unwrap();
    let actions = Arc::new(parse_actions(actions, &NoNames).unwrap());
    let flow = Megaflow { ufid: Ufid(1), key: parsed.key, mask: parsed.mask, actions };
    plan(&flow, &can).map(|_| ()).map_err(|why| (why.reason, why.to_string()))
}

#[test]
fn a_port_that_takes_all_lacks_nothing() {
    let tc = back_end(Options::default());
    let lacks = tc.probe(&BENCH).unwrap().unwrap();
    assert_eq!((lacks.to_string().as_str(), tc.link().rules(), tc.usage().0), ("takes all", 0, 0));
    assert_eq!(try_plan(lacks, "in_port(1),eth_type(0x0800)", "push_vlan(vid=5,pcp=0),2"), Ok(()));
}

#[test]
fn what_a_port_lacks_refuses_by_name() {
    let without = ["vlan", "mpls", "police"].map(str::to_owned).to_vec();
    let lacks = back_end(Options { without, ..Options::default() }).probe(&BENCH).unwrap().unwrap();
    assert_eq!(names(&lacks), ["push_vlan", "pop_vlan", "push_mpls", "pop_mpls", "set(mpls)", "check_pkt_len"]);
    assert!(lacks.all()[0].1.contains("the hardware has no such action"), "in the driver's words");
    let flow = "in_port(1),eth_type(0x0800)";
    let refused = try_plan(lacks.clone(), flow, "push_vlan(vid=5,pcp=0),2").unwrap_err();
    let text = "push_vlan: the port's hardware was asked for this, and does not take it";
    assert_eq!(refused, (Reason::Probe, text.to_owned()));
    assert_eq!(try_plan(lacks.clone(), flow, "set(eth(dst=02:00:00:00:00:ab)),3,2"), Ok(()));
    assert_eq!(try_plan(lacks, "in_port(2),eth_type(0x0800)", "push_vlan(vid=5,pcp=0),1"), Ok(()), "another port was not asked");
}

#[test]
fn matches_are_asked_for_one_by_one() {
    let mut lacks = Lacks::default();
    let asked = questions(&BENCH).into_iter().find(|(f, _)| f.is_some_and(|f| f.to_string() == "ip(ttl)")).unwrap();
    lacks.add(asked.0.unwrap(), String::new());
    assert_eq!(try_plan(lacks.clone(), "in_port(1),eth_type(0x0800),ipv4(ttl=64)", "2").unwrap_err().0, Reason::Probe);
    assert_eq!(try_plan(lacks, "in_port(1),eth_type(0x0800),ipv4(ttl=64/0)", "2"), Ok(()));
}

/// The first question is a rule that only sends packets on; a device that does not take it says nothing about the rest.
#[test]
fn who_takes_no_rule_at_all_is_not_known() {
    for options in [
        // It is asked twice: at a high preference, and at a low one.
        Options { refuse: vec![0, 1], ..Options::default() },
        Options { not_in_hw: vec![0, 1], ..Options::default() },
        Options { capacity: 0, ..Options::default() },
        Options { ports: vec![2, 3], ..Options::default() },
    ] {
        let tc = back_end(options);
        assert_eq!((tc.probe(&BENCH), tc.link().rules()), (Ok(None), 0));
    }
    let alone = Bench { peers: [None, None], ..BENCH };
    assert_eq!(back_end(Options::default()).probe(&alone), Ok(None), "there is nobody to send to");
}

/// Interface n is port n, whose driver knows few preferences.
#[derive(Debug)]
struct Low;

impl Devices for Low {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        SameNumbers.ifindex(port)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        SameNumbers.port(ifindex)
    }

    fn preferences(&self, _port: DpPort) -> RangeInclusive<u16> {
        LOW
    }
}

/// As some NICs do without a newer firmware (decision 0101).
#[test]
fn a_driver_that_knows_16_preferences_gets_low_ones() {
    let options = Options { preference_max: 16, without: vec!["mpls".to_owned()], ..Options::default() };
    let lacks = back_end(options.clone()).probe(&BENCH).unwrap().unwrap();
    assert_eq!(lacks.to_string(), "low preferences, lacks push_mpls pop_mpls set(mpls)");
    let tc = Tc::new(Model::new(options), Low);
    // More sets of masks of one protocol than there are preferences, beside somebody else's filter.
    let rules: Vec<Rule> =
        questions(&BENCH).into_iter().map(|(_, rule)| rule).filter(|r| matches::protocol(&r.link) == 0x0800).collect();
    let hook = Hook::Ingress { ifindex: 1 };
    let id = FilterId { hook, chain: 0, prio: 3, handle: 1, protocol: matches::protocol(&rules[0].link) };
    let mut request = Writer::default();
    write::create(&mut request, 1, id, &rules[0], b"theirs", &Low).unwrap();
    tc.link().talk(&request.bytes).unwrap();
    assert_eq!(tc.sweep_device(1), Ok(0));
    let mpls = |rule: &Rule| rule.acts.iter().any(|a| matches!(a, Act::MplsPush { .. }));
    let rules: Vec<&Rule> = rules.iter().filter(|r| !mpls(r)).collect();
    let taken = (0..).zip(&rules).filter(|(n, rule)| tc.install(Ufid(*n), rule) == Ok(())).count();
    assert_eq!((taken, tc.usage().1), (rules.len(), 15));
    assert!(rules.len() > 16 && tc.link().rules() == rules.len() + 1);
    assert_eq!((tc.sweep(DpPort(1)), tc.link().rules()), (Ok(rules.len()), 1), "somebody else's is still there");
}

#[test]
fn a_driver_that_takes_without_doing_it_lacks_it() {
    let nth = |n: u64| vec![n];
    for options in [Options { not_in_hw: nth(1), ..Options::default() }, Options { corrupt: nth(1), ..Options::default() }] {
        let tc = back_end(options);
        let lacks = tc.probe(&BENCH).unwrap().unwrap();
        assert_eq!((names(&lacks), tc.link().rules()), (vec!["eth(src)".to_owned()], 0));
    }
}

/// A question that cannot be taken out again is an error, and the device is swept of it.
#[test]
fn a_question_that_stays_is_swept() {
    let tc = back_end(Options { keep: vec![0], ..Options::default() });
    assert!(matches!(tc.probe(&BENCH), Err(HardwareError::Remove(_))));
    assert_eq!((tc.link().rules(), tc.sweep_device(1), tc.link().rules()), (1, Ok(1), 0));
}

/// Somebody else's filter at the place of a question stays, and what could not be asked is not said to be lacking.
#[test]
fn what_is_somebody_elses_is_not_touched() {
    let tc = back_end(Options::default());
    let (feature, rule) = questions(&BENCH).into_iter().nth(1).unwrap();
    let hook = Hook::Ingress { ifindex: 1 };
    let id = FilterId { hook, chain: 0, prio: 0x8001, handle: 1, protocol: matches::protocol(&rule.link) };
    let mut request = Writer::default();
    write::create(&mut request, 1, id, &rule, b"theirs", &SameNumbers).unwrap();
    tc.link().talk(&request.bytes).unwrap();
    let lacks = tc.probe(&BENCH).unwrap().unwrap();
    assert_eq!((tc.link().rules(), lacks.has(feature.unwrap())), (1, false));
    assert!(!lacks.has(Feature::Thing(Thing::Drop)));
}
