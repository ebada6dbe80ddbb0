//! `bridge/dump-flows`: every rule of a bridge, the switch's own ones too.

use super::Outcome;
use crate::rule::{PRIORITY_MAX, Rule};
use crate::slowpath::Slowpath;
use flow::clock::now_ms;
use flow::matching::Match;
use openflow::text::flow::{RuleText, format_bridge_flow};
use openflow::text::names::Names;
use openflow::types::DEFAULT_PRIORITY;
use std::sync::Arc;

pub(super) fn dump_flows(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (name, options) = args.split_last().ok_or("Unknown bridge")?;
    let offload = options.contains(&"--offload-stats");
    let world = slowpath.read_world();
    let bridge = world.bridge_named(name).ok_or("Unknown bridge")?;
    let mut out = String::new();
    for table in &bridge.tables {
        let mut rules: Vec<Arc<Rule>> =
            table.rules.read().expect("no holder of a table's rules panics").iter().cloned().collect();
        rules.sort_by_key(|r| std::cmp::Reverse(r.priority));
        for rule in rules {
            out += &line(&rule, offload);
            out.push('\n');
        }
    }
    Ok(out)
}

pub(super) fn line(rule: &Rule, offload: bool) -> String {
    let (key, mask) = rule.mini.expand();
    let (packets, bytes) = rule.life.tally.read();
    let shown = RuleText {
        table: rule.table,
        matching: &Match::new(&key, &mask),
        // Those of the switch itself do not fit; they are put in below.
        priority: u16::try_from(rule.priority).unwrap_or(DEFAULT_PRIORITY),
        actions: &rule.actions,
        duration_sec: u64::try_from((now_ms() - rule.life.created_ms) / 1000).unwrap_or(0),
        packets,
        bytes,
    };
    let text = format_bridge_flow(&shown, &Names::default());
    let counted = format!("n_bytes={bytes}, ");
    let mut more = if offload { format!("{counted}n_offload_packets=0, n_offload_bytes=0, ") } else { counted.clone() };
    if rule.priority > PRIORITY_MAX {
        let comma = if text.contains(", ,actions=") { "" } else { "," };
        more += &format!("priority={}{comma}", rule.priority);
    }
    text.replacen(&counted, &more, 1)
}
