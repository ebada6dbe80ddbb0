//! Helpers: what FTP and TFTP say of connections to come.
//!
//! What enters: packets of control connections that were committed with a helper. What leaves: expectations; under NAT, payload with the
//! addresses that the other side can use. Neighbours: `ftp` (the text), `expect`, `track`.
//!
//! A changed payload may have another length: from then on sequence numbers of that direction are moved by `skew`, and acknowledgments of
//! the other moved back. The tracker sees the numbers of the ends themselves: acknowledgments are moved before it looks, sequence numbers
//! after. Selective acknowledgments are left as they are.

use super::Ct;
use super::entry::{Entry, SKEWED};
use super::expect::{Expectation, LIFE_MS};
use super::ftp::{self, Announced, Kind as Says};
use super::packet;
use super::tuple::Tuple;
use crate::parsed::Parsed;
use flow::checksum::{checksum, pseudo4, pseudo6, updated};
use flow::clock::Msec;
use flow::extract::NetworkLayer;
use flow::wire::ip_proto;
use port::{Checksum, GsoKind, Packet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::Ordering;

flow::counters! {
    HELPER_NO_ROOM = "conntrack_helper_no_room", "A helper's packet had no room for another address.";
}

/// No helper.
pub const NONE: u8 = 0;
pub const FTP: u8 = 1;
pub const TFTP: u8 = 2;

/// The helper of a name.
#[must_use]
pub fn of_name(name: &str) -> u8 {
    match name {
        "ftp" => FTP,
        "tftp" => TFTP,
        _ => NONE,
    }
}

/// A helper's name, for dumps.
#[must_use]
pub const fn name_of(kind: u8) -> Option<&'static str> {
    match kind {
        FTP => Some("ftp"),
        TFTP => Some("tftp"),
        _ => None,
    }
}

/// Moves the acknowledgment of a packet back before it is tracked.
pub fn before(packet: &mut Packet, parsed: &Parsed, entry: Entry<'_>, reply: bool) {
    if entry.has(SKEWED) && (entry.skew_reply.load(Ordering::Relaxed) != 0) != reply {
        let skew = entry.links().skew.load(Ordering::Relaxed);
        move_number(packet, parsed, 8, 0u32.wrapping_sub(skew));
    }
}

/// A packet's side of its connection, and whether the action translates.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub reply: bool,
    pub nat: bool,
}

/// After a packet was tracked (and translated): its sequence number, and what it says.
pub fn after(ct: &Ct, packet: &mut Packet, parsed: &Parsed, entry: Entry<'_>, side: Side, now_ms: Msec) {
    let Side { reply, nat } = side;
    if entry.helper.load(Ordering::Relaxed) == TFTP {
        return tftp(ct, packet, parsed, entry, reply, now_ms);
    }
    let earlier = if entry.has(SKEWED) && (entry.skew_reply.load(Ordering::Relaxed) != 0) == reply {
        entry.links().skew.load(Ordering::Relaxed)
    } else {
        0
    };
    let said = ftp_says(packet, parsed);
    if earlier != 0 && nat {
        move_number(packet, parsed, 4, earlier);
    }
    if let Some((at, said)) = said {
        announced(ct, entry, reply, &said, now_ms);
        if nat && let Some(delta) = mangle(packet, parsed, entry, at, &said, reply) {
            entry.links().skew.store(earlier.wrapping_add(delta), Ordering::Relaxed);
            entry.skew_reply.store(u8::from(reply), Ordering::Relaxed);
            entry.raise(SKEWED);
        }
    }
}

/// The payload's place in the frame, and what FTP announces in it.
fn ftp_says(packet: &Packet, parsed: &Parsed) -> Option<(usize, Announced)> {
    let frame = packet::payload(packet, parsed);
    let l4 = usize::from(parsed.found.l4);
    let header = usize::from(frame.get(l4 + 12)? >> 4) * 4;
    let text = frame.get(l4 + header..).filter(|t| !t.is_empty())?;
    Some((l4 + header, ftp::read(text)?))
}

fn announced(ct: &Ct, entry: Entry<'_>, reply: bool, said: &Announced, now_ms: Msec) {
    let (orig, back) = (entry.orig(), entry.reply());
    // Commands come from the client, which waits for the server; answers from the server.
    let (tuple, answers) = match said.kind {
        Says::Port | Says::Eprt if !reply => (back.with_ports(0, said.port), orig.with_ports(said.port, 0)),
        Says::Pasv | Says::Epsv if reply => (orig.with_ports(0, said.port), back.with_ports(said.port, 0)),
        Says::Port | Says::Eprt | Says::Pasv | Says::Epsv => return,
    };
    expect(ct, entry, tuple, answers, now_ms);
}

fn expect(ct: &Ct, entry: Entry<'_>, tuple: Tuple, reply: Tuple, now_ms: Msec) {
    let expectation = Expectation {
        tuple,
        reply,
        parent: entry.orig(),
        mark: entry.mark.load(Ordering::Relaxed),
        label: entry.label(),
        expires_ms: now_ms + LIFE_MS,
    };
    ct.expectations.add(expectation, now_ms);
}

/// RFC 1350, 4: a transfer goes on from another port of the server to the port that asked.
fn tftp(ct: &Ct, packet: &Packet, parsed: &Parsed, entry: Entry<'_>, reply: bool, now_ms: Msec) {
    const READ: [u8; 2] = [0, 1];
    const WRITE: [u8; 2] = [0, 2];
    let frame = packet::payload(packet, parsed);
    let opcode = frame.get(usize::from(parsed.found.l4) + 8..).and_then(|p| p.first_chunk::<2>());
    if reply || !matches!(opcode, Some(&READ | &WRITE)) {
        return;
    }
    let (orig, back) = (entry.orig(), entry.reply());
    expect(ct, entry, back.with_ports(0, back.dport()), orig.with_ports(orig.sport(), 0), now_ms);
}

/// Adds to the sequence number (at 4) or acknowledgment (at 8) of a TCP segment.
fn move_number(packet: &mut Packet, parsed: &Parsed, at: usize, by: u32) {
    let partial = matches!(packet.checksum(), Checksum::Partial { .. });
    let l4 = usize::from(parsed.found.l4);
    let Some(tcp) = packet.data_mut().get_mut(l4..).filter(|t| t.len() >= 20) else { return };
    let old = [tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]];
    let new = u32::from_be_bytes(old).wrapping_add(by).to_be_bytes();
    tcp[at..at + 4].copy_from_slice(&new);
    if !partial {
        let sum = updated([tcp[16], tcp[17]], &old, &new);
        tcp[16..18].copy_from_slice(&sum);
    }
}

/// Replaces the address that a packet announces by the one that the other side knows; by how many bytes the payload grew.
fn mangle(packet: &mut Packet, parsed: &Parsed, entry: Entry<'_>, payload: usize, said: &Announced, reply: bool) -> Option<u32> {
    let (own, seen) = if reply { (entry.reply().src(), entry.orig().dst()) } else { (entry.orig().src(), entry.reply().dst()) };
    let place = said.address_at.clone()?;
    if own == seen || packet.gso().kind != GsoKind::None {
        return None;
    }
    let text = match (seen, said.kind) {
        (IpAddr::V4(a), Says::Port | Says::Pasv) => a.to_string().replace('.', ","),
        (seen, _) => seen.to_string(),
    };
    let place = payload + place.start..payload + place.end;
    if !splice(packet, parsed, place.clone(), text.as_bytes()) {
        HELPER_NO_ROOM.inc();
        return None;
    }
    let delta = u32::try_from(text.len()).ok()?.wrapping_sub(u32::try_from(place.len()).ok()?);
    Some(delta)
}

/// Replaces bytes of a TCP payload, and makes lengths and checksums right.
fn splice(packet: &mut Packet, parsed: &Parsed, place: Range<usize>, text: &[u8]) -> bool {
    let end = packet::payload(packet, parsed).len();
    let new_end = end - place.len() + text.len();
    if new_end > packet.room() || !port::offload::complete(packet) {
        return false;
    }
    let tail = packet.data()[place.end..end].to_vec();
    packet.set_len(new_end);
    let frame = packet.data_mut();
    frame[place.start..place.start + text.len()].copy_from_slice(text);
    frame[place.start + text.len()..].copy_from_slice(&tail);
    let (l3, l4) = (usize::from(parsed.found.l3), usize::from(parsed.found.l4));
    let four = parsed.found.network == NetworkLayer::Ipv4;
    let length = if four { new_end - l3 } else { new_end - l3 - 40 };
    let Ok(length) = u16::try_from(length) else { return false };
    if four {
        let header = usize::from(frame[l3] & 0xf) * 4;
        frame[l3 + 2..l3 + 4].copy_from_slice(&length.to_be_bytes());
        frame[l3 + 10..l3 + 12].fill(0);
        let sum = checksum(&frame[l3..l3 + header]);
        frame[l3 + 10..l3 + 12].copy_from_slice(&sum);
    } else {
        frame[l3 + 4..l3 + 6].copy_from_slice(&length.to_be_bytes());
    }
    frame[l4 + 16..l4 + 18].fill(0);
    let (key, segment) = (&parsed.key, &frame[l4..]);
    let pseudo = if four {
        pseudo4(key.nw_src, key.nw_dst, ip_proto::TCP, segment.len())
    } else {
        pseudo6(&key.ipv6_src, &key.ipv6_dst, ip_proto::TCP, segment.len())
    };
    let sum = pseudo.plus(segment).finish();
    frame[l4 + 16..l4 + 18].copy_from_slice(&sum);
    packet.set_checksum(Checksum::Good);
    true
}
