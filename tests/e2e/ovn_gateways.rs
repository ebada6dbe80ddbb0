//! OVN's routers that lead outside: translated addresses, routes that answer where they were asked, packets that are too large, and two
//! gateways that watch each other by BFD.

use crate::rig::ovn::{Central, Chassis, ask, serve};
use crate::rig::{Container, Host, Sniffer, assert_has, run, wait_for, wait_until};
use std::time::Duration;

/// A controller that lost its switch tries again after 1, 2, 4 and 8 seconds.
const TAKEN_OVER: Duration = Duration::from_secs(20);

#[test]
fn ovn_translates_and_routes_to_the_outside() {
    let central = Central::new();
    let chassis = Chassis::alone(&central);
    chassis.bridge_out();
    let [out, other] = [7, 8].map(|n| chassis.outside(&format!("e{n}"), &format!("172.31.0.{n} fd31::{n}")));
    central.nb("lr-add lr0");
    central.switch("sw0", "10.0.0.254/24 fd00::fe/64");
    central.switch("sw1", "172.31.0.254/24 fd31::fe/64");
    central.localnet("sw1");
    let [a, b, c] = [1, 2, 3].map(|n| chassis.container(&central, "sw0", &format!("p{n}"), &format!("10.0.0.{n} fd00::{n}")));
    central.nb(
        "lrp-set-gateway-chassis lr0-sw1 ch1 10 -- lr-nat-add lr0 snat 172.31.0.250 10.0.0.0/24 -- set logical_router_port lr0-sw1 \
         options:gateway_mtu=1000 -- lr-nat-add lr0 dnat_and_snat 172.31.0.102 10.0.0.2 p2 02:00:00:00:0f:02 \
         -- --stateless lr-nat-add lr0 dnat_and_snat 172.31.0.103 10.0.0.3",
    );
    central.sync();
    let _servers = [
        serve(&out.ns, 80, "from $SOCAT_PEERADDR"),
        serve(&b.ns, 80, "two from $SOCAT_PEERADDR"),
        serve(&c.ns, 80, "three from $SOCAT_PEERADDR"),
    ];
    wait_until("the outside answers", || a.ping("172.31.0.7", 1, "") == 1);
    assert_has(&ask(&a, "172.31.0.7", 80), &["from 172.31.0.250"]);
    let caught = Sniffer::start(&out.ns, "eth0", "tcp port 80");
    assert_has(&ask(&b, "172.31.0.7", 80), &["from 172.31.0.102"]);
    caught.expect(&["02:00:00:00:0f:02 > 02:00:00:00:00:07"]);
    assert_has(&ask(&out, "172.31.0.102", 80), &["two from 172.31.0.7"]);
    assert_has(&ask(&out, "172.31.0.103", 80), &["three from 172.31.0.7"]);
    assert_has(&ask(&c, "172.31.0.7", 80), &["from 172.31.0.103"]);
    assert_has(&ask(&a, "172.31.0.102", 80), &["two from"]);
    // What does not fit the gateway is told, both ways.
    let large = |from: &Container, to: &str| run(from.ns.command("ping").args(["-c2", "-W2", "-s1200", "-Mdo", to])).out;
    assert_has(&large(&a, "172.31.0.7"), &["mtu = 1000"]);
    assert_has(&large(&out, "172.31.0.102"), &["mtu = 1000"]);
    assert_has(&large(&a, "fd31::7"), &["Packet too big: mtu=1000"]);
    assert_eq!(a.ping("172.31.0.7", 1, "-s 900 -M do"), 1);
    // Policies before routes, then equal routes.
    for router in [&out, &other] {
        router.ns.ip("addr add 50.0.0.1/32 dev lo");
    }
    let _other = serve(&other.ns, 80, "other");
    central.nb("lr-route-add lr0 50.0.0.0/24 172.31.0.7 -- lr-policy-add lr0 100 ip4.src==10.0.0.3 reroute 172.31.0.8");
    central.sync();
    assert_has(&ask(&a, "50.0.0.1", 80), &["from 172.31.0.250"]);
    assert_has(&ask(&c, "50.0.0.1", 80), &["other"]);
    central.nb("lr-policy-del lr0 -- --ecmp lr-route-add lr0 50.0.0.0/24 172.31.0.8");
    central.sync();
    let said: String = (0..24).map(|_| ask(&a, "50.0.0.1", 80)).collect();
    assert_has(&said, &["from", "other"]);
    // A neighbour that tells of itself is learned, with another MAC as well.
    out.ns.ip("link set eth0 address 02:00:00:00:00:17");
    out.ns.exec("arping -c1 -A -I eth0 172.31.0.7");
    wait_until("the neighbour is learned", || central.sb("list mac_binding").contains("02:00:00:00:00:17"));
    a.reaches("172.31.0.7");
}

#[test]
fn ovn_gateways_change_places() {
    let central = Central::new();
    let (one, two) = (Host::new(), Host::new());
    for (device, peer) in [("up1", "up2"), ("out1", "out2")] {
        one.ns.ip(&format!("link add {device} type veth peer name {peer} netns {}", two.ns.name));
    }
    let one = Chassis::new(one, 1, "up1", &central);
    let two = Chassis::new(two, 2, "up2", &central);
    for (chassis, device) in [(&one, "out1"), (&two, "out2")] {
        chassis.bridge_out();
        chassis.host.ns.quiet(device);
        chassis.host.ns.ip(&format!("link set {device} up"));
        chassis.host.vsctl(&format!("add-port br-ext {device}"));
    }
    let outside = one.outside("e7", "172.31.0.7");
    central.nb("lr-add lr0");
    central.switch("sw0", "10.0.0.254/24");
    central.switch("sw1", "172.31.0.254/24");
    central.localnet("sw1");
    central.nb(
        "lrp-set-gateway-chassis lr0-sw1 ch2 20 -- lrp-set-gateway-chassis lr0-sw1 ch1 10 -- lr-nat-add lr0 snat 172.31.0.250 10.0.0.0/24",
    );
    let a = one.container(&central, "sw0", "p1", "10.0.0.1");
    let b = two.container(&central, "sw0", "p2", "10.0.0.2");
    central.sync();
    let answers = |to: &str| a.ping(to, 1, "") == 1;
    wait_for("the outside answers", TAKEN_OVER, || answers("172.31.0.7"));
    let watches = |chassis: &Chassis| chassis.host.appctl("bfd/show").contains("Remote Session State: up");
    wait_until("the gateways watch each other", || watches(&one) && watches(&two));
    // Another is put in office; then the switch of the first dies.
    let chassis = || central.sb("--bare --columns=chassis find port_binding logical_port=cr-lr0-sw1");
    let before = chassis();
    central.nb("lrp-set-gateway-chassis lr0-sw1 ch1 30");
    wait_for("the other takes over", TAKEN_OVER, || chassis() != before && answers("172.31.0.7"));
    assert_eq!(outside.ping("172.31.0.254", 1, ""), 1);
    two.kill();
    two.host.kill_daemon();
    // A gateway that sees no other takes itself for the one that is cut off, and gives up: two do not make a cluster.
    wait_until("the other is missed", || !watches(&one));
    two.host.start_daemon();
    two.start();
    wait_for("they watch each other again", TAKEN_OVER, || watches(&one) && watches(&two));
    wait_for("and the overlay is back", TAKEN_OVER, || answers("10.0.0.2") && answers("172.31.0.7"));
    // A controller that will come again leaves all flows.
    central.sync();
    let flows = || one.host.ofctl("dump-flows br-int").lines().count();
    let before = flows();
    one.host.tool("ovn-appctl", &format!("-t {} exit --restart", one.controller()));
    wait_until("ovn-controller is gone", || !one.is_controlled());
    assert_eq!(flows(), before);
    a.reaches("10.0.0.2");
    one.start();
    central.sync();
    // The tunnels become others.
    for chassis in [&one, &two] {
        chassis.host.vsctl("set open_vswitch . external_ids:ovn-encap-type=vxlan");
    }
    wait_for("it goes by vxlan", TAKEN_OVER, || {
        one.host.vsctl("--columns=type list interface").contains("vxlan")
            && answers("10.0.0.2")
            && b.ping("172.31.0.7", 1, "") == 1
    });
}
