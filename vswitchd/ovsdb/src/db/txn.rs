//! A transaction in progress: changes laid over a database that itself stays as it is.

use super::{Database, Row, RowChange};
use crate::datum::Datum;
use crate::hash::Map;
use crate::schema::COL_VERSION;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Clone, Debug)]
struct Change {
    old: Option<Arc<Row>>,
    new: Option<Arc<Row>>,
}

/// An overlay over a [`Database`].
#[derive(Debug)]
pub struct Txn<'a> {
    db: &'a Database,
    changes: Vec<Map<Uuid, Change>>,
    /// What `comment` operations said, for the journal.
    pub comments: Vec<String>,
}

impl<'a> Txn<'a> {
    /// A transaction that has changed nothing.
    #[must_use]
    pub fn new(db: &'a Database) -> Self {
        let changes = db.schema().tables.iter().map(|_| Map::default()).collect();
        Self { db, changes, comments: Vec::new() }
    }

    /// The database underneath.
    #[must_use]
    pub fn database(&self) -> &'a Database {
        self.db
    }

    /// The row as this transaction sees it.
    #[must_use]
    pub fn row(&self, table: usize, uuid: &Uuid) -> Option<&Arc<Row>> {
        match self.changes[table].get(uuid) {
            Some(change) => change.new.as_ref(),
            None => self.db.row(table, uuid),
        }
    }

    /// The rows of a table as this transaction sees them.
    pub fn rows(&self, table: usize) -> impl Iterator<Item = (&Uuid, &Arc<Row>)> {
        let changes = &self.changes[table];
        let kept = self.db.rows(table).filter(|(uuid, _)| changes.is_empty() || !changes.contains_key(*uuid));
        kept.chain(changes.iter().filter_map(|(uuid, c)| Some((uuid, c.new.as_ref()?))))
    }

    /// The number of rows that [`Txn::rows`] yields.
    #[must_use]
    pub fn count(&self, table: usize) -> usize {
        let changes = self.changes[table].values();
        let (mut inserted, mut deleted) = (0, 0);
        for change in changes {
            match (&change.old, &change.new) {
                (None, Some(_)) => inserted += 1,
                (Some(_), None) => deleted += 1,
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        self.db.len(table) + inserted - deleted
    }

    /// Whether this transaction inserted a row into the table.
    #[must_use]
    pub fn inserted_into(&self, table: usize) -> bool {
        self.changes[table].values().any(|c| c.old.is_none() && c.new.is_some())
    }

    /// Whether a row of that identity could be inserted: none is there, and none was deleted here.
    #[must_use]
    pub fn may_create(&self, table: usize, uuid: &Uuid) -> bool {
        !self.changes[table].contains_key(uuid) && self.db.row(table, uuid).is_none()
    }

    /// Adds a row.
    pub fn insert(&mut self, table: usize, row: Row) {
        let uuid = row.uuid();
        let old = self.db.row(table, &uuid).cloned();
        self.changes[table].insert(uuid, Change { old, new: Some(Arc::new(row)) });
    }

    /// The row for changing; `None` if it is not there. Its `_version` becomes new.
    pub fn modify(&mut self, table: usize, uuid: &Uuid) -> Option<&mut Row> {
        let db = self.db;
        if !self.changes[table].contains_key(uuid) {
            let old = db.row(table, uuid)?;
            let mut new = Row::clone(old);
            new.fields[COL_VERSION] = Datum::from(Uuid::new_v4());
            let change = Change { old: Some(Arc::clone(old)), new: Some(Arc::new(new)) };
            self.changes[table].insert(*uuid, change);
        }
        self.changes[table].get_mut(uuid)?.new.as_mut().map(Arc::make_mut)
    }

    /// Removes a row.
    pub fn delete(&mut self, table: usize, uuid: &Uuid) {
        let old = self.db.row(table, uuid).cloned();
        match old {
            None => {
                self.changes[table].remove(uuid);
            }
            Some(_) => {
                self.changes[table].insert(*uuid, Change { old, new: None });
            }
        }
    }

    /// Whether this transaction removed a row that the database has.
    #[must_use]
    pub fn deleted(&self, table: usize, uuid: &Uuid) -> bool {
        self.changes[table].get(uuid).is_some_and(|c| c.new.is_none())
    }

    /// Whether this transaction touched the row.
    #[must_use]
    pub fn touched(&self, table: usize, uuid: &Uuid) -> bool {
        self.changes[table].contains_key(uuid)
    }

    /// Forgets changes that change nothing but `_version`.
    pub(crate) fn drop_unchanged(&mut self) {
        for changes in &mut self.changes {
            changes.retain(|_, change| match (&change.old, &change.new) {
                (Some(old), Some(new)) => {
                    let differs = |c: usize| c != COL_VERSION && old.fields[c] != new.fields[c];
                    (0..old.fields.len()).any(differs)
                }
                (None, None) => false,
                (Some(_), None) | (None, Some(_)) => true,
            });
        }
    }

    /// All changes, in no order.
    pub(crate) fn changes(&self) -> Vec<RowChange> {
        let mut all = Vec::new();
        for (table, changes) in self.changes.iter().enumerate() {
            all.extend(changes.iter().map(|(uuid, c)| RowChange { table, uuid: *uuid, old: c.old.clone(), new: c.new.clone() }));
        }
        all
    }
}
