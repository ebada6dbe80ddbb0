//! Lists of a multipart: queues, groups, meters, monitors, IPFIX; and what a flush of connections names.

use super::ports::counter;
use super::{hex, put};
use crate::message::{
    CtFlush, CtTuple, FlowMonitorRequest, FlowStatsRequest, FlowUpdate, GroupFeatures, GroupStatsEntry, IpfixStats,
    MeterFeatures, QueueConfig, QueueStatsEntry,
};
use crate::text::Names;
use crate::text::actions::{Alternate, Show};
use crate::text::flow::{format_duration, format_match_priority};
use crate::types::{DEFAULT_PRIORITY, GroupId, OfPort, TableId};
use flow::forms::Ip6;
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, METER_BURST, METER_KBPS, METER_PKTPS, METER_STATS};
use std::net::Ipv6Addr;

/// OFPQ_ALL
const QUEUE_ALL: u32 = u32::MAX;
/// AF_INET, as NXT_CT_FLUSH's family.
const AF_INET: u16 = 2;
/// OFPFMC_DELETE
const MONITOR_DELETE: u8 = 2;
/// OFPFMF_*
const MONITOR_FLAGS: [(u32, &str); 7] =
    [(1, "initial"), (2, "add"), (4, "delete"), (8, "modify"), (16, "actions"), (32, "no-abbrev"), (64, "own")];

pub(super) fn queue_name(queue: u32) -> String {
    if queue == QUEUE_ALL { "ALL".to_owned() } else { queue.to_string() }
}

pub(super) fn queue_config_request(out: &mut String, port: OfPort, queue: u32, names: &Names<'_>) {
    put(out, format_args!(" port={}", names.port(port)));
    if queue != QUEUE_ALL {
        put(out, format_args!(" queue={queue}"));
    }
}

pub(super) fn queue_config(out: &mut String, queues: &[QueueConfig], names: &Names<'_>) {
    const RATE_MAX: u16 = 1000;
    let rate = |name: &str, rate: u16| match rate {
        0..=RATE_MAX => format!(" {name}:{}.{}%", rate / 10, rate % 10),
        u16::MAX => String::new(),
        _ => format!(" {name}:(disabled)"),
    };
    let mut queues: Vec<&QueueConfig> = queues.iter().collect();
    queues.sort_by_key(|q| (q.port.0 & 0xffff, q.queue));
    let mut last = OfPort(0);
    out.push(' ');
    for q in queues {
        if q.port != last {
            last = q.port;
            put(out, format_args!("port={}\n", names.port(q.port)));
        }
        put(out, format_args!("queue {}:{}{}\n", q.queue, rate("min_rate", q.min_rate), rate("max_rate", q.max_rate)));
    }
}

pub(super) fn queue_stats(out: &mut String, entries: &[QueueStatsEntry], names: &Names<'_>, verbosity: u8) {
    put(out, format_args!(" {} queues\n", entries.len()));
    for e in entries.iter().filter(|_| verbosity >= 1) {
        let (bytes, packets, errors) = (counter(e.tx_bytes), counter(e.tx_packets), counter(e.tx_errors));
        let duration = if e.duration_sec == u32::MAX { "?".to_owned() } else { format_duration(e.duration_sec, e.duration_nsec) };
        let (port, queue) = (names.port(e.port), queue_name(e.queue));
        put(
            out,
            format_args!("  port {port} queue {queue}: bytes={bytes}, pkts={packets}, errors={errors}, duration={duration}\n"),
        );
    }
}

pub(super) fn group_stats(out: &mut String, entries: &[GroupStatsEntry]) {
    for e in entries {
        put(out, format_args!("\n group_id={},", e.group.0));
        if e.duration_sec != u32::MAX {
            put(out, format_args!("duration={},", format_duration(e.duration_sec, e.duration_nsec)));
        }
        put(out, format_args!("ref_count={},packet_count={},byte_count={}", e.ref_count, e.packets, e.bytes));
        for (n, (packets, bytes)) in e.buckets.iter().enumerate().filter(|(_, (packets, _))| *packets != u64::MAX) {
            put(out, format_args!(",bucket{n}:packet_count={packets},byte_count={bytes}"));
        }
    }
}

pub(super) fn group_features(out: &mut String, f: &GroupFeatures) {
    put(out, format_args!("\n Group table:\n    Types:  {:#x}\n    Capabilities:  {:#x}\n", f.types, f.capabilities));
    for (n, name) in ["all", "select", "indirect", "fast failover"].into_iter().enumerate().filter(|(n, _)| f.types >> n & 1 != 0)
    {
        let max = Alternate(f.max_groups[n].into());
        let actions = super::session::action_names(f.actions[n]);
        put(out, format_args!("    {name} group:\n       max_groups={max}\n       actions: {actions}\n"));
    }
}

pub(super) fn meter_features(out: &mut String, f: MeterFeatures) {
    const BANDS: [(u32, &str); 2] = [(1 << BAND_DROP, "drop"), (1 << BAND_DSCP_REMARK, "dscp_remark")];
    const CAPABILITIES: [(u16, &str); 4] =
        [(METER_KBPS, "kbps"), (METER_PKTPS, "pktps"), (METER_BURST, "burst"), (METER_STATS, "stats")];
    let capabilities = CAPABILITIES.map(|(bit, name)| (u32::from(bit), name));
    put(out, format_args!("\nmax_meter:{} max_bands:{} max_color:{}\n", f.max_meters, f.max_bands, f.max_color));
    put(out, format_args!("band_types: {}\n", hex::bits(f.band_types, &BANDS, " ")));
    put(out, format_args!("capabilities: {}\n", hex::bits(f.capabilities, &capabilities, " ")));
}

pub(super) fn flow_request(out: &mut String, request: &FlowStatsRequest, names: &Names<'_>) {
    if request.table != TableId::ALL {
        put(out, format_args!(" table={}", names.table(request.table)));
    }
    if request.out_port != OfPort::ANY {
        put(out, format_args!(" out_port={}", names.port(request.out_port)));
    }
    put(out, format_args!(" {}", format_match_priority(&request.matching, DEFAULT_PRIORITY, names)));
}

pub(super) fn monitor_request(out: &mut String, r: &FlowMonitorRequest, names: &Names<'_>) {
    put(out, format_args!("\n id={}", r.id));
    if r.command == MONITOR_DELETE {
        out.push_str(" command=delete");
        return;
    }
    put(out, format_args!(" flags={}", hex::bits(r.flags, &MONITOR_FLAGS, ",")));
    if r.out_port != OfPort::ANY {
        put(out, format_args!(" out_port={}", names.port(r.out_port)));
    }
    if r.out_group != GroupId::ANY && r.out_group.0 != 0 {
        put(out, format_args!(" out_group={}", r.out_group.0));
    }
    if r.table != TableId::ALL {
        put(out, format_args!(" table={}", names.table(r.table)));
    }
    let matching = format_match_priority(&r.matching, DEFAULT_PRIORITY, names);
    if !matching.is_empty() {
        put(out, format_args!(" {matching}"));
    }
}

pub(super) fn monitor_update(out: &mut String, update: &FlowUpdate, names: &Names<'_>) {
    out.push_str("\n event=");
    match update {
        FlowUpdate::Abbrev { xid } => put(out, format_args!("ABBREV xid={xid:#x}")),
        FlowUpdate::Paused => out.push_str("PAUSED"),
        FlowUpdate::Resumed => out.push_str("RESUMED"),
        FlowUpdate::Full { event, reason, table, idle_timeout, hard_timeout, cookie, matching, actions, .. } => {
            match event {
                0 => out.push_str("INITIAL"),
                1 => out.push_str("ADDED"),
                2 => {
                    let name = super::session::REMOVED_REASONS.get(usize::from(*reason));
                    put(out, format_args!("DELETED reason={}", name.map_or_else(|| reason.to_string(), |n| (*n).to_owned())));
                }
                _ => out.push_str("MODIFIED"),
            }
            put(out, format_args!(" table={}", names.table(*table)));
            for (name, timeout) in [("idle_timeout", idle_timeout), ("hard_timeout", hard_timeout)] {
                if *timeout != 0 {
                    put(out, format_args!(" {name}={timeout}"));
                }
            }
            put(out, format_args!(" cookie={} {}", Alternate(*cookie), format_match_priority(matching, DEFAULT_PRIORITY, names)));
            if !actions.is_empty() {
                let space = if out.ends_with(' ') { "" } else { " " };
                put(out, format_args!("{space}actions={}", Show(&actions[..], names)));
            }
        }
    }
}

fn ipfix(out: &mut String, s: &IpfixStats, indent: usize) {
    let line = |counters: &[(&str, u64)]| {
        let parts: Vec<String> = counters.iter().map(|(name, value)| format!("{name}={}", counter(*value))).collect();
        parts.join(", ")
    };
    let sampled = [
        ("flows", s.total_flows),
        ("current flows", s.current_flows),
        ("sampled pkts", s.packets),
        ("ipv4 ok", s.ipv4_packets),
        ("ipv6 ok", s.ipv6_packets),
        ("tx pkts", s.tx_packets),
    ];
    let failed = [
        ("pkts errs", s.error_packets),
        ("ipv4 errs", s.ipv4_error_packets),
        ("ipv6 errs", s.ipv6_error_packets),
        ("tx errs", s.tx_errors),
    ];
    put(out, format_args!("{}\n{}{}\n", line(&sampled), " ".repeat(indent), line(&failed)));
}

pub(super) fn ipfix_bridge(out: &mut String, stats: &IpfixStats) {
    out.push_str("\n  bridge ipfix: ");
    ipfix(out, stats, 16);
}

pub(super) fn ipfix_flows(out: &mut String, entries: &[IpfixStats]) {
    put(out, format_args!(" {} ids\n", entries.len()));
    for e in entries {
        put(out, format_args!("  id {:>3}: ", e.collector_set_id));
        ipfix(out, e, 10);
    }
}

pub(super) fn ct_flush(out: &mut String, flush: &CtFlush) {
    put(out, format_args!(" zone={} '", flush.zone.unwrap_or(0)));
    ct_tuple(out, flush.original.unwrap_or_default(), flush);
    put(out, format_args!(",ct_nw_proto={}' '", flush.ip_proto));
    ct_tuple(out, flush.reply.unwrap_or_default(), flush);
    out.push('\'');
}

fn ct_tuple(out: &mut String, t: CtTuple, flush: &CtFlush) {
    let v4 = flush.l3_family == AF_INET;
    let address = |bytes: [u8; 16]| {
        let v6 = Ipv6Addr::from(bytes);
        v6.to_ipv4_mapped().map_or_else(|| Ip6(v6.into()).to_string(), |v4| v4.to_string())
    };
    let prefix = if v4 { "ct_nw_" } else { "ct_ipv6_" };
    put(out, format_args!("{prefix}src={},{prefix}dst={}", address(t.src), address(t.dst)));
    if matches!(flush.ip_proto, 1 | 58) {
        put(out, format_args!(",icmp_id={},icmp_type={},icmp_code={}", t.icmp_id, t.icmp_type, t.icmp_code));
    } else {
        put(out, format_args!(",ct_tp_src={},ct_tp_dst={}", t.src_port, t.dst_port));
    }
}
