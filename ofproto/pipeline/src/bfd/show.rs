//! `bfd/show` and `Interface.bfd_status`.

use super::Session;
use super::wire::flags;
use flow::Msec;
use std::fmt::Write;

/// Names of flags, in the order in which they are told.
const FLAGS: [(u8, &str); 6] = [
    (flags::MULTIPOINT, "multipoint"),
    (flags::DEMAND, "demand"),
    (flags::AUTH, "auth"),
    (flags::CTL, "ctl"),
    (flags::FINAL, "final"),
    (flags::POLL, "poll"),
];

fn names(flags: u8) -> String {
    let set: Vec<&str> = FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(" ") }
}

impl Session {
    /// The columns of `Interface.bfd_status`.
    pub fn status(&mut self, now: Msec) -> Vec<(String, String)> {
        let forwarding = self.is_forwarding(now).to_string();
        let pairs = [
            ("forwarding", forwarding),
            ("state", self.state.name().to_owned()),
            ("diagnostic", self.diag.name().to_owned()),
            ("flap_count", self.flap_count.to_string()),
            ("remote_state", self.remote.state.name().to_owned()),
            ("remote_diagnostic", self.remote.diag.name().to_owned()),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// The lines of `bfd/show`.
    pub fn details(&mut self, now: Msec) -> String {
        let forwarding = self.is_forwarding(now);
        let Self { settings, remote, .. } = &*self;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(out, "  {name}: {value}").expect("a String takes everything");
        };
        let from_now = |at: Msec| format!("now {:+}ms", at - now);
        line("Forwarding", forwarding.to_string());
        line("Detect Multiplier", settings.mult.to_string());
        line("Concatenated Path Down", settings.cpath_down.to_string());
        line("TX Interval", format!("Approx {}ms", self.tx_interval_ms()));
        line("RX Interval", format!("Approx {}ms", self.rx_interval_ms()));
        line("Detect Time", from_now(self.detect_ms));
        line("Next TX Time", from_now(self.next_tx_ms));
        line("Last TX Time", from_now(self.last_tx_ms));
        out.push('\n');
        let mut line = |name: &str, value: String| {
            writeln!(out, "  Local {name}: {value}").expect("a String takes everything");
        };
        line("Flags", names(self.flags));
        line("Session State", self.state.name().to_owned());
        line("Diagnostic", self.diag.name().to_owned());
        line("Discriminator", format!("{:#x}", self.disc));
        line("Minimum TX Interval", format!("{}ms", self.tx_floor_ms()));
        line("Minimum RX Interval", format!("{}ms", self.min_rx_ms));
        out.push('\n');
        let mut line = |name: &str, value: String| {
            writeln!(out, "  Remote {name}: {value}").expect("a String takes everything");
        };
        line("Flags", names(remote.flags));
        line("Session State", remote.state.name().to_owned());
        line("Diagnostic", remote.diag.name().to_owned());
        line("Discriminator", format!("{:#x}", remote.disc));
        line("Minimum TX Interval", format!("{}ms", remote.min_tx_ms));
        line("Minimum RX Interval", format!("{}ms", remote.min_rx_ms));
        line("Detect Multiplier", self.remote_mult.to_string());
        out
    }
}
