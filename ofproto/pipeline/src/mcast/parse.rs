//! IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810) messages, read for what a switch wants to know of them.
//!
//! What enters: the bytes of the message, from its header to the end of the IP packet. What leaves: events; none for a message
//! that is malformed or says nothing. Pure.

use flow::checksum::{checksum, pseudo6};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

const IGMP_QUERY: u8 = 0x11;
const IGMP_V1_REPORT: u8 = 0x12;
const IGMP_V2_REPORT: u8 = 0x16;
const IGMP_V2_LEAVE: u8 = 0x17;
pub const IGMP_V3_REPORT: u8 = 0x22;
const MLD_QUERY: u8 = 130;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD2_REPORT: u8 = 143;
const ICMPV6: u8 = 58;
/// Group records of one report that are read; a packet has no room for more.
const RECORDS_MAX: usize = 9000;

/// A group's address, an IPv4 one in its IPv6 form (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupAddr(pub [u8; 16]);

impl GroupAddr {
    /// Of an IPv4 group.
    #[must_use]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The Ethernet address of the group (RFC 1112 section 6.4, RFC 2464 section 7).
    #[must_use]
    pub fn ethernet(self) -> [u8; 6] {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, _, b, c, d] => [0x01, 0x00, 0x5e, b & 0x7f, c, d],
            [.., a, b, c, d] => [0x33, 0x33, a, b, c, d],
        }
    }
}

impl fmt::Display for GroupAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Ipv4Addr::new(a, b, c, d).fmt(f),
            all => Ipv6Addr::from(all).fmt(f),
        }
    }
}

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Join(GroupAddr),
    Leave(GroupAddr),
    /// A multicast router is there.
    Query,
}

/// Why a message is not heeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("bad IGMP checksum")]
    IgmpChecksum,
    #[error("bad MLD checksum")]
    MldChecksum,
}

/// Whether an IGMP type is a report or a leave.
#[must_use]
pub fn is_igmp_membership(kind: u8) -> bool {
    matches!(kind, IGMP_V1_REPORT | IGMP_V2_REPORT | IGMP_V2_LEAVE | IGMP_V3_REPORT)
}

/// Whether an ICMPv6 type is MLD's.
#[must_use]
pub fn is_mld(kind: u8) -> bool {
    kind == MLD_QUERY || is_mld_report(kind)
}

/// Whether an ICMPv6 type is a report or a done of MLD.
#[must_use]
pub fn is_mld_report(kind: u8) -> bool {
    matches!(kind, MLD_REPORT | MLD_DONE | MLD2_REPORT)
}

/// Reads an IGMP message from a host or router of address `src`.
pub fn igmp(message: &[u8], src: [u8; 4]) -> Result<Vec<Event>, Malformed> {
    let Some(([kind, ..], group)) = message.first_chunk::<8>().map(|h| (h, [h[4], h[5], h[6], h[7]])) else {
        return Err(Malformed::IgmpChecksum);
    };
    if checksum(message) != [0, 0] {
        return Err(Malformed::IgmpChecksum);
    }
    let group = GroupAddr::v4(group);
    Ok(match *kind {
        IGMP_V1_REPORT | IGMP_V2_REPORT => vec![Event::Join(group)],
        IGMP_V2_LEAVE => vec![Event::Leave(group)],
        // RFC 4541 section 2.1.1 (1): 0.0.0.0 is the address of a switch that asks in a router's place.
        IGMP_QUERY if src != [0; 4] => vec![Event::Query],
        IGMP_V3_REPORT => records(message, |bytes| {
            let address: [u8; 4] = *bytes.first_chunk()?;
            Some((GroupAddr::v4(address), 4))
        }),
        _ => Vec::new(),
    })
}

/// Reads an MLD message between `src` and `dst`.
pub fn mld(message: &[u8], src: &[u8; 16], dst: &[u8; 16]) -> Result<Vec<Event>, Malformed> {
    let Some([kind, ..]) = message.first_chunk::<8>() else { return Err(Malformed::MldChecksum) };
    if pseudo6(src, dst, ICMPV6, message.len()).plus(message).finish() != [0, 0] {
        return Err(Malformed::MldChecksum);
    }
    let group = || message.get(8..24).and_then(|b| b.first_chunk().copied()).map(GroupAddr);
    Ok(match *kind {
        MLD_QUERY if *src != [0; 16] => vec![Event::Query],
        MLD_REPORT => group().map(Event::Join).into_iter().collect(),
        MLD_DONE => group().map(Event::Leave).into_iter().collect(),
        MLD2_REPORT => records(message, |bytes| {
            let address: [u8; 16] = *bytes.first_chunk()?;
            Some((GroupAddr(address), 16))
        }),
        _ => Vec::new(),
    })
}

/// The group records of a version 3 (MLD: version 2) report: type, length of what is beside, sources, the group, and so on. `address`
/// reads the group at the start of the bytes given, and says how long an address is.
fn records(message: &[u8], address: impl Fn(&[u8]) -> Option<(GroupAddr, usize)>) -> Vec<Event> {
    let count = usize::from(u16::from_be_bytes([message[6], message[7]])).min(RECORDS_MAX);
    let mut events = Vec::new();
    let mut rest = &message[8..];
    for _ in 0..count {
        let Some(([kind, words_beside, sources @ ..], body)) = rest.split_first_chunk::<4>() else { break };
        let Some((group, len)) = address(body) else { break };
        let sources = usize::from(u16::from_be_bytes(*sources));
        // MODE_IS_INCLUDE 1 and CHANGE_TO_INCLUDE_MODE 3 without any source: nobody wants it any more (RFC 3376 section 4.2.12).
        match kind {
            1 | 3 if sources == 0 => events.push(Event::Leave(group)),
            1..=6 => events.push(Event::Join(group)),
            _ => {}
        }
        let Some(next) = body.get(len + sources * len + usize::from(*words_beside) * 4..) else { break };
        rest = next;
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum);
        message
    }

    const G: GroupAddr = GroupAddr::v4([239, 1, 2, 3]);

    #[test]
    fn igmp_says_who_comes_and_goes() {
        let message = |kind| with_checksum(vec![kind, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(igmp(&message(0x12), [1; 4]), Ok(vec![Event::Join(G)]));
        assert_eq!(igmp(&message(0x16), [1; 4]), Ok(vec![Event::Join(G)]));
        assert_eq!(igmp(&message(0x17), [1; 4]), Ok(vec![Event::Leave(G)]));
        assert_eq!(igmp(&message(0x11), [1; 4]), Ok(vec![Event::Query]));
        assert_eq!(igmp(&message(0x11), [0; 4]), Ok(vec![]));
        assert_eq!(igmp(&[0x16, 0, 0, 0, 239, 1, 2, 3], [1; 4]), Err(Malformed::IgmpChecksum));
        assert_eq!(igmp(&[0x16], [1; 4]), Err(Malformed::IgmpChecksum));
    }

    #[test]
    fn version_3_reports_have_many_groups() {
        let head = [0x22, 0, 0, 0, 0, 0, 0, 4];
        let block_old = [6, 1, 0, 1, 239, 1, 2, 3, 9, 9, 9, 9, 7, 7, 7, 7];
        let exclude_none = [4, 0, 0, 0, 239, 1, 2, 4];
        let include_none = [3, 0, 0, 0, 239, 1, 2, 5];
        let cut = [4, 0, 0, 0, 239];
        let message = [head.as_slice(), &block_old, &exclude_none, &include_none, &cut].concat();
        let g = |n| GroupAddr::v4([239, 1, 2, n]);
        assert_eq!(igmp(&with_checksum(message), [1; 4]), Ok(vec![Event::Join(g(3)), Event::Join(g(4)), Event::Leave(g(5))]));
    }

    #[test]
    fn mld_is_the_same_in_version_6() {
        let (src, dst) = ([0xfe; 16], [0xff; 16]);
        let message = |kind: u8, tail: &[u8]| {
            let mut m = [&[kind, 0, 0, 0, 0, 0, 0, 1], tail].concat();
            let sum = pseudo6(&src, &dst, 58, m.len()).plus(&m).finish();
            m[2..4].copy_from_slice(&sum);
            m
        };
        let group = GroupAddr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(mld(&message(131, &group.0), &src, &dst), Ok(vec![Event::Join(group)]));
        assert_eq!(mld(&message(132, &group.0), &src, &dst), Ok(vec![Event::Leave(group)]));
        assert_eq!(mld(&message(130, &[0; 16]), &src, &dst), Ok(vec![Event::Query]));
        let record = [&[2, 0, 0, 0], group.0.as_slice()].concat();
        assert_eq!(mld(&message(143, &record), &src, &dst), Ok(vec![Event::Join(group)]));
        assert_eq!(mld(&message(131, &[]), &src, &dst), Ok(vec![]), "cut off");
        assert_eq!(mld(&[131; 24], &src, &dst), Err(Malformed::MldChecksum));
        assert_eq!(group.ethernet(), [0x33, 0x33, 1, 2, 3, 4]);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut gen_ = flow::extract_gen::PacketGen::new(7);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..gen_.below(60)).map(|_| u8::try_from(gen_.below(256)).unwrap()).collect();
            if let Some(first) = bytes.first_mut() {
                *first = [0x22, 143, 0x16, 131][gen_.below(4)];
            }
            if bytes.len() >= 4 {
                bytes[2..4].fill(0);
                bytes = with_checksum(bytes);
            }
            let _ = igmp(&bytes, [1; 4]);
            let _ = mld(&bytes, &[0; 16], &[0; 16]);
        }
    }
}
