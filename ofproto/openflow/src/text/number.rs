//! Numbers as OVS reads them: C integers (decimal, 0x, 0 for octal) with C's indulgences, hexadecimal bytes, addresses.
//!
//! What enters: the text of one argument. What leaves: the number, or the error in OVS's words.

use super::error::TextError;
use flow::Value;

/// Splits off a C integer of base 0 with an optional sign (`strtoull`); `None` when there are no digits or it is too long.
pub(crate) fn c_integer(text: &str) -> Option<(u64, &str)> {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\r']);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (radix, body) = match hex.filter(|h| h.starts_with(|c: char| c.is_ascii_hexdigit())) {
        Some(body) => (16, body),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let end = body.find(|c: char| !c.is_digit(radix)).unwrap_or(body.len());
    let value = u64::from_str_radix(&body[..end], radix).ok()?;
    Some((if negative { value.wrapping_neg() } else { value }, &body[end..]))
}

/// C's `atoi`: what does not begin with a number is zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "as C's conversion to int does")]
pub(crate) fn atoi(text: &str) -> i32 {
    let trimmed = text.trim_start();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let value = digits[..end].parse::<i64>().unwrap_or(if end == 0 { 0 } else { i64::MAX });
    (if negative { -value } else { value }) as i32
}

/// `atoi` into 16 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as OVS's assignment does")]
pub(crate) fn atoi16(text: &str) -> u16 {
    atoi(text) as u16
}

/// `atoi` into 32 bits.
#[allow(clippy::cast_sign_loss, reason = "as OVS's assignment does")]
pub(crate) fn atoi32(text: &str) -> u32 {
    atoi(text) as u32
}

/// A number of `name` up to `max`.
fn bounded(text: &str, name: &'static str, max: u64) -> Result<u64, TextError> {
    let value = c_integer(text).filter(|(v, rest)| rest.is_empty() && *v <= max).map(|(v, _)| v);
    value.ok_or_else(|| TextError::Invalid { name: name.to_owned(), text: text.to_owned() })
}

/// A number of 8 bits; `name` stands in the error.
pub(crate) fn u8(text: &str, name: &'static str) -> Result<u8, TextError> {
    bounded(text, name, 0xff).map(|v| u8::try_from(v).expect("it was bounded"))
}

/// A number of 16 bits; `name` stands in the error.
pub(crate) fn u16(text: &str, name: &'static str) -> Result<u16, TextError> {
    bounded(text, name, 0xffff).map(|v| u16::try_from(v).expect("it was bounded"))
}

/// A number of 64 bits.
pub(crate) fn u64(text: &str) -> Result<u64, TextError> {
    if text.is_empty() {
        return Err(TextError::NoNumber);
    }
    let value = c_integer(text).filter(|(_, rest)| rest.is_empty()).map(|(v, _)| v);
    value.ok_or_else(|| TextError::NumberFormat(text.to_owned()))
}

/// A number of 32 bits; OVS drops what is above them.
#[allow(clippy::cast_possible_truncation, reason = "as OVS's assignment does")]
pub(crate) fn u32(text: &str) -> Result<u32, TextError> {
    u64(text).map(|v| v as u32)
}

/// A number of up to `bytes` bytes, hexadecimal if it is longer than 64 bits; and what follows it.
pub(crate) fn long(text: &str, bytes: usize) -> Option<(Value, &str)> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (value, rest) = match hex {
        Some(body) => {
            let end = body.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(body.len());
            let digits = body[..end].trim_start_matches('0');
            let fits = end > 0 && digits.len() <= 2 * bytes;
            (fits.then(|| digits_value(digits))?, &body[end..])
        }
        None => {
            let (value, rest) = c_integer(text)?;
            (Value::from(u128::from(value)), rest)
        }
    };
    (value.bit_len() <= 8 * bytes).then_some((value, rest))
}

fn digits_value(digits: &str) -> Value {
    let nibble = |d: &u8| char::from(*d).to_digit(16).and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    let bytes: Vec<u8> =
        digits.as_bytes().rchunks(2).rev().map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | nibble(d))).collect();
    Value::from_be_bytes(&bytes)
}

/// Pairs of hexadecimal digits with dots or spaces between them; and what follows them.
pub(crate) fn hex_bytes(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '.', '\t', '\r', '\n']);
        let pair = rest.get(..2).filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = pair.and_then(|p| u8::from_str_radix(p, 16).ok()) else { return (bytes, rest) };
        bytes.push(byte);
        rest = &rest[2..];
    }
}

/// An Ethernet address; what follows it is not looked at.
pub(crate) fn mac(text: &str) -> Result<[u8; 6], TextError> {
    let bad = || TextError::Mac(text.to_owned());
    let mut octets = [0; 6];
    let mut parts = text.trim_start().splitn(6, ':');
    for octet in &mut octets {
        let part = parts.next().ok_or_else(bad)?;
        let end = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len()).min(2);
        *octet = u8::from_str_radix(&part[..end], 16).map_err(|_| bad())?;
    }
    Ok(octets)
}

/// An IPv4 address.
pub(crate) fn ipv4(text: &str) -> Result<[u8; 4], TextError> {
    text.parse::<std::net::Ipv4Addr>().map(|a| a.octets()).map_err(|_| TextError::Ip(text.to_owned()))
}

/// Words between delimiters, as C's `strtok_r` cuts them; the delimiters may change from word to word.
#[derive(Clone, Debug)]
pub(crate) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next word, up to one of `delimiters` (none: to the end).
    pub(crate) fn next(&mut self, delimiters: &[char]) -> Option<&'a str> {
        let text = self.rest.trim_start_matches(delimiters);
        let end = text.find(delimiters).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let mut rest = rest.chars();
        rest.next();
        self.rest = rest.as_str();
        (!word.is_empty()).then_some(word)
    }
}
