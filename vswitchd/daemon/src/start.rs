//! The program from its first word to its last: command line, stages of detaching, log, pidfile, control socket, main loop, end.

use crate::bridge::build::Environment;
use crate::bridge::room::Room;
use crate::daemon::{self, Daemon, Sources};
use crate::daemonize::{self, Ready, Role, Wish};
use crate::database::Database;
use crate::errno_text;
use crate::eswitch_model;
use crate::options::{Asked, LogOption, Options};
use crate::pidfile::Pidfile;
use crate::signals::{self, Signals};
use crate::socket::{self, BoundSocket};
use crate::switch::SlowSwitch;
use crate::unixctl::Server;
use crate::vlog::Log;
use crate::vlog::levels::Level;
use crate::vlog::modules::Module;
use crate::vlog::sinks::{self, Syslog};
use crate::{RUNTIME_THREAD, usage, user};
use ctl::dirs;
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
    let wish = Wish { program: &program, detach: options.detach, monitor: options.monitor, chdir: options.chdir };
    match daemonize::begin(&wish) {
        Role::Ended(status) => status,
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
    let _ = nix::sys::prctl::set_name(&std::ffi::CString::new(options.program.clone()).unwrap_or_default());
    let log = Log::start(&options.program);
    configure_log(&log, &options)?;
    die_on_panic(&log);
    if let Some(spec) = &options.user {
        user::become_user(spec).map_err(|e| e.to_string())?;
    }
    let pidfile = options.pidfile.as_deref().map(|path| Pidfile::create(path, options.overwrite_pidfile)).transpose();
    let pidfile = pidfile.map_err(|e| e.to_string())?;
    if options.mlockall {
        user::lock_memory();
    }
    let control = options.control_socket(std::process::id()).map(|path| bind_control(&path)).transpose()?;
    let signals = Signals::listen().map_err(|e| errno_text(&e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // With a second one each message read would wake it to look for work: a futex call and two context switches. What blocks hands
        // the worker's tasks over to a thread that is made for it.
        .worker_threads(1)
        .thread_name(RUNTIME_THREAD)
        .enable_all()
        .build()
        .map_err(|e| errno_text(&e))?;
    let exit = runtime.block_on(live(Start { options, log, signals, control }, ready))?;
    // Names in the file system go before the process does: who waits for it sees none of them.
    drop(pidfile);
    runtime.shutdown_background();
    if let Some(signal) = exit.signal {
        signals::die_of(signal);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the main loop starts with.
struct Start {
    options: Options,
    log: Arc<Log>,
    signals: Signals,
    control: Option<BoundSocket>,
}

async fn live(start: Start, ready: Ready) -> Result<daemon::Exit, String> {
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
        tls: options.tls.files(),
    };
    let room = Room::new(environment);
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
    Ok(daemon::run(daemon, Sources { control, signals, database }, report).await)
}

fn bind_control(path: &Path) -> Result<BoundSocket, String> {
    socket::bind(path).map_err(|e| format!("could not initialize control socket {} ({})", path.display(), errno_text(&e)))
}

fn configure_log(log: &Log, options: &Options) -> Result<(), String> {
    let method = std::env::var("OVS_SYSLOG_METHOD").unwrap_or_else(|_| "libc".into());
    log.set_syslog(Syslog::new(&method)?);
    for option in &options.log {
        match option {
            LogOption::Change(change) => log.change(change),
            LogOption::File(path) => log.open_file(path),
            LogOption::SyslogMethod(method) => log.set_syslog(Syslog::new(method)?),
            LogOption::SyslogTarget(target) => match sinks::udp(target) {
                Ok(socket) => log.set_syslog_target(socket),
                Err(error) => return Err(format!("--syslog-target={target}: {}", errno_text(&error))),
            },
        }
    }
    Ok(())
}

/// A panic is a bug of ours. The process must not go on with a part of it dead: it says where it was, and aborts, so that a monitor
/// starts it again.
fn die_on_panic(log: &Arc<Log>) {
    let log = Arc::clone(log);
    std::panic::set_hook(Box::new(move |info| {
        log.write(Module::of_target("util"), Level::Emer, &format!("assertion failed: {info}"));
        std::process::abort();
    }));
}
