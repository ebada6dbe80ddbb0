//! Connections end to end: Debian's ovs-ofctl over `BRIDGE.mgmt`, in every version, against a switch in memory.

mod bundles;

use super::Agents;
use super::replies::port_desc;
use super::requests::packet_out;
use crate::bridge::PortView;
use crate::config::{ControllerConfig, FailMode, SwitchConfig};
use crate::scenario::{Scenario, config, controller};
use flow::seam::LinkFeatures;
use openflow::message::{
    Body, BundleControl, FlowMonitorRequest, PacketOut, PortStatus, Role, RoleRequest, SwitchConfig as SetConfig,
};
use openflow::print::format_message;
use openflow::text::{Names, parse_packet_out};
use openflow::types::Versions;
use openflow::wire::Splitter;
use openflow::{Message, OfError, OfPort, TableId, Version, Xid, decode};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

struct Bench {
    _dir: tempfile::TempDir,
    rundir: std::path::PathBuf,
    scenario: Scenario,
    agents: Arc<Agents>,
    config: SwitchConfig,
    _runtime: tokio::runtime::Runtime,
}

/// A bridge br0 with ports p1 (1) and p2 (2), secure.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let rundir = dir.path().to_owned();
    let mut config = config(&["br0 p1@1 p2@2"]);
    config.rundir = Some(rundir.clone());
    for bridge in &mut config.bridges {
        bridge.fail_mode = FailMode::Secure;
        bridge.protocols = Versions::ALL;
        bridge.datapath_id = Some(0xfedc_ba98_7654_3210);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scenario = Scenario::new(&config);
    let agents = Agents::new(Arc::clone(&scenario.slowpath), runtime.handle().clone());
    agents.configure(&config);
    Bench { _dir: dir, rundir, scenario, agents, config, _runtime: runtime }
}

impl Bench {
    /// Runs ovs-ofctl; the argument `BR` is the bridge's socket. Volatile parts of the output are taken out.
    fn ofctl(&self, args: &[&str]) -> String {
        let socket = format!("unix:{}", self.rundir.join("br0.mgmt").display());
        let args: Vec<&str> = args.iter().map(|a| if *a == "BR" { socket.as_str() } else { *a }).collect();
        let output = Command::new("ovs-ofctl")
            .args(["--timeout=10"])
            .args(&args)
            .output()
            .expect("Debian's openvswitch-common is installed (make check installs it)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        tidy(&text)
    }
}

impl Bench {
    /// Sends messages as they are, in OpenFlow 1.3; the errors that come for them.
    fn raw(&self, messages: &[&[u8]]) -> Vec<&'static str> {
        let mut wire = self.wire();
        messages.iter().for_each(|m| wire.stream.write_all(m).unwrap());
        wire.send(Body::EchoRequest(b"end".to_vec()));
        let mut errors = Vec::new();
        wire.until(|body| {
            if let Body::Error(e) = body {
                errors.push(e.error.name());
            }
            matches!(body, Body::EchoReply(data) if data == b"end")
        });
        errors
    }

    /// A connection in OpenFlow 1.3.
    fn wire(&self) -> Wire {
        self.wire_to("br0.mgmt")
    }

    /// The same by another socket.
    fn wire_to(&self, socket: &str) -> Wire {
        let stream = UnixStream::connect(self.rundir.join(socket)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut wire = Wire { stream, splitter: Splitter::default() };
        wire.send(Body::Hello(Versions(1 << 4)));
        wire
    }
}

/// A peer of the switch.
struct Wire {
    stream: UnixStream,
    splitter: Splitter,
}

impl Wire {
    fn send(&mut self, body: Body) {
        let message = Message { version: Version::V13, xid: Xid(1), body }.encode().unwrap();
        self.stream.write_all(&message).unwrap();
    }

    /// Reads messages up to the one that is the last, and gives that.
    fn until(&mut self, mut is_last: impl FnMut(&Body) -> bool) -> Message {
        let mut buffer = [0; 4096];
        loop {
            while let Some(raw) = self.splitter.next_message().unwrap() {
                let message = decode(raw).unwrap();
                if is_last(&message.body) {
                    return message;
                }
            }
            let read = self.stream.read(&mut buffer).expect("more messages within ten seconds");
            assert_ne!(read, 0, "the switch hung up");
            self.splitter.push(&buffer[..read]);
        }
    }

    /// All messages until the switch hangs up.
    fn until_hung_up(&mut self) -> Vec<Body> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the switch hangs up within ten seconds");
        self.splitter.push(&rest);
        let mut heard = Vec::new();
        while let Some(raw) = self.splitter.next_message().unwrap() {
            heard.push(decode(raw).unwrap().body);
        }
        heard
    }
}

/// Without transaction ids, durations and ages.
fn tidy(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = cut(&cut(line, " (xid=", ")"), " duration=", ",");
        lines.push(cut(&line, " idle_age=", ",").trim_end().to_owned());
    }
    lines.join("\n")
}

fn cut(line: &str, from: &str, to: &str) -> String {
    match line.split_once(from) {
        Some((before, rest)) => rest.split_once(to).map_or_else(|| line.to_owned(), |(_, after)| format!("{before}{after}")),
        None => line.to_owned(),
    }
}

#[test]
fn flows_in_every_version() {
    let b = bench();
    for version in ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        let of = |args: &[&str]| b.ofctl(&[&["-O", version], args].concat());
        assert_eq!(
            of(&["add-flow", "BR", "priority=7,tcp,nw_dst=10.0.0.0/8,tp_dst=80,actions=mod_nw_tos:4,output:2"]),
            "",
            "{version}"
        );
        let dump = of(&["--no-stats", "dump-flows", "BR"]);
        let shown = dump.lines().last().unwrap().trim();
        assert!(shown.starts_with("priority=7,tcp,nw_dst=10.0.0.0/8,tp_dst=80 actions="), "{version}: {dump}");
        let aggregate = of(&["dump-aggregate", "BR"]);
        assert!(aggregate.contains("flow_count=1"), "{version}: {aggregate}");
        assert_eq!(of(&["del-flows", "BR", "tcp"]), "", "{version}");
        assert!(!of(&["dump-flows", "BR"]).contains("actions"), "{version}");
    }
}

/// As in OVS 3.1: the rules that every bridge has are told of where their table is named, and not otherwise.
#[test]
fn the_rules_that_every_bridge_has() {
    let b = bench();
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
        let of = |args: &[&str]| b.ofctl(&[&["-O", version], args].concat());
        let flows = |words: &[&str]| -> Vec<String> {
            let text = of(&[&["--no-stats", "dump-flows", "BR"], words].concat());
            text.lines().map(str::trim).filter(|line| line.contains(" actions=")).map(str::to_owned).collect()
        };
        let all = [
            "table=254, priority=2,recirc_id=0 actions=drop",
            "table=254, priority=0,reg0=0x1 actions=controller(reason=)",
            "table=254, priority=0,reg0=0x2 actions=drop",
            "table=254, priority=0,reg0=0x3 actions=drop",
        ];
        assert_eq!(flows(&["table=254"]), all, "{version}");
        assert_eq!(flows(&["table=254,reg0=2"]), all[2..3], "{version}");
        assert_eq!(flows(&["table=254,out_port=CONTROLLER"]), all[1..2], "{version}");
        assert_eq!(flows(&["table=254,cookie=1/-1"]), [""; 0], "{version}");
        assert!(of(&["dump-aggregate", "BR", "table=254"]).contains("flow_count=4"), "{version}");
        assert!(flows(&[]).iter().all(|flow| !flow.contains("table=254")), "{version}");
        for change in [&["add-flow", "BR", "table=254,actions=drop"][..], &["del-flows", "BR", "table=254"]] {
            assert!(of(change).contains("OFPBRC_EPERM"), "{version}");
        }
    }
}

/// As in OVS 3.1: rules may lead to table 254, and even beyond it, where nothing is found, as in any other table; what they learn for it is refused as it is learned.
#[test]
fn rules_that_lead_to_the_last_tables() {
    let b = bench();
    let add = |flow: &str| assert_eq!(b.ofctl(&["-O", "OpenFlow13", "add-flow", "BR", flow]), "", "{flow}");
    add("in_port=1,ip,actions=goto_table:254");
    add("in_port=1,ipv6,actions=goto_table:255");
    add("in_port=1,arp,actions=learn(table=254,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),2");
    let trace = |flow: &str| b.scenario.run_command("ofproto/trace", &["br0", flow, "-generate"]).unwrap();
    let text = trace("in_port=1,ip");
    assert!(text.contains("\n254. recirc_id=0, priority 2\n    drop\n"), "{text}");
    let text = trace("in_port=1,ipv6");
    assert!(text.contains("    goto_table:255\n255. No match, and a \"packet-in\" is called for.\n"), "{text}");
    let text = trace("in_port=1,arp");
    assert!(text.contains(">>>> LEARN action execution failed (OFPBRC_EPERM). <<<<\n    output:2\n"), "{text}");
    // One that matches everything.
    add("in_port=2,actions=learn(table=5,output:NXM_OF_IN_PORT[])");
    let text = trace("in_port=2");
    assert!(text.contains("     -> table=5 priority=32768 actions=output:2\n"), "{text}");
}

#[test]
fn what_the_switch_tells_of_itself() {
    let b = bench();
    let show = b.ofctl(&["show", "BR"]);
    assert!(show.starts_with("OFPT_FEATURES_REPLY: dpid:fedcba9876543210\nn_tables:254, n_buffers:0\n"), "{show}");
    assert!(show.contains("capabilities: FLOW_STATS TABLE_STATS PORT_STATS QUEUE_STATS ARP_MATCH_IP\n"), "{show}");
    assert!(show.contains(" 1(p1): addr:") && show.contains("LOCAL(br0): addr:"), "{show}");
    assert!(show.contains("OFPT_GET_CONFIG_REPLY: frags=normal miss_send_len=0"), "{show}");
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
        let of = |args: &[&str]| b.ofctl(&[&["-O", version], args].concat());
        assert!(of(&["dump-desc", "BR"]).contains("Manufacturer: Nicira, Inc."), "{version}");
        assert!(of(&["dump-ports", "BR"]).contains("3 ports"), "{version}: {}", of(&["dump-ports", "BR"]));
        assert!(of(&["dump-tables", "BR"]).contains("table 0"), "{version}: {}", of(&["dump-tables", "BR"]));
        assert!(of(&["dump-ports-desc", "BR"]).contains("2(p2)"), "{version}");
        assert!(of(&["queue-stats", "BR"]).contains("3 queues"), "{version}: {}", of(&["queue-stats", "BR"]));
    }
    assert!(b.ofctl(&["-O", "OpenFlow13", "dump-table-features", "BR"]).contains("table 0"));
    assert_eq!(b.ofctl(&["ping", "BR", "10"]).lines().count(), 10);
}

/// The features of a link are its speed, its medium and what the device says that it can do.
#[test]
fn what_is_told_of_a_link() {
    let copper = 1 << 11;
    let view = |speed_bps, link| PortView {
        number: OfPort(1),
        name: "p1".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        config: 0,
        state: 4,
        speed_bps,
        full_duplex: Some(true),
        link,
        kind: "system".to_owned(),
    };
    let told = |view: &PortView| {
        let body = Body::PortStatus(Box::new(PortStatus { reason: 2, desc: port_desc(view) }));
        format_message(&Message { version: Version::V13, xid: Xid(0), body }, &Names::default(), 0)
    };
    let head =
        "OFPT_PORT_STATUS (OF1.3) (xid=0x0): MOD: 1(p1): addr:02:00:00:00:00:01\n     config:     0\n     state:      LIVE\n";
    let veth = LinkFeatures { current: copper, ..LinkFeatures::default() };
    let current = "     current:    10GB-FD COPPER\n     speed: 10000 Mbps now, 0 Mbps max\n";
    assert_eq!(told(&view(10_000_000_000, veth)), format!("{head}{current}"));
    let card = LinkFeatures { current: copper | 1 << 13, advertised: 1 << 5 | 1 << 13, supported: 1 << 6 | 1 << 5 | copper };
    let current =
        "     current:    1GB-FD COPPER AUTO_NEG\n     advertised: 1GB-FD AUTO_NEG\n     supported:  1GB-FD 10GB-FD COPPER\n";
    assert_eq!(told(&view(1_000_000_000, card)), format!("{head}{current}     speed: 1000 Mbps now, 10000 Mbps max\n"));
}

#[test]
fn errors_carry_type_and_code() {
    let b = bench();
    let bad_group = b.ofctl(&["-O", "OpenFlow13", "add-flow", "BR", "actions=group:7"]);
    assert!(bad_group.contains("OFPBAC_BAD_OUT_GROUP"), "{bad_group}");
    let overlap =
        ["check_overlap,priority=5,ip,nw_dst=10.0.0.0/8,actions=1", "check_overlap,priority=5,ip,nw_src=10.0.0.0/8,actions=1"];
    assert_eq!(b.ofctl(&["add-flow", "BR", overlap[0]]), "");
    assert!(b.ofctl(&["add-flow", "BR", overlap[1]]).contains("OFPFMFC_OVERLAP"));
    let unknown = b.ofctl(&["-O", "OpenFlow13", "mod-group", "BR", "group_id=3,type=all,bucket=actions=1"]);
    assert!(unknown.contains("OFPGMFC_UNKNOWN_GROUP"), "{unknown}");
    let table = b.ofctl(&["-O", "OpenFlow13", "add-flow", "BR", "table=254,actions=1"]);
    assert!(table.contains("OFPBRC_EPERM") || table.contains("BAD_TABLE_ID"), "{table}");
}

#[test]
fn groups_meters_and_bundles() {
    let b = bench();
    let of = |args: &[&str]| b.ofctl(&[&["-O", "OpenFlow14"], args].concat());
    assert_eq!(of(&["add-group", "BR", "group_id=3,type=select,bucket=weight=5,actions=1,bucket=weight=10,actions=2"]), "");
    let groups = of(&["dump-groups", "BR"]);
    assert!(groups.contains("group_id=3,type=select,bucket=weight:5,actions=output:1"), "{groups}");
    assert_eq!(of(&["add-flow", "BR", "priority=9,actions=group:3"]), "");
    assert!(of(&["dump-group-stats", "BR"]).contains("group_id=3,"), "{}", of(&["dump-group-stats", "BR"]));
    assert_eq!(of(&["del-groups", "BR"]), "");
    assert!(!of(&["dump-flows", "BR"]).contains("group:3"), "rules go with their group");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flows");
    std::fs::write(&file, "add priority=1,in_port=1,actions=2\nadd priority=2,actions=group:99\n").unwrap();
    let path = file.to_str().unwrap();
    let failed = of(&["--bundle", "add-flows", "BR", path]);
    assert!(failed.contains("OFPBAC_BAD_OUT_GROUP") && failed.contains("OFPBFC_MSG_FAILED"), "{failed}");
    assert!(!of(&["dump-flows", "BR"]).contains("in_port=1"), "nothing of a failed bundle stays");
    std::fs::write(&file, "add priority=1,in_port=1,actions=2\nadd priority=2,in_port=2,actions=1\n").unwrap();
    assert_eq!(of(&["--bundle", "add-flows", "BR", path]), "");
    assert_eq!(of(&["--no-stats", "dump-flows", "BR"]).lines().filter(|l| l.contains("in_port")).count(), 2);
}

#[test]
fn modify_and_cookies() {
    let b = bench();
    b.ofctl(&["add-flow", "BR", "cookie=0x1,in_port=1,actions=2"]);
    b.ofctl(&["add-flow", "BR", "cookie=0x2,in_port=2,actions=1"]);
    assert_eq!(b.ofctl(&["mod-flows", "BR", "cookie=0x1/-1,actions=drop"]), "");
    let dump = b.ofctl(&["--no-stats", "dump-flows", "BR"]);
    assert!(dump.contains("cookie=0x1, in_port=1 actions=drop") || dump.contains("in_port=1 actions=drop"), "{dump}");
    assert!(dump.contains("in_port=2 actions=output:1"), "{dump}");
    assert_eq!(b.ofctl(&["--strict", "del-flows", "BR", "in_port=2"]), "");
    assert!(!b.ofctl(&["dump-flows", "BR"]).contains("in_port=2"));
}

#[test]
fn a_standalone_bridge_without_controllers_learns() {
    let mut b = bench();
    assert!(!b.ofctl(&["dump-flows", "BR"]).contains("NORMAL"));
    b.config.bridges[0].fail_mode = FailMode::Standalone;
    b.scenario.slowpath.configure(&b.config);
    b.agents.configure(&b.config);
    assert!(b.ofctl(&["dump-flows", "BR"]).contains("priority=0 actions=NORMAL"));
    b.config.bridges[0].fail_mode = FailMode::Secure;
    b.scenario.slowpath.configure(&b.config);
    b.agents.configure(&b.config);
    assert!(!b.ofctl(&["dump-flows", "BR"]).contains("NORMAL"));
}

/// Found by sending what OVS refuses, too: a message that only switches send is none for a switch, whatever its body; a secondary's request to
/// change something is refused before it is read.
#[test]
fn some_messages_are_refused_unread() {
    let b = bench();
    let bad_packet_in = [4, 10, 0, 9, 0, 0, 0, 1, 0];
    let whole_packet_in = [&[4, 10, 0, 42, 0, 0, 0, 1][..], &[0xff; 34]].concat();
    let flow_reply = [4, 19, 0, 17, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 9];
    assert_eq!(b.raw(&[&bad_packet_in, &whole_packet_in, &flow_reply]), ["OFPBRC_BAD_LEN", "OFPBRC_BAD_TYPE", "OFPBRC_BAD_TYPE"]);
    // Another greeting, with something behind it, and errors: a known one, and one of nobody's.
    let hello = [4, 0, 0, 9, 0, 0, 0, 1, 7];
    let error = [4, 1, 0, 12, 0, 0, 0, 1, 0, 1, 0, 1];
    let of_nobody = [4, 1, 0, 16, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 9];
    assert_eq!(b.raw(&[&hello, &error, &of_nobody]), ["OFPBRC_BAD_TYPE"; 3]);
    // An error that is cut, and the same of another version.
    let cut = [4, 1, 0, 11, 0, 0, 0, 1, 0, 1, 0];
    let of_version = |version: u8, message: &[u8]| [&[version], &message[1..]].concat();
    assert_eq!(b.raw(&[&cut, &of_version(1, &cut)]), ["OFPBRC_BAD_LEN", "OFPBRC_BAD_VERSION"]);
    assert_eq!(b.raw(&[&of_version(1, &error), &of_version(6, &hello)]), ["OFPBRC_BAD_TYPE"; 2]);
    // Echoes of any version, also of those that are not there yet.
    let (ask, answer) = ([1, 2, 0, 9, 0, 0, 0, 1, 7], [6, 3, 0, 8, 0, 0, 0, 1]);
    assert!(b.raw(&[&ask, &answer, &of_version(9, &answer)]).is_empty());
    assert_eq!(b.raw(&[&of_version(0, &ask), &of_version(0, &error)]), ["OFPBRC_BAD_VERSION"; 2]);
    let mut wire = b.wire();
    wire.stream.write_all(&of_version(9, &ask)).unwrap();
    let is_echo = |heard: &[u8]| heard.windows(9).any(|message| message == [9, 3, 0, 9, 0, 0, 0, 1, 7]);
    let mut heard = Vec::new();
    while !is_echo(&heard) {
        let mut buffer = [0; 256];
        let read = wire.stream.read(&mut buffer).expect("an answer within ten seconds");
        assert_ne!(read, 0, "the switch hung up after {heard:02x?}");
        heard.extend_from_slice(&buffer[..read]);
    }
    // What is of nobody's version is answered in the first.
    let mut wire = b.wire();
    wire.stream.write_all(&of_version(9, &error)).unwrap();
    assert_eq!(wire.until(|body| matches!(body, Body::Error(_))).version, Version::V10);
    let mut wire = b.wire();
    wire.stream.write_all(&ask).unwrap();
    let reply = wire.until(|body| matches!(body, Body::EchoReply(data) if data == &[7]));
    assert_eq!(reply.version, Version::V10);
    // A flow-mod of an unknown command, without and with the right to change anything.
    let mut flow_mod = [&[4, 14, 0, 56, 0, 0, 0, 1][..], &[0; 48]].concat();
    (flow_mod[25], flow_mod[49], flow_mod[51]) = (9, 1, 4);
    let role = RoleRequest { role: Role::Secondary, nicira: false, generation_id: Some(1) };
    let role = Message { version: Version::V13, xid: Xid(2), body: Body::RoleRequest(role) }.encode().unwrap();
    assert_eq!(b.raw(&[&flow_mod, &role, &flow_mod]), ["OFPFMFC_BAD_COMMAND", "OFPBRC_IS_SECONDARY"]);
    // Add and delete_strict, for a buffered packet: neither leaves a rule behind.
    (flow_mod[25], flow_mod[35]) = (0, 7);
    let mut delete = flow_mod.clone();
    delete[25] = 4;
    assert_eq!(b.raw(&[&flow_mod, &delete]), ["OFPBRC_BUFFER_UNKNOWN"]);
    // A table that is not for controllers is told before, as OVS does.
    flow_mod[24] = 254;
    assert_eq!(b.raw(&[&flow_mod]), ["OFPBRC_EPERM"]);
    assert!(!b.ofctl(&["-O", "OpenFlow13", "dump-flows", "BR"]).contains("actions"));
}

/// A VLAN's priority needs a frame of Ethernet.
#[test]
fn tags_are_for_frames() {
    let b = bench();
    for flow in ["packet_type=(1,0x86dd),actions=mod_vlan_pcp:6", "in_port=1,actions=write_actions(decap(),mod_vlan_pcp:7)"] {
        let said = b.ofctl(&["-O", "OpenFlow15", "add-flow", "BR", flow]);
        assert!(said.contains("OFPBAC_MATCH_INCONSISTENT"), "{flow}: {said}");
    }
}

/// As OVS 3.1 answers.
#[test]
fn rules_for_hidden_fields_and_in_anothers_place() {
    let b = bench();
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
        for flow in ["recirc_id=5,actions=drop", "dp_hash=0/1,actions=drop"] {
            for command in ["add-flow", "mod-flows"] {
                let said = b.ofctl(&["-O", version, command, "BR", flow]);
                assert!(said.contains("OFPBRC_EPERM"), "{version} {command} {flow}: {said}");
            }
        }
        // That a packet has not been round is the only thing to be told of it.
        assert_eq!(b.ofctl(&["-O", version, "add-flow", "BR", "recirc_id=0,actions=drop"]), "");
        let overlapping = |flow: &str| b.ofctl(&["-O", version, "add-flow", "BR", flow]);
        assert_eq!(overlapping("check_overlap,priority=5,in_port=1,actions=2"), "");
        assert_eq!(overlapping("check_overlap,priority=5,in_port=1,actions=drop"), "", "it replaces the first");
        assert!(overlapping("check_overlap,priority=5,ip,actions=drop").contains("OFPFMFC_OVERLAP"));
        assert_eq!(b.ofctl(&["-O", version, "del-flows", "BR"]), "");
    }
}

/// More than a turn writes, and more than the socket holds: what is left goes out though nothing else happens.
#[test]
fn all_that_waits_for_a_connection_goes_out() {
    const RULES: usize = 5000;
    let b = bench();
    let mut wire = b.wire();
    // A service connection hears of removed flows after it has set a miss_send_len.
    wire.send(Body::SetConfig(SetConfig { flags: 0, miss_send_len: 128 }));
    wire.send(Body::BarrierRequest);
    wire.until(|body| matches!(body, Body::BarrierReply));
    let rules: String = (1..=RULES).map(|i| format!("send_flow_rem,udp,tp_dst={i},actions=drop\n")).collect();
    let file = b.rundir.join("rules");
    std::fs::write(&file, rules).unwrap();
    assert_eq!(b.ofctl(&["--bundle", "add-flows", "BR", file.to_str().unwrap()]), "");
    assert_eq!(b.ofctl(&["del-flows", "BR"]), "");
    let mut removed = 0;
    wire.until(|body| {
        removed += usize::from(matches!(body, Body::FlowRemoved(_)));
        removed == RULES
    });
}

/// Found by FAUCET, which answers a deleted port with flow-mods and takes the errors that a bridge without tables gave it for its own fault:
/// of a bridge that goes, its rules are told, as OVS does, and nothing else; then the connection ends.
#[test]
fn who_controls_a_bridge_that_goes_hears_of_its_rules_alone() {
    let mut b = bench();
    let mut wire = b.wire();
    wire.send(Body::SetConfig(SetConfig { flags: 0, miss_send_len: 128 }));
    wire.send(Body::BarrierRequest);
    wire.until(|body| matches!(body, Body::BarrierReply));
    assert_eq!(b.ofctl(&["add-flow", "BR", "send_flow_rem,in_port=1,actions=2"]), "");
    b.config.bridges.clear();
    b.agents.leave(&b.config);
    b.scenario.slowpath.configure(&b.config);
    b.agents.configure(&b.config);
    let heard = wire.until_hung_up();
    assert!(matches!(&heard[..], [Body::FlowRemoved(told)] if told.reason == crate::flow_mod::removed::DELETE), "{heard:?}");
}

/// As in OVS: who has connected stays when limits change, and goes when the versions do, or the endpoint.
#[test]
fn who_has_connected_goes_when_what_was_agreed_on_does() {
    let mut b = bench();
    let passive = format!("punix:{}", b.rundir.join("own").display());
    b.config.bridges[0].controllers.push(controller(&passive));
    b.agents.configure(&b.config);
    let (mut to_stay, mut to_go) = (b.wire(), b.wire_to("own"));
    let greeted = |wire: &mut Wire| {
        wire.send(Body::EchoRequest(b"here".to_vec()));
        wire.until(|body| matches!(body, Body::EchoReply(data) if data == b"here"));
    };
    greeted(&mut to_stay);
    greeted(&mut to_go);
    b.config.bridges[0].controller_queue_size += 1;
    b.config.bridges[0].controllers[0].rate_limit = Some(300);
    b.agents.configure(&b.config);
    greeted(&mut to_stay);
    greeted(&mut to_go);
    b.config.bridges[0].controllers[0].dscp += 1;
    b.agents.configure(&b.config);
    to_go.until_hung_up();
    to_go = b.wire_to("own");
    greeted(&mut to_go);
    b.config.bridges[0].controllers.clear();
    b.agents.configure(&b.config);
    to_go.until_hung_up();
    greeted(&mut to_stay);
    let socket = || std::fs::metadata(b.rundir.join("br0.mgmt")).unwrap().ino();
    let before = socket();
    b.config.bridges[0].datapath_id = Some(0x77);
    b.scenario.slowpath.configure(&b.config);
    b.agents.configure(&b.config);
    to_stay.until_hung_up();
    assert_eq!(socket(), before, "the door stays, whoever has come by it");
    to_stay = b.wire();
    greeted(&mut to_stay);
    b.config.bridges[0].protocols = Versions(1 << 4);
    b.agents.configure(&b.config);
    to_stay.until_hung_up();
    greeted(&mut b.wire());
}

/// As in OVS: what the database says of a controller that is connected holds from then on, for the same connection.
#[test]
fn settings_are_taken_up_by_living_connections() {
    let mut b = bench();
    let listener = UnixListener::bind(b.rundir.join("controller")).unwrap();
    b.config.bridges[0].controllers.push(controller("unix:controller"));
    b.agents.configure(&b.config);
    let mut wire = Wire { stream: listener.accept().unwrap().0, splitter: Splitter::default() };
    wire.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    wire.send(Body::Hello(Versions(1 << 4)));
    // What it hears unasked once it has been asked so often.
    let hears = |wire: &mut Wire, want: bool| loop {
        wire.send(Body::GetAsyncRequest);
        let reply = wire.until(|body| matches!(body, Body::GetAsyncReply(_))).body;
        if matches!(reply, Body::GetAsyncReply(config) if (config.port_status[0] != 0) == want) {
            return;
        }
    };
    hears(&mut wire, true);
    let conn = b.agents.shared.conns().remove(0);
    // How many packet-ins of a flood wait for the rate limit, if there is one.
    let waiting = || {
        let message = Message { version: Version::V13, xid: Xid(0), body: Body::BarrierReply };
        for _ in 0..200 {
            // Most have to be dropped.
            let _ = conn.outbox.put_packet_in(message.clone(), OfPort(1), false, flow::clock::now_ms());
        }
        conn.outbox.stats().map(|[others, _]| others.queued)
    };
    assert_eq!(waiting(), None);
    let changes: [fn(&mut ControllerConfig); 7] = [
        |c| c.rate_limit = Some(300),
        |c| c.burst_limit = Some(30),
        |c| c.rate_limit = None,
        |c| c.queue_size += 1,
        |c| (c.inactivity_probe_ms, c.max_backoff_ms) = (60_000, 3000),
        |c| c.service = true,
        |c| c.out_of_band = true,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        change(&mut b.config.bridges[0].controllers[0]);
        // It has taken up all that was changed with this.
        let unasked = i % 2 == 1;
        b.config.bridges[0].controllers[0].enable_async = unasked;
        b.agents.configure(&b.config);
        hears(&mut wire, unasked);
        let ControllerConfig { rate_limit, burst_limit, .. } = b.config.bridges[0].controllers[0];
        let (most, waiting) = (rate_limit.map(|rate| burst_limit.unwrap_or(rate / 4) as usize), waiting());
        assert!(waiting.is_some() == most.is_some() && waiting <= most, "{i}: {waiting:?} of {most:?}");
    }
    // Of which kind it is, a connection says for as long as it lasts.
    assert!(b.agents.shared.conns().iter().any(|conn| conn.lock().kind == super::state::Kind::Primary));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it has not come again");
}

/// Queues of port 9 are asked for in parts: one with a body is enough, two are too many, and none comes to an end by itself.
#[test]
fn a_request_comes_in_parts() {
    let b = bench();
    let mut wire = b.wire();
    let mut answer = |parts: &[(u8, &[u8])]| {
        for (more, body) in parts {
            let head = [4, 18, 0, u8::try_from(16 + body.len()).unwrap(), 0, 0, 0, 9, 0, 5, 0, *more, 0, 0, 0, 0];
            wire.stream.write_all(&[&head, *body].concat()).unwrap();
        }
        let Body::Error(told) = wire.until(|body| matches!(body, Body::Error(_))).body else { unreachable!() };
        (told.error, told.data[11], told.data.len())
    };
    let queues = [0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff];
    let (none, too_many) = (OfError::OfpqofcBadPort, OfError::OfpbrcBadStat);
    assert_eq!(answer(&[(1, &queues), (0, &[])]), (none, 1, 24));
    assert_eq!(answer(&[(1, &[]), (0, &queues)]), (none, 0, 24));
    assert_eq!(answer(&[(1, &queues), (0, &queues)]), (too_many, 1, 24), "the first is quoted");
    assert_eq!(answer(&[(1, &[]), (1, &queues)]), (OfError::OfpbrcMultipartRequestTimeout, 1, 24));
}

/// As OVS 3.1 does: who begins without a greeting is left without a word; who knows none of the versions is told of both sides', in its own newest.
#[test]
fn who_cannot_be_understood() {
    let b = bench();
    let heard = |first: &[u8]| {
        let mut wire = Wire { stream: UnixStream::connect(b.rundir.join("br0.mgmt")).unwrap(), splitter: Splitter::default() };
        wire.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        wire.stream.write_all(first).unwrap();
        wire.until_hung_up()
    };
    for first in [[4, 2, 0, 8, 0, 0, 0, 1], [4, 18, 0, 8, 0, 0, 0, 1], [0, 0, 0, 8, 0, 0, 0, 1]] {
        assert!(matches!(heard(&first)[..], [Body::Hello(_)]), "{first:02x?}");
    }
    let foreign = heard(&[4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 2, 0x80]);
    let [Body::Hello(_), Body::Error(told)] = &foreign[..] else { panic!("{foreign:?}") };
    let text = "We support version 0x06 and earlier, you support versions 0x07, 0x09, no common versions.";
    assert_eq!(String::from_utf8_lossy(&told.data), text);
}

/// As a datapath of OVS 3.1 answers.
#[test]
fn a_rate_has_a_unit_and_is_not_nothing() {
    let b = bench();
    let meter = |flags: u8, rate: u8| {
        [&[4, 29, 0, 32, 0, 0, 0, 1, 0, 0, 0, flags, 0, 0, 0, 1, 0, 1, 0, 16, 0, 0, 0, rate][..], &[0; 8]].concat()
    };
    assert_eq!(
        b.raw(&[&meter(0, 9), &meter(4, 9), &meter(1, 0)]),
        ["OFPMMFC_BAD_FLAGS", "OFPMMFC_BAD_FLAGS", "OFPMMFC_BAD_RATE"]
    );
}

/// As ovs-vswitchd.conf.db(5) has it: primary controllers count for fail mode, also those that come to the switch, and service controllers do not.
#[test]
fn who_counts_for_fail_mode() {
    let mut b = bench();
    b.config.bridges[0].fail_mode = FailMode::Standalone;
    let target = |name: &str| controller(&format!("punix:{}", b.rundir.join(name).display()));
    b.config.bridges[0].controllers =
        vec![target("primary"), ControllerConfig { service: true, ..target("service") }, controller("unix:nobody")];
    b.scenario.slowpath.configure(&b.config);
    b.agents.configure(&b.config);
    let came = |wire: &mut Wire| {
        wire.send(Body::BarrierRequest);
        wire.until(|body| matches!(body, Body::BarrierReply));
    };
    let gone = |bench: &Bench, wire: Wire, left: usize| {
        drop(wire);
        while bench.agents.connections() > left {
            std::thread::yield_now();
        }
    };
    // In a far future, so that the clock's own ticks are none.
    let at = |seconds: i64| (1 << 50) + seconds * 1000;
    let has_rule = |bench: &Bench| bench.ofctl(&["dump-flows", "BR"]).contains("in_port=1");
    let mut primary = b.wire_to("primary");
    came(&mut primary);
    assert_eq!(b.ofctl(&["add-flow", "BR", "in_port=1,actions=2"]), "");
    [0, 60].iter().for_each(|s| b.agents.tick(at(*s)));
    assert!(has_rule(&b), "its controller is there");
    let mut service = b.wire_to("service");
    came(&mut service);
    gone(&b, primary, 1);
    // Of which kind it came to be does not matter, but what it is by now.
    [b.config.bridges[0].controllers[1].service, b.config.bridges[0].controllers[0].service] = [false, true];
    b.agents.configure(&b.config);
    [120, 180].iter().for_each(|s| b.agents.tick(at(*s)));
    assert!(has_rule(&b), "the other has become one");
    [b.config.bridges[0].controllers[1].service, b.config.bridges[0].controllers[0].service] = [true, false];
    b.config.bridges[0].controllers.pop();
    b.agents.configure(&b.config);
    [240, 300].iter().for_each(|s| b.agents.tick(at(*s)));
    assert!(has_rule(&b), "none that counts is there, or looked for");
    b.config.bridges[0].controllers.push(controller("unix:nobody"));
    b.agents.configure(&b.config);
    [360, 420].iter().for_each(|s| b.agents.tick(at(*s)));
    assert!(!has_rule(&b), "none that counts is there");
}

/// What is written down of a bridge's wish for misses is what holds when it is written.
#[test]
fn who_changes_its_mind_while_the_bridge_is_busy() {
    let b = bench();
    let _wire = b.wire();
    while b.agents.connections() == 0 {
        std::thread::yield_now();
    }
    let shared = &b.agents.shared;
    let conn = shared.conns().remove(0);
    let noted = || shared.slowpath.read_world().bridges[&conn.bridge].wants_packet_in_on_miss;
    conn.lock().version = Version::V10;
    let say = |miss_send_len| conn.lock().config.miss_send_len = miss_send_len;
    for (first, last) in [(128, 0), (128, 128), (0, 128), (0, 0)] {
        say(first);
        let busy = shared.slowpath.read_world();
        std::thread::scope(|scope| {
            scope.spawn(|| shared.note_miss_listeners(conn.bridge));
            while !shared.slowpath.is_to_be_written() {
                std::thread::yield_now();
            }
            say(last);
            drop(busy);
        });
        assert_eq!(noted(), last != 0, "{first}, then {last}");
    }
}
