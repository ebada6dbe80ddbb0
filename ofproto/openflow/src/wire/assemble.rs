//! Putting multipart requests together: parts of one request come in messages that say MORE (OpenFlow 1.3+, 7.3.5).
//!
//! Messages of a connection enter, whole requests leave (as the list of their messages, in order). Which kinds may have several
//! parts with something in them is for whoever joins them.

use super::formats::{self, Kind};
use super::frame::{HEADER_BYTES, Header};
use crate::error::OfError;
use crate::types::{Version, Xid};
use flow::clock::Msec;

/// How long a further part is waited for.
pub const TIMEOUT_MS: Msec = 1000;
/// Bytes that one request may have in all.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests that may be under way at once on one connection.
pub const PARTIALS_MAX: usize = 64;

/// Puts the multipart requests of one connection together.
#[derive(Debug, Default)]
pub struct Assembler {
    partials: Vec<Partial>,
}

#[derive(Debug)]
struct Partial {
    xid: Xid,
    kind: Kind,
    until_ms: Msec,
    bytes: usize,
    parts: Vec<Vec<u8>>,
}

impl Assembler {
    /// Whether a message may have to wait for others: all but multipart requests come back from `take` at once.
    #[must_use]
    pub fn may_be_part(header: Header) -> bool {
        matches!((header.version, header.kind), (1, 16) | (2.., 18))
    }

    /// Takes a message. A message that is no multipart request, or the last part of one, comes back with what was kept of it;
    /// parts without a body are left out unless there is nothing else.
    ///
    /// # Errors
    /// `OFPBRC_BAD_STAT` when parts of one request differ; `OFPBRC_BAD_LEN`, `OFPBRC_MULTIPART_BUFFER_OVERFLOW`.
    pub fn take(&mut self, message: &[u8], now_ms: Msec) -> Result<Vec<Vec<u8>>, OfError> {
        let alone = Ok(vec![message.to_vec()]);
        let Some(header) = Header::peek(message) else { return alone };
        let Some(version) = Version::from_wire(header.version) else { return alone };
        let Some((kind, envelope, more)) = request(version, header, message)? else { return alone };
        let has_body = message.len() > envelope;
        let at = self.partials.iter().position(|p| p.xid == header.xid);
        if at.is_none() && !more {
            return alone;
        }
        let mut p = match at {
            Some(at) => self.partials.swap_remove(at),
            None => Partial { xid: header.xid, kind, until_ms: 0, bytes: 0, parts: Vec::new() },
        };
        if p.kind != kind {
            return Err(OfError::OfpbrcBadStat);
        }
        p.bytes += message.len();
        if p.bytes > REQUEST_BYTES_MAX || self.partials.len() >= PARTIALS_MAX {
            return Err(OfError::OfpbrcMultipartBufferOverflow);
        }
        // Of parts without a body one is enough, and that only while there is no other: it is the only one.
        if has_body && p.parts.first().is_some_and(|part| part.len() <= envelope) {
            p.parts.clear();
        }
        if has_body || p.parts.is_empty() {
            p.parts.push(message.to_vec());
        }
        if more {
            p.until_ms = now_ms + TIMEOUT_MS;
            self.partials.push(p);
            return Ok(Vec::new());
        }
        Ok(p.parts)
    }

    /// A request that has waited too long: its last message, to be answered with `OFPBRC_MULTIPART_REQUEST_TIMEOUT`.
    pub fn expire(&mut self, now_ms: Msec) -> Option<Vec<u8>> {
        let at = self.partials.iter().position(|p| p.until_ms <= now_ms)?;
        self.partials.swap_remove(at).parts.pop()
    }

    /// When `expire` must be called next.
    #[must_use]
    pub fn next_expiry_ms(&self) -> Option<Msec> {
        self.partials.iter().map(|p| p.until_ms).min()
    }
}

/// Kind, bytes of the headers and the MORE flag of a multipart request; `None` for anything else.
fn request(version: Version, header: Header, message: &[u8]) -> Result<Option<(Kind, usize, bool)>, OfError> {
    let kind = if version == Version::V10 { 16 } else { 18 };
    if header.kind != kind || message.len() < HEADER_BYTES {
        return Ok(None);
    }
    let opened = formats::identify(version, header, message)?;
    // A part may be empty whatever its kind: what the others have counts.
    if !opened.body.is_empty() {
        formats::open(version, header, message)?;
    }
    let envelope = message.len() - opened.body.len();
    Ok(Some((opened.format.kind, envelope, version >= Version::V13 && opened.flags & 1 != 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, Message, Multipart, MultipartBody, TableFeatures};
    use crate::types::TableId;

    fn part(xid: u32, more: bool, tables: &[u8]) -> Vec<u8> {
        let tables =
            tables.iter().map(|t| TableFeatures { table: TableId(*t), any_properties: true, ..TableFeatures::default() });
        let body =
            Body::Stats(Box::new(Multipart { more, nxm: false, body: MultipartBody::TableFeaturesRequest(tables.collect()) }));
        Message { version: Version::V13, xid: Xid(xid), body }.encode().unwrap()
    }

    #[test]
    fn parts_come_together_by_transaction() {
        let mut a = Assembler::default();
        assert_eq!(a.take(&part(1, true, &[0]), 0), Ok(Vec::new()));
        assert_eq!(a.take(&part(2, true, &[7]), 0), Ok(Vec::new()));
        assert_eq!(a.take(&part(1, true, &[]), 0), Ok(Vec::new()));
        assert_eq!(a.take(&part(1, false, &[1]), 0), Ok(vec![part(1, true, &[0]), part(1, false, &[1])]));
        assert_eq!(a.next_expiry_ms(), Some(1000));
        assert_eq!(a.expire(999), None);
        assert_eq!(a.expire(1000), Some(part(2, true, &[7])));
    }

    #[test]
    fn parts_of_one_request_must_agree() {
        let mut a = Assembler::default();
        assert_eq!(a.take(&part(1, true, &[0]), 0), Ok(Vec::new()));
        let desc = Message {
            version: Version::V13,
            xid: Xid(1),
            body: Body::Stats(Box::new(Multipart { more: false, nxm: false, body: MultipartBody::DescRequest })),
        };
        assert_eq!(a.take(&desc.encode().unwrap(), 0), Err(OfError::OfpbrcBadStat));
    }

    #[test]
    fn what_cannot_be_joined_comes_whole() {
        // Queues of all ports, 1.3.
        let part = |more: u8, body: &[u8]| {
            let len = u8::try_from(16 + body.len()).unwrap();
            [&[4, 18, 0, len, 0, 0, 0, 9, 0, 5, 0, more, 0, 0, 0, 0], body].concat()
        };
        let mut a = Assembler::default();
        let (full, empty) = (part(1, &[0xff; 8]), part(0, &[]));
        assert_eq!(a.take(&full, 0), Ok(Vec::new()));
        assert_eq!(a.take(&empty, 0), Ok(vec![full.clone()]), "the last says no more");
        assert_eq!(a.take(&part(1, &[]), 0), Ok(Vec::new()));
        assert_eq!(a.take(&part(0, &[0xff; 8]), 0), Ok(vec![part(0, &[0xff; 8])]), "nor need the first");
        assert_eq!(a.take(&part(1, &[0xff; 4]), 0), Err(OfError::OfpbrcBadLen));
        assert_eq!(a.take(&full, 0), Ok(Vec::new()));
        assert_eq!(a.take(&part(0, &[0xff; 8]), 0), Ok(vec![full, part(0, &[0xff; 8])]));
    }
}
