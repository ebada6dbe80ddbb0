//! Commands that send packets, and bundles of changes.

use super::names::SwitchNames;
use super::options::{self, Options};
use super::render::told;
use super::{Run, bundle, info, protocol, read_text};
use crate::console::Io;
use crate::fault::Fault;
use flow::fields::Field;
use openflow::OfPort;
use openflow::message::{Body, PacketOut};
use openflow::text::{FlowSyntax, Protocols, TextError, parse_actions, parse_flow, parse_group, parse_packet_out};
use openflow::types::NO_BUFFER;

fn text_fault(error: &TextError) -> Fault {
    Fault::say(error.to_string())
}

/// `packet-out SWITCH "in_port=..., packet=..., actions=..."` or `packet-out SWITCH IN_PORT ACTIONS PACKET...`
pub(super) fn packet_out(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    let (bodies, usable) = match run.words.len() {
        3 => {
            let (out, usable) = parse_packet_out(run.argument(2), &names.names()).map_err(|e| text_fault(&e))?;
            (vec![Body::PacketOut(Box::new(out))], usable)
        }
        4 => return Err(Fault::say("Too few arguments, PACKET is missing")),
        _ => by_words(run, &names)?,
    };
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    protocol::set_for_mods(&mut vconn, run.options, usable)?;
    match vconn.transact_quiet(bodies)? {
        None => Ok(0),
        Some(refusal) => Err(told(io, &refusal)?),
    }
}

fn by_words(run: &Run<'_>, names: &SwitchNames) -> Result<(Vec<Body>, Protocols), Fault> {
    let port = match run.argument(2).to_ascii_lowercase().as_str() {
        "none" => OfPort::ANY,
        _ => info::port_number(run, run.argument(2))?,
    };
    let (actions, usable) = parse_actions(run.argument(3), &names.names()).map_err(|e| text_fault(&e))?;
    let mut bodies = Vec::new();
    for text in run.words.iter().skip(4) {
        let bad = || Fault::say(format!("{text}: trailing garbage in packet data"));
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let mut packet = Vec::with_capacity(digits.len() / 2);
        for pair in digits.chunks(2) {
            let byte: String = pair.iter().collect();
            packet.push(u8::from_str_radix(&byte, 16).ok().filter(|_| pair.len() == 2).ok_or_else(bad)?);
        }
        let mut metadata = flow::Match::default();
        metadata.set(Field::InPort, u128::from(port.0 & 0xffff));
        let out = PacketOut { buffer_id: NO_BUFFER, packet, metadata, actions: actions.clone() };
        bodies.push(Body::PacketOut(Box::new(out)));
    }
    Ok((bodies, usable))
}

/// `bundle SWITCH FILE`: flows, groups and packet-outs, all at once or not at all.
pub(super) fn send_bundle(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    let file = run.argument(2);
    let text = read_text(file)?;
    let mut usable = bundle::PROTOCOLS;
    let mut bodies = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let body = bundle_line(line, &names, &mut usable);
        bodies.push(body.map_err(|e| Fault::say(format!("{file}:{}: {e}", n + 1)))?);
    }
    // `-F` has no say here, as in ovs-ofctl.
    let versions = options::with_bundles(run.options.versions);
    let options = Options { versions, formats: Protocols::ANY, ..run.options.clone() };
    let mut vconn = protocol::open(io, &options, run.switch(), usable)?;
    let mut requests = vconn.requests(bodies)?;
    bundle::send(io, run, &mut vconn, &mut requests)
}

/// A line of a bundle file: `[flow] FLOW`, `group GROUP`, `packet-out PACKET-OUT`.
fn bundle_line(line: &str, names: &SwitchNames, usable: &mut Protocols) -> Result<Body, TextError> {
    let names = names.names();
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    match word {
        "group" => {
            let parsed = parse_group(rest.trim(), None, &names)?;
            usable.narrow(parsed.protocols);
            Ok(Body::GroupMod(Box::new(parsed.group)))
        }
        "packet-out" => {
            let (out, protocols) = parse_packet_out(rest.trim(), &names)?;
            usable.narrow(protocols);
            Ok(Body::PacketOut(Box::new(out)))
        }
        _ => {
            let text = if word == "flow" { rest.trim() } else { line };
            let parsed = parse_flow(text, FlowSyntax::Any, &names)?;
            usable.narrow(parsed.protocols);
            Ok(Body::FlowMod(Box::new(parsed.flow)))
        }
    }
}
