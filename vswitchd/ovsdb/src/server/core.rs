//! The server's state and every decision of the protocol. No I/O but the journal's append happens here.
//!
//! One lock guards it all. A session's task takes the lock, hands over a message, and the core puts replies and
//! notifications into the sessions' outboxes, so that order is what RFC 7047 wants: a client sees the update that its own
//! transaction caused before the transaction's reply. What must happen outside the lock (waiting for the disk, waiting
//! for time to pass) is returned as an [`Effect`].

use super::feed::{Log, Texts, Turns};
use super::monitor::{Monitors, Version};
use super::outbox::{OUTPUT_MAX, Outbox, Outgoing};
use super::peer::Peer;
use crate::clock::wall_ms;
use crate::db::{Actor, Commit, Executed, Request, execute};
use crate::error::{Error, Result, Tag};
use crate::hash::Map;
use crate::message::Message;
use crate::schema::{SERVER_SCHEMA, Schema};
use crate::store::Store;
use serde_json::{Value, json as object};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

/// Unfinished `transact` requests of one session.
pub const WAITING_MAX: usize = 1_000;
/// Monitors of one session.
pub const MONITORS_MAX: usize = 1_000;
/// Number of the `_Server` database.
pub(super) const SERVER_DB: usize = 0;

pub(crate) type SessionId = u64;

/// What is left to do when the core has been unlocked.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Sync the file, then give the session this reply (or the error).
    ReplyAfterSync { file: Arc<File>, session: SessionId, id: Value, results: Vec<Value> },
    /// Call [`Core::expire`] at that time.
    Timer { waiting: u64, at: Instant },
    /// The remotes named by the database may have changed.
    RemotesChanged,
    /// Call [`Core::take_turns`] until it has nothing left to tell.
    Tell,
}

pub(super) struct Served {
    pub(super) store: Store,
    /// What monitors are told from.
    pub(super) log: Log,
}

impl Served {
    pub(super) fn new(store: Store) -> Self {
        Self { store, log: Log::default() }
    }
}

pub(super) struct Session {
    pub(super) out: Outbox,
    pub(super) peer: Peer,
    pub(super) opened: Instant,
    /// Takes turns at being told; it does from its first monitor on.
    pub(super) listens: bool,
    /// Locks that others stole.
    pub(super) lost: Vec<String>,
    pub(super) monitors: Monitors,
    pub(super) change_aware: bool,
}

/// A `transact` whose `wait` is not satisfied.
pub(super) struct Waiting {
    number: u64,
    pub(super) session: SessionId,
    pub(super) db: usize,
    pub(super) id: Value,
    params: Vec<Value>,
    since: Instant,
}

/// Counters an operator may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `transact` requests executed to their end.
    pub transactions: u64,
    /// Commits that changed something.
    pub commits: u64,
    /// Clients dropped because they did not read.
    pub dropped_slow: u64,
    /// Connections closed because of malformed input.
    pub dropped_malformed: u64,
    /// Requests refused because a session had too many unfinished ones.
    pub refused_waiting: u64,
    /// Connections refused because there were too many.
    pub refused_sessions: u64,
}

pub(crate) struct Core {
    pub(super) dbs: Vec<Served>,
    pub(super) sessions: Map<SessionId, Session>,
    /// Holder first, then those who wait.
    pub(super) locks: Map<String, VecDeque<SessionId>>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) turns: Turns,
    pub(super) texts: Texts,
    server_id: Uuid,
    /// No client may write, because the server is a backup.
    pub(super) read_only: bool,
    next_session: SessionId,
    next_waiting: u64,
    pub(crate) counters: Counters,
    pub(super) effects: Vec<Effect>,
    /// Databases that changed since their waiting requests were last tried.
    pub(super) dirty: Vec<usize>,
}

impl Core {
    /// A core that serves `stores` and the `_Server` database about them.
    pub(crate) fn new(stores: Vec<Store>) -> Result<Self> {
        let server = Store::in_memory(Arc::new(Schema::from_text(SERVER_SCHEMA)?));
        let mut core = Self {
            dbs: std::iter::once(server).chain(stores).map(Served::new).collect(),
            sessions: Map::default(),
            locks: Map::default(),
            waiting: Vec::new(),
            turns: Turns::default(),
            texts: Texts::default(),
            server_id: Uuid::new_v4(),
            read_only: false,
            next_session: 1,
            next_waiting: 1,
            counters: Counters::default(),
            effects: Vec::new(),
            dirty: Vec::new(),
        };
        core.describe_databases()?;
        Ok(core)
    }

    // ---- sessions --------------------------------------------------------------------------------------------------

    pub(crate) fn open_session(&mut self, out: Outbox, peer: Peer, now: Instant) -> SessionId {
        let id = self.next_session;
        self.next_session += 1;
        let session = Session {
            out,
            peer,
            opened: now,
            listens: false,
            lost: Vec::new(),
            monitors: Monitors::default(),
            change_aware: false,
        };
        self.sessions.insert(id, session);
        id
    }

    pub(crate) fn close_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.turns.leave(session);
        self.waiting.retain(|w| w.session != session);
        let held: Vec<String> = self.locks.iter().filter(|(_, q)| q.contains(&session)).map(|(name, _)| name.clone()).collect();
        held.iter().for_each(|name| self.release(session, name));
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn send(&mut self, session: SessionId, message: &Message) {
        // A client sees the updates that came before a reply before the reply.
        self.tell(session, Log::head);
        self.push(session, Outgoing::Own(message.to_json().to_string()));
    }

    pub(super) fn drop_slow(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get(&session) else { return };
        state.out.abort();
        self.counters.dropped_slow += 1;
        tracing::warn!(target: "ovsdb_jsonrpc_server", "dropping session {session}: more than {OUTPUT_MAX} bytes of output wait for it");
        self.close_session(session);
    }

    pub(super) fn reply(&mut self, session: SessionId, id: Value, result: std::result::Result<Value, Value>) {
        let message = match result {
            Ok(result) => Message::Reply { id, result },
            Err(error) => Message::Error { id, error },
        };
        self.send(session, &message);
    }

    /// Takes one message of a session. The error closes the session.
    pub(crate) fn receive(
        &mut self,
        session: SessionId,
        message: Message,
        now: Instant,
    ) -> std::result::Result<Vec<Effect>, String> {
        match message {
            Message::Request { method, params, id } => self.request(session, &method, params, id, now),
            Message::Notification { method, params } => {
                if method == "cancel" {
                    self.cancel(session, &params);
                }
            }
            // The answer to our probe.
            Message::Reply { id, .. } if id.as_str() == Some("echo") => {}
            Message::Reply { .. } | Message::Error { .. } => {
                return Err("received unexpected reply".into());
            }
        }
        self.retry(now);
        Ok(std::mem::take(&mut self.effects))
    }

    fn request(&mut self, session: SessionId, method: &str, params: Vec<Value>, id: Value, now: Instant) {
        let result = match method {
            "transact" => match self.lookup_db(method, &params) {
                Ok(db) => return self.transact(session, db, params, id, now),
                Err(e) => Err(e.to_json()),
            },
            "convert" => self.convert(session, &params).map_err(|e| e.to_json()),
            "monitor" => self.monitor(session, method, &params, Version::One).map_err(|e| e.to_json()),
            "monitor_cond" => self.monitor(session, method, &params, Version::Two).map_err(|e| e.to_json()),
            "monitor_cond_since" => self.monitor(session, method, &params, Version::Three).map_err(|e| e.to_json()),
            "monitor_cond_change" => self.monitor_cond_change(session, &params).map_err(|e| e.to_json()),
            "monitor_cancel" => self.monitor_cancel(session, &params),
            "get_schema" => {
                self.lookup_db(method, &params).map(|db| self.dbs[db].store.db().schema().to_json()).map_err(|e| e.to_json())
            }
            "list_dbs" => Ok(self.database_names().into()),
            "get_server_id" => Ok(self.server_id.to_string().into()),
            "lock" => self.lock(session, method, &params, false).map_err(|e| e.to_json()),
            "steal" => self.lock(session, method, &params, true).map_err(|e| e.to_json()),
            "unlock" => self.unlock(session, method, &params).map_err(|e| e.to_json()),
            "set_db_change_aware" => self.set_change_aware(session, &params).map_err(|e| e.to_json()),
            "echo" => Ok(Value::Array(params)),
            _ => Err("unknown method".into()),
        };
        self.reply(session, id, result);
    }

    /// Tells this server from any other.
    pub(super) fn server_id(&self) -> Uuid {
        self.server_id
    }

    pub(super) fn lookup_db(&self, method: &str, params: &[Value]) -> Result<usize> {
        let at = |tag, text| Err(Error::at(&Value::Array(params.to_vec()), tag, text));
        let Some(name) = params.first().and_then(Value::as_str) else {
            return at(Tag::Syntax, format!("{method} request params must begin with <db-name>"));
        };
        match self.db_number(name) {
            Some(db) => Ok(db),
            None => at(Tag::UnknownDatabase, format!("{method} request specifies unknown database {name}")),
        }
    }

    pub(super) fn db_number(&self, name: &str) -> Option<usize> {
        self.dbs.iter().position(|d| d.store.db().schema().name == name)
    }

    fn set_change_aware(&mut self, session: SessionId, params: &[Value]) -> Result<Value> {
        let [Value::Bool(aware)] = params else {
            let text = "set_db_change_aware: true or false parameter expected";
            return Err(Error::syntax(&Value::Array(params.to_vec()), text));
        };
        if let Some(s) = self.sessions.get_mut(&session) {
            s.change_aware = *aware;
        }
        Ok(object!({}))
    }

    // ---- transactions ----------------------------------------------------------------------------------------------

    fn transact(&mut self, session: SessionId, db: usize, params: Vec<Value>, id: Value, now: Instant) {
        let (mut mine, mut same) = (0, false);
        for w in self.waiting.iter().filter(|w| w.session == session) {
            mine += 1;
            same |= w.id == id;
        }
        if same || mine >= WAITING_MAX {
            let text = if same { "duplicate request ID" } else { "too many unfinished transactions" };
            self.counters.refused_waiting += u64::from(!same);
            let e = Error::syntax(&Value::Array(params), format!("transact: {text}"));
            return self.reply(session, id, Err(e.to_json()));
        }
        let number = self.next_waiting;
        self.next_waiting += 1;
        let request = Waiting { number, session, db, id, params, since: now };
        if let Some((waiting, timeout)) = self.attempt(request, now) {
            if let Some(ms) = timeout
                && let Some(at) = waiting.since.checked_add(Duration::from_millis(ms))
            {
                self.effects.push(Effect::Timer { waiting: number, at });
            }
            self.waiting.push(waiting);
        }
    }

    /// Executes a request. Gives it back, with its timeout, if it has to wait.
    fn attempt(&mut self, request: Waiting, now: Instant) -> Option<(Waiting, Option<u64>)> {
        let elapsed_ms = u64::try_from(now.saturating_duration_since(request.since).as_millis()).unwrap_or(u64::MAX);
        let owns_lock = |name: &str| self.locks.get(name).and_then(|q| q.front()) == Some(&request.session);
        let peer = self.sessions.get(&request.session).map(|s| &s.peer);
        let read_only = self.read_only || peer.is_some_and(|p| p.read_only);
        let actor = peer.map(|p| Actor { role: p.role.as_deref().unwrap_or_default(), id: p.id.as_deref().unwrap_or_default() });
        let what = Request { params: &request.params, owns_lock: &owns_lock, elapsed_ms, read_only, actor };
        let (results, commit, durable) = match execute(self.dbs[request.db].store.db(), &what) {
            Executed::Wait(timeout) => return Some((request, timeout)),
            Executed::Failed(results) => (results, None, false),
            Executed::Ready { results, commit, durable } => (results, Some(commit), durable),
        };
        self.counters.transactions += 1;
        let Waiting { session, db, id, .. } = request;
        let mut results = results;
        let mut file = None;
        if let Some(commit) = commit {
            match self.commit(db, commit) {
                Ok(()) if durable => file = self.dbs[db].store.file(),
                Ok(()) => {}
                Err(e) => results.push(e.to_json()),
            }
        }
        match file {
            Some(file) => self.effects.push(Effect::ReplyAfterSync { file, session, id, results }),
            None => self.reply(session, id, Ok(Value::Array(results))),
        }
        None
    }

    /// The disk has (or has not) taken what a durable transaction wrote.
    pub(crate) fn synced(&mut self, session: SessionId, id: Value, mut results: Vec<Value>, outcome: std::io::Result<()>) {
        if let Err(e) = outcome {
            results.push(Error::from_io(&e, "fsync failed").to_json());
        }
        self.reply(session, id, Ok(Value::Array(results)));
    }

    /// Writes and applies a commit and tells the monitors. [`Core::retry`] must follow.
    pub(super) fn commit(&mut self, db: usize, commit: Commit) -> Result<()> {
        if commit.changes.is_empty() {
            return Ok(());
        }
        let date_ms = wall_ms();
        self.dbs[db].store.commit(&commit, date_ms)?;
        self.counters.commits += 1;
        self.publish(db, commit.changes);
        if let Err(e) = self.dbs[db].store.compact_if_due(date_ms) {
            tracing::warn!(target: "ovsdb_server", "compaction failed: {e}");
        }
        if db != SERVER_DB {
            self.effects.push(Effect::RemotesChanged);
        }
        self.dirty.push(db);
        Ok(())
    }

    /// Ends a change that no session asked for.
    pub(crate) fn finish(&mut self, now: Instant) -> Vec<Effect> {
        self.retry(now);
        std::mem::take(&mut self.effects)
    }

    /// Tries again what waits for a change. A success may enable another, so it goes round until none does.
    pub(super) fn retry(&mut self, now: Instant) {
        while let Some(db) = self.dirty.pop() {
            let (mine, others) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.db == db);
            self.waiting = others;
            for request in mine {
                if let Some((waiting, _)) = self.attempt(request, now) {
                    self.waiting.push(waiting);
                }
            }
        }
    }

    /// The time of a waiting request is over.
    pub(crate) fn expire(&mut self, number: u64, now: Instant) -> Vec<Effect> {
        if let Some(at) = self.waiting.iter().position(|w| w.number == number) {
            let request = self.waiting.swap_remove(at);
            if let Some((waiting, timeout)) = self.attempt(request, now) {
                // Timers may fire a little early.
                let at = waiting.since.checked_add(Duration::from_millis(timeout.unwrap_or(0))).unwrap_or(now);
                self.effects.push(Effect::Timer { waiting: number, at: at.max(now + Duration::from_millis(1)) });
                self.waiting.push(waiting);
            }
        }
        self.retry(now);
        std::mem::take(&mut self.effects)
    }

    fn cancel(&mut self, session: SessionId, params: &[Value]) {
        let [id] = params else { return };
        if let Some(at) = self.waiting.iter().position(|w| w.session == session && w.id == *id) {
            let request = self.waiting.swap_remove(at);
            self.reply(session, request.id, Err("canceled".into()));
        }
    }
}
