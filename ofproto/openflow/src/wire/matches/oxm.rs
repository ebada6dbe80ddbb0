//! NXM and OXM entries: header, value and mask of one field (OpenFlow 1.5, 7.2.3.2; Nicira's form is the same).
//!
//! Bytes enter, a field of the table with its value leaves, and back. Neighbours: `matches` makes matches of them, actions name
//! fields and set them by them.

use crate::error::OfError;
use crate::types::Version;
use crate::wire::Codec;
use crate::wire::bytes::{Put, Reader};
use crate::wire::matches::How;
use flow::fields::{Class, Field, Header, Value};

/// An entry's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) masked: bool,
    /// Bytes of value and mask together.
    pub(crate) payload: usize,
}

/// Who asks for a field decides what it is told of an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Match,
    /// An action that carries a value.
    Setter,
}

impl Entry {
    /// Bytes of the value.
    pub(crate) fn width(&self) -> usize {
        if self.masked { self.payload / 2 } else { self.payload }
    }

    /// Takes a header.
    ///
    /// # Errors
    /// `OFPBMC_BAD_LEN` for one cut short, or with a length that leaves no room for the experimenter's id.
    pub(crate) fn pull(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut head = r.or(OfError::OfpbmcBadLen);
        let class = head.u16()?;
        let [field, length] = head.array()?;
        let experimenter = if class == Class::EXPERIMENTER.0 { head.u32()? } else { 0 };
        let id = if class == Class::EXPERIMENTER.0 { 4 } else { 0 };
        let payload = usize::from(length).checked_sub(id).ok_or(OfError::OfpbmcBadLen)?;
        r.skip(4 + id)?;
        let header = Header { class: Class(class), experimenter, number: field >> 1 };
        Ok(Self { header, masked: field & 1 != 0, payload })
    }

    /// The entry's header out of the 32 bits in which old actions name fields.
    pub(crate) fn from_u32(word: u32) -> Self {
        let [c0, c1, field, length] = word.to_be_bytes();
        let header = Header { class: Class(u16::from_be_bytes([c0, c1])), experimenter: 0, number: field >> 1 };
        Self { header, masked: field & 1 != 0, payload: usize::from(length) }
    }

    /// The field, if the table has it with this length.
    pub(crate) fn field(&self) -> Option<Field> {
        let field = Field::by_header(self.header)?;
        let bytes = usize::from(field.row().bytes);
        let fits = if field.tun_metadata_number().is_some() { self.width() <= bytes } else { self.width() == bytes };
        fits.then_some(field)
    }

    /// Nicira's pseudo-field for the cookie in flow-mods and statistics requests, which shares its number with `mpls_ttl`.
    fn is_cookie(&self) -> bool {
        self.header == Header { class: Class::NXM_NX, experimenter: 0, number: 30 } && self.width() == 8
    }

    fn known(&self, codec: &Codec<'_>, asker: Asker) -> Result<Field, OfError> {
        match self.field() {
            Some(field) if codec.unmapped(field) => Err(OfError::NxfmfcInvalidTlvField),
            Some(field) => Ok(field),
            None => Err(match asker {
                Asker::Match => OfError::OfpbmcBadField,
                Asker::Setter if Field::by_header(self.header).is_some() && self.payload > 0 => OfError::OfpbacBadSetLen,
                Asker::Setter => OfError::OfpbacBadSetType,
            }),
        }
    }
}

/// What an entry in a match says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Field {
        field: Field,
        value: Value,
        mask: Option<Value>,
    },
    Cookie {
        value: u64,
        mask: u64,
    },
    /// A field that we do not know.
    Unknown,
}

/// Takes an entry with its value off a match.
///
/// # Errors
/// `OFPBMC_BAD_LEN`, `_BAD_WILDCARDS` (1-bits under a 0-mask), `_BAD_MASK`, `_BAD_VALUE`; `NXFMFC_INVALID_TLV_FIELD`.
pub(crate) fn pull_match_entry(r: &mut Reader<'_>, codec: &Codec<'_>, how: How) -> Result<Said, OfError> {
    let entry = Entry::pull(r)?;
    let field = entry.known(codec, Asker::Match);
    let cookie = field.is_err() && how.cookie && entry.is_cookie();
    // As in OVS, where unknown fields are passed over, so are tunnel options that are not mapped.
    if let Err(e) = field
        && e != OfError::OfpbmcBadField
        && how.strict
    {
        return Err(e);
    }
    let (value, mask) = payload(r, &entry)?;
    if cookie {
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
        return Ok(Said::Cookie { value: number(value), mask: mask.map_or(u64::MAX, number) });
    }
    let Ok(field) = field else { return Ok(Said::Unknown) };
    let value = codec.cut(field, value);
    let mask = mask.map(|m| codec.cut(field, m));
    if let Some(mask) = &mask
        && matches!(field.row().mask, flow::fields::MaskKind::Exact)
        && !mask.is_zero()
        && *mask != Value::ones(8 * usize::from(field.row().bytes))
    {
        return Err(OfError::OfpbmcBadMask);
    }
    if !valid(field, &value) {
        return Err(OfError::OfpbmcBadValue);
    }
    Ok(Said::Field { field, value, mask })
}

/// Takes an entry with its value off an action that sets it.
///
/// # Errors
/// `OFPBMC_BAD_LEN`, `_BAD_WILDCARDS`, `_BAD_MASK` (not allowed here); `OFPBAC_BAD_SET_TYPE`, `_BAD_SET_LEN`.
pub(crate) fn pull_setter(
    r: &mut Reader<'_>,
    codec: &Codec<'_>,
    may_mask: bool,
) -> Result<(Field, Value, Option<Value>), OfError> {
    let entry = Entry::pull(r)?;
    let field = entry.known(codec, Asker::Setter)?;
    let (value, mask) = payload(r, &entry)?;
    if mask.is_some() && !may_mask {
        return Err(OfError::OfpbmcBadMask);
    }
    Ok((field, codec.cut(field, value), mask.map(|m| codec.cut(field, m))))
}

fn payload<'a>(r: &mut Reader<'a>, entry: &Entry) -> Result<(&'a [u8], Option<&'a [u8]>), OfError> {
    let bytes = r.or(OfError::OfpbmcBadLen).take(entry.payload)?;
    r.skip(entry.payload)?;
    if !entry.masked {
        return Ok((bytes, None));
    }
    let (value, mask) = (&bytes[..entry.width()], &bytes[entry.width()..2 * entry.width()]);
    if value.iter().zip(mask).any(|(v, m)| v & !m != 0) {
        return Err(OfError::OfpbmcBadWildcards);
    }
    Ok((value, Some(mask)))
}

/// Takes a header that names a field without a value; answers whether it had the mask bit.
///
/// # Errors
/// `OFPBMC_BAD_LEN`, `_BAD_FIELD`, `NXFMFC_INVALID_TLV_FIELD`.
pub(crate) fn pull_name(r: &mut Reader<'_>, codec: &Codec<'_>) -> Result<(Field, bool), OfError> {
    let entry = Entry::pull(r)?;
    Ok((entry.known(codec, Asker::Match)?, entry.masked))
}

/// Whether OVS takes the value for the field.
pub(crate) fn valid(field: Field, value: &Value) -> bool {
    let narrower = match value.low() {
        low if field == Field::NshTtl => low <= 63,
        low if field == Field::NshMdtype => matches!(low, 1 | 2),
        _ => true,
    };
    narrower && field.check(value).is_ok()
}

/// The header of `field` for a peer of `version` (`None`: Nicira's own form), as the eight bytes that a header can have.
fn code(field: Field, version: Option<Version>) -> Option<&'static flow::fields::Code> {
    field.code(version.map_or(1, |v| v as u8))
}

/// Appends the header of `field`, of `bytes` bytes of value. Nothing is written for a field without a code point.
pub(crate) fn put_header(out: &mut Vec<u8>, field: Field, version: Option<Version>, masked: bool, bytes: usize) {
    let Some(code) = code(field, version) else { return };
    let experimenter = code.class == Class::EXPERIMENTER;
    let length = bytes * if masked { 2 } else { 1 } + if experimenter { 4 } else { 0 };
    out.u16(code.class.0);
    out.u8(code.number << 1 | u8::from(masked));
    out.u8(u8::try_from(length).unwrap_or(u8::MAX));
    if experimenter {
        out.u32(code.experimenter);
    }
}

/// The 32-bit header by which old actions name a field; 0 when it has none.
pub(crate) fn header_u32(codec: &Codec<'_>, field: Field) -> u32 {
    match code(field, None) {
        Some(code) if code.class != Class::EXPERIMENTER => {
            let length = u8::try_from(codec.bytes_of(field)).unwrap_or(u8::MAX);
            u32::from(code.class.0) << 16 | u32::from(code.number) << 9 | u32::from(length)
        }
        _ => 0,
    }
}

/// Appends the last `bytes` bytes of `value`.
pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value, bytes: usize) {
    if bytes <= 16 {
        out.bytes(&value.low().to_be_bytes()[16 - bytes..]);
    } else {
        let all = value.to_be_bytes();
        out.bytes(&all[all.len() - bytes..]);
    }
}

/// Appends a field with its value and, when it is not exact, its mask.
pub(crate) fn put_entry(
    out: &mut Vec<u8>,
    codec: &Codec<'_>,
    field: Field,
    version: Option<Version>,
    value: &Value,
    mask: Option<&Value>,
) {
    let mut bytes = codec.bytes_of(field);
    if field.tun_metadata_number().is_some() && codec.options.is_none() {
        // Without a mapping an option is as long as its value (and at least one byte, as OVS writes it).
        let long = value.bit_len().max(mask.filter(|m| !exact(m, bytes)).map_or(0, Value::bit_len));
        bytes = long.div_ceil(8).max(1);
    }
    put_sized(out, field, version, (value, mask), bytes);
}

/// Likewise with `bytes` of value.
pub(crate) fn put_sized(out: &mut Vec<u8>, field: Field, version: Option<Version>, said: (&Value, Option<&Value>), bytes: usize) {
    put_header(out, field, version, said.1.is_some(), bytes);
    put_value(out, said.0, bytes);
    if let Some(mask) = said.1 {
        put_value(out, mask, bytes);
    }
}

/// Takes an entry of a field array: a field with the bits of it that count.
///
/// # Errors
/// As `pull_match_entry`, and `OFPBMC_BAD_FIELD`; `_BAD_MASK` for one with a mask.
pub(crate) fn pull_bits(r: &mut Reader<'_>, codec: &Codec<'_>) -> Result<(Field, Value), OfError> {
    let entry = Entry::pull(r)?;
    let field = entry.known(codec, Asker::Match);
    match payload(r, &entry)? {
        (bits, None) => field.map(|f| (f, codec.cut(f, bits))),
        (_, Some(_)) => Err(OfError::OfpbmcBadMask),
    }
}

fn exact(mask: &Value, bytes: usize) -> bool {
    *mask == Value::ones(8 * bytes)
}
