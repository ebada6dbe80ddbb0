//! The keys of common packets by vectors of a whole line: the first line of a key is one permutation of the first line of its frame.
//!
//! What enters: frames of a batch. What leaves: keys, and which packets are not common. Neighbour: `parse` (the caller), which puts lines together of
//! parts, version by version, where the processor has no such vectors (`wide::lines`).
//!
//! Common packets are of eight kinds, by version of IP, tag and transport protocol. What a kind's packets have in common is a row of a table
//! that the compiler makes: where what stands, and what has to stand there. A packet is taken for one of the kind that three bits
//! name, and the row says whether it is. The packets of a kind are gone through together, with the row in registers.

use crate::bundle::Bundle;
use crate::classifier::BATCH;
use crate::parse::vector::{HEAD6, head6, write_second_line};
use crate::parsed::Parsed;
use crate::search::bits;
use flow::extract::{Extracted, NO_OFFSET, NetworkLayer};
use flow::key::{Key, LINE_BYTES, Lines, VLAN_CFI};
use flow::wire::{eth_type, ip_proto};
use port::Packet;
use std::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm256_cmpeq_epi8_mask, _mm256_loadu_si256, _mm256_set1_epi8, _mm512_inserti64x2,
    _mm512_loadu_si512, _mm512_maskz_permutexvar_epi8, _mm512_or_si512, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_ternarylogic_epi64, _mm512_test_epi32_mask, _mm512_test_epi64_mask,
};
use std::mem::{offset_of, transmute};

const TAG: usize = 4;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const TCP: usize = 20;

/// What packets of one kind have in common.
#[repr(C, align(64))]
struct Kind {
    /// Which byte of the frame is which of the line; those of `keep` only.
    from: [u8; LINE_BYTES],
    /// What is the same in all lines.
    add: [u8; LINE_BYTES],
    /// Bits of the frame that are the same in all, and which these are.
    same: [u8; LINE_BYTES],
    care: [u8; LINE_BYTES],
    keep: u64,
    /// `Parsed::found` and `Parsed::conn`, apart from `l2_pad`.
    tail: [u64; 2],
    /// Where the length stands in the frame that the IP header says, and how many bytes come before what it counts.
    length_at: u32,
    before: u32,
    /// The least of that length, with TCP's options apart.
    least: u32,
    /// Where TCP's header length and flags stand, or would; which bits are the flags, and which the length in bytes, once moved to its place.
    offset_at: u32,
    flags: u16,
    offset: u16,
    offset_least: u32,
    is_six: bool,
    is_tagged: bool,
}

/// Without a tag and with one; then the same over IPv6; then all that of TCP.
static KINDS: [Kind; 8] = [
    kind(false, false, false),
    kind(false, false, true),
    kind(false, true, false),
    kind(false, true, true),
    kind(true, false, false),
    kind(true, false, true),
    kind(true, true, false),
    kind(true, true, true),
];

#[allow(clippy::cast_possible_truncation, reason = "offsets in a head")]
const fn kind(tcp: bool, six: bool, tagged: bool) -> Kind {
    let l3 = if tagged { 14 + TAG } else { 14 };
    let header = if six { IPV6 } else { IPV4 };
    let (l4, proto) = (l3 + header, if tcp { ip_proto::TCP } else { ip_proto::UDP });
    let (proto_at, ttl_at, length_at) = if six { (l3 + 6, l3 + 7, l3 + 4) } else { (l3 + 9, l3 + 8, l3 + 2) };
    let counted = if six { 0 } else { IPV4 };
    let found = Extracted {
        lines: Lines(if six { 0b11 } else { 0b1 }),
        l2_5: NO_OFFSET,
        l3: l3 as u16,
        l4: l4 as u16,
        l2_pad: 0,
        network: if six { NetworkLayer::Ipv6 } else { NetworkLayer::Ipv4 },
        transport: proto,
    };
    let mut kind = Kind {
        from: [0; LINE_BYTES],
        add: [0; LINE_BYTES],
        same: [0; LINE_BYTES],
        care: [0; LINE_BYTES],
        keep: 0,
        tail: tail(found),
        length_at: length_at as u32,
        before: (l4 - counted) as u32,
        // A TCP header's own length counts all of it.
        least: (counted + if tcp { 0 } else { UDP }) as u32,
        offset_at: (l4 + 12) as u32,
        flags: if tcp { 0xff0f } else { 0 },
        offset: if tcp { 0x3c } else { 0 },
        offset_least: if tcp { TCP as u32 } else { 0 },
        is_six: six,
        is_tagged: tagged,
    }
    .takes(offset_of!(Key, eth_dst), 0, 12)
    .takes(offset_of!(Key, eth_type), l3 - 2, 2)
    .takes(offset_of!(Key, tp_src), l4, 4)
    .takes(offset_of!(Key, nw_proto), proto_at, 1)
    .takes(offset_of!(Key, nw_ttl), ttl_at, 1)
    .has(proto_at, proto, u8::MAX);
    kind = kind.of_type(l3 - 2, if six { eth_type::IPV6 } else { eth_type::IPV4 });
    if !six {
        kind = kind.takes(offset_of!(Key, nw_tos), l3 + 1, 1).takes(offset_of!(Key, nw_src), l3 + 12, 8);
        // Five words, and no fragment.
        kind = kind.has(l3, 5, 0xf).has(l3 + 6, 0, 0x3f).has(l3 + 7, 0, u8::MAX);
    }
    if tagged {
        kind = kind.of_type(12, eth_type::VLAN).takes(offset_of!(Key, vlan_tci), 14, 2);
        [kind.add[offset_of!(Key, vlan_tci)], _] = VLAN_CFI.to_be_bytes();
        let tpid = offset_of!(Key, vlan_tpid);
        [kind.add[tpid], kind.add[tpid + 1]] = eth_type::VLAN.to_be_bytes();
    }
    assert!(l4 + 14 <= HEAD6 && l4 + 4 <= LINE_BYTES);
    kind
}

/// The end of `Parsed`, of a packet that no connection is known of.
const fn tail(found: Extracted) -> [u64; 2] {
    #[repr(C)]
    struct Tail {
        found: Extracted,
        conn: u32,
    }
    const { assert!(offset_of!(Parsed, conn) - offset_of!(Parsed, found) == offset_of!(Tail, conn)) };
    const { assert!(offset_of!(Extracted, l2_pad) == 8 && cfg!(target_endian = "little")) };
    // SAFETY: there is no padding, since the parts' sizes add up to that of the words.
    unsafe { transmute(Tail { found, conn: 0 }) }
}

impl Kind {
    /// The same with `n` bytes of the key that stand at `from` in the frame.
    const fn takes(mut self, to: usize, from: usize, n: usize) -> Self {
        let mut i = 0;
        while i < n {
            #[allow(clippy::cast_possible_truncation, reason = "an offset in a line")]
            let at = (from + i) as u8;
            self.from[to + i] = at;
            self.keep |= 1 << (to + i);
            i += 1;
        }
        self
    }

    /// The same with bits of the frame that have to be as here.
    const fn has(mut self, at: usize, same: u8, care: u8) -> Self {
        (self.same[at], self.care[at]) = (same, care);
        self
    }

    /// The same with an Ethernet type that has to stand in the frame.
    const fn of_type(self, at: usize, ty: u16) -> Self {
        let [high, low] = ty.to_be_bytes();
        self.has(at, high, u8::MAX).has(at + 1, low, u8::MAX)
    }

    /// Which kind a packet is of, if it is of any: one bit tells a tag's type from those of IP, one tells IPv6 from IPv4 and one TCP from UDP. Whether
    /// the rest is as it should be the row says. Bits, since of comparisons the compiler would make branches, which mixed traffic mispredicts.
    #[inline(always)]
    fn number_of(head: &[u8; HEAD6]) -> u8 {
        let tagged = head[12] & 1;
        let at = TAG * usize::from(tagged);
        let six = head[12 + at] >> 7;
        let tcp = head[23 + at - 3 * usize::from(six)] >> 1 & 1;
        tagged | six << 1 | tcp << 2
    }
}

/// The bits that `number_of` goes by.
const _: () = {
    let types = [eth_type::IPV4.to_be_bytes()[0], eth_type::IPV6.to_be_bytes()[0], eth_type::VLAN.to_be_bytes()[0]];
    assert!(types[0] & 1 == 0 && types[1] & 1 == 0 && types[2] & 1 == 1);
    assert!(types[0] >> 7 == 0 && types[1] >> 7 == 1);
    assert!(ip_proto::UDP >> 1 & 1 == 0 && ip_proto::TCP >> 1 & 1 == 1);
};

#[inline(always)]
fn half(head: &[u8; HEAD6], at: usize) -> u16 {
    debug_assert!(at + 2 <= HEAD6);
    // SAFETY: callers ask for what stands at fixed places, or where a kind's row says, which `kind` asserts to be inside.
    unsafe { head.as_ptr().wrapping_add(at).cast::<u16>().read_unaligned() }
}

/// The truth table of `a & b ^ c`.
const DIFFERENCE: i32 = 0x6a;

/// Makes the keys of common packets; a bit for each other one. `common` are words 4 and 5, apart from what is the packet's own.
///
/// # Safety
/// The processor is one that `wide::on` and `wide::lines` say yes of.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(crate) unsafe fn parse(bundle: &mut Bundle, common: [u64; 2]) -> u32 {
    let n = bundle.packets.len();
    let all = if n == BATCH { u32::MAX } else { (1 << n) - 1 };
    let mut kinds = [0u8; BATCH];
    for (packet, kind) in bundle.packets.iter().zip(&mut kinds) {
        if let Some(head) = head6(packet) {
            *kind = Kind::number_of(head);
        }
    }
    // SAFETY: the numbers are one vector.
    let numbers = unsafe { _mm256_loadu_si256(kinds.as_ptr().cast()) };
    // Of each packet something that is not as it should be: read for all at once.
    let mut faults = [1u32; BATCH];
    let mut rest = all;
    while rest != 0 {
        let number = kinds[rest.trailing_zeros() as usize % BATCH];
        let own = _mm256_cmpeq_epi8_mask(numbers, _mm256_set1_epi8(number.cast_signed())) & rest;
        rest &= !own;
        let kind = Loaded::of(&KINDS[usize::from(number) % KINDS.len()], common);
        if own == all {
            for ((packet, parsed), fault) in bundle.packets.iter().zip(&mut bundle.parsed).zip(&mut faults) {
                kind.parse(packet, parsed, fault);
            }
        } else {
            for i in bits(own) {
                kind.parse(&bundle.packets[i], &mut bundle.parsed[i], &mut faults[i]);
            }
        }
    }
    // SAFETY: the faults are two vectors.
    let half = |i: usize| unsafe { _mm512_loadu_si512(faults.as_ptr().wrapping_add(i * BATCH / 2).cast()) };
    let (low, high) = (half(0), half(1));
    (u32::from(_mm512_test_epi32_mask(low, low)) | u32::from(_mm512_test_epi32_mask(high, high)) << 16) & all
}

/// A kind in registers: its packets are gone through one after the other, since fetching the row for each is half of what parsing takes.
#[derive(Clone, Copy)]
struct Loaded {
    kind: &'static Kind,
    from: __m512i,
    add: __m512i,
    same: __m512i,
    care: __m512i,
}

impl Loaded {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn of(kind: &'static Kind, common: [u64; 2]) -> Self {
        let common = _mm_set_epi64x(common[1].cast_signed(), common[0].cast_signed());
        let add = _mm512_or_si512(load(&kind.add), _mm512_inserti64x2::<2>(_mm512_setzero_si512(), common));
        Self { kind, from: load(&kind.from), add, same: load(&kind.same), care: load(&kind.care) }
    }

    /// Makes the key of a packet of this kind. A `fault` other than 0 says that it is none, and the key is of no use then.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn parse(&self, packet: &Packet, parsed: &mut Parsed, fault: &mut u32) {
        let Some(head) = head6(packet) else {
            return;
        };
        let kind = self.kind;
        // SAFETY: the head is longer than a line.
        let frame = unsafe { _mm512_loadu_si512(head.as_ptr().cast()) };
        let own = _mm512_maskz_permutexvar_epi8(kind.keep, self.from, frame);
        let line = _mm512_or_si512(own, self.add);
        // SAFETY: a key is longer than a line.
        unsafe { _mm512_storeu_si512(parsed.key.words_mut().as_mut_ptr().cast(), line) };
        let offset_flags = half(head, kind.offset_at as usize);
        parsed.key.tcp_flags = (offset_flags & kind.flags).to_ne_bytes();
        let difference = _mm512_ternarylogic_epi64::<DIFFERENCE>(frame, self.care, self.same);
        let differs = u32::from(_mm512_test_epi64_mask(difference, difference));
        let length = u32::from(half(head, kind.length_at as usize).swap_bytes());
        let offset = u32::from(offset_flags >> 2 & kind.offset);
        #[allow(clippy::cast_possible_truncation, reason = "a frame is no longer than its buffer")]
        let bytes = packet.len() as u32;
        // A length beyond the frame makes a pad larger than any frame.
        let pad = bytes.wrapping_sub(kind.before + length);
        // The highest bit of a difference says that there is less than there should be.
        let short = length.wrapping_sub(kind.least + offset) | offset.wrapping_sub(kind.offset_least);
        *fault = differs | short >> 31 | (pad | bytes) >> 16;
        let tail = [kind.tail[0], kind.tail[1] | u64::from(pad & 0xffff)];
        let to = std::ptr::from_mut(parsed).wrapping_byte_add(offset_of!(Parsed, found)).cast::<[u64; 2]>();
        // SAFETY: both words lie inside of `parsed` (`tail` asserts it), and any may be what `l2_pad` holds.
        unsafe { to.write(tail) };
        if kind.is_six {
            write_second_line(head, kind.is_tagged, parsed);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[u8; LINE_BYTES]) -> __m512i {
    // SAFETY: a line is a vector.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}
