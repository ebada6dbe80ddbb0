//! Preferences of filters: one per set of masks, counted, and given back with the last filter that has it.
//!
//! A device's table is asked preference by preference, each a table of one set of masks. Megaflows do not overlap, so that their order
//! does not matter; sharing keeps the walk short.

use super::{Hook, matches};
use crate::keys::FlowerKey;
use crate::rule::{Rule, Tag};
use flow::hash::{Map, Set};

/// Preferences that are ours; lower ones are left to others.
pub const PRIO_MIN: u16 = 0x4000;
pub const PRIO_MAX: u16 = 0x7fff;

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

    /// `ETH_P_*` of the filters.
    pub(super) const fn protocol(&self) -> u16 {
        self.protocol
    }
}

/// Which are taken, by how many.
#[derive(Debug, Default)]
pub(super) struct Preferences {
    users: Map<Masks, (u16, u32)>,
    used: Set<u16>,
}

impl Preferences {
    /// One for a filter with these masks; `None` if all are taken.
    pub(super) fn take(&mut self, masks: &Masks) -> Option<u16> {
        if let Some((prio, users)) = self.users.get_mut(masks) {
            *users += 1;
            return Some(*prio);
        }
        let prio = (PRIO_MIN..=PRIO_MAX).find(|p| !self.used.contains(p))?;
        self.used.insert(prio);
        self.users.insert(masks.clone(), (prio, 1));
        Some(prio)
    }

    /// A filter with these masks is gone.
    pub(super) fn give(&mut self, masks: &Masks) {
        let Some((prio, users)) = self.users.get_mut(masks) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.used.remove(prio);
            self.users.remove(masks);
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.used.len()
    }
}
