//! Actions that carry lists: conntrack with its NAT, clone, encap, and sample with its forms; both ways.

use super::decode::{At, actions};
use super::encode::Encoder;
use super::fields::{check_src, packed};
use super::table::{Raw, begin, end};
use super::verify::{Outer, verify};
use crate::action::{CtAction, Encap, EncapProp, NatAction, OfAction, Sample, Subfield};
use crate::error::OfError;
use crate::types::{OfPort, TableId, Version};
use crate::wire::bytes::{Put, Reader, round8};
use crate::wire::matches::oxm;
use std::net::IpAddr;

const BAD_ARGUMENT: OfError = OfError::OfpbacBadArgument;
/// NX_CT_F_*
const CT_COMMIT: u16 = 1;
const CT_FORCE: u16 = 2;
/// NX_CT_RECIRC_NONE
const RECIRC_NONE: u8 = 0xff;
/// NX_NAT_F_*
const NAT_SRC: u16 = 1;
const NAT_DST: u16 = 2;
const NAT_HASH: u16 = 8;
const NAT_RANDOM: u16 = 16;
const NAT_ALL: u16 = 31;
/// NX_NAT_RANGE_*
const RANGE_IPV4_MIN: u16 = 1;
const RANGE_IPV4_MAX: u16 = 2;
const RANGE_IPV6_MIN: u16 = 4;
const RANGE_IPV6_MAX: u16 = 8;
const RANGE_PROTO_MIN: u16 = 16;
const RANGE_PROTO_MAX: u16 = 32;
/// Property class and types of encap for NSH.
const PROP_NSH: u16 = 4;
const PROP_NSH_MDTYPE: u8 = 1;
const PROP_NSH_TLV: u8 = 2;
/// Packet types that encap can push: Ethernet, NSH, MPLS, MPLS multicast.
const ENCAPS: [u32; 4] = [0, 0x1_894f, 0x1_8847, 0x1_8848];

fn list(at: At<'_>, b: Reader<'_>, outer: Outer) -> Result<Vec<OfAction>, OfError> {
    let mut out = Vec::new();
    actions(At { depth: at.depth + 1, ..at }, b.or(OfError::OfpbacBadLen), &mut out)?;
    verify(&out, at.version, outer)?;
    Ok(out)
}

pub(super) fn ct(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (flags, zone_src, zone) = (b.u16()?, b.u32()?, b.u16()?);
    let (table, _pad, alg) = (b.u8()?, b.take(3)?, b.u16()?);
    if flags & CT_FORCE != 0 && flags & CT_COMMIT == 0 {
        return Err(BAD_ARGUMENT);
    }
    let mut ct = CtAction {
        commit: flags & CT_COMMIT != 0,
        force: flags & CT_FORCE != 0,
        zone_imm: if zone_src == 0 { zone } else { 0 },
        zone_src: None,
        table: (table != RECIRC_NONE).then_some(TableId(table)),
        alg,
        actions: Vec::new(),
    };
    if zone_src != 0 {
        let src = packed(at.codec, zone_src, zone)?;
        check_src(at.codec, src)?;
        if src.bits != 16 {
            return Err(OfError::OfpbacBadSetLen);
        }
        ct.zone_src = Some(src);
    }
    ct.actions = list(at, b, Outer::Ct)?;
    let plain_nat = |a: &OfAction| matches!(a, OfAction::Nat(nat) if nat.flags == 0 && nat.addr.is_none());
    if !ct.commit && !ct.actions.iter().all(plain_nat) {
        return Err(BAD_ARGUMENT);
    }
    Ok(OfAction::Ct(Box::new(ct)))
}

pub(super) fn put_ct(out: &mut Vec<u8>, encoder: &Encoder<'_>, ct: &CtAction) {
    let Some(start) = begin(out, encoder.version, Raw::Ct) else { return };
    out.u16(if ct.commit { CT_COMMIT } else { 0 } | if ct.force { CT_FORCE } else { 0 });
    match ct.zone_src {
        Some(src) => {
            out.u32(oxm::header_u32(encoder.codec, src.field));
            out.u16(super::fields::pack(src));
        }
        None => {
            out.u32(0);
            out.u16(ct.zone_imm);
        }
    }
    out.u8(ct.table.map_or(RECIRC_NONE, |t| t.0));
    out.zeros(3);
    out.u16(ct.alg);
    encoder.nested(&ct.actions, out);
    end(out, start);
}

/// An address that a range may begin with.
fn address<const N: usize>(b: &mut Reader<'_>) -> Result<[u8; N], OfError> {
    b.array().map_err(|_| BAD_ARGUMENT)
}

pub(super) fn nat(mut b: Reader<'_>) -> Result<OfAction, OfError> {
    b.skip(2)?;
    let (flags, present) = (b.u16()?, b.u16()?);
    let has = |bit| present & bit != 0;
    let both = |x| flags & x == x;
    if flags & !NAT_ALL != 0 || both(NAT_SRC | NAT_DST) || both(NAT_HASH | NAT_RANDOM) {
        return Err(BAD_ARGUMENT);
    }
    let addr = if has(RANGE_IPV4_MIN) {
        if has(RANGE_IPV6_MIN | RANGE_IPV6_MAX) {
            return Err(BAD_ARGUMENT);
        }
        let min: [u8; 4] = address(&mut b)?;
        let max: Option<[u8; 4]> = if has(RANGE_IPV4_MAX) { Some(address(&mut b)?) } else { None };
        if min == [0; 4] || max.is_some_and(|m| m < min) {
            return Err(BAD_ARGUMENT);
        }
        Some((IpAddr::from(min), max.map(IpAddr::from)))
    } else if has(RANGE_IPV4_MAX) || !has(RANGE_IPV6_MIN) && has(RANGE_IPV6_MAX) {
        return Err(BAD_ARGUMENT);
    } else if has(RANGE_IPV6_MIN) {
        let min: [u8; 16] = address(&mut b)?;
        let max: Option<[u8; 16]> = if has(RANGE_IPV6_MAX) { Some(address(&mut b)?) } else { None };
        if min == [0; 16] || max.is_some_and(|m| m < min) {
            return Err(BAD_ARGUMENT);
        }
        Some((IpAddr::from(min), max.map(IpAddr::from)))
    } else {
        None
    };
    let ports = nat_ports(&mut b, present, addr.is_some())?;
    Ok(OfAction::Nat(Box::new(NatAction { flags, addr, ports })))
}

fn nat_ports(b: &mut Reader<'_>, present: u16, has_addr: bool) -> Result<Option<(u16, Option<u16>)>, OfError> {
    let port = |b: &mut Reader<'_>| b.u16().map_err(|_| BAD_ARGUMENT);
    if present & RANGE_PROTO_MIN == 0 {
        return if present & RANGE_PROTO_MAX == 0 { Ok(None) } else { Err(BAD_ARGUMENT) };
    }
    let min = port(b)?;
    let max = if present & RANGE_PROTO_MAX != 0 { Some(port(b)?) } else { None };
    if !has_addr || min == 0 || max.is_some_and(|m| m < min) { Err(BAD_ARGUMENT) } else { Ok(Some((min, max))) }
}

pub(super) fn put_nat(out: &mut Vec<u8>, version: Version, nat: &NatAction) {
    let Some(start) = begin(out, version, Raw::Nat) else { return };
    let mut present = 0;
    out.zeros(2);
    out.u16(nat.flags);
    let present_at = out.len();
    out.u16(0);
    let put = |out: &mut Vec<u8>, addr: IpAddr| match addr {
        IpAddr::V4(a) => out.bytes(&a.octets()),
        IpAddr::V6(a) => out.bytes(&a.octets()),
    };
    if let Some((min, max)) = nat.addr {
        let (min_bit, max_bit) = if min.is_ipv4() { (RANGE_IPV4_MIN, RANGE_IPV4_MAX) } else { (RANGE_IPV6_MIN, RANGE_IPV6_MAX) };
        put(out, min);
        present |= min_bit;
        if let Some(max) = max {
            put(out, max);
            present |= max_bit;
        }
    }
    if let Some((min, max)) = nat.ports {
        out.u16(min);
        present |= RANGE_PROTO_MIN;
        if let Some(max) = max {
            out.u16(max);
            present |= RANGE_PROTO_MAX;
        }
    }
    out.set_u16(present_at, present);
    end(out, start);
}

pub(super) fn clone(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    b.skip(6)?;
    list(at, b, Outer::Clone).map(OfAction::Clone)
}

pub(super) fn encap(mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (hdr_size, new_packet_type) = (b.u16()?, b.u32()?);
    if !ENCAPS.contains(&new_packet_type) {
        return Err(OfError::NxbacBadHeaderType);
    }
    let mut props = Vec::new();
    while !b.is_empty() {
        let mut head = b;
        let (class, kind, len) = (head.u16()?, head.u8()?, usize::from(head.u8()?));
        if len < 4 || round8(len) > b.len() {
            return Err(OfError::OfpbacBadLen);
        }
        let whole = b.take(round8(len))?;
        let mut value = Reader::new(&whole[4..], OfError::NxbacBadEdProp);
        props.push(match (class, kind) {
            (PROP_NSH, PROP_NSH_MDTYPE) if len <= 8 => EncapProp::NshMdType(value.u8()?),
            (PROP_NSH, PROP_NSH_TLV) => {
                let (class, kind, n) = (value.u16()?, value.u8()?, usize::from(value.u8()?));
                if len != 8 + round8(n) {
                    return Err(OfError::NxbacBadEdProp);
                }
                EncapProp::NshTlv { class, kind, data: value.take(n)?.to_vec() }
            }
            (PROP_NSH, PROP_NSH_MDTYPE) => return Err(OfError::NxbacBadEdProp),
            _ => return Err(OfError::NxbacUnknownEdProp),
        });
    }
    Ok(OfAction::Encap(Encap { new_packet_type, hdr_size, props }))
}

pub(super) fn put_encap(out: &mut Vec<u8>, version: Version, encap: &Encap) {
    let Some(start) = begin(out, version, Raw::Encap) else { return };
    out.u16(encap.hdr_size);
    out.u32(encap.new_packet_type);
    for prop in &encap.props {
        out.u16(PROP_NSH);
        match prop {
            EncapProp::NshMdType(kind) => {
                out.bytes(&[PROP_NSH_MDTYPE, 5, *kind, 0, 0, 0]);
            }
            EncapProp::NshTlv { class, kind, data } => {
                let padded = round8(data.len());
                out.u8(PROP_NSH_TLV);
                out.u8(u8::try_from(8 + padded).unwrap_or(u8::MAX));
                out.u16(*class);
                out.u8(*kind);
                out.u8(u8::try_from(data.len()).unwrap_or(u8::MAX));
                out.bytes(data);
                out.zeros(padded - data.len());
            }
        }
    }
    end(out, start);
}

/// 32 bits that are a number, or name a field whose bits lie as the next 32 say.
fn number_or_field(at: At<'_>, b: &mut Reader<'_>) -> Result<(u32, Option<Subfield>), OfError> {
    let header = b.u32()?;
    if header == 0 {
        return Ok((b.u32()?, None));
    }
    let ofs_nbits = b.u16()?;
    b.skip(2)?;
    let src = packed(at.codec, header, ofs_nbits)?;
    check_src(at.codec, src)?;
    if src.bits > 32 { Err(OfError::OfpbacBadSetLen) } else { Ok((0, Some(src))) }
}

pub(super) fn sample(at: At<'_>, mut b: Reader<'_>, form: u8) -> Result<OfAction, OfError> {
    let (probability, collector_set_id) = (b.u16()?, b.u32()?);
    let (domain, point) = if form == 4 {
        (number_or_field(at, &mut b)?, number_or_field(at, &mut b)?)
    } else {
        ((b.u32()?, None), (b.u32()?, None))
    };
    let mut sample = Sample {
        probability,
        collector_set_id,
        obs_domain_id: domain.0,
        obs_point_id: point.0,
        obs_domain_src: domain.1,
        obs_point_src: point.1,
        sampling_port: OfPort::ANY,
        direction: 0,
        form,
    };
    if form >= 2 {
        sample.sampling_port = OfPort::from_wire16(b.u16()?);
    }
    if form >= 3 {
        sample.direction = b.u8()?;
        b.zeros(5, OfError::NxbrcMustBeZero)?;
    }
    if sample.direction > 2 || probability == 0 { Err(BAD_ARGUMENT) } else { Ok(OfAction::Sample(Box::new(sample))) }
}

pub(super) fn put_sample(out: &mut Vec<u8>, encoder: &Encoder<'_>, s: &Sample) {
    let fields = s.obs_domain_src.is_some() || s.obs_point_src.is_some();
    let raw = match s.form {
        4 => Raw::Sample4,
        _ if fields => Raw::Sample4,
        3 => Raw::Sample3,
        _ if s.direction != 0 => Raw::Sample3,
        2 => Raw::Sample2,
        _ if s.sampling_port != OfPort::ANY => Raw::Sample2,
        _ => Raw::Sample,
    };
    let Some(start) = begin(out, encoder.version, raw) else { return };
    out.u16(s.probability);
    out.u32(s.collector_set_id);
    for (number, src) in [(s.obs_domain_id, s.obs_domain_src), (s.obs_point_id, s.obs_point_src)] {
        match src {
            Some(src) => {
                out.u32(oxm::header_u32(encoder.codec, src.field));
                out.u16(super::fields::pack(src));
                out.u16(0);
            }
            None if raw == Raw::Sample4 => {
                out.u32(0);
                out.u32(number);
            }
            None => out.u32(number),
        }
    }
    if raw != Raw::Sample {
        out.u16(s.sampling_port.to_wire16());
    }
    if matches!(raw, Raw::Sample3 | Raw::Sample4) {
        out.u8(s.direction);
    }
    end(out, start);
}
