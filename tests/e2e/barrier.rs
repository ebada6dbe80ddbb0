//! A barrier tells the truth: after its reply no packet is forwarded by what the flow-mods before it replaced. Packets bear the time
//! at which they were sent; what was sent after a reply may appear only where the new rules say.

use crate::rig::{Host, Wire};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the rule is turned round.
const ROUNDS: usize = 40;
const SENDERS: u16 = 4;

/// A receiver of stamped packets in a container: (time sent, sender) of each that came, in nanoseconds since `start`.
fn receive(container: &crate::rig::Container, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<u64>> {
    let stop = Arc::clone(stop);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = container.ns.inside(move || {
        let socket = UdpSocket::bind("10.0.0.50:7000").unwrap();
        ready.send(()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut stamps = Vec::new();
        let mut buffer = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(length) = socket.recv(&mut buffer) {
                assert_eq!(length, 8);
                stamps.push(u64::from_le_bytes(buffer[..8].try_into().unwrap()));
            }
        }
        stamps
    });
    is_ready.recv().unwrap();
    receiver
}

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap()
}

#[test]
fn no_packet_takes_the_old_way_after_the_reply() {
    let begin = |wire: &mut Wire| {
        wire.output_all(0, 100, 2);
    };
    turning(1, begin, |wire, _, way| {
        wire.output_all(1, 100, way);
    });
}

#[test]
fn the_same_when_a_group_is_turned() {
    let begin = |wire: &mut Wire| {
        wire.indirect_group(0, 2);
    };
    turning(4, begin, |wire, _, way| {
        wire.indirect_group(1, way);
    });
}

#[test]
fn the_same_when_a_bundle_turns_the_rule() {
    turning(5, |_| (), |wire, round, way| wire.output_all_by_bundle(round, way));
}

/// A meter that lets everything pass, and one that lets nearly nothing pass.
const OPEN: u32 = 10_000_000;
const CLOSED: u32 = 1;

/// A meter is opened and closed by turns. What was sent between the reply and the next change meets the meter as it is: nearly nothing
/// passes where it is closed, all where it is open.
#[test]
fn the_same_when_a_meter_is_turned() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    b.ns.ip("addr add 10.0.0.50/24 dev eth0");
    a.knows("10.0.0.50", &b.mac);
    a.sums_for_stock();
    let mut wire = host.wire("br0", 4);
    wire.packet_meter(0, OPEN);
    wire.barrier();
    host.ofctl("add-flow br0 priority=100,actions=meter:1,output:2");
    let start = Instant::now();
    let (stop, deaf) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let receiver = receive(&b, &deaf);
    let stopped = Arc::clone(&stop);
    let sender = a.ns.inside(move || {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        let mut sent = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            sent.push(nanos(start));
            let _ = socket.send_to(&sent[sent.len() - 1].to_le_bytes(), "10.0.0.50:7000");
            std::thread::sleep(Duration::from_micros(200));
        }
        sent
    });
    // (time of the reply, time of the next request, rate between them)
    let mut spans = Vec::new();
    for round in 0..16 {
        let rate = if round % 2 == 0 { CLOSED } else { OPEN };
        wire.packet_meter(1, rate);
        wire.barrier();
        let replied = nanos(start);
        std::thread::sleep(Duration::from_millis(120));
        spans.push((replied, nanos(start), rate));
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    deaf.store(true, Ordering::Relaxed);
    let arrived = receiver.join().unwrap();
    for (replied, asked, rate) in spans {
        // What is in a ring when the meter is changed meets what comes after it.
        let span = replied..asked.saturating_sub(60_000_000);
        let count = |stamps: &[u64]| stamps.iter().filter(|s| span.contains(s)).count();
        let (sent, arrived) = (count(&sent), count(&arrived));
        let told = format!("{arrived} of {sent} packets passed a meter of {rate} packets a second");
        assert!(if rate == CLOSED { arrived <= 2 } else { arrived * 100 >= sent * 99 }, "{told}");
    }
    assert!(sent.len() > 2_000, "only {} packets were sent", sent.len());
}

/// Sends stamped packets while `turn` leads them by turns to one port and to another, and judges where each appeared. `begin` is said first;
/// then a rule leads to port 2, by group 1 where there is one.
#[allow(clippy::too_many_lines, reason = "one story: send, turn, judge")]
fn turning(version: u8, begin: impl FnOnce(&mut Wire), mut turn: impl FnMut(&mut Wire, u32, u16)) {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &[], "");
    // The same station at two places: which of them gets a packet is the rule's word alone.
    let mac = b.mac.clone();
    c.ns.ip(&format!("link set eth0 address {mac}"));
    for container in [&b, &c] {
        container.ns.ip("addr add 10.0.0.50/24 dev eth0");
    }
    a.knows("10.0.0.50", &mac);
    a.sums_for_stock();
    let mut wire = host.wire("br0", version);
    begin(&mut wire);
    wire.barrier();
    if version != 1 {
        let way = if version == 4 { "group:1" } else { "output:2" };
        host.ofctl(&format!("-O OpenFlow14 add-flow br0 priority=100,actions={way}"));
    }
    let start = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let deaf = Arc::new(AtomicBool::new(false));
    let (at_b, at_c) = (receive(&b, &deaf), receive(&c, &deaf));
    // Several flows, paced, so that megaflows are hit all the time and queues stay short.
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            a.ns.inside(move || {
                let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..4 {
                        let _ = socket.send_to(&nanos(start).to_le_bytes(), "10.0.0.50:7000");
                        sent += 1;
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
                sent
            })
        })
        .collect();
    // When the way turned for sure: (time of the reply, where packets go from then on).
    let mut turns = Vec::new();
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(25));
        let way: u16 = if round.is_multiple_of(2) { 3 } else { 2 };
        let asked = nanos(start);
        turn(&mut wire, u32::try_from(round).unwrap(), way);
        wire.barrier();
        turns.push((asked, nanos(start), way));
    }
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = senders.into_iter().map(|s| s.join().unwrap()).sum();
    std::thread::sleep(Duration::from_millis(200));
    deaf.store(true, Ordering::Relaxed);
    let (at_b, at_c) = (at_b.join().unwrap(), at_c.join().unwrap());
    assert!(sent > 2_000, "only {sent} packets were sent");
    let mut wrong = Vec::new();
    for (way, stamps) in [(2, &at_b), (3, &at_c)] {
        assert!(stamps.len() > 500, "port {way} got {} of {sent} packets", stamps.len());
        for &stamp in stamps {
            // The last turn that was complete when the packet was sent, and whether the next one was under way.
            let done = turns.iter().rposition(|t| t.1 < stamp);
            let expected = done.map_or(2, |i| turns[i].2);
            let under_way = turns.get(done.map_or(0, |i| i + 1)).is_some_and(|next| next.0 <= stamp);
            // A packet that was sent before the next flow-mod may still be in the ring when that takes effect; it is late then, not
            // wrong. Wrong is only the old way after the reply.
            let late = turns.get(done.map_or(0, |i| i + 1)).is_some_and(|next| next.0 <= stamp + 20_000_000);
            if expected != way && !under_way && !late {
                wrong.push((stamp, way));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {sent} packets took the old way after the reply: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    let arrived = (at_b.len() + at_c.len()) as u64;
    let counters = || format!("{}{}", host.appctl("dpctl/show -s"), host.appctl("coverage/show"));
    assert!(
        arrived * 100 >= sent * 99,
        "{arrived} of {sent} packets arrived: changes of rules lose packets\n{}{}",
        counters(),
        b.ns.exec("cat /proc/net/snmp")
    );
}

#[test]
fn deleted_rules_forward_nothing_after_the_reply() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    a.knows("10.0.0.2", &b.mac);
    a.sums_for_stock();
    let mut wire = host.wire("br0", 1);
    for round in 0..10 {
        wire.output_all(0, 100, 2);
        wire.barrier();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = {
            let stop = Arc::clone(&stop);
            b.ns.inside(move || {
                let socket = UdpSocket::bind("10.0.0.2:7000").unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let mut stamps = Vec::new();
                let mut buffer = [0; 64];
                while !stop.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        stamps.push(u64::from_le_bytes(buffer[..8].try_into().unwrap()));
                    }
                }
                stamps
            })
        };
        let start = Instant::now();
        let sender = {
            let stop = Arc::clone(&stop);
            a.ns.inside(move || {
                let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&nanos(start).to_le_bytes(), "10.0.0.2:7000");
                    std::thread::sleep(Duration::from_micros(100));
                }
            })
        };
        std::thread::sleep(Duration::from_millis(60));
        // Deletion is command 3 of a flow-mod.
        wire.output_all(3, 0, 2);
        wire.barrier();
        let gone = nanos(start);
        std::thread::sleep(Duration::from_millis(60));
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        let stamps = seen.join().unwrap();
        assert!(!stamps.is_empty(), "nothing arrived in round {round}");
        let after = stamps.iter().filter(|s| **s > gone).count();
        assert_eq!(after, 0, "round {round}: {after} packets were forwarded after the barrier's reply");
    }
}
