//! Controllers from elsewhere, unmodified, from PyPI: os-ken with a learning switch, and faucet with VLANs, ACLs and routing. Each
//! forwards between containers, and each says what the switch answered.

use crate::rig::{Host, Running, Sniffer, assert_has, assert_lacks, must, udp_frame, vlan_tagged, wait_for, wait_until};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Python takes its time to begin.
pub(crate) const START: Duration = Duration::from_secs(40);

/// A program of the environment that `python/setup.sh` makes.
pub(crate) fn program(name: &str) -> PathBuf {
    let dir = std::env::var("FERRULE_CONTROLLERS").expect("run.sh names the environment of the controllers");
    Path::new(&dir).join("bin").join(name)
}

/// The command for os-ken's learning switch, which says what it sees in the host's file `said`.
pub(crate) fn learning_switch(host: &Host, said: &str) -> Command {
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/learning.py");
    let mut command = host.command(program("osken-manager").to_str().unwrap());
    command.arg(app).stdout(File::create(host.file(said)).unwrap()).stderr(File::create(host.file("errors")).unwrap());
    command
}

fn is_connected(host: &Host) -> bool {
    host.vsctl("--columns=is_connected list controller").contains("true")
}

#[test]
fn a_learning_switch_of_os_ken() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure other_config:datapath-id=00000000000000ab");
    let said = host.file("said");
    let mut command = learning_switch(&host, "said");
    command.args(["--ofp-listen-host=127.0.0.1", "--ofp-tcp-listen-port=6653"]);
    let _running = Running::start(&mut command);
    host.vsctl("set-controller br0 tcp:127.0.0.1:6653");
    wait_for("the controller is connected", START, || is_connected(&host));
    let text = || std::fs::read_to_string(&said).unwrap();
    wait_for("the controller has its answers", START, || {
        ["barrier", "ports", "tables", "role"].iter().all(|w| text().contains(w))
    });
    assert_has(&text(), &["features 00000000000000ab 254", "ports br0 p1 p2", "tables ", "role 2 1"]);
    // The database's column follows every five seconds.
    wait_for("the role is known", START, || host.vsctl("--columns=role list controller").contains("master"));
    wait_until("the controller carries traffic", || a.ping("10.0.0.2", 1, "") == 1);
    a.reaches("10.0.0.2");
    b.reaches("10.0.0.1");
    wait_until("both ways are learned", || text().matches("learned").count() >= 2);
    assert_has(
        &host.ofctl("dump-flows br0"),
        &["idle_timeout=30, send_flow_rem priority=1", "actions=output:2", "actions=CONTROLLER"],
    );
    // Packets of a learned flow are the switch's own affair.
    let before = text().matches("learned").count();
    assert_eq!(a.ping("10.0.0.2", 20, "-i 0.05"), 20);
    assert!(text().matches("learned").count() <= before + 2, "{}", text());
    host.ofctl("--strict del-flows br0 priority=0");
    wait_until("the controller hears of it", || text().contains("removed 0 2"));
    assert_lacks(&text(), &["error"]);
}

const FAUCET: &str = "
acls:
    guard:
        - rule: {dl_type: 0x800, ip_proto: 1, ipv4_dst: 10.0.200.0/24, actions: {allow: 0}}
        - rule: {actions: {allow: 1}}
vlans:
    office: {vid: 100, faucet_mac: '0e:00:00:00:10:01', faucet_vips: ['10.0.100.254/24']}
    lab: {vid: 200, faucet_mac: '0e:00:00:00:20:01', faucet_vips: ['10.0.200.254/24']}
routers:
    between: {vlans: [office, lab]}
dps:
    sw1:
        dp_id: 0x1
        hardware: 'Open vSwitch'
        interfaces:
            1: {name: p1, native_vlan: office}
            2: {name: p2, native_vlan: office, acl_in: guard}
            3: {name: p3, native_vlan: lab}
            4: {name: p4, tagged_vlans: [office, lab]}
";

#[test]
fn faucet_switches_filters_and_routes() {
    let host = Host::new();
    host.bridge("br0", "fail_mode=secure other_config:datapath-id=0000000000000001");
    let a = host.attach("br0", "p1", 1, &["10.0.100.1/24"], "");
    let b = host.attach("br0", "p2", 2, &["10.0.100.2/24"], "");
    let c = host.attach("br0", "p3", 3, &["10.0.200.3/24"], "");
    let d = host.attach("br0", "p4", 4, &[], "");
    a.ns.ip("route add default via 10.0.100.254");
    b.ns.ip("route add default via 10.0.100.254");
    c.ns.ip("route add default via 10.0.200.254");
    std::fs::write(host.file("faucet.yaml"), FAUCET).unwrap();
    let mut command = host.command(program("faucet").to_str().unwrap());
    command.args(["--ryu-ofp-listen-host=127.0.0.1", "--ryu-ofp-tcp-listen-port=6653"]);
    // Faucet runs osken-manager by its name.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", program("faucet").parent().unwrap().display()));
    command.env("FAUCET_CONFIG", host.file("faucet.yaml")).env("FAUCET_PROMETHEUS_ADDR", "127.0.0.1");
    command.env("FAUCET_LOG", host.file("faucet.log")).env("FAUCET_EXCEPTION_LOG", host.file("faucet.exceptions"));
    command
        .env("FAUCET_EVENT_SOCK", "0")
        .stdout(File::create(host.file("out")).unwrap())
        .stderr(File::create(host.file("err")).unwrap());
    let _running = Running::start(&mut command);
    host.vsctl("set-controller br0 tcp:127.0.0.1:6653");
    let log = || std::fs::read_to_string(host.file("faucet.log")).unwrap_or_default();
    wait_for("faucet has configured the switch", START, || {
        log().contains("Configuring") && host.ofctl("dump-flows br0").lines().count() > 10
    });
    let reaches =
        |from: &crate::rig::Container, to: &str| wait_for(&format!("{to} answers"), START, || from.ping(to, 1, "") == 1);
    // Within a VLAN, also to and from where it is tagged.
    let tagged = Sniffer::start(&d.ns, "eth0", "vlan 100");
    reaches(&a, "10.0.100.2");
    tagged.expect(&["vlan 100", "who-has 10.0.100.2"]);
    let (at_a, at_c) = (Sniffer::start(&a.ns, "eth0", "udp"), Sniffer::start(&c.ns, "eth0", "udp"));
    d.ns.send_frames("eth0", vec![vlan_tagged(&udp_frame(4, 9, b"from the trunk"), 100)]);
    assert_lacks(&at_a.expect(&["10.0.0.4.7 > 10.0.0.9.9"]), &["vlan"]);
    assert_lacks(&at_c.lines().join("\n"), &["10.0.0.4.7"]);
    // Faucet answers for its own addresses, and routes between its VLANs.
    reaches(&a, "10.0.100.254");
    reaches(&c, "10.0.200.254");
    reaches(&a, "10.0.200.3");
    assert_eq!(c.ping("10.0.100.1", 5, "-i 0.2"), 5, "routed the other way");
    // The ACL of port 2 lets nothing of ICMP through to the lab, all else it does.
    assert_eq!(b.ping("10.0.200.3", 2, "-W 1"), 0);
    reaches(&b, "10.0.100.1");
    let exceptions = std::fs::read_to_string(host.file("faucet.exceptions")).unwrap_or_default();
    assert_eq!(exceptions, "", "faucet has stumbled");
    // Faucet takes up the ports before it takes up the switch, and says so of itself.
    let complaints: Vec<String> =
        log().lines().filter(|l| !l.ends_with("send_flow_msgs: DP not up")).map(str::to_owned).collect();
    assert_lacks(&complaints.join("\n"), &["OFPErrorMsg", "ERROR"]);
}

/// A bridge with something of everything to tell of.
fn furnish(host: &Host) {
    host.bridge("br0", "fail_mode=secure other_config:datapath-id=00000000000000ab");
    host.loose_port("br0", "p1", 1);
    host.loose_port("br0", "p2", 2);
    host.vsctl(
        "set port p1 qos=@qos -- --id=@qos create qos type=linux-htb other-config:max-rate=9000000 queues:1=@q1 queues:2=@q2 \
         -- --id=@q1 create queue other_config:min-rate=1000000 other_config:max-rate=3000000 \
         -- --id=@q2 create queue other_config:max-rate=2000000",
    );
    for group in [
        "1,type=all,bucket=output:1,bucket=mod_dl_src:02:00:00:00:00:09,output:2",
        "2,type=select,selection_method=hash,fields(ip_src),bucket=weight:3,output:1,bucket=weight:5,output:2",
        "3,type=indirect,bucket=set_field:10.1.2.3->ip_dst,output:2",
        "4,type=ff,bucket=watch_port:1,output:1,bucket=watch_port:2,output:2",
    ] {
        host.tool("ovs-ofctl", &format!("-OOpenFlow15 add-group br0 group_id={group}"));
    }
    host.ofctl("add-meter br0 meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100");
    host.ofctl("add-meter br0 meter=2,pktps,stats,bands=type=drop,rate=50");
    host.flows("br0", FURNITURE);
}

const FURNITURE: &str = "\
cookie=0x1,idle_timeout=600,hard_timeout=900,priority=5,in_port=1,dl_src=02:00:00:00:00:01/ff:00:00:00:00:ff,actions=output:2
priority=5,tcp,vlan_tci=0x1007/0x1fff,nw_src=10.0.0.0/8,tp_dst=80,actions=strip_vlan,mod_nw_dst:10.1.1.1,mod_tp_dst:8080,output:2
priority=5,udp6,ipv6_dst=fd00::/16,udp_dst=53,actions=set_field:fd00::9->ipv6_dst,enqueue:1:2
priority=5,arp,arp_spa=10.0.0.1,arp_op=1,actions=controller(max_len=77),group:1
priority=5,mpls,mpls_label=99,actions=pop_mpls:0x800,group:3
priority=5,icmp,icmp_type=8,actions=meter:1,goto_table:7
table=7,priority=1,actions=write_actions(group:2),write_metadata:0x5/0xff
table=8,reg3=7,tun_id=0x55/0xff,actions=load:0x1->NXM_NX_REG4[],resubmit(,9),note:01.02
table=8,ct_state=+trk+est,ip,actions=ct(commit,zone=4,nat(src=10.0.0.1-10.0.0.9)),output:1
table=8,conj_id=5,ip,actions=set_tunnel:0x77,output:IN_PORT
table=8,ip,nw_src=10.3.0.0/16,actions=conjunction(5,1/2)
table=9,actions=learn(table=10,hard_timeout=10,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),push_vlan:0x8100,NORMAL
";

#[test]
fn os_ken_understands_every_message() {
    let host = Host::new();
    furnish(&host);
    let mut command = host.command(program("python3").to_str().unwrap());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/decode.py")).arg(host.file("br0.mgmt"));
    let said = must(&mut command);
    for version in ["1.0", "1.2", "1.3", "1.4", "1.5"] {
        let told: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix(version)?.strip_prefix(' ')).collect();
        let mut wanted = vec!["table 254", "port 3", "queue 3", "flow 12", "barrier 1", "packet-in 42", "flow-removed 9 2"];
        wanted.extend(["group 4", "role 1"].iter().filter(|_| version > "1.0"));
        wanted.extend(["MeterStats 2", "PortDescStats 3", "async 1"].iter().filter(|_| version > "1.2"));
        wanted.extend(["TableDescStats 254", "QueueDescStats 3", "FlowMonitor 12"].iter().filter(|_| version > "1.3"));
        for line in wanted {
            assert!(told.contains(&line), "{version} {line}: {said}");
        }
        // What Open vSwitch has not got of 1.5: statistics of flows apart from the flows, features of bundles, states of controllers.
        assert_eq!(told.iter().filter(|l| l.contains("error")).count(), if version == "1.5" { 3 } else { 0 }, "{said}");
    }
    assert_has(&said, &["done"]);
}
