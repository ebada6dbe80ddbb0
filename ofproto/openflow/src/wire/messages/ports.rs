//! Ports: description, status, modification, statistics.

use crate::error::OfError;
use crate::message::{Body, MultipartBody, PortCounters, PortDesc, PortMod, PortStatsEntry, PortStatus};
use crate::types::{OfPort, Version};
use crate::wire::bytes::{Put, Reader};
use crate::wire::props::{self, Property, experimenter};
use crate::wire::{In, Out};

impl PortDesc {
    /// Speed of the fastest mode, which OpenFlow 1.0 does not tell.
    #[must_use]
    pub fn fastest_kbps(features: u32) -> u32 {
        const MODES: [(u32, u32); 7] = [
            (1 << 9, 1_000_000_000),
            (1 << 8, 100_000_000),
            (1 << 7, 40_000_000),
            (1 << 6, 10_000_000),
            (3 << 4, 1_000_000),
            (3 << 2, 100_000),
            (3, 10_000),
        ];
        MODES.iter().find(|(bits, _)| features & bits != 0).map_or(0, |m| m.1)
    }
}

const NAME_LEN: usize = 16;
/// OFPPC10_ALL, OFPPC11_ALL, OFPPS10_ALL, OFPPS11_ALL
const CONFIG10: u32 = 0x7f;
const CONFIG11: u32 = 0x65;
const STATE10: u32 = 1 | 3 << 8;
const STATE11: u32 = 7;
/// OFPPF_* that all versions have; what is above them moved between 1.0 and 1.1 to make room for faster links.
const FEATURES_SAME: u32 = 0x7f;
const FEATURES11: u32 = 0xffff;
/// Property types.
const ETHERNET: u64 = 0;
const INTEL: u32 = 0x0000_aa01;
const RFC2819: u64 = experimenter(INTEL, 1);
const CUSTOM: u64 = experimenter(INTEL, 2);
/// Bytes of an Ethernet property's value with its padding, in descriptions and in statistics.
const ETHERNET_DESC: usize = 28;
const ETHERNET_STATS: usize = 36;
const DESC14: usize = 40;
const STATS14: usize = 80;

fn features10(wire: u32) -> u32 {
    wire & FEATURES_SAME | (wire & 0xf80) << 4
}

fn to_features10(features: u32) -> u32 {
    features & FEATURES_SAME | (features & 0xf800) >> 4
}

/// A port number as the version has it in requests.
pub(super) fn pull_port(i: &In<'_>, r: &mut Reader<'_>) -> Result<OfPort, OfError> {
    if i.version == Version::V10 { r.u16().map(OfPort::from_wire16) } else { r.u32().and_then(OfPort::from_wire32) }
}

/// A port number padded to eight bytes.
pub(super) fn put_port(o: &mut Out<'_>, port: OfPort) {
    if o.version == Version::V10 {
        o.bytes.u16(port.to_wire16());
        o.bytes.zeros(6);
    } else {
        o.bytes.u32(port.0);
        o.bytes.zeros(4);
    }
}

fn pull(version: Version, r: &mut Reader<'_>) -> Result<PortDesc, OfError> {
    match version {
        Version::V10 => pull10(r),
        Version::V11 | Version::V12 | Version::V13 => pull11(r),
        Version::V14 | Version::V15 => pull14(r),
    }
}

/// Descriptions to the end of the message.
pub(super) fn pull_all(version: Version, r: &mut Reader<'_>) -> Result<Vec<PortDesc>, OfError> {
    let mut ports = Vec::new();
    while !r.is_empty() {
        ports.push(pull(version, r)?);
    }
    Ok(ports)
}

fn pull10(r: &mut Reader<'_>) -> Result<PortDesc, OfError> {
    let mut p =
        PortDesc { port: OfPort::from_wire16(r.u16()?), hw_addr: r.array()?, name: r.name(NAME_LEN)?, ..PortDesc::default() };
    p.config = r.u32()? & CONFIG10;
    p.state = r.u32()? & STATE10;
    for features in [&mut p.curr, &mut p.advertised, &mut p.supported, &mut p.peer] {
        *features = features10(r.u32()?);
    }
    p.curr_speed_kbps = PortDesc::fastest_kbps(p.curr);
    p.max_speed_kbps = PortDesc::fastest_kbps(p.supported);
    Ok(p)
}

fn pull_features11(p: &mut PortDesc, r: &mut Reader<'_>) -> Result<(), OfError> {
    for features in [&mut p.curr, &mut p.advertised, &mut p.supported, &mut p.peer] {
        *features = r.u32()? & FEATURES11;
    }
    p.curr_speed_kbps = r.u32()?;
    p.max_speed_kbps = r.u32()?;
    Ok(())
}

fn pull11(r: &mut Reader<'_>) -> Result<PortDesc, OfError> {
    let mut body = r.sub(64)?;
    let port = OfPort::from_wire32(body.u32()?)?;
    body.skip(4)?;
    let mut p = PortDesc { port, hw_addr: body.array()?, ..PortDesc::default() };
    body.skip(2)?;
    p.name = body.name(NAME_LEN)?;
    p.config = body.u32()? & CONFIG11;
    p.state = body.u32()? & STATE11;
    pull_features11(&mut p, &mut body)?;
    Ok(p)
}

fn pull14(r: &mut Reader<'_>) -> Result<PortDesc, OfError> {
    let mut body = *r;
    let number = body.u32()?;
    let len = usize::from(body.u16()?);
    if len < DESC14 {
        return Err(OfError::OfpbrcBadLen);
    }
    let mut body = r.sub(len)?;
    body.skip(8)?;
    let mut p = PortDesc { port: OfPort::from_wire32(number)?, hw_addr: body.array()?, ..PortDesc::default() };
    body.skip(2)?;
    p.name = body.name(NAME_LEN)?;
    p.config = body.u32()? & CONFIG11;
    p.state = body.u32()? & STATE11;
    while !body.is_empty() {
        let property = Property::pull(&mut body)?;
        if property.kind == ETHERNET {
            let mut value = property.sized(ETHERNET_DESC)?;
            value.skip(4)?;
            pull_features11(&mut p, &mut value)?;
        }
    }
    Ok(p)
}

/// Appends one description.
pub(super) fn put_desc(out: &mut Vec<u8>, version: Version, p: &PortDesc) {
    if version == Version::V10 {
        out.u16(p.port.to_wire16());
        out.bytes(&p.hw_addr);
        out.name(&p.name, NAME_LEN);
        out.u32(p.config & CONFIG10);
        out.u32(p.state & STATE10);
        [p.curr, p.advertised, p.supported, p.peer].into_iter().for_each(|f| out.u32(to_features10(f)));
        return;
    }
    let v14 = version >= Version::V14;
    out.u32(p.port.0);
    if v14 {
        out.u16(72);
        out.zeros(2);
    } else {
        out.zeros(4);
    }
    out.bytes(&p.hw_addr);
    out.zeros(2);
    out.name(&p.name, NAME_LEN);
    out.u32(p.config & CONFIG11);
    out.u32(p.state & STATE11);
    let property = v14.then(|| {
        let at = props::start(out, ETHERNET);
        out.zeros(4);
        at
    });
    [p.curr, p.advertised, p.supported, p.peer].into_iter().for_each(|f| out.u32(f & FEATURES11));
    out.u32(p.curr_speed_kbps);
    out.u32(p.max_speed_kbps);
    if let Some(at) = property {
        props::end(out, at);
    }
}

pub(super) fn put_all(o: &mut Out<'_>, ports: &[PortDesc]) {
    let version = o.version;
    ports.iter().for_each(|p| o.entry(|out| put_desc(out, version, p)));
}

pub(super) fn port_status(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let reason = r.u8()?;
    if reason > 2 {
        return Err(OfError::NxbrcBadReason);
    }
    r.skip(7)?;
    Ok(Body::PortStatus(Box::new(PortStatus { reason, desc: pull(i.version, r)? })))
}

pub(super) fn put_port_status(o: &mut Out<'_>, s: &PortStatus) {
    o.bytes.u8(s.reason);
    o.bytes.zeros(7);
    put_desc(o.bytes, o.version, &s.desc);
}

pub(super) fn port_mod(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let v10 = i.version == Version::V10;
    let port = pull_port(i, r)?;
    r.skip(if v10 { 0 } else { 4 })?;
    let hw_addr = r.array()?;
    r.skip(if v10 { 0 } else { 2 })?;
    let bits = if v10 { CONFIG10 } else { CONFIG11 };
    let (config, mask) = (r.u32()? & bits, r.u32()? & bits);
    let mut advertise = 0;
    if v10 {
        advertise = features10(r.u32()?);
    } else if i.version < Version::V14 {
        advertise = r.u32()? & FEATURES11;
    } else {
        while !r.is_empty() {
            let property = Property::pull(r)?;
            match property.kind {
                ETHERNET => advertise = property.u32()? & FEATURES11,
                _ => property.unknown(false)?,
            }
        }
    }
    Ok(Body::PortMod(Box::new(PortMod { port, hw_addr, config: config & mask, mask, advertise })))
}

pub(super) fn put_port_mod(o: &mut Out<'_>, pm: &PortMod) {
    let v10 = o.version == Version::V10;
    let bits = if v10 { CONFIG10 } else { CONFIG11 };
    if v10 {
        o.bytes.u16(pm.port.to_wire16());
        o.bytes.bytes(&pm.hw_addr);
    } else {
        o.bytes.u32(pm.port.0);
        o.bytes.zeros(4);
        o.bytes.bytes(&pm.hw_addr);
        o.bytes.zeros(2);
    }
    o.bytes.u32(pm.config & bits);
    o.bytes.u32(pm.mask & bits);
    if o.version >= Version::V14 {
        if pm.advertise != 0 {
            props::put_u32(o.bytes, ETHERNET, pm.advertise & FEATURES11);
        }
    } else {
        o.bytes.u32(if v10 { to_features10(pm.advertise) } else { pm.advertise & FEATURES11 });
        o.bytes.zeros(4);
    }
}

/// The counters that stand in all versions' statistics, in their order.
fn common(c: &mut PortCounters) -> [&mut u64; 8] {
    [
        &mut c.rx_packets,
        &mut c.tx_packets,
        &mut c.rx_bytes,
        &mut c.tx_bytes,
        &mut c.rx_dropped,
        &mut c.tx_dropped,
        &mut c.rx_errors,
        &mut c.tx_errors,
    ]
}

/// The counters of Ethernet, which 1.4 moved into a property.
fn ethernet(c: &mut PortCounters) -> [&mut u64; 4] {
    [&mut c.rx_frame_err, &mut c.rx_over_err, &mut c.rx_crc_err, &mut c.collisions]
}

pub(super) fn stats_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut ports = Vec::new();
    while !r.is_empty() {
        ports.push(if i.version >= Version::V14 { stats14(r)? } else { stats(i, r)? });
    }
    Ok(MultipartBody::PortReply(ports))
}

fn unknown_counters() -> PortStatsEntry {
    let mut stats = PortCounters::default();
    common(&mut stats).into_iter().for_each(|c| *c = u64::MAX);
    ethernet(&mut stats).into_iter().for_each(|c| *c = u64::MAX);
    PortStatsEntry { stats, duration_sec: u32::MAX, duration_nsec: u32::MAX, ..PortStatsEntry::default() }
}

fn stats(i: &In<'_>, r: &mut Reader<'_>) -> Result<PortStatsEntry, OfError> {
    let mut s = unknown_counters();
    s.port = pull_port(i, r)?;
    r.skip(if i.version == Version::V10 { 6 } else { 4 })?;
    for counter in common(&mut s.stats) {
        *counter = r.u64()?;
    }
    for counter in ethernet(&mut s.stats) {
        *counter = r.u64()?;
    }
    if i.version == Version::V13 {
        s.duration_sec = r.u32()?;
        s.duration_nsec = r.u32()?;
    }
    Ok(s)
}

fn stats14(r: &mut Reader<'_>) -> Result<PortStatsEntry, OfError> {
    let len = usize::from(r.peek_u16()?);
    if len < STATS14 {
        return Err(OfError::OfpbrcBadLen);
    }
    let mut body = r.sub(len)?;
    body.skip(4)?;
    let mut s = unknown_counters();
    s.port = OfPort::from_wire32(body.u32()?)?;
    s.duration_sec = body.u32()?;
    s.duration_nsec = body.u32()?;
    for counter in common(&mut s.stats) {
        *counter = body.u64()?;
    }
    while !body.is_empty() {
        let property = Property::pull(&mut body)?;
        match property.kind {
            ETHERNET => {
                let mut value = property.sized(ETHERNET_STATS)?;
                value.skip(4)?;
                for counter in ethernet(&mut s.stats) {
                    *counter = value.u64()?;
                }
            }
            RFC2819 => {
                let mut value = property.sized(4 + 21 * 8)?;
                value.skip(4)?;
                let mut counters = Box::new([0; 21]);
                for counter in counters.iter_mut() {
                    *counter = value.u64()?;
                }
                s.rfc2819 = Some(counters);
            }
            CUSTOM => s.custom = custom(Reader::new(property.value(), OfError::OfpbpcBadLen))?,
            _ => {}
        }
    }
    Ok(s)
}

fn custom(mut value: Reader<'_>) -> Result<Vec<(String, u64)>, OfError> {
    value.skip(2)?;
    let n = value.u16()?;
    let mut counters = Vec::new();
    for _ in 0..n {
        let len = usize::from(value.u8()?);
        let name = String::from_utf8_lossy(value.take(len)?).into_owned();
        counters.push((name, value.u64()?));
    }
    Ok(counters)
}

pub(super) fn put_stats_reply(o: &mut Out<'_>, ports: &[PortStatsEntry]) {
    let version = o.version;
    for port in ports {
        o.entry(|out| if version >= Version::V14 { put_stats14(out, port) } else { put_stats(out, version, port) });
    }
}

fn put_stats(out: &mut Vec<u8>, version: Version, s: &PortStatsEntry) {
    let mut stats = s.stats;
    if version == Version::V10 {
        out.u16(s.port.to_wire16());
        out.zeros(6);
    } else {
        out.u32(s.port.0);
        out.zeros(4);
    }
    common(&mut stats).into_iter().for_each(|c| out.u64(*c));
    ethernet(&mut stats).into_iter().for_each(|c| out.u64(*c));
    if version == Version::V13 {
        out.u32(s.duration_sec);
        out.u32(s.duration_nsec);
    }
}

fn put_stats14(out: &mut Vec<u8>, s: &PortStatsEntry) {
    let mut stats = s.stats;
    let start = out.len();
    out.zeros(4);
    out.u32(s.port.0);
    out.u32(s.duration_sec);
    out.u32(s.duration_nsec);
    common(&mut stats).into_iter().for_each(|c| out.u64(*c));
    let at = props::start(out, ETHERNET);
    out.zeros(4);
    ethernet(&mut stats).into_iter().for_each(|c| out.u64(*c));
    props::end(out, at);
    let at = props::start(out, RFC2819);
    out.zeros(4);
    s.rfc2819.as_deref().unwrap_or(&[u64::MAX; 21]).iter().for_each(|c| out.u64(*c));
    props::end(out, at);
    if !s.custom.is_empty() {
        let at = props::start(out, CUSTOM);
        out.zeros(2);
        out.u16(crate::wire::bytes::len16(s.custom.len()));
        for (name, value) in &s.custom {
            let name = &name.as_bytes()[..name.len().min(255)];
            out.u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.bytes(name);
            out.u64(*value);
        }
        props::end(out, at);
    }
    out.close_len(start, start);
}
