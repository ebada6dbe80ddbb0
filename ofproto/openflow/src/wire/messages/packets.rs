//! Packets: packet-in in its three encodings, packet-out, and resume with the continuation of a paused packet.

use crate::error::OfError;
use crate::message::{Body, Frame, PacketIn, PacketInFormat, PacketInPrivate, PacketOut};
use crate::types::{NO_BUFFER, OfPort, TableId, Version};
use crate::wire::actions::{self, verify::Outer};
use crate::wire::bytes::{Put, Reader, len16};
use crate::wire::matches::{self, How, LOOSE, STRICT};
use crate::wire::props::{self, Property};
use crate::wire::{Codec, In, Out};
use flow::fields::Field;
use flow::matching::Match;

/// OFPR_*
const NO_MATCH: u8 = 0;
const ACTION: u8 = 1;
const ACTION_SET: u8 = 3;
const PACKET_OUT: u8 = 5;
const EXPLICIT_MISS: u8 = 6;
const IMPLICIT_MISS: u8 = 7;
/// NXPINT_*
const P_PACKET: u64 = 0;
const P_FULL_LEN: u64 = 1;
const P_BUFFER_ID: u64 = 2;
const P_TABLE_ID: u64 = 3;
const P_COOKIE: u64 = 4;
const P_REASON: u64 = 5;
const P_METADATA: u64 = 6;
const P_USERDATA: u64 = 7;
const P_CONTINUATION: u64 = 8;
/// NXCPT_*
const C_BRIDGE: u64 = 0x8000;
const C_STACK: u64 = 0x8001;
const C_MIRRORS: u64 = 0x8002;
const C_CONNTRACKED: u64 = 0x8003;
const C_TABLE_ID: u64 = 0x8004;
const C_COOKIE: u64 = 0x8005;
const C_ACTIONS: u64 = 0x8006;
const C_ACTION_SET: u64 = 0x8007;
const C_ODP_PORT: u64 = 0x8008;
/// Bytes of the widest value on the stack.
const STACK_VALUE_MAX: usize = 128;

fn empty() -> PacketIn {
    PacketIn {
        packet: Vec::new(),
        full_len: 0,
        buffer_id: NO_BUFFER,
        reason: 0,
        table: TableId(0),
        cookie: u64::MAX,
        metadata: Match::default(),
        userdata: Vec::new(),
        continuation: Vec::new(),
        format: PacketInFormat::Standard,
    }
}

pub(super) fn packet_in(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let mut p = empty();
    p.buffer_id = r.u32()?;
    if i.extension() {
        p.format = PacketInFormat::Nxt;
        p.full_len = u32::from(r.u16()?);
        (p.reason, p.table, p.cookie) = (r.u8()?, TableId(r.u8()?), r.u64()?);
        let match_len = r.u16()?;
        r.skip(6)?;
        p.metadata = matches::pull_nxm(r, match_len, i.codec, LOOSE)?.0;
        r.skip(2)?;
    } else if i.version == Version::V10 {
        p.full_len = u32::from(r.u16()?);
        p.metadata.set(Field::InPort, u128::from(r.u16()?));
        p.reason = r.u8()?;
        r.skip(1)?;
    } else if i.version == Version::V11 {
        let port = OfPort::from_wire32(r.u32()?)?;
        r.skip(4)?;
        p.metadata.set(Field::InPort, u128::from(port.to_wire16()));
        p.full_len = u32::from(r.u16()?);
        (p.reason, p.table) = (r.u8()?, TableId(r.u8()?));
    } else {
        p.full_len = u32::from(r.u16()?);
        (p.reason, p.table) = (r.u8()?, TableId(r.u8()?));
        if i.version >= Version::V13 {
            p.cookie = r.u64()?;
        }
        p.metadata = matches::pull_oxm(r, i.codec, LOOSE)?;
        r.skip(2)?;
    }
    p.packet = r.rest().to_vec();
    Ok(Body::PacketIn(Box::new(p)))
}

/// NXT_PACKET_IN2, and the public part of NXT_RESUME. A switch takes no unknown properties, a controller passes over them.
pub(super) fn packet_in2(i: &In<'_>, r: &mut Reader<'_>) -> Result<PacketIn, OfError> {
    let loose = i.codec.options.is_none();
    let mut p = PacketIn { format: PacketInFormat::Nxt2, ..empty() };
    while !r.is_empty() {
        let property = Property::pull(r)?;
        match property.kind {
            P_PACKET => p.packet = property.value().to_vec(),
            P_FULL_LEN => p.full_len = property.u32()?,
            P_BUFFER_ID => p.buffer_id = property.u32()?,
            P_TABLE_ID => p.table = TableId(property.u8()?),
            P_COOKIE => p.cookie = property.u64()?,
            P_REASON => p.reason = property.u8()?,
            P_METADATA => {
                let list = Reader::new(property.value(), OfError::OfpbmcBadLen);
                p.metadata = matches::pull_entries(list, i.codec, if loose { LOOSE } else { STRICT })?.0;
            }
            P_USERDATA => p.userdata = property.value().to_vec(),
            P_CONTINUATION => p.continuation = property.nested()?.rest().to_vec(),
            _ => property.unknown(loose)?,
        }
    }
    let len = u32::try_from(p.packet.len()).unwrap_or(u32::MAX);
    if p.full_len == 0 {
        p.full_len = len;
    }
    if p.packet.is_empty() || p.full_len < len { Err(OfError::OfpbrcBadLen) } else { Ok(p) }
}

/// The reason in the version's vocabulary.
fn reason(reason: u8, version: Version) -> u8 {
    match reason {
        ACTION_SET..=PACKET_OUT if version < Version::V14 => ACTION,
        EXPLICIT_MISS if version < Version::V13 => ACTION,
        EXPLICIT_MISS | IMPLICIT_MISS => NO_MATCH,
        reason => reason,
    }
}

fn in_port(m: &Match) -> OfPort {
    #[allow(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
    OfPort(m.get(Field::InPortOxm).0 as u32)
}

pub(super) fn put_packet_in(o: &mut Out<'_>, p: &PacketIn) {
    let version = o.version;
    if p.format == PacketInFormat::Nxt2 {
        put_public(o.bytes, o.codec, version, p);
        put_continuation(o.bytes, &p.continuation);
        if !p.userdata.is_empty() {
            props::put(o.bytes, P_USERDATA, &p.userdata);
        }
        return;
    }
    let full_len = u16::try_from(p.full_len).unwrap_or(u16::MAX);
    let reason = reason(p.reason, version);
    o.bytes.u32(p.buffer_id);
    if o.extension {
        o.bytes.u16(full_len);
        o.bytes.bytes(&[reason, p.table.0]);
        o.bytes.u64(p.cookie);
        let len_at = o.bytes.len();
        o.bytes.zeros(8);
        let len = matches::put_nxm(o.bytes, o.codec, &p.metadata, 0, 0);
        o.bytes.set_u16(len_at, len);
        o.bytes.zeros(2);
    } else if version == Version::V10 {
        o.bytes.u16(full_len);
        o.bytes.u16(in_port(&p.metadata).to_wire16());
        o.bytes.bytes(&[reason, 0]);
    } else if version == Version::V11 {
        let port = in_port(&p.metadata).0;
        o.bytes.u32(port);
        o.bytes.u32(port);
        o.bytes.u16(full_len);
        o.bytes.bytes(&[reason, p.table.0]);
    } else {
        o.bytes.u16(full_len);
        o.bytes.bytes(&[reason, p.table.0]);
        if version >= Version::V13 {
            o.bytes.u64(p.cookie);
        }
        matches::put_oxm(o.bytes, o.codec, version, &p.metadata);
        o.bytes.zeros(2);
    }
    o.bytes.bytes(&p.packet);
}

fn put_public(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, p: &PacketIn) {
    props::put(out, P_PACKET, &p.packet);
    if usize::try_from(p.full_len) != Ok(p.packet.len()) {
        props::put_u32(out, P_FULL_LEN, p.full_len);
    }
    if p.buffer_id != NO_BUFFER {
        props::put_u32(out, P_BUFFER_ID, p.buffer_id);
    }
    props::put_u8(out, P_TABLE_ID, p.table.0);
    if p.cookie != u64::MAX {
        props::put_u64(out, P_COOKIE, p.cookie);
    }
    props::put_u8(out, P_REASON, reason(p.reason, version));
    let at = props::start(out, P_METADATA);
    matches::put_entries(out, codec, Some(version), &p.metadata);
    props::end(out, at);
}

fn put_continuation(out: &mut Vec<u8>, continuation: &[u8]) {
    if !continuation.is_empty() {
        let at = props::start_nested(out, P_CONTINUATION);
        out.bytes(continuation);
        props::end(out, at);
    }
}

pub(super) fn packet_out(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let buffer_id = r.u32()?;
    let mut metadata = Match::default();
    let actions_len;
    if i.version == Version::V15 {
        actions_len = r.u16()?;
        r.skip(2)?;
        metadata = matches::pull_oxm(r, i.codec, How { pipeline_only: true, ..LOOSE })?;
        if !metadata.has(Field::InPort) {
            return Err(OfError::OfpbrcBadPort);
        }
    } else {
        let port = super::ports::pull_port(i, r)?;
        actions_len = r.u16()?;
        r.skip(if i.version == Version::V10 { 0 } else { 6 })?;
        metadata.set(Field::PacketType, 0);
        metadata.set(Field::InPort, u128::from(port.to_wire16()));
    }
    let actions = actions::pull(r, usize::from(actions_len), i.codec, i.version, Outer::Actions)?;
    let port = in_port(&metadata);
    if port.0 >= OfPort::REAL_MAX && !matches!(port, OfPort::LOCAL | OfPort::ANY | OfPort::CONTROLLER) {
        return Err(OfError::OfpbrcBadPort);
    }
    let packet = if buffer_id == NO_BUFFER { r.rest().to_vec() } else { Vec::new() };
    Ok(Body::PacketOut(Box::new(PacketOut { buffer_id, packet, metadata, actions })))
}

pub(super) fn put_packet_out(o: &mut Out<'_>, p: &PacketOut) {
    let version = o.version;
    o.bytes.u32(p.buffer_id);
    let port = in_port(&p.metadata);
    let len_at;
    if version == Version::V15 {
        len_at = o.bytes.len();
        o.bytes.zeros(4);
        matches::put_oxm(o.bytes, o.codec, version, &p.metadata);
    } else if version == Version::V10 {
        o.bytes.u16(port.to_wire16());
        len_at = o.bytes.len();
        o.bytes.u16(0);
    } else {
        o.bytes.u32(port.0);
        len_at = o.bytes.len();
        o.bytes.zeros(8);
    }
    let start = o.bytes.len();
    actions::put(o.bytes, o.codec, version, &p.actions);
    let len = len16(o.bytes.len() - start);
    o.bytes.set_u16(len_at, len);
    if p.buffer_id == NO_BUFFER {
        o.bytes.bytes(&p.packet);
    }
}

impl PacketInPrivate {
    /// Reads the continuation of a packet-in: where translation goes on.
    ///
    /// # Errors
    /// `OFPBPC_*` for bad properties, and those of the actions.
    pub fn from_public(public: PacketIn, codec: &Codec<'_>, version: Version) -> Result<Self, OfError> {
        let mut p = Self {
            public,
            bridge: [0; 16],
            stack: Vec::new(),
            mirrors: 0,
            conntracked: false,
            odp_port: 0,
            frames: Vec::new(),
            action_set: Vec::new(),
        };
        let continuation = std::mem::take(&mut p.public.continuation);
        let (mut table, mut cookie) = (TableId(0), 0);
        let mut r = Reader::new(&continuation, OfError::OfpbpcBadLen);
        let list = |property: &Property<'_>| {
            let mut r = property.nested()?;
            let len = r.len();
            actions::pull(&mut r, len, codec, version, Outer::Actions)
        };
        while !r.is_empty() {
            let property = Property::pull(&mut r)?;
            match property.kind {
                C_BRIDGE => p.bridge = property.exact()?,
                C_STACK if property.value().len() > STACK_VALUE_MAX => return Err(OfError::OfpbpcBadLen),
                C_STACK => p.stack.push(property.value().to_vec()),
                C_MIRRORS => p.mirrors = property.u32()?,
                C_CONNTRACKED => p.conntracked = true,
                C_TABLE_ID => table = TableId(property.u8()?),
                C_COOKIE => cookie = property.u64()?,
                C_ACTIONS => p.frames.push(Frame { table, cookie, actions: list(&property)? }),
                C_ACTION_SET => p.action_set.extend(list(&property)?),
                C_ODP_PORT => p.odp_port = property.u32()?,
                _ => property.unknown(codec.options.is_none())?,
            }
        }
        Ok(p)
    }

    /// The continuation as a packet-in carries it (`PacketIn::continuation`).
    #[must_use]
    pub fn continuation(&self, codec: &Codec<'_>, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        if self.bridge != [0; 16] {
            props::put(&mut out, C_BRIDGE, &self.bridge);
        }
        self.stack.iter().for_each(|value| props::put(&mut out, C_STACK, value));
        if self.mirrors != 0 {
            props::put_u32(&mut out, C_MIRRORS, self.mirrors);
        }
        if self.conntracked {
            props::put_flag(&mut out, C_CONNTRACKED);
        }
        let (mut table, mut cookie) = (TableId(0), 0);
        for frame in &self.frames {
            if frame.table != table {
                props::put_u8(&mut out, C_TABLE_ID, frame.table.0);
                table = frame.table;
            }
            if frame.cookie != cookie {
                props::put_u64(&mut out, C_COOKIE, frame.cookie);
                cookie = frame.cookie;
            }
            put_list(&mut out, C_ACTIONS, codec, version, &frame.actions);
        }
        if !self.action_set.is_empty() {
            put_list(&mut out, C_ACTION_SET, codec, version, &self.action_set);
        }
        if self.odp_port != 0 {
            props::put_u32(&mut out, C_ODP_PORT, self.odp_port);
        }
        out
    }
}

fn put_list(out: &mut Vec<u8>, kind: u64, codec: &Codec<'_>, version: Version, list: &[crate::action::OfAction]) {
    let at = props::start_nested(out, kind);
    actions::put(out, codec, version, list);
    props::end(out, at);
}

pub(super) fn resume(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let public = packet_in2(i, r)?;
    Ok(Body::Resume(Box::new(PacketInPrivate::from_public(public, i.codec, i.version)?)))
}

pub(super) fn put_resume(o: &mut Out<'_>, p: &PacketInPrivate) {
    put_public(o.bytes, o.codec, o.version, &p.public);
    let continuation = p.continuation(o.codec, o.version);
    put_continuation(o.bytes, &continuation);
}
