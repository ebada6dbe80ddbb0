//! The text side: ovs-ofctl's syntax of actions, flows, groups, meters and what stands beside them, read and written.
//!
//! What enters: text that people and scripts write, or the abstract forms of `action` and `message`. What leaves: the other of the
//! two, worded and spaced as ovs-ofctl does it, for tests and scripts compare it. Matches are `flow::oftext`'s. Neighbours: `print`
//! makes whole messages readable, `wire` is the other side of the codec.
//!
//! Rooms: `names` translates ports and tables, `number` reads numbers as OVS does, `actions` does actions and instructions, `flow`
//! flows and flow-mods, `entries` lists of NXM and OXM entries, `group`, `meter`, `packet_out` and `tlv` what their names say.

pub mod actions;
pub mod entries;
pub mod error;
pub mod flow;
pub mod group;
pub(crate) mod lines;
pub mod meter;
pub mod names;
pub(crate) mod number;
pub mod packet_out;
pub mod protocols;
pub mod tlv;

pub use actions::{Show, format_action, format_actions, parse_actions, parse_instructions};
pub use error::TextError;
pub use flow::{
    FlowSyntax, ParsedFlow, RuleText, flows_of_file, format_bridge_flow, format_flow_mod, format_flow_stats,
    format_match_priority, format_rule, parse_exact_flow, parse_flow, parse_flow_file,
};
pub use group::{ParsedGroup, format_group_desc, format_group_mod, parse_group, parse_group_file};
pub use meter::{format_meter, format_meter_mod, parse_meter};
pub use names::{Names, NoTableNames, TableNames};
pub use packet_out::parse_packet_out;
pub use protocols::Protocols;
pub use tlv::{format_tlv_table_mod, format_tlv_table_reply, parse_tlv_table_mod};

#[cfg(test)]
mod tests;
