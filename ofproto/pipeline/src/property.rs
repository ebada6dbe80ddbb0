//! The property of the whole slow path: **whatever the cached megaflows forward is what a translation from scratch forwards.**
//!
//! Random tables, groups, meters, packets and mods of all of them in turn. After `settle`, every packet is looked up in the datapath: each
//! megaflow that matches it (there may be several, they overlap) must have the actions that the tables now give. A failure prints its
//! seed; `FERRULE_SEED=N cargo test -p ofproto property` replays it, and `FERRULE_PACKETS=N` goes on until N packets have been checked
//! (`make check` says a million). Seeds are shared out among the cores; what a seed does depends on it alone.

use crate::bridge::port_config;
use crate::flow_mod::{self, Journal};
use crate::scenario::{Scenario, config};
use crate::udpif::{Purpose, Request, Translator, installed};
use crate::world::BridgeId;
use crate::xlate::Xlate;
use flow::action_text::format_actions;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::dptext::{format_flow, format_key};
use flow::extract::{PacketMeta, extract_whole};
use flow::extract_gen::PacketGen;
use flow::fields::Field;
use flow::oftext::parse_match;
use flow::{Actions, DpPort, Key, NoNames, Value};
use openflow::action::{Learn, LearnDst, LearnSpec, LearnSrc, OfAction, Subfield};
use openflow::message::{FlowMod, FlowModCommand, GroupCommand, PortMod};
use openflow::{GroupId, OfPort, TableId};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Packets checked unless `FERRULE_PACKETS` says otherwise.
const CHECKED: usize = 20_000;
const ROUNDS: usize = 12;
const PACKETS: usize = 24;
/// Packets looked up after each round of changes.
const LOOKED_UP: usize = 200;
const DP_PORTS: [u32; 5] = [1, 2, 3, 4, 5];

struct Run {
    seed: u64,
    gen_: PacketGen,
    s: Scenario,
    bridges: [BridgeId; 2],
    rules: Vec<FlowMod>,
    next_priority: u16,
}

#[test]
fn what_the_caches_forward_is_what_the_tables_say() {
    if let Ok(seed) = std::env::var("FERRULE_SEED") {
        assert!(run(seed.parse().unwrap()) > 0);
        return;
    }
    let wanted = std::env::var("FERRULE_PACKETS").map_or(CHECKED, |n| n.parse().unwrap());
    let (checked, next) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while checked.load(Ordering::Relaxed) < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let before = checked.fetch_add(run(seed), Ordering::Relaxed);
                    assert!(seed < 1000 || before > 1000, "packets must hit megaflows");
                }
            });
        }
    });
}

fn run(seed: u64) -> usize {
    let s = Scenario::new(&config(&["br0 p1@1 p2@2 p3@3:tag=5 p4@4:trunks=5+6 x@9>y", "br1 y@9>x p5@5"]));
    let bridges = {
        let world = s.slowpath.read_world();
        [world.bridge_named("br0").unwrap().id, world.bridge_named("br1").unwrap().id]
    };
    let mut run = Run { seed, gen_: PacketGen::new(seed), s, bridges, rules: Vec::new(), next_priority: 1 };
    for _ in 0..4 {
        run.group_mod();
    }
    run.meter_mod();
    for _ in 0..6 {
        run.flow_mod();
    }
    let mut checked = 0;
    for _ in 0..ROUNDS {
        for _ in 0..PACKETS {
            let (port, packet) = run.packet();
            run.s.dp.receive(port, &packet);
            // Upcalls come by themselves or several at once.
            if run.gen_.below(2) == 0 {
                run.s.slowpath.udpifs()[0].drain();
            }
        }
        run.s.slowpath.udpifs()[0].drain();
        for _ in 0..run.gen_.below(3) {
            run.flow_mod();
        }
        if run.gen_.below(6) == 0 {
            run.port_mod();
        }
        if run.gen_.below(3) == 0 {
            run.group_mod();
        }
        if run.gen_.below(4) == 0 {
            run.meter_mod();
        }
        run.settle();
        for _ in 0..LOOKED_UP {
            checked += run.check_packet();
        }
        run.check_megaflows();
    }
    checked
}

impl Run {
    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.gen_.below(from.len())].clone()
    }

    /// Settling pays for packets, which learns MACs, which is a change again: until there is none.
    fn settle(&self) {
        let changes = Arc::clone(&self.s.slowpath.read_world().changes);
        for _ in 0..10 {
            let before = changes.now();
            self.s.slowpath.settle();
            if changes.now() == before {
                return;
            }
        }
        panic!("seed {}: never settles", self.seed);
    }

    // ---- packets ----

    fn packet(&mut self) -> (DpPort, Vec<u8>) {
        let mut key = Key::ZERO;
        key.eth_src = [2, 0, 0, 0, 0, u8::try_from(self.gen_.below(4)).unwrap()];
        key.eth_dst = self.one_of(&[[2, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [255; 6]]);
        if self.gen_.below(4) == 0 {
            key.vlan_tpid = [0x81, 0];
            key.vlan_tci = self.one_of(&[[0x10, 5], [0x10, 6], [0x30, 5]]);
        }
        let byte = |run: &mut Self| u8::try_from(run.gen_.below(4)).unwrap();
        match self.gen_.below(7) {
            2 => {
                key.eth_type = [0x88, 0xe7];
                key.nw_src = [self.one_of(&[0, 0x20]), 0, 0, byte(self)];
            }
            3 => {
                key.eth_type = [0x88, 0x47];
                key.mpls_lse0 = [0, byte(self), 0x11, self.one_of(&[64, 2])];
            }
            0 => {
                key.eth_type = [8, 6];
                key.nw_proto = 1 + byte(self) % 2;
                key.nw_src = [10, 0, 0, byte(self)];
                key.nw_dst = [10, 0, 0, byte(self)];
                key.arp_sha = key.eth_src;
            }
            1 => {
                key.eth_type = [0x86, 0xdd];
                key.ipv6_src = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(self)];
                key.ipv6_dst = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(self), byte(self)];
                key.nw_proto = 17;
                Field::Ipv6Exthdr.set(&mut key, self.one_of(&[0, 0, 0x40, 0x44, 0x08, 0x10]));
            }
            _ => {
                key.eth_type = [8, 0];
                key.nw_src = [10, 0, byte(self), byte(self)];
                key.nw_dst = [10, 0, byte(self), byte(self)];
                key.nw_proto = self.one_of(&[6, 17, 1]);
            }
        }
        key.nw_ttl = self.one_of(&[64, 64, 2, 1]);
        if key.nw_proto == 1 {
            key.tp_src = [0, self.one_of(&[0, 8])];
        } else if key.eth_type != [8, 6] {
            key.tp_src = self.one_of(&[1u16, 80, 81, 443, 8080]).to_be_bytes();
            key.tp_dst = self.one_of(&[1u16, 80, 81, 443, 8080]).to_be_bytes();
        }
        (DpPort(self.one_of(&DP_PORTS)), compose(&key, Payload::Len(20)))
    }

    // ---- rules ----

    fn flow_mod(&mut self) {
        let bridge = self.bridges[usize::from(self.gen_.below(6) == 0)];
        let fm = if !self.rules.is_empty() && self.gen_.below(3) == 0 {
            let at = self.gen_.below(self.rules.len());
            let mut fm = self.rules.swap_remove(at);
            if self.gen_.below(2) == 0 {
                fm.command = FlowModCommand::DeleteStrict;
            } else {
                fm.command = FlowModCommand::ModifyStrict;
                fm.actions = self.actions(fm.table.0);
            }
            fm
        } else {
            let fm = self.rule();
            self.rules.push(fm.clone());
            fm
        };
        let world = self.s.slowpath.write_world();
        let mut journal = Journal::default();
        // A rule that the bridge refuses is as good as none.
        if flow_mod::apply(&world, bridge, &fm, now_ms(), &mut journal).is_ok() {
            journal.commit(&world);
        }
    }

    fn port_mod(&mut self) {
        let port = OfPort(self.one_of(&[1, 2, 3, 4, 9]));
        let bit = self.one_of(&[port_config::NO_RECV, port_config::NO_FLOOD, port_config::NO_FWD, port_config::PORT_DOWN]);
        let mut world = self.s.slowpath.write_world();
        let mac = world.bridges[&self.bridges[0]].ports[&port].info.mac;
        let config = if self.gen_.below(2) == 0 { bit } else { 0 };
        let pm = PortMod { port, hw_addr: mac, config, mask: bit, advertise: 0 };
        world.port_mod(self.bridges[0], &pm, 0).unwrap();
    }

    /// A group comes, goes or changes. What the bridge refuses (a loop, a group that is not there) is as good as nothing.
    fn group_mod(&mut self) {
        let id = 1 + self.gen_.below(3);
        let kind = self.one_of(&["all", "select", "select", "indirect", "ff"]);
        let method = if kind == "select" {
            self.one_of(&["", ",selection_method=dp_hash", ",selection_method=hash,fields(ip_src,nw_proto)"])
        } else {
            ""
        };
        let buckets: String =
            (0..if kind == "indirect" { 1 } else { 1 + self.gen_.below(3) }).map(|n| self.bucket(n, kind)).collect();
        let command = self.one_of(&[GroupCommand::Add, GroupCommand::Add, GroupCommand::Modify, GroupCommand::Delete]);
        let text = if matches!(command, GroupCommand::Delete) {
            format!("group_id={id}")
        } else {
            format!("group_id={id},type={kind}{method}{buckets}")
        };
        let _ = self.s.group_mod("br0", command, &text);
    }

    fn bucket(&mut self, n: usize, kind: &str) -> String {
        let watch = match kind {
            "ff" => format!("watch_port:{},", self.one_of(&[1, 2, 3, 4])),
            "select" => format!("weight:{},", 1 + self.gen_.below(4)),
            _ => String::new(),
        };
        let change = self.one_of(&["", "set_field:02:00:00:00:00:03->eth_dst,", "strip_vlan,", "set_field:10.0.0.3->ip_dst,"]);
        let out = self.one_of(&["output:1", "output:2", "output:3", "output:4", "output:9", "resubmit(,2)", "group:3"]);
        format!(",bucket=bucket_id:{n},{watch}actions={change}{out}")
    }

    fn meter_mod(&mut self) {
        let (command, id) = (self.one_of(&[0, 0, 1, 2]), self.one_of(&[1, 2]));
        let rate = u32::try_from(1 + self.gen_.below(1000)).unwrap();
        let _ = self.s.meter_mod("br0", command, id, rate);
    }

    fn rule(&mut self) -> FlowMod {
        let table = self.one_of(&[0u8, 0, 0, 1, 2]);
        let text = self.match_text(table);
        let matching = parse_match(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        // Priorities differ, so that what wins does not depend on the order of rules. Mostly rising, at times in between.
        self.next_priority += 7;
        let priority = if self.gen_.below(3) == 0 { 30_000 - self.next_priority } else { self.next_priority };
        FlowMod { table: TableId(table), matching, priority, actions: self.actions(table), ..FlowMod::default() }
    }

    fn match_text(&mut self, table: u8) -> String {
        let mut parts: Vec<String> = Vec::new();
        if self.gen_.below(3) == 0 {
            parts.push(format!("in_port={}", self.one_of(&[1, 2, 3, 4, 9])));
        }
        if self.gen_.below(4) == 0 {
            let n = self.gen_.below(4);
            parts.push(
                self.one_of(&[format!("dl_dst=02:00:00:00:00:0{n}"), format!("dl_src=02:00:00:00:00:0{n}/00:00:00:00:00:01")]),
            );
        }
        if self.gen_.below(5) == 0 {
            parts.push(
                self.one_of(&["dl_vlan=5", "vlan_tci=0x0000/0x1000", "vlan_tci=0x1000/0x1000", "dl_vlan_pcp=1"]).to_owned(),
            );
        }
        let (n, m, len) = (self.gen_.below(4), self.gen_.below(4), 20 + self.gen_.below(13));
        parts.extend(match self.gen_.below(16) {
            14 => vec![format!("ipv6,ipv6_exthdr={}", self.one_of(&["0", "0x40/0x40", "0x44/0x1f4"]))],
            12 => vec![format!("dl_type=0x88e7,pbb_isid={}", self.one_of(&["0/1", "1/3", "2"]))],
            13 => vec![format!("mpls,mpls_ttl={}", self.one_of(&[64, 2]))],
            0 => vec![format!("ip,nw_src=10.0.{n}.{m}/{len}")],
            1 => vec![format!("ip,nw_dst=10.0.{n}.{m}/{len}")],
            2 => vec![format!("ip,nw_src=10.0.{n}.{m}/{len},nw_dst=10.0.{m}.{n}")],
            3 => vec![format!("tcp,tp_dst={}", self.one_of(&["80", "80/0xfffe", "443", "8080/0xff00"]))],
            4 => vec![format!("udp,tp_src={}", self.one_of(&["80", "1/0x1", "443"]))],
            5 => vec!["icmp,icmp_type=8".to_owned()],
            6 => vec![format!("arp,arp_op=1,arp_tpa=10.0.0.{n}")],
            7 => vec![format!("ipv6,ipv6_dst=fc00::{n}:0/{}", 96 + len)],
            8 => vec![format!("ip,nw_ttl={}", self.one_of(&[64, 2, 1]))],
            9 => vec![format!("ip,nw_dst=10.0.{n}.{m}/{len},nw_proto=6,tp_src=1,tp_dst=80")],
            _ => vec![],
        });
        if table != 0 && self.gen_.below(2) == 0 {
            parts.push(self.one_of(&["reg0=1", "reg0=0/1", "metadata=7", "reg1=0x0a000001", "reg2=0x50/0xff"]).to_owned());
        }
        parts.join(",")
    }

    fn actions(&mut self, table: u8) -> Vec<OfAction> {
        let n = self.gen_.below(4);
        let mut actions: Vec<OfAction> = (0..n).map(|_| self.action()).collect();
        // A meter is an instruction: the first, and the only one.
        let is_meter = |a: &OfAction| matches!(a, OfAction::Meter(_));
        actions.sort_by_key(|a| !is_meter(a));
        actions.dedup_by(|a, b| is_meter(a) && is_meter(b));
        if table < 2 && self.gen_.below(3) == 0 {
            actions.push(OfAction::GotoTable(TableId(table + 1)));
        }
        actions
    }

    fn action(&mut self) -> OfAction {
        let output = |port| OfAction::Output { port, max_len: 0 };
        let set = |field: Field, value: u128| OfAction::SetField {
            field,
            value: Value::from(value),
            mask: Value::ones(usize::from(field.row().bits)),
            form: openflow::action::SetForm::Load,
        };
        let whole = |field: Field| Subfield { field, ofs: 0, bits: field.row().bits };
        match self.gen_.below(29) {
            24 => OfAction::PushPbb,
            25 => OfAction::PopPbb,
            26 => set(Field::PbbIsid, 1),
            27 => self.one_of(&[OfAction::CopyTtlIn, OfAction::CopyTtlOut]),
            28 => OfAction::SetMplsTtl(2),
            20..=22 => OfAction::Group(GroupId(u32::try_from(1 + self.gen_.below(3)).unwrap())),
            23 => OfAction::Meter(self.one_of(&[1, 2])),
            0..=5 => output(OfPort(self.one_of(&[1, 2, 3, 4, 9]))),
            6 | 7 => output(OfPort::NORMAL),
            8 => output(self.one_of(&[OfPort::FLOOD, OfPort::ALL, OfPort::IN_PORT, OfPort::LOCAL])),
            9 => set(Field::by_name("reg0").unwrap(), u128::from(self.gen_.bits() & 1)),
            10 => set(Field::by_name("nw_dst").unwrap(), self.one_of(&[0x0a00_0001, 0x0a00_0102])),
            11 => set(Field::by_name("dl_dst").unwrap(), 0x0200_0000_0001),
            12 => OfAction::RegMove {
                src: whole(Field::by_name("nw_src").unwrap()),
                dst: whole(Field::by_name("reg1").unwrap()),
                onf: false,
            },
            13 => OfAction::RegMove {
                src: whole(Field::by_name("tp_dst").unwrap()),
                dst: Subfield { field: Field::by_name("reg2").unwrap(), ofs: 0, bits: 16 },
                onf: false,
            },
            14 => OfAction::DecTtl { controllers: Some(vec![0]) },
            15 => OfAction::PushVlan { ethertype: 0x8100 },
            16 => OfAction::StripVlan { pop: false },
            17 => OfAction::WriteMetadata { value: 7, mask: 0xff },
            18 => self.learn(),
            _ => {
                let table = TableId(self.one_of(&[1, 2]));
                OfAction::Resubmit { port: OfPort::IN_PORT, table, with_ct: false, has_table: true }
            }
        }
    }

    /// Learns in table 2 that the packet's source is where it came from.
    fn learn(&self) -> OfAction {
        let whole = |name: &str| {
            let field = Field::by_name(name).unwrap();
            Subfield { field, ofs: 0, bits: field.row().bits }
        };
        let in_port = Subfield { field: Field::by_name("in_port").unwrap(), ofs: 0, bits: 16 };
        let (src, dst) = (whole("dl_src"), whole("dl_dst"));
        let specs = vec![
            LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Match(dst), bits: dst.bits },
            LearnSpec { src: LearnSrc::Field(in_port), dst: LearnDst::Output, bits: 16 },
        ];
        OfAction::Learn(Box::new(Learn {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: 40_000,
            table: TableId(2),
            cookie: 0,
            flags: 0,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            limit: 0,
            result_dst: None,
            specs,
            second: false,
        }))
    }

    // ---- the property ----

    fn check_packet(&mut self) -> usize {
        let (port, packet) = self.packet();
        let mut key = Key::ZERO;
        extract_whole(&packet, &PacketMeta { in_port: port, ..PacketMeta::default() }, &mut key);
        let hits = self.s.dp.flows_for(&key);
        if hits.is_empty() {
            return 0;
        }
        let fresh = self.scratch(&key);
        for hit in &hits {
            assert!(
                *hit.actions == fresh,
                "seed {}: a packet\n  {}\nis forwarded by\n  {} actions:{}\nbut the tables say\n  {}",
                self.seed,
                format_key(&key, &NoNames),
                format_flow(&hit.key, &hit.mask, false, &NoNames),
                format_actions(&hit.actions, &NoNames),
                format_actions(&fresh, &NoNames),
            );
        }
        1
    }

    /// Each megaflow, translated from its own masked key. (Its mask may lack bits that a search looks at today: a rule that came and
    /// has no packet in common with it leaves it alone.)
    fn check_megaflows(&self) {
        let flows = self.s.dp.all_flows();
        for flow in &flows {
            let fresh = self.scratch(&flow.key);
            let told = format_flow(&flow.key, &flow.mask, false, &NoNames);
            assert!(*flow.actions == fresh, "seed {}: {told} {:?} {fresh:?}", self.seed, flow.actions);
        }
    }

    fn scratch(&self, dp_key: &Key) -> Actions {
        let world = self.s.slowpath.read_world();
        let port = DpPort(u32::from_be_bytes(dp_key.in_port));
        let (bridge, in_port) = world.port_of("dummy", port).unwrap();
        let key = Key { in_port: in_port.to_key(), ..*dp_key };
        let request =
            Request { world: &world, bridge, in_port, key: &key, packet: None, now: now_ms(), purpose: Purpose::Revalidation };
        let t = Xlate.translate(request);
        let actions = Arc::new(t.actions);
        (*installed(t.slow, &actions, bridge, in_port)).clone()
    }
}
