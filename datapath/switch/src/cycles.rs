//! Processor cycles: what workers account their time in.
//!
//! What leaves: the time stamp counter, and how fast it runs. It counts at one rate on all cores of a machine (invariant TSC). Elsewhere
//! than on x86-64 nanoseconds stand for cycles.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The counter now.
#[inline]
#[must_use]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads a counter, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    u64::try_from(begin().0.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::disallowed_methods, reason = "the rate of a counter is found by a clock that nobody warps")]
fn begin() -> &'static (Instant, u64) {
    static BEGIN: OnceLock<(Instant, u64)> = OnceLock::new();
    BEGIN.get_or_init(|| {
        let at = Instant::now();
        #[cfg(target_arch = "x86_64")]
        let count = now();
        #[cfg(not(target_arch = "x86_64"))]
        let count = 0;
        (at, count)
    })
}

/// Cycles per second, as seen since the first call; the longer ago that was, the better. The first caller waits for ten milliseconds.
#[must_use]
pub fn hz() -> f64 {
    const LEAST_S: f64 = 0.01;
    let (at, count) = begin();
    if at.elapsed().as_secs_f64() < LEAST_S {
        std::thread::sleep(Duration::from_secs_f64(LEAST_S));
    }
    let (passed, cycles) = (at.elapsed().as_secs_f64(), now().wrapping_sub(*count));
    #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact to the last of 53 bits")]
    let cycles = cycles as f64;
    cycles / passed
}

/// How long so many cycles take.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "nobody waits for 2^52 cycles")]
pub fn duration(cycles: u64) -> Duration {
    Duration::try_from_secs_f64(cycles as f64 / hz()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_runs() {
        let before = now();
        let hz = hz();
        assert!(now() > before && hz > 1e6, "{hz}");
    }
}
