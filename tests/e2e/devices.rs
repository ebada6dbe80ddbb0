//! Devices that vanish and come back, ports that come and go under traffic, devices that are busy or odd.

use crate::rig::{Host, Namespace, assert_has, is_stock, must, udp_frame, wait_until};
use std::process::Command;

#[test]
fn a_device_that_vanished_is_taken_up_again() {
    let host = Host::new();
    let (a, b) = host.pair("");
    a.reaches("10.0.0.2");
    for round in 0..3 {
        host.ns.ip("link del p2");
        a.does_not_reach("10.0.0.2");
        let (host_ns, name) = (&host.ns.name, &b.ns.name);
        must(Command::new("ip").args([
            "-n", host_ns, "link", "add", "p2", "type", "veth", "peer", "name", "eth0", "address", &b.mac, "netns", name,
        ]));
        host.ns.ip("link set p2 up");
        b.ns.ip("link set eth0 up");
        b.ns.ip("addr add 10.0.0.2/24 dev eth0");
        wait_until("the device is taken up", || a.ping("10.0.0.2", 1, "") == 1);
        assert_eq!(host.column("interface", "p2", "ofport"), "2", "round {round}");
        assert_eq!(host.column("interface", "p2", "error"), "[]");
        a.reaches("10.0.0.2");
    }
}

/// As OpenStack's agents plug their ports, and everybody who gives a container an internal one.
#[test]
fn an_internal_port_is_moved_into_a_container_and_back() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    let container = Namespace::new("moved");
    let plug = "add-port br0 i1 -- set interface i1 type=internal ofport_request=5";
    host.vsctl(plug);
    assert_has(&host.column("interface", "i1", "statistics"), &["rx_packets", "tx_packets"]);
    let into_the_container = || {
        host.ns.ip(&format!("link set i1 netns {}", container.name));
        container.ip("link set i1 name eth0 mtu 1400");
        container.ip("addr add 10.0.0.5/24 dev eth0");
        container.ip("link set eth0 up");
    };
    into_the_container();
    a.reaches("10.0.0.5");
    let column = |name: &str| host.column("interface", "i1", name);
    let followed = || column("admin_state") == "up" && column("mtu") == "1400" && column("ifindex") == "0";
    wait_until("its state is followed there", followed);
    assert_eq!((column("ofport"), column("error")), ("5".into(), "[]".into()));
    wait_until("it is counted", || !column("statistics").contains("tx_packets=0"));
    // A change of the bridge leaves to the container what is its own.
    host.vsctl("set interface i1 mtu_request=1300");
    host.loose_port("br0", "p6", 6);
    a.reaches("10.0.0.5");
    assert_has(&container.ip("link show eth0"), &["mtu 1400"]);
    host.vsctl("clear interface i1 mtu_request");
    container.ip("link set eth0 down");
    wait_until("it is down", || column("admin_state") == "down");
    // Home again, and from there into the container once more: the port is the same all the time.
    container.ip("link set eth0 name i1");
    must(Command::new("ip").args(["netns", "exec", &container.name, "ip", "link", "set", "i1", "netns", &host.ns.name]));
    wait_until("it is home", || column("ifindex") != "0");
    into_the_container();
    a.reaches("10.0.0.5");
    assert!(!host.log().contains("vanished"));
    // What a daemon that is killed leaves in a container is nothing, and the next one begins anew.
    host.kill_daemon();
    wait_until("it has ended with its daemon", || !container.ip("-o link").contains("eth0"));
    host.start_daemon();
    wait_until("it is made anew", || host.ns.ip("-o link").contains("i1"));
    wait_until("it is the port's", || host.ns.ip("-o link show i1").starts_with(&format!("{}:", column("ifindex"))));
    into_the_container();
    // It has another MAC.
    a.ns.ip("neigh flush dev eth0");
    a.reaches("10.0.0.5");
    // With its container it goes for good, and comes back outside.
    drop(container);
    wait_until("it is made anew", || host.ns.ip("-o link").contains("i1"));
    assert_eq!(host.column("interface", "i1", "ofport"), "5");
}

#[test]
fn a_vanished_device_leaves_other_ports_traffic_alone() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.loose_port("br0", "p5", 5);
    a.reaches("10.0.0.2");
    let mut command = a.ns.command("ping");
    command.args(["-q", "-c", "200", "-i", "0.01", "-W", "1", "10.0.0.2"]);
    let pings = std::thread::spawn(move || crate::rig::run(&mut command));
    for _ in 0..4 {
        host.ns.ip("link del p5");
        std::thread::sleep(std::time::Duration::from_millis(200));
        host.ns.ip("link add p5 type veth peer name xp5");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let ran = pings.join().unwrap();
    assert_has(&ran.out, &[" 0% packet loss"]);
    assert!(host.is_up());
}

#[test]
fn containers_that_die_take_nothing_with_them() {
    let host = Host::new();
    let (a, b) = host.pair("");
    a.reaches("10.0.0.2");
    drop(b);
    wait_until("the device is gone", || !host.ns.ip("-o link").contains("p2"));
    let c = host.attach("br0", "p3", 3, &["10.0.0.3/24"], "");
    a.reaches("10.0.0.3");
    host.vsctl("del-port p2");
    c.reaches("10.0.0.1");
    assert!(host.is_up());
}

#[test]
fn many_ports_come_and_go() {
    let host = Host::new();
    host.bridge("br0", "");
    let count = 40;
    let mut words = String::new();
    for i in 0..count {
        host.ns.ip(&format!("link add m{i} type veth peer name n{i}"));
        words.push_str(&format!(" -- add-port br0 m{i}"));
    }
    host.vsctl(words.trim_start_matches(" -- "));
    assert_eq!(host.ofctl("show br0").matches("(m").count(), count);
    let words: String = (0..count).map(|i| format!(" -- del-port m{i}")).collect();
    host.vsctl(words.trim_start_matches(" -- "));
    assert_eq!(host.ofctl("show br0").matches("(m").count(), 0);
    // The daemon holds on to nothing of them.
    let fds = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count();
    assert!(is_stock() || fds < 100, "{fds} descriptors are open");
}

#[test]
fn admin_state_stops_and_restarts_traffic() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");
    host.ofctl("mod-port br0 p2 down");
    a.does_not_reach("10.0.0.2");
    host.ofctl("mod-port br0 p2 up");
    wait_until("traffic flows again", || a.ping("10.0.0.2", 1, "") == 1);
    host.ofctl("mod-port br0 p2 no-forward");
    a.does_not_reach("10.0.0.2");
    host.ofctl("mod-port br0 p2 forward");
    a.reaches("10.0.0.2");
    host.ofctl("mod-port br0 p1 no-receive");
    a.does_not_reach("10.0.0.2");
    host.ofctl("mod-port br0 p1 receive");
    a.reaches("10.0.0.2");
}

#[test]
fn io_changes_live_and_nonsense_is_refused() {
    if is_stock() {
        return; // The option is ours.
    }
    let host = Host::new();
    let (a, _b) = host.pair("");
    for io in ["af_packet", "af_xdp", "af_packet"] {
        host.vsctl(&format!("set interface p1 options:io={io}"));
        assert_eq!(host.column("interface", "p1", "error"), "[]");
        a.reaches("10.0.0.2");
    }
    let ran = host.try_tool("ovs-vsctl", "--timeout=20 set interface p1 options:io=carrier-pigeon");
    assert!(host.is_up(), "{ran:?}");
    wait_until("the fault is told", || host.column("interface", "p1", "error").contains("carrier-pigeon"));
    host.vsctl("remove interface p1 options io");
    wait_until("the port works again", || a.ping("10.0.0.2", 1, "") == 1);
    assert_eq!(host.column("interface", "p1", "error"), "[]");
}

#[test]
fn odd_frames_harm_nobody() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.flows("br0", "priority=100,tcp,tp_dst=80,actions=output:2\npriority=0,actions=NORMAL\n");
    let mut frames = Vec::new();
    let whole = udp_frame(1, 2, b"whole");
    // Truncated anywhere, with any length in the header, and any protocol.
    for length in 14..whole.len() {
        frames.push(whole[..length].to_vec());
    }
    for protocol in [0, 1, 2, 6, 17, 41, 44, 47, 50, 58, 132, 255] {
        for length in [14, 15, 20, 33, 34, 35, 37, 38, 41, 46] {
            let mut frame = whole.clone();
            frame[23] = protocol;
            frame.truncate(length);
            frames.push(frame);
        }
    }
    for kind in [0x0806_u16, 0x8035, 0x86dd, 0x8847, 0x8848, 0x8100, 0x88a8, 0x894f, 0x6558, 0x05dc, 0x0000] {
        for length in 14..60 {
            let mut frame = vec![0xff; length];
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            frames.push(frame);
        }
    }
    a.ns.send_frames("eth0", frames);
    assert!(host.is_up());
    a.reaches("10.0.0.2");
    b.reaches("10.0.0.1");
    assert_eq!(host.packets("br0", &["tcp,tp_dst=80"]), 0, "a truncated frame matches no port");
    crate::rig::assert_lacks(&host.log(), &["panicked"]);
}
