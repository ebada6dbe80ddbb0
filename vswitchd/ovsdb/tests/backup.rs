//! The backup of an active-backup pair: ours beside Debian's server, in both roles, and what cannot be followed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{Oracle, run, serve, within};
use ovsdb::server::Admin;
use ovsdb::{RpcClient, Server};
use serde_json::{Value, json};
use std::time::Duration;

const PAIR: &str = r#"{"name": "pair", "version": "1.0.0", "tables": {
    "a": {"isRoot": true, "columns": {"n": {"type": "integer"}}},
    "b": {"isRoot": true, "columns": {
        "n": {"type": "integer"}, "to": {"type": {"key": {"type": "uuid", "refTable": "c"}, "min": 0, "max": "unlimited"}}}},
    "c": {"columns": {"name": {"type": "string"}}}}}"#;
/// As [`PAIR`], with a table and a column more.
const WIDER: &str = r#"{"name": "pair", "version": "1.1.0", "tables": {
    "a": {"isRoot": true, "columns": {"n": {"type": "integer"}, "more": {"type": "string"}}},
    "b": {"isRoot": true, "columns": {
        "n": {"type": "integer"}, "to": {"type": {"key": {"type": "uuid", "refTable": "c"}, "min": 0, "max": "unlimited"}}}},
    "c": {"columns": {"name": {"type": "string"}}},
    "d": {"isRoot": true, "columns": {"n": {"type": "integer"}}}}}"#;

async fn insert(client: &mut RpcClient, table: &str, n: i64) -> Value {
    let operation = json!({"op": "insert", "table": table, "row": {"n": n}});
    within(client.transact("pair", vec![operation])).await.unwrap()[0].clone()
}

async fn numbers(client: &mut RpcClient, table: &str) -> Vec<i64> {
    let select = json!({"op": "select", "table": table, "where": [], "columns": ["n"]});
    let result = within(client.transact("pair", vec![select])).await.unwrap();
    let mut found: Vec<i64> = result[0]["rows"].as_array().unwrap().iter().map(|r| r["n"].as_i64().unwrap()).collect();
    found.sort_unstable();
    found
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not within 10 s");
}

async fn replicates(admin: &Admin) {
    eventually("replicating", async || admin.sync_status().contains("replicating")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_debians_server_and_takes_over() {
    let oracle = Oracle::with_schema(PAIR, &[]);
    let mut active = RpcClient::connect(&oracle.remote).await.unwrap();
    insert(&mut active, "a", 1).await;
    let (server, remote, _dir) = serve(PAIR).await;
    let admin = server.admin();
    assert_eq!(admin.follow_active().unwrap_err(), "Unable to connect: active server is not specified.\n");
    let mut own = RpcClient::connect(&remote).await.unwrap();
    insert(&mut own, "a", 99).await;
    insert(&mut own, "b", 98).await;
    admin.set_active(&oracle.remote);
    admin.set_excluded("pair:b").unwrap();
    admin.follow_active().unwrap();
    replicates(&admin).await;
    assert_eq!(admin.sync_status(), format!("state: backup\nreplicating: {}\ndatabase: pair\nexclude: pair:b\n", oracle.remote));
    assert!(own.transact("pair", vec![]).await.is_err(), "who may not write any more has to come anew");
    let mut own = RpcClient::connect(&remote).await.unwrap();
    assert_eq!((numbers(&mut own, "a").await, numbers(&mut own, "b").await), (vec![1], vec![98]));
    insert(&mut active, "a", 2).await;
    insert(&mut active, "b", 3).await;
    eventually("an insertion", async || numbers(&mut own, "a").await == [1, 2]).await;
    let update = json!({"op": "update", "table": "a", "where": [["n", "==", 1]], "row": {"n": 10}});
    let delete = json!({"op": "delete", "table": "a", "where": [["n", "==", 2]]});
    active.transact("pair", vec![update, delete]).await.unwrap();
    eventually("an update and a deletion", async || numbers(&mut own, "a").await == [10]).await;
    assert_eq!(numbers(&mut own, "b").await, [98], "an excluded table stays as it is");
    let refused = insert(&mut own, "a", 4).await;
    assert_eq!(refused["details"], "insert operation not allowed when database server is in read only mode");
    // All of it, once nothing is excluded: rows that are only referred to as well.
    admin.set_excluded("").unwrap();
    let (row, referrer) = (json!({"name": "leaf"}), json!({"n": 5, "to": ["named-uuid", "leaf"]}));
    let operations = vec![
        json!({"op": "insert", "table": "c", "row": row, "uuid-name": "leaf"}),
        json!({"op": "insert", "table": "b", "row": referrer}),
    ];
    active.transact("pair", operations).await.unwrap();
    eventually("table b", async || numbers(&mut own, "b").await == [3, 5]).await;
    let (theirs, ours) = (run("ovsdb-client", &["dump", &oracle.remote]).await, run("ovsdb-client", &["dump", &remote]).await);
    assert_eq!(theirs, ours);
    drop((active, oracle));
    eventually("the loss", async || admin.sync_status().contains("not connected to unix:")).await;
    admin.leave_active();
    assert_eq!(admin.sync_status(), "state: active\n");
    let mut own = RpcClient::connect(&remote).await.unwrap();
    insert(&mut own, "a", 11).await;
    assert_eq!(numbers(&mut own, "a").await, [10, 11]);
    drop(admin);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_schema_can_follow_a_narrower_one_only() {
    let (narrow, wide) = (serve(PAIR).await, serve(WIDER).await);
    let follow = |server: &Server, remote: &str| {
        let admin = server.admin();
        admin.set_active(remote);
        admin.follow_active().unwrap();
        admin
    };
    let failed = follow(&narrow.0, &wide.1);
    eventually("giving up", async || failed.sync_status() == "state: active\n").await;
    let mut client = RpcClient::connect(&narrow.1).await.unwrap();
    insert(&mut client, "a", 1).await;
    let fits = follow(&wide.0, &narrow.1);
    replicates(&fits).await;
    let mut copy = RpcClient::connect(&wide.1).await.unwrap();
    assert_eq!(numbers(&mut copy, "a").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_follows_itself() {
    let (server, remote, _dir) = serve(PAIR).await;
    let mut client = RpcClient::connect(&remote).await.unwrap();
    insert(&mut client, "a", 1).await;
    let admin = server.admin();
    admin.set_active(&remote);
    admin.follow_active().unwrap();
    eventually("giving up", async || admin.sync_status() == "state: active\n").await;
    let mut client = RpcClient::connect(&remote).await.unwrap();
    assert_eq!(numbers(&mut client, "a").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_server_follows_ours() {
    let (_server, remote, _dir) = serve(PAIR).await;
    let mut active = RpcClient::connect(&remote).await.unwrap();
    insert(&mut active, "a", 1).await;
    let oracle = Oracle::with_schema(PAIR, &[]);
    oracle.control(&["ovsdb-server/set-active-ovsdb-server", &remote]);
    oracle.control(&["ovsdb-server/connect-active-ovsdb-server"]);
    insert(&mut active, "a", 2).await;
    eventually("the copy", async || {
        let mut copy = RpcClient::connect(&oracle.remote).await.unwrap();
        numbers(&mut copy, "a").await == [1, 2]
    })
    .await;
}
