//! Server-sent events. A task of its own makes the stream and hands it over
//! in chunks; it waits while the client does not read, and ends with it.

use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::body::Body;

/// Chunks that may wait for the client.
const CHUNKS: usize = 2;
/// Events are gathered up to this size before they are handed over.
const CHUNK_BYTES: usize = 16 * 1024;

/// The client is gone, or the service stops.
#[derive(Debug)]
pub(super) struct Over;

/// The end of a stream that writes.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    beat: Interval,
    stopping: CancellationToken,
}

/// A stream and the answer that carries it.
pub(super) fn open(heartbeat: Duration, stopping: CancellationToken) -> (Stream, Response<Body>) {
    let (chunks, received) = mpsc::channel(CHUNKS);
    let mut beat = tokio::time::interval(heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Body::Stream(received));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    (Stream { chunks, buffer: Vec::new(), beat, stopping }, response)
}

impl Stream {
    /// Adds an event, and hands over what has gathered when it is much.
    pub(super) async fn event(&mut self, id: u64, name: &str, data: &[u8]) -> Result<(), Over> {
        write_event(&mut self.buffer, id, name, data);
        if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Hands over what has gathered; waits while the client does not read.
    pub(super) async fn flush(&mut self) -> Result<(), Over> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        tokio::select! {
            sent = self.chunks.send(chunk) => sent.map_err(|_| Over),
            () = self.stopping.cancelled() => Err(Over),
        }
    }

    /// Waits until `change` completes, or for as long as a connection may be
    /// silent; then there may be something to read.
    pub(super) async fn wait(&mut self, change: impl Future<Output = ()>) -> Result<(), Over> {
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

/// One event in the wire form: lines, and an empty one behind them.
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
        let (mut stream, mut response) = open(Duration::from_millis(10), stopping.clone());
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
    async fn a_client_that_does_not_read_costs_two_chunks() {
        let stopping = CancellationToken::new();
        let (mut stream, response) = open(Duration::from_mins(1), stopping);
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
