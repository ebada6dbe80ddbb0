//! The state table, all of it; the wire; two sessions that talk to each other.

use super::wire::{LEN, Malformed, Message, flags};
use super::*;

#[test]
fn every_state_meets_every_state() {
    use State::{AdminDown, Down, Init, Up};
    // RFC 5880 section 6.8.6, a row per local state, a column per received state.
    let table =
        [(AdminDown, [AdminDown; 4]), (Down, [Down, Init, Up, Down]), (Init, [Down, Init, Up, Up]), (Up, [Down, Down, Up, Up])];
    for (local, row) in table {
        for (remote, expect) in State::ALL.into_iter().zip(row) {
            let (state, diag) = next(local, remote);
            assert_eq!(state, expect, "{local:?} hears {remote:?}");
            let fell = local.is_alive() && !state.is_alive();
            assert_eq!(diag, fell.then_some(Diag::NEIGHBOR_DOWN), "{local:?} hears {remote:?}");
        }
    }
}

fn message() -> Message {
    Message {
        diag: Diag::EXPIRED,
        state: State::Up,
        flags: flags::POLL,
        mult: 3,
        my_disc: 0x0102_0304,
        your_disc: 5,
        min_tx_us: 100_000,
        min_rx_us: 1_000_000,
    }
}

#[test]
fn the_wire_form_and_what_is_discarded() {
    let bytes = message().bytes();
    assert_eq!(bytes[..12], [0x21, 0xe0, 3, 24, 1, 2, 3, 4, 0, 0, 0, 5]);
    assert_eq!(Message::parse(&bytes), Ok(message()));
    let with = |at: usize, value: u8| {
        let mut bytes = bytes;
        bytes[at] = value;
        Message::parse(&bytes)
    };
    assert_eq!(with(0, 0x41), Err(Malformed::Version));
    assert_eq!(with(1, 0xc4), Err(Malformed::Authenticated));
    assert_eq!(with(1, 0xc1), Err(Malformed::Multipoint));
    assert_eq!(with(2, 0), Err(Malformed::ZeroMultiplier));
    assert_eq!(with(3, 23), Err(Malformed::Length));
    assert_eq!(with(11, 0), Err(Malformed::NoYourDiscriminator));
    for len in 0..LEN {
        assert_eq!(Message::parse(&bytes[..len]), Err(Malformed::TooShort));
    }
    let nobody = Message { my_disc: 0, ..message() };
    assert_eq!(Message::parse(&nobody.bytes()), Err(Malformed::NoDiscriminator));
}

fn settings(text: &str) -> Settings {
    let pairs: Vec<(String, String)> =
        text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    Settings::read(&pairs).unwrap()
}

/// Two sessions on a wire that can be cut, each way by itself.
struct Pair {
    ends: [Session; 2],
    cut: [bool; 2],
    now: Msec,
    /// Packets of the ports that are not BFD's.
    traffic: u64,
}

impl Pair {
    fn new(a: &str, b: &str) -> Self {
        let end = |text: &str, disc| Session::new("p", settings(&format!("enable=true {text}")), disc, 49152);
        Self { ends: [end(a, 1), end(b, 2)], cut: [false; 2], now: 1_000_000, traffic: 0 }
    }

    /// Lets time pass, 50 ms at a time.
    fn pass(&mut self, ms: Msec) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 50;
            for from in 0..2 {
                // A poll is answered in the same instant.
                for _ in 0..2 {
                    if let Some(frame) = self.ends[from].transmit([2; 6], self.now)
                        && !self.cut[from]
                    {
                        let to = &mut self.ends[1 - from];
                        to.count_control_packet();
                        to.receive(&Message::parse(&frame[frame.len() - LEN..]).unwrap(), self.traffic, self.now);
                    }
                }
            }
            for end in &mut self.ends {
                end.run(|| self.traffic, self.now);
            }
        }
    }

    fn states(&mut self) -> [(State, bool, u8); 2] {
        let now = self.now;
        [0, 1].map(|i| (self.ends[i].state, self.ends[i].is_forwarding(now), self.ends[i].diag.0))
    }

    fn line(&mut self, end: usize, name: &str) -> String {
        let text = self.ends[end].details(self.now);
        text.lines().find_map(|l| l.trim().strip_prefix(&format!("{name}: "))).unwrap().to_owned()
    }
}

#[test]
fn up_when_both_hear_down_when_one_is_cut() {
    let mut pair = Pair::new("", "");
    pair.pass(4100);
    assert_eq!(pair.states(), [(State::Up, true, 0); 2]);
    pair.cut = [true, true];
    pair.pass(4100);
    assert_eq!(pair.states(), [(State::Down, false, 1); 2]);
    pair.cut = [false, false];
    pair.pass(4100);
    assert_eq!(pair.states(), [(State::Up, true, 1); 2], "the diagnostic says why it last was down");
    pair.cut = [true, false];
    pair.pass(8200);
    // The one that hears nothing is down, the other hears that.
    assert_eq!(pair.states(), [(State::Init, false, 3), (State::Down, false, 1)]);
}

#[test]
fn intervals_are_polled_for() {
    let mut pair = Pair::new("", "");
    pair.pass(3100);
    let new = settings("enable=true min_tx=200");
    pair.ends[0].configure(new, 0, pair.now);
    assert_eq!(pair.line(0, "Local Flags"), "poll");
    pair.pass(2100);
    assert_eq!(pair.line(0, "Local Flags"), "none");
    assert_eq!(pair.line(0, "Local Minimum TX Interval"), "200ms");
    assert_eq!(pair.line(1, "Remote Minimum TX Interval"), "200ms");
    pair.ends[1].configure(settings("enable=true min_rx=300"), 0, pair.now);
    pair.pass(2100);
    assert_eq!(pair.line(1, "RX Interval"), "Approx 300ms");
    assert_eq!(pair.line(0, "Remote Minimum RX Interval"), "300ms");
}

#[test]
fn an_idle_link_decays_and_traffic_restores_it() {
    let mut pair = Pair::new("min_tx=300 min_rx=300 decay_min_rx=3000", "min_tx=500 min_rx=500");
    pair.pass(10_000);
    assert_eq!(pair.line(0, "RX Interval"), "Approx 3000ms");
    for _ in 0..50 {
        pair.traffic += 3;
        pair.pass(100);
    }
    assert_eq!(pair.line(0, "RX Interval"), "Approx 500ms");
    // Falling down ends it too.
    pair.pass(10_000);
    assert_eq!(pair.line(0, "RX Interval"), "Approx 3000ms");
    pair.cut = [true, true];
    pair.pass(20_000);
    assert_eq!(pair.line(0, "Local Minimum RX Interval"), "300ms");
}

#[test]
fn traffic_keeps_a_port_forwarding_for_a_while() {
    let mut pair = Pair::new("min_tx=300 min_rx=300 forwarding_if_rx=true", "min_tx=500 min_rx=500");
    pair.pass(5000);
    pair.cut = [true, true];
    for _ in 0..80 {
        pair.pass(50);
        pair.ends[0].account_rx(pair.now);
    }
    assert_eq!(pair.states()[0], (State::Down, true, 1));
    assert_eq!(pair.ends[0].status(pair.now)[3].1, "1", "no flap: it forwarded throughout");
    for _ in 0..600 {
        pair.pass(50);
        pair.ends[0].account_rx(pair.now);
    }
    assert_eq!(pair.states()[0], (State::Down, false, 1), "without any control packet traffic is not believed for ever");
    assert_eq!(pair.ends[0].status(pair.now)[3].1, "2");
}

#[test]
fn path_down_and_overrides() {
    let mut pair = Pair::new("cpath_down=true", "");
    pair.pass(4100);
    assert_eq!(pair.states(), [(State::Up, true, 6), (State::Up, false, 0)]);
    pair.ends[1].override_forwarding(Some(true));
    assert!(pair.ends[1].is_forwarding(pair.now));
    pair.ends[1].override_forwarding(None);
    assert!(!pair.ends[1].is_forwarding(pair.now));
}

#[test]
fn settings_out_of_range() {
    let s = settings("enable=true mult=256 min_tx=0 min_rx=-3 decay_min_rx=0 bfd_src_ip=x");
    assert_eq!((s.mult, s.min_tx_ms, s.min_rx_ms, s.src_ip), (3, 1, 1, [169, 254, 1, 1]));
    let decay = |text: &str| (settings(text).decay_ms(), settings(text).is_decay_refused());
    assert_eq!(decay("enable=true decay_min_rx=1000"), (1000, false));
    assert_eq!(decay("enable=true decay_min_rx=999"), (0, true), "not below min_rx");
    assert_eq!(decay("enable=true decay_min_rx=-1"), (0, false));
    assert!(Settings::read(&[("enable".into(), "no".into())]).is_none());
}

#[test]
fn what_a_filter_takes_and_looks_at() {
    let base = Key { eth_type: [8, 0], nw_proto: 17, tp_dst: wire::PORT.to_be_bytes(), nw_dst: [2, 2, 2, 1], ..Key::ZERO };
    let check = |text: &str, key: Key, takes: bool, looked_at: &str| {
        let mut mask = Key::ZERO;
        assert_eq!(settings(&format!("enable=true {text}")).filter().takes(&key, &mut mask), takes, "{text}");
        let bits = [
            (mask.eth_dst != [0; 6], "d"),
            (mask.nw_proto != 0, "p"),
            (mask.tp_dst != [0; 2], "t"),
            (mask.nw_dst != [0; 4], "i"),
            (mask.tun_id != [0; 8], "k"),
        ];
        let seen: String = bits.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        assert_eq!(seen, looked_at, "{text}");
    };
    check("", base, true, "pt");
    check("", Key { eth_type: [0x86, 0xdd], ..base }, false, "");
    check("", Key { nw_proto: 6, ..base }, false, "p");
    check("", Key { tp_dst: [0, 53], ..base }, false, "pt");
    check("bfd_src_ip=2.2.2.1", base, true, "pti");
    check("bfd_src_ip=2.2.2.2", base, false, "pti");
    check("check_tnl_key=true", base, true, "ptk");
    check("check_tnl_key=true", Key { tun_id: [1; 8], ..base }, false, "ptk");
    check("bfd_remote_dst_mac=00:00:00:00:00:01", base, false, "d");
}

use flow::Key;
