//! Ports without a device, for measuring: a source that replays a pcap file without end, and a sink that frees.
//!
//! What enters: a file's frames, copied into the switch's own buffers each time, as a driver's DMA would. What leaves: nothing; `send`
//! frees. Neighbours: `pcap`, `pool`. Every queue replays the whole file, starting at a different frame.
//!
//! Where no frame is longer than one cache line, or than two, all are kept padded to that, and copied as such: the copy has a constant length, so
//! it is two vector loads and stores for a line where the processor has AVX (four elsewhere; the source is the same, `recv_as`, compiled twice).
//! Where such a frame begins, its number says, and of its length two bytes are kept: what a source reads that no device would have read is time and
//! cache that the switch is charged for, and both lie far away when their turn comes.

use crate::batch::Batch;
use crate::counters::Counters;
use crate::device::Shared;
use crate::packet::Packet;
use crate::pool::{Class, HEADROOM, Make, SMALL_FRAME_MAX};
use crate::prefetch;
use crate::queue::{Capabilities, Receive, Transmit};
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const LINE: usize = 64;
/// So many frames before its turn, a frame is asked for.
const AHEAD: usize = 32;
/// The same of lengths, which are as many lines as there are batches.
const LENGTHS_AHEAD: usize = 2 * AHEAD;
/// Frames are padded to the longest one's lines if these are no more.
const PADDED_LINES_MAX: usize = 2;

/// The frames of a source, in one block of memory.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Each frame starts at a multiple of [`LINE`].
    bytes: Vec<Aligned>,
    /// Length in bytes of each frame.
    lengths: Vec<u16>,
    /// First line of each frame; none where all are padded to as many lines.
    firsts: Vec<u32>,
    /// The least number of lines that every frame fits.
    lines: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Aligned([u8; LINE]);

impl Frames {
    /// Takes the frames that fit a small buffer, and says how many did not.
    pub(crate) fn new(frames: &[Vec<u8>]) -> (Self, usize) {
        let fits = |frame: &&Vec<u8>| frame.len() <= SMALL_FRAME_MAX;
        let lines = frames.iter().filter(fits).map(|frame| frame.len().div_ceil(LINE)).max().unwrap_or_default().max(1);
        // Longer frames are not padded: what most of them would be copied for nothing.
        let padded = lines <= PADDED_LINES_MAX;
        let least = if padded { lines } else { 1 };
        let mut made = Self { bytes: Vec::new(), lengths: Vec::new(), firsts: Vec::new(), lines };
        let mut refused = 0;
        for frame in frames {
            if frame.len() > SMALL_FRAME_MAX {
                refused += 1;
                continue;
            }
            made.lengths.push(u16::try_from(frame.len()).expect("bounded above"));
            if !padded {
                made.firsts.push(u32::try_from(made.bytes.len()).expect("a file has at most 1 GiB"));
            }
            let end = made.bytes.len() + frame.len().div_ceil(LINE).max(least);
            for part in frame.chunks(LINE) {
                let mut line = Aligned([0; LINE]);
                line.0[..part.len()].copy_from_slice(part);
                made.bytes.push(line);
            }
            made.bytes.resize(end, Aligned([0; LINE]));
        }
        (made, refused)
    }
}

/// A source's receive queue.
#[derive(Debug)]
pub struct Rx {
    frames: Arc<Frames>,
    at: usize,
    shared: Arc<Shared>,
    counters: Counters,
    /// The processor has AVX.
    wide: bool,
}

impl Rx {
    pub(crate) fn new(frames: Arc<Frames>, first: usize, shared: Arc<Shared>, counters: Counters) -> Self {
        let at = if frames.lengths.is_empty() { 0 } else { first % frames.lengths.len() };
        Self { frames, at, shared, counters, wide: has_avx() }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx")]
    fn recv_wide(&mut self, batch: &mut Batch) -> usize {
        self.recv_as(batch)
    }

    #[inline(always)]
    fn recv_as(&mut self, batch: &mut Batch) -> usize {
        if self.frames.lengths.is_empty() || !self.shared.admin_up.load(Ordering::Relaxed) {
            return 0;
        }
        match self.frames.lines {
            1 => self.recv_lines::<1>(batch),
            2 => self.recv_lines::<2>(batch),
            _ => self.recv_lines::<0>(batch),
        }
    }

    #[inline(always)]
    fn recv_lines<const LINES: usize>(&mut self, batch: &mut Batch) -> usize {
        let want = batch.space();
        prefetch(self.frames.lengths.as_ptr().wrapping_add(self.at + LENGTHS_AHEAD));
        let mut copy = Copy::<LINES> { frames: &self.frames, at: self.at, bytes: 0 };
        let got = batch.fill(&mut copy);
        let Copy { at, bytes, .. } = copy;
        self.at = at;
        self.counters.packets.add(got as u64);
        self.counters.bytes.add(bytes);
        self.counters.dropped.add((want - got) as u64);
        got
    }
}

/// Copies one frame after the other: so many lines of each, or with 0 as many as it has.
struct Copy<'f, const LINES: usize> {
    frames: &'f Frames,
    /// The next one.
    at: usize,
    /// Of all so far.
    bytes: u64,
}

impl<const LINES: usize> Copy<'_, LINES> {
    /// Asks for the lines of a frame that comes soon, `first` being where one begins: of many frames no line is near, nor what says where its page is.
    #[inline(always)]
    fn fetch(&self, first: usize) {
        for line in 0..LINES {
            prefetch(self.frames.bytes.as_ptr().wrapping_add(first + AHEAD * LINES + line));
        }
    }
}

// SAFETY: lines are copied into the chunk, and what may panic is done before there is a packet.
unsafe impl<const LINES: usize> Make<Packet> for Copy<'_, LINES> {
    #[inline(always)]
    fn make(&mut self, chunk: NonNull<u8>) -> Packet {
        let lengths = &*self.frames.lengths;
        let len = usize::from(lengths[self.at]);
        let first = if LINES == 0 { self.frames.firsts[self.at] as usize } else { self.at * LINES };
        self.at = if self.at + 1 == lengths.len() { 0 } else { self.at + 1 };
        self.bytes += len as u64;
        self.fetch(first);
        if LINES == 0 { place(self.frames, first, len, chunk) } else { place_padded::<LINES>(self.frames, first, len, chunk) }
    }
}

fn has_avx() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Where the next frame goes in a chunk: the start moves by a line from chunk to chunk, because frames that all begin at the same
/// offset of 2 KiB chunks would share two sets of the first-level cache.
#[inline(always)]
fn colour(base: NonNull<u8>) -> usize {
    HEADROOM + ((base.addr().get() >> 11) & 7) * LINE
}

impl Receive for Rx {
    #[inline]
    fn recv(&mut self, batch: &mut Batch) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.wide {
            // SAFETY: `wide` says that the processor has the instructions.
            return unsafe { self.recv_wide(batch) };
        }
        self.recv_as(batch)
    }

    fn poll_fd(&self) -> Option<RawFd> {
        None
    }

    fn prepare_sleep(&mut self) -> bool {
        self.frames.lengths.is_empty() || !self.shared.admin_up.load(Ordering::Relaxed)
    }
}

#[inline(always)]
fn place_padded<const N: usize>(frames: &Frames, first: usize, len: usize, base: NonNull<u8>) -> Packet {
    const { assert!(N <= PADDED_LINES_MAX && HEADROOM + 7 * LINE + N * LINE <= 2048) };
    let off = colour(base);
    let lines = frames.bytes[first..].first_chunk::<N>().expect("every frame is padded to as many lines");
    let to = base.as_ptr().wrapping_add(off).cast::<[Aligned; N]>();
    // SAFETY: `off` and the lines are within the 2 KiB chunk that the caller owns, and `off` is a multiple of 64.
    unsafe { to.write(*lines) };
    Packet::at(base, Class::Small, off, len)
}

#[inline(always)]
fn place(frames: &Frames, first: usize, len: usize, base: NonNull<u8>) -> Packet {
    let off = if len <= SMALL_FRAME_MAX / 2 { colour(base) } else { HEADROOM };
    // Before there is a packet: what is out of bounds panics here.
    let lines = &frames.bytes[first..first + len.div_ceil(LINE)];
    let mut packet = Packet::at(base, Class::Small, off, len);
    for (to, from) in packet.data_mut().chunks_mut(LINE).zip(lines) {
        to.copy_from_slice(&from.0[..to.len()]);
    }
    packet
}

/// A sink: counts and frees.
#[derive(Debug)]
pub struct Tx {
    counters: Counters,
}

impl Tx {
    pub(crate) fn new(counters: Counters) -> Self {
        Self { counters }
    }
}

impl Transmit for Tx {
    #[inline]
    fn send(&mut self, batch: &mut Batch) {
        self.counters.packets.add(batch.len() as u64);
        self.counters.bytes.add(batch.bytes());
        batch.clear();
    }

    #[inline]
    fn flush(&mut self) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: true, tso: true, uso: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of these lengths, each of bytes of its own, as a source that begins with number `first` gives them.
    fn check(lengths: &[usize], first: usize) {
        let frames: Vec<Vec<u8>> = (1u8..).zip(lengths).map(|(i, len)| vec![i; *len]).collect();
        let fits: Vec<_> = frames.iter().filter(|frame| frame.len() <= SMALL_FRAME_MAX).collect();
        let (made, refused) = Frames::new(&frames);
        assert_eq!(refused, frames.len() - fits.len());
        let shared = Arc::new(Shared::default());
        shared.admin_up.store(true, Ordering::Relaxed);
        let (counters, mut batch) = (shared.new_rx_counters(), Batch::new());
        let mut rx = Rx::new(Arc::new(made), first, Arc::clone(&shared), counters);
        let mut expected = fits.iter().cycle().skip(first);
        for wide in [has_avx(), false, has_avx()] {
            rx.wide = wide;
            assert_eq!(rx.recv(&mut batch), batch.len());
            assert!(batch.is_full());
            for (packet, frame) in batch.iter().zip(&mut expected) {
                assert_eq!(packet.data(), &***frame, "{lengths:?}");
            }
            batch.clear();
        }
    }

    #[test]
    fn frames_come_whole_in_order_and_again() {
        for first in [0, 1, 5, 1021] {
            check(&[60], first);
            check(&[60, 64, 14, 42, 64], first);
            check(&[60, 100, 128, 64, 14, 65, 66], first);
            check(&[60, 1500, 129, 64, 14, SMALL_FRAME_MAX + 1, 700, SMALL_FRAME_MAX], first);
        }
    }
}
