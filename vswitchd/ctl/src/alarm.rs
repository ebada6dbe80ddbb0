//! The time limit of a tool (`--timeout`, `OVS_CTL_TIMEOUT`). As in OVS its end is death by SIGALRM, which a shell reports as 142.

use crate::fault::Fault;
use nix::sys::signal::{Signal, raise};
use std::io::Write as _;
use std::time::Duration;

/// Limits the life of this process to `option` seconds, or else to those of `OVS_CTL_TIMEOUT`; 0 is no limit.
///
/// # Errors
/// `option` is no number of seconds.
pub fn set(option: Option<&str>, complaint: &str) -> Result<(), Fault> {
    let seconds = match option {
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| Fault::say(complaint.replace("%s", text)))?,
        None => std::env::var("OVS_CTL_TIMEOUT")
            .ok()
            .and_then(|t| t.parse().ok())
            .unwrap_or(0),
    };
    if seconds != 0 {
        std::thread::Builder::new()
            .name("alarm".into())
            .spawn(move || ring(seconds))
            .map_err(Fault::Output)?;
    }
    Ok(())
}

fn ring(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    // Death comes next, heard or not.
    drop(writeln!(
        std::io::stderr(),
        "{now}|00001|fatal_signal|WARN|terminating with signal 14 (Alarm clock)"
    ));
    let _ = raise(Signal::SIGALRM);
}
