//! Straight programs: header changes in place, then one output, and nothing else.
//!
//! What enters: a list of actions, when a megaflow is put. What leaves: the same as a few small steps that are carried out packet by
//! packet where the packet lies, so that a batch of 32 packets of 32 megaflows needs no gathering. Neighbours: `program` (which keeps one
//! beside the list), `forward` (which runs them), `edit` (whose changes these are).
//!
//! Rewrites make exact megaflows (every field that is set is matched), so there are many of these with few packets each: a program is one
//! block of memory, of which a packet touches one line or two. Changes of several headers that stand first are made in one go. Whatever needs more than the packet itself, such as metadata, copies,
//! other megaflows or `trunc`, is not straight.

use crate::counters::{DROP_NSH_DECAP, DROP_REWRITE};
use crate::edit;
use crate::outlets::PORTS_MAX;
use crate::parsed::Parsed;
use flow::action::{Action, SetAttr};
use flow::counter::Counter;
use flow::rewrite_compact::Compact;
use flow::rewrite_joint::Joint;
use port::Packet;
use smallvec::SmallVec;

/// Steps that stand in the program itself; more are kept apart.
const STEPS_INLINE: usize = 2;

/// One change.
#[derive(Debug)]
enum Step {
    Set(Compact),
    PushVlan {
        tpid: u16,
        tci: u16,
    },
    PopVlan,
    /// Any other header change.
    Other(Box<Action>),
}

const _: () = assert!(size_of::<Step>() <= 32);

impl Step {
    fn as_set(&self) -> Option<&Compact> {
        if let Self::Set(change) = self { Some(change) } else { None }
    }
}

/// Changes, then an output. It begins on a cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Straight {
    /// What is done first, several headers at once.
    joint: Option<Joint>,
    port: u16,
    /// What is done then.
    steps: SmallVec<[Step; STEPS_INLINE]>,
}

const _: () = assert!(size_of::<Straight>() == 128);

impl Straight {
    /// `None` if the list is of another kind, or has nothing to change.
    #[must_use]
    pub fn of(actions: &[Action]) -> Option<Self> {
        let (last, changes) = actions.split_last()?;
        let Action::Output(port) = last else {
            return None;
        };
        if changes.is_empty() {
            return None;
        }
        let mut steps = changes.iter().map(step).collect::<Option<SmallVec<_>>>()?;
        let first: SmallVec<[Compact; 3]> = steps.iter().map_while(Step::as_set).copied().collect();
        let joint = Joint::of(&first);
        if joint.is_some() {
            steps.drain(..first.len());
        }
        let port = u16::try_from(port.0).ok().filter(|port| u32::from(*port) < PORTS_MAX)?;
        Some(Self { joint, port, steps })
    }

    /// Where the packet goes then: below `PORTS_MAX`.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port.into()
    }

    /// Fetches all of it into the cache.
    #[inline]
    pub fn prefetch(&self) {
        for line in 0..size_of::<Self>() / 64 {
            crate::prefetch(std::ptr::from_ref(self).cast::<u8>().wrapping_add(line * 64));
        }
    }

    /// Changes a packet. The counter of its loss, when it cannot be changed: the caller counts and frees it.
    #[inline]
    pub fn apply(&self, packet: &mut Packet, parsed: &mut Parsed) -> Result<(), &'static Counter> {
        if let Some(joint) = &self.joint {
            edit::set_joint(packet, parsed, joint);
        }
        for step in &self.steps {
            match step {
                Step::Set(change) => edit::set_compact(packet, parsed, change),
                Step::PushVlan { tpid, tci } => {
                    edit::push_vlan(packet, parsed, *tpid, *tci).map_err(|_| &DROP_REWRITE)?;
                }
                Step::PopVlan => edit::pop_vlan(packet, parsed).map_err(|_| &DROP_REWRITE)?,
                Step::Other(action) => edit::one(packet, parsed, action).map_err(|_| lost_by(action))?,
            }
        }
        Ok(())
    }
}

/// The counter of packets that `action` cannot be carried out on.
#[must_use]
pub fn lost_by(action: &Action) -> &'static Counter {
    if matches!(action, Action::PopNsh) { &DROP_NSH_DECAP } else { &DROP_REWRITE }
}

fn step(action: &Action) -> Option<Step> {
    if let Action::Set(field) = action {
        let of_packet = !matches!(field.attr, SetAttr::Priority | SetAttr::Mark | SetAttr::Tunnel);
        return of_packet.then(|| Compact::of(field).map_or_else(|| Step::Other(Box::new(action.clone())), Step::Set));
    }
    if let Action::PushVlan { tpid, tci } = action {
        return Some(Step::PushVlan { tpid: *tpid, tci: *tci });
    }
    if matches!(action, Action::PopVlan) {
        return Some(Step::PopVlan);
    }
    action.traits().reheads.then(|| Step::Other(Box::new(action.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::DpPort;

    #[test]
    fn only_changes_with_one_output_at_the_end_are_straight() {
        let output = || Action::Output(DpPort(2));
        let vlan = || Action::PushVlan { tpid: 0x8100, tci: 0x1001 };
        assert_eq!(Straight::of(&[vlan(), Action::PopEth, output()]).unwrap().steps.len(), 2);
        for other in [
            vec![],
            vec![output()],
            vec![vlan()],
            vec![output(), output()],
            vec![output(), vlan()],
            vec![Action::Trunc(60), output()],
            vec![vlan(), Action::Output(DpPort(u32::MAX))],
        ] {
            assert!(Straight::of(&other).is_none(), "{other:?}");
        }
    }
}
