//! Reads flows in ovs-ofctl's syntax: matches, priority, timeouts, cookies, flags, and the actions at the end.

use crate::message::{FlowMod, FlowModCommand, flow_mod_flags};
use crate::text::actions::parse_instructions;
use crate::text::lines::{self, first_word};
use crate::text::{Names, Protocols, TextError, number};
use crate::types::{DEFAULT_PRIORITY, GroupId, OfPort, TableId, Version};
use crate::wire::{Against, Codec, check};
use crate::{OfAction, OfError};
use flow::Match;
use flow::fields::Field;
use flow::key::{Key, Mask};
use flow::oftext::{KeyValues, Subfield, parse_into, parse_value};

/// What a text is to be read as: what it may say depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowSyntax {
    /// For this command.
    Command(FlowModCommand),
    /// The first word may name the command; without, it is "add".
    Any,
    /// A request for flow statistics.
    Request,
}

/// A flow-mod with the protocols that can carry it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedFlow {
    pub flow: FlowMod,
    pub protocols: Protocols,
}

/// What a command's text may say beside match, table and cookie.
#[derive(Clone, Copy)]
struct May {
    out: bool,
    /// Actions, timeouts, flags.
    act: bool,
    priority: bool,
    importance: bool,
}

const COMMANDS: &[(&str, FlowModCommand)] = &[
    ("add", FlowModCommand::Add),
    ("delete", FlowModCommand::Delete),
    ("delete_strict", FlowModCommand::DeleteStrict),
    ("modify", FlowModCommand::Modify),
    ("modify_strict", FlowModCommand::ModifyStrict),
];

fn may(command: FlowModCommand) -> May {
    let act = matches!(command, FlowModCommand::Add | FlowModCommand::Modify | FlowModCommand::ModifyStrict);
    May { out: !act, act, priority: command != FlowModCommand::Delete, importance: command == FlowModCommand::Add }
}

/// Reads one flow.
///
/// # Errors
/// As ovs-ofctl words them.
pub fn parse_flow(text: &str, syntax: FlowSyntax, names: &Names<'_>) -> Result<ParsedFlow, TextError> {
    let (command, text) = match syntax {
        FlowSyntax::Command(command) => (command, text),
        FlowSyntax::Request => (FlowModCommand::Delete, text),
        FlowSyntax::Any => first_word(text, COMMANDS).unwrap_or((FlowModCommand::Add, text)),
    };
    let may = may(command);
    let modify = matches!(command, FlowModCommand::Modify | FlowModCommand::ModifyStrict);
    let new_cookie = if modify { u64::MAX } else { 0 };
    let mut flow = FlowMod { command, priority: DEFAULT_PRIORITY, new_cookie, ..FlowMod::default() };
    let (head, actions) = if may.act {
        let (head, actions) = split_actions(text);
        (head, Some(actions.ok_or(TextError::NoActions)?))
    } else {
        (text, None)
    };
    let mut reader = Reader { flow: &mut flow, may, names, protocols: Protocols::ANY };
    for (key, value) in KeyValues::new(head) {
        reader.pair(key, value)?;
    }
    let mut protocols = reader.protocols;
    let m = &flow.matching;
    let part_of_ipv6 = [Field::NwProto, Field::NwTos, Field::NwEcn, Field::TcpSrc, Field::TcpDst].iter().any(|f| m.has(*f));
    if m.eth_type() == [0x86, 0xdd] && part_of_ipv6 {
        // Only NXM and OXM match inside of IPv6.
        protocols.narrow(Protocols::NXM_OXM_ANY);
    }
    if modify && flow.cookie_mask == 0 && flow.new_cookie == u64::MAX {
        // It may add a flow, which then has cookie 0.
        flow.new_cookie = 0;
    }
    if let Some(text) = actions {
        let (actions, can) = parse_instructions(text, names)?;
        protocols.narrow(can);
        check_actions(&actions, &flow.matching, flow.table, &mut protocols)?;
        flow.actions = actions;
    }
    Ok(ParsedFlow { flow, protocols })
}

/// Cuts `...actions=...`; OVS looks for no more than "action".
pub(crate) fn split_actions(text: &str) -> (&str, Option<&str>) {
    match text.find("action") {
        None => (text, None),
        Some(at) => (&text[..at], text[at..].split_once('=').map(|(_, actions)| actions)),
    }
}

/// Checks that the actions fit the match; what only OpenFlow 1.0 lets pass narrows the protocols.
fn check_actions(actions: &[OfAction], m: &Match, table: TableId, protocols: &mut Protocols) -> Result<(), TextError> {
    let codec = Codec::default();
    let try_as = |version, list: &[OfAction]| check(Against { codec: &codec, version, key: &m.key, mask: &m.mask, table }, list);
    try_as(Version::V10, actions).map_err(TextError::ActionsInvalid)?;
    // OVS does not look into nested lists for this.
    let shallow: Vec<OfAction> =
        actions.iter().filter(|a| !matches!(a, OfAction::WriteActions(_) | OfAction::Clone(_))).cloned().collect();
    if try_as(Version::V11, &shallow).is_err() {
        protocols.narrow(Protocols::OF10_ANY);
    }
    if protocols.is_empty() { Err(TextError::ActionsInvalid(OfError::OfpbacMatchInconsistent)) } else { Ok(()) }
}

struct Reader<'a> {
    flow: &'a mut FlowMod,
    may: May,
    names: &'a Names<'a>,
    protocols: Protocols,
}

impl Reader<'_> {
    fn pair(&mut self, key: &str, value: &str) -> Result<(), TextError> {
        if self.may.act && self.flag(key) || matches!(key, "no_readonly_table" | "allow_hidden_fields") {
            return Ok(());
        }
        if match_pair(&mut self.flow.matching, key, value, self.names, &mut self.protocols)? {
            return Ok(());
        }
        if value.is_empty() {
            return Err(TextError::NoValue(key.to_owned()));
        }
        let May { out, act, priority, importance } = self.may;
        match key {
            "table" => {
                self.flow.table = self.names.parse_table(value).ok_or_else(|| TextError::Table(value.to_owned()))?;
                if self.flow.table != TableId::ALL {
                    self.protocols.narrow(Protocols::WITH_TABLE);
                }
            }
            "out_port" if out => {
                self.flow.out_port = self.names.parse_port(value).ok_or_else(|| TextError::FlowPort(value.to_owned()))?;
            }
            "out_group" if out => {
                self.protocols.narrow(Protocols::OF11_UP);
                self.flow.out_group = parse_group_id(value).ok_or_else(|| TextError::FlowGroup(value.to_owned()))?;
            }
            "priority" if priority => self.flow.priority = number::u16(value, "priority")?,
            "idle_timeout" if act => self.flow.idle_timeout = number::u16(value, "idle_timeout")?,
            "hard_timeout" if act => self.flow.hard_timeout = number::u16(value, "hard_timeout")?,
            "importance" if importance => self.flow.importance = number::u16(value, "importance")?,
            "cookie" => self.cookie(value)?,
            // What dump-flows prints may be fed back.
            "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {}
            _ => return Err(TextError::Keyword(key.to_owned())),
        }
        Ok(())
    }

    fn flag(&mut self, key: &str) -> bool {
        let (flag, protocols) = match key {
            "send_flow_rem" => (flow_mod_flags::SEND_FLOW_REM, Protocols::ANY),
            "check_overlap" => (flow_mod_flags::CHECK_OVERLAP, Protocols::ANY),
            "reset_counts" => (flow_mod_flags::RESET_COUNTS, Protocols::OF12_UP),
            "no_packet_counts" => (flow_mod_flags::NO_PKT_COUNTS, Protocols::OF13_UP),
            "no_byte_counts" => (flow_mod_flags::NO_BYT_COUNTS, Protocols::OF13_UP),
            _ => return false,
        };
        self.flow.flags |= flag;
        self.protocols.narrow(protocols);
        true
    }

    /// With a mask the flows to select, without the cookie to set.
    fn cookie(&mut self, value: &str) -> Result<(), TextError> {
        if let Some((cookie, mask)) = value.split_once('/') {
            if self.flow.command == FlowModCommand::Add {
                return Err(TextError::AddCookieMask);
            }
            self.flow.cookie = number::u64(cookie)?;
            self.flow.cookie_mask = number::u64(mask)?;
            if self.flow.cookie_mask != 0 {
                self.protocols.narrow(Protocols::NXM_OF11_UP);
            }
            return Ok(());
        }
        if !self.may.act {
            return Err(TextError::SetCookie(value.to_owned()));
        }
        self.flow.new_cookie = number::u64(value)?;
        self.flow.modify_cookie = true;
        Ok(())
    }
}

/// Adds a pair to a match if it is a protocol, a field or a part of one; narrows the protocols to those that can match so.
pub(crate) fn match_pair(
    m: &mut Match,
    key: &str,
    value: &str,
    names: &Names<'_>,
    protocols: &mut Protocols,
) -> Result<bool, TextError> {
    if !parse_into(m, key, value, names.ports)? {
        return Ok(false);
    }
    let named = Field::by_name(key).filter(|f| f.row().name == key || f.row().alias == Some(key));
    let field = named.or_else(|| Subfield::parse(key).ok().filter(|_| key.contains('[')).map(|(part, _)| part.field));
    if let Some(field) = field {
        protocols.narrow(Protocols::matching(field, &m.get_long(field).1));
    }
    Ok(true)
}

/// A group's number, `any` or `all`.
fn parse_group_id(text: &str) -> Option<GroupId> {
    match text.to_ascii_lowercase().as_str() {
        "any" => Some(GroupId::ANY),
        "all" => Some(GroupId::ALL),
        digits => digits.parse().ok().map(GroupId),
    }
}

/// Reads a file of flows: one per line, `#` begins a comment. `name` stands in errors.
///
/// # Errors
/// The first line's that cannot be read, with its number.
pub fn parse_flow_file(text: &str, name: &str, syntax: FlowSyntax, names: &Names<'_>) -> Result<Vec<ParsedFlow>, TextError> {
    lines::parse(text, name, |line| parse_flow(line, syntax, names))
}

/// The same, a flow at a time: what is read of a large file need not be kept.
pub fn flows_of_file<'a>(
    text: &'a str,
    name: &'a str,
    syntax: FlowSyntax,
    names: Names<'a>,
) -> impl Iterator<Item = Result<ParsedFlow, TextError>> + use<'a> {
    lines::each(text, name, move |line| parse_flow(line, syntax, &names))
}

/// The key of a packet that is no frame, with the Ethertype that its packet type stands for.
fn without_frame(key: &Key) -> Key {
    let [_, namespace, high, low] = key.packet_type;
    if namespace == 1 { Key { eth_type: [high, low], ..*key } } else { *key }
}

/// Reads a packet's fields, each whole (`ofproto/trace`, and tests): key and mask of what was given. A field must come after those
/// that it needs.
///
/// # Errors
/// As OVS words them.
pub fn parse_exact_flow(text: &str, names: &Names<'_>) -> Result<(Key, Mask), TextError> {
    parse_exact_flow_into(Match::default(), text, names).map(|m| (m.key, m.mask))
}

/// The same into a match that has nothing in it but the tunnel options that there are.
///
/// # Errors
/// As `parse_exact_flow`.
pub fn parse_exact_flow_into(mut m: Match, text: &str, names: &Names<'_>) -> Result<Match, TextError> {
    let owned = || text.to_owned();
    for (name, value) in KeyValues::new(text) {
        let is_field = Field::by_name(name).filter(|f| f.row().name == name || f.row().alias == Some(name));
        let Some(field) = is_field else {
            let mut protocol = Match::default();
            let known = name != "eth" && value.is_empty() && parse_into(&mut protocol, name, value, names.ports)?;
            if !known || name.contains('[') {
                return Err(TextError::ExactUnknown { text: owned(), name: name.to_owned() });
            }
            for (field, what) in [(Field::EthType, "Ethernet type"), (Field::NwProto, "network protocol")] {
                if protocol.has(field) && m.get(field).0 != 0 {
                    return Err(TextError::ExactTwiceProtocol { text: owned(), what });
                }
                if protocol.has(field) {
                    m.set(field, protocol.get(field).0);
                }
            }
            continue;
        };
        if !field.row().need.holds(&m.key) && !field.row().need.holds(&without_frame(&m.key)) {
            return Err(TextError::ExactPrerequisites { text: owned(), name: name.to_owned() });
        }
        if m.get_long(field).0.bit_len() != 0 {
            return Err(TextError::ExactTwice { text: owned(), name: name.to_owned() });
        }
        let bad = |error: TextError| TextError::ExactValue { text: owned(), name: name.to_owned(), error: Box::new(error) };
        let (number, mask) = parse_value(field, value, names.ports).map_err(|e| bad(e.into()))?;
        if mask.and(&field.whole()) != field.whole() {
            return Err(bad(TextError::Wildcards(value.to_owned())));
        }
        m.set_long(field, &number, &field.whole()).map_err(|e| bad(TextError::Match(e.into())))?;
    }
    if m.key.in_port == [0; 4] {
        m.key.in_port = OfPort::ANY.to_key();
    }
    Ok(m)
}
