//! Role-based access control (ovsdb(7), "Role-Based Access Control"): what a client may change that came through a remote with a role.
//!
//! What enters: the tables `RBAC_Role` and `RBAC_Permission` of the database itself, the role, the client's name from its certificate, and
//! a row with the columns to be changed. What leaves: yes or no. A database without these tables has no roles, and a remote without a
//! role may do everything; a role that gives nothing for a table, and a client without a name, may change nothing in it.

use super::{Database, Row};
use crate::datum::Datum;
use crate::error::{Error, Result, Tag};
use crate::schema::TableSchema;
use std::sync::Arc;

/// Who acts.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// The role of the remote; empty for none.
    pub role: &'a str,
    /// The common name in the client's certificate; empty for none.
    pub id: &'a str,
}

/// What the role gives for a table.
struct Permission<'a> {
    table: &'a TableSchema,
    row: &'a Arc<Row>,
}

impl Permission<'_> {
    fn get(&self, column: &str) -> Option<&Datum> {
        self.table.column(column).map(|c| &self.row.fields[c])
    }

    fn inserts_and_deletes(&self) -> bool {
        self.get("insert_delete").and_then(Datum::as_bool) == Some(true)
    }

    fn updates(&self, column: &str) -> bool {
        self.get("update").is_some_and(|columns| columns.strings().any(|c| c == column))
    }

    /// Whether a row is the client's: one of the columns that the permission names holds the client's name.
    fn owns(&self, id: &str, table: &TableSchema, row: &Row) -> bool {
        let holds = |place: &str| {
            let (column, key) = place.split_once(':').map_or((place, None), |(column, key)| (column, Some(key)));
            let value = table.column(column).map(|c| &row.fields[c]);
            match key {
                None => value.is_some_and(|v| !v.is_map() && v.strings().any(|s| s == id)),
                Some(key) => value.and_then(|v| v.str_value(key)) == Some(id),
            }
        };
        self.get("authorization").is_some_and(|places| places.strings().any(|place| place.is_empty() || holds(place)))
    }
}

/// What is to be done to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Insert,
    Delete,
    Update,
    Mutate,
}

/// Checks an act on these rows, with the numbers of the columns that it changes.
pub(super) fn check<'r>(
    db: &Database,
    actor: Actor<'_>,
    (act, table): (Act, &TableSchema),
    columns: &[usize],
    mut rows: impl Iterator<Item = &'r Arc<Row>>,
) -> Result<()> {
    let Some(roles) = db.schema().table("RBAC_Role").filter(|_| !actor.role.is_empty()) else {
        return Ok(());
    };
    let permission = permission(db, roles, actor.role, &table.name);
    let permitted = permission.filter(|_| !actor.id.is_empty()).is_some_and(|p| {
        let act_permitted = match act {
            Act::Insert | Act::Delete => p.inserts_and_deletes(),
            Act::Update | Act::Mutate => columns.iter().all(|c| p.updates(&table.columns[*c].name)),
        };
        act_permitted && rows.all(|row| p.owns(actor.id, table, row))
    });
    if permitted {
        return Ok(());
    }
    let what = match act {
        Act::Insert => "row insertion into",
        Act::Delete => "row deletion from",
        Act::Update => "modification of",
        Act::Mutate => "mutate operation on",
    };
    let Actor { role, id } = actor;
    let text = format!("RBAC rules for client \"{id}\" role \"{role}\" prohibit {what} table \"{}\".", table.name);
    Err(Error::new(Tag::Permission, text))
}

fn permission<'a>(db: &'a Database, roles: usize, role: &str, table: &str) -> Option<Permission<'a>> {
    let schema = db.schema();
    let (name, permissions) = (schema.tables[roles].column("name")?, schema.tables[roles].column("permissions")?);
    let (_, row) = db.rows(roles).find(|(_, row)| row.fields[name].as_str() == Some(role))?;
    let mut given = row.fields[permissions].pairs();
    let uuid = given.find(|(key, _)| key.as_str() == Some(table)).and_then(|(_, value)| value.as_uuid())?;
    let number = schema.table("RBAC_Permission")?;
    Some(Permission { table: &schema.tables[number], row: db.row(number, &uuid)? })
}
