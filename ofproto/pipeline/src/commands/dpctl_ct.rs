//! `dpctl/*` that concern connection tracking: dumps, flushes, figures, limits, fragments. OVS's text.

use super::Outcome;
use super::dpctl::{Options, errno, error};
use super::show::write;
use crate::slowpath::Slowpath;
use flow::Datapath;
use flow::conntrack::{Conntrack, CtFilter, CtTuple, FragFigures, TcpState};
use flow::seam::DpError;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const INVALID: &str = "Invalid argument";
const NOT_SUPPORTED: &str = "Operation not supported";
/// Columns of `ct-bkts`.
const PER_ROW: usize = 8;

/// The tracker of the datapath that the arguments name, and the arguments that are left. `most` is how many arguments the command takes.
/// Options may stand before them everywhere; those that a command heeds it has taken.
fn with_tracker(slowpath: &Slowpath, args: &[&str], most: usize, f: impl FnOnce(&dyn Conntrack, &[&str]) -> Outcome) -> Outcome {
    let (_, args) = Options::take(args)?;
    let (dp, args) = slowpath.optional_datapath(args, most)?;
    on_tracker(&dp, |ct| f(ct, args))
}

fn on_tracker(dp: &Arc<dyn Datapath>, f: impl FnOnce(&dyn Conntrack) -> Outcome) -> Outcome {
    match dp.conntrack() {
        Some(ct) => f(ct),
        None => Err(error(NOT_SUPPORTED)),
    }
}

fn failed(what: &str, e: &DpError) -> String {
    error(format_args!("{what} ({})", errno(e)))
}

/// What the tracker does not take of fragments' bounds is EPERM to OVS.
fn not_permitted(what: &str) -> String {
    error(format_args!("{what} (Operation not permitted)"))
}

fn invalid(what: &str) -> String {
    error(format_args!("{what} ({INVALID})"))
}

/// Takes `zone=N` off the end of the arguments.
fn zone_at_end<'a, 'b>(args: &'a [&'b str]) -> (Option<u16>, &'a [&'b str]) {
    let zone = args.last().and_then(|a| a.strip_prefix("zone=")).and_then(|z| z.parse().ok());
    (zone, if zone.is_some() { &args[..args.len() - 1] } else { args })
}

pub(super) fn dump(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let (zone, args) = zone_at_end(args);
    with_tracker(slowpath, args, 1, |ct, _| {
        let mut out = String::new();
        ct.dump(zone, &mut |entry| {
            out += &entry.text(options.verbose, options.statistics);
            out.push('\n');
            true
        });
        Ok(out)
    })
}

pub(super) fn dump_expectations(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (_, args) = Options::take(args)?;
    let (zone, args) = zone_at_end(args);
    with_tracker(slowpath, args, 1, |ct, _| Ok(ct.expectations(zone).into_iter().map(|line| line + "\n").collect()))
}

pub(super) fn flush(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (_, args) = Options::take(args)?;
    let (dp, args) = match args.split_first().and_then(|(first, rest)| Some((slowpath.datapath(first)?, rest))) {
        Some(named) => named,
        None => (slowpath.optional_datapath(&[], 1)?.0, args),
    };
    let filter = read_filter(args)?;
    crate::conn::ct_flush::log(dp.as_ref(), &filter);
    on_tracker(&dp, |ct| match ct.flush(&filter) {
        Ok(_) => Ok(String::new()),
        Err(e) => Err(failed("failed to flush conntrack", &e)),
    })
}

/// `[zone=N] [mark=X[/M]] [labels=Y[/N]] [CT-ORIG-TUPLE [CT-REPLY-TUPLE]]`
fn read_filter(mut args: &[&str]) -> Result<CtFilter, String> {
    let mut filter = CtFilter::default();
    if let Some(zone) = args.first().and_then(|a| a.strip_prefix("zone=")) {
        filter.zone = Some(zone.parse().map_err(|_| invalid("failed to parse zone"))?);
        args = &args[1..];
    }
    while let Some((first, rest)) = args.split_first() {
        if let Some(mark) = first.strip_prefix("mark=") {
            let (value, mask) = masked(mark).ok_or_else(|| invalid("failed to parse mark"))?;
            let narrow = |n: u128| u32::try_from(n).map_err(|_| invalid("failed to parse mark"));
            filter.mark = Some((narrow(value)?, mask.map_or(Ok(u32::MAX), narrow)?));
        } else if let Some(labels) = first.strip_prefix("labels=") {
            let (value, mask) = masked(labels).ok_or_else(|| invalid("failed to parse labels"))?;
            filter.label = Some((value, mask.unwrap_or(u128::MAX)));
        } else {
            break;
        }
        args = rest;
    }
    let mut tuples = [CtTuple::default(); 2];
    for (tuple, text) in tuples.iter_mut().zip(args.iter().take(2)) {
        read_tuple(text, tuple, &mut filter).map_err(|e| invalid(&e))?;
    }
    if args.len() > 2 {
        return Err(invalid("invalid arguments"));
    }
    [filter.orig, filter.reply] = tuples;
    for tuple in [&mut filter.orig, &mut filter.reply] {
        // A default stays one, so that it is known to be open.
        tuple.proto = if *tuple == CtTuple::default() { 0 } else { filter.proto };
    }
    Ok(filter)
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn masked(text: &str) -> Option<(u128, Option<u128>)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, Some(number(mask)?))),
        None => Some((number(text)?, None)),
    }
}

/// `ct_nw_src=A,ct_nw_dst=A,ct_nw_proto=N,ct_tp_src=P,ct_tp_dst=P`, `ct_ipv6_*`, `icmp_id`, `icmp_type`, `icmp_code`.
fn read_tuple(text: &str, tuple: &mut CtTuple, filter: &mut CtFilter) -> Result<(), String> {
    for pair in text.split([',', ' ']).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(format!("field {key} missing value"));
        }
        let bad = || format!("failed to parse field {key}");
        match key {
            "ct_nw_src" | "ct_nw_dst" | "ct_ipv6_src" | "ct_ipv6_dst" => {
                let family = if key.starts_with("ct_nw") { 4 } else { 6 };
                if filter.family != 0 && filter.family != family {
                    return Err(format!("the L3 protocol does not match {value}"));
                }
                let address: IpAddr = value.parse().map_err(|_| bad())?;
                if address.is_ipv4() != (family == 4) {
                    return Err(bad());
                }
                let place = if key.ends_with("src") { &mut tuple.src } else { &mut tuple.dst };
                if !place.is_unspecified() {
                    return Err(format!("{key} is set multiple times"));
                }
                (*place, filter.family) = (address, family);
            }
            "ct_nw_proto" => {
                filter.proto = value.parse().map_err(|_| bad())?;
            }
            "ct_tp_src" => tuple.src_port = value.parse().map_err(|_| bad())?,
            "ct_tp_dst" => tuple.dst_port = value.parse().map_err(|_| bad())?,
            "icmp_type" | "icmp_code" | "icmp_id" => {
                if !matches!(filter.proto, 1 | 58) {
                    return Err("invalid L4 fields".to_owned());
                }
                match key {
                    "icmp_type" => tuple.icmp_type = value.parse().map_err(|_| bad())?,
                    "icmp_code" => tuple.icmp_code = value.parse().map_err(|_| bad())?,
                    _ => tuple.src_port = value.parse().map_err(|_| bad())?,
                }
            }
            _ => return Err(format!("invalid conntrack tuple field: {key}")),
        }
    }
    if filter.proto == 0 && (tuple.src_port != 0 || tuple.dst_port != 0) {
        return Err("port is set without protocol".to_owned());
    }
    Ok(())
}

pub(super) fn stats(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, mut args) = Options::take(args)?;
    let (mut zone, mut verbose) = (None, options.verbose);
    while let Some((last, rest)) = args.split_last() {
        match last.strip_prefix("zone=").and_then(|z| z.parse().ok()) {
            Some(z) => zone = Some(z),
            None if last.starts_with("verbose") => verbose = true,
            None => break,
        }
        args = rest;
    }
    with_tracker(slowpath, args, 1, |ct, _| {
        let (mut total, mut protos, mut states) = (0, BTreeMap::<u8, u32>::new(), BTreeMap::<TcpState, u32>::new());
        ct.dump(zone, &mut |entry| {
            total += 1;
            *protos.entry(entry.orig.proto).or_default() += 1;
            if let Some(tcp) = &entry.tcp {
                *states.entry(tcp.joint_state()).or_default() += 1;
            }
            true
        });
        Ok(stats_text(total, protos, if verbose { Some(&states) } else { None }))
    })
}

fn stats_text(total: u32, mut protos: BTreeMap<u8, u32>, states: Option<&BTreeMap<TcpState, u32>>) -> String {
    /// In OVS's order; ICMPv6 is counted and not shown there.
    const SHOWN: [(u8, &str); 7] =
        [(6, "TCP"), (17, "UDP"), (136, "UDPLITE"), (132, "SCTP"), (1, "ICMP"), (33, "DCCP"), (2, "IGMP")];
    const ICMPV6: u8 = 58;
    let mut out = format!("Connections Stats:\n    Total: {total}\n");
    for (proto, name) in SHOWN {
        let Some(n) = protos.remove(&proto) else { continue };
        write(&mut out, format_args!("  {name}: {n}\n"));
        if proto == 6
            && let Some(states) = states
        {
            out += "    Conn per TCP states:\n";
            for (state, n) in states {
                write(&mut out, format_args!("\t  [{}]={n}\n", state.name()));
            }
        }
    }
    protos.remove(&ICMPV6);
    let other: u32 = protos.values().sum();
    if other > 0 {
        write(&mut out, format_args!("  Other: {other}\n"));
    }
    out
}

pub(super) fn buckets(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (_, mut args) = Options::take(args)?;
    let mut above = 0u32;
    if let Some(n) = args.last().and_then(|a| a.strip_prefix("gt=")).and_then(|n| n.parse().ok()) {
        (above, args) = (n, &args[..args.len() - 1]);
    }
    with_tracker(slowpath, args, 1, |ct, _| {
        let total = ct.buckets() as usize;
        let (mut counts, mut connections) = (BTreeMap::<usize, u32>::new(), 0);
        ct.dump(None, &mut |entry| {
            *counts.entry(entry.bucket as usize).or_default() += 1;
            connections += 1;
            true
        });
        let mut out = format!("Total Buckets: {total}\nCurrent Connections: {connections}\n\n");
        if connections > 0 {
            let line = "+-----------+-----------------------------------------+";
            write(&mut out, format_args!("{line}\n|  Buckets  |         Connections per Buckets         |\n{line}"));
            for row in (0..total).step_by(PER_ROW) {
                // There are a million of them: rows in which nothing stands are left out.
                let some = counts.range(row..row + PER_ROW).any(|(_, n)| *n > above);
                if some {
                    write(&mut out, format_args!("\n {row:3}..{:3}   | ", row + PER_ROW - 1));
                    for bucket in row..row + PER_ROW {
                        match counts.get(&bucket).filter(|n| **n > above) {
                            Some(n) => write(&mut out, format_args!("{n:5}")),
                            None => out += "    .",
                        }
                    }
                }
            }
            out += "\n\n";
        }
        Ok(out)
    })
}

pub(super) fn set_max(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 2, |ct, args| {
        let max = args.last().and_then(|a| a.parse().ok()).ok_or_else(|| invalid("maxconns missing or malformed"))?;
        ct.set_max_connections(max).map_err(|e| failed("ct set maxconns failed", &e))?;
        Ok("setting maxconns successful".to_owned())
    })
}

pub(super) fn max(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 1, |ct, _| Ok(format!("{}\n", ct.max_connections())))
}

pub(super) fn connections(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 1, |ct, _| Ok(format!("{}\n", ct.connections())))
}

fn check_sequence(slowpath: &Slowpath, args: &[&str], on: bool) -> Outcome {
    with_tracker(slowpath, args, 2, |ct, _| {
        ct.check_tcp_sequence(on);
        Ok(format!("{} TCP sequence checking successful", if on { "enabling" } else { "disabling" }))
    })
}

pub(super) fn enable_sequence(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    check_sequence(slowpath, args, true)
}

pub(super) fn disable_sequence(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    check_sequence(slowpath, args, false)
}

pub(super) fn sequence(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 1, |ct, _| {
        Ok(format!("TCP sequence checking: {}\n", if ct.checks_tcp_sequence() { "enabled" } else { "disabled" }))
    })
}

pub(super) fn sweep_interval(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 1, |ct, _| Ok(format!("{}\n", ct.sweep_interval_ms())))
}

pub(super) fn set_sweep_interval(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 2, |ct, args| {
        let ms = args.last().and_then(|a| a.parse().ok()).ok_or_else(|| invalid("invalid sweep value"))?;
        ct.set_sweep_interval_ms(ms);
        Ok("setting sweep interval successful".to_owned())
    })
}

pub(super) fn set_limits(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, usize::MAX, |ct, mut args| {
        let mut default = None;
        if let Some(limit) = args.first().and_then(|a| a.strip_prefix("default=")) {
            default = Some(limit.parse().map_err(|_| invalid("invalid default limit"))?);
            args = &args[1..];
        }
        let limits = args.iter().map(|a| zone_limit(a)).collect::<Result<Vec<_>, _>>().map_err(|e| invalid(&e))?;
        if default.is_some() {
            ct.set_default_limit(default);
        }
        for (zone, limit) in limits {
            ct.set_limit(zone, limit);
        }
        Ok(String::new())
    })
}

/// `zone=N,limit=L`
fn zone_limit(text: &str) -> Result<(u16, u32), String> {
    let (mut zone, mut limit) = (None, None);
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let bad = |_| format!("failed to parse field {key}");
        match key {
            _ if value.is_empty() => return Err(format!("field {key} missing value")),
            "zone" => zone = Some(value.parse().map_err(bad)?),
            "limit" => limit = Some(value.parse().map_err(bad)?),
            _ => return Err(format!("invalid zone limit field: {key}")),
        }
    }
    zone.zip(limit).ok_or_else(|| "failed to parse zone limit".to_owned())
}

/// `zone=N[,N]...`
fn zones(text: &str) -> Result<Vec<u16>, String> {
    let list = text.strip_prefix("zone=").ok_or_else(|| invalid(&format!("invalid argument {text}")))?;
    list.split(',').filter(|z| !z.is_empty()).map(|z| z.parse().map_err(|_| invalid("invalid zone"))).collect()
}

pub(super) fn delete_limits(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 3, |ct, args| {
        let is_default = args.first() == Some(&"default");
        let zones = args.get(usize::from(is_default)).map_or_else(|| Ok(Vec::new()), |text| zones(text))?;
        if is_default {
            ct.set_default_limit(None);
        }
        for zone in zones {
            // A zone without a limit is one whose limit was removed.
            let _ = ct.delete_limit(zone);
        }
        Ok(String::new())
    })
}

pub(super) fn limits(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 2, |ct, args| {
        let zones = args.first().map_or_else(|| Ok(Vec::new()), |text| zones(text))?;
        let (default, limits) = ct.limits(&zones);
        let mut out = format!("default limit={default}\n");
        for l in limits {
            write(&mut out, format_args!("zone={},limit={},count={}\n", l.zone, l.limit, l.count));
        }
        Ok(out)
    })
}

/// `v4` or `v6`
fn is_v6(text: Option<&&str>) -> Option<bool> {
    text.and_then(|t| match *t {
        t if t.starts_with("v4") => Some(false),
        t if t.starts_with("v6") => Some(true),
        _ => None,
    })
}

fn enable_fragments(slowpath: &Slowpath, args: &[&str], on: bool) -> Outcome {
    with_tracker(slowpath, args, 2, |ct, args| {
        let v6 = is_v6(args.last()).ok_or_else(|| invalid("parameter missing: 'v4' for IPv4 or 'v6' for IPv6"))?;
        ct.set_fragments_enabled(v6, on);
        Ok(format!("{} fragmentation reassembly successful", if on { "enabling" } else { "disabling" }))
    })
}

pub(super) fn fragments_on(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    enable_fragments(slowpath, args, true)
}

pub(super) fn fragments_off(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    enable_fragments(slowpath, args, false)
}

pub(super) fn fragment_min(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 3, |ct, args| {
        let at = args.len().saturating_sub(2);
        let v6 = is_v6(args.get(at)).ok_or_else(|| invalid("parameter missing: v4 for IPv4 or v6 for IPv6"))?;
        let bytes = args.last().and_then(|a| a.parse().ok());
        let bytes = bytes.ok_or_else(|| invalid("parameter missing for minimum fragment size"))?;
        let small = "requested minimum fragment size too small; see documentation";
        ct.set_fragment_min(v6, bytes).map_err(|_| not_permitted(small))?;
        Ok("setting minimum fragment size successful".to_owned())
    })
}

pub(super) fn fragments_max(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_tracker(slowpath, args, 2, |ct, args| {
        let max = args.last().and_then(|a| a.parse().ok());
        let max = max.ok_or_else(|| invalid("parameter missing for maximum fragments"))?;
        ct.set_fragments_max(max).map_err(|_| not_permitted("setting maximum fragments failed"))?;
        Ok("setting maximum fragments successful".to_owned())
    })
}

pub(super) fn fragments(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    with_tracker(slowpath, args, 1, |ct, _| {
        let status = ct.fragments();
        let mut out = "        Fragmentation Module Status\n        ---------------------------\n".to_owned();
        write(
            &mut out,
            format_args!(
                "        v4 enabled: {}\n        v6 enabled: {}\n",
                u8::from(status.v4.enabled),
                u8::from(status.v6.enabled)
            ),
        );
        write(&mut out, format_args!("        max num frags (v4/v6): {}\n        num frag: {}\n", status.max, status.held));
        family(&mut out, "v4", &status.v4);
        family(&mut out, "v6", &status.v6);
        if options.verbose {
            out += "\n        Fragment Lists:\n\n";
            for line in &status.lists {
                out += line;
                out.push('\n');
            }
        }
        Ok(out)
    })
}

fn family(out: &mut String, name: &str, f: &FragFigures) {
    write(out, format_args!("        min {name} frag size: {}\n", f.min_size));
    let rows = [
        ("accepted", f.accepted),
        ("completed", f.completed),
        ("expired", f.expired),
        ("too small", f.too_small),
        ("overlapped", f.overlapped),
        ("purged", f.purged),
    ];
    for (what, n) in rows {
        write(out, format_args!("        {name} frags {what}: {n}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_flush() {
        let read = |text: &str| read_filter(&text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>());
        assert_eq!(read(""), Ok(CtFilter::default()));
        let f = read("zone=5 mark=0x10/0xf0 labels=1 ct_nw_src=10.0.0.1,ct_nw_proto=6 ct_nw_dst=10.0.0.1,ct_tp_dst=7").unwrap();
        assert_eq!((f.zone, f.mark, f.label), (Some(5), Some((0x10, 0xf0)), Some((1, u128::MAX))));
        assert_eq!((f.proto, f.family, f.orig.proto, f.reply.proto, f.reply.dst_port), (6, 4, 6, 6, 7));
        assert_eq!(read("labels=5/6 mark=7").map(|f| (f.mark, f.label)), Ok((Some((7, u32::MAX)), Some((5, 6)))));
        assert_eq!(read("ct_ipv6_src=::1").map(|f| (f.zone, f.family, f.reply == CtTuple::default())), Ok((None, 6, true)));
        for (text, why) in [
            ("zone=x", "failed to parse zone"),
            ("mark=x", "failed to parse mark"),
            ("mark=0x100000000", "failed to parse mark"),
            ("zone=1 labels=1/", "failed to parse labels"),
            ("mark=1 zone=1", "invalid conntrack tuple field: zone"),
            ("ct_nw_src=1.1.1.1 ct_nw_dst=1.1.1.1 ct_nw_dst=1.1.1.1", "invalid arguments"),
        ] {
            assert_eq!(read(text).unwrap_err(), format!("ovs-vswitchd: {why} (Invalid argument)\n"), "{text}");
        }
    }

    #[test]
    fn tuples() {
        let check = |text: &str| {
            let (mut tuple, mut filter) = (CtTuple::default(), CtFilter::default());
            read_tuple(text, &mut tuple, &mut filter).map(|()| (tuple, filter.proto, filter.family))
        };
        let (tuple, proto, family) = check("ct_nw_src=10.1.1.1,ct_nw_proto=17,ct_tp_src=1,ct_tp_dst=2").unwrap();
        assert_eq!((tuple.src_port, tuple.dst_port, proto, family), (1, 2, 17, 4));
        let (tuple, ..) = check("ct_nw_proto=1,icmp_id=5,icmp_type=8,icmp_code=0").unwrap();
        assert_eq!((tuple.src_port, tuple.icmp_type), (5, 8));
        let errors = [
            ("ct_tp_src=1", "port is set without protocol"),
            ("ct_nw_src=10.1.1.1,ct_ipv6_dst=::1", "the L3 protocol does not match ::1"),
            ("ct_nw_src=1", "failed to parse field ct_nw_src"),
            ("ct_nw_src", "field ct_nw_src missing value"),
            ("icmp_id=1", "invalid L4 fields"),
            ("foo=1", "invalid conntrack tuple field: foo"),
        ];
        for (text, want) in errors {
            assert_eq!(check(text).unwrap_err(), want);
        }
        assert_eq!(zone_limit("zone=1,limit=5"), Ok((1, 5)));
        assert_eq!(zone_limit("zone=1"), Err("failed to parse zone limit".to_owned()));
        assert_eq!(zone_limit("zone=70000,limit=1"), Err("failed to parse field zone".to_owned()));
    }
}
