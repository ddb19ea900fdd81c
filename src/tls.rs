//! TLS of outgoing connections: trust anchors, settings, and messages for failures.
//!
//! The connections to the broker, to Postgres, to Agent and RAG and to the collector
//! of traces trust the certificate authorities of the system, and those in a file.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, InvalidMessage, RootCertStore, WantsVerifier};

const HTTP_1_1: &[u8] = b"http/1.1";

/// Why no TLS connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of certificates cannot be used.
    #[error("the certificates in {} can't be read: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why the file cannot be used.
        reason: FileError,
    },
    /// There is no certificate authority that can be trusted.
    #[error("no trust anchor: {0}")]
    NoTrustAnchor(String),
    /// The TLS library refuses the settings.
    #[error("TLS can't be set up: {0}")]
    Setup(rustls::Error),
}

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// The file contains no certificate.
    #[error("the file contains no certificate")]
    Empty,
    /// The file is not valid PEM.
    #[error("{0}")]
    Form(pem::Error),
    /// A certificate is not valid as that of an authority.
    #[error("{0}")]
    Certificate(rustls::Error),
}

/// The certificate authorities of a file: at least one.
#[derive(Debug)]
pub struct Authorities {
    /// The content of the file.
    pub text: String,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads a file (PEM).
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(FileError::Unreadable)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let certificates = certificates.map_err(FileError::Form)?;
        if certificates.is_empty() {
            return Err(FileError::Empty);
        }
        Ok(Self { text, certificates })
    }

    fn add_to(self, roots: &mut RootCertStore) -> Result<(), FileError> {
        self.certificates.into_iter().try_for_each(|each| roots.add(each).map_err(FileError::Certificate))
    }
}

/// Returns the trust anchors of the system. Certificates that cannot be parsed are
/// left out.
#[must_use]
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Adds the certificate authorities of a file to trust anchors.
pub fn with_file(mut roots: RootCertStore, path: &Path) -> Result<RootCertStore, Error> {
    let added = Authorities::read(path).and_then(|authorities| authorities.add_to(&mut roots));
    added.map_err(|reason| Error::File { path: path.to_owned(), reason })?;
    Ok(roots)
}

/// Whether a certificate can be issued for a host: a name, or an address with or
/// without brackets.
#[must_use]
pub fn is_server_name(host: &str) -> bool {
    ServerName::try_from(host.trim_matches(['[', ']'])).is_ok()
}

/// Returns the implementation of the cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Returns a verifier that accepts a certificate which one of these authorities issued
/// for the host.
pub fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|error| Error::NoTrustAnchor(error.to_string()))
}

/// Returns the settings of a client, without a verifier.
pub fn client_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(Error::Setup)
}

/// Returns the settings of an HTTP/1.1 client that trusts the certificate authorities
/// of the system, and those in a file.
pub fn http_client(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let mut roots = system_roots();
    if let Some(path) = ca_file {
        roots = with_file(roots, path)?;
    }
    let mut config = client_builder()?.with_webpki_verifier(verifier(roots)?).with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(config)
}

/// Explains an error of a connection, if TLS is its cause.
#[must_use]
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    std::iter::successors(Some(error), |error| cause(*error)).find_map(|error| error.downcast_ref()).map(message)
}

/// Returns the cause of an error. The error inside an I/O error is not its source.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(wrapping) => Some(wrapping.get_ref()?),
        None => error.source(),
    }
}

fn message(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => format!("certificate: {}", certificate_message(error)),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the server does not speak TLS".to_owned(),
        error => format!("TLS: {error}"),
    }
}

fn certificate_message(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext { expected, .. } => format!("not for the name {}", expected.to_str()),
        CertificateError::ExpiredContext { .. } => "expired".to_owned(),
        CertificateError::NotValidYetContext { .. } => "not valid yet".to_owned(),
        CertificateError::Other(other) => split_words(&other.to_string()),
        error => split_words(&error.to_string()),
    }
}

/// Splits the library's name of an error, such as `UnknownIssuer`, into words.
fn split_words(name: &str) -> String {
    let mut words = String::new();
    let mut inside = false;
    for each in name.chars() {
        if inside && each.is_uppercase() {
            words.push(' ');
        }
        inside = each.is_lowercase();
        words.extend(each.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn explained(error: rustls::Error) -> String {
        // The HTTP client wraps errors like this.
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        explain(&wrapped).unwrap()
    }

    #[test]
    fn failures_are_explained() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        let expected = ServerName::try_from("agent").unwrap();
        let named = CertificateError::NotValidForNameContext { expected, presented: Vec::new() };
        for (error, expected) in [
            (CertificateError::UnknownIssuer, "certificate: unknown issuer"),
            (CertificateError::BadSignature, "certificate: bad signature"),
            (CertificateError::Expired, "certificate: expired"),
            (CertificateError::ExpiredContext { time, not_after: time }, "certificate: expired"),
            (CertificateError::NotValidYetContext { time, not_before: time }, "certificate: not valid yet"),
            (named, "certificate: not for the name agent"),
        ] {
            assert_eq!(explained(error.into()), expected);
        }
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(explained(plain), "the server does not speak TLS");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert_eq!(explained(alert), "TLS: received fatal alert: HandshakeFailure");
        assert_eq!(explain(&io::Error::other("something else")), None);
    }

    #[test]
    fn files_without_certificates_are_refused() {
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            with_file(RootCertStore::empty(), file.path()).map_err(|error| match error {
                Error::File { reason, .. } => reason,
                other => panic!("{other}"),
            })
        };
        assert!(matches!(read(""), Err(FileError::Empty)));
        assert!(matches!(read("no certificate"), Err(FileError::Empty)));
        assert!(matches!(read("-----BEGIN CERTIFICATE-----\nTUlJ\n"), Err(FileError::Form(_))));
        let nonsense = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n";
        assert!(matches!(read(nonsense), Err(FileError::Certificate(_))));
        let error = with_file(RootCertStore::empty(), Path::new("/no/such.pem")).unwrap_err().to_string();
        assert!(error.starts_with("the certificates in /no/such.pem can't be read: No such file"), "{error}");
        assert!(matches!(verifier(RootCertStore::empty()), Err(Error::NoTrustAnchor(_))));
    }
}
