//! Building a transaction, and making sense of its results.
//!
//! Rows are named by UUID. An inserted row gets a UUID at once, which may be used in any value of the same transaction;
//! on the wire it becomes a `named-uuid`, and [`Committed::uuid`] tells the one that the server gave. Columns that the
//! server's schema does not have are left out, so that a daemon can work with an older database.

use super::replica::IdlRow;
use crate::datum::Datum;
use crate::hash::Map;
use crate::schema::{Schema, TableSchema};
use serde_json::{Map as Object, Value, json};
use uuid::Uuid;

/// A transaction being built.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    operations: Vec<Operation>,
    comments: Vec<String>,
    durable: bool,
}

#[derive(Clone, Debug)]
enum Operation {
    Insert {
        table: String,
        uuid: Uuid,
        row: Columns,
    },
    Update {
        table: String,
        uuid: Uuid,
        row: Columns,
    },
    Mutate {
        table: String,
        uuid: Uuid,
        column: String,
        mutator: String,
        value: Datum,
    },
    Delete {
        table: String,
        uuid: Uuid,
    },
    /// The row's columns must still hold these values.
    Verify {
        table: String,
        uuid: Uuid,
        row: Columns,
    },
    /// Adds one and reads the result.
    Increment {
        table: String,
        uuid: Uuid,
        column: String,
    },
    Raw(Value),
}

type Columns = Vec<(String, Datum)>;

/// How a transaction ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It held nothing to do.
    Unchanged,
    /// It is in the database.
    Committed(Committed),
    /// What it was built on has changed, or the connection was lost: build it again from the present replica.
    TryAgain,
    /// The lock it asserted is not held.
    NotLocked,
    /// The server refuses it; trying again does not help. The text is the server's; of a transaction with [`Txn::raw`]
    /// operations it is the server's `<error>` as it stands.
    Failed(String),
}

/// The results of a committed transaction.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// By the UUID that [`Txn::insert`] gave.
    uuids: Map<Uuid, Uuid>,
    /// The value after [`Txn::increment`].
    pub incremented: Option<i64>,
    /// The server's results, one per operation on the wire.
    pub results: Vec<Value>,
}

impl Committed {
    /// The UUID that the row inserted as `inserted` has in the database.
    #[must_use]
    pub fn uuid(&self, inserted: &Uuid) -> Option<Uuid> {
        self.uuids.get(inserted).copied()
    }
}

/// What to look at in the results.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    inserts: Vec<(usize, Uuid)>,
    increment: Option<(usize, String)>,
    /// Operations came from elsewhere, and so their errors go back as they are.
    raw: bool,
}

impl Txn {
    /// A transaction that does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it holds nothing to do. Comments and verifications alone do nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.iter().all(|o| matches!(o, Operation::Verify { .. }))
    }

    /// Inserts a row; the UUID stands for it in this transaction.
    pub fn insert<C: Into<String>>(&mut self, table: &str, columns: impl IntoIterator<Item = (C, Datum)>) -> Uuid {
        let uuid = Uuid::new_v4();
        self.operations.push(Operation::Insert { table: table.into(), uuid, row: own(columns) });
        uuid
    }

    /// Sets columns of a row.
    pub fn update<C: Into<String>>(&mut self, table: &str, uuid: Uuid, columns: impl IntoIterator<Item = (C, Datum)>) {
        self.operations.push(Operation::Update { table: table.into(), uuid, row: own(columns) });
    }

    /// Sets those of the columns that differ from what `row` holds; says whether there were any.
    pub fn set_changed<C: Into<String>>(&mut self, row: &IdlRow, columns: impl IntoIterator<Item = (C, Datum)>) -> bool {
        let changed: Columns = own(columns).into_iter().filter(|(c, d)| row.get(c).is_some_and(|now| now != d)).collect();
        let any = !changed.is_empty();
        if any {
            self.update(row.table(), row.uuid(), changed);
        }
        any
    }

    /// Changes a column in place; `mutator` is one of RFC 7047's (`insert`, `delete`, `+=`, ...).
    pub fn mutate(&mut self, table: &str, uuid: Uuid, column: &str, mutator: &str, value: Datum) {
        let (table, column, mutator) = (table.into(), column.into(), mutator.into());
        self.operations.push(Operation::Mutate { table, uuid, column, mutator, value });
    }

    /// Adds members to a set or pairs to a map; keys that are there keep their values.
    pub fn add_to(&mut self, table: &str, uuid: Uuid, column: &str, members: Datum) {
        self.mutate(table, uuid, column, "insert", members);
    }

    /// Removes members of a set, or pairs of a map (by key if `members` is a set).
    pub fn remove_from(&mut self, table: &str, uuid: Uuid, column: &str, members: Datum) {
        self.mutate(table, uuid, column, "delete", members);
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, uuid: Uuid) {
        self.operations.push(Operation::Delete { table: table.into(), uuid });
    }

    /// Makes the transaction fail with [`Outcome::TryAgain`] if any of the columns has changed since `row` was read.
    pub fn verify(&mut self, row: &IdlRow, columns: &[&str]) {
        let held = columns.iter().filter_map(|c| Some(((*c).to_owned(), row.get(c)?.clone()))).collect();
        self.operations.push(Operation::Verify { table: row.table().into(), uuid: row.uuid(), row: held });
    }

    /// Adds one to an integer column (such as `next_cfg`); [`Committed::incremented`] is its value then.
    pub fn increment(&mut self, table: &str, uuid: Uuid, column: &str) {
        self.operations.push(Operation::Increment { table: table.into(), uuid, column: column.into() });
    }

    /// Adds an operation as it stands (RFC 7047 section 5.2).
    pub fn raw(&mut self, operation: Value) {
        self.operations.push(Operation::Raw(operation));
    }

    /// Says in the journal who did this.
    pub fn comment(&mut self, text: impl Into<String>) {
        self.comments.push(text.into());
    }

    /// Wants the reply only when the change is on disk.
    pub fn durable(&mut self) {
        self.durable = true;
    }

    /// The parameters of `transact`, and how to read the reply.
    pub(crate) fn to_params(&self, schema: &Schema, lock: Option<&str>) -> (Vec<Value>, Plan) {
        let mut out = Wire { schema, names: Map::default(), params: vec![schema.name.as_str().into()], plan: Plan::default() };
        for operation in &self.operations {
            if let Operation::Insert { uuid, .. } = operation {
                out.names.insert(*uuid, format!("row{}", uuid.simple()));
            }
        }
        if let Some(lock) = lock {
            out.params.push(json!({"op": "assert", "lock": lock}));
        }
        // What the rest is built on is checked before anything else.
        let (checks, rest): (Vec<_>, Vec<_>) = self.operations.iter().partition(|o| matches!(o, Operation::Verify { .. }));
        checks.into_iter().chain(rest).for_each(|o| out.operation(o));
        if !self.comments.is_empty() {
            out.params.push(json!({"op": "comment", "comment": self.comments.join("\n")}));
        }
        if self.durable {
            out.params.push(json!({"op": "commit", "durable": true}));
        }
        (out.params, out.plan)
    }
}

fn own<C: Into<String>>(columns: impl IntoIterator<Item = (C, Datum)>) -> Columns {
    columns.into_iter().map(|(c, d)| (c.into(), d)).collect()
}

struct Wire<'a> {
    schema: &'a Schema,
    names: Map<Uuid, String>,
    params: Vec<Value>,
    plan: Plan,
}

impl Wire<'_> {
    fn operation(&mut self, operation: &Operation) {
        match operation {
            Operation::Insert { table, uuid, row } => {
                let row = self.row(table, row);
                self.plan.inserts.push((self.params.len() - 1, *uuid));
                let name = self.names.get(uuid).cloned().unwrap_or_default();
                self.params.push(json!({"op": "insert", "table": table, "uuid-name": name, "row": row}));
            }
            Operation::Update { table, uuid, row } => {
                let row = self.row(table, row);
                if row.as_object().is_some_and(|r| !r.is_empty()) {
                    let clause = self.where_uuid(uuid);
                    self.params.push(json!({"op": "update", "table": table, "where": clause, "row": row}));
                }
            }
            Operation::Mutate { table, uuid, column, mutator, value } => {
                if self.column(table, column) {
                    let (clause, value) = (self.where_uuid(uuid), self.value(value));
                    let mutations = json!([[column, mutator, value]]);
                    self.params.push(json!({"op": "mutate", "table": table, "where": clause, "mutations": mutations}));
                }
            }
            Operation::Delete { table, uuid } => {
                let clause = self.where_uuid(uuid);
                self.params.push(json!({"op": "delete", "table": table, "where": clause}));
            }
            Operation::Verify { table, uuid, row } => {
                let (clause, held) = (self.where_uuid(uuid), self.row(table, row));
                let columns: Vec<&String> = held.as_object().into_iter().flat_map(Object::keys).collect();
                self.params.push(json!({"op": "wait", "timeout": 0, "table": table, "where": clause,
                    "columns": columns, "until": "==", "rows": [held]}));
            }
            Operation::Increment { table, uuid, column } => {
                if self.column(table, column) {
                    let clause = self.where_uuid(uuid);
                    let mutations = json!([[column, "+=", 1]]);
                    self.params.push(json!({"op": "mutate", "table": table, "where": clause, "mutations": mutations}));
                    self.plan.increment = Some((self.params.len() - 1, column.clone()));
                    self.params.push(json!({"op": "select", "table": table, "where": clause, "columns": [column]}));
                }
            }
            Operation::Raw(operation) => {
                self.plan.raw = true;
                self.params.push(operation.clone());
            }
        }
    }

    fn column(&self, table: &str, column: &str) -> bool {
        self.schema.table_schema(table).is_some_and(|t| t.column(column).is_some())
    }

    fn row(&self, table: &str, row: &Columns) -> Value {
        let schema = self.schema.table_schema(table);
        let known = |c: &str| schema.is_some_and(|t: &TableSchema| t.column(c).is_some());
        let columns = row.iter().filter(|(c, _)| known(c));
        Value::Object(columns.map(|(c, d)| (c.clone(), self.value(d))).collect())
    }

    fn where_uuid(&self, uuid: &Uuid) -> Value {
        json!([["_uuid", "==", self.value(&Datum::from(*uuid))]])
    }

    /// The value with the UUIDs of inserted rows as names.
    fn value(&self, datum: &Datum) -> Value {
        let mut json = datum.to_json();
        if !self.names.is_empty() {
            self.substitute(&mut json);
        }
        json
    }

    fn substitute(&self, json: &mut Value) {
        let Some(array) = json.as_array_mut() else {
            return;
        };
        if let [tag, Value::String(text)] = array.as_mut_slice() {
            let uuid = if tag == "uuid" { crate::atom::parse_uuid(text) } else { None };
            if let Some(name) = uuid.and_then(|u| self.names.get(&u)) {
                (*tag, *text) = ("named-uuid".into(), name.clone());
            }
            return;
        }
        array.iter_mut().for_each(|element| self.substitute(element));
    }
}

impl Plan {
    /// What a reply's results mean.
    pub(crate) fn outcome(&self, results: Vec<Value>) -> Outcome {
        let failed = results.iter().find(|r| r.get("error").is_some());
        if let Some(failed) = failed {
            return match failed.get("error").and_then(Value::as_str) {
                Some("timed out") => Outcome::TryAgain,
                Some("not owner") => Outcome::NotLocked,
                Some(_) | None if self.raw => Outcome::Failed(crate::json::to_sorted(failed)),
                Some(_) | None => Outcome::Failed(error_text(failed)),
            };
        }
        let uuid_at = |at: usize| results.get(at)?.get("uuid")?.get(1)?.as_str().and_then(crate::atom::parse_uuid);
        let uuids = self.inserts.iter().filter_map(|(at, mine)| Some((*mine, uuid_at(*at)?))).collect();
        let incremented =
            self.increment.as_ref().and_then(|(at, column)| results.get(*at)?.get("rows")?.get(0)?.get(column)?.as_i64());
        Outcome::Committed(Committed { uuids, incremented, results })
    }
}

/// An `<error>` as OVS's tools print it.
#[must_use]
pub fn error_text(error: &Value) -> String {
    let tag = error.get("error").and_then(Value::as_str);
    match (tag, error.get("details").and_then(Value::as_str)) {
        (Some(tag), Some(details)) => format!("{tag}: {details}"),
        (Some(tag), None) => tag.to_owned(),
        (None, _) => crate::json::to_sorted(error),
    }
}
