//! Scenarios that are more than packets per second through one port.

pub mod barrier;
pub mod connections;
pub mod flapping;
pub mod flow_mods;
mod forgetful;
pub mod handlers;
pub mod lookup;
pub mod memory;
pub mod neighbours;
pub mod setup;
pub mod stall;
pub mod tunnels;
pub mod veth;
