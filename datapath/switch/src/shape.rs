//! The shape of a mask: which words of a key it looks at. Megaflows with the same mask share one shape and one subtable.

use crate::hash::{masked, random};
use flow::key::{Key, LINE_BYTES, LINES, Lines, Mask, WORDS};

const LINE_WORDS: usize = LINE_BYTES / 8;

/// One cache line of a key.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(pub [u64; LINE_BYTES / 8]);

impl Line {
    /// Line `line` of `key`.
    #[inline]
    #[must_use]
    pub fn of(key: &Key, line: usize) -> Self {
        Self(*crate::hash::line_of(key, line))
    }

    /// Whether `key & mask` is this line.
    #[inline]
    #[must_use]
    pub fn equals_masked(&self, key: &[u64; 8], mask: &[u64; 8]) -> bool {
        let mut difference = 0;
        for i in 0..8 {
            difference |= (key[i] & mask[i]) ^ self.0[i];
        }
        difference == 0
    }

    /// The same in two vectors.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[must_use]
    #[target_feature(enable = "avx2")]
    fn equals_masked_avx2(&self, key: &[u64; 8], mask: &[u64; 8]) -> bool {
        use std::arch::x86_64::{
            __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256, _mm256_testz_si256, _mm256_xor_si256,
        };
        let half = |words: &[u64; 8], i: usize| {
            let at = words.as_ptr().cast::<__m256i>().wrapping_add(i);
            // SAFETY: eight words are two vectors, and `i` is 0 or 1.
            unsafe { _mm256_loadu_si256(at) }
        };
        let difference = |i: usize| _mm256_xor_si256(_mm256_and_si256(half(key, i), half(mask, i)), half(&self.0, i));
        let both = _mm256_or_si256(difference(0), difference(1));
        _mm256_testz_si256(both, both) != 0
    }

    /// Whether `key & mask` is this line, in the form asked for. The wide one only where `wide::on` says so.
    #[inline(always)]
    #[must_use]
    pub(crate) fn equals_masked_as<const WIDE: bool>(&self, key: &[u64; 8], mask: &[u64; 8]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if WIDE {
            // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2 (`wide`).
            return unsafe { self.equals_masked_avx2(key, mask) };
        }
        self.equals_masked(key, mask)
    }
}

/// Words that a hash under a mask of the first line takes at most.
pub const FIRST_WORDS_MAX: usize = 6;

/// How to hash a key under a mask that has bits in the first line only. Copied before a loop over packets, so that nothing in the loop
/// looks like it could change.
#[derive(Clone, Copy, Debug)]
pub struct FirstHash {
    at: [u8; 8],
    mask: [u64; 8],
    keys: [u64; 4],
}

impl FirstHash {
    /// The hash of a key's first line, of which `N` words count.
    #[inline]
    #[must_use]
    pub fn hash<const N: usize>(&self, line: &[u64; LINE_BYTES / 8]) -> u64 {
        masked::<N>(|i| line[usize::from(self.at[i] & 7)] & self.mask[i], N, &self.keys)
    }
}

/// A mask, prepared for hashing and comparing.
#[derive(Debug)]
pub struct Shape {
    pub mask: Mask,
    /// Lines in which the mask has bits.
    pub lines: Lines,
    /// Words of the key that tell megaflows with this mask apart, and their masks.
    at: Box<[u8]>,
    words: Box<[u64]>,
    keys: [u64; 4],
}

impl Shape {
    /// Prepares `mask`.
    #[must_use]
    pub fn new(mask: &Mask) -> Self {
        let used = |telling: &Mask| -> Vec<(u8, u64)> {
            let words = mask.words().iter().zip(telling.words()).enumerate().filter(|(_, (w, t))| *w & *t != 0);
            words.map(|(i, (w, _))| (u8::try_from(i).expect("a key has fewer than 256 words"), *w)).collect()
        };
        let mut hashed = used(&telling());
        if hashed.is_empty() {
            hashed = used(mask);
        }
        Self {
            mask: *mask,
            lines: mask.lines(),
            at: hashed.iter().map(|(at, _)| *at).collect(),
            words: hashed.iter().map(|(_, word)| *word).collect(),
            keys: std::array::from_fn(|_| random()),
        }
    }

    /// The short way to hash, and how many words it takes; `None` for masks that reach beyond the first line or have too many words.
    #[must_use]
    pub fn first(&self) -> Option<(FirstHash, usize)> {
        let n = self.at.len();
        let short = self.lines.0 & !1 == 0 && (1..=FIRST_WORDS_MAX).contains(&n);
        let mut first = FirstHash { at: [0; 8], mask: [0; 8], keys: self.keys };
        if short {
            first.at[..n].copy_from_slice(&self.at);
            first.mask[..n].copy_from_slice(&self.words);
        }
        short.then_some((first, n))
    }

    /// How many 64-bit words are hashed.
    #[must_use]
    pub fn n_words(&self) -> usize {
        self.at.len()
    }

    /// The hash of a key under the mask.
    #[inline]
    #[must_use]
    pub fn hash(&self, words: &[u64; WORDS]) -> u64 {
        masked::<0>(|i| words[usize::from(self.at[i])] & self.words[i], self.at.len(), &self.keys)
    }

    /// The hash of a key under the mask of which only the masked lines are there that the mask has bits in: the first, and `rest`.
    #[must_use]
    pub fn hash_lines(&self, first: &Line, rest: &[Line]) -> u64 {
        let word = |i: usize| {
            let (line, word) = (usize::from(self.at[i]) / LINE_WORDS, usize::from(self.at[i]) % LINE_WORDS);
            let before = self.lines.0 & ((1 << line) - 1) & !1;
            if line == 0 { first.0[word] } else { rest[before.count_ones() as usize].0[word] }
        };
        masked::<0>(word, self.at.len(), &self.keys)
    }

    /// The masked lines of `key` after the first, in order, without those in which the mask has no bits.
    #[must_use]
    pub fn rest(&self, key: &Key) -> Box<[Line]> {
        (1..LINES).filter(|l| self.lines.0 & 1 << l != 0).map(|l| self.masked_line(key, l)).collect()
    }

    /// Line `line` of `key` under the mask.
    #[must_use]
    pub fn masked_line(&self, key: &Key, line: usize) -> Line {
        let (mut out, mask) = (Line::of(key, line), Line::of(&self.mask, line));
        for (o, m) in out.0.iter_mut().zip(mask.0) {
            *o &= m;
        }
        out
    }
}

/// Fields that tell megaflows apart. The others may be left out of a hash, since they hardly do: all megaflows in a subtable have the
/// same input port, and few kinds of packets are seen at one.
fn telling() -> Mask {
    let mut telling: Mask = zerocopy::transmute!([0xffu8; LINE_BYTES * LINES]);
    telling.in_port = [0; 4];
    telling.packet_type = [0; 4];
    telling.nw_frag = 0;
    telling
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash_of(shape: &Shape, key: &Key) -> u64 {
        let Some((first, n)) = shape.first() else { return shape.hash(key.words()) };
        let line = crate::hash::line_of(key, 0);
        match n {
            1 => first.hash::<1>(line),
            2 => first.hash::<2>(line),
            3 => first.hash::<3>(line),
            4 => first.hash::<4>(line),
            5 => first.hash::<5>(line),
            _ => first.hash::<6>(line),
        }
    }

    proptest! {
        #[test]
        fn wide_compare_equals_plain(key in prop::array::uniform8(any::<u64>()), mask in prop::array::uniform8(any::<u64>()), flip in 0usize..1024) {
            let mut line = Line(std::array::from_fn(|i| key[i] & mask[i]));
            // Half of the time a bit differs.
            if flip < 512 {
                line.0[flip / 64] ^= 1 << (flip % 64);
            }
            prop_assert_eq!(line.equals_masked(&key, &mask), flip >= 512);
            if crate::wide::on() {
                prop_assert_eq!(line.equals_masked_as::<true>(&key, &mask), flip >= 512);
            }
        }

        /// What is kept of a megaflow's key has the hash that packets have.
        #[test]
        fn kept_lines_have_the_hash_of_the_key(words in prop::collection::vec(any::<u64>(), 96), used in prop::collection::btree_map(0usize..72, any::<u64>(), 1..9)) {
            let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
            key.words_mut().copy_from_slice(&words);
            mask.in_port = [0xff; 4];
            used.iter().for_each(|(i, bits)| mask.words_mut()[*i] |= bits);
            let shape = Shape::new(&mask);
            prop_assert_eq!(shape.hash_lines(&shape.masked_line(&key, 0), &shape.rest(&key)), shape.hash(key.words()));
        }

        /// The short form is the general one, and every bit of a word counts that the mask lets through.
        #[test]
        fn short_equals_general(at in prop::collection::btree_set(0usize..8, 1..8), words in prop::array::uniform8(any::<u64>()), flip in 0usize..512) {
            let mut mask = Key::ZERO;
            at.iter().for_each(|i| mask.words_mut()[*i] = 0x00ff_ff0f_f0ff_ffff | 1 << (i * 7));
            let shape = Shape::new(&mask);
            let mut key = Key::ZERO;
            key.words_mut()[..8].copy_from_slice(&words);
            let before = hash_of(&shape, &key);
            prop_assert_eq!(before, shape.hash(key.words()));
            let (word, bit) = (flip / 64, 1u64 << (flip % 64));
            key.words_mut()[word] ^= bit;
            let hashed = mask.words()[word] & telling().words()[word] != 0;
            prop_assert_eq!(hash_of(&shape, &key) != before, hashed && mask.words()[word] & bit != 0);
        }
    }
}
