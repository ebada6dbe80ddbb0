//! The rules that a translation has learned and not made yet.
//!
//! What enters: rules, in the order in which the pipeline learns them. What leaves: those to make, and how many more rules there will be
//! then, which limits of `learn` ask for. Neighbour: `learn`.

use super::learn::Learned;
use crate::world::BridgeId;
use flow::hash::{Map, Set};
use openflow::TableId;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PendingRules {
    rules: Vec<Arc<Learned>>,
    /// The last rule of each place.
    places: Set<InPlace>,
    /// How many more rules of a cookie a table will have; fewer, where others take their places.
    more: Map<(BridgeId, TableId, u64), i64>,
}

impl PendingRules {
    /// The last rule in the place of this one.
    pub(super) fn in_place_of(&self, learned: &Arc<Learned>) -> Option<&Arc<Learned>> {
        // Most translations learn once.
        if self.rules.is_empty() { None } else { self.places.get(&InPlace(Arc::clone(learned))).map(|last| &last.0) }
    }

    /// How many more rules of this one's cookie there will be in its table.
    pub(super) fn more_beside(&self, learned: &Learned) -> i64 {
        self.more.get(&(learned.bridge, learned.learn.table, learned.learn.cookie)).copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Adds a rule, in the place of one of the cookie `old` if there is one.
    pub(super) fn push(&mut self, learned: Arc<Learned>, old: Option<u64>) {
        let (bridge, table, cookie) = (learned.bridge, learned.learn.table, learned.learn.cookie);
        *self.more.entry((bridge, table, cookie)).or_default() += 1;
        if let Some(old) = old {
            *self.more.entry((bridge, table, old)).or_default() -= 1;
        }
        self.places.replace(InPlace(Arc::clone(&learned)));
        self.rules.push(learned);
    }

    /// Takes out what is to be made, in order.
    pub(super) fn take(&mut self) -> Vec<Arc<Learned>> {
        std::mem::take(self).rules
    }
}

/// A rule, compared by where it goes: table, priority and match.
#[derive(Debug)]
struct InPlace(Arc<Learned>);

impl PartialEq for InPlace {
    fn eq(&self, other: &Self) -> bool {
        let place = |l: &Learned| (l.bridge, l.learn.table, l.learn.priority);
        let (a, b) = (&*self.0, &*other.0);
        place(a) == place(b) && a.key == b.key && a.mask == b.mask
    }
}

impl Eq for InPlace {}

impl Hash for InPlace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.bridge, self.0.learn.table, self.0.learn.priority).hash(state);
        self.0.key.words().hash(state);
        self.0.mask.words().hash(state);
    }
}
