//! Routes and neighbours that flap, and tunnels and patch ports that lead packets back to where they came from: other traffic loses nothing, what is
//! concerned recovers or is dropped and counted, and nothing grows.

use crate::rig::{Container, Host, number_after, run, wait_until};
use crate::tunnels::{kernel_vxlan, make_underlay};
use std::process::{Child, Stdio};

/// How often a route or a neighbour changes while traffic flows.
const FLAPS: u32 = 300;
/// Pings of the traffic that has nothing to do with it.
const OTHERS: u64 = 600;
/// Resident memory that a second series of changes may take beyond the first, in KB: what its allocator keeps.
const MEMORY_KB: u64 = 8 << 10;

/// Pings that go on while something else happens.
struct Pings(Child);

impl Pings {
    fn start(from: &Container, target: &str) -> Self {
        let mut command = from.ns.command("ping");
        command.args(["-q", "-c", &OTHERS.to_string(), "-i", "0.005", "-W", "2", target]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn go_on(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn answered(self) -> u64 {
        let out = self.0.wait_with_output().unwrap();
        number_after(&String::from_utf8_lossy(&out.stdout), "transmitted, ").unwrap()
    }
}

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
    let peer = Container::new(&host.ns, "p2", &["172.16.0.2/24", "172.16.0.3/24", "192.0.2.9/32"]);
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
        let (mut pings, mut within) = (Pings::start(&c, "10.9.0.4"), Pings::start(&a, "10.1.0.2"));
        let mut round = 0;
        while round < FLAPS || pings.go_on() {
            let n = 2 + round % 2;
            match (what, round % 3) {
                ("route", 0) => drop(run(host.ns.command("ip").args(["route", "del", "192.0.2.0/24"]))),
                ("route", _) => drop(by(n)),
                (_, 0) => drop(host.appctl("tnl/neigh/flush")),
                (_, _) => drop(host.appctl(&format!("tnl/neigh/set br-phy 172.16.0.{n} 02:00:00:00:77:{:02x}", round % 256))),
            }
            round += 1;
        }
        assert_eq!(pings.answered(), OTHERS, "{what}: traffic of other ports");
        // Some of these are lost, as they must be; the switch is not asked which.
        within.go_on();
        within.answered();
        by(2);
        host.appctl("tnl/neigh/flush");
        wait_until("the tunnel's end is reached again", || a.ping("10.1.0.2", 1, "") == 1);
        assert_eq!(a.ping("10.1.0.2", 20, ""), 20, "{what}: through the tunnel, afterwards");
        assert_eq!(d.ping("10.9.0.3", 5, ""), 5);
        assert!(megaflows() <= 2 * before, "{before} megaflows before, {} after", megaflows());
        memory.push(memory_kb(&host));
    }
    let [_, first, _, second] = memory[..] else { panic!("{memory:?}") };
    assert!(second <= first + MEMORY_KB, "{memory:?} KB");
}

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
    a.knows("10.1.0.2", "02:00:00:00:00:99");
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
    let (host, a, _peer) = looped();
    let (c, d) = others(&host);
    let counted = || {
        let text = host.appctl("coverage/show");
        text.lines()
            .find(|l| l.starts_with("drop_action_recursion_too_deep"))
            .and_then(|l| number_after(l, "total: "))
            .unwrap_or(0)
    };
    for (what, first, phy, second) in [
        ("a tunnel whose outer packets enter the same tunnel", "output:9", "in_port=LOCAL,ip,actions=output:8\n", ""),
        ("two tunnels into each other", "output:9", "in_port=LOCAL,ip,actions=output:7\n", "in_port=LOCAL,ip,actions=output:6\n"),
        ("patch ports in a ring", "output:20", "", ""),
    ] {
        host.flows("br-phy", phy);
        host.flows("br-2nd", second);
        host.flows("br-int", &format!("in_port=1,actions={first}\nin_port=3,actions=output:4\nin_port=4,actions=output:3\n"));
        c.reaches("10.9.0.4");
        let before = counted();
        let (mut pings, mut sent) = (Pings::start(&c, "10.9.0.4"), 0);
        while sent < 5 || pings.go_on() {
            assert_eq!(a.ping("10.1.0.2", 20, "-W 0.1"), 0, "{what}");
            sent += 1;
        }
        assert_eq!(pings.answered(), OTHERS, "{what}: traffic of other ports");
        assert!(counted() >= before + 20 * sent, "{what}: {before} before, {} after {sent} times 20 packets", counted());
        assert!(host.appctl("ofproto/why drop_action_recursion_too_deep").contains("in_port=1"), "{what}");
        let flows = host.appctl("dpctl/dump-flows");
        assert!(flows.len() < 100_000, "{what}: {} bytes of megaflows", flows.len());
    }
    assert_eq!(d.ping("10.9.0.3", 5, ""), 5);
}
