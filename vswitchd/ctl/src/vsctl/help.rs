//! What `--help`, `--commands` and `--options` print.

use super::command::COMMANDS;
use super::names::ROW_NAMES;
use super::options::ROWS;
use crate::console::Io;
use crate::dirs;
use crate::fault::Fault;
use crate::getopt::Value;

/// Headings of the groups of commands, each before its first.
const GROUPS: &[(&str, &str)] = &[
    ("init", "Open vSwitch commands"),
    ("add-br", "Bridge commands"),
    ("list-ports", "Port commands (a bond is considered to be a single port)"),
    ("list-ifaces", "Interface commands (a bond consists of multiple interfaces)"),
    ("get-controller", "Controller commands"),
    ("get-manager", "Manager commands"),
    ("get-ssl", "SSL commands"),
    ("add-aa-mapping", "Auto Attach commands"),
    ("add-zone-tp", "CT timeout, CT limit and datapath commands"),
    ("comment", "Database commands"),
];

/// `--help`
pub(super) fn help(io: &mut Io<'_>) -> Result<(), Fault> {
    let p = io.program;
    writeln!(io.out, "{p}: ovs-vswitchd management utility\nusage: {p} [OPTIONS] COMMAND [ARG...]")?;
    for command in COMMANDS {
        if let Some((_, title)) = GROUPS.iter().find(|(first, _)| *first == command.name) {
            writeln!(io.out, "\n{title}:")?;
        }
        let options: String = command
            .options
            .split(',')
            .filter(|o| !o.is_empty())
            .map(|o| if o.ends_with('=') { format!("[{o}ARG] ") } else { format!("[{o}] ") })
            .collect();
        writeln!(io.out, "  {options}{} {}", command.name, command.usage)?;
    }
    writeln!(io.out, "Database commands may reference a row in each table in the following ways:")?;
    for way in ROW_NAMES {
        match (way.name, way.via) {
            (None, _) => writeln!(io.out, "  {}: by UUID, as \".\"", way.table)?,
            (Some(name), None) => writeln!(io.out, "  {}: by UUID, by \"{name}\"", way.table)?,
            (Some(name), Some(via)) => {
                writeln!(io.out, "  {}: by UUID, via \"{via}\" of {} with matching \"{name}\"", way.table, way.by)?;
            }
        }
    }
    Ok(write!(
        io.out,
        "
Options:
  --db=DATABASE               connect to DATABASE
                              (default: unix:{run}/db.sock)
  --no-wait                   do not wait for ovs-vswitchd to reconfigure
  --retry                     keep trying to connect to server forever
  -t, --timeout=SECS          wait at most SECS seconds for ovs-vswitchd
  --dry-run                   do not commit changes to database
  --oneline                   print exactly one line of output per command

Output formatting options:
  -f, --format=FORMAT         set output formatting to FORMAT
                              (\"table\", \"list\", \"html\", \"csv\", or \"json\")
  -d, --data=FORMAT           set table cell output formatting to
                              FORMAT (\"string\", \"bare\", or \"json\")
  --no-headings               omit table heading row
  --pretty                    pretty-print JSON in output
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"

Logging options:
  -vSPEC, --verbose=SPEC      set logging levels
  --no-syslog                 equivalent to --verbose=vsctl:syslog:warn

Other options:
  -h, --help                  display this help message
  -V, --version               display version information
",
        run = dirs::run().display()
    )?)
}

/// `--commands`: options, name and arguments of each, as OVS's completion scripts read them.
pub(super) fn commands(io: &mut Io<'_>) -> Result<(), Fault> {
    for command in COMMANDS {
        let options: Vec<String> = command
            .options
            .split(',')
            .filter(|o| !o.is_empty())
            .map(|o| if o.ends_with('=') { format!("[{o}ARG]") } else { format!("[{o}]") })
            .collect();
        let options = if options.is_empty() { String::new() } else { format!("{} ", options.join(" ")) };
        writeln!(io.out, "{options},{},{}", command.name, command.usage)?;
    }
    Ok(())
}

/// `--options`: each of them.
pub(super) fn options(io: &mut Io<'_>) -> Result<(), Fault> {
    for row in ROWS {
        let value = match row.value {
            Value::None => "",
            Value::Optional => "[=ARG]",
            Value::Required => "=ARG",
        };
        writeln!(io.out, "--{}{value}", row.long)?;
        if let Some(short) = row.short {
            writeln!(io.out, "-{short}{}", if row.value == Value::Required { " ARG" } else { "" })?;
        }
    }
    Ok(())
}
