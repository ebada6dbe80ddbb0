//! `ovsdb-client backup` and `restore`: a database's contents as a database file, and back in one transaction.

use super::Call;
use super::commands::{fetch_schema, select};
use super::server::failed;
use crate::console::Io;
use crate::fault::Fault;
use crate::ovsdb_tool::date_ms;
use ovsdb::{RpcClient, Schema, TableSchema};
use serde_json::{Map, Value as Json, json};
use std::io::{IsTerminal as _, Read as _};

fn persistent(table: &TableSchema) -> Vec<usize> {
    let kept = |c: &usize| !table.columns[*c].ephemeral && !table.columns[*c].name.starts_with('_');
    (0..table.columns.len()).filter(kept).collect()
}

pub(super) async fn backup(io: &mut Io<'_>, client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    if std::io::stdout().is_terminal() {
        return Err(Fault::say("not writing backup to a terminal; please redirect stdout to a file"));
    }
    let schema = fetch_schema(client, call).await?;
    let mut record = Map::new();
    record.insert("_date".into(), date_ms().into());
    for table in &schema.tables {
        let mut columns = persistent(table);
        columns.extend(table.column("_uuid"));
        let mut rows = Map::new();
        for mut row in select(client, call, table, &columns).await? {
            let Some(uuid) = row.pop().and_then(|d| d.as_uuid()) else { continue };
            let fields = row.iter().zip(&columns).filter(|(datum, c)| **datum != table.columns[**c].default);
            let fields: Map<String, Json> = fields.map(|(datum, c)| (table.columns[*c].name.clone(), datum.to_json())).collect();
            rows.insert(uuid.to_string(), Json::Object(fields));
        }
        if !rows.is_empty() {
            record.insert(table.name.clone(), Json::Object(rows));
        }
    }
    record.insert("_is_diff".into(), true.into());
    record.insert("_comment".into(), "produced by \"ovsdb-client backup\"".into());
    io.out.write_all(&ovsdb::journal::encode(&schema.to_json()))?;
    io.out.write_all(&ovsdb::journal::encode(&Json::Object(record)))?;
    Ok(0)
}

pub(super) async fn restore(client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    if std::io::stdin().is_terminal() {
        return Err(Fault::say("not reading backup from a terminal; please redirect stdin from a file"));
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let (snapshot, rows) = snapshot(&bytes)?;
    let present = fetch_schema(client, call).await?;
    if snapshot.to_json() != present.to_json() && !call.options.force {
        return Err(Fault::say(format!(
            "backup schema has version \"{}\" but database schema has version \"{}\" (use --force to override differences, or \"ovsdb-client convert\" to change the schema)",
            snapshot.version, present.version
        )));
    }
    let mut operations: Vec<Json> =
        present.tables.iter().map(|t| json!({"op": "delete", "table": t.name, "where": []})).collect();
    for (table, rows) in rows {
        if present.table_schema(&table).is_none() {
            return Err(Fault::say(format!("backup has table {table}, the database does not")));
        }
        for (uuid, row) in rows {
            let row = named(row);
            operations.push(json!({"op": "insert", "table": table, "uuid-name": name_of(&uuid), "row": row}));
        }
    }
    operations.push(json!({"op": "comment", "comment": "ovsdb-client restore"}));
    let results = client.transact(&call.database, operations).await.map_err(|e| failed(call, &e))?;
    match results.iter().find(|r| r.get("error").is_some()) {
        Some(error) => Err(Fault::say(format!("restore failed: {}", ovsdb::json::to_sorted(error)))),
        None => Ok(0),
    }
}

/// Table, and its rows by UUID.
type Rows = Vec<(String, Map<String, Json>)>;

/// The schema and the rows that a database file ends up with.
fn snapshot(bytes: &[u8]) -> Result<(Schema, Rows), Fault> {
    let bad = |why: String| Fault::say(format!("failed to read backup: {why}"));
    let db = ovsdb::store::Store::from_bytes(bytes).map_err(|e| bad(e.to_string()))?;
    let schema = Schema::clone(db.schema());
    let mut rows = Rows::new();
    for (t, table) in schema.tables.iter().enumerate() {
        let columns = persistent(table);
        let of_table = db.rows(t).map(|(uuid, row)| (uuid.to_string(), row.to_json(table, &columns))).collect();
        rows.push((table.name.clone(), of_table));
    }
    Ok((schema, rows))
}

fn name_of(uuid: &str) -> String {
    format!("row{}", uuid.replace('-', "_"))
}

/// The value with each UUID in it replaced by the name under which its row is inserted.
fn named(value: Json) -> Json {
    match value {
        Json::Array(elements) => match elements.as_slice() {
            [Json::String(tag), Json::String(uuid)] if tag == "uuid" => json!(["named-uuid", name_of(uuid)]),
            _ => Json::Array(elements.into_iter().map(named).collect()),
        },
        Json::Object(members) => Json::Object(members.into_iter().map(|(k, v)| (k, named(v))).collect()),
        other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => other,
    }
}
