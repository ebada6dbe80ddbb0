//! The OpenFlow classifier alone: lookups that gather wildcards, in a table of many rules under many masks.
//!
//! Rules: prefixes of 8 to 32 bits of both addresses, with and without protocol and ports, 64 priorities. Keys: half are drawn from rules, half at
//! random. This is the one scenario that is a loop over a library, because nothing else of the product can be left out of a translation.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::scenario::{Scenario, Size};
use flow::{Key, Mask};
use ofproto::classifier::{Classified, Classifier, Conjunction, MiniMatch};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const KEYS: usize = 1 << 14;

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

fn random_key(numbers: &mut Numbers) -> Key {
    let mut key = Key::ZERO;
    key.in_port = (numbers.below(16) + 1).to_be_bytes();
    key.eth_type = [8, 0];
    key.nw_proto = if numbers.below(2) == 0 { 6 } else { 17 };
    key.nw_ttl = 64;
    key.nw_src = (0x0a00_0000 | numbers.below(1 << 24)).to_be_bytes();
    key.nw_dst = (0x0b00_0000 | numbers.below(1 << 24)).to_be_bytes();
    key.tp_src = u16::try_from(numbers.below(60_000)).unwrap_or(0).to_be_bytes();
    key.tp_dst = u16::try_from(numbers.below(2_000)).unwrap_or(0).to_be_bytes();
    key
}

/// Mask number `i`: no two alike for the first 200.
fn mask(i: u32) -> Mask {
    let prefix = |len: u32| u32::MAX.checked_shl(32 - len).unwrap_or(0).to_be_bytes();
    let mut mask = Key::ZERO;
    mask.eth_type = [0xff; 2];
    mask.nw_dst = prefix(32 - i % 5 * 3);
    mask.nw_src = prefix(if i / 5 % 5 == 4 { 0 } else { 32 - i / 5 % 5 * 4 });
    if (i / 25).is_multiple_of(2) {
        (mask.nw_proto, mask.tp_dst) = (0xff, [0xff; 2]);
    }
    if i / 50 % 2 == 1 {
        mask.in_port = [0xff; 4];
    }
    if i / 100 % 2 == 1 {
        (mask.nw_proto, mask.tp_src) = (0xff, [0xff; 2]);
    }
    mask
}

/// Millions of lookups per second.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut classifier: Classifier<Rule> = Classifier::default();
    let masks: Vec<Mask> = (0..size.masks).map(mask).collect();
    let start = Instant::now();
    let mut keys: Vec<Key> = Vec::new();
    for i in 0..size.flows {
        let key = random_key(&mut numbers);
        let mini = classifier.mini(&key, &masks[i as usize % masks.len()]);
        let priority = numbers.below(64);
        if keys.len() < KEYS / 2 && i.is_multiple_of((size.flows / 8192).max(1)) {
            keys.push(key);
        }
        classifier.insert(Rule(Arc::new((mini, priority))));
    }
    let inserting = start.elapsed();
    while keys.len() < KEYS {
        keys.push(random_key(&mut numbers));
    }
    let mut rates = Vec::new();
    for _ in 0..bench.plan.pairs {
        rates.push(rate(&classifier, &keys, bench.plan.turn));
        bench.progress(format_args!("{}: {:.2} M/s", scenario.name, rates[rates.len() - 1]));
    }
    let mut row = Row { unit: "M lookups/s", ..Row::new(scenario.name, size) };
    row.masks = Some(u64::from(size.masks));
    row.mpps = median(rates);
    let each = inserting.as_secs_f64() * 1e6 / f64::from(size.flows);
    row.note = format!("{} rules inserted at {each:.2} us each", classifier.len());
    Ok(vec![row])
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
