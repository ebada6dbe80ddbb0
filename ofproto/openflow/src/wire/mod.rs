//! The wire: bytes to `Message` and back, for every version.
//!
//! What enters from a peer is not trusted: decoding answers every sequence of bytes with a message or with the error that OVS would
//! send, and what it answers is valid inside. Rooms: `frame` cuts a stream, `formats` is the table of message types, `matches` and
//! `actions` code what messages are made of, `messages` the bodies, `assemble` puts multipart requests together, `parts`
//! codes what messages are made of by itself.
//!
//! Nothing here keeps state. What a connection has agreed on (flow format, tunnel options) is in the `Codec` it passes.

pub mod actions;
pub mod assemble;
pub(crate) mod bytes;
pub mod formats;
pub mod frame;
pub mod matches;
mod messages;
pub mod parts;
pub(crate) mod props;

pub use actions::check::{Against, check};
pub use actions::verify::{Instruction, Outer, in_action_set, verify};
pub use assemble::Assembler;
pub use formats::{Class, FORMATS, Format, Kind, kind_of};
pub use frame::{HEADER_BYTES, Header, MESSAGE_BYTES_MAX, Splitter, TooShort};
pub use matches::fits_openflow10;

#[cfg(test)]
mod tests;

use crate::error::OfError;
use crate::message::{Body, ErrorMessage, Message};
use crate::types::{OfPort, Version, Xid};
use bytes::Put;
use flow::fields::{Field, TunnelOptions, Value};
use std::sync::Arc;

/// What encoding and decoding depend on beside the bytes: what a connection has agreed on and what its switch has.
#[derive(Clone, Copy, Debug)]
pub struct Codec<'a> {
    /// OpenFlow 1.0 flow-mods name a table in the command's high byte (NXT_FLOW_MOD_TABLE_ID).
    pub table_id: bool,
    /// OpenFlow 1.0 flow messages are written in Nicira's form even when the standard one can say them (NXT_SET_FLOW_FORMAT).
    pub nxm: bool,
    /// First port number that actions may not name.
    pub max_ports: u32,
    /// Number of tables that goto may name; 255: any.
    pub n_tables: u8,
    /// Accept `debug_recirc` and `debug_slow` (--enable-dummy).
    pub debug_actions: bool,
    /// The bridge's tunnel options; `None`: no switch is at hand, and options have the length that they come with.
    pub options: Option<&'a Arc<TunnelOptions>>,
}

impl Default for Codec<'_> {
    /// A client's: whatever the peer says is possible.
    fn default() -> Self {
        Self { table_id: true, nxm: false, max_ports: OfPort::REAL_MAX, n_tables: 255, debug_actions: true, options: None }
    }
}

/// The version has no form for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} cannot be said in {version}")]
pub struct Unencodable {
    pub kind: Kind,
    pub version: Version,
}

/// Decodes a whole message as a client does.
///
/// # Errors
/// The error that OVS answers or prints for it.
pub fn decode(message: &[u8]) -> Result<Message, OfError> {
    Codec::default().decode(message)
}

impl Message {
    /// Encodes the message as a client does; a multipart reply longer than a message becomes several, one behind the other.
    ///
    /// # Errors
    /// `Unencodable` when its version does not have it.
    pub fn encode(&self) -> Result<Vec<u8>, Unencodable> {
        let mut out = Vec::new();
        Codec::default().encode(self, &mut out)?;
        Ok(out)
    }
}

/// Appends a message as a part of a bundle: in an envelope, and with the transaction id of that.
///
/// # Errors
/// `Unencodable` when the version has no bundles; nothing is appended then.
pub fn append_bundle_add(
    (version, xid): (Version, Xid),
    (id, flags): (u32, u16),
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unencodable> {
    let kind = Kind::BundleAdd;
    let format = formats::format_of(kind, version, false).ok_or(Unencodable { kind, version })?;
    let start = formats::begin(out, format, version, xid, 0);
    messages::bundles::put_add_raw(out, (id, flags), message);
    formats::close(out, start);
    Ok(())
}

impl ErrorMessage {
    /// The reply to a request that was refused: it carries the whole request back (OpenFlow 1.5, 7.5.4 asks for 64 bytes at least).
    #[must_use]
    pub fn reply_to(error: OfError, request: &[u8]) -> Self {
        Self { error, data: request.to_vec() }
    }
}

/// What a room needs to know to decode a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct In<'a> {
    pub(crate) codec: &'a Codec<'a>,
    pub(crate) version: Version,
    pub(crate) format: &'static Format,
    pub(crate) header: Header,
    /// Levels of messages in messages.
    pub(crate) depth: u8,
}

impl In<'_> {
    /// Whether Nicira's or ONF's format carried it.
    pub(crate) fn extension(&self) -> bool {
        !matches!(self.format.class, Class::Of | Class::OfStatsRequest | Class::OfStatsReply)
    }
}

/// A message being written.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    pub(crate) codec: &'a Codec<'a>,
    pub(crate) version: Version,
    pub(crate) extension: bool,
    pub(crate) bytes: &'a mut Vec<u8>,
    format: &'static Format,
    xid: Xid,
    start: usize,
    /// Entries that would not fit into a message.
    omitted: usize,
}

impl Out<'_> {
    /// One entry of a list. Where it makes the message too long a further one is begun with it, and the former says MORE; an entry
    /// that fills a whole message by itself is left out, as OVS leaves it out.
    pub(crate) fn entry(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        fill(self.bytes);
        if self.bytes.len() - self.start <= MESSAGE_BYTES_MAX {
            return;
        }
        let entry = self.bytes.split_off(at);
        formats::close(self.bytes, self.start);
        let first = self.start;
        let next = formats::begin(self.bytes, self.format, self.version, self.xid, 0);
        if self.bytes.len() - next + entry.len() > MESSAGE_BYTES_MAX {
            self.bytes.truncate(next);
            self.omitted += 1;
            return;
        }
        self.bytes.set_u16(first + FLAGS_AT, MORE);
        self.bytes.extend_from_slice(&entry);
        self.start = next;
    }
}

/// Where the flags of a multipart stand, and the one there is.
const FLAGS_AT: usize = 10;
const MORE: u16 = 1;
/// A bundle-add or a forwarded request carries a message; no message carries deeper ones.
const DEPTH_MAX: u8 = 1;

impl Codec<'_> {
    /// Decodes a whole message.
    ///
    /// # Errors
    /// The error that OVS answers or prints for it.
    pub fn decode(&self, message: &[u8]) -> Result<Message, OfError> {
        self.decode_at(message, 0)
    }

    pub(crate) fn decode_at(&self, message: &[u8], depth: u8) -> Result<Message, OfError> {
        let header = Header::peek(message).ok_or(OfError::OfpbrcBadLen)?;
        let length = usize::from(header.length);
        if depth > DEPTH_MAX || length < HEADER_BYTES {
            return Err(OfError::OfpbrcBadLen);
        }
        let message = message.get(..length).ok_or(OfError::OfpbrcBadLen)?;
        // A hello may offer a version that we do not know (OpenFlow 1.3.1, 6.3.1).
        let version = match Version::from_wire(header.version) {
            Some(version) => version,
            None if header.kind == 0 && header.version > Version::V15 as u8 => Version::V15,
            None => return Err(OfError::OfpbrcBadVersion),
        };
        let opened = formats::open(version, header, message)?;
        let input = In { codec: self, version, format: opened.format, header, depth };
        let more = opened.flags & MORE != 0;
        let body = messages::decode(&input, opened.body, more)?;
        Ok(Message { version, xid: header.xid, body })
    }

    /// Appends the message to `out`; a multipart reply longer than a message becomes several, one behind the other.
    ///
    /// # Errors
    /// `Unencodable` when its version does not have it; nothing is appended then.
    pub fn encode(&self, message: &Message, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        self.encode_counting(message, out).map(|_| ())
    }

    /// The same; gives the number of entries that were left out because each fills more than a message.
    ///
    /// # Errors
    /// As `encode`.
    pub fn encode_counting(&self, message: &Message, out: &mut Vec<u8>) -> Result<usize, Unencodable> {
        self.encode_kind(message, messages::kind(self, message), out)
    }

    /// Like `encode`, in the form asked for where the version has two: a vendor's with `extension`, else the standard's.
    ///
    /// # Errors
    /// As `encode`.
    pub fn encode_as(&self, message: &Message, extension: bool, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let (kind, _) = messages::kind(self, message);
        self.encode_kind(message, (kind, extension), out).map(|_| ())
    }

    fn encode_kind(&self, message: &Message, (kind, extension): (Kind, bool), out: &mut Vec<u8>) -> Result<usize, Unencodable> {
        let version = message.version;
        let format = formats::format_of(kind, version, extension).ok_or(Unencodable { kind, version })?;
        let more = matches!(&message.body, Body::Stats(m) if m.more);
        let start = formats::begin(out, format, version, message.xid, if more { MORE } else { 0 });
        let extension = !matches!(format.class, Class::Of | Class::OfStatsRequest | Class::OfStatsReply);
        let mut sink = Out { codec: self, version, extension, bytes: out, format, xid: message.xid, start, omitted: 0 };
        messages::encode(&mut sink, &message.body)?;
        let (last, omitted) = (sink.start, sink.omitted);
        if more && last != start {
            out.set_u16(last + FLAGS_AT, MORE);
        }
        formats::close(out, last);
        Ok(omitted)
    }

    /// Bytes of the value of `field`.
    pub(crate) fn bytes_of(&self, field: Field) -> usize {
        match (field.tun_metadata_number(), self.options) {
            (Some(n), Some(options)) => options.option(n).map_or(0, |o| o.bytes),
            _ => usize::from(field.row().bytes),
        }
    }

    /// Bits of the value of `field`.
    pub(crate) fn bits_of(&self, field: Field) -> usize {
        match field.tun_metadata_number() {
            Some(_) => 8 * self.bytes_of(field),
            None => usize::from(field.row().bits),
        }
    }

    /// The mask of the whole field.
    #[must_use]
    pub fn all_ones(&self, field: Field) -> Value {
        match field.tun_metadata_number() {
            Some(_) => Value::ones(8 * self.bytes_of(field)),
            None => Value::from(field.exact()),
        }
    }

    /// Whether `field` is a tunnel option that the switch has not mapped.
    pub(crate) fn unmapped(&self, field: Field) -> bool {
        matches!((field.tun_metadata_number(), self.options), (Some(n), Some(options)) if options.option(n).is_none())
    }

    /// The value that these bytes of the wire are for `field`.
    pub(crate) fn cut(&self, field: Field, bytes: &[u8]) -> Value {
        Value::from_be_bytes(&bytes[..bytes.len().min(self.bytes_of(field))])
    }
}
