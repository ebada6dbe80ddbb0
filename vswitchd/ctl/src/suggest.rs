//! What a mistyped name was probably meant to be.

use std::io::IsTerminal as _;

/// ` (did you mean 'X'?)` if one of the names is near enough to `typed`, else nothing. Only a person at a terminal is told: what goes to a
/// file or a pipe is compared with OVS's own words.
pub fn hint<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(typed, names) {
        Some(name) if std::io::stderr().is_terminal() => format!(" (did you mean '{name}'?)"),
        Some(_) | None => String::new(),
    }
}

/// The name with the fewest differing letters, if those are at most a third of the word.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count() / 3).clamp(1, 3);
    names
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

/// Letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_not() {
        let names = ["add-br", "add-port", "del-port", "show", "list"];
        for (typed, expect) in
            [("ad-br", Some("add-br")), ("shwo", Some("show")), ("addport", Some("add-port")), ("frobnicate", None), ("x", None)]
        {
            assert_eq!(nearest(typed, names), expect, "{typed}");
        }
    }
}
