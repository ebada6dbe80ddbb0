//! What came out of a tunnel by the host's own stack, and is not finished: checksums and cuts that a kernel left to hardware.
//!
//! What enters: inner packets with their keys, just decapsulated. What leaves: the same packets, with their checksum state and their way of
//! being cut as a device would have told them. Neighbours: `tunnel_pop`, `port::host` (which tells only whether a frame was longer than its link takes).
//!
//! # Which checksums are not there
//!
//! A sender that leaves a checksum to hardware puts the sum of the pseudo header into its field. On a wire the field never stays so; between
//! containers of one machine it does, and no socket says so. Here every TCP and UDP packet whose field is that sum is taken for such a one. Of
//! finished packets one in 65,536 has the same value there: to compute its checksum anew changes nothing, since it was right.
//!
//! # Which frames are to be cut
//!
//! Those that were longer than their link takes and have no checksum yet. One with its checksum came in fragments, which the host has put together.
//! What the sender's pieces would have been nobody knows; TCP's are made as long as the link takes. Datagrams in one cannot be told apart again.

use crate::bundle::Bundle;
use crate::counters::{DROP_TUNNEL_UNCUT, TUNNEL_MENDED};
use crate::parsed::Parsed;
use flow::checksum::{pseudo4, pseudo6};
use flow::extract::{NO_OFFSET, NetworkLayer};
use flow::key::Lines;
use flow::wire::ip_proto;
use port::pool::HEADROOM;
use port::{Checksum, Gso, GsoKind, Packet};

/// Offsets of checksums in TCP and UDP headers.
const TCP_SUM: u16 = 16;
const UDP_SUM: u16 = 6;
const ETH_BYTES: usize = 14;
/// The least that a TCP segment carries (RFC 9293, 3.7.1).
const MSS_MIN: usize = 536;
/// The line of IPv6 addresses.
const ADDRESSES: Lines = Lines(0b10);

/// Finds out what is not finished in each packet.
pub(crate) fn mend(bundle: &mut Bundle) {
    let (mut bad, mut unfinished) = (0u32, 0);
    for (i, (packet, parsed)) in bundle.packets.iter_mut().zip(&mut bundle.parsed).enumerate() {
        if !mend_one(packet, parsed) {
            bad |= 1 << i;
        }
        unfinished += u64::from(!packet.is_plain());
    }
    if unfinished != 0 {
        TUNNEL_MENDED.add(unfinished);
    }
    if bad != 0 {
        DROP_TUNNEL_UNCUT.add(bad.count_ones().into());
        bundle.split(|i, _| bad & 1 << i == 0, None);
    }
}

/// False if the packet is of no use.
fn mend_one(packet: &mut Packet, parsed: &mut Parsed) -> bool {
    let told = packet.gso();
    packet.set_gso(Gso::default());
    let Some((start, offset)) = missing(packet, parsed) else { return true };
    packet.set_checksum(Checksum::Partial { start: start.into(), offset });
    if told.kind == GsoKind::None {
        return true;
    }
    if offset != TCP_SUM {
        return false;
    }
    let kind = if parsed.found.network == NetworkLayer::Ipv4 { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
    let Some(size) = segment(packet, usize::from(start), told.size) else { return false };
    packet.set_gso(Gso { kind, size, ecn: false });
    true
}

/// Where summing begins and where the sum belongs, if it is not there yet.
fn missing(packet: &Packet, parsed: &mut Parsed) -> Option<(u16, u16)> {
    let found = parsed.found;
    let offset = match found.transport {
        ip_proto::TCP => TCP_SUM,
        ip_proto::UDP => UDP_SUM,
        _ => return None,
    };
    if found.l4 == NO_OFFSET || parsed.key.nw_frag != 0 {
        return None;
    }
    let (l4, end) = (usize::from(found.l4), packet.len().checked_sub(found.l2_pad.into())?);
    let field: [u8; 2] = *packet.data().get(l4 + usize::from(offset)..end)?.first_chunk()?;
    let len = end.checked_sub(l4)?;
    let sum = match found.network {
        NetworkLayer::Ipv4 => pseudo4(parsed.key.nw_src, parsed.key.nw_dst, found.transport, len),
        NetworkLayer::Ipv6 => {
            parsed.ensure(ADDRESSES);
            pseudo6(&parsed.key.ipv6_src, &parsed.key.ipv6_dst, found.transport, len)
        }
        NetworkLayer::None | NetworkLayer::Arp | NetworkLayer::Nsh | NetworkLayer::Pbb => return None,
    };
    (sum.fold().to_ne_bytes() == field).then_some((found.l4, offset))
}

/// Bytes that a TCP segment carries so that its encapsulated packet has `mtu` bytes at most.
fn segment(packet: &Packet, l4: usize, mtu: u16) -> Option<u16> {
    // What was taken off still stands before the packet; Ethernet's header does not count.
    let outer = packet.headroom().checked_sub(HEADROOM + ETH_BYTES)?;
    let header = usize::from(packet.data().get(l4 + 12)? >> 4) * 4;
    let room = usize::from(mtu).checked_sub(outer + l4 + header)?;
    u16::try_from(room.max(MSS_MIN)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::Key;
    use flow::compose::{Payload, compose};
    use flow::extract::PacketMeta;

    /// A frame over IPv4 or IPv6 with so many bytes of payload.
    fn frame(v6: bool, proto: u8, payload: usize) -> Vec<u8> {
        let mut key = Key { nw_proto: proto, nw_ttl: 64, tp_src: [0, 7], tp_dst: [0, 9], ..Key::ZERO };
        if v6 {
            (key.eth_type, key.ipv6_src, key.ipv6_dst) = ([0x86, 0xdd], [1; 16], [2; 16]);
        } else {
            (key.eth_type, key.nw_src, key.nw_dst) = ([8, 0], [10, 0, 0, 1], [10, 0, 0, 2]);
        }
        compose(&key, Payload::Len(payload))
    }

    fn found(bytes: &[u8]) -> Parsed {
        let mut parsed = Parsed::new();
        parsed.read(bytes, &PacketMeta { vlan_limit: 2, ..PacketMeta::default() });
        parsed
    }

    /// The frame as a sender leaves it that leaves its checksum to hardware.
    fn unfinished(v6: bool, proto: u8, payload: usize) -> Vec<u8> {
        let mut bytes = frame(v6, proto, payload);
        let mut parsed = found(&bytes);
        parsed.ensure(ADDRESSES);
        let l4 = usize::from(parsed.found.l4);
        let (len, key) = (bytes.len() - l4, &parsed.key);
        let sum =
            if v6 { pseudo6(&key.ipv6_src, &key.ipv6_dst, proto, len) } else { pseudo4(key.nw_src, key.nw_dst, proto, len) };
        let at = l4 + usize::from(if proto == ip_proto::TCP { TCP_SUM } else { UDP_SUM });
        bytes[at..at + 2].copy_from_slice(&sum.fold().to_ne_bytes());
        bytes
    }

    /// A packet that came out of 36 bytes of VXLAN over IPv4; `mtu`: of its link, if it was too long for that.
    fn mended(bytes: &[u8], mtu: Option<u16>) -> Option<Packet> {
        let outer = vec![0; ETH_BYTES + 36];
        let mut packet = Packet::from_bytes(&[&outer, bytes].concat()).unwrap();
        assert!(packet.pull_front(outer.len()));
        if let Some(size) = mtu {
            packet.set_gso(Gso { kind: GsoKind::Udp, size, ecn: false });
        }
        mend_one(&mut packet, &mut found(bytes)).then_some(packet)
    }

    #[test]
    fn missing_checksums_are_found_and_others_are_let_be() {
        for v6 in [false, true] {
            for proto in [ip_proto::TCP, ip_proto::UDP] {
                let whole = frame(v6, proto, 100);
                assert_eq!(mended(&whole, None).unwrap().checksum(), Checksum::Unknown);
                let mut packet = mended(&unfinished(v6, proto, 100), None).unwrap();
                assert!(matches!(packet.checksum(), Checksum::Partial { .. }), "{v6} {proto}");
                assert!(port::offload::complete(&mut packet));
                assert_eq!(packet.data(), whole, "{v6} {proto}");
            }
        }
    }

    #[test]
    fn long_frames_are_cut_to_their_link() {
        let bytes = unfinished(false, ip_proto::TCP, 30_000);
        let packet = mended(&bytes, Some(1500)).unwrap();
        // 1,500 less outer IPv4, UDP and VXLAN, inner Ethernet, IPv4 and TCP.
        assert_eq!(packet.gso(), Gso { kind: GsoKind::Tcp4, size: 1500 - 36 - 14 - 20 - 20, ecn: false });
        let mut pieces = 0;
        port::offload::segment(&packet, &mut |piece| {
            pieces += 1;
            assert!(piece.len() + 36 <= 1500);
        })
        .unwrap();
        assert_eq!(pieces, 30_000usize.div_ceil(1410));
        // What came in fragments is whole.
        let whole = mended(&frame(false, ip_proto::TCP, 3000), Some(1500)).unwrap();
        assert!(whole.is_plain());
        // Datagrams in one are lost.
        assert!(mended(&unfinished(true, ip_proto::UDP, 3000), Some(1500)).is_none());
    }
}
