//! `ovsdb-client wait`: until a database is there, ready, or gone. A server that does not answer yet is tried again.

use super::{Call, server};
use crate::fault::Fault;
use ovsdb::RpcClient;
use serde_json::{Value as Json, json};
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(200);

pub(super) async fn run(call: &Call<'_>) -> Result<u8, Fault> {
    let state = call.word(1);
    if !["added", "connected", "removed"].contains(&state) {
        return Err(Fault::say(format!("{state}: unknown state")));
    }
    loop {
        if let Ok(mut client) = server::connect(call).await
            && follow(&mut client, call.word(0), state).await.is_some()
        {
            return Ok(0);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Something when the state is reached, nothing when the connection ended before.
async fn follow(client: &mut RpcClient, database: &str, state: &str) -> Option<()> {
    let _ = client.request("set_db_change_aware", vec![true.into()]).await;
    let requests = json!({"Database": [{"columns": ["name", "connected"]}]});
    client.request("monitor", vec!["_Server".into(), Json::Null, requests]).await.ok()?;
    loop {
        if reached(client, database, state).await? {
            return Some(());
        }
        client.recv().await.ok()?;
    }
}

async fn reached(client: &mut RpcClient, database: &str, state: &str) -> Option<bool> {
    let select = json!({"op": "select", "table": "Database", "where": [["name", "==", database]], "columns": ["connected"]});
    let results = client.transact("_Server", vec![select]).await.ok()?;
    let rows = results.first()?.get("rows")?.as_array()?;
    Some(match state {
        "removed" => rows.is_empty(),
        "added" => !rows.is_empty(),
        _ => rows.iter().any(|row| row.get("connected") == Some(&Json::Bool(true))),
    })
}
