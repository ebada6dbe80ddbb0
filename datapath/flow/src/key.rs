//! The key: every bit a packet, its metadata or the OpenFlow pipeline can be matched on, laid out for speed.
//!
//! What enters: bytes of a packet (through `extract`), values of fields (through `fields`). What leaves: a `Key` that the
//! caches compare, the classifiers hash and the text forms print. Neighbours: `fields` names each bit of it, `extract` fills it.
//!
//! # Layout
//!
//! A key is an array of 64-byte lines, ordered by how often packets decide on them:
//!
//! | line | what | touched by |
//! |---|---|---|
//! | 0 | Ethernet, VLANs, IPv4, transport, conntrack state, port, recirculation | every packet |
//! | 1 | IPv6 addresses, label and extension headers, ARP and ND hardware addresses, first MPLS label, marks | IPv6, ARP, ND, MPLS |
//! | 2 | ND target, ct label, NSH, further MPLS labels | rare |
//! | 3 | original tuple of conntrack, outer IPv4 header | conntrack, tunnels |
//! | 4 | outer IPv6 header, tunnel options of fixed size | tunnels |
//! | 5-8 | tunnel metadata (Geneve options) | tunnels |
//! | 9-11 | registers, metadata, conjunction and action-set output | OpenFlow pipeline only |
//!
//! A TCP or UDP packet over IPv4 has all it needs in line 0; over IPv6 in lines 0 and 1. A line that is all zero need not be
//! looked at: `Lines` says which lines of a key or mask hold anything. Numbers stand in network byte order, as on the wire.
//!
//! The same key serves the datapath (where `in_port` is a datapath port and lines 9-11 are zero) and the OpenFlow pipeline
//! (where `in_port` is an OpenFlow port).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in a line: a cache line, and one AVX-512 register.
pub const LINE_BYTES: usize = 64;
/// Lines in a key.
pub const LINES: usize = 12;
/// Lines that the datapath uses; the rest belongs to the OpenFlow pipeline.
pub const DATAPATH_LINES: usize = 9;
const LINE_WORDS: usize = LINE_BYTES / 8;
/// 64-bit words in a key.
pub const WORDS: usize = LINES * LINE_BYTES / 8;
/// MPLS label stack entries that a key holds.
pub const MPLS_LABELS_MAX: usize = 3;
/// Bytes of tunnel metadata.
pub const TUN_METADATA_BYTES: usize = 256;

/// Later fragment bits of `nw_frag`.
pub const FRAG_ANY: u8 = 1;
/// The fragment is not the first.
pub const FRAG_LATER: u8 = 2;
/// The flow label's bits of `ipv6_label`; above them stand those of the extension headers (`exthdr`).
pub const IPV6_LABEL: u32 = 0xf_ffff;
/// Set in `vlan_tci` when a tag is present (the wire's CFI/DEI bit).
pub const VLAN_CFI: u16 = 0x1000;

/// `tun_flags`: the outer header has "don't fragment".
pub const TUN_DF: u16 = 1;
/// `tun_flags`: the outer UDP or GRE header has a checksum.
pub const TUN_CSUM: u16 = 2;
/// `tun_flags`: the tunnel header has a key (`tun_id`).
pub const TUN_KEY: u16 = 4;
/// `tun_flags`: an operations and management packet.
pub const TUN_OAM: u16 = 8;
/// `in_port` of a datapath key that has none.
pub const DP_PORT_NONE: [u8; 4] = [0xff; 4];

/// Storage of all fields. Also used as a mask: a 1-bit says that the bit is matched.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Key {
    // line 0
    pub eth_dst: [u8; 6],
    pub eth_src: [u8; 6],
    /// Ethernet type after VLAN tags; 0x05ff for an 802.2 frame without one.
    pub eth_type: [u8; 2],
    /// Outer VLAN tag, `VLAN_CFI` set when present.
    pub vlan_tci: [u8; 2],
    /// IPv4 source, ARP sender protocol address, or the first four bytes of an I-TAG (decision 0084).
    pub nw_src: [u8; 4],
    /// IPv4 destination, or ARP target protocol address.
    pub nw_dst: [u8; 4],
    /// Transport source port; ICMP, ICMPv6 and IGMP type.
    pub tp_src: [u8; 2],
    /// Transport destination port; ICMP, ICMPv6 and IGMP code.
    pub tp_dst: [u8; 2],
    /// IP protocol; low 8 bits of the ARP opcode.
    pub nw_proto: u8,
    /// TOS or traffic class.
    pub nw_tos: u8,
    /// TTL or hop limit.
    pub nw_ttl: u8,
    /// `FRAG_ANY`, `FRAG_LATER`.
    pub nw_frag: u8,
    /// TCP flags in the low 12 bits; the ND options type in the high byte of neighbour discovery.
    pub tcp_flags: [u8; 2],
    /// TPID of the outer tag (0x8100, 0x88a8), 0 without one.
    pub vlan_tpid: [u8; 2],
    /// Datapath port in the datapath, OpenFlow port in the pipeline.
    pub in_port: [u8; 4],
    pub recirc_id: [u8; 4],
    pub dp_hash: [u8; 4],
    /// OVS_CS_F_* bits (new est rel rpl inv trk snat dnat).
    pub ct_state: u8,
    pub ct_nw_proto: u8,
    pub ct_zone: [u8; 2],
    pub ct_mark: [u8; 4],
    /// Namespace and type: 0 is Ethernet.
    pub packet_type: [u8; 4],
    /// Inner VLAN tag.
    pub vlan2_tci: [u8; 2],
    pub vlan2_tpid: [u8; 2],
    // line 1
    pub ipv6_src: [u8; 16],
    pub ipv6_dst: [u8; 16],
    /// Flow label in the low 20 bits, IPV6_EXTHDR in the nine above it (decision 0098).
    pub ipv6_label: [u8; 4],
    /// ARP sender hardware address, or ND source link-layer address.
    pub arp_sha: [u8; 6],
    /// ARP target hardware address, or ND target link-layer address.
    pub arp_tha: [u8; 6],
    /// Reserved field of ND; group address of IGMP.
    pub nd_reserved: [u8; 4],
    pub mpls_lse0: [u8; 4],
    pub skb_priority: [u8; 4],
    pub pkt_mark: [u8; 4],
    // line 2
    pub nd_target: [u8; 16],
    pub ct_label: [u8; 16],
    pub nsh_flags: u8,
    pub nsh_ttl: u8,
    pub nsh_mdtype: u8,
    pub nsh_np: u8,
    /// Service path identifier (24 bits) and index (8 bits).
    pub nsh_path: [u8; 4],
    pub nsh_c1: [u8; 4],
    pub nsh_c2: [u8; 4],
    pub nsh_c3: [u8; 4],
    pub nsh_c4: [u8; 4],
    pub mpls_lse1: [u8; 4],
    pub mpls_lse2: [u8; 4],
    // line 3
    pub ct_nw_src: [u8; 4],
    pub ct_nw_dst: [u8; 4],
    pub ct_ipv6_src: [u8; 16],
    pub ct_ipv6_dst: [u8; 16],
    pub ct_tp_src: [u8; 2],
    pub ct_tp_dst: [u8; 2],
    pub tun_id: [u8; 8],
    pub tun_src: [u8; 4],
    pub tun_dst: [u8; 4],
    /// FLOW_TNL_F_* bits: DF 1, checksum 2, key 4, OAM 8 (`TUN_DF` and so on).
    pub tun_flags: [u8; 2],
    pub tun_tos: u8,
    pub tun_ttl: u8,
    // line 4
    pub tun_ipv6_src: [u8; 16],
    pub tun_ipv6_dst: [u8; 16],
    pub tun_tp_src: [u8; 2],
    pub tun_tp_dst: [u8; 2],
    pub tun_gbp_id: [u8; 2],
    pub tun_gbp_flags: u8,
    pub tun_erspan_ver: u8,
    pub tun_erspan_idx: [u8; 4],
    pub tun_erspan_dir: u8,
    pub tun_erspan_hwid: u8,
    pub tun_gtpu_flags: u8,
    pub tun_gtpu_msgtype: u8,
    /// In the OpenFlow pipeline: which of tun_metadata0..63 are present (bit n from the right for tun_metadata n).
    /// In the datapath: how many bytes of `tun_metadata` hold Geneve options.
    pub tun_metadata_present: [u8; 8],
    pub conj_id: [u8; 4],
    pub actset_output: [u8; 4],
    // lines 5-8
    /// In the OpenFlow pipeline: the options' values, where `fields::TunnelOptions` puts them.
    /// In the datapath: Geneve options as on the wire.
    pub tun_metadata: [u8; TUN_METADATA_BYTES],
    // lines 9-10
    pub regs: [[u8; 4]; 32],
    // line 11
    pub metadata: [u8; 8],
    /// Always zero.
    pub spare: [u8; 56],
}

const _: () = assert!(size_of::<Key>() == LINES * LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(Key, ipv6_src) == LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(Key, nd_target) == 2 * LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(Key, ct_nw_src) == 3 * LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(Key, tun_ipv6_src) == 4 * LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(Key, tun_metadata) == 5 * LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(Key, regs) == DATAPATH_LINES * LINE_BYTES);

/// One bit per line that holds anything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lines(pub u16);

/// Bits that decided something. A 1-bit too many is only slow; a missing one is wrong.
pub type Mask = Key;

impl Key {
    /// All zero.
    pub const ZERO: Self = zerocopy::transmute!([0u8; LINES * LINE_BYTES]);

    /// The key as 64-bit words in memory order.
    #[must_use]
    pub fn words(&self) -> &[u64; WORDS] {
        zerocopy::transmute_ref!(self)
    }

    /// The key as mutable 64-bit words in memory order.
    pub fn words_mut(&mut self) -> &mut [u64; WORDS] {
        zerocopy::transmute_mut!(self)
    }

    /// The flow label, or its mask, without what stands above it.
    #[must_use]
    pub fn flow_label(&self) -> [u8; 4] {
        (u32::from_be_bytes(self.ipv6_label) & IPV6_LABEL).to_be_bytes()
    }

    /// Which lines are not all zero.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let mut lines = 0;
        for (i, line) in self.words().chunks_exact(LINE_BYTES / 8).enumerate() {
            if line.iter().any(|w| *w != 0) {
                lines |= 1 << i;
            }
        }
        Lines(lines)
    }

    /// `self & mask`.
    #[must_use]
    #[allow(clippy::use_self, reason = "a mask is another thing than a key")]
    pub fn masked(&self, mask: &Mask) -> Self {
        let mut out = *self;
        for (o, m) in out.words_mut().iter_mut().zip(mask.words()) {
            *o &= m;
        }
        out
    }

    /// Adds every bit of `other`.
    pub fn or_with(&mut self, other: &Self) {
        for (o, m) in self.words_mut().iter_mut().zip(other.words()) {
            *o |= m;
        }
    }

    /// Whether `self` and `other` agree in each bit of `mask`.
    #[must_use]
    #[allow(clippy::use_self, reason = "a mask is another thing than a key")]
    pub fn equal_under(&self, other: &Self, mask: &Mask) -> bool {
        // Line by line: within one there is no branch, so that the compiler makes wide instructions of it.
        let lines = self.words().chunks_exact(LINE_WORDS).zip(other.words().chunks_exact(LINE_WORDS));
        lines
            .zip(mask.words().chunks_exact(LINE_WORDS))
            .all(|((a, b), m)| a.iter().zip(b).zip(m).fold(0, |differs, ((a, b), m)| differs | (a ^ b) & m) == 0)
    }

    /// Whether each 1-bit of `self` is also one of `other` (for masks: `self` is wider or equal).
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.words().iter().zip(other.words()).all(|(a, b)| a & !b == 0)
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::ZERO
    }
}

impl std::fmt::Debug for Key {
    /// The words that are not zero, by number (the text forms live in `dptext` and `oftext`).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.words().iter().enumerate().filter(|(_, w)| **w != 0).map(|(i, w)| (i, u64::from_be(*w))))
            .finish()
    }
}
