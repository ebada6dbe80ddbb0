//! Checksums of the Internet: the one's complement sum (RFC 1071), its incremental update (RFC 1624), pseudo headers, and CRC32c.
//!
//! What enters: bytes. What leaves: checksums in network order, ready to be stored. Neighbours: `compose`, `rewrite`.

/// A one's complement sum under way, over 16-bit words in memory order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`; each piece but the last must be of even length.
    #[inline]
    #[must_use]
    pub fn plus(self, bytes: &[u8]) -> Self {
        let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
        let (words, rest) = bytes.as_chunks::<8>();
        let before = self.with_room().0;
        let mut sum = words.iter().fold(before, |sum, word| sum + halves(u64::from_ne_bytes(*word)));
        if let (1.., Some(last)) = (rest.len(), bytes.last_chunk::<8>()) {
            sum += halves(without_first(*last, 8 - rest.len()));
        } else {
            for pair in rest.chunks(2) {
                sum += u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            }
        }
        Self(sum).with_room()
    }

    /// There is room for many more words: folding waits until that is used up.
    #[inline]
    const fn with_room(self) -> Self {
        Self(if self.0 >> 62 == 0 { self.0 } else { fold32(self.0) })
    }

    /// Adds eight bytes that were loaded already, in memory order: 2^64 is one more than a multiple of 0xffff, so that what is carried out at the
    /// top comes in at the bottom.
    #[inline]
    #[must_use]
    pub const fn plus_word(self, word: u64) -> Self {
        let (sum, carried) = self.0.overflowing_add(word);
        Self(sum + carried as u64)
    }

    /// `plus` for bytes that are mostly few: eight at a time with their carry, where `plus` prepares for many.
    #[inline]
    #[must_use]
    pub fn plus_short(self, bytes: &[u8]) -> Self {
        const SHORT_MAX: usize = 64;
        if bytes.len() > SHORT_MAX {
            return self.plus_word(Self::default().plus(bytes).0);
        }
        let (words, rest) = bytes.as_chunks::<8>();
        let mut sum = self;
        for word in words {
            sum = sum.plus_word(u64::from_ne_bytes(*word));
        }
        match (rest.len(), bytes.last_chunk::<8>()) {
            (0, _) => sum,
            (n, Some(last)) => sum.plus_word(without_first(*last, 8 - n)),
            (_, None) => sum.plus_word(Self::default().plus(rest).0),
        }
    }

    /// Whether bytes that hold their own checksum add up: `finish` would give 0.
    #[inline]
    #[must_use]
    pub const fn is_right(self) -> bool {
        /// 0xffff times this is 1 modulo 2^64.
        const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
        const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);
        // 2^16 is one more than 0xffff, so that folding does not change the remainder; only a sum of nothing folds to 0. A multiple of 0xffff is
        // one whose quotient modulo 2^64 is as small as a true quotient is: one multiplication, where a remainder takes two.
        self.0 != 0 && self.0.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
    }

    /// Both sums.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        self.plus_word(other.0)
    }

    /// Takes `bytes` away again.
    #[inline]
    #[must_use]
    pub fn minus(self, bytes: &[u8]) -> Self {
        self.plus_word(u64::from(!Self::default().plus(bytes).fold()))
    }

    /// The sum in 16 bits, not complemented.
    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the upper halves are shifted down")]
    pub const fn fold(self) -> u16 {
        // The upper half of a word and the same word turned: both halves, and what is carried out of their sum.
        let s = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (s.wrapping_add(s.rotate_left(16)) >> 16) as u16
    }

    /// What a sum of words changes by when eight of its bytes, in memory order, become others.
    #[inline]
    #[must_use]
    pub const fn of_change(from: u64, to: u64) -> Self {
        Self(!from).plus_word(to)
    }

    /// The checksum as it is stored: the complement.
    #[inline]
    #[must_use]
    pub fn finish(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum as UDP stores it: never 0, which means "none" (RFC 768).
    #[inline]
    #[must_use]
    pub fn finish_udp(self) -> [u8; 2] {
        match self.finish() {
            [0, 0] => [0xff; 2],
            other => other,
        }
    }
}

/// The last eight bytes without those that are counted already: no loop over a number of bytes that is not foreseeable.
#[inline]
fn without_first(last: [u8; 8], counted: usize) -> u64 {
    let last = u64::from_ne_bytes(last);
    if cfg!(target_endian = "little") { last >> (8 * counted) } else { last << (8 * counted) }
}

#[inline]
const fn fold32(sum: u64) -> u64 {
    let s = (sum & 0xffff_ffff) + (sum >> 32);
    (s & 0xffff_ffff) + (s >> 32)
}

/// Checksum of `bytes`, to be stored; over a header that holds a right checksum it is 0.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    Sum::default().plus(bytes).finish()
}

/// The stored checksum `old` after the 16-bit words `from` became `to` (RFC 1624, equation 3).
#[inline]
#[must_use]
pub fn updated(old: [u8; 2], from: &[u8], to: &[u8]) -> [u8; 2] {
    Sum(u64::from(!u16::from_ne_bytes(old))).minus(from).plus(to).finish()
}

/// `updated` for words whose number is known, without loops.
#[inline]
#[must_use]
pub fn updated_words<const N: usize>(old: [u8; 2], from: &[u8; N], to: &[u8; N]) -> [u8; 2] {
    const { assert!(N.is_multiple_of(4)) };
    let mut sum = u64::from(!u16::from_ne_bytes(old));
    for (f, t) in from.as_chunks::<4>().0.iter().zip(to.as_chunks::<4>().0) {
        sum += u64::from(!u32::from_ne_bytes(*f)) + u64::from(u32::from_ne_bytes(*t));
    }
    Sum(sum).finish()
}

/// A checksum after what it is made of has changed by a sum that was folded (RFC 1624).
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "16 bits are meant")]
pub const fn updated_by(old: [u8; 2], change: u16) -> [u8; 2] {
    let sum = !u16::from_ne_bytes(old) as u32 + change as u32;
    (!(sum as u16 + (sum >> 16) as u16)).to_ne_bytes()
}

/// Sum of the IPv4 pseudo header (RFC 9293, 3.1).
#[inline]
#[must_use]
pub fn pseudo4(src: [u8; 4], dst: [u8; 4], proto: u8, l4_len: usize) -> Sum {
    let words = [u32::from_ne_bytes(src), u32::from_ne_bytes(dst), u32::from_ne_bytes(length(l4_len))];
    Sum(words.iter().fold(u64::from(u16::from_ne_bytes([0, proto])), |sum, word| sum + u64::from(*word)))
}

/// Sum of the IPv6 pseudo header (RFC 8200, 8.1).
#[inline]
#[must_use]
pub fn pseudo6(src: &[u8; 16], dst: &[u8; 16], proto: u8, l4_len: usize) -> Sum {
    Sum::default().plus(src).plus(dst).plus(&[0, proto]).plus(&length(l4_len))
}

#[inline]
fn length(l4_len: usize) -> [u8; 4] {
    u32::try_from(l4_len).unwrap_or(u32::MAX).to_be_bytes()
}

const CRC_TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0u32; 256]; 8];
    let mut i = 0;
    let mut byte = 0u32;
    while i < 256 {
        let mut crc = byte;
        byte += 1;
        let mut bit = 0;
        while bit < 8 {
            // Castagnoli's polynomial, reflected (RFC 9260, appendix A).
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut t = 1;
    while t < 8 {
        let mut i = 0;
        while i < 256 {
            let before = tables[t - 1][i];
            tables[t][i] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            i += 1;
        }
        t += 1;
    }
    tables
};

/// CRC32c of the concatenation of `pieces`; SCTP stores it least significant byte first.
#[must_use]
pub fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for piece in pieces {
        let (words, rest) = piece.as_chunks::<8>();
        for w in words {
            let [a, b, c, d] = (crc ^ u32::from_le_bytes([w[0], w[1], w[2], w[3]])).to_le_bytes();
            let bytes = [a, b, c, d, w[4], w[5], w[6], w[7]];
            crc = bytes.iter().zip(CRC_TABLES.iter().rev()).fold(0, |acc, (b, table)| acc ^ table[usize::from(*b)]);
        }
        for b in rest {
            crc = crc >> 8 ^ CRC_TABLES[0][usize::from(crc.to_le_bytes()[0] ^ b)];
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract_gen::PacketGen;

    #[test]
    fn known_values() {
        // RFC 1071, 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), [0x22, 0x0d]);
        assert_eq!(checksum(&[]), [0xff, 0xff]);
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[b"123", b"456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    }

    /// Every length and alignment beside the sum of 16-bit words, and whether it is right.
    #[test]
    fn sums_are_those_of_their_words() {
        let mut random = PacketGen::new(11);
        for len in 0..200 {
            let mut data: Vec<u8> = (0..len).map(|_| random.bits().to_be_bytes()[0]).collect();
            if len % 5 == 0 {
                data.fill(if len % 2 == 0 { 0xff } else { 0 });
            }
            let words = data.chunks(2).map(|w| u64::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])));
            let mut plain: u64 = words.sum();
            while plain >> 16 != 0 {
                plain = (plain & 0xffff) + (plain >> 16);
            }
            let sum = Sum::default().plus(&data);
            assert_eq!(sum.finish(), (!u16::try_from(plain).unwrap()).to_be_bytes(), "{data:x?}");
            assert_eq!(sum.is_right(), sum.finish() == [0, 0], "{data:x?}");
            let word = random.bits() | 1;
            let (a, b) = (Sum::default().plus_word(word), Sum::default().plus(&word.to_ne_bytes()));
            assert_eq!(a.plus_word(u64::MAX).plus_short(&data).finish(), b.plus(&data).finish(), "{word:x} {data:x?}");
            assert_eq!(a.plus_word(u64::MAX).plus(&data).finish(), b.plus(&data).finish(), "{word:x} {data:x?}");
            if len % 2 == 0 {
                assert!(sum.plus(&sum.finish()).is_right());
                assert!(!sum.plus(&sum.finish()).plus(&[0, 1]).is_right());
            }
        }
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let mut random = PacketGen::new(7);
        for _ in 0..20_000 {
            let mut data: Vec<u8> = (0..5).flat_map(|_| random.bits().to_be_bytes()).collect();
            data[0] |= 1;
            let old = checksum(&data);
            let at = random.below(18) * 2;
            let from: [u8; 4] = data[at..at + 4].try_into().unwrap();
            let to = if random.below(4) == 0 { [0; 4] } else { random.bits().to_be_bytes()[..4].try_into().unwrap() };
            data[at..at + 4].copy_from_slice(&to);
            data[0] |= 1;
            let to: [u8; 4] = data[at..at + 4].try_into().unwrap();
            assert_eq!(updated(old, &from, &to), checksum(&data));
            assert_eq!(updated_words(old, &from, &to), checksum(&data));
            let word = |bytes: [u8; 4]| u64::from(u32::from_ne_bytes(bytes));
            assert_eq!(updated_by(old, Sum::of_change(word(from), word(to)).fold()), checksum(&data));
            let (a, b) = (word(from) << 32 | word(to), word(to) << 32 | word(from));
            let both = updated(old, &a.to_ne_bytes(), &b.to_ne_bytes());
            assert_eq!(updated_by(old, Sum::of_change(a, b).fold()), both);
            assert_eq!(Sum::default().plus(&data).plus(&checksum(&data)).finish(), [0, 0]);
        }
    }
}
