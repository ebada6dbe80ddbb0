//! Why packets were dropped: the last drops that translation decided, with the table, the rule and the reason.
//!
//! What enters: drops of packets that came up (a megaflow that drops is made by one such packet), noted by `udpif`. What leaves: the
//! newest ones, for `ofproto/why`. A bounded ring, off the forwarding cores' way.

use crate::effects::{Credit, Translation, XlateError};
use crate::rule::Rule;
use crate::world::BridgeId;
use flow::{Action, Key, Msec};
use openflow::{OfPort, TableId};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// Drops remembered.
pub const DROPS_MAX: usize = 512;

/// Where a translation ended that sends the packet nowhere.
#[derive(Clone, Debug)]
pub struct DropFact {
    /// The last table looked into, and the bridge that it is in.
    pub at: Option<(BridgeId, TableId)>,
    /// The last rule that ran; `None`: no table had one.
    pub rule: Option<Arc<Rule>>,
    /// Whether the last table had a rule for the packet.
    pub matched: bool,
    /// What translation said last before it gave up.
    pub reason: Cow<'static, str>,
    /// By which counter of the datapath it counts: `XlateError::code`, 0 if the rules said so.
    pub code: u32,
}

/// A packet that was dropped.
#[derive(Clone, Debug)]
pub struct Dropped {
    pub when_ms: Msec,
    pub bridge: BridgeId,
    pub in_port: OfPort,
    /// In the pipeline's form.
    pub key: Box<Key>,
    pub fact: DropFact,
}

impl DropFact {
    /// Why a translation sends the packet nowhere; `None` if it sends it somewhere, or up.
    #[must_use]
    pub fn of(t: &Translation, said: Option<Cow<'static, str>>) -> Option<Self> {
        if t.slow != 0 || Action::any(&t.actions, |a| a.traits().leads_on) {
            return None;
        }
        let lookup = t.credits.iter().rev().find_map(|c| match c {
            Credit::Lookup { bridge, table, matched } => Some((*bridge, *table, *matched)),
            Credit::Rule(_)
            | Credit::Tally(_)
            | Credit::Learn { .. }
            | Credit::Bond { .. }
            | Credit::Traffic { .. }
            | Credit::Neighbour { .. }
            | Credit::Ask(_)
            | Credit::Told { .. }
            | Credit::Encapsulated { .. }
            | Credit::Relearn(_)
            | Credit::Netflow { .. }
            | Credit::FinTimeout { .. } => None,
        });
        let rule = t.credits.iter().rev().find_map(|c| if let Credit::Rule(rule) = c { Some(Arc::clone(rule)) } else { None });
        let matched = lookup.is_some_and(|(.., matched)| matched);
        let reason = match (t.error, said) {
            (Some(error), _) => Cow::Owned(error.to_string()),
            (None, Some(said)) => said,
            (None, None) if rule.as_ref().is_some_and(|r| matched && r.actions.is_empty()) => {
                "the rule's actions are drop".into()
            }
            (None, None) if !matched => "no rule matches".into(),
            (None, None) => "the actions lead nowhere".into(),
        };
        Some(Self { at: lookup.map(|(bridge, table, _)| (bridge, table)), rule, matched, reason, code: counted_as(t) })
    }
}

/// The reason by which the datapath counts a drop (`XlateError::code`).
fn counted_as(t: &Translation) -> u32 {
    match t.actions.last() {
        Some(Action::Drop(code)) => *code,
        _ => t.error.map_or(0, XlateError::code),
    }
}

/// The ring.
#[derive(Debug, Default)]
pub struct DropRing {
    drops: Mutex<VecDeque<Dropped>>,
}

impl DropRing {
    /// Notes a drop; the oldest goes.
    pub fn push(&self, dropped: Dropped) {
        let mut drops = self.lock();
        if drops.len() >= DROPS_MAX {
            drops.pop_front();
        }
        drops.push_back(dropped);
    }

    /// All that are remembered, the newest first.
    #[must_use]
    pub fn newest(&self) -> Vec<Dropped> {
        self.lock().iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Dropped>> {
        self.drops.lock().expect("no holder of the drop ring panics")
    }
}
