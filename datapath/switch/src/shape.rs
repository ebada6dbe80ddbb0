//! The shape of a mask: which words of a key it looks at. Megaflows with the same mask share one shape and one subtable.

use crate::hash::{masked, random};
use flow::key::{Key, LINE_BYTES, LINES, Lines, Mask, WORDS};

/// One cache line of a key.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(pub [u64; LINE_BYTES / 8]);

impl Line {
    /// Line `line` of `key`.
    #[inline]
    #[must_use]
    pub fn of(key: &Key, line: usize) -> Self {
        Self(*crate::hash::line_of(key, line))
    }

    /// Whether `key & mask` is this line.
    #[inline]
    #[must_use]
    pub fn equals_masked(&self, key: &[u64; 8], mask: &[u64; 8]) -> bool {
        let mut difference = 0;
        for i in 0..8 {
            difference |= (key[i] & mask[i]) ^ self.0[i];
        }
        difference == 0
    }
}

/// A mask, prepared for hashing and comparing.
#[derive(Debug)]
pub struct Shape {
    pub mask: Mask,
    /// Lines in which the mask has bits.
    pub lines: Lines,
    at: Box<[u8]>,
    words: Box<[u64]>,
    keys: [u64; 4],
}

impl Shape {
    /// Prepares `mask`.
    #[must_use]
    pub fn new(mask: &Mask) -> Self {
        let used = || mask.words().iter().enumerate().filter(|(_, w)| **w != 0);
        Self {
            mask: *mask,
            lines: mask.lines(),
            at: used().map(|(i, _)| u8::try_from(i).expect("a key has fewer than 256 words")).collect(),
            words: used().map(|(_, w)| *w).collect(),
            keys: std::array::from_fn(|_| random()),
        }
    }

    /// How many 64-bit words have bits.
    #[must_use]
    pub fn n_words(&self) -> usize {
        self.at.len()
    }

    /// The hash of `words` under the mask; `N` is `n_words()`, or 0 when it is not known at compile time.
    #[inline]
    #[must_use]
    pub fn hash<const N: usize>(&self, words: &[u64; WORDS]) -> u64 {
        masked::<N>(words, &self.at, &self.words, &self.keys)
    }

    /// The masked lines of `key` after the first, in order, without those in which the mask has no bits.
    #[must_use]
    pub fn rest(&self, key: &Key) -> Box<[Line]> {
        (1..LINES).filter(|l| self.lines.0 & 1 << l != 0).map(|l| self.masked_line(key, l)).collect()
    }

    /// Line `line` of `key` under the mask.
    #[must_use]
    pub fn masked_line(&self, key: &Key, line: usize) -> Line {
        let (mut out, mask) = (Line::of(key, line), Line::of(&self.mask, line));
        for (o, m) in out.0.iter_mut().zip(mask.0) {
            *o &= m;
        }
        out
    }
}
