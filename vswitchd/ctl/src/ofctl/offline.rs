//! Commands that need no switch: texts and messages as they would be said and read. OVS's tests, and scripts that look at logs, call them;
//! they are not in the list of `--help`.

use super::names::SwitchNames;
use super::render::render;
use super::vconn::next_xid;
use super::{COMMANDS, Run, read_text};
use crate::console::Io;
use crate::fault::Fault;
use flow::oftext::KeyValues;
use openflow::message::{Body, ErrorMessage, GroupCommand, Message};
use openflow::print::hex_lines;
use openflow::text::group::parse_group;
use openflow::text::{FlowSyntax, ParsedFlow, Protocols, parse_flow, parse_flow_file};
use openflow::wire::{HEADER_BYTES, Header};
use openflow::{Codec, OfError, Version, Versions};
use std::io::Read as _;

/// `list-commands`
pub(super) fn list_commands(io: &mut Io<'_>, _: &Run<'_>) -> Result<u8, Fault> {
    writeln!(io.out, "The available commands are:")?;
    for command in COMMANDS {
        writeln!(io.out, "  {:<23} {}", command.name, command.usage)?;
    }
    Ok(0)
}

/// `parse-flow FLOW`
pub(super) fn parse_one_flow(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let syntax = FlowSyntax::Command(openflow::message::FlowModCommand::Add);
    let parsed = parse_flow(run.argument(1), syntax, &SwitchNames::none().names()).map_err(|e| Fault::say(e.to_string()))?;
    say_flows(io, run, vec![parsed])
}

/// `parse-flows FILE`
pub(super) fn parse_flows(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let syntax = FlowSyntax::Command(openflow::message::FlowModCommand::Add);
    let (file, none) = (run.argument(1), SwitchNames::none());
    let parsed = parse_flow_file(&read_text(file)?, file, syntax, &none.names()).map_err(|e| Fault::say(e.to_string()))?;
    say_flows(io, run, parsed)
}

/// The flow-mods of the plainest protocol that can say all of them.
fn say_flows(io: &mut Io<'_>, run: &Run<'_>, parsed: Vec<ParsedFlow>) -> Result<u8, Fault> {
    let mut usable = Protocols::ANY;
    parsed.iter().for_each(|p| usable.narrow(p.protocols));
    let (protocol, version) = choose(io, run, usable)?;
    writeln!(io.out, "chosen protocol: {protocol}")?;
    let is_in = |set: Protocols| !protocol.and(set).is_empty();
    let codec = Codec { nxm: is_in(Protocols::NXM_ANY), table_id: is_in(Protocols::WITH_TABLE), ..Codec::default() };
    for ParsedFlow { flow, .. } in parsed {
        say(io, run, &codec, Message { version, xid: next_xid(), body: Body::FlowMod(Box::new(flow)) })?;
    }
    Ok(0)
}

/// `parse-group GROUP`
pub(super) fn parse_one_group(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let parsed = parse_group(run.argument(1), Some(GroupCommand::Add), &SwitchNames::none().names());
    let parsed = parsed.map_err(|e| Fault::say(e.to_string()))?;
    let (_, version) = choose(io, run, parsed.protocols)?;
    writeln!(io.out, "chosen version: OpenFlow1{}", version as u8 - 1)?;
    say(io, run, &Codec::default(), Message { version, xid: next_xid(), body: Body::GroupMod(Box::new(parsed.group)) })?;
    Ok(0)
}

/// The plainest of the protocols that can say it and are allowed.
fn choose(io: &mut Io<'_>, run: &Run<'_>, usable: Protocols) -> Result<(Protocols, Version), Fault> {
    writeln!(io.out, "usable protocols: {usable}")?;
    let left = usable.and(run.options.formats);
    let plainest = Protocols(left.0 & left.0.wrapping_neg());
    let version = Version::ALL.into_iter().find(|v| !Protocols::of_version(*v).and(plainest).is_empty());
    Ok((plainest, version.ok_or_else(|| Fault::say("no usable protocol"))?))
}

fn say(io: &mut Io<'_>, run: &Run<'_>, codec: &Codec<'_>, message: Message) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    codec.encode(&message, &mut bytes).map_err(|e| Fault::say(e.to_string()))?;
    write!(io.out, "{}", render(&bytes, &SwitchNames::none(), run.options.verbosity))?;
    Ok(())
}

/// `ofp-print HEX [VERBOSITY]`; `-` for a line of standard input.
pub(super) fn print_message(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let verbosity = if run.words.len() > 2 { run.argument(2).parse().unwrap_or(0) } else { 2 };
    let text = match run.argument(1) {
        "-" => read_text("-")?.lines().next().unwrap_or_default().to_owned(),
        text => text.to_owned(),
    };
    let bytes = bytes_of(&text).ok_or_else(|| Fault::say("trailing garbage following hex bytes"))?;
    write!(io.out, "{}", render(&bytes, &SwitchNames::none(), verbosity))?;
    Ok(0)
}

/// Pairs of hexadecimal digits with dots and spaces between them.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let between = |c: char| matches!(c, ' ' | '.' | '\t' | '\r' | '\n');
    let mut rest = text.trim_start_matches(between);
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let (pair, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(pair, 16).ok().filter(|_| pair.bytes().all(|b| b.is_ascii_hexdigit()))?);
        rest = after.trim_start_matches(between);
    }
    Some(bytes)
}

/// `ofp-parse FILE`: messages one after the other, as they went over a connection.
pub(super) fn print_stream(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let file = run.argument(1);
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().read_to_end(&mut bytes).map_err(|e| Fault::because("-: read failed", &e))?;
    } else {
        bytes = std::fs::read(file).map_err(|e| Fault::because(format!("{file}: open"), &e))?;
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let cut = || Fault::say(format!("{file}: unexpected end of file mid-message"));
        let header = rest.get(..HEADER_BYTES).ok_or_else(cut)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length < HEADER_BYTES {
            return Err(Fault::say(format!("{file}: {length}-byte message is too short for OpenFlow")));
        }
        let (message, after) = rest.split_at_checked(length).ok_or_else(cut)?;
        write!(io.out, "{}", render(message, &SwitchNames::none(), run.options.verbosity + 2))?;
        rest = after;
    }
    Ok(0)
}

fn error_named(name: &str) -> Result<OfError, Fault> {
    let error = OfError::ALL.iter().find(|e| e.name() == name);
    error.copied().ok_or_else(|| Fault::say(format!("unknown error \"{name}\"")))
}

/// `print-error NAME`: the numbers of an error in each version.
pub(super) fn print_error(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let name = run.argument(1);
    let error = error_named(name)?;
    for version in Version::ALL {
        if let Some(code) = error.code(version) {
            let vendor = if code.vendor == 0 { "0".to_owned() } else { format!("{:#x}", code.vendor) };
            let number = version as u8 - 1;
            writeln!(io.out, "OpenFlow 1.{number}: vendor {vendor}, type {}, code {}", code.kind, code.code)?;
        }
    }
    Ok(0)
}

/// `encode-error-reply NAME REQUEST`: the refusal of a request, in bytes.
pub(super) fn encode_error(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let name = run.argument(1);
    let error = error_named(name)?;
    let request = bytes_of(run.argument(2)).ok_or_else(|| Fault::say("Trailing garbage in hex data"))?;
    let header = Header::peek(&request).ok_or_else(|| Fault::say("Request too short"))?;
    if usize::from(header.length) != request.len() {
        return Err(Fault::say("Request size inconsistent"));
    }
    let version = Version::from_wire(header.version)
        .ok_or_else(|| Fault::say(format!("{:#04x}: not a version of OpenFlow", header.version)))?;
    let reply = Message { version, xid: header.xid, body: Body::Error(ErrorMessage::reply_to(error, &request)) };
    write!(io.out, "{}", hex_lines(&reply.encode().map_err(|e| Fault::say(e.to_string()))?))?;
    Ok(0)
}

/// `encode-hello BITMAP`: bit N stands for the version N of the wire.
pub(super) fn encode_hello(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let text = run.argument(1);
    let bitmap = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let known = Version::ALL.into_iter().fold(0, |bits, v| bits | 1u32 << (v as u8));
    let bits = bitmap.ok().filter(|bits| bits & !known == 0 && bits & known != 0);
    let bits = bits.ok_or_else(|| Fault::say(format!("{text}: expected bits of versions, some of {known:#x}")))?;
    let version = Version::ALL.into_iter().rfind(|v| bits & 1 << (*v as u8) != 0).unwrap_or(Version::V10);
    let bytes = Message { version, xid: next_xid(), body: Body::Hello(Versions(bits)) }.encode();
    let bytes = bytes.map_err(|e| Fault::say(e.to_string()))?;
    write!(io.out, "{}{}", hex_lines(&bytes), render(&bytes, &SwitchNames::none(), run.options.verbosity))?;
    Ok(0)
}

/// `parse-key-value STRING...`: how texts fall apart into names and values.
pub(super) fn parse_key_values(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    for text in run.words.iter().skip(1) {
        let pair = |(key, value): (&str, &str)| if value.is_empty() { key.to_owned() } else { format!("{key}={value}") };
        writeln!(io.out, "{}", KeyValues::new(text).map(pair).collect::<Vec<_>>().join(", "))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn digits_in_pairs() {
        assert_eq!(bytes_of(" 01.0a fF\n"), Some(vec![1, 10, 255]));
        assert_eq!(bytes_of(""), Some(vec![]));
        for bad in ["1", "0g", "01 2", "+1", "é1"] {
            assert_eq!(bytes_of(bad), None, "{bad}");
        }
    }
}
