//! Small types that all of OpenFlow shares: versions, ports, tables, groups, transaction and buffer ids.

use crate::error::OfError;
use std::fmt;

/// An OpenFlow version; the discriminant is the wire's byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    V10 = 1,
    V11 = 2,
    V12 = 3,
    V13 = 4,
    V14 = 5,
    V15 = 6,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 6] = [Self::V10, Self::V11, Self::V12, Self::V13, Self::V14, Self::V15];

    /// From the wire's byte.
    #[must_use]
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u8 == byte)
    }
}

/// A set of versions: bit n is wire version n (as in a hello's version bitmap).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Versions(pub u32);

impl Versions {
    /// 1.0 to 1.5.
    pub const ALL: Self = Self(0x7e);
}

/// An OpenFlow port, 32 bits wide (OpenFlow 1.1+ numbers; 1.0's reserved ports are mapped at the codec's edge).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OfPort(pub u32);

impl OfPort {
    /// First number that is not a real port.
    pub const MAX: Self = Self(0xffff_ff00);
    pub const UNSET: Self = Self(0xffff_fff7);
    pub const IN_PORT: Self = Self(0xffff_fff8);
    pub const TABLE: Self = Self(0xffff_fff9);
    pub const NORMAL: Self = Self(0xffff_fffa);
    pub const FLOOD: Self = Self(0xffff_fffb);
    pub const ALL: Self = Self(0xffff_fffc);
    pub const CONTROLLER: Self = Self(0xffff_fffd);
    pub const LOCAL: Self = Self(0xffff_fffe);
    pub const ANY: Self = Self(0xffff_ffff);

    /// As it stands in a key of the pipeline: OVS's 16-bit number (reserved ports 0xfff8..=0xffff), in network byte order.
    #[must_use]
    pub const fn to_key(self) -> [u8; 4] {
        (if self.0 >= Self::MAX.0 { self.0 & 0xffff } else { self.0 }).to_be_bytes()
    }

    /// From a key of the pipeline.
    #[must_use]
    pub const fn from_key(bytes: [u8; 4]) -> Self {
        let port = u32::from_be_bytes(bytes);
        Self(if port >= 0xff00 && port <= 0xffff { port | 0xffff_0000 } else { port })
    }

    /// Whether it is a number of its own meaning rather than a port's.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        self.0 >= Self::MAX.0
    }

    /// One above the highest real port.
    pub const REAL_MAX: u32 = 0xff00;

    /// From the 16 bits of OpenFlow 1.0 and of Nicira's extensions: 0xff00 and above are the reserved ports.
    #[must_use]
    pub fn from_wire16(port: u16) -> Self {
        let port = u32::from(port);
        Self(if port < Self::REAL_MAX { port } else { port | 0xffff_0000 })
    }

    /// From the 32 bits of OpenFlow 1.1+.
    ///
    /// # Errors
    /// `OFPBAC_BAD_OUT_PORT` for a number that is neither real (the switch has 16 bits for them) nor reserved.
    pub fn from_wire32(port: u32) -> Result<Self, OfError> {
        if (Self::REAL_MAX..Self::MAX.0).contains(&port) { Err(OfError::OfpbacBadOutPort) } else { Ok(Self(port)) }
    }

    /// The port in 16 bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "reserved ports are those of 1.0 with ones above; real ones have 16 bits")]
    pub fn to_wire16(self) -> u16 {
        self.0 as u16
    }
}

/// A flow table number; 255 is "all".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TableId(pub u8);

impl TableId {
    pub const ALL: Self = Self(255);
}

/// A group number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u32);

impl GroupId {
    pub const MAX: Self = Self(0xffff_ff00);
    pub const ALL: Self = Self(0xffff_fffc);
    pub const ANY: Self = Self(0xffff_ffff);
}

/// Transaction id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Xid(pub u32);

/// `OFP_NO_BUFFER`.
pub const NO_BUFFER: u32 = 0xffff_ffff;
/// `OFPCML_NO_BUFFER`: the whole packet.
pub const MAX_LEN_ALL: u16 = 0xffff;
/// Default priority of a flow in the text syntax.
pub const DEFAULT_PRIORITY: u16 = 0x8000;

impl fmt::Display for Version {
    /// `OpenFlow13` as `Bridge.protocols` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenFlow1{}", *self as u8 - 1)
    }
}
