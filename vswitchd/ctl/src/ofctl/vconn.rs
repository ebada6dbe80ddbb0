//! A connection to a switch: opened by bridge name or address, version agreed, requests and replies one after the other.

use super::options::Options;
use super::requests::Dialect;
use crate::console::Io;
use crate::dirs;
use crate::fault::{Fault, errno_text};
use nix::errno::Errno;
use openflow::message::{Body, ErrorMessage, Message, Multipart, MultipartBody};
use openflow::tls::{SERVER_NAME, TlsFiles};
use openflow::wire::frame::{Header, Splitter};
use openflow::{OfError, Version, Versions, Xid};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData, StreamOwned};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// OpenFlow's port (OpenFlow 1.3.3 section 6.3.3).
const PORT: u16 = 6653;

thread_local! {
    /// Transaction ids count through all connections of a run, as in OVS.
    static NEXT_XID: Cell<u32> = const { Cell::new(1) };
}

/// A transaction id that was not used before.
pub fn next_xid() -> Xid {
    Xid(NEXT_XID.replace(NEXT_XID.get().wrapping_add(1)))
}

/// The first of `n` in a row that were not used before.
pub(super) fn next_xids(n: usize) -> Xid {
    let first = NEXT_XID.get();
    NEXT_XID.set(first.wrapping_add(u32::try_from(n).unwrap_or(u32::MAX)));
    Xid(first)
}

/// The next one will be this; those from there on that are used already are answered.
pub(super) fn set_next_xid(xid: Xid) {
    NEXT_XID.set(xid.0);
}

/// What a connection goes over.
trait Stream: Read + Write + Send {
    fn socket(&self) -> BorrowedFd<'_>;
}

impl Stream for UnixStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Stream for TcpStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// TLS, of either side.
impl<C: Send + DerefMut + Deref<Target = ConnectionCommon<S>>, S: SideData> Stream for StreamOwned<C, TcpStream> {
    fn socket(&self) -> BorrowedFd<'_> {
        self.sock.as_fd()
    }
}

/// A message with the bytes that it came in.
#[derive(Clone, Debug)]
pub struct Received {
    pub header: Header,
    pub bytes: Vec<u8>,
}

/// A connection whose version is agreed on.
pub struct Vconn {
    stream: Box<dyn Stream>,
    splitter: Splitter,
    /// What it was opened by.
    pub name: String,
    /// The address behind that name.
    pub(super) peer: String,
    pub dialect: Dialect,
    /// What is read at once.
    chunk: Box<[u8]>,
}

impl std::fmt::Debug for Vconn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vconn").field("name", &self.name).field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// OFPT_ERROR
const ERROR: u8 = 1;
/// What is read from a connection at once.
const READ_BYTES: usize = 64 << 10;

impl Vconn {
    /// Opens the switch's management connection, in one of the versions that the options allow.
    ///
    /// # Errors
    /// No such switch; the connection fails; no version in common.
    pub fn open(io: &mut Io<'_>, options: &Options, switch: &str) -> Result<Self, Fault> {
        Self::open_service(io, options, switch, "mgmt")
    }

    /// Opens one of the switch's sockets: `mgmt` or `snoop`.
    ///
    /// # Errors
    /// As [`Vconn::open`].
    pub fn open_service(io: &mut Io<'_>, options: &Options, switch: &str, service: &str) -> Result<Self, Fault> {
        let address = address(switch, service)?;
        let stream = connect(&address, &options.process.tls.files()).map_err(|refusal| refusal.told(switch, &address))?;
        let mut vconn = Self {
            stream,
            splitter: Splitter::default(),
            name: switch.to_owned(),
            peer: address.to_string(),
            dialect: Dialect { version: Version::V10, nxm: false, table_id: false },
            chunk: vec![0; READ_BYTES].into_boxed_slice(),
        };
        vconn.negotiate(io, options.versions)?;
        Ok(vconn)
    }

    fn negotiate(&mut self, io: &mut Io<'_>, ours: Versions) -> Result<(), Fault> {
        self.dialect.version = newest(ours).unwrap_or(Version::V10);
        self.send(Body::Hello(ours)).map_err(|e| no_connection(&self.name, &e))?;
        let hello = self.receive().map_err(|e| no_connection(&self.name, &e))?;
        let theirs = match openflow::decode(&hello.bytes).map(|m| m.body) {
            Ok(Body::Hello(versions)) => versions,
            Ok(_) | Err(_) => {
                let text = format!("{}: received message while expecting hello", self.peer);
                io.warn("vconn", &text)?;
                return Err(no_connection(&self.name, &Errno::EPROTO.into()));
            }
        };
        match newest(Versions(ours.0 & theirs.0)) {
            Some(version) => {
                self.dialect.version = version;
                Ok(())
            }
            None => {
                let text = format!(
                    "{}: version negotiation failed (we support {}, peer supports {})",
                    self.peer,
                    version_text(ours),
                    version_text(theirs)
                );
                io.warn("vconn", &text)?;
                // The peer is told; if it has found out by itself and gone already, that is what the user reads.
                let data =
                    format!("We support {}, you support {}, no common versions.", version_text(ours), version_text(theirs))
                        .into();
                let refusal = Body::Error(ErrorMessage { error: OfError::OfphfcIncompatible, data });
                let error = self.send(refusal).err().unwrap_or_else(|| Errno::EPROTO.into());
                Err(no_connection(&self.name, &error))
            }
        }
    }

    /// The message as bytes, in this connection's version.
    ///
    /// # Errors
    /// The version has no form for it.
    pub fn encode(&self, body: Body, xid: Xid) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.append(body, xid, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, appended to others.
    pub(super) fn append(&self, body: Body, xid: Xid, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.dialect.encode(body, xid, out).map_err(|e| Fault::say(e.to_string()))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection's.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message; its transaction id.
    ///
    /// # Errors
    /// The connection's, or `InvalidInput` if the version has no form for the message.
    pub fn send(&mut self, body: Body) -> io::Result<Xid> {
        let xid = next_xid();
        let bytes = self.encode(body, xid).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
        self.send_bytes(&bytes)?;
        Ok(xid)
    }

    /// The next message.
    ///
    /// # Errors
    /// The connection's; `UnexpectedEof` when the switch closed it; `InvalidData` when it is out of step.
    pub fn receive(&mut self) -> io::Result<Received> {
        loop {
            if let Some(received) = self.next_received()? {
                return Ok(received);
            }
            self.read_more()?;
        }
    }

    /// The next message of what was read.
    ///
    /// # Errors
    /// `InvalidData` when the stream is out of step.
    pub fn next_received(&mut self) -> io::Result<Option<Received>> {
        let next = self.splitter.next_message().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        Ok(next.and_then(|bytes| Some(Received { header: Header::peek(bytes)?, bytes: bytes.to_vec() })))
    }

    /// Reads what has come, and waits where nothing has.
    ///
    /// # Errors
    /// The connection's; `UnexpectedEof` when the switch closed it.
    pub fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.splitter.push(&self.chunk[..n]);
                Ok(())
            }
        }
    }

    /// The socket, to wait for.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.socket()
    }

    /// Decodes a message of this connection.
    ///
    /// # Errors
    /// It is malformed.
    pub fn decode(&self, received: &Received) -> Result<Message, Fault> {
        openflow::decode(&received.bytes).map_err(|e| Fault::say(format!("{}: {} in message from switch", self.name, e.name())))
    }

    /// Sends a request and waits for the reply to it. Probes are answered, other messages dropped.
    ///
    /// # Errors
    /// The connection's.
    pub fn transact(&mut self, body: Body) -> Result<Received, Fault> {
        let xid = self.send(body).map_err(|e| self.broken("failed to send packet", &e))?;
        self.receive_reply(xid)
    }

    fn receive_reply(&mut self, xid: Xid) -> Result<Received, Fault> {
        loop {
            let received = self.receive().map_err(|e| self.broken("OpenFlow packet receive failed", &e))?;
            if !self.answer_probe(&received)? && received.header.xid == xid {
                return Ok(received);
            }
        }
    }

    /// Sends requests and waits for the reply to the last of them. Errors that come until then are put to the others, that reply among them
    /// if it is one.
    pub(super) fn send_up_to_noting(&mut self, bytes: &[u8], last: Xid, errors: &mut Vec<Received>) -> Result<Received, Fault> {
        self.send_bytes(bytes).map_err(|e| self.broken("failed to send packet", &e))?;
        loop {
            let received = self.receive().map_err(|e| self.broken("OpenFlow packet receive failed", &e))?;
            // Its probes have transaction ids of its own, which may be ours as well.
            if self.answer_probe(&received)? {
                continue;
            }
            if received.header.kind == ERROR {
                errors.push(received.clone());
            }
            if received.header.xid == last {
                return Ok(received);
            }
        }
    }

    /// Answers an echo request.
    ///
    /// # Errors
    /// The connection's.
    pub fn answer_probe(&mut self, received: &Received) -> Result<bool, Fault> {
        const ECHO_REQUEST: u8 = 2;
        if received.header.kind != ECHO_REQUEST {
            return Ok(false);
        }
        let payload = received.bytes.get(8..).unwrap_or_default().to_vec();
        let reply = self.encode(Body::EchoReply(payload), received.header.xid)?;
        self.send_bytes(&reply).map_err(|e| self.broken("failed to send packet", &e))?;
        Ok(true)
    }

    pub(super) fn broken(&self, what: &str, error: &io::Error) -> Fault {
        Fault::say(format!("{}: {what} ({})", self.name, errno_text(error)))
    }

    /// Sends requests, a barrier the last of them, and waits for the reply to that. What came for one of `xids` before it, if anything.
    pub(super) fn send_up_to(&mut self, bytes: &[u8], barrier: Xid, xids: &[Xid]) -> Result<Option<Received>, Fault> {
        self.send_bytes(bytes).map_err(|e| self.broken("failed to send packet", &e))?;
        let mut first = None;
        loop {
            let received = self.receive().map_err(|e| self.broken("OpenFlow packet receive failed", &e))?;
            if self.answer_probe(&received)? {
                continue;
            }
            if received.header.xid == barrier {
                return Ok(first);
            }
            if xids.contains(&received.header.xid) {
                first.get_or_insert(received);
            }
        }
    }

    /// Sends a multipart request as bytes; all messages of the reply, or the one that refuses it.
    ///
    /// # Errors
    /// The connection's.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Vec<Received>, Fault> {
        let Some(Header { xid, .. }) = Header::peek(request) else { return Ok(Vec::new()) };
        self.send_bytes(request).map_err(|e| self.broken("failed to send packet", &e))?;
        let mut replies = Vec::new();
        loop {
            let received = self.receive_reply(xid)?;
            let more = says_more(&received);
            replies.push(received);
            if !more {
                return Ok(replies);
            }
        }
    }

    /// Sends a multipart request; all messages of the reply.
    ///
    /// # Errors
    /// The connection's; a malformed reply.
    pub fn transact_multipart(&mut self, body: MultipartBody) -> Result<Vec<(Received, Message)>, Fault> {
        let request = Body::Stats(Box::new(Multipart { more: false, nxm: self.dialect.nxm, body }));
        let xid = self.send(request).map_err(|e| self.broken("failed to send packet", &e))?;
        let mut replies = Vec::new();
        loop {
            let received = self.receive_reply(xid)?;
            let message = self.decode(&received)?;
            let more = matches!(&message.body, Body::Stats(m) if m.more);
            replies.push((received, message));
            if !more {
                return Ok(replies);
            }
        }
    }

    /// As [`Vconn::transact`], decoded; an error of the switch ends the run.
    ///
    /// # Errors
    /// The connection's, or the switch's refusal.
    pub fn request(&mut self, body: Body) -> Result<Body, Fault> {
        let received = self.transact(body)?;
        let body = self.decode(&received)?.body;
        if let Body::Error(ErrorMessage { error, .. }) = &body {
            return Err(Fault::say(format!("{}: switch answered with error {}", self.name, error.name())));
        }
        Ok(body)
    }
}

/// Whether a message is a part of a multipart reply that is not the last one (OpenFlow 1.3 section 7.3.5).
fn says_more(received: &Received) -> bool {
    let kind = if received.header.version == Version::V10 as u8 { 17 } else { 19 };
    received.header.kind == kind && received.bytes.get(11).is_some_and(|flags| flags & 1 != 0)
}

pub(super) fn newest(versions: Versions) -> Option<Version> {
    Version::ALL.into_iter().rev().find(|v| versions.0 & 1 << (*v as u8) != 0)
}

fn version_text(versions: Versions) -> String {
    let all: Vec<u8> = (1..32).filter(|v| versions.0 & 1 << v != 0).collect();
    match all.as_slice() {
        [one] => format!("version 0x{one:02x}"),
        [.., last] if all.len() == usize::from(*last) => format!("version 0x{last:02x} and earlier"),
        [first, .., last] if all.len() > 2 && all.len() == usize::from(*last - *first) + 1 => {
            format!("versions 0x{first:02x} through 0x{last:02x}")
        }
        many => format!("versions {}", many.iter().map(|v| format!("0x{v:02x}")).collect::<Vec<_>>().join(", ")),
    }
}

// ---- addresses -----------------------------------------------------------------------------------------------------------

#[derive(Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(String, u16),
    ListenUnix(PathBuf),
    ListenTcp(String, u16),
    Ssl(String, u16),
    ListenSsl(String, u16),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::ListenUnix(path) => write!(f, "punix:{}", path.display()),
            Self::Tcp(host, port) => write!(f, "tcp:{host}:{port}"),
            Self::ListenTcp(host, port) => write!(f, "ptcp:{port}:{host}"),
            Self::Ssl(host, port) => write!(f, "ssl:{host}:{port}"),
            Self::ListenSsl(host, port) => write!(f, "pssl:{port}:{host}"),
        }
    }
}

fn address(switch: &str, service: &str) -> Result<Address, Fault> {
    let socket = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if let Some((method, rest)) = switch.split_once(':') {
        let port = |text: &str| {
            let bad = || Fault::say(format!("{switch}: bad port number \"{text}\""));
            if text.is_empty() { Ok(PORT) } else { text.parse().map_err(|_| bad()) }
        };
        return match method {
            "unix" => Ok(Address::Unix(dirs::in_run(rest))),
            "punix" => Ok(Address::ListenUnix(dirs::in_run(rest))),
            "tcp" | "ssl" => {
                let (host, number) = host_and_port(rest);
                let (host, number) = (host.to_owned(), port(number)?);
                Ok(if method == "tcp" { Address::Tcp(host, number) } else { Address::Ssl(host, number) })
            }
            "ptcp" | "pssl" => {
                let (number, host) = rest.split_once(':').unwrap_or((rest, "0.0.0.0"));
                let (host, number) = (host.trim_matches(['[', ']']).to_owned(), port(number)?);
                Ok(if method == "ptcp" { Address::ListenTcp(host, number) } else { Address::ListenSsl(host, number) })
            }
            _ => Err(Fault::say(format!("connecting to {switch} (Address family not supported by protocol)"))),
        };
    }
    let management = dirs::in_run(format!("{switch}.{service}"));
    if socket(&management) {
        return Ok(Address::Unix(management));
    }
    if socket(Path::new(switch)) {
        return Ok(Address::Unix(switch.into()));
    }
    Err(Fault::say(format!("{switch} is not a bridge or a socket")))
}

fn host_and_port(text: &str) -> (&str, &str) {
    match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, rest)) => (host, rest.trim_start_matches(':')),
        None => text.split_once(':').unwrap_or((text, "")),
    }
}

/// Why there is no connection.
enum Refusal {
    /// Opening it failed.
    AtOnce(io::Error),
    /// It was under way: the other machine refused it, or what was said first was no good.
    Later(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::AtOnce(error)
    }
}

impl Refusal {
    /// In the words of ovs-ofctl, which opens connections without waiting for them.
    fn told(&self, switch: &str, address: &Address) -> Fault {
        match (self, address) {
            (Self::Later(error), _) => no_connection(switch, error),
            (Self::AtOnce(error), Address::Unix(path)) if !switch.contains(':') => {
                Fault::because(format!("{}: failed to open socket", path.display()), error)
            }
            (Self::AtOnce(error), _) => Fault::because(format!("connecting to {switch}"), error),
        }
    }
}

/// A connection was under way, and came to nothing.
fn no_connection(switch: &str, error: &io::Error) -> Fault {
    Fault::because(format!("{switch}: failed to connect to socket"), error)
}

fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, Refusal> {
    let stream = TcpStream::connect((host, port)).map_err(|error| {
        let is_here = || (host, port).to_socket_addrs().is_ok_and(|mut all| all.all(|address| address.ip().is_loopback()));
        let answers = [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable];
        if answers.contains(&error.kind()) && !is_here() { Refusal::Later(error) } else { Refusal::AtOnce(error) }
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect(address: &Address, tls: &TlsFiles) -> Result<Box<dyn Stream>, Refusal> {
    Ok(match address {
        Address::Unix(path) => Box::new(UnixStream::connect(short(path)?.path())?),
        Address::ListenUnix(path) => Box::new(UnixListener::bind(path)?.accept()?.0),
        Address::Tcp(host, port) => Box::new(connect_tcp(host, *port)?),
        Address::ListenTcp(host, port) => Box::new(TcpListener::bind((host.as_str(), *port))?.accept()?.0),
        Address::Ssl(host, port) => {
            let config = tls.client().map_err(io::Error::other)?;
            let mut stream = connect_tcp(host, *port)?;
            let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
            let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
            // What is wrong with a certificate is told before anything is said.
            session.complete_io(&mut stream).map_err(Refusal::Later)?;
            Box::new(StreamOwned::new(session, stream))
        }
        Address::ListenSsl(host, port) => {
            let config = tls.server().map_err(io::Error::other)?;
            let mut stream = TcpListener::bind((host.as_str(), *port))?.accept()?.0;
            let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
            session.complete_io(&mut stream).map_err(Refusal::Later)?;
            Box::new(StreamOwned::new(session, stream))
        }
    })
}

/// A name for a socket that fits into a socket address, however deep its folder lies: it goes through the folder's descriptor.
pub(crate) struct ShortPath {
    path: PathBuf,
    _folder: Option<std::fs::File>,
}

impl ShortPath {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Bytes of a socket address's path, its end among them.
const PATH_BYTES_MAX: usize = 108;

pub(crate) fn short(path: &Path) -> io::Result<ShortPath> {
    use std::os::fd::AsRawFd as _;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(ShortPath { path: path.to_owned(), _folder: None });
    };
    if path.as_os_str().len() < PATH_BYTES_MAX {
        return Ok(ShortPath { path: path.to_owned(), _folder: None });
    }
    let folder = std::fs::File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(ShortPath { path, _folder: Some(folder) })
}
