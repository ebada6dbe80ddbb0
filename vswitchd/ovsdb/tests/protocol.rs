//! The server's side of the protocol, byte by byte: waits, cancellation, locks, remotes, conversion, and bad manners.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, clippy::too_many_lines, reason = "tests")]

#[path = "common/mod.rs"]
mod common;

use common::{run, serve, try_run, within};
use ovsdb::RpcClient;
use ovsdb::Server;
use ovsdb::message::Message;
use ovsdb::schema::VSWITCH_SCHEMA;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

const DB: &str = "Open_vSwitch";
const SMALL: &str =
    r#"{"name": "t", "version": "1.0.0", "tables": {"x": {"columns": {"n": {"type": "integer"}, "s": {"type": "string"}}}}}"#;

fn path(remote: &str) -> &str {
    remote.strip_prefix("unix:").unwrap()
}

fn request(id: u64, method: &str, params: Value) -> Message {
    Message::Request { method: method.into(), params: params.as_array().unwrap().clone(), id: id.into() }
}

fn wait_for(n: i64, timeout: Option<u64>) -> Value {
    let mut wait =
        json!({"op": "wait", "table": "x", "where": [["n", "==", n]], "columns": ["n"], "until": "==", "rows": [{"n": n}]});
    if let Some(ms) = timeout {
        wait["timeout"] = ms.into();
    }
    wait
}

fn insert(n: i64) -> Value {
    json!({"op": "insert", "table": "x", "row": {"n": n}})
}

#[tokio::test]
async fn waits_block_only_themselves() {
    let (_server, remote, _dir) = serve(SMALL).await;
    let mut waiter = RpcClient::connect(&remote).await.unwrap();
    let mut other = RpcClient::connect(&remote).await.unwrap();
    // Three waits: one is satisfied by the other, one by the first's own insert, one runs out of time.
    waiter.send(&request(101, "transact", json!(["t", wait_for(1, Some(5_000)), insert(2)]))).await.unwrap();
    waiter.send(&request(102, "transact", json!(["t", wait_for(2, None), insert(3)]))).await.unwrap();
    waiter.send(&request(103, "transact", json!(["t", wait_for(9, Some(50))]))).await.unwrap();
    waiter.send(&request(103, "transact", json!(["t"]))).await.unwrap();
    let duplicate = within(waiter.recv()).await.unwrap().to_json();
    assert_eq!(duplicate["error"]["details"], "transact: duplicate request ID");
    assert_eq!(waiter.request("echo", vec![json!("still here")]).await.unwrap(), json!(["still here"]));
    let timed_out = within(waiter.recv()).await.unwrap().to_json();
    assert_eq!(timed_out["id"], 103);
    let details = timed_out["result"][0]["details"].as_str().unwrap();
    assert!(details.starts_with("\"wait\" timed out after 5"), "{details}");
    other.transact("t", vec![insert(1)]).await.unwrap();
    for id in [101, 102] {
        let reply = within(waiter.recv()).await.unwrap().to_json();
        assert_eq!((&reply["id"], &reply["result"][0]), (&json!(id), &json!({})), "{reply}");
    }
    let rows = other
        .transact("t", vec![json!({"op": "select", "table": "x", "where": [], "columns": ["n"], "sort": ["n"]})])
        .await
        .unwrap();
    assert_eq!(rows[0]["rows"], json!([{"n": 1}, {"n": 2}, {"n": 3}]));
    // A wait can be withdrawn.
    waiter.send(&request(104, "transact", json!(["t", wait_for(77, None)]))).await.unwrap();
    let cancel = Message::Notification { method: "cancel".into(), params: vec![json!(104)] };
    waiter.send(&cancel).await.unwrap();
    let canceled = within(waiter.recv()).await.unwrap().to_json();
    assert_eq!((&canceled["id"], &canceled["error"]), (&json!(104), &json!("canceled")));
}

/// A commit is told to a session's monitors in the order in which they were asked for.
#[tokio::test]
async fn monitors_are_told_in_order() {
    let (_server, remote, _dir) = serve(SMALL).await;
    let mut client = RpcClient::connect(&remote).await.unwrap();
    let mut ids: Vec<Value> = (0..16).map(|n| if n % 3 == 0 { json!(100 - n) } else { json!(format!("{n}")) }).collect();
    let ask = |id: &Value| vec![json!("t"), id.clone(), json!({"x": [{"columns": ["n"]}]})];
    for id in &ids {
        client.request("monitor_cond", ask(id)).await.unwrap();
    }
    client.request("monitor_cancel", vec![ids.remove(5)]).await.unwrap();
    // A monitor keeps its place when it gets another name.
    let renamed = json!(["renamed"]);
    client.request("monitor_cond_change", vec![ids[3].clone(), renamed.clone(), json!({})]).await.unwrap();
    ids[3] = renamed;
    ids.push(json!("0"));
    client.request("monitor_cond", ask(ids.last().unwrap())).await.unwrap();
    client.transact("t", vec![insert(1)]).await.unwrap();
    let told: Vec<Value> = std::iter::from_fn(|| client.take_queued()).map(|m| m.to_json()["params"][0].clone()).collect();
    assert_eq!(told, ids);
}

#[tokio::test]
async fn locks_are_granted_in_order_and_stolen() {
    let (_server, remote, _dir) = serve(SMALL).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(RpcClient::connect(&remote).await.unwrap());
    }
    let [a, b, c] = clients.as_mut_slice() else { panic!() };
    let name = || vec![json!("l")];
    assert_eq!(a.request("lock", name()).await.unwrap(), json!({"locked": true}));
    assert_eq!(b.request("lock", name()).await.unwrap(), json!({"locked": false}));
    let assertion = json!({"op": "assert", "lock": "l"});
    assert_eq!(b.transact("t", vec![assertion.clone()]).await.unwrap()[0]["error"], "not owner");
    assert_eq!(c.request("steal", name()).await.unwrap(), json!({"locked": true}));
    let expect = |method: &str| Message::Notification { method: method.into(), params: vec![json!("l")] };
    assert_eq!(within(a.recv()).await.unwrap(), expect("stolen"));
    assert_eq!(c.transact("t", vec![assertion]).await.unwrap()[0], json!({}));
    c.request("unlock", name()).await.unwrap();
    assert_eq!(within(a.recv()).await.unwrap(), expect("locked"));
    // A holder that goes away gives the lock to the next.
    clients.remove(0);
    assert_eq!(within(clients[0].recv()).await.unwrap(), expect("locked"));
}

/// Sends bytes; says what came back until the server closed the connection.
async fn closed_after(remote: &str, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path(remote)).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn malformed_input_closes_the_connection() {
    let (server, remote, _dir) = serve(SMALL).await;
    let deep = "[".repeat(100_000);
    let bad: [&[u8]; 12] = [
        b"hello",
        b"{xyz",
        b"{\"a\":}",
        b"[]",
        b"{}",
        b"{\"id\":1}",
        b"{\"id\":1,\"method\":\"echo\"}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":{}}",
        b"{\"id\":1,\"method\":1,\"params\":[]}",
        b"{\"id\":1,\"result\":1,\"error\":null}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":[],\"x\":1}",
        deep.as_bytes(),
    ];
    for bytes in bad {
        assert_eq!(closed_after(&remote, bytes).await, "", "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    }
    assert_eq!(server.counters().dropped_malformed, bad.len() as u64);
    // What came before the fault is answered.
    let answer = closed_after(&remote, b"{\"id\":1,\"method\":\"echo\",\"params\":[2]}\n bad").await;
    assert_eq!(answer, r#"{"id":1,"result":[2],"error":null}"#);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let (server, remote, _dir) = serve(SMALL).await;
    let mut deaf = UnixStream::connect(path(&remote)).await.unwrap();
    let monitor = request(1, "monitor", json!(["t", "m", {"x": {}}]));
    deaf.write_all(monitor.to_json().to_string().as_bytes()).await.unwrap();
    let mut writer = RpcClient::connect(&remote).await.unwrap();
    writer.transact("t", vec![insert(1)]).await.unwrap();
    let text = "x".repeat(1 << 20);
    for n in 0..200 {
        let update = json!({"op": "update", "table": "x", "where": [], "row": {"s": format!("{n}{text}")}});
        writer.transact("t", vec![update]).await.unwrap();
        if server.counters().dropped_slow == 1 {
            break;
        }
    }
    assert_eq!((server.counters().dropped_slow, server.sessions()), (1, 1));
}

#[tokio::test]
async fn silent_tcp_clients_are_probed() {
    let server = Server::builder()
        .memory_database(SMALL)
        .remote("ptcp:0:127.0.0.1")
        .probe_interval(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let address = server.bound_address("ptcp:0:127.0.0.1").unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut answering = RpcClient::connect(&format!("tcp:{address}")).await.unwrap();
    let ticker = tokio::spawn(async move { answering.recv().await });
    let mut got = String::new();
    within(silent.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, r#"{"id":"echo","method":"echo","params":[]}"#);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.sessions(), 1);
    ticker.abort();
}

/// Remotes named by the database: a passive one appears and disappears, an active one connects to us.
#[tokio::test]
async fn remotes_follow_the_managers() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock").display().to_string();
    let extra = dir.path().join("extra.sock").display().to_string();
    let _server = Server::builder()
        .database(dir.path().join("conf.db"), VSWITCH_SCHEMA)
        .remote(format!("punix:{socket}"))
        .remote(format!("db:{DB},{DB},manager_options"))
        .start()
        .await
        .unwrap();
    let controller = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let active = format!("tcp:{}", controller.local_addr().unwrap());
    let db = format!("--db=unix:{socket}");
    run("ovs-vsctl", &[&db, "--no-wait", "set-manager", &active, &format!("punix:{extra}")]).await;
    let (mut stream, _) = within(controller.accept()).await.unwrap();
    stream.write_all(b"{\"id\":7,\"method\":\"list_dbs\",\"params\":[]}").await.unwrap();
    let mut answer = [0; 200];
    let n = within(stream.read(&mut answer)).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer[..n]).unwrap();
    assert_eq!(answer["result"], json!([DB, "_Server"]));
    for _ in 0..200 {
        if std::path::Path::new(&extra).exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(run("ovsdb-client", &["list-dbs", &format!("unix:{extra}")]).await, "Open_vSwitch\n_Server\n");
    run("ovs-vsctl", &[&db, "--no-wait", "del-manager"]).await;
    within(async {
        while std::path::Path::new(&extra).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn stock_tools_work() {
    let (_server, remote, dir) = serve(VSWITCH_SCHEMA).await;
    let client = |args: &'static [&'static str]| {
        let (args, remote) = (args, remote.clone());
        async move {
            let mut all = vec!["-t5", args[0], &remote];
            all.extend(&args[1..]);
            run("ovsdb-client", &all).await
        }
    };
    assert_eq!(client(&["get-schema-version"]).await, "8.8.0\n");
    assert!(client(&["list-tables", DB]).await.contains("Flow_Sample_Collector_Set"));
    client(&["transact", r#"["Open_vSwitch",{"op":"insert","table":"Open_vSwitch","row":{"next_cfg":5}}]"#]).await;
    client(&["wait", DB, "connected"]).await;
    assert!(client(&["dump", DB, DB, "next_cfg"]).await.contains("next_cfg\n--------\n5"));
    assert!(
        client(&["query", r#"["Open_vSwitch",{"op":"select","table":"Open_vSwitch","where":[],"columns":["next_cfg"]}]"#])
            .await
            .contains("\"next_cfg\":5")
    );
    let backup = client(&["backup", DB]).await;
    assert!(backup.starts_with("OVSDB JSON "), "{backup}");
    // Conversion to the schema of Debian's package drops the newer columns and keeps the data.
    let old = "/usr/share/openvswitch/vswitch.ovsschema";
    assert_eq!(run("ovsdb-client", &["-t5", "needs-conversion", &remote, old]).await, "yes\n");
    run("ovsdb-client", &["-t5", "convert", &remote, old]).await;
    assert_eq!(run("ovsdb-client", &["-t5", "needs-conversion", &remote, old]).await, "no\n");
    assert!(client(&["dump", DB, DB, "next_cfg"]).await.contains("5"));
    let file = dir.path().join("conf.db").display().to_string();
    assert_eq!(run("ovsdb-tool", &["needs-conversion", &file, old]).await, "no\n");
    let (_, err, ok) = try_run("ovsdb-client", &["-t5", "transact", &remote, r#"["nope"]"#]).await;
    assert!(!ok && err.contains("unknown database"), "{err}");
}
