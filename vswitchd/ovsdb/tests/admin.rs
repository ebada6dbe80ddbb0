//! A server that is changed while it runs: databases and remotes come and go, rows of remotes are told how these fare, roles limit
//! what their clients may change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::within;
use ovsdb::db::{Actor, Executed, Request, execute};
use ovsdb::message::Message;
use ovsdb::schema::Schema;
use ovsdb::store::Store;
use ovsdb::{RpcClient, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ROOMS: &str = r#"{"name": "rooms", "version": "1.0.0", "tables": {
    "Root": {"isRoot": true, "columns": {
        "remotes": {"type": {"key": {"type": "uuid", "refTable": "Remote"}, "min": 0, "max": "unlimited"}}}},
    "Remote": {"columns": {
        "target": {"type": "string"},
        "read_only": {"type": "boolean"},
        "is_connected": {"type": "boolean", "ephemeral": true},
        "status": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}, "ephemeral": true}}}}}"#;
const OTHER: &str =
    r#"{"name": "other", "version": "1.0.0", "tables": {"t": {"isRoot": true, "columns": {"n": {"type": "integer"}}}}}"#;

fn schema(text: &str) -> Arc<Schema> {
    Arc::new(Schema::from_text(text).unwrap())
}

#[tokio::test]
async fn databases_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (rooms, other) = (dir.path().join("rooms.db"), dir.path().join("other.db"));
    drop(Store::create(&other, schema(OTHER)).unwrap());
    let socket = dir.path().join("sock");
    let remote = format!("unix:{}", socket.display());
    let server = Server::builder().database(&rooms, ROOMS).remote(format!("punix:{}", socket.display())).start().await.unwrap();
    let admin = server.admin();
    let mut aware = RpcClient::connect(&remote).await.unwrap();
    aware.request("set_db_change_aware", vec![true.into()]).await.unwrap();
    let mut unaware = RpcClient::connect(&remote).await.unwrap();
    unaware.list_dbs().await.unwrap();
    admin.add_database(&other).unwrap();
    assert_eq!(admin.databases(), ["_Server", "other", "rooms"]);
    let twice = admin.add_database(&other).unwrap_err().to_string();
    assert!(twice.starts_with("ovsdb error: ") && twice.ends_with("other.db: already open"), "{twice}");
    assert!(within(unaware.recv()).await.is_err(), "a client that does not know of changes starts anew");
    assert_eq!(aware.list_dbs().await.unwrap(), ["_Server", "other", "rooms"]);
    aware.request("monitor", vec!["other".into(), "m".into(), json!({"t": {}})]).await.unwrap();
    assert!(admin.remove_database("other").unwrap());
    assert!(!admin.remove_database("other").unwrap() && !admin.remove_database("_Server").unwrap());
    let canceled = Message::Notification { method: "monitor_canceled".into(), params: vec!["m".into()] };
    assert_eq!(within(aware.recv()).await.unwrap(), canceled);
    // The numbers of databases behind it moved up; its file is free.
    assert_eq!(aware.list_dbs().await.unwrap(), ["_Server", "rooms"]);
    drop(Store::open(&other).unwrap());
    drop(admin);
    server.stop().await;
}

#[tokio::test]
async fn remotes_come_and_go_and_rows_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let server = Server::builder()
        .memory_database(ROOMS)
        .remote(format!("punix:{}", path("a")))
        .remote("db:rooms,Root,remotes")
        .start()
        .await
        .unwrap();
    let admin = server.admin();
    assert_eq!(admin.add_remote("db:x,y,z").unwrap_err(), "\"db:x,y,z\": no database named x");
    assert!(admin.add_remote("foo:bar").is_err() && !admin.remove_remote("punix:nowhere"));
    let mut client = RpcClient::connect(&format!("unix:{}", path("a"))).await.unwrap();
    let row = json!({"target": format!("punix:{}", path("b")), "read_only": true});
    let insert = vec![
        json!({"op": "insert", "table": "Remote", "uuid-name": "r", "row": row}),
        json!({"op": "insert", "table": "Root", "row": {"remotes": ["named-uuid", "r"]}}),
    ];
    client.transact("rooms", insert).await.unwrap();
    let mut second = loop {
        match RpcClient::connect(&format!("unix:{}", path("b"))).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let delete = vec![json!({"op": "delete", "table": "Root", "where": []})];
    let refused = second.transact("rooms", delete.clone()).await.unwrap();
    assert_eq!(refused[0]["error"], "not allowed", "a read-only remote");
    let select = vec![json!({"op": "select", "table": "Remote", "where": []})];
    let told = async {
        loop {
            let rows = client.transact("rooms", select.clone()).await.unwrap();
            let row: Value = rows[0]["rows"][0].clone();
            if row["is_connected"] == true && row["status"].to_string().contains("[\"state\",\"ACTIVE\"]") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(told).await;
    // A target that names no remote is told of in its row.
    let row = json!({"op": "insert", "table": "Remote", "uuid-name": "r", "row": {"target": "ptcp:99999"}});
    let add = json!({"op": "mutate", "table": "Root", "where": [], "mutations": [["remotes", "insert", ["named-uuid", "r"]]]});
    client.transact("rooms", vec![row, add]).await.unwrap();
    let senseless = vec![json!({"op": "select", "table": "Remote", "where": [["target", "==", "ptcp:99999"]]})];
    within(async {
        loop {
            let rows = client.transact("rooms", senseless.clone()).await.unwrap();
            if rows[0]["rows"][0]["status"] == json!(["map", [["last_error", "ptcp:99999: expected ptcp:[PORT][:IP]"]]]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    client.transact("rooms", delete).await.unwrap();
    assert!(within(second.recv()).await.is_err(), "the remote went, and its sessions with it");
    admin.add_remote(&format!("punix:{}", path("c"))).unwrap();
    within(async {
        while !dir.path().join("c").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(admin.remove_remote(&format!("punix:{}", path("a"))));
    assert!(within(client.recv()).await.is_err());
    assert_eq!(admin.remotes(), ["db:rooms,Root,remotes".to_owned(), format!("punix:{}", path("c"))]);
}

const ROLES: &str = r#"{"name": "roles", "version": "1.0.0", "tables": {
    "RBAC_Role": {"isRoot": true, "columns": {
        "name": {"type": "string"},
        "permissions": {"type": {"key": "string", "value": {"type": "uuid", "refTable": "RBAC_Permission"}, "min": 0, "max": "unlimited"}}}},
    "RBAC_Permission": {"columns": {
        "table": {"type": "string"},
        "authorization": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
        "insert_delete": {"type": "boolean"},
        "update": {"type": {"key": "string", "min": 0, "max": "unlimited"}}}},
    "Chassis": {"isRoot": true, "columns": {
        "owner": {"type": "string"}, "name": {"type": "string"}, "secret": {"type": "integer"}}}}}"#;

/// Executes and applies; the tag of the first error, or "".
fn act(store: &mut Store, actor: Option<Actor<'_>>, operations: Value) -> String {
    let mut params = vec![Value::from("roles")];
    params.extend(operations.as_array().unwrap().iter().cloned());
    let request = Request { params: &params, owns_lock: &|_| true, elapsed_ms: 0, read_only: false, actor };
    match execute(store.db(), &request) {
        Executed::Ready { commit, .. } => {
            store.commit(&commit, 0).unwrap();
            String::new()
        }
        Executed::Failed(results) => results.iter().find_map(|r| r["error"].as_str()).unwrap_or("no error").to_owned(),
        Executed::Wait(_) => "wait".to_owned(),
    }
}

#[test]
fn a_role_limits_what_its_clients_change() {
    let mut store = Store::in_memory(schema(ROLES));
    let rules = json!([
        {"op": "insert", "table": "RBAC_Permission", "uuid-name": "p",
         "row": {"table": "Chassis", "authorization": "owner", "insert_delete": true, "update": "name"}},
        {"op": "insert", "table": "RBAC_Role", "row": {"name": "host", "permissions": ["map", [["Chassis", ["named-uuid", "p"]]]]}}]);
    assert_eq!(act(&mut store, None, rules), "");
    let host = |id| Some(Actor { role: "host", id });
    let insert = |owner: &str| json!([{"op": "insert", "table": "Chassis", "row": {"owner": owner, "name": "n"}}]);
    let update = |column: &str, value: Value| json!([{"op": "update", "table": "Chassis", "where": [], "row": {column: value}}]);
    let denied = "permission error";
    for (actor, operations, expect) in [
        (host("h1"), insert("h2"), denied),
        (host("h1"), insert("h1"), ""),
        (host("h2"), update("name", "x".into()), denied),
        (host("h1"), update("name", "x".into()), ""),
        (host("h1"), update("secret", 7.into()), denied),
        (host("h1"), json!([{"op": "mutate", "table": "Chassis", "where": [], "mutations": [["secret", "+=", 1]]}]), denied),
        (host("h2"), json!([{"op": "delete", "table": "Chassis", "where": []}]), denied),
        (host(""), insert("h1"), denied),
        (Some(Actor { role: "nobody", id: "h1" }), insert("h1"), denied),
        (host("h1"), json!([{"op": "delete", "table": "RBAC_Role", "where": []}]), denied),
        (host("h1"), json!([{"op": "select", "table": "Chassis", "where": []}]), ""),
        (Some(Actor { role: "", id: "h1" }), update("secret", 7.into()), ""),
        (host("h1"), json!([{"op": "delete", "table": "Chassis", "where": []}]), ""),
    ] {
        assert_eq!(act(&mut store, actor, operations.clone()), expect, "{actor:?} {operations}");
    }
}
