//! In-band control: rules of the switch's own that let the connections to its controllers through, whatever the controllers' rules say.
//!
//! What enters: the MAC of the local port, the controllers' addresses, the MACs of the next hops towards them. What leaves: rules of table 0,
//! above all others. Neighbours: `protocols` puts them, translation delivers DHCP replies to the local port.
//!
//! A switch that is reached through itself must be able to find its controllers before any of them has said a word: it asks for an address
//! (DHCP), asks who has theirs (ARP), and connects (TCP). The same goes for switches behind this one: connections to the controllers pass,
//! and so do questions for the router on the way to them, or for a controller on the same link, and their answers. Who that is, is known
//! once it has answered: then its MAC is in the table of neighbours.

#[cfg(test)]
mod tests;

use crate::config::{BridgeConfig, ControllerConfig};
use crate::router::Query;
use crate::tunnel::Addr;
use crate::world::World;
use flow::Msec;
use flow::key::{Key, Mask};
use flow::matching::Match;
use openflow::OfPort;
use openflow::action::OfAction;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Priority of the first rule; the others follow.
const PRIORITY: i32 = 180_000;
const DHCP_SERVER: [u8; 2] = [0, 67];
const DHCP_CLIENT: [u8; 2] = [0, 68];
const IP: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const TCP: u8 = 6;
const UDP: u8 = 17;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// How often the next hops are looked at.
const LOOK_MS: Msec = 1_000;
/// OpenFlow's port, where a target names none.
const DEFAULT_PORT: u16 = 6653;

/// A rule: priority, match.
pub type Rule = (i32, Match);

/// The controllers that are reached through the switch: those to connect to by IPv4 that are not said to be out of band.
#[must_use]
pub fn remotes(config: &BridgeConfig) -> Vec<SocketAddrV4> {
    if config.disable_in_band {
        return Vec::new();
    }
    let mut remotes: Vec<_> = config.controllers.iter().filter(|c| !c.out_of_band).filter_map(address).collect();
    remotes.sort_unstable();
    remotes.dedup();
    remotes
}

/// `tcp:IP[:PORT]` or `ssl:IP[:PORT]`
fn address(controller: &ControllerConfig) -> Option<SocketAddrV4> {
    let target = &controller.target;
    let at = target.strip_prefix("tcp:").or_else(|| target.strip_prefix("ssl:"))?;
    let (ip, port) = at.split_once(':').map_or((at, None), |(ip, port)| (ip, Some(port)));
    let port = port.map_or(Some(DEFAULT_PORT), |p| p.parse().ok())?;
    Some(SocketAddrV4::new(ip.parse::<Ipv4Addr>().ok()?, port))
}

fn rule(offset: i32, key: &Key, mask: &Mask) -> Rule {
    (PRIORITY + offset, Match::new(key, mask))
}

/// An ARP packet of a kind, with something else about it.
fn arp(offset: i32, op: u8, key: &Key, mask: &Mask) -> Rule {
    let key = Key { eth_type: ARP, nw_proto: op, ..*key };
    rule(offset, &key, &Mask { eth_type: [0xff; 2], nw_proto: 0xff, ..*mask })
}

/// A TCP packet to or from a controller.
fn tcp(offset: i32, key: &Key, mask: &Mask) -> Rule {
    let key = Key { eth_type: IP, nw_proto: TCP, ..*key };
    rule(offset, &key, &Mask { eth_type: [0xff; 2], nw_proto: 0xff, ..*mask })
}

/// What a bridge has in place.
#[derive(Debug, Default)]
pub struct InBand {
    pub rules: Vec<Rule>,
    pub queue: Option<u32>,
    pub remotes: Vec<SocketAddrV4>,
    /// MACs of the next hops.
    pub hops: Vec<[u8; 6]>,
    /// When the next hops are to be looked at again.
    next_ms: Msec,
}

impl InBand {
    /// The same with what the configuration wants.
    #[must_use]
    pub fn new(rules: Vec<Rule>, queue: Option<u32>, remotes: Vec<SocketAddrV4>, hops: Vec<[u8; 6]>) -> Self {
        Self { rules, queue, remotes, hops, next_ms: 0 }
    }

    /// When the next hops are to be looked at again.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        if self.remotes.is_empty() { Msec::MAX } else { self.next_ms }
    }

    /// The MACs of the next hops of a bridge's local port, if it is time to look and they have changed.
    pub fn look(&mut self, world: &World, bridge: &str, now: Msec) -> Option<Vec<[u8; 6]>> {
        if self.wake_ms() > now {
            return None;
        }
        self.next_ms = now + LOOK_MS;
        let hop = |remote: &SocketAddrV4| {
            let dst = Addr::v4(remote.ip().octets());
            let way = world.router.find(Query { dst, src: Addr(0), mark: 0 }).filter(|way| way.device == bridge)?;
            let hop = if way.gateway == Addr(0) { dst } else { way.gateway };
            world.neighbours.find(bridge, hop, now)
        };
        let mut hops: Vec<[u8; 6]> = self.remotes.iter().filter_map(hop).collect();
        hops.sort_unstable();
        hops.dedup();
        (hops != self.hops).then_some(hops)
    }
}

/// The rules of a switch whose local port has this MAC.
#[must_use]
pub fn rules(mac: [u8; 6], remotes: &[SocketAddrV4], hops: &[[u8; 6]]) -> Vec<Rule> {
    if remotes.is_empty() || mac == [0; 6] {
        return Vec::new();
    }
    let all = [0xff; 6];
    let dhcp = Key {
        in_port: OfPort::LOCAL.to_key(),
        eth_type: IP,
        eth_src: mac,
        nw_proto: UDP,
        tp_src: DHCP_CLIENT,
        tp_dst: DHCP_SERVER,
        ..Key::ZERO
    };
    let dhcp_mask = Key {
        in_port: [0xff; 4],
        eth_type: [0xff; 2],
        eth_src: all,
        nw_proto: 0xff,
        tp_src: [0xff; 2],
        tp_dst: [0xff; 2],
        ..Key::ZERO
    };
    let mut rules = vec![
        rule(0, &dhcp, &dhcp_mask),
        arp(1, REPLY, &Key { eth_dst: mac, ..Key::ZERO }, &Key { eth_dst: all, ..Key::ZERO }),
        arp(2, REQUEST, &Key { eth_src: mac, ..Key::ZERO }, &Key { eth_src: all, ..Key::ZERO }),
    ];
    for hop in hops {
        rules.push(arp(3, REPLY, &Key { eth_dst: *hop, ..Key::ZERO }, &Key { eth_dst: all, ..Key::ZERO }));
        rules.push(arp(4, REQUEST, &Key { eth_src: *hop, ..Key::ZERO }, &Key { eth_src: all, ..Key::ZERO }));
    }
    for remote in remotes {
        let (ip, port) = (remote.ip().octets(), remote.port().to_be_bytes());
        let to = Key { nw_dst: ip, ..Key::ZERO };
        let from = Key { nw_src: ip, ..Key::ZERO };
        let (to_mask, from_mask) = (Key { nw_dst: [0xff; 4], ..Key::ZERO }, Key { nw_src: [0xff; 4], ..Key::ZERO });
        rules.push(arp(5, REPLY, &to, &to_mask));
        rules.push(arp(6, REQUEST, &from, &from_mask));
        rules.push(tcp(7, &Key { tp_dst: port, ..to }, &Key { tp_dst: [0xff; 2], ..to_mask }));
        rules.push(tcp(8, &Key { tp_src: port, ..from }, &Key { tp_src: [0xff; 2], ..from_mask }));
    }
    rules.dedup();
    rules
}

/// What the rules do: as a switch without a controller would, perhaps by a queue.
#[must_use]
pub fn actions(queue: Option<u32>) -> Vec<OfAction> {
    let normal = OfAction::Output { port: OfPort::NORMAL, max_len: 0 };
    queue.map(OfAction::SetQueue).into_iter().chain([normal]).collect()
}

/// Whether a packet has to reach the local port whatever the tables say: a DHCP reply.
#[must_use]
pub fn is_for_local_port(key: &Key) -> bool {
    key.eth_type == IP && key.nw_proto == UDP && key.tp_src == DHCP_SERVER && key.tp_dst == DHCP_CLIENT
}
