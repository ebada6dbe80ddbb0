//! What hangs on links follows when the kernel tells of them: nothing else looks at the devices of these tests, so that what follows at all has
//! followed the kernel's word. (A tick looks only for what nobody tells of.)

use crate::rig::{Container, Host, Message, PORT_STATUS, is_stock, must, wait_until};
use std::fmt::Write;
use std::process::{Command, Stdio};

/// Changes of links in one burst: many times more than the kernel keeps for a listener.
const BURST: usize = 6_000;

/// The other end of a port: the port's own device is not touched, whose sockets would tell the workers.
fn set(end: &Container, state: &str) {
    end.ns.ip(&format!("link set eth0 {state}"));
}

/// By which of these ports a packet leaves that has come by port 1.
fn leaves_by<'n>(host: &Host, among: &[&'n str]) -> Vec<&'n str> {
    let trace = host.appctl("ofproto/trace br0 in_port=1,dl_dst=02:00:00:00:00:99");
    let actions = trace.lines().find_map(|line| line.strip_prefix("Datapath actions: ")).unwrap_or_else(|| panic!("{trace}"));
    let taken: Vec<_> = actions.split(',').collect();
    let ports = host.appctl("dpctl/show");
    let number = |name: &str| {
        let line = ports.lines().find(|line| line.contains(&format!(": {name}"))).unwrap_or_else(|| panic!("{ports}"));
        line.trim().strip_prefix("port ").and_then(|line| line.split(':').next()).unwrap()
    };
    among.iter().copied().filter(|name| taken.contains(&number(name))).collect()
}

#[test]
fn a_ports_status_and_its_columns_follow() {
    let host = Host::new();
    let (_a, b) = host.pair("fail_mode=secure");
    let mut wire = host.wire("br0", 4);
    // OFPT_SET_CONFIG with a miss_send_len, without which a service connection is told nothing.
    wire.send(9, &[0, 0, 0, 128]);
    wire.barrier();
    let column = |name: &str| host.column("interface", "p2", name);
    let resets: u64 = column("link_resets").parse().unwrap();
    for (round, state) in ["down", "up", "down", "up"].into_iter().enumerate() {
        set(&b, state);
        // The state stands behind the port's number, MAC, name and configuration; its lowest bit says that there is no link. OVS says first that
        // the port is no longer live.
        let link_down = |m: &Message| m.u32(8 + 36) & 1 == 1;
        let message = std::iter::repeat_with(|| wire.next_of(PORT_STATUS)).find(|m| link_down(m) == (state == "down")).unwrap();
        assert_eq!((message.body[0], message.u32(8)), (2, 2), "round {round}");
        wait_until("the column follows", || column("link_state") == state);
        assert_eq!(column("link_resets"), (resets + 1 + round as u64).to_string());
    }
    host.ns.ip("link set p2 mtu 1400");
    wait_until("the MTU follows", || column("mtu") == "1400");
    host.ns.ip("link set p2 address 02:00:00:00:07:07");
    while wire.next_of(PORT_STATUS).body[16..22] != [2, 0, 0, 0, 7, 7] {}
    wait_until("the MAC follows", || column("mac_in_use") == "02:00:00:00:07:07");
}

#[test]
fn a_fast_failover_group_follows() {
    let host = Host::new();
    let (_a, b) = host.pair("fail_mode=secure");
    let _c = host.attach("br0", "p3", 3, &[], "");
    host.ofctl("add-group br0 group_id=1,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3");
    host.flows("br0", "in_port=1,actions=group:1\n");
    for _ in 0..3 {
        wait_until("the first bucket lives", || leaves_by(&host, &["p2", "p3"]) == ["p2"]);
        set(&b, "down");
        wait_until("the second one takes over", || leaves_by(&host, &["p2", "p3"]) == ["p3"]);
        set(&b, "up");
    }
}

#[test]
fn a_bonds_members_follow() {
    let host = Host::new();
    host.bridge("br0", "");
    let _a = host.attach("br0", "p1", 1, &[], "");
    let members = ["p2", "p3"].map(|name| Container::new(&host.ns, name, &[]));
    host.vsctl("add-bond br0 bond0 p2 p3 bond_mode=active-backup -- set interface p2 ofport_request=2 -- set interface p3 ofport_request=3");
    let status = || host.appctl("bond/show bond0");
    let is_enabled = |name: &str| status().contains(&format!("member {name}: enabled"));
    wait_until("both carry", || is_enabled("p2") && is_enabled("p3"));
    for down in [0, 1, 0] {
        set(&members[down], "down");
        let (name, other) = (["p2", "p3"][down], ["p2", "p3"][1 - down]);
        wait_until("a member without a link carries nothing", || !is_enabled(name) && is_enabled(other));
        wait_until("flows go by the other one", || leaves_by(&host, &["p2", "p3"]) == [other]);
        set(&members[down], "up");
        wait_until("it carries again", || is_enabled(name));
    }
}

#[test]
fn a_device_that_was_missing_is_taken_up() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    host.try_tool("ovs-vsctl", "--timeout=20 add-port br0 p3");
    assert_eq!(host.column("interface", "p3", "ofport"), "-1");
    let late = Container::new(&host.ns, "p3", &["10.0.0.3/24"]);
    wait_until("it is a port", || host.column("interface", "p3", "ofport") == "3");
    a.reaches("10.0.0.3");
    if is_stock() {
        // It does not take up what went and came back before it looked.
        return;
    }
    // Taken away and made again in one go.
    for _ in 0..5 {
        let netns = &late.ns.name;
        let batch = format!(
            "link del p3\nlink add p3 address 02:00:00:00:03:03 type veth peer name eth0 address {} netns {netns}\nlink set p3 up\n",
            late.mac
        );
        ip_batch(&host, &batch);
        late.ns.ip("link set eth0 up");
        late.ns.ip("addr add 10.0.0.3/24 dev eth0");
        wait_until("the device is taken up", || a.ping("10.0.0.3", 1, "") == 1);
    }
}

/// One `ip` for many changes.
fn ip_batch(host: &Host, lines: &str) {
    std::fs::write(host.file("batch"), lines).unwrap();
    must(Command::new("ip").args(["-n", &host.ns.name, "-batch", "batch"]).current_dir(host.file(".")).stdin(Stdio::null()));
}

#[test]
fn a_burst_is_followed_to_its_end() {
    let host = Host::new();
    let (a, b) = host.pair("");
    for i in 3..8 {
        host.loose_port("br0", &format!("p{i}"), i);
    }
    let mut lines = String::new();
    for n in 0..BURST {
        writeln!(lines, "link set {} {}", ["xp3", "p4"][n % 2], ["down", "up", "mtu 1400", "mtu 1450"][n / 2 % 4]).unwrap();
    }
    lines += "link set xp3 down\nlink set p4 mtu 1300\nlink set p5 address 02:00:00:00:05:05\n";
    ip_batch(&host, &lines);
    let column = |port: &str, name: &str| host.column("interface", port, name);
    wait_until("a link follows", || column("p3", "link_state") == "down");
    wait_until("an MTU follows", || column("p4", "mtu") == "1300");
    wait_until("a MAC follows", || column("p5", "mac_in_use") == "02:00:00:00:05:05");
    assert_eq!((column("p6", "link_state"), column("p7", "link_state")), ("up".into(), "up".into()));
    a.reaches("10.0.0.2");
    b.reaches("fd00::1");
}
