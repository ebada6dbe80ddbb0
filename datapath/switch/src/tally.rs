//! Whose the packets of a batch are, where the megaflows are few: they are counted and sent group by group.
//!
//! What enters: the megaflow of each packet. What leaves: groups, or that there is nothing to be had by them. Neighbour: `forward`.
//!
//! Mixed traffic often ends in a handful of megaflows. A pass over the batch for each of them costs less than a look at each packet's own megaflow,
//! its cell and its output, which follow from each other. Where nearly each packet has a megaflow of its own the first pass says so.

use crate::classifier::BATCH;
use crate::search::bits;
use crate::slots::{Entry, NOT_QUICK};

/// Groups at most.
const FEW: usize = 4;
/// The first packet's group has at least one part in so many of the batch.
const LEAST_PART: usize = 8;

/// The groups of a batch: all of its packets are in one of them.
#[derive(Debug)]
pub(crate) struct Tally<'g> {
    groups: [Option<(Entry<'g>, u32)>; FEW],
}

impl<'g> Tally<'g> {
    /// `None` if a packet has no megaflow, or there are too many.
    #[inline]
    pub(crate) fn of(found: &[Option<Entry<'g>>]) -> Option<Self> {
        let mut groups = [None; FEW];
        let mut left = all(found.len());
        for group in &mut groups {
            if left == 0 {
                break;
            }
            let first = left == all(found.len());
            let entry = found[left.trailing_zeros() as usize]?;
            let mut own = 0u32;
            for (i, other) in found.iter().enumerate() {
                own |= u32::from(*other == Some(entry)) << i;
            }
            if first && (own.count_ones() as usize) < found.len().div_ceil(LEAST_PART) {
                return None;
            }
            *group = Some((entry, own));
            left &= !own;
        }
        (left == 0).then_some(Self { groups })
    }

    /// The only megaflow, if there is one only.
    #[inline]
    pub(crate) fn only(&self) -> Option<Entry<'g>> {
        self.groups[0].filter(|_| self.groups[1].is_none()).map(|(entry, _)| entry)
    }

    /// The port, if all megaflows are an output to the same one.
    #[inline]
    pub(crate) fn port(&self) -> Option<u32> {
        let mut ports = self.groups.iter().flatten().map(|(entry, _)| entry.quick());
        let port = ports.next()?;
        (port != NOT_QUICK && ports.all(|other| other == port)).then_some(port)
    }

    /// Megaflows, each with its packets.
    #[inline]
    pub(crate) fn groups(&self) -> impl Iterator<Item = (Entry<'g>, u32, impl Iterator<Item = usize>)> {
        self.groups.iter().flatten().map(|(entry, own)| (*entry, own.count_ones(), bits(*own)))
    }
}

/// A bit for each of `n` packets.
#[inline]
fn all(n: usize) -> u32 {
    if n == BATCH { u32::MAX } else { (1 << n) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;
    use crate::program::Program;
    use crate::qsbr::Rcu;
    use crate::slots::{Head, SlotWriter};
    use flow::{Key, Ufid};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn megaflows(quick: &[u32]) -> SlotWriter {
        let (_slots, mut writer) = SlotWriter::new();
        assert!(writer.grow());
        let (_classifier, mut shapes) = Classifier::new();
        for quick in quick {
            let shape = shapes.shape(&Key::ZERO);
            let program = Rcu::new(Box::new(Program::new(Arc::default()).unwrap()));
            writer.fill(&Key::ZERO, Head { ufid: Ufid(1), shape, rest: Box::default(), program }, *quick);
        }
        writer
    }

    proptest! {
        /// Groups are what a walk packet by packet finds; there are none exactly where packets have no megaflow, or the megaflows are too many.
        #[test]
        fn groups_are_the_packets_of_each_megaflow(of in prop::collection::vec(prop::option::weighted(0.99, 0u32..6), 1..=BATCH)) {
            let writer = megaflows(&[7, 7, 8, 7, 7, 7]);
            let found: Vec<_> = of.iter().map(|of| of.map(|of| writer.entry(of))).collect();
            let mut distinct: Vec<_> = of.iter().flatten().collect();
            distinct.sort_unstable();
            distinct.dedup();
            let with_first = of.iter().filter(|other| **other == of[0]).count();
            let few = of.iter().all(Option::is_some) && distinct.len() <= FEW && with_first >= of.len().div_ceil(LEAST_PART);
            let Some(tally) = Tally::of(&found) else {
                prop_assert!(!few);
                return Ok(());
            };
            prop_assert!(few);
            let mut seen = vec![None; of.len()];
            for (entry, n, packets) in tally.groups() {
                let packets: Vec<_> = packets.collect();
                prop_assert_eq!(packets.len(), n as usize);
                packets.iter().for_each(|i| seen[*i] = Some(entry.number()));
            }
            prop_assert_eq!(&seen, &of);
            prop_assert_eq!(tally.only().map(Entry::number), (distinct.len() == 1).then(|| *distinct[0]));
            let ports: Vec<_> = distinct.iter().map(|of| if **of == 2 { 8 } else { 7 }).collect();
            prop_assert_eq!(tally.port(), ports.iter().all(|port| *port == ports[0]).then(|| ports[0]));
        }
    }

    #[test]
    fn a_program_is_no_port() {
        let writer = megaflows(&[NOT_QUICK, 7]);
        let of = |numbers: &[u32]| {
            let found: Vec<_> = numbers.iter().map(|n| Some(writer.entry(*n))).collect();
            Tally::of(&found).and_then(|tally| tally.port())
        };
        assert_eq!((of(&[0, 0]), of(&[1, 0]), of(&[1, 1])), (None, None, Some(7)));
    }
}
