//! OVN, unmodified, as Debian has it: northd and its two databases (served by `ferrule ovsdb-server`), an ovn-controller for each of two
//! switches, geneve between them. A logical switch and a router carry packets of containers; what OVN answers by itself (ARP, errors
//! of ICMP, refusals of an ACL) goes by packet-ins with userdata and by packet-outs.

use crate::rig::ovn::{Central, Chassis, ask, serve};
use crate::rig::{Container, Host, assert_has, run, wait_for, wait_until};
use std::time::Duration;

/// A program that lost its database or its switch tries again after 1, 2, 4 and 8 seconds.
const RECONNECTED: Duration = Duration::from_secs(30);

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
        central.switch("sw0", "10.0.0.254/24");
        central.switch("sw1", "172.31.0.254/24");
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
