//! The keys of common packets by vectors of a whole line: the first line of a key is one permutation of the first line of its frame.
//!
//! What enters: frames of a batch. What leaves: keys, and which packets are not common. Neighbour: `parse` (the caller), which puts lines together of
//! parts, version by version, where the processor has no such vectors (`wide::lines`).
//!
//! Common packets are of eight kinds, by version of IP, tag and transport protocol. What a kind's packets have in common is a row of a table
//! that the compiler makes: where what stands, and what has to stand there. A packet is taken for one of the kind that three bits
//! name, and the row says whether it is. The packets of a kind are gone through together, in a loop that is made for the kind: which row it is
//! is then a branch, which is guessed, and no number that would have to be known before the row can be fetched.

use crate::bundle::Bundle;
use crate::classifier::BATCH;
use crate::parse::vector::{HEAD6, head6};
use crate::parsed::Parsed;
use crate::search::{all_of, bits};
use flow::extract::{Extracted, NO_OFFSET, NetworkLayer};
use flow::key::{IPV6_LABEL, Key, LINE_BYTES, Lines, VLAN_CFI};
use flow::wire::{eth_type, ip_proto};
use port::Packet;
use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_set_epi64x, _mm_storeu_si128, _mm_test_epi8_mask, _mm256_loadu_si256,
    _mm256_test_epi8_mask, _mm512_adds_epu16, _mm512_and_si512, _mm512_castsi256_si512, _mm512_cmpeq_epi16_mask,
    _mm512_cmpgt_epu16_mask, _mm512_cmplt_epu16_mask, _mm512_cvtepu8_epi16, _mm512_cvtusepi32_epi16, _mm512_inserti64x2,
    _mm512_inserti64x4, _mm512_loadu_si512, _mm512_mask_add_epi16, _mm512_mask_cmplt_epu16_mask, _mm512_mask_set1_epi16,
    _mm512_maskz_mov_epi16, _mm512_multishift_epi64_epi8, _mm512_or_si512, _mm512_permutexvar_epi8, _mm512_set1_epi16,
    _mm512_setzero_si512, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_si512, _mm512_sub_epi16, _mm512_ternarylogic_epi64,
    _mm512_test_epi16_mask, _mm512_test_epi64_mask,
};
use std::mem::{offset_of, transmute};

const TAG: usize = 4;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const TCP: usize = 20;
/// In the word of header length and flags, as it is read.
const TCP_FLAGS: u16 = u16::from_ne_bytes([0x0f, 0xff]);

/// What packets of one kind have in common.
#[repr(C, align(64))]
struct Kind {
    /// Which byte of the frame is which of the line, and which of its bits: those of `take` only.
    from: [u8; LINE_BYTES],
    take: [u8; LINE_BYTES],
    /// What is the same in all lines.
    add: [u8; LINE_BYTES],
    /// Bits of the frame that are the same in all, and which these are.
    same: [u8; LINE_BYTES],
    care: [u8; LINE_BYTES],
    /// `Parsed::found` and `Parsed::conn`, of a packet without a pad.
    tail: [u64; 2],
    /// Where the length stands in the frame that the IP header says.
    length_at: usize,
    /// Where TCP's header length and flags stand, or would.
    offset_at: usize,
    /// Over IPv6: from which bit of its eight bytes on each byte is taken, once all are where `from` puts them. The traffic class stands across two.
    shift: [u8; LINE_BYTES],
    /// The same as `from` and `take` of the second line.
    second_from: [u8; LINE_BYTES],
    second_take: [u8; LINE_BYTES],
}

/// The bits of a kind's number.
const TAGGED: usize = 1;
const SIX: usize = 2;
const WITH_TCP: usize = 4;

/// Without a tag and with one; then the same over IPv6; then all that of TCP.
static KINDS: [Kind; 8] = [kind(0), kind(1), kind(2), kind(3), kind(4), kind(5), kind(6), kind(7)];

#[allow(clippy::cast_possible_truncation, reason = "offsets in a head")]
const fn kind(number: usize) -> Kind {
    let (tcp, six, tagged) = (number & WITH_TCP != 0, number & SIX != 0, number & TAGGED != 0);
    let l3 = if tagged { 14 + TAG } else { 14 };
    let header = if six { IPV6 } else { IPV4 };
    let (l4, proto) = (l3 + header, if tcp { ip_proto::TCP } else { ip_proto::UDP });
    let (proto_at, ttl_at, length_at) = if six { (l3 + 6, l3 + 7, l3 + 4) } else { (l3 + 9, l3 + 8, l3 + 2) };
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
        take: [0; LINE_BYTES],
        add: [0; LINE_BYTES],
        same: [0; LINE_BYTES],
        care: [0; LINE_BYTES],
        tail: tail(found),
        length_at,
        offset_at: l4 + 12,
        shift: [0; LINE_BYTES],
        second_from: [0; LINE_BYTES],
        second_take: [0; LINE_BYTES],
    }
    .takes(offset_of!(Key, eth_dst), 0, 12)
    .takes(offset_of!(Key, eth_type), l3 - 2, 2)
    .takes(offset_of!(Key, tp_src), l4, 4)
    .takes(offset_of!(Key, nw_proto), proto_at, 1)
    .takes(offset_of!(Key, nw_ttl), ttl_at, 1)
    .has(proto_at, proto, u8::MAX);
    kind = kind.of_type(l3 - 2, if six { eth_type::IPV6 } else { eth_type::IPV4 });
    if six {
        kind = kind.of_six(l3);
    } else {
        kind = kind.takes(offset_of!(Key, nw_tos), l3 + 1, 1).takes(offset_of!(Key, nw_src), l3 + 12, 8);
        // Five words, and no fragment.
        kind = kind.has(l3, 5, 0xf).has(l3 + 6, 0, 0x3f).has(l3 + 7, 0, u8::MAX);
    }
    if tcp {
        let flags = offset_of!(Key, tcp_flags);
        if !six {
            kind = kind.takes(flags, l4 + 12, 2);
        }
        [kind.take[flags], kind.take[flags + 1]] = TCP_FLAGS.to_ne_bytes();
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
            self.take[to + i] = u8::MAX;
            i += 1;
        }
        self
    }

    /// The same with what a packet over IPv6 has elsewhere: traffic class, addresses and flow label.
    #[allow(clippy::cast_possible_truncation, reason = "offsets in a line")]
    const fn of_six(mut self, l3: usize) -> Self {
        const CLASS: usize = offset_of!(Key, nw_tos);
        const TTL: usize = offset_of!(Key, nw_ttl);
        const { assert!(CLASS % 8 == 5 && TTL == CLASS + 1) };
        let mut i = 0;
        while i < LINE_BYTES {
            self.shift[i] = (i % 8 * 8) as u8;
            i += 1;
        }
        // Its eight bits stand across two bytes in network order, which change places. The TTL gives way to the second, and is taken from the byte after.
        [self.from[CLASS], self.from[CLASS + 1], self.from[CLASS + 2]] = [l3 as u8 + 1, l3 as u8, self.from[TTL]];
        self.take[CLASS] = u8::MAX;
        self.shift[CLASS] += 4;
        self.shift[TTL] += 8;
        let mut i = 0;
        while i < 2 * size_of::<[u8; 16]>() {
            let to = offset_of!(Key, ipv6_src) - LINE_BYTES + i;
            (self.second_from[to], self.second_take[to]) = ((l3 + 8 + i) as u8, u8::MAX);
            i += 1;
        }
        // Twenty bits of the first word.
        const LABEL: [u8; 4] = IPV6_LABEL.to_be_bytes();
        let mut i = 0;
        while i < LABEL.len() {
            let to = offset_of!(Key, ipv6_label) - LINE_BYTES + i;
            (self.second_from[to], self.second_take[to]) = ((l3 + i) as u8, LABEL[i]);
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
}

/// Bits of the frame that tell a packet's kind, if it is of any: a tag's type from those of IP, IPv6 from IPv4 and TCP from UDP. Whether the rest is as it
/// should be the row says.
mod telling {
    use super::{TAG, eth_type, ip_proto};

    /// What stands where, from the first Ethernet type on.
    pub(super) const BEGIN: usize = 12;
    pub(super) const TAGGED: usize = 0;
    pub(super) const SIX: usize = 1;
    pub(super) const TCP6: usize = 8;
    pub(super) const TCP4: usize = 11;
    /// Of each byte the bit that tells. Bytes of a tagged packet stand `TAG` further.
    pub(super) const BITS: [u8; 16] = {
        let mut bits = [0; 16];
        bits[TAGGED] = 1;
        [bits[SIX], bits[SIX + TAG]] = [1, 1];
        [bits[TCP6], bits[TCP6 + TAG], bits[TCP4], bits[TCP4 + TAG]] = [2; 4];
        bits
    };

    const _: () = {
        let [four, six, tag] = [eth_type::IPV4.to_be_bytes(), eth_type::IPV6.to_be_bytes(), eth_type::VLAN.to_be_bytes()];
        assert!(four[0] & 1 == 0 && six[0] & 1 == 0 && tag[0] & 1 == 1);
        assert!(four[1] & 1 == 0 && six[1] & 1 == 1);
        assert!(ip_proto::UDP & 2 == 0 && ip_proto::TCP & 2 == 2);
    };
}

#[inline(always)]
fn half(head: &[u8; HEAD6], at: usize) -> u16 {
    debug_assert!(at + 2 <= HEAD6);
    // SAFETY: callers ask for what stands at fixed places, or where a kind's row says, which `kind` asserts to be inside.
    unsafe { head.as_ptr().wrapping_add(at).cast::<u16>().read_unaligned() }
}

/// No packet's head: it is not of the kind that its bits tell.
const NOTHING: &[u8; HEAD6] = &[0; HEAD6];

/// What is noted of each packet of a batch on the way, to be looked at for all of them at once.
struct Notes<'b> {
    heads: [&'b [u8; HEAD6]; BATCH],
    /// The bits of `telling`.
    telling: [u16; BATCH],
    /// As IP's header says it, in network order.
    lengths: [u16; BATCH],
    /// The byte with the length of TCP's header.
    offsets: [u8; BATCH],
    /// Words of the frame in which something is not as it should be.
    differs: [u8; BATCH],
}

/// The kinds of a batch's packets, a bit for each.
#[derive(Clone, Copy)]
struct Kinds {
    tagged: u32,
    six: u32,
    tcp: u32,
}

impl Kinds {
    /// Which packets are of kind `NUMBER`, of whatever follows the batch as well.
    #[inline(always)]
    fn of<const NUMBER: usize>(self) -> u32 {
        let is = |set: u32, bit: usize| if NUMBER & bit != 0 { set } else { !set };
        is(self.tagged, TAGGED) & is(self.six, SIX) & is(self.tcp, WITH_TCP)
    }
}

/// The truth tables of `a & b ^ c` and `a & b | c`.
const DIFFERENCE: i32 = 0x6a;
const TAKE: i32 = 0xea;

/// Makes the keys of common packets; a bit for each other one. `common` are words 4 and 5, apart from what is the packet's own; into `bytes` goes how long
/// each packet is.
///
/// # Safety
/// The processor is one that `wide::on` and `wide::lines` say yes of.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(crate) unsafe fn parse(bundle: &mut Bundle, common: [u64; 2], bytes: &mut [u32; BATCH]) -> u32 {
    let Bundle { packets, parsed, .. } = bundle;
    let all = all_of(packets.len());
    let mut notes = Notes::new();
    notes.look(packets, bytes);
    let kinds = notes.kinds();
    let common = _mm512_inserti64x2::<2>(_mm512_setzero_si512(), pair(common));
    let mut way = Way { notes: &mut notes, parsed, kinds, all, common };
    way.go::<0>();
    way.go::<{ WITH_TCP }>();
    way.go::<{ SIX }>();
    way.go::<{ SIX | WITH_TCP }>();
    way.go::<{ TAGGED }>();
    way.go::<{ TAGGED | WITH_TCP }>();
    way.go::<{ TAGGED | SIX }>();
    way.go::<{ TAGGED | SIX | WITH_TCP }>();
    let (others, pads) = notes.judge(kinds, bytes);
    let padded = _mm512_test_epi16_mask(pads, pads) & all & !others;
    if padded != 0 {
        let mut each = [0u16; BATCH];
        // SAFETY: the pads are one vector.
        unsafe { _mm512_storeu_si512(each.as_mut_ptr().cast(), pads) };
        bits(padded).for_each(|i| parsed[i].found.l2_pad = each[i]);
    }
    others & all
}

impl<'b> Notes<'b> {
    /// Of no packet. They are filled where they are: a copy would be read before what it is made of has been written.
    #[inline(always)]
    const fn new() -> Self {
        Self { heads: [NOTHING; BATCH], telling: [0; BATCH], lengths: [0; BATCH], offsets: [0; BATCH], differs: [0; BATCH] }
    }

    /// Goes over the packets for the first time.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl")]
    fn look(&mut self, packets: &'b [Packet], bytes: &mut [u32; BATCH]) {
        let Self { heads, telling, .. } = self;
        let telling_bits = vector(&telling::BITS);
        for (((packet, head), bytes), telling) in packets.iter().zip(heads).zip(bytes).zip(telling) {
            let frame = head6(packet).unwrap_or(NOTHING);
            *head = frame;
            #[allow(clippy::cast_possible_truncation, reason = "a frame is no longer than its buffer")]
            let length = packet.len() as u32;
            *bytes = length;
            let types = frame[telling::BEGIN..].first_chunk().expect("a head is longer");
            *telling = _mm_test_epi8_mask(vector(types), telling_bits);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    fn kinds(&self) -> Kinds {
        let telling = words(&self.telling);
        let has = |at: usize| _mm512_test_epi16_mask(telling, _mm512_set1_epi16(1i16 << at));
        let either = |which: u32, yes: u32, no: u32| which & yes | !which & no;
        let tagged = has(telling::TAGGED);
        // What is said at a place, which is another one behind a tag.
        let said = |at: usize| either(tagged, has(at + TAG), has(at));
        let six = said(telling::SIX);
        Kinds { tagged, six, tcp: either(six, said(telling::TCP6), said(telling::TCP4)) }
    }

    /// A bit for each packet that is not of its kind, of which too little is there, or whose lengths contradict each other; and how many bytes follow the
    /// end of each other one.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "headers are short")]
    fn judge(&self, Kinds { tagged, six, tcp }: Kinds, bytes: &[u32; BATCH]) -> (u32, __m512i) {
        const ETHERNET: usize = 14;
        let same = |n: usize| _mm512_set1_epi16(n as i16);
        let bytes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(narrow(&bytes[..16])), narrow(&bytes[16..]));
        let lengths = words(&self.lengths);
        let lengths = _mm512_or_si512(_mm512_slli_epi16::<8>(lengths), _mm512_srli_epi16::<8>(lengths));
        // What comes before what IP's length counts.
        let before = _mm512_mask_add_epi16(same(ETHERNET), tagged, same(ETHERNET), same(TAG));
        let before = _mm512_mask_add_epi16(before, six, before, same(IPV6));
        let total = _mm512_adds_epu16(before, lengths);
        // The least that IP may count, where a TCP header's own length counts all of it.
        let offsets = _mm512_srli_epi16::<2>(_mm512_cvtepu8_epi16(octets(&self.offsets)));
        let offsets = _mm512_maskz_mov_epi16(tcp, _mm512_and_si512(offsets, same(0x3c)));
        let least = _mm512_mask_add_epi16(offsets, !tcp, offsets, same(UDP));
        let least = _mm512_mask_add_epi16(least, !six, least, same(IPV4));
        let differs = octets(&self.differs);
        let others = _mm256_test_epi8_mask(differs, differs)
            | _mm512_cmpgt_epu16_mask(total, bytes)
            | _mm512_cmpeq_epi16_mask(bytes, same(usize::MAX))
            | _mm512_cmplt_epu16_mask(lengths, least)
            | _mm512_mask_cmplt_epu16_mask(tcp, offsets, same(TCP));
        (others, _mm512_sub_epi16(bytes, total))
    }
}

/// A batch's way through the kinds.
struct Way<'w, 'b> {
    notes: &'w mut Notes<'b>,
    parsed: &'w mut [Parsed; BATCH],
    kinds: Kinds,
    all: u32,
    /// Words 4 and 5 in their place in the first line.
    common: __m512i,
}

impl Way<'_, '_> {
    /// Makes the keys of the packets of kind `NUMBER`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn go<const NUMBER: usize>(&mut self) {
        let own = self.kinds.of::<NUMBER>() & self.all;
        if own == 0 {
            return;
        }
        let row = Row::<NUMBER>::of(&KINDS[NUMBER], self.common);
        if own == u32::MAX {
            (0..BATCH).for_each(|i| row.parse(self.notes, i, self.parsed));
        } else {
            bits(own).for_each(|i| row.parse(self.notes, i, self.parsed));
        }
    }
}

/// A kind in registers: fetching the row for each packet takes longer than all else.
#[derive(Clone, Copy)]
struct Row<const NUMBER: usize> {
    kind: &'static Kind,
    from: __m512i,
    take: __m512i,
    add: __m512i,
    same: __m512i,
    care: __m512i,
    tail: __m128i,
}

impl<const NUMBER: usize> Row<NUMBER> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn of(kind: &'static Kind, common: __m512i) -> Self {
        Self {
            kind,
            from: line(&kind.from),
            take: line(&kind.take),
            add: _mm512_or_si512(line(&kind.add), common),
            same: line(&kind.same),
            care: line(&kind.care),
            tail: pair(kind.tail),
        }
    }

    /// Makes the key of packet `i`, which is of this kind or of none, and notes what tells.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn parse(self, notes: &mut Notes<'_>, i: usize, parsed: &mut [Parsed; BATCH]) {
        /// TCP's flags, of the line's words.
        const FLAGS: u32 = 1 << (offset_of!(Key, tcp_flags) / 2);
        let (kind, head, parsed) = (self.kind, notes.heads[i], &mut parsed[i]);
        // SAFETY: the head is longer than a line.
        let frame = unsafe { _mm512_loadu_si512(head.as_ptr().cast()) };
        let mut own = _mm512_permutexvar_epi8(self.from, frame);
        if NUMBER & SIX != 0 {
            own = _mm512_multishift_epi64_epi8(line(&kind.shift), own);
            let second = _mm512_and_si512(_mm512_permutexvar_epi8(line(&kind.second_from), frame), line(&kind.second_take));
            let to = parsed.key.words_mut()[LINE_BYTES / 8..].as_mut_ptr().cast();
            // SAFETY: a key is longer than two lines.
            unsafe { _mm512_storeu_si512(to, second) };
        }
        if NUMBER & WITH_TCP != 0 {
            let offset_flags = half(head, kind.offset_at);
            [notes.offsets[i], _] = offset_flags.to_ne_bytes();
            if NUMBER & SIX != 0 {
                // They stand behind the frame's first line.
                own = _mm512_mask_set1_epi16(own, FLAGS, offset_flags.cast_signed());
            }
        }
        let line = _mm512_ternarylogic_epi64::<TAKE>(own, self.take, self.add);
        // SAFETY: a key is longer than a line.
        unsafe { _mm512_storeu_si512(parsed.key.words_mut().as_mut_ptr().cast(), line) };
        let difference = _mm512_ternarylogic_epi64::<DIFFERENCE>(frame, self.care, self.same);
        notes.differs[i] = _mm512_test_epi64_mask(difference, difference);
        notes.lengths[i] = half(head, kind.length_at);
        let tail = std::ptr::from_mut(parsed).wrapping_byte_add(offset_of!(Parsed, found)).cast();
        // SAFETY: both words lie inside of `parsed` (`tail` asserts it).
        unsafe { _mm_storeu_si128(tail, self.tail) };
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pair([low, high]: [u64; 2]) -> __m128i {
    _mm_set_epi64x(high.cast_signed(), low.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn line(line: &[u8; LINE_BYTES]) -> __m512i {
    // SAFETY: a line is a vector.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(words: &[u16; BATCH]) -> __m512i {
    // SAFETY: so many words are a vector.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn octets(octets: &[u8; BATCH]) -> __m256i {
    // SAFETY: so many bytes are a vector.
    unsafe { _mm256_loadu_si256(octets.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn vector(octets: &[u8; 16]) -> __m128i {
    // SAFETY: so many bytes are a vector.
    unsafe { _mm_loadu_si128(octets.as_ptr().cast()) }
}

/// Half a batch's numbers in 16 bits each; larger ones become the largest.
#[inline]
#[target_feature(enable = "avx512f")]
fn narrow(numbers: &[u32]) -> __m256i {
    let numbers: &[u32; BATCH / 2] = numbers.first_chunk().expect("half a batch");
    // SAFETY: so many numbers are a vector.
    _mm512_cvtusepi32_epi16(unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) })
}
