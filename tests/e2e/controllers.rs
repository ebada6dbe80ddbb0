//! Controllers: Debian's ovs-testcontroller, active and passive, learning for the switch; what a switch does alone; flow-removed,
//! port-status, packet-in and roles on connections by bytes.

use crate::rig::{
    FLOW_REMOVED, Host, PACKET_IN, PORT_STATUS, Running, assert_has, assert_lacks, udp_frame, wait_for, wait_until,
};
use std::time::Duration;

/// ovs-testcontroller with words, in the host's namespace.
fn controller(host: &Host, words: &str) -> Running {
    let mut command = host.command("ovs-testcontroller");
    command.args(["--unixctl=none", "--log-file", "-vconsole:off"]).args(words.split_whitespace());
    Running::start(&mut command)
}

fn is_connected(host: &Host) -> bool {
    host.vsctl("--columns=is_connected list controller").contains("true")
}

#[test]
fn a_learning_controller_is_dialled_and_programs_the_switch() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    a.does_not_reach("10.0.0.2");
    let running = controller(&host, "ptcp:6653:127.0.0.1");
    host.vsctl("set-controller br0 tcp:127.0.0.1:6653");
    wait_until("the controller is connected", || is_connected(&host));
    a.reaches("10.0.0.2");
    b.reaches("10.0.0.1");
    let flows = host.tool("ovs-ofctl", "dump-flows br0");
    assert_has(&flows, &["idle_timeout=60", "icmp,in_port=1", "icmp,in_port=2", "actions=output:"]);
    assert_has(&host.vsctl("--columns=role,status,target list controller"), &["tcp:127.0.0.1:6653", "state=ACTIVE"]);
    // Without it a secure switch keeps its rules and learns nothing new.
    drop(running);
    wait_until("the controller is missed", || !is_connected(&host));
    host.tool("ovs-ofctl", "del-flows br0");
    a.does_not_reach("10.0.0.2");
    // It comes back, and the switch finds it again.
    let _running = controller(&host, "ptcp:6653:127.0.0.1");
    wait_for("the controller is found again", Duration::from_secs(20), || is_connected(&host));
    a.reaches("10.0.0.2");
}

#[test]
fn a_controller_dials_the_switch() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    host.vsctl("set-controller br0 ptcp:6634:127.0.0.1");
    wait_until("the switch listens", || host.ns.exec("ss -Hltn sport = :6634").contains("6634"));
    a.does_not_reach("10.0.0.2");
    let _running = controller(&host, "--wildcards tcp:127.0.0.1:6634");
    wait_for("the controller is there", Duration::from_secs(20), || a.ping("10.0.0.2", 1, "") == 1);
    a.reaches("10.0.0.2");
    // Through the same door ovs-ofctl comes.
    assert_has(&host.tool("ovs-ofctl", "-OOpenFlow14 show tcp:127.0.0.1:6634"), &["1(p1)"]);
}

#[test]
fn controllers_of_each_version_and_kind_carry_traffic() {
    for words in ["-O OpenFlow10 --normal", "-O OpenFlow13", "-O OpenFlow14 --noflow", "-O OpenFlow15 --hub"] {
        let host = Host::new();
        let (a, _b) = host.pair("fail_mode=secure protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15");
        let socket = host.file("controller");
        let _running = controller(&host, &format!("{words} punix:{}", socket.display()));
        host.vsctl(&format!("set-controller br0 unix:{}", socket.display()));
        wait_until("the controller is connected", || is_connected(&host));
        wait_until("the controller carries traffic", || a.ping("10.0.0.2", 1, "") == 1);
        assert_eq!(a.ping("10.0.0.2", 5, ""), 5, "{words}");
    }
}

#[test]
fn standalone_switches_on_their_own_after_three_probes() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=standalone");
    // Nobody listens there: the switch waits for three times the probe interval of five seconds before it acts alone.
    host.vsctl("set-controller br0 tcp:127.0.0.1:6999");
    a.does_not_reach("10.0.0.2");
    wait_for("the switch acts alone", Duration::from_secs(30), || a.ping("10.0.0.2", 1, "") == 1);
    a.reaches("10.0.0.2");
    // With a controller it obeys again.
    let _running = controller(&host, "--noflow --mute ptcp:6999:127.0.0.1");
    wait_for("the controller is connected", Duration::from_secs(20), || is_connected(&host));
    host.tool("ovs-ofctl", "del-flows br0");
    host.tool("ovs-ofctl", "add-flow br0 actions=drop");
    wait_until("the switch obeys again", || a.ping("10.0.0.2", 1, "") == 0);
    a.does_not_reach("10.0.0.2");
    // Without any controller configured it is a plain switch.
    host.vsctl("del-controller br0");
    wait_until("the plain switch forwards", || {
        host.tool("ovs-ofctl", "del-flows br0");
        host.tool("ovs-ofctl", "add-flow br0 actions=NORMAL");
        a.ping("10.0.0.2", 1, "") == 1
    });
}

#[test]
fn snooping_sees_what_the_controller_says() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    let _running = controller(&host, "ptcp:6653:127.0.0.1");
    host.vsctl("set-controller br0 tcp:127.0.0.1:6653");
    wait_until("the controller is connected", || is_connected(&host));
    let log = host.file("snooped");
    let mut command = host.command("ovs-ofctl");
    command.args(["snoop", "br0"]).stderr(std::fs::File::create(&log).unwrap());
    let _snoop = Running::start(&mut command);
    wait_until("messages are seen", || {
        a.ping("10.0.0.2", 1, "");
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("PACKET_IN") && text.contains("PACKET_OUT")
    });
}

#[test]
fn notices_reach_connections_that_asked() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    let mut wire = host.wire("br0", 1);
    // Miss_send_len 128, after which a service connection hears of misses; OFPT_SET_CONFIG is 9.
    wire.send(9, &[0, 0, 0, 128]);
    wire.barrier();
    a.ns.send_frames("eth0", vec![udp_frame(1, 2, &[7; 300])]);
    // Others may speak, too: it is known by its length.
    let message = std::iter::repeat_with(|| wire.next_of(PACKET_IN)).find(|m| m.u16(4) == 342).unwrap();
    assert_eq!((message.u16(6), message.body[8]), (1, 0), "port and reason of a miss");
    // The whole frame comes where nothing is buffered.
    assert!(message.body.len() >= 10 + 128, "{}", message.body.len());
    host.loose_port("br0", "p7", 7);
    let message = wire.next_of(PORT_STATUS);
    assert_eq!((message.body[0], message.u16(8)), (0, 7), "added, port 7");
    host.ns.ip("link set xp7 down");
    let message = wire.next_of(PORT_STATUS);
    assert_eq!((message.body[0], message.u16(8)), (2, 7), "modified, port 7");
    host.vsctl("del-port p7");
    loop {
        let message = wire.next_of(PORT_STATUS);
        if message.body[0] == 1 {
            assert_eq!(message.u16(8), 7, "deleted, port 7");
            break;
        }
    }
    host.ofctl("add-flow br0 send_flow_rem,cookie=0xabc,priority=77,udp,actions=drop");
    host.ofctl("del-flows br0 udp");
    let message = wire.next_of(FLOW_REMOVED);
    assert_eq!(message.body[40..48], 0xabc_u64.to_be_bytes());
    assert_eq!((message.u16(48), message.body[50]), (77, 2), "priority, deleted");
}

#[test]
fn roles_are_kept_apart() {
    let host = Host::new();
    host.bridge("br0", "fail_mode=secure");
    host.vsctl("set-controller br0 ptcp:6634:127.0.0.1");
    wait_until("the switch listens", || host.ns.exec("ss -Hltn sport = :6634").contains("6634"));
    let mut first = host.wire("br0", 4);
    let mut second = host.wire("br0", 4);
    let role = |role: u32, generation: u64| {
        let mut body = role.to_be_bytes().to_vec();
        body.extend([0; 4]);
        body.extend(generation.to_be_bytes());
        body
    };
    // OFPT_ROLE_REQUEST is 24, OFPCR_ROLE_MASTER 2, SLAVE 3.
    let xid = first.send(24, &role(2, 1));
    assert_eq!(first.answer_to(xid).body[..4], 2_u32.to_be_bytes());
    let xid = second.send(24, &role(2, 2));
    assert_eq!(second.answer_to(xid).body[..4], 2_u32.to_be_bytes());
    // The first is a slave now: it may not change anything (OFPBRC_IS_SLAVE, 1:10).
    let xid = first.send(14, &flow_mod_13());
    assert_eq!(first.answer_to(xid).error(), (1, 10));
    second.send(14, &flow_mod_13());
    second.barrier();
    assert_eq!(host.ofctl("dump-flows br0").matches("cookie").count(), 1);
    // An old generation is stale (OFPRRFC_STALE, 11:0).
    let xid = first.send(24, &role(2, 1));
    assert_eq!(first.answer_to(xid).error(), (11, 0));
    assert_lacks(&host.log(), &["panicked"]);
}

/// An OpenFlow 1.3 flow-mod that adds a rule which drops everything.
fn flow_mod_13() -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend([0, 0, 0, 0, 0, 0, 0x80, 0]);
    body.extend(u32::MAX.to_be_bytes());
    body.extend(u32::MAX.to_be_bytes());
    body.extend(u32::MAX.to_be_bytes());
    body.extend([0; 4]);
    body.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    body
}
