//! Stream links between dummy ports: a listener (`options:pstream`) or a connection (`options:stream`), over which whole frames pass.
//!
//! What enters: frames that the switch sends to the port, bytes from a socket. What leaves: frames on every connection, frames into
//! receive queue 0. Neighbours: `dummy`. On the stream each frame follows its length in two bytes, big-endian, as between OVS's dummies.
//!
//! One thread per linked port does the waiting and reading; `send` writes at once without blocking, and what the socket does not
//! take stays (up to a bound) for the thread. The thread ends when the port is dropped.

use super::State;
use crate::device::PortConfig;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The most bytes that wait for a slow reader, per connection.
const BACKLOG_MAX: usize = 256 << 10;
/// The most connections to one listener.
const PEERS_MAX: usize = 64;
/// How long a failed connection waits before the next attempt.
const RETRY_MS: u16 = 250;

/// Whether a link works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStatus {
    /// The active end is connected.
    Connected,
    /// The active end is not connected.
    Disconnected,
    /// There is no link, or this is the passive end.
    Unknown,
}

trait Socket: Read + Write + AsFd + Send {}
impl Socket for UnixStream {}
impl Socket for TcpStream {}

struct Peer {
    socket: Box<dyn Socket>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    dead: bool,
}

impl Peer {
    fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, inbox: Vec::new(), outbox: Vec::new(), dead: false }
    }

    fn send(&mut self, frame: &[u8]) {
        let Ok(len) = u16::try_from(frame.len()) else {
            return;
        };
        if self.outbox.len() + frame.len() < BACKLOG_MAX {
            self.outbox.extend_from_slice(&len.to_be_bytes());
            self.outbox.extend_from_slice(frame);
        }
        self.write();
    }

    fn write(&mut self) {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(n @ 1..) => drop(self.outbox.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
    }

    /// Reads what is there, and hands whole frames to `put`.
    fn read(&mut self, put: &mut dyn FnMut(&[u8])) {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(n @ 1..) => self.inbox.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    self.dead = true;
                    break;
                }
            }
            while let Some((frame, used)) = split(&self.inbox) {
                put(frame);
                self.inbox.drain(..used);
            }
        }
    }
}

/// The first frame in `bytes` and how many bytes it takes with its length; None if it is not whole.
fn split(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let len = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    Some((bytes.get(2..2 + len)?, 2 + len))
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn bind(name: &str) -> io::Result<Self> {
        match name.split_once(':') {
            Some(("punix", path)) => {
                // A socket left over from an earlier run must not stand in the way.
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener))
            }
            Some(("ptcp", rest)) => {
                let (port, host) = rest.split_once(':').unwrap_or((rest, "0.0.0.0"));
                let listener = TcpListener::bind(format!("{host}:{port}"))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Socket>> {
        match self {
            Self::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(Box::new(socket))
            }
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(Box::new(socket))
            }
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

fn connect(name: &str) -> io::Result<Box<dyn Socket>> {
    match name.split_once(':') {
        Some(("unix", path)) => {
            let socket = UnixStream::connect(path)?;
            socket.set_nonblocking(true)?;
            Ok(Box::new(socket))
        }
        Some(("tcp", address)) => {
            let socket = TcpStream::connect(address)?;
            socket.set_nonblocking(true)?;
            Ok(Box::new(socket))
        }
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}

enum End {
    Passive(Listener),
    Active(String),
}

/// What the port and the thread share.
struct Common {
    peers: Mutex<Vec<Peer>>,
    active: bool,
    ended: AtomicBool,
    kick: EventFd,
}

impl Common {
    fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A dummy port's link. Dropping it ends the thread.
pub(super) struct Wire {
    common: Arc<Common>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({:?})", self.status())
    }
}

impl Wire {
    /// The link that the options ask for, if any; faults are logged as OVS logs them, and leave the port unlinked.
    pub(super) fn open(config: &PortConfig, port: Weak<State>) -> Option<Self> {
        let end = match (config.option("pstream"), config.option("stream")) {
            (Some(_), Some(_)) => {
                tracing::warn!(target: "netdev_dummy", "Open both reconnect and pstream is not supported.");
                return None;
            }
            (Some(name), None) => match Listener::bind(name) {
                Ok(listener) => End::Passive(listener),
                Err(error) => {
                    tracing::warn!(target: "netdev_dummy", "{name}: open failed ({error})");
                    return None;
                }
            },
            (None, Some(name)) => End::Active(name.to_owned()),
            (None, None) => return None,
        };
        let kick = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).ok()?;
        let active = matches!(end, End::Active(_));
        let common = Arc::new(Common { peers: Mutex::default(), active, ended: AtomicBool::new(false), kick });
        let theirs = Arc::clone(&common);
        let thread = std::thread::Builder::new().name("dummy-link".to_owned());
        thread.spawn(move || run(&theirs, &end, &port)).ok()?;
        Some(Self { common })
    }

    pub(super) fn status(&self) -> LinkStatus {
        match (self.common.active, self.common.peers().is_empty()) {
            (false, _) => LinkStatus::Unknown,
            (true, false) => LinkStatus::Connected,
            (true, true) => LinkStatus::Disconnected,
        }
    }

    pub(super) fn send(&self, frame: &[u8]) {
        let mut behind = false;
        for peer in self.common.peers().iter_mut() {
            peer.send(frame);
            behind |= peer.dead || !peer.outbox.is_empty();
        }
        if behind {
            let _ = self.common.kick.write(1);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.common.ended.store(true, Ordering::Release);
        let _ = self.common.kick.write(1);
    }
}

fn run(common: &Common, end: &End, port: &Weak<State>) {
    while !common.ended.load(Ordering::Acquire) {
        let mut retry = false;
        if let End::Active(name) = end
            && common.peers().is_empty()
        {
            match connect(name) {
                Ok(socket) => common.peers().push(Peer::new(socket)),
                Err(_) => retry = true,
            }
        }
        wait(common, end, retry);
        let _ = common.kick.read();
        if let End::Passive(listener) = end {
            while let Ok(socket) = listener.accept() {
                if common.peers().len() < PEERS_MAX {
                    common.peers().push(Peer::new(socket));
                }
            }
        }
        let mut frames = Vec::new();
        let mut peers = common.peers();
        for peer in peers.iter_mut() {
            peer.write();
            peer.read(&mut |frame| frames.push(frame.to_vec()));
        }
        peers.retain(|peer| !peer.dead);
        drop(peers);
        // The port's lock is taken only now: `send` holds it while it takes the peers' lock.
        if let Some(port) = port.upgrade() {
            let mut inner = port.inner();
            for frame in frames {
                port.inject(&mut inner, 0, &frame);
            }
        }
    }
}

fn wait(common: &Common, end: &End, retry: bool) {
    let listener = match end {
        End::Passive(listener) => Some(listener.as_fd()),
        End::Active(_) => None,
    };
    // Sockets are polled through duplicates, so that the peers' lock is not held while waiting.
    let sockets: Vec<_> = {
        let peers = common.peers();
        let wanted = |peer: &Peer| {
            let out = if peer.outbox.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            PollFlags::POLLIN | out
        };
        peers.iter().filter_map(|p| Some((p.socket.as_fd().try_clone_to_owned().ok()?, wanted(p)))).collect()
    };
    let mut fds = vec![PollFd::new(common.kick.as_fd(), PollFlags::POLLIN)];
    fds.extend(listener.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    fds.extend(sockets.iter().map(|(fd, flags)| PollFd::new(fd.as_fd(), *flags)));
    let timeout = if retry { PollTimeout::from(RETRY_MS) } else { PollTimeout::NONE };
    // An interrupted or failed wait only means one round for nothing.
    let _ = poll(&mut fds, timeout);
}
