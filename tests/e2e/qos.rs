//! QoS: what `Port.qos` makes of the kernel's device, and what `ingress_policing_*` lets in.

use crate::rig::{Host, Sniffer, is_stock, udp_frame, wait_until};

/// What tc says of a device of the host.
fn tc(host: &Host, what: &str, device: &str) -> String {
    host.ns.exec(&format!("tc {what} show dev {device}"))
}

#[test]
fn htb_has_the_rates_of_its_queues_and_goes_with_its_row() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.vsctl(
        "set port p2 qos=@qos -- --id=@qos create qos type=linux-htb other-config:max-rate=3000000 queues:0=@q0 queues:5=@q5 \
         -- --id=@q0 create queue other_config:min-rate=2000000 other_config:max-rate=3000000 other_config:burst=3000000 \
         -- --id=@q5 create queue other_config:max-rate=1000000",
    );
    wait_until("the discipline is there", || tc(&host, "qdisc", "p2").contains("htb"));
    let classes = || tc(&host, "class", "p2");
    wait_until("queue 0 has its rates", || classes().contains("rate 2Mbit ceil 3Mbit burst 375000b cburst 375000b"));
    wait_until("queue 5 has its own", || classes().contains("class htb 1:6 ") && classes().contains("ceil 1Mbit"));
    a.reaches("10.0.0.2");
    host.vsctl("clear port p2 qos");
    wait_until("the discipline is gone", || !tc(&host, "qdisc", "p2").contains("htb"));
    host.vsctl("set port p2 qos=@qos -- --id=@qos create qos type=linux-hfsc other-config:max-rate=8000000");
    // Some kernels do not have it, and the interface tells that.
    let refused = || host.column("interface", "p2", "error").contains("could not set configuration");
    wait_until("another is there", || classes().contains("class hfsc 1:1 ") || !is_stock() && refused());
    a.reaches("10.0.0.2");
}

#[test]
fn what_cannot_be_done_is_told() {
    if is_stock() {
        return; // It only says so in its log.
    }
    let host = Host::new();
    let (a, _b) = host.pair("");
    let is_queued = || tc(&host, "qdisc", "p2").contains("htb");
    let is_well = || host.column("interface", "p2", "error") == "[]";
    host.vsctl("set port p2 qos=@qos -- --id=@qos create qos type=linux-htb other-config:max-rate=3000000");
    wait_until("a discipline is there", is_queued);
    let htb = host.column("port", "p2", "qos");
    let _ = host.try_tool("ovs-vsctl", "--timeout=20 set port p2 qos=@qos -- --id=@qos create qos type=linux-nonsense");
    wait_until("the type is refused", || host.column("interface", "p2", "error").contains("there is no QoS type linux-nonsense"));
    a.reaches("10.0.0.2");
    assert!(!is_queued(), "what was there before is no longer asked for");
    host.vsctl(&format!("set port p2 qos={htb}"));
    wait_until("the first one is back", || is_queued() && is_well());
    host.vsctl("clear port p2 qos");
    wait_until("nothing is left of it", || !is_queued() && is_well());
    // The local port is a tap: what is written to it has come in by it.
    let _ = host.try_tool("ovs-vsctl", "--timeout=20 set port br0 qos=@qos -- --id=@qos create qos type=linux-htb");
    wait_until("the tap is refused", || host.column("interface", "br0", "error").contains("QoS is not supported"));
}

#[test]
fn policing_lets_in_what_it_says() {
    if is_stock() {
        return; // A packet socket is given its packets before the kernel polices.
    }
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.flows("br0", "in_port=1,udp,actions=output:2\n");
    let burst = || {
        let seen = Sniffer::start(&b.ns, "eth0", "udp");
        a.ns.send_frames(
            "eth0",
            (0..500_u16).map(|i| udp_frame(1, 2, &[i.to_be_bytes().as_slice(), &[0; 180]].concat())).collect(),
        );
        std::thread::sleep(std::time::Duration::from_millis(500));
        seen.lines().len()
    };
    assert_eq!(burst(), 500, "without a limit all pass");
    // 40 kbit at once: 20 frames of 224 bytes, and a few more while they come.
    host.vsctl("set interface p1 ingress_policing_rate=100 ingress_policing_burst=40");
    let passed = burst();
    assert!((10..200).contains(&passed), "{passed} passed");
    host.vsctl("set interface p1 ingress_policing_rate=0");
    assert_eq!(burst(), 500);
}

#[test]
fn a_packet_leaves_by_the_class_of_its_queue() {
    if is_stock() {
        return; // Its packets bear no priority.
    }
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.vsctl(
        "set port p2 qos=@qos -- --id=@qos create qos type=linux-htb other-config:max-rate=1000000000 queues:5=@q5 \
         -- --id=@q5 create queue other_config:min-rate=2000000",
    );
    wait_until("the discipline is there", || tc(&host, "class", "p2").contains("class htb 1:6 "));
    host.flows(
        "br0",
        "in_port=1,udp,nw_dst=10.0.0.7,actions=set_queue:5,output:2\nin_port=1,udp,nw_dst=10.0.0.8,actions=output:2\n",
    );
    let seen = Sniffer::start(&b.ns, "eth0", "udp");
    let frames = |to: u8, n: usize| vec![udp_frame(1, to, &[0; 100]); n];
    a.ns.send_frames("eth0", [frames(7, 20), frames(8, 30), frames(7, 3)].concat());
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(seen.lines().len(), 53);
    // 14 + 20 + 8 bytes of headers and 100 of payload.
    let shown = host.appctl("qos/show p2");
    assert!(shown.starts_with("QoS: p2 linux-htb\nmax-rate: 1000000000\n\nDefault:\n  min-rate: 12000\n"), "{shown}");
    let queue5 = shown.split("Queue 5:\n").nth(1).unwrap();
    assert!(queue5.contains("  min-rate: 2000000\n") && queue5.contains("  tx_packets: 23\n  tx_bytes: 3266\n"), "{shown}");
    // The host's own packets (neighbour discovery) go by the default class as well.
    let default = shown.split("tx_packets: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<u32>().ok());
    assert!(default.is_some_and(|n| (30..40).contains(&n)), "{shown}");
    let stats = host.ofctl("queue-stats br0 2 5");
    assert!(stats.contains(" queue 5: bytes=3266, pkts=23, errors=0, duration="), "{stats}");
    assert!(host.appctl("qos/show-types p2").contains("QoS type: linux-htb\n"));
    let both = host.ofctl("queue-get-config br0 2");
    assert!(both.contains("queue 0") && both.contains("queue 5"), "{both}");
}
