//! Keeps listeners and outgoing connections in step with the remotes that are configured.
//!
//! What enters: the fixed remotes, and on every commit the hint that the remotes in the database may differ. What
//! leaves: sessions. A passive remote that cannot be bound is tried again; an active one is connected with back-off.

use super::{Shared, session};
use crate::error::{Error, Result};
use crate::remote::{Remote, socket_path};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Pause before a failed active connection is tried again: doubles from first to last.
const BACKOFF_MS: (u64, u64) = (1_000, 8_000);
/// Pause before a remote of the database that could not be bound is tried again.
const REBIND: Duration = Duration::from_secs(1);

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The task that owns all remotes.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    fixed: Vec<Remote>,
    tasks: BTreeMap<String, JoinHandle<()>>,
    probe: Duration,
}

impl Keeper {
    /// Binds the fixed passive remotes; a failure here is the caller's to report.
    pub(super) async fn new(shared: Arc<Shared>, fixed: Vec<Remote>, probe: Duration) -> Result<Self> {
        let mut keeper = Self { shared, fixed, tasks: BTreeMap::new(), probe };
        for remote in keeper.fixed.clone() {
            if let Some(listener) = bind(&remote).await.transpose() {
                let listener = listener.map_err(|e| Error::from_io(&e, format!("{remote}: listen failed")))?;
                keeper.listen(&remote, listener);
            }
        }
        keeper.reconcile().await;
        Ok(keeper)
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                () = shared.remotes_changed.notified() => {}
                () = tokio::time::sleep(REBIND), if self.unbound() => {}
                () = shared.stopped() => break,
            }
            self.reconcile().await;
        }
        for (name, task) in std::mem::take(&mut self.tasks) {
            task.abort();
            self.unlink(&name);
        }
    }

    /// Fixed remotes and those that the database names.
    fn wanted(&self) -> Vec<Remote> {
        let mut wanted = Vec::new();
        for remote in &self.fixed {
            match remote {
                Remote::Column { database, table, column } => {
                    let named = self.shared.core().strings_at(database, table, column);
                    for text in named {
                        match Remote::parse(&text) {
                            Ok(Remote::Column { .. }) => {}
                            Ok(remote) => wanted.push(remote),
                            Err(e) => tracing::debug!(target: "ovsdb_server", "{e}"),
                        }
                    }
                }
                Remote::Unix(_) | Remote::Tcp { .. } | Remote::ListenUnix(_) | Remote::ListenTcp { .. } => {
                    wanted.push(remote.clone());
                }
            }
        }
        wanted
    }

    fn unbound(&self) -> bool {
        self.wanted().iter().any(|r| !self.tasks.contains_key(&r.to_string()))
    }

    async fn reconcile(&mut self) {
        let wanted = self.wanted();
        let names: Vec<String> = wanted.iter().map(Remote::to_string).collect();
        let gone: Vec<String> = self.tasks.keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in gone {
            if let Some(task) = self.tasks.remove(&name) {
                task.abort();
                self.unlink(&name);
            }
        }
        for remote in wanted {
            if self.tasks.contains_key(&remote.to_string()) {
                continue;
            }
            match bind(&remote).await {
                Ok(Some(listener)) => self.listen(&remote, listener),
                Ok(None) => self.connect(&remote),
                Err(e) => {
                    tracing::debug!(target: "ovsdb_jsonrpc_server", "{remote}: listen failed: {e}")
                }
            }
        }
    }

    fn unlink(&self, name: &str) {
        self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(path) = name.strip_prefix("punix:") {
            // It may have been removed by hand.
            let _ = std::fs::remove_file(path);
        }
    }

    fn listen(&mut self, remote: &Remote, listener: Listener) {
        let name = remote.to_string();
        if let Listener::Tcp(listener) = &listener
            && let Ok(address) = listener.local_addr()
        {
            self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), address);
        }
        let probe = remote.needs_probes().then_some(self.probe);
        let task = tokio::spawn(accept(Arc::clone(&self.shared), listener, probe));
        self.tasks.insert(name, task);
    }

    fn connect(&mut self, remote: &Remote) {
        let probe = remote.needs_probes().then_some(self.probe);
        let task = tokio::spawn(keep_connected(Arc::clone(&self.shared), remote.clone(), probe));
        self.tasks.insert(remote.to_string(), task);
    }
}

/// A listener for a passive remote, `None` for any other.
async fn bind(remote: &Remote) -> std::io::Result<Option<Listener>> {
    Ok(match remote {
        Remote::ListenUnix(path) => Some(Listener::Unix(bind_unix(path)?)),
        Remote::ListenTcp { ip, port } => Some(Listener::Tcp(TcpListener::bind(SocketAddr::new(*ip, *port)).await?)),
        Remote::Unix(_) | Remote::Tcp { .. } | Remote::Column { .. } => None,
    })
}

async fn connect_unix(path: &Path) -> std::io::Result<UnixStream> {
    let (short, _folder) = socket_path(path)?;
    UnixStream::connect(short).await
}

fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    // As in OVS a socket left behind by a predecessor is in nobody's way; the database's lock tells who is alive.
    if let Ok(meta) = std::fs::symlink_metadata(path)
        && std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type())
    {
        std::fs::remove_file(path)?;
    }
    let (short, _folder) = socket_path(path)?;
    let listener = UnixListener::bind(short)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o750))?;
    Ok(listener)
}

async fn accept(shared: Arc<Shared>, listener: Listener, probe: Option<Duration>) {
    loop {
        let accepted = match &listener {
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(session::run(Arc::clone(&shared), stream, probe));
            }),
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Without it small replies wait for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(session::run(Arc::clone(&shared), stream, probe));
            }),
        };
        if let Err(e) = accepted {
            tracing::warn!(target: "ovsdb_jsonrpc_server", "accept failed: {e}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn keep_connected(shared: Arc<Shared>, remote: Remote, probe: Option<Duration>) {
    let mut pause_ms = BACKOFF_MS.0;
    loop {
        let connected = match &remote {
            Remote::Unix(path) => match connect_unix(path).await {
                Ok(stream) => {
                    session::run(Arc::clone(&shared), stream, probe).await;
                    true
                }
                Err(_) => false,
            },
            Remote::Tcp { host, port } => match TcpStream::connect((host.as_str(), *port)).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    session::run(Arc::clone(&shared), stream, probe).await;
                    true
                }
                Err(_) => false,
            },
            Remote::ListenUnix(_) | Remote::ListenTcp { .. } | Remote::Column { .. } => return,
        };
        pause_ms = if connected { BACKOFF_MS.0 } else { (pause_ms * 2).min(BACKOFF_MS.1) };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}
