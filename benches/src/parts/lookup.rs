//! The OpenFlow classifier alone: lookups that gather wildcards, in a table of many rules under many masks.
//!
//! The same question as `ovstest test-classifier benchmark RULES 10 MASKS 1 LOOKUPS`: 13 fields with two values each, masks that match any of
//! them exactly or not, 10 priorities; rules and keys are drawn at random. That is what makes the rate comparable with OVS's. This is the one
//! scenario that is a loop over a library, because nothing else of the product can be left out of a translation.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process;
use crate::scenario::{Scenario, Size};
use flow::{Key, Mask};
use ofproto::classifier::{Classified, Classifier, Conjunction, MiniMatch};
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys that are looked up.
const KEYS: usize = 1 << 13;
const PRIORITIES: u32 = 10;
const FIELDS: u32 = 13;

#[derive(Clone)]
struct Rule(Arc<(MiniMatch, u32)>);

impl Classified for Rule {
    fn mini(&self) -> &MiniMatch {
        &self.0.0
    }

    fn priority(&self) -> u32 {
        self.0.1
    }

    fn conjunctions(&self) -> &[Conjunction] {
        &[]
    }
}

/// A small generator of numbers (xorshift64*): the same table in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or(0) % n.max(1)
    }
}

/// The key whose field i has the first or the second of its values as bit i of `values` says.
fn key(values: u32) -> Key {
    let mut key = Key::ZERO;
    let bit = |i: u32| values >> i & 1 != 0;
    let pick = |i: u32, a: [u8; 4], b: [u8; 4]| if bit(i) { b } else { a };
    let pick2 = |i: u32, a: u16, b: u16| if bit(i) { b } else { a }.to_be_bytes();
    key.nw_src = pick(0, [192, 168, 0, 1], [192, 160, 68, 85]);
    key.nw_dst = pick(1, [192, 168, 0, 2], [192, 160, 68, 85]);
    key.tun_id = if bit(2) { [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10] } else { [0; 8] };
    key.metadata = if bit(3) { [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10] } else { [0; 8] };
    key.in_port = pick(4, [0, 0, 0, 1], [0, 0, 0xff, 0xfe]);
    key.vlan_tci = pick2(5, 101, 0);
    key.eth_type = pick2(6, 0x800, 0x806);
    key.tp_src = pick2(7, 49_362, 80);
    key.tp_dst = pick2(8, 6_667, 22);
    key.eth_src = if bit(9) { [0x5e, 0x33, 0x7f, 0x5f, 0x1e, 0x99] } else { [0, 2, 0xe3, 0x0f, 0x80, 0xa4] };
    key.eth_dst = if bit(10) { [0xff; 6] } else { [0x4a, 0x27, 0x71, 0xae, 0x64, 0xc1] };
    key.nw_proto = if bit(11) { 1 } else { 6 };
    key.nw_tos = if bit(12) { 0 } else { 48 };
    key
}

/// The mask that matches the fields whose bits are set.
fn mask(fields: u32) -> Mask {
    let mut mask = Key::ZERO;
    let all = |i: u32| if fields >> i & 1 != 0 { 0xff } else { 0 };
    (mask.nw_src, mask.nw_dst, mask.tun_id, mask.metadata) = ([all(0); 4], [all(1); 4], [all(2); 8], [all(3); 8]);
    (mask.in_port, mask.vlan_tci, mask.eth_type) = ([all(4); 4], [all(5); 2], [all(6); 2]);
    (mask.tp_src, mask.tp_dst, mask.eth_src, mask.eth_dst) = ([all(7); 2], [all(8); 2], [all(9); 6], [all(10); 6]);
    (mask.nw_proto, mask.nw_tos) = (all(11), all(12) & 0xfc);
    mask
}

/// Millions of lookups per second, on the forwarding core.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::io("our own path"))?;
    let mut command = Command::new("taskset");
    command.args(["-c", &bench.lab.cores.forward.to_string(), "chrt", "-f", "50"]).arg(own).arg("lookup-loop");
    let time = bench.plan.turn.as_millis().to_string();
    let text = process::run(command.args([size.flows.to_string(), size.masks.to_string(), bench.plan.pairs.to_string(), time]))?;
    let figures: Vec<f64> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [rate, rules, each] = figures[..] else {
        return Err(BenchError::Answer { from: "lookup-loop", what: "figures", text });
    };
    let note = format!("{rules} different rules, {each:.2} us for each");
    let masks = Some(u64::from(size.masks));
    Ok(vec![Row { unit: "M lookups/s", masks, mpps: Some(rate), note, ..Row::new(scenario.name, size) }])
}

/// `bench lookup-loop RULES MASKS TURNS MS`: millions of lookups per second, rules that were different, microseconds to insert each.
#[must_use]
pub fn in_a_loop([rules, masks, turns, ms]: [u32; 4]) -> String {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut classifier: Classifier<Rule> = Classifier::default();
    let mut of_masks: Vec<Mask> = Vec::new();
    while of_masks.len() < masks as usize {
        let new = mask(numbers.below(1 << FIELDS));
        if !of_masks.contains(&new) {
            of_masks.push(new);
        }
    }
    let start = Instant::now();
    for _ in 0..rules {
        let mask = &of_masks[numbers.below(masks) as usize];
        let mini = classifier.mini(&key(numbers.below(1 << FIELDS)), mask);
        let priority = numbers.below(PRIORITIES) * 129;
        if classifier.get(&mini, priority).is_none() {
            classifier.insert(Rule(Arc::new((mini, priority))));
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(rules);
    let keys: Vec<Key> = (0..KEYS).map(|_| key(numbers.below(1 << FIELDS))).collect();
    let rates = (0..turns).map(|_| rate(&classifier, &keys, Duration::from_millis(ms.into())));
    format!("{} {} {each}", median(rates).unwrap_or(0.0), classifier.len())
}

fn rate(classifier: &Classifier<Rule>, keys: &[Key], time: Duration) -> f64 {
    let (start, mut done, mut found) = (Instant::now(), 0usize, 0usize);
    while start.elapsed() < time {
        for key in &keys[done % keys.len()..][..1024] {
            let mut wildcards = Key::ZERO;
            found += usize::from(classifier.lookup(key, Some(&mut wildcards)).is_some());
            black_box(&wildcards);
        }
        done += 1024;
    }
    black_box(found);
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let rate = done as f64 / start.elapsed().as_secs_f64() / 1e6;
    rate
}
