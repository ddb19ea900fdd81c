//! A client of the HTTP interface: whole answers, JSON or not, and raw bytes
//! for what no decent client would send.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// No answer came: what was asked may or may not have happened.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) String);

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header, empty where it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The stable name of a problem.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Talks to one server.
#[derive(Clone)]
pub(crate) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    /// `IP:PORT`.
    pub(crate) address: String,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = HttpClient::builder(TokioExecutor::new());
        // Shorter than the server keeps an unused connection.
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_millis(500));
        // A request that is sent twice behind the caller's back would hide
        // what it does when it is sent once.
        builder.retry_canceled_requests(false);
        Self { http: builder.build(connector), address: address.to_owned() }
    }

    /// Any request; paths without a leading slash are below the base path.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Lost> {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v1/{path}") };
        let method: Method = method.parse().unwrap();
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let asked = async {
            let answer = self.http.request(request).await.map_err(|error| Lost(format!("{error:?}")))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| Lost(error.to_string()))?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(Lost("no answer in time".to_owned())))
    }

    /// GET; an answer must come.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let asked = self.ask("GET", path, &[("accept", "application/json")], "").await;
        asked.unwrap_or_else(|lost| panic!("GET {path}: {lost:?}"))
    }

    /// POST of JSON.
    pub(crate) async fn try_post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Result<Answer, Lost> {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.ask("POST", path, &all, body.to_string()).await
    }

    /// POST of JSON; an answer must come.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body, &[]).await.unwrap_or_else(|lost| panic!("POST {path}: {lost:?}"))
    }

    /// The wanted answer to a submission.
    pub(crate) async fn submit(&self, body: &Value) -> String {
        let answer = self.post("tasks", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["task_id"].as_str().unwrap().to_owned()
    }

    /// A new connection for raw bytes.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads until it is closed
    /// or silent for `silence`.
    pub(crate) async fn raw(&self, bytes: &[u8], silence: Duration) -> String {
        let mut stream = self.connect().await;
        // The server may have answered and closed before it has read all.
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        let writing = async {
            let _ = writer.write_all(bytes).await;
        };
        tokio::join!(writing, read_until_silent(&mut reader, silence, &mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn read_until_silent(reader: &mut (impl AsyncReadExt + Unpin), silence: Duration, into: &mut Vec<u8>) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(Ok(count)) = timeout(silence, reader.read(&mut piece)).await {
        if count == 0 {
            return;
        }
        into.extend_from_slice(&piece[..count]);
    }
}
