//! `dpctl/*` that concern datapaths and ports. Datapaths of bridges, and others that `dpctl/add-dp` made, are named alike.

use super::Outcome;
use super::dpif::full_name;
use super::show::{device_text, sorted_ports, write};
use crate::slowpath::Slowpath;
use flow::seam::{Datapath, DpError, DpPort, Placement, PortRequest, PortStats};
use std::sync::Arc;

/// EAFNOSUPPORT: a datapath type that is not registered.
const NO_SUCH_TYPE: &str = "Address family not supported by protocol";

/// What the options before the arguments say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub verbose: bool,
    pub statistics: bool,
    pub clear: bool,
    pub may_create: bool,
    pub names: bool,
}

impl Options {
    /// Takes the options off the front of the arguments.
    pub(super) fn take<'a, 'b>(mut args: &'a [&'b str]) -> Result<(Self, &'a [&'b str]), String> {
        let mut options = Self::default();
        let mut names = None;
        while let Some((first, rest)) = args.split_first() {
            match *first {
                "--statistics" => options.statistics = true,
                "--clear" => options.clear = true,
                "--may-create" => options.may_create = true,
                "--more" => options.verbose = true,
                "--names" => names = Some(true),
                "--no-names" => names = Some(false),
                long if long.starts_with("--") => return Err(format!("Unrecognized option {long}")),
                short if short.len() > 1 && short.starts_with('-') => {
                    for letter in short[1..].chars() {
                        match letter {
                            'm' => options.verbose = true,
                            's' => options.statistics = true,
                            other => return Err(format!("Unrecognized option -{other}")),
                        }
                    }
                }
                _ => break,
            }
            args = rest;
        }
        options.names = names.unwrap_or(options.verbose);
        Ok((options, args))
    }
}

/// An error line, as dpctl writes it inside the daemon.
pub(super) fn error(text: impl std::fmt::Display) -> String {
    format!("ovs-vswitchd: {text}\n")
}

/// The text of errno that OVS's datapath would have given.
pub(super) fn errno(error: &DpError) -> String {
    match error {
        DpError::NoFlow | DpError::NoMeter => "No such file or directory".to_owned(),
        DpError::Exists | DpError::PortExists => "File exists".to_owned(),
        DpError::NoPort => "No such device".to_owned(),
        DpError::Full(_) => "No buffer space available".to_owned(),
        DpError::Unsupported(_) => "Operation not supported".to_owned(),
        DpError::Overlap | DpError::Invalid(_) => "Invalid argument".to_owned(),
        DpError::Device(text) => text.clone(),
    }
}

impl Slowpath {
    /// Every datapath, by full name.
    pub(super) fn datapaths(&self) -> Vec<(String, Arc<dyn Datapath>)> {
        let named = |dp: Arc<dyn Datapath>| (full_name(dp.as_ref()), dp);
        let mut all: Vec<_> = self.read_world().backends.values().map(|b| named(Arc::clone(&b.dp))).collect();
        all.extend(self.lock_extra().iter().map(|(name, dp)| (name.clone(), Arc::clone(dp))));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The datapath of that name; a name without a type is one of type system.
    pub(super) fn datapath(&self, name: &str) -> Option<Arc<dyn Datapath>> {
        let name = if name.contains('@') { name.to_owned() } else { format!("system@{name}") };
        self.datapaths().into_iter().find(|(n, _)| *n == name).map(|(_, dp)| dp)
    }

    /// An optional first argument names the datapath; else there must be one alone. `most` is how many arguments the command
    /// takes with the name. Gives the arguments that are left.
    pub(super) fn optional_datapath<'a, 'b>(
        &self,
        args: &'a [&'b str],
        most: usize,
    ) -> Result<(Arc<dyn Datapath>, &'a [&'b str]), String> {
        if let Some((first, rest)) = args.split_first()
            && let Some(dp) = self.datapath(first)
        {
            return Ok((dp, rest));
        }
        let not_found = || error("datapath not found (Invalid argument)");
        if args.len() >= most {
            return Err(not_found());
        }
        let mut all = self.datapaths();
        match all.len() {
            0 => Err(error("no datapaths exist") + &not_found()),
            1 => all.pop().map(|(_, dp)| (dp, args)).ok_or_else(not_found),
            _ => Err(error("multiple datapaths, specify one") + &not_found()),
        }
    }
}

pub(super) fn dump_dps(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    Ok(slowpath.datapaths().into_iter().map(|(name, _)| format!("{name}\n")).collect())
}

pub(super) fn add_dp(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (name, interfaces) = args.split_first().ok_or("a name")?;
    let name = if name.contains('@') { (*name).to_owned() } else { format!("system@{name}") };
    if slowpath.datapath(&name).is_some() {
        return Err(error("add_dp (File exists)"));
    }
    let dp = slowpath.open_datapath(&name).map_err(|e| {
        let no_type = matches!(e, DpError::Unsupported(_));
        error(format_args!("add_dp ({})", if no_type { NO_SUCH_TYPE.to_owned() } else { errno(&e) }))
    })?;
    slowpath.lock_extra().insert(name, Arc::clone(&dp));
    add_interfaces(dp.as_ref(), args[0], interfaces)
}

pub(super) fn del_dp(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    if slowpath.lock_extra().remove(args[0]).is_some() {
        return Ok(String::new());
    }
    Err(error(match slowpath.datapath(args[0]) {
        None => "opening datapath (No such device)",
        Some(_) => "del_dp (Device or resource busy)",
    }))
}

fn opened(slowpath: &Slowpath, name: &str) -> Result<Arc<dyn Datapath>, String> {
    slowpath.datapath(name).ok_or_else(|| error("opening datapath (No such device)"))
}

pub(super) fn add_if(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let dp = opened(slowpath, args[0])?;
    add_interfaces(dp.as_ref(), args[0], &args[1..])
}

fn add_interfaces(dp: &dyn Datapath, dp_name: &str, interfaces: &[&str]) -> Outcome {
    let mut errors = String::new();
    for text in interfaces {
        let request = match parse_interface(text) {
            Ok(mut request) => {
                if request.kind.is_empty() {
                    "system".clone_into(&mut request.kind);
                }
                request
            }
            Err(text) => {
                errors += &error(text);
                continue;
            }
        };
        match dp.port_add(&request) {
            Ok(_) => {}
            Err(DpError::Device(text)) => {
                errors += &error(format_args!("{}: failed to open network device ({text})", request.name))
            }
            Err(e) => errors += &error(format_args!("adding {} to {dp_name} failed ({})", request.name, errno(&e))),
        }
    }
    if errors.is_empty() { Ok(String::new()) } else { Err(errors) }
}

/// `NAME[,type=T][,port_no=N][,OPTION=VALUE]...`; the type is empty if not given.
fn parse_interface(text: &str) -> Result<PortRequest, String> {
    let mut parts = text.split(',').filter(|p| !p.is_empty());
    let name = parts.next().ok_or_else(|| format!("{text} is not a valid network device name"))?;
    let mut request = PortRequest { name: name.to_owned(), ..PortRequest::default() };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "type" => value.clone_into(&mut request.kind),
            "port_no" => request.number = value.parse().ok().map(DpPort),
            _ if request.options.iter().any(|(k, _)| k == key) => return Err(format!("duplicate \"{key}\" option")),
            _ => request.options.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok(request)
}

fn port_named(dp: &dyn Datapath, name: &str) -> Option<flow::seam::PortInfo> {
    let number = name.parse().ok().map(DpPort);
    dp.ports().into_iter().find(|p| p.name == name || Some(p.number) == number)
}

pub(super) fn set_if(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let dp = opened(slowpath, args[0])?;
    let mut errors = String::new();
    for text in &args[1..] {
        let request = parse_interface(text).map_err(error)?;
        let Some(port) = port_named(dp.as_ref(), &request.name) else {
            errors += &error(format_args!("no port named {}", request.name));
            continue;
        };
        let says_type = text.split(',').skip(1).any(|word| word.starts_with("type="));
        if says_type && request.kind != port.kind {
            let text = format!("{}: can't change type from {} to {}", request.name, port.kind, request.kind);
            errors += &error(text);
            continue;
        }
        if let Some(wish) = request.number.filter(|n| *n != port.number) {
            errors += &error(format_args!("{}: can't change port number from {} to {}", request.name, port.number.0, wish.0));
            continue;
        }
        let mut options = port.options.clone();
        for (key, value) in request.options {
            options.retain(|(k, _)| *k != key);
            if !value.is_empty() {
                options.push((key, value));
            }
        }
        let changed = PortRequest { name: request.name, kind: port.kind.clone(), options, ..PortRequest::default() };
        if let Err(e) = dp.port_set(port.number, &changed) {
            errors += &error(format_args!("{}: failed to configure network device ({})", changed.name, errno(&e)));
        }
    }
    if errors.is_empty() { Ok(String::new()) } else { Err(errors) }
}

pub(super) fn del_if(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let dp = opened(slowpath, args[0])?;
    let mut errors = String::new();
    for name in &args[1..] {
        match port_named(dp.as_ref(), name) {
            None => errors += &error(format_args!("no port named {name}")),
            // The datapath's own port stays as long as the datapath.
            Some(port) if port.number == DpPort(0) => {
                tracing::warn!(target: "dpif", "{}: port_del failed (Invalid argument)", full_name(dp.as_ref()));
                errors += &error(format_args!("deleting port {name} from {} failed (Invalid argument)", args[0]));
            }
            Some(port) => match dp.port_del(port.number) {
                Ok(()) => slowpath.forget_port(dp.as_ref(), port.number),
                Err(e) => errors += &error(format_args!("deleting port {name} from {} failed ({})", args[0], errno(&e))),
            },
        }
    }
    if errors.is_empty() { Ok(String::new()) } else { Err(errors) }
}

pub(super) fn cache_get_size(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    // Caches here have a fixed size that nobody can ask for.
    slowpath.optional_datapath(args, 1).map(|(dp, _)| format!("{}:\n", full_name(dp.as_ref())))
}

pub(super) fn cache_set_size(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    if args[2].parse::<u32>().is_err() {
        return Err(error(format_args!("size is malformed (Invalid argument)")));
    }
    match slowpath.datapath(args[0]) {
        Some(_) => Err(error(format_args!("Setting caches not supported (Operation not supported)"))),
        None => Err(error(format_args!("Opening datapath {} failed ({})", args[0], missing(args[0])))),
    }
}

/// How many megaflows are in hardware. They are put there as they come, by no thread of their own, so that there is no queue and no
/// latency of one to tell of.
pub(super) fn offload_stats_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (dp, _) = slowpath.optional_datapath(args, 1)?;
    if !slowpath.offloads() {
        return Err(error("retrieving offload statistics (Invalid argument)"));
    }
    let mut inserted = 0u64;
    dp.dump(&mut |dump| {
        inserted += u64::from(matches!(dump.placement, Placement::Hardware(_)));
        true
    });
    Ok(format!("HW Offload stats:\n     Total                 Inserted offloads: {inserted:6}\n"))
}

pub(super) fn list_commands(_: &Slowpath, _: &[&str]) -> Outcome {
    let ours = super::COMMANDS.iter().filter(|c| c.name.starts_with("dpctl/"));
    let line = |c: &super::Command| Some(format!("  dpctl/{:<23} {}\n", c.name.strip_prefix("dpctl/")?, c.usage?));
    Ok(std::iter::once("The available commands are:\n".to_owned()).chain(ours.filter_map(line)).collect())
}

pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let mut out = String::new();
    let mut errors = String::new();
    if args.is_empty() {
        for (_, dp) in slowpath.datapaths() {
            show_one(&mut out, dp.as_ref(), options);
        }
    }
    for name in args {
        match slowpath.datapath(name) {
            Some(dp) => show_one(&mut out, dp.as_ref(), options),
            None => errors += &error(format_args!("opening datapath {name} failed ({})", missing(name))),
        }
    }
    if errors.is_empty() { Ok(out) } else { Err(out + &errors) }
}

fn missing(name: &str) -> &'static str {
    // A datapath of a type that this switch does not have.
    if name.contains('@') { "No such device" } else { NO_SUCH_TYPE }
}

fn show_one(out: &mut String, dp: &dyn Datapath, options: Options) {
    let stats = dp.stats();
    write(out, format_args!("{}:\n  lookups: hit:{} missed:{} lost:{}\n", full_name(dp), stats.hit, stats.missed, stats.lost));
    write(out, format_args!("  flows: {}\n", stats.flows));
    for port in sorted_ports(dp) {
        write(out, format_args!("  port {}: {}", port.number.0, port.name));
        if port.kind != "system" {
            write(out, format_args!(" {}", device_text(dp.kind(), &port.kind, &port.config)));
        }
        out.push('\n');
        if options.statistics
            && let Ok(stats) = dp.port_stats(port.number)
        {
            show_stats(out, &stats, port.kind.starts_with("dummy"));
        }
    }
}

/// Dummy devices count packets and bytes only; what is not counted is a question mark.
fn show_stats(out: &mut String, s: &PortStats, unknown: bool) {
    let n = |v: u64| if unknown || v == PortStats::UNKNOWN { "?".to_owned() } else { v.to_string() };
    let rx = [n(s.rx_errors), n(s.rx_dropped), n(s.rx_over_err), n(s.rx_frame_err)];
    let [errors, dropped, overruns, frame] = rx;
    write(
        out,
        format_args!("    RX packets:{} errors:{errors} dropped:{dropped} overruns:{overruns} frame:{frame}\n", s.rx_packets),
    );
    let (errors, dropped) = (n(s.tx_errors), n(s.tx_dropped));
    let (aborted, carrier) = (n(0), n(0));
    write(
        out,
        format_args!("    TX packets:{} errors:{errors} dropped:{dropped} aborted:{aborted} carrier:{carrier}\n", s.tx_packets),
    );
    write(out, format_args!("    collisions:{}\n", n(s.collisions)));
    write(out, format_args!("    RX bytes:{}{}  TX bytes:{}{}\n", s.rx_bytes, human(s.rx_bytes), s.tx_bytes, human(s.tx_bytes)));
}

/// ` (1.5 KiB)` from 1024 bytes on.
fn human(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    UNITS.iter().find(|(shift, _)| bytes >= 1 << shift).map_or_else(String::new, |(shift, unit)| {
        let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
        format!(" ({}.{} {unit})", tenths / 10, tenths % 10)
    })
}
