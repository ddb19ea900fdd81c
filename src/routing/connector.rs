//! Connections to a service: plain, or encrypted to a server that proves its
//! name.

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

/// Shorter than the 5 s after which Python's usual servers close an unused
/// connection: whoever is later would send into a closing one.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// Longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

type Body = Full<Bytes>;
type BoxError = Box<dyn StdError + Send + Sync>;

/// The connections to one service, which are used again.
#[derive(Debug)]
pub(super) enum Connections {
    Plain(HttpClient<HttpConnector, Body>),
    Encrypted(HttpClient<Encrypted, Body>),
}

impl Connections {
    /// None is made yet. The authorities are read now, and once.
    pub(super) fn new(settings: &settings::Service) -> Result<Self, tls::Error> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        if !settings.address.is_encrypted() {
            return Ok(Self::Plain(client(tcp, settings.concurrency)));
        }
        // The scheme is that of TLS, which is not this layer's matter.
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

/// Makes encrypted connections.
#[derive(Debug, Clone)]
pub(super) struct Encrypted {
    inner: HttpsConnector<HttpConnector>,
    /// Longest time until a connection stands. A try has its own, shorter
    /// deadline; but one that got another connection meanwhile leaves this to come
    /// up alone, where nobody else would end a handshake that hangs.
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
