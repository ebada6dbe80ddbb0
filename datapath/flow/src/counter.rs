//! Counters of events: every drop, refusal and miss raises one, under a name that an operator reads in `coverage/show`.
//!
//! Each room declares its rows with `counters!` and adds with `NAME.inc()`; the daemon lists them all through `all()`.

use std::sync::atomic::{AtomicU64, Ordering};

/// One row: a name and its count since the start. Adding is one relaxed atomic add; hot loops add once per batch.
#[derive(Debug)]
pub struct Counter {
    /// OVS's coverage name where OVS has one.
    pub name: &'static str,
    /// What an operator should know.
    pub help: &'static str,
    count: AtomicU64,
}

impl Counter {
    /// A counter at zero; used by `counters!`.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, count: AtomicU64::new(0) }
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.count.fetch_add(n, Ordering::Relaxed);
    }

    /// The count since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Declares the counters of a room and a slice `COUNTERS` of them all, which the daemon collects.
#[macro_export]
macro_rules! counters {
    ($( $id:ident = $name:literal, $help:literal; )*) => {
        $( #[doc = $help] pub static $id: $crate::counter::Counter = $crate::counter::Counter::new($name, $help); )*
        /// Every counter of this room.
        pub static COUNTERS: &[&$crate::counter::Counter] = &[ $( &$id ),* ];
    };
}
