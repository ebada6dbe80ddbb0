//! A clustered database of three of Debian's ovsdb-servers: the switch keeps to the leader, follows a change of leader, and forwards
//! while all of them are away.

use crate::rig::{Db, Host, Setup, assert_has, is_alive, signal, wait_for};
use nix::sys::signal::Signal;
use std::time::Duration;

/// Where clients find the servers.
const REMOTES: &str = "tcp:127.0.0.1:6651,tcp:127.0.0.1:6652,tcp:127.0.0.1:6653";
/// An election among three takes a few seconds, and a client that lost its server pauses before it tries again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three servers in the namespace of a host, by number: files `sN.db`, `sN.pid`, `sN.ctl`.
struct Cluster<'a>(&'a Host);

impl<'a> Cluster<'a> {
    fn new(host: &'a Host) -> Self {
        let raft = |n: u32| format!("tcp:127.0.0.1:664{n}");
        host.tool("ovsdb-tool", &format!("create-cluster s1.db /usr/share/openvswitch/vswitch.ovsschema {}", raft(1)));
        for n in [2, 3] {
            host.tool("ovsdb-tool", &format!("join-cluster s{n}.db Open_vSwitch {} {}", raft(n), raft(1)));
        }
        let cluster = Self(host);
        cluster.start();
        cluster
    }

    fn start(&self) {
        for n in 1..=3 {
            let files = format!("--pidfile=s{n}.pid --unixctl=s{n}.ctl --log-file=s{n}.log");
            self.0.tool(
                "ovsdb-server",
                &format!("--detach --no-chdir {files} -vconsole:off --remote=ptcp:665{n}:127.0.0.1 s{n}.db"),
            );
        }
        wait_for("all three are members", PATIENCE, || (1..=3).all(|n| self.status(n).contains("Status: cluster member")));
        wait_for("there is a leader", PATIENCE, || self.leader().is_some());
    }

    fn status(&self, n: u32) -> String {
        let ctl = self.0.file(&format!("s{n}.ctl"));
        self.0.try_tool("ovs-appctl", &format!("--timeout=5 -t {} cluster/status Open_vSwitch", ctl.display())).out
    }

    fn pid(&self, n: u32) -> Option<u32> {
        let text = std::fs::read_to_string(self.0.file(&format!("s{n}.pid"))).ok()?;
        text.trim().parse().ok().filter(|pid| is_alive(*pid))
    }

    fn leader(&self) -> Option<u32> {
        (1..=3).find(|n| self.pid(*n).is_some() && self.status(*n).contains("Role: leader"))
    }

    fn kill(&self, n: u32) {
        let pid = self.pid(n).expect("it runs");
        signal(pid, Signal::SIGKILL);
        wait_for("a killed server is gone", PATIENCE, || !is_alive(pid));
    }

    /// The servers that somebody is connected to.
    fn chosen(&self) -> Vec<u32> {
        let connected = |n: &u32| !self.0.ns.exec(&format!("ss -Htn state established dport = :665{n}")).trim().is_empty();
        (1..=3).filter(connected).collect()
    }

    /// Waits until the daemon, the only client that stays, is connected to the leader and to nobody else.
    fn wait_for_the_daemon(&self) {
        wait_for("the daemon is with the leader", PATIENCE, || self.leader().is_some_and(|leader| self.chosen() == [leader]));
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for pid in (1..=3).filter_map(|n| self.pid(n)) {
            signal(pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn the_switch_keeps_to_the_leader_and_forwards_without_any() {
    let host = Host::bare(Setup { db: Db::At(REMOTES), words: "" });
    let cluster = Cluster::new(&host);
    host.vsctl("--no-wait init");
    host.start_daemon();
    cluster.wait_for_the_daemon();
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");

    let first = cluster.leader().expect("a leader");
    cluster.kill(first);
    a.reaches("10.0.0.2");
    wait_for("another leads", PATIENCE, || cluster.leader().is_some_and(|n| n != first));
    cluster.wait_for_the_daemon();
    host.vsctl("add-port br0 later -- set interface later type=internal ofport_request=7");
    assert_eq!(host.column("interface", "later", "ofport"), "7");

    for n in (1..=3).filter(|n| *n != first) {
        cluster.kill(n);
    }
    a.reaches("10.0.0.2");
    assert_has(&host.ofctl("show br0"), &["7(later)"]);

    cluster.start();
    cluster.wait_for_the_daemon();
    host.vsctl("del-port br0 later");
    assert!(!host.ofctl("show br0").contains("later"));
    a.reaches("10.0.0.2");
}
