//! The options that every daemon of ours has: its stages, its pidfile, its log, its certificates. Each program adds these rows to its
//! own table. Pure but for the folders that defaults are named after.

use super::daemonize::Wish;
use super::vlog::levels::{self, Change, SpecError};
use crate::dirs;
use crate::getopt::{Row, Value, row};
use openflow::tls::TlsFiles;
use std::path::PathBuf;

/// What the rows decide.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// What the program calls itself, from argv[0]; all default names follow it.
    pub program: String,
    pub detach: bool,
    pub monitor: bool,
    pub chdir: bool,
    /// Standard output and error stay open in the background.
    pub keep_output: bool,
    pub pidfile: Option<PathBuf>,
    pub overwrite_pidfile: bool,
    /// `USER:GROUP` to become.
    pub user: Option<String>,
    /// The control socket; `Some(None)` is `none`.
    pub unixctl: Option<Option<PathBuf>>,
    pub tls: Tls,
    /// In the order given, as later ones win.
    pub log: Vec<LogOption>,
}

/// Certificates and protocol choices for `ssl:` and `pssl:` remotes, as the words have them.
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
    /// The files for connections.
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            private_key: self.private_key.clone(),
            certificate: self.certificate.clone(),
            ca_cert: self.bootstrap_ca_cert.clone().or_else(|| self.ca_cert.clone()),
            bootstrap: self.bootstrap_ca_cert.is_some(),
            peer_ca_cert: self.peer_ca_cert.clone(),
            protocols: self.protocols.clone().unwrap_or_default(),
            ciphers: self.ciphers.clone().unwrap_or_default(),
            suites: self.ciphersuites.clone().unwrap_or_default(),
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

/// A log specification that is none.
#[derive(Debug, thiserror::Error)]
#[error("processing \"{spec}\": {error}")]
pub struct LogSpecError {
    spec: String,
    error: SpecError,
}

/// The rows' names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessId {
    Detach,
    Monitor,
    NoChdir,
    NoSelfConfinement,
    Pidfile,
    OverwritePidfile,
    User,
    Unixctl,
    Verbose,
    LogFile,
    SyslogMethod,
    SyslogTarget,
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

const ROWS: &[Row<ProcessId>] = &[
    row("detach", None, Value::None, ProcessId::Detach),
    row("monitor", None, Value::None, ProcessId::Monitor),
    row("no-chdir", None, Value::None, ProcessId::NoChdir),
    row("no-self-confinement", None, Value::None, ProcessId::NoSelfConfinement),
    row("pidfile", None, Value::Optional, ProcessId::Pidfile),
    row("overwrite-pidfile", None, Value::None, ProcessId::OverwritePidfile),
    row("user", None, Value::Required, ProcessId::User),
    row("unixctl", None, Value::Required, ProcessId::Unixctl),
    row("verbose", Some('v'), Value::Optional, ProcessId::Verbose),
    row("log-file", None, Value::Optional, ProcessId::LogFile),
    row("syslog-method", None, Value::Required, ProcessId::SyslogMethod),
    row("syslog-target", None, Value::Required, ProcessId::SyslogTarget),
    row("private-key", Some('p'), Value::Required, ProcessId::PrivateKey),
    row("certificate", Some('c'), Value::Required, ProcessId::Certificate),
    row("ca-cert", Some('C'), Value::Required, ProcessId::CaCert),
    row("bootstrap-ca-cert", None, Value::Required, ProcessId::BootstrapCaCert),
    row("peer-ca-cert", None, Value::Required, ProcessId::PeerCaCert),
    row("ssl-protocols", None, Value::Required, ProcessId::SslProtocols),
    row("ssl-ciphers", None, Value::Required, ProcessId::SslCiphers),
    row("ssl-ciphersuites", None, Value::Required, ProcessId::SslCiphersuites),
    row("ssl-server-name", None, Value::Required, ProcessId::SslServerName),
];

/// The rows, for a table whose ids are `T`.
pub fn rows<T>(wrap: fn(ProcessId) -> T) -> impl Iterator<Item = Row<T>> {
    ROWS.iter().map(move |r| Row { long: r.long, short: r.short, value: r.value, id: wrap(r.id) })
}

impl ProcessOptions {
    /// Nothing said.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            detach: false,
            monitor: false,
            chdir: true,
            keep_output: false,
            pidfile: None,
            overwrite_pidfile: false,
            user: None,
            unixctl: None,
            tls: Tls::default(),
            log: Vec::new(),
        }
    }

    /// Obeys one option.
    /// # Errors
    /// A log specification that is none.
    pub fn set(&mut self, id: ProcessId, value: Option<String>) -> Result<(), LogSpecError> {
        let path = || value.clone().map(PathBuf::from);
        match id {
            // For builds with SELinux.
            ProcessId::NoSelfConfinement => {}
            ProcessId::Detach => self.detach = true,
            ProcessId::Monitor => self.monitor = true,
            ProcessId::NoChdir => self.chdir = false,
            ProcessId::Pidfile => {
                self.pidfile = Some(dirs::in_run(value.unwrap_or_else(|| format!("{}.pid", self.program))));
            }
            ProcessId::OverwritePidfile => self.overwrite_pidfile = true,
            ProcessId::User => self.user = value,
            ProcessId::Unixctl => self.unixctl = Some(value.filter(|v| v != "none").map(dirs::in_run)),
            ProcessId::Verbose => {
                let spec = value.unwrap_or_default();
                let change = levels::parse(&spec).map_err(|error| LogSpecError { spec, error })?;
                self.log.push(LogOption::Change(change));
            }
            ProcessId::LogFile => {
                let default = || dirs::log().join(format!("{}.log", self.program));
                self.log.push(LogOption::File(value.map_or_else(default, dirs::in_cwd)));
            }
            ProcessId::SyslogMethod => self.log.extend(value.map(LogOption::SyslogMethod)),
            ProcessId::SyslogTarget => self.log.extend(value.map(LogOption::SyslogTarget)),
            ProcessId::PrivateKey => self.tls.private_key = path(),
            ProcessId::Certificate => self.tls.certificate = path(),
            ProcessId::CaCert => self.tls.ca_cert = path(),
            ProcessId::BootstrapCaCert => self.tls.bootstrap_ca_cert = path(),
            ProcessId::PeerCaCert => self.tls.peer_ca_cert = path(),
            ProcessId::SslProtocols => self.tls.protocols = value,
            ProcessId::SslCiphers => self.tls.ciphers = value,
            ProcessId::SslCiphersuites => self.tls.ciphersuites = value,
            ProcessId::SslServerName => self.tls.server_name = value,
        }
        Ok(())
    }

    /// What the stages of detaching want to know.
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            program: &self.program,
            detach: self.detach,
            monitor: self.monitor,
            chdir: self.chdir,
            keep_output: self.keep_output,
            log: &self.log,
        }
    }

    /// The control socket for a process of this id; `None` if there is to be none.
    pub fn control_socket(&self, pid: u32) -> Option<PathBuf> {
        match &self.unixctl {
            Some(named) => named.clone(),
            None => Some(dirs::in_run(format!("{}.{pid}.ctl", self.program))),
        }
    }
}
