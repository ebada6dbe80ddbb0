//! The port's table, the wire, and bridges that make a tree.

use super::wire::{Malformed, frame, payload};
use super::*;

#[test]
fn every_state_meets_every_event() {
    use State::{Blocking, Disabled, Forwarding, Learning, Listening};
    let events = [Event::Chosen, Event::NotChosen, Event::DelayOver];
    let table = [
        (Disabled, [Disabled; 3]),
        (Blocking, [Listening, Blocking, Blocking]),
        (Listening, [Listening, Blocking, Learning]),
        (Learning, [Learning, Blocking, Forwarding]),
        (Forwarding, [Forwarding, Blocking, Forwarding]),
    ];
    assert_eq!(table.map(|(s, _)| s), State::ALL);
    for (state, row) in table {
        for (event, expect) in events.into_iter().zip(row) {
            assert_eq!(next(state, event), expect, "{state:?} meets {event:?}");
        }
    }
}

#[test]
fn the_wire_form() {
    let config = Config {
        topology_change: true,
        acknowledges: true,
        root: 0x8000_0102_0304_0506,
        cost: 19,
        bridge: 0x8000_0102_0304_0507,
        port: 0x8001,
        message_age: 256,
        max_age: 5120,
        hello: 512,
        forward_delay: 3840,
    };
    let bytes = Bpdu::Config(config).bytes();
    assert_eq!(bytes[..17], [0, 0, 0, 0, 0x81, 0x80, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 19]);
    assert_eq!(bytes[25..], [0x80, 1, 1, 0, 20, 0, 2, 0, 15, 0]);
    assert_eq!(Bpdu::parse(&bytes), Ok(Bpdu::Config(config)));
    assert_eq!(Bpdu::parse(&bytes[..34]), Err(Malformed::TooShort));
    assert_eq!(Bpdu::parse(&[0, 0, 0, 0x80]), Ok(Bpdu::TopologyChange));
    assert_eq!(Bpdu::parse(&[0, 1, 0, 0x80]), Err(Malformed::Protocol(1)));
    assert_eq!(Bpdu::parse(&[0, 0, 0, 7]), Err(Malformed::Kind(7)));
    let mut padded = frame([2; 6], &bytes);
    padded.resize(60, 0);
    assert_eq!(payload(&padded), Some(&bytes[..]));
    padded[14] = 0xaa;
    assert_eq!(payload(&padded), None);
    assert_eq!(payload(&[0; 13]), None);
}

/// Bridges named by small numbers, and segments that join (bridge, port)s.
struct Net {
    bridges: Vec<Stp>,
    segments: Vec<Vec<(usize, u32)>>,
    now: Msec,
}

impl Net {
    fn new(bridges: usize, segments: &[&[(usize, u32)]]) -> Self {
        let times = Times { max_age_ms: 20_000, hello_ms: 2000, forward_delay_ms: 15_000 };
        let make = |n: usize| {
            let settings = Settings { id: 0x8000 << 48 | (n as u64 + 1), times };
            Stp::new(&format!("br{n}"), settings, 0)
        };
        let mut net =
            Self { bridges: (0..bridges).map(make).collect(), segments: segments.iter().map(|s| s.to_vec()).collect(), now: 0 };
        for at in 0..bridges {
            net.attach(at);
        }
        net
    }

    /// Gives a bridge the ports that it has on segments.
    fn attach(&mut self, at: usize) {
        let ports = self.segments.iter().flatten().filter(|(b, _)| *b == at).map(|(_, p)| *p);
        let settings =
            |p: u32| PortSettings { name: format!("p{p}"), number: u8::try_from(p).unwrap(), priority: 128, path_cost: 10 };
        let ports: Vec<_> = ports.map(|p| (OfPort(p), settings(p), true)).collect();
        self.bridges[at].set_ports(&ports, self.now);
    }

    fn pass(&mut self, ms: Msec) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 500;
            for at in 0..self.bridges.len() {
                self.bridges[at].run(self.now);
            }
            for _ in 0..4 {
                for at in 0..self.bridges.len() {
                    for (port, bytes) in self.bridges[at].take_output() {
                        let segment = self.segments.iter().find(|s| s.contains(&(at, port.0)));
                        let others = segment.into_iter().flatten().filter(|end| **end != (at, port.0));
                        for (to, by) in others.copied().collect::<Vec<_>>() {
                            self.bridges[to].receive(OfPort(by), &bytes, self.now);
                        }
                    }
                }
            }
        }
    }

    /// Role and state of a bridge's ports, a letter each.
    fn roles(&self, at: usize) -> String {
        let letter = |p: &OfPort| match (self.bridges[at].role(*p), self.bridges[at].state(*p).unwrap()) {
            (Role::Root, State::Forwarding) => 'R',
            (Role::Root, _) => 'r',
            (Role::Designated, State::Forwarding) => 'D',
            (Role::Designated, _) => 'd',
            (Role::Alternate, State::Blocking) => 'a',
            (Role::Alternate, _) => '?',
            (Role::Disabled, _) => '-',
        };
        self.bridges[at].ports.keys().map(letter).collect()
    }

    fn all(&self) -> Vec<String> {
        (0..self.bridges.len()).map(|b| self.roles(b)).collect()
    }
}

#[test]
fn a_triangle_becomes_a_tree_and_mends_itself() {
    let mut net = Net::new(3, &[&[(0, 1), (1, 1)], &[(1, 2), (2, 2)], &[(2, 1), (0, 2)]]);
    net.pass(6000);
    assert_eq!(net.all(), ["dd", "rd", "ra"]);
    net.pass(30_000);
    assert_eq!(net.all(), ["DD", "RD", "Ra"]);
    assert!(net.bridges.iter_mut().all(Stp::take_must_flush));
    // While the topology change is told of, tables age fast; that its time is over is a change, too.
    net.pass(60_000);
    net.bridges.iter_mut().for_each(|b| {
        b.take_must_flush();
    });
    net.pass(40_000);
    assert!(!net.bridges.iter_mut().any(Stp::take_must_flush), "the tree is quiet");
    // The link between 0 and 2 is cut where nobody sees it: the age of what was heard tells.
    net.segments[2].clear();
    net.pass(80_000);
    assert_eq!((net.roles(1), net.roles(2)), ("RD".into(), "DR".into()));
    assert!(net.bridges[0].take_must_flush());
}

#[test]
fn the_root_goes_and_another_takes_over() {
    let mut net = Net::new(3, &[&[(0, 1), (1, 1), (2, 1)]]);
    net.pass(40_000);
    assert_eq!(net.all(), ["D", "R", "R"]);
    net.bridges[0].set_link(OfPort(1), false, net.now);
    net.pass(60_000);
    assert_eq!(net.all(), ["-", "D", "R"]);
    assert_eq!(net.bridges[2].status().designated_root, 0x8000 << 48 | 2);
    net.bridges[0].set_link(OfPort(1), true, net.now);
    net.pass(60_000);
    assert_eq!(net.all(), ["D", "R", "R"]);
}

#[test]
fn priorities_and_costs_decide() {
    let mut net = Net::new(2, &[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)]]);
    net.pass(40_000);
    assert_eq!(net.all(), ["DD", "Ra"]);
    let mut settings = net.bridges[1].settings;
    settings.id = 0x1000 << 48 | 2;
    net.bridges[1].configure(settings, net.now);
    net.pass(60_000);
    assert_eq!(net.all(), ["Ra", "DD"]);
    let port = |number, path_cost| PortSettings { name: format!("p{number}"), number, priority: 128, path_cost };
    net.bridges[0].set_ports(&[(OfPort(1), port(1, 100), true), (OfPort(2), port(2, 4), true)], net.now);
    net.pass(60_000);
    assert_eq!(net.all(), ["aR", "DD"]);
    assert!(
        net.bridges[0].details().contains("  p2         root       forwarding 4     128.2\n"),
        "{}",
        net.bridges[0].details()
    );
    assert_eq!(net.bridges[0].port_status(OfPort(1), net.now).unwrap().role, "alternate");
}

#[test]
fn settings_keep_the_standards_proportions() {
    let read = |text: &str| {
        let other_config = text.split_whitespace().map(|w| w.split_once('=').unwrap());
        let other_config = other_config.map(|(k, v)| (k.into(), v.into())).collect();
        let config = crate::config::BridgeConfig { other_config, ..Default::default() };
        let s = Settings::read(&config, [0, 0, 0, 0, 0, 7]);
        (s.id, s.times.hello_ms, s.times.max_age_ms, s.times.forward_delay_ms)
    };
    assert_eq!(read(""), (0x8000 << 48 | 7, 2000, 20_000, 15_000));
    assert_eq!(read("stp-priority=4096 stp-system-id=00:00:00:00:00:09").0, 0x1000 << 48 | 9);
    assert_eq!(read("stp-hello-time=10 stp-max-age=6 stp-forward-delay=4"), (0x8000 << 48 | 7, 10_000, 22_000, 12_000));
    assert_eq!(settings::cost_of(100_000_000), 19);
    assert_eq!(settings::cost_of(0), 2);
}
