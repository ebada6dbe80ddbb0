//! NORMAL: a learning switch with VLANs (ovs-vswitchd.conf.db(5), "VLAN Configuration").
//!
//! In order: the input bundle, partial tags, ports reserved for mirrors, VLAN admission, reserved destinations, learning, then to
//! the learned bundle or to all that carry the VLAN.

use super::Ctx;
use super::trace::Kind;
use crate::bridge::{Bundle, BundleId};
use crate::config::{PriorityTags, VlanMode};
use crate::deps::{MacKey, Object};
use crate::effects::Credit;
use flow::key::{Key, VLAN_CFI};
use openflow::OfPort;

const ETH_VLAN: [u8; 2] = [0x81, 0x00];
const ETH_QINQ: [u8; 2] = [0x88, 0xa8];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const VLAN_TPID: u16 = 0x8100;
const BROADCAST: [u8; 6] = [0xff; 6];

/// A tag as NORMAL thinks of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Tag {
    tpid: u16,
    vid: u16,
    pcp: u16,
}

/// Outer and inner tag; VLAN 0 is "none".
type Tags = [Tag; 2];

impl Ctx<'_> {
    pub(super) fn normal(&mut self) {
        self.mask.eth_src = [0xff; 6];
        self.mask.eth_dst = [0xff; 6];
        let vlan_mask = u16::from_be_bytes(self.mask.vlan_tci) | 0x0fff | VLAN_CFI;
        self.mask.vlan_tci = vlan_mask.to_be_bytes();

        let in_port = self.in_port();
        self.deps.object(Object::Port(self.bridge.id, in_port));
        let from_switch = in_port == OfPort::CONTROLLER || in_port == OfPort::ANY;
        let bundle = self.bridge.bundle_of(in_port);
        if bundle.is_none() && !from_switch {
            self.report(Kind::Warn, format_args!("no input bundle, dropping"));
            return;
        }
        let tags = tags_of(&self.key);
        let Some(tags) = self.admit(bundle, tags) else { return };
        let vlan = tags[0].vid;
        if is_reserved(self.key.eth_dst) && !self.bridge.config.forward_bpdu && bundle.is_some() {
            self.report(Kind::Detail, format_args!("packet has reserved destination MAC, dropping"));
            return;
        }
        if let Some(bundle) = bundle {
            self.learn_source(bundle, in_port, vlan);
        }
        self.forward(bundle, vlan, tags);
    }

    /// Whether the input bundle takes the packet, and the tags it has inside the switch.
    fn admit(&mut self, bundle: Option<&Bundle>, tags: Tags) -> Option<Tags> {
        let Some(bundle) = bundle else { return Some(tags) };
        if matches!(self.key.eth_type, ETH_VLAN | ETH_QINQ) && self.key.vlan_tci[0] & 0x10 == 0 {
            self.report(Kind::Warn, format_args!("partial VLAN tag, dropping"));
            return None;
        }
        if bundle.mirror_out {
            self.report(Kind::Warn, format_args!("input port is mirror output port, dropping"));
            return None;
        }
        if !vid_is_valid(bundle, tags[0].vid) {
            self.report(Kind::Warn, format_args!("disallowed VLAN VID for this input port, dropping"));
            return None;
        }
        Some(tags_inside(bundle, tags))
    }

    fn learn_source(&mut self, bundle: &Bundle, in_port: OfPort, vlan: u16) {
        let mac = self.key.eth_src;
        let gratuitous_arp = self.is_gratuitous_arp();
        if mac[0] & 1 != 0 || self.bridge.config.flood_vlans.contains(&vlan) {
            return;
        }
        // What is known of the source decides nothing about the packet, so it is no dependency: the credit alone refreshes it.
        let known = self.bridge.macs.lookup(vlan, mac);
        if self.side_effects && known.is_none_or(|e| e.bundle != bundle.id) {
            let [a, b, c, d, e, f] = mac;
            let name = &bundle.name;
            self.report(
                Kind::Detail,
                format_args!("learned that {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} is on port {name} in VLAN {vlan}"),
            );
        }
        self.credits.push(Credit::Learn { bridge: self.bridge.id, in_port, vlan, mac, gratuitous_arp });
    }

    /// RFC 5227: an ARP that announces its sender. What decides that goes into the mask.
    fn is_gratuitous_arp(&mut self) -> bool {
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

    fn forward(&mut self, from: Option<&Bundle>, vlan: u16, tags: Tags) {
        let mac = self.key.eth_dst;
        self.deps.object(Object::Mac(MacKey { bridge: self.bridge.id, vlan, mac }));
        let flooded = self.bridge.config.flood_vlans.contains(&vlan);
        let Some(entry) = self.bridge.macs.lookup(vlan, mac).filter(|_| mac[0] & 1 == 0 && !flooded) else {
            self.report(Kind::Detail, format_args!("no learned MAC for destination, flooding"));
            return self.flood_vlan(from, vlan, tags);
        };
        match self.bridge.bundles.get(&entry.bundle) {
            Some(to) if from.is_none_or(|f| f.id != to.id) => {
                self.report(Kind::Detail, format_args!("forwarding to learned port"));
                self.output_to_bundle(to.id, from, tags);
            }
            Some(_) => {
                self.report(Kind::Warn, format_args!("learned port is input port, dropping"));
            }
            None => {
                self.report(Kind::Warn, format_args!("learned port is unknown, dropping"));
            }
        }
    }

    /// To every bundle that carries the VLAN, but the one it came from.
    fn flood_vlan(&mut self, from: Option<&Bundle>, vlan: u16, tags: Tags) {
        self.deps.object(Object::Ports(self.bridge.id));
        let to: Vec<BundleId> = self
            .bridge
            .bundles
            .values()
            .filter(|b| from.is_none_or(|f| f.id != b.id) && b.floodable && !b.mirror_out && carries(b, vlan, tags))
            .map(|b| b.id)
            .collect();
        for bundle in to {
            self.output_to_bundle(bundle, from, tags);
        }
    }

    /// To one bundle, tagged as it wants it.
    fn output_to_bundle(&mut self, to: BundleId, from: Option<&Bundle>, tags: Tags) {
        let Some(to) = self.bridge.bundles.get(&to) else { return };
        if to.protected && from.is_some_and(|f| f.protected) {
            self.report(Kind::Warn, format_args!("Flow is between protected ports, skipping output."));
            return;
        }
        let Some(port) = self.member_for(to, tags[0].vid) else { return };
        let old = self.key;
        put_tags(&mut self.key, tags_outside(to, tags), to.priority_tags);
        self.compose_output(port, false);
        self.key.vlan_tci = old.vlan_tci;
        self.key.vlan_tpid = old.vlan_tpid;
        self.key.vlan2_tci = old.vlan2_tci;
        self.key.vlan2_tpid = old.vlan2_tpid;
    }

    /// The interface of a bundle that the packet leaves by: the first that is up.
    fn member_for(&mut self, to: &Bundle, _vlan: u16) -> Option<OfPort> {
        for port in &to.ports {
            self.deps.object(Object::Port(self.bridge.id, *port));
        }
        let up = to.ports.iter().find(|p| to.ports.len() == 1 || self.bridge.ports.get(p).is_some_and(crate::bridge::Port::is_up));
        up.copied()
    }
}

fn tag(tpid: [u8; 2], tci: [u8; 2]) -> Tag {
    let tci = u16::from_be_bytes(tci);
    if tci & VLAN_CFI == 0 {
        return Tag::default();
    }
    Tag { tpid: u16::from_be_bytes(tpid), vid: tci & 0x0fff, pcp: tci >> 13 }
}

fn tags_of(key: &Key) -> Tags {
    [tag(key.vlan_tpid, key.vlan_tci), tag(key.vlan2_tpid, key.vlan2_tci)]
}

/// Whether a bundle takes a packet with this VLAN id (0: untagged or priority-tagged).
fn vid_is_valid(bundle: &Bundle, vid: u16) -> bool {
    match bundle.vlan_mode {
        VlanMode::Access => vid == 0,
        VlanMode::NativeTagged | VlanMode::NativeUntagged => vid == 0 || bundle.trunks.admits(vid),
        VlanMode::Trunk => bundle.trunks.admits(vid),
        VlanMode::Dot1qTunnel => bundle.cvlans.admits(vid),
    }
}

/// Tags on the wire to tags inside the switch.
fn tags_inside(bundle: &Bundle, wire: Tags) -> Tags {
    let native = || {
        let tpid = if wire[0].tpid == 0 { VLAN_TPID } else { wire[0].tpid };
        [Tag { tpid, vid: bundle.vlan, pcp: wire[0].pcp }, Tag::default()]
    };
    match bundle.vlan_mode {
        VlanMode::Access => native(),
        VlanMode::NativeTagged | VlanMode::NativeUntagged if wire[0].vid == 0 => native(),
        VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Trunk => wire,
        VlanMode::Dot1qTunnel => {
            let pcp = if wire[0].tpid == bundle.qinq_ethtype { wire[0].pcp } else { 0 };
            [Tag { tpid: bundle.qinq_ethtype, vid: bundle.vlan, pcp }, wire[0]]
        }
    }
}

/// Tags inside the switch to tags on the wire.
fn tags_outside(bundle: &Bundle, inside: Tags) -> Tags {
    match bundle.vlan_mode {
        VlanMode::Access => [Tag { vid: 0, ..inside[0] }, Tag::default()],
        VlanMode::Trunk | VlanMode::NativeTagged => inside,
        VlanMode::NativeUntagged if inside[0].vid == bundle.vlan => [Tag { vid: 0, ..inside[0] }, inside[1]],
        VlanMode::NativeUntagged => inside,
        VlanMode::Dot1qTunnel => [inside[1], Tag::default()],
    }
}

/// Whether a bundle carries a VLAN.
fn carries(bundle: &Bundle, vlan: u16, inside: Tags) -> bool {
    match bundle.vlan_mode {
        VlanMode::Access => vlan == bundle.vlan,
        VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => bundle.trunks.admits(vlan),
        VlanMode::Dot1qTunnel => vlan == bundle.vlan && bundle.cvlans.admits(inside[1].vid),
    }
}

/// Writes tags into the key. VLAN 0 has a tag only where priority tags are wanted.
fn put_tags(key: &mut Key, tags: Tags, priority: PriorityTags) {
    let wire = |t: Tag, tagged: bool| {
        if !tagged {
            return ([0; 2], [0; 2]);
        }
        let tpid = if t.tpid == 0 { VLAN_TPID } else { t.tpid };
        (tpid.to_be_bytes(), (t.vid | t.pcp << 13 | VLAN_CFI).to_be_bytes())
    };
    let outer_tagged = tags[0].vid != 0
        || match priority {
            PriorityTags::Never => false,
            PriorityTags::IfNonzero => tags[0].pcp != 0,
            PriorityTags::Always => true,
        };
    (key.vlan_tpid, key.vlan_tci) = wire(tags[0], outer_tagged);
    (key.vlan2_tpid, key.vlan2_tci) = wire(tags[1], outer_tagged && tags[1].vid != 0);
}

/// Destinations that a bridge does not forward (IEEE 802.1D-2004 table 7-10, and those of other link protocols that OVS keeps back).
fn is_reserved(mac: [u8; 6]) -> bool {
    match mac {
        [0x01, 0x80, 0xc2, 0x00, 0x00, low] => low < 0x10,
        // Extreme's EDP and EAPS, Cisco's ISL, PAgP, PVST+ and FlexLink.
        [0x00, 0xe0, 0x2b, 0x00, 0x00, 0x00 | 0x04 | 0x06] | [0x01, 0x00, 0x0c, 0x00, 0x00, 0x00] => true,
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, low] => matches!(low, 0xcc | 0xcd | 0xc1..=0xc7),
        [0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd] => true,
        _ => false,
    }
}
