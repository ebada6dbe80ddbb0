//! Time and limits: statistics that reach rules within a second, timeouts and their flow-removed messages, the flow limit.

use crate::rig::{FLOW_REMOVED, Host, Message, Wire, assert_has, assert_lacks, number_after, udp_frame, wait_for, wait_until};
use std::time::{Duration, Instant};

#[test]
fn statistics_reach_rules_within_a_second() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    host.flows("br0", "udp,actions=output:2\n");
    for round in 1..=3_u64 {
        a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"count me"); 100]);
        let start = Instant::now();
        wait_until("rules have counted", || host.packets("br0", &["udp"]) == round * 100);
        // A second, and the time of the question itself.
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }
}

#[test]
fn rules_expire_idle_and_hard_and_say_so() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    let mut wire = host.wire("br0", 1);
    // A service connection hears of removed flows after it has set a miss_send_len (OFPT_SET_CONFIG is 9).
    wire.send(9, &[0, 0, 0, 128]);
    wire.barrier();
    host.ofctl("add-flow br0 send_flow_rem,cookie=1,idle_timeout=2,udp,actions=output:2");
    host.ofctl("add-flow br0 send_flow_rem,cookie=2,hard_timeout=3,priority=5,actions=drop");
    host.ofctl("add-flow br0 cookie=3,idle_timeout=1,tcp,actions=drop");
    let start = Instant::now();
    // Traffic keeps the idle rule alive; the hard one goes nevertheless.
    while start.elapsed() < Duration::from_secs(4) {
        a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"alive")]);
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = host.ofctl("dump-flows br0");
    assert_has(&left, &["cookie=0x1,"]);
    assert_lacks(&left, &["cookie=0x2,", "cookie=0x3,"]);
    let hard = removed(&mut wire);
    assert_eq!((hard.body[47], hard.body[50]), (2, 1), "cookie 2, OFPRR_HARD_TIMEOUT");
    wait_for("the idle rule expires", Duration::from_secs(6), || !host.ofctl("dump-flows br0").contains("cookie=0x1,"));
    let idle = removed(&mut wire);
    assert_eq!((idle.body[47], idle.body[50]), (1, 0), "cookie 1, OFPRR_IDLE_TIMEOUT");
    let packets = u64::from_be_bytes(idle.body[64..72].try_into().unwrap());
    assert!(packets >= 10, "{packets} packets in the flow-removed message");
}

/// The next flow-removed message, however long others take.
fn removed(wire: &mut Wire) -> Message {
    wire.next_of(FLOW_REMOVED)
}

#[test]
fn megaflows_expire_when_idle_and_stay_below_their_limit() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    // Every source port is a megaflow of its own.
    host.flows("br0", "udp,tp_src=7,tp_dst=1,actions=drop\nudp,actions=output:2\n");
    host.vsctl("set open_vswitch . other_config:max-idle=500");
    let frames: Vec<_> = (2..514_u16)
        .map(|port| {
            let mut frame = udp_frame(1, 2, b"many");
            frame[36..38].copy_from_slice(&port.to_be_bytes());
            frame
        })
        .collect();
    host.flows("br0", "udp,actions=move:NXM_OF_UDP_DST[]->NXM_NX_REG0[0..15],output:2\n");
    a.ns.send_frames("eth0", frames.clone());
    let flows = || number_after(&host.appctl("dpctl/show"), "flows: ").unwrap();
    assert!(flows() > 100, "{} megaflows", flows());
    wait_until("they expire", || flows() < 20);
    // A limit of 200: what is above it is forwarded without a megaflow, or flushed soon.
    host.vsctl("set open_vswitch . other_config:flow-limit=200 other_config:max-idle=10000");
    for _ in 0..3 {
        a.ns.send_frames("eth0", frames.clone());
    }
    wait_until("the limit holds", || flows() <= 210);
    assert_has(&host.appctl("upcall/show"), &["(limit 200)"]);
    wait_until("no packet was lost to it", || host.packets("br0", &["udp"]) >= 512 * 4);
}
