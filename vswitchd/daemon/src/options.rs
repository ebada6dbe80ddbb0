//! The daemon's command line: ovs-vswitchd(8)'s options and the few of our own, as one table; words in, `Options` out. Pure but for
//! the folders that defaults are named after.

use crate::vlog::levels::{self, Change, SpecError};
use ctl::dirs;
use ctl::getopt::{self, GetoptError, Row, Value, Word};
use openflow::tls::TlsFiles;
use std::path::PathBuf;

/// Everything the command line decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the program calls itself, from argv[0].
    pub program: String,
    /// The database to be client of: an active OVSDB method.
    pub remote: Option<String>,
    /// Serve the database from this file, in this process.
    pub embedded_db: Option<PathBuf>,
    pub detach: bool,
    pub monitor: bool,
    pub chdir: bool,
    pub pidfile: Option<PathBuf>,
    pub overwrite_pidfile: bool,
    /// `USER:GROUP` to become.
    pub user: Option<String>,
    pub mlockall: bool,
    /// The control socket; `Some(None)` is `none`.
    pub unixctl: Option<Option<PathBuf>>,
    pub dummy: Option<Dummy>,
    pub system: bool,
    pub system_route: bool,
    /// NUMA node of each imaginary core.
    pub dummy_numa: Option<Vec<u32>>,
    pub tls: Tls,
    /// In the order given, as later ones win.
    pub log: Vec<LogOption>,
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

/// Certificates and protocol choices for `ssl:` remotes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tls {
    pub private_key: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    /// `none` disables the check of peers.
    pub ca_cert: Option<PathBuf>,
    pub bootstrap_ca_cert: Option<PathBuf>,
    pub peer_ca_cert: Option<PathBuf>,
    pub protocols: Option<String>,
    pub ciphers: Option<String>,
    pub ciphersuites: Option<String>,
    pub server_name: Option<String>,
}

impl Tls {
    /// The files for OpenFlow connections.
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            private_key: self.private_key.clone(),
            certificate: self.certificate.clone(),
            ca_cert: self.bootstrap_ca_cert.clone().or_else(|| self.ca_cert.clone()),
            bootstrap: self.bootstrap_ca_cert.is_some(),
            peer_ca_cert: self.peer_ca_cert.clone(),
            protocols: self.protocols.clone().unwrap_or_default(),
        }
    }
}

/// One word about the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogOption {
    Change(Change),
    File(PathBuf),
    SyslogMethod(String),
    SyslogTarget(String),
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
    #[error("processing \"{0}\": {1}")]
    Log(String, SpecError),
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
    Detach,
    Monitor,
    NoChdir,
    NoSelfConfinement,
    Pidfile,
    OverwritePidfile,
    User,
    Mlockall,
    Unixctl,
    Verbose,
    LogFile,
    SyslogMethod,
    SyslogTarget,
    EnableDummy,
    DisableSystem,
    DisableSystemRoute,
    DummyNuma,
    Dpdk,
    HwRawio,
    EmbeddedDb,
    PrivateKey,
    Certificate,
    CaCert,
    BootstrapCaCert,
    PeerCaCert,
    SslProtocols,
    SslCiphers,
    SslCiphersuites,
    SslServerName,
}

const fn row(long: &'static str, value: Value, id: Id) -> Row<Id> {
    Row { long, short: None, value, id }
}

const fn lettered(short: char, long: &'static str, value: Value, id: Id) -> Row<Id> {
    Row { long, short: Some(short), value, id }
}

const ROWS: &[Row<Id>] = &[
    lettered('h', "help", Value::None, Id::Help),
    lettered('V', "version", Value::None, Id::Version),
    row("detach", Value::None, Id::Detach),
    row("monitor", Value::None, Id::Monitor),
    row("no-chdir", Value::None, Id::NoChdir),
    row("no-self-confinement", Value::None, Id::NoSelfConfinement),
    row("pidfile", Value::Optional, Id::Pidfile),
    row("overwrite-pidfile", Value::None, Id::OverwritePidfile),
    row("user", Value::Required, Id::User),
    row("mlockall", Value::None, Id::Mlockall),
    row("unixctl", Value::Required, Id::Unixctl),
    lettered('v', "verbose", Value::Optional, Id::Verbose),
    row("log-file", Value::Optional, Id::LogFile),
    row("syslog-method", Value::Required, Id::SyslogMethod),
    row("syslog-target", Value::Required, Id::SyslogTarget),
    row("enable-dummy", Value::Optional, Id::EnableDummy),
    row("disable-system", Value::None, Id::DisableSystem),
    row("disable-system-route", Value::None, Id::DisableSystemRoute),
    row("dummy-numa", Value::Required, Id::DummyNuma),
    row("dpdk", Value::Optional, Id::Dpdk),
    row("hw-rawio-access", Value::None, Id::HwRawio),
    row("embedded-db", Value::Optional, Id::EmbeddedDb),
    row("db", Value::Required, Id::EmbeddedDb),
    lettered('p', "private-key", Value::Required, Id::PrivateKey),
    lettered('c', "certificate", Value::Required, Id::Certificate),
    lettered('C', "ca-cert", Value::Required, Id::CaCert),
    row("bootstrap-ca-cert", Value::Required, Id::BootstrapCaCert),
    row("peer-ca-cert", Value::Required, Id::PeerCaCert),
    row("ssl-protocols", Value::Required, Id::SslProtocols),
    row("ssl-ciphers", Value::Required, Id::SslCiphers),
    row("ssl-ciphersuites", Value::Required, Id::SslCiphersuites),
    row("ssl-server-name", Value::Required, Id::SslServerName),
];

impl Options {
    fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            remote: None,
            embedded_db: None,
            detach: false,
            monitor: false,
            chdir: true,
            pidfile: None,
            overwrite_pidfile: false,
            user: None,
            mlockall: false,
            unixctl: None,
            dummy: None,
            system: true,
            system_route: true,
            dummy_numa: None,
            tls: Tls::default(),
            log: Vec::new(),
        }
    }

    /// Reads the words after argv[0].
    /// # Errors
    /// The first word at fault, in the words of OVS.
    pub fn parse(program: &str, words: &[String]) -> Result<Asked, OptionError> {
        let mut options = Self::new(program);
        for word in getopt::parse(ROWS, words)? {
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
        let path = || value.clone().map(PathBuf::from);
        match id {
            // Answered by `parse`; confinement and raw I/O rights are for builds with SELinux or DPDK.
            Id::Help | Id::Version | Id::NoSelfConfinement | Id::HwRawio => {}
            Id::Detach => self.detach = true,
            Id::Monitor => self.monitor = true,
            Id::NoChdir => self.chdir = false,
            Id::Pidfile => {
                self.pidfile = Some(dirs::in_run(value.unwrap_or_else(|| format!("{}.pid", self.program))));
            }
            Id::OverwritePidfile => self.overwrite_pidfile = true,
            Id::User => self.user = value,
            Id::Mlockall => self.mlockall = true,
            Id::Unixctl => self.unixctl = Some(value.filter(|v| v != "none").map(dirs::in_run)),
            Id::Verbose => {
                let spec = value.unwrap_or_default();
                let change = levels::parse(&spec).map_err(|e| OptionError::Log(spec, e))?;
                self.log.push(LogOption::Change(change));
            }
            Id::LogFile => {
                let default = || dirs::log().join(format!("{}.log", self.program));
                self.log.push(LogOption::File(value.map_or_else(default, dirs::in_cwd)));
            }
            Id::SyslogMethod => self.log.extend(value.map(LogOption::SyslogMethod)),
            Id::SyslogTarget => self.log.extend(value.map(LogOption::SyslogTarget)),
            Id::EnableDummy => self.dummy = Some(Dummy::parse(value.as_deref())?),
            Id::DisableSystem => self.system = false,
            Id::DisableSystemRoute => self.system_route = false,
            Id::DummyNuma => self.dummy_numa = Some(numa(&value.unwrap_or_default())?),
            Id::Dpdk => return Err(OptionError::Dpdk),
            Id::EmbeddedDb => {
                let default = || dirs::database().join("conf.db");
                self.embedded_db = Some(value.map_or_else(default, dirs::in_cwd));
            }
            Id::PrivateKey => self.tls.private_key = path(),
            Id::Certificate => self.tls.certificate = path(),
            Id::CaCert => self.tls.ca_cert = path(),
            Id::BootstrapCaCert => self.tls.bootstrap_ca_cert = path(),
            Id::PeerCaCert => self.tls.peer_ca_cert = path(),
            Id::SslProtocols => self.tls.protocols = value,
            Id::SslCiphers => self.tls.ciphers = value,
            Id::SslCiphersuites => self.tls.ciphersuites = value,
            Id::SslServerName => self.tls.server_name = value,
        }
        Ok(())
    }

    /// The database to connect to: what was named, else the usual socket.
    pub fn database(&self) -> String {
        self.remote.clone().unwrap_or_else(|| format!("unix:{}", dirs::in_run("db.sock").display()))
    }

    /// The control socket for a process of this id; `None` if there is to be none.
    pub fn control_socket(&self, pid: u32) -> Option<PathBuf> {
        match &self.unixctl {
            Some(named) => named.clone(),
            None => Some(dirs::in_run(format!("{}.{pid}.ctl", self.program))),
        }
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
        assert_eq!((o.detach, o.chdir, o.log.len()), (true, false, 4));
        assert_eq!(o.dummy_numa, Some(vec![0, 0, 1]));
        assert!(o.pidfile.unwrap().ends_with("ovs-vswitchd.pid"));
    }

    #[test]
    fn names_are_relative_to_their_folders() {
        let o = run("unix:invalid.db.sock --unixctl=/abs/ctl --pidfile=/abs/pid --enable-dummy=override");
        assert_eq!(o.control_socket(7), Some("/abs/ctl".into()));
        assert_eq!(o.database(), "unix:invalid.db.sock");
        assert_eq!(o.pidfile, Some("/abs/pid".into()));
        assert_eq!(o.dummy, Some(Dummy::Override));
        assert_eq!(run("--unixctl=none").control_socket(7), None);
        assert!(run("").control_socket(7).unwrap().ends_with("ovs-vswitchd.7.ctl"));
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
