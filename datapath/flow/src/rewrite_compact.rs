//! Changes of the fields that are changed most, in a form of a few bytes, made once when a megaflow is put.
//!
//! What enters: a `SetField`, which holds two whole keys. What leaves: the values and masks of one header, as they stand on the wire, so
//! that thousands of megaflows with rewrites of their own cost the forwarding core one or two cache lines each. Neighbours: `rewrite`,
//! which applies them and makes them on the spot for whoever has only a `SetField`; `rewrite_joint`, several at once.

use crate::action::{SetAttr, SetField};
use crate::key::Key;
use crate::rewrite::PacketBuf;
use crate::wire::ip_proto;

/// Bits to be set: those of `mask`, to what they are in `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits<const N: usize> {
    pub value: [u8; N],
    pub mask: [u8; N],
}

impl<const N: usize> Bits<N> {
    /// No bits.
    pub const NOTHING: Self = Self { value: [0; N], mask: [0; N] };

    #[inline]
    fn of(field: &SetField, bytes: impl Fn(&Key) -> [u8; N]) -> Self {
        Self { value: bytes(&field.value), mask: bytes(&field.mask) }
    }

    /// `old` with the bits set.
    #[inline(always)]
    #[must_use]
    pub fn over(&self, old: [u8; N]) -> [u8; N] {
        let mut new = old;
        let (words, rest) = new.as_chunks_mut::<4>();
        let (values, masks) = (self.value.as_chunks::<4>(), self.mask.as_chunks::<4>());
        for ((word, value), mask) in words.iter_mut().zip(values.0).zip(masks.0) {
            let mask = u32::from_ne_bytes(*mask);
            *word = (u32::from_ne_bytes(*word) & !mask | u32::from_ne_bytes(*value) & mask).to_ne_bytes();
        }
        for ((byte, value), mask) in rest.iter_mut().zip(values.1).zip(masks.1) {
            *byte = *byte & !mask | value & mask;
        }
        new
    }
}

/// One header's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compact {
    /// Ethernet destination and source.
    Macs(Bits<12>),
    /// Source and destination of IPv4; type of service and time to live.
    Ipv4 { addresses: Bits<8>, tos_ttl: Bits<2> },
    /// Source and destination port of TCP (true) or UDP.
    Ports { tcp: bool, ports: Bits<4> },
}

const _: () = assert!(size_of::<Compact>() <= 25);

impl Compact {
    /// The compact form of `field`; `None` for attributes that have none.
    #[inline]
    #[must_use]
    pub fn of(field: &SetField) -> Option<Self> {
        match field.attr {
            SetAttr::Eth => Some(Self::Macs(Bits::of(field, |k| joined(k.eth_dst, k.eth_src)))),
            SetAttr::Ipv4 => Some(Self::Ipv4 {
                addresses: Bits::of(field, |k| joined(k.nw_src, k.nw_dst)),
                tos_ttl: Bits::of(field, |k| [k.nw_tos, k.nw_ttl]),
            }),
            SetAttr::Tcp => Some(Self::ports(field, true)),
            SetAttr::Udp => Some(Self::ports(field, false)),
            SetAttr::Priority
            | SetAttr::Mark
            | SetAttr::Ipv6
            | SetAttr::Sctp
            | SetAttr::Icmp
            | SetAttr::Icmpv6
            | SetAttr::Arp
            | SetAttr::Nd
            | SetAttr::NdExt
            | SetAttr::Mpls
            | SetAttr::Nsh
            | SetAttr::Pbb
            | SetAttr::Tunnel => None,
        }
    }

    #[inline]
    fn ports(field: &SetField, tcp: bool) -> Self {
        Self::Ports { tcp, ports: Bits::of(field, |k| joined(k.tp_src, k.tp_dst)) }
    }

    /// Sets the fields. False, and no change, when the packet has no such header.
    #[inline]
    pub fn apply(&self, packet: &mut impl PacketBuf, at: &crate::extract::Extracted) -> bool {
        crate::rewrite::set_compact(packet, at, self)
    }

    /// The IP protocol that the change concerns, if it is one of a transport header.
    #[must_use]
    pub fn transport(&self) -> Option<u8> {
        match self {
            Self::Ports { tcp: true, .. } => Some(ip_proto::TCP),
            Self::Ports { tcp: false, .. } => Some(ip_proto::UDP),
            Self::Macs(_) | Self::Ipv4 { .. } => None,
        }
    }
}

/// Two fields that are neighbours on the wire.
#[inline]
fn joined<const N: usize, const M: usize>(first: [u8; N], second: [u8; N]) -> [u8; M] {
    const { assert!(M == 2 * N) };
    std::array::from_fn(|i| if i < N { first[i] } else { second[i - N] })
}
