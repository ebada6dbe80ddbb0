//! NORMAL: a learning switch with VLANs.
//!
//! In order: the input bundle, partial tags, ports reserved for mirrors, VLAN admission, reserved destinations, learning, then to
//! the learned bundle or to all that carry the VLAN. VLANs themselves are the business of `vlan`.

use super::Ctx;
use super::trace::Kind;
use super::vlan::{self, Tags};
use crate::bridge::Bundle;
use crate::deps::{MacKey, Object};
use crate::effects::Credit;
use flow::key::VLAN_CFI;
use openflow::OfPort;

const ETH_VLAN: [u8; 2] = [0x81, 0x00];
const ETH_QINQ: [u8; 2] = [0x88, 0xa8];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const BROADCAST: [u8; 6] = [0xff; 6];

impl<'a> Ctx<'a> {
    pub(super) fn normal(&mut self) {
        self.mask.eth_src = [0xff; 6];
        self.mask.eth_dst = [0xff; 6];
        let vlan_mask = u16::from_be_bytes(self.mask.vlan_tci) | 0x0fff | VLAN_CFI;
        self.mask.vlan_tci = vlan_mask.to_be_bytes();

        let in_port = self.in_port();
        self.deps.object(Object::Port(self.bridge.id, in_port));
        // Packets of the switch itself and of controllers came by no port; they may go everywhere.
        let from_nowhere = matches!(in_port, OfPort::CONTROLLER | OfPort::ANY);
        let bundle = self.bridge.bundle_of(in_port);
        if bundle.is_none() && !from_nowhere {
            self.report_error(format_args!("received packet on unknown port {}", in_port.0));
            self.report(Kind::Warn, format_args!("no input bundle, dropping"));
            return;
        }
        let wire = vlan::tags_of(&self.key);
        let inside = match bundle {
            Some(bundle) if !self.admits(bundle, wire) => return,
            Some(bundle) => vlan::inside(bundle, wire),
            None => wire,
        };
        let vlan = inside[0].vid;
        if bundle.is_some() && vlan::is_reserved(self.key.eth_dst) && !self.bridge.config.forward_bpdu {
            self.report(Kind::Detail, format_args!("packet has reserved destination MAC, dropping"));
            return;
        }
        if bundle.is_some_and(|bundle| !self.is_admitted_by_bond(bundle, in_port, vlan)) {
            return;
        }
        let gratuitous_arp = self.is_gratuitous_arp();
        if let Some(bundle) = bundle {
            self.learn_source(bundle, in_port, vlan, gratuitous_arp);
        }
        self.forward(bundle, inside);
    }

    /// Whether the input bundle takes the packet.
    fn admits(&mut self, bundle: &Bundle, wire: Tags) -> bool {
        let name = bundle.name.as_str();
        if matches!(self.key.eth_type, ETH_VLAN | ETH_QINQ) && wire[0].tpid == 0 {
            if self.packet.is_some() {
                self.report_error(format_args!("dropping packet with partial VLAN tag received on port {name}"));
            }
            self.report(Kind::Warn, format_args!("partial VLAN tag, dropping"));
            return false;
        }
        if bundle.mirror_out {
            if self.packet.is_some() {
                self.report_error(format_args!(
                    "dropping packet received on port {name}, which is reserved exclusively for mirroring"
                ));
            }
            self.report(Kind::Warn, format_args!("input port is mirror output port, dropping"));
            return false;
        }
        if !self.admits_vlan(bundle, wire[0].vid) {
            self.report(Kind::Warn, format_args!("disallowed VLAN VID for this input port, dropping"));
            return false;
        }
        true
    }

    /// The source is no dependency: where the packet goes does not hang on where its source was last seen.
    fn learn_source(&mut self, bundle: &Bundle, in_port: OfPort, vlan: u16, gratuitous_arp: bool) {
        let mac = self.key.eth_src;
        if mac[0] & 1 != 0 || self.bridge.config.flood_vlans.contains(&vlan) || self.key.packet_type != [0; 4] {
            return;
        }
        let pins = gratuitous_arp && bundle.ports.len() > 1;
        if self.side_effects && self.bridge.macs.learn(vlan, mac, bundle.id, pins, self.now) {
            let [a, b, c, d, e, f] = mac;
            let name = bundle.name.as_str();
            self.report(
                Kind::Detail,
                format_args!("learned that {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} is on port {name} in VLAN {vlan}"),
            );
        }
        self.credits.push(Credit::Learn { bridge: self.bridge.id, in_port, vlan, mac, gratuitous_arp });
    }

    /// RFC 5227: an ARP that announces its sender. What decides that goes into the mask.
    pub(super) fn is_gratuitous_arp(&mut self) -> bool {
        if self.key.eth_type != ETH_ARP || self.key.eth_dst != BROADCAST {
            return false;
        }
        self.mask.nw_proto = 0xff;
        match self.key.nw_proto {
            2 => true,
            1 => {
                self.mask.nw_src = [0xff; 4];
                self.mask.nw_dst = [0xff; 4];
                self.key.nw_src == self.key.nw_dst
            }
            _ => false,
        }
    }

    fn forward(&mut self, from: Option<&'a Bundle>, inside: Tags) {
        if self.forward_multicast(from, inside) {
            return;
        }
        let (mac, vlan) = (self.key.eth_dst, inside[0].vid);
        self.deps.object(Object::Mac(MacKey { bridge: self.bridge.id, vlan, mac }));
        let flooded = mac[0] & 1 != 0 || self.bridge.config.flood_vlans.contains(&vlan);
        let Some(entry) = self.bridge.macs.lookup(vlan, mac).filter(|_| !flooded) else {
            self.report(Kind::Detail, format_args!("no learned MAC for destination, flooding"));
            return self.flood_vlan(from, inside);
        };
        match self.bridge.bundles.get(&entry.bundle) {
            Some(to) if to.mirror_out => {
                self.report(Kind::Warn, format_args!("learned port is a mirror port, dropping"));
            }
            Some(to) if from.is_none_or(|f| f.id != to.id) => {
                self.report(Kind::Detail, format_args!("forwarding to learned port"));
                self.output_to_bundle(to, inside);
            }
            Some(_) => {
                self.report(Kind::Detail, format_args!("learned port is input port, dropping"));
            }
            None => {
                self.report(Kind::Warn, format_args!("learned port is unknown, dropping"));
            }
        }
    }

    /// To every bundle that carries the VLAN, but the one it came from.
    pub(super) fn flood_vlan(&mut self, from: Option<&Bundle>, inside: Tags) {
        self.deps.object(Object::Ports(self.bridge.id));
        for to in self.bridge.bundles.values() {
            if from.is_none_or(|f| f.id != to.id) && to.floodable && !to.mirror_out && vlan::carries(to, inside) {
                self.output_to_bundle(to, inside);
            }
        }
        self.note_flood();
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Scenario, config};
    use flow::clock::now_ms;

    /// A station's last packets at its old port, which a megaflow forwarded, are paid for after it was heard at its new one.
    #[test]
    fn packets_from_before_a_move_do_not_move_a_station_back() {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2 p3@3"]));
        s.flow_mod("br0", "actions=NORMAL").unwrap();
        let pass_time = || {
            let before = now_ms();
            while now_ms() == before {
                std::thread::yield_now();
            }
        };
        let hear = |port: u32| {
            pass_time();
            s.send(&format!("in_port({port}),eth(src=02:00:00:00:00:02,dst=02:00:00:00:00:01),eth_type(0x1234)"))
        };
        let to_station = || {
            // Megaflows are paid for; then what that changes is carried out.
            for _ in 0..2 {
                s.run_command("revalidator/wait", &[]).unwrap();
            }
            let sent = s.send("in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x1234)");
            sent.lines().map(|l| l.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        to_station();
        hear(2);
        assert_eq!(to_station(), ["2"]);
        hear(2);
        hear(3);
        assert_eq!(to_station(), ["3"], "it has moved");
        // By megaflows that are there, of which either may be paid for first.
        hear(3);
        hear(2);
        assert_eq!(to_station(), ["2"], "it has moved back");
        hear(2);
        hear(3);
        assert_eq!(to_station(), ["3"], "and forth");
    }
}
