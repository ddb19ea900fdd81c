//! Lines of JSON in both directions, as long as they are: a body that is
//! made while it is sent, and an answer that is read while it comes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{Call, Client, Error};

/// What such bodies are called.
const NDJSON: &str = "application/x-ndjson";
/// Longest silence of a server that has work to do.
const SILENCE: Duration = Duration::from_mins(5);
/// Longest line taken: more than an object of the old program may have.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Chunks of an answer that may wait to be cut.
const CHUNKS_AHEAD: usize = 4;
/// Lines that may wait to be taken.
const LINES_AHEAD: usize = 256;

/// Lines as they come from wherever they are made: a server, or a store that
/// is at hand. After an error comes nothing.
pub(super) type Lines = mpsc::Receiver<Result<String, Error>>;

/// A body that is made while it is sent: chunks of whole lines, each with its
/// line feed. The other side's pace holds back whoever makes them.
#[derive(Debug)]
pub(super) struct LineBody(pub(super) mpsc::Receiver<Bytes>);

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

impl Client {
    /// GET of lines.
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, Error> {
        self.answered(Call::new(Method::GET, path)).await
    }

    /// POST of lines, answered by lines while they are sent.
    pub(super) async fn exchange(&self, path: &str, chunks: mpsc::Receiver<Bytes>) -> Result<Lines, Error> {
        self.answered(Call::new(Method::POST, path).stream(LineBody(chunks)).header(CONTENT_TYPE, NDJSON)).await
    }

    async fn answered(&self, call: Call) -> Result<Lines, Error> {
        let sent = timeout(SILENCE, self.send(call.header(ACCEPT, NDJSON))).await;
        let response = sent.map_err(|_| self.silent())??;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(pump(self.clone(), response.into_body(), sender));
        Ok(cut(chunks))
    }

    fn silent(&self) -> Error {
        self.unreachable(format!("no answer within {} s", SILENCE.as_secs()))
    }
}

/// Hands over a body, until it ends or nobody wants it.
async fn pump(client: Client, mut body: Incoming, chunks: mpsc::Sender<Result<Bytes, Error>>) {
    loop {
        let chunk = match timeout(SILENCE, body.frame()).await {
            Err(_) => Err(client.silent()),
            Ok(Some(Err(error))) => Err(client.broken(&error)),
            Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
            Ok(None) => return,
        };
        let ends = chunk.is_err();
        if chunks.send(chunk).await.is_err() || ends {
            return;
        }
    }
}

/// Cuts chunks into lines, until they end or nobody wants them.
pub(super) fn cut(chunks: mpsc::Receiver<Result<Bytes, Error>>) -> Lines {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    tokio::spawn(cut_into(chunks, sender));
    lines
}

async fn cut_into(mut chunks: mpsc::Receiver<Result<Bytes, Error>>, lines: mpsc::Sender<Result<String, Error>>) {
    let mut cutter = Cutter::default();
    loop {
        let Some(chunk) = chunks.recv().await else {
            if let Some(rest) = cutter.rest() {
                let _ = lines.send(Ok(rest)).await;
            }
            return;
        };
        let found = chunk.and_then(|chunk| cutter.push(&chunk));
        let (found, failed) = match found {
            Ok(found) => (found, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let ends = failed.is_some();
        for line in found.into_iter().map(Ok).chain(failed.map(Err)) {
            if lines.send(line).await.is_err() {
                return;
            }
        }
        if ends {
            return;
        }
    }
}

/// Turns chunks, cut anywhere, into lines; empty ones are none.
#[derive(Debug, Default)]
struct Cutter {
    line: Vec<u8>,
}

impl Cutter {
    fn push(&mut self, chunk: &[u8]) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                lines.extend(self.rest());
            }
        }
        if self.line.len() > MAX_LINE_BYTES {
            return Err(Error::Protocol(format!("a line is longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(lines)
    }

    fn rest(&mut self) -> Option<String> {
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
            let mut cutter = Cutter::default();
            let mut lines: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|chunk| cutter.push(chunk).unwrap()).collect();
            lines.extend(cutter.rest());
            assert_eq!(lines, ["{\"a\":\"é\"}", "{}", "last"], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut cutter = Cutter::default();
        let chunk = vec![b'x'; MAX_LINE_BYTES];
        assert!(cutter.push(&chunk).is_ok());
        assert!(cutter.push(b"x").is_err());
    }
}
