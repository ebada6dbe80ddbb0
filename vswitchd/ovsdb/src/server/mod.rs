//! The server: databases behind remotes.
//!
//! ```no_run
//! # async fn f() -> Result<(), ovsdb::Error> {
//! let server = ovsdb::Server::builder()
//!     .database("/etc/openvswitch/conf.db", ovsdb::schema::VSWITCH_SCHEMA)
//!     .remote("punix:/var/run/openvswitch/db.sock")
//!     .remote("db:Open_vSwitch,Open_vSwitch,manager_options")
//!     .start()
//!     .await?;
//! // ...
//! server.stop().await;
//! # Ok(()) }
//! ```
//!
//! What enters: connections of anyone who reaches the remotes. What leaves: replies and updates, and the journal. The
//! decisions are in [`core`] and its parts `subscribe`, `feed`, `locks` and `databases`; [`session`] moves bytes; [`remotes`] keeps
//! listeners and connections in step with what is configured; [`backup`] follows another server. The server runs on the caller's tokio
//! runtime, plus one thread that syncs files.

mod admin;
mod backup;
mod core;
mod databases;
mod feed;
mod locks;
mod monitor;
mod outbox;
mod peer;
mod remotes;
mod session;
mod status;
mod subscribe;

pub use self::admin::{Admin, WeakAdmin};
pub use self::backup::BACKUP_PROBE;
pub use self::core::{Counters, MONITORS_MAX, WAITING_MAX};
pub use self::outbox::OUTPUT_MAX;
pub use self::session::SESSIONS_MAX;

use self::backup::Backup;
use self::core::{Core, Effect, SessionId};
use self::feed::Next;
use self::peer::Peer;
use self::status::{Link, Place};
use crate::error::{Error, Result, Tag};
use crate::journal::Syncer;
use crate::remote::Remote;
use crate::schema::Schema;
use crate::store::Store;
use crate::tls::Tls;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Silence after which a TCP client is probed; after as much again it is dropped.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Pause, for each session told, between two laps of telling: about what a message costs its sender and its reader. It is no shorter than
/// the lap was, so that half of the time is left for requests.
const PAUSE_PER_SESSION: Duration = Duration::from_micros(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// The timer's grain: shorter pauses are left out.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// What all tasks of one server share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    syncer: Syncer,
    /// As they were given.
    remotes: Mutex<BTreeMap<String, Remote>>,
    remotes_changed: Notify,
    /// Wakes [`tell_in_turns`].
    tell: Notify,
    stop: watch::Receiver<bool>,
    bound: Mutex<BTreeMap<String, SocketAddr>>,
    /// What is known of each remote in use, by the name it prints with.
    links: Mutex<BTreeMap<String, Link>>,
    backup: Mutex<Backup>,
    tls: Tls,
    probe: Duration,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the core could not do under its lock.
    fn perform(self: &Arc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ReplyAfterSync { file, session, id, results } => {
                    let shared = Arc::clone(self);
                    tokio::spawn(async move {
                        let outcome = shared.syncer.sync(file).await;
                        shared.core().synced(session, id, results, outcome);
                    });
                }
                Effect::Timer { waiting, at } => {
                    let shared = Arc::clone(self);
                    tokio::spawn(async move {
                        tokio::time::sleep_until(at).await;
                        let effects = shared.core().expire(waiting, Instant::now());
                        shared.perform(effects);
                    });
                }
                Effect::RemotesChanged => self.remotes_changed.notify_one(),
                Effect::Tell => self.tell.notify_one(),
            }
        }
    }

    /// A session that was behind has an empty queue.
    fn rejoin(self: &Arc<Self>, session: SessionId) {
        let effects = {
            let mut core = self.core();
            core.rejoin(session);
            core.finish(Instant::now())
        };
        self.perform(effects);
    }

    fn link(&self, remote: &str, change: impl FnOnce(&mut Link)) {
        change(self.links.lock().unwrap_or_else(PoisonError::into_inner).entry(remote.to_owned()).or_default());
    }

    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the server is gone, which is as good as stopped.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

enum Source {
    File { path: PathBuf, schema: Option<String> },
    Memory { schema: String },
}

/// Says what a server serves and where.
#[derive(Default)]
pub struct Builder {
    sources: Vec<Source>,
    remotes: Vec<String>,
    probe: Option<Duration>,
    tls: Tls,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("remotes", &self.remotes).finish_non_exhaustive()
    }
}

impl Builder {
    /// Serves the database in the file at `path`; creates it with the schema in `schema_text` if there is none.
    #[must_use]
    pub fn database(mut self, path: impl Into<PathBuf>, schema_text: &str) -> Self {
        self.sources.push(Source::File { path: path.into(), schema: Some(schema_text.to_owned()) });
        self
    }

    /// Serves the database in the file at `path`, which must be there.
    #[must_use]
    pub fn existing_database(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::File { path: path.into(), schema: None });
        self
    }

    /// Serves a database that lives in memory only.
    #[must_use]
    pub fn memory_database(mut self, schema_text: &str) -> Self {
        self.sources.push(Source::Memory { schema: schema_text.to_owned() });
        self
    }

    /// Adds a connection method: `punix:`, `ptcp:`, `pssl:`, `unix:`, `tcp:`, `ssl:`, or `db:DATABASE,TABLE,COLUMN`.
    #[must_use]
    pub fn remote(mut self, remote: impl Into<String>) -> Self {
        self.remotes.push(remote.into());
        self
    }

    /// Replaces [`PROBE_INTERVAL`].
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe = Some(interval);
        self
    }

    /// Where `ssl:` and `pssl:` remotes have their keys from.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Opens the databases and the passive remotes. Errors: a file that cannot be opened, locked or read; a remote that
    /// is malformed or cannot be bound.
    pub async fn start(self) -> Result<Server> {
        let mut stores: Vec<Store> = Vec::new();
        for source in &self.sources {
            let store = open(source)?;
            let name = &store.db().schema().name;
            if stores.iter().any(|s| s.db().schema().name == *name) {
                return Err(Error::new(Tag::OvsdbError, format!("{name}: duplicate database name")));
            }
            stores.push(store);
        }
        let remotes = parse_remotes(&self.remotes)?;
        let syncer = Syncer::start().map_err(|e| Error::from_io(&e, "starting the sync thread failed"))?;
        let (stop_sender, stop) = watch::channel(false);
        let core = Core::new(stores)?;
        for (text, remote) in &remotes {
            if let Remote::Column { database, table, column } = remote
                && let Some(fault) = core.fault_at(Place { database, table, column })
            {
                return Err(Error::new(Tag::OvsdbError, format!("\"{text}\": {fault}")));
            }
        }
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            syncer,
            remotes: Mutex::new(remotes),
            remotes_changed: Notify::new(),
            tell: Notify::new(),
            stop,
            bound: Mutex::default(),
            links: Mutex::default(),
            backup: Mutex::default(),
            tls: self.tls,
            probe: self.probe.unwrap_or(PROBE_INTERVAL),
        });
        let keeper = remotes::Keeper::new(Arc::clone(&shared)).await?;
        tokio::spawn(tell_in_turns(Arc::clone(&shared)));
        let task = tokio::spawn(keeper.run());
        Ok(Server { shared, stop: stop_sender, task })
    }
}

/// Tells many monitors what one commit after another means for them, and leaves time for requests.
async fn tell_in_turns(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.tell.notified() => {}
            () = shared.stopped() => return,
        }
        let mut start = Instant::now();
        loop {
            let next = shared.core().take_turns();
            match next {
                Next::Slice => tokio::task::yield_now().await,
                Next::Pause(told) => {
                    let fair = PAUSE_PER_SESSION * u32::try_from(told).unwrap_or(u32::MAX);
                    let pause = fair.max(start.elapsed()).min(PAUSE_MAX);
                    if pause < PAUSE_MIN {
                        tokio::task::yield_now().await;
                    } else {
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = shared.stopped() => return,
                        }
                    }
                    start = Instant::now();
                }
                Next::Rest => break,
            }
        }
    }
}

fn open(source: &Source) -> Result<Store> {
    match source {
        Source::Memory { schema } => Ok(Store::in_memory(Arc::new(Schema::from_text(schema)?))),
        Source::File { path, schema: Some(schema) } if !path.exists() => {
            Store::create(path, Arc::new(Schema::from_text(schema)?))
        }
        Source::File { path, .. } => open_existing(path),
    }
}

fn open_existing(path: &Path) -> Result<Store> {
    let store = Store::open(path)?;
    let name = &store.db().schema().name;
    if name.starts_with('_') {
        return Err(Error::new(
            Tag::OvsdbError,
            format!("{}: names with a leading underscore are reserved ({name})", path.display()),
        ));
    }
    Ok(store)
}

fn parse_remotes(texts: &[String]) -> Result<BTreeMap<String, Remote>> {
    let parse = |text: &String| Remote::parse(text).map_err(|e| Error::new(Tag::OvsdbError, e.to_string()));
    texts.iter().map(|text| Ok((text.clone(), parse(text)?))).collect()
}

/// A running server. Dropping it stops it without waiting.
pub struct Server {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// Starts describing a server.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Rewrites the journals with nothing but the present rows (`ovsdb-server/compact`).
    pub fn compact(&self) -> Result<()> {
        self.shared.core().compact(None)
    }

    /// A handle for control commands.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin(Arc::clone(&self.shared))
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.core().counters
    }

    /// Number of connected clients.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.core().session_count()
    }

    /// The address that a `ptcp:` remote is bound to, which tells the port that the kernel chose for `ptcp:0`.
    #[must_use]
    pub fn bound_address(&self, remote: &str) -> Option<SocketAddr> {
        let remote = Remote::parse(remote).ok()?.to_string();
        self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).get(&remote).copied()
    }

    /// Serves one client over `stream`, for callers that make connections themselves.
    pub fn serve<S>(&self, stream: S)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    {
        tokio::spawn(session::run(Arc::clone(&self.shared), stream, Peer::default()));
    }

    /// Closes listeners and connections and releases the files.
    pub async fn stop(self) {
        // Nobody listening means that all tasks have ended.
        let _ = self.stop.send(true);
        if let Err(e) = self.task.await {
            tracing::warn!(target: "ovsdb_server", "remotes task failed: {e}");
        }
        // Sessions end by themselves once told; the files stay locked until the last is gone.
        for _ in 0..200 {
            if Arc::strong_count(&self.shared) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
