//! Tunnels: our switch against the kernel's vxlan device, and against Debian's own switch, over IPv4 and IPv6.
//!
//! The underlay is a bridge of its own, `br-phy`, whose local port has the address; the overlay is `br-int`. The kernel's routes are
//! followed, neighbours are asked for and learned: nothing of either is told by command.

use crate::rig::{Container, Host, Namespace, assert_has, is_stock, wait_until};

/// Underlay addresses of host n.
fn underlay(n: u32) -> [String; 2] {
    [format!("172.16.0.{n}"), format!("fd16::{n}")]
}

/// Makes a host's underlay, with `device` as its uplink.
pub(crate) fn make_underlay(host: &Host, n: u32, device: &str) {
    host.bridge("br-phy", "");
    host.ns.ip(&format!("link set {device} up"));
    // The kernel, too, sees what comes in by the uplink, and would answer for br-phy's address with the uplink's MAC.
    host.ns.exec(&format!("sysctl -qw net.ipv4.conf.{device}.arp_ignore=1"));
    host.vsctl(&format!("add-port br-phy {device}"));
    host.ns.quiet("br-phy");
    host.ns.ip("link set br-phy up");
    let [v4, v6] = underlay(n);
    host.ns.ip(&format!("addr add {v4}/24 dev br-phy"));
    host.ns.ip(&format!("addr add {v6}/64 dev br-phy nodad"));
}

/// A vxlan device of the kernel.
pub(crate) fn kernel_vxlan(peer: &Namespace, device: &str, vni: u32, ends: (&str, &str), address: &str) {
    let (remote, local) = ends;
    peer.ip(&format!("link add {device} type vxlan id {vni} remote {remote} local {local} dstport 4789"));
    peer.quiet(device);
    peer.ip(&format!("link set {device} up"));
    peer.ip(&format!("addr add {address} dev {device}"));
}

#[test]
fn vxlan_with_the_kernels_device_over_ipv4_and_ipv6() {
    let host = Host::new();
    let [v4, v6] = underlay(2);
    let peer = Container::new(&host.ns, "p2", &[&format!("{v4}/24"), &format!("{v6}/64")]);
    make_underlay(&host, 1, "p2");
    host.bridge("br-int", "");
    let a = host.attach("br-int", "p1", 1, &["10.1.0.1/24", "10.2.0.1/24"], "");
    host.vsctl(&format!("add-port br-int vx4 -- set interface vx4 type=vxlan options:remote_ip={v4} options:key=77"));
    host.vsctl(&format!("add-port br-int vx6 -- set interface vx6 type=vxlan options:remote_ip={v6} options:key=78"));
    kernel_vxlan(&peer.ns, "vx4", 77, ("172.16.0.1", &v4), "10.1.0.2/24");
    kernel_vxlan(&peer.ns, "vx6", 78, ("fd16::1", &v6), "10.2.0.2/24");
    wait_until("the kernel's routes are known", || host.appctl("ovs/route/show").contains("fd16::/64"));
    for target in ["10.1.0.2", "10.2.0.2"] {
        a.reaches(target);
        // The kernel's device takes inner fragments of 1,500 bytes, so that outer packets come in fragments; ours cuts them smaller.
        wait_until("fragments come through", || a.ping(target, 1, "-s 4000") == 1);
        assert_eq!(a.ping(target, 5, "-s 4000"), 5, "{target}, fragments");
    }
    // The outer header must fit as well.
    a.ns.ip("link set eth0 mtu 1400");
    for target in ["10.1.0.2", "10.2.0.2"] {
        a.reaches(target);
        assert_eq!(a.ping(target, 50, ""), 50, "{target}");
        assert_eq!(a.ping(target, 5, "-s 1372"), 5, "{target}");
    }
    let neighbours = host.appctl("tnl/neigh/show");
    assert_has(&neighbours, &[&v4, &v6, &peer.mac]);
    assert_has(&host.appctl("dpctl/dump-flows"), &["tnl_push(", "tnl_pop(", "tunnel(tun_id=0x4d,src=172.16.0.2"]);
    // The peer gets another MAC: what it sends tells, and the tunnels follow.
    peer.ns.ip("link set eth0 address 02:00:00:00:77:01");
    assert_eq!(peer.ping("172.16.0.1", 1, ""), 1, "the switch's side of the underlay");
    for (own, target) in [("10.1.0.1", "10.1.0.2"), ("10.2.0.1", "10.2.0.2")] {
        wait_until("packets find the new MAC", || peer.ping(own, 1, "") == 1);
        assert_eq!(a.ping(target, 5, ""), 5, "{target}");
    }
    assert_has(&host.appctl("tnl/neigh/show"), &["02:00:00:00:77:01"]);
    // Without a route nothing is sent; with it again all is.
    host.ns.ip("addr del 172.16.0.1/24 dev br-phy");
    wait_until("the route is gone", || !host.appctl("ovs/route/show").contains("172.16.0.0/24"));
    let way = |tunnel| host.column("interface", tunnel, "status");
    wait_until("there is no way to tell", || !way("vx4").contains("tunnel_egress"));
    wait_until("the other's is told", || way("vx6").contains("tunnel_egress_iface=br-phy, tunnel_egress_iface_carrier=up"));
    a.does_not_reach("10.1.0.2");
    host.ns.ip("addr add 172.16.0.1/24 dev br-phy");
    wait_until("the route is back", || host.appctl("ovs/route/show").contains("172.16.0.0/24"));
    wait_until("packets come through again", || a.ping("10.1.0.2", 1, "") == 1);
}

/// Rules of the kernel that choose a table by source, of both families, as they come and go; a tunnel goes the way that they say.
#[test]
fn the_kernels_rules_choose_the_way_of_tunnels() {
    let host = Host::new();
    host.bridge("br-phy", "");
    host.ns.quiet("br-phy");
    host.ns.ip("link set br-phy up");
    for (option, [own, other], target, to, [near, far]) in [
        ("-4", ["172.16.0.1/24", "172.17.0.1/24"], "192.0.2.7", "192.0.2.0/24", ["172.16.0.8", "172.16.0.9"]),
        ("-6", ["fd16::1/64", "fd17::1/64"], "fd20::7", "fd20::/64", ["fd16::8", "fd16::9"]),
    ] {
        let nodad = if option == "-6" { "nodad" } else { "" };
        host.ns.ip(&format!("addr add {own} dev br-phy {nodad}"));
        host.ns.ip(&format!("addr add {other} dev br-phy {nodad}"));
        host.ns.ip(&format!("{option} route add {to} via {near} dev br-phy"));
        host.ns.ip(&format!("{option} route add {to} via {far} dev br-phy table 100"));
        let source = other.split_once('/').unwrap().0;
        let gateway = |src: &str| {
            let answer = host.try_tool("ovs-appctl", &format!("ovs/route/lookup {target}{src}"));
            answer.out.lines().find_map(|l| l.strip_prefix("gateway ")).map(str::to_owned).unwrap_or_default()
        };
        let of_source = format!(" src={source}");
        wait_until("the way is known", || gateway("") == near && gateway(&of_source) == near);
        host.ns.ip(&format!("{option} rule add from {source} table 100 prio 50"));
        wait_until("the rule is followed", || gateway(&of_source) == far);
        assert_eq!(gateway(""), near, "others go as before");
        let family = if option == "-6" { " -6" } else { "" };
        let rules = || host.appctl(&format!("ovs/route/rule/show{family}"));
        assert_has(&rules(), &[&format!("Cached: 50: from {source}"), "lookup 100"]);
        // Rules that look at more than the source are nothing to tunnels.
        host.ns.ip(&format!("{option} rule add fwmark 7 table 101 prio 40"));
        host.ns.ip(&format!("{option} rule add not from {source} table 100 prio 51"));
        wait_until("the other rule is followed", || gateway("") == far);
        assert!(!rules().contains("101"), "{}", rules());
        host.ns.ip(&format!("{option} rule del not from {source} table 100 prio 51"));
        host.ns.ip(&format!("{option} rule del from {source} table 100 prio 50"));
        wait_until("the rules are gone", || gateway("") == near && gateway(&of_source) == near);
    }
}

/// What the kernel learned of the way to an address.
fn path_mtu(container: &Container, target: &str) -> Option<u64> {
    let route = container.ns.ip(&format!("route get {target}"));
    crate::rig::number_after(&route, "mtu ")
}

#[test]
fn a_sender_of_packets_too_long_for_a_tunnel_is_told_its_mtu() {
    let host = Host::new();
    let [v4, v6] = underlay(2);
    let peer = Container::new(&host.ns, "p2", &[&format!("{v4}/24"), &format!("{v6}/64")]);
    make_underlay(&host, 1, "p2");
    host.bridge("br-int", "");
    let a = host.attach("br-int", "p1", 1, &["10.1.0.1/24", "fd10::1/64"], "");
    host.vsctl(&format!("add-port br-int vx4 -- set interface vx4 type=vxlan options:remote_ip={v4} options:key=77"));
    kernel_vxlan(&peer.ns, "vx4", 77, ("172.16.0.1", &v4), "10.1.0.2/24");
    peer.ns.ip("addr add fd10::2/64 dev vx4 nodad");
    peer.ns.ip("link set vx4 mtu 1450");
    wait_until("the kernel's routes are known", || host.appctl("ovs/route/show").contains("172.16.0.0/24"));
    a.reaches("10.1.0.2");
    a.reaches("fd10::2");
    // 1,500 bytes that may not be cut, where 1,450 fit.
    assert_eq!(a.ping("10.1.0.2", 1, "-M do -s 1472"), 0);
    assert_eq!(path_mtu(&a, "10.1.0.2"), Some(1450));
    assert_eq!(a.ping("10.1.0.2", 3, "-M do -s 1422"), 3);
    assert_eq!(a.ping("fd10::2", 1, "-M do -s 1452"), 0);
    assert_eq!(path_mtu(&a, "fd10::2"), Some(1450));
    assert_eq!(a.ping("fd10::2", 3, "-s 1452"), 3);
    // What may be cut is.
    a.ns.ip("route flush cache");
    assert_eq!(a.ping("10.1.0.2", 3, "-M dont -s 1472"), 3);
    let counted = host.appctl("coverage/show");
    assert_has(&counted, &["datapath_tunnel_mtu_answered", "datapath_tunnel_mtu_fragmented"]);
    // The port says so, too.
    let of_port = |column: &str| host.vsctl(&format!("get interface vx4 {column}"));
    wait_until("the port tells", || of_port("status").contains(&format!("{v4}: packets of up to 1500 bytes, 1450 fit")));
    wait_until("the port counts", || of_port("statistics").contains("tunnel_mtu_fragmented=3"));
}

/// Two switches with an overlay between them.
struct Pair {
    ours: Host,
    theirs: Host,
}

impl Pair {
    fn new() -> Self {
        Self::with(Host::stock())
    }

    fn with(theirs: Host) -> Self {
        let ours = Host::new();
        let names = (&ours.ns.name, &theirs.ns.name);
        ours.ns.ip(&format!("link add up1 type veth peer name up2 netns {}", names.1));
        theirs.ns.quiet("up2");
        ours.ns.quiet("up1");
        make_underlay(&ours, 1, "up1");
        make_underlay(&theirs, 2, "up2");
        for host in [&ours, &theirs] {
            host.bridge("br-int", "");
        }
        Self { ours, theirs }
    }

    /// Joins the overlays by a tunnel; both sides have the same options.
    fn join(&self, kind: &str, family: usize, options: &str) {
        for (host, other) in [(&self.ours, 2), (&self.theirs, 1)] {
            let remote = &underlay(other)[family];
            host.vsctl("--if-exists del-port br-int tun");
            host.vsctl(&format!("add-port br-int tun -- set interface tun type={kind} options:remote_ip={remote} {options}"));
        }
        let known = |host: &Host| host.appctl("ovs/route/show").contains(["172.16.0.0/24", "fd16::/64"][family]);
        wait_until("routes are known", || known(&self.ours) && known(&self.theirs));
    }
}

#[test]
fn every_kind_with_debians_switch() {
    let pair = Pair::new();
    let a = pair.ours.attach("br-int", "p1", 1, &["10.1.0.1/24"], "");
    let b = pair.theirs.attach("br-int", "p2", 1, &["10.1.0.2/24"], "");
    for container in [&a, &b] {
        container.ns.ip("link set eth0 mtu 1400");
    }
    for (kind, family, options) in [
        ("vxlan", 0, "options:key=5"),
        ("vxlan", 1, "options:key=5 options:dst_port=8472"),
        ("geneve", 0, "options:key=6 options:csum=true"),
        ("geneve", 1, "options:key=6"),
        ("gre", 0, "options:key=7 options:csum=true"),
        ("gre", 0, "options:seq=true"),
        ("ip6gre", 1, "options:key=8"),
        ("erspan", 0, "options:key=9 options:erspan_ver=1 options:erspan_idx=3"),
        ("erspan", 0, "options:key=9 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=7"),
    ] {
        pair.join(kind, family, options);
        wait_until(&format!("{kind} {options} comes through"), || a.ping("10.1.0.2", 1, "") == 1);
        assert_eq!(a.ping("10.1.0.2", 20, ""), 20, "{kind} {options}");
        assert_eq!(b.ping("10.1.0.1", 20, ""), 20, "{kind} {options}");
        assert_eq!(a.ping("10.1.0.2", 3, "-s 3000"), 3, "{kind} {options}, fragments");
    }
}

/// Tunnels that carry packets without Ethernet headers: GRE with Debian's switch, SRv6 and bare UDP, which its userspace datapath has not got,
/// between two of ours; VXLAN with its extensions and ERSPAN over IPv6 as well. GTP-U, too: 3.1 sends it with a UDP checksum that it has taken
/// before the length was in its place, so nobody who verifies it takes its packets.
#[test]
fn kinds_that_others_lack_and_packets_without_frames() {
    for (stock, kinds) in [
        (true, [("gre", 0, "options:key=7 options:packet_type=legacy_l3")].as_slice()),
        (
            false,
            &[
                ("gtpu", 0, "options:key=7"),
                ("gtpu", 1, "options:key=7"),
                ("srv6", 1, ""),
                ("srv6", 1, "options:srv6_flowlabel=compute"),
                ("bareudp", 0, "options:dst_port=6635 options:payload_type=ip"),
                ("bareudp", 1, "options:dst_port=6635 options:payload_type=ip"),
                ("vxlan", 0, "options:key=7 options:exts=gpe options:packet_type=legacy_l3"),
                ("vxlan", 1, "options:key=7 options:exts=gbp"),
                ("ip6erspan", 1, "options:key=7 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=7"),
                ("vxlan", 0, "options:key=7 options:tos=inherit options:ttl=9 options:df_default=false options:csum=true"),
            ],
        ),
    ] {
        if is_stock() && !stock {
            continue;
        }
        let pair = Pair::with(if stock { Host::stock() } else { Host::new() });
        let ends = [(&pair.ours, 1, 2), (&pair.theirs, 2, 1)].map(|(host, own, other)| {
            let container = host.attach("br-int", &format!("p{own}"), 1, &[&format!("10.1.0.{own}/24")], "");
            container.ns.ip("link set eth0 mtu 1300");
            container.knows(&format!("10.1.0.{other}"), &format!("02:00:00:00:00:0{other}"));
            container
        });
        for (kind, family, options) in kinds {
            pair.join(kind, *family, options);
            for (host, own) in [(&pair.ours, 1), (&pair.theirs, 2)] {
                host.vsctl("set interface tun ofport_request=9");
                wait_until("the tunnel has its number", || host.column("interface", "tun", "ofport") == "9");
                // What had no frame comes in with one that is for nobody.
                let back = format!("in_port=9,actions=set_field:02:00:00:00:00:0{own}->eth_dst,output:1");
                host.flows("br-int", &format!("in_port=1,ip,actions=output:9\n{back}\n"));
            }
            let [a, b] = &ends;
            wait_until(&format!("{kind} {options} comes through"), || a.ping("10.1.0.2", 1, "") == 1);
            assert_eq!(a.ping("10.1.0.2", 20, ""), 20, "{kind} {options}");
            assert_eq!(b.ping("10.1.0.1", 20, "-s 1200"), 20, "{kind} {options}");
        }
    }
}

/// `tun_metadata0` is an option of four bytes, and the tunnel port 9.
fn map_an_option(host: &Host) {
    host.ofctl("add-tlv-map br-int {class=0xffff,type=0x80,len=4}->tun_metadata0");
    host.vsctl("set interface tun ofport_request=9");
    wait_until("the tunnel has its number", || host.column("interface", "tun", "ofport") == "9");
}

#[test]
fn geneve_options_are_set_and_matched_on_both_sides() {
    let pair = Pair::new();
    let a = pair.ours.attach("br-int", "p1", 1, &["10.1.0.1/24"], "");
    let _b = pair.theirs.attach("br-int", "p2", 1, &["10.1.0.2/24"], "");
    pair.join("geneve", 0, "options:key=flow");
    for host in [&pair.ours, &pair.theirs] {
        map_an_option(host);
        host.flows(
            "br-int",
            "in_port=1,actions=set_field:42->tun_id,set_field:0xbeef->tun_metadata0,output:9\n\
             in_port=9,tun_id=42,tun_metadata0=0xbeef,actions=output:1\n",
        );
    }
    wait_until("the option is understood", || a.ping("10.1.0.2", 1, "") == 1);
    assert_eq!(a.ping("10.1.0.2", 20, ""), 20);
    // Another value is no match on the other side.
    pair.ours.flows("br-int", "in_port=1,actions=set_field:42->tun_id,set_field:0xdead->tun_metadata0,output:9\n");
    a.does_not_reach("10.1.0.2");
}

/// Packets with either option go by one megaflow up to `ct`; behind it each goes by its own. Debian's daemon takes all for the first one's.
#[test]
fn an_option_that_is_looked_at_behind_ct_is_that_of_each_packet() {
    let pair = Pair::new();
    let a = pair.ours.attach("br-int", "p1", 1, &["10.1.0.1/24"], "");
    let _b = pair.theirs.attach("br-int", "p2", 1, &["10.1.0.2/24"], "");
    let _c = pair.theirs.attach("br-int", "p3", 2, &["10.1.0.3/24"], "");
    pair.join("geneve", 0, "options:key=42");
    [&pair.ours, &pair.theirs].into_iter().for_each(map_an_option);
    pair.theirs.flows(
        "br-int",
        "in_port=1,actions=set_field:0xbeef->tun_metadata0,output:9\n\
         in_port=2,actions=set_field:0xdead->tun_metadata0,output:9\n\
         in_port=9,arp,actions=output:1,output:2\n\
         in_port=9,ip,nw_dst=10.1.0.2,actions=output:1\n\
         in_port=9,ip,nw_dst=10.1.0.3,actions=output:2\n",
    );
    pair.ours.flows(
        "br-int",
        "in_port=1,actions=output:9\n\
         in_port=9,arp,actions=output:1\n\
         in_port=9,ip,actions=ct(table=1)\n\
         table=1,tun_metadata0=0xbeef,actions=output:1\n",
    );
    wait_until("the tunnel is up", || a.ping("10.1.0.2", 1, "") == 1);
    for note in ["01", "02", "03"] {
        a.does_not_reach("10.1.0.3");
        assert_eq!(a.ping("10.1.0.2", 10, ""), 10);
        // The megaflow up to `ct` is translated again.
        pair.ours.ofctl(&format!("add-flow br-int in_port=9,ip,actions=note:{note},ct(table=1)"));
    }
    pair.ours.ofctl("add-flow br-int table=1,tun_metadata0=0xdead,actions=output:1");
    assert_eq!(a.ping("10.1.0.3", 3, ""), 3, "nothing else kept it away");
    // Deleted before, it is not there any more, and nobody's rule but the one for all takes the packet.
    pair.ours.ofctl("add-flow br-int in_port=9,ip,actions=delete_field:tun_metadata0,ct(table=1)");
    a.does_not_reach("10.1.0.2");
    a.does_not_reach("10.1.0.3");
    pair.ours.ofctl("add-flow br-int table=1,priority=1,actions=output:1");
    a.reaches("10.1.0.2");
}
