//! The way up: packets that need the slow path, in bounded queues, one per input port.
//!
//! What enters: packets that missed or that an action sends up, from workers. What leaves: upcalls, to handler threads, each port in
//! its turn. Neighbours: `execute` (the only sender), `switch` (`upcalls`).
//!
//! # What holds
//!
//! - A worker never waits: its push into a port's queue is lock-free, a full queue is a counted loss, and waking a handler is a
//!   try-lock that may be left to the handler itself.
//! - A port's flood fills only its own queue, and handlers take `QUANTUM` packets from a port before the next one's turn.
//! - A port with packets stands in `ready` exactly once (`scheduled`), so `ready` is bounded by the number of ports.
//! - No packet waits while a handler sleeps: a handler first registers as waiting, then looks again, then sleeps; a sender first
//!   queues, then looks for who waits. Either sees the other. A sender that finds the list locked may leave: whoever holds it looks
//!   again after letting go.

use crate::policer::Policer;
use crate::qsbr::Rcu;
use crossbeam_queue::{ArrayQueue, SegQueue};
use crossbeam_utils::CachePadded;
use flow::DpPort;
use flow::key::LINE_BYTES;
use flow::seam::Upcall;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::Duration;

/// Upcalls that wait per port.
pub const QUEUE_MAX: usize = 512;
/// A queue that was full takes upcalls again when no more than so many wait. A worker that filled each place as soon as it is free would have
/// the queue's ends, and the memory of upcalls, go to and fro between its core and the handler's with every packet.
pub const QUEUE_LOW: usize = QUEUE_MAX / 2;
/// Upcalls taken from one port in its turn.
pub const QUANTUM: usize = 8;
/// Handlers whose work is told apart.
pub const HANDLERS_MAX: usize = 64;

/// The queue of one input port.
#[derive(Debug)]
pub struct PortQueue {
    pub port: DpPort,
    queue: ArrayQueue<Box<Upcall>>,
    /// Stands in `ready`, or is being taken from.
    scheduled: AtomicBool,
    /// What the port takes in; every worker finds it here.
    pub policer: Rcu<Policer>,
    /// Written by workers only: apart from what handlers write at each turn, so that counting losses costs a flooded worker nothing.
    counts: CachePadded<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
    /// It was full, and has not come down to `QUEUE_LOW` since.
    choked: AtomicBool,
}

impl PortQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(port: DpPort) -> Arc<Self> {
        Arc::new(Self {
            port,
            queue: ArrayQueue::new(QUEUE_MAX),
            scheduled: AtomicBool::new(false),
            policer: Rcu::empty(),
            counts: CachePadded::default(),
        })
    }

    /// Counts packets that were not even made upcalls, since there was no room.
    pub fn lose(&self, packets: u64) {
        self.counts.lost.fetch_add(packets, Ordering::Relaxed);
    }

    /// Upcalls queued, and lost, since the port is there.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.sent.load(Ordering::Relaxed), self.counts.lost.load(Ordering::Relaxed))
    }
}

/// All queues together.
#[derive(Debug)]
pub struct Upcalls {
    ready: SegQueue<Arc<PortQueue>>,
    waiting: Mutex<Vec<Thread>>,
    n_waiting: AtomicUsize,
    disabled: AtomicBool,
    handlers: AtomicUsize,
    /// Upcalls queued or in a handler's hands.
    open: AtomicUsize,
    /// By handler: how many it has in hand.
    in_hand: [AtomicUsize; HANDLERS_MAX],
}

impl Default for Upcalls {
    fn default() -> Self {
        Self {
            ready: SegQueue::new(),
            waiting: Mutex::default(),
            n_waiting: AtomicUsize::new(0),
            disabled: AtomicBool::new(false),
            handlers: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            in_hand: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }
}

impl Upcalls {
    /// Whether anyone would take an upcall.
    #[inline]
    #[must_use]
    pub fn enabled(&self) -> bool {
        !self.disabled.load(Ordering::Relaxed)
    }

    /// With `false`, every push is a loss.
    pub fn set_enabled(&self, on: bool) {
        self.disabled.store(!on, Ordering::Relaxed);
    }

    /// How many handlers there are.
    pub fn set_handlers(&self, n: usize) {
        self.handlers.store(n, Ordering::Relaxed);
    }

    /// Whether there are handlers at all.
    #[must_use]
    pub fn has_handlers(&self) -> bool {
        self.handlers.load(Ordering::Relaxed) > 0
    }

    /// Whether `push` would find room; to be asked before an upcall is made. Counts the loss if not.
    #[inline]
    pub fn has_room(&self, queue: &PortQueue) -> bool {
        let room = self.would_take(queue);
        if !room {
            queue.lose(1);
        }
        room
    }

    /// Whether there is room, and someone to take it up.
    #[inline]
    #[must_use]
    pub fn would_take(&self, queue: &PortQueue) -> bool {
        let choked = queue.counts.choked.load(Ordering::Relaxed);
        let room = queue.queue.len() < if choked { QUEUE_LOW + 1 } else { QUEUE_MAX };
        if choked == room {
            queue.counts.choked.store(!room, Ordering::Relaxed);
        }
        self.enabled() && room
    }

    /// Queues an upcall; false (and counted) if it is lost.
    pub fn push(&self, queue: &Arc<PortQueue>, upcall: Box<Upcall>) -> bool {
        self.open.fetch_add(1, Ordering::AcqRel);
        if !self.enabled() || queue.queue.push(upcall).is_err() {
            self.open.fetch_sub(1, Ordering::AcqRel);
            queue.counts.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        queue.counts.sent.fetch_add(1, Ordering::Relaxed);
        if !queue.scheduled.swap(true, Ordering::AcqRel) {
            self.ready.push(Arc::clone(queue));
            self.wake_one();
        }
        true
    }

    fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.n_waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut waiting = match self.waiting.try_lock() {
            Ok(waiting) => waiting,
            Err(TryLockError::Poisoned(p)) => p.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(thread) = waiting.pop() {
            self.n_waiting.store(waiting.len(), Ordering::Relaxed);
            drop(waiting);
            thread.unpark();
        }
    }

    /// Takes up to `max` upcalls into `out`, waiting at most `timeout` for the first; with `max` 0 it only waits. What this handler
    /// took before counts as done.
    pub fn take(&self, handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>) {
        let in_hand = &self.in_hand[handler % HANDLERS_MAX];
        self.open.fetch_sub(in_hand.swap(0, Ordering::AcqRel), Ordering::AcqRel);
        let mut taken = self.take_ready(max, out);
        if taken == 0 && self.ready.is_empty() && !timeout.is_zero() {
            self.register();
            if self.ready.is_empty() {
                std::thread::park_timeout(timeout);
            }
            self.deregister();
            taken = self.take_ready(max, out);
        }
        in_hand.fetch_add(taken, Ordering::AcqRel);
        if taken > 0 && !self.ready.is_empty() {
            self.wake_one();
        }
    }

    fn register(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(std::thread::current());
        self.n_waiting.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        fence(Ordering::SeqCst);
    }

    fn deregister(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let me = std::thread::current().id();
        waiting.retain(|t| t.id() != me);
        self.n_waiting.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        fence(Ordering::SeqCst);
    }

    fn take_ready(&self, max: usize, out: &mut Vec<Upcall>) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(queue) = self.ready.pop() else { break };
            // They lie in another core's cache: all are fetched at once, and then their keys.
            let mut turn = [const { None }; QUANTUM];
            for place in turn.iter_mut().take(max - taken) {
                *place = queue.queue.pop();
                let Some(upcall) = place else { break };
                crate::prefetch(std::ptr::from_ref::<Upcall>(upcall));
            }
            for upcall in turn.into_iter().flatten() {
                upcall.key.words().chunks_exact(LINE_BYTES / 8).for_each(|line| crate::prefetch(line.as_ptr()));
                out.push(*upcall);
                taken += 1;
            }
            self.pass_on(queue);
        }
        taken
    }

    /// Puts a port back at the end of the row, or out of it if it has nothing left.
    fn pass_on(&self, queue: Arc<PortQueue>) {
        if queue.queue.is_empty() {
            queue.scheduled.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // A sender that pushed before it could see the store has left it to us.
            if queue.queue.is_empty() || queue.scheduled.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        self.ready.push(queue);
    }

    /// Forgets what waits in `queue`, whose port is going away; how many there were.
    pub fn purge(&self, queue: &PortQueue) -> usize {
        let mut n = 0;
        while queue.queue.pop().is_some() {
            n += 1;
        }
        self.open.fetch_sub(n, Ordering::AcqRel);
        n
    }

    /// Whether every upcall so far was taken and its handler has come back for more.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::seam::UpcallKind;

    fn upcall(port: u32, tag: u8) -> Box<Upcall> {
        let mut key = flow::Key::ZERO;
        key.in_port = port.to_be_bytes();
        Box::new(Upcall {
            kind: UpcallKind::Miss,
            packet: vec![tag],
            key: Box::new(key),
            full_len: 1,
            actions: None,
            out_tunnel: None,
            queued_ms: 0,
        })
    }

    #[test]
    fn a_flood_on_one_port_leaves_the_others_their_turn() {
        let upcalls = Upcalls::default();
        let (flood, quiet) = (PortQueue::new(DpPort(1)), PortQueue::new(DpPort(2)));
        for i in 0..QUEUE_MAX + 100 {
            assert_eq!(upcalls.push(&flood, upcall(1, 0)), i < QUEUE_MAX);
        }
        assert!(upcalls.push(&quiet, upcall(2, 7)));
        let mut out = Vec::new();
        upcalls.take(0, 64, Duration::ZERO, &mut out);
        assert_eq!(out.len(), 64);
        assert_eq!(out[QUANTUM].packet, [7], "the quiet port's turn comes after one quantum");
        assert_eq!(flood.counts(), (QUEUE_MAX as u64, 100));
        assert!(!upcalls.settled());
        while !out.is_empty() {
            out.clear();
            upcalls.take(0, 64, Duration::ZERO, &mut out);
        }
        assert!(upcalls.settled());
    }

    #[test]
    fn a_queue_that_was_full_is_half_emptied_first() {
        let upcalls = Upcalls::default();
        let queue = PortQueue::new(DpPort(1));
        let mut out = Vec::new();
        while upcalls.has_room(&queue) {
            assert!(upcalls.push(&queue, upcall(1, 0)));
        }
        assert_eq!(queue.counts(), (QUEUE_MAX as u64, 1));
        upcalls.take(0, QUEUE_MAX - QUEUE_LOW - 1, Duration::ZERO, &mut out);
        assert!(!upcalls.would_take(&queue));
        upcalls.take(0, 1, Duration::ZERO, &mut out);
        for _ in QUEUE_LOW..QUEUE_MAX {
            assert!(upcalls.would_take(&queue) && upcalls.push(&queue, upcall(1, 0)));
        }
        assert!(!upcalls.would_take(&queue));
    }

    #[test]
    fn with_upcalls_off_everything_is_lost_and_counted() {
        let upcalls = Upcalls::default();
        let queue = PortQueue::new(DpPort(1));
        upcalls.set_enabled(false);
        assert!(!upcalls.push(&queue, upcall(1, 0)));
        assert_eq!(queue.counts(), (0, 1));
        assert!(upcalls.settled());
    }

    #[test]
    fn nothing_is_left_behind_while_handlers_sleep() {
        const EACH: usize = 3_000;
        let upcalls = Arc::new(Upcalls::default());
        let done = Arc::new(AtomicUsize::new(0));
        let handlers: Vec<_> = (0..2)
            .map(|h| {
                let (upcalls, done) = (Arc::clone(&upcalls), Arc::clone(&done));
                std::thread::spawn(move || {
                    let mut out = Vec::new();
                    while done.load(Ordering::Relaxed) < 2 * EACH {
                        upcalls.take(h, 4, Duration::from_millis(20), &mut out);
                        done.fetch_add(out.len(), Ordering::Relaxed);
                        out.clear();
                    }
                })
            })
            .collect();
        let senders: Vec<_> = (0..2u32)
            .map(|p| {
                let upcalls = Arc::clone(&upcalls);
                std::thread::spawn(move || {
                    let queue = PortQueue::new(DpPort(p));
                    for _ in 0..EACH {
                        while !upcalls.push(&queue, upcall(p, 0)) {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for t in senders.into_iter().chain(handlers) {
            t.join().unwrap();
        }
        assert_eq!(done.load(Ordering::Relaxed), 2 * EACH);
    }
}
