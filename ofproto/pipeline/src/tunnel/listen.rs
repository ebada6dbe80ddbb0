//! Where encapsulated packets arrive: local addresses of devices, and the datapath's tunnel ports that take them.
//!
//! What enters: addresses of devices (`router`), tunnel ports (`slowpath`). What leaves: the tunnel port that a packet to one of our
//! own addresses is to be decapsulated by. Neighbours: `xlate::terminate`.

use super::options::{Addr, Config};
use flow::Key;
use flow::seam::DpPort;
use std::collections::BTreeMap;

/// A datapath port for tunnels, with how many OpenFlow ports stand on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub port: DpPort,
    pub proto: u8,
    /// 0 if the protocol has no ports.
    pub dst_port: u16,
    /// Whether it takes packets over IPv4, and over IPv6.
    pub over: (bool, bool),
    pub references: usize,
}

/// The tunnel ports of a datapath that take packets.
#[derive(Debug, Default)]
pub struct Listening {
    listeners: BTreeMap<DpPort, Listener>,
}

const ROUTING: u8 = flow::wire::ip_proto::ROUTING;
const IPIP: u8 = 4;
const IPV6_IN_IPV6: u8 = 41;

impl Listening {
    /// One more OpenFlow port stands on a datapath port.
    pub fn add(&mut self, port: DpPort, config: &Config) {
        let Some(proto) = config.kind.row().arrives_by else { return };
        let listener = self.listeners.entry(port).or_insert_with(|| Listener {
            name: config.backing(),
            port,
            proto,
            dst_port: config.dst_port,
            over: (proto != ROUTING, true),
            references: 0,
        });
        listener.references += 1;
    }

    /// One fewer.
    pub fn remove(&mut self, port: DpPort) {
        if let Some(listener) = self.listeners.get_mut(&port) {
            listener.references -= 1;
            if listener.references == 0 {
                self.listeners.remove(&port);
            }
        }
    }

    /// All of them, by port.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.values()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// The tunnel port for a packet that has come to one of our addresses.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<DpPort> {
        let port = u16::from_be_bytes(key.tp_dst);
        // GRE ports of both families and ERSPAN share the protocol: the datapath finds the right one by what the header says.
        self.by_protocol(key).find(|l| l.dst_port == 0 || l.dst_port == port).map(|l| l.port)
    }

    /// A tunnel port that a fragment may be for: only the first one says which.
    #[must_use]
    pub fn find_any(&self, key: &Key) -> Option<DpPort> {
        self.by_protocol(key).next().map(|l| l.port)
    }

    fn by_protocol(&self, key: &Key) -> impl Iterator<Item = &Listener> {
        let (v4, proto) = (key.eth_type == [0x08, 0x00], key.nw_proto);
        self.listeners.values().filter(move |l| {
            let fits = if l.proto == ROUTING { matches!(proto, IPIP | IPV6_IN_IPV6) } else { l.proto == proto };
            fits && (if v4 { l.over.0 } else { l.over.1 })
        })
    }

    /// Whether the packet's port number decides.
    #[must_use]
    pub fn asks_for_port(&self, proto: u8) -> bool {
        self.listeners.values().any(|l| l.proto == proto && l.dst_port != 0)
    }
}

/// The address that a packet goes to.
#[must_use]
pub fn destination(key: &Key) -> Option<Addr> {
    match key.eth_type {
        [0x08, 0x00] => Some(Addr::v4(key.nw_dst)),
        [0x86, 0xdd] => Some(Addr(u128::from_be_bytes(key.ipv6_dst))),
        _ => None,
    }
}
