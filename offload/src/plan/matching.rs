//! The match of a rule: every bit of the mask is struck out by the part that says it; what is left refuses.

use crate::capabilities::{CHAIN_MAX, Capabilities, PortKind, TunnelKind};
use crate::keys::{BOTTOM, Known, ROWS, When};
use crate::refusal::{Reason, Refusal};
use crate::rule::{CtState, Fragment, IS_FIRST, IS_FRAGMENT, Item, Link, Rule, Tag, TunnelMatch};
use crate::tc::matches::geneve_lengths;
use flow::fields::Field;
use flow::key::{FRAG_ANY, Key, Mask, TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, VLAN_CFI};
use flow::wire::eth_type;
use flow::{DpPort, Megaflow};

/// `OVS_CS_F_*` and `TCA_FLOWER_KEY_CT_FLAGS_*` of the same meaning.
pub const CT_BITS: &[(u8, u16)] = &[(0x01, 1), (0x02, 2), (0x04, 4), (0x08, 32), (0x10, 16), (0x20, 8)];

/// The match of a canonical megaflow; the actions stay empty.
pub(super) fn matching(flow: &Megaflow, can: &Capabilities) -> Result<Rule, Refusal> {
    let mut left = flow.mask.clone();
    let known = Known { key: &flow.key, mask: &flow.mask };
    let (port, chain) = place(known, &mut left, can)?;
    let unread = unread(known, &mut left, can);
    let mut rule = Rule {
        port,
        chain,
        link: link(&flow.key, &mut left)?,
        items: Vec::new(),
        fragment: fragment(known, &mut left)?,
        ct_state: ct_state(&flow.key, &mut left, can)?,
        tunnel: tunnel(known, &mut left, can)?,
        acts: Vec::new(),
        nought: nought(&flow.key, &mut left),
    };
    rule.nought.tun_flags = unread.to_be_bytes();
    for row in ROWS {
        let mask = row.place.read(&left);
        if mask != 0 && known.is(row.when) {
            rule.items.push(Item { key: row.key, value: row.place.read(&flow.key) & mask, mask });
            row.place.write(&mut left, 0);
        }
    }
    match first_left(&flow.key, &left) {
        Some(name) => Err(Refusal::new(Reason::MatchField, name)),
        None => Ok(rule),
    }
}

/// Where the filter stands: device and chain.
fn place(known: Known<'_>, left: &mut Mask, can: &Capabilities) -> Result<(DpPort, u32), Refusal> {
    let port = DpPort(u32::from_be_bytes(known.key.in_port));
    match can.ports.get(&port) {
        Some(PortKind::Switch(_) | PortKind::Tunnel(_)) => {}
        Some(PortKind::Internal) | None => return Err(Refusal::of_port(Reason::InPort, port)),
    }
    let chain = u32::from_be_bytes(known.key.recirc_id);
    if chain > CHAIN_MAX {
        return Err(Refusal::new(Reason::Chain, format!("recirc_id({chain:#x})")));
    }
    if known.key.packet_type != [0; 4] {
        return Err(Refusal::new(Reason::MatchValue, "packet_type"));
    }
    (left.in_port, left.recirc_id, left.packet_type) = ([0; 4], [0; 4], [0; 4]);
    Ok((port, chain))
}

fn link(key: &Key, left: &mut Mask) -> Result<Link, Refusal> {
    let tags = [tag(key.vlan_tci, left.vlan_tci, key.vlan_tpid)?, tag(key.vlan2_tci, left.vlan2_tci, key.vlan2_tpid)?];
    if tags[0].is_none() && tags[1].is_some() {
        return Err(Refusal::new(Reason::MatchValue, "vlan"));
    }
    let ty = u16::from_be_bytes(key.eth_type);
    // A frame without a type, or whose type is a tag that was not looked at, is no protocol to stand under.
    if ty < eth_type::MIN || ty == eth_type::VLAN || ty == eth_type::QINQ {
        return Err(Refusal::new(Reason::MatchValue, format!("eth_type({ty:#06x})")));
    }
    (left.vlan_tci, left.vlan_tpid) = ([0; 2], [0; 2]);
    (left.vlan2_tci, left.vlan2_tpid) = ([0; 2], [0; 2]);
    left.eth_type = [0; 2];
    Ok(Link { tags, eth_type: ty })
}

fn tag(tci: [u8; 2], mask: [u8; 2], tpid: [u8; 2]) -> Result<Option<Tag>, Refusal> {
    let (tci, mask, tpid) = (u16::from_be_bytes(tci), u16::from_be_bytes(mask), u16::from_be_bytes(tpid));
    if tci & VLAN_CFI == 0 {
        // No tag is all nought; anything else is no packet.
        return if tci == 0 && tpid == 0 { Ok(None) } else { Err(Refusal::new(Reason::MatchValue, "vlan_tci")) };
    }
    if tpid != eth_type::VLAN && tpid != eth_type::QINQ {
        return Err(Refusal::new(Reason::MatchValue, format!("vlan(tpid={tpid:#06x})")));
    }
    let vid = (mask & 0x0fff != 0).then_some(tci & 0x0fff);
    let pcp = (mask & 0xe000 != 0).then(|| tci.to_be_bytes()[0] >> 5);
    Ok(Some(Tag { tpid, vid, pcp }))
}

/// Flower knows "a fragment" and "the first of them"; OVS "a fragment" and "not the first".
fn fragment(known: Known<'_>, left: &mut Mask) -> Result<Option<Fragment>, Refusal> {
    let (key, mask) = (known.key.nw_frag, known.mask.nw_frag & 3);
    if mask == 0 {
        return Ok(None);
    }
    let said = match (known.is(When::Ipv4), known.is(When::Ipv6), key & FRAG_ANY != 0) {
        // Linux counts a later IPv6 fragment by its extension header; OVS takes its protocol to be 44. They differ on such packets.
        (false, true, true) => return Err(Refusal::new(Reason::MatchValue, "ipv6(frag)")),
        (true, _, _) | (_, true, false) => Fragment {
            value: match key & mask {
                0 => 0,
                1 if mask == 3 => IS_FRAGMENT | IS_FIRST,
                1 | 3 => IS_FRAGMENT,
                _ => return Err(Refusal::new(Reason::MatchValue, "ip(frag)")),
            },
            // Drivers that do not tell first fragments from later ones know at least what is none.
            mask: if mask == 3 && key & FRAG_ANY != 0 { IS_FRAGMENT | IS_FIRST } else { IS_FRAGMENT },
        },
        (false, false, _) => return Err(Refusal::new(Reason::MatchContext, "ip(frag)")),
    };
    left.nw_frag = 0;
    Ok(Some(said))
}

fn ct_state(key: &Key, left: &mut Mask, can: &Capabilities) -> Result<Option<CtState>, Refusal> {
    if left.ct_state == 0 {
        return Ok(None);
    }
    if !can.ct {
        return Err(Refusal::new(Reason::MatchField, "ct_state"));
    }
    let mut said = CtState { value: 0, mask: 0 };
    for (ours, theirs) in CT_BITS {
        if left.ct_state & ours != 0 {
            said.mask |= theirs;
            if key.ct_state & ours != 0 {
                said.value |= theirs;
            }
            left.ct_state &= !ours;
        }
    }
    if left.ct_state != 0 {
        return Err(Refusal::new(
            Reason::MatchField,
            if left.ct_state & 0x40 != 0 { "ct_state(snat)" } else { "ct_state(dnat)" },
        ));
    }
    if said.mask & (16 | 32) != 0 && !can.ct_state_inv_rpl {
        return Err(Refusal::new(Reason::MatchValue, "ct_state(inv,rpl)"));
    }
    // What the kernel demands (cls_flower): state without +trk is none, new and established exclude each other, invalid stands alone.
    let untracked = said.value != 0 && said.value & 8 == 0;
    if untracked || said.value & 3 == 3 || said.value & 16 != 0 && said.value & !(16 | 8) != 0 {
        return Err(Refusal::new(Reason::MatchValue, "ct_state"));
    }
    Ok(Some(said))
}

/// Strikes out the outer DF bit where software has it as nought whatever the packet says; gives the bit.
fn unread(known: Known<'_>, left: &mut Mask, can: &Capabilities) -> u16 {
    let (key, mask) = (u16::from_be_bytes(known.key.tun_flags), u16::from_be_bytes(left.tun_flags));
    if !can.outer_df_unread || !known.is(When::Tunnel) || mask & TUN_DF == 0 || key & TUN_DF != 0 {
        return 0;
    }
    left.tun_flags = (mask & !TUN_DF).to_be_bytes();
    TUN_DF
}

/// The outer header, as far as no row of `ROWS` says it.
fn tunnel(known: Known<'_>, left: &mut Mask, can: &Capabilities) -> Result<Option<TunnelMatch>, Refusal> {
    let port = DpPort(u32::from_be_bytes(known.key.in_port));
    let kind = match can.ports.get(&port) {
        Some(PortKind::Tunnel(kind)) => *kind,
        // Not out of a tunnel: that there is no outer header need not be said, anything else cannot be true.
        _ => return Ok(None),
    };
    if !known.is(When::Tunnel) {
        return Err(Refusal::new(Reason::MatchContext, "tunnel(dst)"));
    }
    let mut said = TunnelMatch { id: tunnel_id(known, left)?, flags: 0, flags_mask: 0, geneve: None, gbp: None };
    let flags = u16::from_be_bytes(left.tun_flags) & (TUN_DF | TUN_CSUM | TUN_OAM);
    if flags != 0 {
        if !can.enc_flags {
            return Err(Refusal::new(Reason::MatchField, "tunnel(flags)"));
        }
        (said.flags, said.flags_mask) = (u16::from_be_bytes(known.key.tun_flags) & flags, flags);
        left.tun_flags = [0; 2];
    }
    if left.tun_gbp_id != [0; 2] || left.tun_gbp_flags != 0 {
        if kind != TunnelKind::Vxlan || !can.vxlan_gbp {
            return Err(Refusal::new(Reason::MatchField, "tunnel(vxlan(gbp))"));
        }
        let id = u32::from(u16::from_be_bytes(known.key.tun_gbp_id));
        said.gbp = Some(u32::from(known.key.tun_gbp_flags) << 16 | id);
        (left.tun_gbp_id, left.tun_gbp_flags) = ([0; 2], 0);
    }
    if left.tun_metadata_present != [0; 8] {
        if kind != TunnelKind::Geneve {
            return Err(Refusal::new(Reason::MatchField, "tunnel(geneve())"));
        }
        let len = usize::from(known.key.tun_metadata_present[7]);
        // The reserved bits of an option's length have no place in tc.
        if geneve_lengths(&known.key.tun_metadata[..len]).iter().any(|(at, _)| known.key.tun_metadata[at + 3] & 0xe0 != 0) {
            return Err(Refusal::new(Reason::MatchValue, "tunnel(geneve())"));
        }
        // Without an option there is nothing that tc could match, and a rule without any matches packets that have some.
        if len == 0 {
            return Err(Refusal::new(Reason::MatchValue, "tunnel(geneve())"));
        }
        said.geneve = Some((known.key.tun_metadata[..len].to_vec(), known.mask.tun_metadata[..len].to_vec()));
        left.tun_metadata_present = [0; 8];
        left.tun_metadata[..len].fill(0);
    }
    Ok(Some(said))
}

/// The key of 32 bits that tc has. A tunnel without a key is another thing than one with key 0; tc cannot say the former.
fn tunnel_id(known: Known<'_>, left: &mut Mask) -> Result<Option<u32>, Refusal> {
    let flags = u16::from_be_bytes(left.tun_flags);
    let has_key = u16::from_be_bytes(known.key.tun_flags) & TUN_KEY != 0;
    if flags & TUN_KEY == 0 {
        return Ok(None);
    }
    if !has_key || left.tun_id == [0; 8] {
        return Err(Refusal::new(Reason::MatchValue, if has_key { "tunnel(flags(+key))" } else { "tunnel(flags(-key))" }));
    }
    let id =
        u32::try_from(u64::from_be_bytes(known.key.tun_id)).map_err(|_| Refusal::new(Reason::MatchValue, "tunnel(tun_id)"))?;
    left.tun_id = [0; 8];
    left.tun_flags = (flags & !TUN_KEY).to_be_bytes();
    Ok(Some(id))
}

/// Strikes out what a packet in hardware has as nought, where nought is what is matched.
pub(crate) fn nought(key: &Key, left: &mut Mask) -> Box<Mask> {
    let mut out = Box::new(Key::ZERO);
    macro_rules! strike {
        ($($member:ident),*) => { $(
            if key.$member.iter().zip(&left.$member).all(|(k, m)| k & m == 0) {
                out.$member = left.$member;
                left.$member.fill(0);
            }
        )* };
    }
    strike!(skb_priority, pkt_mark, dp_hash);
    // There are no labels under the last.
    if left.mpls_lse0[2] & key.mpls_lse0[2] & BOTTOM != 0 {
        strike!(mpls_lse1, mpls_lse2);
    } else if left.mpls_lse1[2] & key.mpls_lse1[2] & BOTTOM != 0 {
        strike!(mpls_lse2);
    }
    // A packet that came by no tunnel has no outer header.
    let no_tunnel = key.tun_dst == [0; 4] && key.tun_ipv6_dst == [0; 16];
    if no_tunnel {
        strike!(
            tun_id,
            tun_src,
            tun_dst,
            tun_flags,
            tun_ipv6_src,
            tun_ipv6_dst,
            tun_tp_src,
            tun_tp_dst,
            tun_gbp_id,
            tun_metadata_present
        );
    }
    out
}

/// The name of the first field that has a bit left, of those that such a packet has if there is one.
fn first_left(key: &Key, left: &Mask) -> Option<&'static str> {
    if *left == Key::ZERO {
        return None;
    }
    let rows = || Field::ALL.iter().map(|f| f.row()).filter(|row| row.place.read(left) != 0);
    let row = rows().find(|row| row.need.holds(key)).or_else(|| rows().next());
    Some(row.map_or("a field without an OpenFlow name", |row| row.name))
}
