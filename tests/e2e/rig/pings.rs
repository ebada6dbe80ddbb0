//! Pings that go on while something else happens.

use super::{Container, Running, number_after};
use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Stdio};

/// A container that pings another, [`Pings::COUNT`] times.
#[derive(Debug)]
pub(crate) struct Pings {
    running: Running,
    out: BufReader<ChildStdout>,
}

impl Pings {
    pub(crate) const COUNT: u64 = 600;

    /// Starts them; returns when the first is answered, so that what happens from then on finds them under way.
    pub(crate) fn start(from: &Container, target: &str) -> Self {
        let mut command = from.ns.command("ping");
        command.args(["-c", &Self::COUNT.to_string(), "-i", "0.005", "-W", "2", target]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let running = Running(child);
        let mut line = String::new();
        while !line.contains(" bytes from ") {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "no ping to {target} is answered");
        }
        Self { running, out }
    }

    pub(crate) fn go_on(&mut self) -> bool {
        self.running.0.try_wait().unwrap().is_none()
    }

    /// Waits for the last; how many were answered.
    pub(crate) fn answered(mut self) -> u64 {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        number_after(&text, "transmitted, ").unwrap_or_else(|| panic!("{text}"))
    }
}
