//! OVN, unmodified, as Debian has it: northd and its two databases (served by `ferrule ovsdb-server`), an ovn-controller for each of two
//! switches, geneve between them. A logical switch and a router carry packets of containers; what OVN answers by itself (ARP, errors
//! of ICMP, refusals of an ACL) goes by packet-ins with userdata and by packet-outs.

use crate::rig::{
    Container, Host, Namespace, Running, assert_has, binary, is_alive, is_stock, must, run, signal, wait_for, wait_until,
};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A program that lost its database or its switch tries again after 1, 2, 4 and 8 seconds.
const RECONNECTED: Duration = Duration::from_secs(30);

/// OVN's databases and northd, in a folder of their own.
struct Central {
    dir: TempDir,
}

impl Central {
    fn new() -> Self {
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
    fn nb(&self, words: &str) -> String {
        self.tool("ovn-nbctl", "nb", words)
    }

    fn tool(&self, program: &str, db: &str, words: &str) -> String {
        let mut command = self.command(program);
        command.arg(format!("--db={}", self.remote(db))).arg("--timeout=30");
        must(command.args(words.split_whitespace().map(|w| w.replace('~', " "))))
    }

    /// Waits until every switch has what the northbound database says.
    fn sync(&self) {
        self.nb("--wait=hv sync");
    }

    /// A logical switch with a port of the router, at address 254 of its network.
    fn switch(&self, name: &str, network: &str) {
        let last = name.chars().last().unwrap();
        self.nb(&format!(
            "ls-add {name} -- lrp-add lr0 lr0-{name} 02:00:00:00:ff:0{last} {network}.254/24 -- lsp-add {name} {name}-lr0 \
             -- lsp-set-type {name}-lr0 router -- lsp-set-addresses {name}-lr0 router \
             -- lsp-set-options {name}-lr0 router-port=lr0-{name}"
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
struct Chassis {
    host: Host,
}

impl Chassis {
    /// Chassis number n of the overlay; `uplink` leads to the other. The second's address for tunnels is on the uplink itself, which is in no
    /// bridge, as in most clouds; the first's is on a bridge that has the uplink.
    fn new(host: Host, n: u32, uplink: &str, central: &Central) -> Self {
        // Debian's switch forwards in userspace only where its kernel module is missing.
        let kind = if is_stock() { "netdev" } else { "system" };
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
        host.vsctl(&format!(
            "set open_vswitch . external_ids:system-id=ch{n} external_ids:ovn-remote={} external_ids:ovn-encap-type=geneve \
             external_ids:ovn-encap-ip=172.16.0.{n} external_ids:ovn-bridge-datapath-type={kind}",
            central.remote("sb")
        ));
        let chassis = Self { host };
        chassis.start();
        chassis
    }

    fn start(&self) {
        let mut command = self.host.command("ovn-controller");
        let folder = self.host.file("");
        command.env("OVN_RUNDIR", &folder).env("OVN_LOGDIR", &folder);
        command.args(["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"]);
        must(command.arg(format!("unix:{}", self.host.file("db.sock").display())));
    }

    fn kill(&self) {
        let Some(pid) = pid_in(self.host.file("ovn-controller.pid")) else { return };
        signal(pid, Signal::SIGKILL);
        wait_until("ovn-controller is gone", || !is_alive(pid));
    }

    /// A container with a logical port on a logical switch, of the same name as its device.
    fn container(&self, central: &Central, switch: &str, device: &str, address: &str) -> Container {
        let container = Container::new(&self.host.ns, device, &[&format!("{address}/24")]);
        // The outer header must fit.
        container.ns.ip("link set eth0 mtu 1400");
        container.sums_for_stock();
        let (network, _) = address.rsplit_once('.').unwrap();
        container.ns.ip(&format!("route add default via {network}.254"));
        central.nb(&format!("lsp-add {switch} {device} -- lsp-set-addresses {device} {}~{address}", container.mac));
        self.host.vsctl(&format!("add-port br-int {device} -- set interface {device} external_ids:iface-id={device}"));
        container
    }
}

impl Drop for Chassis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that answers every TCP connection with a word.
fn serve(ns: &Namespace, port: u16, word: &str) -> Running {
    let mut command = ns.command("socat");
    let running = Running::start(command.args([format!("TCP-LISTEN:{port},fork,reuseaddr"), format!("SYSTEM:echo {word}")]));
    wait_until("the server listens", || ns.exec("ss -Hltn").contains(&format!(":{port} ")));
    running
}

/// What a server says, or why there was none.
fn ask(from: &Container, address: &str, port: u16) -> String {
    let ran = run(from.ns.command("nc").args(["-v", "-n", "-N", "-w", "3", address, &port.to_string()]));
    format!("{}{}", ran.out, ran.err)
}

/// Two chassis, a router, an inner network of three containers (one on the second chassis) and an outer one behind the second chassis.
struct Cloud {
    a: Container,
    b: Container,
    c: Container,
    outside: Container,
    one: Chassis,
    two: Chassis,
    central: Central,
}

impl Cloud {
    fn new() -> Self {
        let central = Central::new();
        let (one, two) = (Host::new(), Host::new());
        one.ns.ip(&format!("link add up1 type veth peer name up2 netns {}", two.ns.name));
        let one = Chassis::new(one, 1, "up1", &central);
        let two = Chassis::new(two, 2, "up2", &central);
        central.nb("lr-add lr0");
        central.switch("sw0", "10.0.0");
        central.switch("sw1", "172.31.0");
        central.nb("lrp-set-gateway-chassis lr0-sw1 ch2 10 -- lr-nat-add lr0 snat 172.31.0.254 10.0.0.0/24");
        let a = one.container(&central, "sw0", "p1", "10.0.0.1");
        let b = one.container(&central, "sw0", "p2", "10.0.0.2");
        let c = two.container(&central, "sw0", "p3", "10.0.0.3");
        let outside = two.container(&central, "sw1", "p6", "172.31.0.6");
        central.sync();
        Self { a, b, c, outside, one, two, central }
    }

    /// Within a switch on one chassis and on two, to the router, by its gateway to the outside.
    fn connects(&self) {
        for target in ["10.0.0.2", "10.0.0.3", "10.0.0.254", "172.31.0.6"] {
            wait_for(&format!("{target} answers"), RECONNECTED, || self.a.ping(target, 1, "") == 1);
            self.a.reaches(target);
        }
    }

    /// An ACL that tracks connections: one way with its replies, a refusal, and silence.
    fn filters(&self) {
        let _servers = [serve(&self.c.ns, 80, "three"), serve(&self.c.ns, 81, "three")];
        self.central.nb("pg-add pg0 p3 -- acl-add pg0 to-lport 1000 outport==@pg0&&ip4 drop \
             -- acl-add pg0 to-lport 1001 outport==@pg0&&tcp.dst==80 allow-related \
             -- acl-add pg0 to-lport 1001 outport==@pg0&&tcp.dst==81 reject \
             -- acl-add pg0 from-lport 1001 inport==@pg0&&ip4 allow-related");
        self.central.sync();
        assert_has(&ask(&self.a, "10.0.0.3", 80), &["three"]);
        assert_has(&ask(&self.a, "10.0.0.3", 81), &["refused"]);
        self.a.does_not_reach("10.0.0.3");
        self.c.reaches("10.0.0.1");
        assert_has(&self.two.host.appctl("dpctl/dump-conntrack"), &["tcp,orig=(src=10.0.0.1,dst=10.0.0.3"]);
        self.central.nb("acl-del pg0 -- pg-del pg0");
        self.central.sync();
        self.a.reaches("10.0.0.3");
    }

    /// The outside sees the router's address; a load balancer shares connections out; the router tells of what has lived too long.
    fn translates(&self) {
        let _servers =
            [serve(&self.outside.ns, 80, "from $SOCAT_PEERADDR"), serve(&self.b.ns, 80, "two"), serve(&self.c.ns, 80, "three")];
        assert_has(&ask(&self.a, "172.31.0.6", 80), &["from 172.31.0.254"]);
        assert_has(&ask(&self.c, "172.31.0.6", 80), &["from 172.31.0.254"]);
        self.central.nb("lb-add lb0 10.0.0.100:8080 10.0.0.2:80,10.0.0.3:80 tcp -- ls-lb-add sw0 lb0 -- lr-lb-add lr0 lb0");
        self.central.sync();
        let said: String = (0..24).map(|_| ask(&self.a, "10.0.0.100", 8080)).collect();
        assert_has(&said, &["two", "three"]);
        assert_eq!(self.a.ping("172.31.0.6", 3, "-s 4000"), 3, "fragments");
        let expired = run(self.a.ns.command("ping").args(["-c1", "-W2", "-t1", "172.31.0.6"]));
        assert_has(&expired.out, &["From 10.0.0.254", "Time to live exceeded"]);
    }
}

#[test]
fn ovn_switches_filters_and_routes_over_geneve() {
    let cloud = Cloud::new();
    for (chassis, port) in [(&cloud.one, "p1"), (&cloud.two, "p3")] {
        wait_until("a port is installed", || chassis.host.column("interface", port, "external_ids").contains("ovn-installed"));
    }
    cloud.connects();
    cloud.filters();
    cloud.translates();
    // A switch goes on while its controller is away, and a controller takes up what it left.
    cloud.one.kill();
    cloud.a.reaches("10.0.0.3");
    cloud.one.start();
    cloud.central.sync();
    cloud.connects();
    // A daemon that was killed comes back with nothing, and is programmed again.
    cloud.one.host.kill_daemon();
    cloud.one.host.start_daemon();
    cloud.connects();
    assert!(cloud.two.host.is_up());
    // A port that goes is told.
    cloud.one.host.vsctl("del-port br-int p2");
    let is_down = || cloud.central.nb("get logical_switch_port p2 up").trim() == "false";
    wait_for("the port is down", RECONNECTED, is_down);
}
