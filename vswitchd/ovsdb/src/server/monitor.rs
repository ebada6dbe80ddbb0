//! Monitors: what a client wants to hear about, and how it is told (RFC 7047 section 4.1.5 and 4.1.6, ovsdb-server(7)
//! "monitor_cond" and "monitor_cond_since").
//!
//! What enters: monitor requests, the rows of a database, the changes of a commit. What leaves: the JSON of initial
//! contents and of updates. A monitor keeps no state about rows: since it sees every commit, the old and new row of a
//! change say what the client knew and what it should know now.

use super::outbox::Outgoing;
use crate::db::{Condition, Database, Row, RowChange};
use crate::error::{Error, Result};
use crate::hash::Map;
use crate::parser::{Kind, Parser};
use crate::schema::{COL_UUID, Schema, TableSchema};
use serde_json::{Map as Object, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// What the last transaction is called where transactions have no names.
pub(crate) const NO_TRANSACTION: Uuid = Uuid::nil();

/// Which of the three request methods made the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// `monitor`, told with `update`.
    One,
    /// `monitor_cond`, told with `update2`.
    Two,
    /// `monitor_cond_since`, told with `update3`.
    Three,
}

/// On which occasions a column is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Select {
    initial: bool,
    insert: bool,
    delete: bool,
    modify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    Initial,
    Insert,
    Delete,
    Modify,
}

impl Occasion {
    fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::Modify => "modify",
        }
    }
}

impl Select {
    fn has(self, occasion: Occasion) -> bool {
        match occasion {
            Occasion::Initial => self.initial,
            Occasion::Insert => self.insert,
            Occasion::Delete => self.delete,
            Occasion::Modify => self.modify,
        }
    }
}

#[derive(Clone, Debug)]
struct MonitoredTable {
    table: usize,
    columns: Vec<(usize, Select)>,
    condition: Condition,
}

/// One monitor of one session.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    /// Number of the database.
    pub(crate) db: usize,
    pub(crate) version: Version,
    /// The id that the client chose.
    pub(crate) id: Value,
    tables: Vec<MonitoredTable>,
    /// Number of the last commit that its client was told of, in the database's log.
    pub(crate) told: u64,
    /// Equal for monitors of one database that are told the same.
    pub(crate) spec: Arc<str>,
    /// What `spec` was made of: the version and the requests, and the conditions that replaced those in the requests, by table.
    asked: String,
    replaced: BTreeMap<usize, String>,
}

/// The monitors of a session, by the text of the client's ids, in the order in which it asked for them: in that order it is told of a
/// commit. Clients take the updates of a commit one after the other, and what they make of them hangs on the order; it must not be
/// another one every time.
#[derive(Debug, Default)]
pub(crate) struct Monitors(Vec<(String, Monitor)>);

impl Monitors {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Monitor> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, monitor)| monitor)
    }

    /// Adds one whose key is new.
    pub(crate) fn push(&mut self, key: String, monitor: Monitor) {
        self.0.push((key, monitor));
    }

    /// Puts another in the place of one.
    pub(crate) fn replace(&mut self, old_key: &str, key: String, monitor: Monitor) {
        if let Some(place) = self.0.iter_mut().find(|(known, _)| known == old_key) {
            *place = (key, monitor);
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Monitor> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn take_of(&mut self, db: usize) -> Vec<Monitor> {
        self.0.extract_if(.., |(_, monitor)| monitor.db == db).map(|(_, monitor)| monitor).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Monitor> {
        self.0.iter().map(|(_, monitor)| monitor)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Monitor> {
        self.0.iter_mut().map(|(_, monitor)| monitor)
    }
}

impl Monitor {
    /// Parses `<monitor-requests>`.
    pub(crate) fn new(db: usize, schema: &Schema, version: Version, id: &Value, requests: &Value) -> Result<Self> {
        let Some(object) = requests.as_object() else {
            return Err(Error::syntax(requests, "monitor-requests must be object"));
        };
        let mut tables = Vec::with_capacity(object.len());
        for (name, request) in object {
            let table = schema.table(name).ok_or_else(|| Error::new(crate::Tag::Syntax, format!("no table named {name}")))?;
            tables.push(table_from_json(&schema.tables[table], table, request, version)?);
        }
        let asked = format!("{version:?} {}", crate::json::to_sorted(requests));
        let spec = Arc::from(asked.as_str());
        Ok(Self { db, version, id: id.clone(), tables, told: 0, spec, asked, replaced: BTreeMap::new() })
    }

    /// The notification's method.
    fn method(&self) -> &'static str {
        match self.version {
            Version::One => "update",
            Version::Two => "update2",
            Version::Three => "update3",
        }
    }

    /// Whether any of its tables is among the changed ones.
    pub(crate) fn concerns(&self, changed_tables: &[bool]) -> bool {
        self.tables.iter().any(|t| changed_tables.get(t.table) == Some(&true))
    }

    /// The notification around the text of its updates.
    pub(crate) fn notification(&self, body: Arc<str>) -> Outgoing {
        let (method, id) = (self.method(), &self.id);
        let head = match self.version {
            Version::One | Version::Two => format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{id},"),
            Version::Three => format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{id},\"{NO_TRANSACTION}\","),
        };
        Outgoing::Update { head, body }
    }

    /// The rows that the client is to start with.
    pub(crate) fn initial(&self, db: &Database) -> Value {
        let mut updates = Object::new();
        for monitored in &self.tables {
            let schema = &db.schema().tables[monitored.table];
            let mut rows = Object::new();
            for (uuid, row) in db.rows(monitored.table) {
                if monitored.condition.matches_any(schema, row)
                    && let Some(update) = self.row_update(monitored, schema, Occasion::Initial, (None, Some(row)))
                {
                    rows.insert(uuid.to_string(), update);
                }
            }
            put_table(&mut updates, schema, rows);
        }
        Value::Object(updates)
    }

    /// What a commit means for the client; `None` if nothing.
    pub(crate) fn updates(&self, schema: &Schema, changes: &[RowChange]) -> Option<Value> {
        let mut updates = Object::new();
        for monitored in &self.tables {
            let table = &schema.tables[monitored.table];
            let mut rows = Object::new();
            for change in changes.iter().filter(|c| c.table == monitored.table) {
                let visible = |row: &Option<Arc<Row>>| row.clone().filter(|row| monitored.condition.matches_any(table, row));
                let (old, new) = (visible(&change.old), visible(&change.new));
                let occasion = match (&old, &new) {
                    (None, None) => continue,
                    (None, Some(_)) => Occasion::Insert,
                    (Some(_), None) => Occasion::Delete,
                    (Some(_), Some(_)) => Occasion::Modify,
                };
                let pair = (old.as_ref(), new.as_ref());
                if let Some(update) = self.row_update(monitored, table, occasion, pair) {
                    rows.insert(change.uuid.to_string(), update);
                }
            }
            put_table(&mut updates, table, rows);
        }
        if updates.is_empty() { None } else { Some(Value::Object(updates)) }
    }

    /// Replaces conditions; yields the rows that come into view or leave it.
    pub(crate) fn change_conditions(&mut self, db: &Database, requests: &Value) -> Result<Option<Value>> {
        let object =
            requests.as_object().ok_or_else(|| Error::new(crate::Tag::Syntax, "monitor-cond-change-requests must be object"))?;
        let text = |t: String| Error::new(crate::Tag::Syntax, t);
        let (mut fresh, mut texts) = (Vec::new(), Vec::new());
        for (name, request) in object {
            let table = db.schema().table(name).ok_or_else(|| text(format!("no table named {name}")))?;
            let at = self
                .tables
                .iter()
                .position(|t| t.table == table)
                .ok_or_else(|| text(format!("no table named {name} in monitor session")))?;
            let array = request.as_array().ok_or_else(|| text(format!("table {name} no monitor-cond-change JSON array")))?;
            for element in array {
                fresh.push((at, condition_from_change(&db.schema().tables[table], element)?));
                texts.push((at, crate::json::to_sorted(element)));
            }
        }
        let mut updates = Object::new();
        for (at, condition) in fresh {
            let schema = &db.schema().tables[self.tables[at].table];
            let before = std::mem::replace(&mut self.tables[at].condition, condition);
            let monitored = &self.tables[at];
            let mut rows = Object::new();
            for (uuid, row) in db.rows(monitored.table) {
                let was = before.matches_any(schema, row);
                let is = monitored.condition.matches_any(schema, row);
                let (occasion, pair) = match (was, is) {
                    (true, false) => (Occasion::Delete, (Some(row), None)),
                    (false, true) => (Occasion::Insert, (None, Some(row))),
                    (true, true) | (false, false) => continue,
                };
                if let Some(update) = self.row_update(monitored, schema, occasion, pair) {
                    rows.insert(uuid.to_string(), update);
                }
            }
            put_table(&mut updates, schema, rows);
        }
        self.replaced.extend(texts);
        self.spec = Arc::from(format!("{} / {:?}", self.asked, self.replaced));
        Ok(if updates.is_empty() { None } else { Some(Value::Object(updates)) })
    }

    fn row_update(
        &self,
        monitored: &MonitoredTable,
        schema: &TableSchema,
        occasion: Occasion,
        rows: (Option<&Arc<Row>>, Option<&Arc<Row>>),
    ) -> Option<Value> {
        let mut columns = monitored.columns.iter().filter(|(_, s)| s.has(occasion)).map(|(c, _)| *c).peekable();
        // A table of which no column was asked for still reports that rows come and go.
        if columns.peek().is_none() && !monitored.columns.is_empty() {
            return None;
        }
        match self.version {
            Version::One => update_one(schema, columns, rows),
            Version::Two | Version::Three => update_two(schema, columns, occasion, rows),
        }
    }
}

fn put_table(updates: &mut Object<String, Value>, schema: &TableSchema, rows: Object<String, Value>) {
    if !rows.is_empty() {
        updates.insert(schema.name.clone(), Value::Object(rows));
    }
}

/// `<row-update>` of RFC 7047 section 4.1.6.
fn update_one(
    schema: &TableSchema,
    columns: impl Iterator<Item = usize>,
    rows: (Option<&Arc<Row>>, Option<&Arc<Row>>),
) -> Option<Value> {
    let columns: Vec<usize> = columns.collect();
    let mut update = Object::new();
    match rows {
        (Some(old), Some(new)) => {
            let changed: Vec<usize> = columns.iter().copied().filter(|&c| old.fields[c] != new.fields[c]).collect();
            if changed.is_empty() {
                return None;
            }
            update.insert("old".into(), old.to_json(schema, &changed));
            update.insert("new".into(), new.to_json(schema, &columns));
        }
        (Some(old), None) => {
            update.insert("old".into(), old.to_json(schema, &columns));
        }
        (None, Some(new)) => {
            update.insert("new".into(), new.to_json(schema, &columns));
        }
        (None, None) => return None,
    }
    Some(Value::Object(update))
}

/// `<row-update2>` of ovsdb-server(7): defaults are left out, changes to sets and maps travel as differences.
fn update_two(
    schema: &TableSchema,
    columns: impl Iterator<Item = usize>,
    occasion: Occasion,
    rows: (Option<&Arc<Row>>, Option<&Arc<Row>>),
) -> Option<Value> {
    let body = match rows {
        (Some(old), Some(new)) => {
            let mut body = Object::new();
            for c in columns.filter(|&c| old.fields[c] != new.fields[c]) {
                let column = &schema.columns[c];
                body.insert(column.name.clone(), old.fields[c].diff(&new.fields[c], &column.ty).to_json());
            }
            if body.is_empty() {
                return None;
            }
            Value::Object(body)
        }
        (Some(_), None) => Value::Null,
        (None, Some(new)) => {
            let stated: Vec<usize> = columns.filter(|&c| new.fields[c] != schema.columns[c].default).collect();
            new.to_json(schema, &stated)
        }
        (None, None) => return None,
    };
    let mut update = Object::new();
    update.insert(occasion.name().into(), body);
    Some(Value::Object(update))
}

fn table_from_json(schema: &TableSchema, table: usize, request: &Value, version: Version) -> Result<MonitoredTable> {
    let mut columns: Map<usize, Select> = Map::default();
    let mut clauses = Vec::new();
    let mut unconditional = false;
    let single = std::slice::from_ref(request);
    let requests = request.as_array().map_or(single, Vec::as_slice);
    for request in requests {
        let mut p = Parser::new(request, format!("table {}", schema.name));
        let where_json = match version {
            Version::One => None,
            Version::Two | Version::Three => p.optional("where", &[Kind::Array]),
        };
        let columns_json = p.optional("columns", &[Kind::Array]);
        let select_json = p.optional("select", &[Kind::Object]);
        p.finish()?;
        let select = select_from_json(schema, select_json)?;
        add_columns(schema, &mut columns, columns_json, select)?;
        match where_json.and_then(Value::as_array) {
            Some(array) => clauses.extend(array.iter().cloned()),
            None => unconditional = true,
        }
        unconditional |= where_json.and_then(Value::as_array).is_some_and(Vec::is_empty);
    }
    if unconditional {
        clauses.clear();
    }
    let mut columns: Vec<_> = columns.into_iter().collect();
    columns.sort_unstable_by_key(|(c, _)| *c);
    let condition = Condition::from_json(schema, &Value::Array(clauses), None)?;
    Ok(MonitoredTable { table, columns, condition })
}

fn select_from_json(schema: &TableSchema, json: Option<&Value>) -> Result<Select> {
    let Some(json) = json else {
        return Ok(Select { initial: true, insert: true, delete: true, modify: true });
    };
    let mut p = Parser::new(json, format!("table {} select", schema.name));
    let mut flag = |name| p.optional(name, &[Kind::Bool]).and_then(Value::as_bool).unwrap_or(true);
    let select = Select { initial: flag("initial"), insert: flag("insert"), delete: flag("delete"), modify: flag("modify") };
    p.finish()?;
    Ok(select)
}

fn add_columns(schema: &TableSchema, columns: &mut Map<usize, Select>, json: Option<&Value>, select: Select) -> Result<()> {
    let mut add = |c: usize, json: &Value| {
        if columns.insert(c, select).is_some() {
            let text = format!("column {} mentioned more than once", schema.columns[c].name);
            return Err(Error::syntax(json, text));
        }
        Ok(())
    };
    let Some(json) = json else {
        return (0..schema.columns.len()).filter(|c| *c != COL_UUID).try_for_each(|c| add(c, &Value::Null));
    };
    let bad = || Error::syntax(json, "array of column names expected");
    for name in json.as_array().ok_or_else(bad)? {
        let name = name.as_str().ok_or_else(bad)?;
        let column = schema.column(name).ok_or_else(|| Error::syntax(json, format!("{name} is not a valid column name")))?;
        add(column, json)?;
    }
    Ok(())
}

fn condition_from_change(schema: &TableSchema, json: &Value) -> Result<Condition> {
    let mut p = Parser::new(json, format!("table {}", schema.name));
    let condition = p.optional("where", &[Kind::Array]);
    let columns = p.optional("columns", &[Kind::Array]);
    p.finish()?;
    if columns.is_some() {
        return Err(Error::syntax(json, "changing columns is unsupported"));
    }
    Condition::from_json(schema, condition.unwrap_or(&Value::Array(Vec::new())), None)
}
