//! OVSDB, the configuration database of Open vSwitch: RFC 7047 with OVS's extensions, server and client.
//!
//! What enters: requests and updates over JSON-RPC, journal files, schemas, values typed by people. What leaves: replies,
//! updates, journal files, rows. The daemon serves the switch's database with [`Server`] and reads its configuration
//! from there (or from an external ovsdb-server) with [`Idl`]; the tools use [`client::blocking`]. This crate depends on
//! no other of ours.
//!
//! Rooms, from the inside out:
//! - values: [`Atom`], [`Datum`], [`Type`], [`text`] (command-line syntax), [`json`] (streams and canonical text)
//! - [`schema`]: tables and columns; the embedded [`schema::VSWITCH_SCHEMA`]
//! - [`db`]: rows, transactions, integrity
//! - [`journal`], [`lockfile`], [`store`]: the file
//! - [`server`], [`client`]: the protocol ([`message`], [`remote`], [`tls`])
//!
//! The daemon's two calls:
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ovsdb::Server::builder()
//!     .database("/etc/openvswitch/conf.db", ovsdb::schema::VSWITCH_SCHEMA)
//!     .remote("punix:/var/run/openvswitch/db.sock")
//!     .remote("db:Open_vSwitch,Open_vSwitch,manager_options")
//!     .start()
//!     .await?;
//! let config = ovsdb::IdlConfig::new("unix:/var/run/openvswitch/db.sock", "Open_vSwitch").lock("ovs_vswitchd");
//! let idl = ovsdb::Idl::start(config)?;
//! # drop(idl); server.stop().await; Ok(()) }
//! ```

#![forbid(unsafe_code)]

pub mod atom;
pub mod client;
mod clock;
pub mod datum;
pub mod db;
pub mod error;
pub mod hash;
pub mod journal;
pub mod json;
pub mod lockfile;
pub mod message;
mod parser;
pub mod remote;
pub mod schema;
pub mod server;
pub mod store;
pub mod text;
pub mod tls;
pub mod types;

pub use atom::{Atom, AtomicType};
pub use client::idl::{Event, Idl, IdlConfig, Ticket};
pub use client::replica::{Change, IdlRow, Replica};
pub use client::rpc::RpcClient;
pub use client::txn::{Outcome, Txn};
pub use datum::Datum;
pub use error::{Error, Result, Tag};
pub use schema::{ColumnSchema, Schema, TableSchema};
pub use server::Server;
pub use types::{BaseType, Type};
