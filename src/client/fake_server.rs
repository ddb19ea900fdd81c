//! A minimal HTTP server for unit tests of the client and of what uses it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A request that the server received.
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl ReceivedRequest {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Starts a server that answers each request with the status and body from `respond`, and
/// returns its URL. It runs until the runtime of the test ends.
pub(crate) async fn serve<F>(respond: F) -> String
where
    F: Fn(&ReceivedRequest) -> (u16, String) + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let respond = Arc::new(respond);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let respond = Arc::clone(&respond);
            let service = service_fn(move |request| answer(request, Arc::clone(&respond)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    format!("http://{address}")
}

async fn answer<F>(request: Request<Incoming>, respond: Arc<F>) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(&ReceivedRequest) -> (u16, String),
{
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (status, text) = respond(&ReceivedRequest {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
}
