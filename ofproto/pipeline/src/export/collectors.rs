//! Collectors: where datagrams go. Sockets that never block; what cannot be sent is lost and counted, as the protocols expect. Names are
//! looked up by `resolve`; until there is an answer, datagrams for them are lost.

use super::resolve::Named;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Add;
use std::sync::Arc;

flow::counters! {
    EXPORT_SENT = "export_datagrams_sent", "datagrams sent to NetFlow, sFlow and IPFIX collectors";
    EXPORT_FAILED = "export_datagrams_failed", "datagrams for collectors that could not be sent";
}

/// Collectors of one exporter.
const COLLECTORS_MAX: usize = 64;

/// How sending went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub ok: u64,
    pub failed: u64,
}

impl Add for Sent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { ok: self.ok + other.ok, failed: self.failed + other.failed }
    }
}

/// Bytes of a name (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Why there is no socket for a target.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("{0}: expected IP[:PORT] or NAME[:PORT]")]
    Syntax(String),
    #[error("couldn't open connection to collector {0}: {1}")]
    Socket(String, std::io::Error),
}

/// What a target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

/// How a collector is reached.
#[derive(Debug)]
enum Way {
    Socket(UdpSocket),
    Name(Arc<Named>),
}

/// The sockets.
#[derive(Debug, Default)]
pub struct Collectors {
    ways: Vec<(String, Way)>,
}

impl Collectors {
    /// Opens a socket for each target, `IP[:PORT]` (an IPv6 address in brackets) or `NAME[:PORT]`. What cannot be opened is said in the
    /// log.
    #[must_use]
    pub fn open(targets: &[String], default_port: Option<u16>) -> Self {
        let mut ways = Vec::new();
        for target in targets.iter().take(COLLECTORS_MAX) {
            match way(target, default_port) {
                Ok(way) => ways.push((target.clone(), way)),
                Err(error) => tracing::warn!(target: "collectors", "{error}"),
            }
        }
        if ways.is_empty() {
            tracing::warn!(target: "collectors", "no collectors could be initialized");
        }
        Self { ways }
    }

    /// Sends a datagram to each.
    #[must_use]
    pub fn send(&self, datagram: &[u8]) -> Sent {
        let mut sent = Sent::default();
        for (target, way) in &self.ways {
            let result = match way {
                Way::Socket(socket) => Some(socket.send(datagram)),
                Way::Name(name) => name.send(datagram),
            };
            match result {
                Some(Ok(_)) => sent.ok += 1,
                Some(Err(error)) => {
                    sent.failed += 1;
                    tracing::warn!(target: "collectors", "{target}: sending to collector failed ({error})");
                }
                // What the resolver said is in the log.
                None => sent.failed += 1,
            }
        }
        EXPORT_SENT.add(sent.ok);
        EXPORT_FAILED.add(sent.failed);
        sent
    }

    /// The address by which the first of them that can be reached is reached.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.ways.iter().find_map(|(_, way)| match way {
            Way::Socket(socket) => socket.local_addr().ok().map(|a| a.ip()),
            Way::Name(name) => name.source(),
        })
    }
}

fn way(target: &str, default_port: Option<u16>) -> Result<Way, TargetError> {
    match parse(target, default_port).ok_or_else(|| TargetError::Syntax(target.to_owned()))? {
        Target::Name { host, port } => Ok(Way::Name(Named::ask(host, port))),
        Target::Address(to) => open(to).map(Way::Socket).map_err(|error| TargetError::Socket(target.to_owned(), error)),
    }
}

/// A socket whose datagrams go there.
pub(super) fn open(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

/// What a target names; `None` if it is neither an address nor a name, or without a port where there must be one.
#[must_use]
pub fn parse(target: &str, default_port: Option<u16>) -> Option<Target> {
    let bare = target.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(target);
    let address = || target.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, default_port?)));
    address().map(Target::Address).or_else(|| {
        let (host, port) = match target.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (target, default_port?),
        };
        is_host_name(host).then(|| Target::Name { host: host.to_owned(), port })
    })
}

/// Letters, digits, hyphens (RFC 1123, 2.1) and underscores, which many use; digits alone would be a broken address.
fn is_host_name(name: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let whole = name.strip_suffix('.').unwrap_or(name);
    name.len() <= NAME_BYTES_MAX && whole.split('.').all(label) && whole.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn targets_are_addresses_and_names_with_a_port_or_without() {
        let text = |t: &str, port| {
            parse(t, port).map(|target| match target {
                Target::Address(a) => a.to_string(),
                Target::Name { host, port } => format!("{host} {port}"),
            })
        };
        assert_eq!(text("1.2.3.4:5", None).as_deref(), Some("1.2.3.4:5"));
        assert_eq!(text("[::1]:5", Some(9)).as_deref(), Some("[::1]:5"));
        assert_eq!(text("[::1]", Some(9)).as_deref(), Some("[::1]:9"));
        assert_eq!(text("1.2.3.4", Some(9)).as_deref(), Some("1.2.3.4:9"));
        assert_eq!(text("collector-1.example.org:5", None).as_deref(), Some("collector-1.example.org 5"));
        assert_eq!(text("xyzzy", Some(9)).as_deref(), Some("xyzzy 9"));
        for bad in ["1.2.3.4", "xyzzy", "xyzzy:x", "a b:5", "a..b:5", ":5", "1.2.3.400:5", "a:1:2", "", "xyzzy:66000"] {
            assert_eq!(text(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn a_datagram_reaches_each_collector() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = there.local_addr().unwrap().to_string();
        let collectors = Collectors::open(&[target, "1.2.3.400:5".into()], None);
        assert_eq!(collectors.send(b"hello"), Sent { ok: 1, failed: 0 });
        assert_eq!(collectors.source(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let mut bytes = [0; 9];
        assert_eq!(there.recv(&mut bytes).unwrap(), 5);
    }

    #[test]
    fn a_collector_is_reached_by_its_name() {
        let there = UdpSocket::bind("localhost:0").unwrap();
        there.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let collectors = Collectors::open(&[format!("localhost:{}", there.local_addr().unwrap().port())], None);
        let mut bytes = [0; 9];
        for _ in 0..500 {
            if collectors.send(b"hello").ok == 1 {
                assert_eq!(there.recv(&mut bytes).unwrap(), 5);
                assert_eq!(collectors.source(), Some(there.local_addr().unwrap().ip()));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("localhost was never resolved");
    }
}
