//! Debian's ovsdb-client against the embedded database: what it lists, dumps, watches and changes.

use crate::rig::{Host, Running, assert_has, assert_lacks, wait_until};

#[test]
fn the_client_lists_and_dumps() {
    let host = Host::new();
    host.bridge("br0", "");
    let client = |words: &str| host.tool("ovsdb-client", &format!("--timeout=10 {words}"));
    assert_has(&client("list-dbs"), &["Open_vSwitch", "_Server"]);
    assert_has(&client("list-tables"), &["Bridge", "Port", "Interface", "Controller", "Open_vSwitch", "Flow_Table", "Mirror"]);
    assert_has(&client("list-columns Open_vSwitch Bridge"), &["fail_mode", "datapath_id", "{\"key\":"]);
    assert_has(&client("get-schema-version Open_vSwitch"), &["8."]);
    assert_has(&client("get-schema Open_vSwitch"), &["\"cksum\"", "\"tables\""]);
    let dump = client("dump Open_vSwitch Bridge name datapath_type");
    assert_has(&dump, &["Bridge table", "datapath_type name", "netdev        br0"]);
    assert_has(&client("dump"), &["Open_vSwitch table", "Interface table"]);
}

#[test]
fn the_client_transacts_and_errors_have_their_names() {
    let host = Host::new();
    host.bridge("br0", "");
    let transact = |text: &str| {
        let mut command = host.command("ovsdb-client");
        command.args(["--timeout=10", "transact", text]);
        crate::rig::must(&mut command)
    };
    let text = transact(r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[["name","==","br0"]],"columns":["name"]}]"#);
    assert_eq!(text.trim(), r#"[{"rows":[{"name":"br0"}]}]"#);
    let text = transact(
        r#"["Open_vSwitch",{"op":"update","table":"Bridge","where":[["name","==","br0"]],"row":{"external_ids":["map",[["a","b"]]]}}]"#,
    );
    assert_eq!(text.trim(), r#"[{"count":1}]"#);
    assert_eq!(host.column("bridge", "br0", "external_ids:a"), "b");
    let text = transact(r#"["Open_vSwitch",{"op":"update","table":"Bridge","where":[],"row":{"fail_mode":"nonsense"}}]"#);
    assert_has(&text, &["constraint violation"]);
    let text = transact(r#"["Open_vSwitch",{"op":"select","table":"Nonsense","where":[]}]"#);
    assert_has(&text, &["syntax error", "No table named Nonsense."]);
}

#[test]
fn the_client_watches() {
    let host = Host::new();
    host.bridge("br0", "");
    let log = host.file("watched");
    let file = std::fs::File::create(&log).unwrap();
    let mut command = host.command("ovsdb-client");
    command.args(["monitor", "Open_vSwitch", "Bridge", "name,fail_mode"]).stdout(file);
    let _watch = Running::start(&mut command);
    let text = || std::fs::read_to_string(&log).unwrap();
    wait_until("the first state comes", || text().contains("initial") && text().contains("br0"));
    host.vsctl("set bridge br0 fail_mode=secure");
    wait_until("the change comes", || text().contains("old") && text().contains("new") && text().contains("secure"));
    host.bridge("br1", "");
    wait_until("the insertion comes", || text().contains("insert") && text().contains("br1"));
    host.vsctl("del-br br1");
    wait_until("the deletion comes", || text().contains("delete"));
}

#[test]
fn managers_are_listened_for_and_dialled() {
    let host = Host::new();
    host.vsctl("set-manager ptcp:6640:127.0.0.1");
    wait_until("the database listens", || host.ns.exec("ss -Hltn sport = :6640").contains("6640"));
    assert_has(&host.tool("ovsdb-client", "--timeout=10 list-dbs tcp:127.0.0.1:6640"), &["Open_vSwitch"]);
    host.tool("ovs-vsctl", "--timeout=10 --db=tcp:127.0.0.1:6640 add-br br7 -- set bridge br7 datapath_type=netdev");
    assert_eq!(host.vsctl("list-br"), "br7\n");
    host.vsctl("del-manager");
    wait_until("the door is shut", || !host.ns.exec("ss -Hltn sport = :6640").contains("6640"));
    assert_lacks(&host.log(), &["panicked"]);
}
