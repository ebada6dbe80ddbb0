//! Raw JSON-RPC to an OVSDB server: one connection, no reconnection. What `ovsdb-client` is made of.

use super::{ClientError, Stream, open};
use crate::json::Splitter;
use crate::message::Message;
use crate::remote::Remote;
use crate::schema::Schema;
use crate::tls::Tls;
use serde_json::Value;
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Notifications kept while a reply is awaited; more than these means a server gone mad.
const QUEUE_MAX: usize = 100_000;

/// One connection to a server.
pub struct RpcClient {
    stream: Box<dyn Stream>,
    splitter: Splitter,
    /// Messages that came while a reply was awaited.
    queue: VecDeque<Message>,
    next_id: u64,
}

impl std::fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcClient").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl RpcClient {
    /// Connects to `unix:FILE`, `tcp:HOST[:PORT]`, `ssl:HOST[:PORT]`, or the first of a comma-separated list of these that answers.
    /// Without TLS; see [`RpcClient::connect_with`].
    pub async fn connect(remotes: &str) -> Result<Self, ClientError> {
        Self::connect_with(remotes, &None).await
    }

    /// Connects, with TLS where a remote asks for it.
    pub async fn connect_with(remotes: &str, tls: &Tls) -> Result<Self, ClientError> {
        let mut last = ClientError::Eof;
        for remote in remotes.split(',') {
            match open(&Remote::parse(remote)?, tls).await {
                Ok(stream) => return Ok(Self::over(stream)),
                Err(e) => last = e.into(),
            }
        }
        Err(last)
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, splitter: Splitter::new(), queue: VecDeque::new(), next_id: 0 }
    }

    /// Sends a request; resolves to its `result`, or to [`ClientError::Refused`] with its `error`.
    pub async fn request(&mut self, method: &str, params: Vec<Value>) -> Result<Value, ClientError> {
        let id = Value::from(self.next_id);
        self.next_id += 1;
        self.send(&Message::Request { method: method.to_owned(), params, id: id.clone() }).await?;
        loop {
            match self.read().await? {
                Message::Reply { id: got, result } if got == id => return Ok(result),
                Message::Error { id: got, error } if got == id => {
                    return Err(ClientError::Refused(error));
                }
                _ if self.queue.len() >= QUEUE_MAX => {
                    return Err(ClientError::Malformed("too many notifications".into()));
                }
                other @ (Message::Request { .. }
                | Message::Notification { .. }
                | Message::Reply { .. }
                | Message::Error { .. }) => self.queue.push_back(other),
            }
        }
    }

    /// Sends any message.
    pub async fn send(&mut self, message: &Message) -> Result<(), ClientError> {
        Ok(self.stream.write_all(message.to_json().to_string().as_bytes()).await?)
    }

    /// The next message that answers no [`RpcClient::request`]; probes of the server are answered on the way.
    pub async fn recv(&mut self) -> Result<Message, ClientError> {
        match self.queue.pop_front() {
            Some(message) => Ok(message),
            None => self.read().await,
        }
    }

    /// A message that came while a reply was awaited, if there is one.
    pub fn take_queued(&mut self) -> Option<Message> {
        self.queue.pop_front()
    }

    async fn read(&mut self) -> Result<Message, ClientError> {
        loop {
            while let Some(value) = self.splitter.next_value().map_err(|e| ClientError::Malformed(e.to_string()))? {
                match Message::from_json(value).map_err(ClientError::Malformed)? {
                    Message::Request { method, params, id } if method == "echo" => {
                        self.send(&Message::Reply { id, result: Value::Array(params) }).await?;
                    }
                    message @ (Message::Request { .. }
                    | Message::Notification { .. }
                    | Message::Reply { .. }
                    | Message::Error { .. }) => return Ok(message),
                }
            }
            let mut chunk = vec![0; 64 << 10];
            match self.stream.read(&mut chunk).await? {
                0 => return Err(ClientError::Eof),
                n => self.splitter.push(&chunk[..n]),
            }
        }
    }

    /// Names of the databases, sorted.
    pub async fn list_dbs(&mut self) -> Result<Vec<String>, ClientError> {
        let reply = self.request("list_dbs", Vec::new()).await?;
        let mut names: Vec<String> =
            reply.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// The schema of a database.
    pub async fn schema(&mut self, database: &str) -> Result<Schema, ClientError> {
        let reply = self.request("get_schema", vec![database.into()]).await?;
        Ok(Schema::from_json(&reply)?)
    }

    /// Executes operations (RFC 7047 section 4.1.3); one result per operation, and a further one if the commit failed.
    pub async fn transact(&mut self, database: &str, operations: Vec<Value>) -> Result<Vec<Value>, ClientError> {
        let params = std::iter::once(Value::from(database)).chain(operations).collect();
        let reply = self.request("transact", params).await?;
        if let Value::Array(results) = reply {
            return Ok(results);
        }
        Err(ClientError::Malformed("transact reply is no array".into()))
    }
}
