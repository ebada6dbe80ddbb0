//! The commands that ask once and print the answer.

use super::server::{failed, reason, refused};
use super::{Call, Work};
use crate::console::Io;
use crate::fault::Fault;
use crate::ovsdb_tool::schema_file;
use crate::process::background::Background;
use crate::table::{Cell, Table, pretty};
use ovsdb::{Datum, RpcClient, Schema, TableSchema};
use serde_json::{Value as Json, json};
use std::cmp::Ordering;

pub(super) fn print_json(io: &mut Io<'_>, call: &Call<'_>, value: &Json) -> Result<(), Fault> {
    let text = if call.options.style.pretty { pretty(value) } else { ovsdb::json::to_sorted(value) };
    writeln!(io.out, "{text}")?;
    Ok(io.out.flush()?)
}

pub(super) async fn list_dbs(io: &mut Io<'_>, client: &mut RpcClient) -> Result<u8, Fault> {
    let names = client.list_dbs().await.map_err(|e| Fault::say(format!("list_dbs: {}", reason(&e))))?;
    names.iter().try_for_each(|name| writeln!(io.out, "{name}"))?;
    Ok(0)
}

pub(super) async fn fetch_schema(client: &mut RpcClient, call: &Call<'_>) -> Result<Schema, Fault> {
    client.schema(&call.database).await.map_err(|e| failed(call, &e))
}

pub(super) async fn schema(io: &mut Io<'_>, client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = fetch_schema(client, call).await?;
    print_json(io, call, &schema.to_json())?;
    Ok(0)
}

pub(super) async fn schema_part(
    io: &mut Io<'_>,
    client: &mut RpcClient,
    call: &Call<'_>,
    part: fn(&Schema) -> String,
) -> Result<u8, Fault> {
    let schema = fetch_schema(client, call).await?;
    writeln!(io.out, "{}", part(&schema))?;
    Ok(0)
}

pub(super) async fn list_tables(io: &mut Io<'_>, client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = fetch_schema(client, call).await?;
    let mut names: Vec<&str> = schema.tables.iter().map(|t| t.name.as_str()).collect();
    names.sort_unstable();
    let rows = names.into_iter().map(|name| vec![Cell::Text(name.to_owned())]).collect();
    print_table(io, call, Table { headings: vec!["Table".to_owned()], rows, ..Table::default() })
}

pub(super) async fn list_columns(io: &mut Io<'_>, client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = fetch_schema(client, call).await?;
    let only = call.words.first();
    let mut headings = vec!["Column".to_owned(), "Type".to_owned()];
    if only.is_none() {
        headings.insert(0, "Table".to_owned());
    }
    let mut tables: Vec<&TableSchema> = schema.tables.iter().filter(|t| only.is_none_or(|name| t.name == *name)).collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let mut rows = Vec::new();
    for table in tables {
        for (name, c) in columns_by_name(table, true) {
            let mut cells = vec![Cell::Text(name.to_owned()), Cell::Json(table.columns[c].ty.to_json())];
            if only.is_none() {
                cells.insert(0, Cell::Text(table.name.clone()));
            }
            rows.push(cells);
        }
    }
    print_table(io, call, Table { headings, rows, ..Table::default() })
}

/// Columns in the order of their names, with those that every table has at the end if they are wanted.
pub(super) fn columns_by_name(table: &TableSchema, hidden: bool) -> Vec<(&str, usize)> {
    let mut columns: Vec<(&str, usize)> = table.columns.iter().enumerate().map(|(c, s)| (s.name.as_str(), c)).collect();
    columns.retain(|(name, _)| hidden || !name.starts_with('_'));
    columns.sort_by_key(|(name, _)| (name.starts_with('_'), *name));
    columns
}

pub(super) fn print_table(io: &mut Io<'_>, call: &Call<'_>, table: Table) -> Result<u8, Fault> {
    table.print(&call.options.style, &mut 0, io.out)?;
    Ok(0)
}

// ---- transactions --------------------------------------------------------------------------------------------------------

pub(super) async fn transact(
    io: &mut Io<'_>,
    client: &mut RpcClient,
    call: &Call<'_>,
    background: &mut Background,
) -> Result<u8, Fault> {
    let text = call.word(0);
    let transaction: Json = serde_json::from_str(text).map_err(|e| Fault::say(format!("\"{text}\": {e}")))?;
    let Json::Array(mut params) = transaction else {
        return Err(Fault::say("transaction must be a JSON array"));
    };
    // `[["db", ...]]` is taken for `["db", ...]`.
    if let [Json::Array(inner)] = params.as_slice() {
        params = inner.clone();
    }
    if call.work == Work::Query {
        params.push(json!({"op": "abort"}));
    }
    let asked = params.len().saturating_sub(1);
    let request = client.request("transact", params);
    let answer = {
        let mut request = std::pin::pin!(request);
        // The request goes out before whoever waits for a detached command is told so.
        tokio::select! {
            biased;
            answer = &mut request => answer,
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {
                background.ready();
                request.await
            }
        }
    };
    background.ready();
    let mut answer = answer.map_err(|e| refused(&e))?;
    if call.work == Work::Query {
        unaborted(&mut answer, asked)?;
    }
    print_json(io, call, &answer)?;
    Ok(0)
}

/// Takes the answer to our own `abort` out of the results.
fn unaborted(answer: &mut Json, asked: usize) -> Result<(), Fault> {
    let Some(results) = answer.as_array_mut() else {
        return Err(Fault::say("received bad reply"));
    };
    if results.get(asked - 1).and_then(|r| r.get("error")).and_then(Json::as_str) == Some("aborted") {
        results.truncate(asked - 1);
    }
    Ok(())
}

pub(super) async fn convert(client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = schema_file(Some(call.word(0)))?;
    let params = vec![schema.name.as_str().into(), schema.to_json()];
    client.request("convert", params).await.map_err(|e| refused(&e))?;
    Ok(0)
}

pub(super) async fn needs_conversion(io: &mut Io<'_>, client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    let wanted = schema_file(Some(call.word(0)))?;
    let present = client.schema(&wanted.name).await.map_err(|e| failed(call, &e))?;
    writeln!(io.out, "{}", if present.to_json() == wanted.to_json() { "no" } else { "yes" })?;
    Ok(0)
}

// ---- contents ------------------------------------------------------------------------------------------------------------

/// The rows of a table, these columns of them.
pub(super) async fn select(
    client: &mut RpcClient,
    call: &Call<'_>,
    table: &TableSchema,
    columns: &[usize],
) -> Result<Vec<Vec<Datum>>, Fault> {
    let names: Vec<&str> = columns.iter().map(|c| table.columns[*c].name.as_str()).collect();
    let operation = json!({"op": "select", "table": table.name, "where": [], "columns": names});
    let results = client.transact(&call.database, vec![operation]).await.map_err(|e| failed(call, &e))?;
    let bad = || Fault::say(format!("{}: received bad reply", call.server));
    let rows = results.first().and_then(|r| r.get("rows")).and_then(Json::as_array).ok_or_else(bad)?;
    let parse = |row: &Json| -> Option<Vec<Datum>> {
        let field = |(name, c): (&&str, &usize)| Datum::from_json(&table.columns[*c].ty, row.get(*name)?, None).ok();
        names.iter().zip(columns).map(field).collect()
    };
    rows.iter().map(|row| parse(row).ok_or_else(bad)).collect()
}

pub(super) async fn dump(io: &mut Io<'_>, client: &mut RpcClient, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = fetch_schema(client, call).await?;
    let mut tables: Vec<(&TableSchema, Vec<usize>)> = Vec::new();
    if let Some((name, columns)) = call.words.split_first() {
        let table = schema.table_schema(name).ok_or_else(|| Fault::say(format!("No table \"{name}\" found.")))?;
        let number =
            |column: &String| table.column(column).ok_or_else(|| Fault::say(format!("Table \"{name}\" has no column {column}.")));
        let mut chosen = columns.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        // By name, in whatever order they were asked for: a schema numbers its columns so.
        chosen.sort_unstable();
        tables.push((table, if columns.is_empty() { dumped(table) } else { chosen }));
    } else {
        tables.extend(schema.tables.iter().map(|t| (t, dumped(t))));
        tables.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    }
    let mut printed = 0;
    for (table, columns) in tables {
        let mut rows = select(client, call, table, &columns).await?;
        rows.sort_by(|a, b| order(table, &columns, a, b));
        let cells = |row: Vec<Datum>| {
            row.into_iter().zip(&columns).map(|(datum, c)| Cell::Datum(datum, table.columns[*c].ty.clone())).collect()
        };
        let printable = Table {
            headings: columns.iter().map(|c| table.columns[*c].name.clone()).collect(),
            rows: rows.into_iter().map(cells).collect(),
            caption: Some(format!("{} table", table.name)),
            ..Table::default()
        };
        printable.print(&call.options.style, &mut printed, io.out)?;
    }
    Ok(0)
}

/// `_uuid`, then the table's own columns by name.
fn dumped(table: &TableSchema) -> Vec<usize> {
    let own = columns_by_name(table, false).into_iter().map(|(_, c)| c);
    table.column("_uuid").into_iter().chain(own).collect()
}

/// By the table's own columns from left to right, then by `_uuid`.
fn order(table: &TableSchema, columns: &[usize], a: &[Datum], b: &[Datum]) -> Ordering {
    let is_uuid = |at: &usize| table.columns[columns[*at]].name == "_uuid";
    let (last, first): (Vec<usize>, Vec<usize>) = (0..columns.len()).partition(is_uuid);
    first.into_iter().chain(last).map(|at| a[at].compare(&b[at])).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}
