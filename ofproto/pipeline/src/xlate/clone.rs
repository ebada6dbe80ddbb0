//! Working on a copy of the packet: `clone`, patch ports, buckets, `check_pkt_larger`.
//!
//! Where the datapath can set back what was done (fields, tags, labels), no copy is needed: `key` is put back, and the next
//! commit emits what differs. Where it cannot (conntrack, meters, encapsulation), the actions go into a datapath `clone`.

use super::trace::Kind;
use super::{Ctx, freeze};
use flow::Action;
use flow::action::Actions;
use flow::key::Key;
use openflow::action::{OfAction, Subfield};

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
        self.run_actions(actions, last || in_the_datapath);
        self.end_list();
        if let Some(outer) = outer {
            let inner = std::mem::replace(&mut self.actions, outer);
            if !inner.is_empty() {
                self.emit_copy(inner);
            }
            self.base = base;
            self.go_back(mark);
        } else {
            self.enclose(mark);
        }
        self.restore(saved);
    }

    /// The datapath carries out actions on a copy.
    pub(super) fn emit_copy(&mut self, inner: Actions) {
        let clones = self.world.backend(self.origin).is_none_or(|b| b.features.clone);
        self.emit(if clones { Action::Clone(inner) } else { Action::Sample { probability: u32::MAX, actions: inner } });
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
