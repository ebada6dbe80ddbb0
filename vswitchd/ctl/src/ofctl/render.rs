//! Messages as people read them, and commands that show a reply as it comes.

use super::Run;
use super::names::SwitchNames;
use super::vconn::{Received, Vconn, next_xid};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::{Body, Multipart, MultipartBody};
use openflow::print::format_bytes;

/// The text of a message, with a newline at its end.
#[must_use]
pub fn render(bytes: &[u8], names: &SwitchNames, verbosity: u8) -> String {
    format_bytes(bytes, &names.names(), verbosity)
}

/// A refusal as the end of a run.
#[must_use]
pub fn refusal(received: &Received) -> Fault {
    Fault::say(render(&received.bytes, &SwitchNames::none(), 2).trim_end())
}

/// Prints the switch's refusal on standard error; the end of the run.
///
/// # Errors
/// Standard error cannot be written.
pub fn told(io: &mut Io<'_>, refusal: &Received) -> Result<Fault, Fault> {
    io.out.flush()?;
    write!(io.err, "{}", render(&refusal.bytes, &SwitchNames::none(), 2))?;
    Ok(Fault::Said(1))
}

/// The names with which a run shows ports and tables.
#[must_use]
pub fn shown_names(run: &Run<'_>) -> SwitchNames {
    if run.options.show_names() { SwitchNames::of(run.options, run.switch()) } else { SwitchNames::none() }
}

/// Sends a multipart request and prints each message of the reply.
///
/// # Errors
/// The connection's, or no form for the request in the connection's version.
pub fn dump(io: &mut Io<'_>, vconn: &mut Vconn, body: MultipartBody, run: &Run<'_>) -> Result<u8, Fault> {
    let request = Body::Stats(Box::new(Multipart { more: false, nxm: vconn.dialect.nxm, body }));
    let bytes = vconn.encode(request, next_xid())?;
    let names = shown_names(run);
    for received in vconn.exchange(&bytes)? {
        write!(io.out, "{}", render(&received.bytes, &names, run.options.verbosity + 1))?;
    }
    Ok(0)
}

/// Sends a request and prints the reply.
///
/// # Errors
/// The connection's.
pub fn dump_one(io: &mut Io<'_>, vconn: &mut Vconn, body: Body, run: &Run<'_>) -> Result<Received, Fault> {
    let reply = vconn.transact(body)?;
    write!(io.out, "{}", render(&reply.bytes, &shown_names(run), run.options.verbosity + 1))?;
    Ok(reply)
}
