//! `ovsdb-client`: speaks OVSDB to a server, one command at a time (ovsdb-client(1)).
//!
//! Commands that end by themselves are in `commands` and `backup`; those that follow a database until they are told to end are in
//! `monitor`, have a control socket, and may run in the background (`process`).

mod backup;
mod commands;
mod lock;
mod monitor;
mod server;
mod wait;

use crate::console::Io;
use crate::fault::Fault;
use crate::getopt::{self, Row, Value, Word, row};
use crate::process::background::{self, Background};
use crate::process::{ProcessId, ProcessOptions, options};
use crate::table::{Format, Style};
use crate::{OVS_VERSION, alarm, dirs, suggest};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    Process(ProcessId),
    Format,
    Data,
    NoHeadings,
    Pretty,
    Bare,
    MaxColumnWidth,
    Timestamp,
    Aware(bool),
    Timeout,
    Force,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("format", Some('f'), Value::Required, Id::Format),
    row("data", Some('d'), Value::Required, Id::Data),
    row("no-headings", None, Value::None, Id::NoHeadings),
    row("pretty", None, Value::None, Id::Pretty),
    row("bare", None, Value::None, Id::Bare),
    row("max-column-width", None, Value::Required, Id::MaxColumnWidth),
    row("timestamp", None, Value::None, Id::Timestamp),
    row("db-change-aware", None, Value::None, Id::Aware(true)),
    row("no-db-change-aware", None, Value::None, Id::Aware(false)),
    row("timeout", Some('t'), Value::Required, Id::Timeout),
    row("force", None, Value::None, Id::Force),
    row("help", Some('h'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

/// What the words say.
struct Options {
    process: ProcessOptions,
    style: Style,
    timestamp: bool,
    /// `--db-change-aware` or its contrary.
    aware: Option<bool>,
    timeout: Option<String>,
    force: bool,
}

/// What a command wants before it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Server,
    Database,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    ListDbs,
    GetSchema,
    GetSchemaVersion,
    GetSchemaCksum,
    ListTables,
    ListColumns,
    Transact,
    Query,
    Dump,
    Convert,
    NeedsConversion,
    Backup,
    Restore,
    Wait,
    Monitor,
    MonitorCond,
    MonitorCondSince,
    Lock,
    Steal,
    Unlock,
}

/// Name, need, least and greatest number of arguments, arguments, what it does.
struct Command(&'static str, Work, Need, usize, usize, &'static str, &'static str);

const ANY: usize = usize::MAX;
const COMMANDS: &[Command] = &[
    Command("list-dbs", Work::ListDbs, Need::Server, 0, 0, "[SERVER]", "list databases available on SERVER"),
    Command(
        "get-schema",
        Work::GetSchema,
        Need::Database,
        0,
        0,
        "[SERVER] [DATABASE]",
        "retrieve schema for DATABASE from SERVER",
    ),
    Command("get-schema-version", Work::GetSchemaVersion, Need::Database, 0, 0, "[SERVER] [DATABASE]", "report only its version"),
    Command("get-schema-cksum", Work::GetSchemaCksum, Need::Database, 0, 0, "[SERVER] [DATABASE]", "report only its checksum"),
    Command("list-tables", Work::ListTables, Need::Database, 0, 0, "[SERVER] [DATABASE]", "list tables for DATABASE on SERVER"),
    Command(
        "list-columns",
        Work::ListColumns,
        Need::Database,
        0,
        1,
        "[SERVER] [DATABASE] [TABLE]",
        "list columns in TABLE or all",
    ),
    Command(
        "transact",
        Work::Transact,
        Need::Server,
        1,
        1,
        "[SERVER] TRANSACTION",
        "run TRANSACTION and print the results as JSON",
    ),
    Command("query", Work::Query, Need::Server, 1, 1, "[SERVER] TRANSACTION", "the same, but change nothing"),
    Command(
        "monitor",
        Work::Monitor,
        Need::Database,
        1,
        ANY,
        "[SERVER] [DATABASE] TABLE [COLUMN,...]...",
        "follow contents; ALL tables",
    ),
    Command(
        "monitor-cond",
        Work::MonitorCond,
        Need::Database,
        2,
        ANY,
        "[SERVER] [DATABASE] CONDITION TABLE [COLUMN,...]...",
        "follow contents that match CONDITION",
    ),
    Command(
        "monitor-cond-since",
        Work::MonitorCondSince,
        Need::Database,
        2,
        ANY,
        "[SERVER] [DATABASE] [LASTID] CONDITION TABLE [COLUMN,...]...",
        "the same, since transaction LASTID",
    ),
    Command(
        "wait",
        Work::Wait,
        Need::Server,
        2,
        2,
        "[SERVER] DATABASE STATE",
        "wait until DATABASE is added, connected or removed",
    ),
    Command(
        "convert",
        Work::Convert,
        Need::Server,
        1,
        1,
        "[SERVER] SCHEMA",
        "convert database on SERVER named in SCHEMA to SCHEMA",
    ),
    Command(
        "needs-conversion",
        Work::NeedsConversion,
        Need::Server,
        1,
        1,
        "[SERVER] SCHEMA",
        "tell whether that would change it",
    ),
    Command("dump", Work::Dump, Need::Database, 0, ANY, "[SERVER] [DATABASE] [TABLE [COLUMN]...]", "dump contents to stdout"),
    Command("backup", Work::Backup, Need::Database, 0, 0, "[SERVER] [DATABASE] > SNAPSHOT", "dump contents as a database file"),
    Command(
        "restore",
        Work::Restore,
        Need::Database,
        0,
        0,
        "[SERVER] [DATABASE] < SNAPSHOT",
        "restore contents from such a file",
    ),
    Command("lock", Work::Lock, Need::Server, 1, 1, "[SERVER] LOCK", "create or wait for LOCK in SERVER"),
    Command("steal", Work::Steal, Need::Server, 1, 1, "[SERVER] LOCK", "steal LOCK from SERVER"),
    Command("unlock", Work::Unlock, Need::Server, 1, 1, "[SERVER] LOCK", "unlock LOCK from SERVER"),
];

/// A command with everything it was given.
struct Call<'a> {
    options: &'a Options,
    work: Work,
    server: String,
    /// Chosen once the server has told its databases.
    database: String,
    words: Vec<String>,
}

impl Call<'_> {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }
}

/// Names of the commands.
#[must_use]
pub fn commands() -> Vec<&'static str> {
    COMMANDS.iter().map(|c| c.0).collect()
}

/// Runs it.
///
/// # Errors
/// Options, an unknown command, the connection, or what the server said.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let Some((options, words)) = parse(io, words)? else {
        return Ok(0);
    };
    let Some((name, words)) = words.split_first() else {
        return Err(Fault::say("missing command name; use --help for help"));
    };
    if name == "help" {
        help(io)?;
        return Ok(0);
    }
    let Some(command) = COMMANDS.iter().find(|c| c.0 == name) else {
        let hint = suggest::hint(name, COMMANDS.iter().map(|c| c.0));
        return Err(Fault::say(format!("unknown command '{name}'; use --help for help{hint}")));
    };
    let Command(_, work, _, least, _, _, _) = command;
    let (mut server, mut words) = (format!("unix:{}", dirs::in_run("db.sock").display()), words.to_vec());
    let is_server = |w: &String| w.starts_with(|c: char| c.is_ascii_alphabetic()) && w.contains(':');
    if words.len() > *least && is_server(&words[0]) {
        server = words.remove(0);
    }
    let call = Call { options: &options, work: *work, server, database: String::new(), words };
    let follows =
        matches!(work, Work::Monitor | Work::MonitorCond | Work::MonitorCondSince | Work::Lock | Work::Steal | Work::Unlock);
    if follows || options.process.detach || options.process.pidfile.is_some() {
        let (process, timeout) = (options.process.clone(), options.timeout.clone());
        return background::run(io, &process, timeout.as_deref(), follows, async |io, background| {
            perform(io, call, command, background).await
        });
    }
    alarm::set(io, options.timeout.as_deref(), "value %s on -t or --timeout is invalid")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fault::Output)?;
    runtime.block_on(perform(io, call, command, &mut Background::default()))
}

async fn perform(io: &mut Io<'_>, mut call: Call<'_>, command: &Command, background: &mut Background) -> Result<u8, Fault> {
    let Command(name, work, need, least, most, _, _) = command;
    if *work == Work::Wait {
        check(name, &call.words, *least, *most)?;
        return wait::run(&call).await;
    }
    let mut client = server::connect(&call).await?;
    if *need == Need::Database {
        server::choose_database(&mut client, &mut call, (name, *least)).await?;
    }
    check(name, &call.words, *least, *most)?;
    let monitors = matches!(work, Work::Monitor | Work::MonitorCond | Work::MonitorCondSince);
    if call.options.aware.unwrap_or(monitors) {
        // A server without the method has nothing to be aware of.
        let _ = client.request("set_db_change_aware", vec![true.into()]).await;
    }
    match work {
        Work::ListDbs => commands::list_dbs(io, &mut client).await,
        Work::GetSchema => commands::schema(io, &mut client, &call).await,
        Work::GetSchemaVersion => commands::schema_part(io, &mut client, &call, |s| s.version.clone()).await,
        Work::GetSchemaCksum => commands::schema_part(io, &mut client, &call, |s| s.cksum.clone()).await,
        Work::ListTables => commands::list_tables(io, &mut client, &call).await,
        Work::ListColumns => commands::list_columns(io, &mut client, &call).await,
        Work::Transact | Work::Query => commands::transact(io, &mut client, &call, background).await,
        Work::Dump => commands::dump(io, &mut client, &call).await,
        Work::Convert => commands::convert(&mut client, &call).await,
        Work::NeedsConversion => commands::needs_conversion(io, &mut client, &call).await,
        Work::Backup => backup::backup(io, &mut client, &call).await,
        Work::Restore => backup::restore(&mut client, &call).await,
        Work::Wait => Ok(0),
        Work::Monitor | Work::MonitorCond | Work::MonitorCondSince => monitor::run(io, client, &call, background).await,
        Work::Lock | Work::Steal | Work::Unlock => lock::run(io, client, &call, background).await,
    }
}

fn check(name: &str, words: &[String], least: usize, most: usize) -> Result<(), Fault> {
    if words.len() < least || words.len() > most {
        return Err(Fault::say(format!("invalid syntax for '{name}' (use --help for help)")));
    }
    Ok(())
}

fn parse(io: &mut Io<'_>, words: &[String]) -> Result<Option<(Options, Vec<String>)>, Fault> {
    let process = ProcessOptions { keep_output: true, ..ProcessOptions::new(io.program) };
    let style = Style::new(Format::Table);
    let mut options = Options { process, style, timestamp: false, aware: None, timeout: None, force: false };
    let own = ROWS.iter().map(|r| row(r.long, r.short, r.value, r.id));
    let rows: Vec<Row<Id>> = own.chain(options::rows(Id::Process)).collect();
    let mut operands = Vec::new();
    for word in getopt::parse(&rows, words)? {
        let (id, value) = match word {
            Word::Operand(operand) => {
                operands.push(operand);
                continue;
            }
            Word::Option(id, value) => (id, value),
        };
        let text = value.as_deref().unwrap_or_default();
        match id {
            Id::Process(id) => {
                if id == ProcessId::Verbose {
                    io.log_spec(value.as_deref());
                }
                options.process.set(id, value).map_err(|e| Fault::say(e.to_string()))?;
            }
            Id::Format => options.style.set_format(text)?,
            Id::Data => options.style.set_data(text)?,
            Id::NoHeadings => options.style.headings = false,
            Id::Pretty => options.style.pretty = true,
            Id::Bare => options.style.set_bare(),
            Id::MaxColumnWidth => options.style.width_max = text.parse().unwrap_or(0),
            Id::Timestamp => options.timestamp = true,
            Id::Aware(aware) => options.aware = Some(aware),
            Id::Timeout => options.timeout = value,
            Id::Force => options.force = true,
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
    Ok(Some((options, operands)))
}

fn help(io: &mut Io<'_>) -> Result<(), Fault> {
    let p = io.program;
    writeln!(
        io.out,
        "{p}: Open vSwitch database JSON-RPC client\nusage: {p} [OPTIONS] COMMAND [ARG...]\n\nValid commands are:\n"
    )?;
    for Command(name, _, _, _, _, arguments, about) in COMMANDS {
        writeln!(io.out, "  {name} {arguments}\n    {about}\n")?;
    }
    write!(
        io.out,
        "\
The default SERVER is unix:{run}/db.sock.
The default DATABASE is Open_vSwitch.
SERVER is unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT; punix:FILE, ptcp:PORT[:IP] or pssl:PORT[:IP] to be connected to.

Output formatting options:
  -f, --format=FORMAT         \"table\", \"list\", \"html\", \"csv\", or \"json\"
  -d, --data=FORMAT           \"string\", \"bare\", or \"json\"
  --no-headings               omit table heading row
  --pretty                    pretty-print JSON in output
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"
  --timestamp                 timestamp \"monitor\" output
Other options:
  --[no-]db-change-aware      whether to outlive changes of databases
  --force                     restore a snapshot of another schema version
  -t, --timeout=SECS          give up after SECS seconds
  --detach, --pidfile[=FILE], --no-chdir, --log-file[=FILE], -vSPEC, --unixctl=SOCKET
  -p, --private-key=FILE  -c, --certificate=FILE  -C, --ca-cert=FILE  --bootstrap-ca-cert=FILE  --ssl-protocols=PROTOS
  -h, --help                  display this help message
  -V, --version               display version information
",
        run = dirs::run().display()
    )?;
    Ok(())
}
