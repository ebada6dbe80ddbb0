//! `show`: the configuration at a glance, as a tree.

use super::command::{Call, Wanted};
use super::context::Context;
use super::overlay::{Key, Overlay};
use crate::fault::Fault;
use ovsdb::Schema;

/// A table in the tree: its name, the column that names a row, the columns shown.
type Shown = (&'static str, &'static str, &'static [&'static str]);

const SHOWN: &[Shown] = &[
    ("Open_vSwitch", "", &["manager_options", "bridges", "ovs_version"]),
    ("Bridge", "name", &["controller", "fail_mode", "datapath_type", "ports"]),
    ("Port", "name", &["tag", "trunks", "interfaces"]),
    ("Interface", "name", &["type", "options", "error"]),
    ("Controller", "target", &["is_connected"]),
    ("Manager", "target", &["is_connected"]),
];

/// Reads what is shown.
pub(super) fn prepare(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    for (table, name, columns) in SHOWN {
        wanted.columns(table, columns);
        if !name.is_empty() {
            wanted.columns(table, &[name]);
        }
    }
    Ok(())
}

/// Shows each row of the first table.
pub(super) fn run(context: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    let mut text = String::new();
    for key in context.overlay.rows_of(SHOWN[0].0) {
        show(context.overlay, key, &SHOWN[0], 0, &mut text);
    }
    context.print(&text);
    Ok(())
}

fn show(overlay: &Overlay, key: Key, (table, name, columns): &Shown, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    let schema = overlay.table_schema(key.0);
    match schema.column(name) {
        Some(column) => {
            let name = overlay.read(key, column).to_text(&schema.columns[column].ty);
            text.push_str(&format!("{indent}{table} {name}\n"));
        }
        None => text.push_str(&format!("{indent}{}\n", key.1)),
    }
    for column in columns.iter().filter_map(|c| schema.column(c)) {
        let schema = overlay.column(key.0, column);
        let target = schema.ty.key.reference().map(|(target, _)| target.to_string());
        if let Some(below) = target.and_then(|t| SHOWN.iter().find(|(table, ..)| *table == t)) {
            for row in overlay.refs(key, &schema.name) {
                show(overlay, row, below, depth + 1, text);
            }
            continue;
        }
        let datum = overlay.read(key, column);
        if datum != schema.default {
            text.push_str(&format!("{indent}    {}: {}\n", schema.name, datum.to_text(&schema.ty)));
        }
    }
}
