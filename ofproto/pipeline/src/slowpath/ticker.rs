//! The slow path's own thread: it gives the slow path its time ten times a second, and at once what others ring for or the kernel tells of devices.
//!
//! What enters: time, the bell of `Wake`, the ears of the datapaths. What leaves: calls of `tick` and `hear_of_ports`. Neighbours: `ports`, `protocols`.
//!
//! What was told waits in the socket, where the kernel counts what is too much, until it is taken, all of it together. After that nothing is
//! taken for as long as it took: however many links change, half of the time is others'.
#![allow(clippy::disallowed_methods, reason = "paces a thread; nothing is decided by it")]

use super::Slowpath;
use crate::protocols::Wake;
use flow::clock::now_ms;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often time is given while nothing else happens.
const TICK: Duration = Duration::from_millis(100);

impl Slowpath {
    /// Starts the thread. Without it the owner calls `tick`, or `run_until_idle` (tests do).
    pub fn start(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.world_wake().bell().expect("the system has a descriptor left at start");
        let body = move || {
            let mut ticker = Ticker::new(TICK);
            while !this.stopping.load(Ordering::Acquire) {
                ticker.turn(&this);
            }
        };
        let thread =
            std::thread::Builder::new().name("ofproto".into()).spawn(body).expect("the system has a thread left at start");
        *self.lock_ticker() = Some(thread);
    }

    fn ears(&self) -> Vec<Arc<OwnedFd>> {
        self.udpifs().iter().filter_map(|udpif| udpif.dp.ear()).collect()
    }
}

/// When the thread does what.
#[derive(Debug)]
struct Ticker {
    period: Duration,
    tick_at: Instant,
    hear_at: Instant,
}

impl Ticker {
    fn new(period: Duration) -> Self {
        let now = Instant::now();
        Self { period, tick_at: now + period, hear_at: now }
    }

    /// Sleeps until there is something to do, and does it.
    fn turn(&mut self, slowpath: &Slowpath) {
        let wake = slowpath.world_wake();
        let began = self.sleep(slowpath, &wake);
        if began.is_some() {
            slowpath.hear_of_ports();
        }
        // What was heard may have rung, and then protocols, bonds and groups follow before anything else.
        if wake.silence() || Instant::now() >= self.tick_at {
            slowpath.tick(now_ms());
            self.tick_at = Instant::now() + self.period;
        }
        if let Some(began) = began {
            let now = Instant::now();
            self.hear_at = now + (now - began);
        }
    }

    /// Returns when the bell rings, a tick is due, or there is something to hear; then since when.
    fn sleep(&self, slowpath: &Slowpath, wake: &Wake) -> Option<Instant> {
        let now = Instant::now();
        let listens = now >= self.hear_at;
        let (ears, until) = if listens { (slowpath.ears(), self.tick_at) } else { (Vec::new(), self.tick_at.min(self.hear_at)) };
        let bell = wake.bell().expect("it was made when the thread was");
        let mut fds: Vec<_> = std::iter::once(bell.as_fd()).chain(ears.iter().map(|ear| ear.as_fd())).map(for_reading).collect();
        // A wait that fails or is interrupted is one that was shorter.
        let _ = ppoll(&mut fds, Some(TimeSpec::from(until.saturating_duration_since(now))), None);
        let heard = fds.iter().skip(1).any(|fd| fd.any().unwrap_or(true));
        heard.then(Instant::now)
    }
}

fn for_reading(fd: std::os::fd::BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, bond, config};

    /// No tick and nothing heard by itself as long as a test runs.
    const NEVER: Duration = Duration::from_secs(3600);

    /// `br0` with x, p3 and p4, and bond0 of p1 and p2. What comes by x goes to the bond, what comes by p4 to the first of p1 and p3 that has a link.
    fn scenario() -> Scenario {
        let mut wanted = config(&["br0 p1@1 p2@2 p3@3 p4@4 x@7"]);
        bond(&mut wanted.bridges[0], "bond0", ["p1", "p2"], "active-backup");
        let s = Scenario::new(&wanted);
        s.add_group("br0", "group_id=1,type=ff,bucket=watch_port:1,output:1,bucket=watch_port:3,output:3").unwrap();
        s.flow_mod("br0", "in_port=7,actions=normal").unwrap();
        s.flow_mod("br0", "in_port=4,actions=group:1").unwrap();
        s
    }

    /// By which of the ports a broadcast leaves that has come by the port.
    fn leaves<'n>(s: &Scenario, by: &str, ports: &[&'n str]) -> Vec<&'n str> {
        s.slowpath.settle();
        let packet = format!("in_port({}),eth(src=02:00:00:00:00:01,dst=ff:ff:ff:ff:ff:ff),eth_type(0x0800)", s.dp_port(by).0);
        let out = s.send(&packet);
        ports
            .iter()
            .copied()
            .filter(|port| out.lines().any(|line| line.starts_with(&format!("{}: ", s.dp_port(port).0))))
            .collect()
    }

    #[test]
    fn what_is_heard_of_a_link_is_followed_before_the_next_tick() {
        let s = scenario();
        let mut ticker = Ticker::new(NEVER);
        assert_eq!((leaves(&s, "x", &["p1", "p2"]), leaves(&s, "p4", &["p1", "p3"])), (vec!["p1"], vec!["p1"]));
        let told = s.slowpath.news();
        drop(s.slowpath.read_world().notices.take());
        s.dp.tell_link(s.dp_port("p1"), false);
        ticker.turn(&s.slowpath);
        assert_eq!((leaves(&s, "x", &["p1", "p2"]), leaves(&s, "p4", &["p1", "p3"])), (vec!["p2"], vec!["p3"]));
        assert_eq!(s.slowpath.read_world().notices.take().len(), 1, "the port's status");
        assert!(s.slowpath.news() > told, "for the database");
    }

    #[test]
    fn after_much_was_heard_it_is_heard_nothing_for_a_while() {
        let s = scenario();
        let p1 = s.dp_port("p1");
        let mut ticker = Ticker::new(NEVER);
        for up in [false, true].repeat(500) {
            s.dp.tell_link(p1, up);
        }
        s.dp.tell_link(p1, false);
        let began = Instant::now();
        ticker.turn(&s.slowpath);
        assert!(ticker.hear_at > began);
        assert_eq!(leaves(&s, "p4", &["p1", "p3"]), ["p3"], "all was taken at once");
        // Ticks go on meanwhile.
        s.dp.tell_link(p1, true);
        (ticker.hear_at, ticker.tick_at) = (began + NEVER, began);
        ticker.turn(&s.slowpath);
        assert!(ticker.tick_at > began);
        assert_eq!(leaves(&s, "p4", &["p1", "p3"]), ["p3"]);
        ticker.hear_at = began;
        ticker.turn(&s.slowpath);
        assert_eq!(leaves(&s, "p4", &["p1", "p3"]), ["p1"]);
    }
}
