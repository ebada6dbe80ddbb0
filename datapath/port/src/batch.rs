//! Up to 32 packets that travel together.
//!
//! What enters: packets from a receive queue. What leaves: packets for a transmit queue, or buffers for the pool. The array is in place
//! (no allocation), and packets are moved, never copied.

use crate::Packet;
use crate::pool::{self, Make};
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// The most packets that a batch holds.
pub const BATCH_MAX: usize = 32;

/// An array of up to [`BATCH_MAX`] owned packets. Derefs to a slice.
pub struct Batch {
    len: usize,
    slots: [MaybeUninit<Packet>; BATCH_MAX],
}

impl Batch {
    /// An empty batch.
    #[inline]
    pub const fn new() -> Self {
        Self { len: 0, slots: [const { MaybeUninit::uninit() }; BATCH_MAX] }
    }

    /// How many packets still fit.
    #[inline]
    pub fn space(&self) -> usize {
        BATCH_MAX - self.len
    }

    /// Whether no packet fits any more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == BATCH_MAX
    }

    /// Appends a packet; gives it back if the batch is full.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.len == BATCH_MAX {
            return Err(packet);
        }
        self.slots[self.len].write(packet);
        self.len += 1;
        Ok(())
    }

    /// Removes the last packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: slots below the old length hold packets; the shorter length makes this the only owner.
        Some(unsafe { self.slots[self.len].assume_init_read() })
    }

    /// Appends what `maker` makes of free small buffers until the batch is full; how many there were.
    #[inline(always)]
    pub(crate) fn fill(&mut self, maker: &mut impl Make<Packet>) -> usize {
        let got = pool::alloc_into(&mut self.slots[self.len..], maker);
        self.len += got;
        got
    }

    /// Frees every packet.
    #[inline]
    pub fn clear(&mut self) {
        if self.iter().all(Packet::is_small) {
            let len = std::mem::take(&mut self.len);
            // SAFETY: slots below the old length hold packets; nobody reads them again, since the length is 0 now.
            let taken = self.slots[..len].iter().map(|slot| unsafe { slot.assume_init_ref() }.base());
            // SAFETY: the packets owned their chunks, which are small, and have given them up.
            unsafe { pool::free_bulk(taken) };
        } else {
            self.clear_one_by_one();
        }
    }

    #[cold]
    fn clear_one_by_one(&mut self) {
        let len = std::mem::take(&mut self.len);
        for slot in &mut self.slots[..len] {
            // SAFETY: slots below the old length hold packets; nobody reads them again, since the length is 0 now.
            unsafe { slot.assume_init_drop() };
        }
    }

    /// Bytes of all frames.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.iter().map(|p| p.len() as u64).sum()
    }

    /// Takes every packet out, in order. What the iterator's user leaves is freed.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let len = std::mem::take(&mut self.len);
        Drain { batch: self, at: 0, len }
    }

    /// Moves packets from `other`'s front until this batch is full or `other` empty.
    pub fn append(&mut self, other: &mut Self) {
        let n = self.space().min(other.len);
        if n == 0 {
            return;
        }
        for i in 0..n {
            // SAFETY: slots below `other.len` hold packets; each is moved once and the hole is closed below.
            let packet = unsafe { other.slots[i].assume_init_read() };
            self.slots[self.len + i].write(packet);
        }
        self.len += n;
        other.slots[..other.len].rotate_left(n);
        other.len -= n;
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Batch {
    type Target = [Packet];
    #[inline]
    fn deref(&self) -> &[Packet] {
        let slots = self.slots[..self.len].as_ptr().cast::<Packet>();
        // SAFETY: slots below the length hold packets, and MaybeUninit<Packet> has Packet's layout.
        unsafe { std::slice::from_raw_parts(slots, self.len) }
    }
}

impl DerefMut for Batch {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Packet] {
        let slots = self.slots[..self.len].as_mut_ptr().cast::<Packet>();
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(slots, self.len) }
    }
}

impl Drop for Batch {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Packets on their way out of a batch; see [`Batch::drain`].
#[derive(Debug)]
pub struct Drain<'b> {
    batch: &'b mut Batch,
    at: usize,
    len: usize,
}

impl Iterator for Drain<'_> {
    type Item = Packet;
    #[inline]
    fn next(&mut self) -> Option<Packet> {
        if self.at == self.len {
            return None;
        }
        let slot = &self.batch.slots[self.at];
        self.at += 1;
        // SAFETY: `drain` set the batch's length to 0, so this iterator owns the slots from `at` to `len`, and `at` has moved on.
        Some(unsafe { slot.assume_init_read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len - self.at, Some(self.len - self.at))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        for packet in self.by_ref() {
            drop(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(tag: u8) -> Packet {
        Packet::from_bytes(&[tag; 60]).unwrap()
    }

    fn tags(batch: &Batch) -> Vec<u8> {
        batch.iter().map(|p| p.data()[0]).collect()
    }

    #[test]
    fn packets_keep_their_order() {
        let mut a = Batch::new();
        let mut b = Batch::new();
        for i in 0..20 {
            a.push(packet(i)).unwrap();
            b.push(packet(100 + i)).unwrap();
        }
        a.append(&mut b);
        assert_eq!(a.len(), 32);
        assert!(a.push(packet(0)).is_err());
        assert_eq!(tags(&a)[20..], (100..112).collect::<Vec<_>>());
        assert_eq!(tags(&b), (112..120).collect::<Vec<_>>());
        assert_eq!(a.drain().map(|p| p.data()[0]).take(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(a.is_empty());
        assert_eq!(b.pop().unwrap().data()[0], 119);
    }

    #[test]
    fn positions_survive_pushes_and_pulls() {
        use crate::Checksum;
        let mut p = packet(7);
        p.set_checksum(Checksum::Partial { start: 34, offset: 16 });
        assert!(p.push_front(50));
        assert_eq!(p.checksum(), Checksum::Partial { start: 84, offset: 16 });
        let copy = p.duplicate().unwrap();
        assert_eq!(copy.checksum(), p.checksum());
        assert_eq!(copy.data(), p.data());
        assert!(p.pull_front(54));
        assert_eq!(p.checksum(), Checksum::Partial { start: 30, offset: 16 });
        assert!(!p.pull_front(57));
        assert!(!p.push_front(1000));
        assert_eq!(p.len(), 56);
    }
}
