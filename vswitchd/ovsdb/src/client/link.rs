//! A connection that comes back: a task that connects, reads and writes, and starts over when the connection ends.
//!
//! What enters: messages to send, tagged with the connection they are meant for, so that nothing meant for an old
//! connection reaches a new one. What leaves: [`LinkEvent`]s in order. The back-off is ovsdb-cs's: one second, doubled up
//! to eight.

use super::{Stream, open};
use crate::json::Splitter;
use crate::message::Message;
use crate::remote::Remote;
use crate::tls::Tls;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Silence after which a TCP server is probed, unless told otherwise; after as much again the connection is given up.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Messages read ahead of their consumer.
const AHEAD_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A connection is up; messages for it carry this number.
    Up(u64),
    /// Something other than a probe arrived.
    Message(Message),
    /// The connection (or the attempt to make one) ended.
    Down(String),
}

#[derive(Debug)]
pub(crate) struct Link {
    events: mpsc::Receiver<LinkEvent>,
    outgoing: mpsc::UnboundedSender<(u64, String)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Starts the task. `remotes` are tried in turn.
    pub(crate) fn start(remotes: Vec<Remote>, tls: Tls, backoff: (Duration, Duration), probe: Duration) -> Self {
        let (event_sender, events) = mpsc::channel(AHEAD_MAX);
        let (outgoing, queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(run((remotes, tls), backoff, probe, event_sender, queue));
        Self { events, outgoing, task }
    }

    pub(crate) fn send(&self, connection: u64, message: &Message) {
        // Without a task there is no connection, which the events say.
        let _ = self.outgoing.send((connection, message.to_json().to_string()));
    }

    /// The next event; never resolves once the task has ended.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

async fn run(
    (remotes, tls): (Vec<Remote>, Tls),
    (first, last): (Duration, Duration),
    probe: Duration,
    events: mpsc::Sender<LinkEvent>,
    mut queue: mpsc::UnboundedReceiver<(u64, String)>,
) {
    let mut pause = first;
    let mut connection = 0;
    for remote in remotes.iter().cycle() {
        connection += 1;
        let reason = match timeout(last.max(Duration::from_secs(1)), open(remote, &tls)).await {
            Ok(Ok(stream)) => {
                tracing::info!(target: "reconnect", "{remote}: connected");
                pause = first;
                if events.send(LinkEvent::Up(connection)).await.is_err() {
                    return;
                }
                converse(stream, connection, (remote.needs_probes() && !probe.is_zero()).then_some(probe), &events, &mut queue)
                    .await
            }
            Ok(Err(e)) => format!("connection attempt failed ({e})"),
            Err(_) => "connection attempt timed out".to_owned(),
        };
        tracing::info!(target: "reconnect", "{remote}: {reason}");
        if events.send(LinkEvent::Down(reason)).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(last);
    }
}

/// Serves one connection until it ends; says why.
async fn converse(
    stream: Box<dyn Stream>,
    connection: u64,
    probes: Option<Duration>,
    events: &mpsc::Sender<LinkEvent>,
    queue: &mut mpsc::UnboundedReceiver<(u64, String)>,
) -> String {
    let (reader, mut writer) = tokio::io::split(stream);
    let (answers, mut answer_queue) = mpsc::unbounded_channel::<String>();
    let write = async {
        loop {
            let text = tokio::select! {
                Some(text) = answer_queue.recv() => text,
                Some((meant_for, text)) = queue.recv() => {
                    if meant_for != connection {
                        continue;
                    }
                    text
                }
                else => return "closed".to_owned(),
            };
            if let Err(e) = writer.write_all(text.as_bytes()).await {
                return format!("connection dropped ({e})");
            }
        }
    };
    tokio::select! {
        reason = read(reader, probes, events, &answers) => reason,
        reason = write => reason,
    }
}

/// Reads until the connection ends; says why. Probes are answered through `answers`.
async fn read(
    mut reader: tokio::io::ReadHalf<Box<dyn Stream>>,
    probes: Option<Duration>,
    events: &mpsc::Sender<LinkEvent>,
    answers: &mpsc::UnboundedSender<String>,
) -> String {
    let mut splitter = Splitter::new();
    let mut chunk = vec![0; 64 << 10];
    let mut probed = false;
    loop {
        let received = if let Some(interval) = probes {
            match timeout(interval, reader.read(&mut chunk)).await {
                Ok(received) => received,
                Err(_) if probed => return "no response to inactivity probe, disconnecting".into(),
                Err(_) => {
                    probed = true;
                    // The writer ends only together with this reader.
                    let _ = answers.send(r#"{"id":"echo","method":"echo","params":[]}"#.into());
                    continue;
                }
            }
        } else {
            reader.read(&mut chunk).await
        };
        match received {
            Ok(0) => return "connection closed by peer".into(),
            Ok(n) => splitter.push(&chunk[..n]),
            Err(e) => return format!("connection dropped ({e})"),
        }
        probed = false;
        loop {
            let message = match splitter.next_value() {
                Ok(None) => break,
                Ok(Some(value)) => Message::from_json(value),
                Err(e) => Err(e.to_string()),
            };
            match message {
                Ok(Message::Request { method, params, id }) if method == "echo" => {
                    let reply = Message::Reply { id, result: Value::Array(params) };
                    let _ = answers.send(reply.to_json().to_string());
                }
                Ok(Message::Reply { id, .. }) if id.as_str() == Some("echo") => {}
                Ok(message) => {
                    if events.send(LinkEvent::Message(message)).await.is_err() {
                        return "closed".into();
                    }
                }
                Err(e) => return e,
            }
        }
    }
}
