//! The table of tc-flower keys: where each lies in a megaflow's key, how it stands on the wire, and when it means anything.
//!
//! What enters: nothing. What leaves: rows, over which `plan`, `decode` and the netlink codec loop. A bit of a mask that no row
//! claims cannot be said to hardware, and `plan` refuses the megaflow for it.
//! Labels under the first stand in one attribute, `TCA_FLOWER_KEY_MPLS_OPTS`, and take the first with them (`tc::matches`).
//!
//! Numbers are those of `TCA_FLOWER_KEY_*` (linux/pkt_cls.h). VLAN tags, the Ethernet type, fragments, connection state and tunnel
//! flags and options are not rows: they are said in forms of their own (`rule::Link` and its neighbours).

use flow::key::{Key, Mask};
use zerocopy::IntoBytes;

/// Where a field lies: bits `lo..lo + bits` from the right of the big-endian number at `byte..byte + bytes` of a `Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub byte: usize,
    pub bytes: usize,
    pub lo: u32,
    pub bits: u32,
}

impl Place {
    const fn all(self) -> u128 {
        if self.bits == 128 { u128::MAX } else { (1 << self.bits) - 1 }
    }

    /// The number there.
    #[must_use]
    pub fn read(self, key: &Key) -> u128 {
        let whole = match key.as_bytes()[self.byte..self.byte + self.bytes] {
            [a] => a.into(),
            [a, b] => u16::from_be_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]).into(),
            ref more => more.iter().fold(0, |n, b| n << 8 | u128::from(*b)),
        };
        whole >> self.lo & self.all()
    }

    /// Replaces the number there.
    pub fn write(self, key: &mut Key, value: u128) {
        let slice = &mut key.as_mut_bytes()[self.byte..self.byte + self.bytes];
        let whole = slice.iter().fold(0, |n, b| n << 8 | u128::from(*b));
        let new = whole & !(self.all() << self.lo) | (value & self.all()) << self.lo;
        slice.copy_from_slice(&new.to_be_bytes()[16 - self.bytes..]);
    }
}

/// A [`Place`] by the name of a member of `Key`, whole or some of its bits.
macro_rules! place {
    ($member:ident) => {
        $crate::keys::place!($member, 0, 0)
    };
    ($member:ident [$lo:literal .. $hi:literal]) => {
        $crate::keys::place!($member, $lo, $hi)
    };
    ($member:ident, $lo:literal, $hi:literal) => {{
        const fn size_of_part<T>(_: fn(&flow::Key) -> *const T) -> usize {
            size_of::<T>()
        }
        const BYTES: usize = size_of_part(|k: &flow::Key| &raw const k.$member);
        #[allow(clippy::cast_possible_truncation, reason = "members of a key are at most 256 bytes")]
        const HI: u32 = if $hi == 0 { BYTES as u32 * 8 } else { $hi };
        $crate::keys::Place { byte: core::mem::offset_of!(flow::Key, $member), bytes: BYTES, lo: $lo, bits: HI - $lo }
    }};
}
pub(crate) use place;

/// What a packet must be for a key to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    Ip,
    Ipv4,
    Ipv6,
    Arp,
    Mpls,
    /// It has a second, a third label.
    Mpls2,
    Mpls3,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    /// The packet came out of a tunnel over IPv4, over IPv6, over either.
    Tunnel4,
    Tunnel6,
    Tunnel,
}

/// How a value stands in its attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `n` bytes, network order.
    Big(u8),
    /// `n` bytes, the processor's order.
    Host(u8),
    /// `n` bytes, least significant first (connection labels).
    Little(u8),
}

/// Whether a key takes a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// The attribute that holds the mask.
    Attribute(u16),
    /// Whole or not at all.
    Whole,
}

/// One row.
#[derive(Debug)]
pub struct Row {
    pub key: FlowerKey,
    /// As OVS's text names it.
    pub name: &'static str,
    /// `TCA_FLOWER_KEY_*`.
    pub attribute: u16,
    pub masking: Masking,
    pub wire: Wire,
    pub place: Place,
    pub when: When,
}

macro_rules! keys {
    ($( $id:ident $name:literal $attribute:literal $(/ $mask:literal)? $wire:ident($n:literal) in
        $member:ident $([$lo:literal .. $hi:literal])? when $when:ident; )*) => {
        /// A key of tc-flower.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FlowerKey { $( $id ),* }

        /// The rows, in the order of `FlowerKey`.
        pub static ROWS: &[Row] = &[ $( Row {
            key: FlowerKey::$id,
            name: $name,
            attribute: $attribute,
            masking: keys!(@mask $($mask)?),
            wire: Wire::$wire($n),
            place: place!($member $([$lo .. $hi])?),
            when: When::$when,
        } ),* ];
    };
    (@mask) => { Masking::Whole };
    (@mask $mask:literal) => { Masking::Attribute($mask) };
}

keys! {
    EthDst "eth(dst)" 4/5 Big(6) in eth_dst when Always;
    EthSrc "eth(src)" 6/7 Big(6) in eth_src when Always;
    IpProto "ip(proto)" 9 Big(1) in nw_proto when Ip;
    Ipv4Src "ipv4(src)" 10/11 Big(4) in nw_src when Ipv4;
    Ipv4Dst "ipv4(dst)" 12/13 Big(4) in nw_dst when Ipv4;
    Ipv6Src "ipv6(src)" 14/15 Big(16) in ipv6_src when Ipv6;
    Ipv6Dst "ipv6(dst)" 16/17 Big(16) in ipv6_dst when Ipv6;
    TcpSrc "tcp(src)" 18/35 Big(2) in tp_src when Tcp;
    TcpDst "tcp(dst)" 19/36 Big(2) in tp_dst when Tcp;
    UdpSrc "udp(src)" 20/37 Big(2) in tp_src when Udp;
    UdpDst "udp(dst)" 21/38 Big(2) in tp_dst when Udp;
    SctpSrc "sctp(src)" 41/39 Big(2) in tp_src when Sctp;
    SctpDst "sctp(dst)" 42/40 Big(2) in tp_dst when Sctp;
    TcpFlags "tcp_flags" 71/72 Big(2) in tcp_flags[0..12] when Tcp;
    IpTos "ip(tos)" 73/74 Big(1) in nw_tos when Ip;
    IpTtl "ip(ttl)" 75/76 Big(1) in nw_ttl when Ip;
    Icmpv4Type "icmp(type)" 51/52 Big(1) in tp_src[0..8] when Icmpv4;
    Icmpv4Code "icmp(code)" 49/50 Big(1) in tp_dst[0..8] when Icmpv4;
    Icmpv6Type "icmpv6(type)" 55/56 Big(1) in tp_src[0..8] when Icmpv6;
    Icmpv6Code "icmpv6(code)" 53/54 Big(1) in tp_dst[0..8] when Icmpv6;
    ArpSip "arp(sip)" 57/58 Big(4) in nw_src when Arp;
    ArpTip "arp(tip)" 59/60 Big(4) in nw_dst when Arp;
    ArpOp "arp(op)" 61/62 Big(1) in nw_proto when Arp;
    ArpSha "arp(sha)" 63/64 Big(6) in arp_sha when Arp;
    ArpTha "arp(tha)" 65/66 Big(6) in arp_tha when Arp;
    MplsTtl "mpls(ttl)" 67 Big(1) in mpls_lse0[0..8] when Mpls;
    MplsBos "mpls(bos)" 68 Big(1) in mpls_lse0[8..9] when Mpls;
    MplsTc "mpls(tc)" 69 Big(1) in mpls_lse0[9..12] when Mpls;
    MplsLabel "mpls(label)" 70 Host(4) in mpls_lse0[12..32] when Mpls;
    Mpls2Ttl "mpls2(ttl)" 99 Big(1) in mpls_lse1[0..8] when Mpls2;
    Mpls2Bos "mpls2(bos)" 99 Big(1) in mpls_lse1[8..9] when Mpls2;
    Mpls2Tc "mpls2(tc)" 99 Big(1) in mpls_lse1[9..12] when Mpls2;
    Mpls2Label "mpls2(label)" 99 Host(4) in mpls_lse1[12..32] when Mpls2;
    Mpls3Ttl "mpls3(ttl)" 99 Big(1) in mpls_lse2[0..8] when Mpls3;
    Mpls3Bos "mpls3(bos)" 99 Big(1) in mpls_lse2[8..9] when Mpls3;
    Mpls3Tc "mpls3(tc)" 99 Big(1) in mpls_lse2[9..12] when Mpls3;
    Mpls3Label "mpls3(label)" 99 Host(4) in mpls_lse2[12..32] when Mpls3;
    CtZone "ct_zone" 93/94 Host(2) in ct_zone when Always;
    CtMark "ct_mark" 95/96 Host(4) in ct_mark when Always;
    CtLabel "ct_label" 97/98 Little(16) in ct_label when Always;
    EncIpv4Src "tunnel(src)" 27/28 Big(4) in tun_src when Tunnel4;
    EncIpv4Dst "tunnel(dst)" 29/30 Big(4) in tun_dst when Tunnel4;
    EncIpv6Src "tunnel(ipv6_src)" 31/32 Big(16) in tun_ipv6_src when Tunnel6;
    EncIpv6Dst "tunnel(ipv6_dst)" 33/34 Big(16) in tun_ipv6_dst when Tunnel6;
    EncUdpSrc "tunnel(tp_src)" 43/44 Big(2) in tun_tp_src when Tunnel;
    EncUdpDst "tunnel(tp_dst)" 45/46 Big(2) in tun_tp_dst when Tunnel;
    EncTos "tunnel(tos)" 80/81 Big(1) in tun_tos when Tunnel;
    EncTtl "tunnel(ttl)" 82/83 Big(1) in tun_ttl when Tunnel;
}

impl FlowerKey {
    /// The key's row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

impl Row {
    /// All bits of the value.
    #[must_use]
    pub const fn whole(&self) -> u128 {
        self.place.all()
    }
}

/// What a packet of `key` is, as far as `mask` says it for sure.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    pub key: &'k Key,
    pub mask: &'k Mask,
}

impl Known<'_> {
    /// The Ethernet type, if it is matched whole.
    #[must_use]
    pub fn eth_type(&self) -> Option<u16> {
        (self.mask.eth_type == [0xff; 2]).then(|| u16::from_be_bytes(self.key.eth_type))
    }

    /// The IP protocol, if the packet is IP and it is matched whole.
    #[must_use]
    pub fn ip_proto(&self) -> Option<u8> {
        (self.is(When::Ip) && self.mask.nw_proto == 0xff).then_some(self.key.nw_proto)
    }

    /// Whether the packet surely is no fragment.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.mask.nw_frag & 1 != 0 && self.key.nw_frag & 1 == 0
    }

    /// Whether the packet surely is such a one.
    #[must_use]
    pub fn is(&self, when: When) -> bool {
        use flow::wire::{eth_type, ip_proto};
        let ty = self.eth_type();
        match when {
            When::Always => true,
            When::Ip => self.is(When::Ipv4) || self.is(When::Ipv6),
            When::Ipv4 => ty == Some(eth_type::IPV4),
            When::Ipv6 => ty == Some(eth_type::IPV6),
            When::Arp => ty == Some(eth_type::ARP) || ty == Some(eth_type::RARP),
            When::Mpls => ty == Some(eth_type::MPLS) || ty == Some(eth_type::MPLS_MULTICAST),
            When::Mpls2 => self.is(When::Mpls) && is_above(self.key.mpls_lse0, self.mask.mpls_lse0),
            When::Mpls3 => self.is(When::Mpls2) && is_above(self.key.mpls_lse1, self.mask.mpls_lse1),
            When::Tcp => self.ip_proto() == Some(ip_proto::TCP),
            When::Udp => self.ip_proto() == Some(ip_proto::UDP),
            When::Sctp => self.ip_proto() == Some(ip_proto::SCTP),
            When::Icmpv4 => self.is(When::Ipv4) && self.ip_proto() == Some(ip_proto::ICMP),
            When::Icmpv6 => self.is(When::Ipv6) && self.ip_proto() == Some(ip_proto::ICMPV6),
            When::Tunnel4 => self.mask.tun_dst != [0; 4] && self.key.tun_dst != [0; 4],
            When::Tunnel6 => self.mask.tun_ipv6_dst != [0; 16] && self.key.tun_ipv6_dst != [0; 16],
            When::Tunnel => self.is(When::Tunnel4) || self.is(When::Tunnel6),
        }
    }
}

/// The bit of a label that is the last (RFC 3032 section 2.1), in its third byte.
pub(crate) const BOTTOM: u8 = 1;

/// Whether a label surely has another under it.
const fn is_above(lse: [u8; 4], mask: [u8; 4]) -> bool {
    mask[2] & BOTTOM != 0 && lse[2] & BOTTOM == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::fields::{Field, Flower};

    /// The field table says which key of tc-flower a field has; this room must say the same.
    #[test]
    fn agrees_with_the_field_table() {
        for field in Field::ALL {
            let def = field.row();
            let (attribute, mask) = match def.flower {
                Flower::Exact(a) => (a, None),
                Flower::Masked(a, m) => (a, Some(m)),
                Flower::Absent | Flower::Filter | Flower::Parts => continue,
            };
            let Some(row) = ROWS.iter().find(|r| r.attribute == attribute) else {
                // Said in a form of its own: Ethernet type, VLAN, fragments, state, tunnel id and options.
                assert!(matches!(attribute, 8 | 23 | 24 | 26 | 47 | 84 | 91 | 100 | 110), "{}: {attribute}", def.name);
                continue;
            };
            assert_eq!(row.place.byte, usize::from(def.place.byte), "{}", def.name);
            if let (Some(m), Masking::Attribute(own)) = (mask, row.masking) {
                assert_eq!(m, own, "{}", def.name);
            }
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_their_keys() {
        for (i, row) in ROWS.iter().enumerate() {
            assert_eq!(row.key as usize, i);
        }
    }
}
