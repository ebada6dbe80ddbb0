//! The protocols in a switch: two bridges joined by patch ports or bonds, packets of the protocols in translation.

use crate::config::{PortConfig, SwitchConfig};
use crate::deps::ChangeLog;
use crate::scenario::{Scenario, bond, config};
use flow::Msec;
use flow::clock::now_ms;
use openflow::OfPort;

fn pairs(text: &str) -> Vec<(String, String)> {
    text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
}

fn port<'a>(config: &'a mut SwitchConfig, name: &str) -> &'a mut PortConfig {
    config.bridges.iter_mut().flat_map(|b| &mut b.ports).find(|p| p.interfaces[0].name == name).unwrap()
}

/// Lets time pass in steps of 100 ms.
fn pass(s: &Scenario, from: Msec, ms: Msec) -> Msec {
    let mut now = from;
    while now < from + ms {
        now += 100;
        s.slowpath.run_until_idle(now);
    }
    now
}

fn patched(a: &str, b: &str) -> SwitchConfig {
    let mut config = config(&["br0 p0@1>p1", "br1 p1@2>p0"]);
    port(&mut config, "p0").interfaces[0].bfd = pairs(a);
    port(&mut config, "p1").interfaces[0].bfd = pairs(b);
    config
}

fn state(s: &Scenario, bridge: &str, number: u32) -> u32 {
    s.slowpath.read_world().bridge_named(bridge).unwrap().ports[&OfPort(number)].state
}

#[test]
fn bfd_comes_up_through_patch_ports_and_makes_them_live() {
    let mut wanted = patched("enable=true", "enable=true");
    let s = Scenario::new(&wanted);
    assert_eq!(state(&s, "br0", 1), 4, "frames cross patch ports at once, and so the session is up at once");
    let now = pass(&s, now_ms(), 4100);
    assert_eq!((state(&s, "br0", 1), state(&s, "br1", 2)), (4, 4));
    let text = s.run_command("bfd/show", &["p0"]).unwrap();
    assert!(text.contains("Local Session State: up") && text.contains("Remote Session State: up"), "{text}");
    let status = s.slowpath.status(false);
    let p1 = status.interfaces.iter().find(|i| i.name == "p1").unwrap();
    assert!(p1.link.bfd.contains(&("forwarding".into(), "true".into())));
    wanted.bridges[0].ports.iter_mut().for_each(|p| p.interfaces[0].bfd.clear());
    s.slowpath.configure(&wanted);
    assert_eq!(s.run_command("bfd/show", &["p0"]), Err("no such bfd object".into()));
    pass(&s, now, 4100);
    assert_eq!((state(&s, "br0", 1), state(&s, "br1", 2)), (4, 0), "nobody answers p1 any more");
    assert_eq!(s.run_command("bfd/set-forwarding", &["p1", "true"]), Ok("OK".into()));
    assert_eq!(state(&s, "br1", 2), 4);
    assert_eq!(s.run_command("bfd/set-forwarding", &["maybe"]), Err("unknown fault string".into()));
    assert_eq!(s.run_command("bfd/set-forwarding", &["nobody", "true"]), Err("no such BFD object".into()));
}

#[test]
fn packets_of_a_session_are_taken_out_and_others_are_not() {
    let mut wanted = config(&["br0 p1@1 p2@2"]);
    port(&mut wanted, "p1").interfaces[0].bfd = pairs("enable=true");
    port(&mut wanted, "p2").interfaces[0].cfm_mpid = Some(7);
    let s = Scenario::new(&wanted);
    s.flow_mod("br0", "actions=normal").unwrap();
    let number = |name: &str| s.dp_port(name).0;
    let send = |name: &str, rest: &str| s.send(&format!("in_port({}),eth(src=02:00:00:00:00:01,dst={rest}", number(name)));
    let udp = "02:00:00:00:00:02),eth_type(0x0800),ipv4(src=1.1.1.1,dst=1.1.1.2,proto=17,tos=0,ttl=255,frag=no),udp(src=1,dst=";
    s.dp.take_outputs();
    assert_eq!(send("p1", &format!("{udp}3784)")), "", "one of BFD's");
    assert_ne!(send("p1", &format!("{udp}3785)")), "");
    assert_ne!(send("p2", &format!("{udp}3784)")), "", "no session on p2");
    assert_eq!(send("p2", "01:80:c2:00:00:30),eth_type(0x8902)"), "", "one of CFM's");
    let slow: Vec<String> = s.run_command("dpif/dump-flows", &["br0"]).unwrap().lines().map(str::to_owned).collect();
    assert!(slow.iter().any(|l| l.contains("slow_path(bfd)") && l.contains("dst=3784")), "{slow:#?}");
    assert!(slow.iter().any(|l| l.contains("slow_path(cfm)") && l.contains("dst=01:80:c2:00:00:30")), "{slow:#?}");
}

/// Bonds of two members each on two bridges, joined by patch ports, and a port beside each.
fn bonded(mode: &str, lacp: &str) -> SwitchConfig {
    let mut made = config(&["br0 a1@1>b1 a2@2>b2 x@7", "br1 b1@1>a1 b2@2>a2 y@7"]);
    for (bridge, name) in made.bridges.iter_mut().zip(["bond0", "bond1"]) {
        let members = if name == "bond0" { ["a1", "a2"] } else { ["b1", "b2"] };
        let bond = bond(bridge, name, members, mode);
        bond.lacp = lacp.into();
        bond.other_config = pairs("lacp-time=fast bond-rebalance-interval=0");
        let mac = if name == "bond0" { [2, 0, 0, 0, 0, 0xa] } else { [2, 0, 0, 0, 0, 0xb] };
        bridge.hwaddr = Some(mac);
    }
    made
}

#[test]
fn lacp_negotiates_and_a_bond_follows() {
    let s = Scenario::new(&bonded("balance-tcp", "active"));
    pass(&s, now_ms(), 3000);
    for bond in ["bond0", "bond1"] {
        let lacp = s.run_command("lacp/show", &[bond]).unwrap();
        assert_eq!(lacp.matches("current attached").count(), 2, "{lacp}");
        let text = s.run_command("bond/show", &[bond]).unwrap();
        assert_eq!(text.matches(": enabled\n").count(), 2, "{text}");
        assert!(text.contains("bond may use recirculation: yes") && text.contains("lacp_status: negotiated"), "{text}");
    }
    let hidden = s.run_command("bridge/dump-flows", &["br0"]).unwrap();
    assert_eq!(hidden.matches("dp_hash=").count(), 256, "a rule per bucket");
    let status = s.slowpath.status(false);
    assert!(status.interfaces.iter().filter(|i| i.link.lacp_current == Some(true)).count() == 4);
    assert!(status.ports.iter().any(|p| p.name == "bond0" && p.bond_active_mac.is_some_and(|mac| mac != [0; 6])));
    // Gone with the configuration.
    s.slowpath.configure(&config(&["br0 x@7"]));
    assert!(!s.run_command("bridge/dump-flows", &["br0"]).unwrap().contains("dp_hash="));
    assert_eq!(s.run_command("lacp/show", &["bond0"]), Err("no such lacp object".into()));
}

#[test]
fn balance_slb_sends_a_source_by_one_member_and_drops_what_comes_back() {
    let mut wanted = config(&["br0 p1@1 p2@2 x@7"]);
    bond(&mut wanted.bridges[0], "bond0", ["p1", "p2"], "balance-slb");
    let s = Scenario::new(&wanted);
    s.flow_mod("br0", "actions=normal").unwrap();
    let number = |name: &str| s.dp_port(name).0;
    let send = |name: &str, src: &str, dst: &str| {
        s.send(&format!("in_port({}),eth(src={src},dst={dst}),eth_type(0x0800),ipv4(proto=1,frag=no)", number(name)))
    };
    let (host, far) = ("02:00:00:00:00:01", "02:00:00:00:00:99");
    let out = send("x", host, far);
    let by_bond = out.lines().filter(|l| !l.starts_with("100:")).count();
    assert_eq!(by_bond, 1, "flooded by one member: {out}");
    let back = ["p1", "p2"].map(|p| send(p, host, far));
    assert_eq!(back, ["", ""], "the host is on x: its packets come back from the other switch");
    assert_ne!(send("p1", far, host), "");
    let trace = s.run_command("ofproto/trace", &["br0", "in_port=2,dl_dst=ff:ff:ff:ff:ff:ff"]).unwrap();
    assert!(trace.contains("bonding refused admissibility, dropping"), "{trace}");
    assert_eq!(s.run_command("bond/set-active-member", &["bond0", "p2"]), Ok("done".into()));
    assert_eq!(s.run_command("bond/set-active-member", &["bond0", "p2"]), Ok("no change".into()));
    let trace = s.run_command("ofproto/trace", &["br0", "in_port=2,dl_dst=ff:ff:ff:ff:ff:ff"]).unwrap();
    assert!(!trace.contains("refused"), "{trace}");
}

#[test]
fn a_failover_moves_flows_and_tells_the_neighbours() {
    let mut wanted = config(&["br0 p1@1 p2@2 x@7"]);
    bond(&mut wanted.bridges[0], "bond0", ["p1", "p2"], "active-backup");
    let s = Scenario::new(&wanted);
    s.flow_mod("br0", "actions=normal").unwrap();
    let number = |name: &str| s.dp_port(name);
    let packet = format!("in_port({}),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:99),eth_type(0x0800)", number("x").0);
    assert!(s.send(&packet).contains(&format!("{}: ", number("p1").0)));
    s.dp.take_outputs();
    s.dp.set_link(number("p1"), false);
    s.slowpath.run_until_idle(now_ms() + 1);
    let taught: Vec<_> = s.dp.take_outputs();
    assert!(taught.iter().any(|(port, p)| *port == number("p2") && p[6..14] == [2, 0, 0, 0, 0, 1, 0x80, 0x35]), "{taught:?}");
    s.slowpath.settle();
    let out = s.send(&packet);
    assert!(out.contains(&format!("{}: ", number("p2").0)) && !out.contains(&format!("{}: ", number("p1").0)), "{out}");
}

#[test]
fn a_bond_is_a_dependency_of_its_own() {
    use crate::bridge::BundleId;
    use crate::deps::{Deps, Object};
    use crate::world::BridgeId;
    let log = ChangeLog::default();
    let mut deps = Deps::default();
    deps.object(Object::Bundle(BridgeId(1), BundleId(2)));
    let key = flow::Key::ZERO;
    log.object(Object::Bundle(BridgeId(1), BundleId(3)));
    assert!(!log.pending(crate::deps::Revision(0)).concerns(&deps, &(&key, &key)));
    log.object(Object::Bundle(BridgeId(1), BundleId(2)));
    assert!(log.pending(crate::deps::Revision(0)).concerns(&deps, &(&key, &key)));
}

#[test]
fn a_port_of_stp_without_a_link_is_no_way() {
    let mut wanted = config(&["br0 p1@1 p2@2 p3@3"]);
    wanted.bridges[0].stp = true;
    let s = Scenario::new(&wanted);
    s.flow_mod("br0", "actions=output:2,output:3").unwrap();
    let now = pass(&s, now_ms(), 31_000);
    let packet = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x1234)";
    let ports = |s: &Scenario| {
        // The tree's own data units have left before.
        s.dp.take_outputs();
        s.send(packet).lines().filter_map(|l| l.split_once(':')).map(|(port, _)| port.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&s), ["2", "3"]);
    s.dp.set_link(s.dp_port("p2"), false);
    pass(&s, now, 200);
    assert_eq!(ports(&s), ["3"]);
}
