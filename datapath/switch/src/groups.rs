//! Whose the packets of a batch are, where the megaflows are few: they are counted and sent group by group.
//!
//! What enters: megaflows with their packets, from those who compare a batch with a few (`memo`, `search`). What leaves: the same, if every packet
//! is in one of the groups. Neighbour: `forward`, which counts each group at once, where it would go through each packet's own megaflow otherwise. Which
//! megaflow each packet has is written down (`tell`) only for who asks.

use crate::classifier::BATCH;
use crate::search::bits;
use crate::slots::{Entry, NOT_QUICK};
use port::Packet;

/// Groups at most.
pub(crate) const GROUPS_MAX: usize = 4;

/// Whose the packets of a batch are. It is filled in place, since copies of it are read before what they are made of has been written.
#[derive(Debug, Default)]
pub(crate) struct Found<'g> {
    /// Of each packet, unless all of them are in `groups`.
    pub(crate) each: [Option<Entry<'g>>; BATCH],
    pub(crate) groups: Groups<'g>,
}

impl Found<'_> {
    /// Writes down for each packet of the groups whose it is.
    #[inline]
    pub(crate) fn tell(&mut self) {
        let Self { each, groups } = self;
        groups.each().for_each(|(entry, own)| tell(entry, own, each));
    }
}

/// Megaflows, each with its packets, a bit each.
#[derive(Debug, Default)]
pub(crate) struct Groups<'g> {
    /// Without gaps.
    entries: [Option<Entry<'g>>; GROUPS_MAX],
    /// Of each; 0 where there is none.
    own: [u32; GROUPS_MAX],
    n: usize,
    /// All packets that are in one of them.
    packets: u32,
}

impl<'g> Groups<'g> {
    /// Adds a megaflow's packets, if there are any; whether there was room for them. A megaflow is added once.
    #[inline]
    pub(crate) fn add(&mut self, entry: Entry<'g>, packets: u32) -> bool {
        if packets == 0 {
            return true;
        }
        if self.n == GROUPS_MAX {
            return false;
        }
        (self.entries[self.n], self.own[self.n]) = (Some(entry), packets);
        self.n += 1;
        self.packets |= packets;
        true
    }

    /// None any more.
    #[inline]
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether all packets of the set are in them, which are all that there are.
    #[inline]
    pub(crate) fn cover(&self, all: u32) -> bool {
        self.packets == all
    }

    /// Each megaflow with its packets.
    #[inline]
    pub(crate) fn each(&self) -> impl Iterator<Item = (Entry<'g>, u32)> {
        self.entries.iter().zip(&self.own).map_while(|(entry, own)| entry.map(|entry| (entry, *own)))
    }

    /// The bytes of each megaflow's packets. `measured` is how long packets are, where that was written down long enough ago to be read by vectors.
    #[inline]
    pub(crate) fn bytes(&self, packets: &[Packet], measured: Option<&[u32; BATCH]>) -> [u32; GROUPS_MAX] {
        #[cfg(target_arch = "x86_64")]
        if let Some(lengths) = measured
            && crate::wide::lines()
        {
            // SAFETY: the processor has these vectors.
            return unsafe { vector::bytes(lengths, &self.own) };
        }
        let _ = measured;
        self.own.map(|own| bits(own).map(|i| length(&packets[i])).sum())
    }

    /// The only megaflow, if there is one only.
    #[inline]
    pub(crate) fn only(&self) -> Option<Entry<'g>> {
        self.entries[0].filter(|_| self.n == 1)
    }

    /// The port, if all megaflows are an output to the same one.
    #[inline]
    pub(crate) fn port(&self) -> Option<u32> {
        let mut ports = self.each().map(|(entry, _)| entry.quick());
        let port = ports.next()?;
        (port != NOT_QUICK && ports.all(|other| other == port)).then_some(port)
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a packet is no longer than its buffer")]
fn length(packet: &Packet) -> u32 {
    packet.len() as u32
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::{BATCH, GROUPS_MAX};
    use std::arch::x86_64::{_mm512_add_epi32, _mm512_loadu_si512, _mm512_maskz_mov_epi32, _mm512_reduce_add_epi32};

    const _: () = assert!(BATCH == 32);

    /// The bytes of the packets of each set.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn bytes(lengths: &[u32; BATCH], own: &[u32; GROUPS_MAX]) -> [u32; GROUPS_MAX] {
        // SAFETY: the lengths are two vectors.
        let half = |i: usize| unsafe { _mm512_loadu_si512(lengths.as_ptr().wrapping_add(i * BATCH / 2).cast()) };
        let (low, high) = (half(0), half(1));
        let mut sums = [0; GROUPS_MAX];
        for (sum, own) in sums.iter_mut().zip(*own) {
            let (first, second) = ((own & 0xffff) as u16, (own >> 16) as u16);
            let both = _mm512_add_epi32(_mm512_maskz_mov_epi32(first, low), _mm512_maskz_mov_epi32(second, high));
            *sum = _mm512_reduce_add_epi32(both).cast_unsigned();
        }
        sums
    }
}

/// Writes down that packets are a megaflow's.
#[inline]
pub(crate) fn tell<'g>(entry: Entry<'g>, own: u32, found: &mut [Option<Entry<'g>>; BATCH]) {
    if own == u32::MAX {
        *found = [Some(entry); BATCH];
    } else {
        bits(own).for_each(|i| found[i] = Some(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;
    use crate::program::Program;
    use crate::qsbr::Rcu;
    use crate::slots::{Head, SlotWriter};
    use flow::{Key, Ufid};
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

    #[test]
    fn bytes_are_counted_for_whose_they_are() {
        let writer = megaflows(&[7; 4]);
        let mut random = flow::extract_gen::PacketGen::new(5);
        for n in 0..=BATCH {
            let packets: Vec<_> = (0..n).map(|_| Packet::from_bytes(&vec![0; random.below(1500)]).unwrap()).collect();
            let mut sets = [0u32; GROUPS_MAX];
            (0..n).for_each(|i| sets[random.below(GROUPS_MAX)] |= 1 << i);
            let mut groups = Groups::default();
            sets.iter().zip(0..).for_each(|(own, number)| assert!(groups.add(writer.entry(number), *own)));
            let mut expected = [0; GROUPS_MAX];
            for (sum, (_, own)) in expected.iter_mut().zip(groups.each()) {
                *sum = bits(own).map(|i| u32::try_from(packets[i].len()).unwrap()).sum();
            }
            assert_eq!(groups.bytes(&packets, None), expected);
            // What an earlier batch left behind the end is nobody's.
            let mut lengths = [9999; BATCH];
            lengths.iter_mut().zip(&packets).for_each(|(to, packet)| *to = length(packet));
            assert_eq!(groups.bytes(&packets, Some(&lengths)), expected);
        }
    }

    #[test]
    fn groups_are_whole_or_none() {
        let writer = megaflows(&[7, 7, 8, NOT_QUICK, 7]);
        let of = |groups: &[(u32, u32)]| {
            let mut all = Groups::default();
            groups.iter().for_each(|(entry, packets)| assert_eq!(all.add(writer.entry(*entry), *packets), *entry < 4));
            all
        };
        assert!(!of(&[]).cover(1) && !of(&[(0, 1)]).cover(3));
        let one = of(&[(0, 0b101), (1, 0)]);
        assert!(one.cover(0b101));
        assert_eq!((one.only().map(Entry::number), one.port()), (Some(0), Some(7)));
        let mut two = of(&[(0, 1), (1, 2)]);
        assert!(two.cover(3));
        assert_eq!((two.only(), two.port(), two.each().count()), (None, Some(7), 2));
        two.clear();
        assert!(two.only().is_none() && two.each().count() == 0 && !two.cover(3));
        assert_eq!(of(&[(0, 1), (2, 2)]).port(), None);
        assert_eq!((of(&[(3, 1)]).port(), of(&[(0, 1), (3, 2)]).port()), (None, None));
        let many = [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16)];
        assert!(!of(&many).cover(31) && of(&many[..4]).cover(15));
    }
}
