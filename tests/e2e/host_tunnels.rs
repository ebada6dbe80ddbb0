//! Tunnels whose underlay is no bridge's: a veth with addresses of its own, as a host's eth0 is. The host's stack routes, finds neighbours, sends and
//! receives; no bridge has the device, and nothing of it is told by command (decision 0097).
//!
//! Open vSwitch does this in its kernel datapath only: Debian's userspace switch is the other end in one test, and the judge of none.

use crate::rig::{Container, Host, assert_has, assert_lacks, wait_until};
use crate::transfer::transfer;
use crate::tunnels::make_underlay;

const MEGABYTES: u64 = 1 << 20;

/// Addresses of host n on the underlay.
fn underlay(n: u32) -> [String; 2] {
    [format!("172.16.0.{n}"), format!("fd16::{n}")]
}

/// A host with a container of the overlay and an underlay device outside all bridges; the other end of that is in a container.
struct Site {
    host: Host,
    peer: Container,
    a: Container,
}

impl Site {
    fn new() -> Self {
        let host = Host::new();
        let [v4, v6] = underlay(2);
        let peer = Container::new(&host.ns, "p2", &[&format!("{v4}/24"), &format!("{v6}/64")]);
        let [v4, v6] = underlay(1);
        host.ns.ip(&format!("addr add {v4}/24 dev p2"));
        host.ns.ip(&format!("addr add {v6}/64 dev p2 nodad"));
        host.bridge("br-int", "");
        let a = host.attach("br-int", "p1", 1, &["10.1.0.1/24", "10.2.0.1/24", "fd10::1/64"], "");
        Self { host, peer, a }
    }

    fn tunnel(&self, name: &str, kind: &str, options: &str) {
        let options: Vec<String> = options.split_whitespace().map(|o| format!("options:{o}")).collect();
        let options = options.join(" ");
        self.host.vsctl(&format!("--may-exist add-port br-int {name} -- set interface {name} type={kind} {options}"));
    }

    /// A tunnel device of the peer's kernel.
    fn device(&self, name: &str, words: &str, address: &str) {
        self.peer.ns.ip(&format!("link add {name} type {words}"));
        self.peer.ns.quiet(name);
        self.peer.ns.ip(&format!("link set {name} up"));
        self.peer.ns.ip(&format!("addr add {address} dev {name}"));
    }

    /// Sockets that listen for tunnels on the host.
    fn sockets(&self) -> String {
        self.host.ns.exec("ss -Hlnuw")
    }
}

#[test]
fn the_kernels_vxlan_over_ipv4_and_ipv6_pings_and_tcp() {
    let site = Site::new();
    let Site { host, peer, a } = &site;
    let ([v4, v6], [own4, own6]) = (underlay(2), underlay(1));
    site.device("vx4", &format!("vxlan id 77 remote {own4} local {v4} dstport 4789"), "10.1.0.2/24");
    site.device("vx6", &format!("vxlan id 78 remote {own6} local {v6} dstport 4789"), "10.2.0.2/24");
    assert_lacks(&site.sockets(), &[":4789"]);
    site.tunnel("vx4", "vxlan", &format!("remote_ip={v4} key=77"));
    site.tunnel("vx6", "vxlan", &format!("remote_ip={v6} key=78"));
    for (own, target) in [("10.1.0.1", "10.1.0.2"), ("10.2.0.1", "10.2.0.2")] {
        wait_until("the overlay answers", || a.ping(target, 1, "") == 1);
        assert_eq!(a.ping(target, 20, ""), 20, "{target}");
        assert_eq!(peer.ping(own, 20, ""), 20, "{own}");
        wait_until("fragments come through", || a.ping(target, 1, "-s 4000") == 1);
        assert_eq!(a.ping(target, 5, "-s 4000"), 5, "{target}, fragments");
    }
    assert_has(&site.sockets(), &["0.0.0.0:4789", "[::]:4789"]);
    let flows = host.appctl("dpctl/dump-flows");
    assert_has(&flows, &["tnl_push(", "tunnel(tun_id=0x4d,src=172.16.0.2,dst=172.16.0.1", "tunnel(tun_id=0x4e,ipv6_src=fd16::2"]);
    assert_lacks(&flows, &["tnl_pop("]);
    assert_has(&host.appctl("ofproto/trace br-int in_port=1"), &["by the host's own stack"]);
    // The kernel leaves checksums and cutting of what its device encapsulates to veth.
    transfer(a, peer, "10.1.0.2", 64 * MEGABYTES);
    transfer(peer, a, "10.1.0.1", 64 * MEGABYTES);
    transfer(peer, a, "10.2.0.1", 16 * MEGABYTES);
    // A route that goes takes the sockets along, and brings them back.
    host.ns.ip(&format!("addr del {own4}/24 dev p2"));
    host.ns.ip(&format!("addr del {own6}/64 dev p2"));
    wait_until("the sockets are gone", || !site.sockets().contains(":4789"));
    a.does_not_reach("10.1.0.2");
    host.ns.ip(&format!("addr add {own4}/24 dev p2"));
    wait_until("packets come through again", || a.ping("10.1.0.2", 1, "") == 1);
    // A restart, killed or not, finds its way again.
    host.kill_daemon();
    host.start_daemon();
    wait_until("packets come through after a restart", || a.ping("10.1.0.2", 1, "") == 1);
    host.vsctl("del-port vx4 -- del-port vx6");
    wait_until("the sockets are gone", || !site.sockets().contains(":4789"));
}

#[test]
fn every_kind_with_debians_switch() {
    let (ours, theirs) = (Host::new(), Host::stock());
    ours.ns.ip(&format!("link add up1 type veth peer name up2 netns {}", theirs.ns.name));
    for (host, device) in [(&ours, "up1"), (&theirs, "up2")] {
        host.ns.quiet(device);
        host.bridge("br-int", "");
    }
    make_underlay(&theirs, 2, "up2");
    ours.ns.ip("link set up1 up");
    let [v4, v6] = underlay(1);
    ours.ns.ip(&format!("addr add {v4}/24 dev up1"));
    ours.ns.ip(&format!("addr add {v6}/64 dev up1 nodad"));
    let a = ours.attach("br-int", "p1", 1, &["10.1.0.1/24"], "");
    let b = theirs.attach("br-int", "p2", 1, &["10.1.0.2/24"], "");
    for container in [&a, &b] {
        container.ns.ip("link set eth0 mtu 1400");
    }
    for (kind, family, options) in [
        ("vxlan", 1, "options:key=5 options:dst_port=8472"),
        ("geneve", 0, "options:key=6 options:csum=true"),
        ("geneve", 1, "options:key=6"),
        ("gre", 0, "options:key=7 options:csum=true options:seq=true"),
        ("ip6gre", 1, "options:key=8"),
        ("erspan", 0, "options:key=9 options:erspan_ver=1 options:erspan_idx=3"),
        ("erspan", 0, "options:key=9 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=7"),
    ] {
        for (host, other) in [(&ours, 2), (&theirs, 1)] {
            let remote = &underlay(other)[family];
            host.vsctl("--if-exists del-port br-int tun");
            host.vsctl(&format!("add-port br-int tun -- set interface tun type={kind} options:remote_ip={remote} {options}"));
        }
        wait_until(&format!("{kind} {options} comes through"), || a.ping("10.1.0.2", 1, "") == 1);
        assert_eq!(a.ping("10.1.0.2", 20, ""), 20, "{kind} {options}");
        assert_eq!(b.ping("10.1.0.1", 20, ""), 20, "{kind} {options}");
        assert_eq!(a.ping("10.1.0.2", 3, "-s 3000"), 3, "{kind} {options}, fragments");
    }
}

#[test]
fn a_sender_is_told_the_mtu_of_an_underlay_outside_all_bridges() {
    let site = Site::new();
    let Site { host, a, .. } = &site;
    let (own4, v4) = (&underlay(1)[0], &underlay(2)[0]);
    site.device("vx4", &format!("vxlan id 77 remote {own4} local {v4} dstport 4789"), "10.1.0.2/24");
    site.peer.ns.ip("addr add fd10::2/64 dev vx4 nodad");
    site.tunnel("vx4", "vxlan", &format!("remote_ip={v4} key=77"));
    wait_until("the overlay answers", || a.ping("10.1.0.2", 1, "") == 1);
    a.reaches("fd10::2");
    let path_mtu = |target: &str| crate::rig::number_after(&a.ns.ip(&format!("route get {target}")), "mtu ");
    assert_eq!(a.ping("10.1.0.2", 1, "-M do -s 1472"), 0);
    assert_eq!(path_mtu("10.1.0.2"), Some(1450));
    assert_eq!(a.ping("10.1.0.2", 3, "-M do -s 1422"), 3);
    assert_eq!(a.ping("fd10::2", 1, "-M do -s 1452"), 0);
    assert_eq!(path_mtu("fd10::2"), Some(1450));
    // The device's MTU changes, and so does what fits.
    host.ns.ip("link set p2 mtu 1400");
    wait_until("the new MTU is known", || host.appctl("dpctl/dump-flows").contains("eth(dst=00:00:00:00:05:78"));
    assert_eq!(a.ping("10.1.0.2", 1, "-M do -s 1422"), 0);
    assert_eq!(path_mtu("10.1.0.2"), Some(1350));
    // The way takes less than the device.
    host.ns.ip(&format!("route add {v4} dev p2 mtu lock 1300"));
    assert_eq!(a.ping("10.1.0.2", 1, "-M do -s 1310"), 0);
    wait_until("the way's MTU is told", || {
        a.ping("10.1.0.2", 1, "-M do -s 1310");
        path_mtu("10.1.0.2") == Some(1250)
    });
    assert_eq!(a.ping("10.1.0.2", 3, "-M do -s 1222"), 3);
    assert_has(&host.appctl("coverage/show"), &["datapath_tunnel_mtu_answered", "tunnel_host_too_long"]);
}

#[test]
fn a_port_that_the_kernel_has_is_told_and_taken_when_it_is_free() {
    let site = Site::new();
    let Site { host, a, .. } = &site;
    let (own4, v4) = (&underlay(1)[0], &underlay(2)[0]);
    site.device("vx4", &format!("vxlan id 77 remote {own4} local {v4} dstport 4789"), "10.1.0.2/24");
    host.ns.ip("link add kernels type vxlan id 5 dstport 4789 dev p2");
    host.ns.ip("link set kernels up");
    site.tunnel("vx4", "vxlan", &format!("remote_ip={v4} key=77"));
    wait_until("the error is told", || host.column("interface", "vx4", "error").contains("UDP port 4789"));
    assert_has(&host.log(), &["vxlan_sys_4789", "Address already in use"]);
    a.does_not_reach("10.1.0.2");
    host.ns.ip("link del kernels");
    wait_until("the overlay answers", || a.ping("10.1.0.2", 1, "") == 1);
    wait_until("the error is gone", || host.column("interface", "vx4", "error") == "[]");
    // Another UDP port: the old one is free for others at once.
    host.vsctl("set interface vx4 options:dst_port=4790");
    wait_until("the socket moves", || site.sockets().contains(":4790") && !site.sockets().contains(":4789"));
}

#[test]
fn a_device_that_becomes_a_port_of_a_bridge_is_used_natively() {
    let site = Site::new();
    let Site { host, a, .. } = &site;
    let (own4, v4) = (&underlay(1)[0], &underlay(2)[0]);
    site.device("vx4", &format!("vxlan id 77 remote {own4} local {v4} dstport 4789"), "10.1.0.2/24");
    site.tunnel("vx4", "vxlan", &format!("remote_ip={v4} key=flow"));
    host.flows("br-int", "priority=1,in_port=1,actions=set_field:77->tun_id,NORMAL\npriority=0,actions=NORMAL\n");
    wait_until("the overlay answers", || a.ping("10.1.0.2", 1, "") == 1);
    assert_has(&site.sockets(), &[":4789"]);
    // The usual move of an address onto a bridge.
    host.bridge("br-phy", "");
    host.ns.exec("sysctl -qw net.ipv4.conf.p2.arp_ignore=1");
    host.vsctl("add-port br-phy p2");
    host.ns.ip(&format!("addr del {own4}/24 dev p2"));
    host.ns.ip("addr flush dev p2");
    host.ns.quiet("br-phy");
    host.ns.ip("link set br-phy up");
    host.ns.ip(&format!("addr add {own4}/24 dev br-phy"));
    wait_until("the overlay answers natively", || a.ping("10.1.0.2", 1, "") == 1);
    wait_until("the sockets are gone", || !site.sockets().contains(":4789"));
    assert_has(&host.appctl("ofproto/trace br-int in_port=1"), &["output to native tunnel"]);
    // And back.
    host.vsctl("del-br br-phy");
    host.ns.ip(&format!("addr add {own4}/24 dev p2"));
    wait_until("the overlay answers by the host", || a.ping("10.1.0.2", 1, "") == 1);
}

#[test]
fn two_switches_with_ends_and_keys_by_flow() {
    let (one, two) = (Host::new(), Host::new());
    one.ns.ip(&format!("link add under type veth peer name under netns {}", two.ns.name));
    let mut inside = Vec::new();
    for (host, n) in [(&one, 1), (&two, 2)] {
        host.ns.quiet("under");
        host.ns.ip("link set under up");
        let [v4, v6] = underlay(n);
        host.ns.ip(&format!("addr add {v4}/24 dev under"));
        host.ns.ip(&format!("addr add {v6}/64 dev under nodad"));
        host.bridge("br-int", "");
        inside.push(host.attach("br-int", &format!("p{n}"), 1, &[&format!("10.1.0.{n}/24")], ""));
        inside[inside.len() - 1].ns.ip("link set eth0 mtu 1400");
    }
    let join = |kind: &str, options: &str, to: [&str; 2]| {
        for (host, remote) in [(&one, to[1]), (&two, to[0])] {
            host.vsctl("--if-exists del-port br-int tun");
            let tunnel = format!("type={kind} ofport_request=9 options:remote_ip=flow options:key=flow {options}");
            host.vsctl(&format!("add-port br-int tun -- set interface tun {tunnel}"));
            wait_until("the tunnel has its number", || host.column("interface", "tun", "ofport") == "9");
            let field = if remote.contains(':') { "tun_ipv6_dst" } else { "tun_dst" };
            let set = format!("set_field:42->tun_id,set_field:{remote}->{field}");
            host.flows("br-int", &format!("in_port=1,actions={set},output:9\nin_port=9,tun_id=42,actions=output:1\n"));
        }
    };
    let ([a4, a6], [b4, b6]) = (underlay(1), underlay(2));
    for (kind, options, to) in [
        ("vxlan", "", [&a4, &b4]),
        ("geneve", "", [&a6, &b6]),
        ("gre", "options:csum=true", [&a4, &b4]),
        ("gre", "", [&a6, &b6]),
        ("erspan", "options:erspan_ver=2", [&a4, &b4]),
    ] {
        join(kind, options, [to[0], to[1]]);
        wait_until(&format!("{kind} {options} comes through"), || inside[0].ping("10.1.0.2", 1, "") == 1);
        assert_eq!(inside[0].ping("10.1.0.2", 20, ""), 20, "{kind} {options}");
        transfer(&inside[0], &inside[1], "10.1.0.2", 4 * MEGABYTES);
    }
}
