//! Tunnels: their kinds and options, which port a decapsulated packet belongs to, outer headers, and the local addresses that
//! encapsulated packets arrive at.
//!
//! Neighbours: `slowpath` (ports come and go), `xlate` (sending and receiving), `router` and `neigh` (the way to the other end).

pub mod header;
pub mod kind;
pub mod listen;
pub mod options;
pub mod ports;

pub use kind::Kind;
pub use listen::Listening;
pub use options::{Addr, ByFlow, Config, Outer, PacketTypes};
pub use ports::{TunnelPorts, came_by_tunnel};
