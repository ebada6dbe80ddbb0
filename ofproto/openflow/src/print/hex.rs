//! Bytes in hexadecimal, and bits by name.

use std::fmt::Write;

const LINE_BYTES: usize = 16;

/// Bytes, sixteen to a line with their offsets, hexadecimal and as characters.
#[must_use]
pub fn hex_dump(bytes: &[u8]) -> String {
    dump(bytes, true)
}

/// The same without characters.
#[must_use]
pub fn hex_lines(bytes: &[u8]) -> String {
    dump(bytes, false)
}

/// With or without characters at the ends of the lines.
pub(super) fn dump(bytes: &[u8], ascii: bool) -> String {
    let mut out = String::new();
    for (n, line) in bytes.chunks(LINE_BYTES).enumerate() {
        write!(out, "{:08x}  ", n * LINE_BYTES).expect("writing to a string cannot fail");
        for (at, byte) in line.iter().enumerate() {
            let separator = if at == LINE_BYTES / 2 - 1 { '-' } else { ' ' };
            write!(out, "{byte:02x}{separator}").expect("writing to a string cannot fail");
        }
        if ascii {
            out.push_str(&"   ".repeat(LINE_BYTES - line.len()));
            let text: String = line.iter().map(|b| if (32..127).contains(b) { char::from(*b) } else { '.' }).collect();
            write!(out, "|{text:16}|").expect("writing to a string cannot fail");
        } else {
            // The separator behind the last byte.
            out.pop();
        }
        out.push('\n');
    }
    out
}

/// Names of 1-bits, lowest first, then the bits without a name in hexadecimal; `0` for none.
pub(super) fn bits<T: Into<u32>>(bits: T, names: &[(u32, &str)], separator: &str) -> String {
    let bits = bits.into();
    if bits == 0 {
        return "0".to_owned();
    }
    let mut parts: Vec<String> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let rest = names.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        parts.push(format!("{rest:#x}"));
    }
    parts.join(separator)
}
