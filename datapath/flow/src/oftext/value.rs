//! One field's value as text, as in `set_field:VALUE->NAME`, and OpenFlow port numbers.

use crate::fields::{Field, Form, MaskKind, Value};
use crate::forms::{CT_STATE, Hex, PortNames, TCP_FLAGS, flags, flags_masked, ipv4_masked, ipv6_masked, mac_masked};
use crate::key::{FRAG_ANY, FRAG_LATER};
use crate::scan::{self, Flags, FlagsError, Scan};

/// Ports of OpenFlow 1.0 end below.
const PORT_RESERVED_MIN: u32 = 0xff00;
/// What OpenFlow 1.1 adds to reserved numbers.
const PORT32_OFFSET: u32 = 0xffff_0000;
/// Reserved ports by name; `NONE` is read, too.
const PORT_NAMES: &[(u32, &str)] = &[
    (0xfff7, "UNSET"),
    (0xfff8, "IN_PORT"),
    (0xfff9, "TABLE"),
    (0xfffa, "NORMAL"),
    (0xfffb, "FLOOD"),
    (0xfffc, "ALL"),
    (0xfffd, "CONTROLLER"),
    (0xfffe, "LOCAL"),
    (0xffff, "ANY"),
    (0xffff, "NONE"),
];
/// (name, mask, value) of `ip_frag`; the first that fits is printed.
const FRAGS: &[(&str, u8, u8)] = &[
    ("no", FRAG_ANY | FRAG_LATER, 0),
    ("first", FRAG_ANY | FRAG_LATER, FRAG_ANY),
    ("later", FRAG_ANY | FRAG_LATER, FRAG_ANY | FRAG_LATER),
    ("no", FRAG_ANY, 0),
    ("yes", FRAG_ANY, FRAG_ANY),
    ("not_later", FRAG_LATER, 0),
    ("later", FRAG_LATER, FRAG_LATER),
];

/// Why a text is no value of its field; printed as ovs-ofctl does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldTextError {
    #[error("{text}: {part} too large for {bytes}-byte field {field}")]
    TooLarge { text: String, part: &'static str, bytes: u16, field: &'static str },
    #[error("{text}: bad syntax for {field} {part}")]
    Syntax { text: String, part: &'static str, field: &'static str },
    #[error("{0}: invalid Ethernet address")]
    Ethernet(String),
    #[error("{0}: invalid IP address")]
    Ipv4(String),
    #[error("{0}: IPv4 network prefix bits not between 0 and 32, inclusive")]
    Ipv4Prefix(String),
    #[error("{0}: invalid IPv6 address")]
    Ipv6(String),
    #[error("{0}: IPv6 network prefix bits not between 0 and 128, inclusive")]
    Ipv6Prefix(String),
    #[error("{text}: invalid or unknown port for {field}")]
    Port { text: String, field: &'static str },
    #[error("{text}: port value out of range for {field}")]
    Port32 { text: String, field: &'static str },
    #[error("{0}: unknown fragment type (valid types are \"no\", \"yes\", \"first\", \"later\", \"not_later\"")]
    Frag(String),
    #[error("{text}: unknown {what} flag(s)")]
    UnknownFlag { text: String, what: &'static str },
    #[error("{text}: {what} must be preceded by '+' (for SET) or '-' (NOT SET)")]
    FlagSign { text: String, what: &'static str },
    #[error("{text}: Each {what} flag can be specified only once")]
    FlagTwice { text: String, what: &'static str },
    #[error("{text}: bad syntax for packet type {part}")]
    PacketType { text: String, part: &'static str },
    #[error("{text}: invalid mask for field {field}")]
    Mask { text: String, field: &'static str },
}

type Pair = (Value, Value);

/// Reads `value` or `value/mask` of a field; `*` matches nothing.
pub fn parse_value(field: Field, text: &str, ports: &dyn PortNames) -> Result<Pair, FieldTextError> {
    let row = field.row();
    let exact = || Value::ones(usize::from(row.bytes) * 8);
    if text == "*" {
        return Ok((Value::ZERO, Value::ZERO));
    }
    let (value, mask) = match row.form {
        Form::Decimal | Form::Hex => integer(field, text)?,
        Form::Ethernet => ethernet(text).ok_or_else(|| FieldTextError::Ethernet(text.to_owned()))?,
        Form::Ipv4 => ipv4(text)?,
        Form::Ipv6 => ipv6(text)?,
        Form::Port16 => {
            let error = || FieldTextError::Port { text: text.to_owned(), field: row.name };
            (Value::from(u128::from(parse_port(text, ports).ok_or_else(error)?)), exact())
        }
        Form::Port32 => {
            let error = || FieldTextError::Port32 { text: text.to_owned(), field: row.name };
            let port = parse_port(text, ports).ok_or_else(error)?;
            let wide = if port >= PORT_RESERVED_MIN { port + PORT32_OFFSET } else { port };
            (Value::from(u128::from(wide)), exact())
        }
        Form::Frag => frag(text)?,
        Form::CtState => flag_list(text, CT_STATE, 0xff, "ct_state")?,
        Form::TunFlags => flag_list(text, TUN_FLAGS_OXM, 1, "tunnel")?,
        Form::TcpFlags => flag_list(text, TCP_FLAGS, 0xfff, "TCP")?,
        Form::PacketType => (packet_type(text)?, exact()),
    };
    // As OVS has it, the mask of a whole field covers its bytes, also where the field has fewer bits.
    if row.mask == MaskKind::Exact && !mask.is_zero() && mask.and(&exact()) != exact() {
        return Err(FieldTextError::Mask { text: text.to_owned(), field: row.name });
    }
    Ok((value, mask))
}

/// `tun_flags` as OpenFlow sees it: one flag, as bit 0; the key holds it beside others.
const TUN_FLAGS_OXM: Flags = &[(1, "oam")];

/// Writes a value of a field; with a mask that is not all ones, `value/mask`.
#[must_use]
pub fn format_value(field: Field, value: &Value, mask: Option<&Value>, ports: &dyn PortNames) -> String {
    let row = field.row();
    let whole = field.whole();
    let mask = mask.filter(|m| m.and(&whole) != whole);
    if mask.is_some_and(Value::is_zero) {
        return "ANY".to_owned();
    }
    let low = value.low();
    let low_mask = mask.map_or_else(|| field.exact(), Value::low);
    let small = |v: u128| u32::try_from(v & 0xffff_ffff).unwrap_or(0);
    let number = |shown: String| mask.map_or_else(|| shown.clone(), |m| format!("{shown}/{}", hex(m)));
    match row.form {
        Form::Decimal => number(low.to_string()),
        Form::Hex => number(hex(value)),
        Form::Ethernet => mac_masked(low, low_mask),
        Form::Ipv4 => ipv4_masked(low, low_mask),
        Form::Ipv6 => ipv6_masked(low, low_mask),
        Form::Port16 | Form::Port32 if mask.is_some() => number(low.to_string()),
        Form::Port16 => format_port(small(low), ports),
        Form::Port32 if low >= u128::from(PORT_RESERVED_MIN + PORT32_OFFSET) => format_port(small(low) - PORT32_OFFSET, ports),
        Form::Port32 => format_port(small(low), ports),
        Form::Frag => frag_text(low, low_mask).to_owned(),
        Form::CtState => match mask {
            None => flags(small(low), CT_STATE),
            Some(_) => flags_masked(small(low), small(low_mask), CT_STATE, 0xff),
        },
        Form::TunFlags => flags_masked(small(low), small(low_mask), TUN_FLAGS_OXM, 1),
        Form::TcpFlags => flags_masked(small(low), small(low_mask), TCP_FLAGS, 0xfff),
        Form::PacketType => format!("packet_type=({},{})", low >> 16, Hex(low & 0xffff)),
    }
}

/// Hexadecimal digits without leading zeros, `0` for zero.
pub(super) fn hex(value: &Value) -> String {
    if value.is_zero() { "0".to_owned() } else { format!("{value:#x}") }
}

/// Reads an OpenFlow port: a number of OpenFlow 1.0 or, for reserved ports, of 1.1; a reserved name in any case; a port's name,
/// perhaps in quotes. The number is OVS's 16-bit one.
#[must_use]
pub fn parse_port(text: &str, ports: &dyn PortNames) -> Option<u32> {
    let decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(number) = text.parse::<u32>().ok().filter(|_| decimal) {
        return match number {
            0..=0xffff => Some(number),
            n if n >= PORT_RESERVED_MIN + PORT32_OFFSET => Some(n - PORT32_OFFSET),
            _ => None,
        };
    }
    let reserved = PORT_NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    reserved.map(|(port, _)| *port).or_else(|| ports.number(quoted.unwrap_or(text)))
}

/// Writes an OpenFlow port: reserved name, the port's name (in quotes where it is no plain word), or number.
#[must_use]
pub fn format_port(port: u32, ports: &dyn PortNames) -> String {
    if let Some((_, name)) = PORT_NAMES.iter().find(|(number, _)| *number == port) {
        return (*name).to_owned();
    }
    ports.name(port).map_or_else(|| port.to_string(), |name| quoted(&name))
}

/// A name as OVS shows it: as it is when it begins with a letter and has only letters, digits and `_-.`; else as a JSON string.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !PORT_NAMES.iter().any(|(_, reserved)| reserved.eq_ignore_ascii_case(name));
    if plain {
        return name.to_owned();
    }
    let mut text = String::from('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_ascii_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

fn integer(field: Field, text: &str) -> Result<Pair, FieldTextError> {
    let row = field.row();
    let bits = usize::from(row.bytes) * 8;
    let one = |scan: &mut Scan<'_>, part: &'static str| {
        let value = signed(scan);
        let large = value.as_ref().is_some_and(|v| v.bit_len() > bits);
        if large {
            return Err(FieldTextError::TooLarge { text: text.to_owned(), part, bytes: row.bytes, field: row.name });
        }
        let ended = scan.done() || part == "value" && scan.rest.starts_with('/');
        value.filter(|_| ended).ok_or_else(|| FieldTextError::Syntax { text: text.to_owned(), part, field: row.name })
    };
    let mut scan = Scan::new(text);
    let value = one(&mut scan, "value")?;
    let mask = if scan.eat("/") { one(&mut scan, "mask")? } else { Value::ones(bits) };
    Ok((value, mask))
}

/// An integer; a negative one wraps at 64 bits, as `strtoull` does.
fn signed(scan: &mut Scan<'_>) -> Option<Value> {
    let start = *scan;
    let negative = scan.eat("-");
    let value = scan.any_int();
    let value = if negative { value.map(|v| Value::from((1u128 << 64) - (v.low() & u128::from(u64::MAX)))) } else { value };
    if value.is_none() {
        *scan = start;
    }
    value
}

fn ethernet(text: &str) -> Option<Pair> {
    let mut scan = Scan::new(text);
    let mac = scan.mac()?;
    let mask = if scan.eat("/") { scan.mac()? } else { 0xffff_ffff_ffff };
    scan.done().then(|| (mac.into(), mask.into()))
}

fn ipv4(text: &str) -> Result<Pair, FieldTextError> {
    let bad = || FieldTextError::Ipv4(text.to_owned());
    let mut scan = Scan::new(text);
    let address = scan.ipv4().ok_or_else(bad)?;
    if !scan.eat("/") {
        return if scan.done() { Ok((address.into(), u128::from(u32::MAX).into())) } else { Err(bad()) };
    }
    if let Some(mask) = scan.ipv4() {
        return if scan.done() { Ok((address.into(), mask.into())) } else { Err(bad()) };
    }
    let len = prefix(scan.rest, 32).map_err(|out| if out { FieldTextError::Ipv4Prefix(text.to_owned()) } else { bad() })?;
    let mask = (u128::from(u32::MAX) << (32 - len)) & u128::from(u32::MAX);
    Ok((address.into(), mask.into()))
}

fn ipv6(text: &str) -> Result<Pair, FieldTextError> {
    let bad = || FieldTextError::Ipv6(text.to_owned());
    let mut scan = Scan::new(text);
    let address = scan.ipv6().ok_or_else(bad)?;
    if !scan.eat("/") {
        return if scan.done() { Ok((address.into(), u128::MAX.into())) } else { Err(bad()) };
    }
    let mut ahead = scan;
    if let Some(mask) = ahead.ipv6().filter(|_| ahead.done()) {
        return Ok((address.into(), mask.into()));
    }
    let len = prefix(scan.rest, 128).map_err(|out| if out { FieldTextError::Ipv6Prefix(text.to_owned()) } else { bad() })?;
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
    Ok((address.into(), mask.into()))
}

/// The number after the slash; `Err(true)` for one that is out of range.
fn prefix(text: &str, max: u32) -> Result<u32, bool> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(false);
    }
    text.parse().ok().filter(|len| *len <= max).ok_or(true)
}

fn frag(text: &str) -> Result<Pair, FieldTextError> {
    let found = FRAGS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(text));
    let (_, mask, value) = found.ok_or_else(|| FieldTextError::Frag(text.to_owned()))?;
    Ok((u128::from(*value).into(), u128::from(*mask).into()))
}

pub(super) fn frag_text(value: u128, mask: u128) -> &'static str {
    let found = FRAGS.iter().find(|(_, m, v)| u128::from(*m) == mask && u128::from(*v) == value & mask);
    found.map_or("<error>", |(name, ..)| name)
}

fn flag_list(text: &str, names: Flags, all: u32, what: &'static str) -> Result<Pair, FieldTextError> {
    let text_after_sign = || text.trim_start_matches(['+', '-']).to_owned();
    let (value, mask) = scan::flags(text, names, all).map_err(|error| match error {
        FlagsError::Unknown(rest) => FieldTextError::UnknownFlag { text: rest, what },
        FlagsError::NoSign => FieldTextError::FlagSign { text: text_after_sign(), what },
        FlagsError::Twice(rest) => FieldTextError::FlagTwice { text: rest, what },
    })?;
    Ok((u128::from(value).into(), u128::from(mask.unwrap_or(all)).into()))
}

/// `(namespace,type)`
fn packet_type(text: &str) -> Result<Value, FieldTextError> {
    let mut scan = Scan::new(text);
    let error = |rest: &str, part| Err(FieldTextError::PacketType { text: rest.to_owned(), part });
    if !scan.eat("(") {
        return error(scan.rest, "missing '('");
    }
    let start = scan.rest;
    let Some(namespace) = scan.int(16) else {
        return error(start, "ns");
    };
    if !scan.eat(",") {
        return error(start, "missing ','");
    }
    let start = scan.rest;
    let Some(kind) = scan.int(16) else {
        return error(start, "ns_type");
    };
    if !scan.eat(")") {
        return error(start, "missing ')'");
    }
    Ok((namespace << 16 | kind).into())
}
