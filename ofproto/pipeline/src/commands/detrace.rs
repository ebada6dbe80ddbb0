//! `ofproto/detrace`: the rules that a megaflow of the datapath came of.

use super::{Outcome, bridge};
use crate::slowpath::Slowpath;
use flow::Ufid;
use std::sync::atomic::Ordering;

pub(super) fn detrace(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let ufid = parse(args[0]).ok_or_else(|| format!("invalid UFID: {}", args[0]))?;
    if let Some(other) = args.get(1).filter(|a| !a.starts_with("pmd=")) {
        return Err(format!("unexpected argument: {other}"));
    }
    let rules = slowpath.udpifs().iter().find_map(|u| u.rules_behind(ufid)).ok_or("UFID was not found")?;
    let world = slowpath.read_world();
    let line = |rule: &std::sync::Arc<crate::rule::Rule>| {
        let bridge = world.bridges.get(&rule.bridge)?;
        Some(format!("cookie={:#x}, {}\n", rule.cookie.load(Ordering::Relaxed), bridge::line(bridge, rule, false)))
    };
    Ok(rules.iter().filter_map(line).collect())
}

/// `[ufid:]xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`
fn parse(text: &str) -> Option<Ufid> {
    let text = text.strip_prefix("ufid:").unwrap_or(text);
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(Ufid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_prints() {
        let ufid = Ufid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(parse(&format!("ufid:{ufid}")), Some(ufid));
        assert_eq!(parse(&ufid.to_string()), Some(ufid));
        assert_eq!(parse("ufid:12"), None);
        assert_eq!(parse(&"x".repeat(32)), None);
    }
}
