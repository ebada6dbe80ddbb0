//! Commands that show or set what a switch is: description, ports, tables, queues, fragments, liveness.

use super::names::fetch_ports;
use super::options::Options;
use super::render::{dump, dump_one, told};
use super::vconn::Vconn;
use super::{Run, names::SwitchNames};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::{Body, MultipartBody, PortDesc, PortMod, SwitchConfig, TableDesc, TableMod};
use openflow::print::format_table_features;
use openflow::{OfPort, TableId, Version, Versions};

/// OFPQ_ALL
const QUEUE_ALL: u32 = u32::MAX;

fn open(io: &mut Io<'_>, run: &Run<'_>) -> Result<Vconn, Fault> {
    Vconn::open(io, run.options, run.switch())
}

fn dump_plain(io: &mut Io<'_>, run: &Run<'_>, body: MultipartBody) -> Result<u8, Fault> {
    let mut vconn = open(io, run)?;
    dump(io, &mut vconn, body, run)
}

/// A connection in one of `fitting`, if the options allow one.
fn open_in(io: &mut Io<'_>, run: &Run<'_>, fitting: &[Version], what: &str) -> Result<Vconn, Fault> {
    let bits = fitting.iter().fold(0, |bits, v| bits | 1 << (*v as u8));
    let allowed = Versions(run.options.versions.0 & bits);
    if allowed.0 == 0 {
        let names: Vec<String> = fitting.iter().map(ToString::to_string).collect();
        return Err(Fault::say(format!("{what} requires one of the OpenFlow versions {}", names.join(", "))));
    }
    let options = Options { versions: allowed, ..run.options.clone() };
    Vconn::open(io, &options, run.switch())
}

/// `show SWITCH`
pub(super) fn show(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = open(io, run)?;
    let reply = dump_one(io, &mut vconn, Body::FeaturesRequest, run)?;
    if vconn.dialect.version >= Version::V13 && matches!(vconn.decode(&reply)?.body, Body::FeaturesReply(_)) {
        dump_plain(io, run, MultipartBody::PortDescRequest(OfPort::ANY))?;
    }
    let mut vconn = open(io, run)?;
    dump_one(io, &mut vconn, Body::GetConfigRequest, run)?;
    Ok(0)
}

/// `dump-desc SWITCH`
pub(super) fn dump_desc(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    dump_plain(io, run, MultipartBody::DescRequest)
}

/// `dump-tables SWITCH`
pub(super) fn dump_tables(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    dump_plain(io, run, MultipartBody::TableRequest)
}

/// Refuses a connection of a version before `oldest`.
fn needs(vconn: &Vconn, run: &Run<'_>, oldest: Version) -> Result<(), Fault> {
    if vconn.dialect.version >= oldest {
        return Ok(());
    }
    let minor = oldest as u8 - 1;
    let command = run.argument(0);
    Err(Fault::say(format!("{command} needs OpenFlow 1.{minor} or later ('-O {oldest}')")))
}

/// `dump-table-features SWITCH`
pub(super) fn dump_table_features(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = open(io, run)?;
    needs(&vconn, run, Version::V13)?;
    let mut tables = Vec::new();
    for (received, message) in vconn.transact_multipart(MultipartBody::TableFeaturesRequest(Vec::new()))? {
        let Body::Stats(m) = message.body else { return Err(told(io, &received)?) };
        if let MultipartBody::TableFeaturesReply(more) = m.body {
            tables.extend(more);
        }
    }
    // The first line of a list in a message ends the message's header, which is not shown here.
    let text = format_table_features(&tables, vconn.dialect.version);
    write!(io.out, "{}", text.strip_prefix('\n').unwrap_or(&text))?;
    Ok(0)
}

/// `dump-table-desc SWITCH`
pub(super) fn dump_table_desc(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = open(io, run)?;
    needs(&vconn, run, Version::V14)?;
    dump(io, &mut vconn, MultipartBody::TableDescRequest, run)
}

/// `dump-ipfix-bridge SWITCH`
pub(super) fn dump_ipfix_bridge(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    dump_plain(io, run, MultipartBody::IpfixBridgeRequest)
}

/// `dump-ipfix-flow SWITCH`
pub(super) fn dump_ipfix_flow(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    dump_plain(io, run, MultipartBody::IpfixFlowRequest)
}

// ---- ports and queues ----------------------------------------------------------------------------------------------------

/// The port of an argument, by number or name; all of them if there is none.
fn port_argument(run: &Run<'_>, n: usize) -> Result<OfPort, Fault> {
    let text = run.argument(n);
    if text.is_empty() {
        return Ok(OfPort::ANY);
    }
    port_number(run, text)
}

pub(super) fn port_number(run: &Run<'_>, text: &str) -> Result<OfPort, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    names.names().parse_port(text).ok_or_else(|| Fault::say(format!("{}: unknown port `{text}'", run.switch())))
}

fn no_port(run: &Run<'_>, text: &str) -> Fault {
    Fault::say(format!("{}: couldn't find port `{text}'", run.switch()))
}

/// `dump-ports SWITCH [PORT]`
pub(super) fn dump_ports(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let port = port_argument(run, 2)?;
    dump_plain(io, run, MultipartBody::PortRequest(port))
}

/// `dump-ports-desc SWITCH [PORT]`
pub(super) fn dump_ports_desc(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let port = port_argument(run, 2)?;
    dump_plain(io, run, MultipartBody::PortDescRequest(port))
}

fn queue_argument(run: &Run<'_>) -> Result<u32, Fault> {
    match run.argument(3) {
        "" => Ok(QUEUE_ALL),
        text if text.eq_ignore_ascii_case("all") => Ok(QUEUE_ALL),
        text => text.parse().map_err(|_| Fault::say(format!("invalid queue \"{text}\""))),
    }
}

/// `queue-stats SWITCH [PORT [QUEUE]]`
pub(super) fn queue_stats(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let port = match run.argument(2) {
        text if text.eq_ignore_ascii_case("all") => OfPort::ANY,
        _ => port_argument(run, 2)?,
    };
    let queue = queue_argument(run)?;
    dump_plain(io, run, MultipartBody::QueueRequest { port, queue })
}

/// `queue-get-config SWITCH [PORT [QUEUE]]`
pub(super) fn queue_config(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let port = port_argument(run, 2)?;
    let queue = queue_argument(run)?;
    let mut vconn = open(io, run)?;
    let mut ports = vec![port];
    if vconn.dialect.version == Version::V10 && port == OfPort::ANY {
        // OpenFlow 1.0 asks for one port at a time.
        ports = fetch_ports(&mut vconn)?.into_iter().map(|p| p.port).filter(|p| !p.is_reserved()).collect();
    }
    for port in ports {
        dump_one(io, &mut vconn, Body::QueueGetConfigRequest { port, queue }, run)?;
    }
    Ok(0)
}

/// OFPPC_* of `mod-port`'s words, and whether the bit is set.
const PORT_CHANGES: &[(&str, u32, bool)] = &[
    ("up", 1, false),
    ("down", 1, true),
    ("stp", 2, false),
    ("no-stp", 2, true),
    ("receive", 4, false),
    ("no-receive", 4, true),
    ("receive-stp", 8, false),
    ("no-receive-stp", 8, true),
    ("flood", 16, false),
    ("no-flood", 16, true),
    ("forward", 32, false),
    ("no-forward", 32, true),
    ("packet-in", 64, false),
    ("no-packet-in", 64, true),
];

/// `mod-port SWITCH PORT CHANGE`
pub(super) fn mod_port(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let (wanted, word) = (run.argument(2), run.argument(3));
    let mut vconn = open(io, run)?;
    let ports = fetch_ports(&mut vconn)?;
    let port = find_port(&ports, run, wanted)?;
    let Some((_, bit, on)) = PORT_CHANGES.iter().find(|(name, ..)| *name == word) else {
        return Err(Fault::say(format!("unknown mod-port command '{word}'")));
    };
    let config = if *on { *bit } else { 0 };
    let change = PortMod { port: port.port, hw_addr: port.hw_addr, config, mask: *bit, advertise: 0 };
    finish(io, &mut vconn, Body::PortMod(Box::new(change)))
}

fn find_port<'a>(ports: &'a [PortDesc], run: &Run<'_>, wanted: &str) -> Result<&'a PortDesc, Fault> {
    let number = SwitchNames::none().names().parse_port(wanted);
    ports.iter().find(|p| Some(p.port) == number || p.name == wanted).ok_or_else(|| no_port(run, wanted))
}

/// Sends a change; the switch's refusal ends the run.
pub(super) fn finish(io: &mut Io<'_>, vconn: &mut Vconn, body: Body) -> Result<u8, Fault> {
    match vconn.transact_quiet([body])? {
        None => Ok(0),
        Some(refusal) => Err(told(io, &refusal)?),
    }
}

// ---- tables --------------------------------------------------------------------------------------------------------------

/// `mod-table SWITCH TABLE SETTING`
pub(super) fn mod_table(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    let (table, setting) = (run.argument(2), run.argument(3));
    let table = if table.eq_ignore_ascii_case("all") {
        TableId::ALL
    } else {
        names.names().parse_table(table).ok_or_else(|| Fault::say(format!("unknown table \"{table}\"")))?
    };
    let mut change = TableMod { table, ..TableMod::default() };
    let (word, values) = setting.split_once(':').unwrap_or((setting, ""));
    const MISS: &[Version] = &[Version::V11, Version::V12];
    const LIMITS: &[Version] = &[Version::V14, Version::V15];
    let fitting = match word {
        "controller" | "continue" | "drop" => {
            change.miss = ["controller", "continue", "drop"].iter().position(|w| *w == word).and_then(|n| u8::try_from(n).ok());
            MISS
        }
        "evict" | "noevict" => {
            change.eviction = Some(word == "evict");
            LIMITS
        }
        "vacancy" => {
            (change.vacancy_down, change.vacancy_up) = vacancy(values)?;
            change.vacancy = Some(true);
            LIMITS
        }
        "novacancy" => {
            change.vacancy = Some(false);
            LIMITS
        }
        _ => return Err(Fault::say(format!("invalid table_mod setting {setting}"))),
    };
    let mut vconn = open_in(io, run, fitting, &format!("table_mod '{setting}'"))?;
    if change.miss.is_none() {
        keep_rest(&mut vconn, &mut change)?;
    }
    finish(io, &mut vconn, Body::TableMod(change))
}

fn vacancy(values: &str) -> Result<(u8, u8), Fault> {
    let parse = |text: &str| text.trim().parse::<u8>().ok().filter(|n| *n <= 100);
    let (down, up) = values.split_once(',').ok_or_else(|| Fault::say("\"vacancy\" must be specified as LOW,HIGH"))?;
    match (parse(down), parse(up)) {
        (Some(down), Some(up)) if down <= up => Ok((down, up)),
        (Some(down), Some(up)) => {
            Err(Fault::say(format!("Invalid vacancy threshold, vacancy down {down} is greater than vacancy up {up}")))
        }
        (_, _) => Err(Fault::say(format!("Invalid vacancy threshold, {values} is not LOW,HIGH in percent"))),
    }
}

/// A table-mod sets eviction and vacancy both: what was not asked for stays as it is.
fn keep_rest(vconn: &mut Vconn, change: &mut TableMod) -> Result<(), Fault> {
    for (_, message) in vconn.transact_multipart(MultipartBody::TableDescRequest)? {
        let Body::Stats(m) = message.body else { continue };
        let MultipartBody::TableDescReply(tables) = m.body else { continue };
        let Some(held) = tables.iter().find(|t: &&TableDesc| t.table == change.table) else { continue };
        change.eviction.get_or_insert(held.eviction);
        if change.vacancy.is_none() {
            change.vacancy = Some(held.vacancy);
            (change.vacancy_down, change.vacancy_up) = (held.vacancy_down, held.vacancy_up);
        }
    }
    Ok(())
}

// ---- fragments -----------------------------------------------------------------------------------------------------------

/// OFPC_FRAG_*
const FRAGMENTS: [&str; 4] = ["normal", "drop", "reassemble", "nx-match"];
const FRAGMENTS_MASK: u16 = 3;

fn config(vconn: &mut Vconn) -> Result<SwitchConfig, Fault> {
    if let Body::GetConfigReply(config) = vconn.request(Body::GetConfigRequest)? {
        return Ok(config);
    }
    Err(Fault::say(format!("{}: bad reply to config request", vconn.name)))
}

/// `get-frags SWITCH`
pub(super) fn show_fragments(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = open(io, run)?;
    let mode = config(&mut vconn)?.flags & FRAGMENTS_MASK;
    writeln!(io.out, "{}", FRAGMENTS[usize::from(mode)])?;
    Ok(0)
}

/// `set-frags SWITCH MODE`
pub(super) fn set_fragments(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let word = run.argument(2);
    let mode = (0..).zip(FRAGMENTS).find(|(_, name)| *name == word).map(|(mode, _)| mode);
    let Some(mode) = mode else {
        return Err(Fault::say(format!("{word}: unknown fragment handling mode")));
    };
    let mut vconn = open(io, run)?;
    let mut held = config(&mut vconn)?;
    if held.flags & FRAGMENTS_MASK == mode {
        return Ok(0);
    }
    held.flags = held.flags & !FRAGMENTS_MASK | mode;
    finish(io, &mut vconn, Body::SetConfig(held))?;
    if config(&mut vconn)?.flags & FRAGMENTS_MASK == mode {
        return Ok(0);
    }
    Err(Fault::say(format!(
        "{}: setting fragment handling mode failed (this switch probably doesn't support mode \"{word}\")",
        run.switch()
    )))
}

/// Sets how many bytes of a packet the controller gets, and whether packets whose TTL runs out are sent to it.
pub(super) fn set_monitor_config(vconn: &mut Vconn, miss_len: Option<u16>, invalid_ttl: bool) -> Result<(), Fault> {
    const INVALID_TTL: u16 = 4;
    let mut held = config(vconn)?;
    if invalid_ttl {
        held.flags |= INVALID_TTL;
    }
    if let Some(miss_len) = miss_len {
        held.miss_send_len = miss_len;
    }
    vconn.transact_quiet([Body::SetConfig(held)])?;
    if invalid_ttl && config(vconn)?.flags & INVALID_TTL == 0 {
        return Err(Fault::say("setting invalid_ttl_to_controller failed (this switch probably doesn't support this flag)"));
    }
    Ok(())
}

// ---- liveness ------------------------------------------------------------------------------------------------------------

/// Most bytes of an echo: a message's length without its header.
const PAYLOAD_MAX: usize = 0xffff - 8;

/// `probe SWITCH`
pub(super) fn probe(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = open(io, run)?;
    let reply = vconn.transact(Body::EchoRequest(Vec::new()))?;
    if reply.bytes.len() == 8 { Ok(0) } else { Err(Fault::say("reply does not match request")) }
}

fn payload(text: &str, default: usize) -> Result<usize, Fault> {
    let bytes = if text.is_empty() { default } else { text.parse().unwrap_or(usize::MAX) };
    if bytes > PAYLOAD_MAX {
        return Err(Fault::say(format!("payload must be between 0 and {PAYLOAD_MAX} bytes")));
    }
    Ok(bytes)
}

/// Milliseconds with their thousandths that something takes.
#[allow(clippy::disallowed_methods, reason = "this is what is measured")]
fn timed<T>(what: impl FnOnce() -> Result<T, Fault>) -> Result<(T, f64), Fault> {
    let begin = std::time::Instant::now();
    let result = what()?;
    Ok((result, begin.elapsed().as_secs_f64() * 1e3))
}

/// `ping SWITCH [BYTES]`
pub(super) fn ping(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    const PINGS: usize = 10;
    let bytes = payload(run.argument(2), 64)?;
    let mut vconn = open(io, run)?;
    for n in 0..PINGS {
        let sent: Vec<u8> = (0..bytes).map(|i| u8::try_from((i * 31 + n) % 256).unwrap_or(0)).collect();
        let (reply, ms) = timed(|| vconn.transact(Body::EchoRequest(sent.clone())))?;
        if reply.bytes.get(8..) != Some(&sent[..]) {
            writeln!(io.out, "Reply does not match request:")?;
        }
        let (length, xid) = (reply.bytes.len() - 8, reply.header.xid.0);
        writeln!(io.out, "{length} bytes from {}: xid={xid:08x} time={ms:.1} ms", run.switch())?;
    }
    Ok(0)
}

/// `benchmark SWITCH BYTES COUNT`
pub(super) fn benchmark(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let bytes = payload(run.argument(2), 0)?;
    let count: u32 = run.argument(3).parse().map_err(|_| Fault::say("count must be a number"))?;
    let message = bytes + 8;
    let total = f64::from(count) * f64::from(u32::try_from(message).unwrap_or(u32::MAX));
    writeln!(io.out, "Sending {count} packets * {message} bytes (with header) = {total:.0} bytes total")?;
    let mut vconn = open(io, run)?;
    let ((), ms) = timed(|| {
        for _ in 0..count {
            vconn.transact(Body::EchoRequest(vec![0; bytes]))?;
        }
        Ok(())
    })?;
    let seconds = ms / 1e3;
    let (packets, throughput) = (f64::from(count) / seconds, total / seconds);
    writeln!(io.out, "Finished in {ms:.1} ms ({packets:.0} packets/s) ({throughput:.0} bytes/s)")?;
    Ok(0)
}
