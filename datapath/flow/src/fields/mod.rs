//! Fields: what a flow can match and an action can set. `table` holds one row per field, `def` says what the columns mean,
//! `need` what a field needs beside it, `value` holds long numbers.
//!
//! What enters: names, OXM headers, keys. What leaves: rows and values. Every codec and text form stands on this room.
//!
//! # Conventions of the key
//!
//! - `in_port` and `actset_output` hold OVS's 16-bit OpenFlow port number in the pipeline (0xfff8 is IN_PORT, 0xfffe LOCAL,
//!   0xffff NONE), and a 32-bit datapath port in the datapath. `Field::InPortOxm` shows OpenFlow 1.1's 32-bit form of the former.
//! - `vlan_tci` has `VLAN_CFI` set when there is a tag. `vlan_vid` is OXM's 13-bit form with that bit in it; `dl_vlan` and
//!   `dl_vlan_pcp` are OpenFlow 1.0's forms, which bring the bit along, in value and mask.
//! - `nw_tos` keeps DSCP where it stands in the byte, `ip_dscp` is shifted down.
//! - xreg and xxreg overlay the registers, the lower register in the higher bits.
//! - ICMP type and code share storage with the ports, ND link-layer addresses with those of ARP.
//! - A tunnel option (`tun_metadata0`..) lies where `TunnelOptions` says; `get` and `set` here do not reach it.

mod def;
pub(crate) mod need;
mod table;
mod tunnel_options;
mod value;

pub use def::{Class, Code, Def, DpAttr, Express, Flower, Form, MaskKind, Need, Place, Stage, Store};
pub use table::Field;
pub(crate) use table::UNNAMED;
pub use tunnel_options::{TUN_OPTION_BYTES_MAX, TUN_OPTIONS_MAX, TunOption, TunOptionError, TunnelOptions};
pub use value::{VALUE_BYTES_MAX, Value};

use crate::hash::Map;
use crate::key::{Key, Mask, VLAN_CFI};
use std::sync::OnceLock;
use table::TABLE;

/// OpenFlow 1.0 section 5.2.3: `dl_vlan` of a frame without a tag (OFP_VLAN_NONE).
pub const DL_VLAN_NONE: u128 = 0xffff;
const PORT16_RESERVED: u128 = 0xff00;
const PORT32_OFFSET: u128 = 0xffff_0000;
const CFI: u128 = VLAN_CFI as u128;

/// An NXM or OXM header without its mask bit and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    pub class: Class,
    /// 0 unless `class` is `EXPERIMENTER`.
    pub experimenter: u32,
    pub number: u8,
}

impl Code {
    /// The code as a header.
    #[must_use]
    pub const fn header(&self) -> Header {
        Header { class: self.class, experimenter: self.experimenter, number: self.number }
    }
}

struct Index {
    names: Map<&'static str, Field>,
    headers: Map<Header, Field>,
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = Index { names: Map::default(), headers: Map::default() };
        for def in &TABLE {
            let codes = def.codes.iter().map(|c| c.name);
            for name in [Some(def.name), def.alias].into_iter().flatten().chain(codes) {
                index.names.insert(name, def.field);
            }
            index.headers.extend(def.codes.iter().map(|c| (c.header(), def.field)));
        }
        index
    })
}

/// Whether a value may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("value {value:#x} does not fit into {bits} bits of {name}")]
    OutOfRange { name: &'static str, bits: u16, value: u128 },
}

impl Field {
    /// The field's row.
    #[must_use]
    pub fn row(self) -> &'static Def {
        &TABLE[self as usize]
    }

    /// By primary name, alias, or the name of a code point (`NXM_OF_IN_PORT`).
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        index().names.get(name).copied()
    }

    /// By NXM or OXM header.
    #[must_use]
    pub fn by_header(header: Header) -> Option<Self> {
        index().headers.get(&header).copied()
    }

    /// The code point to speak to a peer of this OpenFlow wire version: the newest that it knows.
    #[must_use]
    pub fn code(self, version: u8) -> Option<&'static Code> {
        let mut best: Option<&Code> = None;
        for code in self.row().codes.iter().filter(|c| c.version <= version) {
            if best.is_none_or(|b| code.version > b.version) {
                best = Some(code);
            }
        }
        best.or_else(|| self.row().codes.first())
    }

    /// `tun_metadata` number `n`.
    #[must_use]
    pub fn tun_metadata(n: usize) -> Option<Self> {
        Self::family(Self::TunMetadata0, n, 64)
    }

    /// Register `n`.
    #[must_use]
    pub fn reg(n: usize) -> Option<Self> {
        Self::family(Self::Reg0, n, 32)
    }

    /// Register pair `n`.
    #[must_use]
    pub fn xreg(n: usize) -> Option<Self> {
        Self::family(Self::Xreg0, n, 16)
    }

    /// Register quadruple `n`.
    #[must_use]
    pub fn xxreg(n: usize) -> Option<Self> {
        Self::family(Self::Xxreg0, n, 8)
    }

    fn family(first: Self, n: usize, count: usize) -> Option<Self> {
        (n < count).then(|| Self::ALL[first as usize + n])
    }

    /// Which `tun_metadata` this is.
    #[must_use]
    pub fn tun_metadata_number(self) -> Option<usize> {
        matches!(self.row().place.store, Store::Option).then(|| self as usize - Self::TunMetadata0 as usize)
    }

    /// The value as OpenFlow sees it. Zero for a tunnel option (see `TunnelOptions`).
    #[must_use]
    pub fn get(self, key: &Key) -> u128 {
        let place = self.row().place;
        match place.store {
            Store::Plain | Store::Vid | Store::Pcp => place.read(key),
            Store::Port16 => place.read(key) & 0xffff,
            Store::Port32 => match place.read(key) {
                port @ PORT16_RESERVED..=0xffff => port + PORT32_OFFSET,
                port => port,
            },
            Store::Unshifted => place.read(key) << place.lo,
            Store::Option => 0,
        }
    }

    /// Sets the value as OpenFlow sees it. Bits that the field does not have are dropped; a tunnel option is not reached.
    pub fn set(self, key: &mut Key, value: u128) {
        let place = self.row().place;
        match place.store {
            Store::Plain => place.write(key, value),
            Store::Port16 => place.write(key, value & 0xffff),
            Store::Port32 if value >= PORT16_RESERVED + PORT32_OFFSET => place.write(key, value - PORT32_OFFSET),
            Store::Port32 => place.write(key, value),
            Store::Vid if value == DL_VLAN_NONE => key.vlan_tci = [0; 2],
            Store::Vid | Store::Pcp => {
                place.write(key, value);
                key.vlan_tci[0] |= VLAN_CFI.to_be_bytes()[0];
            }
            Store::Unshifted => place.write(key, value >> place.lo),
            Store::Option => {}
        }
    }

    /// All bits of a value: the exact mask.
    #[must_use]
    pub fn exact(self) -> u128 {
        let row = self.row();
        match row.place.store {
            Store::Plain | Store::Vid | Store::Pcp => row.place.all(),
            Store::Port16 => 0xffff,
            Store::Port32 => 0xffff_ffff,
            Store::Unshifted => row.place.all() << row.place.lo,
            Store::Option => u128::MAX,
        }
    }

    /// `exact`, for tunnel options too.
    #[must_use]
    pub fn whole(self) -> Value {
        let row = self.row();
        if row.place.store == Store::Option { Value::ones(row.bits.into()) } else { self.exact().into() }
    }

    /// Which bits of the value are matched.
    #[must_use]
    pub fn mask(self, mask: &Mask) -> u128 {
        let place = self.row().place;
        match place.store {
            Store::Plain | Store::Vid | Store::Pcp => place.read(mask),
            Store::Port16 | Store::Port32 => place.read(mask) & self.exact(),
            Store::Unshifted => place.read(mask) << place.lo,
            Store::Option => 0,
        }
    }

    /// Sets which bits of the value are matched. Fields that are matched only whole take any 1-bit for all of them.
    pub fn set_mask(self, mask: &mut Mask, bits: u128) {
        let place = self.row().place;
        match place.store {
            Store::Plain => place.write(mask, bits),
            Store::Port16 | Store::Port32 => place.write(mask, if bits == 0 { 0 } else { u128::MAX }),
            Store::Vid | Store::Pcp => {
                let cfi = if bits == 0 { [0; 2] } else { VLAN_CFI.to_be_bytes() };
                place.write(mask, bits);
                mask.vlan_tci[0] |= cfi[0];
            }
            Store::Unshifted => place.write(mask, bits >> place.lo),
            Store::Option => {}
        }
    }

    /// Adds all bits of the field to `mask`: the value decided something. A tunnel option adds those of all options, as only
    /// `TunnelOptions` knows its own; that is slow, not wrong.
    pub fn unwildcard(self, mask: &mut Mask) {
        let place = self.row().place;
        place.write_all(mask);
        if place.store == Store::Option {
            mask.tun_metadata_present = [0xff; 8];
        }
        if matches!(place.store, Store::Vid | Store::Pcp) {
            mask.vlan_tci[0] |= VLAN_CFI.to_be_bytes()[0];
        }
    }

    /// Whether OVS takes this value for the field (OpenFlow 1.3 section 7.2.3.7: bad ones are OFPBMC_BAD_VALUE).
    pub fn check(self, value: &Value) -> Result<(), ValueError> {
        let row = self.row();
        let low = value.low();
        let ok = value.bit_len() <= usize::from(row.bytes) * 8
            && match row.place.store {
                Store::Option | Store::Port16 => true,
                // Between OpenFlow 1.0's ports and the reserved ones lie numbers that the switch cannot hold.
                Store::Port32 => !(PORT16_RESERVED..PORT16_RESERVED + PORT32_OFFSET).contains(&low),
                Store::Vid => low < CFI || low == DL_VLAN_NONE,
                Store::Plain | Store::Pcp | Store::Unshifted => low & !self.exact() == 0,
            };
        if ok { Ok(()) } else { Err(ValueError::OutOfRange { name: row.name, bits: row.bits, value: low }) }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests;
