//! A stream with a limit on the time that a write waits for the client. Without
//! it, a client that never reads would keep its connection, and the event stream
//! behind it, forever.
//!
//! It also closes the connection slowly (a lingering close): closing a socket with
//! unread bytes in it resets the connection, and the client may lose an answer that
//! it has not read yet. So bytes that the client still sends after its answer are
//! read and dropped for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::exchange::Exchange;

/// The connection is closed when the client has sent nothing for this time.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// The connection is closed after this time, even if the client goes on sending.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// A stream whose writes fail if the client reads nothing for too long.
#[derive(Debug)]
pub(in crate::http) struct WriteTimeoutStream<S> {
    stream: S,
    limit: Duration,
    /// Set while a write is waiting.
    write_timeout: Option<Pin<Box<Sleep>>>,
    exchange: Arc<Exchange>,
    /// The client has closed its side.
    has_ended: bool,
    lingering: Option<LingeringClose>,
}

/// The end of a connection. All answers have been sent; bytes that still arrive are
/// dropped.
#[derive(Debug)]
struct LingeringClose {
    silence_timeout: Pin<Box<Sleep>>,
    deadline: Pin<Box<Sleep>>,
}

impl<S> WriteTimeoutStream<S> {
    /// Lets each write wait at most for `limit`.
    pub(in crate::http) const fn new(stream: S, limit: Duration, exchange: Arc<Exchange>) -> Self {
        Self { stream, limit, write_timeout: None, exchange, has_ended: false, lingering: None }
    }

    /// Fails a write that has been pending for longer than the limit.
    fn check_timeout<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timeout = None;
            return written;
        }
        let limit = self.limit;
        let timeout = self.write_timeout.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timeout.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeoutStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.remaining();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.has_ended |= before > 0 && buffer.remaining() == before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WriteTimeoutStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.check_timeout(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.check_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.has_ended || !this.exchange.must_linger() {
                return Poll::Ready(Ok(()));
            }
        }
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        let lingering = this.lingering.get_or_insert_with(|| LingeringClose {
            silence_timeout: sleep(LINGER_SILENCE),
            deadline: sleep(LINGER_MAX),
        });
        ready!(lingering.poll(&mut this.stream, cx));
        Poll::Ready(Ok(()))
    }
}

impl LingeringClose {
    fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut dropped = [0; 16 << 10];
        loop {
            if self.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.silence_timeout = Box::pin(tokio::time::sleep(LINGER_SILENCE));
                }
                // The client has closed its side, or the connection is broken.
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => return self.silence_timeout.as_mut().poll(cx),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::server::socket::Peer;

    fn exchange() -> Arc<Exchange> {
        Exchange::new(CancellationToken::new(), Peer::default())
    }

    #[tokio::test]
    async fn writing_to_a_client_that_never_reads_fails() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = WriteTimeoutStream::new(near, Duration::from_millis(20), exchange());
        stream.write_all(&[1; 16]).await.unwrap();
        let error = stream.write_all(&[1; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        far.read_exact(&mut [0; 16]).await.unwrap();
    }

    #[tokio::test]
    async fn writing_to_a_slow_client_succeeds() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut stream = WriteTimeoutStream::new(near, Duration::from_millis(500), exchange());
        let reading = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                far.read_exact(&mut [0; 4]).await.unwrap();
            }
        });
        stream.write_all(&[1; 32]).await.unwrap();
        reading.await.unwrap();
    }
}
