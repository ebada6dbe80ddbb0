//! Ports and tables by number or name.
//!
//! What enters: a switch's names as two closed boxes. What leaves: text of a port or table, and back. `Names::default()` knows none.

use crate::types::{OfPort, TableId};
use flow::forms::{NoNames, PortNames};
use flow::oftext;
use std::fmt;

/// Translates between table numbers and names, in both directions.
pub trait TableNames {
    /// The name of a table.
    fn name(&self, table: TableId) -> Option<String>;
    /// The table of a name.
    fn number(&self, name: &str) -> Option<TableId>;
}

/// No table has a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTableNames;

impl TableNames for NoTableNames {
    fn name(&self, _table: TableId) -> Option<String> {
        None
    }

    fn number(&self, _name: &str) -> Option<TableId> {
        None
    }
}

/// What ports and tables are called. Port numbers of `ports` are OVS's 16-bit ones.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub ports: &'a dyn PortNames,
    pub tables: &'a dyn TableNames,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self { ports: &NoNames, tables: &NoTableNames }
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Names<'_> {
    /// A port: reserved name, name, or number.
    #[must_use]
    pub fn port(&self, port: OfPort) -> String {
        oftext::format_port(port.0 & 0xffff, self.ports)
    }

    /// A table: name or number.
    #[must_use]
    pub fn table(&self, table: TableId) -> String {
        self.tables.name(table).map_or_else(|| table.0.to_string(), |name| quoted(&name))
    }

    /// The port that a text names.
    #[must_use]
    pub fn parse_port(&self, text: &str) -> Option<OfPort> {
        let port = oftext::parse_port(text, self.ports)?;
        Some(OfPort(if port < OfPort::REAL_MAX { port } else { port | 0xffff_0000 }))
    }

    /// The table that a text names.
    #[must_use]
    pub fn parse_table(&self, text: &str) -> Option<TableId> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().ok().map(TableId);
        }
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        self.tables.number(bare.unwrap_or(text))
    }
}

/// A name as OVS shows it: bare when it is a plain word, else as a JSON string.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if plain { name.to_owned() } else { json_string(name) }
}

/// A text as a JSON string (RFC 8259 section 7).
pub(crate) fn json_string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
