//! The I/O of connections: sockets, hellos, the loop that reads, handles and writes.
//!
//! What enters: bytes. What leaves: bytes. Everything that decides is elsewhere: `reconnect`, `requests`, `notices`.

use super::endpoint::{Agreed, Endpoint, Target, Terms};
use super::outbox::Outbox;
use super::reconnect::{CONNECT_TIMEOUT_MS, Effect, Event, Status};
use super::requests::error_about;
use super::state::State;
use super::{CONN_BAD_MESSAGE, CONN_NEGOTIATION_FAILED, Conn, RCONN_DISCONNECTED, Shared, sockets};
use flow::clock::now_ms;
use openflow::message::{Body, ErrorMessage, Message, Role};
use openflow::text::Names;
use openflow::tls::SERVER_NAME;
use openflow::types::Versions;
use openflow::wire::{Assembler, Codec, HEADER_BYTES, Header, Splitter, kind_of};
use openflow::{OfError, Version, Xid};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Message types that are the same in every version.
const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
/// OpenFlow 1.5.
const NEWEST: u8 = Version::V15 as u8;
/// Header, type and code.
const ERROR_BYTES_MIN: usize = 12;

const READ_BYTES: usize = 65_536;
/// Asynchronous messages that go out before a barrier's reply: about so much at a time, the rest follows.
const BEFORE_BARRIER_BYTES_MAX: usize = 1 << 20;
/// How messages are said in the log.
const SENT: &str = "sent (Success)";
const RECEIVED: &str = "received";
const LOG_VERBOSITY: openflow::print::Verbosity = 1;
/// How often the clock is looked at while packet-ins wait for the rate limit.
const LIMITED_POLL_MS: i64 = 100;
/// Longest wait for the peer's hello.
const HELLO_TIMEOUT_MS: u64 = 10_000;

/// What a conversation runs over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What the task of an endpoint has.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) agreed: watch::Receiver<Option<Agreed>>,
    pub(super) terms: watch::Receiver<Terms>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) again: Arc<Notify>,
}

impl Job {
    fn step(&self, event: &Event) -> Effect {
        step(&self.status, event)
    }

    /// What a conversation that begins relies on; none begins when the endpoint is closed.
    fn agreed(&self) -> Option<Agreed> {
        *self.agreed.borrow()
    }

    /// Waits for the end that `work` comes to, or until something else is agreed on than what it relies on, or the endpoint is closed.
    async fn until_closed(&self, agreed: Agreed, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        let mut now = self.agreed.clone();
        let closes = async move {
            if now.wait_for(|now| *now != Some(agreed)).await.is_err() {
                // Nobody is left who could close it.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // Who is to go does not hear of what came after that.
            biased;
            () = closes => Ok(()),
            end = work => end,
        }
    }
}

fn step(life: &Mutex<Status>, event: &Event) -> Effect {
    life.lock().expect("no holder of a status panics").step(event, now_ms())
}

/// Serves a unix listener for as long as the endpoint is configured.
pub(super) async fn serve_unix(job: Job, listener: UnixListener) {
    let job = Arc::new(job);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let job = Arc::clone(&job);
                let name = job.shared.next_name("unix");
                tokio::spawn(async move { serve_one(&job, stream, name).await });
            }
            Err(error) => {
                tracing::warn!(target: "vconn", "{}: accept failed: {error}", job.endpoint.target);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a TCP listener, with TLS or without; tries again to bind until it can.
pub(super) async fn serve_tcp(job: Job, (host, port): (String, u16), tls: bool) {
    let Some(Agreed { dscp, .. }) = job.agreed() else { return };
    let refused = |error| tracing::error!(target: "connmgr", "failed to listen on {}: {error}", job.endpoint.target);
    let listener = job.shared.ending.listen(&host, port, dscp, refused).await;
    let job = Arc::new(job);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it replies would wait for more to send.
                let _ = stream.set_nodelay(true);
                let job = Arc::clone(&job);
                if tls {
                    tokio::spawn(async move { serve_tls(&job, stream, format!("ssl:{peer}")).await });
                } else {
                    tokio::spawn(async move { serve_one(&job, stream, format!("tcp:{peer}")).await });
                }
            }
            Err(error) => {
                tracing::warn!(target: "vconn", "{}: accept failed: {error}", job.endpoint.target);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A peer that has to show a certificate first. The files are read anew for each connection, so that new ones count at once.
async fn serve_tls(job: &Job, stream: TcpStream, peer: String) {
    let config = match tokio::task::block_in_place(|| job.shared.tls().server()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(target: "stream_ssl", "{error}");
            return;
        }
    };
    let limit = Duration::from_millis(CONNECT_TIMEOUT_MS.unsigned_abs());
    match tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => serve_one(job, stream, peer).await,
        Ok(Err(error)) => tracing::warn!(target: "stream_ssl", "{peer}: SSL_accept: {error}"),
        Err(_) => tracing::warn!(target: "stream_ssl", "{peer}: SSL_accept: Connection timed out"),
    }
}

async fn serve_one<S: Wire>(job: &Job, stream: S, peer: String) {
    let Some(agreed) = job.agreed() else { return };
    let name = format!("{}<->{peer}", job.endpoint.bridge_name);
    let end = if job.endpoint.is_snoop() {
        job.until_closed(agreed, snoop(job, agreed, stream)).await
    } else {
        talk(job, agreed, stream, name.clone(), None).await
    };
    if let Err(error) = end
        && !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    {
        tracing::info!(target: "rconn", "{name}: connection dropped ({error})");
    }
}

/// Keeps an active connection up.
pub(super) async fn connect_forever(job: Job, target: Target) {
    let name = format!("{}<->{}", job.endpoint.bridge_name, job.endpoint.target);
    let mut noise = Noise::default();
    while let Some(agreed) = job.agreed() {
        job.step(&Event::Connect);
        if !noise.quiet {
            tracing::info!(target: "rconn", "{name}: connecting...");
        }
        let limit = Duration::from_millis(CONNECT_TIMEOUT_MS.unsigned_abs());
        let outcome = tokio::time::timeout(limit, open_and_talk(&job, agreed, &target, &name)).await;
        let error = match outcome {
            Ok(Ok(talked)) => match talked.await {
                Ok(()) => "End of file".to_owned(),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => os_text(&error),
            Err(_) => "Connection timed out".to_owned(),
        };
        let was_up = job.status.lock().expect("no holder of a status panics").is_connected();
        if was_up {
            RCONN_DISCONNECTED.inc();
            noise = Noise::default();
            tracing::info!(target: "rconn", "{name}: connection closed by peer");
        } else if !noise.quiet {
            tracing::warn!(target: "rconn", "{name}: connection failed ({error})");
        }
        if let Effect::Wait(ms) = job.step(&Event::Failed(error)) {
            match noise.about(ms) {
                Word::Wait => tracing::info!(target: "rconn", "{name}: waiting {} seconds before reconnect", ms / 1000),
                Word::Last => {
                    tracing::info!(target: "rconn", "{name}: continuing to retry connections in the background but suppressing further logging");
                }
                Word::None => {}
            }
            wait_to_connect(&job, ms).await;
        }
    }
}

/// Waits for as long as the status has said, or less: when the longest wait becomes shorter, or somebody asks for it.
async fn wait_to_connect(job: &Job, mut ms: flow::Msec) {
    let mut terms = job.terms.clone();
    let sleep = tokio::time::sleep(Duration::from_millis(ms.unsigned_abs()));
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = sleep.as_mut() => return,
            () = job.again.notified() => return,
            Ok(()) = terms.changed() => {
                let less = job.status.lock().expect("no holder of a status panics").backoff_ms().min(ms);
                let sooner = Duration::from_millis((ms - less).unsigned_abs());
                let at = sleep.deadline();
                sleep.as_mut().reset(at.checked_sub(sooner).unwrap_or(at));
                ms = less;
            }
        }
    }
}

/// What is said of a controller that does not answer: all, until the waits grow no longer.
#[derive(Debug, Default)]
struct Noise {
    last_ms: flow::Msec,
    quiet: bool,
}

/// What is said of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    /// How long it is.
    Wait,
    /// That nothing more will be said.
    Last,
    None,
}

impl Noise {
    fn about(&mut self, wait_ms: flow::Msec) -> Word {
        if wait_ms > std::mem::replace(&mut self.last_ms, wait_ms) {
            Word::Wait
        } else if std::mem::replace(&mut self.quiet, true) {
            Word::None
        } else {
            Word::Last
        }
    }
}

/// A conversation that is under way.
type Talk<'a> = std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

async fn open_and_talk<'a>(job: &'a Job, agreed: Agreed, target: &Target, title: &'a str) -> io::Result<Talk<'a>> {
    match target {
        Target::Tcp(host, port) => {
            let stream = sockets::connect(host, *port, agreed.dscp).await?;
            Ok(Box::pin(talk(job, agreed, stream, title.to_owned(), Some(&job.status))))
        }
        Target::Ssl(host, port) => {
            let config = tokio::task::block_in_place(|| job.shared.tls().client());
            let config = config.map_err(|error| {
                tracing::error!(target: "stream_ssl", "{error}");
                io::Error::other("Protocol not available")
            })?;
            let stream = sockets::connect(host, *port, agreed.dscp).await?;
            let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await.inspect_err(|error| {
                tracing::warn!(target: "stream_ssl", "{}: SSL_connect: {error}", job.endpoint.target);
            })?;
            Ok(Box::pin(talk(job, agreed, stream, title.to_owned(), Some(&job.status))))
        }
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            Ok(Box::pin(talk(job, agreed, stream, title.to_owned(), Some(&job.status))))
        }
        Target::ListenTcp(..) | Target::ListenSsl(..) | Target::ListenUnix(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// An error as `strerror` has it, without Rust's addition.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Exchanges hellos. Gives the version to speak, and what the peer has sent beyond its hello.
async fn greet<S: Wire>(stream: &mut S, ours: Versions, name: &str) -> io::Result<(Version, Splitter)> {
    let highest = Version::ALL.into_iter().rev().find(|v| ours.0 >> *v as u32 & 1 != 0).unwrap_or(Version::V10);
    let hello = Message { version: highest, xid: Xid(1), body: Body::Hello(ours) }.encode().map_err(io::Error::other)?;
    stream.write_all(&hello).await?;
    log_messages(name, SENT, &hello);
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 4096];
    let first = loop {
        if let Some(message) = splitter.next_message().map_err(io::Error::other)? {
            break message.to_vec();
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => splitter.push(&buffer[..n]),
        }
    };
    log_messages(name, RECEIVED, &first);
    // As OVS does: who begins with anything else is not spoken to.
    let Ok(Message { body: Body::Hello(theirs), .. }) = Codec::default().decode(&first) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "expected hello, got another message"));
    };
    match Version::ALL.into_iter().rev().find(|v| (ours.0 & theirs.0) >> *v as u32 & 1 != 0) {
        Some(version) => {
            tracing::debug!(
                target: "vconn",
                "{}: negotiated OpenFlow version 0x{:02x} (we support {}, peer supports {})",
                name.split("<->").last().unwrap_or(name),
                version as u8,
                versions_up_to(ours),
                versions_up_to(theirs)
            );
            Ok((version, splitter))
        }
        None => {
            CONN_NEGOTIATION_FAILED.inc();
            let (we, you) = (versions_up_to(ours), versions_up_to(theirs));
            let text = format!("We support {we}, you support {you}, no common versions.");
            tracing::warn!(target: "vconn", "{name}: version negotiation failed (we support {we}, peer supports {you})");
            let highest = u8::try_from(theirs.0.checked_ilog2().unwrap_or(0)).unwrap_or(0);
            let version = Version::from_wire(highest).unwrap_or(Version::V10);
            let error = ErrorMessage { error: OfError::OfphfcIncompatible, data: text.clone().into_bytes() };
            let error = Message { version, xid: Xid(0), body: Body::Error(error) };
            stream.write_all(&error.encode().map_err(io::Error::other)?).await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

/// `version 0x06 and earlier` where all older ones are among them, else as `versions_text`.
fn versions_up_to(versions: Versions) -> String {
    let highest = (0..32).rev().find(|v| versions.0 >> v & 1 != 0).unwrap_or(0);
    let first = Version::V10 as u32;
    let all = (first..=highest).fold(0, |bits, v| bits | 1 << v);
    if highest > first && versions.0 == all { format!("version 0x{highest:02x} and earlier") } else { versions_text(versions) }
}

/// `version 0x01` or `versions 0x01, 0x04`.
fn versions_text(versions: Versions) -> String {
    let list: Vec<String> = (0..32).filter(|v| versions.0 >> v & 1 != 0).map(|v| format!("0x{v:02x}")).collect();
    match list.as_slice() {
        [] => "no versions".to_owned(),
        [one] => format!("version {one}"),
        _ => format!("versions {}", list.join(", ")),
    }
}

/// A whole conversation. The `status` of an active endpoint lives on when the connection ends; an accepted one's is its own.
async fn talk<S: Wire>(
    job: &Job,
    agreed: Agreed,
    mut stream: S,
    name: String,
    status: Option<&Arc<Mutex<Status>>>,
) -> io::Result<()> {
    let hello = greet(&mut stream, agreed.versions, &name);
    let (version, splitter) =
        tokio::time::timeout(Duration::from_millis(HELLO_TIMEOUT_MS), hello).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let mut terms = job.terms.clone();
    let began_with = terms.borrow_and_update().clone();
    let own = Mutex::new(Status::new(began_with.max_backoff_ms, began_with.probe_ms));
    let life = status.map_or(&own, |s| s);
    step(life, &Event::Connected);
    if status.is_some() {
        tracing::info!(target: "rconn", "{name}: connected");
    }
    let mut state = State::new(version, began_with.kind);
    state.hears_unasked = began_with.asynchronous;
    let conn = Arc::new(Conn {
        name,
        bridge: job.endpoint.bridge,
        serial: job.shared.next_serial(),
        state: Mutex::new(state),
        outbox: Outbox::new(began_with.limits),
        watcher: job.shared.slowpath.read_world().watchers.watcher(job.endpoint.bridge, version),
        roles: Arc::clone(&job.shared.roles),
        terms: terms.clone(),
    });
    job.shared.roles.register(&conn);
    job.shared.note_miss_listeners(conn.bridge);
    let bridge = conn.bridge;
    let end = job.until_closed(agreed, converse(job, &mut stream, &conn, splitter, (life, terms), status.is_some())).await;
    conn.log_flow_mods(now_ms(), true);
    drop(conn);
    tokio::task::block_in_place(|| job.shared.note_miss_listeners(bridge));
    end
}

async fn converse<S: Wire>(
    job: &Job,
    stream: &mut S,
    conn: &Arc<Conn>,
    mut splitter: Splitter,
    (life, mut terms): (&Mutex<Status>, watch::Receiver<Terms>),
    is_active: bool,
) -> io::Result<()> {
    let mut assembler = Assembler::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut out = Vec::new();
    loop {
        while let Some(raw) = splitter.next_message().map_err(io::Error::other)? {
            run(job, raw, || handle_one(job, conn, &mut assembler, raw, &mut out));
            if out.len() >= READ_BYTES {
                stream.write_all(&out).await?;
                out.clear();
            }
        }
        while let Some(part) = assembler.expire(now_ms()) {
            encode(job, conn, &error_about(OfError::OfpbrcMultipartRequestTimeout, &part), &mut out);
        }
        take_updates(job, conn, &mut out);
        while out.len() < READ_BYTES
            && let Some(message) = conn.outbox.take(now_ms())
        {
            encode(job, conn, &message, &mut out);
        }
        if out.len() >= READ_BYTES {
            // What had no room in this turn goes out in the next one, whether anything else happens or not.
            conn.outbox.wake();
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
            resume_monitors(job, conn);
        }
        let now = now_ms();
        let tick = life.lock().expect("no holder of a status panics").next_tick_ms();
        // The clock of tests leaps: what waits for the rate limit looks at it often.
        let limited = conn.outbox.next_ms(now).map(|at| at.min(now + LIMITED_POLL_MS));
        let tick = tick.into_iter().chain(limited).chain(assembler.next_expiry_ms()).min();
        let wait = tick.map_or(Duration::from_secs(3600), |at| Duration::from_millis((at - now).max(1).unsigned_abs()));
        tokio::select! {
            read = stream.read(&mut buffer) => match read? {
                0 => return Ok(()),
                n => {
                    splitter.push(&buffer[..n]);
                    step(life, &Event::Received);
                    if is_active {
                        note_role(job, conn);
                    }
                }
            },
            () = conn.outbox.wait() => {}
            () = conn.watcher.wait() => {}
            Ok(()) = terms.changed() => take_up(job, conn, life, &terms.borrow_and_update().clone()),
            () = tokio::time::sleep(wait) => match step(life, &Event::Tick) {
                Effect::Probe => {
                    let idle_s = terms.borrow().probe_ms / 1000;
                    tracing::debug!(target: "rconn", "{}: idle {idle_s} seconds, sending inactivity probe", conn.name);
                    let version = conn.lock().version;
                    encode(job, conn, &Message { version, xid: Xid(0), body: Body::EchoRequest(vec![]) }, &mut out);
                }
                Effect::GiveUp => {
                    let probe_s = terms.borrow().probe_ms / 1000;
                    let text = format!("no response to inactivity probe after {probe_s} seconds, disconnecting");
                    tracing::error!(target: "rconn", "{}: {text}", conn.name);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Effect::None | Effect::Wait(_) => {}
            },
            () = job.again.notified(), if is_active => return Ok(()),
        }
    }
}

/// What the configuration says otherwise than before; of which kind a connection is remains as it came to be.
fn take_up(job: &Job, conn: &Conn, life: &Mutex<Status>, terms: &Terms) {
    life.lock().expect("no holder of a status panics").take_up(terms.max_backoff_ms, terms.probe_ms);
    conn.outbox.limit(terms.limits);
    conn.lock().hears_unasked = terms.asynchronous;
    tokio::task::block_in_place(|| job.shared.note_miss_listeners(conn.bridge));
}

/// Updates of flow monitors go out before anything that was asked for after the changes they tell of.
fn take_updates(job: &Job, conn: &Conn, out: &mut Vec<u8>) {
    let updates = conn.watcher.take();
    if !updates.is_empty() {
        log_messages(&conn.name, SENT, &updates);
        job.shared.snoop_copy(conn, &updates);
        out.extend_from_slice(&updates);
    }
}

/// What other connections' packet-outs and flow-mods have brought about by now goes out before the barrier's reply, as far as it has room.
fn take_notices(job: &Job, conn: &Conn, out: &mut Vec<u8>) {
    super::notices::spread_now(&job.shared);
    let most = out.len() + BEFORE_BARRIER_BYTES_MAX;
    while out.len() < most
        && let Some(message) = conn.outbox.take(now_ms())
    {
        encode(job, conn, &message, out);
    }
}

/// The peer has taken everything: monitors that paused go on.
fn resume_monitors(job: &Job, conn: &Conn) {
    if !conn.watcher.is_paused() {
        return;
    }
    tokio::task::block_in_place(|| {
        let world = job.shared.slowpath.read_world();
        if let Some(bridge) = world.bridges.get(&conn.bridge) {
            conn.watcher.drained(bridge);
        }
    });
}

/// Handles a message on this thread. One that may take long hands the thread's other tasks over first, which costs more than most flow-mods:
/// where nothing has to be waited for it is left out.
fn run(job: &Job, raw: &[u8], handle: impl FnOnce()) {
    if is_short(raw) && job.shared.slowpath.is_calm() { handle() } else { tokio::task::block_in_place(handle) }
}

/// Flow-mods, barriers, and additions to a bundle.
fn is_short(raw: &[u8]) -> bool {
    const FLOW_MOD: u8 = 14;
    const BUNDLE_ADD: u8 = 34;
    /// OFPT_BUNDLE_ADD_MESSAGE before OpenFlow 1.4: ONF's extension 230.
    const ONF_BUNDLE_ADD: [u8; 8] = [0x4f, 0x4e, 0x46, 0, 0, 0, 0x08, 0xfd];
    let Some(header) = Header::peek(raw) else { return false };
    match (header.version, header.kind) {
        (_, FLOW_MOD) | (1, 18) | (2.., 20) => true,
        (5.., BUNDLE_ADD) => true,
        (_, 4) => raw.get(8..16).is_some_and(|b| b == ONF_BUNDLE_ADD),
        _ => false,
    }
}

/// Keeps the role, and what became of packet-ins, for the database.
fn note_role(job: &Job, conn: &Conn) {
    let role = match conn.lock().role {
        Role::Primary => "master",
        Role::Secondary => "slave",
        Role::Equal | Role::NoChange => "other",
    };
    let packet_ins = conn.outbox.stats();
    let mut status = job.status.lock().expect("no holder of a status panics");
    status.role = Some(role);
    status.packet_ins = packet_ins;
}

/// Decodes and handles one message; its replies go to `out`.
fn handle_one(job: &Job, conn: &Conn, assembler: &mut Assembler, raw: &[u8], out: &mut Vec<u8>) {
    job.shared.snoop_copy(conn, raw);
    log_messages(&conn.name, RECEIVED, raw);
    let Some(header) = Header::peek(raw) else { return };
    if header.version > NEWEST && matches!(header.kind, ECHO_REQUEST | ECHO_REPLY) {
        return echo(job, conn, raw, header.kind == ECHO_REQUEST, out);
    }
    let (agreed, nxm, table_id) = {
        let state = conn.lock();
        (state.version, state.nxm, state.table_id)
    };
    let version = Version::from_wire(header.version);
    let options = job.shared.tunnel_options(conn.bridge);
    let codec = Codec { nxm, table_id, options: Some(&options), ..Codec::default() };
    let is_whole = header.kind != ERROR || raw.len() >= ERROR_BYTES_MIN;
    // These may be of another version than the one agreed on; an echo of one that can be answered.
    let is_of_any = match header.kind {
        HELLO | ERROR => header.version != 0 && is_whole,
        ECHO_REQUEST | ECHO_REPLY => version.is_some(),
        _ => false,
    };
    let mut parts = Vec::new();
    let decoded = if version != Some(agreed) && !is_of_any {
        Err(OfError::OfpbrcBadVersion)
    } else if !is_whole {
        Err(OfError::OfpbrcBadLen)
    } else if matches!(header.kind, HELLO | ERROR) {
        // The greeting is over, and nothing was asked: OVS refuses both, whatever type an error has.
        Err(OfError::OfpbrcBadType)
    } else if let Err(error) = conn.may(kind_of(raw)) {
        Err(error)
    } else if Assembler::may_be_part(header) {
        assembler.take(raw, now_ms()).and_then(|whole| {
            parts = whole;
            assemble(&codec, &parts)
        })
    } else {
        codec.decode(raw).map(Some)
    };
    // As in OVS errors quote the first of several parts.
    let raw = parts.first().map_or(raw, Vec::as_slice);
    match decoded {
        Ok(Some(message)) => {
            let asked_for_misses = matches!(message.body, Body::SetConfig(_) | Body::SetAsync(_) | Body::SetControllerId(_));
            let is_barrier = matches!(message.body, Body::BarrierRequest);
            let replies = conn.handle(&job.shared.slowpath, message, raw, now_ms());
            take_updates(job, conn, out);
            if is_barrier {
                take_notices(job, conn, out);
            }
            for reply in replies {
                encode(job, conn, &reply, out);
            }
            if asked_for_misses {
                job.shared.note_miss_listeners(conn.bridge);
            }
        }
        Ok(None) => {}
        Err(error) => {
            CONN_BAD_MESSAGE.inc();
            tracing::debug!(target: "vconn", "{}: received: decode error: {}", conn.name, error.name());
            let body = Body::Error(ErrorMessage::reply_to(error, raw));
            // A message of another version is answered in its own, one of nobody's in the first.
            encode(job, conn, &Message { version: version.unwrap_or(Version::V10), xid: header.xid, body }, out);
        }
    }
}

/// An echo of a version that nobody knows: as in OVS one that is asked for comes back as it is, with the type of a reply.
fn echo(job: &Job, conn: &Conn, raw: &[u8], is_asked_for: bool, out: &mut Vec<u8>) {
    if is_asked_for {
        let at = out.len();
        out.extend_from_slice(raw);
        out[at + 1] = ECHO_REPLY;
        log_messages(&conn.name, SENT, &out[at..]);
        job.shared.snoop_copy(conn, &out[at..]);
    }
}

/// Decodes the parts of one request and joins them; nothing while parts are still to come.
fn assemble(codec: &Codec<'_>, parts: &[Vec<u8>]) -> Result<Option<Message>, OfError> {
    let mut whole: Option<Message> = None;
    for part in parts {
        let message = codec.decode(part)?;
        match &mut whole {
            None => whole = Some(message),
            Some(first) => join(first, message)?,
        }
    }
    Ok(whole)
}

/// Adds the entries of a further part; only table features and flow monitors have some in several.
fn join(first: &mut Message, more: Message) -> Result<(), OfError> {
    use openflow::message::MultipartBody as M;
    let (Body::Stats(first), Body::Stats(more)) = (&mut first.body, more.body) else { return Err(OfError::OfpbrcBadStat) };
    match (&mut first.body, more.body) {
        (M::TableFeaturesRequest(all), M::TableFeaturesRequest(new)) => all.extend(new),
        (M::FlowMonitorRequest(all), M::FlowMonitorRequest(new)) => all.extend(new),
        _ => return Err(OfError::OfpbrcBadStat),
    }
    Ok(())
}

fn encode(job: &Job, conn: &Conn, message: &Message, out: &mut Vec<u8>) {
    let nxm = conn.lock().nxm;
    let options = job.shared.tunnel_options(conn.bridge);
    let at = out.len();
    let codec = Codec { nxm, options: Some(&options), ..Codec::default() };
    match codec.encode_counting(message, out) {
        Ok(0) => {}
        Ok(_) => tracing::warn!(
            target: "ofp_flow",
            "Flow exceeded the maximum flow statistics reply size and was excluded from the response set"
        ),
        Err(error) => {
            // The version cannot say it: what a client of that version cannot know it does not miss.
            tracing::debug!(target: "connmgr", "{}: not sent: {error}", conn.name);
            return;
        }
    }
    log_messages(&conn.name, SENT, &out[at..]);
    job.shared.snoop_copy(conn, &out[at..]);
}

/// Messages in the log, as ovs-ofctl would print them.
fn log_messages(name: &str, what: &str, mut bytes: &[u8]) {
    if !tracing::enabled!(target: "vconn", tracing::Level::DEBUG) {
        return;
    }
    let peer = name.split("<->").last().unwrap_or(name);
    while let Some(header) = Header::peek(bytes) {
        let (one, rest) = bytes.split_at(usize::from(header.length).clamp(HEADER_BYTES, bytes.len()));
        let text = openflow::print::format_bytes(one, &Names::default(), LOG_VERBOSITY);
        tracing::debug!(target: "vconn", "{peer}: {what}: {}", text.trim_end_matches('\n'));
        bytes = rest;
    }
}

/// A snooper: after the hellos it gets copies of what the bridge's controllers say and hear.
async fn snoop<S: Wire>(job: &Job, agreed: Agreed, mut stream: S) -> io::Result<()> {
    let mut copies = job.shared.snoop(job.endpoint.bridge).subscribe();
    let (_, _) = greet(&mut stream, agreed.versions, "snoop").await?;
    let mut ignored = [0; 1024];
    loop {
        tokio::select! {
            copy = copies.recv() => match copy {
                Ok(bytes) => stream.write_all(&bytes).await?,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
            },
            read = stream.read(&mut ignored) => if read? == 0 { return Ok(()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Noise, Word, is_short};

    #[test]
    fn who_does_not_answer_is_spoken_of_until_the_waits_stay_the_same() {
        let mut noise = Noise::default();
        let said = [1000, 2000, 4000, 4000, 4000].map(|ms| noise.about(ms));
        assert_eq!(said, [Word::Wait, Word::Wait, Word::Wait, Word::Last, Word::None]);
        assert!(noise.quiet && !Noise::default().quiet);
    }

    #[test]
    fn what_is_handled_where_it_is_read() {
        let message = |version: u8, kind: u8, body: &[u8]| [&[version, kind, 0, 16, 0, 0, 0, 1], body].concat();
        assert!(is_short(&message(1, 14, &[])) && is_short(&message(6, 14, &[])), "flow-mods");
        assert!(is_short(&message(1, 18, &[])) && is_short(&message(4, 20, &[])), "barriers");
        assert!(!is_short(&message(4, 18, &[])), "a multipart");
        assert!(is_short(&message(5, 34, &[])), "an addition to a bundle");
        assert!(!is_short(&message(5, 33, &[])), "a bundle's commit may take long");
        assert!(is_short(&message(4, 4, &[0x4f, 0x4e, 0x46, 0, 0, 0, 0x08, 0xfd])));
        assert!(!is_short(&message(4, 4, &[0x4f, 0x4e, 0x46, 0, 0, 0, 0x08, 0xfc])));
        assert!(!is_short(&[]));
    }
}
