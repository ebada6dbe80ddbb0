//! How many flow-mods a connection has sent, for the log: one line when it ends, or a while after the first of many.
//!
//! What enters: commands that were done, time. What leaves: the line. Pure.

use flow::Msec;
use openflow::message::FlowModCommand;

/// From the first flow-mod to the line that counts it and those after it.
const GATHER_MS: Msec = 10_000;
/// From one line to the next, at least.
const BACKOFF_MS: Msec = 60_000;

/// Flow-mods since the last line.
#[derive(Debug, Default)]
pub struct FlowModTally {
    adds: u32,
    deletes: u32,
    modifications: u32,
    first_ms: Msec,
    last_ms: Msec,
    report_ms: Option<Msec>,
    backoff_ms: Msec,
}

impl FlowModTally {
    /// Counts one that was done.
    pub fn note(&mut self, command: FlowModCommand, now: Msec) {
        match command {
            FlowModCommand::Add => self.adds += 1,
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => self.modifications += 1,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict => self.deletes += 1,
        }
        if self.report_ms.is_none() {
            let at = (now + GATHER_MS).max(self.backoff_ms);
            self.first_ms = now;
            self.report_ms = Some(at);
            self.backoff_ms = at + BACKOFF_MS;
        }
        self.last_ms = now;
    }

    /// Whether it is time for a line.
    #[must_use]
    pub fn is_due(&self, now: Msec) -> bool {
        self.report_ms.is_some_and(|at| now >= at)
    }

    /// The line, if there was anything; counting begins anew.
    pub fn take(&mut self, now: Msec) -> Option<String> {
        self.report_ms.take()?;
        let ago_s = (now - self.first_ms) / 1000;
        let took_s = (self.last_ms - self.first_ms) / 1000;
        let when = if took_s == ago_s {
            format!("in the last {ago_s} s")
        } else if took_s > 0 {
            format!("in the {took_s} s starting {ago_s} s ago")
        } else {
            format!("{ago_s} s ago")
        };
        let counts = [(&mut self.adds, "adds"), (&mut self.deletes, "deletes"), (&mut self.modifications, "modifications")];
        let mut all = 0;
        let mut parts = Vec::new();
        for (count, name) in counts {
            let n = std::mem::take(count);
            all += n;
            if n > 0 {
                parts.push(format!("{n} {name}"));
            }
        }
        Some(format!("{all} flow_mods {when} ({})", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_many_and_when() {
        let mut t = FlowModTally::default();
        assert_eq!(t.take(0), None);
        t.note(FlowModCommand::Add, 1000);
        t.note(FlowModCommand::DeleteStrict, 1500);
        assert!(!t.is_due(10_999) && t.is_due(11_000));
        assert_eq!(t.take(1900).as_deref(), Some("2 flow_mods in the last 0 s (1 adds, 1 deletes)"));
        t.note(FlowModCommand::Modify, 2000);
        assert!(!t.is_due(60_000), "not more often than each minute");
        assert_eq!(t.take(9000).as_deref(), Some("1 flow_mods 7 s ago (1 modifications)"));
        t.note(FlowModCommand::Add, 10_000);
        t.note(FlowModCommand::Add, 13_000);
        assert_eq!(t.take(20_000).as_deref(), Some("2 flow_mods in the 3 s starting 10 s ago (2 adds)"));
    }
}
