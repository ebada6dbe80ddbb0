//! Headers of the packet: VLAN tags, MPLS labels, TTL.

use super::Ctx;
use super::trace::Kind;
use crate::effects::XlateError;
use flow::Action;
use flow::fields::{Field, Need, Stage};
use flow::key::{Key, MPLS_LABELS_MAX, VLAN_CFI};
use openflow::OfPort;
use openflow::action::OfAction;

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const DSCP: u8 = 0xfc;
/// OFPR_INVALID_TTL
const INVALID_TTL: u8 = 2;
/// Bottom of stack, in the third byte of a label stack entry (RFC 3032 section 2.1).
const BOTTOM: u8 = 1;

impl Ctx<'_> {
    // ---- VLAN ----

    pub(super) fn has_vlan(&self) -> bool {
        self.key.vlan_tci[0] & VLAN_CFI.to_be_bytes()[0] != 0
    }

    /// Sets part of the outer tag; adds one where there is none, if that is wanted.
    pub(super) fn set_vlan(&mut self, value: u16, bits: u16, push: bool) {
        let masked = u16::from_be_bytes(self.mask.vlan_tci) | bits | VLAN_CFI;
        self.mask.vlan_tci = masked.to_be_bytes();
        if !self.has_vlan() {
            if !push {
                return;
            }
            self.key.vlan_tpid = super::vlan::VLAN_TPID.to_be_bytes();
        }
        let tci = u16::from_be_bytes(self.key.vlan_tci) & !bits | value & bits | VLAN_CFI;
        self.key.vlan_tci = tci.to_be_bytes();
    }

    /// What is pushed later may be the tag again that the packet has, for which there is nothing to do: that hangs on all of the tag.
    pub(super) fn pop_vlan(&mut self) {
        self.match_tags();
        self.key.vlan_tci = self.key.vlan2_tci;
        self.key.vlan_tpid = self.key.vlan2_tpid;
        self.key.vlan2_tci = [0; 2];
        self.key.vlan2_tpid = [0; 2];
    }

    /// All of the tags that the packet has.
    pub(super) fn match_tags(&mut self) {
        let tags = super::vlan::tags_of(&self.key);
        if tags[0].tpid != 0 {
            self.mask.vlan_tci = [0xff; 2];
            self.mask.vlan_tpid = [0xff; 2];
        }
        if tags[1].tpid != 0 {
            self.mask.vlan2_tci = [0xff; 2];
            self.mask.vlan2_tpid = [0xff; 2];
        }
    }

    pub(super) fn push_vlan(&mut self, ethertype: u16) {
        self.match_tags();
        self.key.vlan2_tci = self.key.vlan_tci;
        self.key.vlan2_tpid = self.key.vlan_tpid;
        self.key.vlan_tci = VLAN_CFI.to_be_bytes();
        self.key.vlan_tpid = ethertype.to_be_bytes();
    }

    // ---- MPLS ----

    fn is_mpls(&self) -> bool {
        matches!(self.key.eth_type, [0x88, 0x47 | 0x48])
    }

    /// Labels that the packet has now, as far as they are in sight: up to the bottom of the stack, or all that are not zero.
    pub(super) fn mpls_depth(key: &Key) -> usize {
        if !matches!(key.eth_type, [0x88, 0x47 | 0x48]) {
            return 0;
        }
        let stack = [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2];
        let in_sight = || stack.iter().filter(|lse| **lse != [0; 4]).count();
        stack.iter().position(|lse| lse[2] & BOTTOM != 0).map_or_else(in_sight, |bottom| bottom + 1)
    }

    /// `mpls_depth`, with the bits that say so in the mask.
    pub(super) fn count_labels(&mut self) -> usize {
        let depth = Self::mpls_depth(&self.key);
        if self.is_mpls() {
            let stack = [self.key.mpls_lse0, self.key.mpls_lse1, self.key.mpls_lse2];
            let masks = [&mut self.mask.mpls_lse0, &mut self.mask.mpls_lse1, &mut self.mask.mpls_lse2];
            for (lse, mask) in stack.iter().zip(masks) {
                mask[2] |= BOTTOM;
                if lse[2] & BOTTOM != 0 {
                    break;
                }
            }
        }
        depth
    }

    pub(super) fn match_labels(&mut self, which: std::ops::Range<usize>) {
        let lses = [&mut self.mask.mpls_lse0, &mut self.mask.mpls_lse1, &mut self.mask.mpls_lse2];
        for (_, lse) in lses.into_iter().enumerate().filter(|(i, _)| which.contains(i)) {
            *lse = [0xff; 4];
        }
    }

    pub(super) fn set_mpls(&mut self, bits: u32, value: u32) {
        if !self.is_mpls() {
            return;
        }
        self.mask.mpls_lse0 = (u32::from_be_bytes(self.mask.mpls_lse0) | bits).to_be_bytes();
        let lse = u32::from_be_bytes(self.key.mpls_lse0) & !bits | value & bits;
        self.key.mpls_lse0 = lse.to_be_bytes();
    }

    /// Gives false when the list of actions ends here.
    pub(super) fn dec_mpls_ttl(&mut self) -> bool {
        if self.is_mpls() {
            self.mask.mpls_lse0[3] = 0xff;
            if self.key.mpls_lse0[3] > 1 {
                self.key.mpls_lse0[3] -= 1;
                return true;
            }
            self.packet_in_with_reason(INVALID_TTL, 0);
        }
        self.report(Kind::Warn, format_args!("MPLS decrement TTL exception"));
        false
    }

    pub(super) fn push_mpls(&mut self, ethertype: u16) {
        let depth = self.count_labels();
        if depth >= MPLS_LABELS_MAX {
            return self.too_many_labels("an MPLS push action can't be performed as it would have");
        }
        if depth == 0 {
            // What lies beneath will not be parsed any more: headers set so far must reach the packet first.
            self.commit();
        }
        let beneath = self.key.eth_type;
        self.push_label(depth, ethertype.to_be_bytes(), Some(beneath));
    }

    pub(super) fn too_many_labels(&mut self, what: &str) {
        if self.packet.is_some() {
            self.report_error(format_args!(
                "dropping packet on which {what} more MPLS LSEs than the {MPLS_LABELS_MAX} supported."
            ));
        }
        self.error.get_or_insert(XlateError::TooManyMplsLabels);
    }

    /// A label on top of `depth` others, with the values that the packet suggests whose Ethernet type is `beneath`; `None`: what is beneath is
    /// only payload.
    pub(super) fn push_label(&mut self, depth: usize, eth_type: [u8; 2], beneath: Option<[u8; 2]>) {
        let ip = matches!(beneath, Some(ETH_IPV4 | ETH_IPV6));
        let lse = if depth > 0 {
            self.match_labels(0..depth);
            let mut lse = self.key.mpls_lse0;
            lse[2] &= !BOTTOM;
            lse
        } else {
            // Label 0 or 2 (IPv4 or IPv6 explicit null, RFC 3032 section 2.1), class and TTL of the packet beneath.
            let label: u32 = if self.key.eth_type == ETH_IPV6 { 2 } else { 0 };
            if ip {
                self.mask.nw_tos |= DSCP;
                self.mask.nw_ttl = 0xff;
            }
            let class = if ip { u32::from(self.key.nw_tos >> 2) & 7 } else { 0 };
            let ttl = if ip && self.key.nw_ttl != 0 { self.key.nw_ttl } else { 64 };
            (label << 12 | class << 9 | u32::from(BOTTOM) << 8 | u32::from(ttl)).to_be_bytes()
        };
        self.key.mpls_lse2 = self.key.mpls_lse1;
        self.key.mpls_lse1 = if depth > 0 { self.key.mpls_lse0 } else { [0; 4] };
        self.key.mpls_lse0 = lse;
        self.key.eth_type = eth_type;
        if depth == 0 {
            super::commit::forget_l3(&mut self.key);
        }
    }

    pub(super) fn pop_mpls(&mut self, ethertype: u16) {
        let depth = self.count_labels();
        if self.pop_label(depth, ethertype.to_be_bytes()) {
            self.was_mpls |= !matches!(ethertype, 0x8847 | 0x8848);
        } else if depth >= MPLS_LABELS_MAX {
            self.too_many_labels("an MPLS pop action can't be performed as it has");
            self.actions.clear();
        }
    }

    /// Takes the top label away. False where there is none, or where the bottom of the stack is out of sight.
    pub(super) fn pop_label(&mut self, depth: usize, eth_type: [u8; 2]) -> bool {
        if depth == 0 || depth == MPLS_LABELS_MAX && self.key.mpls_lse2[2] & BOTTOM == 0 {
            return false;
        }
        self.match_labels(1..depth);
        let under = [self.key.mpls_lse1, self.key.mpls_lse2, [0; 4]];
        let keep = |i: usize| if i + 1 < depth { under[i] } else { [0; 4] };
        (self.key.mpls_lse0, self.key.mpls_lse1, self.key.mpls_lse2) = (keep(0), keep(1), [0; 4]);
        self.key.eth_type = eth_type;
        true
    }

    // ---- TTL ----

    /// copy_ttl_in: into the next label, or into the IP header beneath the only one, which the key does not tell of.
    pub(super) fn copy_ttl_in(&mut self) {
        if self.count_labels() > 1 {
            // The first label is taken off and put on again as it was.
            self.match_labels(0..1);
            self.mask.mpls_lse1[3] = 0xff;
            self.key.mpls_lse1[3] = self.key.mpls_lse0[3];
        } else if self.is_mpls() {
            self.copy_ttl_beneath(true);
        }
    }

    /// copy_ttl_out; gives whether the TTL came from where the key does not reach, so that it has to be parsed.
    pub(super) fn copy_ttl_out(&mut self) -> bool {
        if self.count_labels() > 1 {
            (self.mask.mpls_lse0[3], self.mask.mpls_lse1[3]) = (0xff, 0xff);
            self.key.mpls_lse0[3] = self.key.mpls_lse1[3];
            return false;
        }
        if self.is_mpls() {
            self.copy_ttl_beneath(false);
        }
        self.is_mpls()
    }

    fn copy_ttl_beneath(&mut self, inwards: bool) {
        self.commit();
        self.emit(Action::CopyTtl { inwards });
    }

    /// Gives false when the list of actions ends here.
    pub(super) fn dec_ttl(&mut self, controllers: Option<&[u16]>) -> bool {
        self.mask.nw_ttl = 0xff;
        self.mask.nw_proto = 0xff;
        if !matches!(self.key.eth_type, ETH_IPV4 | ETH_IPV6) {
            return true;
        }
        if self.key.nw_ttl > 1 {
            self.key.nw_ttl -= 1;
            return true;
        }
        for id in controllers.unwrap_or(&[0]) {
            self.packet_in_with_reason(INVALID_TTL, *id);
        }
        let version = if self.key.eth_type == ETH_IPV6 { 6 } else { 4 };
        self.report(Kind::Warn, format_args!("IPv{version} decrement TTL exception"));
        false
    }
}

/// Whether an action has to wait for what a popped MPLS stack has hidden so far. The common ones that do not look there need not.
pub(super) fn needs_parsed_packet(action: &OfAction) -> bool {
    if let OfAction::Output { port, .. } = action {
        *port == OfPort::TABLE
    } else if let OfAction::SetField { field, .. } = action {
        is_beneath_labels(*field)
    } else {
        action.traits().looks_beneath
    }
}

fn is_beneath_labels(field: Field) -> bool {
    let row = field.row();
    row.stage != Stage::Metadata && !matches!(row.need, Need::Nothing | Need::Ethernet | Need::Vlan)
}
