//! Datapath flows as text, as `dpctl/dump-flows` writes them and `dpctl/add-flow` reads them.
//!
//! What enters: keys and masks whose `in_port` is a datapath port, or text. What leaves: the other of the two. Neighbours:
//! `attrs` is the table of attributes, `write`, `read` and `tunnel` loop over it; `action_text` builds `set(...)` upon this room.
//!
//! # The forms
//!
//! - `format_key`: no mask; every attribute of the packet's key, zeros too. Logs of upcalls have it.
//! - `format_flow`, terse: attributes of which something is matched.
//! - `format_flow`, verbose (`-m`): every attribute, with `/0` where nothing is matched.
//!
//! In text, an attribute is there or it is not; a `Key` has zeros instead. Which attributes a key has follows from its values:
//! the tunnel from its addresses, transport headers from protocol and fragment, tags from their `VLAN_CFI`.

mod attrs;
mod read;
mod tunnel;
mod write;

pub use read::{ParsedFlow, SyntaxError};

use crate::fields::DpAttr;
use crate::forms::PortNames;
use crate::key::{Key, Mask};
use crate::scan::Scan;
use crate::seam::Ufid;
use read::Reader;
use write::Writer;

/// Every attribute of a packet's key.
#[must_use]
pub fn format_key(key: &Key, ports: &dyn PortNames) -> String {
    format(key, None, true, ports)
}

/// A flow: `verbose` shows what is not matched, too.
#[must_use]
pub fn format_flow(key: &Key, mask: &Mask, verbose: bool, ports: &dyn PortNames) -> String {
    format(key, Some(mask), verbose, ports)
}

fn format(key: &Key, mask: Option<&Mask>, verbose: bool, ports: &dyn PortNames) -> String {
    let mut writer = Writer::new(key, mask, verbose, ports);
    writer.flow();
    writer.out
}

/// One attribute with its members, `eth(src=...,dst=...)`, as in `set(...)`: without a mask all members, else those matched.
/// `Encap` has no form of its own and gives an empty text.
#[must_use]
pub fn format_attr(attr: DpAttr, key: &Key, mask: Option<&Mask>, ports: &dyn PortNames) -> String {
    let mut writer = Writer::new(key, mask, false, ports);
    writer.lone(attr);
    writer.out
}

/// A flow with its mask. Attributes without a mask are matched whole, those not mentioned not at all; a port that is not
/// mentioned is `DP_PORT_NONE`.
pub fn parse_flow(text: &str, ports: &dyn PortNames) -> Result<ParsedFlow, SyntaxError> {
    // Scripts break long flows over lines.
    Reader::new(&text.replace(['\n', '\r'], ""), ports).flow()
}

/// One attribute at the start of `text`: its name, key, mask and the text after it.
pub fn parse_attr<'a>(text: &'a str, ports: &'a dyn PortNames) -> Result<ParsedAttr<'a>, SyntaxError> {
    let mut reader = Reader::new(text, ports);
    let name = reader.attr().ok_or_else(|| SyntaxError { at: text.to_owned(), too_long: reader.too_long })?;
    let rest = reader.scan.rest;
    let (key, mask) = reader.attr_only();
    Ok(ParsedAttr { name, key, mask, rest })
}

/// An attribute that stood alone, as in `set(...)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedAttr<'a> {
    /// `eth`, `ipv4`, `tunnel`, ...
    pub name: &'static str,
    pub key: Box<Key>,
    pub mask: Box<Mask>,
    /// What follows its closing bracket.
    pub rest: &'a str,
}

/// `ufid:...` at the start of a text, and what follows it.
#[must_use]
pub fn parse_ufid(text: &str) -> Option<(Ufid, &str)> {
    let mut scan = Scan::new(text);
    let ufid = scan.eat("ufid:").then(|| read::read_ufid(&mut scan)).flatten()?;
    Some((ufid, scan.rest))
}

#[cfg(test)]
mod tests;
