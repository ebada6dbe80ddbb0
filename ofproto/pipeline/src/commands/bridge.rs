//! `bridge/dump-flows`: every rule of a bridge, the switch's own ones too.

use super::Outcome;
use crate::bridge::Bridge;
use crate::internal::Own;
use crate::rule::{PRIORITY_MAX, Rule};
use crate::slowpath::Slowpath;
use crate::table::INTERNAL;
use flow::Msec;
use flow::clock::now_ms;
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
            out += &line(bridge, &rule, offload);
            out.push('\n');
        }
    }
    for own in Own::ALL {
        out += &own_line(bridge, own, offload);
        out.push('\n');
    }
    Ok(out)
}

pub(super) fn line(bridge: &Bridge, rule: &Rule, offload: bool) -> String {
    let (packets, bytes) = rule.life.tally.read();
    let text = with_offload(
        &RuleText {
            table: rule.table,
            matching: &rule.matching(bridge),
            // Those of the switch itself do not fit; they are put in below.
            priority: u16::try_from(rule.priority).unwrap_or(DEFAULT_PRIORITY),
            actions: &rule.actions,
            duration_sec: seconds_since(rule.life.created_ms),
            packets,
            bytes,
        },
        offload,
    );
    if rule.priority <= PRIORITY_MAX {
        return text;
    }
    let comma = if text.contains(", ,actions=") { "" } else { "," };
    // What stands last before the match.
    let counted = if offload { "n_offload_bytes=0, ".to_owned() } else { format!("n_bytes={bytes}, ") };
    text.replacen(&counted, &format!("{counted}priority={}{comma}", rule.priority), 1)
}

/// One that the bridge always has.
fn own_line(bridge: &Bridge, own: Own, offload: bool) -> String {
    let (priority, matching) = own.matching();
    let (packets, bytes) = bridge.own_rules.tally(own).read();
    let shown = RuleText {
        table: INTERNAL,
        matching: &matching,
        priority,
        actions: &own.actions_shown(),
        duration_sec: seconds_since(bridge.own_rules.created_ms),
        packets,
        bytes,
    };
    with_offload(&shown, offload)
}

fn with_offload(rule: &RuleText<'_>, offload: bool) -> String {
    let text = format_bridge_flow(rule, &Names::default());
    if !offload {
        return text;
    }
    let counted = format!("n_bytes={}, ", rule.bytes);
    text.replacen(&counted, &format!("{counted}n_offload_packets=0, n_offload_bytes=0, "), 1)
}

fn seconds_since(created_ms: Msec) -> u64 {
    u64::try_from((now_ms() - created_ms) / 1000).unwrap_or(0)
}
