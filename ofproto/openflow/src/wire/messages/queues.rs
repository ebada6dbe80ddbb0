//! Queues: configuration (a message until 1.3, a multipart from 1.4) and statistics.

use super::ports::pull_port;
use crate::error::OfError;
use crate::message::{Body, MultipartBody, QueueConfig, QueueStatsEntry};
use crate::types::{OfPort, Version};
use crate::wire::bytes::{Put, Reader};
use crate::wire::props::{self, Property};
use crate::wire::{In, Out};

/// OFPQ_ALL
const ALL_QUEUES: u32 = u32::MAX;
/// OFPQT_* and OFPQDPT_*
const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;
/// Bytes of a queue's entry up to 1.1, and after; of a property's header and of a rate.
const QUEUE10: usize = 8;
const QUEUE12: usize = 16;
const PROPERTY: usize = 8;
const RATE: usize = 16;
const STATS14: usize = 48;

pub(super) fn config_request(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let port = pull_port(i, r)?;
    if i.version >= Version::V14 {
        return Ok(Body::QueueGetConfigRequest { port, queue: r.u32()? });
    }
    let any = i.version != Version::V10 && port == OfPort::ANY;
    if any || port.0 < OfPort::REAL_MAX {
        Ok(Body::QueueGetConfigRequest { port, queue: ALL_QUEUES })
    } else {
        Err(OfError::OfpqofcBadPort)
    }
}

pub(super) fn put_config_request(o: &mut Out<'_>, port: OfPort, queue: u32) {
    if o.version == Version::V10 {
        o.bytes.u16(port.to_wire16());
        o.bytes.zeros(2);
    } else {
        o.bytes.u32(port.0);
        o.bytes.u32(if o.version >= Version::V14 { queue } else { 0 });
    }
}

pub(super) fn config_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let mut queues = Vec::new();
    if i.version >= Version::V14 {
        while !r.is_empty() {
            queues.push(queue14(r)?);
        }
        let port = queues.first().map_or(OfPort::ANY, |q: &QueueConfig| q.port);
        return Ok(Body::QueueGetConfigReply { port, queues });
    }
    let port = pull_port(i, r)?;
    r.skip(if i.version == Version::V10 { 6 } else { 4 })?;
    while !r.is_empty() {
        queues.push(queue10(i.version, port, r)?);
    }
    Ok(Body::QueueGetConfigReply { port, queues })
}

fn queue10(version: Version, port: OfPort, r: &mut Reader<'_>) -> Result<QueueConfig, OfError> {
    let bad_len = OfError::OfpbrcBadLen;
    let mut head = *r;
    let mut q = QueueConfig { port, queue: head.u32()?, min_rate: u16::MAX, max_rate: u16::MAX };
    let header = if version < Version::V12 {
        QUEUE10
    } else {
        head.skip(4)?;
        QUEUE12
    };
    let len = usize::from(head.u16()?);
    if len < header || !len.is_multiple_of(8) {
        return Err(bad_len);
    }
    let mut body = r.sub(len)?;
    body.skip(header)?;
    while !body.is_empty() {
        let mut head = body;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < PROPERTY || !len.is_multiple_of(8) {
            return Err(bad_len);
        }
        let mut property = body.sub(len)?;
        property.skip(PROPERTY)?;
        let rate = match kind {
            MIN_RATE => &mut q.min_rate,
            MAX_RATE => &mut q.max_rate,
            _ => continue,
        };
        if len != RATE {
            return Err(bad_len);
        }
        *rate = property.u16()?;
    }
    Ok(q)
}

fn queue14(r: &mut Reader<'_>) -> Result<QueueConfig, OfError> {
    let mut head = *r;
    let mut q =
        QueueConfig { port: OfPort::from_wire32(head.u32()?)?, queue: head.u32()?, min_rate: u16::MAX, max_rate: u16::MAX };
    let len = usize::from(head.u16()?);
    if len < QUEUE12 || !len.is_multiple_of(8) {
        return Err(OfError::OfpbrcBadLen);
    }
    let mut body = r.sub(len)?;
    body.skip(QUEUE12)?;
    while !body.is_empty() {
        let property = Property::pull(&mut body)?;
        match property.kind {
            1 => q.min_rate = property.u16()?,
            2 => q.max_rate = property.u16()?,
            _ => {}
        }
    }
    Ok(q)
}

pub(super) fn put_config_reply(o: &mut Out<'_>, port: OfPort, queues: &[QueueConfig]) {
    let version = o.version;
    if version == Version::V10 {
        o.bytes.u16(port.to_wire16());
        o.bytes.zeros(6);
    } else if version < Version::V14 {
        o.bytes.u32(port.0);
        o.bytes.zeros(4);
    }
    for queue in queues {
        if version >= Version::V14 {
            o.entry(|out| put_queue(out, version, queue));
        } else {
            put_queue(o.bytes, version, queue);
        }
    }
}

fn put_queue(out: &mut Vec<u8>, version: Version, q: &QueueConfig) {
    let start = out.len();
    let len_at;
    if version < Version::V12 {
        out.u32(q.queue);
        len_at = out.len();
        out.zeros(4);
    } else {
        // 1.2 and 1.3 name the queue first, 1.4 the port.
        let pair = if version < Version::V14 { [q.queue, q.port.0] } else { [q.port.0, q.queue] };
        pair.into_iter().for_each(|n| out.u32(n));
        len_at = out.len();
        out.zeros(8);
    }
    for (kind, rate) in [(MIN_RATE, q.min_rate), (MAX_RATE, q.max_rate)] {
        if rate == u16::MAX {
            continue;
        }
        if version < Version::V14 {
            out.u16(kind);
            out.u16(16);
            out.zeros(4);
            out.u16(rate);
            out.zeros(6);
        } else {
            props::put_u16(out, u64::from(kind), rate);
        }
    }
    out.close_len(len_at, start);
}

pub(super) fn stats_request(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut port = pull_port(i, r)?;
    if i.version == Version::V10 {
        r.skip(2)?;
        port = if port == OfPort::ALL { OfPort::ANY } else { port };
    }
    Ok(MultipartBody::QueueRequest { port, queue: r.u32()? })
}

pub(super) fn put_stats_request(o: &mut Out<'_>, port: OfPort, queue: u32) {
    if o.version == Version::V10 {
        let port = if port == OfPort::ANY { OfPort::ALL } else { port };
        o.bytes.u16(port.to_wire16());
        o.bytes.zeros(2);
    } else {
        o.bytes.u32(port.0);
    }
    o.bytes.u32(queue);
}

pub(super) fn stats_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut queues = Vec::new();
    while !r.is_empty() {
        let mut q = QueueStatsEntry { duration_sec: u32::MAX, duration_nsec: u32::MAX, ..QueueStatsEntry::default() };
        let mut body = *r;
        if i.version >= Version::V14 {
            let len = usize::from(body.u16()?);
            if len < STATS14 {
                return Err(OfError::OfpbrcBadLen);
            }
            body = r.sub(len)?;
            body.skip(8)?;
        }
        q.port = pull_port(i, &mut body)?;
        body.skip(if i.version == Version::V10 { 2 } else { 0 })?;
        q.queue = body.u32()?;
        (q.tx_bytes, q.tx_packets, q.tx_errors) = (body.u64()?, body.u64()?, body.u64()?);
        if i.version >= Version::V13 {
            (q.duration_sec, q.duration_nsec) = (body.u32()?, body.u32()?);
        }
        if i.version < Version::V14 {
            *r = body;
        }
        queues.push(q);
    }
    Ok(MultipartBody::QueueReply(queues))
}

pub(super) fn put_stats_reply(o: &mut Out<'_>, queues: &[QueueStatsEntry]) {
    let version = o.version;
    for q in queues {
        o.entry(|out| {
            if version >= Version::V14 {
                out.u16(48);
                out.zeros(6);
            }
            if version == Version::V10 {
                out.u16(q.port.to_wire16());
                out.zeros(2);
            } else {
                out.u32(q.port.0);
            }
            out.u32(q.queue);
            [q.tx_bytes, q.tx_packets, q.tx_errors].into_iter().for_each(|n| out.u64(n));
            if version >= Version::V13 {
                out.u32(q.duration_sec);
                out.u32(q.duration_nsec);
            }
        });
    }
}
