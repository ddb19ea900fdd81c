//! Requests: method, path, headers and body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, Method};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::mpsc;

/// Characters that stay unescaped in a path segment (RFC 3986, unreserved).
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The body of a request: complete, or produced while it is sent.
pub(super) type RequestBody = Either<Full<Bytes>, LineBody>;

/// A body that is produced while it is sent: chunks of whole lines, each ending in a line
/// feed. The channel holds the producer back when the server reads slowly.
#[derive(Debug)]
pub struct LineBody(pub mpsc::Receiver<Bytes>);

impl Body for LineBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// A request to the server.
#[derive(Debug)]
pub struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: RequestBody,
    pub(super) wait: Duration,
}

impl Call {
    /// Creates a call without a body. `path` is below the base path.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let body = Either::Left(Full::default());
        Self { method, path: path.into(), headers: Vec::new(), body, wait: Duration::ZERO }
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = Either::Left(Full::new(Bytes::from(body.to_string())));
        self.header(CONTENT_TYPE, "application/json")
    }

    /// Sets a body that is produced while it is sent.
    #[must_use]
    pub fn stream(mut self, body: LineBody) -> Self {
        self.body = Either::Right(body);
        self
    }

    /// Sets a header, replacing one of the same name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Allows the server this much time on top of the usual deadline, because the request
    /// itself asks it to wait.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Returns the time that the request asks the server to wait.
    #[must_use]
    pub const fn wait_time(&self) -> Duration {
        self.wait
    }

    /// Returns method and path for messages, such as `GET /tasks`.
    #[must_use]
    pub fn request_line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Escapes an id for use as one segment of a path.
#[must_use]
pub fn segment(id: &str) -> String {
    utf8_percent_encode(id, PATH_SEGMENT).to_string()
}

/// Appends the parameters that have a value to a path.
#[must_use]
pub fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
