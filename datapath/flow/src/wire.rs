//! Headers as they stand on the wire: structs of bytes in network order, without alignment, for reading and rewriting in place.
//!
//! What enters: slices of packets (`ref_from_prefix`, `mut_from_prefix`). What leaves: fields by name; `offset_of!` on these
//! structs gives the one truth about where a field lies, for extraction, rewriting and offload alike. Neighbours: `extract`,
//! `compose`, `rewrite`.

#![allow(missing_debug_implementations, reason = "zerocopy's derives make hidden marker types; every header derives Debug")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! headers {
    ($( $(#[doc = $doc:literal])* $name:ident = $size:literal { $( $(#[doc = $fdoc:literal])* $field:ident : $ty:ty ),* $(,)? } )*) => {
        $(
            $(#[doc = $doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
            pub struct $name { $( $(#[doc = $fdoc])* pub $field: $ty ),* }
            const _: () = assert!(size_of::<$name>() == $size);
            const _: () = assert!(align_of::<$name>() == 1);
        )*
    };
}

headers! {
    /// Ethernet II (IEEE 802.3 clause 3).
    Ethernet = 14 { dst: [u8; 6], src: [u8; 6], eth_type: [u8; 2] }
    /// What stands between the addresses and the type: an 802.1Q or 802.1ad tag.
    VlanTag = 4 { tpid: [u8; 2], tci: [u8; 2] }
    /// 802.2 LLC and SNAP after a length field.
    LlcSnap = 8 { dsap: u8, ssap: u8, control: u8, org: [u8; 3], eth_type: [u8; 2] }
    /// MPLS label stack entry (RFC 3032, 2.1): label 20, traffic class 3, bottom 1, TTL 8.
    MplsLse = 4 { lse: [u8; 4] }
    /// ARP for Ethernet and IPv4 (RFC 826).
    Arp = 28 {
        hardware: [u8; 2], protocol: [u8; 2], hardware_len: u8, protocol_len: u8, op: [u8; 2],
        sha: [u8; 6], spa: [u8; 4], tha: [u8; 6], tpa: [u8; 4],
    }
    /// IPv4 without options (RFC 791, 3.1).
    Ipv4 = 20 {
        version_ihl: u8, tos: u8, total_len: [u8; 2], id: [u8; 2],
        /// Flags 3 bits, offset 13 bits in units of 8 bytes.
        frag: [u8; 2],
        ttl: u8, proto: u8, checksum: [u8; 2], src: [u8; 4], dst: [u8; 4],
    }
    /// IPv6 (RFC 8200, 3).
    Ipv6 = 40 {
        /// Version 4 bits, traffic class 8 bits, flow label 20 bits.
        version_class_label: [u8; 4],
        payload_len: [u8; 2], next: u8, hop_limit: u8, src: [u8; 16], dst: [u8; 16],
    }
    /// First 8 bytes of hop-by-hop, routing, destination options and authentication headers.
    Ipv6Ext = 8 {
        next: u8,
        /// Length: in 8 bytes without the first 8; for AH in 4 bytes without the first 8 (RFC 4302, 2.2).
        len: u8,
        data: [u8; 6],
    }
    /// IPv6 fragment header (RFC 8200, 4.5).
    Ipv6Frag = 8 {
        next: u8, reserved: u8,
        /// Offset 13 bits in units of 8 bytes, 2 reserved, more-fragments 1.
        offset_more: [u8; 2],
        id: [u8; 4],
    }
    /// TCP without options (RFC 9293, 3.1).
    Tcp = 20 {
        src: [u8; 2], dst: [u8; 2], seq: [u8; 4], ack: [u8; 4],
        /// Data offset 4 bits, flags 12 bits.
        offset_flags: [u8; 2],
        window: [u8; 2], checksum: [u8; 2], urgent: [u8; 2],
    }
    /// UDP (RFC 768).
    Udp = 8 { src: [u8; 2], dst: [u8; 2], len: [u8; 2], checksum: [u8; 2] }
    /// SCTP common header (RFC 9260, 3.1). The checksum is CRC32c, least significant byte first.
    Sctp = 12 { src: [u8; 2], dst: [u8; 2], tag: [u8; 4], checksum: [u8; 4] }
    /// ICMP (RFC 792).
    Icmp = 8 { kind: u8, code: u8, checksum: [u8; 2], rest: [u8; 4] }
    /// ICMPv6 with the four bytes that follow (RFC 4443, 2.1).
    Icmpv6 = 8 { kind: u8, code: u8, checksum: [u8; 2], rest: [u8; 4] }
    /// Neighbour solicitation and advertisement after the ICMPv6 header (RFC 4861, 4.3).
    NdTarget = 16 { target: [u8; 16] }
    /// Link-layer address option of neighbour discovery (RFC 4861, 4.6.1).
    NdOption = 8 {
        kind: u8,
        /// In units of 8 bytes.
        len: u8,
        mac: [u8; 6],
    }
    /// IGMPv2 (RFC 2236, 2).
    Igmp = 8 { kind: u8, code: u8, checksum: [u8; 2], group: [u8; 4] }
    /// NSH base and service path header (RFC 8300, 2.2 and 2.3).
    Nsh = 8 {
        /// Version 2 bits, O 1, reserved 1, TTL 6, length 6 in units of 4 bytes.
        version_ttl_len: [u8; 2],
        /// Low 4 bits.
        mdtype: u8,
        next: u8,
        /// Service path identifier 24 bits, index 8 bits.
        path: [u8; 4],
    }
    /// NSH MD type 1 context headers (RFC 8300, 2.4).
    NshContext = 16 { c1: [u8; 4], c2: [u8; 4], c3: [u8; 4], c4: [u8; 4] }
    /// I-TAG of a provider backbone bridge with the type of what the customer sent (IEEE 802.1Q-2018, 9.7).
    ITag = 18 {
        /// Priority 3 bits, drop eligible 1, use customer addresses 1, reserved 3, service instance 24.
        tci: [u8; 4],
        dst: [u8; 6], src: [u8; 6], eth_type: [u8; 2],
    }
    /// GRE base (RFC 2784, 2.1); checksum, key and sequence number follow as the flags say (RFC 2890).
    Gre = 4 { flags: [u8; 2], protocol: [u8; 2] }
    /// VXLAN (RFC 7348, 5); with GPE the last byte of `flags` names the next protocol.
    Vxlan = 8 { flags: [u8; 4], vni: [u8; 3], reserved: u8 }
    /// Geneve base (RFC 8926, 3.4).
    Geneve = 8 {
        /// Version 2 bits, options length 6 bits in units of 4 bytes.
        version_len: u8,
        /// O 0x80, C 0x40.
        flags: u8,
        protocol: [u8; 2], vni: [u8; 3], reserved: u8,
    }
    /// Geneve option header (RFC 8926, 3.5).
    GeneveOption = 4 {
        class: [u8; 2], kind: u8,
        /// Low 5 bits, in units of 4 bytes.
        len: u8,
    }
}

/// Ethernet types (IEEE).
pub mod eth_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const TEB: u16 = 0x6558;
    pub const RARP: u16 = 0x8035;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MULTICAST: u16 = 0x8848;
    pub const QINQ: u16 = 0x88a8;
    /// An I-TAG of a provider backbone bridge.
    pub const PBB: u16 = 0x88e7;
    pub const NSH: u16 = 0x894f;
    /// Below this the field is a length.
    pub const MIN: u16 = 0x0600;
    /// Stands for "no type": an 802.2 frame without SNAP.
    pub const NONE: u16 = 0x05ff;
}

/// IP protocol numbers (IANA).
pub mod ip_proto {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NONE: u8 = 59;
    pub const DEST_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
}

/// ICMPv6 types of neighbour discovery (RFC 4861, 4.3 and 4.4).
pub const ND_SOLICIT: u8 = 135;
/// Neighbour advertisement.
pub const ND_ADVERT: u8 = 136;
/// Source link-layer address option.
pub const ND_OPT_SLL: u8 = 1;
/// Target link-layer address option.
pub const ND_OPT_TLL: u8 = 2;
/// NSH with four context headers.
pub const NSH_MD1: u8 = 1;
/// NSH with TLVs.
pub const NSH_MD2: u8 = 2;
/// Bottom-of-stack bit of an MPLS label stack entry.
pub const MPLS_BOS: u32 = 0x100;
