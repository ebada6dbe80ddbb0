//! `cfm/show` and the `cfm_*` columns of Interface.

use super::{Session, fault};
use flow::Msec;
use std::fmt::Write;

/// What the database tells of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    pub faults: Vec<&'static str>,
    pub flap_count: u64,
    pub health: Option<u8>,
    pub remote_mpids: Vec<u64>,
    pub remote_opup: Option<bool>,
}

impl Session {
    /// The columns.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            faults: fault::names(self.faults()).collect(),
            flap_count: self.flap_count,
            health: self.health,
            remote_mpids: self.heard.clone(),
            remote_opup: self.remote_opup(),
        }
    }

    /// The lines of `cfm/show`.
    #[must_use]
    pub fn details(&self, now: Msec) -> String {
        let state = |up| if up { "up" } else { "down" };
        let mut out = format!("---- {} ----\n", self.name);
        let extended = if self.settings.extended { " extended" } else { "" };
        let overridden = if self.fault_override.is_some() { " fault_override" } else { "" };
        let mut put = |text: String| writeln!(out, "{text}").expect("a String takes everything");
        put(format!("MPID {}:{extended}{overridden}", self.settings.mpid));
        if self.faults() != 0 {
            put(format!("  fault: {}", fault::names(self.faults()).collect::<Vec<_>>().join(" ")));
        }
        put(format!("  average health: {}", self.health.map_or_else(|| "undefined".to_owned(), |h| h.to_string())));
        put(format!("  opstate: {}", state(self.settings.opup)));
        put(format!("  remote_opstate: {}", state(self.remote_opup)));
        put(format!("  interval: {}ms", self.interval_ms));
        put(format!("  next CCM tx: {}ms", self.tx_ms - now));
        put(format!("  next fault check: {}ms", self.check_ms - now));
        for (mpid, remote) in &self.remotes {
            put(format!("Remote MPID {mpid}"));
            put(format!("  recv since check: {}", remote.heard));
            put(format!("  opstate: {}", state(remote.opup)));
        }
        out
    }
}
