//! The slow path: bridges, OpenFlow tables, classification, translation into megaflows, groups, upcalls, revalidation and
//! OpenFlow connections. It sees one datapath (through the seam in `flow`) and knows of no hardware.
#![forbid(unsafe_code)]

/// The release of Open vSwitch whose behaviour and numbers we keep to; told to peers that ask for a version.
pub const OVS_VERSION: &str = "3.7.1";

pub mod bridge;
pub mod classifier;
pub mod commands;
pub mod config;
pub mod conn;
pub mod deps;
pub mod effects;
pub mod flow_mod;
pub mod group;
mod learned;
pub mod mac;
#[cfg(test)]
mod memory_dp;
pub mod meter;
pub mod mirror;
pub mod neigh;
#[cfg(test)]
mod property;
pub mod recirc;
pub mod router;
pub mod rule;
#[cfg(test)]
mod scenario;
pub mod slowpath;
pub mod table;
pub mod tunnel;
pub mod udpif;
pub mod world;
pub mod xlate;
