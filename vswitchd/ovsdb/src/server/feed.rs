//! How monitors are told of commits.
//!
//! A commit costs the same however many listen: it goes into its database's [`Log`], and each monitor remembers the number of the last
//! commit that its client was told of. The sessions that listen take turns, [`SLICE`] at a time, so that requests are served in
//! between; a turn tells everything from that number up to the state at the beginning of the lap, commits that touch the same row as
//! one. Monitors that ask the same are then told the same from the same number on, so the text is made once for all of them
//! ([`Texts`]), and shared by their queues.
//!
//! Few sessions (up to [`SLICE`], nobody before them) are told within the commit itself. What needs more turns is left to a task
//! ([`Effect::Tell`]), which pauses after each lap: laps without end would leave requests no time, and make many small messages where
//! one says the same.
//!
//! A session whose queue is not empty takes no turn until it is. The log keeps what it misses, once for all: a client is dropped when the
//! changes that it misses exceed [`OUTPUT_MAX`] bytes, so that nobody makes the log longer than that.
//!
//! Before a reply its session is told of all commits so far: a client sees its own changes before it is told that they were made.

use super::core::{Core, Effect, SessionId};
use super::monitor::Monitor;
use super::outbox::{OUTPUT_MAX, Outgoing};
use crate::db::RowChange;
use crate::hash::Map;
use std::collections::VecDeque;
use std::sync::Arc;
use uuid::Uuid;

/// Turns taken before others get the processor.
pub(super) const SLICE: usize = 32;
/// Bytes of shared text kept during a lap. More is made again when it is needed.
const TEXTS_MAX: usize = 16 << 20;
/// A log lighter than this is not searched for what everybody knows.
const TRIM_MIN: u64 = 1 << 20;
/// What a commit, and a changed row, count for beside the text in it, in bytes.
const COMMIT_WEIGHT: u64 = 256;
const CHANGE_WEIGHT: u64 = 128;

/// The commits of one database that somebody may not have been told of, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Log {
    commits: VecDeque<Logged>,
    /// Number of the last commit.
    head: u64,
    /// [`Log::head`] at the beginning of the lap.
    lap: u64,
    /// Weight of all commits before the first that is kept.
    forgotten: u64,
    /// Weight at which to look for what can be forgotten.
    trim_at: u64,
}

#[derive(Debug)]
struct Logged {
    changes: Arc<Vec<RowChange>>,
    /// By number of table.
    changed: Vec<bool>,
    /// Weight of all commits up to this one.
    through: u64,
}

impl Log {
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    fn lap(&self) -> u64 {
        self.lap
    }

    pub(super) fn append(&mut self, changes: Arc<Vec<RowChange>>, tables: usize) {
        let mut changed = vec![false; tables];
        changes.iter().for_each(|c| changed[c.table] = true);
        let through = self.through() + weight_of(&changes);
        self.commits.push_back(Logged { changes, changed, through });
        self.head += 1;
    }

    /// Weight of all commits so far.
    fn through(&self) -> u64 {
        self.commits.back().map_or(self.forgotten, |c| c.through)
    }

    /// Number of the first commit that is kept.
    fn first(&self) -> u64 {
        self.head + 1 - self.commits.len() as u64
    }

    /// The commits that follow number `told`, up to number `to`.
    fn between(&self, told: u64, to: u64) -> impl Iterator<Item = &Logged> {
        let at = |number: u64| usize::try_from((number + 1).saturating_sub(self.first())).unwrap_or(usize::MAX);
        self.commits.iter().take(at(to)).skip(at(told))
    }

    /// Weight of the commits after number `told`.
    fn weight_after(&self, told: u64) -> u64 {
        let known = told.checked_sub(self.first()).and_then(|i| self.commits.get(usize::try_from(i).ok()?));
        self.through() - known.map_or(self.forgotten, |c| c.through)
    }

    fn forget_through(&mut self, number: u64) {
        while self.first() <= number
            && let Some(gone) = self.commits.pop_front()
        {
            self.forgotten = gone.through;
        }
        let weight = self.through() - self.forgotten;
        self.trim_at = (2 * weight).clamp(TRIM_MIN, OUTPUT_MAX as u64);
    }

    fn wants_trim(&self) -> bool {
        self.through() - self.forgotten >= self.trim_at.max(TRIM_MIN)
    }

    /// Takes a monitor past the commits that do not concern it.
    fn pass(&self, monitor: &mut Monitor) {
        let passed = self.between(monitor.told, self.head).take_while(|c| !monitor.concerns(&c.changed)).count();
        monitor.told += passed as u64;
    }

    /// The commits between two numbers as one: each row that they changed.
    fn as_one(&self, told: u64, to: u64) -> Option<Arc<Vec<RowChange>>> {
        let mut commits = self.between(told, to);
        match (commits.next(), commits.next()) {
            (None, _) => None,
            (Some(only), None) => Some(Arc::clone(&only.changes)),
            (Some(_), Some(_)) => Some(Arc::new(merge(self.between(told, to).flat_map(|c| c.changes.iter())))),
        }
    }
}

/// Each changed row as it was before the first change and after the last.
pub(super) fn merge<'a>(changes: impl Iterator<Item = &'a RowChange>) -> Vec<RowChange> {
    let mut merged: Map<(usize, Uuid), RowChange> = Map::default();
    for change in changes {
        merged
            .entry((change.table, change.uuid))
            .and_modify(|known| known.new.clone_from(&change.new))
            .or_insert_with(|| change.clone());
    }
    merged.into_values().filter(|c| c.old.is_some() || c.new.is_some()).collect()
}

/// Bytes of a commit, roughly: the rows that it leaves.
fn weight_of(changes: &[RowChange]) -> u64 {
    let fields = changes.iter().filter_map(|c| c.new.as_ref()).flat_map(|row| row.fields.iter());
    let atoms = fields.flat_map(|field| field.keys().iter().chain(field.values()));
    let text: usize = atoms.map(|atom| atom.as_str().map_or(size_of::<u64>(), str::len)).sum();
    COMMIT_WEIGHT + CHANGE_WEIGHT * changes.len() as u64 + text as u64
}

/// Which commits, and for whom: database, the numbers around them, and the monitors' spec.
type TextKey = (usize, u64, u64, Arc<str>);

/// Texts of updates that were made in this lap; `None` for monitors that hear nothing.
#[derive(Debug, Default)]
pub(super) struct Texts {
    made: Map<TextKey, Option<Arc<str>>>,
    bytes: usize,
}

impl Texts {
    fn make(&mut self, key: TextKey, make: impl FnOnce() -> Option<String>) -> Option<Arc<str>> {
        if let Some(text) = self.made.get(&key) {
            return text.clone();
        }
        if self.bytes > TEXTS_MAX {
            self.clear();
        }
        let text: Option<Arc<str>> = make().map(Arc::from);
        self.bytes += size_of::<TextKey>() + text.as_ref().map_or(0, |t| t.len());
        self.made.insert(key, text.clone());
        text
    }

    /// Forgets all texts: numbers of databases have a new meaning, or the lap is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Whose turn it is to be told. A session with monitors is in one of the lists, or behind.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Those with nothing to hear since their last turn.
    idle: Vec<SessionId>,
    due: VecDeque<SessionId>,
    /// How many of `due` belong to this lap.
    left: usize,
    /// Length of this lap.
    lap: usize,
    /// The task sees to it that turns are taken.
    task: bool,
}

impl Turns {
    /// A session has its first monitor.
    pub(super) fn join(&mut self, session: SessionId) {
        self.idle.push(session);
    }

    /// A session is gone. One that is due is passed over when its turn comes.
    pub(super) fn leave(&mut self, session: SessionId) {
        if let Some(at) = self.idle.iter().position(|s| *s == session) {
            self.idle.swap_remove(at);
        }
    }
}

/// What follows a slice of turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More turns.
    Slice,
    /// A pause: so many sessions have been told.
    Pause(usize),
    /// Nothing, until there is something to tell.
    Rest,
}

impl Core {
    /// Keeps a commit for the monitors, and tells those who can be told at once.
    pub(super) fn publish(&mut self, db: usize, changes: Vec<RowChange>) {
        let served = &mut self.dbs[db];
        let tables = served.store.db().schema().tables.len();
        served.log.append(Arc::new(changes), tables);
        if self.dbs[db].log.wants_trim() {
            self.trim(db);
        }
        let Turns { due, idle, .. } = &mut self.turns;
        due.extend(idle.drain(..));
        self.begin();
    }

    /// Takes the first turns, unless the task is at it; leaves the others to the task.
    fn begin(&mut self) {
        if self.turns.task || self.turns.due.is_empty() {
            return;
        }
        self.slice();
        if !self.turns.due.is_empty() {
            self.turns.task = true;
            self.effects.push(Effect::Tell);
        }
    }

    /// For the task: the next turns.
    pub(crate) fn take_turns(&mut self) -> Next {
        if self.turns.due.is_empty() {
            self.turns.task = false;
            return Next::Rest;
        }
        self.slice();
        if self.turns.left > 0 { Next::Slice } else { Next::Pause(self.turns.lap) }
    }

    fn slice(&mut self) {
        if self.turns.left == 0 {
            self.turns.lap = self.turns.due.len();
            self.turns.left = self.turns.lap;
            self.texts.clear();
            self.dbs.iter_mut().for_each(|d| d.log.lap = d.log.head);
        }
        for _ in 0..SLICE.min(self.turns.left) {
            self.turns.left -= 1;
            if let Some(session) = self.turns.due.pop_front() {
                self.take_turn(session);
            }
        }
        if self.turns.left == 0 {
            self.texts.clear();
        }
    }

    fn take_turn(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get(&session) else { return };
        if state.out.is_busy() {
            if !state.out.fall_behind() {
                return;
            }
            // The queue became empty in between, and its writer cannot come before us: it needs the lock that we hold.
            state.out.catch_up();
        }
        self.tell(session, Log::lap);
        let Some(state) = self.sessions.get(&session) else { return };
        let more = state.monitors.iter().any(|m| m.told < self.dbs[m.db].log.head);
        if more { self.turns.due.push_back(session) } else { self.turns.idle.push(session) }
    }

    /// A session that was behind has an empty queue.
    pub(crate) fn rejoin(&mut self, session: SessionId) {
        if self.sessions.get(&session).is_some_and(|s| s.out.catch_up()) {
            self.turns.due.push_back(session);
            self.begin();
        }
    }

    /// Tells a session of the commits up to a number of each database's log.
    pub(super) fn tell(&mut self, session: SessionId, up_to: impl Fn(&Log) -> u64) {
        let Self { dbs, texts, sessions, .. } = self;
        let Some(state) = sessions.get_mut(&session) else { return };
        let mut fits = true;
        for monitor in state.monitors.iter_mut() {
            let log = &dbs[monitor.db].log;
            let (told, to) = (monitor.told, up_to(log));
            if told >= to {
                continue;
            }
            monitor.told = to;
            if !log.between(told, to).any(|c| monitor.concerns(&c.changed)) {
                continue;
            }
            let schema = dbs[monitor.db].store.db().schema();
            let key = (monitor.db, told, to, Arc::clone(&monitor.spec));
            let text = texts.make(key, || Some(monitor.updates(schema, &log.as_one(told, to)?)?.to_string()));
            if let Some(text) = text {
                fits &= state.out.push(monitor.notification(text));
            }
        }
        if !fits {
            self.drop_slow(session);
        }
    }

    /// Forgets the commits that everybody was told of; drops who misses too much.
    fn trim(&mut self, db: usize) {
        let log = &mut self.dbs[db].log;
        let (mut oldest, mut slow) = (log.head, Vec::new());
        for (session, state) in &mut self.sessions {
            let mut first = log.head;
            for monitor in state.monitors.iter_mut().filter(|m| m.db == db) {
                log.pass(monitor);
                first = first.min(monitor.told);
            }
            if state.out.is_busy() && log.weight_after(first) > OUTPUT_MAX as u64 {
                slow.push(*session);
            } else {
                oldest = oldest.min(first);
            }
        }
        log.forget_through(oldest);
        slow.into_iter().for_each(|session| self.drop_slow(session));
    }

    /// Tells everybody everything: a database is about to be another, or gone.
    pub(super) fn tell_all(&mut self) {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.tell(session, Log::head));
    }

    /// Puts a message into a session's queue.
    pub(super) fn push(&mut self, session: SessionId, message: Outgoing) {
        if let Some(s) = self.sessions.get(&session)
            && !s.out.push(message)
        {
            self.drop_slow(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Row;
    use crate::schema::Schema;

    const SCHEMA: &str = r#"{"name": "d", "version": "1.0.0", "tables": {
        "a": {"columns": {"n": {"type": "integer"}}}, "b": {"columns": {"s": {"type": "string"}}}}}"#;

    fn monitor(schema: &Schema, table: &str) -> Monitor {
        let requests = serde_json::json!({table: {}});
        Monitor::new(0, schema, super::super::monitor::Version::Two, &serde_json::Value::Null, &requests).unwrap()
    }

    /// A log of commits, each of which changes one row of the table of that number.
    fn log(schema: &Schema, tables: &[usize]) -> Log {
        let mut log = Log::default();
        for &table in tables {
            let row = Arc::new(Row::new(&schema.tables[table], Uuid::new_v4()));
            let change = RowChange { table, uuid: row.uuid(), old: None, new: Some(row) };
            log.append(Arc::new(vec![change]), schema.tables.len());
        }
        log
    }

    #[test]
    fn a_log_counts_from_one_and_forgets_from_the_front() {
        let schema = Schema::from_text(SCHEMA).unwrap();
        let mut log = log(&schema, &[0, 1, 1, 0, 0]);
        assert_eq!((log.head(), log.between(0, 5).count(), log.between(2, 4).count(), log.between(5, 5).count()), (5, 5, 2, 0));
        assert_eq!(log.weight_after(0), log.through());
        let rest = log.weight_after(2);
        log.forget_through(2);
        assert_eq!((log.first(), log.weight_after(2), log.weight_after(5)), (3, rest, 0));
        assert_eq!((log.between(2, 5).count(), log.between(3, 4).count()), (3, 1));
        log.forget_through(5);
        assert_eq!((log.first(), log.head(), log.weight_after(5)), (6, 5, 0));
        assert!(log.as_one(5, 5).is_none());
    }

    #[test]
    fn a_monitor_passes_what_does_not_concern_it() {
        let schema = Schema::from_text(SCHEMA).unwrap();
        let log = log(&schema, &[0, 0, 1, 0]);
        let table_b = schema.table("b").unwrap();
        let mut monitor = monitor(&schema, "b");
        log.pass(&mut monitor);
        let expect = if table_b == 1 { 2 } else { 0 };
        assert_eq!(monitor.told, expect);
        monitor.told = 3;
        log.pass(&mut monitor);
        assert_eq!(monitor.told, if table_b == 1 { 4 } else { 3 });
    }

    #[test]
    fn commits_of_one_row_become_one_change() {
        let schema = Schema::from_text(SCHEMA).unwrap();
        let row = |n: i64| {
            let mut row = Row::new(&schema.tables[0], Uuid::from_u128(7));
            row.fields[2] = crate::datum::Datum::from(n);
            Some(Arc::new(row))
        };
        let change = |old, new| RowChange { table: 0, uuid: Uuid::from_u128(7), old, new };
        let changes = [change(row(1), row(2)), change(row(2), row(3))];
        let merged = merge(changes.iter());
        assert_eq!(merged.len(), 1);
        let number = |row: &Option<Arc<Row>>| row.as_ref().unwrap().fields[2].as_int();
        assert_eq!((number(&merged[0].old), number(&merged[0].new)), (Some(1), Some(3)));
        // What came and went was never there.
        assert!(merge([change(None, row(1)), change(row(1), None)].iter()).is_empty());
    }

    #[test]
    fn texts_are_made_once_and_bounded() {
        let mut texts = Texts::default();
        let key = |n: u64| (0, n, n + 1, Arc::from("spec"));
        assert_eq!(texts.make(key(1), || Some("x".into())).as_deref(), Some("x"));
        assert_eq!(texts.make(key(1), || panic!("made twice")).as_deref(), Some("x"));
        assert!(texts.make(key(2), || None).is_none());
        assert!(texts.make(key(2), || panic!("made twice")).is_none());
        for n in 3..8 {
            texts.make(key(n), || Some("y".repeat(TEXTS_MAX / 2)));
        }
        assert!(texts.bytes < 2 * TEXTS_MAX);
    }
}
