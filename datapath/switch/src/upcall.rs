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
//! - A port belongs to the handler that has upcalls of it in hand until that one comes back for more: two packets of a flow, or two
//!   messages about one packet, never overtake each other. Several handlers serve several ports.
//! - Sender and handler write no common cache line for each packet, beyond the queue's places and the parcels in it: each line that both
//!   write goes to and fro between their cores.
//! - No packet waits while a handler sleeps: a handler first registers as waiting, then looks again, then sleeps; a sender first
//!   queues, then looks for who waits. Either sees the other. A sender that finds the list locked may leave: whoever holds it looks
//!   again after letting go.

use crate::parcel::{GROUP_MAX, Parcel, Parcels};
use crate::policer::Policer;
use crate::qsbr::Rcu;
use crossbeam_queue::{ArrayQueue, SegQueue};
use crossbeam_utils::CachePadded;
use flow::DpPort;
use flow::seam::Upcall;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::Duration;

/// Upcalls that wait per port.
pub const QUEUE_MAX: usize = 512;
/// A queue that was full takes upcalls again when no more than so many wait. A worker that filled each place as soon as it is free would have
/// the queue's ends go to and fro between its core and the handler's with every packet.
pub const QUEUE_LOW: usize = QUEUE_MAX / 2;
/// Upcalls taken from one port in its turn.
pub const QUANTUM: usize = 8;
/// The same where no other port waits: what more are taken at once is fetched at once.
pub const QUANTUM_ALONE: usize = 32;
/// Handlers whose work is told apart.
pub const HANDLERS_MAX: usize = 64;

/// The queue of one input port.
#[derive(Debug)]
pub struct PortQueue {
    pub port: DpPort,
    queue: ArrayQueue<Box<Parcel>>,
    /// What the port takes in; every worker finds it here.
    pub policer: Rcu<Policer>,
    /// Stands in `ready`, or belongs to a handler.
    scheduled: CachePadded<AtomicBool>,
    /// It was full, and has not come down to `QUEUE_LOW` since. Set by whoever found it full, cleared by whoever takes from it: while it
    /// is set a flooded worker looks at nothing that a handler writes.
    choked: CachePadded<AtomicBool>,
    /// Written by workers only: apart from what handlers write at each turn, so that counting losses costs a flooded worker nothing.
    counts: CachePadded<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
}

impl PortQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(port: DpPort) -> Arc<Self> {
        Arc::new(Self {
            port,
            queue: ArrayQueue::new(QUEUE_MAX),
            policer: Rcu::empty(),
            scheduled: CachePadded::default(),
            choked: CachePadded::default(),
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

    /// There was no room. If everything has been taken meanwhile, nobody will come to say that there is room again: either we see
    /// that, or whoever took it sees what we set.
    fn choke(&self) {
        self.choked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.relieve();
    }

    /// Takes upcalls again if few enough wait.
    fn relieve(&self) {
        if self.choked.load(Ordering::SeqCst) && self.queue.len() <= QUEUE_LOW {
            self.choked.store(false, Ordering::SeqCst);
        }
    }
}

/// All queues together.
#[derive(Debug)]
pub struct Upcalls {
    ready: SegQueue<Arc<PortQueue>>,
    /// Empty parcels, for who sends.
    pub parcels: Parcels,
    waiting: Mutex<Vec<Thread>>,
    n_waiting: AtomicUsize,
    disabled: AtomicBool,
    handlers: AtomicUsize,
    /// Upcalls queued or in a handler's hands.
    open: AtomicUsize,
    in_hand: [Hand; HANDLERS_MAX],
}

/// What a handler has in hand.
#[derive(Debug, Default)]
struct Hand {
    upcalls: AtomicUsize,
    /// The ports they came from, which nobody else takes from meanwhile.
    ports: Mutex<Vec<Arc<PortQueue>>>,
}

impl Default for Upcalls {
    fn default() -> Self {
        Self {
            ready: SegQueue::new(),
            parcels: Parcels::default(),
            waiting: Mutex::default(),
            n_waiting: AtomicUsize::new(0),
            disabled: AtomicBool::new(false),
            handlers: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            in_hand: std::array::from_fn(|_| Hand::default()),
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

    /// How many handlers there are. Those that were there before have ended: their ports are everybody's again.
    pub fn set_handlers(&self, n: usize) {
        self.handlers.store(n, Ordering::Relaxed);
        self.in_hand.iter().for_each(|hand| self.let_go(hand));
    }

    /// Whether there are handlers at all.
    #[must_use]
    pub fn has_handlers(&self) -> bool {
        self.handlers.load(Ordering::Relaxed) > 0
    }

    /// Whether `push` may be tried; to be asked before an upcall is made. Counts the loss if not.
    #[inline]
    pub fn has_room(&self, queue: &PortQueue) -> bool {
        let room = self.would_take(queue);
        if !room {
            queue.lose(1);
        }
        room
    }

    /// Whether the queue is not known to be full, and there is someone to take it up.
    #[inline]
    #[must_use]
    pub fn would_take(&self, queue: &PortQueue) -> bool {
        self.enabled() && !queue.choked.load(Ordering::Relaxed)
    }

    /// Queues an upcall; gives the parcel back, and counts the loss, if it is lost.
    pub fn push(&self, queue: &Arc<PortQueue>, parcel: Box<Parcel>) -> Result<(), Box<Parcel>> {
        self.open.fetch_add(1, Ordering::AcqRel);
        let pushed = if self.enabled() { queue.queue.push(parcel) } else { Err(parcel) };
        if let Err(parcel) = pushed {
            self.open.fetch_sub(1, Ordering::AcqRel);
            queue.lose(1);
            if queue.queue.is_full() {
                queue.choke();
            }
            return Err(parcel);
        }
        queue.counts.sent.fetch_add(1, Ordering::Relaxed);
        // Queued first, looked then: `pass_on` does it the other way round. To look is enough while it is scheduled already.
        fence(Ordering::SeqCst);
        if !queue.scheduled.load(Ordering::Relaxed) && !queue.scheduled.swap(true, Ordering::AcqRel) {
            self.ready.push(Arc::clone(queue));
            self.wake_one();
        }
        Ok(())
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
        let hand = &self.in_hand[handler % HANDLERS_MAX];
        self.let_go(hand);
        let mut taken = self.take_ready(max, hand, out);
        if taken == 0 && self.ready.is_empty() && !timeout.is_zero() {
            self.register();
            if self.ready.is_empty() {
                std::thread::park_timeout(timeout);
            }
            self.deregister();
            taken = self.take_ready(max, hand, out);
        }
        hand.upcalls.fetch_add(taken, Ordering::AcqRel);
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

    /// What was in hand is done.
    fn let_go(&self, hand: &Hand) {
        let ports = std::mem::take(&mut *hand.ports.lock().unwrap_or_else(PoisonError::into_inner));
        ports.into_iter().for_each(|port| self.pass_on(port));
        self.open.fetch_sub(hand.upcalls.swap(0, Ordering::AcqRel), Ordering::AcqRel);
    }

    fn take_ready(&self, max: usize, hand: &Hand, out: &mut Vec<Upcall>) -> usize {
        let mut opened = Vec::new();
        let (mut emptied, mut rest) = (Vec::new(), VecDeque::new());
        let first = out.len();
        while out.len() - first < max {
            let Some(queue) = self.ready.pop().or_else(|| rest.pop_front()) else { break };
            // They lie in another core's cache: all are fetched at once.
            let mut turn = [const { None }; QUANTUM_ALONE];
            let quantum = if self.ready.is_empty() && rest.is_empty() { QUANTUM_ALONE } else { QUANTUM };
            for place in turn.iter_mut().take(quantum.min(max - (out.len() - first))) {
                *place = queue.queue.pop();
                let Some(parcel) = place else { break };
                parcel.prefetch();
            }
            if opened.capacity() == 0 {
                opened.reserve_exact(max.min(GROUP_MAX));
            }
            for mut parcel in turn.into_iter().flatten() {
                out.push(parcel.open());
                if opened.len() == GROUP_MAX {
                    self.parcels.give(std::mem::take(&mut opened));
                }
                opened.push(parcel);
            }
            queue.relieve();
            if queue.queue.is_empty() { emptied.push(queue) } else { rest.push_back(queue) }
        }
        self.parcels.give(opened);
        hand.ports.lock().unwrap_or_else(PoisonError::into_inner).extend(emptied.into_iter().chain(rest));
        out.len() - first
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
        queue.relieve();
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

    fn push(upcalls: &Upcalls, queue: &Arc<PortQueue>, tag: u8) -> bool {
        let mut key = flow::Key::ZERO;
        key.in_port = queue.port.0.to_be_bytes();
        let mut parcel = upcalls.parcels.take_one();
        parcel.fill(&[tag], (&key, key.lines()), 0);
        upcalls.push(queue, parcel).is_ok()
    }

    #[test]
    fn a_flood_on_one_port_leaves_the_others_their_turn() {
        let upcalls = Upcalls::default();
        let (flood, quiet) = (PortQueue::new(DpPort(1)), PortQueue::new(DpPort(2)));
        for i in 0..QUEUE_MAX + 100 {
            assert_eq!(push(&upcalls, &flood, 0), i < QUEUE_MAX);
        }
        assert!(push(&upcalls, &quiet, 7));
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
    fn a_port_stays_with_the_handler_that_has_some_of_it_in_hand() {
        let upcalls = Upcalls::default();
        let (one, two) = (PortQueue::new(DpPort(1)), PortQueue::new(DpPort(2)));
        let take = |handler, max| {
            let mut out = Vec::new();
            upcalls.take(handler, max, Duration::ZERO, &mut out);
            out.iter().map(|upcall| upcall.packet[0]).collect::<Vec<_>>()
        };
        for tag in 0..3 {
            assert!(push(&upcalls, &one, tag));
        }
        assert_eq!(take(0, 2), [0, 1]);
        assert!(push(&upcalls, &one, 3) && push(&upcalls, &two, 9));
        assert_eq!(take(1, 8), [9], "the third packet of the other port would overtake two");
        assert_eq!(take(0, 8), [2, 3]);
        assert!(push(&upcalls, &one, 4));
        assert_eq!(take(1, 8), [0; 0], "also a port of which everything was taken");
        upcalls.set_handlers(1);
        assert_eq!(take(1, 8), [4], "a handler that has ended keeps nothing");
        assert_eq!(take(1, 8), [0; 0]);
        assert!(upcalls.settled());
    }

    #[test]
    fn a_queue_that_was_full_is_half_emptied_first() {
        let upcalls = Upcalls::default();
        let queue = PortQueue::new(DpPort(1));
        let mut out = Vec::new();
        while push(&upcalls, &queue, 0) {}
        assert!(!upcalls.has_room(&queue));
        assert_eq!(queue.counts(), (QUEUE_MAX as u64, 2));
        upcalls.take(0, QUEUE_MAX - QUEUE_LOW - 1, Duration::ZERO, &mut out);
        assert!(!upcalls.would_take(&queue));
        upcalls.take(0, 1, Duration::ZERO, &mut out);
        for _ in QUEUE_LOW..QUEUE_MAX {
            assert!(upcalls.would_take(&queue) && push(&upcalls, &queue, 0));
        }
        assert!(!push(&upcalls, &queue, 0) && !upcalls.would_take(&queue));
        assert_eq!(upcalls.purge(&queue), QUEUE_MAX);
        assert!(upcalls.would_take(&queue), "also who forgets what waits says that there is room");
    }

    #[test]
    fn with_upcalls_off_everything_is_lost_and_counted() {
        let upcalls = Upcalls::default();
        let queue = PortQueue::new(DpPort(1));
        upcalls.set_enabled(false);
        assert!(!push(&upcalls, &queue, 0));
        assert_eq!(queue.counts(), (0, 1));
        assert!(upcalls.settled());
        upcalls.set_enabled(true);
        assert!(push(&upcalls, &queue, 0), "it was not full");
    }

    #[test]
    fn nothing_is_left_behind_while_handlers_sleep() {
        const EACH: usize = 10_000;
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
                        while !upcalls.would_take(&queue) || !push(&upcalls, &queue, 0) {
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
