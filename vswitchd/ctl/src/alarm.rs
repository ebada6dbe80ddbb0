//! The time limit of a tool (`--timeout`, `OVS_CTL_TIMEOUT`). As in OVS its end is death by SIGALRM, which a shell reports as 142.

use crate::console::{Io, log_line};
use crate::fault::Fault;
use crate::process::vlog::levels::Level;
use nix::sys::signal::{Signal, raise};
use std::io::Write as _;
use std::time::Duration;

/// Limits the life of this process to `option` seconds, or else to those of `OVS_CTL_TIMEOUT`; 0 is no limit.
///
/// # Errors
/// `option` is no number of seconds: then `complaint` with the value for `%s`.
pub fn set(io: &Io<'_>, option: Option<&str>, complaint: &str) -> Result<(), Fault> {
    if let Some(limit) = limit(option, complaint)? {
        let pattern = io.pattern.clone();
        let wait = move || {
            std::thread::sleep(limit);
            ring(&pattern);
        };
        std::thread::Builder::new().name("alarm".into()).spawn(wait).map_err(Fault::Output)?;
    }
    Ok(())
}

/// The limit, if there is one.
///
/// # Errors
/// As `set`.
pub fn limit(option: Option<&str>, complaint: &str) -> Result<Option<Duration>, Fault> {
    let seconds = match option {
        Some(text) => text.parse::<u64>().map_err(|_| Fault::say(complaint.replace("%s", text)))?,
        None => std::env::var("OVS_CTL_TIMEOUT").ok().and_then(|t| t.parse().ok()).unwrap_or(0),
    };
    Ok((seconds != 0).then(|| Duration::from_secs(seconds)))
}

/// Dies of the alarm, and says so.
pub fn ring(pattern: &str) {
    let line = log_line(pattern, 1, (Level::Warn, "fatal_signal"), "terminating with signal 14 (Alarm clock)");
    // Death comes next, heard or not.
    drop(writeln!(std::io::stderr(), "{line}"));
    let _ = raise(Signal::SIGALRM);
}
