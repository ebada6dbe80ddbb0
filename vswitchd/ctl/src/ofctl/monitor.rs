//! `monitor` and `snoop`: what a switch sends, as it comes.
//!
//! As in OVS the messages go to standard error.

use super::Run;
use super::info::set_monitor_config;
use super::names::SwitchNames;
use super::protocol;
use super::render::{render, shown_names};
use super::vconn::Vconn;
use crate::console::Io;
use crate::fault::{Fault, errno_text};
use openflow::message::{Body, FlowMonitorRequest, Multipart, MultipartBody, PacketInPrivate};
use openflow::text::Protocols;
use openflow::{Codec, GroupId, OfPort, TableId, Version};

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
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    if vconn.version == Version::V10 {
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
    follow(io, &mut vconn, run, asked.resume)
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
        (Some(_), None) if vconn.version == Version::V10 => {
            vconn.transact_quiet([Body::SetPacketInFormat(NXT)])?;
            Ok(())
        }
        (Some(_), None) => Ok(()),
    }
}

/// `snoop SWITCH`
pub(super) fn snoop(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = Vconn::open_service(io, run.options, run.switch(), "snoop")?;
    follow(io, &mut vconn, run, false)
}

/// Shows messages until the switch closes the connection.
fn follow(io: &mut Io<'_>, vconn: &mut Vconn, run: &Run<'_>, resume: bool) -> Result<u8, Fault> {
    let names = shown_names(run);
    loop {
        let received =
            vconn.receive().map_err(|e| Fault::say(format!("{}: OpenFlow receive failed ({})", run.switch(), errno_text(&e))))?;
        if run.options.timestamp {
            let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f");
            write!(io.err, "{now}: ")?;
        }
        write!(io.err, "{}", render(&received.bytes, &names, run.options.verbosity + 2))?;
        io.err.flush()?;
        vconn.answer_probe(&received)?;
        if !resume {
            continue;
        }
        // A packet-in that can be resumed carries its continuation; others are shown and that is all.
        if let Ok(Body::PacketIn(packet)) = vconn.decode(&received).map(|m| m.body)
            && !packet.continuation.is_empty()
        {
            let private = PacketInPrivate::from_public(*packet, &Codec::default(), vconn.version)
                .map_err(|e| Fault::say(format!("decoding packet-in failed: {}", e.name())))?;
            vconn.transact_quiet([Body::Resume(Box::new(private))])?;
        }
    }
}
