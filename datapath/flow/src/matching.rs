//! Matches of OpenFlow flows: a key with a mask, and the rules by which fields enter them.
//!
//! What enters: fields with values and masks, from text or OXM. What leaves: a key whose unmatched bits are zero. Neighbours:
//! `oftext` reads and writes matches as text, `openflow` as OXM, the classifier stores them.

use crate::fields::{DL_VLAN_NONE, Field, MaskKind, Need, TunOptionError, TunnelOptions, Value};
use crate::key::{Key, Mask};
use std::sync::Arc;

/// A match. Invariant: `key` is zero where `mask` is.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    pub key: Key,
    pub mask: Mask,
    /// Where tunnel options lie: of the bridge, or of this match alone.
    pub options: TunnelLayout,
}

/// The layout of a match's tunnel options.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum TunnelLayout {
    /// No options yet; the first one makes `Own`.
    #[default]
    Absent,
    /// Laid out as they came, where no bridge is at hand (text, a controller).
    Own(Arc<TunnelOptions>),
    /// Laid out as the bridge's map says.
    Bridge(Arc<TunnelOptions>),
}

/// Why a field does not enter a match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    #[error("field {name} exceeds maximum size for tunnel metadata (used {used}, max 256)")]
    TunnelFull { name: &'static str, used: usize },
    #[error("field {name} set multiple times")]
    Twice { name: &'static str },
    #[error("field {name} is not mapped")]
    Unmapped { name: &'static str },
}

impl Default for Match {
    fn default() -> Self {
        Self { key: Key::ZERO, mask: Key::ZERO, options: TunnelLayout::Absent }
    }
}

impl TunnelLayout {
    /// The layout, if there is one.
    #[must_use]
    pub fn options(&self) -> Option<&TunnelOptions> {
        match self {
            Self::Absent => None,
            Self::Own(options) | Self::Bridge(options) => Some(options),
        }
    }
}

impl Match {
    /// A match of key and mask; bits of `key` outside of `mask` are dropped.
    #[must_use]
    pub fn new(key: &Key, mask: &Mask) -> Self {
        Self { key: key.masked(mask), mask: *mask, options: TunnelLayout::Absent }
    }

    /// An empty match whose tunnel options lie as `options` says.
    #[must_use]
    pub fn with_options(options: Arc<TunnelOptions>) -> Self {
        Self { options: TunnelLayout::Bridge(options), ..Self::default() }
    }

    /// Whether it matches every packet.
    #[must_use]
    pub fn is_catchall(&self) -> bool {
        self.mask == Key::ZERO
    }

    /// Whether a packet with this key matches.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        self.key.equal_under(key, &self.mask)
    }

    /// Matches a field of up to 128 bits whole. For tunnel options use `set_long`.
    pub fn set(&mut self, field: Field, value: u128) {
        self.set_masked(field, value, field.exact());
    }

    /// Matches bits of a field of up to 128 bits; a zero mask unmatches it. Fields that take no masks are matched whole.
    pub fn set_masked(&mut self, field: Field, value: u128, mask: u128) {
        field.set_mask(&mut self.mask, if field.row().mask == MaskKind::Exact && mask != 0 { field.exact() } else { mask });
        field.set(&mut self.key, value);
        if field == Field::DlVlan && value == DL_VLAN_NONE && mask != 0 {
            // "No tag": nothing may be in its place.
            self.mask.vlan_tci = [0xff; 2];
        }
        let mask = &self.mask;
        for (k, m) in self.key.words_mut().iter_mut().zip(mask.words()) {
            *k &= m;
        }
    }

    /// Like `set_masked`, for every field. A tunnel option with a zero mask matches that it is present.
    pub fn set_long(&mut self, field: Field, value: &Value, mask: &Value) -> Result<(), MatchError> {
        let Some(n) = field.tun_metadata_number() else {
            self.set_masked(field, value.low(), mask.low());
            return Ok(());
        };
        let exact = *mask == Value::ones(usize::from(field.row().bits));
        let bytes = if exact { value.bit_len() } else { value.bit_len().max(mask.bit_len()) }.div_ceil(8).max(1);
        self.make_room(field, n, bytes)?;
        let name = field.row().name;
        let options = self.options.options().ok_or(MatchError::Unmapped { name })?;
        let bits = options.option(n).ok_or(MatchError::Unmapped { name })?.bytes * 8;
        let mask = if exact { Value::ones(bits) } else { mask.and(&Value::ones(bits)) };
        options.set(&mut self.key, n, &value.and(&mask));
        options.set(&mut self.mask, n, &mask);
        Ok(())
    }

    /// Matches that a tunnel option is not there.
    pub fn set_absent(&mut self, field: Field) -> Result<(), MatchError> {
        let Some(n) = field.tun_metadata_number() else {
            return Ok(());
        };
        self.set_long(field, &Value::ZERO, &Value::ZERO)?;
        if let Some(options) = self.options.options() {
            options.clear(&mut self.key, n);
        }
        Ok(())
    }

    fn make_room(&mut self, field: Field, n: usize, bytes: usize) -> Result<(), MatchError> {
        let name = field.row().name;
        if self.options == TunnelLayout::Absent {
            self.options = TunnelLayout::Own(Arc::default());
        }
        let TunnelLayout::Own(options) = &mut self.options else {
            return Ok(());
        };
        let options = Arc::make_mut(options);
        match options.add_unmapped(n, bytes) {
            Ok(()) => Ok(()),
            Err(TunOptionError::Full(bytes)) => Err(MatchError::TunnelFull { name, used: options.used() + bytes }),
            Err(TunOptionError::AlreadyMapped(_) | TunOptionError::Duplicate { .. }) => Err(MatchError::Twice { name }),
            Err(TunOptionError::BadIndex(_) | TunOptionError::BadLength(_)) => Err(MatchError::Unmapped { name }),
        }
    }

    /// Value and mask of a field of up to 128 bits.
    #[must_use]
    pub fn get(&self, field: Field) -> (u128, u128) {
        (field.get(&self.key), field.mask(&self.mask))
    }

    /// Value and mask of any field.
    #[must_use]
    pub fn get_long(&self, field: Field) -> (Value, Value) {
        match (field.tun_metadata_number(), self.options.options()) {
            (Some(n), Some(options)) => (options.get(&self.key, n), options.get(&self.mask, n)),
            _ => (field.get(&self.key).into(), field.mask(&self.mask).into()),
        }
    }

    /// Whether anything of the field is matched.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        field.tun_metadata_number().map_or_else(|| field.mask(&self.mask) != 0, |n| TunnelOptions::is_present(&self.mask, n))
    }

    /// Whether the match says what `need` asks for.
    #[must_use]
    pub fn meets(&self, need: Need) -> bool {
        need.holds_in_match(&self.key, &self.mask)
    }

    /// A field of a packet was matched: without word of the packet type, Ethernet is meant (OpenFlow 1.5 section 7.2.3.11).
    pub fn imply_ethernet(&mut self, field: Field) {
        if field.row().need != Need::Nothing && self.mask.packet_type == [0; 4] {
            self.set(Field::PacketType, 0);
        }
    }

    /// Whether the packet type is matched as Ethernet, which text does not show.
    #[must_use]
    pub fn is_ethernet(&self) -> bool {
        self.key.packet_type == [0; 4] && self.mask.packet_type == [0xff; 4]
    }

    /// The Ethernet type that the match is about: its own, or that of a packet type outside of Ethernet.
    #[must_use]
    pub fn eth_type(&self) -> [u8; 2] {
        let [ns_high, ns_low, high, low] = self.key.packet_type;
        if self.mask.packet_type == [0xff; 4] && [ns_high, ns_low] == [0, 1] { [high, low] } else { self.key.eth_type }
    }

    /// Unmatches fields whose prerequisites the match does not meet, as OVS does for OpenFlow 1.0 and for text. Whether it
    /// changed anything.
    pub fn normalize(&mut self) -> bool {
        let ethernet = self.mask.packet_type == [0; 4] || self.is_ethernet();
        let outside = self.mask.packet_type == [0xff; 4] && self.key.packet_type[..2] == [0, 1];
        let eth_type = if ethernet || outside { self.eth_type() } else { [0; 2] };
        let (ip4, ip6) = (eth_type == [0x08, 0x00], eth_type == [0x86, 0xdd]);
        let arp = matches!(eth_type, [0x08, 0x06] | [0x80, 0x35]);
        let mpls = matches!(eth_type, [0x88, 0x47 | 0x48]);
        let pbb = eth_type == [0x88, 0xe7];
        let proto = self.key.nw_proto;
        let icmp6 = ip6 && proto == 58;
        let transport = (ip4 || ip6) && matches!(proto, 6 | 17 | 132) || ip4 && proto == 1 || icmp6;
        let (solicit, advert) = (icmp6 && self.key.tp_src == [0, 135], icmp6 && self.key.tp_src == [0, 136]);
        let mut mask = self.mask;
        let clear = |keep: bool, bytes: &mut [u8]| {
            if !keep {
                bytes.fill(0);
            }
        };
        clear(ethernet, &mut mask.eth_src);
        clear(ethernet, &mut mask.eth_dst);
        clear(ip4 || arp || pbb, &mut mask.nw_src);
        clear(ip4 || arp, &mut mask.nw_dst);
        clear(transport, &mut mask.tp_src);
        clear(transport, &mut mask.tp_dst);
        clear(ip4 || ip6 || arp, std::slice::from_mut(&mut mask.nw_proto));
        clear(ip4 || ip6, std::slice::from_mut(&mut mask.nw_tos));
        clear(ip4 || ip6, std::slice::from_mut(&mut mask.nw_ttl));
        clear(arp || solicit, &mut mask.arp_sha);
        clear(arp || advert, &mut mask.arp_tha);
        clear(ip6, &mut mask.ipv6_src);
        clear(ip6, &mut mask.ipv6_dst);
        clear(ip6, &mut mask.ipv6_label);
        clear(solicit || advert, &mut mask.nd_target);
        clear(mpls, &mut mask.mpls_lse0);
        clear(mpls, &mut mask.mpls_lse1);
        clear(mpls, &mut mask.mpls_lse2);
        let changed = mask != self.mask;
        self.mask = mask;
        self.key = self.key.masked(&mask);
        changed
    }
}
