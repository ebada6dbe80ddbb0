//! Many monitors on one database while it changes quickly: everyone is told everything in order, and nobody who reads is dropped.
//!
//! Server and clients have a runtime each and speak over a unix socket. `OVSDB_MONITORS`, `OVSDB_TRANSACTIONS`, `OVSDB_WRITERS` (each waits
//! for its reply before it goes on) and `OVSDB_DEAF` (monitors that never read) change the numbers; the time it took and the memory it
//! took are printed (`--nocapture`), and never judged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the time is printed, not judged")]

use ovsdb::Server;
use ovsdb::json::Splitter;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

const SCHEMA: &str = r#"{"name": "d", "version": "1.0.0", "tables": {"t": {"isRoot": true, "columns": {
    "n": {"type": "integer"}, "name": {"type": "string"}}, "indexes": [["name"]]}}}"#;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Resident memory of this process at its highest, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

struct Client {
    stream: UnixStream,
    splitter: Splitter,
    chunk: Vec<u8>,
}

impl Client {
    async fn connect(socket: &Path) -> Self {
        // The queue of connections that wait to be accepted is shorter than the number of clients.
        for _ in 0..1_000 {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Self { stream, splitter: Splitter::new(), chunk: vec![0; 16 << 10] },
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("the server does not accept connections");
    }

    async fn say(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        loop {
            if let Some(value) = self.splitter.next_value().unwrap() {
                return value;
            }
            let n = self.stream.read(&mut self.chunk).await.unwrap();
            assert!(n > 0, "the server hung up");
            self.splitter.push(&self.chunk[..n]);
        }
    }

    async fn monitor(&mut self, id: usize) {
        let requests = json!({"t": [{"columns": ["name", "n"]}]});
        self.say(&json!({"id": id, "method": "monitor_cond", "params": ["d", id, requests]})).await;
    }

    async fn transact(&mut self, id: usize, operation: Value) -> Value {
        self.say(&json!({"id": id, "method": "transact", "params": ["d", operation]})).await;
        self.hear().await
    }
}

/// Follows the rows until each of them has the number `last`; how many updates it took.
async fn follow(mut client: Client, rows: usize, last: usize) -> usize {
    let (mut updates, mut known) = (0, std::collections::BTreeMap::new());
    while known.values().filter(|n| **n == last as u64).count() < rows {
        let message = client.hear().await;
        if message["method"] != "update2" {
            continue;
        }
        updates += 1;
        for (uuid, row) in message["params"][1]["t"].as_object().unwrap() {
            let n = row["modify"]["n"].as_u64().unwrap();
            let before = known.insert(uuid.clone(), n);
            assert!(before.is_none_or(|before| before < n), "told {n} after {before:?}");
        }
    }
    updates
}

/// Writes numbers into a row of its own, one transaction after the other.
async fn write(socket: PathBuf, writer: usize, transactions: usize) {
    let (mut client, name) = (Client::connect(&socket).await, format!("x{writer}"));
    for n in 1..=transactions {
        let operation = json!({"op": "update", "table": "t", "where": [["name", "==", name]], "row": {"n": n}});
        let answer = client.transact(n, operation).await;
        assert_eq!(answer["result"][0]["count"], 1, "{answer}");
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn every_monitor_hears_of_every_transaction() {
    let (monitors, transactions) = (number("OVSDB_MONITORS", 300), number("OVSDB_TRANSACTIONS", 200));
    let (writers, deaf) = (number("OVSDB_WRITERS", 1), number("OVSDB_DEAF", 2));
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock");
    let (serving, clients) = (runtime(), runtime());
    let remote = format!("punix:{}", socket.display());
    let server = serving.block_on(Server::builder().memory_database(SCHEMA).remote(remote).start()).unwrap();
    let (written, told, updates) = clients.block_on(async {
        let mut first = Client::connect(&socket).await;
        for writer in 0..writers {
            let row = json!({"name": format!("x{writer}"), "n": 0});
            first.transact(writer, json!({"op": "insert", "table": "t", "row": row})).await;
        }
        let (mut following, mut silent) = (Vec::new(), Vec::new());
        for id in 0..monitors + deaf {
            let mut client = Client::connect(&socket).await;
            client.monitor(id).await;
            client.hear().await;
            if id < monitors {
                following.push(tokio::spawn(follow(client, writers, transactions / writers)));
            } else {
                silent.push(client);
            }
        }
        let start = Instant::now();
        let writing: Vec<_> = (0..writers).map(|w| tokio::spawn(write(socket.clone(), w, transactions / writers))).collect();
        for task in writing {
            task.await.unwrap();
        }
        let written = start.elapsed();
        let mut updates = 0;
        for task in following {
            let heard = tokio::time::timeout(Duration::from_secs(120), task).await.expect("every monitor is told").unwrap();
            assert!(heard >= 1 && heard <= transactions);
            updates += heard;
        }
        (written, start.elapsed(), updates)
    });
    let counters = server.counters();
    assert_eq!((counters.dropped_slow, counters.dropped_malformed), (0, 0));
    writeln!(
        std::io::stdout(),
        "{transactions} transactions of {writers} writers with {monitors} monitors and {deaf} deaf ones: written in {written:?} ({:.0}/s), all told in {told:?} by {updates} messages, {} MiB at most",
        transactions as f64 / written.as_secs_f64(),
        peak_mib()
    )
    .unwrap();
    serving.block_on(server.stop());
}
