//! Whether the checksums of a batch's packets are right, and the lengths that those of UDP say: of UDP or TCP over IPv4 without options, or over IPv6.
//!
//! What enters: packets with their keys, a bit for each that is to be judged. What leaves: a bit for each that is right. Neighbours: `short` (the caller),
//! `version`; `packet`, whose plain judgment of one packet takes those that are not short, and is what a test holds the others to.
//!
//! Packets of no more than 64 bytes, which cost the most for what they carry, are added up in vectors: two of 32 bytes where the processor has AVX2, or one of
//! 64 of which what is behind the packet is not loaded (`wide`). What the sums come to is looked at afterwards, of several packets at a time.

use super::packet;
use super::seek::each;
use super::version::Version;
use crate::bundle::BUNDLE_MAX;
use crate::parsed::Parsed;
use crate::search::bits;
use port::{Checksum, Packet};
use std::marker::PhantomData;

/// How packets are added up: word by word, in two vectors, in one.
const PLAIN: u8 = 0;
const WIDE: u8 = 1;
const LINES: u8 = 2;

/// Those of the packets of one protocol, `UDP` or TCP, whose checksums are right, or were found so. In loops of their own, as more packets are under way
/// in the processor at a time where each takes less of it. `wide` only where `wide::on` says so.
#[inline]
pub(super) fn right_ones<V: Version, const UDP: bool>(packets: &[Packet], parsed: &[Parsed], plain: u32, wide: bool) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if wide && crate::wide::lines() {
        // SAFETY: the processor has these features.
        return unsafe { right_by_lines::<V, UDP>(packets, parsed, plain) };
    }
    #[cfg(target_arch = "x86_64")]
    if wide {
        // SAFETY: the caller says that the processor has these features.
        return unsafe { right_wide::<V, UDP>(packets, parsed, plain) };
    }
    let _ = wide;
    right_as::<V, PLAIN, UDP>(packets, parsed, plain)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn right_wide<V: Version, const UDP: bool>(packets: &[Packet], parsed: &[Parsed], plain: u32) -> u32 {
    right_as::<V, WIDE, UDP>(packets, parsed, plain)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn right_by_lines<V: Version, const UDP: bool>(packets: &[Packet], parsed: &[Parsed], plain: u32) -> u32 {
    right_as::<V, LINES, UDP>(packets, parsed, plain)
}

#[inline(always)]
fn right_as<V: Version, const FORM: u8, const UDP: bool>(packets: &[Packet], parsed: &[Parsed], plain: u32) -> u32 {
    let (mut right, mut long, mut summed) = (0u32, 0u32, 0u32);
    let mut sums = Sums::<V>::new();
    each!(i in plain, packets.len().min(parsed.len()) => {
        let (packet, parsed) = (&packets[i], &parsed[i]);
        if packet.checksum() != Checksum::Unknown {
            right |= u32::from(!UDP || packet::length_is_right(packet.data(), parsed)) << i;
        } else if sums.take::<FORM, UDP>(i, packet, parsed) {
            summed |= 1 << i;
        } else {
            long |= 1 << i;
        }
    });
    if summed != 0 {
        right |= summed & sums.right::<FORM>();
    }
    for i in bits(long) {
        right |= u32::from(V::sums_are_right(packets[i].data(), &parsed[i])) << i;
    }
    right
}

/// What the words of short packets add up to; nothing for all others, and where there are no vectors.
struct Sums<V> {
    #[cfg(target_arch = "x86_64")]
    sums: [vector::Pair; BUNDLE_MAX],
    version: PhantomData<V>,
}

impl<V: Version> Sums<V> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            sums: [vector::Pair::ZERO; BUNDLE_MAX],
            version: PhantomData,
        }
    }

    /// Adds up packet `i`, if it is short, and a datagram as long as it says.
    #[inline(always)]
    fn take<const FORM: u8, const UDP: bool>(&mut self, i: usize, packet: &Packet, parsed: &Parsed) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let (l3, l4) = (usize::from(parsed.found.l3), usize::from(parsed.found.l4));
            // Of a packet that ends before its header does, longer than any.
            let total = packet.len().wrapping_sub(l3 + usize::from(parsed.found.l2_pad));
            let ip = packet.as_ptr().cast_const().wrapping_add(l3);
            if FORM == LINES && (l4 == l3 + V::HEADER) & vector::lengths_of_a_line::<V>().contains(&total) {
                // SAFETY: both headers are in a packet of such a length.
                if UDP && !unsafe { vector::is_as_long::<V>(ip, total) } {
                    return false;
                }
                // SAFETY: `LINES` is only in functions that were called because the processor has these vectors. The packet has these bytes.
                self.sums[i] = unsafe { vector::add_up_line::<V, UDP>(ip, total) };
                return true;
            }
            if FORM == WIDE && (l4 == l3 + V::HEADER) & vector::lengths::<V>().contains(&total) & (packet.room() > l3 + total) {
                // SAFETY: both headers are in a packet of such a length.
                if UDP && !unsafe { vector::is_as_long::<V>(ip, total) } {
                    return false;
                }
                // SAFETY: `WIDE` is only in functions that were called because the processor has AVX2. The packet owns its buffer, in which
                // these bytes and one more are, and whose memory is initialised.
                self.sums[i] = unsafe { vector::add_up::<V, UDP>(ip, total) };
                return true;
            }
        }
        let _ = (i, packet, parsed);
        false
    }

    /// The packets that were added up and are right.
    #[inline(always)]
    fn right<const FORM: u8>(&self) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            if FORM == LINES {
                // SAFETY: as in `take`.
                return unsafe { vector::right_lines(&self.sums) };
            }
            if FORM == WIDE {
                // SAFETY: as in `take`.
                return unsafe { vector::right_ones(&self.sums) };
            }
        }
        0
    }
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::super::version::Version;
    use crate::bundle::BUNDLE_MAX;
    use flow::wire::ip_proto;
    use std::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_load_si128, _mm_loadu_si128, _mm_srli_epi64, _mm_store_si128, _mm256_add_epi32,
        _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_pd, _mm256_castsi256_ps, _mm256_castsi256_si128,
        _mm256_cmpeq_epi32, _mm256_cmpeq_epi64, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_mask_add_epi32, _mm256_maskz_mov_epi32, _mm256_movemask_pd, _mm256_set_m128i,
        _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_shuffle_ps, _mm256_srli_epi32, _mm256_xor_si256,
        _mm512_add_epi32, _mm512_and_si512, _mm512_castsi512_si256, _mm512_cmpeq_epi32_mask, _mm512_extracti64x4_epi64,
        _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maskz_loadu_epi8, _mm512_permutex2var_epi32, _mm512_set1_epi16,
        _mm512_set1_epi32, _mm512_srli_epi32, _mm512_srli_epi64, _mm512_xor_si512, _pext_u32,
    };
    use std::ops::RangeInclusive;

    /// Bytes of a vector, and words of 16 bits.
    const VECTOR: usize = 32;
    const WORDS: usize = VECTOR / 2;
    /// Where in UDP's header its length and its checksum stand, and how long that is.
    const SAID: usize = 4;
    const SUM: usize = 6;
    const UDP_HEADER: usize = 8;
    /// What the sum of a header without one comes to: as if it was right.
    const NO_SUM: i32 = 0xffff;
    /// Products of vectors are of words with a sign: each word is taken for so much less than it is.
    const LESS: i32 = 0x8000;

    /// Bytes of the vector that is a line.
    const LINE: usize = 64;

    /// Lengths of a packet that is covered by two vectors, of which the first is full: at least the header, and UDP's.
    pub(super) const fn lengths<V: Version>() -> RangeInclusive<usize> {
        let least = V::HEADER + UDP_HEADER;
        (if least > VECTOR { least } else { VECTOR })..=2 * VECTOR
    }

    /// Lengths of a packet that a line takes.
    pub(super) const fn lengths_of_a_line<V: Version>() -> RangeInclusive<usize> {
        V::HEADER + UDP_HEADER..=LINE
    }

    /// Whether a datagram says that it fills its packet of `total` bytes. Others may be right, too: their plain judgment tells.
    ///
    /// # Safety
    /// Both headers are readable at `ip`.
    #[inline(always)]
    pub(super) unsafe fn is_as_long<V: Version>(ip: *const u8, total: usize) -> bool {
        // SAFETY: it is in UDP's header (the caller's promise).
        usize::from(u16::from_be(unsafe { ip.wrapping_add(V::HEADER + SAID).cast::<u16>().read_unaligned() }))
            == total - V::HEADER
    }

    /// What the length of a packet says.
    #[repr(C, align(64))]
    struct Row {
        /// Which bytes of the second vector count: those that the first did not have, and not the one behind an odd length.
        counted: [u8; VECTOR],
        /// What is to be added to the sum of the header, in the lowest lane, and of the segment, in the third: what words were taken less for, and
        /// protocol and length of the pseudo header.
        plus: [i32; 4],
    }

    const fn proto(udp: bool) -> u8 {
        if udp { ip_proto::UDP } else { ip_proto::TCP }
    }

    /// By length.
    const fn rows<V: Version>(proto: u8) -> [Row; VECTOR + 1] {
        let mut rows = [const { Row { counted: [0; VECTOR], plus: [0; 4] } }; VECTOR + 1];
        let mut total = *lengths::<V>().start();
        while total <= 2 * VECTOR {
            rows[total - VECTOR] = row::<V>(total, proto);
            total += 1;
        }
        rows
    }

    const fn row<V: Version>(total: usize, proto: u8) -> Row {
        let from = second(total);
        let mut counted = [0; VECTOR];
        let mut i = VECTOR - from;
        while i < total - from {
            counted[i] = 0xff;
            i += 1;
        }
        Row { counted, plus: plus::<V>(total, 2 * WORDS, proto) }
    }

    /// What the words of header and segment were taken less for, in the first number and in the third, where so many words are loaded in all; and what the
    /// pseudo header adds to the segment's, whose sum addresses count in.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
    const fn plus<V: Version>(total: usize, words: usize, proto: u8) -> [i32; 4] {
        let (header, segment) = ((V::SUMMED / 2) as i32, (words - V::ADDRESSES / 2) as i32);
        let pseudo = (proto as u16).to_be() as i32 + ((total - V::HEADER) as u16).to_be() as i32;
        [if header == 0 { NO_SUM } else { header * LESS }, 0, segment * LESS + pseudo, 0]
    }

    /// Where the second vector begins: it ends where the packet does, so that it does not touch what is behind; words stay words.
    #[inline(always)]
    const fn second(total: usize) -> usize {
        total + total % 2 - VECTOR
    }

    /// Factors of the first vector's words: 1 for some, 0 for the others.
    const fn factors(from: usize, to: usize) -> [i16; WORDS] {
        let mut factors = [0; WORDS];
        let mut i = from;
        while i < to {
            factors[i] = 1;
            i += 1;
        }
        factors
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load<T>(of: &T) -> __m256i {
        const { assert!(size_of::<T>() == VECTOR) };
        // SAFETY: it is as long as a vector, and made of numbers.
        unsafe { _mm256_loadu_si256(std::ptr::from_ref(of).cast()) }
    }

    /// Sums of a packet, under way: of the header in the first number, of the segment in the third.
    #[derive(Clone, Copy)]
    #[repr(C, align(16))]
    pub(super) struct Pair([u32; 4]);

    impl Pair {
        pub(super) const ZERO: Self = Self([0; 4]);

        /// A UDP packet without a checksum is whole or not, whatever it adds up to: as if its sum was right, or wrong.
        ///
        /// # Safety
        /// Both headers are readable at `ip`.
        #[inline(always)]
        unsafe fn forgive<V: Version>(&mut self, ip: *const u8) {
            // SAFETY: it is in UDP's header (the caller's promise).
            if unsafe { ip.wrapping_add(V::HEADER + SUM).cast::<u16>().read_unaligned() } == 0 {
                [self.0[2], self.0[3]] = [if V::FORGIVES { 0xffff } else { 0 }, 0];
            }
        }
    }

    /// The one's complement sums of header and segment of a packet of `total` bytes, of `UDP` or TCP, both in one go, over words of 16 bits.
    ///
    /// # Safety
    /// `total` is in `lengths`, and one byte more than that is readable at `ip`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn add_up<V: Version, const UDP: bool>(ip: *const u8, total: usize) -> Pair {
        let row = &const { &rows::<V>(proto(UDP)) }[total - VECTOR];
        // SAFETY: a vector is in the packet, which is no shorter.
        let first = unsafe { _mm256_loadu_si256(ip.cast()) };
        // SAFETY: the vector ends with the packet, or a byte behind it (the caller's promise).
        let last = unsafe { _mm256_loadu_si256(ip.wrapping_add(second(total)).cast()) };
        // The top bit turned is 0x8000 less, with a sign.
        let turn = _mm256_set1_epi16(i16::MIN);
        let [first, last] = [first, _mm256_and_si256(last, load(&row.counted))].map(|v| _mm256_xor_si256(v, turn));
        let header = _mm256_madd_epi16(first, load(const { &factors(0, V::SUMMED / 2) }));
        let segment = _mm256_madd_epi16(first, load(const { &factors(V::ADDRESSES / 2, WORDS) }));
        let segment = _mm256_add_epi32(segment, _mm256_madd_epi16(last, _mm256_set1_epi16(1)));
        let pairs = _mm256_hadd_epi32(header, segment);
        let four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        // SAFETY: four numbers are such a vector.
        let plus = unsafe { _mm_load_si128(row.plus.as_ptr().cast()) };
        let sums = _mm_add_epi32(_mm_add_epi32(four, _mm_srli_epi64::<32>(four)), plus);
        let mut pair = Pair::ZERO;
        // SAFETY: four numbers are such a vector.
        unsafe { _mm_store_si128(pair.0.as_mut_ptr().cast(), sums) };
        if UDP {
            // SAFETY: the header is in the packet, which is no shorter.
            unsafe { pair.forgive::<V>(ip) };
        }
        pair
    }

    /// What is to be added to the sums of a packet in one vector, by length.
    #[repr(C, align(64))]
    struct Plus([[i32; 4]; LINE + 1]);

    const fn pluses<V: Version>(proto: u8) -> Plus {
        let mut pluses = [[0; 4]; LINE + 1];
        let mut total = *lengths_of_a_line::<V>().start();
        while total <= LINE {
            pluses[total] = plus::<V>(total, LINE / 2, proto);
            total += 1;
        }
        Plus(pluses)
    }

    /// The same as `add_up` in one vector. Half of either sum is in the number behind it.
    ///
    /// # Safety
    /// `total` is in `lengths_of_a_line`, and as many bytes are readable at `ip`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
    pub(super) unsafe fn add_up_line<V: Version, const UDP: bool>(ip: *const u8, total: usize) -> Pair {
        const { assert!(V::SUMMED.is_multiple_of(4) && V::ADDRESSES.is_multiple_of(4) && V::SUMMED < VECTOR) };
        // Words of 16 bits that two and two are one number of the vector: those of the header, and of the segment.
        let (summed, addresses_on) = const { ((1u8 << (V::SUMMED / 4)) - 1, u8::MAX << (V::ADDRESSES / 4)) };
        // SAFETY: what the mask leaves out is not read, the rest is readable (the caller's promise).
        let bytes = unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (LINE - total), ip.cast()) };
        let words = _mm512_xor_si512(bytes, _mm512_set1_epi16(i16::MIN));
        let pairs = _mm512_madd_epi16(words, _mm512_set1_epi16(1));
        let (low, high) = (_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64::<1>(pairs));
        let header = _mm256_maskz_mov_epi32(summed, low);
        let segment = _mm256_mask_add_epi32(high, addresses_on, high, low);
        let both = _mm256_hadd_epi32(header, segment);
        let four = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
        let plus = &const { &pluses::<V>(proto(UDP)) }.0[total];
        // SAFETY: four numbers are such a vector.
        let sums = _mm_add_epi32(four, unsafe { _mm_loadu_si128(plus.as_ptr().cast()) });
        let mut pair = Pair::ZERO;
        // SAFETY: four numbers are such a vector.
        unsafe { _mm_store_si128(pair.0.as_mut_ptr().cast(), sums) };
        if UDP {
            // SAFETY: the header is in the packet.
            unsafe { pair.forgive::<V>(ip) };
        }
        pair
    }

    /// `right_ones` of what `add_up_line` has made.
    #[inline]
    #[target_feature(enable = "avx512f,bmi2")]
    pub(super) fn right_lines(pairs: &[Pair; BUNDLE_MAX]) -> u32 {
        /// Every second number of two vectors.
        const EVEN: [i32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
        const FIRST: u32 = 0x5555;
        // SAFETY: 16 numbers are a vector.
        let even = unsafe { _mm512_loadu_si512(EVEN.as_ptr().cast()) };
        let low = _mm512_set1_epi32(0xffff);
        let mut right = 0;
        for (i, eight) in pairs.as_chunks::<8>().0.iter().enumerate() {
            let half = |j: usize| {
                // SAFETY: four pairs are a vector, and `j` is 0 or 4.
                let four = unsafe { _mm512_loadu_si512(eight.as_ptr().wrapping_add(j).cast()) };
                _mm512_add_epi32(four, _mm512_srli_epi64::<32>(four))
            };
            let sums = _mm512_permutex2var_epi32(half(0), even, half(4));
            let folded = _mm512_add_epi32(_mm512_and_si512(sums, low), _mm512_srli_epi32::<16>(sums));
            let same = u32::from(_mm512_cmpeq_epi32_mask(folded, low));
            right |= _pext_u32(same & same >> 1, FIRST) << (8 * i);
        }
        right
    }

    /// A bit for each pair of which both sums are right.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn right_ones(pairs: &[Pair; BUNDLE_MAX]) -> u32 {
        let low = _mm256_set1_epi32(0xffff);
        let mut right = 0;
        for (i, four) in pairs.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: a pair is such a vector. It is loaded as it was stored, which the processor need not wait for.
            let [a, b, c, d] = four.each_ref().map(|pair| unsafe { _mm_load_si128(pair.0.as_ptr().cast()) });
            let halves = |low, high| _mm256_castsi256_ps(_mm256_set_m128i(high, low));
            // The sums alone, in order.
            let sums = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(halves(a, c), halves(b, d)));
            // Less than 2^21, so that folding once is enough: 0xffff is what a right one comes to, and nothing else does.
            let folded = _mm256_add_epi32(_mm256_and_si256(sums, low), _mm256_srli_epi32::<16>(sums));
            let both = _mm256_cmpeq_epi64(_mm256_cmpeq_epi32(folded, low), _mm256_set1_epi64x(-1));
            right |= _mm256_movemask_pd(_mm256_castsi256_pd(both)).cast_unsigned() << (4 * i);
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ct::version::{Four, Six};
    use flow::checksum::updated;
    use flow::compose::{Payload, compose};
    use flow::extract::{NetworkLayer, PacketMeta};
    use flow::key::Key;
    use flow::wire::ip_proto;
    use proptest::prelude::*;

    fn key(ports: [u8; 4], addresses: [u8; 8]) -> Key {
        let mut key = Key::ZERO;
        (key.eth_type, key.nw_ttl) = ([8, 0], 64);
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        (key.nw_src, key.nw_dst) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
        let [s0, s1, d0, d1] = ports;
        (key.tp_src, key.tp_dst) = ([s0, s1], [d0, d1]);
        key
    }

    /// What each form that this processor has finds.
    fn forms_of<V: Version, const UDP: bool>(packets: &[Packet], parsed: &[Parsed]) -> Vec<u32> {
        let all = crate::ct::seek::all(packets.len());
        let mut found = vec![right_as::<V, PLAIN, UDP>(packets, parsed, all)];
        #[cfg(target_arch = "x86_64")]
        if crate::wide::on() {
            // SAFETY: the processor has these features.
            found.push(unsafe { right_wide::<V, UDP>(packets, parsed, all) });
            if crate::wide::lines() {
                // SAFETY: as above.
                found.push(unsafe { right_by_lines::<V, UDP>(packets, parsed, all) });
            }
        }
        found
    }

    fn forms(six: bool, udp: bool, packets: &[Packet], parsed: &[Parsed]) -> Vec<u32> {
        match (six, udp) {
            (false, false) => forms_of::<Four, false>(packets, parsed),
            (false, true) => forms_of::<Four, true>(packets, parsed),
            (true, false) => forms_of::<Six, false>(packets, parsed),
            (true, true) => forms_of::<Six, true>(packets, parsed),
        }
    }

    /// `key` over IPv6.
    fn over_ipv6(mut key: Key) -> Key {
        key.eth_type = [0x86, 0xdd];
        (key.ipv6_src[15], key.ipv6_dst[0]) = (0xff, 0xfc);
        key.ipv6_src[..4].copy_from_slice(&key.nw_src);
        key.ipv6_dst[8..12].copy_from_slice(&key.nw_dst);
        key
    }

    /// A datagram is no shorter than its header, and no longer than what carries it, whoever has found its checksum right.
    #[test]
    fn a_datagram_has_the_length_that_it_says() {
        for (six, trusted) in [(false, false), (false, true), (true, false), (true, true)] {
            // Packets that one vector takes, or two, or none.
            let short =
                [(0, 7, false), (0, 8, true), (0, 9, false), (12, 7, false), (12, 8, true), (12, 19, true), (12, 20, true)];
            let long = [(12, 21, false), (200, 0, false), (200, 207, true), (200, 208, true), (200, 209, false)];
            for (data, said, right) in short.into_iter().chain(long) {
                let mut key = key([1, 2, 3, 4], [10, 0, 0, 1, 10, 0, 0, 2]);
                key.nw_proto = ip_proto::UDP;
                let key = if six { over_ipv6(key) } else { key };
                let mut frame = compose(&key, Payload::Len(data));
                say(&mut frame, 14 + if six { Six::HEADER } else { Four::HEADER }, said);
                let mut packet = Packet::from_bytes(&frame).unwrap();
                if trusted {
                    packet.set_checksum(Checksum::Good);
                }
                let mut parsed = Box::new(Parsed::new());
                parsed.read(packet.data(), &PacketMeta::default());
                let case = format!("{data} {said}, over IPv6: {six}, trusted: {trusted}");
                assert_eq!(packet::see(&packet, &parsed, 3).is_some(), right, "{case}");
                assert_eq!(packet::see_common(&packet, &parsed, 3).is_some(), right && !six, "{case}");
                let found = forms(six, true, std::slice::from_ref(&packet), std::slice::from_ref(&*parsed));
                assert!(found.iter().all(|found| *found == u32::from(right)), "{case}");
            }
        }
    }

    /// Writes another length into the datagram at `l4`, whose sum stays right.
    fn say(frame: &mut [u8], l4: usize, said: u16) {
        let said = said.to_be_bytes();
        // Of the pseudo header it is the length of what is there that counts.
        let sum = updated([frame[l4 + 6], frame[l4 + 7]], &frame[l4 + 4..l4 + 6], &said);
        frame[l4 + 6..l4 + 8].copy_from_slice(&sum);
        frame[l4 + 4..l4 + 6].copy_from_slice(&said);
    }

    /// Of a batch each packet is judged by its own sums, whatever its neighbours are.
    #[test]
    fn a_batch_is_judged_packet_by_packet() {
        let mut random = flow::extract_gen::PacketGen::new(7);
        for (six, udp) in [(false, false), (false, true), (true, false), (true, true)] {
            for n in [1, 7, 31, BUNDLE_MAX] {
                let (mut packets, mut all, mut expected) = (Vec::new(), Vec::new(), 0u32);
                for i in 0..n {
                    let mut key = key([1, 2, 3, 4], [10, 0, 0, 1, 10, 0, 0, 2]);
                    key.nw_proto = if udp { ip_proto::UDP } else { ip_proto::TCP };
                    let key = if six { over_ipv6(key) } else { key };
                    let mut frame = compose(&key, Payload::Len(random.below(60)));
                    let right = random.below(3) != 0;
                    if !right {
                        let at = 14 + random.below(20);
                        frame[at] ^= 1 << random.below(8);
                    }
                    let mut packet = Packet::from_bytes(&frame).unwrap();
                    let mut parsed = Parsed::new();
                    parsed.read(packet.data(), &PacketMeta::default());
                    let trusted = random.below(6) == 0;
                    if trusted {
                        packet.set_checksum(Checksum::Good);
                    }
                    // A bit that flips a length may have made it another packet.
                    let right = || {
                        if six {
                            packet::segment_over_ipv6_is_right(packet.data(), &parsed)
                        } else {
                            packet::common_sums_are_right(packet.data(), &parsed)
                        }
                    };
                    expected |= u32::from(trusted || right()) << i;
                    packets.push(packet);
                    all.push(parsed);
                }
                let found = forms(six, udp, &packets, &all);
                assert!(found.iter().all(|found| *found == expected), "{six} {udp} {n}");
                assert!(n < 31 || expected != 0 && expected != crate::ct::seek::all(n));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        /// All forms find checksums right that `see` does, of packets of all short lengths, padded or not, whole or with a flipped bit.
        #[test]
        fn sums_are_judged_alike(
            addresses: [u8; 8],
            ports: [u8; 4],
            payload in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..80),
            pad in 0usize..40,
            flip in prop::option::of((0usize..84, 0u32..8)),
            none in prop::bool::weighted(0.1),
            said in prop::option::weighted(0.3, prop_oneof![0u16..12, 0u16..100, any::<u16>()]),
            trusted: bool,
            vlan: bool,
            six: bool,
            extended: bool,
            proto in prop::sample::select(vec![ip_proto::UDP, ip_proto::UDP, ip_proto::TCP, ip_proto::TCP, ip_proto::SCTP]),
        ) {
            let mut key = key(ports, addresses);
            key.nw_proto = proto;
            if six {
                key = over_ipv6(key);
            }
            if vlan {
                (key.vlan_tci, key.vlan_tpid) = ([0x10, 5], [0x81, 0]);
            }
            let mut frame = compose(&key, Payload::Bytes(&payload));
            let l3 = if vlan { 18 } else { 14 };
            if none {
                let at = l3 + if six { Six::HEADER } else { Four::HEADER } + 6;
                frame[at..at + 2].fill(0);
            }
            if let Some(said) = said && proto == ip_proto::UDP && !none {
                say(&mut frame, l3 + if six { Six::HEADER } else { Four::HEADER }, said);
            }
            if six && extended {
                packet::extend_ipv6(&mut frame, l3);
            }
            if let Some((at, bit)) = flip && l3 + at < frame.len() {
                frame[l3 + at] ^= 1 << bit;
            }
            frame.extend(std::iter::repeat_n(0xa5, pad));
            let mut packet = Packet::from_bytes(&frame).unwrap();
            if trusted {
                packet.set_checksum(Checksum::Good);
            }
            let mut parsed = Box::new(Parsed::new());
            parsed.read(packet.data(), &PacketMeta::default());
            let seen = packet::see(&packet, &parsed, 3);
            let (packets, parsed) = (std::slice::from_ref(&packet), std::slice::from_ref(&*parsed));
            let key = &parsed[0].key;
            let ours = matches!(key.nw_proto, ip_proto::TCP | ip_proto::UDP) && key.tp_src != [0; 2] && key.tp_dst != [0; 2];
            let at = &parsed[0].found;
            if ours && matches!(at.network, NetworkLayer::Ipv4 | NetworkLayer::Ipv6) && key.nw_frag == 0 {
                let (six, udp) = (at.network == NetworkLayer::Ipv6, key.nw_proto == ip_proto::UDP);
                // Options of IPv4 are left to others; what extends IPv6 is not.
                let plain = six || trusted || at.l4 == at.l3 + 20;
                for right in forms(six, udp, packets, parsed) {
                    prop_assert!(right == 0 || seen.is_some(), "{:x?}", frame);
                    prop_assert!(right != 0 || seen.is_none() || !plain, "{:x?}", frame);
                }
            }
        }
    }
}
