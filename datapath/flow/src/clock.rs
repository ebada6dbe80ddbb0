//! The one clock. Deciding code gets `Msec` as an argument; loops read it here. Tests stop and warp it (`time/stop`, `time/warp`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of the monotonic clock since the process began, plus one hour (so that 0 can mean "never").
pub type Msec = i64;

const START_MS: i64 = 3_600_000;

/// A clock that can be stopped and warped. Use `clock()` for the process's own.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    warped_ms: AtomicI64,
    stopped: AtomicBool,
    stopped_at_ms: AtomicI64,
}

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// The process's clock.
pub fn clock() -> &'static Clock {
    CLOCK.get_or_init(Clock::start)
}

/// Monotonic milliseconds now, by the process's clock.
pub fn now_ms() -> Msec {
    clock().now_ms()
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn start() -> Self {
        Self {
            start: Instant::now(),
            warped_ms: AtomicI64::new(0),
            stopped: AtomicBool::new(false),
            stopped_at_ms: AtomicI64::new(0),
        }
    }

    fn real_ms(&self) -> Msec {
        START_MS + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Monotonic milliseconds, warped or standing still if so told.
    pub fn now_ms(&self) -> Msec {
        let base = if self.stopped.load(Ordering::Acquire) { self.stopped_at_ms.load(Ordering::Acquire) } else { self.real_ms() };
        base + self.warped_ms.load(Ordering::Acquire)
    }

    /// Stands still until the process ends; only `warp` moves it.
    pub fn stop(&self) {
        self.stopped_at_ms.store(self.real_ms(), Ordering::Release);
        self.stopped.store(true, Ordering::Release);
    }

    /// Moves forward by `ms`.
    pub fn warp(&self, ms: i64) {
        self.warped_ms.fetch_add(ms, Ordering::AcqRel);
    }

    /// Whether `stop` was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Milliseconds since the Unix epoch, moved by the same warp.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn wall_ms(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        i64::try_from(real).unwrap_or(i64::MAX) + self.warped_ms.load(Ordering::Acquire)
    }
}
