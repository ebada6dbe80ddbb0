//! The control commands of every daemon: those of its log, and its version. `list-commands` is answered by whoever has the registry and
//! `set-options` by the connection; their rows are for the list.

use super::unixctl::registry::ANY;
use super::unixctl::{Answer, Command};
use super::vlog::Log;
use super::vlog::levels;
use super::vlog::modules::Module;
use crate::OVS_VERSION;

/// What these commands want of a daemon's state.
pub trait Owner {
    fn log(&self) -> &Log;
    fn program(&self) -> &str;
}

/// The rows.
pub fn rows<S: Owner>() -> Vec<Command<S>> {
    vec![
        Command::now("list-commands", Some(""), (0, 0), |_, _| Ok(String::new())),
        Command::now("set-options", Some("[--format text|json]"), (1, 2), |_, _| Ok(String::new())),
        Command::now("version", Some(""), (0, 0), |s: &mut S, _| Ok(format!("{} (Open vSwitch) {OVS_VERSION}", s.program()))),
        Command::now("vlog/close", Some(""), (0, 0), |s: &mut S, _| {
            s.log().close_file();
            Ok(String::new())
        }),
        Command::now("vlog/disable-rate-limit", Some("[module]..."), (0, ANY), |s: &mut S, args| limit(s.log(), args, false)),
        Command::now("vlog/enable-rate-limit", Some("[module]..."), (0, ANY), |s: &mut S, args| limit(s.log(), args, true)),
        Command::now("vlog/list", Some(""), (0, 0), |s: &mut S, _| Ok(s.log().list())),
        Command::now("vlog/list-pattern", Some(""), (0, 0), |s: &mut S, _| Ok(s.log().list_patterns())),
        // Hidden in OVS, and written down nowhere: what an operator's script has to say, in its place among what the daemon says.
        Command::now("vlog/message", None, (1, ANY), |_, args| {
            tracing::info!(target: "vlog", "{}", args.join(" "));
            Ok(String::new())
        }),
        Command::now("vlog/reopen", Some(""), (0, 0), |s: &mut S, _| s.log().reopen_file().map(|()| String::new())),
        Command::now("vlog/set", Some("{spec | PATTERN:destination:pattern}"), (0, ANY), |s: &mut S, args| set(s.log(), args)),
    ]
}

fn set(log: &Log, args: &[String]) -> Answer {
    let everything = [String::new()];
    for spec in if args.is_empty() { &everything[..] } else { args } {
        let change = levels::parse(spec).map_err(|e| e.to_string())?;
        log.change(&change);
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
