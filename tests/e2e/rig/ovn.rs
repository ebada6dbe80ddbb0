//! OVN as Debian has it, for the tests that drive it: northd and its two databases (served by `ferrule ovsdb-server`) in a folder, and
//! hosts on which an ovn-controller programs the switch.

use super::{Container, Host, Namespace, Running, binary, is_alive, is_stock, must, run, signal, wait_until};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// OVN's databases and northd, in a folder of their own.
pub(crate) struct Central {
    dir: TempDir,
}

impl Central {
    pub(crate) fn new() -> Self {
        let central = Self { dir: tempfile::tempdir().unwrap() };
        for db in ["nb", "sb"] {
            let schema = format!("/usr/share/ovn/ovn-{db}.ovsschema");
            must(central.database("ovsdb-tool").args(["create", &format!("{db}.db"), &schema]));
            let mut server = central.database("ovsdb-server");
            server.args([format!("--remote=p{}", central.remote(db)), format!("{db}.db")]);
            central.start(server, db);
        }
        central.tool("ovn-nbctl", "nb", "init");
        central.tool("ovn-sbctl", "sb", "init");
        let mut northd = central.command("ovn-northd");
        northd.args(["nb", "sb"].map(|db| format!("--ovn{db}-db={}", central.remote(db))));
        central.start(northd, "northd");
        central
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a database is served.
    fn remote(&self, db: &str) -> String {
        format!("unix:{}", self.file(&format!("{db}.sock")).display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR"] {
            command.env(variable, self.dir.path());
        }
        command.current_dir(self.dir.path());
        command
    }

    /// A database program: ours, or Debian's where it judges the test.
    fn database(&self, program: &str) -> Command {
        if is_stock() {
            return self.command(program);
        }
        let mut command = self.command(binary("ferrule").to_str().unwrap());
        command.arg(program);
        command
    }

    /// Starts a daemon under a name.
    fn start(&self, mut command: Command, name: &str) {
        command.args(["--detach", "--no-chdir", "-vconsole:off"]);
        for (option, end) in [("--pidfile", "pid"), ("--log-file", "log"), ("--unixctl", "ctl")] {
            command.arg(format!("{option}={}", self.file(&format!("{name}.{end}")).display()));
        }
        must(&mut command);
    }

    /// Words of ovn-nbctl. A blank within a word is written as `~`.
    pub(crate) fn nb(&self, words: &str) -> String {
        self.tool("ovn-nbctl", "nb", words)
    }

    fn tool(&self, program: &str, db: &str, words: &str) -> String {
        let mut command = self.command(program);
        command.arg(format!("--db={}", self.remote(db))).arg("--timeout=30");
        must(command.args(words.split_whitespace().map(|w| w.replace('~', " "))))
    }

    /// Waits until every switch has what the northbound database says.
    pub(crate) fn sync(&self) {
        self.nb("--wait=hv sync");
    }

    /// What the southbound database has.
    pub(crate) fn sb(&self, words: &str) -> String {
        self.tool("ovn-sbctl", "sb", words)
    }

    /// A logical switch with a port of the router at these addresses.
    pub(crate) fn switch(&self, name: &str, addresses: &str) {
        let last = name.chars().last().unwrap();
        self.nb(&format!(
            "ls-add {name} -- lrp-add lr0 lr0-{name} 02:00:00:00:ff:0{last} {addresses} -- lsp-add {name} {name}-lr0 \
             -- lsp-set-type {name}-lr0 router -- lsp-set-addresses {name}-lr0 router \
             -- lsp-set-options {name}-lr0 router-port=lr0-{name}"
        ));
    }

    /// A port of a logical switch that leads to `br-ext` of each chassis that has one.
    pub(crate) fn localnet(&self, switch: &str) {
        self.nb(&format!(
            "lsp-add {switch} {switch}-ext -- lsp-set-type {switch}-ext localnet -- lsp-set-addresses {switch}-ext unknown \
             -- lsp-set-options {switch}-ext network_name=ext"
        ));
    }
}

fn pid_in(file: PathBuf) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

impl Drop for Central {
    fn drop(&mut self) {
        for pid in ["nb", "sb", "northd"].iter().filter_map(|name| pid_in(self.file(&format!("{name}.pid")))) {
            signal(pid, Signal::SIGKILL);
        }
    }
}

/// A host on which ovn-controller runs.
pub(crate) struct Chassis {
    pub(crate) host: Host,
}

impl Chassis {
    /// Chassis number n of the overlay; `uplink` leads to the other. The second's address for tunnels is on the uplink itself, which is in no
    /// bridge, as in most clouds; the first's is on a bridge that has the uplink.
    pub(crate) fn new(host: Host, n: u32, uplink: &str, central: &Central) -> Self {
        let kind = kind();
        host.ns.quiet(uplink);
        host.ns.ip(&format!("link set {uplink} up"));
        let bridged = n == 1 || is_stock();
        if bridged {
            host.vsctl(&format!("add-br br-phy -- set bridge br-phy datapath_type={kind}"));
            // The kernel, too, sees what comes in by the uplink, and would answer with the uplink's MAC.
            host.ns.exec(&format!("sysctl -qw net.ipv4.conf.{uplink}.arp_ignore=1"));
            host.vsctl(&format!("add-port br-phy {uplink}"));
            host.ns.quiet("br-phy");
            host.ns.ip("link set br-phy up");
        }
        let device = if bridged { "br-phy" } else { uplink };
        host.ns.ip(&format!("addr add 172.16.0.{n}/24 dev {device}"));
        Self::programmed(host, n, central)
    }

    /// A chassis that has no other.
    pub(crate) fn alone(central: &Central) -> Self {
        Self::programmed(Host::new(), 1, central)
    }

    fn programmed(host: Host, n: u32, central: &Central) -> Self {
        let kind = kind();
        host.vsctl(&format!(
            "set open_vswitch . external_ids:ovn-bridge-mappings=ext:br-ext external_ids:system-id=ch{n} external_ids:ovn-remote={} external_ids:ovn-encap-type=geneve \
             external_ids:ovn-encap-ip=172.16.0.{n} external_ids:ovn-bridge-datapath-type={kind}",
            central.remote("sb")
        ));
        let chassis = Self { host };
        chassis.start();
        chassis
    }

    pub(crate) fn start(&self) {
        let mut command = self.host.command("ovn-controller");
        let folder = self.host.file("");
        command.env("OVN_RUNDIR", &folder).env("OVN_LOGDIR", &folder);
        command.args(["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"]);
        must(command.arg(format!("unix:{}", self.host.file("db.sock").display())));
    }

    /// Whether ovn-controller runs.
    pub(crate) fn is_controlled(&self) -> bool {
        pid_in(self.host.file("ovn-controller.pid")).is_some_and(is_alive)
    }

    /// The socket of ovn-controller's commands.
    pub(crate) fn controller(&self) -> String {
        let pid = pid_in(self.host.file("ovn-controller.pid")).expect("ovn-controller has a pidfile");
        self.host.file(&format!("ovn-controller.{pid}.ctl")).display().to_string()
    }

    pub(crate) fn kill(&self) {
        let Some(pid) = pid_in(self.host.file("ovn-controller.pid")) else { return };
        signal(pid, Signal::SIGKILL);
        wait_until("ovn-controller is gone", || !is_alive(pid));
    }

    /// A container with a logical port on a logical switch, of the same name as its device: an IPv4 address, and an IPv6 one if it has it.
    pub(crate) fn container(&self, central: &Central, switch: &str, device: &str, addresses: &str) -> Container {
        let container = contained(&self.host, device, addresses);
        let listed = addresses.replace(' ', "~");
        central.nb(&format!("lsp-add {switch} {device} -- lsp-set-addresses {device} {}~{listed}", container.mac));
        self.host.vsctl(&format!("add-port br-int {device} -- set interface {device} external_ids:iface-id={device}"));
        container
    }
}

impl Chassis {
    /// The bridge `br-ext`, on which the world outside is.
    pub(crate) fn bridge_out(&self) {
        self.host.vsctl(&format!("add-br br-ext -- set bridge br-ext datapath_type={}", kind()));
    }

    /// A container of the world outside, on `br-ext`.
    pub(crate) fn outside(&self, device: &str, addresses: &str) -> Container {
        let container = contained(&self.host, device, addresses);
        self.host.vsctl(&format!("add-port br-ext {device}"));
        container
    }
}

/// Debian's switch forwards in userspace only where its kernel module is missing.
fn kind() -> &'static str {
    if is_stock() { "netdev" } else { "system" }
}

/// A container whose default routes lead to address 254 of its network, and to fe.
fn contained(host: &Host, device: &str, addresses: &str) -> Container {
    let container = Container::new(&host.ns, device, &[]);
    // The outer header must fit.
    container.ns.ip("link set eth0 mtu 1400");
    container.sums_for_stock();
    for address in addresses.split(' ') {
        let (length, end, gateway) = if address.contains(':') { (64, ':', "fe") } else { (24, '.', "254") };
        let (network, _) = address.rsplit_once(end).unwrap();
        container.ns.ip(&format!("addr add {address}/{length} dev eth0 nodad"));
        container.ns.ip(&format!("route add default via {network}{end}{gateway}"));
    }
    container
}

impl Drop for Chassis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that answers every TCP connection with a word.
pub(crate) fn serve(ns: &Namespace, port: u16, word: &str) -> Running {
    let mut command = ns.command("socat");
    let running = Running::start(command.args([format!("TCP-LISTEN:{port},fork,reuseaddr"), format!("SYSTEM:echo {word}")]));
    wait_until("the server listens", || ns.exec("ss -Hltn").contains(&format!(":{port} ")));
    running
}

/// What a server says, or why there was none.
pub(crate) fn ask(from: &Container, address: &str, port: u16) -> String {
    let ran = run(from.ns.command("nc").args(["-v", "-n", "-N", "-w", "3", address, &port.to_string()]));
    format!("{}{}", ran.out, ran.err)
}
