//! What the codec's tests share: dice, actions and bodies to throw, the corpus.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod actions;
pub(crate) mod bodies;
pub(crate) mod multiparts;

use flow::fields::{Field, Value};
use flow::matching::Match;
use openflow::{OfPort, Version};

/// Numbers that look random (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 != 0
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u8())
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Up to `most` of what `f` throws.
    pub(crate) fn some<T>(&mut self, most: usize, mut f: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| f(self)).collect()
    }

    pub(crate) fn maybe<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.coin() { Some(f(self)) } else { None }
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        self.some(most, Self::u8)
    }

    pub(crate) fn word(&mut self, most: usize) -> String {
        self.some(most, |d| char::from(d.pick(b"abcxyz019-_"))).into_iter().collect()
    }

    /// A real port.
    pub(crate) fn port(&mut self) -> OfPort {
        OfPort(1 + u32::try_from(self.below(0xfeff)).unwrap())
    }

    /// Bits for a field of `bits`.
    pub(crate) fn bits(&mut self, bits: usize) -> Value {
        Value::from_be_bytes(&self.array::<16>()).and(&Value::ones(bits.min(128)))
    }

    /// A match on the parts of one sort of packet.
    pub(crate) fn matching(&mut self) -> Match {
        let mut m = Match::default();
        let (types, fields): (&[(Field, u128)], &[Field]) = self.pick(&[
            (&[][..], &[][..]),
            (&[(Field::EthType, 0x0800)][..], &[Field::IpSrc, Field::IpDst, Field::NwEcn, Field::NwTtl][..]),
            (&[(Field::EthType, 0x0800), (Field::NwProto, 6)], &[Field::IpSrc, Field::TcpSrc, Field::TcpDst, Field::TcpFlags]),
            (
                &[(Field::EthType, 0x86dd), (Field::NwProto, 17)],
                &[Field::Ipv6Src, Field::Ipv6Dst, Field::UdpDst, Field::Ipv6Label, Field::Ipv6Exthdr],
            ),
            (&[(Field::EthType, 0x0806)], &[Field::ArpOp, Field::ArpSpa, Field::ArpTpa, Field::ArpSha, Field::ArpTha]),
            (&[(Field::EthType, 0x8847)], &[Field::MplsLabel, Field::MplsTc, Field::MplsBos, Field::MplsTtl]),
            (
                &[(Field::EthType, 0x86dd), (Field::NwProto, 58), (Field::Icmpv6Type, 135), (Field::Icmpv6Code, 0)],
                &[Field::NdTarget],
            ),
            (&[(Field::EthType, 0x894f)], &[Field::NshSpi, Field::NshSi, Field::NshC1]),
            (&[], &[Field::EthSrc, Field::EthDst, Field::VlanTci]),
        ]);
        for (field, value) in types {
            m.imply_ethernet(*field);
            m.set(*field, *value);
        }
        let more = [
            Field::Reg0,
            Field::Reg7,
            Field::Metadata,
            Field::TunId,
            Field::TunSrc,
            Field::PktMark,
            Field::CtMark,
            Field::ConjId,
        ];
        for field in fields.iter().chain(&more) {
            if self.coin() {
                m.imply_ethernet(*field);
                self.field(&mut m, *field);
            }
        }
        if self.coin() {
            m.set(Field::InPort, u128::from(self.port().0));
        }
        m
    }

    fn field(&mut self, m: &mut Match, field: Field) {
        let value = self.bits(usize::from(field.row().bits)).low();
        let maskable = matches!(field.row().mask, flow::fields::MaskKind::Bits);
        let mask = if maskable && self.coin() { field.exact() & self.bits(128).low() } else { field.exact() };
        let value = if field == Field::VlanTci { value | 0x1000 } else { value };
        let mask = if field == Field::VlanTci { 0x1fff } else { mask };
        m.set_masked(field, value & mask, mask);
    }
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Versions `from` to `to`, written 1.3.
pub(crate) fn versions(from: &str, to: &str) -> impl Iterator<Item = Version> {
    let number = |v: &str| v.strip_prefix("1.").unwrap().parse::<usize>().unwrap();
    Version::ALL.into_iter().skip(number(from)).take(number(to) + 1 - number(from))
}

/// Whose numbers a class of the lists has.
pub(crate) fn vendor(class: &str) -> u32 {
    match class {
        "OF" | "OFPT" | "OFPST" => 0,
        "NX" | "NXT" | "NXST" => 0x2320,
        "ONF" | "ONFT" | "ONFST" => 0x4f4e_4600,
        other => panic!("what is {other}?"),
    }
}

/// (bytes in hexadecimal, outcome) of real messages.
pub(crate) fn corpus() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("../data/messages.txt").lines().filter(|l| !l.starts_with('#')).map(|l| l.split_once(' ').unwrap())
}
