//! Staged lookup and prefixes: what a classifier needs to know of a mask to keep megaflows wide.
//!
//! What enters: masks of rules. What leaves: their words by stage (metadata, then L2, L3, L4), hashes of a key's words up to a
//! stage, and lengths of address prefixes. Neighbours: the classifiers of `ofproto` and of the datapath.
//!
//! A rule that fails in an early stage has looked at nothing of the later ones, so that their bits stay out of the megaflow's mask.
//! Stages are not lines of the key (`key` orders by heat): a word may hold bits of several stages and then counts in each of them,
//! masked. Safe direction: a bit that is counted in too early a stage only makes megaflows narrower.

use crate::fields::{Field, Stage, Store, UNNAMED};
use crate::flow_hash::Hash;
use crate::key::{Key, Mask, WORDS};
use crate::scan::prefix_len;
use std::sync::OnceLock;

/// How many stages there are.
pub const STAGES: usize = 4;
/// Fields whose prefixes a table tracks unless it is told otherwise (`Flow_Table.prefixes`).
pub const DEFAULT_PREFIXES: [Field; 4] = [Field::IpDst, Field::IpSrc, Field::Ipv6Dst, Field::Ipv6Src];
/// How many prefix fields a table can have.
pub const PREFIXES_MAX: usize = 4;

/// All stages, in their order.
pub const STAGE_ORDER: [Stage; STAGES] = [Stage::Metadata, Stage::L2, Stage::L3, Stage::L4];

/// All bits of one stage.
#[must_use]
pub fn stage_mask(stage: Stage) -> &'static Mask {
    static MASKS: OnceLock<[Key; STAGES]> = OnceLock::new();
    &MASKS.get_or_init(|| {
        let mut masks = [Key::ZERO; STAGES];
        for field in Field::ALL {
            let row = field.row();
            row.place.write_all(&mut masks[row.stage as usize]);
        }
        for (place, stage) in UNNAMED {
            place.write_all(&mut masks[*stage as usize]);
        }
        masks
    })[stage as usize]
}

/// The words of a mask that hold anything, by stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedMask {
    words: [Vec<(u8, u64)>; STAGES],
}

impl StagedMask {
    /// Sorts the bits of a mask.
    #[must_use]
    pub fn new(mask: &Mask) -> Self {
        let words = STAGE_ORDER.map(|stage| {
            let bits = mask.masked(stage_mask(stage));
            (0..WORDS).filter(|n| bits.words()[*n] != 0).map(|n| (u8::try_from(n).unwrap_or(0), bits.words()[n])).collect()
        });
        Self { words }
    }

    /// Word numbers and masks (in memory order) of one stage.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> &[(u8, u64)] {
        &self.words[stage as usize]
    }

    /// The last stage that has any bits; `None` for a mask of zeros.
    #[must_use]
    pub fn last(&self) -> Option<Stage> {
        STAGE_ORDER.into_iter().rev().find(|s| !self.stage(*s).is_empty())
    }

    /// Hashes of a key's masked words, up to and with each stage: equal keys have equal hashes, for tables.
    #[must_use]
    pub fn hashes(&self, key: &Key, basis: u32) -> [u64; STAGES] {
        let mut hash = Hash::new(basis);
        self.words.each_ref().map(|words| {
            for (n, bits) in words {
                hash.add(u64::from_be(key.words()[usize::from(*n)] & bits));
            }
            hash.finish_long()
        })
    }

    /// Adds the bits of all stages up to and with `stage` to `mask`: a lookup went that far.
    pub fn unwildcard(&self, stage: Stage, mask: &mut Mask) {
        for words in &self.words[..=stage as usize] {
            for (n, bits) in words {
                mask.words_mut()[usize::from(*n)] |= bits;
            }
        }
    }
}

/// Length of a field's prefix when its mask is ones from the left; `None` for another mask. Zero: nothing is matched.
#[must_use]
pub fn prefix_of(field: Field, mask: &Mask) -> Option<u32> {
    prefix_len(field.mask(mask), u32::from(field.row().place.bits))
}

/// Adds the first `len` bits of a field to `mask`.
pub fn unwildcard_prefix(field: Field, len: u32, mask: &mut Mask) {
    let row = field.row();
    debug_assert!(row.prefix && row.place.store == Store::Plain);
    let bits = u32::from(row.place.bits);
    let len = len.min(bits);
    let ones = if len == 0 { 0 } else { field.exact() >> (bits - len) << (bits - len) };
    field.set_mask(mask, field.mask(mask) | ones);
}

/// The prefix fields of a key, as numbers with the first bit at the left (bit 127).
#[must_use]
pub fn prefix_value(field: Field, key: &Key) -> u128 {
    field.get(key) << (128 - u32::from(field.row().place.bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oftext::parse_match;
    use proptest::prelude::*;

    #[test]
    fn stages_cover_the_key_once() {
        let mut seen = Key::ZERO;
        for stage in STAGE_ORDER {
            let mask = stage_mask(stage);
            assert!(seen.masked(mask) == Key::ZERO, "{stage:?} shares bits with another");
            seen.or_with(mask);
        }
        assert_eq!(seen.spare, [0; 56]);
        assert_eq!(seen.nw_frag, 3);
        assert_eq!(stage_mask(Stage::L4).tp_src, [0xff; 2]);
        assert_eq!(stage_mask(Stage::L2).vlan2_tci, [0xff; 2]);
    }

    #[test]
    fn words_by_stage() {
        let m = parse_match("in_port=1,tcp,nw_dst=10.0.0.0/8,tp_dst=80").unwrap();
        let staged = StagedMask::new(&m.mask);
        assert_eq!(staged.last(), Some(Stage::L4));
        assert_eq!(STAGE_ORDER.map(|s| staged.stage(s).len()), [2, 1, 2, 1]);
        let mut mask = Key::ZERO;
        staged.unwildcard(Stage::L3, &mut mask);
        assert_eq!((mask.nw_dst, mask.tp_dst), ([0xff, 0, 0, 0], [0, 0]));
        assert_eq!(StagedMask::new(&Key::ZERO).last(), None);
    }

    #[test]
    fn prefixes() {
        let mask = |text| parse_match(text).unwrap().mask;
        assert_eq!(prefix_of(Field::IpDst, &mask("ip,nw_dst=10.0.0.0/8")), Some(8));
        assert_eq!(prefix_of(Field::IpDst, &mask("ip,nw_dst=10.0.0.1/255.0.0.1")), None);
        assert_eq!(prefix_of(Field::Ipv6Dst, &mask("ipv6,ipv6_dst=::1")), Some(128));
        assert_eq!(prefix_of(Field::TunId, &mask("ip")), Some(0));
        let mut got = Key::ZERO;
        for len in [0, 9, 3] {
            unwildcard_prefix(Field::IpSrc, len, &mut got);
        }
        assert_eq!(got.nw_src, [0xff, 0x80, 0, 0]);
        assert_eq!(prefix_value(Field::IpSrc, &parse_match("ip,nw_src=128.0.0.0").unwrap().key), 1 << 127);
        for field in DEFAULT_PREFIXES {
            assert!(field.row().prefix);
        }
    }

    proptest! {
        /// Stages put together are the mask, and hashes agree exactly when the masked stages do.
        #[test]
        fn nothing_is_lost(words in prop::collection::vec(any::<u64>(), WORDS), key in prop::collection::vec(any::<u64>(), WORDS), flip in 0..WORDS * 64) {
            let mut mask = Key::ZERO;
            for (to, from) in mask.words_mut().iter_mut().zip(words) {
                *to = from;
            }
            for stage in STAGE_ORDER {
                mask.or_with(&Key::ZERO.masked(stage_mask(stage)));
            }
            let named = STAGE_ORDER.iter().fold(Key::ZERO, |mut all, s| { all.or_with(stage_mask(*s)); all });
            mask = mask.masked(&named);
            let staged = StagedMask::new(&mask);
            let mut all = Key::ZERO;
            staged.unwildcard(Stage::L4, &mut all);
            prop_assert!(all == mask);
            let mut a = Key::ZERO;
            for (to, from) in a.words_mut().iter_mut().zip(key) {
                *to = from;
            }
            let mut b = a;
            b.words_mut()[flip / 64] ^= 1 << (flip % 64);
            let matched = mask.words()[flip / 64] >> (flip % 64) & 1 != 0;
            prop_assert_eq!(staged.hashes(&a, 0)[3] != staged.hashes(&b, 0)[3], matched);
        }
    }
}
