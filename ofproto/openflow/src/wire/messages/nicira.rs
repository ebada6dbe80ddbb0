//! Nicira's own messages: settings of a connection, tunnel TLV tables, conntrack flushes, IPFIX statistics.

use crate::error::OfError;
use crate::message::{Body, CtFlush, CtTuple, IpfixStats, MultipartBody, TlvMap, TlvTableMod, TlvTableReply};
use crate::wire::Out;
use crate::wire::bytes::{Put, Reader};
use crate::wire::props::{self, Property};
use flow::fields::{TUN_OPTION_BYTES_MAX, TUN_OPTIONS_MAX};

/// Flow formats: OpenFlow 1.0 and NXM.
const FLOW_FORMATS: [u32; 2] = [0, 2];
const PACKET_IN_FORMAT_MAX: u32 = 2;
/// NXTTMC_CLEAR
const TLV_COMMAND_MAX: u16 = 2;
/// Top-level properties of a flush: tuples, zone, and since 3.3 mark and labels with their masks.
const CT_ORIGINAL: u64 = 0;
const CT_REPLY: u64 = 1;
const CT_ZONE: u64 = 2;
const CT_MARK: u64 = 3;
const CT_MARK_MASK: u64 = 4;
const CT_LABELS: u64 = 5;
const CT_LABELS_MASK: u64 = 6;
/// Address families of `l3_family`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const PROTO_ICMP: u8 = 1;
const PROTO_ICMPV6: u8 = 58;

pub(super) fn set_flow_format(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let format = r.u32()?;
    if FLOW_FORMATS.contains(&format) { Ok(Body::SetFlowFormat(format)) } else { Err(OfError::OfpbrcEperm) }
}

pub(super) fn set_packet_in_format(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let format = r.u32()?;
    if format <= PACKET_IN_FORMAT_MAX { Ok(Body::SetPacketInFormat(format)) } else { Err(OfError::OfpbrcEperm) }
}

pub(super) fn flow_mod_table_id(r: &mut Reader<'_>) -> Result<Body, OfError> {
    Ok(Body::FlowModTableId(r.u8()? != 0))
}

pub(super) fn set_controller_id(r: &mut Reader<'_>) -> Result<Body, OfError> {
    r.zeros(6, OfError::NxbrcMustBeZero)?;
    Ok(Body::SetControllerId(r.u16()?))
}

pub(super) fn ct_flush_zone(r: &mut Reader<'_>) -> Result<Body, OfError> {
    r.zeros(6, OfError::NxbrcMustBeZero)?;
    Ok(Body::CtFlushZone(r.u16()?))
}

/// Six bytes of padding and a number.
pub(super) fn put_last_u16(o: &mut Out<'_>, n: u16) {
    o.bytes.zeros(6);
    o.bytes.u16(n);
}

fn maps(r: &mut Reader<'_>, fields: usize) -> Result<Vec<TlvMap>, OfError> {
    let mut maps = Vec::new();
    while !r.is_empty() {
        let map = TlvMap { class: r.u16()?, kind: r.u8()?, len: r.u8()?, index: r.u16()? };
        r.skip(2)?;
        if !map.len.is_multiple_of(4) || usize::from(map.len) > TUN_OPTION_BYTES_MAX {
            return Err(OfError::NxttmfcBadOptLen);
        }
        if usize::from(map.index) >= fields {
            return Err(OfError::NxttmfcBadFieldIdx);
        }
        maps.push(map);
    }
    Ok(maps)
}

fn put_maps(out: &mut Vec<u8>, maps: &[TlvMap]) {
    for map in maps {
        out.u16(map.class);
        out.bytes(&[map.kind, map.len]);
        out.u16(map.index);
        out.zeros(2);
    }
}

pub(super) fn tlv_table_mod(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let command = r.u16()?;
    r.skip(6)?;
    if command > TLV_COMMAND_MAX {
        return Err(OfError::NxttmfcBadCommand);
    }
    Ok(Body::TlvTableMod(TlvTableMod { command, maps: maps(r, TUN_OPTIONS_MAX)? }))
}

pub(super) fn put_tlv_table_mod(o: &mut Out<'_>, m: &TlvTableMod) {
    o.bytes.u16(m.command);
    o.bytes.zeros(6);
    put_maps(o.bytes, &m.maps);
}

pub(super) fn tlv_table_reply(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let (max_space, max_fields) = (r.u32()?, r.u16()?);
    r.skip(10)?;
    Ok(Body::TlvTableReply(TlvTableReply { max_space, max_fields, maps: maps(r, usize::from(max_fields))? }))
}

pub(super) fn put_tlv_table_reply(o: &mut Out<'_>, reply: &TlvTableReply) {
    o.bytes.u32(reply.max_space);
    o.bytes.u16(reply.max_fields);
    o.bytes.zeros(10);
    put_maps(o.bytes, &reply.maps);
}

pub(super) fn ct_flush(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let mut f = CtFlush { ip_proto: r.u8()?, ..CtFlush::default() };
    r.zeros(7, OfError::NxbrcMustBeZero)?;
    while !r.is_empty() {
        let p = Property::pull(r)?;
        match p.kind {
            CT_ORIGINAL => f.original = Some(tuple(&p, &mut f.l3_family)?),
            CT_REPLY => f.reply = Some(tuple(&p, &mut f.l3_family)?),
            CT_ZONE => f.zone = Some(p.u16()?),
            // A mark without a mask is matched whole.
            CT_MARK => f.mark = Some((p.u32()?, f.mark.map_or(u32::MAX, |m| m.1))),
            CT_MARK_MASK => f.mark = Some((f.mark.map_or(0, |m| m.0), p.u32()?)),
            CT_LABELS => f.labels = Some((u128::from_be_bytes(p.exact()?), f.labels.map_or(u128::MAX, |m| m.1))),
            CT_LABELS_MASK => f.labels = Some((f.labels.map_or(0, |m| m.0), u128::from_be_bytes(p.exact()?))),
            _ => {}
        }
    }
    Ok(Body::CtFlush(Box::new(f)))
}

/// An address, and the family it is of: both of a tuple must be of one.
fn address(p: &Property<'_>, family: &mut u16) -> Result<[u8; 16], OfError> {
    let address: [u8; 16] = *p.value().first_chunk().ok_or(OfError::OfpbpcBadLen)?;
    let mapped = std::net::Ipv6Addr::from(address).to_ipv4_mapped().is_some();
    let own = match address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => return Ok(address),
        _ if mapped => AF_INET,
        _ => AF_INET6,
    };
    if *family != 0 && *family != own {
        return Err(OfError::OfpbpcBadValue);
    }
    *family = own;
    Ok(address)
}

fn tuple(p: &Property<'_>, family: &mut u16) -> Result<CtTuple, OfError> {
    let mut t = CtTuple::default();
    let mut r = p.nested()?;
    while !r.is_empty() {
        let p = Property::pull(&mut r)?;
        match p.kind {
            0 => t.src = address(&p, family)?,
            1 => t.dst = address(&p, family)?,
            2 => t.src_port = p.u16()?,
            3 => t.dst_port = p.u16()?,
            4 => t.icmp_id = p.u16()?,
            5 => t.icmp_type = p.u8()?,
            6 => t.icmp_code = p.u8()?,
            _ => {}
        }
    }
    Ok(t)
}

fn put_tuple(out: &mut Vec<u8>, kind: u64, t: &CtTuple, ip_proto: u8) {
    let at = props::start_nested(out, kind);
    let inner = out.len();
    for (kind, address) in [(0, t.src), (1, t.dst)] {
        if address != [0; 16] {
            props::put(out, kind, &address);
        }
    }
    if matches!(ip_proto, PROTO_ICMP | PROTO_ICMPV6) {
        props::put_u16(out, 4, t.icmp_id);
        props::put_u8(out, 5, t.icmp_type);
        props::put_u8(out, 6, t.icmp_code);
    } else {
        for (kind, port) in [(2, t.src_port), (3, t.dst_port)] {
            if port != 0 {
                props::put_u16(out, kind, port);
            }
        }
    }
    if out.len() == inner {
        out.truncate(at);
    } else {
        props::end(out, at);
    }
}

pub(super) fn put_ct_flush(o: &mut Out<'_>, f: &CtFlush) {
    o.bytes.u8(f.ip_proto);
    o.bytes.zeros(7);
    for (kind, tuple) in [(CT_ORIGINAL, &f.original), (CT_REPLY, &f.reply)] {
        if let Some(tuple) = tuple {
            put_tuple(o.bytes, kind, tuple, f.ip_proto);
        }
    }
    if let Some(zone) = f.zone {
        props::put_u16(o.bytes, CT_ZONE, zone);
    }
    if let Some((mark, mask)) = f.mark {
        props::put_u32(o.bytes, CT_MARK, mark);
        props::put_u32(o.bytes, CT_MARK_MASK, mask);
    }
    if let Some((labels, mask)) = f.labels {
        props::put(o.bytes, CT_LABELS, &labels.to_be_bytes());
        props::put(o.bytes, CT_LABELS_MASK, &mask.to_be_bytes());
    }
}

/// The counters in the order of the wire.
fn counters(s: &mut IpfixStats) -> [&mut u64; 10] {
    [
        &mut s.total_flows,
        &mut s.current_flows,
        &mut s.packets,
        &mut s.ipv4_packets,
        &mut s.ipv6_packets,
        &mut s.error_packets,
        &mut s.ipv4_error_packets,
        &mut s.ipv6_error_packets,
        &mut s.tx_packets,
        &mut s.tx_errors,
    ]
}

pub(super) fn ipfix(r: &mut Reader<'_>) -> Result<IpfixStats, OfError> {
    let mut s = IpfixStats::default();
    for counter in counters(&mut s) {
        *counter = r.u64()?;
    }
    s.collector_set_id = r.u32()?;
    r.skip(4)?;
    Ok(s)
}

pub(super) fn ipfix_flows(r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut all = Vec::new();
    while !r.is_empty() {
        all.push(ipfix(r)?);
    }
    Ok(MultipartBody::IpfixFlowReply(all))
}

pub(super) fn put_ipfix(o: &mut Out<'_>, stats: &IpfixStats) {
    let mut s = *stats;
    o.entry(|out| {
        counters(&mut s).into_iter().for_each(|c| out.u64(*c));
        out.u32(s.collector_set_id);
        out.zeros(4);
    });
}
