//! Random OpenFlow tables and packets: a switch whose megaflows go into the model's hardware sends what a switch without hardware sends, byte
//! for byte and in the same order, while rules come, change and go, hardware is full, errs, loses rules and is switched off; at the end
//! their rules have counted alike.
//!
//! `FERRULE_PROPERTY_CASES` is how many packets pass (a few thousand by default).

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, to panic is to speak")]

use datapath::Reference;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::extract_gen::PacketGen;
use flow::seam::PortRequest;
use flow::{Datapath, DpPort, Key};
use offload::model::{Model, Options, Outcome, SameNumbers};
use offload::tc::client::Tc;
use offload::{Capabilities, PortKind, Tiered};
use ofproto::config::{BridgeConfig, FailMode, InterfaceConfig, PortConfig, SwitchConfig};
use ofproto::conn::Agents;
use ofproto::slowpath::Slowpath;
use openflow::message::{Body, FlowModCommand};
use openflow::text::Names;
use openflow::text::flow::{FlowSyntax, parse_flow};
use openflow::types::Versions;
use openflow::wire::Splitter;
use openflow::{Message, Version, Xid, decode};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

type Tier = Tiered<Reference, Tc<Model, SameNumbers>>;
type Sent = Vec<(DpPort, Vec<u8>)>;

const PORTS: usize = 4;
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

/// What forwards: hardware and software, or software alone.
enum Forwards {
    With(Arc<Tier>),
    Alone(Arc<Reference>),
}

/// A bridge br0 with four ports, and a controller's connection to it.
struct Bench {
    forwards: Forwards,
    slowpath: Arc<Slowpath>,
    stream: UnixStream,
    splitter: Splitter,
    _agents: Arc<Agents>,
    _dir: tempfile::TempDir,
}

fn config(rundir: &std::path::Path) -> SwitchConfig {
    let port = |name: &str, kind: &str, number| {
        let device = PortRequest { name: name.into(), kind: kind.into(), ..PortRequest::default() };
        let interface = InterfaceConfig { name: name.into(), device, ofport_request: number, ..InterfaceConfig::default() };
        PortConfig { name: name.into(), interfaces: vec![interface], ..PortConfig::default() }
    };
    let mut ports = vec![port("br0", "dummy-internal", None)];
    ports.extend((1..=4).map(|n| port(&format!("p{n}"), "dummy", Some(n))));
    let bridge = BridgeConfig {
        name: "br0".into(),
        datapath_type: "reference".into(),
        fail_mode: FailMode::Secure,
        protocols: Versions::ALL,
        ports,
        ..BridgeConfig::default()
    };
    SwitchConfig { bridges: vec![bridge], rundir: Some(rundir.to_owned()), ..SwitchConfig::default() }
}

impl Bench {
    fn new(forwards: Forwards, runtime: &tokio::runtime::Runtime) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dp: Arc<dyn Datapath> = match &forwards {
            Forwards::With(tier) => Arc::clone(tier) as Arc<dyn Datapath>,
            Forwards::Alone(alone) => Arc::clone(alone) as Arc<dyn Datapath>,
        };
        let slowpath = Slowpath::new(Box::new(move |_: &str| Ok(Arc::clone(&dp))));
        let config = config(dir.path());
        slowpath.configure(&config);
        let agents = Agents::new(Arc::clone(&slowpath), runtime.handle().clone());
        agents.configure(&config);
        let stream = UnixStream::connect(dir.path().join("br0.mgmt")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut this = Self { forwards, slowpath, stream, splitter: Splitter::default(), _agents: agents, _dir: dir };
        this.write(Body::Hello(Versions(1 << 4)));
        this
    }

    fn write(&mut self, body: Body) {
        let message = Message { version: Version::V13, xid: Xid(1), body }.encode().unwrap();
        self.stream.write_all(&message).unwrap();
    }

    /// A flow-mod and a barrier; the errors that come for them.
    fn flow_mod(&mut self, text: &str, command: FlowModCommand) -> Vec<&'static str> {
        let mut fm = parse_flow(text, FlowSyntax::Any, &Names::default()).unwrap_or_else(|e| panic!("{text}: {e}")).flow;
        fm.command = command;
        self.write(Body::FlowMod(Box::new(fm)));
        self.write(Body::BarrierRequest);
        let (mut buffer, mut errors) = ([0; 4096], Vec::new());
        loop {
            while let Some(raw) = self.splitter.next_message().unwrap() {
                let body = decode(raw).unwrap().body;
                if let Body::Error(e) = &body {
                    errors.push(e.error.name());
                } else if matches!(body, Body::BarrierReply) {
                    return errors;
                }
            }
            let read = self.stream.read(&mut buffer).expect("an answer within twenty seconds");
            assert_ne!(read, 0, "the switch hung up");
            self.splitter.push(&buffer[..read]);
        }
    }

    /// A packet comes in by a port; what leaves, and whether it was hardware that forwarded it.
    fn receive(&self, port: DpPort, bytes: &[u8]) -> (Sent, bool) {
        let software = match &self.forwards {
            Forwards::Alone(alone) => alone,
            Forwards::With(tier) => match tier.hardware().link().receive(port, bytes) {
                Outcome::Done(sent) => return (sent.into_iter().map(|s| (s.port, s.bytes)).collect(), true),
                Outcome::Missed => tier.inner(),
                Outcome::MissedInChain(chain) => panic!("a packet came up in the middle, in chain {chain}"),
            },
        };
        software.inject(port, bytes);
        self.slowpath.run_until_idle(now_ms());
        (software.sent(), false)
    }

    /// The rules with their counters, when every packet has been paid for.
    fn counted(&self) -> String {
        self.slowpath.command("revalidator/purge", &[]).unwrap().unwrap();
        let text = self.slowpath.command("bridge/dump-flows", &["br0"]).unwrap().unwrap();
        let without_age = |line: &str| line.split(", ").filter(|part| !part.contains("duration=")).collect::<Vec<_>>().join(", ");
        let mut lines: Vec<String> = text.lines().map(without_age).collect();
        lines.sort();
        lines.join("\n")
    }
}

fn ports_of(dp: &dyn Datapath) -> Vec<DpPort> {
    let ports = dp.ports();
    (1..=PORTS).map(|n| ports.iter().find(|p| p.name == format!("p{n}")).unwrap().number).collect()
}

fn capabilities(ports: &[DpPort]) -> Capabilities {
    let mut can = Capabilities::all();
    // The model has no such actions; it would refuse them itself.
    (can.ct, can.eth_push_pop) = (false, false);
    can.ports.extend(ports.iter().map(|port| (*port, PortKind::Switch(1))));
    can
}

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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tier = Arc::new(Tier::new(Reference::new(), Tc::new(Model::new(options), SameNumbers), capabilities(&[])));
    let mut with = Bench::new(Forwards::With(Arc::clone(&tier)), &runtime);
    let alone = Arc::new(Reference::new());
    let mut alone = (Bench::new(Forwards::Alone(Arc::clone(&alone)), &runtime), alone);
    let ports = ports_of(&*tier);
    assert_eq!(ports, ports_of(&*alone.1));
    tier.set_capabilities(capabilities(&ports), now_ms());
    let mut random = PacketGen::new(seed);
    let mut rules: Vec<String> = Vec::new();
    let (mut in_hardware, mut number) = (0, 0);
    let rare = (packets / 40 / EVENTS_MAX).max(1);
    for step in 0..packets {
        // Of two million packets as many rules come and go as of a hundred thousand.
        let what = if step % rare == 0 || rules.len() < 8 { random.below(40) } else { 40 };
        let mut both = |text: &str, command| {
            // What is counted is paid to the rules of that time: a driver tells late, and a change does not wait for it.
            (0..2).for_each(|_| tier.dump(&mut |_| true));
            for slowpath in [&with.slowpath, &alone.0.slowpath] {
                slowpath.command("revalidator/wait", &[]).unwrap().unwrap();
            }
            let errors = (with.flow_mod(text, command), alone.0.flow_mod(text, command));
            assert_eq!(errors.0, errors.1, "seed {seed}, step {step}: {text}");
        };
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
                let (sent, by_hardware) = with.receive(port, &bytes);
                in_hardware += usize::from(by_hardware);
                assert_eq!(sent, alone.0.receive(port, &bytes).0, "seed {seed}, step {step}: {bytes:02x?} on {port:?}");
            }
        }
    }
    (0..2).for_each(|_| tier.dump(&mut |_| true));
    assert_eq!(with.counted(), alone.0.counted(), "seed {seed}: counters of rules");
    with.slowpath.shutdown(false);
    alone.0.slowpath.shutdown(false);
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
