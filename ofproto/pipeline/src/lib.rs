//! The slow path: bridges, OpenFlow tables, classification, translation into megaflows, groups, upcalls, revalidation and
//! OpenFlow connections. It sees one datapath (through the seam in `flow`) and knows of no hardware.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod classifier;
pub mod config;
pub mod deps;
pub mod effects;
#[cfg(test)]
mod memory_dp;
pub mod recirc;
pub mod rule;
pub mod slowpath;
pub mod table;
pub mod udpif;
pub mod world;
