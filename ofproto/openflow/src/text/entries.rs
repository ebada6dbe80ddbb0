//! Lists of NXM and OXM entries as text: `NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(c0a80000/ffff0000)`, value and mask in hexadecimal.
//!
//! What enters: such text, or the wire's bytes. What leaves: the other of the two. A field is named by its code point, with `_W` behind it
//! where a mask follows, or by its header in hexadecimal, which also names what nobody knows. Neighbours: `wire::parts` makes matches of
//! the bytes.

use super::error::TextError;
use crate::error::OfError;
use crate::wire::bytes::{Put, Reader};
use crate::wire::matches::oxm::Entry;
use flow::fields::{Class, Field, Header};
use std::fmt::Write;

/// The list without entries.
const ANY: &str = "<any>";
/// Nicira's pseudo-field in flow-mods, which no row of the field table has.
const COOKIE: (Header, &str, usize) = (Header { class: Class::NXM_NX, experimenter: 0, number: 30 }, "NXM_NX_COOKIE", 8);
/// Where a header has its length.
const LENGTH_AT: usize = 3;
/// Digits of a header, and of one with an experimenter's id.
const HEADER_DIGITS: [usize; 2] = [8, 16];

/// Reads a list; entries stand apart by commas and spaces.
///
/// # Errors
/// As OVS words them.
pub fn parse_entries(text: &str) -> Result<Vec<u8>, TextError> {
    let mut out = Vec::new();
    let between = |c: char| matches!(c, ',' | ' ');
    let mut rest = if text == ANY { "" } else { text.trim_start_matches(between) };
    while !rest.is_empty() {
        rest = entry(text, rest, &mut out)?.trim_start_matches(between);
    }
    Ok(out)
}

/// Takes one entry off `rest` and appends it; `whole` stands in errors.
fn entry<'a>(whole: &str, rest: &'a str, out: &mut Vec<u8>) -> Result<&'a str, TextError> {
    let text = || whole.to_owned();
    let (name, rest) = rest.split_once('(').ok_or_else(|| TextError::EntryBracket(text()))?;
    let named = named(name).ok_or_else(|| TextError::EntryUnknown { text: text(), name: name.to_owned() })?;
    let (value, rest) = hex(rest);
    let (got, most) = (value.len(), named.width);
    if if named.varies { got == 0 || got > most } else { got != most } {
        return Err(TextError::EntryShort { wanted: most, got });
    }
    let mut header = named.header;
    if named.varies {
        header[LENGTH_AT] = u8::try_from(got * if named.masked { 2 } else { 1 }).unwrap_or(u8::MAX);
    }
    out.extend(header);
    out.extend(value);
    let mut rest = rest.trim_start();
    if named.masked {
        rest = rest.strip_prefix('/').ok_or_else(|| TextError::EntryMask { text: text(), name: name.to_owned() })?;
        let (mask, behind) = hex(rest);
        if mask.len() != got {
            return Err(TextError::EntryDigits(behind.to_owned()));
        }
        out.extend(mask);
        rest = behind.trim_start();
    }
    rest.strip_prefix(')').ok_or_else(|| TextError::EntryEnd { text: text(), name: name.to_owned() })
}

/// Pairs of digits off the front.
fn hex(text: &str) -> (Vec<u8>, &str) {
    let (mut bytes, mut rest) = (Vec::new(), text);
    loop {
        let next = rest.trim_start_matches([' ', '\t']);
        let Some((byte, after)) = next.split_at_checked(2).and_then(|(pair, after)| Some((byte(pair)?, after))) else {
            return (bytes, rest);
        };
        bytes.push(byte);
        rest = after;
    }
}

fn byte(pair: &str) -> Option<u8> {
    if pair.bytes().all(|b| b.is_ascii_hexdigit()) { u8::from_str_radix(pair, 16).ok() } else { None }
}

/// What a name stands for.
struct Named {
    header: Vec<u8>,
    masked: bool,
    /// Bytes of the value, or the most.
    width: usize,
    /// The value may be shorter.
    varies: bool,
}

fn named(name: &str) -> Option<Named> {
    if HEADER_DIGITS.contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        let (header, _) = hex(name);
        let mut r = Reader::new(&header, OfError::OfpbmcBadLen);
        let entry = Entry::pull(&mut r).ok().filter(|_| r.is_empty())?;
        return Some(Named { masked: entry.masked, width: entry.width(), varies: false, header });
    }
    let (plain, masked) = name.strip_suffix("_W").map_or((name, false), |plain| (plain, true));
    let (code, width, varies) = if plain == COOKIE.1 {
        (COOKIE.0, COOKIE.2, false)
    } else {
        let field = Field::by_name(plain)?;
        let code = field.row().codes.iter().find(|c| c.name == plain)?;
        (code.header(), usize::from(field.row().bytes), field.tun_metadata_number().is_some())
    };
    let id = if code.class == Class::EXPERIMENTER { 4 } else { 0 };
    let mut header = Vec::new();
    header.u16(code.class.0);
    header.u8(code.number << 1 | u8::from(masked));
    header.u8(u8::try_from(id + width * if masked { 2 } else { 1 }).unwrap_or(u8::MAX));
    if id > 0 {
        header.u32(code.experimenter);
    }
    Some(Named { header, masked, width, varies })
}

/// Writes a list.
#[must_use]
pub fn format_entries(bytes: &[u8]) -> String {
    let mut r = Reader::new(bytes, OfError::OfpbmcBadLen);
    let mut parts = Vec::new();
    while !r.is_empty() {
        let left = r.len();
        match format_one(&mut r) {
            Ok(text) => parts.push(text),
            Err(_) => {
                parts.push(format!("<{left} invalid bytes>"));
                break;
            }
        }
    }
    if parts.is_empty() { ANY.to_owned() } else { parts.join(", ") }
}

fn format_one(r: &mut Reader<'_>) -> Result<String, OfError> {
    let start = r.peek();
    let entry = Entry::pull(r)?;
    let header = &start[..start.len() - r.len()];
    let payload = r.take(entry.payload)?;
    let mut out = match name_of(&entry) {
        Some(name) => format!("{name}{}", if entry.masked { "_W" } else { "" }),
        None => digits(header),
    };
    let (value, mask) = payload.split_at(entry.width());
    put(&mut out, format_args!("({}", digits(value)));
    if entry.masked {
        put(&mut out, format_args!("/{}", digits(mask)));
    }
    out.push(')');
    Ok(out)
}

fn name_of(entry: &Entry) -> Option<&'static str> {
    if entry.header == COOKIE.0 && entry.width() == COOKIE.2 {
        return Some(COOKIE.1);
    }
    entry.field()?.row().codes.iter().find(|code| code.header() == entry.header).map(|code| code.name)
}

fn digits(bytes: &[u8]) -> String {
    let mut out = String::new();
    bytes.iter().for_each(|b| put(&mut out, format_args!("{b:02x}")));
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Version;
    use crate::wire::Codec;
    use proptest::prelude::*;

    /// What `ovs-ofctl parse-nxm` and `parse-oxm OpenFlow12` (3.1.0) say of a list; `!` before an error's name, `-` before a text that is none.
    const CASES: &[(&str, &str, &str)] = &[
        ("<any>", "<any>", "<any>"),
        ("NXM_OF_IN_PORT(fffe)", "NXM_OF_IN_PORT(fffe)", "OXM_OF_IN_PORT(fffffffe)"),
        ("OXM_OF_IN_PORT(00000012)", "NXM_OF_IN_PORT(0012)", "OXM_OF_IN_PORT(00000012)"),
        ("00010004(00000012)", "NXM_NX_REG0(00000012)", "NXM_NX_REG0(00000012)"),
        (
            "NXM_NX_REG0(acebdf56)  ,  NXM_NX_REG1_W(a0e0d050/f0f0f0f0)",
            "NXM_NX_REG0(acebdf56), NXM_NX_REG1_W(a0e0d050/f0f0f0f0)",
            "NXM_NX_REG0(acebdf56), NXM_NX_REG1_W(a0e0d050/f0f0f0f0)",
        ),
        ("NXM_NX_REG1_W(a0e0d050/ffffffff)", "NXM_NX_REG1(a0e0d050)", "NXM_NX_REG1(a0e0d050)"),
        ("NXM_NX_REG1_W(a0e0d050/00000000)", "!OFPBMC_BAD_WILDCARDS", "!OFPBMC_BAD_WILDCARDS"),
        ("NXM_NX_REG0(acebdf56),NXM_NX_REG0_W(a0e0d050/f0f0f0f0)", "!OFPBMC_DUP_FIELD", "!OFPBMC_DUP_FIELD"),
        ("NXM_NX_COOKIE_W(0000000000000012/00000000000000ff)", "NXM_NX_COOKIE_W(0000000000000012/00000000000000ff)", "<any>"),
        (
            "NXM_OF_ETH_TYPE(0800) NXM_OF_IP_PROTO(06) ONFOXM_ET_TCP_FLAGS(0fff)",
            "NXM_OF_ETH_TYPE(0800), NXM_OF_IP_PROTO(06), NXM_NX_TCP_FLAGS(0fff)",
            "OXM_OF_ETH_TYPE(0800), OXM_OF_IP_PROTO(06), NXM_NX_TCP_FLAGS(0fff)",
        ),
        ("NXM_OF_VLAN_TCI(01 23)", "NXM_OF_VLAN_TCI(0123)", "OXM_OF_VLAN_VID(0123), OXM_OF_VLAN_PCP(00)"),
        ("8000fe01(00)", "<any>", "<any>"),
        ("ffffc20800004f4e(00000001)", "<any>", "<any>"),
        ("NXM_OF_IN_PORT(12)", "-expected to read 2 bytes but got 1", ""),
        ("NXM_OF_IN_PORT(00000012)", "-expected to read 2 bytes but got 4", ""),
        ("NXM_NX_REG0()", "-expected to read 4 bytes but got 0", ""),
        ("zz(12)", "-zz(12): unknown field `zz'", ""),
        ("0x00010004(00000012)", "-0x00010004(00000012): unknown field `0x00010004'", ""),
        ("NXM_NX_REG0(acebdf56)x", "-NXM_NX_REG0(acebdf56)x: missing ( at end of nx_match", ""),
        ("NXM_NX_REG0_W(acebdf56)", "-NXM_NX_REG0_W(acebdf56): missing / in masked field NXM_NX_REG0_W", ""),
        ("NXM_NX_COOKIE_W(0000000000000012/00ff)", "-): hex digits expected", ""),
        ("NXM_NX_REG0(acebdf56/ffffffff)", "-NXM_NX_REG0(acebdf56/ffffffff): missing ) following field NXM_NX_REG0", ""),
    ];

    fn said(text: &str, version: Option<Version>) -> String {
        let bytes = match parse_entries(text) {
            Ok(bytes) => bytes,
            Err(e) => return format!("-{e}"),
        };
        match Codec::default().decode_entries(version, &bytes, false) {
            Ok((m, cookie, mask)) => {
                let made = Codec::default().encode_entries(version, &m, (cookie, mask));
                format_entries(&made.bytes[made.entries])
            }
            Err(e) => format!("!{}", e.name()),
        }
    }

    #[test]
    fn lists_are_read_and_written_as_ovs_does() {
        for (text, nxm, oxm) in CASES {
            assert_eq!(said(text, None), *nxm, "{text}");
            assert_eq!(said(text, Some(Version::V12)), if oxm.is_empty() { *nxm } else { *oxm }, "{text}");
        }
    }

    proptest! {
        /// What is written of any well-formed list reads as the same bytes.
        #[test]
        fn what_is_written_is_read(entries in prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..5)) {
            let mut bytes = Vec::new();
            for (class, field, payload) in &entries {
                let class = if *class == Class::EXPERIMENTER.0 { 0x8000 } else { *class };
                let even = payload.len() - if field & 1 != 0 { payload.len() % 2 } else { 0 };
                bytes.u16(class);
                bytes.u8(*field);
                bytes.u8(u8::try_from(even).unwrap());
                bytes.extend(&payload[..even]);
            }
            prop_assert_eq!(parse_entries(&format_entries(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_text_panics(text in "[A-Z_a-z0-9(), /<>é]{0,40}") {
            let _ = parse_entries(&text);
        }
    }
}
