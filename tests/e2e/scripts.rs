//! The scripts around Open vSwitch, unmodified, as Debian has them: ovs-ctl and ovs-save, ovs-tcpdump and its kin, ifupdown's and docker's
//! scripts, ovs-dpctl-top, the Python library's parsers of flows, Mininet. And the command lines by which libvirt and others configure ports.

use crate::rig::{
    Db, Host, Ran, Running, Setup, assert_has, assert_lacks, binary, is_stock, must, number_after, run, wait_until,
};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

/// Debian's own Python, which has Debian's libraries.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPTS: &str = "/usr/share/openvswitch/scripts";

/// Writes a shell script into the host's folder.
fn script(host: &Host, name: &str, text: &str) {
    let path = host.file(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder `bin` in the host's with our programs under the names of OVS's, as the package ferrule-ovs has them.
fn names(host: &Host) {
    std::fs::create_dir(host.file("bin")).unwrap();
    for name in ["ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovs-dpctl", "ovsdb-client", "ovsdb-tool", "ovsdb-server"] {
        symlink(binary("ferrule"), host.file("bin").join(name)).unwrap();
    }
    symlink(binary("ovs-vswitchd"), host.file("bin/ovs-vswitchd")).unwrap();
}

/// ovs-ctl on our programs, or on Debian's.
fn ovs_ctl(host: &Host, words: &str) -> Ran {
    let mut command = host.command(host.file("scripts/ovs-ctl").to_str().unwrap());
    if !is_stock() {
        command.env("OVS_BINDIR", host.file("bin")).env("OVS_SBINDIR", host.file("bin"));
    }
    run(command.args(words.split_whitespace()))
}

fn ovs_ctl_must(host: &Host, words: &str) -> String {
    let ran = ovs_ctl(host, words);
    assert_eq!(ran.code, 0, "ovs-ctl {words}: {}{}", ran.out, ran.err);
    assert_lacks(&ran.out, &["failed"]);
    ran.out
}

#[test]
fn ovs_ctl_starts_saves_restores_and_stops() {
    let host = Host::bare(Setup { db: Db::External, words: "" });
    names(&host);
    std::fs::create_dir(host.file("openvswitch")).unwrap();
    std::fs::create_dir(host.file("scripts")).unwrap();
    for name in ["ovs-ctl", "ovs-lib", "ovs-save", "ovs-check-dead-ifs"] {
        symlink(format!("{SCRIPTS}/{name}"), host.file("scripts").join(name)).unwrap();
    }
    // The kernel's modules are nobody's business here.
    script(&host, "scripts/ovs-kmod-ctl", "exit 0");
    let start =
        "start --system-id=the-system --system-type=test --system-version=1 --external-id=who=ovs-ctl --no-record-hostname";
    assert_has(
        &ovs_ctl_must(&host, start),
        &["Starting ovsdb-server", "Starting ovs-vswitchd", "Enabling remote OVSDB managers"],
    );
    let running = ["ovsdb-server is running with pid", "ovs-vswitchd is running with pid"];
    assert_has(&ovs_ctl_must(&host, "status"), &running);
    assert_has(&ovs_ctl_must(&host, "version"), &["ovsdb-server (Open vSwitch)", "ovs-vswitchd (Open vSwitch)"]);
    let again = ovs_ctl_must(&host, start);
    assert_has(&again, &["ovsdb-server is already running", "ovs-vswitchd is already running"]);
    assert_has(&host.column("open_vswitch", ".", "external_ids"), &["system-id=the-system", "who=ovs-ctl"]);
    // ovs-ctl has memory locked, which is not to make present what is only set aside.
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let resident_kb = number_after(&status.replace([' ', '\t'], ""), "VmRSS:").unwrap();
    assert!(resident_kb < 500_000, "{resident_kb} kB are resident");

    let (a, _b) = host.pair("fail_mode=secure");
    host.ns.ip("addr add 10.9.9.9/24 dev br0");
    host.ns.ip("link set br0 up");
    host.tool("ovs-ofctl", "-OOpenFlow14 add-tlv-map br0 {class=0x102,type=0,len=4}->tun_metadata0");
    host.tool("ovs-ofctl", "-OOpenFlow14 add-group br0 group_id=7,type=all,bucket=output:2");
    host.flows(
        "br0",
        "cookie=0x9,priority=3,in_port=1,actions=group:7\npriority=3,in_port=p2,actions=output:p1\ntable=3,ip,nw_proto=2,actions=drop\n\
         table=4,tun_metadata0=5,actions=set_field:0x77->reg3,resubmit(,5)\n\
         table=5,icmp6,icmp_type=136,nd_target=fd00::1,actions=ct(commit,zone=3,nat(src=fd00::9)),learn(table=6,eth_type=0x800)\n",
    );
    a.reaches("10.0.0.2");
    let state = || {
        let mut text = host.tool("ovs-ofctl", "-OOpenFlow14 --no-stats --no-names --sort dump-flows br0");
        for what in ["dump-groups br0", "dump-tlv-map br0"] {
            text += &host.tool("ovs-ofctl", &format!("-OOpenFlow14 {what}"));
        }
        text.lines().filter(|l| !l.contains("xid=")).collect::<Vec<_>>().join("\n")
    };
    let before = state();
    let daemon = host.pid();
    let said = ovs_ctl_must(&host, &start.replace("start ", "force-reload-kmod "));
    assert_has(&said, &["Saving flows", "Saving interface configuration", "Restoring saved flows", "Restoring interface"]);
    assert_ne!(host.pid(), daemon);
    assert_eq!(state(), before);
    assert_has(&host.ns.ip("addr show dev br0"), &["10.9.9.9/24", "UP"]);
    a.reaches("10.0.0.2");
    ovs_ctl_must(&host, "stop");
    let ran = ovs_ctl(&host, "status");
    assert_ne!(ran.code, 0);
    assert_has(&ran.out, &["ovsdb-server is not running", "ovs-vswitchd is not running"]);
}

#[test]
fn a_port_is_listened_to() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    let mut command = host.command("ovs-tcpdump");
    command.args(["-i", "p2", "--db-sock"]).arg(format!("unix:{}", host.file("db.sock").display()));
    command.args(["-Z", "root", "-U", "-c", "4", "-w"]).arg(host.file("caught")).arg("icmp");
    command.stdout(Stdio::null()).stderr(File::create(host.file("said")).unwrap());
    let mut running = Running::start(&mut command);
    wait_until("tcpdump listens", || std::fs::read_to_string(host.file("said")).unwrap().contains("listening on mip2"));
    assert_eq!(host.column("mirror", "m_p2", "name"), "m_p2");
    wait_until("four packets have passed", || {
        a.ping("10.0.0.2", 2, "");
        running.0.try_wait().unwrap().is_some()
    });
    assert_eq!(host.vsctl("list mirror"), "", "it has cleaned up");
    assert_lacks(&host.vsctl("list-ports br0"), &["mip2"]);
    // The packets as hexadecimal digits, by two ways.
    let file = host.file("caught").display().to_string();
    let digits = host.tool("ovs-pcap", &file);
    assert_eq!(digits.lines().count(), 4, "{digits}");
    let same = must(host.command("sh").args(["-c", &format!("tcpdump -nn -xx -r {file} | ovs-tcpundump")]));
    assert_eq!(same, digits);
    host.ofctl(&format!("packet-out br0 in_port=2,packet={},actions=output:1", digits.lines().next().unwrap()));
}

/// ifupdown's script, which ifup and ifdown run for each stanza of /etc/network/interfaces, with a stanza's words as they hand them over.
fn ifupdown(host: &Host, mode: &str, device: &str, stanza: &[(&str, &str)]) {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = host.command("/etc/network/if-pre-up.d/openvswitch");
    command.env("PATH", format!("{}:{path}", host.file("quiet").display())).env("MODE", mode).env("IFACE", device);
    for (key, value) in stanza {
        command.env(format!("IF_OVS_{key}"), value);
    }
    must(&mut command);
}

#[test]
fn interfaces_come_up_by_ifupdown() {
    let host = Host::new();
    // It would start the machine's own service.
    std::fs::create_dir(host.file("quiet")).unwrap();
    for name in ["systemctl", "service", "ifup", "ifdown"] {
        script(&host, &format!("quiet/{name}"), "exit 0");
    }
    for device in ["e1", "e2", "e3"] {
        host.ns.ip(&format!("link add {device} type veth peer name x{device}"));
    }
    let bridge = [("TYPE", "OVSBridge"), ("PORTS", "e1"), ("OPTIONS", "-- set bridge ib0 datapath_type=netdev")];
    let stanzas: &[(&str, &[(&str, &str)])] = &[
        ("ib0", &bridge),
        ("e1", &[("TYPE", "OVSPort"), ("BRIDGE", "ib0"), ("OPTIONS", "tag=7 vlan_mode=native-untagged")]),
        ("ib0i", &[("TYPE", "OVSIntPort"), ("BRIDGE", "ib0"), ("EXTRA", "set interface ${IFACE} external-ids:by=${IFACE}")]),
        ("bond0", &[("TYPE", "OVSBond"), ("BRIDGE", "ib0"), ("BONDS", "e2 e3"), ("OPTIONS", "bond_mode=balance-slb")]),
        ("pp0", &[("TYPE", "OVSPatchPort"), ("BRIDGE", "ib0"), ("PATCH_PEER", "pp1")]),
        (
            "vx0",
            &[
                ("TYPE", "OVSTunnel"),
                ("BRIDGE", "ib0"),
                ("TUNNEL_TYPE", "vxlan"),
                ("TUNNEL_OPTIONS", "options:remote_ip=192.0.2.1 options:key=5"),
            ],
        ),
    ];
    for (device, stanza) in stanzas {
        ifupdown(&host, "start", device, stanza);
    }
    assert_eq!(host.vsctl("list-ports ib0").split_whitespace().collect::<Vec<_>>(), ["bond0", "e1", "ib0i", "pp0", "vx0"]);
    assert_eq!(host.column("port", "e1", "tag"), "7");
    assert_eq!(host.column("interface", "ib0i", "external_ids"), "{by=ib0i}");
    assert_eq!(host.column("port", "bond0", "bond_mode"), "balance-slb");
    assert_has(&host.column("interface", "vx0", "options"), &["key=\"5\"", "remote_ip=\"192.0.2.1\""]);
    for device in ["ib0i", "e1", "e2", "e3"] {
        assert_has(&host.ns.ip(&format!("link show dev {device}")), &["UP"]);
    }
    for (device, stanza) in stanzas.iter().skip(1) {
        ifupdown(&host, "stop", device, stanza);
    }
    assert_eq!(host.vsctl("list-ports ib0"), "");
    ifupdown(&host, "stop", "ib0", &bridge);
    assert_eq!(host.vsctl("list-br"), "");
}

#[test]
fn a_container_is_joined_by_ovs_docker() {
    let host = Host::new();
    let (_a, b) = host.pair("");
    let other = crate::rig::Namespace::new("docker");
    let sleeper = Running::start(other.command("sleep").arg("60"));
    std::fs::create_dir(host.file("docker")).unwrap();
    script(&host, "docker/docker", &format!("echo {}", sleeper.0.id()));
    let ovs_docker = |words: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = host.command("ovs-docker");
        must(command.env("PATH", format!("{}:{path}", host.file("docker").display())).args(words.split_whitespace()))
    };
    ovs_docker("add-port br0 eth1 box --ipaddress=10.0.0.7/24 --macaddress=02:00:00:00:00:07 --mtu=1400");
    ovs_docker("set-vlan br0 eth1 box 9");
    let port = host.vsctl("--bare --columns=name find interface external_ids:container_id=box").trim().to_owned();
    assert_eq!(host.column("port", &port, "tag"), "9");
    b.does_not_reach("10.0.0.7");
    host.vsctl(&format!("clear port {port} tag"));
    b.reaches("10.0.0.7");
    ovs_docker("del-port br0 eth1 box");
    assert_lacks(&host.vsctl("list-ports br0"), &[&port]);
}

/// Ports as libvirt, Neutron's agents of old, ovs-cni and Proxmox add, ask for and remove them: their own words.
const IDIOMS: &[&str] = &[
    "--timeout=5 -- --if-exists del-port vnet0 -- add-port br0 vnet0 tag=5 vlan_mode=native-untagged trunk=1,5,7 \
     -- set Interface vnet0 external-ids:attached-mac=\"52:54:00:00:00:01\" \
     -- set Interface vnet0 external-ids:iface-id=\"9e1d2c1c-1c5a-4b0c-8f35-000000000001\" \
     -- set Interface vnet0 external-ids:vm-id=\"9e1d2c1c-1c5a-4b0c-8f35-000000000002\" \
     -- set Interface vnet0 external-ids:iface-status=active",
    "--timeout=5 --if-exists get Interface vnet0 external_ids:PortData",
    "--timeout=5 set Interface vnet0 external_ids:PortData=x",
    "--timeout=5 get Interface vnet0 external_ids:PortData",
    "--timeout=5 get Interface vnet0 name",
    "--timeout=5 --no-headings --columns=name find Interface options:vhost-server-path=/run/vhost0",
    "--timeout=5 --columns=name,ofport,external_ids --format=json list Interface vnet0",
    "--timeout=10 --oneline --format=json -- --columns=name,external_ids,ofport list Interface vnet0 nothing",
    "--timeout=10 --oneline --format=json -- --if-exists --columns=name,tag,trunks list Port vnet0 nothing",
    "--timeout=10 --oneline --format=json -- --id=@port get Port vnet0 -- --columns=name find Port tag=5",
    "--timeout=10 -- --may-exist add-br br1 -- set Bridge br1 datapath_type=netdev -- br-set-external-id br1 bridge-id br1",
    "--timeout=10 -- --may-exist add-port br1 p-x -- set Interface p-x type=patch options:peer=p-y",
    "--timeout=10 -- --may-exist add-port br0 p-y -- set Interface p-y type=patch options:peer=p-x",
    "--timeout=10 wait-until Interface p-y ofport!=-1",
    "--timeout=10 iface-to-br p-y",
    "--timeout=10 port-to-br vnet0",
    "--timeout=10 br-get-external-id br1",
    "--timeout=10 --data=bare --no-heading --columns=name find interface external_ids:iface-status=active",
    "--timeout=10 -f csv -d bare --columns=name,type find Interface type=patch",
    "--timeout=10 -- set Port vnet0 qos=@q -- --id=@q create QoS type=linux-noop external-ids:vm-id=v",
    "--timeout=5 --no-headings --columns=type,external_ids find qos external_ids:vm-id=v",
    "--timeout=5 --if-exists destroy qos vnet0",
    "--timeout=5 -- clear Port vnet0 qos -- --all destroy QoS",
    "--timeout=5 -- --if-exists del-port br0 vnet0 -- --if-exists del-port nothing -- --if-exists del-br br1",
    "--timeout=5 list-ports br0",
    "--timeout=5 get Bridge br0 no_such_column",
    "--timeout=5 del-port nothing",
];

#[test]
fn ports_are_configured_in_the_words_of_others() {
    let host = Host::new();
    host.bridge("br0", "");
    host.ns.ip("link add vnet0 type veth peer name xvnet0");
    names(&host);
    let judged = |program: &str, words: &str| {
        let words = words.replace('"', "");
        let ran = host.try_tool(program, &words);
        // The order of rows and the program's log are its own.
        let log = |l: &&str| l.contains("|WARN|") || l.contains("|INFO|");
        let mut lines: Vec<String> = ran.out.lines().chain(ran.err.lines()).filter(|l| !log(l)).map(str::to_owned).collect();
        lines.sort();
        (ran.code, lines)
    };
    for words in IDIOMS {
        let theirs = judged("ovs-vsctl", words);
        if !words.contains("create QoS") {
            assert_eq!(judged(host.file("bin/ovs-vsctl").to_str().unwrap(), words), theirs, "{words}");
        }
    }
    assert_eq!(host.vsctl("list-br"), "br0\n");
}

/// Flows of a kind given to Open vSwitch's own library, which has to understand them; what it says.
fn understood(host: &Host, kind: &str, lines: &str) -> String {
    let mut command = host.command(PYTHON);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/flows.py")).arg(kind);
    fed(&mut command, lines)
}

/// What a command says that gets `text` as its standard input.
fn fed(command: &mut Command, text: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} of:\n{text}");
    String::from_utf8(output.stdout).unwrap()
}

const FLOWS: &str = "\
cookie=0x12,priority=9,in_port=1,arp,arp_op=1,arp_spa=10.0.0.1,actions=output:2
priority=9,in_port=2,arp,actions=load:0x5->NXM_NX_REG1[0..15],resubmit(,1)
table=1,reg1=5/0xffff,actions=move:NXM_OF_ETH_SRC[0..31]->NXM_NX_REG2[],output:1
priority=8,icmp,ct_state=-trk,actions=ct(table=2,zone=7)
table=2,icmp,ct_state=+new+trk,actions=ct(commit,zone=7,exec(set_field:0x9->ct_mark)),resubmit(,3)
table=2,icmp,ct_state=+est+trk,ct_mark=9,actions=resubmit(,3)
table=3,priority=2,ip,nw_dst=10.0.0.2,actions=learn(table=9,idle_timeout=30,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),output:2
table=3,priority=2,ip,nw_dst=10.0.0.1/32,actions=clone(set_queue:3,output:1),note:00.01
priority=7,udp,tp_dst=0x1000/0xf000,idle_timeout=60,actions=push_vlan:0x8100,set_field:4103->vlan_vid,mod_dl_dst:02:00:00:00:00:02,output:2
priority=7,tcp,tcp_flags=+syn-ack,actions=conjunction(3,1/2)
priority=7,ip,nw_proto=47,actions=set_tunnel:0x20,mod_nw_dst:10.1.1.1,controller(max_len=128),write_metadata:0x1/0xff,goto_table:4
priority=6,ip6,ipv6_src=fd00::/16,actions=group:7
priority=5,mpls,mpls_label=55,actions=pop_mpls:0x800,sample(probability=100,collector_set_id=1)
priority=1,actions=drop
";

#[test]
fn flows_are_read_by_the_python_library_and_dpctl_top() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    host.tool("ovs-ofctl", "-OOpenFlow14 add-group br0 group_id=7,type=all,bucket=output:2");
    host.flows("br0", FLOWS);
    assert_eq!(a.ping("10.0.0.2", 3, ""), 3);
    a.ns.send_frames("eth0", vec![crate::rig::udp_frame(1, 2, b"to no rule of its port")]);
    let plain = host.appctl("dpctl/dump-flows");
    // Debian's library does not know what Debian's switch says last with -m.
    let more = if is_stock() { "dpctl/dump-flows" } else { "dpctl/dump-flows -m" };
    let megaflows = [more, "dpctl/dump-flows --names", "dpif/dump-flows br0"].map(|w| host.appctl(w)).concat() + &plain;
    let mut text = String::new();
    for version in ["OpenFlow13", "OpenFlow15"] {
        for more in ["--names", "--no-names --sort"] {
            // Debian's library stumbles over the counter of packets, whose name it has wrong.
            text += &host.tool("ovs-ofctl", &format!("-O{version} --no-stats {more} dump-flows br0"));
        }
    }
    assert!(text.matches("actions=").count() >= 4 * FLOWS.lines().count(), "{text}");
    assert_eq!(understood(&host, "openflow", &text).lines().count(), text.lines().filter(|l| l.contains("actions=")).count());
    let flows = megaflows.lines().filter(|l| l.contains("actions:")).count();
    assert!(flows >= 16, "{megaflows}");
    let read = understood(&host, "datapath", &megaflows);
    assert_eq!(read.lines().count(), flows);
    assert_has(&read, &["\"recirc\"", "\"commit\": true", "\"zone\": 7"]);
    let top = fed(host.command("ovs-dpctl-top").arg("--script"), &plain);
    assert_has(&top, &["FIELDS (ALL)", "in_port(2)", "eth_type(0x0800)"]);
}

#[test]
fn mininet_builds_networks_of_it() {
    let host = Host::new();
    let mut command = host.command(PYTHON);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/network.py"));
    // Debian's switch forwards in userspace only where its kernel module is missing.
    command.arg(if is_stock() { "user" } else { "kernel" });
    let said = must(&mut command);
    assert_has(&said, &["bridges: 0.0% lost", "controller connected: True", "controller: 0.0% lost"]);
    assert_eq!(host.vsctl("list-br"), "", "what it made it has removed");
}
