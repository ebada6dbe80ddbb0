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

#[cfg(test)]
mod tests {
    use crate::flow_mod::{Journal, LearnedRule, learn};
    use crate::scenario::{Scenario, config};
    use flow::{Key, Mask, Msec};
    use openflow::action::{Learn, OfAction};
    use openflow::{OfPort, TableId};

    #[test]
    fn an_earlier_packet_takes_nothing_back() {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2"]));
        let spec = Learn {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: 1,
            table: TableId(0),
            cookie: 0x123,
            flags: 0,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            limit: 0,
            result_dst: None,
            specs: Vec::new(),
            second: false,
        };
        let teach = |port: u32, seen: Msec| {
            let world = s.slowpath.read_world();
            let actions = vec![OfAction::Output { port: OfPort(port), max_len: 0 }];
            let (key, mask): (Key, Mask) = (Key::ZERO, Key::ZERO);
            let rule = LearnedRule { learn: &spec, key: &key, mask: &mask, actions: &actions };
            learn(&world, world.bridge_named("br0").unwrap().id, &rule, seen, &mut Journal::default()).unwrap();
        };
        // What is refreshed and then taken back leaves no trace: nobody looks at megaflows again for it.
        teach(1, 10);
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap();
        let of_table = &bridge.tables[0];
        let modified_ms =
            || crate::flow_mod::rules_of(of_table, |_| true)[0].life.modified_ms.load(std::sync::atomic::Ordering::Relaxed);
        let actions = vec![OfAction::Output { port: OfPort(1), max_len: 0 }];
        let again = LearnedRule { learn: &spec, key: &Key::ZERO, mask: &Key::ZERO, actions: &actions };
        let (mut journal, noted) = (Journal::default(), world.changes.now());
        learn(&world, bridge.id, &again, 20, &mut journal).unwrap();
        assert_eq!((journal.changes.len(), modified_ms()), (1, 20));
        journal.revert(&world);
        assert_eq!((modified_ms(), world.changes.now()), (10, noted));
        drop(world);
        let learned = || s.run_command("bridge/dump-flows", &["br0"]).unwrap();
        teach(1, 100);
        teach(2, 50);
        assert!(learned().contains("actions=output:1"), "{}", learned());
        teach(2, 150);
        assert!(learned().contains("actions=output:2"), "{}", learned());
    }
}
