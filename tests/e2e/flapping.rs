//! Routes and neighbours that flap, and tunnels and patch ports that lead packets back to where they came from: other traffic loses nothing, what is
//! concerned recovers or is dropped and counted, and nothing grows.

use crate::rig::{Container, Host, Pings, is_stock, line_with, number_after, run, wait_until};
use crate::tunnels::{kernel_vxlan, make_underlay};

/// How often a route or a neighbour changes while traffic flows.
const FLAPS: u32 = 300;
/// Resident memory that a second series of changes may take beyond the first, in KB: what its allocator keeps.
const MEMORY_KB: u64 = 8 << 10;

/// Two containers on `br-int` that reach each other by rules, and need no tunnel.
fn others(host: &Host) -> (Container, Container) {
    let c = host.attach("br-int", "p3", 3, &["10.9.0.3/24"], "");
    let d = host.attach("br-int", "p4", 4, &["10.9.0.4/24"], "");
    (c, d)
}

fn memory_kb(host: &Host) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    number_after(&status[status.find("VmRSS:").unwrap()..].replace(['\t', ' '], ""), "VmRSS:").unwrap()
}

#[test]
fn routes_and_neighbours_that_flap_concern_nobody_else() {
    let host = Host::new();
    let peer = Container::new(&host.ns, "p2", &["172.16.0.2/24", "172.16.0.3/24", "172.16.0.4/24", "192.0.2.9/32"]);
    peer.sums_for_stock();
    make_underlay(&host, 1, "p2");
    host.bridge("br-int", "");
    let a = host.attach("br-int", "p1", 1, &["10.1.0.1/24"], "");
    a.ns.ip("link set eth0 mtu 1400");
    let (c, d) = others(&host);
    host.vsctl("add-port br-int vx4 -- set interface vx4 type=vxlan options:remote_ip=192.0.2.9 options:key=77");
    kernel_vxlan(&peer.ns, "vx4", 77, ("172.16.0.1", "192.0.2.9"), "10.1.0.2/24");
    let by = |n: u32| host.ns.ip(&format!("route replace 192.0.2.0/24 via 172.16.0.{n} dev br-phy"));
    by(2);
    wait_until("the tunnel's end is reached", || a.ping("10.1.0.2", 1, "") == 1);
    c.reaches("10.9.0.4");
    let megaflows = || host.appctl("dpctl/dump-flows").lines().count();
    let before = megaflows();
    let mut memory = Vec::new();
    for what in ["route", "neighbour", "route", "neighbour"] {
        let (mut pings, within) = (Pings::start(&c, "10.9.0.4"), Pings::start(&a, "10.1.0.2"));
        let mut round = 0;
        while round < FLAPS || pings.go_on() {
            let n = 2 + round % 2;
            match (what, round % 3) {
                ("route", 0) => drop(run(host.ns.command("ip").args(["route", "del", "192.0.2.0/24"]))),
                // None of these ways is the last one, which is told from them below.
                ("route", _) => drop(by(n + 1)),
                (_, 0) => drop(host.appctl("tnl/neigh/flush")),
                (_, _) => drop(host.appctl(&format!("tnl/neigh/set br-phy 172.16.0.{n} 02:00:00:00:77:{:02x}", round % 256))),
            }
            round += 1;
        }
        assert_eq!(pings.answered(), Pings::COUNT, "{what}: traffic of other ports");
        // Some of these are lost, as they must be; the switch is not asked which.
        within.answered();
        by(2);
        let way = ["192.0.2.0/24 ", " GW 172.16.0.2 "];
        wait_until("the last route is known", || line_with(&host.appctl("ovs/route/show"), &way).is_some());
        host.appctl("tnl/neigh/flush");
        if is_stock() {
            // There a flow that found no neighbour drops for as long as packets meet it.
            host.appctl("revalidator/purge");
        }
        wait_until(&format!("{what}: the tunnel's end is reached again"), || a.ping("10.1.0.2", 1, "") == 1);
        assert_eq!(a.ping("10.1.0.2", 20, ""), 20, "{what}: through the tunnel, afterwards");
        assert_eq!(d.ping("10.9.0.3", 5, ""), 5);
        assert!(megaflows() <= 2 * before, "{before} megaflows before, {} after", megaflows());
        memory.push(memory_kb(&host));
    }
    let [_, first, _, second] = memory[..] else { panic!("{memory:?}") };
    assert!(second <= first + MEMORY_KB, "{memory:?} KB");
}

/// What the container pings, another address for each way into a ring.
const TARGETS: [&str; 3] = ["10.1.0.2", "10.1.0.3", "10.1.0.4"];

/// A host with an underlay for each of two networks, tunnels on the underlays as well as on the overlay, and a ring of three bridges. What comes in
/// by p1, the container's port, is sent by `flows`.
fn looped() -> (Host, Container, Container) {
    let host = Host::new();
    let peer = Container::new(&host.ns, "p2", &[]);
    make_underlay(&host, 1, "p2");
    host.bridge("br-2nd", "");
    host.ns.quiet("br-2nd");
    host.ns.ip("link set br-2nd up");
    host.ns.ip("addr add 172.17.0.1/24 dev br-2nd");
    host.bridge("br-int", "fail_mode=secure");
    let a = host.attach("br-int", "p1", 1, &["10.1.0.1/24"], "");
    for target in TARGETS {
        a.knows(target, "02:00:00:00:00:99");
    }
    for (bridge, name, number, remote) in [
        ("br-int", "over", 9, "172.16.0.2"),
        ("br-phy", "own", 8, "172.16.0.3"),
        ("br-phy", "other", 7, "172.17.0.2"),
        ("br-2nd", "back", 6, "172.16.0.4"),
    ] {
        let options = format!("type=vxlan ofport_request={number} options:remote_ip={remote} options:key={number}");
        host.vsctl(&format!("add-port {bridge} {name} -- set interface {name} {options}"));
        wait_until("the tunnel has its number", || host.column("interface", name, "ofport") == number.to_string());
        let device = if remote.starts_with("172.17") { "br-2nd" } else { "br-phy" };
        wait_until("the route is known", || host.appctl("ovs/route/show").contains(&format!("0/24 dev {device}")));
        host.appctl(&format!("tnl/neigh/set {device} {remote} 02:00:00:00:00:9{number}"));
    }
    for bridge in ["ra", "rb", "rc"] {
        host.bridge(bridge, "fail_mode=secure");
    }
    for (one, two, number) in [("ra", "rb", 1), ("rb", "rc", 2), ("rc", "ra", 3), ("br-int", "ra", 20)] {
        for (bridge, peer) in [(one, two), (two, one)] {
            let options = format!("type=patch ofport_request={number} options:peer={peer}-{number}");
            host.vsctl(&format!("add-port {bridge} {bridge}-{number} -- set interface {bridge}-{number} {options}"));
        }
    }
    host.flows("ra", "in_port=20,actions=output:1\nin_port=3,actions=output:1\n");
    host.flows("rb", "in_port=1,actions=output:2\n");
    host.flows("rc", "in_port=2,actions=output:3\n");
    (host, a, peer)
}

#[test]
fn tunnels_and_patch_ports_in_a_ring_drop_and_count_and_harm_nobody() {
    // Debian's daemon is caught in the two tunnels, and answers no more.
    if is_stock() {
        return;
    }
    let (host, a, _peer) = looped();
    let (c, d) = others(&host);
    let counted = || host.counted("drop_action_recursion_too_deep");
    let cases = [
        ("a tunnel whose outer packets enter the same tunnel", "output:9", "in_port=LOCAL,ip,actions=output:8\n", ""),
        ("two tunnels into each other", "output:9", "in_port=LOCAL,ip,actions=output:7\n", "in_port=LOCAL,ip,actions=output:6\n"),
        ("patch ports in a ring", "output:20", "", ""),
    ];
    for ((what, first, phy, second), target) in cases.into_iter().zip(TARGETS) {
        host.flows("br-phy", phy);
        host.flows("br-2nd", second);
        host.flows("br-int", &format!("in_port=1,actions={first}\nin_port=3,actions=output:4\nin_port=4,actions=output:3\n"));
        // The first packet comes up again, to be told of.
        host.appctl("revalidator/purge");
        c.reaches("10.9.0.4");
        let before = counted();
        let (mut pings, mut sent) = (Pings::start(&c, "10.9.0.4"), 0);
        while sent < 5 || pings.go_on() {
            assert_eq!(a.ping(target, 20, "-W 0.1"), 0, "{what}");
            sent += 1;
        }
        assert_eq!(pings.answered(), Pings::COUNT, "{what}: traffic of other ports");
        assert!(counted() >= before + 20 * sent, "{what}: {before} before, {} after {sent} times 20 packets", counted());
        let why = host.appctl("ofproto/why drop_action_recursion_too_deep");
        assert!(line_with(&why, &["in_port=1", &format!("nw_dst={target}")]).is_some(), "{what}: {why}");
        let flows = host.appctl("dpctl/dump-flows");
        assert!(flows.len() < 100_000, "{what}: {} bytes of megaflows", flows.len());
    }
    assert_eq!(d.ping("10.9.0.3", 5, ""), 5);
}
