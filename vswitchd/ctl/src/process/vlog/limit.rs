//! Rate limits of messages: one token bucket per call site. A message asks for it with the fields `rl` (messages per minute) and,
//! if it differs, `burst`: `tracing::warn!(target: "vconn", rl = 600, burst = 600, "...")`. Pure.

use flow::Msec;

/// What it costs to log once, in tokens; `rate` tokens come back per millisecond, so that `rate` means messages per minute.
const COST: u64 = 60_000;

/// The bucket of one call site.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: u64,
    burst: u64,
    tokens: u64,
    filled_ms: Msec,
    dropped: Option<Dropped>,
}

#[derive(Clone, Debug)]
struct Dropped {
    count: u64,
    first_ms: Msec,
    last_ms: Msec,
}

/// Whether a message may go out.
#[derive(PartialEq, Eq, Debug)]
pub enum Verdict {
    Drop,
    /// It may, and the messages dropped before it are to be confessed first.
    Pass(Option<String>),
}

impl Bucket {
    /// A full bucket. `rate` is messages per minute, `burst` how many may go out at once.
    pub fn new(rate: u64, burst: u64, now: Msec) -> Self {
        let burst = burst.max(1);
        Self { rate: rate.max(1), burst, tokens: burst.saturating_mul(COST), filled_ms: now, dropped: None }
    }

    /// Accounts for one message at `now`.
    pub fn ask(&mut self, now: Msec) -> Verdict {
        let elapsed = u64::try_from(now.saturating_sub(self.filled_ms)).unwrap_or(0);
        self.filled_ms = now;
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(self.rate)).min(self.burst.saturating_mul(COST));
        if self.tokens < COST {
            let dropped = self.dropped.get_or_insert(Dropped { count: 0, first_ms: now, last_ms: now });
            dropped.count += 1;
            dropped.last_ms = now;
            return Verdict::Drop;
        }
        self.tokens -= COST;
        Verdict::Pass(self.dropped.take().map(|d| {
            format!(
                "Dropped {} log messages in last {} seconds (most recently, {} seconds ago) due to excessive rate",
                d.count,
                (now - d.first_ms) / 1000,
                (now - d.last_ms) / 1000
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_then_the_confession() {
        let mut bucket = Bucket::new(1, 5, 1000);
        for _ in 0..5 {
            assert_eq!(bucket.ask(1000), Verdict::Pass(None));
        }
        assert_eq!(bucket.ask(1000), Verdict::Drop);
        assert_eq!(bucket.ask(31_000), Verdict::Drop);
        let confession = "Dropped 2 log messages in last 60 seconds (most recently, 30 seconds ago) due to excessive rate";
        assert_eq!(bucket.ask(61_000), Verdict::Pass(Some(confession.into())));
        assert_eq!(bucket.ask(61_000), Verdict::Drop);
    }
}
