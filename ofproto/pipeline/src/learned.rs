//! `learn(...,delete_learned)`: rules that go when the last rule that could have learned them goes.
//!
//! What enters: a rule that has left its table, or was replaced. What leaves: removals in the journal. Neighbours: `flow_mod`.

use crate::bridge::Bridge;
use crate::flow_mod::{Journal, deletes_learned, remove, removed};
use crate::rule::Rule;
use crate::world::World;
use openflow::TableId;
use openflow::action::OfAction;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where rules are learned that go with their teacher: table and cookie.
fn taught(actions: &[OfAction]) -> Vec<(TableId, u64)> {
    let mut out = Vec::new();
    let Ok(()) = OfAction::try_each(actions, &mut |action| {
        if let OfAction::Learn(learn) = action
            && deletes_learned(learn)
        {
            out.push((learn.table, learn.cookie));
        }
        Ok::<(), std::convert::Infallible>(())
    });
    out
}

/// Removes what `gone` has taught, unless another rule of the bridge teaches the same.
pub(crate) fn forget(world: &World, bridge: &Bridge, gone: &Rule, journal: &mut Journal) {
    for (table, cookie) in taught(&gone.actions) {
        let still_taught = |rule: &Rule| taught(&rule.actions).contains(&(table, cookie));
        if bridge.tables.iter().any(|t| !rules_of(t, still_taught).is_empty()) {
            continue;
        }
        let Some(of_table) = bridge.tables.get(usize::from(table.0)) else { continue };
        for rule in rules_of(of_table, |r| !r.is_hidden() && r.cookie.load(Ordering::Relaxed) == cookie) {
            remove(world, bridge, &rule, removed::DELETE, journal);
        }
    }
}

fn rules_of(table: &crate::table::Table, wanted: impl Fn(&Rule) -> bool) -> Vec<Arc<Rule>> {
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    rules.iter().filter(|r| wanted(r)).cloned().collect()
}
