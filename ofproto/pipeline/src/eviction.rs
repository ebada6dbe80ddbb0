//! Full tables: which rule goes so that another can come (`Flow_Table.overflow_policy`, OFPTC_EVICTION).
//!
//! What enters: a table with a limit. What leaves: rules removed with the reason "evicted", or TABLE_FULL. Neighbours: `flow_mod`,
//! `slowpath` (a limit that shrinks).
//!
//! Rules are divided into groups by the fields that `Flow_Table.groups` names; the largest group gives up a rule, so that one party
//! cannot crowd out the others. Within a group the least important goes first (OpenFlow 1.4, `importance`), then the one that would
//! expire first. A rule without any timeout is never evicted.

use crate::bridge::Bridge;
use crate::flow_mod::{Journal, remove, removed, rules_of};
use crate::rule::Rule;
use crate::table::Table;
use crate::world::World;
use flow::Msec;
use flow::fields::Value;
use flow::hash::Map;
use flow::oftext::Subfield;
use openflow::OfError;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

flow::counters! {
    FLOWS_EVICTED = "ofproto_flows_evicted", "rules evicted because their table was full";
    TABLE_FULL = "ofproto_table_full", "rules refused because their table was full";
}

/// Makes room for one rule: evicts where the table is told to, or refuses.
pub(crate) fn make_room(world: &World, table: &Table, journal: &mut Journal) -> Result<(), OfError> {
    let Some(limit) = table.config.flow_limit else { return Ok(()) };
    if visible(table) < limit {
        return Ok(());
    }
    let victim = if table.is_evicting() { choose_victim(table) } else { None };
    let Some(victim) = victim else {
        TABLE_FULL.inc();
        return Err(OfError::OfpfmfcTableFull);
    };
    FLOWS_EVICTED.inc();
    if let Some(bridge) = world.bridges.get(&victim.bridge) {
        remove(world, bridge, &victim, removed::EVICTION, journal);
    }
    Ok(())
}

/// Evicts what a table has above its limit, as far as rules may be evicted.
pub(crate) fn shrink(world: &World, bridge: &Bridge, table: &Table, journal: &mut Journal) {
    let Some(limit) = table.config.flow_limit.filter(|_| table.is_evicting()) else { return };
    let above = visible(table).saturating_sub(limit);
    for _ in 0..above {
        let Some(victim) = choose_victim(table) else { return };
        FLOWS_EVICTED.inc();
        remove(world, bridge, &victim, removed::EVICTION, journal);
    }
}

/// Rules of controllers. Those of the switch itself do not count, and stand in table 0 only.
fn visible(table: &Table) -> usize {
    if table.id.0 == 0 { rules_of(table, |r| !r.is_hidden()).len() } else { table.len() }
}

fn choose_victim(table: &Table) -> Option<Arc<Rule>> {
    let candidates = rules_of(table, |r| r.timeouts_s() != (0, 0) && !r.is_hidden());
    let parts: Vec<Subfield> = table.config.groups.iter().filter_map(|g| Some(Subfield::parse(g).ok()?.0)).collect();
    let group_of = |rule: &Rule| -> Vec<u128> {
        let (key, _) = rule.mini.expand();
        parts.iter().map(|p| p.field.get(&key) >> p.start & Value::ones(usize::from(p.bits)).low()).collect()
    };
    let mut sizes: Map<Vec<u128>, usize> = Map::default();
    for rule in &candidates {
        *sizes.entry(group_of(rule)).or_default() += 1;
    }
    candidates.into_iter().min_by_key(|r| {
        let size = sizes.get(&group_of(r)).copied().unwrap_or(0);
        (Reverse(size), r.importance, expires_ms(r))
    })
}

fn expires_ms(rule: &Rule) -> Msec {
    let (idle_s, hard_s) = rule.timeouts_s();
    let at = |since: &AtomicI64, timeout_s: u16| {
        if timeout_s == 0 { Msec::MAX } else { since.load(Ordering::Relaxed) + i64::from(timeout_s) * 1000 }
    };
    at(&rule.life.used_ms, idle_s).min(at(&rule.life.modified_ms, hard_s))
}
