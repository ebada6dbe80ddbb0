//! What others did to hardware's tables, told by itself: rules that somebody removed or changed are put in again at once, not when they are
//! looked at the next time.
//!
//! What enters: `Hardware::overheard`, with `now`. What leaves: rules taken and put, by the way that lost ones go; counts for the operator;
//! interfaces for whoever follows ports. Neighbours: `tick` (finds out what nobody tells).

use super::Tiered;
use super::state::State;
use crate::hardware::{Hardware, Overheard};
use crate::refusal::{Reason, Refusal};
use flow::{Datapath, Msec, Ufid};

flow::counters! {
    OFFLOAD_TOLD = "offload_told", "messages about what others did to filters, queueing disciplines, police actions and devices";
    OFFLOAD_TAKEN = "offload_taken", "rules in hardware that somebody else removed or changed";
    OFFLOAD_MISSED = "offload_told_overrun", "times that such messages were lost, so that all rules were looked at";
}

/// A rule that has stood for so long is put in again at once. One that has not waits as any that is lost: two programs that remove each other's rules do
/// not keep each other busy.
const STOOD_MS: Msec = 1_000;
/// Rules that are put in again at once; the others wait.
const AGAIN_MAX: usize = 4_096;
/// Interfaces that wait to be asked for: whoever follows ports looks at all of them in any case.
const INTERFACES_MAX: usize = 1_024;

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Listened {
    pub(super) told: u64,
    pub(super) taken: u64,
    pub(super) overruns: u64,
    /// For whoever follows ports.
    interfaces: Vec<u32>,
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// Reacts to what others did since the last call. To be called some ten times a second; gives the interfaces that went, or lost what rules
    /// hang from.
    pub fn listen(&self, now: Msec) -> Vec<u32> {
        if !self.is_enabled() {
            return Vec::new();
        }
        let mut state = self.state();
        if self.react(&mut state, now) {
            self.look_at_all(&mut state, now);
        }
        std::mem::take(&mut state.listened.interfaces)
    }

    /// The same, under the lock; whether some was missed, so that all has to be looked at.
    pub(super) fn react(&self, state: &mut State, now: Msec) -> bool {
        let heard = self.hardware.overheard();
        if heard == Overheard::default() {
            return false;
        }
        let Overheard { lost, meters, missed, .. } = state.listened.count(heard);
        let mut ours = Vec::with_capacity(lost.len());
        for (ufid, last) in lost {
            if state.is_in_hardware(ufid) {
                last.into_iter().for_each(|last| state.saw(ufid, last, now));
                ours.push(ufid);
            }
        }
        let metered = meters.iter().flat_map(|meter| state.meters.rules(*meter));
        let again = ours.iter().copied().chain(metered).filter(|ufid| has_stood(state, *ufid, now));
        let again: Vec<Ufid> = again.take(AGAIN_MAX).collect();
        self.take_out(state, &ours, &Refusal::new(Reason::Lost, ""), now);
        for meter in meters {
            self.expel(state, meter, &Refusal::new(Reason::Lost, format!("meter({meter})")), now);
        }
        self.try_again(state, &again, now);
        missed
    }
}

fn has_stood(state: &State, ufid: Ufid, now: Msec) -> bool {
    state.is_in_hardware(ufid) && state.entries.get(&ufid).is_some_and(|entry| now - entry.since_ms >= STOOD_MS)
}

impl Listened {
    fn count(&mut self, mut heard: Overheard) -> Overheard {
        self.told += heard.told;
        self.taken += heard.taken;
        self.overruns += u64::from(heard.missed);
        OFFLOAD_TOLD.add(heard.told);
        OFFLOAD_TAKEN.add(heard.taken);
        OFFLOAD_MISSED.add(u64::from(heard.missed));
        self.interfaces.append(&mut heard.interfaces);
        self.interfaces.truncate(INTERFACES_MAX);
        heard
    }
}
