//! Working on a copy of the packet: `clone`, patch ports, buckets, `check_pkt_larger`.
//!
//! Where the datapath can set back what was done (fields, tags, labels), no copy is needed: `key` is put back, and the next
//! commit emits what differs. Where it cannot (conntrack, meters, encapsulation, I-TAGs), the actions go into a datapath `clone`; whether it
//! can is seen by what they came to (`Mark`). A list that says so beforehand gets its copy of the packet with what was set so far in it.

use super::trace::Kind;
use super::{Ctx, Pending, freeze};
use flow::Action;
use flow::action::Actions;
use flow::key::{Key, Mask};
use openflow::action::{OfAction, Subfield};

/// A datapath whose samples may be nested no deeper cannot have them in the place of clones.
const SAMPLE_NESTING: u32 = 3;

/// What the datapath has made of the packet when a copy of it began to be worked on.
pub(super) struct Mark {
    base: Key,
    /// A header that is still to be put on or taken off, with the metadata that goes with it.
    pending: Pending,
    nsh_metadata: Vec<u8>,
    /// How many commits there had been: after another nothing is pending any more.
    commits: u32,
    /// Where in the list of datapath actions those on the copy begin.
    start: usize,
    /// A pushed I-TAG stood in the place of `nw_src` (`pbb`).
    aside: bool,
}

/// What a copy must not change for what comes after it.
pub(super) struct Saved {
    key: Key,
    stack: Vec<Vec<u8>>,
    action_set: Vec<OfAction>,
    was_mpls: bool,
    conntracked: bool,
    written: Mask,
    exit: bool,
    freeze: Option<freeze::Freeze>,
}

impl Ctx<'_> {
    // On the heap, as a mark is: bridges lead into each other dozens deep.
    pub(super) fn save(&mut self) -> Box<Saved> {
        Box::new(Saved {
            key: self.key,
            stack: self.stack.clone(),
            action_set: self.action_set.clone(),
            was_mpls: self.was_mpls,
            conntracked: self.conntracked,
            written: self.written,
            exit: std::mem::take(&mut self.exit),
            freeze: self.freeze.take(),
        })
    }

    pub(super) fn restore(&mut self, saved: Box<Saved>) {
        let saved = *saved;
        self.key = saved.key;
        self.stack = saved.stack;
        self.action_set = saved.action_set;
        self.was_mpls = saved.was_mpls;
        self.conntracked = saved.conntracked;
        self.written = saved.written;
        self.exit = saved.exit;
        self.freeze = saved.freeze;
    }

    /// Work on a copy of the packet begins.
    pub(super) fn mark(&self) -> Box<Mark> {
        Box::new(Mark {
            base: self.base,
            pending: self.pending,
            nsh_metadata: self.nsh_metadata.clone(),
            commits: self.commits,
            start: self.actions.len(),
            aside: self.aside.is_some(),
        })
    }

    /// Work on a copy of the packet ends; the caller puts back what the pipeline saw of it. What no commit can undo was done to a copy in
    /// the datapath, too, unless nothing comes after it.
    pub(super) fn end_copy(&mut self, mut mark: Box<Mark>, last: bool) {
        if !last && self.actions.iter().skip(mark.start).any(|action| action.traits().lasts) {
            let copied = self.actions.split_off(mark.start);
            self.go_back(mark);
            self.emit_copy(copied);
            return;
        }
        // The datapath has done it to the packet itself; the next commit undoes it.
        mark.base = self.base;
        if self.commits != mark.commits {
            mark.pending = Pending::Nothing;
        }
        self.go_back(mark);
    }

    /// The packet is again what it was at `mark`, or as the mark now has it.
    pub(super) fn go_back(&mut self, mark: Box<Mark>) {
        self.base = mark.base;
        self.pending = mark.pending;
        self.nsh_metadata = mark.nsh_metadata;
        if !mark.aside {
            self.take_back_mask();
        }
    }

    /// Runs actions, and the action set, on a copy of the packet.
    pub(super) fn run_on_a_copy(&mut self, actions: &[OfAction], last: bool) {
        let in_the_datapath = !last && !actions.iter().all(|a| a.traits().reversible);
        if in_the_datapath {
            // What was set so far must be in the packet before it is copied, not in the copy alone.
            self.commit();
        }
        let (saved, mark) = (self.save(), self.mark());
        let outer = in_the_datapath.then(|| std::mem::take(&mut self.actions));
        self.run_actions(actions, last || in_the_datapath);
        self.end_list();
        if let Some(outer) = outer {
            let copied = std::mem::replace(&mut self.actions, outer);
            self.go_back(mark);
            self.emit_copy(copied);
        } else {
            // Rules that the actions led to may have done what their own list does not show.
            self.end_copy(mark, last);
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
        let (saved, mark) = (self.save(), self.mark());
        let outer = std::mem::take(&mut self.actions);
        self.write_unseen(dst, value);
        self.run_actions(rest, true);
        self.end_list();
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
