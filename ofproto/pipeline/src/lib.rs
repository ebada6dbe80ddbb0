//! The slow path: bridges, OpenFlow tables, classification, translation into megaflows, groups, upcalls, revalidation and
//! OpenFlow connections. It sees one datapath (through the seam in `flow`) and knows of no hardware.
#![forbid(unsafe_code)]

/// The release of Open vSwitch whose behaviour and numbers we keep to; told to peers that ask for a version.
pub const OVS_VERSION: &str = "3.7.1";

pub mod bfd;
pub mod bond;
pub mod bridge;
pub mod cfm;
pub mod classifier;
mod column;
pub mod commands;
pub mod config;
pub mod conn;
pub mod deps;
pub mod drops;
pub mod effects;
pub mod eviction;
pub mod export;
mod fair;
pub mod flow_mod;
pub mod group;
pub mod in_band;
pub mod internal;
pub mod lacp;
mod learned;
pub mod lldp;
pub mod mac;
pub mod mcast;
#[cfg(test)]
mod memory_dp;
pub mod meter;
pub mod mirror;
pub mod monitor;
pub mod neigh;
pub mod options;
#[cfg(test)]
mod property;
pub mod protocols;
pub mod recirc;
pub mod router;
pub mod rstp;
pub mod rule;
#[cfg(test)]
mod scenario;
pub mod slowpath;
pub mod stp;
pub mod table;
pub mod tunnel;
pub mod udpif;
pub mod world;
pub mod xlate;
