//! Limits: of all connections, of each zone's; and timeouts by policy.
//!
//! What enters: settings of control, connections that begin and end. What leaves: whether one more may begin; how long a stage lasts.
//! Everything is an atomic that forwarding threads read; zones and policies are arrays by number.

use crate::memory::{Lines, Zeroable};
use flow::clock::Msec;
use flow::conntrack::{CT_STAGES, CtLimit, CtStage};
use std::sync::atomic::{AtomicU32, Ordering};

/// Timeout policies at most; number 0 is the default.
pub const POLICIES_MAX: usize = 1024;
/// Longest timeout, in seconds: a year.
const SECONDS_MAX: u32 = 366 * 86_400;

/// Counts one more, unless there are as many as may be: at no time are more counted, however many threads ask at once.
#[inline]
#[must_use]
pub fn admit(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then(|| n + 1)).is_ok()
}

#[derive(Debug)]
struct Zone {
    count: AtomicU32,
    /// The limit and one; 0 for none.
    limit: AtomicU32,
}

// SAFETY: two atomic integers; zeroes are a zone without connections or limit.
unsafe impl Zeroable for Zone {}

/// Zones, and their limits.
#[derive(Debug)]
pub struct Zones {
    zones: Lines<Zone>,
    /// The limit and one; 0 for none.
    default: AtomicU32,
}

impl Default for Zones {
    fn default() -> Self {
        Self { zones: Lines::zeroed(1 << 16), default: AtomicU32::new(0) }
    }
}

impl Zones {
    /// Counts one more connection of the zone, or says that there are as many as may be. A limit of 0 is none.
    #[must_use]
    pub fn admit(&self, zone: u16) -> bool {
        let zone = &self.zones[usize::from(zone)];
        let limit = match zone.limit.load(Ordering::Relaxed) {
            0 => self.default.load(Ordering::Relaxed),
            own => own,
        };
        admit(&zone.count, if limit <= 1 { u32::MAX } else { limit - 1 })
    }

    /// A connection of the zone has ended.
    pub fn release(&self, zone: u16) {
        self.zones[usize::from(zone)].count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets or removes the limit of zones without one of their own.
    pub fn set_default(&self, limit: Option<u32>) {
        self.default.store(limit.map_or(0, |l| l.saturating_add(1)), Ordering::Relaxed);
    }

    #[must_use]
    pub fn default_limit(&self) -> u32 {
        self.default.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Sets a zone's limit, or removes it; false if it had none.
    pub fn set(&self, zone: u16, limit: Option<u32>) -> bool {
        let value = limit.map_or(0, |l| l.saturating_add(1));
        self.zones[usize::from(zone)].limit.swap(value, Ordering::Relaxed) != 0
    }

    /// A zone's limit (the default if it has none), and its connections.
    #[must_use]
    pub fn of(&self, number: u16) -> CtLimit {
        let zone = &self.zones[usize::from(number)];
        let limit = match zone.limit.load(Ordering::Relaxed) {
            0 => self.default_limit(),
            own => own - 1,
        };
        CtLimit { zone: number, limit, count: zone.count.load(Ordering::Relaxed) }
    }

    /// Zones that have a limit of their own.
    #[must_use]
    pub fn limited(&self) -> Vec<CtLimit> {
        let own = |n: &u16| self.zones[usize::from(*n)].limit.load(Ordering::Relaxed) != 0;
        (0..=u16::MAX).filter(own).map(|n| self.of(n)).collect()
    }
}

/// Seconds by stage, for each policy.
#[derive(Debug)]
pub struct Policies(Box<[[AtomicU32; CT_STAGES.len()]]>);

impl Default for Policies {
    fn default() -> Self {
        let policy = |_| CT_STAGES.map(|(_, _, seconds)| AtomicU32::new(seconds));
        Self((0..POLICIES_MAX).map(policy).collect())
    }
}

impl Policies {
    /// How long a stage lasts under a policy.
    #[inline]
    #[must_use]
    pub fn timeout_ms(&self, policy: u16, stage: CtStage) -> Msec {
        let policy = self.0.get(usize::from(policy)).unwrap_or(&self.0[0]);
        Msec::from(policy[stage as usize].load(Ordering::Relaxed)) * 1000
    }

    /// Sets a policy; false if there is no such number.
    #[must_use]
    pub fn set(&self, policy: u32, seconds: &[Option<u32>; CT_STAGES.len()]) -> bool {
        let Some(policy) = usize::try_from(policy).ok().and_then(|p| self.0.get(p)) else {
            return false;
        };
        for ((to, seconds), (_, _, default)) in policy.iter().zip(seconds).zip(CT_STAGES) {
            to.store(seconds.unwrap_or(default).min(SECONDS_MAX), Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_admit_up_to_their_limit() {
        let zones = Zones::default();
        assert!((0..5).all(|_| zones.admit(3)));
        zones.set_default(Some(2));
        zones.set(3, Some(6));
        assert!(zones.admit(3) && !zones.admit(3));
        assert!(zones.admit(9) && zones.admit(9) && !zones.admit(9));
        zones.release(9);
        assert!(zones.admit(9));
        assert_eq!(zones.of(3), CtLimit { zone: 3, limit: 6, count: 6 });
        assert_eq!(zones.limited(), [zones.of(3)]);
        assert!(zones.set(3, None) && !zones.set(3, None));
        zones.set_default(Some(0));
        assert!((0..5).all(|_| zones.admit(9)), "0 is no limit");
    }

    /// Threads that come and go at the limit see it kept at every moment.
    #[test]
    fn a_zone_never_has_more_than_its_limit() {
        const LIMIT: u32 = 1;
        let zones = Zones::default();
        zones.set(3, Some(LIMIT));
        let come_and_go = || {
            for _ in 0..200_000 {
                if zones.admit(3) {
                    assert!(zones.of(3).count <= LIMIT);
                    zones.release(3);
                }
            }
        };
        std::thread::scope(|s| (0..4).for_each(|_| drop(s.spawn(come_and_go))));
        assert!(zones.admit(3));
        zones.release(3);
        assert_eq!(zones.of(3).count, 0);
    }

    #[test]
    fn policies() {
        let policies = Policies::default();
        assert_eq!(policies.timeout_ms(0, CtStage::UdpFirst), 60_000);
        let mut seconds = [None; CT_STAGES.len()];
        seconds[CtStage::UdpFirst as usize] = Some(7);
        assert!(policies.set(5, &seconds) && !policies.set(70_000, &seconds));
        assert_eq!(policies.timeout_ms(5, CtStage::UdpFirst), 7000);
        assert_eq!(policies.timeout_ms(5, CtStage::UdpSingle), 60_000);
        assert_eq!(policies.timeout_ms(u16::MAX, CtStage::UdpFirst), 60_000, "unknown ones are the default");
        for (i, row) in CT_STAGES.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
        }
    }
}
