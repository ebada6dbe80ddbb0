//! The wire, two sessions that talk to each other, faults.

use super::wire::{Ccm, LEN, MAID, Malformed};
use super::*;

fn settings(mpid: i64, text: &str) -> Settings {
    let pairs: Vec<(String, String)> =
        text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    Settings::read(mpid, &pairs, &[]).unwrap()
}

#[test]
fn the_wire_form() {
    let ccm = Ccm {
        rdi: true,
        interval: 4,
        seq: 0x0102_0304,
        mpid: 0x0506,
        maid: MAID,
        interval_ms: 300,
        mpid64: 0x0708_090a_0b0c_0d0e,
        opdown: true,
    };
    let bytes = ccm.bytes();
    assert_eq!(bytes[..20], [0, 1, 0x84, 70, 1, 2, 3, 4, 5, 6, 4, 3, b'o', b'v', b's', 2, 3, b'o', b'v', b's']);
    assert_eq!(bytes[58..], [1, 44, 7, 8, 9, 10, 11, 12, 13, 14, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Ccm::parse(&bytes), Ok(ccm));
    assert_eq!(Ccm::parse(&bytes[..LEN - 1]), Ok(ccm));
    assert_eq!(Ccm::parse(&bytes[..LEN - 2]), Err(Malformed::TooShort));
    let mut linktrace = bytes;
    linktrace[1] = 5;
    assert_eq!(Ccm::parse(&linktrace), Err(Malformed::Opcode(5)));
    let tagged = wire::frame([2; 6], ETH_DST, 5 | 3 << 13, &ccm);
    assert_eq!(tagged[12..18], [0x81, 0, 0x60, 5, 0x89, 2]);
    assert_eq!(wire::frame([2; 6], ETH_DST, 0, &ccm).len(), 14 + LEN);
}

#[test]
fn settings_and_intervals() {
    assert_eq!(settings(1, "").interval(), (4, 1000));
    assert_eq!(settings(1, "cfm_interval=-1").interval(), (4, 1000));
    assert_eq!(settings(1, "cfm_interval=300").interval(), (3, 100));
    assert_eq!(settings(1, "cfm_interval=1").interval(), (1, 3));
    assert_eq!(settings(1, "cfm_interval=300 cfm_extended=true").interval(), (0, 300));
    assert_eq!(settings(1, "cfm_interval=100 cfm_extended=true").interval(), (3, 100));
    assert_eq!(settings(1, "cfm_interval=70000 cfm_extended=true").interval(), (0, 65_535));
    assert!(Settings::read(8192, &[], &[]).is_none() && Settings::read(0, &[], &[]).is_none());
    assert_eq!(settings(8192, "cfm_extended=true").mpid, 8192);
    assert!(!settings(1, "cfm_demand=true").demand, "only in extended mode");
    assert!(Settings::read(1, &[], &[("in_key".into(), "flow".into())]).unwrap().check_tnl_key);
    assert_eq!(settings(1, "cfm_ccm_vlan=random").vlan, Vlan::Random);
}

const NONE: Vec<&str> = Vec::new();

/// Two sessions on a wire that can be cut, each way by itself.
struct Pair {
    ends: [Session; 2],
    cut: [bool; 2],
    now: Msec,
    traffic: u64,
}

impl Pair {
    fn new(a: Settings, b: Settings) -> Self {
        let end = |s| Session::new("p", s, 0, 7, 1_000_000);
        Self { ends: [end(a), end(b)], cut: [false; 2], now: 1_000_000, traffic: 0 }
    }

    fn pass(&mut self, ms: Msec) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 50;
            for from in 0..2 {
                if let Some(frame) = self.ends[from].transmit([2; 6], self.now)
                    && !self.cut[from]
                {
                    self.ends[1 - from].receive(&Ccm::parse(&frame[frame.len() - LEN..]).unwrap(), self.now);
                }
            }
            for end in &mut self.ends {
                end.run(|| self.traffic, self.now);
            }
        }
    }

    fn faults(&self) -> [Vec<&'static str>; 2] {
        [0, 1].map(|i| self.ends[i].status().faults)
    }
}

#[test]
fn a_fault_is_raised_and_cleared_by_rounds() {
    let s = |mpid| settings(mpid, "cfm_interval=300 cfm_extended=true");
    let mut pair = Pair::new(s(1), s(2));
    pair.pass(10_100);
    let status = pair.ends[0].status();
    assert_eq!((status.health, status.remote_mpids, status.flap_count), (Some(100), vec![2], 0));
    assert_eq!(pair.faults(), [NONE, NONE]);
    pair.cut = [false, true];
    pair.pass(1000);
    assert_eq!(pair.faults()[0], NONE, "not before the round is over");
    pair.pass(3000);
    // The one that hears nothing says so to the other.
    assert_eq!(pair.faults(), [vec!["recv"], vec!["rdi"]]);
    assert!(!pair.ends[1].is_forwarding());
    pair.cut = [false, false];
    pair.pass(3000);
    assert_eq!(pair.faults(), [NONE, NONE]);
    assert_eq!(pair.ends[0].status().flap_count, 2);
}

#[test]
fn demand_mode_takes_traffic_for_messages() {
    let s = |mpid| settings(mpid, "cfm_interval=300 cfm_extended=true cfm_demand=true");
    let mut pair = Pair::new(s(1), s(2));
    pair.pass(20_000);
    pair.cut = [true, true];
    for _ in 0..200 {
        pair.traffic += 1;
        pair.pass(100);
    }
    assert_eq!(pair.faults()[0], NONE);
    for _ in 0..200 {
        pair.traffic += 1;
        pair.pass(100);
    }
    assert_eq!(pair.faults()[0], ["recv"], "100 intervals without a message");
}

#[test]
fn what_is_wrong_with_a_message() {
    let mut end = Session::new("p", settings(1, ""), 0, 7, 0);
    let good = Ccm { rdi: false, interval: 4, seq: 1, mpid: 2, maid: MAID, interval_ms: 0, mpid64: 0, opdown: false };
    let mut check = |ccms: &[Ccm], expect: &[&str]| {
        for ccm in ccms {
            end.receive(ccm, end.check_ms);
        }
        let now = end.check_ms;
        end.run(|| 0, now);
        assert_eq!(end.status().faults, expect);
    };
    check(&[good], &[]);
    check(&[Ccm { rdi: true, ..good }], &["rdi"]);
    check(&[good, Ccm { mpid: 1, ..good }], &["loopback"]);
    check(&[good, Ccm { maid: [7; 48], ..good }], &["maid"]);
    check(&[], &["recv"]);
    let many: Vec<Ccm> = (2..).map(|mpid| Ccm { mpid, ..good }).take(REMOTES_MAX + 1).collect();
    check(&many, &["overflow"]);
    assert_eq!(end.remotes.len(), REMOTES_MAX);
    end.override_fault(Some(true));
    assert_eq!(end.status().faults, ["override"]);
    end.override_fault(Some(false));
    assert!(end.is_forwarding());
}

#[test]
fn operational_state_needs_extended_mode() {
    let s = |mpid, more: &str| settings(mpid, &format!("cfm_extended=true cfm_interval=100 {more}"));
    let mut pair = Pair::new(s(1, ""), s(70_000, "cfm_opstate=down"));
    pair.pass(5000);
    assert_eq!(pair.ends[0].status().remote_opup, Some(false));
    assert!(!pair.ends[0].is_forwarding() && pair.ends[1].is_forwarding());
    assert_eq!(pair.ends[0].status().remote_mpids, [70_000]);
    let plain = Session::new("p", settings(1, "cfm_opstate=down"), 0, 7, 0);
    assert_eq!(plain.status().remote_opup, None);
}
