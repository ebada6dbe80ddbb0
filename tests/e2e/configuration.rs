//! ovs-vsctl drives the switch: every change applies live, and the status columns say what became of it. With the database in the
//! daemon and in Debian's ovsdb-server.

use crate::rig::{Db, Host, Setup, assert_has, assert_lacks, is_stock, wait_until};

#[test]
fn vsctl_builds_and_takes_down_with_either_database() {
    for db in [Db::Embedded, Db::External] {
        let host = Host::with(Setup { db, words: "" });
        host.bridge("br0", "");
        host.loose_port("br0", "p1", 5);
        host.vsctl("add-port br0 in1 tag=7 -- set interface in1 type=internal");
        // ovs-vsctl returns when the daemon has done it: cur_cfg has come up to next_cfg.
        assert_eq!(host.vsctl("get open_vswitch . cur_cfg"), host.vsctl("get open_vswitch . next_cfg"));
        assert_eq!(host.vsctl("list-br"), "br0\n");
        assert_eq!(host.vsctl("list-ports br0"), "in1\np1\n");
        assert_eq!(host.vsctl("list-ifaces br0"), "in1\np1\n");
        assert_eq!(host.vsctl("port-to-br p1"), "br0\n");
        assert_has(
            &host.vsctl("show"),
            &["Bridge br0", "datapath_type: netdev", "Port p1", "Interface in1", "type: internal", "tag: 7"],
        );
        assert_eq!(host.column("interface", "p1", "ofport"), "5");
        assert_has(&host.ofctl("show br0"), &[" 5(p1): addr:"]);
        host.vsctl("del-port p1");
        assert_lacks(&host.ofctl("show br0"), &["(p1)"]);
        host.vsctl("del-br br0");
        assert_eq!(host.vsctl("list-br"), "");
        assert_lacks(&host.ns.ip("-o link"), &["br0", "in1"]);
        assert!(!host.file("br0.mgmt").exists(), "the management socket goes with its bridge");
        assert_eq!(host.vsctl("--if-exists del-br br0"), "");
        assert!(host.is_up());
    }
}

#[test]
fn status_columns_are_written_back() {
    let host = Host::new();
    let (a, b) = host.pair("");
    a.reaches("10.0.0.2");
    let of = |column: &str| host.column("interface", "p1", column);
    assert_eq!(of("ofport"), "1");
    assert_eq!(of("admin_state"), "up");
    assert_eq!(of("link_state"), "up");
    assert_eq!(of("mtu"), "1500");
    assert_eq!(of("error"), "[]");
    assert_has(&host.ns.ip("link show p1"), &[&of("mac_in_use")]);
    assert_has(&host.ns.ip("link show p1"), &[&format!("{}: p1", of("ifindex"))]);
    assert_has(&of("status"), &["driver_name=veth"]);
    wait_until("statistics are written", || {
        let text = of("statistics");
        let packets = text.split("rx_packets=").nth(1).map(|t| t.chars().take_while(char::is_ascii_digit).collect::<String>());
        packets.and_then(|p| p.parse::<u64>().ok()).is_some_and(|n| n >= 6)
    });
    assert_has(
        &of("statistics"),
        &[
            "rx_bytes=",
            "tx_packets=",
            "tx_bytes=",
            "rx_dropped=",
            "tx_errors=",
            "collisions=",
            "rx_missed_errors=",
            "rx_multicast_packets=",
        ],
    );
    // Link and administrative state are followed.
    b.ns.ip("link set eth0 down");
    wait_until("the link is down", || host.column("interface", "p2", "link_state") == "down");
    host.ns.ip("link set p1 down");
    wait_until("the port is down", || of("admin_state") == "down");
    host.ns.ip("link set p1 up");
    wait_until("the port is up", || of("admin_state") == "up" && of("link_state") == "up");
    assert!(of("link_resets").parse::<u64>().unwrap() >= 1);
    // The MAC address, too.
    host.ns.ip("link set p1 address 02:11:22:33:44:55");
    wait_until("the address is followed", || of("mac_in_use") == "02:11:22:33:44:55");
    let open = |column: &str| host.vsctl(&format!("get open_vswitch . {column}"));
    assert_has(&open("iface_types"), &["internal", "patch", "system"]);
    assert_has(&open("datapath_types"), &["netdev", "system"]);
    assert!(is_stock() || open("ovs_version").starts_with('"'), "{}", open("ovs_version"));
    assert_eq!(open("dpdk_initialized"), "false\n");
    let bridge = host.column("bridge", "br0", "datapath_id");
    assert_has(&host.ofctl("show br0"), &[&format!("dpid:{bridge}")]);
}

#[test]
fn faults_of_interfaces_are_told_and_heal() {
    let host = Host::new();
    host.bridge("br0", "");
    let ran = host.try_tool("ovs-vsctl", "--timeout=20 add-port br0 nowhere");
    assert_has(&ran.err, &["Error detected while setting up 'nowhere'"]);
    assert_eq!(host.column("interface", "nowhere", "ofport"), "-1");
    assert_has(&host.column("interface", "nowhere", "error"), &["could not open network device nowhere (No such device)"]);
    // It comes into being and is taken up, without anybody asking.
    host.ns.ip("link add nowhere type veth peer name elsewhere");
    wait_until("the device is taken up", || host.column("interface", "nowhere", "ofport") == "1");
    assert_eq!(host.column("interface", "nowhere", "error"), "[]");
    let ran = host.try_tool("ovs-vsctl", "--timeout=20 add-port br0 odd -- set interface odd type=nonsense");
    assert_has(&ran.err, &["Error detected while setting up 'odd'"]);
    assert_has(&host.column("interface", "odd", "error"), &["could not open network device odd ("]);
    let ran = host.try_tool("ovs-vsctl", "--timeout=20 add-br br1 -- set bridge br1 datapath_type=nonsense");
    assert_ne!(ran.out + &ran.err, "");
    assert!(host.is_up());
}

#[test]
fn requested_numbers_and_datapath_ids_apply_live() {
    let host = Host::new();
    host.bridge("br0", "other_config:datapath-id=0000000000000001");
    host.loose_port("br0", "p1", 10);
    assert_has(&host.ofctl("show br0"), &["dpid:0000000000000001", " 10(p1)"]);
    host.vsctl("set bridge br0 other_config:datapath-id=00000000000000ff other_config:dp-desc=here");
    wait_until("the id has changed", || host.ofctl("show br0").contains("dpid:00000000000000ff"));
    assert_has(&host.ofctl("dump-desc br0"), &["DP Description: here"]);
    assert_eq!(host.column("bridge", "br0", "datapath_id"), "00000000000000ff");
    host.vsctl("set interface p1 ofport_request=20");
    wait_until("the number has changed", || host.ofctl("show br0").contains(" 20(p1)"));
    assert_eq!(host.column("interface", "p1", "ofport"), "20");
    // A second bridge has numbers of its own.
    host.bridge("br1", "other_config:hwaddr=02:00:00:00:00:77");
    host.loose_port("br1", "p2", 10);
    assert_has(&host.ofctl("show br1"), &[" 10(p2)", "LOCAL(br1): addr:02:00:00:00:00:77", "dpid:0000020000000077"]);
    assert_has(&host.ns.ip("link show br1"), &["02:00:00:00:00:77"]);
}

#[test]
fn mac_table_size_and_ageing_apply() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.vsctl("set bridge br0 other_config:mac-table-size=10 other_config:mac-aging-time=15");
    let frames = (0..30).map(|i| crate::rig::udp_frame(100 + i, 2, b"learn")).collect();
    a.ns.send_frames("eth0", frames);
    wait_until("addresses are learned", || host.appctl("fdb/show br0").lines().count() >= 11);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(host.appctl("fdb/show br0").lines().count(), 11, "{}", host.appctl("fdb/show br0"));
}

#[test]
fn changes_of_one_port_leave_the_others_traffic_alone() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");
    let pings = {
        let mut command = a.ns.command("ping");
        command.args(["-q", "-c", "300", "-i", "0.01", "-W", "1", "10.0.0.2"]);
        std::thread::spawn(move || crate::rig::run(&mut command))
    };
    for round in 0..5 {
        host.loose_port("br0", "p9", 9);
        host.vsctl(&format!("set port p9 tag={}", 10 + round));
        host.bridge("br9", "");
        host.vsctl("del-port p9");
        host.vsctl("del-br br9");
        host.ns.ip("link del p9");
    }
    let ran = pings.join().unwrap();
    assert_has(&ran.out, &["300 packets transmitted, 300 received, 0% packet loss"]);
}

#[test]
fn the_daemon_follows_a_database_that_restarts() {
    let host = Host::with(Setup { db: Db::External, words: "" });
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");
    let pid = std::fs::read_to_string(host.file("ovsdb-server.pid")).unwrap();
    crate::rig::signal(pid.trim().parse().unwrap(), nix::sys::signal::Signal::SIGTERM);
    wait_until("ovsdb-server is gone", || !host.file("ovsdb-server.pid").exists());
    // OVS's own daemon forwards nothing meanwhile.
    if !is_stock() {
        assert_eq!(a.ping("10.0.0.2", 5, ""), 5, "traffic goes on without a database");
    }
    host.start_database();
    host.vsctl("add-port br0 in1 -- set interface in1 type=internal");
    assert_has(&host.ns.ip("-o link"), &["in1"]);
    assert_eq!(a.ping("10.0.0.2", 5, ""), 5);
}

#[test]
fn our_own_vsctl_and_ofctl_drive_the_switch_too() {
    if is_stock() {
        return; // There is nothing of ours to drive it with.
    }
    let host = Host::new();
    let ferrule = crate::rig::binary("ferrule");
    let ours = |words: &str| host.tool(ferrule.to_str().unwrap(), words);
    ours("vsctl add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure");
    host.ns.ip("link add p1 type veth peer name q1");
    ours("vsctl add-port br0 p1 -- set interface p1 ofport_request=3");
    assert_eq!(ours("vsctl list-ports br0"), "p1\n");
    assert_eq!(ours("vsctl show"), host.vsctl("show"));
    ours("ofctl add-flow br0 tcp,tp_dst=80,actions=output:3");
    assert_has(&host.ofctl("dump-flows br0"), &["tcp,tp_dst=80 actions=output:3"]);
    assert_has(&ours("ofctl dump-flows br0"), &["tcp,tp_dst=80 actions=output:3"]);
    assert_eq!(ours("appctl ofproto/list"), host.appctl("ofproto/list"));
    assert_has(&ours("dpctl show"), &["port 1: br0", "port 2: p1"]);
    ours("vsctl del-br br0");
    assert_eq!(host.vsctl("list-br"), "");
}
