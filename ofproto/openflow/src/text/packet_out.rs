//! Packet-outs as text: `in_port=1 packet=5054... actions=output:2`.

use super::actions::parse_actions;
use super::flow::{match_pair, split_actions};
use super::{Names, Protocols, TextError, number};
use crate::message::PacketOut;
use crate::types::{NO_BUFFER, OfPort};
use flow::Match;
use flow::fields::{Field, Need};
use flow::oftext::KeyValues;

/// Bytes of an Ethernet header, which a packet has at least.
const PACKET_BYTES_MIN: usize = 14;

/// Reads a packet-out; with the protocols that can carry it.
///
/// # Errors
/// As ovs-ofctl words them.
pub fn parse_packet_out(text: &str, names: &Names<'_>) -> Result<(PacketOut, Protocols), TextError> {
    let mut protocols = Protocols::ANY;
    let mut out = PacketOut { buffer_id: NO_BUFFER, packet: Vec::new(), metadata: Match::default(), actions: Vec::new() };
    set_in_port(&mut out.metadata, OfPort::CONTROLLER);
    let (head, actions) = split_actions(text);
    for (key, value) in KeyValues::new(head) {
        if value.is_empty() {
            return Err(TextError::NoValue(key.to_owned()));
        }
        match key {
            "in_port" => {
                let port = names.parse_port(value).ok_or_else(|| TextError::FlowPort(value.to_owned()))?;
                let usable =
                    port.0 & 0xffff <= OfPort::REAL_MAX || matches!(port, OfPort::LOCAL | OfPort::ANY | OfPort::CONTROLLER);
                if !usable {
                    return Err(TextError::PacketOutPort(value.to_owned()));
                }
                set_in_port(&mut out.metadata, port);
            }
            "packet_type" => {
                let (ns, kind) = value.split_once(',').ok_or_else(|| TextError::PacketType(value.to_owned()))?;
                let part = |t: &str| number::c_integer(t).map_or(0, |(v, _)| u128::from(v & 0xffff));
                out.metadata.set(Field::PacketType, part(ns) << 16 | part(kind));
            }
            "packet" => out.packet = parse_packet(value)?,
            _ => {
                let known = Field::by_name(key).is_some() && match_pair(&mut out.metadata, key, value, names, &mut protocols)?;
                if !known {
                    return Err(TextError::Keyword(key.to_owned()));
                }
                let field = Field::by_name(key).filter(|f| is_pipeline(*f));
                field.ok_or_else(|| TextError::PipelineField(key.to_owned()))?;
            }
        }
    }
    if out.packet.is_empty() {
        return Err(TextError::Must("packet"));
    }
    if let Some(actions) = actions {
        let (list, can) = parse_actions(actions, names)?;
        protocols.narrow(can);
        out.actions = list;
    }
    Ok((out, protocols))
}

fn set_in_port(m: &mut Match, port: OfPort) {
    m.set(Field::InPort, u128::from(port.0 & 0xffff));
}

/// A packet in hexadecimal.
fn parse_packet(text: &str) -> Result<Vec<u8>, TextError> {
    let (bytes, rest) = number::hex_bytes(text);
    if !rest.is_empty() {
        return Err(TextError::PacketGarbage);
    }
    if bytes.len() < PACKET_BYTES_MIN { Err(TextError::PacketShort) } else { Ok(bytes) }
}

/// Whether a packet-out may give the field: what belongs to the pipeline and not to the packet (OpenFlow 1.5 section 7.2.3.9).
fn is_pipeline(field: Field) -> bool {
    let of_tunnel = field.row().name.starts_with("tun_");
    let registers = field.row().name.contains("reg") && field.row().need == Need::Nothing;
    of_tunnel || registers || matches!(field, Field::InPort | Field::InPortOxm | Field::Metadata | Field::PacketType)
}
