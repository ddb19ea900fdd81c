//! Whom encrypted connections of ours believe, and what they say when one
//! fails. The system's certificates of authorities, a file with others, and the
//! settings of the TLS library come from here, for the broker, the copy, routing and
//! traces alike.

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

/// Why encrypted connections can't be made at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificates in a file are of no use.
    #[error("the certificates in {} can't be read: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: FileError,
    },
    /// There is no authority at all, or none can be believed.
    #[error("no authority to believe in: {0}")]
    Nobody(String),
    /// The library does not do what it is asked for.
    #[error("TLS can't be set up: {0}")]
    Setup(rustls::Error),
}

/// Why a file is no good as one of certificates.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It has none.
    #[error("there is no certificate in it")]
    Empty,
    /// Something in it is cut off or not in the form.
    #[error("{0}")]
    Form(pem::Error),
    /// One of them is no certificate of an authority.
    #[error("{0}")]
    Certificate(rustls::Error),
}

/// A file of certificates, as it was read: at least one.
#[derive(Debug)]
pub struct Authorities {
    /// What is in the file.
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

/// The authorities that the system knows; those it has in a form that can't be
/// read are left out.
#[must_use]
pub fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// These authorities, and those in a file.
pub fn with_file(mut roots: RootCertStore, path: &Path) -> Result<RootCertStore, Error> {
    let added = Authorities::read(path).and_then(|authorities| authorities.add_to(&mut roots));
    added.map_err(|reason| Error::File { path: path.to_owned(), reason })?;
    Ok(roots)
}

/// Whether a certificate can be for this host, such as a name or, in brackets
/// or not, an address.
#[must_use]
pub fn can_be_named(host: &str) -> bool {
    ServerName::try_from(host.trim_matches(['[', ']'])).is_ok()
}

/// How certificates are computed with.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What believes a certificate of one of these authorities that names the host.
pub fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|error| Error::Nobody(error.to_string()))
}

/// The settings of a client, up to whom it believes.
pub fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(Error::Setup)
}

/// The settings of a client of HTTP/1.1 that believes the authorities of the
/// system, and those in a file.
pub fn http_client(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let mut roots = of_system();
    if let Some(path) = ca_file {
        roots = with_file(roots, path)?;
    }
    let mut config = client()?.with_webpki_verifier(verifier(roots)?).with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(config)
}

/// Why an encrypted connection failed, in words, if encryption is what failed.
#[must_use]
pub fn explained(error: &(dyn StdError + 'static)) -> Option<String> {
    std::iter::successors(Some(error), |error| cause(*error)).find_map(|error| error.downcast_ref()).map(words)
}

/// The next error inwards. One that an I/O error wraps is not among its sources.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(wrapping) => Some(wrapping.get_ref()?),
        None => error.source(),
    }
}

fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => format!("certificate: {}", of_certificate(error)),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the server does not speak TLS".to_owned(),
        error => format!("TLS: {error}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext { expected, .. } => format!("not for the name {}", expected.to_str()),
        CertificateError::ExpiredContext { .. } => "expired".to_owned(),
        CertificateError::NotValidYetContext { .. } => "not valid yet".to_owned(),
        CertificateError::Other(other) => spaced(&other.to_string()),
        error => spaced(&error.to_string()),
    }
}

/// Names of errors as the library has them, `UnknownIssuer`, as words.
fn spaced(name: &str) -> String {
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

    fn said(error: rustls::Error) -> String {
        // As the HTTP client brings it.
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        explained(&wrapped).unwrap()
    }

    #[test]
    fn failures_are_told_in_words() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        let expected = ServerName::try_from("agent").unwrap();
        let named = CertificateError::NotValidForNameContext { expected, presented: Vec::new() };
        for (error, told) in [
            (CertificateError::UnknownIssuer, "certificate: unknown issuer"),
            (CertificateError::BadSignature, "certificate: bad signature"),
            (CertificateError::Expired, "certificate: expired"),
            (CertificateError::ExpiredContext { time, not_after: time }, "certificate: expired"),
            (CertificateError::NotValidYetContext { time, not_before: time }, "certificate: not valid yet"),
            (named, "certificate: not for the name agent"),
        ] {
            assert_eq!(said(error.into()), told);
        }
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(said(plain), "the server does not speak TLS");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert_eq!(said(alert), "TLS: received fatal alert: HandshakeFailure");
        assert_eq!(explained(&io::Error::other("something else")), None);
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
        assert!(matches!(verifier(RootCertStore::empty()), Err(Error::Nobody(_))));
    }
}
