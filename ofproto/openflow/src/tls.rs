//! TLS for OpenFlow connections, on both sides of them: which files a side has, and rustls's configuration made of them.
//!
//! What enters: the paths of a private key, a certificate and the certificates of those who may certify peers (`ovs-pki` makes such
//! files; the SSL table and the options `-p -c -C` name them). What leaves: a client's or a server's configuration, read from the files
//! as they are now. Neighbours: the pipeline's connections, `ovs-ofctl`.
//!
//! As in OVS both sides must show a certificate, and a peer is whoever has one that the other side's CA has signed: certificates say
//! nothing of host names. With `bootstrap` a CA's file that does not exist yet is written from the first peer's chain (ovs-vswitchd(8),
//! `--bootstrap-ca-cert`): that connection is refused, the next one is verified. This trusts whoever answers first.

use crate::ciphers::{self, CipherError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};
use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a side has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub private_key: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub ca_cert: Option<PathBuf>,
    /// Write `ca_cert` from the first peer's chain where it does not exist.
    pub bootstrap: bool,
    /// Certificates to send beside our own, for peers that bootstrap (`--peer-ca-cert`).
    pub peer_ca_cert: Option<PathBuf>,
    /// Names of protocols, "TLSv1.2,TLSv1.3"; "" for all. One with a plus stands for itself and what is newer.
    pub protocols: String,
    /// Ciphers of TLS 1.2 in OpenSSL's notation; "" for all.
    pub ciphers: String,
    /// Suites of TLS 1.3 by name, "A:B"; "" for all.
    pub suites: String,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} must be configured to use SSL")]
    Missing(&'static str),
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    BadPem { path: PathBuf, error: pem::Error },
    #[error("{}: no certificate in it", path.display())]
    Empty { path: PathBuf },
    #[error("{0}: expected TLSv1.2 or TLSv1.3")]
    BadProtocol(String),
    #[error("{0}")]
    BadCiphers(#[from] CipherError),
    #[error("{0}")]
    Refused(#[from] Error),
    #[error("{0}")]
    BadVerifier(#[from] rustls::server::VerifierBuilderError),
}

/// Rustls wants a name to connect to; nobody looks at it.
pub const SERVER_NAME: &str = "openvswitch";

impl TlsFiles {
    /// The configuration of a side that connects.
    ///
    /// # Errors
    /// A file is missing or bad.
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = self.provider()?;
        let verifier = Verifier { anchors: self.anchors()?, provider: Arc::clone(&provider) };
        let (chain, key) = self.identity()?;
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions(&self.protocols)?)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        Ok(Arc::new(builder.with_client_auth_cert(chain, key)?))
    }

    /// The configuration of a side that listens.
    ///
    /// # Errors
    /// A file is missing or bad.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = self.provider()?;
        let verifier: Arc<dyn ClientCertVerifier> = match self.anchors()? {
            Anchors::Known(roots) => WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?,
            anchors @ Anchors::ToCome(_) => Arc::new(Verifier { anchors, provider: Arc::clone(&provider) }),
        };
        let (chain, key) = self.identity()?;
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions(&self.protocols)?)?;
        Ok(Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?))
    }

    fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let cipher_suites = ciphers::select(&self.ciphers, &self.suites)?;
        Ok(Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() }))
    }

    /// Our certificate with what belongs to it, and its key.
    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = self.private_key.as_deref().ok_or(TlsError::Missing("Private key"))?;
        let certificate = self.certificate.as_deref().ok_or(TlsError::Missing("Certificate"))?;
        let mut chain = certificates(certificate)?;
        match &self.peer_ca_cert {
            Some(path) => chain.extend(certificates(path)?),
            // As OpenSSL has it, the CA that certified us goes along if we know it: peers that bootstrap learn it from there.
            None => chain.extend(self.issuer(&chain)),
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| TlsError::BadPem { path: key.to_owned(), error })?;
        Ok((chain, key))
    }

    /// The certificate among our CA's that has signed our own.
    fn issuer(&self, chain: &[CertificateDer<'static>]) -> Option<CertificateDer<'static>> {
        let (end, between) = chain.split_first()?;
        let end = rustls::server::ParsedCertificate::try_from(end).ok()?;
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let signed = |ca: &CertificateDer<'static>| {
            let mut roots = RootCertStore::empty();
            roots.add(ca.clone()).is_ok()
                && verify_server_cert_signed_by_trust_anchor(&end, &roots, between, UnixTime::now(), algorithms).is_ok()
        };
        certificates(self.ca_cert.as_deref()?).ok()?.into_iter().find(signed)
    }

    fn anchors(&self) -> Result<Anchors, TlsError> {
        let path = self.ca_cert.as_deref().ok_or(TlsError::Missing("CA certificate"))?;
        if self.bootstrap && !path.exists() {
            return Ok(Anchors::ToCome(path.to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate)?;
        }
        Ok(Anchors::Known(Arc::new(roots)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| TlsError::BadPem { path: path.to_owned(), error })?;
    if all.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(all) }
}

/// The protocols that a list of names enables. Those older than TLS 1.2 are known by name and not spoken.
fn versions(names: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let mut found: Vec<&'static SupportedProtocolVersion> = Vec::new();
    let mut add = |v: &'static SupportedProtocolVersion| {
        if !found.contains(&v) {
            found.push(v);
        }
    };
    for name in names.split([' ', ',']).filter(|n| !n.is_empty()) {
        match name {
            "TLSv1.3" | "TLSv1.3+" => add(&version::TLS13),
            "TLSv1.2" => add(&version::TLS12),
            "TLSv1" | "TLSv1.1" => {}
            "TLSv1+" | "TLSv1.1+" | "TLSv1.2+" => {
                add(&version::TLS12);
                add(&version::TLS13);
            }
            other => return Err(TlsError::BadProtocol(other.to_owned())),
        }
    }
    match (found.is_empty(), names.trim_matches([' ', ',']).is_empty()) {
        (false, _) => Ok(found),
        (true, true) => Ok(rustls::ALL_VERSIONS.to_vec()),
        // Only what is too old was named: nothing else may take its place.
        (true, false) => Err(TlsError::BadProtocol(names.to_owned())),
    }
}

/// Who certifies peers.
#[derive(Debug)]
enum Anchors {
    Known(Arc<RootCertStore>),
    /// Nobody yet: the first peer's chain says, and goes to this file.
    ToCome(PathBuf),
}

/// Verifies that a peer's certificate is signed by one of the anchors, whatever name it bears.
#[derive(Debug)]
struct Verifier {
    anchors: Anchors,
    provider: Arc<CryptoProvider>,
}

/// The connection that brought the CA's certificate ends here; the next one will be verified with it.
#[derive(Debug)]
struct Bootstrapped(PathBuf);

impl fmt::Display for Bootstrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "successfully bootstrapped CA cert to {}, reconnecting", self.0.display())
    }
}

impl std::error::Error for Bootstrapped {}

fn general(text: String) -> Error {
    Error::General(text)
}

impl Verifier {
    fn verify(&self, end: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        match &self.anchors {
            Anchors::Known(roots) => {
                let parsed = rustls::server::ParsedCertificate::try_from(end)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, chain, now, algorithms)
            }
            Anchors::ToCome(path) => Err(bootstrap(path, end, chain, now, &self.provider)),
        }
    }
}

/// Writes the last certificate of a peer's chain as that of its CA, if it has signed itself and the peer's (it may be the peer's).
/// Never a success: the connection that brings it is not trusted.
fn bootstrap(
    path: &Path,
    end: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
    provider: &CryptoProvider,
) -> Error {
    // A peer that has signed its own certificate (`ovs-pki self-sign`) shows no other.
    let (ca, between) = chain.split_last().unwrap_or((end, &[]));
    let mut roots = RootCertStore::empty();
    let signed = roots.add(ca.clone().into_owned()).and_then(|()| {
        let parsed = rustls::server::ParsedCertificate::try_from(end)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, now, provider.signature_verification_algorithms.all)
    });
    if let Err(error) = signed {
        return general(format!(
            "could not bootstrap CA cert: the peer's certificate is not signed by the last of its chain ({error})"
        ));
    }
    match write_new(path, &to_pem(ca)) {
        Ok(()) => Error::Other(rustls::OtherError(Arc::new(Bootstrapped(path.to_owned())))),
        Err(error) => general(format!("could not bootstrap CA cert: creating {} failed: {error}", path.display())),
    }
}

/// Creates the file; another that has come in the meantime is left as it is.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    use io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// RFC 7468: base64 in lines of 64 between two markers.
fn to_pem(certificate: &CertificateDer<'_>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE: usize = 48;
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in certificate.as_ref().chunks(LINE) {
        for part in line.chunks(3) {
            let at = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for i in 0..4 {
                let digit = ALPHABET[usize::try_from(bits >> (18 - 6 * i) & 0x3f).expect("six bits")];
                text.push(if i <= part.len() { char::from(digit) } else { '=' });
            }
        }
        text.push('\n');
    }
    let _ = text.write_str("-----END CERTIFICATE-----\n");
    text
}

/// How signatures are checked, which is the same for both sides: by the algorithms of the provider.
macro_rules! signatures_of_the_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end, chain, now).map(|()| ServerCertVerified::assertion())
    }

    signatures_of_the_provider!();
}

/// A listener that bootstraps: it takes no connection until it has a CA.
impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end, chain, now).map(|()| ClientCertVerified::assertion())
    }

    signatures_of_the_provider!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_by_name() {
        let names = |text: &str| versions(text).map(|v| v.iter().map(|v| format!("{:?}", v.version)).collect::<Vec<_>>());
        assert_eq!(names("").unwrap(), ["TLSv1_3", "TLSv1_2"]);
        assert_eq!(names("TLSv1.3").unwrap(), ["TLSv1_3"]);
        assert_eq!(names("TLSv1,TLSv1.1,TLSv1.2").unwrap(), ["TLSv1_2"]);
        assert_eq!(names("TLSv1.2+").unwrap(), ["TLSv1_2", "TLSv1_3"]);
        assert!(names("SSLv3").is_err());
    }

    #[test]
    fn a_certificate_goes_to_pem_and_back() {
        for len in [1, 2, 3, 47, 48, 49, 200] {
            let der = CertificateDer::from((0..len).map(|n: u8| n.wrapping_mul(37)).collect::<Vec<_>>());
            assert_eq!(CertificateDer::from_pem_slice(to_pem(&der).as_bytes()).unwrap(), der, "{len}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = TlsFiles::default();
        assert!(matches!(none.client(), Err(TlsError::Missing("CA certificate"))));
        let bad = TlsFiles { ca_cert: Some("/dev/null".into()), ..TlsFiles::default() };
        assert!(matches!(bad.client(), Err(TlsError::Empty { .. })));
    }
}
