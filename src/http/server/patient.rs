//! A socket that waits for its client, but not for ever: when nothing of
//! what is sent was read for too long, writing fails and the connection ends.
//! Without this, a client that never reads would hold its connection and the
//! stream behind it for good.
//!
//! It also closes slowly: closing a socket with bytes that nobody has read resets
//! the connection, and takes an answer back that its client has not read yet. A
//! client that goes on sending after its answer may do so for a while; what it
//! sends is dropped.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::exchange::Exchange;

/// Longest silence of a client that is being left.
const LEAVE_SILENCE: Duration = Duration::from_secs(2);
/// Longest time in which what a client goes on sending is dropped.
const LEAVE_LONGEST: Duration = Duration::from_secs(30);

/// A stream with a limit on the time in which it takes nothing.
#[derive(Debug)]
pub(in crate::http) struct Patient<S> {
    stream: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    exchange: Arc<Exchange>,
    /// The client has closed its direction.
    has_ended: bool,
    leaving: Option<Leaving>,
}

/// The end of a connection: everything is said, and the rest is dropped.
#[derive(Debug)]
struct Leaving {
    silence: Pin<Box<Sleep>>,
    end: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    /// Waits at most `patience` for each write.
    pub(in crate::http) const fn new(stream: S, patience: Duration, exchange: Arc<Exchange>) -> Self {
        Self { stream, patience, waiting: None, exchange, has_ended: false, leaving: None }
    }

    /// A write that went on ends the wait, one that did not begins or
    /// continues it.
    fn limited<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.remaining();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.has_ended |= before > 0 && buffer.remaining() == before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.limited(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.leaving.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.has_ended || !this.exchange.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        let leaving =
            this.leaving.get_or_insert_with(|| Leaving { silence: sleep(LEAVE_SILENCE), end: sleep(LEAVE_LONGEST) });
        ready!(leaving.poll(&mut this.stream, cx));
        Poll::Ready(Ok(()))
    }
}

impl Leaving {
    fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut dropped = [0; 16 << 10];
        loop {
            if self.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.silence = Box::pin(tokio::time::sleep(LEAVE_SILENCE));
                }
                // It has ended, one way or the other.
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => return self.silence.as_mut().poll(cx),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::server::socket::Client;

    fn exchange() -> Arc<Exchange> {
        Exchange::new(CancellationToken::new(), Client::default())
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, Duration::from_millis(20), exchange());
        patient.write_all(&[1; 16]).await.unwrap();
        let error = patient.write_all(&[1; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        far.read_exact(&mut [0; 16]).await.unwrap();
    }

    #[tokio::test]
    async fn a_slow_client_is_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut patient = Patient::new(near, Duration::from_millis(500), exchange());
        let reading = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                far.read_exact(&mut [0; 4]).await.unwrap();
            }
        });
        patient.write_all(&[1; 32]).await.unwrap();
        reading.await.unwrap();
    }
}
