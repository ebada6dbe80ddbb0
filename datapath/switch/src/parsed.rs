//! A packet's key as the forwarding thread holds it: with the lines that are valid and where the layers begin.
//!
//! What enters: what `flow::extract` writes. What leaves: keys to hash, to compare and to hand up. Extraction leaves lines that a packet
//! does not use as they were; whoever compares under a mask that reaches further makes those lines zero first (`ensure`), once.

use flow::extract::{self, Arrival, Extracted, PacketMeta};
use flow::key::{Key, LINE_BYTES, LINES, Lines};

const LINE_WORDS: usize = LINE_BYTES / 8;

/// A key with what extraction found. 13 cache lines, so that the first lines of a batch's keys spread over the first-level cache.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Parsed {
    pub key: Key,
    /// Valid lines and offsets of the layers.
    pub found: Extracted,
    /// The connection that this batch has tracked the packet by (`ct::track`); 0 for none. With `UNTOLD` only it knows label and original
    /// tuple, which are not in the key.
    pub conn: u32,
}

const _: () = assert!(size_of::<Parsed>() == 13 * LINE_BYTES);

/// Set in `conn`: label and original tuple have not been written into the key, since no megaflow looked at them.
pub const UNTOLD: u32 = 1 << 31;
/// Set in `conn`: actions have changed the packet's addresses or ports since, so that it may be another connection's now.
pub const MOVED: u32 = 1 << 30;
/// Lines of metadata that few packets have: ct label, original tuple, tunnel.
const RARE: u16 = 0b1_1111_1100;
/// The line of priority and mark.
const MARKS: u16 = 0b10;

impl Parsed {
    /// Nothing extracted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { key: Key::ZERO, found: Extracted::NOTHING, conn: 0 }
    }

    /// The metadata, for extracting the packet again.
    #[inline]
    pub fn meta(&mut self, vlan_limit: u8) -> PacketMeta<'_> {
        let rare = self.found.lines.0 & RARE != 0;
        self.ensure(Lines(MARKS | if rare { RARE } else { 0 }));
        PacketMeta { rare: rare.then_some(&self.key), vlan_limit, ..PacketMeta::of(&self.key) }
    }

    /// Extracts `packet` again, metadata kept, because an action has changed its headers.
    pub fn read_again(&mut self, packet: &[u8], vlan_limit: u8) {
        let mut old = self.clone();
        self.read(packet, &old.meta(vlan_limit));
        let moved = old.conn != 0 && !self.has_same_ends(&old);
        self.conn = old.conn | if moved { MOVED } else { 0 };
    }

    /// Whether addresses, protocol and ports are those of `other`.
    fn has_same_ends(&self, other: &Self) -> bool {
        const ADDRESSES: u16 = 0b10;
        let four = |key: &Key| (key.nw_src, key.nw_dst, key.nw_proto, key.tp_src, key.tp_dst);
        let six = |key: &Key| (key.ipv6_src, key.ipv6_dst);
        let valid = self.found.lines.0 & other.found.lines.0 & ADDRESSES != 0;
        four(&self.key) == four(&other.key) && (!valid || six(&self.key) == six(&other.key))
    }

    /// Sets metadata: the bits of `mask` taken from `value`.
    pub fn merge(&mut self, value: &Key, mask: &Key) {
        self.ensure(mask.lines());
        for ((k, v), m) in self.key.words_mut().iter_mut().zip(value.words()).zip(mask.words()) {
            *k = *k & !m | v & m;
        }
    }

    /// TCP flags, 0 for other protocols (where neighbour discovery keeps its options type).
    #[inline]
    #[must_use]
    pub fn tcp_flags(&self) -> u16 {
        const TCP: u8 = 6;
        // A mask where an `if` would become a branch, which mixed traffic mispredicts.
        let if_tcp = u16::from(self.key.nw_proto == TCP).wrapping_neg();
        Self::flags_of(u16::from_ne_bytes(self.key.tcp_flags)) & if_tcp
    }

    /// TCP's flags of what stands in the key of a packet that is TCP.
    #[inline]
    pub(crate) fn flags_of(word: u16) -> u16 {
        u16::from_be(word) & 0xfff
    }

    /// Extracts `packet`.
    #[inline]
    pub fn read(&mut self, packet: &[u8], meta: &PacketMeta<'_>) {
        self.found = extract::extract(packet, meta, &mut self.key);
        self.conn = 0;
    }

    /// Extracts a packet as it comes from a port.
    #[inline(always)]
    pub fn arrive(&mut self, packet: &[u8], arrival: &Arrival<'_>) {
        arrival.extract(packet, &mut self.key, &mut self.found);
        self.conn = 0;
    }

    /// Makes the lines of `need` valid: what the packet did not use is zero.
    #[inline]
    pub fn ensure(&mut self, need: Lines) {
        let missing = need.0 & !self.found.lines.0;
        if missing != 0 {
            self.zero(missing);
        }
    }

    #[cold]
    fn zero(&mut self, missing: u16) {
        for (i, line) in self.key.words_mut().chunks_exact_mut(LINE_WORDS).enumerate() {
            if missing & 1 << i != 0 {
                line.fill(0);
            }
        }
        self.found.lines.0 |= missing;
    }

    /// The whole key, what the packet does not use being zero.
    #[must_use]
    pub fn whole(&self) -> Box<Key> {
        let mut key = Box::new(Key::ZERO);
        copy_lines(&self.key, self.found.lines, &mut key);
        key
    }

    /// Takes over the valid lines and offsets of `other`.
    #[inline]
    pub fn copy_from(&mut self, other: &Self) {
        copy_lines(&other.key, other.found.lines, &mut self.key);
        self.found = other.found;
        self.conn = other.conn;
    }
}

impl Default for Parsed {
    fn default() -> Self {
        Self::new()
    }
}

/// The metadata of a key in which everything is valid.
#[must_use]
pub fn meta_of(key: &Key, vlan_limit: u8) -> PacketMeta<'_> {
    let rare = key.lines().0 & RARE != 0;
    PacketMeta { rare: rare.then_some(key), vlan_limit, ..PacketMeta::of(key) }
}

/// Copies the lines named.
#[inline]
fn copy_lines(from: &Key, lines: Lines, to: &mut Key) {
    let mut left = lines.0;
    while left != 0 {
        let line = left.trailing_zeros() as usize;
        left &= left - 1;
        if line >= LINES {
            break;
        }
        let at = line * LINE_WORDS..(line + 1) * LINE_WORDS;
        to.words_mut()[at.clone()].copy_from_slice(&from.words()[at]);
    }
}
