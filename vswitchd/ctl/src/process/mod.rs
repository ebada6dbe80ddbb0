//! The life of a daemon process, the same for all of ours: options (`options`), stages of detaching (`daemonize`), log (`vlog`),
//! pidfile, control socket (`unixctl`), signals, and the order in which they come and go (`life`).
//!
//! What enters: a command line, signals, control requests. What leaves: log lines, a pidfile, a socket, an exit code. `ovs-vswitchd`,
//! `ovsdb-server` live by it; so do tools that run on (`background`).

pub mod background;
pub mod commands;
pub mod daemonize;
pub mod life;
pub mod options;
pub mod pidfile;
pub mod signals;
pub mod socket;
pub mod tls;
pub mod unixctl;
pub mod user;
pub mod vlog;

pub use life::Process;
pub use options::{LogOption, ProcessId, ProcessOptions, Tls};

/// Threads whose names begin so do the main thread's work, and log as it does.
pub const RUNTIME_THREAD: &str = "runtime";
