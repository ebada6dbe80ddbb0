//! `monitor` and `snoop`: what a switch sends, as it comes.
//!
//! As in OVS the messages go to standard error. Both may run on in the background, and take commands at a control socket (`background`).

use super::Run;
use super::info::set_monitor_config;
use super::names::SwitchNames;
use super::offline::bytes_of;
use super::protocol;
use super::render::{render, shown_names};
use super::vconn::{Received, Vconn, next_xid};
use crate::console::Io;
use crate::fault::{Fault, errno_text};
use crate::process::background::{self, Background};
use crate::process::commands::{self, Owner};
use crate::process::unixctl::registry::ANY;
use crate::process::unixctl::{Answer, Command, Registry, Reply};
use crate::process::vlog::Log;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use openflow::message::{Body, FlowMonitorRequest, Multipart, MultipartBody, PacketInPrivate};
use openflow::text::{Protocols, parse_packet_out};
use openflow::wire::Header;
use openflow::{Codec, GroupId, OfPort, TableId, Version, Xid};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// NXT_SET_PACKET_IN_FORMAT's formats.
const STANDARD: u32 = 0;
const NXT: u32 = 1;
const NXT2: u32 = 2;

/// What the words after the switch ask for.
#[derive(Default)]
struct Asked {
    miss_len: Option<u16>,
    invalid_ttl: bool,
    resume: bool,
    watch: Vec<FlowMonitorRequest>,
}

fn asked(run: &Run<'_>) -> Result<Asked, Fault> {
    let mut asked = Asked::default();
    for word in run.words.iter().skip(2) {
        if let Ok(bytes) = word.parse() {
            asked.miss_len = Some(bytes);
        } else if word == "invalid_ttl" {
            asked.invalid_ttl = true;
        } else if word == "resume" {
            asked.resume = true;
        } else if let Some(text) = word.strip_prefix("watch:") {
            let id = u32::try_from(asked.watch.len()).unwrap_or(u32::MAX);
            asked.watch.push(watch(run, text, id)?);
        } else {
            return Err(Fault::say(format!("{word}: unsupported \"monitor\" argument")));
        }
    }
    Ok(asked)
}

/// OFPFMF_*: initial 1, add 2, delete 4, modify 8, actions 16, own 64 (OpenFlow 1.4 section 7.3.5.17).
fn watch(run: &Run<'_>, text: &str, id: u32) -> Result<FlowMonitorRequest, Fault> {
    const ALL: u16 = 1 | 2 | 4 | 8 | 16 | 64;
    let mut flags = ALL;
    let (mut out_port, mut matches) = (OfPort::ANY, Vec::new());
    for part in text.split(',').filter(|p| !p.is_empty()) {
        match part {
            "!initial" => flags &= !1,
            "!add" => flags &= !2,
            "!delete" => flags &= !4,
            "!modify" => flags &= !8,
            "!actions" => flags &= !16,
            "!own" => flags &= !64,
            _ => match part.strip_prefix("out_port=") {
                Some(port) => out_port = super::info::port_number(run, port)?,
                None => matches.push(part),
            },
        }
    }
    let names = SwitchNames::of(run.options, run.switch());
    let syntax = openflow::text::FlowSyntax::Request;
    let parsed = openflow::text::parse_flow(&matches.join(","), syntax, &names.names());
    let flow = parsed.map_err(|e| Fault::say(e.to_string()))?.flow;
    let table: TableId = flow.table;
    Ok(FlowMonitorRequest { id, command: 0, flags, out_port, out_group: GroupId::ANY, table, matching: flow.matching })
}

/// `monitor SWITCH [MISSLEN] [invalid_ttl] [resume] [watch:[...]]`
pub(super) fn monitor(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let asked = asked(run)?;
    background::run(io, &run.options.process, run.options.timeout.as_deref(), true, async |io, background| {
        let mut vconn = Vconn::open(io, run.options, run.switch())?;
        if vconn.dialect.version == Version::V10 {
            protocol::set_for_dumps(&mut vconn, run.options, Protocols::ANY)?;
        }
        if asked.miss_len.is_some() || asked.invalid_ttl {
            set_monitor_config(&mut vconn, asked.miss_len, asked.invalid_ttl)?;
        }
        for request in asked.watch {
            let body = MultipartBody::FlowMonitorRequest(vec![request]);
            let received = vconn.transact(Body::Stats(Box::new(Multipart { more: false, nxm: true, body })))?;
            write!(io.out, "{}", render(&received.bytes, &SwitchNames::none(), run.options.verbosity + 2))?;
            io.out.flush()?;
        }
        set_packet_in_format(&mut vconn, run)?;
        follow(io, Following { resume: asked.resume, ..Following::new(io.program, vconn, run, background) }, run, background)
            .await
    })
}

/// Nicira's second form tells most; of OpenFlow 1.0 the first one is the next best.
fn set_packet_in_format(vconn: &mut Vconn, run: &Run<'_>) -> Result<(), Fault> {
    let wanted = match run.options.packet_in_format.as_deref() {
        Some("standard" | "openflow10") => Some(STANDARD),
        Some("nxt_packet_in" | "nxm") => Some(NXT),
        Some(_) => Some(NXT2),
        None => None,
    };
    let refused = vconn.transact_quiet([Body::SetPacketInFormat(wanted.unwrap_or(NXT2))])?;
    match (refused, wanted) {
        (None, _) => Ok(()),
        (Some(refusal), Some(_)) => {
            let text = render(&refusal.bytes, &SwitchNames::none(), 2);
            Err(Fault::say(format!("{}: failed to set packet in format, switch replied: {}", run.switch(), text.trim_end())))
        }
        (Some(_), None) if vconn.dialect.version == Version::V10 => {
            vconn.transact_quiet([Body::SetPacketInFormat(NXT)])?;
            Ok(())
        }
        (Some(_), None) => Ok(()),
    }
}

/// `snoop SWITCH`
pub(super) fn snoop(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    background::run(io, &run.options.process, run.options.timeout.as_deref(), true, async |io, background| {
        let vconn = Vconn::open_service(io, run.options, run.switch(), "snoop")?;
        follow(io, Following::new(io.program, vconn, run, background), run, background).await
    })
}

/// A connection that is followed, as the control commands see it.
struct Following {
    vconn: Vconn,
    log: Arc<Log>,
    program: &'static str,
    verbosity: u8,
    /// Packet-ins that can be resumed are.
    resume: bool,
    /// Instead of standard error.
    output: Option<File>,
    /// What commands have to say there.
    said: String,
    /// Read nothing from the switch for now.
    blocked: bool,
    exit: bool,
    /// Who waits for the reply to which barrier.
    barriers: Vec<(Xid, Reply)>,
}

impl Owner for Following {
    fn log(&self) -> &Log {
        &self.log
    }

    fn program(&self) -> &str {
        self.program
    }
}

fn registry() -> Registry<Following> {
    Registry::new(commands::rows().into_iter().chain([
        Command::now("exit", Some(""), (0, 0), |following: &mut Following, _| {
            following.exit = true;
            Ok(String::new())
        }),
        Command::now("ofctl/send", Some("OFMSG..."), (1, ANY), |following: &mut Following, args| following.send_all(args)),
        Command::now(
            "ofctl/packet-out",
            Some("\"in_port=<port> packet=<hex data> actions=...\""),
            (1, 1),
            |following: &mut Following, args| following.packet_out(&args[0]),
        ),
        Command::later("ofctl/barrier", Some(""), (0, 0), |following: &mut Following, _, reply| {
            match following.vconn.send(Body::BarrierRequest) {
                Ok(xid) => following.barriers.push((xid, reply)),
                Err(e) => reply.send(Err(errno_text(&e))),
            }
        }),
        Command::now("ofctl/set-output-file", Some("FILE"), (1, 1), |following: &mut Following, args| {
            following.output = Some(File::create(&args[0]).map_err(|e| errno_text(&e))?);
            Ok(String::new())
        }),
        Command::now("ofctl/block", Some(""), (0, 0), |following: &mut Following, _| {
            following.blocked = true;
            Ok(String::new())
        }),
        Command::now("ofctl/unblock", Some(""), (0, 0), |following: &mut Following, _| {
            following.blocked = false;
            Ok(String::new())
        }),
    ]))
}

impl Following {
    fn new(program: &'static str, vconn: Vconn, run: &Run<'_>, background: &Background) -> Self {
        Self {
            vconn,
            log: background.log(),
            program,
            verbosity: run.options.verbosity,
            resume: false,
            output: None,
            said: String::new(),
            blocked: false,
            exit: false,
            barriers: Vec::new(),
        }
    }

    /// Sends messages in hexadecimal digits; a line about each.
    fn send_all(&mut self, messages: &[String]) -> Answer {
        let (mut lines, mut all) = (String::new(), true);
        for text in messages {
            let sent = self.send_one(text);
            all &= sent.is_ok();
            lines.push_str(&sent.unwrap_or_else(|e| e));
            lines.push('\n');
        }
        if all { Ok(lines) } else { Err(lines) }
    }

    fn send_one(&mut self, text: &str) -> Answer {
        let bytes = bytes_of(text).ok_or("Trailing garbage in hex data")?;
        let header = Header::peek(&bytes).ok_or("Message too short for OpenFlow")?;
        if usize::from(header.length) != bytes.len() {
            return Err("Message size does not match length in OpenFlow header".to_owned());
        }
        self.said.push_str(&format!("send: {}", render(&bytes, &SwitchNames::none(), self.verbosity + 2)));
        self.vconn.send_bytes(&bytes).map_err(|e| errno_text(&e))?;
        Ok("sent".to_owned())
    }

    fn packet_out(&mut self, text: &str) -> Answer {
        let (out, _) = parse_packet_out(text, &SwitchNames::none().names()).map_err(|e| e.to_string())?;
        let bytes = self.vconn.encode(Body::PacketOut(Box::new(out)), next_xid()).map_err(|e| e.to_string())?;
        self.said.push_str(&render(&bytes, &SwitchNames::none(), self.verbosity));
        self.vconn.send_bytes(&bytes).map_err(|e| errno_text(&e))?;
        Ok(String::new())
    }

    /// Tells who waits for a barrier that it has been passed, or refused.
    fn answer_barriers(&mut self, received: &Received) {
        if self.barriers.iter().all(|(xid, _)| *xid != received.header.xid) {
            return;
        }
        let answer = match self.vconn.decode(received).map(|m| m.body) {
            Ok(Body::BarrierReply) => Ok(String::new()),
            Ok(Body::Error(refused)) => Err(refused.error.name().to_owned()),
            Ok(_) | Err(_) => return,
        };
        for (_, reply) in self.barriers.extract_if(.., |(xid, _)| *xid == received.header.xid) {
            reply.send(answer.clone());
        }
    }

    fn say(&mut self, io: &mut Io<'_>, text: &str) -> Result<(), Fault> {
        match &mut self.output {
            Some(file) => file.write_all(text.as_bytes())?,
            None => {
                io.err.write_all(text.as_bytes())?;
                io.err.flush()?;
            }
        }
        Ok(())
    }

    fn resume(&mut self, received: &Received) -> Result<(), Fault> {
        // A packet-in that can be resumed carries its continuation; others are shown and that is all.
        if self.resume
            && let Ok(Body::PacketIn(packet)) = self.vconn.decode(received).map(|m| m.body)
            && !packet.continuation.is_empty()
        {
            let private = PacketInPrivate::from_public(*packet, &Codec::default(), self.vconn.dialect.version)
                .map_err(|e| Fault::say(format!("decoding packet-in failed: {}", e.name())))?;
            self.vconn.transact_quiet([Body::Resume(Box::new(private))])?;
        }
        Ok(())
    }
}

/// Shows messages until the switch closes the connection, or the control socket says `exit`.
async fn follow(io: &mut Io<'_>, mut following: Following, run: &Run<'_>, background: &mut Background) -> Result<u8, Fault> {
    let names = shown_names(run);
    let lost = |e: &io::Error| Fault::say(format!("{}: OpenFlow receive failed ({})", run.switch(), errno_text(e)));
    let socket = Arc::new(following.vconn.socket().try_clone_to_owned()?);
    let mut readable = wait_for(&socket);
    let registry = registry();
    background.ready();
    while !following.exit {
        if !following.blocked
            && let Some(received) = following.vconn.next_received().map_err(|e| lost(&e))?
        {
            let mut text = render(&received.bytes, &names, following.verbosity + 2);
            if run.options.timestamp {
                text.insert_str(0, &jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f: ").to_string());
            }
            following.say(io, &text)?;
            following.vconn.answer_probe(&received)?;
            following.resume(&received)?;
            following.answer_barriers(&received);
            continue;
        }
        tokio::select! {
            ready = &mut readable, if !following.blocked => {
                ready.map_err(io::Error::from)??;
                following.vconn.read_more().map_err(|e| lost(&e))?;
                readable = wait_for(&socket);
            }
            request = background.next_request() => {
                let Some(request) = request else { continue };
                registry.serve(&mut following, request);
                let said = std::mem::take(&mut following.said);
                following.say(io, &said)?;
            }
        }
    }
    Ok(0)
}

/// Waits on a thread of its own until something waits in the socket, as streams may be TLS's.
fn wait_for(socket: &Arc<OwnedFd>) -> JoinHandle<io::Result<()>> {
    let socket = Arc::clone(socket);
    tokio::task::spawn_blocking(move || {
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        Ok(())
    })
}
