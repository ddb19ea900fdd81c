//! The HTTP client that posts batches to the collector: the one of the other modules,
//! with limits on the time and on the size of the answer.

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

/// Time limit for one batch, from the OpenTelemetry specification.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which an idle connection is kept: a little longer than the time between two
/// batches.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest answer, in bytes. It lists the spans that were refused.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Posts to the collector, and keeps the reason of the last failure.
#[derive(Debug)]
pub(super) struct Poster {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    last_failure: Mutex<String>,
}

impl Poster {
    /// `tls` is used for an `https://` address.
    pub(super) fn new(tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // This layer must accept the scheme `https`.
        tcp.enforce_http(false);
        let connector = HttpsConnector::from((tcp, tls));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(1);
        Self { http: builder.build(connector), last_failure: Mutex::default() }
    }

    /// Returns the reason of the last failure, which the library does not report.
    pub(super) fn last_failure(&self) -> String {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record_failure(&self, reason: String) -> HttpError {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&reason);
        reason.into()
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let answer = self.http.request(request.map(Full::new)).await.map_err(|error| explain(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| explain(&*error))?;
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
                    self.record_failure(format!("the collector answered with status {status}"));
                }
                Ok(answer)
            }
            Ok(Err(reason)) => Err(self.record_failure(reason)),
            Err(_) => Err(self.record_failure(format!("no complete answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

/// Returns the explanation of a TLS error, or the innermost cause, without the layers
/// above.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let innermost = || std::iter::successors(Some(error), |error| error.source()).last();
    tls::explain(error).or_else(|| Some(innermost()?.to_string().to_lowercase())).unwrap_or_default()
}
