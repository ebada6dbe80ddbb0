//! What the displays of the workers say (`dpif-netdev/pmd-*`), in OVS's text.
//!
//! What enters: figures. What leaves: text for `pmd`, and a log line. Pure but for that.

use crate::account::{Histogram, Metrics, Sample, Totals};
use crate::cycles;
use std::fmt::Write;

macro_rules! put {
    ($out:expr, $($text:tt)*) => { write!($out, $($text)*).expect("writing to a string does not fail") };
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn float(n: u64) -> f64 {
    n as f64
}

/// `part` of `whole`; 0 of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// A receive queue's line.
pub(crate) fn queue_line(name: &str, number: usize, usage: Option<u64>) -> String {
    let usage = usage.map_or_else(|| "NOT AVAIL".to_owned(), |percent| format!("{percent:2} %"));
    format!("  port: {name:<16}  queue-id: {number:2} (enabled)   pmd usage: {usage}\n")
}

/// The line that follows a worker's queues.
pub(crate) fn overhead_line(overhead: Option<u64>) -> String {
    match overhead {
        Some(percent) => format!("  overhead: {percent:2} %\n"),
        None => "  overhead: NOT AVAIL\n".to_owned(),
    }
}

/// The lines of `pmd-stats-show` after the worker's name.
pub(crate) fn stats(t: &Totals) -> String {
    let mut out = String::new();
    let found = t.hit.saturating_sub(t.cache_hits);
    let lines = [
        ("packets received", t.received.to_string()),
        ("packet recirculations", t.recirculated.to_string()),
        ("avg. datapath passes per packet", format!("{:.2}", ratio(t.received + t.recirculated, t.received))),
        ("phwol hits", "0".to_owned()),
        ("mfex opt hits", "0".to_owned()),
        ("simple match hits", "0".to_owned()),
        ("emc hits", "0".to_owned()),
        ("smc hits", t.cache_hits.to_string()),
        ("megaflow hits", found.to_string()),
        ("avg. subtable lookups per megaflow hit", format!("{:.2}", ratio(t.searched, found))),
        ("miss with success upcall", t.missed.saturating_sub(t.lost).to_string()),
        ("miss with failed upcall", t.lost.to_string()),
        ("avg. packets per output batch", format!("{:.2}", ratio(t.sent_packets, t.sent_batches))),
    ];
    for (what, value) in lines {
        put!(out, "  {what}: {value}\n");
    }
    let total = t.idle_cycles + t.busy_cycles;
    if total == 0 {
        return out;
    }
    put!(out, "  idle cycles: {} ({:.2}%)\n", t.idle_cycles, ratio(t.idle_cycles, total) * 100.0);
    put!(out, "  processing cycles: {} ({:.2}%)\n", t.busy_cycles, ratio(t.busy_cycles, total) * 100.0);
    if t.received > 0 {
        let (all, busy) = (ratio(total, t.received), ratio(t.busy_cycles, t.received));
        put!(out, "  avg cycles per packet: {all:.2} ({total}/{})\n", t.received);
        put!(out, "  avg processing cycles per packet: {busy:.2} ({}/{})\n", t.busy_cycles, t.received);
    }
    out
}

/// The totals of `pmd-perf-show`, over `seconds`.
pub(crate) fn overall(t: &Totals, seconds: f64) -> String {
    let hz = cycles::hz();
    let mut out = String::new();
    // The clock counts milliseconds, so the first of them looks like none.
    let seconds = seconds.max(1e-3);
    let us = |cycles: u64| float(cycles) * 1e6 / hz;
    let (rounds, used) = (t.idle_rounds + t.busy_rounds, t.idle_cycles + t.busy_cycles);
    let per_round = ratio(used + t.asleep_cycles, rounds) * 1e6 / hz;
    put!(out, "  Iterations:         {rounds:12}  ({per_round:.2} us/it)\n");
    let share = 100.0 * float(used) / seconds / hz;
    put!(out, "  - Used TSC cycles:  {used:12}  ({share:5.1} % of total cycles)\n");
    let percent = |part, whole| 100.0 * ratio(part, whole);
    put!(out, "  - idle iterations:  {:12}  ({:5.1} % of used cycles)\n", t.idle_rounds, percent(t.idle_cycles, used));
    put!(out, "  - busy iterations:  {:12}  ({:5.1} % of used cycles)\n", t.busy_rounds, percent(t.busy_cycles, used));
    put!(out, "  - sleep iterations: {:12}  ({:5.1} % of iterations)\n", t.sleeps, percent(t.sleeps, rounds));
    let (asleep, each) = (us(t.asleep_cycles), ratio(t.asleep_cycles, t.sleeps) * 1e6 / hz);
    put!(out, "  Sleep time (us):    {asleep:12.0}  ({each:3.0} us/iteration avg.)\n");
    if t.received > 0 {
        received(&mut out, t, seconds);
    } else {
        put!(out, "  Rx packets:         {:12}\n", 0);
    }
    if t.sent_packets > 0 {
        let kpps = float(t.sent_packets) / seconds / 1000.0;
        put!(out, "  Tx packets:         {:12}  ({kpps:.0} Kpps)\n", t.sent_packets);
        let each = ratio(t.sent_packets, t.sent_batches);
        put!(out, "  Tx batches:         {:12}  ({each:.2} pkts/batch)\n", t.sent_batches);
    } else {
        put!(out, "  Tx packets:         {:12}\n\n", 0);
    }
    out
}

fn received(out: &mut String, t: &Totals, seconds: f64) {
    let passes = t.received + t.recirculated;
    let found = t.hit.saturating_sub(t.cache_hits);
    let percent = |part| 100.0 * ratio(part, passes);
    let kpps = float(t.received) / seconds / 1000.0;
    let each = ratio(t.busy_cycles, t.received);
    put!(out, "  Rx packets:         {:12}  ({kpps:.0} Kpps, {each:.0} cycles/pkt)\n", t.received);
    put!(out, "  Datapath passes:    {passes:12}  ({:.2} passes/pkt)\n", ratio(passes, t.received));
    for (name, hits) in [
        ("PHWOL hits:       ", 0),
        ("MFEX Opt hits:    ", 0),
        ("Simple Match hits:", 0),
        ("EMC hits:         ", 0),
        ("SMC hits:         ", t.cache_hits),
    ] {
        put!(out, "  - {name}{hits:12}  ({:5.1} %)\n", percent(hits));
    }
    let searched = ratio(t.searched, found);
    put!(out, "  - Megaflow hits:    {found:12}  ({:5.1} %, {searched:.2} subtbl lookups/hit)\n", percent(found));
    // Translation is the handlers' work: a worker spends no cycles on an upcall but those of handing it over.
    put!(out, "  - Upcalls:          {:12}  ({:5.1} %, 0.0 us/upcall)\n", t.missed, percent(t.missed));
    put!(out, "  - Lost upcalls:     {:12}  ({:5.1} %)\n", t.lost, percent(t.lost));
}

const HEADS: [&str; 7] = ["cycles/it", "packets/it", "cycles/pkt", "pkts/batch", "max vhost qlen", "upcalls/it", "cycles/upcall"];

fn heads(out: &mut String, names: &[&str]) {
    let line: Vec<String> = names.iter().map(|name| format!("{name:<21}")).collect();
    put!(out, "   {}\n", line.join("  "));
}

/// The histograms, side by side. Those of vhost queues and of upcall cycles stay empty: workers have neither.
pub(crate) fn histograms(m: &Metrics) -> String {
    let mut out = "Histograms\n".to_owned();
    heads(&mut out, &HEADS);
    let columns: [Option<&Histogram>; 7] =
        [Some(&m.cycles), Some(&m.packets), Some(&m.cycles_per_packet), Some(&m.packets_per_batch), None, Some(&m.upcalls), None];
    let last = crate::account::BINS - 1;
    for bin in 0..=last {
        let cell = |h: &Option<&Histogram>| {
            let (wall, n) = h.map_or((0, 0), |h| (h.walls[bin], h.bins[bin]));
            if bin == last { format!("{:<9} {n:<11}", ">") } else { format!("{wall:<9} {n:<11}") }
        };
        put!(out, "   {}\n", columns.iter().map(cell).collect::<Vec<_>>().join("  "));
    }
    let t = &m.totals;
    if t.rounds > 0 {
        put!(out, "{}\n", "-".repeat(154));
        heads(&mut out, &[HEADS[0], HEADS[1], HEADS[2], HEADS[3], "vhost qlen", HEADS[5], HEADS[6]]);
        let (per_it, per_batch) = (ratio(t.packets, t.rounds), ratio(t.packets, t.batches));
        put!(
            out,
            "   {:<21}  {per_it:<21.5}  {:<21}  {per_batch:<21.5}  {:<21.5}  {:<21.5}  {:<21}\n",
            t.cycles / t.rounds,
            t.busy_cycles.checked_div(t.packets).unwrap_or(0),
            0.0,
            ratio(t.upcalls, t.rounds),
            0
        );
    }
    out
}

/// Rounds, the newest first.
pub(crate) fn rounds<'a>(samples: impl Iterator<Item = &'a Sample>) -> String {
    let mut out = String::new();
    put!(
        out,
        "   {:<17}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}\n",
        "iter",
        "cycles",
        "packets",
        "cycles/pkt",
        "pkts/batch",
        "vhost qlen",
        "upcalls",
        "cycles/upcall"
    );
    for s in samples {
        let (each, batch) = (s.cycles.checked_div(s.packets).unwrap_or(0), s.packets.checked_div(s.batches).unwrap_or(0));
        put!(
            out,
            "   {:<17}   {:<11}  {:<11}  {each:<11}  {batch:<11}  {:<11}  {:<11}  {:<11}\n",
            s.at,
            s.cycles,
            s.packets,
            0,
            s.upcalls,
            0
        );
    }
    out
}

/// Milliseconds, the newest first.
pub(crate) fn milliseconds<'a>(samples: impl Iterator<Item = &'a Sample>) -> String {
    let mut out = String::new();
    put!(
        out,
        "   {:<12}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}\n",
        "ms",
        "iterations",
        "cycles/it",
        "Kpps",
        "cycles/pkt",
        "pkts/batch",
        "vhost qlen",
        "upcalls",
        "cycles/upcall"
    );
    for s in samples {
        let of = |whole: u64, part: u64| whole.checked_div(part).unwrap_or(0);
        put!(
            out,
            "   {:<12}   {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}\n",
            s.at,
            s.rounds,
            of(s.cycles, s.rounds),
            s.packets,
            of(s.busy_cycles, s.packets),
            of(s.packets, s.batches),
            0,
            s.upcalls,
            0
        );
    }
    out
}

/// Logs a round that took too long, with those around it.
pub(crate) fn log_suspicion(round: &Sample, around: &[Sample]) {
    let us = float(round.cycles) * 1e6 / cycles::hz();
    tracing::warn!(target: "pmd_perf", rl = 600, burst = 600, "Suspicious iteration (Excessive total cycles): iter={} duration={us:.0} us", round.at);
    let text = rounds(around.iter());
    tracing::warn!(target: "pmd_perf", rl = 600, burst = 600, "Neighborhood of suspicious iteration:\n{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_ovs_has_them() {
        assert_eq!(queue_line("p0", 1, None), "  port: p0                queue-id:  1 (enabled)   pmd usage: NOT AVAIL\n");
        assert_eq!(queue_line("p0", 12, Some(7)), "  port: p0                queue-id: 12 (enabled)   pmd usage:  7 %\n");
        assert_eq!(overhead_line(Some(3)), "  overhead:  3 %\n");
        let t = Totals {
            received: 4,
            recirculated: 2,
            hit: 5,
            cache_hits: 3,
            searched: 4,
            missed: 1,
            busy_cycles: 75,
            idle_cycles: 25,
            ..Totals::default()
        };
        let text = stats(&t);
        let expect =
            "  packets received: 4\n  packet recirculations: 2\n  avg. datapath passes per packet: 1.50\n  phwol hits: 0\n";
        assert!(text.starts_with(expect), "{text}");
        let expect =
            "  smc hits: 3\n  megaflow hits: 2\n  avg. subtable lookups per megaflow hit: 2.00\n  miss with success upcall: 1\n";
        assert!(text.contains(expect), "{text}");
        let expect = "  avg cycles per packet: 25.00 (100/4)\n  avg processing cycles per packet: 18.75 (75/4)\n";
        assert!(text.ends_with(expect), "{text}");
    }

    #[test]
    fn tables_have_a_line_for_each_bin_and_sample() {
        let mut m = Metrics::default();
        for ms in 1..4 {
            m.round(Sample { cycles: 900, packets: 3, ..Sample::default() }, ms, &crate::account::LogSettings::default(), 0);
        }
        let text = histograms(&m);
        assert_eq!(text.lines().count(), 1 + 1 + 32 + 3);
        assert!(text.contains("\n   499       0            0         0            100       0"), "{text}");
        assert_eq!(rounds(m.rounds.newest().take(2)).lines().count(), 3);
        assert!(milliseconds(m.milliseconds.newest()).lines().nth(1).unwrap().starts_with("   2              1            900"));
    }
}
