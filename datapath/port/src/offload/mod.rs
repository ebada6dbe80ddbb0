//! What a port cannot carry, done in software: checksums completed and verified, large frames segmented.
//!
//! What enters: packets with a partial checksum or a GSO mark. What leaves: packets that any wire takes. Neighbours: the transmit side of
//! every kind of port (`settle`), `vnet` (virtio-net headers, the form in which the kernel tells of offloads), and the `datapath`
//! crate, which has to segment before it encapsulates and to keep checksums true when it rewrites headers ([`update`]).
//!
//! A checksum is partial when the field holds the pseudo header's sum, as Linux leaves it (CHECKSUM_PARTIAL) and as virtio 1.2
//! section 5.1.6.2 (VIRTIO_NET_HDR_F_NEEDS_CSUM) describes it. Completing twice gives the same bytes: see `recognise_partial`.

mod checksum;
mod layout;
mod segment;
pub(crate) mod vnet;

pub use checksum::{crc32c, sum, update};
pub use segment::{SegmentError, segment};

use crate::batch::Batch;
use crate::counters::QueueCells;
use crate::packet::{Checksum, GsoKind, Packet};
use crate::queue::Capabilities;
use layout::Layout;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
/// Where SCTP keeps its CRC: no other protocol has a checksum there.
const SCTP_OFFSET: u16 = 8;

/// Completes a partial checksum and marks it good. False, and the packet unchanged, if the positions lie outside the frame
/// (which only a broken sender brings about). Packets without a partial checksum are left alone.
#[must_use]
pub fn complete(packet: &mut Packet) -> bool {
    let Checksum::Partial { start, offset } = packet.checksum() else {
        return true;
    };
    let frame = packet.data_mut();
    let start = start as usize;
    let field = start.saturating_add(offset.into());
    let width = if offset == SCTP_OFFSET { 4 } else { 2 };
    if start >= frame.len() || field + width > frame.len() {
        return false;
    }
    if offset == SCTP_OFFSET {
        frame[field..field + 4].fill(0);
        let crc = crc32c(&frame[start..]);
        // RFC 9260 appendix A: least significant byte first.
        frame[field..field + 4].copy_from_slice(&crc.to_le_bytes());
    } else {
        let sum = !sum(&frame[start..]);
        // RFC 768: an all-zero checksum means "none", so zero is sent as ones; for TCP and ICMPv6 both mean the same.
        let sum = if sum == 0 { 0xffff } else { sum };
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet.set_checksum(Checksum::Good);
    true
}

/// What the checksums of a frame are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right.
    Good,
    /// Wrong.
    Bad,
    /// Absent, not needed, or in a form that is not understood (fragments, other protocols).
    NotThere,
}

/// Verifies the IPv4 header's checksum and the layer 4 checksum of a frame (VLAN tags and MPLS labels are skipped).
pub fn verify(frame: &[u8]) -> (Verdict, Verdict) {
    let Some(at) = Layout::parse(frame) else {
        return (Verdict::NotThere, Verdict::NotThere);
    };
    let judge = |good| if good { Verdict::Good } else { Verdict::Bad };
    let ip = if at.version == 4 { judge(sum(&frame[at.l3..at.header_end]) == 0xffff) } else { Verdict::NotThere };
    if at.fragment {
        return (ip, Verdict::NotThere);
    }
    let segment = &frame[at.l4..at.end];
    let l4 = match at.proto {
        TCP if segment.len() >= 20 => judge(checksum::add(at.pseudo_sum(frame), sum(segment)) == 0xffff),
        UDP if segment.len() >= 8 && segment[6..8] == [0, 0] && at.version == 4 => Verdict::NotThere,
        UDP if segment.len() >= 8 => judge(checksum::add(at.pseudo_sum(frame), sum(segment)) == 0xffff),
        ICMPV6 if segment.len() >= 4 => judge(checksum::add(at.pseudo_sum(frame), sum(segment)) == 0xffff),
        SCTP if segment.len() >= 12 => {
            let mut copy = segment.to_vec();
            copy[8..12].fill(0);
            judge(crc32c(&copy).to_le_bytes() == segment[8..12])
        }
        _ => Verdict::NotThere,
    };
    (ip, l4)
}

/// Marks a TCP or UDP packet whose checksum field holds just the pseudo header's sum as partial.
///
/// XDP sees frames of a veth peer before their checksums are completed, and the kernel does not tell which. A finished packet is
/// taken for an unfinished one with probability 2^-16; that does no harm, because completing a finished packet whose field equals
/// the pseudo sum yields the same field again.
pub(crate) fn recognise_partial(packet: &mut Packet) {
    let frame = packet.data();
    let Some(at) = Layout::parse(frame) else {
        return;
    };
    let offset = match at.proto {
        TCP => 16,
        UDP => 6,
        _ => return,
    };
    if at.fragment || at.l4 + usize::from(offset) + 2 > at.end {
        return;
    }
    let field = at.l4 + usize::from(offset);
    let field = u16::from_be_bytes([frame[field], frame[field + 1]]);
    if field != 0 && field == at.pseudo_sum(frame) {
        let start = crate::packet::u32_of(at.l4);
        // What the wire padded behind the datagram is not part of the sum.
        let end = at.end;
        packet.truncate(end);
        packet.set_checksum(Checksum::Partial { start, offset });
    }
}

/// Hands `batch` on to `send` in batches that a port with the capabilities `can` carries, and leaves it empty.
#[inline]
pub(crate) fn settle(batch: &mut Batch, can: Capabilities, cells: &QueueCells, mut send: impl FnMut(&mut Batch)) {
    if batch.iter().all(|packet| carried(packet, can)) {
        send(batch);
        batch.clear();
    } else {
        settle_slowly(batch, can, cells, &mut send);
    }
}

#[inline]
fn carried(packet: &Packet, can: Capabilities) -> bool {
    let cut = match packet.gso().kind {
        GsoKind::None => true,
        // A frame with a tunnel inside is always cut here: virtio-net headers cannot tell of it.
        GsoKind::Tcp4 | GsoKind::Tcp6 => can.tso && segment::is_simple(packet),
        GsoKind::Udp => can.uso && segment::is_simple(packet),
    };
    cut && (can.checksum || !matches!(packet.checksum(), Checksum::Partial { .. }))
}

#[cold]
#[inline(never)]
fn settle_slowly(batch: &mut Batch, can: Capabilities, cells: &QueueCells, send: &mut dyn FnMut(&mut Batch)) {
    let mut out = Batch::new();
    let mut put = |packet: Packet| {
        if let Err(packet) = out.push(packet) {
            send(&mut out);
            out.clear();
            out.push(packet).expect("just emptied");
        }
    };
    for mut packet in batch.drain() {
        if carried(&packet, can) {
            put(packet);
        } else if packet.gso().kind != GsoKind::None {
            match segment(&packet, &mut put) {
                Ok(_) => cells.segmented.add(1),
                Err(SegmentError::NoBuffer) => cells.dropped.add(1),
                Err(SegmentError::Malformed) => cells.errors.add(1),
            }
        } else if complete(&mut packet) {
            cells.csum_completed.add(1);
            put(packet);
        } else {
            cells.errors.add(1);
        }
    }
    if !out.is_empty() {
        send(&mut out);
    }
}

#[cfg(test)]
mod tests;
