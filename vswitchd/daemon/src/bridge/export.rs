//! `NetFlow`, `sFlow`, `IPFIX` and `Flow_Sample_Collector_Set` rows: where a bridge exports its flows to. Defaults are those of
//! ovs-vswitchd.conf.db(5).

use super::build::Builder;
use super::rows::{Row, rows};
use super::schema::{
    Bridge, CollectorSet, Column, Integer, Ipfix, Netflow, Table, Texts, bridge, collector_set, ipfix, netflow, sflow,
};
use ofproto::config::{IpfixConfig, NetflowConfig, SflowConfig};
use ofproto::export::collectors::{Target, parse};
use ofproto::export::ipfix::COLLECTOR_PORT as IPFIX_PORT;
use ofproto::export::sflow::COLLECTOR_PORT;
use std::net::{IpAddr, UdpSocket};

const SAMPLING: u32 = 400;
const POLLING_S: u32 = 30;
const HEADER: u32 = 128;
const ACTIVE_TIMEOUT_S: u32 = 600;
const INTERVAL_S: u32 = 600;

fn targets<T: Table>(row: &Row<'_, T>, column: Column<T, Texts>) -> Vec<String> {
    row.strings(column).into_iter().map(str::to_owned).collect()
}

fn number<T: Table>(row: &Row<'_, T>, column: Column<T, Integer>, default: u32) -> u32 {
    row.opt_int(column).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
}

/// `Bridge.netflow`
pub(super) fn netflow(bridge: &Row<'_, Bridge>) -> Option<NetflowConfig> {
    let row = bridge.refs(bridge::NETFLOW).into_iter().next()?;
    let byte = |column: Column<Netflow, Integer>| row.opt_int(column).and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    Some(NetflowConfig {
        targets: targets(&row, netflow::TARGETS),
        engine_type: byte(netflow::ENGINE_TYPE),
        engine_id: byte(netflow::ENGINE_ID),
        add_id_to_interface: row.bool(netflow::ADD_ID_TO_INTERFACE),
        active_timeout_s: match row.int(netflow::ACTIVE_TIMEOUT) {
            0 => Some(ACTIVE_TIMEOUT_S),
            seconds => u32::try_from(seconds).ok(),
        },
    })
}

/// `Bridge.sflow`; bridges that have one are told apart by their number.
pub(super) fn sflow(builder: &mut Builder<'_>, bridge: &Row<'_, Bridge>) -> Option<SflowConfig> {
    let row = bridge.refs(bridge::SFLOW).into_iter().next()?;
    let targets = targets(&row, sflow::TARGETS);
    if !are_usable(&targets, Some(COLLECTOR_PORT)) {
        builder.disabled(bridge, "sFlow", &targets);
        return None;
    }
    let agent = builder.environment.agents.and_then(|resolve| resolve(row.opt_str(sflow::AGENT), &targets));
    // Once a name is resolved, so is the address by which it is reached.
    let is_name = |t: &String| matches!(parse(t, Some(COLLECTOR_PORT)), Some(Target::Name { .. }));
    if agent.is_none() && !targets.iter().any(is_name) {
        builder.complaints.error("could not determine IP address for sFlow agent".to_owned());
        return None;
    }
    let sub_id = builder.built.config.bridges.iter().filter(|b| b.sflow.is_some()).count();
    Some(SflowConfig {
        targets,
        sampling: number(&row, sflow::SAMPLING, SAMPLING).max(1),
        polling_s: number(&row, sflow::POLLING, POLLING_S),
        header: number(&row, sflow::HEADER, HEADER),
        agent,
        sub_id: u32::try_from(sub_id).unwrap_or(0),
    })
}

/// Whether any of them can be a collector. Packets that nobody is told of are not sampled.
fn are_usable(targets: &[String], default_port: Option<u16>) -> bool {
    targets.iter().any(|target| parse(target, default_port).is_some())
}

impl Builder<'_> {
    fn disabled(&mut self, bridge: &Row<'_, Bridge>, what: &str, targets: &[String]) {
        let (name, targets) = (bridge.str(bridge::NAME), targets.join(", "));
        let form = "IP[:PORT] or NAME[:PORT]";
        self.complaints
            .warn(format!("bridge {name}: no collectors could be initialized, {what} disabled ({targets}: expected {form})"));
    }
}

/// `Bridge.ipfix`
pub(super) fn ipfix(builder: &mut Builder<'_>, bridge: &Row<'_, Bridge>) -> Option<IpfixConfig> {
    let config = bridge.refs(bridge::IPFIX).first().map(read_ipfix).filter(|config| !config.targets.is_empty())?;
    if !are_usable(&config.targets, Some(IPFIX_PORT)) {
        builder.disabled(bridge, "IPFIX exporter", &config.targets);
        return None;
    }
    Some(config)
}

/// The collector sets of a bridge.
pub(super) fn flow_ipfix(bridge: &Row<'_, Bridge>) -> Vec<(u32, IpfixConfig)> {
    let of_bridge = |set: &Row<'_, CollectorSet>| set.refs(collector_set::BRIDGE).iter().any(|b| b.uuid == bridge.uuid);
    let read = |set: Row<'_, CollectorSet>| {
        Some((u32::try_from(set.int(collector_set::ID)).ok()?, read_ipfix(set.refs(collector_set::IPFIX).first()?)))
    };
    let mut sets: Vec<_> = rows(bridge.replica()).into_iter().filter(of_bridge).filter_map(read).collect();
    sets.sort_by_key(|(id, _)| *id);
    sets
}

fn read_ipfix(row: &Row<'_, Ipfix>) -> IpfixConfig {
    let other = row.map(ipfix::OTHER_CONFIG);
    IpfixConfig {
        targets: targets(row, ipfix::TARGETS),
        sampling: number(row, ipfix::SAMPLING, SAMPLING).max(1),
        obs_domain_id: number(row, ipfix::OBS_DOMAIN_ID, 0),
        obs_point_id: number(row, ipfix::OBS_POINT_ID, 0),
        cache_active_timeout_s: number(row, ipfix::CACHE_ACTIVE_TIMEOUT, 0),
        cache_max_flows: usize::try_from(number(row, ipfix::CACHE_MAX_FLOWS, 0)).unwrap_or(usize::MAX),
        stats_interval_s: number(row, ipfix::STATS_INTERVAL, INTERVAL_S),
        template_interval_s: number(row, ipfix::TEMPLATE_INTERVAL, INTERVAL_S),
        input_sampling: other.bool("enable-input-sampling", true),
        output_sampling: other.bool("enable-output-sampling", true),
        tunnel_sampling: other.bool("enable-tunnel-sampling", true),
        virtual_obs_id: other.get("virtual_obs_id").map(str::to_owned),
    }
}

/// The address of an sFlow agent: that of the device named, the address given, or the one by which a collector is reached.
#[must_use]
pub fn agent_address(agent: Option<&str>, targets: &[String]) -> Option<IpAddr> {
    agent.and_then(|a| device_address(a).or_else(|| a.parse().ok())).or_else(|| targets.iter().find_map(|t| address_towards(t)))
}

/// The first IPv4 address of a device, or its first IPv6 address.
fn device_address(name: &str) -> Option<IpAddr> {
    let of_device: Vec<_> = nix::ifaddrs::getifaddrs().ok()?.filter(|a| a.interface_name == name).collect();
    let storage = || of_device.iter().filter_map(|a| a.address.as_ref());
    let v4 = storage().find_map(|s| s.as_sockaddr_in().map(|a| IpAddr::V4(a.ip())));
    v4.or_else(|| storage().find_map(|s| s.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()))))
}

/// Nothing is sent: the system only chooses an address.
fn address_towards(target: &str) -> Option<IpAddr> {
    let Some(Target::Address(to)) = parse(target, Some(COLLECTOR_PORT)) else { return None };
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}
