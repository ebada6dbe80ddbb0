//! The virtio-net header: how the kernel tells of offloads on AF_PACKET (PACKET_VNET_HDR) and tap (IFF_VNET_HDR).
//!
//! What enters: the ten bytes before a received frame; a packet about to be sent. What leaves: the packet's offload state; ten bytes. The
//! layout is virtio 1.2 section 5.1.6 (struct virtio_net_hdr without num_buffers), in the machine's byte order, as Linux has it.

use super::layout::Layout;
use super::{SCTP, complete};
use crate::packet::{CSUM_OFFSET_MAX, Checksum, Gso, GsoKind, Packet, u32_of};

/// Bytes of the header.
pub(crate) const LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_ECN: u8 = 0x80;

/// Why a received header makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHeader;

/// Gives `packet` (a frame as received) the offload state that `header` tells.
#[inline]
pub(crate) fn apply(header: &[u8; LEN], packet: &mut Packet) -> Result<(), BadHeader> {
    let [flags, gso_type, _, _, size @ .., _, _, _, _] = *header;
    if flags & F_NEEDS_CSUM == 0 {
        if flags & F_DATA_VALID != 0 {
            packet.set_checksum(Checksum::Good);
        }
        // Without a partial checksum there is no GSO frame (virtio 1.2 section 5.1.6.2).
        return if gso_type == 0 { Ok(()) } else { Err(BadHeader) };
    }
    let start = u16::from_ne_bytes([header[6], header[7]]);
    let offset = u16::from_ne_bytes([header[8], header[9]]);
    if usize::from(start) + usize::from(offset) + 2 > packet.len() || offset > CSUM_OFFSET_MAX {
        return Err(BadHeader);
    }
    packet.set_checksum(Checksum::Partial { start: start.into(), offset });
    let kind = match gso_type & !GSO_ECN {
        0 => GsoKind::None,
        1 => GsoKind::Tcp4,
        4 => GsoKind::Tcp6,
        5 => GsoKind::Udp,
        _ => return Err(BadHeader),
    };
    if kind == GsoKind::None {
        return finish_sctp(packet, offset);
    }
    let size = u16::from_ne_bytes(size);
    if size == 0 {
        return Err(BadHeader);
    }
    packet.set_gso(Gso { kind, size, ecn: gso_type & GSO_ECN != 0 });
    Ok(())
}

/// The header has no way to say "CRC32c", so an unfinished SCTP packet is completed before it goes any further.
#[inline]
fn finish_sctp(packet: &mut Packet, offset: u16) -> Result<(), BadHeader> {
    if offset == 8 && Layout::parse(packet.data()).is_some_and(|at| at.proto == SCTP) && !complete(packet) {
        return Err(BadHeader);
    }
    Ok(())
}

/// The header that goes before `packet`.
#[inline]
pub(crate) fn header(packet: &Packet) -> [u8; LEN] {
    let mut header = [0; LEN];
    match packet.checksum() {
        Checksum::Unknown => return header,
        Checksum::Good => {
            header[0] = F_DATA_VALID;
            return header;
        }
        Checksum::Partial { start, offset } => {
            header[0] = F_NEEDS_CSUM;
            // Headers longer than 64 KiB do not exist; were it so, the kernel would refuse the header.
            let start = u16::try_from(start).unwrap_or(u16::MAX);
            header[6..8].copy_from_slice(&start.to_ne_bytes());
            header[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
    }
    let gso = packet.gso();
    if gso.kind != GsoKind::None {
        header[1] = gso.kind as u8 | if gso.ecn { GSO_ECN } else { 0 };
        header[4..6].copy_from_slice(&gso.size.to_ne_bytes());
        let len = u16::try_from(header_len(packet)).unwrap_or(u16::MAX);
        header[2..4].copy_from_slice(&len.to_ne_bytes());
    }
    header
}

/// Bytes of the headers of a GSO frame: a hint for the kernel, how much to keep contiguous.
fn header_len(packet: &Packet) -> u32 {
    let Checksum::Partial { start, .. } = packet.checksum() else {
        return 0;
    };
    let doff = packet.data().get(start as usize + 12).map_or(0, |byte| u32::from(byte >> 4) * 4);
    match packet.gso().kind {
        GsoKind::None => 0,
        GsoKind::Tcp4 | GsoKind::Tcp6 => (start + doff).min(u32_of(packet.len())),
        GsoKind::Udp => (start + 8).min(u32_of(packet.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vnet(flags: u8, gso: u8, words: [u16; 4]) -> [u8; LEN] {
        let mut header = [flags, gso, 0, 0, 0, 0, 0, 0, 0, 0];
        for (to, word) in header[2..].chunks_mut(2).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        header
    }

    #[test]
    fn headers_survive_the_switch() {
        let mut p = Packet::from_bytes(&[0x50; 3000]).unwrap();
        for header in [
            vnet(1, 0, [0, 0, 34, 16]),
            vnet(1, 1, [54, 1448, 34, 16]),
            vnet(1, 0x84, [74, 1428, 54, 16]),
            vnet(1, 5, [42, 1000, 34, 6]),
            vnet(2, 0, [0; 4]),
        ] {
            p.set_gso(Gso::default());
            assert_eq!(apply(&header, &mut p), Ok(()));
            assert_eq!(super::header(&p), header);
        }
        for bad in
            [vnet(1, 1, [54, 0, 34, 16]), vnet(0, 1, [54, 10, 34, 16]), vnet(1, 0, [0, 0, 2990, 16]), vnet(1, 3, [0, 9, 34, 6])]
        {
            assert_eq!(apply(&bad, &mut p), Err(BadHeader));
        }
    }

    proptest! {
        #[test]
        fn any_header_is_no_panic(header in any::<[u8; LEN]>(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut p = Packet::from_bytes(&bytes).unwrap();
            if apply(&header, &mut p).is_ok() {
                let _ = super::header(&p);
                let _ = crate::offload::segment(&p, &mut |_| ());
                let _ = complete(&mut p);
            }
        }
    }
}
