//! Address translation: which tuple a connection gets, and the change of its packets.
//!
//! What enters: a new connection's tuple and what the action asks for; a packet with the tuple that it has and the one it shall have. What
//! leaves: the tuple that answers will come with; the packet changed. Neighbours: `track`.
//!
//! A connection keeps the tuple of its original direction and that of its answers; translation is the difference: a packet of the original
//! direction shall look as if answers to it had the reply tuple, an answer as if it answered the original one. So what was done is undone
//! exactly, whatever was done.
//!
//! Checksums are updated, not computed (RFC 1624). A partial one holds the pseudo header's sum: addresses count in it, ports do not. In an ICMP
//! error the quoted packet is changed the other way round, with its own checksums as far as they are quoted.

use super::packet::{self, Inner};
use super::tuple::{Tuple, V4};
use crate::hash::fold;
use crate::parsed::Parsed;
use flow::action::Nat;
use flow::checksum::{Sum, checksum, crc32c, pseudo6, updated, updated_by, updated_words};
use flow::extract::NetworkLayer;
use flow::wire::ip_proto;
use port::{Checksum, Packet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ports that are tried before another place of the range is looked at.
const ATTEMPTS_MAX: u32 = 128;
/// So few are not worth another round.
const ATTEMPTS_MIN: u32 = 16;

/// The tuple that answers to a new connection shall come with. `seed` is the connection's own number (its hash), `luck` a random one;
/// `is_free` says whether no connection has that reply tuple. `None` when no tuple is free.
#[must_use]
pub fn choose(nat: &Nat, orig: &Tuple, seed: u64, luck: u64, is_free: &dyn Fn(&Tuple) -> bool) -> Option<Tuple> {
    let seed = if nat.random { luck } else { seed };
    // A persistent mapping depends on the client alone, so that all its connections have the same address.
    let by_client = fold(orig.0[0] ^ 0x5851_f42d_4c95_7f2d, orig.0[1] ^ 0x9e37_79b9_7f4a_7c15);
    let address = address(nat, orig, if nat.persistent { by_client } else { seed });
    let reply = orig.reversed();
    let reply = if nat.src { reply.with_dst(address) } else { reply.with_src(address) };
    if !matches!(orig.proto(), ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP) {
        return is_free(&reply).then_some(reply);
    }
    if !nat.src
        && let Some(range) = nat.ports
    {
        let try_port = |port| reply.with_ports(port, orig.sport());
        let first = start(range, seed);
        if let Some(found) = search(range, first, luck, &try_port, is_free) {
            return Some(found);
        }
        let try_port = |port| reply.with_ports(first, port);
        return search(like(orig.sport()), orig.sport(), luck, &try_port, is_free);
    }
    let try_port = |port| reply.with_ports(orig.dport(), port);
    match nat.ports {
        Some(range) => search(range, start(range, seed), luck, &try_port, is_free),
        None => search(like(orig.sport()), orig.sport(), luck, &try_port, is_free),
    }
}

fn address(nat: &Nat, orig: &Tuple, seed: u64) -> IpAddr {
    let own = if nat.src { orig.src() } else { orig.dst() };
    match nat.addr {
        // No address, or 0.0.0.0: only ports are changed, where they would clash.
        None => own,
        Some((min, _)) if min.is_unspecified() => own,
        Some((IpAddr::V4(min), IpAddr::V4(max))) if orig.family() == V4 => {
            let (low, span) = (u32::from(min), u64::from(u32::from(max).saturating_sub(u32::from(min))) + 1);
            let offset = u32::try_from(seed % span).expect("below 2^32");
            IpAddr::V4(Ipv4Addr::from(low.wrapping_add(offset)))
        }
        Some((IpAddr::V6(min), IpAddr::V6(max))) if orig.family() != V4 => {
            let (low, span) = (u128::from(min), u128::from(max).saturating_sub(u128::from(min)).saturating_add(1));
            IpAddr::V6(Ipv6Addr::from(low.wrapping_add(u128::from(seed) % span)))
        }
        Some(_) => own,
    }
}

/// Where the search begins in a range.
fn start((min, max): (u16, u16), seed: u64) -> u16 {
    let span = u64::from(max.saturating_sub(min)) + 1;
    min.saturating_add(u16::try_from((seed >> 16) % span).expect("a range of ports fits 16 bits"))
}

/// Ports that stand for one that the sender chose: privileged ones stay so.
const fn like(port: u16) -> (u16, u16) {
    match port {
        0..512 => (1, 511),
        512..1024 => (600, 1023),
        1024.. => (1024, u16::MAX),
    }
}

fn search(
    (min, max): (u16, u16),
    first: u16,
    luck: u64,
    tuple: &dyn Fn(u16) -> Tuple,
    is_free: &dyn Fn(&Tuple) -> bool,
) -> Option<Tuple> {
    let span = u32::from(max - min) + 1;
    let outside = !(min..=max).contains(&first);
    // The port that the sender has may stand outside of the range: it is tried besides.
    let (mut port, mut attempts) = (first, span.min(ATTEMPTS_MAX) + u32::from(outside));
    let mut luck = luck;
    loop {
        for _ in 0..attempts {
            let candidate = tuple(port);
            if is_free(&candidate) {
                return Some(candidate);
            }
            port = if (min..max).contains(&port) { port + 1 } else { min };
        }
        if attempts >= span || attempts < ATTEMPTS_MIN {
            return None;
        }
        attempts /= 2;
        luck = fold(luck, 0x9e37_79b9_7f4a_7c15);
        port = start((min, max), luck);
    }
}

/// Changes a packet that has the tuple `from` (or is an ICMP error about a packet of the other direction) so that it has `to`, and its key.
pub fn apply(packet: &mut Packet, parsed: &mut Parsed, from: &Tuple, to: &Tuple, related: bool) {
    let quoted = if related { packet::inner(packet::payload(packet, parsed), parsed) } else { None };
    if related && quoted.is_none() {
        return;
    }
    let partial = match packet.checksum() {
        Checksum::Partial { start, .. } => start == u32::from(parsed.found.l4),
        Checksum::Unknown | Checksum::Good => false,
    };
    let end = packet::payload(packet, parsed).len();
    let bytes = &mut packet.data_mut()[..end];
    let mut edit = Edit { bytes, parsed, partial };
    edit.addresses(from, to);
    match &quoted {
        None => edit.ports(from, to),
        Some(inner) => edit.quoted(inner, &from.reversed(), &to.reversed()),
    }
    if related && partial {
        packet.set_checksum(Checksum::Good);
    }
}

/// `apply` for what is common: TCP or UDP over IPv4 with a whole checksum. False, and nothing done, for others.
#[inline]
#[must_use]
pub fn apply_common(packet: &mut Packet, parsed: &mut Parsed, from: &Tuple, to: &Tuple) -> bool {
    let proto = from.proto();
    let place = match proto {
        ip_proto::TCP => 16,
        ip_proto::UDP => 6,
        _ => return false,
    };
    let whole = !matches!(packet.checksum(), Checksum::Partial { .. });
    if parsed.found.network != NetworkLayer::Ipv4 || parsed.key.nw_proto != proto || !whole {
        return false;
    }
    let (l3, l4) = (usize::from(parsed.found.l3), usize::from(parsed.found.l4));
    let data = packet.data_mut();
    if l3 + 20 > l4 || l4 + place + 2 > data.len() {
        return false;
    }
    let (ip, transport) = data.split_at_mut(l4);
    let (Some(ip), Some(ports)) = (ip[l3..].first_chunk_mut::<20>(), transport.first_chunk_mut::<4>()) else {
        return false;
    };
    let (new, was) = (to.words_v4(), from.words_v4());
    let mut old = [0; 12];
    old[..8].copy_from_slice(&ip[12..]);
    old[8..].copy_from_slice(ports);
    if old != was {
        return false;
    }
    ip[12..].copy_from_slice(&new[..8]);
    ports.copy_from_slice(&new[8..]);
    let (addresses, new_addresses) = (old.first_chunk::<8>(), new.first_chunk::<8>());
    if let (Some(old), Some(new)) = (addresses, new_addresses) {
        let sum = updated_words([ip[10], ip[11]], old, new);
        ip[10..12].copy_from_slice(&sum);
    }
    let sum = [transport[place], transport[place + 1]];
    let udp = proto == ip_proto::UDP;
    if !(udp && sum == [0, 0]) {
        let sum = match updated_words(sum, &old, &new) {
            [0, 0] if udp => [0xff; 2],
            sum => sum,
        };
        transport[place..place + 2].copy_from_slice(&sum);
    }
    let key = &mut parsed.key;
    let [s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, p2, p3] = new;
    (key.nw_src, key.nw_dst) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    (key.tp_src, key.tp_dst) = ([p0, p1], [p2, p3]);
    true
}

/// What translating a packet over IPv4 changes its checksums by: of the direction that began the header's and the transport's, then of the answers.
/// A connection's packets are all changed alike, so that this is kept with it.
#[must_use]
pub fn changes_v4(orig: &Tuple, reply: &Tuple) -> [u16; 4] {
    let addresses = |tuple: &Tuple| in_memory(tuple.words()[0]);
    let ports = |tuple: &Tuple| Tuple::ports_in_memory(tuple.words()[1]);
    // A tuple and its reverse have the same sums.
    let change = |from: &Tuple, to: &Tuple| {
        let change = Sum::of_change(addresses(from), addresses(to));
        let with_ports = change.plus_word(u64::from(!ports(from)) + u64::from(ports(to)));
        [change.fold(), with_ports.fold()]
    };
    let ([a, b], [c, d]) = (change(orig, reply), change(reply, orig));
    [a, b, c, d]
}

/// Addresses over IPv4 (`Tuple::of_words_v4`) as they stand in a header.
#[inline(always)]
const fn in_memory(ends: u64) -> u64 {
    if cfg!(target_endian = "little") { ends } else { ends.rotate_left(32) }
}

const IPV4: usize = 20;
/// Bytes of the headers of IPv4 and UDP, and of IPv4 and TCP, up to the end of the transport's checksum.
pub const UP_TO_SUM_OF_UDP: usize = IPV4 + 8;
pub const UP_TO_SUM_OF_TCP: usize = IPV4 + 18;

/// The headers of a packet over IPv4 without options whose checksums are there.
#[inline(always)]
pub fn short_headers<'p, const HEADERS: usize>(packet: &'p mut Packet, parsed: &Parsed) -> Option<&'p mut [u8; HEADERS]> {
    let (l3, l4) = (usize::from(parsed.found.l3), usize::from(parsed.found.l4));
    if l4 != l3 + IPV4 || matches!(packet.checksum(), Checksum::Partial { .. }) {
        return None;
    }
    packet.data_mut().get_mut(l3..)?.first_chunk_mut()
}

/// `apply_common` for UDP or TCP over IPv4, of which there are `HEADERS` bytes to be seen, of a packet whose key and headers have another tuple than `to`
/// (`Tuple::of_words_v4`); `changes` are those of its direction (`changes_v4`).
#[inline(always)]
#[must_use]
pub fn apply_short<const HEADERS: usize>(packet: &mut Packet, parsed: &mut Parsed, to: (u64, u64), changes: [u16; 2]) -> bool {
    let udp = const { HEADERS == UP_TO_SUM_OF_UDP };
    let Some(headers) = short_headers::<HEADERS>(packet, parsed) else { return false };
    let (addresses, ports) = (in_memory(to.0), Tuple::ports_in_memory(to.1));
    headers[12..20].copy_from_slice(&addresses.to_ne_bytes());
    headers[20..24].copy_from_slice(&ports.to_ne_bytes());
    let sum = updated_by([headers[10], headers[11]], changes[0]);
    headers[10..12].copy_from_slice(&sum);
    let sum = [headers[HEADERS - 2], headers[HEADERS - 1]];
    if !udp || sum != [0, 0] {
        let sum = match updated_by(sum, changes[1]) {
            [0, 0] if udp => [0xff; 2],
            sum => sum,
        };
        headers[HEADERS - 2..].copy_from_slice(&sum);
    }
    let key = &mut parsed.key;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses.to_ne_bytes();
    (key.nw_src, key.nw_dst) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    let [s0, s1, d0, d1] = ports.to_ne_bytes();
    (key.tp_src, key.tp_dst) = ([s0, s1], [d0, d1]);
    true
}

struct Edit<'p> {
    bytes: &'p mut [u8],
    parsed: &'p mut Parsed,
    partial: bool,
}

/// Source and destination of `to` where it differs from `from`, else those of the packet.
fn changed<const N: usize>(old: [u8; N], from: IpAddr, to: IpAddr) -> [u8; N] {
    let mut new = old;
    if from != to {
        match to {
            IpAddr::V4(a) => new.copy_from_slice(&a.octets()),
            IpAddr::V6(a) => new.copy_from_slice(&a.octets()),
        }
    }
    new
}

/// Where a protocol's checksum is in its header, and whether addresses count in it.
const fn checksum_place(proto: u8) -> Option<usize> {
    match proto {
        ip_proto::TCP => Some(16),
        ip_proto::UDP => Some(6),
        ip_proto::ICMPV6 => Some(2),
        _ => None,
    }
}

fn update(bytes: &mut [u8], at: usize, udp: bool, from: &[u8], to: &[u8]) {
    let Some(sum) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<2>()) else {
        return;
    };
    if udp && *sum == [0, 0] {
        return;
    }
    *sum = updated(*sum, from, to);
    if udp && *sum == [0, 0] {
        *sum = [0xff; 2];
    }
}

impl Edit<'_> {
    fn addresses(&mut self, from: &Tuple, to: &Tuple) {
        let (l3, l4) = (usize::from(self.parsed.found.l3), usize::from(self.parsed.found.l4));
        let key = &mut self.parsed.key;
        let proto = key.nw_proto;
        if self.parsed.found.network == NetworkLayer::Ipv4 {
            let old = [key.nw_src, key.nw_dst];
            key.nw_src = changed(key.nw_src, from.src(), to.src());
            key.nw_dst = changed(key.nw_dst, from.dst(), to.dst());
            let new = [key.nw_src, key.nw_dst];
            let (old, new) = (old.as_flattened(), new.as_flattened());
            self.bytes[l3 + 12..l3 + 20].copy_from_slice(new);
            update(self.bytes, l3 + 10, false, old, new);
            if proto != ip_proto::ICMPV6 {
                self.readdress(l4, proto, old, new);
            }
        } else {
            let old = [key.ipv6_src, key.ipv6_dst];
            key.ipv6_src = changed(key.ipv6_src, from.src(), to.src());
            key.ipv6_dst = changed(key.ipv6_dst, from.dst(), to.dst());
            let new = [key.ipv6_src, key.ipv6_dst];
            let (old, new) = (old.as_flattened(), new.as_flattened());
            self.bytes[l3 + 8..l3 + 40].copy_from_slice(new);
            self.readdress(l4, proto, old, new);
        }
    }

    /// Addresses count in the transport's checksum.
    fn readdress(&mut self, l4: usize, proto: u8, old: &[u8], new: &[u8]) {
        let Some(place) = checksum_place(proto) else { return };
        let at = l4 + place;
        if self.partial {
            // It is a sum, not a complement of one.
            if let Some(sum) = self.bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<2>()) {
                *sum = updated(sum.map(|b| !b), old, new).map(|b| !b);
            }
        } else {
            update(self.bytes, at, proto == ip_proto::UDP, old, new);
        }
    }

    fn ports(&mut self, from: &Tuple, to: &Tuple) {
        if from.is_icmp() || from.0[4] == to.0[4] {
            return;
        }
        let l4 = usize::from(self.parsed.found.l4);
        let proto = from.proto();
        let Some(place) = self.bytes.get_mut(l4..).and_then(|b| b.first_chunk_mut::<4>()) else {
            return;
        };
        let old = *place;
        let (sport, dport) = (to.sport().to_be_bytes(), to.dport().to_be_bytes());
        let new = [sport[0], sport[1], dport[0], dport[1]];
        (self.parsed.key.tp_src, self.parsed.key.tp_dst) = (sport, dport);
        if proto == ip_proto::SCTP {
            return self.sctp_ports(l4, new);
        }
        *place = new;
        if !self.partial
            && let Some(sum) = checksum_place(proto)
        {
            update(self.bytes, l4 + sum, proto == ip_proto::UDP, &old, &new);
        }
    }

    fn sctp_ports(&mut self, l4: usize, new: [u8; 4]) {
        let crc = |segment: &[u8]| crc32c(&[&segment[..8], &[0; 4], &segment[12..]]);
        let Some(segment) = self.bytes.get_mut(l4..).filter(|s| s.len() >= 12) else { return };
        let stored = u32::from_le_bytes([segment[8], segment[9], segment[10], segment[11]]);
        let before = crc(segment);
        segment[..4].copy_from_slice(&new);
        if !self.partial {
            // A wrong checksum stays wrong.
            let now = stored ^ before ^ crc(segment);
            segment[8..12].copy_from_slice(&now.to_le_bytes());
        }
    }

    /// The quoted packet of an ICMP error, and then the error's own checksum.
    fn quoted(&mut self, inner: &Inner, from: &Tuple, to: &Tuple) {
        let four = self.parsed.found.network == NetworkLayer::Ipv4;
        let (at, len) = if four { (inner.l3 + 12, 8) } else { (inner.l3 + 8, 32) };
        let old = self.bytes[at..at + len].to_vec();
        let mut new = Vec::with_capacity(len);
        for address in [to.src(), to.dst()] {
            match address {
                IpAddr::V4(a) => new.extend(a.octets()),
                IpAddr::V6(a) => new.extend(a.octets()),
            }
        }
        if new.len() != len {
            return;
        }
        self.bytes[at..at + len].copy_from_slice(&new);
        if four {
            update(self.bytes, inner.l3 + 10, false, &old, &new);
        }
        if let Some(place) = checksum_place(inner.proto).filter(|_| !(four && inner.proto == ip_proto::ICMPV6)) {
            update(self.bytes, inner.l4 + place, inner.proto == ip_proto::UDP, &old, &new);
        }
        self.quoted_ports(inner, from, to);
        self.icmp_checksum(four);
    }

    fn quoted_ports(&mut self, inner: &Inner, from: &Tuple, to: &Tuple) {
        let has_ports = matches!(inner.proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
        let Some(place) = self.bytes.get_mut(inner.l4..).and_then(|b| b.first_chunk_mut::<4>()).filter(|_| has_ports) else {
            return;
        };
        let old = *place;
        let (sport, dport) = (to.sport().to_be_bytes(), to.dport().to_be_bytes());
        *place = [sport[0], sport[1], dport[0], dport[1]];
        let new = *place;
        if from.0[4] != to.0[4]
            && let Some(sum) = checksum_place(inner.proto)
        {
            update(self.bytes, inner.l4 + sum, inner.proto == ip_proto::UDP, &old, &new);
        }
    }

    fn icmp_checksum(&mut self, four: bool) {
        let l4 = usize::from(self.parsed.found.l4);
        self.bytes[l4 + 2..l4 + 4].fill(0);
        let message = &self.bytes[l4..];
        let sum = if four {
            checksum(message)
        } else {
            let key = &self.parsed.key;
            pseudo6(&key.ipv6_src, &key.ipv6_dst, ip_proto::ICMPV6, message.len()).plus(message).finish()
        };
        self.bytes[l4 + 2..l4 + 4].copy_from_slice(&sum);
    }
}

#[cfg(test)]
#[path = "nat_tests.rs"]
mod tests;
