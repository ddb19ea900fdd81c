//! A small HTTP client for the service's own API: JSON calls with a deadline,
//! and event streams.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::ndjson::LineBody;
use super::sse::{SseEvent, SseParser};
use crate::config::Secret;

/// Where the API begins on a server.
const BASE_PATH: &str = "/api/v1";
/// How long an answer may take, beyond what the call itself asks to wait.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next call: less than the server's
/// `server.header_timeout_seconds`, after which it closes an unused one.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// Longest silence on a stream: the server comments at least every 300 s.
const SILENCE: Duration = Duration::from_secs(310);
/// Largest answer held in memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// What an id keeps in a path (RFC 3986, unreserved).
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No answer came.
    #[error("can't reach {url}: {reason}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What went wrong underneath.
        reason: String,
    },
    /// The server refused, and said why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The answer is none of this service.
    #[error("the server's answer makes no sense: {0}")]
    Protocol(String),
}

/// A refusal, as RFC 9457 and our contract define it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    /// HTTP status.
    pub(super) status: u16,
    /// Stable name of the reason.
    pub(super) code: Option<String>,
    /// Short text for the kind of problem.
    pub(super) title: Option<String>,
    /// What is wrong in this case.
    pub(super) detail: Option<String>,
    /// Fields that are wrong, for a bad request.
    pub(super) errors: Vec<FieldError>,
}

/// One bad field of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct FieldError {
    /// JSON pointer to the field.
    pub(super) pointer: String,
    /// What is wrong with it.
    pub(super) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.detail.as_deref().or(self.title.as_deref()).unwrap_or("the server gave no reason");
        write!(f, "{text} (")?;
        if let Some(code) = &self.code {
            write!(f, "{code}, ")?;
        }
        write!(f, "status {})", self.status)?;
        for error in &self.errors {
            let pointer = if error.pointer.is_empty() { "the whole body" } else { &error.pointer };
            write!(f, "\n  {pointer}: {}", error.message)?;
        }
        Ok(())
    }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The body as the server wrote it.
    pub(super) text: String,
    /// The same, parsed; null where the body is empty.
    pub(super) json: Value,
}

type Connections = HttpClient<HttpConnector, Either<Full<Bytes>, LineBody>>;

/// Talks to one server. Clones share its connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Connections,
    base: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client for `url`, such as `http://127.0.0.1:8000`. The error says
    /// what is wrong with the address or the key.
    pub(super) fn new(url: &str, api_key: Option<&Secret>) -> Result<Self, String> {
        let base = base_url(url)?;
        let authorization = api_key.map(bearer).transpose()?;
        Ok(Self { http: connections(), base, authorization })
    }

    /// The same, with connections of its own.
    pub(super) fn with_new_connections(&self) -> Self {
        Self { http: connections(), ..self.clone() }
    }

    /// Address of the server with the base path.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// GET of a path below the base path.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.call(Call::new(Method::GET, path)).await
    }

    /// POST of a JSON body.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.call(Call::new(Method::POST, path).json(body)).await
    }

    /// GET of something that is no JSON.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, Error> {
        self.text(Call::new(Method::GET, path)).await
    }

    /// Carries out any call.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, Error> {
        let text = self.text(call).await?;
        let json = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| Error::Protocol(format!("it is not JSON: {error}")))?,
        };
        Ok(Answer { text, json })
    }

    /// The body of the answer to any call.
    pub(super) async fn text(&self, call: Call) -> Result<String, Error> {
        let deadline = ANSWER_TIME + call.wait;
        let answered = timeout(deadline, async {
            let response = self.send(call).await?;
            let status = response.status();
            let body = self.body(response.into_body()).await?;
            if !status.is_success() {
                return Err(refusal(status, &body));
            }
            Ok(String::from_utf8_lossy(&body).into_owned())
        });
        let late = || Err(self.unreachable(format!("no answer within {} s", deadline.as_secs())));
        answered.await.unwrap_or_else(|_| late())
    }

    /// Opens an event stream, resuming after `last_id` where given.
    pub(super) async fn stream(&self, path: &str, last_id: Option<&str>) -> Result<EventStream, Error> {
        let mut call = Call::new(Method::GET, path).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            call = call.header(HeaderName::from_static("last-event-id"), id);
        }
        let response = timeout(ANSWER_TIME, self.send(call))
            .await
            .map_err(|_| self.unreachable("no answer to a stream".to_owned()))??;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let pending = VecDeque::new();
        Ok(EventStream { client: self.clone(), body: response.into_body(), parser: SseParser::default(), pending })
    }

    /// Sends a request and gives the answer as soon as its head is there.
    pub(super) async fn send(&self, call: Call) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(call.method).uri(format!("{}{}", self.base, call.path));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(call.body)
            .map_err(|error| Error::Protocol(format!("can't ask for {}: {error}", call.path)))?;
        self.http.request(request).await.map_err(|error| self.unreachable(root_cause(&error)))
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, Error> {
        let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| self.unreachable(root_cause(&*error)))
    }

    /// What an answer that is no success says.
    pub(super) async fn refused(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        match timeout(ANSWER_TIME, self.body(response.into_body())).await {
            Ok(Ok(body)) => refusal(status, &body),
            Ok(Err(error)) => error,
            Err(_) => self.unreachable("the answer stops in the middle".to_owned()),
        }
    }

    /// The connection broke in the middle of an answer.
    pub(super) fn broken(&self, error: &hyper::Error) -> Error {
        self.unreachable(root_cause(error))
    }

    /// There is no whole answer.
    pub(super) fn unreachable(&self, reason: String) -> Error {
        let url = self.base.strip_suffix(BASE_PATH).unwrap_or(&self.base).to_owned();
        Error::Unreachable { url, reason }
    }
}

/// What to ask of the server.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: Either<Full<Bytes>, LineBody>,
    wait: Duration,
}

impl Call {
    /// A call without a body.
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        let body = Either::Left(Full::default());
        Self { method, path: path.into(), headers: Vec::new(), body, wait: Duration::ZERO }
    }

    /// With a JSON body.
    pub(super) fn json(mut self, body: &Value) -> Self {
        self.body = Either::Left(Full::new(Bytes::from(body.to_string())));
        self.header(CONTENT_TYPE, "application/json")
    }

    /// With a body that is made while it is sent.
    pub(super) fn stream(mut self, body: LineBody) -> Self {
        self.body = Either::Right(body);
        self
    }

    /// With one more header, in place of one of the same name.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The method and the path, for people.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The time that the server may take on top.
    pub(super) const fn waits(&self) -> Duration {
        self.wait
    }

    /// The server may take that much longer, as the call asks it to.
    pub(super) fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// An open stream of events.
#[derive(Debug)]
pub(super) struct EventStream {
    client: Client,
    body: Incoming,
    parser: SseParser,
    pending: VecDeque<SseEvent>,
}

impl EventStream {
    /// The next event; `None` when the server ended the stream. Dropping the
    /// future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<SseEvent>, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let frame = timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| self.client.unreachable("the event stream fell silent".to_owned()))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.unreachable(root_cause(&error))),
                Some(Ok(frame)) => {
                    let chunk = frame.into_data().unwrap_or_default();
                    let events = self.parser.push(&chunk).map_err(|error| Error::Protocol(error.to_string()))?;
                    self.pending.extend(events);
                }
            }
        }
    }
}

/// An id as one segment of a path.
pub(super) fn segment(id: &str) -> String {
    utf8_percent_encode(id, PATH_SEGMENT).to_string()
}

/// A path with the parameters that are set.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

fn connections() -> Connections {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIME));
    connector.set_nodelay(true);
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME);
    builder.build(connector)
}

fn base_url(url: &str) -> Result<String, String> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = with_scheme.parse().map_err(|error| format!("{url:?} is not an address: {error}"))?;
    if uri.scheme_str() != Some("http") || uri.query().is_some() {
        return Err(format!("{url:?} is not an address this client can use: expected http://HOST:PORT"));
    }
    let server = with_scheme.trim_end_matches('/').trim_end_matches(BASE_PATH);
    Ok(format!("{server}{BASE_PATH}"))
}

fn bearer(key: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        .map_err(|_| "the API key holds characters that can't be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let mut problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    problem.status = status.as_u16();
    if problem.title.is_none() && problem.detail.is_none() {
        problem.title = status.canonical_reason().map(str::to_lowercase);
    }
    Error::Problem(Box::new(problem))
}

/// The innermost cause, which says what happened without naming layers.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map_or_else(String::new, |cause| cause.to_string().to_lowercase())
}
