//! One request and its answer over HTTP/1.1, with a limit on the size of the answer.
//! Deadlines and retries are those of the caller.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::connector::Connections;
use super::error::Error;
use super::retry::parse_retry_after;
use super::settings;
use crate::address::Address;
use crate::json::quoted;
use crate::task::Timestamp;
use crate::tls;

/// Largest part of a refusal's body, in bytes, that is read for the error's message.
const MAX_DETAIL_BYTES: usize = 4 * 1024;
/// Longest time for reading it.
const DETAIL_TIMEOUT: Duration = Duration::from_millis(500);
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

    /// Posts JSON, and returns the body of a 2xx answer. Dropping the future closes the
    /// connection.
    pub(super) async fn post(
        &self,
        path: &str,
        body: Bytes,
        traceparent: Option<&str>,
        now: Timestamp,
    ) -> Result<Bytes, Error> {
        let mut request = self.request(Method::POST, path, body)?;
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        // A text that is not valid in a header is not a trace context.
        if let Some(Ok(context)) = traceparent.map(HeaderValue::from_str) {
            request.headers_mut().insert(TRACEPARENT, context);
        }
        self.send(request, now).await
    }

    /// Sends a GET, and returns the body of a 2xx answer.
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
            return read_body(answer.into_body(), self.max_answer_bytes).await;
        }
        Err(error_of(answer, now).await)
    }
}

/// Reads the whole body, and stops as soon as it is larger than `limit` bytes.
async fn read_body(mut body: Incoming, limit: usize) -> Result<Bytes, Error> {
    // A body with a larger Content-Length is not read at all.
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

/// Makes an error of an answer without success.
async fn error_of(answer: Response<Incoming>, now: Timestamp) -> Error {
    let (head, body) = answer.into_parts();
    let status = head.status.as_u16();
    if head.status.is_redirection() {
        let to = head.headers.get(LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
        let detail = format!(", a redirect to {}, which is not followed", quoted(&to.unwrap_or_default()));
        return Error::Refused { status, detail };
    }
    let detail = read_detail(body).await;
    if head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|header| parse_retry_after(header, now));
        return Error::Unavailable { status, detail, retry_after };
    }
    Error::Refused { status, detail }
}

/// Reads the body of a refusal for the error's message.
async fn read_detail(body: Incoming) -> String {
    match timeout(DETAIL_TIMEOUT, read_body(body, MAX_DETAIL_BYTES)).await {
        Ok(Ok(bytes)) if !bytes.is_empty() => format!(": {}", quoted(&String::from_utf8_lossy(&bytes))),
        _ => String::new(),
    }
}

/// Returns the innermost cause, which says what happened without the layers above.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let innermost = || std::iter::successors(Some(error), |error| error.source()).last();
    tls::explain(error)
        .unwrap_or_else(|| innermost().map_or_else(String::new, |cause| cause.to_string().to_lowercase()))
}
