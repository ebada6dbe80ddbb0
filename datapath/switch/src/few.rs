//! Comparing the packets of a batch with a few megaflows, all at once.
//!
//! What enters: keys, and the megaflows that a table (decision 0063) or the memo names, of one mask or of several. What leaves: which packets each
//! has. Neighbours: `search`, `memo` (the callers), `groups`.
//!
//! Every packet is compared with each megaflow, so that nothing is branched upon: mixed traffic is as good as any. The wide forms compare in vectors, of half
//! a line or of a whole one, and note of each packet which words are equal or differ; the notes are read for the whole batch at once.

use crate::classifier::{BATCH, FEW_MAX};
use crate::hash::line_of;
use crate::parsed::Parsed;
use crate::search::{Search, compare_rest, last};
use crate::slots::Entry;

/// The first lines of a few megaflows, and what of them counts. They are not copied: what has just been written in parts is not yet to be had as a whole.
struct Few<'f> {
    lines: [&'f [u64; 8]; FEW_MAX],
    masks: [&'f [u64; 8]; FEW_MAX],
}

/// Compares every live packet with a few megaflows, and takes those that are of one out of `live`; of several, they are of the first.
#[inline(always)]
pub(crate) fn compare_few<'g, const WIDE: bool>(search: &mut Search<'_, 'g>, few: [Option<Entry<'g>>; FEW_MAX]) {
    let Some(any) = few.iter().flatten().next().copied() else { return };
    let entries = few.map(|entry| entry.unwrap_or(any));
    let few_lines = Few { lines: entries.map(|entry| &entry.line0().0), masks: entries.map(Entry::mask0) };
    let first = whose::<WIDE>(&search.parsed[..last(search.live)], &few_lines);
    for (entry, first) in few.iter().zip(first) {
        let Some(entry) = entry else { continue };
        let own = first & search.live;
        let own = if entry.is_short() { own } else { compare_rest::<WIDE>(search, *entry, own) };
        search.take(*entry, own);
    }
}

/// A bit for each packet whose first line is each megaflow's.
#[inline(always)]
fn whose<const WIDE: bool>(parsed: &[Parsed], few: &Few<'_>) -> [u32; FEW_MAX] {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        if crate::wide::lines() {
            // SAFETY: the processor has these vectors.
            return unsafe { vector::whose_by_lines(parsed, few) };
        }
        // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2 (`wide`).
        return unsafe { vector::whose(parsed, few) };
    }
    let mut own = [0; FEW_MAX];
    for (i, parsed) in parsed.iter().enumerate() {
        for ((own, line), mask) in own.iter_mut().zip(&few.lines).zip(&few.masks) {
            let key = line_of(&parsed.key, 0);
            let odd = (0..8).fold(0, |odd, word| odd | (key[word] & mask[word] ^ line[word]));
            *own |= u32::from(odd == 0) << i;
        }
    }
    own
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::{BATCH, FEW_MAX, Few, Parsed, line_of};
    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_cmpeq_epi64, _mm256_loadu_si256,
        _mm256_movemask_epi8, _mm256_movemask_ps, _mm256_packs_epi16, _mm256_packs_epi32, _mm256_set1_epi32, _mm256_srli_epi32,
        _mm256_testn_epi8_mask, _mm512_and_si512, _mm512_cmpneq_epi64_mask, _mm512_loadu_si512,
    };

    const _: () = assert!(FEW_MAX == 4 && BATCH == 32);

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

    /// `super::whose` with vectors of a line.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn whose_by_lines(parsed: &[Parsed], few: &Few<'_>) -> [u32; FEW_MAX] {
        // SAFETY: eight words are a vector.
        let load = |words: &[u64; 8]| unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        let (lines, masks) = (few.lines.map(load), few.masks.map(load));
        // Of each megaflow and packet a bit for each word in which they differ.
        let mut differ = [[u8::MAX; BATCH]; FEW_MAX];
        let [first, second, third, fourth] = &mut differ;
        for ((((parsed, first), second), third), fourth) in parsed.iter().zip(first).zip(second).zip(third).zip(fourth) {
            let key = load(line_of(&parsed.key, 0));
            let words = |i: usize| _mm512_cmpneq_epi64_mask(_mm512_and_si512(key, masks[i]), lines[i]);
            (*first, *second, *third, *fourth) = (words(0), words(1), words(2), words(3));
        }
        differ.map(|bytes| {
            // SAFETY: the bytes are one vector.
            let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            _mm256_testn_epi8_mask(bytes, bytes)
        })
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn whose(parsed: &[Parsed], few: &Few<'_>) -> [u32; FEW_MAX] {
        let (lines, masks) = (few.lines.map(|line| load(line)), few.masks.map(|mask| load(mask)));
        // Of each packet four bits for each megaflow, twice: the same eight words of the key, which are to be equal.
        let mut equal = [0u32; BATCH];
        for (equal, parsed) in equal.iter_mut().zip(parsed) {
            let [low, high] = load(line_of(&parsed.key, 0));
            let same = |i: usize| {
                let low = _mm256_cmpeq_epi64(_mm256_and_si256(low, masks[i][0]), lines[i][0]);
                let high = _mm256_cmpeq_epi64(_mm256_and_si256(high, masks[i][1]), lines[i][1]);
                _mm256_and_si256(low, high)
            };
            let (front, back) = (_mm256_packs_epi32(same(0), same(1)), _mm256_packs_epi32(same(2), same(3)));
            *equal = _mm256_movemask_epi8(_mm256_packs_epi16(front, back)).cast_unsigned();
        }
        let mut own = [0; FEW_MAX];
        for (eighth, equal) in equal.chunks_exact(8).enumerate() {
            // SAFETY: eight words of 32 bits are a vector.
            let equal = unsafe { _mm256_loadu_si256(equal.as_ptr().cast()) };
            let both = _mm256_and_si256(equal, _mm256_srli_epi32::<16>(equal));
            for (i, own) in own.iter_mut().enumerate() {
                let bits = _mm256_set1_epi32(0xf << (4 * i));
                let same = _mm256_cmpeq_epi32(_mm256_and_si256(both, bits), bits);
                *own |= _mm256_movemask_ps(_mm256_castsi256_ps(same)).cast_unsigned() << (8 * eighth);
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = [u64; 8]> {
        // Few values, so that lines are alike now and then, and differ in one word.
        prop::array::uniform8(prop_oneof![6 => Just(0u64), 1 => 0u64..3, 1 => Just(1 << 32)])
    }

    proptest! {
        #[test]
        fn both_forms_find_the_same(
            keys in prop::collection::vec(line(), 0..=BATCH),
            of in prop::array::uniform4(any::<prop::sample::Index>()),
            lines in prop::array::uniform4(line()),
            masks in prop::array::uniform4(line()),
        ) {
            let mut parsed = vec![Parsed::new(); keys.len()];
            for (parsed, key) in parsed.iter_mut().zip(&keys) {
                parsed.key.words_mut()[..8].copy_from_slice(key);
            }
            let masks = masks.map(|mask| mask.map(|word| !word));
            // Mostly of one of the packets.
            let line = |i: usize| {
                let key = if keys.is_empty() || of[i].index(8) == 0 { &lines[i] } else { of[i].get(&keys) };
                std::array::from_fn(|word| key[word] & masks[i][word])
            };
            let lines: [[u64; 8]; FEW_MAX] = std::array::from_fn(line);
            let few = Few { lines: lines.each_ref(), masks: masks.each_ref() };
            let plain = whose::<false>(&parsed, &few);
            for (i, key) in keys.iter().enumerate() {
                for (own, (line, mask)) in plain.iter().zip(few.lines.iter().zip(&few.masks)) {
                    prop_assert_eq!(own >> i & 1 != 0, (0..8).all(|word| key[word] & mask[word] == line[word]));
                }
            }
            #[cfg(target_arch = "x86_64")]
            if crate::wide::on() {
                // SAFETY: `wide::on` says that the processor has AVX2.
                prop_assert_eq!(unsafe { vector::whose(&parsed, &few) }, plain);
                prop_assert_eq!(whose::<true>(&parsed, &few), plain);
            }
        }
    }
}
