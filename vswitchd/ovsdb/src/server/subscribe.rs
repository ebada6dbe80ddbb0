//! The monitor methods.
//!
//! A server of standalone databases names no transactions (ovsdb-server(7) 4.1.15): it finds none for `monitor_cond_since`, and sends
//! everything. Clients count on being told again of all rows after they come back (decision 0154).

use super::core::{Core, MONITORS_MAX, SessionId};
use super::feed::Log;
use super::monitor::{Monitor, NO_TRANSACTION, Version};
use crate::error::{Error, Result};
use crate::json;
use serde_json::{Value, json as object};
use std::sync::Arc;

impl Core {
    pub(super) fn monitor(&mut self, session: SessionId, method: &str, params: &[Value], version: Version) -> Result<Value> {
        let db = self.lookup_db(method, params)?;
        let (id, requests, since) = match (version, params) {
            (Version::One | Version::Two, [_, id, requests]) => (id, requests, None),
            (Version::Three, [_, id, requests, since]) => (id, requests, Some(since)),
            _ => {
                return Err(Error::syntax(&Value::Array(params.to_vec()), "invalid parameters"));
            }
        };
        let key = json::to_sorted(id);
        let mine = self.sessions.get(&session).map_or(0, |s| s.monitors.len());
        if mine >= MONITORS_MAX {
            return Err(Error::syntax(id, "too many monitors"));
        }
        if self.sessions.get(&session).is_some_and(|s| s.monitors.get(&key).is_some()) {
            return Err(Error::syntax(id, "duplicate monitor ID"));
        }
        let served = &self.dbs[db];
        let mut monitor = Monitor::new(db, served.store.db().schema(), version, id, requests)?;
        monitor.told = served.log.head();
        since.map_or(Ok(()), check_since)?;
        let rows = monitor.initial(served.store.db());
        let result = match version {
            Version::One | Version::Two => rows,
            Version::Three => object!([false, NO_TRANSACTION.to_string(), rows]),
        };
        if let Some(s) = self.sessions.get_mut(&session) {
            s.monitors.push(key, monitor);
            if !std::mem::replace(&mut s.listens, true) {
                self.turns.join(session);
            }
        }
        Ok(result)
    }

    pub(super) fn monitor_cond_change(&mut self, session: SessionId, params: &[Value]) -> Result<Value> {
        let [old_id, new_id, requests] = params else {
            return Err(Error::syntax(&Value::Array(params.to_vec()), "invalid parameters"));
        };
        // What happened so far is told under the old conditions.
        self.tell(session, Log::head);
        let (old_key, new_key) = (json::to_sorted(old_id), json::to_sorted(new_id));
        let Some(s) = self.sessions.get_mut(&session) else {
            return Ok(Value::Null);
        };
        let Some(monitor) = s.monitors.get(&old_key).cloned() else {
            return Err(Error::syntax(old_id, "unknown monitor session"));
        };
        if old_key != new_key && s.monitors.get(&new_key).is_some() {
            return Err(Error::syntax(new_id, "duplicate monitor ID"));
        }
        let mut monitor = monitor;
        let served = &self.dbs[monitor.db];
        let updates = monitor.change_conditions(served.store.db(), requests)?;
        monitor.id = new_id.clone();
        let message = updates.map(|u| monitor.notification(Arc::from(u.to_string())));
        s.monitors.replace(&old_key, new_key, monitor);
        if let Some(message) = message {
            self.push(session, message);
        }
        Ok(object!({}))
    }

    pub(super) fn monitor_cancel(&mut self, session: SessionId, params: &[Value]) -> std::result::Result<Value, Value> {
        let [id] = params else {
            return Err("invalid parameters".into());
        };
        let removed = self.sessions.get_mut(&session).and_then(|s| s.monitors.remove(&json::to_sorted(id)));
        removed.map(|_| object!({})).ok_or_else(|| "unknown monitor".into())
    }
}

fn check_since(json: &Value) -> Result<()> {
    let text = json.as_str().ok_or_else(|| Error::syntax(json, "last-txn-id must be string"))?;
    crate::atom::parse_uuid(text).map(drop).ok_or_else(|| Error::syntax(json, "last-txn-id must be UUID format."))
}
