//! What a server serves, kept where its successor finds it when a monitor starts it anew: control commands change it, the command line
//! does not know.

use crate::process::daemonize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

/// Whom the server follows, or would follow if told to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sync {
    pub(super) active: Option<String>,
    /// `DATABASE:TABLE,...`
    pub(super) excluded: String,
    pub(super) is_backup: bool,
}

/// The place; nowhere without a monitor.
#[derive(Debug)]
pub(super) struct State(Option<File>);

impl State {
    pub(super) fn open() -> Self {
        Self(daemonize::state())
    }

    /// Remotes, files and the pair's roles as the predecessor left them; nothing for the first.
    pub(super) fn read(&self) -> Option<(Vec<String>, Vec<PathBuf>, Sync)> {
        let mut file = self.0.as_ref()?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut text).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let texts = |name: &str| -> Option<Vec<String>> {
            Some(value.get(name)?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let sync = Sync {
            active: value["active"].as_str().map(str::to_owned),
            excluded: value["excluded"].as_str().unwrap_or_default().to_owned(),
            is_backup: value["backup"].as_bool().unwrap_or_default(),
        };
        Some((texts("remotes")?, texts("databases")?.into_iter().map(PathBuf::from).collect(), sync))
    }

    pub(super) fn write(&self, remotes: &[String], databases: &[PathBuf], sync: &Sync) {
        let Some(mut file) = self.0.as_ref() else { return };
        let Sync { active, excluded, is_backup } = sync;
        let text = json!({
            "remotes": remotes, "databases": databases, "active": active, "excluded": excluded, "backup": is_backup
        })
        .to_string();
        let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(target: "ovsdb_server", "what is served could not be noted for a restart: {error}");
        }
    }
}
