//! Meters in hardware: a police action for each, which all its rules name; counters of both buckets together; and what becomes of meters that
//! change, go, are refused or are lost while rules name them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod small;

use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, METER_BURST, METER_KBPS, METER_PKTPS, MeterBand, MeterConfig, MeterStats};
use flow::{Datapath, DpPort, Ufid};
use offload::Reason;
use offload::meters::{Limit, Unit};
use offload::model::{Model, Options, Outcome, SameNumbers};
use offload::tc::attributes::Writer;
use offload::tc::client::{Netlink, Tc};
use offload::tc::numbers::act;
use offload::tc::{Devices, meters};

use small::{Switch, megaflow, put, tiered};

fn meter(flags: u16, kind: u16, rate: u32, burst_size: u32) -> MeterConfig {
    MeterConfig { flags: flags | METER_BURST, bands: vec![MeterBand { kind, rate, burst_size, prec_level: 1 }] }
}

/// One that lets everything through.
fn wide() -> MeterConfig {
    meter(METER_KBPS, BAND_DROP, u32::MAX, u32::MAX)
}

/// A switch that is asked for meters in hardware.
fn metered(options: Options) -> Switch {
    let dp = tiered(options);
    dp.set_meters(true);
    dp
}

/// Packets of megaflow `n`: to hardware, and to software if hardware has no rule for them. How many came out, and the bytes of one.
fn send(dp: &Switch, n: u32, times: usize) -> (u64, u64) {
    let packet = compose(&megaflow(n, "2").key, Payload::Len(20));
    let mut passed = 0;
    for _ in 0..times {
        passed += match dp.hardware().link().receive(DpPort(1), &packet) {
            Outcome::Done(sent) => sent.len() as u64,
            Outcome::Missed | Outcome::MissedInChain(_) => {
                dp.inner().inject(DpPort(1), &packet);
                dp.inner().sent().len() as u64
            }
        };
    }
    (passed, packet.len() as u64)
}

fn reason(dp: &Switch, n: u32) -> Option<(Reason, String)> {
    dp.reason(Ufid(n.into())).map(|why| (why.reason, why.what))
}

fn why_meter(what: &str) -> Option<(Reason, String)> {
    Some((Reason::Meter, what.to_owned()))
}

fn packets(dp: &Switch, n: u32) -> u64 {
    dp.get(Ufid(n.into())).unwrap().stats.packets
}

fn stats(packets: u64, len: u64, dropped: u64) -> MeterStats {
    MeterStats { packets, bytes: packets * len, bands: vec![(dropped, 0)] }
}

#[test]
fn a_meter_is_in_hardware_for_those_who_asked_for_it() {
    let dp = tiered(Options::default());
    dp.meter_set(3, &wide()).unwrap();
    put(&dp, 1, "meter(3),2");
    assert_eq!((reason(&dp, 1), dp.hardware().link().meters()), (why_meter("meter(3)"), 0));
    dp.set_meters(true);
    assert_eq!(dp.hardware().link().meters(), 0, "no rule names it yet");
    dp.tick(now_ms());
    assert_eq!((reason(&dp, 1), dp.hardware().link().meters()), (None, 1));
    put(&dp, 2, "2,meter(3),3");
    assert_eq!((reason(&dp, 2), dp.hardware().link().meters()), (None, 1), "both rules have the same");
    assert!(dp.show().contains("meters: 1 in hardware"), "{}", dp.show());
    let ((one, len), (two, _)) = (send(&dp, 1, 5), send(&dp, 2, 2));
    assert_eq!((one, two, packets(&dp, 1), packets(&dp, 2)), (5, 4, 5, 2));
    assert_eq!(dp.meter_get(3), Ok(stats(7, len, 0)));
    assert_eq!(dp.audit().unwrap().0, 0);
    dp.set_meters(false);
    assert_eq!((reason(&dp, 1), dp.hardware().link().meters(), dp.hardware().link().rules()), (why_meter("meter(3)"), 0, 0));
    send(&dp, 1, 1);
    assert_eq!((packets(&dp, 1), dp.meter_get(3)), (6, Ok(stats(8, len, 0))), "what was counted stays counted");
}

#[test]
fn meters_that_hardware_cannot_have_stay_in_software_with_their_reason() {
    let dp = metered(Options::default());
    for (id, config, what) in [
        (1, meter(METER_KBPS, BAND_DSCP_REMARK, 1_000, 100), "meter(1:dscp_remark)"),
        (2, MeterConfig { bands: [wide().bands, wide().bands].concat(), ..wide() }, "meter(2:bands)"),
        (3, meter(METER_KBPS, BAND_DROP, 0, 100), "meter(3:rate)"),
        (4, meter(METER_PKTPS, BAND_DROP, 5, 0), "meter(4:burst)"),
    ] {
        dp.meter_set(id, &config).unwrap();
        put(&dp, id, &format!("meter({id}),2"));
        assert_eq!(reason(&dp, id), why_meter(what));
    }
    put(&dp, 9, "meter(9),2");
    assert_eq!(reason(&dp, 9), why_meter("meter(9)"), "there is none");
    assert_eq!(dp.hardware().link().meters(), 0);
}

/// Two buckets let through what two buckets let through, and every packet is counted as passed or dropped, once.
#[test]
fn two_buckets_let_through_no_more_than_two_and_counters_add_up() {
    for (flags, burst, most) in [(METER_PKTPS, 10, 10), (METER_KBPS, 8, 1_000)] {
        let dp = metered(Options::default());
        dp.meter_set(1, &meter(flags, BAND_DROP, 1, burst)).unwrap();
        put(&dp, 1, "meter(1),2");
        put(&dp, 2, "meter(1),trunc(60),2");
        assert_eq!((reason(&dp, 1), reason(&dp, 2).map(|r| r.0)), (None, Some(Reason::Action)));
        let began = now_ms();
        let ((hard, len), (soft, _)) = (send(&dp, 1, 100), send(&dp, 2, 50));
        // A bucket's burst, and what comes into it meanwhile (1 packet, or 125 bytes, per second).
        let seconds = u64::try_from((now_ms() - began) / 1_000 + 1).unwrap();
        let bucket = if flags == METER_PKTPS { most + seconds } else { (most + 125 * seconds) / len };
        assert!((1..=bucket).contains(&hard) && (1..=bucket).contains(&soft), "{hard} and {soft} of {bucket}");
        let all = dp.meter_get(1).unwrap();
        assert_eq!((all.packets, all.bytes, all.bands[0].0), (150, 150 * len, 150 - hard - soft));
        assert_eq!((packets(&dp, 1), packets(&dp, 2)), (100, 50), "what the meter dropped was hit all the same");
    }
}

#[test]
fn a_meter_that_changes_while_rules_name_it() {
    let dp = metered(Options::default());
    dp.meter_set(1, &wide()).unwrap();
    put(&dp, 1, "meter(1),2");
    send(&dp, 1, 4);
    dp.meter_set(1, &meter(METER_PKTPS, BAND_DROP, 1, 2)).unwrap();
    assert_eq!((reason(&dp, 1), dp.audit().unwrap().0), (None, 0), "the rule stays, with the new limit");
    let (passed, len) = send(&dp, 1, 30);
    assert!((2..4).contains(&passed), "{passed}");
    assert_eq!(dp.meter_get(1), Ok(stats(30, len, 30 - passed)), "counters begin anew, as software's do");
    assert_eq!(packets(&dp, 1), 34);
    dp.meter_set(1, &meter(METER_KBPS, BAND_DSCP_REMARK, 1, 1)).unwrap();
    assert_eq!((reason(&dp, 1), dp.hardware().link().rules()), (why_meter("meter(1:dscp_remark)"), 0));
    assert_eq!(dp.hardware().link().meters(), 0);
    dp.meter_set(1, &wide()).unwrap();
    dp.tick(now_ms());
    assert_eq!((reason(&dp, 1), dp.hardware().link().meters()), (None, 1), "and back");
}

#[test]
fn a_meter_goes_after_the_last_rule_and_with_the_meter() {
    let dp = metered(Options::default());
    dp.meter_set(1, &wide()).unwrap();
    put(&dp, 1, "meter(1),2");
    put(&dp, 1, "meter(1),3");
    let (_, len) = send(&dp, 1, 3);
    dp.del(&[Ufid(1)])[0].clone().unwrap();
    dp.tick(now_ms() + 600);
    assert_eq!((dp.hardware().link().meters(), dp.meter_get(1)), (0, Ok(stats(3, len, 0))));
    put(&dp, 1, "meter(1),2");
    send(&dp, 1, 2);
    assert_eq!(dp.meter_get(1), Ok(stats(5, len, 0)));
    assert_eq!(dp.meter_del(1), Ok(stats(5, len, 0)), "the last counters of both");
    assert_eq!((reason(&dp, 1), dp.hardware().link().rules()), (why_meter("meter(1)"), 0));
    assert_eq!((dp.hardware().link().meters(), send(&dp, 1, 2).0), (0, 2), "a meter that is gone lets everything pass");
    assert!(dp.meter_get(1).is_err() && dp.meter_del(1).is_err());
}

#[test]
fn what_hardware_does_not_take_is_in_software_whole() {
    let said = |options: Options| {
        let dp = metered(options);
        dp.meter_set(1, &wide()).unwrap();
        put(&dp, 1, "meter(1),2");
        assert_eq!((dp.hardware().link().rules(), dp.hardware().link().meters(), send(&dp, 1, 2).0), (0, 0, 2));
        reason(&dp, 1).unwrap()
    };
    let (reason, what) = said(Options { without: vec!["police".to_owned()], ..Options::default() });
    assert_eq!((reason, what.contains("meter(1): the hardware has no such action")), (Reason::Driver, true), "{what}");
    let (reason, what) = said(Options { meters: 0, ..Options::default() });
    assert_eq!((reason, what.contains("no meter is left")), (Reason::Driver, true), "{what}");
    // A rule that is refused leaves no meter behind.
    let dp = metered(Options { capacity: 0, ..Options::default() });
    dp.meter_set(1, &wide()).unwrap();
    put(&dp, 1, "meter(1),2");
    assert_eq!(self::reason(&dp, 1).map(|r| r.0), Some(Reason::TableFull));
    dp.tick(now_ms() + 600);
    assert_eq!(dp.hardware().link().meters(), 0);
}

#[test]
fn a_meter_that_hardware_has_lost_takes_its_rules_with_it() {
    let dp = metered(Options::default());
    dp.meter_set(1, &wide()).unwrap();
    put(&dp, 1, "meter(1),2");
    let (_, len) = send(&dp, 1, 3);
    assert_eq!(dp.meter_get(1), Ok(stats(3, len, 0)));
    // One that somebody changed is another in the rule, too.
    let limit = Limit { unit: Unit::Packets, rate: 5, burst: 1_000_000 };
    talk(dp.hardware().link(), |out| meters::make(out, 1, SameNumbers.police(1), &limit, act::SKIP_SW, true));
    let (differences, text) = dp.audit().unwrap();
    assert_eq!((differences, text.contains("meter 1: another limit than the meter's\n")), (2, true), "{text}");
    dp.hardware().link().lose_meters();
    assert!(dp.audit().unwrap().1.contains("meter 1: missing\n"));
    let now = now_ms();
    dp.tick(now + 600);
    assert_eq!((reason(&dp, 1).map(|r| r.0), dp.hardware().link().rules()), (Some(Reason::Lost), 0));
    dp.tick(now + 2_000);
    assert_eq!((reason(&dp, 1), dp.hardware().link().meters(), send(&dp, 1, 2).0), (None, 1, 2));
    assert_eq!((dp.meter_get(1), packets(&dp, 1)), (Ok(stats(5, len, 0)), 5));
}

#[test]
fn switched_off_no_meter_is_left_and_on_again_it_comes_back() {
    let dp = metered(Options::default());
    dp.meter_set(1, &wide()).unwrap();
    put(&dp, 1, "meter(1),2");
    let (_, len) = send(&dp, 1, 3);
    dp.set_enabled(false);
    assert_eq!((dp.hardware().link().rules(), dp.hardware().link().meters()), (0, 0));
    send(&dp, 1, 1);
    dp.set_enabled(true);
    assert_eq!((reason(&dp, 1), dp.hardware().link().meters()), (None, 1));
    send(&dp, 1, 1);
    assert_eq!(dp.meter_get(1), Ok(stats(5, len, 0)));
}

fn talk(link: &Model, write: impl FnOnce(&mut Writer)) {
    let mut out = Writer::default();
    write(&mut out);
    link.talk(&out.bytes).unwrap();
}

/// As after `kill -9`: the next life knows nothing of meters that are there, and removes them, but nobody else's.
#[test]
fn meters_of_an_earlier_life_are_swept_and_others_are_not() {
    let dp = metered(Options::default());
    dp.meter_set(1, &wide()).unwrap();
    put(&dp, 1, "meter(1),2");
    let link = dp.hardware().link();
    // One of ours that nobody knows, and one without our mark.
    let limit = Limit { unit: Unit::Packets, rate: 5, burst: 1_000_000 };
    talk(link, |out| meters::make(out, 1, SameNumbers.police(8), &limit, act::SKIP_SW, false));
    talk(link, |out| {
        meters::make(out, 1, SameNumbers.police(9), &limit, act::SKIP_SW, false);
        let at = out.bytes.windows(4).position(|w| w == b"FRRL").unwrap();
        out.bytes[at..at + 4].copy_from_slice(b"else");
    });
    assert_eq!(link.meters(), 3);
    let audit = "1 rules as they should be, 1 differences\n";
    assert_eq!(
        dp.audit(),
        Ok((1, format!("meter 8: bears our mark, but belongs to no meter\n{audit}"))),
        "what a sweep removes is named"
    );
    assert_eq!((dp.sweep(), link.meters()), (Ok(1), 2), "the one that rules name stays");
    // One of ours that was there before the meter came makes way.
    talk(link, |out| meters::make(out, 1, SameNumbers.police(4), &limit, act::SKIP_SW, false));
    dp.meter_set(4, &wide()).unwrap();
    put(&dp, 4, "meter(4),2");
    assert_eq!((reason(&dp, 4), link.meters()), (None, 3));
    dp.meter_del(4).unwrap();
    // At an index that is somebody else's there is none of ours.
    dp.meter_set(9, &wide()).unwrap();
    put(&dp, 2, "meter(9),2");
    let (reason, what) = reason(&dp, 2).unwrap();
    assert_eq!((reason, what.contains("is there")), (Reason::Driver, true), "{what}");
    // The rules go first; a filter of somebody else's that names a meter would keep it.
    let next = Tc::new(Model::default(), SameNumbers);
    assert_eq!(next.sweep_meters(), Ok(0));
    assert_eq!(dp.hardware().sweep(DpPort(1)), Ok(1));
    let after = Tc::new(Shared(link), SameNumbers);
    assert_eq!((after.sweep_meters(), link.meters()), (Ok(1), 1));
}

/// The same table for another client.
#[derive(Debug)]
struct Shared<'a>(&'a Model);

impl Netlink for Shared<'_> {
    fn talk(&self, requests: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.talk(requests)
    }
}

/// Messages about actions: what is written is read, and nothing that is cut short panics.
#[test]
fn police_actions_are_written_and_read() {
    for limit in [
        Limit { unit: Unit::Bytes, rate: 125_000, burst: 1_562_500 },
        Limit { unit: Unit::Bytes, rate: 1 << 33, burst: 7 },
        Limit { unit: Unit::Packets, rate: 10, burst: 5 },
    ] {
        let mut out = Writer::default();
        meters::make(&mut out, 1, 0x4000_0007, &limit, act::SKIP_SW, true);
        let [police] = &meters::read(&out.bytes).unwrap()[..] else { panic!("one action") };
        assert_eq!((police.index, police.limit, police.cookie.as_slice()), (0x4000_0007, limit, &b"FRRL\x40\0\0\x07"[..]));
        for len in 0..out.bytes.len() {
            let _ = meters::read(&out.bytes[..len]);
        }
    }
}
