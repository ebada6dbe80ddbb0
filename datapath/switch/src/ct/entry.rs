//! A connection in memory: four cache lines of atomics, so that any thread may read it at any time.
//!
//! What enters: a new connection, from the thread that saw its first packet. What leaves: what packets of it need. Neighbours: `slab` (where
//! entries live), `track` (reads and moves them), `reaper` (frees them).
//!
//! # What holds
//!
//! - Line 0 is all that a packet of an established connection without NAT touches, except TCP's windows in line 1. A new one without NAT and
//!   states of TCP has its link in line 2 written besides: what its flags say is not there is not written.
//! - `orig`, `reply`, `parent` and what else is said once are written before `LIVE` is set (Release) and not changed until the entry is
//!   free again, which is a grace period after `DEAD` was set: who found a live entry under a guard may read them to the end of its batch.
//! - TCP's ends change together: whoever moves them holds `lock`, a bit that is held for some tens of instructions and never across
//!   another lock. Everything else is a single atomic.
//! - Control threads read without a guard. They take `generation` before and after, and leave out what changed meanwhile.

use super::tcp::{End, Scale, Tcp};
use super::tuple::Tuple;
use crate::memory::Zeroable;
use flow::DpPort;
use flow::clock::Msec;
use flow::conntrack::{CtEntry, TcpState};
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

/// No entry.
pub const NONE: u32 = 0;

/// Free entries of a chain, apart from its first.
pub const MEMBERS: usize = 10;

/// A connection.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Entry {
    // line 0
    orig: [AtomicU64; 5],
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
    // line 1
    reply: [AtomicU64; 5],
    ends: [[AtomicU32; 3]; 2],
    // line 2
    label: [AtomicU64; 2],
    parent: [AtomicU64; 5],
    /// The next in the wheel; until the reaper has seen the entry, the next among births.
    pub wheel_next: AtomicU32,
    pub wheel_prev: AtomicU32,
    // line 3
    /// The next among deaths; of the first of a chain of free entries, the next chain.
    pub chain: AtomicU32,
    generation: AtomicU32,
    /// Bytes that the helper's changes have added.
    pub skew: AtomicU32,
    pub wheel_slot: AtomicU32,
    /// Ports that both directions come in by, and one; 0 for unknown.
    ports: [AtomicU32; 2],
    /// Of the first of a chain of free entries: the others.
    pub members: [AtomicU32; MEMBERS],
}

const _: () = assert!(size_of::<Entry>() == 256);
const _: () = assert!(core::mem::offset_of!(Entry, reply) == 64);
const _: () = assert!(core::mem::offset_of!(Entry, label) == 128);
const _: () = assert!(core::mem::offset_of!(Entry, chain) == 192);

// SAFETY: an entry is made of atomic integers only: all zeroes is an entry that is free, and there is nothing to drop.
unsafe impl Zeroable for Entry {}

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

/// TCP's ends, held.
#[derive(Debug)]
pub struct TcpGuard<'e> {
    entry: &'e Entry,
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
}

fn pack(end: &End) -> u32 {
    let scale = match end.scale {
        Scale::None => 0x80,
        Scale::Shift(s) => u32::from(s),
        Scale::Unknown => 0x40,
    };
    u32::from(end.window) << 16 | scale << 8 | end.state as u32
}

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

impl Entry {
    /// Fills a free entry, whose only owner is the caller. It is not live yet.
    pub fn fill(&self, birth: &Birth) {
        store(&self.orig, &birth.orig);
        let mut flags = birth.flags;
        if birth.reply != birth.orig.reversed() {
            store(&self.reply, &birth.reply);
            flags |= NAT;
        }
        if let Some(parent) = &birth.parent {
            store(&self.parent, parent);
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
        self.ports.iter().for_each(|port| port.store(0, Ordering::Relaxed));
        if let Some(tcp) = &birth.tcp {
            self.set_tcp(tcp);
        }
        self.expires_ms.store(birth.expires_ms, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// A packet came in by a port.
    pub fn came_by(&self, reply: bool, port: DpPort) {
        self.ports[usize::from(reply)].store(port.0.wrapping_add(1), Ordering::Relaxed);
    }

    /// Makes a filled entry live.
    pub fn publish(&self) {
        self.flags.store(self.flags.load(Ordering::Relaxed) | LIVE, Ordering::Release);
    }

    /// Fetches what a packet of it reads; `more` for TCP and NAT.
    #[inline]
    pub fn prefetch_known(&self, more: bool) {
        crate::prefetch(&raw const self.orig);
        if more {
            crate::prefetch(&raw const self.reply);
        }
    }

    /// Fetches what a new connection writes.
    #[inline]
    pub fn prefetch_free(&self, nat: bool) {
        crate::prefetch(&raw const self.orig);
        crate::prefetch(&raw const self.label);
        crate::prefetch(&raw const self.chain);
        if nat {
            crate::prefetch(&raw const self.reply);
        }
    }

    /// Ends a connection; false if that happened already.
    pub fn kill(&self) -> bool {
        // A free entry, or one that is being filled, must not be marked.
        let mark = |flags: u32| (flags & (LIVE | DEAD) == LIVE).then_some(flags | DEAD);
        self.flags.fetch_update(Ordering::AcqRel, Ordering::Relaxed, mark).is_ok()
    }

    /// Makes a dead entry, whose grace period is over, free.
    pub fn free(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.flags.store(0, Ordering::Release);
    }

    /// Whether it is a connection that has not ended or expired.
    #[inline]
    #[must_use]
    pub fn is_alive(&self, now_ms: Msec) -> bool {
        self.flags.load(Ordering::Acquire) & (LIVE | DEAD) == LIVE && self.expires_ms.load(Ordering::Relaxed) > now_ms
    }

    #[inline]
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Sets flags, and writes only if one of them was not set.
    #[inline]
    pub fn add(&self, flag: u32) -> bool {
        let new = self.flags.load(Ordering::Relaxed) & flag != flag;
        new && self.flags.fetch_or(flag, Ordering::Relaxed) & flag != flag
    }

    #[inline]
    #[must_use]
    pub fn orig(&self) -> Tuple {
        load(&self.orig)
    }

    /// The protocol that rules see: of the connection that announced it, if one did.
    #[inline]
    #[must_use]
    pub fn proto(&self) -> u8 {
        self.parent().map_or_else(|| self.orig().proto(), |parent| parent.proto())
    }

    #[inline]
    #[must_use]
    pub fn reply(&self) -> Tuple {
        if self.has(NAT) { load(&self.reply) } else { self.orig().reversed() }
    }

    #[must_use]
    pub fn parent(&self) -> Option<Tuple> {
        self.has(RELATED).then(|| load(&self.parent))
    }

    /// Whether `tuple` is a packet of it, and then whether of the answering side.
    #[inline]
    #[must_use]
    pub fn direction(&self, tuple: &Tuple) -> Option<bool> {
        let (forward, backward) = self.directions(tuple, self.flags.load(Ordering::Relaxed));
        (forward | backward).then_some(!forward)
    }

    /// Whether `tuple` is a packet of the side that began, and whether one of the answering side; `flags` are the entry's.
    #[inline]
    #[must_use]
    pub fn directions(&self, tuple: &Tuple, flags: u32) -> (bool, bool) {
        let orig = self.orig();
        let reply = if flags & NAT != 0 { load(&self.reply) } else { orig.reversed() };
        (orig.is(tuple), reply.is(tuple))
    }

    /// `directions` of TCP and UDP over IPv4, in two words: addresses (`Tuple::of_words_v4`), and what else is in a tuple.
    #[inline(always)]
    #[must_use]
    pub fn directions_v4(&self, (ends, rest): (u64, u64), flags: u32) -> (bool, bool) {
        // The other halves of the addresses are zero wherever the family in the last word is IPv4.
        let (own, last) = self.words_v4(false);
        let forward = (own ^ ends) | (last ^ rest);
        let backward = if flags & NAT != 0 {
            let (other, last) = self.words_v4(true);
            (other ^ ends) | (last ^ rest)
        } else {
            (own ^ ends.rotate_left(32)) | (last ^ Tuple::turned_last(rest))
        };
        (forward == 0, backward == 0)
    }

    /// Addresses and the last word of the tuple of a direction, over IPv4. Answers have one of their own only where `NAT` is set.
    #[inline(always)]
    #[must_use]
    pub fn words_v4(&self, reply: bool) -> (u64, u64) {
        let words = if reply { &self.reply } else { &self.orig };
        let [src, dst, last] = [0, 2, 4].map(|i| words[i].load(Ordering::Relaxed));
        (src | dst << 32, last)
    }

    /// Starts the timeout again. Less than an eighth of a second is not worth a write that other cores would have to fetch.
    #[inline]
    pub fn expire_at(&self, at_ms: Msec) {
        const STEP_MS: u64 = 125;
        let later = at_ms.wrapping_sub(self.expires_ms.load(Ordering::Relaxed)).cast_unsigned();
        // An earlier time is very much later here, and written as well.
        if later >= STEP_MS {
            self.expires_ms.store(at_ms, Ordering::Relaxed);
        }
    }

    #[inline]
    #[must_use]
    pub fn label(&self) -> u128 {
        if !self.has(LABEL) {
            return 0;
        }
        let [high, low] = [0, 1].map(|i| u128::from(self.label[i].load(Ordering::Relaxed)));
        high << 64 | low
    }

    fn write_label(&self, label: u128) {
        let half = |n: u128| u64::try_from(n & u128::from(u64::MAX)).expect("masked to 64 bits");
        self.label[0].store(half(label >> 64), Ordering::Relaxed);
        self.label[1].store(half(label), Ordering::Relaxed);
    }

    pub fn set_label(&self, label: u128) {
        self.write_label(label);
        self.flags.fetch_or(LABEL, Ordering::Relaxed);
    }

    /// Takes TCP's ends.
    #[inline]
    #[must_use]
    pub fn hold_tcp(&self) -> TcpGuard<'_> {
        while self.lock.swap(1, Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
        TcpGuard { entry: self }
    }

    fn tcp(&self) -> Tcp {
        let end = |i: usize| {
            let [sent, limit, rest] = [0, 1, 2].map(|k| self.ends[i][k].load(Ordering::Relaxed));
            let (window, scale, state) = unpack(rest);
            End { sent, limit, window, scale, state }
        };
        Tcp { ends: [end(0), end(1)] }
    }

    fn set_tcp(&self, tcp: &Tcp) {
        for (to, end) in self.ends.iter().zip(&tcp.ends) {
            to[0].store(end.sent, Ordering::Relaxed);
            to[1].store(end.limit, Ordering::Relaxed);
            to[2].store(pack(end), Ordering::Relaxed);
        }
    }

    /// As dumps show it; `None` if it is no connection, or changed while it was read.
    #[must_use]
    pub fn shown(&self, now_ms: Msec) -> Option<CtEntry> {
        let generation = self.generation.load(Ordering::Acquire);
        if !self.is_alive(now_ms) {
            return None;
        }
        let entry = self.described(now_ms);
        fence(Ordering::Acquire);
        (self.generation.load(Ordering::Relaxed) == generation && self.is_alive(now_ms)).then_some(entry)
    }

    /// The same for who knows that the entry is not freed meanwhile, also when it has just ended.
    #[must_use]
    pub fn described(&self, now_ms: Msec) -> CtEntry {
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
            ports: [0, 1].map(|i| self.ports[i].load(Ordering::Relaxed).checked_sub(1).map(DpPort)),
            bucket: 0,
        }
    }
}
