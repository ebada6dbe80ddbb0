//! `ferrule daemon`: becomes the daemon that lies beside this program, with a database of its own unless one is named.

use crate::console::Io;
use crate::fault::Fault;
use crate::getopt::{self, Row, Value, Word, row};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The daemon's file name.
pub(crate) const DAEMON: &str = "ovs-vswitchd";

/// Options of the daemon that take their value from the next word, and those that name a database or ask for no run at all.
const ROWS: &[Row<Kind>] = &[
    row("user", None, Value::Required, Kind::Other),
    row("unixctl", None, Value::Required, Kind::Other),
    row("syslog-method", None, Value::Required, Kind::Other),
    row("syslog-target", None, Value::Required, Kind::Other),
    row("dummy-numa", None, Value::Required, Kind::Other),
    row("private-key", Some('p'), Value::Required, Kind::Other),
    row("certificate", Some('c'), Value::Required, Kind::Other),
    row("ca-cert", Some('C'), Value::Required, Kind::Other),
    row("bootstrap-ca-cert", None, Value::Required, Kind::Other),
    row("peer-ca-cert", None, Value::Required, Kind::Other),
    row("ssl-protocols", None, Value::Required, Kind::Other),
    row("ssl-ciphers", None, Value::Required, Kind::Other),
    row("ssl-ciphersuites", None, Value::Required, Kind::Other),
    row("ssl-server-name", None, Value::Required, Kind::Other),
    row("db", None, Value::Required, Kind::Final),
    row("embedded-db", None, Value::Optional, Kind::Final),
    row("help", Some('h'), Value::None, Kind::Final),
    row("version", Some('V'), Value::None, Kind::Final),
    row("verbose", Some('v'), Value::Optional, Kind::Other),
];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// Leaves open which database.
    Other,
    /// Settles it, or needs none.
    Final,
}

/// Becomes the daemon; returns only if that fails.
///
/// # Errors
/// No daemon lies beside this program or on the path.
pub fn run(_: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let own = std::env::current_exe().map_err(|e| Fault::because("cannot find out where this program is", &e))?;
    let program = beside(&own).unwrap_or_else(|| DAEMON.into());
    let mut command = Command::new(&program);
    command.arg0(DAEMON);
    if wants_database(words) {
        command.arg("--embedded-db");
    }
    command.args(words);
    Err(Fault::because(format!("{}: exec failed", program.display()), &command.exec()))
}

pub(crate) fn beside(own: &Path) -> Option<PathBuf> {
    Some(own.parent()?.join(DAEMON)).filter(|p| p.is_file())
}

/// Whether the words leave open where the database is. Words that only the daemon understands are left to it.
fn wants_database(words: &[String]) -> bool {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word == "--" {
            return at >= words.len();
        }
        if !word.starts_with('-') {
            return false;
        }
        let rest = std::slice::from_ref(word);
        match getopt::parse(ROWS, rest) {
            Ok(parsed) => {
                if parsed.iter().any(|w| matches!(w, Word::Option(Kind::Final, _))) {
                    return false;
                }
            }
            // The value is the next word.
            Err(getopt::GetoptError::NeedsValue(name)) if name == "db" => return false,
            Err(getopt::GetoptError::NeedsValue(_) | getopt::GetoptError::ShortNeedsValue(_)) => at += 1,
            Err(
                getopt::GetoptError::Unrecognized(_)
                | getopt::GetoptError::Ambiguous(..)
                | getopt::GetoptError::NoValue(_)
                | getopt::GetoptError::Invalid(_),
            ) => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_added_unless_named() {
        for (line, expect) in [
            ("--detach --pidfile --log-file", true),
            ("--detach --dummy-numa 0,1 -vdbg", true),
            ("unix:/x", false),
            ("--detach -- tcp:1.2.3.4:1", false),
            ("--embedded-db=/x", false),
            ("--db /x", false),
            ("-V", false),
            ("--unixctl none", true),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(wants_database(&words), expect, "{line}");
        }
    }
}
