//! What an FTP control connection says of data connections: PORT and EPRT of the client, the answers 227 and 229 of the server.
//!
//! What enters: a segment's payload. What leaves: the port, and where the address stands. RFC 959, 4.1.2 and 4.2.1; RFC 2428.

use std::net::IpAddr;
use std::ops::Range;

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Port,
    Eprt,
    Pasv,
    Epsv,
}

/// A data connection announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub kind: Kind,
    pub address: Option<IpAddr>,
    /// Where the address's text stands in the payload.
    pub address_at: Option<Range<usize>>,
    pub port: u16,
}

/// How far into a segment commands are looked for.
const LINE_MAX: usize = 512;

/// What a payload announces.
#[must_use]
pub fn read(payload: &[u8]) -> Option<Announced> {
    let line = &payload[..payload.len().min(LINE_MAX)];
    let line = &line[..line.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(line.len())];
    let word = |text: &[u8]| line.len() > text.len() && line[..text.len()].eq_ignore_ascii_case(text);
    let from = |n: usize| n + line[n..].iter().take_while(|b| **b == b' ').count();
    if word(b"PORT ") {
        return commas(line, from(5), Kind::Port);
    }
    if word(b"EPRT ") {
        return bars(line, from(5), Kind::Eprt);
    }
    let parenthesis = || line.iter().position(|b| *b == b'(').map(|p| p + 1);
    if word(b"227 ") {
        // RFC 1123, 4.1.2.6: the numbers may stand without parentheses: scan for the first digit.
        let at = parenthesis().or_else(|| (4..line.len()).find(|i| line[*i].is_ascii_digit()))?;
        return commas(line, at, Kind::Pasv);
    }
    if word(b"229 ") {
        return bars(line, parenthesis()?, Kind::Epsv);
    }
    None
}

/// A decimal number at `at`, and where it ends.
fn number(line: &[u8], at: usize) -> Option<(u32, usize)> {
    let digits = line.get(at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 5 {
        return None;
    }
    let value = line[at..at + digits].iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    Some((value, at + digits))
}

/// `h1,h2,h3,h4,p1,p2`
fn commas(line: &[u8], from: usize, kind: Kind) -> Option<Announced> {
    let (mut at, mut bytes, mut address_end) = (from, [0u8; 6], from);
    for (i, byte) in bytes.iter_mut().enumerate() {
        if i > 0 {
            (line.get(at) == Some(&b',')).then_some(())?;
            at += 1;
        }
        let (value, end) = number(line, at)?;
        *byte = u8::try_from(value).ok()?;
        at = end;
        if i == 3 {
            address_end = end;
        }
    }
    let [a, b, c, d, high, low] = bytes;
    let port = u16::from_be_bytes([high, low]);
    (port != 0).then_some(Announced {
        kind,
        address: Some(IpAddr::from([a, b, c, d])),
        address_at: Some(from..address_end),
        port,
    })
}

/// `|family|address|port|`, with any delimiter; EPSV leaves family and address out.
fn bars(line: &[u8], from: usize, kind: Kind) -> Option<Announced> {
    let delimiter = *line.get(from)?;
    let mut fields = [(0, 0); 3];
    let mut at = from + 1;
    for field in &mut fields {
        let end = at + line.get(at..)?.iter().position(|b| *b == delimiter)?;
        *field = (at, end);
        at = end + 1;
    }
    let [_, (start, end), (port, port_end)] = fields;
    let (value, number_end) = number(line, port)?;
    let port = u16::try_from(value).ok().filter(|p| *p != 0 && number_end == port_end)?;
    if kind == Kind::Epsv {
        return Some(Announced { kind, address: None, address_at: None, port });
    }
    let address = std::str::from_utf8(&line[start..end]).ok()?.parse().ok()?;
    Some(Announced { kind, address: Some(address), address_at: Some(start..end), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<(Kind, &str, u16)>) {
        let read = read(text.as_bytes());
        let got = read.as_ref().map(|a| {
            let address = a.address_at.clone().map_or("", |r| &text[r]);
            (a.kind, address, a.port)
        });
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn commands_and_answers() {
        check("PORT 10,1,1,1,4,1\r\n", Some((Kind::Port, "10,1,1,1", 1025)));
        check("port  10,1,1,1,255,255\r\n", Some((Kind::Port, "10,1,1,1", 65535)));
        check("PORT 10,1,1,256,4,1\r\n", None);
        check("PORT 10,1,1,1,0,0\r\n", None);
        check("PORT 10,1,1,1,4", None);
        check("227 Entering Passive Mode (10,1,1,2,156,64).\r\n", Some((Kind::Pasv, "10,1,1,2", 40000)));
        check("227 Entering Passive Mode. 10,1,1,2,156,64\r\n", Some((Kind::Pasv, "10,1,1,2", 40000)));
        check("EPRT |1|10.1.1.1|1025|\r\n", Some((Kind::Eprt, "10.1.1.1", 1025)));
        check("EPRT |2|fc00::1|1025|\r\n", Some((Kind::Eprt, "fc00::1", 1025)));
        check("EPRT |2|fc00::1|102555|\r\n", None);
        check("229 Entering Extended Passive Mode (|||6446|)\r\n", Some((Kind::Epsv, "", 6446)));
        check("229 Entering", None);
        check("USER anonymous\r\nPORT 1,1,1,1,1,1\r\n", None);
        check("", None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, head in 0usize..4) {
            let mut text = [&b"PORT "[..], b"EPRT ", b"227 (", b"229 ("][head].to_vec();
            text.extend(&bytes);
            let _ = read(&text);
            let _ = read(&bytes);
        }
    }
}
