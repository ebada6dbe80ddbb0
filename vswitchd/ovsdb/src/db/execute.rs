//! Executes the operations of one `transact` request against an overlay (RFC 7047 sections 4.1.3 and 5.2).
//!
//! What enters: the request's parameters. What leaves: one result per operation and, if none failed, a [`Commit`] ready
//! to be written and applied. An unsatisfied `wait` yields [`Executed::Wait`]: nothing happened, and the caller tries the
//! whole request again when the database has changed, until the time is over.

use super::condition::Condition;
use super::mutation::Mutation;
use super::rbac::{self, Act, Actor};
use super::{Commit, Database, Row, Txn};
use crate::atom::{UuidNames, parse_uuid, uuid_json};
use crate::datum::Datum;
use crate::error::{Error, Result, Tag};
use crate::hash::{Map, Set};
use crate::json;
use crate::parser::{Kind, Parser};
use crate::schema::{COL_UUID, TableSchema};
use serde_json::{Value, json as object};
use std::sync::Arc;
use uuid::Uuid;

/// What one `transact` asks, and for whom.
pub struct Request<'a> {
    /// The request's parameters: database name, then operations.
    pub params: &'a [Value],
    /// Whether the client holds the lock of that name.
    pub owns_lock: &'a dyn Fn(&str) -> bool,
    /// How long the request has waited so far.
    pub elapsed_ms: u64,
    /// Refuse operations that change anything.
    pub read_only: bool,
    /// Whose role has to permit what is changed.
    pub actor: Option<Actor<'a>>,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("params", &self.params).field("elapsed_ms", &self.elapsed_ms).finish()
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Executed {
    /// All operations succeeded: the results, the changes, and whether they must be on disk before the reply.
    Ready {
        /// One result per operation.
        results: Vec<Value>,
        /// To be written and applied.
        commit: Commit,
        /// A `commit` operation said so.
        durable: bool,
    },
    /// Something failed: the complete results.
    Failed(Vec<Value>),
    /// A `wait` is not satisfied. Try again on a change; give up when this many ms have passed since the request came.
    Wait(Option<u64>),
}

/// UUIDs behind `uuid-name`s.
#[derive(Debug, Default)]
struct Names(Map<String, (Uuid, bool)>);

impl UuidNames for Names {
    fn resolve(&mut self, name: &str) -> Uuid {
        self.0.entry_ref(name).or_insert_with(|| (Uuid::new_v4(), false)).0
    }
}

struct Execution<'a, 'r> {
    txn: Txn<'a>,
    names: Names,
    request: &'r Request<'r>,
    durable: bool,
    timeout_ms: Option<u64>,
}

/// Executes a request. Nothing in `db` changes.
#[must_use]
pub fn execute(db: &Database, request: &Request<'_>) -> Executed {
    let operations = request.params.get(1..).unwrap_or_default();
    let mut x = Execution { txn: Txn::new(db), names: Names::default(), request, durable: false, timeout_ms: None };
    let mut results = Vec::with_capacity(operations.len());
    for (i, operation) in operations.iter().enumerate() {
        let parser = Parser::new(operation, format!("ovsdb operation {} of {}", i + 1, operations.len()));
        match x.operation(parser) {
            Ok(result) => results.push(result),
            Err(e) if e.tag == Tag::NotSupported => return Executed::Wait(x.timeout_ms),
            Err(e) => {
                results.push(e.to_json());
                results.resize(operations.len(), Value::Null);
                return Executed::Failed(results);
            }
        }
    }
    let durable = x.durable;
    match x.txn.prepare() {
        Ok(commit) => Executed::Ready { results, commit, durable },
        Err(e) => {
            results.push(e.to_json());
            Executed::Failed(results)
        }
    }
}

impl<'a> Execution<'a, '_> {
    fn operation(&mut self, mut p: Parser<'_>) -> Result<Value> {
        let op = p.member("op", &[Kind::Id]).and_then(Value::as_str);
        let mut writes = true;
        let outcome = match op {
            Some("insert") => self.insert(&mut p),
            Some("update") => self.update(&mut p),
            Some("mutate") => self.mutate(&mut p),
            Some("delete") => self.delete(&mut p),
            Some("commit") => Ok(self.commit(&mut p)),
            Some(name) => {
                writes = false;
                match name {
                    "select" => self.select(&mut p),
                    "wait" => self.wait(&mut p),
                    "abort" => Err(Error::new(Tag::Aborted, "aborted by request")),
                    "comment" => Ok(self.comment(&mut p)),
                    "assert" => self.assert(&mut p),
                    _ => {
                        p.raise(&format!("No operation \"{name}\""));
                        Ok(Value::Null)
                    }
                }
            }
            None => Ok(Value::Null),
        };
        // A fault in the request's form takes precedence over what the operation ran into.
        p.finish()?;
        let result = outcome?;
        let schema = self.txn.database().schema();
        if writes && self.request.read_only {
            let text = format!("{} operation not allowed when database server is in read only mode", op.unwrap_or_default());
            return Err(Error::new(Tag::NotAllowed, text));
        }
        if writes && schema.name.starts_with('_') {
            let text = format!("{} operation not allowed on table in reserved database {}", op.unwrap_or_default(), schema.name);
            return Err(Error::new(Tag::NotAllowed, text));
        }
        Ok(result)
    }

    /// The member `table`, which must name a table.
    fn table(&self, p: &mut Parser<'_>) -> Option<usize> {
        let name = p.member("table", &[Kind::Id])?.as_str()?;
        let table = self.txn.database().schema().table(name);
        if table.is_none() {
            p.raise(&format!("No table named {name}."));
        }
        table
    }

    fn schema_of(&self, table: usize) -> &'a TableSchema {
        &self.txn.database().schema().tables[table]
    }

    /// Table and `where`, for the operations that select rows.
    fn condition(&mut self, table: usize, json: &Value) -> Result<Condition> {
        Condition::from_json(self.schema_of(table), json, Some(&mut self.names))
    }

    /// The rows for which all clauses hold.
    fn matching(&self, table: usize, condition: &Condition) -> Vec<Uuid> {
        let schema = self.schema_of(table);
        if let Some(uuid) = condition.only_row() {
            let found = self.txn.row(table, &uuid).is_some_and(|row| condition.matches_all(schema, row));
            return if found { vec![uuid] } else { Vec::new() };
        }
        let rows = self.txn.rows(table).filter(|(_, row)| condition.matches_all(schema, row));
        rows.map(|(uuid, _)| *uuid).collect()
    }

    /// Asks whether the client's role permits an act on these rows.
    fn permit(&self, act: Act, table: usize, columns: &[usize], rows: &[Uuid]) -> Result<()> {
        let Some(actor) = self.request.actor else {
            return Ok(());
        };
        let rows = rows.iter().filter_map(|uuid| self.txn.row(table, uuid));
        rbac::check(self.txn.database(), actor, (act, self.schema_of(table)), columns, rows)
    }

    fn insert(&mut self, p: &mut Parser<'_>) -> Result<Value> {
        let table = self.table(p);
        let fixed_json = p.optional("uuid", &[Kind::Str]);
        let uuid_name = p.optional("uuid-name", &[Kind::Id]);
        let row_json = p.member("row", &[Kind::Object]);
        p.check()?;
        let (Some(table), Some(row_json)) = (table, row_json) else {
            return Ok(Value::Null);
        };
        let mut uuid = Uuid::new_v4();
        if let Some(json) = fixed_json {
            uuid = json.as_str().and_then(parse_uuid).ok_or_else(|| Error::syntax(json, "bad uuid"))?;
            if !self.txn.may_create(table, &uuid) {
                let text =
                    "This UUID would duplicate a UUID already present within the table or deleted within the same transaction.";
                return Err(Error::at(json, Tag::DuplicateUuid, text));
            }
        }
        if let Some(json) = uuid_name {
            let name = json.as_str().unwrap_or_default();
            let slot = self.names.0.entry_ref(name).or_insert_with(|| (uuid, false));
            if slot.1 {
                let text = "This \"uuid-name\" appeared on an earlier \"insert\" operation.";
                return Err(Error::at(json, Tag::DuplicateUuidName, text));
            }
            if fixed_json.is_some() {
                slot.0 = uuid;
            }
            uuid = slot.0;
            slot.1 = true;
        }
        let schema = self.schema_of(table);
        let mut row = Row::new(schema, uuid);
        for (column, datum) in columns_from_json(schema, row_json, &mut self.names)? {
            row.fields[column] = datum;
        }
        row.fields[COL_UUID] = Datum::from(uuid);
        // A column nobody set has its default, which may violate the column's own constraints.
        for (field, column) in row.fields.iter().zip(&schema.columns).filter(|(f, _)| f.len() == 1) {
            field.check(&column.ty)?;
        }
        self.txn.insert(table, row);
        self.permit(Act::Insert, table, &[], &[uuid])?;
        Ok(object!({"uuid": uuid_json(&uuid)}))
    }

    fn select(&mut self, p: &mut Parser<'_>) -> Result<Value> {
        let table = self.table(p);
        let where_json = p.member("where", &[Kind::Array]);
        let columns_json = p.optional("columns", &[Kind::Array]);
        let sort_json = p.optional("sort", &[Kind::Array]);
        p.check()?;
        let (Some(table), Some(where_json)) = (table, where_json) else {
            return Ok(Value::Null);
        };
        let condition = self.condition(table, where_json)?;
        let schema = self.schema_of(table);
        let all = || (0..schema.columns.len()).collect::<Vec<_>>();
        let columns = columns_json.map_or_else(|| Ok(all()), |j| schema.column_set_from_json(j))?;
        let sort = sort_json.map_or_else(|| Ok(all()), |j| schema.column_set_from_json(j))?;
        let mut seen = Set::default();
        let mut rows: Vec<&Arc<Row>> = Vec::new();
        for uuid in self.matching(table, &condition) {
            let Some(row) = self.txn.row(table, &uuid) else {
                continue;
            };
            // With the row's identity among the columns no two rows are equal.
            if columns.contains(&COL_UUID) || seen.insert(project(row, &columns)) {
                rows.push(row);
            }
        }
        rows.sort_by(|a, b| {
            sort.iter().map(|&c| a.fields[c].cmp(&b.fields[c])).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        });
        let rows: Vec<Value> = rows.into_iter().map(|row| row.to_json(schema, &columns)).collect();
        Ok(object!({"rows": rows}))
    }

    fn update(&mut self, p: &mut Parser<'_>) -> Result<Value> {
        let table = self.table(p);
        let where_json = p.member("where", &[Kind::Array]);
        let row_json = p.member("row", &[Kind::Object]);
        p.check()?;
        let (Some(table), Some(where_json), Some(row_json)) = (table, where_json, row_json) else {
            return Ok(Value::Null);
        };
        let schema = self.schema_of(table);
        let values = columns_from_json(schema, row_json, &mut self.names)?;
        if let Some((column, _)) = values.iter().find(|(c, _)| !schema.columns[*c].mutable) {
            let name = &schema.columns[*column].name;
            let text = format!("Cannot update immutable column {name} in table {}.", schema.name);
            return Err(Error::at(p.json(), Tag::Constraint, text));
        }
        let condition = self.condition(table, where_json)?;
        let matching = self.matching(table, &condition);
        let columns: Vec<usize> = values.iter().map(|(c, _)| *c).collect();
        self.permit(Act::Update, table, &columns, &matching)?;
        for uuid in &matching {
            let differs = |row: &Arc<Row>| values.iter().any(|(c, d)| row.fields[*c] != *d);
            if !self.txn.row(table, uuid).is_some_and(differs) {
                continue;
            }
            if let Some(row) = self.txn.modify(table, uuid) {
                for (column, datum) in &values {
                    row.fields[*column] = datum.clone();
                }
            }
        }
        Ok(object!({"count": matching.len()}))
    }

    fn mutate(&mut self, p: &mut Parser<'_>) -> Result<Value> {
        let table = self.table(p);
        let where_json = p.member("where", &[Kind::Array]);
        let mutations_json = p.member("mutations", &[Kind::Array]);
        p.check()?;
        let (Some(table), Some(where_json), Some(mutations_json)) = (table, where_json, mutations_json) else {
            return Ok(Value::Null);
        };
        let schema = self.schema_of(table);
        let mut mutations = Vec::new();
        for json in mutations_json.as_array().into_iter().flatten() {
            mutations.push(Mutation::from_json(schema, json, &mut self.names)?);
        }
        let condition = self.condition(table, where_json)?;
        let matching = self.matching(table, &condition);
        let columns: Vec<usize> = mutations.iter().map(Mutation::column).collect();
        self.permit(Act::Mutate, table, &columns, &matching)?;
        for uuid in &matching {
            if let Some(row) = self.txn.modify(table, uuid) {
                mutations.iter().try_for_each(|m| m.execute(schema, row))?;
            }
        }
        Ok(object!({"count": matching.len()}))
    }

    fn delete(&mut self, p: &mut Parser<'_>) -> Result<Value> {
        let where_json = p.member("where", &[Kind::Array]);
        let table = self.table(p);
        p.check()?;
        let (Some(table), Some(where_json)) = (table, where_json) else {
            return Ok(Value::Null);
        };
        let condition = self.condition(table, where_json)?;
        let matching = self.matching(table, &condition);
        self.permit(Act::Delete, table, &[], &matching)?;
        matching.iter().for_each(|uuid| self.txn.delete(table, uuid));
        Ok(object!({"count": matching.len()}))
    }

    fn wait(&mut self, p: &mut Parser<'_>) -> Result<Value> {
        let timeout = p.optional("timeout", &[Kind::Integer]);
        let where_json = p.member("where", &[Kind::Array]);
        let columns_json = p.optional("columns", &[Kind::Array]);
        let until = p.member("until", &[Kind::Str]);
        let rows_json = p.member("rows", &[Kind::Array]);
        let table = self.table(p);
        p.check()?;
        let (Some(table), Some(where_json), Some(until), Some(rows_json)) = (table, where_json, until, rows_json) else {
            return Ok(Value::Null);
        };
        let condition = self.condition(table, where_json)?;
        let schema = self.schema_of(table);
        let all = || (0..schema.columns.len()).collect::<Vec<_>>();
        let columns = columns_json.map_or_else(|| Ok(all()), |j| schema.column_set_from_json(j))?;
        let timeout_ms = timeout.map(wait_timeout).transpose()?;
        if let Some(ms) = timeout_ms {
            self.timeout_ms = Some(self.timeout_ms.map_or(ms, |t| t.min(ms)));
        }
        let want_equal = match until.as_str() {
            Some("==") => true,
            Some("!=") => false,
            _ => return Err(Error::syntax(until, "\"until\" must be \"==\" or \"!=\"")),
        };
        let mut expected = Set::default();
        for json in rows_json.as_array().into_iter().flatten() {
            let mut row = Row::new(schema, Uuid::nil());
            for (column, datum) in columns_from_json(schema, json, &mut self.names)? {
                row.fields[column] = datum;
            }
            expected.insert(project(&row, &columns));
        }
        let matching = self.matching(table, &condition);
        let actual: Set<_> = matching.iter().filter_map(|u| self.txn.row(table, u)).map(|row| project(row, &columns)).collect();
        if (actual == expected) == want_equal {
            return Ok(object!({}));
        }
        let elapsed_ms = self.request.elapsed_ms;
        match timeout_ms {
            Some(ms) if elapsed_ms >= ms && elapsed_ms > 0 => {
                Err(Error::new(Tag::TimedOut, format!("\"wait\" timed out after {elapsed_ms} ms")))
            }
            Some(ms) if elapsed_ms >= ms => Err(Error::new(Tag::TimedOut, "\"where\" clause test failed")),
            Some(_) | None => Err(Error::new(Tag::NotSupported, "wait again")),
        }
    }

    fn commit(&mut self, p: &mut Parser<'_>) -> Value {
        self.durable |= p.member("durable", &[Kind::Bool]).and_then(Value::as_bool) == Some(true);
        object!({})
    }

    fn comment(&mut self, p: &mut Parser<'_>) -> Value {
        self.txn.comments.extend(p.member("comment", &[Kind::Str]).and_then(Value::as_str).map(str::to_owned));
        object!({})
    }

    fn assert(&self, p: &mut Parser<'_>) -> Result<Value> {
        let Some(name) = p.member("lock", &[Kind::Id]).and_then(Value::as_str) else {
            return Ok(Value::Null);
        };
        if (self.request.owns_lock)(name) {
            Ok(object!({}))
        } else {
            Err(Error::new(Tag::NotOwner, format!("Asserted lock {name} not held.")))
        }
    }
}

fn wait_timeout(json: &Value) -> Result<u64> {
    json::integer(json).and_then(|ms| u64::try_from(ms).ok()).ok_or_else(|| Error::syntax(json, "timeout must be nonnegative"))
}

fn project(row: &Row, columns: &[usize]) -> Vec<Datum> {
    columns.iter().map(|&c| row.fields[c].clone()).collect()
}

/// Parses `<row>`.
fn columns_from_json(schema: &TableSchema, json: &Value, names: &mut Names) -> Result<Vec<(usize, Datum)>> {
    let object = json.as_object().ok_or_else(|| Error::syntax(json, "row must be JSON object"))?;
    let mut columns = Vec::with_capacity(object.len());
    for (name, value) in object {
        let column = schema
            .column(name)
            .ok_or_else(|| Error::at(json, Tag::UnknownColumn, format!("No column {name} in table {}.", schema.name)))?;
        columns.push((column, Datum::from_json(&schema.columns[column].ty, value, Some(&mut *names))?));
    }
    Ok(columns)
}
