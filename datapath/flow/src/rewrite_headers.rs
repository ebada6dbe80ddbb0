//! Pushing and popping headers: VLAN tags, MPLS labels, Ethernet, NSH, I-TAGs.
//!
//! What enters: a packet with headroom, where its layers are, its packet type. What leaves: the packet with the header, and
//! layers and packet type that are right again. Each function changes nothing and says `Refused` when it cannot be done.
//! Neighbours: `rewrite` (fields), `extract` (which the packet goes through again when fields of inner headers are wanted).

use crate::action::Nsh as NshHeader;
use crate::checksum::updated;
use crate::extract::{Extracted, NO_OFFSET, NetworkLayer};
use crate::rewrite::PacketBuf;
use crate::wire::{self, ITag, Ipv4, Ipv6, MplsLse, Nsh, VlanTag, eth_type};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of the Ethernet addresses.
const ADDRESSES: usize = 12;
/// An NSH header is at most 63 words of 4 bytes.
const NSH_BYTES_MAX: usize = 252;
/// Packet type of an Ethernet frame.
pub const PT_ETHERNET: u32 = 0;

/// Why a header was not pushed or popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no headroom for another header")]
    NoRoom,
    #[error("the packet has no such header")]
    NoHeader,
    #[error("the header is malformed or of an unknown kind")]
    Malformed,
}

/// The packet type of what has an Ethernet type and no Ethernet header.
#[must_use]
pub fn packet_type_of(ty: u16) -> u32 {
    1 << 16 | u32::from(ty)
}

fn shift(offset: &mut u16, by: i32) {
    if *offset != NO_OFFSET {
        *offset = u16::try_from(i32::from(*offset) + by).unwrap_or(NO_OFFSET);
    }
}

fn shift_all(at: &mut Extracted, by: i32) {
    shift(&mut at.l2_5, by);
    shift(&mut at.l3, by);
    shift(&mut at.l4, by);
}

/// Inserts `header` at `offset` of the packet.
fn insert(packet: &mut impl PacketBuf, offset: usize, header: &[u8]) -> Result<(), Refused> {
    if offset > packet.bytes().len() {
        return Err(Refused::NoHeader);
    }
    if !packet.push_front(header.len()) {
        return Err(Refused::NoRoom);
    }
    let bytes = packet.bytes_mut();
    bytes.copy_within(header.len()..header.len() + offset, 0);
    bytes[offset..offset + header.len()].copy_from_slice(header);
    Ok(())
}

/// Removes `n` bytes at `offset` of the packet.
fn remove(packet: &mut impl PacketBuf, offset: usize, n: usize) -> Result<(), Refused> {
    let bytes = packet.bytes_mut();
    if bytes.len() < offset + n {
        return Err(Refused::NoHeader);
    }
    bytes.copy_within(..offset, n);
    if packet.pull_front(n) { Ok(()) } else { Err(Refused::NoHeader) }
}

/// Pushes a tag behind the addresses. The CFI bit of `tci` does not go on the wire.
pub fn push_vlan(packet: &mut impl PacketBuf, at: &mut Extracted, tpid: u16, tci: u16) -> Result<(), Refused> {
    if packet.bytes().len() < ADDRESSES + 2 {
        return Err(Refused::NoHeader);
    }
    let tag = VlanTag { tpid: tpid.to_be_bytes(), tci: (tci & !crate::key::VLAN_CFI).to_be_bytes() };
    insert(packet, ADDRESSES, tag.as_bytes())?;
    shift_all(at, 4);
    Ok(())
}

/// Pops the outer tag.
pub fn pop_vlan(packet: &mut impl PacketBuf, at: &mut Extracted) -> Result<(), Refused> {
    let tpid = packet.bytes().get(ADDRESSES..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b));
    if (tpid != eth_type::VLAN && tpid != eth_type::QINQ) || packet.bytes().len() < ADDRESSES + 6 {
        return Err(Refused::NoHeader);
    }
    remove(packet, ADDRESSES, 4)?;
    shift_all(at, -4);
    Ok(())
}

/// Where the first label is or goes: behind everything of layer 2.
fn l2_5_or_l3(at: &Extracted) -> Result<usize, Refused> {
    let l2_5 = if at.l2_5 == NO_OFFSET { at.l3 } else { at.l2_5 };
    if l2_5 == NO_OFFSET { Err(Refused::NoHeader) } else { Ok(usize::from(l2_5)) }
}

/// Writes `ty` as the Ethernet type, of a frame, or as the packet type of what is none.
fn set_type(packet: &mut impl PacketBuf, l2_5: usize, packet_type: &mut u32, ty: u16) {
    if *packet_type != PT_ETHERNET {
        *packet_type = packet_type_of(ty);
    } else if l2_5 >= 2 {
        packet.bytes_mut()[l2_5 - 2..l2_5].copy_from_slice(&ty.to_be_bytes());
    }
}

/// Pushes a label between layers 2 and 3 (`l3`), or before all of the packet, which then is no frame any more.
pub fn push_mpls(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: &mut u32, label: Label) -> Result<(), Refused> {
    if label.eth_type != eth_type::MPLS && label.eth_type != eth_type::MPLS_MULTICAST {
        return Err(Refused::Malformed);
    }
    let lse = label.lse.to_be_bytes();
    if !label.l3 {
        insert(packet, 0, &lse)?;
        shift_all(at, 4);
        (at.l2_5, at.l3) = (0, 4);
        *packet_type = packet_type_of(label.eth_type);
        return Ok(());
    }
    let l2_5 = l2_5_or_l3(at)?;
    insert(packet, l2_5, &lse)?;
    set_type(packet, l2_5, packet_type, label.eth_type);
    at.l2_5 = u16::try_from(l2_5).map_err(|_| Refused::NoHeader)?;
    shift(&mut at.l3, 4);
    shift(&mut at.l4, 4);
    Ok(())
}

/// A label to push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Label, traffic class, bottom of stack, TTL, in host order.
    pub lse: u32,
    pub eth_type: u16,
    /// Behind layer 2 rather than before it.
    pub l3: bool,
}

/// Pops the first label; what follows has type `ty`. Transparent Ethernet (0x6558) under a packet without Ethernet is a frame.
pub fn pop_mpls(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: &mut u32, ty: u16) -> Result<(), Refused> {
    if at.l2_5 == NO_OFFSET {
        return Err(Refused::NoHeader);
    }
    let l2_5 = usize::from(at.l2_5);
    let left = packet.bytes().get(l2_5..).ok_or(Refused::NoHeader)?;
    let (label, _) = MplsLse::ref_from_prefix(left).map_err(|_| Refused::NoHeader)?;
    let bottom = u32::from_be_bytes(label.lse) & wire::MPLS_BOS != 0;
    remove(packet, l2_5, 4)?;
    if *packet_type != PT_ETHERNET && ty == eth_type::TEB {
        *packet_type = PT_ETHERNET;
    } else {
        set_type(packet, l2_5, packet_type, ty);
    }
    if bottom {
        at.l2_5 = NO_OFFSET;
    }
    shift(&mut at.l3, -4);
    shift(&mut at.l4, -4);
    Ok(())
}

/// Puts an Ethernet header before a packet that has none.
pub fn push_eth(
    packet: &mut impl PacketBuf,
    at: &mut Extracted,
    packet_type: &mut u32,
    src: [u8; 6],
    dst: [u8; 6],
) -> Result<(), Refused> {
    let ty = u16::try_from(*packet_type & 0xffff).expect("masked").to_be_bytes();
    if *packet_type == PT_ETHERNET {
        return Err(Refused::Malformed);
    }
    let header = wire::Ethernet { dst, src, eth_type: ty };
    insert(packet, 0, header.as_bytes())?;
    shift_all(at, 14);
    *packet_type = PT_ETHERNET;
    Ok(())
}

/// Removes the Ethernet header, tags included.
pub fn pop_eth(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: &mut u32) -> Result<(), Refused> {
    let l2_5 = l2_5_or_l3(at)?;
    if *packet_type != PT_ETHERNET || l2_5 < 14 || packet.bytes().len() < l2_5 {
        return Err(Refused::NoHeader);
    }
    let ty = u16::from_be_bytes([packet.bytes()[l2_5 - 2], packet.bytes()[l2_5 - 1]]);
    remove(packet, 0, l2_5)?;
    shift_all(at, -i32::try_from(l2_5).unwrap_or(0));
    *packet_type = packet_type_of(if ty < eth_type::MIN { eth_type::NONE } else { ty });
    Ok(())
}

/// NSH next protocols and the packet types they stand for (RFC 8300, 2.2).
const NSH_NEXT: &[(u8, u32)] = &[
    (1, 1 << 16 | eth_type::IPV4 as u32),
    (2, 1 << 16 | eth_type::IPV6 as u32),
    (3, PT_ETHERNET),
    (4, 1 << 16 | eth_type::NSH as u32),
    (5, 1 << 16 | eth_type::MPLS as u32),
];

/// Puts an NSH header before the packet, whose type its next-protocol field takes.
pub fn push_nsh(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: &mut u32, nsh: &NshHeader) -> Result<(), Refused> {
    let next = NSH_NEXT.iter().find(|(_, ty)| *ty == *packet_type).ok_or(Refused::Malformed)?.0;
    let bytes = size_of::<Nsh>() + nsh.metadata.len();
    if !bytes.is_multiple_of(4) || bytes > NSH_BYTES_MAX {
        return Err(Refused::Malformed);
    }
    let words = u16::try_from(bytes / 4).expect("bounded above");
    let head = u16::from(nsh.flags & 3) << 12 | u16::from(nsh.ttl & 0x3f) << 6 | words;
    let base = Nsh { version_ttl_len: head.to_be_bytes(), mdtype: nsh.mdtype, next, path: nsh.path.to_be_bytes() };
    insert(packet, 0, &nsh.metadata)?;
    if let Err(refused) = insert(packet, 0, base.as_bytes()) {
        remove(packet, 0, nsh.metadata.len())?;
        return Err(refused);
    }
    *packet_type = packet_type_of(eth_type::NSH);
    *at = Extracted { l3: 0, network: NetworkLayer::Nsh, lines: at.lines, ..Extracted::NOTHING };
    Ok(())
}

/// Removes the NSH header at the start of the packet; layers must be extracted anew.
pub fn pop_nsh(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: &mut u32) -> Result<(), Refused> {
    if *packet_type != packet_type_of(eth_type::NSH) {
        return Err(Refused::NoHeader);
    }
    let (nsh, _) = Nsh::ref_from_prefix(packet.bytes()).map_err(|_| Refused::NoHeader)?;
    let bytes = usize::from(nsh.version_ttl_len[1] & 0x3f) * 4;
    let next = NSH_NEXT.iter().find(|(np, _)| *np == nsh.next).ok_or(Refused::Malformed)?.1;
    if bytes < size_of::<Nsh>() {
        return Err(Refused::Malformed);
    }
    remove(packet, 0, bytes)?;
    *packet_type = next;
    *at = Extracted { lines: at.lines, ..Extracted::NOTHING };
    Ok(())
}

/// Puts a backbone header with the frame's own addresses and an I-TAG before a frame (OpenFlow 1.3 section 7.2.5, OFPAT_PUSH_PBB). The
/// frame's addresses, where they stand, become the customer's.
pub fn push_pbb(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: u32, isid: u32, pcp: u8) -> Result<(), Refused> {
    let Some(addresses) = packet.bytes().first_chunk::<ADDRESSES>().copied() else { return Err(Refused::NoHeader) };
    if packet_type != PT_ETHERNET || packet.bytes().len() < size_of::<wire::Ethernet>() {
        return Err(Refused::NoHeader);
    }
    let tci = u32::from(pcp & 7) << 29 | isid & 0x00ff_ffff;
    let mut header = [0; size_of::<wire::Ethernet>() + 4];
    header[..ADDRESSES].copy_from_slice(&addresses);
    header[ADDRESSES..14].copy_from_slice(&eth_type::PBB.to_be_bytes());
    header[14..].copy_from_slice(&tci.to_be_bytes());
    insert(packet, 0, &header)?;
    *at = Extracted { l3: 14, network: NetworkLayer::Pbb, lines: at.lines, ..Extracted::NOTHING };
    Ok(())
}

/// Removes the backbone header, its tags and the I-TAG (OFPAT_POP_PBB), so that the frame begins with the customer's addresses; layers
/// must be extracted anew.
pub fn pop_pbb(packet: &mut impl PacketBuf, at: &mut Extracted, packet_type: u32) -> Result<(), Refused> {
    let l3 = usize::from(at.l3);
    if packet_type != PT_ETHERNET || at.network != NetworkLayer::Pbb || packet.bytes().len() < l3 + size_of::<ITag>() {
        return Err(Refused::NoHeader);
    }
    remove(packet, 0, l3 + 4)?;
    *at = Extracted { lines: at.lines, ..Extracted::NOTHING };
    Ok(())
}

/// Copies the TTL of the first label into what is beneath it, or the other way (OpenFlow 1.3 section 5.12, copy TTL inwards and outwards): the next
/// label, or the IP header that the first four bits beneath the bottom of the stack tell. Other payload has no TTL, and nothing changes.
pub fn copy_ttl(packet: &mut impl PacketBuf, at: &Extracted, inwards: bool) -> Result<(), Refused> {
    if at.l2_5 == NO_OFFSET {
        return Err(Refused::NoHeader);
    }
    let labels = packet.bytes_mut().get_mut(usize::from(at.l2_5)..).ok_or(Refused::NoHeader)?;
    let (outer, beneath) = MplsLse::mut_from_prefix(labels).map_err(|_| Refused::NoHeader)?;
    let copy = |inner: &mut u8, outer: &mut u8| if inwards { *inner = *outer } else { *outer = *inner };
    if outer.lse[2] & 1 == 0 {
        if let Ok((next, _)) = MplsLse::mut_from_prefix(beneath) {
            copy(&mut next.lse[3], &mut outer.lse[3]);
        }
        return Ok(());
    }
    match beneath.first().map(|first| first >> 4) {
        Some(4) => {
            if let Ok((ip, _)) = Ipv4::mut_from_prefix(beneath) {
                let old = [ip.ttl, ip.proto];
                copy(&mut ip.ttl, &mut outer.lse[3]);
                ip.checksum = updated(ip.checksum, &old, &[ip.ttl, ip.proto]);
            }
        }
        Some(6) => {
            if let Ok((ip, _)) = Ipv6::mut_from_prefix(beneath) {
                copy(&mut ip.hop_limit, &mut outer.lse[3]);
            }
        }
        _ => {}
    }
    Ok(())
}
