//! Where entries live: one reservation of address space, taken into use from its beginning, and lists of entries that are free again.
//!
//! What enters: entries whose grace period is over. What leaves: free entries. Numbers name them; 0 is none.
//!
//! Forwarding threads take entries in chains of `CHAIN`, so that they meet on the shared list once in that many connections. The list is a
//! stack with a tag against ABA; memory is never given back, so a stale number can be followed safely.

use super::entry::{Entry, NONE};
use crate::memory::Lines;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Connections at most. 256 bytes each.
pub const CONNS_MAX: u32 = 1 << 22;
/// Entries that have ended and are not free yet, and chains in threads' hands.
const SLACK: u32 = 1 << 18;
/// Entries that are handed over together.
pub const CHAIN: u32 = 64;

/// All entries.
#[derive(Debug)]
pub struct Slab {
    entries: Lines<Entry>,
    /// Entries from here on were never used.
    fresh: AtomicU32,
    /// Tag, and the first entry of the first chain.
    chains: AtomicU64,
}

impl Default for Slab {
    fn default() -> Self {
        Self::new()
    }
}

impl Slab {
    /// Nothing in use.
    #[must_use]
    pub fn new() -> Self {
        let len = usize::try_from(CONNS_MAX + SLACK).expect("32 bits fit");
        Self { entries: Lines::zeroed(len), fresh: AtomicU32::new(1), chains: AtomicU64::new(0) }
    }

    /// An entry by its number.
    ///
    /// # Panics
    /// If there is no such number: a bug of ours.
    #[inline]
    #[must_use]
    pub fn at(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// Numbers that were ever used are below this.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.fresh.load(Ordering::Acquire).min(CONNS_MAX + SLACK)
    }

    /// A chain of free entries: its first, linked by `link`. `NONE` when there are none.
    #[must_use]
    pub fn take_chain(&self) -> u32 {
        let mut head = self.chains.load(Ordering::Acquire);
        loop {
            let (tag, first) = (head >> 32, low(head));
            if first == NONE {
                return self.fresh_chain();
            }
            let next = self.at(first).chain.load(Ordering::Relaxed);
            let new = tag.wrapping_add(1) << 32 | u64::from(next);
            match self.chains.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return first,
                Err(now) => head = now,
            }
        }
    }

    fn fresh_chain(&self) -> u32 {
        if self.fresh.load(Ordering::Relaxed) + CHAIN >= CONNS_MAX + SLACK {
            return NONE;
        }
        let first = self.fresh.fetch_add(CHAIN, Ordering::AcqRel);
        if first + CHAIN >= CONNS_MAX + SLACK {
            return NONE;
        }
        for n in first..first + CHAIN {
            self.at(n).link.store(if n + 1 < first + CHAIN { n + 1 } else { NONE }, Ordering::Relaxed);
        }
        first
    }

    /// Gives back a chain of free entries.
    pub fn give_chain(&self, first: u32) {
        if first == NONE {
            return;
        }
        let mut head = self.chains.load(Ordering::Acquire);
        loop {
            self.at(first).chain.store(low(head), Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(first);
            match self.chains.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(head: u64) -> u32 {
    head as u32
}

/// A list that many threads put entries on and one takes whole.
#[derive(Debug, Default)]
pub struct Pile(AtomicU32);

impl Pile {
    /// Puts an entry on it.
    pub fn push(&self, slab: &Slab, number: u32, link: impl Fn(&Entry) -> &AtomicU32) {
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            link(slab.at(number)).store(head, Ordering::Relaxed);
            match self.0.compare_exchange_weak(head, number, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all, the last put first.
    #[must_use]
    pub fn take(&self) -> u32 {
        if self.0.load(Ordering::Relaxed) == NONE { NONE } else { self.0.swap(NONE, Ordering::Acquire) }
    }
}
