//! Reads lists of actions and instructions: the table of words, and the plain ones among them.

use super::verify::verify;
use super::{NO_METER, PACKET_IN_REASONS, REASON_ACTION, read_fields as fields, read_learn, read_nested as nested};
use crate::action::{Controller, OfAction};
use crate::text::number::{self, Tokens};
use crate::text::{Names, Protocols, TextError};
use crate::types::{GroupId, OfPort, TableId};
use crate::wire::Outer;
use flow::oftext::KeyValues;
use flow::wire::eth_type;

/// Lists in lists, at most.
const DEPTH_MAX: u8 = 100;
/// Actions in one list, at most: what OVS's 64 kB of them hold of the smallest.
const ACTIONS_MAX: usize = 4095;
/// Bytes of a note or of userdata, at most.
pub(super) const BYTES_MAX: usize = 65_000;

/// What reading knows and finds out: names, and the protocols that can say what was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) names: Names<'a>,
    pub(crate) protocols: Protocols,
    depth: u8,
}

/// Reads actions (of a packet-out, a bucket); with the protocols that have them.
///
/// # Errors
/// As ovs-ofctl words them.
pub fn parse_actions(text: &str, names: &Names<'_>) -> Result<(Vec<OfAction>, Protocols), TextError> {
    parse(text, names, Outer::Actions)
}

/// Reads the actions and instructions of a flow; with the protocols that have them.
///
/// # Errors
/// As ovs-ofctl words them.
pub fn parse_instructions(text: &str, names: &Names<'_>) -> Result<(Vec<OfAction>, Protocols), TextError> {
    parse(text, names, Outer::Flow)
}

fn parse(text: &str, names: &Names<'_>, outer: Outer) -> Result<(Vec<OfAction>, Protocols), TextError> {
    let mut reading = Reading { names: *names, protocols: Protocols::ANY, depth: 0 };
    let list = reading.list(text, outer)?;
    Ok((list, reading.protocols))
}

type Parser = fn(&mut Reading<'_>, &str) -> Result<OfAction, TextError>;

/// Every word for an action, in any case, with its reader.
const WORDS: &[(&str, Parser)] = &[
    ("output", output),
    ("output_reg", output),
    ("group", |_, v| number::u32(v).map(|n| OfAction::Group(GroupId(n)))),
    ("controller", controller),
    ("enqueue", enqueue),
    ("bundle", nested::bundle),
    ("bundle_load", nested::bundle_load),
    ("set_field", fields::set_field),
    ("load", fields::load),
    ("set_vlan_vid", |_, v| vlan_vid(v, false)),
    ("mod_vlan_vid", |_, v| vlan_vid(v, true)),
    ("set_vlan_pcp", |_, v| vlan_pcp(v, false)),
    ("mod_vlan_pcp", |_, v| vlan_pcp(v, true)),
    ("strip_vlan", |_, _| Ok(OfAction::StripVlan { pop: false })),
    ("pop_vlan", |_, _| Ok(OfAction::StripVlan { pop: true })),
    ("push_vlan", push_vlan),
    ("mod_dl_src", |_, v| number::mac(v).map(OfAction::SetEthSrc)),
    ("mod_dl_dst", |_, v| number::mac(v).map(OfAction::SetEthDst)),
    ("mod_nw_src", |_, v| number::ipv4(v).map(OfAction::SetIpv4Src)),
    ("mod_nw_dst", |_, v| number::ipv4(v).map(OfAction::SetIpv4Dst)),
    ("mod_nw_tos", |_, v| small(v, "TOS", 0xfc).map(OfAction::SetIpDscp)),
    ("mod_nw_ecn", |_, v| small(v, "ECN", 3).map(OfAction::SetIpEcn)),
    ("mod_nw_ttl", |_, v| number::u8(v, "TTL").map(OfAction::SetIpTtl)),
    ("set_nw_ttl", |_, v| number::u8(v, "TTL").map(OfAction::SetIpTtl)),
    ("mod_tp_src", |_, v| number::u16(v, "source port").map(OfAction::SetL4Src)),
    ("mod_tp_dst", |_, v| number::u16(v, "destination port").map(OfAction::SetL4Dst)),
    ("move", fields::reg_move),
    ("push", |_, v| fields::stack(v).map(OfAction::StackPush)),
    ("pop", |_, v| fields::stack(v).map(OfAction::StackPop)),
    ("dec_ttl", dec_ttl),
    ("set_mpls_label", mpls_label),
    ("set_mpls_tc", |_, v| given(v, "set_mpls_tc", "tc").and_then(|v| small(v, "MPLS TC", 7)).map(OfAction::SetMplsTc)),
    ("set_mpls_ttl", |_, v| given(v, "set_mpls_ttl", "ttl").and_then(|v| number::u8(v, "MPLS TTL")).map(OfAction::SetMplsTtl)),
    ("dec_mpls_ttl", |_, _| Ok(OfAction::DecMplsTtl)),
    ("push_mpls", |_, v| number::u16(v, "push_mpls").map(|ethertype| OfAction::PushMpls { ethertype })),
    ("pop_mpls", |_, v| number::u16(v, "pop_mpls").map(|ethertype| OfAction::PopMpls { ethertype })),
    ("push_pbb", push_pbb),
    ("pop_pbb", |r, _| newer(r, Protocols::OF13_UP, OfAction::PopPbb)),
    ("copy_ttl_out", |r, _| newer(r, Protocols::OF11_UP, OfAction::CopyTtlOut)),
    ("copy_ttl_in", |r, _| newer(r, Protocols::OF11_UP, OfAction::CopyTtlIn)),
    ("dec_nsh_ttl", |_, _| Ok(OfAction::DecNshTtl)),
    ("delete_field", |_, v| fields::named(v).map(OfAction::DeleteField)),
    ("encap", nested::encap),
    ("decap", nested::decap),
    ("set_tunnel", |_, v| number::u64(v).map(|id| OfAction::SetTunnel { id, wide: false })),
    ("set_tunnel64", |_, v| number::u64(v).map(|id| OfAction::SetTunnel { id, wide: true })),
    ("set_queue", |_, v| number::u32(v).map(OfAction::SetQueue)),
    ("pop_queue", |_, _| Ok(OfAction::PopQueue)),
    ("fin_timeout", fin_timeout),
    ("resubmit", resubmit),
    ("learn", read_learn::learn),
    ("conjunction", conjunction),
    ("multipath", nested::multipath),
    ("note", note),
    ("exit", |_, _| Ok(OfAction::Exit)),
    ("sample", nested::sample),
    ("unroll_xlate", |_, _| Err(TextError::Unroll)),
    ("ct", nested::ct),
    ("ct_clear", |_, _| Ok(OfAction::CtClear)),
    ("nat", |_, v| nested::nat(v)),
    ("output_trunc", |_, v| Err(TextError::UnknownAction(v.to_owned()))),
    ("clone", |r, v| r.list(v, Outer::Clone).map(OfAction::Clone)),
    ("check_pkt_larger", fields::check_pkt_larger),
    ("debug_recirc", |_, _| Ok(OfAction::DebugRecirc)),
    ("debug_slow", |_, _| Ok(OfAction::DebugSlow)),
    ("meter", meter),
    ("clear_actions", |_, _| Ok(OfAction::ClearActions)),
    ("write_actions", |r, v| r.list(v, Outer::WriteActions).map(OfAction::WriteActions)),
    ("write_metadata", write_metadata),
    ("goto_table", goto_table),
];

impl Reading<'_> {
    /// A list that stands in `outer`.
    pub(super) fn list(&mut self, text: &str, outer: Outer) -> Result<Vec<OfAction>, TextError> {
        if self.depth >= DEPTH_MAX {
            return Err(TextError::TooDeep);
        }
        self.depth += 1;
        let list = self.list_here(text, outer);
        self.depth -= 1;
        list
    }

    fn list_here(&mut self, text: &str, outer: Outer) -> Result<Vec<OfAction>, TextError> {
        let mut list = Vec::new();
        let mut drop = false;
        for (word, value) in KeyValues::new(text) {
            if let Some((_, parser)) = WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
                let action = parser(self, value)?;
                if matches!(action, OfAction::Meter(_)) && outer != Outer::Flow {
                    // Where no instruction may stand, it is OpenFlow 1.5's action.
                    self.protocols.narrow(Protocols::OF15);
                }
                list.push(action);
            } else if word.eq_ignore_ascii_case("drop") {
                drop = true;
            } else if word.eq_ignore_ascii_case("apply_actions") {
                return Err(TextError::ApplyActions);
            } else if let Some(port) = self.names.parse_port(word) {
                list.push(OfAction::Output { port, max_len: 0 });
            } else {
                return Err(TextError::UnknownAction(word.to_owned()));
            }
            if list.len() > ACTIONS_MAX {
                return Err(TextError::TooBig);
            }
        }
        if drop && !list.is_empty() {
            return Err(TextError::DropNotAlone);
        }
        verify(&list, outer)?;
        Ok(list)
    }
}

fn output(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    if text.contains("port") && text.contains("max_len") {
        return truncate(r, text);
    }
    if let Some(port) = r.names.parse_port(text) {
        let max_len = if port == OfPort::CONTROLLER { u16::MAX } else { 0 };
        return Ok(OfAction::Output { port, max_len });
    }
    let src = fields::subfield(text).map_err(|_| TextError::OutputPort(text.to_owned()))?;
    Ok(OfAction::OutputReg { src, max_len: u16::MAX })
}

fn truncate(r: &Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    const LEN_MIN: u32 = 14;
    let (mut to, mut len) = (OfPort(0), 0);
    for (key, value) in KeyValues::new(text) {
        match key {
            "port" => {
                to = r.names.parse_port(value).ok_or_else(|| TextError::TruncatePort(value.to_owned()))?;
                if to.0 & 0xffff > OfPort::REAL_MAX && to != OfPort::LOCAL && to != OfPort::IN_PORT {
                    return Err(TextError::TruncateReserved(value.to_owned()));
                }
            }
            "max_len" => {
                len = number::u32(value)?;
                if len < LEN_MIN {
                    return Err(TextError::TruncateShort(len));
                }
            }
            _ => return Err(TextError::TruncateKey(key.to_owned())),
        }
    }
    Ok(OfAction::OutputTrunc { port: to, max_len: len })
}

fn controller(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut c = Controller {
        max_len: u16::MAX,
        controller_id: 0,
        reason: REASON_ACTION,
        userdata: Vec::new(),
        pause: false,
        meter_id: NO_METER,
    };
    let mut has_userdata = false;
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        c.max_len = number::u16(text, "max_len")?;
    } else {
        for (key, value) in KeyValues::new(text) {
            match key {
                "reason" => {
                    let code = PACKET_IN_REASONS.iter().position(|name| name.eq_ignore_ascii_case(value));
                    let code = code.and_then(|n| u8::try_from(n).ok());
                    c.reason = code.ok_or_else(|| TextError::Reason(value.to_owned()))?;
                }
                "max_len" => c.max_len = number::u16(value, "max_len")?,
                "id" => c.controller_id = number::u16(value, "id")?,
                "userdata" => {
                    let (bytes, rest) = number::hex_bytes(value);
                    if !rest.is_empty() {
                        return Err(TextError::Userdata);
                    }
                    has_userdata = true;
                    c.userdata = bytes;
                }
                "pause" => c.pause = true,
                "meter_id" => c.meter_id = number::u32(value)?,
                _ => return Err(TextError::ControllerKey(key.to_owned())),
            }
        }
    }
    if c.userdata.len() > BYTES_MAX {
        return Err(TextError::TooBig);
    }
    let plain = c.reason == REASON_ACTION && c.controller_id == 0 && !has_userdata && !c.pause && c.meter_id == NO_METER;
    Ok(if plain { OfAction::Output { port: OfPort::CONTROLLER, max_len: c.max_len } } else { OfAction::Controller(Box::new(c)) })
}

fn enqueue(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut tokens = Tokens::new(text);
    let (port, queue) = (tokens.next(&[':', 'q', ',']), tokens.next(&[]));
    let (Some(port), Some(queue)) = (port, queue) else { return Err(TextError::EnqueueSyntax) };
    let port = r.names.parse_port(port).ok_or_else(|| TextError::EnqueuePort(port.to_owned()))?;
    Ok(OfAction::Enqueue { port, queue: number::u32(queue)? })
}

fn vlan_vid(text: &str, push_if_needed: bool) -> Result<OfAction, TextError> {
    let vid = number::u16(text, "VLAN VID")?;
    if vid > 0xfff {
        return Err(TextError::NotValid { text: text.to_owned(), what: "VLAN VID" });
    }
    Ok(OfAction::SetVlanVid { vid, push_if_needed })
}

fn vlan_pcp(text: &str, push_if_needed: bool) -> Result<OfAction, TextError> {
    small(text, "VLAN PCP", 7).map(|pcp| OfAction::SetVlanPcp { pcp, push_if_needed })
}

/// A byte that has only bits of `bits`.
fn small(text: &str, name: &'static str, bits: u8) -> Result<u8, TextError> {
    let value = number::u8(text, name)?;
    if value & !bits == 0 { Ok(value) } else { Err(TextError::NotValid { text: text.to_owned(), what: name }) }
}

/// Refuses an empty argument.
fn given<'a>(text: &'a str, action: &'static str, what: &'static str) -> Result<&'a str, TextError> {
    if text.is_empty() { Err(TextError::Expected { action, what }) } else { Ok(text) }
}

fn push_vlan(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    r.protocols.narrow(Protocols::OF11_UP);
    let ethertype = number::u16(text, "ethertype")?;
    if !matches!(ethertype, 0x8100 | 0x88a8) {
        return Err(TextError::NotValid { text: text.to_owned(), what: "VLAN ethertype" });
    }
    Ok(OfAction::PushVlan { ethertype })
}

/// An action without arguments that not all versions have.
fn newer(r: &mut Reading<'_>, protocols: Protocols, action: OfAction) -> Result<OfAction, TextError> {
    r.protocols.narrow(protocols);
    Ok(action)
}

fn push_pbb(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    r.protocols.narrow(Protocols::OF13_UP);
    if number::u16(text, "ethertype")? != eth_type::PBB {
        return Err(TextError::NotValid { text: text.to_owned(), what: "PBB ethertype" });
    }
    Ok(OfAction::PushPbb)
}

fn dec_ttl(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    if text.is_empty() {
        return Ok(OfAction::DecTtl { controllers: None });
    }
    let mut tokens = Tokens::new(text);
    let controllers: Vec<u16> = std::iter::from_fn(|| tokens.next(&[',', ' '])).map(number::atoi16).collect();
    if controllers.is_empty() {
        return Err(TextError::NoControllers);
    }
    if controllers.len() > BYTES_MAX / 2 {
        return Err(TextError::TooBig);
    }
    Ok(OfAction::DecTtl { controllers: Some(controllers) })
}

fn mpls_label(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let label = number::u32(given(text, "set_mpls_label", "label")?)?;
    if label > 0xf_ffff {
        return Err(TextError::NotValid { text: text.to_owned(), what: "MPLS label" });
    }
    Ok(OfAction::SetMplsLabel(label))
}

fn fin_timeout(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let (mut idle, mut hard) = (0, 0);
    for (key, value) in KeyValues::new(text) {
        match key {
            "idle_timeout" => idle = number::u16(value, "idle_timeout")?,
            "hard_timeout" => hard = number::u16(value, "hard_timeout")?,
            _ => return Err(TextError::Key { key: key.to_owned(), action: "fin_timeout" }),
        }
    }
    Ok(OfAction::FinTimeout { idle, hard })
}

fn resubmit(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let mut parts = text.splitn(4, ',').map(Some).chain(std::iter::repeat(None));
    let mut part = || parts.next().flatten().filter(|p| !p.is_empty());
    let port = match part() {
        Some(port) => r.names.parse_port(port).ok_or_else(|| TextError::ResubmitPort(port.to_owned()))?,
        None => OfPort::IN_PORT,
    };
    let table = match part() {
        Some(table) => Some(r.names.parse_table(table).ok_or_else(|| TextError::ResubmitTable(table.to_owned()))?),
        None => None,
    };
    let with_ct = match part() {
        Some("ct") => true,
        Some(other) => return Err(TextError::ResubmitParameter(other.to_owned())),
        None => false,
    };
    let to = table.unwrap_or(TableId::ALL);
    if port == OfPort::IN_PORT && to == TableId::ALL {
        return Err(TextError::ResubmitNowhere);
    }
    Ok(OfAction::Resubmit { port, table: to, with_ct, has_table: true })
}

fn conjunction(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let parsed = || {
        let (id, rest) = number::c_integer(text)?;
        let rest = rest.trim_start().strip_prefix(',')?;
        let (clause, n) = rest.split_once('/')?;
        let small = |t: &str| t.trim().parse::<u8>().ok();
        Some((u32::try_from(id & u64::from(u32::MAX)).ok()?, small(clause)?, small(n)?))
    };
    let (id, clause, n_clauses) = parsed().ok_or(TextError::ConjunctionSyntax)?;
    match (clause, n_clauses) {
        (_, 0..=1) => Err(TextError::FewClauses),
        (_, 65..) => Err(TextError::ManyClauses),
        (0, _) => Err(TextError::ClauseZero),
        (clause, n) if clause > n => Err(TextError::ClauseHigh),
        _ => Ok(OfAction::Conjunction { id, clause: clause - 1, n_clauses }),
    }
}

fn note(_: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    let (bytes, rest) = number::hex_bytes(text);
    if !rest.is_empty() {
        return Err(TextError::Note);
    }
    if bytes.len() > BYTES_MAX { Err(TextError::TooBig) } else { Ok(OfAction::Note(bytes)) }
}

fn meter(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    r.protocols.narrow(Protocols::OF13_UP);
    number::u32(text).map(OfAction::Meter)
}

fn write_metadata(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    r.protocols.narrow(Protocols::NXM_OF11_UP);
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (value, number::u64(mask)?),
        None => (text, u64::MAX),
    };
    Ok(OfAction::WriteMetadata { value: number::u64(value)?, mask })
}

fn goto_table(r: &mut Reading<'_>, text: &str) -> Result<OfAction, TextError> {
    r.names.parse_table(text).map(OfAction::GotoTable).ok_or_else(|| TextError::Table(text.to_owned()))
}
