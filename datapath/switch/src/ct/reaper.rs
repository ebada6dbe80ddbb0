//! The thread that ends what has expired and makes entries free again.
//!
//! What enters: entries that began (births) and ended (deaths). What leaves: chains of free entries. Neighbours: `slab`, `qsbr` (when nobody
//! can see a dead entry any more).
//!
//! A timing wheel of one-second slots, of which only this thread knows. An entry is looked at when it would expire, but at the latest a
//! sweep interval after the last time, because its timeout may have become shorter meanwhile: then it is ended, or put into a later slot.
//! Packets only store a new time. A turn takes the births that were pushed before the deaths it knows of, so that a dead entry is always
//! one it has seen.

use super::entry::{Links, NONE, WHEEL};
use super::slab::CHAIN;
use super::{CT_EXPIRED, Ct};
use crate::qsbr::{Epoch, Epochs};
use flow::clock::{self, Msec};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long an entry that has expired early may stay, at first.
pub const SWEEP_DEFAULT_MS: u32 = 20_000;
/// The longest sweep interval.
pub const SWEEP_MAX_MS: u32 = 100_000;
const SLOTS: usize = 128;
const SLOT_MS: Msec = 1000;
/// As many slots, as the clock counts.
const TURN: Msec = 128;
/// Rests between turns: mostly, and while many connections begin or end. Also without connections it is no longer: of the first burst all that
/// begin before the next turn are met unprepared.
const REST: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(2)];
/// From so many connections on memory is made present before it is used.
const AHEAD_FROM: u32 = 256;
/// The least number of entries that are made present and unused then, 6 MiB, and the greatest: a turn shall end.
const AHEAD: std::ops::RangeInclusive<u32> = 1 << 16..=1 << 17;
/// Births in a turn that are many.
const MANY_BIRTHS: u32 = 1 << 10;
/// Deaths in a turn that are many.
const MANY: usize = 256;

/// The wheel, and what waits for its grace period.
#[derive(Debug)]
pub struct Reaper {
    ct: Arc<Ct>,
    epochs: Arc<Epochs>,
    slots: Vec<u32>,
    /// The slot that was last looked at, counted from time 0.
    at: Msec,
    limbo: VecDeque<(Epoch, Vec<u32>)>,
    /// Entries that had ever been used at the last turn.
    used: u32,
}

/// The thread, until it is dropped.
#[derive(Debug)]
pub struct Thread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread.
struct Bell(thread::Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Thread {
    /// Starts it.
    /// # Errors
    /// The system has no thread for it.
    pub fn start(ct: Arc<Ct>, epochs: Arc<Epochs>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, tracker) = (Arc::clone(&stop), Arc::clone(&ct));
        let thread = thread::Builder::new().name("ct_clean".to_owned()).spawn(move || {
            let mut reaper = Reaper::new(ct, epochs, clock::now_ms());
            while !seen.load(Ordering::Acquire) {
                let rest = reaper.turn(clock::now_ms());
                thread::park_timeout(rest);
            }
        })?;
        // A tracker has one reaper.
        let _ = tracker.reaper.set(Waker::from(Arc::new(Bell(thread.thread().clone()))));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A reaper that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Reaper {
    /// Nothing known yet.
    #[must_use]
    pub fn new(ct: Arc<Ct>, epochs: Arc<Epochs>, now_ms: Msec) -> Self {
        Self { ct, epochs, slots: vec![NONE; SLOTS], at: now_ms / SLOT_MS, limbo: VecDeque::new(), used: 0 }
    }

    /// One turn; how long to rest.
    pub fn turn(&mut self, now_ms: Msec) -> Duration {
        let grown = self.follow_growth(now_ms);
        let births = self.fault_ahead();
        let dead = self.ct.deaths.take();
        self.welcome(now_ms);
        self.sweep(now_ms);
        let n = self.bury(dead);
        self.release();
        self.ct.fragments.expire(now_ms);
        self.ct.outer.expire(now_ms);
        REST[usize::from(n >= MANY || births || grown)]
    }

    /// Moves entries of a table that grows, as soon as nobody looks under its older size alone any more: forwarding threads end their batches in
    /// microseconds. Whether it grew.
    fn follow_growth(&self, now_ms: Msec) -> bool {
        let grows = self.ct.table.is_growing();
        if grows {
            self.epochs.wait(self.epochs.advance());
            self.ct.settle_table(now_ms);
        }
        grows
    }

    /// Makes memory present for twice as many connections as began since the last turn; whether these are many, or some memory is left for the next.
    fn fault_ahead(&mut self) -> bool {
        let used = self.ct.slab.end();
        let births = used - std::mem::replace(&mut self.used, used);
        if used < AHEAD_FROM {
            return false;
        }
        self.ct.slab.fault_ahead(births.saturating_mul(2).clamp(*AHEAD.start(), *AHEAD.end()));
        self.ct.table.fault_in(self.ct.slots_in_use()) || births >= MANY_BIRTHS
    }

    fn welcome(&mut self, now_ms: Msec) {
        for seat in 0..self.ct.births.len() {
            let mut number = self.ct.births[seat].take();
            while number != NONE {
                let next = self.ct.slab.links(number).wheel_next.load(Ordering::Relaxed);
                self.schedule(number, now_ms);
                number = next;
            }
        }
    }

    fn schedule(&mut self, number: u32, now_ms: Msec) {
        let entry = self.ct.slab.at(number);
        let sweep = Msec::from(self.ct.sweep_ms.load(Ordering::Relaxed).min(SWEEP_MAX_MS));
        let due = entry.expires_ms.load(Ordering::Relaxed).min(now_ms + sweep);
        // Never into the slot that is being looked at, and never further than the wheel reaches.
        let slot = (due / SLOT_MS + 1).clamp(self.at + 1, self.at + TURN - 1);
        let slot = usize::try_from(slot.rem_euclid(TURN)).expect("below SLOTS");
        let head = self.slots[slot];
        let links = self.ct.slab.links(number);
        links.wheel_next.store(head, Ordering::Relaxed);
        links.wheel_prev.store(NONE, Ordering::Relaxed);
        links.wheel_slot.store(u32::try_from(slot).expect("below SLOTS"), Ordering::Relaxed);
        if head != NONE {
            self.ct.slab.links(head).wheel_prev.store(number, Ordering::Relaxed);
        }
        self.slots[slot] = number;
        entry.flags.fetch_or(WHEEL, Ordering::Relaxed);
    }

    fn unlink(&mut self, number: u32) {
        let ct = &self.ct;
        let links = ct.slab.links(number);
        let of = |link: fn(&Links) -> &AtomicU32| link(links).load(Ordering::Relaxed);
        let (next, prev) = (of(|e| &e.wheel_next), of(|e| &e.wheel_prev));
        if prev == NONE {
            let slot = links.wheel_slot.load(Ordering::Relaxed) as usize;
            self.slots[slot] = next;
        } else {
            ct.slab.links(prev).wheel_next.store(next, Ordering::Relaxed);
        }
        if next != NONE {
            ct.slab.links(next).wheel_prev.store(prev, Ordering::Relaxed);
        }
        ct.slab.at(number).flags.fetch_and(!WHEEL, Ordering::Relaxed);
    }

    /// Looks at every entry that is due.
    fn sweep(&mut self, now_ms: Msec) {
        let now = now_ms / SLOT_MS;
        let all = self.ct.sweep_now.swap(false, Ordering::AcqRel);
        let from = if all { now - TURN + 1 } else { (self.at + 1).max(now - TURN + 1) };
        self.at = now.max(self.at);
        for slot in from..=now {
            let slot = usize::try_from(slot.rem_euclid(TURN)).expect("below SLOTS");
            let mut number = std::mem::replace(&mut self.slots[slot], NONE);
            while number != NONE {
                let entry = self.ct.slab.at(number);
                let next = entry.links().wheel_next.load(Ordering::Relaxed);
                entry.flags.fetch_and(!WHEEL, Ordering::Relaxed);
                if entry.is_alive(now_ms) {
                    self.schedule(number, now_ms);
                } else if self.ct.end(number) {
                    CT_EXPIRED.inc();
                }
                number = next;
            }
        }
    }

    /// Puts dead entries where they wait for their grace period.
    fn bury(&mut self, dead: u32) -> usize {
        let mut gone = Vec::new();
        let mut number = dead;
        while number != NONE {
            let entry = self.ct.slab.at(number);
            let next = entry.links().chain.load(Ordering::Relaxed);
            if entry.has(WHEEL) {
                self.unlink(number);
            }
            gone.push(number);
            number = next;
        }
        let n = gone.len();
        if n > 0 {
            self.limbo.push_back((self.epochs.advance(), gone));
        }
        n
    }

    /// Makes free what nobody can see any more.
    fn release(&mut self) {
        while self.limbo.front().is_some_and(|(epoch, _)| self.epochs.passed(*epoch)) {
            let Some((_, gone)) = self.limbo.pop_front() else { return };
            for chain in gone.chunks(CHAIN) {
                chain.iter().for_each(|number| self.ct.slab.at(*number).free());
                self.ct.slab.give_chain(chain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ct::entry::{ASSURED, Birth};
    use crate::ct::tuple::{Ends, Tuple};
    use crate::ct::{Born, Local};
    use flow::conntrack::Conntrack;
    use flow::wire::ip_proto;

    fn tuple(n: u32) -> Tuple {
        let [_, a, high, low] = n.to_be_bytes();
        let ends =
            Ends { src: [10, 0, 0, a].into(), dst: [10, 1, 0, 1].into(), sport: u16::from_be_bytes([high, low]), dport: 53 };
        Tuple::new(&ends, ip_proto::UDP, 0)
    }

    fn birth(n: u32, now_ms: Msec) -> Birth {
        let orig = tuple(n);
        Birth {
            orig,
            reply: orig.reversed(),
            parent: None,
            flags: 0,
            mark: 0,
            label: 0,
            policy: 0,
            helper: 0,
            tcp: None,
            expires_ms: now_ms + 600_000,
        }
    }

    /// More connections than the table begins with room for: each is known while it grows, and after; some end meanwhile.
    #[test]
    fn connections_outlive_a_table_that_grows() {
        const N: u32 = 80_000;
        let now_ms = clock::now_ms();
        let ct = Arc::new(Ct::new());
        let mut reaper = Reaper::new(Arc::clone(&ct), Epochs::new(), now_ms);
        let mut local = Local::new(0);
        let number = |n: u32| ct.find(ct.hash(&tuple(n)), &tuple(n), now_ms).map(|(number, _)| number);
        let stands = |n: u32, end: u32| number(n).is_some() == (n < end && n % 9 != 5);
        let before = ct.buckets();
        for n in 0..N {
            assert!(matches!(ct.bear(&mut local, &birth(n, now_ms), ct.hash(&tuple(n)), now_ms), Born::New(_)), "{n}");
            if n % 9 == 8 {
                assert!(number(n - 3).is_some_and(|number| ct.end(number)));
            }
            if n % 10_000 == 9999 {
                assert!((0..n + 9).step_by(7).filter(|m| m / 9 < n / 9).all(|m| stands(m, n)), "{n}");
                reaper.turn(now_ms);
            }
        }
        reaper.turn(now_ms);
        assert!(ct.buckets() > before && !ct.table.is_growing());
        assert!((0..N / 9 * 9).all(|n| stands(n, N)));
        assert_eq!(ct.flush(&flow::conntrack::CtFilter::default()), Ok((N - N / 9) as usize));
        assert!((0..N).all(|n| number(n).is_none()));
    }

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Rings(AtomicU32);

    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A burst fills both buckets that an established connection is to move into, before the reaper has a turn: what was never answered ends.
    #[test]
    fn a_burst_ends_no_established_connection() {
        let now_ms = clock::now_ms();
        let ct = Arc::new(Ct::new());
        let mut reaper = Reaper::new(Arc::clone(&ct), Epochs::new(), now_ms);
        let rings = Arc::new(Rings::default());
        assert!(ct.reaper.set(Waker::from(Arc::clone(&rings))).is_ok());
        let (mut local, mut n) = (Local::new(0), 0);
        let hash = |n: u32| ct.hash(&tuple(n));
        let mut bear = |n: u32, hash: u64| ct.bear(&mut local, &birth(n, now_ms), hash, now_ms);
        let number = |n: u32| ct.find(hash(n), &tuple(n), now_ms).map(|(number, _)| number);
        let assure = |number: u32| ct.slab.at(number).raise(ASSURED);
        let before = ct.buckets();
        while !ct.table.is_growing() {
            assert_eq!(rings.0.load(Ordering::Relaxed), 0);
            assert!(matches!(bear(n, hash(n)), Born::New(_)), "{n}");
            n += 1;
        }
        assert_eq!(rings.0.load(Ordering::Relaxed), 1, "who begins the growth wakes the reaper");
        // One that has to move.
        let moves = |n: &u32| ct.table.places(hash(*n)).0 >= before as usize;
        let old = (0..n).find(moves).expect("every other one moves");
        assure(number(old).expect("it has begun"));
        let (first, second) = ct.table.places(hash(old));
        let fill = |n: &mut u32, bear: &mut dyn FnMut(u32, u64) -> Born| {
            while ct.table.neighbours(hash(old)).count() < 16 {
                if [first, second].contains(&ct.table.places(hash(*n)).0) {
                    assert!(matches!(bear(*n, hash(*n)), Born::New(_)), "{n}");
                }
                *n += 1;
            }
        };
        fill(&mut n, &mut bear);
        // One more with the same places (the table does not look at the lowest bits) takes that of one that was not answered.
        let connections = ct.count.load(Ordering::Relaxed);
        let Born::New(last) = bear(n, hash(old) ^ 1) else { panic!("there is a place for it") };
        assert_eq!(ct.count.load(Ordering::Relaxed), connections);
        assure(last);
        reaper.turn(now_ms);
        assert!(ct.buckets() > before && !ct.table.is_growing());
        assert!(number(old).is_some(), "it has moved");
        // Where all are established nobody gives way.
        fill(&mut n, &mut bear);
        ct.table.neighbours(hash(old)).for_each(|number| assert!(ct.slab.at(number).has(ASSURED) || assure(number)));
        let all: Vec<u32> = ct.table.neighbours(hash(old)).collect();
        assert_eq!(bear(n + 1, hash(old) ^ 1), Born::Full);
        assert_eq!(ct.table.neighbours(hash(old)).collect::<Vec<_>>(), all);
        assert_eq!(rings.0.load(Ordering::Relaxed), 1);
    }

    /// A hundred times as many first packets as connections may be: they take the memory of those that give way.
    #[test]
    fn a_flood_takes_no_more_memory_than_the_limit() {
        const MAX: u32 = 1000;
        /// Between two turns.
        const BATCH: u32 = 500;
        let now_ms = clock::now_ms();
        let ct = Arc::new(Ct::new());
        assert!(ct.set_max_connections(MAX).is_ok());
        let mut reaper = Reaper::new(Arc::clone(&ct), Epochs::new(), now_ms);
        let mut local = Local::new(0);
        for n in 0..100 * MAX {
            ct.bear(&mut local, &birth(n, now_ms), ct.hash(&tuple(n)), now_ms);
            assert!(ct.connections() <= MAX);
            if n % BATCH == 0 {
                reaper.turn(now_ms);
            }
        }
        // Those that may be, those that have ended and wait, and those at hand.
        assert!(ct.slab.end() <= MAX + 2 * BATCH + 100, "{}", ct.slab.end());
    }

    /// Threads that begin connections at once: at no moment are there more than may be, and none is counted that is not there.
    #[test]
    fn threads_that_begin_at_once_keep_the_limit() {
        const MAX: u32 = 8;
        const EACH: u32 = 20_000;
        let now_ms = clock::now_ms();
        let ct = Ct::new();
        assert!(ct.set_max_connections(MAX).is_ok());
        let flood = |thread: u32| {
            let mut local = Local::new(thread as usize);
            for n in thread * EACH..(thread + 1) * EACH {
                ct.bear(&mut local, &birth(n, now_ms), ct.hash(&tuple(n)), now_ms);
                // Two threads begin the same one now and then.
                ct.bear(&mut local, &birth(n % EACH, now_ms), ct.hash(&tuple(n % EACH)), now_ms);
                assert!(ct.connections() <= MAX, "{}", ct.connections());
            }
        };
        thread::scope(|s| (0..3).for_each(|thread| drop(s.spawn(move || flood(thread)))));
        let mut standing = 0;
        ct.dump(None, &mut |_| {
            standing += 1;
            true
        });
        assert_eq!(ct.connections(), standing);
        assert!(standing > 0);
        assert_eq!(ct.flush(&flow::conntrack::CtFilter::default()), Ok(standing as usize));
        assert_eq!(ct.connections(), 0);
    }

    /// Far more entries wait to be free than connections may be, so that hardly any stretch of the slab holds one: each new one finds another that
    /// gives way all the same, and none that is established.
    #[test]
    fn a_few_connections_among_many_free_entries_give_way() {
        let now_ms = clock::now_ms();
        let ct = Ct::new();
        assert!(ct.set_max_connections(50).is_ok());
        let mut local = Local::new(0);
        let mut bear = |n: u32| ct.bear(&mut local, &birth(n, now_ms), ct.hash(&tuple(n)), now_ms);
        for n in 0..10 {
            let Born::New(number) = bear(n) else { panic!("{n}") };
            ct.slab.at(number).raise(ASSURED);
        }
        for n in 10..20_000 {
            assert!(matches!(bear(n), Born::New(_)), "{n}");
            assert!(ct.connections() <= 50);
        }
        assert!(ct.slab.end() >= 20_000);
        assert!((0..10).all(|n| ct.find(ct.hash(&tuple(n)), &tuple(n), now_ms).is_some()));
    }

    #[test]
    fn the_thread_is_woken_by_its_tracker() {
        let ct = Arc::new(Ct::new());
        let thread = Thread::start(Arc::clone(&ct), Epochs::new()).unwrap();
        assert!(ct.reaper.get().is_some());
        ct.wake_reaper();
        drop(thread);
    }
}
