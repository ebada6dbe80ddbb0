//! How people name things: tables and columns by any unambiguous beginning, values behind `COLUMN:KEY=`, rows by UUID, by its beginning,
//! by name, by `.` and by the `@id` of a row that the same run makes.

use super::overlay::{Key, Overlay};
use crate::fault::Fault;
use crate::suggest;
use ovsdb::atom::{UuidNames, parse_uuid};
use ovsdb::schema::{COL_UUID, COL_VERSION};
use ovsdb::types::RefType;
use ovsdb::{Atom, Datum, Schema, TableSchema, Type};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How well `typed` names `name`: wholly, wholly but for case and underscores, or as its beginning.
fn score(name: &str, typed: &str) -> usize {
    if name == typed {
        return usize::MAX;
    }
    let fold = |b: u8| {
        if b == b'-' { b'_' } else { b.to_ascii_lowercase() }
    };
    if typed.len() > name.len() || !typed.bytes().map(fold).eq(name.bytes().take(typed.len()).map(fold)) {
        return 0;
    }
    if typed.len() == name.len() { usize::MAX - 1 } else { typed.len() }
}

/// The names that fit best; several if nothing decides between them.
fn matches<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let scored: Vec<(usize, &str)> = names.map(|n| (score(n, typed), n)).filter(|(s, _)| *s > 0).collect();
    let best = scored.iter().map(|(s, _)| *s).max().unwrap_or(0);
    scored.into_iter().filter(|(s, _)| *s == best).map(|(_, n)| n).collect()
}

/// The table that `typed` names.
///
/// # Errors
/// None or several.
pub fn table(schema: &Schema, typed: &str) -> Result<usize, Fault> {
    let names = || schema.tables.iter().map(|t| t.name.as_str());
    match matches(typed, names()).as_slice() {
        [] => Err(Fault::say(format!("unknown table \"{typed}\"{}", suggest::hint(typed, names())))),
        [one] => schema.table(one).ok_or_else(|| Fault::say(format!("unknown table \"{typed}\""))),
        many => Err(Fault::say(format!("\"{typed}\" matches multiple table names: {}", many.join(", ")))),
    }
}

/// The column that `typed` names; `_uuid` is one.
///
/// # Errors
/// None or several.
pub fn column(table: &TableSchema, typed: &str) -> Result<usize, Fault> {
    let columns = table.columns.iter().enumerate().filter(|(c, _)| *c != COL_UUID && *c != COL_VERSION);
    match matches(typed, columns.map(|(_, c)| c.name.as_str())).as_slice() {
        [] if typed.eq_ignore_ascii_case("_uuid") => Ok(COL_UUID),
        [] => {
            let hint = suggest::hint(typed, table.columns.iter().map(|c| c.name.as_str()));
            let name = &table.name;
            Err(Fault::say(format!("{name} does not contain a column whose name matches \"{typed}\"{hint}")))
        }
        [one] => table.column(one).ok_or_else(|| Fault::say(format!("unknown column \"{typed}\""))),
        many => Err(Fault::say(format!(
            "{} contains more than one column whose name matches \"{typed}\": {}",
            table.name,
            many.join(", ")
        ))),
    }
}

// ---- COLUMN[:KEY]OPERATOR VALUE ------------------------------------------------------------------------------------------

/// An argument taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clause<'a> {
    pub column: usize,
    pub key: Option<String>,
    pub operator: &'a str,
    pub value: &'a str,
}

/// Takes `COLUMN[:KEY]` off the front; the rest is returned.
///
/// # Errors
/// No column name, or one that the table does not have.
pub fn column_and_key<'a>(table: &TableSchema, argument: &'a str) -> Result<(usize, Option<String>, &'a str), Fault> {
    let (name, rest) = token(argument)?;
    if name.is_empty() {
        return Err(Fault::say(format!("{argument}: missing column name")));
    }
    let column = column(table, &name)?;
    match rest.strip_prefix(':') {
        Some(rest) => {
            let (key, rest) = token(rest)?;
            Ok((column, Some(key), rest))
        }
        None => Ok((column, None, rest)),
    }
}

/// Takes an argument apart that ends in one of `operators` and a value.
///
/// # Errors
/// As [`column_and_key`], and no operator.
pub fn clause<'a>(table: &TableSchema, argument: &'a str, operators: &[&'a str]) -> Result<Clause<'a>, Fault> {
    let (column, key, rest) = column_and_key(table, argument)?;
    let operator = operators.iter().copied().filter(|o| rest.starts_with(o)).max_by_key(|o| o.len());
    match operator {
        Some(operator) => Ok(Clause { column, key, operator, value: &rest[operator.len()..] }),
        None => Err(Fault::say(format!("{argument}: argument does not end in {} followed by a value.", listing(operators)))),
    }
}

fn listing(operators: &[&str]) -> String {
    let quoted: Vec<String> = operators.iter().map(|o| format!("\"{o}\"")).collect();
    match quoted.as_slice() {
        [init @ .., last] if init.len() > 1 => format!("{}, or {last}", init.join(", ")),
        [first, last] => format!("{first} or {last}"),
        all => all.join(""),
    }
}

/// A bare word, or a quoted string with its quotes, off the front.
fn token(text: &str) -> Result<(String, &str), Fault> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted {
            match c {
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
        } else if c == '"' {
            quoted = true;
        } else if matches!(c, ':' | '=' | ',' | '[' | ']' | '{' | '}' | '!' | '<' | '>') || c.is_ascii_whitespace() {
            return Ok((text[..at].to_owned(), &text[at..]));
        }
    }
    if escaped {
        return Err(Fault::say(format!("{text}: backslash at end of argument")));
    }
    if quoted {
        return Err(Fault::say(format!("{text}: quoted string extends past end of argument")));
    }
    Ok((text.to_owned(), ""))
}

/// A value of the column's keys, typed.
///
/// # Errors
/// It is none.
pub fn atom(base: &ovsdb::BaseType, text: &str, symbols: &mut Symbols) -> Result<Atom, Fault> {
    Atom::from_text(base, text, Some(symbols)).map_err(Fault::say)
}

/// A value of the type, typed. References to rows that the run makes are noted.
///
/// # Errors
/// It is none.
pub fn datum(ty: &Type, text: &str, symbols: &mut Symbols) -> Result<Datum, Fault> {
    let datum = Datum::from_text(ty, text, Some(&mut *symbols)).map_err(Fault::say)?;
    symbols.note(ty, &datum);
    Ok(datum)
}

// ---- rows by @id ---------------------------------------------------------------------------------------------------------

/// What an `@id` stands for.
#[derive(Clone, Debug)]
pub struct Symbol {
    pub uuid: Uuid,
    /// A command with `--id` has said which row it is.
    pub created: bool,
    pub strong: bool,
    pub weak: bool,
}

/// The `@id`s of a run.
#[derive(Clone, Default, Debug)]
pub struct Symbols(BTreeMap<String, Symbol>);

impl UuidNames for Symbols {
    fn resolve(&mut self, name: &str) -> Uuid {
        self.entry(name).uuid
    }
}

impl Symbols {
    fn entry(&mut self, name: &str) -> &mut Symbol {
        self.0.entry(name.to_owned()).or_insert_with(|| Symbol {
            uuid: Uuid::new_v4(),
            created: false,
            strong: false,
            weak: false,
        })
    }

    /// Takes `name` for the row of a `--id` option; tells whether it was used before.
    ///
    /// # Errors
    /// It is no `@id`, or taken already.
    pub fn create(&mut self, name: &str) -> Result<(bool, &mut Symbol), Fault> {
        if !name.starts_with('@') {
            return Err(Fault::say(format!("row id \"{name}\" does not begin with \"@\"")));
        }
        let used = self.0.contains_key(name);
        let symbol = self.entry(name);
        if symbol.created {
            return Err(Fault::say(format!("row id \"{name}\" may only be specified on one --id option")));
        }
        symbol.created = true;
        Ok((used, symbol))
    }

    /// The symbol called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Symbol> {
        self.0.get(name)
    }

    /// All of them, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        self.0.iter().map(|(n, s)| (n.as_str(), s))
    }

    /// Notes a reference in a single value.
    pub fn note_atom(&mut self, ty: &Type, value: &Atom) {
        self.note(ty, &Datum::from(value.clone()));
    }

    fn note(&mut self, ty: &Type, datum: &Datum) {
        let halves = [(Some(&ty.key), datum.keys()), (ty.value.as_ref(), datum.values())];
        for (base, atoms) in halves {
            let Some((_, kind)) = base.and_then(ovsdb::BaseType::reference) else {
                continue;
            };
            for uuid in atoms.iter().filter_map(Atom::as_uuid) {
                for symbol in self.0.values_mut().filter(|s| s.uuid == uuid) {
                    match kind {
                        RefType::Strong => symbol.strong = true,
                        RefType::Weak => symbol.weak = true,
                    }
                }
            }
        }
    }
}

// ---- rows ----------------------------------------------------------------------------------------------------------------

/// One way to name rows of a table other than by UUID.
#[derive(Debug)]
pub struct RowName {
    /// The table whose rows are named.
    pub table: &'static str,
    /// The table that has the name.
    pub by: &'static str,
    /// Its column of names; `None`: the only row is `.`.
    pub name: Option<&'static str>,
    /// Its column that refers to the row named; `None`: the row itself.
    pub via: Option<&'static str>,
}

const fn named(table: &'static str, name: &'static str) -> RowName {
    RowName { table, by: table, name: Some(name), via: None }
}

const fn via(table: &'static str, by: &'static str, column: &'static str) -> RowName {
    RowName { table, by, name: Some("name"), via: Some(column) }
}

const fn only(table: &'static str) -> RowName {
    RowName { table, by: table, name: None, via: None }
}

/// All ways, tried in turn.
pub const ROW_NAMES: &[RowName] = &[
    via("AutoAttach", "Bridge", "auto_attach"),
    named("Bridge", "name"),
    via("Controller", "Bridge", "controller"),
    named("Flow_Sample_Collector_Set", "id"),
    named("Flow_Table", "name"),
    via("IPFIX", "Bridge", "ipfix"),
    named("Interface", "name"),
    named("Manager", "target"),
    named("Mirror", "name"),
    via("NetFlow", "Bridge", "netflow"),
    only("Open_vSwitch"),
    named("Port", "name"),
    via("QoS", "Port", "qos"),
    only("SSL"),
    via("sFlow", "Bridge", "sflow"),
];

/// Letters of a UUID that are enough to name a row by.
const PREFIX_MIN: usize = 4;

/// The row of `table` that `typed` names.
///
/// # Errors
/// Several; with `must_exist` also none.
pub fn row(overlay: &mut Overlay, symbols: &Symbols, table: usize, typed: &str, must_exist: bool) -> Result<Option<Key>, Fault> {
    let found = find_row(overlay, symbols, table, typed)?;
    match found {
        Some(_) => Ok(found),
        None if must_exist => Err(Fault::say(format!("no row \"{typed}\" in table {}", overlay.table_schema(table).name))),
        None => Ok(None),
    }
}

fn find_row(overlay: &mut Overlay, symbols: &Symbols, table: usize, typed: &str) -> Result<Option<Key>, Fault> {
    let there = |overlay: &Overlay, uuid: Uuid| Some((table, uuid)).filter(|k| overlay.exists(*k));
    if let Some(found) = parse_uuid(typed).and_then(|u| there(overlay, u)) {
        return Ok(Some(found));
    }
    if typed.starts_with('@')
        && let Some(found) = symbols.find(typed).and_then(|s| there(overlay, s.uuid))
    {
        return Ok(Some(found));
    }
    let name = overlay.table_schema(table).name.clone();
    for way in ROW_NAMES.iter().filter(|w| w.table == name) {
        if let Some(found) = by_name(overlay, table, way, typed)? {
            return Ok(Some(found));
        }
    }
    by_prefix(overlay, table, typed)
}

fn by_name(overlay: &mut Overlay, table: usize, way: &RowName, typed: &str) -> Result<Option<Key>, Fault> {
    let Some(by) = overlay.table(way.by) else {
        return Ok(None);
    };
    let rows: Vec<Uuid> = match way.name {
        None if typed == "." => overlay.rows(by).collect(),
        None => return Ok(None),
        Some(column) => {
            let Some(column) = overlay.table_schema(by).column(column) else {
                return Ok(None);
            };
            let base = &overlay.column(by, column).ty.key;
            let Some(atom) = name_atom(base, typed) else {
                return Ok(None);
            };
            overlay.find(by, column, &atom)
        }
    };
    let row = match (rows.as_slice(), way.name) {
        ([], _) | ([_, _, ..], None) => return Ok(None),
        ([one], _) => (by, *one),
        ([_, _, ..], Some(_)) => {
            return Err(Fault::say(format!("multiple rows in {} match \"{typed}\"", overlay.table_schema(by).name)));
        }
    };
    match way.via {
        None => Ok(Some(row)),
        Some(column) => match overlay.get(row, column).uuids().collect::<Vec<_>>().as_slice() {
            [one] => Ok(Some((table, *one)).filter(|k| overlay.exists(*k))),
            _ => Ok(None),
        },
    }
}

fn name_atom(base: &ovsdb::BaseType, typed: &str) -> Option<Atom> {
    match base.atomic {
        ovsdb::AtomicType::String => Some(Atom::from(typed)),
        ovsdb::AtomicType::Integer => typed.parse::<i64>().ok().map(Atom::from),
        ovsdb::AtomicType::Real | ovsdb::AtomicType::Boolean | ovsdb::AtomicType::Uuid => None,
    }
}

fn by_prefix(overlay: &Overlay, table: usize, typed: &str) -> Result<Option<Key>, Fault> {
    let partial = typed.len() >= PREFIX_MIN
        && typed.len() <= 36
        && typed.char_indices().all(|(at, c)| if [8, 13, 18, 23].contains(&at) { c == '-' } else { c.is_ascii_hexdigit() });
    if !partial {
        return Ok(None);
    }
    let typed = typed.to_ascii_lowercase();
    let mut fitting = overlay.rows(table).filter(|u| u.to_string().starts_with(&typed));
    match (fitting.next(), fitting.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => Ok(Some((table, one))),
        (Some(a), Some(b)) => Err(Fault::say(format!(
            "{} contains 2 or more rows whose UUIDs begin with {typed}: at least {a} and {b}",
            overlay.table_schema(table).name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::from_text(ovsdb::schema::VSWITCH_SCHEMA).unwrap()
    }

    #[test]
    fn tables_and_columns_by_their_beginnings() {
        let schema = schema();
        let name = |typed| match table(&schema, typed) {
            Ok(t) => schema.tables[t].name.clone(),
            Err(e) => e.to_string(),
        };
        assert_eq!(name("b"), "Bridge");
        assert_eq!(name("open-vswitch"), "Open_vSwitch");
        assert_eq!(name("i"), "\"i\" matches multiple table names: IPFIX, Interface");
        assert_eq!(name("interx"), "unknown table \"interx\"");
        let bridge = schema.table_schema("Bridge").unwrap();
        let name = |typed| match column(bridge, typed) {
            Ok(c) => bridge.columns[c].name.clone(),
            Err(e) => e.to_string(),
        };
        assert_eq!(name("external-ids"), "external_ids");
        assert_eq!(
            name("d"),
            "Bridge contains more than one column whose name matches \"d\": datapath_id, datapath_type, datapath_version"
        );
        assert_eq!(name("x"), "Bridge does not contain a column whose name matches \"x\"");
    }

    #[test]
    fn arguments_come_apart() {
        let schema = schema();
        let bridge = schema.table_schema("Bridge").unwrap();
        let check = |text: &str, expect: &str| {
            let got = clause(bridge, text, &["=", "!=", "{>=}"]).map_or_else(
                |e| e.to_string(),
                |c| format!("{} {:?} {} {}", bridge.columns[c.column].name, c.key, c.operator, c.value),
            );
            assert_eq!(got, expect);
        };
        check("name=a=b", "name None = a=b");
        check("other_config:\"a:b\"!=c", "other_config Some(\"\\\"a:b\\\"\") != c");
        check("ports{>=}[]", "ports None {>=} []");
        check("=1", "=1: missing column name");
        check("name", "name: argument does not end in \"=\", \"!=\", or \"{>=}\" followed by a value.");
        check("name:\"x", "\"x: quoted string extends past end of argument");
    }
}
