//! One of a bridge's 255 tables: its rules and its settings.
//!
//! What enters: rules (through `flow_mod`), keys to look up. What leaves: the rule that wins, and the bits that decided it.
//! Neighbours: `classifier` (the search), `flow_mod`, `xlate`.

use crate::config::TableConfig;
use openflow::TableId;
use std::sync::atomic::AtomicU64;

/// Tables of a bridge: 0..=253 for users, 254 for the switch itself.
pub const TABLES: usize = 255;
/// The internal table.
pub const INTERNAL: TableId = TableId(254);

/// A table.
#[derive(Debug)]
pub struct Table {
    pub id: TableId,
    pub config: TableConfig,
    /// Lookups since the start, and those that found a rule.
    pub lookups: AtomicU64,
    pub matched: AtomicU64,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(id: TableId) -> Self {
        Self { id, config: TableConfig::default(), lookups: AtomicU64::new(0), matched: AtomicU64::new(0) }
    }
}
