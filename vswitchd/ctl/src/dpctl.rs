//! `ovs-dpctl`: looks at datapaths. The datapath lives in the daemon, so each command becomes the daemon's `dpctl/COMMAND`.

use crate::alarm;
use crate::appctl::{print, refuse};
use crate::console::Io;
use crate::fault::{Fault, errno_text};
use crate::getopt::{self, Row, Value, Word, row};
use crate::unixctl::{self, Answer};
use crate::{OVS_VERSION, dirs, suggest};
use std::io::Read as _;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    /// Passed on to the daemon as it stands.
    Pass(&'static str),
    Target,
    Timeout,
    Verbose,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("statistics", Some('s'), Value::None, Id::Pass("--statistics")),
    row("clear", None, Value::None, Id::Pass("--clear")),
    row("may-create", None, Value::None, Id::Pass("--may-create")),
    row("read-only", None, Value::None, Id::Pass("--read-only")),
    row("more", Some('m'), Value::None, Id::Pass("--more")),
    row("names", None, Value::None, Id::Pass("--names")),
    row("no-names", None, Value::None, Id::Pass("--no-names")),
    row("target", None, Value::Required, Id::Target),
    row("timeout", Some('t'), Value::Required, Id::Timeout),
    row("verbose", Some('v'), Value::Optional, Id::Verbose),
    row("help", Some('h'), Value::None, Id::Help),
    row("option", Some('o'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

/// A command with the least and the greatest number of its arguments.
type Command = (&'static str, usize, usize, &'static str);

const ANY: usize = usize::MAX;
const COMMANDS: &[Command] = &[
    ("add-dp", 1, ANY, "DP [IFACE...]"),
    ("del-dp", 1, 1, "DP"),
    ("add-if", 2, ANY, "DP IFACE..."),
    ("set-if", 2, ANY, "DP IFACE..."),
    ("del-if", 2, ANY, "DP IFACE..."),
    ("dump-dps", 0, 0, ""),
    ("show", 0, ANY, "[DP...]"),
    ("dump-flows", 0, 6, "[DP] [filter=..] [type=..] [pmd=..]"),
    ("add-flow", 2, 3, "[DP] FLOW ACTIONS"),
    ("add-flows", 1, 2, "[DP] FILE"),
    ("mod-flow", 2, 3, "[DP] FLOW ACTIONS"),
    ("mod-flows", 1, 2, "[DP] FILE"),
    ("get-flow", 1, 2, "[DP] ufid:UFID"),
    ("del-flow", 1, 2, "[DP] FLOW"),
    ("del-flows", 0, 2, "[DP] [FILE]"),
    ("offload-stats-show", 0, 1, "[DP]"),
    ("dump-conntrack", 0, 4, "[DP] [zone=ZONE]"),
    ("dump-conntrack-exp", 0, 2, "[DP] [zone=ZONE]"),
    ("flush-conntrack", 0, 6, "[DP] [zone=ZONE] [mark=X[/M]] [labels=Y[/N]] [CT-ORIG-TUPLE [CT-REPLY-TUPLE]]"),
    ("cache-get-size", 0, 1, "[DP]"),
    ("cache-set-size", 3, 3, "DP CACHE SIZE"),
    ("ct-stats-show", 0, 3, "[DP] [zone=ZONE]"),
    ("ct-bkts", 0, 2, "[DP] [gt=N]"),
    ("ct-set-maxconns", 1, 2, "[DP] MAXCONNS"),
    ("ct-get-maxconns", 0, 1, "[DP]"),
    ("ct-get-nconns", 0, 1, "[DP]"),
    ("ct-enable-tcp-seq-chk", 0, 1, "[DP]"),
    ("ct-disable-tcp-seq-chk", 0, 1, "[DP]"),
    ("ct-get-tcp-seq-chk", 0, 1, "[DP]"),
    ("ct-set-limits", 1, ANY, "[DP] [default=L] [zone=N,limit=L]..."),
    ("ct-del-limits", 1, 3, "[DP] [default] [zone=N1[,N2]...]"),
    ("ct-get-limits", 0, 2, "[DP] [zone=N1[,N2]...]"),
    ("ct-get-sweep-interval", 0, 1, "[DP]"),
    ("ct-set-sweep-interval", 1, 2, "[DP] MS"),
    ("ipf-set-enabled", 1, 2, "[DP] v4|v6"),
    ("ipf-set-disabled", 1, 2, "[DP] v4|v6"),
    ("ipf-set-min-frag", 2, 3, "[DP] v4|v6 MINFRAG"),
    ("ipf-set-max-nfrags", 1, 2, "[DP] MAXFRAGS"),
    ("ipf-get-status", 0, 1, "[DP]"),
    ("list-commands", 0, ANY, ""),
    ("parse-actions", 1, ANY, "ACTIONS"),
    ("normalize-actions", 2, ANY, "FLOW ACTIONS"),
];

/// Names of the commands.
#[must_use]
pub fn commands() -> Vec<&'static str> {
    COMMANDS.iter().map(|c| c.0).collect()
}

/// Runs it.
///
/// # Errors
/// Options, an unknown command, connection, or the daemon's refusal.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let (mut passed, mut operands, mut timeout) = (Vec::new(), Vec::new(), None);
    let mut target = "ovs-vswitchd".to_owned();
    for word in getopt::parse(ROWS, words)? {
        match word {
            Word::Operand(operand) => operands.push(operand),
            Word::Option(Id::Pass(option), _) => passed.push(option.to_owned()),
            Word::Option(Id::Target, value) => target = value.unwrap_or(target),
            Word::Option(Id::Timeout, value) => timeout = value,
            Word::Option(Id::Verbose, value) => io.log_spec(value.as_deref()),
            Word::Option(Id::Help, _) => return help(io),
            Word::Option(Id::Version, _) => {
                writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}", io.program)?;
                return Ok(0);
            }
        }
    }
    let Some((command, arguments)) = operands.split_first() else {
        return Err(Fault::say("missing command name; use --help for help"));
    };
    if command == "help" {
        return help(io);
    }
    check(command, arguments)?;
    alarm::set(io, timeout.as_deref(), "value %s on -t or --timeout is invalid")?;
    passed.extend_from_slice(arguments);
    let spool = file_argument(command, &mut passed)?;
    let mut client = unixctl::connect(io, &target)?;
    let answer = client
        .transact(&format!("dpctl/{command}"), &passed)
        .map_err(|e| Fault::say(format!("{target}: transaction error ({})", errno_text(&e))))?;
    if let Some(spool) = spool {
        // A file in the run folder that nobody will ask for again.
        drop(std::fs::remove_file(spool));
    }
    refuse(io, &target, &answer)?;
    if let Answer::Result(result) = answer {
        print(io, &result, false)?;
    }
    Ok(0)
}

fn check(command: &str, arguments: &[String]) -> Result<(), Fault> {
    let Some((_, least, most, _)) = COMMANDS.iter().find(|c| c.0 == command) else {
        let hint = suggest::hint(command, COMMANDS.iter().map(|c| c.0));
        return Err(Fault::say(format!("unknown command '{command}'; use --help for help{hint}")));
    };
    if arguments.len() < *least {
        return Err(Fault::say(format!("'{command}' command requires at least {least} arguments")));
    }
    if arguments.len() > *most {
        return Err(Fault::say(format!("'{command}' command takes at most {most} arguments")));
    }
    Ok(())
}

/// The daemon runs in another folder and reads another standard input: names of files become absolute, `-` a file in the run folder,
/// whose name is returned.
fn file_argument(command: &str, words: &mut [String]) -> Result<Option<std::path::PathBuf>, Fault> {
    if !["add-flows", "mod-flows", "del-flows"].contains(&command) {
        return Ok(None);
    }
    let Some(file) = words.last_mut().filter(|w| !w.starts_with("--")) else {
        return Ok(None);
    };
    if file == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text)?;
        let spool = dirs::in_run(format!("ovs-dpctl.{}.flows", std::process::id()));
        std::fs::write(&spool, text).map_err(|e| Fault::because(format!("{}: write failed", spool.display()), &e))?;
        *file = spool.display().to_string();
        return Ok(Some(spool));
    }
    let path = dirs::in_cwd(&*file);
    if path.is_file() {
        *file = path.display().to_string();
    }
    Ok(None)
}

fn help(io: &mut Io<'_>) -> Result<u8, Fault> {
    writeln!(io.out, "{p}: Open vSwitch datapath management utility\nusage: {p} [OPTIONS] COMMAND [ARG...]", p = io.program)?;
    for (name, _, _, usage) in COMMANDS {
        writeln!(io.out, "  {name} {usage}")?;
    }
    write!(
        io.out,
        "\
Each IFACE on add-dp, add-if, and set-if may be followed by
comma-separated options.  See ovs-dpctl(8) for syntax, or the
Interface table in ovs-vswitchd.conf.db(5) for an options list.
For COMMAND dump-flows, add-flow, add-flows, mod-flow,
mod-flows, del-flow and del-flows, DP is optional if there is
only one datapath.

Options for show and mod-flow:
  -s,  --statistics           print statistics for port or flow

Options for dump-flows:
  -m, --more                  increase verbosity of output
  --names                     use port names in output

Options for mod-flow:
  --may-create                create flow if it doesn't exist
  --read-only                 do not run read/write commands
  --clear                     reset existing stats to zero

Other options:
  --target=TARGET             daemon to ask (default: ovs-vswitchd)
  -t, --timeout=SECS          give up after SECS seconds
  -h, --help                  display this help message
  -V, --version               display version information
"
    )?;
    Ok(0)
}
