//! Connections that another one has announced: FTP's data connections, TFTP's transfers.
//!
//! What enters: what a helper has read in a control connection. What leaves: the expectation that a new connection fulfils, once.
//! Neighbours: `helper` (makes them), `track` (asks when a connection begins).
//!
//! They stand behind one lock, which only control packets of helpers and, while there are expectations at all, first packets of new
//! connections take. There are at most `EXPECTATIONS_MAX`, each for `LIFE_MS`.

use super::tuple::Tuple;
use flow::clock::Msec;
use flow::hash::Map;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

flow::counters! {
    EXPECTATIONS_FULL = "conntrack_expectations_full", "A helper's expectation was not kept: there were too many.";
}

/// Expectations at most.
pub const EXPECTATIONS_MAX: usize = 4096;
/// How long a connection is waited for.
pub const LIFE_MS: Msec = 300_000;

/// A connection to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// What its first packet has; source port 0 for any.
    pub tuple: Tuple,
    /// What answers shall come with, for NAT; destination port 0 for its source port.
    pub reply: Tuple,
    /// The connection that announced it.
    pub parent: Tuple,
    pub mark: u32,
    pub label: u128,
    pub expires_ms: Msec,
}

/// All that are waited for, by tuple.
#[derive(Debug, Default)]
pub struct Expectations {
    known: Mutex<Map<Tuple, Expectation>>,
    count: AtomicUsize,
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, Map<Tuple, Expectation>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one more. A connection announced again replaces the first announcement.
    pub fn add(&self, expectation: Expectation, now_ms: Msec) {
        let mut known = self.lock();
        if known.len() >= EXPECTATIONS_MAX {
            known.retain(|_, e| e.expires_ms > now_ms);
        }
        if known.len() >= EXPECTATIONS_MAX && !known.contains_key(&expectation.tuple) {
            EXPECTATIONS_FULL.inc();
        } else {
            known.insert(expectation.tuple, expectation);
        }
        self.count.store(known.len(), Ordering::Release);
    }

    /// The expectation that a first packet fulfils.
    #[inline]
    #[must_use]
    pub fn find(&self, tuple: &Tuple, now_ms: Msec) -> Option<Expectation> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let known = self.lock();
        let any_port = tuple.with_ports(0, tuple.dport());
        known.get(&any_port).filter(|e| e.expires_ms > now_ms).copied()
    }

    /// Forgets what a connection has announced: it has ended, or the connection has come.
    pub fn forget(&self, is: impl Fn(&Expectation) -> bool) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut known = self.lock();
        known.retain(|_, e| !is(e));
        self.count.store(known.len(), Ordering::Release);
    }

    /// For dumps.
    #[must_use]
    pub fn all(&self) -> Vec<Expectation> {
        self.lock().values().copied().collect()
    }
}
