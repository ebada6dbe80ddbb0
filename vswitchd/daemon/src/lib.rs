//! The daemon `ovs-vswitchd`: the only room that wires. The command line (`options`), the life of a daemon process (`daemonize`,
//! `pidfile`, `signals`), the log (`vlog`), the control socket (`unixctl`, `commands`) and the main loop (`daemon`) which turns what the
//! database says into what the switch does.
//!
//! `start::main` tells the story from first word to last.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod commands;
pub mod coverage;
pub mod daemon;
pub mod daemonize;
pub mod database;
pub mod datapaths;
pub mod eswitch_model;
pub mod links;
pub mod offload;
pub mod options;
pub mod pidfile;
pub mod routes;
pub mod signals;
pub mod socket;
pub mod start;
pub mod switch;
pub mod unixctl;
pub mod usage;
pub mod user;
pub mod vlog;

/// Threads whose names begin so do the main thread's work, and log as it does.
pub const RUNTIME_THREAD: &str = "runtime";

/// The text of a system error, as strerror(3) and all of OVS's messages have it.
pub fn errno_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}
