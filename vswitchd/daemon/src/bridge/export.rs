//! `NetFlow`, `sFlow`, `IPFIX` and `Flow_Sample_Collector_Set` rows: where a bridge exports its flows to. Defaults are those of
//! ovs-vswitchd.conf.db(5).

use super::build::Builder;
use super::rows::{Row, rows};
use ofproto::config::{IpfixConfig, NetflowConfig, SflowConfig};
use std::net::{IpAddr, UdpSocket};

const SAMPLING: u32 = 400;
const POLLING_S: u32 = 30;
const HEADER: u32 = 128;
const ACTIVE_TIMEOUT_S: u32 = 600;
const INTERVAL_S: u32 = 600;

fn targets(row: &Row<'_>) -> Vec<String> {
    row.strings("targets").into_iter().map(str::to_owned).collect()
}

fn number(row: &Row<'_>, column: &str, default: u32) -> u32 {
    row.opt_int(column).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
}

/// `Bridge.netflow`
pub(super) fn netflow(bridge: &Row<'_>) -> Option<NetflowConfig> {
    let row = bridge.refs("netflow", "NetFlow").into_iter().next()?;
    let byte = |column| row.opt_int(column).and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    Some(NetflowConfig {
        targets: targets(&row),
        engine_type: byte("engine_type"),
        engine_id: byte("engine_id"),
        add_id_to_interface: row.bool("add_id_to_interface"),
        active_timeout_s: match row.int("active_timeout") {
            0 => Some(ACTIVE_TIMEOUT_S),
            seconds => u32::try_from(seconds).ok(),
        },
    })
}

/// `Bridge.sflow`; bridges that have one are told apart by their number.
pub(super) fn sflow(builder: &mut Builder<'_>, bridge: &Row<'_>) -> Option<SflowConfig> {
    let row = bridge.refs("sflow", "sFlow").into_iter().next()?;
    let targets = targets(&row);
    let Some(agent) = builder.environment.agents.and_then(|resolve| resolve(row.opt_str("agent"), &targets)) else {
        builder.complaints.error("could not determine IP address for sFlow agent".to_owned());
        return None;
    };
    let sub_id = builder.built.config.bridges.iter().filter(|b| b.sflow.is_some()).count();
    Some(SflowConfig {
        targets,
        sampling: number(&row, "sampling", SAMPLING).max(1),
        polling_s: number(&row, "polling", POLLING_S),
        header: number(&row, "header", HEADER),
        agent,
        sub_id: u32::try_from(sub_id).unwrap_or(0),
    })
}

/// `Bridge.ipfix`
pub(super) fn ipfix(bridge: &Row<'_>) -> Option<IpfixConfig> {
    bridge.refs("ipfix", "IPFIX").first().map(read_ipfix)
}

/// The collector sets of a bridge.
pub(super) fn flow_ipfix(bridge: &Row<'_>) -> Vec<(u32, IpfixConfig)> {
    let of_bridge = |set: &Row<'_>| set.refs("bridge", "Bridge").iter().any(|b| b.uuid == bridge.uuid);
    let read = |set: Row<'_>| Some((u32::try_from(set.int("id")).ok()?, read_ipfix(set.refs("ipfix", "IPFIX").first()?)));
    let mut sets: Vec<_> =
        rows(bridge.replica(), "Flow_Sample_Collector_Set").into_iter().filter(of_bridge).filter_map(read).collect();
    sets.sort_by_key(|(id, _)| *id);
    sets
}

fn read_ipfix(row: &Row<'_>) -> IpfixConfig {
    let other = row.map("other_config");
    IpfixConfig {
        targets: targets(row),
        sampling: number(row, "sampling", SAMPLING).max(1),
        obs_domain_id: number(row, "obs_domain_id", 0),
        obs_point_id: number(row, "obs_point_id", 0),
        cache_active_timeout_s: number(row, "cache_active_timeout", 0),
        cache_max_flows: usize::try_from(number(row, "cache_max_flows", 0)).unwrap_or(usize::MAX),
        stats_interval_s: number(row, "stats_interval", INTERVAL_S),
        template_interval_s: number(row, "template_interval", INTERVAL_S),
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
    let to = ofproto::export::collectors::parse(target, Some(ofproto::export::sflow::COLLECTOR_PORT))?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}
