//! The host's own stack as a tunnel port: datagrams over the loopback of a network namespace of the test's own.

use crate::world::soon;
use flow::host_link::HostLink;
use flow::seam::HostIntake;
use port::netlink::request::Session;
use port::{Batch, Device, Packet, PortError, Receive, RxQueue, Transmit};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Runs `f` on a thread in a network namespace of its own, whose loopback is up.
fn alone<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let body = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("the tests run as root");
        let mut session = Session::new().unwrap();
        session.set_up(1, true).unwrap();
        f()
    };
    std::thread::spawn(body).join().unwrap()
}

fn open(intake: HostIntake) -> Result<(Device, Vec<RxQueue>), PortError> {
    let mut device = Device::open_host("tun", intake)?;
    let queues = device.take_rx();
    Ok((device, queues))
}

/// An outer packet as `tnl_push` leaves it: a host link, IPv4 or IPv6, and what follows.
fn outer(family: Family, proto: u8, rest: &[u8]) -> Packet {
    let (dst, src) = HostLink { mtu: 1500, mark: 0 }.to_addresses();
    let mut frame = [dst, src].concat();
    let len = u16::try_from(rest.len()).unwrap();
    if family == Family::V4 {
        frame.extend([8, 0, 0x45, 0xb8]);
        frame.extend((20 + len).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 33, proto, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    } else {
        frame.extend([0x86, 0xdd, 0x6b, 0x80, 0, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([proto, 33]);
        let mut one = [0; 16];
        one[15] = 1;
        frame.extend([one, one].concat());
    }
    frame.extend(rest);
    Packet::from_bytes(&frame).unwrap()
}

/// A UDP datagram without checksum from port 4000.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    [&4000u16.to_be_bytes()[..], &port.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

/// What comes by any of the queues within a second.
fn wait_for(queues: &mut [RxQueue]) -> Vec<Vec<u8>> {
    let mut batch = Batch::new();
    soon(Duration::from_secs(1), || queues.iter_mut().map(|q| q.recv(&mut batch)).sum::<usize>() > 0);
    batch.iter().map(|p| p.data().to_vec()).collect()
}

fn sent(port: &Device, packet: Packet) {
    let mut batch = Batch::new();
    batch.push(packet).unwrap();
    port.tx().unwrap().send(&mut batch);
}

#[test]
fn udp_arrives_with_its_outer_header() {
    alone(|| {
        let (port, mut queues) = open(HostIntake::Udp(4789)).unwrap();
        for (family, tos) in [(Family::V4, 15), (Family::V6, 14)] {
            sent(&port, outer(family, 17, &udp(4789, b"inner")));
            let got = wait_for(&mut queues);
            assert_eq!(got.len(), 1, "{family:?}");
            let frame = &got[0];
            assert_eq!(frame[..12], [0; 12]);
            assert!(frame.ends_with(&udp(4789, b"inner")), "{family:?} {frame:02x?}");
            if family == Family::V4 {
                assert_eq!((frame[tos], frame[22], frame[23]), (0xb8, 33, 17));
                assert_eq!(frame[26..34], [127, 0, 0, 1, 127, 0, 0, 1]);
            } else {
                assert_eq!((frame[tos], frame[tos + 1], frame[20], frame[21]), (0x6b, 0x80, 17, 33));
                assert_eq!((frame[37], frame[53]), (1, 1));
            }
        }
    });
}

#[test]
fn gre_and_erspan_have_their_own_and_no_more() {
    alone(|| {
        let (port, mut gre) = open(HostIntake::Gre).unwrap();
        let (_erspan, mut erspan) = open(HostIntake::Erspan).unwrap();
        for family in [Family::V4, Family::V6] {
            for (ty, is_gre) in [([0x65, 0x58], true), ([0x88, 0xbe], false)] {
                sent(&port, outer(family, 47, &[0, 0, ty[0], ty[1], 9, 9, 9]));
                let (mine, others) = if is_gre { (&mut gre, &mut erspan) } else { (&mut erspan, &mut gre) };
                let got = wait_for(mine);
                assert_eq!(got.len(), 1, "{family:?} {ty:x?}");
                assert!(got[0].ends_with(&[ty[0], ty[1], 9, 9, 9]));
                let mut none = Batch::new();
                assert_eq!(others.iter_mut().map(|q| q.recv(&mut none)).sum::<usize>(), 0);
            }
        }
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    alone(|| {
        let _holder = std::net::UdpSocket::bind("0.0.0.0:6081").unwrap();
        let refused = open(HostIntake::Udp(6081)).unwrap_err();
        assert!(matches!(&refused, PortError::Taken { port: 6081, .. }), "{refused}");
        assert!(refused.to_string().contains("UDP port 6081 is taken"), "{refused}");
    });
}

#[test]
fn what_is_too_long_is_counted() {
    alone(|| {
        let (port, _queues) = open(HostIntake::Udp(4789)).unwrap();
        let mut session = Session::new().unwrap();
        session.set_mtu(1, 1400).unwrap();
        sent(&port, outer(Family::V4, 17, &udp(4789, &[0; 1400])));
        sent(&port, outer(Family::V6, 17, &udp(4789, &[0; 1400])));
        assert_eq!(port.stats().unwrap().tx_errors, Some(2));
        let row = port::COUNTERS.iter().find(|c| c.name == "tunnel_host_too_long").unwrap();
        assert!(row.count() >= 2);
    });
}
