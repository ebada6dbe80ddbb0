//! From a packet to the tuple it is tracked by.
//!
//! What enters: a packet with its key and where its layers begin. What leaves: its tuple, or that of the packet that an ICMP error quotes, or
//! nothing, when it cannot be tracked: no IP, malformed, wrong checksum or length of UDP, port 0, an ICMP message that is neither query nor error.
//! Neighbours: `track`, `nat`.
//!
//! Checksums are verified unless somebody who can be trusted has done so, or the packet never left this machine.

use super::tcp::Segment;
use super::tuple::{Ends, Tuple};
use crate::parsed::Parsed;
use flow::checksum::{Sum, checksum, crc32c, pseudo4, pseudo6};
use flow::extract::{NetworkLayer, is_extension};
use flow::key::FRAG_LATER;
use flow::wire::ip_proto;
use port::{Checksum, Packet};
use std::net::IpAddr;

flow::counters! {
    L3_CHECKSUM = "conntrack_l3csum_err", "A packet to be tracked had a wrong IPv4 checksum.";
    L4_CHECKSUM = "conntrack_l4csum_err", "A packet to be tracked had a wrong transport checksum.";
}

/// What a packet is tracked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub tuple: Tuple,
    /// It is an ICMP error: the tuple is that of an answer to the packet that it quotes.
    pub related: bool,
}

/// The packet that an ICMP error quotes; offsets from the frame's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    pub l3: usize,
    pub l4: usize,
    pub proto: u8,
    pub ends: Ends,
    /// ICMP's type, for a quoted query.
    pub icmp_type: u8,
}

/// The two words (`Tuple::of_words_v4`) of a packet of TCP or UDP over IPv4 that is whole and right. `None` says nothing of others: `see` does.
#[inline(always)]
#[must_use]
pub fn see_common(packet: &Packet, parsed: &Parsed, zone: u16) -> Option<(u64, u64)> {
    let (at, key) = (&parsed.found, &parsed.key);
    let ours = (at.network == NetworkLayer::Ipv4)
        & (key.nw_frag == 0)
        & ((key.nw_proto == ip_proto::UDP) | (key.nw_proto == ip_proto::TCP))
        & (key.tp_src != [0; 2])
        & (key.tp_dst != [0; 2]);
    let right = || match packet.checksum() {
        Checksum::Unknown => common_sums_are_right(packet.data(), parsed),
        Checksum::Good | Checksum::Partial { .. } => length_is_right(packet.data(), parsed),
    };
    if !ours || !right() {
        return None;
    }
    Some(Tuple::words_of_v4(key, zone))
}

/// Bytes of an IPv4 header, and with those of UDP's.
const IPV4: usize = 20;
const IPV4_UDP: usize = IPV4 + 8;

/// Whether the checksums of a packet over IPv4 are right, without options, and the length of UDP's; nothing is counted. Addresses are loaded once, for the header's sum and
/// for the pseudo header's.
#[inline(always)]
pub(super) fn common_sums_are_right(data: &[u8], parsed: &Parsed) -> bool {
    let (at, proto) = (&parsed.found, parsed.key.nw_proto);
    let (l3, l4) = (usize::from(at.l3), usize::from(at.l4));
    let end = data.len().saturating_sub(usize::from(at.l2_pad));
    let Some((head, payload)) = data.get(l3..end).and_then(|ip| ip.split_first_chunk::<IPV4_UDP>()) else {
        return false;
    };
    if l4 != l3 + IPV4 {
        return false;
    }
    let word = |from: usize| u64::from_ne_bytes(std::array::from_fn(|i| head[from + i]));
    let (second, dst) = (word(8), u64::from(u32::from_ne_bytes([head[16], head[17], head[18], head[19]])));
    let src = if cfg!(target_endian = "little") { second >> 32 } else { second & 0xffff_ffff };
    if !Sum::default().plus_word(word(0)).plus_word(second).plus_word(dst).is_right() {
        return false;
    }
    let length = payload.len() + IPV4_UDP - IPV4;
    if proto == ip_proto::UDP && !is_length(u16::from_be_bytes([head[24], head[25]]), length) {
        return false;
    }
    // A UDP packet without a checksum is whole, too.
    let none = proto == ip_proto::UDP && head[26..] == [0, 0];
    let pseudo = pseudo4([0; 4], [0; 4], proto, length).plus_word(src).plus_word(dst);
    none || pseudo.plus_word(word(20)).plus_short(payload).is_right()
}

/// Whether a datagram may say this of its length, header and data (RFC 768), in so many bytes of an IP packet: some may be behind it.
#[inline(always)]
fn is_length(said: u16, bytes: usize) -> bool {
    (8..=bytes).contains(&usize::from(said))
}

/// Whether a packet, if it is of UDP, has the length that it says; nothing is counted.
#[inline]
pub(super) fn length_is_right(data: &[u8], parsed: &Parsed) -> bool {
    if parsed.key.nw_proto != ip_proto::UDP {
        return true;
    }
    let end = data.len().saturating_sub(usize::from(parsed.found.l2_pad));
    let datagram = data.get(usize::from(parsed.found.l4)..end).unwrap_or_default();
    datagram.first_chunk::<8>().is_some_and(|h| is_length(u16::from_be_bytes([h[4], h[5]]), datagram.len()))
}

/// Whether the checksum of a packet of TCP or UDP over IPv6 is right, and the length of UDP's; nothing is counted.
#[inline]
pub(super) fn segment_over_ipv6_is_right(data: &[u8], parsed: &Parsed) -> bool {
    let end = data.len().saturating_sub(usize::from(parsed.found.l2_pad));
    length_is_right(data, parsed)
        && data.get(usize::from(parsed.found.l4)..end).is_some_and(|segment| segment_is_right(segment, parsed))
}

/// The tuple of a packet.
#[inline]
#[must_use]
pub fn see(packet: &Packet, parsed: &Parsed, zone: u16) -> Option<Seen> {
    let (at, key) = (&parsed.found, &parsed.key);
    let four = match at.network {
        NetworkLayer::Ipv4 => true,
        NetworkLayer::Ipv6 => false,
        NetworkLayer::None | NetworkLayer::Arp | NetworkLayer::Nsh | NetworkLayer::Pbb => return None,
    };
    // Fragments are put together before they come here; what is still one cannot be tracked.
    if key.nw_frag != 0 && key.nw_frag & FRAG_LATER != 0 {
        return None;
    }
    if packet.checksum() == Checksum::Unknown && !checksums_are_right(packet.data(), parsed) {
        return None;
    }
    if !length_is_right(packet.data(), parsed) {
        return None;
    }
    let ports = (u16::from_be_bytes(key.tp_src), u16::from_be_bytes(key.tp_dst));
    let of = |ports| if four { Tuple::of_v4(key, ports, zone) } else { Tuple::of_v6(key, ports, zone) };
    let plain = |ports| Some(Seen { tuple: of(ports), related: false });
    match key.nw_proto {
        ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => {
            if ports.0 == 0 || ports.1 == 0 {
                None
            } else {
                plain(ports)
            }
        }
        ip_proto::ICMP if four => icmp(packet, parsed, zone, of),
        ip_proto::ICMPV6 if !four => icmp(packet, parsed, zone, of),
        _ => plain((0, 0)),
    }
}

#[inline(never)]
fn icmp(packet: &Packet, parsed: &Parsed, zone: u16, of: impl Fn((u16, u16)) -> Tuple) -> Option<Seen> {
    let (at, frame) = (&parsed.found, payload(packet, parsed));
    let header: [u8; 8] = *frame.get(usize::from(at.l4)..)?.first_chunk()?;
    let (ty, code) = (header[0], header[1]);
    let six = at.network == NetworkLayer::Ipv6;
    if let Some(answer) = answer_to(ty, six) {
        let id = u16::from_be_bytes([header[4], header[5]]);
        let types = u16::from_be_bytes([ty, answer]);
        return (code == 0).then(|| Seen { tuple: of((id, types)), related: false });
    }
    if !is_error(ty, six) {
        return None;
    }
    let inner = inner(frame, parsed)?;
    let outer = of((0, 0));
    // The quoted packet came from whom the error goes to.
    if inner.ends.src != outer.dst() {
        return None;
    }
    let mut ends = inner.ends;
    if inner.icmp_type != 0 || matches!(inner.proto, ip_proto::ICMP | ip_proto::ICMPV6) {
        ends.dport = u16::from_be_bytes([inner.icmp_type, answer_to(inner.icmp_type, six)?]);
    }
    Some(Seen { tuple: Tuple::new(&ends, inner.proto, zone).reversed(), related: true })
}

/// The type of the answer to a query, or of the query to an answer.
#[must_use]
pub const fn answer_to(ty: u8, six: bool) -> Option<u8> {
    match (six, ty) {
        (false, 8) => Some(0),
        (false, 0) => Some(8),
        (false, 13) => Some(14),
        (false, 14) => Some(13),
        (false, 15) => Some(16),
        (false, 16) => Some(15),
        (true, 128) => Some(129),
        (true, 129) => Some(128),
        _ => None,
    }
}

/// Whether a tuple of ICMP is that of a query, which may begin a connection.
#[must_use]
pub fn is_query(tuple: &Tuple) -> bool {
    let [ty, _] = tuple.dport().to_be_bytes();
    matches!((tuple.proto(), ty), (ip_proto::ICMP, 8 | 13 | 15) | (ip_proto::ICMPV6, 128))
}

/// Unreachable, source quench, redirect, time exceeded, parameter problem; with IPv6 packet too big.
const fn is_error(ty: u8, six: bool) -> bool {
    if six { matches!(ty, 1..=4) } else { matches!(ty, 3 | 4 | 5 | 11 | 12) }
}

/// The frame without padding behind the IP packet.
#[inline]
#[must_use]
pub fn payload<'p>(packet: &'p Packet, parsed: &Parsed) -> &'p [u8] {
    let data = packet.data();
    &data[..data.len().saturating_sub(usize::from(parsed.found.l2_pad))]
}

/// What an ICMP error quotes.
#[must_use]
pub fn inner(frame: &[u8], parsed: &Parsed) -> Option<Inner> {
    let l3 = usize::from(parsed.found.l4) + 8;
    let quoted = frame.get(l3..)?;
    let (src, dst, proto, l4): (IpAddr, IpAddr, u8, usize) = if parsed.found.network == NetworkLayer::Ipv4 {
        let ip: &[u8; 20] = quoted.first_chunk()?;
        let header = usize::from(ip[0] & 0xf) * 4;
        if ip[0] >> 4 != 4 || header < 20 || u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0 {
            return None;
        }
        let [src, dst] = [12, 16].map(|i| IpAddr::from([ip[i], ip[i + 1], ip[i + 2], ip[i + 3]]));
        (src, dst, ip[9], l3 + header)
    } else {
        let ip: &[u8; 40] = quoted.first_chunk()?;
        let mut address = [[0; 16]; 2];
        address[0].copy_from_slice(&ip[8..24]);
        address[1].copy_from_slice(&ip[24..40]);
        let (proto, l4) = after_extensions(quoted, ip[6])?;
        (IpAddr::from(address[0]), IpAddr::from(address[1]), proto, l3 + l4)
    };
    let words: &[u8; 8] = frame.get(l4..)?.first_chunk()?;
    let word = |i: usize| u16::from_be_bytes([words[i], words[i + 1]]);
    let (sport, dport, icmp_type) = match proto {
        ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => (word(0), word(2), 0),
        ip_proto::ICMP | ip_proto::ICMPV6 => (word(4), 0, words[0]),
        _ => (0, 0, 0),
    };
    Some(Inner { l3, l4, proto, ends: Ends { src, dst, sport, dport }, icmp_type })
}

/// The transport protocol and where its header begins; not of later fragments.
fn after_extensions(ip: &[u8], mut next: u8) -> Option<(u8, usize)> {
    let mut at = 40;
    while is_extension(next) {
        let ext: &[u8; 8] = ip.get(at..)?.first_chunk()?;
        if next == ip_proto::FRAGMENT {
            if u16::from_be_bytes([ext[2], ext[3]]) & 0xfff8 != 0 {
                return None;
            }
            at += 8;
        } else if next == ip_proto::AH {
            // RFC 4302, 2.2: in units of 4 bytes, minus 2.
            at += (usize::from(ext[1]) + 2) * 4;
        } else {
            at += (usize::from(ext[1]) + 1) * 8;
        }
        next = ext[0];
    }
    Some((next, at))
}

#[inline]
fn checksums_are_right(data: &[u8], parsed: &Parsed) -> bool {
    let at = &parsed.found;
    let end = data.len().saturating_sub(usize::from(at.l2_pad));
    let (l3, l4) = (usize::from(at.l3), usize::from(at.l4));
    if at.network == NetworkLayer::Ipv4 {
        let header = data.get(l3).map_or(0, |b| usize::from(b & 0xf) * 4);
        let right = match data.get(l3..).and_then(|ip| ip.first_chunk::<20>()) {
            // Nearly all: a number of words that is known needs no loop.
            Some(ip) if header == 20 => checksum(ip) == [0, 0],
            _ => data.get(l3..l3 + header).is_some_and(|h| checksum(h) == [0, 0]),
        };
        if !right {
            L3_CHECKSUM.inc();
            return false;
        }
    }
    let Some(segment) = data.get(l4..end) else {
        return at.l4 == flow::extract::NO_OFFSET;
    };
    let right = segment_is_right(segment, parsed);
    if !right {
        L4_CHECKSUM.inc();
    }
    right
}

#[inline]
fn segment_is_right(segment: &[u8], parsed: &Parsed) -> bool {
    let key = &parsed.key;
    let four = parsed.found.network == NetworkLayer::Ipv4;
    let pseudo = || -> Sum {
        if four {
            pseudo4(key.nw_src, key.nw_dst, key.nw_proto, segment.len())
        } else {
            pseudo6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, segment.len())
        }
    };
    match key.nw_proto {
        ip_proto::UDP if segment.len() >= 8 && segment[6..8] == [0, 0] => four,
        ip_proto::TCP | ip_proto::UDP => pseudo().plus(segment).finish() == [0, 0],
        ip_proto::ICMP if four => checksum(segment) == [0, 0],
        ip_proto::ICMPV6 if !four => pseudo().plus(segment).finish() == [0, 0],
        ip_proto::SCTP if segment.len() >= 12 => {
            let stored = u32::from_le_bytes([segment[8], segment[9], segment[10], segment[11]]);
            crc32c(&[&segment[..8], &[0; 4], &segment[12..]]) == stored
        }
        _ => true,
    }
}

/// What a TCP segment says. `see` has found that it is one.
#[inline]
#[must_use]
pub fn segment(packet: &Packet, parsed: &Parsed) -> Segment {
    let data = payload(packet, parsed);
    let tcp = data.get(usize::from(parsed.found.l4)..).unwrap_or_default();
    let Some(h) = tcp.first_chunk::<20>() else {
        return Segment::default();
    };
    let word = |i: usize| u32::from_be_bytes([h[i], h[i + 1], h[i + 2], h[i + 3]]);
    let header = usize::from(h[12] >> 4) * 4;
    let flags = u16::from_be_bytes([h[12], h[13]]) & 0xfff;
    let scale = if flags & super::tcp::SYN != 0 { scale_option(tcp.get(20..header).unwrap_or_default()) } else { None };
    Segment {
        seq: word(4),
        ack: word(8),
        window: u16::from_be_bytes([h[14], h[15]]),
        len: u32::try_from(tcp.len().saturating_sub(header)).unwrap_or(0),
        flags,
        scale,
    }
}

/// The window scale option (RFC 7323, 2.2).
fn scale_option(mut options: &[u8]) -> Option<u8> {
    const END: u8 = 0;
    const PAD: u8 = 1;
    const SCALE: u8 = 3;
    loop {
        match *options {
            [] | [END, ..] => return None,
            [PAD, ..] => options = &options[1..],
            [SCALE, 3, scale, ..] => return Some(scale),
            [_, len, ..] => options = options.get(usize::from(len.max(2))..)?,
            [_] => return None,
        }
    }
}

/// A packet of TCP or UDP as its sender leaves it whose device is to make the checksum; of other protocols nothing is left.
#[cfg(test)]
pub(super) fn leave_checksum(packet: &mut Packet, parsed: &Parsed) {
    let key = &parsed.key;
    let offset: u16 = match key.nw_proto {
        ip_proto::TCP => 16,
        ip_proto::UDP => 6,
        _ => return,
    };
    let (start, end) = (usize::from(parsed.found.l4), payload(packet, parsed).len());
    let pseudo = if parsed.found.network == NetworkLayer::Ipv4 {
        pseudo4(key.nw_src, key.nw_dst, key.nw_proto, end - start)
    } else {
        pseudo6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, end - start)
    };
    packet.data_mut()[start + usize::from(offset)..][..2].copy_from_slice(&pseudo.fold().to_ne_bytes());
    packet.set_checksum(Checksum::Partial { start: u32::from(parsed.found.l4), offset });
}

/// Puts an extension header behind the header of IPv6 at `l3`: options for the destination, of which there are none (RFC 8200, 4.6).
#[cfg(test)]
pub(super) fn extend_ipv6(frame: &mut Vec<u8>, l3: usize) {
    const DESTINATION: u8 = 60;
    let next = std::mem::replace(&mut frame[l3 + 6], DESTINATION);
    let length = u16::from_be_bytes([frame[l3 + 4], frame[l3 + 5]]) + 8;
    frame[l3 + 4..l3 + 6].copy_from_slice(&length.to_be_bytes());
    frame.splice(l3 + 40..l3 + 40, [next, 0, 1, 4, 0, 0, 0, 0]);
}
