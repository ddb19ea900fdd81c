//! One connection as bytes: requests are written as they are, answers are taken
//! apart by their lengths.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::Client;

/// Longest wait for bytes that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Told {
    /// Whether it says that the connection ends with it.
    pub(super) fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }

    /// The stable name of a problem.
    pub(super) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection and what was read of it and not used yet.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) async fn to(client: &Client) -> Self {
        let stream = client.connect().await;
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The service may have answered and closed before it has read all.
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("to be read");
    }

    /// Closes the own direction.
    pub(super) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer; `None` when the connection is closed before it begins.
    /// A reset is an error, as is a silence.
    pub(super) async fn answer(&mut self) -> Option<Told> {
        let mut end = self.head_end().await?;
        let mut head = self.head(end);
        while head.starts_with("HTTP/1.1 1") {
            self.buffer.drain(..end);
            end = self.head_end().await?;
            head = self.head(end);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let length = length.unwrap_or_else(|| panic!("no length: {head}"));
        while self.buffer.len() < end + length {
            assert!(self.read().await, "an answer is cut short: {head}");
        }
        let body = String::from_utf8_lossy(&self.buffer[end..end + length]).into_owned();
        self.buffer.drain(..end + length);
        Some(Told { status: head[9..12].parse().unwrap(), head, body })
    }

    /// Everything until the end of the connection.
    pub(super) async fn rest(&mut self) -> String {
        while self.read().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    async fn head_end(&mut self) -> Option<usize> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return Some(at + 4);
            }
            if !self.read().await {
                assert!(self.buffer.is_empty(), "an answer is cut short");
                return None;
            }
        }
    }

    fn head(&self, end: usize) -> String {
        String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase().replacen("http", "HTTP", 1)
    }

    async fn read(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        let count = timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("an answer in time");
        let count = count.unwrap_or_else(|error| panic!("the connection was broken: {error}"));
        self.buffer.extend_from_slice(&piece[..count]);
        count > 0
    }
}
