//! The columns of the field table: what can be said about a field. `table` fills them in, everyone else reads them.

use super::Field;
use crate::key::Key;

/// One row of the table.
#[derive(Debug)]
pub struct Def {
    pub field: Field,
    /// OVS's primary name.
    pub name: &'static str,
    pub alias: Option<&'static str>,
    /// Where the field lies in `Key`.
    pub place: Place,
    /// Significant bits of the value.
    pub bits: u16,
    /// Bytes of the value on the wire (OXM payload); the most for tunnel metadata.
    pub bytes: u16,
    pub mask: MaskKind,
    /// How OpenFlow 1.0's fixed match can say it.
    pub of10: Express,
    /// How OpenFlow 1.1's fixed match can say it.
    pub of11: Express,
    /// What must be matched too.
    pub need: Need,
    /// Whether set-field, load and move may write it.
    pub writable: bool,
    pub form: Form,
    /// NXM and OXM code points, none for fields that have only a name.
    pub codes: &'static [Code],
    /// The datapath key attribute that carries it; `None` for what never leaves the OpenFlow layer.
    pub dp: Option<DpAttr>,
    pub flower: Flower,
    pub stage: Stage,
    /// Whether `Flow_Table.prefixes` may name it.
    pub prefix: bool,
}

/// Where a field lies: bits `lo..lo + bits` from the right of the big-endian number at `byte..byte + bytes` of `Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub byte: u16,
    pub bytes: u16,
    pub lo: u16,
    pub bits: u16,
    pub store: Store,
}

/// How the number in storage becomes the field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// As it is.
    Plain,
    /// The low 16 bits; an OpenFlow 1.0 port number.
    Port16,
    /// OpenFlow 1.1 form: 0xff00..=0xffff in storage is 0xffffff00..=0xffffffff.
    Port32,
    /// VLAN id that brings `VLAN_CFI` along; 0xffff stands for "no tag" (OpenFlow 1.0 section 5.2.3).
    Vid,
    /// Priority that brings `VLAN_CFI` along.
    Pcp,
    /// The value keeps the bits below `lo`, as zeros (`nw_tos`).
    Unshifted,
    /// A tunnel option; `TunnelOptions` says where.
    Option,
}

/// What masks a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// Exact or wildcard.
    Exact,
    /// Any bits.
    Bits,
}

/// What a fixed OpenFlow 1.0 or 1.1 match can say of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Express {
    No,
    Exact,
    Cidr,
    Bits,
}

/// What a match on a field needs beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    Ethernet,
    Vlan,
    Arp,
    Ipv4,
    Ipv6,
    Ip,
    Mpls,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    Nd,
    NdSolicit,
    NdAdvert,
    Nsh,
    Pbb,
    Ct,
}

/// The text form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Decimal,
    Hex,
    Ethernet,
    Ipv4,
    Ipv6,
    Port16,
    Port32,
    Frag,
    CtState,
    TunFlags,
    TcpFlags,
    PacketType,
}

/// Class of an NXM or OXM header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class(pub u16);

impl Class {
    pub const NXM_OF: Self = Self(0);
    pub const NXM_NX: Self = Self(1);
    pub const ERICSSON: Self = Self(0x1000);
    pub const OPENFLOW: Self = Self(0x8000);
    pub const PACKET_REGS: Self = Self(0x8001);
    pub const EXPERIMENTER: Self = Self(0xffff);
}

/// A code point. Its payload length is the row's `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub class: Class,
    /// 0 unless `class` is `EXPERIMENTER`.
    pub experimenter: u32,
    pub number: u8,
    /// Lowest OpenFlow wire version that has it (1 is 1.0, 6 is 1.5).
    pub version: u8,
    /// `NXM_OF_IN_PORT`, `OXM_OF_ETH_SRC`, ...
    pub name: &'static str,
}

/// `OVS_KEY_ATTR_*` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum DpAttr {
    Encap = 1,
    Priority = 2,
    InPort = 3,
    Ethernet = 4,
    Vlan = 5,
    Ethertype = 6,
    Ipv4 = 7,
    Ipv6 = 8,
    Tcp = 9,
    Udp = 10,
    Icmp = 11,
    Icmpv6 = 12,
    Arp = 13,
    Nd = 14,
    SkbMark = 15,
    Tunnel = 16,
    Sctp = 17,
    TcpFlags = 18,
    DpHash = 19,
    RecircId = 20,
    Mpls = 21,
    CtState = 22,
    CtZone = 23,
    CtMark = 24,
    CtLabels = 25,
    CtTuple4 = 26,
    CtTuple6 = 27,
    Nsh = 28,
    PacketType = 29,
    NdExt = 30,
    /// Linux's; OVS's user space does not use it.
    Ipv6Exthdrs = 32,
    /// Ours: OVS has no I-TAGs.
    Pbb = 64,
}

/// `TCA_FLOWER_*` numbers of key and mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flower {
    /// tc-flower has no key for it.
    Absent,
    /// Said by where the filter stands (port, chain), not by a key.
    Filter,
    /// Said by the keys of its parts (`vlan_tci`: id and priority).
    Parts,
    /// Exact only.
    Exact(u16),
    Masked(u16, u16),
}

/// The step of staged lookup in which a field is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    Metadata,
    L2,
    L3,
    L4,
}

const fn ones(bits: u16) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

impl Place {
    /// All bits of the value as it is stored.
    #[must_use]
    pub const fn all(self) -> u128 {
        ones(self.bits)
    }

    /// The stored number, without regard to `store`. Not for `Store::Option`, which is wider than a number.
    #[must_use]
    pub fn read(self, key: &Key) -> u128 {
        self.whole(key) >> self.lo & ones(self.bits)
    }

    /// Replaces the stored number. Does nothing for `Store::Option`.
    pub fn write(self, key: &mut Key, value: u128) {
        if self.store == Store::Option {
            return;
        }
        let new = self.whole(key) & !(ones(self.bits) << self.lo) | (value & ones(self.bits)) << self.lo;
        let bytes = usize::from(self.bytes);
        self.slice_mut(key).copy_from_slice(&new.to_be_bytes()[16 - bytes..]);
    }

    /// Sets all bits.
    pub fn write_all(self, key: &mut Key) {
        let all_bytes = self.lo == 0 && self.bits == self.bytes * 8;
        if all_bytes {
            // Also for what is wider than a number.
            self.slice_mut(key).fill(0xff);
        } else {
            self.write(key, u128::MAX);
        }
    }

    fn whole(self, key: &Key) -> u128 {
        self.slice(key).iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }

    fn slice(self, key: &Key) -> &[u8] {
        let at = usize::from(self.byte);
        &zerocopy::IntoBytes::as_bytes(key)[at..at + usize::from(self.bytes)]
    }

    fn slice_mut(self, key: &mut Key) -> &mut [u8] {
        let at = usize::from(self.byte);
        &mut zerocopy::IntoBytes::as_mut_bytes(key)[at..at + usize::from(self.bytes)]
    }
}
