//! I-TAGs of provider backbone bridges: push_pbb and pop_pbb (OpenFlow 1.3 section 7.2.5).
//!
//! Both change the packet at once, and `key` and `base` with it: what a push has buried, or a pop has laid bare, no later commit can say.
//! So a packet that is to go on as it was before a bucket, a bridge beyond a patch port or a list that may hold either gets its copy
//! from the datapath (`clone`), and what is beneath a popped I-TAG is parsed after recirculation.

use super::Ctx;
use flow::Action;
use flow::key::{Key, VLAN_CFI};

const ETH_PBB: [u8; 2] = [0x88, 0xe7];
/// Priority bits of a tag.
const PCP: u16 = 0xe000;

impl Ctx<'_> {
    /// push_pbb: the service instance of an outer I-TAG is repeated, the priority is that of the VLAN tag (OpenFlow 1.3 section 5.12.1,
    /// default values for fields on push); all else of the tag is zero.
    pub(super) fn push_pbb(&mut self) {
        if self.key.packet_type != [0; 4] {
            return;
        }
        self.commit();
        let mut pcp = 0;
        self.mask.vlan_tci[0] |= VLAN_CFI.to_be_bytes()[0];
        if self.has_vlan() {
            self.mask.vlan_tci[0] |= PCP.to_be_bytes()[0];
            pcp = self.key.vlan_tci[0] >> 5;
        }
        let mut tag = [0; 4];
        if self.key.eth_type == ETH_PBB {
            self.mask.nw_src[1..].fill(0xff);
            tag[1..].copy_from_slice(&self.key.nw_src[1..]);
        }
        // What is looked at from now on is this tag, which stands where an IPv4 source address was.
        if self.aside.is_none() {
            self.aside = Some(std::mem::take(&mut self.mask.nw_src));
        }
        self.emit(Action::PushPbb { isid: u32::from_be_bytes(tag), pcp });
        tag[0] = pcp << 5;
        for key in [&mut self.key, &mut self.base] {
            forget_frame(key);
            (key.eth_type, key.nw_src) = (ETH_PBB, tag);
        }
    }

    /// pop_pbb; gives whether there was an I-TAG, so that what is beneath has to be parsed before anything else. The backbone's VLAN tags
    /// stay ("The OFPAT_POP_PBB action does not remove the backbone VLAN header (B-TAG) from the packet").
    pub(super) fn pop_pbb(&mut self) -> bool {
        if self.key.packet_type != [0; 4] || self.key.eth_type != ETH_PBB {
            return false;
        }
        self.commit();
        self.match_tags();
        let tags = super::commit::tags(&self.key);
        tags.iter().for_each(|_| self.emit(Action::PopVlan));
        self.emit(Action::PopPbb);
        for (tpid, tci) in tags.iter().rev() {
            self.emit(Action::PushVlan { tpid: u16::from_be_bytes(*tpid), tci: u16::from_be_bytes(*tci) });
        }
        for key in [&mut self.key, &mut self.base] {
            forget_frame(key);
            (key.eth_type, key.eth_src, key.eth_dst) = (super::ETH_TYPE_NONE, [0; 6], [0; 6]);
        }
        true
    }

    /// The mask of the packet as it came.
    pub(super) fn take_back_mask(&mut self) {
        if let Some(mask) = self.aside.take() {
            self.mask.nw_src = mask;
        }
    }
}

/// Zeroes what stands behind the Ethernet addresses.
fn forget_frame(key: &mut Key) {
    super::commit::forget_l3(key);
    (key.vlan_tci, key.vlan_tpid, key.vlan2_tci, key.vlan2_tpid) = ([0; 2], [0; 2], [0; 2], [0; 2]);
    (key.mpls_lse0, key.mpls_lse1, key.mpls_lse2) = ([0; 4], [0; 4], [0; 4]);
    (key.nsh_flags, key.nsh_ttl, key.nsh_mdtype, key.nsh_np, key.nsh_path) = (0, 0, 0, 0, [0; 4]);
    (key.nsh_c1, key.nsh_c2, key.nsh_c3, key.nsh_c4) = ([0; 4], [0; 4], [0; 4], [0; 4]);
}
