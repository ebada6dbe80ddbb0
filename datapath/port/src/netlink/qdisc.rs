//! Queueing disciplines of devices: what `QoS` and `Queue` rows ask for, as tc messages.
//!
//! What enters: a [`Qos`]. What leaves: the root discipline of a device and its classes, or the kernel's refusal. Neighbours: `request` (the
//! socket), `device`.
//!
//! Numbers are OVS's: the root discipline is 1:0, the class of all traffic 1:fffe, that of queue N 1:(N+1), and what names no queue goes by
//! queue 0. A queueing discipline is built anew whenever its configuration changes; what the operator had put there himself is replaced.

use super::request::Session;
use super::wire::Nested;
use flow::seam::Qos;
use std::io;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTCLASS: u16 = 40;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = u32::MAX;
pub(super) const QDISC: u32 = 1 << 16;
pub(super) const ALL_TRAFFIC: u32 = QDISC | 0xfffe;
/// Largest number of a queue (61440 are OVS's `HTB_N_QUEUES`).
const QUEUE_MAX: u32 = 0xeffe;
/// Least rate of a class, bytes per second: a longest frame in a second.
pub(super) const RATE_MIN: u64 = 1500;
/// Of a device that does not tell its speed: 100 Mbit/s.
const RATE_UNKNOWN: u64 = 12_500_000;
/// The kernel's unit of time in these messages: 64 ns (PSCHED_SHIFT).
const NS_PER_TICK: u128 = 64;
/// Timer ticks per second that a burst has to last for.
const TICKS_PER_SECOND: u64 = 100;

/// What a discipline needs to know of its device.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bytes per second, 0 if it is not known.
    pub speed: u64,
    pub mtu: u32,
}

/// One kind of QoS: its type, the kernel's discipline, and who builds it.
struct Row {
    name: &'static str,
    kind: &'static str,
    build: fn(&Qos, Line) -> Plan,
}

/// `linux-noop` is not among them: it leaves the device as it is.
const ROWS: &[Row] = &[
    Row { name: "linux-htb", kind: "htb", build: htb },
    Row { name: "linux-hfsc", kind: "hfsc", build: hfsc },
    Row { name: "linux-sfq", kind: "sfq", build: sfq },
    Row { name: "linux-codel", kind: "codel", build: codel },
    Row { name: "linux-fq_codel", kind: "fq_codel", build: fq_codel },
    Row { name: "linux-netem", kind: "netem", build: netem },
];

/// A discipline's options and its classes: (parent, handle, options).
#[derive(Debug, Default, PartialEq)]
struct Plan {
    options: Vec<u8>,
    classes: Vec<(u32, u32, Vec<u8>)>,
}

/// Makes a device's root discipline the one asked for.
///
/// # Errors
/// The kernel's; `Unsupported` for a type that there is not, or for which the kernel has no discipline.
pub fn set(session: &mut Session, ifindex: u32, qos: &Qos, line: Line) -> io::Result<()> {
    if qos.kind == "linux-noop" {
        return Ok(());
    }
    let row = ROWS
        .iter()
        .find(|row| row.name == qos.kind)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, format!("there is no QoS type {}", qos.kind)))?;
    let plan = (row.build)(qos, line);
    clear(session, ifindex)?;
    let made = make(session, ifindex, row, &plan);
    if made.is_err() {
        // No half of it stays. Why it was refused is the better answer of the two.
        let _ = clear(session, ifindex);
    }
    made
}

fn make(session: &mut Session, ifindex: u32, row: &Row, plan: &Plan) -> io::Result<()> {
    session.traffic_control(RTM_NEWQDISC, true, &body(ifindex, QDISC, TC_H_ROOT), row.kind, &plan.options).map_err(|e| {
        // ENOENT: sch_KIND is not in the kernel.
        if e.raw_os_error() == Some(libc::ENOENT) {
            io::Error::new(io::ErrorKind::Unsupported, format!("the kernel has no queueing discipline {}", row.kind))
        } else {
            e
        }
    })?;
    for (parent, handle, options) in &plan.classes {
        session.traffic_control(RTM_NEWTCLASS, true, &body(ifindex, *handle, *parent), row.kind, options)?;
    }
    Ok(())
}

/// Takes a device's root discipline away: the kernel's usual one takes its place.
///
/// # Errors
/// The kernel's; it is none if there is nothing to take away.
pub fn clear(session: &mut Session, ifindex: u32) -> io::Result<()> {
    match session.traffic_control(RTM_DELQDISC, false, &body(ifindex, 0, TC_H_ROOT), "", &[]) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        other => other,
    }
}

/// The types of QoS that there are.
pub(crate) fn kinds() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).chain(["linux-noop"]).collect()
}

/// The priority of packets of a queue: the number of its class.
pub(crate) fn priority(queue: u16) -> u32 {
    QDISC | (u32::from(queue) + 1)
}

/// struct tcmsg.
pub(super) fn body(ifindex: u32, handle: u32, parent: u32) -> [u8; 20] {
    let mut body = [0; 20];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[8..12].copy_from_slice(&handle.to_ne_bytes());
    body[12..16].copy_from_slice(&parent.to_ne_bytes());
    body
}

impl Session {
    fn traffic_control(&mut self, kind: u16, makes: bool, body: &[u8], discipline: &str, options: &[u8]) -> io::Result<()> {
        let flags = libc::NLM_F_ACK | if makes { libc::NLM_F_CREATE | libc::NLM_F_REPLACE } else { 0 };
        let mut request = self.request(kind, flags, body);
        if !discipline.is_empty() {
            request = request.attribute(TCA_KIND, &[discipline.as_bytes(), &[0]].concat());
        }
        if !options.is_empty() {
            request = request.attribute(TCA_OPTIONS, options);
        }
        self.transact(request, &mut |_| ())
    }
}

// ---- what rows say ----

pub(super) fn number(options: &[(String, String)], key: &str) -> Option<u64> {
    options.iter().find(|(k, _)| k == key)?.1.trim().parse().ok()
}

/// Bytes per second of everything together.
pub(super) fn whole_rate(qos: &Qos, line: Line) -> u64 {
    let asked = number(&qos.options, "max-rate").map(|bits| bits / 8).filter(|rate| *rate != 0);
    let own = if line.speed == 0 { RATE_UNKNOWN } else { line.speed };
    asked.unwrap_or(own).max(RATE_MIN)
}

/// The queues, with queue 0 even where nobody asks for it: it has what names none.
pub(super) fn queues(qos: &Qos) -> Vec<(u32, &[(String, String)])> {
    let mut all: Vec<_> = qos.queues.iter().filter(|(n, _)| *n <= QUEUE_MAX).map(|(n, o)| (*n, o.as_slice())).collect();
    if all.iter().all(|(n, _)| *n != 0) {
        all.insert(0, (0, &[]));
    }
    all
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn short(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

// ---- HTB ----

/// Bytes that a class may send at once for its rate to be reached.
pub(super) fn burst_min(rate: u64, line: Line) -> u64 {
    rate / TICKS_PER_SECOND + u64::from(line.mtu)
}

/// Time that `bytes` take at a rate, in ticks.
fn ticks(bytes: u64, rate: u64) -> u32 {
    u32::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1)) / NS_PER_TICK).unwrap_or(u32::MAX)
}

/// struct tc_htb_opt, with 64-bit rates where 32 bits are too few.
fn htb_class(rate: u64, ceil: u64, burst: u64, prio: u32) -> Vec<u8> {
    const PARMS: u16 = 1;
    const RATE64: u16 = 6;
    const CEIL64: u16 = 7;
    const ETHERNET: u8 = 1;
    let spec = |rate: u64| {
        let mut spec = [0; 12];
        // The kernel needs no table of times for a link layer that it is told.
        spec[1] = ETHERNET;
        spec[8..].copy_from_slice(&short(rate).to_ne_bytes());
        spec
    };
    let mut parms = [spec(rate), spec(ceil)].concat();
    // buffer, cbuffer, quantum (0: the kernel's choice), level, prio
    parms.extend(words(&[ticks(burst, rate), ticks(burst, ceil), 0, 0, prio]));
    let mut options = Nested::default();
    options.add(PARMS, &parms);
    for (kind, rate) in [(RATE64, rate), (CEIL64, ceil)] {
        if rate > u64::from(u32::MAX) {
            options.add(kind, &rate.to_ne_bytes());
        }
    }
    options.bytes
}

fn htb(qos: &Qos, line: Line) -> Plan {
    const INIT: u16 = 2;
    // version, rate2quantum, defcls, debug, direct_pkts
    let mut options = Nested::default();
    options.add(INIT, &words(&[3, 10, 1, 0, 0]));
    let whole = whole_rate(qos, line);
    let mut classes = vec![(QDISC, ALL_TRAFFIC, htb_class(whole, whole, burst_min(whole, line), 0))];
    for (n, o) in queues(qos) {
        let rate = number(o, "min-rate").map_or(RATE_MIN, |bits| bits / 8).max(RATE_MIN).min(whole);
        let ceil = number(o, "max-rate").map_or(whole, |bits| bits / 8).max(rate).min(whole);
        let burst = number(o, "burst").map_or(0, |bits| bits / 8).max(burst_min(ceil, line));
        let prio = number(o, "priority").map_or(0, short);
        classes.push((ALL_TRAFFIC, QDISC | (n + 1), htb_class(rate, ceil, burst, prio)));
    }
    Plan { options: options.bytes, classes }
}

// ---- HFSC ----

/// Real-time and fair share of `min`, upper limit of `max`: straight curves.
fn hfsc_class(min: u64, max: u64) -> Vec<u8> {
    const RSC: u16 = 1;
    const FSC: u16 = 2;
    const USC: u16 = 3;
    let mut options = Nested::default();
    // m1, d, m2
    options.add(RSC, &words(&[0, 0, short(min)]));
    options.add(FSC, &words(&[0, 0, short(min)]));
    options.add(USC, &words(&[0, 0, short(max)]));
    options.bytes
}

fn hfsc(qos: &Qos, line: Line) -> Plan {
    let whole = whole_rate(qos, line);
    let mut classes = vec![(QDISC, ALL_TRAFFIC, hfsc_class(whole, whole))];
    for (n, o) in queues(qos) {
        let min = number(o, "min-rate").map_or(1, |bits| bits / 8).max(1).min(whole);
        let max = number(o, "max-rate").map_or(whole, |bits| bits / 8).max(min).min(whole);
        classes.push((ALL_TRAFFIC, QDISC | (n + 1), hfsc_class(min, max)));
    }
    // struct tc_hfsc_qopt: the default class.
    Plan { options: 1u16.to_ne_bytes().to_vec(), classes }
}

// ---- without classes ----

fn sfq(qos: &Qos, line: Line) -> Plan {
    let get = |key, default: u64| short(number(&qos.options, key).filter(|n| *n != 0).unwrap_or(default));
    // quantum, perturb_period, limit, divisor, flows
    Plan { options: words(&[get("quantum", u64::from(line.mtu)), get("perturb", 10), 0, 0, 0]), classes: Vec::new() }
}

/// Each of (option, key, default) as a number.
fn numbers(qos: &Qos, table: &[(u16, &str, u64)]) -> Plan {
    let mut options = Nested::default();
    for (kind, key, default) in table {
        let value = number(&qos.options, key).filter(|n| *n != 0).unwrap_or(*default);
        options.add(*kind, &short(value).to_ne_bytes());
    }
    Plan { options: options.bytes, classes: Vec::new() }
}

fn codel(qos: &Qos, _: Line) -> Plan {
    numbers(qos, &[(1, "target", 5_000), (2, "limit", 10_240), (3, "interval", 100_000)])
}

fn fq_codel(qos: &Qos, _: Line) -> Plan {
    let table =
        [(1, "target", 5_000), (2, "limit", 10_240), (3, "interval", 100_000), (5, "flows", 1_024), (6, "quantum", 1_514)];
    numbers(qos, &table)
}

fn netem(qos: &Qos, _: Line) -> Plan {
    let get = |key| number(&qos.options, key).unwrap_or(0);
    let time = |us: u64| u32::try_from(u128::from(us) * 1000 / NS_PER_TICK).unwrap_or(u32::MAX);
    let loss = u32::try_from(u64::from(u32::MAX) * get("loss").min(100) / 100).unwrap_or(u32::MAX);
    let limit = short(number(&qos.options, "limit").filter(|n| *n != 0).unwrap_or(1000));
    // latency, limit, loss, gap, duplicate, jitter
    Plan { options: words(&[time(get("latency")), limit, loss, 0, 0, time(get("jitter"))]), classes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = Line { speed: 0, mtu: 1500 };

    fn qos(kind: &str, options: &[(&str, &str)], queues: &[(u32, &[(&str, &str)])]) -> Qos {
        let pairs = |o: &[(&str, &str)]| o.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Qos { kind: kind.to_owned(), options: pairs(options), queues: queues.iter().map(|(n, o)| (*n, pairs(o))).collect() }
    }

    /// The figures of OVS's own test: `rate 2Mbit ceil 3Mbit burst 375000b cburst 375000b`.
    #[test]
    fn a_class_of_htb_has_the_rates_and_bursts_of_its_queue() {
        let asked: &[(&str, &str)] = &[("min-rate", "2000000"), ("max-rate", "3000000"), ("burst", "3000000")];
        let plan = htb(&qos("linux-htb", &[("max-rate", "3000000")], &[(0, asked)]), LINE);
        assert_eq!(plan.options[4..], words(&[3, 10, 1, 0, 0]), "class 1 is the default");
        assert_eq!(plan.classes.len(), 2);
        let (parent, handle, options) = &plan.classes[1];
        assert_eq!((*parent, *handle), (0x1_fffe, 0x1_0001));
        let word = |at: usize| u32::from_ne_bytes(options[4 + at..8 + at].try_into().unwrap());
        assert_eq!((word(8), word(20)), (250_000, 375_000), "bytes per second");
        // 375000 bytes take 1.5 s at the one rate and 1 s at the other.
        assert_eq!((word(24), word(28)), (23_437_500, 15_625_000));
    }

    #[test]
    fn what_names_no_queue_has_one() {
        let plan = hfsc(&qos("linux-hfsc", &[], &[(3, &[("max-rate", "8000000")])]), Line { speed: 125_000_000, mtu: 1500 });
        let handles: Vec<u32> = plan.classes.iter().map(|(_, handle, _)| *handle).collect();
        assert_eq!(handles, [0x1_fffe, 0x1_0001, 0x1_0004]);
        assert_eq!(plan.classes[0].2, hfsc_class(125_000_000, 125_000_000), "the device's own speed");
        assert_eq!(plan.classes[2].2, hfsc_class(1, 1_000_000));
    }

    #[test]
    fn rates_beyond_32_bits_are_said_beside() {
        let class = htb_class(5_000_000_000, 5_000_000_000, 0, 0);
        assert_eq!(class.len(), 4 + 44 + 2 * (4 + 8));
        assert_eq!(htb_class(1, 1, 0, 0).len(), 4 + 44);
    }

    #[test]
    fn percents_and_microseconds_become_the_kernels_units() {
        let plan = netem(&qos("linux-netem", &[("latency", "64000"), ("loss", "50")], &[]), LINE);
        assert_eq!(plan.options, words(&[1_000_000, 1000, 0x7fff_ffff, 0, 0, 0]));
        assert!(plan.classes.is_empty());
    }
}
