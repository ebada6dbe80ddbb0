//! Termination signals as an event of the main loop. They are blocked in every thread and waited for by one; their disposition stays
//! the default: after cleaning up, the process unblocks the one it got and dies of it, which is what its parent sees.

use nix::sys::signal::{SigSet, Signal, raise};
use std::io;
use tokio::sync::mpsc;

/// SIGTERM, SIGINT and SIGHUP all end the daemon, as OVS's do (logs are reopened by `vlog/reopen`).
const FATAL: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
/// A fault that another process reports with kill(2) is to end this one as a fault of its own would: Rust's runtime handles the signal to
/// tell stack overflows, and survives the first. Blocked, a true fault still kills (signal(7)).
const FAULT: Signal = Signal::SIGSEGV;

fn fatal_set() -> SigSet {
    FATAL.into_iter().chain([FAULT]).collect()
}

/// The stream of termination signals.
#[derive(Debug)]
pub struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    /// Blocks them in this thread and all that it starts, and begins to wait; to be called before any other thread is started.
    /// # Errors
    /// As pthread_sigmask(3) and clone(2).
    pub fn listen() -> io::Result<Self> {
        fatal_set().thread_block()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        std::thread::Builder::new().name(format!("{}-signals", super::RUNTIME_THREAD)).spawn(move || {
            while let Ok(signal) = fatal_set().wait() {
                if signal == FAULT {
                    die_of(signal);
                }
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// Dies of the signal.
pub fn die_of(signal: Signal) {
    let _ = raise(signal);
    let _ = fatal_set().thread_unblock();
    // Only after a handled one.
    let _ = raise(signal);
}
