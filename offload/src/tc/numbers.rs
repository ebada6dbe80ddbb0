//! Numbers of linux/rtnetlink.h, linux/pkt_cls.h and linux/tc_act/*.h.

/// Messages about filters.
pub const RTM_NEWTFILTER: u16 = 44;
pub const RTM_DELTFILTER: u16 = 45;
pub const RTM_GETTFILTER: u16 = 46;
/// Messages about actions that stand by themselves.
pub const RTM_NEWACTION: u16 = 48;
pub const RTM_DELACTION: u16 = 49;
pub const RTM_GETACTION: u16 = 50;
/// A device is gone, or in another namespace.
pub const RTM_DELLINK: u16 = 17;
/// Behind `struct tcamsg`: the actions, and what of them is wanted.
pub const TCA_ACT_TAB: u16 = 1;
pub const TCA_ROOT_FLAGS: u16 = 2;
/// In `TCA_ROOT_FLAGS`: as many as fit into a message.
pub const LARGE_DUMP: u32 = 1;
/// A queueing discipline is made, removed, asked for.
pub const RTM_NEWQDISC: u16 = 36;
pub const RTM_DELQDISC: u16 = 37;
pub const RTM_GETQDISC: u16 = 38;
/// The parent of clsact, and its handle.
pub const CLSACT: u32 = 0xffff_fff1;
pub const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `TCM_IFINDEX_MAGIC_BLOCK`: the parent is a shared block.
pub const BLOCK: i32 = -1;
/// The ingress and the egress side of clsact.
pub const INGRESS: u32 = 0xffff_fff2;
pub const EGRESS: u32 = 0xffff_fff3;
/// Numbers of blocks that are ours: "FR", and what tells them apart.
pub const BLOCKS: u32 = 0x4652_0000;
pub const BLOCKS_MASK: u32 = 0xffff_0000;

pub const TCA_KIND: u16 = 1;
pub const TCA_OPTIONS: u16 = 2;
pub const TCA_CHAIN: u16 = 11;
/// The block that the ingress side shares with other devices.
pub const TCA_INGRESS_BLOCK: u16 = 13;

/// `TCA_FLOWER_*` that are no rows of `keys`.
pub mod flower {
    pub const ACT: u16 = 3;
    pub const ETH_TYPE: u16 = 8;
    pub const FLAGS: u16 = 22;
    pub const VLAN_ID: u16 = 23;
    pub const VLAN_PRIO: u16 = 24;
    pub const VLAN_ETH_TYPE: u16 = 25;
    pub const ENC_KEY_ID: u16 = 26;
    pub const KEY_FLAGS: u16 = 47;
    pub const KEY_FLAGS_MASK: u16 = 48;
    pub const CVLAN_ID: u16 = 77;
    pub const CVLAN_PRIO: u16 = 78;
    pub const CVLAN_ETH_TYPE: u16 = 79;
    pub const ENC_OPTS: u16 = 84;
    pub const ENC_OPTS_MASK: u16 = 85;
    pub const IN_HW_COUNT: u16 = 86;
    pub const CT_STATE: u16 = 91;
    pub const CT_STATE_MASK: u16 = 92;
    pub const MPLS_OPTS: u16 = 99;
    pub const ENC_FLAGS: u16 = 110;
    pub const ENC_FLAGS_MASK: u16 = 111;
    /// Inside `MPLS_OPTS`, one for each label.
    pub const LSE: u16 = 1;
    /// Inside a label: which it is, from 1.
    pub const LSE_DEPTH: u16 = 1;
    pub const LSE_TTL: u16 = 2;
    pub const LSE_BOS: u16 = 3;
    pub const LSE_TC: u16 = 4;
    pub const LSE_LABEL: u16 = 5;
    /// Inside `ENC_OPTS`.
    pub const OPTS_GENEVE: u16 = 1;
    pub const OPTS_VXLAN: u16 = 2;
    /// Inside the options of Geneve.
    pub const GENEVE_CLASS: u16 = 1;
    pub const GENEVE_TYPE: u16 = 2;
    pub const GENEVE_DATA: u16 = 3;
    /// Inside the options of VXLAN.
    pub const VXLAN_GBP: u16 = 1;
    /// In `ENC_FLAGS`, network order.
    pub const TUNNEL_CSUM: u32 = 1 << 2;
    pub const TUNNEL_DF: u32 = 1 << 3;
    pub const TUNNEL_OAM: u32 = 1 << 4;
}

/// In `flower::FLAGS`.
pub const SKIP_HW: u32 = 1;
pub const SKIP_SW: u32 = 2;
pub const IN_HW: u32 = 4;
pub const NOT_IN_HW: u32 = 8;

/// Attributes of an action.
pub mod act {
    pub const KIND: u16 = 1;
    pub const OPTIONS: u16 = 2;
    pub const STATS: u16 = 4;
    pub const COOKIE: u16 = 6;
    pub const INDEX: u16 = 3;
    pub const FLAGS: u16 = 7;
    pub const IN_HW_COUNT: u16 = 10;
    /// In `FLAGS`, which has bits and which of them count.
    pub const SKIP_HW: u32 = 2;
    pub const SKIP_SW: u32 = 4;
    /// Inside `STATS`.
    pub const STATS_BASIC: u16 = 1;
    pub const STATS_QUEUE: u16 = 3;
    pub const STATS_BASIC_HW: u16 = 7;
    pub const STATS_PACKETS64: u16 = 8;
}

/// What happens after an action (`TC_ACT_*`).
pub mod verdict {
    pub const SHOT: i32 = 2;
    pub const PIPE: i32 = 3;
    pub const STOLEN: i32 = 4;
    pub const JUMP: i32 = 0x1000_0000;
    pub const GOTO_CHAIN: i32 = 0x2000_0000;
    /// The number in a jump or goto.
    pub const VALUE: i32 = 0x0fff_ffff;
}

pub mod mirred {
    pub const PARMS: u16 = 2;
    pub const EGRESS_REDIR: i32 = 1;
    pub const EGRESS_MIRROR: i32 = 2;
    pub const INGRESS_REDIR: i32 = 3;
    pub const INGRESS_MIRROR: i32 = 4;
}

pub mod gact {
    pub const PARMS: u16 = 2;
}

pub mod vlan {
    pub const PARMS: u16 = 2;
    pub const ID: u16 = 3;
    pub const PROTOCOL: u16 = 4;
    pub const PRIORITY: u16 = 6;
    pub const ETH_DST: u16 = 7;
    pub const ETH_SRC: u16 = 8;
    pub const POP: i32 = 1;
    pub const PUSH: i32 = 2;
    pub const POP_ETH: i32 = 4;
    pub const PUSH_ETH: i32 = 5;
}

pub mod mpls {
    pub const PARMS: u16 = 2;
    pub const PROTO: u16 = 4;
    pub const LABEL: u16 = 5;
    pub const TC: u16 = 6;
    pub const TTL: u16 = 7;
    pub const BOS: u16 = 8;
    pub const POP: i32 = 1;
    pub const PUSH: i32 = 2;
    pub const MODIFY: i32 = 3;
}

pub mod pedit {
    pub const PARMS_EX: u16 = 4;
    pub const KEYS_EX: u16 = 5;
    pub const KEY_EX: u16 = 6;
    pub const HTYPE: u16 = 1;
    pub const CMD: u16 = 2;
    pub const CMD_SET: u16 = 0;
}

pub mod csum {
    pub const PARMS: u16 = 1;
}

pub mod tunnel_key {
    pub const PARMS: u16 = 2;
    pub const IPV4_SRC: u16 = 3;
    pub const IPV4_DST: u16 = 4;
    pub const IPV6_SRC: u16 = 5;
    pub const IPV6_DST: u16 = 6;
    pub const KEY_ID: u16 = 7;
    pub const DST_PORT: u16 = 9;
    pub const NO_CSUM: u16 = 10;
    pub const OPTS: u16 = 11;
    pub const TOS: u16 = 12;
    pub const TTL: u16 = 13;
    pub const NO_FRAG: u16 = 14;
    pub const SET: i32 = 1;
    pub const RELEASE: i32 = 2;
}

pub mod ct {
    pub const PARMS: u16 = 1;
    pub const ACTION: u16 = 3;
    pub const ZONE: u16 = 4;
    pub const MARK: u16 = 5;
    pub const MARK_MASK: u16 = 6;
    pub const LABELS: u16 = 7;
    pub const LABELS_MASK: u16 = 8;
    pub const NAT_IPV4_MIN: u16 = 9;
    pub const NAT_IPV4_MAX: u16 = 10;
    pub const NAT_IPV6_MIN: u16 = 11;
    pub const NAT_IPV6_MAX: u16 = 12;
    pub const NAT_PORT_MIN: u16 = 13;
    pub const NAT_PORT_MAX: u16 = 14;
    /// In `ACTION`.
    pub const COMMIT: u16 = 1;
    pub const FORCE: u16 = 2;
    pub const CLEAR: u16 = 4;
    pub const NAT: u16 = 8;
    pub const NAT_SRC: u16 = 16;
    pub const NAT_DST: u16 = 32;
}

pub mod skbedit {
    pub const PARMS: u16 = 2;
    pub const PRIORITY: u16 = 3;
    pub const QUEUE: u16 = 4;
    pub const MARK: u16 = 5;
    pub const PACKET_TYPE: u16 = 7;
    pub const MARK_MASK: u16 = 8;
}

pub mod sample {
    pub const PARMS: u16 = 2;
    pub const RATE: u16 = 3;
    pub const TRUNC: u16 = 4;
    pub const GROUP: u16 = 5;
}

pub mod police {
    pub const TBF: u16 = 1;
    pub const RATE: u16 = 2;
    pub const RESULT: u16 = 5;
    pub const RATE64: u16 = 8;
    pub const PKTRATE64: u16 = 10;
    pub const PKTBURST64: u16 = 11;
    /// Bytes of `struct tc_police`, and where in it `struct tc_ratespec`, its cells' alignment and its rate are.
    pub const LEN: usize = 56;
    pub const RATESPEC: usize = 20;
    pub const CELL_ALIGN: usize = 24;
    pub const RATESPEC_RATE: usize = 28;
    /// `TC_LINKLAYER_ETHERNET`
    pub const ETHERNET: u8 = 1;
    /// The longest packet: longer ones exceed. The cells of the table of rates reach to it.
    pub const MTU: u32 = 0xffff;
    pub const CELLS: usize = 256;
    pub const CELL_LOG: u8 = 8;
    /// Indexes of meters: apart from those of OVS, which begin at 0x1000_0000.
    pub const METERS: u32 = 0x4000_0000;
    pub const METERS_MASK: u32 = 0xf000_0000;
}

/// Errors of the kernel, `errno.h`.
pub mod errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EEXIST: i32 = 17;
    pub const ENODEV: i32 = 19;
    pub const EINVAL: i32 = 22;
    pub const ENOSPC: i32 = 28;
    pub const EOPNOTSUPP: i32 = 95;
    /// The kernel's own, which some drivers let out.
    pub const ENOTSUPP: i32 = 524;
}
