//! One packet: a small owned handle on a buffer of the pool, with what the wire knew about its checksum and segmentation.
//!
//! What enters: bytes that a port received. What leaves: bytes that a port sends. Neighbours: `pool` (where buffers come from and
//! go back to), `batch`, and `offload`, which makes good in software what a port cannot carry.
//!
//! A packet is always one contiguous range of its chunk: headers never straddle anything. Positions that concern the payload (the
//! checksum's start) are kept relative to the chunk, so that pushing and pulling headers leaves them right.

use crate::pool::{self, Class, FRAME_MAX, HEADROOM, SMALL_FRAME_MAX};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Furthest that a checksum's field may lie from where summing starts.
pub const CSUM_OFFSET_MAX: u16 = 255;

/// What is known about the packet's layer 4 checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nobody looked; the bytes hold what the wire brought.
    Unknown,
    /// Somebody who can be trusted verified it (or the packet never left this machine).
    Good,
    /// Not there yet: the field at `start + offset` holds the sum of the pseudo header only (not complemented); whoever puts the packet
    /// on a wire has to add the bytes from `start` to the end. A change of addresses must be added to the field; a change of
    /// ports or payload must not.
    Partial {
        /// Where summing starts, in bytes from the front of the frame.
        start: u32,
        /// Where the field is, in bytes from `start`.
        offset: u16,
    },
}

/// A frame larger than the MTU that stands for several, to be cut on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum GsoKind {
    /// An ordinary frame.
    #[default]
    None = 0,
    /// TCP over IPv4.
    Tcp4 = 1,
    /// TCP over IPv6.
    Tcp6 = 4,
    /// UDP over either IP, to be cut into datagrams (USO). Cutting into IP fragments (UFO) is never negotiated.
    Udp = 5,
}

/// How to cut a frame that stands for several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gso {
    /// What it is.
    pub kind: GsoKind,
    /// Payload bytes of each piece; 0 for ordinary frames.
    pub size: u16,
    /// The first piece only may carry TCP's CWR (RFC 3168).
    pub ecn: bool,
}

/// An owned packet; 32 bytes. Dropping it gives the buffer to this thread's cache.
#[repr(C)]
pub struct Packet {
    /// Start of the chunk.
    base: NonNull<u8>,
    /// Start of the frame, from `base`.
    off: u32,
    len: u32,
    /// Start of what a partial checksum covers, from `base`.
    csum_start: u32,
    hash: u32,
    gso_size: u16,
    /// The queue that it is to leave by; 0 for whatever has none.
    queue: u16,
    class: Class,
    gso: GsoKind,
    /// Transport protocols have their checksums within the first bytes of their headers.
    csum_offset: u8,
    marks: Marks,
}
const _: () = assert!(size_of::<Packet>() == 32);

#[derive(Clone, Copy, PartialEq, Eq)]
enum CsumState {
    Unknown,
    Good,
    Partial,
}

/// What is known of the checksum (two bits) and `Gso::ecn` (one) in a byte.
#[derive(Clone, Copy)]
struct Marks(u8);

impl Marks {
    const CSUM: u8 = 3;
    const ECN: u8 = 4;

    const fn new(csum: CsumState, ecn: bool) -> Self {
        let csum = match csum {
            CsumState::Unknown => 0,
            CsumState::Good => 1,
            CsumState::Partial => 2,
        };
        Self(csum | if ecn { Self::ECN } else { 0 })
    }

    #[inline]
    const fn csum(self) -> CsumState {
        match self.0 & Self::CSUM {
            1 => CsumState::Good,
            2 => CsumState::Partial,
            _ => CsumState::Unknown,
        }
    }

    #[inline]
    const fn ecn(self) -> bool {
        self.0 & Self::ECN != 0
    }
}

// SAFETY: the handle is the only owner of its chunk, and chunks may be freed by any thread.
unsafe impl Send for Packet {}
// SAFETY: `&Packet` only reads the chunk.
unsafe impl Sync for Packet {}

impl Packet {
    /// An empty small packet with the standard headroom; None (counted by the pool) if there is no buffer.
    #[inline]
    pub fn new() -> Option<Self> {
        Some(Self::fresh(pool::alloc(Class::Small)?, Class::Small))
    }

    /// An empty packet that has room for `len` bytes behind the headroom; None if there is no buffer or no chunk is that large.
    pub fn with_capacity(len: usize) -> Option<Self> {
        let class = match len {
            0..=SMALL_FRAME_MAX => Class::Small,
            len if len <= FRAME_MAX => Class::Jumbo,
            _ => return None,
        };
        Some(Self::fresh(pool::alloc(class)?, class))
    }

    /// A packet that holds a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut packet = Self::with_capacity(bytes.len())?;
        packet.set_len(bytes.len());
        packet.data_mut().copy_from_slice(bytes);
        Some(packet)
    }

    /// A packet on a chunk that the caller owns.
    #[inline]
    pub(crate) fn fresh(base: NonNull<u8>, class: Class) -> Self {
        Self {
            base,
            off: u32_of(HEADROOM),
            len: 0,
            csum_start: 0,
            hash: 0,
            gso_size: 0,
            queue: 0,
            class,
            gso: GsoKind::None,
            csum_offset: 0,
            marks: Marks::new(CsumState::Unknown, false),
        }
    }

    /// A packet of `len` bytes at `off` of a chunk that the caller owns.
    #[inline]
    pub(crate) fn at(base: NonNull<u8>, class: Class, off: usize, len: usize) -> Self {
        assert!(off + len <= class.chunk());
        let mut packet = Self::fresh(base, class);
        packet.off = u32_of(off);
        packet.len = u32_of(len);
        packet
    }

    /// The chunk, for whoever takes it back without dropping the packet.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Gives the chunk up to the caller (who has to return it to the pool): its start and class.
    #[inline]
    pub(crate) fn into_chunk(self) -> (NonNull<u8>, Class) {
        let packet = ManuallyDrop::new(self);
        (packet.base, packet.class)
    }

    /// The frame.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: `off + len` stays inside the chunk (every setter checks), which this handle owns. The pool's memory is
        // mapped zeroed, so the bytes are initialised.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len as usize) }
    }

    /// The frame, to be changed.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len as usize) }
    }

    /// Where the frame starts. The chunk is readable for at least 64 bytes from here when the frame begins at least 64 bytes
    /// before the chunk's end, whatever the frame's length: parsers that load whole vectors ask [`room`](Self::room).
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: `off` stays inside the chunk (every setter checks), which this handle owns.
        unsafe { self.base.as_ptr().add(self.off as usize) }
    }

    /// Bytes from the frame's start to the chunk's end: what may be read or grown into.
    #[inline]
    pub fn room(&self) -> usize {
        self.class.chunk() - self.off as usize
    }

    /// Whether the buffer is a small chunk, part of the UMEM.
    #[inline]
    pub(crate) fn is_small(&self) -> bool {
        self.class == Class::Small
    }

    /// Bytes of the frame.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes free before the frame.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.off as usize
    }

    /// Sets the length; new bytes at the end hold whatever the buffer held.
    ///
    /// # Panics
    /// If the chunk is too small (a caller's bug: ask [`room`](Self::room)).
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.room());
        self.len = u32_of(len);
    }

    /// Makes room for `n` bytes at the front; their content is unspecified. False (and no change) if there is no headroom.
    #[inline]
    #[must_use]
    pub fn push_front(&mut self, n: usize) -> bool {
        if n > self.off as usize {
            return false;
        }
        self.off -= u32_of(n);
        self.len += u32_of(n);
        true
    }

    /// Removes `n` bytes at the front. False (and no change) if the frame is shorter.
    #[inline]
    #[must_use]
    pub fn pull_front(&mut self, n: usize) -> bool {
        if n > self.len as usize {
            return false;
        }
        self.off += u32_of(n);
        self.len -= u32_of(n);
        true
    }

    /// Cuts the frame to `len` bytes if it is longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// A copy with its own buffer, metadata included; None (counted by the pool) if there is no buffer.
    pub fn duplicate(&self) -> Option<Self> {
        let chunk = pool::alloc(self.class)?;
        let mut copy = Self {
            base: chunk,
            off: self.off,
            len: self.len,
            csum_start: self.csum_start,
            hash: self.hash,
            gso_size: self.gso_size,
            queue: self.queue,
            class: self.class,
            gso: self.gso,
            csum_offset: self.csum_offset,
            marks: self.marks,
        };
        copy.data_mut().copy_from_slice(self.data());
        Some(copy)
    }

    /// What is known about the checksum.
    #[inline]
    pub fn checksum(&self) -> Checksum {
        match self.marks.csum() {
            CsumState::Unknown => Checksum::Unknown,
            CsumState::Good => Checksum::Good,
            CsumState::Partial => {
                Checksum::Partial { start: self.csum_start.wrapping_sub(self.off), offset: self.csum_offset.into() }
            }
        }
    }

    /// Says what is known about the checksum.
    ///
    /// # Panics
    /// If a field lies further than [`CSUM_OFFSET_MAX`] from where summing starts (a caller's bug: what the kernel says is checked where
    /// it comes in).
    #[inline]
    pub fn set_checksum(&mut self, checksum: Checksum) {
        let csum = match checksum {
            Checksum::Unknown => CsumState::Unknown,
            Checksum::Good => CsumState::Good,
            Checksum::Partial { start, offset } => {
                self.csum_start = self.off.wrapping_add(start);
                self.csum_offset = u8::try_from(offset).expect("callers keep to CSUM_OFFSET_MAX");
                CsumState::Partial
            }
        };
        self.marks = Marks::new(csum, self.marks.ecn());
    }

    /// How the frame is to be cut.
    #[inline]
    pub fn gso(&self) -> Gso {
        Gso { kind: self.gso, size: self.gso_size, ecn: self.marks.ecn() }
    }

    /// Says how the frame is to be cut.
    #[inline]
    pub fn set_gso(&mut self, gso: Gso) {
        self.gso = gso.kind;
        self.gso_size = gso.size;
        self.marks = Marks::new(self.marks.csum(), gso.ecn);
    }

    /// Whether a port without any offload could send the bytes as they are.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.marks.csum() != CsumState::Partial && self.gso == GsoKind::None
    }

    /// A hash of the flow, 0 if unknown; set by whoever computed one.
    #[inline]
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Remembers a hash of the flow.
    #[inline]
    pub fn set_hash(&mut self, hash: u32) {
        self.hash = hash;
    }

    /// The queue of its port that it is to leave by; 0 for none.
    #[inline]
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Says by which queue it is to leave.
    #[inline]
    pub fn set_queue(&mut self, queue: u16) {
        self.queue = queue;
    }
}

impl Drop for Packet {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the chunk came from the pool and this handle was its only owner.
        unsafe { pool::free(self.class, self.base) };
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("len", &self.len)
            .field("headroom", &self.off)
            .field("class", &self.class)
            .field("checksum", &self.checksum())
            .field("gso", &self.gso())
            .finish_non_exhaustive()
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "offsets and lengths stay within a chunk of 66 KiB")]
pub(crate) const fn u32_of(n: usize) -> u32 {
    n as u32
}
