//! Rules that `learn` makes: whether there is room for one, and making it.
//!
//! What enters: rules as `xlate` has put them together, when a translation ends and with each payment of its megaflow. What leaves: a changed
//! table, or a refreshed rule. Neighbours: `xlate::learn`, `learned` (rules that go with their teacher).
//!
//! To learn is to modify strictly (decision 0159): a rule that is there keeps its age, its counts, its timeouts and flags, and gets cookie
//! and actions; only where there is none, one is added.

use super::{Journal, Ready, mini_of, modify, table_to_change};
use crate::rule::Rule;
use crate::table::Table;
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::key::{Key, Mask};
use flow::matching::Match;
use openflow::action::{Learn, OfAction};
use openflow::message::{FlowModCommand, flow_mod_flags as flags};
use openflow::{GroupId, OfError, OfPort};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// NXFF learn flags.
mod learn_flags {
    pub(super) const SEND_FLOW_REM: u16 = 1;
    pub(super) const DELETE_LEARNED: u16 = 2;
}

/// A rule that `learn` makes.
#[derive(Clone, Copy, Debug)]
pub struct LearnedRule<'a> {
    pub learn: &'a Learn,
    pub key: &'a Key,
    pub mask: &'a Mask,
    pub actions: &'a [OfAction],
}

/// What rules in one place may differ in: timeouts, flags, cookie, actions.
type Content<'a> = ((u16, u16), u16, u64, &'a [OfAction]);

impl<'a> LearnedRule<'a> {
    fn flags(&self) -> u16 {
        if self.learn.flags & learn_flags::SEND_FLOW_REM != 0 { flags::SEND_FLOW_REM } else { 0 }
    }

    fn content(&self) -> Content<'a> {
        ((self.learn.idle_timeout, self.learn.hard_timeout), self.flags(), self.learn.cookie, self.actions)
    }

    /// Whether another one in its place is the same.
    #[must_use]
    pub fn is_same(&self, other: &LearnedRule<'_>) -> bool {
        self.content() == other.content()
    }

    /// Whether the rule in its place is just what it would be.
    #[must_use]
    pub fn is(&self, rule: &Rule) -> bool {
        let content = (rule.timeouts_s(), rule.flags, rule.cookie.load(Ordering::Relaxed), &*rule.actions);
        self.content() == content && rule.importance == 0
    }
}

/// The rule in the place of one that `learn` makes.
#[must_use]
pub fn in_place(world: &World, bridge: BridgeId, rule: &LearnedRule<'_>) -> Option<Arc<Rule>> {
    let table = world.bridges.get(&bridge)?.tables.get(usize::from(rule.learn.table.0))?;
    let mini = mini_of(table, &Match::new(rule.key, rule.mask));
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    rules.get(&mini, u32::from(rule.learn.priority)).cloned()
}

/// Whether `learn` may make a rule: it is there already, or there is room beside `coming` further ones of its cookie that are about to be made.
pub fn may_learn(world: &World, bridge: BridgeId, learn: &Learn, is_there: bool, coming: i64) -> Result<bool, OfError> {
    let table = table_to_change(world.bridges.get(&bridge).ok_or(OfError::OfpbrcEperm)?, learn.table)?;
    Ok(is_there || has_room(table, learn, coming))
}

/// Whether fewer rules of the cookie are there and coming than `learn` allows. As in OVS, also one that would take another's place needs room.
fn has_room(table: &Table, learn: &Learn, coming: i64) -> bool {
    if learn.limit == 0 {
        return true;
    }
    let Ok(room) = usize::try_from(i64::from(learn.limit) - coming) else { return false };
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    let same = rules.iter().filter(|r| r.cookie.load(Ordering::Relaxed) == learn.cookie && !r.is_hidden());
    same.take(room).count() < room
}

/// Adds a learned rule, or refreshes it where it is there already. Gives false when the limit of `learn` is reached.
pub fn learn(world: &World, bridge: BridgeId, rule: &LearnedRule<'_>, now: Msec, journal: &mut Journal) -> Result<bool, OfError> {
    let Some(b) = world.bridges.get(&bridge) else { return Err(OfError::OfpbrcEperm) };
    let spec = rule.learn;
    let table = table_to_change(b, spec.table)?;
    let mini = mini_of(table, &Match::new(rule.key, rule.mask));
    let existing = table.rules.read().expect("no holder of a table's rules panics").get(&mini, u32::from(spec.priority)).cloned();
    if let Some(old) = &existing {
        // It is what it would become. To be learned again is not to be used: as in OVS, it is as idle as before.
        if *old.actions == *rule.actions && old.cookie.load(Ordering::Relaxed) == spec.cookie {
            old.life.modified_ms.fetch_max(now, Ordering::Relaxed);
            return Ok(true);
        }
        // Megaflows are paid for in any order: what was learned from a later packet stays.
        if old.life.modified_ms.load(Ordering::Relaxed) > now {
            return Ok(true);
        }
    }
    if !has_room(table, spec, 0) {
        return Ok(false);
    }
    let fm = Ready {
        command: FlowModCommand::ModifyStrict,
        table: spec.table,
        mini,
        priority: spec.priority,
        cookie: 0,
        cookie_mask: 0,
        new_cookie: spec.cookie,
        modify_cookie: true,
        idle_timeout: spec.idle_timeout,
        hard_timeout: spec.hard_timeout,
        out_port: OfPort::ANY,
        out_group: GroupId::ANY,
        flags: rule.flags(),
        importance: 0,
        actions: rule.actions.into(),
    };
    modify(world, b, fm, now, journal)?;
    Ok(true)
}

/// Whether deleting a rule deletes what it has learned.
#[must_use]
pub fn deletes_learned(learn: &Learn) -> bool {
    learn.flags & learn_flags::DELETE_LEARNED != 0
}
