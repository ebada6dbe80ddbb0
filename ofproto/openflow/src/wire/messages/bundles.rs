//! Messages in messages: bundles (OpenFlow 1.4, 6.8; ONF EXT-230 in 1.3) and forwarded requests.

use crate::error::OfError;
use crate::message::{Body, BundleControl, Message};
use crate::wire::bytes::{Put, Reader};
use crate::wire::formats::{self, Kind};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::{In, Out, Unencodable};

pub(super) fn control(r: &mut Reader<'_>) -> Result<Body, OfError> {
    Ok(Body::BundleControl(BundleControl { id: r.u32()?, kind: r.u16()?, flags: r.u16()? }))
}

pub(super) fn put_control(o: &mut Out<'_>, c: BundleControl) {
    o.bytes.u32(c.id);
    o.bytes.u16(c.kind);
    o.bytes.u16(c.flags);
}

/// Whether a bundle may hold it.
fn bundlable(kind: Kind) -> bool {
    matches!(kind, Kind::FlowMod | Kind::GroupMod | Kind::PortMod | Kind::PacketOut)
}

pub(super) fn add(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let id = r.u32()?;
    r.skip(2)?;
    let flags = r.u16()?;
    let inner = Header::peek(r.peek()).ok_or(OfError::OfpbfcMsgBadLen)?;
    if inner.version != i.version as u8 {
        return Err(OfError::OfpbfcBadVersion);
    }
    let length = usize::from(inner.length);
    if length < HEADER_BYTES || length > r.len() {
        return Err(OfError::OfpbfcMsgBadLen);
    }
    if inner.xid != i.header.xid {
        return Err(OfError::OfpbfcMsgBadXid);
    }
    let raw = r.take(length)?;
    let unsupported = OfError::OfpbfcMsgUnsup;
    let opened = formats::open(i.version, inner, raw).map_err(|_| unsupported)?;
    if !bundlable(opened.format.kind) {
        return Err(unsupported);
    }
    // What is wrong with the message itself is told as if it had come alone.
    let message = i.codec.decode_at(raw, i.depth + 1)?;
    Ok(Body::BundleAdd { id, flags, message: Box::new(message), raw: raw.to_vec() })
}

/// Appends a bundle-add: of `raw` when there is any, else of the message encoded anew.
pub(super) fn put_add(o: &mut Out<'_>, (id, flags): (u32, u16), message: &Message, raw: &[u8]) -> Result<(), Unencodable> {
    put_add_raw(o.bytes, (id, flags), raw);
    if raw.is_empty() {
        let codec = o.codec;
        return codec.encode(message, o.bytes);
    }
    Ok(())
}

/// Appends a bundle-add of a message that is bytes already.
pub(crate) fn put_add_raw(out: &mut Vec<u8>, (id, flags): (u32, u16), raw: &[u8]) {
    out.u32(id);
    out.u16(0);
    out.u16(flags);
    out.bytes(raw);
}

pub(super) fn request_forward(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let raw = r.rest();
    let inner = Header::peek(raw).ok_or(OfError::OfpbfcMsgBadLen)?;
    let length = usize::from(inner.length);
    if length < HEADER_BYTES || length > raw.len() {
        return Err(OfError::OfpbfcMsgBadLen);
    }
    if inner.version != i.version as u8 {
        return Err(OfError::OfpbrcBadVersion);
    }
    let opened = formats::open(i.version, inner, &raw[..length])?;
    if !matches!(opened.format.kind, Kind::GroupMod | Kind::MeterMod) {
        return Err(OfError::OfpbfcMsgUnsup);
    }
    Ok(Body::RequestForward(Box::new(i.codec.decode_at(&raw[..length], i.depth + 1)?)))
}

pub(super) fn put_request_forward(o: &mut Out<'_>, message: &Message) -> Result<(), Unencodable> {
    let codec = o.codec;
    codec.encode(message, o.bytes)
}
