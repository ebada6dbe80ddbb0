//! The rate limit of packet-ins (`Controller.controller_rate_limit` and `controller_burst_limit`): a token bucket, and behind it a
//! queue for each input port, served in turn, so that one port's flood does not keep the packets of others from the controller.
//!
//! Pure: time is an argument. When as many wait as may come at once, the longest queue loses its oldest packet.

use flow::Msec;
use openflow::OfPort;
use openflow::message::Message;
use std::collections::{BTreeMap, VecDeque};

flow::counters! {
    PINSCHED_DROPPED = "pinsched_dropped", "packet-ins dropped because a controller's rate limit had as many waiting as may come at once";
}

/// A packet-in costs this many units; the bucket gains `rate` of them each millisecond.
const UNITS: u64 = 1000;

/// What a scheduler has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stats {
    pub(super) queued: usize,
    pub(super) normal: u64,
    pub(super) limited: u64,
    pub(super) dropped: u64,
}

fn limits(rate: u32, burst: u32) -> (u64, u64) {
    let rate = if rate == 0 { 1000 } else { rate };
    (u64::from(rate), u64::from(if burst == 0 { rate / 4 } else { burst }.max(1)))
}

/// A scheduler.
#[derive(Debug)]
pub(super) struct Pinsched {
    rate: u64,
    burst: u64,
    units: u64,
    filled_ms: Option<Msec>,
    queues: BTreeMap<OfPort, VecDeque<Message>>,
    /// The port served last.
    last: Option<OfPort>,
    stats: Stats,
}

impl Pinsched {
    /// `rate` packets per second, `burst` of them at once; 0 stands for OVS's defaults: 1000, and a quarter of the rate.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        let (rate, burst) = limits(rate, burst);
        Self { rate, burst, units: burst * UNITS, filled_ms: None, queues: BTreeMap::new(), last: None, stats: Stats::default() }
    }

    /// The same limits for one that has worked by others: it keeps what it has, as far as it may.
    pub(super) fn limit(&mut self, rate: u32, burst: u32) {
        (self.rate, self.burst) = limits(rate, burst);
        self.units = self.units.min(self.burst * UNITS);
        while u64::try_from(self.stats.queued).unwrap_or(u64::MAX) > self.burst {
            self.drop_one();
        }
    }

    /// Nothing waits any more.
    pub(super) fn drop_all(&mut self) {
        while self.stats.queued > 0 {
            self.drop_one();
        }
    }

    fn fill(&mut self, now: Msec) {
        let since = self.filled_ms.replace(now).map_or(0, |before| (now - before).max(0));
        let gained = since.unsigned_abs().saturating_mul(self.rate);
        self.units = self.units.saturating_add(gained).min(self.burst * UNITS);
    }

    fn withdraw(&mut self) -> bool {
        let left = self.units.checked_sub(UNITS);
        self.units = left.unwrap_or(self.units);
        left.is_some()
    }

    /// Lets the packet-in pass, or keeps it. `dropped` says whether another had to go.
    pub(super) fn offer(&mut self, message: Message, in_port: OfPort, now: Msec, dropped: &mut bool) -> Option<Message> {
        self.fill(now);
        if self.stats.queued == 0 && self.withdraw() {
            self.stats.normal += 1;
            return Some(message);
        }
        if u64::try_from(self.stats.queued).unwrap_or(u64::MAX) >= self.burst {
            self.drop_one();
            *dropped = true;
        }
        self.queues.entry(in_port).or_default().push_back(message);
        self.stats.queued += 1;
        self.stats.limited += 1;
        None
    }

    fn drop_one(&mut self) {
        let Some(port) = self.queues.iter().max_by_key(|(_, q)| q.len()).map(|(port, _)| *port) else { return };
        if self.pop(port).is_some() {
            PINSCHED_DROPPED.inc();
            self.stats.dropped += 1;
        }
    }

    fn pop(&mut self, port: OfPort) -> Option<Message> {
        let queue = self.queues.get_mut(&port)?;
        let message = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&port);
        }
        self.stats.queued -= usize::from(message.is_some());
        message
    }

    /// Lets pass what may pass now.
    pub(super) fn run(&mut self, now: Msec, out: &mut Vec<Message>) {
        self.fill(now);
        while self.stats.queued > 0 && self.withdraw() {
            let after = self.last.and_then(|last| self.queues.keys().find(|p| **p > last));
            let Some(port) = after.or_else(|| self.queues.keys().next()).copied() else { return };
            self.last = Some(port);
            out.extend(self.pop(port));
        }
    }

    /// When `run` will let one pass.
    pub(super) fn next_ms(&self, now: Msec) -> Option<Msec> {
        if self.stats.queued == 0 {
            return None;
        }
        let missing = UNITS.saturating_sub(self.units).div_ceil(self.rate).max(1);
        Some(self.filled_ms.unwrap_or(now) + i64::try_from(missing).unwrap_or(i64::MAX / 2))
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::message::Body;
    use openflow::{Version, Xid};

    fn message(n: u32) -> Message {
        Message { version: Version::V10, xid: Xid(n), body: Body::BarrierReply }
    }

    fn numbers(out: &[Message]) -> Vec<u32> {
        out.iter().map(|m| m.xid.0).collect()
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let mut s = Pinsched::new(100, 3);
        let mut dropped = false;
        let passed = (0..6).filter(|n| s.offer(message(*n), OfPort(1), 0, &mut dropped).is_some()).count();
        assert_eq!((passed, dropped), (3, false));
        assert_eq!(s.next_ms(0), Some(10), "one each 10 ms");
        let mut out = Vec::new();
        s.run(9, &mut out);
        assert!(out.is_empty());
        s.run(25, &mut out);
        assert_eq!(numbers(&out), [3, 4]);
        s.run(1000, &mut out);
        assert_eq!(numbers(&out), [3, 4, 5]);
        assert_eq!(s.next_ms(1000), None);
        assert_eq!(s.stats(), Stats { queued: 0, normal: 3, limited: 3, dropped: 0 });
    }

    #[test]
    fn a_flood_does_not_starve_another_port() {
        let mut s = Pinsched::new(1000, 4);
        let mut dropped = false;
        for n in 0..100 {
            s.offer(message(n), OfPort(1), 0, &mut dropped);
        }
        assert!(dropped);
        s.offer(message(500), OfPort(2), 0, &mut dropped);
        let mut out = Vec::new();
        s.run(2, &mut out);
        assert!(numbers(&out).contains(&500), "{:?}", numbers(&out));
        assert_eq!(s.stats().queued, 2);
    }

    #[test]
    fn other_limits_for_what_waits() {
        let mut s = Pinsched::new(100, 4);
        let mut dropped = false;
        for n in 0..8 {
            s.offer(message(n), OfPort(1), 0, &mut dropped);
        }
        assert_eq!(s.stats(), Stats { queued: 4, normal: 4, limited: 4, dropped: 0 });
        s.limit(1000, 2);
        assert_eq!(s.stats(), Stats { queued: 2, normal: 4, limited: 4, dropped: 2 });
        assert_eq!(s.next_ms(0), Some(1), "one each millisecond");
        let mut out = Vec::new();
        s.run(1, &mut out);
        assert_eq!(numbers(&out), [6], "the newest have stayed");
        s.offer(message(8), OfPort(2), 1, &mut dropped);
        s.drop_all();
        assert_eq!(s.stats(), Stats { queued: 0, normal: 4, limited: 5, dropped: 4 });
    }

    #[test]
    fn zero_stands_for_the_defaults() {
        let s = Pinsched::new(0, 0);
        assert_eq!((s.rate, s.burst), (1000, 250));
    }
}
