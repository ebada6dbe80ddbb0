//! One subtable: all rules with the same mask, found by hash of the masked words, stage by stage.

use super::mini::{MiniMask, MiniMatch, Part, STAGES};
use super::trie::Trie;
use super::{Classified, TRIES_MAX};
use flow::key::{Key, Mask};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rules with the same match, highest priority first.
#[derive(Debug)]
pub(super) struct Chain<T> {
    pub(super) first: T,
    /// Few chains have any: a pointer is all that they cost.
    #[allow(clippy::box_collection, reason = "a million chains have one rule each")]
    more: Option<Box<Vec<T>>>,
}

impl<T> Chain<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(self.more.iter().flat_map(|more| more.iter()))
    }
}

/// What a search of one subtable gave.
pub(super) enum Search<'a, T> {
    Hit(&'a Chain<T>),
    /// No rule; the bits that showed it are in the mask.
    Miss,
}

#[derive(Debug)]
pub(super) struct Subtable<T> {
    pub(super) mask: Arc<MiniMask>,
    seed: u64,
    rules: HashTable<Chain<T>>,
    /// For each stage but the last that has bits: how many chains have this hash so far. Half of the hash is kept: where two
    /// meet, a search goes on for nothing.
    indices: [Option<Index>; STAGES],
    /// Last stage with bits.
    last_stage: usize,
    /// Rules by priority.
    priorities: BTreeMap<u32, u32>,
    /// Prefix lengths of the classifier's trie fields under this mask; 0: not a prefix.
    pub(super) prefixes: [u8; TRIES_MAX],
    /// One bit for each stage in which one of these fields is.
    asks_tries: u8,
    /// Masked source and destination port of all chains, if the mask has any of their bits.
    ports: Option<Ports>,
}

/// Rules that a new subtable makes room for at most.
const ROOM_MAX: usize = 1 << 17;

impl<T: Classified> Subtable<T> {
    pub(super) fn new(mask: Arc<MiniMask>, prefixes: [u8; TRIES_MAX], asks_tries: u8, seed: u64) -> Self {
        let last_stage = (0..STAGES).rev().find(|s| !mask.stage(*s).is_empty()).unwrap_or(0);
        let indices = std::array::from_fn(|s| (s < last_stage && !mask.stage(s).is_empty()).then(Index::default));
        let ports = Ports::new(ports_of(&mask.expand()));
        // Rules that wait to come here, as in a bundle, have this mask already: the table does not grow under them. Those of other tables have it, too.
        let rules = HashTable::with_capacity(Arc::strong_count(&mask).saturating_sub(1).min(ROOM_MAX));
        let priorities = BTreeMap::new();
        Self { mask, seed, rules, indices, last_stage, priorities, prefixes, asks_tries, ports }
    }

    /// Highest priority of its rules.
    pub(super) fn priority_max(&self) -> Option<u32> {
        self.priorities.last_key_value().map(|(p, _)| *p)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.priorities.is_empty()
    }

    pub(super) fn chains(&self) -> impl Iterator<Item = &Chain<T>> {
        self.rules.iter()
    }

    /// The rules with just this match.
    pub(super) fn find(&self, mini: &MiniMatch) -> Option<&Chain<T>> {
        self.rules.find(hash_match(self.seed, mini), |c| c.first.mini().has_values_of(mini))
    }

    /// Adds a rule; gives back the one with the same match and priority that it replaces.
    pub(super) fn insert(&mut self, rule: T) -> Option<T> {
        let mini = rule.mini();
        let hash = hash_match(self.seed, mini);
        let priority = rule.priority();
        if let Some(chain) = self.rules.find_mut(hash, |c| c.first.mini().has_values_of(mini)) {
            if let Some(old) = replace(chain, &rule) {
                return Some(old);
            }
            *self.priorities.entry(priority).or_default() += 1;
            add(chain, rule);
            return None;
        }
        *self.priorities.entry(priority).or_default() += 1;
        self.note_stages(mini, 1);
        if let Some(ports) = &mut self.ports {
            ports.trie.insert(ports_in(mini), ports.len);
        }
        let seed = self.seed;
        self.rules.insert_unique(hash, Chain { first: rule, more: None }, |c| hash_match(seed, c.first.mini()));
        None
    }

    /// Removes the rule with this match and priority.
    pub(super) fn remove(&mut self, mini: &MiniMatch, priority: u32) -> Option<T> {
        let hash = hash_match(self.seed, mini);
        let mut entry = self.rules.find_entry(hash, |c| c.first.mini().has_values_of(mini)).ok()?;
        let chain = entry.get_mut();
        let removed = if chain.first.priority() != priority {
            let more = chain.more.as_mut()?;
            let at = more.iter().position(|r| r.priority() == priority)?;
            let removed = more.remove(at);
            chain.more.take_if(|more| more.is_empty());
            removed
        } else if let Some(more) = &mut chain.more {
            let next = more.remove(0);
            chain.more.take_if(|more| more.is_empty());
            std::mem::replace(&mut chain.first, next)
        } else {
            let (chain, _) = entry.remove();
            self.note_stages(mini, -1);
            if let Some(ports) = &mut self.ports {
                ports.trie.remove(ports_in(mini), ports.len);
            }
            chain.first
        };
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
        Some(removed)
    }

    /// Searches for a packet. `stop` is asked before each stage whether the tries rule the subtable out (it notes the bits itself).
    pub(super) fn search(
        &self,
        key: &Key,
        wildcards: Option<&mut Mask>,
        mut stop: impl FnMut(&mut Mask, usize) -> bool,
    ) -> Search<'_, T> {
        let Some(wildcards) = wildcards else {
            return match self.rules.find(self.hash(key), |c| c.first.mini().matches(key)) {
                Some(chain) => Search::Hit(chain),
                None => Search::Miss,
            };
        };
        let mut hash = self.seed;
        for stage in 0..=self.last_stage {
            if self.asks_tries >> stage & 1 != 0 && stop(wildcards, stage) {
                self.unwildcard_before(stage, wildcards);
                return Search::Miss;
            }
            hash = hash_parts(hash, self.mask.stage(stage), key);
            if self.indices[stage].as_ref().is_some_and(|index| !index.has(hash)) {
                self.unwildcard_before(stage + 1, wildcards);
                return Search::Miss;
            }
        }
        if let Some(chain) = self.rules.find(hash, |c| c.first.mini().matches(key)) {
            self.mask.or_into(wildcards);
            return Search::Hit(chain);
        }
        match self.ports.as_ref().and_then(|ports| ports.telling_apart(key)) {
            // No rule has such ports, which a few leading bits of them show.
            Some(bits) => {
                self.unwildcard_before(self.last_stage, wildcards);
                wildcards.or_with(&bits);
            }
            None => self.mask.or_into(wildcards),
        }
        Search::Miss
    }

    /// The bits of the stages before `stage`.
    fn unwildcard_before(&self, stage: usize, wildcards: &mut Mask) {
        for s in 0..stage {
            self.mask.or_stage_into(s, wildcards);
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        hash_all(&self.mask, self.seed, key)
    }

    /// Counts a chain in or out of the stage indices.
    fn note_stages(&mut self, mini: &MiniMatch, by: i32) {
        let mut hash = self.seed;
        for stage in 0..self.last_stage {
            hash = self.mask.stage(stage).iter().fold(hash, |hash, part| mix(hash, mini.value(part)));
            let Some(index) = &mut self.indices[stage] else {
                continue;
            };
            if by > 0 {
                index.add(hash);
            } else {
                index.remove(hash);
            }
        }
    }
}

fn replace<T: Classified>(chain: &mut Chain<T>, rule: &T) -> Option<T> {
    let priority = rule.priority();
    if chain.first.priority() == priority {
        return Some(std::mem::replace(&mut chain.first, rule.clone()));
    }
    let old = chain.more.as_mut()?.iter_mut().find(|r| r.priority() == priority)?;
    Some(std::mem::replace(old, rule.clone()))
}

fn add<T: Classified>(chain: &mut Chain<T>, rule: T) {
    let more = chain.more.get_or_insert_default();
    if rule.priority() > chain.first.priority() {
        let old = std::mem::replace(&mut chain.first, rule);
        more.insert(0, old);
    } else {
        let at = more.iter().position(|r| r.priority() < rule.priority()).unwrap_or(more.len());
        more.insert(at, rule);
    }
}

/// The transport ports of a subtable's chains.
#[derive(Debug)]
struct Ports {
    mask: u32,
    /// Bits up to the last that the mask has.
    len: u8,
    trie: Trie,
}

impl Ports {
    fn new(mask: u32) -> Option<Self> {
        let len = u8::try_from(32 - mask.trailing_zeros()).ok().filter(|len| *len > 0)?;
        Some(Self { mask, len, trie: Trie::new(32) })
    }

    /// The bits that show that no chain has this packet's ports; `None` if one has.
    fn telling_apart(&self, key: &Key) -> Option<Mask> {
        let found = self.trie.lookup(wide(ports_of(key) & self.mask));
        if found.has(self.len) {
            return None;
        }
        let prefix = u32::MAX.checked_shl(32 - u32::from(found.looked_at)).unwrap_or(0);
        let [a, b, c, d] = (self.mask & prefix).to_be_bytes();
        Some(Key { tp_src: [a, b], tp_dst: [c, d], ..Key::ZERO })
    }
}

/// Source and destination port as one number.
fn ports_of(key: &Key) -> u32 {
    u32::from_be_bytes([key.tp_src[0], key.tp_src[1], key.tp_dst[0], key.tp_dst[1]])
}

/// The same of a match, left-aligned in 128 bits.
fn ports_in(mini: &MiniMatch) -> u128 {
    mini.bytes(std::mem::offset_of!(Key, tp_src), 4)
}

const _: () = assert!(std::mem::offset_of!(Key, tp_dst) == std::mem::offset_of!(Key, tp_src) + 2);

/// Left-aligned in 128 bits.
fn wide(ports: u32) -> u128 {
    u128::from(ports) << 96
}

fn hash_all(mask: &MiniMask, seed: u64, key: &Key) -> u64 {
    hash_parts(seed, mask.staged(), key)
}

/// The hash of what a match is about: that of every key it matches.
fn hash_match(seed: u64, mini: &MiniMatch) -> u64 {
    mini.mask().staged().iter().fold(seed, |hash, part| mix(hash, mini.value(part)))
}

/// Goes on hashing with the masked words of one stage.
fn hash_parts(hash: u64, parts: &[Part], key: &Key) -> u64 {
    let words = key.words();
    parts.iter().fold(hash, |hash, part| mix(hash, words[usize::from(part.word)] & part.bits))
}

/// A folded 128-bit product per word, keyed by the seed it began with.
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded.rotate_left(29).wrapping_add(hash)
}

/// The hashes that chains have up to some stage, each with the number of chains. Half of a hash is kept, and is its own hash.
#[derive(Debug, Default)]
struct Index(HashTable<(u32, u32)>);

impl Index {
    /// What is kept of a hash, and what finds it.
    #[allow(clippy::cast_possible_truncation, reason = "a part of a hash")]
    fn half(hash: u64) -> (u32, u64) {
        let half = (hash >> 32) as u32;
        (half, Self::spread(half))
    }

    /// The table takes its place from the lowest bits and its tag from the highest.
    fn spread(half: u32) -> u64 {
        u64::from(half) << 32 | u64::from(half)
    }

    fn has(&self, hash: u64) -> bool {
        let (half, spread) = Self::half(hash);
        self.0.find(spread, |(h, _)| *h == half).is_some()
    }

    fn add(&mut self, hash: u64) {
        let (half, spread) = Self::half(hash);
        match self.0.find_mut(spread, |(h, _)| *h == half) {
            Some((_, chains)) => *chains += 1,
            None => {
                self.0.insert_unique(spread, (half, 1), |(h, _)| Self::spread(*h));
            }
        }
    }

    fn remove(&mut self, hash: u64) {
        let (half, spread) = Self::half(hash);
        if let Ok(mut entry) = self.0.find_entry(spread, |(h, _)| *h == half) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}
