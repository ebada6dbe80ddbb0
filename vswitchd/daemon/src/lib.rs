//! The daemon `ovs-vswitchd`: the only room that wires. The command line (`options`), the control commands (`commands`) and the main
//! loop (`daemon`) which turns what the database says into what the switch does. The life of a daemon process, the log and the control
//! socket are those of all our daemons (`ctl::process`).
//!
//! `start::main` tells the story from first word to last.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod commands;
pub mod coverage;
pub mod daemon;
pub mod database;
pub mod datapaths;
pub mod eswitch_model;
pub mod host;
pub mod links;
pub mod offload;
pub mod options;
pub mod routes;
pub mod start;
pub mod switch;
pub mod usage;

pub use ctl::fault::errno_text;
pub use ctl::process::{RUNTIME_THREAD, daemonize, pidfile, signals, socket, unixctl, user, vlog};
