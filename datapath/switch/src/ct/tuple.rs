//! One direction of a connection in five words, and its symmetric keyed hash.
//!
//! What enters: addresses, ports and zone, from a packet's key or from headers. What leaves: words to compare, to hash and to keep in an
//! entry. Neighbours: `packet` (makes them), `table` (looks them up), `nat` (changes them).
//!
//! Words 0 and 1 are the source, 2 and 3 the destination (an IPv4 address stands in the low half of the first, in network byte order); word 4
//! is source port, destination port, zone, protocol and family. ICMP's queries have their identifier in the place of the source port, and in
//! the place of the destination port the type in the high byte and the type of the answer in the low one: reversing swaps the two.

use flow::conntrack::CtTuple;
use flow::key::Key;
use flow::wire::ip_proto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `family` of IPv4.
pub const V4: u8 = 4;
/// `family` of IPv6.
pub const V6: u8 = 6;

/// Addresses, ports, protocol, family and zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple(pub [u64; 5]);

/// Where a packet goes from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
}

fn words_of(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(a) => v4(a.octets()),
        IpAddr::V6(a) => v6(a.octets()),
    }
}

#[inline]
fn v4(octets: [u8; 4]) -> [u64; 2] {
    [u64::from(u32::from_ne_bytes(octets)), 0]
}

#[inline]
fn v6(octets: [u8; 16]) -> [u64; 2] {
    let n = u128::from_ne_bytes(octets).to_ne_bytes();
    let (halves, _) = n.as_chunks::<8>();
    [u64::from_ne_bytes(halves[0]), u64::from_ne_bytes(halves[1])]
}

#[inline]
fn tail(sport: u16, dport: u16, zone: u16, proto: u8, family: u8) -> u64 {
    u64::from(sport) | u64::from(dport) << 16 | u64::from(zone) << 32 | u64::from(proto) << 48 | u64::from(family) << 56
}

/// Bits of a factor: as many as processors multiply of eight words at a time (`eight`).
pub(super) const FACTOR: u32 = 52;

/// Bits that a hash has more.
pub(super) const WIDER: u32 = u64::BITS - FACTOR;

/// The product of the lowest `FACTOR` bits of two words, its halves added.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "halves are meant")]
const fn product(a: u64, b: u64) -> u64 {
    const LOW: u64 = (1 << FACTOR) - 1;
    let product = (a & LOW) as u128 * (b & LOW) as u128;
    product as u64 & LOW ^ (product >> FACTOR) as u64
}

/// An address over IPv6 as one word. Of each half twelve bits are no factor, and are added as they are: not the last ones, in which neighbours differ.
#[inline(always)]
const fn folded(first: u64, second: u64, keys: &[u64; 4]) -> u64 {
    let (a, b) = (first.rotate_right(32) ^ keys[1], second.rotate_right(32) ^ keys[2]);
    product(a, b) ^ a >> FACTOR ^ b >> FACTOR << WIDER
}

/// The hash of both ends, each an address with its port, and the last word. A product does not say which of its factors was the first, so it is
/// that of the other direction, too.
#[inline(always)]
const fn hash_ends(src: u64, dst: u64, last: u64, keys: &[u64; 4]) -> u64 {
    let both = product(src ^ keys[0], dst ^ keys[0]);
    let all = product(both ^ keys[2] ^ last >> 32, keys[3] | 1);
    all ^ all << WIDER
}

impl Tuple {
    /// From its parts.
    #[must_use]
    pub fn new(ends: &Ends, proto: u8, zone: u16) -> Self {
        let (s, d) = (words_of(ends.src), words_of(ends.dst));
        let family = if ends.src.is_ipv4() { V4 } else { V6 };
        Self([s[0], s[1], d[0], d[1], tail(ends.sport, ends.dport, zone, proto, family)])
    }

    /// Of a packet over IPv4 by its key, with these ports.
    #[inline]
    #[must_use]
    pub fn of_v4(key: &Key, ports: (u16, u16), zone: u16) -> Self {
        let (s, d) = (v4(key.nw_src), v4(key.nw_dst));
        Self([s[0], 0, d[0], 0, tail(ports.0, ports.1, zone, key.nw_proto, V4)])
    }

    /// Of a packet over IPv6 by its key, with these ports.
    #[inline]
    #[must_use]
    pub fn of_v6(key: &Key, ports: (u16, u16), zone: u16) -> Self {
        let (s, d) = (v6(key.ipv6_src), v6(key.ipv6_dst));
        Self([s[0], s[1], d[0], d[1], tail(ports.0, ports.1, zone, key.nw_proto, V6)])
    }

    /// Of TCP or UDP over IPv4: `ends` is the source with the destination above it, each in network byte order, `rest` the last word.
    #[inline]
    #[must_use]
    pub const fn of_words_v4(ends: u64, rest: u64) -> Self {
        Self([ends & 0xffff_ffff, 0, ends >> 32, 0, rest])
    }

    /// The two words of a key's addresses and ports over IPv4, for `of_words_v4`.
    #[inline(always)]
    #[must_use]
    pub fn words_of_v4(key: &Key, zone: u16) -> (u64, u64) {
        let ends = u64::from(u32::from_ne_bytes(key.nw_src)) | u64::from(u32::from_ne_bytes(key.nw_dst)) << 32;
        let ports = (u16::from_be_bytes(key.tp_src), u16::from_be_bytes(key.tp_dst));
        (ends, tail(ports.0, ports.1, zone, key.nw_proto, V4))
    }

    /// Over IPv4 the two words that say all (`of_words_v4`).
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        [self.0[0] | self.0[2] << 32, self.0[4]]
    }

    /// A last word with its ports exchanged: that of the answer, where ports are ports.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the ports are the low half")]
    pub const fn turned_last(last: u64) -> u64 {
        last & !0xffff_ffff | (last as u32).rotate_left(16) as u64
    }

    /// The ports of a last word as they stand in a transport header, in memory order.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the ports are the low half")]
    pub const fn ports_in_memory(last: u64) -> u32 {
        (last as u32).rotate_left(16).to_be()
    }

    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
    pub const fn sport(&self) -> u16 {
        self.0[4] as u16
    }

    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "16 bits are meant")]
    pub const fn dport(&self) -> u16 {
        (self.0[4] >> 16) as u16
    }

    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "16 bits are meant")]
    pub const fn zone(&self) -> u16 {
        (self.0[4] >> 32) as u16
    }

    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "8 bits are meant")]
    pub const fn proto(&self) -> u8 {
        (self.0[4] >> 48) as u8
    }

    /// `V4` or `V6`.
    #[inline]
    #[must_use]
    pub const fn family(&self) -> u8 {
        (self.0[4] >> 56) as u8
    }

    /// Whether it is a query of ICMP or ICMPv6.
    #[inline]
    #[must_use]
    pub const fn is_icmp(&self) -> bool {
        matches!(self.proto(), ip_proto::ICMP | ip_proto::ICMPV6)
    }

    /// With other ports.
    #[must_use]
    pub const fn with_ports(mut self, sport: u16, dport: u16) -> Self {
        self.0[4] = self.0[4] & !0xffff_ffff | sport as u64 | (dport as u64) << 16;
        self
    }

    /// With another source address.
    #[must_use]
    pub fn with_src(mut self, address: IpAddr) -> Self {
        [self.0[0], self.0[1]] = words_of(address);
        self
    }

    /// With another destination address.
    #[must_use]
    pub fn with_dst(mut self, address: IpAddr) -> Self {
        [self.0[2], self.0[3]] = words_of(address);
        self
    }

    /// What the answer to it would have.
    #[inline]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        let [s0, s1, d0, d1, t] = self.0;
        let (sport, dport) = (self.sport() as u64, self.dport() as u64);
        let ports = if self.is_icmp() { sport | (self.dport().swap_bytes() as u64) << 16 } else { dport | sport << 16 };
        Self([d0, d1, s0, s1, t & !0xffff_ffff | ports])
    }

    /// `reversed` where ports are ports.
    #[inline(always)]
    #[must_use]
    pub const fn turned(&self) -> Self {
        let [s0, s1, d0, d1, last] = self.0;
        Self([d0, d1, s0, s1, Self::turned_last(last)])
    }

    /// Source, destination, source port and destination port as they stand in IPv4 and transport headers.
    #[inline]
    #[must_use]
    pub fn words_v4(&self) -> [u8; 12] {
        let mut out = [0; 12];
        for (to, word) in out[..8].chunks_exact_mut(4).zip([self.0[0], self.0[2]]) {
            let octets = word.to_ne_bytes();
            to.copy_from_slice(if cfg!(target_endian = "little") { &octets[..4] } else { &octets[4..] });
        }
        out[8..10].copy_from_slice(&self.sport().to_be_bytes());
        out[10..].copy_from_slice(&self.dport().to_be_bytes());
        out
    }

    /// Whether it is `other`: a few words, for which a call that compares memory is not worth it.
    #[inline]
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// Equal for both directions of a connection without NAT.
    #[inline]
    #[must_use]
    pub const fn hash(&self, keys: &[u64; 4]) -> u64 {
        let [s0, s1, d0, d1, t] = self.0;
        let sport = self.sport() as u64;
        let dport = if self.is_icmp() { sport } else { self.dport() as u64 };
        let (src, dst) = if self.family() == V6 { (folded(s0, s1, keys), folded(d0, d1, keys)) } else { (s0, d0) };
        hash_ends(src ^ sport << 32, dst ^ dport << 32, t, keys)
    }

    /// The same of TCP and UDP over IPv4, in two words (`of_words_v4`).
    #[inline(always)]
    #[must_use]
    pub const fn hash_v4(ends: u64, rest: u64, keys: &[u64; 4]) -> u64 {
        Self::hash_ends_v4(Self::ends_v4(ends, rest), rest, keys)
    }

    /// Of the two words of TCP or UDP over IPv4 (`of_words_v4`): source and destination, each an address with its port above it.
    #[inline(always)]
    #[must_use]
    pub const fn ends_v4(ends: u64, rest: u64) -> [u64; 2] {
        let (sport, dport) = (rest & 0xffff, rest >> 16 & 0xffff);
        [ends & 0xffff_ffff | sport << 32, ends >> 32 | dport << 32]
    }

    /// `hash_v4` of what `ends_v4` gives, and of the last word, of which ports do not matter.
    #[inline(always)]
    #[must_use]
    pub const fn hash_ends_v4([src, dst]: [u64; 2], rest: u64, keys: &[u64; 4]) -> u64 {
        hash_ends(src, dst, rest, keys)
    }

    fn address(&self, first: usize) -> IpAddr {
        let [low, high] = [self.0[first].to_ne_bytes(), self.0[first + 1].to_ne_bytes()];
        if self.family() == V6 {
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&low);
            octets[8..].copy_from_slice(&high);
            return IpAddr::V6(Ipv6Addr::from(octets));
        }
        let word = u32::try_from(self.0[first] & u64::from(u32::MAX)).expect("masked to 32 bits");
        IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes()))
    }

    #[must_use]
    pub fn src(&self) -> IpAddr {
        self.address(0)
    }

    #[must_use]
    pub fn dst(&self) -> IpAddr {
        self.address(2)
    }

    /// Puts it into the fields of the original tuple.
    #[inline]
    pub fn write_original(&self, key: &mut Key) {
        let icmp = self.is_icmp();
        key.ct_nw_proto = self.proto();
        let [ty, _] = self.dport().to_be_bytes();
        (key.ct_tp_src, key.ct_tp_dst) =
            if icmp { ([0, ty], [0, 0]) } else { (self.sport().to_be_bytes(), self.dport().to_be_bytes()) };
        if self.family() == V4 {
            let low = |w: u64| {
                let b = w.to_ne_bytes();
                if cfg!(target_endian = "little") { [b[0], b[1], b[2], b[3]] } else { [b[4], b[5], b[6], b[7]] }
            };
            (key.ct_nw_src, key.ct_nw_dst) = (low(self.0[0]), low(self.0[2]));
            (key.ct_ipv6_src, key.ct_ipv6_dst) = ([0; 16], [0; 16]);
        } else {
            (key.ct_nw_src, key.ct_nw_dst) = ([0; 4], [0; 4]);
            for (to, first) in [(&mut key.ct_ipv6_src, 0), (&mut key.ct_ipv6_dst, 2)] {
                to[..8].copy_from_slice(&self.0[first].to_ne_bytes());
                to[8..].copy_from_slice(&self.0[first + 1].to_ne_bytes());
            }
        }
    }

    /// For dumps.
    #[must_use]
    pub fn shown(&self) -> CtTuple {
        let [ty, _] = self.dport().to_be_bytes();
        let icmp = self.is_icmp();
        CtTuple {
            src: self.src(),
            dst: self.dst(),
            proto: self.proto(),
            src_port: self.sport(),
            dst_port: if icmp { 0 } else { self.dport() },
            icmp_type: if icmp { ty } else { 0 },
            icmp_code: 0,
        }
    }
}

#[cfg(test)]
pub(super) fn tuple(text: &str) -> Tuple {
    let mut p = text.split_whitespace();
    let mut next = || p.next().unwrap();
    let (proto, src, sport, dst, dport) = (next(), next(), next(), next(), next());
    let proto = match proto {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "sctp" => 132,
        other => other.parse().unwrap(),
    };
    let ends = Ends {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        sport: sport.parse().unwrap(),
        dport: dport.parse().unwrap(),
    };
    Tuple::new(&ends, proto, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYS: [u64; 4] = [0x1234_5678_9abc_def1, 77, 0xfeed_beef_0000_1111, 0x9e37_79b9_7f4a_7c15];

    proptest! {
        #[test]
        fn reversing_twice_is_nothing_and_hashes_alike(w: [u64; 4], ports: u32, zone: u16, proto: u8, six: bool) {
            let family = if six { V6 } else { V4 };
            let [a, b, c, d] = ports.to_be_bytes();
            let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let t = Tuple([w[0], w[1], w[2], w[3], tail(sport, dport, zone, proto, family)]);
            prop_assert_eq!(t.reversed().reversed(), t);
            prop_assert_eq!(t.reversed().hash(&KEYS), t.hash(&KEYS));
            prop_assert_eq!((t.zone(), t.proto(), t.family()), (zone, proto, family));
            if !t.is_icmp() {
                prop_assert_eq!(t.turned(), t.reversed());
            }
        }

        #[test]
        fn two_words_say_all_over_ipv4(ends: u64, ports: u32, zone: u16, tcp: bool) {
            let [a, b, c, d] = ports.to_be_bytes();
            let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let rest = tail(sport, dport, zone, if tcp { 6 } else { 17 }, V4);
            let tuple = Tuple::of_words_v4(ends, rest);
            prop_assert_eq!(tuple.words(), [ends, rest]);
            prop_assert_eq!(Tuple::hash_v4(ends, rest, &KEYS), tuple.hash(&KEYS));
            prop_assert_eq!(Tuple::of_words_v4(ends.rotate_left(32), Tuple::turned_last(rest)), tuple.reversed());
            prop_assert_eq!(Tuple::ports_in_memory(rest).to_ne_bytes(), ports.to_be_bytes());
        }

        #[test]
        fn parts_come_back(src: [u8; 16], dst: [u8; 16], sport: u16, dport: u16) {
            let ends = Ends { src: IpAddr::from(src), dst: IpAddr::from(dst), sport, dport };
            let t = Tuple::new(&ends, 17, 3);
            prop_assert_eq!((t.src(), t.dst(), t.sport(), t.dport()), (ends.src, ends.dst, sport, dport));
            let mut key = Key::ZERO;
            t.write_original(&mut key);
            prop_assert_eq!((key.ct_ipv6_src, key.ct_ipv6_dst), (src, dst));
        }
    }

    /// Tuples that differ in few bits have hashes of their own, and their places in a table are as even as chance would have it.
    #[test]
    fn neighbouring_tuples_are_told_apart() {
        const PLACES: u16 = 1 << 14;
        let udp = |src: u32, dst: u32, sport: u16, dport: u16, zone: u16| {
            let ends = Ends { src: IpAddr::from(src.to_be_bytes()), dst: IpAddr::from(dst.to_be_bytes()), sport, dport };
            Tuple::new(&ends, 17, zone)
        };
        let six = |src: u128, dst: u128, sport: u16| {
            let ends = Ends { src: IpAddr::from(src.to_be_bytes()), dst: IpAddr::from(dst.to_be_bytes()), sport, dport: 53 };
            Tuple::new(&ends, 17, 0)
        };
        let (server, net) = (0x0a00_0001u32, 0xfe80u128 << 112);
        let all = 0..=u16::MAX;
        let sets: [(&str, Vec<Tuple>); 8] = [
            ("ports of a client", all.clone().map(|n| udp(0x0a00_0002, server, n, 53, 0)).collect()),
            ("ports of both", all.clone().map(|n| udp(0x0a00_0002, server, n >> 8, n & 0xff, 0)).collect()),
            ("clients", all.clone().map(|n| udp(0xc0a8_0000 | u32::from(n), server, 1000, 53, 0)).collect()),
            ("both count", all.clone().map(|n| udp(0xc0a8_0000 | u32::from(n), server + u32::from(n), 1000, 1000, 0)).collect()),
            (
                "pairs",
                all.clone().map(|n| udp(server + u32::from(n >> 8), server + 1000 + u32::from(n & 0xff), 7, 7, 0)).collect(),
            ),
            ("zones", all.clone().map(|n| udp(0x0a00_0002, server, 1000, 53, n)).collect()),
            ("low halves over IPv6", all.clone().map(|n| six(net | u128::from(n), net | 0xffff_0000, 9)).collect()),
            ("both halves over IPv6", all.map(|n| six(net | u128::from(n) << 64 | u128::from(n), net | 1, 9)).collect()),
        ];
        for keys in [KEYS, [0x9876_5432_10fe_dcba, 0x0f0f_3333_5555_1234, 0x1122_3344_5566_7788, 0xdead_beef_0bad_cafe]] {
            for (name, set) in &sets {
                let mut hashes: Vec<u64> = set.iter().map(|tuple| tuple.hash(&keys)).collect();
                for shift in [0, 20, 32, 44] {
                    let mut places = vec![0u32; PLACES.into()];
                    let place = |hash: &u64| usize::try_from((hash >> shift) % u64::from(PLACES)).unwrap();
                    hashes.iter().for_each(|hash| places[place(hash)] += 1);
                    // Four on average; chance puts more than 24 into one of these less than once in a million sets.
                    let most = places.iter().max().copied();
                    assert!(most <= Some(24), "{name}, bits from {shift}: {most:?} in a place");
                }
                hashes.sort_unstable();
                hashes.dedup();
                assert_eq!(hashes.len(), set.len(), "{name}");
            }
        }
    }

    #[test]
    fn an_echo_and_its_answer() {
        let request = tuple("icmp 10.0.0.1 7 10.0.0.2 2048");
        assert_eq!(request.reversed(), tuple("icmp 10.0.0.2 7 10.0.0.1 8"));
        assert_ne!(request.reversed().with_dst(request.dst()).with_src(request.src()), request);
        assert_eq!((request.shown().icmp_type, request.reversed().shown().icmp_type), (8, 0));
        let mut key = Key::ZERO;
        request.write_original(&mut key);
        assert_eq!((key.ct_tp_src, key.ct_tp_dst, key.ct_nw_src), ([0, 8], [0, 0], [10, 0, 0, 1]));
    }
}
