//! Which protocols can say something: OpenFlow versions, and for 1.0 with and without Nicira's matches and table numbers.
//!
//! Reading text narrows the set; the tools choose from what is left.

use crate::types::Version;
use flow::fields::{Express, Field, MaskKind, Value};
use std::fmt;

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocols(pub u16);

impl Protocols {
    pub const NONE: Self = Self(0);
    pub const OF10_STD: Self = Self(1);
    pub const OF10_STD_TID: Self = Self(1 << 1);
    pub const OF10_NXM: Self = Self(1 << 2);
    pub const OF10_NXM_TID: Self = Self(1 << 3);
    pub const OF11: Self = Self(1 << 4);
    pub const OF12: Self = Self(1 << 5);
    pub const OF13: Self = Self(1 << 6);
    pub const OF14: Self = Self(1 << 7);
    pub const OF15: Self = Self(1 << 8);
    pub const OF10_STD_ANY: Self = Self(0x3);
    pub const NXM_ANY: Self = Self(0xc);
    pub const OF10_ANY: Self = Self(0xf);
    pub const OXM_ANY: Self = Self(0x1e0);
    pub const OF11_UP: Self = Self(0x1f0);
    pub const OF12_UP: Self = Self::OXM_ANY;
    pub const OF13_UP: Self = Self(0x1c0);
    pub const OF14_UP: Self = Self(0x180);
    pub const NXM_OF11_UP: Self = Self(0x1fc);
    pub const NXM_OXM_ANY: Self = Self(0x1ec);
    /// Those that name a table.
    pub const WITH_TABLE: Self = Self(0x1fa);
    pub const ANY: Self = Self(0x1ff);

    /// Keeps what is in `other`, too.
    pub const fn narrow(&mut self, other: Self) {
        self.0 &= other.0;
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The protocols of a version.
    #[must_use]
    pub const fn of_version(version: Version) -> Self {
        match version {
            Version::V10 => Self::OF10_ANY,
            Version::V11 => Self::OF11,
            Version::V12 => Self::OF12,
            Version::V13 => Self::OF13,
            Version::V14 => Self::OF14,
            Version::V15 => Self::OF15,
        }
    }

    /// Which can set a field whole.
    #[must_use]
    pub fn setting(field: Field) -> Self {
        let row = field.row();
        // Names of 1.0 without a code point of their own (dl_vlan) are written through another field's.
        let oxm = !row.codes.is_empty() || row.of10 != Express::No;
        Self::of_matching(row.of10 != Express::No, row.of11 != Express::No, oxm)
    }

    /// Which can match a field so.
    #[must_use]
    pub fn matching(field: Field, mask: &Value) -> Self {
        let row = field.row();
        let whole = field.whole();
        if mask.is_zero() {
            // Of a tunnel option it says that it is there.
            return if field.tun_metadata_number().is_some() { Self::setting(field) } else { Self::ANY };
        }
        if mask.and(&whole) == whole {
            return Self::setting(field);
        }
        let left = whole.bit_len() == mask.bit_len() && whole.without(mask).bit_len() + ones(mask) == whole.bit_len();
        let can = |how: Express| match how {
            Express::Bits => true,
            Express::Cidr => left,
            Express::Exact | Express::No => false,
        };
        Self::of_matching(can(row.of10), can(row.of11), !row.codes.is_empty() && row.mask == MaskKind::Bits)
    }

    fn of_matching(of10: bool, of11: bool, oxm: bool) -> Self {
        let part = |on: bool, set: Self| if on { set.0 } else { 0 };
        Self(part(of10, Self::OF10_STD_ANY) | part(of11, Self::OF11) | part(oxm, Self::NXM_OXM_ANY))
    }
}

fn ones(value: &Value) -> usize {
    value.to_be_bytes().iter().map(|b| b.count_ones() as usize).sum()
}

impl fmt::Display for Protocols {
    /// As ovs-ofctl names them in `--flow-format` and in its messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Protocols, &str); 13] = [
            (Protocols::ANY, "any"),
            (Protocols::OF10_STD_ANY, "OpenFlow10"),
            (Protocols::NXM_ANY, "NXM"),
            (Protocols::OXM_ANY, "OXM"),
            (Protocols::OF10_STD, "OpenFlow10-table_id"),
            (Protocols::OF10_STD_TID, "OpenFlow10+table_id"),
            (Protocols::OF10_NXM, "NXM-table_id"),
            (Protocols::OF10_NXM_TID, "NXM+table_id"),
            (Protocols::OF11, "OpenFlow11"),
            (Protocols::OF12, "OXM-OpenFlow12"),
            (Protocols::OF13, "OXM-OpenFlow13"),
            (Protocols::OF14, "OXM-OpenFlow14"),
            (Protocols::OF15, "OXM-OpenFlow15"),
        ];
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut left = self.0;
        let mut comma = "";
        while let Some((set, name)) = NAMES.iter().find(|(set, _)| set.0 & left == set.0) {
            write!(f, "{comma}{name}")?;
            left &= !set.0;
            comma = ",";
        }
        Ok(())
    }
}
