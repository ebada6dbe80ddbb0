//! A connection in memory: atomics, so that any thread may read it at any time.
//!
//! What enters: a new connection, from the thread that saw its first packet. What leaves: what packets of it need. Neighbours: `slab` (where
//! the parts of entries live), `track` (reads and moves them), `reaper` (frees them).
//!
//! # What holds
//!
//! - An entry has four parts, each in an array of its own (decision 0108). `Hot`, a cache line, is all that a packet of an established
//!   connection over IPv4 touches, translated or not (decision 0123), except TCP's windows in `More`. A new one without states of TCP has its
//!   `Links` written besides: what its flags say is not there is not written, and its memory not used.
//! - `orig`, `reply`, `parent` and what else is said once are written before `LIVE` is set (Release) and not changed until the entry is
//!   free again, which is a grace period after `DEAD` was set: who found a live entry under a guard may read them to the end of its batch.
//! - TCP's ends change together: whoever moves them holds `lock`, a bit that is held for some tens of instructions and never across
//!   another lock. Everything else is a single atomic.
//! - Control threads read without a guard. They take `generation` before and after, and leave out what changed meanwhile.

use super::nat;
use super::slab::Slab;
use super::tcp::{End, Scale, Segment, Tcp};
use super::tuple::{Tuple, V4};
use crate::memory::Zeroable;
use flow::DpPort;
use flow::clock::Msec;
use flow::conntrack::{CtEntry, TcpState};
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// The entry is a connection.
pub const LIVE: u32 = 1;
/// The connection has ended; the entry waits to be freed.
pub const DEAD: u32 = 1 << 1;
/// The source of the original direction is translated.
pub const NAT_SRC: u32 = 1 << 2;
/// The destination of the original direction is translated.
pub const NAT_DST: u32 = 1 << 3;
/// `reply` is not just `orig` reversed.
pub const NAT: u32 = 1 << 4;
/// Expected by another connection, whose tuple is `parent`.
pub const RELATED: u32 = 1 << 5;
/// There is a label.
pub const LABEL: u32 = 1 << 6;
/// More than one packet has been seen (protocols without states of their own).
pub const SEVERAL: u32 = 1 << 7;
/// Both sides have spoken; for TCP: the handshake is over. Not dropped early.
pub const ASSURED: u32 = 1 << 8;
/// A side has closed.
pub const CLOSING: u32 = 1 << 9;
/// The reaper has it in its wheel.
pub const WHEEL: u32 = 1 << 10;
/// Payload that the helper changed has moved sequence numbers (`skew`).
pub const SKEWED: u32 = 1 << 11;
/// Packets of it pass elsewhere: windows are not known.
pub const CARRIED: u32 = 1 << 12;
/// It has a timeout policy of its own, or a helper.
pub const PECULIAR: u32 = 1 << 13;
/// It is over IPv4.
pub const FOUR: u32 = 1 << 14;

/// By so many milliseconds a timeout has to be put off to be written.
pub(super) const STEP_MS: u64 = 125;

/// No entry.
pub const NONE: u32 = 0;

/// Free entries of a chain, apart from its first.
pub const MEMBERS: usize = 10;

/// What a packet of an established connection needs.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Hot {
    /// The tuple of the original direction; over IPv4 (`FOUR`) those of both directions, in two words each (`Tuple::words`), and with NAT what
    /// translation changes checksums by (`nat::changes_v4`).
    sides: [AtomicU64; 5],
    pub expires_ms: AtomicI64,
    pub flags: AtomicU32,
    pub mark: AtomicU32,
    lock: AtomicU32,
    /// Timeout policy.
    pub policy: AtomicU16,
    /// `helper::Kind`.
    pub helper: AtomicU8,
    /// Whether a reply's payload is what was changed.
    pub skew_reply: AtomicU8,
}

/// What threads that begin and end connections need.
#[repr(C, align(32))]
#[derive(Debug)]
pub struct Links {
    /// The next in the wheel; until the reaper has seen the entry, the next among births.
    pub wheel_next: AtomicU32,
    pub wheel_prev: AtomicU32,
    pub wheel_slot: AtomicU32,
    /// The next among deaths; of the first of a chain of free entries, the next chain.
    pub chain: AtomicU32,
    generation: AtomicU32,
    /// Bytes that the helper's changes have added.
    pub skew: AtomicU32,
    /// Ports that both directions come in by, and one; 0 for unknown.
    ports: [AtomicU32; 2],
}

/// What NAT over IPv6 and TCP need.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct More {
    reply: [AtomicU64; 5],
    ends: [[AtomicU32; 3]; 2],
}

/// What few connections have.
#[repr(C)]
#[derive(Debug)]
pub struct Rare {
    label: [AtomicU64; 2],
    parent: [AtomicU64; 5],
}

const _: () = assert!(size_of::<Hot>() == 64 && size_of::<Links>() == 32 && size_of::<More>() == 64 && size_of::<Rare>() == 56);
// Members of a chain have their numbers where its first one has its tuple.
const _: () = assert!(2 * size_of::<[AtomicU64; 5]>() == MEMBERS * size_of::<u64>());

// SAFETY: made of atomic integers only: all zeroes is an entry that is free, and there is nothing to drop.
unsafe impl Zeroable for Hot {}
// SAFETY: as above.
unsafe impl Zeroable for Links {}
// SAFETY: as above.
unsafe impl Zeroable for More {}
// SAFETY: as above.
unsafe impl Zeroable for Rare {}

/// A connection: where its parts are. What is in `Hot` is had by its name.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'s> {
    hot: &'s Hot,
    slab: &'s Slab,
    number: u32,
}

impl Deref for Entry<'_> {
    type Target = Hot;
    #[inline(always)]
    fn deref(&self) -> &Hot {
        self.hot
    }
}

#[inline]
fn load(words: &[AtomicU64; 5]) -> Tuple {
    Tuple(std::array::from_fn(|i| words[i].load(Ordering::Relaxed)))
}

fn store(words: &[AtomicU64; 5], tuple: &Tuple) {
    for (to, word) in words.iter().zip(tuple.0) {
        to.store(word, Ordering::Relaxed);
    }
}

/// What is said of a connection when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    pub orig: Tuple,
    pub reply: Tuple,
    pub parent: Option<Tuple>,
    /// `NAT_SRC`, `NAT_DST`.
    pub flags: u32,
    pub mark: u32,
    pub label: u128,
    pub policy: u16,
    pub helper: u8,
    pub tcp: Option<Tcp>,
    pub expires_ms: Msec,
}

impl Birth {
    /// Whether nothing is translated.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.reply.is(&self.orig.reversed())
    }
}

/// TCP's ends, held.
#[derive(Debug)]
pub struct TcpGuard<'e> {
    entry: Entry<'e>,
}

impl Drop for TcpGuard<'_> {
    fn drop(&mut self) {
        self.entry.lock.store(0, Ordering::Release);
    }
}

impl TcpGuard<'_> {
    /// As they are.
    #[must_use]
    pub fn tcp(&self) -> Tcp {
        self.entry.tcp()
    }

    /// As they shall be.
    pub fn set(&self, tcp: &Tcp) {
        self.entry.set_tcp(tcp);
    }

    /// Moves them by a segment that `Tcp::go_on` takes; false, and nothing done, for others.
    #[inline(always)]
    pub fn go_on(&self, segment: &Segment, reply: bool) -> bool {
        let next = self.tcp().go_on(segment, reply);
        if let Some(next) = &next {
            self.set(next);
        }
        next.is_some()
    }
}

/// Four numbers as one, the first lowest.
fn packed(numbers: [u16; 4]) -> u64 {
    numbers.iter().rev().fold(0, |all, number| all << 16 | u64::from(*number))
}

#[inline(always)]
fn pack(end: &End) -> u32 {
    let scale = match end.scale {
        Scale::None => 0x80,
        Scale::Shift(s) => u32::from(s),
        Scale::Unknown => 0x40,
    };
    u32::from(end.window) << 16 | scale << 8 | end.state as u32
}

#[inline(always)]
fn unpack(word: u32) -> (u16, Scale, TcpState) {
    let [window_high, window_low, scale, state] = word.to_be_bytes();
    let scale = match scale {
        0x80 => Scale::None,
        0x40 => Scale::Unknown,
        s => Scale::Shift(s),
    };
    let state = TcpState::ALL.get(usize::from(state)).copied().unwrap_or_default();
    (u16::from_be_bytes([window_high, window_low]), scale, state)
}

impl<'s> Entry<'s> {
    /// The entry of a number, whose first part is `hot`.
    #[inline(always)]
    pub(super) const fn new(slab: &'s Slab, hot: &'s Hot, number: u32) -> Self {
        Self { hot, slab, number }
    }

    #[inline(always)]
    pub(super) fn links(self) -> &'s Links {
        self.slab.links(self.number)
    }

    #[inline(always)]
    fn more(self) -> &'s More {
        self.slab.more(self.number)
    }

    #[inline(always)]
    fn rare(self) -> &'s Rare {
        self.slab.rare(self.number)
    }

    /// Fills a free entry, whose only owner is the caller. It is not live yet.
    pub fn fill(self, birth: &Birth) {
        let (mut flags, four) = (birth.flags, birth.orig.family() == V4);
        let plain = birth.is_plain();
        if !plain {
            flags |= NAT;
        }
        let apart = !plain && !four;
        if apart || birth.tcp.is_some() {
            self.slab.uses_more();
        }
        if apart {
            store(&self.more().reply, &birth.reply);
        }
        if four {
            let ([ends, last], [back, last_back]) = (birth.orig.words(), birth.reply.words());
            let changes = if plain { 0 } else { packed(nat::changes_v4(&birth.orig, &birth.reply)) };
            store(&self.sides, &Tuple([ends, last, back, last_back, changes]));
            flags |= FOUR;
        } else {
            store(&self.sides, &birth.orig);
        }
        if let Some(parent) = &birth.parent {
            store(&self.rare().parent, parent);
            flags |= RELATED;
        }
        if birth.label != 0 {
            self.write_label(birth.label);
            flags |= LABEL;
        }
        if birth.policy != 0 || birth.helper != super::helper::NONE {
            flags |= PECULIAR;
        }
        self.mark.store(birth.mark, Ordering::Relaxed);
        self.policy.store(birth.policy, Ordering::Relaxed);
        self.helper.store(birth.helper, Ordering::Relaxed);
        self.skew_reply.store(0, Ordering::Relaxed);
        self.links().ports.iter().for_each(|port| port.store(0, Ordering::Relaxed));
        if let Some(tcp) = &birth.tcp {
            self.set_tcp(tcp);
        }
        self.expires_ms.store(birth.expires_ms, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// A packet came in by a port.
    pub fn came_by(self, reply: bool, port: DpPort) {
        self.links().ports[usize::from(reply)].store(port.0.wrapping_add(1), Ordering::Relaxed);
    }

    /// Makes a filled entry live.
    pub fn publish(self) {
        self.flags.store(self.flags.load(Ordering::Relaxed) | LIVE, Ordering::Release);
    }

    /// Fetches what a new connection writes.
    #[inline]
    pub fn prefetch_free(self) {
        crate::prefetch(std::ptr::from_ref(self.hot));
        crate::prefetch(std::ptr::from_ref(self.links()));
    }

    /// Ends a connection; false if that happened already.
    pub fn kill(self) -> bool {
        // A free entry, or one that is being filled, must not be marked.
        let mark = |flags: u32| (flags & (LIVE | DEAD) == LIVE).then_some(flags | DEAD);
        self.flags.fetch_update(Ordering::AcqRel, Ordering::Relaxed, mark).is_ok()
    }

    /// Makes a dead entry, whose grace period is over, free.
    pub fn free(self) {
        self.links().generation.fetch_add(1, Ordering::AcqRel);
        self.flags.store(0, Ordering::Release);
    }

    /// Whether it is a connection that has not ended or expired.
    #[inline]
    #[must_use]
    pub fn is_alive(self, now_ms: Msec) -> bool {
        self.flags.load(Ordering::Acquire) & (LIVE | DEAD) == LIVE && self.expires_ms.load(Ordering::Relaxed) > now_ms
    }

    /// Whether it may end so that another connection has its place: no answer was seen, its handshake is not over, or it is closing.
    #[must_use]
    pub fn gives_way(self, now_ms: Msec) -> bool {
        !self.is_alive(now_ms) || !self.has(ASSURED) || self.has(CLOSING)
    }

    #[inline]
    #[must_use]
    pub fn has(self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Sets flags, and writes only if one of them was not set.
    #[inline]
    pub fn raise(self, flag: u32) -> bool {
        let new = self.flags.load(Ordering::Relaxed) & flag != flag;
        new && self.flags.fetch_or(flag, Ordering::Relaxed) & flag != flag
    }

    #[inline]
    #[must_use]
    pub fn orig(self) -> Tuple {
        self.both(self.flags.load(Ordering::Relaxed)).0
    }

    /// The protocol that rules see: of the connection that announced it, if one did.
    #[inline]
    #[must_use]
    pub fn proto(self) -> u8 {
        self.parent().map_or_else(|| self.orig().proto(), |parent| parent.proto())
    }

    #[inline]
    #[must_use]
    pub fn reply(self) -> Tuple {
        self.both(self.flags.load(Ordering::Relaxed)).1
    }

    /// The tuples of both directions; `flags` are the entry's.
    #[inline]
    #[must_use]
    pub fn both(self, flags: u32) -> (Tuple, Tuple) {
        let sides = load(&self.sides);
        if flags & FOUR != 0 {
            let [ends, last, back, last_back, _] = sides.0;
            return (Tuple::of_words_v4(ends, last), Tuple::of_words_v4(back, last_back));
        }
        (sides, if flags & NAT != 0 { load(&self.more().reply) } else { sides.reversed() })
    }

    #[must_use]
    pub fn parent(self) -> Option<Tuple> {
        self.has(RELATED).then(|| load(&self.rare().parent))
    }

    /// Whether `tuple` is a packet of it, and then whether of the answering side.
    #[inline]
    #[must_use]
    pub fn direction(self, tuple: &Tuple) -> Option<bool> {
        let (forward, backward) = self.directions(tuple, self.flags.load(Ordering::Relaxed));
        (forward | backward).then_some(!forward)
    }

    /// Whether `tuple` is a packet of the side that began, and whether one of the answering side; `flags` are the entry's.
    #[inline]
    #[must_use]
    pub fn directions(self, tuple: &Tuple, flags: u32) -> (bool, bool) {
        let (orig, reply) = self.both(flags);
        (orig.is(tuple), reply.is(tuple))
    }

    /// The tuple of one direction of a connection that is `FOUR`, in two words (`Tuple::of_words_v4`).
    #[inline(always)]
    #[must_use]
    pub fn side_v4(self, reply: bool) -> [u64; 2] {
        [0, 1].map(|i| self.sides[2 * usize::from(reply) + i].load(Ordering::Relaxed))
    }

    /// Whether two words are the tuple of the side that began, and of the answering one, of a connection that is `FOUR`.
    #[inline(always)]
    #[must_use]
    pub fn directions_v4(self, words: [u64; 2]) -> (bool, bool) {
        let is = |side: [u64; 2]| (side[0] ^ words[0]) | (side[1] ^ words[1]) == 0;
        (is(self.side_v4(false)), is(self.side_v4(true)))
    }

    /// `directions` for a tuple of TCP or UDP over IPv6.
    #[inline(always)]
    #[must_use]
    pub fn directions_v6(self, tuple: &Tuple, flags: u32) -> (bool, bool) {
        if flags & NAT != 0 {
            return self.directions(tuple, flags);
        }
        // Turned round is the packet's tuple: that of the connection need not be read twice.
        let sides = load(&self.sides);
        (sides.is(tuple), sides.is(&tuple.turned()))
    }

    /// What translating a packet of one direction changes its checksums by, of a connection that is `FOUR` and has `NAT`.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "16 bits are meant")]
    pub fn changes_v4(self, reply: bool) -> [u16; 2] {
        let both = self.sides[4].load(Ordering::Relaxed) >> (u32::from(reply) * 32);
        [both as u16, (both >> 16) as u16]
    }

    /// What `Hot` has, as two vectors of words: the sides; what translation changes sums by, `expires_ms`, flags with the mark above them, and the rest.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn halves(self) -> [std::arch::x86_64::__m256i; 2] {
        const { assert!(std::mem::offset_of!(Hot, expires_ms) == 40 && std::mem::offset_of!(Hot, flags) == 48) };
        const { assert!(std::mem::offset_of!(Hot, sides) == 0 && std::mem::offset_of!(Hot, mark) == 52) };
        let (sides, rest);
        // SAFETY: both vectors lie in the line, at aligned addresses. Loads in assembly are the processor's own, to which words that others store are
        // words, so that this is no data race of the language; and it loads in order, so that what stood before `LIVE` was set is seen with it.
        unsafe {
            std::arch::asm!(
                "vmovdqa {rest}, [{at} + 32]",
                "vmovdqa {sides}, [{at}]",
                at = in(reg) std::ptr::from_ref(self.hot),
                rest = out(ymm_reg) rest,
                sides = out(ymm_reg) sides,
                options(readonly, nostack, preserves_flags)
            );
        }
        [sides, rest]
    }

    /// Starts the timeout again. Less than an eighth of a second is not worth a write that other cores would have to fetch.
    #[inline]
    pub fn expire_at(self, at_ms: Msec) {
        let later = at_ms.wrapping_sub(self.expires_ms.load(Ordering::Relaxed)).cast_unsigned();
        // An earlier time is very much later here, and written as well.
        if later >= STEP_MS {
            self.expires_ms.store(at_ms, Ordering::Relaxed);
        }
    }

    #[inline]
    #[must_use]
    pub fn label(self) -> u128 {
        if !self.has(LABEL) {
            return 0;
        }
        let [high, low] = [0, 1].map(|i| u128::from(self.rare().label[i].load(Ordering::Relaxed)));
        high << 64 | low
    }

    fn write_label(self, label: u128) {
        let half = |n: u128| u64::try_from(n & u128::from(u64::MAX)).expect("masked to 64 bits");
        self.rare().label[0].store(half(label >> 64), Ordering::Relaxed);
        self.rare().label[1].store(half(label), Ordering::Relaxed);
    }

    pub fn set_label(self, label: u128) {
        self.write_label(label);
        self.flags.fetch_or(LABEL, Ordering::Relaxed);
    }

    /// Takes TCP's ends.
    #[inline]
    #[must_use]
    pub fn hold_tcp(self) -> TcpGuard<'s> {
        while self.lock.swap(1, Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
        TcpGuard { entry: self }
    }

    #[inline(always)]
    fn tcp(self) -> Tcp {
        let [first, second] = &self.more().ends;
        let end = |[sent, limit, rest]: &[AtomicU32; 3]| {
            let (window, scale, state) = unpack(rest.load(Ordering::Relaxed));
            End { sent: sent.load(Ordering::Relaxed), limit: limit.load(Ordering::Relaxed), window, scale, state }
        };
        Tcp { ends: [end(first), end(second)] }
    }

    #[inline(always)]
    fn set_tcp(self, tcp: &Tcp) {
        for (to, end) in self.more().ends.iter().zip(&tcp.ends) {
            to[0].store(end.sent, Ordering::Relaxed);
            to[1].store(end.limit, Ordering::Relaxed);
            to[2].store(pack(end), Ordering::Relaxed);
        }
    }

    /// Names the others of a chain of free entries that this one is the first of; `NONE` after the last.
    pub(super) fn set_members(self, members: [u32; MEMBERS]) {
        for (word, [low, high]) in self.sides.iter().zip(members.as_chunks::<2>().0) {
            word.store(u64::from(*high) << 32 | u64::from(*low), Ordering::Relaxed);
        }
    }

    /// What `set_members` has said.
    #[allow(clippy::cast_possible_truncation, reason = "halves of words")]
    pub(super) fn members(self) -> [u32; MEMBERS] {
        let words = load(&self.sides);
        std::array::from_fn(|i| (words.0[i / 2] >> (i % 2 * 32)) as u32)
    }

    /// As dumps show it; `None` if it is no connection, or changed while it was read.
    #[must_use]
    pub fn shown(self, now_ms: Msec) -> Option<CtEntry> {
        let generation = self.links().generation.load(Ordering::Acquire);
        if !self.is_alive(now_ms) {
            return None;
        }
        let entry = self.described(now_ms);
        fence(Ordering::Acquire);
        (self.links().generation.load(Ordering::Relaxed) == generation && self.is_alive(now_ms)).then_some(entry)
    }

    /// The same for who knows that the entry is not freed meanwhile, also when it has just ended.
    #[must_use]
    pub fn described(self, now_ms: Msec) -> CtEntry {
        let orig = self.orig();
        let mut tcp = (orig.proto() == flow::wire::ip_proto::TCP).then(|| self.tcp().shown());
        if let Some(tcp) = &mut tcp
            && self.has(CARRIED)
        {
            tcp.liberal = [true; 2];
        }
        CtEntry {
            orig: orig.shown(),
            reply: self.reply().shown(),
            parent: self.parent().map(|p| p.shown()),
            zone: orig.zone(),
            mark: self.mark.load(Ordering::Relaxed),
            label: self.label(),
            timeout_ms: self.expires_ms.load(Ordering::Relaxed) - now_ms,
            tcp,
            helper: super::helper::name_of(self.helper.load(Ordering::Relaxed)),
            established: self.has(ASSURED) && !self.has(CLOSING),
            translated: [self.has(NAT_SRC), self.has(NAT_DST)],
            ports: [0, 1].map(|i| self.links().ports[i].load(Ordering::Relaxed).checked_sub(1).map(DpPort)),
            bucket: 0,
        }
    }
}
