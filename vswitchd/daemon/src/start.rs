//! The program from its first word to its last: command line, stages of detaching, log, pidfile, control socket, main loop, end.

use crate::bridge::build::Environment;
use crate::bridge::room::Room;
use crate::daemon::{self, Daemon, Sources};
use crate::daemonize::{self, Ready, Role};
use crate::database::Database;
use crate::errno_text;
use crate::eswitch_model;
use crate::links::Links;
use crate::options::{Asked, Options};
use crate::signals::Signals;
use crate::socket::BoundSocket;
use crate::switch::SlowSwitch;
use crate::unixctl::Server;
use crate::vlog::Log;
use crate::{usage, user};
use ctl::dirs;
use ctl::process::Process;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// All of it; the process's exit status comes back.
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let program = program_name(&words.next().unwrap_or_default());
    let words: Vec<String> = words.collect();
    if program == eswitch_model::NAME {
        return eswitch_model::main(&words);
    }
    let options = match Options::parse(&program, &words) {
        Ok(Asked::Run(options)) => *options,
        Ok(Asked::Help) => return print(&usage::help(&program)),
        Ok(Asked::Version) => return print(&usage::version_text(&program)),
        Err(error) => return fail(&program, &error.to_string()),
    };
    match daemonize::begin(&options.process.wish()) {
        Role::Ended(code) => ExitCode::from(code),
        Role::Daemon(ready) => match serve(options, ready) {
            Ok(status) => status,
            Err(fault) => fail(&program, &fault),
        },
    }
}

/// The last part of argv[0]; all default names follow it.
fn program_name(argv0: &str) -> String {
    let name = Path::new(argv0).file_name().map_or_else(|| "ovs-vswitchd".into(), |n| n.to_string_lossy().into_owned());
    name.strip_prefix("lt-").unwrap_or(&name).to_owned()
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(program: &str, text: &str) -> ExitCode {
    drop(writeln!(io::stderr(), "{program}: {text}"));
    ExitCode::FAILURE
}

/// The daemon's life. An error here means that it never came up.
fn serve(options: Options, ready: Ready) -> Result<ExitCode, String> {
    let mut process = Process::begin(&options.process, true)?;
    if options.mlockall {
        user::lock_memory();
    }
    let signals = process.signals.take().expect("nobody took them yet");
    let (log, control) = (Arc::clone(&process.log), process.control.take());
    let farewell = process.run(live(Start { options, log, signals, control }, ready))?;
    let signal = farewell.signal;
    process.leave();
    process.run(farewell.say());
    process.end(signal);
    Ok(ExitCode::SUCCESS)
}

/// What the main loop starts with.
struct Start {
    options: Options,
    log: Arc<Log>,
    signals: Signals,
    control: Option<BoundSocket>,
}

async fn live(start: Start, ready: Ready) -> Result<daemon::Farewell, String> {
    let Start { options, log, signals, control } = start;
    let (control, _name) = match control {
        Some(BoundSocket { listener, name }) => (Some(Server::start(listener).map_err(|e| errno_text(&e))?), Some(name)),
        None => (None, None),
    };
    let database = Database::open(&options).await.map_err(|e| e.to_string())?;
    let environment = Environment {
        dummy: options.dummy,
        rundir: dirs::run(),
        agents: Some(crate::bridge::export::agent_address),
        tls: options.process.tls.files(),
    };
    let room = Room::new(environment);
    let links = Links::follow();
    let switch = SlowSwitch::start(&options);
    let daemon = Daemon::new(options, Arc::clone(&log), room, switch);
    let mut ready = Some(ready);
    let report = move || {
        if let Some(ready) = ready.take() {
            if ready.detaches() {
                log.detach_console();
            }
            ready.report();
        }
    };
    Ok(daemon::run(daemon, Sources { control, signals, database, links }, report).await)
}
