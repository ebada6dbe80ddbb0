//! The daemon's command line: ovs-vswitchd(8)'s options and the few of our own, as one table; words in, `Options` out. Pure but for
//! the folders that defaults are named after.

use ctl::dirs;
use ctl::getopt::{self, GetoptError, Row, Value, Word, row};
use ctl::process::options::LogSpecError;
use ctl::process::{ProcessId, ProcessOptions, options};
use std::path::PathBuf;

/// Everything the command line decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// What every daemon has.
    pub process: ProcessOptions,
    /// The database to be client of: an active OVSDB method.
    pub remote: Option<String>,
    /// Serve the database from this file, in this process.
    pub embedded_db: Option<PathBuf>,
    pub mlockall: bool,
    pub dummy: Option<Dummy>,
    pub system: bool,
    pub system_route: bool,
    /// NUMA node of each imaginary core.
    pub dummy_numa: Option<Vec<u32>>,
}

/// How far dummy devices reach (`--enable-dummy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dummy {
    /// Only types named dummy.
    Plain,
    /// The type `system` too.
    System,
    /// Every type but patch.
    Override,
}

/// What the words ask for.
#[derive(Debug)]
pub enum Asked {
    Run(Box<Options>),
    Help,
    Version,
}

/// Why the command line was refused.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error(transparent)]
    Getopt(#[from] GetoptError),
    #[error(transparent)]
    Log(#[from] LogSpecError),
    #[error("at most one non-option argument accepted; use --help for usage")]
    Operands,
    #[error("Using --dpdk to configure DPDK is not supported.")]
    Dpdk,
    #[error("{0}: unknown dummy level")]
    Dummy(String),
    #[error("{0}: invalid NUMA node list for --dummy-numa")]
    DummyNuma(String),
    #[error("both --embedded-db and a database remote were given")]
    TwoDatabases,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Id {
    Help,
    Version,
    Process(ProcessId),
    Mlockall,
    EnableDummy,
    DisableSystem,
    DisableSystemRoute,
    DummyNuma,
    Dpdk,
    HwRawio,
    EmbeddedDb,
}

const ROWS: &[Row<Id>] = &[
    row("help", Some('h'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
    row("mlockall", None, Value::None, Id::Mlockall),
    row("enable-dummy", None, Value::Optional, Id::EnableDummy),
    row("disable-system", None, Value::None, Id::DisableSystem),
    row("disable-system-route", None, Value::None, Id::DisableSystemRoute),
    row("dummy-numa", None, Value::Required, Id::DummyNuma),
    row("dpdk", None, Value::Optional, Id::Dpdk),
    row("hw-rawio-access", None, Value::None, Id::HwRawio),
    row("embedded-db", None, Value::Optional, Id::EmbeddedDb),
    row("db", None, Value::Required, Id::EmbeddedDb),
];

impl Options {
    fn new(program: &str) -> Self {
        Self {
            process: ProcessOptions::new(program),
            remote: None,
            embedded_db: None,
            mlockall: false,
            dummy: None,
            system: true,
            system_route: true,
            dummy_numa: None,
        }
    }

    /// Reads the words after argv[0].
    /// # Errors
    /// The first word at fault, in the words of OVS.
    pub fn parse(program: &str, words: &[String]) -> Result<Asked, OptionError> {
        let mut options = Self::new(program);
        let own = ROWS.iter().map(|r| Row { long: r.long, short: r.short, value: r.value, id: r.id });
        let rows: Vec<Row<Id>> = own.chain(options::rows(Id::Process)).collect();
        for word in getopt::parse(&rows, words)? {
            match word {
                Word::Option(Id::Help, _) => return Ok(Asked::Help),
                Word::Option(Id::Version, _) => return Ok(Asked::Version),
                Word::Option(id, value) => options.set(id, value)?,
                Word::Operand(remote) => {
                    if options.remote.replace(remote).is_some() {
                        return Err(OptionError::Operands);
                    }
                }
            }
        }
        if options.remote.is_some() && options.embedded_db.is_some() {
            return Err(OptionError::TwoDatabases);
        }
        Ok(Asked::Run(Box::new(options)))
    }

    fn set(&mut self, id: Id, value: Option<String>) -> Result<(), OptionError> {
        match id {
            // Answered by `parse`; raw I/O rights are for builds with DPDK.
            Id::Help | Id::Version | Id::HwRawio => {}
            Id::Process(id) => self.process.set(id, value)?,
            Id::Mlockall => self.mlockall = true,
            Id::EnableDummy => self.dummy = Some(Dummy::parse(value.as_deref())?),
            Id::DisableSystem => self.system = false,
            Id::DisableSystemRoute => self.system_route = false,
            Id::DummyNuma => self.dummy_numa = Some(numa(&value.unwrap_or_default())?),
            Id::Dpdk => return Err(OptionError::Dpdk),
            Id::EmbeddedDb => {
                let default = || dirs::database().join("conf.db");
                self.embedded_db = Some(value.map_or_else(default, dirs::in_cwd));
            }
        }
        Ok(())
    }

    /// The database to connect to: what was named, else the usual socket.
    pub fn database(&self) -> String {
        self.remote.clone().unwrap_or_else(|| format!("unix:{}", dirs::in_run("db.sock").display()))
    }
}

impl Dummy {
    fn parse(level: Option<&str>) -> Result<Self, OptionError> {
        match level {
            None | Some("") => Ok(Self::Plain),
            Some("system") => Ok(Self::System),
            Some("override") => Ok(Self::Override),
            Some(other) => Err(OptionError::Dummy(other.to_owned())),
        }
    }
}

fn numa(list: &str) -> Result<Vec<u32>, OptionError> {
    list.split(',').map(|n| n.trim().parse().map_err(|_| OptionError::DummyNuma(list.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, OptionError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse("ovs-vswitchd", &words)
    }

    fn run(line: &str) -> Options {
        match parse(line) {
            Ok(Asked::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_line_of_the_suite() {
        let o = run(
            "--enable-dummy --disable-system --disable-system-route --detach --no-chdir --pidfile --log-file -vvconn -vofproto_dpif -vunixctl --dummy-numa 0,0,1",
        );
        assert_eq!((o.dummy, o.system, o.system_route), (Some(Dummy::Plain), false, false));
        assert_eq!((o.process.detach, o.process.chdir, o.process.log.len()), (true, false, 4));
        assert_eq!(o.dummy_numa, Some(vec![0, 0, 1]));
        assert!(o.process.pidfile.unwrap().ends_with("ovs-vswitchd.pid"));
    }

    #[test]
    fn names_are_relative_to_their_folders() {
        let o = run("unix:invalid.db.sock --unixctl=/abs/ctl --pidfile=/abs/pid --enable-dummy=override");
        assert_eq!(o.process.control_socket(7), Some("/abs/ctl".into()));
        assert_eq!(o.database(), "unix:invalid.db.sock");
        assert_eq!(o.process.pidfile, Some("/abs/pid".into()));
        assert_eq!(o.dummy, Some(Dummy::Override));
        assert_eq!(run("--unixctl=none").process.control_socket(7), None);
        assert!(run("").process.control_socket(7).unwrap().ends_with("ovs-vswitchd.7.ctl"));
    }

    #[test]
    fn refusals_are_ovs_own() {
        let check = |line: &str, expect: &str| assert_eq!(parse(line).unwrap_err().to_string(), expect);
        check("-vnosuch", "processing \"nosuch\": no destination, level, or module \"nosuch\"");
        check("a b", "at most one non-option argument accepted; use --help for usage");
        check("--dpdk", "Using --dpdk to configure DPDK is not supported.");
        check("--enable-dummy=foo", "foo: unknown dummy level");
        check("--unixctl", "option '--unixctl' requires an argument");
        check("--dummy-numa=0,x", "0,x: invalid NUMA node list for --dummy-numa");
        check("--embedded-db tcp:1.2.3.4:5", "both --embedded-db and a database remote were given");
        assert!(matches!(parse("--dummy-numa 0 -V"), Ok(Asked::Version)));
    }
}
