//! Comparing one 16-bit tag with the eight of a bucket, at once. Used by the signature cache and by the subtables.
//!
//! What enters: eight tags as two words, lane 0 in the lowest bits. What leaves: one bit per lane that is equal.

/// Ways in a bucket.
pub const WAYS: usize = 8;

/// The tag of a hash; never 0, which says "empty".
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the upper 16 bits are what is asked for")]
pub const fn tag_of(hash: u64) -> u16 {
    (hash >> 48) as u16 | 1
}

/// One bit per lane of `tags` that equals `tag`.
#[inline]
#[must_use]
pub fn equal(tags: [u64; 2], tag: u16) -> u8 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: SSE2 is part of x86_64.
        unsafe { equal_sse2(tags, tag) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        equal_portable(tags, tag)
    }
}

/// The twin of `equal_sse2`: a lane is equal when the exclusive or is zero there, which an addition without carries finds.
#[inline]
#[must_use]
pub fn equal_portable(tags: [u64; 2], tag: u16) -> u8 {
    const LOW: u64 = 0x7fff_7fff_7fff_7fff;
    let wanted = u64::from(tag) * 0x0001_0001_0001_0001;
    let half = |word: u64| {
        let x = word ^ wanted;
        let zero = !(((x & LOW) + LOW) | x | LOW);
        // One bit at the top of each equal lane; gathered into the lowest four.
        (zero >> 15 & 1) | (zero >> 30 & 2) | (zero >> 45 & 4) | (zero >> 60 & 8)
    };
    let both = half(tags[0]) | half(tags[1]) << 4;
    both.to_le_bytes()[0]
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
#[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "lanes, not numbers")]
fn equal_sse2(tags: [u64; 2], tag: u16) -> u8 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16, _mm_setzero_si128,
    };
    let have = _mm_set_epi64x(tags[1] as i64, tags[0] as i64);
    let same = _mm_cmpeq_epi16(have, _mm_set1_epi16(tag as i16));
    _mm_movemask_epi8(_mm_packs_epi16(same, _mm_setzero_si128())) as u8
}

/// `tags` with lane `way` set to `tag`: the word that changed and its number.
#[inline]
#[must_use]
pub fn with_lane(tags: [u64; 2], way: usize, tag: u16) -> (usize, u64) {
    let (word, shift) = (way / 4, way % 4 * 16);
    (word, tags[word] & !(0xffff << shift) | u64::from(tag) << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lanes_count_from_the_lowest_bits() {
        let mut tags = [0u64; 2];
        for way in 0..WAYS {
            let (word, value) = with_lane(tags, way, u16::try_from(way).unwrap() + 1);
            tags[word] = value;
        }
        for way in 0..WAYS {
            assert_eq!(equal(tags, u16::try_from(way).unwrap() + 1), 1 << way);
        }
        assert_eq!(equal(tags, 0), 0);
        assert_eq!(equal([0; 2], 0), 0xff);
    }

    proptest! {
        #[test]
        fn twins_agree(a: u64, b: u64, lane in 0usize..8, flip in 0u32..17) {
            let word = if lane < 4 { a } else { b };
            let tag = u16::try_from(word >> (lane % 4 * 16) & 0xffff).unwrap() ^ u16::try_from((1u32 << flip) & 0xffff).unwrap();
            prop_assert_eq!(equal([a, b], tag), equal_portable([a, b], tag));
            let shared = [u64::from(tag) * 0x0001_0000_0001_0001, a & 0xffff_0000_ffff_0000];
            prop_assert_eq!(equal(shared, tag), equal_portable(shared, tag));
        }
    }
}
