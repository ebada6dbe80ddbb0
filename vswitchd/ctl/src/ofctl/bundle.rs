//! Bundles: several changes that the switch takes up all at once or not at all (OpenFlow 1.4 section 7.3.9).

use super::render::told;
use super::requests::Requests;
use super::vconn::{Received, Vconn};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::{Body, BundleControl};
use openflow::{Version, Xid, wire};

const ATOMIC: u16 = 1;
const ORDERED: u16 = 2;
const FLAGS: u16 = ATOMIC | ORDERED;
/// The only bundle of a connection.
const ID: u32 = 0;

pub(super) const OPEN: Body = control(0);
pub(super) const COMMIT: Body = control(4);
pub(super) const DISCARD: Body = control(6);

const fn control(kind: u16) -> Body {
    Body::BundleControl(BundleControl { id: ID, kind, flags: FLAGS })
}

/// Whether a version has bundles: OpenFlow 1.3 by an extension (ONF EXT-230).
pub(super) fn is_in(version: Version) -> bool {
    version >= Version::V13
}

/// Whether a message says that the bundle was opened, taken up or dropped.
pub(super) fn is_control(received: &Received) -> bool {
    matches!(openflow::decode(&received.bytes).map(|m| m.body), Ok(Body::BundleControl(_)))
}

/// Appends a request as a part of the bundle. It has the transaction id of its envelope (OpenFlow 1.4 section 7.3.9.6).
pub(super) fn append(out: &mut Vec<u8>, version: Version, xid: Xid, request: &[u8]) -> Result<(), Fault> {
    wire::append_bundle_add((version, xid), (ID, FLAGS), request, out).map_err(|e| Fault::say(e.to_string()))
}

/// Sends the changes as an atomic and ordered bundle.
///
/// # Errors
/// The connection's, or the switch's refusal (told on standard error).
pub(super) fn send(io: &mut Io<'_>, vconn: &mut Vconn, requests: &mut Requests) -> Result<u8, Fault> {
    demand(io, vconn, OPEN)?;
    if let Some(refusal) = vconn.transact_in_bundle(requests)? {
        // The refusal is what counts; the switch drops the bundle with the connection anyway.
        drop(vconn.transact(DISCARD));
        return Err(told(io, &refusal)?);
    }
    demand(io, vconn, COMMIT)?;
    Ok(0)
}

fn demand(io: &mut Io<'_>, vconn: &mut Vconn, control: Body) -> Result<(), Fault> {
    let reply = vconn.transact(control)?;
    vconn.decode(&reply)?;
    if is_control(&reply) { Ok(()) } else { Err(told(io, &reply)?) }
}
