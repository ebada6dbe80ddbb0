//! Parcels: what upcalls travel in from a forwarding thread to a handler, used again and again.
//!
//! What enters: a packet with what its key has in it. What leaves: an `Upcall`, of the handler's own memory. Neighbours: `hand_up` fills
//! parcels, `upcall` queues them and opens them.
//!
//! Memory that one core allocates and another frees goes to and fro between them, with the allocator's own words about it, and costs both of them
//! more than the upcall itself. So a parcel stays a parcel: handlers give the ones that they have opened back by the dozen, and a
//! forwarding thread takes them by the dozen. Only the lines that a packet and its key need are written and read: three for a short one.

use crossbeam_queue::ArrayQueue;
use flow::Key;
use flow::clock::Msec;
use flow::key::{LINE_BYTES, Lines};
use flow::seam::{Upcall, UpcallKind};

/// Lines of a key that a parcel has room for: all that packets without a tunnel have.
pub const KEY_LINES: usize = 4;
/// Bytes of a packet that a parcel has room for: a frame of the usual MTU.
pub const BYTES_MAX: usize = 1832;
/// Groups of empty parcels that wait to be used again; more are freed.
pub const GROUPS_MAX: usize = 16;
/// Parcels that are given back together.
pub const GROUP_MAX: usize = 64;
const LINE_WORDS: usize = LINE_BYTES / 8;

/// Empty parcels that belong to nobody else.
#[allow(clippy::vec_box, reason = "they go from thread to thread by their addresses")]
pub type Group = Vec<Box<Parcel>>;

/// An upcall on its way, or an empty parcel. An odd number of lines, so that the first lines of many spread over the caches.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Parcel {
    /// What does not fit, or is more than a miss; then nothing else counts.
    other: Option<Box<Upcall>>,
    queued_ms: Msec,
    full_len: u32,
    /// Those of the key that stand here; the others are zero.
    lines: Lines,
    len: u16,
    bytes: [u8; BYTES_MAX],
    key: [[u64; LINE_WORDS]; KEY_LINES],
}

const _: () = assert!(size_of::<Parcel>() == 33 * LINE_BYTES && BYTES_MAX <= u16::MAX as usize);

impl Parcel {
    fn new() -> Box<Self> {
        Box::new(Self {
            other: None,
            queued_ms: 0,
            full_len: 0,
            lines: Lines(0),
            len: 0,
            bytes: [0; BYTES_MAX],
            key: [[0; LINE_WORDS]; KEY_LINES],
        })
    }

    /// Whether a miss of that length, whose key has these lines, finds room.
    #[inline]
    #[must_use]
    pub fn fits(len: usize, lines: Lines) -> bool {
        len <= BYTES_MAX && lines.0 >> KEY_LINES == 0
    }

    /// Puts in a packet that found no megaflow. `lines` says what of the key is valid.
    pub fn fill(&mut self, packet: &[u8], (key, lines): (&Key, Lines), now_ms: Msec) {
        debug_assert!(Self::fits(packet.len(), lines));
        let len = packet.len().min(BYTES_MAX);
        self.bytes[..len].copy_from_slice(&packet[..len]);
        (self.len, self.full_len) = (u16::try_from(len).unwrap_or(0), u32::try_from(packet.len()).unwrap_or(u32::MAX));
        (self.lines, self.queued_ms) = (lines, now_ms);
        for (i, own) in self.key.iter_mut().enumerate().filter(|(i, _)| lines.0 & 1 << i != 0) {
            own.copy_from_slice(&key.words()[i * LINE_WORDS..(i + 1) * LINE_WORDS]);
        }
    }

    /// Puts in any upcall.
    pub fn hold(&mut self, upcall: Box<Upcall>) {
        self.other = Some(upcall);
    }

    /// Takes out what is in it; by which receive queue it came is said by the queue that it waited in.
    #[must_use]
    pub fn open(&mut self) -> Upcall {
        if let Some(other) = self.other.take() {
            return *other;
        }
        let mut key = Box::new(Key::ZERO);
        for (i, own) in self.key.iter().enumerate().filter(|(i, _)| self.lines.0 & 1 << i != 0) {
            key.words_mut()[i * LINE_WORDS..(i + 1) * LINE_WORDS].copy_from_slice(own);
        }
        Upcall {
            kind: UpcallKind::Miss,
            packet: self.bytes[..usize::from(self.len)].to_vec(),
            key,
            full_len: self.full_len,
            actions: None,
            out_tunnel: None,
            queued_ms: self.queued_ms,
            rx_queue: 0,
        }
    }

    /// Fetches what a short packet needs.
    #[inline]
    pub fn prefetch(&self) {
        crate::prefetch(std::ptr::from_ref(self));
        crate::prefetch(&raw const self.bytes[LINE_BYTES]);
        crate::prefetch(&raw const self.key[0]);
    }
}

/// Empty parcels on their way back.
#[derive(Debug)]
pub struct Parcels(ArrayQueue<Group>);

impl Default for Parcels {
    fn default() -> Self {
        Self(ArrayQueue::new(GROUPS_MAX))
    }
}

impl Parcels {
    /// An empty parcel: of the thread's own, of what came back, or a new one.
    #[inline]
    #[must_use]
    pub fn take(&self, own: &mut Group) -> Box<Parcel> {
        if own.is_empty()
            && let Some(group) = self.0.pop()
        {
            *own = group;
        }
        own.pop().unwrap_or_else(Parcel::new)
    }

    /// The same for who has none of its own.
    #[must_use]
    pub fn take_one(&self) -> Box<Parcel> {
        let mut group = Vec::new();
        let parcel = self.take(&mut group);
        self.give(group);
        parcel
    }

    /// Lets others use opened parcels again.
    pub fn give(&self, group: Group) {
        if !group.is_empty() {
            // More than anybody will use: they are freed.
            let _ = self.0.push(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::extract_gen::PacketGen;

    /// What comes out is what went in, whatever the parcel was used for before.
    #[test]
    fn a_parcel_gives_what_it_was_given() {
        let mut random = PacketGen::new(7);
        let mut parcel = Parcel::new();
        let mut packet = Vec::new();
        for i in 0..2_000 {
            let meta = random.packet(&mut packet);
            let mut key = Key::ZERO;
            flow::extract::extract_whole(&packet, &meta, &mut key);
            let lines = key.lines();
            if !Parcel::fits(packet.len(), lines) {
                continue;
            }
            // What is not valid in a forwarding thread's key is anything.
            let mut dirty = key;
            dirty
                .words_mut()
                .iter_mut()
                .enumerate()
                .filter(|(w, _)| lines.0 & 1 << (w / LINE_WORDS) == 0)
                .for_each(|(_, w)| *w = 7);
            parcel.fill(&packet, (&dirty, lines), i);
            let out = parcel.open();
            assert_eq!((&out.packet, &*out.key, out.full_len as usize, out.queued_ms), (&packet, &key, packet.len(), i));
            assert_eq!(out.kind, UpcallKind::Miss);
        }
    }

    #[test]
    fn any_other_upcall_travels_whole() {
        let mut parcel = Parcel::new();
        parcel.fill(&[1; 60], (&Key::ZERO, Lines(0)), 5);
        let other = Upcall { packet: vec![9; 4000], full_len: 4000, ..parcel.open() };
        parcel.hold(Box::new(other));
        assert_eq!(parcel.open().packet.len(), 4000);
        assert_eq!(parcel.open().packet.len(), 60, "and then the parcel is an ordinary one again");
    }

    #[test]
    fn parcels_come_back_in_groups_and_are_bounded() {
        let parcels = Parcels::default();
        let mut own = Vec::new();
        parcels.give((0..3).map(|_| Parcel::new()).collect());
        parcels.give(Vec::new());
        drop(parcels.take(&mut own));
        assert_eq!(own.len(), 2);
        parcels.give(std::mem::take(&mut own));
        drop(parcels.take_one());
        drop(parcels.take(&mut own));
        assert!(own.is_empty(), "the last of three");
        drop(parcels.take(&mut own));
        assert!(own.is_empty(), "a new one");
        for _ in 0..2 * GROUPS_MAX {
            parcels.give(vec![Parcel::new()]);
        }
        assert_eq!(parcels.0.len(), GROUPS_MAX);
    }
}
