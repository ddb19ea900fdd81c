//! A closed-loop load generator: each connection sends its next request when
//! the last one is answered. It runs on one thread of its own, so that on a
//! two-core machine the server keeps the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dats::clock::Stopwatch;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What a run of the generator measured.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Answers a second.
    pub(crate) per_second: f64,
    /// Latencies, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers with another status than the expected one.
    pub(crate) unexpected: u64,
}

impl Measured {
    /// The latency below which the given part of the answers stayed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(part))
    }
}

/// The bytes of the request with the given number.
pub(crate) type MakeRequest = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: dats\r\n\r\n").into_bytes()
}

/// A request with a JSON body.
pub(crate) fn post(path: &str, body: &str, content_type: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: dats\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Runs `connections` connections for `duration`.
pub(crate) fn run(
    address: SocketAddr,
    connections: u64,
    duration: Duration,
    expected: u16,
    make: &MakeRequest,
) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let started = Stopwatch::start();
        let span = (started, duration);
        let clients: Vec<_> = (0..connections)
            .map(|client| tokio::spawn(client_loop(address, client, connections, span, expected, make.clone())))
            .collect();
        let mut latency = Histogram::new(3).expect("a histogram");
        let mut unexpected = 0;
        for client in clients {
            let (of_client, wrong) = client.await.expect("a client that ended");
            latency.add(of_client).expect("histograms of one kind");
            unexpected += wrong;
        }
        #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a rate needs no more than 52 bits")]
        let per_second = latency.len() as f64 / started.elapsed().as_secs_f64();
        Measured { per_second, latency, unexpected }
    })
}

async fn client_loop(
    address: SocketAddr,
    client: u64,
    step: u64,
    (started, duration): (Stopwatch, Duration),
    expected: u16,
    make: MakeRequest,
) -> (Histogram<u64>, u64) {
    let mut connection = Connection::open(address).await;
    let mut latency = Histogram::new(3).expect("a histogram");
    let mut unexpected = 0;
    let mut number = client;
    while started.elapsed() < duration {
        let request = make(number);
        number += step;
        let asked = Stopwatch::start();
        let status = connection.call(&request).await.0;
        let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        latency.record(micros.max(1)).expect("a latency within range");
        unexpected += u64::from(status != expected);
    }
    (latency, unexpected)
}

/// Connections that ask together, each again as soon as it has its answer.
#[derive(Debug)]
pub(crate) struct Crowd {
    runtime: Runtime,
    connections: Vec<Connection>,
    asked: u64,
    latency: Histogram<u64>,
}

impl Crowd {
    /// Opens so many connections.
    pub(crate) fn open(address: SocketAddr, connections: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connections = runtime.block_on(async {
            let mut open = Vec::new();
            for _ in 0..connections {
                open.push(Connection::open(address).await);
            }
            open
        });
        Self { runtime, connections, asked: 0, latency: Histogram::new(3).expect("a histogram") }
    }

    /// Asks `count` times in all; how long that took.
    pub(crate) fn ask(&mut self, count: u64, expected: u16, make: &MakeRequest) -> Duration {
        let Self { runtime, connections, asked, latency } = self;
        let step = u64::try_from(connections.len()).expect("a count");
        let last = *asked + count;
        runtime.block_on(async {
            let started = Stopwatch::start();
            let mut clients = JoinSet::new();
            for (mut connection, first) in connections.drain(..).zip(*asked..) {
                let make = make.clone();
                clients.spawn(async move {
                    let mut latencies = Vec::new();
                    let mut number = first;
                    while number < last {
                        let request = make(number);
                        let asked = Stopwatch::start();
                        let status = connection.call(&request).await.0;
                        latencies.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
                        assert_eq!(status, expected, "of request {number}");
                        number += step;
                    }
                    (connection, latencies)
                });
            }
            while let Some(ended) = clients.join_next().await {
                let (connection, latencies) = ended.expect("a client that ended");
                connections.push(connection);
                for micros in latencies {
                    latency.record(micros).expect("a latency within range");
                }
            }
            *asked = last;
            started.elapsed()
        })
    }

    /// The latencies of all answers so far, in a line.
    pub(crate) fn latencies(&self) -> String {
        let at = |part| Duration::from_micros(self.latency.value_at_quantile(part));
        format!("P50 {:.1?}, P95 {:.1?}, P99 {:.1?}, worst {:.1?}", at(0.5), at(0.95), at(0.99), at(1.0))
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a server that listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Sends a request and reads its whole answer: the status and the body.
    pub(crate) async fn call(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.write_all(request).await.expect("a server that reads");
        self.buffer.clear();
        let (head, length) = loop {
            if let Some(found) = head_and_length(&self.buffer) {
                break found;
            }
            self.read_more().await;
        };
        while self.buffer.len() < head + length {
            self.read_more().await;
        }
        let status = std::str::from_utf8(&self.buffer[9..12]).ok().and_then(|text| text.parse().ok());
        (status.expect("a status line"), &self.buffer[head..head + length])
    }

    async fn read_more(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.expect("a server that answers");
        assert!(read > 0, "the server closed the connection");
    }
}

/// Where the head ends, and the length of the body.
fn head_and_length(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = memchr::memmem::find(buffer, b"\r\n\r\n")?;
    let head = &buffer[..end];
    let name = b"content-length: ";
    let at = memchr::memmem::find(head, name)? + name.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Some((end + 4, length))
}
