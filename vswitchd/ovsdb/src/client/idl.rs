//! A client that follows a database: connects and reconnects, keeps a [`Replica`], holds a lock, commits transactions.
//!
//! ```no_run
//! # async fn f() -> Result<(), ovsdb::client::ClientError> {
//! use ovsdb::{Datum, Idl, IdlConfig, Txn, client::idl::Event};
//! let config = IdlConfig::new("unix:/var/run/openvswitch/db.sock", "Open_vSwitch").lock("ovs_vswitchd");
//! let mut idl = Idl::start(config)?;
//! loop {
//!     match idl.next().await {
//!         Event::Synced(changes) | Event::Changed(changes) => {
//!             for change in changes {
//!                 if let (None, Some(bridge)) = (&change.old, &change.new) {
//!                     println!("{} {}", change.table, bridge.str("name"));
//!                 }
//!             }
//!             if let (true, Some(root)) = (idl.has_lock(), idl.replica().first("Open_vSwitch")) {
//!                 let mut txn = Txn::new();
//!                 txn.set_changed(&root, [("ovs_version", Datum::from("3.7.1"))]);
//!                 idl.submit(&txn);
//!             }
//!         }
//!         Event::Done(ticket, outcome) => println!("{ticket:?}: {outcome:?}"),
//!         Event::Lock(held) => println!("lock held: {held}"),
//!         Event::Disconnected(reason) => println!("{reason}"),
//!     }
//! }
//! # }
//! ```
//!
//! The states of a connection: schema asked for; contents asked for, with the newest method first (`monitor_cond_since`,
//! then `monitor_cond`, then `monitor`: a server without one answers "unknown method"); synced. While the connection is
//! away the replica stays as it was; when it is back, what differs is reported as changes, so a consumer that applies
//! changes is right without knowing of connections.

use super::ClientError;
use super::leader::{self, Servers};
use super::link::{Link, LinkEvent, PROBE_INTERVAL};
use super::replica::{Change, Form, Replica};
use super::txn::{Outcome, Plan, Txn};
use crate::hash::Map;
use crate::json;
use crate::message::Message;
use crate::remote::Remote;
use crate::schema::{COL_FIRST, Schema};
use crate::tls::Tls;
use serde_json::{Value, json as object};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What to follow, and where.
#[derive(Clone, Debug)]
pub struct IdlConfig {
    remotes: String,
    database: String,
    tables: Option<Vec<(String, Option<Vec<String>>)>>,
    lock: Option<String>,
    backoff: (Duration, Duration),
    tls: Tls,
    leader_only: bool,
}

impl IdlConfig {
    /// Follows all tables of `database` at the first of the comma-separated `remotes` that answers.
    #[must_use]
    pub fn new(remotes: &str, database: &str) -> Self {
        Self {
            remotes: remotes.to_owned(),
            database: database.to_owned(),
            tables: None,
            lock: None,
            backoff: (Duration::from_secs(1), Duration::from_secs(8)),
            tls: None,
            leader_only: false,
        }
    }

    /// Follows only the tables named so, this one with all its columns.
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        self.tables.get_or_insert_default().push((table.to_owned(), None));
        self
    }

    /// Follows only the tables named so, this one with these columns.
    #[must_use]
    pub fn columns(mut self, table: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        self.tables.get_or_insert_default().push((table.to_owned(), Some(columns)));
        self
    }

    /// Wants this lock; every transaction then asserts it.
    #[must_use]
    pub fn lock(mut self, name: &str) -> Self {
        self.lock = Some(name.to_owned());
        self
    }

    /// Speaks TLS where a remote asks for it.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Stays only with the leader, where the database is a cluster's.
    #[must_use]
    pub fn leader_only(mut self) -> Self {
        self.leader_only = true;
        self
    }

    /// First and longest pause between attempts to connect.
    #[must_use]
    pub fn backoff(mut self, first: Duration, last: Duration) -> Self {
        self.backoff = (first, last.max(first));
        self
    }
}

/// Names a submitted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The replica holds the database's contents, for the first time on this connection; with what differs from before.
    Synced(Vec<Change>),
    /// Rows changed.
    Changed(Vec<Change>),
    /// A submitted transaction ended.
    Done(Ticket, Outcome),
    /// The lock was granted, or lost, or is held by another.
    Lock(bool),
    /// The connection ended, or could not be made. It is tried again.
    Disconnected(String),
}

/// Where a connection stands.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Away,
    /// The server was asked what it is, with this request id.
    Server(u64),
    /// The schema was asked for, with this request id.
    Schema(u64),
    /// The contents were asked for, with this request id, by this method.
    Contents(u64, Method),
    Synced(Method),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Since,
    Cond,
    Plain,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Since => "monitor_cond_since",
            Self::Cond => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    fn form(self) -> Form {
        match self {
            Self::Since | Self::Cond => Form::Two,
            Self::Plain => Form::One,
        }
    }

    /// The one to try where the server does not know this one.
    fn fallback(self) -> Option<Self> {
        match self {
            Self::Since => Some(Self::Cond),
            Self::Cond => Some(Self::Plain),
            Self::Plain => None,
        }
    }
}

/// A client that follows a database.
#[derive(Debug)]
pub struct Idl {
    config: IdlConfig,
    link: Link,
    connection: u64,
    state: State,
    servers: Servers,
    /// Servers given up: the next attempt begins with another one.
    given_up: usize,
    replica: Replica,
    /// Names the state of the replica, if the server names states.
    last_id: String,
    has_lock: bool,
    lock_request: Option<u64>,
    next_id: u64,
    pending: Map<u64, Plan>,
    events: VecDeque<Event>,
}

impl Idl {
    /// Starts following. Must be called within a tokio runtime. Errors: a malformed remote.
    pub fn start(config: IdlConfig) -> Result<Self, ClientError> {
        let remotes = config.remotes.split(',').map(Remote::parse).collect::<Result<Vec<_>, _>>()?;
        let link = Link::start(remotes, config.tls.clone(), config.backoff, PROBE_INTERVAL);
        let empty = Schema::from_json(&object!({"name": "none", "tables": {}}))?;
        Ok(Self {
            config,
            link,
            connection: 0,
            state: State::Away,
            servers: Servers::default(),
            given_up: 0,
            replica: Replica::new(Arc::new(empty)),
            last_id: Uuid::nil().to_string(),
            has_lock: false,
            lock_request: None,
            next_id: 1,
            pending: Map::default(),
            events: VecDeque::new(),
        })
    }

    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let event = self.link.next().await;
            self.step(event);
        }
    }

    /// The rows as the server last told them; empty before the first [`Event::Synced`].
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether the replica is being kept up to date right now.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        matches!(self.state, State::Synced(_))
    }

    /// Whether the lock asked for is held; true if none was asked for.
    #[must_use]
    pub fn has_lock(&self) -> bool {
        self.config.lock.is_none() || self.has_lock
    }

    /// Sends a transaction; its end comes as [`Event::Done`]. One that cannot be sent ends with [`Outcome::TryAgain`].
    pub fn submit(&mut self, txn: &Txn) -> Ticket {
        let id = self.take_id();
        if txn.is_empty() {
            self.events.push_back(Event::Done(Ticket(id), Outcome::Unchanged));
        } else if !self.has_lock() {
            self.events.push_back(Event::Done(Ticket(id), Outcome::NotLocked));
        } else if self.is_synced() {
            let (params, plan) = txn.to_params(self.replica.schema(), self.config.lock.as_deref());
            self.send(id, "transact", params);
            self.pending.insert(id, plan);
        } else {
            self.events.push_back(Event::Done(Ticket(id), Outcome::TryAgain));
        }
        Ticket(id)
    }

    /// Sends a transaction and waits for its end. Other events stay queued for [`Idl::next`]; the replica moves on, and
    /// when this returns [`Outcome::Committed`] it has the transaction's effects.
    pub async fn commit(&mut self, txn: &Txn) -> Outcome {
        let ticket = self.submit(txn);
        loop {
            let done = |e: &Event| matches!(e, Event::Done(t, _) if *t == ticket);
            if let Some(at) = self.events.iter().position(done)
                && let Some(Event::Done(_, outcome)) = self.events.remove(at)
            {
                return outcome;
            }
            let event = self.link.next().await;
            self.step(event);
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn send(&self, id: u64, method: &str, params: Vec<Value>) {
        let request = Message::Request { method: method.to_owned(), params, id: id.into() };
        self.link.send(self.connection, &request);
    }

    // ---- events of the link ----------------------------------------------------------------------------------------

    fn step(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(connection) => {
                self.connection = connection;
                self.servers = Servers::default();
                if self.config.leader_only {
                    let id = self.take_id();
                    self.state = State::Server(id);
                    self.send(id, "monitor_cond", leader::request());
                } else {
                    self.ask_schema();
                }
            }
            LinkEvent::Down(reason) => self.down(reason),
            LinkEvent::Message(Message::Reply { id, result }) => self.reply(id.as_u64(), Ok(result)),
            LinkEvent::Message(Message::Error { id, error }) => self.reply(id.as_u64(), Err(error)),
            LinkEvent::Message(Message::Notification { method, params }) => self.notification(&method, &params),
            LinkEvent::Message(Message::Request { method, id, .. }) => {
                tracing::debug!(target: "ovsdb_idl", "ignoring request {method} of the server");
                let refusal = Message::Error { id, error: "unknown method".into() };
                self.link.send(self.connection, &refusal);
            }
        }
    }

    fn ask_schema(&mut self) {
        let id = self.take_id();
        self.state = State::Schema(id);
        self.send(id, "get_schema", vec![self.config.database.as_str().into()]);
    }

    fn down(&mut self, reason: String) {
        self.state = State::Away;
        self.lock_request = None;
        if std::mem::take(&mut self.has_lock) {
            self.events.push_back(Event::Lock(false));
        }
        let mut lost: Vec<u64> = self.pending.drain().map(|(id, _)| id).collect();
        lost.sort_unstable();
        self.events.extend(lost.into_iter().map(|id| Event::Done(Ticket(id), Outcome::TryAgain)));
        self.events.push_back(Event::Disconnected(reason));
    }

    fn reply(&mut self, id: Option<u64>, result: Result<Value, Value>) {
        let Some(id) = id else { return };
        if let Some(plan) = self.pending.remove(&id) {
            let outcome = match result {
                Ok(Value::Array(results)) => plan.outcome(results),
                Ok(other) => Outcome::Failed(json::to_sorted(&other)),
                Err(error) => Outcome::Failed(super::txn::error_text(&error)),
            };
            self.events.push_back(Event::Done(Ticket(id), outcome));
        } else if self.lock_request == Some(id) {
            self.lock_request = None;
            let locked = result.is_ok_and(|r| r.get("locked").and_then(Value::as_bool) == Some(true));
            self.set_lock(locked);
        } else if self.state == State::Server(id) {
            // A server that cannot say is no cluster's.
            self.servers.update(&result.unwrap_or_default());
            match self.servers.fault(&self.config.database) {
                Some(fault) => self.give_up(fault),
                None => self.ask_schema(),
            }
        } else if self.state == State::Schema(id) {
            match result.map_err(|e| super::txn::error_text(&e)).and_then(|schema| self.take_schema(&schema)) {
                Ok(()) => self.ask_contents(Method::Since),
                Err(reason) => self.give_up(&format!("get_schema: {reason}")),
            }
        } else if let State::Contents(request, method) = self.state
            && request == id
        {
            self.contents(method, result);
        }
    }

    fn give_up(&mut self, reason: &str) {
        tracing::warn!(target: "ovsdb_idl", "{}: {reason}", self.config.database);
        let mut remotes: Vec<Remote> = self.config.remotes.split(',').filter_map(|r| Remote::parse(r).ok()).collect();
        self.given_up += 1;
        let first = self.given_up % remotes.len().max(1);
        remotes.rotate_left(first);
        self.link = Link::start(remotes, self.config.tls.clone(), self.config.backoff, PROBE_INTERVAL);
        self.down(reason.to_owned());
    }

    /// Takes the schema over; an unchanged one keeps the rows' handles comparable.
    fn take_schema(&mut self, json: &Value) -> Result<(), String> {
        let schema = Schema::from_json(json).map_err(|e| e.to_string())?;
        if schema.to_json() != self.replica.schema().to_json() {
            let empty = Replica::new(Arc::new(schema));
            // Rows of the old schema are reported as gone or changed when the contents are here.
            self.last_id = Uuid::nil().to_string();
            if self.replica.schema().tables.is_empty() {
                self.replica = empty;
            } else {
                let changes = self.replica.difference(&empty);
                self.replica = empty;
                self.events.push_back(Event::Changed(changes));
            }
        }
        if let Some(lock) = &self.config.lock {
            let params = vec![lock.as_str().into()];
            let id = self.take_id();
            self.lock_request = Some(id);
            self.send(id, "lock", params);
        }
        Ok(())
    }

    fn ask_contents(&mut self, method: Method) {
        let id = self.take_id();
        self.state = State::Contents(id, method);
        let requests = self.monitor_requests(method);
        let mut params = vec![self.config.database.as_str().into(), "idl".into(), requests];
        if method == Method::Since {
            params.push(self.last_id.as_str().into());
        }
        self.send(id, method.name(), params);
    }

    fn monitor_requests(&self, method: Method) -> Value {
        let schema = self.replica.schema();
        let mut requests = serde_json::Map::new();
        for table in &schema.tables {
            let wanted = match &self.config.tables {
                None => None,
                Some(tables) => match tables.iter().find(|(name, _)| *name == table.name) {
                    None => continue,
                    Some((_, columns)) => columns.as_ref(),
                },
            };
            let own = table.columns[COL_FIRST..].iter().map(|c| &c.name);
            let columns: Vec<&String> = own.filter(|c| wanted.is_none_or(|w| w.contains(c))).collect();
            let request = object!({"columns": columns});
            let request = if method == Method::Plain { request } else { Value::Array(vec![request]) };
            requests.insert(table.name.clone(), request);
        }
        Value::Object(requests)
    }

    fn contents(&mut self, method: Method, result: Result<Value, Value>) {
        let result = match (result, method.fallback()) {
            (Ok(result), _) => result,
            (Err(error), Some(fallback)) if error.as_str() == Some("unknown method") => {
                return self.ask_contents(fallback);
            }
            (Err(error), _) => return self.give_up(&super::txn::error_text(&error)),
        };
        let (found, updates) = match (method, result.as_array().map(Vec::as_slice)) {
            (Method::Since, Some([found, last_id, updates])) => {
                self.last_id = last_id.as_str().unwrap_or_default().to_owned();
                (found.as_bool() == Some(true), updates)
            }
            (Method::Since, _) => return self.give_up("malformed reply to monitor_cond_since"),
            (Method::Cond | Method::Plain, _) => (false, &result),
        };
        let applied = if found {
            self.replica.update(method.form(), updates)
        } else {
            let mut fresh = Replica::new(Arc::clone(self.replica.schema()));
            fresh.update(method.form(), updates).map(|_| {
                let changes = self.replica.difference(&fresh);
                self.replica = fresh;
                changes
            })
        };
        match applied {
            Ok(changes) => {
                self.state = State::Synced(method);
                self.events.push_back(Event::Synced(changes));
            }
            Err(e) => self.give_up(&e.to_string()),
        }
    }

    fn notification(&mut self, method: &str, params: &[Value]) {
        match (method, params) {
            ("update2", [id, updates]) if self.config.leader_only && id.as_str() == Some(leader::MONITOR) => {
                self.servers.update(updates);
                if let Some(fault) = self.servers.fault(&self.config.database) {
                    self.give_up(fault);
                }
            }
            ("update" | "update2", [_, updates]) => self.updates(updates),
            ("update3", [_, last_id, updates]) => {
                self.last_id = last_id.as_str().unwrap_or_default().to_owned();
                self.updates(updates);
            }
            ("locked", [name]) if name.as_str() == self.config.lock.as_deref() => self.set_lock(true),
            ("stolen", [name]) if name.as_str() == self.config.lock.as_deref() => self.set_lock(false),
            ("monitor_canceled", _) => self.give_up("monitor canceled by server"),
            _ => tracing::debug!(target: "ovsdb_idl", "ignoring notification {method}"),
        }
    }

    fn updates(&mut self, updates: &Value) {
        let State::Synced(method) = self.state else {
            return;
        };
        match self.replica.update(method.form(), updates) {
            Ok(changes) => self.events.push_back(Event::Changed(changes)),
            Err(e) => self.give_up(&e.to_string()),
        }
    }

    fn set_lock(&mut self, held: bool) {
        self.has_lock = held;
        self.events.push_back(Event::Lock(held));
    }
}
