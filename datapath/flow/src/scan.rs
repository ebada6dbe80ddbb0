//! Reading text: a cursor that takes numbers, addresses and words as OVS's parsers do. It never panics, and on failure stays
//! where it was, so that an error can show the rest of the text.

use crate::fields::Value;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A position in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    pub(crate) rest: &'a str,
}

impl<'a> Scan<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub(crate) fn done(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes `word` if it stands here.
    pub(crate) fn eat(&mut self, word: &str) -> bool {
        let found = self.rest.strip_prefix(word);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// Takes characters while they are `wanted`.
    pub(crate) fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Spaces, commas and line ends.
    pub(crate) fn skip_delimiters(&mut self) {
        self.take(|c| matches!(c, ',' | ' ' | '\t' | '\r' | '\n'));
    }

    /// A C integer (decimal, 0x, or 0 for octal) of at most `bits` bits.
    pub(crate) fn int(&mut self, bits: u32) -> Option<u128> {
        let start = *self;
        let value = self.long_int(bits as usize).map(|v| v.low());
        if value.is_none() {
            *self = start;
        }
        value
    }

    /// Like `int`, for up to `VALUE_BYTES_MAX` bytes.
    pub(crate) fn long_int(&mut self, bits: usize) -> Option<Value> {
        let start = *self;
        let value = self.any_int().filter(|v| v.bit_len() <= bits);
        if value.is_none() {
            *self = start;
        }
        value
    }

    /// An integer of any length that a `Value` holds; `None` for no integer or a longer one.
    pub(crate) fn any_int(&mut self) -> Option<Value> {
        let start = *self;
        let mut ahead = *self;
        if (ahead.eat("0x") || ahead.eat("0X")) && ahead.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
            let value = hex(ahead.take(|c| c.is_ascii_hexdigit()));
            *self = if value.is_some() { ahead } else { start };
            return value;
        }
        let digits = self.take(|c| c.is_ascii_digit());
        let octal = digits.len() > 1 && digits.starts_with('0');
        let (digits, radix) = if octal {
            // C stops at the first digit that is not octal.
            let end = digits.find(['8', '9']).unwrap_or(digits.len());
            self.rest = &start.rest[end..];
            (&digits[..end], 8)
        } else {
            (digits, 10)
        };
        let value = u128::from_str_radix(digits, radix).ok().map(Value::from);
        if value.is_none() {
            *self = start;
        }
        value
    }

    /// `xx:xx:xx:xx:xx:xx`, one or two digits each.
    pub(crate) fn mac(&mut self) -> Option<u128> {
        let start = *self;
        let mac = self.mac_inner();
        if mac.is_none() {
            *self = start;
        }
        mac
    }

    fn mac_inner(&mut self) -> Option<u128> {
        let mut mac = 0;
        for n in 0..6 {
            if n > 0 && !self.eat(":") {
                return None;
            }
            let digits = self.take(|c| c.is_ascii_hexdigit());
            let byte = (digits.len() <= 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()?;
            mac = mac << 8 | u128::from(byte);
        }
        Some(mac)
    }

    /// `a.b.c.d`
    pub(crate) fn ipv4(&mut self) -> Option<u128> {
        let start = *self;
        let mut octets = self.take(|c| c.is_ascii_digit() || c == '.').split('.').map(|o| {
            let plain = !o.is_empty() && o.len() <= 3;
            plain.then(|| o.parse::<u8>().ok()).flatten()
        });
        let address = (0..4).try_fold(0u128, |sum, _| Some(sum << 8 | u128::from(octets.next()??)));
        let address = address.filter(|_| octets.next().is_none());
        if address.is_none() {
            *self = start;
        }
        address
    }

    /// RFC 4291 section 2.2 text of an IPv6 address.
    pub(crate) fn ipv6(&mut self) -> Option<u128> {
        let start = *self;
        let text = self.take(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
        let address = text.parse::<Ipv6Addr>().ok().map(u128::from);
        if address.is_none() {
            *self = start;
        }
        address
    }
}

/// Hexadecimal digits as a number.
fn hex(digits: &str) -> Option<Value> {
    let digits = digits.trim_start_matches('0').as_bytes();
    let nibble = |d: u8| u8::try_from(char::from(d).to_digit(16).unwrap_or(0)).unwrap_or(0);
    let bytes: Vec<u8> = digits.rchunks(2).rev().map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | nibble(*d))).collect();
    (bytes.len() <= crate::fields::VALUE_BYTES_MAX).then(|| Value::from_be_bytes(&bytes))
}

/// Names of flags: (bit, name), in the order of OVS's bits.
pub(crate) type Flags = &'static [(u32, &'static str)];

/// Why a list of flags cannot be read; OVS words these differently per place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlagsError {
    /// With the text from the flag on.
    Unknown(String),
    NoSign,
    /// With the text from the flag on.
    Twice(String),
}

/// Flags up to the end of `text`: `+a-b` or `1/3` (value and mask), or `a|b` (mask `None`: all).
pub(crate) fn flags(text: &str, names: Flags, allowed: u32) -> Result<(u32, Option<u32>), FlagsError> {
    let mut scan = Scan::new(text);
    let number = |scan: &mut Scan<'_>| scan.int(32).and_then(|v| u32::try_from(v).ok());
    if let Some(value) = number(&mut scan)
        && scan.eat("/")
        && let Some(mask) = number(&mut scan)
        && scan.done()
    {
        let known = (value | mask) & !allowed == 0;
        return if known { Ok((value, Some(mask))) } else { Err(FlagsError::Unknown(text.to_owned())) };
    }
    let find = |name: &str| names.iter().find(|(bit, n)| *n == name && bit & allowed != 0).map(|(bit, _)| *bit);
    if text.starts_with(['+', '-']) {
        return signed_flags(text, find);
    }
    let mut value = 0;
    for name in text.split('|').filter(|n| !n.is_empty()) {
        let mut scan = Scan::new(name);
        let bits = number(&mut scan).filter(|bits| scan.done() && bits & !allowed == 0);
        value |= bits.or_else(|| find(name)).ok_or_else(|| FlagsError::Unknown(text.to_owned()))?;
    }
    Ok((value, None))
}

fn signed_flags(text: &str, find: impl Fn(&str) -> Option<u32>) -> Result<(u32, Option<u32>), FlagsError> {
    let (mut value, mut mask) = (0, 0);
    let mut scan = Scan::new(text);
    while !scan.done() {
        let set = scan.eat("+");
        if !set && !scan.eat("-") {
            return Err(FlagsError::NoSign);
        }
        let rest = scan.rest;
        let name = scan.take(|c| !matches!(c, '+' | '-'));
        let bit = find(name).ok_or_else(|| FlagsError::Unknown(rest.to_owned()))?;
        if mask & bit != 0 {
            return Err(FlagsError::Twice(rest.to_owned()));
        }
        mask |= bit;
        value |= if set { bit } else { 0 };
    }
    Ok((value, Some(mask)))
}

/// Whether all 32-bit octets of an IPv4 mask are ones from the left: its length.
pub(crate) fn prefix_len(mask: u128, bits: u32) -> Option<u32> {
    let shifted = mask << (128 - bits);
    let len = shifted.leading_ones();
    (len >= 128 || shifted << len == 0).then_some(len)
}

/// An IPv4 address as text.
pub(crate) fn ipv4_text(address: u128) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(address & 0xffff_ffff).unwrap_or(0))
}
