//! The keyed hash of a packet's key, and of the words that a mask lets through.
//!
//! What enters: the lines of a key that a packet uses; or a few words under a mask. What leaves: 64 bits, of which the caches take the
//! lowest as a bucket number and the highest 16 as a tag. Neighbours: `cache`, `classifier`.
//!
//! Both are keyed with random numbers made at start, so that no sender can aim at one bucket. Collisions only cost time: whatever
//! is found is compared with the key under the mask.
//!
//! The hash of whole lines has two forms, chosen once at start: AES rounds where the processor has them, folded
//! multiplication elsewhere. Tests hold the AES form against rounds made from the standard's table.

use crate::parsed::Parsed;
use flow::key::{Key, LINE_BYTES, LINES};
use std::hash::{BuildHasher, Hasher as _, RandomState};

const LINE_WORDS: usize = LINE_BYTES / 8;

/// A random 64-bit number, from the system's source.
#[must_use]
pub fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(0x9e37_79b9_7f4a_7c15);
    hasher.finish()
}

/// Multiplies and folds the product: every input bit reaches every output bit.
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
pub const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The hash of whole lines.
#[derive(Debug)]
pub struct LineHash {
    /// For each line eight words, then a last group for finishing.
    keys: Box<[[u64; LINE_WORDS]; LINES + 1]>,
    aes: bool,
}

impl LineHash {
    /// With random keys, in the form that this processor does best.
    #[must_use]
    pub fn new() -> Self {
        let mut keys = Box::new([[0; LINE_WORDS]; LINES + 1]);
        for word in keys.iter_mut().flatten() {
            *word = random();
        }
        Self { keys, aes: has_aes() }
    }

    /// The same keys, but never AES: for comparing.
    #[must_use]
    pub fn without_aes(mut self) -> Self {
        self.aes = false;
        self
    }

    /// Hashes each packet's valid lines.
    #[inline]
    pub fn hash_all(&self, parsed: &[Parsed], out: &mut [u64]) {
        #[cfg(target_arch = "x86_64")]
        if self.aes {
            // SAFETY: `aes` is only true if the processor has the instructions.
            unsafe { aes::hash_all(&self.keys, parsed, out) };
            return;
        }
        for (p, h) in parsed.iter().zip(out) {
            *h = self.multiply(p);
        }
    }

    fn multiply(&self, parsed: &Parsed) -> u64 {
        let finish = &self.keys[LINES];
        let mut hash = finish[0] ^ u64::from(parsed.found.lines.0);
        for line in 0..LINES {
            if parsed.found.lines.0 & 1 << line != 0 {
                hash = fold(hash ^ sum_of_products(line_of(&parsed.key, line), &self.keys[line]), finish[1] | 1);
            }
        }
        fold(hash ^ finish[2], finish[3] | 1)
    }
}

impl Default for LineHash {
    fn default() -> Self {
        Self::new()
    }
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Line `line` of a key.
#[inline]
#[must_use]
pub fn line_of(key: &Key, line: usize) -> &[u64; LINE_WORDS] {
    let words = key.words();
    let (line, _) = words[line * LINE_WORDS..].split_first_chunk().expect("a key has LINES whole lines");
    line
}

/// Products of neighbouring words, each with its key, added up: the multiplications do not wait for each other.
#[inline]
fn sum_of_products(words: &[u64; LINE_WORDS], keys: &[u64; LINE_WORDS]) -> u64 {
    let mut sum = 0u64;
    for (w, k) in words.chunks_exact(2).zip(keys.chunks_exact(2)) {
        sum = sum.wrapping_add(fold(w[0] ^ k[0], w[1] ^ k[1]));
    }
    sum
}

/// The hash of `n` words (`N` of them if that is not 0, so that the compiler can unroll), with `keys`.
#[inline]
#[must_use]
pub fn masked<const N: usize>(word: impl Fn(usize) -> u64, n: usize, keys: &[u64; 4]) -> u64 {
    let n = if N == 0 { n } else { N };
    let mut hash = 0u64;
    let mut i = 0;
    while i + 1 < n {
        // The position goes in through the running hash, so that equal pairs in different places differ.
        hash = fold(word(i) ^ keys[0] ^ hash, word(i + 1) ^ keys[1]);
        i += 2;
    }
    if i < n {
        hash = fold(word(i) ^ keys[2] ^ hash, keys[1] | 1);
    }
    fold(hash ^ keys[3], keys[0] | 1)
}

#[cfg(target_arch = "x86_64")]
mod aes {
    use super::{LINE_WORDS, LINES, Parsed, line_of};
    use std::arch::x86_64::{__m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_xor_si128};

    #[inline]
    #[target_feature(enable = "aes")]
    #[allow(clippy::cast_possible_wrap, reason = "bits, not numbers")]
    fn block(words: &[u64; LINE_WORDS], i: usize) -> __m128i {
        _mm_set_epi64x(words[2 * i + 1] as i64, words[2 * i] as i64)
    }

    /// Two rounds on each block of 16 bytes, each block with its own key; the blocks of a line added; one round more for each line
    /// and two at the end.
    #[inline]
    #[target_feature(enable = "aes")]
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "bits, not numbers")]
    pub(super) fn hash_all(keys: &[[u64; LINE_WORDS]; LINES + 1], parsed: &[Parsed], out: &mut [u64]) {
        let finish = &keys[LINES];
        for (p, h) in parsed.iter().zip(out) {
            let lines = p.found.lines.0;
            let mut hash = _mm_set_epi64x(0, i64::from(lines));
            let mut left = lines;
            while left != 0 {
                let line = left.trailing_zeros() as usize;
                left &= left - 1;
                let (words, key) = (line_of(&p.key, line), &keys[line]);
                let round = |i: usize| {
                    let x = _mm_aesenc_si128(_mm_xor_si128(block(words, i), block(key, i)), block(key, (i + 1) & 3));
                    _mm_aesenc_si128(x, block(key, i))
                };
                let sum = _mm_xor_si128(_mm_xor_si128(round(0), round(1)), _mm_xor_si128(round(2), round(3)));
                hash = _mm_aesenc_si128(_mm_xor_si128(hash, sum), block(finish, 0));
            }
            hash = _mm_aesenc_si128(_mm_aesenc_si128(hash, block(finish, 1)), block(finish, 2));
            *h = _mm_cvtsi128_si64(hash) as u64;
        }
    }
}

/// Numbers that a test can have again, from a seed.
#[cfg(test)]
pub(crate) struct Rng(pub(crate) u64);

#[cfg(test)]
impl Rng {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        fold(self.0, 0x1234_5678_9abc_def1) % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn byte(&mut self, n: u64) -> u8 {
        u8::try_from(self.below(n)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::key::Lines;
    use proptest::prelude::*;

    fn parsed(words: &[(usize, u64)], lines: u16) -> Parsed {
        let mut p = Parsed::new();
        p.key = Key::ZERO;
        for (i, w) in words {
            p.key.words_mut()[*i] = *w;
        }
        p.found.lines = Lines(lines);
        p
    }

    /// FIPS 197, section 5.1: SubBytes, ShiftRows, MixColumns, AddRoundKey, made from the definitions.
    mod standard {
        fn times2(x: u8) -> u8 {
            (x << 1) ^ if x & 0x80 != 0 { 0x1b } else { 0 }
        }

        fn product(mut a: u8, mut b: u8) -> u8 {
            let mut p = 0;
            while b != 0 {
                if b & 1 != 0 {
                    p ^= a;
                }
                a = times2(a);
                b >>= 1;
            }
            p
        }

        fn substitute(x: u8) -> u8 {
            let inverse = (0..=255u8).find(|y| product(x, *y) == 1).unwrap_or(0);
            (0..5).fold(0x63, |s, i| s ^ inverse.rotate_left(i))
        }

        pub(super) fn round(state: u128, key: u128) -> u128 {
            let s = state.to_le_bytes();
            let mut out = [0u8; 16];
            for column in 0..4 {
                let a: [u8; 4] = std::array::from_fn(|row| substitute(s[(column + row) % 4 * 4 + row]));
                for row in 0..4 {
                    let at = |i: usize| a[(row + i) % 4];
                    out[column * 4 + row] = times2(at(0)) ^ times2(at(1)) ^ at(1) ^ at(2) ^ at(3);
                }
            }
            u128::from_le_bytes(out) ^ key
        }
    }

    fn by_the_standard(hash: &LineHash, p: &Parsed) -> u64 {
        let block = |words: &[u64; 8], i: usize| u128::from(words[2 * i]) | u128::from(words[2 * i + 1]) << 64;
        let finish = &hash.keys[LINES];
        let mut h = u128::from(p.found.lines.0);
        for line in (0..LINES).filter(|l| p.found.lines.0 & 1 << l != 0) {
            let (words, key) = (line_of(&p.key, line), &hash.keys[line]);
            for i in 0..4 {
                let x = standard::round(block(words, i) ^ block(key, i), block(key, (i + 1) & 3));
                h ^= standard::round(x, block(key, i));
            }
            h = standard::round(h, block(finish, 0));
        }
        h = standard::round(standard::round(h, block(finish, 1)), block(finish, 2));
        u64::try_from(h & u128::from(u64::MAX)).unwrap()
    }

    #[test]
    fn aes_is_what_the_standard_says() {
        let hash = LineHash::new();
        if !hash.aes {
            return;
        }
        for (i, lines) in [1u16, 3, 0x1ff, 0x10].into_iter().enumerate() {
            let p = parsed(&[(0, i as u64), (7, !0), (8, 77), (35, 1)], lines);
            let mut out = [0];
            hash.hash_all(std::slice::from_ref(&p), &mut out);
            assert_eq!(out[0], by_the_standard(&hash, &p));
        }
    }

    #[test]
    fn what_is_in_an_invalid_line_does_not_count() {
        for hash in [LineHash::new(), LineHash::new().without_aes()] {
            let mut out = [0; 2];
            hash.hash_all(&[parsed(&[(0, 5)], 1), parsed(&[(0, 5), (8, 9)], 1)], &mut out);
            assert_eq!(out[0], out[1]);
        }
    }

    proptest! {
        #[test]
        fn every_word_counts(word in 0usize..16, a: u64, b: u64) {
            prop_assume!(a != b);
            for hash in [LineHash::new(), LineHash::new().without_aes()] {
                let mut out = [0; 2];
                hash.hash_all(&[parsed(&[(word, a)], 3), parsed(&[(word, b)], 3)], &mut out);
                prop_assert_ne!(out[0], out[1]);
            }
        }
    }
}
