//! Datapath actions: what a megaflow does to its packets. One table; text and plan forms loop over it.
//!
//! Numbers and names are those of `enum ovs_action_attr` (reference: actions.md, section 5).

use crate::key::Key;
use crate::seam::DpPort;

/// A list of datapath actions. Empty means drop.
pub type Actions = Vec<Action>;

/// One datapath action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To a datapath port.
    Output(DpPort),
    /// To a userspace handler.
    Userspace(Box<Userspace>),
    /// Sets header or metadata fields: for each 1-bit of `mask` the bit of `value`. `mask` covers the fields of ONE key
    /// attribute (eth, ipv4, tcp, ...), named by `attr`. A full mask prints as `set(...)`, a partial one with masks.
    Set(Box<SetField>),
    PushVlan {
        tpid: u16,
        tci: u16,
    },
    PopVlan,
    /// Runs `actions` on a copy with probability `probability / u32::MAX`.
    Sample {
        probability: u32,
        actions: Actions,
    },
    Recirc(u32),
    /// Computes `dp_hash`.
    Hash {
        alg: HashAlg,
        basis: u32,
    },
    /// `lse` in host order.
    PushMpls {
        lse: u32,
        eth_type: u16,
    },
    PopMpls {
        eth_type: u16,
    },
    Ct(Box<Ct>),
    /// At most `max_len` bytes of the next output.
    Trunc(u32),
    PushEth {
        src: [u8; 6],
        dst: [u8; 6],
    },
    PopEth,
    CtClear,
    PushNsh(Box<Nsh>),
    PopNsh,
    /// A backbone header with the frame's own addresses and an I-TAG (OpenFlow 1.3 section 7.2.5): service instance and priority.
    PushPbb {
        isid: u32,
        pcp: u8,
    },
    /// Takes the backbone header, tags included, and the I-TAG away; layers must be extracted anew.
    PopPbb,
    /// Copies the TTL of the first MPLS label into the header beneath it (a label, IPv4 or IPv6), or the other way.
    CopyTtl {
        inwards: bool,
    },
    Meter(u32),
    Clone(Actions),
    CheckPktLen {
        size: u16,
        greater: Actions,
        less_equal: Actions,
    },
    AddMpls {
        lse: u32,
        eth_type: u16,
        l3: bool,
    },
    DecTtl {
        exceeded: Actions,
    },
    /// Explicit drop with the translation's reason (0 is none).
    Drop(u32),
    Psample {
        group: u32,
        cookie: Vec<u8>,
    },
    TunnelPush(Box<TunnelPush>),
    TunnelPop(DpPort),
    LbOutput(u32),
}

/// `OVS_HASH_ALG_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlg {
    L4,
    SymL4,
}

/// The key attribute that a `Set` touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAttr {
    Priority,
    Mark,
    Eth,
    Ipv4,
    Ipv6,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    Arp,
    Nd,
    NdExt,
    /// First label stack entry.
    Mpls,
    Nsh,
    /// The I-TAG's first four bytes, at `nw_src`.
    Pbb,
    Tunnel,
}

/// Fields to set, within one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetField {
    pub attr: SetAttr,
    pub value: Key,
    pub mask: Key,
}

/// Conntrack action.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ct {
    pub commit: bool,
    pub force: bool,
    pub zone: u16,
    /// value, mask
    pub mark: Option<(u32, u32)>,
    pub label: Option<(u128, u128)>,
    /// "ftp" or "tftp"
    pub helper: Option<String>,
    pub timeout: Option<String>,
    pub nat: Option<Nat>,
    pub event_mask: Option<u32>,
}

/// NAT part of a conntrack action. Neither `src` nor `dst`: translate as the connection's NAT says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Nat {
    pub src: bool,
    pub dst: bool,
    /// min and max, `None` when no address is given
    pub addr: Option<(std::net::IpAddr, std::net::IpAddr)>,
    pub ports: Option<(u16, u16)>,
    pub persistent: bool,
    pub hash: bool,
    pub random: bool,
}

/// NSH header to push.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Nsh {
    pub flags: u8,
    pub ttl: u8,
    pub mdtype: u8,
    pub np: u8,
    /// SPI << 8 | SI
    pub path: u32,
    /// context headers (md type 1) or TLVs (md type 2)
    pub metadata: Vec<u8>,
}

/// A packet handed to userspace, with what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Userspace {
    /// Netlink port in the kernel's datapath; 0 or u32::MAX elsewhere. Printed as `pid=`.
    pub pid: u32,
    pub cookie: Cookie,
    /// Whether the datapath hands the actions that remain along.
    pub actions: bool,
    pub tunnel_out_port: Option<DpPort>,
}

/// Why a packet goes to userspace (`struct user_action_cookie`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The whole flow is handled in the slow path; reason bits of `SlowPath`.
    SlowPath {
        reasons: u32,
        ofp_in_port: u32,
        bridge: u64,
    },
    SFlow {
        vlan_tci: u16,
        output: u32,
    },
    FlowSample {
        probability: u16,
        collector_set_id: u32,
        obs_domain_id: u32,
        obs_point_id: u32,
        output_port: DpPort,
        direction: u8,
    },
    Ipfix {
        output_port: DpPort,
    },
    Controller {
        reason: u8,
        dont_send: bool,
        continuation: bool,
        recirc_id: u32,
        rule_cookie: u64,
        controller_id: u16,
        max_len: u16,
        bridge: u64,
        ofp_in_port: u32,
    },
    /// Opaque bytes (from `dpctl add-flow`).
    Raw(Vec<u8>),
}

/// Reasons for the slow path, bits in `Cookie::SlowPath::reasons`; names as printed by OVS.
pub const SLOW_REASONS: &[(u32, &str)] =
    &[(1, "cfm"), (2, "bfd"), (4, "lacp"), (8, "stp"), (16, "lldp"), (32, "controller"), (64, "action"), (128, "match")];

/// A prebuilt outer header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPush {
    pub tunnel_port: DpPort,
    pub out_port: DpPort,
    /// `OVS_VPORT_TYPE_*` number, printed as `type=`.
    pub kind: u32,
    pub header: Vec<u8>,
    /// The outer flow label (IPv6) is made of the inner flow of each packet: `label=compute`.
    pub computes_label: bool,
}

/// What is to be known of an action beside what it does: a row each, which whoever looks for a kind of action asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traits {
    /// It changes headers in another way than by setting fields of one.
    pub reheads: bool,
    /// The packet goes through conntrack or round again.
    pub tracks: bool,
    /// The packet may come up to the slow path.
    pub comes_up: bool,
    /// It does more with the packet than look at it or change it.
    pub leads_on: bool,
    /// No setting of fields, tags and labels makes the packet, or what is known of it, again what it was before.
    pub lasts: bool,
}

const REHEADS: Traits = Traits { reheads: true, ..NONE };
const NONE: Traits = Traits { reheads: false, tracks: false, comes_up: false, leads_on: false, lasts: false };
const LEADS_ON: Traits = Traits { leads_on: true, ..NONE };
const LASTS: Traits = Traits { lasts: true, ..NONE };

impl Action {
    /// The action's row. Of the lists within, nothing: see `any`.
    #[must_use]
    pub const fn traits(&self) -> Traits {
        match self {
            Self::PushVlan { .. } | Self::PopVlan | Self::PushMpls { .. } | Self::PopMpls { .. } | Self::AddMpls { .. } => {
                REHEADS
            }
            Self::PushEth { .. }
            | Self::PopEth
            | Self::PushNsh(_)
            | Self::PopNsh
            | Self::PushPbb { .. }
            | Self::PopPbb
            | Self::CopyTtl { .. } => Traits { lasts: true, ..REHEADS },
            Self::Output(_) | Self::LbOutput(_) | Self::Psample { .. } => LEADS_ON,
            Self::TunnelPush(_) => Traits { lasts: true, ..LEADS_ON },
            Self::Ct(_) => Traits { tracks: true, lasts: true, ..LEADS_ON },
            Self::CtClear => Traits { tracks: true, ..LASTS },
            // Truncation waits for an output; a hash is of the headers as they were.
            Self::Meter(_) | Self::Hash { .. } | Self::Trunc(_) | Self::DecTtl { .. } => LASTS,
            Self::Recirc(_) => Traits { tracks: true, comes_up: true, ..LEADS_ON },
            Self::Userspace(_) | Self::TunnelPop(_) => Traits { comes_up: true, ..LEADS_ON },
            // Those with lists in them work on copies of their own, or end the packet.
            Self::Set(_) | Self::Drop(_) | Self::Sample { .. } | Self::Clone(_) | Self::CheckPktLen { .. } => NONE,
        }
    }

    /// The lists within, which the packet or a copy of it may go through.
    #[must_use]
    pub fn lists(&self) -> [&[Self]; 2] {
        if let Self::CheckPktLen { greater, less_equal, .. } = self {
            [greater, less_equal]
        } else if let Self::Sample { actions, .. } | Self::Clone(actions) | Self::DecTtl { exceeded: actions } = self {
            [actions, &[]]
        } else {
            [&[], &[]]
        }
    }

    /// Whether `test` holds for one of the actions, or for one within them.
    pub fn any(actions: &[Self], test: fn(&Self) -> bool) -> bool {
        actions.iter().any(|action| test(action) || action.lists().iter().any(|list| Self::any(list, test)))
    }
}
