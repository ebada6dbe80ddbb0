//! The clients without async, for command-line tools: each owns a runtime that runs while a call waits.

use super::ClientError;
use super::idl::{Event, Idl, IdlConfig};
use super::replica::Replica;
use super::rpc::RpcClient;
use super::txn::{Outcome, Txn};
use crate::message::Message;
use crate::schema::Schema;
use crate::tls::Tls;
use serde_json::Value;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs `future`, for at most `limit` if given.
fn run<T>(runtime: &Runtime, limit: Option<Duration>, future: impl Future<Output = T>) -> Result<T, ClientError> {
    runtime.block_on(async {
        match limit {
            Some(limit) => tokio::time::timeout(limit, future).await.map_err(|_| ClientError::Timeout),
            None => Ok(future.await),
        }
    })
}

/// [`RpcClient`] without async.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    client: RpcClient,
    limit: Option<Duration>,
}

impl Client {
    /// Connects; `limit` bounds this and every later call.
    pub fn connect(remotes: &str, limit: Option<Duration>) -> Result<Self, ClientError> {
        Self::connect_with(remotes, &None, limit)
    }

    /// The same with TLS where a remote asks for it.
    pub fn connect_with(remotes: &str, tls: &Tls, limit: Option<Duration>) -> Result<Self, ClientError> {
        let runtime = runtime()?;
        let client = run(&runtime, limit, RpcClient::connect_with(remotes, tls))??;
        Ok(Self { runtime, client, limit })
    }

    /// See [`RpcClient::request`].
    pub fn request(&mut self, method: &str, params: Vec<Value>) -> Result<Value, ClientError> {
        run(&self.runtime, self.limit, self.client.request(method, params))?
    }

    /// See [`RpcClient::send`].
    pub fn send(&mut self, message: &Message) -> Result<(), ClientError> {
        run(&self.runtime, self.limit, self.client.send(message))?
    }

    /// See [`RpcClient::recv`]; not bounded by the limit.
    pub fn recv(&mut self) -> Result<Message, ClientError> {
        run(&self.runtime, None, self.client.recv())?
    }

    /// See [`RpcClient::list_dbs`].
    pub fn list_dbs(&mut self) -> Result<Vec<String>, ClientError> {
        run(&self.runtime, self.limit, self.client.list_dbs())?
    }

    /// See [`RpcClient::schema`].
    pub fn schema(&mut self, database: &str) -> Result<Schema, ClientError> {
        run(&self.runtime, self.limit, self.client.schema(database))?
    }

    /// See [`RpcClient::transact`].
    pub fn transact(&mut self, database: &str, operations: Vec<Value>) -> Result<Vec<Value>, ClientError> {
        run(&self.runtime, self.limit, self.client.transact(database, operations))?
    }
}

/// [`Idl`] without async. The connection is served only while a call waits.
#[derive(Debug)]
pub struct BlockingIdl {
    // Dropped before the runtime that its task runs on.
    idl: Idl,
    runtime: Runtime,
}

impl BlockingIdl {
    /// Starts following.
    pub fn start(config: IdlConfig) -> Result<Self, ClientError> {
        let runtime = runtime()?;
        let idl = {
            let _within = runtime.enter();
            Idl::start(config)?
        };
        Ok(Self { idl, runtime })
    }

    /// The replica, as of the last call that waited.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        self.idl.replica()
    }

    /// See [`Idl::has_lock`].
    #[must_use]
    pub fn has_lock(&self) -> bool {
        self.idl.has_lock()
    }

    /// Waits for the next event; `None` if none comes within `limit`.
    pub fn next(&mut self, limit: Option<Duration>) -> Option<Event> {
        run(&self.runtime, limit, self.idl.next()).ok()
    }

    /// Waits until the replica holds the database's contents. Errors: a connection that ends or cannot be made, unless
    /// `retry` is set; the time is over.
    pub fn wait_synced(&mut self, retry: bool, limit: Option<Duration>) -> Result<(), ClientError> {
        let idl = &mut self.idl;
        run(&self.runtime, limit, async {
            while !idl.is_synced() {
                match idl.next().await {
                    Event::Disconnected(reason) if !retry => {
                        return Err(ClientError::Malformed(reason));
                    }
                    Event::Disconnected(_) | Event::Synced(_) | Event::Changed(_) | Event::Done(..) | Event::Lock(_) => {}
                }
            }
            Ok(())
        })?
    }

    /// See [`Idl::commit`].
    pub fn commit(&mut self, txn: &Txn, limit: Option<Duration>) -> Result<Outcome, ClientError> {
        run(&self.runtime, limit, self.idl.commit(txn))
    }

    /// Waits until `holds` says yes of the replica (`ovs-vsctl` waits so for `cur_cfg`).
    pub fn wait_until(&mut self, mut holds: impl FnMut(&Replica) -> bool, limit: Option<Duration>) -> Result<(), ClientError> {
        let deadline = limit.map(|l| Instant::now() + l);
        while !holds(self.idl.replica()) {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            run(&self.runtime, left, self.idl.next())?;
        }
        Ok(())
    }
}
