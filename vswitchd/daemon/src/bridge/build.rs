//! Rows in, the slow path's configuration out: `Open_vSwitch`, `Bridge`, `Mirror` and `Flow_Table`. Ports, interfaces and controllers have
//! files of their own. Pure; what is wrong with the rows goes to `Complaints` in OVS's words and is left out or defaulted.

use super::complaints::Complaints;
use super::rows::{Map, Replica, Row, open_vswitch, parse_mac};
use super::{controller, export, port};
use crate::options::Dummy;
use flow::hash::{Map as HashMap, Set};
use ofproto::config::{BridgeConfig, FailMode, McastConfig, MirrorConfig, PortConfig, SwitchConfig, TableConfig, UpcallConfig};
use openflow::types::Versions;
use std::net::IpAddr;
use std::path::PathBuf;
use uuid::Uuid;

/// What the rows do not say.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub dummy: Option<Dummy>,
    pub rundir: PathBuf,
    /// Finds the address of an sFlow agent, by what is configured and by its collectors.
    pub agents: Option<AgentAddress>,
}

/// From `sFlow.agent` and `sFlow.targets` to an address of this machine.
pub type AgentAddress = fn(Option<&str>, &[String]) -> Option<IpAddr>;

/// The configuration, and which row each name in it comes from.
#[derive(Debug, Default)]
pub struct Built {
    pub config: SwitchConfig,
    pub bridges: HashMap<String, Uuid>,
    /// By interface name.
    pub interfaces: HashMap<String, Uuid>,
    /// Interfaces that are refused before anything is tried: row and `Interface.error`.
    pub refused: Vec<(Uuid, Option<String>)>,
    /// By bridge and target.
    pub controllers: HashMap<(String, String), Uuid>,
    /// `other_config:stats-update-interval`
    pub stats_interval_ms: i64,
}

/// Reads everything.
pub fn build(replica: &dyn Replica, environment: &Environment, complaints: &mut Complaints) -> Built {
    let mut built = Built { stats_interval_ms: 5_000, ..Built::default() };
    let Some(row) = open_vswitch(replica) else {
        built.config.rundir = Some(environment.rundir.clone());
        return built;
    };
    let other = row.map("other_config");
    built.stats_interval_ms = other.int("stats-update-interval", 5_000).max(5_000);
    built.config = SwitchConfig {
        bridges: Vec::new(),
        upcalls: upcalls(&other),
        datapath: other.pairs(),
        vlan_limit: other.number("vlan-limit", 1u32),
        bundle_idle_timeout_s: match other.number("bundle-idle-timeout", 0) {
            0 => 10,
            seconds => seconds,
        },
        flow_restore_wait: other.bool("flow-restore-wait", false),
        rundir: Some(environment.rundir.clone()),
    };
    for bridge in row.refs("bridges", "Bridge") {
        let name = bridge.str("name");
        if name.contains(['/', '\\']) || name.is_empty() {
            complaints.warn(format!("ignoring bridge with invalid name \"{name}\""));
            continue;
        }
        if built.bridges.insert(name.to_owned(), bridge.uuid).is_some() {
            complaints.warn(format!("bridge {name} specified twice"));
            continue;
        }
        let config = Builder { environment, complaints, built: &mut built }.bridge(&bridge);
        built.config.bridges.push(config);
    }
    built.config.bridges.sort_by(|a, b| a.name.cmp(&b.name));
    built
}

fn upcalls(other: &Map) -> UpcallConfig {
    let default = UpcallConfig::default();
    let threads = |key| Some(other.number(key, 0usize)).filter(|n| *n > 0);
    UpcallConfig {
        flow_limit: other.number("flow-limit", default.flow_limit),
        max_idle_ms: other.number("max-idle", default.max_idle_ms).max(500),
        max_revalidator_ms: other.number("max-revalidator", default.max_revalidator_ms).max(100),
        min_revalidate_pps: other.number("min-revalidate-pps", default.min_revalidate_pps),
        handlers: threads("n-handler-threads"),
        revalidators: threads("n-revalidator-threads"),
    }
}

/// What the readers of rows have in hand.
pub(super) struct Builder<'a> {
    pub(super) environment: &'a Environment,
    pub(super) complaints: &'a mut Complaints,
    pub(super) built: &'a mut Built,
}

impl Builder<'_> {
    fn bridge(&mut self, row: &Row<'_>) -> BridgeConfig {
        let name = row.str("name").to_owned();
        let other = row.map("other_config");
        let datapath_type = match row.str("datapath_type") {
            "" => "system",
            other => other,
        };
        let mut ports = self.ports(row, datapath_type);
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        let controllers = controller::read_all(self, &name, row);
        BridgeConfig {
            datapath_type: datapath_type.to_owned(),
            datapath_id: other.get("datapath-id").and_then(parse_datapath_id),
            hwaddr: self.hwaddr(&name, &other),
            default_mac: Some(mac_of(row.uuid)),
            fail_mode: if row.str("fail_mode") == "secure" { FailMode::Secure } else { FailMode::Standalone },
            protocols: versions(&row.strings("protocols")),
            controllers,
            tables: self.tables(&name, row),
            mac_table_size: other.number("mac-table-size", 8192).max(1),
            mac_aging_s: match other.number("mac-aging-time", 300) {
                0 => 300,
                seconds => seconds,
            },
            flood_vlans: row.vlans("flood_vlans"),
            forward_bpdu: other.bool("forward-bpdu", false),
            disable_in_band: other.bool("disable-in-band", false),
            in_band_queue: other.get("in-band-queue").and_then(|t| t.parse().ok()),
            controller_queue_size: other.number("controller-queue-size", 100usize).clamp(1, 512),
            dp_desc: other.get("dp-desc").map(str::to_owned),
            serial: other.get("dp-sn").map(str::to_owned),
            mirrors: self.mirrors(&name, row, &ports),
            mcast_snooping: row.bool("mcast_snooping_enable").then(|| McastConfig {
                table_size: other.number("mcast-snooping-table-size", 2048),
                aging_s: other.number("mcast-snooping-aging-time", 300),
                flood_unregistered: !other.bool("mcast-snooping-disable-flood-unregistered", false),
            }),
            netflow: export::netflow(row),
            sflow: export::sflow(self, row),
            ipfix: export::ipfix(row),
            flow_ipfix: export::flow_ipfix(row),
            other_config: other.pairs(),
            ports,
            name,
        }
    }

    /// `other_config:hwaddr`; without it the slow path chooses.
    fn hwaddr(&mut self, bridge: &str, other: &Map) -> Option<[u8; 6]> {
        let wish = other.get("hwaddr").and_then(parse_mac);
        match wish {
            Some(mac) if mac[0] & 1 != 0 => {
                let text = super::rows::mac_text(mac);
                self.complaints.error(format!("bridge {bridge}: cannot set MAC address to multicast address {text}"));
            }
            Some([0, 0, 0, 0, 0, 0]) => self.complaints.error(format!("bridge {bridge}: cannot set MAC address to zero")),
            Some(mac) => return Some(mac),
            None => {}
        }
        None
    }

    fn ports(&mut self, bridge: &Row<'_>, datapath_type: &str) -> Vec<PortConfig> {
        let name = bridge.str("name");
        let mut seen = Set::default();
        let mut ports = Vec::new();
        for row in bridge.refs("ports", "Port") {
            let port_name = row.str("name");
            if !seen.insert(port_name.to_owned()) {
                self.complaints.warn(format!("bridge {name}: {port_name} specified twice as bridge port"));
                continue;
            }
            ports.extend(port::read(self, name, datapath_type, &row));
        }
        if !seen.contains(name) {
            self.complaints.warn(format!("bridge {name}: no port named {name}, synthesizing one"));
            ports.push(port::local(self, name, datapath_type));
        }
        ports
    }

    fn tables(&mut self, bridge: &str, row: &Row<'_>) -> Vec<(u8, TableConfig)> {
        let mut tables = Vec::new();
        for (number, row) in row.numbered_refs("flow_tables", "Flow_Table") {
            // Table 254 is the switch's own.
            let Some(id) = u8::try_from(number).ok().filter(|id| *id < 254) else {
                let text =
                    format!("bridge {bridge}: ignoring configuration for flow table {number} not supported by this datapath");
                self.complaints.warn(text);
                continue;
            };
            let config = TableConfig {
                name: row.opt_str("name").map(str::to_owned),
                flow_limit: row.opt_int("flow_limit").and_then(|n| usize::try_from(n).ok()),
                evict: row.str("overflow_policy") == "evict",
                groups: row.strings("groups").into_iter().map(str::to_owned).collect(),
                prefixes: row.strings("prefixes").into_iter().map(str::to_owned).collect(),
            };
            tables.push((id, config));
        }
        tables
    }

    fn mirrors(&mut self, bridge: &str, row: &Row<'_>, ports: &[PortConfig]) -> Vec<MirrorConfig> {
        let exists = |name: &str| ports.iter().any(|p| p.name == name);
        let mut mirrors = Vec::new();
        for row in row.refs("mirrors", "Mirror") {
            let name = row.str("name").to_owned();
            let output_port = row.refs("output_port", "Port").first().map(|p| p.str("name").to_owned());
            let mut output_vlan = row.opt_int("output_vlan").and_then(|v| u16::try_from(v).ok());
            match (&output_port, output_vlan) {
                (Some(port), _) if !exists(port) => {
                    self.complaints.error(format!("bridge {bridge}: mirror {name} outputs to port not on bridge"));
                    continue;
                }
                (Some(_), Some(_)) => {
                    let text = format!(
                        "bridge {bridge}: mirror {name} specifies both output port and output vlan; ignoring output vlan"
                    );
                    self.complaints.error(text);
                    output_vlan = None;
                }
                (None, None) => {
                    self.complaints.error(format!("bridge {bridge}: mirror {name} does not specify output; ignoring"));
                    continue;
                }
                (Some(_), None) | (None, Some(_)) => {}
            }
            let mut selected = |column| {
                let mut names = Vec::new();
                for port in row.refs(column, "Port").iter().map(|p| p.str("name")) {
                    if exists(port) {
                        names.push(port.to_owned());
                    } else {
                        self.complaints.warn(format!("bridge {bridge}: mirror {name} cannot match on nonexistent port {port}"));
                    }
                }
                names
            };
            mirrors.push(MirrorConfig {
                select_all: row.bool("select_all"),
                src_ports: selected("select_src_port"),
                dst_ports: selected("select_dst_port"),
                vlans: row.vlans("select_vlan"),
                output_port,
                output_vlan,
                snaplen: row.opt_int("snaplen").and_then(|v| u16::try_from(v).ok()),
                name,
            });
        }
        mirrors
    }
}

/// `OpenFlow10`..`OpenFlow15`; none means all.
fn versions(names: &[&str]) -> Versions {
    const NAMES: [&str; 6] = ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];
    let bits = NAMES.iter().zip(1..).filter(|(name, _)| names.contains(name)).fold(0, |bits, (_, wire)| bits | 1 << wire);
    if bits == 0 { Versions::ALL } else { Versions(bits) }
}

/// 16 hexadecimal digits, or up to 16 after `0x`; zero is no datapath id.
/// A MAC made from a row's name: as unique and as lasting as the row. Unicast and locally administered (IEEE 802c-2017 section 4).
fn mac_of(row: Uuid) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = *row.as_bytes();
    [a & 0xfe | 0x02, b, c, d, e, f]
}

fn parse_datapath_id(text: &str) -> Option<u64> {
    let digits = match text.strip_prefix("0x") {
        Some(digits) if (1..=16).contains(&digits.len()) => digits,
        None if text.len() == 16 => text,
        Some(_) | None => return None,
    };
    let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|id| all_hex && *id != 0)
}

#[cfg(test)]
mod tests;
