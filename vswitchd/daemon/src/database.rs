//! The daemon's database: a client of an ovsdb-server somewhere else, or of the one that this process runs itself. What enters: events
//! of the connection. What leaves: what they mean for the main loop, and transactions, one at a time.

use crate::bridge::schema::{OpenVswitch, Table as _, open_vswitch};
use crate::options::Options;
use ctl::dirs;
use ctl::ovsdb_server::tls::DatabaseTls;
use ovsdb::tls::TlsSource;
use ovsdb::{Change, Datum, Event, Idl, IdlConfig, Outcome, Server, Txn};
use std::sync::Arc;

/// The lock by which one switch daemon per database is kept.
const LOCK: &str = "ovs_vswitchd";

/// What the database has to say to the main loop.
#[derive(Debug)]
pub enum News {
    /// The replica differs.
    Changed(Vec<Change>),
    /// The transaction under way ended; `false`: what it said has to be worked out again.
    Written(bool),
    /// The lock is ours.
    Granted,
    /// Another process has the lock.
    Contended,
    /// The connection is gone for the moment.
    Away,
}

/// The connection, and the server if it is ours.
#[derive(Debug)]
pub struct Database {
    idl: Idl,
    server: Option<Server>,
    writing: bool,
    /// Another process has the lock, and whether that was told.
    refused: bool,
    told: bool,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("{0}")]
    Client(#[from] ovsdb::client::ClientError),
    #[error("{file}: {error}")]
    Server { file: String, error: ovsdb::Error },
}

impl Database {
    /// Starts the server, if it is to be here, and the client in any case.
    /// # Errors
    /// The database file cannot be served, or the remote's name makes no sense.
    pub async fn open(options: &Options) -> Result<Self, DatabaseError> {
        let server = match &options.embedded_db {
            None => None,
            Some(file) => {
                let keys = Arc::new(DatabaseTls::of_switch(options.process.tls.clone()));
                let started = Server::builder()
                    .tls(Some(Arc::clone(&keys) as Arc<dyn TlsSource>))
                    .database(file, ovsdb::schema::VSWITCH_SCHEMA)
                    .remote(format!("punix:{}", dirs::in_run("db.sock").display()))
                    .remote("db:Open_vSwitch,Open_vSwitch,manager_options")
                    .start()
                    .await;
                let server = started.map_err(|error| DatabaseError::Server { file: file.display().to_string(), error })?;
                keys.read_from(&server);
                Some(server)
            }
        };
        let remote = options.database();
        tracing::info!(target: "reconnect", "{remote}: connecting...");
        let idl = Idl::start(IdlConfig::new(&remote, "Open_vSwitch").lock(LOCK).tls(options.process.tls.source()).leader_only())?;
        Ok(Self { idl, server, writing: false, refused: false, told: false })
    }

    /// Waits for the next news.
    pub async fn next(&mut self) -> News {
        loop {
            if self.refused && !self.told && self.idl.is_synced() {
                self.told = true;
                return News::Contended;
            }
            match self.idl.next().await {
                Event::Synced(changes) => {
                    self.initialize();
                    return News::Changed(changes);
                }
                Event::Changed(changes) => return News::Changed(changes),
                Event::Done(_, outcome) => {
                    self.writing = false;
                    return News::Written(settled(outcome));
                }
                Event::Lock(true) => {
                    (self.refused, self.told) = (false, false);
                    self.initialize();
                    return News::Granted;
                }
                // The end of a connection says so, too, and is told apart by what follows.
                Event::Lock(false) => self.refused = true,
                Event::Disconnected(_) => {
                    (self.refused, self.told) = (false, false);
                    return News::Away;
                }
            }
        }
    }

    /// A server of our own starts with an empty file: it gets the one row that ovs-ctl would make with `ovs-vsctl init`.
    fn initialize(&mut self) {
        if self.server.is_none() || !self.is_ready() || self.idl.replica().first(OpenVswitch::NAME).is_some() {
            return;
        }
        let version = self.idl.replica().schema().version.clone();
        let mut txn = Txn::new();
        txn.insert(
            OpenVswitch::NAME,
            [
                (open_vswitch::OVS_VERSION.name, Datum::from(crate::usage::OVS_VERSION)),
                (open_vswitch::DB_VERSION.name, Datum::from(version)),
            ],
        );
        self.idl.submit(&txn);
        self.writing = true;
    }

    /// Connected, with the lock, and the replica whole.
    pub fn is_ready(&self) -> bool {
        self.idl.is_synced() && self.idl.has_lock()
    }

    /// A transaction is under way.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The tables.
    pub fn replica(&self) -> &ovsdb::Replica {
        self.idl.replica()
    }

    /// Sends a transaction; its end comes as `News::Written`. Only while `is_writing` is false.
    pub fn write(&mut self, txn: &Txn) {
        if !txn.is_empty() {
            self.writing = true;
            self.idl.submit(txn);
        }
    }

    /// Ends the connection, then the server.
    pub async fn close(self) {
        drop(self.idl);
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Whether a transaction's end is final.
fn settled(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Unchanged | Outcome::Committed(_) => true,
        Outcome::TryAgain | Outcome::NotLocked => false,
        Outcome::Failed(error) => {
            tracing::warn!(target: "ovsdb_idl", rl = 30, burst = 30, "transaction error: {error}");
            true
        }
    }
}
