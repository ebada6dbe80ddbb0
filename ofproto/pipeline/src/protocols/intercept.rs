//! Packets of the protocols, taken out of the pipeline by translation: such a packet is handled here and goes nowhere else.
//!
//! The megaflow says `userspace(slow_path(...))`: each of its packets comes up. Which bits decide that a packet is ours goes into the mask, whether
//! or not it is.

use super::{PROTOCOL_MALFORMED, Spanning, Watch};
use crate::bridge::{Bridge, Port};
use crate::world::World;
use crate::{bfd, cfm, lacp, lldp, stp};
use flow::Msec;
use flow::key::{Key, Mask};

/// Whose packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    Cfm,
    Bfd,
    Lacp,
    Spanning,
    Lldp,
}

impl Special {
    /// Bit of `flow::action::SLOW_REASONS`.
    #[must_use]
    pub fn slow_bit(self) -> u32 {
        match self {
            Self::Cfm => 1,
            Self::Bfd => 2,
            Self::Lacp => 4,
            Self::Spanning => 8,
            Self::Lldp => 16,
        }
    }

    /// Whether a packet that came in by a port is one of the protocols'; what decided goes into the mask.
    pub fn of(watch: &Watch, spanning: Spanning, key: &Key, mask: &mut Mask) -> Option<Self> {
        if watch.cfm.is_some_and(|f| f.takes(key, mask)) {
            return Some(Self::Cfm);
        }
        if watch.bfd.is_some_and(|f| f.takes(key, mask)) {
            return Some(Self::Bfd);
        }
        if watch.lacp && key.eth_type == lacp::wire::ETH_TYPE {
            return Some(Self::Lacp);
        }
        if spanning != Spanning::None {
            // On ports that take no part too: what comes there sinks.
            mask.eth_dst = [0xff; 6];
            if is_bpdu(key) {
                return Some(Self::Spanning);
            }
        }
        (watch.lldp && key.eth_type == lldp::wire::ETH_TYPE).then_some(Self::Lldp)
    }

    /// Gives the packet to its machine.
    pub fn receive(self, arrival: &Arrival<'_>) {
        let due = match self {
            Self::Bfd => arrival.bfd(),
            Self::Cfm => {
                arrival.cfm();
                false
            }
            Self::Lldp => {
                arrival.lldp();
                false
            }
            Self::Lacp => {
                arrival.lacp();
                true
            }
            Self::Spanning => {
                arrival.spanning();
                true
            }
        };
        if due {
            arrival.world.wake.wake();
        }
    }
}

/// A packet of a protocol that came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub world: &'a World,
    pub bridge: &'a Bridge,
    pub port: &'a Port,
    pub packet: &'a [u8],
    pub key: &'a Key,
    pub now: Msec,
}

/// Whether a packet is spanning tree's: to the group address of bridges, without an Ethernet type.
#[must_use]
pub fn is_bpdu(key: &Key) -> bool {
    key.eth_dst == stp::wire::ETH_DST && key.eth_type == [0x05, 0xff]
}

/// What follows Ethernet header and tags.
pub(super) fn after_ethernet(packet: &[u8]) -> &[u8] {
    let mut at = 12;
    while matches!(packet.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    packet.get(at + 2..).unwrap_or_default()
}

/// What follows the UDP header of an IPv4 packet.
fn udp_payload(packet: &[u8]) -> &[u8] {
    let ip = after_ethernet(packet);
    let header = ip.first().map_or(0, |b| usize::from(b & 15) * 4);
    ip.get(header + 8..).unwrap_or_default()
}

impl Arrival<'_> {
    fn malformed(&self, protocol: &str, error: &dyn std::fmt::Display) {
        PROTOCOL_MALFORMED.inc();
        tracing::info!(target: "ofproto_dpif_xlate", "{protocol}: {}: {error}", self.port.name);
    }

    fn cfm(&self) {
        match cfm::wire::Ccm::parse(after_ethernet(self.packet)) {
            Ok(ccm) => {
                let mut machines = self.bridge.protocols.lock();
                if let Some(session) = machines.sessions.get_mut(&self.port.number).and_then(|s| s.cfm.as_mut()) {
                    session.receive(&ccm, self.now);
                }
            }
            Err(error) => self.malformed("cfm", &error),
        }
    }

    /// Whether something has to be done about it at once.
    fn bfd(&self) -> bool {
        let message = bfd::wire::Message::parse(udp_payload(self.packet));
        let rx_packets = self.world.rx_packets(self.bridge, self.port);
        let mut machines = self.bridge.protocols.lock();
        let Some(session) = machines.sessions.get_mut(&self.port.number).and_then(|s| s.bfd.as_mut()) else { return false };
        session.count_control_packet();
        match message {
            // A packet that has passed a router is no neighbour's (RFC 5881 section 5).
            Ok(_) if self.key.nw_ttl != 255 => {}
            Ok(message) => session.receive(&message, rx_packets, self.now),
            Err(error) => self.malformed("bfd", &error),
        }
        session.wake_ms() <= self.now || session.has_changed()
    }

    fn lldp(&self) {
        let mut machines = self.bridge.protocols.lock();
        if let Some(session) = machines.sessions.get_mut(&self.port.number).and_then(|s| s.lldp.as_mut()) {
            session.receive(after_ethernet(self.packet), self.now);
        }
    }

    fn spanning(&self) {
        let Some(payload) = stp::wire::payload(self.packet) else { return };
        let mut machines = self.bridge.protocols.lock();
        if let Some(stp) = &mut machines.stp {
            stp.receive(self.port.number, payload, self.now);
        }
        if let Some(rstp) = &mut machines.rstp {
            rstp.receive(self.port.number, payload);
        }
    }

    fn lacp(&self) {
        let Some(bundle) = self.port.bundle else { return };
        let mut machines = self.bridge.protocols.lock();
        let Some(lacp) = machines.lacps.get_mut(&bundle) else { return };
        let may_enable = lacp.receive(self.port.number, after_ethernet(self.packet), self.now);
        if may_enable && let Some(entry) = machines.bonds.get_mut(&bundle) {
            entry.bond.set_may_enable(self.port.number, true);
        }
    }
}
