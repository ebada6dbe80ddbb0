//! Fair shares of a worker's time among receive queues that all have more packets than it can forward.
//!
//! What enters: what each batch cost. What leaves: whether a queue is polled in this round. Neighbours: `worker`.
//!
//! Polled in turn, a batch each, queues share packets, not time: one whose packets are dear (each a miss, or searched for under hundreds of masks)
//! would take the time of all others with it. So queues with a backlog are charged what their batches cost, and one that has used more
//! than the least of them waits for its turn. Nobody waits while there is no other backlog: time is shared, never left unused.

/// So much more than the least may be used, in cycles: neighbours of about the same cost are polled in turn.
const SLACK: u64 = 20_000;
/// A batch is charged at most so much: more cycles were taken by somebody else.
const COST_MAX: u64 = 2_000_000;

/// What a queue has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    used: u64,
    /// Its last batch was full, so that more is likely to wait there.
    backlog: bool,
}

impl Share {
    /// Charges a batch. `floor` is this round's (`floor`).
    #[inline]
    pub fn charge(&mut self, full: bool, cycles: u64, floor: Option<u64>) {
        if full {
            // Time in which it did not want anything is not owed to it.
            let base = if self.backlog { self.used } else { self.used.max(floor.unwrap_or(0)) };
            self.used = base.saturating_add(cycles.min(COST_MAX));
        }
        self.backlog = full;
    }

    /// Whether the queue is to be polled.
    #[inline]
    #[must_use]
    pub fn has_turn(&self, floor: Option<u64>) -> bool {
        !self.backlog || floor.is_none_or(|floor| self.used <= floor.saturating_add(SLACK))
    }
}

/// What the queue that has used least of those with a backlog has used; none if there is no backlog.
#[inline]
pub fn floor<'s>(shares: impl Iterator<Item = &'s Share>) -> Option<u64> {
    shares.filter(|share| share.backlog).map(|share| share.used).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds over queues whose batches cost so much and are full or not; how often each was polled.
    fn polls(costs: &[(u64, bool)], rounds: usize) -> Vec<u64> {
        let mut shares = vec![Share::default(); costs.len()];
        let mut polls = vec![0; costs.len()];
        for _ in 0..rounds {
            let floor = floor(shares.iter());
            for (i, (cost, full)) in costs.iter().enumerate() {
                if shares[i].has_turn(floor) {
                    polls[i] += 1;
                    shares[i].charge(*full, *cost, floor);
                }
            }
        }
        polls
    }

    #[test]
    fn dear_packets_do_not_take_the_time_of_others() {
        let polls = polls(&[(5_000, true), (500_000, true), (5_000, true)], 10_000);
        assert!(polls[0] == 10_000 && polls[2] == 10_000);
        let (cheap, dear) = (polls[0] * 5_000, polls[1] * 500_000);
        assert!(dear.abs_diff(cheap) <= 2 * 500_000, "{polls:?}");
    }

    #[test]
    fn equal_queues_are_polled_in_turn_and_a_single_backlog_always() {
        assert_eq!(polls(&[(5_000, true), (5_500, true)], 3), [3, 3]);
        assert_eq!(polls(&[(5_000, false), (500_000, true)], 100), [100, 100]);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let (mut busy, mut late) = (Share::default(), Share::default());
        for _ in 0..100 {
            busy.charge(true, 100_000, floor([busy, late].iter()));
        }
        late.charge(true, 100_000, floor([busy, late].iter()));
        let floor = floor([busy, late].iter());
        assert!(busy.has_turn(floor) && !late.has_turn(floor));
        busy.charge(true, 100_000, floor);
        assert!(late.has_turn(super::floor([busy, late].iter())));
    }
}
