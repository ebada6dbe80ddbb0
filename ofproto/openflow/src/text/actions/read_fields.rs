//! Reads actions on fields: set_field, load, move, push, pop, check_pkt_larger.

use super::read::Reading;
use crate::action::{OfAction, SetForm, Subfield};
use crate::text::number;
use crate::text::{Names, Protocols, TextError};
use flow::Value;
use flow::fields::{Class, Field};
use flow::oftext::{self, format_value, parse_value};

/// A field or a part of one, and nothing behind it.
pub(super) fn subfield(text: &str) -> Result<Subfield, TextError> {
    match oftext::Subfield::parse(text)? {
        (part, "") => Ok(part.into()),
        _ => Err(TextError::AfterField),
    }
}

/// A field by its name, as `set_field` takes it: not by a code point's.
pub(super) fn by_name(name: &str) -> Option<Field> {
    Field::by_name(name).filter(|f| f.row().name == name || f.row().alias == Some(name))
}

/// A whole field, by any name.
pub(super) fn named(text: &str) -> Result<Field, TextError> {
    let part = oftext::Subfield::parse(text)?;
    match part {
        (part, "") => Ok(part.field),
        _ => Err(TextError::AfterField),
    }
}

/// Whether the field has a header of 32 bits, which most of Nicira's actions can hold.
pub(super) fn has_short_header(field: Field) -> bool {
    field.row().codes.first().is_some_and(|c| c.class != Class::EXPERIMENTER)
}

/// Cuts `value->field`.
fn split_arrow(text: &str) -> Result<(&str, &str), TextError> {
    match text.split_once("->") {
        None => Err(TextError::NoArrow(text.to_owned())),
        Some((_, "")) => Err(TextError::NoDestination(text.to_owned())),
        Some(parts) => Ok(parts),
    }
}

pub(super) fn set_field(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let (shown, name) = split_arrow(text)?;
    let field = by_name(name).ok_or_else(|| TextError::FieldName(name.to_owned()))?;
    if !field.row().writable {
        return Err(TextError::ReadOnly(name.to_owned()));
    }
    let (value, mask) = parse_value(field, shown, r.names.ports)?;
    if field.check(&value).is_err() {
        return Err(TextError::FieldValue { value: shown.to_owned(), field: name.to_owned() });
    }
    r.protocols.narrow(Protocols::setting(field));
    let mask = mask.and(&field.whole());
    Ok(OfAction::SetField { field, value: value.and(&mask), mask, form: SetForm::SetField })
}

pub(super) fn load(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let (shown, name) = split_arrow(text)?;
    let dst = subfield(name)?;
    let bytes = usize::from(dst.field.row().bytes);
    let (value, _) = number::long(shown, bytes).ok_or_else(|| TextError::Integer(text.to_owned()))?;
    check_width(text, &value, dst)?;
    let ones = Value::ones(dst.bits.into());
    let ofs = usize::from(dst.ofs);
    let (value, mask) = (value.shifted_left(ofs), ones.shifted_left(ofs));
    Ok(OfAction::SetField { field: dst.field, value, mask, form: SetForm::Load })
}

/// Refuses a value that has more bits than the part it goes to.
pub(super) fn check_width(text: &str, value: &Value, dst: Subfield) -> Result<(), TextError> {
    if value.bit_len() <= usize::from(dst.bits) {
        return Ok(());
    }
    let value = format_value(dst.field, value, None, Names::default().ports);
    Err(TextError::NotFitting { text: text.to_owned(), value, bits: dst.bits })
}

pub(super) fn reg_move(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let (src, dst) = move_parts(text)?;
    Ok(OfAction::RegMove { src, dst, onf: false })
}

/// `source->destination`, of the same width.
pub(super) fn move_parts(text: &str) -> Result<(Subfield, Subfield), TextError> {
    let (src, rest) = oftext::Subfield::parse(text)?;
    let name = rest.strip_prefix("->").ok_or_else(|| TextError::NoArrowAfterSource(text.to_owned()))?;
    let dst = subfield(name)?;
    if src.bits != dst.bits {
        return Err(TextError::Widths { text: text.to_owned(), from: src.bits, to: dst.bits });
    }
    Ok((src.into(), dst))
}

pub(super) fn stack(text: &str) -> Result<Subfield, TextError> {
    match oftext::Subfield::parse(text)? {
        (part, "") => Ok(part.into()),
        (_, rest) => Err(TextError::StackGarbage(rest.to_owned())),
    }
}

pub(super) fn check_pkt_larger(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let (len, name) = split_arrow(text)?;
    let len = len.strip_suffix(')').unwrap_or(len);
    let dst = subfield(name)?;
    if dst.bits != 1 {
        return Err(TextError::OneBit);
    }
    Ok(OfAction::CheckPktLarger { len: number::u16(len, "(null)")?, dst })
}
