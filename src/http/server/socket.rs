//! The socket of a connection. The HTTP library reads and writes it; requests that
//! wait watch it for the end of the client's side.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A connected socket.
#[derive(Debug)]
pub(in crate::http) struct Socket {
    read: OwnedReadHalf,
    /// `None` after the shutdown.
    write: Option<Arc<OwnedWriteHalf>>,
}

impl Socket {
    pub(in crate::http) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: Some(Arc::new(write)) }
    }

    /// Returns a handle that sees when the client closes its side.
    pub(in crate::http) fn peer(&self) -> Peer {
        Peer { socket: self.write.as_ref().map_or_else(Weak::new, Arc::downgrade) }
    }

    /// Calls `write` when the socket is writable.
    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&OwnedWriteHalf) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Some(half) = &self.write else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        loop {
            ready!(AsRef::<TcpStream>::as_ref(&**half).poll_write_ready(cx))?;
            match write(half) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |half| half.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |half| half.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the half shuts down this side.
        self.get_mut().write = None;
        Poll::Ready(Ok(()))
    }
}

/// The client's side of a socket.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Peer {
    socket: Weak<OwnedWriteHalf>,
}

impl Peer {
    /// Ready when the client has closed its side or the connection is broken.
    /// Stays pending if the client sends more bytes, which only the HTTP library
    /// may read. Must not be polled while the HTTP library is reading.
    pub(in crate::http) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = self.socket.upgrade() else { return Poll::Pending };
        let mut byte = [0];
        let socket: &TcpStream = (*socket).as_ref();
        match ready!(socket.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        }
    }
}
