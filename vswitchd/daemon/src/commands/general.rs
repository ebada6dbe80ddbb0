//! Commands that every OVS daemon has: version, exit, coverage, memory.

use crate::coverage;
use crate::daemon::{Daemon, Exit};
use crate::unixctl::{Answer, Command};
use crate::usage;

/// The rows. `list-commands` is answered by the main loop and `set-options` by the connection; their rows are for the list.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("coverage/read-counter", Some("COUNTER"), (1, 1), read_counter),
    Command::now("coverage/show", Some(""), (0, 0), |d, _| Ok(d.coverage.show(&coverage::counts()))),
    Command::now("exit", Some("[--cleanup]"), (0, 1), exit),
    Command::now("list-commands", Some(""), (0, 0), |_, _| Ok(String::new())),
    Command::now("memory/show", Some(""), (0, 0), |d, _| Ok(d.memory())),
    Command::now("set-options", Some("[--format text|json]"), (1, 2), |_, _| Ok(String::new())),
    Command::now("version", Some(""), (0, 0), |d, _| Ok(usage::version(&d.options.program))),
];

fn read_counter(_: &mut Daemon, args: &[String]) -> Answer {
    match coverage::counts().get(args[0].as_str()) {
        Some(count) => Ok(count.to_string()),
        None => Err("No such counter".into()),
    }
}

fn exit(daemon: &mut Daemon, args: &[String]) -> Answer {
    let cleanup = args.first().is_some_and(|a| a == "--cleanup");
    daemon.exit = Some(Exit { cleanup, signal: None });
    Ok(String::new())
}
