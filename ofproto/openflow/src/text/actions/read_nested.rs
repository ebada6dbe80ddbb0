//! Reads actions of many parts: ct, nat, bundle, multipath, sample, encap, decap.

use super::read::{BYTES_MAX, Reading};
use super::read_fields::{has_short_header, subfield};
use super::{BUNDLE_ALGORITHMS, ENCAPS, HASH_FIELDS, MULTIPATH_ALGORITHMS, flags};
use crate::action::{Bundle, CtAction, Encap, EncapProp, HashFields, Multipath, NatAction, OfAction, Sample, Subfield};
use crate::text::number::{self, Tokens};
use crate::text::{Protocols, TextError};
use crate::types::{OfPort, TableId};
use crate::wire::Outer;
use flow::oftext::KeyValues;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// BUNDLE_MAX_MEMBERS
const BUNDLE_MEMBERS_MAX: usize = 2048;

pub(super) fn ct(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut ct = CtAction { commit: false, force: false, zone_imm: 0, zone_src: None, table: None, alg: 0, actions: Vec::new() };
    for (key, value) in KeyValues::new(text) {
        match key {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => {
                let table = r.names.parse_table(value).ok_or_else(|| TextError::CtTable(value.to_owned()))?;
                if table == TableId::ALL {
                    return Err(TextError::CtTableAll);
                }
                ct.table = Some(table);
            }
            "zone" => match number::u16(value, "zone") {
                Ok(zone) => ct.zone_imm = zone,
                Err(_) => ct.zone_src = Some(subfield(value)?),
            },
            "alg" => ct.alg = helper(value)?,
            "nat" => ct.actions.push(nat(value)?),
            "exec" => ct.actions.extend(r.list(value, Outer::Ct)?),
            _ => return Err(TextError::CtKey(key.to_owned())),
        }
    }
    if ct.force && !ct.commit {
        return Err(TextError::ForceWithoutCommit);
    }
    Ok(OfAction::Ct(Box::new(ct)))
}

fn helper(text: &str) -> Result<u16, TextError> {
    match text {
        "ftp" => Ok(21),
        "tftp" => Ok(69),
        _ => Err(TextError::Helper(text.to_owned())),
    }
}

pub(super) fn nat(text: &str) -> Result<OfAction, TextError> {
    let mut nat = NatAction::default();
    for (key, value) in KeyValues::new(text) {
        let flag = match key {
            "src" => flags::NAT_SRC,
            "dst" => flags::NAT_DST,
            "persistent" => flags::NAT_PERSISTENT,
            "hash" => flags::NAT_HASH,
            "random" => flags::NAT_RANDOM,
            _ => return Err(TextError::QuotedKey { key: key.to_owned(), action: "nat" }),
        };
        nat.flags |= flag;
        if matches!(key, "src" | "dst") {
            nat_range(value, &mut nat)?;
        }
    }
    let directions = nat.flags & (flags::NAT_SRC | flags::NAT_DST);
    if directions == flags::NAT_SRC | flags::NAT_DST {
        return Err(TextError::NatBoth);
    }
    if directions == 0 && nat.flags != 0 {
        return Err(TextError::NatFlags);
    }
    let how = flags::NAT_HASH | flags::NAT_RANDOM;
    if nat.flags & how == how { Err(TextError::NatHashRandom) } else { Ok(OfAction::Nat(Box::new(nat))) }
}

/// `A[-B][:p[-q]]`, IPv6 addresses perhaps in brackets.
fn nat_range(text: &str, nat: &mut NatAction) -> Result<(), TextError> {
    let bad = || TextError::NatRange(text.to_owned());
    let mut rest = text;
    (nat.addr, nat.ports) = (None, None);
    if let Some((min, after)) = address(rest) {
        rest = after;
        let mut max = None;
        if let Some(after) = rest.strip_prefix('-') {
            let (to, after) = address(after).filter(|(to, _)| to.is_ipv4() == min.is_ipv4() && *to >= min).ok_or_else(bad)?;
            (max, rest) = (Some(to), after);
        }
        nat.addr = Some((min, max));
        if let Some(after) = rest.strip_prefix(':') {
            let (from, after) = port(after).ok_or_else(bad)?;
            rest = after;
            let mut to = None;
            if let Some(after) = rest.strip_prefix('-') {
                let (high, after) = port(after).filter(|(high, _)| *high >= from).ok_or_else(bad)?;
                (to, rest) = (Some(high), after);
            }
            nat.ports = Some((from, to));
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(TextError::NatGarbage { rest: rest.to_owned(), text: text.to_owned(), at: text.len() - rest.len() })
}

fn address(text: &str) -> Option<(IpAddr, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    if let Ok(v4) = text[..end].parse::<Ipv4Addr>() {
        return Some((v4.into(), &text[end..]));
    }
    if let Some(inner) = text.strip_prefix('[') {
        let (v6, rest) = inner.split_once(']')?;
        return Some((v6.parse::<Ipv6Addr>().ok()?.into(), rest));
    }
    let end = text.find(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.').unwrap_or(text.len());
    Some((text[..end].parse::<Ipv6Addr>().ok()?.into(), &text[end..]))
}

fn port(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn hash_fields(text: &str, name: &str) -> Result<HashFields, TextError> {
    let found = HASH_FIELDS.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(f, _)| *f);
    found.ok_or_else(|| TextError::HashFields { text: text.to_owned(), fields: name.to_owned() })
}

fn algorithm(text: &str, names: &[&str], name: &str) -> Result<u16, TextError> {
    let found = names.iter().position(|n| n.eq_ignore_ascii_case(name)).and_then(|n| u16::try_from(n).ok());
    found.ok_or_else(|| TextError::Algorithm { text: text.to_owned(), algorithm: name.to_owned() })
}

fn short_dst(text: &str, name: &str) -> Result<Subfield, TextError> {
    let dst = subfield(name)?;
    let error = || TextError::ExperimenterField { text: text.to_owned(), field: name.to_owned() };
    has_short_header(dst.field).then_some(dst).ok_or_else(error)
}

pub(super) fn bundle(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    any_bundle(r, text, false)
}

pub(super) fn bundle_load(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    any_bundle(r, text, true)
}

fn any_bundle(r: &Reading<'_>, text: &str, load: bool) -> Result<OfAction, TextError> {
    const WORD: &[char] = &[',', ' '];
    let few = || TextError::Arguments { text: text.to_owned(), action: "bundle" };
    let mut tokens = Tokens::new(text);
    let mut word = || tokens.next(WORD);
    let (fields, basis, alg, kind) = (word(), word(), word(), word());
    let dst = if load { word() } else { None };
    let delimiter = tokens.next(&[':', ' ']).ok_or_else(few)?;
    let (fields, basis) = (fields.ok_or_else(few)?, basis.ok_or_else(few)?);
    let (alg, kind) = (alg.ok_or_else(few)?, kind.ok_or_else(few)?);
    if !delimiter.eq_ignore_ascii_case("members") && !delimiter.eq_ignore_ascii_case("slaves") {
        return Err(TextError::Members { text: text.to_owned(), got: delimiter.to_owned() });
    }
    let mut members = Vec::new();
    while let Some(member) = tokens.next(&[',', ' ', '[', ']']).filter(|_| members.len() < BUNDLE_MEMBERS_MAX) {
        members.push(r.names.parse_port(member).ok_or_else(|| TextError::BadPort(member.to_owned()))?);
    }
    let fields = hash_fields(text, fields)?;
    let algorithm = algorithm(text, &BUNDLE_ALGORITHMS, alg)?;
    if !kind.eq_ignore_ascii_case("ofport") {
        return Err(TextError::MemberType { text: text.to_owned(), kind: kind.to_owned() });
    }
    let dst = dst.map(|name| short_dst(text, name)).transpose()?;
    Ok(OfAction::Bundle(Box::new(Bundle { fields, basis: number::atoi16(basis), algorithm, members, dst })))
}

pub(super) fn multipath(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut tokens = Tokens::new(text);
    let words: Vec<&str> = std::iter::from_fn(|| tokens.next(&[',', ' '])).take(6).collect();
    let [fields, basis, alg, links, arg, dst] = words[..] else {
        return Err(TextError::Arguments { text: text.to_owned(), action: "multipath" });
    };
    let fields = hash_fields(text, fields)?;
    let algorithm = algorithm(text, &MULTIPATH_ALGORITHMS, alg)?;
    let n = number::atoi(links);
    let max_link = n.checked_sub(1).and_then(|n| u16::try_from(n).ok());
    let max_link = max_link.ok_or_else(|| TextError::Links { text: text.to_owned(), n })?;
    let dst = short_dst(text, dst)?;
    if dst.bits < 16 && u32::from(max_link) >= 1 << dst.bits {
        return Err(TextError::LinksWide { text: text.to_owned(), bits: dst.bits, values: 1 << dst.bits, n });
    }
    let (basis, arg) = (number::atoi16(basis), number::atoi32(arg));
    Ok(OfAction::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst })))
}

pub(super) fn sample(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut s = Sample {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: 0,
        obs_point_id: 0,
        obs_domain_src: None,
        obs_point_src: None,
        sampling_port: OfPort::ANY,
        direction: 0,
        form: 1,
    };
    for (key, value) in KeyValues::new(text) {
        match key {
            "probability" => {
                s.probability = number::u16(value, "probability")?;
                if s.probability == 0 {
                    return Err(TextError::Probability(value.to_owned()));
                }
            }
            "collector_set_id" => s.collector_set_id = number::u32(value)?,
            "obs_domain_id" => (s.obs_domain_id, s.obs_domain_src) = observation("obs_domain_id", value)?,
            "obs_point_id" => (s.obs_point_id, s.obs_point_src) = observation("obs_point_id", value)?,
            "sampling_port" => {
                s.sampling_port = r.names.parse_port(value).ok_or_else(|| TextError::UnknownPort(value.to_owned()))?;
            }
            "ingress" => s.direction = 1,
            "egress" => s.direction = 2,
            _ => return Err(TextError::QuotedKey { key: key.to_owned(), action: "sample" }),
        }
    }
    if s.probability == 0 {
        return Err(TextError::NoProbability);
    }
    // The oldest of Nicira's forms that holds it.
    s.form = match &s {
        s if s.obs_domain_src.is_some() || s.obs_point_src.is_some() => 4,
        s if s.direction != 0 => 3,
        s if s.sampling_port != OfPort::ANY => 2,
        _ => 1,
    };
    Ok(OfAction::Sample(Box::new(s)))
}

fn observation(name: &'static str, text: &str) -> Result<(u32, Option<Subfield>), TextError> {
    if let Ok(n) = number::u32(text) {
        return Ok((n, None));
    }
    let src = subfield(text)?;
    if src.bits > 32 { Err(TextError::ObservationWide { name, bits: src.bits }) } else { Ok((0, Some(src))) }
}

pub(super) fn encap(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    r.protocols.narrow(Protocols::OF13_UP);
    let (key, value) = KeyValues::new(text).next().ok_or_else(|| TextError::NoEncap(text.to_owned()))?;
    let kind = ENCAPS.iter().find(|(_, name)| *name == key).map(|(kind, _)| *kind);
    let new_packet_type = kind.ok_or_else(|| TextError::Encap(value.to_owned()))?;
    let mut props = Vec::new();
    let mut bytes = 0;
    for (name, value) in KeyValues::new(value) {
        let prop = property(key == "nsh", name, value)?;
        bytes += match &prop {
            EncapProp::NshMdType(_) => 8,
            EncapProp::NshTlv { data, .. } => 8 + data.len(),
        };
        props.push(prop);
    }
    if bytes > BYTES_MAX { Err(TextError::TooBig) } else { Ok(OfAction::Encap(Encap { new_packet_type, hdr_size: 0, props })) }
}

fn property(nsh: bool, name: &str, value: &str) -> Result<EncapProp, TextError> {
    if !nsh || !matches!(name, "md_type" | "tlv") {
        return Err(TextError::Property(name.to_owned()));
    }
    if value.is_empty() {
        return Err(TextError::NoPropertyValue);
    }
    if name == "md_type" {
        return match number::u8(value, "md_type")? {
            n @ 1..=2 => Ok(EncapProp::NshMdType(n)),
            _ => Err(TextError::MdType),
        };
    }
    let parsed = || {
        let mut parts = value.strip_prefix("0x")?.splitn(3, ',');
        let class = u16::from_str_radix(parts.next()?, 16).ok()?;
        let kind = parts.next()?.parse::<u8>().ok()?;
        let digits = parts.next()?.strip_prefix("0x")?;
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len()).min(251);
        (end > 0).then(|| EncapProp::NshTlv { class, kind, data: number::hex_bytes(&digits[..end]).0 })
    };
    parsed().ok_or_else(|| TextError::NshTlv(value.to_owned()))
}

pub(super) fn decap(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    /// OFPHTN_N_TYPES
    const NAMESPACES: u16 = 5;
    let Some((key, value)) = KeyValues::new(text).next() else { return Ok(OfAction::Decap { new_packet_type: None }) };
    if key != "packet_type" {
        return Err(TextError::Decap(key.to_owned()));
    }
    let mut parts = KeyValues::new(value);
    let mut part = |name: &'static str| match parts.next() {
        Some((key, value)) if key == name => number::u16(value, name),
        _ => Err(TextError::NoPacketType(name)),
    };
    let ns = part("ns")?;
    if ns >= NAMESPACES {
        return Err(TextError::Namespace(ns));
    }
    let kind = part("type")?;
    Ok(OfAction::Decap { new_packet_type: Some(u32::from(ns) << 16 | u32::from(kind)) })
}
