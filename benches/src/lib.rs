//! The bench harness: what one forwarding core does, beside the processor's limit and beside OVS-DPDK.
//!
//! What enters: a choice of scenarios. What leaves: a table, `target/bench/latest.json`, a curve in `docs/bench/`. Neighbours: the
//! daemon's release build, which it runs as an operator would (database, ovs-vsctl, ovs-ofctl, `memory` ports); Debian's OVS-DPDK when asked for.
//!
//! # How it is fair
//!
//! - Both sides run at once, each with its bridges, rules and ports; all but one are stopped by a signal, and they take turns on the
//!   same core: A B A B. The ratio of a pair is one sample; the median of the ratios is what is reported.
//! - The same pcap files and the same rules through the same ovs-ofctl for both. Each source copies a frame into a buffer of the
//!   switch's own pool for every packet, as a driver would; each sink frees.
//! - Received packets are counted. A turn in which the forwarding thread had to wait for its core is measured again.
//!
//! # A new scenario
//!
//! Add a row to [`scenario::ALL`]: a name, sizes, the traffic, and how the bridges are built. `build` gets a [`side::Side`] whose
//! `vsctl`, `add_flows`, `source` and `sink` mean the same on either side, so most scenarios need no word about which side they run on.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures the wall clock")]

pub mod curve;
pub mod error;
pub mod lab;
pub mod measure;
pub mod parts;
pub mod peer;
pub mod process;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod side;
pub mod traffic;
pub mod unixctl;

pub use error::BenchError;
