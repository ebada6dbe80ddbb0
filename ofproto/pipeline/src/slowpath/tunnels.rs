//! Tunnel ports: OpenFlow ports that share a datapath port, told apart by their configuration.
//!
//! What enters: interfaces of tunnel types. What leaves: ports in the world, datapath ports opened when the first tunnel needs them and
//! closed after the last. Neighbours: `apply`, whose steps these are parts of; `tunnel`, which reads options and finds ports again.

use super::apply::port_changed;
use super::{Applied, Interface, Key, Slowpath};
use crate::bridge::random_mac;
use crate::config::{InterfaceConfig, SwitchConfig};
use crate::deps::Object;
use crate::router::Query;
use crate::tunnel::options::parse;
use crate::tunnel::{Addr, ByFlow, Config, Kind};
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

/// Where the route to a tunnel's other end leaves, if there is one: `Interface.status:tunnel_egress_iface` and whether that device has a link.
pub(super) fn egress(world: &World, config: &Config) -> Vec<(String, String)> {
    let ByFlow::Fixed(dst) = config.remote else { return Vec::new() };
    let Some(answer) = world.router.find(Query { dst, src: Addr::default(), mark: 0 }) else { return Vec::new() };
    let up = match world.router.device(&answer.device) {
        Some(device) => device.carrier,
        // A dummy device, of which the kernel does not know.
        None => world.bridges.values().flat_map(|b| b.ports.values()).any(|p| p.name == answer.device && p.info.link_up),
    };
    let carrier = if up { "up" } else { "down" };
    [("tunnel_egress_iface", answer.device.as_str()), ("tunnel_egress_iface_carrier", carrier)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
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

#[cfg(test)]
mod tests {
    use crate::router::{Device, DeviceAddr, Prefix, Route, TABLE_MAIN};
    use crate::scenario::{Scenario, port};
    use crate::slowpath::RouteChange;
    use crate::tunnel::Addr;

    #[test]
    fn a_tunnel_tells_where_its_route_leaves() {
        let mut config = crate::scenario::config(&["br0 p1@1"]);
        for (name, number, remote) in
            [("vx1", 11, "10.0.0.2"), ("vx2", 12, "10.1.0.2"), ("vx3", 13, "10.9.0.2"), ("vx4", 14, "flow")]
        {
            let mut tunnel = port(name, "vxlan", Some(number));
            tunnel.interfaces[0].device.options = vec![("remote_ip".to_owned(), remote.to_owned())];
            config.bridges[0].ports.push(tunnel);
        }
        let s = Scenario::new(&config);
        let address = vec![DeviceAddr { address: Addr::parse("10.1.0.1").unwrap(), plen: 120 }];
        s.slowpath.set_device_addresses("br0", address, true);
        let prefix = Prefix::parse("10.0.0.0/24").unwrap();
        let (device, mark, gateway) = ("eth0".to_owned(), 0, Addr(0));
        let route = Route { prefix, mark, device, gateway, source: None, local: false, user: false, metric: 0 };
        let link = |carrier| s.slowpath.set_devices(&[("eth0".to_owned(), Some(Device { mtu: 1500, carrier }))]);
        link(true);
        s.slowpath.change_routes(vec![RouteChange::Add { table: TABLE_MAIN, route: route.clone() }]);
        let status = |name: &str| {
            let all = s.slowpath.status(false).interfaces;
            let told = all.into_iter().find(|i| i.name == name).unwrap().info.unwrap().status;
            told.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(status("vx1"), "tunnel_egress_iface=eth0 tunnel_egress_iface_carrier=up");
        assert_eq!(status("vx2"), "tunnel_egress_iface=br0 tunnel_egress_iface_carrier=up");
        assert_eq!((status("vx3").as_str(), status("vx4").as_str(), status("p1").as_str()), ("", "", ""));
        link(false);
        assert_eq!(status("vx1"), "tunnel_egress_iface=eth0 tunnel_egress_iface_carrier=down");
        s.slowpath.change_routes(vec![RouteChange::Remove { table: TABLE_MAIN, route }]);
        assert_eq!(status("vx1"), "");
    }
}
