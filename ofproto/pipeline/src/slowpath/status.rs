//! What came of the configuration, for the database.

use super::Slowpath;
use super::apply::key_of;
use super::{too_long, tunnels};
use crate::bridge::{Bridge, Port};
use crate::config::{BridgeStatus, InterfaceStatus};
use crate::mirror::Mirror;
use crate::protocols::{PortStatus, link_status, port_status, tree_status};
use flow::clock::now_ms;
use flow::seam::PortStats;

/// Everything the daemon writes back.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub bridges: Vec<BridgeStatus>,
    pub interfaces: Vec<InterfaceStatus>,
    pub ports: Vec<PortStatus>,
}

impl Slowpath {
    /// How many of each kind of object there are, by the names that OVS has for them (`memory/show`); rules are all that the tables have.
    #[must_use]
    pub fn objects(&self) -> Vec<(&'static str, usize)> {
        let udpifs = self.udpifs();
        let world = self.read_world();
        let of_bridges = |count: fn(&Bridge) -> usize| world.bridges.values().map(count).sum();
        vec![
            ("handlers", udpifs.iter().map(|u| u.handlers()).sum()),
            ("revalidators", udpifs.len()),
            ("udpif keys", udpifs.iter().map(|u| u.flow_count()).sum()),
            ("ports", of_bridges(|b| b.ports.len())),
            ("rules", of_bridges(|b| b.tables.iter().map(crate::table::Table::len).sum())),
        ]
    }

    /// The state of bridges and interfaces. `stats`: also ask the datapaths for counters.
    #[must_use]
    pub fn status(&self, stats: bool) -> Status {
        self.status_counting(&|_| stats)
    }

    /// The same, with the counters of interfaces whose names `counted` says yes of.
    #[must_use]
    pub fn status_counting(&self, counted: &dyn Fn(&str) -> bool) -> Status {
        let applied = self.lock_applied();
        let mut status = Status::default();
        for config in &applied.config.bridges {
            let world = self.read_world();
            let Some(bridge) = world.bridge_named(&config.name) else {
                let error = applied.bridge_errors.get(&config.name).cloned();
                status.bridges.push(BridgeStatus { name: config.name.clone(), error, ..BridgeStatus::default() });
                continue;
            };
            let (stp, rstp) = tree_status(bridge);
            status.bridges.push(BridgeStatus {
                stp,
                rstp,
                name: bridge.name.clone(),
                datapath_id: bridge.datapath_id,
                datapath_version: "<built-in>".to_owned(),
                status: Vec::new(),
                mirrors: bridge.mirrors.iter().map(mirrored).collect(),
                error: None,
            });
            status.ports.extend(port_status(bridge, now_ms()));
            let dp = world.backends.get(&bridge.kind).map(|b| &b.dp);
            for port in bridge.ports.values() {
                let stats = counted(&port.name);
                let refused = applied.host_refusal(&bridge.kind, port);
                let counters = || match (port.own_dp_port(), dp) {
                    (Some(number), Some(dp)) => dp.port_stats(number).ok(),
                    (Some(_), None) => None,
                    (None, _) => Some(patch_stats(port)),
                };
                let mut interface = InterfaceStatus {
                    bridge: bridge.name.clone(),
                    name: port.name.clone(),
                    ofport: u16::try_from(port.number.0 & 0xffff).ok().filter(|_| refused.is_none()),
                    error: refused
                        .or_else(|| applied.errors.get(&key_of(bridge, port)))
                        .cloned()
                        .or_else(|| without_peer(bridge, port)),
                    info: Some(port.info.clone()),
                    stats: if stats { counters() } else { None },
                    link: link_status(bridge, port, now_ms()),
                    custom_stats: port
                        .dp_port
                        .zip(dp)
                        .filter(|_| stats)
                        .map(|(n, dp)| dp.port_custom_stats(n))
                        .unwrap_or_default(),
                };
                if let (Some(tunnel), Some(info)) = (&port.tunnel, &mut interface.info) {
                    info.status.extend(tunnels::egress(&world, tunnel));
                }
                if let (Some(tunnel), Some(number), Some(dp)) = (&port.tunnel, port.dp_port, dp) {
                    too_long::tell(&mut interface, tunnel, &dp.port_too_long(number), stats, now_ms());
                }
                status.interfaces.push(interface);
            }
        }
        let failed = applied.errors.iter().filter(|(key, _)| !applied.interfaces.contains_key(*key));
        status.interfaces.extend(failed.map(|((bridge, name), error)| InterfaceStatus {
            bridge: bridge.clone(),
            name: name.clone(),
            error: Some(error.clone()),
            ..InterfaceStatus::default()
        }));
        status
    }
}

/// Name, packets, bytes.
fn mirrored(mirror: &Mirror) -> (String, u64, u64) {
    let (packets, bytes) = mirror.tally.read();
    (mirror.name.clone(), packets, bytes)
}

/// What a patch port or a tunnel has carried, as translation counted it.
pub(crate) fn patch_stats(port: &Port) -> PortStats {
    let (rx_packets, rx_bytes) = port.patch.rx.read();
    let (tx_packets, tx_bytes) = port.patch.tx.read();
    PortStats {
        rx_packets,
        rx_bytes,
        tx_packets,
        tx_bytes,
        rx_dropped: PortStats::UNKNOWN,
        tx_dropped: PortStats::UNKNOWN,
        rx_errors: PortStats::UNKNOWN,
        tx_errors: PortStats::UNKNOWN,
        rx_frame_err: PortStats::UNKNOWN,
        rx_over_err: PortStats::UNKNOWN,
        rx_crc_err: PortStats::UNKNOWN,
        rx_missed_errors: PortStats::UNKNOWN,
        rx_multicast_packets: PortStats::UNKNOWN,
        collisions: PortStats::UNKNOWN,
        upcall_packets: PortStats::UNKNOWN,
        upcall_errors: PortStats::UNKNOWN,
    }
}

/// What keeps a patch port from carrying anything, though it is there.
fn without_peer(bridge: &Bridge, port: &Port) -> Option<String> {
    let wish = |p: &Port| p.info.config.iter().find(|(key, _)| key == "peer").map(|(_, peer)| peer.clone());
    let peer = wish(port).filter(|_| port.kind == "patch" && port.peer.is_none())?;
    Some(format!("No usable peer '{peer}' exists in '{}' datapath.", bridge.kind))
}
