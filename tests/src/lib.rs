//! Tests of the whole house: the tidy rules, the end-to-end scripts (`e2e/`), OVS's own suite (`upstream/`), the demonstration
//! (`demo/`). Tests of one room live in that room's crate; what those of several rooms stand on is here.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a test ends by it")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// No command of a test takes longer, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a command to its end, and to the end of what it writes, which is when the last process that it left behind has closed it.
///
/// # Panics
/// When it cannot be started, or is not through after five minutes: then it is killed, so that a test that waits in vain fails and
/// the others have their turn.
#[must_use]
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    output_within(command, LIMIT)
}

#[track_caller]
fn output_within(command: &mut Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap_or_else(|e| panic!("{shown}: {e}"));
    let group = child.id();
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    match hear.recv_timeout(limit) {
        Ok(output) => output.unwrap_or_else(|e| panic!("{shown}: {e}")),
        Err(_) => {
            let killed = Command::new("kill").args(["-9", "--", &format!("-{group}")]).status();
            panic!("{shown}: not through after {} s (kill: {killed:?})", limit.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(words: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", words]);
        command
    }

    #[test]
    fn what_a_command_leaves_is_all_there() {
        let Output { status, stdout, stderr } = output(&mut sh("echo out; echo err >&2; exit 3"));
        assert_eq!((status.code(), &stdout[..], &stderr[..]), (Some(3), &b"out\n"[..], &b"err\n"[..]));
    }

    #[test]
    #[should_panic(expected = "not through after 0 s")]
    fn a_command_that_waits_in_vain_is_not_waited_for() {
        // The second process keeps the first one's output open, as a daemon does that did not leave its terminal.
        drop(output_within(&mut sh("sleep 1000 & echo"), Duration::from_millis(50)));
    }
}
