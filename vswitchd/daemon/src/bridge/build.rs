//! Rows in, the slow path's configuration out: `Open_vSwitch`, `Bridge`, `Mirror` and `Flow_Table`. Ports, interfaces and controllers have
//! files of their own. Pure; what is wrong with the rows goes to `Complaints` in OVS's words and is left out or defaulted.

use super::complaints::Complaints;
use super::rows::{Map, Replica, Row, open_vswitch, parse_mac};
use super::schema::{
    Bridge, Column, Mirror, OpenVswitch, Port, Refs, Ssl, Text, auto_attach, bridge, flow_table, mirror, open_vswitch as root,
    port as port_row, ssl,
};
use super::{controller, export, keys, port, tracking};
use crate::options::Dummy;
use flow::fields::Field;
use flow::forms::PortNames;
use flow::hash::{Map as HashMap, Set};
use ofproto::classifier::PrefixField;
use ofproto::config::{BridgeConfig, FailMode, McastConfig, MirrorConfig, PortConfig, SwitchConfig, TableConfig, UpcallConfig};
use ofproto::lldp::AutoAttach;
use ofproto::mirror::read_filter;
use ofproto::table::INTERNAL;
use openflow::tls::TlsFiles;
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
    /// As the command line names them; the table SSL goes before.
    pub tls: TlsFiles,
}

/// From `sFlow.agent` and `sFlow.targets` to an address of this machine.
pub type AgentAddress = fn(Option<&str>, &[String]) -> Option<IpAddr>;

/// The configuration, and which row each name in it comes from.
#[derive(Debug, Default)]
pub struct Built {
    pub config: SwitchConfig,
    pub bridges: HashMap<String, Uuid>,
    /// By port name.
    pub ports: HashMap<String, Uuid>,
    /// By interface name.
    pub interfaces: HashMap<String, Uuid>,
    /// By bridge and mirror.
    pub mirrors: HashMap<(String, String), Uuid>,
    /// Interfaces that are refused before anything is tried: row and `Interface.error`.
    pub refused: Vec<(Uuid, Option<String>)>,
    /// By bridge and target.
    pub controllers: HashMap<(String, String), Uuid>,
    /// By type of datapath.
    pub datapaths: HashMap<String, Uuid>,
    /// `other_config:stats-update-interval`
    pub stats_interval_ms: i64,
    /// `other_config:enable-statistics`
    pub host_statistics: bool,
}

/// Reads everything.
pub fn build(replica: &dyn Replica, environment: &Environment, complaints: &mut Complaints) -> Built {
    let mut built = Built { stats_interval_ms: 5_000, ..Built::default() };
    let Some(row) = open_vswitch(replica) else {
        built.config.rundir = Some(environment.rundir.clone());
        return built;
    };
    let other = row.map(root::OTHER_CONFIG);
    built.stats_interval_ms = other.int("stats-update-interval", 5_000).max(5_000);
    built.host_statistics = other.bool("enable-statistics", false);
    built.datapaths = row.named_refs(root::DATAPATHS).into_iter().map(|(kind, datapath)| (kind, datapath.uuid)).collect();
    keys::complain(complaints, "Open_vSwitch", root::OTHER_CONFIG, &other);
    built.config = SwitchConfig {
        bridges: Vec::new(),
        upcalls: upcalls(&other),
        datapath: other.pairs(),
        vlan_limit: other.number("vlan-limit", 1u32),
        explicit_sampled_drops: other.bool("explicit-sampled-drops", false),
        bundle_idle_timeout_s: match other.number("bundle-idle-timeout", 0) {
            0 => 10,
            seconds => seconds,
        },
        flow_restore_wait: other.bool("flow-restore-wait", false),
        tracking: tracking::read(&row),
        rundir: Some(environment.rundir.clone()),
        tls: tls(&row, &environment.tls).unwrap_or_else(|| environment.tls.clone()),
    };
    for bridge in row.refs(root::BRIDGES) {
        let name = bridge.str(bridge::NAME);
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

/// The row of SSL, if there is one; what it does not speak of is as the options say.
fn tls(row: &Row<'_, OpenVswitch>, options: &TlsFiles) -> Option<TlsFiles> {
    let refs = row.refs(root::SSL);
    let ssl = refs.first()?;
    let path = |column: Column<Ssl, Text>| Some(ssl.str(column)).filter(|p| !p.is_empty()).map(PathBuf::from);
    Some(TlsFiles {
        private_key: path(ssl::PRIVATE_KEY),
        certificate: path(ssl::CERTIFICATE),
        ca_cert: path(ssl::CA_CERT),
        bootstrap: ssl.bool(ssl::BOOTSTRAP_CA_CERT),
        ..options.clone()
    })
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
    fn bridge(&mut self, row: &Row<'_, Bridge>) -> BridgeConfig {
        let name = row.str(bridge::NAME).to_owned();
        let other = row.map(bridge::OTHER_CONFIG);
        let datapath_type = match row.str(bridge::DATAPATH_TYPE) {
            "" => "system",
            other => other,
        };
        keys::complain(self.complaints, &format!("bridge {name}"), bridge::OTHER_CONFIG, &other);
        let mut ports = self.ports(row, datapath_type);
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        let controllers = controller::read_all(self, &name, row);
        BridgeConfig {
            datapath_type: datapath_type.to_owned(),
            datapath_id: other.get("datapath-id").and_then(parse_datapath_id),
            hwaddr: self.hwaddr(&name, &other),
            default_mac: Some(mac_of(row.uuid)),
            fail_mode: if row.str(bridge::FAIL_MODE) == "secure" { FailMode::Secure } else { FailMode::Standalone },
            protocols: versions(&row.strings(bridge::PROTOCOLS)),
            controllers,
            tables: self.tables(&name, row),
            mac_table_size: match other.number("mac-table-size", 0usize) {
                0 => 8192,
                size => size.clamp(10, 1_000_000),
            },
            mac_aging_s: match other.number("mac-aging-time", 300) {
                0 => 300,
                seconds => seconds,
            },
            flood_vlans: row.vlans(bridge::FLOOD_VLANS),
            forward_bpdu: other.bool("forward-bpdu", false),
            auto_attach: auto_attach(row),
            stp: row.bool(bridge::STP_ENABLE),
            rstp: row.bool(bridge::RSTP_ENABLE),
            disable_in_band: other.bool("disable-in-band", false),
            in_band_queue: other.get("in-band-queue").and_then(|t| t.parse().ok()),
            controller_queue_size: other.number("controller-queue-size", 100usize).clamp(1, 512),
            dp_desc: other.get("dp-desc").map(str::to_owned),
            serial: other.get("dp-sn").map(str::to_owned),
            mirrors: self.mirrors(&name, row, &ports),
            mcast_snooping: row.bool(bridge::MCAST_SNOOPING_ENABLE).then(|| McastConfig {
                table_size: other.number("mcast-snooping-table-size", 2048),
                aging_s: other.number("mcast-snooping-aging-time", 300),
                flood_unregistered: !other.bool("mcast-snooping-disable-flood-unregistered", false),
            }),
            netflow: export::netflow(row),
            sflow: export::sflow(self, row),
            ipfix: export::ipfix(self, row),
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

    fn ports(&mut self, bridge: &Row<'_, Bridge>, datapath_type: &str) -> Vec<PortConfig> {
        let name = bridge.str(bridge::NAME);
        let mut seen = Set::default();
        let mut ports = Vec::new();
        for row in bridge.refs(bridge::PORTS) {
            let port_name = row.str(port_row::NAME);
            if !seen.insert(port_name.to_owned()) {
                self.complaints.warn(format!("bridge {name}: {port_name} specified twice as bridge port"));
                continue;
            }
            if let Some(port) = port::read(self, name, datapath_type, &row) {
                self.built.ports.insert(port.name.clone(), row.uuid);
                ports.push(port);
            }
        }
        if !seen.contains(name) {
            self.complaints.warn(format!("bridge {name}: no port named {name}, synthesizing one"));
            ports.push(port::local(self, name, datapath_type));
        }
        ports
    }

    fn tables(&mut self, bridge: &str, row: &Row<'_, Bridge>) -> Vec<(u8, TableConfig)> {
        let mut tables = Vec::new();
        for (number, row) in row.numbered_refs(bridge::FLOW_TABLES) {
            // Table 254 is the switch's own, and may be configured too: OVN gives every table the same row.
            let Some(id) = u8::try_from(number).ok().filter(|id| *id <= INTERNAL.0) else {
                let text =
                    format!("bridge {bridge}: ignoring configuration for flow table {number} not supported by this datapath");
                self.complaints.warn(text);
                continue;
            };
            let config = TableConfig {
                name: row.opt_str(flow_table::NAME).map(str::to_owned),
                flow_limit: row.opt_int(flow_table::FLOW_LIMIT).and_then(|n| usize::try_from(n).ok()),
                evict: row.str(flow_table::OVERFLOW_POLICY) == "evict",
                groups: row.strings(flow_table::GROUPS).into_iter().map(str::to_owned).collect(),
                prefixes: self.prefixes(bridge, &row.strings(flow_table::PREFIXES)),
            };
            tables.push((id, config));
        }
        tables
    }

    /// Those by whose prefixes rules can be found; "none" stands for none.
    fn prefixes(&mut self, bridge: &str, names: &[&str]) -> Vec<String> {
        for name in names.iter().filter(|n| **n != "none" && PrefixField::by_name(n).is_none()) {
            let what = if Field::by_name(name).is_some() { "incompatible" } else { "unknown" };
            self.complaints.warn(format!("bridge {bridge}: 'prefixes' with {what} field: {name}"));
        }
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn mirrors(&mut self, bridge: &str, row: &Row<'_, Bridge>, ports: &[PortConfig]) -> Vec<MirrorConfig> {
        let exists = |name: &str| ports.iter().any(|p| p.name == name);
        let mut mirrors = Vec::new();
        for row in row.refs(bridge::MIRRORS) {
            let name = row.str(mirror::NAME).to_owned();
            let output_port = row.refs(mirror::OUTPUT_PORT).first().map(|p| p.str(port_row::NAME).to_owned());
            let mut output_vlan = row.opt_int(mirror::OUTPUT_VLAN).and_then(|v| u16::try_from(v).ok());
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
            let filter = row.opt_str(mirror::FILTER).filter(|f| !f.is_empty()).map(str::to_owned);
            if let Some(Err(error)) = filter.as_ref().map(|text| read_filter(text, &Known(ports))) {
                self.complaints.error(format!("bridge {bridge}: mirror {name}: filter is invalid: {error}; ignoring"));
                continue;
            }
            self.built.mirrors.insert((bridge.to_owned(), name.clone()), row.uuid);
            let mut selected = |column: Column<Mirror, Refs<Port>>| {
                let mut names = Vec::new();
                for port in row.refs(column).iter().map(|p| p.str(port_row::NAME)) {
                    if exists(port) {
                        names.push(port.to_owned());
                    } else {
                        self.complaints.warn(format!("bridge {bridge}: mirror {name} cannot match on nonexistent port {port}"));
                    }
                }
                names
            };
            mirrors.push(MirrorConfig {
                select_all: row.bool(mirror::SELECT_ALL),
                src_ports: selected(mirror::SELECT_SRC_PORT),
                dst_ports: selected(mirror::SELECT_DST_PORT),
                vlans: row.vlans(mirror::SELECT_VLAN),
                output_port,
                output_vlan,
                snaplen: row.opt_int(mirror::SNAPLEN).and_then(|v| u16::try_from(v).ok()),
                filter,
                name,
            });
        }
        mirrors
    }
}

/// Ports that a filter may name; their numbers are not known yet.
struct Known<'a>(&'a [PortConfig]);

impl PortNames for Known<'_> {
    fn name(&self, _port: u32) -> Option<String> {
        None
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.0.iter().flat_map(|p| &p.interfaces).any(|i| i.name == name).then_some(1)
    }
}

/// `Bridge.auto_attach`: what the switch asks of auto-attach servers.
fn auto_attach(row: &Row<'_, Bridge>) -> AutoAttach {
    let rows = row.refs(bridge::AUTO_ATTACH);
    let Some(row) = rows.first() else { return AutoAttach::default() };
    AutoAttach {
        system_name: row.str(auto_attach::SYSTEM_NAME).to_owned(),
        system_description: row.str(auto_attach::SYSTEM_DESCRIPTION).to_owned(),
        mappings: row
            .int_pairs(auto_attach::MAPPINGS)
            .into_iter()
            .filter_map(|(isid, vlan)| Some((u32::try_from(isid).ok()?, u16::try_from(vlan).ok()?)))
            .collect(),
    }
}

/// `OpenFlow10`..`OpenFlow15`; none means all.
fn versions(names: &[&str]) -> Versions {
    const NAMES: [&str; 6] = ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];
    let bits = NAMES.iter().zip(1..).filter(|(name, _)| names.contains(name)).fold(0, |bits, (_, wire)| bits | 1 << wire);
    if bits == 0 { Versions::ALL } else { Versions(bits) }
}

/// A MAC made from a row's name: as unique and as lasting as the row. Unicast and locally administered (IEEE 802c-2017 section 4).
fn mac_of(row: Uuid) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = *row.as_bytes();
    [a & 0xfe | 0x02, b, c, d, e, f]
}

/// 16 hexadecimal digits, or up to 16 after `0x`; zero is no datapath id.
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
