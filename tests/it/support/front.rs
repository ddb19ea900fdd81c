//! TLS before a server that speaks plain HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;

/// What stands before a server and speaks TLS for it.
pub(crate) struct Front {
    port: u16,
    connections: Arc<AtomicUsize>,
    protocols: Arc<AtomicUsize>,
}

impl Front {
    /// Encrypts for what listens on `behind`.
    pub(crate) async fn of(behind: &str, certificates: &Certificates) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, protocols) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (acceptor, behind): (_, SocketAddr) = (acceptor(certificates), behind.parse().unwrap());
        let counted = (connections.clone(), protocols.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, (connections, protocols)) = (acceptor.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(mut socket) = acceptor.accept(socket).await else { return };
                    connections.fetch_add(1, Ordering::Relaxed);
                    let is_agreed = socket.get_ref().1.alpn_protocol() == Some(b"http/1.1");
                    protocols.fetch_add(usize::from(is_agreed), Ordering::Relaxed);
                    if let Ok(mut plain) = TcpStream::connect(behind).await {
                        let _ = copy_bidirectional(&mut socket, &mut plain).await;
                    }
                });
            }
        });
        Self { port, connections, protocols }
    }

    /// Its address, by a name of its host.
    pub(crate) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// The same with the base path of an Agent or RAG.
    pub(crate) fn api(&self, host: &str) -> String {
        format!("{}/api/v1", self.url(host))
    }

    /// With how many HTTP/1.1 was agreed on.
    pub(crate) fn agreed(&self) -> usize {
        self.protocols.load(Ordering::Relaxed)
    }

    /// How many have been encrypted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificates.certificate()).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certificates.key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
