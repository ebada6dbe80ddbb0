//! The bridge room: what the database says, as the configuration of the slow path, and what came of it, back into the database.
//!
//! `build` reads rows (`rows`) into `ofproto::config`, `status` compares what the slow path reports with the rows and gives the columns
//! to write, by the columns that `schema` declares. Both are pure; `crate::daemon` carries things from one to the other.

pub mod build;
pub mod complaints;
pub mod controller;
pub mod export;
pub mod interface;
mod keys;
#[cfg(test)]
pub mod memory;
pub mod port;
pub mod room;
pub mod rows;
pub(crate) mod schema;
pub mod status;
mod tracking;
