//! The log's control commands: vlog/*.

use crate::daemon::Daemon;
use crate::unixctl::registry::ANY;
use crate::unixctl::{Answer, Command};
use crate::vlog::Log;
use crate::vlog::levels;
use crate::vlog::modules::Module;

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("vlog/close", Some(""), (0, 0), |d, _| {
        d.log.close_file();
        Ok(String::new())
    }),
    Command::now("vlog/disable-rate-limit", Some("[module]..."), (0, ANY), |d, args| limit(&d.log, args, false)),
    Command::now("vlog/enable-rate-limit", Some("[module]..."), (0, ANY), |d, args| limit(&d.log, args, true)),
    Command::now("vlog/list", Some(""), (0, 0), |d, _| Ok(d.log.list())),
    Command::now("vlog/list-pattern", Some(""), (0, 0), |d, _| Ok(d.log.list_patterns())),
    Command::now("vlog/reopen", Some(""), (0, 0), |d, _| d.log.reopen_file().map(|()| String::new())),
    Command::now("vlog/set", Some("{spec | PATTERN:destination:pattern}"), (0, ANY), set),
];

fn set(daemon: &mut Daemon, args: &[String]) -> Answer {
    let everything = [String::new()];
    for spec in if args.is_empty() { &everything[..] } else { args } {
        let change = levels::parse(spec).map_err(|e| e.to_string())?;
        daemon.log.change(&change);
    }
    Ok(String::new())
}

fn limit(log: &Log, args: &[String], on: bool) -> Answer {
    if args.is_empty() {
        log.set_rate_limits(None, on);
    }
    for name in args {
        let module = Module::named(name).ok_or("unknown module")?;
        log.set_rate_limits(Some(module), on);
    }
    Ok(String::new())
}
