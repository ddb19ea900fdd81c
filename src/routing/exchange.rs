//! One question and its answer over HTTP/1.1: no retry, no deadline of its
//! own, but a limit on what is read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::connector::Connections;
use super::error::Error;
use super::retry::retry_after;
use super::settings;
use crate::address::Address;
use crate::json::quoted;
use crate::task::Timestamp;
use crate::tls;

/// Most that is read of an answer which is a refusal, and for how long: it
/// only adds words to the error.
const MAX_DETAIL_BYTES: usize = 4 * 1024;
const DETAIL_TIME: Duration = Duration::from_millis(500);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("dats/", env!("CARGO_PKG_VERSION")));
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The connections to one service.
#[derive(Debug)]
pub(super) struct Exchange {
    connections: Connections,
    address: Address,
    max_answer_bytes: usize,
}

impl Exchange {
    pub(super) fn new(settings: &settings::Service) -> Result<Self, tls::Error> {
        let connections = Connections::new(settings)?;
        Ok(Self { connections, address: settings.address.clone(), max_answer_bytes: settings.max_answer_bytes })
    }

    /// Posts JSON to an endpoint; the whole body of a 2xx answer. Dropping
    /// the future closes the connection.
    pub(super) async fn post(
        &self,
        path: &str,
        body: Bytes,
        traceparent: Option<&str>,
        now: Timestamp,
    ) -> Result<Bytes, Error> {
        let mut request = self.request(Method::POST, path, body)?;
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        // What can't be sent as a header was no trace context to begin with.
        if let Some(Ok(context)) = traceparent.map(HeaderValue::from_str) {
            request.headers_mut().insert(TRACEPARENT, context);
        }
        self.send(request, now).await
    }

    /// The whole body of a 2xx answer to a GET.
    pub(super) async fn get(&self, path: &str, now: Timestamp) -> Result<Bytes, Error> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        self.send(request, now).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        let uri =
            Uri::from_maybe_shared(self.address.join(path)).map_err(|error| Error::Connection(error.to_string()))?;
        let request = Request::builder().method(method).uri(uri).header(ACCEPT, JSON).header(USER_AGENT, AGENT);
        request.body(Full::new(body)).map_err(|error| Error::Connection(error.to_string()))
    }

    async fn send(&self, request: Request<Full<Bytes>>, now: Timestamp) -> Result<Bytes, Error> {
        let answer = self.connections.request(request).await.map_err(|error| Error::Connection(root_cause(&error)))?;
        if answer.status().is_success() {
            return read(answer.into_body(), self.max_answer_bytes).await;
        }
        Err(refusal(answer, now).await)
    }
}

/// The whole body; it is let go as soon as it is longer than `limit`.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Error> {
    // What says itself that it is too long is not begun.
    if !usize::try_from(body.size_hint().lower()).is_ok_and(|length| length <= limit) {
        return Err(Error::TooLarge { limit });
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Connection(root_cause(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len().saturating_add(data.len()) > limit {
            return Err(Error::TooLarge { limit });
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What an answer without success means.
async fn refusal(answer: Response<Incoming>, now: Timestamp) -> Error {
    let (head, body) = answer.into_parts();
    let status = head.status.as_u16();
    if head.status.is_redirection() {
        let to = head.headers.get(LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
        let detail = format!(", a redirect to {}, which is not followed", quoted(&to.unwrap_or_default()));
        return Error::Refused { status, detail };
    }
    let detail = detail(body).await;
    if head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|header| retry_after(header, now));
        return Error::Unavailable { status, detail, retry_after };
    }
    Error::Refused { status, detail }
}

/// What the body of a refusal says, for the error's message.
async fn detail(body: Incoming) -> String {
    match timeout(DETAIL_TIME, read(body, MAX_DETAIL_BYTES)).await {
        Ok(Ok(bytes)) if !bytes.is_empty() => format!(": {}", quoted(&String::from_utf8_lossy(&bytes))),
        _ => String::new(),
    }
}

/// The innermost cause, which says what happened without naming layers.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let innermost = || std::iter::successors(Some(error), |error| error.source()).last();
    tls::explain(error)
        .unwrap_or_else(|| innermost().map_or_else(String::new, |cause| cause.to_string().to_lowercase()))
}
