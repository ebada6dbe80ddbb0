//! Devices with several queues over AF_XDP: each queue is served, each can send, and they go while frames come.

use crate::world::{World, config, soon};
use port::{Batch, Device, Packet, PortError, Receive, RxQueue, Transmit, TxQueue};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A UDP packet over IPv4 with `number` as its source port, without checksums: by such fields the kernel chooses a device's transmit queue, and
/// the other end of a veth pair receives by the queue of the same number.
fn datagram(number: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    frame.extend(number.to_be_bytes());
    frame.extend([0x13, 0x88, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// The number in a datagram; `None` for whatever else a device sends.
fn number_of(frame: &[u8]) -> Option<u16> {
    let ours = frame.len() >= 60 && frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == [0x13, 0x88];
    ours.then(|| u16::from_be_bytes([frame[34], frame[35]]))
}

fn send(tx: &mut TxQueue, numbers: std::ops::Range<u16>) {
    let mut batch = Batch::new();
    for number in numbers {
        batch.push(Packet::from_bytes(&datagram(number)).unwrap()).unwrap();
    }
    tx.send(&mut batch);
    tx.flush();
}

fn receive(queues: &mut [RxQueue], seen: &mut BTreeSet<u16>) {
    let mut batch = Batch::new();
    for queue in queues {
        queue.recv(&mut batch);
        seen.extend(batch.iter().filter_map(|packet| number_of(packet.data())));
        batch.clear();
    }
}

fn open(world: &World, namespace: &str, name: &str, options: &[(&str, &str)]) -> Result<Device, PortError> {
    let config = options.iter().fold(config(name, "system"), |config, (key, value)| config.with(key, value));
    world.within(namespace, || Device::open(&config))
}

fn check_every_queue(mode: &str) {
    let world = World::veths();
    world.veth_with_queues("a", [("swq", 4, 4), ("q0", 4, 4)]);
    let mut peer = open(&world, "a", "q0", &[("io", "af_packet")]).unwrap();
    let mut device = open(&world, "sw", "swq", &[("io", "af_xdp"), ("xdp-mode", mode)]).unwrap();
    let (mut rx, mut back) = (device.take_rx(), peer.take_rx());
    assert_eq!((rx.len(), device.n_rxq(), device.n_txq()), (4, 4, 4));
    let (mut tx, mut seen) = (peer.tx().unwrap(), BTreeSet::new());
    for first in (0..256).step_by(32) {
        send(&mut tx, first..first + 32);
        soon(Duration::from_secs(1), || {
            receive(&mut rx, &mut seen);
            seen.len() == usize::from(first) + 32
        });
    }
    assert_eq!(seen, (0..256).collect());
    let received: Vec<u64> = device.queue_stats().0.iter().map(|queue| queue.packets).collect();
    // In the stack a veth's frames are counted to the queue before the one that they were sent by, and those of the first to the first.
    let least = if mode == "native" { 4 } else { 3 };
    assert!(received.len() == 4 && received.iter().filter(|n| **n > 0).count() >= least, "{received:?}");
    // A handle for each queue, and one that shares.
    seen.clear();
    for (i, first) in (1000..1040).step_by(8).enumerate() {
        let mut tx = device.tx().unwrap();
        send(&mut tx, first..first + 8);
        assert!(soon(Duration::from_secs(1), || {
            receive(&mut back, &mut seen);
            seen.len() == 8 * (i + 1)
        }));
    }
    assert_eq!(seen, (1000..1040).collect());
}

#[test]
fn every_queue_is_served_in_the_driver() {
    check_every_queue("native");
}

#[test]
fn every_queue_is_served_in_the_stack() {
    check_every_queue("generic");
}

#[test]
fn a_device_with_fewer_queues_to_send_than_to_receive_sends_by_those() {
    let world = World::veths();
    world.veth_with_queues("a", [("swq", 4, 1), ("q0", 1, 2)]);
    let mut peer = open(&world, "a", "q0", &[("io", "af_packet")]).unwrap();
    let device = open(&world, "sw", "swq", &[("io", "af_xdp"), ("xdp-mode", "native")]).unwrap();
    assert_eq!((device.n_rxq(), device.n_txq()), (4, 1));
    let (mut back, mut seen) = (peer.take_rx(), BTreeSet::new());
    let mut handles = [device.tx().unwrap(), device.tx().unwrap()];
    send(&mut handles[0], 0..8);
    send(&mut handles[1], 8..16);
    soon(Duration::from_secs(1), || {
        receive(&mut back, &mut seen);
        seen.len() == 16
    });
    assert_eq!(seen, (0..16).collect());
}

#[test]
fn the_number_of_queues_is_set() {
    let world = World::veths();
    world.veth_with_queues("a", [("swq", 4, 4), ("q0", 4, 2)]);
    let with = |n_rxq| open(&world, "sw", "swq", &[("io", "af_xdp"), ("xdp-mode", "native"), ("n_rxq", n_rxq)]);
    for (n, text) in [(2, "2"), (4, "4"), (3, "3")] {
        assert_eq!(with(text).unwrap().n_rxq(), n);
    }
    for refused in ["0", "5", "many"] {
        assert!(matches!(with(refused), Err(PortError::Option { key: "n_rxq", .. })), "{refused}");
    }
    assert_eq!(open(&world, "sw", "swq", &[("io", "af_xdp")]).unwrap().n_rxq(), 3, "what was refused changed nothing");
}

#[test]
fn queues_go_while_frames_come() {
    let world = World::veths();
    world.veth_with_queues("a", [("swq", 4, 4), ("q0", 4, 4)]);
    let peer = open(&world, "a", "q0", &[("io", "af_packet")]).unwrap();
    let mut device = open(&world, "sw", "swq", &[("io", "af_xdp"), ("xdp-mode", "native")]).unwrap();
    let (mut rx, mut tx) = (device.take_rx(), peer.tx().unwrap());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                (0..256).step_by(32).for_each(|first| send(&mut tx, first..first + 32));
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        rx.drain(..2).for_each(drop);
        let mut seen = BTreeSet::new();
        let served = soon(Duration::from_secs(5), || {
            receive(&mut rx, &mut seen);
            seen.len() > 64
        });
        world.ip("sw", "link del swq");
        let mut batch = Batch::new();
        let noticed = soon(Duration::from_secs(5), || {
            rx.iter_mut().all(|queue| {
                batch.clear();
                queue.recv(&mut batch) == 0 && queue.prepare_sleep() && queue.poll_fd().is_none()
            })
        });
        ended.store(true, Ordering::Relaxed);
        assert!(served && noticed, "{served} {noticed} {}", seen.len());
    });
    drop((rx, device));
    assert_eq!(port::af_xdp::lost_chunks(), 0);
}
