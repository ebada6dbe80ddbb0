//! The database as the commands of one run see it: the server's rows with the run's own changes on top, and the transaction that
//! makes those changes. Nothing here does I/O.
//!
//! A command reads what commands before it wrote, as in OVS. The transaction holds the net change only: a column set back to what it
//! was is left out, and a run that changes nothing commits nothing. What a command's decision was built on is *verified*: the server
//! refuses the transaction if it has changed meanwhile, and the run starts over.

use ovsdb::schema::{COL_FIRST, COL_UUID, COL_VERSION};
use ovsdb::{Atom, ColumnSchema, Datum, IdlRow, Replica, Schema, TableSchema};
use serde_json::{Map as Object, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// A row's table and identity.
pub type Key = (usize, Uuid);

#[derive(Clone, Debug)]
struct Row {
    /// As the server has it; absent for a row of this run.
    original: Option<IdlRow>,
    /// What this run wrote, by column number.
    written: BTreeMap<usize, Datum>,
    verified: BTreeSet<usize>,
    /// A row of this run whose UUID the server is to keep.
    fixed: bool,
}

impl Row {
    fn new(original: Option<IdlRow>, fixed: bool) -> Self {
        Self { original, written: BTreeMap::new(), verified: BTreeSet::new(), fixed }
    }
}

/// Rows by the value of one string column.
type Index = BTreeMap<Atom, BTreeSet<Uuid>>;

/// The database with the run's changes.
#[derive(Debug)]
pub struct Overlay {
    schema: Arc<Schema>,
    tables: Vec<BTreeMap<Uuid, Row>>,
    /// Rows of the server's that this run deleted.
    deleted: BTreeMap<Key, Row>,
    /// Rows of this run in the order in which they were made.
    inserted: Vec<Key>,
    /// RFC 7047 mutations of columns that were not read.
    mutations: Vec<(Key, usize, &'static str, Datum)>,
    indexes: BTreeMap<(usize, usize), Index>,
    comments: Vec<String>,
}

/// The operations of a transaction, and where in the results to find what.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub operations: Vec<Value>,
    /// Result number of each insertion.
    pub inserts: Vec<(usize, Uuid)>,
    /// Result number of the incremented counter's value.
    pub counter: Option<usize>,
}

impl Overlay {
    /// The rows of `replica`, unchanged.
    #[must_use]
    pub fn new(replica: &Replica) -> Self {
        let schema = Arc::clone(replica.schema());
        let tables = schema
            .tables
            .iter()
            .map(|t| {
                let rows = replica.rows(&t.name).map(|r| (r.uuid(), Row::new(Some(r), false)));
                rows.collect()
            })
            .collect();
        Self {
            schema,
            tables,
            deleted: BTreeMap::new(),
            inserted: Vec::new(),
            mutations: Vec::new(),
            indexes: BTreeMap::new(),
            comments: Vec::new(),
        }
    }

    /// The server's schema.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The number of a table, if the server has it.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<usize> {
        self.schema.table(name)
    }

    /// The schema of a table.
    #[must_use]
    pub fn table_schema(&self, table: usize) -> &TableSchema {
        &self.schema.tables[table]
    }

    /// The schema of a column.
    #[must_use]
    pub fn column(&self, table: usize, column: usize) -> &ColumnSchema {
        &self.schema.tables[table].columns[column]
    }

    /// The rows of a table, in the order of their UUIDs.
    pub fn rows(&self, table: usize) -> impl Iterator<Item = Uuid> {
        self.tables[table].keys().copied()
    }

    /// The rows of a table called `name`; none if the server has no such table.
    #[must_use]
    pub fn rows_of(&self, name: &str) -> Vec<Key> {
        self.table(name).map(|t| self.rows(t).map(|u| (t, u)).collect()).unwrap_or_default()
    }

    /// Whether the row is there.
    #[must_use]
    pub fn exists(&self, key: Key) -> bool {
        self.tables[key.0].contains_key(&key.1)
    }

    /// Whether the row was made by this run.
    #[must_use]
    pub fn is_new(&self, key: Key) -> bool {
        self.tables[key.0].get(&key.1).is_some_and(|r| r.original.is_none())
    }

    /// What a column holds.
    #[must_use]
    pub fn read(&self, key: Key, column: usize) -> Datum {
        if column == COL_UUID {
            return Datum::from(key.1);
        }
        let row = self.tables[key.0].get(&key.1);
        row.and_then(|r| self.value(key.0, r, column)).unwrap_or_else(|| self.column(key.0, column).default.clone())
    }

    fn value(&self, table: usize, row: &Row, column: usize) -> Option<Datum> {
        row.written.get(&column).cloned().or_else(|| row.original.as_ref()?.get(&self.column(table, column).name).cloned())
    }

    /// What the column called `name` holds; an empty set if the server has no such column.
    #[must_use]
    pub fn get(&self, key: Key, name: &str) -> Datum {
        self.table_schema(key.0).column(name).map_or_else(Datum::empty_set, |c| self.read(key, c))
    }

    /// The string in a column, empty if there is none.
    #[must_use]
    pub fn str(&self, key: Key, name: &str) -> String {
        self.get(key, name).as_str().unwrap_or_default().to_owned()
    }

    /// The rows that a column refers to and that are there, in the order of their UUIDs.
    #[must_use]
    pub fn refs(&self, key: Key, name: &str) -> Vec<Key> {
        let Some(schema) = self.table_schema(key.0).column_schema(name) else {
            return Vec::new();
        };
        let bases = [Some(&schema.ty.key), schema.ty.value.as_ref()];
        let target = bases.into_iter().flatten().find_map(|b| b.reference());
        let Some(target) = target.and_then(|(table, _)| self.table(table)) else {
            return Vec::new();
        };
        self.get(key, name).uuids().map(|u| (target, u)).filter(|k| self.exists(*k)).collect()
    }

    /// The rows whose column holds exactly `value`.
    pub fn find(&mut self, table: usize, column: usize, value: &Atom) -> Vec<Uuid> {
        if !self.indexes.contains_key(&(table, column)) {
            let mut index = Index::new();
            for uuid in self.tables[table].keys() {
                if let Some(atom) = self.read((table, *uuid), column).as_atom() {
                    index.entry(atom.clone()).or_default().insert(*uuid);
                }
            }
            self.indexes.insert((table, column), index);
        }
        let index = self.indexes.get(&(table, column));
        index.and_then(|i| i.get(value)).map(|set| set.iter().copied().collect()).unwrap_or_default()
    }

    fn reindex(&mut self, key: Key, column: usize, add: bool) {
        if !self.indexes.contains_key(&(key.0, column)) {
            return;
        }
        let datum = self.read(key, column);
        let (Some(atom), Some(index)) = (datum.as_atom(), self.indexes.get_mut(&(key.0, column))) else {
            return;
        };
        let set = index.entry(atom.clone()).or_default();
        if add {
            set.insert(key.1);
        } else {
            set.remove(&key.1);
        }
    }

    fn reindex_row(&mut self, key: Key, add: bool) {
        let columns: Vec<usize> = self.indexes.keys().filter(|(t, _)| *t == key.0).map(|(_, c)| *c).collect();
        columns.into_iter().for_each(|c| self.reindex(key, c, add));
    }

    // ---- writing ---------------------------------------------------------------------------------------------------

    /// Sets a column.
    pub fn write(&mut self, key: Key, column: usize, datum: Datum) {
        self.reindex(key, column, false);
        if let Some(row) = self.tables[key.0].get_mut(&key.1) {
            row.written.insert(column, datum);
        }
        self.reindex(key, column, true);
    }

    /// Sets the column called `name`, if the server has it.
    pub fn set(&mut self, key: Key, name: &str, datum: Datum) {
        if let Some(column) = self.table_schema(key.0).column(name) {
            self.write(key, column, datum);
        }
    }

    /// Lets the transaction fail if the column changes before it is committed.
    pub fn verify(&mut self, key: Key, column: usize) {
        if let Some(row) = self.tables[key.0].get_mut(&key.1) {
            row.verified.insert(column);
        }
    }

    /// [`Overlay::verify`] by name.
    pub fn verify_named(&mut self, key: Key, name: &str) {
        if let Some(column) = self.table_schema(key.0).column(name) {
            self.verify(key, column);
        }
    }

    /// Changes a set or map on the server without looking at what it holds. The run does not see the change.
    pub fn mutate(&mut self, key: Key, column: usize, mutator: &'static str, datum: Datum) {
        self.mutations.push((key, column, mutator, datum));
    }

    /// Makes a row; the UUID is for this run only.
    pub fn insert(&mut self, table: usize, uuid: Uuid) -> Key {
        self.insert_row(table, uuid, false)
    }

    /// Makes a row with a UUID that the server is to keep.
    pub fn insert_fixed(&mut self, table: usize, uuid: Uuid) -> Key {
        self.insert_row(table, uuid, true)
    }

    fn insert_row(&mut self, table: usize, uuid: Uuid, fixed: bool) -> Key {
        let key = (table, uuid);
        self.tables[table].insert(uuid, Row::new(None, fixed));
        self.inserted.push(key);
        self.reindex_row(key, true);
        key
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: Key) {
        self.reindex_row(key, false);
        if let Some(row) = self.tables[key.0].remove(&key.1)
            && row.original.is_some()
        {
            self.deleted.insert(key, row);
        }
    }

    /// Adds a line to what the journal says about the transaction.
    pub fn comment(&mut self, text: String) {
        self.comments.push(text);
    }

    // ---- the transaction -------------------------------------------------------------------------------------------

    /// The operations that make the changes, with `counter` (a table's only row and its column) incremented. None at all if there is
    /// no change.
    #[must_use]
    pub fn plan(&self, counter: Option<(Key, &str)>) -> Plan {
        let mut plan = Plan::default();
        let (mut checks, mut changes) = (Vec::new(), Vec::new());
        for (key, row) in self.deleted.iter().map(|(k, r)| (*k, r)) {
            checks.extend(self.check(key, row));
            changes.push(json!({"op": "delete", "table": self.table_name(key), "where": self.where_row(key)}));
        }
        for (table, rows) in self.tables.iter().enumerate() {
            for (uuid, row) in rows.iter().filter(|(_, r)| r.original.is_some()) {
                checks.extend(self.check((table, *uuid), row));
                changes.extend(self.update((table, *uuid), row));
            }
        }
        for (key, column, mutator, datum) in &self.mutations {
            let mutations = json!([[self.column(key.0, *column).name, mutator, self.wire(datum)]]);
            let (table, clause) = (self.table_name(*key), self.where_row(*key));
            changes.push(json!({"op": "mutate", "table": table, "where": clause, "mutations": mutations}));
        }
        for key in self.inserted.iter().filter(|k| self.is_new(**k)) {
            plan.inserts.push((checks.len() + changes.len(), key.1));
            changes.push(self.insertion(*key));
        }
        if changes.is_empty() {
            return Plan::default();
        }
        // Checks came and went while insertions were numbered: all of them stand in front.
        plan.operations = checks;
        plan.operations.extend(changes);
        if let Some((key, column)) = counter {
            let (table, clause) = (self.table_name(key), self.where_row(key));
            let mutations = json!([[column, "+=", 1]]);
            plan.operations.push(json!({"op": "mutate", "table": table, "where": clause, "mutations": mutations}));
            plan.counter = Some(plan.operations.len());
            plan.operations.push(json!({"op": "select", "table": table, "where": clause, "columns": [column]}));
        }
        if !self.comments.is_empty() {
            plan.operations.push(json!({"op": "comment", "comment": self.comments.join("\n")}));
        }
        plan
    }

    fn table_name(&self, key: Key) -> &str {
        &self.schema.tables[key.0].name
    }

    fn where_row(&self, key: Key) -> Value {
        json!([["_uuid", "==", self.atom(&Atom::from(key.1))]])
    }

    fn check(&self, key: Key, row: &Row) -> Option<Value> {
        let original = row.original.as_ref().filter(|_| !row.verified.is_empty())?;
        let mut held = Object::new();
        for column in &row.verified {
            let name = &self.column(key.0, *column).name;
            held.insert(name.clone(), original.get(name)?.to_json());
        }
        let columns: Vec<&String> = held.keys().collect();
        Some(json!({"op": "wait", "timeout": 0, "table": self.table_name(key), "where": self.where_row(key),
            "columns": columns, "until": "==", "rows": [held]}))
    }

    fn update(&self, key: Key, row: &Row) -> Option<Value> {
        let original = row.original.as_ref()?;
        let changed = row.written.iter().filter(|(c, d)| original.get(&self.column(key.0, **c).name) != Some(*d));
        let columns: Object<String, Value> = changed.map(|(c, d)| (self.column(key.0, *c).name.clone(), self.wire(d))).collect();
        (!columns.is_empty())
            .then(|| json!({"op": "update", "table": self.table_name(key), "where": self.where_row(key), "row": columns}))
    }

    fn insertion(&self, key: Key) -> Value {
        let written = self.tables[key.0].get(&key.1).map(|r| &r.written);
        let columns: Object<String, Value> = written
            .into_iter()
            .flatten()
            .filter(|(c, d)| **c >= COL_FIRST && self.column(key.0, **c).default != **d)
            .map(|(c, d)| (self.column(key.0, *c).name.clone(), self.wire(d)))
            .collect();
        let mut insertion = json!({"op": "insert", "table": self.table_name(key), "row": columns});
        let fixed = self.tables[key.0].get(&key.1).is_some_and(|r| r.fixed);
        if fixed {
            insertion["uuid"] = key.1.to_string().into();
        } else {
            insertion["uuid-name"] = row_name(&key.1).into();
        }
        insertion
    }

    /// A value with the rows of this run by the names they have in it.
    fn wire(&self, datum: &Datum) -> Value {
        if datum.is_map() {
            let pairs: Vec<Value> = datum.pairs().map(|(k, v)| json!([self.atom(k), self.atom(v)])).collect();
            return json!(["map", pairs]);
        }
        match datum.as_atom() {
            Some(atom) => self.atom(atom),
            None => json!(["set", datum.keys().iter().map(|a| self.atom(a)).collect::<Vec<_>>()]),
        }
    }

    fn atom(&self, atom: &Atom) -> Value {
        match atom.as_uuid() {
            Some(uuid) if self.tables.iter().any(|t| t.get(&uuid).is_some_and(|r| r.original.is_none() && !r.fixed)) => {
                json!(["named-uuid", row_name(&uuid)])
            }
            Some(_) | None => atom.to_json(),
        }
    }
}

/// The columns of a table that a person is shown: `_uuid` and those of the schema.
pub fn shown_columns(table: &TableSchema) -> impl Iterator<Item = usize> {
    (0..table.columns.len()).filter(|c| *c != COL_VERSION)
}

fn row_name(uuid: &Uuid) -> String {
    format!("row{}", uuid.to_string().replace('-', "_"))
}
