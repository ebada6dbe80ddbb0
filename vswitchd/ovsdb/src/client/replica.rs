//! A local copy of (parts of) a database, kept up to date by a server's updates.

use crate::atom::parse_uuid;
use crate::datum::Datum;
use crate::db::Row;
use crate::error::{Error, Result, Tag};
use crate::hash::Map;
use crate::schema::{COL_UUID, Schema, TableSchema};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A row of a replica, at one moment. Cheap to clone; does not change when the replica does.
#[derive(Clone, Debug)]
pub struct IdlRow {
    schema: Arc<Schema>,
    table: usize,
    row: Arc<Row>,
}

impl PartialEq for IdlRow {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table && (Arc::ptr_eq(&self.row, &other.row) || self.row == other.row)
    }
}

impl IdlRow {
    /// The row's identity.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.row.uuid()
    }

    /// Name of its table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table_schema().name
    }

    /// Schema of its table.
    #[must_use]
    pub fn table_schema(&self) -> &TableSchema {
        &self.schema.tables[self.table]
    }

    /// What a column holds; `None` if the server's schema has no such column. A column that is not monitored has its
    /// default.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.table_schema().column(column).map(|c| &self.row.fields[c])
    }

    /// The string in a column, empty if there is none.
    #[must_use]
    pub fn str(&self, column: &str) -> &str {
        self.opt_str(column).unwrap_or("")
    }

    /// The string in a column.
    #[must_use]
    pub fn opt_str(&self, column: &str) -> Option<&str> {
        self.get(column).and_then(Datum::as_str)
    }

    /// The integer in a column.
    #[must_use]
    pub fn int(&self, column: &str) -> Option<i64> {
        self.get(column).and_then(Datum::as_int)
    }

    /// The boolean in a column; false if there is none.
    #[must_use]
    pub fn bool(&self, column: &str) -> bool {
        self.get(column).and_then(Datum::as_bool).unwrap_or(false)
    }

    /// The reference in a column.
    #[must_use]
    pub fn uuid_in(&self, column: &str) -> Option<Uuid> {
        self.get(column).and_then(Datum::as_uuid)
    }

    /// The references in a column (of a map: in its keys and values).
    #[must_use]
    pub fn uuids(&self, column: &str) -> Vec<Uuid> {
        self.get(column).map(|d| d.uuids().collect()).unwrap_or_default()
    }

    /// The strings in a column.
    #[must_use]
    pub fn strings(&self, column: &str) -> Vec<String> {
        self.get(column).map(|d| d.strings().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The integers in a column.
    #[must_use]
    pub fn ints(&self, column: &str) -> Vec<i64> {
        self.get(column).map(|d| d.ints().collect()).unwrap_or_default()
    }

    /// A string-to-string map such as `other_config`.
    #[must_use]
    pub fn map(&self, column: &str) -> BTreeMap<String, String> {
        self.get(column).map(Datum::str_map).unwrap_or_default()
    }

    /// One key of a string-to-string map.
    #[must_use]
    pub fn key(&self, column: &str, key: &str) -> Option<&str> {
        self.get(column).and_then(|d| d.str_value(key))
    }

    /// One key of a string-to-string map read as a boolean: only `true` is true, as OVS's `smap_get_bool` has it for a
    /// default of false, and only `false` is false for a default of true.
    #[must_use]
    pub fn key_bool(&self, column: &str, key: &str, default: bool) -> bool {
        match self.key(column, key) {
            None => default,
            Some(text) if default => !text.eq_ignore_ascii_case("false"),
            Some(text) => text.eq_ignore_ascii_case("true"),
        }
    }

    /// One key of a string-to-string map read as a decimal integer.
    #[must_use]
    pub fn key_int(&self, column: &str, key: &str) -> Option<i64> {
        self.key(column, key).and_then(|text| text.trim().parse().ok())
    }
}

/// A row before and after an update.
#[derive(Clone, Debug)]
pub struct Change {
    /// Name of the table.
    pub table: String,
    /// The row.
    pub uuid: Uuid,
    /// Absent for a row that is new.
    pub old: Option<IdlRow>,
    /// Absent for a row that is gone.
    pub new: Option<IdlRow>,
}

impl Change {
    /// Whether the column differs; of a row that is new or gone every column does.
    #[must_use]
    pub fn touches(&self, column: &str) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.get(column) != new.get(column),
            (None, _) | (_, None) => true,
        }
    }
}

/// Which form updates have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `update`
    One,
    /// `update2`, `update3`
    Two,
}

/// The rows of the monitored tables.
#[derive(Clone, Debug)]
pub struct Replica {
    schema: Arc<Schema>,
    tables: Vec<Map<Uuid, Arc<Row>>>,
}

impl Replica {
    /// An empty replica of a database with that schema.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        let tables = schema.tables.iter().map(|_| Map::default()).collect();
        Self { schema, tables }
    }

    /// The server's schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Whether the server's schema has the table.
    #[must_use]
    pub fn has_table(&self, table: &str) -> bool {
        self.schema.table(table).is_some()
    }

    /// Whether the server's schema has the column.
    #[must_use]
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.schema.table_schema(table).is_some_and(|t| t.column(column).is_some())
    }

    /// All rows of a table, in no order; none if the server has no such table.
    pub fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = IdlRow> + use<'a> {
        let number = self.schema.table(table);
        number.into_iter().flat_map(move |t| self.tables[t].values().map(move |row| self.handle(t, row)))
    }

    /// The row `uuid` of a table.
    #[must_use]
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<IdlRow> {
        let t = self.schema.table(table)?;
        self.tables[t].get(uuid).map(|row| self.handle(t, row))
    }

    /// The only row of a table such as `Open_vSwitch`; any row if there are several.
    #[must_use]
    pub fn first(&self, table: &str) -> Option<IdlRow> {
        self.rows(table).next()
    }

    /// The row whose column holds the string.
    #[must_use]
    pub fn find(&self, table: &str, column: &str, value: &str) -> Option<IdlRow> {
        self.rows(table).find(|row| row.opt_str(column) == Some(value))
    }

    /// The rows that a column refers to, in the order of their UUIDs; dangling references are left out.
    #[must_use]
    pub fn refs(&self, row: &IdlRow, column: &str) -> Vec<IdlRow> {
        let Some(schema) = row.table_schema().column_schema(column) else {
            return Vec::new();
        };
        let bases = [Some(&schema.ty.key), schema.ty.value.as_ref()];
        let target = bases.into_iter().flatten().find_map(|b| b.reference());
        let Some((target, _)) = target else {
            return Vec::new();
        };
        row.uuids(column).iter().filter_map(|u| self.row(target, u)).collect()
    }

    fn handle(&self, table: usize, row: &Arc<Row>) -> IdlRow {
        IdlRow { schema: Arc::clone(&self.schema), table, row: Arc::clone(row) }
    }

    /// Applies `<table-updates>` or `<table-updates2>`.
    pub(crate) fn update(&mut self, form: Form, updates: &Value) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for (name, rows) in object(updates)? {
            let table = self
                .schema
                .table(name)
                .ok_or_else(|| Error::new(Tag::UnknownTable, format!("update to unknown table {name}")))?;
            for (uuid_text, update) in object(rows)? {
                let uuid = parse_uuid(uuid_text).ok_or_else(|| Error::syntax(rows, "bad row UUID in update"))?;
                let old = self.tables[table].get(&uuid).cloned();
                let schema = &self.schema.tables[table];
                let new = match form {
                    Form::One => apply_one(schema, uuid, old.as_deref(), update)?,
                    Form::Two => apply_two(schema, uuid, old.as_deref(), update)?,
                };
                let new = new.map(Arc::new);
                match &new {
                    Some(row) => self.tables[table].insert(uuid, Arc::clone(row)),
                    None => self.tables[table].remove(&uuid),
                };
                changes.push(self.change(table, uuid, old.as_ref(), new.as_ref()));
            }
        }
        Ok(changes)
    }

    fn change(&self, table: usize, uuid: Uuid, old: Option<&Arc<Row>>, new: Option<&Arc<Row>>) -> Change {
        Change {
            table: self.schema.tables[table].name.clone(),
            uuid,
            old: old.map(|r| self.handle(table, r)),
            new: new.map(|r| self.handle(table, r)),
        }
    }

    /// What leads from this replica to `new`, which may have another schema.
    pub(crate) fn difference(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for row in self.schema.tables.iter().flat_map(|t| self.rows(&t.name)) {
            let now = new.row(row.table(), &row.uuid());
            let same = now.as_ref().is_some_and(|now| same_content(&row, now));
            if !same {
                changes.push(Change { table: row.table().to_owned(), uuid: row.uuid(), old: Some(row), new: now });
            }
        }
        for row in new.schema.tables.iter().flat_map(|t| new.rows(&t.name)) {
            if self.row(row.table(), &row.uuid()).is_none() {
                changes.push(Change { table: row.table().to_owned(), uuid: row.uuid(), old: None, new: Some(row) });
            }
        }
        changes
    }
}

fn same_content(a: &IdlRow, b: &IdlRow) -> bool {
    let names = |row: &IdlRow| row.table_schema().columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let columns = names(a);
    // `_version` is made up here unless it is monitored.
    columns == names(b) && columns.iter().filter(|c| *c != "_version").all(|c| a.get(c) == b.get(c))
}

fn object(json: &Value) -> Result<&serde_json::Map<String, Value>> {
    json.as_object().ok_or_else(|| Error::syntax(json, "update must be JSON object"))
}

fn apply_one(schema: &TableSchema, uuid: Uuid, old: Option<&Row>, update: &Value) -> Result<Option<Row>> {
    match update.get("new") {
        // RFC 7047 section 4.1.6: `new` holds all monitored columns, changed or not.
        Some(columns) => set_columns(schema, base_row(schema, uuid, old), columns, false).map(Some),
        None => Ok(None),
    }
}

fn apply_two(schema: &TableSchema, uuid: Uuid, old: Option<&Row>, update: &Value) -> Result<Option<Row>> {
    let Some((operation, columns)) = object(update)?.iter().next() else {
        return Err(Error::syntax(update, "empty row update"));
    };
    match operation.as_str() {
        "initial" | "insert" => set_columns(schema, base_row(schema, uuid, None), columns, false).map(Some),
        "modify" => set_columns(schema, base_row(schema, uuid, old), columns, true).map(Some),
        "delete" => Ok(None),
        _ => Err(Error::syntax(update, format!("unknown row operation {operation}"))),
    }
}

fn base_row(schema: &TableSchema, uuid: Uuid, old: Option<&Row>) -> Row {
    old.cloned().unwrap_or_else(|| Row::new(schema, uuid))
}

fn set_columns(schema: &TableSchema, mut row: Row, columns: &Value, diff: bool) -> Result<Row> {
    for (name, value) in object(columns)? {
        let Some(c) = schema.column(name).filter(|c| *c != COL_UUID) else {
            return Err(Error::new(Tag::UnknownColumn, format!("update to unknown column {name}")));
        };
        let ty = &schema.columns[c].ty;
        let datum = Datum::from_json(&ty.relaxed(), value, None)?;
        row.fields[c] = if diff { row.fields[c].apply(&datum, &ty.relaxed_if_composite())? } else { datum };
    }
    Ok(row)
}
