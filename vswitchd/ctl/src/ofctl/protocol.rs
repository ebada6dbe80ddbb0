//! Which of the protocols that a text can be said in is spoken on a connection.

use super::options::Options;
use super::requests::Dialect;
use super::vconn::{Vconn, newest};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::Body;
use openflow::text::Protocols;
use openflow::{Version, Versions};

/// NXT_SET_FLOW_FORMAT's formats.
const FLOW_FORMAT_OF10: u32 = 0;
const FLOW_FORMAT_NXM: u32 = 2;

/// Preference among protocols of one version: the plainest first.
const PLAINEST: [Protocols; 9] = [
    Protocols::OF10_STD,
    Protocols::OF10_STD_TID,
    Protocols::OF10_NXM,
    Protocols::OF10_NXM_TID,
    Protocols::OF11,
    Protocols::OF12,
    Protocols::OF13,
    Protocols::OF14,
    Protocols::OF15,
];

/// How a connection will most likely write: the newest version that the options allow, and of OpenFlow 1.0 what names tables.
pub(super) fn likely(options: &Options) -> Dialect {
    let version = newest(options.versions).unwrap_or(Version::V10);
    Dialect { version, nxm: false, table_id: version == Version::V10 }
}

/// Refuses what none of the allowed protocols can say.
///
/// # Errors
/// In the words of ovs-ofctl.
pub fn check(options: &Options, usable: Protocols) -> Result<(), Fault> {
    if !usable.and(options.formats).is_empty() {
        return Ok(());
    }
    let allowed = options.formats;
    Err(Fault::say(format!("none of the usable flow formats ({usable}) is among the allowed flow formats ({allowed})")))
}

/// Opens a connection in a version in which all of it can be said.
///
/// # Errors
/// There is none, or the connection fails.
pub fn open(io: &mut Io<'_>, options: &Options, switch: &str, usable: Protocols) -> Result<Vconn, Fault> {
    check(options, usable)?;
    let usable = usable.and(options.formats);
    let fitting = Version::ALL.into_iter().filter(|v| !usable.and(Protocols::of_version(*v)).is_empty());
    let bits = fitting.fold(0, |bits, v| bits | 1 << (v as u8));
    let options = Options { versions: Versions(options.versions.0 & bits), ..options.clone() };
    Vconn::open(io, &options, switch)
}

/// Agrees on a protocol for flow-mods: the plainest of the connection's version that can say all of it.
///
/// # Errors
/// There is none.
pub fn set_for_mods(vconn: &mut Vconn, options: &Options, usable: Protocols) -> Result<(), Fault> {
    check(options, usable)?;
    let of_version = usable.and(options.formats).and(Protocols::of_version(vconn.dialect.version));
    match PLAINEST.into_iter().find(|p| !p.and(of_version).is_empty()) {
        Some(protocol) => set(vconn, protocol),
        None => Err(Fault::say(format!("switch does not support any of the usable flow formats ({usable})"))),
    }
}

/// Agrees on a protocol for reading flows: the richest of the connection's version.
///
/// # Errors
/// There is none.
pub fn set_for_dumps(vconn: &mut Vconn, options: &Options, usable: Protocols) -> Result<(), Fault> {
    check(options, usable)?;
    if vconn.dialect.version != Version::V10 {
        return Ok(());
    }
    let usable = usable.and(options.formats).and(Protocols::OF10_ANY);
    for (protocol, set_format) in [(Protocols::NXM_ANY, Protocols::OF10_NXM), (Protocols::OF10_STD_ANY, Protocols::OF10_STD)] {
        if !usable.and(protocol).is_empty() {
            return set(vconn, set_format);
        }
    }
    Err(Fault::say(format!("switch does not support any of the usable flow formats ({usable})")))
}

fn set(vconn: &mut Vconn, protocol: Protocols) -> Result<(), Fault> {
    if vconn.dialect.version != Version::V10 {
        return Ok(());
    }
    let nxm = !protocol.and(Protocols::NXM_ANY).is_empty();
    let table_id = !protocol.and(Protocols::WITH_TABLE).is_empty();
    if nxm != vconn.dialect.nxm {
        quiet(vconn, Body::SetFlowFormat(if nxm { FLOW_FORMAT_NXM } else { FLOW_FORMAT_OF10 }))?;
        vconn.dialect.nxm = nxm;
    }
    if table_id != vconn.dialect.table_id {
        quiet(vconn, Body::FlowModTableId(table_id))?;
        vconn.dialect.table_id = table_id;
    }
    Ok(())
}

fn quiet(vconn: &mut Vconn, body: Body) -> Result<(), Fault> {
    match vconn.transact_quiet([body])? {
        None => Ok(()),
        Some(_) => Err(Fault::say(format!("{}: failed to set flow format", vconn.name))),
    }
}

/// Lets flow-mods of OpenFlow 1.0 name their table.
///
/// # Errors
/// The switch refuses.
pub fn enable_table_id(vconn: &mut Vconn) -> Result<(), Fault> {
    quiet(vconn, Body::FlowModTableId(true))?;
    vconn.dialect.table_id = true;
    Ok(())
}
