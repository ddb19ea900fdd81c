//! Probes: `/livez`, `/readyz` and `/health`, which must be answered whatever
//! else goes on. The thread that accepts connections looks at the first bytes of
//! each. If they are the whole head of a probe, it answers by itself, with the
//! same service as ever; all else is left in the socket for the threads that
//! serve connections.

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
use super::exchange::{Exchange, Exchanges, RequestBody};
use super::socket::Client;
use crate::http::api::routes::BASE;

/// Largest head of a probe; a larger one is a request like any other.
const MAX_HEAD_BYTES: usize = 2048;
/// Longest time for the answer to be taken, and for a client to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Headers with which a request is more than its head.
const NOT_OF_PROBES: [&str; 4] = ["content-length", "transfer-encoding", "expect", "upgrade"];

/// What a client sends next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Next {
    /// A probe, its head of so many bytes.
    Probe(Probe),
    /// Something else, or not all of a head yet.
    Other,
    /// Nothing any more.
    End,
}

/// The head of a probe, which is still in the socket.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Probe {
    head: Vec<u8>,
    closes: bool,
}

/// Waits for the next bytes of a client and looks at them.
pub(in crate::http) async fn next(stream: &TcpStream) -> io::Result<Next> {
    // The bytes are on the stack for as long as they are looked at: a
    // connection that says nothing costs none.
    poll_fn(|cx| {
        let mut bytes = [0; MAX_HEAD_BYTES];
        let mut bytes = ReadBuf::new(&mut bytes);
        ready!(stream.poll_peek(cx, &mut bytes))?;
        if bytes.filled().is_empty() {
            return Poll::Ready(Ok(Next::End));
        }
        Poll::Ready(Ok(Probe::read(bytes.filled()).map_or(Next::Other, Next::Probe)))
    })
    .await
}

impl Probe {
    /// Anything unusual is left to the HTTP library.
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = bytes.get(..end)?;
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let line = lines.next()?;
        let target = line.strip_prefix("GET ").or_else(|| line.strip_prefix("HEAD "))?.strip_suffix(" HTTP/1.1")?;
        let path = target.strip_prefix(BASE).unwrap_or(target);
        if !matches!(path, "/livez" | "/readyz" | "/health") {
            return None;
        }
        let mut closes = false;
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return None;
            }
            if value.contains(['\n', '\r']) || NOT_OF_PROBES.iter().any(|each| name.eq_ignore_ascii_case(each)) {
                return None;
            }
            closes |= name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
        }
        Some(Self { head: head.to_vec(), closes })
    }

    /// Answers by `service`. Returns whether the connection goes on; with
    /// `is_last` it does not.
    pub(in crate::http) async fn answer<S>(self, stream: &mut TcpStream, service: S, is_last: bool) -> io::Result<bool>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
        S::Future: Unpin,
    {
        let mut head = self.head;
        stream.read_exact(&mut head).await?;
        let answer = answer(&head, service, !is_last).await?;
        let closes = is_last || self.closes;
        let sending = async {
            stream.write_all(&answer).await?;
            if closes { leave(stream).await } else { Ok(()) }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, sending).await??;
        Ok(!closes)
    }
}

/// The answer to a request that is only a head, as bytes.
async fn answer<S>(head: &[u8], service: S, keep_alive: bool) -> io::Result<Vec<u8>>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    let (near, mut far) = duplex(16 << 10);
    far.write_all(head).await?;
    far.shutdown().await?;
    let service = Exchanges::new(service, Exchange::new(CancellationToken::new(), Client::default()));
    let mut library = http1::Builder::new();
    let serving = library.keep_alive(keep_alive).half_close(true).serve_connection(TokioIo::new(near), service);
    let mut answer = Vec::new();
    let (served, read) = tokio::join!(serving, far.read_to_end(&mut answer));
    served.map_err(io::Error::other)?;
    read?;
    Ok(answer)
}

/// Ends a connection so that what was sent last arrives: closing with unread
/// bytes would take it back.
pub(in crate::http) async fn leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_probe(text: &str) -> bool {
        Probe::read(text.as_bytes()).is_some_and(|probe| text.as_bytes().starts_with(&probe.head))
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
    fn a_client_can_ask_for_the_end() {
        let closes =
            |header: &str| Probe::read(format!("GET /livez HTTP/1.1\r\n{header}\r\n\r\n").as_bytes()).unwrap().closes;
        assert!(closes("Connection: Close"));
        assert!(!closes("Connection: keep-alive"));
        assert!(!closes("x: close"));
    }
}
