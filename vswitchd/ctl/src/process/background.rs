//! Tools that may run on in the background: a command as a process with a log, a pidfile and a control socket.
//!
//! What enters: the options and the command's work. What leaves: its exit code, or the signal's end. Neighbours: `life` (what a process has),
//! `daemonize` (its stages); `ovsdb-client` and `ovs-ofctl monitor` and `snoop` live by it.

use super::daemonize::{self, Ready, Role};
use super::signals::{self, Signals};
use super::unixctl::{Request, Server as Control};
use super::vlog::Log;
use super::{Process, ProcessOptions};
use crate::alarm;
use crate::console::Io;
use crate::fault::Fault;
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a command that runs on has beside its connection.
#[derive(Debug, Default)]
pub struct Background {
    ready: Option<Ready>,
    log: Option<Arc<Log>>,
    control: Option<Control>,
}

impl Background {
    /// The command has begun: whoever started it may go on.
    pub fn ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            if let (true, Some(log)) = (ready.detaches(), &self.log) {
                log.detach_console();
            }
            ready.report();
        }
    }

    /// The process's log.
    ///
    /// # Panics
    /// For a background that `run` did not make.
    #[must_use]
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(self.log.as_ref().expect("`run` gives every background its log"))
    }

    /// The next control request; never, without a control socket.
    pub async fn next_request(&mut self) -> Option<Request> {
        match &mut self.control {
            Some(control) => control.next().await,
            None => std::future::pending().await,
        }
    }
}

/// For so long a signal waits for work that does not let others run, as while it waits for a switch or for whoever reads its output.
const PATIENCE: Duration = Duration::from_secs(1);

/// Files that a process leaves behind unless it removes them.
struct Files(Vec<PathBuf>);

impl Files {
    fn remove(&self) {
        self.0.iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}

/// Passes signals on to the work's thread. If that is not at leisure, the process ends here.
async fn pass_on(mut signals: Signals, to: oneshot::Sender<Signal>, files: Arc<Files>) {
    let signal = signals.next().await;
    let _ = to.send(signal);
    tokio::time::sleep(PATIENCE).await;
    files.remove();
    signals::die_of(signal);
}

/// Runs `work` as a process with a log, a pidfile and, if it is `controlled`, a control socket; in the background if asked.
///
/// # Errors
/// The first step that failed, in the words of OVS, or the work's.
pub fn run(
    io: &mut Io<'_>,
    options: &ProcessOptions,
    timeout: Option<&str>,
    controlled: bool,
    work: impl AsyncFnOnce(&mut Io<'_>, &mut Background) -> Result<u8, Fault>,
) -> Result<u8, Fault> {
    let limit = alarm::limit(timeout, "value %s on -t or --timeout is invalid")?;
    let ready = match daemonize::begin(&options.wish()) {
        Role::Ended(code) => return Ok(code),
        Role::Daemon(ready) => ready,
    };
    let mut process = Process::begin(options, controlled).map_err(Fault::say)?;
    let signals = process.signals.take().expect("nobody took them yet");
    let (log, bound) = (Arc::clone(&process.log), process.control.take());
    let control_file = bound.as_ref().map(|bound| bound.name.path().to_owned());
    let files = Arc::new(Files(options.pidfile.iter().cloned().chain(control_file).collect()));
    let pattern = io.pattern.clone();
    let (ended, signal) = process.run(async {
        let (to, mut signal) = oneshot::channel();
        tokio::spawn(pass_on(signals, to, Arc::clone(&files)));
        if let Some(limit) = limit {
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                files.remove();
                alarm::ring(&pattern);
            });
        }
        let (control, _name) = match bound {
            Some(bound) => (Some(Control::start(bound.listener)?), Some(bound.name)),
            None => (None, None),
        };
        let mut background = Background { ready: Some(ready), log: Some(log), control };
        let ended = tokio::select! {
            Ok(signal) = &mut signal => {
                let name = daemonize::signal_name(signal as i32);
                tracing::warn!(target: "fatal_signal", "terminating with signal {} ({name})", signal as i32);
                (Ok(0), Some(signal))
            }
            ended = work(io, &mut background) => (ended, None),
        };
        if let Some(control) = background.control.take() {
            control.finish().await;
        }
        Ok::<(Result<u8, Fault>, Option<Signal>), Fault>(ended)
    })?;
    io.out.flush()?;
    process.end(signal);
    ended
}
