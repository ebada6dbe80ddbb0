//! The database in memory: rows, the references between them, and the indexes over them.
//!
//! What enters: committed changes ([`Commit`]), from transactions or from the journal. What leaves: rows. Nothing here
//! does I/O. A transaction ([`Txn`]) is an overlay over an unchanged [`Database`]; it becomes a [`Commit`] when all
//! integrity rules hold ([`commit`]), and only [`Database::apply`] changes anything, so a failed transaction leaves no
//! trace.
//!
//! Properties that hold between calls: `strong` counts, for each row, the strong references to it from other rows;
//! `weak` names the rows that refer to it weakly; each index maps the values of its columns to the only row with them.

pub mod commit;
pub mod condition;
pub mod execute;
pub mod mutation;
pub mod rbac;
pub mod txn;

pub use commit::Commit;
pub use condition::Condition;
pub use execute::{Executed, Request, execute};
pub use rbac::Actor;
pub use txn::Txn;

use crate::datum::Datum;
use crate::hash::Map;
use crate::schema::{COL_UUID, COL_VERSION, Schema, TableSchema};
use crate::types::RefType;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// One row: a datum per column of its table, `_uuid` and `_version` first.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Values in the order of [`TableSchema::columns`].
    pub fields: Box<[Datum]>,
}

impl Row {
    /// A row with every column at its default.
    #[must_use]
    pub fn new(schema: &TableSchema, uuid: Uuid) -> Self {
        let mut fields: Box<[Datum]> = schema.columns.iter().map(|c| c.default.clone()).collect();
        fields[COL_UUID] = Datum::from(uuid);
        fields[COL_VERSION] = Datum::from(Uuid::new_v4());
        Self { fields }
    }

    /// The row's identity.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.fields[COL_UUID].as_uuid().unwrap_or_default()
    }

    /// `{column: value}` of the given columns.
    #[must_use]
    pub fn to_json(&self, schema: &TableSchema, columns: &[usize]) -> Value {
        Value::Object(columns.iter().map(|&c| (schema.columns[c].name.clone(), self.fields[c].to_json())).collect())
    }
}

/// One row before and after a transaction.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// Number of the table.
    pub table: usize,
    /// The row.
    pub uuid: Uuid,
    /// Absent for an inserted row.
    pub old: Option<Arc<Row>>,
    /// Absent for a deleted row.
    pub new: Option<Arc<Row>>,
}

/// The values of an index's columns.
type IndexKey = Box<[Datum]>;

/// Who refers weakly to a row: (table, row) and how often.
type Referrers = Map<(usize, Uuid), u32>;

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Map<Uuid, Arc<Row>>,
    pub(crate) strong: Map<Uuid, usize>,
    pub(crate) weak: Map<Uuid, Referrers>,
    pub(crate) indexes: Vec<Map<IndexKey, Uuid>>,
}

/// A column that refers to other rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefColumn {
    pub(crate) column: usize,
    pub(crate) key: Option<(usize, RefType)>,
    pub(crate) value: Option<(usize, RefType)>,
}

/// One database.
#[derive(Debug)]
pub struct Database {
    schema: Arc<Schema>,
    tables: Vec<Table>,
    refs: Vec<Vec<RefColumn>>,
}

impl Database {
    /// An empty database.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        let tables = schema
            .tables
            .iter()
            .map(|t| Table { indexes: t.indexes.iter().map(|_| Map::default()).collect(), ..Table::default() })
            .collect();
        let refs = schema.tables.iter().map(|t| ref_columns(&schema, t)).collect();
        Self { schema, tables, refs }
    }

    /// Its schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The row `uuid` of table number `table`.
    #[must_use]
    pub fn row(&self, table: usize, uuid: &Uuid) -> Option<&Arc<Row>> {
        self.tables[table].rows.get(uuid)
    }

    /// All rows of table number `table`, in no order.
    pub fn rows(&self, table: usize) -> impl Iterator<Item = (&Uuid, &Arc<Row>)> {
        self.tables[table].rows.iter()
    }

    /// Number of rows of table number `table`.
    #[must_use]
    pub fn len(&self, table: usize) -> usize {
        self.tables[table].rows.len()
    }

    /// Whether no table has a row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|t| t.rows.is_empty())
    }

    pub(crate) fn table(&self, table: usize) -> &Table {
        &self.tables[table]
    }

    pub(crate) fn ref_columns(&self, table: usize) -> &[RefColumn] {
        &self.refs[table]
    }

    /// Makes `changes` part of the database. The caller guarantees that they were prepared against this state.
    pub fn apply(&mut self, changes: &[RowChange]) {
        for change in changes {
            self.remove_from_indexes(change);
        }
        for change in changes {
            self.count_references(change);
            self.add_to_indexes(change);
            let rows = &mut self.tables[change.table].rows;
            match &change.new {
                Some(new) => rows.insert(change.uuid, Arc::clone(new)),
                None => rows.remove(&change.uuid),
            };
        }
    }

    fn remove_from_indexes(&mut self, change: &RowChange) {
        let schema = &self.schema.tables[change.table];
        if let Some(old) = &change.old {
            for (index, columns) in self.tables[change.table].indexes.iter_mut().zip(&schema.indexes) {
                index.remove(&index_key(old, columns));
            }
        }
    }

    fn add_to_indexes(&mut self, change: &RowChange) {
        let schema = &self.schema.tables[change.table];
        if let Some(new) = &change.new {
            for (index, columns) in self.tables[change.table].indexes.iter_mut().zip(&schema.indexes) {
                index.insert(index_key(new, columns), change.uuid);
            }
        }
    }

    fn count_references(&mut self, change: &RowChange) {
        let refs = std::mem::take(&mut self.refs[change.table]);
        let source = (change.table, change.uuid);
        reference_delta(&refs, change, |(table, kind), target, added| {
            let table = &mut self.tables[table];
            match kind {
                RefType::Strong if target == change.uuid => {}
                RefType::Strong => adjust(&mut table.strong, target, added),
                RefType::Weak => {
                    let referrers = table.weak.entry(target).or_default();
                    let n = referrers.entry(source).or_insert(0);
                    *n = if added { *n + 1 } else { n.saturating_sub(1) };
                    if *n == 0 {
                        referrers.remove(&source);
                    }
                    if referrers.is_empty() {
                        table.weak.remove(&target);
                    }
                }
            }
        });
        self.refs[change.table] = refs;
    }
}

fn adjust(counts: &mut Map<Uuid, usize>, target: Uuid, added: bool) {
    let n = counts.entry(target).or_insert(0);
    *n = if added { *n + 1 } else { n.saturating_sub(1) };
    if *n == 0 {
        counts.remove(&target);
    }
}

pub(crate) fn index_key(row: &Row, columns: &[usize]) -> IndexKey {
    columns.iter().map(|&c| row.fields[c].clone()).collect()
}

fn ref_columns(schema: &Schema, table: &TableSchema) -> Vec<RefColumn> {
    let target = |base: Option<&crate::types::BaseType>| {
        let (name, kind) = base?.reference()?;
        Some((schema.table(name)?, kind))
    };
    let columns = table.columns.iter().enumerate().map(|(column, c)| RefColumn {
        column,
        key: target(Some(&c.ty.key)),
        value: target(c.ty.value.as_ref()),
    });
    columns.filter(|c| c.key.is_some() || c.value.is_some()).collect()
}

/// Calls `each(target, row, added)` for every reference that `change` adds or removes; what stays is not reported.
pub(crate) fn reference_delta(refs: &[RefColumn], change: &RowChange, mut each: impl FnMut((usize, RefType), Uuid, bool)) {
    let no_change = |c: usize| match (&change.old, &change.new) {
        (Some(old), Some(new)) => old.fields[c] == new.fields[c],
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    for column in refs.iter().filter(|r| !no_change(r.column)) {
        for (target, half) in [(column.key, Half::Key), (column.value, Half::Value)] {
            let Some(target) = target else { continue };
            let old = half.uuids(change.old.as_deref(), column.column);
            let new = half.uuids(change.new.as_deref(), column.column);
            sorted_difference(&old, &new, |uuid| each(target, uuid, false));
            sorted_difference(&new, &old, |uuid| each(target, uuid, true));
        }
    }
}

#[derive(Clone, Copy)]
enum Half {
    Key,
    Value,
}

impl Half {
    fn uuids(self, row: Option<&Row>, column: usize) -> Vec<Uuid> {
        let Some(row) = row else { return Vec::new() };
        let atoms = match self {
            Self::Key => row.fields[column].keys(),
            Self::Value => row.fields[column].values(),
        };
        let mut uuids: Vec<Uuid> = atoms.iter().filter_map(crate::atom::Atom::as_uuid).collect();
        uuids.sort_unstable();
        uuids
    }
}

/// Calls `each` for the elements of `a` that are not in `b`, as multisets. Both are sorted.
fn sorted_difference(a: &[Uuid], b: &[Uuid], mut each: impl FnMut(Uuid)) {
    let mut rest = b;
    for &x in a {
        while let [first, tail @ ..] = rest
            && *first < x
        {
            rest = tail;
        }
        match rest {
            [first, tail @ ..] if *first == x => rest = tail,
            _ => each(x),
        }
    }
}
