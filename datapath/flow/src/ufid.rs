//! Names for megaflows: a 128-bit hash of the key.
//!
//! What enters: a key. What leaves: its `Ufid`, the same for the same key as long as the process lives. The hash is keyed at
//! random, so that no peer can make packets whose keys collide. Neighbours: `seam`, whose datapath finds flows by it.

use crate::key::{DATAPATH_LINES, Key, LINE_BYTES, Mask};
use crate::seam::Ufid;
use ahash::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

const LINE_WORDS: usize = LINE_BYTES / 8;
const DATAPATH_WORDS: usize = DATAPATH_LINES * LINE_WORDS;

static HALVES: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// The name of the megaflow with this key. Lines of the OpenFlow pipeline do not count.
#[must_use]
pub fn ufid_of(key: &Key) -> Ufid {
    let words = &key.words()[..DATAPATH_WORDS];
    // Words that are zero do not count, so the place has to.
    name(words.iter().enumerate().filter(|(_, word)| **word != 0).map(|(i, word)| [i as u64, *word, 0]))
}

/// The name of a megaflow with this key, which is masked already, and mask.
#[must_use]
pub fn ufid_of_masked(key: &Key, mask: &Mask) -> Ufid {
    let of_key = key.words()[..DATAPATH_WORDS].chunks_exact(LINE_WORDS);
    let lines = of_key.zip(mask.words()[..DATAPATH_WORDS].chunks_exact(LINE_WORDS)).enumerate();
    // Most lines of most masks have nothing.
    let lines = lines.filter(|(_, (_, mask))| mask.iter().fold(0, |any, word| any | word) != 0);
    let words = lines.flat_map(|(line, (key, mask))| (line * LINE_WORDS..).zip(key.iter().zip(mask)));
    name(words.filter(|(_, (_, mask))| **mask != 0).map(|(i, (key, mask))| [i as u64, *key, *mask]))
}

fn name(words: impl Iterator<Item = [u64; 3]>) -> Ufid {
    let mut halves = [HALVES[0].build_hasher(), HALVES[1].build_hasher()];
    for [place, key, mask] in words {
        for half in &mut halves {
            half.write_u128(u128::from(place) << 64 | u128::from(key));
            half.write_u64(mask);
        }
    }
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
}
