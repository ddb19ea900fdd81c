//! Answers probes on the thread that accepts connections, so that they are
//! answered however busy the connection threads are.
//!
//! The thread peeks at the first bytes of a request. If they are the whole head of
//! a probe, the thread answers it, by the same service as a connection thread. Any
//! other request stays in the socket for a connection thread.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::exchange::{Exchange, ExchangeService, RequestBody};
use super::socket::Peer;

/// Largest head of a probe, in bytes. A larger head is not taken for a probe.
const MAX_HEAD_BYTES: usize = 2048;
/// Longest time for the client to take the answer and to close the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Headers that no probe has: with them, a request is more than its head.
const FORBIDDEN_HEADERS: [&str; 4] = ["content-length", "transfer-encoding", "expect", "upgrade"];

/// The next request of a client.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum NextRequest {
    Probe(Probe),
    /// Another request, or an incomplete head.
    Other,
    /// The client has closed its side.
    End,
}

/// A probe, whose head is still in the socket.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Probe {
    head: Vec<u8>,
    /// The client asked for the connection to be closed.
    closes: bool,
}

/// Waits for the next bytes of a client, and peeks at them.
pub(in crate::http) async fn next_request(stream: &TcpStream, probe_paths: &[String]) -> io::Result<NextRequest> {
    // The buffer is on the stack only while bytes are there: a silent connection
    // has no buffer.
    poll_fn(|cx| {
        let mut bytes = [0; MAX_HEAD_BYTES];
        let mut bytes = ReadBuf::new(&mut bytes);
        ready!(stream.poll_peek(cx, &mut bytes))?;
        if bytes.filled().is_empty() {
            return Poll::Ready(Ok(NextRequest::End));
        }
        let probe = Probe::parse(bytes.filled(), probe_paths);
        Poll::Ready(Ok(probe.map_or(NextRequest::Other, NextRequest::Probe)))
    })
    .await
}

impl Probe {
    /// Returns `None` for anything unusual, which is left to the HTTP library.
    fn parse(bytes: &[u8], probe_paths: &[String]) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = bytes.get(..end)?;
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let line = lines.next()?;
        let target = line.strip_prefix("GET ").or_else(|| line.strip_prefix("HEAD "))?.strip_suffix(" HTTP/1.1")?;
        if !probe_paths.iter().any(|path| path == target) {
            return None;
        }
        let mut closes = false;
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return None;
            }
            if value.contains(['\n', '\r']) || FORBIDDEN_HEADERS.iter().any(|each| name.eq_ignore_ascii_case(each)) {
                return None;
            }
            closes |= name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
        }
        Some(Self { head: head.to_vec(), closes })
    }

    /// Answers the probe by `service`. Returns whether the connection stays open;
    /// with `is_last` it is closed.
    pub(in crate::http) async fn answer<S>(self, stream: &mut TcpStream, service: S, is_last: bool) -> io::Result<bool>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
        S::Future: Unpin,
    {
        let mut head = self.head;
        stream.read_exact(&mut head).await?;
        let answer = answer_head(&head, service, !is_last).await?;
        let closes = is_last || self.closes;
        let sending = async {
            stream.write_all(&answer).await?;
            if closes { close_gracefully(stream).await } else { Ok(()) }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, sending).await??;
        Ok(!closes)
    }
}

/// Returns the bytes of the answer to a request without a body.
async fn answer_head<S>(head: &[u8], service: S, keep_alive: bool) -> io::Result<Vec<u8>>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    let (near, mut far) = duplex(16 << 10);
    far.write_all(head).await?;
    far.shutdown().await?;
    let service = ExchangeService::new(service, Exchange::new(CancellationToken::new(), Peer::default()));
    let mut library = http1::Builder::new();
    let serving = library.keep_alive(keep_alive).half_close(true).serve_connection(TokioIo::new(near), service);
    let mut answer = Vec::new();
    let (served, read) = tokio::join!(serving, far.read_to_end(&mut answer));
    served.map_err(io::Error::other)?;
    read?;
    Ok(answer)
}

/// Closes a connection after the client has read the answer: closing a socket with
/// unread bytes in it resets the connection, and the client may lose the answer.
pub(in crate::http) async fn close_gracefully(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Probe> {
        let paths = ["/livez", "/readyz", "/health", "/api/v1/livez"].map(str::to_owned);
        Probe::parse(text.as_bytes(), &paths)
    }

    fn is_probe(text: &str) -> bool {
        parse(text).is_some_and(|probe| text.as_bytes().starts_with(&probe.head))
    }

    #[test]
    fn only_whole_heads_of_probes_are_probes() {
        for line in ["GET /livez", "HEAD /readyz", "GET /health", "GET /api/v1/livez"] {
            assert!(is_probe(&format!("{line} HTTP/1.1\r\n\r\n")), "{line}");
            assert!(is_probe(&format!("{line} HTTP/1.1\r\nHost: x\r\nx-request-id: a\r\n\r\nGET /")), "{line}");
            assert!(!is_probe(&format!("{line} HTTP/1.0\r\n\r\n")), "{line}");
            assert!(!is_probe(&format!("{line} HTTP/1.1\r\nhost: x\r\n")), "{line}");
            assert!(!is_probe(&format!("{line}?x=1 HTTP/1.1\r\n\r\n")), "{line}");
            for header in [
                "Content-Length: 1",
                "transfer-encoding: chunked",
                "expect: 100-continue",
                "upgrade: x",
                "x: a\nb: c",
                " folded: x",
                "no colon",
                "x y: z",
                ": x",
            ] {
                assert!(!is_probe(&format!("{line} HTTP/1.1\r\n{header}\r\n\r\n")), "{line} {header}");
            }
        }
        for line in ["GET /", "GET /api/v1/tasks", "POST /livez", "GET /livez/", "GET /health/detailed", "get /livez"] {
            assert!(!is_probe(&format!("{line} HTTP/1.1\r\n\r\n")), "{line}");
        }
    }

    #[test]
    fn a_client_can_ask_for_the_connection_to_be_closed() {
        let closes = |header: &str| parse(&format!("GET /livez HTTP/1.1\r\n{header}\r\n\r\n")).unwrap().closes;
        assert!(closes("Connection: Close"));
        assert!(!closes("Connection: keep-alive"));
        assert!(!closes("x: close"));
    }
}
