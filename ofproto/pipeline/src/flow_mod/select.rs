//! Which rules a request selects: flow-mods, statistics requests, monitors.

use super::{outputs_to_group, outputs_to_port};
use crate::bridge::Bridge;
use crate::classifier::MiniMatch;
use crate::internal::Own;
use crate::rule::{PRIORITY_MAX, Rule};
use crate::table::{INTERNAL, Table};
use openflow::action::OfAction;
use openflow::{GroupId, OfError, OfPort, TableId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What selects rules.
#[derive(Clone, Debug)]
pub struct Criteria {
    /// `TableId::ALL`: all but the internal one.
    pub table: TableId,
    pub within: MiniMatch,
    /// `Some`: exactly this match and priority.
    pub strict_priority: Option<u16>,
    pub cookie: u64,
    pub cookie_mask: u64,
    pub out_port: OfPort,
    pub out_group: GroupId,
}

impl Criteria {
    /// The rules of a bridge that the criteria select, in no order. Hidden ones are never among them.
    pub fn select(&self, bridge: &Bridge) -> Result<Vec<Arc<Rule>>, OfError> {
        let tables = if self.table == TableId::ALL {
            &bridge.tables[..usize::from(INTERNAL.0)]
        } else {
            let at = usize::from(self.table.0);
            bridge.tables.get(at..=at).filter(|_| self.table != INTERNAL).ok_or(OfError::OfpbrcBadTableId)?
        };
        Ok(self.select_in(tables))
    }

    fn select_in(&self, tables: &[Table]) -> Vec<Arc<Rule>> {
        let mut found = Vec::new();
        for table in tables {
            let rules = table.rules.read().expect("no holder of a table's rules panics");
            if rules.is_empty() {
                continue;
            }
            match self.strict_priority {
                Some(priority) => {
                    found.extend(rules.get(&self.within, u32::from(priority)).filter(|r| self.wants(r)).cloned());
                }
                None => found.extend(rules.iter_within(&self.within).filter(|r| self.wants(r)).cloned()),
            }
        }
        found
    }

    /// Those of the internal table that come and go, such as those of bonds, if a request names that table.
    pub fn select_internal(&self, bridge: &Bridge) -> Vec<Arc<Rule>> {
        if self.table == INTERNAL { self.select_in(&bridge.tables[usize::from(INTERNAL.0)..]) } else { Vec::new() }
    }

    /// Whether the criteria select a rule that is at hand, with its match or with the actions that it had before as well as with
    /// those it has.
    #[must_use]
    pub fn includes(&self, rule: &Rule, old_actions: Option<&[OfAction]>) -> bool {
        let used_to_output = || old_actions.is_some_and(|old| outputs_to_port(old, self.out_port));
        (self.table == TableId::ALL || rule.table == self.table)
            && rule.mini.is_within(&self.within)
            && (self.wants(rule) || used_to_output() && Self { out_port: OfPort::ANY, ..self.clone() }.wants(rule))
    }

    fn wants(&self, rule: &Rule) -> bool {
        rule.priority <= PRIORITY_MAX && self.wants_what(rule.cookie.load(Ordering::Relaxed), &rule.actions)
    }

    fn wants_what(&self, cookie: u64, actions: &[OfAction]) -> bool {
        (cookie ^ self.cookie) & self.cookie_mask == 0
            && (self.out_port == OfPort::ANY || outputs_to_port(actions, self.out_port))
            && (self.out_group == GroupId::ANY || outputs_to_group(actions, self.out_group))
    }

    /// Those of the rules that every bridge has which a request selects that names their table.
    pub fn select_own(&self) -> impl Iterator<Item = Own> {
        let is_within = |own: Own| {
            let (_, matching) = own.matching();
            MiniMatch::new(&matching.key, &matching.mask).is_within(&self.within)
        };
        let asked = self.table == INTERNAL;
        Own::ALL.into_iter().filter(move |own| asked && is_within(*own) && self.wants_what(0, &own.actions()))
    }
}
