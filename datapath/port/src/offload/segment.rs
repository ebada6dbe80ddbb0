//! Segmentation: one GSO frame into frames of the size that its sender asked for.
//!
//! What enters: a packet with [`Gso`](crate::Gso). What leaves: packets with all lengths, sequence numbers, flags and checksums made right,
//! as a NIC's TSO would. Neighbours: `settle` and the `datapath` crate (before encapsulation).
//!
//! A frame may itself be encapsulated: a container's own tunnel hands a GSO frame whose checksum starts in the inner TCP header.
//! Then the outer IP and UDP headers in front get their lengths and checksums made right too; how the tunnel header between looks
//! does not matter, since nothing in VXLAN, Geneve or plain GRE depends on the length.

use super::checksum::sum;
use super::layout::Layout;
use super::{TCP, UDP};
use crate::packet::{Checksum, GsoKind, Packet};

/// Why a frame was not segmented (or not to the end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The pool is empty.
    #[error("no packet buffer")]
    NoBuffer,
    /// The headers do not fit what the GSO mark says.
    #[error("malformed GSO frame")]
    Malformed,
}

/// The most outer IP headers in front of the segmented one.
const OUTER_MAX: usize = 2;

/// Where things are in a frame that is to be cut.
struct Plan {
    outer: [Option<Layout>; OUTER_MAX],
    inner: Layout,
    /// Bytes of all headers, repeated in each piece.
    headers: usize,
    /// Payload bytes of each piece but the last.
    size: usize,
    tcp: bool,
    ecn: bool,
}

/// Cuts `packet` into pieces that `put` receives in order, checksums completed; how many. A packet without a GSO mark comes out as
/// one copy. On `NoBuffer` the pieces so far are out already.
pub fn segment(packet: &Packet, put: &mut dyn FnMut(Packet)) -> Result<usize, SegmentError> {
    if packet.gso().kind == GsoKind::None {
        put(packet.duplicate().ok_or(SegmentError::NoBuffer)?);
        return Ok(1);
    }
    let frame = packet.data();
    let plan = plan(packet).ok_or(SegmentError::Malformed)?;
    let payload = &frame[plan.headers..plan.inner.end];
    let last = payload.len().div_ceil(plan.size).saturating_sub(1);
    for (i, part) in payload.chunks(plan.size).enumerate() {
        let mut piece = Packet::with_capacity(plan.headers + part.len()).ok_or(SegmentError::NoBuffer)?;
        piece.set_len(plan.headers + part.len());
        let bytes = piece.data_mut();
        bytes[..plan.headers].copy_from_slice(&frame[..plan.headers]);
        bytes[plan.headers..].copy_from_slice(part);
        mend(bytes, &plan, i, i == last);
        piece.set_checksum(Checksum::Good);
        piece.set_hash(packet.hash());
        piece.set_queue(packet.queue());
        put(piece);
    }
    Ok(last + 1)
}

/// Whether the headers to be repeated are the outermost ones, with nothing but VLAN tags before.
pub(super) fn is_simple(packet: &Packet) -> bool {
    let Checksum::Partial { start, .. } = packet.checksum() else {
        return false;
    };
    Layout::parse(packet.data()).is_some_and(|at| at.l4 == start as usize && !at.labelled)
}

fn plan(packet: &Packet) -> Option<Plan> {
    let frame = packet.data();
    let gso = packet.gso();
    let (tcp, proto) = match gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => (true, TCP),
        GsoKind::Udp => (false, UDP),
        GsoKind::None => return None,
    };
    let first = Layout::parse(frame)?;
    let start = match packet.checksum() {
        Checksum::Partial { start, .. } => start as usize,
        Checksum::Unknown | Checksum::Good => first.l4,
    };
    let mut outer = [None; OUTER_MAX];
    let inner = if start == first.l4 {
        first
    } else {
        let inner = find_inner(frame, start)?;
        outer[0] = Some(first);
        // Another IP header may stand between (a tunnel in a tunnel) only if it directly follows the first (IP in IP).
        outer[1] = Layout::parse_ip(frame, first.l4).filter(|_| matches!(first.proto, 4 | 41) && first.l4 < inner.l3);
        inner
    };
    let header = match tcp {
        true => usize::from(frame.get(inner.l4 + 12)? >> 4) * 4,
        false => 8,
    };
    let headers = inner.l4 + header;
    let fits = inner.proto == proto && !inner.fragment && header >= if tcp { 20 } else { 8 } && headers < inner.end;
    let size = usize::from(gso.size);
    (fits && size > 0).then_some(Plan { outer, inner, headers, size, tcp, ecn: gso.ecn })
}

/// The IP header that ends at `l4`: no options, and a length that fits the frame.
fn find_inner(frame: &[u8], l4: usize) -> Option<Layout> {
    let candidates = [l4.checked_sub(20)?, l4.saturating_sub(40)];
    candidates.into_iter().filter_map(|l3| Layout::parse_ip(frame, l3)).find(|at| at.l4 == l4 && at.end == frame.len())
}

/// Makes piece number `i` right.
fn mend(bytes: &mut [u8], plan: &Plan, i: usize, last: bool) {
    let inner = &plan.inner;
    mend_ip(bytes, inner, i);
    let l4 = inner.l4;
    let len = bytes.len() - l4;
    let field = if plan.tcp {
        mend_tcp(bytes, plan, i, last);
        l4 + 16
    } else {
        put16(bytes, l4 + 4, len);
        l4 + 6
    };
    finish_sum(bytes, inner, field);
    for outer in plan.outer.iter().rev().flatten() {
        mend_ip(bytes, outer, i);
        if outer.proto == UDP {
            let len = bytes.len() - outer.l4;
            put16(bytes, outer.l4 + 4, len);
            if bytes[outer.l4 + 6..outer.l4 + 8] != [0, 0] {
                finish_sum(bytes, outer, outer.l4 + 6);
            }
        }
    }
}

fn mend_ip(bytes: &mut [u8], at: &Layout, i: usize) {
    let end = bytes.len();
    if at.version == 4 {
        put16(bytes, at.l3 + 2, end - at.l3);
        let id = usize::from(u16::from_be_bytes([bytes[at.l3 + 4], bytes[at.l3 + 5]]));
        put16(bytes, at.l3 + 4, (id + i) & 0xffff);
        put16(bytes, at.l3 + 10, 0);
        let header = !sum(&bytes[at.l3..at.header_end]);
        put16(bytes, at.l3 + 10, header.into());
    } else {
        put16(bytes, at.l3 + 4, end - at.l3 - 40);
    }
}

fn mend_tcp(bytes: &mut [u8], plan: &Plan, i: usize, last: bool) {
    let l4 = plan.inner.l4;
    let seq = u32::from_be_bytes(bytes[l4 + 4..l4 + 8].try_into().expect("four bytes"));
    let passed = u32::try_from(i * plan.size).expect("within one frame");
    bytes[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add(passed).to_be_bytes());
    let flags = &mut bytes[l4 + 13];
    if !last {
        // FIN and PSH belong to the end of the data.
        *flags &= !0x09;
    }
    if i > 0 && plan.ecn {
        // RFC 3168 section 6.1.2: CWR on the first new data packet only.
        *flags &= !0x80;
    }
}

fn finish_sum(bytes: &mut [u8], at: &Layout, field: usize) {
    let pseudo = at.pseudo_sum_of(bytes, bytes.len() - at.l4);
    put16(bytes, field, pseudo.into());
    let total = !sum(&bytes[at.l4..]);
    put16(bytes, field, if total == 0 { 0xffff } else { total.into() });
}

fn put16(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
