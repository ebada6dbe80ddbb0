//! One client's connection: bytes in, messages to the core, text out.

use super::Shared;
use super::outbox::{Outbox, Outgoing, Output, outbox};
use super::peer::Peer;
use crate::json::Splitter;
use crate::message::Message;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

/// Connections served at once.
pub const SESSIONS_MAX: usize = 10_000;
/// How long the last answers may take to leave after the client has ended its side.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// Messages taken from one client before others get a turn.
const BURST_MAX: usize = 64;

/// Serves one client until it goes, misbehaves, falls silent (if it is probed), or the server stops.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Send>(shared: Arc<Shared>, stream: S, peer: Peer) {
    let probe = peer.probe;
    let (out, output) = outbox();
    let session = {
        let mut core = shared.core();
        if core.session_count() >= SESSIONS_MAX {
            core.counters.refused_sessions += 1;
            tracing::warn!(target: "ovsdb_jsonrpc_server", "refusing connection: {SESSIONS_MAX} clients are connected");
            return;
        }
        core.open_session(out.clone(), peer, Instant::now())
    };
    let (reader, writer) = tokio::io::split(stream);
    let mut write = std::pin::pin!(write(&shared, session, writer, output));
    let (ended, flush) = tokio::select! {
        ended = read(&shared, session, reader, &out, probe) => (ended, true),
        () = &mut write => (Ok(()), false),
        () = out.closed() => (Ok(()), out.may_flush()),
        () = shared.stopped() => (Ok(()), false),
    };
    shared.core().close_session(session);
    drop(out);
    if flush {
        // What was answered before the client ended its side still goes out, if the client takes it.
        let _ = timeout(FLUSH_MAX, write).await;
    }
    if let Err(reason) = ended {
        tracing::warn!(target: "jsonrpc", "session {session}: {reason}");
    }
}

async fn read<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    session: u64,
    mut reader: R,
    out: &Outbox,
    probe: Option<Duration>,
) -> Result<(), String> {
    let mut splitter = Splitter::new();
    let mut chunk = vec![0; 64 << 10];
    let mut probed = false;
    loop {
        let mut taken = 0;
        while let Some(value) = splitter.next_value().map_err(|e| malformed(shared, &e.to_string()))? {
            let message = Message::from_json(value).map_err(|e| malformed(shared, &e))?;
            let effects = shared.core().receive(session, message, Instant::now());
            shared.perform(effects.map_err(|e| malformed(shared, &e))?);
            out.drained().await;
            taken += 1;
            if taken % BURST_MAX == 0 {
                tokio::task::yield_now().await;
            }
        }
        let received = match probe {
            None => reader.read(&mut chunk).await,
            Some(interval) => match timeout(interval, reader.read(&mut chunk)).await {
                Ok(received) => received,
                Err(_) if probed => {
                    return Err(format!("no response to inactivity probe after {interval:?}, disconnecting"));
                }
                Err(_) => {
                    probed = true;
                    out.push(Outgoing::Own(r#"{"id":"echo","method":"echo","params":[]}"#.into()));
                    continue;
                }
            },
        };
        match received {
            // A reset is an ordinary way for a client to end.
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) => splitter.push(&chunk[..n]),
        }
        probed = false;
    }
}

fn malformed(shared: &Arc<Shared>, reason: &str) -> String {
    shared.core().counters.dropped_malformed += 1;
    reason.to_owned()
}

/// Writes what is queued, many messages with one call, until the session or the connection ends.
async fn write<W: AsyncWrite + Unpin>(shared: &Arc<Shared>, session: u64, mut writer: W, mut output: Output) {
    let mut batch = Vec::new();
    while output.next(&mut batch).await {
        if write_batch(shared, session, (&mut writer, &output), &batch).await.is_err() {
            return;
        }
        batch.clear();
    }
}

async fn write_batch<W: AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    session: u64,
    (writer, output): (&mut W, &Output),
    batch: &[Outgoing],
) -> std::io::Result<()> {
    let parts = batch.iter().flat_map(Outgoing::parts).filter(|part| !part.is_empty());
    let mut slices: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let n = writer.write_vectored(rest).await?;
        if n == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, n);
        if rest.is_empty() {
            // TLS may hold back what the socket did not take.
            writer.flush().await?;
        }
        if output.written(n) {
            shared.rejoin(session);
        }
    }
    Ok(())
}
