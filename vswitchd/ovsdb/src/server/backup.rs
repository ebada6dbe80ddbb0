//! The backup of an active-backup pair (ovsdb-server(7), "Active-Backup Database Service Model"): a server that follows another, table by
//! table, and takes no writes of its own clients meanwhile.
//!
//! What enters: the active server's replies and updates. What leaves: commits to the databases that both serve. A connection that ends
//! is made anew and the copy begins from the start; an active server that cannot be followed (it is this one, or serves nothing that
//! fits) ends the backup's role, and this server is active itself.

use super::core::Core;
use super::{Admin, Shared};
use crate::client::link::{Link, LinkEvent};
use crate::datum::Datum;
use crate::db::{Row, Txn};
use crate::error::{Error, Result, Tag};
use crate::message::Message;
use crate::remote::Remote;
use crate::schema::{COL_FIRST, Schema};
use serde_json::{Value, json as object};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Silence after which the active server is probed, unless told otherwise.
pub const BACKUP_PROBE: Duration = Duration::from_secs(60);
/// First and longest pause before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Updates that came while a reply was awaited.
const QUEUE_MAX: usize = 100_000;

/// Tables that are not copied: (database, table).
type Excluded = BTreeSet<(String, String)>;

/// How far following has come.
#[derive(Clone, Debug, Default, PartialEq)]
enum Stage {
    /// Not a backup.
    #[default]
    Active,
    Away,
    Connecting,
    /// With the databases copied.
    Replicating(Vec<String>),
}

/// What is configured, and how it goes.
#[derive(Debug, Default)]
pub(super) struct Backup {
    source: Option<String>,
    excluded: Excluded,
    probe: Option<Duration>,
    stage: Stage,
    /// Numbers the attempts, so that one that was given up changes nothing.
    run: u64,
    task: Option<AbortHandle>,
}

impl Backup {
    fn status(&self) -> String {
        let source = self.source.as_deref().unwrap_or_default();
        let how = match &self.stage {
            Stage::Active => return "state: active\n".to_owned(),
            Stage::Away => format!("not connected to {source}"),
            Stage::Connecting => format!("connecting: {source}"),
            Stage::Replicating(databases) => {
                let mut text = format!("replicating: {source}\ndatabase: {}", databases.join(", "));
                if !self.excluded.is_empty() {
                    text += &format!("\nexclude: {}", print_excluded(&self.excluded));
                }
                text
            }
        };
        format!("state: backup\n{how}\n")
    }
}

fn print_excluded(excluded: &Excluded) -> String {
    excluded.iter().map(|(database, table)| format!("{database}:{table}")).collect::<Vec<_>>().join(",")
}

/// Parses `DATABASE:TABLE[,DATABASE:TABLE]...`. The error names the word that is none.
fn parse_excluded(text: &str) -> std::result::Result<Excluded, String> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    words
        .map(|word| match word.split_once(':') {
            Some((database, table)) if !table.is_empty() => Ok((database.to_owned(), table.to_owned())),
            _ => Err(format!("Can't parse excluded table: {word}")),
        })
        .collect()
}

impl Admin {
    /// Names the server to follow; one that is being followed stays so until [`Admin::follow_active`].
    pub fn set_active(&self, remote: &str) {
        self.0.backup().source = Some(remote.to_owned());
    }

    /// The server that is followed, or would be.
    #[must_use]
    pub fn active(&self) -> Option<String> {
        self.0.backup().source.clone()
    }

    /// Silence after which the active server is probed ([`BACKUP_PROBE`]), zero for never, from the next connection on.
    pub fn set_active_probe(&self, interval: Duration) {
        self.0.backup().probe = Some(interval);
    }

    /// Tables that a backup does not copy, as `DATABASE:TABLE[,DATABASE:TABLE]...`. The error is a text for the user.
    pub fn set_excluded(&self, text: &str) -> std::result::Result<(), String> {
        let excluded = parse_excluded(text)?;
        self.0.backup().excluded = excluded;
        if self.is_backup() { self.follow_active() } else { Ok(()) }
    }

    /// The same, sorted.
    #[must_use]
    pub fn excluded(&self) -> String {
        print_excluded(&self.0.backup().excluded)
    }

    /// Whether the server is a backup.
    #[must_use]
    pub fn is_backup(&self) -> bool {
        self.0.backup().stage != Stage::Active
    }

    /// How it stands with following (`ovsdb-server/sync-status`).
    #[must_use]
    pub fn sync_status(&self) -> String {
        self.0.backup().status()
    }

    /// Becomes a backup of the server named, or begins anew as one. Must be called within a tokio runtime. The error is a text for
    /// the user: nothing to follow is named, or it makes no sense.
    pub fn follow_active(&self) -> std::result::Result<(), String> {
        let shared = &self.0;
        let mut backup = shared.backup();
        let Some(source) = backup.source.clone() else {
            return Err("Unable to connect: active server is not specified.\n".to_owned());
        };
        let remote = Remote::parse(&source).map_err(|e| e.to_string())?;
        backup.task.take().inspect(AbortHandle::abort);
        backup.run += 1;
        backup.stage = Stage::Away;
        // Before the connection is made, which might lead here.
        shared.set_read_only(true);
        let link = Link::start(vec![remote], shared.tls.clone(), BACKOFF, backup.probe.unwrap_or(BACKUP_PROBE));
        let follower = Follower {
            shared: Arc::clone(shared),
            run: backup.run,
            excluded: backup.excluded.clone(),
            link,
            connection: 0,
            asked: 0,
            updates: VecDeque::new(),
        };
        backup.task = Some(tokio::spawn(follower.run()).abort_handle());
        Ok(())
    }

    /// Follows nobody any more: the server is active itself.
    pub fn leave_active(&self) {
        let mut backup = self.0.backup();
        backup.task.take().inspect(AbortHandle::abort);
        backup.run += 1;
        backup.stage = Stage::Active;
        self.0.set_read_only(false);
    }
}

impl Shared {
    fn backup(&self) -> MutexGuard<'_, Backup> {
        self.backup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients whose rights change have to come anew, as with OVS. Called under the backup's lock, so that the last word holds.
    fn set_read_only(&self, read_only: bool) {
        let mut core = self.core();
        if std::mem::replace(&mut core.read_only, read_only) != read_only {
            core.dismiss(|_, _| true);
        }
    }
}

/// Why a connection's copying ended.
enum End {
    /// The connection did; the next one begins anew.
    Lost,
    /// There is no point in another try.
    Failed(String),
}

/// The task that follows.
struct Follower {
    shared: Arc<Shared>,
    run: u64,
    excluded: Excluded,
    link: Link,
    connection: u64,
    asked: u64,
    updates: VecDeque<Vec<Value>>,
}

impl Follower {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            why = self.follow() => {
                tracing::warn!(target: "replication", "{why}");
                let mut backup = shared.backup();
                if backup.run == self.run {
                    backup.stage = Stage::Active;
                    shared.set_read_only(false);
                }
            }
            () = shared.stopped() => {}
        }
    }

    fn enter(&self, stage: Stage) {
        let mut backup = self.shared.backup();
        if backup.run == self.run {
            backup.stage = stage;
        }
    }

    /// Follows until there is no point in it; says why.
    async fn follow(&mut self) -> String {
        loop {
            if let LinkEvent::Up(connection) = self.link.next().await {
                self.connection = connection;
                self.updates.clear();
                self.enter(Stage::Connecting);
                match self.copy().await {
                    End::Lost => self.enter(Stage::Away),
                    End::Failed(why) => return why,
                }
            }
        }
    }

    async fn copy(&mut self) -> End {
        match self.begin().await {
            Ok(databases) => self.enter(Stage::Replicating(databases)),
            Err(end) => return end,
        }
        loop {
            let params = match self.updates.pop_front() {
                Some(params) => params,
                None => match self.link.next().await {
                    LinkEvent::Message(Message::Notification { method, params }) if method == "update" => params,
                    LinkEvent::Message(_) | LinkEvent::Up(_) => continue,
                    LinkEvent::Down(_) => return End::Lost,
                },
            };
            let [Value::String(database), updates] = params.as_slice() else {
                return End::Failed("update notification: [<db-name>, <table-updates>] expected".into());
            };
            if let Err(end) = self.apply(database, updates, false) {
                return end;
            }
        }
    }

    /// Finds out what can be copied, and copies its rows of now. Says which databases.
    async fn begin(&mut self) -> std::result::Result<Vec<String>, End> {
        let id = self.ask("get_server_id", vec![]).await?;
        if id.as_str() == Some(self.shared.core().server_id().to_string().as_str()) {
            return Err(End::Failed("Self replicating is not allowed".into()));
        }
        let theirs = self.ask("list_dbs", vec![]).await?;
        let theirs: BTreeSet<&str> = theirs.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ours = self.shared.core().database_names();
        let mut fitting = BTreeMap::new();
        for name in ours.into_iter().filter(|name| !name.starts_with('_') && theirs.contains(name.as_str())) {
            let schema = self.ask("get_schema", vec![name.clone().into()]).await?;
            let schema = Schema::from_json(&schema).map_err(|e| End::Failed(e.to_string()))?;
            if self.shared.core().can_take(&schema) {
                fitting.insert(name, schema);
            }
        }
        if fitting.is_empty() {
            return Err(End::Failed("Nothing to replicate.".into()));
        }
        for (name, schema) in &fitting {
            let tables = schema.tables.iter().map(|t| t.name.as_str()).filter(|t| !is_excluded(&self.excluded, name, t));
            let wanted: serde_json::Map<String, Value> = tables.map(|t| (t.to_owned(), object!({}))).collect();
            let rows = self.ask("monitor", vec![name.as_str().into(), name.as_str().into(), wanted.into()]).await?;
            tracing::info!(target: "replication", "Monitor request received. Resetting the database");
            self.apply(name, &rows, true)?;
        }
        Ok(fitting.into_keys().collect())
    }

    /// Asks and awaits the answer; updates that come before it wait.
    async fn ask(&mut self, method: &str, params: Vec<Value>) -> std::result::Result<Value, End> {
        self.asked += 1;
        let id = Value::from(self.asked);
        self.link.send(self.connection, &Message::Request { method: method.to_owned(), params, id: id.clone() });
        loop {
            match self.link.next().await {
                LinkEvent::Message(Message::Reply { id: got, result }) if got == id => return Ok(result),
                LinkEvent::Message(Message::Error { id: got, error }) if got == id => {
                    return Err(End::Failed(format!("{method} failed: {error}")));
                }
                LinkEvent::Message(Message::Notification { method, params }) if method == "update" => {
                    if self.updates.len() >= QUEUE_MAX {
                        return Err(End::Failed(format!("more than {QUEUE_MAX} updates before a reply")));
                    }
                    self.updates.push_back(params);
                }
                LinkEvent::Message(_) | LinkEvent::Up(_) => {}
                LinkEvent::Down(_) => return Err(End::Lost),
            }
        }
    }

    fn apply(&self, database: &str, updates: &Value, anew: bool) -> std::result::Result<(), End> {
        let effects = {
            let mut core = self.shared.core();
            let outcome = core.take_over(database, updates, anew.then_some(&self.excluded));
            outcome.map_err(|e| End::Failed(format!("{database}: {e}")))?;
            core.finish(Instant::now())
        };
        self.shared.perform(effects);
        Ok(())
    }
}

fn is_excluded(excluded: &Excluded, database: &str, table: &str) -> bool {
    excluded.iter().any(|(d, t)| d == database && t == table)
}

impl Core {
    /// Whether the database of that schema's name here has all of its tables and columns.
    fn can_take(&self, theirs: &Schema) -> bool {
        let Some(ours) = self.db_number(&theirs.name).map(|db| self.dbs[db].store.db().schema()) else { return false };
        let name = &theirs.name;
        let differs = ours.to_json() != theirs.to_json();
        if differs {
            tracing::info!(
                target: "replication",
                "Schema version mismatch, checking if {name} can still be replicated or not."
            );
        }
        let fault = theirs.tables.iter().find_map(|table| {
            let Some(own) = ours.table_schema(&table.name) else {
                return Some(format!("Table {} not present in the local db schema", table.name));
            };
            table.columns.iter().skip(COL_FIRST).find_map(|column| match own.column_schema(&column.name) {
                None => Some(format!("Column {} not present in the local db schema table {}.", column.name, table.name)),
                Some(c) if c.ty.to_json() != column.ty.to_json() => {
                    Some(format!("Column {} mismatch in local db schema table {}.", column.name, table.name))
                }
                Some(_) => None,
            })
        });
        if let Some(fault) = &fault {
            tracing::info!(target: "replication", "{fault}");
            tracing::info!(target: "replication", "{name} cannot be replicated.");
        } else if differs {
            tracing::info!(target: "replication", "{name} can be replicated.");
        }
        fault.is_none()
    }

    /// Makes rows those of the active server: `<table-updates>` of RFC 7047 section 4.1.6. With the tables that are not copied: all
    /// others are emptied first. [`Core::finish`] must follow.
    fn take_over(&mut self, database: &str, updates: &Value, anew: Option<&Excluded>) -> Result<()> {
        let Some(db) = self.db_number(database) else {
            return Err(Error::new(Tag::UnknownDatabase, "not served any more"));
        };
        let data = self.dbs[db].store.db();
        let schema = data.schema();
        let mut txn = Txn::new(data);
        if let Some(excluded) = anew {
            let copied = |t: &usize| !is_excluded(excluded, database, &schema.tables[*t].name);
            for t in (0..schema.tables.len()).filter(copied) {
                data.rows(t).for_each(|(uuid, _)| txn.delete(t, uuid));
            }
        }
        for (table, rows) in updates.as_object().into_iter().flatten() {
            let t = schema.table(table).ok_or_else(|| Error::syntax(updates, format!("no table {table}")))?;
            for (uuid, update) in rows.as_object().into_iter().flatten() {
                let uuid: Uuid = uuid.parse().map_err(|_| Error::syntax(rows, format!("{uuid} is no UUID")))?;
                take_row(&mut txn, t, uuid, update.get("new"))?;
            }
        }
        let commit = txn.prepare()?;
        self.commit(db, commit)
    }
}

fn take_row(txn: &mut Txn<'_>, t: usize, uuid: Uuid, new: Option<&Value>) -> Result<()> {
    let schema = Arc::clone(txn.database().schema());
    let table = &schema.tables[t];
    let Some(new) = new else {
        txn.delete(t, &uuid);
        return Ok(());
    };
    let mut fields = Vec::new();
    for (name, value) in new.as_object().into_iter().flatten() {
        let c = table.column(name).ok_or_else(|| Error::syntax(new, format!("no column {name} in table {}", table.name)))?;
        fields.push((c, Datum::from_json(&table.columns[c].ty, value, None)?));
    }
    if txn.row(t, &uuid).is_none() {
        txn.insert(t, Row::new(table, uuid));
    }
    if let Some(row) = txn.modify(t, &uuid) {
        fields.into_iter().for_each(|(c, datum)| row.fields[c] = datum);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test, to panic is to speak")]
mod tests {
    use super::*;

    #[test]
    fn excluded_tables() {
        let parsed = parse_excluded("mydb:b, mydb:a,other:x").unwrap();
        assert_eq!(print_excluded(&parsed), "mydb:a,mydb:b,other:x");
        assert_eq!(parse_excluded("").unwrap(), Excluded::new());
        for (text, word) in [("mydb", "mydb"), ("a:b,c", "c"), ("a:", "a:")] {
            assert_eq!(parse_excluded(text).unwrap_err(), format!("Can't parse excluded table: {word}"));
        }
    }

    #[test]
    fn status_texts() {
        let mut backup = Backup { source: Some("tcp:192.0.2.1:6640".into()), ..Backup::default() };
        assert_eq!(backup.status(), "state: active\n");
        backup.stage = Stage::Away;
        assert_eq!(backup.status(), "state: backup\nnot connected to tcp:192.0.2.1:6640\n");
        backup.stage = Stage::Connecting;
        assert_eq!(backup.status(), "state: backup\nconnecting: tcp:192.0.2.1:6640\n");
        backup.stage = Stage::Replicating(vec!["a".into(), "b".into()]);
        assert_eq!(backup.status(), "state: backup\nreplicating: tcp:192.0.2.1:6640\ndatabase: a, b\n");
        backup.excluded = parse_excluded("a:t").unwrap();
        assert_eq!(backup.status(), "state: backup\nreplicating: tcp:192.0.2.1:6640\ndatabase: a, b\nexclude: a:t\n");
    }
}
