//! What a run shows: a table on standard output and `target/bench/latest.json`.

use crate::BenchError;
use crate::measure::Row;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The table's head.
#[must_use]
pub fn head() -> String {
    format!(
        "{:<22} {:>8} {:>6} {:>9} {:>9} {:>7} {:>9} {:>7}  {:<15} {}",
        "scenario", "flows", "masks", "rate", "cycles", "limit", "peer", "ratio", "(least, most)", "unit; notes"
    )
}

/// A row of it.
#[must_use]
pub fn line(row: &Row) -> String {
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
    let fine = |value: Option<f64>| number(value, if value.is_some_and(|v| v < 10.0) { 3 } else { 1 });
    let spread = row.spread.map_or_else(String::new, |(low, high)| format!("({low:.2}, {high:.2})"));
    let mut text = format!(
        "{:<22} {:>8} {:>6} {:>9} {:>9} {:>7} {:>9} {:>7}  {:<15} {}",
        row.scenario,
        row.flows,
        row.masks.map_or_else(|| "-".to_owned(), |m| m.to_string()),
        fine(row.mpps),
        number(row.cycles, 1),
        fine(row.limit),
        fine(row.peer),
        number(row.ratio, 2),
        spread,
        row.unit,
    );
    if !row.note.is_empty() {
        let _ = write!(text, "; {}", row.note);
    }
    let text = text.trim_end().to_owned();
    if row.stages.is_empty() {
        return text;
    }
    let stages: Vec<_> = row.stages.iter().map(|(name, cycles)| format!("{name} {cycles:.1}")).collect();
    format!("{text}\n{:<22} cycles per packet by stage: {}", "", stages.join(", "))
}

/// A row as an object of latest.json.
#[must_use]
pub fn object(row: &Row) -> Value {
    json!({
        "scenario": row.scenario,
        "flows": row.flows,
        "masks": row.masks,
        "mpps": row.mpps,
        "cycles_per_packet": row.cycles,
        "limit_mpps": row.limit,
        "peer_mpps": row.peer,
        "ratio": row.ratio,
        "peer_cycles_per_packet": row.peer_cycles,
        "ratio_least": row.spread.map(|s| s.0),
        "ratio_most": row.spread.map(|s| s.1),
        "unit": row.unit,
        "stages": row.stages,
        "note": row.note,
    })
}

/// Writes all rows so far.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), BenchError> {
    let fault = || BenchError::io(path.display().to_string());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fault())?;
    }
    let text = serde_json::to_string_pretty(&rows.iter().map(object).collect::<Vec<_>>()).expect("plain values have a text");
    fs::write(path, text + "\n").map_err(fault())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Size;

    #[test]
    fn what_was_not_measured_is_null() {
        let row = Row { mpps: Some(31.25), ..Row::new("flows", Size { flows: 4, masks: 1 }) };
        let object = object(&row);
        assert_eq!(object["mpps"], 31.25);
        for name in ["masks", "cycles_per_packet", "limit_mpps", "peer_mpps", "ratio"] {
            assert!(object[name].is_null() && object.as_object().is_some_and(|o| o.contains_key(name)), "{name}");
        }
        assert!(line(&row).contains("31.2"));
    }
}
