//! A server that is another's backup: it holds what the active one holds, row for row, refuses writes, and becomes active when told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "common/mod.rs"]
mod common;

use common::serve;
use ovsdb::RpcClient;
use ovsdb::server::{BackupOf, BackupState};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows of `a` refer to rows of `b`, which live only as long as they do.
const SCHEMA: &str = r#"{"name": "t", "version": "1.0.0", "tables": {
    "a": {"isRoot": true, "columns": {"n": {"type": "integer"}, "refs": {"type": {"key": {"type": "uuid", "refTable": "b"},
        "min": 0, "max": "unlimited"}}}, "indexes": [["n"]]},
    "b": {"columns": {"s": {"type": "string"}}},
    "c": {"isRoot": true, "columns": {"m": {"type": {"key": "string", "value": "integer", "min": 0, "max": "unlimited"}}}}}}"#;

async fn rows(client: &mut RpcClient, table: &str) -> Value {
    let select = json!({"op": "select", "table": table, "where": []});
    let mut rows = client.transact("t", vec![select]).await.unwrap()[0]["rows"].clone();
    for row in rows.as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("_version");
    }
    rows
}

async fn become_equal(one: &mut RpcClient, other: &mut RpcClient, tables: &[&str]) {
    for table in tables {
        for attempt in 0.. {
            let (a, b) = (rows(one, table).await, rows(other, table).await);
            if a == b {
                break;
            }
            assert!(attempt < 500, "{table}: {a} and {b}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn insert(n: i64) -> Vec<Value> {
    vec![
        json!({"op": "insert", "table": "b", "uuid-name": "x", "row": {"s": format!("of {n}")}}),
        json!({"op": "insert", "table": "a", "row": {"n": n, "refs": ["set", [["named-uuid", "x"]]]}}),
        json!({"op": "insert", "table": "c", "row": {"m": ["map", [["k", n], ["l", 0]]]}}),
    ]
}

#[tokio::test]
async fn a_backup_follows_refuses_and_takes_over() {
    let (_active, remote, _dir) = serve(SCHEMA).await;
    let (backup, backup_remote, _backup_dir) = serve(SCHEMA).await;
    let mut here = RpcClient::connect(&remote).await.unwrap();
    let mut there = RpcClient::connect(&backup_remote).await.unwrap();
    here.transact("t", insert(1)).await.unwrap();
    // What the backup held before is gone, also where an index would collide.
    there.transact("t", insert(1)).await.unwrap();
    there.transact("t", insert(7)).await.unwrap();
    let exclude = BTreeSet::from([("t".to_owned(), "c".to_owned())]);
    backup.admin().start_backup(BackupOf { remote: remote.clone(), exclude, probe: None });
    become_equal(&mut here, &mut there, &["a", "b"]).await;
    assert_eq!(backup.admin().backup_state(), BackupState::Following(vec!["t".into()]));
    assert_eq!(rows(&mut there, "c").await.as_array().unwrap().len(), 2, "what is excluded stays");

    let refused = there.transact("t", insert(3)).await.unwrap();
    assert_eq!(refused[0]["details"], "insert operation not allowed when database server is in read only mode");
    here.transact("t", insert(2)).await.unwrap();
    here.transact("t", vec![json!({"op": "update", "table": "b", "where": [["s", "==", "of 1"]], "row": {"s": "new"}})])
        .await
        .unwrap();
    become_equal(&mut here, &mut there, &["a", "b"]).await;
    here.transact("t", vec![json!({"op": "delete", "table": "a", "where": [["n", "==", 1]]})]).await.unwrap();
    become_equal(&mut here, &mut there, &["a", "b"]).await;

    backup.admin().stop_backup();
    assert_eq!(backup.admin().backup_state(), BackupState::Active);
    assert!(there.transact("t", insert(3)).await.unwrap()[0]["uuid"].is_array());
    here.transact("t", insert(4)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_ne!(rows(&mut here, "a").await, rows(&mut there, "a").await);

    // All over again, with every table.
    backup.admin().start_backup(BackupOf { remote, ..BackupOf::default() });
    become_equal(&mut here, &mut there, &["a", "b", "c"]).await;
    backup.stop().await;
}

#[tokio::test]
async fn a_server_is_not_its_own_backup_and_outlives_an_active_one() {
    let (server, remote, _dir) = serve(SCHEMA).await;
    let mut client = RpcClient::connect(&remote).await.unwrap();
    client.transact("t", insert(1)).await.unwrap();
    server.admin().start_backup(BackupOf { remote: remote.clone(), ..BackupOf::default() });
    for _ in 0..500 {
        if server.admin().backup_state() == BackupState::Active {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.admin().backup_state(), BackupState::Active);
    assert_eq!(rows(&mut client, "a").await.as_array().unwrap().len(), 1);

    let (active, active_remote, _active_dir) = serve(SCHEMA).await;
    server.admin().start_backup(BackupOf { remote: active_remote.clone(), ..BackupOf::default() });
    let mut there = RpcClient::connect(&active_remote).await.unwrap();
    there.transact("t", insert(5)).await.unwrap();
    become_equal(&mut there, &mut client, &["a", "b", "c"]).await;
    active.stop().await;
    for _ in 0..500 {
        if server.admin().backup_state() == BackupState::Connecting {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.admin().backup_state(), BackupState::Connecting);
    assert_eq!(rows(&mut client, "a").await[0]["n"], 5, "what it holds stays readable");
    server.stop().await;
}
