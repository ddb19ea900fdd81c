//! Lines of JSON in both directions, of any number: a request body that is produced while
//! it is sent, and an answer that is read while it arrives.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::api::Client;
use super::call::{Call, LineBody};
use super::error::{Error, root_cause};

/// Media type of such bodies.
const NDJSON: &str = "application/x-ndjson";
/// Longest silence of a server that is working on an answer.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest line accepted, in bytes: more than an object of the old program may have.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Chunks of an answer that may wait to be split.
const MAX_WAITING_CHUNKS: usize = 4;
/// Lines that may wait for the receiver.
const MAX_WAITING_LINES: usize = 256;

/// Lines from a server, or from a store in this process. Nothing follows an error.
pub type Lines = mpsc::Receiver<Result<String, Error>>;

impl Client {
    /// Sends a GET request and returns the lines of the answer as they arrive.
    pub async fn get_lines(&self, path: &str) -> Result<Lines, Error> {
        self.lines(Call::new(Method::GET, path)).await
    }

    /// Sends lines in a POST request and returns the lines of the answer, which arrive
    /// while the request is still being sent.
    pub async fn exchange_lines(&self, path: &str, chunks: mpsc::Receiver<Bytes>) -> Result<Lines, Error> {
        self.lines(Call::new(Method::POST, path).stream(LineBody(chunks)).header(CONTENT_TYPE, NDJSON)).await
    }

    async fn lines(&self, call: Call) -> Result<Lines, Error> {
        let sent = timeout(SILENCE_TIMEOUT, self.send(call.header(ACCEPT, NDJSON))).await;
        let response = sent.map_err(|_| self.silent())??;
        if response.status() != StatusCode::OK {
            return Err(self.problem(response).await);
        }
        let (sender, chunks) = mpsc::channel(MAX_WAITING_CHUNKS);
        tokio::spawn(forward_body(self.clone(), response.into_body(), sender));
        Ok(split_lines(chunks))
    }

    fn silent(&self) -> Error {
        self.unreachable(format!("no answer within {} s", SILENCE_TIMEOUT.as_secs()))
    }
}

/// Forwards the chunks of a body until it ends or the receiver is dropped.
async fn forward_body(client: Client, mut body: Incoming, chunks: mpsc::Sender<Result<Bytes, Error>>) {
    loop {
        let chunk = match timeout(SILENCE_TIMEOUT, body.frame()).await {
            Err(_) => Err(client.silent()),
            Ok(Some(Err(error))) => Err(client.unreachable(root_cause(&error))),
            Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
            Ok(None) => return,
        };
        let is_last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}

/// Splits chunks, whose ends need not be ends of lines, into lines. The task behind it ends
/// with the chunks, or once the returned receiver is dropped.
#[must_use]
pub fn split_lines(chunks: mpsc::Receiver<Result<Bytes, Error>>) -> Lines {
    let (sender, lines) = mpsc::channel(MAX_WAITING_LINES);
    tokio::spawn(send_lines(chunks, sender));
    lines
}

async fn send_lines(mut chunks: mpsc::Receiver<Result<Bytes, Error>>, lines: mpsc::Sender<Result<String, Error>>) {
    let mut splitter = LineSplitter::default();
    loop {
        let Some(chunk) = chunks.recv().await else {
            if let Some(rest) = splitter.take_rest() {
                let _ = lines.send(Ok(rest)).await;
            }
            return;
        };
        let (found, failed) = match chunk.and_then(|chunk| splitter.push(&chunk)) {
            Ok(found) => (found, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let is_last = failed.is_some();
        for line in found.into_iter().map(Ok).chain(failed.map(Err)) {
            if lines.send(line).await.is_err() {
                return;
            }
        }
        if is_last {
            return;
        }
    }
}

/// Collects chunks into lines. Empty lines are skipped.
#[derive(Debug, Default)]
struct LineSplitter {
    line: Vec<u8>,
}

impl LineSplitter {
    fn push(&mut self, chunk: &[u8]) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                lines.extend(self.take_rest());
            }
        }
        if self.line.len() > MAX_LINE_BYTES {
            return Err(Error::Protocol(format!("a line is longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(lines)
    }

    fn take_rest(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_wherever_chunks_are_cut() {
        let text = "{\"a\":\"é\"}\n\r\n {}\r\nlast";
        for size in 1..=text.len() {
            let mut splitter = LineSplitter::default();
            let mut lines: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|chunk| splitter.push(chunk).unwrap()).collect();
            lines.extend(splitter.take_rest());
            assert_eq!(lines, ["{\"a\":\"é\"}", "{}", "last"], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut splitter = LineSplitter::default();
        let chunk = vec![b'x'; MAX_LINE_BYTES];
        assert!(splitter.push(&chunk).is_ok());
        assert!(splitter.push(b"x").is_err());
    }
}
