//! A tiny HTTP server for the client's tests.

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

/// A request it got.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Answers every request by `respond`, for as long as the test runs, and
/// gives its address.
pub(super) async fn serve<F>(respond: F) -> String
where
    F: Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
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
    F: Fn(&Asked) -> (u16, String),
{
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (status, text) = respond(&Asked {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
}
