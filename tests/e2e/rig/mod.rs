//! What the tests stand on: hosts (a namespace with a switch in it), containers (namespaces attached by veth), commands, waiting, frames,
//! pings, an OpenFlow connection by bytes, OVN.

mod frames;
mod host;
mod namespace;
pub(crate) mod ovn;
mod pings;
mod wire;

pub(crate) use frames::{Sniffer, hex, udp_frame, udp_frame_of, vlan_tagged};
pub(crate) use host::{Db, Host, Setup, binary, is_alive, is_stock};
pub(crate) use namespace::{Container, Namespace};
pub(crate) use pings::Pings;
pub(crate) use wire::{
    ECHO_REPLY, ECHO_REQUEST, FEATURES_REPLY, FEATURES_REQUEST, FLOW_MOD, FLOW_REMOVED, PACKET_IN, PORT_STATUS,
};
pub(crate) use wire::{Message, Wire};

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything that is bound to happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds, for as long as [`PATIENCE`].
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_for(what, PATIENCE, condition);
}

/// Waits until `condition` holds; panics with `what` when it takes longer than `limit`.
pub(crate) fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {} s in vain: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a command that has ended left.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = tests::output(command);
    Ran {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs a command that has to succeed; its standard output.
pub(crate) fn must(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let ran = run(command);
    assert_eq!(ran.code, 0, "{shown}: {}{}", ran.out, ran.err);
    ran.out
}

/// `text` has to contain each of `parts`.
#[track_caller]
pub(crate) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// `text` may contain none of `parts`.
#[track_caller]
pub(crate) fn assert_lacks(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(!text.contains(part), "{part:?} should not be in:\n{text}");
    }
}

/// The number that follows `label` in `text`, at its first occurrence.
pub(crate) fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = &text[text.find(label)? + label.len()..];
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The first line that contains all of `parts`.
pub(crate) fn line_with<'t>(text: &'t str, parts: &[&str]) -> Option<&'t str> {
    text.lines().find(|l| parts.iter().all(|p| l.contains(p)))
}

/// A process that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) std::process::Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{shown}: {e}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, which: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    let _ = nix::sys::signal::kill(pid, which);
}
