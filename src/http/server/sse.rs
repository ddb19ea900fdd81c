//! Server-sent events. A task of its own makes the stream and hands it over
//! in chunks; it waits while the client does not read, and ends with it.

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
const CHUNKS: usize = 2;
/// Events are gathered up to this size before they are handed over; one that
/// is larger goes alone.
const CHUNK_BYTES: usize = 16 * 1024;
/// Most KiB of large events that are handed over and not sent yet, of all
/// streams. A client that reads nothing gives them back when its connection is
/// cut, after the limit on writing.
const LARGE_KIB: usize = 64 << 10;
/// Most streams that read the log or a history at the same time.
const READING: usize = 4;

/// The client is gone, or the service stops.
#[derive(Debug)]
pub(in crate::http) struct Over;

/// The limits of all streams together.
#[derive(Debug)]
pub(in crate::http) struct Streams {
    most: usize,
    places: Arc<Semaphore>,
    large: Arc<Semaphore>,
    reading: Semaphore,
}

/// The end of a stream that writes.
#[derive(Debug)]
pub(in crate::http) struct Stream {
    chunks: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    beat: Interval,
    stopping: CancellationToken,
    large: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// A large event and its share of what may be unsent, which is given back when
/// it is sent.
struct Unsent {
    frame: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Streams {
    /// Room for so many streams.
    pub(in crate::http) fn new(most: usize) -> Self {
        Self {
            most,
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            large: Arc::new(Semaphore::new(LARGE_KIB)),
            reading: Semaphore::new(READING),
        }
    }

    /// A stream and the answer that carries it.
    pub(in crate::http) fn open(
        &self,
        heartbeat: Duration,
        stopping: CancellationToken,
    ) -> Result<(Stream, Response<Body>), Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Problem::too_many_streams(self.most))?;
        Ok(open(heartbeat, stopping, self.large.clone(), place))
    }

    /// Waits for a place to read the log or a history: streams that catch up
    /// share a few.
    pub(in crate::http) async fn reading(&self) -> Option<SemaphorePermit<'_>> {
        self.reading.acquire().await.ok()
    }
}

fn open(
    heartbeat: Duration,
    stopping: CancellationToken,
    large: Arc<Semaphore>,
    place: OwnedSemaphorePermit,
) -> (Stream, Response<Body>) {
    let (chunks, received) = mpsc::channel(CHUNKS);
    let mut beat = tokio::time::interval(heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Body::Stream(received));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    (Stream { chunks, buffer: Vec::new(), beat, stopping, large, _place: place }, response)
}

impl Stream {
    /// Adds an event, and hands over what has gathered when it is much.
    pub(in crate::http) async fn event(&mut self, id: u64, name: &str, data: &[u8]) -> Result<(), Over> {
        if data.len() >= CHUNK_BYTES {
            return self.frame(frame(id, name, data).into()).await;
        }
        write_event(&mut self.buffer, id, name, data);
        if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// The same for an event that is in the wire form. A large one is handed
    /// over as it is, once there is room for it.
    pub(in crate::http) async fn frame(&mut self, frame: Bytes) -> Result<(), Over> {
        if frame.len() < CHUNK_BYTES {
            self.buffer.extend_from_slice(&frame);
            return if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) };
        }
        self.flush().await?;
        // One that is larger than everything allowed takes all of it.
        let share = u32::try_from(frame.len().div_ceil(1024).min(LARGE_KIB)).unwrap_or(u32::MAX);
        let share = tokio::select! {
            share = self.large.clone().acquire_many_owned(share) => share.map_err(|_| Over)?,
            () = self.chunks.closed() => return Err(Over),
            () = self.stopping.cancelled() => return Err(Over),
        };
        self.send(Bytes::from_owner(Unsent { frame, _share: share })).await
    }

    /// Hands over what has gathered; waits while the client does not read.
    pub(in crate::http) async fn flush(&mut self) -> Result<(), Over> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.send(chunk).await
    }

    async fn send(&self, chunk: Bytes) -> Result<(), Over> {
        tokio::select! {
            sent = self.chunks.send(chunk) => sent.map_err(|_| Over),
            () = self.stopping.cancelled() => Err(Over),
        }
    }

    /// Waits until `change` completes, or for as long as a connection may be
    /// silent; then there may be something to read.
    pub(in crate::http) async fn wait(&mut self, change: impl Future<Output = ()>) -> Result<(), Over> {
        let silent = tokio::select! {
            () = change => false,
            _ = self.beat.tick() => true,
            () = self.chunks.closed() => return Err(Over),
            () = self.stopping.cancelled() => return Err(Over),
        };
        if silent {
            self.buffer.extend_from_slice(b": heartbeat\n\n");
            self.flush().await?;
        }
        Ok(())
    }
}

/// One event in the wire form.
pub(in crate::http) fn frame(id: u64, name: &str, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(data.len() + name.len() + 48);
    write_event(&mut frame, id, name, data);
    frame
}

/// Appends an event in the wire form: lines, and an empty one behind them.
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
    async fn a_stream_beats_while_nothing_happens() {
        let stopping = CancellationToken::new();
        let (mut stream, mut response) = Streams::new(1).open(Duration::from_millis(10), stopping.clone()).unwrap();
        stream.event(1, "x", b"1").await.unwrap();
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
    async fn streams_and_their_large_events_are_bounded() {
        let streams = Streams::new(2);
        let open = || streams.open(Duration::from_mins(1), CancellationToken::new());
        let ((mut one, mut read), (mut other, unread)) = (open().unwrap(), open().unwrap());
        assert_eq!(open().unwrap_err().code(), "overloaded");
        let large = Bytes::from(vec![b'x'; (LARGE_KIB << 10) / 2]);
        one.frame(large.clone()).await.unwrap();
        other.frame(large.clone()).await.unwrap();
        let third = tokio::time::timeout(Duration::from_millis(20), other.frame(large.clone())).await;
        assert!(third.is_err(), "there is no room for a third");
        assert_eq!(next(&mut read).await.unwrap().len(), large.len());
        other.frame(large).await.unwrap();
        drop((one, other, unread));
        assert!(open().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_costs_two_chunks() {
        let stopping = CancellationToken::new();
        let (mut stream, response) = Streams::new(1).open(Duration::from_mins(1), stopping).unwrap();
        let large = vec![b'x'; CHUNK_BYTES];
        for id in 0..2 {
            stream.event(id, "x", &large).await.unwrap();
        }
        let third = tokio::time::timeout(Duration::from_millis(20), stream.event(2, "x", &large)).await;
        assert!(third.is_err(), "waits");
        drop(response);
        assert!(stream.event(3, "x", &large).await.is_err());
    }
}
