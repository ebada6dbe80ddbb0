//! What the operator is told: `offload show`, `why`, `audit` and `sweep`, as text.
//!
//! What enters: the tier's state, the software table, what the tables of the devices show. What leaves: lines. Names of ports are those of
//! the software datapath.

use super::Tiered;
use super::listen::Listened;
use super::state::Home;
use crate::capabilities::PortKind;
use crate::hardware::{Found, Hardware, HardwareError, Sight};
use crate::refusal::Reason;
use flow::hash::{Map, Set};
use flow::{Datapath, DpPort, Ufid};
use std::fmt::{self, Write as _};

/// Lines of a report about single rules.
const LINES_MAX: usize = 1_000;

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Whether offload is on, what is in hardware, and why not the rest; then each port.
    pub fn show(&self) -> String {
        let names = self.names();
        let (hardware, reasons) = self.census();
        let (rules, preferences, dirty) = self.hardware.usage();
        let on = if self.is_enabled() { "on" } else { "off" };
        let state = self.state();
        let mut out = format!("{}@{}: offload {on}\n", self.inner.kind(), self.inner.name());
        put(&mut out, format_args!("  hardware: {hardware} megaflows, {rules} rules, {preferences} preferences\n"));
        let software: usize = reasons.iter().map(|(_, n)| n).sum();
        put(&mut out, format_args!("  software: {software} megaflows, {} to be tried again\n", state.waiting.len()));
        if state.connected.rules() > 0 || !state.connected.conns.is_empty() {
            let inside = state.entries.iter().filter(|(u, e)| state.connected.is_merged(**u) && e.home == Home::Hardware).count();
            let (known, waiting) = (state.connected.conns.len(), state.connected.rules() - inside);
            put(&mut out, format_args!("  connections: {known} established, {inside} rules, {waiting} more to be tried again\n"));
        }
        if state.meters.are_wanted() {
            put(&mut out, format_args!("  meters: {} in hardware\n", state.meters.there()));
        }
        let Listened { told, taken, overruns, .. } = &state.listened;
        if told + overruns > 0 {
            put(&mut out, format_args!("  notifications: {told}, rules taken by others {taken}, overruns {overruns}\n"));
        }
        for (reason, n) in reasons {
            put(&mut out, format_args!("    {} {n}: {}\n", reason.name(), reason.sentence()));
        }
        let mut ports: Vec<(DpPort, PortKind)> = state.can.ports.iter().map(|(p, k)| (*p, *k)).collect();
        ports.sort_unstable_by_key(|(port, _)| *port);
        for (port, kind) in ports {
            put(&mut out, format_args!("  port {} ({}): {kind}", port.0, names.get(&port).map_or("?", String::as_str)));
            let (mut inside, mut why) = (0, Map::<Reason, usize>::default());
            for (_, entry) in state.megaflows().filter(|(_, e)| e.port == port) {
                match &entry.home {
                    Home::Hardware => inside += 1,
                    Home::Software(refusal) => *why.entry(refusal.reason).or_default() += 1,
                }
            }
            put(&mut out, format_args!(", hardware {inside}"));
            let mut why: Vec<_> = why.into_iter().collect();
            why.sort_unstable();
            for (reason, n) in why {
                put(&mut out, format_args!(", {} {n}", reason.name()));
            }
            match state.can.lacks.get(&port) {
                Some(lacks) => put(&mut out, format_args!(", {lacks}")),
                None if matches!(kind, PortKind::Internal) => {}
                None => out.push_str(", not probed"),
            }
            out.push_str(if dirty.contains(&port) { ", dirty\n" } else { "\n" });
        }
        out
    }

    /// Where a megaflow is and why; of all that are in software, if none is named. `None` if there is none of that name here.
    pub fn why(&self, ufid: Option<Ufid>) -> Option<String> {
        let state = self.state();
        let line = |ufid: &Ufid, home: &Home| match home {
            Home::Hardware => format!("ufid:{ufid} hardware\n"),
            Home::Software(why) => format!("ufid:{ufid} software, {}: {why}\n", why.reason.name()),
        };
        if let Some(ufid) = ufid {
            return state.entries.get(&ufid).map(|e| line(&ufid, &e.home));
        }
        let mut lines: Vec<String> =
            state.entries.iter().filter(|(_, e)| e.home != Home::Hardware).map(|(u, e)| line(u, &e.home)).collect();
        lines.sort_unstable();
        let more = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        if more > 0 {
            lines.push(format!("{more} more are in software\n"));
        }
        Some(lines.concat())
    }

    /// Compares software, what we believe is in hardware, and what the devices' tables show. The number of differences, and a line for each.
    ///
    /// # Errors
    /// If a table cannot be listed.
    pub fn audit(&self) -> Result<(usize, String), HardwareError> {
        let names = self.names();
        let mut ports: Vec<DpPort> = self.state().can.ports.keys().copied().collect();
        ports.sort_unstable();
        let mut out = String::new();
        let mut differences = 0;
        let mut right = 0;
        for port in ports {
            let should = |ufid| {
                let state = self.state();
                state.plan(&self.flow(&state, ufid)?).ok()
            };
            let name = names.get(&port).map_or("?", String::as_str);
            for sight in self.hardware.audit(port, &should)? {
                let Some(text) = difference(sight.found, "rule", "megaflow") else {
                    right += 1;
                    continue;
                };
                differences += 1;
                let who = sight.ufid.map_or_else(String::new, |u| format!(" ufid:{u}"));
                let Sight { chain, prio, handle, .. } = sight;
                put(&mut out, format_args!("{name} chain {chain} pref {prio} handle {handle:#x}{who}: {text}\n"));
            }
        }
        let limit = |meter| self.state().meters.limit(meter).and_then(Result::ok);
        for (meter, found) in self.hardware.audit_meters(&limit)? {
            if let Some(text) = difference(found, "limit", "meter") {
                differences += 1;
                put(&mut out, format_args!("meter {meter}: {text}\n"));
            }
        }
        let known: Set<Ufid> = self.state().megaflows().filter(|(_, e)| e.home == Home::Hardware).map(|(u, _)| *u).collect();
        for ufid in known.iter().filter(|u| self.inner.get(**u).is_err()) {
            differences += 1;
            put(&mut out, format_args!("ufid:{ufid}: in hardware, but software has no such megaflow\n"));
        }
        put(&mut out, format_args!("{right} rules as they should be, {differences} differences\n"));
        Ok((differences, out))
    }

    /// Removes what bears our mark and is no rule of a megaflow, on every hardware port. The number of removed filters.
    ///
    /// # Errors
    /// If a table cannot be listed, or a filter not removed.
    pub fn sweep(&self) -> Result<usize, HardwareError> {
        let ports: Vec<DpPort> = self.state().can.ports.keys().copied().collect();
        let mut swept = 0;
        for port in ports {
            swept += self.hardware.sweep_strays(port)?;
        }
        // Rules that are gone let go of their meters.
        Ok(swept + self.hardware.sweep_meters()?)
    }

    fn names(&self) -> Map<DpPort, String> {
        self.inner.ports().into_iter().map(|p| (p.number, p.name)).collect()
    }
}

/// What is wrong with the `what` of `whom`.
fn difference(found: Option<Found>, what: &str, whom: &str) -> Option<String> {
    Some(match found {
        Some(Found::Right) => return None,
        Some(Found::NotInHardware) => "no longer in hardware".to_owned(),
        Some(Found::Other) => format!("another {what} than the {whom}'s"),
        Some(Found::Stray) => format!("bears our mark, but belongs to no {whom}"),
        None => "missing".to_owned(),
    })
}

fn put(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all");
}
