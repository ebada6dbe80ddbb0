//! `ovs-ofctl`: a bridge's OpenFlow tables, seen and changed over its management socket.
//!
//! Rooms: `options`; `vconn`, the connection; `requests`, what is sent on it, and `quiet`, how what is seldom answered is; `protocol`, which dialect is spoken on it; `names` of ports and tables; `render`,
//! messages as text; the commands by what they are about, `offline`, `parts` and `capture` those that need
//! no switch.

mod bundle;
mod capture;
mod flows;
mod groups;
mod info;
mod monitor;
pub mod names;
mod offline;
pub mod options;
mod packets;
mod parts;
pub mod protocol;
mod quiet;
pub mod render;
pub mod requests;
pub mod vconn;

use crate::console::Io;
use crate::fault::Fault;
use crate::{OVS_VERSION, alarm, suggest};
use options::{Asked, Options};
use std::io::Read as _;

/// A command as called.
#[derive(Debug)]
pub struct Run<'a> {
    pub options: &'a Options,
    /// The command's name first.
    pub words: &'a [String],
}

impl Run<'_> {
    /// Argument `n`, from 1; empty if there is none.
    #[must_use]
    pub fn argument(&self, n: usize) -> &str {
        self.words.get(n).map_or("", String::as_str)
    }

    /// The first argument.
    #[must_use]
    pub fn switch(&self) -> &str {
        self.argument(1)
    }
}

/// A command: how it is called and what it does.
struct Command {
    name: &'static str,
    usage: &'static str,
    range: (usize, usize),
    /// Refused with `--read-only`.
    writes: bool,
    /// Runs until it is told to end, and sees to its time limit itself.
    runs_on: bool,
    run: fn(&mut Io<'_>, &Run<'_>) -> Result<u8, Fault>,
}

type Execute = fn(&mut Io<'_>, &Run<'_>) -> Result<u8, Fault>;

const fn reads(name: &'static str, usage: &'static str, range: (usize, usize), run: Execute) -> Command {
    Command { name, usage, range, writes: false, runs_on: false, run }
}

const fn runs_on(name: &'static str, usage: &'static str, range: (usize, usize), run: Execute) -> Command {
    Command { name, usage, range, writes: false, runs_on: true, run }
}

const fn writes(name: &'static str, usage: &'static str, range: (usize, usize), run: Execute) -> Command {
    Command { name, usage, range, writes: true, runs_on: false, run }
}

const COMMANDS: &[Command] = &[
    reads("show", "SWITCH", (1, 1), info::show),
    reads("dump-desc", "SWITCH", (1, 1), info::dump_desc),
    reads("dump-tables", "SWITCH", (1, 1), info::dump_tables),
    reads("dump-table-features", "SWITCH", (1, 1), info::dump_table_features),
    reads("dump-table-desc", "SWITCH", (1, 1), info::dump_table_desc),
    writes("mod-port", "SWITCH PORT CHANGE", (3, 3), info::mod_port),
    writes("mod-table", "SWITCH TABLE SETTING", (3, 3), info::mod_table),
    reads("get-frags", "SWITCH", (1, 1), info::show_fragments),
    writes("set-frags", "SWITCH MODE", (2, 2), info::set_fragments),
    reads("dump-ports", "SWITCH [PORT]", (1, 2), info::dump_ports),
    reads("dump-ports-desc", "SWITCH [PORT]", (1, 2), info::dump_ports_desc),
    reads("dump-flows", "SWITCH [FLOW]", (1, 2), flows::dump),
    reads("dump-aggregate", "SWITCH [FLOW]", (1, 2), flows::dump_aggregate),
    reads("queue-stats", "SWITCH [PORT [QUEUE]]", (1, 3), info::queue_stats),
    reads("queue-get-config", "SWITCH [PORT [QUEUE]]", (1, 3), info::queue_config),
    writes("add-flow", "SWITCH FLOW", (2, 2), flows::add),
    writes("add-flows", "SWITCH FILE", (2, 2), flows::add_file),
    writes("mod-flows", "SWITCH FLOW", (2, 2), flows::modify),
    writes("del-flows", "SWITCH [FLOW]", (1, 2), flows::delete),
    writes("replace-flows", "SWITCH FILE", (2, 2), flows::replace),
    reads("diff-flows", "SOURCE1 SOURCE2", (2, 2), flows::diff),
    writes("packet-out", "SWITCH \"in_port=PORT packet=HEX actions=ACTIONS\"", (2, usize::MAX), packets::packet_out),
    runs_on("monitor", "SWITCH [MISSLEN] [invalid_ttl] [resume] [watch:[...]]", (1, 4), monitor::monitor),
    runs_on("snoop", "SWITCH", (1, 1), monitor::snoop),
    writes("bundle", "SWITCH FILE", (2, 2), packets::send_bundle),
    writes("add-group", "SWITCH GROUP", (1, 2), groups::add),
    writes("add-groups", "SWITCH FILE", (1, 2), groups::add_file),
    writes("mod-group", "SWITCH GROUP", (1, 2), groups::modify),
    writes("del-groups", "SWITCH [GROUP]", (1, 2), groups::delete),
    writes("insert-buckets", "SWITCH GROUP", (1, 2), groups::insert_buckets),
    writes("remove-buckets", "SWITCH GROUP", (1, 2), groups::remove_buckets),
    reads("dump-groups", "SWITCH [GROUP]", (1, 2), groups::dump_descriptions),
    reads("dump-group-stats", "SWITCH [GROUP]", (1, 2), groups::dump_stats),
    reads("dump-group-features", "SWITCH", (1, 1), groups::dump_features),
    writes("add-meter", "SWITCH METER", (2, 2), groups::add_meter),
    writes("mod-meter", "SWITCH METER", (2, 2), groups::modify_meter),
    writes("del-meter", "SWITCH METER", (1, 2), groups::delete_meters),
    writes("del-meters", "SWITCH [METER]", (1, 2), groups::delete_meters),
    reads("dump-meter", "SWITCH METER", (1, 2), groups::dump_meters),
    reads("dump-meters", "SWITCH [METER]", (1, 2), groups::dump_meters),
    reads("meter-stats", "SWITCH [METER]", (1, 2), groups::meter_stats),
    reads("meter-features", "SWITCH", (1, 1), groups::meter_features),
    writes("add-tlv-map", "SWITCH MAP", (2, 2), groups::add_map),
    writes("del-tlv-map", "SWITCH [MAP]", (1, 2), groups::delete_map),
    reads("dump-tlv-map", "SWITCH", (1, 1), groups::dump_map),
    reads("dump-ipfix-bridge", "SWITCH", (1, 1), info::dump_ipfix_bridge),
    reads("dump-ipfix-flow", "SWITCH", (1, 1), info::dump_ipfix_flow),
    writes("ct-flush-zone", "SWITCH ZONE", (2, 2), groups::flush_zone),
    writes("ct-flush", "SWITCH [zone=N] [mark=X[/M]] [labels=Y[/N]] [CT-ORIG-TUPLE [CT-REPLY-TUPLE]]", (1, 6), groups::flush),
    reads("probe", "TARGET", (1, 1), info::probe),
    reads("ping", "TARGET [N]", (1, 2), info::ping),
    reads("benchmark", "TARGET N COUNT", (3, 3), info::benchmark),
    reads("ofp-parse", "FILE", (1, 1), offline::print_stream),
    reads("ofp-parse-pcap", "PCAP [PORT...]", (1, usize::MAX), capture::print_capture),
    reads("list-commands", "", (0, usize::MAX), offline::list_commands),
    reads("parse-flow", "", (1, 1), offline::parse_one_flow),
    reads("parse-flows", "", (1, 1), offline::parse_flows),
    reads("parse-group", "", (1, 1), offline::parse_one_group),
    reads("parse-nx-match", "", (0, 0), parts::parse_nxm),
    reads("parse-nxm", "", (0, 0), parts::parse_nxm),
    reads("parse-oxm", "", (1, 1), parts::parse_oxm),
    reads("parse-actions", "", (1, 1), parts::parse_actions),
    reads("parse-instructions", "", (1, 1), parts::parse_instructions),
    reads("parse-ofp10-match", "", (0, 0), parts::parse_match10),
    reads("parse-ofp11-match", "", (0, 0), parts::parse_match11),
    reads("parse-pcap", "", (1, usize::MAX), capture::print_flows),
    reads("check-vlan", "", (2, 2), parts::check_vlan),
    reads("print-error", "", (1, 1), offline::print_error),
    reads("encode-error-reply", "", (2, 2), offline::encode_error),
    reads("ofp-print", "", (1, 2), offline::print_message),
    reads("encode-hello", "", (1, 1), offline::encode_hello),
    reads("parse-key-value", "", (1, usize::MAX), offline::parse_key_values),
    reads("compose-packet", "", (1, 2), capture::compose_packet),
    reads("parse-packet", "", (0, 0), capture::print_flow),
];

/// Names of the commands.
#[must_use]
pub fn commands() -> Vec<&'static str> {
    COMMANDS.iter().map(|c| c.name).collect()
}

/// Runs it.
///
/// # Errors
/// In the words of ovs-ofctl.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let (options, words) = match options::parse(io, words)? {
        Asked::Help => return help(io),
        Asked::Version => {
            writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}\nOpenFlow versions 0x1:0x6", io.program)?;
            return Ok(0);
        }
        Asked::Run(options, words) => (options, words),
    };
    let Some(name) = words.first() else {
        return Err(Fault::say("missing command name; use --help for help"));
    };
    if name == "help" {
        return help(io);
    }
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        let hint = suggest::hint(name, COMMANDS.iter().map(|c| c.name));
        return Err(Fault::say(format!("unknown command '{name}'; use --help for help{hint}")));
    };
    let (n, (least, most)) = (words.len() - 1, command.range);
    if n < least {
        return Err(Fault::say(format!("'{name}' command requires at least {least} arguments")));
    }
    if n > most {
        return Err(Fault::say(format!("'{name}' command takes at most {most} arguments")));
    }
    if command.writes && options.read_only {
        return Err(Fault::say(format!("'{name}' command does not work in read only mode")));
    }
    if !command.runs_on {
        alarm::set(io, options.timeout.as_deref(), "value %s on -t or --timeout is invalid")?;
    }
    (command.run)(io, &Run { options: &options, words: &words })
}

/// What a file holds; `-` is standard input.
fn read_text(file: &str) -> Result<String, Fault> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| Fault::because("-: read failed", &e))?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|e| Fault::because(format!("{file}: open failed"), &e))
}

fn help(io: &mut Io<'_>) -> Result<u8, Fault> {
    writeln!(io.out, "{p}: OpenFlow switch management utility\nusage: {p} [OPTIONS] COMMAND [ARG...]\n", p = io.program)?;
    writeln!(io.out, "For OpenFlow switches:")?;
    for command in COMMANDS.iter().filter(|c| !c.usage.is_empty()) {
        writeln!(io.out, "  {} {}", command.name, command.usage)?;
    }
    Ok(0)
}
