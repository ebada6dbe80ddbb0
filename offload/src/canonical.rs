//! The megaflow as hardware would have it: narrowed where tc can only say more, with its actions in the one form that `decode` gives.
//!
//! What enters: a megaflow of the slow path. What leaves: another that matches the same packets or fewer, and treats them alike.
//!
//! Narrowing is the safe direction: a packet that the narrower megaflow does not match misses and gets a megaflow of its own. The
//! caller puts the narrowed megaflow into its own datapath too, so that cache, dump and hardware agree. Nothing is ever widened.

use crate::keys::{BOTTOM, Known, Masking, ROWS, When};
use crate::tc::matches::geneve_lengths;
use flow::action::{Action, SetAttr};
use flow::key::{Key, Mask, TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, VLAN_CFI};
use flow::{Actions, Megaflow};
use std::sync::Arc;

/// `flow` as hardware would have it. Masked-out bits of the key that become significant are taken as they stand: a put carries the
/// whole key of the packet that caused it.
#[must_use]
pub fn canonical(flow: &Megaflow) -> Megaflow {
    let mut mask = flow.mask.clone();
    let key = &*flow.key;
    narrow_link(key, &mut mask);
    narrow_protocol(flow, &mut mask);
    narrow_labels(key, &mut mask);
    narrow_whole_keys(key, &mut mask);
    narrow_tunnel(key, &mut mask);
    let key = Box::new(key.masked(&mask));
    Megaflow { ufid: flow.ufid, key, mask, actions: Arc::new(plain(&flow.actions)) }
}

/// A filter stands under one protocol: tags (there or not) and Ethernet type are always matched.
fn narrow_link(key: &Key, mask: &mut Mask) {
    mask.packet_type = [0xff; 4];
    mask.in_port = [0xff; 4];
    mask.recirc_id = [0xff; 4];
    mask.eth_type = [0xff; 2];
    narrow_tag(key.vlan_tci, &mut mask.vlan_tci, &mut mask.vlan_tpid);
    narrow_tag(key.vlan2_tci, &mut mask.vlan2_tci, &mut mask.vlan2_tpid);
}

/// An absent tag is matched whole; of one that is there, id and priority are matched whole or not at all.
fn narrow_tag(tci: [u8; 2], mask: &mut [u8; 2], tpid: &mut [u8; 2]) {
    *tpid = [0xff; 2];
    if u16::from_be_bytes(tci) & VLAN_CFI == 0 {
        *mask = [0xff; 2];
        return;
    }
    let mut bits = u16::from_be_bytes(*mask) | VLAN_CFI;
    for part in [0x0fff, 0xe000] {
        if bits & part != 0 {
            bits |= part;
        }
    }
    *mask = bits.to_be_bytes();
}

/// A checksum that actions update is that of a protocol, which then has to be matched; so are fragments of which a bit is matched.
fn narrow_protocol(flow: &Megaflow, mask: &mut Mask) {
    let known = Known { key: &flow.key, mask: &mask.clone() };
    if !known.is(When::Ip) {
        return;
    }
    if mask.nw_frag & 2 != 0 {
        mask.nw_frag |= 1;
    }
    // A packet that is no fragment is no later one either.
    if mask.nw_frag & 1 != 0 && flow.key.nw_frag & 1 == 0 {
        mask.nw_frag |= 2;
    }
    let l4 = |a: &Action| {
        let Action::Set(set) = a else { return false };
        let addresses = set.mask.nw_src != [0; 4]
            || set.mask.nw_dst != [0; 4]
            || set.mask.ipv6_src != [0; 16]
            || set.mask.ipv6_dst != [0; 16];
        let ports = matches!(set.attr, SetAttr::Tcp | SetAttr::Udp);
        ports || addresses && matches!(set.attr, SetAttr::Ipv4 | SetAttr::Ipv6)
    };
    if flow.actions.iter().any(l4) || mask.nw_proto != 0 {
        mask.nw_proto = 0xff;
    }
}

/// Whoever looks at a label sees that it is there: that the one above it is not the last.
fn narrow_labels(key: &Key, mask: &mut Mask) {
    if !(Known { key, mask }).is(When::Mpls) {
        return;
    }
    if mask.mpls_lse2 != [0; 4] && key.mpls_lse1[2] & BOTTOM == 0 {
        mask.mpls_lse1[2] |= BOTTOM;
    }
    if mask.mpls_lse1 != [0; 4] && key.mpls_lse0[2] & BOTTOM == 0 {
        mask.mpls_lse0[2] |= BOTTOM;
    }
}

/// Keys that tc takes only whole.
fn narrow_whole_keys(key: &Key, mask: &mut Mask) {
    for row in ROWS.iter().filter(|r| r.masking == Masking::Whole) {
        if row.place.read(mask) != 0 && (Known { key, mask }).is(row.when) {
            row.place.write(mask, row.whole());
        }
    }
}

/// The tunnel's key is matched whole and with its flag, or not at all; the outer destination port is what drivers insist on.
fn narrow_tunnel(key: &Key, mask: &mut Mask) {
    if !(Known { key, mask }).is(When::Tunnel) {
        return;
    }
    mask.tun_tp_dst = [0xff; 2];
    let mut flags = u16::from_be_bytes(mask.tun_flags) & (TUN_DF | TUN_CSUM | TUN_KEY | TUN_OAM);
    if mask.tun_id != [0; 8] {
        mask.tun_id = [0xff; 8];
        flags |= TUN_KEY;
    }
    mask.tun_flags = flags.to_be_bytes();
    if mask.tun_gbp_id != [0; 2] || mask.tun_gbp_flags != 0 {
        mask.tun_gbp_id = [0xff; 2];
        mask.tun_gbp_flags = 0xff;
    }
    if mask.tun_metadata.iter().any(|b| *b != 0) {
        mask.tun_metadata_present = [0xff; 8];
        let len = usize::from(key.tun_metadata_present[7]);
        for (at, _) in geneve_lengths(&key.tun_metadata[..len]) {
            mask.tun_metadata[at + 3] = 0xff;
        }
    }
}

/// The same actions in the one form that a rule decodes to: drops are empty lists, a clone at the end is its content, bits outside
/// a set's mask are nought.
fn plain(actions: &[Action]) -> Actions {
    let mut out = Actions::new();
    for (i, action) in actions.iter().enumerate() {
        let last = i + 1 == actions.len();
        if let Action::Drop(_) = action {
            break;
        }
        if let Action::Clone(inside) = action
            && (last || inside.iter().all(|a| matches!(a, Action::Output(_))))
        {
            out.extend(plain(inside));
            continue;
        }
        let mut action = action.clone();
        if let Action::Set(set) = &mut action {
            if set.attr == SetAttr::Tunnel {
                // Set whole, always; it has no mask in text either.
                set.mask = Key::ZERO;
            } else {
                set.value = set.value.masked(&set.mask);
            }
        }
        if let Action::Ct(ct) = &mut action {
            ct.commit &= !ct.force;
        }
        if let Action::CheckPktLen { greater, less_equal, .. } = &mut action {
            (*greater, *less_equal) = (plain(greater), plain(less_equal));
        }
        out.push(action);
    }
    out
}
