//! Programs that the harness starts: each is ended by its pid, at the latest when its handle is dropped.

use crate::BenchError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::signal::unix;

/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM do not end us at once: every wait gives up, so that what was started is ended and what was taken is
/// given back.
pub fn catch_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    drop(within);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Sleeps, unless a signal comes.
pub fn rest(time: Duration) -> Result<(), BenchError> {
    let start = Instant::now();
    while !INTERRUPTED.load(Ordering::Relaxed) {
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(Duration::from_millis(50)));
    }
    Err(BenchError::Interrupted)
}

/// A program that runs beside us.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it without standard input and output.
    pub fn start(command: &mut Command) -> Result<Self, BenchError> {
        let shown = format!("{command:?}");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self { child: child.map_err(BenchError::io(shown))? })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal; one that has ended does not mind.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        let _ = kill(Pid::from_raw(pid), signal);
    }

    /// Takes the processor away from it, or gives it back.
    pub fn pause(&self, pause: bool) {
        self.signal(if pause { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > limit {
                return false;
            }
            sleep(STEP);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pause(false);
        if self.is_running() {
            self.signal(Signal::SIGTERM);
        }
        if !self.wait(GRACE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end; its standard output.
pub fn run(command: &mut Command) -> Result<String, BenchError> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(BenchError::io(shown.clone()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(BenchError::Command { command: shown, said: said.trim().to_owned() })
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<(), BenchError> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return Err(BenchError::Late(what.to_owned()));
        }
        rest(STEP)?;
    }
    Ok(())
}

/// The threads of a process whose names begin with `prefix`.
#[must_use]
pub fn threads(pid: u32, prefix: &str) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let named = |tid: &u32| fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).is_ok_and(|comm| comm.starts_with(prefix));
    tasks.flatten().filter_map(|t| t.file_name().to_str()?.parse().ok()).filter(named).collect()
}

/// Whether a thread sleeps, of its own will (proc(5), the state in `stat`).
#[must_use]
pub fn is_asleep(pid: u32, tid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    // Its name stands before the state, in parentheses, and may contain some.
    text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
}

/// Nanoseconds that threads were ready to run but had to wait for a core (proc(5), schedstat).
#[must_use]
pub fn waited_ns(pid: u32, tids: &[u32]) -> u64 {
    schedstat(pid, tids, 1)
}

/// Nanoseconds that threads have run.
#[must_use]
pub fn ran_ns(pid: u32, tids: &[u32]) -> u64 {
    schedstat(pid, tids, 0)
}

fn schedstat(pid: u32, tids: &[u32], column: usize) -> u64 {
    let of = |tid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
        text.split_whitespace().nth(column)?.parse::<u64>().ok()
    };
    tids.iter().filter_map(of).sum()
}

/// Milliseconds that the host of a virtual machine has kept a core for others, in steps of 10 (proc(5), `steal` of `/proc/stat`).
#[must_use]
pub fn stolen_ms(core: usize) -> f64 {
    const STEAL: usize = 8;
    const TICK_MS: f64 = 10.0;
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of = |line: &str| line.split_whitespace().nth(STEAL)?.parse::<f64>().ok();
    text.lines().find(|line| line.split(' ').next() == Some(&format!("cpu{core}"))).and_then(of).unwrap_or(0.0) * TICK_MS
}

/// Resident memory in bytes.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |line: &str| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    text.lines().find_map(kib).unwrap_or(0) * 1024
}
