//! The vocabulary of the switch: fields, keys and masks, datapath actions, megaflows and their text forms; parsing and
//! extraction; and the seam between the slow path and a datapath.
//!
//! Everything else depends on this crate; it depends on nothing of ours, does no I/O and holds no state but counters and the clock.
#![forbid(unsafe_code)]

pub mod action;
pub mod action_text;
mod action_text_read;
mod action_text_tunnel;
pub mod brief;
pub mod checksum;
pub mod clock;
pub mod compose;
pub mod conntrack;
pub mod counter;
pub mod dptext;
pub mod exthdr;
pub mod extract;
mod extract_common;
pub mod extract_gen;
pub mod extract_slow;
pub mod fields;
pub mod flow_hash;
pub mod forms;
pub mod hash;
pub mod host_link;
pub mod key;
pub mod matching;
pub mod oftext;
pub mod rewrite;
pub mod rewrite_compact;
pub mod rewrite_headers;
pub mod rewrite_joint;
mod scan;
pub mod seam;
pub mod stages;
pub mod tunnel_ports;
pub mod ufid;
pub mod wire;

pub use action::{Action, Actions};
pub use clock::Msec;
pub use fields::{Field, Value};
pub use forms::{NoNames, PortNames};
pub use key::{Key, Mask};
pub use matching::Match;
pub use seam::{Datapath, DpPort, Megaflow, Ufid};
