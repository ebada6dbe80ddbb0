//! ovs-appctl: every command that issue two asks of the control socket, with its answer, and what wrong words get.

use crate::rig::{Host, assert_has, assert_lacks, is_stock, number_after, udp_frame, wait_until};

#[test]
fn identity_commands_and_logs() {
    let host = Host::new();
    let version = host.appctl("version");
    assert!(version.starts_with("ovs-vswitchd (Open vSwitch) 3."), "{version}");
    let list = host.appctl("list-commands");
    assert!(list.starts_with("The available commands are:\n"), "{list}");
    for command in [
        "coverage/show",
        "dpctl/add-flow",
        "dpctl/del-flows",
        "dpctl/dump-flows",
        "dpctl/show",
        "dpif/dump-flows",
        "dpif/show",
        "exit",
        "fdb/flush",
        "fdb/show",
        "list-commands",
        "ofproto/list",
        "ofproto/trace",
        "revalidator/purge",
        "revalidator/wait",
        "upcall/show",
        "version",
        "vlog/list",
        "vlog/set",
    ] {
        assert!(list.lines().any(|l| l.trim().split(' ').next() == Some(command)), "{command} is not listed");
    }
    assert_has(&host.appctl("vlog/list"), &["console", "syslog", "file", "bridge", "ofproto_dpif", "INFO"]);
    host.appctl("vlog/set bridge:file:dbg");
    let list = host.appctl("vlog/list");
    let line = list.lines().find(|l| l.starts_with("bridge ")).unwrap();
    assert!(line.ends_with("DBG"), "{line}");
    let ran = host.try_tool("ovs-appctl", "vlog/set nonsense:file:dbg");
    assert_ne!(ran.code, 0);
    assert_has(&ran.err, &["nonsense"]);
    assert_has(&host.appctl("coverage/show"), &["Event coverage, avg rate over last: 5 seconds, last minute, last hour"]);
    let log = host.log();
    let line = log.lines().next().unwrap();
    // Time, sequence number, module, level, text.
    let parts: Vec<_> = line.split('|').collect();
    assert_eq!((parts.len(), parts[1], parts[2], parts[3]), (5, "00001", "vlog", "INFO"), "{line}");
    host.appctl("vlog/reopen");
}

#[test]
fn wrong_commands_and_words_are_refused() {
    let host = Host::new();
    for (words, error) in [
        ("no/such", "\"no/such\" is not a valid command"),
        ("mdb/show", "\"mdb/show\" command requires at least 1 arguments"),
        ("fdb/show br9", "no such bridge"),
        ("version 1 2", "\"version\" command takes at most 0 arguments"),
        ("dpif/show extra", "\"dpif/show\" command takes at most 0 arguments"),
        ("dpif/dump-flows br9", "no such bridge"),
        ("ofproto/trace br9 in_port=1", "br9"),
    ] {
        let ran = host.try_tool("ovs-appctl", words);
        assert_ne!(ran.code, 0, "{words}");
        assert_has(&ran.err, &[error]);
    }
    assert!(host.is_up());
}

#[test]
fn datapath_commands_show_what_is() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");
    let show = host.appctl("dpif/show");
    assert_has(&show, &["netdev@ovs-netdev: hit:", "missed:", "  br0:\n", "    br0 65534/", "    p1 1/", ": (system)"]);
    let show = host.appctl("dpctl/show");
    assert_has(&show, &["netdev@ovs-netdev:\n", "  lookups: hit:", " missed:", " lost:0", "  flows: ", ": p1\n"]);
    assert!(number_after(&show, "hit:").unwrap() > 0, "{show}");
    assert_has(&host.appctl("dpctl/show -s"), &["RX packets:", "TX packets:"]);
    assert_has(&host.appctl("dpctl/dump-dps"), &["netdev@ovs-netdev"]);
    let flows = host.appctl("dpctl/dump-flows");
    assert_has(&flows, &["recirc_id(0),in_port(", "eth_type(0x0800),ipv4(", ", packets:", ", bytes:", ", used:", ", actions:"]);
    let full = host.appctl("dpctl/dump-flows -m");
    assert_has(&full, &["ufid:", "in_port(p1)", "dp:ovs", "eth_type(0x0800)", "actions:p2"]);
    assert_has(&host.appctl("dpif/dump-flows br0"), &["actions:"]);
    assert_has(&host.appctl("dpif/dump-flows -m br0"), &["ufid:"]);
    // One flow by its name.
    let line = full.lines().find(|l| l.contains("eth_type(0x0800)")).unwrap();
    let ufid = line.split(',').next().unwrap();
    assert_has(&host.appctl(&format!("dpctl/get-flow {ufid}")), &["actions:"]);
    assert_has(
        &host.appctl("upcall/show"),
        &["netdev@ovs-netdev:", "flows         : (current ", "(limit ", "dump duration : ", "ms"],
    );
    host.appctl("revalidator/wait");
    host.appctl("revalidator/purge");
    assert_lacks(&host.appctl("dpctl/dump-flows"), &["eth_type(0x0800)"]);
    a.reaches("10.0.0.2");
    host.appctl("dpctl/del-flows");
    assert_lacks(&host.appctl("dpctl/dump-flows"), &["eth_type(0x0800)"]);
    a.reaches("10.0.0.2");
    assert_eq!(host.appctl("ofproto/list").trim(), "br0");
    assert_has(&host.appctl("bridge/dump-flows br0"), &["n_packets=", "priority=0,actions=NORMAL"]);
    let memory = host.appctl("memory/show");
    assert_has(&memory, &["ports:", "udpif keys:"]);
    // Of what there is none, nothing is said.
    assert!(memory.split_whitespace().all(|object| !object.ends_with(":0")), "{memory}");
}

#[test]
fn datapath_flows_are_added_and_removed_by_hand() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let seen = crate::rig::Sniffer::start(&b.ns, "eth0", "udp");
    let show = host.appctl("dpctl/show");
    let port = |name: &str| {
        let line = show.lines().find(|l| l.contains(&format!(": {name}"))).unwrap_or_else(|| panic!("{name} in {show}"));
        number_after(line, "port ").unwrap()
    };
    let (p1, p2) = (port("p1"), port("p2"));
    let flow = format!("in_port({p1}),eth(),eth_type(0x0800),ipv4(proto=17/0xff),udp(dst=9/0xffff)");
    // By hand is against what the tables say, and stays until the revalidators see it.
    host.appctl(&format!("dpctl/add-flow {flow} {p2}"));
    let listed = host.appctl("dpctl/dump-flows");
    assert_has(&listed, &[&format!("actions:{p2}")]);
    let _ = (a, seen);
    host.appctl("dpctl/del-flows");
    let ran = host.try_tool("ovs-appctl", "dpctl/add-flow in_port(x),nonsense 2");
    assert_ne!(ran.code, 0);
    assert_has(&host.appctl("dpctl/parse-actions 1,2,set(ipv4(ttl=5)),3"), &["1,2,set(ipv4(ttl=5)),3"]);
}

#[test]
fn trace_tells_the_packets_way() {
    let host = Host::new();
    host.bridge("br0", "fail_mode=secure");
    host.loose_port("br0", "p1", 1);
    host.loose_port("br0", "p2", 2);
    host.flows(
        "br0",
        "priority=10,tcp,tp_dst=80,actions=load:1->NXM_NX_REG0[],resubmit(,5)\ntable=5,ip,reg0=1,actions=dec_ttl,output:2\n",
    );
    let text = host.appctl("ofproto/trace br0 in_port=1,tcp,nw_ttl=64,tp_dst=80");
    assert_has(
        &text,
        &[
            "Flow: tcp,in_port=1,",
            "bridge(\"br0\")",
            " 0. tcp,tp_dst=80, priority 10",
            "    load:0x1->NXM_NX_REG0[]",
            "    resubmit(,5)",
            " 5. ip,reg0=0x1, priority 32768",
            "    dec_ttl",
            "    output:2",
            "Final flow: ",
            "Megaflow: recirc_id=0,eth,tcp,in_port=1,",
            "Datapath actions: set(ipv4(ttl=63)),",
        ],
    );
    let text = host.appctl("ofproto/trace br0 in_port=1,udp");
    assert_has(&text, &["No match", "Datapath actions: drop"]);
    let ran = host.try_tool("ovs-appctl", "ofproto/trace br0 in_port=1,nonsense=5");
    assert_ne!(ran.code, 0);
}

#[test]
fn dummy_ports_and_warped_time() {
    let host = Host::with(crate::rig::Setup { db: crate::rig::Db::Embedded, words: "--enable-dummy=override --disable-system" });
    host.vsctl(
        "add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure \
         -- add-port br0 p1 -- set interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set interface p2 type=dummy ofport_request=2",
    );
    host.ofctl("add-flow br0 idle_timeout=30,udp,actions=output:2");
    host.appctl("time/stop");
    let frame = crate::rig::hex(&udp_frame(1, 2, b"by hand"));
    host.appctl(&format!("netdev-dummy/receive p1 {frame}"));
    host.appctl("netdev-dummy/receive p1 in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),ipv4(src=192.168.0.1,dst=192.168.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=8,dst=10)");
    assert_eq!(host.appctl("time/warp 5000").trim(), "warped");
    host.appctl("revalidator/wait");
    assert_eq!(host.packets("br0", &["udp"]), 2);
    assert_has(&host.ofctl("dump-ports br0 p2"), &["tx pkts=2"]);
    host.appctl("time/warp 40000 1000");
    wait_until("the rule has expired", || !host.ofctl("dump-flows br0").contains("udp"));
}

#[test]
fn exit_ends_the_daemon_and_cleanup_takes_its_devices() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");
    assert_has(&host.ns.ip("-o link"), &["br0"]);
    // Whoever has the answer finds nothing of the daemon any more. OVS's names may take a moment longer.
    let exit = |words: &str| {
        let names = ["ovs-vswitchd.pid".to_owned(), format!("ovs-vswitchd.{}.ctl", host.pid())];
        if is_stock() {
            host.end_daemon(words)
        } else {
            drop(host.appctl(&format!("exit {words}")))
        }
        let left: Vec<_> = names.iter().filter(|name| host.file(name).exists()).collect();
        let devices = host.ns.ip("-o link");
        assert!(left.is_empty(), "{left:?}");
        devices
    };
    assert_lacks(&exit("--cleanup"), &["br0"]);
    // And a new one takes up where it ended.
    host.start_daemon();
    wait_until("containers reach each other again", || a.ping("10.0.0.2", 1, "") == 1);
    exit("");
}
