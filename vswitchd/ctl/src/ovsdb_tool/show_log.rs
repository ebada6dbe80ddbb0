//! `ovsdb-tool show-log`: a journal's records for people, in ovsdb-tool's own layout.

use super::{Call, refused};
use crate::console::Io;
use crate::fault::Fault;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ovsdb::{Datum, Schema, TableSchema};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// What rows were called when they were last named.
type Names = BTreeMap<String, String>;

/// Prints the log; `-m` names the rows, `-mm` the columns too.
pub(super) fn run(io: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let path = call.database(0);
    let contents = ovsdb::journal::read(&path).map_err(refused)?;
    let mut schema = None;
    let mut names = Names::new();
    for (number, record) in contents.records.iter().enumerate() {
        write!(io.out, "record {number}:")?;
        if record.get("tables").is_some() && record.get("name").is_some() {
            let parsed = Schema::from_json(record).map_err(refused)?;
            writeln!(io.out, " \"{}\" schema, version=\"{}\", cksum=\"{}\"\n", parsed.name, parsed.version, parsed.cksum)?;
            schema = Some(parsed);
            continue;
        }
        print(io, call.more, record, (schema.as_ref(), &mut names))?;
    }
    if let Some(damage) = contents.damage {
        let text = format!("{}: record {} at offset {}: {}", path.display(), damage.record, damage.offset, damage.reason);
        return Err(Fault::say(format!("syntax error: {text}")));
    }
    Ok(0)
}

fn print(io: &mut Io<'_>, more: u32, record: &Json, (schema, names): (Option<&Schema>, &mut Names)) -> Result<(), Fault> {
    let empty = Map::new();
    let members = record.as_object().unwrap_or(&empty);
    if let Some(ms) = members.get("_date").and_then(Json::as_i64)
        && let Ok(date) = Timestamp::from_millisecond(if ms < 10_000_000_000 { ms * 1_000 } else { ms })
    {
        write!(io.out, " {}", date.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.3f"))?;
    }
    if let Some(comment) = members.get("_comment").and_then(Json::as_str) {
        write!(io.out, " \"{comment}\"")?;
    }
    writeln!(io.out)?;
    let as_diff = members.get("_is_diff").and_then(Json::as_bool) == Some(true);
    let mut tables: Vec<_> = members.iter().filter(|(name, _)| !name.starts_with('_')).collect();
    tables.sort_by_key(|(name, _)| name.as_str());
    for (table, rows) in tables {
        let table_schema = schema.and_then(|s| s.table_schema(table));
        for (uuid, row) in rows.as_object().into_iter().flatten() {
            print_row(io, (more, as_diff), (table, table_schema), (uuid, row), names)?;
        }
    }
    if more > 0 {
        writeln!(io.out)?;
    }
    Ok(())
}

fn print_row(
    io: &mut Io<'_>,
    (more, as_diff): (u32, bool),
    (table, schema): (&str, Option<&TableSchema>),
    (uuid, row): (&str, &Json),
    names: &mut Names,
) -> Result<(), Fault> {
    let known = names.contains_key(uuid);
    let fresh = row.get("name").and_then(Json::as_str).map(str::to_owned);
    let name = match (&fresh, known) {
        (Some(fresh), false) => fresh.clone(),
        _ => names.get(uuid).cloned().unwrap_or_default(),
    };
    let short = &uuid[..uuid.len().min(8)];
    if more > 0 {
        let what = if known || row.is_null() { "row" } else { "insert row" };
        let shown = if name.is_empty() { short.to_owned() } else { format!("\"{name}\" ({short})") };
        let diff = if as_diff && what == "row" { " diff" } else { "" };
        writeln!(io.out, "  table {table} {what} {shown}{diff}:")?;
        if row.is_null() {
            writeln!(io.out, "    delete row")?;
        } else if more > 1 {
            print_columns(io, schema, row)?;
        }
    }
    match (row.is_null(), fresh) {
        (true, _) => drop(names.remove(uuid)),
        (false, Some(fresh)) => drop(names.insert(uuid.to_owned(), fresh)),
        (false, None) => {
            names.entry(uuid.to_owned()).or_default();
        }
    }
    Ok(())
}

fn print_columns(io: &mut Io<'_>, schema: Option<&TableSchema>, row: &Json) -> Result<(), Fault> {
    for (column, value) in row.as_object().into_iter().flatten() {
        // Differences may hold more or less than the column itself.
        let ty = schema.and_then(|s| s.column_schema(column)).map(|c| &c.ty);
        let datum = ty.and_then(|ty| Some((Datum::from_json(&ty.relaxed(), value, None).ok()?, ty)));
        let text = datum.map_or_else(|| ovsdb::json::to_sorted(value), |(datum, ty)| datum.to_text(ty));
        writeln!(io.out, "    {column}={text}")?;
    }
    Ok(())
}
