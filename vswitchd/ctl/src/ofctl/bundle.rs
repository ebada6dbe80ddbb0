//! Bundles: several changes that the switch takes up all at once or not at all (OpenFlow 1.4 section 7.3.9).

use super::render::told;
use super::vconn::{Vconn, next_xid};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::{Body, BundleControl, Message};

const OPEN_REQUEST: u16 = 0;
const COMMIT_REQUEST: u16 = 4;
const DISCARD_REQUEST: u16 = 6;
const ATOMIC: u16 = 1;
const ORDERED: u16 = 2;
/// The only bundle of a connection.
const ID: u32 = 0;

/// Sends the changes as an atomic and ordered bundle.
///
/// # Errors
/// The connection's, or the switch's refusal (told on standard error).
pub(super) fn send(io: &mut Io<'_>, vconn: &mut Vconn, bodies: Vec<Body>) -> Result<u8, Fault> {
    let flags = ATOMIC | ORDERED;
    control(io, vconn, OPEN_REQUEST, flags)?;
    let version = vconn.version;
    let additions = bodies.into_iter().map(|body| {
        let message = Box::new(Message { version, xid: next_xid(), body });
        Body::BundleAdd { id: ID, flags, message, raw: Vec::new() }
    });
    if let Some(refusal) = vconn.transact_all_quiet(additions)? {
        // The refusal is what counts; the switch drops the bundle with the connection anyway.
        drop(vconn.transact(Body::BundleControl(BundleControl { id: ID, kind: DISCARD_REQUEST, flags })));
        return Err(told(io, &refusal)?);
    }
    control(io, vconn, COMMIT_REQUEST, flags)?;
    Ok(0)
}

fn control(io: &mut Io<'_>, vconn: &mut Vconn, kind: u16, flags: u16) -> Result<(), Fault> {
    let reply = vconn.transact(Body::BundleControl(BundleControl { id: ID, kind, flags }))?;
    if let Body::BundleControl(_) = vconn.decode(&reply)?.body { Ok(()) } else { Err(told(io, &reply)?) }
}
