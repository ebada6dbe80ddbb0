//! What the OpenFlow agent does beside flows: flow monitors, continuations, table names and vacancy, TLV tables, fragments, rate
//! limits, forwarded requests. Debian's ovs-ofctl asks, and prints what it got.

use crate::rig::{Host, Running, assert_has, assert_lacks, hex, number_after, udp_frame, wait_until};
use std::fs::File;

fn host() -> Host {
    let host = Host::new();
    host.bridge("br0", "fail_mode=secure");
    host.loose_port("br0", "p1", 1);
    host.loose_port("br0", "p2", 2);
    host
}

/// `ovs-ofctl monitor` with words; what it prints goes to the file.
fn monitor(host: &Host, words: &str, log: &str) -> Running {
    let mut command = host.command("ovs-ofctl");
    let file = File::create(host.file(log)).unwrap();
    command.args(words.split_whitespace()).stdout(file.try_clone().unwrap()).stderr(file);
    Running::start(&mut command)
}

fn read(host: &Host, log: &str) -> String {
    std::fs::read_to_string(host.file(log)).unwrap_or_default()
}

#[test]
fn flow_monitors_tell_every_change_in_every_version() {
    let host = host();
    for version in ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        host.ofctl("del-flows br0");
        host.ofctl("add-flow br0 table=3,udp,actions=output:2");
        let watch = monitor(&host, &format!("-O{version} monitor br0 watch:table=3"), "watched");
        wait_until("the rules that there are come first", || {
            read(&host, "watched").contains("table=3 cookie=0 udp actions=output:2")
        });
        host.ofctl("add-flow br0 table=3,tcp,cookie=7,actions=output:1");
        host.ofctl("add-flow br0 table=4,tcp,actions=output:1");
        host.ofctl("mod-flows br0 table=3,tcp,actions=drop");
        host.ofctl("del-flows br0 table=3");
        wait_until("the last change is told", || read(&host, "watched").matches("event=DELETED").count() == 2);
        let text = read(&host, "watched");
        assert_has(
            &text,
            &[
                "event=ADDED table=3 cookie=0x7 tcp actions=output:1",
                "event=MODIFIED table=3 cookie=0x7 tcp",
                "event=DELETED reason=delete table=3 cookie=0x7 tcp",
            ],
        );
        assert_lacks(&text, &["table=4"]);
        drop(watch);
    }
}

#[test]
fn a_paused_packet_goes_on_when_it_is_given_back() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    host.flows("br0", "udp,in_port=1,actions=load:5->NXM_NX_REG0[],controller(pause,userdata=01.02),resubmit(,1)\ntable=1,reg0=5,actions=output:2\n");
    let seen = crate::rig::Sniffer::start(&b.ns, "eth0", "udp");
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
        let before = seen.lines().len();
        let log = format!("resumed-{version}");
        let watch = monitor(&host, &format!("-O{version} monitor br0 resume -P nxt_packet_in2"), &log);
        wait_until("the packet goes on", || {
            a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"pause")]);
            seen.lines().len() > before
        });
        assert_has(&read(&host, &log), &["userdata=01.02", "continuation.actions=", "NXT_RESUME"]);
        drop(watch);
    }
}

#[test]
fn tables_have_names_limits_and_vacancy() {
    let host = host();
    for version in ["OpenFlow13", "OpenFlow15"] {
        host.tool("ovs-ofctl", &format!("-O{version} mod-table br0 1 name:quux"));
        assert_has(&host.tool("ovs-ofctl", "-OOpenFlow15 dump-table-features br0"), &["table 1 (\"quux\")"]);
        host.tool("ovs-ofctl", &format!("-O{version} mod-table br0 1 name:"));
    }
    host.vsctl("-- --id=@t create Flow_Table name=ours flow_limit=4 overflow_policy=refuse -- set bridge br0 flow_tables:1=@t");
    let ran = host.try_tool("ovs-ofctl", "-OOpenFlow15 mod-table br0 1 name:theirs");
    assert_has(&ran.err, &["OFPTFFC_EPERM"]);
    host.tool("ovs-ofctl", "-OOpenFlow14 mod-table br0 1 vacancy:30,60");
    assert_has(
        &host.tool("ovs-ofctl", "-OOpenFlow14 dump-table-desc br0"),
        &["vacancy=on vacancy_down=30% vacancy_up=60% vacancy=100%"],
    );
    for n in 1..=4 {
        host.ofctl(&format!("add-flow br0 table=1,in_port={n},actions=drop"));
    }
    let ran = host.try_tool("ovs-ofctl", "-OOpenFlow13 add-flow br0 table=1,in_port=5,actions=drop");
    assert_has(&ran.err, &["OFPFMFC_TABLE_FULL"]);
    host.vsctl("set flow_table ours overflow_policy=evict");
    host.ofctl("add-flow br0 table=1,in_port=1,idle_timeout=300,actions=drop");
    host.ofctl("add-flow br0 table=1,in_port=5,actions=drop");
    assert_lacks(&host.ofctl("dump-flows br0 table=1"), &["in_port=1 "]);
}

#[test]
fn tunnel_options_are_mapped_and_unmapped() {
    let host = host();
    host.ofctl("add-tlv-map br0 {class=0xffff,type=0x80,len=4}->tun_metadata3");
    assert_has(&host.ofctl("dump-tlv-map br0"), &["0xffff", "0x80", "tun_metadata3"]);
    host.ofctl("add-flow br0 tun_metadata3=7,actions=drop");
    assert_has(&host.ofctl("dump-flows br0"), &["tun_metadata3=0x7"]);
    host.ofctl("del-flows br0");
    host.ofctl("del-tlv-map br0 {class=0xffff,type=0x80,len=4}->tun_metadata3");
    assert_lacks(&host.ofctl("dump-tlv-map br0"), &["tun_metadata3"]);
}

#[test]
fn fragments_and_ipfix_answer() {
    let host = host();
    for mode in ["drop", "nx-match", "normal"] {
        host.tool("ovs-ofctl", &format!("set-frags br0 {mode}"));
        assert_has(&host.tool("ovs-ofctl", "get-frags br0"), &[mode]);
    }
    for what in ["dump-ipfix-bridge", "dump-ipfix-flow"] {
        let ran = host.try_tool("ovs-ofctl", &format!("-OOpenFlow13 {what} br0"));
        assert_has(&format!("{}{}", ran.out, ran.err), &["NXST_NOT_CONFIGURED"]);
    }
    assert_has(&host.ofctl("queue-get-config br0"), &["OFPT_QUEUE_GET_CONFIG_REPLY"]);
}

#[test]
fn a_bundle_holds_groups_flows_and_packets() {
    let host = host();
    let frame = hex(&udp_frame(1, 2, b"bundled"));
    std::fs::write(
        host.file("all"),
        format!(
            "group add group_id=1,type=all,bucket=output:2\nflow add priority=5,udp,actions=group:1\n\
             packet-out in_port=controller,packet={frame},actions=table\n"
        ),
    )
    .unwrap();
    host.tool("ovs-ofctl", "-OOpenFlow14 bundle br0 all");
    assert_eq!(host.packets("br0", &["udp"]), 1, "the packet met the rule of its bundle");
    // The second fails, and nothing of the first stays.
    std::fs::write(host.file("bad"), "group mod group_id=1,type=all,bucket=output:1\nflow add udp,actions=group:9\n").unwrap();
    assert_ne!(host.try_tool("ovs-ofctl", "-OOpenFlow14 bundle br0 bad").code, 0);
    assert_has(&host.tool("ovs-ofctl", "-OOpenFlow14 dump-groups br0"), &["actions=output:2"]);
}

#[test]
fn packet_ins_are_limited_per_controller() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    let socket = host.file("limited");
    let mut command = host.command("ovs-testcontroller");
    command.args(["--unixctl=none", "--noflow", "--mute", "-vconsole:off", &format!("punix:{}", socket.display())]);
    let _running = Running::start(&mut command);
    host.vsctl(&format!("set-controller br0 unix:{}", socket.display()));
    host.vsctl("set controller br0 controller_rate_limit=100 controller_burst_limit=25");
    wait_until("the controller is connected", || host.vsctl("--columns=is_connected list controller").contains("true"));
    host.ofctl("add-flow br0 udp,actions=controller");
    a.ns.send_frames("eth0", (0..500_u16).map(|i| udp_frame(1, 2, &i.to_be_bytes())).collect());
    wait_until("packets were held back", || {
        let status = host.vsctl("--columns=status list controller");
        number_after(&status, "packet-in-action-dropped=\"")
            .or_else(|| number_after(&status, "packet-in-action-dropped="))
            .is_some_and(|n| n > 300)
    });
}

/// Rules that stand in the way of nothing, as many as a controller may bring at once.
fn many_rules(to: u32) -> String {
    let address = |n: u32| format!("172.{}.{}.{}", 16 + n / 65_536, n / 256 % 256, n % 256);
    (0..100_000).map(|n| format!("table=1,priority=10,tcp,nw_src={},actions=output:{to}\n", address(n))).collect()
}

#[test]
fn a_hundred_thousand_rules_come_at_once_while_packets_go_on() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &["10.0.0.3/24"], "");
    let keep = "in_port=1,actions=output:2\nin_port=2,actions=output:1\n";
    host.flows("br0", keep);
    a.reaches("10.0.0.2");
    let wrong = crate::rig::Sniffer::start(&c.ns, "eth0", "icmp");
    for (name, to) in [("first", 2), ("second", 3)] {
        std::fs::write(host.file(name), format!("{keep}{}", many_rules(to))).unwrap();
        let mut command = host.command("ovs-ofctl");
        command.args(["--timeout=120", "-OOpenFlow14", "--bundle", "replace-flows", "br0", name]);
        let mut replacing = command.spawn().unwrap();
        while replacing.try_wait().unwrap().is_none() {
            assert_eq!(a.ping("10.0.0.2", 100, "-i 0.002"), 100, "none is lost: {name}");
        }
        assert!(replacing.wait().unwrap().success());
        assert_has(&host.ofctl("dump-aggregate br0"), &["flow_count=100002"]);
        assert_eq!(a.ping("10.0.0.2", 100, "-i 0.002"), 100);
    }
    assert_eq!(wrong.lines().len(), 0, "none has gone astray");
}
