//! The shortest way through `ct`: packets of UDP and TCP over IPv4, of connections that are established, under the default timeouts.
//!
//! What enters: a batch. What leaves: bits for the packets that are of UDP or TCP over IPv4, whole and not tracked before, with what they are looked up by
//! (`seek_short`); later the same packets tracked, but for those that have anything that few have (`pass_udp`, `track_tcp`). Neighbours: `seek` and
//! `common`, which take all others; `tcp`; a property test holds this way to `track_one`.
//!
//! Nothing else is in these loops, so that what they need fits the processor's registers. Of a packet's key two words are looked at, of its
//! connection one line, and of one of TCP a second. The table's buckets are asked for first: while they come, checksums are looked at. Whether these are
//! right is found in two vectors of the packet's first 64 bytes where the processor has AVX2 (`wide`), and word by word elsewhere.

use super::entry::{ASSURED, CARRIED, CLOSING, DEAD, Entry, FOUR, LIVE, NAT, NAT_DST, NAT_SRC, NONE, PECULIAR, RELATED, SEVERAL};
use super::packet;
use super::seek::{Wanted, each};
use super::track::{self, DNAT, EST, FIRST, Handle, LABEL_AND_TUPLE, RPL, SNAT, Spec, TRK};
use super::tuple::{Tuple, V4};
use super::{Ct, nat};
use crate::bundle::BUNDLE_MAX;
use crate::parsed::{Parsed, UNTOLD};
use crate::search::bits;
use flow::clock::Msec;
use flow::conntrack::CtStage;
use flow::extract::NetworkLayer;
use flow::key::Key;
use flow::wire::ip_proto;
use port::{Checksum, Packet};
use std::sync::atomic::Ordering;

const UDP: u64 = ip_proto::UDP as u64;
const TCP: u64 = ip_proto::TCP as u64;
/// The word of a key that ports, protocol and fragment bits are in.
const TRANSPORT: usize = core::mem::offset_of!(Key, tp_src) / 8;
const _: () = assert!(core::mem::offset_of!(Key, tp_dst) == TRANSPORT * 8 + 2);
const _: () = assert!(core::mem::offset_of!(Key, nw_proto) == TRANSPORT * 8 + 4);
const _: () = assert!(core::mem::offset_of!(Key, nw_frag) == TRANSPORT * 8 + 7);

/// What is the same for all packets of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    /// The word of the key that tells of the connection, but for protocol, direction, translation and mark.
    told: u64,
    until_ms: Msec,
    /// The same of TCP.
    until_tcp_ms: Msec,
    now_ms: Msec,
    /// Windows of TCP are looked at.
    strict: bool,
}

/// Packets that may go the shortest way, a bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Short {
    pub(super) udp: u32,
    pub(super) tcp: u32,
}

impl Short {
    pub(super) const fn all(self) -> u32 {
        self.udp | self.tcp
    }
}

impl Ct {
    /// Packets of UDP and TCP over IPv4 that are whole and were not tracked before: their words and hashes are in `wanted`, their buckets are on
    /// their way. `wide` only where `wide::on` says so.
    #[inline]
    pub(super) fn seek_short(&self, packets: &[Packet], parsed: &[Parsed], zone: u16, wanted: &mut Wanted, wide: bool) -> Short {
        #[cfg(target_arch = "x86_64")]
        if wide {
            // SAFETY: the caller says that the processor has these features.
            return unsafe { self.seek_short_wide(packets, parsed, zone, wanted) };
        }
        self.seek_short_as::<false>(packets, parsed, zone, wanted)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn seek_short_wide(&self, packets: &[Packet], parsed: &[Parsed], zone: u16, wanted: &mut Wanted) -> Short {
        self.seek_short_as::<true>(packets, parsed, zone, wanted)
    }

    #[inline(always)]
    fn seek_short_as<const WIDE: bool>(&self, packets: &[Packet], parsed: &[Parsed], zone: u16, wanted: &mut Wanted) -> Short {
        let n = packets.len().min(parsed.len()).min(BUNDLE_MAX);
        let (packets, parsed) = (&packets[..n], &parsed[..n]);
        let (mut udp, mut tcp) = (0u32, 0u32);
        for (i, parsed) in parsed.iter().enumerate() {
            let (proto, odd) = look(parsed);
            udp |= u32::from(odd | proto ^ UDP == 0) << i;
            tcp |= u32::from(odd | proto ^ TCP == 0) << i;
        }
        self.hash_all(parsed, udp, UDP, zone, wanted);
        if tcp != 0 {
            self.hash_all(parsed, tcp, TCP, zone, wanted);
        }
        if udp != 0 {
            udp = right_ones::<WIDE, true>(packets, parsed, udp);
        }
        if tcp != 0 {
            tcp = right_ones::<WIDE, false>(packets, parsed, tcp);
        }
        Short { udp, tcp }
    }

    /// Says what packets of one protocol are looked up by, and asks for their buckets.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "the loop of `each` goes by numbers, whatever its body looks at")]
    fn hash_all(&self, parsed: &[Parsed], which: u32, proto: u64, zone: u16, wanted: &mut Wanted) {
        let (size, keys) = (self.table.size(), self.keys);
        let tail = u64::from(zone) << 32 | proto << 48 | u64::from(V4) << 56;
        each!(i in which, parsed.len() => {
            let key = &parsed[i].key;
            let (ends, rest) = (ends_of(key), u64::from(ports_of(key)) | tail);
            let hash = Tuple::hash_v4(ends, rest, &keys);
            self.table.prefetch(hash, size);
            (wanted.words[i], wanted.hashes[i]) = ((ends, rest), hash);
        });
    }

    /// Tracks the packets of `wanted.fresh.udp`, under an action that `is_plain`: a bit for each that is done. To the others nothing was done.
    #[inline(always)]
    pub(super) fn pass_udp_as(
        &self,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        spec: &Spec<'_>,
        (passing, wanted): (&Passing, &Wanted),
    ) -> u32 {
        // What translation needs of registers is not taken from packets that are only tracked.
        if spec.nat.is_some() {
            self.pass_udp_with::<true>((packets, parsed), passing, wanted)
        } else {
            self.pass_udp_with::<false>((packets, parsed), passing, wanted)
        }
    }

    #[inline(always)]
    fn pass_udp_with<const TRANSLATE: bool>(
        &self,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        passing: &Passing,
        wanted: &Wanted,
    ) -> u32 {
        let mut done = 0u32;
        let n = packets.len().min(parsed.len()).min(BUNDLE_MAX);
        let (packets, parsed) = (&mut packets[..n], &mut parsed[..n]);
        each!(i in wanted.fresh.udp, n => {
            let found = (wanted.words[i], wanted.candidates[i]);
            done |= u32::from(self.track_udp::<TRANSLATE>(&mut packets[i], &mut parsed[i], passing, found)) << i;
        });
        done
    }

    /// What is the same for all packets that an action tracks now.
    #[inline]
    pub(super) fn passing(&self, spec: &Spec<'_>) -> Passing {
        let [z0, z1] = spec.zone.to_be_bytes();
        let until = |stage| spec.now_ms + self.policies.timeout_ms(0, stage);
        Passing {
            told: u64::from_le_bytes([EST | TRK, 0, z0, z1, 0, 0, 0, 0]),
            until_ms: until(CtStage::UdpMultiple),
            until_tcp_ms: until(CtStage::TcpEstablished),
            now_ms: spec.now_ms,
            strict: !self.liberal.load(Ordering::Relaxed),
        }
    }

    /// False, and nothing done, for packets that are not of an established connection, or one that has anything that few have.
    #[inline(always)]
    fn track_udp<const TRANSLATE: bool>(
        &self,
        packet: &mut Packet,
        parsed: &mut Parsed,
        passing: &Passing,
        (words, number): ((u64, u64), u32),
    ) -> bool {
        const LOOKED_AT: u32 = LIVE | DEAD | FOUR | RELATED | SEVERAL | ASSURED | PECULIAR;
        const USUAL: u32 = LIVE | FOUR | SEVERAL | ASSURED;
        // Where there is none it is the entry of nobody, which is not live.
        const { assert!(NONE == 0) };
        let entry = self.slab.at(number);
        let flags = entry.flags.load(Ordering::Acquire);
        let [there, back] = entry.sides_v4();
        let (forward, backward) = (is_same(there, words), is_same(back, words));
        let alive = (flags & LOOKED_AT == USUAL) & (entry.expires_ms.load(Ordering::Relaxed) > passing.now_ms);
        if !(alive & (forward | backward)) {
            return false;
        }
        let reply = !forward;
        let mut state = u8::from(reply) * RPL;
        if TRANSLATE && flags & (NAT_SRC | NAT_DST) != 0 {
            if flags & NAT != 0 {
                // What packets of the other direction are, turned round, is what the packet shall be. Chosen by a mask, as directions come mixed.
                let if_reply = u64::from(reply).wrapping_neg();
                let choose = |there, back| there & if_reply | back & !if_reply;
                let (ends, last) = (choose(there.0, back.0), choose(there.1, back.1));
                let to = (ends.rotate_left(32), Tuple::turned_last(last));
                if !nat::apply_short(packet, parsed, to, entry.changes_v4(reply)) {
                    return false;
                }
            }
            let (source, destination) = if reply { (NAT_DST, NAT_SRC) } else { (NAT_SRC, NAT_DST) };
            state |= (u8::from(flags & source != 0) * SNAT) | (u8::from(flags & destination != 0) * DNAT);
        }
        entry.expire_at(passing.until_ms);
        passing.tell(parsed, (entry, Handle { number, reply, related: false }), UDP, state);
        true
    }

    /// The same of TCP, whose segments have to be tracked in order, these among others.
    #[inline]
    pub(super) fn track_tcp(
        &self,
        packet: &mut Packet,
        parsed: &mut Parsed,
        (spec, passing): (&Spec<'_>, &Passing),
        (words, number): ((u64, u64), u32),
    ) -> bool {
        const LOOKED_AT: u32 = LIVE | DEAD | FOUR | RELATED | ASSURED | CLOSING | CARRIED | PECULIAR;
        const USUAL: u32 = LIVE | FOUR | ASSURED;
        let entry = self.slab.at(number);
        let flags = entry.flags.load(Ordering::Acquire);
        let [there, back] = entry.sides_v4();
        let (forward, backward) = (is_same(there, words), is_same(back, words));
        let alive = (flags & LOOKED_AT == USUAL) & (entry.expires_ms.load(Ordering::Relaxed) > passing.now_ms);
        if !(alive & passing.strict & (forward | backward)) {
            return false;
        }
        let (reply, segment) = (!forward, packet::segment(packet, parsed));
        let held = entry.hold_tcp();
        if !held.go_on(&segment, reply) {
            return false;
        }
        // Before another thread can close the connection: its time is the shorter one, and is to stand.
        entry.expire_at(passing.until_tcp_ms);
        drop(held);
        let (handle, mut state) = (Handle { number, reply, related: false }, u8::from(reply) * RPL);
        if spec.nat.is_some() && flags & (NAT_SRC | NAT_DST) != 0 {
            track::translate(packet, parsed, entry, handle, &mut state);
        }
        passing.tell(parsed, (entry, handle), TCP, state);
        true
    }
}

impl Passing {
    /// Writes what rules see of a packet, and whose it is.
    #[inline(always)]
    fn tell(&self, parsed: &mut Parsed, (entry, handle): (Entry<'_>, Handle), proto: u64, state: u8) {
        let mark = u64::from(entry.mark.load(Ordering::Relaxed).swap_bytes()) << 32;
        parsed.key.words_mut()[FIRST] = (self.told | proto << 8 | u64::from(state) | mark).to_le();
        parsed.conn = handle.pack() | UNTOLD;
    }
}

#[inline(always)]
const fn is_same(a: (u64, u64), b: (u64, u64)) -> bool {
    (a.0 ^ b.0) | (a.1 ^ b.1) == 0
}

/// A packet's protocol, and zero if it is whole, over IPv4, with both ports, and was not tracked before: one word of all that has to be zero.
#[inline(always)]
fn look(parsed: &Parsed) -> (u64, u64) {
    const FRAGMENT: u64 = 0xff << 56;
    let (word, ports) = (u64::from_le(parsed.key.words()[TRANSPORT]), ports_of(&parsed.key));
    // Subtracting one borrows into the top bit of a half that was zero.
    let no_port = ports.wrapping_sub(0x0001_0001) & !ports & 0x8000_8000;
    let odd = (word & FRAGMENT)
        | u64::from(no_port)
        | u64::from(parsed.found.network as u8 ^ NetworkLayer::Ipv4 as u8)
        | u64::from(parsed.found.lines.0 & LABEL_AND_TUPLE.0)
        | u64::from(parsed.key.ct_state)
        | u64::from(parsed.conn);
    (word >> 32 & 0xff, odd)
}

/// Ports as the last word of a tuple has them.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "the ports are the low half")]
fn ports_of(key: &Key) -> u32 {
    (u64::from_le(key.words()[TRANSPORT]) as u32).swap_bytes().rotate_left(16)
}

/// Addresses over IPv4, as in `Tuple::of_words_v4`.
#[inline(always)]
fn ends_of(key: &Key) -> u64 {
    const AT: usize = core::mem::offset_of!(Key, nw_src) / 8;
    const _: () = assert!(core::mem::offset_of!(Key, nw_src) == AT * 8 && core::mem::offset_of!(Key, nw_dst) == AT * 8 + 4);
    // Each address keeps its order in memory; the first is the lower half.
    if cfg!(target_endian = "little") { key.words()[AT] } else { key.words()[AT].rotate_left(32) }
}

/// Those of the packets of one protocol, `UDP` or TCP, whose checksums are right, or were found so. In loops of their own, as more packets are under way
/// in the processor at a time where each takes less of it.
#[inline(always)]
fn right_ones<const WIDE: bool, const UDP: bool>(packets: &[Packet], parsed: &[Parsed], plain: u32) -> u32 {
    let (mut right, mut long, mut summed) = (0u32, 0u32, 0u32);
    let mut sums = Sums::new();
    each!(i in plain, packets.len().min(parsed.len()) => {
        let (packet, parsed) = (&packets[i], &parsed[i]);
        if packet.checksum() != Checksum::Unknown {
            right |= 1 << i;
        } else if sums.take::<WIDE, UDP>(i, packet, parsed) {
            summed |= 1 << i;
        } else {
            long |= 1 << i;
        }
    });
    if summed != 0 {
        right |= summed & sums.right::<WIDE, UDP>();
    }
    for i in bits(long) {
        right |= u32::from(packet::common_sums_are_right(packets[i].data(), &parsed[i])) << i;
    }
    right
}

/// What the words of short packets add up to, for the wide form; nothing for all others.
struct Sums {
    #[cfg(target_arch = "x86_64")]
    sums: [vector::Pair; BUNDLE_MAX],
}

impl Sums {
    #[inline(always)]
    fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            sums: [vector::Pair::ZERO; BUNDLE_MAX],
        }
    }

    /// Adds up packet `i`, if it is short.
    #[inline(always)]
    fn take<const WIDE: bool, const UDP: bool>(&mut self, i: usize, packet: &Packet, parsed: &Parsed) -> bool {
        #[cfg(target_arch = "x86_64")]
        if WIDE {
            let (l3, l4) = (usize::from(parsed.found.l3), usize::from(parsed.found.l4));
            let total = packet.len().wrapping_sub(l3 + usize::from(parsed.found.l2_pad));
            if (l4 == l3 + vector::IPV4) & vector::LENGTHS.contains(&total) & (packet.room() > l3 + total) {
                // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2. The packet owns its buffer, in which
                // these bytes and one more are, and whose memory is initialised.
                self.sums[i] = unsafe { vector::add_up::<UDP>(packet.as_ptr().cast_const().wrapping_add(l3), total) };
                return true;
            }
        }
        let _ = (i, packet, parsed);
        false
    }

    /// The packets that were added up and are right.
    #[inline(always)]
    fn right<const WIDE: bool, const UDP: bool>(&self) -> u32 {
        #[cfg(target_arch = "x86_64")]
        if WIDE {
            // SAFETY: as in `take`.
            return unsafe { vector::right_ones(&self.sums) };
        }
        0
    }
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use crate::bundle::BUNDLE_MAX;
    use flow::wire::ip_proto;
    use std::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_load_si128, _mm_srli_epi64, _mm_store_si128, _mm256_add_epi32, _mm256_and_si256,
        _mm256_castps_si256, _mm256_castsi256_pd, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmpeq_epi32,
        _mm256_cmpeq_epi64, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_movemask_pd, _mm256_set_m128i, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_shuffle_ps,
        _mm256_srli_epi32, _mm256_xor_si256,
    };
    use std::ops::RangeInclusive;

    pub(super) const IPV4: usize = 20;
    /// Bytes of a vector, and words of 16 bits.
    const VECTOR: usize = 32;
    const WORDS: usize = VECTOR / 2;
    /// Lengths of an IPv4 packet that is covered by two vectors, of which the first is full.
    pub(super) const LENGTHS: RangeInclusive<usize> = VECTOR..=2 * VECTOR;
    /// Where UDP's checksum stands.
    const SUM: usize = IPV4 + 6;
    /// The first word of the addresses, which count in the segment's sum, too.
    const ADDRESSES: usize = 6;
    /// Products of vectors are of words with a sign: each word is taken for so much less than it is.
    const LESS: i32 = 0x8000;

    /// What the length of a packet says.
    #[repr(C, align(64))]
    struct Row {
        /// Which bytes of the second vector count: those that the first did not have, and not the one behind an odd length.
        counted: [u8; VECTOR],
        /// What is to be added to the sum of the header, in the lowest lane, and of the segment, in the third: what words were taken less for, and
        /// protocol and length of the pseudo header.
        plus: [i32; 4],
    }

    const fn rows(proto: u8) -> [Row; VECTOR + 1] {
        let mut rows = [const { row(VECTOR, 0) }; VECTOR + 1];
        let mut i = 0;
        while i < rows.len() {
            rows[i] = row(VECTOR + i, proto);
            i += 1;
        }
        rows
    }

    /// By protocol, TCP and UDP, and length.
    static ROWS: [[Row; VECTOR + 1]; 2] = [rows(ip_proto::TCP), rows(ip_proto::UDP)];

    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
    const fn row(total: usize, proto: u8) -> Row {
        let from = second(total);
        let mut counted = [0; VECTOR];
        let mut i = VECTOR - from;
        while i < total - from {
            counted[i] = 0xff;
            i += 1;
        }
        let pseudo = (proto as u16).to_be() as i32 + ((total - IPV4) as u16).to_be() as i32;
        let (header, segment) = (IPV4 / 2, WORDS - ADDRESSES + WORDS);
        Row { counted, plus: [header as i32 * LESS, 0, segment as i32 * LESS + pseudo, 0] }
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

    static HEADER: [i16; WORDS] = factors(0, IPV4 / 2);
    static SEGMENT: [i16; WORDS] = factors(ADDRESSES, WORDS);

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
    }

    /// The one's complement sums of header and segment of a packet of `total` bytes, of `UDP` or TCP, both in one go, over words of 16 bits.
    ///
    /// # Safety
    /// `total` is in `LENGTHS`, and one byte more than that is readable at `ip`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn add_up<const UDP: bool>(ip: *const u8, total: usize) -> Pair {
        let row = &if UDP { &ROWS[1] } else { &ROWS[0] }[total - VECTOR];
        // SAFETY: a vector is in the packet, which is no shorter.
        let first = unsafe { _mm256_loadu_si256(ip.cast()) };
        // SAFETY: the vector ends with the packet, or a byte behind it (the caller's promise).
        let last = unsafe { _mm256_loadu_si256(ip.wrapping_add(second(total)).cast()) };
        // The top bit turned is 0x8000 less, with a sign.
        let turn = _mm256_set1_epi16(i16::MIN);
        let [first, last] = [first, _mm256_and_si256(last, load(&row.counted))].map(|v| _mm256_xor_si256(v, turn));
        let header = _mm256_madd_epi16(first, load(&HEADER));
        let segment = _mm256_add_epi32(_mm256_madd_epi16(first, load(&SEGMENT)), _mm256_madd_epi16(last, _mm256_set1_epi16(1)));
        let pairs = _mm256_hadd_epi32(header, segment);
        let four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        // SAFETY: four numbers are such a vector.
        let plus = unsafe { _mm_load_si128(row.plus.as_ptr().cast()) };
        let sums = _mm_add_epi32(_mm_add_epi32(four, _mm_srli_epi64::<32>(four)), plus);
        let mut pair = Pair::ZERO;
        // SAFETY: four numbers are such a vector.
        unsafe { _mm_store_si128(pair.0.as_mut_ptr().cast(), sums) };
        if UDP {
            // SAFETY: UDP's header is in the first vector.
            let sum = unsafe { ip.wrapping_add(SUM).cast::<u16>().read_unaligned() };
            // A UDP packet without a checksum is whole, too: as if its sum was right.
            if sum == 0 {
                pair.0[2] = 0xffff;
            }
        }
        pair
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
    use flow::compose::{Payload, compose};
    use flow::extract::PacketMeta;
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        /// Both forms find checksums right that `see_common` does, of packets of all short lengths, padded or not, whole or with a flipped bit.
        #[test]
        fn sums_are_judged_alike(
            addresses: [u8; 8],
            ports: [u8; 4],
            payload in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..80),
            pad in 0usize..40,
            flip in prop::option::of((0usize..64, 0u32..8)),
            none in prop::bool::weighted(0.1),
            vlan: bool,
            proto in prop::sample::select(vec![ip_proto::UDP, ip_proto::UDP, ip_proto::TCP, ip_proto::TCP, ip_proto::SCTP]),
        ) {
            let mut key = key(ports, addresses);
            key.nw_proto = proto;
            if vlan {
                (key.vlan_tci, key.vlan_tpid) = ([0x10, 5], [0x81, 0]);
            }
            let mut frame = compose(&key, Payload::Bytes(&payload));
            let l3 = if vlan { 18 } else { 14 };
            if none {
                frame[l3 + 26..l3 + 28].fill(0);
            }
            if let Some((at, bit)) = flip && l3 + at < frame.len() {
                frame[l3 + at] ^= 1 << bit;
            }
            frame.extend(std::iter::repeat_n(0xa5, pad));
            let packet = Packet::from_bytes(&frame).unwrap();
            let mut parsed = Box::new(Parsed::new());
            parsed.read(packet.data(), &PacketMeta::default());
            let common = packet::see_common(&packet, &parsed, 3);
            let (proto, odd) = look(&parsed);
            let ones = (std::slice::from_ref(&packet), std::slice::from_ref(&*parsed));
            let right = |wide: bool| match (proto, wide) {
                _ if odd != 0 => 0,
                (UDP, false) => right_ones::<false, true>(ones.0, ones.1, 1),
                (UDP, true) => right_ones::<true, true>(ones.0, ones.1, 1),
                (TCP, false) => right_ones::<false, false>(ones.0, ones.1, 1),
                (TCP, true) => right_ones::<true, false>(ones.0, ones.1, 1),
                _ => 0,
            };
            for wide in [false, true] {
                if wide && !crate::wide::on() {
                    continue;
                }
                let tail = 3 << 32 | proto << 48 | u64::from(V4) << 56;
                let words = (right(wide) != 0).then(|| (ends_of(&parsed.key), u64::from(ports_of(&parsed.key)) | tail));
                prop_assert_eq!(words, common, "{:x?}", frame);
            }
        }
    }
}
