//! TLS under a connection. Which files a side has, whom it trusts and what it calls itself is the business of whoever makes the
//! connection or the server: it gives a [`TlsSource`], which is asked anew for each connection, so that keys and certificates replaced on
//! disk (or in the database) count from the next connection on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
pub use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// How long a handshake may take.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// rustls wants a name to connect to, even where a host's is none; certificates of the field bear none to compare it with.
const SERVER_NAME: &str = "openvswitch";

/// Where TLS configurations come from. The error is a text for the log.
pub trait TlsSource: Send + Sync + fmt::Debug {
    /// For a side that connects.
    ///
    /// # Errors
    /// A file is missing or bad.
    fn client(&self) -> Result<Arc<ClientConfig>, String>;

    /// For a side that listens.
    ///
    /// # Errors
    /// A file is missing or bad.
    fn server(&self) -> Result<Arc<ServerConfig>, String>;

    /// The name to ask a server for (RFC 6066, 3) in place of the host that is connected to.
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// TLS, if the program has it.
pub type Tls = Option<Arc<dyn TlsSource>>;

fn source(tls: &Tls) -> std::io::Result<&dyn TlsSource> {
    let missing = || std::io::Error::other("Private key must be configured to use SSL");
    tls.as_deref().ok_or_else(missing)
}

async fn in_time<T>(handshake: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    timeout(HANDSHAKE_MAX, handshake).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// Speaks TLS as the side that connected, with `host`.
pub(crate) async fn connect<S>(tls: &Tls, host: &str, stream: S) -> std::io::Result<client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let source = source(tls)?;
    let config = source.client().map_err(std::io::Error::other)?;
    let wanted = source.server_name().unwrap_or_else(|| host.to_owned());
    let name = ServerName::try_from(wanted).or_else(|_| ServerName::try_from(SERVER_NAME)).map_err(std::io::Error::other)?;
    in_time(TlsConnector::from(config).connect(name, stream)).await
}

/// Speaks TLS as the side that was connected to.
pub(crate) async fn accept<S>(tls: &Tls, stream: S) -> std::io::Result<server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = source(tls)?.server().map_err(std::io::Error::other)?;
    let stream = in_time(TlsAcceptor::from(config).accept(stream)).await?;
    if let Some(name) = stream.get_ref().1.server_name() {
        tracing::info!(target: "stream_ssl", "connection indicated server name {name}");
    }
    Ok(stream)
}

/// The common name in the subject of a peer's certificate (RFC 5280, 4.1.2.6), by which role-based access knows the peer.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    // TBSCertificate: version [0], serialNumber, signature, issuer, validity, subject.
    let (tbs, _) = der(der(certificate, 0x30)?.0, 0x30)?;
    let mut rest = match der(tbs, 0xa0) {
        Some((_, after)) => after,
        None => tbs,
    };
    for tag in [0x02, 0x30, 0x30, 0x30] {
        rest = der(rest, tag)?.1;
    }
    let (mut names, _) = der(rest, 0x30)?;
    while let Some((set, after)) = der(names, 0x31) {
        names = after;
        let (attribute, _) = der(set, 0x30)?;
        let (oid, value) = der(attribute, 0x06)?;
        // 2.5.4.3, id-at-commonName
        if oid == [0x55, 4, 3] {
            let tag = *value.first()?;
            return String::from_utf8(der(value, tag)?.0.to_vec()).ok();
        }
    }
    None
}

/// The contents of the value at the front if it has this tag, and what follows it (X.690, 8.1).
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| matches!(d.len(), 1..=4))?;
        (digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_is_taken_apart_and_never_panics() {
        assert_eq!(der(&[0x30, 2, 1, 2, 9], 0x30), Some((&[1, 2][..], &[9][..])));
        assert_eq!(der(&[0x30, 0x81, 1, 7], 0x30), Some((&[7][..], &[][..])));
        for bytes in
            [&[][..], &[0x30], &[0x30, 5, 1], &[0x30, 0x84, 1], &[0x30, 0x80], &[0x31, 0], &[0x30, 0x84, 255, 255, 255, 255]]
        {
            assert_eq!(der(bytes, 0x30), None, "{bytes:?}");
            assert_eq!(common_name(&CertificateDer::from(bytes.to_vec())), None);
        }
    }
}
