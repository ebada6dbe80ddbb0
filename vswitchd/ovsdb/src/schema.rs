//! Database schemas (RFC 7047 section 3.2): parsed, checked, printed.
//!
//! Tables and columns are numbered when a schema is parsed; rows, conditions and monitors carry those numbers. Columns 0
//! and 1 of every table are `_uuid` and `_version`; the others follow in order of name, so that two parses of one text
//! give the same numbers.

use crate::atom::AtomicType;
use crate::datum::Datum;
use crate::error::{Error, Result};
use crate::hash::Map;
use crate::json;
use crate::parser::{Kind, Parser};
use crate::types::{BaseType, RefType, Type, UNLIMITED};
use serde_json::Value;

/// The Open_vSwitch schema that this switch serves (version 8.8.0).
pub const VSWITCH_SCHEMA: &str = include_str!("../schema/vswitch.ovsschema");
/// The schema of the `_Server` database.
pub const SERVER_SCHEMA: &str = include_str!("../schema/_server.ovsschema");

/// Position of `_uuid` in every table.
pub const COL_UUID: usize = 0;
/// Position of `_version` in every table.
pub const COL_VERSION: usize = 1;
/// Position of the first column of the schema's own.
pub const COL_FIRST: usize = 2;

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub ty: Type,
    /// Not written to the journal.
    pub ephemeral: bool,
    /// May change after the row's insertion.
    pub mutable: bool,
    /// What a new row has in it.
    pub default: Datum,
}

/// One table.
#[derive(Clone, Debug)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    /// Columns; see [`COL_FIRST`].
    pub columns: Vec<ColumnSchema>,
    /// Most rows; [`UNLIMITED`].
    pub max_rows: u32,
    /// Rows live without being referenced.
    pub is_root: bool,
    /// Sets of columns whose values must differ between rows.
    pub indexes: Vec<Vec<usize>>,
    mutable: bool,
    root_declared: bool,
    by_name: Map<String, usize>,
}

/// One database's schema.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Name of the database.
    pub name: String,
    /// `x.y.z`, or empty in very old schemas.
    pub version: String,
    /// Checksum given by the schema's author.
    pub cksum: String,
    /// Tables in order of name.
    pub tables: Vec<TableSchema>,
    by_name: Map<String, usize>,
}

impl TableSchema {
    /// The number of the column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The schema of the column called `name`.
    #[must_use]
    pub fn column_schema(&self, name: &str) -> Option<&ColumnSchema> {
        self.column(name).and_then(|i| self.columns.get(i))
    }

    fn from_json(name: &str, json: &Value) -> Result<Self> {
        let mut p = Parser::new(json, format!("table schema for table {name}"));
        let columns_json = p.member("columns", &[Kind::Object]);
        let mutable = p.optional("mutable", &[Kind::Bool]).and_then(Value::as_bool).unwrap_or(true);
        let max_rows = p.optional("maxRows", &[Kind::Integer]).and_then(json::integer);
        let is_root = p.optional("isRoot", &[Kind::Bool]).and_then(Value::as_bool).unwrap_or(false);
        let indexes_json = p.optional("indexes", &[Kind::Array]).and_then(Value::as_array);
        p.finish()?;
        let max_rows = match max_rows {
            None => UNLIMITED,
            Some(n) if n >= 1 => u32::try_from(n).unwrap_or(UNLIMITED),
            Some(_) => return Err(Error::syntax(json, "maxRows must be at least 1")),
        };
        let columns_json = columns_json.and_then(Value::as_object);
        let Some(columns_json) = columns_json.filter(|c| !c.is_empty()) else {
            return Err(Error::syntax(json, "table must have at least one column"));
        };
        let mut columns = vec![implicit_column("_uuid", false), implicit_column("_version", true)];
        let mut sorted: Vec<_> = columns_json.iter().collect();
        sorted.sort_by_key(|(name, _)| name.as_str());
        for (column_name, column_json) in sorted {
            check_name(column_name, json)?;
            columns.push(column_from_json(column_name, column_json, mutable)?);
        }
        let by_name = columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        let mut table = Self {
            name: name.to_owned(),
            columns,
            max_rows,
            is_root,
            indexes: Vec::new(),
            mutable,
            root_declared: is_root,
            by_name,
        };
        for index in indexes_json.into_iter().flatten() {
            table.indexes.push(table.index_from_json(index, json)?);
        }
        Ok(table)
    }

    fn index_from_json(&self, index: &Value, json: &Value) -> Result<Vec<usize>> {
        let columns = self.column_set_from_json(index)?;
        if columns.is_empty() {
            return Err(Error::syntax(json, "index must have at least one column"));
        }
        if let Some(column) = columns.iter().map(|i| &self.columns[*i]).find(|c| c.ephemeral) {
            let text = format!("ephemeral columns (such as {}) may not be indexed", column.name);
            return Err(Error::syntax(json, text));
        }
        Ok(columns)
    }

    /// Parses an array of distinct column names into numbers.
    pub fn column_set_from_json(&self, json: &Value) -> Result<Vec<usize>> {
        let distinct = || Error::syntax(json, "array of distinct column names expected");
        let mut columns = Vec::new();
        for name in json.as_array().ok_or_else(distinct)? {
            let name = name.as_str().ok_or_else(distinct)?;
            let column = self.column(name).ok_or_else(|| Error::syntax(json, format!("{name} is not a valid column name")))?;
            if columns.contains(&column) {
                return Err(distinct());
            }
            columns.push(column);
        }
        Ok(columns)
    }

    fn to_json(&self, default_is_root: bool) -> Value {
        let mut object = serde_json::Map::new();
        if !self.mutable {
            object.insert("mutable".into(), false.into());
        }
        let columns = self.columns.iter().skip(COL_FIRST);
        let columns = columns.map(|c| (c.name.clone(), column_to_json(c, self.mutable))).collect();
        object.insert("columns".into(), Value::Object(columns));
        if self.max_rows != UNLIMITED {
            object.insert("maxRows".into(), self.max_rows.into());
        }
        if self.root_declared != default_is_root {
            object.insert("isRoot".into(), self.root_declared.into());
        }
        if !self.indexes.is_empty() {
            let name = |i: &usize| Value::from(self.columns[*i].name.as_str());
            let indexes = self.indexes.iter().map(|index| Value::Array(index.iter().map(name).collect())).collect();
            object.insert("indexes".into(), Value::Array(indexes));
        }
        Value::Object(object)
    }
}

fn implicit_column(name: &str, ephemeral: bool) -> ColumnSchema {
    let ty = Type::from(AtomicType::Uuid);
    let default = ty.default_datum();
    ColumnSchema { name: name.to_owned(), ty, ephemeral, mutable: false, default }
}

fn check_name(name: &str, json: &Value) -> Result<()> {
    if name.starts_with('_') {
        Err(Error::syntax(json, "names beginning with \"_\" are reserved"))
    } else if json::is_id(name) {
        Ok(())
    } else {
        Err(Error::syntax(json, "name must be a valid id"))
    }
}

fn column_from_json(name: &str, json: &Value, table_mutable: bool) -> Result<ColumnSchema> {
    let mut p = Parser::new(json, format!("schema for column {name}"));
    let mutable = p.optional("mutable", &[Kind::Bool]).and_then(Value::as_bool).unwrap_or(true);
    let ephemeral = p.optional("ephemeral", &[Kind::Bool]).and_then(Value::as_bool).unwrap_or(false);
    let ty = p.member("type", &[Kind::Str, Kind::Object]);
    p.finish()?;
    let ty = Type::from_json(ty.ok_or_else(|| Error::syntax(json, "ovsdb type expected"))?)?;
    let default = ty.default_datum();
    // A weak reference must be able to vanish, whatever the schema says.
    let weak = references(&ty).any(|(_, _, kind)| kind == RefType::Weak);
    Ok(ColumnSchema { name: name.to_owned(), ty, ephemeral, mutable: (mutable && table_mutable) || weak, default })
}

fn column_to_json(column: &ColumnSchema, table_mutable: bool) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("type".into(), column.ty.to_json());
    if !column.mutable && table_mutable {
        object.insert("mutable".into(), false.into());
    }
    if column.ephemeral {
        object.insert("ephemeral".into(), true.into());
    }
    Value::Object(object)
}

/// The references in a type: which half (`"key"`, `"value"`), to which table, of which kind.
fn references(ty: &Type) -> impl Iterator<Item = (&'static str, &str, RefType)> {
    let halves: [(&'static str, Option<&BaseType>); 2] = [("key", Some(&ty.key)), ("value", ty.value.as_ref())];
    halves.into_iter().filter_map(|(half, base)| base?.reference().map(|(table, kind)| (half, &**table, kind)))
}

impl Schema {
    /// Parses the text of a schema file.
    pub fn from_text(text: &str) -> Result<Self> {
        let json = serde_json::from_str(text)
            .map_err(|e| Error::new(crate::Tag::OvsdbError, format!("failed to read schema: could not be read as JSON ({e})")))?;
        Self::from_json(&json)
    }

    /// Parses `<database-schema>`.
    pub fn from_json(json: &Value) -> Result<Self> {
        let mut p = Parser::new(json, "database schema");
        let name = p.member("name", &[Kind::Id]).and_then(Value::as_str);
        let version = p.optional("version", &[Kind::Str]).and_then(Value::as_str).unwrap_or("");
        let cksum = p.optional("cksum", &[Kind::Str]).and_then(Value::as_str).unwrap_or("");
        let tables_json = p.member("tables", &[Kind::Object]).and_then(Value::as_object);
        // OVS tools also write this member into schemas that they pass around.
        let _ = p.optional("clustered", &[Kind::Bool]);
        p.finish()?;
        if !version.is_empty() && !is_version(version) {
            return Err(Error::syntax(json, format!("schema version \"{version}\" not in format x.y.z")));
        }
        let mut sorted: Vec<_> = tables_json.into_iter().flatten().collect();
        sorted.sort_by_key(|(name, _)| name.as_str());
        let mut tables = Vec::with_capacity(sorted.len());
        for (table_name, table_json) in sorted {
            check_name(table_name, json)?;
            tables.push(TableSchema::from_json(table_name, table_json)?);
        }
        let by_name = tables.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let name = name.unwrap_or_default().to_owned();
        let mut schema = Self { name, version: version.to_owned(), cksum: cksum.to_owned(), tables, by_name };
        schema.check_references()?;
        schema.settle();
        Ok(schema)
    }

    fn check_references(&self) -> Result<()> {
        for column in self.tables.iter().flat_map(|t| &t.columns) {
            for (half, table, _) in references(&column.ty) {
                if self.table(table).is_none() {
                    let text = format!("column {} {half} refers to undefined table {table}", column.name);
                    return Err(Error::new(crate::Tag::Syntax, text));
                }
            }
        }
        Ok(())
    }

    /// Applies the rules that need the whole schema: with no root table declared all are roots; a strong reference to
    /// a table that is not a root must be persistent, or garbage collection would depend on what a restart forgets.
    fn settle(&mut self) {
        if !self.tables.iter().any(|t| t.root_declared) {
            self.tables.iter_mut().for_each(|t| t.is_root = true);
        }
        let declared: Map<String, bool> = self.tables.iter().map(|t| (t.name.clone(), t.root_declared)).collect();
        for column in self.tables.iter_mut().flat_map(|t| &mut t.columns) {
            let pins =
                references(&column.ty).any(|(_, table, kind)| kind == RefType::Strong && declared.get(table) == Some(&false));
            if column.ephemeral && pins {
                column.ephemeral = false;
            }
        }
    }

    /// The number of the table called `name`.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The schema of the table called `name`.
    #[must_use]
    pub fn table_schema(&self, name: &str) -> Option<&TableSchema> {
        self.table(name).and_then(|i| self.tables.get(i))
    }

    /// `<database-schema>`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let default_is_root = !self.tables.iter().any(|t| t.root_declared);
        let mut object = serde_json::Map::new();
        object.insert("name".into(), self.name.as_str().into());
        if !self.version.is_empty() {
            object.insert("version".into(), self.version.as_str().into());
        }
        if !self.cksum.is_empty() {
            object.insert("cksum".into(), self.cksum.as_str().into());
        }
        // Without a declared root the member is absent, which is what its absence means.
        let tables = self.tables.iter().map(|t| (t.name.clone(), t.to_json(default_is_root && t.root_declared)));
        object.insert("tables".into(), Value::Object(tables.collect()));
        Value::Object(object)
    }
}

fn is_version(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    parts.len() == 3 && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let got = match Schema::from_text(text) {
            Ok(schema) => json::to_sorted(&schema.to_json()),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn embedded_schemas_are_sound() {
        let schema = Schema::from_text(VSWITCH_SCHEMA).unwrap();
        assert_eq!((schema.name.as_str(), schema.version.as_str()), ("Open_vSwitch", "8.8.0"));
        assert_eq!(schema.tables.len(), 19);
        assert_eq!(schema.tables.iter().map(|t| t.columns.len() - COL_FIRST).sum::<usize>(), 190);
        let again = Schema::from_json(&schema.to_json()).unwrap();
        assert_eq!(schema.to_json(), again.to_json());
        assert!(!schema.table_schema("Bridge").unwrap().is_root);
        assert!(schema.table_schema("QoS").unwrap().is_root);
        assert_eq!(Schema::from_text(SERVER_SCHEMA).unwrap().name, "_Server");
    }

    /// OVS's ovsdb-schema.at and ovsdb-table.at.
    #[test]
    fn schemas_read_and_print_as_in_ovs() {
        let column = r#"{"type":"integer"}"#;
        check(
            r#"{"name":"d","version":"4.2.1","tables":{"a":{"columns":{"x":{"type":{"key":{"type":"uuid","refTable":"b"}},"ephemeral":true},"y":{"type":{"key":{"type":"uuid","refTable":"a"}},"ephemeral":true}}},"b":{"columns":{"z":{"type":"integer"}},"isRoot":true}}}"#,
            r#"{"name":"d","tables":{"a":{"columns":{"x":{"ephemeral":true,"type":{"key":{"refTable":"b","type":"uuid"}}},"y":{"type":{"key":{"refTable":"a","type":"uuid"}}}}},"b":{"columns":{"z":{"type":"integer"}},"isRoot":true}},"version":"4.2.1"}"#,
        );
        check(
            &format!(r#"{{"name":"d","version":"xxx","tables":{{"a":{{"columns":{{"x":{column}}}}}}}}}"#),
            &format!(
                r#"syntax "{{"name":"d","tables":{{"a":{{"columns":{{"x":{column}}}}}}},"version":"xxx"}}": syntax error: schema version "xxx" not in format x.y.z"#
            ),
        );
        check(
            r#"{"name":"d","tables":{"a":{"columns":{"m":{"type":{"key":{"type":"uuid","refTable":"c"}}}}}}}"#,
            "syntax error: column m key refers to undefined table c",
        );
        check(
            r#"{"name":"d","tables":{"a":{"columns":{"n":{"type":"string"}},"maxRows":0}}}"#,
            r#"syntax "{"columns":{"n":{"type":"string"}},"maxRows":0}": syntax error: maxRows must be at least 1"#,
        );
    }
}
