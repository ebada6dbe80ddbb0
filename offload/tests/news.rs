//! What others do to hardware's tables is told by itself: their messages are understood, rules that they removed or changed are there again at once,
//! our own doings are never taken for theirs, and what a rule counted before it went is not lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod small;

use flow::clock::now_ms;
use flow::compose::{Payload, compose};
use flow::extract_gen::PacketGen;
use flow::seam::{BAND_DROP, METER_BURST, METER_KBPS, MeterBand, MeterConfig};
use flow::{Datapath, DpPort, Msec, Ufid};
use offload::meters::{Limit, Unit};
use offload::model::{Options, Outcome, SameNumbers};
use offload::tc::attributes::Writer;
use offload::tc::news::{Event, events};
use offload::tc::numbers::act;
use offload::tc::{Devices, FilterId, Hook, meters, write};
use offload::{Reason, plan};

use small::{Switch, capabilities, megaflow, put, tiered};

/// The rules of these tests stand long enough by then.
const LATER_MS: Msec = 5_000;
/// Whoever else programs the model.
const OTHER: u32 = 9;

/// The place of our n-th rule, from 1.
fn place(n: u32) -> FilterId {
    FilterId { hook: Hook::Ingress { ifindex: 1 }, chain: 0, prio: 0x4000, handle: n, protocol: 0x0800 }
}

/// Somebody else asks the model for something.
fn other(dp: &Switch, write: impl FnOnce(&mut Writer)) {
    let mut out = Writer::default();
    write(&mut out);
    dp.hardware().link().talk_as(OTHER, &out.bytes).unwrap();
}

/// Somebody else puts a drop at a place, whatever stands there.
fn put_drop(dp: &Switch, id: FilterId) {
    let rule = plan(&megaflow(1, "drop"), &capabilities(&[1, 2])).unwrap().rule;
    other(dp, |out| {
        write::create(out, 1, id, &rule, b"somebody", &SameNumbers).unwrap();
        let flags = write::F_REQUEST | write::F_ACK | write::F_ECHO | write::F_CREATE;
        out.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    });
}

/// Packets of megaflow `n`: to hardware, and to software if hardware has no rule for them. How many came out.
fn send(dp: &Switch, n: u32, times: usize) -> usize {
    let packet = compose(&megaflow(n, "2").key, Payload::Len(20));
    let once = || match dp.hardware().link().receive(DpPort(1), &packet) {
        Outcome::Done(sent) => sent.len(),
        Outcome::Missed | Outcome::MissedInChain(_) => {
            dp.inner().inject(DpPort(1), &packet);
            dp.inner().sent().len()
        }
    };
    (0..times).map(|_| once()).sum()
}

fn packets(dp: &Switch, n: u32) -> u64 {
    dp.get(Ufid(n.into())).unwrap().stats.packets
}

fn reason(dp: &Switch, n: u32) -> Option<Reason> {
    dp.reason(Ufid(n.into())).map(|why| why.reason)
}

fn rules(dp: &Switch) -> usize {
    dp.hardware().link().rules()
}

/// Three megaflows in hardware.
fn three() -> Switch {
    let dp = tiered(Options::default());
    (1..=3).for_each(|n| put(&dp, n, "2"));
    dp
}

#[test]
fn a_rule_that_somebody_removed_is_there_again_at_once_and_counted_to_the_last() {
    let dp = three();
    send(&dp, 2, 3);
    other(&dp, |out| write::delete(out, 1, place(2)));
    assert_eq!(rules(&dp), 2);
    assert!(dp.listen(now_ms() + LATER_MS).is_empty());
    assert_eq!((rules(&dp), reason(&dp, 2), packets(&dp, 2)), (3, None, 3));
    send(&dp, 2, 4);
    assert_eq!(packets(&dp, 2), 7);
    assert!(dp.show().contains("  notifications: 1, rules taken by others 1, overruns 0\n"), "{}", dp.show());
    assert_eq!(dp.audit().unwrap().0, 0);
}

#[test]
fn so_are_all_of_a_preference_and_of_a_device() {
    let dp = three();
    other(&dp, |out| write::delete(out, 1, FilterId { handle: 0, ..place(1) }));
    assert_eq!(rules(&dp), 0);
    assert!(dp.listen(now_ms() + LATER_MS).is_empty());
    assert_eq!(rules(&dp), 3);
    other(&dp, |out| write::delete(out, 1, FilterId { handle: 0, prio: 0, ..place(1) }));
    dp.listen(now_ms() + 2 * LATER_MS);
    assert_eq!(rules(&dp), 3);
    other(&dp, |out| write::no_clsact(out, 1, 1));
    assert_eq!(rules(&dp), 0);
    assert_eq!(dp.listen(now_ms() + 3 * LATER_MS), [1], "whoever follows ports looks at it");
    assert_eq!((rules(&dp), dp.hardware().usage().2), (3, vec![]));
    other(&dp, |out| write::no_clsact(out, 1, 2));
    assert_eq!(dp.listen(now_ms() + 4 * LATER_MS), [2]);
    assert!(dp.show().contains("rules taken by others 9,"), "{}", dp.show());
}

#[test]
fn a_rule_that_somebody_changed_is_ours_again() {
    for told in [true, false] {
        let dp = three();
        assert_eq!(send(&dp, 1, 2), 2);
        put_drop(&dp, place(1));
        assert_eq!((send(&dp, 1, 2), rules(&dp)), (0, 3), "hardware drops");
        let now = now_ms();
        if told {
            dp.listen(now + LATER_MS);
        } else {
            // Whoever is not told finds another mark.
            let _ = dp.hardware().overheard();
            assert_eq!(dp.hardware().stats(Ufid(1)), None);
            dp.tick(now + LATER_MS);
            dp.tick(now + 2 * LATER_MS);
        }
        assert_eq!((send(&dp, 1, 2), reason(&dp, 1), rules(&dp)), (2, None, 3));
        assert_eq!(dp.audit().unwrap().0, 0);
    }
}

#[test]
fn what_somebody_puts_in_the_place_of_a_rule_is_not_counted_for_it() {
    let dp = three();
    send(&dp, 1, 3);
    other(&dp, |out| write::delete(out, 1, place(1)));
    put_drop(&dp, place(1));
    send(&dp, 1, 2);
    dp.listen(now_ms() + LATER_MS);
    assert_eq!((packets(&dp, 1), send(&dp, 1, 2), packets(&dp, 1), rules(&dp)), (3, 2, 5, 3));
}

#[test]
fn what_we_do_ourselves_and_what_concerns_others_is_nobodys_doing_to_us() {
    let dp = three();
    put(&dp, 1, "3");
    dp.del(&[Ufid(2)])[0].clone().unwrap();
    dp.tick(now_ms() + LATER_MS);
    dp.listen(now_ms() + LATER_MS);
    assert!(!dp.show().contains("notifications"));
    let theirs = FilterId { prio: 7, handle: 1, ..place(1) };
    put_drop(&dp, theirs);
    put_drop(&dp, FilterId { hook: Hook::Ingress { ifindex: 3 }, ..place(1) });
    other(&dp, |out| write::delete(out, 1, theirs));
    dp.listen(now_ms() + LATER_MS);
    assert!(dp.show().contains("  notifications: 3, rules taken by others 0, overruns 0\n"), "{}", dp.show());
    assert_eq!((rules(&dp), dp.census().0), (3, 2));
}

/// Whoever meets the loss first knows what the rule counted, and nothing is counted twice.
#[test]
fn news_are_never_stale() {
    let dp = three();
    for (n, step) in [(1, "deleted"), (2, "changed"), (3, "looked at")] {
        send(&dp, n, 5);
        other(&dp, |out| write::delete(out, 1, place(n)));
        match step {
            "deleted" => assert_eq!(dp.del(&[Ufid(n.into())])[0].clone().unwrap().packets, 5),
            "changed" => put(&dp, n, "3"),
            _ => dp.dump(&mut |_| true),
        }
    }
    let created = rules(&dp);
    dp.listen(now_ms() + LATER_MS);
    assert_eq!((rules(&dp), packets(&dp, 2), packets(&dp, 3)), (created, 5, 5));
    dp.tick(now_ms() + LATER_MS);
    assert_eq!((reason(&dp, 2), reason(&dp, 3), rules(&dp)), (None, None, 2));
    send(&dp, 2, 1);
    send(&dp, 3, 1);
    assert_eq!((packets(&dp, 2), packets(&dp, 3)), (6, 6));
    assert!(dp.show().contains("rules taken by others 3,"), "{}", dp.show());
}

#[test]
fn two_that_remove_each_others_rules_do_not_keep_each_other_busy() {
    let dp = three();
    let now = now_ms() + LATER_MS;
    let remove = || other(&dp, |out| write::delete(out, 1, place(1)));
    remove();
    dp.listen(now);
    assert_eq!(reason(&dp, 1), None);
    remove();
    dp.listen(now + 400);
    assert_eq!(reason(&dp, 1), Some(Reason::Lost), "it had stood for less than a second");
    dp.tick(now + 1_300);
    assert_eq!(reason(&dp, 1), Some(Reason::Lost));
    dp.tick(now + 1_500);
    assert_eq!((reason(&dp, 1), rules(&dp)), (None, 3));
}

#[test]
fn when_news_are_lost_everything_is_looked_at() {
    let dp = three();
    let theirs = FilterId { hook: Hook::Ingress { ifindex: 4 }, ..place(1) };
    (0..10_000).for_each(|_| put_drop(&dp, theirs));
    other(&dp, |out| write::delete(out, 1, place(3)));
    let now = now_ms() + LATER_MS;
    dp.listen(now);
    assert_eq!(reason(&dp, 3), Some(Reason::Lost));
    assert!(dp.show().contains(", rules taken by others 0, overruns 1\n"), "{}", dp.show());
    dp.tick(now + 1_100);
    assert_eq!((reason(&dp, 3), rules(&dp)), (None, 4));
    dp.listen(now + 1_200);
    assert!(dp.show().contains(", overruns 1\n"), "once is enough");
}

#[test]
fn a_meter_that_somebody_changed_or_removed_is_ours_again() {
    let dp = tiered(Options::default());
    dp.set_meters(true);
    let band = MeterBand { kind: BAND_DROP, rate: 1_000_000, burst_size: 1_000_000, prec_level: 0 };
    dp.meter_set(0, &MeterConfig { flags: METER_KBPS | METER_BURST, bands: vec![band] }).unwrap();
    put(&dp, 1, "meter(0),2");
    put(&dp, 2, "2");
    assert_eq!((rules(&dp), dp.audit().unwrap().0), (2, 0));
    let index = SameNumbers.police(0);
    let limit = Limit { unit: Unit::Packets, rate: 1, burst: 1 };
    other(&dp, |out| meters::make(out, 1, index, &limit, act::SKIP_SW, true));
    assert_eq!(dp.audit().unwrap().0, 2, "the rule and the meter have another limit now");
    dp.listen(now_ms() + LATER_MS);
    assert_eq!((reason(&dp, 1), rules(&dp), dp.audit().unwrap().0), (None, 2, 0));
    // One that no rule names can be removed by anybody.
    put(&dp, 1, "3");
    other(&dp, |out| meters::remove(out, 1, index));
    assert_eq!(dp.hardware().link().meters(), 0);
    put(&dp, 3, "meter(0),2");
    assert_eq!(reason(&dp, 3), Some(Reason::Driver), "nobody has heard yet");
    dp.listen(now_ms() + 2 * LATER_MS);
    dp.tick(now_ms() + 2 * LATER_MS);
    assert_eq!((reason(&dp, 3), dp.hardware().link().meters(), dp.audit().unwrap().0), (None, 1, 0));
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// The messages of a reading.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(len) = bytes.first_chunk::<4>().map(|len| u32::from_ne_bytes(*len) as usize) {
        all.push(&bytes[..len.min(bytes.len())]);
        bytes = bytes.get(len.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    all
}

fn say(event: &Event<'_>) -> String {
    let at = |id: &FilterId| {
        let FilterId { hook, chain, prio, handle, protocol } = id;
        format!("{hook:?} chain {chain} pref {prio} handle {handle} protocol {protocol:#06x}")
    };
    match event {
        Event::Put(id) => format!("put {}", at(id)),
        Event::Gone(id, None) => format!("gone {}", at(id)),
        Event::Gone(id, Some((mark, s))) => format!("gone {} mark {mark:02x?} packets {} bytes {}", at(id), s.packets, s.bytes),
        Event::Emptied(id) => format!("emptied {}", at(id)),
        Event::Bare { ifindex } => format!("bare {ifindex}"),
        Event::Police(Some(index)) => format!("police {index:#x}"),
        Event::Police(None) => "police".to_owned(),
        Event::Device { ifindex } => format!("device {ifindex}"),
    }
}

/// What a kernel told that was asked for these things by iproute2: `words | bytes | events`.
fn told() -> Vec<[&'static str; 3]> {
    let lines = include_str!("notifications.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" | ").collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn what_a_kernel_tells_is_understood() {
    let told = told();
    assert!(told.len() >= 10, "{}", told.len());
    for [words, hex, expected] in told {
        let bytes = unhex(hex);
        let found: Vec<String> = messages(&bytes).into_iter().flat_map(events).map(|event| say(&event)).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join("; ") };
        assert_eq!(found, expected, "{words}");
    }
}

#[test]
fn no_news_panic_whoever_reads_them() {
    let mut random = PacketGen::new(0x7d);
    let originals: Vec<Vec<u8>> = told().iter().map(|[_, hex, _]| unhex(hex)).collect();
    for bytes in &originals {
        for len in 0..bytes.len() {
            let _ = events(&bytes[..len]);
        }
    }
    for _ in 0..20_000 {
        let mut bytes = originals[random.below(originals.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        bytes.truncate(random.below(bytes.len() + 1));
        assert!(events(&bytes).len() <= bytes.len() / 4);
    }
}
