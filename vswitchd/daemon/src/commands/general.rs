//! Commands that every OVS daemon has, as far as they are about this one: exit, coverage, memory. The others: `ctl::process::commands`.

use crate::coverage;
use crate::daemon::Daemon;
use crate::unixctl::{Answer, Command, Reply};
use crate::vlog::Log;
use ctl::process::commands::Owner;

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("coverage/read-counter", Some("COUNTER"), (1, 1), read_counter),
    Command::now("coverage/show", Some(""), (0, 0), |d, _| Ok(d.coverage.show(&coverage::counts()))),
    Command::later("exit", Some("[--cleanup]"), (0, 1), exit),
    Command::now("memory/show", Some(""), (0, 0), |d, _| Ok(d.memory())),
];

/// Counters of OVS whose events cannot happen here: a batch has room for all that it will ever hold.
const NEVER: &[&str] = &["dp_packet_batch_grow"];

fn read_counter(_: &mut Daemon, args: &[String]) -> Answer {
    match coverage::counts().get(args[0].as_str()) {
        Some(count) => Ok(count.to_string()),
        None if NEVER.contains(&args[0].as_str()) => Ok("0".into()),
        None => Err("No such counter".into()),
    }
}

/// The answer comes when all is gone (`daemon::Farewell`).
fn exit(daemon: &mut Daemon, args: &[String], reply: Reply) {
    let exit = daemon.exit.get_or_insert_default();
    exit.cleanup |= args.first().is_some_and(|a| a == "--cleanup");
    exit.asked.push(reply);
}

impl Owner for Daemon {
    fn log(&self) -> &Log {
        &self.log
    }

    fn program(&self) -> &str {
        &self.options.process.program
    }
}
