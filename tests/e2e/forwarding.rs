//! Packets between containers: NORMAL with learning and VLANs, OpenFlow pipelines, internal and patch ports, large frames.

use crate::rig::{Host, Sniffer, assert_has, assert_lacks, hex, is_stock, number_after, udp_frame, vlan_tagged, wait_until};
use std::time::Duration;

#[test]
fn normal_switch_carries_ipv4_and_ipv6_and_learns() {
    let host = Host::new();
    let (a, b) = host.pair("");
    a.reaches("10.0.0.2");
    a.reaches("fd00::2");
    b.reaches("10.0.0.1");
    let fdb = host.appctl("fdb/show br0");
    assert_has(&fdb, &["port  VLAN  MAC                Age", &a.mac, &b.mac]);
    let line = fdb.lines().find(|l| l.contains(&a.mac)).unwrap();
    assert_eq!(line.split_whitespace().take(3).collect::<Vec<_>>(), ["1", "0", &a.mac]);
}

#[test]
fn learned_addresses_keep_unicast_from_third_parties() {
    let host = Host::new();
    let (a, b) = host.pair("");
    let c = host.attach("br0", "p3", 3, &["10.0.0.3/24"], "");
    a.reaches("10.0.0.2");
    let seen = Sniffer::start(&c.ns, "eth0", "icmp or arp");
    assert_eq!(a.ping("10.0.0.2", 10, ""), 10);
    assert_eq!(a.ping("10.0.0.3", 1, ""), 1);
    seen.expect(&["10.0.0.1 > 10.0.0.3", "ICMP echo request"]);
    assert!(!seen.lines().iter().any(|l| l.contains("10.0.0.2: ICMP")), "{:?}", seen.lines());
    // A station that moves is found at its new place as soon as it speaks.
    let moved = b.mac.clone();
    b.ns.ip("link set eth0 down");
    c.ns.ip(&format!("link set eth0 address {moved}"));
    c.ns.ip("addr add 10.0.0.2/24 dev eth0");
    assert!(c.ping("10.0.0.1", 4, "-I 10.0.0.2") >= 3, "a moved station stays unheard");
    assert_eq!(a.ping("10.0.0.2", 5, ""), 5);
    // Flushed, the table is empty at once.
    a.ns.send_frames("eth0", vec![udp_frame(0xee, 9, b"learn me")]);
    wait_until("an address is learned", || host.appctl("fdb/show br0").contains("02:00:00:00:00:ee"));
    assert_has(&host.appctl("fdb/flush br0"), &["table successfully flushed"]);
    assert_lacks(&host.appctl("fdb/show br0"), &["02:00:00:00:00:ee"]);
}

#[test]
fn access_ports_keep_vlans_apart_and_trunks_carry_tags() {
    let host = Host::new();
    host.bridge("br0", "");
    let a = host.attach("br0", "p1", 1, &["10.0.0.1/24"], "tag=10");
    let b = host.attach("br0", "p2", 2, &["10.0.0.2/24"], "tag=10");
    let c = host.attach("br0", "p3", 3, &["10.0.0.3/24"], "tag=20");
    let t = host.attach("br0", "p4", 4, &[], "trunks=10,30");
    a.reaches("10.0.0.2");
    a.does_not_reach("10.0.0.3");
    c.does_not_reach("10.0.0.1");
    // On the trunk a frame of VLAN 10 has its tag, and one of VLAN 20 does not appear.
    let at_t = Sniffer::start(&t.ns, "eth0", "");
    let at_b = Sniffer::start(&b.ns, "eth0", "udp");
    let at_c = Sniffer::start(&c.ns, "eth0", "udp");
    c.ns.send_frames("eth0", vec![udp_frame(3, 9, b"not among the trunk's")]);
    a.ns.send_frames("eth0", vec![udp_frame(1, 9, b"flooded")]);
    at_t.expect(&["vlan 10", "10.0.0.1.7 > 10.0.0.9.9"]);
    at_b.expect(&["ethertype IPv4 (0x0800)", "10.0.0.1.7 > 10.0.0.9.9"]);
    // Tagged frames from the trunk reach the access ports of their VLAN without a tag; others go nowhere.
    let tagged = |from, vid| vlan_tagged(&udp_frame(from, 8, b"from the trunk"), vid);
    t.ns.send_frames("eth0", vec![tagged(20, 20), tagged(30, 30), udp_frame(40, 8, b"no tag"), tagged(10, 10)]);
    let line = at_b.expect(&["ethertype IPv4 (0x0800)", "10.0.0.10.7 > 10.0.0.8.9"]);
    assert_lacks(&line, &["vlan"]);
    assert_eq!(at_b.lines().len(), 2, "{:?}", at_b.lines());
    assert_eq!(at_c.lines().len(), 0, "{:?}", at_c.lines());
    assert_lacks(&at_t.lines().join("\n"), &["vlan 20", "10.0.0.3.7"]);
    // What an access port sends with a tag is dropped.
    a.ns.send_frames("eth0", vec![vlan_tagged(&udp_frame(1, 7, b"tagged"), 10)]);
    a.reaches("10.0.0.2");
    assert_lacks(&at_b.lines().join("\n"), &["10.0.0.7.9"]);
    // A live change moves the port to another VLAN.
    host.vsctl("set port p3 tag=10");
    c.reaches("10.0.0.1");
    host.vsctl("set port p2 tag=20");
    b.does_not_reach("10.0.0.1");
}

#[test]
fn native_vlan_modes_tag_as_they_say() {
    let host = Host::new();
    host.bridge("br0", "");
    let a = host.attach("br0", "p1", 1, &["10.0.0.1/24"], "tag=10");
    let n = host.attach("br0", "p2", 2, &["10.0.0.2/24"], "tag=10 vlan_mode=native-untagged");
    let g = host.attach("br0", "p3", 3, &[], "tag=10 vlan_mode=native-tagged");
    a.reaches("10.0.0.2");
    n.reaches("10.0.0.1");
    let seen = Sniffer::start(&g.ns, "eth0", "");
    host.appctl("fdb/flush br0");
    a.ns.ip("neigh flush dev eth0");
    a.reaches("10.0.0.2");
    seen.expect(&["vlan 10", "ARP", "who-has 10.0.0.2"]);
}

#[test]
fn pipeline_of_tables_rewrites_counts_and_decrements() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    a.does_not_reach("10.0.0.2");
    host.flows(
        "br0",
        "table=0,priority=10,arp,actions=NORMAL\n\
         table=0,priority=10,ip,actions=load:0x5->NXM_NX_REG3[0..7],write_metadata:0x1234,goto_table:1\n\
         table=1,priority=5,ip,reg3=5,metadata=0x1234,nw_dst=10.0.0.99,actions=mod_nw_dst:10.0.0.2,dec_ttl,resubmit(,2)\n\
         table=1,priority=5,ip,reg3=5,nw_src=10.0.0.2,actions=mod_nw_src:10.0.0.99,set_field:77->reg9,goto_table:2\n\
         table=2,ip,nw_dst=10.0.0.2,actions=output:2\n\
         table=2,reg9=77,actions=write_actions(output:1)\n",
    );
    a.knows("10.0.0.99", &b.mac);
    let seen = Sniffer::start(&b.ns, "eth0", "icmp");
    assert_eq!(a.ping("10.0.0.99", 5, "-t 30"), 5);
    seen.expect(&["10.0.0.1 > 10.0.0.2", "ttl 29"]);
    wait_until("rules have counted", || host.packets("br0", &["table=2", "nw_dst=10.0.0.2"]) == 5);
    assert_eq!(host.packets("br0", &["table=2", "reg9=0x4d"]), 5);
    // TTL 1 is not forwarded by dec_ttl.
    assert_eq!(a.ping("10.0.0.99", 1, "-t 1"), 0);
    assert_eq!(host.packets("br0", &["table=2", "nw_dst=10.0.0.2"]), 5);
}

#[test]
fn vlan_tags_are_pushed_and_popped() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &[], "");
    host.flows(
        "br0",
        "in_port=1,dl_vlan=0xffff,actions=push_vlan:0x8100,set_field:4196->vlan_vid,set_field:3->vlan_pcp,output:3\n\
         in_port=3,dl_vlan=200,actions=pop_vlan,output:2\n\
         in_port=2,actions=push_vlan:0x8100,mod_vlan_vid:5,push_vlan:0x88a8,mod_vlan_vid:6,output:3\n",
    );
    let at_c = Sniffer::start(&c.ns, "eth0", "");
    a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"tag me")]);
    at_c.expect(&["vlan 100, p 3", "10.0.0.1.7 > 10.0.0.2.9"]);
    let at_b = Sniffer::start(&b.ns, "eth0", "");
    c.ns.send_frames("eth0", vec![vlan_tagged(&udp_frame(3, 2, b"untag me"), 200)]);
    let line = at_b.expect(&["10.0.0.3.7 > 10.0.0.2.9"]);
    assert_lacks(&line, &["vlan"]);
    b.ns.send_frames("eth0", vec![udp_frame(2, 3, b"twice")]);
    at_c.expect(&["802.1Q-QinQ", "vlan 6", "vlan 5", "10.0.0.2.7 > 10.0.0.3.9"]);
}

#[test]
fn mpls_labels_are_pushed_and_popped() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &[], "");
    host.flows(
        "br0",
        "in_port=1,ip,actions=push_mpls:0x8847,set_field:300->mpls_label,output:3\n\
         in_port=3,mpls,mpls_label=300,actions=pop_mpls:0x0800,output:2\n",
    );
    let at_c = Sniffer::start(&c.ns, "eth0", "");
    let at_b = Sniffer::start(&b.ns, "eth0", "");
    let frame = udp_frame(1, 2, b"labelled");
    a.ns.send_frames("eth0", vec![frame.clone()]);
    at_c.expect(&["MPLS", "label 300"]);
    let mut labelled = frame[..12].to_vec();
    labelled.extend([0x88, 0x47, 0x00, 0x12, 0xc1, 64]);
    labelled.extend(&frame[14..]);
    c.ns.send_frames("eth0", vec![labelled]);
    at_b.expect(&["ethertype IPv4", "10.0.0.1.7 > 10.0.0.2.9"]);
}

#[test]
fn bridges_own_port_is_a_netdev() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.ns.ip("addr add 10.0.0.254/24 dev br0");
    host.ns.ip("link set br0 up");
    a.reaches("10.0.0.254");
    assert_eq!(host.column("interface", "br0", "ofport"), "65534");
    // Another internal port, on VLAN 0 too, and its removal.
    host.vsctl("add-port br0 in1 -- set interface in1 type=internal");
    host.ns.ip("addr add 10.0.0.253/24 dev in1");
    host.ns.ip("link set in1 up");
    a.reaches("10.0.0.253");
    let mac = host.column("interface", "in1", "mac_in_use");
    assert_has(&host.ns.ip("link show in1"), &[&mac]);
    host.vsctl("del-port in1");
    wait_until("the internal port is gone", || !host.ns.ip("-o link").contains("in1"));
    a.reaches("10.0.0.254");
}

#[test]
fn patch_ports_join_two_bridges() {
    let host = Host::new();
    host.bridge("br0", "");
    host.bridge("br1", "");
    let a = host.attach("br0", "p1", 1, &["10.0.0.1/24"], "");
    let _b = host.attach("br1", "p2", 2, &["10.0.0.2/24"], "");
    a.does_not_reach("10.0.0.2");
    host.vsctl(
        "add-port br0 to1 -- set interface to1 type=patch options:peer=to0 ofport_request=10 \
         -- add-port br1 to0 -- set interface to0 type=patch options:peer=to1 ofport_request=11",
    );
    a.reaches("10.0.0.2");
    assert_has(&host.appctl("dpif/show"), &["br0:", "br1:", "to1 10/none: (patch: peer=to0)", "to0 11/none: (patch: peer=to1)"]);
    // Both sides count.
    wait_until("patch ports have counted", || {
        let ports = host.ofctl("dump-ports br1 to0");
        number_after(&ports, "rx pkts=").unwrap() >= 6
    });
    host.vsctl("del-port to0");
    a.does_not_reach("10.0.0.2");
}

#[test]
fn jumbo_frames_pass_unharmed() {
    let host = Host::new();
    let (a, b) = host.pair("");
    for container in [&a, &b] {
        container.ns.ip("link set eth0 mtu 9000");
        host.ns.ip(&format!("link set {} mtu 9000", container.device));
    }
    wait_until("the MTU is in the database", || host.column("interface", "p1", "mtu") == "9000");
    a.reaches("10.0.0.2");
    assert_eq!(a.ping("10.0.0.2", 5, "-M do -s 8972"), 5);
    assert_eq!(a.ping("10.0.0.2", 5, "-M do -s 4000"), 5);
}

#[test]
fn mtu_request_sets_the_internal_ports_mtu() {
    let host = Host::new();
    host.bridge("br0", "");
    host.vsctl("set interface br0 mtu_request=1400");
    wait_until("the device has the MTU", || host.ns.ip("link show br0").contains("mtu 1400"));
    wait_until("the column says so", || host.column("interface", "br0", "mtu") == "1400");
}

#[test]
fn packet_outs_go_where_they_say() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let at_a = Sniffer::start(&a.ns, "eth0", "udp");
    let at_b = Sniffer::start(&b.ns, "eth0", "udp");
    let frame = hex(&udp_frame(9, 2, b"from the controller"));
    host.ofctl(&format!("packet-out br0 in_port=controller,packet={frame},actions=output:2"));
    at_b.expect(&["10.0.0.9.7 > 10.0.0.2.9"]);
    host.flows("br0", "udp,actions=mod_nw_src:10.0.0.77,output:1\n");
    host.ofctl(&format!("packet-out br0 in_port=2,packet={frame},actions=TABLE"));
    at_a.expect(&["10.0.0.77.7 > 10.0.0.2.9"]);
}

#[test]
fn groups_replicate_and_choose() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &[], "");
    host.ofctl("add-group br0 group_id=1,type=all,bucket=output:2,bucket=mod_vlan_vid:9,output:3");
    host.ofctl("add-group br0 group_id=2,type=indirect,bucket=output:3");
    host.ofctl("add-group br0 group_id=3,type=select,bucket=output:2,bucket=output:3");
    host.ofctl("add-group br0 group_id=4,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3");
    let at_b = Sniffer::start(&b.ns, "eth0", "udp or vlan");
    let at_c = Sniffer::start(&c.ns, "eth0", "udp or vlan");
    host.flows("br0", "in_port=1,actions=group:1\n");
    a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"all")]);
    at_b.expect(&["10.0.0.1.7 > 10.0.0.2.9"]);
    at_c.expect(&["vlan 9", "10.0.0.1.7 > 10.0.0.2.9"]);
    host.flows("br0", "in_port=1,actions=group:2\n");
    a.ns.send_frames("eth0", vec![udp_frame(1, 5, b"indirect")]);
    at_c.expect(&["10.0.0.1.7 > 10.0.0.5.9"]);
    // A dead watched port hands over to the next bucket.
    host.flows("br0", "in_port=1,actions=group:4\n");
    a.ns.send_frames("eth0", vec![udp_frame(1, 6, b"first")]);
    at_b.expect(&["10.0.0.1.7 > 10.0.0.6.9"]);
    b.ns.ip("link set eth0 down");
    wait_until("the switch sees the link go down", || host.column("interface", "p2", "link_state") == "down");
    a.ns.send_frames("eth0", vec![udp_frame(1, 7, b"second")]);
    at_c.expect(&["10.0.0.1.7 > 10.0.0.7.9"]);
    wait_until("groups have counted", || {
        let stats = host.ofctl("dump-group-stats br0 group_id=1");
        number_after(&stats, "packet_count=") == Some(1)
    });
}

#[test]
fn select_groups_spread_flows_and_keep_each_on_one_bucket() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &[], "");
    host.ofctl("add-group br0 group_id=3,type=select,bucket=output:2,bucket=output:3");
    host.flows("br0", "in_port=1,actions=group:3\n");
    let at_b = Sniffer::start(&b.ns, "eth0", "udp");
    let at_c = Sniffer::start(&c.ns, "eth0", "udp");
    // The default selection hashes L2 addresses and L3: each destination is a flow.
    for _ in 0..3 {
        a.ns.send_frames("eth0", (10..74).map(|to| udp_frame(1, to, b"spread")).collect());
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_until("all have arrived", || at_b.lines().len() + at_c.lines().len() == 192);
    let (at_b, at_c) = (at_b.lines(), at_c.lines());
    assert!(at_b.len() >= 24 && at_c.len() >= 24, "{} against {}", at_b.len(), at_c.len());
    assert!(
        at_b.len().is_multiple_of(3) && at_c.len().is_multiple_of(3),
        "a flow changed its bucket: {} {}",
        at_b.len(),
        at_c.len()
    );
}

#[test]
fn meters_drop_what_is_too_much() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.ofctl("add-meter br0 meter=1,pktps,burst,stats,band=type=drop,rate=10,burst_size=10");
    host.flows("br0", "in_port=1,actions=meter:1,output:2\n");
    let at_b = Sniffer::start(&b.ns, "eth0", "udp");
    a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"metered"); 200]);
    wait_until("the meter has counted", || {
        let stats = host.ofctl("meter-stats br0 meter=1");
        number_after(&stats, "packet_in_count:") == Some(200)
    });
    let passed = at_b.lines().len();
    assert!((5..=25).contains(&passed), "{passed} of 200 passed a meter of 10 and a burst of 10");
    let stats = host.ofctl("meter-stats br0 meter=1");
    let dropped = number_after(&stats, "0: packet_count:").unwrap();
    assert_eq!(dropped + passed as u64, 200, "{stats}");
}

#[test]
fn learn_action_answers_with_a_rule() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.flows(
        "br0",
        "table=0,actions=learn(table=1,hard_timeout=60,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)\n\
         table=1,priority=0,actions=flood\n",
    );
    a.reaches("10.0.0.2");
    let flows = host.ofctl("dump-flows br0 table=1");
    assert_has(&flows, &[&format!("dl_dst={} actions=output:1", a.mac), &format!("dl_dst={} actions=output:2", b.mac)]);
}

#[test]
fn rules_by_tcp_flags_ports_and_prefixes_separate_streams() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.flows(
        "br0",
        "priority=50,udp,tp_dst=9,nw_src=10.0.0.0/31,actions=output:2\n\
         priority=40,udp,tp_dst=0x8/0xfff8,actions=drop\n\
         priority=1,actions=NORMAL\n",
    );
    let at_b = Sniffer::start(&b.ns, "eth0", "udp");
    let mut other = udp_frame(1, 2, b"other port");
    other[37] = 10;
    let mut elsewhere = udp_frame(1, 2, b"third port");
    elsewhere[37] = 16;
    a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"by prefix"), udp_frame(4, 2, b"not by prefix"), other, elsewhere]);
    at_b.expect(&["10.0.0.1.7 > 10.0.0.2.9"]);
    at_b.expect(&["10.0.0.1.7 > 10.0.0.2.16"]);
    let lines = at_b.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    // The megaflows' masks are as wide as the rules allow and never wider.
    let flows = host.appctl("dpctl/dump-flows -m");
    assert!(
        flows.lines().any(|l| l.contains("/0,dst=9)") && l.contains("/255.255.255.254,") && l.contains("actions:p2")),
        "{flows}"
    );
}

#[test]
fn mirrors_copy_what_they_select() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    let m = host.attach("br0", "p3", 3, &[], "");
    host.vsctl(
        "-- --id=@p get port p1 -- --id=@out get port p3 \
         -- --id=@m create mirror name=m select_src_port=@p output_port=@out -- set bridge br0 mirrors=@m",
    );
    let at_m = Sniffer::start(&m.ns, "eth0", "icmp");
    a.reaches("10.0.0.2");
    at_m.expect(&["10.0.0.1 > 10.0.0.2", "ICMP echo request"]);
    assert!(!at_m.lines().iter().any(|l| l.contains("10.0.0.2 > 10.0.0.1")), "replies are not selected");
    // Counters come to the database every five seconds.
    let counted = || number_after(&host.column("mirror", "m", "statistics"), "tx_packets=").unwrap_or(0);
    wait_until("the copies are counted", || counted() >= 6);
    if is_stock() {
        return;
    }
    // Debian's tools do not know the column.
    let filter = |text: &str| {
        let update = format!(r#"{{"op":"update","table":"Mirror","where":[],"row":{{"filter":"{text}"}}}}"#);
        host.tool("ovsdb-client", &format!(r#"transact unix:{} ["Open_vSwitch",{update}]"#, host.file("db.sock").display()));
        // Returns when the switch has taken up what is in the database.
        host.vsctl(&format!("set bridge br0 external_ids:filter={}", text.replace([',', '='], "-")));
    };
    filter("icmp,icmp_type=13");
    let before = at_m.lines().len();
    a.reaches("10.0.0.2");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(at_m.lines().len(), before, "requests of echo are not those of time stamps");
    filter("icmp,in_port=p1,nw_dst=10.0.0.2");
    a.reaches("10.0.0.2");
    wait_until("what matches is copied again", || at_m.lines().len() > before);
}

#[test]
fn fragments_follow_the_bridges_handling() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    host.flows("br0", "priority=1,actions=NORMAL\n");
    assert_eq!(a.ping("10.0.0.2", 2, "-s 4000"), 2);
    assert_has(&host.ofctl("get-frags br0"), &["normal"]);
    host.ofctl("set-frags br0 drop");
    assert_eq!(a.ping("10.0.0.2", 2, "-s 4000"), 0);
    assert_eq!(a.ping("10.0.0.2", 2, ""), 2);
    host.ofctl("set-frags br0 normal");
    assert_eq!(a.ping("10.0.0.2", 2, "-s 4000"), 2);
}
