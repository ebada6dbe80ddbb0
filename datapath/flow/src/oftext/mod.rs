//! OpenFlow matches and fields as text: the syntax of ovs-ofctl (ovs-fields(7)).
//!
//! What enters: text, or a `Match`. What leaves: the other of the two. Neighbours: `value` reads and writes one field's value,
//! `write` prints a match, `read` parses one, `packet` says which fields of a packet are shown; `openflow` adds what is not a match (priority, table, cookie, actions).
//!
//! Text is forgiving where the wire is not: values lose bits that their field does not have, and prerequisites are not asked for
//! (`Match::normalize` drops what lacks them, `Match::meets` tells).

mod packet;
mod read;
mod value;
mod write;

pub use packet::{format_packet, format_packet_with};
pub use read::{KeyValues, MatchTextError, Subfield, parse_into, parse_match, parse_match_with};
pub use value::{FieldTextError, format_port, format_value, parse_port, parse_value};
pub use write::{format_match, format_match_with};

#[cfg(test)]
mod tests;
