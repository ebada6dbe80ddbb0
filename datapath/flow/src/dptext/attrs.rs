//! The table of datapath key attributes: their names and members in text. `write` and `read` loop over it.
//!
//! The members of `tunnel` come and go with their values, `encap`, `vlan` and `mpls` nest or repeat: these have code of their own.

use crate::fields::{DpAttr, Field, Place, Store};
use crate::key::Key;
use core::mem::offset_of;

/// One attribute.
#[derive(Debug)]
pub(crate) struct Attr {
    pub(crate) attr: DpAttr,
    /// As in `name(...)`.
    pub(crate) name: &'static str,
    /// One member with an empty name for an attribute that is a plain value.
    pub(crate) members: &'static [Member],
}

/// One member: `name=value/mask`.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    /// Another name that is read, too.
    pub(crate) alias: &'static str,
    at: At,
    pub(crate) look: Look,
}

#[derive(Debug)]
enum At {
    Field(Field),
    Raw(Place),
}

/// How a member looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// `1` or `1/0xf`
    Dec,
    /// `0x1`, `0` for zero
    Hex,
    /// `0x1`, `0x0` for zero; its mask as `Hex`
    Hex0,
    /// `0x0800`
    Hex4,
    Mac,
    Ip4,
    Ip6,
    Frag,
    CtState,
    TcpFlags,
    Port,
    /// NSH words: `0x0`, and a mask of eight digits.
    Word,
    /// The reserved field of neighbour discovery: `0x0`, always shown, without its mask.
    Reserved,
    /// NSH bytes: `1`, or `0x01/0x0f` when masked.
    Byte,
}

impl Member {
    pub(crate) fn place(&self) -> Place {
        match self.at {
            At::Field(field) => Place { store: Store::Plain, ..field.row().place },
            At::Raw(place) => place,
        }
    }
}

impl Attr {
    /// Whether no bit of the attribute is matched.
    pub(crate) fn is_wild(&self, mask: &Key) -> bool {
        self.members.iter().all(|m| m.place().read(mask) == 0)
    }
}

const fn m(name: &'static str, field: Field, look: Look) -> Member {
    Member { name, alias: "", at: At::Field(field), look }
}

/// Bits of the first four bytes of an I-TAG (IEEE 802.1Q-2018, 9.7).
const fn tag(name: &'static str, lo: u16, bits: u16) -> Member {
    #[allow(clippy::cast_possible_truncation, reason = "an offset inside Key")]
    let place = Place { byte: offset_of!(Key, nw_src) as u16, bytes: 4, lo, bits, store: Store::Plain };
    Member { name, alias: "", at: At::Raw(place), look: Look::Dec }
}

const fn raw(name: &'static str, byte: usize, bytes: u16, look: Look) -> Member {
    #[allow(clippy::cast_possible_truncation, reason = "an offset inside Key")]
    let place = Place { byte: byte as u16, bytes, lo: 0, bits: bytes * 8, store: Store::Plain };
    Member { name, alias: "", at: At::Raw(place), look }
}

macro_rules! attrs {
    ($( $attr:ident $name:literal [ $($member:expr),* $(,)? ] )*) => {
        /// Every attribute with plain members.
        pub(crate) static ATTRS: &[Attr] = &[ $( Attr { attr: DpAttr::$attr, name: $name, members: &[ $($member),* ] } ),* ];
    };
}

attrs! {
    Priority "skb_priority" [m("", Field::SkbPriority, Look::Hex)]
    SkbMark "skb_mark" [m("", Field::PktMark, Look::Hex)]
    CtState "ct_state" [m("", Field::CtState, Look::CtState)]
    CtZone "ct_zone" [m("", Field::CtZone, Look::Hex)]
    CtMark "ct_mark" [m("", Field::CtMark, Look::Hex)]
    CtLabels "ct_label" [m("", Field::CtLabel, Look::Hex)]
    CtTuple4 "ct_tuple4" [
        m("src", Field::CtNwSrc, Look::Ip4), m("dst", Field::CtNwDst, Look::Ip4), m("proto", Field::CtNwProto, Look::Dec),
        m("tp_src", Field::CtTpSrc, Look::Dec), m("tp_dst", Field::CtTpDst, Look::Dec),
    ]
    CtTuple6 "ct_tuple6" [
        m("src", Field::CtIpv6Src, Look::Ip6), m("dst", Field::CtIpv6Dst, Look::Ip6), m("proto", Field::CtNwProto, Look::Dec),
        Member { alias: "tp_src", ..m("src_port", Field::CtTpSrc, Look::Dec) },
        Member { alias: "tp_dst", ..m("dst_port", Field::CtTpDst, Look::Dec) },
    ]
    RecircId "recirc_id" [m("", Field::RecircId, Look::Hex)]
    DpHash "dp_hash" [m("", Field::DpHash, Look::Hex)]
    InPort "in_port" [m("", Field::InPort, Look::Port)]
    PacketType "packet_type" [
        raw("ns", offset_of!(Key, packet_type), 2, Look::Dec), raw("id", offset_of!(Key, packet_type) + 2, 2, Look::Hex),
    ]
    Ethernet "eth" [m("src", Field::EthSrc, Look::Mac), m("dst", Field::EthDst, Look::Mac)]
    Ethertype "eth_type" [m("", Field::EthType, Look::Hex4)]
    Ipv4 "ipv4" [
        m("src", Field::IpSrc, Look::Ip4), m("dst", Field::IpDst, Look::Ip4), m("proto", Field::NwProto, Look::Dec),
        raw("tos", offset_of!(Key, nw_tos), 1, Look::Hex), m("ttl", Field::NwTtl, Look::Dec), m("frag", Field::IpFrag, Look::Frag),
    ]
    Ipv6 "ipv6" [
        m("src", Field::Ipv6Src, Look::Ip6), m("dst", Field::Ipv6Dst, Look::Ip6), m("label", Field::Ipv6Label, Look::Hex),
        m("proto", Field::NwProto, Look::Dec), raw("tclass", offset_of!(Key, nw_tos), 1, Look::Hex),
        m("hlimit", Field::NwTtl, Look::Dec), m("frag", Field::IpFrag, Look::Frag),
    ]
    Ipv6Exthdrs "ipv6_exthdr" [m("", Field::Ipv6Exthdr, Look::Hex)]
    Arp "arp" [
        m("sip", Field::ArpSpa, Look::Ip4), m("tip", Field::ArpTpa, Look::Ip4), m("op", Field::ArpOp, Look::Dec),
        m("sha", Field::ArpSha, Look::Mac), m("tha", Field::ArpTha, Look::Mac),
    ]
    Tcp "tcp" [m("src", Field::TcpSrc, Look::Dec), m("dst", Field::TcpDst, Look::Dec)]
    TcpFlags "tcp_flags" [m("", Field::TcpFlags, Look::TcpFlags)]
    Udp "udp" [m("src", Field::UdpSrc, Look::Dec), m("dst", Field::UdpDst, Look::Dec)]
    Sctp "sctp" [m("src", Field::SctpSrc, Look::Dec), m("dst", Field::SctpDst, Look::Dec)]
    Icmp "icmp" [m("type", Field::IcmpType, Look::Dec), m("code", Field::IcmpCode, Look::Dec)]
    Icmpv6 "icmpv6" [m("type", Field::Icmpv6Type, Look::Dec), m("code", Field::Icmpv6Code, Look::Dec)]
    Nd "nd" [m("target", Field::NdTarget, Look::Ip6), m("sll", Field::NdSll, Look::Mac), m("tll", Field::NdTll, Look::Mac)]
    NdExt "nd_ext" [m("nd_reserved", Field::NdReserved, Look::Reserved), m("nd_options_type", Field::NdOptionsType, Look::Dec)]
    Nsh "nsh" [
        m("flags", Field::NshFlags, Look::Byte), m("ttl", Field::NshTtl, Look::Byte), m("mdtype", Field::NshMdtype, Look::Byte),
        m("np", Field::NshNp, Look::Byte), m("spi", Field::NshSpi, Look::Word), m("si", Field::NshSi, Look::Byte),
        m("c1", Field::NshC1, Look::Word), m("c2", Field::NshC2, Look::Word), m("c3", Field::NshC3, Look::Word),
        m("c4", Field::NshC4, Look::Word),
    ]
    Pbb "pbb" [tag("isid", 0, 24), tag("pcp", 29, 3), tag("dei", 28, 1), tag("uca", 27, 1), tag("res", 24, 3)]
}

/// Members of `tunnel` that look like members of the attributes above; each is there when its value is not zero.
pub(crate) static TUNNEL: &[Member] = &[
    m("tun_id", Field::TunId, Look::Hex0),
    m("src", Field::TunSrc, Look::Ip4),
    m("dst", Field::TunDst, Look::Ip4),
    m("ipv6_src", Field::TunIpv6Src, Look::Ip6),
    m("ipv6_dst", Field::TunIpv6Dst, Look::Ip6),
    m("tos", Field::TunTos, Look::Hex),
    m("ttl", Field::TunTtl, Look::Dec),
    raw("tp_src", offset_of!(Key, tun_tp_src), 2, Look::Dec),
    raw("tp_dst", offset_of!(Key, tun_tp_dst), 2, Look::Dec),
];

/// The row of an attribute.
pub(crate) fn attr(attr: DpAttr) -> Option<&'static Attr> {
    ATTRS.iter().find(|a| a.attr == attr)
}

/// `vxlan(gbp(...))`
pub(crate) static GBP: &[Member] = &[m("id", Field::TunGbpId, Look::Dec), m("flags", Field::TunGbpFlags, Look::Hex)];
/// `erspan(...)` of version 1.
pub(crate) static ERSPAN_1: &[Member] = &[m("ver", Field::TunErspanVer, Look::Dec), m("idx", Field::TunErspanIdx, Look::Hex)];
/// `erspan(...)` of version 2.
pub(crate) static ERSPAN_2: &[Member] = &[
    m("ver", Field::TunErspanVer, Look::Dec),
    m("dir", Field::TunErspanDir, Look::Dec),
    m("hwid", Field::TunErspanHwid, Look::Hex),
];
/// `gtpu(...)`
pub(crate) static GTPU: &[Member] = &[m("flags", Field::TunGtpuFlags, Look::Hex), m("msgtype", Field::TunGtpuMsgtype, Look::Dec)];
