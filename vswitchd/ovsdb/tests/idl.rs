//! The client against our server, and against Debian's ovsdb-server.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, clippy::too_many_lines, reason = "tests")]

#[path = "common/mod.rs"]
mod common;

use common::{Oracle, serve, within};
use ovsdb::client::blocking::BlockingIdl;
use ovsdb::schema::VSWITCH_SCHEMA;
use ovsdb::{Datum, Event, Idl, IdlConfig, Outcome, Txn};
use std::time::Duration;

const DB: &str = "Open_vSwitch";

async fn sync(idl: &mut Idl) {
    while !idl.is_synced() {
        within(idl.next()).await;
    }
}

async fn committed(idl: &mut Idl, txn: &Txn) -> ovsdb::client::txn::Committed {
    match within(idl.commit(txn)).await {
        Outcome::Committed(committed) => committed,
        other => panic!("{other:?}"),
    }
}

fn config(remote: &str) -> IdlConfig {
    IdlConfig::new(remote, DB).backoff(Duration::from_millis(20), Duration::from_millis(50))
}

/// The life of a bridge as the daemon and ovs-vsctl live it, against any server.
async fn bridge_life(remote: &str) {
    let mut idl = Idl::start(config(remote).lock("ovs_vswitchd")).unwrap();
    sync(&mut idl).await;
    while !idl.has_lock() {
        within(idl.next()).await;
    }
    let mut txn = Txn::new();
    let root = txn.insert(DB, [("external_ids", Datum::map([("a", "b")]))]);
    let bridge = txn.insert("Bridge", [("name", Datum::from("br0")), ("no_such_column", Datum::from(1i64))]);
    txn.add_to(DB, root, "bridges", Datum::from(bridge));
    txn.comment("made by a test");
    let done = committed(&mut idl, &txn).await;
    let row = idl.replica().find("Bridge", "name", "br0").unwrap();
    assert_eq!(done.uuid(&bridge), Some(row.uuid()));
    let root = idl.replica().first(DB).unwrap();
    assert_eq!(idl.replica().refs(&root, "bridges"), std::slice::from_ref(&row));
    assert_eq!(root.key("external_ids", "a"), Some("b"));

    let mut txn = Txn::new();
    txn.increment(DB, root.uuid(), "next_cfg");
    txn.set_changed(&row, [("datapath_type", Datum::from("netdev")), ("fail_mode", Datum::empty_set())]);
    assert_eq!(committed(&mut idl, &txn).await.incremented, Some(1));
    let row = idl.replica().find("Bridge", "name", "br0").unwrap();
    assert_eq!(row.str("datapath_type"), "netdev");

    // Another client changes what this one verified.
    let mut other = Idl::start(config(remote)).unwrap();
    sync(&mut other).await;
    let mut txn = Txn::new();
    txn.update("Bridge", row.uuid(), [("datapath_type", Datum::from("system"))]);
    committed(&mut other, &txn).await;
    let mut txn = Txn::new();
    txn.verify(&row, &["datapath_type"]);
    txn.update("Bridge", row.uuid(), [("stp_enable", Datum::from(true))]);
    assert!(matches!(within(idl.commit(&txn)).await, Outcome::TryAgain));

    // A second contender for the lock has to wait for the first to go.
    let mut second = Idl::start(config(remote).lock("ovs_vswitchd")).unwrap();
    sync(&mut second).await;
    assert!(!second.has_lock());
    let mut txn = Txn::new();
    txn.update("Bridge", row.uuid(), [("stp_enable", Datum::from(true))]);
    assert!(matches!(within(second.commit(&txn)).await, Outcome::NotLocked));
    drop(idl);
    while !second.has_lock() {
        within(second.next()).await;
    }
    committed(&mut second, &txn).await;

    let mut txn = Txn::new();
    txn.remove_from(DB, root.uuid(), "bridges", Datum::from(row.uuid()));
    committed(&mut second, &txn).await;
    assert!(second.replica().row("Bridge", &row.uuid()).is_none());
    let mut txn = Txn::new();
    txn.update(DB, root.uuid(), [("next_cfg", Datum::from("text"))]);
    assert!(matches!(within(second.commit(&txn)).await, Outcome::Failed(t) if t.contains("expected integer")));
}

#[tokio::test]
async fn lives_with_our_server() {
    let (_server, remote, _dir) = serve(VSWITCH_SCHEMA).await;
    bridge_life(&remote).await;
}

#[tokio::test]
async fn lives_with_debians_server() {
    let oracle = Oracle::start(&[]);
    bridge_life(&oracle.remote).await;
}

#[tokio::test]
async fn falls_back_to_older_monitors() {
    let oracle = Oracle::start(&["ovsdb-server/disable-monitor-cond"]);
    bridge_life(&oracle.remote).await;
}

/// A server that goes and comes back is followed; what changed meanwhile is reported, no more.
#[tokio::test]
async fn survives_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let remote = format!("punix:{}/db.sock", dir.path().display());
    let start = || ovsdb::Server::builder().database(dir.path().join("conf.db"), VSWITCH_SCHEMA).remote(&*remote).start();
    let server = start().await.unwrap();
    let mut idl = Idl::start(config(&remote[1..])).unwrap();
    sync(&mut idl).await;
    let mut txn = Txn::new();
    let root = txn.insert(DB, [("next_cfg", Datum::from(3i64))]);
    let root = committed(&mut idl, &txn).await.uuid(&root).unwrap();
    server.stop().await;
    while idl.is_synced() {
        within(idl.next()).await;
    }
    assert_eq!(idl.replica().first(DB).unwrap().int("next_cfg"), Some(3));
    let server = start().await.unwrap();
    let mut other = Idl::start(config(&remote[1..])).unwrap();
    sync(&mut other).await;
    let mut txn = Txn::new();
    txn.update(DB, root, [("next_cfg", Datum::from(4i64))]);
    committed(&mut other, &txn).await;
    let mut seen = Vec::new();
    while idl.replica().first(DB).unwrap().int("next_cfg") != Some(4) {
        if let Event::Synced(c) | Event::Changed(c) = within(idl.next()).await {
            seen.extend(c);
        }
    }
    drop(idl.next());
    assert!(seen.iter().all(|c| c.table == DB), "{seen:?}");
    server.stop().await;
}

/// A client that comes back is sent everything, also if nothing happened: it counts on being told of each row anew.
#[tokio::test]
async fn who_comes_back_is_told_everything() {
    let (_server, remote, _dir) = serve(VSWITCH_SCHEMA).await;
    let mut client = ovsdb::RpcClient::connect(&remote).await.unwrap();
    let insert = serde_json::json!({"op": "insert", "table": DB, "row": {"next_cfg": 7}});
    client.transact(DB, vec![insert]).await.unwrap();
    let requests = serde_json::json!({DB: [{"columns": ["next_cfg"]}]});
    let zero = "00000000-0000-0000-0000-000000000000";
    let mut since = zero.to_owned();
    for id in ["a", "b"] {
        let params = vec![DB.into(), id.into(), requests.clone(), since.as_str().into()];
        let reply = client.request("monitor_cond_since", params).await.unwrap();
        assert_eq!((&reply[0], &reply[1]), (&false.into(), &zero.into()));
        let row = reply[2][DB].as_object().unwrap().values().next().unwrap();
        assert_eq!(*row, serde_json::json!({"initial": {"next_cfg": 7}}));
        reply[1].as_str().unwrap().clone_into(&mut since);
    }
}

#[test]
fn tools_need_no_async() {
    let oracle = Oracle::start(&[]);
    let limit = Some(Duration::from_secs(10));
    let mut idl = BlockingIdl::start(config(&oracle.remote).table(DB)).unwrap();
    idl.wait_synced(false, limit).unwrap();
    let mut txn = Txn::new();
    txn.insert(DB, [("next_cfg", Datum::from(1i64))]);
    assert!(matches!(idl.commit(&txn, limit), Ok(Outcome::Committed(_))));
    idl.wait_until(|r| r.first(DB).is_some_and(|row| row.int("next_cfg") == Some(1)), limit).unwrap();
    let mut client = ovsdb::client::blocking::Client::connect(&oracle.remote, limit).unwrap();
    assert_eq!(client.list_dbs().unwrap(), ["Open_vSwitch", "_Server"]);
    assert_eq!(client.schema(DB).unwrap().version, "8.8.0");
    assert!(BlockingIdl::start(config("unix:/nonexistent")).unwrap().wait_synced(false, limit).is_err());
}
