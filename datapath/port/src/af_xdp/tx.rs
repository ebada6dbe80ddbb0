//! The transmit side of AF_XDP: descriptors out, chunks back.
//!
//! What enters: batches. What leaves: frames on the tx ring; chunks from the completion ring to the pool. Neighbours: `af_xdp`, whose essay
//! tells how checksums are asked for.

use super::ring::Ring;
use super::{FRAME, LINGER_MS, METADATA, PIECES_MAX, RING, Socket};
use crate::batch::Batch;
use crate::counters::{CHUNKS_LOST, Counters};
use crate::offload::settle;
use crate::packet::{Checksum, Packet};
use crate::queue::{Capabilities, Transmit};
use std::sync::{Arc, Mutex, PoisonError};

/// The transmit side of one hardware queue; all handles of the queue share it.
#[derive(Debug)]
pub(super) struct TxRings {
    pub(super) socket: Arc<Socket>,
    tx: Ring<libc::xdp_desc>,
    completion: Ring<u64>,
    /// Chunks that the kernel holds.
    outstanding: u32,
}

impl TxRings {
    pub(super) fn new(socket: &Arc<Socket>, tx: Ring<libc::xdp_desc>, completion: Ring<u64>) -> Self {
        Self { socket: Arc::clone(socket), tx, completion, outstanding: 0 }
    }

    /// Takes back what the kernel has sent.
    fn reap(&mut self) {
        let n = self.completion.available();
        for _ in 0..n {
            let address = self.completion.take();
            self.socket.free(address);
        }
        if n > 0 {
            self.completion.release();
            self.outstanding -= n;
        }
    }

    /// Puts packets on the ring; how many of them and how many bytes. The rest is freed and counted.
    fn put(&mut self, ready: &mut Batch, counters: &Counters) {
        self.reap();
        let want: usize = ready.iter().map(|packet| packet.len().div_ceil(FRAME)).sum();
        let want = crate::packet::u32_of(want);
        // No more than the completion ring can take back.
        let mut room = self.tx.room(want).min(RING - self.outstanding);
        if room < want {
            self.kick(counters);
            self.reap();
            room = self.tx.room(want).min(RING - self.outstanding);
        }
        let (mut n, mut packets, mut bytes) = (0, 0, 0);
        for packet in ready.drain() {
            let pieces = crate::packet::u32_of(packet.len().div_ceil(FRAME)).max(1);
            if room < n + pieces {
                counters.dropped.add(1);
                continue;
            }
            let len = packet.len() as u64;
            let put = if pieces == 1 { self.put_whole(packet, counters) } else { self.put_pieces(&packet, counters) };
            if put {
                (n, packets, bytes) = (n + pieces, packets + 1, bytes + len);
            }
        }
        self.tx.submit();
        self.outstanding += n;
        counters.packets.add(packets);
        counters.bytes.add(bytes);
    }

    /// A packet that fits into one chunk; false (and counted) if it cannot be sent.
    #[inline]
    fn put_whole(&mut self, packet: Packet, counters: &Counters) -> bool {
        let fitting = fit(packet, counters);
        let can = fitting.is_some();
        if let Some(packet) = fitting {
            self.put_one(packet, false);
        }
        can
    }

    /// A larger packet, cut into chunks; false (and counted) if it cannot be sent.
    #[cold]
    fn put_pieces(&mut self, packet: &Packet, counters: &Counters) -> bool {
        let n = packet.len().div_ceil(FRAME);
        if !self.socket.pieces || n > PIECES_MAX {
            counters.errors.add(1);
            return false;
        }
        let mut pieces = [const { None }; PIECES_MAX];
        for (piece, bytes) in pieces.iter_mut().zip(packet.data().chunks(FRAME)) {
            *piece = Packet::from_bytes(bytes);
        }
        if pieces[..n].iter().any(Option::is_none) {
            counters.dropped.add(1);
            return false;
        }
        if let Some(first) = &mut pieces[0] {
            first.set_checksum(packet.checksum());
        }
        for (i, piece) in pieces.into_iter().flatten().enumerate() {
            self.put_one(piece, i + 1 < n);
        }
        true
    }

    /// Puts a chunk on the ring; `more` of the same frame follow.
    fn put_one(&mut self, packet: Packet, more: bool) {
        let mut options = if more { libc::XDP_PKT_CONTD } else { 0 };
        if let Checksum::Partial { start, offset } = packet.checksum() {
            let mut metadata = [0; METADATA];
            metadata[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM).to_ne_bytes());
            // A small chunk is shorter than 64 KiB.
            metadata[8..10].copy_from_slice(&u16::try_from(start).unwrap_or(0).to_ne_bytes());
            metadata[10..12].copy_from_slice(&offset.to_ne_bytes());
            let before = packet.as_ptr().wrapping_sub(METADATA).cast::<[u8; METADATA]>();
            // SAFETY: `fit` made sure of headroom for the metadata, and the packet owns its chunk.
            unsafe { before.write(metadata) };
            options |= libc::XDP_TX_METADATA;
        }
        let descriptor =
            libc::xdp_desc { addr: self.socket.address(packet.as_ptr()), len: crate::packet::u32_of(packet.len()), options };
        // The chunk is the kernel's until it comes back by the completion ring.
        let _ = packet.into_chunk();
        self.tx.put(descriptor);
    }

    /// Makes the kernel send. In copy mode each call sends a bounded number of packets, within the call.
    fn kick(&self, counters: &Counters) {
        for _ in 0..RING / 32 {
            if self.tx.unconsumed() == 0 || self.socket.zero_copy && !self.tx.needs_wakeup() {
                return;
            }
            counters.syscalls.add(1);
            match self.socket.kick_tx() {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR) => {}
                    // Out of memory or a busy device: the ring keeps the packets for the next time.
                    Some(libc::EBUSY | libc::ENOBUFS) => return,
                    _ => {
                        self.socket.netdev.suspect_once();
                        return;
                    }
                },
            }
        }
    }
}

/// A packet as the ring takes it: in a small chunk, with room for metadata before it. None is counted here.
#[inline]
fn fit(packet: Packet, counters: &Counters) -> Option<Packet> {
    if packet.is_small() && packet.headroom() >= METADATA && !packet.is_empty() {
        return Some(packet);
    }
    refit(&packet, counters)
}

#[cold]
fn refit(packet: &Packet, counters: &Counters) -> Option<Packet> {
    if packet.is_empty() || packet.len() > FRAME {
        counters.errors.add(1);
        return None;
    }
    let copy = Packet::from_bytes(packet.data());
    if copy.is_none() {
        counters.dropped.add(1);
    }
    let mut copy = copy?;
    copy.set_checksum(packet.checksum());
    Some(copy)
}

impl Drop for TxRings {
    fn drop(&mut self) {
        let counters = Counters::default();
        for _ in 0..LINGER_MS {
            self.kick(&counters);
            self.reap();
            if self.outstanding == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        for descriptor in self.tx.leftovers() {
            self.socket.free(descriptor.addr);
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        CHUNKS_LOST.add(self.outstanding.into());
    }
}

/// A transmit handle.
#[derive(Debug)]
pub struct Tx {
    rings: Arc<Mutex<TxRings>>,
    /// The kernel completes checksums.
    checksum: bool,
    /// Something may wait for a kick.
    dirty: bool,
    counters: Counters,
}

impl Tx {
    pub(super) fn new(rings: &Arc<Mutex<TxRings>>, checksum: bool, counters: Counters) -> Self {
        Self { rings: Arc::clone(rings), checksum, dirty: false, counters }
    }
}

impl Transmit for Tx {
    #[inline]
    fn send(&mut self, batch: &mut Batch) {
        self.dirty = true;
        let can = self.capabilities();
        let (rings, counters) = (&self.rings, &self.counters);
        settle(batch, can, counters, |ready| {
            rings.lock().unwrap_or_else(PoisonError::into_inner).put(ready, counters);
        });
    }

    #[inline]
    fn flush(&mut self) {
        if self.dirty {
            let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            rings.kick(&self.counters);
            rings.reap();
            self.dirty = rings.tx.unconsumed() > 0;
        }
    }

    #[inline]
    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: self.checksum, tso: false, uso: false }
    }
}
