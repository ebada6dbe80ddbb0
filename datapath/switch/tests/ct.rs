//! Connection tracking through the switch: megaflows in text, frames in, frames and connections out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;
#[path = "common/tracking.rs"]
mod tracking;

use common::{frame, segment};
use flow::DpPort;
use flow::action_text::parse_actions;
use flow::conntrack::{CT_STAGES, CtEvent, CtFilter, CtStage, CtTuple};
use flow::forms::NoNames;
use port::offload::{Verdict, verify};
use tracking::{BACK, UDP, bench, ct, dump, out};

/// Port 1 may begin, port 2 may only answer; what is refused goes to port 3.
const FIREWALL: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(1)", "ct(commit,zone=7,mark=0x5/0xff,label=0x1/0x1),2"),
    ("recirc_id(0),in_port(2)", "ct(zone=7),recirc(0x1)"),
    ("ct_state(+est+rpl+trk),ct_mark(0x5),ct_label(0x1),recirc_id(0x1),in_port(2)", "1"),
    ("ct_state(-est+trk),recirc_id(0x1),in_port(2)", "3"),
];

#[test]
fn who_may_begin_and_who_may_answer() {
    let bench = bench(FIREWALL);
    let (there, back) = (frame(UDP, 100), frame(BACK, 100));
    assert_eq!(out(&bench, 2, &back), [3]);
    assert_eq!(out(&bench, 1, &there), [2]);
    assert_eq!(out(&bench, 2, &back), [1]);
    let line = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=2000),reply=(src=10.0.0.2,dst=10.0.0.1,sport=2000,dport=1000),\
                zone=7,mark=5,labels=0x1";
    assert_eq!(dump(&bench), [line]);
    assert_eq!(ct(&bench).connections(), 1);
    // A wrong checksum is not trackable.
    let mut bad = back;
    bad[41] ^= 0xff;
    assert_eq!(out(&bench, 2, &bad), [3]);
}

#[test]
fn flushes_limits_and_policies() {
    let bench = bench(FIREWALL);
    let tracker = ct(&bench);
    let sources = |n: std::ops::Range<u16>| {
        for port in n {
            let frame = frame(&UDP.replace("src=1000", &format!("src={port}")), 100);
            bench.send(1, &frame);
        }
    };
    tracker.set_limit(7, 3);
    sources(1..6);
    assert_eq!(tracker.connections(), 3);
    assert_eq!((tracker.limits(&[7]).1[0].count, tracker.limits(&[]).1.len()), (3, 1));
    tracker.delete_limit(7).unwrap();
    sources(1..6);
    assert_eq!(tracker.connections(), 5);
    let one = CtTuple { src_port: 2, ..CtTuple::default() };
    assert_eq!(tracker.flush(&CtFilter { proto: 17, orig: one, ..CtFilter::default() }), Ok(1));
    let whole = CtTuple {
        src: "10.0.0.1".parse().unwrap(),
        dst: "10.0.0.2".parse().unwrap(),
        proto: 17,
        src_port: 3,
        dst_port: 2000,
        ..CtTuple::default()
    };
    let whole = CtFilter { zone: Some(7), proto: 17, family: 4, orig: whole, ..CtFilter::default() };
    assert_eq!(tracker.flush(&whole), Ok(1));
    assert!(tracker.flush(&whole).is_err(), "there is none any more");
    assert_eq!(tracker.flush(&CtFilter { zone: Some(6), ..CtFilter::default() }), Ok(0));
    assert_eq!(tracker.flush(&CtFilter { zone: Some(7), ..CtFilter::default() }), Ok(3));
    assert_eq!((tracker.connections(), dump(&bench).len()), (0, 0));
    assert_eq!(tracker.limits(&[7]).1[0].count, 0);
    let mut seconds = [None; CT_STAGES.len()];
    seconds[CtStage::UdpFirst as usize] = Some(1234);
    tracker.set_timeouts(9, &seconds).unwrap();
    bench.put(90, "recirc_id(0),in_port(3)", parse_actions("ct(commit,timeout=9)", &NoNames).unwrap());
    bench.send(3, &frame(UDP, 100));
    let mut left = 0;
    tracker.dump(Some(0), &mut |e| {
        left = e.timeout_ms;
        true
    });
    assert!((1_230_000..=1_234_000).contains(&left), "{left}");
}

#[test]
fn what_was_flushed_begins_again() {
    let bench = bench(&[("recirc_id(0),in_port(1)", "ct(force_commit),2")]);
    let tracker = ct(&bench);
    let frames: Vec<_> = (1..300u16).map(|p| frame(&UDP.replace("src=1000", &format!("src={p}")), 60)).collect();
    for round in 0..5 {
        for frame in &frames {
            bench.send(1, frame);
        }
        assert_eq!(tracker.connections(), 299, "{round}");
        assert_eq!(tracker.flush(&CtFilter::default()), Ok(299));
        assert_eq!(tracker.connections(), 0);
    }
}

#[test]
fn source_and_destination_are_translated_and_back() {
    for (nat, there, back) in [
        ("ct(commit,nat(src=192.0.2.1:5000-5000))", "10.0.0.2", ("src=10.0.0.2,dst=192.0.2.1", "src=2000,dst=5000")),
        ("ct(commit,nat(dst=192.0.2.9:80))", "192.0.2.9", ("src=192.0.2.9,dst=10.0.0.1", "src=80,dst=1000")),
    ] {
        let bench = bench(&[
            ("recirc_id(0),in_port(1)", format!("{nat},recirc(0x1)").as_str()),
            ("ct_state(+new+trk),recirc_id(0x1),in_port(1)", "2"),
            ("recirc_id(0),in_port(2)", "ct(nat),recirc(0x2)"),
            ("ct_state(+est+rpl+trk),recirc_id(0x2),in_port(2)", "1"),
        ]);
        let sent = bench.send(1, &frame(UDP, 100));
        assert_eq!((sent.len(), sent[0].0), (1, 2));
        assert_eq!(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&sent[0].1[30..34]).unwrap()).to_string(), there);
        assert_eq!(verify(&sent[0].1), (Verdict::Good, Verdict::Good));
        let reply = BACK.replace("src=10.0.0.2,dst=10.0.0.1", back.0).replace("src=2000,dst=1000", back.1);
        let sent = bench.send(2, &frame(&reply, 100));
        assert_eq!(sent, [(1, frame(BACK, 100))], "{nat}");
    }
}

/// An active FTP client behind NAT: the command carries the outside address, sequence numbers follow, the server's connection comes in.
#[test]
fn ftp_through_nat() {
    let bench = bench(&[
        ("recirc_id(0),in_port(1)", "ct(commit,helper=ftp,nat(src=192.0.2.200)),2"),
        ("recirc_id(0),in_port(2)", "ct(nat),recirc(0x1)"),
        ("ct_state(+est+rpl+trk),recirc_id(0x1),in_port(2)", "1"),
        ("ct_state(+new+rel+trk),recirc_id(0x1),in_port(2)", "ct(commit,nat),1"),
        ("ct_state(+new-rel+trk),recirc_id(0x1),in_port(2)", "3"),
    ]);
    let (client, server, outside) = ("10.0.0.1", "10.0.0.2", "192.0.2.200");
    let up = |seq, ack, flags, text: &str| bench.send(1, &segment(client, server, (4000, 21), seq, ack, flags, text));
    let down = |seq, ack, flags, text: &str| bench.send(2, &segment(server, outside, (21, 4000), seq, ack, flags, text));
    up(100, 0, 2, "");
    assert_eq!(down(900, 101, 0x12, "").len(), 1);
    up(101, 901, 0x10, "");
    let sent = up(101, 901, 0x18, "PORT 10,0,0,1,4,1\r\n");
    let frame = &sent[0].1;
    assert_eq!(&frame[54..], b"PORT 192,0,2,200,4,1\r\n");
    assert_eq!(verify(frame), (Verdict::Good, Verdict::Good));
    // The server acknowledges three bytes more than the client has sent.
    let back = down(901, 101 + 22, 0x10, "");
    assert_eq!(back[0].1[42..46], (101u32 + 19).to_be_bytes());
    let next = up(120, 901, 0x18, "LIST\r\n");
    assert_eq!(next[0].1[38..42], 123u32.to_be_bytes());
    assert_eq!(ct(&bench).expectations(None).len(), 1);
    let data = bench.send(2, &segment(server, outside, (20, 1025), 7000, 0, 2, ""));
    assert_eq!((data.len(), data[0].0), (1, 1));
    assert_eq!(data[0].1[30..34], [10, 0, 0, 1]);
    assert_eq!(verify(&data[0].1), (Verdict::Good, Verdict::Good));
    assert_eq!(ct(&bench).expectations(None).len(), 0, "fulfilled once");
    let stranger = bench.send(2, &segment(server, outside, (20, 1026), 7000, 0, 2, ""));
    assert_eq!(stranger.iter().map(|s| s.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn events_say_what_may_be_offloaded() {
    let bench = bench(FIREWALL);
    let tracker = ct(&bench);
    tracker.watch(true);
    bench.send(1, &frame(UDP, 100));
    assert_eq!(tracker.events(), []);
    bench.send(2, &frame(BACK, 100));
    bench.send(2, &frame(BACK, 100));
    let events = tracker.events();
    assert_eq!(events.len(), 1);
    assert!(matches!(&events[0], CtEvent::Established(e) if e.orig.src_port == 1000 && e.zone == 7 && e.established));
    // Its mark stays as it is, changes, and it is ended.
    bench.send(1, &frame(UDP, 100));
    assert_eq!(tracker.events(), []);
    bench.put(90, "recirc_id(0),in_port(3)", parse_actions("ct(commit,zone=7,mark=0x9/0xff),2", &NoNames).unwrap());
    bench.send(3, &frame(UDP, 100));
    assert!(matches!(&tracker.events()[..], [CtEvent::Changed(e)] if e.mark == 9));
    assert_eq!(tracker.flush(&CtFilter::default()), Ok(1));
    assert!(matches!(&tracker.events()[..], [CtEvent::Closing(e)] if e.mark == 9 && e.zone == 7));
    bench.send(1, &frame(UDP, 100));
    assert_eq!(tracker.flush(&CtFilter::default()), Ok(1));
    assert_eq!(tracker.events(), [], "it was not established");
}

/// A connection whose packets pass elsewhere lives as long as they do, and its windows are not looked at.
#[test]
fn carried_elsewhere() {
    let bench = bench(FIREWALL);
    let tracker = ct(&bench);
    bench.send(1, &frame(UDP, 100));
    bench.send(2, &frame(BACK, 100));
    let mut all = Vec::new();
    tracker.dump(None, &mut |e| {
        all.push(e.clone());
        true
    });
    let orig = all[0].orig;
    assert!(tracker.carry(7, &orig) && !tracker.carry(8, &orig));
    assert!(!tracker.carry(7, &all[0].reply), "its own direction names it");
    let mut seconds = [None; CT_STAGES.len()];
    seconds[CtStage::UdpMultiple as usize] = Some(500);
    tracker.set_timeouts(0, &seconds).unwrap();
    assert!(tracker.lifetime(7, &orig, false).unwrap() <= 60_000);
    assert!(tracker.lifetime(7, &orig, true).unwrap() > 490_000);
    assert!(tracker.lifetime(7, &orig, false).unwrap() > 490_000);
    assert_eq!(tracker.lifetime(1, &orig, true), None);
}

/// A packet whose addresses an action changes between two `ct` of a zone is of two connections.
#[test]
fn changed_packets_are_looked_up_again() {
    let bench = bench(&[("recirc_id(0),in_port(1)", "ct(commit,zone=1),set(ipv4(dst=10.0.0.9)),ct(commit,zone=1),2")]);
    assert_eq!(out(&bench, 1, &frame(UDP, 100)), [2]);
    let lines = dump(&bench);
    assert!(lines.len() == 2 && lines.iter().any(|l| l.contains("dst=10.0.0.9,")), "{lines:?}");
}

#[test]
fn cleared_and_untracked() {
    let bench = bench(&[
        ("recirc_id(0),in_port(1)", "ct(commit),ct_clear,recirc(0x1)"),
        ("ct_state(-trk),recirc_id(0x1),in_port(1)", "2"),
        ("ct_state(+trk),recirc_id(0x1),in_port(1)", "3"),
        ("recirc_id(0),in_port(2)", "ct,recirc(0x2)"),
        ("ct_state(+inv+trk),recirc_id(0x2),in_port(2)", "3"),
    ]);
    assert_eq!(out(&bench, 1, &frame(UDP, 100)), [2]);
    let arp = "eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.2,op=1,sha=00:00:00:00:00:01,tha=00:00:00:00:00:00)";
    assert_eq!(out(&bench, 2, &frame(arp, 60)), [3]);
    assert_eq!(bench.dp.port_by_name("p1"), Some(DpPort(1)));
}
