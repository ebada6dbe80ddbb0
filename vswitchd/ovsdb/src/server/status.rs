//! Remotes that rows describe: what the rows ask for, and what is written back to them (the columns `is_connected` and `status` of
//! `Manager`, `Connection` and their like; ovs-vswitchd.conf.db(5)). A table that lacks a column is not told of it.

use super::core::{Core, SessionId};
use super::peer::RemoteOptions;
use crate::datum::Datum;
use crate::db::Txn;
use crate::error::Result;
use crate::remote::Remote;
use crate::schema::Schema;
use std::collections::BTreeMap;
use tokio::time::Instant;
use uuid::Uuid;

/// Where a connection that we make stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing was tried yet, or it is no connection of ours.
    #[default]
    Void,
    Backoff,
    Connecting,
    Active,
}

impl LinkState {
    fn name(self) -> &'static str {
        match self {
            Self::Void => "VOID",
            Self::Backoff => "BACKOFF",
            Self::Connecting => "CONNECTING",
            Self::Active => "ACTIVE",
        }
    }
}

/// What is known of a remote beside its sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) last_error: Option<String>,
    pub(crate) connected: Option<Instant>,
    pub(crate) disconnected: Option<Instant>,
    pub(crate) bound_port: Option<u16>,
}

/// A column of rows that describe remotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) database: &'a str,
    pub(crate) table: &'a str,
    pub(crate) column: &'a str,
}

/// The rows that a place leads to: number of database and table, and which.
struct Rows {
    db: usize,
    table: usize,
    uuids: Vec<Uuid>,
}

impl Core {
    /// Why remotes cannot be read there.
    pub(crate) fn fault_at(&self, place: Place<'_>) -> Option<String> {
        let Place { database, table, column } = place;
        let Some(db) = self.db_number(database) else {
            return Some(format!("no database named {database}"));
        };
        let schema = self.dbs[db].store.db().schema();
        let Some(t) = schema.table_schema(table) else {
            return Some(format!("no table named {table}"));
        };
        let Some(column_schema) = t.column_schema(column) else {
            return Some(format!("no column \"{column}\" in table \"{table}\""));
        };
        let ty = &column_schema.ty;
        let strings = ty.value.is_none() && ty.key.atomic == crate::AtomicType::String;
        let rows = ty.value.is_none() && ty.key.reference().is_some();
        (!strings && !rows)
            .then(|| format!("type mismatch: table {table}, column {column} is not a set of strings or of references"))
    }

    /// Remotes in a column of strings, or in column `target` of the rows that the column refers to, with what those rows say of them.
    pub(crate) fn remotes_at(&self, place: Place<'_>) -> Vec<(String, RemoteOptions)> {
        let mut found = BTreeMap::new();
        match self.rows_at(place) {
            Some(rows) => {
                let db = self.dbs[rows.db].store.db();
                let schema = &db.schema().tables[rows.table];
                for row in rows.uuids.iter().filter_map(|u| db.row(rows.table, u)) {
                    let get = |name: &str| schema.column(name).map(|c| &row.fields[c]);
                    let number = |name: &str| get(name).and_then(Datum::as_int).and_then(|n| u64::try_from(n).ok());
                    let options = RemoteOptions {
                        probe_ms: number("inactivity_probe"),
                        backoff_max_ms: number("max_backoff"),
                        read_only: get("read_only").and_then(Datum::as_bool) == Some(true),
                        role: get("role").and_then(Datum::as_str).filter(|r| !r.is_empty()).map(str::to_owned),
                    };
                    if let Some(target) = get("target").and_then(Datum::as_str) {
                        found.insert(target.to_owned(), options);
                    }
                }
            }
            None => {
                let strings = self.column_of(place).into_iter().flat_map(|(db, t, c)| {
                    self.dbs[db].store.db().rows(t).flat_map(move |(_, row)| row.fields[c].strings().map(str::to_owned))
                });
                found.extend(strings.map(|text| (text, RemoteOptions::default())));
            }
        }
        found.into_iter().collect()
    }

    fn column_of(&self, place: Place<'_>) -> Option<(usize, usize, usize)> {
        let db = self.db_number(place.database)?;
        let schema = self.dbs[db].store.db().schema();
        let t = schema.table(place.table)?;
        Some((db, t, schema.tables[t].column(place.column)?))
    }

    fn rows_at(&self, place: Place<'_>) -> Option<Rows> {
        let (db, t, c) = self.column_of(place)?;
        let data = self.dbs[db].store.db();
        let schema = data.schema();
        let (name, _) = schema.tables[t].columns[c].ty.key.reference()?;
        let table = schema.table(name)?;
        let uuids = data.rows(t).flat_map(|(_, row)| row.fields[c].uuids()).collect();
        Some(Rows { db, table, uuids })
    }

    /// Writes the state of remotes to the rows that describe them. [`Core::finish`] must follow.
    pub(crate) fn write_status(&mut self, place: Place<'_>, links: &BTreeMap<String, Link>, now: Instant) -> Result<()> {
        // A backup's rows are the active server's.
        let Some(rows) = self.rows_at(place).filter(|_| !self.read_only) else {
            return Ok(());
        };
        let data = self.dbs[rows.db].store.db();
        let schema: &Schema = data.schema();
        let table = &schema.tables[rows.table];
        let (connected, status) = (table.column("is_connected"), table.column("status"));
        let mut txn = Txn::new(data);
        for uuid in &rows.uuids {
            let Some(row) = data.row(rows.table, uuid) else { continue };
            let target = table.column("target").and_then(|c| row.fields[c].as_str()).unwrap_or_default();
            let (is_connected, map) = match Remote::parse(target) {
                Ok(remote) => {
                    let name = remote.to_string();
                    self.status_of(&name, &links.get(&name).cloned().unwrap_or_default(), now)
                }
                Err(fault) => (false, vec![("last_error".to_owned(), fault.to_string())]),
            };
            let fresh = [(connected, Datum::from(is_connected)), (status, Datum::map(map))];
            for (column, datum) in fresh.into_iter().filter_map(|(c, d)| Some((c?, d))) {
                if row.fields[column] != datum
                    && datum.check(&table.columns[column].ty).is_ok()
                    && let Some(row) = txn.modify(rows.table, uuid)
                {
                    row.fields[column] = datum;
                }
            }
        }
        let commit = txn.prepare()?;
        self.commit(rows.db, commit)
    }

    fn status_of(&self, remote: &str, link: &Link, now: Instant) -> (bool, Vec<(String, String)>) {
        let mut sessions: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| &*s.peer.remote == remote).map(|(id, _)| *id).collect();
        sessions.sort_unstable();
        let mut map = Vec::new();
        let mut put = |key: &str, value: String| map.push((key.to_owned(), value));
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs().to_string();
        let first = sessions.first().and_then(|id| self.sessions.get(id).map(|s| (*id, s)));
        if let Some((id, session)) = first {
            put("state", LinkState::Active.name().to_owned());
            put("sec_since_connect", seconds(session.opened));
            for (key, names) in ["locks_held", "locks_waiting", "locks_lost"].into_iter().zip(self.locks_of(id)) {
                if !names.is_empty() {
                    put(key, names.join(" "));
                }
            }
        } else {
            if link.state != LinkState::Void {
                put("state", link.state.name().to_owned());
            }
            link.connected.into_iter().for_each(|at| put("sec_since_connect", seconds(at)));
        }
        link.disconnected.into_iter().for_each(|at| put("sec_since_disconnect", seconds(at)));
        if let Some(error) = &link.last_error {
            put("last_error", error.clone());
        }
        if sessions.len() > 1 {
            put("n_connections", sessions.len().to_string());
        }
        if let Some(port) = link.bound_port {
            put("bound_port", port.to_string());
        }
        (first.is_some(), map)
    }
}
