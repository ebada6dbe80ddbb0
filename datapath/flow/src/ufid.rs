//! Names for megaflows: a 128-bit hash of the key.
//!
//! What enters: a key. What leaves: its `Ufid`, the same for the same key as long as the process lives. The hash is keyed at
//! random, so that no peer can make packets whose keys collide. Neighbours: `seam`, whose datapath finds flows by it.

use crate::key::{DATAPATH_LINES, Key, LINE_BYTES};
use crate::seam::Ufid;
use ahash::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

static HALVES: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// The name of the megaflow with this key. Lines of the OpenFlow pipeline do not count.
#[must_use]
pub fn ufid_of(key: &Key) -> Ufid {
    let words = &key.words()[..DATAPATH_LINES * LINE_BYTES / 8];
    let half = |state: &RandomState| {
        let mut hasher = state.build_hasher();
        for (i, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            // Words that are zero do not count, so the place has to.
            hasher.write_usize(i);
            hasher.write_u64(*word);
        }
        hasher.finish()
    };
    let [high, low] = [half(&HALVES[0]), half(&HALVES[1])];
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
    }
}
