//! Names of connection methods (ovsdb(7), "Connection Methods").

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// IANA's port for OVSDB.
pub const DEFAULT_PORT: u16 = 6640;

/// Where to connect to, or where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// `unix:FILE`
    Unix(PathBuf),
    /// `tcp:HOST[:PORT]`
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `punix:FILE`
    ListenUnix(PathBuf),
    /// `ptcp:[PORT][:IP]`
    ListenTcp {
        /// Local address.
        ip: IpAddr,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// `ssl:HOST[:PORT]`
    Ssl {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `pssl:[PORT][:IP]`
    ListenSsl {
        /// Local address.
        ip: IpAddr,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// `db:DATABASE,TABLE,COLUMN`: the remotes that a column names.
    Column {
        /// Database.
        database: String,
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
}

/// A name that is no connection method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The part before the colon is unknown.
    #[error("{0}: unknown connection method (expected unix:, tcp:, ssl:, punix:, ptcp:, pssl: or db:)")]
    Method(String),
    /// What follows the method is malformed.
    #[error("{text}: expected {form}")]
    Form {
        /// The whole name.
        text: String,
        /// How names of this method are written.
        form: &'static str,
    },
}

impl Remote {
    /// Parses a connection method.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let unknown = || RemoteError::Method(text.to_owned());
        let (method, rest) = text.split_once(':').ok_or_else(unknown)?;
        let form = match method {
            "unix" => "unix:FILE",
            "punix" => "punix:FILE",
            "tcp" => "tcp:HOST[:PORT]",
            "ssl" => "ssl:HOST[:PORT]",
            "ptcp" => "ptcp:[PORT][:IP]",
            "pssl" => "pssl:[PORT][:IP]",
            "db" => "db:DATABASE,TABLE,COLUMN",
            _ => return Err(unknown()),
        };
        let bad = || RemoteError::Form { text: text.to_owned(), form };
        match method {
            "unix" if !rest.is_empty() => Ok(Self::Unix(rest.into())),
            "punix" if !rest.is_empty() => Ok(Self::ListenUnix(rest.into())),
            "tcp" | "ssl" => {
                let (host, port) = split_host(rest).ok_or_else(bad)?;
                let port = port.map_or(Some(DEFAULT_PORT), |p| p.parse().ok()).ok_or_else(bad)?;
                let host = host.to_owned();
                match method {
                    _ if host.is_empty() => Err(bad()),
                    "tcp" => Ok(Self::Tcp { host, port }),
                    _ => Ok(Self::Ssl { host, port }),
                }
            }
            "ptcp" | "pssl" => {
                let (port, ip) = rest.split_once(':').unwrap_or((rest, ""));
                let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().map_err(|_| bad())? };
                let ip = ip.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(ip);
                let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let ip = if ip.is_empty() { any } else { ip.parse().map_err(|_| bad())? };
                Ok(if method == "ptcp" { Self::ListenTcp { ip, port } } else { Self::ListenSsl { ip, port } })
            }
            "db" => match rest.split(',').collect::<Vec<_>>().as_slice() {
                [database, table, column] => Ok(Self::Column {
                    database: (*database).to_owned(),
                    table: (*table).to_owned(),
                    column: (*column).to_owned(),
                }),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }

    /// Whether an idle connection must be probed: a unix socket reports the peer's end by itself.
    #[must_use]
    pub fn needs_probes(&self) -> bool {
        match self {
            Self::Tcp { .. } | Self::ListenTcp { .. } | Self::Ssl { .. } | Self::ListenSsl { .. } => true,
            Self::Unix(_) | Self::ListenUnix(_) | Self::Column { .. } => false,
        }
    }

    /// Whether the other side connects to us.
    #[must_use]
    pub fn is_passive(&self) -> bool {
        match self {
            Self::ListenUnix(_) | Self::ListenTcp { .. } | Self::ListenSsl { .. } => true,
            Self::Unix(_) | Self::Tcp { .. } | Self::Ssl { .. } | Self::Column { .. } => false,
        }
    }
}

/// sizeof(sun_path) less the closing nought.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The folder that relative names of unix sockets are seen from, OVS's run folder: `OVS_RUNDIR`.
#[must_use]
pub fn run_folder() -> PathBuf {
    let set = std::env::var_os("OVS_RUNDIR").filter(|folder| !folder.is_empty());
    set.map_or_else(|| "/var/run/openvswitch".into(), PathBuf::from)
}

/// A name for a unix socket that fits into a socket address: `path` itself, or one through `/proc/self/fd/N` that leads to the same
/// place, as OVS's tools do. The folder must stay open while the name is used. Errors: the folder cannot be opened, or the last
/// part alone is too long.
pub fn socket_path(path: &Path) -> std::io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidFilename.into());
    };
    let folder = open(parent, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    if short.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidFilename.into());
    }
    Ok((short, Some(folder)))
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`.
fn split_host(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            _ => rest.strip_prefix(':').map(|port| (host, Some(port))),
        };
    }
    Some(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::ListenUnix(path) => write!(f, "punix:{}", path.display()),
            Self::Tcp { host, port } => write_host(f, "tcp", host, *port),
            Self::Ssl { host, port } => write_host(f, "ssl", host, *port),
            Self::ListenTcp { ip, port } => write_local(f, "ptcp", *ip, *port),
            Self::ListenSsl { ip, port } => write_local(f, "pssl", *ip, *port),
            Self::Column { database, table, column } => write!(f, "db:{database},{table},{column}"),
        }
    }
}

fn write_host(f: &mut fmt::Formatter<'_>, method: &str, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "{method}:[{host}]:{port}") } else { write!(f, "{method}:{host}:{port}") }
}

fn write_local(f: &mut fmt::Formatter<'_>, method: &str, ip: IpAddr, port: u16) -> fmt::Result {
    match ip {
        IpAddr::V4(ip) => write!(f, "{method}:{port}:{ip}"),
        IpAddr::V6(ip) => write!(f, "{method}:{port}:[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_print() {
        for (text, expect) in [
            ("unix:/run/db.sock", "unix:/run/db.sock"),
            ("tcp:10.0.0.1", "tcp:10.0.0.1:6640"),
            ("tcp:[::1]:77", "tcp:[::1]:77"),
            ("ptcp:", "ptcp:6640:0.0.0.0"),
            ("ptcp:0:127.0.0.1", "ptcp:0:127.0.0.1"),
            ("ptcp:6640:[::]", "ptcp:6640:[::]"),
            ("db:a,b,c", "db:a,b,c"),
            ("tcp:", "tcp:: expected tcp:HOST[:PORT]"),
            ("ptcp:99999", "ptcp:99999: expected ptcp:[PORT][:IP]"),
            ("unix:", "unix:: expected unix:FILE"),
            ("db:a,b", "db:a,b: expected db:DATABASE,TABLE,COLUMN"),
            ("foo:x", "foo:x: unknown connection method (expected unix:, tcp:, ssl:, punix:, ptcp:, pssl: or db:)"),
            ("ssl:[fe80::1]", "ssl:[fe80::1]:6640"),
            ("pssl:0:[::1]", "pssl:0:[::1]"),
            ("pssl:", "pssl:6640:0.0.0.0"),
        ] {
            assert_eq!(Remote::parse(text).map_or_else(|e| e.to_string(), |r| r.to_string()), expect);
        }
    }
}
