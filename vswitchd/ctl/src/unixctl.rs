//! A client of a daemon's control socket: JSON-RPC 1.0 over a unix socket (reference: unixctl, section 3).

use crate::console::Io;
use crate::dirs;
use crate::fault::{Fault, errno_text};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use ovsdb::json::Splitter;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What a daemon said to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Result(Value),
    Error(String),
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    splitter: Splitter,
    next_id: u64,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(path)?, splitter: Splitter::new(), next_id: 0 })
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// The connection's; `UnexpectedEof` if the daemon closed it; `InvalidData` for an answer that is none.
    pub fn transact(&mut self, command: &str, arguments: &[String]) -> io::Result<Answer> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": command, "params": arguments});
        self.stream.write_all(request.to_string().as_bytes())?;
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(value) = self.splitter.next_value().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
                return Ok(answer(&value));
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.splitter.push(&chunk[..n]),
            }
        }
    }
}

fn answer(reply: &Value) -> Answer {
    match reply.get("error") {
        Some(Value::String(error)) => Answer::Error(error.clone()),
        None | Some(Value::Null) => Answer::Result(reply.get("result").cloned().unwrap_or(Value::Null)),
        Some(other) => Answer::Error(other.to_string()),
    }
}

/// Finds the control socket of `target`, a socket's absolute name or a program's name, and connects to it.
///
/// # Errors
/// The pidfile cannot be read, or the socket not be connected to, in OVS's words.
pub fn connect(io: &mut Io<'_>, target: &str) -> Result<Client, Fault> {
    let socket = socket_of(io, target)?;
    match Client::connect(&socket) {
        Ok(client) => Ok(client),
        Err(error) => {
            io.warn("unixctl", &format!("failed to connect to {}", socket.display()))?;
            Err(Fault::because(format!("cannot connect to \"{}\"", socket.display()), &error))
        }
    }
}

fn socket_of(io: &mut Io<'_>, target: &str) -> Result<PathBuf, Fault> {
    if target.starts_with('/') {
        return Ok(target.into());
    }
    let pidfile = dirs::in_run(format!("{target}.pid"));
    match read_pidfile(&pidfile) {
        Ok(pid) => Ok(dirs::in_run(format!("{target}.{pid}.ctl"))),
        Err((step, error)) => {
            if let Some(step) = step {
                io.warn("daemon_unix", &format!("{}: {step}: {}", pidfile.display(), errno_text(&error)))?;
            }
            Err(Fault::because(format!("cannot read pidfile \"{}\"", pidfile.display()), &error))
        }
    }
}

/// The process that holds the lock on a pidfile. An error comes with the step that failed, if OVS logs it.
fn read_pidfile(path: &Path) -> Result<i32, (Option<&'static str>, io::Error)> {
    let mut file =
        File::options().read(true).write(true).open(path).or_else(|_| File::open(path)).map_err(|e| (Some("open"), e))?;
    #[allow(clippy::cast_possible_truncation, reason = "F_WRLCK and SEEK_SET are small constants")]
    let mut lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).map_err(|e| (Some("fcntl"), e.into()))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Err((None, Errno::ESRCH.into()));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|e| (Some("read"), e))?;
    text.trim().parse().map_err(|_| (Some("does not start with a pid"), Errno::EINVAL.into()))
}
