//! What a server serves, kept where its successor finds it when a monitor starts it anew: control commands change it, the command line
//! does not know.

use super::backup::{self, Wish};
use crate::process::daemonize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

/// What a server serves, and whose backup it is.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) remotes: Vec<String>,
    pub(super) databases: Vec<PathBuf>,
    pub(super) wish: Wish,
}

/// The place; nowhere without a monitor.
#[derive(Debug)]
pub(super) struct State(Option<File>);

impl State {
    pub(super) fn open() -> Self {
        Self(daemonize::state())
    }

    /// As the predecessor left it; nothing for the first.
    pub(super) fn read(&self) -> Option<Kept> {
        let mut file = self.0.as_ref()?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut text).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let texts = |name: &str| -> Option<Vec<String>> {
            Some(value.get(name)?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let wish = Wish {
            remote: value.get("sync_from").and_then(Value::as_str).map(str::to_owned),
            exclude: backup::parse_excluded(value.get("sync_exclude")?.as_str()?).ok()?,
            probe_ms: value.get("sync_probe_ms").and_then(Value::as_u64),
            backup: value.get("is_backup")?.as_bool()?,
        };
        Some(Kept { remotes: texts("remotes")?, databases: texts("databases")?.into_iter().map(PathBuf::from).collect(), wish })
    }

    pub(super) fn write(&self, kept: &Kept) {
        let Some(mut file) = self.0.as_ref() else { return };
        let Kept { remotes, databases, wish } = kept;
        let text = json!({
            "remotes": remotes, "databases": databases, "sync_from": wish.remote, "sync_exclude": backup::excluded_text(&wish.exclude),
            "sync_probe_ms": wish.probe_ms, "is_backup": wish.backup
        })
        .to_string();
        let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(target: "ovsdb_server", "what is served could not be noted for a restart: {error}");
        }
    }
}
