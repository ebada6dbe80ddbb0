//! The test clock: `time/stop` and `time/warp`. They exist only with `--enable-dummy`.

use crate::daemon::{Daemon, Warp};
use crate::unixctl::{Command, Reply};
use flow::Msec;
use flow::clock::clock;

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("time/stop", Some(""), (0, 0), |_, _| {
        clock().stop();
        Ok(String::new())
    }),
    Command::later("time/warp", Some("[large_msecs] msecs"), (1, 2), warp),
];

/// `time/warp MSECS` leaps once; `time/warp LARGE MSECS` goes LARGE in leaps of MSECS, with a pass of the loop after each.
fn warp(daemon: &mut Daemon, args: &[String], reply: Reply) {
    let msecs = |text: &String| text.parse::<Msec>().ok().filter(|ms| *ms > 0);
    match (msecs(&args[0]), args.get(1).map_or_else(|| msecs(&args[0]), msecs)) {
        (Some(left_ms), Some(step_ms)) => daemon.warp = Some(Warp { left_ms, step_ms, reply }),
        (_, None) | (None, _) => reply.send(Err("invalid MSECS".into())),
    }
}
