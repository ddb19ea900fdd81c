//! Encryption of the connection by libpq's `sslmode`.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;
use super::address::{Address, Trust};
use crate::tls;

/// Creates the TLS connector of an address.
pub(super) fn connector(address: &Address) -> Result<MakeRustlsConnect, Error> {
    let setup = |error: tls::Error| Error::Setup(error.to_string());
    let verifier: Arc<dyn ServerCertVerifier> = match address.trust {
        Trust::None => Arc::new(Lenient { known: None, provider: tls::provider() }),
        Trust::Authority => {
            let known = Some(verifier(address).map_err(setup)?);
            Arc::new(Lenient { known, provider: tls::provider() })
        }
        Trust::Host => verifier(address).map_err(setup)?,
    };
    let client = tls::client_builder().map_err(setup)?;
    Ok(MakeRustlsConnect::new(client.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Certificates in a given file replace those of the system.
fn verifier(address: &Address) -> Result<Arc<WebPkiServerVerifier>, tls::Error> {
    tls::verifier(match &address.root_certificates {
        Some(path) => tls::with_file(RootCertStore::empty(), path)?,
        None => tls::system_roots(),
    })
}

/// Verifies the certificate chain if an authority is required, and never the host name.
#[derive(Debug)]
struct Lenient {
    known: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(known) = &self.known else { return Ok(ServerCertVerified::assertion()) };
        match known.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
