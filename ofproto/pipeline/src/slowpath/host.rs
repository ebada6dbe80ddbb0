//! Which tunnel ports need the host's own stack, and are given it.
//!
//! What enters: tunnel ports, routes and addresses as the world has them. What leaves: settings of datapath ports (`PortRequest.host`), and why one
//! was refused. Neighbours: `tunnels`, `routes`; `xlate::native`, which sends by the host where the route leaves by a device that is no port.
//!
//! A tunnel needs the host if what it sends leaves by such a device, or, where its other end is not known, if packets can come in by one. Its
//! sockets are there as long as that is so and no longer: an underlay that is all bridges has none, and leaves UDP ports to others.

use super::{Applied, Slowpath};
use crate::bridge::Port;
use crate::router::Query;
use crate::tunnel::{Addr, ByFlow, Config, Kind};
use crate::world::World;
use flow::Msec;
use flow::seam::{DpPort, HostIntake, PortRequest};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// How often something that was refused is tried again.
const RETRY_MS: Msec = 1000;

/// What was refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// By type of datapath and port.
    why: BTreeMap<(String, DpPort), String>,
}

/// What the host is to hand over for a tunnel.
fn intake(config: &Config) -> Option<HostIntake> {
    match config.kind {
        Kind::Vxlan | Kind::Geneve | Kind::Gtpu | Kind::Bareudp => Some(HostIntake::Udp(config.dst_port)),
        Kind::Gre | Kind::Ip6gre => Some(HostIntake::Gre),
        Kind::Erspan | Kind::Ip6erspan => Some(HostIntake::Erspan),
        Kind::Srv6 => Some(HostIntake::Routing),
        // There is no header for them.
        Kind::Lisp | Kind::Stt => None,
    }
}

impl World {
    /// Whether a tunnel's packets come and go by devices that are no ports of a datapath of type `kind`.
    fn needs_host(&self, kind: &str, config: &Config) -> bool {
        let is_the_hosts = |device: &str| self.port_of_device(kind, device).is_none();
        let local = match config.local {
            ByFlow::Fixed(address) => address,
            ByFlow::Flow => Addr(0),
        };
        match config.remote {
            ByFlow::Fixed(dst) => {
                let route = |mark: u32| self.router.find(Query { dst, src: local, mark });
                // As in translation.
                let answer = route(config.egress_pkt_mark.unwrap_or(0)).or_else(|| route(0));
                answer.is_some_and(|answer| is_the_hosts(&answer.device))
            }
            ByFlow::Flow if local != Addr(0) => {
                self.router.addresses().any(|(device, a)| a.address == local && is_the_hosts(device))
            }
            ByFlow::Flow => self.router.addresses().any(|(device, _)| device != "lo" && is_the_hosts(device)),
        }
    }

    /// What each tunnel port of a datapath is to have of the host.
    fn hosts_wanted(&self, kind: &str) -> BTreeMap<DpPort, Option<HostIntake>> {
        let mut wanted = BTreeMap::new();
        let Some(backend) = self.backends.get(kind).filter(|b| b.features.host_tunnels) else { return wanted };
        for ((bridge, number), dp_port) in backend.tunnels.iter() {
            let port = self.bridges.get(&bridge).and_then(|b| b.ports.get(&number));
            let Some(config) = port.and_then(|p| p.tunnel.as_ref()) else { continue };
            let entry = wanted.entry(dp_port).or_insert(None);
            if entry.is_none() && self.needs_host(kind, config) {
                *entry = intake(config);
            }
        }
        wanted
    }
}

impl Slowpath {
    /// The same if routes or devices have changed, or something that was refused is to be tried again. While the configuration changes it waits:
    /// that ends with it, too.
    pub(super) fn follow_hosts_if_due(&self, now: Msec) {
        let changed = self.read_world().hosts_due.load(Ordering::Acquire);
        let retry_ms = self.hosts_retry_ms.load(Ordering::Relaxed);
        if (changed || retry_ms != 0 && now >= retry_ms)
            && let Ok(mut applied) = self.applied.try_lock()
        {
            self.settle_hosts(&mut applied, now);
        }
    }

    /// Gives tunnel ports the host's stack where they need it, and takes it away where they do not.
    pub(super) fn follow_hosts(&self, now: Msec) {
        self.settle_hosts(&mut self.lock_applied(), now);
    }

    fn settle_hosts(&self, applied: &mut Applied, now: Msec) {
        self.read_world().hosts_due.store(false, Ordering::Release);
        let before = std::mem::take(&mut applied.hosts.why);
        for udpif in self.udpifs() {
            let wanted = self.read_world().hosts_wanted(udpif.kind());
            for (port, host) in wanted {
                let Ok(info) = udpif.dp.port(port) else { continue };
                if info.host == host {
                    continue;
                }
                let request =
                    PortRequest { name: info.name, kind: info.kind, options: info.options, host, ..PortRequest::default() };
                if let Err(error) = udpif.dp.port_set(port, &request) {
                    let (key, text) = ((udpif.kind().to_owned(), port), error.to_string());
                    if before.get(&key) != Some(&text) {
                        tracing::warn!(target: "tunnel", "{text}");
                    }
                    applied.hosts.why.insert(key, text);
                }
            }
        }
        let why = &applied.hosts.why;
        self.hosts_retry_ms.store(if why.is_empty() { 0 } else { now + RETRY_MS }, Ordering::Relaxed);
        if before != *why {
            let world = self.read_world();
            world.wake.note_news();
            world.wake.wake();
        }
    }
}

impl Applied {
    /// Why a tunnel port has no ear at the host though it needs one.
    pub(super) fn host_refusal(&self, kind: &str, port: &Port) -> Option<&String> {
        self.hosts.why.get(&(kind.to_owned(), port.dp_port.filter(|_| port.tunnel.is_some())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{Device, DeviceAddr, Prefix, Route, TABLE_MAIN};
    use crate::scenario::{Scenario, port};
    use crate::slowpath::RouteChange;
    use crate::tunnel::options::parse;
    use flow::Datapath;
    use flow::clock::now_ms;

    fn config(kind: Kind, text: &str) -> Config {
        let pairs: Vec<(String, String)> =
            text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
        parse("t", kind, &pairs).unwrap().0
    }

    fn address(text: &str, plen: u8) -> Vec<DeviceAddr> {
        vec![DeviceAddr { address: Addr::parse(text).unwrap(), plen }]
    }

    fn route(device: &str) -> Route {
        Route {
            prefix: Prefix::parse("10.0.0.0/24").unwrap(),
            mark: 0,
            device: device.to_owned(),
            gateway: Addr(0),
            source: None,
            local: false,
            user: false,
            metric: 0,
        }
    }

    fn world() -> World {
        let mut world = World::default();
        world.router.set_addresses("eth0", address("10.0.0.1", 120));
        world.router.set_addresses("lo", address("127.0.0.1", 104));
        world.router.insert(TABLE_MAIN, route("eth0"));
        world
    }

    #[test]
    fn a_change_of_route_moves_the_tunnel_to_the_host_and_back() {
        let mut config = crate::scenario::config(&["br0 p2@2", "br101 p1@1"]);
        let mut tunnel = port("vx9", "vxlan", Some(9));
        tunnel.interfaces[0].device.options = vec![("remote_ip".to_owned(), "10.0.0.2".to_owned())];
        config.bridges[0].ports.push(tunnel);
        let s = Scenario::new(&config);
        {
            let mut world = s.slowpath.write_world();
            let features = &mut world.backends.get_mut("dummy").unwrap().features;
            (features.tunnel_push_pop, features.host_tunnels) = (true, true);
        }
        s.slowpath.set_device_addresses("eth0", address("10.0.0.1", 120), false);
        s.slowpath.set_devices(&[("eth0".to_owned(), Some(Device { mtu: 1500, carrier: true }))]);
        s.flow_mod("br0", "in_port=2,actions=set_field:7->pkt_mark,output:9").unwrap();
        let moves = |from: &str, to: &str| {
            let removed = RouteChange::Remove { table: TABLE_MAIN, route: route(from) };
            s.slowpath.change_routes(vec![removed, RouteChange::Add { table: TABLE_MAIN, route: route(to) }]);
            s.slowpath.settle();
            s.slowpath.tick(now_ms());
        };
        let host = || s.dp.ports().into_iter().find(|p| p.name == "vxlan_sys_4789").unwrap().host;
        let trace = || s.run_command("ofproto/trace", &["br0", "in_port=2"]).unwrap();
        assert_eq!(host(), None);
        moves("br101", "eth0");
        assert_eq!(host(), Some(HostIntake::Udp(4789)));
        let said = trace();
        assert!(said.contains("tunneling to 10.0.0.2 via eth0 by the host's own stack"), "{said}");
        let link = "eth(dst=00:00:00:00:05:dc,src=00:00:00:00:00:07,dl_type=0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,";
        assert!(said.contains(link) && said.contains("),out_port(4789)),4789"), "{said}");
        // Another MTU is another megaflow.
        s.slowpath.set_devices(&[("eth0".to_owned(), Some(Device { mtu: 1400, carrier: true }))]);
        assert!(trace().contains("eth(dst=00:00:00:00:05:78,"));
        s.slowpath.set_device_addresses("eth0", Vec::new(), false);
        s.slowpath.set_device_addresses("br101", address("10.0.0.1", 120), false);
        moves("eth0", "br101");
        assert_eq!(host(), None);
        assert!(trace().contains("output to native tunnel"), "{}", trace());
    }

    #[test]
    fn a_tunnel_needs_the_host_where_no_bridge_has_the_device() {
        let mut world = world();
        let needs = |world: &World, text: &str| world.needs_host("netdev", &config(Kind::Vxlan, text));
        for (text, expect) in [
            ("remote_ip=10.0.0.2", true),
            ("remote_ip=10.0.0.2 local_ip=10.0.0.1", true),
            ("remote_ip=10.0.0.2 local_ip=10.0.0.9", false),
            ("remote_ip=10.9.0.2", false),
            ("remote_ip=flow", true),
            ("remote_ip=flow local_ip=10.0.0.1", true),
            ("remote_ip=flow local_ip=10.0.0.9", false),
        ] {
            assert_eq!(needs(&world, text), expect, "{text}");
        }
        world.router.set_addresses("eth0", Vec::new());
        assert!(!needs(&world, "remote_ip=flow"), "only the loopback has addresses");
    }

    #[test]
    fn every_kind_with_a_header_has_an_intake() {
        for row in crate::tunnel::kind::ROWS {
            let mut of_kind = config(Kind::Vxlan, "remote_ip=flow dst_port=7");
            of_kind.kind = row.kind;
            assert_eq!(intake(&of_kind).is_some(), row.vport.is_some(), "{}", row.name);
            if let Some(HostIntake::Udp(port)) = intake(&of_kind) {
                assert_eq!((port, row.dst_port.is_some()), (7, true), "{}", row.name);
            }
        }
    }
}
