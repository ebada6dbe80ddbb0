//! TLS under a connection. Which files a side has, whom it trusts and what it calls itself is the business of whoever makes the
//! connection or the server: it gives a [`TlsSource`], which is asked anew for each connection, so that keys and certificates replaced on
//! disk (or in the database) count from the next connection on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::rustls;
use tokio_rustls::rustls::AlertDescription as Alert;
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
    let outcome = timeout(HANDSHAKE_MAX, handshake).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?;
    outcome.map_err(in_known_words)
}

/// What OpenSSL, and so OVS's tools, say of an alert that ends a handshake (RFC 8446, 6.2).
const ALERTS: [(Alert, &str); 11] = [
    (Alert::HandshakeFailure, "sslv3 alert handshake failure"),
    (Alert::BadCertificate, "sslv3 alert bad certificate"),
    (Alert::UnsupportedCertificate, "sslv3 alert unsupported certificate"),
    (Alert::CertificateRevoked, "sslv3 alert certificate revoked"),
    (Alert::CertificateExpired, "sslv3 alert certificate expired"),
    (Alert::CertificateUnknown, "sslv3 alert certificate unknown"),
    (Alert::UnknownCA, "tlsv1 alert unknown ca"),
    (Alert::AccessDenied, "tlsv1 alert access denied"),
    (Alert::DecryptError, "tlsv1 alert decrypt error"),
    (Alert::ProtocolVersion, "tlsv1 alert protocol version"),
    (Alert::InsufficientSecurity, "tlsv1 alert insufficient security"),
];

fn in_known_words(error: std::io::Error) -> std::io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = inner else {
        return error;
    };
    match ALERTS.iter().find(|(known, _)| known == alert) {
        Some((_, words)) => std::io::Error::new(error.kind(), *words),
        None => error,
    }
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
    fn alerts_are_told_in_known_words() {
        let error = |inner| in_known_words(std::io::Error::new(std::io::ErrorKind::InvalidData, inner)).to_string();
        assert_eq!(error(rustls::Error::AlertReceived(Alert::HandshakeFailure)), "sslv3 alert handshake failure");
        assert_eq!(error(rustls::Error::HandshakeNotComplete), rustls::Error::HandshakeNotComplete.to_string());
    }

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
