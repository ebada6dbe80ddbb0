//! docs/offload.md says of each fault of Open vSwitch's offload which test shows that it is none of ours. Those tests are there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

use std::fs;
use std::path::{Path, PathBuf};

/// What the table calls a room, and where its tests are.
const ROOMS: &[(&str, &str)] = &[
    ("plan", "offload/tests/plan.rs"),
    ("tier", "offload/tests/tiered.rs"),
    ("diff", "offload/tests/differential.rs"),
    ("conn", "offload/tests/connections.rs"),
    ("tc", "offload/tests/tc.rs"),
    ("bonds", "offload/tests/bonds.rs"),
    ("probe", "offload/tests/probe.rs"),
    ("meters", "offload/tests/meters.rs"),
    ("news", "offload/tests/news.rs"),
    ("slow", "vswitchd/daemon/tests/offloaded.rs"),
    ("tunnels", "offload/tests/tunnels.rs"),
    ("merge", "offload/src/merge/tests.rs"),
    ("daemon", "vswitchd/daemon/src/offload/ports.rs"),
    ("functions", "vswitchd/daemon/src/offload/functions.rs"),
    ("mirrors", "vswitchd/daemon/tests/mirrors_offloaded.rs"),
    ("kernel", "offload/tests/kernel.rs"),
    ("product", "tests/offload/product.sh"),
    ("tunnel", "tests/offload/tunnels.sh"),
    ("bond", "tests/offload/bonds.sh"),
];
const FAULTS: usize = 38;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The tests of `room: NAMES; room: NAMES`: those in backquotes are functions, those in quotes lines that a program says.
fn check(cell: &str) -> usize {
    let mut tests = 0;
    for part in cell.split("; ") {
        let (room, names) = part.trim().split_once(": ").unwrap_or_else(|| panic!("{part}: no room"));
        let path = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room}: no such room")).1;
        let source = text(path);
        let quoted = names.contains('"');
        for name in names.split(if quoted { '"' } else { '`' }).skip(1).step_by(2) {
            let there = if quoted {
                source.contains(&format!("\"{name}\""))
            } else {
                let function = format!("fn {name}() {{");
                source.lines().zip(source.lines().skip(1)).any(|(a, b)| a.trim() == "#[test]" && b.trim() == function)
            };
            assert!(there, "{path} has no test {name}");
            tests += 1;
        }
    }
    tests
}

#[test]
fn every_fault_has_its_tests() {
    let doc = text("docs/offload.md");
    let rows = doc.lines().filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit());
    let mut numbers = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, fault, ours, shown] = cells[..] else { panic!("{row}") };
        assert!(!fault.is_empty() && !ours.is_empty() && check(shown) > 0, "{row}");
        numbers.push(number.parse::<usize>().unwrap());
    }
    assert_eq!(numbers, (1..=FAULTS).collect::<Vec<_>>());
}

/// Other tests that the text names in brackets, `(room: ...)`.
#[test]
fn tests_named_elsewhere_are_there() {
    let doc = text("docs/offload.md");
    let mut tests = 0;
    for part in doc.split('(').skip(1).filter_map(|p| p.split_once(')')).map(|(inside, _)| inside) {
        if part.split_once(": ").is_some_and(|(room, rest)| ROOMS.iter().any(|(n, _)| *n == room) && rest.starts_with('`')) {
            tests += check(part);
        }
    }
    assert!(tests >= 6, "{tests}");
}
