//! Hashes of packets that choose among equals: bundle and multipath members, group buckets, bond members, `dp_hash`.
//!
//! What enters: a packet's key. What leaves: 32 bits that are the same for the same packet on every machine and in every run, so
//! that a flow stays where it is when the daemon restarts. (The hash tables inside the switch use `hash`, which is seeded.) The
//! bits that were looked at go into a mask through `unwildcard`; they and the hash come from one list, so that they agree.
//!
//! OVS promises spread and symmetry, not values: its own depend on the processor. So do we.

use crate::key::{FRAG_LATER, Key, Mask};

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Fields that go into a hash: `NX_HASH_FIELDS_*`, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum HashFields {
    EthSrc = 0,
    /// Ethernet addresses and type, VLAN, IP addresses and protocol, TCP and SCTP ports; the same in both directions.
    SymmetricL4 = 1,
    /// IP addresses and protocol, TCP and SCTP ports; of other packets Ethernet addresses and type, VLAN. The same in both directions.
    SymmetricL3L4 = 2,
    /// Like `SymmetricL3L4`, with UDP ports.
    SymmetricL3L4Udp = 3,
    NwSrc = 4,
    NwDst = 5,
    /// IP addresses; the same in both directions.
    SymmetricL3 = 6,
}

/// (fields, name), by number.
const NAMES: &[(HashFields, &str)] = &[
    (HashFields::EthSrc, "eth_src"),
    (HashFields::SymmetricL4, "symmetric_l4"),
    (HashFields::SymmetricL3L4, "symmetric_l3l4"),
    (HashFields::SymmetricL3L4Udp, "symmetric_l3l4+udp"),
    (HashFields::NwSrc, "nw_src"),
    (HashFields::NwDst, "nw_dst"),
    (HashFields::SymmetricL3, "symmetric_l3"),
];

/// Parts of a key that a hash takes in. A pair gives the same for both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    EthSrc,
    EthPair,
    EthType,
    Vlan,
    Ipv4Src,
    Ipv4Dst,
    Ipv4Pair,
    Ipv4Both,
    Ipv6Src,
    Ipv6Dst,
    Ipv6Pair,
    Ipv6Both,
    Proto,
    /// Only whether there are ports.
    Frag,
    PortPair,
    PortBoth,
}

/// What a hash takes in, in its order; no allocation, as the datapath hashes packets.
type Parts = [Option<Part>; 7];

impl HashFields {
    /// By OVS's name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(fields, _)| *fields)
    }

    /// By number on the wire.
    #[must_use]
    pub fn by_number(number: u16) -> Option<Self> {
        NAMES.get(usize::from(number)).map(|(fields, _)| *fields)
    }

    /// OVS's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The packet's hash.
    #[must_use]
    pub fn hash(self, key: &Key, basis: u32) -> u32 {
        hash_parts(self.parts(key), key, basis)
    }

    /// Adds to `mask` what `hash` looks at.
    pub fn unwildcard(self, key: &Key, mask: &mut Mask) {
        for part in self.parts(key).into_iter().flatten() {
            part.unwildcard(mask);
        }
    }

    /// What counts of a packet like this.
    fn parts(self, key: &Key) -> Parts {
        let udp = self == Self::SymmetricL3L4Udp;
        let ports = matches!(key.nw_proto, 6 | 132) || udp && key.nw_proto == 17;
        let ports = ports.then_some(Part::PortPair);
        match self {
            Self::EthSrc => [Some(Part::EthSrc), None, None, None, None, None, None],
            Self::NwSrc => ip(key, Part::Ipv4Src, Part::Ipv6Src),
            Self::NwDst => ip(key, Part::Ipv4Dst, Part::Ipv6Dst),
            Self::SymmetricL3 => ip(key, Part::Ipv4Pair, Part::Ipv6Pair),
            Self::SymmetricL4 | Self::SymmetricL3L4 | Self::SymmetricL3L4Udp => {
                let mut parts = transport(key, Part::Ipv4Pair, Part::Ipv6Pair, ports);
                if self == Self::SymmetricL4 || parts[1].is_none() {
                    (parts[5], parts[6]) = (Some(Part::EthPair), Some(Part::Vlan));
                }
                parts
            }
        }
    }
}

/// `hash(sym_l4)`, by which groups choose: a connection has one whatever Ethernet addresses its packets bear.
#[must_use]
pub fn hash_sym_l4(key: &Key, basis: u32) -> u32 {
    HashFields::SymmetricL3L4.hash(key, basis)
}

/// Hash of addresses, protocol and ports of an IP packet, different for its two directions (RSS, `hash(l4)`).
#[must_use]
pub fn hash_5tuple(key: &Key, basis: u32) -> u32 {
    hash_parts(five_tuple(key), key, basis)
}

/// Adds to `mask` what `hash_5tuple` looks at.
pub fn unwildcard_5tuple(key: &Key, mask: &mut Mask) {
    for part in five_tuple(key).into_iter().flatten() {
        part.unwildcard(mask);
    }
}

/// Hash of the bits of `mask`, as for a group that selects by named fields.
#[must_use]
pub fn hash_masked(key: &Key, mask: &Mask, basis: u32) -> u32 {
    let mut hash = Hash::new(basis);
    for (n, (word, bits)) in key.words().iter().zip(mask.words()).enumerate() {
        if *bits != 0 {
            hash.add(n as u64);
            hash.add(u64::from_be(word & bits));
        }
    }
    hash.finish()
}

fn five_tuple(key: &Key) -> Parts {
    let ports = matches!(key.nw_proto, 6 | 17 | 132);
    transport(key, Part::Ipv4Both, Part::Ipv6Both, ports.then_some(Part::PortBoth))
}

fn ip(key: &Key, v4: Part, v6: Part) -> Parts {
    let address = match key.eth_type {
        [0x08, 0x00] => Some(v4),
        [0x86, 0xdd] => Some(v6),
        _ => None,
    };
    [Some(Part::EthType), address, None, None, None, None, None]
}

fn transport(key: &Key, v4: Part, v6: Part, ports: Option<Part>) -> Parts {
    let mut parts = ip(key, v4, v6);
    if parts[1].is_some() {
        parts[2] = Some(Part::Proto);
        parts[3] = ports.map(|_| Part::Frag);
        // Fragments after the first have no ports, and those of one packet should stay together as far as they can.
        parts[4] = ports.filter(|_| key.nw_frag & FRAG_LATER == 0);
    }
    parts
}

fn hash_parts(parts: Parts, key: &Key, basis: u32) -> u32 {
    let mut hash = Hash::new(basis);
    for part in parts.into_iter().flatten() {
        part.add(key, &mut hash);
    }
    hash.finish()
}

impl Part {
    fn add(self, key: &Key, hash: &mut Hash) {
        let number = |bytes: &[u8]| bytes.iter().fold(0u128, |sum, b| sum << 8 | u128::from(*b));
        let [src6, dst6] = [u128::from_be_bytes(key.ipv6_src), u128::from_be_bytes(key.ipv6_dst)];
        match self {
            Self::EthSrc => hash.add_long(number(&key.eth_src)),
            Self::EthPair => hash.add_long(number(&key.eth_src) ^ number(&key.eth_dst)),
            Self::EthType => hash.add_long(number(&key.eth_type)),
            Self::Vlan => {
                hash.add_long(number(&[key.vlan_tci[0] & 0x0f, key.vlan_tci[1], key.vlan2_tci[0] & 0x0f, key.vlan2_tci[1]]))
            }
            Self::Ipv4Src => hash.add_long(number(&key.nw_src)),
            Self::Ipv4Dst => hash.add_long(number(&key.nw_dst)),
            Self::Ipv4Pair => hash.add_long(number(&key.nw_src) ^ number(&key.nw_dst)),
            Self::Ipv4Both => hash.add_long(number(&key.nw_src) << 32 | number(&key.nw_dst)),
            Self::Ipv6Src => hash.add_long(src6),
            Self::Ipv6Dst => hash.add_long(dst6),
            Self::Ipv6Pair => hash.add_long(src6 ^ dst6),
            Self::Ipv6Both => {
                hash.add_long(src6);
                hash.add_long(dst6);
            }
            Self::Proto => hash.add_long(key.nw_proto.into()),
            Self::Frag => {}
            Self::PortPair => hash.add_long(number(&key.tp_src) ^ number(&key.tp_dst)),
            Self::PortBoth => hash.add_long(number(&key.tp_src) << 16 | number(&key.tp_dst)),
        }
    }

    fn unwildcard(self, mask: &mut Mask) {
        match self {
            Self::EthSrc => mask.eth_src = [0xff; 6],
            Self::EthPair => (mask.eth_src, mask.eth_dst) = ([0xff; 6], [0xff; 6]),
            Self::EthType => mask.eth_type = [0xff; 2],
            Self::Vlan => {
                for tci in [&mut mask.vlan_tci, &mut mask.vlan2_tci] {
                    *tci = [tci[0] | 0x0f, 0xff];
                }
            }
            Self::Ipv4Src => mask.nw_src = [0xff; 4],
            Self::Ipv4Dst => mask.nw_dst = [0xff; 4],
            Self::Ipv4Pair | Self::Ipv4Both => (mask.nw_src, mask.nw_dst) = ([0xff; 4], [0xff; 4]),
            Self::Ipv6Src => mask.ipv6_src = [0xff; 16],
            Self::Ipv6Dst => mask.ipv6_dst = [0xff; 16],
            Self::Ipv6Pair | Self::Ipv6Both => (mask.ipv6_src, mask.ipv6_dst) = ([0xff; 16], [0xff; 16]),
            Self::Proto => mask.nw_proto = 0xff,
            Self::Frag => mask.nw_frag |= FRAG_LATER,
            Self::PortPair | Self::PortBoth => (mask.tp_src, mask.tp_dst) = ([0xff; 2], [0xff; 2]),
        }
    }
}

/// A hash that grows word by word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) fn new(basis: u32) -> Self {
        Self(fold(u64::from(basis) ^ MULTIPLIER, MULTIPLIER))
    }

    pub(crate) fn add(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, MULTIPLIER).rotate_left(23) ^ self.0.wrapping_mul(MULTIPLIER);
    }

    fn add_long(&mut self, number: u128) {
        let [high, low] = [number >> 64, number & u128::from(u64::MAX)];
        self.add(u64::try_from(low).unwrap_or(0));
        if high != 0 {
            self.add(u64::try_from(high).unwrap_or(0));
        }
    }

    pub(crate) fn finish(self) -> u32 {
        let mixed = fold(self.0 ^ self.0 >> 32, MULTIPLIER);
        u32::try_from(mixed >> 32).unwrap_or(0) ^ u32::try_from(mixed & 0xffff_ffff).unwrap_or(0)
    }

    /// All 64 bits, for tables.
    pub(crate) fn finish_long(self) -> u64 {
        fold(self.0 ^ self.0 >> 32, MULTIPLIER)
    }
}

/// The halves of the product, one upon the other.
#[allow(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oftext::format_match;
    use crate::{Field, Match};
    use proptest::prelude::*;

    fn packet(eth_type: u128, proto: u128, values: [u128; 6]) -> Key {
        let mut key = Key::ZERO;
        let v6 = eth_type == 0x86dd;
        let fields = [
            Field::EthSrc,
            Field::EthDst,
            if v6 { Field::Ipv6Src } else { Field::IpSrc },
            if v6 { Field::Ipv6Dst } else { Field::IpDst },
            Field::TcpSrc,
            Field::TcpDst,
        ];
        for (field, value) in fields.iter().zip(values) {
            field.set(&mut key, value);
        }
        Field::EthType.set(&mut key, eth_type);
        Field::NwProto.set(&mut key, proto);
        key
    }

    #[test]
    fn names_and_numbers() {
        for (n, (fields, name)) in NAMES.iter().enumerate() {
            assert_eq!(*fields as usize, n);
            assert_eq!(HashFields::by_name(name), Some(*fields));
            assert_eq!(HashFields::by_number(*fields as u16), Some(*fields));
            assert_eq!(fields.name(), *name);
        }
        assert_eq!(HashFields::by_number(7), None);
    }

    #[test]
    fn what_is_looked_at() {
        let looked = |fields: HashFields, proto| {
            let mut mask = Key::ZERO;
            let key = packet(0x0800, proto, [0; 6]);
            fields.unwildcard(&key, &mut mask);
            format_match(&Match::new(&key, &mask))
        };
        assert_eq!(looked(HashFields::EthSrc, 6), "dl_src=00:00:00:00:00:00");
        assert_eq!(looked(HashFields::NwDst, 6), "ip,nw_dst=0.0.0.0");
        assert_eq!(looked(HashFields::SymmetricL3L4, 6), "tcp,nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_frag=not_later,tp_src=0,tp_dst=0");
        assert_eq!(looked(HashFields::SymmetricL3L4, 17), "udp,nw_src=0.0.0.0,nw_dst=0.0.0.0");
        assert_eq!(
            looked(HashFields::SymmetricL3L4Udp, 17),
            "udp,nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_frag=not_later,tp_src=0,tp_dst=0"
        );
        assert!(looked(HashFields::SymmetricL4, 1).starts_with("icmp,vlan_tci=0x0000/0x0fff"));
    }

    #[test]
    fn ethernet_addresses_count_where_there_are_no_others() {
        let hash = |eth_type, mac| hash_sym_l4(&packet(eth_type, 6, [mac, 2, 3, 4, 5, 6]), 7);
        assert_eq!(hash(0x0800, 1), hash(0x0800, 99), "a router with another address");
        assert_eq!(hash(0x86dd, 1), hash(0x86dd, 99));
        assert_ne!(hash(0x1234, 1), hash(0x1234, 99));
        let mut tagged = packet(0x1234, 0, [1, 2, 0, 0, 0, 0]);
        tagged.vlan_tci = [0x10, 9];
        assert_ne!(hash_sym_l4(&tagged, 7), hash(0x1234, 1));
    }

    #[test]
    fn it_spreads() {
        for fields in [HashFields::SymmetricL4, HashFields::SymmetricL3L4, HashFields::NwSrc, HashFields::EthSrc] {
            let mut buckets = [0u32; 16];
            for n in 0..16_000u128 {
                let key = packet(0x0800, 6, [n, 1, 0x0a00_0000 + n, 0x0a01_0001, 1024 + n % 40_000, 80]);
                buckets[fields.hash(&key, 0) as usize % 16] += 1;
            }
            assert!(buckets.iter().all(|n| (850..1150).contains(n)), "{fields:?} {buckets:?}");
        }
    }

    proptest! {
        /// Both directions give the same, and what is not in the mask does not count.
        #[test]
        fn symmetric_and_honest(values: [u128; 6], other: [u128; 6], v6: bool, proto in prop::sample::select(vec![6u128, 17, 132, 1]), basis: u32) {
            let eth_type = if v6 { 0x86dd } else { 0x0800 };
            let [a, b, c, d, e, f] = values;
            let (there, back) = (packet(eth_type, proto, values), packet(eth_type, proto, [b, a, d, c, f, e]));
            let random = packet(eth_type, proto, other);
            for (fields, name) in NAMES {
                if name.starts_with("symmetric") {
                    prop_assert_eq!(fields.hash(&there, basis), fields.hash(&back, basis));
                }
                let mut mask = Key::ZERO;
                fields.unwildcard(&there, &mut mask);
                let mut mixed = random;
                for ((m, t), bits) in mixed.words_mut().iter_mut().zip(there.words()).zip(mask.words()) {
                    *m = *m & !bits | t & bits;
                }
                prop_assert_eq!(fields.hash(&mixed, basis), fields.hash(&there, basis), "{}", name);
            }
            let mut mask = Key::ZERO;
            unwildcard_5tuple(&there, &mut mask);
            prop_assert_eq!(hash_5tuple(&there.masked(&mask), basis), hash_5tuple(&there, basis));
            prop_assert_eq!(hash_masked(&there, &mask, basis), hash_masked(&there.masked(&mask), &mask, basis));
        }
    }
}
