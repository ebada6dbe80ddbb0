//! What concerns whole databases: conversion to another schema, the `_Server` database that describes them, compaction,
//! and the remotes that they name.

use super::core::{Core, Effect, SERVER_DB, Waiting};
use crate::clock::wall_ms;
use crate::datum::Datum;
use crate::db::{Row, Txn};
use crate::error::{Error, Result, Tag};
use crate::message::Message;
use crate::schema::{COL_UUID, Schema};
use serde_json::{Value, json as object};
use std::sync::Arc;
use uuid::Uuid;

impl Core {
    pub(super) fn convert(&mut self, params: &[Value]) -> Result<Value> {
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
        self.dbs[db].store.convert(Arc::new(schema), wall_ms())?;
        self.dbs[db].forget();
        self.database_replaced(db);
        self.describe_databases()?;
        self.effects.push(Effect::RemotesChanged);
        Ok(object!({}))
    }

    /// Ends what refers to rows of a database that were replaced (ovsdb-server(7) 4.1.1).
    pub(super) fn database_replaced(&mut self, db: usize) {
        let mut canceled = Vec::new();
        for (session, state) in &mut self.sessions {
            let ids: Vec<_> = state.monitors.extract_if(|_, m| m.db == db).map(|(_, m)| m.id).collect();
            if state.change_aware {
                canceled.extend(ids.into_iter().map(|id| (*session, id)));
            } else {
                // A client that is not aware of database changes has to start anew.
                state.out.close();
            }
        }
        for (session, id) in canceled {
            self.send(session, &Message::Notification { method: "monitor_canceled".into(), params: vec![id] });
        }
        let (gone, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.db == db);
        self.waiting = kept;
        let gone: Vec<Waiting> = gone;
        for request in gone {
            self.reply(request.session, request.id, Err("canceled".into()));
        }
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

    /// Rewrites the journals of all databases.
    pub(crate) fn compact(&mut self) -> Result<()> {
        self.dbs.iter_mut().try_for_each(|d| d.store.compact("compacting database online", wall_ms()))
    }

    /// Strings in a column, or in column `target` of the rows that the column refers to.
    pub(crate) fn strings_at(&self, database: &str, table: &str, column: &str) -> Vec<String> {
        let Some(db) = self.db_number(database).map(|n| self.dbs[n].store.db()) else {
            return Vec::new();
        };
        let schema = db.schema();
        let Some(t) = schema.table(table) else {
            return Vec::new();
        };
        let Some(c) = schema.tables[t].column(column) else {
            return Vec::new();
        };
        let target = schema.tables[t].columns[c].ty.key.reference().and_then(|(name, _)| schema.table(name));
        let mut found = Vec::new();
        for (_, row) in db.rows(t) {
            match target {
                None => found.extend(row.fields[c].strings().map(str::to_owned)),
                Some(target) => {
                    let Some(name) = schema.tables[target].column("target") else {
                        continue;
                    };
                    let rows = row.fields[c].uuids().filter_map(|u| db.row(target, &u));
                    found.extend(rows.filter_map(|r| r.fields[name].as_str().map(str::to_owned)));
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }
}
