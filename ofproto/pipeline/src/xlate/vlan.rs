//! VLANs of bundles: what a port takes, which tags a packet has inside the switch, and with which it leaves
//! (ovs-vswitchd.conf.db(5), "VLAN Configuration").

use super::Ctx;
use crate::bridge::Bundle;
use crate::config::{PriorityTags, VlanMode};
use flow::key::{Key, VLAN_CFI};

pub(super) const VLAN_TPID: u16 = 0x8100;

/// A tag.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tag {
    /// 0: none
    pub(super) tpid: u16,
    pub(super) vid: u16,
    pub(super) pcp: u16,
}

/// Outer and inner tag.
pub(super) type Tags = [Tag; 2];

fn tag(tpid: [u8; 2], tci: [u8; 2]) -> Tag {
    let tci = u16::from_be_bytes(tci);
    if tci & VLAN_CFI == 0 {
        return Tag::default();
    }
    Tag { tpid: u16::from_be_bytes(tpid), vid: tci & 0x0fff, pcp: tci >> 13 }
}

/// The tags that a packet has.
pub(super) fn tags_of(key: &Key) -> Tags {
    let outer = tag(key.vlan_tpid, key.vlan_tci);
    [outer, if outer.tpid == 0 { Tag::default() } else { tag(key.vlan2_tpid, key.vlan2_tci) }]
}

/// Writes tags into the key. VLAN 0 without priority has a tag only where there was one and priority tags are wanted always.
pub(super) fn put_tags(key: &mut Key, tags: Tags, priority: PriorityTags) {
    let wire = |t: Tag| {
        let tci = t.vid | t.pcp << 13;
        if tci == 0 && !(priority == PriorityTags::Always && t.tpid != 0) {
            return ([0; 2], [0; 2]);
        }
        let tpid = if t.tpid == 0 { VLAN_TPID } else { t.tpid };
        (tpid.to_be_bytes(), (tci | VLAN_CFI).to_be_bytes())
    };
    (key.vlan_tpid, key.vlan_tci) = wire(tags[0]);
    (key.vlan2_tpid, key.vlan2_tci) = wire(tags[1]);
}

/// A tag that was set by its bits where there was none is one of 802.1Q.
pub(super) fn complete_tag(key: &mut Key) {
    if key.vlan_tpid == [0; 2] && u16::from_be_bytes(key.vlan_tci) & VLAN_CFI != 0 {
        key.vlan_tpid = VLAN_TPID.to_be_bytes();
    }
}

/// Tags on the wire to tags inside the switch.
pub(super) fn inside(bundle: &Bundle, wire: Tags) -> Tags {
    let native = Tag { tpid: if wire[0].tpid == 0 { VLAN_TPID } else { wire[0].tpid }, vid: bundle.vlan, pcp: wire[0].pcp };
    match bundle.vlan_mode {
        VlanMode::Access => [native, Tag::default()],
        VlanMode::NativeTagged | VlanMode::NativeUntagged if wire[0].vid == 0 => [native, wire[1]],
        VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Trunk => wire,
        VlanMode::Dot1qTunnel => [Tag { tpid: bundle.qinq_ethtype, vid: bundle.vlan, pcp: 0 }, wire[0]],
    }
}

/// Tags inside the switch to tags on the wire.
pub(super) fn outside(bundle: &Bundle, inside: Tags) -> Tags {
    match bundle.vlan_mode {
        VlanMode::Access => Tags::default(),
        VlanMode::NativeUntagged if inside[0].vid == bundle.vlan => [inside[1], Tag::default()],
        VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => inside,
        VlanMode::Dot1qTunnel => [inside[1], Tag::default()],
    }
}

/// Whether a bundle carries a VLAN.
pub(super) fn carries(bundle: &Bundle, inside: Tags) -> bool {
    let [outer, inner] = inside.map(|t| t.vid);
    match bundle.vlan_mode {
        VlanMode::Access => outer == bundle.vlan && inner == 0,
        VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => bundle.trunks.admits(outer),
        VlanMode::Dot1qTunnel => outer == bundle.vlan && bundle.cvlans.admits(inner),
    }
}

impl Ctx<'_> {
    /// Whether a bundle takes a packet with this VLAN id (0: untagged or priority-tagged).
    pub(super) fn admits_vlan(&mut self, bundle: &Bundle, vid: u16) -> bool {
        let Bundle { name, vlan, .. } = bundle;
        match bundle.vlan_mode {
            VlanMode::Access if vid != 0 => {
                self.report_error(format_args!(
                    "dropping VLAN {vid} tagged packet received on port {name} configured as VLAN {vlan} access port"
                ));
                false
            }
            VlanMode::Access => true,
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => true,
            VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Trunk => {
                if !bundle.trunks.admits(vid) {
                    self.report_error(format_args!(
                        "dropping VLAN {vid} packet received on port {name} not configured for trunking VLAN {vid}"
                    ));
                }
                bundle.trunks.admits(vid)
            }
            VlanMode::Dot1qTunnel => {
                if !bundle.cvlans.admits(vid) {
                    self.report_error(format_args!(
                        "dropping VLAN {vid} packet received on dot1q-tunnel port {name} that excludes this VLAN"
                    ));
                }
                bundle.cvlans.admits(vid)
            }
        }
    }

    /// To one bundle, tagged as it wants it.
    pub(super) fn output_to_bundle(&mut self, to: &Bundle, inside: Tags) {
        if to.vlan_mode == VlanMode::Dot1qTunnel && !to.cvlans.is_empty() {
            self.mask.vlan2_tci = [0xff; 2];
        }
        let mut tags = outside(to, inside);
        if to.priority_tags != PriorityTags::Never {
            tags[0].pcp = u16::from_be_bytes(self.key.vlan_tci) >> 13;
            // The outgoing tag now depends on the priority that came in, not on the VLAN alone.
            self.mask.vlan_tci[0] |= 0xe0;
        }
        let Some((port, hashed)) = self.member_for(to, &tags) else { return };
        self.hashed = hashed;
        let old = self.key;
        put_tags(&mut self.key, tags, to.priority_tags);
        self.compose_output(port, false);
        self.key.vlan_tci = old.vlan_tci;
        self.key.vlan_tpid = old.vlan_tpid;
        self.key.vlan2_tci = old.vlan2_tci;
        self.key.vlan2_tpid = old.vlan2_tpid;
    }
}

/// Destinations that a bridge does not forward (IEEE 802.1D-2004 table 7-10, and those of other link protocols that OVS keeps back).
pub(super) fn is_reserved(mac: [u8; 6]) -> bool {
    match mac {
        [0x01, 0x80, 0xc2, 0x00, 0x00, low] => low < 0x10,
        // Extreme's EDP and EAPS, Cisco's ISL, PAgP, PVST+ and FlexLink.
        [0x00, 0xe0, 0x2b, 0x00, 0x00, 0x00 | 0x04 | 0x06] | [0x01, 0x00, 0x0c, 0x00, 0x00, 0x00] => true,
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, low] => matches!(low, 0xcc | 0xcd | 0xc1..=0xc7),
        [0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd] => true,
        _ => false,
    }
}
