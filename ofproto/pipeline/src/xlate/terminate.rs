//! Packets to our own addresses: encapsulated ones are decapsulated by the datapath, answers to our requests are remembered.
//!
//! Both concern output to a port that has an IP address. Any other port is not looked at, so that nothing is matched for its sake.

use super::Ctx;
use crate::bridge::Port;
use crate::deps::Object;
use crate::effects::Credit;
use crate::tunnel::{Addr, listen};
use flow::fields::Field;
use flow::key::VLAN_CFI;
use flow::seam::DpPort;
use flow::wire::{ND_ADVERT, ip_proto};

const ETH_ARP: [u8; 2] = [0x08, 0x06];
const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const ICMPV6: u8 = ip_proto::ICMPV6;

impl<'a> Ctx<'a> {
    /// The tunnel port that takes a packet which is about to leave by `port`.
    pub(super) fn terminate(&mut self, port: &Port) -> Option<DpPort> {
        if !self.tunnels_natively() || self.world.router.addresses_of(&port.name).is_empty() {
            return None;
        }
        self.deps.object(Object::Listening);
        if self.world.backend(self.origin)?.listening.is_empty() {
            // Without tunnels nobody asks who our neighbours are.
            return None;
        }
        let found = self.find_listener();
        match found {
            Some(_) if self.side_effects => self.learn_from_outer(),
            None if self.answers_us() || self.is_gratuitous() => self.snoop_neighbour(),
            Some(_) | None => {}
        }
        found
    }

    fn find_listener(&mut self) -> Option<DpPort> {
        let listening = &self.world.backend(self.origin)?.listening;
        self.mask.eth_type = [0xff; 2];
        let to = listen::destination(&self.key)?;
        self.mask.eth_dst = [0xff; 6];
        let mac = self.key.eth_dst;
        let devices: Vec<&str> = self.devices_with_mac(mac);
        if devices.is_empty() {
            return None;
        }
        self.mask.vlan_tci = [0xff; 2];
        let v4 = self.key.eth_type == ETH_IPV4;
        if v4 {
            self.mask.nw_dst = [0xff; 4];
        } else {
            self.mask.ipv6_dst = [0xff; 16];
        }
        let tagged = self.key.vlan_tci[0] & VLAN_CFI.to_be_bytes()[0] != 0;
        let ours = devices.iter().any(|d| self.world.router.addresses_of(d).iter().any(|a| a.address == to));
        if tagged || !ours {
            return None;
        }
        self.mask.nw_proto = 0xff;
        Field::IpFrag.unwildcard(&mut self.mask);
        if self.key.nw_frag != 0 {
            // The datapath puts it together and looks the whole packet up again.
            return listening.find_any(&self.key);
        }
        if listening.asks_for_port(self.key.nw_proto) {
            self.mask.tp_dst = [0xff; 2];
        }
        listening.find(&self.key)
    }

    /// Devices with addresses whose MAC it is. A device is a port of some bridge.
    fn devices_with_mac(&mut self, mac: [u8; 6]) -> Vec<&'a str> {
        let world = self.world;
        let mut devices: Vec<&str> = world.router.addresses().map(|(device, _)| device).collect();
        devices.dedup();
        let kind = self.bridge.kind.as_str();
        devices.retain(|device| {
            let port = world.port_of_device(kind, device);
            if let Some((bridge, port)) = port {
                self.deps.object(Object::Port(bridge.id, port.number));
            }
            port.is_some_and(|(_, port)| port.info.mac == mac)
        });
        devices
    }

    /// The other end of a tunnel is known by what it sends.
    fn learn_from_outer(&self) {
        let from = match self.key.eth_type {
            ETH_IPV4 => Addr::v4(self.key.nw_src),
            ETH_IPV6 => Addr(u128::from_be_bytes(self.key.ipv6_src)),
            _ => return,
        };
        self.world.neighbours.set(&self.bridge.name, from, self.key.eth_src, self.now);
    }

    /// An ARP packet or a neighbour advertisement to an address of this bridge's ports.
    fn answers_us(&mut self) -> bool {
        let arp = self.key.eth_type == ETH_ARP;
        if !arp {
            if self.key.eth_type != ETH_IPV6 {
                return false;
            }
            self.mask.nw_proto = 0xff;
            if self.key.nw_proto != ICMPV6 {
                return false;
            }
        }
        let router = &self.world.router;
        let own = self.bridge.ports.values().flat_map(|p| router.addresses_of(&p.name)).map(|a| a.address);
        if arp {
            self.mask.nw_dst = [0xff; 4];
            own.filter(|a| a.is_v4()).any(|a| a.to_v4() == self.key.nw_dst)
        } else {
            self.mask.ipv6_dst = [0xff; 16];
            own.filter(|a| !a.is_v4()).any(|a| is_for(self.key.ipv6_dst, a.to_v6()))
        }
    }

    fn is_gratuitous(&mut self) -> bool {
        self.key.eth_type == ETH_ARP && {
            self.mask.eth_dst = [0xff; 6];
            self.mask.nw_proto = 0xff;
            self.mask.nw_src = [0xff; 4];
            self.mask.nw_dst = [0xff; 4];
            matches!(self.key.nw_proto, ARP_REQUEST | ARP_REPLY) && self.key.nw_src == self.key.nw_dst
        }
    }

    /// Remembers the address that an ARP packet or advertisement tells.
    fn snoop_neighbour(&mut self) {
        if self.key.eth_type == ETH_ARP {
            self.mask.nw_proto = 0xff;
            self.mask.arp_sha = [0xff; 6];
            let told = self.key.nw_proto == ARP_REPLY || self.is_gratuitous();
            if !told || self.key.arp_sha == [0; 6] {
                return;
            }
            self.mask.nw_src = [0xff; 4];
            self.remember(Addr::v4(self.key.nw_src), self.key.arp_sha);
        } else {
            self.mask.tp_src = [0xff; 2];
            self.mask.tp_dst = [0xff; 2];
            if self.key.tp_src != u16::from(ND_ADVERT).to_be_bytes() || self.key.tp_dst != [0; 2] {
                return;
            }
            self.mask.arp_tha = [0xff; 6];
            // RFC 4861 section 7.2.5: without the option there is nothing to learn.
            if self.key.arp_tha == [0; 6] {
                return;
            }
            self.mask.ipv6_src = [0xff; 16];
            self.mask.nd_target = [0xff; 16];
            self.remember(Addr(u128::from_be_bytes(self.key.nd_target)), self.key.arp_tha);
        }
    }

    /// Now, and again whenever packets of the megaflow have passed: an answer to a later question need not come up.
    fn remember(&mut self, address: Addr, mac: [u8; 6]) {
        if self.side_effects {
            self.world.neighbours.set(&self.bridge.name, address, mac, self.now);
        }
        self.credits.push(Credit::Told { device: self.bridge.name.clone(), address, mac });
    }
}

/// A packet to an address itself, or to its solicited-node group (RFC 4291 section 2.7.1).
fn is_for(dst: [u8; 16], own: [u8; 16]) -> bool {
    const GROUP: [u8; 2] = [0x01, 0xff];
    let link_local_group = dst[0] == 0xff && dst[1] & 0x0f == 2;
    dst == own || link_local_group && dst[11..13] == GROUP && dst[13..] == own[13..]
}
