//! What the model tells unasked: each change, to all who program it but whoever made it, by the same bytes as the kernel's.
//!
//! What enters: messages about changes, and who made them. What leaves: what somebody has not been told yet. Neighbour: `tc::news` (reads it).

use crate::tc::client::News;
use std::collections::BTreeMap;

/// Bytes that wait for one who does not ask.
const WAITING_MAX: usize = 1 << 20;

/// By the number of whoever listens.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<u32, News>);

impl Listeners {
    /// From now on somebody is told.
    pub(super) fn join(&mut self, who: u32) {
        self.0.entry(who).or_default();
    }

    pub(super) fn leave(&mut self, who: u32) {
        self.0.remove(&who);
    }

    /// Tells of what somebody did.
    pub(super) fn tell(&mut self, who: u32, messages: &[u8]) {
        for (_, news) in self.0.iter_mut().filter(|(listener, _)| **listener != who) {
            if news.bytes.len() + messages.len() <= WAITING_MAX {
                news.bytes.extend_from_slice(messages);
            } else {
                news.overrun = true;
            }
        }
    }

    /// What somebody has not been told yet.
    pub(super) fn take(&mut self, who: u32) -> News {
        self.0.get_mut(&who).map(std::mem::take).unwrap_or_default()
    }
}
