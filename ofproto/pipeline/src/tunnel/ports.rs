//! Which OpenFlow port a packet belongs to that came out of a tunnel.
//!
//! What enters: tunnel ports with their configuration, all on one datapath; then keys of packets with outer headers. What leaves: the
//! port that matches best. Neighbours: `slowpath` adds and removes, `udpif` asks.
//!
//! Ports that share a datapath port are told apart by addresses and key. OVS's order: a fixed key before `flow`, then a fixed remote
//! address before `flow`, then a fixed local address, any, `flow`. That is twelve questions to one hash table.

use super::options::{Addr, ByFlow, Config, PacketTypes};
use crate::world::BridgeId;
use flow::Key;
use flow::hash::Map;
use flow::seam::DpPort;
use openflow::OfPort;
use std::collections::BTreeMap;

/// What a packet must have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Wanted {
    dp_port: DpPort,
    key: ByFlow<u64>,
    remote: ByFlow<Addr>,
    local: Local,
    types: PacketTypes,
}

/// The local address wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Local {
    Fixed(Addr),
    Any,
    Flow,
}

impl Wanted {
    fn of(dp_port: DpPort, config: &Config) -> Self {
        Self {
            dp_port,
            key: config.in_key.unwrap_or_default(),
            remote: config.remote,
            local: match config.local {
                ByFlow::Flow => Local::Flow,
                ByFlow::Fixed(Addr(0)) => Local::Any,
                ByFlow::Fixed(address) => Local::Fixed(address),
            },
            types: config.packet_types,
        }
    }
}

/// Where a tunnel ends.
pub type Place = (BridgeId, OfPort);

/// Another port has the same configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Same(pub Place);

/// The tunnel ports of a datapath.
#[derive(Debug, Default)]
pub struct TunnelPorts {
    wanted: Map<Wanted, Place>,
    ports: BTreeMap<Place, Wanted>,
}

impl TunnelPorts {
    /// Adds a port, or changes what it wants.
    pub fn put(&mut self, place: Place, dp_port: DpPort, config: &Config) -> Result<(), Same> {
        let wanted = Wanted::of(dp_port, config);
        if let Some(other) = self.wanted.get(&wanted).filter(|other| **other != place) {
            return Err(Same(*other));
        }
        self.remove(place);
        self.wanted.insert(wanted, place);
        self.ports.insert(place, wanted);
        Ok(())
    }

    /// Removes a port; gives its datapath port.
    pub fn remove(&mut self, place: Place) -> Option<DpPort> {
        let wanted = self.ports.remove(&place)?;
        self.wanted.remove(&wanted);
        Some(wanted.dp_port)
    }

    /// Whether any port is behind a datapath port.
    #[must_use]
    pub fn uses(&self, dp_port: DpPort) -> bool {
        self.ports.values().any(|w| w.dp_port == dp_port)
    }

    /// The ports with their datapath ports, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Place, DpPort)> {
        self.ports.iter().map(|(place, w)| (*place, w.dp_port))
    }

    /// The port of a packet that came by `dp_port` with the outer header in `key`.
    #[must_use]
    pub fn find(&self, dp_port: DpPort, key: &Key) -> Option<Place> {
        self.find_typed(dp_port, key, if is_packet(key) { PacketTypes::LegacyL3 } else { PacketTypes::LegacyL2 })
    }

    /// The same for a packet that came with an Ethernet header if it has none now, and without one if it has.
    #[must_use]
    pub fn find_changed(&self, dp_port: DpPort, key: &Key) -> Option<Place> {
        self.find_typed(dp_port, key, if is_packet(key) { PacketTypes::LegacyL2 } else { PacketTypes::LegacyL3 })
    }

    fn find_typed(&self, dp_port: DpPort, key: &Key, legacy: PacketTypes) -> Option<Place> {
        let from = Addr::of_fields(key.tun_src, key.tun_ipv6_src);
        let to = Addr::of_fields(key.tun_dst, key.tun_ipv6_dst);
        for id in [ByFlow::Fixed(u64::from_be_bytes(key.tun_id)), ByFlow::Flow] {
            for remote in [ByFlow::Fixed(from), ByFlow::Flow] {
                for local in [Local::Fixed(to), Local::Any, Local::Flow] {
                    for types in [legacy, PacketTypes::Aware] {
                        if let Some(place) = self.wanted.get(&Wanted { dp_port, key: id, remote, local, types }) {
                            return Some(*place);
                        }
                    }
                }
            }
        }
        None
    }
}

/// Whether a packet came out of a tunnel: it has an outer destination.
#[must_use]
pub fn came_by_tunnel(key: &Key) -> bool {
    key.tun_dst != [0; 4] || key.tun_ipv6_dst != [0; 16]
}

/// A packet without an Ethernet header (OFPHTN_ETHERTYPE).
fn is_packet(key: &Key) -> bool {
    u32::from_be_bytes(key.packet_type) >> 16 == 1
}

#[cfg(test)]
mod tests {
    use super::super::kind::Kind;
    use super::super::options::parse;
    use super::*;

    const DP: DpPort = DpPort(7);

    fn config(text: &str) -> Config {
        let pairs: Vec<(String, String)> =
            text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
        parse("t", Kind::Gre, &pairs).unwrap().0
    }

    fn place(n: u32) -> Place {
        (BridgeId(1), OfPort(n))
    }

    fn packet(id: u64, from: [u8; 4], to: [u8; 4]) -> Key {
        Key { tun_id: id.to_be_bytes(), tun_src: from, tun_dst: to, ..Key::ZERO }
    }

    #[test]
    fn the_more_exact_port_wins() {
        let mut ports = TunnelPorts::default();
        let all = [
            "remote_ip=1.1.1.1 key=5 local_ip=2.2.2.2",
            "remote_ip=1.1.1.1 key=5",
            "remote_ip=flow key=5 local_ip=2.2.2.2",
            "remote_ip=flow local_ip=flow key=5",
            "remote_ip=1.1.1.1 key=flow local_ip=2.2.2.2",
            "remote_ip=flow key=flow",
        ];
        for (n, text) in (1..).zip(all) {
            ports.put(place(n), DP, &config(text)).unwrap();
        }
        let key = packet(5, [1, 1, 1, 1], [2, 2, 2, 2]);
        for n in 1..=6 {
            assert_eq!(ports.find(DP, &key), Some(place(n)), "{}", all[n as usize - 1]);
            assert_eq!(ports.find(DpPort(8), &key), None, "another datapath port");
            assert_eq!(ports.remove(place(n)), Some(DP));
        }
        assert!(!ports.uses(DP));
    }

    #[test]
    fn packets_go_to_the_legacy_port_of_their_layer() {
        let mut ports = TunnelPorts::default();
        ports.put(place(1), DP, &config("remote_ip=1.1.1.1")).unwrap();
        ports.put(place(2), DP, &config("remote_ip=1.1.1.1 packet_type=legacy_l3")).unwrap();
        assert_eq!(ports.put(place(3), DP, &config("remote_ip=1.1.1.1")), Err(Same(place(1))));
        let frame = packet(0, [1, 1, 1, 1], [2, 2, 2, 2]);
        let bare = Key { packet_type: [0, 1, 8, 0], ..frame };
        assert_eq!((ports.find(DP, &frame), ports.find(DP, &bare)), (Some(place(1)), Some(place(2))));
        ports.remove(place(2));
        assert_eq!(ports.find(DP, &bare), None);
        ports.put(place(4), DP, &config("remote_ip=1.1.1.1 packet_type=ptap")).unwrap();
        assert_eq!((ports.find(DP, &frame), ports.find(DP, &bare)), (Some(place(1)), Some(place(4))));
    }
}
