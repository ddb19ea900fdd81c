//! The bodies of answers: bytes in memory, or a stream of chunks.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::transfer::ExportFailed;

/// The body of an answer.
#[derive(Debug)]
pub(in crate::http) enum Body {
    /// The whole body.
    Full(Bytes),
    /// Chunks from a task. The receiver is dropped with the connection, by which the
    /// task learns that the client has gone.
    Stream(mpsc::Receiver<Bytes>),
    /// Like `Stream`; an error closes the connection, so that the client cannot take
    /// an incomplete body for a complete one.
    Breakable(mpsc::Receiver<Result<Bytes, ExportFailed>>),
    /// Like `Stream`, with the number of bytes that are still to come, which goes out
    /// as `Content-Length`: a body that ends early is an error to the client.
    Measured(mpsc::Receiver<Bytes>, u64),
}

impl Body {
    pub(in crate::http) const fn full(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }

    pub(in crate::http) const fn empty() -> Self {
        Self::Full(Bytes::new())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = ExportFailed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExportFailed>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Measured(chunks, left) => chunks.poll_recv(cx).map(|chunk| {
                let chunk = chunk?;
                *left = left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
                Some(Ok(Frame::data(chunk)))
            }),
            Self::Stream(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
            Self::Breakable(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(_) | Self::Breakable(_) => false,
            Self::Measured(_, left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Stream(_) | Self::Breakable(_) => SizeHint::default(),
            Self::Measured(_, left) => SizeHint::with_exact(*left),
        }
    }
}
