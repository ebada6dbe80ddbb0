//! Rewriting headers in place, for the datapath's actions and for packets executed by the slow path alike.
//!
//! What enters: a packet in anything that implements `PacketBuf`, where its layers are (`Extracted`), and what to set. What
//! leaves: the packet with the fields changed and its checksums right if they were right before. Nothing here allocates.
//! Neighbours: `rewrite_headers` (pushes and pops), `wire`, `checksum`, `extract`; the twin that sums everything anew lives in
//! the tests.
//!
//! # Which checksums change
//!
//! - An incremental update (RFC 1624) keeps a wrong checksum wrong: a damaged packet is not made to look sound.
//! - Addresses count in the transport checksum of TCP, UDP and ICMPv6, except in later fragments (which have none) and, for the
//!   IPv6 destination, behind a routing header that is not used up (RFC 8200, 8.1: the final destination counts).
//! - UDP checksum 0 means "none" and stays (RFC 768).
//! - A transport checksum left to the port (`checksum_is_partial`) holds the uncomplemented sum of the pseudo header: addresses
//!   are added to it, all else leaves it alone.
//! - SCTP is summed twice, before and after, and the difference applied.

use crate::action::{SetAttr, SetField};
use crate::checksum::{self, updated, updated_words};
use crate::extract::{Extracted, NO_OFFSET, NetworkLayer, is_extension};
use crate::key::Key;
use crate::rewrite_compact::{Bits, Compact};
use crate::wire::{self, Arp, Ethernet, ITag, Icmp, Icmpv6, Ipv4, Ipv6, Ipv6Ext, MplsLse, NdOption, NdTarget, Nsh, NshContext};
use crate::wire::{Sctp, Tcp, Udp, ip_proto};
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A packet that can be rewritten and grow at its front.
pub trait PacketBuf {
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Makes room for `n` bytes at the front, content unspecified. False, and no change, when there is none.
    #[must_use]
    fn push_front(&mut self, n: usize) -> bool;
    /// Removes `n` bytes at the front. False, and no change, when there are fewer.
    #[must_use]
    fn pull_front(&mut self, n: usize) -> bool;
    /// Whether the transport checksum holds only the sum of the pseudo header, to be completed by the port.
    fn checksum_is_partial(&self) -> bool {
        false
    }
}

impl PacketBuf for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn push_front(&mut self, n: usize) -> bool {
        self.splice(..0, std::iter::repeat_n(0, n));
        true
    }

    fn pull_front(&mut self, n: usize) -> bool {
        if n > self.len() {
            return false;
        }
        self.drain(..n);
        true
    }
}

/// Sets header fields. False, and no change, when the packet has no such header or `field` is metadata.
#[inline]
pub fn set(packet: &mut impl PacketBuf, at: &Extracted, field: &SetField) -> bool {
    let partial = packet.checksum_is_partial();
    let mut target = Target { bytes: packet.bytes_mut(), at, partial };
    target.set(field).is_some()
}

/// Sets the fields of one header. False, and no change, when the packet has no such header.
#[inline]
pub(crate) fn set_compact(packet: &mut impl PacketBuf, at: &Extracted, change: &Compact) -> bool {
    let partial = packet.checksum_is_partial();
    let mut target = Target { bytes: packet.bytes_mut(), at, partial };
    target.set_compact(change).is_some()
}

/// Decrements TTL or hop limit. `None` when there is no IP header, false when it is used up (and unchanged).
#[inline]
pub fn dec_ttl(packet: &mut impl PacketBuf, at: &Extracted) -> Option<bool> {
    let mut t = Target { bytes: packet.bytes_mut(), at, partial: false };
    if at.network == NetworkLayer::Ipv6 {
        let hops = &mut t.header::<Ipv6>(at.l3)?.hop_limit;
        let alive = *hops > 1;
        *hops -= u8::from(alive);
        return Some(alive);
    }
    if at.network != NetworkLayer::Ipv4 {
        return None;
    }
    let ip = t.header::<Ipv4>(at.l3)?;
    let alive = ip.ttl > 1;
    if alive {
        let old = [ip.ttl, ip.proto];
        ip.ttl -= 1;
        ip.checksum = updated(ip.checksum, &old, &[ip.ttl, ip.proto]);
    }
    Some(alive)
}

/// Raises the drop precedence in a packet's DSCP by up to `levels`. False, and no change, when the packet has no IP header, or a DSCP that has no
/// drop precedence, or the highest.
pub fn raise_drop_precedence(packet: &mut impl PacketBuf, at: &Extracted, levels: u8) -> bool {
    let mut t = Target { bytes: packet.bytes_mut(), at, partial: false };
    t.raise_drop_precedence(levels).is_some()
}

/// The DSCP field (with the bits of ECN) after its drop precedence was raised: only the assured forwarding classes AFxy have one, y of
/// 1 to 3 in bits 3 and 4 (RFC 2597 section 6).
fn with_drop_precedence(tos: u8, levels: u8) -> Option<u8> {
    let (class, precedence, odd) = (tos >> 5, tos >> 3 & 3, tos >> 2 & 1);
    let assured = (1..=4).contains(&class) && precedence != 0 && odd == 0;
    let raised = precedence.saturating_add(levels).min(3);
    (assured && raised != precedence).then_some(tos & !0x18 | raised << 3)
}

/// Whether the packet has an Ethernet header: one without has its first layer at 0.
#[inline]
pub(crate) fn has_ethernet(at: &Extracted) -> bool {
    usize::from(at.l2_5.min(at.l3)) >= size_of::<Ethernet>()
}

/// `old` with the bits of `mask` taken from `value`.
#[inline]
fn merged<const N: usize>(old: [u8; N], value: [u8; N], mask: [u8; N]) -> [u8; N] {
    std::array::from_fn(|i| old[i] & !mask[i] | value[i] & mask[i])
}

macro_rules! merge {
    ($header:expr, $field:ident, $f:expr, $key:ident) => {
        $header.$field = merged($header.$field, $f.value.$key, $f.mask.$key)
    };
}

/// A packet being rewritten.
struct Target<'p> {
    bytes: &'p mut [u8],
    at: &'p Extracted,
    partial: bool,
}

impl Target<'_> {
    #[inline]
    fn set(&mut self, f: &SetField) -> Option<()> {
        match f.attr {
            SetAttr::Eth | SetAttr::Ipv4 | SetAttr::Tcp | SetAttr::Udp => self.set_compact(&Compact::of(f)?),
            SetAttr::Ipv6 => self.set_ipv6(f),
            SetAttr::Sctp => self.set_sctp(f),
            SetAttr::Icmp => self.set_icmp(f, ip_proto::ICMP),
            SetAttr::Icmpv6 => self.set_icmp(f, ip_proto::ICMPV6),
            SetAttr::Arp => self.set_arp(f),
            SetAttr::Nd => self.set_nd(f),
            SetAttr::NdExt => self.set_nd_ext(f),
            SetAttr::Mpls => {
                let h = self.header::<MplsLse>(self.at.l2_5)?;
                merge!(h, lse, f, mpls_lse0);
                Some(())
            }
            SetAttr::Nsh => self.set_nsh(f),
            SetAttr::Pbb => self.set_pbb(f),
            SetAttr::Priority | SetAttr::Mark | SetAttr::Tunnel => None,
        }
    }

    #[inline]
    fn set_compact(&mut self, change: &Compact) -> Option<()> {
        match change {
            Compact::Macs(macs) => self.set_eth(macs),
            Compact::Ipv4 { addresses, tos_ttl } => self.set_ipv4(addresses, tos_ttl),
            Compact::Ports { tcp: true, ports } => self.set_ports(ports, ip_proto::TCP, offset_of!(Tcp, checksum)),
            Compact::Ports { tcp: false, ports } => self.set_ports(ports, ip_proto::UDP, offset_of!(Udp, checksum)),
        }
    }

    /// The header at `offset`, which may be `NO_OFFSET`.
    #[inline]
    fn header<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned>(&mut self, offset: u16) -> Option<&mut T> {
        if offset == NO_OFFSET {
            return None;
        }
        T::mut_from_prefix(self.bytes.get_mut(usize::from(offset)..)?).ok().map(|(h, _)| h)
    }

    /// The transport header and payload, without padding.
    #[inline]
    fn l4(&mut self) -> Option<&mut [u8]> {
        if self.at.l4 == NO_OFFSET {
            return None;
        }
        let end = self.bytes.len().checked_sub(usize::from(self.at.l2_pad))?;
        self.bytes.get_mut(usize::from(self.at.l4)..end)
    }

    /// Whether the IPv6 destination counts in the transport checksum: it does unless a routing header has segments left.
    #[inline]
    fn dst_counts(&self) -> bool {
        let l3 = usize::from(self.at.l3);
        match self.bytes.get(l3..).and_then(|b| Ipv6::ref_from_prefix(b).ok()) {
            Some((ip, rest)) if is_extension(ip.next) => !is_routed(rest, ip.next),
            _ => true,
        }
    }

    /// Where the transport checksum is that covers the pseudo header, if there is one to be kept right.
    #[inline]
    fn pseudo_checksum(&mut self) -> Option<&mut [u8; 2]> {
        let (offset, least) = match self.at.transport {
            ip_proto::TCP => (offset_of!(Tcp, checksum), size_of::<Tcp>()),
            ip_proto::UDP => (offset_of!(Udp, checksum), size_of::<Udp>()),
            ip_proto::ICMPV6 if self.at.network == NetworkLayer::Ipv6 => (offset_of!(Icmpv6, checksum), size_of::<Icmpv6>()),
            _ => return None,
        };
        let l4 = self.l4()?;
        if l4.len() < least {
            return None;
        }
        l4.get_mut(offset..)?.first_chunk_mut()
    }

    /// Replaces addresses `from` by `to` in the transport checksum.
    #[inline]
    fn readdress<const N: usize>(&mut self, from: &[u8; N], to: &[u8; N]) {
        let (partial, udp) = (self.partial, self.at.transport == ip_proto::UDP);
        let Some(sum) = self.pseudo_checksum() else { return };
        if partial {
            let complement = |s: [u8; 2]| s.map(|b| !b);
            *sum = complement(updated_words(complement(*sum), from, to));
        } else if !udp || *sum != [0, 0] {
            *sum = nonzero_if(udp, updated_words(*sum, from, to));
        }
    }

    #[inline]
    fn set_eth(&mut self, macs: &Bits<12>) -> Option<()> {
        if !has_ethernet(self.at) {
            return None;
        }
        let both: &mut [u8; 12] = self.bytes.first_chunk_mut()?;
        *both = macs.over(*both);
        Some(())
    }

    #[inline]
    fn set_ipv4(&mut self, addresses: &Bits<8>, tos_ttl: &Bits<2>) -> Option<()> {
        if self.at.network != NetworkLayer::Ipv4 {
            return None;
        }
        let h = self.header::<Ipv4>(self.at.l3)?;
        let old = [h.tos, h.ttl];
        let new = tos_ttl.over(old);
        if old != new {
            let words = |[tos, ttl]: [u8; 2]| [h.version_ihl, tos, ttl, h.proto];
            h.checksum = updated_words(h.checksum, &words(old), &words(new));
            [h.tos, h.ttl] = new;
        }
        let bytes: &mut [u8; 20] = h.as_mut_bytes().first_chunk_mut()?;
        let both: &mut [u8; 8] = bytes.last_chunk_mut()?;
        let from = *both;
        let to = addresses.over(from);
        if from != to {
            *both = to;
            h.checksum = updated_words(h.checksum, &from, &to);
            self.readdress(&from, &to);
        }
        Some(())
    }

    fn set_ipv6(&mut self, f: &SetField) -> Option<()> {
        if self.at.network != NetworkLayer::Ipv6 {
            return None;
        }
        let h = self.header::<Ipv6>(self.at.l3)?;
        let old = *h;
        merge!(h, src, f, ipv6_src);
        merge!(h, dst, f, ipv6_dst);
        [h.hop_limit] = merged([h.hop_limit], [f.value.nw_ttl], [f.mask.nw_ttl]);
        let first = |k: &Key| (u32::from_be_bytes(k.flow_label()) | u32::from(k.nw_tos) << 20).to_be_bytes();
        h.version_class_label = merged(h.version_class_label, first(&f.value), first(&f.mask));
        let new = *h;
        if old.src != new.src {
            self.readdress(&old.src, &new.src);
        }
        if old.dst != new.dst && self.dst_counts() {
            self.readdress(&old.dst, &new.dst);
        }
        Some(())
    }

    fn raise_drop_precedence(&mut self, levels: u8) -> Option<()> {
        match self.at.network {
            NetworkLayer::Ipv4 => {
                let h = self.header::<Ipv4>(self.at.l3)?;
                let old = [h.version_ihl, h.tos];
                h.tos = with_drop_precedence(h.tos, levels)?;
                h.checksum = updated(h.checksum, &old, &[h.version_ihl, h.tos]);
            }
            NetworkLayer::Ipv6 => {
                let h = self.header::<Ipv6>(self.at.l3)?;
                let word = u32::from_be_bytes(h.version_class_label);
                let class = with_drop_precedence(word.to_be_bytes()[0] << 4 | word.to_be_bytes()[1] >> 4, levels)?;
                h.version_class_label = (word & !0x0ff0_0000 | u32::from(class) << 20).to_be_bytes();
            }
            NetworkLayer::None | NetworkLayer::Arp | NetworkLayer::Nsh | NetworkLayer::Pbb => return None,
        }
        Some(())
    }

    /// The transport header, of the protocol wanted and at least as long as `T`.
    #[inline]
    fn transport<T>(&mut self, proto: u8) -> Option<&mut [u8]> {
        if self.at.transport != proto {
            return None;
        }
        self.l4().filter(|l4| l4.len() >= size_of::<T>())
    }

    /// Ports of TCP or UDP, whose checksum is at `sum_at`.
    #[inline]
    fn set_ports(&mut self, change: &Bits<4>, proto: u8, sum_at: usize) -> Option<()> {
        let (partial, udp) = (self.partial, proto == ip_proto::UDP);
        let l4 = if udp { self.transport::<Udp>(proto)? } else { self.transport::<Tcp>(proto)? };
        let ports: &mut [u8; 4] = l4.first_chunk_mut()?;
        let old = *ports;
        let new = change.over(old);
        *ports = new;
        let sum: &mut [u8; 2] = l4.get_mut(sum_at..)?.first_chunk_mut()?;
        let absent = udp && *sum == [0, 0];
        if !partial && !absent && old != new {
            *sum = nonzero_if(udp, updated_words(*sum, &old, &new));
        }
        Some(())
    }

    #[inline(never)]
    fn set_sctp(&mut self, f: &SetField) -> Option<()> {
        let partial = self.partial;
        let l4 = self.transport::<Sctp>(ip_proto::SCTP)?;
        let before = sctp_crc(l4);
        let (h, _) = Sctp::mut_from_prefix(l4).ok()?;
        merge!(h, src, f, tp_src);
        merge!(h, dst, f, tp_dst);
        if !partial {
            let stored = u32::from_le_bytes(h.checksum);
            let sum = (stored ^ before ^ sctp_crc(l4)).to_le_bytes();
            l4[offset_of!(Sctp, checksum)..size_of::<Sctp>()].copy_from_slice(&sum);
        }
        Some(())
    }

    /// Type and code. A partial checksum is of the pseudo header only and stays.
    fn set_icmp(&mut self, f: &SetField, proto: u8) -> Option<()> {
        let partial = self.partial;
        let l4 = self.transport::<Icmp>(proto)?;
        let (h, _) = Icmp::mut_from_prefix(l4).ok()?;
        let old = [h.kind, h.code];
        let [kind, code] = merged(old, [f.value.tp_src[1], f.value.tp_dst[1]], [f.mask.tp_src[1], f.mask.tp_dst[1]]);
        (h.kind, h.code) = (kind, code);
        if !partial {
            h.checksum = updated(h.checksum, &old, &[kind, code]);
            // The only message whose sum is 0 and not 0xffff: an update cannot tell the two apart (RFC 1624, 3).
            if h.checksum == [0, 0] && l4.iter().all(|b| *b == 0) {
                l4[offset_of!(Icmp, checksum)..][..2].fill(0xff);
            }
        }
        Some(())
    }

    fn set_arp(&mut self, f: &SetField) -> Option<()> {
        if self.at.network != NetworkLayer::Arp {
            return None;
        }
        let h = self.header::<Arp>(self.at.l3)?;
        merge!(h, spa, f, nw_src);
        merge!(h, tpa, f, nw_dst);
        merge!(h, sha, f, arp_sha);
        merge!(h, tha, f, arp_tha);
        // The key holds opcodes below 256: a full mask sets both bytes, a partial one the low byte.
        if f.mask.nw_proto == u8::MAX {
            h.op[0] = 0;
        }
        [h.op[1]] = merged([h.op[1]], [f.value.nw_proto], [f.mask.nw_proto]);
        Some(())
    }

    /// Neighbour discovery's message in the transport header and its options, when it is one.
    fn nd(&mut self) -> Option<&mut [u8]> {
        let l4 = self.transport::<[u8; 24]>(ip_proto::ICMPV6)?;
        (matches!(l4[0], wire::ND_SOLICIT | wire::ND_ADVERT) && l4[1] == 0).then_some(l4)
    }

    fn set_nd(&mut self, f: &SetField) -> Option<()> {
        let partial = self.partial;
        let l4 = self.nd()?;
        let mut sum: [u8; 2] = *l4[offset_of!(Icmpv6, checksum)..].first_chunk()?;
        let (h, mut options) = NdTarget::mut_from_prefix(&mut l4[size_of::<Icmpv6>()..]).ok()?;
        let old = h.target;
        merge!(h, target, f, nd_target);
        sum = updated(sum, &old, &h.target);
        while let Ok((option, _)) = NdOption::mut_from_prefix(options) {
            let bytes = usize::from(option.len) * 8;
            if bytes == 0 || bytes > options.len() {
                break;
            }
            let (option, _) = NdOption::mut_from_prefix(options).ok()?;
            let old = option.mac;
            match (option.kind, bytes) {
                (wire::ND_OPT_SLL, 8) => merge!(option, mac, f, arp_sha),
                (wire::ND_OPT_TLL, 8) => merge!(option, mac, f, arp_tha),
                _ => {}
            }
            sum = updated(sum, &old, &option.mac);
            options = &mut options[bytes..];
        }
        if !partial {
            l4[offset_of!(Icmpv6, checksum)..][..2].copy_from_slice(&sum);
        }
        Some(())
    }

    /// The reserved field, and the type of the first link-layer address option.
    fn set_nd_ext(&mut self, f: &SetField) -> Option<()> {
        let partial = self.partial;
        let l4 = self.nd()?;
        let (h, rest) = Icmpv6::mut_from_prefix(l4).ok()?;
        let old = h.rest;
        merge!(h, rest, f, nd_reserved);
        let mut sum = updated(h.checksum, &old, &h.rest);
        if let Some((option, _)) = rest.get_mut(size_of::<NdTarget>()..).and_then(|o| NdOption::mut_from_prefix(o).ok()) {
            let old = [option.kind, option.len];
            [option.kind] = merged([option.kind], [f.value.tcp_flags[0]], [f.mask.tcp_flags[0]]);
            sum = updated(sum, &old, &[option.kind, option.len]);
        }
        if !partial {
            h.checksum = sum;
        }
        Some(())
    }

    fn set_pbb(&mut self, f: &SetField) -> Option<()> {
        if self.at.network != NetworkLayer::Pbb {
            return None;
        }
        let h = self.header::<ITag>(self.at.l3)?;
        merge!(h, tci, f, nw_src);
        Some(())
    }

    fn set_nsh(&mut self, f: &SetField) -> Option<()> {
        if self.at.network != NetworkLayer::Nsh {
            return None;
        }
        let h = self.header::<Nsh>(self.at.l3)?;
        let head = |k: &Key| (u16::from(k.nsh_flags & 3) << 12 | u16::from(k.nsh_ttl & 0x3f) << 6).to_be_bytes();
        h.version_ttl_len = merged(h.version_ttl_len, head(&f.value), head(&f.mask));
        merge!(h, path, f, nsh_path);
        if h.mdtype == wire::NSH_MD1 {
            let context = self.at.l3.checked_add(8)?;
            let c = self.header::<NshContext>(context)?;
            merge!(c, c1, f, nsh_c1);
            merge!(c, c2, f, nsh_c2);
            merge!(c, c3, f, nsh_c3);
            merge!(c, c4, f, nsh_c4);
        }
        Some(())
    }
}

/// A checksum as it is stored: that of UDP is never 0, which means "none" (RFC 768).
#[inline]
pub(crate) fn nonzero_if(udp: bool, sum: [u8; 2]) -> [u8; 2] {
    if udp && sum == [0, 0] { [0xff; 2] } else { sum }
}

/// CRC32c of an SCTP packet with its checksum field taken as zero (RFC 9260, 6.8).
fn sctp_crc(l4: &[u8]) -> u32 {
    checksum::crc32c(&[&l4[..offset_of!(Sctp, checksum)], &[0; 4], &l4[size_of::<Sctp>()..]])
}

/// Whether a routing header with segments left is among these extension headers, before any later fragment.
#[cold]
fn is_routed(mut rest: &[u8], mut proto: u8) -> bool {
    while is_extension(proto) {
        let Ok((ext, _)) = Ipv6Ext::ref_from_prefix(rest) else { return false };
        // The second byte of its data counts the segments left (RFC 8200, 4.4).
        if proto == ip_proto::ROUTING && ext.data[1] != 0 {
            return true;
        }
        let bytes = match proto {
            ip_proto::FRAGMENT => 8,
            ip_proto::AH => (usize::from(ext.len) + 2) * 4,
            _ => (usize::from(ext.len) + 1) * 8,
        };
        proto = ext.next;
        rest = rest.get(bytes..).unwrap_or(&[]);
    }
    false
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
