//! Commands about bridges that concern their connections.

use crate::daemon::Daemon;
use crate::unixctl::{Answer, Command};

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[Command::now("bridge/reconnect", Some("[bridge]"), (0, 1), reconnect)];

fn reconnect(daemon: &mut Daemon, args: &[String]) -> Answer {
    let bridge = args.first().map(String::as_str);
    if bridge.is_some_and(|name| !daemon.room.built().bridges.contains_key(name)) {
        return Err("Unknown bridge".into());
    }
    daemon.switch.agents.reconnect(bridge);
    Ok(String::new())
}
