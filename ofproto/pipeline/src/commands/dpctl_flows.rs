//! `dpctl/*` that concern megaflows: dumped, filtered, and put past the tables.

use super::Outcome;
use super::dpctl::{Options, errno, error};
use super::show::{DpPortNames, FlowStyle, flow_line, stats_text};
use crate::slowpath::Slowpath;
use flow::action_text::{format_actions, parse_actions};
use flow::dptext::{SyntaxError, parse_flow, parse_ufid};
use flow::matching::Match;
use flow::oftext::{KeyValues, parse_into};
use flow::seam::{Datapath, FlowDump, FlowPut, Placement, PutMode};
use flow::ufid::ufid_of;
use flow::{Megaflow, NoNames};

/// Which flows a dump shows.
#[derive(Debug, Default)]
struct Filter {
    matching: Option<Match>,
    types: Option<Vec<String>>,
    /// Flows of that core; -1 is the main thread, to which all flows are counted here.
    pmd: Option<i64>,
}

impl Filter {
    fn admits(&self, dump: &FlowDump) -> bool {
        let matching = self.matching.as_ref().is_none_or(|m| {
            let mut both = m.mask;
            for (b, mask) in both.words_mut().iter_mut().zip(dump.flow.mask.words()) {
                *b &= mask;
            }
            m.key.equal_under(&dump.flow.key, &both)
        });
        matching && self.types.as_ref().is_none_or(|types| types.iter().any(|t| is_of_type(t, &dump.placement)))
    }
}

const TYPES: [&str; 7] = ["ovs", "tc", "dpdk", "offloaded", "non-offloaded", "partially-offloaded", "all"];

fn is_of_type(kind: &str, placement: &Placement) -> bool {
    match placement {
        Placement::Software | Placement::Declined(_) => matches!(kind, "ovs" | "non-offloaded" | "all"),
        Placement::Hardware(provider) => kind == *provider || matches!(kind, "offloaded" | "all"),
    }
}

pub(super) fn dump_flows(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let is_filter = |a: &&str| a.starts_with("filter=") || a.starts_with("type=") || a.starts_with("pmd=");
    let from = args.iter().position(is_filter).unwrap_or(args.len());
    let (dp, _) = slowpath.optional_datapath(&args[..from], 1)?;
    let mut filter = Filter::default();
    for arg in args[from..].iter().rev() {
        read_filter(&mut filter, arg, dp.as_ref())?;
    }
    if filter.pmd.is_some_and(|pmd| pmd != -1) {
        return Ok(String::new());
    }
    let ports = DpPortNames::of(dp.as_ref(), options.names);
    let style = FlowStyle { verbose: options.verbose, dpctl: true };
    let mut out = String::new();
    dp.dump(&mut |dump| {
        if filter.admits(dump) {
            if out.is_empty() && filter.pmd.is_none() {
                out.push_str("flow-dump from the main thread:\n");
            }
            out.push_str(&flow_line(dump, style, &ports));
            out.push('\n');
        }
        true
    });
    Ok(out)
}

fn read_filter(filter: &mut Filter, arg: &str, dp: &dyn Datapath) -> Result<(), String> {
    if let Some(text) = arg.strip_prefix("filter=") {
        filter.matching = Some(parse_filter(text, dp)?);
    } else if let Some(types) = arg.strip_prefix("type=") {
        let types: Vec<String> = types.split(',').map(str::to_owned).collect();
        if let Some(bad) = types.iter().find(|t| !TYPES.contains(&t.as_str())) {
            return Err(error(format_args!("Failed to parse type ({bad}) (Invalid argument)")));
        }
        filter.types = Some(types);
    } else if let Some(pmd) = arg.strip_prefix("pmd=") {
        filter.pmd = Some(pmd.parse().map_err(|_| String::new())?);
    }
    Ok(())
}

fn parse_filter(text: &str, dp: &dyn Datapath) -> Result<Match, String> {
    let ports = DpPortNames::of(dp, false);
    let mut matching = Match::default();
    for (name, value) in KeyValues::new(text) {
        match parse_into(&mut matching, name, value, &ports) {
            Ok(true) => {}
            Ok(false) => return Err(error(format_args!("Failed to parse filter ({text}: unknown field {name})"))),
            Err(e) => return Err(error(format_args!("Failed to parse filter ({text}: {e})"))),
        }
    }
    Ok(matching)
}

/// Reads a flow; its name is the one given, or made from its key as it was written, so that flows that differ only in what they do not
/// match are different ones.
fn read_flow(dp: &dyn Datapath, text: &str) -> Result<Megaflow, SyntaxError> {
    let ports = DpPortNames::of(dp, false);
    let parsed = parse_flow(text, &ports)?;
    let ufid = parsed.ufid.unwrap_or_else(|| ufid_of(&parsed.key));
    Ok(Megaflow { ufid, key: parsed.key, mask: parsed.mask, actions: std::sync::Arc::default() })
}

fn put(dp: &dyn Datapath, flow: &str, actions: &str, mode: PutMode, options: Options) -> Outcome {
    let mut flow = read_flow(dp, flow).map_err(|e| {
        let why = if e.too_long { "Argument list too long" } else { "Invalid argument" };
        error(format_args!("parsing flow key ({e}) ({why})"))
    })?;
    let actions = parse_actions(actions, &NoNames).map_err(|_| error("parsing actions (Invalid argument)"))?;
    flow.actions = std::sync::Arc::new(actions);
    let before = dp.get(flow.ufid).map(|d| d.stats).unwrap_or_default();
    let put = FlowPut { flow, mode, clear_stats: options.clear };
    match dp.put(std::slice::from_ref(&put)).pop() {
        Some(Ok(())) if options.statistics => Ok(stats_text(&before) + "\n"),
        Some(Ok(())) => Ok(String::new()),
        Some(Err(e)) => Err(error(format_args!("updating flow table ({})", errno(&e)))),
        None => Err(error("updating flow table (Invalid argument)")),
    }
}

fn del(dp: &dyn Datapath, text: &str, options: Options) -> Outcome {
    let named = parse_ufid(text).is_some();
    let flow = read_flow(dp, text).map_err(|e| error(format_args!("{e} (Invalid argument)")))?;
    match dp.del(&[flow.ufid]).pop() {
        Some(Ok(stats)) if options.statistics => Ok(stats_text(&stats) + "\n"),
        Some(Ok(_)) => Ok(String::new()),
        Some(Err(e)) => {
            let hint = if named { "" } else { "Perhaps you need to specify a UFID?\n" };
            Err(error(format_args!("deleting flow ({})", errno(&e))) + hint)
        }
        None => Err(error("deleting flow (Invalid argument)")),
    }
}

/// A command's own words are the last `N`, as in OVS; the name of a datapath may stand before them.
fn own_words<'a, const N: usize>(args: &[&'a str]) -> Result<[&'a str; N], String> {
    args.last_chunk()
        .copied()
        .ok_or_else(|| error(format_args!("{N} arguments are expected behind the options (Invalid argument)")))
}

pub(super) fn add_flow(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let [flow, actions] = own_words(args)?;
    let (dp, _) = slowpath.optional_datapath(args, 3)?;
    put(dp.as_ref(), flow, actions, PutMode::Create, options)
}

pub(super) fn mod_flow(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let [flow, actions] = own_words(args)?;
    let (dp, _) = slowpath.optional_datapath(args, 3)?;
    let mode = if options.may_create { PutMode::CreateOrModify } else { PutMode::Modify };
    put(dp.as_ref(), flow, actions, mode, options)
}

pub(super) fn del_flow(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let [flow] = own_words(args)?;
    let (dp, _) = slowpath.optional_datapath(args, 2)?;
    del(dp.as_ref(), flow, options)
}

pub(super) fn get_flow(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (options, args) = Options::take(args)?;
    let [ufid] = own_words(args)?;
    let (dp, _) = slowpath.optional_datapath(args, 2)?;
    let Some((ufid, _)) = parse_ufid(ufid) else {
        // OVS answers this one with success.
        return Ok(error("parsing flow ufid (Invalid argument)"));
    };
    let dump = dp.get(ufid).map_err(|e| error(format_args!("getting flow ({})", errno(&e))))?;
    let ports = DpPortNames::of(dp.as_ref(), options.names);
    Ok(flow_line(&dump, FlowStyle { verbose: options.verbose, dpctl: true }, &ports) + "\n")
}

pub(super) fn del_flows(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (_, left) = Options::take(args)?;
    let is_file = left.len() > 1 || left.first().is_some_and(|a| slowpath.datapath(a).is_none());
    if is_file {
        return process(slowpath, args, Step::Del);
    }
    let (dp, _) = slowpath.optional_datapath(left, 1)?;
    // Those of bridges go through their ukeys, so that statistics are not lost.
    match slowpath.udpifs().into_iter().find(|u| u.is_over(dp.as_ref())) {
        Some(udpif) => udpif.purge(),
        None => dp.flush(),
    }
    Ok(String::new())
}

pub(super) fn add_flows(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    process(slowpath, args, Step::Add)
}

pub(super) fn mod_flows(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    process(slowpath, args, Step::Mod)
}

/// What a line of a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add,
    Mod,
    Del,
}

/// Works through a file of lines `[add|modify|delete] FLOW [ACTIONS]`. Lines that fail are told and skipped.
fn process(slowpath: &Slowpath, args: &[&str], usual: Step) -> Outcome {
    let (options, args) = Options::take(args)?;
    let (dp, args) = slowpath.optional_datapath(args, 3)?;
    let file = args.last().copied().unwrap_or_default();
    let text =
        std::fs::read_to_string(file).map_err(|e| error(format_args!("Opening file \"{file}\" failed ({})", errno_of(&e))))?;
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (step, flow, actions) = split_line(line, usual);
        let outcome = match (step, flow, actions) {
            (Step::Add, Some(flow), Some(actions)) => put(dp.as_ref(), flow, actions, PutMode::Create, options),
            (Step::Mod, Some(flow), Some(actions)) => put(dp.as_ref(), flow, actions, PutMode::Modify, options),
            (Step::Del, Some(flow), None) => del(dp.as_ref(), flow, options),
            _ => Err(error(format_args!("Failed parsing line number {}, skipped!", number + 1))),
        };
        out += &outcome.unwrap_or_else(|text| text);
    }
    Ok(out)
}

fn errno_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn split_line(line: &str, usual: Step) -> (Step, Option<&str>, Option<&str>) {
    let word = |text: &str| text.find([' ', '\t']).unwrap_or(text.len());
    let first = &line[..line.find([',', ' ', '\t']).unwrap_or(line.len())];
    // A prefix of the command's name will do, as in OVS.
    let (step, rest) = match first {
        "" => (usual, line),
        f if "add".starts_with(f) => (Step::Add, &line[f.len()..]),
        f if "delete".starts_with(f) => (Step::Del, &line[f.len()..]),
        f if "modify".starts_with(f) => (Step::Mod, &line[f.len()..]),
        _ => (usual, line),
    };
    let rest = rest.trim_start();
    let (flow, actions) = rest.split_at(word(rest));
    (step, (!flow.is_empty()).then_some(flow), Some(actions.trim()).filter(|a| !a.is_empty()))
}

/// A test helper: reads actions and writes them again.
pub(super) fn parse_and_format(_: &Slowpath, args: &[&str]) -> Outcome {
    let mut out = String::new();
    for text in args {
        let actions = parse_actions(text, &NoNames).map_err(|_| error("parsing actions (Invalid argument)"))?;
        out += &format_actions(&actions, &NoNames);
        out.push('\n');
    }
    Ok(out)
}
