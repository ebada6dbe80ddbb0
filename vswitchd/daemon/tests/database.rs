//! Configuration through the database, with OVS's own ovsdb-server, ovs-vsctl and ovs-appctl: bridges and ports come and go, what came of
//! them is written back, one daemon at a time holds the lock, and the embedded server keeps what was committed.

#![allow(clippy::unwrap_used, reason = "in a test, to panic is to speak")]

mod common;

use common::{Sandbox, alive, signal, wait_until};

const DUMMY: &str = "--enable-dummy --disable-system --disable-system-route -vconsole:off";

/// A daemon beside OVS's ovsdb-server, with bridge br0 on the dummy datapath.
fn with_bridge() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.start_ovsdb();
    sandbox.vsctl("--no-wait init");
    sandbox.start(DUMMY);
    sandbox.vsctl("add-br br0 -- set bridge br0 datapath_type=dummy other_config:hwaddr=aa:55:aa:55:00:00 other_config:datapath-id=fedcba9876543210");
    sandbox
}

#[test]
fn ports_come_and_go_and_status_is_written_back() {
    let sandbox = with_bridge();
    sandbox.vsctl("add-port br0 p1 -- set interface p1 type=dummy ofport_request=7");
    assert_eq!(sandbox.vsctl("get interface p1 ofport admin_state link_state mtu error"), "7\nup\nup\n1500\n[]\n");
    assert_eq!(sandbox.vsctl("get interface br0 ofport mac_in_use"), "65534\n\"aa:55:aa:55:00:00\"\n");
    assert_eq!(sandbox.vsctl("get bridge br0 datapath_id datapath_version"), "fedcba9876543210\n\"<built-in>\"\n");
    assert_eq!(sandbox.vsctl("get open . cur_cfg next_cfg datapath_types"), "2\n2\n[dummy, netdev]\n");
    let shown = "dummy@ovs-dummy: hit:0 missed:0\n  br0:\n    br0 65534/100: (dummy-internal)\n    p1 7/1: (dummy)\n";
    assert_eq!(sandbox.appctl(&["dpif/show"]).unwrap(), shown);
    sandbox.vsctl("del-port p1");
    assert!(!sandbox.appctl(&["dpif/show"]).unwrap().contains("p1"));
    sandbox.vsctl("del-br br0");
    assert_eq!(sandbox.appctl(&["dpif/show"]).unwrap(), "");
    assert!(!sandbox.log().contains("|WARN|") && !sandbox.log().contains("|ERR|"), "{}", sandbox.log());
}

#[test]
fn a_bad_port_is_told_and_the_others_work() {
    let sandbox = with_bridge();
    let mut command = sandbox.command("ovs-vsctl");
    command.args(
        "add-port br0 bad -- set interface bad type=nosuchtype -- add-port br0 p1 -- set interface p1 type=dummy".split(' '),
    );
    let (code, _, err) = sandbox.run(command);
    assert_eq!(code, 0);
    assert!(err.contains("ovs-vsctl: Error detected while setting up 'bad'"), "{err}");
    assert_eq!(sandbox.vsctl("get interface bad ofport"), "-1\n");
    assert_ne!(sandbox.vsctl("get interface bad error"), "[]\n");
    assert_eq!(sandbox.vsctl("get interface p1 ofport error"), "1\n[]\n");
}

#[test]
fn statistics_follow_warped_time() {
    let sandbox = with_bridge();
    sandbox.vsctl("add-port br0 p1 -- set interface p1 type=dummy");
    sandbox.appctl(&["time/stop"]).unwrap();
    sandbox.appctl(&["time/warp", "11000", "1000"]).unwrap();
    assert_eq!(sandbox.vsctl("get interface p1 statistics:rx_packets"), "0\n");
    let packet = "eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x0800),ipv4(src=10.0.0.2,dst=10.0.0.1,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)";
    assert_eq!(sandbox.appctl(&["netdev-dummy/receive", "p1", packet]).unwrap(), "");
    assert_eq!(sandbox.vsctl("get interface p1 statistics:rx_packets"), "0\n");
    sandbox.appctl(&["time/warp", "11000", "1000"]).unwrap();
    assert_eq!(sandbox.vsctl("get interface p1 statistics:rx_packets"), "1\n");
}

#[test]
fn an_empty_database_does_not_keep_the_daemon_from_detaching() {
    let sandbox = Sandbox::new();
    sandbox.start_ovsdb();
    let pid = sandbox.start(DUMMY);
    sandbox.appctl(&["exit"]).unwrap();
    wait_until("the daemon ends", || !alive(pid));
}

#[test]
fn a_second_daemon_waits_for_the_lock_and_takes_over() {
    let sandbox = with_bridge();
    let first = sandbox.pid().unwrap();
    let words = format!("{DUMMY} --log-file=second.log --unixctl=ctl2 --pidfile=second.pid");
    let mut second = sandbox.spawn(sandbox.daemon(&words));
    let log = || std::fs::read_to_string(sandbox.file("second.log")).unwrap_or_default();
    let complaint = format!(
        "|bridge|ERR|another ovs-vswitchd process is running, disabling this process (pid {}) until it goes away\n",
        second.0.id()
    );
    wait_until("the complaint", || log().contains(&complaint));
    signal(first, "TERM");
    wait_until("the first ends", || !alive(first));
    wait_until("the second takes over", || log().contains("bridge br0: added interface br0 on port 65534"));
    let target = sandbox.file("ctl2").display().to_string();
    assert!(sandbox.appctl(&["--target", &target, "dpif/show"]).unwrap().contains("br0 65534/100: (dummy-internal)"));
    assert_eq!(log().matches("|ERR|").count(), 1, "{}", log());
    sandbox.appctl(&["--target", &target, "exit"]).unwrap();
    assert!(second.0.wait().unwrap().success());
}

#[test]
fn the_embedded_database_survives_kill_9() {
    let sandbox = Sandbox::new();
    let words = format!("{DUMMY} --embedded-db=own.db");
    let pid = sandbox.start(&words);
    sandbox.vsctl("add-br br0 -- set bridge br0 datapath_type=dummy");
    sandbox.vsctl("add-port br0 p1 -- set interface p1 type=dummy");
    assert_eq!(sandbox.vsctl("get open . ovs_version"), "\"3.7.1\"\n");
    signal(pid, "KILL");
    wait_until("it is dead", || !alive(pid));
    sandbox.start(&words);
    wait_until("the bridge is back", || sandbox.appctl(&["dpif/show"]).is_ok_and(|t| t.contains("p1 1/1: (dummy)")));
    assert_eq!(sandbox.vsctl("list-ports br0"), "p1\n");
}

#[test]
fn a_lost_database_comes_back() {
    let sandbox = with_bridge();
    sandbox.tool("ovs-appctl", "-t ovsdb-server exit");
    assert!(sandbox.appctl(&["dpif/show"]).unwrap().contains("br0"), "bridges stay while the database is away");
    let words = format!(
        "--detach --no-chdir --pidfile --log-file -vconsole:off --remote=punix:{}/db.sock conf.db",
        sandbox.path().display()
    );
    sandbox.tool("ovsdb-server", &words);
    sandbox.vsctl("add-port br0 p5 -- set interface p5 type=dummy");
    assert!(sandbox.appctl(&["dpif/show"]).unwrap().contains("p5 1/5: (dummy)"));
}

/// Relative names of sockets are seen from the run folder, wherever a program was started: the database's and a controller's, as OVS's server sees its own.
#[test]
fn relative_sockets_lie_in_the_run_folder() {
    let sandbox = Sandbox::new();
    sandbox.tool("ovsdb-tool", "create conf.db /usr/share/openvswitch/vswitch.ovsschema");
    sandbox.tool("ovsdb-server", "--detach --no-chdir --pidfile --log-file -vconsole:off --remote=punix:own.sock conf.db");
    // Detached, it stands in the root folder.
    let (code, _, err) = sandbox.run(sandbox.daemon(&format!("{DUMMY} --detach --pidfile --log-file unix:own.sock")));
    assert_eq!(code, 0, "{err}");
    let listener = std::os::unix::net::UnixListener::bind(sandbox.file("own.controller")).unwrap();
    listener.set_nonblocking(true).unwrap();
    sandbox.vsctl("--db=unix:own.sock add-br br0 -- set bridge br0 datapath_type=dummy -- set-controller br0 unix:own.controller punix:br0.own");
    wait_until("the controller is called", || listener.accept().is_ok());
    wait_until("the bridge listens", || sandbox.file("br0.own").exists());
}

/// The same of the embedded server.
#[test]
fn a_manager_s_relative_socket_lies_in_the_run_folder() {
    let sandbox = Sandbox::new();
    let (code, _, err) = sandbox.run(sandbox.daemon(&format!("{DUMMY} --detach --pidfile --log-file --embedded-db=own.db")));
    assert_eq!(code, 0, "{err}");
    sandbox.vsctl("set-manager punix:second.sock");
    wait_until("it listens", || sandbox.file("second.sock").exists());
    assert_eq!(sandbox.vsctl("--db=unix:second.sock get-manager"), "punix:second.sock\n");
    sandbox.vsctl("del-manager");
    wait_until("its socket is gone", || !sandbox.file("second.sock").exists());
}
