//! learn(...): a flow that is made of the packet that ran it, both ways (NXAST_LEARN, NXAST_LEARN2).

use super::decode::At;
use super::fields::{learn_field, pull_field};
use super::table::{Raw, begin, end};
use crate::action::{Learn, LearnDst, LearnSpec, LearnSrc, OfAction, Subfield};
use crate::error::OfError;
use crate::types::{TableId, Version};
use crate::wire::Codec;
use crate::wire::bytes::{Put, Reader, all_zero};
use crate::wire::matches::oxm;
use flow::fields::Value;

const BAD_ARGUMENT: OfError = OfError::OfpbacBadArgument;
/// Header of a step: number of bits, source, destination.
const BITS: u16 = 0x3ff;
const SRC_IMMEDIATE: u16 = 1 << 13;
const DST_SHIFT: u16 = 11;
const DST: u16 = 3 << DST_SHIFT;
const DST_MATCH: u16 = 0;
const DST_LOAD: u16 = 1 << DST_SHIFT;
const DST_OUTPUT: u16 = 2 << DST_SHIFT;
/// NX_LEARN_F_*
const SEND_FLOW_REM: u16 = 1;
const DELETE_LEARNED: u16 = 2;
const WRITE_RESULT: u16 = 4;

pub(super) fn decode(at: At<'_>, mut b: Reader<'_>, second: bool) -> Result<OfAction, OfError> {
    let mut learn = Learn {
        idle_timeout: b.u16()?,
        hard_timeout: b.u16()?,
        priority: b.u16()?,
        cookie: b.u64()?,
        flags: b.u16()?,
        table: TableId(b.u8()?),
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        limit: 0,
        result_dst: None,
        specs: Vec::new(),
        second,
    };
    let pad = b.u8()?;
    learn.fin_idle_timeout = b.u16()?;
    learn.fin_hard_timeout = b.u16()?;
    let mut result_ofs = 0;
    if second {
        learn.limit = b.u32()?;
        result_ofs = b.u16()?;
        if b.u16()? != 0 {
            return Err(OfError::NxbacMustBeZero);
        }
    }
    let allowed = SEND_FLOW_REM | DELETE_LEARNED | if second { WRITE_RESULT } else { 0 };
    if pad != 0 || learn.table == TableId::ALL || learn.flags & !allowed != 0 {
        return Err(BAD_ARGUMENT);
    }
    if learn.flags & WRITE_RESULT != 0 {
        let field = pull_field(at.codec, &mut b)?;
        if !field.row().writable {
            return Err(OfError::OfpbacBadSetArgument);
        }
        learn.result_dst = Some(Subfield { field, ofs: result_ofs, bits: 1 });
    } else if result_ofs != 0 {
        return Err(BAD_ARGUMENT);
    }
    learn.specs = specs(at.codec, &mut b)?;
    Ok(OfAction::Learn(Box::new(learn)))
}

fn specs(codec: &Codec<'_>, b: &mut Reader<'_>) -> Result<Vec<LearnSpec>, OfError> {
    let mut specs = Vec::new();
    while !b.is_empty() {
        let header = b.u16()?;
        if header == 0 {
            break;
        }
        specs.push(spec(codec, b, header)?);
    }
    if all_zero(b.peek()) { Ok(specs) } else { Err(BAD_ARGUMENT) }
}

fn spec(codec: &Codec<'_>, b: &mut Reader<'_>, header: u16) -> Result<LearnSpec, OfError> {
    let bits = header & BITS;
    let immediate = header & SRC_IMMEDIATE != 0;
    let dst = header & DST;
    if !matches!(dst, DST_MATCH | DST_LOAD) && (dst != DST_OUTPUT || immediate) {
        return Err(BAD_ARGUMENT);
    }
    let src = if immediate {
        LearnSrc::Immediate(Value::from_be_bytes(b.take(2 * usize::from(bits).div_ceil(16))?))
    } else {
        LearnSrc::Field(learn_field(codec, b, bits)?)
    };
    let dst = match dst {
        DST_MATCH => LearnDst::Match(learn_field(codec, b, bits)?),
        DST_LOAD => LearnDst::Load(learn_field(codec, b, bits)?),
        _ => LearnDst::Output,
    };
    Ok(LearnSpec { src, dst, bits })
}

pub(super) fn encode(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, learn: &Learn) {
    let second = learn.second || learn.limit != 0 || learn.result_dst.is_some();
    let Some(start) = begin(out, version, if second { Raw::Learn2 } else { Raw::Learn }) else { return };
    out.u16(learn.idle_timeout);
    out.u16(learn.hard_timeout);
    out.u16(learn.priority);
    out.u64(learn.cookie);
    out.u16(learn.flags);
    out.u8(learn.table.0);
    out.u8(0);
    out.u16(learn.fin_idle_timeout);
    out.u16(learn.fin_hard_timeout);
    if second {
        out.u32(learn.limit);
        out.u16(learn.result_dst.map_or(0, |d| d.ofs));
        out.u16(0);
    }
    if let Some(dst) = learn.result_dst {
        oxm::put_header(out, dst.field, None, false, codec.bytes_of(dst.field));
    }
    for spec in &learn.specs {
        put_spec(out, codec, spec);
    }
    end(out, start);
}

fn put_spec(out: &mut Vec<u8>, codec: &Codec<'_>, spec: &LearnSpec) {
    let put_field = |out: &mut Vec<u8>, s: Subfield| {
        out.u32(oxm::header_u32(codec, s.field));
        out.u16(s.ofs);
    };
    let (dst, field) = match &spec.dst {
        LearnDst::Match(s) => (DST_MATCH, Some(*s)),
        LearnDst::Load(s) => (DST_LOAD, Some(*s)),
        LearnDst::Output => (DST_OUTPUT, None),
    };
    match &spec.src {
        LearnSrc::Field(s) => {
            out.u16(spec.bits & BITS | dst);
            put_field(out, *s);
        }
        LearnSrc::Immediate(value) => {
            out.u16(spec.bits & BITS | dst | SRC_IMMEDIATE);
            oxm::put_value(out, value, 2 * usize::from(spec.bits).div_ceil(16));
        }
    }
    if let Some(s) = field {
        put_field(out, s);
    }
}
