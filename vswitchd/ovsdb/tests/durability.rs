//! The file: what Debian's ovsdb-tool makes of ours and we of its, torn tails, kill -9, and who may open it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

#[path = "common/mod.rs"]
mod common;

use common::{run, serve, tool, within};
use ovsdb::client::blocking::Client;
use ovsdb::journal;
use ovsdb::schema::VSWITCH_SCHEMA;
use ovsdb::store::Store;
use ovsdb::{RpcClient, Schema, Server};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const DB: &str = "Open_vSwitch";

fn all_rows(table: &str) -> Value {
    json!({"op": "select", "table": table, "where": []})
}

fn comparable(mut rows: Value) -> String {
    for row in rows.as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("_version");
    }
    rows.as_array_mut().unwrap().sort_by_key(ovsdb::json::to_sorted);
    ovsdb::json::to_sorted(&rows)
}

#[tokio::test]
async fn ovsdb_tool_reads_our_file_and_we_read_its() {
    let (server, remote, dir) = serve(VSWITCH_SCHEMA).await;
    let db = format!("--db={remote}");
    let vsctl = |args: &'static str| {
        let mut all = vec![db.clone(), "--no-wait".into(), "--timeout=5".into()];
        all.extend(args.split(' ').map(str::to_owned));
        async move { run("ovs-vsctl", &all.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    vsctl("add-br br0 -- set bridge br0 other_config:a=b other_config:c=d fail_mode=secure").await;
    vsctl("add-bond br0 bond0 eth0 eth1 -- set port bond0 trunks=1,2,3 bond_mode=balance-tcp").await;
    vsctl("remove bridge br0 other_config a -- set port bond0 trunks=3,4 -- add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=10.0.0.1").await;
    vsctl("--id=@m create mirror name=m0 -- add bridge br0 mirrors @m -- --id=@p get port vx0 -- set mirror m0 output_port=@p")
        .await;
    vsctl("del-port vx0").await;
    let file = dir.path().join("conf.db").display().to_string();
    let (log, err, ok) = tool("ovsdb-tool", &["-mm", "show-log", &file]);
    assert!(ok, "{err}");
    assert!(log.contains("add-bond br0 bond0 eth0 eth1"), "{log}");
    let mut client = RpcClient::connect(&remote).await.unwrap();
    let schema = Schema::from_text(VSWITCH_SCHEMA).unwrap();
    let check = |ours: Vec<Value>| {
        let query = Value::Array(std::iter::once(DB.into()).chain(schema.tables.iter().map(|t| all_rows(&t.name))).collect());
        let (out, err, ok) = tool("ovsdb-tool", &["query", &file, &query.to_string()]);
        assert!(ok, "{err}");
        let theirs: Vec<Value> = serde_json::from_str(&out).unwrap();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(comparable(ours["rows"].clone()), comparable(theirs["rows"].clone()));
        }
    };
    let query = || schema.tables.iter().map(|t| all_rows(&t.name)).collect::<Vec<_>>();
    check(client.transact(DB, query()).await.unwrap());
    let before = std::fs::metadata(&file).unwrap().len();
    server.compact().unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() < before);
    check(client.transact(DB, query()).await.unwrap());
    vsctl("add-port br0 after-compaction").await;
    check(client.transact(DB, query()).await.unwrap());
    drop(client);
    server.stop().await;
    // The other way round: ovsdb-tool adds a record, we read it.
    let add =
        json!([DB, {"op": "update", "table": "Port", "where": [["name", "==", "bond0"]], "row": {"trunks": ["set", [9, 4]]}}]);
    let (_, err, ok) = tool("ovsdb-tool", &["transact", &file, &add.to_string()]);
    assert!(ok, "{err}");
    let db = Store::read(Path::new(&file)).unwrap();
    let t = db.schema().table("Port").unwrap();
    let c = |name: &str| db.schema().tables[t].column(name).unwrap();
    let bond = db.rows(t).find(|(_, row)| row.fields[c("name")].as_str() == Some("bond0")).unwrap().1;
    assert_eq!(bond.fields[c("trunks")].ints().collect::<Vec<_>>(), [4, 9]);
}

/// Cut anywhere: what is left are the transactions that are whole, and the server goes on from there.
#[test]
fn torn_tails_keep_the_good_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("conf.db");
    let text = r#"{"name": "t", "version": "1.0.0", "tables": {"x": {"columns": {"n": {"type": "integer"}}}}}"#;
    let schema = Arc::new(Schema::from_text(text).unwrap());
    let mut store = Store::create(&path, schema).unwrap();
    let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
    for n in 0..5 {
        let mut txn = ovsdb::db::Txn::new(store.db());
        let mut row = ovsdb::db::Row::new(&store.db().schema().tables[0], uuid::Uuid::new_v4());
        row.fields[2] = ovsdb::Datum::from(i64::from(n));
        txn.insert(0, row);
        let commit = txn.prepare().unwrap();
        store.commit(&commit, 0).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let first = usize::try_from(ends[0]).unwrap();
    for cut in first..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let expect = ends.iter().skip(1).filter(|end| **end <= cut as u64).count();
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.db().len(0), expect, "cut at {cut}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), ends[expect]);
        if cut % 7 == 0 {
            let mut txn = ovsdb::db::Txn::new(store.db());
            txn.insert(0, ovsdb::db::Row::new(&store.db().schema().tables[0], uuid::Uuid::new_v4()));
            let commit = txn.prepare().unwrap();
            store.commit(&commit, 0).unwrap();
            drop(store);
            assert_eq!(Store::open(&path).unwrap().db().len(0), expect + 1);
        }
    }
    // Damage in the middle is no torn tail: the rest is put aside, not thrown away.
    let mut bad = whole.clone();
    let at = usize::try_from(ends[2]).unwrap() + 60;
    bad[at] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let contents = journal::read(&path).unwrap();
    let damage = contents.damage.unwrap();
    assert_eq!((damage.record, damage.offset), (3, ends[2]));
    assert!(damage.reason.contains("SHA-1"), "{}", damage.reason);
    assert_eq!(Store::open(&path).unwrap().db().len(0), 2);
    let aside = std::fs::read(dir.path().join(format!("conf.db.damaged-at-{}", ends[2]))).unwrap();
    assert_eq!(aside, bad[usize::try_from(ends[2]).unwrap()..]);
    // A file that is no database is refused and left alone.
    std::fs::write(&path, "hello\n").unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("unexpected file format"));
    assert_eq!(std::fs::read(&path).unwrap(), b"hello\n");
}

/// The server of `kill_9_loses_nothing`, in a process of its own: this test, called by it.
#[test]
fn child_serves_until_killed() {
    let Ok(dir) = std::env::var("OVSDB_CHILD_DIR") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = |name: &str| format!("{dir}/{name}");
        let builder = Server::builder().database(path("conf.db"), VSWITCH_SCHEMA);
        let _server = builder.remote(format!("punix:{}", path("db.sock"))).start().await.unwrap();
        let _ = writeln!(std::io::stdout(), "\nready");
        std::future::pending::<()>().await;
    });
}

#[test]
fn kill_9_loses_nothing() {
    let rounds = std::env::var("OVSDB_KILLS").ok().and_then(|s| s.parse().ok()).unwrap_or(15);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("conf.db");
    let mut acknowledged = 0;
    for round in 0_u64..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_serves_until_killed", "--exact", "--nocapture"])
            .env("OVSDB_CHILD_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|l| l.unwrap() == "ready"), "the child did not start");
        let remote = format!("unix:{}", dir.path().join("db.sock").display());
        let mut client = Client::connect(&remote, Some(Duration::from_secs(10))).unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5 + round * 7 % 40));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        // A QoS row lives without being referred to.
        let insert = |n: u64| json!({"op": "insert", "table": "QoS", "row": {"type": n.to_string()}});
        let durable = json!({"op": "commit", "durable": true});
        while client.transact(DB, vec![insert(acknowledged), durable.clone()]).is_ok() {
            acknowledged += 1;
        }
        killer.join().unwrap();
        let db = Store::read(&file).unwrap();
        let t = db.schema().table("QoS").unwrap();
        let c = db.schema().tables[t].column("type").unwrap();
        let mut found: Vec<u64> = db.rows(t).map(|(_, row)| row.fields[c].as_str().unwrap().parse().unwrap()).collect();
        found.sort_unstable();
        found.dedup();
        // The transaction that was under way may have made it; then the next round repeats its number.
        let present = found.len() as u64;
        assert!(present == acknowledged || present == acknowledged + 1, "{present} of {acknowledged} present");
        assert_eq!(found, (0..present).collect::<Vec<_>>());
        let (_, err, ok) = tool("ovsdb-tool", &["show-log", &file.display().to_string()]);
        assert!(ok || err.contains("unexpected end"), "{err}");
    }
    assert!(acknowledged > rounds, "only {acknowledged} transactions in {rounds} rounds");
}

#[tokio::test]
async fn one_file_has_one_owner() {
    let (server, _remote, dir) = serve(VSWITCH_SCHEMA).await;
    let file = dir.path().join("conf.db");
    let second = Server::builder().existing_database(&file).start().await.unwrap_err().to_string();
    assert!(second.contains("failed to lock lockfile"), "{second}");
    // Also after the failed attempt, and for another program.
    let (_, err, ok) = tool("ovsdb-tool", &["compact", &file.display().to_string()]);
    assert!(!ok && err.contains("failed to lock lockfile"), "{err}");
    server.stop().await;
    within(Server::builder().existing_database(&file).start()).await.unwrap().stop().await;
}
