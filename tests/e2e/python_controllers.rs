//! Controllers from elsewhere, unmodified, from PyPI: os-ken with a learning switch, and faucet with VLANs, ACLs and routing. Each
//! forwards between containers, and each says what the switch answered.

use crate::rig::{Host, Running, Sniffer, assert_has, assert_lacks, udp_frame, vlan_tagged, wait_for, wait_until};
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
