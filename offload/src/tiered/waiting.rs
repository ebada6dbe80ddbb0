//! Which megaflows are to be tried again, and when: refusals that may pass wait twice as long each time, and an event hastens them.
//!
//! What enters: refusals and events, with `now`. What leaves: names that are due. Pure. Neighbour: `tiered`.

use flow::hash::Map;
use flow::{Msec, Ufid};
use std::collections::BTreeSet;

/// The first wait, and the longest.
pub(super) const FIRST_MS: Msec = 1_000;
pub(super) const LONGEST_MS: Msec = 64_000;

/// The queue. Every megaflow stands in it once; it is as long as there are megaflows at most.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    order: BTreeSet<(Msec, Ufid)>,
    /// When it is due, and how long it waited for that.
    each: Map<Ufid, (Msec, Msec)>,
}

impl Waiting {
    /// It was refused (again) for something that may pass.
    pub(super) fn refused(&mut self, ufid: Ufid, now: Msec) {
        let wait = self.each.get(&ufid).map_or(FIRST_MS, |(_, wait)| (wait * 2).clamp(FIRST_MS, LONGEST_MS));
        self.set(ufid, now + wait, wait);
    }

    /// What stood in its way may have gone: it is due now, and its waits begin anew.
    pub(super) fn hasten(&mut self, ufid: Ufid, now: Msec) {
        self.set(ufid, now, 0);
    }

    fn set(&mut self, ufid: Ufid, due: Msec, wait: Msec) {
        if let Some((old, _)) = self.each.insert(ufid, (due, wait)) {
            self.order.remove(&(old, ufid));
        }
        self.order.insert((due, ufid));
    }

    /// It is in hardware, or gone.
    pub(super) fn forget(&mut self, ufid: Ufid) {
        if let Some((due, _)) = self.each.remove(&ufid) {
            self.order.remove(&(due, ufid));
        }
    }

    /// Up to `max` that are due. They stay known until they are refused again or forgotten.
    pub(super) fn due(&mut self, now: Msec, max: usize) -> Vec<Ufid> {
        let due: Vec<(Msec, Ufid)> = self.order.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        for one in &due {
            self.order.remove(one);
        }
        due.into_iter().map(|(_, ufid)| ufid).collect()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_limit_and_an_event_begins_anew() {
        let mut waiting = Waiting::default();
        let one = Ufid(1);
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..9 {
            waiting.refused(one, now);
            let began = now;
            while waiting.due(now, 10).is_empty() {
                now += 500;
            }
            waits.push(now - began);
        }
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 64_000, 64_000]);
        waiting.hasten(one, now);
        assert_eq!(waiting.due(now, 10), [one]);
        waiting.refused(one, now);
        assert_eq!((waiting.due(now + FIRST_MS - 1, 10), waiting.due(now + FIRST_MS, 10)), (vec![], vec![one]));
    }

    #[test]
    fn each_stands_once_and_a_few_at_a_time_are_due() {
        let mut waiting = Waiting::default();
        for n in 0..5 {
            waiting.refused(Ufid(n), 0);
            waiting.hasten(Ufid(n), 0);
        }
        waiting.forget(Ufid(0));
        assert_eq!(waiting.len(), 4);
        assert_eq!(waiting.due(0, 3).len(), 3);
        assert_eq!(waiting.due(0, 3), [Ufid(4)]);
        assert!(waiting.due(LONGEST_MS, 3).is_empty());
    }
}
