//! Offload: each megaflow whole in hardware, or whole in software, and exactly the same.
//!
//! What enters: megaflows of the slow path, by the seam (`flow::seam::Datapath`); what an eSwitch can do. What leaves: hardware rules,
//! or refusals that an operator reads. Neighbours: `flow` (vocabulary and seam); the kernel, by netlink.
//!
//! | room | what for |
//! |---|---|
//! | [`mod@plan`], [`mod@canonical`] | the all-or-nothing rule: a megaflow becomes one rule, or is refused |
//! | [`mod@decode`] | the way back: what a rule means; the judge of `plan` and of what the kernel echoes |
//! | [`rule`] | a rule as values |
//! | [`keys`], [`headers`] | the tables of matches and of rewritten headers |
//! | [`hardware`] | what the tier asks of hardware, in megaflows |
//! | [`tc`] | rules as netlink messages, and back; hardware that speaks tc |
//! | [`meters`] | what of a meter can be a police action |
//! | [`merge`] | established connections as megaflows without `ct` and recirculation |
//! | [`model`] | an eSwitch in memory, programmed by the same messages; another that takes megaflows as they are |
//! | [`tiered`] | the seam over two layers, software and hardware |
//! | [`refusal`], [`capabilities`] | reasons; what hardware can do |
//! | [`probe`] | what a port lacks: the questions, and the refusals |
#![forbid(unsafe_code)]

pub mod canonical;
pub mod capabilities;
pub mod decode;
pub mod hardware;
pub mod headers;
pub mod keys;
pub mod merge;
pub mod meters;
pub mod model;
pub mod plan;
pub mod probe;
pub mod refusal;
pub mod rule;
pub mod tc;
pub mod tiered;

pub use capabilities::{Capabilities, Ends, PortKind, TunnelKind, Way};
pub use decode::decode;
pub use hardware::Hardware;
pub use plan::{Plan, plan};
pub use refusal::{Reason, Refusal};
pub use rule::Rule;
pub use tiered::Tiered;
