//! What the commands say, against the text of Open vSwitch 3.1.0 (`ovs-vswitchd --enable-dummy`) for the same bridges.

use super::COMMANDS;
use crate::memory_dp::MemoryDp;
use crate::scenario::{Scenario, config};
use flow::seam::{FlowPut, PutMode};
use flow::{Datapath, DpPort};

/// Two bridges as in the oracle's run.
fn scenario() -> Scenario {
    Scenario::new(&config(&["br0 p1@1 p2@2 pp>pq", "br1 pq>pp"]))
}

/// Runs commands, one per line, and compares everything they say.
fn check(scenario: &Scenario, commands: &[&str], expect: &str) {
    let mut out = String::new();
    for line in commands {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let args: Vec<&str> = words.collect();
        out += &match scenario.slowpath.command(name, &args).expect("a command") {
            Ok(text) => text,
            Err(text) => format!("error: {text}\n"),
        };
    }
    assert_eq!(out, expect);
}

#[test]
fn the_table_is_sorted_and_names_are_unique() {
    assert!(COMMANDS.windows(2).all(|w| w[0].name < w[1].name));
}

#[test]
fn bridges_and_datapaths_are_shown() {
    check(
        &scenario(),
        &["dpif/show", "dpctl/show", "dpctl/dump-dps", "dpif/dump-dps", "ofproto/list"],
        "dummy@ovs-dummy: hit:0 missed:0\n  br0:\n    br0 65534/100: (dummy-internal)\n    p1 1/1: (dummy)\n    p2 2/2: (dummy)\n    \
         pp 3/none: (patch: peer=pq)\n  br1:\n    br1 65534/101: (dummy-internal)\n    pq 1/none: (patch: peer=pp)\n\
         dummy@ovs-dummy:\n  lookups: hit:0 missed:0 lost:0\n  flows: 0\n  port 1: p1 (dummy)\n  port 2: p2 (dummy)\n  \
         port 100: br0 (dummy-internal)\n  port 101: br1 (dummy-internal)\n\
         dummy@ovs-dummy\ndummy@br0\ndummy@br1\nbr0\nbr1\n",
    );
}

#[test]
fn what_is_not_there_gets_ovs_errors() {
    check(
        &scenario(),
        &[
            "dpif/dump-flows nosuch",
            "dpif/dump-flows",
            "dpctl/dump-flows nosuch",
            "dpctl/dump-flows filter=foo=1",
            "dpctl/dump-flows type=foo",
            "dpctl/show nosuch",
            "dpctl/del-dp dummy@dpx",
            "dpctl/add-dp foo@bar",
            "fdb/show nosuch",
            "fdb/add br0 p9 0 50:54:00:00:00:11",
            "fdb/add br0 p1 1 50:54:00:00:00",
            "fdb/del br0 0 50:54:00:00:00:99",
        ],
        "error: no such bridge\nerror: \"dpif/dump-flows\" command requires at least 1 arguments\n\
         error: ovs-vswitchd: datapath not found (Invalid argument)\n\n\
         error: ovs-vswitchd: Failed to parse filter (foo=1: unknown field foo)\n\n\
         error: ovs-vswitchd: Failed to parse type (foo) (Invalid argument)\n\n\
         error: ovs-vswitchd: opening datapath nosuch failed (Address family not supported by protocol)\n\n\
         error: ovs-vswitchd: opening datapath (No such device)\n\n\
         error: ovs-vswitchd: add_dp (Address family not supported by protocol)\n\n\
         error: no such bridge\nerror: software error, odp port is present but no ofp port\nerror: bad MAC address\n\
         error: could not find static mac entry\n\n",
    );
}

#[test]
fn megaflows_are_dumped_in_all_forms() {
    let s = scenario();
    let text = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),ipv4(frag=no)";
    s.run_command("dpctl/add-flow", &[&format!("ufid:00000000-0000-0000-0000-000000000009,{text}"), "2"]).unwrap();
    let terse = "eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),ipv4(frag=no), packets:0, bytes:0, used:never";
    check(
        &s,
        &[
            "dpctl/dump-flows",
            "dpctl/dump-flows --names",
            "dpif/dump-flows br0",
            "dpif/dump-flows br1",
            "dpctl/dump-flows filter=in_port=p2",
        ],
        &format!(
            "flow-dump from the main thread:\nrecirc_id(0),in_port(1),{terse}, actions:2\n\
             flow-dump from the main thread:\nrecirc_id(0),in_port(p1),{terse}, actions:p2\n\
             recirc_id(0),in_port(1),{terse}, actions:2\n"
        ),
    );
    let more = s.run_command("dpctl/dump-flows", &["-m", "type=ovs"]).unwrap();
    assert!(
        more.contains("ufid:00000000-0000-0000-0000-000000000009, ") && more.ends_with("used:never, dp:ovs, actions:p2\n"),
        "{more}"
    );
    check(
        &s,
        &[
            "dpctl/del-flow ufid:00000000-0000-0000-0000-000000000009",
            "dpctl/dump-flows",
            "dpctl/get-flow ufid:00000000-0000-0000-0000-000000000009",
            "dpctl/parse-actions 1,2",
            "dpctl/offload-stats-show",
        ],
        "error: ovs-vswitchd: getting flow (No such file or directory)\n\n1,2\n\
         error: ovs-vswitchd: retrieving offload statistics (Invalid argument)\n\n",
    );
}

#[test]
fn actions_that_come_to_the_same_are_normalized_to_the_same() {
    let s = scenario();
    let flow = "in_port(p1),eth(),eth_type(0x8100),vlan(vid=9,pcp=3),encap(eth_type(0x0800),ipv4())";
    let normal = |actions: &str| s.run_command("dpctl/normalize-actions", &[flow, actions, "p1=1"]).unwrap_or_else(|e| e);
    let one = normal("3,2,pop_vlan,5,push_vlan(tpid=0x88a8,vid=7,pcp=0),4,p1,pop_vlan,push_vlan(vid=9,pcp=3),1");
    let (first, rest) = one.split_once('\n').unwrap();
    assert!(first.starts_with("input flow: ") && first.contains("vlan(vid=9,pcp=3)"), "{first}");
    assert_eq!(
        rest,
        "no vlan: no mpls: 5\n\
         vlan(vid=9,pcp=3): no mpls: 1,2,3\n\
         vlan(tpid=0x88a8,vid=7,pcp=0): no mpls: 1,4\n"
    );
    assert_eq!(one, normal("1,2,3,pop_vlan,5,push_vlan(tpid=0x88a8,vid=7,pcp=0),1,4"));
    assert_eq!(normal("7x"), "ovs-vswitchd: odp_actions_from_string (Invalid argument)\n");
    let bad = s.run_command("dpctl/normalize-actions", &["in_port(1)", "1", "p1"]);
    assert_eq!(bad, Err("ovs-vswitchd: p1: expected NAME=NUMBER\n".to_owned()));
}

#[test]
fn a_datapath_port_gets_another_number_and_keeps_its_openflow_number() {
    let s = scenario();
    let change = |name: &str, number| s.slowpath.change_port_number("ovs-dummy", name, number);
    let numbers = || {
        let world = s.slowpath.read_world();
        let port = world.bridge_named("br0").unwrap().ports.values().find(|p| p.name == "p2").unwrap();
        (port.number.0, port.dp_port.map(|p| p.0))
    };
    let (ofport, before) = numbers();
    assert_eq!(change("p2", 77), Ok(()));
    assert_eq!((numbers(), before != Some(77)), ((ofport, Some(77)), true));
    assert_eq!(change("p2", 77), Err("port number already in use".to_owned()));
    assert_eq!(change("p2", 0), Err("bad port number".to_owned()));
    assert_eq!(change("p99", 5), Err("unknown port".to_owned()));
    assert_eq!(s.slowpath.change_port_number("other", "p2", 5), Err("unknown datapath or not a dummy".to_owned()));
}

#[test]
fn words_that_are_left_out_are_told_of() {
    let s = scenario();
    for (name, args, expect) in [
        ("dpctl/add-flow", ["dummy@ovs-dummy", "drop"].as_slice(), "parsing flow key (syntax error at dummy@ovs-dummy)"),
        ("dpctl/mod-flow", &["dummy@ovs-dummy", "drop"], "parsing flow key (syntax error at dummy@ovs-dummy)"),
        ("dpctl/mod-flow", &["-s", "in_port(1)"], "2 arguments are expected behind the options"),
        ("dpctl/del-flow", &["dummy@ovs-dummy"], "syntax error at dummy@ovs-dummy"),
        ("dpctl/del-flow", &["-s"], "1 arguments are expected behind the options"),
        ("dpctl/get-flow", &["-m"], "1 arguments are expected behind the options"),
    ] {
        let error = s.run_command(name, args).unwrap_err();
        assert!(error.contains(expect), "{name} {args:?}: {error}");
    }
}

#[test]
fn flows_enter_another_datapath() {
    let s = scenario();
    let flow = "in_port(5),eth(),eth_type(0x800),ipv4()";
    let add = format!("dpctl/add-flow dummy@dpx {flow} 5");
    check(
        &s,
        &[
            "dpctl/add-dp dummy@dpx",
            "dpctl/add-if dummy@dpx vif1,type=dummy,port_no=5",
            "dpctl/add-if dummy@dpx vif1,type=dummy",
            &add,
            &add,
            "dpctl/dump-flows dummy@dpx",
            &format!("dpctl/mod-flow dummy@dpx {flow} drop"),
            &format!("dpctl/del-flow dummy@dpx {flow}"),
            &format!("dpctl/del-flow dummy@dpx {flow}"),
            "dpctl/add-flow dummy@dpx in_port(5),eth() foo",
            "dpctl/del-if dummy@dpx vif1",
            "dpctl/del-if dummy@dpx vif1",
            "dpctl/del-dp dummy@dpx",
            "dpctl/dump-dps",
        ],
        "error: ovs-vswitchd: adding vif1 to dummy@dpx failed (File exists)\n\n\
         error: ovs-vswitchd: updating flow table (File exists)\n\n\
         flow-dump from the main thread:\nrecirc_id(0),in_port(5),eth(),eth_type(0x0800), packets:0, bytes:0, used:never, actions:5\n\
         error: ovs-vswitchd: deleting flow (No such file or directory)\nPerhaps you need to specify a UFID?\n\n\
         error: ovs-vswitchd: parsing actions (Invalid argument)\n\n\
         error: ovs-vswitchd: no port named vif1\n\ndummy@ovs-dummy\n",
    );
}

#[test]
fn a_static_mac_stays() {
    check(
        &scenario(),
        &[
            "fdb/add br0 p1 0 50:54:00:00:00:11",
            "fdb/add br0 p2 0 50:54:00:00:00:11",
            "fdb/flush br0",
            "fdb/show br0",
            "fdb/stats-show br0",
            "fdb/del br0 0 50:54:00:00:00:11",
            "fdb/show br0",
            "fdb/stats-clear",
        ],
        "Overriding already existing static entry on 1\ntable successfully flushed\n port  VLAN  MAC                Age\n    2     0  50:54:00:00:00:11  static\n\
         Statistics for bridge \"br0\":\n  Current/maximum MAC entries in the table: 1/8192\n  \
         Current static MAC entries in the table : 1\n  Total number of learned MAC entries     : 0\n  \
         Total number of expired MAC entries     : 0\n  Total number of evicted MAC entries     : 0\n  \
         Total number of port moved MAC entries  : 0\n port  VLAN  MAC                Age\nstatistics successfully cleared\n",
    );
}

#[test]
fn features_are_shown_and_withheld() {
    let s = scenario();
    let shown = s.run_command("dpif/show-dp-features", &["br0"]).unwrap();
    assert_eq!(shown.lines().count(), 26);
    assert!(shown.starts_with("Masked set action: Yes\nTunnel push pop: No\n"));
    check(
        &s,
        &[
            "dpif/set-dp-features br0 sample_nesting 2",
            "dpif/set-dp-features br0 sample_nesting",
            "dpif/set-dp-features br0 sample_nesting 11",
            "dpif/set-dp-features br0 clone maybe",
            "dpif/set-dp-features br0 clone false",
            "dpif/set-dp-features br0 clone",
            "dpif/set-dp-features br0 tnl_push_pop true",
            "dpif/set-dp-features br0 nosuch",
            "dpif/set-dp-features br9",
            "dpif/set-dp-features --force br0 tnl_push_pop true",
            "dpif/set-dp-features --force br0 tnl_push_pop",
            "dpif/set-dp-features --force br0 ct_clear true",
            "dpif/set-dp-features --force br0 sample_nesting 11",
            "dpif/set-dp-features br0 sample_nesting",
            "dpif/set-dp-features --force",
        ],
        "sample_nesting (Sample nesting) : [run time]:2, [boot time]:10\nCan not set value beyond the datapath capability\n\
         Boolean value expected\nclone (Clone action) : [run time]:false, [boot time]:true\n\
         Can not enable features not supported by the datapth\nUnexpected support field\nerror: no such bridge\n\
         tnl_push_pop (Tunnel push pop) : [run time]:true, [boot time]:false\n\
         Can not enable features not supported by the datapth\n\
         sample_nesting (Sample nesting) : [run time]:11, [boot time]:10\nerror: no such bridge\n",
    );
}

#[test]
fn upcalls_and_revalidators_obey() {
    let s = scenario();
    check(
        &s,
        &[
            "upcall/disable-megaflows",
            "upcall/enable-megaflows",
            "upcall/disable-ufid",
            "upcall/enable-ufid",
            "upcall/set-flow-limit 10",
            "revalidator/pause",
            "revalidator/resume",
            "revalidator/wait",
            "revalidator/purge",
        ],
        "megaflows disabled\nmegaflows enabled\nDatapath dumping tersely using UFID disabled\n\
         Datapath dumping tersely using UFID enabled for supported datapaths\nset flow_limit to 10\n",
    );
    let shown = s.run_command("upcall/show", &[]).unwrap();
    assert!(
        shown.starts_with("dummy@ovs-dummy:\n  flows         : (current 0) (avg 0) (max 0) (limit 1000)\n  dump duration : "),
        "{shown}"
    );
    assert!(shown.ends_with("ms\n  ufid enabled : true\n\n  1: (keys 0)\n"), "{shown}");
}

#[test]
fn purging_another_datapath_only_flushes() {
    let dp = MemoryDp::new("dummy");
    let flow =
        flow::Megaflow { ufid: flow::Ufid(1), key: Box::default(), mask: Box::default(), actions: std::sync::Arc::default() };
    dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: true }]);
    assert_eq!(dp.flows_for(&flow::Key { in_port: DpPort(1).0.to_be_bytes(), ..flow::Key::ZERO }).len(), 1);
    dp.flush();
    assert_eq!(dp.stats().flows, 0);
}
