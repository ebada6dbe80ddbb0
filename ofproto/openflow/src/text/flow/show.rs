//! Writes flows as OVS does: each place has its own order and separators.

use crate::action::OfAction;
use crate::message::{FlowMod, FlowModCommand, FlowStatsEntry, flow_mod_flags};
use crate::text::Names;
use crate::text::actions::Show;
use crate::types::{DEFAULT_PRIORITY, NO_BUFFER, OfPort, TableId, Version};
use flow::Match;
use flow::oftext::format_match_with;
use std::fmt::Write;

/// Seconds with as many decimals as are needed: none, milliseconds, or all that count.
#[must_use]
pub fn format_duration(sec: u32, nsec: u32) -> String {
    match nsec {
        0 => format!("{sec}s"),
        n if n % 1_000_000 != 0 => format!("{sec}.{}s", format!("{n:09}").trim_end_matches('0')),
        n => format!("{sec}.{:03}s", n / 1_000_000),
    }
}

/// A match with its priority in front, unless it is the default one: `priority=5,ip`.
#[must_use]
pub fn format_match_priority(matching: &Match, priority: u16, names: &Names<'_>) -> String {
    let text = format_match_with(matching, names.ports);
    match (priority, text.is_empty()) {
        (DEFAULT_PRIORITY, _) => text,
        (p, true) => format!("priority={p}"),
        (p, false) => format!("priority={p},{text}"),
    }
}

/// Words of flow-mod flags, each with a space behind it.
#[must_use]
pub fn flag_words(flags: u16) -> String {
    const WORDS: [(u16, &str); 5] = [
        (flow_mod_flags::SEND_FLOW_REM, "send_flow_rem "),
        (flow_mod_flags::CHECK_OVERLAP, "check_overlap "),
        (flow_mod_flags::RESET_COUNTS, "reset_counts "),
        (flow_mod_flags::NO_PKT_COUNTS, "no_packet_counts "),
        (flow_mod_flags::NO_BYT_COUNTS, "no_byte_counts "),
    ];
    WORDS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect()
}

/// A line of `ovs-ofctl dump-flows`, without the space that stands before it; without statistics as `--no-stats` has it.
#[must_use]
pub fn format_flow_stats(flow: &FlowStatsEntry, stats: bool, names: &Names<'_>) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: String| {
        write!(out, "{name}={value}, ").expect("writing to a string cannot fail");
    };
    let count = |n: u64| if n == u64::MAX { "?".to_owned() } else { n.to_string() };
    if stats || flow.cookie != 0 {
        put("cookie", format!("{:#x}", flow.cookie));
    }
    if stats {
        put("duration", format_duration(flow.duration_sec, flow.duration_nsec));
    }
    if stats || flow.table.0 != 0 || names.tables.name(flow.table).is_some() {
        put("table", names.table(flow.table));
    }
    if stats {
        put("n_packets", count(flow.packets));
        put("n_bytes", count(flow.bytes));
    }
    if flow.idle_timeout != 0 {
        put("idle_timeout", flow.idle_timeout.to_string());
    }
    if flow.hard_timeout != 0 {
        put("hard_timeout", flow.hard_timeout.to_string());
    }
    out.push_str(&flag_words(flow.flags));
    let mut put = |name: &str, value: i64| {
        write!(out, "{name}={value}, ").expect("writing to a string cannot fail");
    };
    if flow.importance != 0 {
        put("importance", flow.importance.into());
    }
    if stats && flow.idle_age >= 0 {
        put("idle_age", flow.idle_age.into());
    }
    if stats && flow.hard_age >= 0 && i64::from(flow.hard_age) != i64::from(flow.duration_sec) {
        put("hard_age", flow.hard_age.into());
    }
    let matching = format_match_priority(&flow.matching, flow.priority, names);
    let space = if matching.is_empty() { "" } else { " " };
    out + &format!("{matching}{space}actions={}", Show(&flow.actions[..], names))
}

/// What of a rule `bridge/dump-flows` shows.
#[derive(Clone, Copy, Debug)]
pub struct RuleText<'a> {
    pub table: TableId,
    pub matching: &'a Match,
    pub priority: u16,
    pub actions: &'a [OfAction],
    pub duration_sec: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// A line of `bridge/dump-flows`.
#[must_use]
pub fn format_bridge_flow(rule: &RuleText<'_>, names: &Names<'_>) -> String {
    let table = if rule.table.0 == 0 { String::new() } else { format!("table_id={}, ", rule.table.0) };
    let matching = format_match_priority(rule.matching, rule.priority, names);
    let (duration, packets, bytes) = (rule.duration_sec, rule.packets, rule.bytes);
    format!("{table}duration={duration}s, n_packets={packets}, n_bytes={bytes}, {matching},actions={}", Show(rule.actions, names))
}

/// A rule as a trace names it: `in_port=1,ip, priority 5, cookie 0x1`.
#[must_use]
pub fn format_rule(matching: &Match, priority: u16, cookie: u64, names: &Names<'_>) -> String {
    let mut out = format_match_with(matching, names.ports);
    if !out.is_empty() {
        out.push_str(", ");
    }
    out.push_str(&format!("priority {priority}"));
    if cookie != 0 {
        out.push_str(&format!(", cookie {cookie:#x}"));
    }
    out
}

/// A flow-mod as the log and `ofp-print` show it, from the command on: `ADD table:1 priority=5,ip actions=drop`.
#[must_use]
pub fn format_flow_mod(flow: &FlowMod, version: Version, names: &Names<'_>) -> String {
    let mut out = match flow.command {
        FlowModCommand::Add => "ADD",
        FlowModCommand::Modify => "MOD",
        FlowModCommand::ModifyStrict => "MOD_STRICT",
        FlowModCommand::Delete => "DEL",
        FlowModCommand::DeleteStrict => "DEL_STRICT",
    }
    .to_owned();
    if flow.table.0 != 0 || names.tables.name(flow.table).is_some() {
        out.push_str(&format!(" table:{}", names.table(flow.table)));
    }
    let matching = format_match_priority(&flow.matching, flow.priority, names);
    let mut parts = vec![matching];
    if flow.new_cookie != 0 && flow.new_cookie != u64::MAX {
        parts.push(format!("cookie:{:#x}", flow.new_cookie));
    }
    if flow.cookie_mask != 0 {
        parts.push(format!("cookie:{:#x}/{:#x}", flow.cookie, flow.cookie_mask));
    }
    for (name, value) in [("idle", flow.idle_timeout), ("hard", flow.hard_timeout), ("importance", flow.importance)] {
        if value != 0 {
            parts.push(format!("{name}:{value}"));
        }
    }
    if flow.buffer_id != NO_BUFFER {
        parts.push(format!("buf:{:#x}", flow.buffer_id));
    }
    if flow.out_port != OfPort::ANY {
        parts.push(format!("out_port:{}", names.port(flow.out_port)));
    }
    parts.retain(|p| !p.is_empty());
    // OpenFlow 1.0 and 1.1 reset counters without a flag that says so.
    let hidden = if version <= Version::V11 { flow_mod_flags::RESET_COUNTS } else { 0 };
    out.push(' ');
    for part in parts {
        out.push_str(&part);
        out.push(' ');
    }
    out.push_str(&flag_words(flow.flags & !hidden));
    out + &format!("actions={}", Show(&flow.actions[..], names))
}
