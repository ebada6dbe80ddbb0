//! The shortest way through `ct`: packets of UDP and TCP, of connections that are established, under the default timeouts.
//!
//! What enters: a batch. What leaves: bits for the packets that are of UDP or TCP, whole and not tracked before, with what they are looked up by
//! and where their connections probably are (`seek_short`); later the same packets tracked, but for those that have anything that few have (`pass_udp_as`,
//! `track_tcp`). Neighbours: `version`, in which the loops for IPv4 and for IPv6 differ; `eight`, which has forms of these steps for eight packets at a time; `sums`; `seek` and `common`, which take all others; `tcp`; a
//! property test holds this way to `track_one`.
//!
//! Nothing else is in these loops, so that what they need fits the processor's registers. Of a packet's key two words are looked at, of its
//! connection one line, and of one of TCP a second. The table's buckets are asked for first: while they come, checksums are looked at (`sums`);
//! then the connections that they name.

#[cfg(target_arch = "x86_64")]
use super::eight;
use super::entry::{ASSURED, CARRIED, CLOSING, DEAD, Entry, FOUR, LIVE, NAT, NAT_DST, NAT_SRC, NONE, PECULIAR, RELATED, SEVERAL};
use super::packet;
use super::seek::{Wanted, each};
use super::track::{self, EST, FIRST, Handle, LABEL_AND_TUPLE, RPL, Spec, TRK};
use super::tuple::{Tuple, V4};
use super::version::{Four, Six, Version};
use super::{Ct, sums, table};
use crate::bundle::BUNDLE_MAX;
use crate::parsed::{Parsed, UNTOLD};
use crate::search::bits;
use flow::clock::Msec;
use flow::conntrack::CtStage;
use flow::key::Key;
use flow::wire::ip_proto;
use port::Packet;
use std::sync::atomic::Ordering;

pub(super) const UDP: u64 = ip_proto::UDP as u64;
pub(super) const TCP: u64 = ip_proto::TCP as u64;
/// The word of a key that ports, protocol and fragment bits are in.
pub(super) const TRANSPORT: usize = core::mem::offset_of!(Key, tp_src) / 8;
const _: () = assert!(core::mem::offset_of!(Key, tp_dst) == TRANSPORT * 8 + 2);
const _: () = assert!(core::mem::offset_of!(Key, nw_proto) == TRANSPORT * 8 + 4);
const _: () = assert!(core::mem::offset_of!(Key, nw_frag) == TRANSPORT * 8 + 7);

/// The word that addresses over IPv4 are.
pub(super) const ADDRESSES: usize = core::mem::offset_of!(Key, nw_src) / 8;
const _: () =
    assert!(core::mem::offset_of!(Key, nw_src) == ADDRESSES * 8 && core::mem::offset_of!(Key, nw_dst) == ADDRESSES * 8 + 4);

/// Flags of a connection of UDP that are looked at, and those of them that it has if it has nothing that few have, but for the one of its version.
pub(super) const UDP_LOOKED_AT: u32 = LIVE | DEAD | FOUR | RELATED | SEVERAL | ASSURED | PECULIAR;
pub(super) const UDP_USUAL: u32 = LIVE | SEVERAL | ASSURED;

/// What is the same for all packets of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    /// The word of the key that tells of the connection, but for protocol, direction, translation and mark.
    pub(super) told: u64,
    pub(super) until_ms: Msec,
    /// The same of TCP.
    until_tcp_ms: Msec,
    pub(super) now_ms: Msec,
    /// Windows of TCP are looked at.
    strict: bool,
}

/// Packets of UDP, and of TCP, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) udp: u32,
    pub(super) tcp: u32,
}

impl Kinds {
    pub(super) const fn all(self) -> u32 {
        self.udp | self.tcp
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self { udp: self.udp | other.udp, tcp: self.tcp | other.tcp }
    }
}

/// Packets that may go the shortest way, over IPv4 and over IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Short {
    pub(super) four: Kinds,
    pub(super) six: Kinds,
}

impl Short {
    pub(super) const fn all(self) -> u32 {
        self.four.all() | self.six.all()
    }
}

impl Ct {
    /// Packets of UDP and TCP that are whole and were not tracked before: what they are looked up by and their hashes are in `wanted`, their buckets are on
    /// their way. `wide` only where `wide::on` says so.
    #[inline]
    pub(super) fn seek_short(
        &self,
        packets: &[Packet],
        parsed: &[Parsed],
        spec: &Spec<'_>,
        wanted: &mut Wanted,
        wide: bool,
    ) -> Short {
        #[cfg(target_arch = "x86_64")]
        if wide {
            // SAFETY: the caller says that the processor has these features.
            return unsafe { self.seek_short_wide(packets, parsed, spec, wanted) };
        }
        self.seek_short_as::<false>(packets, parsed, spec, wanted)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn seek_short_wide(&self, packets: &[Packet], parsed: &[Parsed], spec: &Spec<'_>, wanted: &mut Wanted) -> Short {
        self.seek_short_as::<true>(packets, parsed, spec, wanted)
    }

    #[inline(always)]
    fn seek_short_as<const WIDE: bool>(
        &self,
        packets: &[Packet],
        parsed: &[Parsed],
        spec: &Spec<'_>,
        wanted: &mut Wanted,
    ) -> Short {
        let n = packets.len().min(parsed.len()).min(BUNDLE_MAX);
        let batch = (&packets[..n], &parsed[..n]);
        let all = self.look_all::<WIDE>(batch.1, spec.zone, wanted);
        let nat = spec.nat.is_some();
        Short {
            four: self.fetch_right::<Four, WIDE>(batch, all.four, wanted, false),
            six: self.fetch_right::<Six, WIDE>(batch, all.six, wanted, nat),
        }
    }

    /// Those of the packets whose checksums are right; asks for their connections, and with `more` for what only some have, too.
    #[inline(always)]
    fn fetch_right<V: Version, const WIDE: bool>(
        &self,
        (packets, parsed): (&[Packet], &[Parsed]),
        Kinds { mut udp, mut tcp }: Kinds,
        wanted: &mut Wanted,
        more: bool,
    ) -> Kinds {
        if udp != 0 {
            udp = sums::right_ones::<V, true>(packets, parsed, udp, WIDE);
        }
        if tcp != 0 {
            tcp = sums::right_ones::<V, false>(packets, parsed, tcp, WIDE);
        }
        if udp != 0 {
            self.fetch_all::<WIDE>(udp, parsed.len(), wanted, more);
        }
        if tcp != 0 {
            self.fetch_all::<WIDE>(tcp, parsed.len(), wanted, true);
        }
        Kinds { udp, tcp }
    }

    /// Packets that are whole and were not tracked before, and what they are looked up by. Asks for their buckets.
    #[inline(always)]
    pub(super) fn look_all<const WIDE: bool>(&self, parsed: &[Parsed], zone: u16, wanted: &mut Wanted) -> Short {
        let size = self.table.size();
        #[cfg(target_arch = "x86_64")]
        if WIDE && crate::wide::products() {
            let asked = eight::Asked { table: &self.table, keys: self.keys, zone, size };
            // SAFETY: the processor has these features.
            return unsafe { eight::look(parsed, asked, wanted) };
        }
        let mut all = Short::default();
        for (i, parsed) in parsed.iter().enumerate() {
            all.four = all.four.or(look::<Four>(parsed, i));
            all.six = all.six.or(look::<Six>(parsed, i));
        }
        for (set, proto) in [(all.four.udp, UDP), (all.four.tcp, TCP)] {
            let tail = u64::from(zone) << 32 | proto << 48 | u64::from(V4) << 56;
            for i in bits(set) {
                let (words, ends) = sought::<WIDE>(&parsed[i].key, tail);
                let hash = Tuple::hash_ends_v4(ends, tail, &self.keys);
                ([wanted.ends[i], wanted.rests[i]], wanted.hashes[i]) = (words, hash);
                wanted.places[i] = table::first_place(hash, size);
                self.table.prefetch(wanted.places[i]);
            }
        }
        for i in bits(all.six.all()) {
            let key = &parsed[i].key;
            let tuple = Tuple::of_v6(key, (u16::from_be_bytes(key.tp_src), u16::from_be_bytes(key.tp_dst)), zone);
            wanted.put_whole(i, tuple);
            wanted.hashes[i] = self.hash(&tuple);
            wanted.places[i] = table::first_place(wanted.hashes[i], size);
            self.table.prefetch(wanted.places[i]);
        }
        all
    }

    /// Finds the entries that are probably the connections of packets of `n`, and asks for them; with `more` for what only some have, too.
    #[inline(always)]
    fn fetch_all<const WIDE: bool>(&self, which: u32, n: usize, wanted: &mut Wanted, more: bool) {
        each!(i in which, n => {
            let candidate = self.table.first_candidate::<WIDE>(wanted.hashes[i], wanted.places[i]);
            wanted.candidates[i] = candidate;
            // There is an entry of the number that says "none", which nobody uses: no branch for it.
            self.slab.prefetch(candidate, more);
        });
    }

    /// Tracks the packets of UDP in `wanted.fresh`, under an action that `is_plain`: a bit for each that is done. To the others nothing was done.
    #[inline(always)]
    pub(super) fn pass_udp_as(
        &self,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        spec: &Spec<'_>,
        (passing, wanted): (&Passing, &Wanted),
        wide: bool,
    ) -> u32 {
        // What translation needs of registers is not taken from packets that are only tracked.
        if spec.nat.is_some() {
            self.pass_udp_with::<true>((packets, parsed), (passing, wanted), wide)
        } else {
            self.pass_udp_with::<false>((packets, parsed), (passing, wanted), wide)
        }
    }

    #[inline(always)]
    fn pass_udp_with<const TRANSLATE: bool>(
        &self,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        (passing, wanted): (&Passing, &Wanted),
        wide: bool,
    ) -> u32 {
        let mut done = 0;
        if wanted.fresh.four.udp != 0 {
            done |= self.pass_udp_over::<Four, TRANSLATE>((&mut *packets, &mut *parsed), (passing, wanted), wide);
        }
        if wanted.fresh.six.udp != 0 {
            done |= self.pass_udp_over::<Six, TRANSLATE>((packets, parsed), (passing, wanted), wide);
        }
        done
    }

    #[inline(always)]
    fn pass_udp_over<V: Version, const TRANSLATE: bool>(
        &self,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        (passing, wanted): (&Passing, &Wanted),
        wide: bool,
    ) -> u32 {
        let (mut which, mut done) = (V::of(wanted.fresh).udp, 0u32);
        #[cfg(target_arch = "x86_64")]
        if wide && crate::wide::products() {
            // SAFETY: the processor has these features.
            done = unsafe { eight::pass_udp::<V, TRANSLATE>(&self.slab, (&mut *packets, &mut *parsed), passing, wanted) };
            which = if TRANSLATE && !V::KEEPS_CHANGES { which & !done } else { 0 };
        }
        let _ = wide;
        let n = packets.len().min(parsed.len()).min(BUNDLE_MAX);
        let (packets, parsed) = (&mut packets[..n], &mut parsed[..n]);
        each!(i in which, n => {
            done |= u32::from(self.track_udp::<V, TRANSLATE>(&mut packets[i], &mut parsed[i], passing, (wanted, i))) << i;
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
    fn track_udp<V: Version, const TRANSLATE: bool>(
        &self,
        packet: &mut Packet,
        parsed: &mut Parsed,
        passing: &Passing,
        (wanted, i): (&Wanted, usize),
    ) -> bool {
        // Where there is none it is the entry of nobody, which is not live.
        const { assert!(NONE == 0) };
        let number = wanted.candidates[i];
        let entry = self.slab.at(number);
        let flags = entry.flags.load(Ordering::Acquire);
        let (forward, backward) = V::directions(entry, flags, wanted, i);
        let usual = flags & UDP_LOOKED_AT == UDP_USUAL | V::FLAG;
        let alive = usual & (entry.expires_ms.load(Ordering::Relaxed) > passing.now_ms);
        if !(alive & (forward | backward)) {
            return false;
        }
        let (handle, mut state) = (Handle { number, reply: !forward, related: false }, u8::from(!forward) * RPL);
        if TRANSLATE && flags & (NAT_SRC | NAT_DST) != 0 {
            if flags & NAT != 0 && !V::translate::<true>(packet, parsed, (entry, flags, handle)) {
                return false;
            }
            state |= track::translated(flags, handle.reply);
        }
        entry.expire_at(passing.until_ms);
        passing.tell(parsed, (entry, handle), UDP, state);
        true
    }

    /// The same of TCP, whose segments have to be tracked in order, these among others.
    #[inline]
    pub(super) fn track_tcp<V: Version>(
        &self,
        packet: &mut Packet,
        parsed: &mut Parsed,
        (spec, passing): (&Spec<'_>, &Passing),
        (wanted, i): (&Wanted, usize),
    ) -> bool {
        const LOOKED_AT: u32 = LIVE | DEAD | FOUR | RELATED | ASSURED | CLOSING | CARRIED | PECULIAR;
        const USUAL: u32 = LIVE | ASSURED;
        let number = wanted.candidates[i];
        let entry = self.slab.at(number);
        let flags = entry.flags.load(Ordering::Acquire);
        let (forward, backward) = V::directions(entry, flags, wanted, i);
        let usual = flags & LOOKED_AT == USUAL | V::FLAG;
        let alive = usual & (entry.expires_ms.load(Ordering::Relaxed) > passing.now_ms);
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
            state |= track::translated(flags, reply);
            if flags & NAT != 0 && !V::translate::<false>(packet, parsed, (entry, flags, handle)) {
                track::retarget(packet, parsed, entry, handle, flags);
            }
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

/// The two words (`Tuple::of_words_v4`) of a key of TCP or UDP over IPv4, the second with `tail` above the ports, and its ends as `Tuple::hash_ends_v4` takes
/// them.
#[inline(always)]
fn sought<const WIDE: bool>(key: &Key, tail: u64) -> ([u64; 2], [u64; 2]) {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: `WIDE` is only true in functions that were called because the processor has AVX2.
        return unsafe { vector::sought(key, tail) };
    }
    let (ends, ports) = (ends_of(key), ports_of(key));
    let words = [ends, u64::from(ports) | tail];
    (words, Tuple::ends_v4(words[0], words[1]))
}

/// Packet `i` under its protocol, if it is whole, over that version, with both ports, and was not tracked before: one word of all that has to be zero.
#[inline(always)]
fn look<V: Version>(parsed: &Parsed, i: usize) -> Kinds {
    const FRAGMENT: u64 = 0xff << 56;
    let (word, ports) = (u64::from_le(parsed.key.words()[TRANSPORT]), ports_of(&parsed.key));
    // Subtracting one borrows into the top bit of a half that was zero.
    let no_port = ports.wrapping_sub(0x0001_0001) & !ports & 0x8000_8000;
    let odd = (word & FRAGMENT)
        | u64::from(no_port)
        | u64::from(parsed.found.network as u8 ^ V::NETWORK as u8)
        | u64::from(parsed.found.lines.0 & LABEL_AND_TUPLE.0)
        | u64::from(parsed.key.ct_state)
        | u64::from(parsed.conn);
    let is = |proto: u64| u32::from(odd | (word >> 32 & 0xff) ^ proto == 0) << i;
    Kinds { udp: is(UDP), tcp: is(TCP) }
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
    // Each address keeps its order in memory; the first is the lower half.
    if cfg!(target_endian = "little") { key.words()[ADDRESSES] } else { key.words()[ADDRESSES].rotate_left(32) }
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::{ADDRESSES, TRANSPORT};
    use flow::key::Key;
    use std::arch::x86_64::{
        __m128i, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_loadu_si128, _mm_or_si128, _mm_set_epi64x, _mm_shuffle_epi8,
    };

    const _: () = assert!(TRANSPORT == ADDRESSES + 1);

    /// `super::sought`: addresses and ports are in one vector, of which each of both is some bytes in another order.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn sought(key: &Key, tail: u64) -> ([u64; 2], [u64; 2]) {
        let words: &[u64; 2] = key.words()[ADDRESSES..].first_chunk().expect("a key is longer");
        // SAFETY: two words are such a vector.
        let both = unsafe { _mm_loadu_si128(words.as_ptr().cast()) };
        // Bytes from 0x80 on are none.
        let ports = _mm_set_epi64x(
            i64::from_le_bytes([9, 8, 11, 10, 0x80, 0x80, 0x80, 0x80]),
            i64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]),
        );
        let ends = _mm_set_epi64x(
            i64::from_le_bytes([4, 5, 6, 7, 11, 10, 0x80, 0x80]),
            i64::from_le_bytes([0, 1, 2, 3, 9, 8, 0x80, 0x80]),
        );
        let words = _mm_or_si128(_mm_shuffle_epi8(both, ports), _mm_set_epi64x(tail.cast_signed(), 0));
        (halves(words), halves(_mm_shuffle_epi8(both, ends)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves(both: __m128i) -> [u64; 2] {
        [_mm_cvtsi128_si64(both), _mm_extract_epi64::<1>(both)].map(i64::cast_unsigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Both forms find the same in a key, which is what a tuple of it would have.
        #[test]
        fn words_are_read_alike(addresses: [u8; 8], ports: [u8; 4], zone: u16, udp: bool) {
            let mut key = Key::ZERO;
            let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
            (key.nw_src, key.nw_dst) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
            (key.tp_src, key.tp_dst) = ([ports[0], ports[1]], [ports[2], ports[3]]);
            (key.nw_proto, key.nw_frag, key.nw_ttl) = (if udp { 17 } else { 6 }, 0xa5, 64);
            let tail = u64::from(zone) << 32 | u64::from(key.nw_proto) << 48 | u64::from(V4) << 56;
            let plain = sought::<false>(&key, tail);
            prop_assert_eq!((plain.0[0], plain.0[1]), Tuple::words_of_v4(&key, zone));
            if crate::wide::on() {
                prop_assert_eq!(sought::<true>(&key, tail), plain);
            }
        }
    }
}
