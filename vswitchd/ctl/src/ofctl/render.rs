//! Messages as people read them.

use super::Run;
use super::names::SwitchNames;
use super::vconn::{Received, Vconn};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::{Body, Multipart, MultipartBody};
use openflow::{Version, Xid};

/// The text of a message, with a newline at its end.
#[must_use]
pub fn render(bytes: &[u8], names: &SwitchNames, verbosity: usize) -> String {
    let _ = verbosity;
    match openflow::decode(bytes) {
        Err(error) => format!("***decode error: {}***\n", error.name()),
        Ok(message) => body(&message.body, message.version, message.xid, names),
    }
}

fn header(name: &str, version: Version, xid: Xid) -> String {
    let version = if version == Version::V10 { String::new() } else { format!(" (OF1.{})", version as u8 - 1) };
    format!("{name}{version} (xid={:#x}):", xid.0)
}

fn body(body: &Body, version: Version, xid: Xid, names: &SwitchNames) -> String {
    if let Body::Stats(m) = body
        && let MultipartBody::FlowReply(flows) = &m.body
    {
        let name = if m.nxm { "NXST_FLOW reply" } else { "OFPST_FLOW reply" };
        let lines = flows.iter().map(|f| format!("\n {}", openflow::text::format_flow_stats(f, true, &names.names())));
        return format!("{}{}\n", header(name, version, xid), lines.collect::<String>());
    }
    if let Body::Error(error) = body {
        return format!("{} {}\n", header("OFPT_ERROR", version, xid), error.error.name());
    }
    format!("{} {body:?}\n", header("message", version, xid))
}

/// A refusal as the end of a run.
#[must_use]
pub fn refusal(received: &Received, names: &SwitchNames) -> Fault {
    Fault::say(render(&received.bytes, names, 2).trim_end())
}

/// Sends a multipart request and prints each message of the reply.
///
/// # Errors
/// The connection's.
pub fn dump(io: &mut Io<'_>, vconn: &mut Vconn, body: MultipartBody, run: &Run<'_>) -> Result<u8, Fault> {
    let names = if run.options.show_names() { SwitchNames::of(run.options, run.switch()) } else { SwitchNames::none() };
    let _ = Multipart { more: false, nxm: false, body: MultipartBody::DescRequest };
    for (received, _) in vconn.transact_multipart(body)? {
        write!(io.out, "{}", render(&received.bytes, &names, run.options.verbosity + 1))?;
    }
    Ok(0)
}
