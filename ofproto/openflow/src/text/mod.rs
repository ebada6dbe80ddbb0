//! The text side: ovs-ofctl's syntax of actions, flows, groups, meters and what stands beside them, read and written.
//!
//! What enters: text that people and scripts write, or the abstract forms of `action` and `message`. What leaves: the other of the
//! two, worded and spaced as ovs-ofctl does it, for tests and scripts compare it. Matches are `flow::oftext`'s. Neighbours: `print`
//! makes whole messages readable, `wire` is the other side of the codec.
//!
//! Rooms: `names` translates ports and tables, `number` reads numbers as OVS does, `actions` does actions and instructions, `flow`
//! flows and flow-mods, `group`, `meter`, `packet_out` and `tlv` what their names say.

pub mod actions;
pub mod flow;
pub mod names;
pub(crate) mod number;
pub mod error;
pub mod protocols;

pub use actions::{Show, format_action, format_actions};
pub use flow::{RuleText, format_bridge_flow, format_flow_stats, format_match_priority, format_rule};
pub use error::TextError;
pub use protocols::Protocols;
pub use names::{Names, NoTableNames, TableNames};
