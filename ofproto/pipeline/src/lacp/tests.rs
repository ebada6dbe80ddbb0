//! The member's table, the wire, and two systems that negotiate.

use super::wire::{LEN, frame};
use super::*;

#[test]
fn every_status_meets_every_event() {
    use Status::{Current, Defaulted, Expired};
    let events = [Event::Heard, Event::Silent, Event::Carrier, Event::Renumbered];
    let table = [
        (Current, false, [Current, Expired, Expired, Current]),
        (Current, true, [Current, Expired, Expired, Expired]),
        (Expired, false, [Current, Defaulted, Expired, Expired]),
        (Expired, true, [Current, Defaulted, Expired, Expired]),
        (Defaulted, false, [Current, Defaulted, Defaulted, Defaulted]),
        (Defaulted, true, [Current, Defaulted, Expired, Expired]),
    ];
    for (status, eager, row) in table {
        for (event, expect) in events.into_iter().zip(row) {
            assert_eq!(next(status, event, eager), expect, "{status:?} meets {event:?}, eager: {eager}");
        }
    }
}

#[test]
fn the_wire_form() {
    let actor = Info { sys_priority: 1, sys_id: [2; 6], key: 3, port_priority: 4, port_id: 5, state: 0x3d };
    let partner = Info { sys_priority: 0x0607, ..Info::default() };
    let bytes = frame([9; 6], &actor, &partner);
    assert_eq!(bytes.len(), 14 + LEN);
    assert_eq!(bytes[14..33], [1, 1, 1, 20, 0, 1, 2, 2, 2, 2, 2, 2, 0, 3, 0, 4, 0, 5, 0x3d]);
    assert_eq!(bytes[36..40], [2, 20, 6, 7]);
    assert_eq!(bytes[56..60], [3, 16, 0, 0]);
    assert_eq!(Pdu::parse(&bytes[14..]), Pdu::Lacp { actor, partner });
    assert_eq!(Pdu::parse(&bytes[14..14 + LEN - 1]), Pdu::Bad);
    let with = |at: usize, value: u8| {
        let mut b = bytes[14..].to_vec();
        b[at] = value;
        Pdu::parse(&b)
    };
    assert_eq!(with(0, 2), Pdu::Marker);
    assert_eq!(with(0, 3), Pdu::Bad);
    assert_eq!(with(3, 19), Pdu::Bad);
}

fn system(name: &str, mac: u8, text: &str, ports: &[u32]) -> Lacp {
    let other: Vec<(String, String)> =
        text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    let lacp = if text.contains("passive") { "passive" } else { "active" };
    let settings = Settings::read(name, lacp, &other, [mac; 6], ports.len()).unwrap();
    let mut system = Lacp::new(name, settings);
    let members: Vec<_> = ports.iter().map(|p| (OfPort(*p), MemberSettings::read(&format!("p{p}"), OfPort(*p), &[]))).collect();
    system.set_members(&members, 1_000_000);
    for p in ports {
        system.observe_carrier(OfPort(*p), true, 0, 1_000_000);
    }
    system
}

/// Systems and the wires among them: (system, port) to (system, port), and whether it is cut.
struct Net {
    systems: Vec<Lacp>,
    wires: Vec<([(usize, u32); 2], bool)>,
    now: Msec,
}

impl Net {
    fn pass(&mut self, ms: Msec) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 100;
            for from in 0..self.systems.len() {
                for (port, actor, partner) in self.systems[from].run(self.now) {
                    let bytes = frame([1; 6], &actor, &partner);
                    for (ends, _) in self.wires.iter().filter(|(_, cut)| !cut) {
                        let to = match ends {
                            [a, b] if *a == (from, port.0) => b,
                            [a, b] if *b == (from, port.0) => a,
                            _ => continue,
                        };
                        self.systems[to.0].receive(OfPort(to.1), &bytes[14..], self.now);
                    }
                }
            }
        }
    }

    fn usable(&self, system: usize) -> Vec<u32> {
        self.systems[system].members.keys().filter(|p| self.systems[system].may_enable(**p)).map(|p| p.0).collect()
    }
}

#[test]
fn two_systems_negotiate_and_lose_a_link() {
    let mut net = Net {
        systems: vec![system("a", 2, "lacp-time=fast", &[1, 2]), system("b", 4, "lacp-time=fast", &[3, 4])],
        wires: vec![([(0, 1), (1, 3)], false), ([(0, 2), (1, 4)], false)],
        now: 1_000_000,
    };
    net.pass(1000);
    assert_eq!((net.usable(0), net.usable(1)), (vec![1, 2], vec![3, 4]));
    net.wires[0].1 = true;
    net.pass(4100);
    assert_eq!((net.usable(0), net.usable(1)), (vec![2], vec![4]));
    assert!(
        net.systems[0].details().contains("member: p1: expired detached") || net.systems[0].details().contains("p1: expired")
    );
    net.pass(3000);
    assert!(!net.systems[0].is_current(OfPort(1)) && net.systems[0].is_current(OfPort(2)));
    net.wires[0].1 = false;
    net.pass(30_100);
    assert_eq!((net.usable(0), net.usable(1)), (vec![1, 2], vec![3, 4]));
}

#[test]
fn passive_speaks_when_spoken_to_and_two_passives_never() {
    let wires = vec![([(0, 1), (1, 2)], false)];
    let mut net = Net { systems: vec![system("a", 2, "", &[1]), system("b", 4, "x=passive", &[2])], wires, now: 1_000_000 };
    net.pass(2000);
    assert_eq!((net.usable(0), net.usable(1)), (vec![1], vec![2]));
    let wires = vec![([(0, 1), (1, 2)], false)];
    let mut net =
        Net { systems: vec![system("a", 2, "x=passive", &[1]), system("b", 4, "x=passive", &[2])], wires, now: 1_000_000 };
    net.pass(2000);
    assert!(!net.systems[0].is_negotiated());
}

#[test]
fn links_to_another_system_stay_out() {
    let mut net = Net {
        systems: vec![system("a", 2, "", &[1, 2]), system("b", 4, "", &[3]), system("c", 6, "", &[5])],
        wires: vec![([(0, 1), (1, 3)], false), ([(0, 2), (2, 5)], false)],
        now: 1_000_000,
    };
    net.pass(2000);
    assert_eq!(net.usable(0).len(), 1);
}

#[test]
fn a_looped_link_stays_out_and_fallback_uses_one_that_is_not_answered() {
    let mut net = Net { systems: vec![system("a", 2, "", &[1, 2])], wires: vec![([(0, 1), (0, 2)], false)], now: 1_000_000 };
    net.pass(2000);
    assert_eq!(net.usable(0), Vec::<u32>::new());
    let mut net = Net { systems: vec![system("a", 2, "lacp-fallback-ab=true", &[1, 2])], wires: vec![], now: 1_000_000 };
    net.pass(8000);
    assert_eq!(net.usable(0), [1, 2]);
    assert!(!net.systems[0].is_negotiated());
}

#[test]
fn a_member_without_carrier_is_deaf_and_mute() {
    let mut a = system("a", 2, "", &[1]);
    a.observe_carrier(OfPort(1), false, 1, 1_000_000);
    assert!(a.run(1_000_100).is_empty());
    let info = Info { state: state::SYNCHRONIZED, ..Info::default() };
    a.receive(OfPort(1), &frame([1; 6], &info, &info)[14..], 1_000_100);
    assert_eq!(a.members[&OfPort(1)].status, Status::Expired);
    assert!(a.statistics().contains("Carrier Status Changed: 1"));
}
