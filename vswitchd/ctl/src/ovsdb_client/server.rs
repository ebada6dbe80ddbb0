//! Reaching the server, and choosing among its databases.

use super::Call;
use crate::fault::{Fault, errno_text, without_number};
use ovsdb::RpcClient;
use ovsdb::client::ClientError;

pub(super) async fn connect(call: &Call<'_>) -> Result<RpcClient, Fault> {
    let server = &call.server;
    let connected = RpcClient::connect_with(server, &call.options.process.tls.source()).await;
    connected.map_err(|error| Fault::say(format!("failed to connect to \"{server}\" ({})", reason(&error))))
}

/// Takes the database from the words if it is there, else the only sensible one.
pub(super) async fn choose_database(
    client: &mut RpcClient,
    call: &mut Call<'_>,
    (name, least): (&str, usize),
) -> Result<(), Fault> {
    let databases = client.list_dbs().await.map_err(|e| failed(call, &e))?;
    if call.words.len() > least && databases.contains(&call.words[0]) {
        call.database = call.words.remove(0);
        return Ok(());
    }
    let mut own = databases.iter().filter(|d| !d.starts_with('_'));
    call.database = match (databases.iter().find(|d| *d == "Open_vSwitch"), own.next(), own.next()) {
        (Some(usual), ..) => usual.clone(),
        (None, Some(only), None) => only.clone(),
        (None, ..) => {
            return Err(Fault::say(format!("no default database for `{name}' command, please specify a database name")));
        }
    };
    Ok(())
}

/// Why a request brought no reply.
pub(super) fn failed(call: &Call<'_>, error: &ClientError) -> Fault {
    let server = &call.server;
    if let ClientError::Refused(error) = error {
        return Fault::say(format!("{server}: server returned error: {}", ovsdb::json::to_sorted(error)));
    }
    Fault::say(format!("{server}: transaction failed ({})", reason(error)))
}

/// Why a transaction brought no results.
pub(super) fn refused(error: &ClientError) -> Fault {
    if let ClientError::Refused(error) = error {
        return Fault::say(format!("transaction returned error: {}", ovsdb::json::to_sorted(error)));
    }
    Fault::say(format!("transaction failed ({})", reason(error)))
}

/// An error in OVS's words.
pub(super) fn reason(error: &ClientError) -> String {
    if let ClientError::Io(error) = error {
        let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        return if reset { "End of file".to_owned() } else { errno_text(error) };
    }
    if matches!(error, ClientError::Eof) { "End of file".to_owned() } else { without_number(&error.to_string()) }
}
