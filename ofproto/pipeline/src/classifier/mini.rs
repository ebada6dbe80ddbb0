//! Compact masks and matches: only the words that a mask has bits in.
//!
//! A rule stores its match this way (tens of bytes instead of two keys of 768); a subtable shares one `MiniMask` among its rules.

use flow::hash::{Map, Set};
use flow::key::{Key, Mask};
use smallvec::SmallVec;
use std::sync::{Arc, LazyLock};

/// Number of stages of staged lookup: metadata, L2, L3, L4.
pub(crate) const STAGES: usize = 4;

/// Which bits of a key belong to each stage: L4 begins with what follows the IP header, and with ARP's and NSH's own fields. Each bit belongs to exactly one.
static STAGE_BITS: LazyLock<[Mask; STAGES]> = LazyLock::new(stage_bits);

fn stage_bits() -> [Mask; STAGES] {
    const F2: [u8; 2] = [0xff; 2];
    const F4: [u8; 4] = [0xff; 4];
    const F6: [u8; 6] = [0xff; 6];
    const F16: [u8; 16] = [0xff; 16];
    let l2 = Key {
        eth_dst: F6,
        eth_src: F6,
        eth_type: F2,
        vlan_tci: F2,
        vlan_tpid: F2,
        vlan2_tci: F2,
        vlan2_tpid: F2,
        mpls_lse0: F4,
        mpls_lse1: F4,
        mpls_lse2: F4,
        ..Key::ZERO
    };
    let l3 = Key {
        nw_src: F4,
        nw_dst: F4,
        nw_proto: 0xff,
        nw_tos: 0xff,
        nw_ttl: 0xff,
        nw_frag: 0xff,
        ipv6_src: F16,
        ipv6_dst: F16,
        ipv6_label: F4,
        ct_nw_src: F4,
        ct_nw_dst: F4,
        ct_ipv6_src: F16,
        ct_ipv6_dst: F16,
        ..Key::ZERO
    };
    let l4 = Key {
        tp_src: F2,
        tp_dst: F2,
        ct_tp_src: F2,
        ct_tp_dst: F2,
        nd_reserved: F4,
        nsh_c4: F4,
        nsh_c3: F4,
        nsh_c2: F4,
        nsh_c1: F4,
        nsh_path: F4,
        nsh_np: 0xff,
        nsh_mdtype: 0xff,
        nsh_ttl: 0xff,
        nsh_flags: 0xff,
        nd_target: F16,
        arp_tha: F6,
        arp_sha: F6,
        tcp_flags: F2,
        ..Key::ZERO
    };
    let mut metadata = Key::ZERO;
    for (i, word) in metadata.words_mut().iter_mut().enumerate() {
        *word = !(l2.words()[i] | l3.words()[i] | l4.words()[i]);
    }
    [metadata, l2, l3, l4]
}

/// Some bits of one word of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Part {
    pub(crate) word: u8,
    /// Which of the mask's words this is, counted from 0: where a match has its value.
    pub(crate) at: u8,
    pub(crate) bits: u64,
}

/// The words of a mask on their way to being one: no allocation where there are few.
type Parts = SmallVec<[Part; 16]>;

/// A mask as its non-zero words, and split by stage.
#[derive(Debug)]
pub struct MiniMask {
    words: Box<[Part]>,
    /// The words again, stage by stage; a word may be in several.
    staged: Box<[Part]>,
    /// Where in `staged` each stage ends.
    ends: [u8; STAGES],
}

/// Words of a mask, by which a `MiniMask` is looked up before one is made.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Words<'a>(&'a [Part]);

impl hashbrown::Equivalent<Arc<MiniMask>> for Words<'_> {
    fn equivalent(&self, mask: &Arc<MiniMask>) -> bool {
        *self.0 == *mask.words
    }
}

impl PartialEq for MiniMask {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for MiniMask {}

impl std::hash::Hash for MiniMask {
    /// As `Words` does it; stages follow from the words.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Words(&self.words).hash(state);
    }
}

impl MiniMask {
    /// The compact form of `mask`.
    #[must_use]
    pub fn new(mask: &Mask) -> Self {
        Self::of(&parts(mask))
    }

    fn of(words: &[Part]) -> Self {
        let mut staged = Vec::with_capacity(words.len());
        let mut ends = [0; STAGES];
        for (end, stage) in ends.iter_mut().zip(STAGE_BITS.iter()) {
            let of_stage = words.iter().map(|p| Part { bits: p.bits & stage.words()[usize::from(p.word)], ..*p });
            staged.extend(of_stage.filter(|p| p.bits != 0));
            *end = u8::try_from(staged.len()).expect("a key has 96 words, and hardly any has bits of two stages");
        }
        Self { words: words.into(), staged: staged.into(), ends }
    }

    /// The mask that `known` has of these bits, or a new one.
    pub(super) fn shared<V>(mask: &Mask, known: &Map<Arc<Self>, V>) -> Arc<Self> {
        let words = parts(mask);
        known.get_key_value(&Words(&words)).map_or_else(|| Arc::new(Self::of(&words)), |(mask, _)| Arc::clone(mask))
    }

    /// The whole mask.
    #[must_use]
    pub fn expand(&self) -> Mask {
        let mut mask = Key::ZERO;
        self.or_into(&mut mask);
        mask
    }

    /// Adds all bits to `mask`.
    pub(crate) fn or_into(&self, mask: &mut Mask) {
        or_parts(&self.words, mask);
    }

    /// Adds the bits of one stage to `mask`.
    pub(crate) fn or_stage_into(&self, stage: usize, mask: &mut Mask) {
        or_parts(self.stage(stage), mask);
    }

    pub(crate) fn stage(&self, stage: usize) -> &[Part] {
        let from = if stage == 0 { 0 } else { self.ends[stage - 1] };
        &self.staged[usize::from(from)..usize::from(self.ends[stage])]
    }

    /// Every stage's parts, in order.
    pub(crate) fn staged(&self) -> &[Part] {
        &self.staged
    }

    /// Whether a rule with this mask is what a conjunction leads to.
    #[must_use]
    pub fn has_conj_id(&self) -> bool {
        self.has_four_bytes(std::mem::offset_of!(Key, conj_id))
    }

    fn has_hidden_fields(&self) -> bool {
        self.has_four_bytes(std::mem::offset_of!(Key, recirc_id)) || self.has_four_bytes(std::mem::offset_of!(Key, dp_hash))
    }

    fn has_four_bytes(&self, at: usize) -> bool {
        #[allow(clippy::cast_possible_truncation, reason = "a key has fewer than 256 words")]
        let bits = self.bits_of((at / 8) as u8).to_ne_bytes();
        bits[at % 8..at % 8 + 4] != [0; 4]
    }

    /// Bits of `word` that the mask has.
    fn bits_of(&self, word: u8) -> u64 {
        self.words.binary_search_by_key(&word, |p| p.word).map_or(0, |i| self.words[i].bits)
    }
}

/// Masks that many matches have in common, where no classifier is at hand.
#[derive(Debug, Default)]
pub struct Masks(Set<Arc<MiniMask>>);

impl Masks {
    /// The compact form of a match, whose mask is shared with those made before.
    pub fn mini(&mut self, key: &Key, mask: &Mask) -> MiniMatch {
        let words = parts(mask);
        let known = self.0.get(&Words(&words)).map(Arc::clone);
        let mask = known.unwrap_or_else(|| {
            let mask = Arc::new(MiniMask::of(&words));
            self.0.insert(Arc::clone(&mask));
            mask
        });
        MiniMatch::with_mask(key, mask)
    }
}

fn parts(mask: &Mask) -> Parts {
    let mut parts = Parts::new();
    for (word, bits) in (0u8..).zip(mask.words()) {
        if *bits != 0 {
            let at = u8::try_from(parts.len()).expect("a key has fewer than 256 words");
            parts.push(Part { word, at, bits: *bits });
        }
    }
    parts
}

fn or_parts(parts: &[Part], mask: &mut Mask) {
    let words = mask.words_mut();
    for part in parts {
        words[usize::from(part.word)] |= part.bits;
    }
}

/// A match in compact form: one value for each word of the mask, already masked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MiniMatch {
    mask: Arc<MiniMask>,
    values: SmallVec<[u64; 4]>,
}

impl MiniMatch {
    /// `key` under `mask`.
    #[must_use]
    pub fn new(key: &Key, mask: &Mask) -> Self {
        Self::with_mask(key, Arc::new(MiniMask::new(mask)))
    }

    /// `key` under a mask that others share.
    #[must_use]
    pub fn with_mask(key: &Key, mask: Arc<MiniMask>) -> Self {
        let words = key.words();
        let mut values = SmallVec::with_capacity(mask.words.len());
        values.extend(mask.words.iter().map(|p| words[usize::from(p.word)] & p.bits));
        Self { mask, values }
    }

    /// The shared mask.
    #[must_use]
    pub fn mask(&self) -> &Arc<MiniMask> {
        &self.mask
    }

    /// Whether what only the switch's own rules may match is matched: the datapath's hash, and recirculation but for "never".
    #[must_use]
    pub fn looks_at_hidden_fields(&self) -> bool {
        self.mask.has_hidden_fields() && {
            let (key, mask) = self.expand();
            mask.dp_hash != [0; 4] || key.recirc_id != [0; 4] || mask.recirc_id != [0xff; 4]
        }
    }

    /// Takes another copy of the same mask, one that others share.
    pub(super) fn share(&mut self, mask: &Arc<MiniMask>) {
        debug_assert_eq!(self.mask, *mask, "values stand in the order of the mask's words");
        self.mask = Arc::clone(mask);
    }

    /// Key and mask at full size.
    #[must_use]
    pub fn expand(&self) -> (Key, Mask) {
        let mut key = Key::ZERO;
        let words = key.words_mut();
        for (part, value) in self.mask.words.iter().zip(self.values.iter()) {
            words[usize::from(part.word)] = *value;
        }
        (key, self.mask.expand())
    }

    /// Whether a packet with `key` matches.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        let words = key.words();
        self.mask.words.iter().zip(self.values.iter()).all(|(p, v)| words[usize::from(p.word)] & p.bits == *v)
    }

    /// Whether a match with the same mask has the same values.
    pub(super) fn has_values_of(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// The value of a part of this match's mask.
    pub(super) fn value(&self, part: &Part) -> u64 {
        self.values[usize::from(part.at)] & part.bits
    }

    /// Bytes `at .. at + len` (at most 16) of the key, left-aligned.
    pub(super) fn bytes(&self, at: usize, len: usize) -> u128 {
        let mut wide = [0; 16];
        for word in at / 8..(at + len).div_ceil(8) {
            let value = self.value_of(u8::try_from(word).expect("a key has fewer than 256 words")).to_ne_bytes();
            for (i, byte) in value.into_iter().enumerate() {
                let place = (word * 8 + i).wrapping_sub(at);
                if place < len {
                    wide[place] = byte;
                }
            }
        }
        u128::from_be_bytes(wide)
    }

    /// Whether this match is `target`'s or more specific: it has each bit of `target`'s mask, with the same values.
    #[must_use]
    pub fn is_within(&self, target: &Self) -> bool {
        target
            .mask
            .words
            .iter()
            .zip(target.values.iter())
            .all(|(p, v)| p.bits & !self.mask.bits_of(p.word) == 0 && self.value_of(p.word) & p.bits == *v)
    }

    /// Whether some packet matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.mask.words.iter().zip(self.values.iter()).all(|(p, v)| {
            let both = p.bits & other.mask.bits_of(p.word);
            (v ^ other.value_of(p.word)) & both == 0
        })
    }

    fn value_of(&self, word: u8) -> u64 {
        self.mask.words.binary_search_by_key(&word, |p| p.word).map_or(0, |i| self.values[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::key::WORDS;

    #[test]
    fn stages_partition_the_key() {
        for word in 0..WORDS {
            let mut seen = 0u64;
            for stage in STAGE_BITS.iter() {
                assert_eq!(seen & stage.words()[word], 0, "word {word} in two stages");
                seen |= stage.words()[word];
            }
            assert_eq!(seen, u64::MAX, "word {word} in no stage");
        }
    }

    #[test]
    fn compact_forms_expand_again() {
        let key = Key { nw_dst: [10, 1, 2, 3], eth_type: [8, 0], tp_dst: [0, 80], ..Key::ZERO };
        let mask = Key { nw_dst: [255, 255, 255, 0], eth_type: [255; 2], tp_dst: [255; 2], ..Key::ZERO };
        let mini = MiniMatch::new(&key, &mask);
        assert_eq!(mini.expand(), (key.masked(&mask), mask));
        assert!(mini.matches(&Key { nw_dst: [10, 1, 2, 99], ..key }));
        assert!(!mini.matches(&Key { nw_dst: [10, 1, 3, 3], ..key }));
        let wider = MiniMatch::new(&key, &Key { nw_dst: [255, 255, 0, 0], eth_type: [255; 2], ..Key::ZERO });
        assert!(mini.is_within(&wider) && !wider.is_within(&mini) && mini.overlaps(&wider));
        assert_eq!(mini.bytes(std::mem::offset_of!(Key, nw_dst), 4) >> 96, 0x0a01_0200);
        assert_eq!(mini.bytes(std::mem::offset_of!(Key, tp_src), 4) >> 96, 80);
        let other = MiniMatch::new(&Key { tp_dst: [0, 81], ..key }, &mask);
        assert!(!mini.overlaps(&other));
    }
}
