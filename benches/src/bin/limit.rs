//! What this processor allows: the unavoidable steps of forwarding, memory to memory on one core, and nothing else.
//!
//! `limit FLOWS SECONDS [scalar]` prints Mpps and the form used. Frames of 60 bytes take the flows in turn, as in the scenario `flows`. Per packet:
//! copy one cache line into a buffer, parse and check the headers into a 48-byte key, hash it, find its tag in a bucket that names a
//! megaflow, compare the masked key, count, write a descriptor. Left out: buffer allocation, ports, upcalls, statistics per port, reclamation,
//! IPv6, fragments, tunnels, action lists. So it is a ceiling.
//!
//! Two forms: AVX2 with AES where the processor has them (decided at start), scalar elsewhere. Every stage goes over a batch of 32 before the
//! next begins and asks for the memory that the next will need.
#![allow(clippy::print_stdout, reason = "the figure is what the program is for")]
#![allow(clippy::disallowed_methods, reason = "it measures the wall clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

const BATCH: usize = 32;
/// Buffers that frames are copied into: a pool's working set.
const BUFFERS: usize = 4096;
const BUFFER: usize = 2048;
const HEADROOM: usize = 256;
const LINE: usize = 64;
/// Packets between two looks at the clock.
const ROUND: usize = 1 << 16;
const KEY_WORDS: usize = 6;
const WAYS: usize = 8;

type Key = [u64; KEY_WORDS];

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Tags and megaflow numbers of one cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; WAYS],
    megaflow: [u32; WAYS],
}

#[repr(C, align(64))]
struct Megaflow {
    mask: Key,
    key: Key,
    packets: u64,
    bytes: u64,
    port: u32,
}

struct World {
    frames: Vec<Line>,
    buffers: Vec<Line>,
    buckets: Vec<Bucket>,
    megaflows: Vec<Megaflow>,
    /// Descriptors: buffer, length, port.
    ring: Vec<u64>,
    seed: Key,
    aes: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flows: u32 = args.first().and_then(|a| a.parse().ok()).unwrap_or(4);
    let seconds: f64 = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(1.0);
    let aes = args.get(2).is_none_or(|a| a != "scalar") && has_avx2();
    let mut world = World::new(flows, aes);
    let mut state = State::default();
    world.round(&mut state, flows.max(64) as usize * 2);
    let mut rates = Vec::new();
    for _ in 0..5 {
        let (start, mut done) = (Instant::now(), 0usize);
        while start.elapsed() < Duration::from_secs_f64(seconds / 5.0) {
            world.round(&mut state, ROUND);
            done += ROUND;
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        rates.push(done as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    assert_eq!(state.missed, 0, "every flow is in the table");
    println!("{:.3} {}", rates[2], if aes { "avx2" } else { "scalar" });
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("aes")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// Where a run is, and what it keeps between batches.
#[derive(Default)]
struct State {
    frame: usize,
    buffer: usize,
    head: usize,
    missed: u64,
}

/// The frame of flow `k`, as the scenario `flows` has it; checksums are not looked at here.
fn frame(k: u32) -> Line {
    let mut b = [0u8; LINE];
    b[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    b[14..26].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    b[26..30].copy_from_slice(&(0x0a00_0000 + k / 60_000).to_be_bytes());
    b[30..34].copy_from_slice(&(0x0b00_0001 + k / 60_000).to_be_bytes());
    b[34..36].copy_from_slice(&u16::try_from(1024 + k % 60_000).expect("less than 65536").to_be_bytes());
    b[36..38].copy_from_slice(&1000u16.to_be_bytes());
    b[38..40].copy_from_slice(&26u16.to_be_bytes());
    Line(b)
}

impl World {
    fn new(flows: u32, aes: bool) -> Self {
        let frames: Vec<Line> = (0..flows.max(64)).map(|i| frame(i % flows)).collect();
        let mut mask = [0; KEY_WORDS];
        // Ethernet type, protocol, destination port: the rule of the scenario.
        mask[1] = 0xffff << 32;
        mask[3] = 0xffff_0000 << 16 >> 16 | 0xff << 32;
        let any = parse(&frames[0]).expect("our own frames are good");
        let key = std::array::from_fn(|i| any[i] & mask[i]);
        let n = (flows as usize * 2 / WAYS).next_power_of_two().max(16);
        let mut world = Self {
            frames,
            buffers: vec![Line([0; LINE]); BUFFERS * BUFFER / LINE],
            buckets: vec![Bucket::default(); n],
            megaflows: vec![Megaflow { mask, key, packets: 0, bytes: 0, port: 2 }],
            ring: vec![0; 1024],
            seed: std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(2 * i as u64 + 3)),
            aes,
        };
        for i in 0..flows as usize {
            let key = parse(&world.frames[i]).expect("our own frames are good");
            let hash = world.hash(&key);
            world.remember(hash);
        }
        world
    }

    fn remember(&mut self, hash: u64) {
        let n = self.buckets.len() - 1;
        let (tag, first, second) = places(hash, n);
        for at in [first, second] {
            let bucket = &mut self.buckets[at];
            if let Some(way) = bucket.tags.iter().position(|t| *t == 0 || *t == tag) {
                (bucket.tags[way], bucket.megaflow[way]) = (tag, 0);
                return;
            }
        }
        // Both are full: a neighbour gives way, and its packets would be found by a search. With two ways of half-empty buckets it is rare;
        // here every flow leads to the one megaflow, so any tag will do.
        self.buckets[first].tags[0] = tag;
    }

    fn hash(&self, key: &Key) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if self.aes {
            // SAFETY: `aes` is only set where AVX2 and AES were found.
            return unsafe { simd::hash(key, &self.seed) };
        }
        scalar_hash(key, &self.seed)
    }

    fn round(&mut self, state: &mut State, packets: usize) {
        #[cfg(target_arch = "x86_64")]
        if self.aes {
            // SAFETY: `aes` is only set where AVX2 and AES were found.
            unsafe { self.round_simd(state, packets) };
            return;
        }
        for _ in 0..packets.div_ceil(BATCH) {
            self.batch(state, scalar_hash, scalar_find, |_| ());
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,aes,bmi1,bmi2")]
    fn round_simd(&mut self, state: &mut State, packets: usize) {
        for _ in 0..packets.div_ceil(BATCH) {
            self.batch(state, |key, seed| simd::hash(key, seed), |bucket, tag| simd::find(bucket, tag), simd::prefetch);
        }
    }

    #[inline(always)]
    fn batch(
        &mut self,
        state: &mut State,
        hash: impl Fn(&Key, &Key) -> u64,
        find: impl Fn(&Bucket, u16) -> Option<u32>,
        prefetch: impl Fn(&Bucket),
    ) {
        let mut keys = [[0u64; KEY_WORDS]; BATCH];
        let mut hashes = [0u64; BATCH];
        let mut places_of = [0usize; BATCH];
        let n = self.buckets.len() - 1;
        for i in 0..BATCH {
            let at = ((state.buffer + i) % BUFFERS) * (BUFFER / LINE) + HEADROOM / LINE + (state.buffer + i) % 8;
            self.buffers[at] = self.frames[state.frame];
            state.frame = if state.frame + 1 == self.frames.len() { 0 } else { state.frame + 1 };
            places_of[i] = at;
            match parse(&self.buffers[at]) {
                Some(key) => keys[i] = key,
                None => state.missed += 1,
            }
            hashes[i] = hash(&keys[i], &self.seed);
            prefetch(&self.buckets[places(hashes[i], n).1]);
        }
        let mut counted = 0u64;
        for i in 0..BATCH {
            let (tag, first, second) = places(hashes[i], n);
            let found = find(&self.buckets[first], tag).or_else(|| find(&self.buckets[second], tag));
            let megaflow = &self.megaflows[found.unwrap_or(0) as usize];
            let differs = (0..KEY_WORDS).fold(0, |d, w| d | ((keys[i][w] & megaflow.mask[w]) ^ megaflow.key[w]));
            counted += u64::from(differs == 0);
            let slot = (state.head + i) % self.ring.len();
            self.ring[slot] = places_of[i] as u64 | 60 << 32 | u64::from(megaflow.port) << 48;
        }
        self.megaflows[0].packets += counted;
        self.megaflows[0].bytes += counted * 60;
        state.missed += BATCH as u64 - counted;
        state.buffer = (state.buffer + BATCH) % BUFFERS;
        state.head = (state.head + BATCH) % self.ring.len();
        black_box(&self.ring);
    }
}

/// Tag and both buckets of a hash.
#[inline(always)]
fn places(hash: u64, mask: usize) -> (u16, usize, usize) {
    #[allow(clippy::cast_possible_truncation, reason = "parts of a hash")]
    let (tag, low) = ((hash >> 48) as u16 | 1, hash as usize);
    (tag, low & mask, (low ^ usize::from(tag).wrapping_mul(0x5bd1_e995)) & mask)
}

/// Ethernet, IPv4 without options or fragments, UDP: MACs and type; addresses; protocol, ports, TOS, TTL.
#[inline(always)]
fn parse(line: &Line) -> Option<Key> {
    let b = &line.0;
    let word = |at: usize| u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes of a line"));
    let ip = word(14);
    let total = u32::from(u16::from_be_bytes([b[16], b[17]]));
    let good = b[12..14] == [8, 0] && ip & 0xff == 0x45 && word(20) & 0xff3f == 0 && b[23] == 17 && (28..=46).contains(&total);
    if !good {
        return None;
    }
    let (l2, l2b, l4) = (word(0), word(6), word(34));
    Some([
        l2,
        l2b >> 16 & 0xffff_ffff | (l2b >> 48) << 32,
        word(26),
        (l4 & 0xffff_ffff) | u64::from(b[23]) << 32 | u64::from(b[15]) << 40 | u64::from(b[22]) << 48,
        2,
        0,
    ])
}

/// A folded product per word.
#[inline(always)]
fn scalar_hash(key: &Key, seed: &Key) -> u64 {
    let mut hash = seed[0];
    for (word, seed) in key.iter().zip(seed) {
        let product = u128::from(hash ^ word).wrapping_mul(u128::from(seed | 1));
        #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = (product >> 64) as u64 ^ product as u64;
        hash = folded;
    }
    hash
}

#[inline(always)]
fn scalar_find(bucket: &Bucket, tag: u16) -> Option<u32> {
    bucket.tags.iter().position(|t| *t == tag).map(|way| bucket.megaflow[way])
}

#[cfg(target_arch = "x86_64")]
mod simd {
    use super::{Bucket, Key};
    use std::arch::x86_64::{
        __m128i, _MM_HINT_T0, _mm_aesenc_si128, _mm_cmpeq_epi16, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_movemask_epi8,
        _mm_prefetch, _mm_set1_epi16, _mm_xor_si128,
    };

    #[inline(always)]
    fn load<T>(from: &[T], at: usize) -> __m128i {
        let part = &from[at..at + 16 / size_of::<T>()];
        // SAFETY: `part` has 16 bytes, and any bytes are a vector.
        unsafe { _mm_loadu_si128(part.as_ptr().cast()) }
    }

    /// Keyed AES rounds over three lanes.
    #[inline]
    #[target_feature(enable = "avx2,aes")]
    pub(super) fn hash(key: &Key, seed: &Key) -> u64 {
        let (s0, s1, s2) = (load(seed, 0), load(seed, 2), load(seed, 4));
        let a = _mm_aesenc_si128(_mm_xor_si128(load(key, 0), s0), s1);
        let b = _mm_aesenc_si128(_mm_xor_si128(load(key, 2), s1), s2);
        let c = _mm_aesenc_si128(_mm_xor_si128(load(key, 4), s2), s0);
        let all = _mm_aesenc_si128(_mm_xor_si128(_mm_xor_si128(a, b), c), s0);
        _mm_cvtsi128_si64(all).cast_unsigned()
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn find(bucket: &Bucket, tag: u16) -> Option<u32> {
        let equal = _mm_movemask_epi8(_mm_cmpeq_epi16(load(&bucket.tags, 0), _mm_set1_epi16(tag.cast_signed())));
        (equal != 0).then(|| bucket.megaflow[equal.trailing_zeros() as usize / 2])
    }

    #[inline(always)]
    pub(super) fn prefetch(bucket: &Bucket) {
        // SAFETY: a hint for memory that is ours.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(bucket).cast()) };
    }
}
