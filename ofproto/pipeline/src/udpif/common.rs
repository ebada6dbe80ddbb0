//! What megaflows that come one after the other have in common: shared, and not worked out again.
//!
//! What enters: what upcalls were translated to. What leaves: shared masks, actions, dependencies and credits; ways that further packets of
//! a batch go without being translated. Neighbours: `upcall`, whose batch it is; `revalidate`, for those translated again; `xlate::alike`, where it is said why that is right.

use super::UPCALL_BATCH_MAX;
use super::ukey::Compact;
use super::upcall::{Stamp, pay};
use crate::deps::{Deps, Revision};
use crate::effects::{Credit, Payment};
use crate::world::{BridgeId, World};
use flow::seam::Upcall;
use flow::ufid::Namer;
use flow::{Actions, Key, Mask};
use openflow::OfPort;
use std::sync::{Arc, Weak};

/// Ways of one batch that others may go: more are translated as ever. Packets of an input port come eight at a time, so that each port of a
/// batch may have its way.
pub(super) const WAYS_MAX: usize = UPCALL_BATCH_MAX / 8;

/// A mask in each of the forms in which megaflows need it.
#[derive(Debug)]
pub(super) struct Form {
    /// For the datapath.
    pub mask: Arc<Mask>,
    /// For the ukeys.
    pub compact: Arc<Compact>,
    /// For the names.
    pub namer: Namer,
}

impl Form {
    fn new(mask: Box<Mask>) -> Arc<Self> {
        let (compact, namer) = (Arc::new(Compact::new(&mask, mask.lines())), Namer::new(&mask));
        Arc::new(Self { mask: mask.into(), compact, namer })
    }
}

/// What the upcall before came to, or the megaflow before that was translated again. Most that follow have the same mask, actions, dependencies
/// and credits: their megaflows share them.
#[derive(Debug, Default)]
pub(super) struct Last {
    form: Option<Arc<Form>>,
    actions: Option<Arc<Actions>>,
    deps: Option<Arc<Deps>>,
    credits: Option<Arc<Vec<Credit>>>,
}

/// What the next batch may share. What holds rules lives only as long as a megaflow has it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    form: Option<Arc<Form>>,
    actions: Option<Arc<Actions>>,
    deps: Weak<Deps>,
    credits: Weak<Vec<Credit>>,
}

impl Last {
    pub(super) fn of(kept: &Kept) -> Self {
        let (form, actions) = (kept.form.clone(), kept.actions.clone());
        Self { form, actions, deps: kept.deps.upgrade(), credits: kept.credits.upgrade() }
    }

    pub(super) fn kept(self) -> Kept {
        let deps = self.deps.as_ref().map(Arc::downgrade).unwrap_or_default();
        let credits = self.credits.as_ref().map(Arc::downgrade).unwrap_or_default();
        Kept { form: self.form, actions: self.actions, deps, credits }
    }

    pub(super) fn deps(&mut self, deps: Deps) -> Arc<Deps> {
        let same = self.deps.take().filter(|last| **last == deps);
        Arc::clone(self.deps.insert(same.unwrap_or_else(|| Arc::new(deps))))
    }

    pub(super) fn credits(&mut self, mut credits: Vec<Credit>) -> Arc<Vec<Credit>> {
        let is_same = |last: &Vec<Credit>| last.len() == credits.len() && last.iter().zip(&credits).all(|(a, b)| a.is_same(b));
        let same = self.credits.take().filter(|last| is_same(last));
        let credits = same.unwrap_or_else(|| {
            credits.shrink_to_fit();
            Arc::new(credits)
        });
        Arc::clone(self.credits.insert(credits))
    }

    pub(super) fn form(&mut self, mask: Box<Mask>) -> Arc<Form> {
        let same = self.form.take().filter(|last| last.mask.words() == mask.words());
        Arc::clone(self.form.insert(same.unwrap_or_else(|| Form::new(mask))))
    }

    pub(super) fn actions(&mut self, actions: Actions) -> Arc<Actions> {
        let same = self.actions.take().filter(|last| **last == actions);
        Arc::clone(self.actions.insert(same.unwrap_or_else(|| Arc::new(actions))))
    }
}

/// What a packet came to, but for its key and mask.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub bridge: BridgeId,
    pub in_port: OfPort,
    pub slow: u32,
    /// The datapath had no room for the mask: the megaflow is to be exact.
    pub crowded: bool,
    pub actions: Arc<Actions>,
    pub deps: Arc<Deps>,
    pub credits: Arc<Vec<Credit>>,
    pub stamp: Stamp,
}

/// A way that other packets go as well: those that agree with the first in the bits that decided.
#[derive(Debug)]
pub(super) struct Trodden {
    key: Box<Key>,
    decides: Box<Mask>,
    /// As translation has it.
    pub form: Arc<Form>,
    pub way: Way,
    due: Payment,
}

impl Trodden {
    pub(super) fn new(key: &Key, decides: Box<Mask>, form: Arc<Form>, way: &Way) -> Self {
        Self { key: Box::new(*key), decides, form, way: way.clone(), due: Payment::default() }
    }

    /// Whether a packet goes this way, as of a revision: what changes is not looked at, any change ends the way.
    pub(super) fn is_for(&self, key: &Key, revision: Revision) -> bool {
        self.way.stamp.revision == revision && key.equal_under(&self.key, &self.decides)
    }

    /// A packet goes this way. The datapath counts the packets of its megaflow from the next one on; this one is paid for here.
    pub(super) fn due(&mut self, upcall: &Upcall) {
        self.due.packets += 1;
        self.due.bytes += u64::from(upcall.full_len);
        self.due.used_ms = self.way.stamp.now;
        self.due.tcp_flags |= u16::from_be_bytes(upcall.key.tcp_flags);
    }

    /// Pays for those that went this way after the first.
    pub(super) fn pay(&self, world: &World) {
        if self.due.packets > 0 {
            pay(&self.way.credits, &self.due, world);
        }
    }
}
