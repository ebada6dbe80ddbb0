//! Reads `learn`.

use super::flags;
use super::read::Reading;
use super::read_fields::{check_width, has_short_header, move_parts, subfield};
use crate::action::{Learn, LearnDst, LearnSpec, LearnSrc, OfAction, Subfield};
use crate::text::TextError;
use crate::text::number;
use crate::types::{DEFAULT_PRIORITY, TableId};
use flow::Value;
use flow::oftext::{self, KeyValues, parse_value};

pub(super) fn learn(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut l = Learn {
        idle_timeout: 0,
        hard_timeout: 0,
        priority: DEFAULT_PRIORITY,
        table: TableId(1),
        cookie: 0,
        flags: 0,
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        limit: 0,
        result_dst: None,
        specs: Vec::new(),
        second: false,
    };
    for (key, value) in KeyValues::new(text) {
        match key {
            "table" => {
                l.table = r.names.parse_table(value).ok_or_else(|| TextError::Table(value.to_owned()))?;
                if l.table == TableId::ALL {
                    return Err(TextError::LearnTable(text.to_owned()));
                }
            }
            "priority" => l.priority = number::atoi16(value),
            "idle_timeout" => l.idle_timeout = number::atoi16(value),
            "hard_timeout" => l.hard_timeout = number::atoi16(value),
            "fin_idle_timeout" => l.fin_idle_timeout = number::atoi16(value),
            "fin_hard_timeout" => l.fin_hard_timeout = number::atoi16(value),
            "cookie" => l.cookie = number::c_integer(value).map_or(0, |(v, _)| v),
            "send_flow_rem" => l.flags |= flags::LEARN_SEND_FLOW_REM,
            "delete_learned" => l.flags |= flags::LEARN_DELETE_LEARNED,
            "limit" => l.limit = number::atoi32(value),
            "result_dst" => {
                l.flags |= flags::LEARN_WRITE_RESULT;
                l.result_dst = Some(result_dst(value)?);
            }
            _ => l.specs.push(spec(r, text, key, value)?),
        }
    }
    l.second = l.limit != 0 || l.result_dst.is_some();
    Ok(OfAction::Learn(Box::new(l)))
}

fn result_dst(text: &str) -> Result<Subfield, TextError> {
    let dst = subfield(text)?;
    if !dst.field.row().writable {
        return Err(TextError::ReadOnly(text.to_owned()));
    }
    if dst.bits == 1 { Ok(dst) } else { Err(TextError::LearnResult) }
}

fn spec(r: &Reading<'_>, text: &str, name: &str, value: &str) -> Result<LearnSpec, TextError> {
    if let Ok(dst) = subfield(name) {
        let short = has_short_header(dst.field);
        let experimenter = || TextError::ExperimenterField { text: text.to_owned(), field: name.to_owned() };
        short.then_some(()).ok_or_else(experimenter)?;
        return match_spec(r, text, (name, dst), value);
    }
    match name {
        "load" => load_spec(value),
        "output" => {
            let src = subfield(value)?;
            Ok(LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Output, bits: src.bits })
        }
        _ => Err(TextError::LearnKeyword { text: text.to_owned(), name: name.to_owned() }),
    }
}

/// `FIELD`, `FIELD=SOURCE` or `FIELD=VALUE`.
fn match_spec(r: &Reading<'_>, text: &str, named: (&str, Subfield), value: &str) -> Result<LearnSpec, TextError> {
    let (name, dst) = named;
    let src = if value.is_empty() { Ok(dst) } else { subfield(value) };
    let src = match src {
        Ok(src) if src.bits != dst.bits => {
            let (name, other) = (name.to_owned(), value.to_owned());
            // OVS gives the widths the other way round.
            let (bits, other_bits) = (src.bits, dst.bits);
            return Err(TextError::LearnWidths { text: text.to_owned(), name, bits, other, other_bits });
        }
        Ok(src) => LearnSrc::Field(src),
        Err(not_field) => LearnSrc::Immediate(immediate(r, text, dst, value).map_err(|not_value| TextError::LearnValue {
            text: text.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            subfield: Box::new(not_field),
            immediate: Box::new(not_value),
        })?),
    };
    Ok(LearnSpec { src, dst: LearnDst::Match(dst), bits: dst.bits })
}

fn immediate(r: &Reading<'_>, text: &str, dst: Subfield, value: &str) -> Result<Value, TextError> {
    if oftext::Subfield::whole(dst.field) == dst.into() {
        let (number, mask) = parse_value(dst.field, value, r.names.ports)?;
        let whole = dst.field.whole();
        return if mask.and(&whole) == whole { Ok(number) } else { Err(TextError::Wildcards(value.to_owned())) };
    }
    let number = number::long(value, dst.field.row().bytes.into()).filter(|(_, rest)| rest.is_empty());
    let (number, _) = number.ok_or_else(|| TextError::Integer(text.to_owned()))?;
    check_width(text, &number, dst)?;
    Ok(number)
}

/// `VALUE->FIELD` or `SOURCE->FIELD`.
fn load_spec(value: &str) -> Result<LearnSpec, TextError> {
    let Some(arrow) = value.find("->") else { return Err(TextError::LearnNoArrow(value.to_owned())) };
    if arrow == 0 {
        return Err(TextError::LearnNoSource(value.to_owned()));
    }
    let Some((number, rest)) = number::long(value, flow::fields::VALUE_BYTES_MAX) else {
        let (src, dst) = move_parts(value)?;
        return Ok(LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Load(dst), bits: src.bits });
    };
    let Some(name) = rest.strip_prefix("->") else { return Err(TextError::LearnGarbage(value.to_owned())) };
    let dst = subfield(name)?;
    if !has_short_header(dst.field) {
        return Err(TextError::ExperimenterField { text: value.to_owned(), field: name.to_owned() });
    }
    if number.bit_len() > usize::from(dst.bits) {
        return Err(TextError::LearnNotFitting { text: value.to_owned(), bits: dst.bits });
    }
    Ok(LearnSpec { src: LearnSrc::Immediate(number), dst: LearnDst::Load(dst), bits: dst.bits })
}
