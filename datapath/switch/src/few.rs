//! Comparing the packets of a batch with the few megaflows of one mask.
//!
//! What enters: keys, and the megaflows that a table names (decision 0063). What leaves: for each packet its megaflow, if it is one of them, and which
//! packets each has. Neighbours: `search` (the caller), `groups`.
//!
//! Which megaflow a packet is compared with is not branched upon: mixed traffic is as good as any. The plain form compares with each. The wide
//! form folds the masked line to 32 bits, which say the one megaflow that it can be, and compares with that; where two megaflows fold to the same bits it
//! compares with each as well.

use crate::classifier::{BATCH, FEW_MAX};
use crate::hash::line_of;
use crate::search::{Search, bits, last};
use crate::shape::Line;
use crate::slots::Entry;

/// Compares every live packet with a few megaflows of one mask, and takes those that are of one out of `live`.
#[inline(always)]
pub(crate) fn compare_few<'g, const WIDE: bool>(search: &mut Search<'_, 'g>, few: [Option<Entry<'g>>; FEW_MAX]) {
    let Some(any) = few.iter().flatten().next().copied() else { return };
    let entries = few.map(|entry| entry.unwrap_or(any));
    // Copies, since what is found might lie where they do, as far as the compiler knows.
    let (lines, mask) = (entries.map(|entry| *entry.line0()), *line_of(&any.head().shape.mask, 0));
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2 (`wide`).
        let signs = unsafe { vector::Signs::of(&lines, few.iter().flatten().count()) };
        if let Some(signs) = signs {
            // SAFETY: as above.
            return part::<WIDE>(search, &entries, |key| unsafe { signs.pick(&lines, key, &mask) });
        }
    }
    part::<WIDE>(search, &entries, |key| pick::<WIDE>(&lines, key, &mask));
}

/// The number of the first line that `key & mask` is; `FEW_MAX` if it is none.
#[inline(always)]
fn pick<const WIDE: bool>(lines: &[Line; FEW_MAX], key: &[u64; 8], mask: &[u64; 8]) -> usize {
    let mut picked = FEW_MAX;
    for (number, line) in lines.iter().enumerate().rev() {
        picked = if line.equals_masked_as::<WIDE>(key, mask) { number } else { picked };
    }
    picked
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "numbers up to `FEW_MAX`")]
fn part<'g, const WIDE: bool>(search: &mut Search<'_, 'g>, entries: &[Entry<'g>; FEW_MAX], pick: impl Fn(&[u64; 8]) -> usize) {
    let (live, mut matched) = (search.live, 0u32);
    let mut whose = [FEW_MAX as u8; BATCH];
    for (i, ((parsed, found), whose)) in
        search.parsed.iter().zip(search.found.iter_mut()).zip(&mut whose).enumerate().take(last(live))
    {
        let picked = pick(line_of(&parsed.key, 0));
        let hit = (picked < FEW_MAX) & (live >> i & 1 != 0);
        *found = if hit { Some(entries[picked % FEW_MAX]) } else { *found };
        matched |= u32::from(hit) << i;
        *whose = picked as u8;
    }
    if entries[0].is_short() {
        for (number, entry) in entries.iter().enumerate() {
            search.groups.add(*entry, matched & equal_bits::<WIDE>(&whose, number as u8));
        }
    } else {
        for i in bits(matched) {
            // Those of one mask may have the first line in common.
            let parsed = &mut search.parsed[i];
            search.found[i] = entries.iter().find(|entry| entry.matches_as::<WIDE>(parsed)).copied();
            matched &= !(u32::from(search.found[i].is_none()) << i);
        }
    }
    search.live &= !matched;
}

/// A bit for each byte that is `number`.
#[inline(always)]
fn equal_bits<const WIDE: bool>(bytes: &[u8; BATCH], number: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2 (`wide`).
        return unsafe { vector::equal_bits(bytes, number) };
    }
    bytes.iter().enumerate().fold(0, |set, (i, byte)| set | u32::from(*byte == number) << i)
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::{BATCH, FEW_MAX, Line};
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_cvtsi128_si32, _mm_movemask_ps, _mm_set_epi32,
        _mm_shuffle_epi32, _mm_xor_si128, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cmpeq_epi8, _mm256_extracti128_si256,
        _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_testz_si256, _mm256_xor_si256,
    };

    const _: () = assert!(FEW_MAX == 4 && BATCH == 32);

    /// What masked lines fold to, which differs from line to line.
    #[derive(Clone, Copy)]
    pub(super) struct Signs(__m128i);

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(words: &[u64; 8]) -> [__m256i; 2] {
        let half = |i: usize| {
            let at = words.as_ptr().cast::<__m256i>().wrapping_add(i);
            // SAFETY: eight words are two vectors, and `i` is 0 or 1.
            unsafe { _mm256_loadu_si256(at) }
        };
        [half(0), half(1)]
    }

    /// All 32-bit words of a line in one, four times.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn fold([low, high]: [__m256i; 2]) -> __m128i {
        let eight = _mm256_xor_si256(low, high);
        let four = _mm_xor_si128(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
        let two = _mm_xor_si128(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_xor_si128(two, _mm_shuffle_epi32::<0b10_11_00_01>(two))
    }

    impl Signs {
        /// Of the first `n` lines; `None` if two are alike.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(super) fn of(lines: &[Line; FEW_MAX], n: usize) -> Option<Self> {
            let mut signs = [0; FEW_MAX];
            for (sign, line) in signs.iter_mut().zip(lines) {
                *sign = _mm_cvtsi128_si32(fold(load(&line.0)));
            }
            let alike = (1..n.min(FEW_MAX)).any(|i| signs[..i].contains(&signs[i]));
            let [a, b, c, d] = signs;
            (!alike).then(|| Self(_mm_set_epi32(d, c, b, a)))
        }

        /// `super::pick`, for the lines that the signs are of.
        #[inline]
        #[target_feature(enable = "avx2,bmi1")]
        pub(super) fn pick(self, lines: &[Line; FEW_MAX], key: &[u64; 8], mask: &[u64; 8]) -> usize {
            let ([low, high], [low_mask, high_mask]) = (load(key), load(mask));
            let masked = [_mm256_and_si256(low, low_mask), _mm256_and_si256(high, high_mask)];
            let same = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(fold(masked), self.0)));
            // More than any number if none is the same.
            let picked = same.trailing_zeros() as usize;
            let own = load(&lines[picked % FEW_MAX].0);
            let differs = _mm256_or_si256(_mm256_xor_si256(masked[0], own[0]), _mm256_xor_si256(masked[1], own[1]));
            if (_mm256_testz_si256(differs, differs) != 0) & (picked < FEW_MAX) { picked } else { FEW_MAX }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn equal_bits(bytes: &[u8; BATCH], number: u8) -> u32 {
        // SAFETY: the bytes are one vector.
        let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(number.cast_signed()))).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = [u64; 8]> {
        // Few values, so that lines are alike, and fold alike, now and then.
        prop::array::uniform8(prop_oneof![6 => Just(0u64), 1 => 0u64..3, 1 => Just(1 << 32)])
    }

    proptest! {
        #[test]
        fn both_forms_pick_the_same(keys in prop::collection::vec(line(), 4), of in 0usize..5, key in line(), mask in line(), n in 1usize..=4) {
            #[cfg(target_arch = "x86_64")]
            if crate::wide::on() {
                let masked = |words: &[u64; 8]| Line(std::array::from_fn(|i| words[i] & !mask[i]));
                let mask: [u64; 8] = mask.map(|m| !m);
                let lines: [Line; FEW_MAX] = std::array::from_fn(|i| masked(&keys[if i < n { i } else { 0 }]));
                let key = keys.get(of).copied().unwrap_or(key);
                // SAFETY: `wide::on` says that the processor has AVX2.
                let signs = unsafe { vector::Signs::of(&lines, n) };
                if let Some(signs) = signs {
                    // SAFETY: as above.
                    let picked = unsafe { signs.pick(&lines, &key, &mask) };
                    prop_assert_eq!(picked, pick::<false>(&lines, &key, &mask));
                }
                prop_assert_eq!(pick::<true>(&lines, &key, &mask), pick::<false>(&lines, &key, &mask));
            }
        }

        #[test]
        fn bits_are_those_of_equal_bytes(bytes in prop::array::uniform32(0u8..5), number in 0u8..5) {
            let plain = equal_bits::<false>(&bytes, number);
            prop_assert!(bytes.iter().enumerate().all(|(i, byte)| (plain >> i & 1 != 0) == (*byte == number)));
            if crate::wide::on() {
                prop_assert_eq!(equal_bits::<true>(&bytes, number), plain);
            }
        }
    }
}
