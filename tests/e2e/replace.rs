//! Rules change by the hundred thousand while packets pass: a bundle, then a replacement of all of them. Each packet is judged by itself:
//! where it may appear is what the rules said when it was sent or while they changed, and it appears once.

use crate::rig::{Container, Host};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rules besides those that packets meet.
const OTHERS: u32 = 100_000;
/// Streams of packets, told apart by their port.
const STREAMS: u16 = 16;
const FIRST_PORT: u16 = 7000;
/// Port of the switch that a stream leaves by at first, and after the replacement.
const WAYS: [fn(u16) -> u8; 2] = [|stream| 2 + (stream % 2) as u8, |stream| 2 + (stream / 2 % 2) as u8];

/// A packet as it was seen: stream, number within it, time at which it was sent.
type Seen = (u16, u32, u64);

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap()
}

fn rules(way: fn(u16) -> u8, network: u8) -> String {
    let mut text = String::new();
    for stream in 0..STREAMS {
        writeln!(text, "priority=200,udp,tp_dst={},actions=output:{}", FIRST_PORT + stream, way(stream)).unwrap();
    }
    for i in 0..OTHERS {
        let [_, x, y, z] = i.to_be_bytes();
        writeln!(text, "priority={},tcp,nw_src={network}.{x}.{y}.{z},tp_dst={},actions=drop", 100 + i % 50, i % 60_000 + 1)
            .unwrap();
    }
    text
}

/// Takes what comes for any stream until told to stop.
fn receive(container: &Container, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Seen>> {
    let stop = Arc::clone(stop);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = container.ns.inside(move || {
        let bind = |stream| UdpSocket::bind(("10.0.0.50", FIRST_PORT + stream)).unwrap();
        let sockets: Vec<UdpSocket> = (0..STREAMS).map(bind).collect();
        sockets.iter().for_each(|s| s.set_nonblocking(true).unwrap());
        ready.send(()).unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            let mut any = false;
            for (stream, socket) in (0..).zip(&sockets) {
                while let Ok(length) = socket.recv(&mut buffer) {
                    assert_eq!(length, 12);
                    let number = u32::from_le_bytes(buffer[..4].try_into().unwrap());
                    seen.push((stream, number, u64::from_le_bytes(buffer[4..12].try_into().unwrap())));
                    any = true;
                }
            }
            if !any {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        seen
    });
    is_ready.recv().unwrap();
    receiver
}

fn send(container: &Container, stop: &Arc<AtomicBool>, start: Instant) -> std::thread::JoinHandle<u32> {
    let stop = Arc::clone(stop);
    container.ns.inside(move || {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        let mut number = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            for stream in 0..STREAMS {
                let packet = [&number.to_le_bytes()[..], &nanos(start).to_le_bytes()].concat();
                let _ = socket.send_to(&packet, ("10.0.0.50", FIRST_PORT + stream));
            }
            number += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        number
    })
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story: send, change, judge")]
fn a_bundle_and_a_replacement_of_100_000_rules_mislead_no_packet() {
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
    std::fs::write(host.file("first"), rules(WAYS[0], 11)).unwrap();
    std::fs::write(host.file("second"), rules(WAYS[1], 12)).unwrap();
    let few: String = rules(WAYS[0], 11).lines().take(usize::from(STREAMS)).map(|l| format!("{l}\n")).collect();
    host.flows("br0", &few);
    let start = Instant::now();
    let (stop, deaf) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let receivers = [receive(&b, &deaf), receive(&c, &deaf)];
    let sender = send(&a, &stop, start);
    std::thread::sleep(Duration::from_millis(300));
    host.tool("ovs-ofctl", "--timeout=120 -OOpenFlow14 --bundle add-flows br0 first");
    std::thread::sleep(Duration::from_millis(300));
    let began = nanos(start);
    host.tool("ovs-ofctl", "--timeout=120 -OOpenFlow14 --bundle replace-flows br0 second");
    let ended = nanos(start);
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let rounds = sender.join().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    deaf.store(true, Ordering::Relaxed);
    let seen = receivers.map(|r| r.join().unwrap());
    let sent = u64::from(rounds) * u64::from(STREAMS);
    let arrived: usize = seen.iter().map(Vec::len).sum();
    assert!(host.ofctl("-OOpenFlow14 dump-aggregate br0").contains(&format!("flow_count={}", OTHERS + 16)));

    let mut at: BTreeMap<(u16, u32), u8> = BTreeMap::new();
    let mut last_old = [0_u32; STREAMS as usize];
    let mut first_new = [u32::MAX; STREAMS as usize];
    for (way, packets) in (2_u8..).zip(&seen) {
        for &(stream, number, stamp) in packets {
            assert_eq!(at.insert((stream, number), way), None, "packet {number} of stream {stream} came twice");
            let [old, new] = WAYS.map(|w| w(stream));
            // What was sent just before the replacement began may still be on its way when it takes effect.
            let allowed = if stamp > ended {
                way == new
            } else if stamp + 50_000_000 < began {
                way == old
            } else {
                way == old || way == new
            };
            assert!(allowed, "packet {number} of stream {stream}, sent at {stamp} ns ({began} to {ended}), left by port {way}");
            if old != new {
                let n = usize::from(stream);
                if way == old {
                    last_old[n] = last_old[n].max(number);
                } else {
                    first_new[n] = first_new[n].min(number);
                }
            }
        }
    }
    for (stream, (old, new)) in last_old.iter().zip(&first_new).enumerate() {
        assert!(old < new, "stream {stream}: packet {old} took the old way after packet {new} had taken the new one");
    }
    assert!(arrived as u64 * 100 >= sent * 99, "{arrived} of {sent} packets arrived");
    assert!(sent > 3_000, "only {sent} packets were sent");
}
