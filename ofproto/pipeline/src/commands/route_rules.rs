//! `ovs/route/rule/*`: the rules that choose among tables of routes.

use super::show::write;
use super::{JsonOutcome, Outcome};
use crate::router::{Prefix, Rule, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};
use crate::slowpath::Slowpath;
use serde_json::json;

/// Names of tables in rules.
const TABLES: [(&str, u32); 3] = [("local", TABLE_LOCAL), ("main", TABLE_MAIN), ("default", TABLE_DEFAULT)];

/// `ovs/route/rule/add [-6] [not] from=all|PREFIX [prio=NUM] table=local|main|default|ID`
pub(super) fn add(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let mut world = slowpath.write_world();
    let Wish { mut rule, priority } = read_rule(args)?;
    rule.priority = priority.unwrap_or_else(|| free_priority(world.router.rules()));
    if !world.router.add_rule(rule) {
        return Err("File exists".to_owned());
    }
    world.routes_changed(None);
    drop(world);
    slowpath.settle();
    Ok("OK".to_owned())
}

/// The highest number that is free below a rule, of either family; the first rule, that of local addresses, stays before all.
fn free_priority(rules: &[Rule]) -> u32 {
    let mut taken: Vec<u32> = rules.iter().map(|r| r.priority).filter(|p| *p > 0).collect();
    taken.sort_unstable();
    let gap = taken.iter().rev().map(|p| p - 1).find(|p| taken.binary_search(p).is_err());
    gap.unwrap_or(1).max(1)
}

/// `ovs/route/rule/del`, with the words of `add`: the first that is like this, of those that were added.
pub(super) fn del(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let Wish { rule: wanted, priority } = read_rule(args)?;
    let mut world = slowpath.write_world();
    let like = |r: &Rule| {
        let same = (r.v6, r.invert, r.from, r.table) == (wanted.v6, wanted.invert, wanted.from, wanted.table);
        r.user && same && priority.is_none_or(|p| r.priority == p)
    };
    let Some(first) = world.router.rules().iter().find(|r| like(r)).cloned() else {
        return Err("Failed to delete router rule: 2 (No such file or directory)".to_owned());
    };
    world.router.remove_rules(|r| *r == first);
    world.routes_changed(None);
    drop(world);
    slowpath.settle();
    Ok("OK".to_owned())
}

/// What was asked for.
struct Wish {
    rule: Rule,
    /// `None`: any.
    priority: Option<u32>,
}

fn read_rule(args: &[&str]) -> Result<Wish, String> {
    let mut rule = Rule { priority: 0, v6: false, invert: false, from: None, table: 0, user: true };
    let (mut has_from, mut has_table, mut priority) = (false, false, None);
    for arg in args {
        match (*arg, arg.split_once('=')) {
            ("-6", _) => rule.v6 = true,
            ("not", _) => rule.invert = true,
            (_, Some(("from", "all"))) => has_from = true,
            (_, Some(("from", text))) => {
                rule.from = Some(Prefix::parse(text).ok_or("Invalid from=ip/plen")?);
                has_from = true;
            }
            (_, Some(("prio", text))) => priority = Some(text.parse().map_err(|_| "Invalid 'table' format")?),
            (_, Some(("table", text))) => {
                let named = TABLES.iter().find(|(name, _)| *name == text).map(|(_, id)| *id);
                rule.table = named.or_else(|| text.parse().ok()).ok_or("Invalid 'table' format")?;
                has_table = true;
            }
            _ if has_from => return Err("Invalid 'table' format".to_owned()),
            _ => return Err("Invalid 'from' parameter".to_owned()),
        }
    }
    rule.v6 = rule.from.map_or(rule.v6, |f| !f.is_v4());
    match (has_from, has_table) {
        (true, true) => Ok(Wish { rule, priority: priority.filter(|p| *p > 0) }),
        (true, false) => Err("Not enough arguments".to_owned()),
        (false, _) => Err("Invalid 'from' parameter".to_owned()),
    }
}

/// The source as shown: without a length where all of the address counts.
fn from_text(rule: &Rule) -> String {
    match rule.from {
        None => "all".to_owned(),
        Some(from) if from.plen == 128 => from.address.to_string(),
        Some(from) => from.to_string(),
    }
}

/// `PRIORITY: [not] from X lookup T`
pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let v6 = args.contains(&"-6");
    let world = slowpath.read_world();
    let mut out = String::new();
    for rule in world.router.rules().iter().filter(|r| r.v6 == v6) {
        let origin = if rule.user { "User" } else { "Cached" };
        let not = if rule.invert { "not " } else { "" };
        let table = TABLES.iter().find(|(_, id)| *id == rule.table).map_or_else(|| rule.table.to_string(), |(n, _)| (*n).into());
        write(&mut out, format_args!("{origin}: {}: {not}from {} lookup {table}\n", rule.priority, from_text(rule)));
    }
    Ok(out)
}

/// An array of rules, each an object.
pub(super) fn show_json(slowpath: &Slowpath, args: &[&str]) -> JsonOutcome {
    let v6 = args.contains(&"-6");
    let world = slowpath.read_world();
    let shown = world.router.rules().iter().filter(|r| r.v6 == v6).map(|rule| {
        let bits = rule.from.map_or(0, |f| if f.is_v4() { f.plen - 96 } else { f.plen });
        json!({
            "priority": rule.priority,
            "user": rule.user,
            "invert": rule.invert,
            "ipv4": !rule.v6,
            "src-prefix": bits,
            "from": rule.from.map_or_else(|| "all".to_owned(), |f| f.address.to_string()),
            "lookup": rule.table,
        })
    });
    Ok(shown.collect())
}
