//! Tunnels through the switch: fragments of encapsulated packets, packets too long for the way out, loops.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failure is the test's")]

mod common;

use common::{Bench, fragments, frame, numbered};
use datapath::counters::DROP_RECIRC;
use datapath::ct::fragments::FRAGMENTS_PURGED;
use flow::action_text::parse_actions;
use flow::checksum::checksum;
use flow::forms::NoNames;
use flow::seam::PortRequest;
use flow::{Datapath, DpPort};

const INNER: &str = "eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
                     ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
const TO_ENTER: &str = "in_port(1),recirc_id(0)";
/// The underlay: what comes in by port 2.
const TO_LEAVE: &str = "in_port(2),recirc_id(0)";

/// Ports 1 and 2, a VXLAN port, and `tnl_push` to 1.1.2.92 by port 2.
fn tunnel() -> (Bench, u32, String) {
    let bench = Bench::new(2, &[]);
    let request = PortRequest { name: "vxlan_sys_4789".into(), kind: "vxlan".into(), ..PortRequest::default() };
    let port = bench.dp.port_add(&request).unwrap().0;
    let push = format!(
        "tnl_push(tnl_port({port}),header(size=50,type=4,eth(dst=02:00:00:00:00:02,src=02:00:00:00:00:01,dl_type=0x0800),\
         ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),\
         vxlan(flags=0x8000000,vni=0x7b)),out_port(2))"
    );
    (bench, port, push)
}

fn put(bench: &Bench, ufid: u128, flow: &str, actions: &str) {
    bench.put(ufid, flow, parse_actions(actions, &NoNames).unwrap());
}

#[test]
fn fragments_of_an_encapsulated_packet_are_put_together() {
    let (bench, port, push) = tunnel();
    put(&bench, 1, TO_ENTER, &format!("{push},2"));
    put(&bench, 2, TO_LEAVE, &format!("tnl_pop({port})"));
    put(&bench, 3, &format!("in_port({port}),recirc_id(0),tunnel(tun_id=0x7b,src=1.1.2.88)"), "1");
    let inner = frame(INNER, 1400);
    let outer = bench.send(1, &inner).remove(0).1;
    assert_eq!(outer.len(), 1450);
    assert_eq!(bench.send(2, &outer), [(1, inner.clone())], "whole");
    let [second, first] = fragments(&outer, 800);
    assert_eq!(bench.send(2, &second), []);
    assert_eq!(bench.send(2, &first), [(1, inner.clone())]);
    // What never completes is held to a limit, and does not keep others from being forwarded.
    let before = FRAGMENTS_PURGED.count();
    for id in 0..3000u16 {
        assert_eq!(bench.send(2, &numbered(&first, id)), []);
    }
    assert!(FRAGMENTS_PURGED.count() - before >= 2000, "1000 are held, for which those that began first have given way");
    assert_eq!(bench.send(2, &second), []);
    assert_eq!(bench.send(2, &first), [(1, inner)], "one more is put together");
    assert_eq!(bench.send(2, &outer).len(), 1);
}

#[test]
fn who_sends_too_long_packets_is_told_by_the_tunnel() {
    let (bench, port, push) = tunnel();
    put(&bench, 1, TO_ENTER, &format!("{push},2"));
    let back = format!("in_port({port}),recirc_id(0),tunnel(tun_id=0x7b,src=1.1.2.92,dst=1.1.2.88)");
    put(&bench, 2, &back, "1");
    let fits = frame(INNER, 1464);
    assert_eq!(bench.send(1, &fits)[0].1.len(), 1514);
    // May be cut: two packets by port 2.
    let mut long = frame(INNER, 1465);
    let out = bench.send(1, &long);
    assert_eq!(out.iter().map(|o| o.0).collect::<Vec<_>>(), [2, 2]);
    assert!(out.iter().all(|o| o.1.len() <= 1514));
    // May not: an ICMP error with the MTU by port 1, as if the other end had sent it.
    long[20] = 0x40;
    long[24..26].fill(0);
    let sum = checksum(&long[14..34]);
    long[24..26].copy_from_slice(&sum);
    let out = bench.send(1, &long);
    assert_eq!(out.len(), 1);
    let (to, answer) = &out[0];
    assert_eq!((*to, &answer[34..36], &answer[40..42]), (1, &[3u8, 4][..], &1450u16.to_be_bytes()[..]));
    assert_eq!(bench.send(1, &fits)[0].1.len(), 1514, "others go on");
    // The port tells of both.
    let told = bench.dp.port_too_long(DpPort(port));
    let [to] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((to.remote.to_string(), to.mtu, to.longest), ("1.1.2.92".to_owned(), 1450, 1451));
    assert_eq!((to.answered, to.fragmented, to.dropped), (1, 1, 0));
    assert_eq!(bench.dp.port_too_long(DpPort(1)), []);
}

/// A packet that its own tunnel brings back goes round a few times, and is counted then.
#[test]
fn a_tunnel_into_itself_ends() {
    let (bench, port, push) = tunnel();
    let push = push.replace("02:00:00:00:00:02,src=02:00:00:00:00:01", "02:00:00:00:00:01,src=02:00:00:00:00:02");
    let round = format!("{push},tnl_pop({port})");
    put(&bench, 1, TO_ENTER, &round);
    put(&bench, 2, &format!("in_port({port}),recirc_id(0)"), &round);
    let before = DROP_RECIRC.count();
    assert_eq!(bench.send(1, &frame(INNER, 100)), []);
    assert_eq!(DROP_RECIRC.count() - before, 1);
    assert_eq!(bench.dp.port_by_name("p1"), Some(DpPort(1)));
}
