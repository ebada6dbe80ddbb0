//! Working on a copy of the packet: `clone`, patch ports, buckets, `check_pkt_larger`.
//!
//! Where the datapath can set back what was done (fields, tags, labels), no copy is needed: `key` is put back, and the next
//! commit emits what differs. Where it cannot (conntrack, meters, encapsulation), the actions go into a datapath `clone`; whether it can
//! is seen by the list of actions, or, where that leads into tables or groups, by what they came to.

use super::trace::Kind;
use super::{Ctx, freeze};
use flow::Action;
use flow::action::Actions;
use flow::key::Key;
use openflow::action::{OfAction, Subfield};

/// A datapath whose samples may be nested no deeper cannot have them in the place of clones.
const SAMPLE_NESTING: u32 = 3;

/// What a copy must not change for what comes after it.
pub(super) struct Saved {
    key: Key,
    stack: Vec<Vec<u8>>,
    action_set: Vec<OfAction>,
    was_mpls: bool,
    conntracked: bool,
    exit: bool,
    freeze: Option<freeze::Freeze>,
}

impl Ctx<'_> {
    pub(super) fn save(&mut self) -> Saved {
        Saved {
            key: self.key,
            stack: self.stack.clone(),
            action_set: self.action_set.clone(),
            was_mpls: self.was_mpls,
            conntracked: self.conntracked,
            exit: std::mem::take(&mut self.exit),
            freeze: self.freeze.take(),
        }
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        self.key = saved.key;
        self.stack = saved.stack;
        self.action_set = saved.action_set;
        self.was_mpls = saved.was_mpls;
        self.conntracked = saved.conntracked;
        self.exit = saved.exit;
        self.freeze = saved.freeze;
    }

    /// Runs actions, and the action set, on a copy of the packet.
    pub(super) fn run_on_a_copy(&mut self, actions: &[OfAction], last: bool) {
        let in_the_datapath = !last && !actions.iter().all(|a| a.traits().reversible);
        if in_the_datapath {
            // What was set so far must be in the packet before it is copied, not in the copy alone.
            self.commit();
        }
        let saved = self.save();
        let (base, mark) = (self.base, self.mark());
        let outer = in_the_datapath.then(|| std::mem::take(&mut self.actions));
        let start = self.actions.len();
        self.run_actions(actions, last || in_the_datapath);
        self.end_list();
        let inner = match outer {
            Some(outer) => Some(std::mem::replace(&mut self.actions, outer)),
            // Rules that the actions led to may have done what their own list does not show.
            None if !last && self.actions.iter().skip(start).any(lasts) => Some(self.actions.split_off(start)),
            None => None,
        };
        if let Some(inner) = inner {
            self.emit_copy(inner);
            self.base = base;
            self.go_back(mark);
        } else {
            self.enclose(mark);
        }
        self.restore(saved);
    }

    /// Actions on a copy, as well as the datapath can; one that has no copies does nothing of it.
    pub(super) fn emit_copy(&mut self, actions: Actions) {
        let features = self.world.backend(self.origin).map(|b| &b.features);
        if actions.is_empty() {
        } else if features.is_none_or(|f| f.clone) {
            self.emit(Action::Clone(actions));
        } else if features.is_some_and(|f| f.sample_nesting > SAMPLE_NESTING) {
            self.emit(Action::Sample { probability: u32::MAX, actions });
        } else {
            self.report_error(format_args!("Failed to compose clone action"));
        }
    }

    /// check_pkt_larger: the datapath measures; what remains is translated for both outcomes.
    pub(super) fn check_larger(&mut self, len: u16, dst: Subfield, rest: &[OfAction]) {
        self.commit();
        let greater = self.branch(dst, 1, rest);
        let less_equal = self.branch(dst, 0, rest);
        self.emit(Action::CheckPktLen { size: len, greater, less_equal });
    }

    fn branch(&mut self, dst: Subfield, value: u128, rest: &[OfAction]) -> Actions {
        let saved = self.save();
        let (base, mark) = (self.base, self.mark());
        let outer = std::mem::take(&mut self.actions);
        self.write_unseen(dst, value);
        self.run_actions(rest, true);
        self.end_list();
        self.base = base;
        self.go_back(mark);
        self.restore(saved);
        // The action set runs in each branch, and only there.
        std::mem::replace(&mut self.actions, outer)
    }

    /// Without a datapath that measures, each packet comes up to be measured here.
    pub(super) fn measure_here(&mut self, len: u16, dst: Subfield) {
        let larger = self.packet.is_some_and(|p| p.len() > usize::from(len));
        self.write_unseen(dst, u128::from(larger));
        self.slow |= super::compose::SLOW_ACTION;
        self.report(Kind::Detail, format_args!("packet length is checked in the slow path"));
    }
}

/// Whether the next commit cannot set back what a datapath action has done to the packet, or to what is known of it.
fn lasts(action: &Action) -> bool {
    match action {
        // Truncation waits for an output; a hash is of the headers as they were.
        Action::Ct(_)
        | Action::CtClear
        | Action::Meter(_)
        | Action::Hash { .. }
        | Action::Trunc(_)
        | Action::DecTtl { .. }
        | Action::PushEth { .. }
        | Action::PopEth
        | Action::PushNsh(_)
        | Action::PopNsh
        | Action::TunnelPush(_) => true,
        // What `Mark` tells of.
        Action::PushPbb { .. } | Action::PopPbb | Action::CopyTtl { .. } => false,
        // These work on copies of their own, or end the packet.
        Action::Clone(_) | Action::Sample { .. } | Action::CheckPktLen { .. } | Action::Recirc(_) | Action::TunnelPop(_) => false,
        Action::Output(_)
        | Action::Userspace(_)
        | Action::Psample { .. }
        | Action::Drop(_)
        | Action::LbOutput(_)
        | Action::Set(_)
        | Action::PushVlan { .. }
        | Action::PopVlan
        | Action::PushMpls { .. }
        | Action::PopMpls { .. }
        | Action::AddMpls { .. } => false,
    }
}
