//! The beat of what comes: where packets come at even distances, when the next is due.
//!
//! What enters: when a packet came after a sleep. What leaves: when to be awake again, and until when. Neighbour: `worker`, which sleeps.
//!
//! To wake a sleeping thread takes tens of microseconds, more where its core sleeps as well, and who sends a packet now and then and waits for
//! the answer has that in each round trip. Much of what is sent now and then is sent by a clock: echo requests, BFD, heartbeats, polls. After
//! `STEADY` equal distances the worker is awake `EARLY_US` before the next packet is due, and sleeps again `LATE_US` after that
//! if none came; then the beat is lost, and has to be found again. Beats shorter than `GAP_US` would cost more than they are worth.

use std::ops::Range;

/// Equal distances that make a beat.
const STEADY: u32 = 3;
/// How long a distance may be.
const GAP_US: Range<u64> = 5_000..2_000_000;
/// So different may distances be.
const JITTER_US: u64 = 80;
/// How long before a packet is due the worker wants to be woken, which takes a part of it.
const EARLY_US: u64 = 100;
/// How long after that a packet is waited for.
const LATE_US: u64 = JITTER_US;

/// What came. Times in cycles.
#[derive(Debug)]
pub(crate) struct Beat {
    cycles_per_us: u64,
    last: u64,
    gap: u64,
    steady: u32,
}

/// From when until when to be awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vigil {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Vigil {
    /// Whether it has begun and is not over.
    pub(crate) fn is_on(self, now: u64) -> bool {
        now.wrapping_sub(self.from) < self.until.wrapping_sub(self.from)
    }
}

impl Beat {
    /// Nothing came yet.
    pub(crate) fn new(cycles_per_us: u64) -> Self {
        Self { cycles_per_us, last: 0, gap: 0, steady: 0 }
    }

    /// The first packet after a sleep came.
    pub(crate) fn came(&mut self, now: u64) {
        let gap = now.wrapping_sub(self.last);
        let same = gap.abs_diff(self.gap) <= JITTER_US * self.cycles_per_us;
        self.steady = if same { self.steady.saturating_add(1) } else { 0 };
        (self.last, self.gap) = (now, gap);
    }

    /// It was waited for in vain.
    pub(crate) fn lost(&mut self) {
        self.steady = 0;
    }

    /// When to be awake for the next, if there is a beat and it is not too late for that.
    pub(crate) fn next(&self, now: u64) -> Option<Vigil> {
        let us = self.cycles_per_us.max(1);
        if self.steady < STEADY || !GAP_US.contains(&(self.gap / us)) {
            return None;
        }
        let due = self.last.wrapping_add(self.gap);
        let vigil = Vigil { from: due.wrapping_sub(EARLY_US * us), until: due.wrapping_add(LATE_US * us) };
        let ahead = vigil.from.wrapping_sub(now);
        (ahead <= self.gap).then_some(vigil)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_few_equal_distances_the_next_is_waited_for() {
        let mut beat = Beat::new(2);
        let us = |n: u64| n * 2;
        let mut now = us(5_000_000);
        for i in 0..6 {
            assert_eq!(beat.next(now - us(5_000)).is_some(), i > STEADY + 1, "{i}");
            beat.came(now);
            now += us(10_000 + 20 * u64::from(i % 2));
        }
        let due = now - us(20);
        let vigil = beat.next(now - us(5_000)).unwrap();
        assert!(vigil.from < due && due < vigil.until && vigil.until - vigil.from == us(EARLY_US + LATE_US));
        assert!(vigil.is_on(due) && !vigil.is_on(vigil.from - 1) && !vigil.is_on(vigil.until));
        assert_eq!(beat.next(now + us(EARLY_US)), None, "too late");
        beat.lost();
        assert_eq!(beat.next(now - us(5_000)), None);
    }

    #[test]
    fn what_comes_unevenly_or_too_often_has_no_beat() {
        for gaps in [[10_000, 12_000], [1_000, 1_000], [3_000_000, 3_000_000]] {
            let mut beat = Beat::new(1);
            let mut now = 7_000_000;
            for gap in gaps.iter().cycle().take(20) {
                beat.came(now);
                assert_eq!(beat.next(now + 100), None);
                now += gap;
            }
        }
    }
}
