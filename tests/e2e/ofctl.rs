//! Debian's ovs-ofctl in each version of OpenFlow against the switch: what it sends is done, what it prints is asserted.

use crate::rig::{Host, Running, Sniffer, assert_has, assert_lacks, hex, line_with, number_after, udp_frame, wait_until};
use std::fs::File;

/// Versions by their name in -O, and the number that `show` prints.
const VERSIONS: &[(&str, u8)] =
    &[("OpenFlow10", 1), ("OpenFlow11", 2), ("OpenFlow12", 3), ("OpenFlow13", 4), ("OpenFlow14", 5), ("OpenFlow15", 6)];

/// A host with bridge br0, all versions allowed, and two ports.
fn host() -> Host {
    let host = Host::new();
    host.bridge("br0", "other_config:datapath-id=00000000000000ab");
    host.loose_port("br0", "p1", 1);
    host.loose_port("br0", "p2", 2);
    host
}

fn ofctl(host: &Host, version: &str, words: &str) -> String {
    host.tool("ovs-ofctl", &format!("--timeout=20 -O{version} {words}"))
}

#[test]
fn show_tells_identity_and_ports() {
    let host = host();
    for &(version, number) in VERSIONS {
        let text = ofctl(&host, version, "show br0");
        assert_has(&text, &["dpid:00000000000000ab", "1(p1): addr:", "2(p2): addr:", "LOCAL(br0): addr:", "n_tables:254"]);
        let reply =
            if number == 1 { "OFPT_FEATURES_REPLY (xid=" } else { &format!("OFPT_FEATURES_REPLY (OF1.{}) (xid=", number - 1) };
        assert_has(&text, &[reply]);
        if number >= 3 {
            assert_has(&ofctl(&host, version, "dump-ports-desc br0 p2"), &["2(p2): addr:"]);
        }
        assert_has(&text, &["OFPT_GET_CONFIG_REPLY", "frags=normal miss_send_len=0"]);
    }
}

#[test]
fn flows_are_added_changed_dumped_and_deleted() {
    let host = host();
    for &(version, number) in VERSIONS {
        let ofctl = |words: &str| ofctl(&host, version, words);
        ofctl("del-flows br0");
        assert_eq!(ofctl("--no-stats dump-flows br0").lines().filter(|l| l.starts_with(' ')).count(), 0);
        ofctl(
            "add-flow br0 cookie=0x1234,idle_timeout=300,priority=7,tcp,nw_dst=10.1.0.0/16,tp_dst=80,actions=mod_nw_dst:10.9.9.9,output:2",
        );
        ofctl("add-flow br0 cookie=0x1235,hard_timeout=500,in_port=p1,dl_vlan=5,actions=strip_vlan,NORMAL");
        std::fs::write(
            host.file("some"),
            "icmp,nw_src=10.1.0.0/16,actions=load:0x7->NXM_NX_REG5[],resubmit(,3)\ntable=3,udp,tp_dst=9,actions=output:1\n\
             table=3,priority=0,actions=drop\n",
        )
        .unwrap();
        ofctl("add-flows br0 some");
        let text = ofctl("--no-stats --sort=priority dump-flows br0");
        // 1.0 prints without names of ports; ofctl sorts fields its own way.
        assert_has(
            &text,
            &[
                "cookie=0x1234, idle_timeout=300, priority=7,tcp,nw_dst=10.1.0.0/16,tp_dst=80 actions=",
                "cookie=0x1235, hard_timeout=500,",
                "table=3, ",
                if number >= 6 { "set_field:0x7->reg5,resubmit(,3)" } else { "load:0x7->NXM_NX_REG5[],resubmit(,3)" },
            ],
        );
        let full = ofctl("dump-flows br0");
        let line = line_with(&full, &["cookie=0x1234"]).unwrap();
        assert_has(line, &["duration=", "table=0", "n_packets=0", "n_bytes=0"]);
        assert_has(&ofctl("dump-aggregate br0"), &["packet_count=0 byte_count=0 flow_count=5"]);
        assert_has(&ofctl("dump-aggregate br0 table=3"), &["flow_count=2"]);
        // Filters of a dump: by cookie, out_port, table and match.
        assert_eq!(ofctl("--no-stats dump-flows br0 cookie=0x1235/-1").matches("cookie=").count(), 1);
        assert_eq!(ofctl("--no-stats dump-flows br0 tcp").matches("priority=7").count(), 1);
        assert_eq!(ofctl("--no-stats dump-flows br0 out_port=1").matches("table=3").count(), 1);
        // Modify keeps the counters' rule and the match; strict is exact.
        ofctl("mod-flows br0 tcp,actions=output:1");
        assert_has(&ofctl("--no-stats dump-flows br0 tcp"), &["actions=output:1"]);
        ofctl("--strict mod-flows br0 priority=7,tcp,nw_dst=10.1.0.0/16,tp_dst=80,actions=drop");
        assert_has(&ofctl("--no-stats dump-flows br0 tcp"), &["actions=drop"]);
        ofctl("--strict del-flows br0 priority=8,tcp,nw_dst=10.1.0.0/16,tp_dst=80");
        assert_has(&ofctl("dump-aggregate br0"), &["flow_count=5"]);
        ofctl("--strict del-flows br0 priority=7,tcp,nw_dst=10.1.0.0/16,tp_dst=80");
        ofctl("del-flows br0 cookie=0x1235/0xffff");
        assert_has(&ofctl("dump-aggregate br0"), &["flow_count=3"]);
        // Replaced and compared as a whole.
        std::fs::write(host.file("whole"), "in_port=1 actions=output:2\npriority=1,ip actions=drop\n").unwrap();
        ofctl("replace-flows br0 whole");
        assert_eq!(ofctl("diff-flows br0 whole"), "");
        assert_has(&ofctl("dump-aggregate br0"), &["flow_count=2"]);
        if number >= 4 {
            std::fs::write(
                host.file("bundle"),
                "add tcp,actions=output:2\ndelete in_port=1\nmodify_strict priority=1,ip,actions=output:1\n",
            )
            .unwrap();
            ofctl("--bundle add-flows br0 bundle");
            let text = ofctl("--no-stats dump-flows br0");
            assert_has(&text, &["priority=1,ip actions=output:1", "tcp actions=output:2"]);
            assert_lacks(&text, &["in_port"]);
        }
    }
}

#[test]
fn bundles_are_all_or_nothing() {
    let host = host();
    host.ofctl("del-flows br0");
    for version in ["OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        ofctl(&host, version, "add-flow br0 priority=3,actions=output:1");
        std::fs::write(host.file("bundle"), "add priority=9,tcp,actions=output:2\ndelete\nadd priority=8,udp,actions=group:77\n")
            .unwrap();
        let ran = host.try_tool("ovs-ofctl", &format!("-O{version} --bundle add-flows br0 bundle"));
        assert_ne!(ran.code, 0, "a group that does not exist");
        assert_has(&ran.err, &["OFPBAC_BAD_OUT_GROUP"]);
        let text = ofctl(&host, version, "--no-stats dump-flows br0");
        assert_has(&text, &["priority=3 actions=output:1"]);
        assert_lacks(&text, &["tcp", "udp"]);
    }
}

#[test]
fn overlap_unknown_groups_and_bad_ports_get_their_errors() {
    let host = host();
    host.ofctl("del-flows br0");
    for &(version, number) in VERSIONS {
        let fails = |words: &str, error: &str| {
            let ran = host.try_tool("ovs-ofctl", &format!("-O{version} {words}"));
            assert_has(&format!("{}{}", ran.out, ran.err), &[error]);
        };
        ofctl(&host, version, "add-flow br0 priority=5,tcp,actions=output:1");
        fails("add-flow br0 check_overlap,priority=5,ip,nw_src=10.0.0.0/8,actions=output:1", "OFPFMFC_OVERLAP");
        fails("mod-port br0 77 down", "couldn't find port `77'");
        if number >= 2 {
            fails("add-flow br0 actions=group:5", "OFPBAC_BAD_OUT_GROUP");
        }
        if number >= 4 {
            fails("add-flow br0 actions=meter:9,output:1", "OFPMMFC_INVALID_METER");
            fails("mod-meter br0 meter=9,kbps,band=type=drop,rate=10", "OFPMMFC_UNKNOWN_METER");
        }
        assert_has(&ofctl(&host, version, "dump-aggregate br0"), &["flow_count=1"]);
    }
}

/// What `show` says of one port.
fn port(text: &str, name: &str) -> String {
    let of_port = |l: &&str| l.starts_with("     ");
    let mut lines = text.lines().skip_while(|l| !l.trim_start().starts_with(name));
    let first = lines.next().unwrap_or_else(|| panic!("no {name} in {text}"));
    std::iter::once(first).chain(lines.take_while(of_port)).collect::<Vec<_>>().join("\n")
}

#[test]
fn ports_are_counted_and_modified() {
    let host = host();
    for &(version, number) in VERSIONS {
        let ofctl = |words: &str| ofctl(&host, version, words);
        let text = ofctl("dump-ports br0");
        assert_has(&text, &["3 ports", "rx pkts=", "tx pkts=", "LOCAL"]);
        let one = ofctl("dump-ports br0 p1");
        assert_has(&one, &["1 ports"]);
        // Only OpenFlow 1.0 has that one.
        if number == 1 {
            ofctl("mod-port br0 p1 no-flood");
            assert_has(&port(&ofctl("show br0"), "1(p1)"), &["NO_FLOOD"]);
            ofctl("mod-port br0 p1 flood");
            assert_lacks(&ofctl("show br0"), &["NO_FLOOD"]);
        }
        ofctl("mod-port br0 p1 no-forward");
        assert_has(&port(&ofctl("show br0"), "1(p1)"), &["NO_FWD"]);
        ofctl("mod-port br0 p1 forward");
        ofctl("mod-port br0 p2 down");
        assert_has(&port(&ofctl("show br0"), "2(p2)"), &["PORT_DOWN"]);
        wait_until("the device is down", || host.ns.ip("link show p2").contains("state DOWN"));
        ofctl("mod-port br0 p2 up");
        assert_lacks(&port(&ofctl("show br0"), "2(p2)"), &["PORT_DOWN"]);
    }
}

#[test]
fn tables_descriptions_and_queues_are_told() {
    let host = host();
    for &(version, number) in VERSIONS {
        let ofctl = |words: &str| ofctl(&host, version, words);
        assert_has(
            &ofctl("dump-desc br0"),
            &["Manufacturer: ", "Hardware: Open vSwitch", "Software: ", "Serial Num: None", "DP Description: "],
        );
        ofctl("del-flows br0");
        ofctl("add-flow br0 table=2,actions=drop");
        assert_has(&ofctl("dump-tables br0"), &["table 2:", "active=1, lookup=", "matched="]);
        assert_has(&ofctl("queue-stats br0"), &["0 queues"]);
        if number >= 4 {
            assert_has(
                &ofctl("dump-table-features br0"),
                &["table 0:", "metadata: match=0xffffffffffffffff write=0xffffffffffffffff"],
            );
        }
        if number >= 5 {
            ofctl("mod-table br0 2 evict");
            assert_has(&ofctl("dump-table-desc br0"), &["eviction=on"]);
            ofctl("mod-table br0 2 noevict");
        }
    }
}

#[test]
fn groups_live_through_their_commands() {
    let host = host();
    for &(version, number) in VERSIONS.iter().filter(|v| v.1 >= 2) {
        let ofctl = |words: &str| ofctl(&host, version, words);
        ofctl("add-group br0 group_id=1,type=select,bucket=weight:3,output:1,bucket=weight:5,output:2");
        ofctl("add-group br0 group_id=2,type=ff,bucket=watch_port:1,output:1");
        assert_has(&ofctl("dump-groups br0"), &["group_id=1,type=select,bucket=", "weight:3", "group_id=2,type=ff,bucket="]);
        let ran = host.try_tool("ovs-ofctl", &format!("-O{version} add-group br0 group_id=1,type=all,bucket=output:1"));
        assert_has(&ran.err, &["OFPGMFC_GROUP_EXISTS"]);
        ofctl("mod-group br0 group_id=1,type=all,bucket=output:2");
        assert_has(&ofctl("dump-groups br0"), &["group_id=1,type=all,bucket="]);
        ofctl("add-flow br0 priority=9,udp,actions=group:1");
        assert_has(&ofctl("dump-group-stats br0 group_id=1"), &["group_id=1,", "ref_count=1,", "packet_count=0,byte_count=0"]);
        if number >= 3 {
            assert_has(&ofctl("dump-group-features br0"), &["Group table:", "Types:  0x", "Capabilities:  0x"]);
        }
        if number >= 6 {
            ofctl("insert-buckets br0 group_id=1,command_bucket_id=last,bucket=bucket_id:7,output:1");
            assert_has(&ofctl("dump-groups br0 1"), &["bucket_id:7"]);
            ofctl("remove-buckets br0 group_id=1,command_bucket_id=7");
            assert_lacks(&ofctl("dump-groups br0 1"), &["bucket_id:7"]);
        }
        // With its group a rule goes.
        ofctl("del-groups br0 group_id=1");
        assert_lacks(&ofctl("dump-flows br0"), &["udp"]);
        ofctl("del-groups br0");
        assert_lacks(&ofctl("dump-groups br0"), &["group_id"]);
    }
}

#[test]
fn meters_live_through_their_commands() {
    let host = host();
    for &(version, _) in VERSIONS.iter().filter(|v| v.1 >= 4) {
        let ofctl = |words: &str| ofctl(&host, version, words);
        ofctl("add-meter br0 meter=3,kbps,stats,band=type=drop,rate=1000");
        assert_has(&ofctl("dump-meters br0"), &["meter=3 kbps stats bands=", "type=drop rate=1000"]);
        ofctl("mod-meter br0 meter=3,pktps,stats,band=type=drop,rate=50");
        assert_has(&ofctl("dump-meter br0 meter=3"), &["meter=3 pktps stats bands=", "rate=50"]);
        assert_has(&ofctl("meter-stats br0 meter=3"), &["meter:3 flow_count:0 packet_in_count:0 byte_in_count:0"]);
        assert_has(&ofctl("meter-features br0"), &["max_meter:", "band_types: drop"]);
        ofctl("add-flow br0 priority=9,udp,actions=meter:3,output:1");
        assert_has(&ofctl("dump-flows br0"), &["meter:3"]);
        ofctl("del-meters br0");
        assert_lacks(&ofctl("dump-meters br0"), &["meter=3"]);
        assert_lacks(&ofctl("dump-flows br0"), &["udp"]);
    }
}

#[test]
fn monitor_shows_packet_ins_and_port_changes() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    for &(version, number) in VERSIONS {
        ofctl(&host, version, "add-flow br0 udp,actions=controller");
        let log = host.file(&format!("monitor-{version}"));
        let mut command = host.command("ovs-ofctl");
        command.args([&format!("-O{version}"), "monitor", "br0", "65534"]).stderr(File::create(&log).unwrap());
        let watch = Running::start(&mut command);
        let text = || std::fs::read_to_string(&log).unwrap();
        // It is heard once its configuration has been taken.
        wait_until("packet-ins arrive", || {
            a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"to the controller")]);
            text().contains("PACKET_IN")
        });
        assert_has(&text(), &["(via action) data_len=59", "nw_src=10.0.0.1,nw_dst=10.0.0.2", "tp_src=7,tp_dst=9"]);
        host.vsctl("add-port br0 in1 -- set interface in1 type=internal");
        wait_until("the port's arrival is told", || text().contains("ADD:") && text().contains("(in1)"));
        host.vsctl("del-port in1");
        wait_until("the port's departure is told", || text().contains("DEL:"));
        if number >= 4 {
            host.ofctl("del-flows br0");
        }
        drop(watch);
    }
}

#[test]
fn snoop_and_probe_and_ping_work() {
    let host = host();
    assert_has(&host.tool("ovs-ofctl", "ping br0 64"), &["64 bytes from br0: xid="]);
    host.tool("ovs-ofctl", "probe br0");
    for &(version, _) in VERSIONS {
        let frame = hex(&udp_frame(1, 2, b"out"));
        ofctl(&host, version, &format!("packet-out br0 in_port=CONTROLLER,packet={frame},actions=output:1"));
        ofctl(
            &host,
            version,
            &format!("packet-out br0 CONTROLLER output:2 {frame}").replace("packet-out br0 CONTROLLER", "packet-out br0 NONE"),
        );
    }
    assert_has(&host.tool("ovs-ofctl", "get-frags br0"), &["normal"]);
    // A flow restricted to versions that the bridge does not allow is refused.
    host.vsctl("set bridge br0 protocols=OpenFlow13");
    wait_until("only 1.3 is spoken", || host.try_tool("ovs-ofctl", "-OOpenFlow10 show br0").code != 0);
    assert_has(&host.ofctl("show br0"), &["OF1.3"]);
}

#[test]
fn counts_of_rules_ports_and_tables_agree_with_the_packets() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.flows("br0", "priority=5,udp,actions=resubmit(,7)\ntable=7,actions=output:2\n");
    let before = |what: &str| number_after(&host.ofctl("dump-ports br0 p2"), what).unwrap();
    let (sent, bytes) = (before("tx pkts="), number_after(&host.ofctl("dump-ports br0 p2"), "bytes=").unwrap());
    let _ = bytes;
    let seen = Sniffer::start(&b.ns, "eth0", "udp");
    a.ns.send_frames("eth0", (0..500_u16).map(|i| udp_frame(1, 2, &i.to_be_bytes())).collect());
    wait_until("all have arrived", || seen.lines().len() == 500);
    wait_until("rules have counted", || host.packets("br0", &["table=7"]) == 500 && host.packets("br0", &["udp"]) == 500);
    let flows = host.ofctl("dump-flows br0 table=7");
    assert_eq!(number_after(&flows, "n_bytes="), Some(500 * 44), "{flows}");
    wait_until("the port has counted", || before("tx pkts=") >= sent + 500);
    let tables = host.ofctl("dump-tables br0");
    assert!(number_after(&tables, "matched=").unwrap() >= 500, "{tables}");
}
