//! What comes back over netlink, taken apart: the messages of each request, by its sequence number, and how it ended.
//!
//! What enters: the bytes that `Netlink::talk` gave, for one request (a `Reply`) or for a batch of them. What leaves: an `Answer` for each.

use super::attributes::{Attribute, attributes, find};
use super::write::HEADER;
use std::io;

/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// Flags of an error's message: the request is cut, texts follow.
const CAPPED: u16 = 0x100;
const TEXTS: u16 = 0x200;
/// What stands for "no answer came" (`EPROTO`).
const EPROTO: i32 = 71;

/// How a request ended, and what it gave.
#[derive(Debug, Default)]
pub(super) struct Answer<'a> {
    pub(super) messages: Vec<&'a [u8]>,
    /// `E*`, 0 for success.
    pub(super) error: i32,
    text: String,
    ended: bool,
}

/// All that came back for one request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) sequence: u32,
}

impl Reply {
    pub(super) fn answer(&self) -> Answer<'_> {
        let mut one = [Answer::default()];
        sort(&self.bytes, self.sequence, &mut one);
        let [answer] = one;
        answer
    }
}

/// The answers to requests with the sequence numbers `first`, `first` + 1 and so on. One that did not come is an error.
pub(super) fn answers(bytes: &[u8], first: u32, count: usize) -> Vec<Answer<'_>> {
    let mut out: Vec<Answer<'_>> = std::iter::repeat_with(Answer::default).take(count).collect();
    sort(bytes, first, &mut out);
    out
}

fn sort<'a>(bytes: &'a [u8], first: u32, out: &mut [Answer<'a>]) {
    let mut rest = bytes;
    while rest.len() >= HEADER {
        let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if len < HEADER || len > rest.len() {
            break;
        }
        let (one, after) = rest.split_at(len);
        rest = after.get(len.next_multiple_of(4) - len..).unwrap_or(&[]);
        let sequence = u32::from_ne_bytes([one[8], one[9], one[10], one[11]]);
        let Some(answer) = out.get_mut(sequence.wrapping_sub(first) as usize) else {
            continue;
        };
        match u16::from_ne_bytes([one[4], one[5]]) {
            ERROR => answer.read_error(one),
            DONE => answer.ended = true,
            _ => answer.messages.push(one),
        }
    }
    for answer in out.iter_mut().filter(|a| !a.ended) {
        answer.error = EPROTO;
    }
}

impl Answer<'_> {
    fn read_error(&mut self, one: &[u8]) {
        self.ended = true;
        let Some(code) = one.get(HEADER..).and_then(|b| b.first_chunk::<4>()) else {
            self.error = EPROTO;
            return;
        };
        self.error = -i32::from_ne_bytes(*code);
        let flags = u16::from_ne_bytes([one[6], one[7]]);
        let request = one.get(HEADER + 4..).and_then(|b| b.first_chunk::<4>()).map_or(0, |l| u32::from_ne_bytes(*l) as usize);
        let at = HEADER + 4 + if flags & CAPPED != 0 { HEADER } else { request.next_multiple_of(4) };
        if flags & TEXTS != 0
            && let Some(Ok(texts)) = one.get(at..).map(attributes)
        {
            // NLMSGERR_ATTR_MSG
            self.text = find(&texts, 1).map_or_else(String::new, |a: Attribute<'_>| a.text().to_owned());
        }
    }

    /// The driver's text, if it gave one, and the system's.
    pub(super) fn said(&self) -> String {
        let system = io::Error::from_raw_os_error(self.error);
        if self.text.is_empty() { system.to_string() } else { format!("{} ({system})", self.text) }
    }
}
