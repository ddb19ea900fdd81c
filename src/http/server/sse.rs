//! Server-sent events. A task makes the stream and sends it to the connection in
//! chunks. It waits while the client does not read, and ends with the connection.
//!
//! The streams of other crates (`axum::response::sse`) frame one event at a time;
//! here a frame is rendered once for all streams, and frames are sent in chunks with
//! a limit on their memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::problem::Problem;

/// Chunks that may wait for the client.
const MAX_WAITING_CHUNKS: usize = 2;
/// Events are collected up to this size, in bytes, before they are sent. A larger
/// event is a chunk of its own.
const CHUNK_BYTES: usize = 16 * 1024;
/// Unsent large events of all streams together, in KiB. A client that reads nothing
/// holds its share until the write timeout closes its connection.
const MAX_UNSENT_KIB: usize = 64 << 10;
/// Streams that may read the log or a history at the same time.
const MAX_READERS: usize = 4;

/// The stream has ended: the client has disconnected, or the service stops.
#[derive(Debug)]
pub(in crate::http) struct Closed;

/// The limits that all streams share.
#[derive(Debug)]
pub(in crate::http) struct StreamLimiter {
    max_streams: usize,
    streams: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
    readers: Semaphore,
}

/// The writing end of an event stream.
#[derive(Debug)]
pub(in crate::http) struct EventStream {
    chunks: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    heartbeat: Interval,
    stopping: CancellationToken,
    unsent: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

/// A large event with its share of the memory for unsent events, which is released
/// when the event is sent.
struct UnsentEvent {
    frame: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for UnsentEvent {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl StreamLimiter {
    pub(in crate::http) fn new(max_streams: usize) -> Self {
        Self {
            max_streams,
            streams: Arc::new(Semaphore::new(max_streams.min(Semaphore::MAX_PERMITS))),
            unsent: Arc::new(Semaphore::new(MAX_UNSENT_KIB)),
            readers: Semaphore::new(MAX_READERS),
        }
    }

    /// Opens a stream, and returns the answer that carries it. While it waits, a
    /// comment is sent every `heartbeat`.
    pub(in crate::http) fn open(
        &self,
        heartbeat: Duration,
        stopping: CancellationToken,
    ) -> Result<(EventStream, Response<Body>), Problem> {
        let permit = self.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::too_many_streams(self.max_streams))?;
        Ok(open(heartbeat, stopping, self.unsent.clone(), permit))
    }

    /// Waits until the stream may read the log or a history. A few streams may read
    /// at the same time.
    pub(in crate::http) async fn acquire_reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.acquire().await.ok()
    }
}

fn open(
    heartbeat: Duration,
    stopping: CancellationToken,
    unsent: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
) -> (EventStream, Response<Body>) {
    let (chunks, received) = mpsc::channel(MAX_WAITING_CHUNKS);
    let mut heartbeat = tokio::time::interval(heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Body::Stream(received));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer answers would delay events.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    (EventStream { chunks, buffer: Vec::new(), heartbeat, stopping, unsent, _permit: permit }, response)
}

impl EventStream {
    /// Adds an event to the current chunk, and sends the chunk if it is full.
    pub(in crate::http) async fn push_event(&mut self, id: u64, name: &str, data: &[u8]) -> Result<(), Closed> {
        if data.len() >= CHUNK_BYTES {
            return self.push_frame(frame(id, name, data).into()).await;
        }
        write_event(&mut self.buffer, id, name, data);
        if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Like [`Self::push_event`], for a rendered event. A large event is sent without
    /// a copy, after its share of the memory is free.
    pub(in crate::http) async fn push_frame(&mut self, frame: Bytes) -> Result<(), Closed> {
        if frame.len() < CHUNK_BYTES {
            self.buffer.extend_from_slice(&frame);
            return if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) };
        }
        self.flush().await?;
        // An event that is larger than the whole memory takes all of it.
        let share = u32::try_from(frame.len().div_ceil(1024).min(MAX_UNSENT_KIB)).unwrap_or(u32::MAX);
        let share = tokio::select! {
            share = self.unsent.clone().acquire_many_owned(share) => share.map_err(|_| Closed)?,
            () = self.chunks.closed() => return Err(Closed),
            () = self.stopping.cancelled() => return Err(Closed),
        };
        self.send(Bytes::from_owner(UnsentEvent { frame, _share: share })).await
    }

    /// Sends the current chunk. Waits while the client does not read.
    pub(in crate::http) async fn flush(&mut self) -> Result<(), Closed> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.send(chunk).await
    }

    async fn send(&self, chunk: Bytes) -> Result<(), Closed> {
        tokio::select! {
            sent = self.chunks.send(chunk) => sent.map_err(|_| Closed),
            () = self.stopping.cancelled() => Err(Closed),
        }
    }

    /// Waits until `change` completes or the heartbeat is due, which is then sent.
    /// The caller looks for events in both cases.
    pub(in crate::http) async fn wait(&mut self, change: impl Future<Output = ()>) -> Result<(), Closed> {
        let silent = tokio::select! {
            () = change => false,
            _ = self.heartbeat.tick() => true,
            () = self.chunks.closed() => return Err(Closed),
            () = self.stopping.cancelled() => return Err(Closed),
        };
        if silent {
            self.buffer.extend_from_slice(b": heartbeat\n\n");
            self.flush().await?;
        }
        Ok(())
    }
}

/// Renders an event.
pub(in crate::http) fn frame(id: u64, name: &str, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(data.len() + name.len() + 48);
    write_event(&mut frame, id, name, data);
    frame
}

/// Appends the lines of an event, and an empty line after them.
fn write_event(buffer: &mut Vec<u8>, id: u64, name: &str, data: &[u8]) {
    buffer.extend_from_slice(format!("id: {id}\nevent: {name}\n").as_bytes());
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        buffer.extend_from_slice(b"data: ");
        buffer.extend_from_slice(line);
        buffer.push(b'\n');
    }
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn next(response: &mut Response<Body>) -> Option<String> {
        let frame = response.body_mut().frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[test]
    fn events_are_framed_in_lines() {
        let mut buffer = Vec::new();
        write_event(&mut buffer, 7, "task.created", b"{\"a\":\n1}");
        assert_eq!(buffer, b"id: 7\nevent: task.created\ndata: {\"a\":\ndata: 1}\n\n");
    }

    #[tokio::test]
    async fn an_idle_stream_sends_heartbeats() {
        let stopping = CancellationToken::new();
        let (mut stream, mut response) =
            StreamLimiter::new(1).open(Duration::from_millis(10), stopping.clone()).unwrap();
        stream.push_event(1, "x", b"1").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(next(&mut response).await.unwrap(), "id: 1\nevent: x\ndata: 1\n\n");
        stream.wait(std::future::pending()).await.unwrap();
        assert_eq!(next(&mut response).await.unwrap(), ": heartbeat\n\n");
        stopping.cancel();
        assert!(stream.wait(std::future::pending()).await.is_err());
        drop(stream);
        assert!(next(&mut response).await.is_none());
    }

    #[tokio::test]
    async fn streams_and_their_large_events_are_limited() {
        let limiter = StreamLimiter::new(2);
        let open = || limiter.open(Duration::from_mins(1), CancellationToken::new());
        let ((mut one, mut read), (mut other, unread)) = (open().unwrap(), open().unwrap());
        assert_eq!(open().unwrap_err().code(), "overloaded");
        let large = Bytes::from(vec![b'x'; (MAX_UNSENT_KIB << 10) / 2]);
        one.push_frame(large.clone()).await.unwrap();
        other.push_frame(large.clone()).await.unwrap();
        let third = tokio::time::timeout(Duration::from_millis(20), other.push_frame(large.clone())).await;
        assert!(third.is_err(), "the memory is taken");
        assert_eq!(next(&mut read).await.unwrap().len(), large.len());
        other.push_frame(large).await.unwrap();
        drop((one, other, unread));
        assert!(open().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_two_chunks() {
        let stopping = CancellationToken::new();
        let (mut stream, response) = StreamLimiter::new(1).open(Duration::from_mins(1), stopping).unwrap();
        let large = vec![b'x'; CHUNK_BYTES];
        for id in 0..2 {
            stream.push_event(id, "x", &large).await.unwrap();
        }
        let third = tokio::time::timeout(Duration::from_millis(20), stream.push_event(2, "x", &large)).await;
        assert!(third.is_err(), "waits");
        drop(response);
        assert!(stream.push_event(3, "x", &large).await.is_err());
    }
}
