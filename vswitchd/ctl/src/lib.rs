//! The command-line tools, one program: `ferrule vsctl ...`, or a link named `ovs-vsctl` and so on.
//!
//! What enters: the words of a command line, OVS's environment variables, sockets of a running switch. What leaves: OVS's own texts
//! and exit codes, because scripts read them. Neighbours: `ovsdb` (the database), `openflow` (bridges), the daemon's control socket.
//!
//! Each tool is an `Applet`: a row of [`APPLETS`] with the name it has as a link and as a subcommand. A tool writes through the [`Io`]
//! it is given, so that tests run it in their own process.
#![forbid(unsafe_code)]

pub mod alarm;
pub mod appctl;
pub mod completion;
pub mod console;
pub mod daemon;
pub mod dirs;
pub mod dpctl;
pub mod eswitch_model;
pub mod fault;
pub mod getopt;
pub mod manual;
pub mod ofctl;
pub mod offload;
pub mod ovsdb_client;
pub mod ovsdb_server;
pub mod ovsdb_tool;
pub mod pki;
pub mod process;
pub mod suggest;
pub mod table;
pub mod unixctl;
pub mod vsctl;
pub mod watch;

pub use console::Io;
pub use fault::Fault;

use std::path::Path;
use std::process::ExitCode;

/// The version of Open vSwitch whose behaviour we stand for.
pub const OVS_VERSION: &str = "3.7.1";

/// A tool.
#[derive(Debug)]
pub struct Applet {
    /// The subcommand of `ferrule`.
    pub name: &'static str,
    /// The link name, which is also what the tool calls itself in messages.
    pub link: &'static str,
    /// One line for `ferrule --help`.
    pub about: &'static str,
    /// Runs it on the words after its name; the exit code.
    pub run: fn(&mut Io<'_>, &[String]) -> Result<u8, Fault>,
    /// Its commands, for completion.
    pub commands: fn() -> Vec<&'static str>,
}

const fn applet(
    (name, link): (&'static str, &'static str),
    about: &'static str,
    run: fn(&mut Io<'_>, &[String]) -> Result<u8, Fault>,
    commands: fn() -> Vec<&'static str>,
) -> Applet {
    Applet { name, link, about, run, commands }
}

/// All tools.
pub const APPLETS: &[Applet] = &[
    applet(("daemon", "ferrule-daemon"), "run the switch, with its own database", daemon::run, Vec::new),
    applet(("vsctl", "ovs-vsctl"), "read and change the configuration", vsctl::run, vsctl::commands),
    applet(("ofctl", "ovs-ofctl"), "look at and program the OpenFlow tables of a bridge", ofctl::run, ofctl::commands),
    applet(("appctl", "ovs-appctl"), "query and control a running daemon", appctl::run, Vec::new),
    applet(("dpctl", "ovs-dpctl"), "look at datapaths, their flows and connections", dpctl::run, dpctl::commands),
    applet(("offload", "ferrule-offload"), "what is in hardware, and why not the rest", offload::run, offload::commands),
    applet(
        ("eswitch-model", "ferrule-eswitch-model"),
        "an eSwitch in software, for machines without one",
        eswitch_model::run,
        Vec::new,
    ),
    applet(("ovsdb-client", "ovsdb-client"), "talk to a database server", ovsdb_client::run, ovsdb_client::commands),
    applet(("ovsdb-tool", "ovsdb-tool"), "work on a database file", ovsdb_tool::run, ovsdb_tool::commands),
    applet(("pki", "ovs-pki"), "make keys and certificates", pki::run, pki::commands),
    applet(("ovsdb-server", "ovsdb-server"), "serve databases without a switch", ovsdb_server::run, Vec::new),
];

/// What `ferrule` does itself: name, what it does, how.
type Own = (&'static str, &'static str, fn(&mut Io<'_>, &[String]) -> Result<u8, Fault>);

const OWN: &[Own] = &[
    ("show", "bridges, ports with their rates, the busiest flows", watch::show),
    ("top", "the same, again and again", watch::top),
    ("completion", "print a completion script for bash", completion::run),
    ("manual", "write a manual page for each command", manual::run),
];

/// The program: picks the tool by link name or subcommand and runs it on the process's standard streams.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().map(|w| w.to_string_lossy().into_owned()).collect();
    let (own, rest) = words.split_first().map_or(("ferrule", &[][..]), |(own, rest)| (own.as_str(), rest));
    let base = Path::new(own).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    console::on_standard_streams(|io| dispatch(io, &base, rest))
}

/// Runs the tool that the link name, or else the first word, stands for.
///
/// # Errors
/// What the tool answers; a subcommand that is none.
pub fn dispatch(io: &mut Io<'_>, link: &str, words: &[String]) -> Result<u8, Fault> {
    if let Some(applet) = APPLETS.iter().find(|a| a.link == link) {
        io.program = applet.link;
        return (applet.run)(io, words);
    }
    io.program = "ferrule";
    let Some((first, rest)) = words.split_first() else {
        return Err(Fault::say("missing command name; use --help for help"));
    };
    match first.as_str() {
        "-h" | "--help" | "help" => help(io),
        "-V" | "--version" => {
            writeln!(io.out, "ferrule {} (Open vSwitch {OVS_VERSION})", env!("CARGO_PKG_VERSION"))?;
            Ok(0)
        }
        name => named(io, name, rest),
    }
}

fn named(io: &mut Io<'_>, name: &str, words: &[String]) -> Result<u8, Fault> {
    if let Some(applet) = APPLETS.iter().find(|a| a.name == name || a.link == name) {
        io.program = applet.link;
        return (applet.run)(io, words);
    }
    if let Some((_, _, run)) = OWN.iter().find(|own| own.0 == name) {
        return run(io, words);
    }
    let names = APPLETS.iter().map(|a| a.name).chain(OWN.iter().map(|own| own.0));
    Err(Fault::say(format!("unknown command '{name}'; use --help for help{}", suggest::hint(name, names))))
}

fn help(io: &mut Io<'_>) -> Result<u8, Fault> {
    writeln!(io.out, "ferrule: an Open vSwitch-compatible virtual switch\nusage: ferrule COMMAND [ARG...]\n\nCommands:")?;
    for applet in APPLETS {
        writeln!(io.out, "  {:<14}{} ({})", applet.name, applet.about, applet.link)?;
    }
    for (name, about, _) in OWN {
        writeln!(io.out, "  {name:<14}{about}")?;
    }
    writeln!(io.out, "\nEach command has its own --help. A link to ferrule with the name in brackets is the command itself.")?;
    Ok(0)
}
