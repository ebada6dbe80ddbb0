//! A hundred times as many connections and fragments as may be: bounded, counted, and other traffic goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;
#[path = "common/tracking.rs"]
mod tracking;

use common::{fragments, frame, numbered, parse, segment};
use datapath::ct::fragments::FRAGMENTS_PURGED;
use datapath::ct::{CT_EARLY_DROP, CT_FULL, CT_ZONE_FULL};
use flow::action_text::parse_actions;
use flow::compose::{Payload, compose};
use flow::conntrack::CtFilter;
use flow::forms::NoNames;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracking::{BACK, UDP, bench, ct, dump, out};

/// Counters are the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Port 1 may begin, port 2 may only answer; what is refused goes to port 3.
const FIREWALL: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(1)", "ct(commit,zone=7),2"),
    ("recirc_id(0),in_port(2)", "ct(zone=7),recirc(0x1)"),
    ("ct_state(+est+rpl+trk),recirc_id(0x1),in_port(2)", "1"),
    ("ct_state(-est+trk),recirc_id(0x1),in_port(2)", "3"),
];
/// What can be tracked goes to port 2, what cannot to port 3.
const TRACKED: &[(&str, &str)] = &[
    ("recirc_id(0),in_port(1)", "ct(zone=7),recirc(0x1)"),
    ("ct_state(-inv+trk),recirc_id(0x1),in_port(1)", "2"),
    ("ct_state(+inv+trk),recirc_id(0x1),in_port(1)", "3"),
];

/// The first packet of another connection, to another port than `UDP`'s.
fn first(port: u16) -> Vec<u8> {
    frame(&UDP.replace("src=1000,dst=2000", &format!("src={port},dst=2001")), 100)
}

/// First packets beyond the limit end others that were not answered, never one that was.
#[test]
fn floods_do_not_end_what_is_established() {
    let _alone = alone();
    let bench = bench(FIREWALL);
    let tracker = ct(&bench);
    bench.send(1, &frame(UDP, 100));
    bench.send(2, &frame(BACK, 100));
    tracker.set_max_connections(30).unwrap();
    // A hundred times as many as may be; what is established is forwarded all the time.
    let counted = || CT_EARLY_DROP.count() + CT_FULL.count();
    let before = counted();
    for port in 1..=3000u16 {
        assert_eq!(out(&bench, 1, &first(port)), [2], "the packet itself is not lost");
        assert!(tracker.connections() <= 30);
        assert_eq!(out(&bench, 2, &frame(BACK, 100)), [1], "{port}");
    }
    assert!(counted() - before >= 2971, "each is told of");
    // Enough that are established leave no room for others, and are not ended for them.
    tracker.flush(&CtFilter::default()).unwrap();
    let both = |port: u16| {
        bench.send(1, &frame(&UDP.replace("src=1000", &format!("src={port}")), 100));
        out(&bench, 2, &frame(&BACK.replace("dst=1000", &format!("dst={port}")), 100))
    };
    (1000..1030).for_each(|port| assert_eq!(both(port), [1]));
    let full = CT_FULL.count();
    (2000..2100).for_each(|port| assert_eq!(both(port), [3]));
    assert_eq!(CT_FULL.count() - full, 100);
    (1000..1030).for_each(|port| assert_eq!(both(port), [1]));
    assert!(dump(&bench).iter().any(|l| l.contains("sport=1000,")));
    assert!(tracker.set_max_connections(u32::MAX).is_err());
}

/// A zone at its limit keeps no more connections, and ends none of its own for them; another zone has its own limit.
#[test]
fn a_zone_at_its_limit_is_bounded_and_counted() {
    let _alone = alone();
    let bench = bench(FIREWALL);
    bench.put(90, "recirc_id(0),in_port(3)", parse_actions("ct(commit,zone=8),2", &NoNames).unwrap());
    let tracker = ct(&bench);
    tracker.set_default_limit(Some(40));
    tracker.set_limit(7, 30);
    bench.send(1, &frame(UDP, 100));
    let full = CT_ZONE_FULL.count();
    for port in 1..=3000u16 {
        assert_eq!(out(&bench, 1, &first(port)), [2], "the packet itself is not lost");
        assert_eq!(tracker.connections(), 30.min(u32::from(port) + 1));
        assert_eq!(out(&bench, 2, &frame(BACK, 100)), [1], "{port}");
    }
    assert_eq!(CT_ZONE_FULL.count() - full, 3000 - 29);
    assert_eq!(tracker.limits(&[7]).1[0].count, 30);
    (1..=4000u16).for_each(|port| assert_eq!(out(&bench, 3, &first(port)), [2]));
    assert_eq!(CT_ZONE_FULL.count() - full, 3000 - 29 + 4000 - 40);
    assert_eq!((tracker.limits(&[8]).1[0].count, tracker.connections()), (40, 70));
    // What ends makes room for another.
    let one = CtFilter { zone: Some(8), ..CtFilter::default() };
    assert_eq!((tracker.flush(&one), tracker.limits(&[8]).1[0].count), (Ok(40), 0));
    bench.send(3, &first(9));
    assert_eq!((tracker.limits(&[8]).1[0].count, CT_ZONE_FULL.count() - full), (1, 3000 - 29 + 4000 - 40));
}

/// A flood of first segments, and of handshakes that are never finished, ends no connection that has had its handshake.
#[test]
fn half_open_connections_end_no_established_one() {
    const SYN: u8 = 2;
    const ACK: u8 = 0x10;
    let _alone = alone();
    let bench = bench(FIREWALL);
    let tracker = ct(&bench);
    let up = |port: u16, seq, ack, flags| out(&bench, 1, &segment("10.0.0.1", "10.0.0.2", (port, 80), seq, ack, flags, ""));
    let down = |port: u16, seq, ack, flags| out(&bench, 2, &segment("10.0.0.2", "10.0.0.1", (80, port), seq, ack, flags, ""));
    for port in 1..=10 {
        up(port, 100, 0, SYN);
        down(port, 900, 101, SYN | ACK);
        up(port, 101, 901, ACK);
    }
    tracker.set_max_connections(30).unwrap();
    let established = || {
        let mut n = 0;
        tracker.dump(None, &mut |e| {
            n += u32::from(e.established);
            true
        });
        n
    };
    assert_eq!(established(), 10);
    let counted = || CT_EARLY_DROP.count() + CT_FULL.count();
    let before = counted();
    for port in 1000..4000 {
        assert_eq!(up(port, 1, 0, SYN), [2]);
        // Every other one is answered; the handshake's last segment never comes.
        if port % 2 == 0 {
            down(port, 7, 2, SYN | ACK);
        }
        assert!(tracker.connections() <= 30);
        let known = port % 10 + 1;
        assert_eq!((up(known, 101, 901, ACK), down(known, 901, 101, ACK)), (vec![2], vec![1]), "{port}");
    }
    assert!(counted() - before >= 3000 - 20, "each is told of");
    assert_eq!(established(), 10);
}

/// A hundred times as many fragments as may be held, of datagrams that never complete: those that waited longest give way, and what is whole, or
/// becomes so, is tracked all the time.
#[test]
fn fragments_that_never_complete_keep_nobody_out() {
    let _alone = alone();
    let bench = bench(TRACKED);
    let tracker = ct(&bench);
    tracker.set_fragments_max(20).unwrap();
    let [last, first] = fragments(&frame(UDP, 1434), 1208);
    let purged = FRAGMENTS_PURGED.count();
    for id in 0..2000u16 {
        assert_eq!(out(&bench, 1, &numbered(&first, id)), [0; 0], "{id}");
        assert_eq!(out(&bench, 1, &frame(UDP, 100)), [2], "{id}");
        if id % 10 == 9 {
            // Goes on in pieces.
            assert_eq!(out(&bench, 1, &numbered(&last, id - 5)), [2, 2], "{id}");
        }
        assert!(tracker.fragments().held <= 20);
    }
    let held = tracker.fragments();
    assert_eq!((held.v4.accepted, held.v4.completed), (2200, 400));
    assert_eq!(held.v4.purged, 1800 - u64::from(held.held));
    assert_eq!(FRAGMENTS_PURGED.count() - purged, held.v4.purged);
    assert_eq!(held.lists.len(), held.held as usize);
    // One that gave way does not become whole any more.
    assert_eq!(out(&bench, 1, &numbered(&last, 1000)), [0; 0]);
}

/// The same over IPv6. Fragments of both families are held to one limit; the status says what there is of each.
#[test]
fn fragments_of_both_families_have_one_limit() {
    let _alone = alone();
    let bench = bench(TRACKED);
    let tracker = ct(&bench);
    let lonely = |id: u16| {
        let flow = format!(
            "eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x86dd),\
             ipv6(src=2001:db8::{id:x},dst=2001:db8::1,label=0,proto=17,tclass=0,hlimit=64,frag=first)"
        );
        compose(&parse(&flow).0, Payload::Len(1352))
    };
    let [_, four] = fragments(&frame(UDP, 1434), 1208);
    tracker.set_fragments_max(30).unwrap();
    (0..10).for_each(|id| assert_eq!(out(&bench, 1, &numbered(&four, id)), [0; 0]));
    let purged = FRAGMENTS_PURGED.count();
    for id in 0..3000u16 {
        assert_eq!(out(&bench, 1, &lonely(id)), [0; 0], "{id}");
        assert_eq!(out(&bench, 1, &frame(UDP, 100)), [2], "{id}");
        // Those over IPv4 were first.
        let four = tracker.fragments().lists.iter().filter(|l| l.contains("dl_type=0x800")).count();
        assert_eq!(four, usize::from(29_u16.saturating_sub(id).min(10)), "{id}");
    }
    assert_eq!(FRAGMENTS_PURGED.count() - purged, 2980);
    let status = tracker.fragments();
    assert_eq!((status.max, status.held, status.lists.len()), (30, 30, 30));
    assert_eq!((status.v4.accepted, status.v4.purged), (10, 10));
    assert_eq!((status.v6.accepted, status.v6.completed, status.v6.purged), (3000, 0, 2970));
    assert_eq!(status.lists.iter().filter(|l| l.contains("dl_type=0x86dd") && l.contains("state=first frag")).count(), 30);
}
