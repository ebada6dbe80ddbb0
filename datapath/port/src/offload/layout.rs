//! Where the headers are that checksums and segmentation concern: the least parsing that does it.
//!
//! What enters: a frame of any bytes. What leaves: positions that lie inside the frame. Neighbours: the rest of `offload`. The full
//! parser is `flow::extract`; this one runs only for packets that need work in software, and must not depend on a key.

use super::checksum::{add, sum};

/// Positions in a frame with an IP header, each within the frame and in this order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The IP header.
    pub(super) l3: usize,
    /// The end of the fixed IP header with IPv4 options; IPv6 extension headers lie behind it.
    pub(super) header_end: usize,
    /// What follows IP and its extension headers.
    pub(super) l4: usize,
    /// The end of the IP packet; the frame may be padded behind it.
    pub(super) end: usize,
    /// 4 or 6.
    pub(super) version: u8,
    /// The protocol at `l4`.
    pub(super) proto: u8,
    /// The packet is a fragment (also the first one).
    pub(super) fragment: bool,
    /// MPLS labels stand before the IP header.
    pub(super) labelled: bool,
}

/// The most tags and labels that are skipped.
const TAGS_MAX: usize = 8;
/// The most IPv6 extension headers that are skipped.
const EXTENSIONS_MAX: usize = 8;

fn half(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

impl Layout {
    /// The layout of the outermost IP packet; None if there is none or it is cut short.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        for _ in 0..TAGS_MAX {
            match half(frame, at)? {
                0x8100 | 0x88a8 | 0x9100 => at += 4,
                0x0800 => return Self::parse_v4(frame, at + 2),
                0x86dd => return Self::parse_v6(frame, at + 2),
                0x8847 | 0x8848 => return Self::parse_mpls(frame, at + 2),
                _ => return None,
            }
        }
        None
    }

    fn parse_mpls(frame: &[u8], mut at: usize) -> Option<Self> {
        for _ in 0..TAGS_MAX {
            // RFC 3032 section 2.1: the bottom of stack bit.
            let bottom = frame.get(at + 2)? & 1 == 1;
            at += 4;
            if bottom {
                return Some(Self { labelled: true, ..Self::parse_ip(frame, at)? });
            }
        }
        None
    }

    /// The layout of an IP packet at `at`, its version told by its first four bits.
    pub(super) fn parse_ip(frame: &[u8], at: usize) -> Option<Self> {
        match frame.get(at)? >> 4 {
            4 => Self::parse_v4(frame, at),
            6 => Self::parse_v6(frame, at),
            _ => None,
        }
    }

    fn parse_v4(frame: &[u8], l3: usize) -> Option<Self> {
        let header: &[u8; 20] = frame.get(l3..)?.first_chunk()?;
        let header_len = usize::from(header[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let l4 = l3 + header_len;
        let end = l3 + total;
        if header[0] >> 4 != 4 || header_len < 20 || l4 > end || end > frame.len() {
            return None;
        }
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        Some(Self { l3, header_end: l4, l4, end, version: 4, proto: header[9], fragment, labelled: false })
    }

    fn parse_v6(frame: &[u8], l3: usize) -> Option<Self> {
        let header: &[u8; 40] = frame.get(l3..)?.first_chunk()?;
        let end = l3 + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || end > frame.len() {
            return None;
        }
        let mut proto = header[6];
        let mut l4 = l3 + 40;
        let mut fragment = false;
        for _ in 0..EXTENSIONS_MAX {
            let extension: Option<&[u8; 8]> = frame[l4..end].first_chunk();
            match proto {
                // Hop-by-hop and destination options: length in units of 8, the first not counted (RFC 8200 section 4.3).
                0 | 60 => l4 += (usize::from(extension?[1]) + 1) * 8,
                // A routing header replaces the destination in the pseudo header (RFC 8200 section 8.1): not understood here
                // unless it is used up.
                43 if extension?[3] == 0 => l4 += (usize::from(extension?[1]) + 1) * 8,
                44 => {
                    fragment |= u16::from_be_bytes([extension?[2], extension?[3]]) & 0xfff9 != 0;
                    l4 += 8;
                }
                _ => {
                    return Some(Self { l3, header_end: l3 + 40, l4, end, version: 6, proto, fragment, labelled: false });
                }
            }
            if l4 > end {
                return None;
            }
            proto = extension?[0];
        }
        None
    }

    /// The sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not complemented.
    pub(super) fn pseudo_sum(&self, frame: &[u8]) -> u16 {
        self.pseudo_sum_of(frame, self.end - self.l4)
    }

    /// The same for a segment of `len` bytes.
    pub(super) fn pseudo_sum_of(&self, frame: &[u8], len: usize) -> u16 {
        let addresses = match self.version {
            4 => &frame[self.l3 + 12..self.l3 + 20],
            _ => &frame[self.l3 + 8..self.l3 + 40],
        };
        let len = u32::try_from(len).expect("a frame is shorter than 4 GiB");
        add(add(sum(addresses), u16::from(self.proto)), sum(&len.to_be_bytes()))
    }
}
