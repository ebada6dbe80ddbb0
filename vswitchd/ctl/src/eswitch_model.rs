//! `ferrule eswitch-model`: becomes the model, which is another face of the daemon that lies beside this program.

use crate::console::Io;
use crate::daemon::{DAEMON, beside};
use crate::fault::Fault;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// By this name the daemon's program is the model.
const NAME: &str = "ferrule-eswitch-model";

/// Becomes the model; returns only if that fails.
///
/// # Errors
/// No daemon lies beside this program or on the path.
pub fn run(_: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let own = std::env::current_exe().map_err(|e| Fault::because("cannot find out where this program is", &e))?;
    let program = beside(&own).unwrap_or_else(|| DAEMON.into());
    let error = Command::new(&program).arg0(NAME).args(words).exec();
    Err(Fault::because(format!("{}: exec failed", program.display()), &error))
}
