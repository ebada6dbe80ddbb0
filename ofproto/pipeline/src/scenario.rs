//! Scenarios for tests: a slow path over datapaths in memory, configured, programmed and fed in text.

use crate::config::{BridgeConfig, InterfaceConfig, PortConfig, SwitchConfig, VlanMode};
use crate::memory_dp::MemoryDp;
use crate::slowpath::Slowpath;
use flow::Datapath;
use flow::seam::{DpError, PortRequest};
use std::sync::{Arc, Mutex};

/// A switch to play with. No thread runs: `Slowpath::run_until_idle` does all.
pub(crate) struct Scenario {
    pub(crate) dp: Arc<MemoryDp>,
    pub(crate) slowpath: Arc<Slowpath>,
}

impl Scenario {
    /// A switch with this configuration; the datapath type is "dummy".
    pub(crate) fn new(config: &SwitchConfig) -> Self {
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
        let slowpath = Slowpath::new(Box::new(factory));
        slowpath.configure(config);
        for udpif in slowpath.udpifs() {
            udpif.stop_threads();
        }
        Self { dp, slowpath }
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

fn port(name: &str, kind: &str, ofport_request: Option<u16>) -> PortConfig {
    let device = PortRequest { name: name.into(), kind: kind.into(), ..PortRequest::default() };
    let interface = InterfaceConfig { name: name.into(), device, ofport_request, ..InterfaceConfig::default() };
    PortConfig { name: name.into(), interfaces: vec![interface], ..PortConfig::default() }
}
