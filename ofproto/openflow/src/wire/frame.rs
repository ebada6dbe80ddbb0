//! Framing: the eight bytes before every message, and cutting a stream into messages.
//!
//! Bytes of a connection enter, whole messages (still bytes) leave. Neighbour: `wire` decodes them.

use crate::types::Xid;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 8;
/// Longest message: its length has 16 bits.
pub const MESSAGE_BYTES_MAX: usize = 0xffff;

/// The header of any message of any version (OpenFlow 1.5, 7.1.1), as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Any byte: a hello may offer a version that we do not know.
    pub version: u8,
    pub kind: u8,
    /// Of the whole message.
    pub length: u16,
    pub xid: Xid,
}

impl Header {
    /// The header at the start of `bytes`; `None` while they are fewer than eight.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let &[version, kind, l0, l1, x0, x1, x2, x3] = bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self { version, kind, length: u16::from_be_bytes([l0, l1]), xid: Xid(u32::from_be_bytes([x0, x1, x2, x3])) })
    }
}

/// The stream cannot be cut any further: a header claims fewer bytes than a header has. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("received too-short ofp_header ({length} bytes)")]
pub struct TooShort {
    pub length: u16,
}

/// Cuts a stream of bytes into messages. It holds at most one message and what came in behind it.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    start: usize,
}

impl Splitter {
    /// Adds bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// `TooShort` when the stream is out of step.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, TooShort> {
        let pending = &self.buffer[self.start..];
        let Some(header) = Header::peek(pending) else { return Ok(None) };
        let length = usize::from(header.length);
        if length < HEADER_BYTES {
            return Err(TooShort { length: header.length });
        }
        if pending.len() < length {
            return Ok(None);
        }
        let from = self.start;
        self.start += length;
        Ok(Some(&self.buffer[from..from + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_message_boundaries_however_bytes_arrive() {
        let stream = [1, 2, 0, 9, 0, 0, 0, 1, 0xaa, 4, 0, 0, 8, 0, 0, 0, 2];
        for step in 1..stream.len() {
            let mut splitter = Splitter::default();
            let mut got = Vec::new();
            for piece in stream.chunks(step) {
                splitter.push(piece);
                while let Some(message) = splitter.next_message().unwrap() {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, [stream[..9].to_vec(), stream[9..].to_vec()]);
        }
    }

    #[test]
    fn a_length_below_the_header_ends_the_stream() {
        let mut splitter = Splitter::default();
        splitter.push(&[1, 0, 0, 7, 0, 0, 0, 0]);
        assert_eq!(splitter.next_message(), Err(TooShort { length: 7 }));
    }
}
