//! The control commands, one file per concern; each file has a table of rows, and this is where the tables come together.

pub mod bridge;
pub mod dpif_netdev;
pub mod general;
pub mod implementations;
pub mod netdev_dummy;
pub mod offload;
pub mod time;

use crate::daemon::Daemon;
use crate::unixctl::registry::Json;
use crate::unixctl::{Answer, Command, Registry, Run};

/// Every room's rows; the test commands only where dummies are enabled.
pub fn registry(dummy: bool) -> Registry<Daemon> {
    let test: [&[Command<Daemon>]; 2] = [time::COMMANDS, netdev_dummy::COMMANDS];
    let own: [&[Command<Daemon>]; 5] =
        [bridge::COMMANDS, dpif_netdev::COMMANDS, general::COMMANDS, implementations::COMMANDS, offload::COMMANDS];
    let own = own.into_iter().chain(test.into_iter().filter(|_| dummy)).flatten().cloned();
    Registry::new(slowpath_rows().chain(ctl::process::commands::rows()).chain(own))
}

/// The rows that the slow path keeps itself.
fn slowpath_rows() -> impl Iterator<Item = Command<Daemon>> {
    let run: fn(&mut Daemon, &str, &[String]) -> Answer = |daemon, name, args| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let outcome = daemon.switch.slowpath.command(name, &args);
        daemon.room.refresh_soon();
        outcome.unwrap_or_else(|| Err(format!("{name} is not available")))
    };
    let json: Json<Daemon> = |daemon, name, args| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        daemon.switch.slowpath.command_json(name, &args).unwrap_or_else(|| Err(format!("{name} is not available")))
    };
    ofproto::commands::COMMANDS.iter().map(move |row| Command {
        name: row.name,
        usage: row.usage,
        min: row.min,
        max: row.max,
        run: Run::Named(run),
        json: row.json.map(|_| json),
    })
}
