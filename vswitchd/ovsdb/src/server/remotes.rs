//! Keeps listeners and outgoing connections in step with the remotes that are configured.
//!
//! What enters: the remotes that the user gave, and on every commit the hint that those in the database may differ. What
//! leaves: sessions, and what is known of each remote ([`super::status`]). A passive remote that cannot be bound is tried
//! again; an active one is connected with back-off.

use super::peer::{Peer, RemoteOptions};
use super::status::{LinkState, Place};
use super::{Shared, session};
use crate::error::{Error, Result};
use crate::remote::{Remote, run_folder, socket_path};
use crate::tls;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Pause before a failed active connection is tried again: doubles from first to last.
const BACKOFF_MS: (u64, u64) = (1_000, 8_000);
/// Pause before a remote of the database that could not be bound is tried again.
const REBIND: Duration = Duration::from_secs(1);
/// How often the rows of remotes are told how their remotes fare (ovs-vswitchd.conf.db(5): every few seconds).
const STATUS: Duration = Duration::from_millis(2_500);

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Ssl(TcpListener),
}

struct Task {
    remote: Remote,
    options: RemoteOptions,
    handle: JoinHandle<()>,
}

/// The task that owns all remotes.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    tasks: BTreeMap<String, Task>,
    /// Of the targets in the database, what is wrong with those that name no remote; each was logged when it appeared.
    faults: BTreeSet<String>,
}

impl Keeper {
    /// Binds the passive remotes that the user gave; a failure here is the caller's to report.
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let mut keeper = Self { shared, tasks: BTreeMap::new(), faults: BTreeSet::new() };
        let given: Vec<Remote> = keeper.given();
        for remote in given {
            if let Some(listener) = bind(&remote).await.transpose() {
                let listener = listener.map_err(|e| Error::from_io(&e, format!("{remote}: listen failed")))?;
                keeper.listen(&remote, &RemoteOptions::default(), listener);
            }
        }
        keeper.reconcile().await;
        keeper.write_status();
        Ok(keeper)
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut status = interval(STATUS);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shared.remotes_changed.notified() => self.reconcile().await,
                () = tokio::time::sleep(REBIND), if self.unbound() => self.reconcile().await,
                _ = status.tick() => self.write_status(),
                () = shared.stopped() => break,
            }
        }
        for name in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.end(&name);
        }
    }

    fn given(&self) -> Vec<Remote> {
        self.shared.remotes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The remotes that were given and those that the database names, and what is wrong with targets there that name none.
    fn wanted(&self) -> (BTreeMap<String, (Remote, RemoteOptions)>, BTreeSet<String>) {
        let (mut wanted, mut faults) = (BTreeMap::new(), BTreeSet::new());
        for remote in self.given() {
            let Remote::Column { database, table, column } = &remote else {
                wanted.insert(remote.to_string(), (remote, RemoteOptions::default()));
                continue;
            };
            let named = self.shared.core().remotes_at(Place { database, table, column });
            for (text, options) in named {
                match Remote::parse(&text) {
                    Ok(Remote::Column { .. }) => {}
                    Ok(remote) => drop(wanted.insert(remote.to_string(), (remote, options))),
                    Err(e) => drop(faults.insert(e.to_string())),
                }
            }
        }
        (wanted, faults)
    }

    fn unbound(&self) -> bool {
        self.wanted().0.keys().any(|name| !self.tasks.contains_key(name))
    }

    async fn reconcile(&mut self) {
        let (wanted, faults) = self.wanted();
        for fault in faults.difference(&self.faults) {
            tracing::error!(target: "ovsdb_jsonrpc_server", "{fault}");
        }
        self.faults = faults;
        let stands = |name: &String, task: &Task| wanted.get(name).is_some_and(|(_, options)| *options == task.options);
        let gone: Vec<String> = self.tasks.iter().filter(|(name, task)| !stands(name, task)).map(|(n, _)| n.clone()).collect();
        gone.iter().for_each(|name| self.end(name));
        for (name, (remote, options)) in wanted {
            if self.tasks.contains_key(&name) {
                continue;
            }
            match bind(&remote).await {
                Ok(Some(listener)) => self.listen(&remote, &options, listener),
                Ok(None) => self.connect(&remote, &options),
                Err(e) => {
                    self.shared.link(&name, |link| link.last_error = Some(e.to_string()));
                    tracing::error!(target: "ovsdb_jsonrpc_server", rl = 1, burst = 1, "{remote}: listen failed: {e}");
                }
            }
        }
    }

    /// Ends a remote: its listener or connection, and the sessions it brought.
    fn end(&mut self, name: &str) {
        let Some(task) = self.tasks.remove(name) else { return };
        task.handle.abort();
        let lock = PoisonError::into_inner;
        self.shared.bound.lock().unwrap_or_else(lock).remove(name);
        self.shared.links.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Remote::ListenUnix(path) = &task.remote {
            // It may have been removed by hand.
            let _ = std::fs::remove_file(run_folder().join(path));
        }
        self.shared.core().dismiss(|_, s| &*s.peer.remote == name);
    }

    fn peer(&self, remote: &Remote, options: &RemoteOptions) -> Peer {
        let default = remote.needs_probes().then_some(self.shared.probe);
        Peer {
            remote: Arc::from(remote.to_string()),
            probe: options.probe_ms.map_or(default, |ms| (ms > 0).then(|| Duration::from_millis(ms))),
            read_only: options.read_only,
            role: options.role.as_deref().map(Arc::from),
            id: None,
        }
    }

    fn listen(&mut self, remote: &Remote, options: &RemoteOptions, listener: Listener) {
        let name = remote.to_string();
        if let Listener::Tcp(socket) | Listener::Ssl(socket) = &listener
            && let Ok(address) = socket.local_addr()
        {
            let target = name.split_once(':').map_or("", |(_, target)| target);
            tracing::info!(target: "socket_util", "{target}: listening on port {}", address.port());
            self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), address);
            self.shared.link(&name, |link| link.bound_port = Some(address.port()));
        }
        let handle = tokio::spawn(accept(Arc::clone(&self.shared), listener, self.peer(remote, options)));
        self.tasks.insert(name, Task { remote: remote.clone(), options: options.clone(), handle });
    }

    fn connect(&mut self, remote: &Remote, options: &RemoteOptions) {
        let longest = options.backoff_max_ms.unwrap_or(BACKOFF_MS.1).max(BACKOFF_MS.0);
        let work = keep_connected(Arc::clone(&self.shared), remote.clone(), self.peer(remote, options), longest);
        let handle = tokio::spawn(work);
        self.tasks.insert(remote.to_string(), Task { remote: remote.clone(), options: options.clone(), handle });
    }

    fn write_status(&self) {
        let places = self.given();
        let mut effects = Vec::new();
        for place in &places {
            let Remote::Column { database, table, column } = place else { continue };
            let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut core = self.shared.core();
            if let Err(e) = core.write_status(Place { database, table, column }, &links, Instant::now()) {
                tracing::warn!(target: "ovsdb_server", rl = 1, burst = 1, "failed to update remote status: {e}");
            }
            effects.extend(core.finish(Instant::now()));
        }
        self.shared.perform(effects);
    }
}

/// A listener for a passive remote, `None` for any other.
async fn bind(remote: &Remote) -> std::io::Result<Option<Listener>> {
    let tcp = async |ip, port| TcpListener::bind(SocketAddr::new(ip, port)).await;
    Ok(match remote {
        Remote::ListenUnix(path) => Some(Listener::Unix(bind_unix(&run_folder().join(path))?)),
        Remote::ListenTcp { ip, port } => Some(Listener::Tcp(tcp(*ip, *port).await?)),
        Remote::ListenSsl { ip, port } => Some(Listener::Ssl(tcp(*ip, *port).await?)),
        Remote::Unix(_) | Remote::Tcp { .. } | Remote::Ssl { .. } | Remote::Column { .. } => None,
    })
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

async fn accept(shared: Arc<Shared>, listener: Listener, peer: Peer) {
    loop {
        let accepted = match &listener {
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(session::run(Arc::clone(&shared), stream, peer.clone()));
            }),
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(session::run(Arc::clone(&shared), low_latency(stream), peer.clone()));
            }),
            Listener::Ssl(listener) => listener.accept().await.map(|(stream, from)| {
                tokio::spawn(accept_tls(Arc::clone(&shared), low_latency(stream), from, peer.clone()));
            }),
        };
        if let Err(e) = accepted {
            tracing::warn!(target: "ovsdb_jsonrpc_server", rl = 1, burst = 5, "accept failed: {e}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn low_latency(stream: TcpStream) -> TcpStream {
    // Without it small replies wait for the peer's acknowledgement; a socket that does not take the option still works.
    let _ = stream.set_nodelay(true);
    stream
}

async fn accept_tls(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, mut peer: Peer) {
    match tls::accept(&shared.tls, stream).await {
        Ok(stream) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            peer.id = certificate.and_then(tls::common_name).map(Arc::from);
            session::run(shared, stream, peer).await;
        }
        Err(e) => tracing::warn!(target: "stream_ssl", rl = 1, burst = 5, "SSL_accept: {from}: {e}"),
    }
}

/// A byte stream to a client.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn open(shared: &Shared, remote: &Remote, peer: &mut Peer) -> std::io::Result<Box<dyn Stream>> {
    Ok(match remote {
        Remote::Unix(path) => {
            let (short, _folder) = socket_path(&run_folder().join(path))?;
            Box::new(UnixStream::connect(short).await?)
        }
        Remote::Tcp { host, port } => Box::new(low_latency(TcpStream::connect((host.as_str(), *port)).await?)),
        Remote::Ssl { host, port } => {
            let stream = low_latency(TcpStream::connect((host.as_str(), *port)).await?);
            let stream = tls::connect(&shared.tls, host, stream).await?;
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            peer.id = certificate.and_then(tls::common_name).map(Arc::from);
            Box::new(stream)
        }
        Remote::ListenUnix(_) | Remote::ListenTcp { .. } | Remote::ListenSsl { .. } | Remote::Column { .. } => {
            return Err(std::io::Error::other("not a remote to connect to"));
        }
    })
}

async fn keep_connected(shared: Arc<Shared>, remote: Remote, mut peer: Peer, longest_ms: u64) {
    let mut pause_ms = BACKOFF_MS.0;
    let name = remote.to_string();
    loop {
        shared.link(&name, |link| link.state = LinkState::Connecting);
        match open(&shared, &remote, &mut peer).await {
            Ok(stream) => {
                pause_ms = BACKOFF_MS.0;
                tracing::info!(target: "reconnect", "{remote}: connected");
                shared.link(&name, |link| (link.state, link.connected) = (LinkState::Active, Some(Instant::now())));
                session::run(Arc::clone(&shared), stream, peer.clone()).await;
                shared.link(&name, |link| link.last_error = None);
            }
            Err(e) => {
                pause_ms = (pause_ms * 2).min(longest_ms);
                tracing::info!(target: "reconnect", rl = 6, burst = 6, "{remote}: connection attempt failed ({e})");
                shared.link(&name, |link| link.last_error = Some(e.to_string()));
            }
        }
        shared.link(&name, |link| {
            (link.state, link.disconnected) = (LinkState::Backoff, Some(Instant::now()));
        });
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}
