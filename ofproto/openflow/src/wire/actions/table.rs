//! The table of raw actions: each code point of each version, and the length it must have.
//!
//! A header enters, its row leaves, and the other way round. Reference: actions.md, section 1. Neighbours: `decode`, `encode`.
// tidy: long because it is a table.

use crate::error::OfError;
use crate::types::Version;
use crate::wire::bytes::{Put, Reader};
use crate::wire::formats::{NICIRA, ONF};

/// Where an action stands in some versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// 0, `NICIRA` or `ONF`
    vendor: u32,
    number: u16,
    from: Version,
    to: Version,
    /// Bytes with the header.
    len: u16,
    /// Whether more bytes may follow.
    more: bool,
}

macro_rules! actions {
    ($( $raw:ident: $( $vendor:ident $number:literal $from:ident..$to:ident, $len:literal $($more:ident)? )|+ ;)*) => {
        /// A raw action: one layout of one action.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(crate) enum Raw { $( $raw ),* }

        const ROWS: &[(Raw, At)] = &[ $( $( (Raw::$raw, At {
            vendor: actions!(@vendor $vendor), number: $number, from: Version::$from, to: Version::$to,
            len: $len, more: actions!(@more $($more)?),
        }) ),+ ),* ];
    };
    (@vendor Of) => { 0 }; (@vendor Nx) => { NICIRA }; (@vendor Onf) => { ONF };
    (@more) => { false }; (@more more) => { true };
}

actions! {
    Output10: Of 0 V10..V10, 8;
    Output11: Of 0 V11..V15, 16;
    SetVlanVid10: Of 1 V10..V10, 8;
    SetVlanPcp10: Of 2 V10..V10, 8;
    SetVlanVid11: Of 1 V11..V15, 8;
    SetVlanPcp11: Of 2 V11..V15, 8;
    PushVlan11: Of 17 V11..V15, 8;
    StripVlan10: Of 3 V10..V10, 8;
    PopVlan11: Of 18 V11..V15, 8;
    SetDlSrc: Of 4 V10..V10, 16 | Of 3 V11..V15, 16;
    SetDlDst: Of 5 V10..V10, 16 | Of 4 V11..V15, 16;
    SetNwSrc: Of 6 V10..V10, 8 | Of 5 V11..V15, 8;
    SetNwDst: Of 7 V10..V10, 8 | Of 6 V11..V15, 8;
    SetNwTos: Of 8 V10..V10, 8 | Of 7 V11..V15, 8;
    SetNwEcn: Of 8 V11..V15, 8;
    SetTpSrc: Of 9 V10..V15, 8;
    SetTpDst: Of 10 V10..V15, 8;
    Enqueue10: Of 11 V10..V10, 16;
    SetMplsLabel: Nx 30 V10..V10, 16 | Of 13 V11..V15, 8;
    SetMplsTc: Nx 31 V10..V10, 16 | Of 14 V11..V15, 8;
    SetMplsTtl: Nx 25 V10..V10, 16 | Of 15 V11..V15, 8;
    DecMplsTtl: Nx 26 V10..V10, 16 | Of 16 V11..V15, 8;
    PushMpls: Nx 23 V10..V10, 16 | Of 19 V11..V15, 8;
    PopMpls: Nx 24 V10..V10, 16 | Of 20 V11..V15, 8;
    CopyTtlOut: Of 11 V11..V15, 8;
    CopyTtlIn: Of 12 V11..V15, 8;
    PushPbb: Of 26 V13..V15, 8;
    PopPbb: Of 27 V13..V15, 8;
    SetQueue: Nx 4 V10..V10, 16 | Of 21 V11..V15, 8;
    Group: Nx 40 V10..V10, 16 | Of 22 V11..V15, 8;
    SetNwTtl: Of 23 V11..V15, 8;
    DecNwTtl: Nx 18 V10..V10, 16 | Of 24 V11..V15, 8;
    DecTtlCntIds: Nx 21 V10..V15, 16 more;
    SetField12: Of 25 V12..V14, 8 more;
    SetField15: Of 25 V15..V15, 8 more;
    RegLoad: Nx 7 V10..V14, 24;
    RegLoad2: Nx 33 V10..V14, 16 more;
    CopyField15: Of 28 V15..V15, 16 more;
    CopyField13: Onf 3200 V13..V14, 24 more;
    RegMove: Nx 6 V10..V14, 16 more;
    Meter15: Of 29 V15..V15, 8;
    Resubmit: Nx 1 V10..V15, 16;
    ResubmitTable: Nx 14 V10..V15, 16;
    ResubmitTableCt: Nx 44 V10..V15, 16;
    SetTunnel: Nx 2 V10..V15, 16;
    SetTunnel64: Nx 9 V10..V15, 24;
    PopQueue: Nx 5 V10..V15, 16;
    Note: Nx 8 V10..V15, 16 more;
    Multipath: Nx 10 V10..V15, 32;
    Bundle: Nx 12 V10..V15, 32 more;
    BundleLoad: Nx 13 V10..V15, 32 more;
    OutputReg: Nx 15 V10..V15, 24;
    OutputReg2: Nx 32 V10..V15, 24;
    Learn: Nx 16 V10..V15, 32 more;
    Learn2: Nx 45 V10..V15, 40 more;
    Exit: Nx 17 V10..V15, 16;
    FinTimeout: Nx 19 V10..V15, 16;
    Controller: Nx 20 V10..V15, 16;
    Controller2: Nx 37 V10..V15, 16 more;
    WriteMetadata: Nx 22 V10..V15, 32;
    StackPush: Nx 27 V10..V15, 24;
    StackPop: Nx 28 V10..V15, 24;
    Sample: Nx 29 V10..V15, 24;
    Sample2: Nx 38 V10..V15, 32;
    Sample3: Nx 41 V10..V15, 32;
    Sample4: Nx 51 V10..V15, 40;
    Conjunction: Nx 34 V10..V15, 16;
    Ct: Nx 35 V10..V15, 24 more;
    Nat: Nx 36 V10..V15, 16 more;
    OutputTrunc: Nx 39 V10..V15, 16;
    Clone: Nx 42 V10..V15, 16 more;
    CtClear: Nx 43 V10..V15, 16;
    Encap: Nx 46 V13..V15, 16 more;
    Decap: Nx 47 V13..V15, 16 more;
    DecNshTtl: Nx 48 V13..V15, 16;
    CheckPktLarger: Nx 49 V10..V15, 24;
    DeleteField: Nx 50 V10..V15, 24;
    DebugSlow: Nx 254 V10..V15, 16;
    DebugRecirc: Nx 255 V10..V15, 16;
}

/// `OFPAT_VENDOR`, `OFPAT_EXPERIMENTER`.
const VENDOR_TYPE: u16 = 0xffff;
/// Bytes of a vendor's action header up to the subtype.
const VENDOR_HEADER: usize = 10;

/// An action taken from a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) raw: Raw,
    vendor: bool,
    /// What follows the type and length, or the subtype.
    pub(crate) body: Reader<'a>,
}

impl Taken<'_> {
    /// The argument of an action that has only one, of 32 bits: aligned to its size.
    pub(crate) fn arg32(&mut self) -> Result<u32, OfError> {
        self.body.skip(if self.vendor { 2 } else { 0 })?;
        self.body.u32()
    }

    /// Likewise of 64 bits.
    pub(crate) fn arg64(&mut self) -> Result<u64, OfError> {
        self.body.skip(if self.vendor { 6 } else { 4 })?;
        self.body.u64()
    }
}

/// Standard codes by version, so that the common actions need no search.
const PLAIN: usize = 32;
static INDEX: [[u8; PLAIN]; 7] = {
    let mut index = [[u8::MAX; PLAIN]; 7];
    let mut row = 0;
    while row < ROWS.len() {
        let at = ROWS[row].1;
        if at.vendor == 0 {
            let mut v = at.from as usize;
            while v <= at.to as usize {
                assert!(index[v][at.number as usize] == u8::MAX, "two actions for one code");
                #[allow(clippy::cast_possible_truncation, reason = "asserted below")]
                {
                    index[v][at.number as usize] = row as u8;
                }
                v += 1;
            }
        }
        row += 1;
    }
    assert!(ROWS.len() < u8::MAX as usize);
    index
};

fn find(version: Version, vendor: u32, number: u16) -> Option<&'static (Raw, At)> {
    if vendor == 0 {
        let row = *INDEX[version as usize].get(usize::from(number))?;
        return ROWS.get(usize::from(row));
    }
    ROWS.iter().find(|(_, at)| at.vendor == vendor && at.number == number && at.from <= version && version <= at.to)
}

/// Takes the next action off a list.
///
/// # Errors
/// `OFPBAC_BAD_LEN`, `_BAD_TYPE`, `_BAD_VENDOR`, `_BAD_VENDOR_TYPE`.
pub(crate) fn take<'a>(list: &mut Reader<'a>, version: Version) -> Result<Taken<'a>, OfError> {
    let mut head = list.or(OfError::OfpbacBadLen);
    let number = head.u16()?;
    let len = usize::from(head.u16()?);
    let first = head.u32()?;
    let (vendor, number, header) = if number == VENDOR_TYPE {
        if first != NICIRA && first != ONF {
            return Err(OfError::OfpbacBadVendor);
        }
        if list.len() < 16 {
            return Err(OfError::OfpbacBadLen);
        }
        (first, head.u16()?, VENDOR_HEADER)
    } else {
        (0, number, 4)
    };
    let unknown = if vendor == 0 { OfError::OfpbacBadType } else { OfError::OfpbacBadVendorType };
    let (raw, at) = find(version, vendor, number).ok_or(unknown)?;
    let least = usize::from(at.len);
    if len < least || (len > least && !at.more) || !len.is_multiple_of(8) {
        return Err(OfError::OfpbacBadLen);
    }
    let mut body = list.or(OfError::OfpbacBadLen).sub(len)?;
    list.skip(len)?;
    body.skip(header)?;
    Ok(Taken { raw: *raw, vendor: vendor != 0, body })
}

/// Begins `raw` in `version`: writes its header with a length to be completed by `end`. `None`: the version does not have it.
pub(crate) fn begin(out: &mut Vec<u8>, version: Version, raw: Raw) -> Option<usize> {
    let (_, at) = ROWS.iter().find(|(r, at)| *r == raw && at.from <= version && version <= at.to)?;
    let start = out.len();
    if at.vendor == 0 {
        out.u16(at.number);
        out.u16(at.len);
    } else {
        out.u16(VENDOR_TYPE);
        out.u16(at.len);
        out.u32(at.vendor);
        out.u16(at.number);
    }
    Some(start)
}

/// Pads the action begun at `start` to its least length and to eight bytes, and completes its length.
pub(crate) fn end(out: &mut Vec<u8>, start: usize) {
    let least = usize::from(u16::from_be_bytes([out[start + 2], out[start + 3]]));
    let short = (start + least).saturating_sub(out.len());
    out.zeros(short);
    out.pad8(start);
    out.close_len(start + 2, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_taken_as_it_was_begun() {
        for (raw, at) in ROWS {
            for version in Version::ALL.into_iter().filter(|v| at.from <= *v && *v <= at.to) {
                let mut out = Vec::new();
                let start = begin(&mut out, version, *raw).unwrap();
                end(&mut out, start);
                assert_eq!(out.len(), usize::from(at.len));
                let taken = take(&mut Reader::new(&out, OfError::OfpbacBadLen), version).unwrap();
                assert_eq!(taken.raw, *raw);
            }
        }
    }

    #[test]
    fn there_are_75_raw_actions_of_ovs_and_four_of_openflow() {
        let mut raws: Vec<u8> = ROWS.iter().map(|(raw, _)| *raw as u8).collect();
        raws.dedup();
        assert_eq!(raws.len(), 75 + 4);
    }
}
