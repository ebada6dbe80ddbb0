//! `learn(...,delete_learned)`: rules that go when the last rule that could have learned them goes.
//!
//! What enters: a rule that has left its table, or was replaced. What leaves: removals in the journal. Neighbours: `flow_mod`.

use crate::bridge::Bridge;
use crate::flow_mod::{Journal, deletes_learned, remove, removed, rules_of};
use crate::rule::Rule;
use crate::world::World;
use openflow::TableId;
use openflow::action::OfAction;
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

#[cfg(test)]
mod tests {
    use crate::flow_mod::{Journal, LearnedRule, learn, rules_of};
    use crate::scenario::{Scenario, config};
    use crate::world::World;
    use flow::{Key, Mask, Msec};
    use openflow::action::{Learn, OfAction};
    use openflow::{OfPort, TableId};
    use std::sync::atomic::Ordering;

    /// A packet seen at `seen` has taught a rule that sends to this port.
    fn teach(world: &World, port: u32, seen: Msec, journal: &mut Journal) {
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
        let actions = vec![OfAction::Output { port: OfPort(port), max_len: 0 }];
        let rule = LearnedRule { learn: &spec, key: &Key::ZERO, mask: &Mask::ZERO, actions: &actions };
        learn(world, world.bridge_named("br0").unwrap().id, &rule, seen, journal).unwrap();
    }

    #[test]
    fn an_earlier_packet_takes_nothing_back() {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2"]));
        let teach = |port, seen| teach(&s.slowpath.read_world(), port, seen, &mut Journal::default());
        let learned = || s.run_command("bridge/dump-flows", &["br0"]).unwrap();
        teach(1, 100);
        teach(2, 50);
        assert!(learned().contains("actions=output:1"), "{}", learned());
        teach(2, 150);
        assert!(learned().contains("actions=output:2"), "{}", learned());
    }

    /// What is refreshed and then taken back leaves no trace: nobody looks at megaflows again for it.
    #[test]
    fn what_was_only_refreshed_is_taken_back_without_a_trace() {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2"]));
        let world = s.slowpath.read_world();
        teach(&world, 1, 10, &mut Journal::default());
        let of_table = &world.bridge_named("br0").unwrap().tables[0];
        let modified_ms = || rules_of(of_table, |_| true)[0].life.modified_ms.load(Ordering::Relaxed);
        let (mut journal, noted) = (Journal::default(), world.changes.now());
        teach(&world, 1, 20, &mut journal);
        assert_eq!((journal.changes.len(), modified_ms()), (1, 20));
        journal.revert(&world);
        assert_eq!((modified_ms(), world.changes.now()), (10, noted));
    }
}
