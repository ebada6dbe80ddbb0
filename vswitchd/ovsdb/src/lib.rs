#![forbid(unsafe_code)]
//! OVSDB.
pub mod atom;
mod clock;
pub mod datum;
pub mod db;
pub mod error;
pub mod hash;
pub mod json;
pub mod journal;
pub mod lockfile;
pub mod message;
mod parser;
pub mod remote;
pub mod schema;
pub mod server;
pub mod store;
pub mod text;
pub mod types;

pub use atom::{Atom, AtomicType};
pub use datum::Datum;
pub use error::{Error, Result, Tag};
pub use server::Server;
pub use schema::{ColumnSchema, Schema, TableSchema};
pub use types::{BaseType, Type};
