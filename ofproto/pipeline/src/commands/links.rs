//! `bfd/`, `cfm/` and `lacp/`: sessions and aggregates, shown and overridden.

use super::Outcome;
use crate::bridge::Bridge;
use crate::lacp::Lacp;
use crate::protocols::Sessions;
use crate::slowpath::Slowpath;
use flow::clock::now_ms;

/// `normal`, `false` or `true`, the last of the arguments.
fn read_override(args: &[&str]) -> Result<Option<bool>, String> {
    let text = args.last().copied().unwrap_or_default();
    let known = [("normal", None), ("false", Some(false)), ("true", Some(true))];
    let found = known.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, value)| *value).ok_or_else(|| "unknown fault string".to_owned())
}

/// Calls `each` with the sessions of every port, or of one; says how many there were.
fn visit(slowpath: &Slowpath, only: Option<&str>, mut each: impl FnMut(&str, &mut Sessions) -> bool) -> usize {
    let world = slowpath.read_world();
    let mut found = 0;
    for bridge in world.bridges.values() {
        let mut machines = bridge.protocols.lock();
        for (number, sessions) in &mut machines.sessions {
            let Some(name) = bridge.ports.get(number).map(|p| p.name.as_str()) else { continue };
            if only.is_none_or(|only| only == name) && each(name, sessions) {
                found += 1;
            }
        }
    }
    found
}

pub(super) fn bfd_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let only = args.first().copied();
    let mut out = String::new();
    let found = visit(slowpath, only, |name, sessions| {
        let Some(bfd) = &mut sessions.bfd else { return false };
        if only.is_none() {
            out += &format!("---- {name} ----\n");
        }
        out += &bfd.details(now_ms());
        true
    });
    if only.is_some() && found == 0 {
        return Err("no such bfd object".into());
    }
    Ok(out)
}

pub(super) fn bfd_set_forwarding(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let forwarding = read_override(args)?;
    let only = args.first().copied().filter(|_| args.len() > 1);
    let found =
        visit(slowpath, only, |_, sessions| sessions.bfd.as_mut().map(|bfd| bfd.override_forwarding(forwarding)).is_some());
    if only.is_some() && found == 0 {
        return Err("no such BFD object".into());
    }
    slowpath.run_protocols(now_ms());
    Ok("OK".into())
}

pub(super) fn cfm_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let mut out = String::new();
    let only = args.first().copied();
    let found = visit(slowpath, only, |_, sessions| {
        let Some(cfm) = &sessions.cfm else { return false };
        out += &cfm.details(now_ms());
        true
    });
    if only.is_some() && found == 0 {
        return Err("no such CFM object".into());
    }
    Ok(out)
}

pub(super) fn cfm_set_fault(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let fault = read_override(args)?;
    let only = args.first().copied().filter(|_| args.len() > 1);
    let found = visit(slowpath, only, |_, sessions| sessions.cfm.as_mut().map(|cfm| cfm.override_fault(fault)).is_some());
    if only.is_some() && found == 0 {
        return Err("no such CFM object".into());
    }
    slowpath.run_protocols(now_ms());
    Ok("OK".into())
}

fn lacps(slowpath: &Slowpath, args: &[&str], show: fn(&Lacp) -> String) -> Outcome {
    let only = args.first().copied();
    let world = slowpath.read_world();
    let mut out = String::new();
    let mut found = false;
    for bridge in world.bridges.values() {
        for lacp in in_order(bridge, only) {
            found = true;
            out += &show(&lacp);
        }
    }
    if only.is_some() && !found { Err("no such lacp object".into()) } else { Ok(out) }
}

fn in_order(bridge: &Bridge, only: Option<&str>) -> Vec<Lacp> {
    let machines = bridge.protocols.lock();
    machines.lacps.values().filter(|l| only.is_none_or(|only| only == l.name())).cloned().collect()
}

pub(super) fn lacp_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    lacps(slowpath, args, Lacp::details)
}

pub(super) fn lacp_show_stats(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    lacps(slowpath, args, Lacp::statistics)
}

/// Calls `each` with the machines of every bridge, or of one; whether any had what was wanted.
fn trees(slowpath: &Slowpath, only: Option<&str>, mut each: impl FnMut(&mut crate::protocols::Machines) -> bool) -> bool {
    let world = slowpath.read_world();
    let mut found = false;
    for bridge in world.bridges.values().filter(|b| only.is_none_or(|only| only == b.name)) {
        found |= each(&mut bridge.protocols.lock());
    }
    found
}

pub(super) fn stp_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let mut out = String::new();
    let only = args.first().copied();
    slowpath.run_protocols(now_ms());
    let found = trees(slowpath, only, |m| m.stp.as_ref().map(|stp| out += &stp.details()).is_some());
    if only.is_some() && !found { Err("no such stp object".into()) } else { Ok(out) }
}

pub(super) fn stp_tcn(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let only = args.first().copied();
    let found = trees(slowpath, only, |m| m.stp.as_mut().map(|stp| stp.detect_change(now_ms())).is_some());
    if only.is_some() && !found {
        return Err("no such stp object".into());
    }
    slowpath.run_protocols(now_ms());
    Ok("OK".into())
}

pub(super) fn rstp_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let mut out = String::new();
    let only = args.first().copied();
    slowpath.run_protocols(now_ms());
    let found = trees(slowpath, only, |m| m.rstp.as_ref().map(|rstp| out += &rstp.details()).is_some());
    if only.is_some() && !found { Err("No such RSTP object".into()) } else { Ok(out) }
}

pub(super) fn rstp_tcn(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let only = args.first().copied();
    let found = trees(slowpath, only, |m| m.rstp.as_mut().map(crate::rstp::Rstp::nudge).is_some());
    if only.is_some() && !found {
        return Err("No such RSTP object".into());
    }
    slowpath.run_protocols(now_ms());
    Ok("OK".into())
}

/// What every port that speaks LLDP has to say.
fn lldp(slowpath: &Slowpath, args: &[&str], show: fn(&crate::lldp::Session) -> String) -> Outcome {
    let only = args.first().copied();
    let world = slowpath.read_world();
    let mut out = String::new();
    for bridge in world.bridges.values().filter(|b| only.is_none_or(|only| only == b.name)) {
        let machines = bridge.protocols.lock();
        machines.sessions.values().filter_map(|s| s.lldp.as_ref()).for_each(|session| out += &show(session));
    }
    Ok(out)
}

pub(super) fn autoattach_status(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    lldp(slowpath, args, crate::lldp::Session::servers)
}

pub(super) fn autoattach_show_isid(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    lldp(slowpath, args, crate::lldp::Session::mappings)
}

pub(super) fn autoattach_statistics(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    lldp(slowpath, args, crate::lldp::Session::statistics)
}
