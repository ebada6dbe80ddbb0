//! Many monitors on one database while it changes quickly: everyone is told everything, and nobody is dropped.
//!
//! `OVSDB_MONITORS` and `OVSDB_TRANSACTIONS` change the numbers; the time it took is printed (`--nocapture`), and never judged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the time is printed, not judged")]

use ovsdb::Server;
use ovsdb::json::Splitter;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const SCHEMA: &str = r#"{"name": "d", "version": "1.0.0", "tables": {"t": {"isRoot": true, "columns": {
    "n": {"type": "integer"}, "name": {"type": "string"}}, "indexes": [["name"]]}}}"#;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

struct Client {
    stream: DuplexStream,
    splitter: Splitter,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let (stream, served) = tokio::io::duplex(64 << 10);
        server.serve(served);
        Self { stream, splitter: Splitter::new() }
    }

    async fn say(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(value) = self.splitter.next_value().unwrap() {
                return value;
            }
            let n = self.stream.read(&mut chunk).await.unwrap();
            assert!(n > 0, "the server hung up");
            self.splitter.push(&chunk[..n]);
        }
    }
}

fn transact(id: usize, operation: &Value) -> Value {
    json!({"id": id, "method": "transact", "params": ["d", operation]})
}

/// Follows the only row until its number is `last`; how many updates it took.
async fn follow(mut client: Client, last: usize) -> usize {
    let mut updates = 0;
    loop {
        let message = client.hear().await;
        if message["method"] != "update2" {
            continue;
        }
        updates += 1;
        let rows = message["params"][1]["t"].as_object().unwrap();
        if rows.values().any(|row| row["modify"]["n"] == json!(last)) {
            return updates;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_monitor_hears_of_every_transaction() {
    let (monitors, transactions) = (number("OVSDB_MONITORS", 300), number("OVSDB_TRANSACTIONS", 200));
    let server = Server::builder().memory_database(SCHEMA).start().await.unwrap();
    let mut writer = Client::connect(&server);
    writer.say(&transact(0, &json!({"op": "insert", "table": "t", "row": {"name": "x", "n": -1}}))).await;
    writer.hear().await;
    let mut following = Vec::new();
    for n in 0..monitors {
        let mut client = Client::connect(&server);
        let requests = json!({"t": [{"columns": ["name", "n"]}]});
        client.say(&json!({"id": n, "method": "monitor_cond", "params": ["d", n, requests]})).await;
        client.hear().await;
        following.push(tokio::spawn(follow(client, transactions)));
    }
    let start = Instant::now();
    for n in 1..=transactions {
        let operation = json!({"op": "update", "table": "t", "where": [["name", "==", "x"]], "row": {"n": n}});
        writer.say(&transact(n, &operation)).await;
        let answer = writer.hear().await;
        assert_eq!(answer["result"][0]["count"], 1, "{answer}");
    }
    let written = start.elapsed();
    for task in following {
        let updates = tokio::time::timeout(Duration::from_secs(120), task).await.expect("every monitor is told").unwrap();
        assert!(updates >= 1 && updates <= transactions);
    }
    let counters = server.counters();
    assert_eq!((counters.dropped_slow, counters.dropped_malformed), (0, 0));
    writeln!(
        std::io::stdout(),
        "{transactions} transactions with {monitors} monitors: written in {written:?}, all told in {:?}",
        start.elapsed()
    )
    .unwrap();
}
