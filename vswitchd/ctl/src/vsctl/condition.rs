//! Conditions of `find` and `wait-until`: `COLUMN[:KEY] OPERATOR VALUE`.

use super::names::{self, Symbols};
use super::overlay::{Key, Overlay};
use crate::fault::Fault;
use ovsdb::types::UNLIMITED;
use ovsdb::{Datum, Type};
use std::cmp::Ordering;

/// Operators; those in braces compare sets.
pub(super) const OPERATORS: &[&str] =
    &["=", "!=", "<", ">", "<=", ">=", "{=}", "{!=}", "{<}", "{>}", "{<=}", "{>=}", "{in}", "{not-in}"];

/// Whether the row fulfils the condition.
///
/// # Errors
/// The condition makes no sense for the table.
pub(super) fn holds(overlay: &Overlay, symbols: &mut Symbols, row: Key, text: &str) -> Result<bool, Fault> {
    let clause = names::clause(overlay.table_schema(row.0), text, OPERATORS)?;
    let schema = overlay.column(row.0, clause.column);
    let held = overlay.read(row, clause.column);
    let many = Type { min: 0, max: UNLIMITED, ..schema.ty.clone() };
    let Some(key) = &clause.key else {
        let ty = Type { min: schema.ty.min, ..many };
        let wanted = names::datum(&ty, clause.value, symbols)?;
        return Ok(compare(&held, &wanted, clause.operator));
    };
    let Some(value_type) = &schema.ty.value else {
        return Err(Fault::say(format!("cannot specify key to check for non-map column {}", schema.name)));
    };
    let key = names::atom(&schema.ty.key, key, symbols)?;
    let values = Type { key: value_type.clone(), value: None, min: schema.ty.min, max: UNLIMITED };
    let wanted = names::datum(&values, clause.value, symbols)?;
    match held.value_of(&key) {
        Some(value) => Ok(compare(&Datum::from(value.clone()), &wanted, clause.operator)),
        // A key that is not there compares as the empty set, which only set operators speak about.
        None => Ok(clause.operator.starts_with('{') && compare(&Datum::empty_set(), &wanted, clause.operator)),
    }
}

/// Whether `a OPERATOR b`.
fn compare(a: &Datum, b: &Datum, operator: &str) -> bool {
    // Of two datums the one with fewer members is the lesser.
    let order = || a.len().cmp(&b.len()).then_with(|| a.compare(b));
    match operator {
        "=" | "{=}" => a == b,
        "!=" | "{!=}" => a != b,
        "<" => order() == Ordering::Less,
        ">" => order() == Ordering::Greater,
        "<=" => order() != Ordering::Greater,
        ">=" => order() != Ordering::Less,
        "{<}" => a != b && b.includes(a),
        "{>}" => a != b && a.includes(b),
        "{<=}" | "{in}" => b.includes(a),
        "{>=}" => a.includes(b),
        "{not-in}" => a.excludes(b),
        _ => false,
    }
}
