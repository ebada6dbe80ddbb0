//! Meters in hardware, for those who asked for them (decision 0100): which are there, for which rules, and what they have counted.
//!
//! What enters: meters of the seam, rules that come and go, counters. What leaves: police actions put and taken; counters of both layers added
//! up. Neighbours: `state`, `hardware`.
//!
//! # What holds
//!
//! - A meter is in hardware from before the first rule that names it until after the last: it goes by the next tick, so that a megaflow that is
//!   being changed does not take it out and in again.
//! - A meter has the new limit in both layers before the call returns that changes it; then its counters begin anew, as software's do. If
//!   hardware does not take the limit, all rules that name the meter are out of it when the call returns.
//! - What hardware has counted is never lost by what the tier does itself, and never counted twice.

use super::Tiered;
use super::state::State;
use crate::hardware::{Hardware, MeterCounts};
use crate::meters::Limit;
use crate::plan::Plan;
use crate::refusal::{Reason, Refusal};
use crate::rule::Act;
use flow::hash::{Map, Set};
use flow::seam::{DpError, MeterConfig, MeterStats};
use flow::{Datapath, Msec, Ufid};

/// A meter of the datapath.
#[derive(Debug)]
struct Meter {
    config: MeterConfig,
    /// What its action has counted when it was looked at last, and what all its actions have since the meter was set.
    seen: MeterCounts,
    sum: MeterCounts,
    rules: Set<Ufid>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Meters {
    wanted: bool,
    known: Map<u32, Meter>,
    there: Set<u32>,
    /// A meter has changed, or may be in hardware now: megaflows that wait for one are to be tried, once a tick.
    stale: bool,
    of_rule: Map<Ufid, Vec<u32>>,
}

impl Meter {
    /// A look at the counters.
    fn look(&mut self, now: MeterCounts) {
        let more = |now: u64, then: u64| now.saturating_sub(then);
        self.sum.packets += more(now.packets, self.seen.packets);
        self.sum.bytes += more(now.bytes, self.seen.bytes);
        self.sum.dropped += more(now.dropped, self.seen.dropped);
        self.seen = now;
    }
}

impl Meters {
    /// Meters that are in hardware.
    pub(super) fn there(&self) -> usize {
        self.there.len()
    }

    pub(super) const fn are_wanted(&self) -> bool {
        self.wanted
    }

    /// A rule that names meters is in hardware.
    pub(super) fn bind(&mut self, rule: Ufid, meters: Vec<u32>) {
        for meter in &meters {
            if let Some(meter) = self.known.get_mut(meter) {
                meter.rules.insert(rule);
            }
        }
        if !meters.is_empty() {
            self.of_rule.insert(rule, meters);
        }
    }

    /// It is so no longer.
    pub(super) fn unbind(&mut self, rule: Ufid) {
        for meter in self.of_rule.remove(&rule).unwrap_or_default() {
            if let Some(meter) = self.known.get_mut(&meter) {
                meter.rules.remove(&rule);
            }
        }
    }

    /// Rules that name a meter.
    pub(super) fn rules(&self, id: u32) -> Vec<Ufid> {
        self.known.get(&id).into_iter().flat_map(|meter| meter.rules.iter().copied()).collect()
    }

    /// What a meter may be in hardware, if it may be there.
    pub(super) fn limit(&self, id: u32) -> Option<Result<Limit, &'static str>> {
        self.known.get(&id).filter(|_| self.wanted).map(|meter| Limit::of(&meter.config))
    }
}

/// The meters that a plan names.
pub(super) fn of_plan(plan: &Plan) -> Vec<u32> {
    plan.rule.acts.iter().filter_map(|act| if let Act::Police { meter, limit: _ } = act { Some(*meter) } else { None }).collect()
}

impl State {
    /// Megaflows that wait for a meter are due, if there may be one.
    pub(super) fn hasten_metered(&mut self, now: Msec) {
        if std::mem::take(&mut self.meters.stale) && self.meters.wanted {
            self.hasten(now, usize::MAX, |reason| reason == Reason::Meter);
        }
    }

    /// Tells `plan` what a meter may be.
    fn tell_meter(&mut self, id: u32) {
        match self.meters.limit(id) {
            Some(limit) => self.can.meters.insert(id, limit),
            None => self.can.meters.remove(&id),
        };
    }
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Whether meters may be in hardware: a second bucket beside software's.
    pub fn set_meters(&self, on: bool) {
        let now = flow::clock::now_ms();
        let mut state = self.state();
        if state.meters.wanted == on {
            return;
        }
        state.meters.wanted = on;
        let all: Vec<u32> = state.meters.known.keys().copied().collect();
        for id in &all {
            state.tell_meter(*id);
        }
        state.meters.stale = true;
        if !on {
            for id in all {
                self.expel(&mut state, id, &Refusal::new(Reason::Meter, format!("meter({id})")), now);
            }
        }
    }

    pub(super) fn meter_set_tiered(&self, id: u32, config: &MeterConfig) -> Result<(), DpError> {
        let now = flow::clock::now_ms();
        let mut state = self.state();
        self.inner.meter_set(id, config)?;
        let (none, rules) = (MeterCounts::default(), state.meters.rules(id).into_iter().collect());
        state.meters.known.insert(id, Meter { config: config.clone(), seen: none, sum: none, rules });
        state.tell_meter(id);
        if state.meters.there.contains(&id) {
            // What has been counted so far, also for a meter that had this number before, does not count for this one.
            self.count_meters(&mut state, now);
            if let Some(meter) = state.meters.known.get_mut(&id) {
                meter.sum = none;
            }
        }
        if state.meters.there.contains(&id) {
            let limit = Limit::of(config).map_err(|what| Refusal::new(Reason::Meter, format!("meter({id}:{what})")));
            if let Err(why) = limit.and_then(|limit| self.hardware.put_meter(id, limit)) {
                self.expel(&mut state, id, &why, now);
            }
        }
        state.meters.stale = true;
        Ok(())
    }

    pub(super) fn meter_get_tiered(&self, id: u32) -> Result<MeterStats, DpError> {
        let mut state = self.state();
        if state.meters.there.contains(&id) {
            self.count_meters(&mut state, flow::clock::now_ms());
        }
        Ok(with_hardware(&state.meters, id, self.inner.meter_get(id)?))
    }

    pub(super) fn meter_del_tiered(&self, id: u32) -> Result<MeterStats, DpError> {
        let mut state = self.state();
        self.expel(&mut state, id, &Refusal::new(Reason::Meter, format!("meter({id})")), flow::clock::now_ms());
        let stats = self.inner.meter_del(id)?;
        let stats = with_hardware(&state.meters, id, stats);
        state.meters.known.remove(&id);
        state.tell_meter(id);
        Ok(stats)
    }

    /// Puts the meters there that a plan names.
    pub(super) fn ready_meters(&self, state: &mut State, plan: &Plan) -> Result<(), Refusal> {
        for act in &plan.rule.acts {
            if let Act::Police { meter, limit } = act
                && !state.meters.there.contains(meter)
            {
                self.hardware.put_meter(*meter, *limit)?;
                state.meters.there.insert(*meter);
                if let Some(known) = state.meters.known.get_mut(meter) {
                    known.seen = MeterCounts::default();
                }
            }
        }
        Ok(())
    }

    /// Counters of all meters that are there. A meter that hardware has lost takes its rules with it; they are tried again.
    pub(super) fn count_meters(&self, state: &mut State, now: Msec) {
        if state.meters.there.is_empty() {
            return;
        }
        let Some(all) = self.hardware.meters() else { return };
        let mut lost = state.meters.there.clone();
        for (id, counts) in all {
            lost.remove(&id);
            if let Some(meter) = state.meters.known.get_mut(&id) {
                meter.look(counts);
            }
        }
        for id in lost {
            self.expel(state, id, &Refusal::new(Reason::Lost, format!("meter({id})")), now);
        }
    }

    /// Takes a meter out of hardware, with the rules that name it.
    pub(super) fn expel(&self, state: &mut State, id: u32, why: &Refusal, now: Msec) {
        let rules = state.meters.rules(id);
        self.take_out(state, &rules, why, now);
        self.drop_refused(state, &rules, now);
        self.take_meter(state, id);
    }

    /// Takes meters out that no rule names any more; all of them, when the rules are gone.
    pub(super) fn retire_meters(&self, state: &mut State) {
        let idle = |id: &&u32| state.meters.known.get(*id).is_none_or(|meter| meter.rules.is_empty());
        let idle: Vec<u32> = state.meters.there.iter().filter(idle).copied().collect();
        for id in idle {
            self.take_meter(state, id);
        }
    }

    /// One that cannot be removed now is tried again by the next tick.
    fn take_meter(&self, state: &mut State, id: u32) {
        if !state.meters.there.contains(&id) {
            return;
        }
        if let Ok(last) = self.hardware.take_meter(id) {
            state.meters.there.remove(&id);
            if let Some(meter) = state.meters.known.get_mut(&id) {
                meter.look(last);
                meter.seen = MeterCounts::default();
            }
        }
    }
}

/// What software has counted, and hardware.
fn with_hardware(meters: &Meters, id: u32, mut stats: MeterStats) -> MeterStats {
    if let Some(meter) = meters.known.get(&id) {
        stats.packets += meter.sum.packets;
        stats.bytes += meter.sum.bytes;
        // Those that are in hardware have one band. tc does not tell the bytes of what it dropped.
        if let Some((packets, _)) = stats.bands.first_mut() {
            *packets += meter.sum.dropped;
        }
    }
    stats
}
