//! A hardware rule: one tc-flower filter with its actions, as values.
//!
//! What enters: what `plan` could say of a megaflow, or what a filter read back says. What leaves: the same to `decode` and to the
//! netlink codec. A rule holds nothing that tc cannot say; what it says means exactly one megaflow (`decode`).

use crate::keys::FlowerKey;
use crate::meters::Limit;
use flow::DpPort;
use flow::key::Mask;
use std::net::IpAddr;

/// A filter: where it stands, what it matches, what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The device on whose ingress it stands.
    pub port: DpPort,
    /// The recirculation round: 0 is a packet just received.
    pub chain: u32,
    pub link: Link,
    /// In the order of `keys::ROWS`.
    pub items: Vec<Item>,
    pub fragment: Option<Fragment>,
    pub ct_state: Option<CtState>,
    pub tunnel: Option<TunnelMatch>,
    pub acts: Vec<Act>,
    /// Bits that a packet in hardware has as nought because nothing there can set them (marks, priorities). They are matched by
    /// being here, not by a key.
    pub nought: Box<Mask>,
}

/// A value under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub key: FlowerKey,
    pub value: u128,
    pub mask: u128,
}

/// VLAN tags and Ethernet type. A filter always says both: how many tags there are, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Outer and inner tag; no second without a first.
    pub tags: [Option<Tag>; 2],
    pub eth_type: u16,
}

/// A VLAN tag that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub tpid: u16,
    pub vid: Option<u16>,
    pub pcp: Option<u8>,
}

/// Fragments, as flower's flags say them: the bits of `TCA_FLOWER_KEY_FLAGS` with their mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub value: u32,
    pub mask: u32,
}

/// `TCA_FLOWER_KEY_FLAGS_IS_FRAGMENT`
pub const IS_FRAGMENT: u32 = 1;
/// `TCA_FLOWER_KEY_FLAGS_FRAG_IS_FIRST`
pub const IS_FIRST: u32 = 2;

/// Connection state in tc's bits (`TCA_FLOWER_KEY_CT_FLAGS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtState {
    pub value: u16,
    pub mask: u16,
}

/// What is matched of the outer header beside the rows of `keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelMatch {
    /// `TCA_FLOWER_KEY_ENC_KEY_ID`; tunnels without a key have none.
    pub id: Option<u32>,
    /// Which of `flow::key::TUN_*` (DF, checksum, OAM) are matched, and how (`TCA_FLOWER_KEY_ENC_FLAGS`).
    pub flags: u16,
    pub flags_mask: u16,
    /// Geneve options on the wire, with a mask for each bit; the total length is exact.
    pub geneve: Option<(Vec<u8>, Vec<u8>)>,
    /// VXLAN group policy: id and flags, whole.
    pub gbp: Option<u32>,
}

/// An action of tc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// mirred: out of a device, or (`ingress`) into the host through an internal port. Not the last one: a copy goes.
    Output {
        port: DpPort,
        ingress: bool,
        last: bool,
    },
    /// gact shot: the end of a packet that goes nowhere (further).
    Drop,
    /// gact goto chain: another recirculation round.
    Goto(u32),
    VlanPush {
        tpid: u16,
        vid: u16,
        pcp: u8,
    },
    VlanPop,
    EthPush {
        src: [u8; 6],
        dst: [u8; 6],
    },
    EthPop,
    MplsPush {
        lse: u32,
        proto: u16,
    },
    MplsPop {
        proto: u16,
    },
    MplsSet {
        label: Option<u32>,
        tc: Option<u8>,
        bos: Option<u8>,
        ttl: Option<u8>,
    },
    /// pedit, extended form: bytes of one header.
    Pedit {
        header: Header,
        words: Vec<Word>,
    },
    /// csum: `TCA_CSUM_UPDATE_FLAG_*`.
    Csum(u32),
    TunnelSet(Box<TunnelSet>),
    TunnelRelease,
    Ct(Box<CtAct>),
    CtClear,
    /// police, shared by all rules of a meter of the datapath. What exceeds the limit is dropped.
    Police {
        meter: u32,
        limit: Limit,
    },
    /// skbedit: what goes with a packet to whoever gets it next. No megaflow's: in hardware a packet has none of it.
    Skbedit(Skbedit),
    /// sample: one of `rate` packets goes to a psample group, cut to `trunc` bytes. No megaflow's yet: those that sample stay in software.
    Sample {
        rate: u32,
        group: u32,
        trunc: Option<u32>,
    },
    /// police by length: a packet longer than `mtu` bytes (with its Ethernet header) skips `jump` - 1 actions.
    Length {
        mtu: u32,
        jump: u32,
    },
}

impl Act {
    /// Whether other rules have the very same action, with its counters and its cookie.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Police { .. })
    }
}

/// What skbedit writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skbedit {
    /// The class of a queueing discipline, `MAJOR:MINOR`.
    pub priority: Option<u32>,
    pub queue: Option<u16>,
    pub mark: Option<u32>,
    pub mark_mask: Option<u32>,
    /// `PACKET_*`: for the host, for another.
    pub packet_type: Option<u16>,
}

/// `TCA_PEDIT_KEY_EX_HDR_TYPE_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Header {
    Eth = 1,
    Ipv4 = 2,
    Ipv6 = 3,
    Tcp = 4,
    Udp = 5,
}

/// 32 bits to write at `at` bytes from the start of a header; `mask` has the bits that change. Numbers in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub at: u32,
    pub value: u32,
    pub mask: u32,
}

/// csum of the IPv4 header.
pub const CSUM_IPV4: u32 = 1;
/// csum of ICMP and ICMPv6.
pub const CSUM_ICMP: u32 = 2;
/// csum of TCP.
pub const CSUM_TCP: u32 = 8;
/// csum of UDP.
pub const CSUM_UDP: u32 = 16;

/// `tunnel_key set`: the outer header of the next output to a tunnel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSet {
    pub src: Option<IpAddr>,
    pub dst: IpAddr,
    pub id: Option<u32>,
    pub tos: u8,
    pub ttl: u8,
    pub dst_port: u16,
    pub csum: bool,
    pub df: bool,
    /// Geneve options on the wire.
    pub geneve: Vec<u8>,
    /// VXLAN group policy, id and flags.
    pub gbp: Option<u32>,
}

/// `ct`: through connection tracking.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CtAct {
    pub commit: bool,
    pub force: bool,
    pub zone: u16,
    /// value, mask
    pub mark: Option<(u32, u32)>,
    /// value, mask
    pub label: Option<(u128, u128)>,
    pub nat: Option<CtNat>,
}

/// NAT of `ct`; neither `src` nor `dst`: as the connection says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CtNat {
    pub src: bool,
    pub dst: bool,
    pub addr: Option<(IpAddr, IpAddr)>,
    pub ports: Option<(u16, u16)>,
}
