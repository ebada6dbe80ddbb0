//! `--detach` and `--monitor`, without `fork`: each stage is this program started again with the same words, which keeps threads,
//! locks and half-initialised state out of the picture (and needs nothing unsafe).
//!
//! The stages: the command the user typed (`Foreground`), which waits; the `Monitor`, which starts the daemon again when it dies of a
//! programming error; and the `Daemon`. A stage that was started by another has a pipe as its standard input: a byte written there
//! says "ready", the end of the pipe without one says "failed". The variable `STAGE` tells a process which stage it is.

use super::life::configure_log;
use super::options::LogOption;
use super::vlog::Log;
use crate::fault::errno_text;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

const STAGE: &str = "FERRULE_DAEMON_STAGE";
/// Number of the descriptor that keeps state from one start by the monitor to the next.
const STATE: &str = "FERRULE_DAEMON_STATE";

/// The least time between two starts by the monitor.
const RESTART_INTERVAL: Duration = Duration::from_secs(10);

/// Which of the processes this one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Foreground,
    Monitor,
    Daemon,
}

/// What this process is to do.
#[derive(Debug)]
pub enum Role {
    /// Its part is over; end with this exit code.
    Ended(u8),
    /// Be the daemon; tell `Ready` when it is.
    Daemon(Ready),
}

/// The duty to report readiness, and to leave the terminal.
#[derive(Debug)]
pub struct Ready {
    notify: bool,
    detach: bool,
    chdir: bool,
    keep_output: bool,
}

/// What the command line says about it.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub program: &'a str,
    pub detach: bool,
    pub monitor: bool,
    pub chdir: bool,
    /// Leave standard output and error open in the background.
    pub keep_output: bool,
    /// Where a monitor writes what the daemon died of.
    pub log: &'a [LogOption],
}

fn stage() -> Stage {
    match std::env::var(STAGE).as_deref() {
        Ok("monitor") => Stage::Monitor,
        Ok("daemon") => Stage::Daemon,
        Ok(_) | Err(_) => Stage::Foreground,
    }
}

/// A file that outlives this process and is there again when the monitor has started it anew; `None` without a monitor.
pub fn state() -> Option<File> {
    let number: u32 = std::env::var(STATE).ok()?.parse().ok()?;
    File::options().read(true).write(true).open(format!("/proc/self/fd/{number}")).ok()
}

/// Decides by stage and wish, and plays the parts of the foreground command and of the monitor to their end.
pub fn begin(wish: &Wish<'_>) -> Role {
    match stage() {
        Stage::Foreground if wish.detach => {
            let next = if wish.monitor { Stage::Monitor } else { Stage::Daemon };
            Role::Ended(wait_for_startup(wish, next))
        }
        Stage::Foreground if wish.monitor => Role::Ended(monitor(wish, false)),
        Stage::Foreground => {
            name_process(wish.program);
            Role::Daemon(Ready { notify: false, detach: false, chdir: wish.chdir, keep_output: true })
        }
        Stage::Monitor => {
            let _ = nix::unistd::setsid();
            Role::Ended(monitor(wish, true))
        }
        Stage::Daemon => {
            name_process(wish.program);
            if wish.detach && !wish.monitor {
                let _ = nix::unistd::setsid();
            }
            Role::Daemon(Ready { notify: true, detach: wish.detach, chdir: wish.chdir, keep_output: wish.keep_output })
        }
    }
}

/// Gives the process its program's name, also where that is a link to a program of many: ovs-ctl believes a pidfile only if the process
/// is called like the daemon.
fn name_process(program: &str) {
    if let Ok(name) = CString::new(program) {
        // Without it everything else works.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

impl Ready {
    /// Whether standard error is about to be closed.
    pub fn detaches(&self) -> bool {
        self.detach
    }

    /// Leaves terminal and folder, then tells whoever waits that everything stands.
    pub fn report(self) {
        // The pipe is cloned first: its place at descriptor 0 is given up with the other two.
        let pipe = self.notify.then(|| io::stdin().as_fd().try_clone_to_owned().ok()).flatten();
        if self.detach {
            leave_terminal(self.keep_output);
            if self.chdir {
                drop(std::env::set_current_dir("/"));
            }
        }
        if let Some(pipe) = pipe {
            drop(File::from(pipe).write_all(b"\n"));
        }
    }
}

fn leave_terminal(keep_output: bool) {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        if keep_output {
            return;
        }
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// Starts this program again as `stage`. The pipe ends when the child does, or gives a byte when it is ready.
fn start(stage: Stage, state: Option<&OwnedFd>) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    // The path, not /proc/self/exe: the process is to be called by its program's name. A program that was replaced on disk since
    // it was started has no path any longer.
    let program = std::env::current_exe().ok().filter(|p| p.exists()).unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let stage_name = match stage {
        Stage::Monitor => "monitor",
        Stage::Daemon | Stage::Foreground => "daemon",
    };
    let mut command = Command::new(program);
    command.arg0(name).args(words).env(STAGE, stage_name).stdin(Stdio::from(writer));
    if let Some(state) = state {
        command.env(STATE, state.as_raw_fd().to_string());
    }
    Ok((command.spawn()?, reader))
}

/// Reads the pipe: true for ready.
fn is_ready(mut pipe: PipeReader) -> bool {
    let mut byte = [0u8; 1];
    loop {
        match pipe.read(&mut byte) {
            Ok(n) => return n == 1,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn wait_for_startup(wish: &Wish<'_>, next: Stage) -> u8 {
    let (mut child, pipe) = match start(next, None) {
        Ok(started) => started,
        Err(error) => return complain(wish.program, &format!("fork failed ({})", errno_text(&error))),
    };
    if is_ready(pipe) {
        return 0;
    }
    match child.wait() {
        Ok(status) => startup_failed(wish.program, status),
        Err(error) => complain(wish.program, &format!("waitpid failed ({})", errno_text(&error))),
    }
}

/// The child ended before it was ready. It has said why; if not, say what is known.
fn startup_failed(program: &str, status: ExitStatus) -> u8 {
    match status.code().and_then(|c| u8::try_from(c).ok()) {
        Some(code) if code != 0 => code,
        Some(_) | None => complain(program, &format!("fork child died before signaling startup ({})", describe(status))),
    }
}

fn complain(program: &str, text: &str) -> u8 {
    drop(writeln!(io::stderr(), "{program}: {text}"));
    1
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let core = if status.core_dumped() { ", core dumped" } else { "" };
            format!("killed ({}){core}", signal_name(signal))
        }
        (None, None) => "unknown status".into(),
    }
}

/// `Terminated` for 15 and so on, as strsignal(3) has it for the usual ones.
pub fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 14] = [
        (1, "Hangup"),
        (2, "Interrupt"),
        (4, "Illegal instruction"),
        (6, "Aborted"),
        (7, "Bus error"),
        (8, "Floating point exception"),
        (9, "Killed"),
        (11, "Segmentation fault"),
        (13, "Broken pipe"),
        (14, "Alarm clock"),
        (15, "Terminated"),
        (24, "CPU time limit exceeded"),
        (25, "File size limit exceeded"),
        (31, "Bad system call"),
    ];
    NAMES.iter().find(|(n, _)| *n == signal).map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// The signals that a programming error dies of (ovs-vswitchd(8), --monitor): ILL, ABRT, BUS, FPE, SEGV, PIPE, ALRM, XCPU, XFSZ.
fn is_programming_error(signal: i32) -> bool {
    [4, 6, 7, 8, 11, 13, 14, 24, 25].contains(&signal)
}

/// Opens the log when there is something to write: until then it is the daemon's. It may have been rotated since.
fn open_log(wish: &Wish<'_>, log: &mut Option<Arc<Log>>) {
    let told = match log {
        Some(log) => log.reopen_file(),
        None => configure_log(log.insert(Log::start(wish.program)), wish.log),
    };
    // Without a file there is syslog.
    drop(told);
}

/// Starts the daemon, and again whenever it dies of a programming error, at most once per `RESTART_INTERVAL`.
#[allow(clippy::disallowed_methods, reason = "the monitor is a process of its own, with no switch clock in it")]
fn monitor(wish: &Wish<'_>, detached: bool) -> u8 {
    let mut first = true;
    let mut crashes = 0u32;
    let mut log = None;
    // Without the flag that closes it on exec: each daemon inherits it.
    let state = nix::sys::memfd::memfd_create(c"state", nix::sys::memfd::MFdFlags::empty()).ok();
    loop {
        let started_at = std::time::Instant::now();
        let (mut child, pipe) = match start(Stage::Daemon, state.as_ref()) {
            Ok(started) => started,
            Err(error) => return complain(wish.program, &format!("fork failed ({})", errno_text(&error))),
        };
        let ready = is_ready(pipe);
        if ready && first {
            Ready { notify: detached, detach: detached, chdir: wish.chdir, keep_output: wish.keep_output }.report();
            first = false;
        }
        let status = match child.wait() {
            Ok(status) => status,
            Err(error) => return complain(wish.program, &format!("waitpid failed ({})", errno_text(&error))),
        };
        match status.signal() {
            Some(signal) if is_programming_error(signal) && !first => {
                crashes += 1;
                open_log(wish, &mut log);
                tracing::error!(target: "daemon_unix", "{crashes} crashes: pid {} died, {}, restarting", child.id(), describe(status));
                if let Some(rest) = RESTART_INTERVAL.checked_sub(started_at.elapsed())
                    && crashes > 1
                {
                    std::thread::sleep(rest);
                }
            }
            Some(_) | None if first => return startup_failed(wish.program, status),
            Some(_) | None => {
                let code = status.code().and_then(|c| u8::try_from(c).ok());
                open_log(wish, &mut log);
                tracing::info!(target: "daemon_unix", "pid {} died, {}, exiting", child.id(), describe(status));
                return code.unwrap_or(1);
            }
        }
    }
}
