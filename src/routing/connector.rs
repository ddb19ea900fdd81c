//! Connections to a service, with or without TLS.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client as HttpClient, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::settings;
use crate::tls;

/// Time after which an idle connection is closed: shorter than the 5 s of common Python
/// servers, so that no request is sent on a connection that the server is closing.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// Longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

type Body = Full<Bytes>;
type BoxError = Box<dyn StdError + Send + Sync>;

/// The pooled connections to one service.
#[derive(Debug)]
pub(super) enum Connections {
    Plain(HttpClient<HttpConnector, Body>),
    Encrypted(HttpClient<Encrypted, Body>),
}

impl Connections {
    /// Reads the certificate authorities, if the service uses TLS. Makes no connection
    /// yet.
    pub(super) fn new(settings: &settings::Service) -> Result<Self, tls::Error> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        if !settings.address.is_encrypted() {
            return Ok(Self::Plain(client(tcp, settings.concurrency)));
        }
        // This layer must accept the scheme `https`.
        tcp.enforce_http(false);
        let config = tls::http_client(settings.ca_file.as_deref())?;
        let limit = settings.try_timeout.saturating_mul(2);
        let encrypted = Encrypted { inner: (tcp, config).into(), limit };
        Ok(Self::Encrypted(client(encrypted, settings.concurrency)))
    }

    pub(super) async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Encrypted(client) => client.request(request).await,
        }
    }
}

fn client<C: Connect + Clone>(connector: C, concurrency: usize) -> HttpClient<C, Body> {
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME).pool_max_idle_per_host(concurrency);
    builder.http1_max_buf_size(MAX_HEAD_BYTES);
    builder.build(connector)
}

/// Makes TLS connections with a time limit.
#[derive(Debug, Clone)]
pub(super) struct Encrypted {
    inner: HttpsConnector<HttpConnector>,
    /// Time until the connection is established. An attempt has a shorter deadline of its
    /// own, but if it got another connection meanwhile, this one is established in the
    /// background, and nothing else would end a handshake that hangs.
    limit: Duration,
}

impl tower_service::Service<Uri> for Encrypted {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(uri), self.limit);
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection in {} ms", limit.as_millis()));
            timeout(limit, connecting).await.map_err(|_| late())?
        })
    }
}
