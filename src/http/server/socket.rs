//! The socket of a connection. It is read and written by the HTTP library, and
//! watched by what waits for something to tell its client.

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
    /// `None` once it was shut down.
    write: Option<Arc<OwnedWriteHalf>>,
}

impl Socket {
    pub(in crate::http) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: Some(Arc::new(write)) }
    }

    /// Its client, who may go.
    pub(in crate::http) fn client(&self) -> Client {
        Client { socket: self.write.as_ref().map_or_else(Weak::new, Arc::downgrade) }
    }

    /// Writes with `write` as soon as it is possible.
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
        // The half shuts its direction down when it is dropped.
        self.get_mut().write = None;
        Poll::Ready(Ok(()))
    }
}

/// The other side of a socket.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Client {
    socket: Weak<OwnedWriteHalf>,
}

impl Client {
    /// Ready once the client has closed its direction, or the connection is
    /// broken. Pending for good when the client sends something more: only the
    /// HTTP library may read that. It must not be reading at the same time.
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
