//! What rules of connections would be worth that wait for room in a full table.
//!
//! What enters: rules that wait, what software sees of the megaflows on their ways, `now`. What leaves: packets per second of each. Neighbours:
//! `tick` (exchanges), `admission` (decides).
//!
//! The tracker counts no packets of a connection. What software still sees of a megaflow is shared out among the rules that wait on it and whose
//! connections were used since the last look: a mean. Once a rule is in, its own counter says what it is worth; one that was not worth it is the
//! next to go.

use super::Tiered;
use super::admission::Rated;
use super::state::{Rate, State};
use crate::hardware::Hardware;
use flow::hash::{Map, Set};
use flow::{Datapath, Msec, Ufid};

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Worth {
    /// Packets of megaflows in software.
    parts: Map<Ufid, Rate>,
    /// How long the connection of a rule had to live, and when that was.
    lives: Map<Ufid, (Msec, Msec)>,
}

/// Whether a connection that had so long to live has seen a packet since: its end has moved.
const fn is_used((left, at): (Msec, Msec), left_now: Msec, now: Msec) -> bool {
    now + left_now > at + left
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Those of `rules` whose connections are in use.
    pub(super) fn rate_waiting(&self, state: &mut State, rules: &[Ufid], now: Msec) -> Vec<Rated> {
        let Some(tracker) = self.inner.conntrack() else { return Vec::new() };
        let old = std::mem::take(&mut state.worth);
        let mut new = Worth::default();
        let (mut used, mut sharers, mut parts) = (Vec::new(), Map::<Ufid, u64>::default(), Set::default());
        for ufid in rules {
            let Some((way, conns)) = state.connected.way(*ufid) else { continue };
            let left = conns.first().and_then(|id| tracker.lifetime(id.zone, &id.orig, false)).unwrap_or(0);
            new.lives.insert(*ufid, (left, now));
            parts.extend(way);
            if old.lives.get(ufid).is_some_and(|was| is_used(*was, left, now)) {
                way.iter().for_each(|part| *sharers.entry(*part).or_default() += 1);
                used.push((*ufid, way));
            }
        }
        let parts: Vec<Ufid> = parts.into_iter().copied().collect();
        let mut stats = Vec::with_capacity(parts.len());
        self.inner.stats_of(&parts, &mut stats);
        for (part, stats) in parts.into_iter().zip(stats) {
            let mut rate = old.parts.get(&part).copied().unwrap_or_default();
            rate.look(stats.map_or(0, |stats| stats.packets), now);
            new.parts.insert(part, rate);
        }
        let share = |part: &Ufid| new.parts[part].pps / sharers[part];
        let rated = used.into_iter().map(|(ufid, way)| (ufid, way.iter().map(share).min().unwrap_or(0))).collect();
        state.worth = new;
        rated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_was_used_if_its_end_has_moved() {
        assert!(!is_used((30_000, 1_000), 29_500, 1_500), "half a second later it has half a second less");
        assert!(is_used((30_000, 1_000), 29_900, 1_500));
        assert!(!is_used((30_000, 1_000), 0, 1_500), "it is gone");
    }
}
