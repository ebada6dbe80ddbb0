//! What the tier does by itself: looks at counters, mends what was lost, sweeps dirty ports, tries again, exchanges in a full table, and
//! follows ports that come and go.
//!
//! What enters: `now`, and what the ports are. What leaves: rules put and taken. Neighbours: `waiting`, `admission` (which decide).

use super::admission::{Rated, STAY_MS, exchanges};
use super::state::{Home, State};
use super::worth::Worth;
use super::{Tiered, in_port};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::refusal::{Reason, Refusal};
use flow::seam::FlowDump;
use flow::{Datapath, DpPort, Megaflow, Msec, Ufid, clock};

/// Rules are looked at this often, also if nobody asks, unless a look takes so long that it is good for longer (`State::rest`).
const LOOK_MS: Msec = 500;
/// Ports that are dirty are swept this often, and megaflows that came unseen are looked for.
const CLEAN_MS: Msec = 2_000;
/// Megaflows that are tried again in one tick.
const TRIES_MAX: usize = 4_096;
/// Megaflows that are put in together.
const BATCH: usize = 512;

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Everything that is due at `now`. To be called a few times a second.
    pub fn tick(&self, now: Msec) {
        if !self.is_enabled() {
            return;
        }
        let mut state = self.state();
        if now - state.looked_ms >= LOOK_MS && now >= state.fresh_ms {
            self.look_at_all(&mut state, now);
        }
        // Whoever asks for counters looks, too, so that these have a time of their own.
        if now - state.kept_ms >= LOOK_MS {
            state.kept_ms = now;
            self.keep_alive(&mut state, now);
            self.retire_meters(&mut state);
        }
        if now - state.cleaned_ms >= CLEAN_MS {
            state.cleaned_ms = now;
            self.clean(&mut state, now);
            let known = state.entries.len() - state.connected.rules();
            let unseen = usize::try_from(self.inner.stats().flows).is_ok_and(|flows| flows > known);
            if unseen {
                drop(state);
                self.adopt(now);
                state = self.state();
            }
        }
        state.hasten_metered(now);
        let freed = std::mem::take(&mut state.freed);
        if freed > 0 {
            state.hasten(now, freed, |reason| reason == Reason::TableFull);
        }
        let due = state.waiting.due(now, TRIES_MAX);
        self.try_again(&mut state, &due, now);
        if state.rebalance {
            self.exchange(&mut state, now);
        }
    }

    /// Counters of all rules. What hardware lost is in software from now on, and is tried again.
    pub(super) fn look_at_all(&self, state: &mut State, now: Msec) {
        let began = clock::now_ms();
        state.looked_ms = now;
        self.see_all(state, now);
        state.rest(now, clock::now_ms() - began);
    }

    fn see_all(&self, state: &mut State, now: Msec) {
        // What was told goes in again at once, and what of it counted is known; the rest is found out.
        self.react(state, now);
        let mut lost = Vec::new();
        for (ufid, seen) in self.hardware.counters() {
            let Some(entry) = state.entries.get_mut(&ufid).filter(|e| e.home == Home::Hardware) else { continue };
            let Some(seen) = seen else {
                lost.push(ufid);
                continue;
            };
            let (port, more) = (entry.port, entry.counted.look(seen, now));
            entry.rate.look(entry.counted.sum().packets, now);
            state.credit(ufid, port, more, now);
        }
        self.count_meters(state, now);
        if !lost.is_empty() {
            self.take_out(state, &lost, &Refusal::new(Reason::Lost, ""), now);
        }
    }

    /// Sweeps ports where a removal failed. Their rules come back by being tried again.
    fn clean(&self, state: &mut State, now: Msec) {
        for port in self.hardware.usage().2 {
            let there: Vec<Ufid> =
                state.entries.iter().filter(|(_, e)| e.port == port && e.home == Home::Hardware).map(|(u, _)| *u).collect();
            self.take_out(state, &there, &Refusal::of_port(Reason::PortDirty, port), now);
            if self.hardware.sweep(port).is_ok() {
                state.hasten(now, usize::MAX, |reason| reason == Reason::PortDirty);
            }
        }
    }

    /// Puts in what software has and the tier does not know.
    pub(super) fn adopt(&self, now: Msec) {
        let mut all = Vec::new();
        self.inner.dump(&mut |dump| {
            all.push(whole(dump));
            true
        });
        for some in all.chunks(BATCH) {
            let mut state = self.state();
            if !self.is_enabled() {
                return;
            }
            // One that was deleted meanwhile must not come back.
            let there = |flow: &&Megaflow| self.inner.get(flow.ufid).is_ok_and(|dump| dump.flow.actions == flow.actions);
            let news: Vec<&Megaflow> = some.iter().filter(|f| !is_settled(&state, f.ufid)).filter(there).collect();
            let mut entries = false;
            for flow in &news {
                state.connected.ways.put(flow);
                entries |= state.tunnels.put(flow);
            }
            let planned = news.iter().map(|f| (f.ufid, in_port(f), state.plan(f))).collect();
            self.settle(&mut state, planned, now);
            state.connected.stale = true;
            if entries {
                Self::open_entries(&mut state, now);
            }
        }
    }

    /// A megaflow of the software table, with the key of the packet that made it; or a composed one.
    pub(super) fn flow(&self, state: &State, ufid: Ufid) -> Option<Megaflow> {
        let composed = state.connected.flow(ufid).cloned();
        composed.or_else(|| self.inner.get(ufid).ok().map(|dump| whole(&dump)))
    }

    pub(super) fn try_again(&self, state: &mut State, ufids: &[Ufid], now: Msec) {
        for some in ufids.chunks(BATCH) {
            let mut planned = Vec::with_capacity(some.len());
            let outside: Vec<&Ufid> = some.iter().filter(|u| !state.is_in_hardware(**u)).collect();
            for ufid in outside {
                let Some(flow) = self.flow(state, *ufid) else {
                    state.waiting.forget(*ufid);
                    state.entries.remove(ufid);
                    continue;
                };
                planned.push((*ufid, in_port(&flow), state.plan(&flow)));
            }
            self.settle(state, planned, now);
            self.drop_refused(state, some, now);
        }
    }

    /// Lets busier megaflows into a full table in the place of others.
    fn exchange(&self, state: &mut State, now: Msec) {
        let full = |home: &Home| matches!(home, Home::Software(why) if why.reason == Reason::TableFull);
        let outside: Vec<Ufid> = state.entries.iter().filter(|(_, e)| full(&e.home)).map(|(u, _)| *u).collect();
        if outside.is_empty() {
            state.worth = Worth::default();
            return;
        }
        let outside = state.window.of(outside);
        let (waiting, outside): (Vec<Ufid>, Vec<Ufid>) = outside.into_iter().partition(|u| state.connected.is_merged(*u));
        let mut stats = Vec::with_capacity(outside.len());
        self.inner.stats_of(&outside, &mut stats);
        let mut rated: Vec<Rated> = Vec::with_capacity(outside.len());
        for (ufid, stats) in outside.into_iter().zip(stats) {
            if let (Some(stats), Some(entry)) = (stats, state.entries.get_mut(&ufid)) {
                entry.rate.look(stats.packets + entry.counted.sum().packets, now);
                rated.push((ufid, entry.rate.pps));
            }
        }
        rated.extend(self.rate_waiting(state, &waiting, now));
        let stayed = |e: &super::Entry| e.home == Home::Hardware && now - e.since_ms >= STAY_MS;
        let inside: Vec<Rated> = state.entries.iter().filter(|(_, e)| stayed(e)).map(|(u, e)| (*u, e.rate.pps)).collect();
        let pairs = exchanges(inside, rated);
        if pairs.is_empty() {
            return;
        }
        let (out, new): (Vec<Ufid>, Vec<Ufid>) = pairs.into_iter().unzip();
        self.take_out(state, &out, &Refusal::new(Reason::TableFull, "others have more packets"), now);
        // Their places are given away already.
        state.freed = 0;
        self.try_again(state, &new, now);
    }

    /// The ports are these now. Megaflows of ports that went leave hardware; those that waited for a port are tried.
    pub fn set_capabilities(&self, can: Capabilities, now: Msec) {
        let mut state = self.state();
        let gone = state.can.ports.iter().any(|(port, kind)| can.ports.get(port) != Some(kind))
            || state.can.ways.iter().any(|(ends, way)| can.ways.get(ends) != Some(way))
            || state.can.uplinks != can.uplinks
            || state.can.lacks != can.lacks
            || state.can.mtus != can.mtus;
        // The datapath's meters are not the ports' matter.
        let meters = std::mem::take(&mut state.can.meters);
        state.can = Capabilities { meters, ..can };
        if gone {
            let there: Vec<Ufid> = state.entries.keys().copied().filter(|u| state.is_in_hardware(*u)).collect();
            for ufid in there {
                let Some(flow) = self.flow(&state, ufid) else { continue };
                if let Err(why) = state.plan(&flow) {
                    self.take_out(&mut state, &[ufid], &why, now);
                    self.drop_refused(&mut state, &[ufid], now);
                }
            }
        }
        state.connected.stale = true;
        let of_ports = [
            Reason::InPort,
            Reason::OutPort,
            Reason::OtherSwitch,
            Reason::TunnelPort,
            Reason::TunnelWay,
            Reason::TunnelEntry,
            Reason::TunnelMtu,
            Reason::Probe,
        ];
        state.hasten(now, usize::MAX, |reason| of_ports.contains(&reason));
    }

    /// A port goes: so do its rules.
    pub(super) fn lose_port(&self, port: DpPort) {
        let mut state = self.state();
        let of_port: Vec<Ufid> = state.entries.iter().filter(|(_, e)| e.port == port).map(|(u, _)| *u).collect();
        let now = clock::now_ms();
        self.close_entries(&mut state, &of_port, now);
        self.take_out(&mut state, &of_port, &Refusal::of_port(Reason::InPort, port), now);
        self.drop_refused(&mut state, &of_port, now);
    }
}

/// Whether the tier has decided for it since offload was switched on.
fn is_settled(state: &State, ufid: Ufid) -> bool {
    match state.entries.get(&ufid).map(|e| &e.home) {
        Some(Home::Hardware) => true,
        Some(Home::Software(why)) => why.reason != Reason::Disabled,
        None => false,
    }
}

/// The megaflow with the key of the packet that made it.
pub(super) fn whole(dump: &FlowDump) -> Megaflow {
    let mut flow = dump.flow.clone();
    if let Some(key) = &dump.unmasked {
        flow.key.clone_from(key);
    }
    flow
}
