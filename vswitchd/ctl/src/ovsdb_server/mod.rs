//! `ovsdb-server`: serves database files without a switch (ovsdb-server(1)). Standalone databases only, active or as the
//! backup of another server: clusters and relays are served by OVS's own.
//!
//! The story from first word to last: options, stages of detaching, the process, the server, then one loop over signals, control
//! requests (`commands`) and the end of `--run`'s command.

mod commands;
mod state;
pub mod tls;

use crate::console::Io;
use crate::fault::{Fault, errno_text};
use crate::getopt::{self, Row, Value, Word, row};
use crate::process::daemonize::{self, Role};
use crate::process::unixctl::{Request, Server as Control};
use crate::process::vlog::Log;
use crate::process::{Process, ProcessId, ProcessOptions, options};
use crate::{OVS_VERSION, dirs};
use commands::Console;
use nix::sys::signal::Signal;
use ovsdb::Server;
use state::{State, Sync};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use tls::DatabaseTls;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    Process(ProcessId),
    Remote,
    Run,
    /// For builds and modes that this one is not.
    Accepted,
    SyncFrom,
    SyncExclude,
    Active,
    ConfigFile,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("remote", None, Value::Required, Id::Remote),
    row("run", None, Value::Required, Id::Run),
    row("no-dbs", None, Value::None, Id::Accepted),
    row("disable-file-column-diff", None, Value::None, Id::Accepted),
    row("disable-file-no-data-conversion", None, Value::None, Id::Accepted),
    row("sync-from", None, Value::Required, Id::SyncFrom),
    row("sync-exclude-tables", None, Value::Required, Id::SyncExclude),
    row("active", None, Value::None, Id::Active),
    row("config-file", None, Value::Required, Id::ConfigFile),
    row("help", Some('h'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

struct Options {
    process: ProcessOptions,
    remotes: Vec<String>,
    databases: Vec<PathBuf>,
    command: Option<String>,
    sync: Sync,
}

/// How the loop ended.
enum End {
    /// `exit`.
    Asked,
    Signal(Signal),
    /// The command of `--run` ended.
    Child(ExitStatus),
}

/// Runs it.
///
/// # Errors
/// Options, files that cannot be opened, remotes that cannot be listened on.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let Some(options) = parse(io, words)? else {
        return Ok(0);
    };
    let ready = match daemonize::begin(&options.process.wish()) {
        Role::Ended(code) => return Ok(code),
        Role::Daemon(ready) => ready,
    };
    let mut process = Process::begin(&options.process, true).map_err(Fault::say)?;
    let mut signals = process.signals.take().expect("nobody took them yet");
    let (log, bound) = (Arc::clone(&process.log), process.control.take());
    let end = process.run(async {
        let (mut control, _name) = match bound {
            Some(bound) => (Some(Control::start(bound.listener)?), Some(bound.name)),
            None => (None, None),
        };
        let (server, mut console) = start(&options, &log).await?;
        let mut child = options.command.as_deref().map(spawn).transpose()?;
        if ready.detaches() {
            log.detach_console();
        }
        console.begin();
        ready.report();
        if child.is_none() {
            tracing::info!(target: "ovsdb_server", "{} (Open vSwitch) {OVS_VERSION}", options.process.program);
        }
        let registry = commands::registry();
        let end = loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    let name = daemonize::signal_name(signal as i32);
                    tracing::warn!(target: "fatal_signal", "terminating with signal {} ({name})", signal as i32);
                    break End::Signal(signal);
                }
                Some(request) = next_request(&mut control) => {
                    registry.serve(&mut console, request);
                    if console.exit {
                        break End::Asked;
                    }
                }
                status = ended(&mut child) => break End::Child(status?),
            }
        };
        if let Some(control) = control.take() {
            control.finish().await;
        }
        drop(console);
        server.stop().await;
        Ok::<End, Fault>(end)
    })?;
    match end {
        End::Asked => process.end(None),
        End::Signal(signal) => process.end(Some(signal)),
        End::Child(status) => {
            process.end(None);
            if !status.success() {
                return Err(Fault::say(format!("child process exited, {status}")));
            }
        }
    }
    Ok(0)
}

async fn next_request(control: &mut Option<Control>) -> Option<Request> {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// Serves what the options name, or what the predecessor served when a monitor has started us anew.
async fn start(options: &Options, log: &Arc<Log>) -> Result<(Server, Console), Fault> {
    let state = State::open();
    let (remotes, databases, sync) =
        state.read().unwrap_or_else(|| (options.remotes.clone(), options.databases.clone(), options.sync.clone()));
    let keys = Arc::new(DatabaseTls::new(options.process.tls.clone()));
    let mut builder = Server::builder().tls(Some(Arc::clone(&keys) as Arc<dyn ovsdb::tls::TlsSource>));
    for file in &databases {
        builder = builder.existing_database(file);
    }
    for remote in &remotes {
        builder = builder.remote(remote);
    }
    let server = builder.start().await.map_err(|e| Fault::say(e.to_string()))?;
    keys.read_from(&server);
    let admin = server.admin();
    admin.set_excluded(&sync.excluded).map_err(Fault::say)?;
    if let Some(active) = &sync.active {
        admin.set_active(active);
    }
    let console = Console::new(admin, Arc::clone(log), options.process.program.clone(), (state, databases), sync.is_backup);
    Ok((server, console))
}

fn spawn(command: &str) -> Result<tokio::process::Child, Fault> {
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.arg("-c").arg(command).kill_on_drop(true);
    shell.spawn().map_err(|e| Fault::say(format!("--run: {}", errno_text(&e))))
}

async fn ended(child: &mut Option<tokio::process::Child>) -> Result<ExitStatus, Fault> {
    match child {
        Some(child) => Ok(child.wait().await?),
        None => std::future::pending().await,
    }
}

fn parse(io: &mut Io<'_>, words: &[String]) -> Result<Option<Options>, Fault> {
    let process = ProcessOptions::new(io.program);
    let mut options = Options { process, remotes: Vec::new(), databases: Vec::new(), command: None, sync: Sync::default() };
    let own = ROWS.iter().map(|r| row(r.long, r.short, r.value, r.id));
    let rows: Vec<Row<Id>> = own.chain(options::rows(Id::Process)).collect();
    let (mut no_databases, mut stays_active) = (false, false);
    for word in getopt::parse(&rows, words)? {
        match word {
            Word::Operand(file) if file.starts_with("relay:") => {
                return Err(Fault::say(format!("{file}: relays are for OVS's own ovsdb-server")));
            }
            Word::Operand(file) => options.databases.push(file.into()),
            Word::Option(Id::Process(id), value) => {
                options.process.set(id, value).map_err(|e| Fault::say(e.to_string()))?;
            }
            Word::Option(Id::Remote, value) => options.remotes.extend(value),
            Word::Option(Id::Run, value) => options.command = value,
            Word::Option(Id::Accepted, _) => no_databases |= words.iter().any(|w| w == "--no-dbs"),
            Word::Option(Id::SyncFrom, value) => options.sync.active = value,
            Word::Option(Id::SyncExclude, value) => options.sync.excluded = value.unwrap_or_default(),
            Word::Option(Id::Active, _) => stays_active = true,
            Word::Option(Id::ConfigFile, _) => {
                return Err(Fault::say("configuration files are for OVS's own ovsdb-server"));
            }
            Word::Option(Id::Help, _) => {
                help(io)?;
                return Ok(None);
            }
            Word::Option(Id::Version, _) => {
                writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}", io.program)?;
                return Ok(None);
            }
        }
    }
    if options.databases.is_empty() && !no_databases {
        options.databases.push(dirs::database().join("conf.db"));
    }
    options.sync.is_backup = options.sync.active.is_some() && !stays_active;
    Ok(Some(options))
}

fn help(io: &mut Io<'_>) -> Result<(), Fault> {
    let p = io.program;
    write!(
        io.out,
        "\
{p}: Open vSwitch database server
usage: {p} [OPTIONS] [DATABASE...]
where each DATABASE is a database file in ovsdb format.
The default DATABASE, if none is given, is
{database}/conf.db.

Active-backup options:
  --sync-from=SERVER      sync data from the active SERVER
  --active                begin active in spite of --sync-from
  --sync-exclude-tables=DB:TABLE,...
                          tables that are not synced

JSON-RPC options (may be specified any number of times):
  --remote=REMOTE         connect or listen to REMOTE
    tcp:HOST:PORT, ssl:HOST:PORT, unix:FILE                 to connect
    ptcp:PORT[:IP], pssl:PORT[:IP], punix:FILE              to listen
    db:DATABASE,TABLE,COLUMN                                what a column says
PKI configuration (required to use SSL; FILE may be db:DATABASE,TABLE,COLUMN):
  -p, --private-key=FILE  file with private key
  -c, --certificate=FILE  file with certificate for private key
  -C, --ca-cert=FILE      file with peer CA certificate
  --bootstrap-ca-cert=FILE  file with peer CA certificate to read or create
  --ssl-protocols=PROTOS  list of SSL protocols to enable
  --ssl-ciphers=CIPHERS   list of SSL ciphers to enable
  --ssl-ciphersuites=SUITES  list of TLS 1.3 ciphersuites to enable

Daemon options:
  --detach                run in background as daemon
  --monitor               creates a process to monitor this daemon
  --user=username[:group] changes the effective daemon user:group
  --no-chdir              do not chdir to '/'
  --pidfile[=FILE]        create pidfile (default: {run}/{p}.pid)
  --overwrite-pidfile     with --pidfile, start even if already running

Logging options:
  -vSPEC, --verbose=SPEC   set logging levels
  --log-file[=FILE]        enable logging to specified FILE
                           (default: {log}/{p}.log)
  --syslog-method=METHOD   libc, unix:FILE, udp:IP:PORT or null
  --syslog-target=HOST:PORT  also send syslog msgs to HOST:PORT via UDP

Other options:
  --run COMMAND           run COMMAND as subprocess then exit
  --no-dbs                serve no database to begin with
  --unixctl=SOCKET        override default control socket name
  -h, --help              display this help message
  -V, --version           display version information
",
        database = dirs::database().display(),
        run = dirs::run().display(),
        log = dirs::log().display(),
    )?;
    Ok(())
}
