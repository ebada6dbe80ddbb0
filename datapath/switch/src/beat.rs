//! The beat of what comes: where packets come at even distances, when the next is due.
//!
//! What enters: when a packet came after a sleep, and whether the worker was awake by then. What leaves: when to be awake again, and until when.
//! Neighbour: `worker`, which sleeps.
//!
//! To wake a sleeping thread takes tens of microseconds, more where its core sleeps as well, and who sends a packet now and then and waits for
//! the answer has that in each round trip. Much of what is sent now and then is sent by a clock: echo requests, BFD, heartbeats, polls. After
//! `STEADY` equal distances the worker has itself woken some time before the next packet is due, and sleeps again `LATE_US` after that
//! if none came; then the beat is lost, and has to be found again. Beats shorter than `GAP_US` would cost more than they are worth.
//!
//! How long before is learned, within `LEAD_US`: a timer wakes a thread the later the deeper its core (or the machine's host) sleeps. A packet that was
//! there first makes the lead longer, one that was waited for longer than `WAIT_US` makes it shorter.

use std::ops::Range;

/// Equal distances that make a beat.
const STEADY: u32 = 3;
/// How long a distance may be.
const GAP_US: Range<u64> = 5_000..2_000_000;
/// So different may distances be.
const JITTER_US: u64 = 80;
/// How long before a packet is due the timer is set to, at least and at most.
const LEAD_US: Range<u64> = 100..300;
/// So much longer the lead becomes when it was too short, and shorter when it was too long.
const LONGER_US: u64 = 40;
const SHORTER_US: u64 = 5;
/// To be awake for longer than this before a packet comes is of no more use.
const WAIT_US: u64 = 60;
/// The part of a distance in what is expected of the next.
const SHARE: u64 = 4;
/// How long after that a packet is waited for.
const LATE_US: u64 = JITTER_US;

/// What came. Times in cycles.
#[derive(Debug)]
pub(crate) struct Beat {
    cycles_per_us: u64,
    last: u64,
    /// The distance that is expected.
    gap: u64,
    steady: u32,
    lead_us: u64,
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
        Self { cycles_per_us, last: 0, gap: 0, steady: 0, lead_us: LEAD_US.start }
    }

    /// The first packet after a sleep came.
    pub(crate) fn came(&mut self, now: u64) {
        let gap = now.wrapping_sub(self.last);
        let same = gap.abs_diff(self.gap) <= JITTER_US * self.cycles_per_us;
        self.steady = if same { self.steady.saturating_add(1) } else { 0 };
        self.last = now;
        // Each distance has what two packets were late or early; an average has less of it.
        self.gap = if same { (self.gap * (SHARE - 1) + gap) / SHARE } else { gap };
    }

    /// A packet came while the worker was to be awake, and still slept.
    pub(crate) fn overslept(&mut self) {
        self.lead_us = (self.lead_us + LONGER_US).min(LEAD_US.end);
    }

    /// The worker was awake for so long when what was due came.
    pub(crate) fn waited(&mut self, cycles: u64) {
        if cycles > WAIT_US * self.cycles_per_us {
            self.lead_us = self.lead_us.saturating_sub(SHORTER_US).max(LEAD_US.start);
        }
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
        let vigil = Vigil { from: due.wrapping_sub(self.lead_us * us), until: due.wrapping_add(LATE_US * us) };
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
        assert!(vigil.from < due && due < vigil.until && vigil.until - vigil.from == us(LEAD_US.start + LATE_US));
        assert!(vigil.is_on(due) && !vigil.is_on(vigil.from - 1) && !vigil.is_on(vigil.until));
        assert_eq!(beat.next(now + us(LEAD_US.start)), None, "too late");
        beat.lost();
        assert_eq!(beat.next(now - us(5_000)), None);
    }

    /// A beat of ten milliseconds.
    fn found() -> (Beat, u64) {
        let (mut beat, mut now) = (Beat::new(1), 5_000_000);
        for _ in 0..6 {
            beat.came(now);
            now += 10_000;
        }
        (beat, now)
    }

    #[test]
    fn the_lead_is_learned() {
        let (mut beat, due) = found();
        let lead = |beat: &Beat| due - beat.next(due - 5_000).unwrap().from;
        assert_eq!(lead(&beat), LEAD_US.start);
        beat.overslept();
        assert_eq!(lead(&beat), LEAD_US.start + LONGER_US);
        (0..100).for_each(|_| beat.overslept());
        assert_eq!(lead(&beat), LEAD_US.end);
        beat.waited(WAIT_US);
        assert_eq!(lead(&beat), LEAD_US.end, "just in time");
        beat.waited(WAIT_US + 1);
        assert_eq!(lead(&beat), LEAD_US.end - SHORTER_US);
        (0..100).for_each(|_| beat.waited(WAIT_US + 1));
        assert_eq!(lead(&beat), LEAD_US.start);
    }

    #[test]
    fn packets_that_are_late_and_early_in_turn_keep_the_beat() {
        let (mut beat, due) = found();
        let mut now = due - 10_000;
        for i in 0..20u64 {
            // Neighbouring distances differ by more than one may from the average.
            now = now + 10_050 - 100 * (i % 2);
            beat.came(now);
            assert!(beat.next(now + 100).is_some(), "{i}");
            let due = beat.next(now + 100).unwrap().until - LATE_US;
            assert!(due.abs_diff(now + 10_000) <= JITTER_US, "{i}");
        }
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
