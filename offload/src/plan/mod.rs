//! The all-or-nothing rule: a megaflow becomes one hardware rule that means exactly the same, or is refused.
//!
//! What enters: a megaflow and what the hardware can do. What leaves: a `Plan` or a `Refusal`. Pure: no I/O, no clock, no state.
//! Neighbours: `canonical` (narrowing), `keys` (the table of matches), `decode` (the way back, and the judge).
//!
//! # Which properties hold
//!
//! - Each bit of the mask and each attribute of each action is consumed, or the megaflow is refused. Matches are consumed by copying
//!   the mask and striking out what each part says; a bit that is left names its field in the refusal. Actions are taken apart by
//!   exhaustive matches and by destructuring without `..`, so that a new action or option does not compile until it is judged here.
//! - What a plan says is decoded again before it is returned, and must be the canonical megaflow to the bit. A fault in this room
//!   therefore refuses (and shows in the counters); it does not put a wrong rule into hardware.
//! - A prebuilt outer header (`tnl_push`) is first put into the terms of a tunnel device, and only if the device would build the same
//!   (`outer`); the megaflow of the plan has these terms.
//! - What the port itself was found not to take refuses at the end (`probe`), by name.
//! - A plan may match less than the megaflow it was made of, never more (`canonical`).
//!
//! # Why bits that are nought may be "matched" by nothing
//!
//! A packet in hardware has no mark, no priority and no hash: only software sets them, and every action that would set one is
//! refused. A match on such a field being nought is then true by where the packet is. These bits are kept in `Rule::nought`, so that
//! nothing is dropped silently, not even what needs no saying.

mod actions;
pub mod matching;
pub(crate) mod outer;
mod rewrite;
mod tunnel;

use crate::canonical::canonical;
use crate::capabilities::Capabilities;
use crate::decode::decode;
use crate::probe;
use crate::refusal::{Reason, Refusal};
use crate::rule::Rule;
use flow::Megaflow;
use std::sync::Arc;

/// A megaflow, narrowed as far as the hardware asks, and the rule that means it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub flow: Megaflow,
    pub rule: Rule,
}

/// Makes a rule of a megaflow, whole, or says why not.
///
/// # Errors
/// The first thing that the hardware cannot say or do exactly.
pub fn plan(flow: &Megaflow, can: &Capabilities) -> Result<Plan, Refusal> {
    let mut flow = canonical(flow);
    if let Some(actions) = outer::as_devices(&flow, can)? {
        flow.actions = Arc::new(actions);
    }
    let mut rule = matching::matching(&flow, can)?;
    rule.acts = actions::actions(&flow, &rule, can)?;
    let back = decode(&rule).map_err(|e| Refusal::new(Reason::Echo, e.to_string()))?;
    if back.key != flow.key || back.mask != flow.mask {
        return Err(Refusal::new(Reason::Echo, "match"));
    }
    if back.actions != *flow.actions {
        return Err(Refusal::new(Reason::Echo, "actions"));
    }
    probe::check(&rule, can)?;
    Ok(Plan { flow, rule })
}
