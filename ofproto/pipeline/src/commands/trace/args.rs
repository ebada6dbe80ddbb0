//! Arguments of a trace: `[options] {[dp_name] odp_flow | bridge br_flow} [packet]`.

use super::bridge_named;
use crate::bridge::{OFPORT_MAX, OfPortNames};
use crate::commands::show::DpPortNames;
use crate::flow_mod;
use crate::slowpath::Slowpath;
use crate::tunnel::came_by_tunnel;
use crate::world::{BridgeId, World};
use flow::compose::{Payload, compose};
use flow::dptext;
use flow::extract::{PacketMeta, extract_whole};
use flow::fields::{Field, TunnelOptions};
use flow::forms::{NoNames, PortNames};
use flow::key::Key;
use flow::matching::Match;
use flow::oftext::parse_value;
use openflow::action::OfAction;
use openflow::text::flow::parse_exact_flow_into;
use openflow::text::{Names, NoTableNames, parse_actions};
use openflow::wire::{Against, Codec, check};
use openflow::{OfPort, TableId, Version};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of payload unless `--l7` or `--l7-len` says otherwise.
const L7_LEN_DEFAULT: usize = 64;
const L7_LEN_MAX: i64 = 64_000;
/// Bytes of an Ethernet header.
const ETH_HEADER_LEN: usize = 14;

/// Where the packet is, and what it looks like to the pipeline.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) bridge: BridgeId,
    pub(super) key: Box<Key>,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) flow: Flow,
    pub(super) packet: Option<Vec<u8>>,
    /// `ct_state`s that conntrack will find, one after the other.
    pub(super) ct_states: VecDeque<u8>,
    /// Ports by name.
    pub(super) names: bool,
    /// OpenFlow 1.3's stricter rules for actions.
    pub(super) consistent: bool,
}

#[derive(Debug, Default)]
struct Options<'a> {
    generate: bool,
    names: bool,
    consistent: bool,
    l7: Option<Vec<u8>>,
    l7_len: usize,
    ct_states: VecDeque<u8>,
    rest: Vec<&'a str>,
}

/// Reads the arguments of a trace; `packet_out` allows `-consistent`.
pub(super) fn read(slowpath: &Slowpath, args: &[&str], packet_out: bool) -> Result<Arguments, String> {
    let mut options = read_options(args, packet_out)?;
    let mut packet = None;
    if !options.generate && options.rest.len() > 1 {
        let last = options.rest.last().expect("there are two or more");
        match packet_from_hex(last) {
            Ok(bytes) => {
                packet = Some(bytes);
                options.rest.pop();
            }
            // Three can only be name, flow and packet.
            Err(error) if options.rest.len() > 2 => return Err(error.to_owned()),
            Err(_) => {}
        }
    }
    let mut flow = read_flow(slowpath, &options.rest)?;
    let vlan_limit = slowpath.read_world().tags_seen();
    if vlan_limit == 1 {
        see_one_tag(&mut flow.key);
    }
    if options.generate {
        let payload = options.l7.as_deref().map_or(Payload::Len(options.l7_len), Payload::Bytes);
        packet = Some(compose(&flow.key, payload));
    } else if let Some(bytes) = &packet {
        let described = *flow.key;
        extract_whole(bytes, &PacketMeta { vlan_limit, ..PacketMeta::of(&described) }, &mut flow.key);
        flow.key.in_port = described.in_port;
    }
    let Options { names, consistent, ct_states, .. } = options;
    Ok(Arguments { flow, packet, ct_states, names, consistent })
}

fn read_options<'a>(args: &[&'a str], packet_out: bool) -> Result<Options<'a>, String> {
    let mut options = Options { l7_len: L7_LEN_DEFAULT, ..Options::default() };
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("Missing argument for option {arg}"));
        match arg {
            "-generate" | "--generate" => options.generate = true,
            "--l7" => {
                options.l7 = Some(bytes_from_hex(value()?).ok_or("Trailing garbage in packet data")?);
            }
            "--l7-len" => {
                let text = value()?;
                let len = leading_int(text);
                if len > L7_LEN_MAX {
                    return Err(format!("{text}: too much L7 data"));
                }
                (options.l7, options.l7_len) = (None, usize::try_from(len).unwrap_or(0));
            }
            "-consistent" | "--consistent" if packet_out => options.consistent = true,
            "-names" | "--names" => options.names = true,
            "--ct-next" => options.ct_states.push_back(read_ct_state(value()?)?),
            _ if arg.starts_with('-') => return Err(format!("{arg}: unknown option")),
            _ if options.rest.len() >= 3 => return Err("too many arguments".to_owned()),
            _ => options.rest.push(arg),
        }
    }
    Ok(options)
}

/// As C's atoi.
fn leading_int(text: &str) -> i64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

fn read_ct_state(text: &str) -> Result<u8, String> {
    const NEW: u8 = 1;
    const ESTABLISHED: u8 = 2;
    const REPLY: u8 = 8;
    const INVALID: u8 = 0x10;
    const TRACKED: u8 = 0x20;
    let mut state = 0;
    for flag in text.split([',', ' ']).filter(|f| !f.is_empty()) {
        let bit = parse_value(Field::CtState, flag, &NoNames).ok().filter(|_| flag.bytes().all(|b| b.is_ascii_alphabetic()));
        let bit = bit.and_then(|(value, _)| u8::try_from(value.low()).ok()).filter(|b| *b != 0);
        state |= bit.ok_or_else(|| format!("{flag}: unknown connection tracking state flag"))?;
    }
    let shown = super::connection::ct_state(state);
    let mut errors = String::new();
    let rules = [
        (state != 0 && state & TRACKED == 0, "If \"trk\" is unset, no other flags are set"),
        (state & INVALID != 0 && state & !(TRACKED | INVALID) != 0, "when \"inv\" is set, only \"trk\" may also be set"),
        (state & NEW != 0 && state & ESTABLISHED != 0, "\"new\" and \"est\" are mutually exclusive"),
        (state & NEW != 0 && state & REPLY != 0, "\"new\" and \"rpy\" are mutually exclusive"),
    ];
    for (_, text) in rules.iter().filter(|(broken, _)| *broken) {
        errors.push_str(&format!("{shown}: invalid connection state: {text}\n"));
    }
    if errors.is_empty() { Ok(state) } else { Err(errors) }
}

fn bytes_from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    pairs.collect()
}

fn packet_from_hex(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = bytes_from_hex(text).ok_or("Trailing garbage in packet data")?;
    if bytes.len() < ETH_HEADER_LEN { Err("Packet data too short for Ethernet") } else { Ok(bytes) }
}

/// `other_config:vlan-limit=1`: a second tag is what the first one's frame is of.
fn see_one_tag(key: &mut Key) {
    if key.vlan2_tpid != [0; 2] {
        key.eth_type = key.vlan2_tpid;
        (key.vlan2_tpid, key.vlan2_tci) = ([0; 2], [0; 2]);
    }
}

/// `[dp_name] odp_flow` or `bridge br_flow`.
fn read_flow(slowpath: &Slowpath, args: &[&str]) -> Result<Flow, String> {
    let world = slowpath.read_world();
    let kind = match args {
        [name, _] => Some(name.strip_prefix("ovs-").unwrap_or(name)).filter(|k| world.backends.contains_key(*k)),
        [_] if world.backends.len() == 1 => world.backends.keys().next().map(String::as_str),
        [_] => None,
        _ => return Err("Syntax error".to_owned()),
    };
    let backend = kind.and_then(|k| world.backends.get(k));
    let names = backend.map(|b| DpPortNames::of(b.dp.as_ref(), false)).unwrap_or_default();
    let text = args[args.len() - 1];
    match (dptext::parse_flow(text, &names), args) {
        (Ok(parsed), _) => {
            let kind = kind.ok_or("Cannot find the datapath")?;
            locate(&world, kind, parsed.key)
        }
        (Err(error), [_]) => Err(format!("{error} (or the bridge name was omitted)")),
        (Err(_), _) => {
            let bridge = bridge_named(&world, args[0]).ok_or_else(|| format!("{}: unknown bridge", args[0]))?;
            let found = world.bridges.get(&bridge);
            let names = found.map(OfPortNames::of).unwrap_or_default();
            let options = found.map(|b| Arc::clone(&b.tunnel_options)).unwrap_or_default();
            let key = exact_flow(text, &names, options).map_err(|e| format!("Bad openflow flow syntax: {e}"))?;
            Ok(Flow { bridge, key })
        }
    }
}

/// The bridge and port that a datapath's key belongs to.
fn locate(world: &World, kind: &str, mut key: Box<Key>) -> Result<Flow, String> {
    let recirc_id = u32::from_be_bytes(key.recirc_id);
    if recirc_id != 0 {
        let held = world.recircs.find(recirc_id).ok_or_else(|| format!("no recirculation data for recirc_id {recirc_id:#x}"))?;
        let in_port = held.state.in_port();
        if matches!(in_port, OfPort::ANY | OfPort::CONTROLLER) {
            key.in_port = in_port.to_key();
            return Ok(Flow { bridge: held.state.bridge, key });
        }
    }
    let dp_port = u32::from_be_bytes(key.in_port);
    let (bridge, in_port) = world.port_of_packet(kind, &key).ok_or_else(|| {
        if came_by_tunnel(&key) {
            "no OpenFlow tunnel port for this packet".to_owned()
        } else {
            format!("no OpenFlow port for datapath port {dp_port}")
        }
    })?;
    key.in_port = in_port.to_key();
    if let Some(bridge) = world.bridges.get(&bridge) {
        bridge.tunnel_options.from_wire(&mut key);
    }
    Ok(Flow { bridge, key })
}

/// A flow in OpenFlow's syntax that says all of a packet; its tunnel options lie where the bridge has them.
fn exact_flow(text: &str, ports: &dyn PortNames, options: Arc<TunnelOptions>) -> Result<Box<Key>, String> {
    let names = Names { ports, tables: &NoTableNames };
    let Match { mut key, .. } = parse_exact_flow_into(Match::with_options(options), text, &names).map_err(|e| e.to_string())?;
    if key.vlan_tci[0] & 0x10 != 0 {
        key.vlan_tpid = [0x81, 0x00];
    }
    Ok(Box::new(key))
}

/// Actions of `ofproto/trace-packet-out`.
pub(super) fn read_actions(text: &str) -> Result<Vec<OfAction>, String> {
    parse_actions(text, &Names::default()).map(|(actions, _)| actions).map_err(|e| e.to_string())
}

/// The checks that a packet-out would have to pass; those that OpenFlow 1.1 brought only if they were asked for.
pub(super) fn check_actions(slowpath: &Slowpath, arguments: &Arguments, actions: &[OfAction]) -> Result<(), String> {
    let key = &arguments.flow.key;
    let in_port = OfPort::from_key(key.in_port);
    if (OFPORT_MAX..OfPort::MAX.0).contains(&in_port.0) {
        return Err("invalid in_port".to_owned());
    }
    let version = if arguments.consistent { Version::V13 } else { Version::V10 };
    let codec = Codec::default();
    let against = Against { codec: &codec, version, key, mask: &Key::ZERO, table: TableId(0) };
    let world = slowpath.read_world();
    let Some(bridge) = world.bridges.get(&arguments.flow.bridge) else { return Ok(()) };
    let checked = check(against, actions).and_then(|()| flow_mod::check_actions(bridge, actions));
    checked.map_err(|e| format!("Bad actions: {}", e.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::fields::Value;

    #[test]
    fn options_lie_where_the_bridge_has_them() {
        let mut options = TunnelOptions::default();
        options.add(7, 0xffff, 1, 8).unwrap();
        options.add(3, 0xffff, 2, 4).unwrap();
        let options = Arc::new(options);
        let key = exact_flow("in_port=1,tun_metadata3=0x1234", &NoNames, Arc::clone(&options)).unwrap();
        assert_eq!(options.get(&key, 3), Value::from(0x1234u128));
        assert!(!TunnelOptions::is_present(&key, 7));
    }
}
