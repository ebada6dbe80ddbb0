//! The keys of a batch as it comes from a port.
//!
//! What enters: frames, and what all of them have in common (`Arrival`). What leaves: keys. Neighbours: `forward` (the caller),
//! `flow::extract` (whose results these are).
//!
//! The plain form is extraction itself, packet by packet. The wide form takes TCP and UDP over IPv4, with one VLAN tag or none, in vectors: addresses, ports,
//! protocol and TTL stand within sixteen bytes of the frame, and one permutation puts them where the key has them. What is
//! unusual about a packet is found by arithmetic, and remembered as a bit: such packets, and all others, go through extraction when the batch
//! has been gone through, so that no branch has to be guessed from packet to packet.

use crate::bundle::Bundle;
use flow::extract::Arrival;

/// Bytes of the shortest frame that is one.
pub(crate) const FRAME_MIN: usize = 14;

/// Extracts the keys; whether there is a packet shorter than any frame. `wide` only where `wide::on` says so.
#[inline]
pub(crate) fn parse(bundle: &mut Bundle, arrival: &Arrival<'_>, wide: bool) -> bool {
    #[cfg(target_arch = "x86_64")]
    if wide && let Some(common) = arrival.plain_words() {
        // SAFETY: the caller says that the processor has these features.
        return unsafe { vector::parse(bundle, arrival, common) };
    }
    parse_plain(bundle, arrival)
}

fn parse_plain(bundle: &mut Bundle, arrival: &Arrival<'_>) -> bool {
    let mut short = false;
    for (packet, parsed) in bundle.packets.iter().zip(&mut bundle.parsed) {
        short |= packet.len() < FRAME_MIN;
        parsed.arrive(packet.data(), arrival);
    }
    short
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::FRAME_MIN;
    use crate::bundle::Bundle;
    use crate::parsed::Parsed;
    use crate::search::bits;
    use flow::extract::{Arrival, Extracted, NO_OFFSET, NetworkLayer};
    use flow::key::{Lines, VLAN_CFI};
    use flow::wire::{eth_type, ip_proto};
    use std::arch::x86_64::{
        __m128i, _mm_cvtsi32_si128, _mm_insert_epi8, _mm_insert_epi32, _mm_loadu_si128, _mm_or_si128, _mm_set_epi64x,
        _mm_setr_epi8, _mm_setzero_si128, _mm_shuffle_epi8, _mm_storeu_si128,
    };

    /// What is looked at of a frame; shorter ones are not common. The least frame of Ethernet, without FCS, is just long enough.
    const HEAD: usize = 60;
    const TAG: usize = 4;
    const IPV4: usize = 20;
    const UDP: usize = 8;
    const TCP: usize = 20;
    const TPID_LE: u16 = eth_type::VLAN.swap_bytes();
    const IPV4_LE: u16 = eth_type::IPV4.swap_bytes();
    const CFI_LE: u16 = VLAN_CFI.swap_bytes();
    /// Version and length, then fragment bits and offset, in the first eight bytes of an IPv4 header: those that are to be as in `USUAL`.
    const LOOKED_AT: u64 = 0xff3f_0000_0000_000f;
    /// Five words, and no fragment.
    const USUAL: u64 = 5;

    /// What is the same for all untagged and all tagged packets.
    const FOUND: [Extracted; 2] = [found(14), found(18)];

    const fn found(l3: u16) -> Extracted {
        let (network, transport) = (NetworkLayer::Ipv4, ip_proto::UDP);
        Extracted { lines: Lines(1), l2_5: NO_OFFSET, l3, l4: l3 + 20, l2_pad: 0, network, transport }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    #[allow(clippy::cast_possible_wrap, reason = "bits, not numbers")]
    pub(super) fn parse(bundle: &mut Bundle, arrival: &Arrival<'_>, common: [u64; 2]) -> bool {
        let common = _mm_set_epi64x(common[1] as i64, common[0] as i64);
        let (mut short, mut others) = (false, 0u32);
        for (i, (packet, parsed)) in bundle.packets.iter().zip(&mut bundle.parsed).enumerate() {
            short |= packet.len() < FRAME_MIN;
            others |= u32::from(!ipv4(packet.data(), common, parsed)) << i;
            parsed.conn = 0;
        }
        for i in bits(others) {
            other(bundle.packets[i].data(), arrival, &mut bundle.parsed[i]);
        }
        short
    }

    /// Any other packet. On its own, so that what it takes of registers and code is not taken from common packets.
    #[inline(never)]
    fn other(frame: &[u8], arrival: &Arrival<'_>, parsed: &mut Parsed) {
        parsed.arrive(frame, arrival);
    }

    /// The place of byte `AT` of an untagged frame's head, of which `N` bytes are read: four further in a tagged one.
    #[inline(always)]
    fn place<const AT: usize, const N: usize>(head: &[u8; HEAD], tagged: bool) -> *const u8 {
        const { assert!(AT + TAG + N <= HEAD) };
        head.as_ptr().wrapping_add(AT + usize::from(tagged) * TAG)
    }

    #[inline(always)]
    fn half<const AT: usize>(head: &[u8; HEAD], tagged: bool) -> u16 {
        // SAFETY: `place` is inside the head.
        unsafe { place::<AT, 2>(head, tagged).cast::<u16>().read_unaligned() }
    }

    #[inline(always)]
    fn word<const AT: usize>(head: &[u8; HEAD], tagged: bool) -> u64 {
        // SAFETY: `place` is inside the head.
        unsafe { place::<AT, 8>(head, tagged).cast::<u64>().read_unaligned() }
    }

    #[inline(always)]
    fn vector<const AT: usize>(head: &[u8; HEAD], tagged: bool) -> __m128i {
        // SAFETY: `place` is inside the head.
        unsafe { _mm_loadu_si128(place::<AT, 16>(head, tagged).cast()) }
    }

    /// The key of a common packet; false if it is none, and the key is of no use then.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[allow(clippy::cast_possible_truncation, reason = "parts of words, and lengths that were compared")]
    #[allow(clippy::cast_possible_wrap, reason = "bits, not numbers")]
    fn ipv4(frame: &[u8], common: __m128i, parsed: &mut Parsed) -> bool {
        let Some(head) = frame.first_chunk::<HEAD>() else {
            return false;
        };
        let tagged = half::<12>(head, false) == TPID_LE;
        let ip = word::<14>(head, tagged);
        let proto = (half::<22>(head, tagged) >> 8) as u8;
        let offset_flags = half::<46>(head, tagged);
        let tcp = proto == ip_proto::TCP;
        let tcp_bytes = usize::from(offset_flags >> 4 & 15) * 4;
        let if_tcp = usize::from(tcp).wrapping_neg();
        let least = tcp_bytes & if_tcp | UDP & !if_tcp;
        let total = usize::from(((ip >> 16) as u16).swap_bytes());
        let l3 = 14 + usize::from(tagged) * TAG;
        let pad = frame.len().wrapping_sub(l3 + total);
        let usual = (ip & LOOKED_AT == USUAL) & (half::<12>(head, tagged) == IPV4_LE);
        let transport = (tcp & (tcp_bytes >= TCP)) | (proto == ip_proto::UDP);
        // A total beyond the frame makes a pad larger than any frame.
        let fits = (total >= IPV4 + least) & (pad <= usize::from(u16::MAX)) & (frame.len() <= usize::from(u16::MAX));
        // Masks where an `if` would become a branch, which mixed traffic mispredicts.
        let if_tagged = u32::from(tagged).wrapping_neg();
        let tci = u32::from(half::<14>(head, false) | CFI_LE) << 16 & if_tagged;
        let flags = u32::from(offset_flags & 0xff0f) & u32::from(tcp).wrapping_neg();
        let tpid = u32::from(TPID_LE) << 16 & if_tagged;
        // SAFETY: the head has more than sixteen bytes.
        let addresses = unsafe { _mm_loadu_si128(head.as_ptr().cast()) };
        let ethernet = _mm_insert_epi32::<3>(addresses, (u32::from(IPV4_LE) | tci) as i32);
        // From the TTL on: TTL, protocol, checksum, addresses, ports.
        let order = _mm_setr_epi8(4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, -1, 0, -1);
        let network = _mm_shuffle_epi8(vector::<22>(head, tagged), order);
        let network = _mm_insert_epi8::<13>(network, i32::from((ip >> 8) as u8));
        let meta = _mm_or_si128(common, _mm_cvtsi32_si128((flags | tpid) as i32));
        let to = parsed.key.words_mut().as_mut_ptr().cast::<__m128i>();
        for (i, part) in [ethernet, network, meta, _mm_setzero_si128()].into_iter().enumerate() {
            // SAFETY: a key is longer than four vectors.
            unsafe { _mm_storeu_si128(to.wrapping_add(i), part) };
        }
        parsed.found = FOUND[usize::from(tagged)];
        parsed.found.l2_pad = pad as u16;
        parsed.found.transport = proto;
        usual & transport & fits
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

    /// Frames in batches through both forms: the same keys, offsets, and verdict.
    #[test]
    fn both_forms_make_the_same_keys() {
        if !crate::wide::on() {
            return;
        }
        let mut random = PacketGen::new(23);
        let mut frame = Vec::new();
        let (mut common, mut tagged, mut tcp) = (0, 0, 0);
        for round in 0..4_000 {
            let mut twins = [Bundle::new(), Bundle::new()];
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
            let [plain, wide] = &mut twins;
            assert_eq!(parse(plain, &arrival, false), parse(wide, &arrival, true));
            for (i, (a, b)) in plain.parsed.iter().zip(&wide.parsed).enumerate().take(plain.packets.len()) {
                let data = plain.packets[i].data();
                assert_eq!((a.found, a.conn), (b.found, b.conn), "{data:x?}");
                assert_eq!(a.key.words(), b.key.words(), "{data:x?}");
                let ours = data.len() >= 60 && a.key.eth_type == [8, 0] && [6, 17].contains(&a.found.transport);
                common += usize::from(ours);
                tagged += usize::from(ours && a.key.vlan_tpid == [0x81, 0]);
                tcp += usize::from(ours && a.found.transport == 6);
            }
        }
        assert!(common > 2_000 && tagged > 100 && tcp > 100, "{common} {tagged} {tcp}");
    }
}
