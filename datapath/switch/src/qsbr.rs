//! Quiescent-state reclamation: when may memory that forwarding threads read without locks be reused?
//!
//! What enters: members (forwarding threads) that say when they hold nothing; things that control threads have unlinked. What
//! leaves: the certainty that nobody can see them any more. Neighbours: `slab`, `classifier`, `program` (what is unlinked), `worker`
//! (the members), `switch` (the only writer).
//!
//! # How, and what holds
//!
//! There is one global epoch. A member's cell holds the epoch that it last saw *while it held no reference* to shared state, or
//! `OFFLINE` while it sleeps or does not forward. A writer first unlinks, then advances the epoch, then waits (or looks again
//! later) until each cell is `OFFLINE` or at least the new epoch: every batch that could have seen the unlinked thing is over.
//!
//! - A member pays one load and one store per batch (`quiescent`), and a fence only when it comes back from sleep (`online`).
//! - `Member::guard` borrows the member, and `quiescent` and `offline` take it mutably: no reference that was obtained under a guard
//!   can live across a quiescent point. The compiler checks that.
//! - A sleeping member never delays anyone. A member that is in a batch delays `wait` by the rest of that batch.
//! - Not proved: that control threads never call `wait` from within a guard of their own (it would wait for itself). The one place
//!   where a control thread is a member, `switch::execute`, takes its guard inside `worker` code, which has no way to call `wait`.

use crossbeam_utils::CachePadded;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
use std::time::Duration;

/// Forwarding threads that may exist at once: workers and the contexts of control threads.
pub const MEMBERS_MAX: usize = 64;

const OFFLINE: u64 = 0;

/// The epoch and the members' cells.
#[derive(Debug)]
pub struct Epochs {
    global: AtomicU64,
    cells: Box<[CachePadded<Seat>]>,
}

#[derive(Debug, Default)]
struct Seat {
    seen: AtomicU64,
    taken: AtomicBool,
}

/// A point in time: passed when everybody has been quiescent since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epochs {
    /// Nobody is a member yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { global: AtomicU64::new(1), cells: (0..MEMBERS_MAX).map(|_| CachePadded::default()).collect() })
    }

    /// A seat, offline at first; `None` when all `MEMBERS_MAX` are taken.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Option<Member> {
        let seat = self.cells.iter().position(|c| !c.taken.swap(true, Ordering::AcqRel))?;
        Some(Member { epochs: Arc::clone(self), seat, not_sync: PhantomData })
    }

    /// Begins a grace period for everything that was unlinked before this call.
    pub fn advance(&self) -> Epoch {
        let epoch = self.global.fetch_add(1, Ordering::SeqCst) + 1;
        // Pairs with the fence in `online`: either the member's cell is seen here, or the member sees the unlinking.
        fence(Ordering::SeqCst);
        Epoch(epoch)
    }

    /// Whether every member has been quiescent since `epoch` began.
    #[must_use]
    pub fn passed(&self, epoch: Epoch) -> bool {
        self.cells.iter().all(|c| {
            let seen = c.seen.load(Ordering::Acquire);
            seen == OFFLINE || seen >= epoch.0
        })
    }

    /// Waits until `passed`. Members finish their batches in microseconds, so it spins first.
    pub fn wait(&self, epoch: Epoch) {
        const SPINS: u32 = 200;
        let mut spins = 0;
        while !self.passed(epoch) {
            spins += 1;
            match spins {
                0..SPINS => std::hint::spin_loop(),
                SPINS..400 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(20)),
            }
        }
    }
}

/// A forwarding thread's seat. Dropping it leaves.
#[derive(Debug)]
pub struct Member {
    epochs: Arc<Epochs>,
    seat: usize,
    /// One thread at a time: `Send`, not `Sync`.
    not_sync: PhantomData<std::cell::Cell<()>>,
}

/// Proof that the member is online, so that what is read through an `Rcu` stays.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'m> {
    member: PhantomData<&'m Member>,
}

impl Member {
    /// The seat's number, below `MEMBERS_MAX`.
    #[must_use]
    pub fn seat(&self) -> usize {
        self.seat
    }

    /// Starts reading after a sleep.
    pub fn online(&mut self) {
        let now = self.epochs.global.load(Ordering::SeqCst);
        self.epochs.cells[self.seat].seen.store(now, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that nothing is held now. Once per batch.
    #[inline]
    pub fn quiescent(&mut self) {
        let now = self.epochs.global.load(Ordering::Acquire);
        self.epochs.cells[self.seat].seen.store(now, Ordering::Release);
    }

    /// Stops reading: nobody waits for this member until `online`.
    pub fn offline(&mut self) {
        self.epochs.cells[self.seat].seen.store(OFFLINE, Ordering::Release);
    }

    /// Permission to read, until the next quiescent point.
    ///
    /// # Panics
    /// If the member is offline, in debug builds: a bug of ours.
    #[inline]
    #[must_use]
    pub fn guard(&self) -> Guard<'_> {
        debug_assert_ne!(self.epochs.cells[self.seat].seen.load(Ordering::Relaxed), OFFLINE, "reading while offline");
        Guard { member: PhantomData }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.offline();
        self.epochs.cells[self.seat].taken.store(false, Ordering::Release);
    }
}

/// A pointer that control threads replace while members read through it.
#[derive(Debug)]
pub struct Rcu<T> {
    at: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

// SAFETY: an `Rcu` gives `&T` to several threads and drops `T` on any of them.
unsafe impl<T: Send + Sync> Sync for Rcu<T> {}

impl<T> Rcu<T> {
    /// Points at nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self { at: AtomicPtr::new(std::ptr::null_mut()), owns: PhantomData }
    }

    /// Points at `value`.
    #[must_use]
    pub fn new(value: Box<T>) -> Self {
        Self { at: AtomicPtr::new(Box::into_raw(value)), owns: PhantomData }
    }

    /// What it points at now.
    #[inline]
    pub fn load<'g>(&self, _guard: Guard<'g>) -> Option<&'g T> {
        let at = self.at.load(Ordering::Acquire);
        // SAFETY: a non-null pointer came from a Box; `Retired` frees it only after a grace period, which cannot end while the
        // guard's member has not passed a quiescent point.
        unsafe { at.as_ref() }
    }

    /// What it points at now, for the writer itself.
    ///
    /// # Safety
    /// Nobody swaps the pointer while the result lives.
    #[must_use]
    pub unsafe fn held(&self) -> Option<&T> {
        let at = self.at.load(Ordering::Acquire);
        // SAFETY: a non-null pointer came from a Box, which is freed only after a swap; the caller promises that there is none.
        unsafe { at.as_ref() }
    }

    /// Points elsewhere. The old value lives on in the result until a grace period is over.
    pub fn swap(&self, value: Option<Box<T>>) -> Option<Unlinked<T>> {
        let new = value.map_or(std::ptr::null_mut(), Box::into_raw);
        let old = self.at.swap(new, Ordering::AcqRel);
        if old.is_null() {
            return None;
        }
        std::ptr::NonNull::new(old).map(Unlinked)
    }
}

impl<T> Drop for Rcu<T> {
    fn drop(&mut self) {
        drop(self.swap(None).map(|old| Expired(old.0)));
    }
}

/// Something unlinked that members may still be reading. Dropped here it would leak (never dangle): it belongs into `Limbo`.
#[derive(Debug)]
#[must_use = "give it to `Limbo`, or it leaks"]
pub struct Unlinked<T>(std::ptr::NonNull<T>);

/// Something that nobody can be reading any more once this is dropped. Not a Box before that: a Box claims to be unaliased.
struct Expired<T>(std::ptr::NonNull<T>);

// SAFETY: it is the owner of a `T`, no more.
unsafe impl<T: Send> Send for Expired<T> {}

impl<T> Drop for Expired<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a Box, was unlinked by a swap (so that this is its only owner), and whoever drops this
        // has seen the grace period pass (`Limbo::pop`) or holds the only handle to the cell (`Rcu::drop`).
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Where unlinked things wait for the end of their grace period.
#[derive(Debug, Default)]
pub struct Limbo {
    waiting: std::collections::VecDeque<(Epoch, Waiting)>,
}

/// What waits.
pub enum Waiting {
    /// Memory to be dropped.
    Memory(Box<dyn Send>),
    /// A megaflow's slot, to be used again.
    Slot(u32),
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("Memory"),
            Self::Slot(n) => write!(f, "Slot({n})"),
        }
    }
}

impl Limbo {
    /// Keeps `what` until `epoch` has passed; epochs must not decrease from call to call.
    pub fn keep(&mut self, epoch: Epoch, what: Waiting) {
        self.waiting.push_back((epoch, what));
    }

    /// Keeps unlinked memory until `epoch` has passed.
    pub fn keep_memory<T: Send + 'static>(&mut self, epoch: Epoch, what: Option<Unlinked<T>>) {
        if let Some(Unlinked(memory)) = what {
            self.keep(epoch, Waiting::Memory(Box::new(Expired(memory))));
        }
    }

    /// The next thing whose grace period is over.
    pub fn pop(&mut self, epochs: &Epochs) -> Option<Waiting> {
        let (epoch, _) = self.waiting.front()?;
        if !epochs.passed(*epoch) {
            return None;
        }
        self.waiting.pop_front().map(|(_, what)| what)
    }

    /// How many things wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn an_epoch_passes_when_all_are_quiescent_or_asleep() {
        let epochs = Epochs::new();
        let mut a = epochs.join().unwrap();
        let mut b = epochs.join().unwrap();
        assert_ne!(a.seat(), b.seat());
        let e = epochs.advance();
        assert!(epochs.passed(e), "both are offline");
        a.online();
        b.online();
        let e = epochs.advance();
        assert!(!epochs.passed(e));
        a.quiescent();
        assert!(!epochs.passed(e));
        b.offline();
        assert!(epochs.passed(e));
        drop(a);
        assert_eq!(epochs.join().unwrap().seat(), 0);
    }

    /// Readers check that what they see is never freed under them: the value says 1 while alive, 0 once dropped.
    #[test]
    fn readers_never_see_freed_memory() {
        struct Canary(AtomicUsize);
        impl Drop for Canary {
            fn drop(&mut self) {
                self.0.store(0, Ordering::SeqCst);
            }
        }
        let epochs = Epochs::new();
        let rcu = Arc::new(Rcu::new(Box::new(Canary(AtomicUsize::new(1)))));
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|i| {
                let (rcu, stop, mut member) = (Arc::clone(&rcu), Arc::clone(&stop), epochs.join().unwrap());
                std::thread::spawn(move || {
                    let mut rounds = 0u32;
                    while !stop.load(Ordering::Relaxed) {
                        member.online();
                        for _ in 0..5 {
                            let seen = rcu.load(member.guard()).unwrap();
                            for _ in 0..10 {
                                assert_eq!(seen.0.load(Ordering::SeqCst), 1);
                            }
                            member.quiescent();
                        }
                        rounds += 1;
                        if rounds.is_multiple_of(i + 2) {
                            member.offline();
                        }
                    }
                })
            })
            .collect();
        let mut limbo = Limbo::default();
        for _ in 0..2_000 {
            let old = rcu.swap(Some(Box::new(Canary(AtomicUsize::new(1)))));
            limbo.keep_memory(epochs.advance(), old);
            while limbo.pop(&epochs).is_some() {}
        }
        stop.store(true, Ordering::Relaxed);
        for r in readers {
            r.join().unwrap();
        }
        epochs.wait(epochs.advance());
        while limbo.pop(&epochs).is_some() {}
        assert!(limbo.is_empty());
    }
}
