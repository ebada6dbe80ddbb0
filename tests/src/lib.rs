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
    fn a_command_that_waits_in_vain_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        // The second process keeps the first one's output open, as a daemon does that did not leave its terminal.
        let in_vain = |limit_ms| {
            let mut command = sh("sleep 1000 & echo $! > \"$1\"");
            drop(output_within(command.args(["sh".as_ref(), file.as_os_str()]), Duration::from_millis(limit_ms)));
        };
        // Long enough for the shell to have come to its second command.
        let pid = (0..16).find_map(|n| {
            let panicked = std::panic::catch_unwind(|| in_vain(50 << n)).unwrap_err();
            let said = panicked.downcast_ref::<String>().unwrap();
            assert!(said.contains("not through after"), "{said}");
            std::fs::read_to_string(&file).ok()?.strip_suffix('\n').map(str::to_owned)
        });
        // No process of its group is left, but for what nobody has buried.
        let stat = format!("/proc/{}/stat", pid.unwrap());
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::yield_now();
        }
    }
}
