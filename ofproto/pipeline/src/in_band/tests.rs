//! Which rules there are, and for whom.

use super::*;
use crate::router::DeviceAddr;
use crate::scenario::{Scenario, config, controller};

#[test]
fn who_is_reached_through_the_switch() {
    let targets = ["tcp:10.0.0.1", "ssl:10.0.0.2:99", "ptcp:6653", "unix:/x", "tcp:[::1]:1", "tcp:10.0.0.9", "tcp:10.0.0.1:6653"];
    let mut config = BridgeConfig { controllers: targets.map(controller).to_vec(), ..BridgeConfig::default() };
    config.controllers[5].out_of_band = true;
    let found: Vec<String> = remotes(&config).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:6653", "10.0.0.2:99"]);
    config.disable_in_band = true;
    assert!(remotes(&config).is_empty());
}

#[test]
fn rules_come_and_go_with_the_controllers() {
    let mut wanted = config(&["br0 p1@1"]);
    let s = Scenario::new(&wanted);
    let hidden = |s: &Scenario| {
        let text = s.run_command("bridge/dump-flows", &["br0"]).unwrap();
        text.lines().filter(|l| l.contains("priority=1800")).count()
    };
    assert_eq!(hidden(&s), 0);
    wanted.bridges[0].controllers = vec![controller("tcp:240.0.0.1:6653")];
    s.slowpath.configure(&wanted);
    assert_eq!(hidden(&s), 7);
    let text = s.run_command("bridge/dump-flows", &["br0"]).unwrap();
    assert!(text.contains("priority=180007,tcp,nw_dst=240.0.0.1,tp_dst=6653,actions=NORMAL"), "{text}");
    wanted.bridges[0].controllers = vec![controller("tcp:240.0.0.1:6653"), controller("tcp:240.0.0.2:6653")];
    s.slowpath.configure(&wanted);
    assert_eq!(hidden(&s), 11);
    let arp = "in_port=1,arp,arp_op=1,arp_spa=240.0.0.2";
    assert!(s.run_command("ofproto/trace", &["br0", arp]).unwrap().contains("priority 180006"), "above whatever there is");
    wanted.bridges[0].disable_in_band = true;
    s.slowpath.configure(&wanted);
    assert_eq!(hidden(&s), 0);
}

#[test]
fn the_next_hop_is_let_through_once_it_is_known() {
    let mut wanted = config(&["br0 p1@1"]);
    wanted.bridges[0].controllers = vec![controller("tcp:192.0.2.7:6653")];
    let s = Scenario::new(&wanted);
    let run = |command: &str, args: &[&str]| s.run_command(command, args).unwrap();
    let hops = |now: Msec| {
        s.slowpath.run_protocols(now);
        let text = run("bridge/dump-flows", &["br0"]);
        let line = |l: &str| l.split("priority=").nth(1).map(str::to_owned);
        let ours = |l: &&str| l.contains("priority=180003") || l.contains("priority=180004");
        let mut lines: Vec<String> = text.lines().filter(ours).filter_map(line).collect();
        lines.sort();
        lines
    };
    let start = flow::clock::now_ms();
    assert!(hops(start).is_empty());
    let address = DeviceAddr { address: Addr::v4([10, 0, 0, 1]), plen: 96 + 24 };
    s.slowpath.write_world().router.set_addresses("br0", vec![address]);
    run("ovs/route/add", &["192.0.2.0/24", "br0", "10.0.0.254"]);
    assert!(hops(start + 2_000).is_empty(), "the way is known, the router's MAC is not");
    run("tnl/neigh/set", &["br0", "10.0.0.254", "02:00:00:00:00:fe"]);
    assert_eq!(
        hops(start + 4_000),
        [
            "180003,arp,dl_dst=02:00:00:00:00:fe,arp_op=2,actions=NORMAL",
            "180004,arp,dl_src=02:00:00:00:00:fe,arp_op=1,actions=NORMAL"
        ]
    );
    run("tnl/neigh/flush", &[]);
    assert!(hops(start + 6_000).is_empty());
}

#[test]
fn dhcp_replies_reach_the_local_port() {
    let mut wanted = config(&["br0 p1@1"]);
    wanted.bridges[0].controllers = vec![controller("tcp:240.0.0.1:6653")];
    let s = Scenario::new(&wanted);
    s.flow_mod("br0", "actions=drop").unwrap();
    let reply = "in_port=1,udp,udp_src=67,udp_dst=68";
    let text = s.run_command("ofproto/trace", &["br0", reply]).unwrap();
    assert!(text.contains("Datapath actions: 100"), "{text}");
    let text = s.run_command("ofproto/trace", &["br0", "in_port=1,udp,udp_src=67,udp_dst=69"]).unwrap();
    assert!(text.contains("Datapath actions: drop"), "{text}");
}
