//! The wire, and bridges that make a tree: fast among themselves, slowly with one of the old protocol.

use super::wire::{Bpdu, Message};
use super::*;
use crate::stp;

#[test]
fn the_wire_form() {
    let message = Message {
        vector: Vector { root: 0x8000_0102_0304_0506, cost: 2000, bridge: 0x8000_0102_0304_0507, port: 0x8001 },
        times: Times { message_age: 1, max_age: 20, hello: 2, forward_delay: 15 },
        role: Role::Designated,
        topology_change: true,
        topology_change_ack: false,
        proposal: true,
        learning: true,
        forwarding: false,
        agreement: true,
    };
    let bytes = Bpdu::Rst(message).bytes();
    assert_eq!(bytes.len(), 36);
    assert_eq!(bytes[..5], [0, 0, 2, 2, 0x01 | 0x02 | 0x0c | 0x10 | 0x40]);
    assert_eq!(Bpdu::parse(&bytes), Ok(Bpdu::Rst(message)));
    assert!(Bpdu::parse(&bytes[..35]).is_err());
    for (role, bits) in [(Role::Alternate, 1), (Role::Root, 2), (Role::Designated, 3)] {
        let bytes = Bpdu::Rst(Message { role, ..message }).bytes();
        assert_eq!(bytes[4] >> 2 & 3, bits);
    }
    // An unknown role is read as an old configuration.
    let mut unknown = bytes;
    unknown[4] = 0;
    assert!(matches!(Bpdu::parse(&unknown), Ok(Bpdu::Config(_))));
    assert_eq!(Bpdu::parse(&[0, 0, 0, 0x80]), Ok(Bpdu::TopologyChange));
}

#[test]
fn a_max_age_fits_its_forward_delay() {
    let times = |keys: &[(&str, &str)]| {
        let other_config = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = crate::config::BridgeConfig { other_config, ..Default::default() };
        let Times { max_age, forward_delay, .. } = Settings::read(&config, [2, 0, 0, 0, 0, 1]).times;
        (max_age, forward_delay)
    };
    assert_eq!(times(&[]), (20, 15));
    assert_eq!(times(&[("rstp-max-age", "28")]), (28, 15));
    assert_eq!(times(&[("rstp-max-age", "29")]), (20, 15), "2 x (15 - 1) < 29");
    assert_eq!(times(&[("rstp-max-age", "40"), ("rstp-forward-delay", "21")]), (40, 21));
    assert_eq!(times(&[("rstp-forward-delay", "10")]), (20, 15));
    // What fits by itself is kept of two that do not fit together.
    assert_eq!(times(&[("rstp-max-age", "29"), ("rstp-forward-delay", "12")]), (20, 12));
    assert_eq!(times(&[("rstp-max-age", "10"), ("rstp-forward-delay", "4")]), (10, 15));
    assert_eq!(times(&[("rstp-max-age", "29"), ("rstp-forward-delay", "4")]), (20, 15));
    assert_eq!(times(&[("rstp-forward-delay", "4"), ("rstp-max-age", "6")]), (6, 4));
}

/// A bridge of either protocol.
enum Bridge {
    New(Rstp),
    Old(stp::Stp),
}

struct Net {
    bridges: Vec<Bridge>,
    segments: Vec<Vec<(usize, u32)>>,
    now: Msec,
}

fn settings(n: usize) -> Settings {
    let times = Times { message_age: 0, max_age: 20, hello: 2, forward_delay: 15 };
    Settings { id: 0x8000 << 48 | (n as u64 + 1), force_version: 2, tx_hold_count: 6, times }
}

fn port(n: u32) -> PortSettings {
    PortSettings {
        name: format!("p{n}"),
        priority: 128,
        path_cost: 2000,
        auto_edge: true,
        admin_state: true,
        point_to_point: true,
        ..PortSettings::default()
    }
}

impl Net {
    /// Letters: `n` a bridge of this protocol, `o` one of the old.
    fn new(kinds: &str, segments: &[&[(usize, u32)]]) -> Self {
        let make = |(n, kind): (usize, char)| match kind {
            'n' => Bridge::New(Rstp::new(&format!("br{n}"), settings(n), 0)),
            _ => {
                let times = stp::Times { max_age_ms: 20_000, hello_ms: 2000, forward_delay_ms: 15_000 };
                let settings = stp::Settings { id: settings(n).id, times };
                Bridge::Old(stp::Stp::new(&format!("br{n}"), settings, 0))
            }
        };
        let segments: Vec<Vec<(usize, u32)>> = segments.iter().map(|s| s.to_vec()).collect();
        let mut net = Self { bridges: kinds.chars().enumerate().map(make).collect(), segments, now: 0 };
        for at in 0..net.bridges.len() {
            let mine = net.segments.iter().flatten().filter(|(b, _)| *b == at).map(|(_, p)| *p);
            match &mut net.bridges[at] {
                Bridge::New(b) => b.set_ports(&mine.map(|p| (OfPort(p), port(p), true)).collect::<Vec<_>>(), 0),
                Bridge::Old(b) => {
                    let settings = |p: u32| stp::PortSettings {
                        name: format!("p{p}"),
                        number: u8::try_from(p).unwrap(),
                        priority: 128,
                        path_cost: 2000,
                    };
                    b.set_ports(&mine.map(|p| (OfPort(p), settings(p), true)).collect::<Vec<_>>(), 0);
                }
            }
        }
        net
    }

    /// Carries what is to be sent, until nothing is.
    fn carry(&mut self) {
        for _ in 0..50 {
            let mut some = false;
            for at in 0..self.bridges.len() {
                let out = match &mut self.bridges[at] {
                    Bridge::New(b) => b.take_output(),
                    Bridge::Old(b) => b.take_output(),
                };
                for (from, bytes) in out {
                    some = true;
                    let segment = self.segments.iter().find(|s| s.contains(&(at, from.0)));
                    let others: Vec<_> = segment.into_iter().flatten().filter(|e| **e != (at, from.0)).copied().collect();
                    for (to, by) in others {
                        match &mut self.bridges[to] {
                            Bridge::New(b) => b.receive(OfPort(by), &bytes),
                            Bridge::Old(b) => b.receive(OfPort(by), &bytes, self.now),
                        }
                    }
                }
                if let Bridge::New(b) = &mut self.bridges[at] {
                    b.take_flushes();
                }
            }
            if !some {
                return;
            }
        }
    }

    fn pass(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.now += 1000;
            for bridge in &mut self.bridges {
                match bridge {
                    Bridge::New(b) => b.run(self.now),
                    Bridge::Old(b) => b.run(self.now),
                }
            }
            self.carry();
        }
    }

    /// Role of each port of a bridge, capital when it forwards.
    fn roles(&self, at: usize) -> String {
        let Bridge::New(bridge) = &self.bridges[at] else { return "old".into() };
        let letter = |p: &Port| {
            let letter = p.role.name().chars().next().unwrap();
            if p.state() == State::Forwarding { letter } else { letter.to_ascii_lowercase() }
        };
        bridge.ports.values().map(letter).collect()
    }

    fn all(&self) -> Vec<String> {
        (0..self.bridges.len()).map(|b| self.roles(b)).collect()
    }
}

#[test]
fn two_bridges_forward_at_once() {
    let mut net = Net::new("nn", &[&[(0, 1), (1, 1)]]);
    net.carry();
    assert_eq!(net.all(), ["D", "R"], "by proposal and agreement, without a second passing");
}

#[test]
fn a_triangle_blocks_one_port_and_mends_itself_in_no_time() {
    let mut net = Net::new("nnn", &[&[(0, 1), (1, 1)], &[(1, 2), (2, 2)], &[(2, 1), (0, 2)]]);
    net.pass(5);
    assert_eq!(net.all(), ["DD", "RD", "Ra"]);
    // The link between 0 and 2 goes where both see it.
    for (bridge, port) in [(0, 2), (2, 1)] {
        let Bridge::New(b) = &mut net.bridges[bridge] else { unreachable!() };
        b.set_enabled(OfPort(port), false);
    }
    net.segments[2].clear();
    net.carry();
    assert_eq!(net.all(), ["Dd", "RD", "dR"]);
}

#[test]
fn a_silent_neighbour_is_noticed_after_three_hellos() {
    let mut net = Net::new("nnn", &[&[(0, 1), (1, 1)], &[(1, 2), (2, 2)], &[(2, 1), (0, 2)]]);
    net.pass(5);
    net.segments[2].clear();
    net.pass(8);
    assert_eq!((net.roles(1), &net.roles(2)[1..]), ("RD".into(), "R"));
}

#[test]
fn a_port_where_nobody_is_becomes_an_edge() {
    let mut net = Net::new("n", &[&[(0, 1)]]);
    net.pass(1);
    assert_eq!(net.roles(0), "d");
    net.pass(4);
    assert_eq!(net.roles(0), "D");
    let Bridge::New(bridge) = &net.bridges[0] else { unreachable!() };
    assert!(bridge.ports[&OfPort(1)].oper_edge);
    let mut edge = Rstp::new("br", settings(0), 0);
    edge.set_ports(&[(OfPort(1), PortSettings { admin_edge: true, ..port(1) }, true)], 0);
    assert_eq!(edge.state(OfPort(1)), Some(State::Forwarding));
    edge.set_ports(&[(OfPort(1), PortSettings { admin_state: false, ..port(1) }, true)], 0);
    assert_eq!(edge.state(OfPort(1)), Some(State::Discarding));
}

#[test]
fn two_ports_on_one_segment_of_ours_make_a_backup() {
    let mut net = Net::new("n", &[&[(0, 1), (0, 2)]]);
    net.pass(40);
    assert_eq!(net.roles(0), "Db");
}

#[test]
fn a_bridge_of_the_old_protocol_takes_part() {
    // The old one is in the middle; loops are broken all the same.
    let mut net = Net::new("nno", &[&[(0, 1), (1, 1)], &[(1, 2), (2, 2)], &[(2, 1), (0, 2)]]);
    net.pass(70);
    assert_eq!(net.all()[..2], ["DD", "RD"]);
    let Bridge::Old(old) = &net.bridges[2] else { unreachable!() };
    assert_eq!(old.state(OfPort(1)), Some(stp::State::Forwarding));
    assert_eq!(old.state(OfPort(2)), Some(stp::State::Blocking));
    let Bridge::New(root) = &net.bridges[0] else { unreachable!() };
    assert!(!root.ports[&OfPort(2)].send_rstp && root.ports[&OfPort(1)].send_rstp);
    let text = root.details();
    assert!(
        text.contains("This bridge is the root") && text.contains("  p1         Designated Forwarding 2000     128.1\n"),
        "{text}"
    );
}

#[test]
fn numbers_costs_and_texts() {
    let mut bridge = Rstp::new("br", settings(0), 0);
    let own = PortSettings { number: Some(2), ..port(1) };
    bridge.set_ports(&[(OfPort(1), own, true), (OfPort(2), port(2), true), (OfPort(3), port(3), true)], 0);
    let numbers: Vec<u16> = bridge.ports.values().map(|p| p.number).collect();
    assert_eq!(numbers, [2, 1, 3]);
    assert_eq!(
        [0, 10, 100, 1000, 10_000].map(|mbps| settings::cost_of(mbps * 1_000_000)),
        [2000, 2_000_000, 200_000, 20_000, 2000]
    );
    assert_eq!(id_text(0x8001_0102_0304_0506), "8.001.010203040506");
}
