//! Actions that name fields: set-field, load, move, stack, output to a register, multipath and bundle, both ways.

use super::decode::{At, check_output_port};
use super::table::{Raw, begin, end};
use crate::action::{Bundle, FieldValue, HashFields, Multipath, OfAction, SetForm, Subfield};
use crate::error::OfError;
use crate::types::{OfPort, Version};
use crate::wire::Codec;
use crate::wire::bytes::{Put, Reader, all_zero};
use crate::wire::matches::oxm::{self, Entry};
use flow::fields::{Field, VALUE_BYTES_MAX, Value};

const BAD_ARGUMENT: OfError = OfError::OfpbacBadArgument;
const MUST_BE_ZERO: OfError = OfError::NxbrcMustBeZero;
/// Members of a bundle at most.
const BUNDLE_MEMBERS_MAX: u16 = 2048;
/// `OFPVID_PRESENT`.
const VID_PRESENT: u128 = 0x1000;

/// The field that a 32-bit NXM header names.
fn named(codec: &Codec<'_>, header: u32) -> Result<Field, OfError> {
    let field = Entry::from_u32(header).field().ok_or(OfError::OfpbacBadSetType)?;
    if codec.unmapped(field) { Err(OfError::NxfmfcInvalidTlvField) } else { Ok(field) }
}

/// A field in 32 bits, with offset and width packed into 16.
pub(super) fn packed(codec: &Codec<'_>, header: u32, ofs_nbits: u16) -> Result<Subfield, OfError> {
    Ok(Subfield { field: named(codec, header)?, ofs: ofs_nbits >> 6, bits: (ofs_nbits & 0x3f) + 1 })
}

pub(super) fn pack(s: Subfield) -> u16 {
    s.ofs << 6 | s.bits.wrapping_sub(1) & 0x3f
}

/// A field named by a header without a mask.
pub(super) fn pull_field(codec: &Codec<'_>, r: &mut Reader<'_>) -> Result<Field, OfError> {
    match oxm::pull_name(r, codec)? {
        (field, false) => Ok(field),
        (_, true) => Err(OfError::OfpbmcBadMask),
    }
}

/// A 32-bit header and a 16-bit offset, as learn has them.
pub(super) fn learn_field(codec: &Codec<'_>, r: &mut Reader<'_>, bits: u16) -> Result<Subfield, OfError> {
    let header = r.u32()?;
    let ofs = r.u16()?;
    Ok(Subfield { field: named(codec, header)?, ofs, bits })
}

/// Whether the bits lie within the field.
pub(crate) fn check_src(codec: &Codec<'_>, s: Subfield) -> Result<(), OfError> {
    let width = codec.bits_of(s.field);
    let inside = s.bits != 0 && usize::from(s.ofs) + usize::from(s.bits) <= width;
    if inside { Ok(()) } else { Err(OfError::OfpbacBadSetLen) }
}

/// Likewise for a field that is written.
pub(crate) fn check_dst(codec: &Codec<'_>, s: Subfield) -> Result<(), OfError> {
    check_src(codec, s)?;
    if s.field.row().writable { Ok(()) } else { Err(OfError::OfpbacBadSetArgument) }
}

/// A mask of `bits` ones at `ofs`, or a value shifted there.
fn shifted(value: u64, ofs: usize) -> Value {
    if ofs + 64 <= 128 {
        return Value::from(u128::from(value) << ofs);
    }
    let mut bytes = [0u8; VALUE_BYTES_MAX];
    for bit in (0..64).filter(|b| value >> b & 1 != 0) {
        let at = ofs + bit;
        if at < 8 * VALUE_BYTES_MAX {
            bytes[VALUE_BYTES_MAX - 1 - at / 8] |= 1 << (at % 8);
        }
    }
    Value::from_be_bytes(&bytes)
}

pub(super) fn set_field(at: At<'_>, mut b: Reader<'_>, may_mask: bool) -> Result<OfAction, OfError> {
    let (field, value, mask) = oxm::pull_setter(&mut b, at.codec, may_mask)
        .map_err(|e| if e == OfError::OfpbmcBadMask { OfError::OfpbacBadSetMask } else { e })?;
    let refuse = Err(OfError::OfpbacBadSetArgument);
    if !all_zero(b.peek()) || field == Field::InPortOxm || !field.row().writable || !oxm::valid(field, &value) {
        return refuse;
    }
    let mask = mask.unwrap_or_else(|| at.codec.all_ones(field));
    if field == Field::VlanVid && (mask.low() & value.low() & VID_PRESENT == 0) {
        return refuse;
    }
    Ok(OfAction::SetField { field, value, mask, form: SetForm::SetField })
}

pub(super) fn reg_load(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let ofs_nbits = b.u16()?;
    let dst = packed(at.codec, b.u32()?, ofs_nbits)?;
    let value = b.u64()?;
    check_dst(at.codec, dst)?;
    let ones = u64::MAX >> (64 - dst.bits);
    if value & !ones != 0 {
        return Err(BAD_ARGUMENT);
    }
    let ofs = usize::from(dst.ofs);
    Ok(OfAction::SetField { field: dst.field, value: shifted(value, ofs), mask: shifted(ones, ofs), form: SetForm::Load })
}

pub(super) fn reg_load2(at: At<'_>, mut b: Reader<'_>, form: SetForm) -> Result<OfAction, OfError> {
    let (field, value, mask) = oxm::pull_setter(&mut b, at.codec, true)?;
    if !all_zero(b.peek()) || !field.row().writable {
        return Err(OfError::OfpbacBadSetArgument);
    }
    let mask = mask.unwrap_or_else(|| at.codec.all_ones(field));
    Ok(OfAction::SetField { field, value, mask, form })
}

fn two_fields(at: At<'_>, b: &mut Reader<'_>, bits: u16, offsets: (u16, u16), onf: bool) -> Result<OfAction, OfError> {
    let src = Subfield { field: pull_field(at.codec, b)?, ofs: offsets.0, bits };
    let dst = Subfield { field: pull_field(at.codec, b)?, ofs: offsets.1, bits };
    if !all_zero(b.peek()) {
        return Err(MUST_BE_ZERO);
    }
    check_src(at.codec, src)?;
    check_dst(at.codec, dst)?;
    Ok(OfAction::RegMove { src, dst, onf })
}

/// Of OpenFlow 1.5, or ONF's extension of 1.3, which has two bytes more before the body.
pub(super) fn copy_field(at: At<'_>, mut b: Reader<'_>, onf: bool) -> Result<OfAction, OfError> {
    b.skip(if onf { 2 } else { 0 })?;
    let (bits, src, dst) = (b.u16()?, b.u16()?, b.u16()?);
    b.skip(2)?;
    two_fields(at, &mut b, bits, (src, dst), onf)
}

pub(super) fn reg_move(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (bits, src, dst) = (b.u16()?, b.u16()?, b.u16()?);
    two_fields(at, &mut b, bits, (src, dst), false)
}

pub(super) fn output_reg(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (ofs_nbits, header, max_len) = (b.u16()?, b.u32()?, b.u16()?);
    b.zeros(6, BAD_ARGUMENT)?;
    let src = packed(at.codec, header, ofs_nbits)?;
    check_src(at.codec, src)?;
    Ok(OfAction::OutputReg { src, max_len })
}

pub(super) fn output_reg2(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (ofs_nbits, max_len) = (b.u16()?, b.u16()?);
    let field = pull_field(at.codec, &mut b)?;
    if !all_zero(b.peek()) {
        return Err(MUST_BE_ZERO);
    }
    let src = Subfield { field, ofs: ofs_nbits >> 6, bits: (ofs_nbits & 0x3f) + 1 };
    check_src(at.codec, src)?;
    Ok(OfAction::OutputReg { src, max_len })
}

pub(super) fn stack(at: At<'_>, mut b: Reader<'_>) -> Result<Subfield, OfError> {
    let ofs = b.u16()?;
    let field = pull_field(at.codec, &mut b)?;
    let bits = b.u16()?;
    if all_zero(b.peek()) { Ok(Subfield { field, ofs, bits }) } else { Err(MUST_BE_ZERO) }
}

pub(super) fn check_pkt_larger(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (len, ofs) = (b.u16()?, b.u16()?);
    let field = pull_field(at.codec, &mut b)?;
    if !all_zero(b.peek()) {
        return Err(MUST_BE_ZERO);
    }
    let dst = Subfield { field, ofs, bits: 1 };
    check_dst(at.codec, dst)?;
    Ok(OfAction::CheckPktLarger { len, dst })
}

pub(super) fn delete_field(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    Ok(OfAction::DeleteField(pull_field(at.codec, &mut b)?))
}

fn hash_fields(number: u16) -> Result<HashFields, OfError> {
    use HashFields::{EthSrc, NwDst, NwSrc, SymmetricL3, SymmetricL3L4, SymmetricL3L4Udp, SymmetricL4};
    [EthSrc, SymmetricL4, SymmetricL3L4, SymmetricL3L4Udp, NwSrc, NwDst, SymmetricL3]
        .into_iter()
        .find(|f| *f as u16 == number)
        .ok_or(BAD_ARGUMENT)
}

pub(super) fn multipath(at: At<'_>, mut b: Reader<'_>) -> Result<OfAction, OfError> {
    let (fields, basis) = (b.u16()?, b.u16()?);
    b.skip(2)?;
    let (algorithm, max_link, arg) = (b.u16()?, b.u16()?, b.u32()?);
    b.skip(2)?;
    let ofs_nbits = b.u16()?;
    let dst = packed(at.codec, b.u32()?, ofs_nbits)?;
    let fields = hash_fields(fields)?;
    // As many bits as number the links.
    if algorithm > 3 || u32::from(dst.bits) < (u32::from(max_link) + 1).next_power_of_two().ilog2() {
        return Err(BAD_ARGUMENT);
    }
    check_dst(at.codec, dst)?;
    Ok(OfAction::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst })))
}

pub(super) fn bundle(at: At<'_>, mut b: Reader<'_>, load: bool) -> Result<OfAction, OfError> {
    let (algorithm, fields, basis) = (b.u16()?, b.u16()?, b.u16()?);
    let member_type = b.u32()?;
    let (n_members, ofs_nbits, header) = (b.u16()?, b.u16()?, b.u32()?);
    let zero = b.take(4)?;
    let in_port = oxm::header_u32(at.codec, Field::InPort);
    let dst = if load { Some(packed(at.codec, header, ofs_nbits)?) } else { None };
    // Members that are not there outweigh, as in OVS, what else is wrong.
    let mut list = b.sub(2 * usize::from(n_members))?;
    let fits = dst.map_or(ofs_nbits == 0 && header == 0, |dst| dst.bits >= 16);
    if !fits || !all_zero(zero) {
        return Err(BAD_ARGUMENT);
    }
    let fields = hash_fields(fields)?;
    if n_members > BUNDLE_MEMBERS_MAX || algorithm > 1 || member_type != in_port {
        return Err(BAD_ARGUMENT);
    }
    let mut members = Vec::with_capacity(usize::from(n_members));
    while !list.is_empty() {
        members.push(OfPort::from_wire16(list.u16()?));
    }
    let bundle = Bundle { fields, basis, algorithm, members, dst };
    if let Some(dst) = bundle.dst {
        check_dst(at.codec, dst)?;
    }
    check_bundle_ports(&bundle, OfPort::REAL_MAX)?;
    Ok(OfAction::Bundle(Box::new(bundle)))
}

/// Whether the members may be output to; "none" may stand among them, the controller may not.
pub(crate) fn check_bundle_ports(bundle: &Bundle, max_ports: u32) -> Result<(), OfError> {
    for member in bundle.members.iter().filter(|m| **m != OfPort::ANY) {
        check_output_port(*member, max_ports)?;
        if *member == OfPort::CONTROLLER {
            return Err(OfError::OfpbacBadOutPort);
        }
    }
    Ok(())
}

// Encoding.

/// Sets a whole field, as OpenFlow 1.2+ says it.
pub(super) fn put_whole(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, field: Field, value: u128) {
    put_set_field(out, codec, version, field, &Value::from(value), None);
}

/// OFPAT_SET_FIELD.
pub(super) fn put_set_field(
    out: &mut Vec<u8>,
    codec: &Codec<'_>,
    version: Version,
    field: Field,
    value: &Value,
    mask: Option<&Value>,
) {
    let raw = if version >= Version::V15 { Raw::SetField15 } else { Raw::SetField12 };
    let Some(start) = begin(out, version, raw) else { return };
    oxm::put_entry(out, codec, field, Some(version), value, mask);
    end(out, start);
}

/// NXAST_REG_LOAD of up to 64 bits.
pub(super) fn put_load(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, dst: Subfield, value: u64) {
    let Some(start) = begin(out, version, Raw::RegLoad) else { return };
    out.u16(pack(dst));
    out.u32(oxm::header_u32(codec, dst.field));
    out.u64(value);
    end(out, start);
}

/// A set-field by Nicira's loads: NXAST_REG_LOAD2 for what REG_LOAD cannot name, else one REG_LOAD per run of mask bits.
pub(super) fn put_nicira_set(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, set: (Field, &Value, &Value), load2: bool) {
    let (field, value, mask) = set;
    if load2 || oxm::header_u32(codec, field) == 0 || field.tun_metadata_number().is_some() {
        let Some(start) = begin(out, version, Raw::RegLoad2) else { return };
        let mask = (*mask != codec.all_ones(field)).then_some(mask);
        oxm::put_entry(out, codec, field, None, value, mask);
        end(out, start);
        return;
    }
    let width = usize::from(field.row().bits).min(128);
    // A whole field is written whole, even where the key keeps less of it (arp_op).
    let mask = if *mask == codec.all_ones(field) { Value::ones(width) } else { mask.clone() };
    let (value, mask) = (value.low(), mask.low());
    let mut ofs = 0;
    while ofs < width {
        let rest = mask >> ofs;
        if rest & 1 == 0 {
            ofs += 1;
            continue;
        }
        let run = (rest.trailing_ones() as usize).min(64).min(width - ofs);
        let ones = u64::MAX >> (64 - run);
        #[allow(clippy::cast_possible_truncation, reason = "the low 64 bits are meant; offset and run are below 128")]
        put_load(out, codec, version, Subfield { field, ofs: ofs as u16, bits: run as u16 }, (value >> ofs) as u64 & ones);
        ofs += run;
    }
}

/// A set-field in the form that the version has, with `has_vlan` from the flow that the action stands in.
pub(super) fn put_set(
    out: &mut Vec<u8>,
    codec: &Codec<'_>,
    version: Version,
    set: (Field, &FieldValue, &FieldValue, SetForm),
    has_vlan: bool,
) {
    let (field, value, mask, form) = set;
    let whole = *mask == codec.all_ones(field);
    let plain = form == SetForm::SetField && whole;
    if version >= Version::V15 || (plain && version >= Version::V12) {
        put_set_field(out, codec, version, field, value, (!whole).then_some(mask));
    } else if !plain || version >= Version::V12 || !put_legacy(out, codec, version, (field, value), has_vlan) {
        put_nicira_set(out, codec, version, (field, value, mask), form == SetForm::Load2);
    }
}

/// A whole field set by the actions that OpenFlow 1.0 and 1.1 have for it; false if they have none.
#[allow(clippy::wildcard_enum_match_arm, reason = "few fields had actions of their own")]
fn put_legacy(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, set: (Field, &Value), has_vlan: bool) -> bool {
    let (field, value) = set;
    let low = value.low();
    let v10 = version == Version::V10;
    let bytes = |n: usize| low.to_be_bytes()[16 - n..].to_vec();
    let vid = low & 0xfff;
    let mut put = |raw: Raw, body: &[u8]| {
        if let Some(start) = begin(out, version, raw) {
            out.bytes(body);
            end(out, start);
        }
    };
    let (set_vid, set_pcp, pop) = if v10 {
        (Raw::SetVlanVid10, Raw::SetVlanPcp10, Raw::StripVlan10)
    } else {
        (Raw::SetVlanVid11, Raw::SetVlanPcp11, Raw::PopVlan11)
    };
    let vid_bytes = vid.to_be_bytes();
    match field {
        Field::VlanTci if low & VID_PRESENT == 0 => put(pop, &[]),
        Field::VlanTci => {
            if !v10 && !has_vlan {
                put(Raw::PushVlan11, &[0x81, 0]);
            }
            put(set_vid, &vid_bytes[14..]);
            put(set_pcp, &[(low >> 13).to_be_bytes()[15]]);
        }
        Field::VlanVid => put(set_vid, &vid_bytes[14..]),
        Field::VlanPcp => put(set_pcp, &bytes(1)),
        Field::EthSrc => put(Raw::SetDlSrc, &bytes(6)),
        Field::EthDst => put(Raw::SetDlDst, &bytes(6)),
        Field::IpSrc => put(Raw::SetNwSrc, &bytes(4)),
        Field::IpDst => put(Raw::SetNwDst, &bytes(4)),
        Field::NwTos => put(Raw::SetNwTos, &bytes(1)),
        Field::IpDscp => put(Raw::SetNwTos, &[(low << 2).to_be_bytes()[15]]),
        Field::NwEcn if !v10 => put(Raw::SetNwEcn, &bytes(1)),
        Field::TcpSrc | Field::UdpSrc => put(Raw::SetTpSrc, &bytes(2)),
        Field::TcpDst | Field::UdpDst => put(Raw::SetTpDst, &bytes(2)),
        Field::NwEcn => put_load(out, codec, version, Subfield { field: Field::NwEcn, ofs: 0, bits: 2 }, u64::from(bytes(1)[0])),
        _ => return false,
    }
    true
}

pub(super) fn put_move(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, (src, dst): (Subfield, Subfield), onf: bool) {
    let raw = if version >= Version::V15 {
        Raw::CopyField15
    } else if onf && version == Version::V13 {
        Raw::CopyField13
    } else {
        Raw::RegMove
    };
    let copy = raw != Raw::RegMove;
    let Some(start) = begin(out, version, raw) else { return };
    out.zeros(if raw == Raw::CopyField13 { 2 } else { 0 });
    out.u16(dst.bits);
    out.u16(src.ofs);
    out.u16(dst.ofs);
    out.zeros(if copy { 2 } else { 0 });
    let form = copy.then_some(version);
    oxm::put_header(out, src.field, form, false, codec.bytes_of(src.field));
    oxm::put_header(out, dst.field, form, false, codec.bytes_of(dst.field));
    end(out, start);
}

pub(super) fn put_output_reg(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, src: Subfield, max_len: u16) {
    let header = oxm::header_u32(codec, src.field);
    let raw = if header == 0 { Raw::OutputReg2 } else { Raw::OutputReg };
    let Some(start) = begin(out, version, raw) else { return };
    out.u16(pack(src));
    if header == 0 {
        out.u16(max_len);
        oxm::put_header(out, src.field, None, false, codec.bytes_of(src.field));
    } else {
        out.u32(header);
        out.u16(max_len);
    }
    end(out, start);
}

/// NXAST_STACK_PUSH and _POP, CHECK_PKT_LARGER, DELETE_FIELD: `head`, the field, `tail`.
pub(super) fn put_named(out: &mut Vec<u8>, codec: &Codec<'_>, at: (Version, Raw), head: &[u16], field: Field, tail: &[u16]) {
    let Some(start) = begin(out, at.0, at.1) else { return };
    head.iter().for_each(|n| out.u16(*n));
    oxm::put_header(out, field, None, false, codec.bytes_of(field));
    tail.iter().for_each(|n| out.u16(*n));
    end(out, start);
}

pub(super) fn put_multipath(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, m: &Multipath) {
    let Some(start) = begin(out, version, Raw::Multipath) else { return };
    out.u16(m.fields as u16);
    out.u16(m.basis);
    out.zeros(2);
    out.u16(m.algorithm);
    out.u16(m.max_link);
    out.u32(m.arg);
    out.zeros(2);
    out.u16(pack(m.dst));
    out.u32(oxm::header_u32(codec, m.dst.field));
    end(out, start);
}

pub(super) fn put_bundle(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, b: &Bundle) {
    let raw = if b.dst.is_some() { Raw::BundleLoad } else { Raw::Bundle };
    let Some(start) = begin(out, version, raw) else { return };
    out.u16(b.algorithm);
    out.u16(b.fields as u16);
    out.u16(b.basis);
    out.u32(oxm::header_u32(codec, Field::InPort));
    out.u16(crate::wire::bytes::len16(b.members.len()));
    out.u16(b.dst.map_or(0, pack));
    out.u32(b.dst.map_or(0, |d| oxm::header_u32(codec, d.field)));
    out.zeros(4);
    b.members.iter().for_each(|m| out.u16(m.to_wire16()));
    end(out, start);
}
