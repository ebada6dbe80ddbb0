//! From a transaction to a commit: the integrity rules of RFC 7047 sections 3.2 and 4.1.3.
//!
//! The order is OVS's, because it decides which error a client sees: strong references (none may dangle, and what is
//! referred to may not be deleted), garbage collection, row limits, weak references, indexes. Garbage collection comes
//! before weak references because collected rows take the weak references to them along.

use super::{Row, RowChange, Txn, index_key, reference_delta};
use crate::datum::Datum;
use crate::error::{Error, Result, Tag};
use crate::hash::Map;
use crate::schema::{COL_FIRST, TableSchema};
use crate::types::RefType;
use std::sync::Arc;
use uuid::Uuid;

/// Changes that obey all rules of the database they were prepared against.
#[derive(Debug)]
pub struct Commit {
    /// The changed rows; empty if the transaction changed nothing.
    pub changes: Vec<RowChange>,
    /// For the journal.
    pub comments: Vec<String>,
}

/// Changes to the number of strong references to rows.
type Delta = Map<(usize, Uuid), i64>;

impl Txn<'_> {
    /// Checks every rule, collects garbage, prunes weak references.
    pub fn prepare(mut self) -> Result<Commit> {
        self.drop_unchanged();
        let mut delta = self.count_strong()?;
        self.check_deleted(&delta)?;
        self.collect_garbage(&mut delta);
        self.check_max_rows()?;
        self.prune_weak()?;
        self.drop_unchanged();
        self.check_indexes()?;
        let changes = self.changes();
        Ok(Commit { changes, comments: self.comments })
    }

    /// Counts strong references added and removed; an added one must lead to a row.
    fn count_strong(&self) -> Result<Delta> {
        let db = self.database();
        let mut delta = Delta::default();
        let mut dangling = None;
        for change in self.changes() {
            reference_delta(db.ref_columns(change.table), &change, |(table, kind), target, added| {
                if kind == RefType::Weak || target == change.uuid {
                    return;
                }
                let exists = || self.row(table, &target).is_some() || self.deleted(table, &target);
                if added && dangling.is_none() && !exists() {
                    dangling = Some(self.dangling_error(&change, table, target));
                }
                *delta.entry((table, target)).or_insert(0) += if added { 1 } else { -1 };
            });
        }
        dangling.map_or(Ok(delta), Err)
    }

    fn dangling_error(&self, change: &RowChange, target_table: usize, target: Uuid) -> Error {
        let schema = self.database().schema();
        let source = &schema.tables[change.table];
        let holds = |c: &usize| {
            let to_target = source.columns[*c].ty.key.reference().is_some()
                || source.columns[*c].ty.value.as_ref().is_some_and(|v| v.reference().is_some());
            to_target && change.new.as_ref().is_some_and(|row| row.fields[*c].uuids().any(|u| u == target))
        };
        let column = (COL_FIRST..source.columns.len()).find(holds).unwrap_or(COL_FIRST);
        Error::new(
            Tag::Referential,
            format!(
                "Table {} column {} row {} references nonexistent row {target} in table {}.",
                source.name, source.columns[column].name, change.uuid, schema.tables[target_table].name
            ),
        )
    }

    fn strong_count(&self, delta: &Delta, table: usize, uuid: &Uuid) -> i64 {
        let base = self.database().table(table).strong.get(uuid).copied().unwrap_or(0);
        i64::try_from(base).unwrap_or(i64::MAX) + delta.get(&(table, *uuid)).copied().unwrap_or(0)
    }

    fn check_deleted(&self, delta: &Delta) -> Result<()> {
        for change in self.changes().iter().filter(|c| c.new.is_none()) {
            let n = self.strong_count(delta, change.table, &change.uuid);
            if n > 0 {
                let table = &self.database().schema().tables[change.table].name;
                let text = format!("cannot delete {table} row {} because of {n} remaining reference(s)", change.uuid);
                return Err(Error::new(Tag::Referential, text));
            }
        }
        Ok(())
    }

    /// Deletes rows of non-root tables that nobody refers to strongly, and what only they kept alive.
    fn collect_garbage(&mut self, delta: &mut Delta) {
        let db = self.database();
        let is_root = |table: usize| db.schema().tables[table].is_root;
        let inserted = self.changes().into_iter().filter(|c| c.new.is_some()).map(|c| (c.table, c.uuid));
        let mut suspects: Vec<(usize, Uuid)> = inserted.collect();
        suspects.extend(delta.iter().filter(|(_, n)| **n < 0).map(|(row, _)| *row));
        while let Some((table, uuid)) = suspects.pop() {
            if is_root(table) || self.strong_count(delta, table, &uuid) > 0 {
                continue;
            }
            let Some(row) = self.row(table, &uuid).cloned() else {
                continue;
            };
            self.delete(table, &uuid);
            let gone = RowChange { table, uuid, old: Some(row), new: None };
            reference_delta(db.ref_columns(table), &gone, |(target_table, kind), target, _| {
                if kind == RefType::Strong && target != uuid {
                    *delta.entry((target_table, target)).or_insert(0) -= 1;
                    suspects.push((target_table, target));
                }
            });
        }
    }

    fn check_max_rows(&self) -> Result<()> {
        for (i, table) in self.database().schema().tables.iter().enumerate() {
            let n = self.count(i);
            if n > table.max_rows as usize && self.inserted_into(i) {
                return Err(Error::constraint(format!(
                    "transaction causes \"{}\" table to contain {n} rows, greater than the schema-defined limit of {} row(s)",
                    table.name, table.max_rows
                )));
            }
        }
        Ok(())
    }

    /// Removes weak references to rows that are not there.
    fn prune_weak(&mut self) -> Result<()> {
        let db = self.database();
        let mut suspects = Vec::new();
        for change in self.changes() {
            if change.new.is_some() {
                suspects.push((change.table, change.uuid));
            } else if let Some(referrers) = db.table(change.table).weak.get(&change.uuid) {
                suspects.extend(referrers.keys().copied());
            }
        }
        suspects.sort_unstable();
        suspects.dedup();
        suspects.into_iter().try_for_each(|(table, uuid)| self.prune_weak_in(table, uuid))
    }

    fn prune_weak_in(&mut self, table: usize, uuid: Uuid) -> Result<()> {
        let db = self.database();
        let Some(row) = self.row(table, &uuid).cloned() else {
            return Ok(());
        };
        for column in db.ref_columns(table) {
            let dead = |target: Option<(usize, RefType)>, atom: Option<&crate::atom::Atom>| match (target, atom) {
                (Some((table, RefType::Weak)), Some(atom)) => atom.as_uuid().is_some_and(|u| self.row(table, &u).is_none()),
                _ => false,
            };
            let before = &row.fields[column.column];
            if !before.keys().iter().any(|k| dead(column.key, Some(k)))
                && !before.values().iter().any(|v| dead(column.value, Some(v)))
            {
                continue;
            }
            let after = before.retain(|k, v| !dead(column.key, Some(k)) && !dead(column.value, v));
            let schema = &db.schema().tables[table];
            if after.len() < schema.columns[column.column].ty.min as usize {
                let inserted = db.row(table, &uuid).is_none();
                return Err(emptied_error(schema, column.column, uuid, (before, &after), inserted));
            }
            if let Some(row) = self.modify(table, &uuid) {
                row.fields[column.column] = after;
            }
        }
        Ok(())
    }

    fn check_indexes(&self) -> Result<()> {
        let db = self.database();
        let changes = self.changes();
        for (t, table) in db.schema().tables.iter().enumerate() {
            for (i, columns) in table.indexes.iter().enumerate() {
                let mut seen: Map<_, &Arc<Row>> = Map::default();
                for row in changes.iter().filter(|c| c.table == t).filter_map(|c| c.new.as_ref()) {
                    let key = index_key(row, columns);
                    let in_db = db.table(t).indexes[i].get(&key).filter(|uuid| !self.touched(t, uuid));
                    let other = seen.get(&key).copied().or_else(|| in_db.and_then(|uuid| db.row(t, uuid)));
                    if let Some(other) = other {
                        return Err(self.duplicate_error(t, columns, row, other));
                    }
                    seen.insert(key, row);
                }
            }
        }
        Ok(())
    }

    fn duplicate_error(&self, table: usize, columns: &[usize], a: &Arc<Row>, b: &Arc<Row>) -> Error {
        let schema = &self.database().schema().tables[table];
        let (first, second) = if a.fields[COL_FIRST..] < b.fields[COL_FIRST..] { (b, a) } else { (a, b) };
        let names: Vec<String> = columns.iter().map(|c| format!("\"{}\"", schema.columns[*c].name)).collect();
        let plural = if columns.len() > 1 { "s" } else { "" };
        Error::constraint(format!(
            "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on column{plural} {}.  First row, with UUID {}, {}  Second row, with UUID {}, {}",
            schema.name,
            values_text(schema, columns, first),
            english_list(&names),
            first.uuid(),
            self.history_of(table, columns, first),
            second.uuid(),
            self.history_of(table, columns, second),
        ))
    }

    fn history_of(&self, table: usize, columns: &[usize], row: &Row) -> String {
        let uuid = row.uuid();
        match self.database().row(table, &uuid) {
            None => "was inserted by this transaction.".into(),
            Some(_) if !self.touched(table, &uuid) => {
                "existed in the database before this transaction and was not modified by the transaction.".into()
            }
            Some(old) if index_key(old, columns) == index_key(row, columns) => {
                "existed in the database before this transaction, which modified some of the row's columns but not any columns in this index.".into()
            }
            Some(old) => {
                let schema = &self.database().schema().tables[table];
                let values = values_text(schema, columns, old);
                format!("had the following index values before the transaction: {values}.")
            }
        }
    }
}

fn emptied_error(schema: &TableSchema, column: usize, uuid: Uuid, datums: (&Datum, &Datum), inserted: bool) -> Error {
    let (before, after) = datums;
    let name = &schema.columns[column].name;
    let zero = before.keys().iter().chain(before.values()).any(|a| a.as_uuid().is_some_and(|u| u.is_nil()));
    Error::constraint(if zero && inserted {
        // "volation" is how OVS spells it.
        format!(
            "Weak reference column \"{name}\" in \"{}\" row {uuid} (inserted within this transaction) contained all-zeros UUID (probably as the default value for this column) but deleting this value caused a constraint volation because this column is not allowed to be empty.",
            schema.name
        )
    } else {
        format!(
            "Deletion of {} weak reference(s) to deleted (or never-existing) rows from column \"{name}\" in \"{}\" row {uuid} {}caused this column to become empty, but constraints on this column disallow an empty column.",
            before.len() - after.len(),
            schema.name,
            if inserted { "(inserted within this transaction) " } else { "" }
        )
    })
}

fn values_text(schema: &TableSchema, columns: &[usize], row: &Row) -> String {
    let texts: Vec<String> = columns.iter().map(|c| row.fields[*c].to_text(&schema.columns[*c].ty)).collect();
    english_list(&texts)
}

/// `a`, `a and b`, `a, b, and c`.
fn english_list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [a, b] => format!("{a} and {b}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}
