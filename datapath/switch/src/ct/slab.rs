//! Where entries live: a reservation of address space for each of their parts, taken into use from its beginning, and lists of entries that are
//! free again.
//!
//! What enters: entries whose grace period is over. What leaves: free entries. Numbers name them; 0 is none.
//!
//! The parts of an entry stand apart, each beside the same part of its neighbours: what a packet of an established connection needs of it is one line
//! of 64 bytes in an array of such lines, so that those of many connections fit the processor's caches, and what a connection has no use for
//! takes no memory.
//!
//! Forwarding threads take entries in chains of `CHAIN`, so that they meet on the shared list once in that many connections. The first entry of
//! a chain names the others, so that one line of memory is looked at for all. The list is a stack with a tag against ABA; memory is never
//! given back, so a stale number can be followed safely.
//!
//! Memory that was never used is made present ahead of use by the reaper's thread (`fault_ahead`): a forwarding thread that touched it first
//! would have to wait for the kernel to clear a page. Of the parts that only some connections use that is done for `More`, while there are such.

use super::entry::{Entry, Hot, Links, MEMBERS, More, NONE, Rare};
use crate::memory::Lines;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Connections at most. 96 bytes each; 64 more with TCP, or NAT over IPv6, and 56 with a label or a parent.
pub const CONNS_MAX: u32 = 1 << 22;
/// Entries that have ended and are not free yet, and chains in threads' hands.
const SLACK: u32 = 1 << 18;
/// Entries that are handed over together.
pub const CHAIN: usize = 1 + MEMBERS;
const CHAIN_32: u32 = 11;
const _: () = assert!(CHAIN_32 as usize == CHAIN);

/// All entries.
#[derive(Debug)]
pub struct Slab {
    hot: Lines<Hot>,
    links: Lines<Links>,
    more: Lines<More>,
    rare: Lines<Rare>,
    /// Entries from here on were never used.
    fresh: AtomicU32,
    /// Tag, and the first entry of the first chain.
    chains: AtomicU64,
    /// Bytes that `fault_ahead` has seen to, of each part.
    present: [AtomicUsize; 3],
    /// Some connection that began lately uses `More`.
    more_used: AtomicBool,
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
        Self {
            hot: Lines::zeroed(len),
            links: Lines::zeroed(len),
            more: Lines::zeroed(len),
            rare: Lines::zeroed(len),
            fresh: AtomicU32::new(1),
            chains: AtomicU64::new(0),
            present: std::array::from_fn(|_| AtomicUsize::new(0)),
            more_used: AtomicBool::new(false),
        }
    }

    /// An entry by its number.
    ///
    /// # Panics
    /// If there is no such number: a bug of ours.
    #[inline(always)]
    #[must_use]
    pub fn at(&self, number: u32) -> Entry<'_> {
        Entry::new(self, &self.hot[number as usize], number)
    }

    /// Fetches what every packet of an entry reads; `more` for TCP, and NAT over IPv6. Fetching asks for no bounds.
    #[inline(always)]
    pub(super) fn prefetch(&self, number: u32, more: bool) {
        crate::prefetch(self.hot.as_ptr().wrapping_add(number as usize));
        if more {
            crate::prefetch(self.more.as_ptr().wrapping_add(number as usize));
        }
    }

    #[inline(always)]
    pub(super) fn links(&self, number: u32) -> &Links {
        &self.links[number as usize]
    }

    #[inline(always)]
    pub(super) fn more(&self, number: u32) -> &More {
        &self.more[number as usize]
    }

    #[inline(always)]
    pub(super) fn rare(&self, number: u32) -> &Rare {
        &self.rare[number as usize]
    }

    /// A connection begins that uses `More`.
    #[inline]
    pub(super) fn uses_more(&self) {
        if !self.more_used.load(Ordering::Relaxed) {
            self.more_used.store(true, Ordering::Relaxed);
        }
    }

    /// Numbers that were ever used are below this.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.fresh.load(Ordering::Acquire).min(CONNS_MAX + SLACK)
    }

    /// A chain of free entries, put into `out`, which has room for one: how many; 0 when there are none.
    ///
    /// # Panics
    /// If `out` has no room for a chain: a bug of ours.
    #[must_use]
    pub fn take_chain(&self, out: &mut [u32]) -> usize {
        let out = out.first_chunk_mut::<CHAIN>().expect("callers have room for a chain");
        let mut head = self.chains.load(Ordering::Acquire);
        loop {
            let (tag, first) = (head >> 32, low(head));
            if first == NONE {
                return self.fresh_chain(out);
            }
            let next = self.links(first).chain.load(Ordering::Relaxed);
            let new = tag.wrapping_add(1) << 32 | u64::from(next);
            match self.chains.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    out[0] = first;
                    out[1..].copy_from_slice(&self.at(first).members());
                    return 1 + out[1..].iter().take_while(|n| **n != NONE).count();
                }
                Err(now) => head = now,
            }
        }
    }

    fn fresh_chain(&self, out: &mut [u32; CHAIN]) -> usize {
        if self.fresh.load(Ordering::Relaxed) + CHAIN_32 >= CONNS_MAX + SLACK {
            return 0;
        }
        let first = self.fresh.fetch_add(CHAIN_32, Ordering::AcqRel);
        if first + CHAIN_32 >= CONNS_MAX + SLACK {
            return 0;
        }
        // The lowest is taken first: neighbours share pages.
        for (to, number) in out.iter_mut().rev().zip(first..) {
            *to = number;
        }
        CHAIN
    }

    /// Gives back free entries, `CHAIN` at most.
    pub fn give_chain(&self, numbers: &[u32]) {
        let Some((first, others)) = numbers.split_first() else { return };
        self.at(*first).set_members(std::array::from_fn(|i| others.get(i).copied().unwrap_or(NONE)));
        let chain = &self.links(*first).chain;
        let mut head = self.chains.load(Ordering::Acquire);
        loop {
            chain.store(low(head), Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(*first);
            match self.chains.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Makes the memory of `entries` entries present, beyond those that were ever used. For the reaper's thread: it may take milliseconds.
    pub fn fault_ahead(&self, entries: u32) {
        let (from, end) = (self.end() as usize, self.end().saturating_add(entries).min(CONNS_MAX + SLACK) as usize);
        let [hot, links, more] = &self.present;
        self.hot.fault_in(from..end, hot);
        self.links.fault_in(from..end, links);
        if self.more_used.swap(false, Ordering::Relaxed) {
            self.more.fault_in(from..end, more);
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
    pub fn push(&self, slab: &Slab, number: u32, link: impl Fn(&Links) -> &AtomicU32) {
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            link(slab.links(number)).store(head, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Whatever comes and goes, no entry is in two hands, and none is lost.
    #[test]
    fn chains_come_back_whole() {
        let slab = Slab::new();
        let mut out = [NONE; 2 * CHAIN];
        assert_eq!(slab.take_chain(&mut out[1..]), CHAIN);
        assert_eq!(out[1..=CHAIN].iter().copied().collect::<BTreeSet<_>>(), (1..=CHAIN_32).collect());
        assert_eq!(slab.take_chain(&mut out), CHAIN, "fresh ones again");
        assert_eq!(slab.end(), 1 + 2 * CHAIN_32);
        slab.give_chain(&[]);
        slab.give_chain(&[7]);
        slab.give_chain(&[1, 2, 3]);
        slab.give_chain(&(14..14 + CHAIN_32).collect::<Vec<_>>());
        let mut taken: Vec<u32> = Vec::new();
        for want in [CHAIN, 3, 1] {
            assert_eq!(slab.take_chain(&mut out), want);
            taken.extend(&out[..want]);
        }
        assert_eq!(taken.split_off(CHAIN), [1, 2, 3, 7]);
        assert_eq!(taken, (14..14 + CHAIN_32).collect::<Vec<_>>());
        assert_eq!(slab.end(), 1 + 2 * CHAIN_32);
        slab.fault_ahead(1000);
    }
}
