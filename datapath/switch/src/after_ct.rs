//! What a batch of one megaflow must find when it comes back from `ct`: said of the whole batch, instead of looking each packet up again.
//!
//! What enters: the megaflow that all packets were of, the `ct` action, and the packets when it has been carried out. What leaves: what is sure of
//! all their keys, to be asked whether all of them are of another megaflow. Neighbours: `execute` (the caller, which has packets looked up where this room
//! does not know), `memo` (which names the megaflows to ask about), `ct::track` (which changes the keys).
//!
//! Between the two lookups `ct` and the recirculation change only the id, the word that tells of the connection and, with NAT, addresses and ports of
//! the keys' first lines. Of everything else all packets have what the first megaflow's mask let through, since they matched; of the word each bit
//! counts in which all packets are alike. A megaflow whose mask asks for no other bit is either the megaflow of all packets or of none, and one
//! comparison says which. Nothing is remembered, so nothing can be outdated: megaflows are asked as they are now.
//!
//! The safe direction: bits that are sure but not said to be so only cost time; bits that are said to be sure and are not would be wrong.

use crate::ct::track::FIRST;
use crate::parsed::Parsed;
use crate::shape::Line;
use crate::slots::Entry;
use flow::Key;
use flow::action::Ct;
use flow::key::{FRAG_ANY, FRAG_LATER};

const ADDRESSES: usize = core::mem::offset_of!(Key, nw_src) / 8;
const _: () = assert!(core::mem::offset_of!(Key, nw_dst) == ADDRESSES * 8 + 4);
const PORTS: usize = core::mem::offset_of!(Key, tp_src) / 8;
const _: () = assert!(core::mem::offset_of!(Key, tp_src) == PORTS * 8 && core::mem::offset_of!(Key, tp_dst) == PORTS * 8 + 2);
const ID: usize = core::mem::offset_of!(Key, recirc_id) / 8;
const _: () = assert!(core::mem::offset_of!(Key, recirc_id) == ID * 8);
const FRAGMENT: usize = core::mem::offset_of!(Key, nw_frag);
const FRAG: u8 = FRAG_ANY | FRAG_LATER;
const LOW_HALF: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/// What is sure of the first lines of all keys of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sure {
    bits: [u64; 8],
    /// Zero elsewhere.
    values: [u64; 8],
}

impl Sure {
    /// Of packets that were `of` a megaflow, have been through `ct`, and go round under `id`. `None` where other packets than these may have come out of
    /// it: fragments are held, and go on with later ones.
    #[inline]
    pub(crate) fn after(of: Entry<'_>, ct: &Ct, id: u32, parsed: &[Parsed]) -> Option<Self> {
        let (mut bits, mut values) = (*of.mask0(), of.line0().0);
        let byte = |words: &[u64; 8], at: usize| words[at / 8].to_ne_bytes()[at % 8];
        if !byte(&bits, FRAGMENT) & FRAG != 0 || byte(&values, FRAGMENT) & FRAG != 0 {
            return None;
        }
        let (all, any) = parsed
            .iter()
            .map(|parsed| parsed.key.words()[FIRST])
            .fold((u64::MAX, 0), |(all, any), word| (all & word, any | word));
        (bits[FIRST], values[FIRST]) = (!(all ^ any), all & any);
        let [i0, i1, i2, i3] = id.to_be_bytes();
        bits[ID] |= LOW_HALF;
        values[ID] = values[ID] & !LOW_HALF | u64::from_ne_bytes([i0, i1, i2, i3, 0, 0, 0, 0]);
        if ct.nat.is_some() {
            for (word, changed) in [(ADDRESSES, u64::MAX), (PORTS, LOW_HALF)] {
                bits[word] &= !changed;
                values[word] &= !changed;
            }
        }
        Some(Self { bits, values })
    }

    /// Whether all packets are sure to be of this megaflow.
    #[inline]
    pub(crate) fn is_of(&self, entry: Entry<'_>) -> bool {
        let (mask, Line(own)) = (entry.mask0(), entry.line0());
        let odd = |i: usize| mask[i] & !self.bits[i] | (mask[i] & self.values[i] ^ own[i]);
        entry.is_short() && (0..8).fold(0, |all, i| all | odd(i)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;
    use crate::hash::Rng;
    use crate::program::Program;
    use crate::qsbr::Rcu;
    use crate::slots::{Head, NOT_QUICK, SlotWriter};
    use flow::action::Nat;
    use flow::key::Lines;
    use flow::{Mask, Ufid};
    use proptest::prelude::*;
    use std::sync::Arc;

    const ID: u32 = 5;

    /// A mask of few fields; as of any megaflow, of port and id.
    fn mask(rng: &mut Rng) -> Mask {
        let mut mask = Key::ZERO;
        (mask.in_port, mask.recirc_id) = ([0xff; 4], [0xff; 4]);
        let mut often = |n| !rng.one_in(n);
        mask.nw_frag = if often(8) { FRAG } else { 0 };
        mask.eth_type = if often(4) { [0xff; 2] } else { [0; 2] };
        mask.nw_proto = if often(2) { 0xff } else { 0 };
        mask.nw_src = if often(3) { [0; 4] } else { [0xff, 0xff, 0xff, 0xfe] };
        mask.tp_dst = if often(4) { [0; 2] } else { [0xff; 2] };
        mask.ct_state = if often(2) { 0x2f } else { 0 };
        mask.ct_mark[3] = if often(4) { 0 } else { 1 };
        mask.ct_label[0] = if often(16) { 0 } else { 1 };
        mask
    }

    /// What some packet may have in the fields of the masks.
    fn key(rng: &mut Rng) -> Key {
        let mut key = Key::ZERO;
        key.in_port[3] = 1;
        (key.nw_frag, key.eth_type, key.nw_proto) = (rng.byte(6) / 5, [8, 0], 6 + 11 * rng.byte(2));
        (key.nw_src[3], key.tp_dst[1]) = (rng.byte(4), rng.byte(2));
        key
    }

    fn megaflow(of: &Key, mask: &Mask) -> (SlotWriter, u32) {
        let (_slots, mut writer) = SlotWriter::new();
        assert!(writer.grow());
        let (_classifier, mut shapes) = Classifier::new();
        let (shape, masked) = (shapes.shape(mask), of.masked(mask));
        let program = Rcu::new(Box::new(Program::new(Arc::default()).unwrap()));
        let head = Head { ufid: Ufid(1), rest: shape.rest(&masked), shape, program };
        let number = writer.fill(&masked, head, NOT_QUICK);
        (writer, number)
    }

    fn parsed(key: &Key) -> Parsed {
        let mut parsed = Parsed::new();
        parsed.key = *key;
        parsed.found.lines = Lines(1);
        parsed
    }

    /// What was said and whether it was so, of some packets.
    fn judge(rng: &mut Rng) -> (Option<bool>, bool) {
        let (first_mask, second_mask) = (mask(rng), mask(rng));
        let begin = key(rng);
        let (writer, number) = megaflow(&begin, &first_mask);
        let first = writer.entry(number);
        let mut keys = vec![begin];
        keys.extend((0..30).map(|_| key(rng)).filter(|key| first.matches(&mut parsed(key))).take(3));
        let ct = Ct { nat: rng.one_in(3).then(Nat::default), ..Ct::default() };
        let states = 1 + rng.below(2);
        for key in &mut keys {
            (key.ct_state, key.ct_mark[3]) = ([0x22, 0x2a][usize::from(rng.byte(states))], rng.byte(8) / 7);
            if ct.nat.is_some() && rng.one_in(2) {
                (key.nw_src[3], key.tp_dst[1]) = (rng.byte(4), rng.byte(2));
            }
        }
        let mut after: Vec<_> = keys.iter().map(parsed).collect();
        let sure = Sure::after(first, &ct, ID, &after);
        after.iter_mut().for_each(|parsed| parsed.key.recirc_id = ID.to_be_bytes());
        let (writer, number) = megaflow(&after[0].key, &second_mask);
        let second = writer.entry(number);
        (sure.map(|sure| sure.is_of(second)), after.iter_mut().all(|parsed| second.matches(parsed)))
    }

    proptest! {
        #[test]
        fn what_is_said_of_all_is_true_of_each(seed: u64) {
            let (said, is_so) = judge(&mut Rng(seed));
            prop_assert!(is_so || said != Some(true));
        }
    }

    /// The test above would show nothing if nothing was ever said.
    #[test]
    fn much_is_said() {
        let judged: Vec<_> = (0..1000).map(|seed| judge(&mut Rng(seed))).collect();
        let said = judged.iter().filter(|(said, _)| *said == Some(true)).count();
        let not_so = judged.iter().filter(|(said, is_so)| *said == Some(false) && !is_so).count();
        assert!(said > 100 && not_so > 100, "{said} and {not_so} of 1000");
    }
}
