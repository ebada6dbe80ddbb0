//! When a port's device that is missing is tried again.
//!
//! What enters: time, and that something is told of the device. What leaves: that it is to be tried now. Neighbour: `ports`.

use flow::clock::Msec;

/// How often a vanished device is tried again without an event that tells of it, and a subscription to events that is missing.
pub(crate) const RETRY_MS: Msec = 1_000;
/// The least time between two attempts, whatever is told: to try a device may itself be something that the kernel tells of it.
const HEARD_MS: Msec = 100;

/// When a device that is missing is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retry {
    tried_ms: Msec,
    due_ms: Msec,
}

impl Retry {
    /// The device is not there at the moment.
    pub(crate) fn later(&mut self, now_ms: Msec) {
        self.due_ms = now_ms + RETRY_MS;
    }

    /// Something is told of a device of its name.
    pub(crate) fn heard(&mut self) {
        self.due_ms = self.due_ms.min(self.tried_ms + HEARD_MS);
    }

    /// Whether it is to be tried now.
    pub(crate) fn take(&mut self, now_ms: Msec) -> bool {
        let is_due = now_ms >= self.due_ms;
        if is_due {
            self.tried_ms = now_ms;
            self.later(now_ms);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_told_of_is_tried_at_once_but_not_without_end() {
        let mut retry = Retry::default();
        retry.later(5_000);
        assert!(!retry.take(5_500));
        retry.heard();
        assert!(retry.take(5_500) && !retry.take(5_500));
        // What the attempt itself has made the kernel tell is remembered.
        retry.heard();
        assert!(!retry.take(5_599) && retry.take(5_600));
        assert!(!retry.take(6_599) && retry.take(6_600));
    }
}
