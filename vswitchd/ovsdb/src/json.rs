//! JSON as OVSDB uses it: values, canonical text, and messages cut out of a byte stream.
//!
//! What enters: bytes from a socket, in pieces of any size, from anyone. What leaves: complete [`serde_json::Value`]s, or
//! an error after which the connection must close. JSON-RPC over a stream has no separators (RFC 7047 section 4), so
//! [`Splitter`] finds the end of each object by counting brackets outside strings, and bounds size and depth.

use serde_json::Value;
use std::fmt::Write as _;

/// Largest message taken from a peer, in bytes.
pub const MESSAGE_MAX: usize = 256 << 20;
/// Deepest nesting taken from a peer.
pub const DEPTH_MAX: usize = 100;

/// The text OVS prints for `value` with members sorted by name and no white space.
#[must_use]
pub fn to_sorted(value: &Value) -> String {
    let mut out = String::new();
    write_sorted(value, &mut out);
    out
}

fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_sorted(member, out);
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for (i, element) in elements.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_sorted(element, out);
            }
            out.push(']');
        }
        Value::String(s) => write_string(s, out),
        Value::Number(n) => match integer(value) {
            Some(i) => {
                let _ = write!(out, "{i}");
            }
            None => out.push_str(&real_text(n.as_f64().unwrap_or(0.0))),
        },
        Value::Null | Value::Bool(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_string(s: &str, out: &mut String) {
    match serde_json::to_string(s) {
        Ok(text) => out.push_str(&text),
        Err(_) => out.push_str("\"\""),
    }
}

/// A real as C's `%.15g` (or, where that loses bits, `%.17g`) prints it.
#[must_use]
pub fn real_text(x: f64) -> String {
    let short = format_g(x, 15);
    if short.parse::<f64>() == Ok(x) { short } else { format_g(x, 17) }
}

/// C's `%.*g`: `precision` significant digits, trailing zeros dropped, an exponent where the C library has one.
#[must_use]
pub fn format_g(x: f64, precision: usize) -> String {
    if x == 0.0 {
        return if x.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    if !x.is_finite() {
        return if x.is_nan() {
            "nan".into()
        } else if x > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{:.*e}", precision.saturating_sub(1), x);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = i32::try_from(precision).unwrap_or(17);
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs())
    } else {
        let decimals = usize::try_from(digits - 1 - exponent).unwrap_or(0);
        trim_zeros(&format!("{x:.decimals$}")).to_owned()
    }
}

fn trim_zeros(s: &str) -> &str {
    if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.') } else { s }
}

/// The integer that `value` denotes. As in OVS a real without fraction counts (`1e3`, `2.0`), if it fits in 64 bits.
#[must_use]
pub fn integer(value: &Value) -> Option<i64> {
    let n = match value {
        Value::Number(n) => n,
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            return None;
        }
    };
    if let Some(i) = n.as_i64() {
        return Some(i);
    }
    let x = n.as_f64()?;
    // The first real that does not fit.
    let limit = 2.0_f64.powi(63);
    if x.fract() == 0.0 && (-limit..limit).contains(&x) {
        #[allow(clippy::cast_possible_truncation, reason = "range and fraction were checked in the line above")]
        return Some(x as i64);
    }
    None
}

/// A real as a JSON number: an integer where it has no fraction, as OVS prints it.
#[must_use]
pub fn real_value(x: f64) -> Value {
    match serde_json::Number::from_f64(x).map(Value::Number) {
        Some(value) => integer(&value).map_or(value, Value::from),
        None => Value::from(0),
    }
}

/// Whether `s` is an `<id>` of RFC 7047 section 3.1.
#[must_use]
pub fn is_id(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_') && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// Why a byte stream is no sequence of JSON messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The bytes are no JSON; the connection has no further message boundary.
    #[error("error parsing stream: {0}")]
    Syntax(String),
    /// The message is larger than [`MESSAGE_MAX`].
    #[error("error parsing stream: message exceeds {MESSAGE_MAX} bytes")]
    TooLong,
    /// The message nests deeper than [`DEPTH_MAX`].
    #[error("error parsing stream: input exceeds maximum nesting depth {DEPTH_MAX}")]
    TooDeep,
}

/// Cuts a byte stream into JSON values.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An incomplete message is checked for syntax when it reaches this size, so that garbage is refused early at a
    /// cost that stays linear.
    check_at: usize,
}

impl Splitter {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held that belong to no complete message yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete value, `None` if more bytes are needed.
    pub fn next_value(&mut self) -> Result<Option<Value>, StreamError> {
        if self.scanned == 0 {
            let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.buffer.drain(..blank);
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{' | b'[') => {}
                Some(_) => {
                    return Err(StreamError::Syntax("syntax error at beginning of input".into()));
                }
            }
        }
        match self.scan()? {
            Some(end) => {
                let value = parse(&self.buffer[..end])?;
                self.buffer.drain(..end);
                self.scanned = 0;
                self.check_at = 0;
                if self.buffer.is_empty() && self.buffer.capacity() > 1 << 20 {
                    self.buffer = Vec::new();
                }
                Ok(Some(value))
            }
            None if self.buffer.len() > MESSAGE_MAX => Err(StreamError::TooLong),
            None => self.check_prefix().map(|()| None),
        }
    }

    /// Looks for the end of the value that starts at byte 0.
    fn scan(&mut self) -> Result<Option<usize>, StreamError> {
        for (offset, &byte) in self.buffer.iter().enumerate().skip(self.scanned) {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > DEPTH_MAX {
                        return Err(StreamError::TooDeep);
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(offset + 1));
                    }
                }
                _ => {}
            }
        }
        self.scanned = self.buffer.len();
        Ok(None)
    }

    fn check_prefix(&mut self) -> Result<(), StreamError> {
        if self.buffer.len() < self.check_at {
            return Ok(());
        }
        self.check_at = self.buffer.len().saturating_mul(2);
        match serde_json::from_slice::<serde::de::IgnoredAny>(&self.buffer) {
            Err(e) if !e.is_eof() && !self.at_cut(&e) => Err(StreamError::Syntax(e.to_string())),
            Err(_) | Ok(_) => Ok(()),
        }
    }

    /// Whether the parser stumbled over the cut and not over what is there: a number that ends in `-`, `.` or `e`, or an
    /// escape that lacks its digits or its second half, may be whole once more bytes are here.
    fn at_cut(&self, error: &serde_json::Error) -> bool {
        const ESCAPE_MAX: usize = 12;
        let before = self.buffer.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1));
        let at = before.map(<[u8]>::len).sum::<usize>() + error.column();
        let tail = &self.buffer[self.buffer.len().saturating_sub(ESCAPE_MAX)..];
        let slack = if tail.contains(&b'\\') { ESCAPE_MAX } else { 1 };
        at + slack >= self.buffer.len()
    }
}

fn parse(bytes: &[u8]) -> Result<Value, StreamError> {
    serde_json::from_slice(bytes).map_err(|e| StreamError::Syntax(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cuts_without_separators() {
        let mut s = Splitter::new();
        for b in br#" {"a":"}\"{"}[1]{}"# {
            s.push(&[*b]);
        }
        assert_eq!(s.next_value(), Ok(Some(json!({"a": "}\"{"}))));
        assert_eq!(s.next_value(), Ok(Some(json!([1]))));
        assert_eq!(s.next_value(), Ok(Some(json!({}))));
        assert_eq!(s.next_value(), Ok(None));
    }

    #[test]
    fn refuses_garbage_early_and_depth() {
        let mut s = Splitter::new();
        s.push(b"hello");
        assert!(s.next_value().is_err());
        let mut s = Splitter::new();
        s.push(b"{xyz");
        assert!(s.next_value().is_err());
        let mut s = Splitter::new();
        s.push(&[b'['; 200]);
        assert_eq!(s.next_value(), Err(StreamError::TooDeep));
        let mut s = Splitter::new();
        s.push(b"{]");
        assert!(s.next_value().is_err());
    }

    #[test]
    fn prints_reals_as_c_does() {
        for (x, text) in [(1.5, "1.5"), (1e5, "100000"), (1e15, "1e+15"), (0.1, "0.1"), (1e-5, "1e-05"), (-2.25, "-2.25")] {
            assert_eq!(real_text(x), text);
        }
        assert_eq!(to_sorted(&json!({"b": 1e5, "a": [true, null, "x\n"]})), r#"{"a":[true,null,"x\n"],"b":100000}"#);
    }
}
