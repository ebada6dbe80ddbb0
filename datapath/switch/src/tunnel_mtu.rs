//! Packets that are too long for a tunnel once its header is on: what a router does with them.
//!
//! What enters: packets before encapsulation, and how many bytes they may have. What leaves: fragments that fit; or an ICMP error to the
//! sender, which comes back by the tunnel as if its other end had sent it, so that rules, zones and mirrors treat it like any packet from there.
//! Neighbours: `execute` (`tnl_push`), `tunnel`, `tunnel_pop`.
//!
//! IPv4 without "don't fragment" is cut (RFC 791, 3.2). Otherwise the sender is told (RFC 1191, 4; RFC 4443, 3.2), unless errors about the packet
//! are forbidden (RFC 1812, 4.3.2.7; RFC 4443, 2.4 e), at most `ANSWERS_MAX` times a second. The error comes from whom the packet
//! was for: the switch has no address there. Frames without IP go on as they are; their device decides.

use crate::bundle::Bundle;
use crate::counters::{DROP_NO_BUFFER, DROP_TUNNEL_MTU, TUNNEL_MTU_ANSWERED, TUNNEL_MTU_FRAGMENTED};
use crate::execute::wire_len;
use crate::forward::{Core, Scope};
use crate::outlets::Outlet;
use crate::parsed::Parsed;
use crate::too_long::Done;
use flow::action::{Action, TunnelPush};
use flow::checksum::{checksum, pseudo6};
use flow::clock::Msec;
use flow::extract::{NetworkLayer, is_extension};
use flow::host_link::HostLink;
use flow::wire::{eth_type, ip_proto};
use port::{GsoKind, Packet, offload};
use std::net::IpAddr;

/// Answers of a forwarding thread in a second (RFC 1812, 4.3.2.8).
pub(crate) const ANSWERS_MAX: u32 = 1000;
const ETH_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const ICMP_BYTES: usize = 8;
/// Bytes of an error's IP packet at most (RFC 1812, 4.3.2.3; RFC 4443, 3.2).
const ANSWER_MAX: [usize; 2] = [576, 1280];
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_BITS: u16 = 0x1fff;
const TTL: u8 = 64;

/// How many answers this second has had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    second: Msec,
    given: u32,
}

impl Answers {
    /// Whether one more may be given.
    fn admit(&mut self, now_ms: Msec) -> bool {
        let second = now_ms / 1000;
        if second != self.second {
            *self = Self { second, given: 0 };
        }
        self.given += 1;
        self.given <= ANSWERS_MAX
    }
}

/// What is to be done with a packet.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Its sender is told, by this frame.
    Answer(Vec<u8>),
    Cut,
    Drop,
    Pass,
}

impl Core {
    /// Bytes that a frame may have which `push` and then `rest` are to be done with.
    #[inline]
    pub(crate) fn room_behind(&self, push: &TunnelPush, rest: &[Action]) -> usize {
        let mtu_of = |action: &Action| {
            let Action::Output(port) = action else { return None };
            self.outlets.outlet(port.0).map(Outlet::mtu)
        };
        let by_host = || HostLink::of(&push.header).map(|link| link.mtu as usize).filter(|mtu| *mtu != 0);
        let mtu = if push.out_port == push.tunnel_port { by_host() } else { rest.iter().filter_map(mtu_of).min() };
        let mtu = mtu.unwrap_or(usize::MAX);
        mtu.saturating_add(ETH_BYTES).saturating_sub(push.header.len())
    }

    /// Leaves in `bundle` what fits; the rest is cut and sent on, or its senders are told.
    #[cold]
    pub(crate) fn fit(&mut self, scope: Scope<'_>, bundle: &mut Bundle, (push, room): (&TunnelPush, usize), rest: &[Action]) {
        let mut long = self.spares.take_like(bundle);
        bundle.split(|_, packet| wire_len(packet) <= room, Some(&mut long));
        let mut packets = std::mem::take(&mut long.packets);
        let mut out = self.spares.take_like(&long);
        for (packet, parsed) in packets.drain().zip(&long.parsed) {
            for piece in pieces(packet) {
                let l3 = usize::from(parsed.found.l3);
                let lengths = (piece.len().saturating_sub(l3), room.saturating_sub(l3));
                match judge(&piece, parsed, room) {
                    Fate::Answer(frame) => {
                        let done = if self.answer(scope, &frame, push) { Done::Answered } else { Done::Dropped };
                        self.note(push, lengths, done);
                        break;
                    }
                    Fate::Cut => {
                        TUNNEL_MTU_FRAGMENTED.inc();
                        self.note(push, lengths, Done::Fragmented);
                        for fragment in cut(&piece, usize::from(parsed.found.l3), room) {
                            out = self.add_fragment(scope, out, fragment, (push, rest));
                        }
                    }
                    Fate::Drop => {
                        DROP_TUNNEL_MTU.inc();
                        self.note(push, lengths, Done::Dropped);
                    }
                    Fate::Pass => out = self.add_fragment(scope, out, piece, (push, rest)),
                }
            }
        }
        self.spares.give(long);
        self.push_again(scope, out, push, rest);
    }

    /// Tells the tunnel port of a packet.
    fn note(&self, push: &TunnelPush, lengths: (usize, usize), done: Done) {
        let port = self.outlets.outlet(push.tunnel_port.0).and_then(|outlet| outlet.too_long.as_deref());
        if let (Some(port), Some(remote)) = (port, outer_dst(&push.header)) {
            port.note(remote, lengths, done, self.now_ms);
        }
    }

    fn add_fragment(
        &mut self,
        scope: Scope<'_>,
        mut out: Box<Bundle>,
        fragment: Packet,
        (push, rest): (&TunnelPush, &[Action]),
    ) -> Box<Bundle> {
        if out.packets.is_full() {
            let next = self.spares.take_like(&out);
            self.push_again(scope, out, push, rest);
            out = next;
        }
        let at = out.packets.len();
        // Rules have seen the packet that it is a part of; only the hash of its flow is still wanted.
        out.parsed[at].read(fragment.data(), &flow::extract::PacketMeta::default());
        // There is room now.
        let _ = out.packets.push(fragment);
        out
    }

    /// Encapsulates what fits by now, and goes on with it.
    fn push_again(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, push: &TunnelPush, rest: &[Action]) {
        if bundle.packets.is_empty() {
            return self.spares.give(bundle);
        }
        self.encapsulate(scope, &mut bundle, push, rest);
        self.run(scope, bundle, rest);
    }

    /// Lets an answer come in by the tunnel: it is encapsulated as the other end would have done, and decapsulated. False if none is given.
    fn answer(&mut self, scope: Scope<'_>, frame: &[u8], push: &TunnelPush) -> bool {
        if !self.answers.admit(self.now_ms) {
            DROP_TUNNEL_MTU.inc();
            return false;
        }
        let Some(packet) = Packet::from_bytes(frame) else {
            DROP_NO_BUFFER.inc();
            return false;
        };
        let back = TunnelPush { header: turned(&push.header), ..push.clone() };
        let mut bundle = self.spares.take();
        // An empty bundle has room.
        let _ = bundle.packets.push(packet);
        self.encapsulate(scope, &mut bundle, &back, &[]);
        TUNNEL_MTU_ANSWERED.inc();
        self.tunnel_pop(scope, bundle, push.tunnel_port);
        true
    }
}

/// A packet as a wire would carry it.
fn pieces(mut packet: Packet) -> Vec<Packet> {
    let mut out = Vec::new();
    if packet.gso().kind == GsoKind::None {
        if offload::complete(&mut packet) {
            out.push(packet);
        } else {
            DROP_TUNNEL_MTU.inc();
        }
    } else if offload::segment(&packet, &mut |piece| out.push(piece)).is_err() {
        DROP_NO_BUFFER.inc();
    }
    out
}

/// An outer header with its two ends exchanged.
fn turned(header: &[u8]) -> Vec<u8> {
    let mut out = header.to_vec();
    let mut exchange = |at: usize, len: usize| {
        if let Some(ends) = out.get_mut(at..at + 2 * len) {
            let (a, b) = ends.split_at_mut(len);
            a.swap_with_slice(b);
        }
    };
    exchange(0, 6);
    let at = outer_l3(header);
    match header.get(at).map(|byte| byte >> 4) {
        Some(4) => exchange(at + 12, 4),
        Some(6) => exchange(at + 8, 16),
        _ => {}
    }
    out
}

/// Where an outer header's IP header begins.
fn outer_l3(header: &[u8]) -> usize {
    let (mut at, mut ty) = (ETH_BYTES, header.get(12..14));
    while ty.is_some_and(|t| matches!(u16::from_be_bytes([t[0], t[1]]), eth_type::VLAN | eth_type::QINQ)) {
        ty = header.get(at + 2..at + 4);
        at += 4;
    }
    at
}

/// Who an outer header is for.
fn outer_dst(header: &[u8]) -> Option<IpAddr> {
    let ip = header.get(outer_l3(header)..)?;
    match ip.first()? >> 4 {
        4 => ip.get(16..)?.first_chunk::<4>().map(|a| IpAddr::from(*a)),
        6 => ip.get(24..)?.first_chunk::<16>().map(|a| IpAddr::from(*a)),
        _ => None,
    }
}

/// What is to be done with a frame that has more than `room` bytes.
fn judge(packet: &Packet, parsed: &Parsed, room: usize) -> Fate {
    let l3 = usize::from(parsed.found.l3);
    let frame = packet.data();
    if frame.len() <= room {
        return Fate::Pass;
    }
    let mtu = room.saturating_sub(l3);
    let answer = match parsed.found.network {
        NetworkLayer::Ipv4 => {
            let Some(ip) = frame.get(l3..).and_then(|ip| ip.first_chunk::<IPV4_BYTES>()) else { return Fate::Drop };
            if u16::from_be_bytes([ip[6], ip[7]]) & DONT_FRAGMENT == 0 {
                return Fate::Cut;
            }
            answer4(frame, l3, mtu)
        }
        NetworkLayer::Ipv6 => answer6(frame, l3, mtu),
        NetworkLayer::None | NetworkLayer::Arp | NetworkLayer::Nsh | NetworkLayer::Pbb => return Fate::Pass,
    };
    answer.map_or(Fate::Drop, Fate::Answer)
}

/// The link-layer header of an answer; `None` to a frame that was for many.
fn link_back(frame: &[u8], l3: usize) -> Option<Vec<u8>> {
    if l3 < ETH_BYTES {
        // A tunnel of packets without Ethernet.
        return (l3 == 0).then(Vec::new);
    }
    let mut link = frame.get(..l3)?.to_vec();
    if link[0] & 1 != 0 {
        return None;
    }
    let (dst, rest) = link.split_at_mut(6);
    dst.swap_with_slice(&mut rest[..6]);
    Some(link)
}

/// "Fragmentation needed", with the MTU of the next hop (RFC 1191, 4).
fn answer4(frame: &[u8], l3: usize, mtu: usize) -> Option<Vec<u8>> {
    let ip = frame.get(l3..)?;
    let header: [u8; IPV4_BYTES] = *ip.first_chunk()?;
    let bytes = usize::from(header[0] & 15) * 4;
    let first = u16::from_be_bytes([header[6], header[7]]) & OFFSET_BITS == 0;
    let is_error = header[9] == ip_proto::ICMP && !matches!(ip.get(bytes), Some(0 | 8 | 13..=18));
    // Neither a multicast or broadcast address nor one of "this network" (RFC 1122, 3.2.1.3).
    let is_one = |address: &[u8]| (1..224).contains(&address[0]);
    if !first || is_error || !is_one(&header[12..16]) || !is_one(&header[16..20]) {
        return None;
    }
    let mut out = link_back(frame, l3)?;
    let quoted = &ip[..ip.len().min(ANSWER_MAX[0] - IPV4_BYTES - ICMP_BYTES)];
    let total = u16::try_from(IPV4_BYTES + ICMP_BYTES + quoted.len()).ok()?.to_be_bytes();
    let mut new = [0x45, 0xc0, total[0], total[1], 0, 0, 0, 0, TTL, ip_proto::ICMP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    new[12..16].copy_from_slice(&header[16..20]);
    new[16..20].copy_from_slice(&header[12..16]);
    let sum = checksum(&new);
    new[10..12].copy_from_slice(&sum);
    out.extend(new);
    let icmp = out.len();
    let [high, low] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
    out.extend([3, 4, 0, 0, 0, 0, high, low]);
    out.extend(quoted);
    let sum = checksum(&out[icmp..]);
    out[icmp + 2..icmp + 4].copy_from_slice(&sum);
    Some(out)
}

/// "Packet too big" (RFC 4443, 3.2).
fn answer6(frame: &[u8], l3: usize, mtu: usize) -> Option<Vec<u8>> {
    let ip = frame.get(l3..)?;
    let header: [u8; IPV6_BYTES] = *ip.first_chunk()?;
    let (src, dst): ([u8; 16], [u8; 16]) = (header[8..24].try_into().ok()?, header[24..40].try_into().ok()?);
    if src == [0; 16] || src[0] == 0xff || dst[0] == 0xff || is_icmp6_error(ip, header[6]) {
        return None;
    }
    let mut out = link_back(frame, l3)?;
    let quoted = &ip[..ip.len().min(ANSWER_MAX[1] - IPV6_BYTES - ICMP_BYTES)];
    let payload = u16::try_from(ICMP_BYTES + quoted.len()).ok()?.to_be_bytes();
    let mut new = [0; IPV6_BYTES];
    (new[0], new[4], new[5], new[6], new[7]) = (0x60, payload[0], payload[1], ip_proto::ICMPV6, TTL);
    new[8..24].copy_from_slice(&dst);
    new[24..40].copy_from_slice(&src);
    out.extend(new);
    let icmp = out.len();
    out.extend([2, 0, 0, 0]);
    out.extend(u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(quoted);
    let sum = pseudo6(&dst, &src, ip_proto::ICMPV6, out.len() - icmp).plus(&out[icmp..]).finish();
    out[icmp + 2..icmp + 4].copy_from_slice(&sum);
    Some(out)
}

/// Whether the packet is an ICMPv6 error, or cannot be told not to be one (a later fragment).
fn is_icmp6_error(ip: &[u8], mut next: u8) -> bool {
    let mut at = IPV6_BYTES;
    while is_extension(next) {
        let Some(ext) = ip.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { return true };
        if next == ip_proto::FRAGMENT && u16::from_be_bytes([ext[2], ext[3]]) & 0xfff8 != 0 {
            return true;
        }
        at += match next {
            ip_proto::FRAGMENT => 8,
            // RFC 4302, 2.2: in units of 4 bytes, minus 2.
            ip_proto::AH => (usize::from(ext[1]) + 2) * 4,
            _ => (usize::from(ext[1]) + 1) * 8,
        };
        next = ext[0];
    }
    next == ip_proto::ICMPV6 && ip.get(at).is_none_or(|ty| *ty < 128)
}

/// Cuts an IPv4 packet into fragments of at most `room` bytes each, frame header included. Nothing if it is not what it says.
fn cut(packet: &Packet, l3: usize, room: usize) -> Vec<Packet> {
    let frame = packet.data();
    let mut out = Vec::new();
    let Some(ip) = frame.get(l3..).filter(|ip| ip.len() >= IPV4_BYTES) else { return out };
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len());
    let step = room.saturating_sub(l3 + header) / 8 * 8;
    if header < IPV4_BYTES || total <= header || step == 0 {
        DROP_TUNNEL_MTU.inc();
        return out;
    }
    let word = u16::from_be_bytes([ip[6], ip[7]]);
    for (i, data) in ip[header..total].chunks(step).enumerate() {
        let Some(mut piece) = Packet::with_capacity(l3 + header + data.len()) else {
            DROP_NO_BUFFER.inc();
            break;
        };
        piece.set_len(l3 + header + data.len());
        piece.set_queue(packet.queue());
        let bytes = piece.data_mut();
        bytes[..l3 + header].copy_from_slice(&frame[..l3 + header]);
        bytes[l3 + header..].copy_from_slice(data);
        let last = header + i * step + data.len() == total;
        let units = u16::try_from(i * step / 8).unwrap_or(OFFSET_BITS);
        let more = if last { word & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let new = &mut bytes[l3..l3 + header];
        new[6..8].copy_from_slice(&((word & OFFSET_BITS).wrapping_add(units) & OFFSET_BITS | more).to_be_bytes());
        new[2..4].copy_from_slice(&u16::try_from(header + data.len()).unwrap_or(u16::MAX).to_be_bytes());
        if i > 0 {
            keep_copied(&mut new[IPV4_BYTES..]);
        }
        new[10..12].fill(0);
        let sum = checksum(new);
        new[10..12].copy_from_slice(&sum);
        out.push(piece);
    }
    out
}

/// Options without the "copied" bit stand in the first fragment only (RFC 791, 3.1); here they become "no operation".
fn keep_copied(options: &mut [u8]) {
    const END: u8 = 0;
    const NONE: u8 = 1;
    let mut at = 0;
    while at < options.len() && options[at] != END {
        let len = if options[at] == NONE { 1 } else { usize::from(options.get(at + 1).copied().unwrap_or(1)).max(1) };
        let end = (at + len).min(options.len());
        if options[at] & 0x80 == 0 {
            options[at..end].fill(NONE);
        }
        at = end;
    }
}

#[cfg(test)]
#[path = "tunnel_mtu_tests.rs"]
mod tests;
