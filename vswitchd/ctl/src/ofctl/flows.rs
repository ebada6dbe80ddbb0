//! Commands on flows.

use super::bundle;
use super::names::SwitchNames;
use super::options::SortKey;
use super::protocol;
use super::render::{self, dump_one, told};
use super::requests::Requests;
use super::vconn::Vconn;
use super::{Run, read_text};
use crate::console::Io;
use crate::fault::Fault;
use flow::Match;
use flow::fields::{Field, Value};
use flow::oftext::format_match;
use openflow::message::{
    Body, FlowMod, FlowModCommand, FlowStatsEntry, FlowStatsRequest, Multipart, MultipartBody, flow_mod_flags,
};
use openflow::text::{
    FlowSyntax, Names, ParsedFlow, Protocols, TextError, flows_of_file, format_actions, format_flow_stats, parse_flow,
};
use openflow::types::NO_BUFFER;
use openflow::{GroupId, OfPort, TableId, Version};
use std::cmp::Ordering;
use std::collections::BTreeMap;

// ---- showing -------------------------------------------------------------------------------------------------------------

/// A statistics request from the words of a command: the switch and perhaps a flow.
fn request(run: &Run<'_>, names: &SwitchNames) -> Result<(FlowStatsRequest, Protocols), Fault> {
    let text = run.argument(2);
    let parsed = parse_flow(text, FlowSyntax::Request, &names.names()).map_err(|e| Fault::say(e.to_string()))?;
    let flow = parsed.flow;
    let request = FlowStatsRequest {
        matching: flow.matching,
        table: flow.table,
        out_port: flow.out_port,
        out_group: flow.out_group,
        cookie: flow.cookie,
        cookie_mask: flow.cookie_mask,
    };
    Ok((request, parsed.protocols))
}

/// `dump-flows SWITCH [FLOW]`
pub(super) fn dump(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let options = run.options;
    let names = SwitchNames::of(options, run.switch());
    let (request, usable) = request(run, &names)?;
    let mut vconn = protocol::open(io, options, run.switch(), usable)?;
    protocol::set_for_dumps(&mut vconn, options, usable)?;
    if options.sort.is_empty() && !options.show_names() && options.stats {
        let body = MultipartBody::FlowRequest(request);
        return render::dump(io, &mut vconn, body, run);
    }
    let shown = if options.show_names() { names } else { SwitchNames::none() };
    let mut flows = fetch(&mut vconn, request)?;
    if !options.sort.is_empty() {
        flows.sort_by(|a, b| by_keys(&options.sort, a, b));
    }
    for flow in &flows {
        let flow = FlowStatsEntry { idle_age: -1, hard_age: -1, ..flow.clone() };
        writeln!(io.out, " {}", format_flow_stats(&flow, options.stats, &shown.names()))?;
    }
    Ok(0)
}

/// All flows that the request selects.
fn fetch(vconn: &mut Vconn, request: FlowStatsRequest) -> Result<Vec<FlowStatsEntry>, Fault> {
    let mut flows = Vec::new();
    for (received, message) in vconn.transact_multipart(MultipartBody::FlowRequest(request))? {
        let Body::Stats(m) = message.body else {
            return Err(render::refusal(&received));
        };
        if let MultipartBody::FlowReply(more) = m.body {
            flows.extend(more);
        }
    }
    Ok(flows)
}

fn by_keys(keys: &[SortKey], a: &FlowStatsEntry, b: &FlowStatsEntry) -> Ordering {
    for key in keys {
        let order = match key.field {
            None => a.priority.cmp(&b.priority),
            Some(field) => match (value(&a.matching, field), value(&b.matching, field)) {
                (Some(a), Some(b)) => a.to_be_bytes().cmp(&b.to_be_bytes()),
                // What does not say a word about the field comes last, whichever the order.
                (Some(_), None) => return Ordering::Less,
                (None, Some(_)) => return Ordering::Greater,
                (None, None) => Ordering::Equal,
            },
        };
        let order = if key.ascending { order } else { order.reverse() };
        if order != Ordering::Equal {
            return order;
        }
    }
    b.priority.cmp(&a.priority)
}

fn value(matching: &Match, field: Field) -> Option<Value> {
    matching.has(field).then(|| {
        let (value, mask) = matching.get_long(field);
        value.and(&mask)
    })
}

/// `dump-aggregate SWITCH [FLOW]`
pub(super) fn dump_aggregate(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    let (request, usable) = request(run, &names)?;
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    protocol::set_for_dumps(&mut vconn, run.options, usable)?;
    let body = MultipartBody::AggregateRequest(request);
    let request = Body::Stats(Box::new(Multipart { more: false, nxm: vconn.dialect.nxm, body }));
    dump_one(io, &mut vconn, request, run)?;
    Ok(0)
}

// ---- changing ------------------------------------------------------------------------------------------------------------

/// `add-flow SWITCH FLOW`
pub(super) fn add(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, FlowModCommand::Add)
}

/// `mod-flows SWITCH FLOW`
pub(super) fn modify(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, if run.options.strict { FlowModCommand::ModifyStrict } else { FlowModCommand::Modify })
}

/// `del-flows SWITCH [FLOW]`; `-` for a file of flows.
pub(super) fn delete(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, if run.options.strict { FlowModCommand::DeleteStrict } else { FlowModCommand::Delete })
}

fn change(io: &mut Io<'_>, run: &Run<'_>, command: FlowModCommand) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    let text = run.argument(2);
    if text == "-" {
        return change_file(io, run, &names, FlowSyntax::Command(command));
    }
    let parse = || parse_flow(text, FlowSyntax::Command(command), &names.names());
    send(io, run, || std::iter::once_with(parse))
}

/// `add-flows SWITCH FILE`
pub(super) fn add_file(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    change_file(io, run, &names, FlowSyntax::Any)
}

fn change_file(io: &mut Io<'_>, run: &Run<'_>, names: &SwitchNames, syntax: FlowSyntax) -> Result<u8, Fault> {
    let file = run.argument(2);
    let text = read_text(file)?;
    send(io, run, || flows_of_file(&text, file, syntax, names.names()))
}

/// Takes away what a match cannot look at for want of what it needs, and says so.
fn normalize(io: &mut Io<'_>, matching: &mut Match) -> Result<(), Fault> {
    let before = matching.clone();
    if matching.normalize() {
        io.info("ofp_match", "normalization changed ofp_match, details:")?;
        io.info("ofp_match", &format!(" pre: {}", format_match(&before)))?;
        io.info("ofp_match", &format!("post: {}", format_match(matching)))?;
    }
    Ok(())
}

/// Sends flow-mods: all are read before the first is sent. They are encoded as they are read, in the way that the options ask for and the first one
/// needs; if the connection comes to speak in another way, they are read once more.
fn send<I: Iterator<Item = Result<ParsedFlow, TextError>>>(
    io: &mut Io<'_>,
    run: &Run<'_>,
    read: impl Fn() -> I,
) -> Result<u8, Fault> {
    let mut usable = Protocols::ANY;
    let mut requests = None;
    for parsed in read() {
        let ParsedFlow { mut flow, protocols } = parsed.map_err(|e| Fault::say(e.to_string()))?;
        normalize(io, &mut flow.matching)?;
        usable.narrow(protocols);
        let so_far = requests.unwrap_or_else(|| Ok(Requests::new(protocol::likely(run.options, protocols))));
        requests = Some(so_far.and_then(|mut requests| requests.push(Body::FlowMod(Box::new(flow))).map(|()| requests)));
    }
    if run.options.bundle {
        usable.narrow(bundle::PROTOCOLS);
    }
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    if !run.options.bundle {
        protocol::set_for_mods(&mut vconn, run.options, usable)?;
    }
    let mut requests = match requests.and_then(Result::ok).filter(|r| r.dialect == vconn.dialect) {
        Some(requests) => requests,
        None => vconn.requests(read().flatten().map(|ParsedFlow { mut flow, .. }| {
            flow.matching.normalize();
            Body::FlowMod(Box::new(flow))
        }))?,
    };
    if run.options.bundle {
        return bundle::send(io, run, &mut vconn, &mut requests);
    }
    match vconn.transact_flow_mods(&mut requests)? {
        None => Ok(0),
        Some(refusal) => Err(told(io, &refusal)?),
    }
}

// ---- comparing -----------------------------------------------------------------------------------------------------------

/// What makes a flow the same flow: table, priority and match as text.
type Identity = (u8, u16, String);

/// What a flow does.
#[derive(Clone, PartialEq, Debug)]
struct Content {
    cookie: u64,
    idle_timeout: u16,
    hard_timeout: u16,
    importance: u16,
    flags: u16,
    matching: Match,
    actions: Vec<openflow::OfAction>,
}

/// Flows by identity, each from two sources.
type Sides = BTreeMap<Identity, [Option<Content>; 2]>;

fn identity(table: TableId, priority: u16, matching: &Match, names: &SwitchNames) -> Identity {
    let table = if table == TableId::ALL { 0 } else { table.0 };
    (table, priority, openflow::text::format_match_priority(matching, 0x8000, &names.names()))
}

fn read_side(io: &mut Io<'_>, run: &Run<'_>, file: &str, side: usize, sides: &mut Sides) -> Result<Protocols, Fault> {
    let none = SwitchNames::none();
    let names = SwitchNames::of(run.options, run.switch());
    let text = read_text(file)?;
    let syntax = FlowSyntax::Command(FlowModCommand::Add);
    let mut usable = Protocols::ANY;
    for parsed in flows_of_file(&text, file, syntax, names.names()) {
        let ParsedFlow { mut flow, protocols } = parsed.map_err(|e| Fault::say(e.to_string()))?;
        normalize(io, &mut flow.matching)?;
        usable.narrow(protocols);
        let id = identity(flow.table, flow.priority, &flow.matching, &none);
        let version = Content {
            cookie: flow.new_cookie,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            importance: flow.importance,
            flags: flow.flags & !flow_mod_flags::CHECK_OVERLAP,
            matching: flow.matching,
            actions: flow.actions,
        };
        sides.entry(id).or_default()[side] = Some(version);
    }
    Ok(usable)
}

fn fetch_side(vconn: &mut Vconn, side: usize, sides: &mut Sides) -> Result<(), Fault> {
    let none = SwitchNames::none();
    let all = FlowStatsRequest {
        matching: Match::default(),
        table: TableId::ALL,
        out_port: OfPort::ANY,
        out_group: GroupId::ANY,
        cookie: 0,
        cookie_mask: 0,
    };
    for flow in fetch(vconn, all)? {
        let id = identity(flow.table, flow.priority, &flow.matching, &none);
        let version = Content {
            cookie: flow.cookie,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            importance: flow.importance,
            // OpenFlow 1.3+ replies have flags that earlier ones have not.
            flags: 0,
            matching: flow.matching,
            actions: flow.actions,
        };
        sides.entry(id).or_default()[side] = Some(version);
    }
    Ok(())
}

/// `replace-flows SWITCH FILE`
pub(super) fn replace(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut sides = Sides::new();
    let mut usable = read_side(io, run, run.argument(2), 0, &mut sides)?;
    if run.options.bundle {
        usable.narrow(bundle::PROTOCOLS);
    }
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    protocol::set_for_dumps(&mut vconn, run.options, usable)?;
    fetch_side(&mut vconn, 1, &mut sides)?;
    let mut bodies = Vec::new();
    for ((table, priority, _), [wanted, held]) in &sides {
        match (wanted, held) {
            (None, Some(held)) => bodies.push(flow_mod(FlowModCommand::DeleteStrict, (*table, *priority), held)),
            (Some(wanted), held) if run.options.readd || !held.as_ref().is_some_and(|h| same(wanted, h)) => {
                bodies.push(flow_mod(FlowModCommand::Add, (*table, *priority), wanted));
            }
            (Some(_) | None, _) => {}
        }
    }
    if run.options.bundle {
        let mut requests = vconn.requests(bodies)?;
        return bundle::send(io, run, &mut vconn, &mut requests);
    }
    if vconn.dialect.version == Version::V10 {
        vconn.dialect.table_id = false;
        protocol::enable_table_id(&mut vconn)?;
    }
    let mut requests = vconn.requests(bodies)?;
    match vconn.transact_flow_mods(&mut requests)? {
        None => Ok(0),
        Some(refusal) => Err(told(io, &refusal)?),
    }
}

/// Whether two versions of a flow read alike: the same action may have come in another form.
fn same(a: &Content, b: &Content) -> bool {
    let text = |content: &Content| format_actions(&content.actions, &Names::default());
    (a.cookie, a.idle_timeout, a.hard_timeout, a.importance) == (b.cookie, b.idle_timeout, b.hard_timeout, b.importance)
        && (a.actions == b.actions || text(a) == text(b))
}

fn flow_mod(command: FlowModCommand, (table, priority): (u8, u16), version: &Content) -> Body {
    let adds = command == FlowModCommand::Add;
    Body::FlowMod(Box::new(FlowMod {
        command,
        table: TableId(table),
        matching: version.matching.clone(),
        priority,
        cookie: 0,
        cookie_mask: 0,
        new_cookie: if adds { version.cookie } else { 0 },
        modify_cookie: false,
        idle_timeout: if adds { version.idle_timeout } else { 0 },
        hard_timeout: if adds { version.hard_timeout } else { 0 },
        buffer_id: NO_BUFFER,
        out_port: OfPort::ANY,
        out_group: GroupId::ANY,
        flags: if adds { version.flags } else { 0 },
        importance: if adds { version.importance } else { 0 },
        actions: if adds { version.actions.clone() } else { Vec::new() },
    }))
}

/// `diff-flows SOURCE1 SOURCE2`, each a switch or a file; exit code 2 if they differ.
pub(super) fn diff(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    const DIFFERENT: u8 = 2;
    let mut sides = Sides::new();
    for (side, source) in [run.argument(1), run.argument(2)].into_iter().enumerate() {
        if source == "-" || source.contains('/') && std::path::Path::new(source).is_file() || is_file(source) {
            read_side(io, run, source, side, &mut sides)?;
        } else {
            let mut vconn = protocol::open(io, run.options, source, Protocols::ANY)?;
            protocol::set_for_dumps(&mut vconn, run.options, Protocols::ANY)?;
            fetch_side(&mut vconn, side, &mut sides)?;
        }
    }
    let names = SwitchNames::none();
    let mut differs = false;
    for ((table, priority, _), versions) in &sides {
        if let [Some(a), Some(b)] = versions
            && same(a, b)
        {
            continue;
        }
        differs = true;
        for (sign, version) in ["-", "+"].iter().zip(versions) {
            if let Some(version) = version {
                writeln!(io.out, "{sign}{}", line(version, (*table, *priority), &names))?;
            }
        }
    }
    Ok(if differs { DIFFERENT } else { 0 })
}

fn is_file(source: &str) -> bool {
    !source.contains(':') && std::path::Path::new(source).is_file()
}

fn line(version: &Content, (table, priority): (u8, u16), names: &SwitchNames) -> String {
    let mut text = String::new();
    if table != 0 {
        text.push_str(&format!("table={table} "));
    }
    let matching = openflow::text::format_match_priority(&version.matching, priority, &names.names());
    if !matching.is_empty() {
        text.push_str(&matching);
        text.push(' ');
    }
    if version.cookie != 0 {
        text.push_str(&format!("cookie={:#x} ", version.cookie));
    }
    for (name, value) in
        [("idle_timeout", version.idle_timeout), ("hard_timeout", version.hard_timeout), ("importance", version.importance)]
    {
        if value != 0 {
            text.push_str(&format!("{name}={value} "));
        }
    }
    text.push_str(&openflow::text::flow::flag_words(version.flags));
    text.push_str(&format!("actions={}", format_actions(&version.actions, &names.names())));
    text
}
