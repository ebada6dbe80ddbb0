//! Names for megaflows: a 128-bit hash of the key.
//!
//! What enters: a key. What leaves: its `Ufid`, the same for the same key as long as the process lives. The hash is keyed at
//! random, so that no peer can make packets whose keys collide. Neighbours: `seam`, whose datapath finds flows by it.

use crate::key::{DATAPATH_LINES, Key, LINE_BYTES, Mask};
use crate::seam::Ufid;
use ahash::{AHasher, RandomState};
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

const LINE_WORDS: usize = LINE_BYTES / 8;
const DATAPATH_WORDS: usize = DATAPATH_LINES * LINE_WORDS;

static HALVES: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// The name of the megaflow with this key. Lines of the OpenFlow pipeline do not count.
#[must_use]
pub fn ufid_of(key: &Key) -> Ufid {
    let words = &key.words()[..DATAPATH_WORDS];
    let mut halves = [HALVES[0].build_hasher(), HALVES[1].build_hasher()];
    // Words that are zero do not count, so the place has to.
    for (place, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
        halves.iter_mut().for_each(|half| half.write_u128((place as u128) << 64 | u128::from(*word)));
    }
    finish(halves)
}

/// The name of a megaflow with this key, which is masked already, and mask.
#[must_use]
pub fn ufid_of_masked(key: &Key, mask: &Mask) -> Ufid {
    finish(absorb_key(absorb_mask(mask), used(mask), key))
}

/// Names the megaflows of one mask: what comes of the mask is worked out once. The names are those of `ufid_of_masked`.
#[derive(Clone, Debug)]
pub struct Namer {
    /// The words in which the mask has something, by place.
    words: Box<[(usize, u64)]>,
    /// What has come of the mask.
    halves: [AHasher; 2],
}

impl Namer {
    /// For this mask.
    #[must_use]
    pub fn new(mask: &Mask) -> Self {
        Self { words: used(mask).collect(), halves: absorb_mask(mask) }
    }

    /// The name of the megaflow that a packet with this key gets; what is outside the mask does not count.
    #[must_use]
    pub fn name(&self, key: &Key) -> Ufid {
        finish(absorb_key(self.halves.clone(), self.words.iter().copied(), key))
    }
}

/// The words in which a mask has something, each with its place.
fn used(mask: &Mask) -> impl Iterator<Item = (usize, u64)> + '_ {
    let lines = mask.words()[..DATAPATH_WORDS].chunks_exact(LINE_WORDS).enumerate();
    // Most lines of most masks have nothing.
    let lines = lines.filter(|(_, words)| words.iter().fold(0, |any, word| any | word) != 0);
    let words = lines.flat_map(|(line, words)| (line * LINE_WORDS..).zip(words.iter().copied()));
    words.filter(|(_, word)| *word != 0)
}

/// The mask comes first, so that what comes of it serves for many keys. How many words of a key follow is known by it.
fn absorb_mask(mask: &Mask) -> [AHasher; 2] {
    let mut halves = [HALVES[0].build_hasher(), HALVES[1].build_hasher()];
    for (place, word) in used(mask) {
        halves.iter_mut().for_each(|half| half.write_u128((place as u128) << 64 | u128::from(word)));
    }
    halves
}

fn absorb_key(mut halves: [AHasher; 2], used: impl Iterator<Item = (usize, u64)>, key: &Key) -> [AHasher; 2] {
    for (place, mask) in used {
        let word = key.words()[place] & mask;
        halves.iter_mut().for_each(|half| half.write_u64(word));
    }
    halves
}

fn finish(halves: [AHasher; 2]) -> Ufid {
    let [high, low] = halves.map(|half| half.finish());
    Ufid(u128::from(high) << 64 | u128::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::extract_whole;
    use crate::extract_gen::PacketGen;

    #[test]
    fn stable_and_distinct() {
        let mut random = PacketGen::new(41);
        let mut seen: crate::hash::Map<Ufid, Key> = crate::hash::Map::default();
        let mut packet = Vec::new();
        let mut key = Key::ZERO;
        for _ in 0..20_000 {
            let meta = random.packet(&mut packet);
            extract_whole(&packet, &meta, &mut key);
            let ufid = ufid_of(&key);
            assert_eq!(ufid_of(&Key { metadata: [7; 8], ..key }), ufid);
            assert_eq!(*seen.entry(ufid).or_insert(key), key);
        }
        let moved = |at: usize| {
            let mut key = Key::ZERO;
            key.words_mut()[at] = 5;
            ufid_of(&key)
        };
        assert_ne!(moved(1), moved(2));
        let mask = |bits| {
            let mut mask = Key::ZERO;
            mask.words_mut()[1] = bits;
            mask
        };
        assert_ne!(ufid_of_masked(&Key::ZERO, &mask(1)), ufid_of_masked(&Key::ZERO, &mask(3)), "a mask's bits count");
        assert_ne!(ufid_of_masked(&mask(1), &mask(3)), ufid_of_masked(&mask(3), &mask(3)));
    }

    /// The twin of naming by what is prepared: naming from key and mask.
    #[test]
    fn a_namer_says_what_key_and_mask_say() {
        let mut random = PacketGen::new(43);
        let (mut packet, mut key) = (Vec::new(), Key::ZERO);
        for _ in 0..300 {
            let mut mask = Key::ZERO;
            for _ in 0..random.below(6) {
                let place = random.below(DATAPATH_WORDS);
                mask.words_mut()[place] |= 1 << random.below(64) | 0xff00;
            }
            let namer = Namer::new(&mask);
            for _ in 0..20 {
                let meta = random.packet(&mut packet);
                extract_whole(&packet, &meta, &mut key);
                assert_eq!(namer.name(&key), ufid_of_masked(&key.masked(&mask), &mask));
            }
        }
    }
}
