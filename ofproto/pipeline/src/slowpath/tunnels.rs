//! Tunnel ports: OpenFlow ports that share a datapath port, told apart by their configuration.
//!
//! What enters: interfaces of tunnel types. What leaves: ports in the world, datapath ports opened when the first tunnel needs them and
//! closed after the last. Neighbours: `apply`, whose steps these are parts of; `tunnel`, which reads options and finds ports again.

use super::apply::port_changed;
use super::{Applied, Interface, Key, Slowpath};
use crate::bridge::random_mac;
use crate::config::{InterfaceConfig, SwitchConfig};
use crate::deps::Object;
use crate::tunnel::options::parse;
use crate::tunnel::{Config, Kind};
use crate::udpif::Udpif;
use crate::world::{BridgeId, World};
use flow::seam::{DpError, DpPort, PortInfo, PortRequest};
use openflow::OfPort;
use std::sync::Arc;

/// Why a tunnel port is refused: the text of `Interface.error`, and the error number's text for the log.
pub(super) struct Refusal {
    pub(super) text: String,
    errno: &'static str,
}

impl Refusal {
    fn new(text: String, errno: &'static str) -> Self {
        Self { text, errno }
    }

    pub(super) fn log(&self, name: &str) {
        tracing::warn!(target: "netdev_vport", "{}", self.text);
        tracing::warn!(target: "netdev", "{name}: could not set configuration ({})", self.errno);
    }
}

/// The kind of an interface, if it is a tunnel.
pub(super) fn kind_of(interface: &InterfaceConfig) -> Option<Kind> {
    Kind::by_name(&interface.device.kind)
}

impl Slowpath {
    /// Reads an interface's options, with what other tunnels have to say about them.
    pub(super) fn tunnel_config(&self, kind: Kind, interface: &InterfaceConfig) -> Result<Arc<Config>, Refusal> {
        let name = interface.name.as_str();
        let parsed = parse(name, kind, &interface.device.options);
        let (config, warnings) = parsed.map_err(|refused| Refusal::new(refused.text, "Invalid argument"))?;
        for warning in warnings {
            tracing::warn!(target: "netdev_vport", "{warning}");
        }
        if kind == Kind::Vxlan && self.vxlan_conflicts(name, &config) {
            let text = format!("{name}: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port");
            return Err(Refusal::new(text, "File exists"));
        }
        Ok(Arc::new(config))
    }

    /// One datapath port cannot be with and without group policy.
    fn vxlan_conflicts(&self, name: &str, config: &Config) -> bool {
        let world = self.read_world();
        let others = world.bridges.values().flat_map(|b| b.ports.values()).filter(|p| p.name != name);
        others
            .filter_map(|p| p.tunnel.as_ref())
            .any(|other| other.kind == Kind::Vxlan && other.dst_port == config.dst_port && other.gbp != config.gbp)
    }

    /// The datapath port that tunnels of a configuration share; opened if this is the first.
    pub(super) fn backing_port(udpif: &Udpif, config: &Config) -> Result<DpPort, DpError> {
        let name = config.backing();
        if let Some(port) = udpif.dp.ports().into_iter().find(|p| p.name == name) {
            return Ok(port.number);
        }
        let mut options = Vec::new();
        if config.gbp {
            options.push(("exts".to_owned(), "gbp".to_owned()));
        }
        if config.kind == Kind::Bareudp {
            options.push(("payload_type".to_owned(), config.payload_type.to_string()));
        }
        udpif.dp.port_add(&PortRequest { name, kind: config.kind.to_string(), options, ..PortRequest::default() })
    }

    /// Takes up another configuration of a tunnel port that stays.
    pub(super) fn adjust_tunnel(&self, config: &SwitchConfig, key: &Key, want: &InterfaceConfig, applied: &mut Applied) {
        let (Some(kind), Some(udpif)) = (kind_of(want), self.side(config, &key.0)) else { return };
        let Some(interface) = applied.interfaces.get_mut(key) else { return };
        let new = match self.tunnel_config(kind, want) {
            Ok(new) => new,
            Err(refusal) => {
                if applied.errors.insert(key.clone(), refusal.text.clone()).as_ref() != Some(&refusal.text) {
                    refusal.log(&key.1);
                }
                return;
            }
        };
        let put = Self::backing_port(&udpif, &new).map_err(|e| e.to_string()).and_then(|dp_port| {
            let place = (interface.bridge, interface.number);
            let old = put_tunnel(&mut self.write_world(), udpif.kind(), place, dp_port, &new)?;
            interface.dp_port = Some(dp_port);
            Ok(old)
        });
        match put {
            Ok(unused) => {
                applied.errors.remove(key);
                interface.request = want.device.clone();
                if let Some(port) = unused {
                    self.settle();
                    self.close_port(udpif.kind(), port);
                }
            }
            Err(text) => {
                if applied.errors.insert(key.clone(), text.clone()).as_ref() != Some(&text) {
                    tracing::warn!(target: "bridge", "{}: {text}", key.1);
                }
            }
        }
    }
}

/// Whether an interface that exists is a tunnel's.
pub(super) fn is_tunnel(interface: &Interface) -> bool {
    Kind::by_name(&interface.request.kind).is_some()
}

/// Puts a tunnel port that is in its bridge already into the datapath's tables, in place of what it had been. Gives the datapath port
/// that nobody needs any longer.
pub(super) fn put_tunnel(
    world: &mut World,
    backend: &str,
    place: (BridgeId, OfPort),
    dp_port: DpPort,
    config: &Arc<Config>,
) -> Result<Option<DpPort>, String> {
    let Some(side) = world.backends.get_mut(backend) else { return Ok(None) };
    let before = side.tunnels.iter().find(|(p, _)| *p == place).map(|(_, port)| port);
    if side.tunnels.put(place, dp_port, config).is_err() {
        return Err("File exists".to_owned());
    }
    if let Some(old) = before {
        side.listening.remove(old);
    }
    side.listening.add(dp_port, config);
    let unused = before.filter(|old| !side.tunnels.uses(*old));
    if let Some(port) = world.bridges.get_mut(&place.0).and_then(|b| b.ports.get_mut(&place.1)) {
        port.dp_port = Some(dp_port);
        port.info = info(&port.name, port.info.mac, dp_port, config);
        port.tunnel = Some(Arc::clone(config));
    }
    port_changed(world, place.0, place.1);
    for dp_port in before.into_iter().chain([dp_port]) {
        world.changed(Object::Tunnels(dp_port));
    }
    world.changed(Object::Listening);
    Ok(unused)
}

/// Takes a tunnel port out of the datapath's tables; gives its datapath port if nobody needs it any longer.
pub(super) fn remove_tunnel(world: &mut World, backend: &str, place: (BridgeId, OfPort)) -> Option<DpPort> {
    let side = world.backends.get_mut(backend)?;
    let dp_port = side.tunnels.remove(place)?;
    side.listening.remove(dp_port);
    let unused = !side.tunnels.uses(dp_port);
    world.changed(Object::Tunnels(dp_port));
    world.changed(Object::Listening);
    unused.then_some(dp_port)
}

/// A tunnel has no device: its MAC is made up, its link is always up.
pub(super) fn info(name: &str, mac: [u8; 6], dp_port: DpPort, config: &Config) -> PortInfo {
    PortInfo {
        number: dp_port,
        name: name.to_owned(),
        kind: config.kind.to_string(),
        mac: if mac == [0; 6] { random_mac() } else { mac },
        admin_up: true,
        link_up: true,
        config: config.to_options(),
        ..PortInfo::default()
    }
}
