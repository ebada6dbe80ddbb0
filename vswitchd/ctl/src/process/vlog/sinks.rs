//! The three destinations as files and sockets: standard error, the log file, and syslog over a datagram socket. What fails to be
//! written is lost, as it must be: there is no place left to complain to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The log file; it keeps its name while closed, for `vlog/reopen`.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    /// Creates or appends to `path`.
    /// # Errors
    /// As `open(2)` has them.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Some(append_to(path)?) })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one whole line.
    pub fn write(&mut self, line: &str) {
        if let Some(file) = &mut self.file {
            drop(file.write_all(line.as_bytes()));
        }
    }

    /// Closes it, to be reopened.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Whether reopening would give the very file that is open.
    pub fn is_current(&self) -> bool {
        let open = self.file.as_ref().and_then(|f| f.metadata().ok());
        let named = std::fs::metadata(&self.path).ok();
        open.zip(named).is_some_and(|(a, b)| a.dev() == b.dev() && a.ino() == b.ino())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o660);
    // A device ("/dev/full") must not be opened for appending with creation.
    if std::fs::metadata(path).is_ok_and(|m| m.file_type().is_char_device()) {
        return options.open(path);
    }
    options.append(true).create(true).open(path)
}

/// How messages reach the syslog daemon.
#[derive(Debug)]
pub enum Syslog {
    /// The system's socket, with the header that libc's `syslog(3)` would put there.
    Libc(Option<UnixDatagram>),
    Unix(PathBuf, Option<UnixDatagram>),
    Udp(UdpSocket),
    Null,
}

const DEV_LOG: &str = "/dev/log";

impl Syslog {
    /// Parses `libc`, `unix:FILE`, `udp:IP:PORT` or `null`.
    /// # Errors
    /// The method is not known, or its address cannot be used.
    pub fn new(method: &str) -> Result<Self, String> {
        let unsupported = || format!("unsupported syslog method '{method}'");
        match method.split_once(':') {
            None if method == "libc" => Ok(Self::Libc(datagram(Path::new(DEV_LOG)))),
            None if method == "null" => Ok(Self::Null),
            Some(("unix", file)) => Ok(Self::Unix(file.into(), datagram(Path::new(file)))),
            Some(("udp", address)) => udp(address).map(Self::Udp).map_err(|_| unsupported()),
            None | Some(_) => Err(unsupported()),
        }
    }

    /// Whether the socket's own prefix pattern applies, or libc's header.
    pub fn is_libc(&self) -> bool {
        matches!(self, Self::Libc(_))
    }

    /// Sends one line; a daemon that went away and came back is found again at the next line.
    pub fn send(&mut self, line: &str) {
        match self {
            Self::Libc(socket) => send_unix(socket, Path::new(DEV_LOG), line),
            Self::Unix(path, socket) => send_unix(socket, path, line),
            Self::Udp(socket) => drop(socket.send(line.as_bytes())),
            Self::Null => {}
        }
    }
}

/// A socket for `--syslog-target=HOST:PORT`.
/// # Errors
/// The address does not parse or cannot be reached.
pub fn udp(address: &str) -> io::Result<UdpSocket> {
    let address: std::net::SocketAddr = address.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn datagram(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(path).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

fn send_unix(socket: &mut Option<UnixDatagram>, path: &Path, line: &str) {
    if socket.is_none() {
        *socket = datagram(path);
    }
    if let Some(s) = socket
        && let Err(error) = s.send(line.as_bytes())
        && error.kind() != io::ErrorKind::WouldBlock
    {
        *socket = None;
    }
}
