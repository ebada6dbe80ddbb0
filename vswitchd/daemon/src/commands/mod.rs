//! The control commands, one file per concern; each file has a table of rows, and this is where the tables come together.

pub mod general;
pub mod time;
pub mod vlog;

use crate::daemon::Daemon;
use crate::unixctl::Command;

/// Every room's rows; the test commands only where dummies are enabled.
pub fn rooms(dummy: bool) -> Vec<&'static [Command<Daemon>]> {
    let mut rooms: Vec<&'static [Command<Daemon>]> = vec![general::COMMANDS, vlog::COMMANDS];
    if dummy {
        rooms.push(time::COMMANDS);
    }
    rooms
}
