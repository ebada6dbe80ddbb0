//! What the tier knows of each megaflow: where it is and why, what hardware has counted, how busy it is.

use super::admission::Window;
use super::connections::Connected;
use super::figures::Figures;
use super::listen::Listened;
use super::meters::Meters;
use super::tunnels::Tunnels;
use super::waiting::Waiting;
use super::worth::Worth;
use super::{LOOK_MS, REST};
use crate::capabilities::Capabilities;
use crate::hardware::HwStats;
use crate::plan::{Plan, plan};
use crate::refusal::{Reason, Refusal};
use flow::action::Action;
use flow::hash::Map;
use flow::seam::FlowStats;
use flow::{DpPort, Megaflow, Msec, Ufid};

/// Where a megaflow is, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Home {
    Hardware,
    Software(Refusal),
}

/// What hardware has counted: by the rule that is there, and by those before it. It only rises: a driver that lost a rule, or answers late,
/// takes nothing back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) now: HwStats,
    pub(super) before: HwStats,
    pub(super) used_ms: Msec,
}

impl Counted {
    /// A look at the rule that is there; how much more it has counted.
    pub(super) fn look(&mut self, seen: HwStats, now: Msec) -> HwStats {
        if seen.packets > self.now.packets {
            self.used_ms = now;
        }
        let old = self.now;
        self.now = HwStats { packets: old.packets.max(seen.packets), bytes: old.bytes.max(seen.bytes) };
        HwStats { packets: self.now.packets - old.packets, bytes: self.now.bytes - old.bytes }
    }

    /// A rule of a connection whose packets pass here has counted so much more.
    fn credit(&mut self, more: HwStats, now: Msec) {
        self.before = HwStats { packets: self.before.packets + more.packets, bytes: self.before.bytes + more.bytes };
        if more.packets > 0 {
            self.used_ms = now;
        }
    }

    /// The rule is gone.
    pub(super) fn close(&mut self) {
        self.before = self.sum();
        self.now = HwStats::default();
    }

    pub(super) const fn sum(&self) -> HwStats {
        HwStats { packets: self.before.packets + self.now.packets, bytes: self.before.bytes + self.now.bytes }
    }

    /// Both layers together.
    pub(super) fn with(&self, software: FlowStats) -> FlowStats {
        let hw = self.sum();
        FlowStats {
            packets: software.packets + hw.packets,
            bytes: software.bytes + hw.bytes,
            used_ms: software.used_ms.max(self.used_ms),
            tcp_flags: software.tcp_flags,
        }
    }
}

/// Packets per second, from one look to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    packets: u64,
    at_ms: Msec,
    pub(super) pps: u64,
}

impl Rate {
    pub(super) fn look(&mut self, packets: u64, now: Msec) {
        let took = u64::try_from(now - self.at_ms).unwrap_or(0);
        if self.at_ms != 0 && took > 0 {
            self.pps = packets.saturating_sub(self.packets).saturating_mul(1_000) / took;
        }
        (self.packets, self.at_ms) = (packets, now);
    }
}

/// A megaflow.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) port: DpPort,
    pub(super) home: Home,
    pub(super) counted: Counted,
    pub(super) rate: Rate,
    /// Since when it is where it is.
    pub(super) since_ms: Msec,
}

/// What hardware would have of a megaflow by itself.
pub(super) fn plan_alone(flow: &Megaflow, can: &Capabilities) -> Result<Plan, Refusal> {
    if flow.actions.iter().any(|a| matches!(a, Action::Recirc(_))) || flow.key.recirc_id != [0; 4] {
        return Err(Refusal::new(Reason::Parent, "recirc"));
    }
    let port = super::in_port(flow);
    if !can.ports.contains_key(&port) {
        // Told at once: this is the common case of a switch with few hardware ports.
        return Err(Refusal::of_port(Reason::InPort, port));
    }
    plan(flow, can)
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: Map<Ufid, Entry>,
    pub(super) can: Capabilities,
    pub(super) waiting: Waiting,
    pub(super) connected: Connected,
    pub(super) tunnels: Tunnels,
    pub(super) meters: Meters,
    pub(super) figures: Figures,
    pub(super) listened: Listened,
    pub(super) worth: Worth,
    /// What hardware has taken in by each port since the tier began.
    pub(super) passed: Map<DpPort, HwStats>,
    /// When hardware's counters were asked for last.
    pub(super) looked_ms: Msec,
    /// Until when what was seen then is good enough, whoever asks.
    pub(super) fresh_ms: Msec,
    /// When connections were kept alive last.
    pub(super) kept_ms: Msec,
    /// When the rest of what a tick does was done last.
    pub(super) cleaned_ms: Msec,
    /// Rules that have gone since the last tick: so many may find room.
    pub(super) freed: usize,
    pub(super) rebalance: bool,
    /// Which of those that found the table full are looked at.
    pub(super) window: Window,
    /// How late the driver may be with its counters.
    pub(super) lag_ms: Msec,
}

impl State {
    pub(super) fn is_in_hardware(&self, ufid: Ufid) -> bool {
        self.entries.get(&ufid).is_some_and(|e| e.home == Home::Hardware)
    }

    /// Entries but those of composed rules.
    pub(super) fn megaflows(&self) -> impl Iterator<Item = (&Ufid, &Entry)> {
        self.entries.iter().filter(|(ufid, _)| !self.connected.is_merged(**ufid))
    }

    /// What hardware would have of a megaflow (or of a composed one), or why it would not.
    pub(super) fn plan(&self, flow: &Megaflow) -> Result<Plan, Refusal> {
        let plan = plan_alone(flow, &self.can)?;
        self.tunnels.entry(&plan, &self.can)?;
        Ok(plan)
    }

    /// Rules of others that packets of a megaflow pass by: those of connections, and those behind a tunnel.
    pub(super) fn riders(&self, ufid: Ufid) -> impl Iterator<Item = Ufid> {
        self.connected.riders(ufid).chain(self.tunnels.riders(ufid))
    }

    /// Whether hardware forwards packets of it: by its own rule, or by one of a connection.
    pub(super) fn is_carried(&self, ufid: Ufid) -> bool {
        self.is_in_hardware(ufid) || self.riders(ufid).any(|rule| self.is_in_hardware(rule))
    }

    /// Since when hardware forwards packets of it; the latest of its rules.
    pub(super) fn carried_since(&self, ufid: Ufid) -> Option<Msec> {
        let rules = std::iter::once(ufid).chain(self.riders(ufid));
        rules.filter_map(|u| self.entries.get(&u)).filter(|e| e.home == Home::Hardware).map(|e| e.since_ms).max()
    }

    /// A look at the counters of a rule. Those of a connection's count for each megaflow that its packets pass.
    pub(super) fn saw(&mut self, ufid: Ufid, seen: HwStats, now: Msec) {
        let Some(entry) = self.entries.get_mut(&ufid) else { return };
        let (port, more) = (entry.port, entry.counted.look(seen, now));
        self.credit(ufid, port, more, now);
    }

    /// What a rule of a port has counted more counts for the port, and for the megaflows that its packets pass.
    pub(super) fn credit(&mut self, ufid: Ufid, port: DpPort, more: HwStats, now: Msec) {
        if more == HwStats::default() {
            return;
        }
        let passed = self.passed.entry(port).or_default();
        (passed.packets, passed.bytes) = (passed.packets + more.packets, passed.bytes + more.bytes);
        for part in self.connected.used(ufid) {
            if let Some(entry) = self.entries.get_mut(part) {
                entry.counted.credit(more, now);
            }
        }
        if let Some((entry, more)) = self.tunnels.outer(ufid, more)
            && let Some(entry) = self.entries.get_mut(&entry)
        {
            entry.counted.credit(more, now);
        }
    }

    /// A look at all rules, begun at `now`, has taken so long.
    pub(super) fn rest(&mut self, now: Msec, took: Msec) {
        // No longer than a counter may be late, after which megaflows would count as idle.
        self.fresh_ms = now + took + (took * REST).min(self.lag_ms).max(LOOK_MS);
    }

    /// Makes it known that a megaflow is in software.
    pub(super) fn refuse(&mut self, ufid: Ufid, why: Refusal, now: Msec) {
        if why.reason.may_pass() {
            self.waiting.refused(ufid, now);
        } else {
            self.waiting.forget(ufid);
        }
        if let Some(entry) = self.entries.get_mut(&ufid) {
            if entry.home == Home::Hardware {
                entry.since_ms = now;
            }
            entry.home = Home::Software(why);
        }
    }

    /// Hastens those that are in software for such a reason, at most so many.
    pub(super) fn hasten(&mut self, now: Msec, most: usize, such: impl Fn(Reason) -> bool) {
        let matching = |(ufid, e): (&Ufid, &Entry)| match &e.home {
            Home::Software(why) if such(why.reason) => Some((e.rate.pps, *ufid)),
            Home::Software(_) | Home::Hardware => None,
        };
        let mut found: Vec<(u64, Ufid)> = self.entries.iter().filter_map(matching).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        for (_, ufid) in found.into_iter().take(most) {
            self.waiting.hasten(ufid, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a revalidator that asks for a hundred thousand part by part looks at all of them with each part.
    #[test]
    fn a_long_look_is_good_for_longer() {
        let mut state = State { lag_ms: 2_000, ..State::default() };
        state.rest(1_000, 3);
        assert_eq!(state.fresh_ms, 1_000 + 3 + LOOK_MS);
        state.rest(1_000, 300);
        assert_eq!(state.fresh_ms, 1_000 + 300 + 300 * REST);
        // No longer than a counter may be late.
        state.rest(1_000, 3_000);
        assert_eq!(state.fresh_ms, 1_000 + 3_000 + 2_000);
    }
}
