//! The way up: packets that need the slow path, in bounded queues: the lanes of input ports, one for each receive queue.
//!
//! What enters: packets that missed or that an action sends up, from workers. What leaves: upcalls, to handler threads, each lane in
//! its turn. Neighbours: `execute` (the only sender), `switch` (`upcalls`).
//!
//! # What holds
//!
//! - A worker never waits: its push into a lane is lock-free, a full one is a counted loss, and waking a handler is a
//!   try-lock that may be left to the handler itself.
//! - A port's flood fills only its own lanes, and handlers take `QUANTUM` packets from a lane before the next one's turn.
//! - A lane with packets stands in `ready` exactly once (`scheduled`), so `ready` is bounded by the number of lanes.
//! - A lane belongs to the handler that has upcalls of it in hand until that one comes back for more. A flow comes in by one receive queue of its
//!   port, and whatever is told of a packet on its way, also when a handler sends it on (`Execute::rx_queue`), goes up in the lane of the one by which it
//!   came. So two messages about one packet never overtake each other, nor do two packets of a flow that the device put into one queue (later fragments, and
//!   flows that it moves to another one, it may not), and several handlers serve several lanes.
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
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::Duration;

/// Receive queues of a port that have a lane of their own; others share the first one's.
pub const LANES_MAX: usize = 16;
/// Upcalls that wait per lane.
pub const QUEUE_MAX: usize = 512;
/// A queue that was full takes upcalls again when no more than so many wait. A worker that filled each place as soon as it is free would have
/// the queue's ends go to and fro between its core and the handler's with every packet.
pub const QUEUE_LOW: usize = QUEUE_MAX / 2;
/// Upcalls taken from one lane in its turn.
pub const QUANTUM: usize = 8;
/// The same where no other lane waits: what more are taken at once is fetched at once.
pub const QUANTUM_ALONE: usize = 32;
/// Handlers whose work is told apart.
pub const HANDLERS_MAX: usize = 64;

/// The way up from one input port.
#[derive(Debug)]
pub struct PortQueue {
    pub port: DpPort,
    /// What the port takes in; every worker finds it here.
    pub policer: Rcu<Policer>,
    first: Arc<Lane>,
    /// Of the receive queues after the first, as soon as there are any.
    others: [OnceLock<Arc<Lane>>; LANES_MAX - 1],
}

/// The queue for what came in by one receive queue of a port.
#[derive(Debug)]
pub struct Lane {
    rx_queue: u16,
    queue: ArrayQueue<Box<Parcel>>,
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
    /// A way up with one lane.
    #[must_use]
    pub fn new(port: DpPort) -> Arc<Self> {
        let others = std::array::from_fn(|_| OnceLock::new());
        Arc::new(Self { port, policer: Rcu::empty(), first: Lane::new(0), others })
    }

    /// Gives a receive queue a lane of its own, if there may be one more.
    pub fn open(&self, rx_queue: usize) {
        if let (Some(place), Ok(number)) = (rx_queue.checked_sub(1).and_then(|at| self.others.get(at)), u16::try_from(rx_queue)) {
            place.get_or_init(|| Lane::new(number));
        }
    }

    /// The lane of a receive queue; the first one where it has none, as where a tunnel's packets come in by another port's.
    #[inline]
    #[must_use]
    pub fn lane(&self, rx_queue: u16) -> &Arc<Lane> {
        let own = usize::from(rx_queue).checked_sub(1).and_then(|at| self.others.get(at)?.get());
        own.unwrap_or(&self.first)
    }

    fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        std::iter::once(&self.first).chain(self.others.iter().filter_map(OnceLock::get))
    }

    /// Upcalls queued, and lost, since the port is there.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let sum = |of: fn(&Counts) -> &AtomicU64| self.lanes().map(|lane| of(&lane.counts).load(Ordering::Relaxed)).sum();
        (sum(|counts| &counts.sent), sum(|counts| &counts.lost))
    }
}

impl Lane {
    fn new(rx_queue: u16) -> Arc<Self> {
        Arc::new(Self {
            rx_queue,
            queue: ArrayQueue::new(QUEUE_MAX),
            scheduled: CachePadded::default(),
            choked: CachePadded::default(),
            counts: CachePadded::default(),
        })
    }

    /// Counts packets that were not even made upcalls, since there was no room.
    pub fn lose(&self, packets: u64) {
        self.counts.lost.fetch_add(packets, Ordering::Relaxed);
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

/// All lanes of all ports together.
#[derive(Debug)]
pub struct Upcalls {
    ready: SegQueue<Arc<Lane>>,
    /// Empty parcels, for who sends.
    pub parcels: Parcels,
    waiting: Mutex<Vec<Thread>>,
    n_waiting: AtomicUsize,
    disabled: AtomicBool,
    handlers: AtomicUsize,
    /// Upcalls queued or in a handler's hands.
    open: AtomicUsize,
    /// Each apart: handlers write theirs at every turn.
    in_hand: [CachePadded<Hand>; HANDLERS_MAX],
}

/// What a handler has in hand.
#[derive(Debug, Default)]
struct Hand {
    upcalls: AtomicUsize,
    /// The lanes they came from, which nobody else takes from meanwhile.
    lanes: Mutex<Vec<Arc<Lane>>>,
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
            in_hand: std::array::from_fn(|_| CachePadded::default()),
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

    /// How many handlers there are. Those that were there before have ended: their lanes are everybody's again.
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
    pub fn has_room(&self, lane: &Lane) -> bool {
        let room = self.would_take(lane);
        if !room {
            lane.lose(1);
        }
        room
    }

    /// Whether the lane is not known to be full, and there is someone to take it up.
    #[inline]
    #[must_use]
    pub fn would_take(&self, lane: &Lane) -> bool {
        self.enabled() && !lane.choked.load(Ordering::Relaxed)
    }

    /// Queues an upcall; gives the parcel back, and counts the loss, if it is lost.
    pub fn push(&self, lane: &Arc<Lane>, parcel: Box<Parcel>) -> Result<(), Box<Parcel>> {
        self.open.fetch_add(1, Ordering::AcqRel);
        let pushed = if self.enabled() { lane.queue.push(parcel) } else { Err(parcel) };
        if let Err(parcel) = pushed {
            self.open.fetch_sub(1, Ordering::AcqRel);
            lane.lose(1);
            if lane.queue.is_full() {
                lane.choke();
            }
            return Err(parcel);
        }
        lane.counts.sent.fetch_add(1, Ordering::Relaxed);
        // Queued first, looked then: `pass_on` does it the other way round. To look is enough while it is scheduled already.
        fence(Ordering::SeqCst);
        if !lane.scheduled.load(Ordering::Relaxed) && !lane.scheduled.swap(true, Ordering::AcqRel) {
            self.ready.push(Arc::clone(lane));
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
        let lanes = std::mem::take(&mut *hand.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        lanes.into_iter().for_each(|lane| self.pass_on(lane));
        self.open.fetch_sub(hand.upcalls.swap(0, Ordering::AcqRel), Ordering::AcqRel);
    }

    fn take_ready(&self, max: usize, hand: &Hand, out: &mut Vec<Upcall>) -> usize {
        let mut opened = Vec::new();
        let (mut emptied, mut rest) = (Vec::new(), VecDeque::new());
        let first = out.len();
        while out.len() - first < max {
            let Some(lane) = self.ready.pop().or_else(|| rest.pop_front()) else { break };
            // They lie in another core's cache: all are fetched at once.
            let mut turn = [const { None }; QUANTUM_ALONE];
            let quantum = if self.ready.is_empty() && rest.is_empty() { QUANTUM_ALONE } else { QUANTUM };
            for place in turn.iter_mut().take(quantum.min(max - (out.len() - first))) {
                *place = lane.queue.pop();
                let Some(parcel) = place else { break };
                parcel.prefetch();
            }
            if opened.capacity() == 0 {
                opened.reserve_exact(max.min(GROUP_MAX));
            }
            for mut parcel in turn.into_iter().flatten() {
                out.push(Upcall { rx_queue: lane.rx_queue, ..parcel.open() });
                if opened.len() == GROUP_MAX {
                    self.parcels.give(std::mem::take(&mut opened));
                }
                opened.push(parcel);
            }
            lane.relieve();
            if lane.queue.is_empty() { emptied.push(lane) } else { rest.push_back(lane) }
        }
        self.parcels.give(opened);
        hand.lanes.lock().unwrap_or_else(PoisonError::into_inner).extend(emptied.into_iter().chain(rest));
        out.len() - first
    }

    /// Puts a lane back at the end of the row, or out of it if it has nothing left.
    fn pass_on(&self, lane: Arc<Lane>) {
        if lane.queue.is_empty() {
            lane.scheduled.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // A sender that pushed before it could see the store has left it to us.
            if lane.queue.is_empty() || lane.scheduled.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        self.ready.push(lane);
    }

    /// Forgets what waits of a port, which is going away; how many there were.
    pub fn purge(&self, port: &PortQueue) -> usize {
        let mut n = 0;
        for lane in port.lanes() {
            while lane.queue.pop().is_some() {
                n += 1;
            }
            lane.relieve();
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

    fn push(upcalls: &Upcalls, port: &PortQueue, tag: u8) -> bool {
        push_from(upcalls, port, 0, tag)
    }

    fn push_from(upcalls: &Upcalls, port: &PortQueue, rx_queue: u16, tag: u8) -> bool {
        let mut key = flow::Key::ZERO;
        key.in_port = port.port.0.to_be_bytes();
        let mut parcel = upcalls.parcels.take_one();
        parcel.fill(&[tag], (&key, key.lines()), 0);
        upcalls.push(port.lane(rx_queue), parcel).is_ok()
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
        assert!(!upcalls.has_room(queue.lane(0)));
        assert_eq!(queue.counts(), (QUEUE_MAX as u64, 2));
        upcalls.take(0, QUEUE_MAX - QUEUE_LOW - 1, Duration::ZERO, &mut out);
        assert!(!upcalls.would_take(queue.lane(0)));
        upcalls.take(0, 1, Duration::ZERO, &mut out);
        for _ in QUEUE_LOW..QUEUE_MAX {
            assert!(upcalls.would_take(queue.lane(0)) && push(&upcalls, &queue, 0));
        }
        assert!(!push(&upcalls, &queue, 0) && !upcalls.would_take(queue.lane(0)));
        assert_eq!(upcalls.purge(&queue), QUEUE_MAX);
        assert!(upcalls.would_take(queue.lane(0)), "also who forgets what waits says that there is room");
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

    /// What comes in by several receive queues of a port goes to several handlers; each lane is what a port with one queue is.
    #[test]
    fn receive_queues_of_a_port_go_up_apart() {
        let upcalls = Upcalls::default();
        let port = PortQueue::new(DpPort(1));
        (0..2).for_each(|rx_queue| port.open(rx_queue));
        let take = |handler, max| {
            let mut out = Vec::new();
            upcalls.take(handler, max, Duration::ZERO, &mut out);
            out.iter().map(|upcall| (upcall.rx_queue, upcall.packet[0])).collect::<Vec<_>>()
        };
        for (rx_queue, tag) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
            assert!(push_from(&upcalls, &port, rx_queue, tag));
        }
        assert_eq!(take(0, 1), [(0, 1)]);
        assert_eq!(take(1, 8), [(1, 3), (1, 4)], "what waits behind the first packet has to wait, the other queue's does not");
        assert!(push_from(&upcalls, &port, 1, 5));
        assert_eq!(take(0, 8), [(0, 2)], "the other queue is in hand");
        assert_eq!(take(1, 8), [(1, 5)]);
        // A receive queue without a lane: there are too many, or it is another port's.
        port.open(LANES_MAX);
        assert!(push_from(&upcalls, &port, 7, 6) && push_from(&upcalls, &port, u16::MAX, 7));
        assert_eq!(take(0, 8), [(0, 6), (0, 7)]);
        assert!(push_from(&upcalls, &port, 1, 8));
        assert_eq!((port.counts(), upcalls.purge(&port)), ((8, 0), 1));
        assert_eq!((take(0, 8).len(), take(1, 8).len()), (0, 0));
        assert!(upcalls.settled());
    }

    /// With two handlers for the two receive queues of each of two ports, nothing is lost and nothing overtaken.
    #[test]
    fn nothing_is_left_behind_or_overtaken_while_handlers_sleep() {
        const EACH: u32 = 5_000;
        let upcalls = Arc::new(Upcalls::default());
        let left = Arc::new(AtomicU64::new(4 * u64::from(EACH)));
        let overtaken = Arc::new(AtomicBool::new(false));
        let next: Arc<[[AtomicU64; 2]; 2]> = Arc::default();
        let handlers: Vec<_> = (0..2)
            .map(|h| {
                let (upcalls, left, next, overtaken) =
                    (Arc::clone(&upcalls), Arc::clone(&left), Arc::clone(&next), Arc::clone(&overtaken));
                std::thread::spawn(move || {
                    let mut out = Vec::new();
                    while left.load(Ordering::Relaxed) > 0 && !overtaken.load(Ordering::Relaxed) {
                        upcalls.take(h, 4, Duration::from_millis(20), &mut out);
                        for upcall in &out {
                            let number = u32::from_be_bytes(upcall.packet[..].try_into().unwrap());
                            let of_lane = &next[usize::from(upcall.key.in_port[3])][usize::from(upcall.rx_queue)];
                            if of_lane.fetch_add(1, Ordering::Relaxed) != u64::from(number) {
                                overtaken.store(true, Ordering::Relaxed);
                            }
                        }
                        left.fetch_sub(out.len() as u64, Ordering::Relaxed);
                        out.clear();
                    }
                })
            })
            .collect();
        let ports: Vec<_> = (0..2).map(|number| PortQueue::new(DpPort(number))).collect();
        ports.iter().for_each(|port| port.open(1));
        let senders: Vec<_> = (0..4u16)
            .map(|n| {
                let (upcalls, port, overtaken) =
                    (Arc::clone(&upcalls), Arc::clone(&ports[usize::from(n / 2)]), Arc::clone(&overtaken));
                std::thread::spawn(move || {
                    let mut key = flow::Key::ZERO;
                    key.in_port = port.port.0.to_be_bytes();
                    let lane = port.lane(n % 2);
                    for number in 0..EACH {
                        let send = || {
                            let mut parcel = upcalls.parcels.take_one();
                            parcel.fill(&number.to_be_bytes(), (&key, key.lines()), 0);
                            upcalls.would_take(lane) && upcalls.push(lane, parcel).is_ok()
                        };
                        while !send() && !overtaken.load(Ordering::Relaxed) {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for t in senders.into_iter().chain(handlers) {
            t.join().unwrap();
        }
        assert!(!overtaken.load(Ordering::Relaxed));
        assert_eq!(left.load(Ordering::Relaxed), 0);
    }
}
