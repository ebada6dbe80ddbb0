//! The TCP machine by text: one segment per line, and what it was.

use super::*;
use crate::hash::Rng;
use std::fmt::Write as _;

/// `> S seq ack win len [scale]`: direction, flags (S A F R P), numbers relative to 1000.
fn segment(line: &str) -> (Segment, bool) {
    let mut p = line.split_whitespace();
    let reply = p.next() == Some("<");
    let flags = p.next().unwrap().chars().fold(0, |f, c| {
        f | match c {
            'S' => SYN,
            'A' => ACK,
            'F' => FIN,
            'R' => RST,
            'P' => PSH,
            'U' => URG,
            _ => 0,
        }
    });
    let mut next = || p.next().map(|n| n.parse::<u32>().unwrap());
    let (seq, ack, window, len) = (next().unwrap(), next().unwrap(), next().unwrap(), next().unwrap());
    let scale = next().map(|s| u8::try_from(s).unwrap());
    (Segment { seq, ack, window: u16::try_from(window).unwrap(), len, flags, scale }, reply)
}

fn check_in(liberal: bool, text: &str, expect: &str) {
    let mut tcp: Option<Tcp> = None;
    let mut out = String::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (seg, reply) = segment(line);
        let Some(now) = tcp else {
            assert!(seg.may_begin());
            tcp = Some(Tcp::begin(&seg));
            continue;
        };
        let (next, verdict) = now.step(&seg, reply, liberal);
        tcp = Some(next);
        let word = match verdict {
            Verdict::Valid(Some(stage)) => format!("{stage:?}"),
            Verdict::Valid(None) => "near".to_owned(),
            Verdict::Opening(_) => "opening".to_owned(),
            Verdict::Restart => "restart".to_owned(),
            Verdict::Invalid => "invalid".to_owned(),
        };
        writeln!(out, "{word} {} {}", next.ends[0].state.name(), next.ends[1].state.name()).unwrap();
    }
    let expect: String = expect.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    assert_eq!(out, expect);
}

fn check(text: &str, expect: &str) {
    check_in(false, text, expect);
}

#[test]
fn a_life() {
    check(
        "> S 1000 0 29200 0 7
         < SA 5000 1001 28960 0 7
         > A 1001 5001 229 0
         > PA 1001 5001 229 100
         < A 5001 1101 227 0
         > FA 1101 5001 229 0
         < FA 5001 1102 227 0
         > A 1102 5002 229 0
         > S 9000 0 29200 0 7",
        "TcpSynRecv ESTABLISHED SYN_SENT
         TcpEstablished ESTABLISHED ESTABLISHED
         TcpEstablished ESTABLISHED ESTABLISHED
         TcpEstablished ESTABLISHED ESTABLISHED
         TcpFinWait CLOSING ESTABLISHED
         TcpTimeWait FIN_WAIT_2 CLOSING
         TcpClose FIN_WAIT_2 FIN_WAIT_2
         restart FIN_WAIT_2 FIN_WAIT_2",
    );
}

#[test]
fn syn_again_and_flags_that_nobody_makes() {
    check(
        "> S 1000 0 29200 0
         > S 1000 0 29200 0
         > SF 1000 0 29200 0
         > SR 1000 0 29200 0
         > P 1000 0 29200 0
         > F 1000 0 29200 0",
        "opening SYN_SENT CLOSED
         invalid SYN_SENT CLOSED
         invalid SYN_SENT CLOSED
         invalid SYN_SENT CLOSED
         invalid SYN_SENT CLOSED",
    );
    assert!(!segment("> SA 1 1 1 0").0.may_begin());
    assert!(segment("> A 1 1 1 0").0.may_begin());
}

const OPEN: &str = "> S 1000 0 1000 0
                    < SA 5000 1001 1000 0
                    > A 1001 5001 1000 0
                    ";
const OPENED: &str = "TcpSynRecv ESTABLISHED SYN_SENT
                      TcpEstablished ESTABLISHED ESTABLISHED
                      ";

#[test]
fn what_is_outside_of_the_windows() {
    let beyond = "< PA 5001 1001 1000 1001";
    check(&format!("{OPEN}{beyond}"), &format!("{OPENED}invalid ESTABLISHED ESTABLISHED"));
    check_in(true, &format!("{OPEN}{beyond}"), &format!("{OPENED}TcpEstablished ESTABLISHED ESTABLISHED"));
    let last = "< PA 5001 1001 1000 1000";
    check(&format!("{OPEN}{last}"), &format!("{OPENED}TcpEstablished ESTABLISHED ESTABLISHED"));
    let old = "< PA 4000 1001 1000 10";
    check(&format!("{OPEN}{old}"), &format!("{OPENED}invalid ESTABLISHED ESTABLISHED"));
    let future_ack = "< A 5001 70000 1000 0";
    check(&format!("{OPEN}{future_ack}"), &format!("{OPENED}invalid ESTABLISHED ESTABLISHED"));
}

#[test]
fn a_blind_reset_does_not_close() {
    for (seq, want) in [
        (5001, "TcpClose TIME_WAIT TIME_WAIT"),
        (5002, "TcpClose TIME_WAIT TIME_WAIT"),
        (5000, "TcpClose TIME_WAIT TIME_WAIT"),
        (5003, "invalid ESTABLISHED ESTABLISHED"),
        (5600, "invalid ESTABLISHED ESTABLISHED"),
    ] {
        check(&format!("{OPEN}< R {seq} 0 0 0"), &format!("{OPENED}{want}"));
    }
}

#[test]
fn picked_up_in_the_middle() {
    check(
        "> A 100000 700000 229 0
         > PA 100000 700000 229 1400
         < A 700000 101400 227 0
         < PA 700000 101400 227 20000
         > A 101400 720000 229 0",
        "near SYN_SENT CLOSED
         TcpSynRecv ESTABLISHED SYN_SENT
         TcpSynRecv ESTABLISHED SYN_SENT
         TcpEstablished ESTABLISHED ESTABLISHED",
    );
}

#[test]
fn scaled_windows() {
    // 1 << 7 = 128: 28960 unscaled in the SYN, then 227 * 128 = 29056.
    let open = "> S 1000 0 29200 0 7
                < SA 5000 1001 28960 0 7
                > A 1001 5001 229 0
                < A 5001 1001 227 0
                ";
    let opened = "TcpSynRecv ESTABLISHED SYN_SENT
                  TcpEstablished ESTABLISHED ESTABLISHED
                  TcpEstablished ESTABLISHED ESTABLISHED
                  ";
    check(&format!("{open}> A 1001 5001 229 29056"), &format!("{opened}TcpEstablished ESTABLISHED ESTABLISHED"));
    check(&format!("{open}> A 1001 5001 229 29057"), &format!("{opened}invalid ESTABLISHED ESTABLISHED"));
}

/// What Open vSwitch's userspace tracker said of 1,364 random segments (tests/oracle/tcp.py): the same is said here.
#[test]
fn as_open_vswitch_judges() {
    // A window scale of 14 that the other end does not take up: there the first window overflows 16 bits to 0, and nothing passes.
    const OVERFLOW: [&str; 3] = ["# seed 39", "# seed 49", "# seed 102"];
    let (mut tcp, mut began_by_reply) = (None, false);
    let (mut seed, mut judged, mut wrong) = ("", 0, String::new());
    for line in include_str!("tcp_cases.txt").lines() {
        let Some((text, want)) = line.split_once(" = ") else {
            (tcp, seed) = (None, line);
            continue;
        };
        let (seg, reply) = segment(text);
        let (next, word) = judge(tcp, &seg, reply != began_by_reply);
        if let Judged::Began = word {
            began_by_reply = reply;
        }
        tcp = next;
        let states =
            tcp.map_or_else(|| "-".to_owned(), |t: Tcp| format!("{} {}", t.ends[0].state.name(), t.ends[1].state.name()));
        let word = match word {
            Judged::Began | Judged::New => "new",
            Judged::Known => "est",
            Judged::Invalid => "inv",
        };
        judged += 1;
        if !OVERFLOW.contains(&seed) && format!("{word} {states}") != want {
            writeln!(wrong, "{seed}: {text}: {word} {states}, expected {want}").unwrap();
        }
    }
    assert!(judged > 1300);
    assert_eq!(wrong, "");
}

enum Judged {
    Began,
    New,
    Known,
    Invalid,
}

/// A segment, with the connection there is, as the tracker takes it.
fn judge(tcp: Option<Tcp>, seg: &Segment, reply: bool) -> (Option<Tcp>, Judged) {
    let verdict = tcp.map(|t| t.step(seg, reply, false));
    match verdict {
        Some((next, Verdict::Valid(_))) => (Some(next), Judged::Known),
        Some((next, Verdict::Opening(_))) => (Some(next), Judged::New),
        Some((same, Verdict::Invalid)) => (Some(same), Judged::Invalid),
        Some((_, Verdict::Restart)) | None if seg.may_begin() => (Some(Tcp::begin(seg)), Judged::Began),
        Some((_, Verdict::Restart)) | None => (None, Judged::Invalid),
    }
}

proptest::proptest! {
    /// Nothing panics, an invalid segment changes nothing, and states only go where the table of states has them.
    #[test]
    fn any_segments(segments in proptest::collection::vec((0u16..64, 0u32..4, 0u32..4, 0u16..3, 0u32..3, proptest::bool::ANY, 0u8..20), 1..40)) {
        let edges = [0u32, 1, u32::MAX, 0x8000_0000];
        let mut tcp: Option<Tcp> = None;
        for (flags, seq, ack, window, len, reply, scale) in segments {
            let seg = Segment {
                seq: edges[seq as usize],
                ack: edges[ack as usize],
                window: [0, 1, u16::MAX][usize::from(window)],
                len: [0, 1, 65_000][len as usize],
                flags,
                scale: (scale < 16).then_some(scale),
            };
            let Some(now) = tcp else {
                if seg.may_begin() { tcp = Some(Tcp::begin(&seg)); }
                continue;
            };
            let (next, verdict) = now.step(&seg, reply, false);
            if verdict == Verdict::Invalid || verdict == Verdict::Restart {
                proptest::prop_assert_eq!(next, now);
            }
            tcp = Some(next);
        }
    }
}

#[path = "tcp_linux_tests.rs"]
mod linux;

/// Sequences of segments that mostly fit: wherever `go_on` says something it is what `step` says.
#[test]
fn going_on_is_a_step() {
    let mut rng = Rng(7);
    let (mut went, mut stepped) = (0, 0);
    for _ in 0..2000 {
        let shift = |rng: &mut Rng| (!rng.one_in(3)).then(|| rng.byte(15));
        // Mostly near the numbers that wrap around.
        let mut edge = [u32::MAX - 3000, u32::from(rng.byte(2))].map(|n| n.wrapping_add(u32::from(rng.byte(255))));
        let scale = shift(&mut rng);
        let mut tcp = Tcp::begin(&Segment {
            seq: edge[0],
            ack: 0,
            window: 4000,
            len: 0,
            flags: if rng.one_in(4) { ACK } else { SYN },
            scale,
        });
        edge[0] = edge[0].wrapping_add(1);
        for turn in 0..30 {
            let reply = if turn == 0 { true } else { rng.one_in(2) };
            let (i, o) = (usize::from(reply), usize::from(!reply));
            let off =
                |rng: &mut Rng| if rng.one_in(6) { u32::try_from(rng.below(200_000)).unwrap() } else { u32::from(rng.byte(3)) };
            let flags = if turn == 0 {
                SYN | ACK
            } else {
                [ACK, ACK, ACK, ACK | PSH, ACK | PSH, ACK | URG, ACK | FIN, ACK | RST, 0, PSH][usize::from(rng.byte(10))]
            };
            let flags = if rng.one_in(3) && turn > 0 { ACK } else { flags };
            let seg = Segment {
                seq: edge[i].wrapping_add(off(&mut rng)).wrapping_sub(off(&mut rng)),
                ack: edge[o].wrapping_sub(off(&mut rng)),
                window: [0, 1, 500, 4000, u16::MAX][usize::from(rng.byte(5))],
                len: if rng.one_in(2) { 0 } else { u32::try_from(rng.below(1500)).unwrap() },
                flags,
                scale: if turn == 0 { shift(&mut rng) } else { None },
            };
            let (next, verdict) = tcp.step(&seg, reply, false);
            if let Some(gone) = tcp.go_on(&seg, reply) {
                assert_eq!((gone, Verdict::Valid(Some(CtStage::TcpEstablished))), (next, verdict), "{tcp:?} {seg:?}");
                went += 1;
            } else {
                let ordinary = tcp.is_established() && !tcp.is_closing() && seg.flags & (FIN | SYN | RST | ACK) == ACK;
                assert!(!ordinary || verdict != Verdict::Valid(Some(CtStage::TcpEstablished)), "{tcp:?} {seg:?}");
            }
            stepped += 1;
            tcp = next;
            edge = tcp.ends.map(|end| end.sent);
        }
    }
    assert!(went > stepped / 20 && went < stepped / 2, "{went} of {stepped}");
}
