//! What commands say that Open vSwitch 3.1 has not got, against the text of 3.7.1 and 4.0 for the same bridges.

use crate::router::DeviceAddr;
use crate::scenario::{Scenario, config};
use crate::tunnel::Addr;
use serde_json::{Value, json};

fn scenario() -> Scenario {
    let s = Scenario::new(&config(&["br0 p1@1 p3@3", "br-nexthop p2@2"]));
    let address = |text: &str, plen: u8| DeviceAddr { address: Addr::parse(text).unwrap(), plen: plen + 96 };
    s.slowpath.set_device_addresses("br0", vec![address("192.168.9.2", 24), address("192.168.9.3", 24)], true);
    s
}

/// Runs commands, one per line, and compares everything they say.
fn check(s: &Scenario, lines: &str, expect: &str) {
    let mut out = String::new();
    for line in lines.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let args: Vec<&str> = words.collect();
        let said = s.slowpath.command(name, &args).expect("a command").unwrap_or_else(|e| format!("error: {e}"));
        out += said.trim_end_matches('\n');
        out.push('\n');
    }
    assert_eq!(out, expect);
}

fn json_of(s: &Scenario, line: &str) -> Result<Value, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    s.slowpath.command_json(name, &words.collect::<Vec<_>>()).expect("a command with JSON of its own")
}

#[test]
fn tables_of_several_bridges_stand_under_one_heading() {
    let s = scenario();
    let add = "fdb/add br0 p1 0 50:54:00:00:00:05\nfdb/add br0 p3 0 50:54:00:00:00:06";
    check(&s, add, "\n\n");
    check(
        &s,
        "fdb/show br0 br-nexthop\nfdb/show\nfdb/show br0 nosuch",
        " Bridge      Port  VLAN  MAC                Age\n br0            1     0  50:54:00:00:00:05  static\n\
         \x20               3     0  50:54:00:00:00:06  static\n br-nexthop\n\
         \x20Bridge      Port  VLAN  MAC                Age\n br-nexthop\n br0            1     0  50:54:00:00:00:05  static\n\
         \x20               3     0  50:54:00:00:00:06  static\nerror: no such bridge nosuch\n",
    );
    let one = json!([
        {"port": 1, "vlan": 0, "mac": "50:54:00:00:00:05", "static": true},
        {"port": 3, "vlan": 0, "mac": "50:54:00:00:00:06", "static": true},
    ]);
    assert_eq!(json_of(&s, "fdb/show br0"), Ok(one.clone()));
    assert_eq!(json_of(&s, "fdb/show"), Ok(json!({"br0": one, "br-nexthop": []})));
    assert_eq!(json_of(&s, "fdb/show nosuch"), Err("no such bridge".into()));
}

#[test]
fn datapaths_as_json() {
    let bridges = json!({
        "br0": {
            "br0": {"ofport": "65534", "port_no": "100", "type": "dummy-internal"},
            "p1": {"ofport": "1", "port_no": "2", "type": "dummy"},
            "p3": {"ofport": "3", "port_no": "3", "type": "dummy"},
        },
        "br-nexthop": {
            "br-nexthop": {"ofport": "65534", "port_no": "1", "type": "dummy-internal"},
            "p2": {"ofport": "2", "port_no": "4", "type": "dummy"},
        },
    });
    let expect = json!({"dummy@ovs-dummy": {"bridges": bridges, "stats": {"hit": "0", "missed": "0"}}});
    assert_eq!(json_of(&scenario(), "dpif/show"), Ok(expect));
    assert_eq!(json_of(&scenario(), "dpif/show br0"), Err("\"dpif/show\" command takes at most 0 arguments".into()));
}

#[test]
fn routes_name_tables_and_sources() {
    let s = scenario();
    check(
        &s,
        "ovs/route/add 192.168.10.12/32 br0 192.168.9.1 src=192.168.9.3\n\
         ovs/route/add 192.168.10.13/32 br0 src=192.168.9.3\n\
         ovs/route/add 192.168.10.14/32 br0 192.168.11.1 src=192.168.9.3\n\
         ovs/route/add 192.168.10.15/32 br0 192.168.9.1 src=192.168.9.200\n\
         ovs/route/add 192.168.10.16/32 br0 192.168.9.1 src=foo\n\
         ovs/route/add 1.1.foo/24 br0 192.168.9.1\n\
         ovs/route/add 10.1.1.0/24 br0 192.168.9.1 table=11 pkt_mark=3\n\
         ovs/route/show\novs/route/show table=11\novs/route/show table=12\novs/route/show table=x\novs/route/show table=all",
        "OK\nerror: Error while inserting route.\nerror: Error while inserting route.\nerror: Error while inserting route.\n\
         error: Invalid pkt_mark, IP gateway or src_ip\nerror: Invalid 'ip/plen' parameter\nOK\n\
         Route Table:\nUser: 192.168.10.12/32 dev br0 GW 192.168.9.1 SRC 192.168.9.3\n\
         Cached: 192.168.9.0/24 dev br0 SRC 192.168.9.3\nCached: 192.168.9.2/32 dev br0 SRC 192.168.9.2 local\n\
         Cached: 192.168.9.3/32 dev br0 SRC 192.168.9.3 local\n\
         Route Table #11:\nUser: 10.1.1.0/24 MARK 3 dev br0 GW 192.168.9.1 SRC 192.168.9.3\n\
         error: Table 'table=12' not found\nerror: Invalid table format\n\
         User: 10.1.1.0/24 MARK 3 dev br0 GW 192.168.9.1 SRC 192.168.9.3 table 11\n\
         User: 192.168.10.12/32 dev br0 GW 192.168.9.1 SRC 192.168.9.3\n\
         Cached: 192.168.9.0/24 dev br0 SRC 192.168.9.3\nCached: 192.168.9.2/32 dev br0 SRC 192.168.9.2 local\n\
         Cached: 192.168.9.3/32 dev br0 SRC 192.168.9.3 local\n",
    );
    let route = json!({
        "dst": "10.1.1.0", "local": false, "mark": 3, "nexthops": [{"dev": "br0", "gateway": "192.168.9.1"}],
        "prefix": 24, "prefsrc": "192.168.9.3", "table": 11, "user": true,
    });
    assert_eq!(json_of(&s, "ovs/route/show table=11"), Ok(json!([route])));
}

#[test]
fn rules_take_the_place_that_is_free() {
    let s = scenario();
    let added = "ovs/route/rule/add from=192.0.2.10/32 table=11\n";
    check(&s, &format!("{added}ovs/route/rule/add -6 not from=2001:db8::/32 table=12\n{added}"), "OK\nOK\nOK\n");
    check(
        &s,
        "ovs/route/rule/show\novs/route/rule/show -6",
        "Cached: 0: from all lookup local\nUser: 32763: from 192.0.2.10 lookup 11\nUser: 32765: from 192.0.2.10 lookup 11\n\
         Cached: 32766: from all lookup main\nCached: 32767: from all lookup default\n\
         Cached: 0: from all lookup local\nUser: 32764: not from 2001:db8::/32 lookup 12\nCached: 32766: from all lookup main\n",
    );
    // The first of those that are like it goes, and its place is taken again.
    check(
        &s,
        "ovs/route/rule/del from=192.0.2.10/32 table=11\novs/route/rule/del from=192.0.2.10/32 prio=7 table=11",
        "OK\nerror: Failed to delete router rule: 2 (No such file or directory)\n",
    );
    check(&s, added, "OK\n");
    check(
        &s,
        "ovs/route/rule/add -6 table=11\novs/route/rule/add -6 from=all\novs/route/rule/add from=x table=1\n\
         ovs/route/rule/add from=all table=x\novs/route/rule/add from=all foo",
        "error: Invalid 'from' parameter\nerror: Not enough arguments\nerror: Invalid from=ip/plen\nerror: Invalid 'table' format\n\
         error: Invalid 'table' format\n",
    );
    let first = json!({
        "from": "all", "invert": false, "ipv4": false, "lookup": 255, "priority": 0, "src-prefix": 0, "user": false,
    });
    let Ok(Value::Array(rules)) = json_of(&s, "ovs/route/rule/show -6") else { panic!("an array") };
    assert_eq!((rules.len(), &rules[0]), (3, &first));
    assert_eq!(
        (&rules[1]["from"], &rules[1]["src-prefix"], &rules[1]["invert"]),
        (&"2001:db8::".into(), &32.into(), &true.into())
    );
}
