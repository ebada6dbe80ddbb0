//! The steps of `short` for eight packets at a time, where the processor multiplies eight words at once (`wide::products`, decision 0140).
//!
//! What enters: keys of a batch; later the same, with where their connections probably are. What leaves: in `Wanted` what packets of UDP and TCP
//! are looked up by, and which ones that is there for (`look`); packets of UDP tracked (`pass_udp`). Neighbours: `short` (the caller), whose plain form goes
//! over packets one by one, and says what is to come out: tests hold these forms to it.
//!
//! Of a key three pieces of sixteen bytes are looked at: addresses and ports, what tells of a connection, and what extraction found; over IPv6 each address is
//! one more. The same piece of four
//! packets is one vector; of two such vectors each half is one of eight words, one of each packet, in order. Eight connections are turned round
//! in the same way. What differs between packets is a mask, never a branch, until it is known which ones are done.

use super::entry::{NAT, NAT_DST, NAT_SRC, NONE, STEP_MS};
use super::nat;
use super::seek::Wanted;
use super::short::{ADDRESSES, Kinds, Passing, Short, TCP, TRANSPORT, UDP, UDP_LOOKED_AT, UDP_USUAL};
use super::slab::Slab;
use super::table::{self, Size, Table};
use super::track::{DNAT, FIRST, LABEL_AND_TUPLE, RPL, SNAT};
use super::tuple::{FACTOR, V4, V6, WIDER};
use super::version::Version;
use crate::bundle::BUNDLE_MAX;
use crate::parsed::{Parsed, UNTOLD};
use crate::search::bits;
use flow::extract::{Extracted, NetworkLayer};
use flow::key::Key;
use port::Packet;
use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_setr_epi8, _mm_storeu_si128, _mm256_mask_mov_epi32, _mm256_mask_storeu_epi32,
    _mm256_maskz_loadu_epi32, _mm256_or_si256, _mm256_set1_epi32, _mm256_slli_epi32, _mm256_storeu_si256, _mm512_add_epi64,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castsi128_si512, _mm512_castsi256_si512, _mm512_castsi512_si128,
    _mm512_cmpeq_epi64_mask, _mm512_cmpge_epu64_mask, _mm512_extracti64x2_epi64, _mm512_inserti64x2, _mm512_inserti64x4,
    _mm512_loadu_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_cmpeq_epi64_mask, _mm512_mask_cmpgt_epi64_mask,
    _mm512_mask_mov_epi32, _mm512_mask_mov_epi64, _mm512_mask_storeu_epi64, _mm512_mask_test_epi64_mask,
    _mm512_mask_testn_epi64_mask, _mm512_maskz_mov_epi64, _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_ror_epi64,
    _mm512_set1_epi64, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_sub_epi64, _mm512_ternarylogic_epi64, _mm512_test_epi64_mask, _mm512_testn_epi64_mask,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64, _mm512_xor_si512,
};
use std::mem::offset_of;

/// Packets at a time.
const EIGHT: usize = 8;
const _: () = assert!(BUNDLE_MAX.is_multiple_of(EIGHT) && TRANSPORT == ADDRESSES + 1 && cfg!(target_endian = "little"));
const _: () =
    assert!(offset_of!(Parsed, conn) - offset_of!(Parsed, found) == 12 && size_of::<Parsed>() >= offset_of!(Parsed, found) + 16);
const _: () = assert!(offset_of!(Parsed, key) == 0 && offset_of!(Extracted, lines) == 0 && offset_of!(Extracted, network) == 10);
/// The truth table of `a ^ b ^ c`.
const XOR: i32 = 0x96;

/// What is the same for all packets of a batch.
#[derive(Clone, Copy)]
pub(super) struct Asked<'t> {
    pub(super) table: &'t Table,
    pub(super) keys: [u64; 4],
    pub(super) zone: u16,
    pub(super) size: Size,
}

/// Finds out what packets that are whole and were not tracked before are looked up by, and asks for their buckets. What is written for the others means nothing.
///
/// # Safety
/// The processor is one that `wide::on` and `wide::products` say yes of.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn look(parsed: &[Parsed], asked: Asked<'_>, wanted: &mut Wanted) -> Short {
    let mut all = Short::default();
    for (i, eight) in parsed.chunks(EIGHT).take(BUNDLE_MAX / EIGHT).enumerate() {
        // The last one stands in the places of those that are missing.
        let (last, there) = (eight.len() - 1, u8::MAX >> (EIGHT - eight.len()));
        let found = look_at(std::array::from_fn(|n| &eight[n.min(last)]), asked, (&mut *wanted, i));
        let [udp, tcp, udp6, tcp6] = found.map(|set| u32::from(set & there) << (i * EIGHT));
        all = Short { four: all.four.or(Kinds { udp, tcp }), six: all.six.or(Kinds { udp: udp6, tcp: tcp6 }) };
        wanted.places.as_chunks::<EIGHT>().0[i % (BUNDLE_MAX / EIGHT)][..eight.len()]
            .iter()
            .for_each(|place| asked.table.prefetch(*place));
    }
    all
}

/// The same of the `at`th eight packets: those of UDP, and of TCP, over IPv4, then over IPv6.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2")]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "bits, not numbers")]
fn look_at(parsed: [&Parsed; EIGHT], asked: Asked<'_>, (wanted, at): (&mut Wanted, usize)) -> [u8; 4] {
    let same = |word: u64| _mm512_set1_epi64(word.cast_signed());
    let [addresses, transport] = pieces::<{ ADDRESSES * 8 }>(parsed);
    let [told, _] = pieces::<{ FIRST * 8 }>(parsed);
    let [lines, network] = pieces::<{ offset_of!(Parsed, found) }>(parsed);

    const NO_CONN: u64 = (u32::MAX as u64) << 32 | 0xff << 16;
    let network = _mm512_and_si512(network, same(NO_CONN));
    let over = |version: NetworkLayer| _mm512_cmpeq_epi64_mask(network, same((version as u64) << 16));
    let (four, six) = (over(NetworkLayer::Ipv4), over(NetworkLayer::Ipv6));
    let mut fresh = _mm512_mask_testn_epi64_mask(four | six, lines, same(LABEL_AND_TUPLE.0.into()));
    fresh = _mm512_mask_testn_epi64_mask(fresh, told, same(0xff));
    fresh = _mm512_mask_test_epi64_mask(fresh, transport, same(0xffff));
    fresh = _mm512_mask_test_epi64_mask(fresh, transport, same(0xffff_0000));
    let proto = _mm512_and_si512(transport, same(0xff00_00ff << 32));
    let is = |proto_is: u64| _mm512_mask_cmpeq_epi64_mask(fresh, proto, same(proto_is << 32));
    let [udp, tcp] = [is(UDP), is(TCP)];
    let found = [udp & four, tcp & four, udp & six, tcp & six];

    let (zone, version) = (u64::from(asked.zone) << 32, u64::from(V4) << 56);
    let rests = _mm512_or_si512(ordered(transport, [1, 0, 3, 2, O, O, 4, O]), same(zone | version));
    let [sport, dport] = ports(transport);
    let source = _mm512_mask_mov_epi32(sport, 0x5555, addresses);
    let target = _mm512_or_si512(dport, _mm512_srli_epi64::<32>(addresses));
    let at = at % (BUNDLE_MAX / EIGHT);
    let (hashes, places) = hash_ends([source, target], rests, asked);
    for (to, words) in [(&mut wanted.ends, addresses), (&mut wanted.rests, rests), (&mut wanted.hashes, hashes)] {
        // SAFETY: eight words are a vector.
        unsafe { _mm512_storeu_si512(to.as_chunks_mut::<EIGHT>().0[at].as_mut_ptr().cast(), words) };
    }
    // SAFETY: eight halves of words are such a vector.
    unsafe { _mm256_storeu_si256(wanted.places.as_chunks_mut::<EIGHT>().0[at].as_mut_ptr().cast(), places) };
    if six != 0 {
        look_over_ipv6(parsed, asked, (wanted, at), six);
    }
    found
}

/// A byte that is none, in `ordered`.
const O: i8 = i8::MIN;

/// Words of which each has these bytes of its own, the first one lowest.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ordered(words: __m512i, low: [i8; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = low;
    let [i, j, k, l, m, n, o, p] = low.map(|byte| if byte == O { O } else { byte + 8 });
    _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(_mm_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)))
}

/// Source and destination ports where `hash_ends` has them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ports(transport: __m512i) -> [__m512i; 2] {
    [ordered(transport, [O, O, O, O, 1, 0, O, O]), ordered(transport, [O, O, O, O, 3, 2, O, O])]
}

/// `tuple::hash_ends` of eight, and the first places of the hashes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2")]
fn hash_ends([source, target]: [__m512i; 2], rests: __m512i, asked: Asked<'_>) -> (__m512i, __m256i) {
    let same = |word: u64| _mm512_set1_epi64(word.cast_signed());
    let end = |end| _mm512_xor_si512(end, same(asked.keys[0]));
    let both = product(end(source), end(target));
    let all = _mm512_ternarylogic_epi64::<XOR>(both, _mm512_srli_epi64::<32>(rests), same(asked.keys[2]));
    let all = product(all, same(asked.keys[3] | 1));
    let hashes = _mm512_xor_si512(all, _mm512_slli_epi64::<WIDER>(all));
    (hashes, table::first_places(hashes, asked.size))
}

/// The product of the lowest `FACTOR` bits of words, its halves added (`tuple::product`).
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn product(a: __m512i, b: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    _mm512_xor_si512(_mm512_madd52lo_epu64(zero, a, b), _mm512_madd52hi_epu64(zero, a, b))
}

/// The rest of `look_at` for those of the `at`th eight packets that are over IPv6: each address is one word of the hash (`tuple::folded`). Apart, so
/// that packets over IPv4 are spared what this needs of registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2")]
fn look_over_ipv6(parsed: [&Parsed; EIGHT], asked: Asked<'_>, (wanted, at): (&mut Wanted, usize), six: u8) {
    let ends = [pieces::<{ offset_of!(Key, ipv6_src) }>(parsed), pieces::<{ offset_of!(Key, ipv6_dst) }>(parsed)];
    for (to, words) in wanted.addresses.iter_mut().zip(ends.as_flattened()) {
        // SAFETY: eight words are a vector.
        unsafe { _mm512_storeu_si512(to.as_chunks_mut::<EIGHT>().0[at].as_mut_ptr().cast(), *words) };
    }
    let [src, dst] = ends.map(|halves| {
        let keyed = |i: usize| {
            let key = _mm512_set1_epi64(asked.keys[1 + i].cast_signed());
            _mm512_xor_si512(_mm512_ror_epi64::<32>(halves[i]), key)
        };
        let (a, b) = (keyed(0), keyed(1));
        let left = _mm512_slli_epi64::<WIDER>(_mm512_srli_epi64::<FACTOR>(b));
        _mm512_ternarylogic_epi64::<XOR>(product(a, b), _mm512_srli_epi64::<FACTOR>(a), left)
    });
    let [_, transport] = pieces::<{ ADDRESSES * 8 }>(parsed);
    let [sport, dport] = ports(transport);
    let rests = &mut wanted.rests.as_chunks_mut::<EIGHT>().0[at];
    // SAFETY: eight words are a vector.
    let of_ipv4 = unsafe { _mm512_loadu_si512(rests.as_ptr().cast()) };
    let last = _mm512_xor_si512(of_ipv4, _mm512_set1_epi64((u64::from(V4 ^ V6) << 56).cast_signed()));
    let (hashes, places) = hash_ends([_mm512_xor_si512(sport, src), _mm512_xor_si512(dport, dst)], last, asked);
    // SAFETY: as above.
    unsafe { _mm512_mask_storeu_epi64(rests.as_mut_ptr().cast(), six, last) };
    // SAFETY: as above.
    unsafe { _mm512_mask_storeu_epi64(wanted.hashes.as_chunks_mut::<EIGHT>().0[at].as_mut_ptr().cast(), six, hashes) };
    // SAFETY: eight halves of words are such a vector.
    unsafe { _mm256_mask_storeu_epi32(wanted.places.as_chunks_mut::<EIGHT>().0[at].as_mut_ptr().cast(), six, places) };
}

/// Tracks packets of UDP: a bit for each that is done. `Ct::track_udp` says which those are, and what is done; translated
/// ones are among them where a connection keeps what its sums change by (`Version::KEEPS_CHANGES`).
///
/// # Safety
/// The processor is one that `wide::on` and `wide::products` say yes of.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[allow(clippy::cast_possible_truncation, reason = "eight bits of a set")]
pub(super) fn pass_udp<V: Version, const TRANSLATE: bool>(
    slab: &Slab,
    (packets, parsed): (&mut [Packet], &mut [Parsed]),
    passing: &Passing,
    wanted: &Wanted,
) -> u32 {
    let (mut done, mut to) = (0, To::default());
    for (i, (packets, parsed)) in packets.chunks_mut(EIGHT).zip(parsed.chunks_mut(EIGHT)).take(BUNDLE_MAX / EIGHT).enumerate() {
        let asked = V::of(wanted.fresh).udp >> (i * EIGHT) & 0xff;
        if asked == 0 {
            continue;
        }
        let judged = judge::<V, TRANSLATE>(slab, passing, wanted, (i, asked as u8), &mut to);
        let mut own = judged.own;
        if TRANSLATE && !(own & to.changed == 0xff && to.apply_all(packets, parsed)) {
            for i in bits(own & to.changed) {
                own &= !(u32::from(!to.apply(&mut packets[i], &mut parsed[i], i)) << i);
            }
        }
        for i in bits(own & judged.late) {
            slab.at(judged.numbers[i % EIGHT]).expire_at(passing.until_ms);
        }
        if own == 0xff
            && let Some(parsed) = parsed.first_chunk_mut::<EIGHT>()
        {
            parsed.iter_mut().enumerate().for_each(|(i, parsed)| judged.tell(parsed, i));
        } else {
            bits(own).for_each(|i| judged.tell(&mut parsed[i], i));
        }
        done |= own << (i * EIGHT);
    }
    done
}

/// What a closure gives for each of eight. A macro, as `array::from_fn` is not compiled for the caller's processor.
macro_rules! all_eight {
    ($of:ident) => {
        [$of(0), $of(1), $of(2), $of(3), $of(4), $of(5), $of(6), $of(7)]
    };
}

/// What eight packets come to.
#[repr(align(64))]
struct Judged {
    /// The word of the key that tells of the connection.
    told: [u64; EIGHT],
    conns: [u32; EIGHT],
    numbers: [u32; EIGHT],
    /// Those that are of an established connection, which has nothing that few have; a bit each.
    own: u32,
    /// Those whose connection's timeout is to be put off.
    late: u32,
}

/// What eight packets are translated to.
#[derive(Default)]
#[repr(align(64))]
struct To {
    /// The tuple, as `Tuple::of_words_v4` takes it.
    ends: [u64; EIGHT],
    rests: [u64; EIGHT],
    /// `Entry::changes_v4`, in the lower half.
    sums: [u64; EIGHT],
    /// Those whose tuple changes.
    changed: u32,
}

impl To {
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "16 bits are meant")]
    fn apply(&self, packet: &mut Packet, parsed: &mut Parsed, i: usize) -> bool {
        let i = i % EIGHT;
        let changes = [self.sums[i] as u16, (self.sums[i] >> 16) as u16];
        nat::apply_short::<{ nat::UP_TO_SUM_OF_UDP }>(packet, parsed, (self.ends[i], self.rests[i]), changes)
    }

    /// `apply` for all eight at once: what changes of a packet is in 24 bytes from `FROM` on, which are three words of each: what the header's sum ends, both
    /// addresses, and UDP's header. False, and nothing done, where there are not eight, or `apply` does nothing for one of them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn apply_all(&self, packets: &mut [Packet], parsed: &mut [Parsed]) -> bool {
        const FROM: usize = 4;
        const SUM: u32 = 48;
        let (Some(packets), Some(parsed)) = (packets.first_chunk_mut::<EIGHT>(), parsed.first_chunk_mut::<EIGHT>()) else {
            return false;
        };
        let mut frames = [std::ptr::null_mut::<u8>(); EIGHT];
        for (i, packet) in packets.iter_mut().enumerate() {
            let Some(headers) = nat::short_headers::<{ nat::UP_TO_SUM_OF_UDP }>(packet, &parsed[i]) else { return false };
            frames[i] = headers.as_mut_ptr();
        }
        // SAFETY: the sixteen bytes are in the headers that were found.
        let first = |i: usize| unsafe { _mm_loadu_si128(frames[i].wrapping_add(FROM).cast()) };
        // SAFETY: as above.
        let last = |i: usize| unsafe { _mm_loadu_si128(frames[i].wrapping_add(FROM + 8).cast()) };
        let ([first, _], [_, third]) = (words(all_eight!(first)), words(all_eight!(last)));
        let [_, transport] = pieces::<{ ADDRESSES * 8 }>(parsed.each_ref());
        // SAFETY: eight words are a vector.
        let load = |words: &[u64; EIGHT]| unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        let (addresses, rests, sums) = (load(&self.ends), load(&self.rests), load(&self.sums));
        let same = |word: u64| _mm512_set1_epi64(word.cast_signed());

        // `checksum::updated_by`, of the sum on top of a word.
        let low = same(0xffff);
        let updated = |word, change| {
            let sum = _mm512_add_epi64(_mm512_xor_si512(_mm512_srli_epi64::<SUM>(word), low), _mm512_and_si512(change, low));
            let folded = _mm512_add_epi64(_mm512_and_si512(sum, low), _mm512_srli_epi64::<16>(sum));
            _mm512_xor_si512(folded, low)
        };
        let put = |word, sum| _mm512_or_si512(_mm512_and_si512(word, same((1 << SUM) - 1)), _mm512_slli_epi64::<SUM>(sum));
        let first = put(first, updated(first, sums));
        // A sum of UDP that there is none of stays away; one that comes to zero is written as the other zero (RFC 768).
        let sum = updated(third, _mm512_srli_epi64::<16>(sums));
        let sum = _mm512_mask_mov_epi64(sum, _mm512_testn_epi64_mask(sum, sum), low);
        let summed = _mm512_test_epi64_mask(third, same(0xffff << SUM));
        let third = put(third, _mm512_maskz_mov_epi64(summed, sum));
        let in_memory = _mm_setr_epi8(1, 0, 3, 2, O, O, O, O, 9, 8, 11, 10, O, O, O, O);
        let ports = _mm512_shuffle_epi8(rests, _mm512_broadcast_i32x4(in_memory));
        let with_ports = |word| _mm512_or_si512(_mm512_and_si512(word, same(!0xffff_ffff)), ports);

        let (firsts, thirds) = (pairs(first, addresses), pairs(addresses, with_ports(third)));
        for i in 0..EIGHT {
            let at = |at: usize| frames[i].wrapping_add(at);
            // SAFETY: as where they were loaded.
            unsafe { _mm_storeu_si128(at(FROM).cast(), firsts[i]) };
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(at(FROM + 8).cast(), thirds[i]) };
        }
        let ends = pairs(addresses, with_ports(transport));
        for (parsed, ends) in parsed.iter_mut().zip(ends) {
            let words = &mut parsed.key.words_mut()[ADDRESSES..ADDRESSES + 2];
            // SAFETY: two words are such a vector.
            unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), ends) };
        }
        true
    }
}

impl Judged {
    #[inline(always)]
    fn tell(&self, parsed: &mut Parsed, i: usize) {
        parsed.key.words_mut()[FIRST] = self.told[i % EIGHT];
        parsed.conn = self.conns[i % EIGHT];
    }
}

/// The last words of eight tuples with their ports in each other's place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn turned(rests: __m512i) -> __m512i {
    let ports = _mm_setr_epi8(2, 3, 0, 1, 4, 5, 6, 7, 10, 11, 8, 9, 12, 13, 14, 15);
    _mm512_shuffle_epi8(rests, _mm512_broadcast_i32x4(ports))
}

/// Compares those of eight packets, the `i`th eight, that are `asked` for with their candidates. `to` is written with `TRANSLATE` only.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "bits, not numbers")]
fn judge<V: Version, const TRANSLATE: bool>(
    slab: &Slab,
    passing: &Passing,
    wanted: &Wanted,
    (i, asked): (usize, u8),
    to: &mut To,
) -> Judged {
    let i = i % (BUNDLE_MAX / EIGHT);
    let same = |word: u64| _mm512_set1_epi64(word.cast_signed());
    // In the place of the others, of whose candidates nobody asked for the memory, stands the entry of nobody, which is not live.
    const { assert!(NONE == 0) };
    let candidates = &wanted.candidates.as_chunks::<EIGHT>().0[i];
    // SAFETY: eight halves of words are such a vector.
    let candidates = unsafe { _mm256_maskz_loadu_epi32(asked, candidates.as_ptr().cast()) };
    let mut numbers = [NONE; EIGHT];
    // SAFETY: as above.
    unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), candidates) };
    // Entries 0 and 4 in one vector, 1 and 5, and so on: first halves, and second ones.
    let two = |i: usize| {
        let [[sides, rest], [sides_of_4, rest_of_4]] = [slab.at(numbers[i]).halves(), slab.at(numbers[i + 4]).halves()];
        let both = |low, high| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        [both(sides, sides_of_4), both(rest, rest_of_4)]
    };
    let [[s0, r0], [s1, r1], [s2, r2], [s3, r3]] = [two(0), two(1), two(2), two(3)];
    let low = |a, b| _mm512_unpacklo_epi64(a, b);
    let high = |a, b| _mm512_unpackhi_epi64(a, b);
    // Of what `low` or `high` made of four vectors: what stood in the first half of each, and in the second.
    let first = |a, b| _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), b);
    let second = |a, b| _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), b);
    let ([e01, e23], [l01, l23]) = ([low(s0, s1), low(s2, s3)], [high(s0, s1), high(s2, s3)]);
    let expires = first(high(r0, r1), high(r2, r3));
    let flags_mark = second(low(r0, r1), low(r2, r3));

    // SAFETY: eight words are a vector.
    let load = |words: &[u64; BUNDLE_MAX]| unsafe { _mm512_loadu_si512(words.as_chunks::<EIGHT>().0[i].as_ptr().cast()) };
    let (ends, rests) = (load(&wanted.ends), load(&wanted.rests));
    let [orig, reply] = [[first(e01, e23), first(l01, l23)], [second(e01, e23), second(l01, l23)]];
    let fifth = first(low(r0, r1), low(r2, r3));
    let six = const { matches!(V::NETWORK, NetworkLayer::Ipv6) };
    let (forward, backward) = if six {
        // Without translation the tuple of an answer is that of the connection, turned round.
        let [src, dst] = [orig, reply];
        let [s0, s1, d0, d1] = wanted.addresses.each_ref().map(load);
        let is = |words: [__m512i; 4], last| {
            let ends = [src[0], src[1], dst[0], dst[1]].into_iter().zip(words);
            ends.fold(_mm512_cmpeq_epi64_mask(fifth, last), |same, (a, b)| _mm512_mask_cmpeq_epi64_mask(same, a, b))
        };
        (is([s0, s1, d0, d1], rests), is([d0, d1, s0, s1], turned(rests)))
    } else {
        let is = |side: [__m512i; 2]| _mm512_mask_cmpeq_epi64_mask(_mm512_cmpeq_epi64_mask(ends, side[0]), rests, side[1]);
        (is(orig), is(reply))
    };
    let looked_at = UDP_LOOKED_AT | if V::KEEPS_CHANGES { 0 } else { NAT };
    let flags = _mm512_and_si512(flags_mark, same(looked_at.into()));
    let own = _mm512_mask_cmpeq_epi64_mask(forward | backward, flags, same((UDP_USUAL | V::FLAG).into()));
    let own = _mm512_mask_cmpgt_epi64_mask(own, expires, _mm512_set1_epi64(passing.now_ms));
    let later = _mm512_sub_epi64(_mm512_set1_epi64(passing.until_ms), expires);
    let late = _mm512_cmpge_epu64_mask(later, same(STEP_MS));

    const O: i8 = i8::MIN;
    let swapped = _mm_setr_epi8(O, O, O, O, 7, 6, 5, 4, O, O, O, O, 15, 14, 13, 12);
    let mark = _mm512_shuffle_epi8(flags_mark, _mm512_broadcast_i32x4(swapped));
    let told = passing.told | UDP << 8;
    let mut told = _mm512_or_si512(mark, _mm512_mask_mov_epi64(same(told | u64::from(RPL)), forward, same(told)));
    if TRANSLATE {
        let has = |flags| _mm512_test_epi64_mask(flags_mark, flags);
        let [source, target] = [NAT_SRC, NAT_DST].map(|flag| same(flag.into()));
        let state = |which, bit: u8| _mm512_maskz_mov_epi64(which, same(bit.into()));
        told = _mm512_or_si512(told, state(has(_mm512_mask_mov_epi64(target, forward, source)), SNAT));
        told = _mm512_or_si512(told, state(has(_mm512_mask_mov_epi64(source, forward, target)), DNAT));
        to.changed = has(same(NAT.into())).into();
        // What packets of the other direction are, turned round, is what the packet shall be.
        let [other_ends, other_rests] = [0, 1].map(|word| _mm512_mask_mov_epi64(orig[word], forward, reply[word]));
        let sums = _mm512_mask_mov_epi64(_mm512_srli_epi64::<32>(fifth), forward, fifth);
        let words = [_mm512_ror_epi64::<32>(other_ends), turned(other_rests), sums];
        for (to, words) in [&mut to.ends, &mut to.rests, &mut to.sums].into_iter().zip(words) {
            // SAFETY: eight words are a vector.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) };
        }
    }
    // `Handle::pack`.
    let conns = _mm256_slli_epi32::<2>(candidates);
    let word = |word: u32| _mm256_set1_epi32(word.cast_signed());
    let conns = _mm256_or_si256(conns, _mm256_mask_mov_epi32(word(UNTOLD | 1), forward, word(UNTOLD)));
    let mut judged = Judged { own: own.into(), late: late.into(), numbers, told: [0; EIGHT], conns: [0; EIGHT] };
    // SAFETY: eight words are a vector.
    unsafe { _mm512_storeu_si512(judged.told.as_mut_ptr().cast(), told) };
    // SAFETY: eight halves of words are such a vector.
    unsafe { _mm256_storeu_si256(judged.conns.as_mut_ptr().cast(), conns) };
    judged
}

/// Both words of a piece of eight packets, which begins `AT` bytes into what is known of each.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn pieces<const AT: usize>(parsed: [&Parsed; EIGHT]) -> [__m512i; 2] {
    const { assert!(AT + size_of::<__m128i>() <= size_of::<Parsed>()) };
    let piece = |i: usize| {
        let at = std::ptr::from_ref(parsed[i]).wrapping_byte_add(AT).cast();
        // SAFETY: so many bytes are there, and none of them is padding: pieces are of the key, or what stands behind it up to `conn`.
        unsafe { _mm_loadu_si128(at) }
    };
    words(all_eight!(piece))
}

/// The first words of eight pairs, and the second ones.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn words(pairs: [__m128i; EIGHT]) -> [__m512i; 2] {
    let four = |i: usize| {
        let two = _mm512_inserti64x2::<1>(_mm512_castsi128_si512(pairs[i]), pairs[i + 2]);
        _mm512_inserti64x2::<3>(_mm512_inserti64x2::<2>(two, pairs[i + 4]), pairs[i + 6])
    };
    let (even, odd) = (four(0), four(1));
    [_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd)]
}

/// What `words` was made of.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn pairs(first: __m512i, second: __m512i) -> [__m128i; EIGHT] {
    let (even, odd) = (_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
    let four = |of| {
        [
            _mm512_castsi512_si128(of),
            _mm512_extracti64x2_epi64::<1>(of),
            _mm512_extracti64x2_epi64::<2>(of),
            _mm512_extracti64x2_epi64::<3>(of),
        ]
    };
    let ([a, c, e, g], [b, d, f, h]) = (four(even), four(odd));
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::{EIGHT, To};
    use crate::bundle::BUNDLE_MAX;
    use crate::ct::seek::Wanted;
    use crate::ct::tuple::{Tuple, V4};
    use crate::ct::{Ct, nat};
    use crate::hash::Rng;
    use crate::parsed::Parsed;
    use crate::search::bits;
    use flow::compose::{Payload, compose};
    use flow::extract::PacketMeta;
    use flow::key::{Key, Lines};
    use flow::wire::ip_proto;
    use port::Packet;
    use std::net::IpAddr;

    /// A packet's key, in most of which one thing at most is odd.
    fn parsed(rng: &mut Rng) -> Parsed {
        let mut key = Key::ZERO;
        (key.eth_type, key.nw_ttl, key.nw_proto) = ([8, 0], 64, [6, 17, 17, 17, 132][usize::from(rng.byte(5))]);
        key.nw_src = [10, 0, rng.byte(255), rng.byte(255)];
        key.nw_dst = [10, 0, rng.byte(255), rng.byte(255)];
        let mut port = || [rng.byte(255), rng.byte(255)];
        (key.tp_src, key.tp_dst) = (port(), port());
        if rng.one_in(3) {
            key.eth_type = [0x86, 0xdd];
            key.ipv6_src = std::array::from_fn(|_| rng.byte(255));
            key.ipv6_dst = std::array::from_fn(|_| rng.byte(255));
        }
        let mut parsed = Parsed::new();
        parsed.read(&compose(&key, Payload::Len(20)), &PacketMeta::default());
        match rng.below(16) {
            0 => parsed.key.tp_src = [0; 2],
            1 => parsed.key.tp_dst = [0; 2],
            2 => parsed.key.nw_frag = 1,
            3 => parsed.key.ct_state = 0x20,
            4 => parsed.conn = 8,
            5 => parsed.ensure(Lines(0b1000)),
            6 => parsed.key.ct_mark = [1; 4],
            _ => {}
        }
        parsed
    }

    /// Both forms look for the same, of batches of all sizes.
    #[test]
    fn eight_are_looked_up_as_one_by_one() {
        let (mut rng, ct) = (Rng(3), Ct::new());
        let [mut plain, mut wide] = [Wanted::new(), Wanted::new()];
        let mut seen = [0; 4];
        for n in (0..=BUNDLE_MAX).cycle().take(400) {
            let parsed: Vec<_> = (0..n).map(|_| parsed(&mut rng)).collect();
            let zone = u16::from(rng.byte(255)) << 4;
            let found = ct.look_all::<false>(&parsed, zone, &mut plain);
            if crate::wide::on() {
                let also = ct.look_all::<true>(&parsed, zone, &mut wide);
                assert_eq!(also, found);
                for i in bits(found.four.all()) {
                    let of = |wanted: &Wanted| (wanted.words(i), wanted.hashes[i], wanted.places[i]);
                    assert_eq!(of(&wide), of(&plain));
                    assert_eq!(plain.hashes[i], ct.hash(&Tuple::of_words_v4(plain.ends[i], plain.rests[i])));
                }
                for i in bits(found.six.all()) {
                    let of = |wanted: &Wanted| (wanted.whole(i), wanted.hashes[i], wanted.places[i]);
                    assert_eq!(of(&wide), of(&plain));
                    assert_eq!(plain.hashes[i], ct.hash(&plain.whole(i)));
                }
            }
            for (seen, found) in seen.iter_mut().zip([found.four.udp, found.four.tcp, found.six.udp, found.six.tcp]) {
                *seen += found.count_ones();
            }
        }
        assert!(seen[0] > 1000 && seen[1] > 300 && seen[2] > 100 && seen[3] > 40, "{seen:?}");
    }

    /// Eight datagrams and what they are to be translated to: some without a checksum, some whose checksum comes to zero, with `odd` one that cannot be
    /// translated so.
    fn eight_datagrams(rng: &mut Rng, odd: bool) -> (Vec<Packet>, Vec<Parsed>, To) {
        let (mut packets, mut all, mut to) = (Vec::new(), Vec::new(), To { changed: 0xff, ..To::default() });
        let which = usize::from(rng.byte(8));
        for i in 0..EIGHT {
            let mut tuple = || {
                let mut byte = || rng.byte(255);
                let ends = u64::from_be_bytes([10, 0, byte(), byte(), 10, 0, byte(), byte()]).rotate_left(32);
                (ends, u64::from_le_bytes([byte(), byte(), byte(), byte(), 0, 0, 17, V4]))
            };
            let (old, new) = (tuple(), tuple());
            let [old, new] = [old, new].map(|(ends, rest)| Tuple::of_words_v4(ends, rest));
            let mut key = Key::ZERO;
            (key.eth_type, key.nw_ttl, key.nw_proto) = ([8, 0], 64, ip_proto::UDP);
            let [IpAddr::V4(src), IpAddr::V4(dst)] = [old.src(), old.dst()] else { panic!("{old:?}") };
            (key.nw_src, key.nw_dst) = (src.octets(), dst.octets());
            (key.tp_src, key.tp_dst) = (old.sport().to_be_bytes(), old.dport().to_be_bytes());
            let mut packet = Packet::from_bytes(&compose(&key, Payload::Len(20))).unwrap();
            let mut parsed = Parsed::new();
            parsed.read(packet.data(), &PacketMeta::default());
            let [header, transport, ..] = nat::changes_v4(&old, &new.reversed());
            let at = usize::from(parsed.found.l4) + 6;
            match rng.below(8) {
                0 => packet.data_mut()[at..at + 2].fill(0),
                // What the change makes zero.
                1 => packet.data_mut()[at..at + 2].copy_from_slice(&transport.to_ne_bytes()),
                _ => {}
            }
            if odd && i == which {
                parsed.found.l4 += 4;
            }
            ([to.ends[i], to.rests[i]], to.sums[i]) = (new.words(), u64::from(transport) << 16 | u64::from(header));
            packets.push(packet);
            all.push(parsed);
        }
        (packets, all, to)
    }

    /// Both forms change the same of keys and packets; where one of the eight is not to be changed so, nothing is.
    #[test]
    fn eight_are_translated_as_one_by_one() {
        if !crate::wide::products() {
            return;
        }
        let (mut rng, mut zeros) = (Rng(5), 0);
        for round in 0..4000 {
            let odd = round % 8 == 7;
            let (mut packets, mut parsed, to) = eight_datagrams(&mut rng, odd);
            let bytes = |packets: &[Packet]| packets.iter().map(|packet| packet.data().to_vec()).collect::<Vec<_>>();
            let keys = |parsed: &[Parsed]| parsed.iter().map(|parsed| parsed.key).collect::<Vec<_>>();
            let before = (bytes(&packets), keys(&parsed));
            let (mut twins, mut twins_parsed): (Vec<_>, Vec<_>) =
                packets.iter().map(|packet| packet.duplicate().unwrap()).zip(parsed.iter().cloned()).unzip();
            // SAFETY: the processor has these features.
            let done = unsafe { to.apply_all(&mut packets, &mut parsed) };
            assert_eq!(done, !odd);
            if odd {
                assert_eq!((bytes(&packets), keys(&parsed)), before);
                continue;
            }
            for (i, (packet, parsed)) in twins.iter_mut().zip(&mut twins_parsed).enumerate() {
                assert!(to.apply(packet, parsed, i));
                let at = usize::from(parsed.found.l4) + 6;
                zeros += usize::from(packet.data()[at..at + 2] == [0xff; 2]);
            }
            assert_eq!(bytes(&packets), bytes(&twins));
            assert_eq!(keys(&parsed), keys(&twins_parsed));
        }
        assert!(zeros > 100, "{zeros}");
    }
}
