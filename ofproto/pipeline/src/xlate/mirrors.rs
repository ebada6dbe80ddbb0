//! Mirrors: copies of packets that enter or leave through selected ports.

use super::vlan::Tags;
use super::{Ctx, vlan};
use crate::bridge::{Bundle, Port};
use crate::effects::Credit;
use flow::key::VLAN_CFI;
use std::sync::Arc;

impl Ctx<'_> {
    /// Mirrors that select packets received on the port that this one came by.
    pub(super) fn mirror_input(&mut self) {
        if self.bridge.mirrors.is_empty() {
            return;
        }
        if let Some(bundle) = self.bridge.bundle_of(self.in_port()) {
            self.mirror(bundle, true);
        }
    }

    /// Mirrors that select packets sent out of `port`.
    pub(super) fn mirror_output(&mut self, port: &Port) {
        if self.bridge.mirrors.is_empty() {
            return;
        }
        if let Some(bundle) = self.bridge.bundle_of(port.number) {
            self.mirror(bundle, false);
        }
    }

    fn mirror(&mut self, bundle: &Bundle, input: bool) {
        let wire = vlan::tags_of(&self.key);
        if !self.admits_vlan(bundle, wire[0].vid) {
            return;
        }
        let inside = vlan::inside(bundle, wire);
        let bridge = self.bridge;
        for (i, mirror) in bridge.mirrors.iter().enumerate() {
            let bit = 1u32 << i;
            let selected = if input { mirror.selects_input(bundle.id) } else { mirror.selects_output(bundle.id) };
            if self.mirrors_done & bit != 0 || !selected {
                continue;
            }
            if !mirror.vlans.is_empty() {
                let vid = (0x0fff | VLAN_CFI).to_be_bytes();
                self.mask.vlan_tci = [self.mask.vlan_tci[0] | vid[0], 0xff];
                if !mirror.vlans.contains(inside[0].vid) {
                    continue;
                }
            }
            if let Some(filter) = &mirror.filter {
                // With less, a packet that the filter judges otherwise would be forwarded as this one.
                self.mask.or_with(&filter.mask);
                if !filter.matches(&self.key) {
                    continue;
                }
            }
            // Noted before sending: what the copy meets on its way must not come here again. The same for mirrors with the
            // same destination, or it would have the packet twice.
            for (j, other) in bridge.mirrors.iter().enumerate() {
                if other.output == mirror.output && other.output_vlan == mirror.output_vlan {
                    self.mirrors_done |= 1 << j;
                }
            }
            self.credits.push(Credit::Tally(Arc::clone(&mirror.tally)));
            self.snaplen = mirror.snaplen;
            self.send_mirrored(mirror, inside);
            self.snaplen = None;
        }
    }

    fn send_mirrored(&mut self, mirror: &crate::mirror::Mirror, inside: Tags) {
        if let Some(to) = mirror.output.and_then(|b| self.bridge.bundles.get(&b)) {
            self.output_to_bundle(to, inside);
            return;
        }
        let Some(vlan) = mirror.output_vlan else { return };
        if inside[0].vid == vlan || vlan::is_reserved(self.key.eth_dst) {
            return;
        }
        let mut moved = inside;
        moved[0].vid = vlan;
        self.deps.object(crate::deps::Object::Ports(self.bridge.id));
        for bundle in self.bridge.bundles.values().filter(|b| !b.mirror_out && vlan::carries(b, moved)) {
            self.output_to_bundle(bundle, moved);
        }
    }
}
