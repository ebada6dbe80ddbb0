//! Flow-mods: adding, modifying and deleting rules, with OVS's errors; expiry; which rules a request selects.
//!
//! What enters: decoded flow-mods (`conn`), learned rules (`xlate`), time. What leaves: changed tables, entries of the change log,
//! flow-removed notices. Neighbours: `table`, `rule`, `deps`.
//!
//! # All or nothing
//!
//! `apply` checks everything before it changes anything, and writes down each change in a `Journal`. A bundle applies its messages one
//! after the other into one journal; when one fails, `Journal::revert` undoes the others in reverse order, and nobody outside has seen
//! anything: the world is locked for writing all the while, and notices leave with `Journal::commit` only.
//!
//! `learn` runs at the end of a translation, under the read lock, and so does `expire`: others may learn, expire and evict beside them. So
//! whoever changes or removes a rule looks under the table's own lock whether it still is the one that was chosen (`Arc::ptr_eq`).

mod learn;
mod ready;
mod select;

pub use learn::{LearnedRule, deletes_learned, in_place, learn, may_learn};
pub use ready::Ready;
pub use select::Criteria;

use crate::bridge::Bridge;
use crate::classifier::{Classified, Classifier, Conjunction, MiniMatch};
use crate::deps::ChangeLog;
use crate::effects::Notice;
use crate::eviction;
use crate::monitor::Origin;
use crate::rule::{Life, PRIORITY_MAX, Rule};
use crate::table::{INTERNAL, Table};
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::matching::Match;
use openflow::action::OfAction;
use openflow::message::{FlowMod, FlowModCommand, flow_mod_flags as flags};
use openflow::{GroupId, OfError, OfPort, TableId};
use ready::partial_port;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering};

flow::counters! {
    FLOWS_EXPIRED = "ofproto_flows_expired", "rules removed because a timeout ran out";
}

/// See `Life::serial`.
static NEXT_SERIAL: AtomicU32 = AtomicU32::new(1);

/// Reasons of a flow-removed message.
pub mod removed {
    pub const IDLE: u8 = 0;
    pub const HARD: u8 = 1;
    pub const DELETE: u8 = 2;
    pub const GROUP_DELETE: u8 = 3;
    pub const METER_DELETE: u8 = 4;
    pub const EVICTION: u8 = 5;
}

/// One change to a table.
#[derive(Clone, Debug)]
pub enum Change {
    Added(Arc<Rule>),
    /// An add or modify put `new` in the place of `old`.
    Replaced {
        old: Arc<Rule>,
        new: Arc<Rule>,
        /// Of a modification: what it has changed of the life that both share.
        modified: Option<Former>,
    },
    /// Reason as in `removed`.
    Removed(Arc<Rule>, u8),
}

/// What a modification has overwritten.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    modified_ms: Msec,
    /// Packets and bytes, where it began to count anew.
    counts: Option<(u64, u64)>,
}

impl Former {
    fn restore(self, life: &Life) {
        life.modified_ms.store(self.modified_ms, Ordering::Relaxed);
        if let Some((packets, bytes)) = self.counts {
            life.tally.add(packets, bytes);
        }
    }
}

/// What was done, to be told or undone.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub changes: Vec<Change>,
    /// Where those stand, in order, that packets have taught.
    taught: Vec<Range<usize>>,
}

impl Journal {
    /// Tells: updates for flow monitors, flow-removed notices for those who asked.
    pub fn commit(self, world: &World) {
        self.commit_by(world, None);
    }

    /// The same for changes that a connection asked for.
    pub fn commit_by(self, world: &World, origin: Option<Origin<'_>>) {
        world.watchers.report(world, &self, origin);
        tell_vacancy(world, &self.changes);
        for change in self.changes {
            match change {
                Change::Removed(rule, reason) => {
                    if rule.flags & flags::SEND_FLOW_REM != 0 && !rule.is_hidden() {
                        world.notices.push(Notice::FlowRemoved { rule, reason });
                    }
                }
                Change::Added(_) | Change::Replaced { .. } => {}
            }
        }
    }

    /// Adds what a packet has taught: whoever sent it did not ask for these changes themselves, and hears of them as others do.
    pub fn append_taught(&mut self, taught: Self) {
        if !taught.changes.is_empty() {
            let from = self.changes.len();
            self.changes.extend(taught.changes);
            self.taught.push(from..self.changes.len());
        }
    }

    /// Whether a packet has taught the change at `at`.
    #[must_use]
    pub fn is_taught(&self, at: usize) -> bool {
        let next = self.taught.partition_point(|range| range.end <= at);
        self.taught.get(next).is_some_and(|range| range.contains(&at))
    }

    /// Undoes, last first.
    pub fn revert(self, world: &World) {
        for change in self.changes.into_iter().rev() {
            let rule = match &change {
                Change::Added(rule) | Change::Removed(rule, _) => rule,
                Change::Replaced { old, .. } => old,
            };
            let Some(bridge) = world.bridges.get(&rule.bridge) else { continue };
            let table = &bridge.tables[usize::from(rule.table.0)];
            match &change {
                Change::Added(rule) => {
                    take(table, rule, |_| Some(removed::DELETE), &world.changes);
                }
                // What was only refreshed stands where it stood, and is as it was for everybody who looked at it.
                Change::Replaced { old, new, .. } if Arc::ptr_eq(old, new) => {}
                Change::Removed(rule, _) | Change::Replaced { old: rule, .. } => {
                    put(table, rule, &world.changes);
                }
            }
            if let Change::Replaced { old, modified: Some(former), .. } = &change {
                former.restore(&old.life);
            }
        }
    }
}

/// Tells of tables that have become full or free again.
fn tell_vacancy(world: &World, changes: &[Change]) {
    let mut looked_at = None;
    for change in changes {
        let (Change::Added(rule) | Change::Removed(rule, _)) = change else { continue };
        let at = (rule.bridge, rule.table);
        if looked_at.replace(at) == Some(at) {
            continue;
        }
        let table = world.bridges.get(&at.0).and_then(|b| b.tables.get(usize::from(at.1.0)));
        if let Some((reason, desc)) = table.and_then(Table::vacancy_event) {
            world.notices.push(Notice::TableStatus { bridge: at.0, reason, desc });
        }
    }
}

/// Applies one flow-mod. On an error nothing has been changed by it.
pub fn apply(world: &World, bridge: BridgeId, fm: &FlowMod, now: Msec, journal: &mut Journal) -> Result<(), OfError> {
    let Some(b) = world.bridges.get(&bridge) else { return Err(OfError::OfpbrcEperm) };
    apply_ready(world, b, Ready::for_bridge(b, fm, fm.actions.clone()), now, journal)
}

/// The same of one whose actions go into the rule.
pub fn apply_ready(world: &World, b: &Bridge, fm: Ready, now: Msec, journal: &mut Journal) -> Result<(), OfError> {
    check_place(&fm)?;
    match fm.command {
        FlowModCommand::Add => add(world, b, fm, now, journal),
        FlowModCommand::Modify | FlowModCommand::ModifyStrict => modify(world, b, fm, now, journal),
        FlowModCommand::Delete | FlowModCommand::DeleteStrict => delete(world, b, &fm, journal),
    }
}

/// Whether controllers may have rules there: as OVS answers, not in its own table, nor on fields that only it knows.
pub fn check_place(fm: &Ready) -> Result<(), OfError> {
    let is_ours = fm.table == INTERNAL || fm.mini.looks_at_hidden_fields();
    if !fm.command.is_delete() && is_ours { Err(OfError::OfpbrcEperm) } else { Ok(()) }
}

/// Sees to it that a rule may be added; gives its table.
fn admit<'a>(world: &World, bridge: &'a Bridge, fm: &Ready, journal: &mut Journal) -> Result<&'a Table, OfError> {
    let table = table_to_change(bridge, if fm.table == TableId::ALL { TableId(0) } else { fm.table })?;
    check_actions(bridge, &fm.actions)?;
    if fm.flags & flags::EMERG != 0 {
        return Err(OfError::OfpfmfcTableFull);
    }
    if fm.flags & flags::CHECK_OVERLAP != 0 {
        let rules = table.rules.read().expect("no holder of a table's rules panics");
        // As in OVS, a rule in the place of another does not overlap with it.
        let replaces = rules.get(&fm.mini, u32::from(fm.priority)).is_some();
        if !replaces && rules.overlaps(&fm.mini, u32::from(fm.priority)) {
            return Err(OfError::OfpfmfcOverlap);
        }
    }
    if table.config.flow_limit.is_some() {
        let rules = table.rules.read().expect("no holder of a table's rules panics");
        let is_new = rules.get(&fm.mini, u32::from(fm.priority)).is_none();
        drop(rules);
        if is_new {
            eviction::make_room(world, table, journal)?;
        }
    }
    Ok(table)
}

fn add(world: &World, bridge: &Bridge, mut fm: Ready, now: Msec, journal: &mut Journal) -> Result<(), OfError> {
    let table = admit(world, bridge, &fm, journal)?;
    let keeps_counts = fm.flags & flags::RESET_COUNTS == 0;
    // The rule is put where it belongs at once: that there is another in its place is the exception, which is found while that is done.
    let mut rules = table.rules.write().expect("no holder of a table's rules panics");
    let at = rules.place(&mut fm.mini);
    let mut rule = Arc::new(new_rule(bridge.id, table.id, fm, now));
    let old = rules.insert_at(at, Arc::clone(&rule));
    if let Some(old) = &old {
        rule = Arc::new(in_place_of(old, &rule, keeps_counts));
        rules.insert_at(at, Arc::clone(&rule));
    }
    drop(rules);
    note_timeouts(table, &rule);
    note(&rule, &world.changes);
    match old {
        Some(old) => {
            journal.changes.push(Change::Replaced { old: Arc::clone(&old), new: rule, modified: None });
            crate::learned::forget(world, bridge, &old, journal);
        }
        None => journal.changes.push(Change::Added(rule)),
    }
    Ok(())
}

/// The rule that a flow-mod adds.
fn new_rule(bridge: BridgeId, table: TableId, fm: Ready, now: Msec) -> Rule {
    let life = Life {
        created_ms: now,
        used_ms: AtomicI64::new(now),
        modified_ms: AtomicI64::new(now),
        idle_timeout_s: AtomicU16::new(fm.idle_timeout),
        hard_timeout_s: AtomicU16::new(fm.hard_timeout),
        serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
        ..Life::default()
    };
    Rule {
        bridge,
        table,
        priority: i32::from(fm.priority),
        mini: fm.mini,
        conjunctions: conjunctions_of(&fm.actions),
        actions: fm.actions,
        cookie: AtomicU64::new(fm.new_cookie),
        flags: fm.flags,
        importance: fm.importance,
        life: Arc::new(life),
    }
}

/// The rule `new`, which nobody has found yet, as it is when it takes the place of `old`.
fn in_place_of(old: &Rule, new: &Rule, keeps_counts: bool) -> Rule {
    let (idle_s, hard_s) = new.timeouts_s();
    let life = Life {
        created_ms: new.life.created_ms,
        // The new rule is as idle as the one whose place it takes.
        used_ms: AtomicI64::new(old.life.used_ms.load(Ordering::Relaxed)),
        modified_ms: AtomicI64::new(new.life.modified_ms.load(Ordering::Relaxed)),
        idle_timeout_s: AtomicU16::new(idle_s),
        hard_timeout_s: AtomicU16::new(hard_s),
        // It has its place in dumps, too.
        serial: old.life.serial,
        ..Life::default()
    };
    if keeps_counts {
        let (packets, bytes) = old.life.tally.read();
        life.tally.add(packets, bytes);
    }
    Rule {
        bridge: new.bridge,
        table: new.table,
        priority: new.priority,
        mini: new.mini.clone(),
        conjunctions: new.conjunctions.clone(),
        actions: new.actions.clone(),
        cookie: AtomicU64::new(new.cookie.load(Ordering::Relaxed)),
        flags: new.flags,
        importance: new.importance,
        life: Arc::new(life),
    }
}

fn modify(world: &World, bridge: &Bridge, fm: Ready, now: Msec, journal: &mut Journal) -> Result<(), OfError> {
    check_actions(bridge, &fm.actions)?;
    let rules = select_for_change(bridge, &fm)?;
    if rules.is_empty() {
        return if may_add(&fm) { add(world, bridge, fm, now, journal) } else { Ok(()) };
    }
    for old in rules {
        let seen_ms = old.life.modified_ms.load(Ordering::Relaxed);
        // One that is gone has gone with its teacher, which was modified before it.
        modify_one(world, bridge, (&old, seen_ms), &fm, now, journal);
    }
    Ok(())
}

/// OpenFlow 1.0 and OVS: a modify that finds nothing adds, unless it was to find by cookie.
fn may_add(fm: &Ready) -> bool {
    fm.cookie_mask == 0 && fm.new_cookie != u64::MAX
}

/// Puts a modified rule in the place of `old`. Gives false, and changes nothing, if that does not stand there any more, or was modified
/// since the time that was seen in it.
fn modify_one(
    world: &World,
    bridge: &Bridge,
    (old, seen_ms): (&Arc<Rule>, Msec),
    fm: &Ready,
    now: Msec,
    journal: &mut Journal,
) -> bool {
    let cookie = if fm.modify_cookie && fm.new_cookie != u64::MAX { fm.new_cookie } else { old.cookie.load(Ordering::Relaxed) };
    let new = Arc::new(Rule {
        bridge: old.bridge,
        table: old.table,
        priority: old.priority,
        mini: old.mini.clone(),
        actions: fm.actions.clone(),
        conjunctions: conjunctions_of(&fm.actions),
        cookie: AtomicU64::new(cookie),
        flags: old.flags,
        importance: old.importance,
        life: Arc::clone(&old.life),
    });
    let table = &bridge.tables[usize::from(old.table.0)];
    let mut rules = table.rules.write().expect("no holder of a table's rules panics");
    let modified_ms = &old.life.modified_ms;
    // The packet of an earlier time does not make a rule older.
    let to_ms = seen_ms.max(now);
    if !stands(&rules, old) || modified_ms.compare_exchange(seen_ms, to_ms, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return false;
    }
    rules.insert(Arc::clone(&new));
    drop(rules);
    note_timeouts(table, &new);
    note(&new, &world.changes);
    let resets = fm.flags & flags::RESET_COUNTS != 0;
    let counts = resets.then(|| old.life.tally.take());
    let modified = Some(Former { modified_ms: seen_ms, counts });
    journal.changes.push(Change::Replaced { old: Arc::clone(old), new, modified });
    crate::learned::forget(world, bridge, old, journal);
    true
}

fn delete(world: &World, bridge: &Bridge, fm: &Ready, journal: &mut Journal) -> Result<(), OfError> {
    for rule in select_for_change(bridge, fm)? {
        remove(world, bridge, &rule, removed::DELETE, journal);
    }
    Ok(())
}

/// Takes a rule out of its table, if it stands there.
pub fn remove(world: &World, bridge: &Bridge, rule: &Arc<Rule>, reason: u8, journal: &mut Journal) {
    remove_for(world, bridge, rule, |_| Some(reason), journal);
}

/// The same if there is a reason for it, which may have passed meanwhile. Says whether it was removed.
fn remove_for(
    world: &World,
    bridge: &Bridge,
    rule: &Arc<Rule>,
    why: impl FnOnce(&Rule) -> Option<u8>,
    journal: &mut Journal,
) -> bool {
    let Some(reason) = take(&bridge.tables[usize::from(rule.table.0)], rule, why, &world.changes) else { return false };
    journal.changes.push(Change::Removed(Arc::clone(rule), reason));
    crate::learned::forget(world, bridge, rule, journal);
    true
}

/// Removes every rule that uses a group that is gone.
pub fn remove_users_of_group(world: &World, bridge: &Bridge, group: GroupId, journal: &mut Journal) {
    for table in &bridge.tables {
        let users: Vec<_> = rules_of(table, |r| outputs_to_group(&r.actions, group));
        for rule in users {
            remove(world, bridge, &rule, removed::GROUP_DELETE, journal);
        }
    }
}

/// Removes every rule that uses a meter that is gone.
pub fn remove_users_of_meter(world: &World, bridge: &Bridge, meter: u32, journal: &mut Journal) {
    for table in &bridge.tables {
        let users: Vec<_> = rules_of(table, |r| r.actions.iter().any(|a| matches!(a, OfAction::Meter(id) if *id == meter)));
        for rule in users {
            remove(world, bridge, &rule, removed::METER_DELETE, journal);
        }
    }
}

/// Removes rules whose timeouts have run out.
pub fn expire(world: &World, now: Msec) {
    let mut journal = Journal::default();
    for bridge in world.bridges.values() {
        for table in &bridge.tables {
            // Most tables have no rule that expires.
            if !table.take_timed() {
                continue;
            }
            let timed = Cell::new(false);
            let is_due = |rule: &Rule| {
                timed.set(timed.get() || rule.timeouts_s() != (0, 0));
                expired(rule, now).is_some()
            };
            let due = rules_of(table, is_due);
            if timed.get() {
                table.note_timed();
            }
            for rule in due {
                // It may have been learned again since.
                if remove_for(world, bridge, &rule, |rule| expired(rule, now), &mut journal) {
                    FLOWS_EXPIRED.inc();
                }
            }
        }
    }
    journal.commit(world);
}

fn expired(rule: &Rule, now: Msec) -> Option<u8> {
    let (idle_s, hard_s) = rule.timeouts_s();
    let ran_out =
        |since: &AtomicI64, timeout_s: u16| timeout_s != 0 && now > since.load(Ordering::Relaxed) + i64::from(timeout_s) * 1000;
    if ran_out(&rule.life.modified_ms, hard_s) {
        Some(removed::HARD)
    } else if ran_out(&rule.life.used_ms, idle_s) {
        Some(removed::IDLE)
    } else {
        None
    }
}

fn select_for_change(bridge: &Bridge, fm: &Ready) -> Result<Vec<Arc<Rule>>, OfError> {
    if fm.table != TableId::ALL {
        table_to_change(bridge, fm.table)?;
    }
    let strict = matches!(fm.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict);
    let deletes = fm.command.is_delete();
    Criteria {
        table: fm.table,
        within: fm.mini.clone(),
        strict_priority: strict.then_some(fm.priority),
        cookie: fm.cookie,
        cookie_mask: fm.cookie_mask,
        out_port: if deletes { fm.out_port } else { OfPort::ANY },
        out_group: if deletes { fm.out_group } else { GroupId::ANY },
    }
    .select(bridge)
}

/// What can be said of a flow-mod when it joins a bundle: that it names a table which controllers may not change.
pub fn check_table(fm: &FlowMod) -> Result<(), OfError> {
    if fm.table == INTERNAL { Err(OfError::OfpbrcEperm) } else { Ok(()) }
}

/// A table that controllers may change.
fn table_to_change(bridge: &Bridge, table: TableId) -> Result<&Table, OfError> {
    if table == INTERNAL {
        return Err(OfError::OfpbrcEperm);
    }
    bridge.tables.get(usize::from(table.0)).ok_or(OfError::OfpbrcBadTableId)
}

/// What only the bridge can say of actions: whether groups and meters exist, whether the datapath tracks connections.
pub fn check_actions(bridge: &Bridge, actions: &[OfAction]) -> Result<(), OfError> {
    OfAction::try_each(actions, &mut |action| {
        let tracks = matches!(action, OfAction::Ct(_) | OfAction::CtClear);
        if matches!(action, OfAction::Group(id) if !bridge.groups.contains_key(id)) {
            Err(OfError::OfpbacBadOutGroup)
        } else if matches!(action, OfAction::Meter(id) if bridge.meters.datapath_id(*id).is_none()) {
            Err(OfError::OfpmmfcInvalidMeter)
        } else if tracks && !bridge.tracks_connections {
            Err(OfError::NxbacCtDatapathSupport)
        } else {
            Ok(())
        }
    })
}

/// Puts a rule of the switch's own: it matches everything and never expires.
pub fn put_own_rule(world: &World, bridge: BridgeId, table: TableId, priority: i32, actions: Vec<OfAction>) {
    put_own_match(world, bridge, table, priority, &Match::default(), actions);
}

/// The same for what `matching` says. A rule that is there already gets other actions and keeps its counters. Gives the rule.
pub fn put_own_match(
    world: &World,
    bridge: BridgeId,
    table: TableId,
    priority: i32,
    matching: &Match,
    actions: Vec<OfAction>,
) -> Option<Arc<Rule>> {
    let table = world.bridges.get(&bridge)?.tables.get(usize::from(table.0))?;
    let mini = mini_of(table, matching);
    let now = flow::clock::now_ms();
    let old = own_rule(table, &mini, priority);
    if old.is_none() && priority > PRIORITY_MAX {
        table.hidden.fetch_add(1, Ordering::Relaxed);
    }
    let life = old.map(|rule| Arc::clone(&rule.life)).unwrap_or_else(|| {
        let (used_ms, modified_ms) = (AtomicI64::new(now), AtomicI64::new(now));
        Arc::new(Life { created_ms: now, used_ms, modified_ms, ..Life::default() })
    });
    let rule = Arc::new(Rule {
        bridge,
        table: table.id,
        priority,
        mini,
        conjunctions: None,
        actions: actions.into_boxed_slice(),
        cookie: AtomicU64::new(0),
        flags: 0,
        importance: 0,
        life,
    });
    put(table, &rule, &world.changes);
    Some(rule)
}

/// Takes a rule of the switch's own away again.
pub fn take_own_rule(world: &World, bridge: BridgeId, table: TableId, priority: i32) {
    take_own_match(world, bridge, table, priority, &Match::default());
}

/// The same for what `matching` says.
pub fn take_own_match(world: &World, bridge: BridgeId, table: TableId, priority: i32, matching: &Match) {
    let Some(b) = world.bridges.get(&bridge) else { return };
    let table = &b.tables[usize::from(table.0)];
    if let Some(rule) = own_rule(table, &mini_of(table, matching), priority) {
        if priority > PRIORITY_MAX {
            table.hidden.fetch_sub(1, Ordering::Relaxed);
        }
        take(table, &rule, |_| Some(removed::DELETE), &world.changes);
    }
}

fn own_rule(table: &Table, mini: &MiniMatch, priority: i32) -> Option<Arc<Rule>> {
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    rules.get(mini, u32::try_from(priority).unwrap_or(0)).cloned()
}

fn outputs_to_port(actions: &[OfAction], port: OfPort) -> bool {
    OfAction::any(actions, |action| {
        if let OfAction::Output { port: to, .. } | OfAction::Enqueue { port: to, .. } | OfAction::OutputTrunc { port: to, .. } =
            action
        {
            *to == port
        } else {
            port == OfPort::CONTROLLER && matches!(action, OfAction::Controller(_))
        }
    })
}

pub(crate) fn outputs_to_group(actions: &[OfAction], group: GroupId) -> bool {
    OfAction::any(actions, |action| matches!(action, OfAction::Group(to) if *to == group))
}

/// How often the actions lead to a group.
pub(crate) fn places_of_group(actions: &[OfAction], group: GroupId) -> usize {
    let mut places = 0;
    let Ok(()) = OfAction::try_each(actions, &mut |action| {
        places += usize::from(matches!(action, OfAction::Group(to) if *to == group));
        Ok::<(), std::convert::Infallible>(())
    });
    places
}

#[allow(clippy::box_collection, reason = "as rules have them")]
fn conjunctions_of(actions: &[OfAction]) -> Option<Box<Vec<Conjunction>>> {
    let some: Vec<_> = actions
        .iter()
        .filter_map(|action| {
            let OfAction::Conjunction { id, clause, n_clauses } = action else { return None };
            Some(Conjunction { id: *id, clause: *clause, n_clauses: *n_clauses })
        })
        .collect();
    (!some.is_empty()).then(|| Box::new(some))
}

/// A match as the table keeps it.
fn mini_of(table: &Table, matching: &Match) -> MiniMatch {
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    match partial_port(matching) {
        None => rules.mini(&matching.key, &matching.mask),
        Some(mask) => rules.mini(&matching.key, &mask),
    }
}

pub(crate) fn rules_of(table: &Table, wanted: impl Fn(&Rule) -> bool) -> Vec<Arc<Rule>> {
    let rules = table.rules.read().expect("no holder of a table's rules panics");
    rules.iter().filter(|r| wanted(r)).cloned().collect()
}

fn put(table: &Table, rule: &Arc<Rule>, changes: &ChangeLog) {
    table.rules.write().expect("no holder of a table's rules panics").insert(Arc::clone(rule));
    note_timeouts(table, rule);
    note(rule, changes);
}

/// A rule is in the table: if it may expire, its table says so.
fn note_timeouts(table: &Table, rule: &Rule) {
    if rule.timeouts_s() != (0, 0) {
        table.note_timed();
    }
}

/// Takes a rule out if it stands there and there is a reason for it, which is given.
fn take(table: &Table, rule: &Arc<Rule>, why: impl FnOnce(&Rule) -> Option<u8>, changes: &ChangeLog) -> Option<u8> {
    let mut rules = table.rules.write().expect("no holder of a table's rules panics");
    let reason = if stands(&rules, rule) { why(rule)? } else { return None };
    rules.remove(&rule.mini, rule.priority());
    drop(rules);
    note(rule, changes);
    Some(reason)
}

/// Whether the rule in this one's place is this one.
fn stands(rules: &Classifier<Arc<Rule>>, rule: &Arc<Rule>) -> bool {
    rules.get(&rule.mini, rule.priority()).is_some_and(|there| Arc::ptr_eq(there, rule))
}

fn note(rule: &Rule, changes: &ChangeLog) {
    changes.rule_of(rule.bridge, rule.table, rule.priority, || rule.mini.expand());
}

const _: () = assert!(PRIORITY_MAX == 65_535);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, config};
    use crate::xlate::{XlateIn, translate};
    use openflow::text::Names;
    use openflow::text::flow::{FlowSyntax, parse_flow};
    use std::sync::Barrier;

    /// Tables without timeouts are passed over; one with them is asked again and again.
    #[test]
    fn rules_expire_however_often_they_were_asked_before() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.flow_mod("br0", "priority=1,actions=drop").unwrap();
        s.flow_mod("br0", "priority=2,hard_timeout=10,actions=drop").unwrap();
        s.flow_mod("br0", "table=1,actions=drop").unwrap();
        let world = s.slowpath.write_world();
        let bridge = world.bridge_named("br0").unwrap();
        let (now, rules) = (flow::clock::now_ms(), |table: usize| bridge.tables[table].len());
        for later in [0, 5_000, 9_000] {
            expire(&world, now + later);
            assert_eq!((rules(0), rules(1)), (2, 1));
        }
        expire(&world, now + 20_000);
        assert_eq!((rules(0), rules(1)), (1, 1));
        expire(&world, now + 30_000);
        assert!(!bridge.tables[0].take_timed() && !bridge.tables[1].take_timed());
    }

    #[test]
    fn a_modification_that_is_undone_leaves_age_and_counts() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.flow_mod("br0", "actions=drop").unwrap();
        let world = s.slowpath.write_world();
        let bridge = world.bridge_named("br0").unwrap();
        let rule = rules_of(&bridge.tables[0], |_| true).remove(0);
        rule.credit(3, 300, 7);
        let before = rule.life.modified_ms.load(Ordering::Relaxed);
        let life = || (rule.life.modified_ms.load(Ordering::Relaxed), rule.life.tally.read());
        let mut journal = Journal::default();
        for (later, text) in [(10, "modify actions=output:1"), (20, "modify reset_counts,actions=drop")] {
            let fm = parse_flow(text, FlowSyntax::Any, &Names::default()).unwrap().flow;
            apply(&world, bridge.id, &fm, before + later, &mut journal).unwrap();
        }
        assert_eq!(life(), (before + 20, (0, 0)));
        rule.credit(1, 100, 8);
        journal.revert(&world);
        assert_eq!(life(), (before, (4, 400)));
        assert!(Arc::ptr_eq(&rules_of(&bridge.tables[0], |_| true)[0], &rule));
    }

    /// Who learns, expires and evicts under the read lock looks again before it changes anything.
    #[test]
    fn what_is_not_there_any_more_is_left_alone() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        let the_rule = || {
            let world = s.slowpath.read_world();
            rules_of(&world.bridge_named("br0").unwrap().tables[0], |_| true).first().cloned()
        };
        let put = || {
            s.flow_mod("br0", "hard_timeout=10,actions=drop").unwrap();
            the_rule().unwrap()
        };
        let try_to_modify = |rule: &Arc<Rule>, seen_ms: Msec| {
            let world = s.slowpath.read_world();
            let bridge = world.bridge_named("br0").unwrap();
            let fm = parse_flow("modify_strict actions=output:1", FlowSyntax::Any, &Names::default()).unwrap().flow;
            let fm = Ready::for_bridge(bridge, &fm, fm.actions.clone());
            let mut journal = Journal::default();
            let done = modify_one(&world, bridge, (rule, seen_ms), &fm, seen_ms - 1, &mut journal);
            assert_eq!(journal.changes.len(), usize::from(done));
            done
        };
        let modified_ms = |rule: &Rule| rule.life.modified_ms.load(Ordering::Relaxed);
        let gone = put();
        s.flow_mod("br0", "delete").unwrap();
        assert!(!try_to_modify(&gone, modified_ms(&gone)) && the_rule().is_none());
        let first = put();
        assert!(!try_to_modify(&first, modified_ms(&first) - 1), "it was modified since");
        let second = put();
        assert!(!try_to_modify(&first, modified_ms(&first)), "another has its place");
        let world = s.slowpath.read_world();
        let (bridge, mut journal) = (world.bridge_named("br0").unwrap(), Journal::default());
        remove(&world, bridge, &first, removed::IDLE, &mut journal);
        assert!(!remove_for(&world, bridge, &second, |rule| expired(rule, modified_ms(rule)), &mut journal));
        assert!(journal.changes.is_empty() && the_rule().is_some_and(|rule| Arc::ptr_eq(&rule, &second)));
        drop(world);
        assert!(try_to_modify(&second, modified_ms(&second)));
        let last = the_rule().unwrap();
        assert_eq!(last.actions[..], [OfAction::Output { port: OfPort(1), max_len: 0 }]);
        assert_eq!(modified_ms(&last), modified_ms(&second), "a modification of earlier makes no rule older");
    }

    /// Two handlers learn different things of one address at once, from packets one after the other.
    #[test]
    fn the_last_packet_says_what_is_learned() {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2"]));
        s.flow_mod("br0", "actions=learn(table=2,NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])").unwrap();
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap();
        let both = Barrier::new(2);
        let handle = |port: u32| {
            let key = flow::Key { in_port: OfPort(port).to_key(), ..flow::Key::ZERO };
            for round in 1..2000 {
                both.wait();
                let now = 2 * round + Msec::from(port);
                let t = translate(&world, XlateIn { side_effects: true, ..XlateIn::new(bridge.id, &key, now) });
                assert_eq!(t.error, None);
                both.wait();
                let learned = rules_of(&bridge.tables[2], |_| true);
                assert_eq!(learned[0].actions[..], [OfAction::Output { port: OfPort(2), max_len: 0 }]);
                assert_eq!(learned[0].life.modified_ms.load(Ordering::Relaxed), 2 * round + 2);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| handle(1));
            scope.spawn(|| handle(2));
        });
    }
}
