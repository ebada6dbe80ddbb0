//! `coverage/show`: all counters of the house with their rates, sampled every five seconds. The counters themselves live in the rooms
//! that raise them (`flow::counter`); this is where the rows come together. Pure but for reading them.

use flow::Msec;
use flow::counter::Counter;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Between two samples.
pub const INTERVAL_MS: Msec = 5_000;
/// Samples of a minute, and minutes of an hour.
const SAMPLES: usize = 12;
const MINUTES: usize = 60;
const HOUR_MS: Msec = 3_600_000;

/// The rows of every room that has any.
const ROOMS: &[&[&Counter]] = &[
    crate::unixctl::COUNTERS,
    datapath::COUNTERS,
    datapath::ct::COUNTERS,
    datapath::ct::expect::COUNTERS,
    datapath::ct::fragments::COUNTERS,
    datapath::ct::helper::COUNTERS,
    datapath::ct::packet::COUNTERS,
    datapath::ct::track::COUNTERS,
    flow::extract::COUNTERS,
    offload::tiered::COUNTERS,
    ofproto::conn::COUNTERS,
    ofproto::conn::pinsched::COUNTERS,
    ofproto::effects::COUNTERS,
    ofproto::eviction::COUNTERS,
    ofproto::export::collectors::COUNTERS,
    ofproto::export::netflow::COUNTERS,
    ofproto::flow_mod::COUNTERS,
    ofproto::mac::COUNTERS,
    ofproto::mcast::COUNTERS,
    ofproto::monitor::COUNTERS,
    ofproto::neigh::COUNTERS,
    ofproto::protocols::COUNTERS,
    ofproto::router::COUNTERS,
    ofproto::slowpath::COUNTERS,
    ofproto::slowpath::packet_out::COUNTERS,
    ofproto::udpif::COUNTERS,
    ofproto::xlate::COUNTERS,
    port::COUNTERS,
];

/// Each counter's name with the sum of the rows that bear it.
pub fn counts() -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for counter in ROOMS.iter().copied().flatten() {
        *sums.entry(counter.name).or_default() += counter.count();
    }
    sums
}

/// The sampled history.
#[derive(Debug, Default)]
pub struct Coverage {
    rows: BTreeMap<&'static str, Row>,
    next_ms: Msec,
    samples: usize,
}

#[derive(Debug, Clone)]
struct Row {
    last: u64,
    minute: [u64; SAMPLES],
    hour: [u64; MINUTES],
}

impl Row {
    const fn new() -> Self {
        Self { last: 0, minute: [0; SAMPLES], hour: [0; MINUTES] }
    }
}

impl Coverage {
    /// Takes the samples that are due; returns when the next one is.
    pub fn run(&mut self, now: Msec, counts: &BTreeMap<&'static str, u64>) -> Msec {
        if self.next_ms == 0 {
            self.next_ms = now + INTERVAL_MS;
        }
        // After a leap of the clock the first sample takes all of the difference; an hour of samples is as far as memory goes.
        self.next_ms = self.next_ms.max(now - HOUR_MS);
        while now >= self.next_ms {
            self.sample(counts);
            self.next_ms += INTERVAL_MS;
        }
        self.next_ms
    }

    fn sample(&mut self, counts: &BTreeMap<&'static str, u64>) {
        let slot = self.samples % SAMPLES;
        let minute = self.samples / SAMPLES % MINUTES;
        for (name, count) in counts {
            let row = self.rows.entry(name).or_insert_with(Row::new);
            row.minute[slot] = count - row.last;
            row.last = *count;
            if slot == SAMPLES - 1 {
                row.hour[minute] = row.minute.iter().sum();
            }
        }
        self.samples += 1;
    }

    /// The text of `coverage/show`.
    #[allow(clippy::cast_precision_loss, reason = "a rate shown with four digits")]
    pub fn show(&self, counts: &BTreeMap<&'static str, u64>) -> String {
        let hit: Vec<_> = counts.iter().filter(|(_, n)| **n > 0).collect();
        let mut out = format!(
            "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash={:08x}:\n",
            hash(hit.iter().map(|(name, n)| (**name, **n)))
        );
        for (name, total) in &hit {
            let empty = Row::new();
            let row = self.rows.get(*name).unwrap_or(&empty);
            let newest = row.minute[(self.samples + SAMPLES - 1) % SAMPLES];
            let per_5s = newest as f64 / 5.0;
            let per_minute = row.minute.iter().sum::<u64>() as f64 / 60.0;
            let per_hour = row.hour.iter().sum::<u64>() as f64 / 3600.0;
            writeln!(out, "{name:<24} {per_5s:>5.1}/sec {per_minute:>9.3}/sec {per_hour:>13.4}/sec   total: {total}")
                .expect("writing to a String cannot fail");
        }
        writeln!(out, "{} events never hit", counts.len() - hit.len()).expect("writing to a String cannot fail");
        out
    }
}

/// A fingerprint of which events were hit how often in order of magnitude, so that two reports can be told apart (FNV-1a).
fn hash<'a>(hit: impl Iterator<Item = (&'a str, u64)>) -> u32 {
    let mut h = 0x811c_9dc5u32;
    for (name, n) in hit {
        for byte in name.bytes().chain([u8::try_from(n.ilog2()).unwrap_or(u8::MAX)]) {
            h = (h ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_forgotten() {
        fn count(dir: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
            let per_entry = entries.filter(|p| !p.ends_with("target")).map(|path| match path.is_dir() {
                true => count(&path),
                false if path.extension().is_some_and(|e| e == "rs") => {
                    let text = std::fs::read_to_string(&path).unwrap();
                    text.lines().filter(|l| l.starts_with("flow::counters! {") || l.starts_with("crate::counters! {")).count()
                }
                false => 0,
            });
            per_entry.sum()
        }
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let declared: usize = ["datapath", "ofproto", "offload", "vswitchd"].iter().map(|dir| count(&root.join(dir))).sum();
        assert_eq!(ROOMS.len(), declared, "rooms that declare counters must stand in ROOMS");
    }

    #[test]
    fn rates_over_three_spans() {
        let mut coverage = Coverage::default();
        let mut counts = BTreeMap::from([("a_drop", 0), ("never", 0)]);
        assert_eq!(coverage.run(1000, &counts), 6000);
        for second in 0..65 {
            counts.insert("a_drop", (second + 1) * 10);
            coverage.run(1000 + i64::try_from(second).unwrap() * 1000, &counts);
        }
        let text = coverage.show(&counts);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(line, "a_drop                    10.0/sec    10.167/sec        0.1694/sec   total: 650");
        assert!(text.ends_with("\n1 events never hit\n"));
    }
}
