//! Event streams: one connection, and a follower that reconnects.

use std::collections::VecDeque;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderName, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use super::api::{ANSWER_TIMEOUT, Client};
use super::call::Call;
use super::error::{Error, root_cause};
use super::sse::{SseEvent, SseParser};

/// Longest silence on a stream: the server sends a comment at least every 300 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(310);
/// Pause before a stream is opened again.
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// Opens an event stream, after the event `last_id` if one is given.
    pub async fn stream(&self, path: &str, last_id: Option<&str>) -> Result<EventStream, Error> {
        let mut call = Call::new(Method::GET, path).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            call = call.header(HeaderName::from_static("last-event-id"), id);
        }
        let response = timeout(ANSWER_TIMEOUT, self.send(call)).await.map_err(|_| {
            self.unreachable(format!("the stream did not open within {} s", ANSWER_TIMEOUT.as_secs()))
        })??;
        if response.status() != StatusCode::OK {
            return Err(self.problem(response).await);
        }
        let pending = VecDeque::new();
        Ok(EventStream { client: self.clone(), body: response.into_body(), parser: SseParser::default(), pending })
    }
}

/// An open event stream, over one connection.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    body: Incoming,
    parser: SseParser,
    pending: VecDeque<SseEvent>,
}

impl EventStream {
    /// Waits for the next event; `None` when the server ended the stream. The future may
    /// be dropped without losing an event.
    pub async fn next(&mut self) -> Result<Option<SseEvent>, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let frame = timeout(SILENCE_TIMEOUT, self.body.frame()).await.map_err(|_| {
                self.client.unreachable(format!("no data on the event stream for {} s", SILENCE_TIMEOUT.as_secs()))
            })?;
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

/// An event stream that reconnects after a lost connection and resumes after the last
/// event received.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    path: String,
    last_id: Option<String>,
    stream: Option<EventStream>,
    /// Whether the stream has ever been open. If not, an unreachable server is reported
    /// at once instead of retried.
    was_open: bool,
    patience: Duration,
}

impl Follower {
    /// Creates a follower of the stream at `path`, after the event `last_id` if one is
    /// given. Nothing is sent yet. `patience` is how long [`next`](Self::next) retries
    /// while the server is unreachable.
    #[must_use]
    pub fn new(client: Client, path: impl Into<String>, last_id: Option<String>, patience: Duration) -> Self {
        Self { client, path: path.into(), last_id, stream: None, was_open: false, patience }
    }

    /// Waits for the next event; `None` each time the server ended the stream, which the
    /// next call opens again.
    pub async fn next(&mut self) -> Result<Option<SseEvent>, Error> {
        let deadline = Instant::now() + self.patience;
        loop {
            let received = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => match self.open().await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            match received {
                Ok(Some(event)) => {
                    self.last_id.clone_from(&event.id);
                    return Ok(Some(event));
                }
                Ok(None) => {
                    self.stream = None;
                    return Ok(None);
                }
                Err(error) if self.was_open && error.is_transient() && Instant::now() < deadline => {
                    self.stream = None;
                    sleep(RECONNECT_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the stream now, so that no event from this moment on is missed.
    pub async fn open(&mut self) -> Result<(), Error> {
        self.stream = Some(self.client.stream(&self.path, self.last_id.as_deref()).await?);
        self.was_open = true;
        Ok(())
    }
}
