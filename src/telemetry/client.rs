//! The HTTP client that batches are posted with: the one that the rest of the
//! service uses too, with a limit of time and of what is read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::tls;

/// Longest time for one batch; what the specification gives it.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept: a little longer than batches are
/// apart.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Most that is read of an answer, which tells of spans that were refused.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Posts to the collector, and knows why the last post failed.
#[derive(Debug)]
pub(super) struct Poster {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    reason: Mutex<String>,
}

impl Poster {
    /// `encryption` is how it speaks with an `https://` address.
    pub(super) fn new(encryption: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // The scheme decides about TLS, which is not this layer's matter.
        tcp.enforce_http(false);
        let connector = HttpsConnector::from((tcp, encryption));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME).pool_max_idle_per_host(1);
        Self { http: builder.build(connector), reason: Mutex::default() }
    }

    /// Why the last post failed, which the library does not tell.
    pub(super) fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, reason: String) -> HttpError {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&reason);
        reason.into()
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let answer = self.http.request(request.map(Full::new)).await.map_err(|error| reason(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| reason(&*error))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[async_trait]
impl HttpClient for Poster {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        match timeout(TIMEOUT, self.post(request)).await {
            Ok(Ok(answer)) => {
                if !answer.status().is_success() {
                    let status = answer.status().as_u16();
                    self.failed(format!("it answered with status {status}"));
                }
                Ok(answer)
            }
            Ok(Err(reason)) => Err(self.failed(reason)),
            Err(_) => Err(self.failed(format!("no whole answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

/// What failed of the encryption, or the innermost cause: both say what happened
/// without naming layers.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let innermost = || std::iter::successors(Some(error), |error| error.source()).last();
    tls::explain(error).or_else(|| Some(innermost()?.to_string().to_lowercase())).unwrap_or_default()
}
