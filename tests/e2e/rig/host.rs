//! A host: a namespace with a switch in it, its run folder, and the tools pointed at it.

use super::namespace::{Container, Namespace};
use super::{Ran, Wire, must, run, signal, wait_until};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Where the configuration lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Db {
    /// In the daemon itself.
    Embedded,
    /// In Debian's ovsdb-server.
    External,
    /// In servers that the test starts itself, at these remotes.
    At(&'static str),
}

/// What a host is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) db: Db,
    /// More words for the daemon.
    pub(crate) words: &'a str,
}

/// A namespace with a switch in it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) ns: Namespace,
    pub(crate) db: Db,
    words: String,
    dir: TempDir,
}

const STOCK_DAEMON: &str = "/usr/sbin/ovs-vswitchd";

/// Whether Debian's own daemon is under test, which judges the tests.
pub(crate) fn is_stock() -> bool {
    static STOCK: OnceLock<bool> = OnceLock::new();
    *STOCK.get_or_init(|| std::env::var("E2E_DAEMON").is_ok_and(|v| v == "stock"))
}

/// A program of ours.
pub(crate) fn binary(name: &str) -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release");
    let dir = std::env::var("FERRULE_BIN").unwrap_or_else(|_| default.into());
    let path = Path::new(&dir).join(name);
    assert!(path.exists(), "{} is missing (make build)", path.display());
    path
}

impl Host {
    /// A host whose switch runs, with its database embedded.
    pub(crate) fn new() -> Self {
        Self::with(Setup { db: Db::Embedded, words: "" })
    }

    /// A host whose switch runs.
    pub(crate) fn with(setup: Setup<'_>) -> Self {
        let host = Self::bare(setup);
        host.start_database();
        host.start_daemon();
        host
    }

    /// A host where nothing runs yet.
    pub(crate) fn bare(setup: Setup<'_>) -> Self {
        let db = if is_stock() && setup.db == Db::Embedded { Db::External } else { setup.db };
        let dir = tempfile::tempdir().unwrap();
        Self { ns: Namespace::new("host"), db, words: setup.words.to_owned(), dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command in the host's namespace and folder, its tools pointed at the host's switch.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.ns.command(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.dir.path());
        }
        command.current_dir(self.dir.path());
        command
    }

    /// Starts ovsdb-server, if the database is an external one.
    pub(crate) fn start_database(&self) {
        if self.db != Db::External {
            return;
        }
        if !self.file("conf.db").exists() {
            self.tool("ovsdb-tool", "create conf.db /usr/share/openvswitch/vswitch.ovsschema");
        }
        self.tool(
            "ovsdb-server",
            "--detach --no-chdir --pidfile --log-file -vconsole:off --remote=punix:db.sock \
             --remote=db:Open_vSwitch,Open_vSwitch,manager_options conf.db",
        );
        self.tool("ovs-vsctl", "--no-wait init");
    }

    /// Starts the daemon; returns when it serves.
    pub(crate) fn start_daemon(&self) {
        self.start_program(&if is_stock() { STOCK_DAEMON.into() } else { binary("ovs-vswitchd") });
    }

    /// A host on which Debian's daemon runs: the other side of a conversation.
    pub(crate) fn stock() -> Self {
        Self::stock_with("")
    }

    /// The same with more words for the daemon.
    pub(crate) fn stock_with(words: &str) -> Self {
        let host = Self::bare(Setup { db: Db::External, words });
        host.start_database();
        host.start_program(STOCK_DAEMON.as_ref());
        host
    }

    fn start_program(&self, program: &Path) {
        let mut command = self.command(program.to_str().unwrap());
        command.args(["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"]);
        command.args(self.words.split_whitespace());
        match self.db {
            Db::Embedded => command.arg("--embedded-db"),
            Db::At(remotes) => command.arg(remotes),
            Db::External => command.arg(format!("unix:{}", self.file("db.sock").display())),
        };
        must(&mut command);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid_of("ovs-vswitchd").expect("the daemon has a pidfile")
    }

    fn pid_of(&self, program: &str) -> Option<u32> {
        std::fs::read_to_string(self.file(&format!("{program}.pid"))).ok()?.trim().parse().ok()
    }

    /// Whether the daemon is alive.
    pub(crate) fn is_up(&self) -> bool {
        is_alive(self.pid())
    }

    /// Ends the daemon in good order, and waits until it is gone: its answer comes before.
    pub(crate) fn end_daemon(&self, words: &str) {
        let pid = self.pid();
        self.appctl(&format!("exit {words}"));
        wait_until("the daemon ends", || !is_alive(pid));
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill_daemon(&self) {
        let pid = self.pid();
        signal(pid, Signal::SIGKILL);
        wait_until("a killed daemon is gone", || !is_alive(pid));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file("ovs-vswitchd.log")).unwrap_or_default()
    }

    /// A tool with words, which has to succeed; its standard output.
    pub(crate) fn tool(&self, program: &str, words: &str) -> String {
        must(self.command(program).args(words.split_whitespace()))
    }

    /// A tool with words; all that it left.
    pub(crate) fn try_tool(&self, program: &str, words: &str) -> Ran {
        run(self.command(program).args(words.split_whitespace()))
    }

    pub(crate) fn vsctl(&self, words: &str) -> String {
        let db = if let Db::At(remotes) = self.db { format!("--db={remotes}") } else { String::new() };
        self.tool("ovs-vsctl", &format!("--timeout=20 {db} {words}"))
    }

    pub(crate) fn appctl(&self, words: &str) -> String {
        self.tool("ovs-appctl", &format!("--timeout=20 {words}"))
    }

    /// `ovs-ofctl` with the version that is right for most: 1.3.
    pub(crate) fn ofctl(&self, words: &str) -> String {
        self.tool("ovs-ofctl", &format!("--timeout=20 -OOpenFlow13 {words}"))
    }

    /// The count of a counter in `coverage/show`, 0 if it is not there.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let text = self.appctl("coverage/show");
        let line = text.lines().find(|l| l.split_whitespace().next() == Some(name));
        line.and_then(|l| super::number_after(l, "total: ")).unwrap_or(0)
    }

    /// A column of a row, as `ovs-vsctl get` prints it.
    pub(crate) fn column(&self, table: &str, row: &str, column: &str) -> String {
        self.vsctl(&format!("get {table} {row} {column}")).trim().trim_matches('"').to_owned()
    }

    /// Adds a bridge of the userspace datapath; `columns` such as `fail_mode=secure`.
    pub(crate) fn bridge(&self, name: &str, columns: &str) {
        self.vsctl(&format!("add-br {name} -- set bridge {name} datapath_type=netdev {columns}"));
    }

    /// A container, attached as OpenFlow port `ofport`; `more` is more of the vsctl command line, such as `tag=10`.
    pub(crate) fn attach(&self, bridge: &str, device: &str, ofport: u32, addresses: &[&str], more: &str) -> Container {
        let container = Container::new(&self.ns, device, addresses);
        self.vsctl(&format!("add-port {bridge} {device} {more} -- set interface {device} ofport_request={ofport}"));
        container
    }

    /// A port whose device's other end stays in the host's namespace, up and unused, as `x` and the device's name.
    pub(crate) fn loose_port(&self, bridge: &str, device: &str, ofport: u32) {
        self.ns.ip(&format!("link add {device} type veth peer name x{device}"));
        for end in [device, &format!("x{device}")] {
            self.ns.quiet(end);
            self.ns.ip(&format!("link set {end} up"));
        }
        self.vsctl(&format!("add-port {bridge} {device} -- set interface {device} ofport_request={ofport}"));
    }

    /// Two containers (10.0.0.1 as port 1 and 10.0.0.2 as port 2; fd00::1, fd00::2) on `br0`.
    pub(crate) fn pair(&self, columns: &str) -> (Container, Container) {
        self.bridge("br0", columns);
        let a = self.attach("br0", "p1", 1, &["10.0.0.1/24", "fd00::1/64"], "");
        let b = self.attach("br0", "p2", 2, &["10.0.0.2/24", "fd00::2/64"], "");
        (a, b)
    }

    /// Replaces all flows of a bridge by these lines.
    pub(crate) fn flows(&self, bridge: &str, lines: &str) {
        std::fs::write(self.file("flows"), lines).unwrap();
        self.ofctl(&format!("--bundle replace-flows {bridge} flows"));
    }

    /// An OpenFlow connection by bytes to `BRIDGE.mgmt`.
    pub(crate) fn wire(&self, bridge: &str, version: u8) -> Wire {
        Wire::connect(&self.file(&format!("{bridge}.mgmt")), version)
    }

    /// The packet count of the first rule whose line contains all of `parts`.
    #[track_caller]
    pub(crate) fn packets(&self, bridge: &str, parts: &[&str]) -> u64 {
        let text = self.ofctl(&format!("dump-flows {bridge}"));
        let line = super::line_with(&text, parts).unwrap_or_else(|| panic!("{parts:?} in {text}"));
        super::number_after(line, "n_packets=").unwrap()
    }
}

/// Whether a process exists and is no zombie. One that still has threads keeps its files open, and its pidfile locked.
pub(crate) fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let threads = super::number_after(&status, "Threads:\t").unwrap_or(0);
    !status.is_empty() && (threads > 1 || !status.contains("State:\tZ"))
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            eprintln!("--- the daemon's log ends with:\n{}\n---", tail.join("\n"));
        }
        for program in ["ovs-vswitchd", "ovsdb-server", "ovs-testcontroller"] {
            if let Some(pid) = self.pid_of(program) {
                signal(pid, Signal::SIGKILL);
            }
        }
    }
}
