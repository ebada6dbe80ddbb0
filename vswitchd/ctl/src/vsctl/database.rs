//! The database commands: rows and columns of any table by name (ovs-vsctl(8), "Database Commands").

use super::command::{Call, Wanted};
use super::condition::{OPERATORS, holds};
use super::context::{Context, Output};
use super::names::{self, ROW_NAMES};
use super::overlay::{Key, shown_columns};
use crate::fault::Fault;
use crate::table::{Cell, Table};
use ovsdb::schema::COL_UUID;
use ovsdb::types::UNLIMITED;
use ovsdb::{Datum, Schema, TableSchema, Type};
use uuid::Uuid;

const ASSIGNMENT: &[&str] = &["="];

// ---- before there is a connection ----------------------------------------------------------------------------------------

/// The table of the first argument, with what its rows can be named by.
fn want_table<'s>(call: &Call, schema: &'s Schema, wanted: &mut Wanted) -> Result<&'s TableSchema, Fault> {
    let table = &schema.tables[names::table(schema, call.argument(1))?];
    wanted.table(&table.name);
    for way in ROW_NAMES.iter().filter(|w| w.table == table.name && w.by != table.name) {
        wanted.columns(way.by, &["name", way.via.unwrap_or("name")]);
    }
    Ok(table)
}

fn check_clauses<'a>(table: &TableSchema, words: impl Iterator<Item = &'a String>, operators: &[&str]) -> Result<(), Fault> {
    words.map(String::as_str).try_for_each(|word| names::clause(table, word, operators).map(drop))
}

/// Checks `COLUMN[:KEY]=VALUE`s of a table.
pub(super) fn check_settings<'a>(
    schema: &Schema,
    table: &str,
    mut settings: impl Iterator<Item = &'a String>,
) -> Result<(), Fault> {
    match schema.table_schema(table) {
        Some(table) => settings.try_for_each(|s| names::column_and_key(table, s).map(drop)),
        None => Ok(()),
    }
}

pub(super) fn prepare_table(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    want_table(call, schema, wanted).map(drop)
}

pub(super) fn prepare_get(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    for word in call.arguments(3) {
        let (_, _, rest) = names::column_and_key(table, word)?;
        if !rest.is_empty() {
            return Err(Fault::say(format!("{word}: trailing garbage \"{rest}\" in argument")));
        }
    }
    Ok(())
}

pub(super) fn prepare_list(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    columns_option(call, table).map(drop)
}

pub(super) fn prepare_find(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    columns_option(call, table)?;
    check_clauses(table, call.arguments(2).iter(), OPERATORS)
}

pub(super) fn prepare_wait(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    check_clauses(table, call.arguments(3).iter(), OPERATORS)
}

pub(super) fn prepare_set(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    call.arguments(3).iter().try_for_each(|w| names::column_and_key(table, w).map(drop))
}

pub(super) fn prepare_column(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    names::column(table, call.argument(3)).map(drop)
}

pub(super) fn prepare_clear(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    call.arguments(3).iter().try_for_each(|w| names::column(table, w).map(drop))
}

pub(super) fn prepare_create(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let table = want_table(call, schema, wanted)?;
    call.arguments(2).iter().try_for_each(|w| names::column_and_key(table, w).map(drop))
}

// ---- reading -------------------------------------------------------------------------------------------------------------

/// `comment ARG...`
pub(super) fn comment(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    context.overlay.comment(call.arguments(1).join(" "));
    Ok(())
}

fn table_of(context: &Context<'_>, call: &Call) -> Result<usize, Fault> {
    names::table(context.overlay.schema(), call.argument(1))
}

fn row(context: &mut Context<'_>, table: usize, typed: &str, must_exist: bool) -> Result<Option<Key>, Fault> {
    names::row(context.overlay, &context.symbols, table, typed, must_exist)
}

/// The row of the second argument; nothing if there is none and `--if-exists` is given.
fn row_of(context: &mut Context<'_>, call: &Call) -> Result<Option<Key>, Fault> {
    let table = table_of(context, call)?;
    row(context, table, call.argument(2), !call.has("--if-exists"))
}

/// `get TABLE RECORD [COLUMN[:KEY]]...`
pub(super) fn get(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let must_exist = !call.has("--if-exists");
    if call.words.len() == 3 && !call.has("--id") {
        let text = "\"get\" command without row arguments or \"--id\" is possibly erroneous";
        context.warn("db_ctl_base", text.into());
    }
    let Some(row) = row_of(context, call)? else {
        return Ok(());
    };
    if let Some(id) = call.value("--id") {
        let (used, symbol) = context.symbols.create(id)?;
        if used {
            return Err(Fault::say(format!("row id \"{id}\" specified on \"get\" command was used before it was defined")));
        }
        symbol.uuid = row.1;
        // The row is there, whatever refers to it.
        symbol.strong = true;
    }
    for word in call.arguments(3) {
        let (column, key, _) = names::column_and_key(context.overlay.table_schema(row.0), word)?;
        let line = match key {
            Some(key) => value_of_key(context, call, (row, column), (&key, must_exist))?,
            None => context.overlay.read(row, column).to_text(&context.overlay.column(row.0, column).ty),
        };
        context.say(&line);
    }
    Ok(())
}

fn value_of_key(
    context: &mut Context<'_>,
    call: &Call,
    (row, column): (Key, usize),
    (key, must_exist): (&str, bool),
) -> Result<String, Fault> {
    let (datum, schema) = (context.overlay.read(row, column), context.overlay.column(row.0, column));
    if !schema.ty.is_map() {
        return Err(Fault::say(format!("cannot specify key to get for non-map column {}", schema.name)));
    }
    let atom = names::atom(&schema.ty.key, key, &mut context.symbols)?;
    match datum.value_of(&atom) {
        Some(value) => Ok(value.to_text()),
        None if must_exist => Err(Fault::say(format!(
            "no key \"{key}\" in {} record \"{}\" column {}",
            context.overlay.table_schema(row.0).name,
            call.argument(2),
            schema.name
        ))),
        None => Ok(String::new()),
    }
}

fn columns_option(call: &Call, table: &TableSchema) -> Result<Vec<usize>, Fault> {
    let Some(list) = call.value("--columns") else {
        return Ok(shown_columns(table).collect());
    };
    let words = list.split([',', ' ']).filter(|w| !w.is_empty());
    let columns = words.map(|w| names::column(table, w)).collect::<Result<Vec<_>, _>>()?;
    if columns.is_empty() { Err(Fault::say("must specify at least one column name")) } else { Ok(columns) }
}

fn list_rows(context: &mut Context<'_>, call: &Call, table: usize, rows: Vec<Key>) -> Result<(), Fault> {
    let overlay = &*context.overlay;
    let columns = columns_option(call, overlay.table_schema(table))?;
    let cell = |key: Key, c: usize| Cell::Datum(overlay.read(key, c), overlay.column(table, c).ty.clone());
    let output = Table {
        headings: columns.iter().map(|c| overlay.column(table, *c).name.clone()).collect(),
        rows: rows.into_iter().map(|key| columns.iter().map(|c| cell(key, *c)).collect()).collect(),
        ..Table::default()
    };
    context.output = Output::Table(output);
    Ok(())
}

/// `list TABLE [RECORD]...`
pub(super) fn list(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let table = table_of(context, call)?;
    let must_exist = !call.has("--if-exists");
    let mut rows = Vec::new();
    if call.words.len() == 2 {
        rows.extend(context.overlay.rows(table).map(|u| (table, u)));
    }
    for word in call.arguments(2) {
        rows.extend(row(context, table, word, must_exist)?);
    }
    list_rows(context, call, table, rows)
}

/// `find TABLE [COLUMN[:KEY]=VALUE]...`
pub(super) fn find(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let table = table_of(context, call)?;
    let all: Vec<Uuid> = context.overlay.rows(table).collect();
    let mut rows = Vec::new();
    for key in all.into_iter().map(|u| (table, u)) {
        if all_hold(context, key, call.arguments(2))? {
            rows.push(key);
        }
    }
    list_rows(context, call, table, rows)
}

fn all_hold(context: &mut Context<'_>, key: Key, conditions: &[String]) -> Result<bool, Fault> {
    for condition in conditions {
        if !holds(context.overlay, &mut context.symbols, key, condition)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `wait-until TABLE RECORD [COLUMN[:KEY]=VALUE]...`
pub(super) fn wait_until(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let table = table_of(context, call)?;
    context.try_again = match row(context, table, call.argument(2), false)? {
        Some(key) => !all_hold(context, key, call.arguments(3))?,
        None => true,
    };
    Ok(())
}

// ---- writing -------------------------------------------------------------------------------------------------------------

fn check_mutable(context: &Context<'_>, key: Key, column: usize) -> Result<(), Fault> {
    let schema = context.overlay.column(key.0, column);
    if column != COL_UUID && (schema.mutable || context.overlay.is_new(key)) {
        return Ok(());
    }
    let table = &context.overlay.table_schema(key.0).name;
    Err(Fault::say(format!("cannot modify read-only column {} in table {table}", schema.name)))
}

/// Writes a column; bridges may look different then.
fn write(context: &mut Context<'_>, key: Key, column: usize, datum: Datum) {
    let name = context.overlay.column(key.0, column).name.as_str();
    if ["name", "bridges", "ports", "interfaces", "fake_bridge", "tag"].contains(&name) {
        context.forget_topology();
    }
    context.overlay.write(key, column, datum);
}

/// Obeys `COLUMN[:KEY]=VALUE`.
pub(super) fn set_column(context: &mut Context<'_>, row: Key, argument: &str) -> Result<(), Fault> {
    let clause = names::clause(context.overlay.table_schema(row.0), argument, ASSIGNMENT)?;
    let column = clause.column;
    check_mutable(context, row, column)?;
    let schema = context.overlay.column(row.0, column).clone();
    let datum = match &clause.key {
        None => names::datum(&schema.ty, clause.value, &mut context.symbols)?,
        Some(key) => {
            if !schema.ty.is_map() {
                return Err(Fault::say(format!("cannot specify key to set for non-map column {}", schema.name)));
            }
            let key = names::atom(&schema.ty.key, key, &mut context.symbols)?;
            // A pair of the column's value type, read as a set so that `@id`s are noted.
            let value_type = schema.ty.value.clone().unwrap_or_else(|| schema.ty.key.clone());
            let one = Type { key: value_type, value: None, min: 1, max: 1 };
            let value = names::atom(&one.key, clause.value, &mut context.symbols)?;
            context.symbols.note_atom(&one, &value);
            context.overlay.verify(row, column);
            Datum::map([(key, value)]).union(&context.overlay.read(row, column))
        }
    };
    write(context, row, column, datum);
    Ok(())
}

/// `set TABLE RECORD COLUMN[:KEY]=VALUE...`
pub(super) fn set(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let Some(row) = row_of(context, call)? else {
        return Ok(());
    };
    call.arguments(3).iter().try_for_each(|word| set_column(context, row, word))
}

/// The type of what `add` and `remove` take: any number of members.
fn members(ty: &Type) -> Type {
    Type { min: 1, max: UNLIMITED, ..ty.clone() }
}

fn kind(ty: &Type) -> &'static str {
    if ty.is_map() { "pairs" } else { "values" }
}

/// `add TABLE RECORD COLUMN [KEY=]VALUE...`
pub(super) fn add(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let Some(row) = row_of(context, call)? else {
        return Ok(());
    };
    let column = names::column(context.overlay.table_schema(row.0), call.argument(3))?;
    check_mutable(context, row, column)?;
    let schema = context.overlay.column(row.0, column).clone();
    let mut added = if schema.ty.is_map() { Datum::empty_map() } else { Datum::empty_set() };
    for word in call.arguments(4) {
        added = added.union(&names::datum(&members(&schema.ty), word, &mut context.symbols)?);
    }
    if context.last && !context.overlay.is_new(row) {
        // Nobody will read the result, so the server may add to whatever the column holds by then.
        context.overlay.mutate(row, column, "insert", added);
        return Ok(());
    }
    let datum = context.overlay.read(row, column).union(&added);
    if datum.len() > schema.ty.max as usize {
        return Err(Fault::say(format!(
            "\"add\" operation would put {} {} in column {} of table {} but the maximum number is {}",
            datum.len(),
            kind(&schema.ty),
            schema.name,
            context.overlay.table_schema(row.0).name,
            schema.ty.max
        )));
    }
    context.overlay.verify(row, column);
    write(context, row, column, datum);
    Ok(())
}

/// `remove TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...`
pub(super) fn remove(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let Some(row) = row_of(context, call)? else {
        return Ok(());
    };
    let column = names::column(context.overlay.table_schema(row.0), call.argument(3))?;
    check_mutable(context, row, column)?;
    let schema = context.overlay.column(row.0, column).clone();
    let mut datum = context.overlay.read(row, column);
    for word in call.arguments(4) {
        let pairs = members(&schema.ty);
        let gone = match names::datum(&pairs, word, &mut context.symbols) {
            // Keys alone name pairs of a map too.
            Err(_) if schema.ty.is_map() => names::datum(&Type { value: None, ..pairs }, word, &mut context.symbols)?,
            other => other?,
        };
        datum = datum.subtract(&gone);
    }
    if datum.len() < schema.ty.min as usize {
        return Err(Fault::say(format!(
            "\"remove\" operation would put {} {} in column {} of table {} but the minimum number is {}",
            datum.len(),
            kind(&schema.ty),
            schema.name,
            context.overlay.table_schema(row.0).name,
            schema.ty.min
        )));
    }
    context.overlay.verify(row, column);
    write(context, row, column, datum);
    Ok(())
}

/// `clear TABLE RECORD COLUMN...`
pub(super) fn clear(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let Some(row) = row_of(context, call)? else {
        return Ok(());
    };
    for word in call.arguments(3) {
        let column = names::column(context.overlay.table_schema(row.0), word)?;
        check_mutable(context, row, column)?;
        let schema = context.overlay.column(row.0, column);
        if schema.ty.min > 0 {
            let table = &context.overlay.table_schema(row.0).name;
            return Err(Fault::say(format!(
                "\"clear\" operation cannot be applied to column {} of table {table}, which is not allowed to be empty",
                schema.name
            )));
        }
        let empty = if schema.ty.is_map() { Datum::empty_map() } else { Datum::empty_set() };
        write(context, row, column, empty);
    }
    Ok(())
}

/// `create TABLE COLUMN[:KEY]=VALUE...`
pub(super) fn create(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let table = table_of(context, call)?;
    let schema = context.overlay.table_schema(table);
    let (is_root, name) = (schema.is_root, schema.name.clone());
    let fixed = call.value("--id").and_then(ovsdb::atom::parse_uuid);
    let uuid = match call.value("--id") {
        Some(_) if fixed.is_some() => fixed.unwrap_or_default(),
        Some(id) => {
            let (_, symbol) = context.symbols.create(id)?;
            // Rows of a root table live without being referred to.
            symbol.strong |= is_root;
            symbol.uuid
        }
        None => {
            if !is_root {
                let text = format!("applying \"create\" command to table {name} without --id option will have no effect");
                context.warn("db_ctl_base", text);
            }
            Uuid::new_v4()
        }
    };
    let row = match fixed {
        Some(uuid) => context.overlay.insert_fixed(table, uuid),
        None => context.overlay.insert(table, uuid),
    };
    for word in call.arguments(2) {
        set_column(context, row, word)?;
    }
    context.output = Output::NewRow(uuid);
    Ok(())
}

/// `destroy TABLE [RECORD]...`
pub(super) fn destroy(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let table = table_of(context, call)?;
    let (all, must_exist) = (call.has("--all"), !call.has("--if-exists"));
    if all && call.words.len() > 2 {
        return Err(Fault::say("--all and records argument should not be specified together"));
    }
    if all && !must_exist {
        return Err(Fault::say("--all and --if-exists should not be specified together"));
    }
    let mut rows = Vec::new();
    if all {
        rows.extend(context.overlay.rows(table).map(|u| (table, u)));
    } else if call.words.len() == 2 {
        context.warn("db_ctl_base", "either --all or records argument should be specified".into());
    }
    for word in call.arguments(2) {
        rows.extend(row(context, table, word, must_exist)?);
    }
    rows.into_iter().for_each(|key| context.overlay.delete(key));
    context.forget_topology();
    Ok(())
}
