//! The mask at the beginning and at the end of a translation: what is always matched, and what a datapath's flow cannot say.

use flow::key::{FRAG_ANY, FRAG_LATER, Key, Mask, VLAN_CFI};

/// The VLAN id's bits of a TCI.
const VLAN_VID: u16 = 0x0fff;

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];

/// Bits that are always matched.
pub(super) fn begin(key: &Key) -> Mask {
    let ip = matches!(key.eth_type, ETH_IPV4 | ETH_IPV6);
    let mut mask = Key {
        packet_type: [0xff; 4],
        in_port: [0xff; 4],
        eth_type: [0xff; 2],
        recirc_id: [0xff; 4],
        nw_frag: if ip { FRAG_ANY | FRAG_LATER } else { 0 },
        ..Key::ZERO
    };
    super::tunnel::begin(&mut mask, key);
    mask
}

/// Takes out what the packet did not have and what is the pipeline's own; `key` is the packet as it came.
pub(super) fn finish(mask: &mut Mask, key: &Key) {
    mask.regs = Key::ZERO.regs;
    mask.metadata = [0; 8];
    mask.conj_id = [0; 4];
    mask.actset_output = [0; 4];
    if key.packet_type != [0; 4] {
        mask.eth_dst = [0; 6];
        mask.eth_src = [0; 6];
    }
    if matches!((key.eth_type, key.nw_proto), (ETH_IPV4, 1) | (ETH_IPV6, 58)) {
        // Type and code have 8 bits each.
        mask.tp_src[0] = 0;
        mask.tp_dst[0] = 0;
    }
    if key.nw_frag & FRAG_LATER != 0 {
        mask.tp_src = [0; 2];
        mask.tp_dst = [0; 2];
    }
    if !matches!(key.eth_type, [0x88, 0x47 | 0x48]) {
        mask.mpls_lse0 = [0; 4];
        mask.mpls_lse1 = [0; 4];
        mask.mpls_lse2 = [0; 4];
    }
    finish_tag(key.vlan_tpid, &mut mask.vlan_tci, &mut mask.vlan_tpid);
    finish_tag(key.vlan2_tpid, &mut mask.vlan2_tci, &mut mask.vlan2_tpid);
    if key.tun_dst == [0; 4] && key.tun_ipv6_dst == [0; 16] {
        clear_tunnel(mask);
    }
}

/// A tag is matched with its presence bit; where there was none only that bit says something.
fn finish_tag(tpid: [u8; 2], tci_mask: &mut [u8; 2], tpid_mask: &mut [u8; 2]) {
    if *tci_mask != [0; 2] {
        tci_mask[0] |= VLAN_CFI.to_be_bytes()[0];
    }
    if !matches!(tpid, [0x81, 0x00] | [0x88, 0xa8]) {
        *tci_mask = [0; 2];
        *tpid_mask = [0; 2];
    }
}

/// Adds what a datapath's flow cannot leave open about tags (decision 0144): whether there are any (without a tag in its text it means "no
/// tag"), and the VLAN id of the outer one where nothing has looked at the tag.
pub fn match_vlan(mask: &mut Mask, key: &Key) {
    let cfi = VLAN_CFI.to_be_bytes()[0];
    let untouched = mask.vlan_tci == [0; 2];
    mask.vlan_tci[0] |= cfi;
    if key.vlan_tci[0] & cfi != 0 {
        if untouched {
            mask.vlan_tci = (VLAN_VID | VLAN_CFI).to_be_bytes();
        }
        // The tag's Ethernet type as well: a push that undoes a pop repeats it.
        mask.vlan_tpid = [0xff; 2];
        mask.vlan2_tci[0] |= cfi;
        if key.vlan2_tci[0] & cfi != 0 {
            mask.vlan2_tpid = [0xff; 2];
        }
    }
}

/// Zeroes all tunnel fields.
pub(super) fn clear_tunnel(key: &mut Key) {
    let Key {
        tun_id,
        tun_src,
        tun_dst,
        tun_flags,
        tun_tos,
        tun_ttl,
        tun_ipv6_src,
        tun_ipv6_dst,
        tun_tp_src,
        tun_tp_dst,
        tun_gbp_id,
        tun_gbp_flags,
        tun_erspan_ver,
        tun_erspan_idx,
        tun_erspan_dir,
        tun_erspan_hwid,
        tun_gtpu_flags,
        tun_gtpu_msgtype,
        tun_metadata_present,
        tun_metadata,
        ..
    } = key;
    (*tun_id, *tun_src, *tun_dst, *tun_flags) = ([0; 8], [0; 4], [0; 4], [0; 2]);
    (*tun_tos, *tun_ttl, *tun_ipv6_src, *tun_ipv6_dst) = (0, 0, [0; 16], [0; 16]);
    (*tun_tp_src, *tun_tp_dst, *tun_gbp_id, *tun_gbp_flags) = ([0; 2], [0; 2], [0; 2], 0);
    (*tun_erspan_ver, *tun_erspan_idx, *tun_erspan_dir, *tun_erspan_hwid) = (0, [0; 4], 0, 0);
    (*tun_gtpu_flags, *tun_gtpu_msgtype) = (0, 0);
    *tun_metadata_present = [0; 8];
    *tun_metadata = Key::ZERO.tun_metadata;
}

/// All bits of the tunnel fields.
pub(super) fn whole_tunnel() -> Mask {
    static ALL_ONES: Key = zerocopy::transmute!([0xffu8; size_of::<Key>()]);
    let mut mask = Key::ZERO;
    copy_tunnel(&mut mask, &ALL_ONES);
    mask
}

/// Takes the tunnel fields of another key.
pub(super) fn copy_tunnel(to: &mut Key, from: &Key) {
    to.tun_id = from.tun_id;
    to.tun_src = from.tun_src;
    to.tun_dst = from.tun_dst;
    to.tun_flags = from.tun_flags;
    to.tun_tos = from.tun_tos;
    to.tun_ttl = from.tun_ttl;
    to.tun_ipv6_src = from.tun_ipv6_src;
    to.tun_ipv6_dst = from.tun_ipv6_dst;
    to.tun_tp_src = from.tun_tp_src;
    to.tun_tp_dst = from.tun_tp_dst;
    to.tun_gbp_id = from.tun_gbp_id;
    to.tun_gbp_flags = from.tun_gbp_flags;
    to.tun_erspan_ver = from.tun_erspan_ver;
    to.tun_erspan_idx = from.tun_erspan_idx;
    to.tun_erspan_dir = from.tun_erspan_dir;
    to.tun_erspan_hwid = from.tun_erspan_hwid;
    to.tun_gtpu_flags = from.tun_gtpu_flags;
    to.tun_gtpu_msgtype = from.tun_gtpu_msgtype;
    to.tun_metadata_present = from.tun_metadata_present;
    to.tun_metadata = from.tun_metadata;
}
