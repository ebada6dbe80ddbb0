//! The OpenFlow codec: every message of versions 1.0 to 1.5 with the Nicira and ONF extensions, in one form for all versions;
//! bytes to messages and back, and ovs-ofctl's text both ways. It serves the switch and the tools (clients).
#![forbid(unsafe_code)]

pub mod action;
pub mod action_traits;
#[cfg(feature = "tls")]
pub mod ciphers;
pub mod error;
pub mod message;
pub mod print;
pub mod text;
#[cfg(feature = "tls")]
pub mod tls;
pub mod types;
pub mod wire;

pub use action::OfAction;
pub use error::OfError;
pub use message::{Body, Message};
pub use types::{GroupId, OfPort, TableId, Version, Versions, Xid};
pub use wire::{Codec, decode};
