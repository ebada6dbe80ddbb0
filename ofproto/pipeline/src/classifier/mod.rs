//! The classifier: finds the rule of highest priority that a key matches, and says which bits of the key decided that.
//!
//! # Tuple space search
//!
//! Rules with the same mask stand in one subtable, a hash table over the masked words. A lookup goes through the subtables in order
//! of their highest priority and stops when what it has found cannot be beaten.
//!
//! # Wildcards
//!
//! A lookup that feeds a megaflow adds to `wildcards` every bit that took part in the decision. The property that everything rests on:
//! **any key that agrees with this one in the bits of `wildcards` has the same answer.** Extra bits are only slow (more megaflows);
//! a missing one forwards packets wrongly. Three things keep masks wide:
//!
//! - *Stages.* A subtable is searched by metadata, L2, L3 and L4 bits in turn. When no rule has the metadata seen so far, later
//!   stages need not be matched.
//! - *Prefix tries.* For up to four address fields a trie over all rules tells which prefix lengths can match at all. A subtable
//!   whose length is not among them is skipped, at the cost of the leading bits that the trie looked at - if these are no more than the
//!   subtable would have cost itself.
//! - *Ports.* Where only the transport ports fail in the last stage, a trie over the subtable's ports gives the few leading bits that
//!   tell the packet's from all rules'.
//!
//! # Conjunctions
//!
//! A rule with `conjunction(id, k/n)` actions is *soft*: it matches one dimension of rule `conj_id=id`. A lookup gathers soft
//! matches beside the best hard one; where all n dimensions of an id are there, it looks once more with `conj_id` set
//! (ovs-fields(7), "Conjunctive Match Fields").
//!
//! Changes need `&mut`, lookups `&`: the caller's lock decides who may call when.

mod mini;
mod subtable;
#[cfg(test)]
mod tests;
mod trie;

pub use mini::{Masks, MiniMask, MiniMatch};

use flow::hash::Map;
use flow::key::{Key, Mask};
use std::mem::offset_of;
use std::sync::Arc;
use subtable::{Chain, Search, Subtable};
use trie::{Found, Trie};
use zerocopy::IntoBytes;

/// Tries per classifier.
pub const TRIES_MAX: usize = 4;

/// One `conjunction(id, clause/n)` action; `clause` counts from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conjunction {
    pub id: u32,
    pub clause: u8,
    pub n_clauses: u8,
}

/// What the classifier must know of a rule.
pub trait Classified: Clone {
    /// Its match.
    fn mini(&self) -> &MiniMatch;
    /// Its priority; larger wins.
    fn priority(&self) -> u32;
    /// Its conjunction actions; empty for a rule that matches by itself.
    fn conjunctions(&self) -> &[Conjunction];
}

/// A field that a trie is kept for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrefixField {
    IpSrc,
    IpDst,
    Ipv6Src,
    Ipv6Dst,
    TunId,
    TunSrc,
    TunDst,
    TunIpv6Src,
    TunIpv6Dst,
    CtNwSrc,
    CtNwDst,
    CtIpv6Src,
    CtIpv6Dst,
}

impl PrefixField {
    /// Those that a table has unless told otherwise.
    pub const DEFAULT: &'static [Self] = &[Self::IpDst, Self::IpSrc, Self::Ipv6Dst, Self::Ipv6Src];

    /// By OpenFlow field name, as `Flow_Table.prefixes` has it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "ip_src" | "nw_src" => Self::IpSrc,
            "ip_dst" | "nw_dst" => Self::IpDst,
            "ipv6_src" => Self::Ipv6Src,
            "ipv6_dst" => Self::Ipv6Dst,
            "tun_id" | "tunnel_id" => Self::TunId,
            "tun_src" => Self::TunSrc,
            "tun_dst" => Self::TunDst,
            "tun_ipv6_src" => Self::TunIpv6Src,
            "tun_ipv6_dst" => Self::TunIpv6Dst,
            "ct_nw_src" => Self::CtNwSrc,
            "ct_nw_dst" => Self::CtNwDst,
            "ct_ipv6_src" => Self::CtIpv6Src,
            "ct_ipv6_dst" => Self::CtIpv6Dst,
            _ => return None,
        })
    }

    /// Where in a key it stands.
    fn offset(self) -> usize {
        match self {
            Self::IpSrc => offset_of!(Key, nw_src),
            Self::IpDst => offset_of!(Key, nw_dst),
            Self::Ipv6Src => offset_of!(Key, ipv6_src),
            Self::Ipv6Dst => offset_of!(Key, ipv6_dst),
            Self::TunId => offset_of!(Key, tun_id),
            Self::TunSrc => offset_of!(Key, tun_src),
            Self::TunDst => offset_of!(Key, tun_dst),
            Self::TunIpv6Src => offset_of!(Key, tun_ipv6_src),
            Self::TunIpv6Dst => offset_of!(Key, tun_ipv6_dst),
            Self::CtNwSrc => offset_of!(Key, ct_nw_src),
            Self::CtNwDst => offset_of!(Key, ct_nw_dst),
            Self::CtIpv6Src => offset_of!(Key, ct_ipv6_src),
            Self::CtIpv6Dst => offset_of!(Key, ct_ipv6_dst),
        }
    }

    /// How many bytes it has.
    fn len(self) -> usize {
        usize::from(self.width() / 8)
    }

    /// Stage whose bits the field is among (all are L3 but the tunnel's).
    fn stage(self) -> usize {
        match self {
            Self::TunId | Self::TunSrc | Self::TunDst | Self::TunIpv6Src | Self::TunIpv6Dst => 0,
            Self::IpSrc
            | Self::IpDst
            | Self::Ipv6Src
            | Self::Ipv6Dst
            | Self::CtNwSrc
            | Self::CtNwDst
            | Self::CtIpv6Src
            | Self::CtIpv6Dst => 2,
        }
    }

    fn width(self) -> u8 {
        match self {
            Self::TunId => 64,
            Self::IpSrc | Self::IpDst | Self::TunSrc | Self::TunDst | Self::CtNwSrc | Self::CtNwDst => 32,
            Self::Ipv6Src | Self::Ipv6Dst | Self::TunIpv6Src | Self::TunIpv6Dst | Self::CtIpv6Src | Self::CtIpv6Dst => 128,
        }
    }

    /// The field's value, left-aligned.
    fn value(self, key: &Key) -> u128 {
        let mut wide = [0; 16];
        let bytes = &key.as_bytes()[self.offset()..self.offset() + self.len()];
        wide[..bytes.len()].copy_from_slice(bytes);
        u128::from_be_bytes(wide)
    }

    /// The same of a match.
    fn value_in(self, mini: &MiniMatch) -> u128 {
        mini.bytes(self.offset(), self.len())
    }

    /// Length of the prefix that `mask` is, 0 if it is none.
    fn prefix_len(self, mask: &Mask) -> u8 {
        let bits = self.value(mask);
        #[allow(clippy::cast_possible_truncation, reason = "at most 128")]
        let len = bits.leading_ones() as u8;
        if bits.count_ones() == u32::from(len) { len } else { 0 }
    }

    /// Adds the first `len` bits to `mask`.
    fn or_prefix_into(self, len: u8, mask: &mut Mask) {
        let bits = if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) };
        let bytes = &mut mask.as_mut_bytes()[self.offset()..self.offset() + self.len()];
        for (byte, add) in bytes.iter_mut().zip(bits.to_be_bytes()) {
            *byte |= add;
        }
    }
}

/// Where rules of one mask are.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

/// Rules and the structures that find them.
#[derive(Debug)]
pub struct Classifier<T> {
    subtables: Vec<Option<Subtable<T>>>,
    free: Vec<usize>,
    by_mask: Map<Arc<MiniMask>, usize>,
    /// (highest priority, subtable), highest first.
    order: Vec<(u32, usize)>,
    tries: Vec<(PrefixField, Trie)>,
    rules: usize,
    /// Rules with conjunctions.
    soft_rules: usize,
    seed: u64,
}

impl<T: Classified> Default for Classifier<T> {
    fn default() -> Self {
        Self::new(PrefixField::DEFAULT)
    }
}

impl<T: Classified> Classifier<T> {
    /// An empty classifier with tries for these fields (at most `TRIES_MAX`; more are ignored).
    #[must_use]
    pub fn new(prefixes: &[PrefixField]) -> Self {
        Self {
            subtables: Vec::new(),
            free: Vec::new(),
            by_mask: Map::default(),
            order: Vec::new(),
            tries: prefixes.iter().take(TRIES_MAX).map(|f| (*f, Trie::new(f.width()))).collect(),
            rules: 0,
            soft_rules: 0,
            seed: ahash::RandomState::new().hash_one(0),
        }
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// Replaces the trie fields, keeping all rules.
    pub fn set_prefixes(&mut self, prefixes: &[PrefixField]) {
        if self.tries.iter().map(|(f, _)| f).eq(prefixes.iter().take(TRIES_MAX)) {
            return;
        }
        let rules: Vec<T> = self.iter().cloned().collect();
        *self = Self::new(prefixes);
        for rule in rules {
            self.insert(rule);
        }
    }

    /// The compact form of a match, sharing the mask of a subtable where there is one.
    #[must_use]
    pub fn mini(&self, key: &Key, mask: &Mask) -> MiniMatch {
        MiniMatch::with_mask(key, MiniMask::shared(mask, &self.by_mask))
    }

    /// Adds a rule; gives back the one with the same match and priority that it replaces.
    pub fn insert(&mut self, rule: T) -> Option<T> {
        let at = self.subtable_for(rule.mini().mask());
        self.insert_at(Place(at), rule)
    }

    /// Where rules of this match belong; from here on the match shares its mask with them. Insert one there before any other change.
    pub fn place(&mut self, mini: &mut MiniMatch) -> Place {
        let at = self.subtable_for(mini.mask());
        let table = self.subtables[at].as_ref().expect("subtable_for names a live subtable");
        mini.share(&table.mask);
        Place(at)
    }

    /// Like `insert`, of a rule whose place is known.
    pub fn insert_at(&mut self, place: Place, rule: T) -> Option<T> {
        let Place(at) = place;
        let soft = usize::from(!rule.conjunctions().is_empty());
        let mut values = [0; TRIES_MAX];
        for ((field, _), value) in self.tries.iter().zip(&mut values) {
            *value = field.value_in(rule.mini());
        }
        let table = self.subtables[at].as_mut().expect("subtable_for names a live subtable");
        let before = table.priority_max();
        let old = table.insert(rule);
        let after = table.priority_max();
        self.soft_rules += soft;
        match &old {
            Some(old) => self.soft_rules -= usize::from(!old.conjunctions().is_empty()),
            None => {
                self.rules += 1;
                for (((_, trie), len), value) in self.tries.iter_mut().zip(&table.prefixes).zip(values) {
                    if *len > 0 {
                        trie.insert(value, *len);
                    }
                }
            }
        }
        self.reorder(at, before, after);
        old
    }

    /// Removes the rule with this match and priority.
    pub fn remove(&mut self, mini: &MiniMatch, priority: u32) -> Option<T> {
        let at = *self.by_mask.get(mini.mask())?;
        let table = self.subtables[at].as_mut().expect("by_mask names live subtables");
        let before = table.priority_max();
        let rule = table.remove(mini, priority)?;
        let after = table.priority_max();
        let emptied = table.is_empty();
        self.rules -= 1;
        self.soft_rules -= usize::from(!rule.conjunctions().is_empty());
        for ((field, trie), len) in self.tries.iter_mut().zip(&table.prefixes).filter(|(_, len)| **len > 0) {
            trie.remove(field.value_in(mini), *len);
        }
        self.reorder(at, before, after);
        if emptied {
            self.subtables[at] = None;
            self.by_mask.remove(mini.mask());
            self.free.push(at);
        }
        Some(rule)
    }

    /// The rule with just this match and priority.
    #[must_use]
    pub fn get(&self, mini: &MiniMatch, priority: u32) -> Option<&T> {
        let at = *self.by_mask.get(mini.mask())?;
        self.subtables[at].as_ref()?.find(mini)?.iter().find(|r| r.priority() == priority)
    }

    /// Whether some rule of this priority has a packet in common with `mini`.
    #[must_use]
    pub fn overlaps(&self, mini: &MiniMatch, priority: u32) -> bool {
        self.tables().any(|t| t.chains().flat_map(Chain::iter).any(|r| r.priority() == priority && r.mini().overlaps(mini)))
    }

    /// All rules, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.tables().flat_map(|t| t.chains().flat_map(Chain::iter))
    }

    /// All rules whose match is `target`'s or more specific (what a loose flow-mod or a flow dump selects).
    pub fn iter_within<'a>(&'a self, target: &'a MiniMatch) -> impl Iterator<Item = &'a T> {
        let full = target.mask().expand();
        self.tables()
            .filter(move |t| full.is_subset_of(&t.mask.expand()))
            .flat_map(|t| t.chains())
            .filter(|c| c.first.mini().is_within(target))
            .flat_map(Chain::iter)
    }

    /// The rule of highest priority that `key` matches; adds the bits that decided to `wildcards`. `conj_id` is set in here, never
    /// taken from a packet, so it is none of them.
    #[must_use]
    pub fn lookup(&self, key: &Key, mut wildcards: Option<&mut Mask>) -> Option<&T> {
        let found = self.lookup_all(key, wildcards.as_deref_mut());
        if let Some(wildcards) = wildcards {
            wildcards.conj_id = [0; 4];
        }
        found
    }

    fn lookup_all(&self, key: &Key, mut wildcards: Option<&mut Mask>) -> Option<&T> {
        if self.soft_rules == 0 {
            return self.lookup_from(key, wildcards, None).0;
        }
        let mut below = None;
        loop {
            let (hard, soft) = self.lookup_from(key, wildcards.as_deref_mut(), below);
            let floor = hard.map(Classified::priority);
            let Some(priority) = soft.iter().map(|r| r.priority()).max().filter(|p| floor.is_none_or(|f| *p > f)) else {
                return hard;
            };
            if let Some(found) = self.conjunction(key, &soft, priority, wildcards.as_deref_mut()) {
                return Some(found);
            }
            // No conjunction of this priority is complete: look again among lower ones.
            if priority == 0 {
                return hard;
            }
            below = Some(priority);
        }
    }

    /// The best hard rule below a priority, and every soft rule below it that could beat it.
    fn lookup_from<'a>(&'a self, key: &Key, mut wildcards: Option<&mut Mask>, below: Option<u32>) -> (Option<&'a T>, Vec<&'a T>) {
        let mut best: Option<&T> = None;
        let mut soft = Vec::new();
        let mut found: [Option<Found>; TRIES_MAX] = [None; TRIES_MAX];
        for (max, at) in &self.order {
            if best.is_some_and(|b| b.priority() >= *max) {
                break;
            }
            let table = self.subtables[*at].as_ref().expect("order names live subtables");
            let stop = |wildcards: &mut Mask, stage: usize| self.ruled_out(table, key, stage, &mut found, wildcards);
            let Search::Hit(chain) = table.search(key, wildcards.as_deref_mut(), stop) else {
                continue;
            };
            for rule in chain.iter().filter(|r| below.is_none_or(|b| r.priority() < b)) {
                if best.is_some_and(|b| b.priority() >= rule.priority()) {
                    break;
                }
                if rule.conjunctions().is_empty() {
                    best = Some(rule);
                    break;
                }
                soft.push(rule);
            }
        }
        (best, soft)
    }

    /// Whether the tries show, with the fields of this stage, that no rule of the subtable can match.
    fn ruled_out(
        &self,
        table: &Subtable<T>,
        key: &Key,
        stage: usize,
        found: &mut [Option<Found>; TRIES_MAX],
        wildcards: &mut Mask,
    ) -> bool {
        for (i, (field, trie)) in self.tries.iter().enumerate() {
            let len = table.prefixes[i];
            if len == 0 || field.stage() != stage {
                continue;
            }
            let found = found[i].get_or_insert_with(|| trie.lookup(field.value(key)));
            if !found.has(len) && found.looked_at <= len {
                field.or_prefix_into(found.looked_at, wildcards);
                return true;
            }
        }
        false
    }

    /// The soft rules by which `key` comes to the rule of a `conj_id`: those of the highest priority that has all its clauses. Looks at
    /// every rule; for traces.
    #[must_use]
    pub fn conjunctive(&self, key: &Key, id: u32) -> Vec<&T> {
        let names_it = |rule: &&T| rule.conjunctions().iter().any(|c| c.id == id) && rule.mini().matches(key);
        let mut soft: Vec<&T> = self.iter().filter(names_it).collect();
        soft.sort_by_key(|rule| std::cmp::Reverse(rule.priority()));
        let is_complete = |same: &&[&T]| {
            let clauses = || same.iter().flat_map(|rule| rule.conjunctions()).filter(|c| c.id == id);
            let have = clauses().fold(0u64, |have, c| have | 1 << c.clause);
            clauses().any(|c| have.count_ones() == u32::from(c.n_clauses))
        };
        soft.chunk_by(|a, b| a.priority() == b.priority()).find(is_complete).map(<[&T]>::to_vec).unwrap_or_default()
    }

    /// Completes a conjunction among the soft rules of one priority.
    fn conjunction(&self, key: &Key, soft: &[&T], priority: u32, mut wildcards: Option<&mut Mask>) -> Option<&T> {
        let mut clauses: Vec<(u32, u8, u64)> = Vec::new();
        for c in soft.iter().filter(|r| r.priority() == priority).flat_map(|r| r.conjunctions()) {
            match clauses.iter_mut().find(|(id, n, _)| *id == c.id && *n == c.n_clauses) {
                Some((_, _, have)) => *have |= 1 << c.clause,
                None => clauses.push((c.id, c.n_clauses, 1 << c.clause)),
            }
        }
        // Of several that are complete the one with the lowest id wins.
        clauses.sort_unstable();
        for (id, n, have) in clauses {
            if have.count_ones() != u32::from(n) {
                continue;
            }
            let with_id = Key { conj_id: id.to_be_bytes(), ..*key };
            let (hard, _) = self.lookup_from(&with_id, wildcards.as_deref_mut(), None);
            if let Some(rule) = hard.filter(|r| r.mini().mask().has_conj_id()) {
                return Some(rule);
            }
        }
        None
    }

    fn tables(&self) -> impl Iterator<Item = &Subtable<T>> {
        self.subtables.iter().flatten()
    }

    /// The subtable for a mask, made if there is none.
    fn subtable_for(&mut self, mask: &Arc<MiniMask>) -> usize {
        if let Some(at) = self.by_mask.get(mask) {
            return *at;
        }
        let full = mask.expand();
        let (mut prefixes, mut asks_tries) = ([0; TRIES_MAX], 0);
        for ((field, _), len) in self.tries.iter().zip(&mut prefixes) {
            *len = field.prefix_len(&full);
            if *len > 0 {
                asks_tries |= 1 << field.stage();
            }
        }
        let table = Subtable::new(Arc::clone(mask), prefixes, asks_tries, self.seed);
        let at = if let Some(at) = self.free.pop() {
            self.subtables[at] = Some(table);
            at
        } else {
            self.subtables.push(Some(table));
            self.subtables.len() - 1
        };
        self.by_mask.insert(Arc::clone(mask), at);
        at
    }

    /// Moves a subtable to its place after its highest priority changed (`None`: it has no rules): behind those of the same priority, so
    /// that of overlapping rules of one priority, of which OpenFlow leaves open which wins, the first one added does, as in OVS.
    fn reorder(&mut self, at: usize, before: Option<u32>, after: Option<u32>) {
        if before == after {
            return;
        }
        if before.is_some() {
            let i = self.order.iter().position(|(_, t)| *t == at).expect("a subtable with rules is in order");
            self.order.remove(i);
        }
        if let Some(max) = after {
            let i = self.order.partition_point(|(p, _)| *p >= max);
            self.order.insert(i, (max, at));
        }
    }
}
