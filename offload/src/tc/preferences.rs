//! Preferences of filters: one per device and set of masks, counted, and given back with the last filter that has it.
//!
//! A device's table is asked preference by preference. Megaflows do not overlap, so that their order does not matter: where preferences run
//! out, sets of masks of one protocol share one. Ours are high, so that what somebody else puts before them comes first; a driver that
//! numbers no more than 16 gets low ones that nobody else has (decision 0101).

use super::{Hook, matches};
use crate::keys::FlowerKey;
use crate::rule::{Rule, Tag};
use flow::hash::{Map, Set};
use std::ops::RangeInclusive;

/// Preferences that are ours; lower ones are left to others.
pub const PRIO_MIN: u16 = 0x4000;
pub const PRIO_MAX: u16 = 0x7fff;
pub const HIGH: RangeInclusive<u16> = PRIO_MIN..=PRIO_MAX;
/// All that some drivers know of.
pub const LOW: RangeInclusive<u16> = 1..=LOW_MAX;
pub const LOW_MAX: u16 = 16;

/// What a set of filters has in common that share a preference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Masks {
    hook: Hook,
    chain: u32,
    protocol: u16,
    items: Vec<(FlowerKey, u128)>,
    fragment: Option<u32>,
    ct_state: Option<u16>,
    /// Whether id and priority of each tag are matched.
    tags: [Option<(bool, bool)>; 2],
    /// Of a tunnel: id, flags, Geneve options, group policy.
    tunnel: Option<(bool, u16, bool, bool)>,
}

impl Masks {
    pub(super) fn of(hook: Hook, rule: &Rule) -> Self {
        let tag = |t: Option<Tag>| t.map(|t| (t.vid.is_some(), t.pcp.is_some()));
        let tunnel = rule.tunnel.as_ref().map(|t| (t.id.is_some(), t.flags_mask, t.geneve.is_some(), t.gbp.is_some()));
        Self {
            hook,
            chain: rule.chain,
            protocol: matches::protocol(&rule.link),
            items: rule.items.iter().map(|i| (i.key, i.mask)).collect(),
            fragment: rule.fragment.map(|f| f.mask),
            ct_state: rule.ct_state.map(|s| s.mask),
            tags: rule.link.tags.map(tag),
            tunnel,
        }
    }

    /// Where the filters hang.
    pub(super) const fn hook(&self) -> Hook {
        self.hook
    }

    /// `ETH_P_*` of the filters.
    pub(super) const fn protocol(&self) -> u16 {
        self.protocol
    }
}

/// Which are taken, by how many.
#[derive(Debug, Default)]
pub(super) struct Preferences {
    users: Map<Masks, (u16, u32)>,
    /// By how many sets of masks.
    used: Map<(Hook, u16), u32>,
    /// Those that somebody else had when the device was looked at last.
    foreign: Map<Hook, Set<u16>>,
}

impl Preferences {
    /// Somebody else has these.
    pub(super) fn leave(&mut self, hook: Hook, foreign: Set<u16>) {
        self.foreign.insert(hook, foreign);
    }

    /// One of `range` for a filter with these masks; `None` if others' masks have them all.
    pub(super) fn take(&mut self, masks: &Masks, mut range: RangeInclusive<u16>) -> Option<u16> {
        if let Some((prio, users)) = self.users.get_mut(masks) {
            *users += 1;
            return Some(*prio);
        }
        let hook = masks.hook;
        let theirs = |prio: u16| self.foreign.get(&hook).is_some_and(|all| all.contains(&prio));
        let free = range.find(|prio| !self.used.contains_key(&(hook, *prio)) && !theirs(*prio));
        // A preference is of one protocol and chain.
        let alike = |other: &Masks| (other.hook, other.chain, other.protocol) == (hook, masks.chain, masks.protocol);
        let prio = free.or_else(|| self.users.iter().find(|(other, _)| alike(other)).map(|(_, (prio, _))| *prio))?;
        *self.used.entry((hook, prio)).or_default() += 1;
        self.users.insert(masks.clone(), (prio, 1));
        Some(prio)
    }

    /// A filter with these masks is gone.
    pub(super) fn give(&mut self, masks: &Masks) {
        let Some((prio, users)) = self.users.get_mut(masks) else {
            return;
        };
        *users -= 1;
        if *users > 0 {
            return;
        }
        let place = (masks.hook, *prio);
        self.users.remove(masks);
        if let Some(sets) = self.used.get_mut(&place) {
            *sets -= 1;
            if *sets == 0 {
                self.used.remove(&place);
            }
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(ifindex: u32, protocol: u16, bits: u128) -> Masks {
        let items = vec![(FlowerKey::EthDst, bits)];
        let (hook, tags) = (Hook::Ingress { ifindex }, [None, None]);
        Masks { hook, chain: 0, protocol, items, fragment: None, ct_state: None, tags, tunnel: None }
    }

    #[test]
    fn devices_do_not_wait_for_each_other_and_protocols_share_at_the_end() {
        let mut all = Preferences::default();
        all.leave(Hook::Ingress { ifindex: 1 }, [2].into_iter().collect());
        let low = |n: u128| masks(1, 0x0800, n);
        assert_eq!((all.take(&low(1), 1..=4), all.take(&low(2), 1..=4)), (Some(1), Some(3)), "2 is somebody else's");
        assert_eq!((all.take(&low(1), 1..=4), all.take(&masks(2, 0x0806, 1), 1..=4)), (Some(1), Some(1)), "another device");
        assert_eq!(all.take(&masks(1, 0x0806, 1), 1..=4), Some(4));
        let shared = all.take(&low(3), 1..=4);
        assert!(matches!(shared, Some(1 | 3)), "{shared:?}");
        assert_eq!((all.take(&masks(1, 0x86dd, 1), 1..=4), all.taken()), (None, 4));
        for n in [1, 1, 2, 3] {
            all.give(&low(n));
        }
        assert_eq!((all.taken(), all.take(&masks(1, 0x86dd, 1), 1..=4)), (2, Some(1)));
    }
}
