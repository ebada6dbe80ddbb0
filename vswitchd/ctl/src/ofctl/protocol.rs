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

/// How a connection will most likely write: in the newest version that the options allow, and in the plainest form that the first of what is to be
/// written can be said in.
pub(super) fn likely(options: &Options, usable: Protocols) -> Dialect {
    let version = newest(options.versions).unwrap_or(Version::V10);
    let protocol = if options.bundle { None } else { plainest(options, version, usable) };
    protocol.map_or(Dialect { version, nxm: false, table_id: false }, |protocol| dialect(version, protocol))
}

/// The plainest protocol of a version that can say all of it.
fn plainest(options: &Options, version: Version, usable: Protocols) -> Option<Protocols> {
    let of_version = usable.and(options.formats).and(Protocols::of_version(version));
    PLAINEST.into_iter().find(|p| !p.and(of_version).is_empty())
}

/// How a protocol is written. The forms are those of OpenFlow 1.0.
fn dialect(version: Version, protocol: Protocols) -> Dialect {
    let is_in = |set: Protocols| version == Version::V10 && !protocol.and(set).is_empty();
    Dialect { version, nxm: is_in(Protocols::NXM_ANY), table_id: is_in(Protocols::WITH_TABLE) }
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
    match plainest(options, vconn.dialect.version, usable) {
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
    let Dialect { nxm, table_id, .. } = dialect(vconn.dialect.version, protocol);
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

#[cfg(test)]
mod tests {
    use super::super::options::{self, Asked};
    use super::*;
    use openflow::text::{FlowSyntax, Names, parse_flow};

    fn options(words: &[&str]) -> Options {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io::new(&mut out, &mut err);
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        match options::parse(&mut io, &words) {
            Ok(Asked::Run(options, _)) => *options,
            other => panic!("{other:?}"),
        }
    }

    /// A file of flows that need the same is written, as it is read, in the form that the connection will have.
    #[test]
    fn the_first_flow_says_how_all_are_written() {
        let old = |nxm, table_id| Dialect { version: Version::V10, nxm, table_id };
        for (words, flow, expect) in [
            (&[][..], "in_port=1,actions=2", old(false, false)),
            (&[], "table=0,in_port=1,actions=2", old(false, true)),
            (&[], "reg0=1,actions=2", old(true, false)),
            (&[], "table=5,reg0=1,actions=resubmit(,7)", old(true, true)),
            (&["-FNXM"], "in_port=1,actions=2", old(true, false)),
            (&["-FNXM+table_id"], "in_port=1,actions=2", old(true, true)),
            (&["-OOpenFlow13"], "table=5,reg0=1,actions=2", Dialect { version: Version::V13, nxm: false, table_id: false }),
        ] {
            let options = options(words);
            let usable = parse_flow(flow, FlowSyntax::Any, &Names::default()).expect("a flow").protocols;
            assert_eq!(likely(&options, usable), expect, "{words:?} {flow}");
            let agreed = plainest(&options, expect.version, usable).map(|protocol| dialect(expect.version, protocol));
            assert_eq!(agreed, Some(expect), "{words:?} {flow}");
        }
    }
}
