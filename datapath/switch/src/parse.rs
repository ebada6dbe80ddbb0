//! The keys of a batch as it comes from a port.
//!
//! What enters: frames, and what all of them have in common (`Arrival`). What leaves: keys. Neighbours: `forward` (the caller),
//! `flow::extract` (whose results these are).
//!
//! The plain form is extraction itself, packet by packet. The wide form takes TCP and UDP over IPv4 and IPv6, with one VLAN tag or none, in vectors: over
//! IPv4 addresses, ports, protocol and TTL stand within sixteen bytes of the frame, and one permutation puts them where the key has them; over IPv6 both
//! addresses are one vector. What is unusual about a packet is found by arithmetic, and remembered as a bit: such packets, and all others, go through
//! extraction when the batch has been gone through, so that no branch has to be guessed from packet to packet.
//!
//! Where the processor has vectors of a whole line all that is in a loop of its own (`parse_line`), in which no packet is dearer than another.
//!
//! Elsewhere a batch is taken for one over the version of IP that the last one was all of (`Habit`), and is sorted by version before only where both come: others
//! do not pay for the look.

use crate::bundle::Bundle;
use crate::classifier::BATCH;
use flow::extract::Arrival;

/// Bytes of the shortest frame that is one.
pub(crate) const FRAME_MIN: usize = 14;

/// What the last batch was like, as far as that makes the next one's parsing faster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Habit {
    /// All were common over IPv4.
    #[default]
    Four,
    /// All were common over IPv6.
    Six,
    /// Some may have been over either.
    Mixed,
}

/// What a thread keeps for one kind of arrival.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    habit: Habit,
    /// How long the packets of the last batch were (`Looked::measured`).
    pub(crate) lengths: [u32; BATCH],
}

/// What was learned of a batch besides its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// There is a packet shorter than any frame.
    pub(crate) short: bool,
    /// How long the packets are stands in `Parser::lengths`.
    pub(crate) measured: bool,
}

/// Extracts the keys, and writes down how long packets are where that costs nothing. `wide` only where `wide::on` says so.
#[inline]
pub(crate) fn parse(bundle: &mut Bundle, arrival: &Arrival<'_>, wide: bool, parser: &mut Parser) -> Looked {
    #[cfg(target_arch = "x86_64")]
    if wide && let Some(common) = arrival.plain_words() {
        let measured = crate::wide::lines();
        let others = if measured {
            // SAFETY: the processor has these features.
            unsafe { crate::parse_line::parse(bundle, common, &mut parser.lengths) }
        } else {
            // SAFETY: the caller says that the processor has these features.
            unsafe { vector::parse(bundle, common, &mut parser.habit) }
        };
        return Looked { short: parse_others(bundle, arrival, others), measured };
    }
    let _ = parser;
    Looked { short: parse_plain(bundle, arrival), measured: false }
}

fn parse_plain(bundle: &mut Bundle, arrival: &Arrival<'_>) -> bool {
    let mut short = false;
    for (packet, parsed) in bundle.packets.iter().zip(&mut bundle.parsed) {
        short |= packet.len() < FRAME_MIN;
        parsed.arrive(packet.data(), arrival);
    }
    short
}

/// The packets of the set by extraction; whether one of them is shorter than any frame.
#[cfg(target_arch = "x86_64")]
#[inline]
fn parse_others(bundle: &mut Bundle, arrival: &Arrival<'_>, others: u32) -> bool {
    let mut short = false;
    for i in crate::search::bits(others) {
        short |= bundle.packets[i].len() < FRAME_MIN;
        other(bundle.packets[i].data(), arrival, &mut bundle.parsed[i]);
    }
    short
}

/// On its own, so that what it takes of registers and code is not taken from common packets.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn other(frame: &[u8], arrival: &Arrival<'_>, parsed: &mut crate::parsed::Parsed) {
    parsed.arrive(frame, arrival);
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod vector {
    use super::Habit;
    use crate::bundle::Bundle;
    use crate::parsed::Parsed;
    use crate::search::{all_of, bits};
    use flow::extract::{Extracted, NO_OFFSET, NetworkLayer};
    use flow::key::{Lines, VLAN_CFI};
    use flow::wire::{eth_type, ip_proto};
    use port::Packet;
    use port::pool::SMALL_CHUNK;
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_cvtsi32_si128, _mm_insert_epi8, _mm_insert_epi32, _mm_loadu_si128, _mm_or_si128, _mm_set_epi64x,
        _mm_setr_epi8, _mm_setzero_si128, _mm_shuffle_epi8, _mm_storeu_si128, _mm256_loadu_si256, _mm256_set_epi64x,
        _mm256_storeu_si256,
    };

    /// What is looked at of a frame; shorter ones are not common. The least frame of Ethernet, without FCS, is just long enough.
    const HEAD: usize = 60;
    /// The same of a frame with a packet over IPv6. It may be longer than the frame is, whose buffer goes on.
    pub(crate) const HEAD6: usize = 72;
    const TAG: usize = 4;
    /// Bytes up to the second Ethernet type.
    const TYPES: usize = 12 + TAG + 2;
    const IPV4: usize = 20;
    const UDP: usize = 8;
    const TCP: usize = 20;
    const TPID_LE: u16 = eth_type::VLAN.swap_bytes();
    const IPV4_LE: u16 = eth_type::IPV4.swap_bytes();
    const IPV6_LE: u16 = eth_type::IPV6.swap_bytes();
    const CFI_LE: u16 = VLAN_CFI.swap_bytes();
    /// Version and length, then fragment bits and offset, in the first eight bytes of an IPv4 header: those that are to be as in `USUAL`.
    const LOOKED_AT: u64 = 0xff3f_0000_0000_000f;
    /// Five words, and no fragment.
    const USUAL: u64 = 5;

    /// What is the same for all untagged and all tagged packets.
    const FOUND: [Extracted; 2] = [found(14), found(18)];
    const FOUND6: [Extracted; 2] = [found6(14), found6(18)];

    const fn found(l3: u16) -> Extracted {
        let (network, transport) = (NetworkLayer::Ipv4, ip_proto::UDP);
        Extracted { lines: Lines(1), l2_5: NO_OFFSET, l3, l4: l3 + 20, l2_pad: 0, network, transport }
    }

    const fn found6(l3: u16) -> Extracted {
        Extracted { lines: Lines(3), l4: l3 + 40, network: NetworkLayer::Ipv6, ..found(l3) }
    }

    /// Makes the keys of common packets; a bit for each other one.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn parse(bundle: &mut Bundle, common: [u64; 2], habit: &mut Habit) -> u32 {
        let n = bundle.packets.len();
        let all = all_of(n);
        let six = match *habit {
            Habit::Four => 0,
            Habit::Six => all,
            Habit::Mixed => over_ipv6(&bundle.packets),
        };
        let mut others = 0u32;
        if six == 0 {
            for (i, (packet, parsed)) in bundle.packets.iter().zip(&mut bundle.parsed).enumerate() {
                others |= u32::from(!ipv4(packet.data(), common, parsed)) << i;
                parsed.conn = 0;
            }
        } else if six == all {
            for (i, (packet, parsed)) in bundle.packets.iter().zip(&mut bundle.parsed).enumerate() {
                others |= u32::from(!ipv6(packet, common, parsed)) << i;
                parsed.conn = 0;
            }
        } else {
            for i in bits(!six & all) {
                let (packet, parsed) = (&bundle.packets[i], &mut bundle.parsed[i]);
                others |= u32::from(!ipv4(packet.data(), common, parsed)) << i;
                parsed.conn = 0;
            }
            for i in bits(six) {
                let (packet, parsed) = (&bundle.packets[i], &mut bundle.parsed[i]);
                others |= u32::from(!ipv6(packet, common, parsed)) << i;
                parsed.conn = 0;
            }
        }
        *habit = match *habit {
            Habit::Four | Habit::Six if others != 0 => Habit::Mixed,
            Habit::Mixed if six == 0 => Habit::Four,
            Habit::Mixed if six == all => Habit::Six,
            same @ (Habit::Four | Habit::Six | Habit::Mixed) => same,
        };
        others
    }

    /// Which packets are ones over IPv6: a bit for each whose frame says so.
    #[inline(always)]
    fn over_ipv6(packets: &[Packet]) -> u32 {
        let mut six = 0u32;
        for (i, packet) in packets.iter().enumerate() {
            if packet.len() < TYPES {
                continue;
            }
            // SAFETY: the frame is that long.
            let head = unsafe { &*packet.as_ptr().cast_const().cast::<[u8; TYPES]>() };
            let tagged = half::<12, _>(head, false) == TPID_LE;
            six |= u32::from(half::<12, _>(head, tagged) == IPV6_LE) << i;
        }
        six
    }

    /// The first bytes of a packet's buffer from where its frame begins, beyond whose end they are whatever they are; `None` at a buffer's end.
    #[inline(always)]
    pub(crate) fn head6(packet: &Packet) -> Option<&[u8; HEAD6]> {
        // The smallest buffer's end, of whatever class the packet's is: one comparison.
        if packet.headroom() > SMALL_CHUNK - HEAD6 {
            return None;
        }
        // SAFETY: the packet owns its buffer, in which so many bytes follow, and whose memory is initialised.
        Some(unsafe { &*packet.as_ptr().cast_const().cast() })
    }

    /// The place of byte `AT` of an untagged frame's head, of which `N` bytes are read: four further in a tagged one.
    #[inline(always)]
    fn place<const AT: usize, const N: usize, const LEN: usize>(head: &[u8; LEN], tagged: bool) -> *const u8 {
        const { assert!(AT + TAG + N <= LEN) };
        head.as_ptr().wrapping_add(AT + usize::from(tagged) * TAG)
    }

    #[inline(always)]
    fn half<const AT: usize, const LEN: usize>(head: &[u8; LEN], tagged: bool) -> u16 {
        // SAFETY: `place` is inside the head.
        unsafe { place::<AT, 2, LEN>(head, tagged).cast::<u16>().read_unaligned() }
    }

    #[inline(always)]
    fn word<const AT: usize, const LEN: usize>(head: &[u8; LEN], tagged: bool) -> u64 {
        // SAFETY: `place` is inside the head.
        unsafe { place::<AT, 8, LEN>(head, tagged).cast::<u64>().read_unaligned() }
    }

    #[inline(always)]
    fn vector<const AT: usize, const LEN: usize>(head: &[u8; LEN], tagged: bool) -> __m128i {
        // SAFETY: `place` is inside the head.
        unsafe { _mm_loadu_si128(place::<AT, 16, LEN>(head, tagged).cast()) }
    }

    /// What TCP and UDP differ in.
    struct Transport {
        /// Bytes of the header.
        least: usize,
        /// TCP's flags, in their place in word 4 of the key.
        flags: u32,
        /// It is TCP with a possible header length, or UDP.
        is_sound: bool,
    }

    impl Transport {
        /// `offset_flags` are those of TCP's header, whatever stands there.
        #[inline(always)]
        fn of(proto: u8, offset_flags: u16) -> Self {
            let tcp = proto == ip_proto::TCP;
            let tcp_bytes = usize::from(offset_flags >> 4 & 15) * 4;
            // Masks where an `if` would become a branch, which mixed traffic mispredicts.
            let if_tcp = usize::from(tcp).wrapping_neg();
            Self {
                least: tcp_bytes & if_tcp | UDP & !if_tcp,
                flags: u32::from(offset_flags & 0xff0f) & u32::from(tcp).wrapping_neg(),
                is_sound: (tcp & (tcp_bytes >= TCP)) | (proto == ip_proto::UDP),
            }
        }
    }

    /// Words 0 and 1 of the key: addresses, Ethernet type and tag; words 4 and 5: what the batch has in common, TCP's flags and the tag's type.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[allow(clippy::cast_possible_wrap, reason = "bits, not numbers")]
    fn ends<const LEN: usize>(head: &[u8; LEN], tagged: bool, ty: u16, flags: u32, common: [u64; 2]) -> [__m128i; 2] {
        let common = _mm_set_epi64x(common[1] as i64, common[0] as i64);
        let if_tagged = u32::from(tagged).wrapping_neg();
        let tci = u32::from(half::<14, _>(head, false) | CFI_LE) << 16 & if_tagged;
        let tpid = u32::from(TPID_LE) << 16 & if_tagged;
        let addresses = vector::<0, _>(head, false);
        let ethernet = _mm_insert_epi32::<3>(addresses, (u32::from(ty) | tci) as i32);
        [ethernet, _mm_or_si128(common, _mm_cvtsi32_si128((flags | tpid) as i32))]
    }

    /// Writes the first line of a key.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn write_line(parsed: &mut Parsed, [ethernet, meta]: [__m128i; 2], network: __m128i) {
        let to = parsed.key.words_mut().as_mut_ptr().cast::<__m128i>();
        for (i, part) in [ethernet, network, meta, _mm_setzero_si128()].into_iter().enumerate() {
            // SAFETY: a key is longer than four vectors.
            unsafe { _mm_storeu_si128(to.wrapping_add(i), part) };
        }
    }

    /// The first line of a key over IPv4.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn write_ipv4(head: &[u8; HEAD], tagged: bool, flags: u32, common: [u64; 2], parsed: &mut Parsed) {
        // From the TTL on: TTL, protocol, checksum, addresses, ports.
        let order = _mm_setr_epi8(4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, -1, 0, -1);
        let network = _mm_shuffle_epi8(vector::<22, _>(head, tagged), order);
        let network = _mm_insert_epi8::<13>(network, i32::from(half::<14, _>(head, tagged) >> 8));
        write_line(parsed, ends(head, tagged, IPV4_LE, flags, common), network);
    }

    /// The same over IPv6, without the traffic class.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[allow(clippy::cast_possible_wrap, reason = "bits, not numbers")]
    fn write_ipv6(head: &[u8; HEAD6], tagged: bool, flags: u32, common: [u64; 2], parsed: &mut Parsed) {
        let (proto, ttl) = (u64::from(half::<20, _>(head, tagged) & 0xff), u64::from(half::<20, _>(head, tagged) >> 8));
        let ports = word::<54, _>(head, tagged) & 0xffff_ffff;
        let network = _mm_set_epi64x((ports | proto << 32 | ttl << 48) as i64, 0);
        write_line(parsed, ends(head, tagged, IPV6_LE, flags, common), network);
    }

    /// The second line of a key over IPv6, addresses and flow label, and the traffic class.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "bits, not numbers")]
    fn write_second_line(head: &[u8; HEAD6], tagged: bool, parsed: &mut Parsed) {
        // The low bits of the flow label's word, as it stands in the frame: twenty bits in network order.
        const LABEL: u64 = 0xffff_0f00;
        // SAFETY: `place` is inside the head.
        let addresses = unsafe { _mm256_loadu_si256(place::<22, 32, _>(head, tagged).cast()) };
        let to = parsed.key.words_mut().as_mut_ptr().cast::<__m256i>().wrapping_add(2);
        let label = _mm256_set_epi64x(0, 0, 0, (word::<14, _>(head, tagged) & LABEL) as i64);
        for (i, part) in [addresses, label].into_iter().enumerate() {
            // SAFETY: a key is longer than four vectors of this size.
            unsafe { _mm256_storeu_si256(to.wrapping_add(i), part) };
        }
        parsed.key.nw_tos = (half::<14, _>(head, tagged).swap_bytes() >> 4) as u8;
    }

    /// The key of a common packet; false if it is none, and the key is of no use then.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "parts of words, and lengths that were compared")]
    fn ipv4(frame: &[u8], common: [u64; 2], parsed: &mut Parsed) -> bool {
        let Some(head) = frame.first_chunk::<HEAD>() else {
            return false;
        };
        let tagged = half::<12, _>(head, false) == TPID_LE;
        let ip = word::<14, _>(head, tagged);
        let proto = (half::<22, _>(head, tagged) >> 8) as u8;
        let transport = Transport::of(proto, half::<46, _>(head, tagged));
        let total = usize::from(((ip >> 16) as u16).swap_bytes());
        let l3 = 14 + usize::from(tagged) * TAG;
        let pad = frame.len().wrapping_sub(l3 + total);
        let usual = (ip & LOOKED_AT == USUAL) & (half::<12, _>(head, tagged) == IPV4_LE);
        // A total beyond the frame makes a pad larger than any frame.
        let fits = (total >= IPV4 + transport.least) & ((pad | frame.len()) <= usize::from(u16::MAX));
        // SAFETY: the caller has the features.
        unsafe { write_ipv4(head, tagged, transport.flags, common, parsed) };
        parsed.found = Extracted { l2_pad: pad as u16, transport: proto, ..FOUND[usize::from(tagged)] };
        usual & transport.is_sound & fits
    }

    /// The same of a packet over IPv6.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "parts of words, and lengths that were compared")]
    fn ipv6(packet: &Packet, common: [u64; 2], parsed: &mut Parsed) -> bool {
        let Some(head) = head6(packet) else {
            return false;
        };
        let tagged = half::<12, _>(head, false) == TPID_LE;
        let ip = word::<14, _>(head, tagged);
        let proto = (ip >> 48) as u8;
        // Of a shorter packet they are not TCP's flags, and it is no sound TCP packet then.
        let transport = Transport::of(proto, half::<66, _>(head, tagged));
        let payload = usize::from(((ip >> 32) as u16).swap_bytes());
        let l4 = 54 + usize::from(tagged) * TAG;
        let pad = packet.len().wrapping_sub(l4 + payload);
        let fits = (payload >= transport.least) & ((pad | packet.len()) <= usize::from(u16::MAX));
        // SAFETY: the caller has the features.
        unsafe { write_ipv6(head, tagged, transport.flags, common, parsed) };
        // SAFETY: the caller has the features.
        unsafe { write_second_line(head, tagged, parsed) };
        parsed.found = Extracted { l2_pad: pad as u16, transport: proto, ..FOUND6[usize::from(tagged)] };
        // As long as its headers say, the packet is a whole frame.
        fits & transport.is_sound & (half::<12, _>(head, tagged) == IPV6_LE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parsed::Parsed;
    use flow::DpPort;
    use flow::extract::PacketMeta;
    use flow::extract_gen::PacketGen;
    use port::Packet;

    /// Keys by vectors, by those of whole lines or by others; these write down how long packets are, too.
    #[cfg(target_arch = "x86_64")]
    fn by_vectors(bundle: &mut Bundle, common: [u64; 2], habit: &mut Habit, by_lines: bool) -> u32 {
        if !by_lines {
            // SAFETY: `wide::on` says that the processor has these features.
            return unsafe { vector::parse(bundle, common, habit) };
        }
        let mut lengths = [0; BATCH];
        // SAFETY: `wide::on` and `wide::lines` say that the processor has these features.
        let others = unsafe { crate::parse_line::parse(bundle, common, &mut lengths) };
        assert!(bundle.packets.iter().zip(lengths).all(|(packet, length)| packet.len() == length as usize));
        others
    }

    /// Frames in batches through all forms: the same keys, offsets, and verdict.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn all_forms_make_the_same_keys() {
        if !crate::wide::on() {
            return;
        }
        let mut random = PacketGen::new(23);
        let mut frame = Vec::new();
        let (mut common, mut tagged, mut tcp, mut six) = (0, 0, 0, [0; 3]);
        // By itself, and begun with each; and all that by whole lines, where the processor has them.
        let mut habits = [Habit::default(); 2];
        for round in 0..4_000 {
            let mut twins: [_; 9] = std::array::from_fn(|_| Bundle::new());
            for _ in 0..1 + random.below(crate::bundle::BUNDLE_MAX) {
                random.sound_packet(&mut frame);
                match random.below(8) {
                    0 => frame.truncate(random.below(frame.len() + 1)),
                    1 if !frame.is_empty() => {
                        let at = random.below(frame.len().min(64));
                        frame[at] ^= 1 << random.below(8);
                    }
                    2..6 => frame.resize(frame.len().max(60), 0xa5),
                    _ => {}
                }
                for twin in &mut twins {
                    twin.packets.push(Packet::from_bytes(&frame).unwrap()).unwrap();
                }
            }
            for parsed in twins.iter_mut().flat_map(|twin| &mut twin.parsed) {
                *parsed = Parsed::new();
                parsed.key.words_mut().fill(u64::MAX);
                parsed.conn = 7;
            }
            let meta = PacketMeta { in_port: DpPort(round), recirc_id: 0x1234, dp_hash: 0x99, ..PacketMeta::default() };
            let arrival = Arrival::new(meta);
            let [plain, wide @ ..] = &mut twins;
            let looked = parse(plain, &arrival, false, &mut Parser::default());
            assert!(!looked.measured);
            let words = arrival.plain_words().unwrap();
            for (number, wide) in wide.iter_mut().enumerate() {
                let by_lines = number % 2 != 0;
                let mut begun = [habits[number % 2], Habit::Four, Habit::Six, Habit::Mixed][number / 2];
                let others = by_vectors(wide, words, &mut begun, by_lines && crate::wide::lines());
                assert_eq!(parse_others(wide, &arrival, others), looked.short);
                if number < 2 {
                    habits[number] = begun;
                }
                for (i, (a, b)) in plain.parsed.iter().zip(&wide.parsed).enumerate().take(plain.packets.len()) {
                    let data = plain.packets[i].data();
                    assert_eq!((a.found, a.conn), (b.found, b.conn), "{data:x?}");
                    // Lines that the packet does not use are as the attempt to take it for a common one left them.
                    let words = usize::from(a.found.lines.0 & 1) * 8 + usize::from(a.found.lines.0 >> 1 & 1) * 8;
                    assert_eq!(a.key.words()[..words], b.key.words()[..words], "{data:x?}");
                    assert_eq!(a.key.words()[16..], b.key.words()[16..], "{data:x?}");
                }
            }
            for (parsed, packet) in plain.parsed.iter().zip(plain.packets.iter()) {
                let found = parsed.found.transport;
                let known = packet.len() >= 60 && [6, 17].contains(&found);
                let is_tagged = parsed.key.vlan_tpid == [0x81, 0];
                let ours = known && parsed.key.eth_type == [8, 0];
                common += usize::from(ours);
                tagged += usize::from(ours && is_tagged);
                tcp += usize::from(ours && found == 6);
                let ours6 = known && parsed.found.lines == flow::key::Lines(3) && parsed.key.eth_type == [0x86, 0xdd];
                for (count, kind) in six.iter_mut().zip([true, is_tagged, found == 6]) {
                    *count += usize::from(ours6 && kind);
                }
            }
        }
        assert!(common > 2_000 && tagged > 100 && tcp > 100, "{common} {tagged} {tcp}");
        assert!(six.iter().all(|n| *n > 100), "{six:?}");
    }
}
