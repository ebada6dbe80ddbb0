//! What a translation promises, for random rules and packets: a key that agrees in the mask gets the same actions, and a packet
//! that the actions were applied to is the packet that the pipeline had in the end.
//!
//! A failure prints its seed; `FERRULE_SEED=N cargo test -p ofproto xlate` replays it, `FERRULE_SEEDS=N` tries the first N.

use super::trace::Trace;
use super::*;
use crate::flow_mod::{self, Journal};
use crate::group::{Bucket, Group};
use crate::scenario::{Scenario, config};
use flow::NoNames;
use flow::action_text::format_actions;
use flow::compose::{Payload, compose};
use flow::dptext::{format_flow, format_key};
use flow::extract::{Extracted, PacketMeta, extract_whole};
use flow::extract_gen::PacketGen;
use flow::fields::{Field, Value};
use flow::oftext::parse_match;
use flow::rewrite;
use flow::rewrite_headers::{self as headers_of, Label};
use openflow::GroupId;
use openflow::action::{HashFields, Multipath, SetForm, Subfield};
use openflow::message::{FlowMod, FlowModCommand, GroupType, SelectionMethod};
use openflow::text::Names;
use openflow::text::flow::{FlowSyntax, parse_flow};
use std::sync::Mutex;

/// What Debian's ovs-vswitchd and we agree upon; written by `tests/oracle/xlate.py --record`.
const CASES: &str = include_str!("cases.txt");
const SEEDS: u64 = 16;
const PACKETS: usize = 40;

/// A switch whose datapath numbers its ports as OVS's dummy datapath does.
fn switch_with_ports(numbers: &str) -> Scenario {
    let line = numbers.split_whitespace().fold("br0".to_owned(), |line, n| format!("{line} p{n}@{n}"));
    let mut config = config(&[&line]);
    config.vlan_limit = 1;
    for port in &mut config.bridges[0].ports {
        port.interfaces[0].device.number = Some(flow::DpPort(port.name[1..].parse().unwrap_or(100)));
    }
    Scenario::new(&config)
}

/// The lines of a trace that say what comes of it; how actions are worded depends on the OpenFlow version that brought them.
fn outcome(text: &str) -> Vec<&str> {
    let tells = ["Flow:", "Final flow:", "Megaflow:", "Datapath actions:", "Translation failed", "  - "];
    text.lines().filter(|line| tells.iter().any(|t| line.starts_with(t)) || line.contains(">>>>")).collect()
}

/// An expired packet goes to those that `dec_ttl` names, to controller 0 where it names nobody, and to none where it names none.
#[test]
fn an_expired_packet_is_told_to_whom_the_action_names() {
    for (controllers, told) in
        [(None, vec!["(reason=2,"]), (Some(vec![]), vec![]), (Some(vec![3, 5]), vec!["controller_id=3", "controller_id=5"])]
    {
        let switch = switch_with_ports("1 2");
        let syntax = FlowSyntax::Command(FlowModCommand::Add);
        let mut parsed = parse_flow("in_port=1,ip,actions=dec_ttl,2", syntax, &Names::default()).unwrap();
        parsed.flow.actions[0] = OfAction::DecTtl { controllers };
        let world = switch.slowpath.write_world();
        flow_mod::apply(&world, world.bridge_named("br0").unwrap().id, &parsed.flow, 0, &mut Journal::default()).unwrap();
        drop(world);
        let reply = switch.run_command("ofproto/trace", &["br0", "in_port=1,ip,nw_ttl=1"]).unwrap();
        let actions = reply.lines().find_map(|l| l.strip_prefix("Datapath actions: ")).unwrap();
        assert_eq!(actions == "drop", told.is_empty(), "{reply}");
        assert!(told.iter().all(|t| actions.contains(t)), "{reply}");
    }
}

#[test]
fn traces_come_to_what_ovs_says() {
    let mut compared = 0;
    for case in CASES.split("## ").skip(1) {
        let (name, body) = case.split_once('\n').unwrap();
        let mut switch = None;
        for step in body.split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
            let (verb, rest) = command.split_once(' ').unwrap();
            let (target, text) = rest.split_once(' ').unwrap();
            match verb {
                "ports" => switch = Some(switch_with_ports(text)),
                "flow" => {
                    let s: &Scenario = switch.as_ref().unwrap();
                    let syntax = FlowSyntax::Command(FlowModCommand::Add);
                    let parsed = parse_flow(text, syntax, &Names::default()).unwrap_or_else(|e| panic!("{name}: {text}: {e}"));
                    let world = s.slowpath.write_world();
                    let bridge = world.bridge_named(target).unwrap().id;
                    let mut journal = Journal::default();
                    flow_mod::apply(&world, bridge, &parsed.flow, 0, &mut journal).unwrap();
                }
                "trace" => {
                    let args: Vec<&str> = rest.split_whitespace().collect();
                    let reply = switch.as_ref().unwrap().run_command("ofproto/trace", &args).unwrap_or_else(|e| e);
                    compared += 1;
                    assert_eq!(outcome(&reply), outcome(expected), "{name}: {command}\n{reply}");
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(compared > 30, "only {compared}");
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("FERRULE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..std::env::var("FERRULE_SEEDS").map_or(SEEDS, |n| n.parse().unwrap()),
    }
}

struct Random(PacketGen);

impl Random {
    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.0.below(from.len())].clone()
    }

    fn byte(&mut self, below: usize) -> u8 {
        u8::try_from(self.0.below(below)).unwrap()
    }

    /// A packet of few values, so that rules hit it.
    fn packet(&mut self) -> Vec<u8> {
        let mut key = Key::ZERO;
        key.eth_src = [2, 0, 0, 0, 0, self.byte(4)];
        key.eth_dst = [2, 0, 0, 0, 0, self.byte(4)];
        let tag = |r: &mut Self| (r.one_of(&[[0x81, 0], [0x88, 0xa8]]), r.one_of(&[[0x10, 5], [0x10, 6], [0x30, 5]]));
        if self.0.below(3) == 0 {
            (key.vlan_tpid, key.vlan_tci) = tag(self);
            if self.0.below(3) == 0 {
                (key.vlan2_tpid, key.vlan2_tci) = tag(self);
            }
        }
        match self.0.below(8) {
            0 => {
                key.eth_type = [8, 6];
                key.nw_proto = 1 + self.byte(2);
                key.nw_src = [10, 0, 0, self.byte(4)];
                key.nw_dst = [10, 0, 0, self.byte(4)];
                key.arp_sha = key.eth_src;
            }
            1 | 2 => {
                key.eth_type = [0x86, 0xdd];
                key.ipv6_src = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.byte(4)];
                key.ipv6_dst = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.byte(4), self.byte(4)];
                key.nw_proto = self.one_of(&[6, 17]);
                Field::Ipv6Exthdr.set(&mut key, self.one_of(&[0, 0x20, 0x44, 0x08]));
            }
            4 if self.0.below(2) == 0 => {
                key.eth_type = [0x88, 0xe7];
                key.nw_src = [self.one_of(&[0, 0x60, 8]), 0, 0, self.byte(3)];
            }
            3 => {
                key.eth_type = [0x88, 0x47];
                key.mpls_lse0 = [0, self.byte(2), self.one_of(&[0x10, 0x14]), self.one_of(&[9, 3])];
                if self.0.below(2) == 0 {
                    key.mpls_lse0[2] |= 1;
                } else {
                    key.mpls_lse1 = [0, 1, 0x21, self.byte(4)];
                }
            }
            _ => {
                key.eth_type = [8, 0];
                key.nw_src = [10, 0, self.byte(4), self.byte(4)];
                key.nw_dst = [10, 0, self.byte(4), self.byte(4)];
                key.nw_proto = self.one_of(&[6, 17, 1]);
                key.nw_tos = self.one_of(&[0, 0x20, 0xfc]);
            }
        }
        key.nw_ttl = self.one_of(&[64, 64, 2, 1]);
        if key.nw_proto == 1 && key.eth_type == [8, 0] {
            key.tp_src = [0, self.one_of(&[0, 8])];
        } else if key.eth_type != [8, 6] {
            key.tp_src = self.one_of(&[1u16, 80, 443]).to_be_bytes();
            key.tp_dst = self.one_of(&[1u16, 80, 443]).to_be_bytes();
        }
        compose(&key, Payload::Len(20))
    }

    fn match_text(&mut self) -> String {
        let n = self.0.below(4);
        self.one_of(&[
            String::new(),
            format!("dl_dst=02:00:00:00:00:0{n}"),
            format!("dl_src=02:00:00:00:00:0{n}/00:00:00:00:00:01"),
            "dl_vlan=5".to_owned(),
            "vlan_tci=0x1000/0x1000".to_owned(),
            format!("ip,nw_dst=10.0.{n}.0/24"),
            "tcp,tp_dst=80".to_owned(),
            "udp6,tp_src=0/1".to_owned(),
            "mpls,mpls_bos=1".to_owned(),
            format!("reg0={n}"),
            "arp,arp_op=1".to_owned(),
            format!("dl_type=0x88e7,pbb_isid={n}/1"),
            "mpls,mpls_ttl=9".to_owned(),
            format!("ipv6,ipv6_exthdr={}/0x44", [0, 4, 0x40, 0x44][n]),
        ])
    }

    /// An action that changes headers in place.
    fn rewrite(&mut self) -> OfAction {
        let set = |field: &str, value: u128, mask: u128| OfAction::SetField {
            field: Field::by_name(field).unwrap(),
            value: Value::from(value),
            mask: Value::from(mask),
            form: SetForm::SetField,
        };
        match self.0.below(20) {
            17 => OfAction::SetMplsTtl(7),
            18 => OfAction::CopyTtlIn,
            0 => set("nw_dst", 0x0a00_0101, 0xffff_ffff),
            1 => set("nw_src", 0x0b00_0000, 0xff00_0000),
            2 => set("eth_dst", 0x0200_0000_0001, 0xffff_ffff_ffff),
            3 => set("tcp_dst", 81, 0xffff),
            4 => set("udp_src", 0x100, 0x100),
            5 => set("ipv6_dst", 1, 0xff),
            6 => OfAction::SetIpDscp(0x40),
            7 => OfAction::SetIpTtl(33),
            8 => OfAction::DecTtl { controllers: Some(vec![0]) },
            9 => OfAction::PushVlan { ethertype: self.one_of(&[0x8100, 0x88a8]) },
            10 | 11 => OfAction::StripVlan { pop: true },
            12 => OfAction::SetVlanVid { vid: 99, push_if_needed: self.0.below(2) == 0 },
            13 => OfAction::SetVlanPcp { pcp: 3, push_if_needed: true },
            14 => OfAction::SetMplsLabel(77),
            15 => OfAction::DecMplsTtl,
            16 => OfAction::PopMpls { ethertype: 0x8847 },
            _ => OfAction::SetEthSrc([2, 0, 0, 0, 0, 9]),
        }
    }

    fn action(&mut self, depth: usize) -> OfAction {
        let part = |name: &str, ofs: u16, bits: u16| Subfield { field: Field::by_name(name).unwrap(), ofs, bits };
        let output = |port| OfAction::Output { port, max_len: 0 };
        match self.0.below(30) {
            25 => OfAction::PushPbb,
            26 => OfAction::PopPbb,
            27 => set_isid(self.byte(3)),
            28 => OfAction::CopyTtlOut,
            0..=4 => output(OfPort(self.one_of(&[2, 3, 4, 9]))),
            5 => output(self.one_of(&[OfPort::NORMAL, OfPort::FLOOD, OfPort::IN_PORT, OfPort::CONTROLLER])),
            6..=12 => self.rewrite(),
            13 => OfAction::PushMpls { ethertype: 0x8847 },
            14 => OfAction::PopMpls { ethertype: 0x0800 },
            15 => OfAction::RegMove { src: part("nw_src", 0, 16), dst: part("reg0", 0, 16), onf: false },
            16 => OfAction::RegMove { src: part("eth_src", 0, 2), dst: part("reg0", 0, 2), onf: false },
            17 => OfAction::StackPush(part("eth_dst", 0, 48)),
            18 => OfAction::StackPop(part("eth_src", 0, 48)),
            19 => OfAction::Group(GroupId(u32::from(self.byte(4)) + 1)),
            20 if depth < 3 => OfAction::Clone(self.actions(depth + 1)),
            21 => OfAction::OutputReg { src: part("reg0", 0, 4), max_len: 0 },
            22 => OfAction::CheckPktLarger { len: 100, dst: part("reg0", 0, 1) },
            23 => OfAction::Multipath(Box::new(Multipath {
                fields: self.one_of(&[
                    HashFields::EthSrc,
                    HashFields::SymmetricL4,
                    HashFields::SymmetricL3L4Udp,
                    HashFields::NwDst,
                ]),
                basis: 3,
                algorithm: u16::from(self.byte(4)),
                max_link: 2,
                arg: 0,
                dst: part("reg0", 0, 4),
            })),
            24 => OfAction::WriteActions(vec![self.rewrite_for_set(), output(OfPort(3))]),
            _ => OfAction::Resubmit { port: OfPort::IN_PORT, table: TableId(self.byte(2) + 1), with_ct: false, has_table: true },
        }
    }

    fn rewrite_for_set(&mut self) -> OfAction {
        self.one_of(&[OfAction::DecTtl { controllers: None }, OfAction::SetEthDst([2; 6]), OfAction::StripVlan { pop: true }])
    }

    fn actions(&mut self, depth: usize) -> Vec<OfAction> {
        (0..=self.0.below(5)).map(|_| self.action(depth)).collect()
    }
}

fn set_isid(isid: u8) -> OfAction {
    let (value, mask) = (Value::from(u128::from(isid)), Value::ones(24));
    OfAction::SetField { field: Field::PbbIsid, value, mask, form: SetForm::SetField }
}

fn flow_mod(table: u8, priority: u16, matching: &str, actions: Vec<OfAction>) -> FlowMod {
    let matching = parse_match(matching).unwrap();
    FlowMod { table: TableId(table), matching, priority, actions, ..FlowMod::default() }
}

fn bucket(id: u32, actions: Vec<OfAction>) -> Bucket {
    Bucket {
        id,
        weight: 1 + u16::try_from(id).unwrap(),
        watch_port: OfPort::ANY,
        watch_group: GroupId::ANY,
        actions,
        tally: Arc::default(),
    }
}

/// A switch with random rules and groups, and its first bridge.
fn switch(random: &mut Random) -> (Scenario, BridgeId) {
    let s = Scenario::new(&config(&["br0 p1@1 p2@2 p3@3:tag=5 p4@4:trunks=5+6 x@9>y", "br1 y@9>x p5@5 p6@6"]));
    let mut world = s.slowpath.write_world();
    let bridges: Vec<BridgeId> = ["br0", "br1"].iter().map(|name| world.bridge_named(name).unwrap().id).collect();
    for (n, (kind, method)) in
        (1u32..).zip([(GroupType::All, ""), (GroupType::Select, ""), (GroupType::Select, "hash"), (GroupType::Indirect, "")])
    {
        let buckets = (0..if kind == GroupType::Indirect { 1 } else { 2 })
            .map(|i| bucket(i, vec![random.rewrite(), OfAction::Output { port: OfPort(2 + i), max_len: 0 }]))
            .collect();
        let fields = vec![(Field::by_name("nw_dst").unwrap(), Value::from(0xff))];
        let selection = SelectionMethod { method: method.to_owned(), param: 5, fields };
        let method = crate::group::Method::Default;
        let group =
            Group { id: GroupId(n), kind, buckets, selection, tally: Arc::default(), created_ms: 0, method }.with_method();
        world.bridges.get_mut(&bridges[0]).unwrap().groups.insert(GroupId(n), Arc::new(group));
    }
    for n in 0u16..12 {
        let bridge = bridges[usize::from(n % 6 == 5)];
        let (matching, actions) = (random.match_text(), random.actions(0));
        let table = random.one_of(&[0, 0, 1, 2]);
        let mut journal = Journal::default();
        if flow_mod::apply(&world, bridge, &flow_mod(table, n + 1, &matching, actions), 0, &mut journal).is_ok() {
            journal.commit(&world);
        }
    }
    drop(world);
    (s, bridges[0])
}

fn key_of(packet: &[u8]) -> Key {
    let mut key = Key::ZERO;
    extract_whole(packet, &PacketMeta::default(), &mut key);
    key.in_port = OfPort(1).to_key();
    key
}

/// Whether two packets are of the same kind, so that fields may be mixed.
fn alike(a: &Key, b: &Key) -> bool {
    let kind = |k: &Key| (k.eth_type, k.nw_frag, k.vlan_tci[0] & 0x10, k.vlan2_tci[0] & 0x10, CtxDepth::of(k));
    kind(a) == kind(b)
}

/// Labels of a packet.
#[derive(PartialEq)]
struct CtxDepth(usize);

impl CtxDepth {
    fn of(key: &Key) -> Self {
        Self(Ctx::mpls_depth(key))
    }
}

#[test]
fn what_is_not_in_the_mask_decides_nothing() {
    let mut compared = 0;
    for seed in seeds() {
        let mut random = Random(PacketGen::new(seed));
        let (s, bridge) = switch(&mut random);
        let world = s.slowpath.read_world();
        let keys: Vec<Key> = (0..PACKETS).map(|_| key_of(&random.packet())).collect();
        for key in &keys {
            let mut first = translate(&world, XlateIn::new(bridge, key, 0));
            match_vlan(&mut first.mask, key);
            for other in keys.iter().filter(|other| alike(key, other)) {
                let mut mixed = *other;
                for ((m, k), bits) in mixed.words_mut().iter_mut().zip(key.words()).zip(first.mask.words()) {
                    *m = *m & !bits | k & bits;
                }
                let second = translate(&world, XlateIn::new(bridge, &mixed, 0));
                compared += usize::from(mixed != *key);
                assert!(
                    (&first.actions, first.slow, first.error) == (&second.actions, second.slow, second.error),
                    "seed {seed}: megaflow {}\n of    {}\n gives {} ({:?})\n but   {}\n gives {} ({:?})",
                    format_flow(key, &first.mask, false, &NoNames),
                    format_key(key, &NoNames),
                    format_actions(&first.actions, &NoNames),
                    first.error,
                    format_key(&mixed, &NoNames),
                    format_actions(&second.actions, &NoNames),
                    second.error,
                );
            }
        }
    }
    assert!(compared > 1000, "only {compared}");
}

/// The packet that the datapath's actions make, at its last output.
fn apply(packet: &[u8], actions: &[Action]) -> Option<Vec<u8>> {
    let mut packet = packet.to_vec();
    let mut sent = None;
    for action in actions {
        let mut at: Extracted = extract_whole(&packet, &PacketMeta::default(), &mut Key::default());
        let mut packet_type = 0;
        #[allow(clippy::wildcard_enum_match_arm, reason = "the test makes no others")]
        match action {
            Action::Output(_) => sent = Some(packet.clone()),
            Action::Set(set) => assert!(rewrite::set(&mut packet, &at, set)),
            Action::PushVlan { tpid, tci } => headers_of::push_vlan(&mut packet, &mut at, *tpid, *tci).unwrap(),
            Action::PopVlan => headers_of::pop_vlan(&mut packet, &mut at).unwrap(),
            Action::PushMpls { lse, eth_type } => {
                let label = Label { lse: *lse, eth_type: *eth_type, l3: true };
                headers_of::push_mpls(&mut packet, &mut at, &mut packet_type, label).unwrap();
            }
            Action::PopMpls { eth_type } => headers_of::pop_mpls(&mut packet, &mut at, &mut packet_type, *eth_type).unwrap(),
            Action::CopyTtl { inwards } => headers_of::copy_ttl(&mut packet, &at, *inwards).unwrap(),
            Action::Userspace(_) => {}
            other => panic!("{other:?}"),
        }
    }
    sent
}

#[test]
fn the_actions_make_the_packet_that_the_pipeline_had() {
    let output = OfAction::Output { port: OfPort(2), max_len: 0 };
    let mut compared = 0;
    for seed in seeds() {
        let mut random = Random(PacketGen::new(seed));
        let s = Scenario::new(&config(&["br0 p1@1 p2@2"]));
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap().id;
        for _ in 0..PACKETS {
            let packet = random.packet();
            let key = key_of(&packet);
            let n = 1 + random.0.below(4);
            let mut actions: Vec<OfAction> = (0..n).map(|_| random.rewrite()).collect();
            if random.0.below(4) == 0 {
                actions.push(OfAction::PushMpls { ethertype: 0x8847 });
            }
            // An output in between: what follows must build upon it.
            actions.insert(random.0.below(n), output.clone());
            actions.push(output.clone());
            let mut trace =
                Trace::new(Box::new(|a| format!("{a:?}")), Box::new(|_, _| String::new()), Box::new(|_, _| String::new()));
            let input = XlateIn { actions: Some(&actions), trace: Some(&mut trace), ..XlateIn::new(bridge, &key, 0) };
            let done = translate(&world, input);
            let tags = |k: &Key| usize::from(k.vlan_tpid != [0; 2]) + usize::from(k.vlan2_tpid != [0; 2]);
            let pushes = actions.iter().filter(|a| matches!(a, OfAction::PushVlan { .. })).count();
            // Beneath two tags nothing is seen, so nothing can be promised; a TTL that ran out ends the list early.
            if done.error.is_some() || tags(&key) + pushes > 2 || trace.text().contains("exception") {
                continue;
            }
            let Some(sent) = apply(&packet, &done.actions) else { continue };
            let mut is = key_of(&sent);
            let mut should = *trace.final_key;
            should.actset_output = [0; 4];
            if Ctx::mpls_depth(&should) > Ctx::mpls_depth(&key) {
                // Beneath a label that was pushed the pipeline sees nothing.
                commit::forget_l3(&mut is);
            }
            compared += 1;
            assert!(
                is == should,
                "seed {seed}: {}\n {actions:?}\n {}\n makes {}\n not   {}",
                format_key(&key, &NoNames),
                format_actions(&done.actions, &NoNames),
                format_key(&is, &NoNames),
                format_key(&should, &NoNames),
            );
        }
    }
    assert!(compared > 200, "only {compared}");
}

/// As in OVS; ovs-ofctl takes two.
#[test]
fn of_several_translations_of_addresses_the_last_counts() {
    let s = Scenario::new(&config(&["br0 p1@1"]));
    s.slowpath.write_world().bridges.values_mut().for_each(|b| b.tracks_connections = true);
    s.flow_mod("br0", "ip,actions=ct(commit,nat(src=1.1.1.1),nat(dst=2.2.2.2))").unwrap();
    let said = s.run_command("ofproto/trace", &["br0", "in_port=1,ip"]).unwrap();
    assert!(said.contains("ct(commit,nat(dst=2.2.2.2))"), "{said}");
}

/// Lines of the log, each with its level, kept by who listens to `tracing` in a test.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Heard {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "ofproto_dpif_xlate"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(format!("{}: {}", event.metadata().level(), message.0));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Found beside OVS's log under FAUCET, whose floods leave out the input port.
#[test]
fn the_log_hears_of_packets_and_not_of_megaflows_that_are_looked_at_again() {
    let s = switch_with_ports("1 2");
    s.flow_mod("br0", "in_port=1,actions=1,2").unwrap();
    s.flow_mod("br0", "in_port=2,actions=1,pop:NXM_NX_REG0[]").unwrap();
    let send = |port| s.send(&format!("in_port({port}),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x1234)"));
    let heard = Heard::default();
    tracing::subscriber::with_default(heard.clone(), || {
        assert_eq!([1, 2].map(|port| send(port).lines().count()), [1, 1]);
        // The same remarks are due, and the megaflows are made to drop.
        s.flow_mod("br0", "in_port=1,actions=1").unwrap();
        s.flow_mod("br0", "in_port=2,actions=pop:NXM_NX_REG0[]").unwrap();
        s.slowpath.settle();
        assert_eq!([1, 2].map(|port| send(port).lines().count()), [0, 0]);
    });
    let place = |port| {
        format!(
            "on bridge br0 while processing in_port={port},vlan_tci=0x0000,dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02,\
             dl_type=0x1234"
        )
    };
    let expected = [format!("INFO: skipping output to input port {}", place(1)), format!("WARN: stack underflow {}", place(2))];
    assert_eq!(*heard.0.lock().unwrap(), expected);
}
