//! What the packets of a batch are looked up by, and where to begin: tuples, hashes, candidates.
//!
//! What enters: packets on their way through a `ct` action. What leaves: for each its tuple with the entry that is probably its connection, or
//! the connection that this batch found for it before. Neighbours: `track` (the caller), `short` (which has seen to the commonest packets before),
//! `common`, `packet`, `table`.
//!
//! Two loops, of what `short` did not take: the first asks for the buckets that the second looks into, the second for the entries that come next. They are
//! compiled twice (`wide`). What they find is kept in arrays that belong to the thread, apart for each kind of thing: written once, read once, never
//! cleared.

use super::Ct;
use super::entry::NONE;
use super::packet::{self, Seen};
use super::short::Short;
use super::table::{self, Size};
use super::track::{Handle, Spec, TRK};
use super::tuple::{Tuple, V4};
use crate::bundle::BUNDLE_MAX;
use crate::parsed::{MOVED, Parsed};
use crate::search::bits;
use flow::wire::ip_proto;
use port::Packet;

/// Does something for each packet of a set, of `n` packets. Where it is all of a full batch, as it mostly is, that is a plain loop of a known
/// length, which costs less for each packet than looking for the next bit. A macro, so that the body stands in the caller's own loops, which are compiled for its processor.
macro_rules! each {
    ($i:ident in $set:expr, $n:expr => $body:block) => {
        let (set, n) = ($set, $n);
        if set == u32::MAX && n == $crate::bundle::BUNDLE_MAX {
            for $i in 0..$crate::bundle::BUNDLE_MAX $body
        } else {
            for $i in $crate::search::bits(set) $body
        }
    };
}
pub(super) use each;

/// What is looked up for the packets of a batch, by packet. Places of which no bit speaks hold what an earlier batch left.
#[derive(Debug)]
#[repr(align(64))]
pub struct Wanted {
    /// For packets in `short` over IPv4, in the place of `addresses`: the first of the two words that `Tuple::of_words_v4` takes.
    pub(super) ends: [u64; BUNDLE_MAX],
    /// The last words of tuples.
    pub(super) rests: [u64; BUNDLE_MAX],
    /// The first four words of tuples, word by word.
    pub(super) addresses: [[u64; BUNDLE_MAX]; 4],
    pub(super) hashes: [u64; BUNDLE_MAX],
    /// The first buckets of the hashes.
    pub(super) places: [u32; BUNDLE_MAX],
    /// The entries that the first buckets of the hashes name; `NONE` where there is none.
    pub(super) candidates: [u32; BUNDLE_MAX],
    /// Connections at hand.
    handles: [u32; BUNDLE_MAX],
    /// Packets with a tuple, a bit each.
    pub(super) seen: u32,
    /// Those of them whose tuples are in words: TCP or UDP over IPv4, and what is in `fresh`.
    pub(super) short: u32,
    /// Those of them that go the shortest way, if their connections let them (`Ct::seek_short`).
    pub(super) fresh: Short,
    /// Those of them that are ICMP errors, with the tuple of an answer to what they quote.
    pub(super) related: u32,
    /// Packets whose connection is at hand.
    known: u32,
    /// Those of `seen` that have no candidate.
    pub(super) unknown: u32,
}

/// A tuple and its hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    pub(super) seen: Seen,
    pub(super) hash: u64,
}

/// What is looked up for a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lookup {
    /// Its connection is at hand.
    Known(Handle),
    Tuple(Sought),
    /// Not trackable.
    Nothing,
}

impl Wanted {
    /// For a thread.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(Self {
            ends: [0; BUNDLE_MAX],
            rests: [0; BUNDLE_MAX],
            addresses: [[0; BUNDLE_MAX]; 4],
            hashes: [0; BUNDLE_MAX],
            places: [0; BUNDLE_MAX],
            candidates: [NONE; BUNDLE_MAX],
            handles: [0; BUNDLE_MAX],
            seen: 0,
            short: 0,
            fresh: Short::default(),
            related: 0,
            known: 0,
            unknown: 0,
        })
    }

    /// What is looked up for packet `i`.
    pub(super) fn lookup(&self, i: usize) -> Lookup {
        if self.known >> i & 1 != 0 {
            return Lookup::Known(Handle::unpack(self.handles[i]));
        }
        if self.seen >> i & 1 == 0 {
            return Lookup::Nothing;
        }
        let seen = Seen { tuple: self.tuple(i), related: self.related >> i & 1 != 0 };
        Lookup::Tuple(Sought { seen, hash: self.hashes[i] })
    }

    /// The tuple of packet `i`, which is in `seen`.
    #[inline]
    pub(super) fn tuple(&self, i: usize) -> Tuple {
        if (self.short & !self.fresh.six.all()) >> i & 1 == 0 {
            return self.whole(i);
        }
        let [ends, rest] = self.words(i);
        Tuple::of_words_v4(ends, rest)
    }

    /// The tuple of packet `i`, which is not in `short` or over IPv6.
    #[inline(always)]
    pub(super) fn whole(&self, i: usize) -> Tuple {
        let [s0, s1, d0, d1] = self.addresses.each_ref().map(|word| word[i]);
        Tuple([s0, s1, d0, d1, self.rests[i]])
    }

    #[inline(always)]
    pub(super) fn put_whole(&mut self, i: usize, Tuple([addresses @ .., last]): Tuple) {
        self.addresses.iter_mut().zip(addresses).for_each(|(to, word)| to[i] = word);
        self.rests[i] = last;
    }

    /// The two words of the tuple of packet `i`, which is in `short` and over IPv4.
    #[inline(always)]
    pub(super) fn words(&self, i: usize) -> [u64; 2] {
        [self.ends[i], self.rests[i]]
    }

    #[inline(always)]
    fn put_words(&mut self, i: usize, (ct, size): (&Ct, Size), (ends, rest): (u64, u64)) {
        (self.ends[i], self.rests[i]) = (ends, rest);
        self.short |= 1 << i;
        self.find(i, (ct, size), &Tuple::of_words_v4(ends, rest));
    }

    #[inline(always)]
    fn put(&mut self, i: usize, table: (&Ct, Size), tuple: Tuple) {
        self.put_whole(i, tuple);
        self.find(i, table, &tuple);
    }

    #[inline(always)]
    fn find(&mut self, i: usize, (ct, size): (&Ct, Size), tuple: &Tuple) {
        let hash = ct.hash(tuple);
        let place = table::first_place(hash, size);
        ct.table.prefetch(place);
        (self.hashes[i], self.places[i]) = (hash, place);
        self.seen |= 1 << i;
    }
}

impl Ct {
    /// Finds out what to look up for each packet that is not in `short`, and fetches it for all. Gives how many have no candidate. `wide` only where
    /// `wide::on` says so.
    #[inline]
    pub(super) fn seek(
        &self,
        (packets, parsed): (&[Packet], &mut [Parsed]),
        short: Short,
        spec: &Spec<'_>,
        wanted: &mut Wanted,
        wide: bool,
    ) -> usize {
        (wanted.fresh, wanted.seen, wanted.short, wanted.related, wanted.known) = (short, short.all(), short.all(), 0, 0);
        #[cfg(target_arch = "x86_64")]
        if wide {
            // SAFETY: the caller says that the processor has these features.
            return unsafe { self.seek_wide((packets, parsed), spec, wanted) };
        }
        self.seek_as::<false>((packets, parsed), spec, wanted)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn seek_wide(&self, packets: (&[Packet], &mut [Parsed]), spec: &Spec<'_>, wanted: &mut Wanted) -> usize {
        self.seek_as::<true>(packets, spec, wanted)
    }

    #[inline(always)]
    fn seek_as<const WIDE: bool>(
        &self,
        (packets, parsed): (&[Packet], &mut [Parsed]),
        spec: &Spec<'_>,
        wanted: &mut Wanted,
    ) -> usize {
        let (size, nat, fresh) = (self.table.size(), spec.nat.is_some(), wanted.fresh.all());
        for i in bits(all(packets.len()) & !fresh) {
            self.seek_one((&packets[i], &mut parsed[i]), (spec, size), (&mut *wanted, i));
        }
        for i in bits(wanted.seen & !fresh) {
            let candidate = self.table.first_candidate::<WIDE>(wanted.hashes[i], wanted.places[i]);
            wanted.candidates[i] = candidate;
            let tuple = wanted.tuple(i);
            let more = (tuple.proto() == ip_proto::TCP) | (nat & (tuple.family() != V4));
            self.slab.prefetch(candidate, more);
        }
        let none = wanted.candidates.iter().zip(0..).fold(0, |none, (candidate, i)| none | u32::from(*candidate == NONE) << i);
        wanted.unknown = wanted.seen & none;
        wanted.unknown.count_ones() as usize
    }

    #[inline(always)]
    fn seek_one(
        &self,
        (packet, parsed): (&Packet, &mut Parsed),
        (spec, size): (&Spec<'_>, Size),
        (wanted, i): (&mut Wanted, usize),
    ) {
        let same_zone = parsed.key.ct_zone == spec.zone.to_be_bytes();
        if !same_zone {
            // What another zone said does not count in this one.
            parsed.key.ct_state = 0;
        }
        if parsed.conn != 0 && same_zone && self.is_at_hand(parsed, spec) {
            wanted.handles[i] = parsed.conn;
            wanted.known |= 1 << i;
            return;
        }
        if let Some(words) = packet::see_common(packet, parsed, spec.zone) {
            wanted.put_words(i, (self, size), words);
        } else if let Some(seen) = packet::see(packet, parsed, spec.zone) {
            wanted.related |= u32::from(seen.related) << i;
            wanted.put(i, (self, size), seen.tuple);
        }
    }

    /// Whether the connection that the packet was of before, in this zone, still is its own.
    #[inline(never)]
    fn is_at_hand(&self, parsed: &Parsed, spec: &Spec<'_>) -> bool {
        if parsed.conn & MOVED != 0 || spec.force || parsed.key.ct_state & TRK == 0 {
            return false;
        }
        let entry = self.slab.at(Handle::unpack(parsed.conn).number);
        entry.is_alive(spec.now_ms) && entry.orig().zone() == spec.zone
    }
}

/// A bit for each of `n` packets.
#[inline]
pub(super) fn all(n: usize) -> u32 {
    if n >= BUNDLE_MAX { u32::MAX } else { (1 << n) - 1 }
}
