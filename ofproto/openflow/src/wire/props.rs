//! Properties: the (type, length, value) lists of OpenFlow 1.4+ and of Nicira's extensions, padded to eight bytes.

use super::bytes::{Put, Reader, len16, round8};
use crate::error::OfError;

/// One property as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Property<'a> {
    /// The type; for experimenters `experimenter << 32 | exp_type`.
    pub(crate) kind: u64,
    /// With its header, without padding.
    whole: &'a [u8],
    header: usize,
}

/// The kind of an experimenter's property.
pub(crate) const fn experimenter(vendor: u32, exp_type: u32) -> u64 {
    (vendor as u64) << 32 | exp_type as u64
}

impl<'a> Property<'a> {
    /// Takes the next property.
    pub(crate) fn pull(r: &mut Reader<'a>) -> Result<Self, OfError> {
        Self::pull_as(r, 8, 0xffff)
    }

    /// Takes the next property where types from `experimenters` on are experimenters' and entries align to `align`.
    pub(crate) fn pull_as(r: &mut Reader<'a>, align: usize, experimenters: u16) -> Result<Self, OfError> {
        let bad = OfError::OfpbpcBadLen;
        let mut head = Reader::new(r.peek(), bad);
        let wire_kind = head.u16()?;
        let len = usize::from(head.u16()?);
        let padded = len.next_multiple_of(align);
        if len < 4 || padded > r.len() {
            return Err(bad);
        }
        let (kind, header) = if wire_kind < experimenters {
            (u64::from(wire_kind), 4)
        } else {
            let mut ids = Reader::new(&r.peek()[4..len], bad);
            let vendor = ids.u32()?;
            let exp_type = ids.u32()?;
            if vendor == 0 {
                return Err(OfError::OfpbpcBadExperimenter);
            }
            (experimenter(vendor, exp_type), 12)
        };
        let whole = &r.take(padded)?[..len];
        Ok(Self { kind, whole, header })
    }

    /// What follows the header.
    pub(crate) fn value(&self) -> &'a [u8] {
        &self.whole[self.header..]
    }

    /// What follows the header, behind its padding to eight bytes.
    pub(crate) fn nested(&self) -> Result<Reader<'a>, OfError> {
        let body = self.whole.get(round8(self.header)..).ok_or(OfError::OfpbpcBadLen)?;
        Ok(Reader::new(body, OfError::OfpbpcBadLen))
    }

    pub(crate) fn u8(&self) -> Result<u8, OfError> {
        Reader::new(self.value(), OfError::OfpbpcBadLen).u8()
    }

    pub(crate) fn u16(&self) -> Result<u16, OfError> {
        Reader::new(self.value(), OfError::OfpbpcBadLen).u16()
    }

    pub(crate) fn u32(&self) -> Result<u32, OfError> {
        self.exact().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&self) -> Result<u64, OfError> {
        let body = self.whole.get(round8(self.header)..).ok_or(OfError::OfpbpcBadLen)?;
        body.try_into().map(u64::from_be_bytes).map_err(|_| OfError::OfpbpcBadLen)
    }

    /// The value when it is exactly `N` bytes long.
    pub(crate) fn exact<const N: usize>(&self) -> Result<[u8; N], OfError> {
        self.value().try_into().map_err(|_| OfError::OfpbpcBadLen)
    }

    /// A reader over the value that must be `n` bytes long.
    pub(crate) fn sized(&self, n: usize) -> Result<Reader<'a>, OfError> {
        if self.value().len() == n { Ok(Reader::new(self.value(), OfError::OfpbpcBadLen)) } else { Err(OfError::OfpbpcBadLen) }
    }

    /// The answer to a property that the room does not know.
    pub(crate) fn unknown(&self, loose: bool) -> Result<(), OfError> {
        if loose {
            Ok(())
        } else if self.kind > 0xffff {
            Err(OfError::OfpbpcBadExpType)
        } else {
            Err(OfError::OfpbpcBadType)
        }
    }
}

/// Starts a property; `end` closes it.
pub(crate) fn start(out: &mut Vec<u8>, kind: u64) -> usize {
    let at = out.len();
    #[allow(clippy::cast_possible_truncation, reason = "a standard type has 16 bits; an experimenter's halves have 32")]
    if kind <= 0xffff {
        out.u16(kind as u16);
        out.u16(0);
    } else {
        out.u16(0xffff);
        out.u16(0);
        out.u32((kind >> 32) as u32);
        out.u32(kind as u32);
    }
    at
}

/// Starts a property whose value begins on an eight-byte boundary of the property.
pub(crate) fn start_nested(out: &mut Vec<u8>, kind: u64) -> usize {
    let at = start(out, kind);
    out.pad8(at);
    at
}

/// Writes the length of the property begun at `at`, and pads.
pub(crate) fn end(out: &mut Vec<u8>, at: usize) {
    let len = len16(out.len() - at);
    out.set_u16(at + 2, len);
    out.pad8(at);
}

pub(crate) fn put(out: &mut Vec<u8>, kind: u64, value: &[u8]) {
    let at = start(out, kind);
    out.bytes(value);
    end(out, at);
}

pub(crate) fn put_u8(out: &mut Vec<u8>, kind: u64, v: u8) {
    put(out, kind, &[v]);
}

/// A standard property of 16 bits carries two bytes of padding inside its length.
pub(crate) fn put_u16(out: &mut Vec<u8>, kind: u64, v: u16) {
    let [a, b] = v.to_be_bytes();
    if kind <= 0xffff { put(out, kind, &[a, b, 0, 0]) } else { put(out, kind, &[a, b]) }
}

pub(crate) fn put_u32(out: &mut Vec<u8>, kind: u64, v: u32) {
    put(out, kind, &v.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, kind: u64, v: u64) {
    let at = start(out, kind);
    out.zeros(4);
    out.u64(v);
    end(out, at);
}

pub(crate) fn put_flag(out: &mut Vec<u8>, kind: u64) {
    put(out, kind, &[]);
}
