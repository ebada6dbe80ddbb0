//! Connection tracking: which connection a packet belongs to, and what may be said of it.
//!
//! What enters: packets at a `ct` action (`track`), settings and questions of control (`control`). What leaves: packets with `ct_*` fields, with
//! NAT translated; connections as dumped; events. Neighbours: `execute` (the action), `qsbr` (when entries are free again).
//!
//! | room | what for |
//! |---|---|
//! | [`tuple`], [`packet`] | from a packet to its tuple |
//! | [`tcp`], [`stage`] | state machines, pure |
//! | [`entry`], [`slab`], [`table`] | connections in memory, without locks for who reads |
//! | [`seek`], `short`, `version`, `eight`, `sums`, `common`, [`track`] | packets through a `ct` action |
//! | [`nat`], [`helper`], [`ftp`], [`expect`], [`fragments`] | what few packets need |
//! | [`limits`] | zones, timeout policies |
//! | [`reaper`] | the thread that ends what has expired, and frees it |
//! | [`control`] | dumps, flushes, settings |
//!
//! # What holds
//!
//! - A packet of a known connection takes no lock: it hashes its tuple (keyed, equal for both directions), reads one bucket and the entry's
//!   first line, and stores the new expiry. TCP holds a bit of its own entry while it moves the windows.
//! - A new connection holds one of 4096 lock bits, two with NAT, while it looks whether another thread made it meanwhile.
//! - What has expired is not found any more, at once; the reaper frees it at its next visit, at most a sweep interval later.
//! - The table grows with the connections; while it does, they are found under both sizes.
//! - When as many connections stand as may, or both buckets of one are full, it ends another nearby that is not assured (no answer seen,
//!   handshake not over, or closing); if there is none, a new one is not kept itself. So a flood of first packets cannot end established
//!   connections.
//! - Everything is bounded and counted: connections, expectations, fragments, attempts to find a port, events.

mod common;
pub mod control;
#[cfg(target_arch = "x86_64")]
mod eight;
pub mod entry;
pub mod expect;
pub mod fragments;
pub mod ftp;
pub mod helper;
pub mod limits;
pub mod nat;
pub mod packet;
pub mod reaper;
pub mod seek;
mod short;
pub mod slab;
pub mod stage;
mod sums;
pub mod table;
pub mod tcp;
pub mod track;
pub mod tuple;
mod version;

use crate::bundle::BUNDLE_MAX;
use crate::qsbr::MEMBERS_MAX;
use entry::{ASSURED, Birth, CLOSING, Entry, NAT, NONE};
use expect::Expectations;
use flow::clock::Msec;
use flow::conntrack::CtEvent;
use fragments::Fragments;
use limits::{Policies, Zones};
use slab::{Pile, Slab};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;
use table::Table;
use tuple::Tuple;

flow::counters! {
    CT_FULL = "conntrack_full", "A connection was not kept: there were as many as may be.";
    CT_ZONE_FULL = "conntrack_zone_full", "A connection was not kept: its zone has as many as it may.";
    CT_EARLY_DROP = "conntrack_early_drop", "A connection that was not assured gave way to a new one.";
    CT_EXPIRED = "conntrack_expired", "A connection has expired.";
    CT_EVENTS_LOST = "conntrack_events_lost", "An event was not kept: nobody took the earlier ones.";
}

/// Connections, at first.
pub const MAX_DEFAULT: u32 = 3_000_000;
/// Events kept.
pub const EVENTS_MAX: usize = 65_536;
/// Entries that are looked at for a connection that may give way.
const EARLY_DROP_LOOKS: u32 = 64;
/// Connections at most that give way to one, where other threads take the places, or where the limit was lowered.
const GIVE_WAY_MAX: usize = 8;
/// Connections that began last and are remembered, when hardly any more may begin.
const RECENT_MAX: u32 = 64;

/// A connection tracker.
#[derive(Debug)]
pub struct Ct {
    slab: Slab,
    table: Table,
    keys: [u64; 4],
    /// Entries that the reaper has not seen yet.
    births: Box<[Pile]>,
    /// Entries that have ended.
    deaths: Pile,
    /// Those that stand, and those that are about to begin.
    count: AtomicU32,
    /// Some that began last, when hardly any more might.
    recent: [AtomicU32; RECENT_MAX as usize],
    /// Connections that stand in the table twice.
    twofold: AtomicU32,
    max: AtomicU32,
    liberal: AtomicBool,
    sweep_ms: AtomicU32,
    /// Look at every entry at the next turn.
    sweep_now: AtomicBool,
    zones: Zones,
    policies: Policies,
    expectations: Expectations,
    fragments: Fragments,
    /// Fragments of encapsulated packets, put together before they are decapsulated.
    pub outer: Fragments,
    watched: AtomicBool,
    events: Mutex<VecDeque<CtEvent>>,
    /// Wakes the reaper.
    reaper: OnceLock<Waker>,
}

/// Entries that a forwarding thread has at hand at most: for a whole batch of new connections.
const STOCK: usize = BUNDLE_MAX + slab::CHAIN;

/// A forwarding thread's free entries, and its seat.
#[derive(Debug)]
pub struct Local {
    stock: [u32; STOCK],
    n: usize,
    seat: usize,
}

impl Local {
    /// For the thread in a seat.
    #[must_use]
    pub const fn new(seat: usize) -> Self {
        Self { stock: [NONE; STOCK], n: 0, seat }
    }
}

/// What came of a birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Born {
    New(u32),
    /// Another thread was faster: its entry, and whether the packet is an answer.
    Known(u32, bool),
    /// The tuple of the answers is another connection's.
    Clash,
    Full,
}

impl Default for Ct {
    fn default() -> Self {
        Self::new()
    }
}

impl Ct {
    /// No connections.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slab: Slab::new(),
            table: Table::new(),
            keys: std::array::from_fn(|_| crate::hash::random()),
            births: (0..MEMBERS_MAX).map(|_| Pile::default()).collect(),
            deaths: Pile::default(),
            count: AtomicU32::new(0),
            recent: std::array::from_fn(|_| AtomicU32::new(NONE)),
            twofold: AtomicU32::new(0),
            max: AtomicU32::new(MAX_DEFAULT),
            liberal: AtomicBool::new(false),
            sweep_ms: AtomicU32::new(reaper::SWEEP_DEFAULT_MS),
            sweep_now: AtomicBool::new(false),
            zones: Zones::default(),
            policies: Policies::default(),
            expectations: Expectations::default(),
            fragments: Fragments::default(),
            outer: Fragments::of_any_size(),
            watched: AtomicBool::new(false),
            events: Mutex::default(),
            reaper: OnceLock::new(),
        }
    }

    /// The hash that a tuple and its reverse are found under.
    #[inline]
    #[must_use]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        tuple.hash(&self.keys)
    }

    /// The connection of a tuple: its number, and whether the tuple is an answer.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, tuple: &Tuple, now_ms: Msec) -> Option<(u32, bool)> {
        self.table.find(hash, |n| {
            let entry = self.slab.at(n);
            if entry.is_alive(now_ms) { entry.direction(tuple).map(|reply| (n, reply)) } else { None }
        })
    }

    /// `find` for who is about to make a connection, and whether anything at all stands under the hash. The connection before it, which has
    /// expired, does not stand in its way until the reaper comes.
    fn find_and_end_expired(&self, hash: u64, tuple: &Tuple, now_ms: Msec) -> (Option<(u32, bool)>, bool) {
        let (mut expired, mut any) = (NONE, false);
        let found = self.table.find(hash, |n| {
            any = true;
            let entry = self.slab.at(n);
            let reply = entry.direction(tuple)?;
            if entry.is_alive(now_ms) {
                return Some((n, reply));
            }
            expired = n;
            None
        });
        if expired != NONE && self.end(expired) {
            CT_EXPIRED.inc();
        }
        (found, any)
    }

    /// Makes a connection, unless there is one of its tuples.
    pub fn bear(&self, local: &mut Local, birth: &Birth, hash: u64, now_ms: Msec) -> Born {
        let born = if self.reserve(hash, now_ms) { self.bear_reserved(local, birth, hash, now_ms) } else { Born::Full };
        if born == Born::Full {
            CT_FULL.inc();
        }
        born
    }

    /// The same for a connection that is counted already, and is not any longer if it does not begin.
    fn bear_reserved(&self, local: &mut Local, birth: &Birth, hash: u64, now_ms: Msec) -> Born {
        // Without translation both directions have one hash.
        let reply_hash = if birth.is_plain() { hash } else { self.hash(&birth.reply) };
        let number = self.take(local);
        if number == NONE {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Born::Full;
        }
        let entry = self.slab.at(number);
        entry.fill(birth);
        let held = self.table.hold(hash, reply_hash);
        let (found, any) = self.find_and_end_expired(hash, &birth.orig, now_ms);
        // What is not there need not be looked for twice.
        let clashes = || (any || reply_hash != hash) && self.find(reply_hash, &birth.reply, now_ms).is_some();
        let found = match found {
            Some((n, reply)) => Err(Born::Known(n, reply)),
            None if clashes() => Err(Born::Clash),
            None => Ok(()),
        };
        let placed = found.and_then(|()| {
            // The reaper learns of it before anybody can end it.
            let placed = self.insert(hash, number, now_ms) && {
                let both = reply_hash == hash || self.insert(reply_hash, number, now_ms);
                if !both {
                    self.table.remove(hash, number);
                }
                both
            };
            if placed { Ok(()) } else { Err(Born::Full) }
        });
        if let Err(refused) = placed {
            drop(held);
            // It was taken from there.
            local.stock[local.n] = number;
            local.n += 1;
            self.count.fetch_sub(1, Ordering::Relaxed);
            return refused;
        }
        if reply_hash != hash {
            self.twofold.fetch_add(1, Ordering::Relaxed);
        }
        if self.count.load(Ordering::Relaxed) + RECENT_MAX > self.max.load(Ordering::Relaxed) {
            self.recent[(number % RECENT_MAX) as usize].store(number, Ordering::Relaxed);
        }
        let grows = self.table.grow_for(self.slots_in_use());
        self.births[local.seat].push(&self.slab, number, |e| &e.wheel_next);
        entry.publish();
        drop(held);
        if grows {
            self.wake_reaper();
        }
        Born::New(number)
    }

    /// Puts an entry into the table, if need be in place of a neighbour that may give way.
    fn insert(&self, hash: u64, number: u32, now_ms: Msec) -> bool {
        self.table.insert(hash, number) || self.make_place(hash, number, now_ms) && self.table.insert(hash, number)
    }

    /// Ends one of the entries that stand in the buckets of a hash, if one of them may give way to another.
    #[cold]
    fn make_place(&self, hash: u64, other: u32, now_ms: Msec) -> bool {
        let gives_way = |n: u32| n != other && self.slab.at(n).gives_way(now_ms) && self.end(n);
        let made = self.table.neighbours(hash).any(gives_way);
        if made {
            CT_EARLY_DROP.inc();
        }
        made
    }

    /// The table has begun to grow, and what stands in it is to be moved. A call of the system, once for each of its few sizes.
    #[cold]
    fn wake_reaper(&self) {
        if let Some(reaper) = self.reaper.get() {
            reaper.wake_by_ref();
        }
    }

    /// Slots of the table in use.
    fn slots_in_use(&self) -> u32 {
        self.count.load(Ordering::Relaxed) + self.twofold.load(Ordering::Relaxed)
    }

    /// A free entry of the thread's own, or of the shared ones.
    fn take(&self, local: &mut Local) -> u32 {
        self.stock_up(local, 1);
        match local.n.checked_sub(1) {
            Some(last) => {
                local.n = last;
                local.stock[last]
            }
            None => NONE,
        }
    }

    /// Sees to it that the thread has `want` free entries at hand, as far as there are any.
    #[inline]
    fn stock_up(&self, local: &mut Local, want: usize) {
        while local.n < want.min(BUNDLE_MAX) {
            let got = self.slab.take_chain(&mut local.stock[local.n..]);
            if got == 0 {
                return;
            }
            local.n += got;
        }
    }

    /// Fetches what the next `births` connections of the thread will be written to.
    #[inline]
    fn prepare_births(&self, local: &mut Local, births: usize) {
        self.stock_up(local, births);
        for number in local.stock[..local.n].iter().rev().take(births) {
            self.slab.at(*number).prefetch_free();
        }
    }

    /// Gives a thread's free entries back.
    pub fn leave(&self, local: &mut Local) {
        for chain in local.stock[..local.n].chunks(slab::CHAIN) {
            self.slab.give_chain(chain);
        }
        local.n = 0;
    }

    /// Counts one more connection before it begins, so that there are never more than may be; if there are as many, another gives way.
    fn reserve(&self, hash: u64, now_ms: Msec) -> bool {
        limits::admit(&self.count, self.max.load(Ordering::Relaxed)) || self.reserve_in_place_of_another(hash, now_ms)
    }

    #[cold]
    fn reserve_in_place_of_another(&self, hash: u64, now_ms: Msec) -> bool {
        // Entries stand close together in the slab: a stretch from a place that the sender cannot choose. After a flood of more than may be most of
        // it is free, but those that began last are remembered.
        let end = self.slab.end();
        let from = u32::try_from((hash >> 32) % u64::from(end)).expect("below a 32-bit number");
        let near = (0..EARLY_DROP_LOOKS.min(end)).map(|i| (from + i) % end);
        let recent = self.recent.iter().map(|number| number.load(Ordering::Relaxed));
        let ended = near.chain(recent).filter(|n| *n != NONE && self.slab.at(*n).gives_way(now_ms) && self.end(*n));
        // Another thread may be faster to the place that this one has made.
        ended.take(GIVE_WAY_MAX).any(|_| {
            CT_EARLY_DROP.inc();
            limits::admit(&self.count, self.max.load(Ordering::Relaxed))
        })
    }

    /// Ends a connection; false if it had ended already.
    pub fn end(&self, number: u32) -> bool {
        let entry = self.slab.at(number);
        if !entry.kill() {
            return false;
        }
        if entry.has(ASSURED) && self.watched.load(Ordering::Relaxed) {
            // Dead, but not free before a grace period has passed.
            self.say(CtEvent::Closing(Box::new(entry.described(0))));
        }
        let orig = entry.orig();
        let hash = self.hash(&orig);
        self.table.remove(hash, number);
        if entry.has(NAT) {
            let reply_hash = self.hash(&entry.reply());
            if reply_hash != hash {
                self.table.remove(reply_hash, number);
                self.twofold.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if entry.helper.load(Ordering::Relaxed) != helper::NONE {
            self.expectations.forget(|e| e.parent == orig);
        }
        self.zones.release(orig.zone());
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.deaths.push(&self.slab, number, |e| &e.chain);
        true
    }

    /// Finishes a growth of the table. For the reaper's thread, a grace period after it began.
    fn settle_table(&self, now_ms: Msec) {
        let hash_of = |number: u32, is: &dyn Fn(u64) -> bool| {
            let entry = self.slab.at(number);
            let by_orig = Some(self.hash(&entry.orig())).filter(|hash| is(*hash));
            by_orig.or_else(|| Some(self.hash(&entry.reply())).filter(|hash| is(*hash)))
        };
        // Entries are looked at only where there is no room: what may give way itself ends no other.
        let insert = |hash, number| {
            self.table.insert(hash, number) || !self.slab.at(number).gives_way(now_ms) && self.insert(hash, number, now_ms)
        };
        let left = self.table.migrate(hash_of, insert);
        for number in left {
            if self.end(number) {
                CT_FULL.inc();
            }
        }
        self.table.settled();
    }

    /// Says that a connection is established, or closes, to who watches.
    #[cold]
    fn note(&self, entry: Entry<'_>, closing: bool, now_ms: Msec) {
        let Some(shown) = entry.shown(now_ms).map(Box::new) else { return };
        self.say(if closing { CtEvent::Closing(shown) } else { CtEvent::Established(shown) });
    }

    /// Says that an established connection has another mark or label, to who watches.
    #[cold]
    fn note_change(&self, entry: Entry<'_>, now_ms: Msec) {
        if let Some(shown) = entry.shown(now_ms) {
            self.say(CtEvent::Changed(Box::new(shown)));
        }
    }

    /// Whoever does not take events in time is told that some were lost, and that alone.
    #[cold]
    fn say(&self, event: CtEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= EVENTS_MAX {
            CT_EVENTS_LOST.add(u64::try_from(events.len()).unwrap_or(u64::MAX));
            events.clear();
            events.push_back(CtEvent::Lost);
        }
        events.push_back(event);
    }

    /// Marks a connection assured or closing, once.
    #[inline]
    fn progress(&self, entry: Entry<'_>, flag: u32, now_ms: Msec) {
        if entry.raise(flag) && self.watched.load(Ordering::Relaxed) {
            self.note(entry, flag == CLOSING, now_ms);
        }
    }
}
