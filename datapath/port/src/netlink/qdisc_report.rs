//! Queueing disciplines as they are: what a QoS has come to, and what its classes have sent.
//!
//! What enters: a [`Qos`], the kernel's answers about classes. What leaves: options with their defaults (in the words and units of the
//! database), counters by queue. Neighbours: `qdisc`, which set it up; `netdev`.

use super::qdisc::{ALL_TRAFFIC, Line, QDISC, RATE_MIN, body, burst_min, number, queues, whole_rate};
use super::request::Session;
use super::wire::{Attributes, u32_at, u64_at};
use flow::seam::{Qos, QosReport, QueueCounters, QueueReport};
use std::io;

const RTM_GETTCLASS: u16 = 42;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;
const HTB: &str = "linux-htb";
const HFSC: &str = "linux-hfsc";

type Details = Vec<(String, String)>;

/// Whether packets can name a class of such a QoS.
pub(crate) fn has_classes(kind: &str) -> bool {
    kind == HTB || kind == HFSC
}

/// What a device's QoS has come to.
///
/// # Errors
/// The kernel's, when it is asked for its classes.
pub(crate) fn report(session: &mut Session, ifindex: u32, qos: &Qos, line: Line) -> io::Result<QosReport> {
    let mut all = QosReport { kind: qos.kind.clone(), details: details(qos, line), ..QosReport::default() };
    if has_classes(&qos.kind) {
        let counted = counters(session, ifindex)?;
        let of = |queue: u32| counted.iter().find(|(q, _)| *q == queue).map(|(_, c)| *c);
        let queue = |(queue, o): (u32, &[(String, String)])| QueueReport {
            queue,
            details: queue_details(&qos.kind, o, whole_rate(qos, line), line),
            counters: of(queue),
        };
        all.queues = queues(qos).into_iter().map(queue).collect();
    }
    Ok(all)
}

/// Counters of a device's classes by queue.
fn counters(session: &mut Session, ifindex: u32) -> io::Result<Vec<(u32, QueueCounters)>> {
    let mut found = Vec::new();
    let request = session.request(RTM_GETTCLASS, libc::NLM_F_DUMP, &body(ifindex, 0, 0));
    session.converse(request, &mut |message| {
        found.extend(of_class(message.payload).filter(|_| u32_at(message.payload, 4) == Some(ifindex)));
    })?;
    Ok(found)
}

/// A struct tcmsg of a class with its attributes: the queue and what it counted.
fn of_class(payload: &[u8]) -> Option<(u32, QueueCounters)> {
    const TCMSG: usize = 20;
    let handle = u32_at(payload, 8)?;
    let minor = handle & 0xffff;
    if handle & !0xffff != QDISC || handle == ALL_TRAFFIC || minor == 0 {
        return None;
    }
    let mut counted = QueueCounters::default();
    let (_, stats) = Attributes::new(payload.get(TCMSG..)?).find(|(kind, _)| *kind == TCA_STATS2)?;
    for (kind, value) in Attributes::new(stats) {
        match kind {
            // struct gnet_stats_basic: bytes, packets
            TCA_STATS_BASIC => {
                counted.tx_bytes = u64_at(value, 0)?;
                counted.tx_packets = counted.tx_packets.max(u32_at(value, 8)?.into());
            }
            // struct gnet_stats_queue: qlen, backlog, drops
            TCA_STATS_QUEUE => counted.tx_errors = u32_at(value, 8)?.into(),
            // Sent beside where 32 bits are too few.
            TCA_STATS_PKT64 => counted.tx_packets = u64_at(value, 0)?,
            _ => {}
        }
    }
    Some((minor - 1, counted))
}

fn pairs(of: &[(&str, u64)]) -> Details {
    of.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect()
}

/// Options of the whole, with their defaults.
fn details(qos: &Qos, line: Line) -> Details {
    let or = |key, default: u64| number(&qos.options, key).filter(|n| *n != 0).unwrap_or(default);
    let codel = [("target", or("target", 5_000)), ("limit", or("limit", 10_240)), ("interval", or("interval", 100_000))];
    match qos.kind.as_str() {
        HTB | HFSC => pairs(&[("max-rate", whole_rate(qos, line) * 8)]),
        "linux-sfq" => pairs(&[("quantum", or("quantum", line.mtu.into())), ("perturb", or("perturb", 10))]),
        "linux-codel" => pairs(&codel),
        "linux-fq_codel" => [pairs(&codel), pairs(&[("flows", or("flows", 1_024)), ("quantum", or("quantum", 1_514))])].concat(),
        "linux-netem" => pairs(&[("latency", or("latency", 0)), ("limit", or("limit", 1_000)), ("loss", or("loss", 0))]),
        _ => Vec::new(),
    }
}

/// Options of a queue as its class has them: bits per second, bits.
fn queue_details(kind: &str, o: &[(String, String)], whole: u64, line: Line) -> Details {
    let least = if kind == HTB { RATE_MIN } else { 1 };
    let min = number(o, "min-rate").map_or(least, |bits| bits / 8).max(least).min(whole);
    let max = number(o, "max-rate").map_or(whole, |bits| bits / 8).max(min).min(whole);
    let mut all = pairs(&[("min-rate", min * 8), ("max-rate", max * 8)]);
    if kind == HTB {
        let burst = number(o, "burst").map_or(0, |bits| bits / 8).max(burst_min(max, line));
        all.extend(pairs(&[("burst", burst * 8)]));
        let prio = number(o, "priority").filter(|prio| *prio != 0);
        all.extend(prio.map(|prio| ("priority".to_owned(), prio.to_string())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::wire::Nested;
    use super::*;

    fn class(handle: u32, drops: u32, packets64: Option<u64>) -> Vec<u8> {
        let mut stats = Nested::default();
        stats.add(TCA_STATS_BASIC, &[&900u64.to_ne_bytes()[..], &9u32.to_ne_bytes(), &[0; 4]].concat());
        stats.add(TCA_STATS_QUEUE, &[&[0; 8][..], &drops.to_ne_bytes(), &[0; 8]].concat());
        if let Some(packets) = packets64 {
            stats.add(TCA_STATS_PKT64, &packets.to_ne_bytes());
        }
        let mut all = Nested::default();
        all.add(1, b"htb\0");
        all.add(TCA_STATS2, &stats.bytes);
        [body(3, handle, QDISC).to_vec(), all.bytes].concat()
    }

    #[test]
    fn counters_belong_to_the_queue_of_their_class() {
        let counted = |tx_packets, tx_errors| QueueCounters { tx_packets, tx_bytes: 900, tx_errors };
        assert_eq!(of_class(&class(QDISC | 1, 0, None)), Some((0, counted(9, 0))));
        assert_eq!(of_class(&class(QDISC | 8, 4, Some(1 << 40))), Some((7, counted(1 << 40, 4))));
        assert_eq!(of_class(&class(ALL_TRAFFIC, 0, None)), None, "the class of all traffic is no queue");
        assert_eq!(of_class(&class(0x2_0001, 0, None)), None, "a discipline that is not ours");
        assert_eq!(of_class(&class(QDISC | 1, 0, None)[..30]), None);
    }

    #[test]
    fn what_is_not_said_is_told_as_it_has_come_to_be() {
        let options = |o: &[(&str, &str)]| -> Details { o.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect() };
        let qos = Qos { kind: HTB.into(), options: options(&[("max-rate", "8000000")]), queues: Vec::new() };
        let line = Line { speed: 0, mtu: 1500 };
        assert_eq!(details(&qos, line), options(&[("max-rate", "8000000")]));
        let told = queue_details(HTB, &options(&[("max-rate", "800000"), ("priority", "3")]), 1_000_000, line);
        assert_eq!(told, options(&[("min-rate", "12000"), ("max-rate", "800000"), ("burst", "20000"), ("priority", "3")]));
        assert_eq!(queue_details(HFSC, &[], 1000, line), options(&[("min-rate", "8"), ("max-rate", "8000")]));
    }
}
