//! vsctl's own options, and those of its commands that stand among them.

use super::command::COMMANDS;
use crate::console::Io;
use crate::dirs;
use crate::fault::Fault;
use crate::getopt::{self, Row, Value, Word, row};
use crate::process::{ProcessId, ProcessOptions, Tls};
use crate::table::{Format, Style};

/// What the words before the first command decide.
#[derive(Debug)]
pub struct Options {
    pub database: String,
    pub wait: bool,
    pub dry_run: bool,
    pub oneline: bool,
    pub retry: bool,
    pub timeout: Option<String>,
    pub style: Style,
    /// Keys for `ssl:` databases.
    pub tls: Tls,
    /// Options of the first command.
    pub leading: Vec<(String, Option<String>)>,
}

/// What the words ask for.
#[derive(Debug)]
pub enum Asked<'a> {
    Run(Box<Options>, &'a [String]),
    Help,
    Version,
    /// `--commands`: for shell completion.
    Commands,
    /// `--options`: for shell completion.
    Options,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Id {
    Database,
    NoWait,
    DryRun,
    Oneline,
    Retry,
    Timeout,
    Format,
    Data,
    NoHeadings,
    Pretty,
    Bare,
    MaxColumnWidth,
    Verbose,
    /// Taken and without effect: this tool keeps no log.
    Ignored,
    Tls(ProcessId),
    Help,
    Version,
    Commands,
    Options,
    /// Of a command: its number, and the option's in it.
    OfCommand(&'static str),
}

pub(super) const ROWS: &[Row<Id>] = &[
    row("db", None, Value::Required, Id::Database),
    row("no-syslog", None, Value::None, Id::Ignored),
    row("no-wait", None, Value::None, Id::NoWait),
    row("dry-run", None, Value::None, Id::DryRun),
    row("oneline", None, Value::None, Id::Oneline),
    row("timeout", Some('t'), Value::Required, Id::Timeout),
    row("retry", None, Value::None, Id::Retry),
    row("help", Some('h'), Value::None, Id::Help),
    row("commands", None, Value::None, Id::Commands),
    row("options", None, Value::None, Id::Options),
    row("version", Some('V'), Value::None, Id::Version),
    row("verbose", Some('v'), Value::Optional, Id::Verbose),
    row("log-file", None, Value::Optional, Id::Ignored),
    row("syslog-method", None, Value::Required, Id::Ignored),
    row("syslog-target", None, Value::Required, Id::Ignored),
    row("format", Some('f'), Value::Required, Id::Format),
    row("data", Some('d'), Value::Required, Id::Data),
    row("no-headings", None, Value::None, Id::NoHeadings),
    row("pretty", None, Value::None, Id::Pretty),
    row("bare", None, Value::None, Id::Bare),
    row("max-column-width", None, Value::Required, Id::MaxColumnWidth),
    row("private-key", Some('p'), Value::Required, Id::Tls(ProcessId::PrivateKey)),
    row("certificate", Some('c'), Value::Required, Id::Tls(ProcessId::Certificate)),
    row("ca-cert", Some('C'), Value::Required, Id::Tls(ProcessId::CaCert)),
    row("peer-ca-cert", None, Value::Required, Id::Tls(ProcessId::PeerCaCert)),
    row("bootstrap-ca-cert", None, Value::Required, Id::Tls(ProcessId::BootstrapCaCert)),
    row("ssl-protocols", None, Value::Required, Id::Tls(ProcessId::SslProtocols)),
    row("ssl-ciphers", None, Value::Required, Id::Tls(ProcessId::SslCiphers)),
    row("ssl-ciphersuites", None, Value::Required, Id::Tls(ProcessId::SslCiphersuites)),
    row("ssl-server-name", None, Value::Required, Id::Tls(ProcessId::SslServerName)),
];

/// The options of all commands, each once.
fn command_rows() -> Vec<Row<Id>> {
    let mut rows: Vec<Row<Id>> = Vec::new();
    for option in COMMANDS.iter().flat_map(|c| c.options.split(',')).filter(|o| !o.is_empty()) {
        let name = option.trim_end_matches('=');
        let long = name.trim_start_matches('-');
        if rows.iter().all(|r| r.long != long) {
            let value = if option.ends_with('=') { Value::Required } else { Value::None };
            rows.push(row(long, None, value, Id::OfCommand(name)));
        }
    }
    rows
}

/// Reads the words up to the first command.
///
/// # Errors
/// A word that is no option, or a value that is none.
pub fn parse<'a>(io: &mut Io<'_>, words: &'a [String]) -> Result<Asked<'a>, Fault> {
    let mut rows = command_rows();
    rows.extend(ROWS.iter().map(|r| row(r.long, r.short, r.value, r.id)));
    let (parsed, rest) = getopt::parse_leading(&rows, words).map_err(|e| fault(&e, words))?;
    let mut options = Options {
        database: format!("unix:{}", dirs::in_run("db.sock").display()),
        wait: true,
        dry_run: false,
        oneline: false,
        retry: false,
        timeout: None,
        style: Style::new(Format::List),
        tls: Tls::default(),
        leading: Vec::new(),
    };
    let mut process = ProcessOptions::new(io.program);
    for word in parsed {
        let Word::Option(id, value) = word else {
            continue;
        };
        let text = value.as_deref().unwrap_or_default();
        match id {
            Id::Database => options.database = text.to_owned(),
            Id::NoWait => options.wait = false,
            Id::DryRun => options.dry_run = true,
            Id::Oneline => options.oneline = true,
            Id::Retry => options.retry = true,
            Id::Timeout => options.timeout = value,
            Id::Format => options.style.set_format(text)?,
            Id::Data => options.style.set_data(text)?,
            Id::NoHeadings => options.style.headings = false,
            Id::Pretty => options.style.pretty = true,
            Id::Bare => options.style.set_bare(),
            Id::MaxColumnWidth => options.style.width_max = text.parse().unwrap_or(0),
            Id::Verbose => io.log_spec(value.as_deref()),
            Id::Ignored => {}
            Id::Tls(id) => process.set(id, value).map_err(|e| Fault::say(e.to_string()))?,
            Id::Help => return Ok(Asked::Help),
            Id::Version => return Ok(Asked::Version),
            Id::Commands => return Ok(Asked::Commands),
            Id::Options => return Ok(Asked::Options),
            Id::OfCommand(name) => {
                if options.leading.iter().any(|(held, _)| held == name) {
                    return Err(Fault::say(format!("'{name}' option specified multiple times")));
                }
                options.leading.push((name.to_owned(), value));
            }
        }
    }
    options.tls = process.tls;
    Ok(Asked::Run(Box::new(options), rest))
}

/// getopt's complaint in the words of vsctl, which quotes the word as it was typed.
fn fault(error: &getopt::GetoptError, words: &[String]) -> Fault {
    let typed = |name: &str| {
        let long = format!("--{name}");
        words.iter().find(|w| **w == long || w.starts_with(&format!("{long}="))).cloned().unwrap_or(long)
    };
    Fault::say(match error {
        getopt::GetoptError::Unrecognized(name) => format!("unrecognized option '{}'", typed(name)),
        getopt::GetoptError::NoValue(name) => {
            format!("option '{}' doesn't allow an argument", typed(name))
        }
        getopt::GetoptError::NeedsValue(name) => {
            format!("option '{}' requires an argument", typed(name))
        }
        getopt::GetoptError::Invalid(letter) => format!("unrecognized option '{letter}'"),
        getopt::GetoptError::ShortNeedsValue(letter) => {
            format!("option '{letter}' requires an argument")
        }
        getopt::GetoptError::Ambiguous(..) => error.to_string(),
    })
}
