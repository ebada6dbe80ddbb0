//! What waits to be written to one peer beside the replies to its requests: asynchronous messages, in order.
//!
//! What enters: messages of `notices` and of other connections. What leaves: messages for the connection's task. It is bounded twice:
//! packet-ins by `Controller.controller_queue_size`, which a flood of packets fills; all else by `WAITING_MAX`, which only a peer
//! that has stopped reading fills.

use super::pinsched::Pinsched;
use flow::Msec;
use openflow::OfPort;
use openflow::message::Message;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Messages other than packet-ins that wait for one connection.
pub(super) const WAITING_MAX: usize = 1 << 20;
/// Packet-ins that wait for one connection, unless configured.
const PACKET_INS_DEFAULT: usize = 100;

/// How a connection's packet-ins are bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Limits {
    /// Packet-ins per second and how many may come at once; `None`: no limit.
    pub(super) rate: Option<(u32, u32)>,
    /// Packet-ins that wait to be written.
    pub(super) queue: usize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(Message, bool)>,
    packet_ins: usize,
    /// How many may wait.
    packet_ins_max: usize,
    /// Of misses and of all others, so that a flood of misses does not starve what rules send.
    schedulers: Option<[Pinsched; 2]>,
}

/// The messages that wait for one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    wake: Notify,
}

impl Outbox {
    pub(super) fn new(limits: Limits) -> Self {
        let this = Self { inner: Mutex::default(), wake: Notify::new() };
        this.limit(limits);
        this
    }

    /// Takes up limits, which may be others than before. Without a rate, what has waited for it is dropped, as in OVS.
    pub(super) fn limit(&self, limits: Limits) {
        let mut inner = self.lock();
        inner.packet_ins_max = if limits.queue == 0 { PACKET_INS_DEFAULT } else { limits.queue };
        match (limits.rate, &mut inner.schedulers) {
            (Some((rate, burst)), Some(schedulers)) => schedulers.iter_mut().for_each(|s| s.limit(rate, burst)),
            (Some((rate, burst)), none) => *none = Some([Pinsched::new(rate, burst), Pinsched::new(rate, burst)]),
            (None, schedulers) => schedulers.take().iter_mut().flatten().for_each(Pinsched::drop_all),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of an outbox panics")
    }

    /// Queues a message; false when there are too many.
    #[must_use]
    pub(super) fn put(&self, message: Message) -> bool {
        let mut inner = self.lock();
        if inner.waiting.len() >= WAITING_MAX {
            return false;
        }
        inner.waiting.push_back((message, false));
        drop(inner);
        self.wake.notify_one();
        true
    }

    /// Queues a packet-in that came by `in_port`, now or when the rate limit lets it pass; false when one had to be dropped.
    #[must_use]
    pub(super) fn put_packet_in(&self, message: Message, in_port: OfPort, is_miss: bool, now: Msec) -> bool {
        let mut inner = self.lock();
        let mut dropped = false;
        let passed = match &mut inner.schedulers {
            None => Some(message),
            Some(schedulers) => schedulers[usize::from(is_miss)].offer(message, in_port, now, &mut dropped),
        };
        if let Some(message) = passed {
            dropped |= !inner.push_packet_in(message);
        }
        drop(inner);
        self.wake.notify_one();
        !dropped
    }

    /// Takes the next message to write, if there is one.
    pub(super) fn take(&self, now: Msec) -> Option<Message> {
        let mut inner = self.lock();
        inner.release(now);
        let (message, is_packet_in) = inner.waiting.pop_front()?;
        inner.packet_ins -= usize::from(is_packet_in);
        Some(message)
    }

    /// Whether nothing waits but for the rate limit.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// When the rate limit may let a packet-in pass.
    pub(super) fn next_ms(&self, now: Msec) -> Option<Msec> {
        self.lock().schedulers.as_ref()?.iter().filter_map(|s| s.next_ms(now)).min()
    }

    /// (waiting for the rate limit, passed at once, had to wait, dropped) of misses [1] and others [0].
    pub(super) fn stats(&self) -> Option<[super::pinsched::Stats; 2]> {
        self.lock().schedulers.as_ref().map(|s| [s[0].stats(), s[1].stats()])
    }

    /// Lets `wait` return.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns when there may be something to take.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }
}

impl Inner {
    fn push_packet_in(&mut self, message: Message) -> bool {
        if self.packet_ins >= self.packet_ins_max {
            return false;
        }
        self.packet_ins += 1;
        self.waiting.push_back((message, true));
        true
    }

    fn release(&mut self, now: Msec) {
        let Some(schedulers) = &mut self.schedulers else { return };
        let mut released = Vec::new();
        schedulers.iter_mut().for_each(|s| s.run(now, &mut released));
        for message in released {
            if !self.push_packet_in(message) {
                super::CONN_OVERFLOW.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pinsched::PINSCHED_DROPPED;
    use super::*;
    use openflow::message::Body;
    use openflow::{Version, Xid};

    #[test]
    fn what_has_waited_for_a_rate_that_is_gone_is_counted() {
        let outbox = Outbox::new(Limits { rate: Some((1, 1000)), queue: 2000 });
        let message = Message { version: Version::V10, xid: Xid(0), body: Body::BarrierReply };
        let offered = |is_miss| {
            for _ in 0..2000 {
                assert!(outbox.put_packet_in(message.clone(), OfPort(1), is_miss, 0));
            }
        };
        offered(false);
        offered(true);
        assert_eq!(outbox.stats().map(|stats| stats.map(|s| s.queued)), Some([1000; 2]));
        let before = PINSCHED_DROPPED.count();
        outbox.limit(Limits { rate: None, queue: 2000 });
        // Other tests count as well, but not so many.
        assert!(PINSCHED_DROPPED.count() >= before + 2000);
        assert_eq!((outbox.stats(), outbox.next_ms(0)), (None, None));
    }
}
