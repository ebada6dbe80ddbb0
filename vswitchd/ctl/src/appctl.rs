//! `ovs-appctl`: one command to a daemon's control socket, its answer to standard output.

use crate::alarm;
use crate::console::Io;
use crate::fault::{Fault, errno_text};
use crate::getopt::{self, Row, Value, Word, row};
use crate::unixctl::{self, Answer};
use crate::{OVS_VERSION, dirs};
use serde_json::Value as Json;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    Target,
    Timeout,
    Format,
    Pretty,
    /// What the command line does anyway; old scripts say it.
    Execute,
    Verbose,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("target", Some('t'), Value::Required, Id::Target),
    row("timeout", Some('T'), Value::Required, Id::Timeout),
    row("format", Some('f'), Value::Required, Id::Format),
    row("pretty", None, Value::None, Id::Pretty),
    row("execute", Some('e'), Value::None, Id::Execute),
    row("verbose", Some('v'), Value::Optional, Id::Verbose),
    row("help", Some('h'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

#[derive(Default)]
struct Options {
    target: Option<String>,
    timeout: Option<String>,
    json: bool,
    pretty: bool,
    words: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// Options, connection, or the daemon's refusal (exit code 2).
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let Some(options) = parse(io, words)? else {
        return Ok(0);
    };
    let Some((command, arguments)) = options.words.split_first() else {
        return Err(Fault::say("at least one non-option argument is required (use --help for help)"));
    };
    alarm::set(io, options.timeout.as_deref(), "value %s on -T or --timeout is invalid")?;
    let target = options.target.as_deref().unwrap_or("ovs-vswitchd");
    let mut client = unixctl::connect(io, target)?;
    let fault = |error: std::io::Error| Fault::say(format!("{target}: transaction error ({})", errno_text(&error)));
    if options.json {
        let format = ["--format".to_owned(), "json".to_owned()];
        refuse(io, target, &client.transact("set-options", &format).map_err(fault)?)?;
    }
    let answer = client.transact(command, arguments).map_err(fault)?;
    refuse(io, target, &answer)?;
    if let Answer::Result(result) = answer {
        print(io, &result, options.pretty)?;
    }
    Ok(0)
}

/// Ends with the daemon's refusal, if it is one.
pub(crate) fn refuse(io: &mut Io<'_>, target: &str, answer: &Answer) -> Result<(), Fault> {
    let Answer::Error(text) = answer else {
        return Ok(());
    };
    io.out.flush()?;
    write!(io.err, "{text}")?;
    if !text.ends_with('\n') {
        writeln!(io.err)?;
    }
    Err(Fault::Text { text: format!("{target}: server returned an error"), code: 2 })
}

/// Prints a result; a text without a newline at its end gets one.
pub(crate) fn print(io: &mut Io<'_>, result: &Json, pretty: bool) -> Result<(), Fault> {
    let text = match result {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) if pretty => {
            serde_json::to_string_pretty(result).unwrap_or_default()
        }
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => ovsdb::json::to_sorted(result),
    };
    write!(io.out, "{text}")?;
    if !text.is_empty() && !text.ends_with('\n') {
        writeln!(io.out)?;
    }
    Ok(())
}

fn parse(io: &mut Io<'_>, words: &[String]) -> Result<Option<Options>, Fault> {
    let mut options = Options::default();
    let (parsed, rest) = getopt::parse_leading(ROWS, words)?;
    for word in parsed {
        let Word::Option(id, value) = word else {
            continue;
        };
        match id {
            Id::Target => options.target = value,
            Id::Timeout => options.timeout = value,
            Id::Format => match value.as_deref() {
                Some("json") => options.json = true,
                Some("text") => options.json = false,
                other => {
                    return Err(Fault::say(format!("value {} on -f or --format is invalid", other.unwrap_or(""))));
                }
            },
            Id::Pretty => options.pretty = true,
            Id::Execute => {}
            Id::Verbose => io.log_spec(value.as_deref()),
            Id::Help => {
                help(io)?;
                return Ok(None);
            }
            Id::Version => {
                writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}", io.program)?;
                return Ok(None);
            }
        }
    }
    if options.pretty && !options.json {
        return Err(Fault::say("--pretty is supported with --format json only"));
    }
    options.words = rest.to_vec();
    Ok(Some(options))
}

fn help(io: &mut Io<'_>) -> Result<(), Fault> {
    let run = dirs::run();
    Ok(write!(
        io.out,
        "\
{p}, for querying and controlling Open vSwitch daemon
usage: {p} [TARGET] COMMAND [ARG...]
Targets:
  -t, --target=TARGET  pidfile or socket to contact
                       (default: ovs-vswitchd, found through {run}/ovs-vswitchd.pid)
Common commands:
  list-commands      List commands supported by the target
  version            Print version of the target
  vlog/list          List current logging levels
  vlog/list-pattern  List logging patterns for each destination.
  vlog/set [SPEC]
      Set log levels as detailed in SPEC, which may include:
      A valid module name (all modules, by default)
      'syslog', 'console', 'file' (all destinations, by default))
      'off', 'emer', 'err', 'warn', 'info', or 'dbg' ('dbg', by default)
  vlog/reopen        Make the program reopen its log file
Other options:
  --timeout=SECS     wait at most SECS seconds for a response
  -f, --format=FMT   Output format. One of: 'json', or 'text'
                     (default: text)
  --pretty           Format the output in a more readable fashion.
                     Requires: --format json.
  -h, --help         Print this helpful information
  -V, --version      Display ovs-appctl version information
",
        p = io.program,
        run = run.display()
    )?)
}
