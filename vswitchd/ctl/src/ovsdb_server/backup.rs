//! Whose backup a server is to be, in the words of its options and control commands (ovsdb-server(1), "Active-backup").

use ovsdb::server::{BackupOf, BackupState};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

/// Shorter probe intervals are refused.
pub(super) const PROBE_MIN_MS: u64 = 1_000;

/// What is wished for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The active server.
    pub(super) remote: Option<String>,
    /// Tables that are not copied: database and name.
    pub(super) exclude: BTreeSet<(String, String)>,
    pub(super) probe_ms: Option<u64>,
    /// To be its backup now.
    pub(super) backup: bool,
}

impl Wish {
    /// What the server is to do; nothing if it is to be active.
    pub(super) fn wanted(&self) -> Option<BackupOf> {
        let remote = self.remote.clone().filter(|_| self.backup)?;
        Some(BackupOf { remote, exclude: self.exclude.clone(), probe: self.probe_ms.map(Duration::from_millis) })
    }
}

/// `DB:TABLE,DB:TABLE`; "" for none.
///
/// # Errors
/// A text for the user: an element lacks one of its halves.
pub(super) fn parse_excluded(text: &str) -> Result<BTreeSet<(String, String)>, String> {
    let element = |word: &str| match word.split_once(':') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok((database.to_owned(), table.to_owned())),
        Some(_) | None => Err(format!("{word}: expected DATABASE:TABLE")),
    };
    text.split([',', ' ']).filter(|word| !word.is_empty()).map(element).collect()
}

pub(super) fn excluded_text(exclude: &BTreeSet<(String, String)>) -> String {
    exclude.iter().map(|(database, table)| format!("{database}:{table}")).collect::<Vec<_>>().join(",")
}

/// What `sync-status` says.
pub(super) fn status(state: &BackupState, wish: &Wish) -> String {
    let remote = wish.remote.as_deref().unwrap_or_default();
    match state {
        BackupState::Active => "state: active\n".to_owned(),
        BackupState::Connecting => format!("state: backup\nconnecting: {remote}\n"),
        BackupState::Following(databases) => {
            let mut text = format!("state: backup\nreplicating: {remote}\ndatabase: {}\n", databases.join(", "));
            if !wish.exclude.is_empty() {
                let _ = writeln!(text, "exclude: {}", excluded_text(&wish.exclude));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_tables_read_and_print() {
        assert_eq!(excluded_text(&parse_excluded("mydb:b,mydb:a, x:y").unwrap()), "mydb:a,mydb:b,x:y");
        assert_eq!(parse_excluded("").unwrap(), BTreeSet::new());
        assert_eq!(parse_excluded("mydb").unwrap_err(), "mydb: expected DATABASE:TABLE");
        assert!(parse_excluded(":x").is_err() && parse_excluded("x:").is_err());
    }

    #[test]
    fn a_server_is_a_backup_only_of_somebody_and_when_told() {
        let mut wish = Wish { backup: true, ..Wish::default() };
        assert_eq!(wish.wanted(), None);
        wish.remote = Some("unix:x".into());
        assert_eq!(wish.wanted().unwrap().remote, "unix:x");
        assert_eq!(
            status(&BackupState::Following(vec!["a".into(), "b".into()]), &wish),
            "state: backup\nreplicating: unix:x\ndatabase: a, b\n"
        );
        assert_eq!(status(&BackupState::Active, &wish), "state: active\n");
        wish.backup = false;
        assert_eq!(wish.wanted(), None);
    }
}
