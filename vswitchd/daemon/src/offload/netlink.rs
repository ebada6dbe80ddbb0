//! Messages of route netlink that neither `offload::tc` nor `port::netlink` has, written and taken apart.
//!
//! What enters: what a request is about; the bytes of answers. What leaves: requests, one after another in one buffer; messages. Neighbours:
//! `tunnels` (devices), `ways` (routes and neighbours).

use offload::tc::attributes::Writer;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
const ERROR: u16 = 2;
const F_REQUEST: u16 = 1;
const F_ACK: u16 = 4;

/// A message of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    /// The fixed part and the attributes.
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    /// `E*` of an acknowledgement; 0 is success.
    pub(super) fn error(&self) -> Option<i32> {
        let code = self.body.first_chunk::<4>().filter(|_| self.kind == ERROR)?;
        Some(i32::from_ne_bytes(*code).wrapping_neg())
    }
}

/// The messages in the bytes of an answer, up to the first that is cut short.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEADER>()?;
        let [a, b, c, d, k, l, _, _, s, t, u, v, ..] = *head;
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        let body = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes([k, l]), sequence: u32::from_ne_bytes([s, t, u, v]), body })
    })
}

/// Requests in the making; the n-th has the sequence number n, from 1. Each is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) out: Writer,
    count: u32,
}

impl Requests {
    /// Appends a request with a fixed part, and what `attributes` writes behind it; its sequence number.
    pub(super) fn add(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: impl FnOnce(&mut Writer)) -> u32 {
        let sequence = self.next();
        let start = self.out.bytes.len();
        let bytes = &mut self.out.bytes;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | F_REQUEST | F_ACK).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(fixed);
        attributes(&mut self.out);
        let len = u32::try_from(self.out.bytes.len() - start).expect("our messages are short");
        self.out.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        sequence
    }

    /// The sequence number of a request that somebody else appends to `out`.
    pub(super) fn next(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_taken_apart_again() {
        let mut requests = Requests::default();
        assert_eq!(requests.add(16, 0x400, &[7; 16], |out| out.put_text(3, "name")), 1);
        assert_eq!(requests.add(26, 0, &[9; 12], |_| ()), 2);
        let all: Vec<(u16, u32, usize)> = messages(&requests.out.bytes).map(|m| (m.kind, m.sequence, m.body.len())).collect();
        assert_eq!(all, [(16, 1, 28), (26, 2, 12)]);
        assert_eq!(messages(&requests.out.bytes[..60]).count(), 1, "the second is cut short");
        let message = Message { kind: ERROR, sequence: 1, body: &(-17i32).to_ne_bytes() };
        assert_eq!((message.error(), Message { kind: 3, ..message }.error()), (Some(17), None));
    }
}
