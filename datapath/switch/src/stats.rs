//! Statistics of megaflows and workers, without locks: each forwarding thread has cells of its own, readers add them up.
//!
//! What enters: what a worker did with a batch, once per batch and megaflow. What leaves: `FlowStats`. Cells are single-writer:
//! an addition is a plain load and store. They are never set back while a worker could write them: clearing is a subtraction kept by the
//! reader (`switch`), and a cell is zeroed only when its slot has passed a grace period.

use crate::slots::{CHUNK, CHUNKS_MAX};
use flow::seam::FlowStats;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};

/// One megaflow's figures, as one thread counts them.
#[derive(Debug, Default)]
pub struct Cell {
    packets: AtomicU64,
    bytes: AtomicU64,
    used_ms: AtomicI64,
    tcp_flags: AtomicU64,
}

const _: () = assert!(size_of::<Cell>() == 32);

/// Adds to a cell that only the calling thread writes.
#[inline]
pub fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Cell {
    /// Counts packets. Only for the shard's own thread.
    #[inline]
    pub fn count(&self, packets: u64, bytes: u64, now_ms: i64, tcp_flags: u16) {
        add(&self.packets, packets);
        add(&self.bytes, bytes);
        self.used_ms.store(now_ms, Ordering::Relaxed);
        let flags = self.tcp_flags.load(Ordering::Relaxed);
        if flags | u64::from(tcp_flags) != flags {
            self.tcp_flags.store(flags | u64::from(tcp_flags), Ordering::Relaxed);
        }
    }

    fn add_to(&self, sum: &mut FlowStats) {
        sum.packets = sum.packets.wrapping_add(self.packets.load(Ordering::Relaxed));
        sum.bytes = sum.bytes.wrapping_add(self.bytes.load(Ordering::Relaxed));
        sum.used_ms = sum.used_ms.max(self.used_ms.load(Ordering::Relaxed));
        sum.tcp_flags |= u16::try_from(self.tcp_flags.load(Ordering::Relaxed)).unwrap_or(u16::MAX);
    }

    fn zero(&self) {
        self.packets.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.used_ms.store(0, Ordering::Relaxed);
        self.tcp_flags.store(0, Ordering::Relaxed);
    }
}

struct Chunk([Cell; CHUNK]);

/// One thread's cells, under the numbers of the slots.
pub struct Shard {
    chunks: Box<[AtomicPtr<Chunk>]>,
}

impl Shard {
    /// No cells yet.
    #[must_use]
    pub fn new() -> Self {
        Self { chunks: (0..CHUNKS_MAX).map(|_| AtomicPtr::new(std::ptr::null_mut())).collect() }
    }

    /// Makes sure that the first `n` chunks exist. Only for the control thread.
    pub fn grow(&self, n: usize) {
        for chunk in self.chunks.iter().take(n) {
            if chunk.load(Ordering::Acquire).is_null() {
                // Memory that is zero is not written: of a thread that counts nothing there is none.
                let cells = Box::<Chunk>::new_zeroed();
                // SAFETY: a cell is numbers, all of which may be zero.
                let cells = unsafe { cells.assume_init() };
                chunk.store(Box::into_raw(cells), Ordering::Release);
            }
        }
    }

    /// The cell of a slot; `None` only if `grow` was forgotten.
    #[inline]
    pub fn cell(&self, slot: u32) -> Option<&Cell> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.load(Ordering::Acquire);
        // SAFETY: a chunk is published once, whole, and lives as long as `self`.
        let chunk = unsafe { chunk.as_ref() }?;
        Some(&chunk.0[slot as usize % CHUNK])
    }

    /// Fetches the cell of a slot, which may be no slot at all.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some(cell) = self.cell(slot) {
            crate::prefetch(std::ptr::from_ref(cell));
        }
    }

    /// Adds this thread's figures of a slot to `sum`.
    pub fn add_to(&self, slot: u32, sum: &mut FlowStats) {
        if let Some(cell) = self.cell(slot) {
            cell.add_to(sum);
        }
    }

    /// Sets the figures of a slot that nobody counts on (dead, grace period over) to zero.
    pub fn zero(&self, slot: u32) {
        if let Some(cell) = self.cell(slot) {
            cell.zero();
        }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").finish_non_exhaustive()
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        for chunk in &mut self.chunks {
            let chunk = *chunk.get_mut();
            if !chunk.is_null() {
                // SAFETY: `grow` made it by `Box::into_raw`, and nobody else can see it any more.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
    }
}

/// What one thread has done since it began. Single-writer, like the cells.
#[derive(Debug, Default)]
pub struct Work {
    /// Packets looked up that found a megaflow.
    pub hit: AtomicU64,
    /// Packets looked up that found none.
    pub missed: AtomicU64,
    /// Packets that could not be handed up.
    pub lost: AtomicU64,
    /// Hits of the signature cache.
    pub cache_hits: AtomicU64,
    /// Subtables searched.
    pub mask_hit: AtomicU64,
    /// Batches received.
    pub batches: AtomicU64,
    /// Packets received.
    pub received: AtomicU64,
    /// Packets that went round again.
    pub recirculated: AtomicU64,
    /// Those of them whose megaflow was known of the whole batch (`after_ct`).
    pub after_ct: AtomicU64,
    /// Cycles by stage, while the account is on.
    pub cycles: crate::perf::Cycles,
}
