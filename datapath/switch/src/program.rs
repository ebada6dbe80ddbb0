//! A megaflow's actions, checked and prepared once when they are put.
//!
//! What enters: a list of datapath actions. What leaves: a `Program`, of which every action can be carried out, or the reason why not.

use crate::outlets::PORTS_MAX;
use crate::slots::NOT_QUICK;
use crate::straight::Straight;
use flow::Actions;
use flow::action::Action;
use flow::seam::DpError;
use std::sync::Arc;

/// How deep lists of actions may be nested in each other (clone, sample, check_pkt_len; OVS: 32 in the parser, 10 in depth here).
pub const NESTING_MAX: usize = 10;

/// A checked list of actions.
#[derive(Debug)]
pub struct Program {
    /// The short form, if there is one and it is more than an output.
    pub straight: Option<Box<Straight>>,
    pub actions: Arc<Actions>,
}

impl Program {
    /// Refuses what this datapath cannot carry out.
    pub fn new(actions: Arc<Actions>) -> Result<Self, DpError> {
        check(&actions, 0)?;
        Ok(Self { straight: Straight::of(&actions).map(Box::new), actions })
    }

    /// The port, if the program is one output and nothing else; otherwise `NOT_QUICK`.
    #[must_use]
    pub fn quick(&self) -> u32 {
        match self.actions.as_slice() {
            [Action::Output(port)] if port.0 < PORTS_MAX => port.0,
            _ => NOT_QUICK,
        }
    }

    /// Fetches the short form.
    #[inline]
    pub fn prefetch(&self) {
        if let Some(straight) = &self.straight {
            straight.prefetch();
        }
    }
}

/// Whether each action of the list can be carried out.
pub fn check(actions: &[Action], depth: usize) -> Result<(), DpError> {
    if depth > NESTING_MAX {
        return Err(DpError::Invalid(format!("actions nested more than {NESTING_MAX} deep")));
    }
    actions.iter().try_for_each(|action| check_one(action, depth))
}

fn check_one(action: &Action, depth: usize) -> Result<(), DpError> {
    if matches!(action, Action::Psample { .. }) {
        return Err(DpError::Unsupported("psample".to_owned()));
    }
    action.lists().into_iter().filter(|list| !list.is_empty()).try_for_each(|list| check(list, depth + 1))
}
