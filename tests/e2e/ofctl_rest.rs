//! The commands of ovs-ofctl(8) that `ofctl` has not: each against the switch, in the versions of OpenFlow that can say it.

use crate::rig::{Host, Running, assert_has, assert_lacks, binary, hex, run, udp_frame, wait_until};
use std::fs::File;
use std::process::Stdio;

/// A host with bridge br0 and two ports.
fn host() -> Host {
    let host = Host::new();
    host.bridge("br0", "other_config:datapath-id=00000000000000ab fail_mode=secure");
    host.loose_port("br0", "p1", 1);
    host.loose_port("br0", "p2", 2);
    host
}

fn ofctl(host: &Host, version: &str, words: &str) -> String {
    host.tool("ovs-ofctl", &format!("--timeout=20 -O{version} {words}"))
}

const ALL: &[&str] = &["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

#[test]
fn fragments_are_treated_as_asked() {
    let host = host();
    for version in ALL {
        for mode in ["drop", "nx-match", "normal"] {
            ofctl(&host, version, &format!("set-frags br0 {mode}"));
            assert_has(&ofctl(&host, version, "get-frags br0"), &[mode]);
        }
    }
    let ran = host.try_tool("ovs-ofctl", "set-frags br0 reassemble");
    assert_ne!(ran.code, 0, "a switch without reassembly says so");
}

#[test]
fn a_bundle_file_mixes_flows_groups_and_packets() {
    let host = host();
    for version in ["OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        ofctl(&host, version, "del-groups br0");
        ofctl(&host, version, "del-flows br0");
        let frame = hex(&udp_frame(1, 2, b"bundled"));
        std::fs::write(
            host.file("mixed"),
            format!(
                "group group_id=1,type=all,bucket=output:1\n\
                 flow add priority=5,udp,actions=group:1\n\
                 group add group_id=2,type=indirect,bucket=output:2\n\
                 flow add priority=6,udp,tp_dst=9,actions=group:2\n\
                 packet-out in_port=CONTROLLER,packet={frame},actions=table\n\
                 flow delete_strict priority=5,udp\n"
            ),
        )
        .unwrap();
        ofctl(&host, version, "bundle br0 mixed");
        let text = ofctl(&host, version, "--no-stats dump-flows br0");
        assert_has(&text, &["priority=6,udp,tp_dst=9 actions=group:2"]);
        assert_lacks(&text, &["priority=5"]);
        assert_has(&ofctl(&host, version, "dump-groups br0"), &["group_id=1,type=all", "group_id=2,type=indirect"]);
        // The packet went by the rules of the bundle before it.
        wait_until("the rule has counted", || host.packets("br0", &["tp_dst=9"]) == 1);
        // One bad message, and nothing of it has happened.
        std::fs::write(host.file("bad"), "flow add priority=7,actions=drop\ngroup add group_id=2,type=all,bucket=output:1\n")
            .unwrap();
        let ran = host.try_tool("ovs-ofctl", &format!("-O{version} bundle br0 bad"));
        assert_ne!(ran.code, 0);
        assert_has(&ran.err, &["OFPGMFC_GROUP_EXISTS"]);
        assert_lacks(&ofctl(&host, version, "--no-stats dump-flows br0"), &["priority=7"]);
    }
}

#[test]
fn groups_come_from_files_and_may_be_created_by_a_change() {
    let host = host();
    for version in &ALL[1..] {
        ofctl(&host, version, "del-groups br0");
        std::fs::write(
            host.file("groups"),
            "group_id=1,type=all,bucket=output:1,bucket=output:2\ngroup_id=2,type=indirect,bucket=output:1\n",
        )
        .unwrap();
        ofctl(&host, version, "add-groups br0 groups");
        assert_eq!(ofctl(&host, version, "dump-groups br0").matches("group_id=").count(), 2);
        let absent = host.try_tool("ovs-ofctl", &format!("-O{version} mod-group br0 group_id=3,type=all,bucket=output:1"));
        assert_has(&absent.err, &["OFPGMFC_UNKNOWN_GROUP"]);
        ofctl(&host, version, "--may-create mod-group br0 group_id=3,type=all,bucket=output:1");
        assert_has(&ofctl(&host, version, "dump-groups br0"), &["group_id=3"]);
        assert_has(&ofctl(&host, version, "dump-group-stats br0"), &["group_id=1,", "group_id=2,", "group_id=3,"]);
    }
}

#[test]
fn tunnel_options_are_mapped_and_used() {
    let host = host();
    // OpenFlow 1.1's own match has no room for them, and ovs-ofctl knows that.
    for version in ALL.iter().filter(|v| **v != "OpenFlow11") {
        ofctl(
            &host,
            version,
            "add-tlv-map br0 {class=0xffff,type=0,len=4}->tun_metadata0,{class=0xffff,type=1,len=8}->tun_metadata1",
        );
        let text = ofctl(&host, version, "dump-tlv-map br0");
        assert_has(&text, &["max option space=", "0xffff", "tun_metadata0", "tun_metadata1"]);
        ofctl(
            &host,
            version,
            "add-flow br0 priority=3,tun_metadata0=0x12340000/0xffff0000,actions=set_field:0x55->tun_metadata1,output:1",
        );
        assert_has(&ofctl(&host, version, "--no-stats dump-flows br0"), &["tun_metadata0=0x12340000/0xffff0000"]);
        let used =
            host.try_tool("ovs-ofctl", &format!("-O{version} del-tlv-map br0 {{class=0xffff,type=0,len=4}}->tun_metadata0"));
        assert_has(&used.err, &["NXTTMFC_INVALID_TLV_DEL"]);
        let full =
            host.try_tool("ovs-ofctl", &format!("-O{version} add-tlv-map br0 {{class=0xffff,type=0,len=4}}->tun_metadata5"));
        assert_has(&full.err, &["NXTTMFC_DUP_ENTRY"]);
        ofctl(&host, version, "del-flows br0");
        ofctl(&host, version, "del-tlv-map br0 {class=0xffff,type=0,len=4}->tun_metadata0");
        assert_lacks(&ofctl(&host, version, "dump-tlv-map br0"), &["tun_metadata0"]);
        ofctl(&host, version, "del-tlv-map br0");
        assert_lacks(&ofctl(&host, version, "dump-tlv-map br0"), &["tun_metadata1"]);
    }
}

#[test]
fn flow_monitors_tell_of_changes() {
    let host = host();
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow14"] {
        host.ofctl("del-flows br0");
        host.ofctl("add-flow br0 priority=1,udp,actions=output:1");
        let log = host.file(&format!("watch-{version}"));
        let mut command = host.command("ovs-ofctl");
        command.args([&format!("-O{version}"), "monitor", "br0", "watch:table=0"]);
        let file = File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let watch = Running::start(&mut command);
        let text = || std::fs::read_to_string(&log).unwrap();
        // Before OpenFlow 1.4 what is there is told as added.
        wait_until("what is there is told", || text().contains("INITIAL") || text().contains("event=ADDED"));
        host.ofctl("add-flow br0 priority=2,tcp,actions=output:2");
        wait_until("an addition is told", || text().lines().any(|l| l.contains("event=ADDED") && l.contains("tcp")));
        host.ofctl("mod-flows br0 tcp,actions=output:1");
        wait_until("a change is told", || text().contains("event=MODIFIED"));
        host.ofctl("del-flows br0 tcp");
        wait_until("a deletion is told", || text().contains("event=DELETED reason=delete"));
        drop(watch);
    }
}

#[test]
fn connections_are_flushed() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    host.flows("br0", "priority=1,actions=NORMAL\npriority=5,icmp,actions=ct(commit,zone=7),NORMAL\n");
    a.reaches("10.0.0.2");
    let zone = || host.appctl("dpctl/dump-conntrack zone=7");
    wait_until("a connection is there", || zone().contains("icmp,orig=(src=10.0.0.1"));
    for (version, words) in [
        ("OpenFlow10", "ct-flush-zone br0 7"),
        ("OpenFlow13", "ct-flush br0 zone=7"),
        ("OpenFlow14", "ct-flush br0 zone=7 ct_nw_src=10.0.0.1,ct_nw_proto=1"),
        ("OpenFlow15", "ct-flush br0"),
    ] {
        a.reaches("10.0.0.2");
        wait_until("a connection is there", || zone().contains("icmp,orig=(src=10.0.0.1"));
        ofctl(&host, version, "ct-flush br0 zone=8");
        assert_has(&zone(), &["icmp"]);
        ofctl(&host, version, words);
        assert_lacks(&zone(), &["orig=(src=10.0.0.1"]);
    }
}

#[test]
fn queues_and_exporters_say_what_is_configured() {
    let host = host();
    for version in ALL {
        assert_has(&ofctl(&host, version, "queue-get-config br0 p1"), &["QUEUE_"]);
        assert_has(&ofctl(&host, version, "queue-stats br0 p1"), &["0 queues"]);
        for words in ["dump-ipfix-bridge br0", "dump-ipfix-flow br0"] {
            let ran = host.try_tool("ovs-ofctl", &format!("-O{version} {words}"));
            assert_has(&ran.out, &["NXST_NOT_CONFIGURED"]);
        }
    }
    host.vsctl("-- set bridge br0 ipfix=@i -- --id=@i create IPFIX targets=\"127.0.0.1:5555\" sampling=1");
    wait_until("the exporter is there", || ofctl(&host, "OpenFlow13", "dump-ipfix-bridge br0").contains("flows="));
}

#[test]
fn sources_are_compared_and_benchmarks_run() {
    let host = host();
    host.bridge("br1", "fail_mode=secure");
    host.ofctl("add-flow br0 priority=4,ip,actions=output:1");
    let ran = host.try_tool("ovs-ofctl", "diff-flows br0 br1");
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert_has(&ran.out, &["-priority=4,ip actions=output:"]);
    host.ofctl("add-flow br1 priority=4,ip,actions=output:1");
    assert_eq!(host.ofctl("diff-flows br0 br1"), "");
    assert_has(&host.tool("ovs-ofctl", "benchmark br0 64 100"), &["Finished in", "packets/s"]);
}

#[test]
fn a_snooper_sees_what_a_controller_says_and_hears() {
    let host = host();
    let mut controller = host.command("ovs-testcontroller");
    controller.args(["--no-chdir", "punix:ctl.sock"]);
    let controller = Running::start(&mut controller);
    wait_until("the controller listens", || host.file("ctl.sock").exists());
    let log = host.file("snooped");
    let mut command = host.command("ovs-ofctl");
    command.args(["snoop", "br0"]).stderr(File::create(&log).unwrap());
    let snooper = Running::start(&mut command);
    host.vsctl(&format!("set-controller br0 unix:{}", host.file("ctl.sock").display()));
    wait_until("the conversation is seen", || std::fs::read_to_string(&log).unwrap().contains("OFPT_FEATURES_REPLY"));
    drop(snooper);
    drop(controller);
}

/// ovs-ofctl of OVS, and ours by that name.
fn both_tools(host: &Host) -> [String; 2] {
    let ours = host.file("ovs-ofctl");
    std::os::unix::fs::symlink(binary("ferrule"), &ours).unwrap();
    ["ovs-ofctl".to_owned(), ours.to_str().unwrap().to_owned()]
}

/// Lines without numbers of messages.
fn without_xids(text: &str) -> Vec<String> {
    let plain = |line: &str| line.split(' ').filter(|word| !word.starts_with("(xid=")).collect::<Vec<_>>().join(" ");
    text.lines().map(plain).collect()
}

#[test]
fn a_monitor_runs_on_in_the_background_and_takes_commands() {
    let host = host();
    let mut said = Vec::new();
    for (n, tool) in both_tools(&host).iter().enumerate() {
        let (socket, file, pid) =
            (host.file(&format!("{n}.ctl")), host.file(&format!("{n}.out")), host.file(&format!("{n}.pid")));
        let words = ["monitor", "br0", "65534", "--detach", "--no-chdir"];
        let mut command = host.command(tool);
        command.args(words).arg(format!("--pidfile={}", pid.display())).arg(format!("--unixctl={}", socket.display()));
        // It keeps its output open: nobody is to wait for the end of that.
        let log = File::create(host.file("monitor.err")).unwrap();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status().unwrap();
        assert!(status.success(), "{tool}");
        let id = std::fs::read_to_string(&pid).unwrap();
        let ask = |words: &[&str]| {
            let ran = run(host.command("ovs-appctl").arg("-t").arg(&socket).args(words));
            format!("{words:?}: {} {} {}", ran.code, ran.out, ran.err.replace(&format!("{n}.ctl"), "N.ctl"))
        };
        let out = file.to_str().unwrap();
        let mut lines: Vec<String> = [
            &["ofctl/set-output-file", out][..],
            &["ofctl/send", "0102000800000001"],
            &["ofctl/send", "0102000800000002", "01020008000000", "0102000800000003"],
            &["ofctl/send", "zz"],
            &["ofctl/send", "010200080000000103"],
            &["ofctl/barrier"],
            &["ofctl/packet-out", "foo"],
            &["ofctl/set-output-file", "/nowhere/x"],
            &["ofctl/block"],
            &["ofctl/unblock"],
            &["vlog/set", "nonsense"],
        ]
        .iter()
        .map(|words| ask(words).replace(&format!("{n}.out"), "N.out"))
        .collect();
        ask(&["ofctl/packet-out", "in_port=1,packet=0001020304050607080910111213,actions=CONTROLLER"]);
        let shown = || std::fs::read_to_string(&file).unwrap();
        wait_until("the packet has come back", || shown().contains("NXT_PACKET_IN2") && shown().ends_with("dl_type=0x1213\n"));
        // What a command says and what the switch answers may change places.
        let mut shown = without_xids(&shown());
        shown.sort();
        lines.extend(shown);
        lines.push(ask(&["exit"]));
        wait_until("it has gone", || !std::path::Path::new(&format!("/proc/{}", id.trim())).exists());
        assert!(!pid.exists() && !socket.exists(), "{tool} left files behind");
        said.push(lines);
    }
    assert_eq!(said[1], said[0]);
}

/// What goes over port 6653 of the host while `what` happens, as a capture.
fn captured(host: &Host, name: &str, what: impl FnOnce()) -> std::path::PathBuf {
    let file = host.file(name);
    let dump =
        Running::start(host.command("tcpdump").args(["-i", "lo", "-U", "-w", file.to_str().unwrap(), "tcp", "port", "6653"]));
    wait_until("it records", || file.exists());
    what();
    // The ten echo replies come behind all that went before them.
    host.tool("ovs-ofctl", "ping tcp:127.0.0.1:6653 77");
    let reply = [3, 0, 8 + 77];
    let replies = || std::fs::read(&file).unwrap().windows(reply.len()).filter(|bytes| **bytes == reply).count();
    wait_until("all is written", || replies() >= 10);
    drop(dump);
    file
}

#[test]
fn captures_of_openflow_are_shown() {
    let host = host();
    host.vsctl("set-controller br0 ptcp:6653:127.0.0.1");
    wait_until("it listens", || host.try_tool("ovs-ofctl", "probe tcp:127.0.0.1:6653").code == 0);
    let [theirs, ours] = both_tools(&host);
    let shown = |tool: &str, words: &[&str], file: &std::path::Path| {
        let ran = run(host.command(tool).args(words).arg(file));
        assert_eq!(ran.code, 0, "{tool} {words:?}: {}", ran.err);
        ran.out
    };
    // OVS's tool frees memory twice where more goes over a connection than this.
    let short = captured(&host, "short.pcap", || drop(host.tool("ovs-ofctl", "probe tcp:127.0.0.1:6653")));
    for words in [&["ofp-parse-pcap"][..], &["--timestamp", "ofp-parse-pcap"], &["parse-pcap"]] {
        // Further on OVS's tool (3.1) says something else from run to run.
        let [theirs, ours] =
            [&theirs, &ours].map(|tool| shown(tool, words, &short).lines().take(40).collect::<Vec<_>>().join("\n"));
        assert_eq!(ours, theirs, "{words:?}");
    }
    // Longer than a segment, and than what is sent at once.
    let flows: String = (0..2000).map(|n| format!("table={},priority={n},tcp,tp_dst={n},actions=1,2\n", n % 3)).collect();
    std::fs::write(host.file("flows"), flows).unwrap();
    let long = captured(&host, "long.pcap", || {
        host.tool("ovs-ofctl", "-OOpenFlow13 add-flows tcp:127.0.0.1:6653 flows");
        host.tool("ovs-ofctl", "-OOpenFlow13 dump-flows tcp:127.0.0.1:6653");
    });
    let text = shown(&ours, &["ofp-parse-pcap"], &long);
    assert_eq!(text.matches("OFPT_FLOW_MOD (OF1.3)").count(), 2000);
    assert_eq!(text.matches("\n cookie=0x0, duration=").count(), 2000);
}
