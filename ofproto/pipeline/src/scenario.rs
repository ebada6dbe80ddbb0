//! Scenarios for tests: a slow path over datapaths in memory, configured, programmed and fed in text.

use crate::config::{BondConfig, BridgeConfig, ControllerConfig, InterfaceConfig, PortConfig, SwitchConfig, VlanMode};
use crate::conn::groups::{group_mod, meter_mod};
use crate::flow_mod::{self, Journal};
use crate::memory_dp::MemoryDp;
use crate::slowpath::Slowpath;
use crate::udpif::Translator;
use crate::xlate::Xlate;
use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::dptext::{format_flow, parse_flow as parse_flow_text};
use flow::extract::{PacketMeta, extract_whole};
use flow::seam::{BAND_DROP, DpError, METER_PKTPS, MeterBand, MeterConfig, PortRequest};
use flow::{Datapath, DpPort, Key, NoNames};
use openflow::message::{GroupCommand, MeterConfigEntry, MeterMod};
use openflow::text::Names;
use openflow::text::flow::{FlowSyntax, parse_flow};
use openflow::text::group::parse_group;
use std::sync::{Arc, Mutex};

/// A switch to play with. No thread runs: `Slowpath::run_until_idle` does all.
pub(crate) struct Scenario {
    pub(crate) dp: Arc<MemoryDp>,
    pub(crate) slowpath: Arc<Slowpath>,
}

impl Scenario {
    /// A switch with this configuration; the datapath type is "dummy".
    pub(crate) fn new(config: &SwitchConfig) -> Self {
        Self::with_translator(config, Arc::new(Xlate))
    }

    /// The same with another translation.
    pub(crate) fn with_translator(config: &SwitchConfig, translator: Arc<dyn Translator>) -> Self {
        let dp = MemoryDp::new("dummy");
        let main = Arc::clone(&dp);
        let others = Mutex::new(Vec::new());
        let factory = move |name: &str| match name.split_once('@') {
            None if name == "dummy" => Ok(Arc::clone(&main) as Arc<dyn Datapath>),
            Some(("dummy", name)) => {
                let other = MemoryDp::named("dummy", name);
                others.lock().unwrap().push(Arc::clone(&other));
                Ok(other as Arc<dyn Datapath>)
            }
            Some(_) | None => Err(DpError::Unsupported(format!("datapath type {name}"))),
        };
        let slowpath = Slowpath::with_translator(Box::new(factory), translator);
        slowpath.configure(config);
        for udpif in slowpath.udpifs() {
            udpif.stop_threads();
        }
        Self { dp, slowpath }
    }

    /// A flow-mod in ovs-ofctl's syntax, the command first unless it is "add".
    pub(crate) fn flow_mod(&self, bridge: &str, text: &str) -> Result<(), String> {
        let fm = parse_flow(text, FlowSyntax::Any, &Names::default()).map_err(|e| e.to_string())?.flow;
        let world = self.slowpath.write_world();
        let id = world.bridge_named(bridge).expect("a bridge").id;
        let mut journal = Journal::default();
        flow_mod::apply(&world, id, &fm, now_ms(), &mut journal).map_err(|e| format!("{e:?}"))?;
        journal.commit(&world);
        Ok(())
    }

    /// A group in ovs-ofctl's syntax.
    pub(crate) fn add_group(&self, bridge: &str, text: &str) -> Result<(), String> {
        self.group_mod(bridge, GroupCommand::Add, text)
    }

    /// A group-mod in ovs-ofctl's syntax.
    pub(crate) fn group_mod(&self, bridge: &str, command: GroupCommand, text: &str) -> Result<(), String> {
        let gm = parse_group(text, Some(command), &Names::default()).map_err(|e| e.to_string())?.group;
        let mut world = self.slowpath.write_world();
        let id = world.bridge_named(bridge).expect("a bridge").id;
        let mut journal = Journal::default();
        group_mod(&mut world, id, &gm, now_ms(), &mut journal).map_err(|e| format!("{e:?}"))?;
        journal.commit(&world);
        Ok(())
    }

    /// A meter-mod: command (0 add, 1 modify, 2 delete), number, rate in packets per second.
    pub(crate) fn meter_mod(&self, bridge: &str, command: u16, id: u32, rate: u32) -> Result<(), String> {
        let band = MeterBand { kind: BAND_DROP, rate, ..MeterBand::default() };
        let config = MeterConfig { flags: METER_PKTPS, bands: vec![band] };
        let mm = MeterMod { command, meter: MeterConfigEntry { id, config } };
        let mut world = self.slowpath.write_world();
        let id = world.bridge_named(bridge).expect("a bridge").id;
        let mut journal = Journal::default();
        meter_mod(&mut world, id, &mm, now_ms(), &mut journal).map_err(|e| format!("{e:?}"))?;
        journal.commit(&world);
        Ok(())
    }

    /// A packet in the datapath's syntax is received and all that follows from it done. Gives what left, a line per packet.
    pub(crate) fn send(&self, text: &str) -> String {
        let flow = parse_flow_text(text, &NoNames).unwrap_or_else(|e| panic!("{text}: {e}"));
        let port = DpPort(u32::from_be_bytes(flow.key.in_port));
        self.dp.receive(port, &compose(&flow.key, Payload::Len(20)));
        for udpif in self.slowpath.udpifs() {
            udpif.drain();
        }
        let mut out = String::new();
        for (port, packet) in self.dp.take_outputs() {
            let mut key = Key::ZERO;
            extract_whole(&packet, &PacketMeta::default(), &mut key);
            let mut mask = key;
            for word in mask.words_mut().iter_mut().filter(|w| **w != 0) {
                *word = u64::MAX;
            }
            let text = format_flow(&key, &mask, false, &NoNames);
            let headers = text.split_once("eth(").map_or("", |(_, rest)| rest);
            out += &format!("{}: eth({headers}\n", port.0);
        }
        out
    }

    /// The datapath's number of a port of `br0`.
    pub(crate) fn dp_port(&self, name: &str) -> DpPort {
        self.slowpath.read_world().bridge_named("br0").unwrap().port_named(name).unwrap().dp_port.unwrap()
    }

    /// A control command.
    pub(crate) fn run_command(&self, name: &str, args: &[&str]) -> Result<String, String> {
        self.slowpath.command(name, args).expect("a command")
    }
}

/// One bridge per line: its name, then ports: `p1`, `p1@7` with an OpenFlow port number, `x>y` or `x@7>y` a patch port, each perhaps with
/// `:tag=5` or `:trunks=1+2`.
pub(crate) fn config(lines: &[&str]) -> SwitchConfig {
    let bridges = lines.iter().map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let mut bridge = BridgeConfig { name: name.into(), datapath_type: "dummy".into(), ..BridgeConfig::default() };
        bridge.ports.push(port(name, "dummy-internal", None));
        bridge.ports.extend(words.map(parse_port));
        bridge
    });
    SwitchConfig { bridges: bridges.collect(), ..SwitchConfig::default() }
}

/// Makes one port of two of a bridge: `name`, a bond in `mode` whose members are the two. Gives it.
pub(crate) fn bond<'b>(bridge: &'b mut BridgeConfig, name: &str, [first, second]: [&str; 2], mode: &str) -> &'b mut PortConfig {
    let at = |bridge: &BridgeConfig, name: &str| bridge.ports.iter().position(|p| p.name == name).expect("a port of the bridge");
    let second = bridge.ports.remove(at(bridge, second)).interfaces.remove(0);
    let first = at(bridge, first);
    let bond = &mut bridge.ports[first];
    bond.name = name.into();
    bond.interfaces.push(second);
    bond.bond = Some(BondConfig { mode: mode.into(), ..BondConfig::default() });
    bond
}

fn parse_port(word: &str) -> PortConfig {
    let mut parts = word.split(':');
    let device = parts.next().unwrap();
    let (device, peer) = device.split_once('>').map_or((device, None), |(d, p)| (d, Some(p)));
    let (name, number) = device.split_once('@').map_or((device, None), |(n, number)| (n, number.parse().ok()));
    let mut made = port(name, if peer.is_some() { "patch" } else { "dummy" }, number);
    made.interfaces[0].peer = peer.map(str::to_owned);
    for setting in parts {
        match setting.split_once('=').unwrap() {
            ("tag", tag) => {
                made.tag = tag.parse().ok();
                made.vlan_mode = VlanMode::Access;
            }
            ("trunks", vlans) => made.trunks = vlans.split('+').map(|v| v.parse().unwrap()).collect(),
            (other, _) => panic!("what is {other}?"),
        }
    }
    made
}

/// A row of Controller.
pub(crate) fn controller(target: &str) -> ControllerConfig {
    ControllerConfig {
        target: target.into(),
        service: false,
        max_backoff_ms: 8000,
        inactivity_probe_ms: 0,
        out_of_band: false,
        enable_async: true,
        rate_limit: None,
        burst_limit: None,
        queue_size: 100,
        dscp: 48,
    }
}

pub(crate) fn port(name: &str, kind: &str, ofport_request: Option<u16>) -> PortConfig {
    let device = PortRequest { name: name.into(), kind: kind.into(), ..PortRequest::default() };
    let interface = InterfaceConfig { name: name.into(), device, ofport_request, ..InterfaceConfig::default() };
    PortConfig { name: name.into(), interfaces: vec![interface], ..PortConfig::default() }
}

/// Runs a file of scenarios and compares what they say. Blocks are separated by empty lines; in a block, `#` begins a remark,
/// `> ` a line that the command above is expected to say, everything else is a command:
///
/// - `bridge NAME PORT...` as in `config` (all of them stand before the other commands),
/// - `flow BRIDGE FLOW-MOD`, `group BRIDGE GROUP`: in ovs-ofctl's syntax; they say an error, if any,
/// - `send PACKET`: in the datapath's syntax, `in_port` a datapath port; says what leaves,
/// - `settle`: what a barrier waits for,
/// - anything else: a control command; times in its answer are taken out.
///
/// With `UPDATE=1` the expected lines are written anew.
pub(crate) fn check_file(path: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    let blocks: Vec<String> = text.trim_end().split("\n\n").map(run_block).collect();
    let now = blocks.join("\n\n") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, now).unwrap();
    } else {
        assert_eq!(now, text, "UPDATE=1 writes what is said now");
    }
}

fn run_block(block: &str) -> String {
    let lines = || block.lines().filter(|l| !l.starts_with('>'));
    let bridges: Vec<&str> = lines().filter_map(|l| l.strip_prefix("bridge ")).collect();
    let scenario = Scenario::new(&config(&bridges));
    let mut out = Vec::new();
    for line in lines() {
        out.push(line.to_owned());
        let said = if line.starts_with('#') { String::new() } else { scenario.step(line) };
        out.extend(said.lines().map(|l| format!("> {l}")));
    }
    out.join("\n")
}

impl Scenario {
    fn step(&self, line: &str) -> String {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let told = |result: Result<(), String>| result.err().unwrap_or_default();
        match command {
            "bridge" => String::new(),
            "flow" => rest.split_once(' ').map(|(bridge, flow)| told(self.flow_mod(bridge, flow))).unwrap(),
            "group" => rest.split_once(' ').map(|(bridge, group)| told(self.add_group(bridge, group))).unwrap(),
            "send" => self.send(rest),
            "settle" => {
                self.slowpath.settle();
                String::new()
            }
            name => {
                let args: Vec<&str> = rest.split_whitespace().collect();
                let said = self.run_command(name, &args).unwrap_or_else(|e| e);
                let mut lines: Vec<String> = said.lines().map(without_times).collect();
                lines.sort();
                lines.join("\n")
            }
        }
    }
}

/// `used:0.012s` becomes `used:T`, `duration=3s` `duration=T`.
fn without_times(line: &str) -> String {
    let mut out = line.to_owned();
    for (from, to) in [("used:", "s,"), ("duration=", "s,"), ("p1, ", "s ago"), ("p2, ", "s ago")] {
        if let Some(start) = out.find(from).map(|at| at + from.len())
            && out[start..].starts_with(|c: char| c.is_ascii_digit())
            && let Some(len) = out[start..].find(to)
        {
            out.replace_range(start..start + len + 1, "T");
        }
    }
    out
}

#[test]
fn scenarios() {
    check_file(concat!(env!("CARGO_MANIFEST_DIR"), "/src/scenarios.txt"));
}
