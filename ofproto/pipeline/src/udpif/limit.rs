//! How many megaflows, and for how long: pure decisions of revalidation.
//!
//! What enters: counts, durations, settings. What leaves: the flow limit, the idle time, the verdict on a flow that nobody uses.

use crate::config::UpcallConfig;
use flow::Msec;

/// The limit never falls below this.
pub const FLOW_LIMIT_MIN: usize = 1000;
/// The limit that a fresh datapath starts from, if the configured one is not smaller.
pub const FLOW_LIMIT_START: usize = 10_000;
/// Of what time there is rounds take one part in so many, while nothing changes.
const ROUND_SHARE: Msec = 5;
/// So many times as long as configured the time from round to round becomes at most.
const PERIODS_MAX: Msec = 3;
/// Idle time while there are more megaflows than the limit.
const MAX_IDLE_FULL_MS: Msec = 100;

/// The limit after a round over `flows` megaflows that took `took_ms`.
#[must_use]
pub fn adapt(limit: usize, flows: usize, took_ms: Msec, configured: usize) -> usize {
    let took = usize::try_from(took_ms.max(1)).unwrap_or(1);
    let adapted = if took > 2000 {
        limit / (took / 1000)
    } else if took > 1300 {
        limit * 3 / 4
    } else if took < 1000 && limit < flows * 1000 / took {
        limit + 1000
    } else {
        limit
    };
    adapted.max(FLOW_LIMIT_MIN).min(configured)
}

/// From the beginning of a round to that of the next, after one that took `took_ms`. Long rounds are further apart, so that they leave the
/// processor to the handlers for most of the time; not while there are too many megaflows.
#[must_use]
pub fn period_ms(configured_ms: Msec, took_ms: Msec, is_full: bool) -> Msec {
    if is_full { configured_ms } else { (took_ms * ROUND_SHARE).clamp(configured_ms, configured_ms * PERIODS_MAX) }
}

/// What a round does with flows that are too many or unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// More than twice the limit: every megaflow goes.
    pub kill_all: bool,
    pub max_idle_ms: Msec,
}

impl Pressure {
    /// For `flows` megaflows under `limit`.
    #[must_use]
    pub fn of(flows: usize, limit: usize, config: &UpcallConfig) -> Self {
        Self { kill_all: flows > 2 * limit, max_idle_ms: if flows > limit { MAX_IDLE_FULL_MS } else { config.max_idle_ms } }
    }

    /// Whether a flow last used at `used_ms` has been idle for too long.
    #[must_use]
    pub fn is_idle(&self, used_ms: Msec, now: Msec) -> bool {
        self.kill_all || used_ms < now - self.max_idle_ms
    }
}

/// Whether a flow is worth translating again: when rounds are slow, one that carries few packets is cheaper to delete.
#[must_use]
pub fn worth_revalidating(packets: u64, since_used_ms: Msec, last_round_ms: Msec, config: &UpcallConfig) -> bool {
    if last_round_ms < config.max_revalidator_ms / 2 || packets == 0 {
        return true;
    }
    let per_packet_ms = u64::try_from(since_used_ms).unwrap_or(0) / packets;
    per_packet_ms < 1000 / u64::from(config.min_revalidate_pps.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_time_a_round_takes() {
        assert_eq!(adapt(200_000, 1, 4000, 200_000), 50_000);
        assert_eq!(adapt(100_000, 1, 1500, 200_000), 75_000);
        assert_eq!(adapt(10_000, 9_000, 100, 200_000), 11_000);
        assert_eq!(adapt(10_000, 900, 100, 200_000), 10_000);
        assert_eq!(adapt(1_200, 1, 1500, 200_000), FLOW_LIMIT_MIN);
        assert_eq!(adapt(10_000, 9_000, 100, 500), 500, "the configured limit may be lower than the floor");
    }

    #[test]
    fn long_rounds_are_further_apart() {
        assert_eq!(period_ms(500, 20, false), 500);
        assert_eq!(period_ms(500, 150, false), 750);
        assert_eq!(period_ms(500, 150, true), 500, "idle ones have to go");
        assert_eq!(period_ms(500, 9_000, false), 1_500);
    }

    #[test]
    fn too_many_flows_idle_sooner_and_far_too_many_all_go() {
        let config = UpcallConfig::default();
        let calm = Pressure::of(10, 1000, &config);
        assert!(!calm.is_idle(0, 10_000) && calm.is_idle(0, 10_001));
        let full = Pressure::of(1001, 1000, &config);
        assert!(!full.is_idle(0, 100) && full.is_idle(0, 101));
        assert!(Pressure::of(2001, 1000, &config).is_idle(5, 5));
    }

    #[test]
    fn a_slow_round_deletes_what_is_hardly_used() {
        let config = UpcallConfig::default();
        assert!(worth_revalidating(1, 9_000, 100, &config), "rounds are quick");
        assert!(!worth_revalidating(1, 9_000, 400, &config));
        assert!(worth_revalidating(100, 1_000, 400, &config));
    }
}
