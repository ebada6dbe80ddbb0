//! `ovs-vsctl`: the configuration, read and changed. Commands of one run make one transaction.
//!
//! The story of a run: read the words (`options`, `command`), follow the tables the commands need (`ovsdb::client`), run the commands
//! on an [`overlay::Overlay`] of them, commit what changed, print, wait for the switch to take it up. If the database has changed under
//! the run, or a condition waits to become true, the commands are run again on the new contents.

mod bridges;
pub mod command;
mod condition;
pub mod context;
mod database;
mod help;
pub mod names;
pub mod options;
pub mod overlay;
mod ports;
mod run;
mod settings;
mod show;
pub mod topology;
mod zones;

use crate::console::Io;
use crate::fault::Fault;
use crate::{OVS_VERSION, alarm};
use options::Asked;

/// Names of the commands.
#[must_use]
pub fn commands() -> Vec<&'static str> {
    command::COMMANDS.iter().map(|c| c.name).collect()
}

/// Runs it.
///
/// # Errors
/// In the words of ovs-vsctl.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    match options::parse(io, words)? {
        Asked::Help => help::help(io)?,
        Asked::Commands => help::commands(io)?,
        Asked::Options => help::options(io)?,
        Asked::Version => {
            let schema = run::embedded_schema()?;
            writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}\nDB Schema {}", io.program, schema.version)?;
        }
        Asked::Run(options, rest) => {
            let calls = command::parse(rest, &options.leading)?;
            alarm::set(io, options.timeout.as_deref(), "value %s on -t or --timeout is invalid")?;
            return run::run(io, &options, &calls, words);
        }
    }
    Ok(0)
}
