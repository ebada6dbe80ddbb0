//! Collectors: where datagrams go. Sockets that never block; what cannot be sent is lost and counted, as the protocols expect.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Add;

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

/// Why there is no socket for a target.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("{0}: expected IP[:PORT] (names of collectors are not resolved)")]
    Syntax(String),
    #[error("couldn't open connection to collector {0}: {1}")]
    Socket(String, std::io::Error),
}

/// The sockets.
#[derive(Debug, Default)]
pub struct Collectors {
    sockets: Vec<(String, UdpSocket)>,
}

impl Collectors {
    /// Opens a socket for each target, `IP[:PORT]` (an IPv6 address in brackets). What cannot be opened is said in the log.
    #[must_use]
    pub fn open(targets: &[String], default_port: Option<u16>) -> Self {
        let mut sockets = Vec::new();
        for target in targets.iter().take(COLLECTORS_MAX) {
            match open_one(target, default_port) {
                Ok(socket) => sockets.push((target.clone(), socket)),
                Err(error) => tracing::warn!(target: "collectors", "{error}"),
            }
        }
        if sockets.is_empty() {
            tracing::warn!(target: "collectors", "no collectors could be initialized");
        }
        Self { sockets }
    }

    /// Sends a datagram to each.
    #[must_use]
    pub fn send(&self, datagram: &[u8]) -> Sent {
        let mut sent = Sent::default();
        for (target, socket) in &self.sockets {
            match socket.send(datagram) {
                Ok(_) => sent.ok += 1,
                Err(error) => {
                    sent.failed += 1;
                    tracing::warn!(target: "collectors", "{target}: sending to collector failed ({error})");
                }
            }
        }
        EXPORT_SENT.add(sent.ok);
        EXPORT_FAILED.add(sent.failed);
        sent
    }
}

fn open_one(target: &str, default_port: Option<u16>) -> Result<UdpSocket, TargetError> {
    let address = parse(target, default_port).ok_or_else(|| TargetError::Syntax(target.to_owned()))?;
    let open = || {
        let any: SocketAddr =
            if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(address)?;
        Ok(socket)
    };
    open().map_err(|error| TargetError::Socket(target.to_owned(), error))
}

/// The address of a target.
#[must_use]
pub fn parse(target: &str, default_port: Option<u16>) -> Option<SocketAddr> {
    let bare = target.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(target);
    target.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, default_port?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_with_a_port_or_without() {
        let text = |t: &str, port| parse(t, port).map(|a| a.to_string());
        assert_eq!(text("1.2.3.4:5", None).as_deref(), Some("1.2.3.4:5"));
        assert_eq!(text("[::1]:5", Some(9)).as_deref(), Some("[::1]:5"));
        assert_eq!(text("[::1]", Some(9)).as_deref(), Some("[::1]:9"));
        assert_eq!(text("1.2.3.4", Some(9)).as_deref(), Some("1.2.3.4:9"));
        assert_eq!(text("1.2.3.4", None), None);
        assert_eq!(text("xyzzy", Some(9)), None);
    }

    #[test]
    fn a_datagram_reaches_each_collector() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = there.local_addr().unwrap().to_string();
        let collectors = Collectors::open(&[target, "xyzzy".into()], None);
        assert_eq!(collectors.send(b"hello"), Sent { ok: 1, failed: 0 });
        let mut bytes = [0; 9];
        assert_eq!(there.recv(&mut bytes).unwrap(), 5);
    }
}
