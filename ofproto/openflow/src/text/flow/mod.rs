//! Flows as text: lines of `dump-flows`, rules of a trace, flow-mods.
//!
//! `show` writes, `read` parses.

mod read;
mod show;

pub use read::{FlowSyntax, ParsedFlow, flows_of_file, parse_exact_flow, parse_exact_flow_into, parse_flow, parse_flow_file};
pub(crate) use read::{match_pair, split_actions};
pub use show::{
    RuleText, flag_words, format_bridge_flow, format_duration, format_flow_mod, format_flow_stats, format_match_priority,
    format_rule,
};

#[cfg(test)]
mod tests;
