//! Flows as text: lines of `dump-flows`, rules of a trace, flow-mods.
//!
//! `show` writes.

mod show;

pub use show::{
    RuleText, flag_words, format_bridge_flow, format_duration, format_flow_mod, format_flow_stats, format_match_priority, format_rule,
};
