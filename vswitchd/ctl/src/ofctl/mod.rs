//! `ovs-ofctl`: a bridge's OpenFlow tables, seen and changed over its management socket.
//!
//! Rooms: `options`; `vconn`, the connection; `protocol`, which dialect is spoken on it; `names` of ports and tables; `render`,
//! messages as text; the commands by what they are about.

mod bundle;
mod flows;
pub mod names;
pub mod options;
pub mod protocol;
pub mod render;
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
    run: fn(&mut Io<'_>, &Run<'_>) -> Result<u8, Fault>,
}

type Execute = fn(&mut Io<'_>, &Run<'_>) -> Result<u8, Fault>;

const fn reads(name: &'static str, usage: &'static str, range: (usize, usize), run: Execute) -> Command {
    Command { name, usage, range, writes: false, run }
}

const fn writes(name: &'static str, usage: &'static str, range: (usize, usize), run: Execute) -> Command {
    Command { name, usage, range, writes: true, run }
}

const COMMANDS: &[Command] = &[
    reads("dump-flows", "SWITCH [FLOW]", (1, 2), flows::dump),
    reads("dump-aggregate", "SWITCH [FLOW]", (1, 2), flows::dump_aggregate),
    writes("add-flow", "SWITCH FLOW", (2, 2), flows::add),
    writes("add-flows", "SWITCH FILE", (2, 2), flows::add_file),
    writes("mod-flows", "SWITCH FLOW", (2, 2), flows::modify),
    writes("del-flows", "SWITCH [FLOW]", (1, 2), flows::delete),
    writes("replace-flows", "SWITCH FILE", (2, 2), flows::replace),
    reads("diff-flows", "SOURCE1 SOURCE2", (2, 2), flows::diff),
];

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
    alarm::set(io, options.timeout.as_deref(), "value %s on -t or --timeout is invalid")?;
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
    for command in COMMANDS {
        writeln!(io.out, "  {} {}", command.name, command.usage)?;
    }
    Ok(0)
}
