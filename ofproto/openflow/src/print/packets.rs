//! Packet-ins, packet-outs, removed flows, and what is in a packet.

use super::{Printer, hex_lines, put};
use crate::OfAction;
use crate::message::{FlowRemoved, PacketIn, PacketInPrivate, PacketOut};
use crate::text::actions::{Dotted, PACKET_IN_REASONS, Show};
use crate::text::flow::{format_duration, format_match_priority};
use crate::types::{DEFAULT_PRIORITY, NO_BUFFER, TableId};
use flow::extract::{PacketMeta, extract_whole};
use flow::fields::{Field, Need};
use flow::key::{FRAG_LATER, Key};
use flow::oftext::format_match;
use flow::{Match, Value};

const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_ICMPV6: u8 = 58;
const PROTO_SCTP: u8 = 132;

pub(super) fn packet_in(p: &Printer<'_>, out: &mut String, packet: &PacketIn) {
    head(p, out, packet);
    tail(p, out, packet);
}

/// Where a paused packet goes on (NXT_RESUME).
pub(super) fn resume(p: &Printer<'_>, out: &mut String, private: &PacketInPrivate) {
    head(p, out, &private.public);
    continuation(p, out, private);
    tail(p, out, &private.public);
}

fn head(p: &Printer<'_>, out: &mut String, packet: &PacketIn) {
    let names = p.names;
    if packet.table.0 != 0 || names.tables.name(packet.table).is_some() {
        put(out, format_args!(" table_id={}", names.table(packet.table)));
    }
    if packet.cookie != u64::MAX {
        put(out, format_args!(" cookie={:#x}", packet.cookie));
    }
    let reason = PACKET_IN_REASONS.get(usize::from(packet.reason)).map_or_else(|| packet.reason.to_string(), |n| (*n).to_owned());
    let reason = if reason.ends_with("_miss") { String::new() } else { reason };
    let metadata = format_match_priority(&packet.metadata, DEFAULT_PRIORITY, names);
    let len = packet.packet.len();
    put(out, format_args!(" total_len={} {metadata} (via {reason}) data_len={len}", packet.full_len));
    let (total, len) = (u64::from(packet.full_len), len as u64);
    if packet.buffer_id == NO_BUFFER {
        out.push_str(" (unbuffered)");
        if total != len {
            out.push_str(" (***total_len != data_len***)");
        }
    } else {
        put(out, format_args!(" buffer=0x{:08x}", packet.buffer_id));
        if total < len {
            out.push_str(" (***total_len < data_len***)");
        }
    }
    out.push('\n');
    if !packet.userdata.is_empty() {
        put(out, format_args!(" userdata={}\n", Dotted(&packet.userdata)));
    }
}

fn continuation(p: &Printer<'_>, out: &mut String, private: &PacketInPrivate) {
    if private.bridge != [0; 16] {
        let id = u128::from_be_bytes(private.bridge);
        let (a, b, c, d) = (id >> 96, id >> 80 & 0xffff, id >> 64 & 0xffff, id >> 48 & 0xffff);
        put(out, format_args!(" continuation.bridge={a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}\n", id & 0xffff_ffff_ffff));
    }
    if !private.stack.is_empty() {
        let values: String = private.stack.iter().map(|v| format!(" {}", stack_value(v))).collect();
        put(out, format_args!(" continuation.stack=(top){values} (bottom)\n"));
    }
    if private.mirrors != 0 {
        put(out, format_args!(" continuation.mirrors={:#x}\n", private.mirrors));
    }
    if private.conntracked {
        out.push_str(" continuation.conntracked=true\n");
    }
    let actions: Vec<OfAction> = private.frames.iter().flat_map(|f| f.actions.iter().cloned()).collect();
    for (name, list) in [("actions", &actions), ("action_set", &private.action_set)] {
        if !list.is_empty() {
            put(out, format_args!(" continuation.{name}={}\n", Show(&list[..], p.names)));
        }
    }
    if private.odp_port != 0 {
        put(out, format_args!(" continuation.odp_port={}\n", private.odp_port));
    }
}

fn stack_value(bytes: &[u8]) -> String {
    let value = Value::from_be_bytes(bytes);
    if value.is_zero() { "0".to_owned() } else { format!("{value:#x}") }
}

fn tail(p: &Printer<'_>, out: &mut String, packet: &PacketIn) {
    packet_lines(p, out, &packet.packet, packet.metadata.key.packet_type);
}

fn packet_lines(p: &Printer<'_>, out: &mut String, packet: &[u8], packet_type: [u8; 4]) {
    if p.verbosity > 0 {
        out.push_str(&packet_summary(packet, u32::from_be_bytes(packet_type)));
        out.push('\n');
    }
    if p.verbosity > 2 {
        out.push_str(&hex_lines(packet));
    }
}

pub(super) fn packet_out(p: &Printer<'_>, out: &mut String, packet: &PacketOut) {
    let metadata = format_match_priority(&packet.metadata, DEFAULT_PRIORITY, p.names);
    put(out, format_args!(" {metadata} actions={}", Show(&packet.actions[..], p.names)));
    if packet.buffer_id != NO_BUFFER {
        put(out, format_args!(" buffer=0x{:08x}", packet.buffer_id));
        return;
    }
    put(out, format_args!(" data_len={}", packet.packet.len()));
    if packet.packet.is_empty() {
        return;
    }
    if p.verbosity > 0 {
        out.push('\n');
    }
    packet_lines(p, out, &packet.packet, packet.metadata.key.packet_type);
}

pub(super) fn flow_removed(p: &Printer<'_>, out: &mut String, flow: &FlowRemoved) {
    let reason = super::session::REMOVED_REASONS.get(usize::from(flow.reason));
    let reason = reason.map_or_else(|| flow.reason.to_string(), |r| (*r).to_owned());
    put(out, format_args!(" {} reason={reason}", format_match_priority(&flow.matching, flow.priority, p.names)));
    if flow.table != TableId::ALL {
        put(out, format_args!(" table_id={}", p.names.table(flow.table)));
    }
    if flow.cookie != 0 {
        put(out, format_args!(" cookie:{:#x}", flow.cookie));
    }
    put(out, format_args!(" duration{} idle{}", format_duration(flow.duration_sec, flow.duration_nsec), flow.idle_timeout));
    if flow.hard_timeout != 0 {
        put(out, format_args!(" hard{}", flow.hard_timeout));
    }
    put(out, format_args!(" pkts{} bytes{}\n", flow.packets, flow.bytes));
}

/// The fields of a packet in one line, with the checksum of its transport header.
#[must_use]
pub fn packet_summary(packet: &[u8], packet_type: u32) -> String {
    let mut key = Key::ZERO;
    let meta = PacketMeta { packet_type, ..PacketMeta::default() };
    let extracted = extract_whole(packet, &meta, &mut key);
    let mut out = format_match(&fields_of(&key));
    let end = packet.len().saturating_sub(extracted.l2_pad.into());
    let l4 = packet.get(usize::from(extracted.l4)..end).unwrap_or(&[]);
    // (protocol, bytes that a header has, name, where the checksum lies, how long it is)
    const SUMS: [(u8, usize, &str, usize, usize); 5] = [
        (PROTO_TCP, 20, "tcp", 16, 2),
        (PROTO_UDP, 8, "udp", 6, 2),
        (PROTO_SCTP, 12, "sctp", 8, 4),
        (PROTO_ICMP, 8, "icmp", 2, 2),
        (PROTO_ICMPV6, 4, "icmp6", 2, 2),
    ];
    if let Some((_, len, name, at, bytes)) = SUMS.iter().find(|(proto, ..)| *proto == key.nw_proto)
        && l4.len() >= *len
    {
        let sum = l4[*at..at + bytes].iter().fold(0u32, |sum, b| sum << 8 | u32::from(*b));
        put(&mut out, format_args!(" {name}_csum:{sum:x}"));
    }
    out
}

/// All that a packet has, as a match.
fn fields_of(key: &Key) -> Match {
    let mut m = Match { key: *key, ..Match::default() };
    let all = |bytes: &mut [u8]| bytes.fill(0xff);
    let mask = &mut m.mask;
    all(&mut mask.packet_type);
    let ethernet = key.packet_type == [0; 4];
    let mut eth_type = key.eth_type;
    if ethernet {
        all(&mut mask.eth_dst);
        all(&mut mask.eth_src);
        all(&mut mask.eth_type);
        all(&mut mask.vlan_tci);
        if key.vlan_tci != [0; 2] {
            all(&mut mask.vlan2_tci);
        }
    } else {
        eth_type = [key.packet_type[2], key.packet_type[3]];
    }
    let ip = match eth_type {
        [0x08, 0x00] => {
            all(&mut mask.nw_src);
            all(&mut mask.nw_dst);
            true
        }
        [0x86, 0xdd] => {
            all(&mut mask.ipv6_src);
            all(&mut mask.ipv6_dst);
            shown_of_ipv6(key, mask);
            if Need::Nd.holds(key) {
                all(&mut mask.arp_sha);
                all(&mut mask.arp_tha);
                all(&mut mask.nd_target);
            }
            true
        }
        [0x08, 0x06] | [0x80, 0x35] => {
            all(&mut mask.nw_src);
            all(&mut mask.nw_dst);
            all(std::slice::from_mut(&mut mask.nw_proto));
            all(&mut mask.arp_sha);
            all(&mut mask.arp_tha);
            false
        }
        [0x88, 0x47 | 0x48] => {
            const BOTTOM: u8 = 1;
            let labels = [
                (key.mpls_lse0, &mut mask.mpls_lse0),
                (key.mpls_lse1, &mut mask.mpls_lse1),
                (key.mpls_lse2, &mut mask.mpls_lse2),
            ];
            for (lse, mask) in labels {
                all(mask);
                if lse[2] & BOTTOM != 0 {
                    break;
                }
            }
            false
        }
        _ => false,
    };
    if ip {
        transport(&mut m, key);
    }
    if eth_type == [0x88, 0xe7] {
        all(&mut m.mask.nw_src);
    }
    if eth_type == [0x89, 0x4f] {
        nsh(&mut m);
    }
    m.key = m.key.masked(&m.mask);
    m
}

/// The flow label; extension headers, which OVS does not show, where there are any.
fn shown_of_ipv6(key: &Key, mask: &mut Key) {
    Field::Ipv6Label.unwildcard(mask);
    if Field::Ipv6Exthdr.get(key) != 0 {
        Field::Ipv6Exthdr.unwildcard(mask);
    }
}

fn transport(m: &mut Match, key: &Key) {
    let mut whole = |field: Field| field.set_mask(&mut m.mask, field.exact());
    [Field::NwTos, Field::NwEcn, Field::NwTtl, Field::NwProto, Field::IpFrag].into_iter().for_each(&mut whole);
    let has_ports = matches!(key.nw_proto, PROTO_ICMP | PROTO_ICMPV6 | PROTO_TCP | PROTO_UDP | PROTO_SCTP);
    if key.nw_frag & FRAG_LATER != 0 || !has_ports {
        return;
    }
    if key.nw_proto == PROTO_TCP {
        whole(Field::TcpFlags);
    }
    m.mask.tp_src = [0xff; 2];
    m.mask.tp_dst = [0xff; 2];
}

fn nsh(m: &mut Match) {
    let fields = [
        Field::NshFlags,
        Field::NshTtl,
        Field::NshMdtype,
        Field::NshNp,
        Field::NshSpi,
        Field::NshSi,
        Field::NshC1,
        Field::NshC2,
        Field::NshC3,
        Field::NshC4,
    ];
    fields.into_iter().for_each(|field| field.set_mask(&mut m.mask, field.exact()));
}
