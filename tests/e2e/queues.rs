//! Receive queues and workers: placement while traffic flows, several queues, large frames over AF_XDP.

use crate::rig::{Host, Sniffer, assert_has, is_stock, udp_frame, wait_until};

/// Which core polls which queue, as `PORT.QUEUE@CORE`.
fn places(host: &Host) -> Vec<String> {
    let text = host.appctl("dpif-netdev/pmd-rxq-show");
    let (mut core, mut places) = (String::new(), Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["pmd", "thread", .., id] => core = id.trim_end_matches(':').to_owned(),
            ["port:", name, "queue-id:", number, ..] => places.push(format!("{name}.{number}@{core}")),
            _ => {}
        }
    }
    places.sort();
    places
}

#[test]
fn queues_move_between_workers_under_traffic() {
    if is_stock() {
        return; // There system ports are the main thread's.
    }
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.vsctl("set interface p1 options:n_rxq=2");
    a.reaches("10.0.0.2");
    let mut command = a.ns.command("ping");
    command.args(["-q", "-c", "300", "-i", "0.005", "-W", "1", "10.0.0.2"]);
    let pings = std::thread::spawn(move || crate::rig::run(&mut command));
    host.vsctl("set Open_vSwitch . other_config:pmd-cpu-mask=3 other_config:pmd-rxq-assign=roundrobin");
    let spread = places(&host);
    assert!(spread.iter().any(|p| p.ends_with("@0")) && spread.iter().any(|p| p.ends_with("@1")), "{spread:?}");
    host.vsctl("set interface p1 other_config:pmd-rxq-affinity=0:1,1:1");
    let pinned = places(&host);
    assert!(pinned.contains(&"p1.0@1".to_owned()) && pinned.contains(&"p1.1@1".to_owned()), "{pinned:?}");
    assert!(pinned.contains(&"p2.0@0".to_owned()), "an isolated core takes no other port's queue: {pinned:?}");
    host.vsctl("set Open_vSwitch . other_config:pmd-cpu-mask=1");
    assert!(places(&host).iter().all(|p| p.ends_with("@0")));
    let ran = pings.join().unwrap();
    assert_has(&ran.out, &[" 0% packet loss"]);
    let stats = host.appctl("dpif-netdev/pmd-stats-show");
    assert!(!stats.contains("packets received: 0\n"), "{stats}");
}

/// A device with four receive queues takes the place of one with one: each queue is served, on both cores, and what the option says is done.
#[test]
fn queues_of_a_device_are_served_over_af_xdp() {
    const SOURCE_PORT: std::ops::Range<usize> = 34..36;
    if is_stock() {
        return;
    }
    let host = Host::new();
    let (a, b) = host.pair("");
    host.vsctl("set Open_vSwitch . other_config:pmd-cpu-mask=3 other_config:pmd-rxq-assign=roundrobin");
    host.vsctl("set interface p1 options:io=af_xdp options:xdp-mode=native");
    host.ns.ip("link del p1");
    let peer = format!("peer name eth0 address {} numrxqueues 4 numtxqueues 2 netns {}", a.mac, a.ns.name);
    host.ns.ip(&format!("link add p1 numrxqueues 4 numtxqueues 4 type veth {peer}"));
    for (ns, device) in [(&host.ns, "p1"), (&a.ns, "eth0")] {
        ns.quiet(device);
        ns.ip(&format!("link set {device} up"));
    }
    a.ns.ip("addr add 10.0.0.1/24 dev eth0");
    let queues = || places(&host).into_iter().filter(|place| place.starts_with("p1.")).collect::<Vec<_>>();
    wait_until("the new device's queues are polled", || queues().len() == 4);
    let cores = |core| queues().iter().filter(|place| place.ends_with(core)).count();
    assert_eq!((cores("@0"), cores("@1")), (2, 2), "{:?}", queues());
    wait_until("the new device forwards", || a.ping("10.0.0.2", 1, "") == 1);
    wait_until("the mode is told", || host.column("interface", "p1", "status").contains("xdp-mode=native"));
    let sniffer = Sniffer::start(&b.ns, "eth0", "udp");
    let frame = |port: u16| {
        let mut frame = udp_frame(1, 2, b"queues");
        frame[SOURCE_PORT].copy_from_slice(&port.to_be_bytes());
        frame
    };
    assert_eq!(a.ns.send_frames("eth0", (1000..1064).map(frame).collect()), 64);
    wait_until("the packets of all flows arrive", || sniffer.lines().len() == 64);
    host.vsctl("set interface p1 options:n_rxq=2");
    assert_eq!(queues().len(), 2, "{:?}", queues());
    a.reaches("10.0.0.2");
    let _ = host.try_tool("ovs-vsctl", "--timeout=20 set interface p1 options:n_rxq=5");
    wait_until("the refusal is told", || host.column("interface", "p1", "error").contains("n_rxq"));
    a.reaches("10.0.0.2");
    host.vsctl("set interface p1 options:n_rxq=4 other_config:pmd-rxq-affinity=0:1,1:1,2:1,3:1");
    assert_eq!((cores("@0"), cores("@1")), (0, 4), "{:?}", queues());
    a.reaches("10.0.0.2");
    host.vsctl("del-port p1");
    assert_eq!(queues(), Vec::<String>::new());
}

#[test]
fn large_frames_pass_over_af_xdp() {
    if is_stock() {
        return; // The option is ours.
    }
    let host = Host::new();
    let (a, b) = host.pair("");
    for (device, ns) in [("p1", &a.ns), ("p2", &b.ns)] {
        ns.ip("link set eth0 mtu 9000");
        host.ns.ip(&format!("link set {device} mtu 9000"));
    }
    host.vsctl("set interface p1 options:io=af_xdp -- set interface p2 options:io=af_xdp");
    assert_eq!((host.column("interface", "p1", "error"), host.column("interface", "p2", "error")), ("[]".into(), "[]".into()));
    a.reaches("10.0.0.2");
    for size in ["1700", "1764", "1800", "3600", "8900"] {
        assert_eq!(a.ping("10.0.0.2", 3, &format!("-s {size}")), 3, "{size} bytes");
        assert_eq!(b.ping("10.0.0.1", 3, &format!("-s {size}")), 3, "{size} bytes");
    }
    a.ns.ip("link set eth0 mtu 1500");
    wait_until("small frames pass still", || a.ping("10.0.0.2", 1, "") == 1);
}

#[test]
fn an_mtu_that_af_xdp_cannot_carry_is_refused() {
    if is_stock() {
        return;
    }
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.ns.ip("link set p1 mtu 40000");
    let _ = host.try_tool("ovs-vsctl", "--timeout=20 set interface p1 options:io=af_xdp");
    wait_until("the refusal is told", || host.column("interface", "p1", "error").contains("MTU above 30442"));
    host.vsctl("remove interface p1 options io");
    wait_until("the port works again", || a.ping("10.0.0.2", 1, "") == 1);
}
