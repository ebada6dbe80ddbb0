//! What concerns whole databases: their coming and going, conversion to another schema, the `_Server` database that describes them,
//! compaction, and the texts that their columns hold.

use super::core::{Core, Effect, SERVER_DB, Served, Session, SessionId, Waiting};
use super::feed::Log;
use crate::clock::wall_ms;
use crate::datum::Datum;
use crate::db::{Row, Txn};
use crate::error::{Error, Result, Tag};
use crate::message::Message;
use crate::schema::{COL_UUID, Schema};
use crate::store::Store;
use serde_json::{Value, json as object};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

impl Core {
    pub(super) fn convert(&mut self, session: SessionId, params: &[Value]) -> Result<Value> {
        let db = self.lookup_db("convert", params)?;
        let [_, schema] = params else {
            return Err(Error::syntax(&Value::Array(params.to_vec()), "array expected"));
        };
        let schema = Schema::from_json(schema)?;
        let name = self.dbs[db].store.db().schema().name.clone();
        if db == SERVER_DB {
            return Err(Error::new(Tag::NotAllowed, format!("the schema of reserved database {name} is fixed")));
        }
        if schema.name != name {
            let text = format!("new schema name ({}) does not match database name ({name})", schema.name);
            return Err(Error::new(Tag::InvalidParameters, text));
        }
        self.tell_all();
        self.dbs[db].store.convert(Arc::new(schema), "converted by ovsdb-server", wall_ms())?;
        self.dbs[db].log = Log::default();
        self.texts.clear();
        self.database_replaced(db, Some(session));
        self.describe_databases()?;
        self.effects.push(Effect::RemotesChanged);
        Ok(object!({}))
    }

    /// Ends what refers to rows of a database that were replaced or are gone (ovsdb-server(7) 4.1.1). Clients that are not aware of
    /// such changes have to start anew; but not the one that asked for it, which waits for the answer.
    pub(super) fn database_replaced(&mut self, db: usize, asked: Option<SessionId>) {
        let mut canceled = Vec::new();
        for (session, state) in &mut self.sessions {
            let ids = state.monitors.take_of(db).into_iter().map(|m| m.id);
            if state.change_aware {
                canceled.extend(ids.map(|id| (*session, id)));
            }
        }
        for (session, id) in canceled {
            self.send(session, &Message::Notification { method: "monitor_canceled".into(), params: vec![id] });
        }
        let (gone, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.db == db);
        self.waiting = kept;
        let gone: Vec<Waiting> = gone;
        for request in gone {
            if self.sessions.get(&request.session).is_some_and(|s| s.change_aware) {
                self.reply(request.session, request.id, Err("canceled".into()));
            }
        }
        self.dismiss(|id, s| !s.change_aware && Some(id) != asked);
    }

    /// Ends sessions: what they were told so far still reaches them.
    pub(super) fn dismiss(&mut self, which: impl Fn(SessionId, &Session) -> bool) {
        let gone: Vec<SessionId> = self.sessions.iter().filter(|(id, s)| which(**id, s)).map(|(id, _)| *id).collect();
        for session in gone {
            if let Some(s) = self.sessions.get(&session) {
                s.out.close();
            }
            self.close_session(session);
        }
    }

    /// Names of the databases, sorted.
    pub(crate) fn database_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.dbs.iter().map(|d| d.store.db().schema().name.clone()).collect();
        names.sort();
        names
    }

    /// Serves one more database. Errors: one of that name is there already.
    pub(crate) fn add_database(&mut self, store: Store) -> Result<()> {
        let name = store.db().schema().name.clone();
        if self.db_number(&name).is_some() {
            return Err(Error::new(Tag::OvsdbError, format!("{name}: duplicate database name")));
        }
        self.dbs.push(Served::new(store));
        self.dismiss(|_, s| !s.change_aware);
        self.describe_databases()?;
        self.effects.push(Effect::RemotesChanged);
        Ok(())
    }

    /// Serves a database no longer; its file is free when this returns. Says false if there is none of that name.
    pub(crate) fn remove_database(&mut self, name: &str) -> Result<bool> {
        let Some(db) = self.db_number(name).filter(|db| *db != SERVER_DB) else {
            return Ok(false);
        };
        self.tell_all();
        self.database_replaced(db, None);
        self.dbs.remove(db);
        self.texts.clear();
        // Numbers behind it move up.
        let moved = |n: &mut usize| *n -= usize::from(*n > db);
        self.sessions.values_mut().flat_map(|s| s.monitors.iter_mut()).for_each(|m| moved(&mut m.db));
        self.waiting.iter_mut().for_each(|w| moved(&mut w.db));
        self.dirty.retain(|n| *n != db);
        self.dirty.iter_mut().for_each(moved);
        self.describe_databases()?;
        self.effects.push(Effect::RemotesChanged);
        Ok(true)
    }

    /// The name of the database in the file at `path`.
    pub(crate) fn name_of(&self, path: &Path) -> Option<String> {
        let served = self.dbs.iter().find(|d| d.store.path() == Some(path))?;
        Some(served.store.db().schema().name.clone())
    }

    /// Brings the `_Server` database up to date.
    pub(super) fn describe_databases(&mut self) -> Result<()> {
        let wanted: Vec<(String, String)> = self
            .dbs
            .iter()
            .map(|d| {
                let schema = d.store.db().schema();
                (schema.name.clone(), schema.to_json().to_string())
            })
            .collect();
        let db = self.dbs[SERVER_DB].store.db();
        let table = db.schema().table("Database").unwrap_or_default();
        let schema = &db.schema().tables[table];
        let mut txn = Txn::new(db);
        let name_column = schema.column("name").unwrap_or(COL_UUID);
        for (uuid, row) in db.rows(table) {
            if !wanted.iter().any(|(name, _)| row.fields[name_column].as_str() == Some(name.as_str())) {
                txn.delete(table, uuid);
            }
        }
        for (name, text) in wanted {
            let name = Datum::from(name);
            let column = |c: &str| schema.column(c).unwrap_or(COL_UUID);
            let existing = db.rows(table).find(|(_, row)| row.fields[column("name")] == name).map(|(uuid, _)| *uuid);
            let uuid = existing.unwrap_or_else(|| {
                let uuid = Uuid::new_v4();
                txn.insert(table, Row::new(schema, uuid));
                uuid
            });
            if let Some(row) = txn.modify(table, &uuid) {
                row.fields[column("name")] = name;
                row.fields[column("model")] = Datum::from("standalone");
                row.fields[column("connected")] = Datum::from(true);
                row.fields[column("leader")] = Datum::from(true);
                row.fields[column("schema")] = Datum::from(text);
            }
        }
        let commit = txn.prepare()?;
        self.commit(SERVER_DB, commit)
    }

    /// Rewrites the journal of one database, or of all.
    pub(crate) fn compact(&mut self, name: Option<&str>) -> Result<()> {
        let only = match name {
            None => None,
            Some(name) => match self.db_number(name) {
                Some(SERVER_DB) => return Err(Error::new(Tag::NotAllowed, "cannot compact built-in databases")),
                Some(db) => Some(db),
                None => return Err(Error::new(Tag::UnknownDatabase, "not a known database")),
            },
        };
        let mut served = self.dbs.iter_mut().enumerate().filter(|(n, _)| only.is_none_or(|db| db == *n));
        served.try_for_each(|(_, d)| d.store.compact("compacting database online", wall_ms()))
    }

    /// What the server holds, by OVS's names (`memory/show`).
    pub(crate) fn usage(&self) -> Vec<(&'static str, usize)> {
        let dbs = || self.dbs.iter().skip(SERVER_DB + 1);
        let (mut atoms, mut cells) = (0, 0);
        for db in dbs().map(|d| d.store.db()) {
            for (t, table) in db.schema().tables.iter().enumerate() {
                cells += db.len(t) * table.columns.len();
                atoms +=
                    db.rows(t).flat_map(|(_, row)| row.fields.iter()).map(|f| f.keys().len() + f.values().len()).sum::<usize>();
            }
        }
        vec![
            ("atoms", atoms),
            ("cells", cells),
            ("monitors", self.sessions.values().map(|s| s.monitors.len()).sum()),
            ("sessions", self.sessions.len()),
            ("triggers", self.waiting.len()),
        ]
    }

    /// The first string of a column, of any row that has one: the file names of `--private-key=db:DATABASE,TABLE,COLUMN`.
    pub(crate) fn text_at(&self, database: &str, table: &str, column: &str) -> Option<String> {
        let db = self.dbs[self.db_number(database)?].store.db();
        let t = db.schema().table(table)?;
        let c = db.schema().tables[t].column(column)?;
        db.rows(t).find_map(|(_, row)| row.fields[c].strings().next().map(str::to_owned))
    }
}
