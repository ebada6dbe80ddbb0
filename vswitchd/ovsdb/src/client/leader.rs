//! Whether the server at the other end is one to stay with: of a cluster only the leader is, if the client wants no less
//! (ovsdb(7), "Connecting to a Clustered Database"). The server's `_Server` database says what it is.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The id of the monitor on `_Server`.
pub(super) const MONITOR: &str = "_Server";

/// What `_Server` says of the databases.
#[derive(Debug, Default)]
pub(super) struct Servers(BTreeMap<String, Map<String, Value>>);

/// Parameters of the `monitor_cond` request.
pub(super) fn request() -> Vec<Value> {
    let columns = json!({"Database": [{"columns": ["name", "model", "connected", "leader"]}]});
    vec!["_Server".into(), MONITOR.into(), columns]
}

impl Servers {
    /// Takes `<table-updates2>`.
    pub(super) fn update(&mut self, updates: &Value) {
        for (uuid, update) in updates.get("Database").and_then(Value::as_object).into_iter().flatten() {
            for (action, row) in update.as_object().into_iter().flatten() {
                match row.as_object() {
                    // What a difference says of a boolean or a string is its new value.
                    Some(row) if action == "modify" => self.0.entry(uuid.clone()).or_default().extend(row.clone()),
                    Some(row) => drop(self.0.insert(uuid.clone(), row.clone())),
                    None => drop(self.0.remove(uuid)),
                }
            }
        }
    }

    /// Why another server should be tried for this database.
    pub(super) fn fault(&self, database: &str) -> Option<&'static str> {
        let row = self.0.values().find(|row| row.get("name").and_then(Value::as_str) == Some(database))?;
        let holds = |column: &str| row.get(column).and_then(Value::as_bool) == Some(true);
        if row.get("model").and_then(Value::as_str) != Some("clustered") {
            return None;
        }
        match (holds("connected"), holds("leader")) {
            (false, _) => Some("clustered database server is disconnected from cluster; trying another server"),
            (true, false) => Some("clustered database server is not cluster leader; trying another server"),
            (true, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_will_do() {
        let mut servers = Servers::default();
        assert_eq!(servers.fault("db"), None);
        servers.update(&json!({"Database": {"u": {"initial": {"name": "db", "model": "standalone"}}}}));
        assert_eq!(servers.fault("db"), None);
        servers.update(&json!({"Database": {"u": {"modify": {"model": "clustered", "connected": true}}}}));
        assert!(servers.fault("db").is_some_and(|f| f.contains("not cluster leader")));
        servers.update(&json!({"Database": {"u": {"modify": {"leader": true}}}}));
        assert_eq!(servers.fault("db"), None);
        servers.update(&json!({"Database": {"u": {"modify": {"connected": false}}}}));
        assert!(servers.fault("db").is_some_and(|f| f.contains("disconnected")));
        servers.update(&json!({"Database": {"u": {"delete": null}}}));
        assert_eq!(servers.fault("db"), None);
    }
}
