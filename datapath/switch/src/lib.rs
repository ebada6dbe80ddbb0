//! The software switch: megaflows, workers, actions, upcalls.
//!
//! What enters: megaflows and packets to execute, by the seam (`flow::seam::Datapath`); packets from `port`. What leaves: packets to `port`;
//! upcalls to whoever handles them. Neighbours: `flow` (vocabulary), `port` (devices), `vswitchd` (makes a [`Switch`] for each datapath).
//!
//! | room | what for |
//! |---|---|
//! | [`switch`] | the seam: [`Switch`] |
//! | [`flows`], [`ports`], [`register`], [`heard`], [`config`] | what control threads keep, behind one lock |
//! | [`crew`], [`schedule`], [`balance`], [`topology`], [`account`] | who polls which receive queue, and what it costs |
//! | [`worker`], [`beat`], [`fair`], [`forward`], [`lookup`], [`groups`], [`hand_up`] | the packet's way to its megaflow |
//! | [`execute`], [`straight`], [`edit`], [`tunnel`], [`tunnel_mtu`], [`tunnel_pop`], [`meter`], [`bonds`] | the actions; [`policer`]: what a port takes in |
//! | [`ct`] | connection tracking |
//! | [`cache`], [`classifier`], [`search`], [`few`], [`slots`], [`shape`], [`tags`], [`hash`], [`wide`] | from a packet to its megaflow |
//! | [`qsbr`], [`stats`], [`perf`], [`upcall`], [`parcel`] | what threads share without locks |
//! | [`heap`] | sizes that the allocator is quick at |
//! | [`reference`], [`failing`] | the seam again, obvious and failing, for tests |

pub mod account;
mod after_ct;
pub mod balance;
mod beat;
pub mod bonds;
pub mod bundle;
pub mod cache;
pub mod classifier;
pub mod config;
pub mod counters;
pub mod crew;
pub mod ct;
pub mod cycles;
pub mod edit;
pub mod execute;
pub mod failing;
pub mod fair;
mod few;
pub mod flows;
pub mod forward;
mod groups;
mod hand_up;
pub mod hash;
pub mod heap;
mod heard;
mod log;
mod lookup;
mod memo;
pub mod memory;
pub mod meter;
mod names;
mod one_port;
pub mod outlets;
pub mod parcel;
mod parse;
#[cfg(target_arch = "x86_64")]
mod parse_line;
pub mod parsed;
pub mod perf;
mod pmd;
mod pmd_text;
pub mod policer;
pub mod ports;
pub mod program;
pub mod qsbr;
pub mod reference;
mod register;
mod retry;
pub mod schedule;
pub mod search;
pub mod shape;
pub mod slots;
pub mod stats;
pub mod straight;
pub mod switch;
pub mod tags;
pub mod too_long;
pub mod topology;
pub mod tunnel;
mod tunnel_common;
mod tunnel_host;
mod tunnel_mtu;
pub mod tunnel_pop;
pub mod upcall;
pub mod wide;
pub mod worker;

pub use account::LogSettings;
pub use counters::COUNTERS;
pub use failing::Failing;
pub use pmd::PerfView;
pub(crate) use port::prefetch;
pub use reference::Reference;
pub use switch::{Options, Switch};
pub use topology::Topology;
