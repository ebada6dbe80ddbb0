//! Active and backup (ovsdb-server(7), "Active-Backup Database Service Model"): while a server is the backup of another, the active one, it
//! holds what that one holds, row for row, and its own clients may only read.
//!
//! What enters: the active server's remote, the tables that are not to be copied, and that server's contents and updates. What leaves:
//! commits like any other, so that clients of the backup are told. The first contents replace what was there in one commit: nobody
//! sees an empty database. Neighbours: [`Admin`], which begins and ends it; the core, which refuses writes meanwhile.

use super::core::{Core, SERVER_DB};
use super::{Admin, Shared};
use crate::atom::parse_uuid;
use crate::client::ClientError;
use crate::client::rpc::RpcClient;
use crate::datum::Datum;
use crate::db::{Row, Txn};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::schema::{COL_FIRST, COL_VERSION, Schema, TableSchema};
use serde_json::{Map as Object, Value};
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// Pause before the active server is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Silence after which the active server is probed, unless told otherwise; after as much again it counts as gone.
const PROBE: Duration = Duration::from_secs(60);

/// A table of a database.
type Place = (String, String);

/// Whose backup to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupOf {
    /// The active server: `unix:`, `tcp:` or `ssl:`.
    pub remote: String,
    /// Tables that are not copied: database and name.
    pub exclude: BTreeSet<Place>,
    /// Silence after which the active server is probed; `None` for a minute, zero for never.
    pub probe: Option<Duration>,
}

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackupState {
    /// The server is active itself.
    #[default]
    Active,
    /// The active server is sought.
    Connecting,
    /// Databases of these names follow it.
    Following(Vec<String>),
}

/// The task, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Backup {
    task: Option<JoinHandle<()>>,
    state: BackupState,
}

/// Why copying ended.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// It may go better next time.
    #[error("{0}")]
    Lost(#[from] ClientError),
    #[error("{0}")]
    Refused(#[from] Error),
    #[error("no response to inactivity probe")]
    Silent,
    /// It will not.
    #[error("Self replicating is not allowed")]
    Itself,
    #[error("no database can be replicated")]
    Nothing,
}

impl Admin {
    /// Makes the server the backup of another; of another than before if it is one already.
    pub fn start_backup(&self, of: BackupOf) {
        let shared = &self.0;
        let mut backup = shared.backup();
        if let Some(task) = backup.task.take() {
            task.abort();
        }
        shared.core().backup = true;
        backup.state = BackupState::Connecting;
        backup.task = Some(tokio::spawn(follow(Arc::downgrade(shared), of)));
    }

    /// Makes the server active.
    pub fn stop_backup(&self) {
        self.0.end_backup();
    }

    /// How far the backup is.
    #[must_use]
    pub fn backup_state(&self) -> BackupState {
        self.0.backup().state.clone()
    }
}

impl Shared {
    fn backup(&self) -> MutexGuard<'_, Backup> {
        self.backup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the copying, if there is any.
    pub(super) fn end_backup(&self) {
        let mut backup = self.backup();
        if let Some(task) = backup.task.take() {
            task.abort();
        }
        backup.state = BackupState::Active;
        self.core().backup = false;
    }
}

/// Copies the active server until nobody wants that or it cannot be. The server itself must be able to end meanwhile.
async fn follow(server: std::sync::Weak<Shared>, of: BackupOf) {
    loop {
        let Some(shared) = server.upgrade() else { return };
        let outcome = tokio::select! {
            outcome = copy(&shared, &of) => outcome,
            () = shared.stopped() => return,
        };
        let Err(stop) = outcome else { return };
        match stop {
            Stop::Lost(_) | Stop::Silent => {
                tracing::info!(target: "replication", rl = 6, burst = 6, "{}: {stop}", of.remote);
            }
            Stop::Refused(_) => tracing::warn!(target: "replication", "{}: {stop}", of.remote),
            Stop::Itself | Stop::Nothing => {
                tracing::error!(target: "replication", "{stop}");
                // The task ends itself by returning.
                shared.backup().task = None;
                shared.end_backup();
                return;
            }
        }
        shared.backup().state = BackupState::Connecting;
        drop(shared);
        sleep(PAUSE).await;
    }
}

/// Never returns without a reason.
async fn copy(shared: &Arc<Shared>, of: &BackupOf) -> std::result::Result<(), Stop> {
    let mut client = RpcClient::connect_with(&of.remote, &shared.tls).await?;
    let id = client.request("get_server_id", Vec::new()).await?;
    if id.as_str() == Some(shared.core().server_id().to_string().as_str()) {
        return Err(Stop::Itself);
    }
    let offered = client.list_dbs().await?;
    let mut following = Vec::new();
    let names = shared.core().database_names();
    for name in names {
        if name.starts_with('_') || !offered.contains(&name) {
            continue;
        }
        let remote = client.schema(&name).await?;
        let Some(requests) = requests(&shared.core(), &remote, &of.exclude) else { continue };
        let params = vec![name.clone().into(), name.clone().into(), Value::Object(requests.clone())];
        let contents = client.request("monitor", params).await?;
        apply(shared, &name, &contents, Some(&requests))?;
        following.push(name);
    }
    if following.is_empty() {
        return Err(Stop::Nothing);
    }
    shared.backup().state = BackupState::Following(following);
    loop {
        let Message::Notification { method, params } = next(&mut client, of.probe.unwrap_or(PROBE)).await? else { continue };
        if let ("update", [Value::String(name), updates]) = (method.as_str(), params.as_slice()) {
            apply(shared, name, updates, None)?;
        }
    }
}

/// The next message; a server that is silent is probed.
async fn next(client: &mut RpcClient, probe: Duration) -> std::result::Result<Message, Stop> {
    if probe.is_zero() {
        return Ok(client.recv().await?);
    }
    if let Ok(message) = timeout(probe, client.recv()).await {
        return Ok(message?);
    }
    let echo = Message::Request { method: "echo".into(), params: Vec::new(), id: "echo".into() };
    client.send(&echo).await?;
    timeout(probe, client.recv()).await.map_err(|_| Stop::Silent)?.map_err(Stop::from)
}

/// What to ask of a database: all columns of the tables that are copied. `None` if it does not fit into ours.
fn requests(core: &Core, remote: &Schema, exclude: &BTreeSet<Place>) -> Option<Object<String, Value>> {
    let own = core.dbs[core.db_number(&remote.name)?].store.db().schema();
    // What has the same version may differ all the same.
    if own.to_json() != remote.to_json() {
        let name = &remote.name;
        tracing::info!(target: "replication", "Schema version mismatch, checking if {name} can still be replicated or not.");
        if !fits(own, remote) {
            tracing::warn!(target: "replication", "{name} cannot be replicated");
            return None;
        }
        tracing::info!(target: "replication", "{name} can be replicated");
    }
    let wanted = remote.tables.iter().filter(|t| !exclude.contains(&(remote.name.clone(), t.name.clone())));
    let columns = |table: &TableSchema| {
        let names = table.columns[COL_FIRST..].iter().map(|c| Value::from(c.name.as_str()));
        serde_json::json!({"columns": names.collect::<Vec<_>>()})
    };
    Some(wanted.map(|table| (table.name.clone(), columns(table))).collect())
}

/// Whether every column of `remote` is one of `own`, too, and holds the same.
fn fits(own: &Schema, remote: &Schema) -> bool {
    remote.tables.iter().all(|table| {
        let Some(ours) = own.table_schema(&table.name) else { return false };
        let same = |column: &crate::schema::ColumnSchema| ours.column_schema(&column.name).is_some_and(|c| c.ty == column.ty);
        table.columns[COL_FIRST..].iter().all(same)
    })
}

/// Makes updates part of a database. First contents replace what the tables of `first` hold.
fn apply(shared: &Arc<Shared>, name: &str, updates: &Value, first: Option<&Object<String, Value>>) -> Result<()> {
    let (outcome, effects) = {
        let mut core = shared.core();
        let outcome = match core.db_number(name).filter(|db| *db != SERVER_DB) {
            Some(db) => core.copy_rows(db, updates, first),
            // It was removed meanwhile.
            None => Ok(()),
        };
        (outcome, core.finish(Instant::now()))
    };
    shared.perform(effects);
    outcome
}

impl Core {
    fn copy_rows(&mut self, db: usize, updates: &Value, first: Option<&Object<String, Value>>) -> Result<()> {
        let data = self.dbs[db].store.db();
        let schema = data.schema();
        let mut txn = Txn::new(data);
        for table in first.into_iter().flat_map(|first| first.keys()).filter_map(|name| schema.table(name)) {
            data.rows(table).for_each(|(uuid, _)| txn.delete(table, uuid));
        }
        let bad = |json: &Value| Error::syntax(json, "table updates expected");
        for (name, rows) in updates.as_object().ok_or_else(|| bad(updates))? {
            let table = schema.table(name).ok_or_else(|| bad(updates))?;
            for (uuid, update) in rows.as_object().ok_or_else(|| bad(rows))? {
                let uuid = parse_uuid(uuid).ok_or_else(|| bad(rows))?;
                match update.get("new").and_then(Value::as_object) {
                    None => txn.delete(table, &uuid),
                    Some(new) => {
                        let before = txn.row(table, &uuid).map(|row| Row::clone(row));
                        let row = before.unwrap_or_else(|| Row::new(&schema.tables[table], uuid));
                        txn.insert(table, with_columns(&schema.tables[table], row, new)?);
                    }
                }
            }
        }
        let commit = txn.prepare()?;
        self.commit(db, commit)
    }
}

/// The row with these columns; those that we do not have are left out.
fn with_columns(schema: &TableSchema, mut row: Row, columns: &Object<String, Value>) -> Result<Row> {
    for (name, json) in columns {
        if let Some(column) = schema.column(name).filter(|c| *c >= COL_FIRST) {
            row.fields[column] = Datum::from_json(&schema.columns[column].ty, json, None)?;
        }
    }
    row.fields[COL_VERSION] = Datum::from(Uuid::new_v4());
    Ok(row)
}
