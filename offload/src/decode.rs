//! A rule read as a megaflow: what the hardware does, in the slow path's terms. The judge of `plan`, and of what the kernel echoes.
//!
//! What enters: a rule, made by `plan` or read from a device. What leaves: key, mask and actions that mean the same; or an error for a
//! rule that means no megaflow (a foreign filter, a fault of a driver).

use crate::headers::HEADERS;
use crate::plan::matching::CT_BITS;
use crate::rule::{
    Act, CSUM_ICMP, CSUM_IPV4, CSUM_TCP, CSUM_UDP, CtAct, Header, IS_FIRST, IS_FRAGMENT, Link, Rule, TunnelMatch, TunnelSet, Word,
};
use flow::Actions;
use flow::action::{Action, Ct, Nat, SetAttr, SetField};
use flow::key::{FRAG_ANY, FRAG_LATER, Key, Mask, TUN_CSUM, TUN_DF, TUN_KEY, VLAN_CFI};
use std::net::IpAddr;

/// Key, mask and actions that mean the same as a rule. The key is masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub key: Box<Key>,
    pub mask: Box<Mask>,
    pub actions: Actions,
}

/// Why a rule means no megaflow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a rule must end with a verdict")]
    NoVerdict,
    #[error("something stands behind the verdict")]
    AfterVerdict,
    #[error("pedit word at {at} of {header:?} is no field")]
    Pedit { header: Header, at: u32 },
    #[error("checksums {found:#x} are updated where {wanted:#x} are spoiled")]
    Checksum { found: u32, wanted: u32 },
    #[error("tunnel parameters are set without an output")]
    Tunnel,
    #[error("the jump of a length check leads nowhere")]
    Jump,
    #[error("no megaflow does what {0} does")]
    Foreign(&'static str),
}

/// What a rule means.
///
/// # Errors
/// If it means no megaflow.
pub fn decode(rule: &Rule) -> Result<Decoded, DecodeError> {
    let (mut key, mut mask) = (Box::new(Key::ZERO), rule.nought.clone());
    (key.in_port, mask.in_port) = (rule.port.0.to_be_bytes(), [0xff; 4]);
    (key.recirc_id, mask.recirc_id) = (rule.chain.to_be_bytes(), [0xff; 4]);
    mask.packet_type = [0xff; 4];
    link(&rule.link, &mut key, &mut mask);
    for item in &rule.items {
        let place = item.key.row().place;
        place.write(&mut key, item.value & item.mask);
        place.write(&mut mask, item.mask);
    }
    if let Some(f) = rule.fragment {
        let whole = f.value & IS_FRAGMENT == 0;
        mask.nw_frag = FRAG_ANY | if whole || f.mask & IS_FIRST != 0 { FRAG_LATER } else { 0 };
        if f.value & IS_FRAGMENT != 0 {
            let later = f.mask & IS_FIRST != 0 && f.value & IS_FIRST == 0;
            key.nw_frag = FRAG_ANY | if later { FRAG_LATER } else { 0 };
        }
    }
    if let Some(state) = rule.ct_state {
        for (ours, theirs) in CT_BITS {
            mask.ct_state |= if state.mask & theirs != 0 { *ours } else { 0 };
            key.ct_state |= if state.value & theirs != 0 { *ours } else { 0 };
        }
    }
    if let Some(t) = &rule.tunnel {
        tunnel(t, &mut key, &mut mask);
    }
    let acts = match (&rule.tunnel, rule.acts.split_first()) {
        // The release that lets a packet out of its tunnel has no counterpart: OVS forgets the outer header at an output.
        (Some(_), Some((Act::TunnelRelease, rest))) => rest,
        _ => &rule.acts[..],
    };
    Ok(Decoded { actions: actions(acts, &key, &mask)?, key, mask })
}

fn link(link: &Link, key: &mut Key, mask: &mut Mask) {
    (key.eth_type, mask.eth_type) = (link.eth_type.to_be_bytes(), [0xff; 2]);
    let one = |tag: Option<crate::rule::Tag>| -> ([u8; 2], [u8; 2], [u8; 2]) {
        let Some(tag) = tag else {
            return ([0; 2], [0xff; 2], [0; 2]);
        };
        let (mut tci, mut bits) = (VLAN_CFI, VLAN_CFI);
        if let Some(vid) = tag.vid {
            tci |= vid & 0x0fff;
            bits |= 0x0fff;
        }
        if let Some(pcp) = tag.pcp {
            tci |= u16::from(pcp & 7) << 13;
            bits |= 0xe000;
        }
        (tci.to_be_bytes(), bits.to_be_bytes(), tag.tpid.to_be_bytes())
    };
    (key.vlan_tci, mask.vlan_tci, key.vlan_tpid) = one(link.tags[0]);
    (key.vlan2_tci, mask.vlan2_tci, key.vlan2_tpid) = one(link.tags[1]);
    (mask.vlan_tpid, mask.vlan2_tpid) = ([0xff; 2], [0xff; 2]);
}

fn tunnel(t: &TunnelMatch, key: &mut Key, mask: &mut Mask) {
    let (mut flags, mut flags_mask) = (t.flags, t.flags_mask);
    if let Some(id) = t.id {
        (key.tun_id, mask.tun_id) = (u64::from(id).to_be_bytes(), [0xff; 8]);
        flags |= TUN_KEY;
        flags_mask |= TUN_KEY;
    }
    key.tun_flags = flags.to_be_bytes();
    // Beside what needs no saying (`Rule::nought`).
    mask.tun_flags = (u16::from_be_bytes(mask.tun_flags) | flags_mask).to_be_bytes();
    if let Some(gbp) = t.gbp {
        set_gbp(gbp, key);
        (mask.tun_gbp_id, mask.tun_gbp_flags) = ([0xff; 2], 0xff);
    }
    if let Some((options, bits)) = &t.geneve {
        key.tun_metadata_present[7] = u8::try_from(options.len()).unwrap_or(u8::MAX);
        mask.tun_metadata_present = [0xff; 8];
        for (i, (o, m)) in options.iter().zip(bits).enumerate() {
            (key.tun_metadata[i], mask.tun_metadata[i]) = (o & m, *m);
        }
    }
}

fn set_gbp(gbp: u32, key: &mut Key) {
    let [_, flags, hi, lo] = gbp.to_be_bytes();
    (key.tun_gbp_id, key.tun_gbp_flags) = ([hi, lo], flags);
}

/// Reads a list of actions up to and with its verdict.
fn actions(acts: &[Act], key: &Key, mask: &Mask) -> Result<Actions, DecodeError> {
    let mut out = Actions::new();
    // Since the last time that checksums were in order, and which were spoiled since.
    let mut wanted = 0;
    let mut encapsulated = false;
    let mut rest = acts;
    while let Some((act, after)) = rest.split_first() {
        rest = after;
        if wanted != 0 && !matches!(act, Act::Pedit { .. } | Act::Csum(_)) {
            return Err(DecodeError::Checksum { found: 0, wanted });
        }
        match act {
            Act::Pedit { header, words } => {
                let (set, spoiled) = unpedit(*header, words, key, mask)?;
                wanted |= spoiled;
                out.push(Action::Set(Box::new(set)));
            }
            Act::Csum(found) if *found == wanted => wanted = 0,
            Act::Csum(found) => return Err(DecodeError::Checksum { found: *found, wanted }),
            Act::TunnelSet(_) if encapsulated => return Err(DecodeError::Tunnel),
            Act::TunnelSet(set) => {
                out.push(Action::Set(Box::new(tunnel_field(set))));
                encapsulated = true;
            }
            Act::TunnelRelease => return Err(DecodeError::Tunnel),
            Act::Output { port, last: false, .. } => {
                out.push(Action::Output(*port));
                if std::mem::take(&mut encapsulated) {
                    // Or the outer header would stay with the packet.
                    rest = rest.strip_prefix(&[Act::TunnelRelease]).ok_or(DecodeError::Tunnel)?;
                }
            }
            Act::Output { port, last: true, .. } => {
                out.push(Action::Output(*port));
                return ended(rest, out);
            }
            Act::Goto(chain) => {
                out.push(Action::Recirc(*chain));
                return ended(rest, out);
            }
            Act::Drop => return ended(rest, out),
            Act::Skbedit(_) => return Err(DecodeError::Foreign("skbedit")),
            Act::Sample { .. } => return Err(DecodeError::Foreign("sample")),
            Act::Length { mtu, jump } => {
                let at = usize::try_from(*jump).ok().and_then(|j| j.checked_sub(1)).filter(|at| *at < rest.len());
                let (shorter, longer) = rest.split_at(at.ok_or(DecodeError::Jump)?);
                out.push(Action::CheckPktLen {
                    size: u16::try_from(*mtu).map_err(|_| DecodeError::Jump)?,
                    greater: actions(longer, key, mask)?,
                    less_equal: actions(shorter, key, mask)?,
                });
                return Ok(out);
            }
            Act::VlanPush { .. }
            | Act::VlanPop
            | Act::EthPush { .. }
            | Act::EthPop
            | Act::MplsPush { .. }
            | Act::MplsPop { .. }
            | Act::MplsSet { .. }
            | Act::Ct(_)
            | Act::CtClear
            | Act::Police { .. } => out.push(plain(act).ok_or(DecodeError::NoVerdict)?),
        }
    }
    Err(DecodeError::NoVerdict)
}

fn ended(rest: &[Act], out: Actions) -> Result<Actions, DecodeError> {
    if rest.is_empty() { Ok(out) } else { Err(DecodeError::AfterVerdict) }
}

/// Actions that stand for one of the datapath's.
fn plain(act: &Act) -> Option<Action> {
    Some(match act {
        Act::VlanPush { tpid, vid, pcp } => {
            Action::PushVlan { tpid: *tpid, tci: vid & 0x0fff | VLAN_CFI | u16::from(pcp & 7) << 13 }
        }
        Act::VlanPop => Action::PopVlan,
        Act::EthPush { src, dst } => Action::PushEth { src: *src, dst: *dst },
        Act::EthPop => Action::PopEth,
        Act::MplsPush { lse, proto } => Action::PushMpls { lse: *lse, eth_type: *proto },
        Act::MplsPop { proto } => Action::PopMpls { eth_type: *proto },
        Act::MplsSet { label, tc, bos, ttl } => {
            let part = |v: Option<u32>, lo: u32, bits: u32| {
                let all = ((1u32 << bits) - 1) << lo;
                v.map_or((0, 0), |v| (v << lo & all, all))
            };
            let parts = [
                part(*label, 12, 20),
                part(tc.map(u32::from), 9, 3),
                part(bos.map(u32::from), 8, 1),
                part(ttl.map(u32::from), 0, 8),
            ];
            let (value, mask) = parts.iter().fold((0, 0), |(v, m), (pv, pm)| (v | pv, m | pm));
            let mut set = SetField { attr: SetAttr::Mpls, value: Key::ZERO, mask: Key::ZERO };
            (set.value.mpls_lse0, set.mask.mpls_lse0) = (value.to_be_bytes(), mask.to_be_bytes());
            Action::Set(Box::new(set))
        }
        Act::Ct(ct) => Action::Ct(Box::new(un_ct(ct))),
        Act::CtClear => Action::CtClear,
        Act::Police { meter, limit: _ } => Action::Meter(*meter),
        Act::Pedit { .. }
        | Act::Csum(_)
        | Act::TunnelSet(_)
        | Act::TunnelRelease
        | Act::Output { .. }
        | Act::Goto(_)
        | Act::Drop
        | Act::Skbedit(_)
        | Act::Sample { .. }
        | Act::Length { .. } => return None,
    })
}

fn un_ct(ct: &CtAct) -> Ct {
    let CtAct { commit, force, zone, mark, label, nat } = ct;
    let nat = nat.as_ref().map(|n| Nat { src: n.src, dst: n.dst, addr: n.addr, ports: n.ports, ..Nat::default() });
    Ct {
        commit: *commit && !force,
        force: *force,
        zone: *zone,
        mark: *mark,
        label: *label,
        nat,
        helper: None,
        timeout: None,
        event_mask: None,
    }
}

/// `set(tunnel(...))`.
fn tunnel_field(set: &TunnelSet) -> SetField {
    let TunnelSet { src, dst, id, tos, ttl, dst_port, csum, df, geneve, gbp } = set;
    let mut field = SetField { attr: SetAttr::Tunnel, value: Key::ZERO, mask: Key::ZERO };
    let v = &mut field.value;
    match dst {
        IpAddr::V4(a) => v.tun_dst = a.octets(),
        IpAddr::V6(a) => v.tun_ipv6_dst = a.octets(),
    }
    match src {
        Some(IpAddr::V4(a)) => v.tun_src = a.octets(),
        Some(IpAddr::V6(a)) => v.tun_ipv6_src = a.octets(),
        None => {}
    }
    (v.tun_tos, v.tun_ttl, v.tun_tp_dst) = (*tos, *ttl, dst_port.to_be_bytes());
    v.tun_id = u64::from(id.unwrap_or(0)).to_be_bytes();
    let flags = if id.is_some() { TUN_KEY } else { 0 } | if *csum { TUN_CSUM } else { 0 } | if *df { TUN_DF } else { 0 };
    v.tun_flags = flags.to_be_bytes();
    v.tun_metadata_present[7] = u8::try_from(geneve.len()).unwrap_or(u8::MAX);
    v.tun_metadata[..geneve.len()].copy_from_slice(geneve);
    set_gbp(gbp.unwrap_or(0), v);
    field
}

/// Words of pedit as a set, and the checksums that it spoils.
fn unpedit(header: Header, words: &[Word], key: &Key, mask: &Mask) -> Result<(SetField, u32), DecodeError> {
    let row = HEADERS.iter().find(|r| r.header == header).expect("every header has a row");
    let (mut value, mut bits) = (vec![0u8; row.len], vec![0u8; row.len]);
    for word in words {
        let at = usize::try_from(word.at).ok().filter(|at| at + 4 <= row.len && at % 4 == 0);
        let at = at.ok_or(DecodeError::Pedit { header, at: word.at })?;
        value[at..at + 4].copy_from_slice(&(word.value & word.mask).to_be_bytes());
        bits[at..at + 4].copy_from_slice(&word.mask.to_be_bytes());
    }
    let mut set = SetField { attr: row.attr, value: Key::ZERO, mask: Key::ZERO };
    let mut l4 = false;
    for f in row.fields {
        let m = f.take(&mut bits);
        f.place.write(&mut set.value, f.take(&mut value) & m);
        f.place.write(&mut set.mask, m);
        l4 |= f.in_l4_sum && m != 0;
    }
    if let Some(at) = bits.iter().position(|b| *b != 0) {
        return Err(DecodeError::Pedit { header, at: u32::try_from(at & !3).unwrap_or(0) });
    }
    let l4 = match (l4, mask.nw_proto, key.nw_proto) {
        (true, 0xff, flow::wire::ip_proto::TCP) => CSUM_TCP,
        (true, 0xff, flow::wire::ip_proto::UDP) => CSUM_UDP,
        (true, 0xff, flow::wire::ip_proto::ICMPV6) if header == Header::Ipv6 => CSUM_ICMP,
        _ => 0,
    };
    let own = if header == Header::Ipv4 { CSUM_IPV4 } else { 0 };
    Ok((set, own | l4))
}
