//! The main loop: one task that owns the switch's configuration side. Everything that happens to it (a control command, a change of
//! the database, a signal, a point in time) is one event; after each, `run` brings the switch to rest.

use crate::commands;
use crate::coverage::{self, Coverage};
use crate::options::Options;
use crate::signals::Signals;
use crate::unixctl::{Registry, Reply, Request, Server};
use crate::vlog::Log;
use flow::Msec;
use flow::clock::clock;
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep of an idle loop; nothing depends on it.
const IDLE_MS: Msec = 60_000;

/// The state that control commands see and change.
#[derive(Debug)]
pub struct Daemon {
    pub options: Options,
    pub log: Arc<Log>,
    pub coverage: Coverage,
    /// Asked to end; with it whether to remove what outlives the process.
    pub exit: Option<Exit>,
    pub warp: Option<Warp>,
}

/// How to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Remove datapath ports and flows that would otherwise outlive the process.
    pub cleanup: bool,
    pub signal: Option<Signal>,
}

/// A `time/warp` under way: the clock leaps by `step_ms` at a time, with a pass of the loop after each leap.
#[derive(Debug)]
pub struct Warp {
    pub left_ms: Msec,
    pub step_ms: Msec,
    pub reply: Reply,
}

/// What the main loop listens to.
#[derive(Debug)]
pub struct Sources {
    pub control: Option<Server>,
    pub signals: Signals,
}

impl Daemon {
    /// A daemon that has configured nothing yet.
    pub fn new(options: Options, log: Arc<Log>) -> Self {
        Self { options, log, coverage: Coverage::default(), exit: None, warp: None }
    }

    /// One pass: everything that is due is done. Returns when the next thing is due.
    fn run(&mut self, now: Msec) -> Msec {
        let next = self.coverage.run(now, &coverage::counts());
        next.min(now + IDLE_MS)
    }

    /// The text of `memory/show`: how many of each kind of object there are.
    pub fn memory(&self) -> String {
        String::new()
    }

    /// One leap of a warp; true while it goes on.
    fn leap(&mut self) -> bool {
        let Some(mut warp) = self.warp.take() else { return false };
        let step = warp.step_ms.min(warp.left_ms);
        clock().warp(step);
        warp.left_ms -= step;
        if warp.left_ms > 0 {
            self.warp = Some(warp);
            return true;
        }
        warp.reply.send(Ok("warped".into()));
        false
    }
}

/// Runs until told to end.
pub async fn run(mut daemon: Daemon, mut sources: Sources, mut ready: impl FnMut()) -> Exit {
    let registry = Registry::new(&commands::rooms(daemon.options.dummy.is_some()));
    loop {
        let now = clock().now_ms();
        let next = daemon.run(now);
        ready();
        if let Some(exit) = daemon.exit {
            if let Some(control) = sources.control.take() {
                control.finish().await;
            }
            return exit;
        }
        if daemon.warp.is_some() {
            // The other threads get to see each point in time, too.
            tokio::time::sleep(Duration::from_millis(1)).await;
            daemon.leap();
            continue;
        }
        tokio::select! {
            request = next_request(&mut sources.control) => answer(&registry, &mut daemon, request),
            signal = sources.signals.next() => {
                let name = crate::daemonize::signal_name(signal as i32);
                tracing::warn!(target: "fatal_signal", "terminating with signal {} ({name})", signal as i32);
                daemon.exit = Some(Exit { cleanup: false, signal: Some(signal) });
            }
            () = until(now, next) => {}
        }
    }
}

async fn next_request(control: &mut Option<Server>) -> Option<Request> {
    match control {
        Some(server) => server.next().await,
        None => std::future::pending().await,
    }
}

fn answer(registry: &Registry<Daemon>, daemon: &mut Daemon, request: Option<Request>) {
    if let Some(Request { method, params, reply }) = request {
        if method == "list-commands" && params.is_empty() {
            reply.send(Ok(registry.list()));
        } else {
            registry.dispatch(daemon, &method, &params, reply);
        }
    }
}

/// Sleeps for as long as the clock needs to come to `next`; a stopped clock gets there by warps only, which end the sleep themselves.
async fn until(now: Msec, next: Msec) {
    if clock().is_stopped() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(u64::try_from(next - now).unwrap_or(0))).await;
}
