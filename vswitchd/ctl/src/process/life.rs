//! The order in which a daemon's parts come and go: log, user, pidfile, control socket, signals, runtime; and backwards.

use super::options::{LogOption, ProcessOptions};
use super::pidfile::Pidfile;
use super::signals::{self, Signals};
use super::socket::{self, BoundSocket};
use super::vlog::Log;
use super::vlog::levels::Level;
use super::vlog::modules::Module;
use super::vlog::sinks::{self, Syslog};
use super::{RUNTIME_THREAD, user};
use crate::fault::errno_text;
use nix::sys::signal::Signal;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// A process that stands: what it holds of the system.
#[derive(Debug)]
pub struct Process {
    pub log: Arc<Log>,
    /// Taken by whoever serves it.
    pub control: Option<BoundSocket>,
    /// Taken by whoever obeys them.
    pub signals: Option<Signals>,
    runtime: Option<Runtime>,
    pidfile: Option<Pidfile>,
}

impl Process {
    /// Brings everything up that the options ask for; a control socket only with `controlled`.
    /// # Errors
    /// The first step that failed, in the words of OVS.
    pub fn begin(options: &ProcessOptions, controlled: bool) -> Result<Self, String> {
        let _ = nix::sys::prctl::set_name(&std::ffi::CString::new(options.program.clone()).unwrap_or_default());
        let log = Log::start(&options.program);
        configure_log(&log, &options.log)?;
        die_on_panic(&log);
        if let Some(spec) = &options.user {
            user::become_user(spec).map_err(|e| e.to_string())?;
        }
        let pidfile = options.pidfile.as_deref().map(|path| Pidfile::create(path, options.overwrite_pidfile)).transpose();
        let pidfile = pidfile.map_err(|e| e.to_string())?;
        let socket = options.control_socket(std::process::id()).filter(|_| controlled);
        let control = socket.map(|path| bind_control(&path)).transpose()?;
        let signals = Signals::listen().map_err(|e| errno_text(&e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // With a second one each message read would wake it to look for work: a futex call and two context switches. What blocks
            // hands the worker's tasks over to a thread that is made for it.
            .worker_threads(1)
            .thread_name(RUNTIME_THREAD)
            .enable_all()
            .build()
            .map_err(|e| errno_text(&e))?;
        Ok(Self { log, control, signals: Some(signals), runtime: Some(runtime), pidfile })
    }

    /// Runs the program's main loop.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("taken only by `end`, which consumes the process").block_on(main)
    }

    /// Takes the process's names out of the file system.
    pub fn leave(&mut self) {
        drop(self.pidfile.take());
        drop(self.control.take());
    }

    /// Gives everything back. With a signal the process dies of it here.
    pub fn end(mut self, signal: Option<Signal>) {
        // Names go before the process does: who waits for it sees none of them.
        self.leave();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Some(signal) = signal {
            signals::die_of(signal);
        }
    }
}

fn bind_control(path: &Path) -> Result<BoundSocket, String> {
    socket::bind(path).map_err(|e| format!("could not initialize control socket {} ({})", path.display(), errno_text(&e)))
}

pub(super) fn configure_log(log: &Log, options: &[LogOption]) -> Result<(), String> {
    let method = std::env::var("OVS_SYSLOG_METHOD").unwrap_or_else(|_| "libc".into());
    log.set_syslog(Syslog::new(&method)?);
    for option in options {
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
