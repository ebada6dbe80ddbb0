//! Reads matches: pairs of names and values, protocols as words, parts of fields.

use super::value::{FieldTextError, hex, parse_value};
use crate::fields::{Field, Form, Value};
use crate::forms::{NoNames, PortNames};
use crate::matching::{Match, MatchError};
use crate::scan::Scan;

/// Words for Ethernet type and IP protocol (0: any).
const PROTOCOLS: &[(&str, u16, u8)] = &[
    ("ip", 0x0800, 0),
    ("ipv4", 0x0800, 0),
    ("ip4", 0x0800, 0),
    ("arp", 0x0806, 0),
    ("icmp", 0x0800, 1),
    ("tcp", 0x0800, 6),
    ("udp", 0x0800, 17),
    ("sctp", 0x0800, 132),
    ("ipv6", 0x86dd, 0),
    ("ip6", 0x86dd, 0),
    ("icmp6", 0x86dd, 58),
    ("tcp6", 0x86dd, 6),
    ("udp6", 0x86dd, 17),
    ("sctp6", 0x86dd, 132),
    ("rarp", 0x8035, 0),
    ("mpls", 0x8847, 0),
    ("mplsm", 0x8848, 0),
];

/// Why a text is no match; printed as ovs-ofctl does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchTextError {
    #[error(transparent)]
    Value(#[from] FieldTextError),
    #[error(transparent)]
    Match(#[from] MatchError),
    #[error("unknown keyword {0}")]
    Unknown(String),
    #[error("field {0} missing value")]
    NoValue(String),
    #[error("{text}: unknown field `{field}'")]
    UnknownField { text: String, field: String },
    #[error("{0}: syntax error expecting [] or [<bit>] or [<start>..<end>]")]
    Subfield(String),
    #[error("{text}: starting bit {start} is after ending bit {end}")]
    Backwards { text: String, start: u32, end: u32 },
    #[error("{text}: {which} bit {bit} is not valid because field is only {bits} bits wide")]
    BitRange { text: String, which: &'static str, bit: u32, bits: u16 },
    #[error("{text}: cannot parse integer value: {value}")]
    NotInteger { text: String, value: String },
    #[error("{text}: value {value} does not fit into {bits} bits")]
    NotFitting { text: String, value: String, bits: u32 },
}

/// Pairs of `name=value`, `name:value`, `name(value)` or a lone `name`, separated by commas and spaces. Brackets nest.
#[derive(Clone, Debug)]
pub struct KeyValues<'a> {
    scan: Scan<'a>,
}

impl<'a> KeyValues<'a> {
    /// The pairs of a text.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self { scan: Scan::new(text) }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a str {
        self.scan.rest
    }
}

impl<'a> Iterator for KeyValues<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.scan.skip_delimiters();
        if self.scan.done() {
            return None;
        }
        let key = self.scan.take(|c| !matches!(c, ':' | '=' | '(' | ',' | ' ' | '\t' | '\r' | '\n'));
        let in_brackets = self.scan.rest.starts_with('(');
        if !(self.scan.eat("=") || self.scan.eat(":") || self.scan.eat("(")) {
            return Some((key, ""));
        }
        let text = self.scan.rest;
        let space = |c: char| matches!(c, ',' | ' ' | '\t' | '\r' | '\n');
        let ends = |c: char| if in_brackets { c == ')' } else { space(c) };
        let mut end = value_end(text, ends);
        if in_brackets && text[end..].starts_with(")->") {
            end += value_end(&text[end..], space);
        }
        let (value, rest) = text.split_at(end);
        let mut rest = rest.chars();
        rest.next();
        self.scan.rest = rest.as_str();
        Some((key, value))
    }
}

/// Where a value ends: at a delimiter outside of brackets.
fn value_end(text: &str, ends: impl Fn(char) -> bool) -> usize {
    let mut depth = 0u32;
    for (at, c) in text.char_indices() {
        if depth == 0 && ends(c) {
            return at;
        }
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}

/// Reads a whole match, without port names.
pub fn parse_match(text: &str) -> Result<Match, MatchTextError> {
    parse_match_with(text, &NoNames)
}

/// Reads a whole match in which ports have names.
pub fn parse_match_with(text: &str, ports: &dyn PortNames) -> Result<Match, MatchTextError> {
    let mut matching = Match::default();
    for (name, value) in KeyValues::new(text) {
        if !parse_into(&mut matching, name, value, ports)? {
            let name = name.to_owned();
            return Err(if value.is_empty() { MatchTextError::NoValue(name) } else { MatchTextError::Unknown(name) });
        }
    }
    Ok(matching)
}

/// Adds one pair to a match; false when `name` is no word for a protocol, a field or a part of one.
pub fn parse_into(matching: &mut Match, name: &str, value: &str, ports: &dyn PortNames) -> Result<bool, MatchTextError> {
    if let Some((_, eth_type, proto)) = PROTOCOLS.iter().find(|(word, ..)| *word == name) {
        matching.set(Field::EthType, u128::from(*eth_type));
        if *proto != 0 {
            matching.set(Field::NwProto, u128::from(*proto));
        }
        if !matching.has(Field::PacketType) {
            matching.set(Field::PacketType, 0);
        }
    } else if name == "eth" {
        matching.set(Field::PacketType, 0);
    } else if let Some(field) = Field::by_name(name).filter(|f| is_text_name(*f, name)) {
        // A lone name matches that the field is there, which says something of tunnel options only.
        let value = if value.is_empty() { "0/0" } else { value };
        let (value, mask) = parse_value(field, value, ports)?;
        matching.set_long(field, &value, &mask)?;
        matching.imply_ethernet(field);
    } else if name.contains('[') {
        parse_subfield(matching, name, value)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Names of code points (`NXM_OF_IN_PORT`) stand in parts of fields only.
fn is_text_name(field: Field, name: &str) -> bool {
    field.row().name == name || field.row().alias == Some(name)
}

/// A part of a field: `NXM_NX_REG0[]`, `reg0[0..15]`, `eth_src[40]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subfield {
    pub field: Field,
    /// Lowest bit.
    pub start: u16,
    pub bits: u16,
}

impl Subfield {
    /// All of a field.
    #[must_use]
    pub fn whole(field: Field) -> Self {
        Self { field, start: 0, bits: field.row().bits }
    }

    /// Reads a part of a field from the start of `text`; also what follows it.
    pub fn parse(text: &str) -> Result<(Self, &str), MatchTextError> {
        let mut scan = Scan::new(text);
        let name = scan.take(|c| !matches!(c, '[' | '-'));
        let unknown = || MatchTextError::UnknownField { text: text.to_owned(), field: name.to_owned() };
        let field = Field::by_name(name).ok_or_else(unknown)?;
        let bits = field.row().bits;
        let (mut start, mut end) = (0, u32::from(bits) - 1);
        if scan.eat("[") && !scan.eat("]") {
            let syntax = || MatchTextError::Subfield(text.to_owned());
            let number = |scan: &mut Scan<'_>| scan.take(|c| c.is_ascii_digit()).parse::<u32>().map_err(|_| syntax());
            start = number(&mut scan)?;
            end = if scan.eat("..") { number(&mut scan)? } else { start };
            scan.eat("]").then_some(()).ok_or_else(syntax)?;
        }
        let text = text.to_owned();
        if start > end {
            return Err(MatchTextError::Backwards { text, start, end });
        }
        for (which, bit) in [("starting", start), ("ending", end)] {
            if bit >= u32::from(bits) {
                return Err(MatchTextError::BitRange { text, which, bit, bits });
            }
        }
        let small = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
        Ok((Self { field, start: small(start), bits: small(end - start + 1) }, scan.rest))
    }
}

impl std::fmt::Display for Subfield {
    /// As in `load:1->NXM_NX_REG0[0..15]`: the first code point's name, or the field's where it has none.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let row = self.field.row();
        f.write_str(row.codes.first().map_or(row.name, |c| c.name))?;
        match (self.start, self.bits) {
            (0, bits) if bits == row.bits => f.write_str("[]"),
            (start, 1) => write!(f, "[{start}]"),
            (start, bits) => write!(f, "[{start}..{}]", start + bits - 1),
        }
    }
}

fn parse_subfield(matching: &mut Match, name: &str, text: &str) -> Result<(), MatchTextError> {
    let (part, _) = Subfield::parse(name)?;
    let mut scan = Scan::new(text);
    let wide = usize::from(part.field.row().bytes) * 8;
    let value = scan.long_int(wide).filter(|_| scan.done());
    let value = value.ok_or_else(|| MatchTextError::NotInteger { text: name.to_owned(), value: text.to_owned() })?;
    if value.bit_len() > usize::from(part.bits) {
        let decimal = part.field.row().form == Form::Decimal;
        let value = if decimal { value.low().to_string() } else { hex(&value) };
        return Err(MatchTextError::NotFitting { text: name.to_owned(), value, bits: part.bits.into() });
    }
    let ones = Value::ones(part.bits.into());
    let (old, old_mask) = matching.get_long(part.field);
    let bits = ones.shifted_left(part.start.into());
    let value = old.without(&bits).or(&value.shifted_left(part.start.into()));
    matching.set_long(part.field, &value, &old_mask.or(&bits))?;
    matching.imply_ethernet(part.field);
    Ok(())
}
