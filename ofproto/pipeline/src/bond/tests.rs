//! Members and their delays, who is active, what comes in and goes out.

use super::*;
use crate::config::BondConfig;

fn bond(text: &str) -> Bond {
    let other: Vec<(String, String)> =
        text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    let options = crate::options::Options(&other);
    let config = BondConfig {
        mode: options.get("mode").unwrap_or("active-backup").into(),
        updelay_ms: options.int("up", 0),
        downdelay_ms: options.int("down", 0),
        ..BondConfig::default()
    };
    let mut bond = Bond::new("bond0", Settings::read(&config, &other, true), 7, [0; 6], 0);
    links(&mut bond, &[true, true]);
    bond
}

/// Members 1, 2, ...: up or not.
fn links(bond: &mut Bond, up: &[bool]) {
    let link = |(n, up): (u32, &bool)| {
        let mac = [2, 0, 0, 0, 0, u8::try_from(n).unwrap()];
        (OfPort(n), Link { name: format!("p{n}"), mac, carrier: *up, may_enable: *up })
    };
    bond.set_members((1..).zip(up).map(link).collect());
}

fn state(bond: &mut Bond, lacp: LacpStatus, now: Msec) -> String {
    bond.run(lacp, now);
    let letter = |(p, m): (&OfPort, &Member)| match (bond.active == Some(*p), m.enabled) {
        (true, true) => 'A',
        (true, false) => '!',
        (false, true) => 'e',
        (false, false) => '-',
    };
    bond.members.iter().map(letter).collect()
}

#[test]
fn the_primary_is_preferred_and_the_last_active_one_kept() {
    let mut b = bond("bond-primary=p2");
    assert_eq!(state(&mut b, LacpStatus::Off, 0), "eA");
    links(&mut b, &[true, false]);
    assert_eq!(state(&mut b, LacpStatus::Off, 1), "A-");
    links(&mut b, &[true, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 2), "eA", "the primary takes over again");
    let mut b = bond("");
    assert_eq!(state(&mut b, LacpStatus::Off, 0), "Ae");
    links(&mut b, &[false, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 1), "-A");
    links(&mut b, &[true, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 2), "eA", "nobody is preferred");
    links(&mut b, &[false, false]);
    assert_eq!(state(&mut b, LacpStatus::Off, 3), "--");
    assert_eq!(b.active_mac(), [0; 6]);
    let settings = b.settings.clone();
    let mut b = Bond::new("b", settings, 7, [2, 0, 0, 0, 0, 2], 0);
    links(&mut b, &[true, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 0), "eA", "the one that the database remembers");
}

#[test]
fn delays_are_waited_for_unless_nobody_else_is_there() {
    let mut b = bond("up=300 down=200");
    assert_eq!(state(&mut b, LacpStatus::Off, 0), "Ae");
    links(&mut b, &[false, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 1000), "Ae");
    assert_eq!(b.wake_ms(), 1200);
    assert!(b.details(1000).contains("member p1: enabled\n  active member\n  downdelay expires in 200 ms\n"));
    assert_eq!(state(&mut b, LacpStatus::Off, 1199), "Ae");
    assert_eq!(state(&mut b, LacpStatus::Off, 1200), "-A");
    links(&mut b, &[true, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 2000), "-A");
    links(&mut b, &[false, true]);
    assert_eq!(state(&mut b, LacpStatus::Off, 2100), "-A", "it fell again: the wait is over");
    assert_eq!(b.wake_ms(), Msec::MAX);
    links(&mut b, &[true, false]);
    assert_eq!(state(&mut b, LacpStatus::Off, 3000), "-A");
    assert_eq!(state(&mut b, LacpStatus::Off, 3200), "A-", "100 ms of the updelay are skipped");
}

#[test]
fn what_comes_in() {
    use LacpStatus::{Configured, Negotiated, Off};
    use Verdict::{Accept, Drop, DropIfMoved};
    // Rows: mode and settings, LACP, then (active, backup) x (unicast, multicast).
    let table = [
        ("", Off, [Accept, Accept, Drop, Drop]),
        ("mode=balance-slb", Off, [DropIfMoved, DropIfMoved, DropIfMoved, Drop]),
        ("mode=balance-slb all-members-active=true", Off, [DropIfMoved; 4]),
        ("mode=balance-tcp", Off, [Drop; 4]),
        ("", Configured, [Drop; 4]),
        ("mode=balance-tcp", Configured, [Drop; 4]),
        ("mode=balance-tcp lacp-fallback-ab=true", Configured, [Accept, Accept, Drop, Drop]),
        ("mode=balance-slb lacp-fallback-ab=true", Configured, [DropIfMoved, DropIfMoved, DropIfMoved, Drop]),
        ("", Negotiated, [Accept; 4]),
        ("mode=balance-slb", Negotiated, [Accept; 4]),
        ("mode=balance-tcp", Negotiated, [Accept; 4]),
    ];
    for (text, lacp, expect) in table {
        let mut b = bond(text);
        assert_eq!(state(&mut b, lacp, 0), "Ae", "{text}");
        let (unicast, multicast) = ([0; 6], [1; 6]);
        let got = [(1, unicast), (1, multicast), (2, unicast), (2, multicast)].map(|(p, mac)| b.admits(OfPort(p), mac));
        assert_eq!(got, expect, "{text} {lacp:?}");
        assert_eq!(b.admits(OfPort(3), unicast), Drop);
    }
}

#[test]
fn what_goes_out() {
    let mut b = bond("mode=balance-slb");
    b.run(LacpStatus::Off, 0);
    let mut used = std::collections::BTreeSet::new();
    for n in 0..=255 {
        let key = Key { eth_src: [2, 0, 0, 0, 0, n], ..Key::ZERO };
        let mut mask = Key::ZERO;
        let first = b.output(&key, Some(&mut mask), 0).unwrap();
        assert_eq!(mask, Key { eth_src: [0xff; 6], ..Key::ZERO });
        assert_eq!(b.output(&key, None, 0), Some(first), "a flow stays");
        used.insert(first.0);
    }
    assert_eq!(used.len(), 2);
    links(&mut b, &[true, false]);
    b.run(LacpStatus::Off, 1);
    assert!((0..=255).all(|n| b.output(&Key { eth_src: [2, 0, 0, 0, 0, n], ..Key::ZERO }, None, 0).unwrap().0 == OfPort(1)));
    let mut b = bond("mode=balance-tcp");
    b.run(LacpStatus::Off, 0);
    assert_eq!(b.output(&Key::ZERO, None, 0), None, "balance-tcp needs LACP");
    b.run(LacpStatus::Negotiated, 0);
    assert_eq!(b.recirculation(), Some((7, false)));
    let table = b.table();
    assert!([1, 2].iter().all(|p| table.iter().filter(|m| **m == Some(OfPort(*p))).count() == 128));
}

#[test]
fn neighbours_are_taught_where_nobody_else_tells_them() {
    for (text, lacp, teaches) in [
        ("", LacpStatus::Off, true),
        ("mode=balance-slb", LacpStatus::Off, true),
        ("mode=balance-tcp", LacpStatus::Off, false),
        ("", LacpStatus::Negotiated, false),
        ("", LacpStatus::Configured, false),
        ("mode=balance-tcp lacp-fallback-ab=true", LacpStatus::Configured, true),
    ] {
        let mut b = bond(text);
        b.run(lacp, 0);
        assert_eq!(b.take_must_teach(), teaches, "{text} {lacp:?}");
        assert!(!b.take_must_teach());
    }
}

#[test]
fn load_moves_and_history_fades() {
    let mut b = bond("mode=balance-slb bond-rebalance-interval=1000");
    b.run(LacpStatus::Off, 0);
    b.migrate(1, OfPort(1)).unwrap();
    b.migrate(2, OfPort(1)).unwrap();
    b.account(1, 1 << 20);
    b.account(2, 1 << 20);
    assert!(!b.rebalance(999));
    assert!(b.rebalance(1000));
    assert_eq!(b.table().iter().filter(|m| **m == Some(OfPort(2))).count(), 1);
    assert!(b.details(1000).contains("kB load") && b.details(1000).contains("next rebalance: 1000 ms\n"));
    assert!(!b.rebalance(2000));
    let mut off = bond("mode=balance-slb bond-rebalance-interval=0");
    off.account(1, 1 << 30);
    assert!(!off.rebalance(1 << 40));
    assert_eq!(bond("").migrate(1, OfPort(1)), Err("not an SLB bond"));
}

#[test]
fn the_buckets_that_ovs_gives() {
    let check = |mac: [u8; 6], vlan, basis, expect| assert_eq!(hash_mac(mac, vlan, basis) % 256, expect);
    check([0, 0x11, 0x22, 0x33, 0x44, 0x55], 0, 0, 226);
    check([0, 0x11, 0x22, 0x33, 0x44, 0x55], 10, 0, 69);
    check([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff], 4095, 77, 57);
    check([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff], 1, u32::MAX, 92);
}
