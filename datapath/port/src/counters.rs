//! Figures of one queue: written by the one thread that serves it, read by any.
//!
//! What enters: what a queue did with a batch. What leaves: totals for `Device::queue_stats`. There is no lock and no locked instruction:
//! each cell has one writer at a time, so an addition is a plain load and store.

use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

flow::counters! {
    POOL_EXHAUSTED = "port_buffers_exhausted", "An allocation found no free packet buffer.";
    CHUNKS_LOST = "port_buffers_lost", "Packet buffers that a driver did not give back when its port was closed.";
    DUMMY_OVERFLOW = "netdev_dummy_overflow", "Packets injected into a dummy port whose receive queue was full.";
    HOST_TOO_LONG = "tunnel_host_too_long", "Encapsulated packets that the host's stack did not take because they are too long for the way.";
}

/// A monotonic figure with one writer at a time.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`. Only the thread that owns the queue may call this; a second writer would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The figure.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The cells of one queue.
#[derive(Debug, Default)]
pub struct QueueCells {
    /// Packets received or sent.
    pub packets: Cell,
    /// Their bytes, without preamble and FCS.
    pub bytes: Cell,
    /// Packets lost for want of a buffer or of room in a ring.
    pub dropped: Cell,
    /// Packets refused: too large, malformed, or an error of the device.
    pub errors: Cell,
    /// Packets whose checksum was completed in software.
    pub csum_completed: Cell,
    /// Frames that were segmented in software.
    pub segmented: Cell,
    /// System calls made.
    pub syscalls: Cell,
}

/// A snapshot of [`QueueCells`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in QueueCells")]
pub struct QueueStats {
    pub packets: u64,
    pub bytes: u64,
    pub dropped: u64,
    pub errors: u64,
    pub csum_completed: u64,
    pub segmented: u64,
    pub syscalls: u64,
}

impl QueueCells {
    /// The present figures.
    pub fn snapshot(&self) -> QueueStats {
        QueueStats {
            packets: self.packets.value(),
            bytes: self.bytes.value(),
            dropped: self.dropped.value(),
            errors: self.errors.value(),
            csum_completed: self.csum_completed.value(),
            segmented: self.segmented.value(),
            syscalls: self.syscalls.value(),
        }
    }
}

impl std::ops::AddAssign for QueueStats {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.errors += other.errors;
        self.csum_completed += other.csum_completed;
        self.segmented += other.segmented;
        self.syscalls += other.syscalls;
    }
}

/// The cells of one queue, shared between its owner and the readers, on cache lines of their own.
pub type Counters = Arc<CachePadded<QueueCells>>;
