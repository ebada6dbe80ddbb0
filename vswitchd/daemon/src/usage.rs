//! What `--help` and `--version` print. The first line of the version is OVS's, because ovs-ctl and others cut words out of it.

pub use ctl::OVS_VERSION;
use ctl::dirs;

/// The answer of the control command `version`, and the first line of `--version`.
pub fn version(program: &str) -> String {
    format!("{program} (Open vSwitch) {OVS_VERSION}")
}

/// All of `--version`.
pub fn version_text(program: &str) -> String {
    format!("{}\nFerrule {}\n", version(program), env!("CARGO_PKG_VERSION"))
}

/// All of `--help`.
pub fn help(program: &str) -> String {
    let run = dirs::run().display().to_string();
    let log = dirs::log().display().to_string();
    format!(
        "\
{program}: Open vSwitch daemon
usage: {program} [OPTIONS] [DATABASE]
where DATABASE is a socket on which ovsdb-server is listening
      (default: \"unix:{run}/db.sock\").

Active DATABASE connection methods:
  tcp:HOST:PORT           PORT at remote HOST
  ssl:HOST:PORT           SSL PORT at remote HOST
  unix:FILE               Unix domain socket named FILE

Database in this process:
  --embedded-db[=FILE], --db=FILE  serve FILE on punix:{run}/db.sock
                          (default: {database}/conf.db)

PKI configuration (required to use SSL):
  -p, --private-key=FILE  file with private key
  -c, --certificate=FILE  file with certificate for private key
  -C, --ca-cert=FILE      file with peer CA certificate
  --bootstrap-ca-cert=FILE  file with peer CA certificate to read or create
  --peer-ca-cert=FILE     file with certificates to send to peers
SSL options:
  --ssl-protocols=PROTOS  list of SSL protocols to enable
  --ssl-ciphers=CIPHERS   list of SSL ciphers to enable
  --ssl-ciphersuites=SUITES  list of TLS 1.3 ciphersuites to enable
  --ssl-server-name=NAME  server name for TLS SNI

Daemon options:
  --detach                run in background as daemon
  --monitor               creates a process to monitor this daemon
  --user=username[:group] changes the effective daemon user:group
  --no-chdir              do not chdir to '/'
  --pidfile[=FILE]        create pidfile (default: {run}/{program}.pid)
  --overwrite-pidfile     with --pidfile, start even if already running
  --mlockall              lock all memory into RAM

Logging options:
  -vSPEC, --verbose=SPEC   set logging levels
  -v, --verbose            set maximum verbosity level
  --log-file[=FILE]        enable logging to specified FILE
                           (default: {log}/{program}.log)
  --syslog-method=(libc|unix:file|udp:ip:port|null)
                           specify how to send messages to syslog daemon
  --syslog-target=HOST:PORT  also send syslog msgs to HOST:PORT via UDP

Test options:
  --enable-dummy[=system|override]  dummy datapath and interface types
  --disable-system         keep off the system's devices
  --disable-system-route   keep off the system's routes
  --dummy-numa=LIST        NUMA node of each imaginary core

Other options:
  --unixctl=SOCKET          override default control socket name
  -h, --help                display this help message
  -V, --version             display version information
",
        database = dirs::database().display(),
    )
}
