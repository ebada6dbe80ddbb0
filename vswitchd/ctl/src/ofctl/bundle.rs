//! Bundles: several changes that the switch takes up all at once or not at all (OpenFlow 1.4 section 7.3.9).

use super::Run;
use super::render::{render, shown_names};
use super::requests::Requests;
use super::vconn::{Received, Vconn, next_xid, next_xids};
use crate::console::Io;
use crate::fault::Fault;
use nix::errno::Errno;
use openflow::message::{Body, BundleControl, ErrorMessage};
use openflow::text::Protocols;
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

/// Protocols of the versions that have bundles.
pub(super) const PROTOCOLS: Protocols = Protocols::OF13_UP;

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

/// The transaction id of part `n`, if that of the first is known.
pub(super) fn xid_of(first: Xid, n: usize) -> Xid {
    Xid(first.0.wrapping_add(u32::try_from(n).unwrap_or(u32::MAX)))
}

/// Sends the changes as an atomic and ordered bundle.
///
/// # Errors
/// The connection's, or that the switch has refused something (told on standard error).
pub(super) fn send(io: &mut Io<'_>, run: &Run<'_>, vconn: &mut Vconn, requests: &mut Requests) -> Result<u8, Fault> {
    let (first, mut errors) = (next_xids(requests.count()), Vec::new());
    let is_taken_up = transact(vconn, requests, first, &mut errors);
    let names = shown_names(run);
    io.out.flush()?;
    for error in &errors {
        let (name, refused) = match openflow::decode(&error.bytes).map(|m| m.body) {
            Ok(Body::Error(ErrorMessage { error, data })) => (error.name(), data),
            Ok(_) | Err(_) => continue,
        };
        let n = usize::try_from(error.header.xid.0.wrapping_sub(first.0)).ok();
        let refused = n.and_then(|n| requests.get(n)).unwrap_or(&refused);
        write!(io.err, "Error {name} for: {}", render(refused, &names, run.options.verbosity + 1))?;
    }
    if is_taken_up? {
        return Ok(0);
    }
    Err(Fault::because(format!("talking to {}", vconn.peer), &Errno::EPROTO.into()))
}

/// Opens a bundle, puts the changes into it, and has it taken up, or dropped where one of them was refused: whether it was taken up.
fn transact(vconn: &mut Vconn, requests: &mut Requests, first: Xid, errors: &mut Vec<Received>) -> Result<bool, Fault> {
    if !demand(vconn, OPEN, errors)? {
        return Ok(false);
    }
    vconn.transact_in_bundle(requests, first, errors)?;
    let is_whole = errors.is_empty();
    let is_done = demand(vconn, if is_whole { COMMIT } else { DISCARD }, errors)?;
    Ok(is_whole && is_done)
}

fn demand(vconn: &mut Vconn, control: Body, errors: &mut Vec<Received>) -> Result<bool, Fault> {
    let xid = next_xid();
    let request = vconn.encode(control, xid)?;
    Ok(is_control(&vconn.send_up_to_noting(&request, xid, errors)?))
}
