//! Rules that `learn` makes: whether there is room for one, and making it.
//!
//! What enters: rules as `xlate` has put them together, when a translation ends and with each payment of its megaflow. What leaves: a changed
//! table, or a refreshed rule. Neighbours: `xlate::learn`, `learned` (rules that go with their teacher).
//!
//! To learn is to modify strictly (decision 0159): a rule that is there keeps its age, its counts, its timeouts and flags, and gets cookie
//! and actions; only where there is none, one is added.

use super::{
    Change, Former, Journal, Ready, admit, check_actions, may_add, mini_of, modify_one, new_rule, note, note_timeouts,
    table_to_change,
};
use crate::bridge::Bridge;
use crate::classifier::MiniMatch;
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

    /// The flow-mod that makes it.
    fn ready(&self, mini: MiniMatch) -> Ready {
        Ready {
            command: FlowModCommand::ModifyStrict,
            table: self.learn.table,
            mini,
            priority: self.learn.priority,
            cookie: 0,
            cookie_mask: 0,
            new_cookie: self.learn.cookie,
            modify_cookie: true,
            idle_timeout: self.learn.idle_timeout,
            hard_timeout: self.learn.hard_timeout,
            out_port: OfPort::ANY,
            out_group: GroupId::ANY,
            flags: self.flags(),
            importance: 0,
            actions: self.actions.into(),
        }
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
    // Others learn, and rules expire, at the same time: what has changed since it was looked at is looked at again.
    loop {
        let existing = match look(table, rule, &mini, now, journal) {
            Found::Done => return Ok(true),
            Found::Nothing => None,
            Found::Other(old, seen_ms) => Some((old, seen_ms)),
        };
        if !has_room(table, spec, 0) {
            return Ok(false);
        }
        let fm = rule.ready(mini.clone());
        let made = match existing {
            Some((old, seen_ms)) => {
                check_actions(b, &fm.actions)?;
                modify_one(world, b, (&old, seen_ms), &fm, now, journal)
            }
            None => !may_add(&fm) || add_where_none_is(world, b, fm, now, journal)?,
        };
        if made {
            return Ok(true);
        }
    }
}

/// What stands where a rule is to be learned.
enum Found {
    Nothing,
    /// Just what it would become, or what was learned from a later packet.
    Done,
    /// Another rule, and when it was modified last.
    Other(Arc<Rule>, Msec),
}

/// Looks at the rule in the place of one that is learned, and refreshes it if it is the same.
fn look(table: &Table, rule: &LearnedRule<'_>, mini: &MiniMatch, now: Msec, journal: &mut Journal) -> Found {
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    let Some(old) = rules.get(mini, u32::from(rule.learn.priority)) else { return Found::Nothing };
    // To be learned again is not to be used: as in OVS, it is as idle as before.
    if *old.actions == *rule.actions && old.cookie.load(Ordering::Relaxed) == rule.learn.cookie {
        let modified_ms = old.life.modified_ms.fetch_max(now, Ordering::Relaxed);
        if modified_ms < now {
            let modified = Some(Former { modified_ms, counts: None });
            journal.changes.push(Change::Replaced { old: Arc::clone(old), new: Arc::clone(old), modified });
        }
        return Found::Done;
    }
    // Megaflows are paid for in any order: what was learned from a later packet stays.
    let seen_ms = old.life.modified_ms.load(Ordering::Relaxed);
    if seen_ms > now { Found::Done } else { Found::Other(Arc::clone(old), seen_ms) }
}

/// Adds a rule. Gives false if there is one in its place.
fn add_where_none_is(world: &World, b: &Bridge, mut fm: Ready, now: Msec, journal: &mut Journal) -> Result<bool, OfError> {
    let table = admit(world, b, &fm, journal)?;
    let mut rules = table.rules.write().expect("no holder of a table's rules panics");
    if rules.get(&fm.mini, u32::from(fm.priority)).is_some() {
        return Ok(false);
    }
    let at = rules.place(&mut fm.mini);
    let rule = Arc::new(new_rule(b.id, table.id, fm, now));
    rules.insert_at(at, Arc::clone(&rule));
    drop(rules);
    note_timeouts(table, &rule);
    note(&rule, &world.changes);
    journal.changes.push(Change::Added(rule));
    Ok(true)
}

/// Whether deleting a rule deletes what it has learned.
#[must_use]
pub fn deletes_learned(learn: &Learn) -> bool {
    learn.flags & learn_flags::DELETE_LEARNED != 0
}
