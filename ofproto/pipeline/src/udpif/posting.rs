//! Postings: the slots of the ukeys that looked at one object.
//!
//! What enters and leaves: slots, from and to `index`. Few of them lie in a set. Many are bits, one for each slot that there is: what goes
//! into a set of hundreds of thousands meets memory that is in no cache, for every megaflow and every port that it looked at; bits of
//! slots that are given out in order lie side by side.

use flow::hash::Set;

/// Slots that a set holds at most before bits are thought of.
const FEW_MAX: usize = if cfg!(test) { 8 } else { 1024 };
/// Bits take no more memory than a set would when at least one slot in so many is there.
const SPARSE: usize = 64;

/// A set of slots.
#[derive(Debug)]
pub(super) enum Posting {
    Few(Set<u32>),
    /// Bits by slot, and how many are set.
    Many(Vec<u64>, usize),
}

impl Default for Posting {
    fn default() -> Self {
        Self::Few(Set::default())
    }
}

impl Posting {
    /// Adds a slot, of `slots` that there are.
    pub(super) fn insert(&mut self, slot: u32, slots: usize) {
        match self {
            Self::Few(set) => {
                set.insert(slot);
                if set.len() > FEW_MAX.max(slots / SPARSE) {
                    let mut many = Self::Many(Vec::new(), 0);
                    set.iter().for_each(|slot| many.insert(*slot, slots));
                    *self = many;
                }
            }
            Self::Many(words, n) => {
                let (word, bit) = place(slot);
                if word >= words.len() {
                    words.resize((word + 1).max(slots.div_ceil(64)), 0);
                }
                *n += usize::from(words[word] & bit == 0);
                words[word] |= bit;
            }
        }
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, slot: u32) {
        match self {
            Self::Few(set) => drop(set.remove(&slot)),
            Self::Many(words, n) => {
                let (word, bit) = place(slot);
                if let Some(word) = words.get_mut(word) {
                    *n -= usize::from(*word & bit != 0);
                    *word &= !bit;
                }
            }
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(set) => set.is_empty(),
            Self::Many(_, n) => *n == 0,
        }
    }

    /// Adds all of them to `out`.
    pub(super) fn write(&self, out: &mut Vec<u32>) {
        match self {
            Self::Few(set) => out.extend(set),
            Self::Many(words, n) => {
                out.reserve(*n);
                for (base, word) in (0u32..).step_by(64).zip(words) {
                    let mut left = *word;
                    while left != 0 {
                        out.push(base + left.trailing_zeros());
                        left &= left - 1;
                    }
                }
            }
        }
    }
}

fn place(slot: u32) -> (usize, u64) {
    (slot as usize / 64, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::extract_gen::PacketGen;
    use std::collections::BTreeSet;

    /// The twin: a sorted set.
    #[test]
    fn holds_what_a_set_holds() {
        let mut g = PacketGen::new(3);
        for slots in [5, 70, 2000] {
            let (mut posting, mut twin) = (Posting::default(), BTreeSet::new());
            let mut many = false;
            for _ in 0..500 {
                let slot = u32::try_from(g.below(slots)).unwrap();
                if g.below(3) == 0 {
                    posting.remove(slot);
                    twin.remove(&slot);
                } else {
                    posting.insert(slot, slots);
                    twin.insert(slot);
                }
                many |= matches!(posting, Posting::Many(..));
                let mut out = Vec::new();
                posting.write(&mut out);
                out.sort_unstable();
                assert!(out.iter().eq(&twin) && posting.is_empty() == twin.is_empty());
            }
            assert_eq!(many, slots > FEW_MAX);
        }
    }
}
