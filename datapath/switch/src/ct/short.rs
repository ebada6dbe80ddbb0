//! The shortest way through `ct`: packets of UDP over IPv4, of connections that are established, under the default timeouts.
//!
//! What enters: a batch. What leaves: bits for the packets that are of UDP over IPv4, whole and not tracked before, with what they are looked up by
//! (`seek_udp`); later the same packets tracked, but for those that have anything that few have (`pass_udp`). Neighbours: `seek` and `common`, which
//! take all others; a property test holds this way to `track_one`.
//!
//! Nothing else is in these loops, so that what they need fits the processor's registers. Of a packet's key two words are looked at, of its
//! connection one line. Whether checksums are right is found in two vectors of the packet's first 64 bytes where the processor has AVX2
//! (`wide`), and word by word elsewhere.

use super::entry::{ASSURED, DEAD, LIVE, NAT, NAT_DST, NAT_SRC, NONE, PECULIAR, RELATED, SEVERAL};
use super::packet;
use super::seek::{Wanted, each};
use super::track::{DNAT, EST, FIRST, Handle, LABEL_AND_TUPLE, RPL, SNAT, Spec, TRK};
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
/// The word of a key that ports, protocol and fragment bits are in.
const TRANSPORT: usize = core::mem::offset_of!(Key, tp_src) / 8;
const _: () = assert!(core::mem::offset_of!(Key, tp_dst) == TRANSPORT * 8 + 2);
const _: () = assert!(core::mem::offset_of!(Key, nw_proto) == TRANSPORT * 8 + 4);
const _: () = assert!(core::mem::offset_of!(Key, nw_frag) == TRANSPORT * 8 + 7);

/// What is the same for all packets of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    /// The word of the key that tells of the connection, but for direction, translation and mark.
    told: u64,
    until_ms: Msec,
    now_ms: Msec,
}

impl Ct {
    /// Packets of UDP over IPv4 that are whole and were not tracked before, a bit each: their words and hashes are in `wanted`, their buckets are on
    /// their way. `wide` only where `wide::on` says so.
    #[inline]
    pub(super) fn seek_udp(&self, packets: &[Packet], parsed: &[Parsed], zone: u16, wanted: &mut Wanted, wide: bool) -> u32 {
        #[cfg(target_arch = "x86_64")]
        if wide {
            // SAFETY: the caller says that the processor has these features.
            return unsafe { self.seek_udp_wide(packets, parsed, zone, wanted) };
        }
        self.seek_udp_as::<false>(packets, parsed, zone, wanted)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn seek_udp_wide(&self, packets: &[Packet], parsed: &[Parsed], zone: u16, wanted: &mut Wanted) -> u32 {
        self.seek_udp_as::<true>(packets, parsed, zone, wanted)
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "the loop of `each` goes by numbers, whatever its body looks at")]
    fn seek_udp_as<const WIDE: bool>(&self, packets: &[Packet], parsed: &[Parsed], zone: u16, wanted: &mut Wanted) -> u32 {
        let n = packets.len().min(parsed.len()).min(BUNDLE_MAX);
        let mut udp = 0u32;
        for (i, parsed) in parsed[..n].iter().enumerate() {
            udp |= u32::from(is_plain_udp(parsed)) << i;
        }
        let (size, keys) = (self.table.size(), self.keys);
        let tail = u64::from(zone) << 32 | UDP << 48 | u64::from(V4) << 56;
        let (packets, parsed) = (&packets[..n], &parsed[..n]);
        udp = right_ones::<WIDE>(packets, parsed, udp);
        each!(i in udp, n => {
            let key = &parsed[i].key;
            let (ends, rest) = (ends_of(key), u64::from(ports_of(key)) | tail);
            let hash = Tuple::hash_v4(ends, rest, &keys);
            self.table.prefetch(hash, size);
            (wanted.words[i], wanted.hashes[i]) = ((ends, rest), hash);
        });
        udp
    }

    /// Tracks the packets of `wanted.udp`, under an action that `is_plain`: a bit for each that is done. To the others nothing was done.
    #[inline(always)]
    pub(super) fn pass_udp_as(&self, (packets, parsed): (&mut [Packet], &mut [Parsed]), spec: &Spec<'_>, wanted: &Wanted) -> u32 {
        // What translation needs of registers is not taken from packets that are only tracked.
        if spec.nat.is_some() {
            self.pass_udp_with::<true>((packets, parsed), spec, wanted)
        } else {
            self.pass_udp_with::<false>((packets, parsed), spec, wanted)
        }
    }

    #[inline(always)]
    fn pass_udp_with<const TRANSLATE: bool>(
        &self,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        spec: &Spec<'_>,
        wanted: &Wanted,
    ) -> u32 {
        let passing = self.passing(spec);
        let mut done = 0u32;
        let n = packets.len().min(parsed.len()).min(BUNDLE_MAX);
        let (packets, parsed) = (&mut packets[..n], &mut parsed[..n]);
        each!(i in wanted.udp, n => {
            let found = (wanted.words[i], wanted.candidates[i]);
            done |= u32::from(self.track_udp::<TRANSLATE>(&mut packets[i], &mut parsed[i], &passing, found)) << i;
        });
        done
    }

    /// What is the same for all packets that an action tracks now.
    fn passing(&self, spec: &Spec<'_>) -> Passing {
        let [z0, z1] = spec.zone.to_be_bytes();
        Passing {
            told: u64::from_le_bytes([EST | TRK, ip_proto::UDP, z0, z1, 0, 0, 0, 0]),
            until_ms: spec.now_ms + self.policies.timeout_ms(0, CtStage::UdpMultiple),
            now_ms: spec.now_ms,
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
        const LOOKED_AT: u32 = LIVE | DEAD | RELATED | SEVERAL | ASSURED | PECULIAR;
        const USUAL: u32 = LIVE | SEVERAL | ASSURED;
        // Where there is none it is the entry of nobody, which is not live.
        const { assert!(NONE == 0) };
        let entry = self.slab.at(number);
        let flags = entry.flags.load(Ordering::Acquire);
        let [there, back] = entry.sides_v4(flags);
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
                if !nat::apply_short(packet, parsed, words, (ends.rotate_left(32), Tuple::turned_last(last))) {
                    return false;
                }
            }
            let (source, destination) = if reply { (NAT_DST, NAT_SRC) } else { (NAT_SRC, NAT_DST) };
            state |= (u8::from(flags & source != 0) * SNAT) | (u8::from(flags & destination != 0) * DNAT);
        }
        entry.expire_at(passing.until_ms);
        let mark = u64::from(entry.mark.load(Ordering::Relaxed).swap_bytes()) << 32;
        parsed.key.words_mut()[FIRST] = (passing.told | u64::from(state) | mark).to_le();
        parsed.conn = Handle { number, reply, related: false }.pack() | UNTOLD;
        true
    }
}

#[inline(always)]
const fn is_same(a: (u64, u64), b: (u64, u64)) -> bool {
    (a.0 ^ b.0) | (a.1 ^ b.1) == 0
}

/// Whether it is a packet of UDP over IPv4 with both ports, and was not tracked before.
#[inline(always)]
fn is_plain_udp(parsed: &Parsed) -> bool {
    // Protocol and fragment bits.
    const LOOKED_AT: u64 = 0xff00_00ff << 32;
    let (word, ports) = (u64::from_le(parsed.key.words()[TRANSPORT]), ports_of(&parsed.key));
    // Subtracting one borrows into the top bit of a half that was zero.
    let no_port = ports.wrapping_sub(0x0001_0001) & !ports & 0x8000_8000;
    // One comparison of all that has to be zero.
    let odd = (word & LOOKED_AT ^ UDP << 32)
        | u64::from(no_port)
        | u64::from(parsed.found.network as u8 ^ NetworkLayer::Ipv4 as u8)
        | u64::from(parsed.found.lines.0 & LABEL_AND_TUPLE.0)
        | u64::from(parsed.key.ct_state)
        | u64::from(parsed.conn);
    odd == 0
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

/// Those of the packets that `is_plain_udp` takes whose checksums are right, or were found so. In loops of their own, as more packets are under way
/// in the processor at a time where each takes less of it.
#[inline(always)]
fn right_ones<const WIDE: bool>(packets: &[Packet], parsed: &[Parsed], udp: u32) -> u32 {
    let (mut right, mut long) = (0u32, 0u32);
    each!(i in udp, packets.len().min(parsed.len()) => {
        let (packet, parsed) = (&packets[i], &parsed[i]);
        if packet.checksum() == Checksum::Unknown {
            match short_is_right::<WIDE>(packet, parsed) {
                Some(is_right) => right |= u32::from(is_right) << i,
                None => long |= 1 << i,
            }
        } else {
            right |= 1 << i;
        }
    });
    for i in bits(long) {
        right |= u32::from(packet::common_sums_are_right(packets[i].data(), &parsed[i])) << i;
    }
    right
}

/// Whether the checksums of a short packet are right; `None` for longer ones, and for all but in the wide form.
#[inline(always)]
fn short_is_right<const WIDE: bool>(packet: &Packet, parsed: &Parsed) -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        let (l3, l4) = (usize::from(parsed.found.l3), usize::from(parsed.found.l4));
        let total = packet.len().wrapping_sub(l3 + usize::from(parsed.found.l2_pad));
        if (l4 == l3 + vector::IPV4) & vector::LENGTHS.contains(&total) & (packet.room() > l3 + total) {
            // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2. The packet owns its buffer, in which
            // these bytes and one more are, and whose memory is initialised.
            return Some(unsafe { vector::is_right(packet.as_ptr().cast_const().wrapping_add(l3), total) });
        }
    }
    let _ = (packet, parsed);
    None
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use flow::wire::ip_proto;
    use std::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_and_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_loadu_si128, _mm_movemask_ps,
        _mm_set1_epi32, _mm_srli_epi32, _mm_srli_epi64, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_si128,
        _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi16, _mm256_xor_si256,
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

    static ROWS: [Row; VECTOR + 1] = {
        let mut rows = [const { row(VECTOR) }; VECTOR + 1];
        let mut i = 0;
        while i < rows.len() {
            rows[i] = row(VECTOR + i);
            i += 1;
        }
        rows
    };

    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
    const fn row(total: usize) -> Row {
        let from = second(total);
        let mut counted = [0; VECTOR];
        let mut i = VECTOR - from;
        while i < total - from {
            counted[i] = 0xff;
            i += 1;
        }
        let pseudo = (ip_proto::UDP as u16).to_be() as i32 + ((total - IPV4) as u16).to_be() as i32;
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

    /// Whether header and UDP checksum of a packet of `total` bytes are right: the one's complement sums of both in one go, over words of 16 bits.
    ///
    /// # Safety
    /// `total` is in `LENGTHS`, and one byte more than that is readable at `ip`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn is_right(ip: *const u8, total: usize) -> bool {
        let row = &ROWS[total - VECTOR];
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
        let plus = unsafe { _mm_loadu_si128(row.plus.as_ptr().cast()) };
        let sums = _mm_add_epi32(_mm_add_epi32(four, _mm_srli_epi64::<32>(four)), plus);
        // Less than 2^21, so that folding once is enough: 0xffff is what a right one comes to, and nothing else does.
        let folded = _mm_add_epi32(_mm_and_si128(sums, _mm_set1_epi32(0xffff)), _mm_srli_epi32::<16>(sums));
        let right = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(folded, _mm_set1_epi32(0xffff))));
        // SAFETY: UDP's header is in the first vector.
        let sum = unsafe { ip.wrapping_add(SUM).cast::<u16>().read_unaligned() };
        // A UDP packet without a checksum is whole, too. By bits, where an `if` would become a branch.
        right & (right >> 2 | i32::from(sum == 0)) & 1 != 0
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
        (key.eth_type, key.nw_proto, key.nw_ttl) = ([8, 0], ip_proto::UDP, 64);
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
        ) {
            let mut key = key(ports, addresses);
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
            let tail = 3 << 32 | UDP << 48 | u64::from(V4) << 56;
            for wide in [false, true] {
                if wide && !crate::wide::on() {
                    continue;
                }
                let ones = (std::slice::from_ref(&packet), std::slice::from_ref(&*parsed), u32::from(is_plain_udp(&parsed)));
                let right = if wide { right_ones::<true>(ones.0, ones.1, ones.2) } else { right_ones::<false>(ones.0, ones.1, ones.2) };
                let words = (right != 0).then(|| (ends_of(&parsed.key), u64::from(ports_of(&parsed.key)) | tail));
                let udp = parsed.key.nw_proto == ip_proto::UDP;
                prop_assert_eq!(words, common.filter(|_| udp), "{:x?}", frame);
            }
        }
    }
}
