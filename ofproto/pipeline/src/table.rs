//! One of a bridge's 255 tables: its rules and its settings.
//!
//! What enters: rules (through `flow_mod`), keys to look up. What leaves: the rule that wins, and the bits that decided it.
//! Neighbours: `classifier` (the search), `flow_mod`, `xlate`.

use crate::classifier::Classifier;
use crate::config::TableConfig;
use crate::rule::Rule;
use flow::key::{Key, Mask};
use openflow::TableId;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

/// Tables of a bridge: 0..=253 for users, 254 for the switch itself.
pub const TABLES: usize = 255;
/// The internal table.
pub const INTERNAL: TableId = TableId(254);

/// What a table does with packets that match no rule (OFPTC11_TABLE_MISS_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Miss {
    /// As the OpenFlow version of the controllers says: to the controller up to 1.2, drop from 1.3 on.
    #[default]
    Default,
    Controller,
    /// On to the next table.
    Continue,
    Drop,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    pub id: TableId,
    pub config: TableConfig,
    /// What a packet that matches no rule does.
    pub miss: Miss,
    /// The rules. Locked for each lookup alone, never while actions run: `learn` adds rules in the middle of a translation.
    pub rules: RwLock<Classifier<Arc<Rule>>>,
    /// Lookups since the start, and those that found a rule.
    pub lookups: AtomicU64,
    pub matched: AtomicU64,
    /// Rules of the switch itself, which controllers do not see.
    pub hidden: AtomicUsize,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(id: TableId) -> Self {
        Self {
            id,
            config: TableConfig::default(),
            miss: Miss::Default,
            rules: RwLock::default(),
            lookups: AtomicU64::new(0),
            matched: AtomicU64::new(0),
            hidden: AtomicUsize::new(0),
        }
    }

    /// Rules that controllers see.
    #[must_use]
    pub fn visible_rules(&self) -> usize {
        let all = self.rules.read().expect("no holder of a table's rules panics").len();
        all.saturating_sub(self.hidden.load(Ordering::Relaxed))
    }

    /// The rule of highest priority that `key` matches; adds the bits that decided to `wildcards`.
    #[must_use]
    pub fn lookup(&self, key: &Key, wildcards: Option<&mut Mask>) -> Option<Arc<Rule>> {
        self.rules.read().expect("no holder of a table's rules panics").lookup(key, wildcards).cloned()
    }
}
