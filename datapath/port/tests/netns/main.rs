//! Real devices in network namespaces of the tests' own: frames in are frames out, and TCP arrives intact with default offloads.
//!
//! Needs root, iproute2 and python3; fails without them. Every namespace's name is unique and it is removed at the end, also after
//! a panic. `world` holds the scaffolding.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod host;
mod queues;
mod world;

use port::netlink::raw::{Raw, Watch};
use port::netlink::{Event, Monitor, TOLD_MAX, Told, request};
use port::{Batch, Device, Packet, PortConfig, Receive, Transmit};
use std::process::Command;
use std::time::Duration;
use world::{Forwarder, World, config, soon};

/// A frame of `len` bytes with a number in it, of an experimental type (RFC 5342 section 2.2.3, 0x88b5).
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.extend_from_slice(&number.to_be_bytes());
    while frame.len() < len {
        frame.push(u8::try_from((frame.len() * 7 + number as usize) & 0xff).unwrap());
    }
    frame
}

/// Sends `frames` into `from` and returns what of type 0x88b5 (also tagged) comes out of `to`. Both are opened by name in namespaces.
fn pass(world: &World, from: (&str, &str), to: (&str, &str), frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let tap = |name: &str| config(name, "system").with("io", "af_packet");
    let mut receiver = world.within(to.0, || Device::open(&tap(to.1)).unwrap());
    let mut rx = receiver.take_rx().remove(0);
    let sender = world.within(from.0, || Device::open(&tap(from.1)).unwrap());
    let mut tx = sender.tx().unwrap();
    let (mut got, mut batch) = (Vec::new(), Batch::new());
    let mut collect = |got: &mut Vec<Vec<u8>>| {
        rx.recv(&mut batch);
        for packet in batch.drain() {
            let data = packet.data();
            if data[12..14] == [0x88, 0xb5] || data[12..14] == [0x81, 0x00] && data[16..18] == [0x88, 0xb5] {
                got.push(data.to_vec());
            }
        }
    };
    for part in frames.chunks(16) {
        let mut batch = Batch::new();
        for frame in part {
            batch.push(Packet::from_bytes(frame).unwrap()).unwrap();
        }
        let want = got.len() + part.len();
        tx.send(&mut batch);
        soon(Duration::from_millis(500), || {
            collect(&mut got);
            got.len() >= want
        });
    }
    assert_eq!(sender.queue_stats().1[0].packets, frames.len() as u64);
    got
}

fn check_frames(kind: &str, option: Option<(&str, &str)>) {
    let world = World::veths();
    let with = |name: &str| {
        let config = config(name, kind);
        match option {
            Some((key, value)) => config.with(key, value),
            None => config,
        }
    };
    let forwarder = Forwarder::start(&world, with("swa"), with("swb"));
    let frames: Vec<_> = (0..300u32).map(|i| frame(i, 60 + (i as usize * 37) % 1455)).collect();
    let got = pass(&world, ("a", "e0"), ("b", "e0"), &frames);
    assert_eq!(got.len(), frames.len());
    assert!(got == frames, "frames changed or changed places");
    // A tag that stands beside the frame.
    let _tagger = world.within("a", || world::tag_egress("e0"));
    let got = pass(&world, ("a", "e0"), ("b", "e0"), &frames[..32]);
    let tagged = |frame: &Vec<u8>| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    if option != Some(("xdp-mode", "generic")) {
        assert!(got == frames[..32].iter().map(tagged).collect::<Vec<_>>(), "tags are lost: {:02x?}", got.first());
    }
    let [a, b] = forwarder.stop();
    assert!(a.rx_packets >= 332 && b.tx_packets >= 332, "{a:?} {b:?}");
}

#[test]
fn frames_pass_af_packet() {
    check_frames("system", None);
}

#[test]
fn frames_pass_af_packet_with_fanout() {
    check_frames("system", Some(("n_rxq", "2")));
}

#[test]
fn frames_pass_af_xdp_native() {
    check_frames("afxdp", Some(("xdp-mode", "native")));
}

#[test]
fn frames_pass_af_xdp_generic() {
    check_frames("afxdp", Some(("xdp-mode", "generic")));
}

fn check_tcp(a: PortConfig, b: PortConfig) {
    let world = World::veths();
    let forwarder = Forwarder::start(&world, a, b);
    world::transfer(&world, "a", "b", 100 << 20);
    world::transfer(&world, "b", "a", 10 << 20);
    forwarder.stop();
}

#[test]
fn tcp_passes_af_packet() {
    check_tcp(config("swa", "system"), config("swb", "system"));
}

#[test]
fn tcp_passes_af_xdp() {
    check_tcp(config("swa", "afxdp"), config("swb", "afxdp"));
}

#[test]
fn tcp_passes_from_one_to_the_other() {
    check_tcp(config("swa", "system"), config("swb", "system").with("io", "af_xdp"));
}

#[test]
fn tcp_passes_generic_xdp() {
    let generic = |name| config(name, "afxdp").with("xdp-mode", "generic");
    let world = World::veths();
    // Only native XDP makes veth stop sending frames that are too large.
    world.ip("a", "link set e0 gso_max_segs 1");
    world.ip("b", "link set e0 gso_max_segs 1");
    let forwarder = Forwarder::start(&world, generic("swa"), generic("swb"));
    world::transfer(&world, "a", "b", 10 << 20);
    forwarder.stop();
}

#[test]
fn tcp_passes_a_tap() {
    let world = World::veths();
    let tap = config("tap0", "internal");
    let forwarder = Forwarder::start(&world, tap, config("swb", "system"));
    world.ip("sw", "addr add 10.9.0.1/24 dev tap0");
    world.ip("sw", "addr add fd09::1/64 dev tap0 nodad");
    world.ip("sw", "link set tap0 up");
    world::transfer(&world, "sw", "b", 100 << 20);
    world::transfer(&world, "b", "sw", 100 << 20);
    let [tap, _] = forwarder.stop();
    assert!(tap.rx_bytes > 100 << 20 && tap.tx_bytes > 100 << 20, "{tap:?}");
}

/// The device takes over what the monitor tells until it is as it has to be.
fn follow(monitor: &mut Monitor, device: &Device, done: &dyn Fn(&Device) -> bool) {
    assert!(soon(Duration::from_secs(2), || {
        for told in monitor.told().unwrap() {
            device.follow(&told);
        }
        done(device)
    }));
}

#[test]
fn changes_are_followed_and_a_lost_device_is_taken_up_again() {
    let world = World::veths();
    for kind in ["system", "afxdp"] {
        world.within("sw", || {
            let mut monitor = Monitor::new().unwrap();
            let mut device = Device::open(&config("swa", kind)).unwrap();
            let mut follow = |device: &Device, done: &dyn Fn(&Device) -> bool| follow(&mut monitor, device, done);
            device.set_mtu(1400).unwrap();
            device.set_mac([2, 0, 0, 0, 7, 7]).unwrap();
            let link = request::link_by_name("swa").unwrap().unwrap();
            assert_eq!((link.mtu, link.mac, device.mtu()), (1400, Some(device.mac()), 1400));
            assert_eq!(device.driver_info().unwrap().driver, "veth");
            assert_eq!(device.link_settings().unwrap().speed_mbps, Some(10_000));
            world.ip("sw", "link set swa mtu 1450");
            follow(&device, &|device| device.mtu() == 1450);
            world.ip("a", "link set e0 down");
            follow(&device, &|device| !device.link().carrier && device.link().admin_up);
            world.ip("sw", "link set swa down");
            follow(&device, &|device| !device.link().admin_up);
            let mut rx = device.take_rx();
            assert!(rx[0].poll_fd().is_some());
            world.ip("sw", "link del swa");
            // Found out by the queue itself, without netlink. Frames may have come before (neighbour discovery of the other end),
            // and a queue that holds frames has no sleep to prepare: received first, as a worker does.
            let mut batch = Batch::new();
            assert!(soon(Duration::from_secs(5), || {
                batch.clear();
                rx[0].recv(&mut batch) == 0 && rx[0].prepare_sleep() && device.link().gone
            }));
            assert!(rx[0].poll_fd().is_none());
            follow(&device, &|device| device.link().gone);
            drop((rx, device));
            assert!(matches!(Device::open(&config("swa", kind)), Err(port::PortError::NoDevice { .. })));
            world.veth("a", "swa");
            let mut monitor = Monitor::new().unwrap();
            let device = Device::open(&config("swa", kind)).unwrap();
            assert!(!device.link().gone);
            world.ip("sw", "link set swa alias x");
            let seen = |events: Vec<Event>| events.iter().any(|e| matches!(e, Event::Link(l) if l.name == "swa"));
            assert!(soon(Duration::from_secs(2), || seen(monitor.events().unwrap())));
        });
    }
    assert_eq!(port::af_xdp::lost_chunks(), 0);
}

/// A container gets an internal port by moving its netdev: frames, state, changes and figures go on, there, and when it moves on or comes back.
#[test]
fn a_tap_is_the_ports_in_any_namespace() {
    let world = World::veths();
    world.within("sw", || {
        let mut monitor = Monitor::links_everywhere().unwrap();
        let mut device = Device::open(&config("tap7", "internal")).unwrap();
        let index = device.ifindex().unwrap();
        // The container has a device of that index already.
        world.ip("a", &format!("link add index {index} name taken type veth peer name taken1"));
        let mut follow = |device: &Device, done: &dyn Fn(&Device) -> bool| follow(&mut monitor, device, done);
        let is_away = |device: &Device| device.ifindex().is_none() && !device.link().gone;
        world.ip("sw", &format!("link set tap7 netns {}", world.name("a")));
        follow(&device, &is_away);
        assert!(!device.link().admin_up && device.driver_info().is_none());
        world.ip("a", "link set tap7 name eth7 mtu 1400");
        follow(&device, &|device| device.mtu() == 1400);
        world.ip("a", "link set eth7 up");
        follow(&device, &|device| device.link().admin_up && device.link().carrier);
        assert!(matches!(device.set_mtu(1300), Err(port::PortError::Elsewhere { .. })));
        assert!(world.ip("a", "link show eth7").contains("mtu 1400"));
        let (mut tx, mut rx, mut batch) = (device.tx().unwrap(), device.take_rx().remove(0), Batch::new());
        assert!(soon(Duration::from_secs(5), || rx.recv(&mut batch) > 0), "the other namespace speaks of itself");
        tx.send(&mut batch);
        let stats = device.stats().unwrap();
        assert!(stats.rx_packets > 0 && stats.tx_packets > 0, "{stats:?}");
        // From one container to the next, then home under its old name.
        world.ip("a", &format!("link set eth7 netns {}", world.name("b")));
        follow(&device, &|device| is_away(device) && !device.link().admin_up);
        world.ip("b", "link set eth7 up");
        follow(&device, &|device| device.link().admin_up);
        world.ip("b", "link set eth7 down");
        world.ip("b", &format!("link set eth7 name tap7 netns {}", world.name("sw")));
        follow(&device, &|device| device.ifindex().is_some());
        assert!(!device.link().gone && device.driver_info().is_some());
        let shown = world.ip("sw", "-o link show tap7");
        assert!(shown.starts_with(&format!("{}: ", device.ifindex().unwrap())), "{shown}");
        // Deleted where it is, it is gone.
        world.ip("sw", &format!("link set tap7 netns {}", world.name("a")));
        follow(&device, &is_away);
        world.ip("a", "link del tap7");
        follow(&device, &|device| device.link().gone);
    });
}

/// Who listens, and the device, after 20,000 changes of its MTU and the `last` one.
fn flooded(world: &World, last: &str) -> (Monitor, Device) {
    let mut changes: String = (0..20_000).map(|n| format!("link set swa mtu {}\n", 1400 + n % 2)).collect();
    changes += last;
    let batch = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(batch.path(), changes).unwrap();
    let monitor = Monitor::links_everywhere().unwrap();
    let device = Device::open(&config("swa", "system")).unwrap();
    world.ip("sw", &format!("-batch {}", batch.path().display()));
    (monitor, device)
}

/// Of more changes than the kernel keeps for a listener it says that some are lost, and who asks anew then is not misled by those that it kept.
#[test]
fn a_flood_of_changes_ends_with_what_is_so() {
    let world = World::veths();
    world.within("sw", || {
        let (mut monitor, device) = flooded(&world, "link set swa mtu 1350\n");
        let (mut heard, mut lost) = (0, false);
        loop {
            let told = monitor.told().unwrap();
            if told.is_empty() {
                break;
            }
            assert!(told.len() <= TOLD_MAX, "{} at a time", told.len());
            heard += told.len();
            lost |= follow_all(&device, told);
        }
        assert!(lost && heard < 20_000, "{heard} events");
        assert_eq!(device.mtu(), 1350);
    });
}

/// In the order in which the datapath has a device follow: losses last. Whether there were any.
fn follow_all(device: &Device, told: Vec<Told>) -> bool {
    let (losses, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|(_, event)| *event == Event::Overrun);
    for told in others.iter().chain(&losses) {
        device.follow(told);
    }
    !losses.is_empty()
}

/// The same for who takes a few at a time: what the kernel drops until the last old one is taken has no word of its own.
#[test]
fn what_is_lost_while_a_flood_is_taken_is_asked_for_too() {
    let world = World::veths();
    world.within("sw", || {
        let (mut monitor, device) = flooded(&world, "");
        assert!(follow_all(&device, monitor.told_up_to(100).unwrap()));
        world.ip("sw", "link set swa mtu 1350");
        let mut turns = 0;
        loop {
            let told = monitor.told_up_to(100).unwrap();
            if told.is_empty() {
                break;
            }
            turns += 1;
            follow_all(&device, told);
        }
        assert!(turns > 1);
        assert_eq!(device.mtu(), 1350);
        world.ip("sw", "link set swa mtu 1360");
        assert!(!follow_all(&device, monitor.told().unwrap()), "nothing is lost any more");
        assert_eq!(device.mtu(), 1360);
    });
}

/// What others do to queueing disciplines, and devices that go, is heard; what changes otherwise and what one does oneself is not.
#[test]
fn the_doings_of_others_are_heard() {
    const DELQDISC: u16 = 37;
    let world = World::veths();
    world.within("sw", || {
        let own = Raw::new().unwrap();
        let watch = Watch::beside(&own).unwrap();
        let kinds = || {
            let (heard, mut kinds) = (watch.heard().unwrap(), Vec::new());
            let mut rest = &heard.bytes[..];
            while let Some(len) = rest.first_chunk().map(|len| u32::from_ne_bytes(*len) as usize) {
                kinds.push(u16::from_ne_bytes([rest[4], rest[5]]));
                rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            }
            assert!(!heard.overrun);
            kinds
        };
        let tc = |words: &str| assert!(Command::new("tc").args(words.split(' ')).status().unwrap().success());
        world.ip("sw", "link set swa mtu 1400");
        assert!(kinds().is_empty(), "it only changed");
        tc("qdisc add dev swa root pfifo limit 9");
        assert!(kinds().contains(&36));
        let ifindex = request::link_by_name("swa").unwrap().unwrap().ifindex;
        let head =
            [&36u32.to_ne_bytes()[..], &DELQDISC.to_ne_bytes(), &5u16.to_ne_bytes(), &1u32.to_ne_bytes(), &[0; 8]].concat();
        let body = [&ifindex.to_ne_bytes()[..], &[0; 4], &u32::MAX.to_ne_bytes(), &[0; 4]].concat();
        let answer = own.talk(&[head, body].concat()).unwrap();
        assert_eq!(answer.get(16..20), Some(&[0; 4][..]), "it is gone");
        assert!(kinds().is_empty(), "our own doing");
        tc("qdisc add dev swa root pfifo limit 9");
        tc("qdisc del dev swa root");
        assert!(kinds().contains(&DELQDISC));
        world.ip("sw", "link del swa");
        assert!(kinds().contains(&libc::RTM_DELLINK));
    });
}

/// Other ports may keep a worker awake for long: a frame is not to wait for many calls that read nothing.
#[test]
fn a_tap_is_read_by_the_call_after_one_that_found_nothing() {
    let world = World::veths();
    world.within("sw", || {
        let mut device = Device::open(&config("tap8", "internal")).unwrap();
        device.set_admin_up(true).unwrap();
        let mut rx = device.take_rx().remove(0);
        let sender = Device::open(&config("tap8", "system").with("io", "af_packet")).unwrap();
        let (mut tx, mut batch) = (sender.tx().unwrap(), Batch::new());
        // What the host itself says on a new device comes first.
        let quiet = soon(Duration::from_secs(10), || {
            batch.clear();
            rx.recv(&mut batch) == 0
        });
        assert!(quiet);
        let mut out = Batch::new();
        out.push(Packet::from_bytes(&frame(7, 60)).unwrap()).unwrap();
        tx.send(&mut out);
        tx.flush();
        assert!(rx.recv(&mut batch) >= 1, "sent within the call, so it is there");
    });
}

#[test]
fn a_deleted_tap_is_noticed() {
    let world = World::veths();
    world.within("sw", || {
        let mut device = Device::open(&config("tap7", "internal")).unwrap();
        device.set_mtu(9000).unwrap();
        device.set_admin_up(true).unwrap();
        assert_eq!((device.mtu(), device.link().admin_up), (9000, true));
        let mut rx = device.take_rx();
        world.ip("sw", "link del tap7");
        let mut batch = Batch::new();
        rx[0].recv(&mut batch);
        batch.clear();
        rx[0].recv(&mut batch);
        assert!(device.link().gone && rx[0].poll_fd().is_none());
    });
}
