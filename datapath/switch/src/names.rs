//! Names of megaflows: which slot has the one of a name.
//!
//! What enters: names and slots, from `flows`, who alone uses this. What leaves: slots. Neighbour: `slots`, where each megaflow bears its name.
//!
//! This table is looked at all over for each megaflow that comes, and all of it is written anew whenever it doubles. So it keeps no names
//! but a fourth of each, nine bytes for a megaflow in all; the name itself stands in the slot.

use crate::slots::SlotWriter;
use flow::Ufid;
use hashbrown::HashTable;

/// Slots by name. Every slot in here is live.
#[derive(Debug, Default)]
pub(crate) struct Names(HashTable<(u32, u32)>);

/// What is kept of a name, and what finds it. Most names are keyed hashes, but an operator may give any.
fn part(ufid: Ufid) -> (u32, u64) {
    #[allow(clippy::cast_possible_truncation, reason = "all parts of the name are in it")]
    let folded = ((ufid.0 >> 64) as u64 ^ ufid.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let part = u32::try_from(folded >> 32).expect("32 bits are left");
    (part, spread(part))
}

/// The table takes a place from the lowest bits and a tag from the highest.
fn spread(part: u32) -> u64 {
    u64::from(part) << 32 | u64::from(part)
}

impl Names {
    /// Megaflows that have one.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slot that has this name, if any has: its own name may yet be another one. Looks at no slot.
    #[must_use]
    pub(crate) fn guess(&self, ufid: Ufid) -> Option<u32> {
        let (part, hash) = part(ufid);
        self.0.find(hash, |(other, _)| *other == part).map(|(_, slot)| *slot)
    }

    /// The slot that has this name.
    #[must_use]
    pub(crate) fn find(&self, ufid: Ufid, slots: &SlotWriter) -> Option<u32> {
        let (part, hash) = part(ufid);
        self.0.find(hash, |entry| is(*entry, part, ufid, slots)).map(|(_, slot)| *slot)
    }

    /// Notes a name that there was not.
    pub(crate) fn insert(&mut self, ufid: Ufid, slot: u32) {
        let (part, hash) = part(ufid);
        self.0.insert_unique(hash, (part, slot), |(part, _)| spread(*part));
    }

    /// Gives the name of one live slot to another, which bears it too.
    pub(crate) fn pass(&mut self, ufid: Ufid, to: u32, slots: &SlotWriter) {
        let (part, hash) = part(ufid);
        if let Some((_, slot)) = self.0.find_mut(hash, |entry| is(*entry, part, ufid, slots)) {
            *slot = to;
        }
    }

    /// Forgets a name; the slot, still live, that had it.
    pub(crate) fn remove(&mut self, ufid: Ufid, slots: &SlotWriter) -> Option<u32> {
        let (part, hash) = part(ufid);
        self.0.find_entry(hash, |entry| is(*entry, part, ufid, slots)).ok().map(|entry| entry.remove().0.1)
    }

    /// All slots, in no order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|(_, slot)| *slot)
    }
}

fn is((other, slot): (u32, u32), part: u32, ufid: Ufid, slots: &SlotWriter) -> bool {
    other == part && slots.entry(slot).head().ufid == ufid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use crate::qsbr::Rcu;
    use crate::shape::Shape;
    use crate::slots::{Head, NOT_QUICK};
    use flow::Key;
    use std::sync::Arc;

    fn fill(writer: &mut SlotWriter, ufid: Ufid) -> u32 {
        if writer.n_free() == 0 {
            assert!(writer.grow());
        }
        let shape = Arc::new(Shape::new(&Key { in_port: [255; 4], ..Key::ZERO }));
        let program = Rcu::new(Box::new(Program::new(Arc::default()).unwrap()));
        writer.fill(&Key::ZERO, Head { ufid, shape, rest: Box::default(), program }, NOT_QUICK)
    }

    /// Two names of which the same is kept are two names.
    #[test]
    fn what_is_kept_of_a_name_is_not_taken_for_it() {
        let (_slots, mut writer) = SlotWriter::new();
        let mut names = Names::default();
        let (one, other, third) = (Ufid(5 << 64), Ufid(5), Ufid(5 << 64 | 1 << 64 | 1));
        assert!(part(one) == part(other) && part(one) != part(third));
        let at_one = fill(&mut writer, one);
        names.insert(one, at_one);
        assert_eq!((names.guess(other), names.find(other, &writer)), (Some(at_one), None));
        assert_eq!(names.remove(other, &writer), None);
        let at_other = fill(&mut writer, other);
        names.insert(other, at_other);
        assert_eq!((names.find(one, &writer), names.find(other, &writer)), (Some(at_one), Some(at_other)));
        let moved = fill(&mut writer, other);
        names.pass(other, moved, &writer);
        assert_eq!((names.find(one, &writer), names.find(other, &writer)), (Some(at_one), Some(moved)));
        assert_eq!((names.remove(one, &writer), names.len()), (Some(at_one), 1));
        assert_eq!(names.slots().collect::<Vec<_>>(), [moved]);
        assert_eq!((names.find(one, &writer), names.remove(other, &writer)), (None, Some(moved)));
        assert!(names.is_empty());
    }
}
