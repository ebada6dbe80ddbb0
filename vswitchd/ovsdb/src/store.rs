//! A database together with its journal: opened, changed, compacted, converted.
//!
//! What enters: prepared [`Commit`]s. A commit is appended to the journal first and applied to memory only if that
//! worked, so memory never knows what the file does not. What leaves: rows, through [`Store::db`].

use crate::datum::Datum;
use crate::db::{Commit, Database, Row, RowChange, Txn};
use crate::error::{Error, Result, Tag};
use crate::journal::{Contents, Damage, Journal};
use crate::schema::{COL_FIRST, Schema, TableSchema};
use serde_json::{Map as Object, Value};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// A database, with a file behind it or only in memory.
#[derive(Debug)]
pub struct Store {
    db: Database,
    journal: Option<Journal>,
}

impl Store {
    /// A database without a file.
    #[must_use]
    pub fn in_memory(schema: Arc<Schema>) -> Self {
        Self { db: Database::new(schema), journal: None }
    }

    /// Creates a database file. Fails if it exists.
    pub fn create(path: &Path, schema: Arc<Schema>) -> Result<Self> {
        let journal = Journal::create(path, &schema.to_json())?;
        Ok(Self { db: Database::new(schema), journal: Some(journal) })
    }

    /// Opens a database file, also one made by ovsdb-tool; a torn tail is cut off.
    pub fn open(path: &Path) -> Result<Self> {
        let (journal, db) = Journal::open_with(path, |contents| replay(path, &contents))?;
        Ok(Self { db, journal: Some(journal) })
    }

    /// Reads a database file without locking or changing it.
    pub fn read(path: &Path) -> Result<Database> {
        let contents = crate::journal::read(path)?;
        match (&contents.damage, contents.records.is_empty()) {
            (Some(damage), true) => {
                let text = format!("{}: unexpected file format: {}", path.display(), damage.reason);
                Err(Error::new(Tag::OvsdbError, text))
            }
            _ => {
                let (db, senseless) = replay(path, &contents)?;
                if let Some(damage) = senseless.as_ref().or(contents.damage.as_ref()) {
                    let Damage { record, offset, reason } = damage;
                    tracing::warn!(target: "ovsdb_log", "{}: record {record} at offset {offset}: {reason}", path.display());
                }
                Ok(db)
            }
        }
    }

    /// Reads the bytes of a database file. Damage of any kind is an error here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Database> {
        let contents = crate::journal::decode(bytes);
        let (db, senseless) = replay(Path::new("input"), &contents)?;
        match senseless.or(contents.damage) {
            None => Ok(db),
            Some(d) => Err(Error::new(Tag::OvsdbError, format!("record {} at offset {}: {}", d.record, d.offset, d.reason))),
        }
    }

    /// The rows.
    #[must_use]
    pub fn db(&self) -> &Database {
        &self.db
    }

    /// The file to sync for durability, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<Arc<File>> {
        self.journal.as_ref().map(Journal::file)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.journal.as_ref().map(Journal::name)
    }

    /// Writes and applies `commit`, which must have been prepared against this state.
    pub fn commit(&mut self, commit: &Commit, date_ms: u64) -> Result<()> {
        if commit.changes.is_empty() {
            return Ok(());
        }
        if let Some(journal) = &mut self.journal
            && let Some(record) = commit_record(self.db.schema(), commit, date_ms)
        {
            journal.append(&record)?;
        }
        self.db.apply(&commit.changes);
        Ok(())
    }

    /// Compacts the journal if that pays. The old journal stays in use if it fails.
    pub fn compact_if_due(&mut self, date_ms: u64) -> Result<bool> {
        if self.journal.as_ref().is_some_and(Journal::wants_compaction) {
            return self.compact("compacting database online", date_ms).map(|()| true);
        }
        Ok(false)
    }

    /// Rewrites the journal with nothing but the present state.
    pub fn compact(&mut self, comment: &str, date_ms: u64) -> Result<()> {
        let records = [self.db.schema().to_json(), snapshot_record(&self.db, comment, date_ms)];
        match &mut self.journal {
            Some(journal) => journal.replace(&records),
            None => Ok(()),
        }
    }

    /// Puts the file on disk.
    pub fn sync(&self) -> Result<()> {
        let outcome = self.file().map_or(Ok(()), |file| file.sync_data());
        outcome.map_err(|e| Error::from_io(&e, "fsync failed"))
    }

    /// Writes a new file with nothing but the present state.
    pub fn export(&self, path: &Path, comment: &str, date_ms: u64) -> Result<()> {
        write_out(&self.db, path, comment, date_ms)
    }

    /// Writes a new file with the present state under another schema.
    pub fn export_as(&self, schema: Arc<Schema>, path: &Path, comment: &str, date_ms: u64) -> Result<()> {
        write_out(&converted(&self.db, schema)?, path, comment, date_ms)
    }

    /// Gives the database another schema: what fits is kept, other tables and columns go (ovsdb-server(7), "convert").
    pub fn convert(&mut self, schema: Arc<Schema>, comment: &str, date_ms: u64) -> Result<()> {
        let db = converted(&self.db, schema)?;
        if let Some(journal) = &mut self.journal {
            let snapshot = snapshot_record(&db, comment, date_ms);
            journal.replace(&[db.schema().to_json(), snapshot])?;
        }
        self.db = db;
        Ok(())
    }
}

fn write_out(db: &Database, path: &Path, comment: &str, date_ms: u64) -> Result<()> {
    let mut journal = Journal::create(path, &db.schema().to_json())?;
    journal.append(&snapshot_record(db, comment, date_ms))?;
    journal.file().sync_all().map_err(|e| Error::from_io(&e, format!("{}: sync failed", path.display())))
}

// ---- journal records ---------------------------------------------------------------------------------------------

/// The record of a commit; `None` if nothing in it is persistent.
fn commit_record(schema: &Schema, commit: &Commit, date_ms: u64) -> Option<Value> {
    // Readers of the format check a difference against the column's type, which a large one may exceed.
    let as_diff = commit.changes.iter().all(|c| diff_is_readable(&schema.tables[c.table], c));
    let mut tables: Object<String, Value> = Object::new();
    for change in &commit.changes {
        let table = &schema.tables[change.table];
        let Some(row) = change_json(table, change, as_diff) else {
            continue;
        };
        let rows = tables.entry(table.name.clone()).or_insert_with(|| Value::Object(Object::new()));
        if let Some(rows) = rows.as_object_mut() {
            rows.insert(change.uuid.to_string(), row);
        }
    }
    if tables.is_empty() {
        return None;
    }
    tables.insert("_date".into(), date_ms.into());
    if as_diff {
        tables.insert("_is_diff".into(), true.into());
    }
    if !commit.comments.is_empty() {
        tables.insert("_comment".into(), commit.comments.join("\n").into());
    }
    Some(Value::Object(tables))
}

fn persistent(table: &TableSchema) -> impl Iterator<Item = usize> {
    (COL_FIRST..table.columns.len()).filter(|c| !table.columns[*c].ephemeral)
}

fn diff_is_readable(table: &TableSchema, change: &RowChange) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    let mut changed = persistent(table).filter(|c| old.fields[*c] != new.fields[*c]);
    changed.all(|c| {
        let ty = &table.columns[c].ty;
        let n = old.fields[c].diff(&new.fields[c], ty).len();
        n >= ty.min as usize && n <= ty.max as usize
    })
}

fn change_json(table: &TableSchema, change: &RowChange, as_diff: bool) -> Option<Value> {
    let Some(new) = &change.new else {
        return Some(Value::Null);
    };
    let mut row = Object::new();
    for c in persistent(table) {
        let column = &table.columns[c];
        let value = match &change.old {
            Some(old) if old.fields[c] == new.fields[c] => continue,
            Some(old) if as_diff && old.fields[c] != column.default => old.fields[c].diff(&new.fields[c], &column.ty),
            None if new.fields[c] == column.default => continue,
            Some(_) | None => new.fields[c].clone(),
        };
        row.insert(column.name.clone(), value.to_json());
    }
    if change.old.is_some() && row.is_empty() { None } else { Some(Value::Object(row)) }
}

fn snapshot_record(db: &Database, comment: &str, date_ms: u64) -> Value {
    let mut record = Object::new();
    record.insert("_date".into(), date_ms.into());
    record.insert("_comment".into(), comment.into());
    for (t, table) in db.schema().tables.iter().enumerate() {
        let mut rows = Object::new();
        for (uuid, row) in db.rows(t) {
            let change = RowChange { table: t, uuid: *uuid, old: None, new: Some(Arc::clone(row)) };
            rows.insert(uuid.to_string(), change_json(table, &change, false).unwrap_or_default());
        }
        if !rows.is_empty() {
            record.insert(table.name.clone(), Value::Object(rows));
        }
    }
    Value::Object(record)
}

// ---- reading back ------------------------------------------------------------------------------------------------

/// The database that the records make, up to one that makes no sense.
fn replay(path: &Path, contents: &Contents) -> Result<(Database, Option<Damage>)> {
    let at = |number: usize, e: Error| Error { details: format!("{}: record {number}: {}", path.display(), e.details), ..e };
    let mut records = contents.records.iter().enumerate();
    let (_, schema) =
        records.next().ok_or_else(|| Error::new(Tag::OvsdbError, format!("{}: file holds no schema", path.display())))?;
    let schema = Schema::from_json(schema).map_err(|e| at(0, e))?;
    let mut db = Database::new(Arc::new(schema));
    let mut damage = None;
    for (number, record) in records {
        if let Err(e) = replay_one(&mut db, number, record) {
            let offset = contents.offsets.get(number).copied().unwrap_or_default();
            damage = Some(Damage { record: number, offset, reason: e.to_string() });
            break;
        }
    }
    settle(&mut db).map_err(|e| at(contents.records.len(), e))?;
    Ok((db, damage))
}

fn replay_one(db: &mut Database, number: usize, record: &Value) -> Result<()> {
    if number > 1 && record.get("tables").is_some() && record.get("name").is_some() {
        // A conversion appended a new schema.
        *db = Database::new(Arc::new(Schema::from_json(record)?));
        return Ok(());
    }
    let changes = record_changes(db, record)?;
    db.apply(&changes);
    Ok(())
}

/// Applies the integrity rules to what the journal gave: dangling weak references go, unreferenced rows go.
fn settle(db: &mut Database) -> Result<()> {
    let mut fresh = Database::new(Arc::clone(db.schema()));
    let mut txn = Txn::new(&fresh);
    for t in 0..db.schema().tables.len() {
        for (_, row) in db.rows(t) {
            txn.insert(t, Row::clone(row));
        }
    }
    let commit = txn.prepare()?;
    fresh.apply(&commit.changes);
    *db = fresh;
    Ok(())
}

fn record_changes(db: &Database, record: &Value) -> Result<Vec<RowChange>> {
    let object = record.as_object().ok_or_else(|| Error::syntax(record, "object expected"))?;
    let is_diff = object.get("_is_diff").and_then(Value::as_bool) == Some(true);
    let mut changes = Vec::new();
    for (name, rows) in object {
        let Some(t) = db.schema().table(name) else {
            if matches!(name.as_str(), "_date" | "_is_diff" | "_comment") {
                continue;
            }
            return Err(Error::at(record, Tag::UnknownTable, format!("No table named {name}.")));
        };
        let rows = rows.as_object().ok_or_else(|| Error::syntax(rows, "object expected"))?;
        for (uuid_text, row) in rows {
            let uuid = crate::atom::parse_uuid(uuid_text)
                .ok_or_else(|| Error::new(Tag::Syntax, format!("\"{uuid_text}\" is not a valid UUID")))?;
            let old = db.row(t, &uuid).cloned();
            if row.is_null() && old.is_none() {
                let text = format!("transaction deletes row {uuid} that does not exist");
                return Err(Error::new(Tag::Syntax, text));
            }
            let table = &db.schema().tables[t];
            let new =
                if row.is_null() { None } else { Some(Arc::new(row_from_record(table, uuid, old.as_deref(), row, is_diff)?)) };
            changes.push(RowChange { table: t, uuid, old, new });
        }
    }
    Ok(changes)
}

fn row_from_record(table: &TableSchema, uuid: Uuid, old: Option<&Row>, json: &Value, is_diff: bool) -> Result<Row> {
    let object = json.as_object().ok_or_else(|| Error::syntax(json, "row must be JSON object"))?;
    let mut row = old.cloned().unwrap_or_else(|| Row::new(table, uuid));
    for (name, value) in object {
        let c = table
            .column(name)
            .ok_or_else(|| Error::new(Tag::UnknownColumn, format!("No column {name} in table {}.", table.name)))?;
        let column = &table.columns[c];
        let patch = is_diff && row.fields[c] != column.default;
        let ty = if patch { &column.ty.relaxed() } else { &column.ty };
        let datum = Datum::from_json(ty, value, None)?;
        row.fields[c] = if patch { row.fields[c].apply(&datum, &column.ty)? } else { datum };
    }
    Ok(row)
}

fn converted(old: &Database, schema: Arc<Schema>) -> Result<Database> {
    let mut db = Database::new(Arc::clone(&schema));
    let mut txn = Txn::new(&db);
    for (t, old_table) in old.schema().tables.iter().enumerate() {
        let Some(new_t) = schema.table(&old_table.name) else {
            continue;
        };
        let table = &schema.tables[new_t];
        for (uuid, old_row) in old.rows(t) {
            let mut row = Row::new(table, *uuid);
            for (c, column) in table.columns.iter().enumerate().skip(COL_FIRST) {
                if let Some(old_c) = old_table.column(&column.name) {
                    let value = old_row.fields[old_c].to_json();
                    row.fields[c] = Datum::from_json(&column.ty, &value, None)?;
                }
            }
            txn.insert(new_t, row);
        }
    }
    let commit = txn.prepare()?;
    db.apply(&commit.changes);
    Ok(db)
}
