//! Rules in a real kernel: run as root in a virtual machine that has cls_flower and an offloading netdevsim (`tests/offload/run.sh` does
//! it). One line per check; the last says how many passed and failed.
//!
//! - Each golden megaflow's rule is taken by the kernel's tc and reads back equal.
//! - Rules in the kernel's tc forward the golden packets as the kernel's datapath did, to the byte.
//! - Police actions of meters are made, changed, counted and removed by the kernel.
//! - Headers that the kernel's tunnel devices put on by our rules are those of the megaflows, to the byte.
//! - What others do to rules of ours is told.
//! - On netdevsim the back end puts rules into hardware, and full tables, refusals, rules of others, a lost queueing discipline and a
//!   lost rule end as they ought to.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods, reason = "a test program")]

#[path = "kernel/meters.rs"]
mod meters;
#[path = "kernel/news.rs"]
mod news;
#[path = "kernel/outer.rs"]
mod outer;

use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::forms::PortNames;
use flow::hash::Map;
use flow::{DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::hardware::{Found, Sight};
use offload::meters::{Limit, Unit};
use offload::probe::Bench;
use offload::rule::{Act, Skbedit};
use offload::tc::attributes::Writer;
use offload::tc::client::{Netlink, News, Tc};
use offload::tc::read::filter;
use offload::tc::{Devices, FilterId, Hook, matches, write};
use offload::{PortKind, Reason, Rule, TunnelKind, plan};
use port::netlink::raw::{Heard, Raw, Watch};
use port::{Batch, Device, Packet, PortConfig, Receive as _, RxQueue, Transmit as _, TxQueue};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PORTS: &[(&str, PortKind)] = &[
    ("br0", PortKind::Internal),
    ("p1", PortKind::Switch(7)),
    ("p2", PortKind::Switch(7)),
    ("p3", PortKind::Switch(7)),
    ("p4", PortKind::Switch(7)),
    ("vxlan_sys_4789", PortKind::Tunnel(TunnelKind::Vxlan)),
    ("vxlan_sys_4790", PortKind::Tunnel(TunnelKind::Vxlan)),
    ("genev_sys_6081", PortKind::Tunnel(TunnelKind::Geneve)),
];

/// That of the golden meter: 1 Mbit/s, 100 kbit.
const LIMIT: Limit = Limit { unit: Unit::Bytes, rate: 125_000, burst: 1_562_500 };

#[derive(Debug)]
struct Names;

impl PortNames for Names {
    fn name(&self, port: u32) -> Option<String> {
        PORTS.get(port as usize).map(|p| p.0.to_owned())
    }

    fn number(&self, name: &str) -> Option<u32> {
        PORTS.iter().position(|p| p.0 == name).and_then(|i| u32::try_from(i).ok())
    }
}

#[derive(Debug)]
struct Kernel(Raw, Watch);

impl Kernel {
    fn new() -> Self {
        let raw = Raw::new().unwrap();
        let watch = Watch::beside(&raw).unwrap();
        Self(raw, watch)
    }
}

impl Netlink for Kernel {
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        self.0.talk(requests)
    }

    fn news(&self) -> io::Result<News> {
        let Heard { bytes, overrun } = self.1.heard()?;
        Ok(News { bytes, overrun })
    }
}

/// Port n of `PORTS` is the device of its name.
#[derive(Debug, Default)]
struct ByName(Map<DpPort, u32>);

impl ByName {
    fn of(pairs: &[(u32, String)]) -> Self {
        Self(pairs.iter().map(|(port, name)| (DpPort(*port), ifindex(name))).collect())
    }
}

impl Devices for ByName {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        self.0.get(&port).copied()
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        self.0.iter().find(|(_, i)| **i == ifindex).map(|(p, _)| *p)
    }
}

#[derive(Debug, Default)]
struct Tally {
    passed: Cell<usize>,
    failed: Cell<usize>,
}

impl Tally {
    fn check(&self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.passed.set(self.passed.get() + 1);
                println!("ok      {what}");
            }
            Err(why) => {
                self.failed.set(self.failed.get() + 1);
                println!("FAILED  {what}: {why}");
            }
        }
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&self, what: &str, found: &T, expected: &T) {
        let same = if found == expected { Ok(()) } else { Err(format!("{found:?} where {expected:?} was expected")) };
        self.check(what, same);
    }
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {out}{err}");
    out.trim().to_owned()
}

fn ifindex(name: &str) -> u32 {
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}")).trim().parse().unwrap()
}

fn hardware(meters: bool) -> Capabilities {
    let mut can = Capabilities::all();
    if meters {
        can.meters.insert(0, Ok(LIMIT));
    }
    can.ports.extend(PORTS.iter().zip(0..).map(|(p, n)| (DpPort(n), p.1)));
    can
}

fn megaflow(flow: &str, actions: &str) -> Megaflow {
    let mut flow = flow.replace("key32(00 00/00 00),", "");
    if !flow.contains("packet_type") {
        flow = format!("packet_type(ns=0,id=0),{flow}");
    }
    let parsed = parse_flow(&flow, &Names).unwrap_or_else(|e| panic!("{flow}: {e:?}"));
    let actions = parse_actions(actions, &Names).unwrap_or_else(|e| panic!("{actions}: {e:?}"));
    Megaflow { ufid: Ufid(1), key: parsed.key, mask: parsed.mask, actions: Arc::new(actions) }
}

/// The case of which stock Open vSwitch's rule is wider than its megaflow.
const WIDER: &str = "geneve_decap";

/// Case and rule of each golden megaflow that stock Open vSwitch put into tc.
fn golden() -> Vec<(&'static str, Rule)> {
    let lines = include_str!("golden.txt").lines().filter(|l| !l.starts_with('#'));
    let parts = lines.map(|l| l.splitn(4, " | ").collect::<Vec<_>>()).filter(|p| p[1] == "tc");
    let parts = parts.filter(|p| p[0] != WIDER);
    parts.map(|p| (p[0], plan(&megaflow(p[2], p[3]), &hardware(true)).unwrap_or_else(|e| panic!("{}: {e}", p[0])).rule)).collect()
}

/// The request for a rule, to be run by the kernel itself and not by hardware.
fn skip_hw(id: FilterId, rule: &Rule, devices: &ByName) -> Vec<u8> {
    let mut out = Writer::default();
    write::create(&mut out, 1, id, rule, b"test", devices).unwrap();
    // TCA_FLOWER_FLAGS is the last attribute.
    let at = out.bytes.len() - 4;
    out.bytes[at..].copy_from_slice(&1u32.to_ne_bytes());
    out.bytes
}

fn create(link: &Kernel, rule: &Rule, n: u32, devices: &ByName) -> Result<(FilterId, Rule), String> {
    let hook = Hook::Ingress { ifindex: devices.ifindex(rule.port).unwrap() };
    let prio = u16::try_from(n).unwrap() + 1;
    let id = FilterId { hook, chain: rule.chain, prio, handle: 1, protocol: matches::protocol(&rule.link) };
    let answer = link.talk(&skip_hw(id, rule, devices)).map_err(|e| e.to_string())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if kind == 2 {
        return Err(String::from_utf8_lossy(&answer).chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect());
    }
    let len = u32::from_ne_bytes([answer[0], answer[1], answer[2], answer[3]]) as usize;
    let read = filter(&answer[..len], devices).map_err(|e| e.to_string())?;
    Ok((id, read.rule(rule.port, rule.nought.clone())))
}

fn delete(link: &Kernel, id: FilterId) {
    let mut out = Writer::default();
    write::delete(&mut out, 1, id);
    link.talk(&out.bytes).unwrap();
}

const MODULES: &str = "veth dummy vxlan geneve sch_ingress cls_flower act_mirred act_gact act_ct act_tunnel_key act_vlan act_pedit act_csum \
                       act_mpls act_police act_skbedit act_sample";

fn software_devices() -> ByName {
    sh(&format!("for m in {MODULES}; do modprobe $m 2>/dev/null || true; done"));
    for n in 1..=4 {
        sh(&format!("ip link add p{n} type veth peer name h{n}"));
        for device in [format!("p{n}"), format!("h{n}")] {
            sh(&format!("echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6; ip link set {device} up"));
            sh(&format!("ethtool -K {device} tx off rxvlan off txvlan off gro off >/dev/null 2>&1 || true"));
        }
    }
    sh("ip link add br0 type dummy && ip link set br0 up");
    sh("ip link add vxlan_sys_4789 type vxlan external dstport 4789 udp6zerocsumrx && ip link set vxlan_sys_4789 up");
    sh("ip link add vxlan_sys_4790 type vxlan external dstport 4790 && ip link set vxlan_sys_4790 up");
    sh("ip link add genev_sys_6081 type geneve external dstport 6081 && ip link set genev_sys_6081 up");
    for (name, _) in PORTS {
        sh(&format!("tc qdisc add dev {name} clsact"));
    }
    ByName::of(&PORTS.iter().zip(0..).map(|(p, n)| (n, p.0.to_owned())).collect::<Vec<_>>())
}

fn golden_rules_read_back(tally: &Tally, link: &Kernel, devices: &ByName) {
    let mut by_case: BTreeMap<&str, Result<(), String>> = BTreeMap::new();
    for (n, (case, rule)) in (0..).zip(golden()) {
        let result = match create(link, &rule, n, devices) {
            Ok((id, back)) => {
                delete(link, id);
                if back == rule { Ok(()) } else { Err(format!("read back as {back:?}, was {rule:?}")) }
            }
            Err(said) => Err(said),
        };
        let all = by_case.entry(case).or_insert(Ok(()));
        if all.is_ok() {
            *all = result;
        }
    }
    for (case, result) in by_case {
        tally.check(&format!("kernel takes and shows {case}"), result);
    }
}

/// The host's side of port `pN`.
struct Host {
    rx: RxQueue,
    tx: TxQueue,
    _device: Device,
}

impl Host {
    fn open(name: &str) -> Self {
        let mut device = Device::open(&PortConfig::new(name, "system").unwrap().with("io", "af_packet")).unwrap();
        Self { rx: device.take_rx().remove(0), tx: device.tx().unwrap(), _device: device }
    }

    fn send(&mut self, frame: &[u8]) {
        let mut batch = Batch::new();
        batch.push(Packet::from_bytes(frame).unwrap()).unwrap();
        self.tx.send(&mut batch);
        self.tx.flush();
    }

    fn received(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        self.rx.recv(&mut batch);
        batch.drain().map(|p| p.data().to_vec()).collect()
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Cases whose packets the kernel's tc cannot be asked about in this bench, each with its reason.
const NOT_FORWARDED: &[(&str, &str)] = &[
    ("flood_unknown", "goes into the tunnels too, and depends on what was learned"),
    ("l2_normal", "depends on what was learned"),
    ("learn", "depends on what was learned"),
    ("ct_snat_range_ports", "the port is chosen at random"),
    ("mpls_match", "the megaflow as stock Open vSwitch shows it matches fields that its rule does not"),
    ("output_local", "the host's own port"),
];

/// Labels under the first have a form of their own.
fn labels_read_back(tally: &Tally, link: &Kernel, devices: &ByName) {
    for labels in [
        "label=1,tc=0/0,ttl=0/0,bos=0,label=2,tc=3,ttl=64,bos=1",
        "label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=0,label=7,tc=0/0,ttl=0/0,bos=0/0",
    ] {
        let flow = format!("recirc_id(0),in_port(p1),eth_type(0x8847),mpls({labels})");
        let rule = plan(&megaflow(&flow, "pop_mpls(eth_type=0x8847),p2"), &hardware(false)).unwrap().rule;
        let result = create(link, &rule, 0, devices).and_then(|(id, back)| {
            delete(link, id);
            if back == rule { Ok(()) } else { Err(format!("read back as {back:?}")) }
        });
        tally.check(&format!("kernel takes and shows a match of {} labels", labels.matches("label=").count()), result);
    }
}

/// Actions that no megaflow asks for, as the kernel shows them.
fn other_actions_read_back(tally: &Tally, link: &Kernel, devices: &ByName) {
    for (what, act) in [
        ("skbedit", Act::Skbedit(Skbedit { priority: Some(0x1_0002), mark: Some(5), ..Skbedit::default() })),
        ("skbedit of a part of the mark", Act::Skbedit(Skbedit { mark: Some(5), mark_mask: Some(0xf), ..Skbedit::default() })),
        ("sample", Act::Sample { rate: 100, group: 5, trunc: Some(60) }),
    ] {
        let mut rule = udp_to(1);
        rule.acts.insert(0, act);
        let result = create(link, &rule, 0, devices).and_then(|(id, back)| {
            delete(link, id);
            if back == rule { Ok(()) } else { Err(format!("read back as {back:?}")) }
        });
        tally.check(&format!("kernel takes and shows {what}"), result);
    }
}

fn golden_packets(tally: &Tally, link: &Kernel, devices: &ByName) {
    let mut hosts: Vec<Host> = (1..=4).map(|n| Host::open(&format!("h{n}"))).collect();
    let rules = golden();
    let mut cases: BTreeMap<&str, Vec<(&str, &str, &str)>> = BTreeMap::new();
    for line in include_str!("golden-packets.txt").lines().filter(|l| !l.starts_with('#')) {
        let [case, at, frame, out] = line.splitn(4, " | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        cases.entry(case).or_default().push((at, frame, out));
    }
    let is_host = |name: &str| matches!(name, "n1" | "n2" | "n3" | "n4");
    for (case, packets) in cases {
        let of_case: Vec<&Rule> = rules.iter().filter(|(c, _)| *c == case).map(|(_, r)| r).collect();
        let hosts_only =
            packets.iter().all(|(at, _, out)| is_host(at) && out.split(' ').all(|o| o == "nothing" || is_host(&o[..2])));
        if of_case.is_empty() || !hosts_only || NOT_FORWARDED.iter().any(|(c, _)| *c == case) {
            continue;
        }
        let made: Result<Vec<FilterId>, String> =
            (0..).zip(&of_case).map(|(n, rule)| create(link, rule, n, devices).map(|(id, _)| id)).collect();
        let result = made.and_then(|ids| {
            // Connections need the packets before: all go once, then they are looked at.
            let _ = pass(&mut hosts, &packets);
            let seen = pass(&mut hosts, &packets);
            ids.into_iter().for_each(|id| delete(link, id));
            for ((at, frame, expected), seen) in packets.iter().zip(seen) {
                if *expected != seen {
                    return Err(format!("from {at} {frame}: {seen} where {expected} was expected"));
                }
            }
            Ok(())
        });
        sh("conntrack -F 2>/dev/null || true");
        tally.check(&format!("packets of {case}"), result);
    }
}

/// Sends the packets one by one; what each led to.
fn pass(hosts: &mut [Host], packets: &[(&str, &str, &str)]) -> Vec<String> {
    let mut all = Vec::new();
    for (at, frame, expected) in packets {
        let from: usize = at[1..].parse::<usize>().unwrap() - 1;
        hosts[from].send(&unhex(frame));
        let wanted = if *expected == "nothing" { 0 } else { expected.split(' ').count() };
        let (started, mut out) = (Instant::now(), Vec::new());
        let patience = Duration::from_millis(if wanted == 0 { 30 } else { 1_000 });
        while started.elapsed() < patience && (wanted == 0 || out.len() < wanted) {
            for (n, host) in hosts.iter_mut().enumerate() {
                out.extend(host.received().into_iter().map(|f| format!("n{}={}", n + 1, hex(&f))));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        out.sort();
        all.push(if out.is_empty() { "nothing".to_owned() } else { out.join(" ") });
    }
    all
}

const N: &str = "/sys/bus/netdevsim";
const P: &str = "/sys/module/netdevsim/parameters";

/// Four representors of a netdevsim in switchdev mode, as ports 1 to 4.
fn simulated() -> ByName {
    sh(&format!("echo '0 1' >{N}/new_device; echo 4 >{N}/devices/netdevsim0/sriov_numvfs"));
    sh("devlink dev eswitch set netdevsim/netdevsim0 mode switchdev");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
        let port = std::fs::read_to_string(entry.path().join("phys_port_name")).unwrap_or_default();
        if let Some(vf) = port.trim().strip_prefix("pf0vf") {
            let name = entry.file_name().to_string_lossy().into_owned();
            sh(&format!("ip link set {name} up; ethtool -K {name} hw-tc-offload on"));
            found.push((vf.parse::<u32>().unwrap() + 1, name));
        }
    }
    assert_eq!(found.len(), 4, "representors");
    ByName::of(&found)
}

fn set(parameter: &str, value: u32) {
    sh(&format!("echo {value} >{P}/{parameter}"));
}

fn count() -> usize {
    sh(&format!("cat {P}/flower_count")).parse().unwrap()
}

fn udp_to(n: u32) -> Rule {
    let flow = format!("recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(dst=10.0.{}.{},proto=17,frag=no)", n / 256, n % 256);
    plan(&megaflow(&flow, "p2"), &hardware(false)).unwrap().rule
}

fn in_hardware(tally: &Tally) {
    let devices = simulated();
    let (one, two) = (devices.ifindex(DpPort(1)).unwrap(), devices.ifindex(DpPort(2)).unwrap());
    let name = |ifindex: u32| sh(&format!("grep -lx {ifindex} /sys/class/net/*/ifindex | cut -d/ -f5"));
    let (rep1, rep2, rep3) = (name(one), name(two), name(devices.ifindex(DpPort(3)).unwrap()));
    let tc = Tc::new(Kernel::new(), devices);
    tally.check("clsact is made", tc.prepare(one).map_err(|e| e.to_string()));
    tally.check("clsact that is there is taken as it is", tc.prepare(one).map_err(|e| e.to_string()));
    tally.check(
        "and on the others",
        (2..=4).try_for_each(|p| tc.prepare(tc.devices().ifindex(DpPort(p)).unwrap())).map_err(|e| e.to_string()),
    );
    sh(&format!("tc filter add dev {rep1} ingress pref 7 protocol ip flower skip_sw dst_ip 9.9.9.9 action drop"));
    golden_in_hardware(tally, &tc);
    probes(tally, &tc);
    meters::without_a_driver(tally, &tc);
    faults(tally, &tc);
    lost_and_found(tally, &tc, &rep1);
    news::told(tally, &tc, [&rep1, &rep3]);
    sh(&format!("tc qdisc del dev {rep2} clsact 2>/dev/null || true"));
    tally.equal(
        "what is somebody else's is still there",
        &sh(&format!("tc filter show dev {rep1} ingress pref 7 | grep -c 9.9.9.9")),
        &"1".to_owned(),
    );
    speed(tally, &tc);
}

fn golden_in_hardware(tally: &Tally, tc: &Tc<Kernel, ByName>) {
    let before = count();
    let ports_only = |r: &Rule| (1..=4).contains(&r.port.0);
    let mut n = 0;
    for (case, rule) in golden().into_iter().filter(|(case, r)| ports_only(r) && *case != "meter_kbps") {
        n += 1;
        let result = tc.install(Ufid(n), &rule);
        let removed = tc.remove(Ufid(n));
        match result {
            Ok(()) => tally.check(&format!("hardware takes a rule of {case}"), removed.map(|_| ()).map_err(|e| e.to_string())),
            // Outputs to tunnels and to the host have no device in this switch.
            Err(why) if why.reason == Reason::OutPort => {}
            Err(why) => tally.check(&format!("hardware takes a rule of {case}"), Err(why.to_string())),
        }
    }
    tally.equal("nothing is left of the golden rules", &count(), &before);
}

/// Ports are asked what they take; the driver is made to lack something.
fn probes(tally: &Tally, tc: &Tc<Kernel, ByName>) {
    let before = count();
    let index = |port: u32| tc.devices().ifindex(DpPort(port));
    let vxlan = Some(ifindex("vxlan_sys_4789"));
    let bench = Bench { port: index(1), peers: [index(2), index(3)], vxlan, ..Bench::default() };
    let ask = |bench: &Bench| tc.probe(bench).map(|l| l.map(|l| l.to_string())).map_err(|e| e.to_string());
    tally.equal("a port that takes all says so", &ask(&bench), &Ok(Some("takes all".to_owned())));
    set("flower_max_actions", 1);
    let few = ask(&bench).map(|l| l.unwrap_or_default());
    let lacking = |what: &str| few.as_ref().is_ok_and(|l| l.split(' ').any(|word| word == what));
    let found = ["push_vlan", "set(tcp)", "several-outputs", "tunnel-push(vxlan)", "eth(src)", "drop"].map(lacking);
    tally.equal("one that takes one action lacks what needs two", &found, &[true, true, true, true, false, false]);
    let words = tc.probe(&bench).ok().flatten().is_some_and(|l| l.all().iter().all(|(_, w)| w.contains("flower_max_actions")));
    tally.equal("in the driver's words", &words, &true);
    set("flower_max_actions", 32);
    set("flower_max", u32::try_from(before).unwrap());
    tally.equal("with a full table nothing is known", &ask(&bench), &Ok(None));
    set("flower_max", 1 << 20);
    let tunnel = Bench { port: None, peers: [index(2), None], ..bench };
    let said = ask(&tunnel).map(|l| l.unwrap_or_default().starts_with("lacks"));
    tally.equal("a tunnel's device is asked for itself", &said, &Ok(true));
    tally.equal("nothing of the questions is left", &count(), &before);
}

fn faults(tally: &Tally, tc: &Tc<Kernel, ByName>) {
    let before = count();
    set("flower_max", u32::try_from(before).unwrap() + 1);
    let rules = [udp_to(1), udp_to(2)];
    let results = tc.install_all(&[(Ufid(101), &rules[0]), (Ufid(102), &rules[1])]);
    let reasons: Vec<Option<Reason>> = results.iter().map(|r| r.as_ref().err().map(|why| why.reason)).collect();
    tally.equal("a full table refuses the second of two", &reasons, &vec![None, Some(Reason::TableFull)]);
    let said = results[1].as_ref().err().map(|why| why.what.contains("full")).unwrap_or_default();
    tally.equal("in the driver's words", &said, &true);
    set("flower_max", 1 << 20);
    set("flower_refuse_nth", 1);
    let refused = tc.install(Ufid(103), &udp_to(3));
    let words = refused.as_ref().err().map(|why| (why.reason, why.what.contains("flower_refuse_nth")));
    tally.equal("a refusal is the driver's, with its text", &words, &Some((Reason::Driver, true)));
    set("flower_max_actions", 1);
    let mut two = udp_to(4);
    two.acts.insert(0, Act::VlanPush { tpid: 0x8100, vid: 5, pcp: 0 });
    tally.equal("too many actions", &tc.install(Ufid(104), &two).err().map(|why| why.reason), &Some(Reason::Driver));
    set("flower_max_actions", 32);
    tally.equal("only what was taken is there", &count(), &(before + 1));
    set("flower_stat_pkts", 7);
    tally.equal("hardware counters are read", &tc.stats(Ufid(101)).map(|s| s.packets), &Some(7));
    let listed = tc.counters().into_iter().find(|(u, _)| *u == Ufid(101)).and_then(|(_, s)| s).map(|s| (s.packets, s.bytes));
    tally.equal("and by a dump", &listed, &Some((14, 1_400)));
    tally.equal("a deletion tells the last", &tc.remove(Ufid(101)).map(|s| s.packets), &Ok(21));
    set("flower_stat_pkts", 0);
    tally.equal("nothing of ours is left", &count(), &before);
}

fn lost_and_found(tally: &Tally, tc: &Tc<Kernel, ByName>, rep: &str) {
    let before = count();
    let right = |ufid: Ufid| Some(udp_to(u32::try_from(ufid.0).unwrap()));
    (1..=3).for_each(|n| tc.install(Ufid(n), &udp_to(u32::try_from(n).unwrap())).unwrap());
    let found = |sights: Vec<Sight>| sights.into_iter().map(|s| s.found).collect::<Vec<_>>();
    let audit = |port| tc.audit(DpPort(port), &right).map(found).map_err(|e| e.to_string());
    tally.equal("an audit finds all as it should be", &audit(1), &Ok(vec![Some(Found::Right); 3]));
    sh(&format!(
        "tc filter del dev {rep} ingress pref 16384 handle 0x2 protocol ip flower 2>/dev/null || tc filter del dev {rep} ingress pref 16384"
    ));
    let missing = tc.counters().iter().filter(|(_, s)| s.is_none()).count();
    tally.equal("a rule that somebody removed is missed", &(missing > 0), &true);
    tally.equal("and the audit names it", &audit(1).map(|a| a.contains(&None)), &Ok(true));
    (1..=3).for_each(|n| {
        let _ = tc.remove(Ufid(n));
    });
    tally.equal("what is gone can be removed", &count(), &before);
    // As after a crash: another client knows nothing of the rules.
    tc.install(Ufid(5), &udp_to(5)).unwrap();
    let after = Tc::new(Kernel::new(), ByName::default());
    let ifindex = tc.devices().ifindex(DpPort(1)).unwrap();
    tally.equal("a sweep finds what an earlier life left", &after.sweep_device(ifindex), &Ok(1));
    tally.equal("and leaves none of it", &count(), &before);
    let _ = tc.remove(Ufid(5));
    let third = tc.devices().ifindex(DpPort(3)).unwrap();
    let name = sh(&format!("grep -lx {third} /sys/class/net/*/ifindex | cut -d/ -f5"));
    sh(&format!("tc qdisc del dev {name} clsact"));
    let flow = "recirc_id(0),in_port(p3),eth_type(0x0806)";
    let rule = plan(&megaflow(flow, "p2"), &hardware(false)).unwrap().rule;
    tally.equal("a queueing discipline that somebody removed is made again", &tc.install(Ufid(6), &rule), &Ok(()));
    tally.equal("with its rule", &tc.remove(Ufid(6)).is_ok(), &true);
}

/// What it takes in this machine (one emulated processor); nothing is asserted of time.
fn speed(tally: &Tally, tc: &Tc<Kernel, ByName>) {
    const RULES: u32 = 2_000;
    let rules: Vec<Rule> = (0..RULES).map(udp_to).collect();
    let batch: Vec<(Ufid, &Rule)> = rules.iter().zip(1_000u128..).map(|(r, n)| (Ufid(n), r)).collect();
    let started = Instant::now();
    let installed = tc.install_all(&batch).into_iter().filter(Result::is_ok).count();
    let took = started.elapsed();
    let started = Instant::now();
    let counted = tc.counters().iter().filter(|(_, s)| s.is_some()).count();
    println!("        {RULES} rules put in {took:?}, counters read in {:?}", started.elapsed());
    tally.equal("many rules go in together", &(installed, counted), &(RULES as usize, RULES as usize));
    let ufids: Vec<Ufid> = batch.iter().map(|(u, _)| *u).collect();
    tally.equal("and out together", &tc.remove_all(&ufids).into_iter().filter(Result::is_ok).count(), &(RULES as usize));
}

fn main() -> ExitCode {
    if !Path::new("/run/job").exists() {
        println!("kernel: runs in the virtual machine of tests/vm (make check-offload)");
        return ExitCode::FAILURE;
    }
    let tally = Tally::default();
    let link = Kernel::new();
    let devices = software_devices();
    meters::made(&tally, &link);
    golden_rules_read_back(&tally, &link, &devices);
    other_actions_read_back(&tally, &link, &devices);
    labels_read_back(&tally, &link, &devices);
    golden_packets(&tally, &link, &devices);
    meters::exceeded(&tally, &link, &devices);
    outer::tunnels(&tally, &link, &devices);
    // `tc`: in a kernel whose netdevsim takes no rules, only what needs none.
    if std::env::args().nth(1).as_deref() != Some("tc") {
        in_hardware(&tally);
    }
    let (passed, failed) = (tally.passed.get(), tally.failed.get());
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
