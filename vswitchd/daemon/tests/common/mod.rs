//! A run folder of its own for each test, with the daemon in it and OVS's tools pointed at it; everything that was started is ended
//! when the folder is dropped.
#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::unwrap_used, reason = "in a test, to panic is to speak")]

pub(crate) mod beside;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The daemon under test.
const DAEMON: &str = env!("CARGO_BIN_EXE_ovs-vswitchd");

/// A run folder.
pub(crate) struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A command with the folder's environment, running in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.path());
        }
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// The daemon, under its usual name.
    pub(crate) fn daemon(&self, words: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = self.command(DAEMON);
        command.arg0("ovs-vswitchd").args(words.split_whitespace());
        command
    }

    /// Starts a command that is killed when the guard goes out of scope.
    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Runs to the end: status, standard output and error.
    pub(crate) fn run(&self, mut command: Command) -> (i32, String, String) {
        let Output { status, stdout, stderr } = tests::output(&mut command);
        (
            status.code().unwrap_or(-1),
            String::from_utf8_lossy(&stdout).into_owned(),
            String::from_utf8_lossy(&stderr).into_owned(),
        )
    }

    /// Starts the daemon detached, with a pidfile and a log, and sees to it that it came up.
    pub(crate) fn start(&self, words: &str) -> i32 {
        let (code, out, err) = self.run(self.daemon(&format!("{words} --detach --no-chdir --pidfile --log-file")));
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        self.pid().expect("the pidfile is there before the parent ends")
    }

    /// `ovs-appctl` with these words; its output, or its complaint.
    pub(crate) fn appctl(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.command("ovs-appctl");
        command.arg("--timeout=10").args(words);
        let (code, out, err) = self.run(command);
        if code == 0 { Ok(out) } else { Err(err) }
    }

    /// `ovs-vsctl`, which has to succeed.
    pub(crate) fn vsctl(&self, words: &str) -> String {
        let mut command = self.command("ovs-vsctl");
        command.arg("--timeout=10").args(words.split_whitespace());
        let (code, out, err) = self.run(command);
        assert_eq!(code, 0, "ovs-vsctl {words}: {err}");
        out
    }

    /// Another tool with words, which has to succeed.
    pub(crate) fn tool(&self, program: &str, words: &str) -> String {
        let mut command = self.command(program);
        command.args(words.split_whitespace());
        let (code, out, err) = self.run(command);
        assert_eq!(code, 0, "{program} {words}: {err}");
        out
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.file("ovs-vswitchd.pid")).ok()?.trim().parse().ok()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file("ovs-vswitchd.log")).unwrap_or_default()
    }

    /// OVS's ovsdb-server with an empty database of the installed schema.
    pub(crate) fn start_ovsdb(&self) {
        self.tool("ovsdb-tool", "create conf.db /usr/share/openvswitch/vswitch.ovsschema");
        let words = format!(
            "--detach --no-chdir --pidfile --log-file -vconsole:off --remote=punix:{}/db.sock conf.db",
            self.path().display()
        );
        self.tool("ovsdb-server", &words);
    }
}

/// A process that does not outlive its test.
pub(crate) struct Running(pub(crate) std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for name in ["ovs-vswitchd.pid", "ovsdb-server.pid", "ovs-testcontroller.pid"] {
            let pid = std::fs::read_to_string(self.file(name)).ok().and_then(|t| t.trim().parse().ok());
            if let Some(pid) = pid {
                signal(pid, "KILL");
            }
        }
    }
}

/// Whether the process exists (and is not just a zombie).
pub(crate) fn alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

/// Sends a signal by name, as kill(1).
pub(crate) fn signal(pid: i32, name: &str) {
    let number = nix::sys::signal::Signal::iterator().find(|s| s.as_str() == format!("SIG{name}"));
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), number);
}

/// Waits up to ten seconds.
#[allow(clippy::disallowed_methods, reason = "a test waits for other processes in real time")]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "timed out: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
