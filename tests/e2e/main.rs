//! The whole house, end to end: the daemon of the release build, driven by Debian's unmodified tools, with packets between network
//! namespaces. Each test owns a [`rig::Host`]: a network namespace and a run folder, so that tests run side by side.
//!
//! Started by `run.sh` beside this file, which says what the environment may set.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, to panic is to speak")]
#![allow(clippy::disallowed_methods, reason = "tests measure other processes in real time")]

mod rig;

mod agents;
mod alike;
mod appctl;
mod barrier;
mod cluster;
mod configuration;
mod controllers;
mod crash;
mod database;
mod devices;
mod expiry;
mod flapping;
mod floods;
mod forwarding;
mod host_tunnels;
mod hostile;
mod idle;
mod links;
mod ofctl;
mod ofctl_rest;
mod ovn;
mod ovn_gateways;
mod ovn_services;
mod package;
mod python_controllers;
mod python_database;
mod qos;
mod queues;
mod readme;
mod replace;
mod scripts;
mod tls;
mod transfer;
mod tunnels;
