//! The model's meters: buckets that fill with time, one for each meter however many rules name it.
//!
//! What enters: limits; packets with the time. What leaves: whether a packet goes on; counters. Neighbours: `police` (their messages), `direct`,
//! `packet`. It shares nothing with the software switch's meters: its time is spent in nanoseconds, as the kernel's is.

use crate::hardware::MeterCounts;
use crate::meters::Limit;
use flow::clock::now_ms;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct Bucket {
    limit: Limit,
    counts: MeterCounts,
    /// What is in it, and when that was so.
    filled_ns: u64,
    at_ns: u64,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<u32, Bucket>);

fn now_ns() -> u64 {
    u64::try_from(now_ms()).unwrap_or(0).saturating_mul(1_000_000)
}

impl Buckets {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A full one; or another limit for one that is there, which keeps its counters.
    pub(super) fn put(&mut self, meter: u32, limit: Limit) {
        let counts = self.counts(meter).unwrap_or_default();
        self.0.insert(meter, Bucket { limit, counts, filled_ns: limit.burst_ns(), at_ns: now_ns() });
    }

    pub(super) fn take(&mut self, meter: u32) -> Option<MeterCounts> {
        self.0.remove(&meter).map(|b| b.counts)
    }

    pub(super) fn limit(&self, meter: u32) -> Option<Limit> {
        self.0.get(&meter).map(|b| b.limit)
    }

    pub(super) fn counts(&self, meter: u32) -> Option<MeterCounts> {
        self.0.get(&meter).map(|b| b.counts)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// Whether a packet goes on. A rule that names no meter has it dropped.
    pub(super) fn admit(&mut self, meter: u32, len: usize) -> bool {
        let Some(bucket) = self.0.get_mut(&meter) else { return false };
        bucket.counts.packets += 1;
        bucket.counts.bytes += len as u64;
        let now = now_ns();
        let filled = bucket.filled_ns.saturating_add(now.saturating_sub(bucket.at_ns)).min(bucket.limit.burst_ns());
        let left = filled.checked_sub(bucket.limit.cost_ns(len));
        (bucket.filled_ns, bucket.at_ns) = (left.unwrap_or(filled), now);
        bucket.counts.dropped += u64::from(left.is_none());
        left.is_some()
    }
}
