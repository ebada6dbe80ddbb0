//! Matches of flower, both ways: rows of `keys`, then what is said in forms of its own.

use super::attributes::{Attribute, NESTED, ReadError, Writer, find};
use super::numbers::flower as f;
use crate::keys::{FlowerKey, Masking, ROWS, Row, Wire};
use crate::rule::{CtState, Fragment, Item, Link, Rule, Tag, TunnelMatch};
use flow::key::{TUN_CSUM, TUN_DF, TUN_OAM};
use flow::wire::eth_type;

/// What a filter matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    pub link: Link,
    pub items: Vec<Item>,
    pub fragment: Option<Fragment>,
    pub ct_state: Option<CtState>,
    pub tunnel: Option<TunnelMatch>,
}

/// `ETH_P_*` of the filter: the outer tag's, or the packet's.
#[must_use]
pub fn protocol(link: &Link) -> u16 {
    link.tags[0].map_or(link.eth_type, |t| t.tpid)
}

/// Writes the match of a rule.
pub fn put(out: &mut Writer, rule: &Rule) {
    put_link(out, &rule.link);
    put_items(out, &rule.items);
    if let Some(fragment) = rule.fragment {
        out.put_be32(f::KEY_FLAGS, fragment.value);
        out.put_be32(f::KEY_FLAGS_MASK, fragment.mask);
    }
    if let Some(state) = rule.ct_state {
        out.put_u16(f::CT_STATE, state.value);
        out.put_u16(f::CT_STATE_MASK, state.mask);
    }
    if let Some(tunnel) = &rule.tunnel {
        put_tunnel(out, tunnel);
    }
}

fn put_link(out: &mut Writer, link: &Link) {
    out.put_be16(f::ETH_TYPE, protocol(link));
    let [Some(outer), inner] = link.tags else {
        return;
    };
    put_tag(out, outer, f::VLAN_ID, f::VLAN_PRIO);
    out.put_be16(f::VLAN_ETH_TYPE, inner.map_or(link.eth_type, |t| t.tpid));
    if let Some(inner) = inner {
        put_tag(out, inner, f::CVLAN_ID, f::CVLAN_PRIO);
        out.put_be16(f::CVLAN_ETH_TYPE, link.eth_type);
    }
}

fn put_tag(out: &mut Writer, tag: Tag, id: u16, prio: u16) {
    if let Some(vid) = tag.vid {
        out.put_u16(id, vid);
    }
    if let Some(pcp) = tag.pcp {
        out.put_u8(prio, pcp);
    }
}

/// The parts of labels: which label each is of, and its attribute there.
const LABELS: &[(FlowerKey, u8, u16)] = &[
    (FlowerKey::MplsTtl, 1, f::LSE_TTL),
    (FlowerKey::MplsBos, 1, f::LSE_BOS),
    (FlowerKey::MplsTc, 1, f::LSE_TC),
    (FlowerKey::MplsLabel, 1, f::LSE_LABEL),
    (FlowerKey::Mpls2Ttl, 2, f::LSE_TTL),
    (FlowerKey::Mpls2Bos, 2, f::LSE_BOS),
    (FlowerKey::Mpls2Tc, 2, f::LSE_TC),
    (FlowerKey::Mpls2Label, 2, f::LSE_LABEL),
    (FlowerKey::Mpls3Ttl, 3, f::LSE_TTL),
    (FlowerKey::Mpls3Bos, 3, f::LSE_BOS),
    (FlowerKey::Mpls3Tc, 3, f::LSE_TC),
    (FlowerKey::Mpls3Label, 3, f::LSE_LABEL),
];
const DEPTH_MAX: u8 = 3;

fn label_of(key: FlowerKey) -> Option<(u8, u16)> {
    LABELS.iter().find(|(of, ..)| *of == key).map(|(_, depth, kind)| (*depth, *kind))
}

/// Where more labels are matched than the first, none has an attribute of its own (cls_flower allows one form or the other).
fn put_items(out: &mut Writer, items: &[Item]) {
    let stack = items.iter().any(|item| item.key.row().attribute == f::MPLS_OPTS);
    items.iter().filter(|item| !stack || label_of(item.key).is_none()).for_each(|item| put_item(out, item));
    if !stack {
        return;
    }
    let labels = out.nest(f::MPLS_OPTS | NESTED);
    for depth in 1..=DEPTH_MAX {
        let parts =
            || items.iter().filter_map(|item| label_of(item.key).filter(|(of, _)| *of == depth).map(|(_, kind)| (kind, item)));
        if parts().next().is_none() {
            continue;
        }
        let label = out.nest(f::LSE | NESTED);
        out.put_u8(f::LSE_DEPTH, depth);
        parts().for_each(|(kind, item)| put_value(out, kind, item.key.row().wire, item.value));
        out.end(label);
    }
    out.end(labels);
}

fn put_item(out: &mut Writer, item: &Item) {
    let row = item.key.row();
    put_value(out, row.attribute, row.wire, item.value);
    if let Masking::Attribute(mask) = row.masking {
        put_value(out, mask, row.wire, item.mask);
    }
}

fn put_value(out: &mut Writer, kind: u16, wire: Wire, value: u128) {
    let big = value.to_be_bytes();
    match wire {
        Wire::Big(n) => out.put(kind, &big[16 - usize::from(n)..]),
        Wire::Host(n) if cfg!(target_endian = "big") => out.put(kind, &big[16 - usize::from(n)..]),
        Wire::Host(n) | Wire::Little(n) => out.put(kind, &value.to_le_bytes()[..usize::from(n)]),
    }
}

/// OVS's bits of tunnel flags as flower's.
const TUNNEL_FLAGS: &[(u16, u32)] = &[(TUN_CSUM, f::TUNNEL_CSUM), (TUN_DF, f::TUNNEL_DF), (TUN_OAM, f::TUNNEL_OAM)];

fn put_tunnel(out: &mut Writer, t: &TunnelMatch) {
    if let Some(id) = t.id {
        out.put_be32(f::ENC_KEY_ID, id);
    }
    if t.flags_mask != 0 {
        let said = |bits: u16| TUNNEL_FLAGS.iter().filter(|(ours, _)| bits & ours != 0).fold(0, |n, (_, theirs)| n | theirs);
        out.put_be32(f::ENC_FLAGS, said(t.flags));
        out.put_be32(f::ENC_FLAGS_MASK, said(t.flags_mask));
    }
    if let Some(gbp) = t.gbp {
        for (kind, value) in [(f::ENC_OPTS, gbp), (f::ENC_OPTS_MASK, u32::MAX)] {
            let opts = out.nest(kind);
            let vxlan = out.nest(f::OPTS_VXLAN);
            out.put_u32(f::VXLAN_GBP, value);
            out.end(vxlan);
            out.end(opts);
        }
    }
    if let Some((options, mask)) = &t.geneve {
        let lengths = geneve_lengths(options);
        put_geneve(out, f::ENC_OPTS, options, &lengths);
        put_geneve(out, f::ENC_OPTS_MASK, mask, &lengths);
    }
}

/// Where each Geneve option begins and how many bytes of data it has (RFC 8926 section 3.5).
#[must_use]
pub fn geneve_lengths(options: &[u8]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at + 4 <= options.len() {
        let len = usize::from(options[at + 3] & 0x1f) * 4;
        out.push((at, len.min(options.len() - at - 4)));
        at += 4 + len;
    }
    out
}

/// Writes the options at `lengths` of `bytes`, or their masks, in a nest of `kind`.
pub(super) fn put_geneve(out: &mut Writer, kind: u16, bytes: &[u8], lengths: &[(usize, usize)]) {
    let opts = out.nest(kind);
    for (at, len) in lengths {
        let one = out.nest(f::OPTS_GENEVE);
        out.put(f::GENEVE_CLASS, &bytes[*at..at + 2]);
        out.put_u8(f::GENEVE_TYPE, bytes[at + 2]);
        out.put(f::GENEVE_DATA, &bytes[at + 4..at + 4 + len]);
        out.end(one);
    }
    out.end(opts);
}

/// Reads what a filter of `protocol` matches.
///
/// # Errors
/// For an attribute of a wrong size, or a key that this room does not know: a filter read as wider than it is would be a lie.
pub fn read(list: &[Attribute<'_>], protocol: u16) -> Result<Matches, ReadError> {
    known(list)?;
    let mut items = Vec::new();
    let labels = read_labels(list)?;
    for row in ROWS {
        let of_label =
            |(key, value): &(FlowerKey, u128)| (*key == row.key).then(|| Item { key: row.key, value: *value, mask: row.whole() });
        items.extend(match labels.iter().find_map(of_label) {
            Some(item) => Some(item),
            None if row.attribute == f::MPLS_OPTS => None,
            None => read_item(list, row)?,
        });
    }
    let pair = |value: u16, mask: u16| -> Result<Option<(u32, u32)>, ReadError> {
        let Some(m) = find(list, mask) else { return Ok(None) };
        let v = find(list, value).ok_or(ReadError::Missing("a value beside its mask"))?;
        Ok(Some((u32::from_be_bytes(v.array()?), u32::from_be_bytes(m.array()?))))
    };
    let fragment = pair(f::KEY_FLAGS, f::KEY_FLAGS_MASK)?.filter(|(_, m)| *m != 0).map(|(value, mask)| Fragment { value, mask });
    let ct_state = match (find(list, f::CT_STATE), find(list, f::CT_STATE_MASK)) {
        (Some(v), Some(m)) => Some(CtState { value: v.u16()?, mask: m.u16()? }).filter(|s| s.mask != 0),
        _ => None,
    };
    let enc_flags = pair(f::ENC_FLAGS, f::ENC_FLAGS_MASK)?.filter(|(_, m)| *m != 0);
    let tunnel = read_tunnel(list, &items, enc_flags)?;
    Ok(Matches { link: read_link(list, protocol)?, items, fragment, ct_state, tunnel })
}

/// Attributes that are read elsewhere, or say nothing of what is matched: class id, actions, flags, count of devices.
const OTHERS: &[u16] = &[
    1,
    f::ACT,
    f::ETH_TYPE,
    f::FLAGS,
    f::VLAN_ID,
    f::VLAN_PRIO,
    f::VLAN_ETH_TYPE,
    f::ENC_KEY_ID,
    f::KEY_FLAGS,
    f::KEY_FLAGS_MASK,
    f::CVLAN_ID,
    f::CVLAN_PRIO,
    f::CVLAN_ETH_TYPE,
    f::ENC_OPTS,
    f::ENC_OPTS_MASK,
    f::IN_HW_COUNT,
    f::CT_STATE,
    f::CT_STATE_MASK,
    f::ENC_FLAGS,
    f::ENC_FLAGS_MASK,
];

fn known(list: &[Attribute<'_>]) -> Result<(), ReadError> {
    for a in list {
        let row = |r: &Row| r.attribute == a.kind || r.masking == Masking::Attribute(a.kind);
        if !OTHERS.contains(&a.kind) && !ROWS.iter().any(row) {
            return Err(ReadError::Unknown { what: "flower attribute", value: a.kind.into() });
        }
    }
    Ok(())
}

/// What is matched of each label, if more than the first is.
fn read_labels(list: &[Attribute<'_>]) -> Result<Vec<(FlowerKey, u128)>, ReadError> {
    let mut out = Vec::new();
    let Some(labels) = find(list, f::MPLS_OPTS) else { return Ok(out) };
    for label in labels.nested()? {
        let parts = label.nested()?;
        let depth = find(&parts, f::LSE_DEPTH).ok_or(ReadError::Missing("the depth of a label"))?.u8()?;
        for part in parts.iter().filter(|part| part.kind != f::LSE_DEPTH) {
            let row = LABELS.iter().find(|(_, of, kind)| (*of, *kind) == (depth, part.kind)).map(|(key, ..)| key.row());
            let row = row.ok_or_else(|| ReadError::Unknown { what: "a label's attribute", value: part.kind.into() })?;
            out.push((row.key, read_value(*part, row.wire)?));
        }
    }
    Ok(out)
}

fn read_item(list: &[Attribute<'_>], row: &Row) -> Result<Option<Item>, ReadError> {
    let Some(value) = find(list, row.attribute) else {
        return Ok(None);
    };
    let value = read_value(value, row.wire)?;
    let mask = match row.masking {
        Masking::Whole => row.whole(),
        // The kernel takes a missing mask for a full one.
        Masking::Attribute(kind) => find(list, kind).map_or_else(|| Ok(row.whole()), |m| read_value(m, row.wire))?,
    };
    Ok((mask != 0).then_some(Item { key: row.key, value, mask }))
}

fn read_value(a: Attribute<'_>, wire: Wire) -> Result<u128, ReadError> {
    let (Wire::Big(n) | Wire::Host(n) | Wire::Little(n)) = wire;
    if a.payload.len() != usize::from(n) {
        return Err(ReadError::Size { kind: a.kind, len: a.payload.len(), expected: n.into() });
    }
    let number = |sum: u128, byte: &u8| sum << 8 | u128::from(*byte);
    let little = match wire {
        Wire::Big(_) => false,
        Wire::Host(_) => cfg!(target_endian = "little"),
        Wire::Little(_) => true,
    };
    Ok(if little { a.payload.iter().rev().fold(0, number) } else { a.payload.iter().fold(0, number) })
}

fn read_link(list: &[Attribute<'_>], protocol: u16) -> Result<Link, ReadError> {
    let be16 = |kind: u16| find(list, kind).map(|a| a.array().map(u16::from_be_bytes)).transpose();
    let is_tag = |ty: u16| ty == eth_type::VLAN || ty == eth_type::QINQ;
    let tag = |tpid: u16, id: u16, prio: u16| -> Result<Tag, ReadError> {
        Ok(Tag {
            tpid,
            vid: find(list, id).map(Attribute::u16).transpose()?,
            pcp: find(list, prio).map(Attribute::u8).transpose()?,
        })
    };
    if !is_tag(protocol) {
        return Ok(Link { tags: [None, None], eth_type: protocol });
    }
    let outer = tag(protocol, f::VLAN_ID, f::VLAN_PRIO)?;
    let second = be16(f::VLAN_ETH_TYPE)?.ok_or(ReadError::Missing("the type behind a VLAN tag"))?;
    if !is_tag(second) {
        return Ok(Link { tags: [Some(outer), None], eth_type: second });
    }
    let inner = tag(second, f::CVLAN_ID, f::CVLAN_PRIO)?;
    let third = be16(f::CVLAN_ETH_TYPE)?.ok_or(ReadError::Missing("the type behind a second VLAN tag"))?;
    Ok(Link { tags: [Some(outer), Some(inner)], eth_type: third })
}

fn read_tunnel(list: &[Attribute<'_>], items: &[Item], flags: Option<(u32, u32)>) -> Result<Option<TunnelMatch>, ReadError> {
    let id = find(list, f::ENC_KEY_ID).map(|a| a.array().map(u32::from_be_bytes)).transpose()?;
    let outer = [FlowerKey::EncIpv4Dst, FlowerKey::EncIpv6Dst];
    if id.is_none() && flags.is_none() && !items.iter().any(|i| outer.contains(&i.key)) {
        return Ok(None);
    }
    let ours = |bits: u32| TUNNEL_FLAGS.iter().filter(|(_, theirs)| bits & theirs != 0).fold(0, |n, (ours, _)| n | ours);
    let (flags, flags_mask) = flags.map_or((0, 0), |(v, m)| (ours(v), ours(m)));
    let mut said = TunnelMatch { id, flags, flags_mask, geneve: None, gbp: None };
    let (Some(opts), Some(mask)) = (find(list, f::ENC_OPTS), find(list, f::ENC_OPTS_MASK)) else {
        return Ok(Some(said));
    };
    let (opts, mask) = (opts.nested()?, mask.nested()?);
    if let Some(vxlan) = find(&opts, f::OPTS_VXLAN) {
        said.gbp = find(&vxlan.nested()?, f::VXLAN_GBP).map(Attribute::u32).transpose()?;
    } else {
        said.geneve = Some((read_geneve(&opts)?, whole_lengths(read_geneve(&mask)?)));
    }
    Ok(Some(said))
}

/// A mask's length bytes are whole: tc knows the options by their number and lengths.
fn whole_lengths(mut mask: Vec<u8>) -> Vec<u8> {
    for (at, _) in geneve_lengths(&mask) {
        mask[at + 3] = 0xff;
    }
    mask
}

/// Geneve options on the wire, of their nests.
pub(super) fn read_geneve(opts: &[Attribute<'_>]) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    for one in opts.iter().filter(|a| a.kind == f::OPTS_GENEVE) {
        let parts = one.nested()?;
        let class: [u8; 2] = find(&parts, f::GENEVE_CLASS).ok_or(ReadError::Missing("the class of a Geneve option"))?.array()?;
        let kind = find(&parts, f::GENEVE_TYPE).ok_or(ReadError::Missing("the type of a Geneve option"))?.u8()?;
        let data = find(&parts, f::GENEVE_DATA).ok_or(ReadError::Missing("the data of a Geneve option"))?.payload;
        let words = u8::try_from(data.len() / 4).ok().filter(|w| *w < 32 && data.len() % 4 == 0);
        let words = words.ok_or(ReadError::Invalid("a Geneve option of no whole number of words"))?;
        out.extend_from_slice(&class);
        out.extend_from_slice(&[kind, words]);
        out.extend_from_slice(data);
    }
    Ok(out)
}
