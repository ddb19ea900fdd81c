//! The client: connections to one server, and calls with a deadline.

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::time::timeout;

use super::call::{Call, RequestBody};
use super::error::{Error, root_cause};

/// Path of the API on a server.
const BASE_PATH: &str = "/api/v1";
/// Longest time for an answer, on top of the time that the call asks the server to wait.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept for the next call. Shorter than the server's
/// `server.header_timeout_seconds`, after which the server closes an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer held in memory, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body as received.
    pub text: String,
    /// The parsed body; null if the body is empty.
    pub json: Value,
}

type Connections = HttpClient<HttpConnector, RequestBody>;

/// A client for one server. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: Connections,
    base: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Creates a client for `url`, such as `http://127.0.0.1:8000`. Nothing is sent yet.
    /// Fails with a message if the address or the key can't be used.
    pub fn new(url: &str, api_key: Option<&str>) -> Result<Self, String> {
        let base = base_url(url)?;
        let authorization = api_key.map(bearer).transpose()?;
        Ok(Self { http: connections(), base, authorization })
    }

    /// Returns a client for the same server that has connections of its own.
    #[must_use]
    pub fn with_new_connections(&self) -> Self {
        Self { http: connections(), ..self.clone() }
    }

    /// Returns the address of the server with the base path.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a GET request and parses the JSON answer.
    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.call(Call::new(Method::GET, path)).await
    }

    /// Sends a POST request with a JSON body and parses the JSON answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.call(Call::new(Method::POST, path).json(body)).await
    }

    /// Sends a GET request and returns the body of the answer, which need not be JSON.
    pub async fn get_text(&self, path: &str) -> Result<String, Error> {
        self.text(Call::new(Method::GET, path)).await
    }

    /// Sends a request and parses the JSON answer.
    pub async fn call(&self, call: Call) -> Result<Answer, Error> {
        let text = self.text(call).await?;
        let json = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| Error::Protocol(format!("it is not JSON: {error}")))?,
        };
        Ok(Answer { text, json })
    }

    /// Sends a request and returns the body of the answer. A status other than a success
    /// is [`Error::Problem`].
    pub async fn text(&self, call: Call) -> Result<String, Error> {
        let deadline = ANSWER_TIMEOUT + call.wait;
        let answered = timeout(deadline, async {
            let response = self.send(call).await?;
            let status = response.status();
            let body = self.body(response.into_body()).await?;
            if !status.is_success() {
                return Err(Error::from_answer(status, &body));
            }
            Ok(String::from_utf8_lossy(&body).into_owned())
        });
        let late = || Err(self.unreachable(format!("no answer within {} s", deadline.as_secs())));
        answered.await.unwrap_or_else(|_| late())
    }

    /// Sends a request and returns as soon as the head of the answer has arrived, whatever
    /// its status.
    pub async fn send(&self, call: Call) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(call.method).uri(format!("{}{}", self.base, call.path));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(call.body)
            .map_err(|error| Error::Protocol(format!("can't request {}: {error}", call.path)))?;
        self.http.request(request).await.map_err(|error| self.unreachable(root_cause(&error)))
    }

    /// Sends a request and returns status and body of the answer, whatever its status.
    /// Has no deadline of its own.
    pub async fn exchange(&self, call: Call) -> Result<(StatusCode, Bytes), Error> {
        let response = self.send(call).await?;
        let status = response.status();
        Ok((status, self.body(response.into_body()).await?))
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, Error> {
        let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| self.unreachable(root_cause(&*error)))
    }

    /// Reads the problem from an answer whose status is not a success.
    pub(super) async fn problem(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        match timeout(ANSWER_TIMEOUT, self.body(response.into_body())).await {
            Ok(Ok(body)) => Error::from_answer(status, &body),
            Ok(Err(error)) => error,
            Err(_) => self.unreachable("the answer stopped before its end".to_owned()),
        }
    }

    /// Returns the error for an answer that did not arrive completely.
    pub(super) fn unreachable(&self, reason: String) -> Error {
        let url = self.base.strip_suffix(BASE_PATH).unwrap_or(&self.base).to_owned();
        Error::Unreachable { url, reason }
    }
}

fn connections() -> Connections {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
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

fn bearer(key: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| "the API key holds characters that can't be sent in a header: use printable ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
