//! One keep-alive connection: writes bytes, reads a head and a body of known length.
//!
//! The generator does not use [`crate::client`]: a general HTTP client takes as much
//! processor time as the server, and on a two-core machine it would be measured instead.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Returns the bytes of a request without a body.
#[must_use]
pub fn get_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: dats\r\n\r\n").into_bytes()
}

/// Returns the bytes of a request with a body.
#[must_use]
pub fn post_request(path: &str, body: &str, content_type: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: dats\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to a server.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and reads the whole answer. Returns status and body.
    pub async fn call(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            if let Some(found) = head_and_length(&self.buffer) {
                break found;
            }
            self.read_more().await?;
        };
        while self.buffer.len() < head + length {
            self.read_more().await?;
        }
        let status = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("the answer has no status line"))?;
        Ok((status, &self.buffer[head..head + length]))
    }

    async fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::other("the server closed the connection")),
            _ => Ok(()),
        }
    }
}

/// Returns where the head ends and the length of the body, once the head has arrived.
fn head_and_length(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = memchr::memmem::find(buffer, b"\r\n\r\n")?;
    let head = &buffer[..end];
    let name = b"content-length: ";
    let at = memchr::memmem::find(head, name)? + name.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Some((end + 4, length))
}
