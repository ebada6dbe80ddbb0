//! Ports: descriptions, changes, counters.

use super::{hex, put};
use crate::message::{PortDesc, PortMod, PortStatsEntry, PortStatus};
use crate::text::Names;
use crate::text::actions::Mac;
use crate::text::flow::format_duration;

/// OFPPC_*
const CONFIG: [(u32, &str); 7] = [
    (1, "PORT_DOWN"),
    (1 << 1, "NO_STP"),
    (1 << 2, "NO_RECV"),
    (1 << 3, "NO_RECV_STP"),
    (1 << 4, "NO_FLOOD"),
    (1 << 5, "NO_FWD"),
    (1 << 6, "NO_PACKET_IN"),
];
/// OFPPS_*
const STATE: [(u32, &str); 3] = [(1, "LINK_DOWN"), (2, "BLOCKED"), (4, "LIVE")];
/// OpenFlow 1.0's spanning tree states, from bit 8.
const STP_STATES: [&str; 4] = ["", "STP_LEARN", "STP_FORWARD", "STP_BLOCK"];
const STP_MASK: u32 = 3 << 8;
/// OFPPF_*
const FEATURES: [(u32, &str); 16] = [
    (1, "10MB-HD"),
    (1 << 1, "10MB-FD"),
    (1 << 2, "100MB-HD"),
    (1 << 3, "100MB-FD"),
    (1 << 4, "1GB-HD"),
    (1 << 5, "1GB-FD"),
    (1 << 6, "10GB-FD"),
    (1 << 7, "40GB-FD"),
    (1 << 8, "100GB-FD"),
    (1 << 9, "1TB-FD"),
    (1 << 10, "OTHER"),
    (1 << 11, "COPPER"),
    (1 << 12, "FIBER"),
    (1 << 13, "AUTO_NEG"),
    (1 << 14, "AUTO_PAUSE"),
    (1 << 15, "AUTO_PAUSE_ASYM"),
];

/// Descriptions in the order of port numbers.
pub(super) fn list(out: &mut String, ports: &[PortDesc]) {
    let mut ports: Vec<&PortDesc> = ports.iter().collect();
    ports.sort_by_key(|p| p.port.0 & 0xffff);
    ports.iter().for_each(|p| port(out, p));
}

fn port(out: &mut String, p: &PortDesc) {
    let name: String = p.name.chars().take_while(|c| matches!(c, ' '..='~')).collect();
    put(out, format_args!(" {}({name}): addr:{}\n", Names::default().port(p.port), Mac(p.hw_addr)));
    put(out, format_args!("     config:     {}\n", hex::bits(p.config, &CONFIG, " ")));
    put(out, format_args!("     state:      {}\n", state(p.state)));
    let features =
        [("current:    ", p.curr), ("advertised: ", p.advertised), ("supported:  ", p.supported), ("peer:       ", p.peer)];
    for (name, bits) in features.iter().filter(|(_, bits)| *bits != 0) {
        put(out, format_args!("     {name}{}\n", hex::bits(*bits, &FEATURES, " ")));
    }
    put(out, format_args!("     speed: {} Mbps now, {} Mbps max\n", p.curr_speed_kbps / 1000, p.max_speed_kbps / 1000));
}

fn state(state: u32) -> String {
    let rest = state & !STP_MASK;
    match STP_STATES[((state & STP_MASK) >> 8) as usize] {
        "" => hex::bits(rest, &STATE, " "),
        stp if rest == 0 => stp.to_owned(),
        stp => stp.to_owned() + &hex::bits(rest, &STATE, " "),
    }
}

pub(super) fn status(out: &mut String, status: &PortStatus) {
    out.push_str(match status.reason {
        0 => " ADD:",
        1 => " DEL:",
        2 => " MOD:",
        _ => "",
    });
    port(out, &status.desc);
}

pub(super) fn port_mod(out: &mut String, p: &PortMod, names: &Names<'_>) {
    put(out, format_args!(" port: {}: addr:{}\n", names.port(p.port), Mac(p.hw_addr)));
    put(out, format_args!("     config: {}\n", hex::bits(p.config, &CONFIG, " ")));
    put(out, format_args!("     mask:   {}\n", hex::bits(p.mask, &CONFIG, " ")));
    let advertise = if p.advertise == 0 { "UNCHANGED".to_owned() } else { hex::bits(p.advertise, &FEATURES, " ") };
    put(out, format_args!("     advertise: {advertise}\n"));
}

/// A counter, `?` when unknown.
pub(super) fn counter(value: u64) -> String {
    if value == u64::MAX { "?".to_owned() } else { value.to_string() }
}

pub(super) fn stats(out: &mut String, entries: &[PortStatsEntry], names: &Names<'_>, verbosity: u8) {
    put(out, format_args!(" {} ports\n", entries.len()));
    if verbosity < 1 {
        return;
    }
    for e in entries {
        let space = if e.port.0 & 0xffff < 10 { " " } else { "" };
        put(out, format_args!("  port {space}{}: ", names.port(e.port)));
        let s = &e.stats;
        let rx = [
            ("pkts", s.rx_packets),
            ("bytes", s.rx_bytes),
            ("drop", s.rx_dropped),
            ("errs", s.rx_errors),
            ("frame", s.rx_frame_err),
            ("over", s.rx_over_err),
            ("crc", s.rx_crc_err),
        ];
        let tx = [
            ("pkts", s.tx_packets),
            ("bytes", s.tx_bytes),
            ("drop", s.tx_dropped),
            ("errs", s.tx_errors),
            ("coll", s.collisions),
        ];
        let line = |counters: &[(&str, u64)]| {
            let parts: Vec<String> = counters.iter().map(|(name, value)| format!("{name}={}", counter(*value))).collect();
            parts.join(", ")
        };
        put(out, format_args!("rx {}\n           tx {}\n", line(&rx), line(&tx)));
        if e.duration_sec != u32::MAX {
            put(out, format_args!("           duration={}\n", format_duration(e.duration_sec, e.duration_nsec)));
        }
        if let Some(counters) = &e.rfc2819 {
            rfc2819(out, counters);
        }
        custom(out, &e.custom);
    }
}

/// Counters of RFC 2819, those that are known.
fn rfc2819(out: &mut String, c: &[u64; 21]) {
    const SIZES: [&str; 7] = [
        "1_to_64_packets",
        "65_to_127_packets",
        "128_to_255_packets",
        "256_to_511_packets",
        "512_to_1023_packets",
        "1024_to_1522_packets",
        "1523_to_max_packets",
    ];
    const RX: [(&str, usize); 5] = [
        ("broadcast_packets", 15),
        ("undersized_errors", 17),
        ("oversize_errors", 18),
        ("rx_fragmented_errors", 19),
        ("rx_jabber_errors", 20),
    ];
    const TX: [(&str, usize); 2] = [("multicast_packets", 14), ("broadcast_packets", 16)];
    for (direction, first, others) in [("rx", 0, &RX[..]), ("tx", 7, &TX[..])] {
        let sizes = SIZES.iter().enumerate().map(|(n, name)| (*name, first + n));
        let known: String = sizes
            .chain(others.iter().copied())
            .filter(|(_, at)| c[*at] != u64::MAX)
            .map(|(name, at)| format!("{name}={}, ", c[at]))
            .collect();
        if !known.is_empty() {
            put(out, format_args!("           {direction} rfc2819 {known}\n"));
        }
    }
}

fn custom(out: &mut String, counters: &[(String, u64)]) {
    const PER_LINE: usize = 3;
    if counters.is_empty() {
        return;
    }
    out.push_str("           CUSTOM Statistics");
    for (n, (name, value)) in counters.iter().enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        out.push_str(if n % PER_LINE == 0 { "\n                      " } else { " " });
        put(out, format_args!("{name}={value},"));
    }
    out.push('\n');
}
